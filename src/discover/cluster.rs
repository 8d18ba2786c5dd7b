//! The nodes of a Cluster, and which master holds which key.
//!
//! `CLUSTER NODES` names everybody, replicas and failed nodes too: for service discovery. `CLUSTER SLOTS`
//! names who serves which slots under the endpoint that the operator wants clients to use: for key work.
//! ACL: `+cluster|nodes`, `+cluster|slots` (before 7.0 `+cluster`).
//! <https://redis.io/docs/latest/commands/cluster-nodes/>, <https://redis.io/docs/latest/commands/cluster-slots/>
//!
//! What a newcomer would get wrong: a node may not know its own address. An empty host means "the host that
//! you have reached me by".

use crate::config::Address;
use crate::connect::{Batch, Converse, Deadline, Error, Kind, Replies, Reply};
use std::ops::RangeInclusive;

/// How many slots a Cluster has.
pub const SLOTS: u16 = 16_384;

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

/// A master with the slots that it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// Its node id; empty where the server does not tell (before 4.0).
    pub id: String,
    /// The host as clients should use it, without brackets; empty: the host that was asked.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The slots that it serves.
    pub slots: Vec<RangeInclusive<u16>>,
}

/// Masters of a cluster at most; the manual advises against more than a thousand.
const MOST_MASTERS: usize = 2000;

impl Master {
    /// Whether this master serves the slot.
    pub fn serves(&self, slot: u16) -> bool {
        self.slots.iter().any(|range| range.contains(&slot))
    }

    /// Reads the reply to `CLUSTER SLOTS`; `None` if it has another form.
    pub fn all(slots: Reply<'_>) -> Option<Vec<Self>> {
        let mut masters: Vec<Self> = vec![];
        for entry in slots.items()? {
            let mut entry = entry.items()?;
            let mut number = || entry.next()?.integer()?.try_into().ok().filter(|slot| *slot < SLOTS);
            let range = number()?..=number()?;
            let endpoint = Self::endpoint(entry.next()?)?;
            let is_same =
                |m: &&mut Self| (&m.id, &m.host, m.port) == (&endpoint.id, &endpoint.host, endpoint.port);
            match masters.iter_mut().find(is_same) {
                Some(known) => known.slots.push(range),
                None => masters.push(Self { slots: vec![range], ..endpoint }),
            }
            if masters.len() > MOST_MASTERS {
                return None;
            }
        }
        Some(masters)
    }

    /// `host, port, id, metadata`, the last two where the server knows them.
    fn endpoint(node: Reply<'_>) -> Option<Self> {
        let mut fields = node.items()?;
        let (host, port, id, more) = (fields.next()?, fields.next()?, fields.next(), fields.next());
        let host = match host.text() {
            // A node that should have announced a host name and has none.
            Some("?") => more.and_then(|more| more.field("ip")).and_then(Reply::text).unwrap_or_default(),
            host => host.unwrap_or_default(),
        };
        let port = port.integer()?.try_into().ok().filter(|port| *port != 0)?;
        let id = id.and_then(Reply::text).unwrap_or_default();
        Some(Self { id: id.to_owned(), host: host.to_owned(), port, slots: vec![] })
    }
}

/// The slot of a key: CRC16 of the key, or of what stands between its first `{` and the next `}`.
pub fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|b| *b == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|b| *b == b'}').filter(|len| *len > 0).map(|len| &rest[..len])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM, bit by bit: names are short and few.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let crc = crc ^ (u16::from(*byte) << 8);
        (0..8).fold(crc, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::replay::Replay;
    use tokio::time::Instant;

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

    #[test]
    fn keys_have_the_slots_of_the_specification() {
        for (key, expected) in [
            ("123456789", 0x31C3),
            ("", 0),
            ("foo", 12182),
            ("user{foo}bar", 12182),
            ("{foo}", 12182),
            ("{foo}{bar}", 12182),
            ("{}foo", slot(b"{}foo")),
            ("{{foo}}", slot(b"{foo")),
        ] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
        assert_ne!(slot(b"{}foo"), slot(b"foo"), "an empty tag is none");
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }

    async fn masters(reply: &str) -> Option<Vec<(String, u16, String, u16)>> {
        let mut server = Replay::default();
        server.record("CLUSTER SLOTS", reply);
        let (mut batch, mut replies) = (Batch::default(), Replies::default());
        batch.push(&["CLUSTER", "SLOTS"]);
        server.ask(&batch, &mut replies, Deadline::until(Instant::now())).await.expect("a reply");
        let all = Master::all(replies.get(0)?)?;
        let count = |m: &Master| m.slots.iter().map(|range| range.len() as u16).sum();
        Some(all.iter().map(|m| (m.host.clone(), m.port, m.id.clone(), count(m))).collect())
    }

    #[tokio::test]
    async fn masters_are_read_from_cluster_slots() {
        let plain = "*1\r\n*3\r\n:0\r\n:9\r\n*2\r\n$1\r\nh\r\n:7000\r\n";
        assert_eq!(masters(plain).await, Some(vec![("h".into(), 7000, String::new(), 10)]));
        // Two ranges of one master, a replica, and an endpoint that the node does not know.
        let node = "*4\r\n$-1\r\n:7000\r\n$1\r\na\r\n*0\r\n";
        let replica = "*3\r\n$1\r\nr\r\n:7009\r\n$1\r\nb\r\n";
        let two = format!("*2\r\n*4\r\n:0\r\n:9\r\n{node}{replica}*3\r\n:20\r\n:20\r\n{node}");
        assert_eq!(masters(&two).await, Some(vec![(String::new(), 7000, "a".into(), 11)]));
        let unnamed = "*1\r\n*3\r\n:0\r\n:9\r\n*4\r\n$1\r\n?\r\n:1\r\n$1\r\na\r\n%1\r\n+ip\r\n+10.0.0.1\r\n";
        assert_eq!(masters(unnamed).await, Some(vec![("10.0.0.1".into(), 1, "a".into(), 10)]));
        for strange in ["+OK\r\n", "*1\r\n:1\r\n", "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n+h\r\n:1\r\n"] {
            assert_eq!(masters(strange).await, None, "{strange:?}");
        }
    }
}
