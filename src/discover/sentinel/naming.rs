//! How many servers are told by name in a while. Pure.
//!
//! What a newcomer would get wrong: one Sentinel can invent hundreds of servers with each answer, and other ones
//! with the next. Told one by one they would push all else out of the event log.

use std::time::{Duration, Instant};

/// So many are told by name in one round; of the others, how many there are.
const BY_NAME: usize = 10;

/// How long a round is.
const ROUND: Duration = Duration::from_secs(60);

/// What was told in this round.
#[derive(Debug, Default)]
pub struct Naming {
    began: Option<Instant>,
    named: usize,
    unnamed: usize,
}

impl Naming {
    /// Begins the next round where this one is over. How many were not named in it.
    pub fn turn(&mut self, now: Instant) -> usize {
        if self.began.is_some_and(|began| now.saturating_duration_since(began) < ROUND) {
            return 0;
        }
        std::mem::replace(self, Self { began: Some(now), ..Self::default() }).unnamed
    }

    /// How many of these may be named. Whoever asks tells himself how many others there are.
    pub fn names(&mut self, wanted: usize) -> usize {
        let named = wanted.min(BY_NAME - self.named);
        self.named += named;
        named
    }

    /// Whether one may be named. One that may not is counted.
    pub fn names_one(&mut self) -> bool {
        let may = self.names(1) == 1;
        self.unnamed += usize::from(!may);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_are_named_in_a_round_and_the_others_are_counted() {
        let start = Instant::now();
        let mut naming = Naming::default();
        let mut check = |at: u64, wanted: usize, named: usize, unnamed_before: usize| {
            let now = start + Duration::from_secs(at);
            assert_eq!(naming.turn(now), unnamed_before, "after {at} s");
            let found = (0..wanted).filter(|_| naming.names_one()).count();
            assert_eq!(found, named, "after {at} s");
        };
        check(0, 7, 7, 0);
        check(1, 7, 3, 0);
        check(59, 500, 0, 0);
        check(60, 2, 2, 504);
        check(120, 0, 0, 0);
        check(180, 1, 1, 0);
        assert_eq!(naming.names(30), 9);
        assert_eq!(naming.names(30), 0);
        assert_eq!(naming.turn(start + Duration::from_secs(240)), 0);
    }
}
