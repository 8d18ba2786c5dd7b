//! A process that has a queue, from its start to its death, and a ledger of what went through it.
//!
//! What a newcomer would get wrong: the thread of the queue is the test itself. Nothing happens between two calls of
//! [`Life::turn`], so that each run is like the other.

use crate::simulated::{Image, START, Simulated};
use bytes::Bytes;
use redvigil::config::deliver as config;
use redvigil::deliver::queue::{Counts, Entry, Lane, Options, Queue, Record, Settled, Status, Worker};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

/// Where the queue is.
pub fn folder() -> PathBuf {
    PathBuf::from("/state/queue/output")
}

/// The folder of the files of a lane.
pub fn lane_folder(lanes: u16, lane: usize) -> PathBuf {
    folder().join(format!("generation-0001-lanes-{lanes:02}/lane-{lane:02}"))
}

/// An empty disk.
pub fn empty() -> Image {
    Image::new(Path::new("/state"))
}

/// Which record of its lane, from its body.
pub fn number_of(record: &Record) -> u32 {
    let number = record.body.get(..4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")));
    number.expect("a record of ours")
}

/// How many samples that one has.
pub fn samples_of(number: u32) -> u32 {
    1 + number % 7
}

/// The record of that number and lane, with a body of `size` bytes.
pub fn record(lane: usize, number: u32, size: usize, now: i64) -> Record {
    let mut body = vec![lane as u8; size.max(5)];
    body[..4].copy_from_slice(&number.to_le_bytes());
    for (at, byte) in body.iter_mut().enumerate().skip(5) {
        *byte = (at as u32 * 31 + number * 7) as u8;
    }
    let now = START + now;
    Record {
        body: Bytes::from(body),
        samples: samples_of(number),
        min_timestamp: now - 5,
        max_timestamp: now,
    }
}

/// All that was given to the queue, over all lives, by lane.
#[derive(Clone, Default)]
pub struct Ledger {
    /// The records, in the order in which they were appended, and when.
    pub appended: Vec<Vec<(Record, i64)>>,
    /// Those that a receiver was shown.
    pub sent: Vec<Vec<u32>>,
    /// Those of which it said what became of them.
    pub settled: Vec<BTreeSet<u32>>,
}

impl Ledger {
    /// Of that many lanes.
    pub fn new(lanes: usize) -> Self {
        Self {
            appended: vec![vec![]; lanes],
            sent: vec![vec![]; lanes],
            settled: vec![BTreeSet::new(); lanes],
        }
    }
}

/// A process with a queue.
pub struct Life {
    pub disk: Simulated,
    pub queue: Queue,
    pub worker: Worker,
    pub lanes: BTreeMap<usize, Lane>,
}

impl Life {
    /// Starts it; the queue opens.
    pub fn start(disk: &Simulated, config: &config::Queue) -> Self {
        Self::try_start(disk, config).expect("the queue opens")
    }

    /// The same where the disk may refuse.
    pub fn try_start(
        disk: &Simulated,
        config: &config::Queue,
    ) -> Result<Self, redvigil::deliver::queue::Error> {
        let options = Options { clock: disk.clock(), segment: 4 << 10 };
        let (queue, worker) = Queue::prepare(&folder(), config, Arc::new(disk.clone()), &options)?;
        let worker = worker.expect("it has a disk");
        let lanes =
            (0..usize::from(config.lanes)).filter_map(|lane| Some((lane, queue.lane(lane)?))).collect();
        let life = Self { disk: disk.clone(), queue, worker, lanes };
        life.status();
        Ok(life)
    }

    /// Its counters, which balance.
    pub fn status(&self) -> Status {
        let status = self.queue.status();
        for counts in status.lanes.iter().map(|lane| &lane.counts).chain([&status.total]) {
            assert!(counts.balance(), "recovered + accepted = delivered + dropped + pending: {counts:?}");
            let empty = counts.pending_records == 0;
            assert!(!empty || counts.pending == 0, "samples without a record wait: {counts:?}");
        }
        // one that comes from the disk to be sent is held in any case
        let under_way = self.lanes.len() as u64 * 3000;
        assert!(status.memory_bytes <= status.memory_capacity + under_way, "{status:?}");
        status
    }

    /// The sum of its counters.
    pub fn total(&self) -> Counts {
        self.status().total
    }

    /// Does all there is to do.
    pub fn turn(&mut self) {
        for _ in 0..10_000 {
            let more = self.worker.turn();
            self.status();
            if !more {
                return;
            }
        }
        panic!("the queue does not come to rest");
    }

    /// Appends the next record of a lane.
    pub fn append(&mut self, ledger: &mut Ledger, lane: usize, size: usize) {
        let now = self.disk.now();
        let record = record(lane, ledger.appended[lane].len() as u32, size, now);
        ledger.appended[lane].push((record.clone(), now));
        self.queue.append(lane, record);
        self.status();
    }

    /// The oldest record of a lane.
    pub fn oldest(&mut self, lane: usize) -> Option<Entry> {
        for _ in 0..4 {
            if let Some(entry) = self.lanes.get_mut(&lane)?.oldest_now() {
                return Some(entry);
            }
            self.turn();
        }
        None
    }

    /// The oldest record of a lane, as it is sent.
    pub fn send(&mut self, ledger: &mut Ledger, lane: usize) -> Option<Entry> {
        let entry = self.oldest(lane)?;
        let number = number_of(&entry.record);
        assert_eq!(Some(&entry.record), ledger.appended[lane].get(number as usize).map(|(record, _)| record));
        ledger.sent[lane].push(number);
        Some(entry)
    }

    /// Says what became of it.
    pub fn settle(&mut self, ledger: &mut Ledger, lane: usize, entry: &Entry, settled: Settled) {
        ledger.settled[lane].insert(number_of(&entry.record));
        let reader = self.lanes.get_mut(&lane).expect("a lane of ours");
        assert!(reader.settle(entry.sequence, settled));
        self.status();
    }

    /// Delivers the oldest record of a lane, where there is one.
    pub fn deliver(&mut self, ledger: &mut Ledger, lane: usize) -> Option<Entry> {
        let entry = self.send(ledger, lane)?;
        self.settle(ledger, lane, &entry, Settled::delivered(entry.record.samples));
        Some(entry)
    }

    /// Delivers all there is, in order of lanes.
    pub fn drain(&mut self, ledger: &mut Ledger) -> Vec<Vec<Entry>> {
        let mut all = vec![];
        for lane in 0..ledger.appended.len() {
            let mut of_lane = vec![];
            while let Some(entry) = self.deliver(ledger, lane) {
                of_lane.push(entry);
                assert!(of_lane.len() <= 10_000, "the same is delivered for ever");
            }
            all.push(of_lane);
        }
        self.turn();
        all
    }

    /// Stops in order.
    pub fn stop(mut self) -> Counts {
        let queue = self.queue.clone();
        let mut closing = std::pin::pin!(queue.close());
        let mut context = Context::from_waker(Waker::noop());
        assert!(closing.as_mut().poll(&mut context).is_pending());
        self.worker.turn();
        assert!(closing.as_mut().poll(&mut context).is_ready());
        self.total()
    }
}

/// What most tests have.
pub fn config(change: impl FnOnce(&mut config::Queue)) -> config::Queue {
    let mut config = config::Queue { min_free: 0, ..config::Queue::default() };
    config.fsync = config::Fsync::Every(Duration::from_secs(1));
    change(&mut config);
    config
}
