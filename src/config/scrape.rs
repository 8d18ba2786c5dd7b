//! What the operator may say about targets and time.

use super::Address;
use std::time::Duration;

/// Which targets, and in what time.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// `--redis.addr`: what `/metrics` is about; `None` (empty flag): about ourselves only.
    pub target: Option<Address>,
    /// `--scrape.timeout-offset`: how much sooner than the caller's time-out we answer; at most a quarter
    /// of that time-out is taken. 500 ms.
    pub timeout_offset: Duration,
    /// `--scrape.allow`: which targets `/scrape` accepts; empty: all TCP targets.
    pub allow: Vec<HostPattern>,
}

impl Default for Scrape {
    fn default() -> Self {
        Self { target: Some(Address::default()), timeout_offset: Duration::from_millis(500), allow: vec![] }
    }
}

/// A set of hosts or sockets: `10.0.0.0/8`, `*.redis.prod`, `cache-1:6379`, `unix:///run/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// A network; matches hosts given as an address.
    Net(ipnet::IpNet),
    /// A host name with `*` for any run of characters, and a port if it matters.
    Name {
        /// The glob.
        glob: String,
        /// Only this port.
        port: Option<u16>,
    },
    /// The path of a unix socket, with `*`.
    Socket(String),
}
