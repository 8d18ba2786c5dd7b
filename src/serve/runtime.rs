//! `/api/v1/runtime`: what is said for the moment, and gone at the next start. GET shows it, PATCH changes it.
//!
//! Off unless `--web.enable-runtime-api` is given, and closed to all where nobody has to say who they are: who can reach our
//! port can read metrics, which is no leave to stop them.
//!
//! What a newcomer would get wrong: nothing is decided here. The owner of the configuration judges a patch, all or nothing.

use super::reload::Wanted;
use super::response::Body;
use super::{Content, State};
use crate::config::document::overrides::Overrides;
use crate::config::document::{reader::Row, rows};
use crate::config::problem::Problem;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde_json::Value as Json;
use tokio::sync::oneshot;

/// What is said for the moment.
#[derive(Serialize)]
struct RuntimeJson {
    overrides: Json,
    /// Keys that may be said.
    keys: Vec<String>,
}

/// Why a patch was not taken.
#[derive(Serialize)]
struct RefusalJson {
    error: String,
    problems: Vec<ProblemJson>,
}

/// What is wrong with one key.
#[derive(Serialize)]
struct ProblemJson {
    key: String,
    message: String,
}

/// Answers `/api/v1/runtime`.
pub async fn page(state: State, request: Request<()>) -> Response<Body> {
    if !state.config.borrow().serve.runtime_api {
        return refused(
            StatusCode::FORBIDDEN,
            "the runtime API is off: --web.enable-runtime-api opens it",
            vec![],
        );
    }
    if !state.web.current().asks_who() {
        let reason = "the runtime API is closed while anybody may ask: it needs users or client certificates \
                      (--basic-auth-username, --web.config.file, --tls-server-ca-cert-file)";
        return refused(StatusCode::FORBIDDEN, reason, vec![]);
    }
    match *request.method() {
        Method::GET | Method::HEAD => {
            let config = state.config.borrow().clone();
            let overrides = config.origin.as_ref().map(|origin| origin.texts.overrides.clone());
            shown(&overrides.unwrap_or_default())
        }
        Method::PATCH => patch(state, request).await,
        _ => {
            let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, "expected GET or PATCH", vec![]);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, PATCH"));
            response
        }
    }
}

async fn patch(state: State, request: Request<()>) -> Response<Body> {
    let body = request.extensions().get::<Content>().map(|content| content.0.clone()).unwrap_or_default();
    let patch: Json = match serde_json::from_slice(&body) {
        Ok(patch) => patch,
        Err(error) => {
            return refused(StatusCode::BAD_REQUEST, &format!("the body is no JSON: {error}"), vec![]);
        }
    };
    let (answer, answered) = oneshot::channel();
    if state.reloads.send(Wanted::Patch { patch, answer }).await.is_err() {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "stopping", vec![]);
    }
    match answered.await {
        Ok(Ok(overrides)) => shown(&overrides),
        Ok(Err(problems)) => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            refused(status, "nothing of it was taken", problems)
        }
        Err(_) => refused(StatusCode::SERVICE_UNAVAILABLE, "stopping", vec![]),
    }
}

fn shown(overrides: &Overrides) -> Response<Body> {
    super::api::json(&RuntimeJson { overrides: overrides.json(), keys: keys(&rows()) })
}

/// Every key that may be said, with `*` for the name of a service or output.
fn keys(rows: &[Row]) -> Vec<String> {
    fn walk(rows: &[Row], before: &str, keys: &mut Vec<String>) {
        for row in rows {
            let key = format!("{before}{}", row.key);
            if row.tunable {
                keys.push(key.clone());
            }
            walk(&row.nested, &format!("{key}{}", if row.each { ".*." } else { "." }), keys);
        }
    }
    let mut keys = vec![];
    walk(rows, "", &mut keys);
    keys
}

fn refused(status: StatusCode, error: &str, problems: Vec<Problem>) -> Response<Body> {
    let problems = problems.into_iter().map(|Problem { place, message }| {
        // The layer is the one that the caller speaks of.
        let key = place.strip_prefix("runtime: ").unwrap_or(&place).to_owned();
        ProblemJson { key, message }
    });
    let mut response = super::api::json(&RefusalJson { error: error.into(), problems: problems.collect() });
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_said_for_the_moment_is_no_secret_and_no_address() {
        let keys = keys(&rows());
        for key in [
            "log.level",
            "global.scrape_interval",
            "global.scrape_timeout",
            "scrape.concurrency",
            "scrape.per_host",
            "health.failures_to_down",
            "breaker.max_pause",
            "services.*.collect.client_list",
            "outputs.*.paused",
        ] {
            assert!(keys.iter().any(|known| known == key), "{key}");
        }
        for key in keys {
            let is_fine = !["credentials", "password", "token", "url", "endpoint", "file", "addresses"]
                .iter()
                .any(|word| key.contains(word) && !key.ends_with("rdb_file_size_metric"));
            assert!(is_fine, "{key}");
        }
    }
}
