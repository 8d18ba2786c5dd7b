//! Whether this process lives, and whether it wants requests. Redis is not asked: an outage there must not
//! have us restarted or taken out of service, for then nobody would hear of it.

use super::State;
use super::response::{self, Body};
use hyper::{Response, StatusCode};

/// `ok`, without a line end, as the peer says it.
pub async fn ok() -> Response<Body> {
    response::text(StatusCode::OK, "ok")
}

/// 200 from the moment that all listens until a stop begins, then 503.
pub async fn ready(state: State) -> Response<Body> {
    match *state.ready.borrow() {
        true => response::text(StatusCode::OK, "ok"),
        false => response::error(StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    }
}
