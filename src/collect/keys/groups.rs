//! check-key-groups: keys counted by group, inside the server, by a Lua script.
//!
//! A pattern is a Lua pattern; of the first that finds something in a name, the captures put together are the
//! group (`unclassified` where none does). ACL: `+eval` or `+eval_ro`, `+scan +memory|usage`, `+select` for
//! other databases, and `~*`. Cost: all keys of all databases; each step blocks the server for about as many
//! microseconds as COUNT says.
//! <https://www.lua.org/manual/5.1/manual.html#5.4.1>
//!
//! What a newcomer would get wrong: EVALSHA would save a kilobyte a step, but the ACL that the peer's
//! documentation gives allows EVAL only. And there may be as many groups as keys: see `Tally`.

use super::scan::Cursor;
use super::shards::{Node, Shards};
use crate::collect::refusals::Refusals;
use crate::collect::{Collector, Context, Failure, How, When, Work, Working};
use crate::connect::{Kind, Reply};
use exposition::{Builder, Desc};
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// See the head of this file. Always at work on data nodes: the duration is exported with no group too.
pub static COLLECTOR: Collector = Collector {
    name: "key_groups",
    descs: || vec![&KEYS, &BYTES, &DISTINCT, &DURATION],
    when: |_| When::Now,
    how: How::Work(run),
};

static KEYS: Desc = Desc::gauge("redis_key_group_count", "Keys of a group.").labels(&["db", "key_group"]);
static BYTES: Desc =
    Desc::gauge("redis_key_group_memory_usage_bytes", "Memory that the keys of a group take up, in bytes.")
        .labels(&["db", "key_group"]);
static DISTINCT: Desc = Desc::gauge(
    "redis_number_of_distinct_key_groups",
    "Groups of keys in a database, before those of least memory were put together as overflow.",
)
.labels(&["db"]);
static DURATION: Desc = Desc::gauge(
    "redis_last_key_groups_scrape_duration_milliseconds",
    "How long it took to count groups of keys, in milliseconds; 0 where none are wanted.",
);

const SCRIPT: &str = include_str!("groups.lua");
/// Bytes of a group's name that are kept.
const LONGEST: &str = "512";
/// Databases where nobody says how many there are.
const DATABASES: u32 = 16;
/// Databases at most: a server may be configured with any number, and each is a series.
const MAX_DATABASES: u32 = 1024;

fn run<'a>(work: &'a mut Work<'_>, out: &'a mut Builder) -> Working<'a> {
    Box::pin(count(work, out))
}

async fn count(work: &mut Work<'_>, out: &mut Builder) -> Result<(), Failure> {
    let context = work.context;
    if context.config.key_groups.is_empty() || context.is_sentinel() {
        out.push(&DURATION, 0.0);
        return Ok(());
    }
    let begin = Instant::now();
    let (mut shards, mut refusals) = Shards::open(work).await?;
    for db in databases(&context, &mut shards, &mut refusals).await {
        let mut tally = Tally::new(context.config.max_key_groups);
        // Without one of the masters all numbers would be wrong, so there are none then.
        match count_database(&context, db, &mut shards, &mut tally, &mut refusals).await {
            Ok(()) => tally.record(db, out),
            Err(failure) => refusals.note(failure),
        }
    }
    out.push(&DURATION, begin.elapsed().as_millis() as f64);
    refusals.outcome()
}

/// All databases, empty ones too: they have 0 groups.
async fn databases(
    context: &Context<'_>,
    shards: &mut Shards<'_>,
    refusals: &mut Refusals<'_>,
) -> BTreeSet<u32> {
    if shards.is_cluster() {
        return BTreeSet::from([0]);
    }
    let configured = configured_databases(context, shards, refusals).await.unwrap_or(DATABASES);
    let lines = context.info.into_iter().flat_map(|info| info.lines());
    let used = lines.filter_map(|line| line.field.strip_prefix("db")?.parse().ok());
    used.chain(0..configured.min(MAX_DATABASES)).filter(|db| *db < MAX_DATABASES).collect()
}

