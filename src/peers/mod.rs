//! The other copies of this exporter, and which services are ours.
//!
//! - [`shards`]: services into 256 shards, by their names
//! - [`assign`]: who should have which shard
//! - [`share`]: what is ours, as others see it
//! - [`fence`]: until when that counts
//!
//! What a newcomer would get wrong: who shares the work has no copy of the topology. What is ours is a matter of the names of
//! services alone, and every copy knows all of them.

pub mod assign;
pub mod fence;
pub mod shards;
pub mod share;

pub use fence::Fence;
pub use shards::{SHARDS, Shards, shard_of};
pub use share::{Duty, Peer, Seen, Share, Standing};
