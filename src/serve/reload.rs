//! `/-/reload`: asks the daemon to read its files again.
//!
//! POST and PUT read everything that can be read again. GET does so only where there is a password file: in
//! the peer that is what the path is for, and any method will do.

use super::State;
use super::response::{self, Body};
use crate::config::document::overrides::Overrides;
use crate::config::problem::Problem;
use crate::telemetry::metrics::{Cause, Reload};
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde_json::Value as Json;
use std::time::SystemTime;
use tokio::sync::{mpsc, oneshot};

/// What somebody wishes of the owner of the configuration. Answered in the order of arrival.
pub enum Wanted {
    /// The files are to be read again.
    Reload {
        /// Who asks.
        cause: Cause,
        /// Where the outcome goes; an error is one line.
        answer: oneshot::Sender<Result<(), String>>,
    },
    /// Something is said for the moment.
    Patch {
        /// A merge patch with keys of the document.
        patch: Json,
        /// Where all that is said for the moment goes, or why it is not.
        answer: oneshot::Sender<Result<Overrides, Vec<Problem>>>,
    },
}

/// How the last reload went, and what waits for the next start.
#[derive(Clone, Debug)]
pub struct Report {
    /// When it ended.
    pub at: SystemTime,
    /// Who asked.
    pub cause: Cause,
    /// What came of it.
    pub outcome: Reload,
    /// Why it failed, without secrets.
    pub reason: Option<String>,
    /// When the configuration was read last without a failure.
    pub good: SystemTime,
    /// Keys whose change counts at the next start.
    pub pending: Vec<String>,
}

impl Report {
    /// Of a start that went well.
    pub fn start(now: SystemTime) -> Self {
        Self {
            at: now,
            cause: Cause::Start,
            outcome: Reload::Applied,
            reason: None,
            good: now,
            pending: vec![],
        }
    }
}

/// The way to the daemon. Full means that a reload is under way and others wait: callers wait too.
pub type Reloads = mpsc::Sender<Wanted>;

/// Answers `/-/reload`.
pub async fn page(state: State, method: Method) -> Response<Body> {
    let (has_passwords, has_document) = {
        let config = state.config.borrow();
        let origin = config.origin.as_ref();
        (config.connect.password_file.is_some(), origin.is_some_and(|origin| origin.sources.has_documents()))
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
    if state.reloads.send(Wanted::Reload { cause: Cause::Request, answer }).await.is_err() {
        return response::error(StatusCode::SERVICE_UNAVAILABLE, "stopping");
    }
    match answered.await {
        Ok(Ok(())) => response::text(StatusCode::OK, "ok"),
        Ok(Err(reason)) => response::error(StatusCode::INTERNAL_SERVER_ERROR, reason),
        Err(_) => response::error(StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    }
}
