//! What we say of ourselves: logs, counters, the process.
//!
//! - [`events`]: what happened to services: the event log
//! - [`log`]: where log lines go and what they look like
//! - [`metrics`]: our own counters, and the build
//! - [`process`]: what the kernel says of this process

pub mod events;
pub mod log;
pub mod metrics;
pub mod process;

pub use metrics::Metrics;
