//! `/sd/targets`: every member as Prometheus' http_sd has it, so that `/scrape` is asked for each without any
//! relabelling: <https://prometheus.io/docs/prometheus/latest/http_sd/>.
//!
//! The target of every group is ourselves, by HTTPS where we have TLS; where there are other peers, whichever has the service, or had
//! it last, by the URL that it gives. Each of them lists all. `__param_target` says which member is meant, and
//! `__param_service` of which service; `instance` and `service` say whose samples these are. One more group for each peer is for
//! what it says of itself and of its services. Where `/scrape` is switched off there is one group in all for each peer: the
//! telemetry path, which has the labels of members in itself.
//!
//! What a newcomer would get wrong: an empty list means that there is nothing to watch, and Prometheus then
//! drops all it had. While no service at all was seen, the answer is an error, for which it keeps its list. One
//! that cannot be reached does not take the others away.

use super::State;
use super::exporters::{self, Group, Place};
use super::response::{self, Body};
use crate::config::Config;
use crate::config::discover::Source;
use crate::connect::Kind;
use crate::discover::{Service, Topology, file};
use crate::peers::Peer;
use crate::scrape::sets::labels;
use hyper::{Request, Response, StatusCode};
use std::sync::Arc;

/// Answers `/sd/targets`.
pub async fn page(state: State, request: Request<()>) -> Response<Body> {
    let config = state.config.borrow().clone();
    let own = Place::ourselves(&config, &request, state.web.current().tls.is_some());
    let Some(own) = own else { return exporters::nameless() };
    let known = state.peers.known();
    let shares = config.peers.registry.as_ref().is_some_and(|registry| registry.sharding.enabled);
    let peers = match exporters::peers(&config, known) {
        // Each has all, and lists what it has.
        _ if !shares => [].into(),
        Some(peers) => peers,
        None => return exporters::unknown(),
    };
    let topology = state.topology.borrow().clone();
    // The one page of all has something to say before anybody was seen.
    if config.serve.scrape_endpoint
        && let Some(service) = unseen(&config, &topology.services).await
    {
        let why = service.failure.as_ref().map_or("nobody has answered yet", |(kind, _)| Kind::as_str(*kind));
        let reason = format!("the members of {} are not known: {why}", service.name);
        return response::error(StatusCode::SERVICE_UNAVAILABLE, reason);
    }
    let owner = |service: &str| known.owner(service);
    let groups = groups(&config, &topology, &own, (&peers, owner));
    response::json(serde_json::to_string(&groups).unwrap_or_default())
}

/// What Prometheus is to ask: each peer for the members that it has or had last, and each for itself.
fn groups(
    config: &Config,
    topology: &Topology,
    own: &Place,
    (peers, owner): (&[Arc<Peer>], impl Fn(&str) -> Option<Arc<Peer>>),
) -> Vec<Group> {
    let mut places: Vec<_> = peers.iter().map(|peer| Place::advertised(&peer.url)).collect();
    if places.is_empty() {
        places.push(own.clone());
    }
    let of_each = |path: &str| places.iter().map(|place| place.group(Some(path), <_>::default())).collect();
    if !config.serve.scrape_endpoint {
        return of_each(&config.serve.telemetry_path);
    }
    let mut services: Vec<_> = topology.services.iter().collect();
    services.sort_by_key(|service| &service.name);
    let mut groups = vec![];
    for service in services {
        let place = owner(&service.name).map_or_else(|| own.clone(), |peer| Place::advertised(&peer.url));
        groups.extend(service.members.iter().map(|member| {
            let mut labels = labels(config, &service.name, Some(member));
            labels.insert("__param_target".into(), member.address.to_string());
            labels.insert("__param_service".into(), service.name.to_string());
            place.group(Some("/scrape"), labels)
        }));
    }
    groups.extend::<Vec<_>>(of_each("/-/metrics"));
    groups
}

