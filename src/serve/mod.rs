//! Our own HTTP side.
//!
//! [`ROUTES`] lists every path, who may use it and what it costs. [`answer`] is the way of a request: rate,
//! user, body, room, handler. Connections are the business of [`connections`], the sockets that they come in
//! by of [`listen`], TLS and users as the files say now of [`web`].
//!
//! What a newcomer would get wrong: liveness and readiness are open to all and never queue, for a probe that
//! is turned away has the process killed. `/health` is not: the peer puts it behind the password.

pub mod api;
pub mod auth;
pub mod config;
pub mod connections;
pub mod discovery;
pub mod encode;
pub mod exporters;
pub mod file_sd;
pub mod fleet;
pub mod flow;
pub mod health;
pub mod landing;
pub mod listen;
pub mod metrics;
pub mod outputs;
pub mod peers;
pub mod query;
pub mod reload;
pub mod response;
pub mod runtime;
pub mod scrape;
pub mod targets;
pub mod web;

use crate::config::Config;
use crate::deliver::outputs::Outputs;
use crate::discover::Topology;
use crate::net::tls;
use crate::scrape::{Scraper, Store};
use crate::telemetry::Metrics;
use crate::telemetry::events::Events;
use auth::Verdict;
use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use hyper::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Request, Response, StatusCode};
use peers::Peers;
use response::Body;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use web::{Site, Web};

/// The largest body of a request that is read, in bytes. Only `/api/v1/runtime` has use for one.
const BODY: usize = 64 * 1024;

/// How long a client may take to send a body.
const BODY_TIME: Duration = Duration::from_secs(10);

/// What handlers may look at.
#[derive(Clone)]
pub struct State {
    /// The configuration that runs.
    pub config: watch::Receiver<Arc<Config>>,
    /// The services and their members.
    pub topology: watch::Receiver<Arc<Topology>>,
    /// Makes collections.
    pub scraper: Scraper,
    /// The latest that is known of every member.
    pub store: Arc<Store>,
    /// What happened.
    pub events: Arc<Events>,
    /// TLS towards Redis, for connections that are no collections.
    pub clients: Arc<tls::Clients>,
    /// Our own counters.
    pub metrics: Arc<Metrics>,
    /// Whether we want requests.
    pub ready: watch::Receiver<bool>,
    /// TLS, users, headers and rate, as the files say now.
    pub web: Arc<Web>,
    /// The way to the daemon, for `/-/reload`.
    pub reloads: reload::Reloads,
    /// How the last reload went.
    pub report: watch::Receiver<Arc<reload::Report>>,
    /// Room for requests that ask servers.
    pub room: Room,
    /// Where samples are pushed to.
    pub outputs: Outputs,
    /// What is ours, and who the others are.
    pub peers: Peers,
}

/// How many requests that ask servers may be under way. An eighth is kept for the telemetry path: the targets
/// of `/scrape` may hang by the hundred without hiding what we say of ourselves.
#[derive(Clone)]
pub struct Room {
    all: Arc<Semaphore>,
    named: Arc<Semaphore>,
}

impl Room {
    /// Room for so many, one at least.
    pub fn new(requests: usize) -> Self {
        let all = requests.clamp(1, Semaphore::MAX_PERMITS);
        Self { all: Arc::new(Semaphore::new(all)), named: Arc::new(Semaphore::new((all - all / 8).max(1))) }
    }
}

/// What a request takes of the [`Room`]. Goes with the answer, and is free again when the client has that.
#[derive(Clone)]
struct Places(#[expect(dead_code, reason = "held, not looked at")] Arc<Vec<OwnedSemaphorePermit>>);

/// The body of a request, among its extensions, where there is one.
#[derive(Clone)]
pub struct Content(pub Bytes);

/// The future of a handler.
pub type Handling = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// A path, and who answers it.
pub struct Route {
    /// The path; [`TELEMETRY`] stands for `--web.telemetry-path`.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// What it costs.
    pub cost: Cost,
    /// Who answers.
    pub handler: fn(State, Request<()>) -> Handling,
}

/// Who may use a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody, at any rate.
    Open,
    /// Those who are listed, where somebody is.
    Users,
}

/// What an answer costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Nothing to speak of.
    Light,
    /// It asks the server of `--redis.addr`.
    Own,
    /// It asks a server that the caller names.
    Named,
}

/// Stands for `--web.telemetry-path` in [`ROUTES`].
pub const TELEMETRY: &str = "<telemetry path>";

