//! What a queue counts.
//!
//! What a newcomer would get wrong: counters begin anew with the process. What an earlier one left is `recovered`, so
//! that `recovered + accepted = delivered + dropped + pending` at any moment.

use super::Reason;
use std::collections::BTreeMap;

/// All that a queue counts, of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// All lanes together.
    pub total: Counts,
    /// Each lane, those of before `lanes` was changed first.
    pub lanes: Vec<LaneStatus>,
    /// Bytes of records in memory.
    pub memory_bytes: u64,
    /// The most that they may be.
    pub memory_capacity: u64,
    /// Bytes of files in the folder.
    pub disk_bytes: u64,
    /// The most that they may be; 0 without a disk.
    pub disk_capacity: u64,
    /// Bytes that were free on the file system when it was last asked; `None` without a disk.
    pub disk_free: Option<u64>,
    /// Whether records can be written.
    pub disk_ok: bool,
    /// The oldest timestamp of what waits.
    pub oldest_pending: Option<i64>,
    /// The newest timestamp that was accepted.
    pub highest_accepted: Option<i64>,
    /// The newest timestamp that was delivered.
    pub highest_delivered: Option<i64>,
    /// What went well and badly on disk.
    pub disk: Disk,
}

/// A lane's part of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LaneStatus {
    /// One more with each change of `lanes`.
    pub generation: u32,
    /// Which lane of its generation.
    pub index: usize,
    /// Its samples.
    pub counts: Counts,
    /// The oldest timestamp of what waits; where that is on disk, that of its file.
    pub oldest_pending: Option<i64>,
    /// The newest timestamp that was accepted.
    pub highest_accepted: Option<i64>,
    /// The newest timestamp that was delivered.
    pub highest_delivered: Option<i64>,
}

/// Samples, since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Found in the queue when it was opened.
    pub recovered: u64,
    /// Records found in the queue when it was opened.
    pub recovered_records: u64,
    /// Taken since then; with those that found no room.
    pub accepted: u64,
    /// Delivered.
    pub delivered: u64,
    /// Left without.
    pub dropped: Dropped,
    /// Waiting, or under way.
    pub pending: u64,
    /// Records that are waiting, or under way.
    pub pending_records: u64,
}

impl Counts {
    /// Whether every sample is accounted for, once.
    pub fn balance(&self) -> bool {
        self.recovered + self.accepted == self.delivered + self.dropped.total() + self.pending
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.recovered += other.recovered;
        self.recovered_records += other.recovered_records;
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.pending += other.pending;
        self.pending_records += other.pending_records;
        for (mine, theirs) in self.dropped.0.iter_mut().zip(other.dropped.0) {
            *mine += theirs;
        }
    }
}

/// Samples that left undelivered, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped([u64; Reason::ALL.len()]);

impl Dropped {
    /// For one reason.
    pub fn get(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    /// For any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(super) fn add(&mut self, reason: Reason, samples: u64) {
        self.0[reason as usize] += samples;
    }
}

/// What went well and badly on disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Disk {
    /// How often `fdatasync` came back.
    pub fsyncs: u64,
    /// How long it took, all together.
    pub fsync_seconds: f64,
    /// How often it failed.
    pub fsync_errors: u64,
    /// Calls that failed, by the name of their error.
    pub write_errors: BTreeMap<&'static str, u64>,
    /// Ends of a log that a death cut short.
    pub torn_tails: u64,
    /// What was found damaged, by part: `cursor`, `segment`, `header`, `payload`, `footer`.
    pub corrupt: BTreeMap<&'static str, u64>,
    /// Places of a log where sequence numbers were missing.
    pub gaps: u64,
    /// Damaged ends and files that were put aside.
    pub quarantined: u64,
}
