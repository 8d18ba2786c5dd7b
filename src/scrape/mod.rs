//! When, how many at once, and what came of it: the room that drives [`crate::connect`] and
//! [`crate::collect`].
//!
//! - [`once`]: one collection of one target on demand, shared by all who ask for the same at the same time
//! - [`collections`]: those under way, and what their end says of a member
//! - [`job`]: who is asked for what
//! - [`target`]: the connection that a target keeps, what is remembered of it, and how many targets there are
//! - [`worker`]: one collection, from a connection to a snapshot
//! - [`replication`]: how far a replica is behind its master
//! - [`service`]: what follows from all members of a service together: who is the master, lag, failovers
//! - [`shape`]: the outcome of a collection as metric families
//! - [`fleet`]: every member of every service, collected each interval
//! - `round`: one round of a group of members
//! - `moment`: when it is due
//! - [`kin`]: which members of a long list replicate from one another
//! - [`key_scans`]: the keys of members, looked at apart from ticks
//! - [`store`]: the members, by service and by address
//! - [`slot`]: the latest that is known of one
//! - [`member`]: that as metric families
//! - [`book`]: what is kept of a service
//! - [`feed`], `background`: what was collected, handed on to whoever delivers it
//! - [`sets`]: members, services and ourselves with their labels, as pages show them
//!
//! A [`Scraper`] is a handle that anybody may clone; the [`Collections`] behind it is the loop that owns
//! every collection under way, and is run by the daemon.

mod background;
pub mod book;
pub mod collections;
pub mod feed;
pub mod fleet;
pub mod job;
pub mod key_scans;
pub mod kin;
pub mod member;
mod moment;
pub mod once;
pub mod replication;
mod round;
pub mod service;
pub mod sets;
pub mod shape;
pub mod slot;
pub mod store;
pub mod target;
pub mod worker;

pub use collections::Collections;
pub use feed::Feed;
pub use fleet::Fleet;
pub use job::{Job, Place};
pub use key_scans::KeyScans;
pub use once::{Crowded, Membership, Scraper, Wanted};
pub use slot::Slot;
pub use store::Store;
