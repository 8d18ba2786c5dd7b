//! Whether a target that is down is asked at all.
//!
//! The breaker stands beside health and follows it: it opens only when a target *is* down, so it never makes
//! one down. While it is open, who asks is answered at once; now and then one whole collection is let
//! through. What it answers is no collection: the state and the reason of the target stay what they were.
//! Each target has its own; targets share none.

use super::backoff::{Retry, part};
use crate::config::resilience::Breaker as Config;
use std::time::{Duration, Instant};

/// What a breaker does. The words are label values: they stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Everything is let through.
    Closed,
    /// Nothing is let through before the pause is over.
    Open,
    /// One collection is let through, and its outcome awaited.
    HalfOpen,
}

impl State {
    /// Every state, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Who wants a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Our own clock.
    Tick,
    /// A request. Somebody waits for the answer.
    Pull,
}

/// What to do for who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Collect, and say what came of it: [`Breaker::after`], or [`Breaker::give_up`].
    Collect,
    /// Answer with what is known.
    Answer,
}

/// How a collection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server lives: the collection was whole, or it said LOADING or MASTERDOWN.
    Alive,
    /// It failed, and the target is not down (yet): suspect, or excused by a failover.
    Failed,
    /// It failed, and the target is down. With [`Retry::Never`] the pause is the longest at once: a wrong
    /// password or a missing name is not mended within a second.
    Down(Retry),
}

/// The breaker of one target.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    /// When the pause began.
    paused_at: Option<Instant>,
    /// How long it is.
    pause: Duration,
    /// How long it would have been without jitter; zero before the first.
    step: Duration,
    /// When the last collection was let through.
    asked_at: Option<Instant>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

impl Breaker {
    /// A closed one.
    pub const fn new() -> Self {
        Self {
            state: State::Closed,
            paused_at: None,
            pause: Duration::ZERO,
            step: Duration::ZERO,
            asked_at: None,
        }
    }

    /// What it does now.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether to collect. `interval` is the time between two ticks of this target.
    ///
    /// A pull that comes an interval or more after the last collection was let through is always let
    /// through, so a server that is pulled once an interval is never answered from memory. A probe of which
    /// nothing was heard for an interval counts as ended.
    pub fn ask(&mut self, now: Instant, asker: Asker, interval: Duration) -> Decision {
        let since = |at: Option<Instant>| at.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        let long_ago = since(self.asked_at) >= interval;
        let goes = match self.state {
            State::Closed => true,
            State::Open => since(self.paused_at) >= self.pause || asker == Asker::Pull && long_ago,
            State::HalfOpen => long_ago,
        };
        if !goes {
            return Decision::Answer;
        }
        self.asked_at = Some(now);
        if self.state == State::Open {
            self.state = State::HalfOpen;
        }
        Decision::Collect
    }

    /// Takes in how a collection ended. `random`, from 0 to 1, spreads the pauses, so that targets which
    /// went down together are not tried together.
    ///
    /// A pause is between half and all of its step; the steps double from `breaker.pause` to
    /// `breaker.max_pause` or two intervals, whichever is less.
    pub fn after(
        &mut self,
        outcome: Outcome,
        config: &Config,
        interval: Duration,
        now: Instant,
        random: f64,
    ) {
        let Outcome::Down(retry) = outcome else {
            // `asked_at` stays true, and is not looked at while closed.
            *self = Self { asked_at: self.asked_at, ..Self::new() };
            return;
        };
        if self.state == State::Open {
            // A collection that began before it opened: the pause is under way already.
            return;
        }
        let longest = interval.saturating_mul(2).min(config.max_pause);
        let next = match retry {
            Retry::Never => longest,
            Retry::Transient => config.pause.max(self.step.saturating_mul(2)),
        };
        self.step = next.min(longest);
        self.pause = self.step / 2 + part(self.step / 2, random);
        self.paused_at = Some(now);
        self.state = State::Open;
    }

