//! The other copies of this exporter, and which services are ours.
//!
//! - [`run`]: the loop, from one lease to the next; `life`: one lease, what is registered and claimed under it
//! - [`plan`]: what to claim, to give away and when (pure); [`assign`]: who should have which shard (pure)
//! - [`members`], [`claims`]: who lives and who has what, as etcd says
//! - [`shards`]: services into 256 shards, by their names
//! - [`share`]: what is ours, as those see it who collect; [`fence`]: until when that counts
//! - [`known`]: who was there last, and who had what, for lists
//! - [`consul`]: registration in Consul, beside all that
//! - [`board`]: what is known of all that, for those who show it; [`families`] shows it; `hash`: whether two are configured alike
//!
//! What a newcomer would get wrong: who shares the work has no copy of the topology. What is ours is a matter of the names of
//! services alone, and every copy knows all of them.

pub mod assign;
pub mod board;
pub mod claims;
pub mod consul;
pub mod families;
pub mod fence;
pub mod known;
mod life;
pub mod members;
pub mod plan;
pub mod run;
pub mod shards;
pub mod share;

pub use board::Board;
pub use fence::Fence;
pub use known::Known;
pub use run::{Coordination, World};
pub use shards::{SHARDS, Shards, shard_of};
pub use share::{Duty, Peer, Seen, Share, Standing};
