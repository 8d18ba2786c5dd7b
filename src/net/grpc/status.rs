//! How a call of gRPC ended: a code and a text, behind the body or among the headers.
//! <https://grpc.io/docs/guides/status-codes/>
//!
//! What a newcomer would get wrong: an answer without a body has its status among the headers, and something between us and
//! the server may answer in plain HTTP.

use super::Error;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use percent_encoding::percent_decode_str;

/// The most that is kept of what a server says, in characters.
const TEXT: usize = 300;

/// A code of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code(pub u32);

impl Code {
    /// All went well.
    pub const OK: Self = Self(0);
    /// The caller gave up.
    pub const CANCELLED: Self = Self(1);
    /// Nobody knows.
    pub const UNKNOWN: Self = Self(2);
    /// The request makes no sense.
    pub const INVALID_ARGUMENT: Self = Self(3);
    /// The deadline passed.
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// No such thing.
    pub const NOT_FOUND: Self = Self(5);
    /// May not.
    pub const PERMISSION_DENIED: Self = Self(7);
    /// Too much of something.
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// Not in this state.
    pub const FAILED_PRECONDITION: Self = Self(9);
    /// Beyond the end.
    pub const OUT_OF_RANGE: Self = Self(11);
    /// No such method.
    pub const UNIMPLEMENTED: Self = Self(12);
    /// Not now.
    pub const UNAVAILABLE: Self = Self(14);
    /// Who are you?
    pub const UNAUTHENTICATED: Self = Self(16);
}

/// Whether that is the head of an answer of gRPC; its status where there will be no body.
pub(super) fn of_head(status: StatusCode, headers: &HeaderMap) -> Result<(), Error> {
    if !status.is_success() {
        // As the specification maps them: https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
        let code = match status.as_u16() {
            401 => Code::UNAUTHENTICATED,
            403 => Code::PERMISSION_DENIED,
            404 => Code::UNIMPLEMENTED,
            429 | 502 | 503 | 504 => Code::UNAVAILABLE,
            _ => Code::UNKNOWN,
        };
        return Err(Error::Status { code, message: format!("HTTP {status}").into() });
    }
    let kind = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    if !kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        return Err(Error::Protocol("the answer is none of gRPC"));
    }
    match of(headers) {
        Some(ended) => ended,
        None => Ok(()),
    }
}

/// How a call ended, where these headers or trailers say so.
pub(super) fn of(map: &HeaderMap) -> Option<Result<(), Error>> {
    let value = map.get("grpc-status")?;
    let code = value.to_str().ok().and_then(|text| text.parse().ok()).map(Code);
    Some(match code {
        Some(Code::OK) => Ok(()),
        Some(code) => Err(Error::Status { code, message: message(map).unwrap_or_default().into() }),
        None => Err(Error::Protocol("the status is no number")),
    })
}

/// What is said beside the code: the beginning of it, on one line.
pub fn message(map: &HeaderMap) -> Option<String> {
    let text = percent_decode_str(map.get("grpc-message")?.to_str().ok()?).decode_utf8_lossy();
    Some(text.chars().take(TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect())
}