async fn configured_databases(
    context: &Context<'_>,
    shards: &mut Shards<'_>,
    refusals: &mut Refusals<'_>,
) -> Option<u32> {
    // A name of its own: a refusal here must not silence the collector of the configuration.
    const CONFIG: &str = "CONFIG GET databases";
    let refused = refusals.knows(CONFIG) || refusals.knows("CONFIG GET");
    let config = context.config.config_command.as_deref().filter(|_| !refused)?;
    let mut node = shards.node(0).await.ok()?;
    node.batch(0).push(&[config, "GET", "databases"]);
    let answer = node.ask().await.ok()?.get(0).ok()?;
    if let Some(refusal) = answer.error() {
        refusals.remember(CONFIG, refusal);
    }
    answer.field("databases")?.integer()?.try_into().ok()
}

async fn count_database(
    context: &Context<'_>,
    db: u32,
    shards: &mut Shards<'_>,
    tally: &mut Tally,
    refusals: &mut Refusals<'_>,
) -> Result<(), Failure> {
    for shard in shards.all() {
        let mut node = shards.node(shard).await?;
        let mut cursor = Cursor::new(context.config.batch_size);
        while !cursor.is_done() {
            step(&mut node, db, &mut cursor, &context.config.key_groups, tally, refusals).await?;
        }
    }
    Ok(())
}

async fn step(
    node: &mut Node<'_>,
    db: u32,
    cursor: &mut Cursor,
    patterns: &[String],
    tally: &mut Tally,
    refusals: &mut Refusals<'_>,
) -> Result<(), Failure> {
    // Whoever may not EVAL may perhaps EVAL_RO (from 7.0 on).
    let eval = if refusals.knows("EVAL") { "EVAL_RO" } else { "EVAL" };
    refusals.check(eval)?;
    refusals.check(INSIDE)?;
    node.pace(cursor.count()).await?;
    let count = cursor.count().to_string();
    let mut words: Vec<&[u8]> = vec![eval.as_bytes(), SCRIPT.as_bytes(), b"0", cursor.at()];
    words.extend([count.as_bytes(), LONGEST.as_bytes()]);
    words.extend(patterns.iter().map(|pattern| pattern.as_bytes()));
    node.batch(db).push(&words);
    let reply = node.ask().await?.get(0)?;
    if let Some(refusal) = reply.error() {
        if is_denied_inside(&refusal.text()) {
            return Err(Failure::Refused { what: INSIDE, kind: Kind::NoPerm, reply: refusal.text() });
        }
        let failure = Failure::refused(eval, refusal);
        if eval == "EVAL" && failure.kind().is_lasting() {
            // The cursor stands where it stood: the next step is the same by EVAL_RO.
            refusals.remember(eval, refusal);
            return Ok(());
        }
        return Err(failure);
    }
    let mut items = reply.items().ok_or(Failure::shape("EVAL"))?;
    let next = items.next().and_then(Reply::bytes).ok_or(Failure::shape("EVAL"))?;
    cursor.advance(next)?;
    while let Some(group) = items.next().and_then(Reply::bytes) {
        let mut number = || items.next().and_then(Reply::integer).ok_or(Failure::shape("EVAL"));
        tally.add(group, number()? as f64, number()? as f64);
    }
    Ok(())
}

/// What a user may lack who may run scripts.
const INSIDE: &str = "SCAN or MEMORY USAGE in a script";

fn is_denied_inside(refusal: &str) -> bool {
    ["ACL failure in script", "can't run this command or subcommand"]
        .iter()
        .any(|text| refusal.contains(text))
}

/// The groups of one database.
///
/// All are kept until there are [`Tally::KEPT`] twice (or twice as many as are wanted); then those of least
/// memory go into the overflow for good. So the numbers are exact up to there, and memory is bounded beyond:
/// a group that went and is met again then counts as another one.
#[derive(Debug)]
struct Tally {
    groups: HashMap<Box<[u8]>, Group>,
    wanted: usize,
    overflow: Group,
    /// How many groups went into the overflow early.
    gone: usize,
}

/// Keys and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Group {
    keys: f64,
    bytes: f64,
}

impl Group {
    fn add(&mut self, other: Self) {
        self.keys += other.keys;
        self.bytes += other.bytes;
    }
}

impl Tally {
    /// Groups that are kept exactly.
    const KEPT: usize = 10_000;

    fn new(wanted: usize) -> Self {
        Self { groups: HashMap::new(), wanted, overflow: Group::default(), gone: 0 }
    }

    fn add(&mut self, group: &[u8], keys: f64, bytes: f64) {
        let more = Group { keys, bytes };
        if let Some(known) = self.groups.get_mut(group) {
            known.add(more);
            return;
        }
        let keep = Self::KEPT.max(self.wanted);
        if self.groups.len() >= 2 * keep {
            self.gone += self.groups.len() - keep;
            let kept = self.cut(keep);
            self.groups = kept.into_iter().collect();
        }
        self.groups.insert(group.into(), more);
    }

