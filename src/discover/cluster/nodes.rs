//! Where the nodes of a Cluster are reached, as one of them tells it.
//!
//! `CLUSTER NODES` names everybody, replicas and failed nodes too. ACL: `+cluster|nodes` (before 7.0
//! `+cluster`). <https://redis.io/docs/latest/commands/cluster-nodes/>
//!
//! What a newcomer would get wrong: a node may not know its own address. An empty host means "the host that
//! you have reached me by".

use crate::config::Address;
use crate::connect::{Batch, Converse, Deadline, Error, Kind, Replies};

/// A node as `CLUSTER NODES` tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// IPv4 or IPv6 address without brackets; empty: the host that was asked.
    pub ip: String,
    /// The port of clients: that of TLS where the bus uses TLS.
    pub port: u16,
    /// The announced host name, where there is one.
    pub hostname: Option<String>,
}

/// Why the nodes of a Cluster are not known.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// The conversation is over.
    #[error(transparent)]
    Broken(#[from] Error),
    /// The server does not tell.
    #[error("CLUSTER NODES was refused: {reply}")]
    Refused {
        /// What kind of refusal.
        kind: Kind,
        /// What the server said.
        reply: String,
    },
    /// The reply is no text.
    #[error("the reply to CLUSTER NODES is no text")]
    Shape,
}

/// Asks a node for all nodes that have an address.
pub async fn nodes(server: &mut dyn Converse, deadline: Deadline) -> Result<Vec<Node>, Unknown> {
    let (mut batch, mut replies) = (Batch::default(), Replies::default());
    batch.push(&["CLUSTER", "NODES"]);
    server.ask(&batch, &mut replies, deadline).await?;
    let reply = replies.get(0).ok_or(Unknown::Shape)?;
    if let Some(refusal) = reply.error() {
        return Err(Unknown::Refused { kind: refusal.kind(), reply: refusal.text() });
    }
    Ok(reply.text().ok_or(Unknown::Shape)?.lines().filter_map(Node::parse).collect())
}

impl Node {
    /// Reads one line of `CLUSTER NODES`: `id ip:port@cport[,hostname[,key=value…]] flags master ping pong
    /// epoch link [slots…]`. `None` for nodes without an address and for what is no such line.
    pub fn parse(line: &str) -> Option<Self> {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let [_id, address, flags, _master, _ping, _pong, _epoch, _link, ..] = fields[..] else { return None };
        if flags.split(',').any(|flag| flag == "noaddr") {
            return None;
        }
        Self::announced(address)
    }

    /// Reads the second field of such a line; `None` without a port.
    pub(super) fn announced(address: &str) -> Option<Self> {
        let mut parts = address.split(',');
        let (endpoint, _bus) = parts.next()?.split_once('@')?;
        // An IPv6 address stands here without brackets.
        let (ip, port) = endpoint.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let ip = ip.trim_start_matches('[').trim_end_matches(']');
        // From 7.2 on fields such as `shard-id=…` follow the host name, which may be empty.
        let hostname = parts.next().filter(|name| !name.is_empty() && !name.contains('='));
        Some(Self { ip: ip.to_owned(), port, hostname: hostname.map(str::to_owned) })
    }

    /// Where clients reach it: by its announced host name if `hostnames`, where it has one. `asked` is the
    /// address of the node that told: its host stands in for an unknown one, its TLS and nothing else is
    /// taken over.
    pub fn address(&self, asked: &Address, hostnames: bool) -> Address {
        let host = match (&self.hostname, &asked.endpoint) {
            (Some(hostname), _) if hostnames => hostname,
            (_, crate::config::address::Endpoint::Tcp { host, .. }) if self.ip.is_empty() => host,
            _ => &self.ip,
        };
        Address { tls: asked.tls, ..Address::tcp(host, self.port) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1";

    /// The URL of the node of a line, as told by `rediss://[fe80::1]:7000` or `redis://seed:7000`.
    fn check(address: &str, flags: &str, asked: &str, hostnames: bool, expected: Option<&str>) {
        let line = format!("{ID} {address} {flags} - 0 1426238317239 2 connected 5461-10922");
        let asked = Address::parse(asked).expect("an address");
        let found = Node::parse(&line).map(|node| node.address(&asked, hostnames).to_string());
        assert_eq!(found.as_deref(), expected, "{line}");
    }

    #[test]
    fn nodes_have_the_urls_that_clients_use() {
        let seed = "redis://seed:7000";
        check("10.0.0.1:7001@17001", "master", seed, false, Some("redis://10.0.0.1:7001"));
        check("10.0.0.1:7001@17001", "slave", "rediss://seed:7000", false, Some("rediss://10.0.0.1:7001"));
        check("10.0.0.1:7001@17001,cache-1", "master", seed, false, Some("redis://10.0.0.1:7001"));
        check("10.0.0.1:7001@17001,cache-1", "master", seed, true, Some("redis://cache-1:7001"));
        check("10.0.0.1:7001@17001,cache-1,shard-id=ab", "master", seed, true, Some("redis://cache-1:7001"));
        check("10.0.0.1:7001@17001,,shard-id=ab", "master", seed, true, Some("redis://10.0.0.1:7001"));
        check("10.0.0.1:7001@17001,shard-id=ab", "master", seed, true, Some("redis://10.0.0.1:7001"));
        check("2001:db8::1:7001@17001", "master", seed, false, Some("redis://[2001:db8::1]:7001"));
        check(":7001@17001", "myself,master", seed, false, Some("redis://seed:7001"));
        check("10.0.0.1:7001@17001", "master,fail", seed, false, Some("redis://10.0.0.1:7001"));
        check("10.0.0.1:7001@17001", "handshake", seed, false, Some("redis://10.0.0.1:7001"));
    }

    #[test]
    fn credentials_and_database_of_the_asked_address_are_not_passed_on() {
        let asked = "redis://me:hunter2@seed:7000/3";
        check("10.0.0.1:7001@17001", "master", asked, false, Some("redis://10.0.0.1:7001"));
        let node = Node::parse(&format!("{ID} h:1@2 master - 0 0 0 connected")).expect("a node");
        assert_eq!(node.address(&Address::parse(asked).expect("an address"), false).password, None);
    }

    #[test]
    fn lines_without_an_address_are_skipped() {
        let seed = "redis://seed:7000";
        check(":0@0", "master", seed, false, None);
        check(":0@0", "slave,noaddr", seed, false, None);
        check("10.0.0.1:7001@17001", "master,noaddr", seed, false, None);
        check("10.0.0.1:7001", "master", seed, false, None);
        check("10.0.0.1@17001", "master", seed, false, None);
        check("10.0.0.1:x@17001", "master", seed, false, None);
        assert_eq!(Node::parse(""), None);
        assert_eq!(Node::parse(&format!("{ID} 10.0.0.1:7001@17001 master")), None);
    }
}
