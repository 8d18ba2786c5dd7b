//! Where configuration documents come from: files that change, etcd, Consul, Nacos, and the last good one on disk.
//!
//! - [`follow()`], [`first`]: a remote document, whoever keeps it
//! - [`etcd`], [`consul`], [`nacos`]: one that they keep
//! - [`file`](mod@file): files that may have changed; `folders`: the folders of those, watched
//! - [`last_good`]: the last document that was accepted, on disk
//!
//! A source knows nothing of what a document says: it hands on whole texts. Who reads them is `daemon::reload`.
//!
//! What a newcomer would get wrong: a source that fails takes nothing back. What it said last stands in [`State::latest`],
//! and why it says nothing now beside it.

pub mod consul;
pub mod etcd;
pub mod file;
mod fault;
pub mod folders;
mod follow;
pub mod last_good;
mod md5;
pub mod nacos;

use fault::Fault;
pub use follow::{first, follow};

use std::sync::Arc;
use std::time::SystemTime;

/// A larger document is a mistake, in bytes.
pub const LARGEST: usize = crate::config::document::tree::LONGEST;

/// A whole document from somewhere else, as it is now.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    /// Where it is, as people say it; never with a secret.
    pub place: Arc<str>,
    /// What it says. May hold secrets.
    pub text: Arc<str>,
    /// What the source calls this version of it: a revision, an index, a hash.
    pub version: String,
}

/// Without the text.
impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { place, text, version } = self;
        write!(f, "Document({place}, {version}, {} bytes)", text.len())
    }
}

/// What is known of a remote document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The document as it was read last; `None`: not yet.
    pub latest: Option<Document>,
    /// Why it cannot be read now; `None`: it can.
    pub failure: Option<Failure>,
    /// How many tries failed.
    pub failures: u64,
    /// When the source answered last.
    pub answered: Option<SystemTime>,
}

/// Why a document cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Of which kind.
    pub kind: Kind,
    /// In words; never with a secret.
    pub text: String,
    /// Since when.
    pub since: SystemTime,
}

/// The kinds of [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Nobody answers there: no address, no connection, or it broke off.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// TLS failed.
    Tls,
    /// It answers that it cannot now.
    Unavailable,
    /// We are not allowed to, or not known.
    Refused,
    /// There is no such key.
    Missing,
    /// The document is larger than one may be.
    TooLarge,
    /// The document is no UTF-8.
    NotText,
    /// What it says is not of its protocol.
    Protocol,
    /// A file or word of ours is of no use.
    Local,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Unreachable,
        Self::Timeout,
        Self::Tls,
        Self::Unavailable,
        Self::Refused,
        Self::Missing,
        Self::TooLarge,
        Self::NotText,
        Self::Protocol,
        Self::Local,
    ];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
            Self::Missing => "missing",
            Self::TooLarge => "too_large",
            Self::NotText => "not_text",
            Self::Protocol => "protocol",
            Self::Local => "local",
        }
    }

    /// Whether the source answers, and the document is to blame.
    pub const fn is_of_document(self) -> bool {
        matches!(self, Self::Missing | Self::TooLarge | Self::NotText)
    }

    /// Whether it may be gone in a moment, without anybody's doing.
    pub const fn may_pass(self) -> bool {
        matches!(self, Self::Unreachable | Self::Timeout | Self::Unavailable | Self::Protocol)
    }
}
