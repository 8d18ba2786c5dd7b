//! What is known of sending to one output: the states of its lanes, and counts. Plain data; others make families of it.
//!
//! What a newcomer would get wrong: what waits, what was delivered and what was dropped is counted by the queue, which alone
//! can do so to the sample. Here is what the network did.

use super::verdict::{Format, Hold};
use crate::net::http::Kind;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

/// Upper bounds of the buckets of [`Latency`], in seconds.
pub const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What a lane is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// What is new is sent as it comes.
    Live,
    /// The oldest record failed, and is tried again at growing pauses.
    Retrying,
    /// The receiver is down, or refuses us. Nothing is sent.
    Degraded,
    /// The oldest record is tried once.
    Probing,
    /// The receiver is back, and gets what waited at a pace.
    Recovering,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Live, Self::Retrying, Self::Degraded, Self::Probing, Self::Recovering];

    /// Its number in the metric.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Retrying => "retrying",
            Self::Degraded => "degraded",
            Self::Probing => "probing",
            Self::Recovering => "recovering",
        }
    }

    /// As people see it: that it is being asked whether it is back makes no other of it.
    pub const fn told(self) -> Self {
        match self {
            Self::Probing => Self::Degraded,
            state => state,
        }
    }

    /// How bad it is.
    const fn gravity(self) -> u8 {
        match self {
            Self::Live => 0,
            Self::Recovering => 1,
            Self::Retrying => 2,
            Self::Probing => 3,
            Self::Degraded => 4,
        }
    }
}

/// What came of a request: the label `code`, of which there are few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// A status of HTTP that has a name.
    Http(u16),
    /// Some status of HTTP that has none: its hundred.
    Hundred(u8),
    /// A status of gRPC from 0 to 16; 17: any other.
    Grpc(u8),
    /// No answer.
    Failed(Kind),
}

impl Code {
    /// A status of HTTP.
    pub fn http(status: hyper::StatusCode) -> Self {
        match status.canonical_reason() {
            Some(_) => Self::Http(status.as_u16()),
            None => Self::Hundred((status.as_u16() / 100) as u8),
        }
    }

    /// A status of gRPC.
    pub fn grpc(code: u32) -> Self {
        Self::Grpc(code.min(17) as u8)
    }

    /// The label.
    pub fn label(self) -> Cow<'static, str> {
        match self {
            Self::Http(code) => code.to_string().into(),
            Self::Hundred(hundred) => format!("{hundred}xx").into(),
            Self::Grpc(17) => "grpc_other".into(),
            Self::Grpc(code) => format!("grpc_{code}").into(),
            Self::Failed(kind) => kind.word().into(),
        }
    }
}

/// Why a lane is not [`State::Live`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// It does not take anything of ours.
    Held(Hold),
    /// It cannot be talked to.
    Failed(Kind),
    /// It says that it failed.
    ServerError,
    /// It says that we are too fast.
    Throttled,
}

impl Reason {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Held(hold) => hold.word(),
            Self::Failed(kind) => kind.word(),
            Self::ServerError => "server_error",
            Self::Throttled => "throttled",
        }
    }
}

/// How long requests took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// Requests by the first of [`BUCKETS`] that is not below them; the last one: longer than all.
    pub counts: [u64; BUCKETS.len() + 1],
    /// All of them together, in seconds.
    pub sum: f64,
}

impl Latency {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        self.counts[place] += 1;
        self.sum += seconds;
    }
}

/// What is known of one lane.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneView {
    /// What it is doing.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// Why it is not [`State::Live`], where that has a reason.
    pub reason: Option<Reason>,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// How old the newest sample of the record was that was sent or tried last.
    pub lag: Duration,
    /// Samples a second that it may send at most; `None`: as many as there are.
    pub limit: Option<f64>,
    /// Samples a second that came lately.
    pub live: f64,
    /// Samples a second that were sent lately.
    pub sent: f64,
}

/// What went wrong last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub at: SystemTime,
    /// What, without secrets.
    pub text: String,
}

