//! When a group is due: at the same moment of every interval, by the wall clock.
//!
//! The moment follows from the name alone, by a hash that is the same in every version and build. So it is the same after a
//! restart and in every copy of this exporter, and who takes a group over goes on where the one before left off.
//!
//! What a newcomer would get wrong: the standard library's hasher promises neither.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

/// A moment of the interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(u64);

impl Moment {
    /// That of a name in parts; `None` is another part than an empty one. Part of the agreement among copies of different
    /// versions: it never changes.
    pub fn of(parts: &[Option<&str>]) -> Self {
        let mut name = vec![];
        for part in parts {
            // No text has such bytes.
            name.push(if part.is_some() { 0xff } else { 0xfe });
            name.extend_from_slice(part.unwrap_or_default().as_bytes());
        }
        Self(xxh3_64(&name))
    }

    /// When it comes next.
    pub fn next(self, interval: Duration, now: Instant) -> Instant {
        now + span(to_next(self.0.into(), interval.as_nanos().max(1), clock()))
    }

    /// How long until the first one at or behind `left`, in milliseconds since 1970; `None`: it has passed. A clock that is ahead
    /// of ours by more than an interval is not believed.
    pub fn after(self, interval: Duration, left: u64) -> Option<Duration> {
        let (interval, now) = (interval.as_nanos().max(1), clock());
        let left = (u128::from(left) * 1_000_000).min(now + interval);
        let first = left + to_next(self.0.into(), interval, left);
        first.checked_sub(now).filter(|wait| *wait > 0).map(span)
    }
}

/// Milliseconds since 1970.
pub(super) fn milliseconds() -> u64 {
    u64::try_from(clock() / 1_000_000).unwrap_or(u64::MAX)
}

/// Nanoseconds since 1970.
fn clock() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

fn span(nanoseconds: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}

/// How long until the clock shows the moment of the interval that belongs to `hash`.
fn to_next(hash: u128, interval: u128, clock: u128) -> u128 {
    (hash % interval + interval - clock % interval) % interval
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_comes_once_in_every_interval() {
        fn check(hash: u128, clock: u128, expected: u128) {
            assert_eq!(to_next(hash, 15, clock), expected, "{hash} {clock}");
        }
        check(0, 0, 0);
        check(4, 0, 4);
        check(4, 3, 1);
        check(4, 4, 0);
        check(4, 5, 14);
        check(34, 15, 4);
        for clock in 0..60 {
            assert_eq!((clock + to_next(7, 15, clock)) % 15, 7);
        }
    }

    #[test]
    fn a_name_has_the_same_moment_for_ever() {
        let names: [&[Option<&str>]; 4] =
            [&[], &[Some("cache"), None], &[Some("cache"), Some("")], &[Some("cache"), Some("mymaster")]];
        let moments = names.map(|name| Moment::of(name).0);
        // That of nothing is in the specification: <https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>.
        let [nothing, others @ ..] = moments;
        assert_eq!(nothing, 0x2d06_8005_38d3_94c2);
        assert_eq!(others, [13361975336250992826, 8101464152312844126, 5328910278874609309]);
    }

    #[test]
    fn the_first_moment_behind_a_time_has_passed_or_comes_within_an_interval() {
        let interval = Duration::from_secs(3600);
        let moment = Moment::of(&[Some("cache")]);
        let wait = moment.next(interval, Instant::now()) - Instant::now();
        let ago = |by: Duration| milliseconds() - u64::try_from(by.as_millis()).expect("it fits");
        // Of now, it is the next one; of before the last one, it has passed.
        let now = moment.after(interval, milliseconds()).expect("it comes");
        assert!(now.abs_diff(wait) < Duration::from_secs(60), "{now:?} {wait:?}");
        assert_eq!(moment.after(interval, ago(interval)), None);
        assert_eq!(moment.after(interval, 0), None);
        // Who is ahead of us by a little begins later, and by very much is not believed.
        let ahead = moment.after(interval, milliseconds() + 1000).expect("it comes");
        assert!(ahead <= interval + Duration::from_secs(2), "{ahead:?}");
        assert!(moment.after(interval, u64::MAX).expect("it comes") <= interval * 2);
    }
}
