//! `/sd/targets`: every member as Prometheus' http_sd has it, so that `/scrape` is asked for each without any
//! relabelling: <https://prometheus.io/docs/prometheus/latest/http_sd/>.
//!
//! The target of every group is ourselves. `__param_target` says which member is meant, `instance` and
//! `service` whose samples these are. One more group is for what we say of ourselves and of the services.
//!
//! What a newcomer would get wrong: an empty list means that there is nothing to watch, and Prometheus then
//! drops all it had. While a service was never seen, the answer is an error, for which it keeps its list.

use super::State;
use super::fleet::labels;
use super::response::{self, Body};
use crate::connect::Kind;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use std::collections::BTreeMap;

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
    let unseen = topology.services.iter().find(|s| s.answered.is_none() && s.members.is_empty());
    if let Some(service) = unseen {
        let why = service.failure.as_ref().map_or("nobody has answered yet", |(kind, _)| Kind::as_str(*kind));
        let reason = format!("the members of {} are not known: {why}", service.name);
        return response::error(StatusCode::SERVICE_UNAVAILABLE, reason);
    }
    let mut groups = vec![];
    for slot in state.store.slots().iter() {
        let mut labels = labels(&config, &slot.service, Some(slot));
        labels.insert("__metrics_path__".into(), "/scrape".into());
        labels.insert("__param_target".into(), slot.member.address.to_string());
        groups.push(Group { targets: [own.clone()], labels });
    }
    let labels = [("__metrics_path__".to_owned(), "/-/metrics".to_owned())];
    groups.push(Group { targets: [own.clone()], labels: labels.into() });
    response::json(serde_json::to_string(&groups).unwrap_or_default())
}
