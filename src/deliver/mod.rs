//! Push: what was collected becomes records, waits in a queue on disk, and is sent.
//!
//! - [`queue`]: the log on disk, memory before it, and who reads it
//!
//! What a newcomer would get wrong: one record is one request, for ever. What was sent before a crash is sent after it
//! byte for byte, so that a receiver can only refuse what it has.

pub mod queue;
