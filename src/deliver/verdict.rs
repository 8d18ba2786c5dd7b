//! What an answer means for a record: a pure function, and its table of tests below.
//!
//! What a newcomer would get wrong: `2xx` is no success of remote write 2.0 where the header `-Written` is missing, since
//! servers of 1.0 answer so and store nothing. And a `404` refuses us, not the record: it is kept.
//!
//! Remote write: <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>. OTLP:
//! <https://opentelemetry.io/docs/specs/otlp/#failures>.

use crate::net::http::Kind;
use std::time::{Duration, SystemTime};

/// The most that a receiver may have us wait.
pub const LONGEST: Duration = Duration::from_secs(5 * 60);

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// Remote write 2.0.
    V2,
    /// Remote write 1.0.
    V1,
    /// OTLP over HTTP.
    OtlpHttp,
    /// OTLP over gRPC.
    OtlpGrpc,
}

impl Format {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::V2 => "2.0",
            Self::V1 => "1.0",
            Self::OtlpHttp => "otlp_http",
            Self::OtlpGrpc => "otlp_grpc",
        }
    }

    const fn is_otlp(self) -> bool {
        matches!(self, Self::OtlpHttp | Self::OtlpGrpc)
    }
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// In which format.
    pub format: Format,
    /// How many samples.
    pub samples: u32,
    /// Whether 1.0 may be spoken instead.
    pub may_fall_back: bool,
    /// Whether the receiver never took anything in that format.
    pub is_first: bool,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No answer.
    Failed(Kind),
    /// A status of HTTP.
    Status {
        /// Which.
        code: u16,
        /// Samples that were written, where a header `-Written` is there.
        written: Option<u64>,
        /// Samples that were refused, as the body says.
        rejected: u64,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// A status of gRPC.
    Grpc {
        /// Which.
        code: u32,
        /// Samples that were refused.
        rejected: u64,
        /// `RetryInfo`.
        retry_after: Option<Duration>,
        /// Whether the message says that it is too much at once, for which gRPC has no status.
        is_too_large: bool,
    },
}

/// What is to be done with the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is delivered, but for so many samples.
    Accepted {
        /// Samples that the receiver did not want.
        rejected: u32,
    },
    /// Send it in 1.0.
    FallBack,
    /// Send it again.
    Retry {
        /// Not before.
        after: Option<Duration>,
        /// Whether that is what a healthy receiver says to one that is too fast.
        is_throttled: bool,
    },
    /// Never send it again.
    Refused {
        /// Samples that were written all the same.
        written: u32,
    },
    /// Send it in parts.
    TooLarge,
    /// Keep it: it is us who are refused.
    Held(Hold),
}

/// Why a receiver does not take anything of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hold {
    /// A file of ours cannot be read, a header cannot be sent.
    Local,
    /// It sends us elsewhere. We do not follow: credentials are for whom they were given.
    Redirect,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404, or a service that is not there.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 407.
    ProxyUnauthorized,
    /// It does not know what we speak, and we may speak nothing else.
    Unsupported,
    /// Its quota is used up, and it does not say for how long.
    Exhausted,
    /// Some other status that is about the request, not about the samples.
    Refusal,
}

impl Hold {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Redirect => "redirect",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::ProxyUnauthorized => "proxy_unauthorized",
            Self::Unsupported => "unsupported",
            Self::Exhausted => "exhausted",
            Self::Refusal => "refusal",
        }
    }
}

/// What an answer means.
pub fn verdict(asked: Asked, outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Failed(Kind::Local) => Verdict::Held(Hold::Local),
        Outcome::Failed(_) => retry(None),
        Outcome::Status { code: 200..=299, rejected, .. } if asked.format.is_otlp() => {
            accepted(asked, rejected)
        }
        Outcome::Status { code: 200..=299, written, .. } => match (asked.format, written) {
            (Format::V2, Some(written)) => accepted(asked, u64::from(asked.samples).saturating_sub(written)),
            (Format::V2, None) => unsupported(asked),
            _ => accepted(asked, 0),
        },
        Outcome::Status { code, written, retry_after, .. } => refusal(asked, code, written, retry_after),
        Outcome::Grpc { is_too_large: true, code: 8 | 11, .. } => Verdict::TooLarge,
        Outcome::Grpc { code, rejected, retry_after, .. } => grpc(asked, code, rejected, retry_after),
    }
}

/// What a status means that is not 2xx.
fn refusal(asked: Asked, code: u16, written: Option<u64>, retry_after: Option<Duration>) -> Verdict {
    let grpc = asked.format == Format::OtlpGrpc;
    match code {
        413 => Verdict::TooLarge,
        429 => Verdict::Retry { after: limited(retry_after), is_throttled: true },
        502..=504 => retry(retry_after),
        300..=399 => Verdict::Held(Hold::Redirect),
        401 => Verdict::Held(Hold::Unauthorized),
        403 => Verdict::Held(Hold::Forbidden),
        404 => Verdict::Held(Hold::NotFound),
        405 => Verdict::Held(Hold::MethodNotAllowed),
        407 => Verdict::Held(Hold::ProxyUnauthorized),
        415 => unsupported(asked),
        // Whoever speaks gRPC answers 200. Who does not has not read the samples.
        _ if grpc => Verdict::Held(Hold::Unsupported),
        400 if asked.format == Format::V2 && asked.is_first && asked.may_fall_back && written.is_none() => {
            Verdict::FallBack
        }
        400 | 409 | 422 => Verdict::Refused { written: clamped(asked, written.unwrap_or(0)) },
        // OTLP: all other statuses of 5xx are for good.
        500..=599 if asked.format.is_otlp() => Verdict::Refused { written: 0 },
        500..=599 => retry(retry_after),
        408 if !asked.format.is_otlp() => retry(retry_after),
        _ => Verdict::Held(Hold::Refusal),
    }
}

/// What a status of gRPC means: <https://opentelemetry.io/docs/specs/otlp/#failures-1>.
fn grpc(asked: Asked, code: u32, rejected: u64, retry_after: Option<Duration>) -> Verdict {
    match code {
        0 => accepted(asked, rejected),
        // Unavailable, and exhausted but not for good.
        14 | 8 if retry_after.is_some() => Verdict::Retry { after: limited(retry_after), is_throttled: true },
        8 => Verdict::Held(Hold::Exhausted),
        // Cancelled, deadline exceeded, aborted, out of range, unavailable, data loss.
        1 | 4 | 10 | 11 | 14 | 15 => retry(retry_after),
        5 | 12 => Verdict::Held(Hold::NotFound),
        7 => Verdict::Held(Hold::Forbidden),
        16 => Verdict::Held(Hold::Unauthorized),
        _ => Verdict::Refused { written: 0 },
    }
}

/// The words of `Retry-After`: seconds, or a date. `None`: neither.
pub fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default())
}

fn retry(after: Option<Duration>) -> Verdict {
    Verdict::Retry { after: limited(after), is_throttled: false }
}

fn limited(after: Option<Duration>) -> Option<Duration> {
    after.map(|after| after.min(LONGEST))
}

fn accepted(asked: Asked, rejected: u64) -> Verdict {
    Verdict::Accepted { rejected: clamped(asked, rejected) }
}

fn clamped(asked: Asked, samples: u64) -> u32 {
    u32::try_from(samples).unwrap_or(u32::MAX).min(asked.samples)
}

fn unsupported(asked: Asked) -> Verdict {
    let other = asked.format == Format::V2 && asked.may_fall_back;
    if other { Verdict::FallBack } else { Verdict::Held(Hold::Unsupported) }
}

#[cfg(test)]
mod tests;
