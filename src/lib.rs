//! Redvigil keeps watch over Redis and Valkey.
//!
//! The rooms in reading order: data flows down this list, imports point up it.
//! `tests/architecture.rs` keeps that true.

pub mod config; // what the operator may say: pure data, defaults, validation

pub mod cli; // the command line
