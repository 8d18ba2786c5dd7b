//! Sends the records of one lane, one request at a time: a state machine, one short function a state.
//!
//! ```text
//! LIVE --failure--> RETRYING --5 in a row or 60 s--> DEGRADED --after 5, 10, 20, then 30 s--> PROBING
//!   ^                  | success                       ^ ^                                      |  |
//!   |<-----------------+                               | +------------ failure <----------------+  |
//!   +--- lag < 2 intervals --- RECOVERING -- failure --+     success: the oldest record arrived    |
//!                                  ^---------------------------------------------------------------+
//! ```
//!
//! - `attempt`: one request, and what its verdict does to the record
//! - `parts`: the record, whole or split
//! - `receiver`: what is known of who receives
//! - `pauses`, `pace`: when is tried again, and how fast (pure)
//! - [`backlog`]: what a sender stands between
//!
//! What a newcomer would get wrong: a record that is refused is a success here. Who refuses it is alive, and the next one
//! may be good.

mod attempt;
pub mod backlog;
mod pace;
mod parts;
mod pauses;
mod receiver;
#[cfg(test)]
mod tests;

use crate::config::deliver::{Destination, Output, Protocol};
use crate::deliver::board::{Board, Failure as Told, Reason, State};
use crate::deliver::queue::{Lane, Queue};
use crate::deliver::verdict::Format;
use crate::deliver::{otlp, remote_write};
use crate::net::{http, tls};
use attempt::Failure;
use backlog::{Backlog, Transport, Waiting};
use bytes::Bytes;
use pace::{Meter, Pace};
use parts::{Part, Work};
use receiver::Receiver;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How often is looked whether a file with who we are changed, while we are refused.
const LOOK: Duration = Duration::from_secs(1);

/// What the lanes of an output share.
#[derive(Clone)]
pub struct Course {
    output: Arc<Output>,
    board: Arc<Board>,
    receiver: Arc<Receiver>,
    clients: Arc<tls::Clients>,
    interval: Duration,
    /// Lanes that send at the same time.
    lanes: usize,
}

impl Course {
    /// For an output with so many lanes, whose samples are collected that often.
    pub fn new(output: Arc<Output>, lanes: usize, interval: Duration, clients: Arc<tls::Clients>) -> Self {
        let receiver = Arc::new(Receiver::new(&output.to, Instant::now()));
        let board = Arc::new(Board::new(lanes, SystemTime::now()));
        Self { output, board, receiver, clients, interval, lanes }
    }

    /// A request with that body, the `attempt`th with it, from 0.
    fn request(&self, format: Format, body: Bytes, attempt: u32) -> http::Request {
        let endpoint = self.output.endpoint();
        let (path, headers) = match format {
            Format::V2 => (remote_write::path(&endpoint.url), remote_write::headers_v2(attempt)),
            Format::V1 => (remote_write::path(&endpoint.url), remote_write::headers_v1(attempt)),
            Format::OtlpHttp | Format::OtlpGrpc => {
                (otlp::path(&endpoint.url, format), otlp::headers(format, endpoint.timeout))
            }
        };
        http::Request { method: http::Method::POST, path, headers, body }
    }

    /// What is known of its sending.
    pub fn board(&self) -> Arc<Board> {
        self.board.clone()
    }

    /// What sends a lane of its queue; `place` counts from 0 among the lanes.
    pub fn sender(&self, place: usize, lane: Lane, queue: Queue) -> Sender {
        let version = match self.output.to {
            Destination::Otlp { protocol: Protocol::Grpc, .. } => http::Version::V2,
            _ => http::Version::V1,
        };
        let client = http::Client::new(self.output.endpoint(), version, self.clients.clone());
        Sender::new(self, place, Waiting::new(lane, queue), client)
    }
}

/// Sends the records of one lane.
pub struct Sender<B = Waiting, T = http::Client> {
    course: Course,
    /// Which lane.
    lane: usize,
    backlog: B,
    transport: T,
    /// The record that is under way.
    work: Option<Work>,
    /// What a receiver of 1.0 is told the metadata of, once the record is settled.
    metadata: Option<Part>,
    /// Failures since the last success, and when the first of them was.
    failures: u32,
    failing_since: Instant,
    /// Probes that failed since it was given up.
    probes: u32,
    last: Option<Failure>,
    pace: Pace,
    /// Whether the last recovery ended well.
    recovered: bool,
    live: Meter,
    sent: Meter,
    sent_total: u64,
    random: fastrand::Rng,
    /// When a refusal was logged last, and how many were not since then.
    told: Option<(Instant, u64)>,
    /// When a failure was logged last.
    told_failure: Option<Instant>,
    clock: fn() -> SystemTime,
}

