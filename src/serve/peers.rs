//! `/api/v1/peers`: the other copies of this exporter, and who has what.
//!
//! What a newcomer would get wrong: it is how we see it. While etcd is away that may be old, and `frozen` says so.

use super::State;
use super::api::json;
use super::response::Body;
use crate::peers::{SHARDS, Standing};
use hyper::Response;
use serde::Serialize;

/// Who is there, and who has what.
#[derive(Serialize)]
struct PeersJson {
    own: Option<String>,
    number: u64,
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
    let standing = state.share.standing.borrow().clone();
    json(&peers_json(&standing, state.share.fence.is_open()))
}

fn peers_json(standing: &Standing, is_open: bool) -> PeersJson {
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

    fn check(standing: &Standing, is_open: bool, expected: &str) {
        let mut shown = peers_json(standing, is_open);
        // Most of them.
        let unowned = std::mem::take(&mut shown.unowned).len();
        let shown = serde_json::to_string(&shown).expect("JSON");
        let shown = shown.replace(r#""unowned":[]"#, &format!(r#""unowned":{unowned}"#));
        assert_eq!(shown, expected);
    }

    #[test]
    fn who_has_what_is_told_by_peer() {
        let alone = r#"{"own":null,"number":0,"frozen":false,"collecting":true,"shards":256,"leaving":[],"unowned":0,"peers":[]}"#;
        check(&Standing::alone(), true, alone);
        let nothing = r#"{"own":null,"number":0,"frozen":false,"collecting":false,"shards":256,"leaving":[],"unowned":256,"peers":[]}"#;
        check(&Standing::nothing(), true, nothing);
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
            frozen: true,
        };
        let shared = concat!(
            r#"{"own":"a:9121","number":7,"frozen":true,"collecting":false,"shards":256,"leaving":[200],"unowned":253,"peers":["#,
            r#"{"id":"a:9121","url":"http://a:9121/","zone":"z","weight":100,"version":"1.2.3","config_hash":"","started":0.0,"shards":[3,200]},"#,
            r#"{"id":"b:1","url":"https://b:1/","zone":null,"weight":100,"version":"1.2.3","config_hash":"","started":0.0,"shards":[4]}]}"#,
        );
        check(&standing, false, shared);
    }
}
