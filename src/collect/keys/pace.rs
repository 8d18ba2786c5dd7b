//! How fast the keys of a server are looked at.
//!
//! A step of SCAN looks at as many keys as its COUNT says, whatever its pattern finds, and the next waits until
//! they have had their time. What the collectors of one collection do on one server counts together.
//!
//! What a newcomer would get wrong: the pause is ours. It lies between two batches, where nothing is under way, so
//! it is no silence of the server, and a collection that is given up in it leaves its connection whole.

use crate::collect::Failure;
use crate::connect::Deadline;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The pace of one collection of one server.
#[derive(Debug, Default)]
pub struct Pace {
    /// Unlimited where there is none.
    keys_per_second: Option<u32>,
    /// When the next step may begin.
    free: Option<Instant>,
}

impl Pace {
    /// So many keys a second at most, not less than one; without a number as many as the server can.
    pub fn new(keys_per_second: Option<u32>) -> Self {
        Self { keys_per_second, free: None }
    }

    /// Waits until `count` more keys may be looked at. Fails at once where that is not before the deadline.
    pub async fn wait(&mut self, count: u32, deadline: Deadline) -> Result<(), Failure> {
        let Some(at) = self.step(count, Instant::now()) else { return Ok(()) };
        if at >= deadline.end() {
            return Err(Failure::Own("there are more keys than the time reaches for at this pace".into()));
        }
        sleep_until(at).await;
        Ok(())
    }

    /// When a step of `count` keys that is wanted now may begin; `None`: at once.
    fn step(&mut self, count: u32, now: Instant) -> Option<Instant> {
        let rate = self.keys_per_second?.max(1);
        let at = self.free.map_or(now, |free| free.max(now));
        self.free = Some(at + Duration::from_secs(count.into()) / rate);
        Some(at).filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Steps of that many keys, each wanted so long after the begin, and when they may begin.
    fn check(rate: Option<u32>, steps: &[(u32, u64, u64)]) {
        let begin = Instant::now();
        let mut pace = Pace::new(rate);
        for (count, wanted, expected) in steps {
            let now = begin + ms(*wanted);
            let at = pace.step(*count, now).unwrap_or(now);
            assert_eq!(at - begin, ms(*expected), "{rate:?} {steps:?}");
        }
    }

    #[test]
    fn a_step_waits_for_the_time_of_those_before() {
        check(None, &[(1000, 0, 0), (1000, 0, 0), (10_000, 1, 1)]);
        check(Some(20_000), &[(1000, 0, 0), (1000, 0, 50), (1000, 10, 100), (1000, 120, 150)]);
        check(Some(1000), &[(10, 0, 0), (500, 3, 10), (1, 3, 510)]);
        // Time that nobody used is not saved up.
        check(Some(1000), &[(100, 0, 0), (100, 5000, 5000), (100, 5000, 5100)]);
        check(Some(0), &[(1, 0, 0), (1, 0, 1000)]);
        check(Some(u32::MAX), &[(1, 0, 0), (1, 0, 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_walk_that_cannot_be_done_in_time_ends_at_once() {
        let begin = Instant::now();
        let deadline = Deadline::until(begin + ms(1000));
        let mut pace = Pace::new(Some(1000));
        for _ in 0..10 {
            pace.wait(100, deadline).await.expect("the time reaches");
        }
        assert_eq!(begin.elapsed(), ms(900));
        assert!(pace.wait(100, deadline).await.is_err());
        assert_eq!(begin.elapsed(), ms(900));
    }
}
