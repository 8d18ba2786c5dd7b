//! A failover from its first sign to its end. Pure.
//!
//! It begins when a Sentinel says that a quorum holds the master for down and as many do miss it, or when one
//! replaces it and another one agrees that something is the matter: no Sentinel begins one alone. It ends when
//! there is no sign of either any more. What happened in between is *completed* if another master was confirmed,
//! else *aborted*.
//!
//! What a newcomer would get wrong: most Sentinels only watch. The phases are those of the leader, and another
//! one that gives up because it was not elected says nothing of the failover.

use super::reply::{Answer, PHASES};
use crate::discover::service::Failover;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long there must be no sign of a failover before it counts as over: answers of several Sentinels are
/// never of the same moment.
const CALM: Duration = Duration::from_millis(500);

/// Failovers that are given up are so far apart, be they one after the other or attempts of the same: Sentinel
/// itself waits longer, so what comes sooner is one that says now this, now that.
pub const APART: Duration = Duration::from_secs(5);

/// After so long without a sign a failover is over even where no majority can say how it ended.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// What the Sentinels say of a failover now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// A quorum holds the master for down.
    pub is_down: bool,
    /// Somebody replaces it.
    pub is_attempted: bool,
    /// More than one say that something is the matter; where there is but one, it does.
    pub is_agreed: bool,
    /// How far the one that is furthest is.
    pub phase: Option<&'static str>,
}

impl Signs {
    /// The signs of those that answer, of so many that are known. `epoch`: that of the confirmed master; who is
    /// ahead of it knows of a failover, too.
    pub fn of<'a>(answers: impl Iterator<Item = &'a Answer>, known: usize, epoch: Option<u64>) -> Self {
        let mut signs = Self::default();
        let (mut missing, mut witnesses, mut quorum) = (0, 0, None);
        for answer in answers {
            let (flags, phase) = (answer.master.instance.flags, answer.master.phase);
            signs.is_down |= flags.o_down;
            signs.is_attempted |= Self::is_attempt(answer);
            signs.phase = later(signs.phase, phase);
            let is_ahead = epoch.is_some_and(|epoch| answer.master.epoch > epoch);
            missing += usize::from(Self::is_missed(answer));
            witnesses += usize::from(Self::is_missed(answer) || Self::is_attempt(answer) || is_ahead);
            quorum = quorum.max(answer.master.quorum);
        }
        // What one claims to be the quorum makes it neither one alone nor out of reach.
        let majority = known / 2 + 1;
        let least = majority.min(2);
        let quorum = quorum.map_or(majority, |quorum| (quorum as usize).clamp(least, majority));
        signs.is_down &= missing >= quorum;
        signs.is_agreed = witnesses >= least;
        signs
    }

    fn is_attempt(answer: &Answer) -> bool {
        answer.master.instance.flags.failover_in_progress || answer.master.phase.is_some()
    }

    fn is_missed(answer: &Answer) -> bool {
        answer.master.instance.flags.s_down || answer.master.instance.flags.o_down
    }

    /// Whether one says that a failover is under way, or about to begin.
    pub fn is_one(answer: &Answer) -> bool {
        answer.master.instance.flags.o_down || Self::is_attempt(answer)
    }

    /// Whether a failover begins.
    pub fn begin(self) -> bool {
        self.is_down || (self.is_attempted && self.is_agreed)
    }

    /// Whether there is any.
    fn any(self) -> bool {
        self.is_down || self.is_attempted
    }
}

/// The later of two phases.
fn later(one: Option<&'static str>, other: Option<&'static str>) -> Option<&'static str> {
    if place(other) > place(one) { other } else { one }
}

fn place(phase: Option<&str>) -> Option<usize> {
    PHASES.iter().position(|(name, _)| Some(*name) == phase)
}

/// When phases began, the first first.
#[derive(Clone, Debug, Default)]
pub struct Phases {
    begun: Vec<(&'static str, Instant)>,
}

impl Phases {
    /// A phase was heard of. A new attempt begins from the start.
    pub fn heard(&mut self, phase: &'static str, at: Instant) {
        if self.begun.iter().any(|(known, _)| *known == phase) {
            return;
        }
        // Two sources tell of the same failover: what comes late is out of order, and as good as unheard.
        if self.begun.last().is_none_or(|(last, _)| place(Some(last)) < place(Some(phase))) {
            self.begun.push((phase, at));
        }
    }

    /// The first that was heard.
    pub fn first(&self) -> Option<Instant> {
        self.begun.first().map(|(_, at)| *at)
    }

