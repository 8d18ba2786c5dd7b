//! `/sd/exporters`: every peer that lives, as Prometheus' http_sd has it: <https://prometheus.io/docs/prometheus/latest/http_sd/>.
//! The file of `registry.file_sd` says the same ([`super::file_sd`]).
//!
//! What a newcomer would get wrong: an empty list means that there is nothing to watch. While nobody is known the answer is an
//! error, for which Prometheus keeps its list; while etcd is away it is who was known last.

use super::State;
use super::response::{self, Body};
use crate::config::deliver::Url;
use crate::config::{Config, build};
use crate::peers::{Known, Peer};
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One group, as the format has it.
#[derive(Serialize)]
pub(super) struct Group {
    /// `host:port`.
    pub targets: [String; 1],
    /// What else there is to know.
    pub labels: BTreeMap<String, String>,
}

/// Where a copy of this exporter is reached.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    /// `host:port`.
    target: String,
    /// Else it is for the job to say: there may be a proxy before us that has TLS.
    is_https: bool,
}

impl Place {
    /// By the URL that it gives.
    pub fn advertised(url: &Url) -> Self {
        let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
        Self { target: format!("{host}:{}", url.port), is_https: url.secure }
    }

    /// Ourselves: as we say to the others; else as the operator says, or the request. `None`: nobody says.
    pub fn ourselves(config: &Config, request: &Request<()>, has_tls: bool) -> Option<Self> {
        if let Some(registry) = &config.peers.registry {
            return Some(Self::advertised(&registry.advertise));
        }
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        let authority = request.uri().authority().map(ToString::to_string);
        let target = config.serve.external_address.clone().or(host).or(authority)?;
        Some(Self { target, is_https: has_tls })
    }

    /// A group of it with these labels, for a path of it; `None`: that is for the job to say.
    pub fn group(&self, path: Option<&str>, mut labels: BTreeMap<String, String>) -> Group {
        if let Some(path) = path {
            labels.insert("__metrics_path__".into(), path.into());
        }
        if self.is_https {
            labels.insert("__scheme__".into(), "https".into());
        }
        Group { targets: [self.target.clone()], labels }
    }
}

/// Everybody who was known last; `None` while there may be others and nobody is known.
pub(super) fn peers(config: &Config, known: &Known) -> Option<Arc<[Arc<Peer>]>> {
    let peers = known.peers();
    let has_others = config.peers.registry.as_ref().is_some_and(|registry| registry.etcd.is_some());
    Some(peers).filter(|peers| !has_others || !peers.is_empty())
}

/// The answer while nobody is known.
pub(super) fn unknown() -> Response<Body> {
    response::error(StatusCode::SERVICE_UNAVAILABLE, "the peers are not known yet: etcd has not answered")
}

/// The answer where nobody says how we are called.
pub(super) fn nameless() -> Response<Body> {
    response::error(StatusCode::BAD_REQUEST, "the request names no Host: say --web.external-address")
}

/// Answers `/sd/exporters`.
pub async fn page(state: State, request: Request<()>) -> Response<Body> {
    let config = state.config.borrow().clone();
    let known = state.peers.known();
    let Some(peers) = peers(&config, known) else { return unknown() };
    let own = Place::ourselves(&config, &request, state.web.current().tls.is_some());
    own.map_or_else(nameless, |own| response::json(text(&peers, &own)))
}

/// The list as it is written; of ourselves where there are no others.
pub(super) fn text(peers: &[Arc<Peer>], own: &Place) -> String {
    let mut groups: Vec<_> = peers.iter().map(|peer| group(peer)).collect();
    if groups.is_empty() {
        let version = ("__meta_redvigil_version".to_owned(), build::VERSION.to_owned());
        groups.push(own.group(None, [version].into()));
    }
    serde_json::to_string(&groups).unwrap_or_default() + "\n"
}

fn group(peer: &Peer) -> Group {
    let meta = [
        ("id", Some(peer.id.clone())),
        ("zone", peer.zone.clone()),
        ("weight", Some(peer.weight.to_string())),
        ("version", Some(peer.version.clone())),
    ];
    let labels =
        meta.into_iter().filter_map(|(name, value)| Some((format!("__meta_redvigil_{name}"), value?)));
    Place::advertised(&peer.url).group(None, labels.collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A peer that says that of itself.
    pub fn peer(url: &str, zone: Option<&str>) -> Arc<Peer> {
        let url = Url::parse(url).expect("a URL");
        Arc::new(Peer {
            id: url.authority(),
            url,
            zone: zone.map(Into::into),
            weight: 100,
            version: "1.2.3".into(),
            config_hash: String::new(),
            started: 0,
        })
    }

    #[test]
    fn each_peer_is_a_group_with_what_it_says_of_itself() {
        let own = Place { target: "own:1".into(), is_https: true };
        let peers = [peer("http://a:9121", None), peer("https://[::1]/", Some("z"))];
        let check = |peers: &[Arc<Peer>], expected: &[&str]| {
            assert_eq!(text(peers, &own), format!("[{}]\n", expected.join(",")));
        };
        check(
            &peers,
            &[
                r#"{"targets":["a:9121"],"labels":{"__meta_redvigil_id":"a:9121","__meta_redvigil_version":"1.2.3","__meta_redvigil_weight":"100"}}"#,
                r#"{"targets":["[::1]:443"],"labels":{"__meta_redvigil_id":"[::1]","__meta_redvigil_version":"1.2.3","__meta_redvigil_weight":"100","__meta_redvigil_zone":"z","__scheme__":"https"}}"#,
            ],
        );
        let alone = format!(
            r#"{{"targets":["own:1"],"labels":{{"__meta_redvigil_version":"{}","__scheme__":"https"}}}}"#,
            build::VERSION
        );
        check(&[], &[&alone]);
    }
}
