//! Anything in any order: appends, deliveries, time, faults, deaths of the process and of the machine. A list of what
//! waits says what may come.
//!
//! What a newcomer would get wrong: a list cannot say which records a failing disk loses at a death, so after that it only
//! says that they may be missing. As long as nothing fails it knows each of them.

use crate::life::{Ledger, Life, config, empty, number_of, samples_of};
use crate::simulated::{Failing, Fault, Loss, Simulated, Which, errno};
use proptest::prelude::*;
use redvigil::config::deliver::{Fsync, OnFull, Queue};
use redvigil::deliver::queue::{Reason, Settled};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How many runs.
const CASES: u32 = 300;
/// How often it is made safe, in milliseconds.
const INTERVAL: i64 = 1000;

#[derive(Clone, Debug)]
enum Act {
    Append(usize),
    Turn,
    Deliver(usize),
    Reject,
    /// The oldest is sent, and nothing is heard.
    Send,
    Pass(u64),
    Fail(Fault, usize, Which),
    Full(u64),
    Heal,
    Die,
    Stop,
    PowerLoss(Loss),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let fault = prop_oneof![
        Just(Fault::Error(errno::EIO)),
        Just(Fault::Error(errno::ENOSPC)),
        Just(Fault::Error(errno::EROFS)),
        Just(Fault::Short(1)),
    ];
    let which = prop_oneof![Just(Which::Changes), Just(Which::Opens), Just(Which::All)];
    let loss = prop_oneof![
        Just(Loss::All),
        Just(Loss::Zeros),
        (0usize..12).prop_map(Loss::Behind),
        (0usize..12).prop_map(Loss::Before),
        (0usize..12, 0usize..300).prop_map(|(count, bytes)| Loss::Torn(count, bytes)),
        any::<u64>().prop_map(Loss::Random),
    ];
    let act = prop_oneof![
        10 => (20usize..2500).prop_map(Act::Append),
        8 => Just(Act::Turn),
        8 => (1usize..6).prop_map(Act::Deliver),
        1 => Just(Act::Reject),
        1 => Just(Act::Send),
        5 => (0u64..1500).prop_map(Act::Pass),
        1 => (fault, 1usize..30, which).prop_map(|(fault, calls, which)| Act::Fail(fault, calls, which)),
        1 => (0u64..60_000).prop_map(Act::Full),
        1 => Just(Act::Heal),
        1 => Just(Act::Die),
        1 => Just(Act::Stop),
        1 => loss.prop_map(Act::PowerLoss),
    ];
    prop::collection::vec(act, 1..90)
}

fn settings() -> impl Strategy<Value = Queue> {
    let fsync = prop_oneof![Just(Fsync::Every(Duration::from_secs(1))), Just(Fsync::Always)];
    (
        prop_oneof![Just(8u64 << 10), Just(1 << 20)],
        prop_oneof![Just(36u64 << 10), Just(1 << 30)],
        fsync,
        any::<bool>(),
    )
        .prop_map(|(memory, max_bytes, fsync, newest)| {
            config(|config| {
                (config.memory, config.max_bytes, config.fsync) = (memory, max_bytes, fsync);
                config.on_full = if newest { OnFull::DropNewest } else { OnFull::DropOldest };
            })
        })
}

struct Model {
    disk: Simulated,
    config: Queue,
    life: Option<Life>,
    ledger: Ledger,
    /// What was appended and did not leave, in order.
    waiting: VecDeque<u32>,
    /// Of these, what may be missing.
    shaky: BTreeSet<u32>,
    /// What was appended since it was written last, and when the others were written.
    unwritten: Vec<u32>,
    written: BTreeMap<u32, i64>,
    /// What was settled, and when.
    settled: Vec<(u32, i64)>,
    /// When it turned last.
    turned: i64,
    /// Whether something failed in this life.
    failed: bool,
    /// What may come again, and what of that need not be said to be so.
    again: BTreeSet<u32>,
    unmarked: BTreeSet<u32>,
    /// Samples that waited and did not come, and those that were counted as dropped in earlier lives.
    skipped: u64,
    dropped: u64,
    /// Whether each that is missing was counted, and no other.
    exact: bool,
}

