//! Which services, members and targets exist.
//!
//! - [`cluster`]: the nodes of a Cluster, and which master holds which key

pub mod cluster;
