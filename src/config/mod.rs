//! What the operator may say: pure data, defaults, validation.
//!
//! One file for each room that it configures (`connect` is configured by `config/connect.rs`), and the
//! words that several of them use: [`address`], [`secret`], [`credentials`], [`problem`],
//! [`units`], [`validate`]. [`compat`] is the command line and
//! the environment: the table of every flag, and the way from words to a [`Config`]. [`document`] is the
//! configuration file: the tables of every key, and the way from YAML to a [`Config`].
//!
//! Nothing here opens a socket or reads a file by itself, but for the files whose content *is*
//! configuration (the document, files with passwords, Lua scripts), which are read while the value is built.

pub mod address;
pub mod build;
pub mod collect;
pub mod compat;
pub mod connect;
pub mod credentials;
pub mod deliver;
pub mod discover;
pub mod document;
pub mod hash;
pub mod net;
pub mod peers;
pub mod problem;
pub mod resilience;
pub mod scrape;
pub mod secret;
pub mod serve;
pub mod services;
pub mod source;
pub mod telemetry;
pub mod units;
pub mod validate;
pub mod web;

pub use address::Address;
pub use collect::Collect;
pub use connect::Connect;
pub use credentials::{Credentials, Origin, Profile};
pub use deliver::Deliver;
pub use discover::Discover;
pub use peers::Peers;
pub use resilience::Resilience;
pub use scrape::Scrape;
pub use secret::Secret;
pub use serve::Serve;
pub use telemetry::Telemetry;

use std::sync::Arc;

/// Everything that the operator said, with defaults where nothing was said.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// How failures are taken.
    pub resilience: Resilience,
    /// How to reach servers, and who we are to them.
    pub connect: Connect,
    /// Which services there are.
    pub discover: Discover,
    /// The other copies of this exporter.
    pub peers: Peers,
    /// What to ask servers for.
    pub collect: Collect,
    /// Which targets, and in what time.
    pub scrape: Scrape,
    /// Where samples are pushed to.
    pub deliver: Deliver,
    /// Our own HTTP side.
    pub serve: Serve,
    /// Our own logs and metrics.
    pub telemetry: Telemetry,
    /// Where this came from, to be read again at a reload; `None`: from nowhere, as in tests.
    pub origin: Option<Arc<document::Origin>>,
    /// What [`Self::hash`] came to; a copy, which is made to be changed, does not know it.
    pub known_hash: hash::Known,
    /// `--config.source`: who keeps another document, which goes before that of `file`; `None`: nobody.
    pub remote: Option<Arc<source::Remote>>,
}