impl Model {
    fn new(config: Queue) -> Self {
        let disk = Simulated::new(empty());
        let life = Some(Life::start(&disk, &config));
        Self {
            disk,
            config,
            life,
            ledger: Ledger::new(1),
            waiting: VecDeque::new(),
            shaky: BTreeSet::new(),
            unwritten: vec![],
            written: BTreeMap::new(),
            settled: vec![],
            turned: 0,
            failed: false,
            again: BTreeSet::new(),
            unmarked: BTreeSet::new(),
            skipped: 0,
            dropped: 0,
            exact: true,
        }
    }

    fn life(&mut self) -> (&mut Life, &mut Ledger) {
        (self.life.as_mut().expect("it lives"), &mut self.ledger)
    }

    fn turn(&mut self) {
        self.life().0.turn();
        self.has_turned();
    }

    fn has_turned(&mut self) {
        self.turned = self.disk.now();
        for number in self.unwritten.drain(..) {
            self.written.insert(number, self.turned);
        }
    }

    fn append(&mut self, size: usize) {
        let (life, ledger) = self.life();
        let number = ledger.appended[0].len() as u32;
        life.append(ledger, 0, size);
        self.waiting.push_back(number);
        self.unwritten.push(number);
    }

    /// One comes; `None`: none waits.
    fn send(&mut self) -> Option<redvigil::deliver::queue::Entry> {
        let calls = self.disk.calls();
        let (life, ledger) = self.life();
        let entry = life.send(ledger, 0);
        if self.disk.calls() > calls {
            self.has_turned();
        }
        let entry = entry?;
        let number = number_of(&entry.record);
        if self.waiting.contains(&number) {
            while let Some(first) = self.waiting.front().copied().filter(|first| *first < number) {
                self.waiting.pop_front();
                if !self.shaky.contains(&first) {
                    self.skipped += u64::from(samples_of(first));
                }
            }
            let counted = self.dropped + self.life().0.total().dropped.total();
            assert!(self.skipped <= counted, "{} are missing, {counted} were counted", self.skipped);
        } else {
            assert!(self.again.contains(&number), "{number} comes again");
            assert!(
                entry.may_be_repeated || self.unmarked.contains(&number),
                "{number} comes again, and it is not said so"
            );
        }
        Some(entry)
    }

    fn deliver(&mut self, rejected: bool) -> bool {
        let Some(entry) = self.send() else { return false };
        let number = number_of(&entry.record);
        let samples = entry.record.samples;
        let settled = if rejected {
            self.skipped += u64::from(samples);
            Settled { delivered: 0, dropped: vec![(Reason::Rejected, samples)] }
        } else {
            Settled::delivered(samples)
        };
        let (life, ledger) = self.life();
        life.settle(ledger, 0, &entry, settled);
        self.again.retain(|one| *one > number);
        if self.waiting.front() == Some(&number) {
            self.waiting.pop_front();
        }
        self.settled.push((number, self.disk.now()));
        true
    }

    /// The process is no more, and what it had counted is known.
    fn end(&mut self) {
        let total = self.life().0.total();
        self.dropped += total.dropped.total();
        self.shaky.extend(self.unwritten.drain(..));
        if self.failed {
            self.shaky.extend(&self.waiting);
        }
        self.life = None;
        self.disk.fail(vec![]);
        self.disk.limit(None);
    }

    fn start(&mut self) {
        self.life = Some(Life::start(&self.disk, &self.config));
        self.failed = false;
    }

    /// What was settled could not be written down, and what could not be read is perhaps to be read now.
    fn anything_again(&mut self) {
        let all = 0..self.ledger.appended[0].len() as u32;
        self.again.extend(all.clone());
        self.unmarked.extend(all);
    }

