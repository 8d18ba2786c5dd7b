//! `/`: where to go from here.

use super::State;
use super::response::Body;
use crate::config::build;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};

/// A short page. The title begins as the peer's, whose users look for it.
pub async fn page(state: State) -> Response<Body> {
    let config = state.config.borrow().clone();
    let telemetry = &config.serve.telemetry_path;
    let title = format!("Redis Exporter (Redvigil {})", build::VERSION);
    let outputs = match state.outputs.shown().is_empty() {
        true => "",
        false => "<p><a href=\"/api/v1/outputs\">Outputs</a></p>\n",
    };
    let report = state.report.borrow().clone();
    let reload = match &report.reason {
        None => String::new(),
        Some(reason) => {
            format!("<p>The last reload failed, and what ran before goes on: {}</p>\n", escaped(reason))
        }
    };
    let pending = match report.pending.as_slice() {
        [] => String::new(),
        keys => {
            format!("<p>Changed, and in effect at the next start only: {}</p>\n", escaped(&keys.join(", ")))
        }
    };
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title></head>\n<body>\n\
         <h1>{title}</h1>\n<p><a href=\"{telemetry}\">Metrics</a></p>\n{outputs}<p><a href=\"/api/v1/config\">Configuration</a></p>\n{reload}{pending}</body>\n</html>\n"
    );
    let mut response = Response::new(Body::from(html));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// A text as HTML shows it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
