//! Replies into metric families: one file a command family, one visible list of all.
//!
//! A [`Collector`] that only reads replies says what to [`How::Read`] in two halves: `ask` adds commands to
//! the batch of a round, `read` turns their replies into families and is pure. Key, stream, script and
//! search work needs as many round trips as there is work: [`How::Work`]. [`run`] drives both.
//!
//! - [`info`]: INFO, by far the largest, with one file a section that is not a plain list of numbers
//! - `config`, `slowlog`, `latency` …: the others, named after their command
//! - [`keys`]: check-keys, count-keys, key groups, streams: on one server or on every master of a cluster
//! - [`scripts`]: the operator's own Lua
//! - [`float`]: which texts of keys and scripts count as numbers
//! - [`facts`]: what INFO says of a server's place in its service, for ourselves
//! - [`refusals`]: what a server refuses while a collector works, and what that costs
//! - [`run`]: one collection: two pipelined rounds, then the work
//! - [`snapshot`]: what a collection made so far
//! - [`collected`]: the same, handed on to whoever delivers it
//!
//! What a newcomer would get wrong: a collector that fails costs its own families and nothing else. What it
//! wrote before it failed is rolled back, and `redvigil_collector_success` says 0 for it.

pub mod clients;
pub mod cluster;
pub mod collected;
pub mod commandlog;
pub mod config;
pub mod facts;
pub mod float;
pub mod info;
pub mod keys;
pub mod latency;
pub mod modules;
pub mod rdb;
#[cfg(test)]
mod recorded;
pub mod refusals;
mod round;
pub mod run;
pub mod scripts;
pub mod search;
pub mod sentinel;
pub mod slowlog;
pub mod snapshot;
pub mod tile38;

pub use facts::Facts;
pub use info::Info;
pub use snapshot::Snapshot;

use crate::config::collect::{Collect, Keys};
use crate::connect::{Batch, Converse, Deadline, Error, Kind, Replies, Reply, Server};
use exposition::{Builder, Desc};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;

/// Every collector, in the order in which they ask.
pub static ALL: &[&Collector] = &[
    &info::COLLECTOR,
    &modules::COLLECTOR,
    &config::COLLECTOR,
    &rdb::COLLECTOR,
    &latency::LATEST,
    &latency::HISTOGRAM,
    &slowlog::COLLECTOR,
    &commandlog::COLLECTOR,
    &clients::COLLECTOR,
    &cluster::COLLECTOR,
    &sentinel::COLLECTOR,
    &tile38::COLLECTOR,
    &keys::check::COLLECTOR,
    &keys::count::COLLECTOR,
    &keys::streams::COLLECTOR,
    &keys::groups::COLLECTOR,
    &search::COLLECTOR,
    &scripts::COLLECTOR,
];

/// Code that knows one command family.
pub struct Collector {
    /// The value of the label `collector`.
    pub name: &'static str,
    /// Every family that it can make, for the documentation and the parity test.
    pub descs: fn() -> Vec<&'static Desc>,
    /// Whether it is wanted, and whether that is known yet.
    pub when: fn(&Context<'_>) -> When,
    /// How it goes about it.
    pub how: How,
}

impl Collector {
    /// Whether it looks at keys: for as long as there are keys to look at.
    pub fn is_key_work(&self) -> bool {
        keys::ALL.iter().any(|collector| collector.name == self.name)
    }
}

/// Whether a collector takes part in this collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Switched off, or the server has no such command.
    Never,
    /// In the first round.
    Now,
    /// It must be known first what the server is: in the second round, where this is asked again.
    AfterInfo,
}

/// How a collector goes about its work.
pub enum How {
    /// Some commands, asked together with those of the other collectors, and a pure reading.
    Read {
        /// Adds the commands.
        ask: fn(&Context<'_>, &mut Asks<'_>),
        /// Reads the replies, in the order in which they were asked.
        read: fn(&Context<'_>, &Answers<'_>, &mut Builder) -> Result<(), Failure>,
    },
    /// A conversation of its own, after the rounds.
    Work(for<'a> fn(&'a mut Work<'_>, &'a mut Builder) -> Working<'a>),
}

/// The future of [`How::Work`].
pub type Working<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// What collectors may look at.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// What the operator wants.
    pub config: &'a Collect,
    /// Key patterns of this request.
    pub keys: &'a Keys,
    /// What the server is, once that is known: from HELLO or from INFO.
    pub server: Option<&'a Server>,
    /// INFO, once it was read: always in `read`, and in the second round's `when` and `ask`.
    pub info: Option<&'a Info<'a>>,
    /// What earlier collections learned.
    pub memory: &'a Memory,
    /// Unix time in seconds.
    pub now: f64,
}

impl Context<'_> {
    /// Whether INFO says that this is a Sentinel; `false` while that is unknown.
    pub fn is_sentinel(&self) -> bool {
        self.server.is_some_and(|server| server.mode == crate::connect::Mode::Sentinel)
    }
}

