//! `/sd/targets`: every member as Prometheus' http_sd has it, so that `/scrape` is asked for each without any
//! relabelling: <https://prometheus.io/docs/prometheus/latest/http_sd/>.
//!
//! The target of every group is ourselves, by HTTPS where we have TLS. `__param_target` says which member is meant, and
//! `__param_service` of which service; `instance` and `service` say whose samples these are. One more group is for what
//! we say of ourselves and of the services. Where `/scrape` is switched off there is one group in all: the telemetry
//! path, which has the labels of members in itself.
//!
//! What a newcomer would get wrong: an empty list means that there is nothing to watch, and Prometheus then
//! drops all it had. While no service at all was seen, the answer is an error, for which it keeps its list. One
//! that cannot be reached does not take the others away.

use super::State;
use super::response::{self, Body};
use crate::config::Config;
use crate::config::discover::Source;
use crate::connect::Kind;
use crate::discover::{Service, file};
use crate::scrape::Slot;
use crate::scrape::sets::labels;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One group, as the format has it.
#[derive(Serialize)]
struct Group {
    targets: [String; 1],
    labels: BTreeMap<String, String>,
}

/// Answers `/sd/targets`.
pub async fn page(state: State, request: Request<()>) -> Response<Body> {
    let config = state.config.borrow().clone();
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let authority = request.uri().authority().map(ToString::to_string);
    let Some(own) = config.serve.external_address.clone().or(host).or(authority) else {
        let reason = "the request names no Host: say --web.external-address";
        return response::error(StatusCode::BAD_REQUEST, reason);
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
    let has_tls = state.web.current().tls.is_some();
    let groups = groups(&config, &state.store.slots(), &own, has_tls);
    response::json(serde_json::to_string(&groups).unwrap_or_default())
}

/// What Prometheus is to ask.
fn groups(config: &Config, slots: &[Arc<Slot>], own: &str, has_tls: bool) -> Vec<Group> {
    let group = |path: &str, mut labels: BTreeMap<String, String>| {
        labels.insert("__metrics_path__".into(), path.into());
        // Without TLS of ours it is for the job to say: there may be a proxy before us that has some.
        if has_tls {
            labels.insert("__scheme__".into(), "https".into());
        }
        Group { targets: [own.to_owned()], labels }
    };
    if !config.serve.scrape_endpoint {
        return vec![group(&config.serve.telemetry_path, BTreeMap::new())];
    }
    let of_member = |slot: &Arc<Slot>| {
        let mut labels = labels(config, &slot.service, Some(slot));
        labels.insert("__param_target".into(), slot.member.address.to_string());
        labels.insert("__param_service".into(), slot.service.to_string());
        group("/scrape", labels)
    };
    slots.iter().map(of_member).chain([group("/-/metrics", BTreeMap::new())]).collect()
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
    use std::path::Path;
    use std::time::Instant;

    #[test]
    fn what_prometheus_is_to_ask_follows_tls_and_what_is_switched_off() {
        let check = |has_scrape: bool, has_tls: bool, expected: &[&str]| {
            let mut config = Config::default();
            config.serve.scrape_endpoint = has_scrape;
            config.serve.telemetry_path = "/m".into();
            let at = Arc::new(member(Address::tcp("h", 1), BTreeMap::new()));
            let slot = Arc::new(Slot::new("s".into(), at, Arc::default()));
            let shown = |group: &Group| {
                let label = |name| group.labels.get(name).map_or("-", String::as_str);
                let [path, scheme, target] = ["__metrics_path__", "__scheme__", "__param_target"].map(label);
                format!("{} {path} {scheme} {target} {}", group.targets[0], label("instance"))
            };
            let groups: Vec<_> = groups(&config, &[slot], "own:1", has_tls).iter().map(shown).collect();
            assert_eq!(groups, expected, "{has_scrape} {has_tls}");
        };
        let plain = ["own:1 /scrape - redis://h:1 h:1", "own:1 /-/metrics - - -"];
        check(true, false, &plain);
        check(true, true, &["own:1 /scrape https redis://h:1 h:1", "own:1 /-/metrics https - -"]);
        check(false, false, &["own:1 /m - - -"]);
        check(false, true, &["own:1 /m https - -"]);
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
