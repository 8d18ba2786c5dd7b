//! The metric model and the wire formats that it is written in.
//!
//! Reading order: [`family`] says what a metric family is and how collectors record one,
//! [`merge`] lays the families of several sets side by side in the order of the wire,
//! and each format has one file that writes a [`Page`] in it: [`text`], [`openmetrics`], [`protobuf`].
//!
//! This package is pure: no files, no sockets, no clock, no tokio. It is fuzzed and measured alone.

pub mod family;
pub mod merge;
pub mod number;
pub mod openmetrics;
pub mod protobuf;
pub mod text;
pub mod wire;

pub use family::{Builder, Desc, Families, FamilyId, Kind, Mark};
pub use merge::Page;
