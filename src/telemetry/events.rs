//! What happened to services and their members, newest last: the event log of `/api/v1/events`.
//!
//! What a newcomer would get wrong: this is no debug log. An entry says something that an operator would
//! tell another one; a state that stays is told once, when it begins and when it ends.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use tracing::info;

/// How many entries are kept; the oldest go.
pub const KEPT: usize = 1000;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, by the clock of this machine.
    pub time: SystemTime,
    /// To which service.
    pub service: String,
    /// What kind of thing.
    pub kind: Kind,
    /// What it was before: a member or a state.
    pub from: Option<String>,
    /// What it is now.
    pub to: Option<String>,
    /// The same as a sentence; never with a secret.
    pub message: String,
}

/// What kind of thing happened. The words are part of the API: they stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Another master, or the attempt at one.
    Failover,
    /// A member became well, suspect, down …
    Health,
    /// Members came or went, or changed their roles.
    Topology,
    /// Those who know the members answer, disagree, or do not answer.
    Discovery,
    /// An output became live, degraded …; it stands where else the service is.
    Output,
    /// The configuration changed, or something was said for the moment.
    Config,
    /// Other copies of this exporter came or went, or the way to etcd; it is about no service.
    Peers,
}

impl Kind {
    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Health => "health",
            Self::Topology => "topology",
            Self::Discovery => "discovery",
            Self::Output => "output",
            Self::Config => "config",
            Self::Peers => "peers",
        }
    }
}

/// The log.
#[derive(Debug, Default)]
pub struct Events {
    ring: Mutex<VecDeque<Event>>,
}

impl Events {
    /// Adds an entry, here and in the log of the process.
    pub fn push(&self, service: &str, kind: Kind, from: Option<&str>, to: Option<&str>, message: String) {
        info!(service, kind = kind.as_str(), from, to, "{message}");
        let event = Event {
            time: SystemTime::now(),
            service: service.to_owned(),
            kind,
            from: from.map(Into::into),
            to: to.map(Into::into),
            message,
        };
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == KEPT {
            ring.pop_front();
        }
        ring.push_back(event);
    }

    /// All entries that are kept, newest last.
    pub fn all(&self) -> Vec<Event> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entries_make_room() {
        let events = Events::default();
        for number in 0..KEPT + 5 {
            events.push("s", Kind::Health, None, Some("down"), format!("{number}"));
        }
        let all = events.all();
        assert_eq!((all.len(), &*all[0].message, &*all[KEPT - 1].message), (KEPT, "5", "1004"));
    }
}
