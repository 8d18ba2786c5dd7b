//! What is ours, as those see it who collect and those who tell others.
//!
//! A [`Standing`] is one state of it, replaced whole. Whoever collects follows it, and says by [`Seen`] how far it got: a
//! shard that is given away is released only when nothing of it is under way any more.

use super::fence::Fence;
use super::shards::{SHARDS, Shards, shard_of};
use crate::config::deliver::Url;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// What is ours, who the others are, and who has what.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Goes up with each one that is published.
    pub number: u64,
    /// The shards that are ours.
    pub ours: Shards,
    /// Those of them that we are about to give away: no collection begins any more.
    pub leaving: Shards,
    /// Everybody who lives, ourselves included, in the order of their ids; empty where there are no others.
    pub peers: Vec<Arc<Peer>>,
    /// The place in [`Self::peers`] of who has each shard, as far as somebody has it.
    pub owners: Arc<[Option<u16>; SHARDS]>,
    /// Which of [`Self::peers`] we are.
    pub own: Option<u16>,
    /// Of shards that are ours and that somebody handed over: from when on that one begins nothing, in milliseconds since 1970 by
    /// its clock. Its last collection was that of the moment before; ours begin with the first moment behind that.
    pub left: Arc<BTreeMap<u8, u64>>,
    /// Since when etcd does not answer, and what is known may be old.
    pub frozen: bool,
}

/// One copy of this exporter.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Its name, which no other has.
    pub id: String,
    /// Where it is reached.
    pub url: Url,
    /// Where it runs.
    pub zone: Option<String>,
    /// How much of the work it takes.
    pub weight: u32,
    /// Its version.
    pub version: String,
    /// What its configuration comes to, but for what each copy has of its own.
    pub config_hash: String,
    /// When it started, in milliseconds since 1970.
    pub started: u64,
}

/// What to do about a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Collect it.
    Ours,
    /// It is still ours; begin nothing, finish what is under way.
    Leaving,
    /// It is somebody else's, or nobody's.
    Theirs,
}

impl Standing {
    /// There are no others.
    pub fn alone() -> Self {
        Self { ours: Shards::ALL, ..Self::nothing() }
    }

    /// Nothing is ours yet.
    pub fn nothing() -> Self {
        Self {
            number: 0,
            ours: Shards::NONE,
            leaving: Shards::NONE,
            peers: vec![],
            owners: Arc::new([None; SHARDS]),
            own: None,
            left: Arc::default(),
            frozen: false,
        }
    }

    /// What to do about a service.
    pub fn duty(&self, service: &str) -> Duty {
        let shard = shard_of(service);
        match self.ours.has(shard) {
            true if self.leaving.has(shard) => Duty::Leaving,
            true => Duty::Ours,
            false => Duty::Theirs,
        }
    }

    /// Who has a service, as far as somebody has it and there are others.
    pub fn owner(&self, service: &str) -> Option<&Arc<Peer>> {
        let place = self.owners[usize::from(shard_of(service))]?;
        self.peers.get(usize::from(place))
    }
}

/// How far whoever collects has followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The number of the [`Standing`] that it goes by.
    pub number: u64,
    /// Shards of which something is still under way.
    pub busy: Shards,
    /// Of those that leave and of which nothing is: since when nothing begins any more, in milliseconds since 1970.
    pub quiet: Arc<BTreeMap<u8, u64>>,
}

/// What whoever collects has in hand.
#[derive(Clone, Debug)]
pub struct Share {
    /// What is ours.
    pub standing: watch::Receiver<Arc<Standing>>,
    /// Until when that counts; asked before each collection of a tick.
    pub fence: Fence,
    /// Where it says how far it got.
    pub seen: watch::Sender<Seen>,
}

impl Share {
    /// There are no others, and never will be.
    pub fn alone() -> Self {
        let (_, standing) = watch::channel(Arc::new(Standing::alone()));
        Self { standing, fence: Fence::open(), seen: watch::Sender::new(Seen::default()) }
    }
}
