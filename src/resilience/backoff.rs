//! How often one collection tries, and how long it pauses in between.
//!
//! Whether a kind of failure is worth another try is said where the kinds are ([`Retry`] is the answer);
//! the pause between collections of a dead target is the business of [`super::breaker`].

use super::health::State;
use std::time::Duration;

/// Whether a failure is worth another try within the same collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It may be gone in a moment: refused, reset, a dial that took too long.
    Transient,
    /// It will be the same in a moment: DNS, a wrong password, a reply that did not come in time.
    Never,
}

/// Exponential pauses with full jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest that the first pause may be; it doubles from one to the next.
    pub base: Duration,
    /// The longest that any pause may be.
    pub max: Duration,
    /// How often is tried in all, the first time included.
    pub attempts: u32,
}

impl Backoff {
    /// For a target that may have a hiccup: half a second of pauses at most, since somebody waits to hear
    /// that a dead one is dead.
    pub const HICCUP: Self =
        Self { base: Duration::from_millis(70), max: Duration::from_secs(1), attempts: 4 };

    /// For a target whose failure lasts: the next tick is the next try.
    pub const ONCE: Self = Self { attempts: 1, ..Self::HICCUP };

    /// For a target that is in that state when its collection begins. Who failed the last time, in a failover too,
    /// has the next tick for its next try.
    pub const fn of(state: State) -> Self {
        match state {
            State::Suspect | State::Down | State::Failover => Self::ONCE,
            State::Unknown | State::Ok | State::Loading | State::MasterDown => Self::HICCUP,
        }
    }

    /// The pause after the `attempt`th try failed, counted from 1: between nothing and
    /// `min(max, base * 2^(attempt - 1))`, where `random` says, from 0 to 1.
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        part(self.base.saturating_mul(doubled).min(self.max), random)
    }

    /// The pause before the next try, after the `attempt`th one failed with `left` until the deadline.
    /// `None`: it was the last one, another is not worth it, or the time does not reach.
    pub fn next(&self, retry: Retry, attempt: u32, left: Duration, random: f64) -> Option<Duration> {
        if retry == Retry::Never || attempt >= self.attempts {
            return None;
        }
        Some(self.delay(attempt, random)).filter(|delay| *delay < left)
    }
}

/// How long one dial may take with `left` until the deadline: at most a second, and a third of what is left,
/// so that a lost packet leaves time for a second and a third try.
pub fn dial_limit(left: Duration) -> Duration {
    (left / 3).min(Duration::from_secs(1))
}

/// That part of the whole. What is no number from 0 to 1 counts as 1.
pub(super) fn part(whole: Duration, share: f64) -> Duration {
    if !(0.0..1.0).contains(&share) {
        return whole;
    }
    Duration::try_from_secs_f64(whole.as_secs_f64() * share).unwrap_or(whole).min(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { base: Duration::from_millis(100), max: Duration::from_millis(350), attempts: 5 };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        fn check(attempt: u32, random: f64, expected: Duration) {
            assert_eq!(BACKOFF.delay(attempt, random), expected, "{attempt} {random}");
        }
        check(1, 1.0, ms(100));
        check(2, 1.0, ms(200));
        check(3, 1.0, ms(350));
        check(4, 1.0, ms(350));
        check(u32::MAX, 1.0, ms(350));
        check(0, 1.0, ms(100));
        check(1, 0.0, Duration::ZERO);
        check(2, 0.5, ms(100));
        check(3, 0.5, ms(175));
    }

    #[test]
    fn no_number_makes_a_pause_longer_than_the_longest() {
        for random in [f64::NAN, f64::INFINITY, -1.0, 7.0, 1.0, 0.999_999_999, f64::MIN_POSITIVE] {
            for base in [Duration::ZERO, ms(1), Duration::MAX] {
                for max in [Duration::ZERO, ms(1), Duration::MAX] {
                    let backoff = Backoff { base, max, attempts: 3 };
                    for attempt in [0, 1, 2, 31, 32, 33, u32::MAX] {
                        assert!(backoff.delay(attempt, random) <= max);
                    }
                }
            }
        }
    }

    #[test]
    fn full_jitter_uses_the_whole_pause() {
        let mut random = fastrand::Rng::with_seed(1);
        let delays: Vec<_> = (0..1_000).map(|_| BACKOFF.delay(2, random.f64())).collect();
        assert!(delays.iter().all(|delay| *delay <= ms(200)));
        let quarter = |n: u32| delays.iter().filter(|d| **d >= ms(50) * n && **d < ms(50) * (n + 1)).count();
        assert!((0..4).all(|n| quarter(n) > 150), "{:?}", (0..4).map(quarter).collect::<Vec<_>>());
    }

    #[test]
    fn tries_end_with_their_number_with_the_time_and_with_what_lasts() {
        fn check(retry: Retry, attempt: u32, left: Duration, expected: Option<Duration>) {
            assert_eq!(BACKOFF.next(retry, attempt, left, 1.0), expected, "{retry:?} {attempt} {left:?}");
        }
        check(Retry::Transient, 1, ms(5_000), Some(ms(100)));
        check(Retry::Transient, 4, ms(5_000), Some(ms(350)));
        check(Retry::Transient, 5, ms(5_000), None);
        check(Retry::Transient, 6, ms(5_000), None);
        check(Retry::Transient, 1, ms(101), Some(ms(100)));
        check(Retry::Transient, 1, ms(100), None);
        check(Retry::Transient, 1, Duration::ZERO, None);
        check(Retry::Never, 1, ms(5_000), None);
    }

    #[test]
    fn a_target_that_fails_already_is_tried_once() {
        fn check(state: State, tries: u32) {
            let backoff = Backoff::of(state);
            let mut attempt = 1;
            while backoff.next(Retry::Transient, attempt, ms(5_000), 0.5).is_some() {
                attempt += 1;
            }
            assert_eq!(attempt, tries, "{state:?}");
        }
        for state in State::ALL {
            check(state, if matches!(state, State::Suspect | State::Down | State::Failover) { 1 } else { 4 });
        }
    }

    #[test]
    fn a_dial_takes_at_most_a_second_and_a_third_of_what_is_left() {
        fn check(left: Duration, expected: Duration) {
            assert_eq!(dial_limit(left), expected);
        }
        check(ms(5_000), ms(1_000));
        check(ms(3_000), ms(1_000));
        check(ms(2_999), Duration::from_micros(999_666) + Duration::from_nanos(666));
        check(ms(300), ms(100));
        check(Duration::ZERO, Duration::ZERO);
        check(Duration::MAX, ms(1_000));
    }
}
