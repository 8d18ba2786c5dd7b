//! A Cluster: its nodes, its shards, and who is the master of which.
//!
//! - [`nodes`]: where nodes are reached
//! - [`keys`]: which master serves which key
//! - [`table`]: what one node says of all nodes

pub mod keys;
pub mod nodes;
pub mod table;

pub use keys::{Master, SLOTS, slot};
pub use nodes::{Node, Unknown, nodes};
