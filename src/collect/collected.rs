//! What a collection of a member made, handed on to whoever delivers it.
//!
//! What a newcomer would get wrong: nobody waits here. Where whoever delivers does not keep up, what is newest
//! is given up, and counted.

use exposition::Families;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;
use tokio::sync::mpsc;

/// Collections that may wait for who delivers them. When it is full, a new one is dropped and counted.
const WAITING: usize = 4096;

/// All that is known of one target at one time.
///
/// What its server says and what we say of it are apart, because their counters did not begin at the same time.
#[derive(Clone, Debug)]
pub struct Collected {
    /// Who it is: the same word for as long as it is a member.
    pub target: Arc<str>,
    /// The labels of all its series, but for the job and those of outputs. The same `Arc` while they are the same.
    pub labels: Arc<BTreeMap<String, String>>,
    /// When it was collected, or when the target went.
    pub at: SystemTime,
    /// What its server says.
    pub theirs: Said,
    /// What we say of it.
    pub ours: Said,
    /// Somebody else goes on with it: nothing more is said of it here, and its series do not end.
    pub has_moved: bool,
}

/// Families of one speaker. None at all of both: the target is gone, and its series end; or it has moved.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// The families.
    pub parts: Vec<Arc<Families>>,
    /// Since when its counters count, where that is known: they were 0 then.
    pub since: Option<SystemTime>,
}

impl Collected {
    /// Whether the target is gone, or has moved.
    pub fn is_gone(&self) -> bool {
        self.theirs.parts.is_empty() && self.ours.parts.is_empty()
    }
}

/// The way to whoever delivers.
#[derive(Clone, Debug)]
pub struct Outlet {
    send: mpsc::Sender<Collected>,
    lost: Arc<AtomicU64>,
}

/// The other end.
pub type Inlet = mpsc::Receiver<Collected>;

impl Outlet {
    /// A way, and its other end.
    pub fn new() -> (Self, Inlet) {
        let (send, inlet) = mpsc::channel(WAITING);
        (Self { send, lost: Arc::default() }, inlet)
    }

    /// Hands it on, or gives it up where there is no room.
    pub fn offer(&self, collected: Collected) {
        if self.send.try_send(collected).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were given up, from now on and so far.
    pub fn lost(&self) -> Lost {
        Lost(self.lost.clone())
    }
}

/// Counts collections that were given up.
#[derive(Clone, Debug, Default)]
pub struct Lost(Arc<AtomicU64>);

impl Lost {
    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
