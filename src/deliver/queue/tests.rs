//! The queue as its users see it.

use super::*;
use crate::config::deliver::{Durability, OnFull};

/// A record that says which it is, with as many samples.
fn record(number: u32) -> Record {
    let now = (system_clock())().wall;
    let body = Bytes::from(format!("{number:>100}").into_bytes());
    Record { body, samples: number, min_timestamp: now, max_timestamp: now }
}

fn in_memory(change: impl FnOnce(&mut config::Queue)) -> Queue {
    let mut config = config::Queue { durability: Durability::Memory, ..config::Queue::default() };
    change(&mut config);
    Queue::open(Path::new("/nowhere/at/all"), &config, Arc::new(disk::Disk))
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
    folder: tempfile::TempDir,
    config: config::Queue,
    options: Options,
    time: Arc<std::sync::atomic::AtomicI64>,
}

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
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, config, options: Options { clock, segment: 16 << 20 }, time }
    }

    fn pass(&self, time: Duration) {
        self.time.fetch_add(time.as_millis() as i64, std::sync::atomic::Ordering::Relaxed);
    }

    fn open(&self) -> (Queue, Worker) {
        let disk = Arc::new(disk::Disk);
        let (queue, worker) =
            Queue::prepare(self.folder.path(), &self.config, disk, &self.options).expect("a folder");
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
    for _ in 0..3 {
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

#[test]
fn what_is_written_is_there_after_a_death_and_one_record_may_be_repeated() {
    let bench = Bench::new(|_| ());
    let (queue, mut worker) = bench.open();
    bench.append(&queue, &mut worker, 1..=10);
    let mut lane = queue.lane(0).expect("nobody has it");
    assert_eq!(deliver(&mut lane, &mut worker, 4), [1, 2, 3, 4]);
    assert_eq!(balanced(&queue).total.pending, 5 + 6 + 7 + 8 + 9 + 10);
    drop((queue, worker, lane));

    let (queue, mut worker) = bench.open();
    let status = balanced(&queue);
    assert_eq!((status.total.recovered, status.total.recovered_records), (45, 6));
    assert_eq!(status.disk.torn_tails, 0);
    let mut lane = queue.lane(0).expect("nobody has it");
    bench.append(&queue, &mut worker, 11..=12);
    for number in 5..=12 {
        let entry = next(&mut lane, &mut worker).expect("it waits");
        assert_eq!((entry.sequence, entry.record.samples), (u64::from(number), number));
        assert_eq!(entry.may_be_repeated, number == 5);
        lane.settle(entry.sequence, Settled::delivered(number));
        balanced(&queue);
    }
    while worker.turn() {}
    let status = balanced(&queue);
    assert_eq!((status.total.pending, status.total.pending_records, status.total.delivered), (0, 0, 45 + 23));
}

#[test]
fn after_a_stop_nothing_is_repeated_unless_a_record_was_under_way() {
    for under_way in [false, true] {
        let bench = Bench::new(|_| ());
        let (queue, mut worker) = bench.open();
        bench.append(&queue, &mut worker, 1..=3);
        let mut lane = queue.lane(0).expect("nobody has it");
        deliver(&mut lane, &mut worker, 1);
        if under_way {
            next(&mut lane, &mut worker).expect("it waits");
        }
        close(&queue, &mut worker);
        assert_eq!(balanced(&queue).total.pending, 5);
        drop((queue, worker, lane));
        let (queue, mut worker) = bench.open();
        let mut lane = queue.lane(0).expect("nobody has it");
        let entry = next(&mut lane, &mut worker).expect("it waits");
        assert_eq!((entry.sequence, entry.may_be_repeated), (2, under_way));
    }
}

#[test]
fn a_reader_waits_until_what_it_settled_is_written_down() {
    let bench = Bench::new(|_| ());
    let (queue, mut worker) = bench.open();
    bench.append(&queue, &mut worker, 1..=2);
    let mut lane = queue.lane(0).expect("nobody has it");
    let entry = lane.oldest_now().expect("it is in memory");
    lane.settle(entry.sequence, Settled::delivered(1));
    assert_eq!(lane.oldest_now(), None);
    worker.turn();
    assert_eq!(lane.oldest_now().expect("it is in memory").sequence, 2);
}

#[test]
fn memory_never_takes_more_than_it_may_and_what_it_forgot_comes_from_the_disk() {
    let bench = Bench::new(|config| config.memory = 10 << 10);
    let (queue, mut worker) = bench.open();
    for round in 0..50 {
        bench.append(&queue, &mut worker, round * 4 + 1..=round * 4 + 4);
        let status = balanced(&queue);
        assert!(status.memory_bytes <= status.memory_capacity, "{status:?}");
    }
    let mut lane = queue.lane(0).expect("nobody has it");
    let seen = deliver(&mut lane, &mut worker, 300);
    assert_eq!(seen, (1..=200).collect::<Vec<_>>());
    assert!(balanced(&queue).memory_bytes <= 10 << 10);
}

#[test]
fn above_its_size_the_oldest_files_go_and_what_is_under_way_is_counted_once() {
    let bench = Bench::new(|config| {
        config.max_bytes = 80 << 10;
        config.memory = 4 << 10;
    });
    let (queue, mut worker) = bench.open();
    let mut lane = queue.lane(0).expect("nobody has it");
    bench.append(&queue, &mut worker, 1..=1);
    let under_way = next(&mut lane, &mut worker).expect("it waits");
    for number in 2..=200 {
        bench.append(&queue, &mut worker, number..=number);
        assert!(balanced(&queue).disk_bytes <= 80 << 10);
    }
    let status = balanced(&queue);
    let dropped = status.total.dropped.get(Reason::Size);
    assert!(dropped > 0 && status.total.dropped.total() == dropped);
    assert_eq!(lane.oldest_now().as_ref(), Some(&under_way));
    lane.settle(1, Settled::delivered(1));
    assert_eq!(balanced(&queue).total.delivered, 1);
    let seen = deliver(&mut lane, &mut worker, 300);
    assert_eq!(*seen.last().expect("some are left"), 200);
    assert!(seen.windows(2).all(|two| two[1] == two[0] + 1));
    let status = balanced(&queue);
    assert_eq!(status.total.delivered + dropped, (1..=200).sum::<u64>());
    assert_eq!(status.total.pending, 0);
}

#[test]
fn a_death_after_the_file_of_a_record_under_way_went_counts_it_as_dropped() {
    let bench = Bench::new(|config| {
        config.max_bytes = 80 << 10;
        config.memory = 4 << 10;
    });
    let (queue, mut worker) = bench.open();
    let mut lane = queue.lane(0).expect("nobody has it");
    bench.append(&queue, &mut worker, 7..=7);
    next(&mut lane, &mut worker).expect("it waits");
    for number in 8..=200 {
        bench.append(&queue, &mut worker, number..=number);
    }
    let before = balanced(&queue).total;
    assert!(before.dropped.get(Reason::Size) > 0);
    drop((queue, worker, lane));
    let (queue, _worker) = bench.open();
    let after = balanced(&queue).total;
    assert_eq!((after.recovered, after.dropped.get(Reason::Size)), (before.pending, 7));
    assert_eq!(after.pending, before.pending - 7);
}

#[test]
fn above_its_size_the_newest_goes_where_that_is_wished_once_memory_is_full_too() {
    let bench = Bench::new(|config| {
        config.max_bytes = 80 << 10;
        config.memory = 4 << 10;
        config.on_full = OnFull::DropNewest;
    });
    let (queue, mut worker) = bench.open();
    for number in 1..=100 {
        bench.append(&queue, &mut worker, number..=number);
    }
    let status = balanced(&queue);
    assert!(!status.disk_ok && status.disk_bytes <= 80 << 10);
    assert!(status.total.dropped.get(Reason::Size) >= 100);
    let mut lane = queue.lane(0).expect("nobody has it");
    let seen = deliver(&mut lane, &mut worker, 300);
    assert!(seen.windows(2).all(|two| two[1] == two[0] + 1) && seen[0] == 1);
    bench.pass(Duration::from_secs(11));
    bench.append(&queue, &mut worker, 101..=101);
    let status = balanced(&queue);
    assert!(status.disk_ok, "there is room again: {status:?}");
    assert_eq!(deliver(&mut lane, &mut worker, 300), [101]);
}

#[test]
fn what_waited_too_long_goes_file_by_file_and_record_by_record() {
    let bench = Bench::new(|config| config.max_age = Duration::from_secs(80));
    let (queue, mut worker) = bench.open();
    bench.append(&queue, &mut worker, 1..=2);
    bench.pass(Duration::from_secs(15));
    bench.append(&queue, &mut worker, 3..=3);
    bench.pass(Duration::from_secs(5));
    bench.append(&queue, &mut worker, 4..=4);
    bench.pass(Duration::from_secs(64));
    while worker.turn() {}
    assert_eq!(
        balanced(&queue).total.dropped.get(Reason::Age),
        3,
        "the first file is old, the second is not"
    );
    bench.pass(Duration::from_secs(14));
    let mut lane = queue.lane(0).expect("nobody has it");
    assert_eq!(deliver(&mut lane, &mut worker, 9), [4]);
    assert_eq!(balanced(&queue).total.dropped.get(Reason::Age), 6);
    bench.append(&queue, &mut worker, 5..=5);
    bench.pass(Duration::from_secs(100));
    while worker.turn() {}
    assert_eq!(balanced(&queue).total.pending, 0, "one that is written to is too old as well");
}

#[test]
fn less_free_than_is_to_be_left_free_lets_files_go() {
    let bench = Bench::new(|config| config.min_free = u64::MAX / 2);
    let (queue, mut worker) = bench.open();
    bench.append(&queue, &mut worker, 1..=3);
    let status = balanced(&queue);
    assert!(!status.disk_ok && status.disk_bytes == 0);
    assert_eq!(status.total.pending, 6, "memory has them");
    let mut lane = queue.lane(0).expect("nobody has it");
    assert_eq!(deliver(&mut lane, &mut worker, 9), [1, 2, 3]);
    assert_eq!(balanced(&queue).total.pending, 0);
}

#[test]
fn another_number_of_lanes_begins_when_the_old_ones_are_empty() {
    let mut bench = Bench::new(|_| ());
    let (queue, mut worker) = bench.open();
    bench.append(&queue, &mut worker, 1..=2);
    drop((queue, worker));
    bench.config.lanes = 2;
    let (queue, mut worker) = bench.open();
    queue.append(1, bench.record(3));
    while worker.turn() {}
    let mut lanes = queue.lanes();
    let identities: Vec<_> = lanes.iter().map(|lane| (lane.generation(), lane.index())).collect();
    assert_eq!(identities, [(1, 0), (2, 0), (2, 1)]);
    assert_eq!(next(&mut lanes[2], &mut worker), None);
    assert_eq!(deliver(&mut lanes[0], &mut worker, 9), [1, 2]);
    assert_eq!(deliver(&mut lanes[2], &mut worker, 9), [3]);
    close(&queue, &mut worker);
    drop((queue, worker, lanes));
    let (queue, _worker) = bench.open();
    assert_eq!(queue.lanes().len(), 2, "the old one is gone");
}

#[test]
fn a_queue_that_spills_writes_when_memory_is_half_full_or_the_receiver_fails() {
    let bench = Bench::new(|config| {
        config.durability = Durability::Spill;
        config.memory = 20 << 10;
    });
    let (queue, mut worker) = bench.open();
    let mut lane = queue.lane(0).expect("nobody has it");
    bench.append(&queue, &mut worker, 1..=5);
    assert_eq!(balanced(&queue).disk_bytes, 0);
    assert_eq!(deliver(&mut lane, &mut worker, 2), [1, 2]);
    for number in 6..=30 {
        bench.append(&queue, &mut worker, number..=number);
    }
    assert!(balanced(&queue).disk_bytes > 0);
    assert_eq!(deliver(&mut lane, &mut worker, 99), (3..=30).collect::<Vec<_>>());
    bench.append(&queue, &mut worker, 31..=32);
    bench.pass(Duration::from_secs(6));
    while worker.turn() {}
    drop((queue, worker, lane));
    let (queue, mut worker) = bench.open();
    let status = balanced(&queue);
    assert_eq!((status.total.recovered, status.disk.gaps), (31 + 32, 0));
    let mut lane = queue.lane(0).expect("nobody has it");
    assert_eq!(deliver(&mut lane, &mut worker, 9), [31, 32]);
}

#[test]
fn a_second_process_is_refused() {
    let bench = Bench::new(|_| ());
    let (_queue, _worker) = bench.open();
    let refused = Queue::open(bench.folder.path(), &bench.config, Arc::new(disk::Disk)).map(|_| ());
    let refused = refused.expect_err("it is in use");
    assert_eq!(refused.kind(), "busy");
    assert!(refused.to_string().contains("in use by another process"));
}

#[test]
fn a_folder_that_cannot_be_made_is_said_by_name() {
    let refused = Queue::open(Path::new("/proc/nowhere"), &config::Queue::default(), Arc::new(disk::Disk));
    let refused = refused.map(|_| ()).expect_err("it cannot be made");
    assert_eq!((refused.kind(), refused.to_string().contains("/proc/nowhere")), ("folder", true));
}

#[tokio::test]
async fn with_its_threads_all_of_it_goes_through_and_is_there_after_a_stop() {
    let folder = tempfile::tempdir().expect("a folder");
    for fsync in [config::Fsync::Always, config::Fsync::Every(Duration::from_millis(5)), config::Fsync::Never]
    {
        let config = config::Queue { min_free: 0, fsync, memory: 64 << 10, ..config::Queue::default() };
        let queue = Queue::open(folder.path(), &config, Arc::new(disk::Disk)).expect("a folder");
        let mut lane = queue.lane(0).expect("nobody has it");
        for number in 1..=300 {
            queue.append(0, record(number));
            if number > 200 {
                continue;
            }
            let entry = lane.oldest().await;
            assert_eq!(entry.record.samples, number);
            lane.settle(entry.sequence, Settled::delivered(number));
        }
        queue.close().await;
        let total = balanced(&queue).total;
        assert_eq!(total.pending, (201..=300).sum::<u64>());
        drop((queue, lane));
        let queue = Queue::open(folder.path(), &config, Arc::new(disk::Disk)).expect("a folder");
        assert_eq!(balanced(&queue).total.recovered, total.pending);
        let mut lane = queue.lane(0).expect("nobody has it");
        for number in 201..=300 {
            let entry = lane.oldest().await;
            assert_eq!((entry.record.samples, entry.may_be_repeated), (number, false));
            lane.settle(entry.sequence, Settled::delivered(number));
        }
        queue.close().await;
        balanced(&queue);
    }
}
