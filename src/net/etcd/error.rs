//! Why etcd did not do as it was asked, as whoever decides needs it.
//!
//! What a newcomer would get wrong: etcd tells most of what matters in the text beside a code, so the texts are part of
//! what it promises: <https://github.com/etcd-io/etcd/blob/main/api/v3rpc/rpctypes/error.go>. A text that is none of these
//! is judged by its code.

use crate::net::grpc::{self, Code};
use crate::net::{http, tls};
use std::sync::Arc;

/// Why etcd did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection.
    #[error("etcd cannot be reached")]
    Unreachable(#[source] http::Error),
    /// TLS was refused by one of the two.
    #[error("etcd and we do not agree on TLS")]
    Tls(#[source] http::Error),
    /// A file of ours is of no use.
    #[error("etcd was not asked")]
    Local(#[source] http::Error),
    /// There was no answer in time. It may have done as it was asked.
    #[error("etcd at {server} is silent")]
    Silent {
        /// Host and port.
        server: Arc<str>,
    },
    /// The connection ended before the answer. It may have done as it was asked.
    #[error("etcd broke off")]
    Broken(#[source] http::Error),
    /// Wrong user or password, or a token that is refused though it is new.
    #[error("etcd at {server} does not accept who we are: {message}")]
    Auth {
        /// Host and port.
        server: Arc<str>,
        /// In its words.
        message: Box<str>,
    },
    /// The user may not do that.
    #[error("etcd at {server} does not permit that: {message}")]
    Denied {
        /// Host and port.
        server: Arc<str>,
        /// In its words.
        message: Box<str>,
    },
    /// The lease has ended, and all keys with it.
    #[error("the lease has ended")]
    NoLease,
    /// The member knows no leader: an election, or it is cut off from the others.
    #[error("etcd at {server} has no leader")]
    NoLeader {
        /// Host and port.
        server: Arc<str>,
    },
    /// The member cannot do that now. It may do so later.
    #[error("etcd at {server} cannot do that now: {message}")]
    Unavailable {
        /// Host and port.
        server: Arc<str>,
        /// In its words.
        message: Box<str>,
    },
    /// What happened since that revision is not known any more: list again.
    #[error("the revision is compacted")]
    Compacted {
        /// The oldest that is known, where that was told.
        revision: Option<i64>,
    },
    /// Its database is full, and takes no writes until somebody cleans up.
    #[error("the database of etcd is full")]
    NoSpace,
    /// A message above the limit of one of the two.
    #[error("too much for one message: {message}")]
    TooLarge {
        /// How much.
        message: Box<str>,
    },
    /// It says no for another reason.
    #[error("etcd at {server} refuses with code {}: {message}", code.0)]
    Refused {
        /// Host and port.
        server: Arc<str>,
        /// How.
        code: Code,
        /// In its words.
        message: Box<str>,
    },
    /// What was said is not what etcd says.
    #[error("{server} does not speak as an etcd does: {what}")]
    Protocol {
        /// Host and port.
        server: Arc<str>,
        /// In what.
        what: &'static str,
    },
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// There is no connection.
    Unreachable,
    /// No TLS.
    Tls,
    /// A file of ours is of no use.
    Local,
    /// No answer in time.
    Silent,
    /// The connection ended before the answer.
    Broken,
    /// Who we are is not accepted.
    Auth,
    /// What we want is not permitted.
    Denied,
    /// The lease has ended.
    NoLease,
    /// No leader.
    NoLeader,
    /// Not now.
    Unavailable,
    /// The revision is compacted.
    Compacted,
    /// The database is full.
    NoSpace,
    /// A message above a limit.
    TooLarge,
    /// Another no.
    Refused,
    /// What was said is not what etcd says.
    Protocol,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Unreachable,
        Self::Tls,
        Self::Local,
        Self::Silent,
        Self::Broken,
        Self::Auth,
        Self::Denied,
        Self::NoLease,
        Self::NoLeader,
        Self::Unavailable,
        Self::Compacted,
        Self::NoSpace,
        Self::TooLarge,
        Self::Refused,
        Self::Protocol,
    ];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Local => "local",
            Self::Silent => "silent",
            Self::Broken => "broken",
            Self::Auth => "auth",
            Self::Denied => "denied",
            Self::NoLease => "no_lease",
            Self::NoLeader => "no_leader",
            Self::Unavailable => "unavailable",
            Self::Compacted => "compacted",
            Self::NoSpace => "no_space",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
        }
    }

    /// Whether another member may do better.
    pub(super) const fn is_of_member(self) -> bool {
        matches!(
            self,
            Self::Unreachable
                | Self::Tls
                | Self::Silent
                | Self::Broken
                | Self::NoLeader
                | Self::Unavailable
                | Self::Protocol
        )
    }

    /// Whether the connection is of no use any more.
    pub(super) const fn is_of_connection(self) -> bool {
        matches!(self, Self::Silent | Self::Broken | Self::Protocol)
    }

    /// Whether etcd may have done as it was asked all the same.
    pub const fn may_have_been_done(self) -> bool {
        matches!(
            self,
            Self::Silent | Self::Broken | Self::Unavailable | Self::TooLarge | Self::Refused | Self::Protocol
        )
    }
}