/// What is known of one output.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Its lanes.
    pub lanes: Vec<LaneView>,
    /// What it speaks; `None`: nothing was sent yet.
    pub format: Option<Format>,
    /// Changes of state, of all lanes.
    pub transitions: BTreeMap<(State, State), u64>,
    /// Requests by what came of them.
    pub requests: BTreeMap<Code, u64>,
    /// How long they took.
    pub latency: Latency,
    /// Requests that were not the first with their body.
    pub retries: u64,
    /// How often another format was taken.
    pub fallbacks: BTreeMap<(Format, Format), u64>,
    /// Records that were sent in parts.
    pub splits: u64,
    /// Probes that succeeded.
    pub probes_succeeded: u64,
    /// Probes that failed.
    pub probes_failed: u64,
    /// What went wrong last.
    pub last_failure: Option<Failure>,
}

impl View {
    /// The lane that is worst off.
    pub fn worst(&self) -> Option<&LaneView> {
        self.lanes.iter().max_by_key(|lane| lane.state.gravity())
    }

    /// The state of the worst lane.
    pub fn state(&self) -> State {
        self.worst().map_or(State::Live, |lane| lane.state)
    }

    /// The most failures in a row of a lane.
    pub fn consecutive_failures(&self) -> u32 {
        self.lanes.iter().map(|lane| lane.consecutive_failures).max().unwrap_or(0)
    }

    /// The lag of the lane that is farthest behind.
    pub fn lag(&self) -> Duration {
        self.lanes.iter().map(|lane| lane.lag).max().unwrap_or_default()
    }

    /// Samples a second that came and that were sent lately.
    pub fn rates(&self) -> (f64, f64) {
        self.lanes.iter().fold((0.0, 0.0), |(live, sent), lane| (live + lane.live, sent + lane.sent))
    }

    /// Seconds until what waits is gone, as it goes now; infinite where it does not shrink.
    pub fn drain_eta(&self, pending: u64) -> f64 {
        let (live, sent) = self.rates();
        match pending {
            0 => 0.0,
            _ if self.state() == State::Live => 0.0,
            _ if sent <= live => f64::INFINITY,
            _ => pending as f64 / (sent - live),
        }
    }
}

/// What is known of one output, written by its lanes.
#[derive(Debug)]
pub struct Board {
    view: Mutex<View>,
}

impl Board {
    /// Nothing happened yet.
    pub fn new(lanes: usize, now: SystemTime) -> Self {
        let lane = LaneView {
            state: State::Live,
            since: now,
            reason: None,
            consecutive_failures: 0,
            lag: Duration::ZERO,
            limit: None,
            live: 0.0,
            sent: 0.0,
        };
        let view = View {
            lanes: vec![lane; lanes],
            format: None,
            transitions: BTreeMap::new(),
            requests: BTreeMap::new(),
            latency: Latency::default(),
            retries: 0,
            fallbacks: BTreeMap::new(),
            splits: 0,
            probes_succeeded: 0,
            probes_failed: 0,
            last_failure: None,
        };
        Self { view: Mutex::new(view) }
    }

    /// All that is known now.
    pub fn view(&self) -> View {
        self.lock().clone()
    }

    /// A lane enters a state; says which it leaves.
    pub(super) fn enter(&self, lane: usize, state: State, reason: Option<Reason>, now: SystemTime) -> State {
        let mut view = self.lock();
        let Some(own) = view.lanes.get_mut(lane) else { return state };
        let before = own.state;
        own.reason = reason;
        if before != state {
            (own.state, own.since) = (state, now);
            *view.transitions.entry((before, state)).or_default() += 1;
        }
        before
    }

    /// A request came to an end.
    pub(super) fn answered(&self, format: Format, code: Code, took: Duration, is_retry: bool) {
        let mut view = self.lock();
        *view.requests.entry(code).or_default() += 1;
        view.latency.add(took);
        view.retries += u64::from(is_retry);
        view.format = Some(format);
    }

