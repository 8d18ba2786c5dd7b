//! Push: what was collected becomes records, waits in a queue on disk, and is sent.
//!
//! - [`outputs`]: what runs for each output, and the loop that owns it
//! - [`intake`]: from collections to records
//! - [`queue`]: the log on disk, memory before it, and who reads it
//! - [`sender`]: one lane of an output, from the oldest record to the verdict
//! - [`verdict`]: what an answer means for a record (pure)
//! - [`remote_write`], [`otlp`]: what is said in which protocol
//! - [`board`]: what senders did
//! - [`families`]: all of it as metric families
//!
//! What a newcomer would get wrong: one record is one request, for ever. What was sent before a crash is sent after it
//! byte for byte, so that a receiver can only refuse what it has.

pub mod families;
mod intake;
pub mod outputs;
pub mod queue;
