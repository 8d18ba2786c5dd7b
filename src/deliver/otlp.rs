//! OTLP over HTTP and gRPC: paths, headers, frames, and what an answer says.
//!
//! One unary call of gRPC is a `POST` over HTTP/2 with five bytes before the message and the status behind the answer, so
//! hyper is enough: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.
//!
//! What a newcomer would get wrong: the status of gRPC may stand among the headers as well, where there is no body.

use super::remote_write::after;
use super::verdict::{Format, LONGEST, Outcome};
use crate::config::deliver::Url;
use crate::net::http::{Answer, Kind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use percent_encoding::percent_decode_str;
use prost::Message;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// The path to ask for. HTTP: `/v1/metrics` where the URL has none. gRPC: that of the method, behind that of the URL.
pub fn path(url: &Url, format: Format) -> Arc<str> {
    let (path, query) = match url.path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*url.path, None),
    };
    let bare = path.trim_end_matches('/');
    match (format, query) {
        (Format::OtlpGrpc, _) => format!("{bare}{EXPORT}").into(),
        (_, None) if bare.is_empty() => "/v1/metrics".into(),
        (_, Some(query)) if bare.is_empty() => format!("/v1/metrics?{query}").into(),
        _ => url.path.as_str().into(),
    }
}

/// The headers of a request.
pub fn headers(format: Format, timeout: Duration) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if format == Format::OtlpGrpc {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        // At most eight digits.
        let milliseconds = timeout.as_millis().min(99_999_999) as u32;
        if let Ok(value) = HeaderValue::from_str(&format!("{milliseconds}m")) {
            headers.insert(HeaderName::from_static("grpc-timeout"), value);
        }
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    }
    headers
}

/// A message as gRPC has it: not compressed, and its length.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(5 + message.len());
    frame.push(0);
    // More than 4 GiB never gets here: a record is a hundredth of it.
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

/// What an answer says.
pub fn outcome(answer: &Answer, format: Format, now: SystemTime) -> Outcome {
    let code = answer.status.as_u16();
    let success = answer.status.is_success();
    match format {
        Format::OtlpGrpc if success => grpc(answer),
        _ => {
            let rejected = if success { rejected(&answer.body) } else { 0 };
            Outcome::Status { code, written: None, rejected, retry_after: after(&answer.headers, now) }
        }
    }
}

/// What an answer of gRPC says in words.
pub fn message(answer: &Answer) -> Option<String> {
    let text = [&answer.trailers, &answer.headers].into_iter().find_map(|map| map.get("grpc-message"))?;
    Some(percent_decode_str(text.to_str().ok()?).decode_utf8_lossy().into_owned())
}

/// What the body of an answer says of samples that were not wanted: how many, and why.
pub fn partial(answer: &Answer, format: Format) -> Option<String> {
    let body = if format == Format::OtlpGrpc { answer.body.get(5..)? } else { &answer.body };
    let partial = Response::decode(body).ok()?.partial_success?;
    Some(partial.error_message).filter(|text| !text.is_empty())
}

fn grpc(answer: &Answer) -> Outcome {
    let both = [&answer.trailers, &answer.headers];
    let status = both.into_iter().find_map(|map| map.get("grpc-status")?.to_str().ok()?.parse().ok());
    // An answer that was cut off, or that is none of gRPC.
    let Some(code) = status else { return Outcome::Failed(Kind::Closed) };
    let rejected = match answer.body.split_first_chunk::<5>() {
        Some(([0, ..], message)) if code == 0 => rejected(message),
        _ => 0,
    };
    let text = message(answer).unwrap_or_default();
    Outcome::Grpc { code, rejected, retry_after: retry_delay(both), is_too_large: is_too_large(&text) }
}

/// Whether the words are those of grpc-go, tonic or grpc-java for a message above their limit.
fn is_too_large(text: &str) -> bool {
    ["larger than max", "too large", "exceeds maximum"].iter().any(|words| text.contains(words))
}

fn rejected(body: &[u8]) -> u64 {
    let partial = Response::decode(body).ok().and_then(|response| response.partial_success);
    partial.map_or(0, |partial| u64::try_from(partial.rejected_data_points).unwrap_or(0))
}

/// `google.rpc.RetryInfo` in the details of a status.
fn retry_delay(maps: [&HeaderMap; 2]) -> Option<Duration> {
    let details = maps.into_iter().find_map(|map| map.get("grpc-status-details-bin"))?;
    let bytes = STANDARD_NO_PAD.decode(details.to_str().ok()?.trim_end_matches('=')).ok()?;
    let details = Status::decode(&*bytes).ok()?.details;
    let info = details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay?;
    let seconds = u64::try_from(delay.seconds).ok()?.min(LONGEST.as_secs());
    Some(Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(delay.nanos).ok()?))
}

