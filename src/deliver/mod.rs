//! Push: what was collected becomes records, waits in a queue on disk, and is sent.
//!
//! - [`queue`]: the log on disk, memory before it, and who reads it
//! - [`verdict`]: what an answer means for a record (pure)
//! - [`remote_write`], [`otlp`]: what is sent and what is answered, format by format
//! - [`sender`]: the states of a lane, one request at a time
//! - [`board`]: what is known of sending, for others to show
//!
//! What a newcomer would get wrong: one record is one request, for ever. What was sent before a crash is sent after it
//! byte for byte, so that a receiver can only refuse what it has.

pub mod queue;
pub mod verdict;
pub mod remote_write;
pub mod otlp;
pub mod sender;
pub mod board;