    fn die(&mut self) {
        let before = self.life().0.total().pending;
        let (failed, last) = (self.failed, self.settled.last().copied());
        self.exact = false;
        self.end();
        if failed {
            self.anything_again();
        } else {
            self.again.extend(last.map(|(number, _)| number));
        }
        self.start();
        // a gap that is not passed yet is found and counted again; what was under way may be counted now
        let after = self.life().0.total();
        let repeated = last.map_or(0, |(number, _)| u64::from(samples_of(number)));
        let as_before = after.recovered >= before && after.pending <= before + repeated;
        assert!(failed || as_before, "{before} waited, {after:?}");
    }

    fn stop(&mut self) {
        let total = self.life.take().expect("it lives").stop();
        self.dropped += total.dropped.total();
        // what was not written is written now, or was counted
        self.unwritten.clear();
        let failed = std::mem::take(&mut self.failed);
        self.exact &= !failed;
        if failed {
            self.shaky.extend(&self.waiting);
            self.anything_again();
        }
        self.disk.fail(vec![]);
        self.disk.limit(None);
        self.start();
        let after = self.life().0.total();
        let as_before = after.recovered >= total.pending && after.pending <= total.pending;
        assert!(failed || as_before, "{} waited, {after:?}", total.pending);
    }

    fn power_loss(&mut self, loss: Loss) {
        self.exact = false;
        let now = self.disk.now();
        let (failed, turned) = (self.failed, self.turned);
        let always = self.config.fsync == Fsync::Always;
        let is_safe = |then: i64| always || then + INTERVAL <= turned;
        self.end();
        for number in &self.waiting {
            if self.written.get(number).is_none_or(|then| !is_safe(*then)) {
                self.shaky.insert(*number);
            }
        }
        let safe = if failed { 0 } else { self.settled.iter().filter(|(_, then)| is_safe(*then)).count() };
        // one more than what is not safe, where the slot of the cursor that was safe is torn
        let safe = safe.saturating_sub(1 + usize::from(always));
        self.again.extend(self.settled[safe..].iter().map(|(number, _)| *number));
        if failed {
            self.anything_again();
        }
        self.disk = Simulated::new(self.disk.image().after_power_loss(loss));
        self.disk.pass(Duration::from_millis(now as u64));
        self.start();
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Append(size) => self.append(size),
            Act::Turn => self.turn(),
            Act::Deliver(count) => {
                for _ in 0..count {
                    self.deliver(false);
                }
            }
            Act::Reject => _ = self.deliver(true),
            Act::Send => _ = self.send(),
            Act::Pass(time) => self.disk.pass(Duration::from_millis(time)),
            Act::Fail(fault, calls, which) => {
                self.failed = true;
                let from = self.disk.calls();
                self.disk.fail(vec![Failing { from, to: from + calls, which, fault }]);
            }
            Act::Full(capacity) => {
                self.failed = true;
                self.disk.limit(Some(capacity));
            }
            Act::Heal => {
                self.disk.fail(vec![]);
                self.disk.limit(None);
            }
            Act::Die => self.die(),
            Act::Stop => self.stop(),
            Act::PowerLoss(loss) => self.power_loss(loss),
        }
        self.life().0.status();
    }

    /// All that is left comes.
    fn finish(mut self) {
        self.disk.fail(vec![]);
        self.disk.limit(None);
        self.disk.pass(Duration::from_secs(11));
        self.turn();
        while self.deliver(false) {}
        self.turn();
        let total = self.life().0.total();
        assert_eq!((total.pending, total.pending_records), (0, 0));
        let left = self.waiting.iter().filter(|number| !self.shaky.contains(number));
        self.skipped += left.map(|number| u64::from(samples_of(*number))).sum::<u64>();
        let counted = self.dropped + total.dropped.total();
        assert!(self.skipped <= counted, "{} are missing, {counted} were counted", self.skipped);
        assert!(
            !self.exact || self.skipped == counted,
            "{} are missing, {counted} were counted",
            self.skipped
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_list_says_what_may_come(config in settings(), acts in acts()) {
        let mut model = Model::new(config);
        for act in acts {
            model.act(act);
        }
        model.finish();
    }
}
