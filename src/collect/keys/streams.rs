//! check-streams and check-single-streams: streams, their groups and consumers.
//!
//! From 5.0 on; patterns are expanded by `SCAN … TYPE stream` from 6.0 on. ACL: `+xinfo|stream +xinfo|groups
//! +xinfo|consumers` (before 7.0 `+xinfo`), `+scan`, `+select` for other databases. Cost: O(1) a stream, O(n)
//! for its groups and consumers. Two round trips for many streams; the second is left out without consumers.
//! <https://redis.io/docs/latest/commands/xinfo-stream/>
//!
//! What a newcomer would get wrong: an id is `milliseconds-sequence` and only the milliseconds are exported;
//! what the server does not tell counts as 0, as with the peer, a nil lag too.

use super::shards::{Node, Shards, has_moved};
use super::walk::{Look, Wanted, walk};
use super::when;
use crate::collect::refusals::Refusals;
use crate::collect::{Collector, Failure, How, Work, Working};
use crate::connect::{Reply, Version};
use exposition::{Builder, Desc};

/// See the head of this file.
pub static COLLECTOR: Collector = Collector {
    name: "streams",
    descs,
    when: |context| {
        when(context, !(context.keys.streams.is_empty() && context.keys.streams_single.is_empty()))
    },
    how: How::Work(run),
};

/// Consumers that one batch asks for, as far as one group has not more: each is ten values of a reply.
const MAX_CONSUMERS: usize = 10_000;

const STREAM: &str = "XINFO STREAM";
const GROUPS: &str = "XINFO GROUPS";
const CONSUMERS: &str = "XINFO CONSUMERS";

/// One number of an XINFO reply.
struct Field {
    key: &'static str,
    desc: Desc,
    read: fn(Reply<'_>) -> f64,
}

const fn gauge(
    key: &'static str,
    labels: &'static [&'static str],
    name: &'static str,
    help: &'static str,
) -> Field {
    Field { key, desc: Desc::gauge(name, help).labels(labels), read: number }
}

const fn id(
    key: &'static str,
    labels: &'static [&'static str],
    name: &'static str,
    help: &'static str,
) -> Field {
    Field { key, desc: Desc::gauge(name, help).labels(labels), read: milliseconds }
}

const OF_STREAM: &[&str] = &["db", "stream"];
const OF_GROUP: &[&str] = &["db", "stream", "group"];
const OF_CONSUMER: &[&str] = &["db", "stream", "group", "consumer"];

#[rustfmt::skip]
static STREAM_FIELDS: &[Field] = &[
    gauge("length", OF_STREAM, "redis_stream_length", "Entries in the stream."),
    gauge("radix-tree-keys", OF_STREAM, "redis_stream_radix_tree_keys", "Keys of the tree that holds the stream."),
    gauge("radix-tree-nodes", OF_STREAM, "redis_stream_radix_tree_nodes", "Nodes of the tree that holds the stream."),
    id("last-generated-id", OF_STREAM, "redis_stream_last_generated_id", "Newest id that the stream gave, its Unix time in milliseconds."),
    gauge("groups", OF_STREAM, "redis_stream_groups", "Consumer groups of the stream."),
    id("max-deleted-entry-id", OF_STREAM, "redis_stream_max_deleted_entry_id", "Highest id that was deleted, its Unix time in milliseconds; 0 when there is none."),
    Field {
        key: "entries-added",
        desc: Desc::counter("redis_stream_entries_added_total", "Entries ever added to the stream.").labels(OF_STREAM),
        read: number,
    },
    id("first-entry", OF_STREAM, "redis_stream_first_entry_id", "Id of the first entry, its Unix time in milliseconds; 0 when the stream is empty."),
    id("last-entry", OF_STREAM, "redis_stream_last_entry_id", "Id of the last entry, its Unix time in milliseconds; 0 when the stream is empty."),
];

