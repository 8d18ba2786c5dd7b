//! Random things happen to a queue, and a list of what was put in says what may come out.
//!
//! What a newcomer would get wrong: a death loses what is in memory alone, so at a death the list forgets what the queue
//! had not written. Nothing else may be missing without having been counted.

use super::*;
use crate::config::deliver::Fsync;
use std::collections::BTreeMap;

const EIO: i32 = 5;

struct Model {
    bench: Bench,
    random: fastrand::Rng,
    seed: u64,
    /// The number of the record that is put in next; it is also its content.
    next: u32,
    /// Samples of each record that was put in and has not come out.
    waiting: BTreeMap<u32, u32>,
    /// The last record that came out.
    last: u32,
    /// Whether calls failed in this life.
    failed: bool,
    /// Records up to it may come again without a mark: they came out when nothing could be written down.
    again: u32,
}

struct Life {
    queue: Queue,
    worker: Worker,
    lane: Lane,
    /// What came out, and what was settled but may not be written down.
    settled: Option<u32>,
    under_way: Option<u32>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bench = Bench::new(|config| {
            config.memory = random.u64(3000..20_000);
            config.max_bytes = random.u64(20_000..300_000);
            config.on_full = if random.bool() { OnFull::DropNewest } else { OnFull::DropOldest };
            config.durability = if random.u8(..4) == 0 { Durability::Spill } else { Durability::Wal };
            config.max_age = Duration::from_secs(if random.u8(..4) == 0 { 60 } else { 86400 });
            config.fsync = match random.u8(..3) {
                0 => Fsync::Always,
                1 => Fsync::Never,
                _ => Fsync::Every(Duration::from_secs(1)),
            };
        });
        bench.options.segment = random.u64(4096..20_000);
        Self { bench, random, seed, next: 1, waiting: BTreeMap::new(), last: 0, failed: false, again: 0 }
    }

    fn open(&self) -> Life {
        let (queue, mut worker) = self.bench.open();
        let lane = queue.lane(0).expect("nobody has it");
        worker.turn();
        Life { queue, worker, lane, settled: None, under_way: None }
    }

    fn append(&mut self, life: &Life) {
        for _ in 0..self.random.u32(1..8) {
            let number = self.next;
            let length = self.random.usize(10..900);
            let body = Bytes::from(format!("{number:0>length$}").into_bytes());
            let samples = self.random.u32(1..50);
            let now = (self.bench.options.clock)().wall;
            life.queue.append(0, Record { body, samples, min_timestamp: now, max_timestamp: now });
            self.waiting.insert(number, samples);
            self.next += 1;
        }
    }

    fn read(&mut self, life: &mut Life) {
        for _ in 0..self.random.u32(1..8) {
            let Some(entry) = next(&mut life.lane, &mut life.worker) else { return };
            let text = String::from_utf8(entry.record.body.to_vec()).expect("digits");
            let number: u32 = text.parse().expect("a number");
            if life.under_way.take() == Some(number) {
                // it was left so
            } else if number <= self.last {
                assert!(
                    entry.may_be_repeated || number <= self.again,
                    "seed {}: {number} came again after {}",
                    self.seed,
                    self.last
                );
            } else {
                let samples = self.waiting.remove(&number);
                assert_eq!(samples, Some(entry.record.samples), "seed {}: {number}", self.seed);
                self.last = number;
            }
            if self.random.u8(..8) == 0 {
                life.under_way = Some(number);
                return;
            }
            assert!(life.lane.settle(entry.sequence, Settled::delivered(entry.record.samples)));
            life.settled = Some(entry.record.samples);
        }
    }

    fn check(&self, life: &Life) {
        let status = life.queue.status();
        assert!(status.total.balance(), "seed {}: {status:#?}", self.seed);
        assert!(status.memory_bytes <= status.memory_capacity, "seed {}: {status:#?}", self.seed);
        let may_stay = self.bench.config.on_full == OnFull::DropNewest;
        assert!(status.disk_bytes <= status.disk_capacity || may_stay, "seed {}: {status:#?}", self.seed);
        assert_eq!(
            status.total.pending == 0,
            status.total.pending_records == 0,
            "seed {}: {status:#?}",
            self.seed
        );
    }

    /// The process dies, or ends, and another begins.
    fn again(&mut self, mut life: Life, end: bool) -> Life {
        self.heal();
        let before = life.queue.status();
        let in_memory = life.queue.handle.shared.lock().accepts_at_once();
        let settled = life.settled;
        let failed = std::mem::take(&mut self.failed);
        if failed {
            self.again = self.last;
        }
        if end {
            close(&life.queue, &mut life.worker);
            let status = life.queue.status();
            assert!(status.total.balance(), "seed {}: {status:#?}", self.seed);
            drop(life);
            let life = self.open();
            let total = life.queue.status().total;
            assert_eq!(total.recovered, status.total.pending, "seed {}: {total:?}", self.seed);
            return life;
        }
        drop(life);
        let life = self.open();
        let after = life.queue.status();
        if !in_memory && !failed {
            // what was settled last may not have been written down
            // and what is missing in the midst is found missing at each start
            let recovered = after.total.recovered - after.total.dropped.get(Reason::Corrupt);
            let may = [
                Some(before.total.pending),
                settled.map(|settled| before.total.pending + u64::from(settled)),
            ];
            assert!(may.contains(&Some(recovered)), "seed {}: {before:#?} {after:#?} {settled:?}", self.seed);
        }
        life
    }

    fn heal(&mut self) {
        self.bench.storage.heal();
        self.bench.storage.limit(None);
    }

    fn trouble(&mut self) {
        self.failed = true;
        match self.random.u8(..3) {
            0 => {
                let mut random = self.random.fork();
                self.bench.storage.fail(move |call, _| {
                    let hit = ["append", "write_at", "create", "sync", "truncate", "remove"].contains(&call);
                    (hit && random.u8(..4) == 0).then(|| io::Error::from_raw_os_error(EIO))
                });
            }
            1 => self.bench.storage.limit(Some(self.random.u64(..100_000))),
            _ => {
                self.heal();
                self.bench.pass(Duration::from_secs(11));
            }
        }
    }

    fn run(mut self, steps: usize) {
        let mut life = self.open();
        for _ in 0..steps {
            match self.random.u8(..20) {
                0..7 => self.append(&life),
                7..11 => {
                    for _ in 0..self.random.u8(1..4) {
                        life.worker.turn();
                    }
                }
                11..16 => self.read(&mut life),
                16 => self.bench.pass(Duration::from_millis(self.random.u64(..3000))),
                17 => self.trouble(),
                18 => life = self.again(life, false),
                _ => {
                    let end = self.random.bool();
                    life = self.again(life, end);
                }
            }
            self.check(&life);
        }
        // all that is there comes out
        self.heal();
        self.bench.pass(Duration::from_secs(11));
        while life.worker.turn() {}
        while let Some(entry) = next(&mut life.lane, &mut life.worker) {
            assert!(life.lane.settle(entry.sequence, Settled::delivered(entry.record.samples)));
            self.check(&life);
        }
        let total = life.queue.status().total;
        assert_eq!((total.pending, total.pending_records), (0, 0), "seed {}", self.seed);
    }
}

#[test]
fn whatever_happens_order_and_counts_hold() {
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| {
        let (from, to) = seeds.split_once('-')?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    for seed in seeds.unwrap_or(0..150) {
        Model::new(seed).run(200);
    }
}