    /// Takes out the groups of most memory; the rest goes into the overflow.
    fn cut(&mut self, keep: usize) -> Vec<(Box<[u8]>, Group)> {
        let mut all: Vec<_> = self.groups.drain().collect();
        all.sort_unstable_by(|(a, x), (b, y)| y.bytes.total_cmp(&x.bytes).then_with(|| a.cmp(b)));
        all.drain(keep.min(all.len())..).for_each(|(_, group)| self.overflow.add(group));
        all
    }

    fn record(mut self, db: u32, out: &mut Builder) {
        let db = format!("db{db}");
        let (keys, bytes, distinct) = (out.family(&KEYS), out.family(&BYTES), out.family(&DISTINCT));
        out.sample(distinct, &[&db], (self.groups.len() + self.gone) as f64);
        let mut kept = self.cut(self.wanted);
        // A group may bear the name under which the rest is shown: one sample has to hold both.
        if let Some((_, group)) = kept.iter_mut().find(|(name, _)| **name == *b"overflow") {
            group.add(std::mem::take(&mut self.overflow));
        }
        let mut sample = |name: &str, group: Group| {
            out.sample(keys, &[&db, name], group.keys);
            out.sample(bytes, &[&db, name], group.bytes);
        };
        for (name, group) in &kept {
            // A name that is no UTF-8 cannot be a label.
            if let Ok(name) = std::str::from_utf8(name) {
                sample(name, *group);
            }
        }
        if self.overflow.keys > 0.0 {
            sample("overflow", self.overflow);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: usize, groups: &[(&str, f64)], expected: &[&str]) {
        let mut tally = Tally::new(wanted);
        groups.iter().for_each(|(name, bytes)| tally.add(name.as_bytes(), 1.0, *bytes));
        let mut out = Builder::new();
        tally.record(3, &mut out);
        let families = out.finish();
        let mut found = vec![];
        for family in families.iter() {
            for sample in family.samples() {
                let labels: Vec<_> = sample.labels().map(|(_, value)| value).collect();
                let exposition::family::Value::Number(value) = sample.value() else { continue };
                found.push(format!(
                    "{} {} {value}",
                    family.name().trim_start_matches("redis_"),
                    labels.join(",")
                ));
            }
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn groups_are_added_up() {
        check(
            9,
            &[("a", 5.0), ("b", 7.0), ("a", 1.0)],
            &[
                "key_group_count db3,a 2",
                "key_group_count db3,b 1",
                "key_group_memory_usage_bytes db3,a 6",
                "key_group_memory_usage_bytes db3,b 7",
                "number_of_distinct_key_groups db3 2",
            ],
        );
        check(9, &[], &["number_of_distinct_key_groups db3 0"]);
    }

    #[test]
    fn the_groups_of_least_memory_are_overflow() {
        check(
            1,
            &[("a", 5.0), ("b", 7.0), ("c", 1.0)],
            &[
                "key_group_count db3,b 1",
                "key_group_count db3,overflow 2",
                "key_group_memory_usage_bytes db3,b 7",
                "key_group_memory_usage_bytes db3,overflow 6",
                "number_of_distinct_key_groups db3 3",
            ],
        );
    }

    #[test]
    fn memory_is_bounded_and_no_key_is_lost() {
        let mut tally = Tally::new(100);
        let total = 5 * Tally::KEPT;
        for i in 0..total {
            tally.add(i.to_string().as_bytes(), 1.0, if i == 7 { 1e6 } else { 1.0 });
            assert!(tally.groups.len() <= 2 * Tally::KEPT);
        }
        assert_eq!(tally.groups.len() + tally.gone, total);
        let kept = tally.cut(1);
        assert_eq!(&*kept[0].0, b"7", "the largest is kept whenever it came");
        assert_eq!(tally.overflow.keys, total as f64 - 1.0);
    }

    #[test]
    fn a_group_called_overflow_loses_no_keys() {
        check(
            1,
            &[("overflow", 9.0), ("b", 1.0), ("c", 1.0)],
            &[
                "key_group_count db3,overflow 3",
                "key_group_memory_usage_bytes db3,overflow 11",
                "number_of_distinct_key_groups db3 3",
            ],
        );
    }
}
