//! Our own HTTP side.
//!
//! [`ROUTES`] lists every path. A handler gets the [`State`] and the request and gives a response; limits,
//! authentication and connections are the business of [`listen`].

pub mod health;
pub mod listen;
pub mod metrics;
pub mod response;
pub mod scrape;

use crate::config::Config;
use crate::scrape::Scraper;
use crate::telemetry::Metrics;
use hyper::body::Incoming;
use hyper::{Request, Response};
use response::Body;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;

/// What handlers may look at.
#[derive(Clone)]
pub struct State {
    /// The configuration that runs.
    pub config: watch::Receiver<Arc<Config>>,
    /// Makes collections.
    pub scraper: Scraper,
    /// Our own counters.
    pub metrics: Arc<Metrics>,
}

/// The future of a handler.
pub type Handling = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// A path and who answers it.
pub struct Route {
    /// The path; [`TELEMETRY`] stands for `--web.telemetry-path`.
    pub path: &'static str,
    /// Who answers.
    pub handler: fn(State, Request<Incoming>) -> Handling,
}

/// Stands for `--web.telemetry-path` in [`ROUTES`].
pub const TELEMETRY: &str = "<telemetry path>";

/// Every path that is answered; any other is 404.
pub static ROUTES: &[Route] = &[
    Route { path: TELEMETRY, handler: |state, request| Box::pin(metrics::page(state, request)) },
    Route { path: "/scrape", handler: |state, request| Box::pin(scrape::page(state, request)) },
    Route { path: "/health", handler: |_, _| Box::pin(health::ok()) },
];

/// Answers one request.
pub async fn answer(state: State, request: Request<Incoming>) -> Response<Body> {
    let telemetry = state.config.borrow().serve.telemetry_path.clone();
    let path = request.uri().path();
    let is_meant = |route: &&Route| match route.path {
        TELEMETRY => path == telemetry,
        other => path == other,
    };
    match ROUTES.iter().find(is_meant) {
        Some(route) => (route.handler)(state, request).await,
        None => response::text(hyper::StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}