    /// Another format is taken from now on.
    pub(super) fn fell_back(&self, from: Format, to: Format) {
        let mut view = self.lock();
        *view.fallbacks.entry((from, to)).or_default() += 1;
        view.format = Some(to);
    }

    /// A record is sent in parts.
    pub(super) fn split(&self) {
        self.lock().splits += 1;
    }

    /// A probe came to an end.
    pub(super) fn probed(&self, is_success: bool) {
        let mut view = self.lock();
        if is_success {
            view.probes_succeeded += 1;
        } else {
            view.probes_failed += 1;
        }
    }

    /// Something went wrong.
    pub(super) fn failed(&self, failure: Failure) {
        self.lock().last_failure = Some(failure);
    }

    /// Something changed about a lane.
    pub(super) fn note(&self, lane: usize, change: impl FnOnce(&mut LaneView)) {
        if let Some(lane) = self.lock().lanes.get_mut(lane) {
            change(lane);
        }
    }

    fn lock(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn the_worst_lane_is_the_state_of_all() {
        fn check(states: &[State], expected: State) {
            let board = Board::new(states.len(), NOW);
            for (lane, state) in states.iter().enumerate() {
                board.enter(lane, *state, None, NOW);
            }
            assert_eq!(board.view().state(), expected);
        }
        check(&[], State::Live);
        check(&[State::Live, State::Live], State::Live);
        check(&[State::Live, State::Recovering], State::Recovering);
        check(&[State::Retrying, State::Recovering], State::Retrying);
        check(&[State::Probing, State::Retrying], State::Probing);
        check(&[State::Degraded, State::Probing], State::Degraded);
    }

    #[test]
    fn only_changes_of_state_count_and_begin_anew() {
        let board = Board::new(1, NOW);
        let later = NOW + Duration::from_secs(9);
        board.enter(0, State::Live, None, later);
        assert_eq!((board.view().transitions.len(), board.view().lanes[0].since), (0, NOW));
        board.enter(0, State::Retrying, Some(Reason::Throttled), later);
        board.enter(7, State::Retrying, None, later);
        let view = board.view();
        assert_eq!(view.transitions, BTreeMap::from([((State::Live, State::Retrying), 1)]));
        assert_eq!((view.lanes[0].since, view.lanes[0].reason), (later, Some(Reason::Throttled)));
    }

    #[test]
    fn codes_are_few() {
        fn check(code: Code, expected: &str) {
            assert_eq!(code.label(), expected);
        }
        let http = |code| Code::http(hyper::StatusCode::from_u16(code).expect("a status"));
        check(http(204), "204");
        check(http(799), "7xx");
        check(http(299), "2xx");
        check(Code::grpc(14), "grpc_14");
        check(Code::grpc(u32::MAX), "grpc_other");
        check(Code::Failed(Kind::Dns), "dns");
    }

    #[test]
    fn latency_falls_into_buckets() {
        let mut latency = Latency::default();
        for milliseconds in [0, 5, 6, 10_000, 10_001] {
            latency.add(Duration::from_millis(milliseconds));
        }
        assert_eq!(latency.counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((latency.count(), latency.sum), (5, 20.012));
    }

    #[test]
    fn what_waits_shrinks_by_what_is_sent_above_what_comes() {
        fn check(pending: u64, state: State, live: f64, sent: f64, expected: f64) {
            let board = Board::new(1, NOW);
            board.enter(0, state, None, NOW);
            board.note(0, |lane| (lane.live, lane.sent) = (live, sent));
            assert_eq!(board.view().drain_eta(pending), expected);
        }
        check(0, State::Degraded, 10.0, 0.0, 0.0);
        check(100, State::Live, 10.0, 10.0, 0.0);
        check(100, State::Recovering, 10.0, 20.0, 10.0);
        check(100, State::Recovering, 10.0, 10.0, f64::INFINITY);
        check(100, State::Degraded, 0.0, 0.0, f64::INFINITY);
    }
}
