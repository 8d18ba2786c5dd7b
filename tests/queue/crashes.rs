//! Scenarios, each moment of them at which the process or the machine may die, and what is found after that.
//!
//! What a newcomer would get wrong: a scenario runs once. Each call that changes the disk leaves a [`Point`] behind, with
//! what had been promised by then, and every death is looked at from there.

use crate::life::{Ledger, Life, config, empty, samples_of};
use crate::simulated::{Before, Change, Image, Simulated};
use redvigil::config::deliver as config;
use redvigil::deliver::queue::{Queue, Settled};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often it is made safe.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// What was promised, by lane.
#[derive(Clone, Default)]
pub struct Seen {
    /// How many records were accepted.
    pub accepted: Vec<usize>,
    /// What a receiver was shown, in order.
    pub sent: Vec<Vec<u32>>,
    /// What became settled, and when.
    pub settled: Vec<Vec<(u32, i64)>>,
    /// Samples that were counted as dropped.
    pub dropped: u64,
    /// What time it is.
    pub now: i64,
    /// Whether the queue is just being opened, so that what is counted is not to be seen yet.
    pub opening: bool,
}

/// A moment before a call that changes the disk.
pub struct Point {
    /// Which one.
    pub call: usize,
    /// The disk, and what is about to change.
    pub before: Before,
    /// What had been promised.
    pub seen: Seen,
}

/// What happened, and could have been broken off anywhere.
pub struct Run {
    /// Its settings.
    pub config: config::Queue,
    /// All that was appended.
    pub ledger: Ledger,
    /// All its moments.
    pub points: Vec<Point>,
}

/// What the watch of the disk has.
#[derive(Default)]
struct Watching {
    queue: Option<Queue>,
    seen: Seen,
    /// Samples that were accepted in earlier lives, by lane.
    accepted: Vec<u64>,
    /// Samples that were dropped in earlier lives.
    dropped: u64,
    points: Vec<Point>,
}

impl Watching {
    fn look(&self) -> Seen {
        let mut seen = self.seen.clone();
        let status = self.queue.as_ref().map(Queue::status);
        let status = status.as_ref();
        seen.opening = status.is_none();
        seen.dropped = self.dropped + status.map_or(0, |status| status.total.dropped.total());
        for (lane, earlier) in self.accepted.iter().enumerate() {
            let now = status.map_or(0, |status| status.lanes[lane].counts.accepted);
            let mut samples = earlier + now;
            let mut records = 0;
            while samples > 0 {
                samples -= u64::from(samples_of(records as u32));
                records += 1;
            }
            seen.accepted[lane] = records;
        }
        seen
    }
}

/// A scenario in the making.
pub struct Making {
    disk: Simulated,
    config: config::Queue,
    ledger: Ledger,
    watching: Arc<Mutex<Watching>>,
    life: Option<Life>,
}

impl Making {
    fn new(config: config::Queue) -> Self {
        let lanes = usize::from(config.lanes);
        let ledger = Ledger::new(lanes);
        let disk = Simulated::new(empty());
        let seen = Seen {
            accepted: vec![0; lanes],
            sent: vec![vec![]; lanes],
            settled: vec![vec![]; lanes],
            ..Seen::default()
        };
        let watching =
            Arc::new(Mutex::new(Watching { seen, accepted: vec![0; lanes], ..Watching::default() }));
        let watch = Arc::clone(&watching);
        disk.record(move |before| {
            let mut watching = watch.lock().expect("nothing panics");
            let (call, seen) = (watching.points.len(), watching.look());
            watching.points.push(Point { call, before, seen });
        });
        let mut making = Self { disk, config, ledger, watching, life: None };
        making.start();
        making
    }

    fn start(&mut self) {
        let life = Life::start(&self.disk, &self.config);
        self.watching.lock().expect("nothing panics").queue = Some(life.queue.clone());
        self.life = Some(life);
    }

    fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("it lives")
    }

    /// Publishes what the receiver knows.
    fn publish(&mut self) {
        let mut watching = self.watching.lock().expect("nothing panics");
        let now = self.disk.now();
        watching.seen.now = now;
        watching.seen.sent.clone_from(&self.ledger.sent);
        for (lane, settled) in self.ledger.settled.iter().enumerate() {
            let known: BTreeSet<u32> =
                watching.seen.settled[lane].iter().map(|(number, _)| *number).collect();
            let new = settled.difference(&known).map(|number| (*number, now));
            let new: Vec<_> = new.collect();
            watching.seen.settled[lane].extend(new);
        }
    }

    /// Appends one to a lane, which is written.
    pub fn append(&mut self, lane: usize, size: usize) {
        let life = self.life.as_mut().expect("it lives");
        life.append(&mut self.ledger, lane, size);
        life.turn();
    }

    /// Appends some that are written together.
    pub fn burst(&mut self, lane: usize, sizes: &[usize]) {
        let life = self.life.as_mut().expect("it lives");
        sizes.iter().for_each(|size| life.append(&mut self.ledger, lane, *size));
        life.turn();
    }

    /// Delivers the oldest of a lane.
    pub fn deliver(&mut self, lane: usize) {
        let life = self.life.as_mut().expect("it lives");
        let Some(entry) = life.send(&mut self.ledger, lane) else { return };
        self.publish();
        let life = self.life.as_mut().expect("it lives");
        life.settle(&mut self.ledger, lane, &entry, Settled::delivered(entry.record.samples));
        self.publish();
        self.life().turn();
    }

    /// Sends the oldest of a lane, and leaves it under way.
    pub fn send(&mut self, lane: usize) {
        self.life.as_mut().expect("it lives").send(&mut self.ledger, lane);
        self.publish();
    }

    /// Lets time pass, and turns.
    pub fn pass(&mut self, time: Duration) {
        self.disk.pass(time);
        self.publish();
        self.life().turn();
    }

    fn count(&mut self) {
        let mut watching = self.watching.lock().expect("nothing panics");
        let status = watching.queue.take().expect("it lives").status();
        for (earlier, lane) in watching.accepted.iter_mut().zip(&status.lanes) {
            *earlier += lane.counts.accepted;
        }
        watching.dropped += status.total.dropped.total();
    }

    /// The process dies, and starts again.
    pub fn die(&mut self) {
        self.count();
        self.life = None;
        self.start();
    }

    /// The process stops in order, and starts again.
    pub fn stop(&mut self) {
        self.life.take().expect("it lives").stop();
        self.count();
        self.start();
    }

    fn end(mut self) -> Run {
        self.count();
        self.life = None;
        let mut watching = self.watching.lock().expect("nothing panics");
        // a death after the last call, too
        let (call, seen) = (watching.points.len(), watching.look());
        let before = Before { image: self.disk.image(), change: None };
        watching.points.push(Point { call, before, seen });
        let points = std::mem::take(&mut watching.points);
        Run { config: self.config.clone(), ledger: self.ledger.clone(), points }
    }
}

/// Runs a scenario.
pub fn run(change: impl FnOnce(&mut config::Queue), scenario: impl FnOnce(&mut Making)) -> Run {
    let mut making = Making::new(config(change));
    scenario(&mut making);
    making.end()
}

/// Files that are begun, filled, delivered and removed, a death and a stop.
pub fn rolling(making: &mut Making) {
    for round in 0..24 {
        let size = if round % 4 == 1 { 2500 } else { 40 };
        if round % 5 == 2 {
            making.burst(0, &[20, size, 30]);
        } else {
            making.append(0, size);
        }
        making.pass(INTERVAL / 2);
        if round % 3 != 0 {
            making.deliver(0);
        }
        match round {
            9 => making.die(),
            11 => (0..12).for_each(|_| making.deliver(0)),
            15 => making.stop(),
            20 => {
                making.send(0);
                making.die();
            }
            _ => {}
        }
    }
}

