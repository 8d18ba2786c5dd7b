//! What is known of each member, of each service and of ourselves, with the labels that say whose it is: what a page
//! shows, and what is pushed.
//!
//! The samples of a member are those of its last collection, whose age is a sample too. Where it is older than two
//! intervals, or there was none, only what we know of the member ourselves is left: its health, its breaker,
//! failures, skipped ticks.
//!
//! What a newcomer would get wrong: what a server says and what we say of it are kept apart to the end, for their
//! counters did not begin at the same time.

use super::member;
use super::slot::{Slot, View};
use super::store::Store;
use crate::config::{Collect, Config};
use crate::discover::{Member, Service, families};
use crate::resilience::permits::Stats as Load;
use crate::telemetry::{Metrics, metrics, process};
use exposition::{Builder, Families, Labelled};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Families, and whose they are.
#[derive(Clone, Debug, Default)]
pub struct Set {
    /// The labels that say whose samples these are, and those of the operator.
    pub labels: BTreeMap<String, String>,
    /// What the server itself said.
    pub parts: Vec<Arc<Families>>,
    /// What we say.
    pub ours: Vec<Arc<Families>>,
}

impl Set {
    /// All of it side by side, as a page has it.
    pub fn labelled(self) -> Labelled {
        let labels = self.labels.into_iter();
        let labels = labels.map(|(name, value)| (name.into_boxed_str(), value.into_boxed_str())).collect();
        Labelled { labels, parts: [self.parts, self.ours].concat() }
    }
}

/// The samples of a member; what it said itself only while that is fresh.
pub fn member_set(config: &Config, slot: &Slot, now: Instant) -> Set {
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
    Set {
        labels: labels(config, &slot.service, Some(&slot.member)),
        parts,
        ours: vec![Arc::new(out.finish())],
    }
}

/// What we know of a member beside what it says itself. `own`: the families that are ours, too.
pub fn record_member(slot: &Slot, view: &View, own: bool, now: Instant, out: &mut Builder) {
    view.record(own, now, out);
    slot.book.truth().record_member(&slot.member.instance, out);
}

/// What is known of a service.
pub fn service_set(config: &Config, store: &Store, service: &Service, now: Instant) -> Set {
    let own = !config.serve.redis_only;
    let mut out = Builder::with_namespace(&config.collect.namespace);
    families::record(service, now, own, &mut out);
    if let Some(book) = store.book(&service.name) {
        book.truth().record_service(service, now, &mut out);
        if own {
            book.record_durations(&mut out);
        }
    }
    Set { labels: labels(config, &service.name, None), parts: vec![], ours: vec![Arc::new(out.finish())] }
}

/// What this process says of itself. Costs some ten small reads of `/proc`.
pub fn ourselves(config: &Config, metrics: &Metrics) -> Families {
    let mut out = Builder::with_namespace(&config.collect.namespace);
    metrics::record_bad_requests(metrics.bad_requests.get(), &mut out);
    if !config.serve.redis_only {
        metrics::record_build(&mut out);
        metrics.record(&mut out);
        process::record(&mut out);
    }
    out.finish()
}

/// How full the pool of collections is, which only members share.
pub fn pool(config: &Config, load: Load) -> Families {
    let mut out = Builder::with_namespace(&config.collect.namespace);
    if !config.serve.redis_only {
        member::record_load(load.running, load.waiting, &mut out);
    }
    out.finish()
}

/// What is collected of the members of a service, and how it is shown.
pub fn collect<'a>(config: &'a Config, service: &str) -> &'a Collect {
    config.discover.service(service).map_or(&config.collect, |service| &service.collect)
}

/// The labels that say whose samples these are, and those of the operator.
pub fn labels(config: &Config, service: &str, member: Option<&Member>) -> BTreeMap<String, String> {
    let of_service = config.discover.service(service).map(|service| service.labels.clone());
    let mut labels = of_service.unwrap_or_default();
    labels.insert(config.serve.service_label.clone(), service.to_owned());
    if let Some(member) = member {
        let own = member.labels.iter().map(|(name, value)| (name.clone(), value.clone()));
        labels.extend(own.filter(|(name, _)| *name != config.serve.service_label));
        labels.insert(config.serve.instance_label.clone(), member.instance.to_string());
    }
    labels
}