#[rustfmt::skip]
static GROUP_FIELDS: &[Field] = &[
    gauge("consumers", OF_GROUP, "redis_stream_group_consumers", "Consumers of the group."),
    gauge("pending", OF_GROUP, "redis_stream_group_messages_pending", "Entries that were delivered to the group and not acknowledged."),
    id("last-delivered-id", OF_GROUP, "redis_stream_group_last_delivered_id", "Newest id that was delivered to the group, its Unix time in milliseconds."),
    gauge("entries-read", OF_GROUP, "redis_stream_group_entries_read", "Entries that the group has read; 0 when the server does not know."),
    gauge("lag", OF_GROUP, "redis_stream_group_lag", "Entries that wait to be delivered to the group; 0 when the server does not know."),
];

#[rustfmt::skip]
static CONSUMER_FIELDS: &[Field] = &[
    gauge("pending", OF_CONSUMER, "redis_stream_group_consumer_messages_pending", "Entries that were delivered to the consumer and not acknowledged."),
    Field {
        key: "idle",
        desc: Desc::gauge("redis_stream_group_consumer_idle_seconds", "Time since the consumer was last heard of, in seconds.")
            .labels(OF_CONSUMER),
        read: |reply| number(reply) / 1e3,
    },
];

fn descs() -> Vec<&'static Desc> {
    STREAM_FIELDS.iter().chain(GROUP_FIELDS).chain(CONSUMER_FIELDS).map(|field| &field.desc).collect()
}

fn number(reply: Reply<'_>) -> f64 {
    reply.number().unwrap_or(0.0)
}

/// The milliseconds of an id, or of the id of an entry `[id, [field, value, …]]`.
fn milliseconds(reply: Reply<'_>) -> f64 {
    let id = reply.items().and_then(|mut entry| entry.next()).unwrap_or(reply);
    id.text().and_then(|id| id.split('-').next()?.parse().ok()).unwrap_or(0.0)
}

fn run<'a>(work: &'a mut Work<'_>, out: &'a mut Builder) -> Working<'a> {
    Box::pin(check(work, out))
}

async fn check(work: &mut Work<'_>, out: &mut Builder) -> Result<(), Failure> {
    let (config, keys) = (work.context.config, work.context.keys);
    let version = work.context.server.map_or(Version::default(), |server| server.version);
    let (mut shards, mut refusals) = Shards::open(work).await?;
    let wanted = Wanted {
        patterns: &keys.streams,
        single: &keys.streams_single,
        count: config.batch_size,
        kind: (version >= Version(6, 0, 0)).then_some("stream"),
    };
    let mut sheet = Sheet { out, consumers: !config.exclude_stream_consumers };
    walk(&wanted, &mut shards, &mut sheet, &mut refusals).await;
    refusals.outcome()
}

/// Where samples are recorded.
struct Sheet<'a> {
    out: &'a mut Builder,
    /// Whether those of consumers are wanted.
    consumers: bool,
}

/// A consumer group whose consumers are to be asked for.
struct Group {
    stream: String,
    name: Vec<u8>,
    consumers: usize,
}

impl Look for Sheet<'_> {
    const BATCH: usize = 50;
    const MOST: usize = 20_000;

    async fn look(
        &mut self,
        node: &mut Node<'_>,
        db: u32,
        names: Vec<String>,
        refusals: &mut Refusals<'_>,
    ) -> Result<Vec<String>, Failure> {
        if !refusals.allow(STREAM) {
            return Ok(vec![]);
        }
        let asks_groups = refusals.allow(GROUPS);
        let batch = node.batch(db);
        for name in &names {
            batch.push(&["XINFO", "STREAM", name]);
            if asks_groups {
                batch.push(&["XINFO", "GROUPS", name]);
            }
        }
        let answers = node.ask().await?;
        let label = format!("db{db}");
        let (mut groups, mut moved) = (vec![], vec![]);
        for (i, name) in names.into_iter().enumerate() {
            let at = if asks_groups { 2 * i } else { i };
            let stream = answers.get(at)?;
            if has_moved(stream) {
                moved.push(name);
                continue;
            }
            if let Some(stream) = accept(STREAM, stream, refusals) {
                record(self.out, STREAM_FIELDS, &[&label, &name], stream);
            }
            if asks_groups && let Some(reply) = accept(GROUPS, answers.get(at + 1)?, refusals) {
                self.read_groups(&label, &name, reply, &mut groups);
            }
        }
        while !groups.is_empty() && self.consumers && refusals.allow(CONSUMERS) {
            self.look_at_consumers(node, db, &mut groups, refusals).await?;
        }
        Ok(moved)
    }
}

