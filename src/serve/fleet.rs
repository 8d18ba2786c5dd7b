//! The telemetry path where services are configured: ourselves, every service, and every member with the
//! labels that say whose samples these are.
//!
//! The samples are those of the last collection of each member, whose age is a sample too. Where it is older
//! than two intervals, or there was none, only what we know of the member ourselves is left: its health, its
//! breaker, failures, skipped ticks.
//!
//! What a newcomer would get wrong: a page of thousands of members is never built. It is written piece by
//! piece while the client reads ([`exposition::stream`]).

use super::State;
use super::encode::Wish;
use super::metrics;
use super::query::Query;
use super::response::Body;
use crate::config::{Collect, Config};
use crate::discover::families;
use crate::scrape::Slot;
use crate::scrape::slot::View;
use exposition::Labelled;
use exposition::{Builder, Families};
use hyper::{Request, Response};
use std::collections::BTreeMap;
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
        sets.extend(wanted.map(|slot| member_set(&config, slot, now)));
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

fn set(labels: BTreeMap<String, String>, parts: Vec<Arc<Families>>) -> Labelled {
    let labels = labels.into_iter().map(|(name, value)| (name.into_boxed_str(), value.into_boxed_str()));
    Labelled { labels: labels.collect(), parts }
}

/// What this process says of itself.
async fn ourselves(state: &State, config: &Config) -> Labelled {
    let mut out = Builder::with_namespace(&config.collect.namespace);
    let load = state.scraper.load();
    if !config.serve.redis_only {
        crate::scrape::member::record_load(load.running, load.waiting, &mut out);
    }
    let parts = vec![Arc::new(metrics::ourselves(state, config).await), Arc::new(out.finish())];
    set(BTreeMap::new(), parts)
}

/// What is known of each service.
fn service_sets(state: &State, config: &Config, admits: impl Fn(&str) -> bool) -> Vec<Labelled> {
    let topology = state.topology.borrow().clone();
    let now = Instant::now();
    let own = !config.serve.redis_only;
    let wanted = topology.services.iter().filter(|service| admits(&service.name));
    let set = |service: &Arc<crate::discover::Service>| {
        let mut out = Builder::with_namespace(&config.collect.namespace);
        families::record(service, now, own, &mut out);
        if let Some(book) = state.store.book(&service.name) {
            book.truth().record_service(service, now, &mut out);
            if own {
                book.record_durations(&mut out);
            }
        }
        set(labels(config, &service.name, None), vec![Arc::new(out.finish())])
    };
    wanted.map(set).collect()
}

/// The samples of a member; what it said itself only while that is fresh.
fn member_set(config: &Config, slot: &Slot, now: Instant) -> Labelled {
    let view = slot.view();
    let own = !config.serve.redis_only;
    let age = |taken| now.saturating_duration_since(taken);
    let fresh = view.latest.as_ref().filter(|latest| age(latest.held) <= config.scrape.interval * 2);
    let mut parts = fresh.map(|latest| latest.outcome.snapshot.parts.clone()).unwrap_or_default();
    // Scans of keys have an age of their own.
    parts.extend(view.keys.iter().flat_map(|keys| keys.parts.iter().cloned()));
    let collect = collect(config, &slot.service);
    let mut out = Builder::with_namespace(&collect.namespace);
    if let Some(latest) = fresh {
        latest.outcome.record(collect.role_label, own, &mut out);
    }
    record_member(slot, &view, own, now, &mut out);
    parts.push(Arc::new(out.finish()));
    set(labels(config, &slot.service, Some(slot)), parts)
}

/// What we know of a member beside what it says itself. `own`: the families that are ours, too.
pub fn record_member(slot: &Slot, view: &View, own: bool, now: Instant, out: &mut Builder) {
    view.record(own, now, out);
    slot.book.truth().record_member(&slot.member.instance, out);
}

/// What is collected of the members of a service, and how it is shown.
pub fn collect<'a>(config: &'a Config, service: &str) -> &'a Collect {
    config.discover.service(service).map_or(&config.collect, |service| &service.collect)
}

/// The labels that say whose samples these are, and those of the operator.
pub fn labels(config: &Config, service: &str, slot: Option<&Slot>) -> BTreeMap<String, String> {
    let of_service = config.discover.service(service).map(|service| service.labels.clone());
    let mut labels = of_service.unwrap_or_default();
    labels.insert(config.serve.service_label.clone(), service.to_owned());
    if let Some(slot) = slot {
        let own = slot.member.labels.iter().map(|(name, value)| (name.clone(), value.clone()));
        labels.extend(own.filter(|(name, _)| *name != config.serve.service_label));
        labels.insert(config.serve.instance_label.clone(), slot.member.instance.to_string());
    }
    labels
}

/// Families that were made before, for a page that has no labels to add.
pub fn with_keys(view: &View) -> impl Iterator<Item = &Families> {
    view.keys.iter().flat_map(|keys| keys.parts.iter().map(|part| &**part))
}
