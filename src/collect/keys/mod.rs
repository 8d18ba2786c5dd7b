//! Key work: what the operator asks about single keys rather than about the server.
//!
//! - [`check`]: size, memory and value of keys
//! - [`count`]: how many keys match a pattern
//! - [`streams`]: streams, their groups and consumers
//! - [`groups`]: keys counted by group, inside the server
//! - [`walk`]: from names and patterns to batches of keys, each on the server that holds it
//! - [`scan`]: one SCAN in a loop that ends
//! - [`pace`]: how fast
//! - [`shards`]: which servers hold the keys, and pipelined batches in a database of theirs
//!
//! What a newcomer would get wrong: the connection is kept and shared with everybody else, so no database
//! stays selected; each batch that works in another one puts the old one back ([`shards::Node::batch`]).

pub mod check;
pub mod count;
pub mod groups;
pub mod pace;
pub mod scan;
pub mod shards;
pub mod streams;
pub mod walk;

pub use pace::Pace;
pub use shards::Masters;

use super::{Collector, Context, When};

/// The collectors that look at keys: for as long as there are keys to look at.
pub static ALL: &[&Collector] =
    &[&check::COLLECTOR, &count::COLLECTOR, &streams::COLLECTOR, &groups::COLLECTOR];

/// Whether to look at keys, if there is `any` work: not on a Sentinel, and not on a master that
/// `--skip-checkkeys-for-role-master` spares.
fn when(context: &Context<'_>, any: bool) -> When {
    let spared = context.config.skip_keys_on_master
        && context.info.and_then(|info| info.get("role")).is_none_or(|role| role != "slave");
    if any && !spared && !context.is_sentinel() { When::Now } else { When::Never }
}
