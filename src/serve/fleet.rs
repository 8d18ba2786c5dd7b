//! The telemetry path where services are configured: ourselves, every service, and every member with the
//! labels that say whose samples these are ([`crate::scrape::sets`]).
//!
//! What a newcomer would get wrong: a page of thousands of members is never built. It is written piece by
//! piece while the client reads ([`exposition::stream`]).

use super::State;
use super::encode::Wish;
use super::metrics;
use super::outputs;
use super::query::Query;
use super::response::Body;
use crate::config::Config;
use crate::peers::Duty;
use crate::scrape::sets;
use crate::scrape::slot::View;
use exposition::{Families, Labelled};
use hyper::{Request, Response};
use std::sync::Arc;
use std::time::Instant;

/// Answers the telemetry path: all, or with `service` and `instance` parameters the members that they name,
/// and nothing of ourselves.
pub async fn page(state: State, request: Request<()>) -> Response<Body> {
    let config = state.config.borrow().clone();
    let query = Query::parse(request.uri().query());
    let wish = Wish::of(request.headers(), &query, config.serve.prefer_openmetrics);
    let (services, instances) = (query.all("service"), query.all("instance"));
    let admits = |wanted: &[String], name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let mut sets = vec![];
    if services.is_empty() && instances.is_empty() {
        sets.push(ourselves(&state, &config).await);
    }
    if instances.is_empty() {
        sets.extend(service_sets(&state, &config, |name| admits(&services, name)));
    }
    let now = Instant::now();
    let slots = state.store.slots();
    for slots in slots.chunks(64) {
        let wanted =
            slots.iter().filter(|s| admits(&services, &s.service) && admits(&instances, &s.member.instance));
        sets.extend(wanted.map(|slot| sets::member_set(&config, slot, now).labelled()));
        // Thousands of members take a while, and there is one thread.
        tokio::task::yield_now().await;
    }
    wish.stream(sets)
}

/// Answers `/-/metrics`: ourselves and the services, without members.
pub async fn own_page(state: State, request: Request<()>) -> Response<Body> {
    let config = state.config.borrow().clone();
    let query = Query::parse(request.uri().query());
    let wish = Wish::of(request.headers(), &query, config.serve.prefer_openmetrics);
    let mut sets = vec![ourselves(&state, &config).await];
    sets.extend(service_sets(&state, &config, |_| true));
    wish.stream(sets)
}

/// What this process says of itself.
async fn ourselves(state: &State, config: &Config) -> Labelled {
    let of_us = Arc::new(metrics::ourselves(state, config).await);
    let pool = Arc::new(sets::pool(config, state.scraper.load()));
    let outputs = Arc::new(outputs::families(&state.outputs, config));
    let peers = Arc::new(state.peers.families(&state.metrics, config));
    Labelled { labels: [].into(), parts: vec![of_us, pool, outputs, peers] }
}

/// What is known of each service that is ours. Of the others their peers tell.
fn service_sets(state: &State, config: &Config, admits: impl Fn(&str) -> bool) -> Vec<Labelled> {
    let topology = state.topology.borrow().clone();
    let now = Instant::now();
    let standing = state.peers.share.standing.borrow().clone();
    let is_ours = |name: &str| standing.duty(name) != Duty::Theirs;
    let wanted = topology.services.iter().filter(|s| is_ours(&s.name) && admits(&s.name));
    wanted.map(|service| sets::service_set(config, &state.store, service, now).labelled()).collect()
}

/// Families that were made before, for a page that has no labels to add.
pub fn with_keys(view: &View) -> impl Iterator<Item = &Families> {
    view.keys.iter().flat_map(|keys| keys.parts.iter().map(|part| &**part))
}
