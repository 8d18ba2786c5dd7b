//! What was collected, handed on to whoever delivers it: the series of the page, member by member, at each tick.
//!
//! Where no output is configured nothing is made. What a breaker answered is handed on as the page has it then; a tick
//! that found no room only where the page has nothing of the server any more, for old samples are no new ones.
//!
//! What a newcomer would get wrong: somebody may have asked for a member since its tick, and then that collection is the
//! one that is handed on. And who is gone says nothing more, though its collection may still be under way; nor does one that
//! another peer has now, but the series of that one do not end.

use super::sets::{self, Set};
use super::shape::Outcome;
use super::slot::Slot;
use super::store::Store;
use crate::collect::Facts;
use crate::collect::collected::{Collected, Outlet, Said};
use crate::collect::facts::Id;
use crate::config::Config;
use crate::discover::{Service, Topology};
use crate::peers::Duty;
use crate::resilience::permits::Stats as Load;
use crate::telemetry::Metrics;
use exposition::{Builder, Families};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Two readings of when a process began that differ by less are the same: servers say whole seconds.
const SAME: Duration = Duration::from_secs(2);

/// What others want to say of us.
pub type Beside = Arc<dyn Fn(&Config) -> Vec<Arc<Families>> + Send + Sync>;

/// The way to whoever delivers.
#[derive(Clone)]
pub struct Feed {
    /// Where everything goes.
    pub outlet: Outlet,
    /// The label `instance` of what we say of ourselves.
    pub instance: Arc<str>,
    /// Since when we run.
    pub began: SystemTime,
    /// What rooms that stand below this one say of us.
    pub beside: Beside,
}

/// What is remembered of a member that was handed on.
#[derive(Debug)]
pub struct Told {
    target: Option<Arc<str>>,
    labels: Arc<BTreeMap<String, String>>,
    /// When the last collection that was handed on ended.
    taken: Option<Instant>,
    epoch: Epoch,
    /// Since when our own counters of it count.
    since: SystemTime,
    is_gone: bool,
}

impl Default for Told {
    fn default() -> Self {
        let (target, labels, taken, epoch) = <_>::default();
        Self { target, labels, taken, epoch, since: SystemTime::now(), is_gone: false }
    }
}

impl Told {
    /// The same labels as ever are the same `Arc`.
    fn labels(&mut self, labels: BTreeMap<String, String>) -> Arc<BTreeMap<String, String>> {
        if *self.labels != labels {
            self.labels = Arc::new(labels);
        }
        self.labels.clone()
    }
}

/// What came of a member's tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// A collection, well or not.
    Collected,
    /// The breaker answered.
    Known,
    /// There was no room.
    Skipped,
    /// What is ours could be somebody else's by now. Nothing was done, and nothing is said.
    Fenced,
}

fn told(slot: &Slot) -> MutexGuard<'_, Told> {
    // Nothing panics while this lock is held.
    slot.told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When that was by the clock of this machine.
fn wall(at: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(at.elapsed()).unwrap_or(now)
}

/// Whether anybody wants to have it.
pub fn is_wanted(config: &Config) -> bool {
    !config.deliver.outputs.is_empty()
}

impl Feed {
    /// Hands on what is known of a member after its tick.
    pub fn member(&self, config: &Config, slot: &Slot, tick: Tick) {
        if !is_wanted(config) {
            return;
        }
        let (now, latest) = (Instant::now(), slot.taken());
        let mut told = told(slot);
        if told.is_gone || (tick == Tick::Collected && latest.is_some() && latest <= told.taken) {
            return;
        }
        let set = sets::member_set(config, slot, now);
        if tick == Tick::Skipped && !set.parts.is_empty() {
            return;
        }
        let at = latest.filter(|_| tick == Tick::Collected).map_or_else(SystemTime::now, wall);
        told.taken = latest.or(told.taken);
        let word = || format!("member {} {}", slot.service, slot.member.instance).into();
        self.offer(&mut told, word, set, slot.facts(), at);
    }

    /// Hands on a collection of the target of `--redis.addr`, as its page has it.
    pub fn own_target(&self, config: &Config, slot: &Slot, outcome: &Outcome) {
        let mut told = told(slot);
        if told.is_gone || !is_wanted(config) {
            return;
        }
        let mut out = Builder::with_namespace(&config.collect.namespace);
        outcome.record(config.collect.role_label, !config.serve.redis_only, &mut out);
        let instance = slot.member.instance.to_string();
        let set = Set {
            labels: [(config.serve.instance_label.clone(), instance)].into(),
            parts: outcome.snapshot.parts.clone(),
            ours: vec![Arc::new(out.finish())],
        };
        let snapshot = &outcome.snapshot;
        let facts = snapshot.facts.clone().filter(|_| snapshot.up).zip(snapshot.taken);
        self.offer(
            &mut told,
            || format!("target {}", slot.member.instance).into(),
            set,
            facts,
            SystemTime::now(),
        );
    }

