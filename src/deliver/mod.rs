//! Push: what was collected becomes records, waits in a queue on disk, and is sent.
//!
//! - [`outputs`]: what runs for each output, and the loop that owns it
//! - `intake`: from collections to records
//! - [`queue`]: the log on disk, memory before it, and who reads it
//! - [`verdict`]: what an answer means for a record (pure)
//! - [`remote_write`], [`otlp`]: what is sent and what is answered, format by format
//! - [`sender`]: the states of a lane, one request at a time
//! - [`board`]: what is known of sending, for others to show
//! - [`families`]: all of it as metric families
//!
//! What a newcomer would get wrong: one record is one request, for ever. What was sent before a crash is sent after it
//! byte for byte, so that a receiver can only refuse what it has.

pub mod board;
pub mod families;
mod intake;
pub mod otlp;
pub mod outputs;
pub mod queue;
pub mod remote_write;
pub mod sender;
pub mod verdict;
