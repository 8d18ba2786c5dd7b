//! A failover from its first sign to its end. Pure.
//!
//! It begins when a Sentinel says that a quorum holds the master for down, or that it replaces it. It ends when
//! no Sentinel says either any more. What happened in between is *completed* if another master was confirmed,
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

/// After so long without a sign a failover is over even where no majority can say how it ended.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// What the Sentinels say of a failover now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// A quorum holds the master for down.
    pub is_down: bool,
    /// Somebody replaces it.
    pub is_attempted: bool,
    /// How far the one that is furthest is.
    pub phase: Option<&'static str>,
}

impl Signs {
    /// The signs of all that answer.
    pub fn of<'a>(answers: impl Iterator<Item = &'a Answer>) -> Self {
        let mut signs = Self::default();
        for answer in answers {
            let (flags, phase) = (answer.master.instance.flags, answer.master.phase);
            signs.is_down |= flags.o_down;
            signs.is_attempted |= flags.failover_in_progress || phase.is_some();
            signs.phase = later(signs.phase, phase);
        }
        signs
    }

    /// Whether there is any.
    pub fn any(self) -> bool {
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
            calm_since: None,
            signless_since: None,
            unattempted_since: None,
        }
    }

    /// Takes the signs of now. `is_settled`: a majority holds the master that is confirmed, and nobody is ahead
    /// of it.
    pub fn watch(&mut self, signs: Signs, is_settled: bool, now: Instant) -> Option<Turn> {
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
        let is_lost = lasts(!signs.any(), &mut self.signless_since, FORGOTTEN);
        if is_over {
            return Some(Turn::Over);
        }
        if is_lost {
            return Some(Turn::Lost);
        }
        is_given_up.then(|| {
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