impl Sheet<'_> {
    fn read_groups(&mut self, db: &str, stream: &str, reply: Reply<'_>, groups: &mut Vec<Group>) {
        for group in reply.items().into_iter().flatten() {
            let Some(name) = group.field("name") else { continue };
            if let Some(name) = name.text() {
                record(self.out, GROUP_FIELDS, &[db, stream, name], group);
            }
            let consumers = group.field("consumers").and_then(Reply::integer).unwrap_or(0);
            if consumers > 0 {
                groups.push(Group {
                    stream: stream.to_owned(),
                    name: name.bytes().unwrap_or_default().to_vec(),
                    consumers: consumers as usize,
                });
            }
        }
    }

    /// Takes as many groups as make a reply of moderate size, at least one.
    async fn look_at_consumers(
        &mut self,
        node: &mut Node<'_>,
        db: u32,
        groups: &mut Vec<Group>,
        refusals: &mut Refusals<'_>,
    ) -> Result<(), Failure> {
        let (mut asked, mut consumers) = (vec![], 0);
        while let Some(group) =
            groups.pop_if(|next| consumers == 0 || consumers + next.consumers <= MAX_CONSUMERS)
        {
            consumers += group.consumers;
            asked.push(group);
        }
        let batch = node.batch(db);
        for group in &asked {
            batch.push(&[b"XINFO".as_slice(), b"CONSUMERS", group.stream.as_bytes(), &group.name]);
        }
        let answers = node.ask().await?;
        let label = format!("db{db}");
        for (i, group) in asked.iter().enumerate() {
            let Some(reply) = accept(CONSUMERS, answers.get(i)?, refusals) else { continue };
            // A name that is no UTF-8 cannot be a label.
            let Ok(name) = std::str::from_utf8(&group.name) else { continue };
            for consumer in reply.items().into_iter().flatten() {
                if let Some(who) = consumer.field("name").and_then(Reply::text) {
                    record(self.out, CONSUMER_FIELDS, &[&label, &group.stream, name, who], consumer);
                }
            }
        }
        Ok(())
    }
}

/// The reply, unless it is a refusal. A stream that is missing or no stream, and a group that is gone since
/// it was named, are no failures.
fn accept<'r>(what: &'static str, reply: Reply<'r>, refusals: &mut Refusals<'_>) -> Option<Reply<'r>> {
    let gone = |text: String| {
        ["ERR no such key", "WRONGTYPE", "NOGROUP", "MOVED"].iter().any(|start| text.starts_with(start))
    };
    if reply.error().is_some_and(|refusal| gone(refusal.text())) {
        return None;
    }
    refusals.accept(what, reply)
}

fn record(out: &mut Builder, fields: &'static [Field], labels: &[&str], reply: Reply<'_>) {
    for field in fields {
        let family = out.family(&field.desc);
        out.sample(family, labels, reply.field(field.key).map_or(0.0, field.read));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::replay::Replay;
    use crate::connect::{Batch, Converse, Deadline, Replies};
    use tokio::time::Instant;

    async fn check(reply: &str, expected: f64) {
        let mut server = Replay::default();
        server.record("X", reply);
        let (mut batch, mut replies) = (Batch::default(), Replies::default());
        batch.push(&["X"]);
        server.ask(&batch, &mut replies, Deadline::until(Instant::now())).await.expect("a reply");
        assert_eq!(milliseconds(replies.get(0).expect("a reply")), expected, "{reply:?}");
    }

    #[tokio::test]
    async fn of_an_id_the_milliseconds_count() {
        check("$15\r\n1638006862416-0\r\n", 1638006862416.0).await;
        check("*2\r\n$15\r\n1638006862416-2\r\n*2\r\n+a\r\n+b\r\n", 1638006862416.0).await;
        check("$3\r\n0-0\r\n", 0.0).await;
        check("$-1\r\n", 0.0).await;
        check("*0\r\n", 0.0).await;
        check("$3\r\nx-y\r\n", 0.0).await;
    }
}
