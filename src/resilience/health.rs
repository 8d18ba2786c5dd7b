//! What a run of collections makes of a target: the state that is shown, alerted on and acted on.
//!
//! One failure is a hiccup, several in a row are an outage. Easy to get wrong: LOADING and MASTERDOWN are
//! no failures, because a server that says so lives; and a tick that the breaker answered was no collection,
//! so it does not come here.

use crate::config::resilience::Health as Config;
use std::time::Instant;

/// What a target is. The words are label values: they stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Not collected yet.
    Unknown,
    /// The last collection was whole.
    Ok,
    /// The last collection failed, too few in a row for an outage.
    Suspect,
    /// An outage: `health.failures_to_down` collections in a row failed.
    Down,
    /// The server reads its data.
    Loading,
    /// A replica without its master that serves no stale data.
    MasterDown,
    /// The last collection failed while its service fails over.
    Failover,
}

impl State {
    /// Every state, in the order in which they are shown.
    pub const ALL: [Self; 7] =
        [Self::Unknown, Self::Ok, Self::Suspect, Self::Down, Self::Loading, Self::MasterDown, Self::Failover];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Loading => "loading",
            Self::MasterDown => "masterdown",
            Self::Failover => "failover",
        }
    }
}

/// What one collection saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It was whole.
    Whole,
    /// The server is loading.
    Loading,
    /// The server has lost its master.
    MasterDown,
    /// It failed, for a reason of the closed set (`connect::Kind`).
    Failed(&'static str),
}

/// A step from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
    /// Why; `None` for [`State::Ok`].
    pub reason: Option<&'static str>,
}

/// The health of one target.
#[derive(Clone, Debug)]
pub struct Health {
    state: State,
    reason: Option<&'static str>,
    since: Option<Instant>,
    consecutive: u32,
    /// Those of `consecutive` that no failover excuses.
    counted: u32,
    /// When the failover began that is under way.
    began: Option<Instant>,
    /// Since when a failover excuses failures. Kept from one failover to the next while the target fails: a
    /// Sentinel that tries again and again would otherwise excuse a dead server for ever.
    excused_since: Option<Instant>,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Of a target that was not collected yet.
    pub const fn new() -> Self {
        Self {
            state: State::Unknown,
            reason: None,
            since: None,
            consecutive: 0,
            counted: 0,
            began: None,
            excused_since: None,
        }
    }

    /// Takes in one collection, whoever asked for it. Says so if the state is another one now.
    pub fn observe(&mut self, observation: Observation, config: &Config, now: Instant) -> Option<Change> {
        let alive = match observation {
            Observation::Whole => (State::Ok, None),
            Observation::Loading => (State::Loading, Some("loading")),
            Observation::MasterDown => (State::MasterDown, Some("masterdown")),
            Observation::Failed(reason) => {
                self.consecutive = self.consecutive.saturating_add(1);
                if !self.is_excused(config, now) {
                    self.counted = self.counted.saturating_add(1);
                }
                self.reason = Some(reason);
                return self.enter(self.failing(config, now), now);
            }
        };
        (self.consecutive, self.counted) = (0, 0);
        self.excused_since = self.began;
        self.reason = alive.1;
        self.enter(alive.0, now)
    }

    /// Takes in whether the service of this member fails over. To be called when that begins and ends, and
    /// as often as one likes in between: a call also notices that `health.failover_max` is over.
    ///
    /// A member that answers stays what it is. One that fails is [`State::Failover`] instead of suspect or
    /// down, and its failures do not count, for at most `failover_max` since the first failover of this run
    /// of failures began. Afterwards it is again what the failures outside make of it: one that was down
    /// before is down at once.
    pub fn failover(&mut self, in_progress: bool, config: &Config, now: Instant) -> Option<Change> {
        self.began = in_progress.then(|| self.began.unwrap_or(now));
        if self.consecutive == 0 {
            self.excused_since = self.began;
            return None;
        }
        self.excused_since = self.excused_since.or(self.began);
        self.enter(self.failing(config, now), now)
    }

