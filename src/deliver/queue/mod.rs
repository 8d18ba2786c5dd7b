//! The queue of an output: records are written to a log first, and leave it when they are delivered or counted.
//!
//! - [`storage`]: the calls of the system, so that each can fail in a test

pub mod storage;

use bytes::Bytes;

/// Samples that are sent in one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `io.prometheus.write.v2.Request`, compressed with zstd.
    pub body: Bytes,
    /// How many samples it has.
    pub samples: u32,
    /// The time of its oldest sample, in milliseconds since 1970.
    pub min_timestamp: i64,
    /// The time of its newest sample, in milliseconds since 1970.
    pub max_timestamp: i64,
}

/// A record of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// One more than that of the record before it.
    pub sequence: u64,
    /// The record.
    pub record: Record,
    /// Whether it may have been delivered before the last start, which did not follow a stop.
    pub may_be_repeated: bool,
}

/// Why samples left without having been delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The queue was above `max_bytes`.
    Size,
    /// They waited longer than `max_age`.
    Age,
    /// The file system was full.
    DiskFull,
    /// The disk was of no use, and memory was full.
    RingFull,
    /// Their record was damaged, or its file was.
    Corrupt,
    /// The receiver refused them.
    Rejected,
    /// The receiver refused what it may have had already.
    PossibleDuplicate,
    /// A target of its own is more than the receiver takes in one request.
    TooLarge,
    /// The output is there no more, or its queue was in memory alone.
    Closed,
}
