//! What the operator may say about servers that are neither Redis nor receivers of samples: how to reach an etcd. A Consul or
//! a Nacos is an [`Endpoint`](super::deliver::Endpoint).
//!
//! What a newcomer would get wrong: several endpoints are one cluster. Any of them will do, and one that is silent is left
//! for the next.

use super::connect::Tls;
use super::deliver::{Url, Word};

/// An etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// Its members, each as a client reaches it; one or more. No path counts.
    pub endpoints: Vec<Url>,
    /// User and password, where it asks for them.
    pub user: Option<(String, Word)>,
    /// TLS, where an URL says `https`. Files are read again when they change.
    pub tls: Tls,
}