/// A service that was not seen, where none was.
async fn unseen<'a>(config: &Config, services: &'a [Arc<Service>]) -> Option<&'a Service> {
    for service in services {
        if service.answered.is_some() || !service.members.is_empty() {
            return None;
        }
        // Whoever writes the files has nobody to list yet.
        if service.failure.is_some()
            && let Some(Source::FileSd(patterns)) =
                config.discover.service(&service.name).map(|service| &service.source)
            && file::are_absent(patterns.clone()).await
        {
            return None;
        }
    }
    services.first().map(|service| &**service)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Address;
    use crate::config::discover;
    use crate::discover::fixed::member;
    use crate::serve::exporters::tests::peer;
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::time::Instant;

    #[test]
    fn what_prometheus_is_to_ask_follows_tls_and_what_is_switched_off() {
        let check = |(has_scrape, is_https): (bool, bool),
                     peers: &[&str],
                     owners: [Option<usize>; 2],
                     expected: &[&str]| {
            let mut config = Config::default();
            config.serve.scrape_endpoint = has_scrape;
            config.serve.telemetry_path = "/m".into();
            let service = |(name, port): (&str, u16)| {
                let members = vec![Arc::new(member(Address::tcp("h", port), BTreeMap::new()))];
                Arc::new(Service { members, ..Service::unknown(name.into(), "instances") })
            };
            // In the order of the configuration, which that of the list is not.
            let services: Vec<_> = [("t", 2), ("s", 1)].into_iter().map(service).collect();
            let topology = Topology { services: services.into() };
            let shown = |group: &Group| {
                let label = |name| group.labels.get(name).map_or("-", String::as_str);
                let [path, scheme, target] = ["__metrics_path__", "__scheme__", "__param_target"].map(label);
                format!("{} {path} {scheme} {target} {}", group.targets[0], label("instance"))
            };
            let scheme = if is_https { "https" } else { "http" };
            let own = Place::advertised(&peer(&format!("{scheme}://own:1"), None).url);
            let peers: Vec<_> = peers.iter().map(|url| peer(url, None)).collect();
            let owner = |service: &str| Some(peers[owners[usize::from(service == "t")]?].clone());
            let groups: Vec<_> =
                groups(&config, &topology, &own, (&peers, owner)).iter().map(shown).collect();
            assert_eq!(groups, expected, "{has_scrape} {is_https} {peers:?}");
        };
        let nobody = [None, None];
        let plain =
            ["own:1 /scrape - redis://h:1 h:1", "own:1 /scrape - redis://h:2 h:2", "own:1 /-/metrics - - -"];
        let secure = [
            "own:1 /scrape https redis://h:1 h:1",
            "own:1 /scrape https redis://h:2 h:2",
            "own:1 /-/metrics https - -",
        ];
        check((true, false), &[], nobody, &plain);
        check((true, true), &[], nobody, &secure);
        check((false, false), &[], nobody, &["own:1 /m - - -"]);
        check((false, true), &[], nobody, &["own:1 /m https - -"]);
        // Others: who has it, by its URL; what nobody ever had is ours.
        let others = ["http://a:9121", "https://b:1"];
        let shared = [
            "b:1 /scrape https redis://h:1 h:1",
            "own:1 /scrape - redis://h:2 h:2",
            "a:9121 /-/metrics - - -",
            "b:1 /-/metrics https - -",
        ];
        check((true, false), &others, [Some(1), None], &shared);
        check((false, false), &others, [Some(1), None], &["a:9121 /m - - -", "b:1 /m https - -"]);
    }

    fn failed(name: &str, kind: &'static str) -> Service {
        let failure = Some((Kind::Refused, "nobody listens".into()));
        Service { failure, ..Service::unknown(name.into(), kind) }
    }

    async fn check(folder: &Path, services: Vec<Service>, expected: Option<&str>) {
        let mut config = Config::default();
        for (name, file) in [("absent", "none.yaml"), ("broken", "broken.yaml"), ("folder", "none/*.yaml")] {
            let source = Source::FileSd(vec![folder.join(file)]);
            config.discover.services.push(Arc::new(discover::Service::new(name, source)));
        }
        let services: Vec<_> = services.into_iter().map(Arc::new).collect();
        let found = unseen(&config, &services).await.map(|service| &*service.name);
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn one_service_that_was_seen_is_enough() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("broken.yaml"), "{").expect("written");
        let unknown = || Service::unknown("new".into(), "instances");
        let answered = || Service { answered: Some(Instant::now()), ..unknown() };
        let remembered = || {
            let members = vec![Arc::new(member(Address::tcp("a", 1), BTreeMap::new()))];
            Service { members, ..failed("old", "sentinel") }
        };
        let path = folder.path();
        check(path, vec![], None).await;
        check(path, vec![unknown()], Some("new")).await;
        check(path, vec![failed("a", "sentinel"), unknown()], Some("a")).await;
        check(path, vec![failed("a", "sentinel"), answered()], None).await;
        check(path, vec![failed("a", "sentinel"), remembered()], None).await;
        // Files that are not there list nobody; one that cannot be understood might.
        check(path, vec![failed("absent", "file_sd")], None).await;
        check(path, vec![failed("folder", "file_sd")], None).await;
        check(path, vec![failed("broken", "file_sd")], Some("broken")).await;
        check(path, vec![Service::unknown("absent".into(), "file_sd")], Some("absent")).await;
    }
}
