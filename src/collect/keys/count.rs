//! count-keys: how many keys match a pattern.
//!
//! ACL: `+scan`, `+select` for other databases. Cost: a whole SCAN a pattern. Nothing of the names is kept; a
//! name that SCAN gives twice counts twice, as with the peer.

use super::scan::Scan;
use super::shards::Shards;
use super::when;
use crate::collect::refusals::Refusals;
use crate::collect::{Collector, Failure, How, Work, Working};
use crate::config::collect::KeyPattern;
use exposition::{Builder, Desc};

/// See the head of this file.
pub static COLLECTOR: Collector = Collector {
    name: "count_keys",
    descs: || vec![&COUNT],
    when: |context| when(context, !context.keys.count.is_empty()),
    how: How::Work(run),
};

static COUNT: Desc =
    Desc::gauge("redis_keys_count", "Keys that match a pattern; the pattern is the label key.")
        .labels(&["db", "key"]);

fn run<'a>(work: &'a mut Work<'_>, out: &'a mut Builder) -> Working<'a> {
    Box::pin(count_all(work, out))
}

async fn count_all(work: &mut Work<'_>, out: &mut Builder) -> Result<(), Failure> {
    let (config, keys) = (work.context.config, work.context.keys);
    let (mut shards, mut refusals) = Shards::open(work).await?;
    let family = out.family(&COUNT);
    for pattern in &keys.count {
        // A count without one of the masters would be a wrong number, so there is none then.
        match count(&mut shards, pattern, config.batch_size, &mut refusals).await {
            Ok(total) => {
                let db = format!("db{}", shards.database(pattern.db));
                out.sample(family, &[&db, &pattern.pattern], total as f64);
            }
            Err(failure) => refusals.note(failure),
        }
    }
    refusals.outcome()
}

async fn count(
    shards: &mut Shards<'_>,
    pattern: &KeyPattern,
    step: u32,
    refusals: &mut Refusals<'_>,
) -> Result<usize, Failure> {
    refusals.check("SCAN")?;
    let mut total = 0;
    for shard in shards.all() {
        let mut scan = Scan::new(shards.database(pattern.db), &pattern.pattern, step);
        let mut node = shards.node(shard).await?;
        while let Some(names) = scan.next(&mut node).await? {
            total += names.len();
        }
    }
    Ok(total)
}