    /// The last that began.
    fn last(&self) -> Option<&'static str> {
        self.begun.last().map(|(phase, _)| *phase)
    }

    /// How long each took; the last one until `end`, where that is known.
    pub fn durations(&self, end: Option<Instant>) -> Vec<(&'static str, Duration)> {
        let ends = self.begun.iter().skip(1).map(|(_, at)| Some(*at)).chain([end]);
        let took = |((phase, at), end): (&(&'static str, Instant), Option<Instant>)| {
            Some((*phase, end?.saturating_duration_since(*at)))
        };
        self.begun.iter().zip(ends).filter_map(took).collect()
    }
}

/// A failover that is under way.
#[derive(Clone, Debug)]
pub struct Episode {
    /// When we first heard of it.
    pub began: Instant,
    /// The master before.
    pub from: Option<Arc<str>>,
    /// The members concerned.
    pub members: BTreeSet<Arc<str>>,
    /// Sentinel's own phases.
    pub phases: Phases,
    /// Another master was confirmed.
    pub is_completed: bool,
    /// An attempt is open: one was seen, and its end was not.
    pub is_attempted: bool,
    /// Attempts that failed.
    pub aborted: u64,
    /// Why the last Sentinel gave up.
    pub reason: Option<&'static str>,
    /// When the last attempt failed.
    gave_up: Option<Instant>,
    /// When more than one agreed last.
    agreed: Instant,
    calm_since: Option<Instant>,
    signless_since: Option<Instant>,
    unattempted_since: Option<Instant>,
}

/// What became of an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// An attempt failed; there may be another.
    GaveUp,
    /// It is over.
    Over,
    /// There has been no sign of it for long, and nobody can tell how it ended.
    Lost,
}

impl Episode {
    /// Begins now, or when the first phase was heard of.
    pub fn begin(from: Option<Arc<str>>, heard: Phases, now: Instant) -> Self {
        Self {
            began: heard.first().unwrap_or(now),
            members: from.iter().cloned().collect(),
            from,
            phases: heard,
            is_completed: false,
            is_attempted: false,
            aborted: 0,
            reason: None,
            gave_up: None,
            agreed: now,
            calm_since: None,
            signless_since: None,
            unattempted_since: None,
        }
    }

    /// Takes the signs of now. `is_settled`: a majority holds the master that is confirmed, and nobody is ahead
    /// of it. `alone`: how long one may be alone with its attempt, as the leader is that is not done yet.
    pub fn watch(
        &mut self,
        mut signs: Signs,
        is_settled: bool,
        alone: Duration,
        now: Instant,
    ) -> Option<Turn> {
        if signs.is_agreed {
            self.agreed = now;
        }
        signs.is_attempted &= now.saturating_duration_since(self.agreed) < alone;
        if let Some(phase) = signs.phase {
            self.phases.heard(phase, now);
        }
        if signs.is_attempted {
            self.is_attempted = true;
        }
        let lasts = |is: bool, since: &mut Option<Instant>, most: Duration| {
            *since = if is { since.or(Some(now)) } else { None };
            since.is_some_and(|since| now.saturating_duration_since(since) >= most)
        };
        // After a success the leader alone goes on for a while; those that lag behind do not matter then.
        let is_calm = !signs.any() && (is_settled || self.is_completed);
        let is_over = lasts(is_calm, &mut self.calm_since, CALM);
        let is_given_up = !self.is_completed && self.is_attempted && !signs.is_attempted && is_settled;
        let is_given_up = lasts(is_given_up, &mut self.unattempted_since, CALM);
        let rests = self.gave_up.is_some_and(|at| now.saturating_duration_since(at) < APART);
        let is_lost = lasts(!signs.any(), &mut self.signless_since, FORGOTTEN);
        if is_over {
            return Some(Turn::Over);
        }
        if is_lost {
            return Some(Turn::Lost);
        }
        (is_given_up && !rests).then(|| {
            self.gave_up = Some(now);
            self.is_attempted = false;
            self.phases = Phases::default();
            Turn::GaveUp
        })
    }

    /// When there was no sign of it any more.
    pub fn ended(&self) -> Option<Instant> {
        self.calm_since
    }

    /// The same for those who follow.
    pub fn failover(&self) -> Failover {
        Failover {
            began: self.began,
            members: self.members.iter().cloned().collect(),
            phase: self.phases.last().unwrap_or("o_down"),
        }
    }
}
