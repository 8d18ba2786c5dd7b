//! From what the operator names to batches of keys, each on the server that holds it.
//!
//! Names are taken as they are, patterns are expanded by SCAN on every server. A key whose slot has moved to
//! another master meanwhile is looked up there, once.

use super::scan::Scan;
use super::shards::{Node, Shards};
use crate::collect::Failure;
use crate::collect::refusals::Refusals;
use crate::config::collect::KeyPattern;
use crate::connect::Reply;
use std::collections::BTreeMap;
use std::future::Future;

/// What is done with keys.
pub trait Look: Send {
    /// Keys of one batch at most.
    const BATCH: usize;
    /// Keys that patterns may find in one collection, all together: each of them is several series.
    const MOST: usize;

    /// Looks at keys of one database of one server. Gives back the names of those that are on another master.
    fn look(
        &mut self,
        node: &mut Node<'_>,
        db: u32,
        names: Vec<String>,
        refusals: &mut Refusals<'_>,
    ) -> impl Future<Output = Result<Vec<String>, Failure>> + Send;
}

/// Names and patterns of keys.
pub struct Wanted<'a> {
    /// Patterns, and names among them.
    pub patterns: &'a [KeyPattern],
    /// Names only.
    pub single: &'a [KeyPattern],
    /// COUNT of every SCAN.
    pub count: u32,
    /// The type that patterns find, where the server can choose.
    pub kind: Option<&'static str>,
}

/// Looks at all that is wanted. What goes wrong is noted and costs the keys that it concerns.
pub async fn walk<L: Look>(
    wanted: &Wanted<'_>,
    shards: &mut Shards<'_>,
    looker: &mut L,
    refusals: &mut Refusals<'_>,
) {
    let (globs, plain): (Vec<_>, Vec<_>) = wanted.patterns.iter().partition(|pattern| is_glob(pattern));
    let plain = plain.into_iter().chain(wanted.single);
    let names = plain.map(|key| (shards.database(key.db), key.pattern.clone())).collect();
    let moved = look_at(names, shards, looker, refusals).await;
    // What is on another node is found there.
    if !moved.is_empty() && !shards.only_here() {
        if let Err(failure) = shards.refresh(refusals).await {
            refusals.note(failure);
        }
        if !look_at(moved, shards, looker, refusals).await.is_empty() {
            refusals.note(Failure::Own("slots move faster than we can follow".into()));
        }
    }
    let mut found = 0;
    for shard in shards.all() {
        for pattern in &globs {
            let db = shards.database(pattern.db);
            let scan = Scan::new(db, &pattern.pattern, wanted.count).of_type(wanted.kind);
            if let Err(failure) = expand(scan, db, shard, shards, looker, &mut found, refusals).await {
                refusals.note(failure);
            }
        }
    }
}

/// Whether SCAN must expand the text. The peer's set of characters: `^` alone makes a pattern too.
fn is_glob(pattern: &KeyPattern) -> bool {
    pattern.pattern.contains(['?', '*', '[', ']', '^'])
}

/// Looks at keys with a known name, each where it is. Gives back those that are elsewhere.
async fn look_at<L: Look>(
    names: Vec<(u32, String)>,
    shards: &mut Shards<'_>,
    looker: &mut L,
    refusals: &mut Refusals<'_>,
) -> Vec<(u32, String)> {
    let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (db, name) in names {
        places.entry((shards.of_key(&name), db)).or_default().push(name);
    }
    let mut moved = vec![];
    for ((shard, db), mut names) in places {
        match look_in_batches(&mut names, db, shard, shards, looker, refusals).await {
            Ok(gone) => moved.extend(gone.into_iter().map(|name| (db, name))),
            Err(failure) => refusals.note(failure),
        }
    }
    moved
}

async fn look_in_batches<L: Look>(
    names: &mut Vec<String>,
    db: u32,
    shard: usize,
    shards: &mut Shards<'_>,
    looker: &mut L,
    refusals: &mut Refusals<'_>,
) -> Result<Vec<String>, Failure> {
    let mut node = shards.node(shard).await?;
    let mut moved = vec![];
    while !names.is_empty() {
        let batch = names.drain(names.len().saturating_sub(L::BATCH)..).collect();
        moved.extend(looker.look(&mut node, db, batch, refusals).await?);
    }
    Ok(moved)
}

/// Looks at the keys of one server that a pattern finds, step by step, so that memory stays that of one step.
/// Longer names of keys are left out, in bytes.
const LONGEST_NAME: usize = 4096;

async fn expand<L: Look>(
    mut scan: Scan<'_>,
    db: u32,
    shard: usize,
    shards: &mut Shards<'_>,
    looker: &mut L,
    found: &mut usize,
    refusals: &mut Refusals<'_>,
) -> Result<(), Failure> {
    refusals.check("SCAN")?;
    loop {
        let mut node = shards.node(shard).await?;
        let Some(names) = scan.next(&mut node).await? else { return Ok(()) };
        // A name that is no UTF-8 cannot be a label, one that is longer than this is no use as one.
        let names = names.filter_map(Reply::text).filter(|name| name.len() <= LONGEST_NAME);
        let mut names: Vec<_> = names.map(str::to_owned).collect();
        let room = L::MOST - *found;
        let too_many = names.len() > room;
        names.truncate(room);
        *found += names.len();
        // A key that has moved since SCAN named it is found where it is now, or at the next collection.
        look_in_batches(&mut names, db, shard, shards, looker, refusals).await?;
        if too_many {
            return Err(Failure::Own(format!("more than {} keys match: the others are left out", L::MOST)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, expected: bool) {
        let found = is_glob(&KeyPattern { db: 0, pattern: pattern.into() });
        assert_eq!(found, expected, "{pattern}");
    }

    #[test]
    fn a_text_with_a_glob_character_is_a_pattern() {
        check("user:*", true);
        check("user:?", true);
        check("user[1]", true);
        check("^x", true);
        check("user:1", false);
        check("user\\1{a}-b", false);
    }
}
