//! What is known of our registration and of the share, for those who show it.
//!
//! What a newcomer would get wrong: counters count from the start of the process, whatever became of leases and clients in
//! between.

use crate::net::etcd::Kind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// One place for what is known; whoever coordinates writes, whoever shows copies.
#[derive(Debug, Default)]
pub struct Board {
    inner: Mutex<Status>,
}

/// What is known.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Whether an etcd is configured.
    pub is_used: bool,
    /// Whether it answered last.
    pub is_up: bool,
    /// When it answered last.
    pub answered: Option<Instant>,
    /// Whether our registration stands there.
    pub is_registered: bool,
    /// Whether another one is registered by our name.
    pub has_twin: bool,
    /// Calls, and watches that were opened.
    pub calls: u64,
    /// Of these, those that failed, by the place of the kind in [`Kind::ALL`].
    pub failures: [u64; Kind::ALL.len()],
    /// Leases that ended against our will.
    pub leases_lost: u64,
    /// How often the fence closed because we were asleep or held up.
    pub sleeps: u64,
    /// Shards that became ours.
    pub claimed: u64,
    /// Shards that somebody else was quicker to claim.
    pub beaten: u64,
    /// Shards that were given away.
    pub released: u64,
    /// Shards that were lost with a lease.
    pub lost: u64,
    /// Peers whose words cannot be understood.
    pub broken: usize,
    /// Why etcd did not do as it was asked last, without a secret.
    pub error: Option<(Kind, String)>,
}

impl Board {
    fn inner(&self) -> MutexGuard<'_, Status> {
        // Nothing panics while this lock is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now.
    pub fn status(&self) -> Status {
        self.inner().clone()
    }

    /// Changes what is known.
    pub fn note(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.inner());
    }
}
