//! What is known of services: the words that discovery speaks to all who follow it.
//!
//! Everything here is a value. A provider builds a whole [`Service`] whenever it learned something and hands
//! it over; whoever follows gets the newest [`Topology`] and compares.
//!
//! What a newcomer would get wrong: roles are not part of who a member is. A failover changes
//! [`Service::master`] and nothing of the [`Member`]s.

use crate::config::Address;
use crate::config::services::{Named, Services};
use crate::connect::Kind;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Every service that is configured, in the order of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// The services.
    pub services: Services<Service>,
}

impl Topology {
    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// Every member with its service.
    pub fn members(&self) -> impl Iterator<Item = (&Arc<Service>, &Arc<Member>)> {
        self.services.iter().flat_map(|service| service.members.iter().map(move |member| (service, member)))
    }
}

/// One service as it is known now.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name.
    pub name: Arc<str>,
    /// How its members are found: `sentinel`, `cluster`, `instances`, `file_sd`.
    pub kind: &'static str,
    /// Its members, sorted by instance. The last good answer of a provider that fails now.
    pub members: Vec<Arc<Member>>,
    /// The master that a majority names and that says so itself; `None` for a Cluster, where nobody was
    /// confirmed yet, and where nobody can tell.
    pub master: Option<Master>,
    /// A failover that is under way.
    pub failover: Option<Failover>,
    /// The failovers so far.
    pub history: History,
    /// What those who know the members say of themselves.
    pub view: View,
    /// When a provider last answered whole.
    pub answered: Option<Instant>,
    /// Why it does not answer now.
    pub failure: Option<(Kind, String)>,
}

impl Service {
    /// A service of which nothing is known yet.
    pub fn unknown(name: Arc<str>, kind: &'static str) -> Self {
        Self {
            name,
            kind,
            members: vec![],
            master: None,
            failover: None,
            history: History::default(),
            view: View::Plain,
            answered: None,
            failure: None,
        }
    }
}

impl Named for Service {
    fn name(&self) -> &str {
        &self.name
    }
}

/// A member of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The address by which we reach it, with the credentials that a list gives for it alone. None are shown.
    pub address: Address,
    /// The label `instance`: `host:port`, or the path of the socket.
    pub instance: Arc<str>,
    /// Its shard: in a Cluster the id that its nodes share (else the id of its master), the name of the
    /// master of Sentinels, nothing in lists. Members of one shard replicate from each other.
    pub shard: Option<Arc<str>>,
    /// The node id or run id, where the provider tells.
    pub id: Option<Arc<str>>,
    /// Labels of this member alone, from a `file_sd` group.
    pub labels: BTreeMap<String, String>,
}

impl Member {
    /// The label `instance` of a server that is reached there.
    pub fn instance_of(address: &Address) -> Arc<str> {
        use crate::config::address::Endpoint;
        match &address.endpoint {
            Endpoint::Unix(path) => path.to_string_lossy().into(),
            tcp @ Endpoint::Tcp { .. } => tcp.to_string().into(),
        }
    }
}

/// The master of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// Which member.
    pub instance: Arc<str>,
    /// The configuration epoch that made it the master.
    pub epoch: u64,
    /// When it first said itself that it is the master.
    pub confirmed: Instant,
}

/// A failover that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// When we first heard of it.
    pub began: Instant,
    /// The members concerned: old and new master, replicas that are being repointed.
    pub members: Vec<Arc<str>>,
    /// How far it is, in the words of Sentinel (`wait_start`, `select_slave` …) or `failing` for a Cluster.
    pub phase: &'static str,
}

/// The failovers of a service since we watch it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Masters replaced, of all shards.
    pub completed: u64,
    /// Failovers that began and ended with the same master.
    pub aborted: u64,
    /// The last that was completed.
    pub last: Option<Completed>,
}

/// A failover that was completed.
#[derive(Clone, Debug, PartialEq)]
pub struct Completed {
    /// The master before.
    pub from: Arc<str>,
    /// The master after.
    pub to: Arc<str>,
    /// When we first heard that something is wrong, if we did before it was over.
    pub began: Option<Instant>,
    /// When the new master said itself that it is one.
    pub confirmed: Instant,
    /// The same by the clock.
    pub time: SystemTime,
    /// How long each phase of Sentinel's own took, in its words, as far as we heard.
    pub phases: Vec<(&'static str, Duration)>,
}

/// What those who know the members say of themselves.
#[derive(Clone, Debug, PartialEq)]
pub enum View {
    /// A list: nobody to ask.
    Plain,
    /// The Sentinels.
    Sentinel(SentinelView),
    /// The nodes of a Cluster.
    Cluster(ClusterView),
}

/// What the Sentinels of a master say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SentinelView {
    /// The newest configuration epoch that a majority holds.
    pub epoch: Option<u64>,
    /// How many must agree that the master is down.
    pub quorum: Option<u32>,
    /// Each Sentinel that is known, sorted by instance.
    pub sentinels: Vec<SentinelState>,
    /// `SENTINEL CKQUORUM` of most of them: whether a failover could be authorised now.
    pub can_authorise: Option<bool>,
}

/// One Sentinel.
#[derive(Clone, Debug, PartialEq)]
pub struct SentinelState {
    /// `host:port`.
    pub instance: Arc<str>,
    /// Why we cannot ask it; `None`: it answered.
    pub failure: Option<Kind>,
    /// Whether the others say that it can vote (no `s_down`, no `disconnected`).
    pub usable: bool,
    /// The master that it names, as announced.
    pub names: Option<Arc<str>>,
    /// The configuration epoch that it holds.
    pub epoch: Option<u64>,
}

impl SentinelView {
    /// Those that answered.
    pub fn reachable(&self) -> usize {
        self.sentinels.iter().filter(|sentinel| sentinel.failure.is_none()).count()
    }

    /// More than half of those that are known.
    pub fn majority(&self) -> usize {
        self.sentinels.len() / 2 + 1
    }
}

/// What the nodes of a Cluster say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterView {
    /// Whether every reachable master says `cluster_state:ok`.
    pub is_ok: Option<bool>,
    /// The newest `cluster_current_epoch`.
    pub epoch: u64,
    /// Slots that a reachable, healthy master serves.
    pub covered: u32,
    /// Slots of masters that are suspected (`fail?`).
    pub suspected: u32,
    /// Slots of masters that have failed.
    pub failed: u32,
    /// Slots that nobody claims.
    pub uncovered: u32,
    /// Slots on their way out of a node.
    pub migrating: u32,
    /// Slots on their way into a node.
    pub importing: u32,
    /// Slots that more than one master claims for itself.
    pub contested: u32,
    /// Nodes that claim a slot that another one claims, too.
    pub rivals: u32,
    /// Nodes that name another owner of some slot than most do.
    pub disagreeing: u32,
    /// Nodes that are known, and those that we could ask.
    pub nodes: u32,
    /// Nodes that answered.
    pub reachable: u32,
    /// Shards.
    pub shards: u32,
    /// Shards without a healthy replica.
    pub without_replica: u32,
    /// The masters of shards, by shard.
    pub masters: BTreeMap<Arc<str>, Arc<str>>,
}
