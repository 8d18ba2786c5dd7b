//! `/-/reload`: asks the daemon to read its files again.
//!
//! POST and PUT read everything that can be read again. GET does so only where there is a password file: in
//! the peer that is what the path is for, and any method will do.

use super::State;
use super::response::{self, Body};
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Response, StatusCode};
use tokio::sync::{mpsc, oneshot};

/// A wish to read the files again. Answered by the daemon, in the order of arrival.
pub struct Wanted {
    /// Where the outcome goes; an error is one line.
    pub answer: oneshot::Sender<Result<(), String>>,
}

/// The way to the daemon. Full means that a reload is under way and others wait: callers wait too.
pub type Reloads = mpsc::Sender<Wanted>;

/// Answers `/-/reload`.
pub async fn page(state: State, method: Method) -> Response<Body> {
    let (has_passwords, has_document) = {
        let config = state.config.borrow();
        let origin = config.origin.as_ref();
        (config.connect.password_file.is_some(), origin.is_some_and(|origin| origin.sources.file.is_some()))
    };
    let has_anything = has_passwords || has_document || state.web.has_document();
    let is_write = method == Method::POST || method == Method::PUT;
    if !is_write && method != Method::GET {
        let mut response = response::error(StatusCode::METHOD_NOT_ALLOWED, "expected POST or PUT");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST, PUT"));
        return response;
    }
    if !(has_passwords || is_write && has_anything) {
        return response::error(StatusCode::BAD_REQUEST, "There is no pwd file specified");
    }
    let (answer, answered) = oneshot::channel();
    if state.reloads.send(Wanted { answer }).await.is_err() {
        return response::error(StatusCode::SERVICE_UNAVAILABLE, "stopping");
    }
    match answered.await {
        Ok(Ok(())) => response::text(StatusCode::OK, "ok"),
        Ok(Err(reason)) => response::error(StatusCode::INTERNAL_SERVER_ERROR, reason),
        Err(_) => response::error(StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    }
}
