//! `/scrape?target=…`: any server that the caller names.

use super::State;
use super::response::{self, Body};
use crate::config::collect::Keys;
use crate::config::credentials::Origin;
use crate::config::{Address, Config};
use crate::connect::Login;
use crate::scrape::Wanted;
use crate::scrape::shape::Outcome;
use crate::scrape::worker::Job;
use exposition::Builder;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use std::time::Duration;
use tokio::time::Instant;

/// Answers `/scrape`.
pub async fn page(state: State, request: Request<Incoming>) -> Response<Body> {
    let config = state.config.borrow().clone();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let target = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "target");
    let Some((_, target)) = target.filter(|(_, target)| !target.is_empty()) else {
        state.metrics.bad_requests.increment();
        return response::text(StatusCode::BAD_REQUEST, "'target' parameter must be specified\n");
    };
    let address = match Address::parse(&target) {
        Ok(address) => address,
        Err(error) => {
            state.metrics.bad_requests.increment();
            return response::text(StatusCode::BAD_REQUEST, format!("Invalid 'target' parameter: {error}\n"));
        }
    };
    let job = job(&config, address, Origin::Request, config.collect.keys.clone());
    let outcome = outcome(&state, &request, job).await;
    let mut out = Builder::with_namespace(&config.collect.namespace);
    outcome.record(!config.serve.redis_only, &mut out);
    let own = out.finish();
    super::metrics::write(request.headers(), outcome.snapshot.parts.iter().map(|part| &**part).chain([&own]))
}

/// Who is asked for what.
pub fn job(config: &Config, address: Address, origin: Origin, keys: Keys) -> Job {
    let credentials = config.connect.credentials(&address, origin);
    let login = Login { credentials, set_name: config.connect.set_client_name };
    Job { address: address.without_credentials(), login, tls: config.connect.tls.clone(), keys }
}

/// Collects within the time that Prometheus gives us, if it says so.
pub async fn outcome(state: &State, request: &Request<Incoming>, job: Job) -> Outcome {
    let offset = state.config.borrow().scrape.timeout_offset;
    let header = request.headers().get("x-prometheus-scrape-timeout-seconds");
    let timeout = header.and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    let timeout = timeout.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    let end = timeout.map(|t| Instant::now() + (t - offset.min(t / 4)).min(Duration::from_secs(86_400)));
    state.scraper.collect(Wanted { job, end }).await
}
