//! How fast what waited is sent, so that a receiver that just came back is not thrown down again. Pure.
//!
//! What a newcomer would get wrong: it begins at twice what comes, so what waits shrinks from the first second.

use std::time::Duration;
use tokio::time::Instant;

/// How long it must go well until it goes faster.
const STEP: Duration = Duration::from_secs(10);
/// Samples a second that are sent at least.
const LEAST: f64 = 5_000.0;
/// Samples a second that are sent at least to a receiver that had trouble with more.
const CAUTIOUS: f64 = 100.0;
/// Requests that take no longer are never taken for slow.
const QUICK: Duration = Duration::from_millis(100);

/// The pace of a lane that recovers.
#[derive(Clone, Debug, PartialEq)]
pub struct Pace {
    cap: f64,
    rate: f64,
    /// Since when nothing went wrong.
    well_since: Instant,
    /// When the next record may go.
    next: Instant,
    /// How long requests take, in seconds; 0: not known.
    usual: f64,
}

impl Pace {
    /// A pace that is never above `cap` samples a second.
    pub fn new(cap: Option<u64>, now: Instant) -> Self {
        let cap = cap.map_or(f64::INFINITY, |cap| cap.max(1) as f64);
        Self { cap, rate: LEAST.min(cap), well_since: now, next: now, usual: 0.0 }
    }

    /// Begins anew, where `live` samples a second come.
    pub fn begin(&mut self, live: f64, now: Instant) {
        self.rate = (2.0 * live).max(LEAST).min(self.cap);
        (self.well_since, self.next) = (now, self.next.max(now));
    }

    /// Begins with what was left after something went wrong.
    pub fn resume(&mut self, now: Instant) {
        self.well_since = now;
    }

    /// Samples a second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// The most that is ever sent.
    pub fn cap(&self) -> f64 {
        self.cap
    }

    /// How long a record has to wait.
    pub fn wait(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// A record was sent at `now` without going through [`Self::wait`] and took `took`: says what is usual.
    pub fn note(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.usual = if self.usual == 0.0 { seconds } else { self.usual + 0.2 * (seconds - self.usual) };
    }

    /// A record of so many samples went at `now`, at that rate.
    pub fn count(&mut self, samples: u32, rate: f64, now: Instant) {
        let pause = f64::from(samples) / rate;
        // What was not used is not saved up.
        self.next = self.next.max(now) + Duration::try_from_secs_f64(pause).unwrap_or(STEP).min(6 * STEP);
    }

    /// A request succeeded.
    pub fn succeeded(&mut self, took: Duration, live: f64, now: Instant) {
        let is_slow = took > QUICK && self.usual > 0.0 && took.as_secs_f64() > 3.0 * self.usual;
        self.note(took);
        if is_slow {
            self.failed(now);
        } else if now.duration_since(self.well_since) >= STEP {
            self.rate = (2.0 * self.rate).max(2.0 * live).min(self.cap);
            self.well_since = now;
        }
    }

    /// Something went wrong: half of it.
    pub fn failed(&mut self, now: Instant) {
        self.rate = (self.rate / 2.0).max(CAUTIOUS).min(self.cap);
        self.well_since = now;
    }
}

/// How many a second, lately.
#[derive(Clone, Debug, PartialEq)]
pub struct Meter {
    total: u64,
    since: Instant,
    rate: Option<f64>,
}

/// The shortest time that a rate is taken over.
const WINDOW: Duration = Duration::from_secs(5);

impl Meter {
    /// Begins at that total.
    pub fn new(total: u64, now: Instant) -> Self {
        Self { total, since: now, rate: None }
    }

    /// Whether it is worth looking at the total.
    pub fn is_due(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= WINDOW
    }

    /// The total is that now.
    pub fn observe(&mut self, total: u64, now: Instant) {
        let passed = now.duration_since(self.since);
        if passed < WINDOW {
            return;
        }
        let rate = total.saturating_sub(self.total) as f64 / passed.as_secs_f64();
        // Half a minute weighs as much as all before it.
        let weight = 1.0 - 0.5_f64.powf(passed.as_secs_f64() / 15.0);
        self.rate = Some(self.rate.map_or(rate, |before| before + weight * (rate - before)));
        (self.total, self.since) = (total, now);
    }

    /// How many a second; 0 where that is not known yet.
    pub fn rate(&self) -> f64 {
        self.rate.unwrap_or(0.0)
    }
}
