//! A member's place, for as long as it is one: health, breaker, failures and the last outcome.
//!
//! Whoever collects, a tick or a request, hands the outcome to `Slot::observe` once. Whoever serves takes a
//! [`View`], and is never kept waiting: no lock is held longer than it takes to copy.
//!
//! What a newcomer would get wrong: what a breaker answers is no outcome. It keeps the last reason, and the last
//! outcome stays what is shown.

use super::book::Book;
use super::feed::Told;
use super::shape::Outcome;
use crate::collect::snapshot::Progress;
use crate::collect::{Facts, Snapshot};
use crate::config::Resilience;
use crate::connect::Kind;
use crate::discover::Member;
use crate::resilience::breaker::{self, Asker, Breaker, Decision};
use crate::resilience::health::{Change, Health, Observation, State as HealthState};
use crate::resilience::{Backoff, Class, Retry};
use crate::telemetry::events::{self, Events};
use exposition::Families;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The place of a member.
pub struct Slot {
    /// Its service.
    pub service: Arc<str>,
    /// Who it is.
    pub member: Arc<Member>,
    /// The book of its service.
    pub book: Arc<Book>,
    state: Arc<Mutex<State>>,
    /// Whether a tick of ours is collecting it.
    has_turn: Arc<AtomicBool>,
    /// What was handed on to whoever delivers.
    pub(super) told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct State {
    health: Health,
    breaker: Breaker,
    failures: Vec<(&'static str, u64)>,
    skipped: u64,
    latest: Option<Arc<Latest>>,
    keys: Option<Arc<Keys>>,
}

/// The latest outcome of a member.
pub struct Latest {
    /// What came of it.
    pub outcome: Arc<Outcome>,
    /// When it ended.
    pub taken: Instant,
    /// When it last was known to hold: when it ended, or when the breaker last answered with it.
    pub held: Instant,
}

/// What the last scan of a member's keys made.
pub struct Keys {
    /// The families.
    pub parts: Vec<Arc<Families>>,
    /// When it ended.
    pub taken: Instant,
}

/// What is known of a member, as it is in one moment.
pub struct View {
    /// Its health.
    pub health: HealthState,
    /// Why it is not well.
    pub reason: Option<&'static str>,
    /// Failures in a row.
    pub consecutive: u32,
    /// Since when it is so; `None` while it is unknown.
    pub since: Option<Instant>,
    /// Whether its breaker lets collections through.
    pub breaker: breaker::State,
    /// Failures by reason.
    pub failures: Vec<(&'static str, u64)>,
    /// Ticks that found no room.
    pub skipped: u64,
    /// The last outcome.
    pub latest: Option<Arc<Latest>>,
    /// The last scan of its keys.
    pub keys: Option<Arc<Keys>>,
}

impl Slot {
    /// A member of which nothing is known yet.
    pub fn new(service: Arc<str>, member: Arc<Member>, book: Arc<Book>) -> Self {
        let (state, has_turn, told) = <_>::default();
        Self { service, member, book, state, has_turn, told }
    }

    /// The same server under other labels or in another shard.
    pub(super) fn renamed(&self, member: Arc<Member>, book: Arc<Book>) -> Self {
        let (service, state, has_turn) = (self.service.clone(), self.state.clone(), self.has_turn.clone());
        Self { service, member, book, state, has_turn, told: self.told.clone() }
    }

    /// Whether this is the place of the same server, whatever its labels and its shard are now.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now.
    pub fn view(&self) -> View {
        let state = self.state();
        View {
            health: state.health.state(),
            reason: state.health.reason(),
            consecutive: state.health.consecutive(),
            since: state.health.since(),
            breaker: state.breaker.state(),
            failures: state.failures.clone(),
            skipped: state.skipped,
            latest: state.latest.clone(),
            keys: state.keys.clone(),
        }
    }

    /// What its last whole collection read, and when.
    pub fn facts(&self) -> Option<(Arc<Facts>, Instant)> {
        let latest = self.state().latest.clone()?;
        let snapshot = &latest.outcome.snapshot;
        snapshot.facts.clone().filter(|_| snapshot.up).zip(snapshot.taken)
    }

    /// When its last outcome ended; `None` where there is none.
    pub(super) fn taken(&self) -> Option<Instant> {
        self.state().latest.as_ref().map(|latest| latest.taken)
    }

    /// Takes the turn of a tick; false where the last one has not ended.
    pub(super) fn take_turn(&self) -> bool {
        !self.has_turn.swap(true, Ordering::Relaxed)
    }

    /// Ends it.
    pub(super) fn end_turn(&self) {
        self.has_turn.store(false, Ordering::Relaxed);
    }

    /// Which permits its collections take: those that may hang must not hold up the others.
    pub(super) fn class(&self) -> Class {
        Class::of(self.state().health.state())
    }

    /// How often a connection to it is tried: once while it fails.
    pub(super) fn backoff(&self) -> Backoff {
        Backoff::of(self.state().health.state())
    }

    /// Whether to collect, or to answer with what is known. An answer keeps what is known from getting old.
    pub(super) fn ask(&self, asker: Asker, interval: Duration) -> Decision {
        let now = Instant::now();
        let mut state = self.state();
        let decision = state.breaker.ask(now, asker, interval);
        if decision == Decision::Answer
            && let Some(latest) = &state.latest
        {
            let (outcome, taken) = (latest.outcome.clone(), latest.taken);
            state.latest = Some(Arc::new(Latest { outcome, held: now, taken }));
        }
        decision
    }

    /// A collection that was let through ended without an outcome.
    pub(super) fn give_up(&self) {
        self.state().breaker.give_up();
    }

    /// A tick found no room.
    pub(super) fn skip(&self) {
        self.state().skipped += 1;
    }

    /// Whether the service fails over, and this member is concerned.
    pub(super) fn failover(&self, in_progress: bool, config: &Resilience, events: &Events) {
        let change = self.state().health.failover(in_progress, &config.health, Instant::now());
        self.tell(change, events);
    }

    /// Drops what a scan of its keys made that long ago or earlier.
    pub(super) fn forget_keys(&self, age: Duration) {
        let now = Instant::now();
        self.state().keys.take_if(|keys| now.saturating_duration_since(keys.taken) >= age);
    }

    /// Takes in what a scan of its keys made.
    pub(super) fn scanned(&self, parts: Vec<Arc<Families>>) {
        self.state().keys = Some(Arc::new(Keys { parts, taken: Instant::now() }));
    }

    /// Takes in the outcome of a collection. `interval` bounds the pauses of the breaker, which a target without a
    /// service has none of; `random` spreads them.
    pub(super) fn observe(
        &self,
        outcome: Outcome,
        config: &Resilience,
        (interval, random): (Duration, f64),
        has_breaker: bool,
        events: &Events,
    ) {
        let now = Instant::now();
        let observation = observation(&outcome.snapshot);
        let kind = outcome.snapshot.error.as_ref().map(|(kind, _)| *kind);
        let is_ok = !matches!(observation, Observation::Failed(_));
        self.book.count(is_ok, outcome.snapshot.duration.unwrap_or_default());
        let change = {
            let mut state = self.state();
            if let Observation::Failed(reason) = observation {
                match state.failures.iter_mut().find(|(known, _)| *known == reason) {
                    Some((_, count)) => *count += 1,
                    None => state.failures.push((reason, 1)),
                }
            }
            let change = state.health.observe(observation, &config.health, now);
            let ended = match observation {
                Observation::Failed(_) if state.health.state() == HealthState::Down => {
                    breaker::Outcome::Down(kind.map_or(Retry::Transient, Kind::retry))
                }
                Observation::Failed(_) => breaker::Outcome::Failed,
                _ => breaker::Outcome::Alive,
            };
            if has_breaker {
                state.breaker.after(ended, &config.breaker, interval, now, random);
            }
            state.latest = Some(Arc::new(Latest { outcome: Arc::new(outcome), taken: now, held: now }));
            change
        };
        self.tell(change, events);
    }

    fn tell(&self, change: Option<Change>, events: &Events) {
        let Some(Change { from, to, reason }) = change else { return };
        // The first answer of a server is no news.
        if (from, to) == (HealthState::Unknown, HealthState::Ok) {
            return;
        }
        let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let message = format!("{} is {} and was {}{why}", self.member.instance, to.as_str(), from.as_str());
        events.push(&self.service, events::Kind::Health, Some(from.as_str()), Some(to.as_str()), message);
    }
}

/// What a collection says of the health of its target. A server that answers INFO lives, whatever else it
/// refuses; a conversation that breaks in the middle is a failure.
fn observation(snapshot: &Snapshot) -> Observation {
    let kind = snapshot.error.as_ref().map(|(kind, _)| *kind);
    let is_loading = snapshot.facts.as_ref().is_some_and(|facts| facts.loading == Some(true));
    let refuses =
        |wanted| snapshot.collectors.iter().any(|(_, progress)| *progress == Progress::Failed(wanted));
    match kind {
        Some(Kind::Loading) => Observation::Loading,
        Some(Kind::MasterDown) => Observation::MasterDown,
        Some(kind) if !snapshot.up => Observation::Failed(kind.as_str()),
        Some(kind @ (Kind::Timeout | Kind::Closed | Kind::Protocol)) => Observation::Failed(kind.as_str()),
        None if !snapshot.up => Observation::Failed(Kind::Internal.as_str()),
        _ if is_loading => Observation::Loading,
        _ if refuses(Kind::MasterDown) => Observation::MasterDown,
        _ => Observation::Whole,
    }
}
