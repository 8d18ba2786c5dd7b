//! Anything that can happen to a queue, at random, against a queue of numbers.
//!
//! What a newcomer would get wrong: the model does not know when the queue lets something go. It takes the counters at
//! their word, and looks at whether the numbers that come out agree with them.

use crate::life::{Ledger, Life, config, empty, number_of, samples_of};
use crate::simulated::{Failing, Fault, Loss, Simulated, Which, errno};
use proptest::collection::vec;
use proptest::prelude::*;
use redvigil::config::deliver::{Fsync, OnFull};
use redvigil::deliver::queue::{Counts, Reason, Settled};
use std::collections::VecDeque;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Step {
    Append(usize, usize),
    Turn,
    Send(usize),
    Settle(usize, u32),
    Pass(u64),
    Die,
    Stop,
    PowerLoss(u64),
    Fail(usize, usize, usize),
    Heal,
    Flip(usize, usize),
    Cut(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..2usize, 5..1500usize).prop_map(|(lane, size)| Step::Append(lane, size)),
        6 => Just(Step::Turn),
        6 => (0..2usize).prop_map(Step::Send),
        8 => (0..2usize, 0..9u32).prop_map(|(lane, dropped)| Step::Settle(lane, dropped)),
        4 => (1..4000u64).prop_map(Step::Pass),
        2 => Just(Step::Die),
        1 => Just(Step::Stop),
        1 => any::<u64>().prop_map(Step::PowerLoss),
        1 => (0..4usize, 0..12usize, 1..20usize).prop_map(|(fault, from, count)| Step::Fail(fault, from, count)),
        2 => Just(Step::Heal),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(file, bit)| Step::Flip(file, bit)),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(file, at)| Step::Cut(file, at)),
    ]
}

/// How gentle the world is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum World {
    /// Processes die and stop, and that is all.
    Gentle,
    /// All of it.
    Rough,
}

struct Model {
    life: Option<Life>,
    disk: Simulated,
    settings: redvigil::config::deliver::Queue,
    ledger: Ledger,
    /// What waits, by lane.
    waiting: Vec<VecDeque<u32>>,
    /// Samples of each lane that went undelivered, when it was looked at last.
    before: Vec<Counts>,
    world: World,
}

impl Model {
    fn new(world: World, full: OnFull, fsync: Fsync) -> Self {
        let disk = Simulated::new(empty());
        let settings = config(|config| {
            (config.lanes, config.on_full, config.fsync) = (2, full, fsync);
            if world == World::Rough {
                (config.memory, config.max_bytes) = (12 << 10, 40 << 10);
                config.max_age = Duration::from_secs(60);
            }
        });
        let life = Some(Life::start(&disk, &settings));
        let waiting = vec![VecDeque::new(); 2];
        Self {
            life,
            disk,
            settings,
            ledger: Ledger::new(2),
            waiting,
            before: vec![Counts::default(); 2],
            world,
        }
    }

    fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("it lives")
    }

    fn start(&mut self) {
        self.disk.fail(vec![]);
        self.life = Some(Life::start(&self.disk, &self.settings));
        self.before = vec![Counts::default(); 2];
    }

    fn replace(&mut self, change: impl FnOnce(&mut crate::simulated::Image)) {
        self.life = None;
        let mut image = self.disk.image();
        change(&mut image);
        let now = self.disk.now();
        self.disk = Simulated::new(image);
        self.disk.pass(Duration::from_millis(now as u64));
        self.start();
    }

    fn step(&mut self, step: &Step) {
        let gentle = self.world == World::Gentle;
        match *step {
            Step::Append(lane, size) => {
                self.waiting[lane].push_back(self.ledger.appended[lane].len() as u32);
                let life = self.life.as_mut().expect("it lives");
                life.append(&mut self.ledger, lane, size);
            }
            Step::Turn => self.life().turn(),
            Step::Send(lane) => {
                let life = self.life.as_mut().expect("it lives");
                life.send(&mut self.ledger, lane);
            }
            Step::Settle(lane, dropped) => {
                let life = self.life.as_mut().expect("it lives");
                let Some(entry) = life.send(&mut self.ledger, lane) else { return self.look() };
                let number = number_of(&entry.record);
                if gentle {
                    assert_eq!(self.waiting[lane].front(), Some(&number), "lane {lane}");
                }
                while self.waiting[lane].front().is_some_and(|front| *front <= number) {
                    self.waiting[lane].pop_front();
                }
                let samples = samples_of(number);
                let dropped = dropped.min(samples);
                let settled =
                    Settled { delivered: samples - dropped, dropped: vec![(Reason::Rejected, dropped)] };
                let life = self.life.as_mut().expect("it lives");
                life.settle(&mut self.ledger, lane, &entry, settled);
                life.turn();
            }
            Step::Pass(time) => {
                self.disk.pass(Duration::from_millis(time));
                self.life().turn();
            }
            Step::Die => {
                self.life().turn();
                self.look();
                self.life = None;
                self.start();
            }
            Step::Stop => {
                let life = self.life.take().expect("it lives");
                life.stop();
                self.start();
            }
            _ if gentle => {}
            Step::PowerLoss(seed) => {
                self.replace(|image| *image = image.after_power_loss(Loss::Random(seed)))
            }
            Step::Fail(fault, from, count) => {
                let fault = [
                    Fault::Error(errno::EIO),
                    Fault::Error(errno::ENOSPC),
                    Fault::Error(errno::EROFS),
                    Fault::Short(7),
                ][fault];
                let from = self.disk.calls() + from;
                self.disk.fail(vec![Failing { from, to: from + count, which: Which::All, fault }]);
            }
            Step::Heal => self.disk.fail(vec![]),
            Step::Flip(file, bit) => self.damage(file, |bytes| {
                let bit = bit % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }),
            Step::Cut(file, at) => self.damage(file, |bytes| bytes.truncate(at % bytes.len())),
        }
        self.look();
    }

    /// Changes a file while nobody has it.
    fn damage(&mut self, file: usize, change: impl FnOnce(&mut Vec<u8>)) {
        self.replace(|image| {
            let files = image.files();
            let Some(path) = files.get(file % files.len().max(1)) else { return };
            let mut bytes = image.read(path).expect("it is there").to_vec();
            if !bytes.is_empty() {
                change(&mut bytes);
                image.write(path, bytes);
            }
        });
    }

    /// In a gentle world what waits is what the counters say, record by record.
    fn look(&mut self) {
        let status = self.life().status();
        if self.world == World::Rough {
            return;
        }
        for (lane, waiting) in self.waiting.iter().enumerate() {
            let counts = &status.lanes[lane].counts;
            assert_eq!(counts.dropped.total(), counts.dropped.get(Reason::Rejected));
            let mut records = counts.pending_records as usize;
            // those that were appended last may not be written yet
            let unwritten = waiting.len().checked_sub(records).expect("no more wait than were appended");
            records = waiting.len() - unwritten;
            let samples: u64 = waiting.iter().take(records).map(|one| u64::from(samples_of(*one))).sum();
            assert_eq!(counts.pending, samples, "lane {lane}");
        }
    }

    /// All comes to an end, and all of it is counted.
    fn end(mut self) {
        self.disk.fail(vec![]);
        self.disk.pass(Duration::from_secs(11));
        self.life().turn();
        let before: Vec<usize> = self.ledger.sent.iter().map(Vec::len).collect();
        let life = self.life.as_mut().expect("it lives");
        life.drain(&mut self.ledger);
        let total = life.total();
        assert_eq!((total.pending, total.pending_records), (0, 0));
        for (lane, waiting) in self.waiting.iter().enumerate() {
            let mut sent = self.ledger.sent[lane].clone();
            // the same is given until it is settled
            sent.dedup();
            if self.world == World::Gentle {
                assert!(sent.windows(2).all(|two| two[0] < two[1]), "lane {lane}: {sent:?}");
                assert!(self.ledger.sent[lane][before[lane]..].iter().eq(waiting), "lane {lane}");
            }
        }
        self.life = None;
        self.start();
        assert_eq!(self.life().total().pending, 0);
    }
}

fn run(world: World, full: OnFull, fsync: Fsync, steps: &[Step]) {
    let mut model = Model::new(world, full, fsync);
    for step in steps {
        model.step(step);
    }
    model.end();
}

fn fsync() -> impl Strategy<Value = Fsync> {
    prop_oneof![Just(Fsync::Always), Just(Fsync::Every(Duration::from_secs(1))), Just(Fsync::Never)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn what_goes_in_comes_out_in_order_through_deaths_and_stops(steps in vec(step(), 1..120), fsync in fsync()) {
        run(World::Gentle, OnFull::DropOldest, fsync, &steps);
    }

    #[test]
    fn the_counters_balance_whatever_happens(
        steps in vec(step(), 1..120),
        newest in any::<bool>(),
        fsync in fsync(),
    ) {
        let full = if newest { OnFull::DropNewest } else { OnFull::DropOldest };
        run(World::Rough, full, fsync, &steps);
    }
}
