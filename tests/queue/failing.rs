//! Calls that fail: each call of a run in turn, once, some times or for long, in every way that a disk has.
//!
//! What a newcomer would get wrong: a disk that fails is not a death. What was appended is in memory, so nothing is
//! missing when the disk is well again, but for what was counted.

use crate::life::{Ledger, Life, config, empty, number_of, samples_of};
use crate::simulated::{Failing, Fault, Loss, Simulated, Which, errno};
use redvigil::config::deliver::{Fsync, Queue};
use std::collections::BTreeSet;
use std::time::Duration;

/// What calls may do instead, and which.
const FAULTS: [(&str, Fault, Which); 6] = [
    ("EIO", Fault::Error(errno::EIO), Which::Changes),
    ("EIO, reads too", Fault::Error(errno::EIO), Which::All),
    ("ENOSPC", Fault::Error(errno::ENOSPC), Which::Changes),
    ("EDQUOT", Fault::Error(errno::EDQUOT), Which::Changes),
    ("EROFS", Fault::Error(errno::EROFS), Which::Changes),
    ("one byte", Fault::Short(1), Which::All),
];

/// Long enough for a disk that failed to be tried again.
const AGAIN: Duration = Duration::from_secs(11);

struct Process {
    disk: Simulated,
    life: Option<Life>,
    config: Queue,
    ledger: Ledger,
    delivered: Vec<u32>,
}

impl Process {
    fn new(config: &Queue, failing: Vec<Failing>) -> Self {
        let disk = Simulated::new(empty());
        disk.fail(failing);
        let mut process =
            Self { disk, life: None, config: config.clone(), ledger: Ledger::new(1), delivered: vec![] };
        process.start();
        process
    }

    /// A disk may refuse; then it is well when the process is started again.
    fn start(&mut self) {
        let life = Life::try_start(&self.disk, &self.config);
        self.life = Some(life.unwrap_or_else(|_| {
            self.disk.fail(vec![]);
            Life::start(&self.disk, &self.config)
        }));
    }

    fn life(&mut self) -> (&mut Life, &mut Ledger) {
        (self.life.as_mut().expect("it lives"), &mut self.ledger)
    }

    fn deliver(&mut self) {
        let (life, ledger) = self.life();
        let Some(entry) = life.deliver(ledger, 0) else { return };
        life.turn();
        self.delivered.push(number_of(&entry.record));
    }

    /// Some thirty records in files of some, of which half are delivered.
    fn work(&mut self) {
        for round in 0..20 {
            let size = if round % 3 == 1 { 1500 } else { 40 };
            let (life, ledger) = self.life();
            life.append(ledger, 0, size);
            if round % 2 == 0 {
                life.append(ledger, 0, 30);
            }
            life.turn();
            self.disk.pass(Duration::from_millis(300));
            self.life().0.turn();
            if round > 4 {
                self.deliver();
            }
        }
    }

    fn heal(&mut self) {
        self.disk.fail(vec![]);
        for time in [AGAIN, AGAIN, Duration::from_secs(2)] {
            self.disk.pass(time);
            self.life().0.turn();
        }
    }

    fn drain(&mut self) {
        let (life, ledger) = self.life();
        let entries = life.drain(ledger);
        self.delivered.extend(entries[0].iter().map(|entry| number_of(&entry.record)));
    }
}

fn samples<'a>(numbers: impl IntoIterator<Item = &'a u32>) -> u64 {
    numbers.into_iter().map(|number| u64::from(samples_of(*number))).sum()
}

/// Each call fails, for that many calls.
fn each(config: &Queue, lengths: &[usize], step: usize, look: impl Fn(&str, bool, Process)) {
    let mut whole = Process::new(config, vec![]);
    whole.work();
    let calls = whole.disk.calls();
    assert!(calls > 80, "only {calls} calls");
    for (name, fault, which) in FAULTS {
        for length in lengths.iter().copied() {
            for from in (0..calls).step_by(step) {
                let mut process =
                    Process::new(config, vec![Failing { from, to: from + length, which, fault }]);
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    process.work();
                    look(name, which == Which::All, process);
                }));
                assert!(outcome.is_ok(), "{length} calls from {from} on: {name}");
            }
        }
    }
}

fn with(memory: u64, fsync: Fsync) -> Queue {
    config(|config| {
        config.memory = memory;
        config.fsync = fsync;
    })
}

#[test]
fn after_any_fault_everything_is_delivered_in_order_or_counted() {
    for (config, step) in [
        (with(32 << 20, Fsync::Every(Duration::from_secs(1))), 1),
        (with(6 << 10, Fsync::Every(Duration::from_secs(1))), 2),
        (with(6 << 10, Fsync::Always), 3),
    ] {
        each(&config, &[1, 4, 60], step, |name, reads, mut process| {
            process.heal();
            process.drain();
            let total = process.life().0.total();
            assert_eq!((total.pending, total.pending_records), (0, 0));
            assert!(process.delivered.is_sorted_by(|one, other| one < other), "{:?}", process.delivered);
            let appended = process.ledger.appended[0].len() as u32;
            let delivered = samples(&process.delivered);
            let all = samples(&(0..appended).collect::<Vec<_>>());
            assert_eq!(total.accepted, all, "what is taken is counted, however it goes");
            assert_eq!(total.delivered, delivered);
            assert_eq!(delivered + total.dropped.total(), all);
            // with room in memory nothing goes but for room on the disk
            let roomy = process.config.memory > 1 << 20;
            if roomy && !reads && !["ENOSPC", "EDQUOT"].contains(&name) {
                assert_eq!(total.dropped.total(), 0, "{:?}", total.dropped);
            }
            assert!(process.life().0.status().disk_ok);
            process.life.take().expect("it lives").stop();
            let total = Life::start(&process.disk, &process.config).total();
            assert_eq!((total.recovered, total.dropped.total()), (0, 0), "nothing is left");
        });
    }
}

#[test]
fn what_a_failed_call_left_is_safe_again_a_while_later() {
    // a failed fdatasync above all: the pages count as clean, and are not on the platter
    for memory in [32 << 20, 6 << 10] {
        let config = with(memory, Fsync::Every(Duration::from_secs(1)));
        each(&config, &[1, 4, 60], 3, |_, _, mut process| {
            process.heal();
            let before = process.life().0.total();
            process.life = None;
            process.disk = Simulated::new(process.disk.image().after_power_loss(Loss::All));
            process.disk.pass(AGAIN * 10);
            process.start();
            let after = process.life().0.total();
            assert_eq!(after.recovered, before.pending, "{before:?} {after:?}");
            let settled: BTreeSet<u32> = process.delivered.iter().copied().collect();
            process.delivered.clear();
            process.drain();
            let total = process.life().0.total();
            assert_eq!(total.delivered + total.dropped.total(), before.pending);
            assert!(process.delivered.iter().all(|number| !settled.contains(number)), "sent twice");
        });
    }
}

#[test]
fn a_death_while_the_disk_fails_leaves_an_order_and_a_balance() {
    let config = with(6 << 10, Fsync::Every(Duration::from_secs(1)));
    each(&config, &[1, 4, 60], 3, |_, _, mut process| {
        process.life = None;
        process.disk.fail(vec![]);
        process.delivered.clear();
        process.start();
        process.work();
        process.heal();
        process.drain();
        let total = process.life().0.total();
        assert_eq!((total.pending, total.pending_records), (0, 0));
        assert!(process.delivered.is_sorted_by(|one, other| one < other), "{:?}", process.delivered);
        assert_eq!(total.delivered, samples(&process.delivered));
    });
}
