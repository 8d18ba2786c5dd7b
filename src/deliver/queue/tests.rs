//! The queue as its users see it.

mod damage;
mod disk;
mod faults;
mod memory;
mod model;

use super::*;
use crate::config::deliver::{Durability, OnFull};
use memory::Memory;

/// A record that says which it is, with as many samples.
fn record(number: u32) -> Record {
    let now = (system_clock())().wall;
    let body = Bytes::from(format!("{number:>100}").into_bytes());
    Record { body, samples: number, min_timestamp: now, max_timestamp: now }
}

fn in_memory(change: impl FnOnce(&mut config::Queue)) -> Queue {
    let mut config = config::Queue { durability: Durability::Memory, ..config::Queue::default() };
    change(&mut config);
    Queue::open(Path::new("/nowhere/at/all"), &config, Arc::new(super::disk::Disk))
        .expect("there is nothing to fail")
}

fn balanced(queue: &Queue) -> Status {
    let status = queue.status();
    assert!(status.total.balance(), "{status:#?}");
    status
}

#[tokio::test(start_paused = true)]
async fn in_memory_records_come_out_in_order_and_each_until_it_is_settled() {
    let queue = in_memory(|_| ());
    let mut lane = queue.lane(0).expect("nobody has it");
    assert!(queue.lane(0).is_none());
    (1..=3).for_each(|number| queue.append(0, record(number)));
    for number in 1..=3 {
        let entry = lane.oldest().await;
        assert_eq!((entry.sequence, entry.record.samples), (u64::from(number), number));
        assert_eq!(lane.oldest().await, entry);
        assert!(!lane.settle(entry.sequence + 1, Settled::delivered(number)));
        balanced(&queue);
        assert!(lane.settle(entry.sequence, Settled::delivered(number)));
        balanced(&queue);
    }
    let waiting = tokio::time::timeout(Duration::from_secs(1), lane.oldest()).await;
    assert!(waiting.is_err());
    assert_eq!(balanced(&queue).total.delivered, 6);
    drop(lane);
    assert!(queue.lane(0).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_is_woken_by_a_record() {
    let queue = in_memory(|_| ());
    let mut lane = queue.lane(0).expect("nobody has it");
    let (entry, ()) = tokio::join!(lane.oldest(), async {
        tokio::task::yield_now().await;
        queue.append(0, record(7));
    });
    assert_eq!(entry.record.samples, 7);
}

#[test]
fn in_full_memory_the_oldest_that_is_not_under_way_goes() {
    let queue = in_memory(|config| config.memory = 3 * 196);
    let mut lane = queue.lane(0).expect("nobody has it");
    queue.append(0, record(1));
    assert_eq!(lane.oldest_now().expect("there is one").record.samples, 1);
    (2..=5).for_each(|number| queue.append(0, record(number)));
    let status = balanced(&queue);
    assert_eq!((status.total.dropped.get(Reason::RingFull), status.total.pending_records), (2 + 3, 3));
    assert!(status.memory_bytes <= status.memory_capacity);
    let mut seen = vec![];
    while let Some(entry) = lane.oldest_now() {
        seen.push((entry.sequence, entry.record.samples));
        lane.settle(entry.sequence, Settled::delivered(entry.record.samples));
    }
    assert_eq!(seen, [(1, 1), (2, 4), (3, 5)]);
    balanced(&queue);
}

#[test]
fn in_full_memory_the_newest_goes_where_that_is_wished() {
    let queue = in_memory(|config| {
        config.memory = 2 * 196;
        config.on_full = OnFull::DropNewest;
    });
    (1..=3).for_each(|number| queue.append(0, record(number)));
    let status = balanced(&queue);
    assert_eq!((status.total.dropped.get(Reason::RingFull), status.total.pending), (3, 3));
}

#[test]
fn what_waited_too_long_in_memory_is_dropped_when_it_is_read() {
    let queue = in_memory(|config| config.max_age = Duration::from_secs(60));
    let mut lane = queue.lane(0).expect("nobody has it");
    queue.append(0, Record { max_timestamp: 0, min_timestamp: 0, ..record(1) });
    queue.append(0, record(2));
    assert_eq!(lane.oldest_now().expect("there is one").record.samples, 2);
    assert_eq!(balanced(&queue).total.dropped.get(Reason::Age), 1);
}

#[tokio::test]
async fn what_waits_in_memory_when_it_is_closed_is_counted() {
    let queue = in_memory(|_| ());
    let mut lane = queue.lane(0).expect("nobody has it");
    (1..=3).for_each(|number| queue.append(0, record(number)));
    let under_way = lane.oldest_now().expect("there is one");
    queue.close().await;
    queue.append(0, record(4));
    let status = balanced(&queue);
    assert_eq!((status.total.dropped.get(Reason::Closed), status.total.pending), (1 + 2 + 3 + 4, 0));
    assert!(!lane.settle(under_way.sequence, Settled::delivered(1)));
    balanced(&queue);
}

#[test]
fn what_a_receiver_says_never_counts_more_or_less_than_there_was() {
    for (settled, delivered, rejected) in [
        (Settled { delivered: 3, dropped: vec![(Reason::Rejected, 7)] }, 3, 7),
        (Settled { delivered: 11, dropped: vec![(Reason::Rejected, 7)] }, 10, 0),
        (Settled { delivered: 2, dropped: vec![] }, 2, 8),
    ] {
        let queue = in_memory(|_| ());
        let mut lane = queue.lane(0).expect("nobody has it");
        queue.append(0, record(10));
        let entry = lane.oldest_now().expect("there is one");
        lane.settle(entry.sequence, settled);
        let counts = balanced(&queue).total;
        assert_eq!((counts.delivered, counts.dropped.get(Reason::Rejected)), (delivered, rejected));
    }
}

#[test]
fn a_body_that_is_too_large_is_counted_and_a_lane_that_is_not_there_is_the_last() {
    let queue = in_memory(|config| config.lanes = 2);
    queue.append(0, Record { body: Bytes::from(vec![0; LARGEST_BODY + 1]), ..record(5) });
    queue.append(9, record(6));
    let status = balanced(&queue);
    assert_eq!(status.total.dropped.get(Reason::TooLarge), 5);
    assert_eq!(status.lanes[1].counts.pending, 6);
    assert_eq!(queue.lanes().len(), 2);
}

/// A queue on disk, of which the test does the work and has the time.
struct Bench {
    storage: Memory,
    config: config::Queue,
    options: Options,
    time: Arc<std::sync::atomic::AtomicI64>,
}

const FOLDER: &str = "/queue";
const START: i64 = 1_800_000_000_000;

impl Bench {
    fn new(change: impl FnOnce(&mut config::Queue)) -> Self {
        let mut config = config::Queue { min_free: 0, ..config::Queue::default() };
        change(&mut config);
        let time = Arc::new(std::sync::atomic::AtomicI64::new(0));
        let read = Arc::clone(&time);
        let clock: Clock = Arc::new(move || {
            let past = read.load(std::sync::atomic::Ordering::Relaxed);
            Moment { wall: START + past, steady: Duration::from_millis(past as u64) }
        });
        Self { storage: Memory::default(), config, options: Options { clock, segment: 16 << 20 }, time }
    }

    fn pass(&self, time: Duration) {
        self.time.fetch_add(time.as_millis() as i64, std::sync::atomic::Ordering::Relaxed);
    }

    fn open(&self) -> (Queue, Worker) {
        let storage = Arc::new(self.storage.clone());
        let opened = Queue::prepare(Path::new(FOLDER), &self.config, storage, &self.options);
        let (queue, worker) = opened.expect("a folder");
        (queue, worker.expect("it has a disk"))
    }

    /// A record of 1,000 bytes, with that many samples.
    fn record(&self, number: u32) -> Record {
        let now = (self.options.clock)().wall;
        let body = Bytes::from(format!("{number:>1000}").into_bytes());
        Record { body, samples: number, min_timestamp: now, max_timestamp: now }
    }

    fn append(&self, queue: &Queue, worker: &mut Worker, numbers: std::ops::RangeInclusive<u32>) {
        for number in numbers {
            queue.append(0, self.record(number));
        }
        while worker.turn() {}
    }
}

/// What the next `count` records are, each delivered.
fn deliver(lane: &mut Lane, worker: &mut Worker, count: usize) -> Vec<u32> {
    let mut seen = vec![];
    while seen.len() < count {
        let Some(entry) = next(lane, worker) else { break };
        assert!(String::from_utf8_lossy(&entry.record.body).ends_with(&entry.record.samples.to_string()));
        seen.push(entry.record.samples);
        assert!(lane.settle(entry.sequence, Settled::delivered(entry.record.samples)));
    }
    while worker.turn() {}
    seen
}

fn next(lane: &mut Lane, worker: &mut Worker) -> Option<Entry> {
    for _ in 0..6 {
        if let Some(entry) = lane.oldest_now() {
            return Some(entry);
        }
        while worker.turn() {}
    }
    None
}

fn close(queue: &Queue, worker: &mut Worker) {
    queue.handle.shared.close();
    worker.turn();
}
