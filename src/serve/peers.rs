//! `/api/v1/peers`: the other copies of this exporter, and who has what.
//!
//! What a newcomer would get wrong: it is how we see it. While etcd is away that may be old, and `frozen` says so.

use super::State;
use super::api::json;
use super::response::Body;
use crate::config::Config;
use crate::peers::board::Status;
use crate::peers::families;
use crate::peers::{Board, Known, SHARDS, Share, Standing};
use crate::telemetry::{Metrics, metrics};
use exposition::{Builder, Families};
use hyper::Response;
use serde::Serialize;
use std::sync::Arc;

/// What pages say of peers.
#[derive(Clone)]
pub struct Peers {
    /// What is ours, and who the others are.
    pub share: Share,
    /// How it is with etcd.
    pub board: Arc<Board>,
    /// Who was there last: see [`Self::known`].
    pub last: Known,
}

impl Peers {
    /// There are no others.
    pub fn none() -> Self {
        Self { share: Share::alone(), board: Arc::default(), last: Known::default() }
    }

    /// Who was there last, up to now.
    pub fn known(&self) -> &Known {
        self.last.follow(&self.share.standing.borrow());
        &self.last
    }

    /// What is known of it, for a page of ours; nothing without a registry.
    pub fn families(&self, metrics: &Metrics, config: &Config) -> Families {
        let mut out = Builder::with_namespace(&config.collect.namespace);
        if config.peers.registry.is_some() && !config.serve.redis_only {
            metrics::record_peers(metrics, &mut out);
            let standing = self.share.standing.borrow().clone();
            families::record(&self.board.status(), &standing, self.share.fence.is_open(), &mut out);
        }
        out.finish()
    }
}

/// Who is there, and who has what.
#[derive(Serialize)]
struct PeersJson {
    own: Option<String>,
    number: u64,
    registered: bool,
    etcd_up: Option<bool>,
    error: Option<String>,
    frozen: bool,
    collecting: bool,
    shards: u64,
    leaving: Vec<u8>,
    unowned: Vec<u8>,
    peers: Vec<PeerJson>,
}

/// One copy of this exporter.
#[derive(Serialize)]
struct PeerJson {
    id: String,
    url: String,
    zone: Option<String>,
    weight: u32,
    version: String,
    config_hash: String,
    started: f64,
    shards: Vec<u8>,
}

/// Answers `/api/v1/peers`.
pub async fn page(state: State) -> Response<Body> {
    let standing = state.peers.share.standing.borrow().clone();
    json(&peers_json(&standing, &state.peers.board.status(), state.peers.share.fence.is_open()))
}

fn peers_json(standing: &Standing, status: &Status, is_open: bool) -> PeersJson {
    let shards_of = |owner: Option<usize>| {
        let all = (0..=u8::MAX).zip(standing.owners.iter());
        all.filter(|(_, place)| place.map(usize::from) == owner).map(|(shard, _)| shard).collect::<Vec<_>>()
    };
    let peers = standing.peers.iter().enumerate().map(|(place, peer)| PeerJson {
        id: peer.id.clone(),
        url: peer.url.to_string(),
        zone: peer.zone.clone(),
        weight: peer.weight,
        version: peer.version.clone(),
        config_hash: peer.config_hash.clone(),
        started: peer.started as f64 / 1000.0,
        shards: shards_of(Some(place)),
    });
    let own = standing.own.and_then(|place| standing.peers.get(usize::from(place)));
    PeersJson {
        own: own.map(|peer| peer.id.clone()),
        number: standing.number,
        registered: status.is_registered,
        etcd_up: Some(status.is_up).filter(|_| status.is_used),
        error: status.error.as_ref().map(|(_, text)| text.clone()),
        frozen: standing.frozen,
        collecting: is_open && !standing.ours.is_empty(),
        shards: SHARDS as u64,
        leaving: standing.leaving.iter().collect(),
        // Alone, all is ours without a word.
        unowned: shards_of(None).into_iter().filter(|shard| !standing.ours.has(*shard)).collect(),
        peers: peers.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::Shards;
    use crate::serve::exporters::tests::peer;
    use std::sync::Arc;

    fn check(standing: &Standing, status: &Status, is_open: bool, expected: &str) {
        let mut shown = peers_json(standing, status, is_open);
        // Most of them.
        let unowned = std::mem::take(&mut shown.unowned).len();
        let shown = serde_json::to_string(&shown).expect("JSON");
        let shown = shown.replace(r#""unowned":[]"#, &format!(r#""unowned":{unowned}"#));
        assert_eq!(shown, expected);
    }

    #[test]
    fn who_has_what_is_told_by_peer() {
        let alone = r#"{"own":null,"number":0,"registered":false,"etcd_up":null,"error":null,"frozen":false,"collecting":true,"shards":256,"leaving":[],"unowned":0,"peers":[]}"#;
        check(&Standing::alone(), &Status::default(), true, alone);
        let nothing = r#"{"own":null,"number":0,"registered":false,"etcd_up":null,"error":null,"frozen":false,"collecting":false,"shards":256,"leaving":[],"unowned":256,"peers":[]}"#;
        check(&Standing::nothing(), &Status::default(), true, nothing);
        let mut owners = [None; SHARDS];
        (owners[3], owners[4], owners[200]) = (Some(0), Some(1), Some(0));
        let ours: Shards = [3, 200].into_iter().collect();
        let standing = Standing {
            number: 7,
            ours,
            leaving: [200].into_iter().collect(),
            peers: vec![peer("http://a:9121/", Some("z")), peer("https://b:1", None)],
            owners: Arc::new(owners),
            own: Some(0),
            left: Arc::default(),
            frozen: true,
        };
        let shared = concat!(
            r#"{"own":"a:9121","number":7,"registered":true,"etcd_up":false,"error":"no answer","frozen":true,"collecting":false,"shards":256,"leaving":[200],"unowned":253,"peers":["#,
            r#"{"id":"a:9121","url":"http://a:9121/","zone":"z","weight":100,"version":"1.2.3","config_hash":"","started":0.0,"shards":[3,200]},"#,
            r#"{"id":"b:1","url":"https://b:1/","zone":null,"weight":100,"version":"1.2.3","config_hash":"","started":0.0,"shards":[4]}]}"#,
        );
        let error = Some((crate::net::etcd::Kind::ALL[0], "no answer".to_owned()));
        let status = Status { is_used: true, is_registered: true, error, ..Status::default() };
        check(&standing, &status, false, shared);
    }
}