/// `ExportMetricsServiceResponse`.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// `ExportMetricsPartialSuccess`.
#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_data_points: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use hyper::StatusCode;

    #[test]
    fn paths() {
        fn check(format: Format, given: &str, expected: &str) {
            let url = Url { secure: false, host: "h".into(), port: 1, path: given.into() };
            assert_eq!(&*path(&url, format), expected);
        }
        check(Format::OtlpHttp, "/", "/v1/metrics");
        check(Format::OtlpHttp, "", "/v1/metrics");
        check(Format::OtlpHttp, "/?token=x", "/v1/metrics?token=x");
        check(Format::OtlpHttp, "/opentelemetry/v1/metrics", "/opentelemetry/v1/metrics");
        check(Format::OtlpHttp, "/a?b", "/a?b");
        check(Format::OtlpGrpc, "/", EXPORT);
        check(Format::OtlpGrpc, "/?a", EXPORT);
        check(Format::OtlpGrpc, "/behind/", &format!("/behind{EXPORT}"));
    }

    fn answer(
        code: u16,
        headers: &[(&'static str, &str)],
        trailers: &[(&'static str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        let map = |pairs: &[(&'static str, &str)]| {
            let pair = |(name, value): &(&'static str, &str)| {
                (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
            };
            pairs.iter().map(pair).collect()
        };
        let status = StatusCode::from_u16(code).expect("a status");
        Answer {
            status,
            headers: map(headers),
            trailers: map(trailers),
            body: Bytes::from(body),
            is_second: false,
        }
    }

    fn partial_success(rejected_data_points: i64) -> Vec<u8> {
        let partial = PartialSuccess { rejected_data_points, error_message: "too old".into() };
        Response { partial_success: Some(partial) }.encode_to_vec()
    }

    #[test]
    fn answers_of_http() {
        fn check(code: u16, body: Vec<u8>, expected: u64) {
            let expected = Outcome::Status { code, written: None, rejected: expected, retry_after: None };
            let answer = answer(code, &[], &[], body);
            assert_eq!(outcome(&answer, Format::OtlpHttp, SystemTime::UNIX_EPOCH), expected);
        }
        check(200, vec![], 0);
        check(200, partial_success(7), 7);
        check(200, partial_success(-7), 0);
        check(400, partial_success(7), 0);
        check(200, b"<html>".to_vec(), 0);
        let told = answer(200, &[], &[], partial_success(7));
        assert_eq!(partial(&told, Format::OtlpHttp).as_deref(), Some("too old"));
    }

    #[test]
    fn answers_of_grpc() {
        fn check(answer: &Answer, expected: Outcome) {
            assert_eq!(outcome(answer, Format::OtlpGrpc, SystemTime::UNIX_EPOCH), expected);
        }
        let grpc =
            |code, rejected, is_too_large| Outcome::Grpc { code, rejected, retry_after: None, is_too_large };
        let ok = [("grpc-status", "0")];
        check(&answer(200, &[], &ok, framed(&[])), grpc(0, 0, false));
        check(&answer(200, &[], &ok, framed(&partial_success(3))), grpc(0, 3, false));
        check(&answer(200, &[], &ok, vec![1, 0, 0]), grpc(0, 0, false));
        check(&answer(200, &[("grpc-status", "14")], &[], vec![]), grpc(14, 0, false));
        let large = "grpc: received message larger than max (5 vs. 4)";
        check(&answer(200, &[("grpc-status", "8"), ("grpc-message", large)], &[], vec![]), grpc(8, 0, true));
        check(&answer(200, &[], &[], vec![]), Outcome::Failed(Kind::Closed));
        check(&answer(200, &[("grpc-status", "x")], &[], vec![]), Outcome::Failed(Kind::Closed));
        let busy = Outcome::Status { code: 503, written: None, rejected: 0, retry_after: None };
        check(&answer(503, &[], &[], vec![]), busy);
        let told = answer(200, &[], &[("grpc-message", "a%20b%FF")], vec![]);
        assert_eq!(message(&told).as_deref(), Some("a b\u{fffd}"));
    }

    #[test]
    fn retry_info_says_when() {
        fn check(seconds: i64, nanos: i32, expected: Option<Duration>) {
            let value = RetryInfo { retry_delay: Some(Delay { seconds, nanos }) }.encode_to_vec();
            let other = Any { type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(), value: vec![] };
            let info = Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value };
            let status = Status { details: vec![other, info] }.encode_to_vec();
            let text = STANDARD_NO_PAD.encode(&status);
            let told = answer(200, &[], &[("grpc-status", "14"), ("grpc-status-details-bin", &text)], vec![]);
            let Outcome::Grpc { retry_after, .. } = outcome(&told, Format::OtlpGrpc, SystemTime::UNIX_EPOCH)
            else {
                panic!("no status")
            };
            assert_eq!(retry_after, expected);
        }
        check(7, 500_000_000, Some(Duration::from_millis(7500)));
        check(0, 0, Some(Duration::ZERO));
        check(-1, 0, None);
        check(0, -1, None);
        check(i64::MAX, i32::MAX, Some(LONGEST + Duration::from_nanos(i32::MAX as u64)));
    }
}
