//! How long is waited before a record is tried again, and before a receiver that is down is probed. Pure.
//!
//! What a newcomer would get wrong: the jitter is a tenth and no more. With full jitter a pause may be shorter than the one
//! before, which receivers and the test suite of Prometheus take for a client that does not back off.

use std::time::Duration;

/// Failures in a row after which a receiver is taken to be down.
pub const FAILURES: u32 = 5;
/// How long failures may last until it is.
pub const PATIENCE: Duration = Duration::from_secs(60);

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// The first probes come sooner, so that the end of a short outage is seen in seconds.
const PROBES: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(10), Duration::from_secs(20), LONGEST];

/// The pause after that many failures in a row, from 1; `random` is from 0 to 1. A receiver that says when is not asked before.
pub fn retry(failures: u32, after: Option<Duration>, random: f64) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    jittered(doubled.min(LONGEST), random).max(after.unwrap_or_default())
}

/// The pause before a probe, after so many of them failed. Who refuses us is not asked sooner than at the full pause: it will
/// not think better of it in seconds.
pub fn probe(failed: u32, is_held: bool, after: Option<Duration>, random: f64) -> Duration {
    let pause = PROBES.get(failed as usize).filter(|_| !is_held).unwrap_or(&LONGEST);
    jittered(*pause, random).max(after.unwrap_or_default())
}

fn jittered(pause: Duration, random: f64) -> Duration {
    let random = if random.is_finite() { random.clamp(0.0, 1.0) } else { 0.5 };
    pause.mul_f64(0.9 + 0.2 * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        fn check(failures: u32, after: Option<u64>, random: f64, expected: Duration) {
            assert_eq!(
                retry(failures, after.map(Duration::from_secs), random),
                expected,
                "{failures} {random}"
            );
        }
        check(0, None, 0.5, ms(250));
        check(1, None, 0.5, ms(250));
        check(2, None, 0.5, ms(500));
        check(7, None, 0.5, ms(16_000));
        check(8, None, 0.5, ms(30_000));
        check(u32::MAX, None, 0.5, ms(30_000));
        check(1, None, 0.0, ms(225));
        check(1, None, 1.0, ms(275));
        check(1, None, f64::NAN, ms(250));
        check(1, None, 9.0, ms(275));
        check(1, Some(7), 0.5, ms(7_000));
        check(8, Some(7), 0.5, ms(30_000));
    }

    #[test]
    fn no_pause_is_shorter_than_four_fifths_of_the_one_before() {
        for failures in 1..20 {
            let shortest = retry(failures + 1, None, 0.0);
            assert!(shortest >= retry(failures, None, 1.0).mul_f64(0.8), "{failures}");
        }
    }

    #[test]
    fn the_first_probes_come_sooner_but_not_where_we_are_refused() {
        fn check(failed: u32, is_held: bool, after: Option<u64>, expected: Duration) {
            assert_eq!(probe(failed, is_held, after.map(Duration::from_secs), 0.5), expected);
        }
        check(0, false, None, ms(5_000));
        check(1, false, None, ms(10_000));
        check(2, false, None, ms(20_000));
        check(3, false, None, ms(30_000));
        check(u32::MAX, false, None, ms(30_000));
        check(0, true, None, ms(30_000));
        check(0, false, Some(60), ms(60_000));
    }

    #[test]
    fn many_senders_do_not_come_at_once() {
        let mut random = fastrand::Rng::with_seed(1);
        let pauses: Vec<_> = (0..1_000).map(|_| probe(9, false, None, random.f64())).collect();
        assert!(pauses.iter().all(|pause| (ms(27_000)..=ms(33_000)).contains(pause)));
        let second = |n: u64| pauses.iter().filter(|p| p.as_secs() == n).count();
        assert!((27..33).all(|n| second(n) > 100), "{:?}", (27..33).map(second).collect::<Vec<_>>());
    }
}
