//! How responses are put together.

use super::flow::Flow;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use std::fmt::Display;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The body of a response.
pub enum Body {
    /// Made whole, sent with its length.
    Whole(Full<Bytes>),
    /// Made while it is sent.
    Flow(Box<Flow>),
}

impl<B: Into<Bytes>> From<B> for Body {
    fn from(body: B) -> Self {
        Self::Whole(Full::new(body.into()))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Flow(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Flow(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Flow(body) => body.size_hint(),
        }
    }
}

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
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
