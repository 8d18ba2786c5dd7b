//! Whether this process lives. Redis is not asked.

use super::response::{self, Body};
use hyper::{Response, StatusCode};

/// `ok`, without a line end, as the peer says it.
pub async fn ok() -> Response<Body> {
    response::text(StatusCode::OK, "ok")
}
