//! What the operator may say about pushing: outputs, their queues, and where state is kept.
//!
//! What a newcomer would get wrong: an output is known by its name, and so is the folder of its queue. Its URL may
//! change, and what waits goes to the new one.

mod url;

pub use url::{Url, UrlError};

use super::Secret;
use super::connect::Tls;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where samples are pushed to.
#[derive(Clone, Debug, PartialEq)]
pub struct Deliver {
    /// `--storage.path`: where queues are kept; `None`: `$STATE_DIRECTORY`, else [`STATE`].
    pub storage: Option<PathBuf>,
    /// `global.job`: the label `job` of every series that is pushed. [`JOB`].
    pub job: String,
    /// `outputs:`.
    pub outputs: Vec<Arc<Output>>,
}

/// Where state is kept where nothing else is said.
pub const STATE: &str = "/var/lib/redvigil";

/// The label `job` where nothing else is said.
pub const JOB: &str = "redvigil";

impl Default for Deliver {
    fn default() -> Self {
        Self { storage: None, job: JOB.into(), outputs: vec![] }
    }
}

impl Deliver {
    /// Where state is kept: what the operator said, else what systemd says in `$STATE_DIRECTORY` (of several folders
    /// the first), else [`STATE`]. Nobody has looked whether it is there.
    pub fn state(&self, state_directory: Option<&OsStr>) -> PathBuf {
        let by_systemd = || {
            let first = state_directory?.as_bytes().split(|b| *b == b':').next()?;
            Some(PathBuf::from(OsStr::from_bytes(first))).filter(|folder| !folder.as_os_str().is_empty())
        };
        self.storage.clone().or_else(by_systemd).unwrap_or_else(|| STATE.into())
    }
}

/// A place that samples are pushed to.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name, a word of `a-z`, `A-Z`, `0-9`, `_`, `-` and `.` that no other output has; also that of its folder.
    pub name: Arc<str>,
    /// What it speaks, and where it is.
    pub to: Destination,
    /// What waits for it.
    pub queue: Queue,
    /// `replay.max_samples_per_second`: the most that is sent of what waited; `None`: no limit.
    pub max_samples_per_second: Option<u64>,
    /// `paused`: nothing is sent for the time being, and what comes waits. False.
    pub paused: bool,
    /// `external_labels`: labels of every series that is pushed there.
    pub external_labels: BTreeMap<String, String>,
}

/// What an output speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Prometheus remote write.
    RemoteWrite {
        /// Which version.
        version: Version,
        /// Where to, and who we are.
        endpoint: Endpoint,
    },
    /// The OpenTelemetry protocol.
    Otlp {
        /// By what it travels.
        protocol: Protocol,
        /// Where to, and who we are.
        endpoint: Endpoint,
    },
}

/// The version of remote write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// 2.0, and 1.0 where the receiver does not know it.
    #[default]
    Auto,
    /// 1.0 only.
    V1,
    /// 2.0 only.
    V2,
}

/// How OTLP travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    #[default]
    Grpc,
    /// Protobuf over HTTP/1.1.
    Http,
}

/// An HTTP server that takes samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `http://` or `https://`, without user and password; the path as it is to be asked for, but for gRPC, where it
    /// stands in front of the method.
    pub url: Url,
    /// Headers beside our own. Their values may be secret.
    pub headers: Vec<(String, Secret)>,
    /// Who we are.
    pub auth: Auth,
    /// TLS, where the URL says `https`. Files are read again when they change.
    pub tls: Tls,
    /// How long an attempt may take. 10 s.
    pub timeout: Duration,
}

/// Who we are to an HTTP server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Nobody.
    #[default]
    None,
    /// `Authorization: Bearer`.
    Bearer(Word),
    /// A header of the server's own, whose name is in lower case.
    Header {
        /// Its name.
        name: &'static str,
        /// What it says.
        word: Word,
    },
    /// `Authorization: Basic`.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Word,
    },
}

/// A secret word, or the file that holds it, which is read again when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The word itself.
    Given(Secret),
    /// Where it is: all of the file but white space at its ends.
    File(PathBuf),
}

/// The queue of an output.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// The most that it takes on disk, in bytes; above it the oldest goes. 2 GiB.
    pub max_bytes: u64,
    /// The most that a sample waits. 24 h.
    pub max_age: Duration,
    /// What is left free of the file system, in bytes. 512 MiB.
    pub min_free: u64,
    /// The most that it takes in memory, in bytes, whatever the outage. 32 MiB.
    pub memory: u64,
    /// When what was written is made safe against the death of the machine. Every second.
    pub fsync: Fsync,
    /// What survives the death of the process. All.
    pub durability: Durability,
    /// How many requests are under way at once, each for targets of its own: 1 to 16. 1.
    pub lanes: u16,
    /// What goes when it is full. The oldest.
    pub on_full: OnFull,
    /// How long collections are gathered into one request. 250 ms; zero: each has one of its own.
    pub linger: Duration,
}

/// When `fdatasync` is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// After each record.
    Always,
    /// That often, where there is something new.
    Every(Duration),
    /// Left to the system.
    Never,
}

/// What survives the death of our process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Everything: it is written before it is sent.
    #[default]
    Wal,
    /// What had no room in memory, or waits while the receiver fails.
    Spill,
    /// Nothing: there is no disk.
    Memory,
}

/// What goes when the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// The oldest, file by file.
    #[default]
    DropOldest,
    /// What is new.
    DropNewest,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            max_bytes: 2 << 30,
            max_age: Duration::from_secs(24 * 3600),
            min_free: 512 << 20,
            memory: 32 << 20,
            fsync: Fsync::Every(Duration::from_secs(1)),
            durability: Durability::Wal,
            lanes: 1,
            on_full: OnFull::DropOldest,
            linger: Duration::from_millis(250),
        }
    }
}

impl Output {
    /// The server that it goes to.
    pub fn endpoint(&self) -> &Endpoint {
        match &self.to {
            Destination::RemoteWrite { endpoint, .. } | Destination::Otlp { endpoint, .. } => endpoint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_kept_where_the_operator_says_or_systemd_does() {
        fn check(flag: Option<&str>, systemd: Option<&str>, expected: &str) {
            let deliver = Deliver { storage: flag.map(Into::into), ..Deliver::default() };
            assert_eq!(deliver.state(systemd.map(OsStr::new)), PathBuf::from(expected));
        }
        check(None, None, STATE);
        check(None, Some("/var/lib/private/redvigil"), "/var/lib/private/redvigil");
        check(None, Some("/a:/b"), "/a");
        check(None, Some(""), STATE);
        check(None, Some(":/b"), STATE);
        check(Some("data"), Some("/a"), "data");
    }
}