    fn offer(
        &self,
        told: &mut Told,
        word: impl FnOnce() -> Arc<str>,
        set: Set,
        facts: Option<(Arc<Facts>, Instant)>,
        at: SystemTime,
    ) {
        let since = facts.and_then(|(facts, taken)| told.epoch.read(&facts, wall(taken)));
        let theirs = Said { since: since.filter(|_| !set.parts.is_empty()), parts: set.parts };
        let ours = Said { parts: set.ours, since: Some(told.since) };
        let target = told.target.get_or_insert_with(word).clone();
        let labels = told.labels(set.labels);
        self.outlet.offer(Collected { target, labels, at, theirs, ours, has_moved: false });
    }

    /// Members that are none any more: their series end.
    pub fn gone(&self, slots: &[Arc<Slot>]) {
        self.leave(slots, End::Gone);
    }

    /// Members that another peer has now: their series go on there.
    pub fn moved(&self, slots: &[Arc<Slot>]) {
        self.leave(slots, End::Moved);
    }

    fn leave(&self, slots: &[Arc<Slot>], end: End) {
        for slot in slots {
            let mut told = told(slot);
            told.is_gone = true;
            if let Some(target) = told.target.take() {
                self.end(target, told.labels.clone(), end);
            }
        }
    }

    /// One that was gone is there again: the target of `--redis.addr`, whose place is kept.
    pub fn back(&self, slot: &Slot) {
        told(slot).is_gone = false;
    }

    fn end(&self, target: Arc<str>, labels: Arc<BTreeMap<String, String>>, end: End) {
        let (at, (theirs, ours)) = (SystemTime::now(), Default::default());
        self.outlet.offer(Collected { target, labels, at, theirs, ours, has_moved: end == End::Moved });
    }

    /// Hands on what we say of ourselves and of every service that is ours. `known`: what was handed on before. `duty`: what
    /// is to be done about a service; of one that is about to leave nothing is said, as of all while the fence is closed.
    pub fn ourselves(
        &self,
        config: &Config,
        (metrics, load): (&Metrics, Load),
        (topology, store): (&Topology, &Store),
        duty: impl Fn(&str) -> Duty,
        known: &mut HashMap<Arc<str>, Told>,
    ) {
        let labels = [(config.serve.instance_label.clone(), self.instance.to_string())].into();
        let mut ours = vec![Arc::new(sets::ourselves(config, metrics))];
        if !config.discover.services.is_empty() {
            ours.push(Arc::new(sets::pool(config, load)));
        }
        ours.extend((self.beside)(config));
        let of_us = Set { labels, parts: vec![], ours };
        let now = Instant::now();
        let mut ended = std::mem::take(known);
        let mut tell = |word: String, set: Set| {
            let new = |word: String| (word.into(), Told { since: self.began, ..Told::default() });
            let (word, mut told) = ended.remove_entry(&*word).unwrap_or_else(|| new(word));
            self.offer(&mut told, || word.clone(), set, None, SystemTime::now());
            known.insert(word, told);
        };
        tell("ourselves".to_owned(), of_us);
        let word = |service: &Service| format!("service {}", service.name);
        let mut others = vec![];
        for service in &topology.services {
            match duty(&service.name) {
                Duty::Ours => tell(word(service), sets::service_set(config, store, service, now)),
                duty => others.push((word(service), duty)),
            }
        }
        for (word, duty) in others {
            match ended.remove_entry(&*word) {
                Some((word, told)) if duty == Duty::Leaving => drop(known.insert(word, told)),
                Some((word, told)) => self.end(word, told.labels, End::Moved),
                None => {}
            }
        }
        for (word, told) in ended {
            self.end(word, told.labels, End::Gone);
        }
    }
}

/// How it ends with one of whom something was said.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// There is no such one any more.
    Gone,
    /// Somebody else goes on with it.
    Moved,
}

/// Since when the counters of a server count.
#[derive(Debug, Default)]
struct Epoch {
    began: Option<SystemTime>,
    /// Statistics were reset after this.
    reset: Option<SystemTime>,
    run_id: Option<Id>,
    counters: [Option<u64>; 2],
    read: Option<SystemTime>,
}

impl Epoch {
    /// What a reading of that time says; the same as long as nothing was reset.
    fn read(&mut self, facts: &Facts, at: SystemTime) -> Option<SystemTime> {
        let began = at.checked_sub(Duration::from_secs(facts.uptime?))?;
        let differs = |known: SystemTime| {
            known.duration_since(began).or_else(|_| began.duration_since(known)).is_ok_and(|by| by >= SAME)
        };
        let counters = [facts.commands, facts.connections];
        let fell = |(before, now): (&Option<u64>, &Option<u64>)| {
            before.zip(*now).is_some_and(|(before, now)| now < before)
        };
        if self.began.is_none_or(differs) || self.run_id != facts.run_id {
            (self.began, self.reset) = (Some(began), None);
        } else if self.counters.iter().zip(&counters).any(fell) {
            self.reset = self.read;
        }
        (self.run_id, self.counters, self.read) = (facts.run_id, counters, Some(at));
        self.began.max(self.reset)
    }
}

#[cfg(test)]
mod tests;
