//! Why one try to read a document failed, and how the errors of those who keep documents are told.

use super::{Kind, LARGEST};
use crate::net::http;
use crate::telemetry::log;

/// One try that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    /// In words, without a secret.
    pub(super) text: String,
}

impl Fault {
    pub(super) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// There is no such key.
    pub(super) fn missing(what: &str) -> Self {
        Self::new(Kind::Missing, format!("there is no such {what}"))
    }

    /// The document is larger than we take.
    pub(super) fn too_large() -> Self {
        Self::new(Kind::TooLarge, format!("the document has more than {LARGEST} bytes"))
    }

    /// An answer with a status that says no; `said` is the body, made fit to be seen.
    pub(super) fn status(status: http::StatusCode, said: &str) -> Self {
        let kind = match status.as_u16() {
            401 | 403 => Kind::Refused,
            404 => Kind::Missing,
            409 | 423 | 425 | 429 | 500.. => Kind::Unavailable,
            _ => Kind::Protocol,
        };
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        Self::new(kind, format!("it answers {status}{said}"))
    }
}

impl From<http::Error> for Fault {
    fn from(error: http::Error) -> Self {
        use http::Kind as Of;
        let kind = match (error.kind(), &error) {
            (_, http::Error::TooLarge { .. }) => return Self::too_large(),
            (_, http::Error::Tls { .. }) => Kind::Tls,
            (Of::Dns | Of::Refused | Of::Connect | Of::ConnectTimeout | Of::Closed, _) => Kind::Unreachable,
            (Of::Timeout, _) => Kind::Timeout,
            (Of::Tls, _) => Kind::Tls,
            (Of::Protocol, _) => Kind::Protocol,
            (Of::Local, _) => Kind::Local,
        };
        Self::new(kind, log::chain(&error))
    }
}

/// The text of a document.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Fault> {
    if bytes.len() > LARGEST {
        return Err(Fault::too_large());
    }
    std::str::from_utf8(bytes).map_err(|_| Fault::new(Kind::NotText, "the document is no UTF-8"))
}
