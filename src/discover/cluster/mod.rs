//! A Cluster: its nodes, its shards, and who is the master of which.
//!
//! - [`mod@nodes`]: where nodes are reached
//! - [`keys`]: which master serves which key
//! - [`mod@run`]: the provider
//! - [`ask`]: one node
//! - [`table`]: what one node says of all nodes
//! - [`view`]: what many nodes said, as one picture
//! - [`follow`]: what changes from one picture to the next

pub mod ask;
pub mod follow;
pub mod keys;
pub mod nodes;
pub mod run;
pub mod table;
pub mod view;

pub use keys::{Master, SLOTS, slot};
pub use nodes::{Node, Unknown, nodes};
pub use run::run;
