//! Redvigil keeps watch over Redis and Valkey.
//!
//! The rooms in reading order: data flows down this list, imports point up it.
//! `tests/architecture.rs` keeps that true.

pub mod collect;
pub mod config; // what the operator may say: pure data, defaults, validation
pub mod connect;
pub mod daemon;
pub mod net; // TLS and HTTP: sockets to all that is not Redis // one live conversation with one Redis or Valkey // replies into metric families, one file a command family
pub mod scrape; // when, how many at once, and the latest result
pub mod serve; // HTTP: metrics, scrape, health
pub mod telemetry; // our own logs, counters and process // puts it together: starts and stops
