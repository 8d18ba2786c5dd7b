//! Which master serves which key, as `CLUSTER SLOTS` says it: for key work.
//!
//! `CLUSTER SLOTS` names who serves which slots under the endpoint that the operator wants clients to use.
//! ACL: `+cluster|slots` (before 7.0 `+cluster`). <https://redis.io/docs/latest/commands/cluster-slots/>

use crate::connect::Reply;
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// How many slots a Cluster has.
pub const SLOTS: u16 = 16_384;

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
        let mut places: HashMap<(String, String, u16), (usize, usize)> = HashMap::new();
        for entry in slots.items()? {
            let mut entry = entry.items()?;
            let mut number = || entry.next()?.integer()?.try_into().ok().filter(|slot| *slot < SLOTS);
            let range = number()?..=number()?;
            let master = Self::endpoint(entry.next()?)?;
            let place = (master.id.clone(), master.host.clone(), master.port);
            let (at, covered) = places.entry(place).or_insert_with(|| {
                masters.push(master);
                (masters.len() - 1, 0)
            });
            // Nobody serves more slots than there are.
            *covered += range.len();
            if range.is_empty() || *covered > usize::from(SLOTS) || masters.len() > MOST_MASTERS {
                return None;
            }
            masters[*at].slots.push(range);
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
    use crate::connect::{Batch, Converse, Deadline, Replies};
    use tokio::time::Instant;

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
        let entry = "*3\r\n:7\r\n:7\r\n*2\r\n+h\r\n:1\r\n";
        let times = |count: u16| format!("*{count}\r\n{}", entry.repeat(usize::from(count)));
        assert_eq!(masters(&times(SLOTS)).await, Some(vec![("h".into(), 1, String::new(), SLOTS)]));
        assert_eq!(masters(&times(SLOTS + 1)).await, None);
        assert_eq!(masters(&plain.replace(":0", ":10")).await, None, "from 10 to 9");
        for strange in ["+OK\r\n", "*1\r\n:1\r\n", "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n+h\r\n:1\r\n"] {
            assert_eq!(masters(strange).await, None, "{strange:?}");
        }
    }
}
