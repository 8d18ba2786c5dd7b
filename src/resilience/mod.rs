//! How failures are taken: decisions, no I/O.
//!
//! - [`health`]: what a run of failures makes of a target
//! - [`breaker`]: whether a target that is down is asked at all
//! - [`backoff`]: how often one collection tries, and how long it pauses in between
//! - [`permits`]: how many collections run at once, and which of them has to go
//!
//! Nothing here sleeps, reads a clock or rolls dice: time and randomness are passed in. Only a wait for a
//! permit is a future. Why something failed comes in as a word (`refused`, `timeout`, …), so that this room
//! stands below the one that talks to servers.

pub mod backoff;
pub mod breaker;
pub mod health;
pub mod permits;

pub use backoff::{Backoff, Retry};
pub use breaker::Breaker;
pub use health::{Health, Observation};
pub use permits::{Class, Permit, Permits};
