//! What the operator may say about services: which there are, where their members are found, and by which
//! addresses they are reached.

use super::scrape::HostPattern;
use super::services::{Named, Services};
use super::{Address, Collect};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Which services there are.
#[derive(Clone, Debug)]
pub struct Discover {
    /// `services:`; empty: there is none but the target of `--redis.addr`.
    pub services: Services<Service>,
    /// `discover.interval`: how often providers are asked where nothing tells of a change. 5 s.
    pub interval: Duration,
}

impl Default for Discover {
    fn default() -> Self {
        Self { services: Services::default(), interval: Duration::from_secs(5) }
    }
}

impl Discover {
    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(name)
    }
}

/// From how many bytes on a replica counts as lagging, where nobody says otherwise.
pub const LAG_BYTES: u64 = 10_000;

/// One service: what an application connects to.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// A name of its own: the label `service`.
    pub name: Arc<str>,
    /// Where its members are found.
    pub source: Source,
    /// Whether addresses that are given stand for every A and AAAA record of their name.
    pub dns: bool,
    /// Announced addresses into reachable ones, the first that matches; empty: all as announced.
    pub rewrite: Vec<Rewrite>,
    /// Labels of all its series, those of `global.labels` included.
    pub labels: BTreeMap<String, String>,
    /// What is collected of its members: `collect:` with what the service says otherwise.
    pub collect: Arc<Collect>,
    /// From how many bytes on a replica counts as lagging: `replication_lag_bytes`. [`LAG_BYTES`].
    pub lag_bytes: u64,
}

impl Service {
    /// A service of which nothing else was said.
    pub fn new(name: &str, source: Source) -> Self {
        Self {
            name: name.into(),
            source,
            dns: false,
            rewrite: vec![],
            labels: BTreeMap::new(),
            collect: Arc::default(),
            lag_bytes: LAG_BYTES,
        }
    }
}

impl Named for Service {
    fn name(&self) -> &str {
        &self.name
    }
}

/// Where the members of a service are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Sentinels that watch a master of this name.
    Sentinel {
        /// The name of the master.
        master: String,
        /// Sentinels; those that they know are asked too. The default port is 26379.
        addresses: Vec<Address>,
    },
    /// A Cluster.
    Cluster {
        /// Nodes to begin with.
        seeds: Vec<Address>,
        /// Whether nodes are reached by their announced host name.
        hostnames: bool,
    },
    /// These servers.
    Instances(Vec<Address>),
    /// What files of Prometheus' `file_sd` format say; paths with `*` in the last part.
    FileSd(Vec<PathBuf>),
}

impl Source {
    /// The word for it in the API.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Sentinel { .. } => "sentinel",
            Self::Cluster { .. } => "cluster",
            Self::Instances(_) => "instances",
            Self::FileSd(_) => "file_sd",
        }
    }
}

/// An announced address into a reachable one: `172.17.0.0/16` to `host.docker.internal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Which announced addresses.
    pub from: HostPattern,
    /// The host instead; the port stays unless there is one here.
    pub host: String,
    /// The port instead.
    pub port: Option<u16>,
}