impl Error {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Unreachable(_) => Kind::Unreachable,
            Self::Tls(_) => Kind::Tls,
            Self::Local(_) => Kind::Local,
            Self::Silent { .. } => Kind::Silent,
            Self::Broken(_) => Kind::Broken,
            Self::Auth { .. } => Kind::Auth,
            Self::Denied { .. } => Kind::Denied,
            Self::NoLease => Kind::NoLease,
            Self::NoLeader { .. } => Kind::NoLeader,
            Self::Unavailable { .. } => Kind::Unavailable,
            Self::Compacted { .. } => Kind::Compacted,
            Self::NoSpace => Kind::NoSpace,
            Self::TooLarge { .. } => Kind::TooLarge,
            Self::Refused { .. } => Kind::Refused,
            Self::Protocol { .. } => Kind::Protocol,
        }
    }

    /// From a connection that was not made.
    pub(super) fn connecting(error: grpc::Error, server: &Arc<str>) -> Self {
        match error {
            grpc::Error::Transport(error) => match error.kind() {
                http::Kind::Local => Self::Local(error),
                http::Kind::Tls => Self::Tls(error),
                _ => Self::Unreachable(error),
            },
            error => Self::asking(error, server),
        }
    }

    /// From files of TLS.
    pub(super) fn files(source: tls::Error, server: &Arc<str>) -> Self {
        Self::Local(http::Error::Tls { server: server.clone(), source })
    }

    /// From a call.
    pub(super) fn asking(error: grpc::Error, server: &Arc<str>) -> Self {
        let server = || server.clone();
        match error {
            grpc::Error::Transport(http::Error::Timeout { server, .. }) => Self::Silent { server },
            grpc::Error::Transport(error @ http::Error::Http { .. }) => Self::Broken(error),
            grpc::Error::Transport(error) => Self::Local(error),
            grpc::Error::TooLarge { .. } => Self::TooLarge { message: error.to_string().into() },
            grpc::Error::Protocol(what) => Self::Protocol { server: server(), what },
            grpc::Error::Status { code, message } => Self::said(code, message, server()),
        }
    }

    /// From what etcd says.
    pub(super) fn said(code: Code, message: Box<str>, server: Arc<str>) -> Self {
        let says = |words: &str| message.contains(words);
        // Where a watch is cancelled there is a text, and no code.
        match code {
            _ if says("requested lease not found") => Self::NoLease,
            _ if says("no leader") => Self::NoLeader { server },
            _ if says("has been compacted") => Self::Compacted { revision: None },
            _ if says("database space exceeded") => Self::NoSpace,
            _ if says("request is too large") || says("message larger than max") => {
                Self::TooLarge { message }
            }
            _ if says("permission denied") => Self::Denied { server, message },
            _ if is_of_token(&message) || says("authentication failed") => Self::Auth { server, message },
            Code::DEADLINE_EXCEEDED => Self::Silent { server },
            Code::UNAUTHENTICATED => Self::Auth { server, message },
            Code::PERMISSION_DENIED => Self::Denied { server, message },
            Code::UNAVAILABLE => Self::Unavailable { server, message },
            code => Self::Refused { server, code, message },
        }
    }

    /// Whether a new token may help.
    pub(super) fn is_of_token(&self) -> bool {
        matches!(self, Self::Auth { message, .. } if is_of_token(message))
    }
}

/// The token expired or its member was restarted; rules changed since it was given (jwt); none was sent, since there was no
/// authentication when we asked.
fn is_of_token(message: &str) -> bool {
    ["invalid auth token", "revision of auth store is old", "user name is empty"]
        .iter()
        .any(|words| message.contains(words))
}
