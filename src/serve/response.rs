//! How responses are put together.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use std::fmt::Display;

/// The body of every response: made whole, sent with its length.
pub type Body = Full<Bytes>;

/// A short text, as it is.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    typed(status, "text/plain; charset=utf-8", body)
}

/// JSON.
pub fn json(body: impl Into<Bytes>) -> Response<Body> {
    typed(StatusCode::OK, "application/json", body)
}

/// What went wrong, in one line. Control characters, which can only come from the request, go.
pub fn error(status: StatusCode, reason: impl Display) -> Response<Body> {
    let mut line: String = reason.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.push('\n');
    let mut response = text(status, line);
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}

/// Too much to do at the moment: the client is to come again in a second.
pub fn busy(status: StatusCode, reason: &str) -> Response<Body> {
    let mut response = error(status, reason);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
