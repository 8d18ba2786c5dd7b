//! Redvigil keeps watch over Redis and Valkey.
//!
//! The rooms in reading order: data flows down this list, imports point up it.
//! `tests/architecture.rs` keeps that true.

// What the operator may say: pure data, defaults, validation.
pub mod config;
// What we say of ourselves: logs, counters, the process.
pub mod telemetry;
// Backoff, breaker, health, permits: decisions, no I/O.
pub mod resilience;
// Sockets to all that is not Redis, and TLS for everything.
pub mod net;
// Where configuration documents come from.
pub mod source;
// One live conversation with one Redis or Valkey.
pub mod connect;
// Which services, members and targets exist.
pub mod discover;
// The other copies of this exporter, and which services are ours.
pub mod peers;
// Replies into metric families, one file a command family.
pub mod collect;
// When, how many at once, and the latest result.
pub mod scrape;
// Push: queues on disk, remote write, OTLP.
pub mod deliver;
// Our own HTTP side: metrics, scrape, health.
pub mod serve;
// Puts it together: starts in the order of the data, stops in the opposite order.
pub mod daemon;
// The command line: exit codes, help, completions.
pub mod cli;
