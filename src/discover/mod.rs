//! Which services, members and targets exist.
//!
//! - [`service`]: the words: topology, service, member, master, failover
//! - [`board`]: what the providers found, put together and published
//! - [`fixed`], [`mod@file`], [`sentinel`], [`cluster`]: the providers, one future a service
//! - [`list`]: what providers of lists share
//! - [`names`]: names that stand for all their addresses
//! - `lasting`: what is told once it has lasted
//! - [`merge`]: a member that is known under two addresses is one
//! - [`mod@run`]: the loop
//! - [`families`]: what is known of a service as metric families
//! - [`rewrite`]: announced addresses into reachable ones
//!
//! [`Discovery::run`] starts a provider for each service of the configuration, ends those whose service went
//! or changed, and publishes the [`Topology`].
//!
//! What a newcomer would get wrong: a provider that fails keeps its last good answer. Members go only when
//! somebody who knows says so.

pub mod board;
pub mod cluster;
pub mod families;
pub mod file;
pub mod fixed;
mod lasting;
pub mod list;
pub mod merge;
pub mod names;
pub mod run;
pub mod rewrite;
pub mod sentinel;
pub mod service;

pub use board::{Board, World};
pub use merge::Identities;
pub use run::Discovery;
pub use service::{Member, Service, Topology};
