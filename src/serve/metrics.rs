//! The telemetry path: the target of `--redis.addr`, and ourselves.

use super::encode::Wish;
use super::query::Query;
use super::response::Body;
use super::scrape::outcome;
use super::{State, fleet, outputs};
use crate::config::Config;
use crate::config::credentials::Origin;
use crate::resilience::breaker::Asker;
use crate::scrape::shape::Totals;
use crate::scrape::{Job, Membership, sets};
use exposition::{Builder, Families};
use hyper::{Request, Response};

/// Answers the telemetry path.
pub async fn page(state: State, request: Request<()>) -> Response<Body> {
    let config = state.config.borrow().clone();
    if !config.discover.services.is_empty() {
        return fleet::page(state, request).await;
    }
    let wish =
        Wish::of(request.headers(), &Query::parse(request.uri().query()), config.serve.prefer_openmetrics);
    let collected = async {
        let address = config.scrape.target.as_ref()?;
        let job = Job::of_address(&config, address, Origin::Flag, config.collect.keys.clone());
        let member = Membership { slot: state.store.own(address), asker: Asker::Pull, guarded: false };
        // Only what is guarded can find no room.
        outcome(&state, request.headers(), job, Some(member)).await.ok()
    };
    let (outcome, ourselves) = tokio::join!(collected, ourselves(&state, &config));
    let mut out = Builder::with_namespace(&config.collect.namespace);
    match &outcome {
        Some(outcome) => outcome.record(config.collect.role_label, !config.serve.redis_only, &mut out),
        None => Totals::default().record(&mut out),
    }
    let own = out.finish();
    let outputs = outputs::families(&state.outputs, &config);
    let peers = state.peers.families(&state.metrics, &config);
    let parts = outcome.iter().flat_map(|outcome| &outcome.snapshot.parts);
    wish.page(parts.map(|part| &**part).chain([&own, &ourselves, &outputs, &peers])).await
}

/// What this process says of itself. Made while the server is at work: reading `/proc` takes a tenth of the
/// time of a whole scrape.
pub async fn ourselves(state: &State, config: &Config) -> Families {
    // The collection has to get its commands out first, and passes through two tasks to do so.
    for _ in 0..2 {
        tokio::task::yield_now().await;
    }
    sets::ourselves(config, &state.metrics)
}
