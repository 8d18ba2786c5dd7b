//! Where configuration documents come from: files that change, etcd, Consul, Nacos, and the last good one on disk.
//!
//! A source knows nothing of what a document says: it hands on whole texts. Who reads them is `daemon::reload`.

use std::sync::Arc;

/// A whole document from somewhere else, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Where it is, as people say it; never with a secret.
    pub place: Arc<str>,
    /// What it says. May hold secrets.
    pub text: Arc<str>,
    /// What the source calls this version of it: a revision, an index, a hash.
    pub version: String,
}
