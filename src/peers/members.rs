//! Who lives, and since when they are the same.
//!
//! What stands in etcd was written by others, perhaps of another version, perhaps by hand: it has limits, and what cannot be
//! read is left out and counted.
//!
//! What a newcomer would get wrong: a peer that starts again under its name is a change, too.

use super::assign::{HEAVIEST, reassign};
use super::shards::SHARDS;
use super::share::Peer;
use crate::config::deliver::Url;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;

/// The most peers; those behind, in the order of their ids, are left out and counted as broken.
pub const MOST_PEERS: usize = 1_000;

/// The most that one may say of itself, in bytes.
const LONGEST: usize = 16 << 10;

/// The longest text in there, in bytes.
const LONGEST_TEXT: usize = 256;

/// Who lives.
#[derive(Debug)]
pub struct Members {
    known: BTreeMap<String, (Arc<Peer>, i64)>,
    broken: BTreeSet<String>,
    peers: Vec<Arc<Peer>>,
    preferred: [Option<u16>; SHARDS],
    same_since: Instant,
}

impl Members {
    /// Nobody.
    pub fn none(now: Instant) -> Self {
        Self {
            known: BTreeMap::new(),
            broken: BTreeSet::new(),
            peers: vec![],
            preferred: [None; SHARDS],
            same_since: now,
        }
    }

    /// All of them, in the order of their ids.
    pub fn peers(&self) -> &[Arc<Peer>] {
        &self.peers
    }

    /// The place of one.
    pub fn place(&self, id: &str) -> Option<u16> {
        let place = self.peers.binary_search_by(|peer| (*peer.id).cmp(id)).ok()?;
        u16::try_from(place).ok()
    }

    /// Who should have each shard.
    pub fn preferred(&self) -> &[Option<u16>; SHARDS] {
        &self.preferred
    }

    /// Since when they are the same.
    pub fn same_since(&self) -> Instant {
        self.same_since
    }

    /// How many cannot be read, or are too many.
    pub fn broken(&self) -> usize {
        self.broken.len() + self.known.len() - self.peers.len()
    }

    /// These are all: id, value and revision of each.
    pub fn list<'a>(&mut self, all: impl Iterator<Item = (&'a str, &'a [u8], i64)>, now: Instant) {
        self.known.clear();
        self.broken.clear();
        for (id, value, revision) in all {
            self.note(id, value, revision);
        }
        self.renew(now);
    }

    /// One says that of itself.
    pub fn put(&mut self, id: &str, value: &[u8], revision: i64, now: Instant) {
        if self.known.get(id).is_none_or(|(_, known)| *known < revision) {
            self.note(id, value, revision);
            self.renew(now);
        }
    }

    /// One is gone.
    pub fn delete(&mut self, id: &str, revision: i64, now: Instant) {
        self.broken.remove(id);
        if self.known.get(id).is_some_and(|(_, known)| *known < revision) {
            self.known.remove(id);
            self.renew(now);
        }
    }

    fn note(&mut self, id: &str, value: &[u8], revision: i64) {
        match parse(id, value) {
            Some(peer) => {
                self.broken.remove(id);
                self.known.insert(id.into(), (Arc::new(peer), revision));
            }
            None => {
                self.known.remove(id);
                // As many as there are peers: who writes more has something else in mind.
                if self.broken.len() < MOST_PEERS {
                    self.broken.insert(id.chars().take(LONGEST_TEXT).collect());
                }
            }
        }
    }

    fn renew(&mut self, now: Instant) {
        let peers: Vec<_> = self.known.values().take(MOST_PEERS).map(|(peer, _)| peer.clone()).collect();
        fn who(peer: &Arc<Peer>) -> (&str, u32, u64) {
            (&peer.id, peer.weight, peer.started)
        }
        fn weights(peers: &[Arc<Peer>]) -> Vec<(&str, u32)> {
            peers.iter().map(|peer| (&*peer.id, peer.weight)).collect()
        }
        if !peers.iter().map(who).eq(self.peers.iter().map(who)) {
            self.same_since = now;
            self.preferred = reassign(&self.preferred, &weights(&self.peers), &weights(&peers));
        }
        self.peers = peers;
    }
}

/// A peer as it stands in etcd. Fields may be added; those that are there stay.
#[derive(Serialize, Deserialize)]
struct Json {
    id: String,
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    weight: u32,
    version: String,
    config_hash: String,
    started: u64,
}

/// What a peer says of itself.
pub fn written(peer: &Peer) -> String {
    let json = Json {
        id: peer.id.clone(),
        url: address(&peer.url),
        zone: peer.zone.clone(),
        weight: peer.weight,
        version: peer.version.clone(),
        config_hash: peer.config_hash.clone(),
        started: peer.started,
    };
    serde_json::to_string(&json).unwrap_or_default()
}

/// The URL of a peer as a text.
pub fn address(url: &Url) -> String {
    let path = if url.path == "/" { "" } else { &url.path };
    format!("{}://{}{path}", if url.secure { "https" } else { "http" }, url.authority())
}