    /// What the target is.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Why it is not ok; the reason of the last failure while it fails.
    pub const fn reason(&self) -> Option<&'static str> {
        self.reason
    }

    /// How many collections failed in a row, those during a failover included.
    pub const fn consecutive(&self) -> u32 {
        self.consecutive
    }

    /// Since when it is what it is; `None` while it is unknown.
    pub const fn since(&self) -> Option<Instant> {
        self.since
    }

    fn is_excused(&self, config: &Config, now: Instant) -> bool {
        let fresh = |began| now.saturating_duration_since(began) < config.failover_max;
        self.began.is_some() && self.excused_since.is_some_and(fresh)
    }

    /// What a target is whose last collection failed.
    fn failing(&self, config: &Config, now: Instant) -> State {
        if self.is_excused(config, now) {
            State::Failover
        } else if self.counted >= config.failures_to_down.max(1) {
            State::Down
        } else {
            State::Suspect
        }
    }

    fn enter(&mut self, to: State, now: Instant) -> Option<Change> {
        let from = std::mem::replace(&mut self.state, to);
        if from == to {
            return None;
        }
        self.since = Some(now);
        Some(Change { from, to, reason: self.reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Runs a script, one word a second, and compares the state after each word. `x` is a failure, `.` a
    /// whole collection, `L` loading, `M` masterdown, `[` and `]` begin and end of a failover, `_` nothing,
    /// `t` a second word that a failover is under way. A failover excuses 10 s.
    fn check(script: &str, states: &[State]) {
        let config = Config { failures_to_down: 3, failover_max: Duration::from_secs(10) };
        let start = Instant::now();
        let mut health = Health::new();
        let mut seen = vec![];
        for (second, word) in (0..).zip(script.chars()) {
            let now = start + Duration::from_secs(second);
            let before = (health.state(), health.since());
            let change = match word {
                'x' => health.observe(Observation::Failed("refused"), &config, now),
                '.' => health.observe(Observation::Whole, &config, now),
                'L' => health.observe(Observation::Loading, &config, now),
                'M' => health.observe(Observation::MasterDown, &config, now),
                '[' | 't' => health.failover(true, &config, now),
                ']' => health.failover(false, &config, now),
                _ => None,
            };
            let (from, to, reason) = (before.0, health.state(), health.reason());
            assert_eq!(change, (from != to).then_some(Change { from, to, reason }), "{script} at {second}");
            assert_eq!(health.since(), if from == to { before.1 } else { Some(now) }, "{script}: {second}");
            seen.push(health.state());
        }
        assert_eq!(seen, states, "{script}");
    }

    use State::{
        Down as D, Failover as F, Loading as L, MasterDown as M, Ok as O, Suspect as S, Unknown as U,
    };

    #[test]
    fn the_third_failure_in_a_row_makes_an_outage_and_not_one_before() {
        check("xxxx", &[S, S, D, D]);
        check("xx.xxx", &[S, S, O, S, S, D]);
        check("_.", &[U, O]);
    }

    #[test]
    fn one_whole_collection_ends_an_outage() {
        check("xxx.", &[S, S, D, O]);
        check("xxx.x", &[S, S, D, O, S]);
    }

    #[test]
    fn a_server_that_loads_or_lost_its_master_lives() {
        check("xxLxxMxxx", &[S, S, L, S, S, M, S, S, D]);
        check("xxxL.", &[S, S, D, L, O]);
        check("[xL.]", &[U, F, L, O, O]);
    }

    #[test]
    fn who_fails_in_a_failover_fails_over_and_who_answers_is_ok() {
        check(".[xxxx.]", &[O, O, F, F, F, F, O, O]);
        check(".[.]", &[O; 4]);
        check("[x]", &[U, F, S]);
        check("x[", &[S, F]);
    }

    #[test]
    fn failures_count_again_after_the_failover() {
        check(".[xx]xxx", &[O, O, F, F, S, S, S, D]);
        check("xx[x]x", &[S, S, F, F, S, D]);
    }

    #[test]
    fn a_failover_excuses_for_so_long_and_no_longer() {
        // It begins at 1; its excuse ends at 11.
        check(".[_______xxxxxx", &[O, O, O, O, O, O, O, O, O, F, F, S, S, D, D]);
        check(".[x_______tttx", &[O, O, F, F, F, F, F, F, F, F, F, S, S, S]);
    }

    #[test]
    fn an_outage_stays_one_when_the_failover_is_over() {
        check("xxx[x]", &[S, S, D, F, F, D]);
        check("xxx[.]x", &[S, S, D, F, O, O, S]);
    }

    #[test]
    fn one_failover_after_the_other_does_not_excuse_a_dead_server_for_ever() {
        let all = "xxx[x][x][x][x]";
        check(all, &[S, S, D, F, F, D, F, F, D, F, F, D, F, D, D]);
        // Once it lived in between, a new failover is a new one.
        check("[x]________.[x]", &[U, F, S, S, S, S, S, S, S, S, S, O, O, F, S]);
    }

    #[test]
    fn every_state_has_a_word_of_its_own() {
        let words = State::ALL.map(State::as_str);
        assert_eq!(words, ["unknown", "ok", "suspect", "down", "loading", "masterdown", "failover"]);
    }

    #[test]
    fn the_reason_is_that_of_the_last_failure() {
        let config = Config::default();
        let now = Instant::now();
        let mut health = Health::new();
        for (observation, reason, consecutive) in [
            (Observation::Failed("auth"), Some("auth"), 1),
            (Observation::Failed("timeout"), Some("timeout"), 2),
            (Observation::Loading, Some("loading"), 0),
            (Observation::MasterDown, Some("masterdown"), 0),
            (Observation::Failed("noperm"), Some("noperm"), 1),
            (Observation::Whole, None, 0),
        ] {
            health.observe(observation, &config, now);
            assert_eq!((health.reason(), health.consecutive()), (reason, consecutive));
        }
    }

    #[test]
    fn failures_in_a_failover_are_shown_though_they_make_no_outage() {
        let config = Config::default();
        let now = Instant::now();
        let mut health = Health::new();
        health.failover(true, &config, now);
        for _ in 0..5 {
            health.observe(Observation::Failed("refused"), &config, now);
        }
        assert_eq!((health.state(), health.consecutive()), (State::Failover, 5));
    }

    #[test]
    fn the_number_of_failures_is_the_operators() {
        for (said, needed) in [(0, 1), (1, 1), (2, 2), (5, 5)] {
            let config = Config { failures_to_down: said, ..Config::default() };
            let mut health = Health::new();
            let mut took = 0;
            while health.state() != State::Down {
                took += 1;
                health.observe(Observation::Failed("dns"), &config, Instant::now());
            }
            assert_eq!(took, needed);
        }
    }

    /// What the state must be, told from the whole story and not step by step.
    fn told(story: &[(u64, char)], config: &Config) -> State {
        let collected = |word: char| matches!(word, 'x' | '.' | 'L' | 'M');
        let Some(last) = story.iter().rposition(|(_, word)| collected(*word)) else { return State::Unknown };
        match story[last].1 {
            '.' => return State::Ok,
            'L' => return State::Loading,
            'M' => return State::MasterDown,
            _ => {}
        }
        let alive = story.iter().rposition(|(_, word)| collected(*word) && *word != 'x');
        let failing = alive.map_or(0, |at| at + 1);
        let failing = failing + story[failing..].iter().position(|(_, word)| *word == 'x').unwrap_or(0);
        let under_way = |at: usize| {
            let word = story[..=at].iter().rfind(|(_, word)| matches!(word, '[' | ']'));
            word.is_some_and(|(_, word)| *word == '[')
        };
        // The failover that was under way when it began to fail, or else the first one after that.
        let from = if under_way(failing) {
            story[..failing].iter().rposition(|(_, word)| *word == ']').unwrap_or(0)
        } else {
            failing
        };
        let began = story[from..].iter().find(|(_, word)| *word == '[');
        let limit = began.map_or(0, |(at, _)| at + config.failover_max.as_secs());
        let excused = |at: usize| under_way(at) && story[at].0 < limit;
        let counted = (failing..story.len()).filter(|at| story[*at].1 == 'x' && !excused(*at)).count();
        match () {
            () if excused(story.len() - 1) => State::Failover,
            () if counted >= config.failures_to_down.max(1) as usize => State::Down,
            () => State::Suspect,
        }
    }

    #[test]
    fn down_is_exactly_a_run_of_failures_outside_a_failover() {
        let mut met = std::collections::BTreeSet::new();
        for seed in 0..2_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let seconds = Duration::from_secs(random.u64(0..30));
            let config = Config { failures_to_down: random.u32(0..6), failover_max: seconds };
            let start = Instant::now();
            let mut health = Health::new();
            let (mut story, mut second, mut row) = (vec![], 0, 0);
            for _ in 0..60 {
                second += random.u64(0..4);
                let now = start + Duration::from_secs(second);
                let word = *random.choice(&['x', 'x', 'x', 'x', 'x', '.', 'L', 'M', '[', ']']).unwrap();
                story.push((second, word));
                row = match word {
                    'x' => row + 1,
                    '.' | 'L' | 'M' => 0,
                    _ => row,
                };
                match word {
                    'x' => health.observe(Observation::Failed("closed"), &config, now),
                    '.' => health.observe(Observation::Whole, &config, now),
                    'L' => health.observe(Observation::Loading, &config, now),
                    'M' => health.observe(Observation::MasterDown, &config, now),
                    _ => health.failover(word == '[', &config, now),
                };
                assert_eq!(health.state(), told(&story, &config), "seed {seed}: {story:?}");
                assert_eq!(health.consecutive(), row, "seed {seed}: {story:?}");
                assert!(
                    row >= config.failures_to_down.max(1) || health.state() != State::Down,
                    "seed {seed}"
                );
                met.insert(health.state());
            }
        }
        assert_eq!(met.len(), State::ALL.len(), "the stories reach every state: {met:?}");
    }
}
