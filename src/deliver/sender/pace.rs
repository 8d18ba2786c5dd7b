//! How fast what waited is sent, so that a receiver that just came back is not thrown down again. Pure.
//!
//! What a newcomer would get wrong: it begins at twice what comes, so what waits shrinks from the first second. And a
//! receiver that is slow, which may be the machine's doing, never makes it slower than what comes: one request at a
//! time is slow by itself then. Only one that says so (429, 5xx) does.

use std::time::Duration;
use tokio::time::Instant;

/// How long it must go well until it goes faster.
const STEP: Duration = Duration::from_secs(10);
/// Samples a second that are sent at least.
const LEAST: f64 = 5_000.0;
/// Samples a second that are sent at least to a receiver that had trouble with more.
const CAUTIOUS: f64 = 100.0;
/// So many times what comes is sent at least, unless the receiver had trouble.
const AHEAD: f64 = 1.25;
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
    /// Whether the receiver had trouble since it was last made faster.
    had_trouble: bool,
}

impl Pace {
    /// A pace that is never above `cap` samples a second.
    pub fn new(cap: Option<u64>, now: Instant) -> Self {
        let cap = cap.map_or(f64::INFINITY, |cap| cap.max(1) as f64);
        Self { cap, rate: LEAST.min(cap), well_since: now, next: now, usual: 0.0, had_trouble: false }
    }

    /// Begins anew, where `live` samples a second come.
    pub fn begin(&mut self, live: f64, now: Instant) {
        self.rate = (2.0 * live).max(LEAST).min(self.cap);
        (self.well_since, self.next, self.had_trouble) = (now, self.next.max(now), false);
    }

    /// Begins with what was left after something went wrong.
    pub fn resume(&mut self, now: Instant) {
        self.well_since = now;
    }

    /// Samples a second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// How long a record has to wait.
    pub fn wait(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// A request succeeded that was not for what waited: tells what is usual.
    pub fn note(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.usual = if self.usual == 0.0 { seconds } else { self.usual + 0.2 * (seconds - self.usual) };
    }

    /// A record of what waited went outside of a recovery, as fast as is allowed.
    pub fn capped(&mut self, samples: u32, took: Duration, now: Instant) {
        self.note(took);
        self.count(samples, self.cap, now);
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
            (self.rate, self.well_since) = (self.rate / 2.0, now);
        } else if now.duration_since(self.well_since) >= STEP {
            self.rate = (2.0 * self.rate).max(2.0 * live);
            (self.well_since, self.had_trouble) = (now, false);
        }
        let least = if self.had_trouble { CAUTIOUS } else { (AHEAD * live).max(LEAST) };
        self.rate = self.rate.max(least).min(self.cap);
    }

    /// Something went wrong: half of it.
    pub fn failed(&mut self, now: Instant) {
        self.rate = (self.rate / 2.0).max(CAUTIOUS).min(self.cap);
        (self.well_since, self.had_trouble) = (now, true);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_begins_at_twice_what_comes_and_doubles_while_it_goes_well() {
        let start = Instant::now();
        let check = |cap: Option<u64>, live: f64, expected: [f64; 4]| {
            let mut pace = Pace::new(cap, start);
            pace.begin(live, start);
            let mut rates = vec![pace.rate()];
            for step in 1..=3 {
                pace.succeeded(ms(10), live, start + STEP * step - ms(1));
                pace.succeeded(ms(10), live, start + STEP * step);
                rates.push(pace.rate());
            }
            assert_eq!(rates, expected, "{cap:?} {live}");
        };
        check(None, 10_000.0, [20_000.0, 40_000.0, 80_000.0, 160_000.0]);
        check(None, 0.0, [5_000.0, 10_000.0, 20_000.0, 40_000.0]);
        check(Some(30_000), 10_000.0, [20_000.0, 30_000.0, 30_000.0, 30_000.0]);
        check(Some(10), 10_000.0, [10.0; 4]);
        check(Some(0), 10_000.0, [1.0; 4]);
    }

    #[test]
    fn it_halves_when_it_goes_badly_but_never_stops() {
        let now = Instant::now();
        let mut pace = Pace::new(None, now);
        pace.begin(10_000.0, now);
        pace.failed(now);
        assert_eq!(pace.rate(), 10_000.0);
        for _ in 0..100 {
            pace.failed(now);
        }
        assert_eq!(pace.rate(), CAUTIOUS);
        // The way back is by what comes now.
        pace.succeeded(ms(1), 10_000.0, now + STEP);
        assert_eq!(pace.rate(), 20_000.0);
    }

    #[test]
    fn a_request_that_is_slower_than_usual_halves_it() {
        let now = Instant::now();
        let check = |usual: u64, took: u64, expected: f64| {
            let mut pace = Pace::new(None, now);
            pace.begin(10_000.0, now);
            for _ in 0..20 {
                pace.succeeded(ms(usual), 1_000.0, now);
            }
            pace.succeeded(ms(took), 1_000.0, now);
            assert_eq!(pace.rate(), expected, "{usual} {took}");
        };
        check(50, 151, 10_000.0);
        check(50, 149, 20_000.0);
        check(1, 100, 20_000.0);
        check(1, 101, 10_000.0);
    }

    #[test]
    fn slow_requests_never_make_it_slower_than_what_comes_and_trouble_does() {
        let now = Instant::now();
        let mut pace = Pace::new(None, now);
        // Nothing is known of what comes; then it is known, and it is more.
        pace.begin(0.0, now);
        pace.succeeded(ms(10), 20_000.0, now);
        assert_eq!(pace.rate(), 25_000.0);
        for took in [200, 2_000, 20_000] {
            pace.succeeded(ms(took), 20_000.0, now);
            assert_eq!(pace.rate(), 25_000.0, "{took}");
        }
        pace.failed(now);
        pace.succeeded(ms(1), 20_000.0, now);
        assert_eq!(pace.rate(), 12_500.0);
        pace.succeeded(ms(1), 20_000.0, now + STEP);
        assert_eq!(pace.rate(), 40_000.0);
    }

    #[test]
    fn records_wait_as_long_as_their_samples_ask_for_and_nothing_is_saved_up() {
        let now = Instant::now();
        let mut pace = Pace::new(None, now);
        assert_eq!(pace.wait(now), Duration::ZERO);
        pace.count(500, 1_000.0, now);
        assert_eq!(pace.wait(now), ms(500));
        pace.count(500, 1_000.0, now);
        assert_eq!(pace.wait(now), seconds(1));
        pace.count(500, 1_000.0, now + seconds(100));
        assert_eq!(pace.wait(now + seconds(100)), ms(500));
        pace.count(u32::MAX, 1.0, now + seconds(200));
        assert_eq!(pace.wait(now + seconds(200)), 6 * STEP);
        pace.count(5, f64::INFINITY, now + seconds(300));
        assert_eq!(pace.wait(now + seconds(300)), Duration::ZERO);
    }

    #[test]
    fn a_meter_follows_what_comes() {
        let start = Instant::now();
        let mut meter = Meter::new(1_000, start);
        assert_eq!(meter.rate(), 0.0);
        meter.observe(2_000, start + seconds(4));
        assert_eq!(meter.rate(), 0.0, "too short to tell");
        meter.observe(2_000, start + seconds(10));
        assert_eq!(meter.rate(), 100.0);
        for step in 2..20 {
            meter.observe(2_000 + 3_000 * (step - 1), start + seconds(10 * step));
        }
        assert!((290.0..=300.0).contains(&meter.rate()), "{}", meter.rate());
        meter.observe(0, start + seconds(1_000));
        assert!(meter.rate() < 1.0);
    }
}