impl<B: Backlog, T: Transport> Sender<B, T> {
    fn new(course: &Course, lane: usize, backlog: B, transport: T) -> Self {
        let now = Instant::now();
        let lanes = course.lanes.max(1) as u64;
        let cap = course.output.max_samples_per_second.map(|cap| cap.div_ceil(lanes));
        Self {
            lane,
            work: None,
            metadata: None,
            failures: 0,
            failing_since: now,
            probes: 0,
            last: None,
            pace: Pace::new(cap, now),
            recovered: true,
            live: Meter::new(backlog.accepted(), now),
            sent: Meter::new(0, now),
            sent_total: 0,
            random: fastrand::Rng::new(),
            told: None,
            told_failure: None,
            clock: SystemTime::now,
            course: course.clone(),
            backlog,
            transport,
        }
    }

    /// Sends until it is told to stop. A request that is under way then is waited for, as long as it may take; the future
    /// may be dropped at any time, and [`Self::drain`] called after it.
    pub async fn run(&mut self, stop: &CancellationToken) {
        // What an earlier process left goes at a pace, too.
        let mut state = if self.backlog.is_empty() { State::Live } else { State::Recovering };
        loop {
            self.enter(state);
            let next = match state {
                State::Live => self.live(stop).await,
                State::Retrying => self.retrying(stop).await,
                State::Degraded => self.degraded(stop).await,
                State::Probing => self.probing(stop).await,
                State::Recovering => self.recovering(stop).await,
            };
            match next {
                Some(next) => state = next,
                None => return,
            }
        }
    }

    /// Sends what waits, in order, until the first failure or the deadline. Nothing is tried twice.
    pub async fn drain(&mut self, until: Instant) {
        while !self.backlog.is_empty() {
            let one = async {
                self.take().await;
                self.deliver().await
            };
            if !matches!(timeout_at(until, one).await, Ok(Ok(_))) {
                return;
            }
        }
    }

    async fn live(&mut self, stop: &CancellationToken) -> Option<State> {
        loop {
            stop.run_until_cancelled(self.take()).await?;
            // After a short outage something waits here, too.
            let is_behind = self.is_behind();
            if is_behind {
                self.wait(stop, self.pace.wait(Instant::now())).await?;
            }
            match self.deliver().await {
                Ok(left) if is_behind => self.pace.capped(left.samples, left.took, Instant::now()),
                Ok(left) => self.pace.note(left.took),
                Err(failure) if failure.is_held() => return Some(State::Degraded),
                Err(_) => return Some(State::Retrying),
            }
        }
    }

    async fn retrying(&mut self, stop: &CancellationToken) -> Option<State> {
        loop {
            let after = self.last.as_ref().and_then(|failure| failure.after);
            let pause = pauses::retry(self.failures, after, self.random.f64());
            self.wait(stop, pause).await?;
            stop.run_until_cancelled(self.take()).await?;
            match self.deliver().await {
                Ok(left) => {
                    self.pace.capped(left.samples, left.took, Instant::now());
                    return Some(State::Live);
                }
                Err(failure) if failure.is_held() || self.is_down() => return Some(State::Degraded),
                Err(_) => {}
            }
        }
    }

    async fn degraded(&mut self, stop: &CancellationToken) -> Option<State> {
        self.transport.close();
        let last = self.last.as_ref();
        let (is_held, after) = last.map_or((false, None), |last| (last.is_held(), last.after));
        let pause = pauses::probe(self.probes, is_held, after, self.random.f64());
        let (receiver, begun) = (self.course.receiver.clone(), Instant::now());
        let returns = receiver.returns();
        loop {
            let left = pause.saturating_sub(begun.elapsed());
            // Another lane found it well, or there is a new token: at once.
            let is_better = receiver.returns() != returns || (is_held && self.transport.is_outdated());
            if is_better || (left.is_zero() && receiver.may_probe(pause, Instant::now())) {
                break;
            }
            self.wait(stop, if left.is_zero() { LOOK } else { left.min(LOOK) }).await?;
        }
        Some(State::Probing)
    }

    async fn probing(&mut self, stop: &CancellationToken) -> Option<State> {
        stop.run_until_cancelled(self.take()).await?;
        let outcome = self.deliver().await;
        self.course.board.probed(outcome.is_ok());
        match outcome {
            Ok(left) => {
                self.probes = 0;
                self.course.receiver.returned();
                self.pace.capped(left.samples, left.took, Instant::now());
                Some(State::Recovering)
            }
            Err(_) => {
                self.probes = self.probes.saturating_add(1);
                Some(State::Degraded)
            }
        }
    }

