//! Remote write 2.0 and 1.0: bodies and headers of requests, and what an answer says of them.
//!
//! What a newcomer would get wrong: the body is snappy as one block, not the framed format that files have.

use super::verdict::{Outcome, retry_after};
use crate::config::deliver::Url;
use crate::net::http::Answer;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use std::sync::Arc;
use std::time::SystemTime;

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");
const RETRY_ATTEMPT: HeaderName = HeaderName::from_static("retry-attempt");
const SAMPLES_WRITTEN: &str = "x-prometheus-remote-write-samples-written";
/// Headers of which one says that a receiver knows 2.0.
const WRITTEN: [&str; 3] = [
    SAMPLES_WRITTEN,
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

/// The path to ask for: that of the URL.
pub fn path(url: &Url) -> Arc<str> {
    url.path.as_str().into()
}

/// The headers of 2.0; `attempt` counts from 0.
pub fn headers_v2(attempt: u32) -> HeaderMap {
    headers("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0", attempt)
}

/// The headers of 1.0.
pub fn headers_v1(attempt: u32) -> HeaderMap {
    headers("application/x-protobuf", "0.1.0", attempt)
}

fn headers(content_type: &'static str, version: &'static str, attempt: u32) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    headers.insert(VERSION, HeaderValue::from_static(version));
    if attempt > 0 {
        headers.insert(RETRY_ATTEMPT, attempt.into());
    }
    headers
}

/// A body as it travels. `None`: it is 4 GiB or more, which snappy cannot say.
pub fn compressed(body: &[u8]) -> Option<Vec<u8>> {
    snap::raw::Encoder::new().compress_vec(body).ok()
}

/// What an answer says.
pub fn outcome(answer: &Answer, now: SystemTime) -> Outcome {
    Outcome::Status {
        code: answer.status.as_u16(),
        written: written(&answer.headers),
        rejected: 0,
        retry_after: after(&answer.headers, now),
    }
}

/// `Retry-After` of an answer.
pub fn after(headers: &HeaderMap, now: SystemTime) -> Option<std::time::Duration> {
    retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, now)
}

/// Samples that were written, where the receiver counts them. One that counts other things only wrote none.
fn written(headers: &HeaderMap) -> Option<u64> {
    let count = |name| headers.get(name).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    WRITTEN.into_iter().any(|name| count(name).is_some()).then(|| count(SAMPLES_WRITTEN).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_where_a_header_counts_them() {
        fn check(given: &[(&str, &str)], expected: Option<u64>) {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                let name =
                    HeaderName::from_bytes(format!("X-Prometheus-Remote-Write-{name}-Written").as_bytes());
                headers.insert(name.expect("a name"), HeaderValue::from_str(value).expect("a value"));
            }
            assert_eq!(written(&headers), expected, "{given:?}");
        }
        check(&[], None);
        check(&[("Samples", "5")], Some(5));
        check(&[("Samples", "0"), ("Histograms", "0"), ("Exemplars", "0")], Some(0));
        check(&[("Histograms", "0")], Some(0));
        check(&[("Samples", "many")], None);
        check(&[("Samples", "many"), ("Exemplars", "0")], Some(0));
        check(&[("Samples", "-1")], None);
        check(&[("Samples", " 18446744073709551615 ")], Some(u64::MAX));
        check(&[("Samples", "18446744073709551616")], None);
    }

    #[test]
    fn headers_name_message_and_version() {
        let text = |headers: &HeaderMap, name: &HeaderName| {
            headers.get(name).map(|v| v.to_str().expect("text").to_owned())
        };
        let v2 = headers_v2(0);
        let proto = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
        assert_eq!(text(&v2, &CONTENT_TYPE).as_deref(), Some(proto));
        assert_eq!(text(&v2, &CONTENT_ENCODING).as_deref(), Some("snappy"));
        assert_eq!(text(&v2, &VERSION).as_deref(), Some("2.0.0"));
        assert_eq!(text(&v2, &RETRY_ATTEMPT), None);
        let v1 = headers_v1(3);
        assert_eq!(text(&v1, &CONTENT_TYPE).as_deref(), Some("application/x-protobuf"));
        assert_eq!(text(&v1, &VERSION).as_deref(), Some("0.1.0"));
        assert_eq!(text(&v1, &RETRY_ATTEMPT).as_deref(), Some("3"));
    }

    #[test]
    fn a_body_is_one_block_of_snappy() {
        let body =
            b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                .repeat(9);
        let sent = compressed(&body).expect("small");
        assert!(sent.len() < body.len() / 4 && !sent.starts_with(b"\xff\x06\x00\x00sNaPpY"));
        assert_eq!(snap::raw::Decoder::new().decompress_vec(&sent).expect("a block"), body);
    }
}