    /// The collection that was let through was dropped before it ended. Who asks next may try.
    pub fn give_up(&mut self) {
        if self.state == State::HalfOpen {
            self.state = State::Open;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Asker::{Pull, Tick};

    const INTERVAL: Duration = Duration::from_secs(15);
    const DOWN: Outcome = Outcome::Down(Retry::Transient);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    enum Step {
        /// Somebody asks, and is let through or not.
        Ask(Asker, Decision),
        /// A collection ends.
        After(Outcome),
        GiveUp,
    }
    use Decision::{Answer, Collect};
    use Step::{After, Ask, GiveUp};

    /// Runs steps at their milliseconds, with the pauses at their longest, and looks at the state after each.
    fn check(steps: &[(u64, Step, State)]) {
        let start = Instant::now();
        let mut breaker = Breaker::new();
        for (number, (at, step, state)) in steps.iter().enumerate() {
            let now = start + ms(*at);
            match step {
                Ask(asker, decision) => {
                    assert_eq!(breaker.ask(now, *asker, INTERVAL), *decision, "step {number}");
                }
                After(outcome) => breaker.after(*outcome, &Config::default(), INTERVAL, now, 1.0),
                GiveUp => breaker.give_up(),
            }
            assert_eq!(breaker.state(), *state, "step {number}");
        }
    }

    use State::{Closed, HalfOpen, Open};

    #[test]
    fn it_lets_everything_through_until_the_target_is_down() {
        check(&[
            (0, Ask(Tick, Collect), Closed),
            (0, Ask(Pull, Collect), Closed),
            (1, After(Outcome::Alive), Closed),
            (2, After(Outcome::Failed), Closed),
            (3, After(Outcome::Failed), Closed),
            (3, Ask(Tick, Collect), Closed),
            (4, After(DOWN), Open),
        ]);
    }

    #[test]
    fn it_answers_while_open_and_probes_once_after_the_pause() {
        check(&[
            (0, Ask(Tick, Collect), Closed),
            (0, After(DOWN), Open),
            (1, Ask(Tick, Answer), Open),
            (1, Ask(Pull, Answer), Open),
            (999, Ask(Tick, Answer), Open),
            (1_000, Ask(Tick, Collect), HalfOpen),
            (1_000, Ask(Tick, Answer), HalfOpen),
            (1_001, Ask(Pull, Answer), HalfOpen),
            (1_002, After(Outcome::Alive), Closed),
            (1_002, Ask(Tick, Collect), Closed),
        ]);
    }

    #[test]
    fn pauses_double_to_the_longest_and_begin_anew_after_a_success() {
        check(&[
            (0, After(DOWN), Open),
            (1_000, Ask(Tick, Collect), HalfOpen),
            (1_000, After(DOWN), Open),
            (2_999, Ask(Tick, Answer), Open),
            (3_000, Ask(Tick, Collect), HalfOpen),
            (3_000, After(DOWN), Open),
            (6_999, Ask(Tick, Answer), Open),
            (7_000, Ask(Tick, Collect), HalfOpen),
            (7_000, After(DOWN), Open),
            (14_999, Ask(Tick, Answer), Open),
            (15_000, Ask(Tick, Collect), HalfOpen),
            (15_000, After(DOWN), Open),
            (24_999, Ask(Tick, Answer), Open),
            (25_000, Ask(Tick, Collect), HalfOpen),
            (25_000, After(DOWN), Open),
            (34_999, Ask(Tick, Answer), Open),
            (35_000, Ask(Tick, Collect), HalfOpen),
            (35_000, After(Outcome::Alive), Closed),
            (40_000, After(DOWN), Open),
            (40_999, Ask(Tick, Answer), Open),
            (41_000, Ask(Tick, Collect), HalfOpen),
        ]);
    }

    #[test]
    fn a_pull_an_interval_after_the_last_collection_goes_through_and_a_tick_does_not() {
        let mut breaker = Breaker::new();
        let start = Instant::now();
        let config = Config { pause: ms(60_000), max_pause: ms(60_000) };
        assert_eq!(breaker.ask(start, Tick, INTERVAL), Collect);
        // The collection took 5 s; the interval counts from its begin.
        breaker.after(DOWN, &config, INTERVAL, start + ms(5_000), 1.0);
        assert_eq!(breaker.ask(start + ms(14_999), Pull, INTERVAL), Answer);
        assert_eq!(breaker.ask(start + ms(15_000), Tick, INTERVAL), Answer);
        assert_eq!(breaker.ask(start + ms(15_000), Pull, INTERVAL), Collect);
        assert_eq!(breaker.ask(start + ms(15_000), Pull, INTERVAL), Answer, "one at a time");
        assert_eq!(breaker.state(), HalfOpen);
    }

    #[test]
    fn a_target_that_is_not_down_any_more_closes_it() {
        for outcome in [Outcome::Failed, Outcome::Alive] {
            check(&[
                (0, After(DOWN), Open),
                (1_000, Ask(Tick, Collect), HalfOpen),
                (1_001, After(outcome), Closed),
                (1_002, After(DOWN), Open),
                (2_001, Ask(Tick, Answer), Open),
                (2_002, Ask(Tick, Collect), HalfOpen),
            ]);
            check(&[(0, After(DOWN), Open), (1, After(outcome), Closed)]);
        }
    }

    #[test]
    fn a_probe_that_is_dropped_does_not_wedge_it() {
        check(&[
            (0, After(DOWN), Open),
            (1_000, Ask(Pull, Collect), HalfOpen),
            (1_100, GiveUp, Open),
            (1_100, Ask(Tick, Collect), HalfOpen),
            (1_200, After(DOWN), Open),
            (3_199, Ask(Tick, Answer), Open),
            (3_200, Ask(Tick, Collect), HalfOpen),
        ]);
        check(&[
            (0, GiveUp, Closed),
            (1, After(DOWN), Open),
            (2, GiveUp, Open),
            (3, Ask(Tick, Answer), Open),
        ]);
    }

    #[test]
    fn a_probe_of_which_nothing_was_heard_for_an_interval_has_ended() {
        check(&[
            (0, After(DOWN), Open),
            (1_000, Ask(Tick, Collect), HalfOpen),
            (15_999, Ask(Pull, Answer), HalfOpen),
            (15_999, Ask(Tick, Answer), HalfOpen),
            (16_000, Ask(Tick, Collect), HalfOpen),
            (16_001, Ask(Tick, Answer), HalfOpen),
        ]);
    }

    #[test]
    fn a_late_outcome_does_not_make_the_pause_longer() {
        check(&[
            (0, After(DOWN), Open),
            (900, After(DOWN), Open),
            (1_000, Ask(Tick, Collect), HalfOpen),
            (1_000, After(DOWN), Open),
            (3_000, Ask(Tick, Collect), HalfOpen),
        ]);
    }

    #[test]
    fn what_is_not_mended_soon_gets_the_longest_pause_at_once() {
        check(&[
            (0, After(Outcome::Down(Retry::Never)), Open),
            (9_999, Ask(Tick, Answer), Open),
            (10_000, Ask(Tick, Collect), HalfOpen),
        ]);
    }

    #[test]
    fn a_pause_is_half_its_step_or_more_and_never_over_the_longest() {
        fn check(config: Config, interval: Duration, longest: Duration) {
            let mut random = fastrand::Rng::with_seed(7);
            let now = Instant::now();
            let mut breaker = Breaker::new();
            let mut step = Duration::ZERO;
            for _ in 0..200 {
                step = config.pause.max(step.saturating_mul(2)).min(longest);
                breaker.after(DOWN, &config, interval, now, random.f64());
                assert!((step / 2..=step).contains(&breaker.pause), "{:?} of {step:?}", breaker.pause);
                breaker.state = HalfOpen;
            }
            assert_eq!(step, longest, "the steps got there");
        }
        check(Config::default(), INTERVAL, ms(10_000));
        check(Config::default(), ms(1_000), ms(2_000));
        check(Config { pause: ms(60_000), max_pause: ms(3_000) }, INTERVAL, ms(3_000));
        check(Config { pause: Duration::MAX, max_pause: Duration::MAX }, Duration::MAX, Duration::MAX);
        check(Config::default(), Duration::ZERO, Duration::ZERO);
    }

    #[test]
    fn targets_that_went_down_together_are_not_tried_together() {
        let mut random = fastrand::Rng::with_seed(3);
        let pauses: std::collections::BTreeSet<_> = (0..100)
            .map(|_| {
                let mut breaker = Breaker::new();
                breaker.after(DOWN, &Config::default(), INTERVAL, Instant::now(), random.f64());
                breaker.pause.as_millis() / 50
            })
            .collect();
        assert_eq!(pauses.len(), 10, "the second half of a second, in steps of 50 ms");
    }

    #[test]
    fn every_state_has_a_word_of_its_own() {
        assert_eq!(State::ALL.map(State::as_str), ["closed", "open", "half_open"]);
    }
}
