//! `/sd/targets`: every member as Prometheus' http_sd has it, so that `/scrape` is asked for each without any
//! relabelling: <https://prometheus.io/docs/prometheus/latest/http_sd/>.
//!
//! The target of every group is ourselves. `__param_target` says which member is meant, and
//! `__param_service` of which service; `instance` and `service` say whose samples these are. One more group is for what we say of ourselves and of the services.
//!
//! What a newcomer would get wrong: an empty list means that there is nothing to watch, and Prometheus then
//! drops all it had. While no service at all was seen, the answer is an error, for which it keeps its list. One
//! that cannot be reached does not take the others away.

use super::State;
use super::fleet::labels;
use super::response::{self, Body};
use crate::config::Config;
use crate::config::discover::Source;
use crate::connect::Kind;
use crate::discover::{Service, file};
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
    if let Some(service) = unseen(&config, &topology.services).await {
        let why = service.failure.as_ref().map_or("nobody has answered yet", |(kind, _)| Kind::as_str(*kind));
        let reason = format!("the members of {} are not known: {why}", service.name);
        return response::error(StatusCode::SERVICE_UNAVAILABLE, reason);
    }
    let mut groups = vec![];
    for slot in state.store.slots().iter() {
        let mut labels = labels(&config, &slot.service, Some(slot));
        labels.insert("__metrics_path__".into(), "/scrape".into());
        labels.insert("__param_target".into(), slot.member.address.to_string());
        labels.insert("__param_service".into(), slot.service.to_string());
        groups.push(Group { targets: [own.clone()], labels });
    }
    let labels = [("__metrics_path__".to_owned(), "/-/metrics".to_owned())];
    groups.push(Group { targets: [own.clone()], labels: labels.into() });
    response::json(serde_json::to_string(&groups).unwrap_or_default())
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

    fn failed(name: &str, kind: &'static str) -> Service {
        let failure = Some((Kind::Refused, "nobody listens".into()));
        Service { failure, ..Service::unknown(name.into(), kind) }
    }

    async fn check(folder: &Path, services: Vec<Service>, expected: Option<&str>) {
        let mut config = Config::default();
        for (name, file) in [("absent", "none.yaml"), ("broken", "broken.yaml"), ("folder", "none/*.yaml")] {
            let source = Source::FileSd(vec![folder.join(file)]);
            config.discover.services.push(Arc::new(discover::Service {
                name: name.into(),
                source,
                dns: false,
                rewrite: vec![],
                labels: BTreeMap::new(),
                collect: Arc::default(),
                lag_bytes: 0,
            }));
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
