//! What the operator may say about where the configuration comes from: `--config.source`.
//!
//! What a newcomer would get wrong: the URL names files and variables with secrets, and never holds one.

mod url;

pub use url::Env;

use super::deliver::{Endpoint, Word};
use super::net::Etcd;
use std::fmt;

/// A document that somebody else keeps.
#[derive(Clone, Debug, PartialEq)]
pub enum Remote {
    /// A key of an etcd: `etcd://host:2379,host2:2379/redvigil/config`.
    Etcd {
        /// Which etcd.
        etcd: Etcd,
        /// The key, which begins with `/`.
        key: String,
    },
    /// A key of a Consul: `consul://host:8500/redvigil/config`.
    Consul {
        /// The agent or server.
        endpoint: Endpoint,
        /// The key, which does not begin with `/`.
        key: String,
    },
    /// A configuration of a Nacos: `nacos://host:8848/redvigil.yaml?group=DEFAULT_GROUP&namespace=N`.
    Nacos {
        /// The server, with what the path of its API begins with.
        endpoint: Endpoint,
        /// User and password, where it asks for them.
        user: Option<(String, Word)>,
        /// The dataId.
        id: String,
        /// The group. `DEFAULT_GROUP`.
        group: String,
        /// The namespace, which older ones call tenant; empty: public.
        namespace: String,
        /// Which API.
        api: NacosApi,
    },
}

/// Which API of Nacos.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NacosApi {
    /// Whichever answers.
    #[default]
    Auto,
    /// The long poll of 1.x and 2.x.
    V1,
    /// The query of 3.x.
    V3,
}

/// As people say it, with all that tells one document from another and nothing else: `etcd://host:2379/redvigil/config`.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etcd { etcd, key } => {
                let all: Vec<_> = etcd.endpoints.iter().map(|url| url.authority()).collect();
                write!(f, "etcd://{}{key}", all.join(","))
            }
            Self::Consul { endpoint, key } => write!(f, "consul://{}/{key}", endpoint.url.authority()),
            Self::Nacos { endpoint, id, group, namespace, .. } => {
                write!(f, "nacos://{}/{id}?group={group}", endpoint.url.authority())?;
                if namespace.is_empty() { Ok(()) } else { write!(f, "&namespace={namespace}") }
            }
        }
    }
}