/// Every path that is answered; any other is 404. No method is refused but by `/-/reload` and
/// `/api/v1/runtime`.
#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    Route { path: TELEMETRY, access: Access::Users, cost: Cost::Own, handler: |s, r| Box::pin(metrics::page(s, r)) },
    Route { path: "/scrape", access: Access::Users, cost: Cost::Named, handler: |s, r| Box::pin(scrape::page(s, r)) },
    Route { path: "/sd/targets", access: Access::Users, cost: Cost::Light, handler: |s, r| Box::pin(targets::page(s, r)) },
    Route { path: "/sd/exporters", access: Access::Users, cost: Cost::Light, handler: |s, r| Box::pin(exporters::page(s, r)) },
    Route { path: "/api/v1/services", access: Access::Users, cost: Cost::Light, handler: |s, _| Box::pin(api::services(s)) },
    Route { path: "/api/v1/targets", access: Access::Users, cost: Cost::Light, handler: |s, _| Box::pin(api::targets(s)) },
    Route { path: "/api/v1/events", access: Access::Users, cost: Cost::Light, handler: |s, _| Box::pin(api::events(s)) },
    Route { path: "/api/v1/outputs", access: Access::Users, cost: Cost::Light, handler: |s, _| Box::pin(outputs::page(s)) },
    Route { path: "/api/v1/config", access: Access::Users, cost: Cost::Light, handler: |s, _| Box::pin(config::page(s)) },
    Route { path: "/api/v1/runtime", access: Access::Users, cost: Cost::Light, handler: |s, r| Box::pin(runtime::page(s, r)) },
    Route { path: "/api/v1/peers", access: Access::Users, cost: Cost::Light, handler: |s, _| Box::pin(peers::page(s)) },
    Route { path: "/-/metrics", access: Access::Users, cost: Cost::Light, handler: |s, r| Box::pin(fleet::own_page(s, r)) },
    Route { path: "/discover-cluster-nodes", access: Access::Users, cost: Cost::Own, handler: |s, r| Box::pin(discovery::page(s, r)) },
    Route { path: "/-/reload", access: Access::Users, cost: Cost::Light, handler: |s, r| Box::pin(reload::page(s, r.method().clone())) },
    Route { path: "/-/healthy", access: Access::Open, cost: Cost::Light, handler: |_, _| Box::pin(health::ok()) },
    Route { path: "/-/ready", access: Access::Open, cost: Cost::Light, handler: |s, _| Box::pin(health::ready(s)) },
    Route { path: "/health", access: Access::Users, cost: Cost::Light, handler: |_, _| Box::pin(health::ok()) },
    Route { path: "/", access: Access::Users, cost: Cost::Light, handler: |s, _| Box::pin(landing::page(s)) },
];

/// Answers one request.
pub async fn answer(state: State, request: Request<Incoming>) -> Response<Body> {
    let site = state.web.current();
    let metrics = state.metrics.clone();
    let mut response = match guarded(state, &site, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(&metrics),
    };
    for (name, value) in &site.headers {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
}

/// The answer of the handler, or the refusal of the first guard that turns the request away.
async fn guarded(state: State, site: &Site, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let route = route(&state, request.uri().path());
    if route.is_none_or(|route| route.access == Access::Users) {
        check_rate(site)?;
        check_user(site, request.headers().get(AUTHORIZATION)).await?;
    }
    let route = route.ok_or(Refusal::NotFound)?;
    let request = with_content(request).await?;
    let place = |room: &Arc<Semaphore>| room.clone().try_acquire_owned().map_err(|_| Refusal::Overloaded);
    let places = match route.cost {
        Cost::Light => vec![],
        Cost::Own => vec![place(&state.room.all)?],
        Cost::Named => vec![place(&state.room.named)?, place(&state.room.all)?],
    };
    let mut response = (route.handler)(state, request).await;
    response.extensions_mut().insert(Places(Arc::new(places)));
    Ok(response)
}

fn route(state: &State, path: &str) -> Option<&'static Route> {
    let config = state.config.borrow();
    ROUTES.iter().find(|route| match route.path {
        TELEMETRY => path == config.serve.telemetry_path,
        other => path == other,
    })
}

fn check_rate(site: &Site) -> Result<(), Refusal> {
    let is_admitted = site.rate.as_ref().is_none_or(|rate| rate.admits(Instant::now()));
    if is_admitted { Ok(()) } else { Err(Refusal::TooOften) }
}

async fn check_user(site: &Site, authorization: Option<&HeaderValue>) -> Result<(), Refusal> {
    match site.users.check(authorization).await {
        Verdict::Allowed => Ok(()),
        Verdict::Denied => Err(Refusal::Unauthorized),
        Verdict::Busy => Err(Refusal::Checking),
    }
}

/// Reads a body to its end, so that the connection can go on.
async fn with_content(request: Request<Incoming>) -> Result<Request<()>, Refusal> {
    let (mut parts, mut body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(Request::from_parts(parts, ()));
    }
    if body.size_hint().lower() > BODY as u64 {
        return Err(Refusal::LargeBody);
    }
    let read = async {
        let mut content = BytesMut::new();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            if let Some(data) = frame.map_err(|_| Refusal::BrokenBody)?.data_ref() {
                if content.len() + data.len() > BODY {
                    return Err(Refusal::LargeBody);
                }
                content.extend_from_slice(data);
            }
        }
        Ok(content.freeze())
    };
    let content = tokio::time::timeout(BODY_TIME, read).await.map_err(|_| Refusal::SlowBody)??;
    parts.extensions.insert(Content(content));
    Ok(Request::from_parts(parts, ()))
}

/// Why a request does not reach its handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    NotFound,
    TooOften,
    Unauthorized,
    Checking,
    LargeBody,
    BrokenBody,
    SlowBody,
    Overloaded,
}

impl Refusal {
    /// The answer; counted where it matters.
    fn response(self, metrics: &Metrics) -> Response<Body> {
        match self {
            Self::NotFound => response::error(StatusCode::NOT_FOUND, "404 page not found"),
            Self::TooOften => {
                metrics.limited.increment();
                response::busy(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests")
            }
            Self::Unauthorized => {
                metrics.unauthorized.increment();
                let mut response = response::error(StatusCode::UNAUTHORIZED, "Unauthorized");
                let challenge = HeaderValue::from_static("Basic realm=\"redis-exporter, charset=UTF-8\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                response
            }
            Self::Checking => {
                metrics.overloaded.increment();
                response::busy(StatusCode::SERVICE_UNAVAILABLE, "too many passwords are being checked")
            }
            Self::LargeBody => response::error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
            Self::BrokenBody => response::error(StatusCode::BAD_REQUEST, "the body is broken"),
            Self::SlowBody => response::error(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
            Self::Overloaded => {
                metrics.overloaded.increment();
                response::busy(StatusCode::SERVICE_UNAVAILABLE, "too many requests are under way")
            }
        }
    }
}
