//! The telemetry path: the target of `--redis.addr`, and ourselves.

use super::State;
use super::encode::Wish;
use super::query::Query;
use super::response::Body;
use super::scrape::{job, outcome};
use crate::config::credentials::Origin;
use crate::scrape::shape::Totals;
use crate::telemetry::{metrics, process};
use exposition::Builder;
use hyper::{Request, Response};

/// Answers the telemetry path.
pub async fn page(state: State, request: Request<()>) -> Response<Body> {
    let config = state.config.borrow().clone();
    let wish =
        Wish::of(request.headers(), &Query::parse(request.uri().query()), config.serve.prefer_openmetrics);
    let mut out = Builder::with_namespace(&config.collect.namespace);
    let mut parts = vec![];
    match &config.scrape.target {
        Some(address) => {
            let job = job(&config, address.clone(), Origin::Flag, config.collect.keys.clone());
            let outcome = outcome(&state, request.headers(), job).await;
            outcome.record(!config.serve.redis_only, &mut out);
            parts = outcome.snapshot.parts;
        }
        None => Totals::default().record(&mut out),
    }
    metrics::record_bad_requests(state.metrics.bad_requests.get(), &mut out);
    if !config.serve.redis_only {
        metrics::record_build(&mut out);
        state.metrics.record(&mut out);
        process::record(&mut out);
    }
    let own = out.finish();
    wish.page(parts.iter().map(|part| &**part).chain([&own])).await
}