/// What somebody says of itself under that id; `None`: nothing that we understand.
fn parse(id: &str, value: &[u8]) -> Option<Peer> {
    if value.len() > LONGEST {
        return None;
    }
    let json: Json = serde_json::from_slice(value).ok()?;
    let texts =
        [Some(&json.id), Some(&json.url), json.zone.as_ref(), Some(&json.version), Some(&json.config_hash)];
    let is_plain = |text: &String| text.len() <= LONGEST_TEXT && !text.chars().any(char::is_control);
    if json.id != id || json.id.is_empty() || !texts.into_iter().flatten().all(is_plain) {
        return None;
    }
    Some(Peer {
        id: json.id,
        url: Url::parse(&json.url).ok()?,
        zone: json.zone,
        weight: json.weight.clamp(1, HEAVIEST),
        version: json.version,
        config_hash: json.config_hash,
        started: json.started,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn peer(id: &str) -> Peer {
        Peer {
            id: id.into(),
            url: Url::parse(&format!("http://{id}")).unwrap(),
            zone: Some("a".into()),
            weight: 100,
            version: "1".into(),
            config_hash: "abc".into(),
            started: 7,
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for id in ["10.0.0.1:9121", "[::1]:9121", "exporter.example:80"] {
            let written = written(&peer(id));
            assert_eq!(parse(id, written.as_bytes()), Some(peer(id)), "{written}");
        }
        let mut https = peer("a:9121");
        https.url = Url::parse("https://a:9121/under/here").unwrap();
        https.zone = None;
        assert_eq!(parse("a:9121", written(&https).as_bytes()), Some(https));
    }

    #[test]
    fn what_others_wrote_is_not_believed() {
        fn check(value: &str, weight: Option<u32>) {
            assert_eq!(parse("a:1", value.as_bytes()).map(|peer| peer.weight), weight, "{value}");
        }
        let whole = |id: &str, url: &str, weight: &str, more: &str| {
            format!(
                r#"{{"id":"{id}","url":"{url}","weight":{weight},"version":"1","config_hash":"x","started":1{more}}}"#
            )
        };
        check(&whole("a:1", "http://a:1", "5", ""), Some(5));
        check(&whole("a:1", "http://a:1", "5", r#","something":{"new":[1]},"zone":null"#), Some(5));
        check(&whole("a:1", "http://a:1", "0", ""), Some(1));
        check(&whole("a:1", "http://a:1", "4294967295", ""), Some(10_000));
        check(&whole("a:1", "http://a:1", "4294967296", ""), None);
        check(&whole("b:1", "http://a:1", "5", ""), None);
        check(&whole("a:1", "a:1", "5", ""), None);
        check(&whole("a:1", "http://u:p@a:1", "5", ""), None);
        check(&whole("a:1", "http://a:1", "5", &format!(r#","zone":"{}""#, "x".repeat(257))), None);
        check(&whole("a:1", "http://a:1", "5", r#","zone":"\u0000""#), None);
        check(&whole("a:1", "http://a:1", "5", &format!(r#","more":"{}""#, "x".repeat(17_000))), None);
        for broken in ["", "{}", "null", "[]", "http://a:1", "{\"id\":\"a:1\"}", "\u{0}"] {
            check(broken, None);
        }
    }

    #[test]
    fn a_thousand_that_come_one_by_one_are_taken_in_within_a_moment() {
        let begun = std::time::Instant::now();
        let mut members = Members::none(Instant::now());
        for n in 0..MOST_PEERS {
            let id = format!("10.0.{}.{}:9121", n / 250, n % 250);
            let value = written(&peer(&id));
            members.put(&id, value.as_bytes(), n as i64 + 1, Instant::now());
        }
        let took = begun.elapsed();
        println!("a thousand peers: {took:?}");
        assert!(members.preferred().iter().all(Option::is_some));
        // Drawn are the shards of one that comes, and not of all that are there: that took 75 s.
        assert!(took < Duration::from_secs(20), "{took:?}");
    }

    #[test]
    fn who_they_are_counts_and_not_what_they_say_beside() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut members = Members::none(start);
        let (a, b) = (written(&peer("a:1")), written(&peer("b:1")));
        members.list([("b:1", b.as_bytes(), 3), ("a:1", a.as_bytes(), 2), ("x", b"?", 4)].into_iter(), at(1));
        assert_eq!(
            (members.place("a:1"), members.place("b:1"), members.place("x")),
            (Some(0), Some(1), None)
        );
        assert_eq!((members.broken(), members.same_since()), (1, at(1)));
        // Another zone or hash changes no work.
        let other = written(&Peer { zone: None, config_hash: "y".into(), ..peer("a:1") });
        members.put("a:1", other.as_bytes(), 5, at(2));
        assert_eq!((members.same_since(), &*members.peers()[0].config_hash), (at(1), "y"));
        // What is older than what is known does not count.
        members.put("a:1", a.as_bytes(), 4, at(3));
        members.delete("a:1", 3, at(3));
        assert_eq!((members.peers().len(), &*members.peers()[0].config_hash), (2, "y"));
        let again = written(&Peer { started: 8, ..peer("a:1") });
        members.put("a:1", again.as_bytes(), 6, at(4));
        assert_eq!(members.same_since(), at(4));
        members.put("b:1", b"broken", 7, at(5));
        assert_eq!((members.peers().len(), members.broken(), members.same_since()), (1, 2, at(5)));
        assert_eq!(members.preferred(), &[Some(0); SHARDS]);
        members.delete("b:1", 8, at(6));
        members.delete("a:1", 9, at(7));
        assert_eq!((members.peers().len(), members.broken(), members.same_since()), (0, 1, at(7)));
    }
}
