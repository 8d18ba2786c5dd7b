//! `/metrics`: the target of `--redis.addr`, and ourselves.

use super::State;
use super::response::Body;
use super::scrape::{job, outcome};
use crate::config::credentials::Origin;
use bytes::Bytes;
use exposition::merge::Page;
use exposition::{Builder, Families};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, Response};
use std::io::Write as _;

/// Answers the telemetry path.
pub async fn page(state: State, request: Request<Incoming>) -> Response<Body> {
    let config = state.config.borrow().clone();
    let mut out = Builder::with_namespace(&config.collect.namespace);
    let mut parts = vec![];
    if let Some(address) = &config.scrape.target {
        let job = job(&config, address.clone(), Origin::Flag, config.collect.keys.clone());
        let outcome = outcome(&state, &request, job).await;
        outcome.record(!config.serve.redis_only, &mut out);
        parts = outcome.snapshot.parts;
    }
    if !config.serve.redis_only {
        state.metrics.record(&mut out);
        crate::telemetry::process::record(&mut out);
    }
    let own = out.finish();
    write(request.headers(), parts.iter().map(|part| &**part).chain([&own]))
}

/// Writes families in the form that the client asked for.
pub fn write<'a>(headers: &HeaderMap, sets: impl Iterator<Item = &'a Families>) -> Response<Body> {
    let mut body = Vec::with_capacity(128 * 1024);
    exposition::text::write(&mut body, &Page::new(sets, &[]));
    let gzip = headers.get(ACCEPT_ENCODING).is_some_and(|v| v.as_bytes().windows(4).any(|w| w == b"gzip"));
    let mut response = Response::new(Full::default());
    if gzip {
        let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
        // Writing into a Vec cannot fail.
        let _ = encoder.write_all(&body);
        body = encoder.finish().unwrap_or_default();
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let kind = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    *response.body_mut() = Full::new(Bytes::from(body));
    response
}