/// Two lanes of which one is slow.
pub fn two_lanes(making: &mut Making) {
    for round in 0..14 {
        making.append(round % 2, if round % 3 == 0 { 2500 } else { 25 });
        if round % 4 == 3 {
            making.append((round + 1) % 2, 30);
        }
        making.pass(INTERVAL / 2);
        making.deliver(0);
        if round % 4 == 0 {
            making.deliver(1);
        }
        if round == 8 {
            making.die();
        }
    }
}

/// A queue that is full: the oldest goes, with one under way.
pub fn evicting(making: &mut Making) {
    making.append(0, 900);
    making.send(0);
    for round in 0..52 {
        making.append(0, 900);
        if round % 4 == 0 {
            making.pass(INTERVAL / 2);
        }
        if round == 44 {
            making.die();
        }
    }
    (0..3).for_each(|_| making.deliver(0));
}

/// Where a write may be torn: at every byte of its beginning and its end, and at some between.
pub fn tears(change: Option<&Change>) -> Vec<usize> {
    let Some(Change::Write { bytes, .. }) = change else { return vec![] };
    let length = bytes.len();
    (1..length).filter(|at| *at < 130 || at + 4 > length || at % 397 == 0).collect()
}

/// What is found after a death.
pub struct Found {
    /// What was delivered then, by lane.
    pub delivered: Vec<Vec<u32>>,
    /// Samples that were said to have been found.
    pub recovered: u64,
    /// How many more there turned out to be.
    pub corrected: u64,
    /// Samples that were dropped.
    pub dropped: u64,
}

/// Starts with what a death left, delivers all there is, and looks at what holds after any death.
pub fn after(run: &Run, point: &Point, image: Image) -> Found {
    let disk = Simulated::new(image);
    disk.pass(Duration::from_millis(point.seen.now as u64));
    let mut life = Life::start(&disk, &run.config);
    let mut ledger = run.ledger.clone();
    let recovered = life.total().recovered;
    let entries = life.drain(&mut ledger);
    let total = life.total();
    assert_eq!((total.pending, total.accepted), (0, 0));
    let mut delivered = vec![];
    for (lane, entries) in entries.iter().enumerate() {
        assert!(entries.windows(2).all(|two| two[0].sequence < two[1].sequence));
        let numbers: Vec<u32> = entries.iter().map(|entry| crate::life::number_of(&entry.record)).collect();
        for (entry, number) in entries.iter().zip(&numbers) {
            let repeated = point.seen.sent[lane].contains(number);
            assert!(!repeated || entry.may_be_repeated, "{number} was sent before, and it is not said so");
        }
        delivered.push(numbers);
    }
    let samples: u64 = delivered.iter().flatten().map(|number| u64::from(samples_of(*number))).sum();
    assert_eq!(total.delivered, samples);
    let corrected = total.recovered - recovered;
    Found { delivered, recovered, corrected, dropped: total.dropped.total() }
}

impl Found {
    /// What was accepted, and neither settled then nor delivered now.
    pub fn missing(&self, seen: &Seen, lane: usize) -> BTreeSet<u32> {
        let settled: BTreeSet<u32> = seen.settled[lane].iter().map(|(number, _)| *number).collect();
        let accepted = 0..seen.accepted[lane] as u32;
        accepted.filter(|one| !settled.contains(one) && !self.delivered[lane].contains(one)).collect()
    }

    /// Samples of all that is missing.
    pub fn missing_samples(&self, seen: &Seen) -> u64 {
        let of_lane =
            |lane| self.missing(seen, lane).iter().map(|one| u64::from(samples_of(*one))).sum::<u64>();
        (0..seen.accepted.len()).map(of_lane).sum()
    }

    /// What was sent twice.
    pub fn repeated(&self, seen: &Seen, lane: usize) -> Vec<u32> {
        self.delivered[lane].iter().filter(|one| seen.sent[lane].contains(one)).copied().collect()
    }
}