    async fn recovering(&mut self, stop: &CancellationToken) -> Option<State> {
        if std::mem::replace(&mut self.recovered, false) {
            self.pace.begin(self.live.rate(), Instant::now());
        } else {
            self.pace.resume(Instant::now());
        }
        loop {
            if self.backlog.is_empty() {
                break;
            }
            stop.run_until_cancelled(self.take()).await?;
            if !self.is_behind() {
                break;
            }
            self.wait(stop, self.pace.wait(Instant::now())).await?;
            let rate = self.pace.rate();
            self.course.board.note(self.lane, |lane| lane.limit = Some(rate));
            match self.deliver().await {
                Ok(left) => {
                    self.pace.count(left.samples, rate, Instant::now());
                    self.pace.succeeded(left.took, self.live.rate(), Instant::now());
                }
                // It is well, and asks us to be slower.
                Err(failure) if failure.is_throttled && !self.is_down() => {
                    self.pace.failed(Instant::now());
                    let pause = pauses::retry(self.failures, failure.after, self.random.f64());
                    self.wait(stop, pause).await?;
                }
                Err(_) => {
                    self.pace.failed(Instant::now());
                    return Some(State::Degraded);
                }
            }
        }
        self.recovered = true;
        Some(State::Live)
    }

    /// Waits, or is told to stop.
    async fn wait(&self, stop: &CancellationToken, pause: Duration) -> Option<()> {
        if stop.is_cancelled() {
            return None;
        }
        if pause.is_zero() {
            return Some(());
        }
        stop.run_until_cancelled(sleep(pause)).await
    }

    /// Has the oldest record at hand. What is known of its parts is kept where it is the one from before.
    async fn take(&mut self) {
        let entry = self.backlog.oldest().await;
        if self.work.as_ref().is_none_or(|work| work.sequence != entry.sequence) {
            self.work = Some(Work::new(entry));
        }
        let now = Instant::now();
        if self.live.is_due(now) {
            self.live.observe(self.backlog.accepted(), now);
        }
        let (lag, live) = (self.lag(), self.live.rate());
        self.course.board.note(self.lane, |lane| (lane.lag, lane.live) = (lag, live));
    }

    /// How old the newest sample of the record at hand is.
    fn lag(&self) -> Duration {
        let Some(work) = &self.work else { return Duration::ZERO };
        let newest = UNIX_EPOCH + Duration::from_millis(u64::try_from(work.max_timestamp).unwrap_or(0));
        (self.clock)().duration_since(newest).unwrap_or_default()
    }

    fn is_behind(&self) -> bool {
        self.lag() >= 2 * self.course.interval
    }

    /// Whether it failed so often, or for so long, that it is taken to be down.
    fn is_down(&self) -> bool {
        self.failures >= pauses::FAILURES || self.failing_since.elapsed() >= pauses::PATIENCE
    }

    fn enter(&mut self, state: State) {
        let reason = match state {
            State::Live | State::Recovering => None,
            _ => self.last.as_ref().map(|failure| failure.reason),
        };
        let before = self.course.board.enter(self.lane, state, reason, (self.clock)());
        if state == State::Live || state == State::Degraded {
            self.course.board.note(self.lane, |lane| lane.limit = None);
        }
        if state == State::Degraded {
            self.sent = Meter::new(self.sent_total, Instant::now());
            self.course.board.note(self.lane, |lane| lane.sent = 0.0);
        }
        let (output, lane) = (&self.course.output.name, self.lane);
        match (before, state) {
            (State::Retrying | State::Live | State::Recovering, State::Degraded) => {
                let reason = reason.map(Reason::word).unwrap_or_default();
                warn!(%output, lane, reason, "the receiver is taken to be down; samples wait");
            }
            (State::Probing, State::Recovering) => {
                info!(%output, lane, "the receiver is back; what waited is sent");
            }
            (State::Recovering, State::Live) => info!(%output, lane, "all that waited is sent"),
            (State::Retrying, State::Live) => debug!(%output, lane, "delivery goes on"),
            _ => {}
        }
    }

    /// Notes a failure.
    fn failed(&mut self, failure: Failure) {
        if self.failures == 0 {
            self.failing_since = Instant::now();
            // A receiver that fails now and then is told of now and then.
            if self.told_failure.is_none_or(|told| told.elapsed() >= attempt::QUIET) {
                self.told_failure = Some(Instant::now());
                let output = &self.course.output.name;
                warn!(%output, lane = self.lane, error = failure.text, "delivery failed");
            }
        }
        self.failures = self.failures.saturating_add(1);
        let failures = self.failures;
        self.course.board.note(self.lane, |lane| lane.consecutive_failures = failures);
        self.course.board.failed(Told { at: (self.clock)(), text: failure.text.clone() });
        self.last = Some(failure);
    }

    /// Notes a success: a record left.
    fn succeeded(&mut self, samples: u32) {
        (self.failures, self.last) = (0, None);
        self.sent_total += u64::from(samples);
        let now = Instant::now();
        if self.sent.is_due(now) {
            self.sent.observe(self.sent_total, now);
        }
        let sent = self.sent.rate();
        self.course.board.note(self.lane, |lane| (lane.consecutive_failures, lane.sent) = (0, sent));
    }
}
