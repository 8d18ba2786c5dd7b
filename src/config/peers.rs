//! What the operator may say about the other copies of this exporter: where we register, and how the work is shared.

use super::deliver::{Endpoint, Url};
use super::net::Etcd;
use std::path::PathBuf;
use std::time::Duration;

/// Where we register, and how the work is shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peers {
    /// `registry`; `None`: there are no others, and all is ours.
    pub registry: Option<Registry>,
    /// What the flags say of this copy; it stands in [`Self::registry`], too.
    pub own: Own,
}

/// What flags say of this copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Own {
    /// `--registry.advertise`.
    pub advertise: Option<Url>,
    /// `--registry.zone`.
    pub zone: Option<String>,
    /// `--registry.weight`.
    pub weight: Option<u32>,
}

/// Where we register, and what we say of ourselves.
#[derive(Clone, Debug, PartialEq)]
pub struct Registry {
    /// `advertise`: where others reach us; `http://10.0.0.5:9121`.
    pub advertise: Url,
    /// `zone`: where we run, for people and for labels.
    pub zone: Option<String>,
    /// `weight`: how much of the work is ours, compared with others. 1 to 10,000; 100.
    pub weight: u32,
    /// `file_sd`: a file that always has what `/sd/exporters` says.
    pub file_sd: Option<PathBuf>,
    /// `etcd`: register there, and share the work.
    pub etcd: Option<EtcdRegistry>,
    /// `consul`: register there, too.
    pub consul: Option<ConsulRegistry>,
    /// `sharding`: how the work is shared among those who are registered in etcd.
    pub sharding: Sharding,
}

/// Registration in etcd.
#[derive(Clone, Debug, PartialEq)]
pub struct EtcdRegistry {
    /// Which etcd.
    pub etcd: Etcd,
    /// `prefix`: what the key of each of us begins with. `/services/exporter/`.
    pub prefix: String,
    /// `ttl`: for how long we count as alive without a word. 10 s.
    pub ttl: Duration,
    /// `value`: what stands under our key.
    pub value: Value,
}

/// What stands under our key in the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// An object with `url` and what else there is to say.
    #[default]
    Json,
    /// The plain URL.
    Url,
}

/// Registration in Consul, as a service with a TTL check.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsulRegistry {
    /// The agent on this machine.
    pub agent: Endpoint,
    /// `service`: the name. `redvigil`.
    pub service: String,
    /// `tags`.
    pub tags: Vec<String>,
    /// `ttl`: for how long we count as alive without a word. 10 s.
    pub ttl: Duration,
}

/// How the work is shared.
#[derive(Clone, Debug, PartialEq)]
pub struct Sharding {
    /// `enabled`: off, every exporter collects everything. On.
    pub enabled: bool,
    /// `cluster`: those of one cluster share. `default`.
    pub cluster: String,
    /// `claims_prefix`: what the key of each claim begins with; `None`: `/redvigil/<cluster>/shards/`.
    pub claims_prefix: Option<String>,
    /// `min_peers`: as long as fewer are there, nothing new is taken. 1.
    pub min_peers: usize,
    /// `settle`: how long the peers must be the same before work moves from one that lives. 5 s.
    pub settle: Duration,
    /// `on_etcd_loss`: what to do when etcd does not answer.
    pub on_etcd_loss: OnLoss,
}

/// What to do when etcd does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// Keep what we have and take nothing: rather twice than never.
    #[default]
    Freeze,
    /// Stop at two thirds of the TTL: rather never than twice.
    Stop,
}

impl Default for Sharding {
    fn default() -> Self {
        Self {
            enabled: true,
            cluster: "default".into(),
            claims_prefix: None,
            min_peers: 1,
            settle: Duration::from_secs(5),
            on_etcd_loss: OnLoss::Freeze,
        }
    }
}

impl Sharding {
    /// What the key of each claim begins with.
    pub fn claims(&self) -> String {
        self.claims_prefix.clone().unwrap_or_else(|| format!("{}shards/", self.root()))
    }

    /// What the key of each one who shares begins with.
    pub fn members(&self) -> String {
        format!("{}peers/", self.root())
    }

    /// What all keys of a cluster begin with, but for claims that are put elsewhere.
    pub fn root(&self) -> String {
        format!("/redvigil/{}/", self.cluster)
    }
}

/// Reads where others reach us: a URL without a path.
pub fn advertise(text: &str) -> Result<Url, String> {
    let expected = "expected only http:// or https://, host and port, such as http://10.0.0.5:9121";
    let url = Url::parse(text).map_err(|error| format!("is no URL: {error}; {expected}"))?;
    if url.path == "/" { Ok(url) } else { Err(format!("has a path; {expected}")) }
}

/// Reads a weight.
pub fn weight(text: &str) -> Result<u32, String> {
    let weight = text.parse().ok().filter(|weight| (1..=HEAVIEST).contains(weight));
    weight.ok_or_else(|| format!("is no weight; expected a whole number from 1 to {HEAVIEST}"))
}

/// The largest weight.
pub const HEAVIEST: u32 = 10_000;