/// The commands of one round.
pub struct Asks<'a> {
    batch: &'a mut Batch,
    memory: &'a Memory,
    slots: Vec<Slot>,
}

/// What became of one asked command.
#[derive(Clone, Debug)]
struct Slot {
    what: &'static str,
    /// Its place in the batch, or why it was not sent.
    sent: Result<usize, Kind>,
}

impl Asks<'_> {
    /// Asks a command. `what` is its name without arguments (`CONFIG GET`): what the server refused under
    /// that name before is not sent again.
    pub fn push<W: AsRef<[u8]>>(&mut self, what: &'static str, words: &[W]) {
        let known = [what, plain_name(what)].into_iter().find_map(|name| self.memory.refused.get(name));
        let sent = match known {
            Some(kind) => Err(*kind),
            None => {
                self.batch.push(words);
                Ok(self.batch.len() - 1)
            }
        };
        self.slots.push(Slot { what, sent });
    }
}

/// `CONFIG GET` for `CONFIG GET (several)`: a server that does not know the command does not know it in any form.
fn plain_name(what: &'static str) -> &'static str {
    what.split(" (").next().unwrap_or(what)
}

/// The replies to the commands that one collector asked.
pub struct Answers<'a> {
    replies: &'a Replies,
    slots: &'a [Slot],
}

impl<'a> Answers<'a> {
    /// The reply to the `index`th command, or why there is none.
    pub fn get(&self, index: usize) -> Result<Reply<'a>, Failure> {
        let slot = self.slots.get(index).ok_or_else(|| Failure::shape("a command that was not asked"))?;
        let at = slot.sent.map_err(|kind| Failure::Remembered { what: slot.what, kind })?;
        let reply = self.replies.get(at).ok_or_else(|| Failure::shape(slot.what))?;
        match reply.error() {
            Some(refusal) => {
                Err(Failure::Refused { what: slot.what, kind: refusal.kind(), reply: refusal.text() })
            }
            None => Ok(reply),
        }
    }

    /// How many commands were asked.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none was asked.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

/// A conversation of one collector, after the rounds.
pub struct Work<'a> {
    /// The server that is collected.
    pub server: &'a mut dyn Converse,
    /// What may be looked at; INFO is known.
    pub context: Context<'a>,
    /// Until when to be done.
    pub deadline: Deadline,
    /// How to reach other nodes of the same cluster.
    pub nodes: &'a dyn Nodes,
    /// Where replies are read into.
    pub replies: &'a mut Replies,
    /// What the server refuses for good: remembered from earlier collections, and learned in this one.
    pub refused: HashMap<&'static str, Kind>,
    /// The masters of the cluster, once a collector asked: all of them share the conversations.
    pub masters: Option<keys::Masters>,
    /// How fast keys are looked at.
    pub pace: keys::Pace,
    /// Whether this is one node of a Cluster, and the others are looked at by themselves: what is not here is
    /// not looked for elsewhere, and a replica reads what it has.
    pub only_here: bool,
}

/// Reaches other nodes of the cluster that the target belongs to, with the target's credentials and TLS.
pub trait Nodes: Send + Sync {
    /// Opens a conversation with the node at `host:port`. An empty host stands for the target's own:
    /// that is what a node says that does not know by which name it is reached.
    fn connect<'a>(&'a self, host: &'a str, port: u16, deadline: Deadline) -> Connecting<'a>;
}

/// The future of [`Nodes::connect`].
pub type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Converse>, Error>> + Send + 'a>>;

/// What is remembered of a server from one collection to the next: as long as its run_id stays.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The process that this is about.
    pub run_id: String,
    /// What it is.
    pub server: Option<Server>,
    /// Whether it knows INFO without sections only.
    pub plain_info: bool,
    /// Commands that it refused for good: see [`Kind::is_lasting`].
    pub refused: HashMap<&'static str, Kind>,
}

/// Why a collector made nothing.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The server refused a command.
    #[error("{what} was refused: {reply}")]
    Refused {
        /// The command.
        what: &'static str,
        /// What kind of refusal.
        kind: Kind,
        /// What the server said.
        reply: String,
    },
    /// The server refused it before; it was not asked again.
    #[error("{what} was refused before ({})", kind.as_str())]
    Remembered {
        /// The command.
        what: &'static str,
        /// What kind of refusal it was.
        kind: Kind,
    },
    /// A reply that does not look as it should.
    #[error("the reply to {what} is not of the expected form")]
    Shape {
        /// The command.
        what: &'static str,
    },
    /// The conversation is over.
    #[error(transparent)]
    Broken(#[from] Error),
    /// Something on our own side: a file, a script.
    #[error("{0}")]
    Own(String),
}

impl Failure {
    /// A reply of unexpected form.
    pub const fn shape(what: &'static str) -> Self {
        Self::Shape { what }
    }

    /// Why, in one of few words.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Refused { kind, .. } | Self::Remembered { kind, .. } => *kind,
            Self::Shape { .. } => Kind::Protocol,
            Self::Broken(error) => error.kind(),
            Self::Own(_) => Kind::Command,
        }
    }
}
