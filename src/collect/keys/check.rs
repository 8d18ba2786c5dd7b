//! check-keys and check-single-keys: type, memory, size and value of keys.
//!
//! ACL: `+scan +type +memory|usage` and, by type, `+strlen +get +pfcount +llen +scard +zcard +hlen +xlen`;
//! `+select` for other databases. Cost: O(1) a key, but `MEMORY USAGE` looks at five elements; patterns cost
//! a whole SCAN each. A batch of keys takes two round trips, and one or two more where a string may be a
//! HyperLogLog or has more memory than its length would need.
//!
//! What a newcomer would get wrong: a key may vanish or change its type between two round trips. That is no
//! failure.

use super::shards::{Node, Shards, has_moved};
use super::walk::{Look, Wanted, walk};
use super::when;
use crate::collect::refusals::Refusals;
use crate::collect::{Collector, Failure, How, Work, Working, float};
use crate::connect::Reply;
use exposition::{Builder, Desc, FamilyId};

/// See the head of this file.
pub static COLLECTOR: Collector = Collector {
    name: "keys",
    descs: || vec![&SIZE, &MEMORY, &VALUE, &TEXT],
    when: |context| when(context, !(context.keys.check.is_empty() && context.keys.check_single.is_empty())),
    how: How::Work(run),
};

static SIZE: Desc = Desc::gauge(
    "redis_key_size",
    "Size of a key: bytes of a string, elements of a collection, cardinality of a HyperLogLog; 0 for a missing key.",
)
.labels(&["db", "key"]);
static MEMORY: Desc =
    Desc::gauge("redis_key_memory_usage_bytes", "Memory that a key and its value take up, in bytes.")
        .labels(&["db", "key"]);
static VALUE: Desc =
    Desc::gauge("redis_key_value", "Value of a string key that is a number.").labels(&["db", "key"]);
static TEXT: Desc = Desc::gauge(
    "redis_key_value_as_string",
    "Always 1; the value of a string key that is no number is a label.",
)
.labels(&["db", "key", "val"]);

/// A longer value is not read: it would be a label.
const MAX_VALUE: usize = 4096;
/// What a string takes up at most beside its bytes and its name: the allocator rounds up by a quarter.
const MAX_OVERHEAD: usize = MAX_VALUE / 4 + 256;

/// The command that says how large a key of a type is.
#[rustfmt::skip]
static TYPES: &[Type] = &[
    Type { name: "string", size: "STRLEN" },
    Type { name: "list", size: "LLEN" },
    Type { name: "set", size: "SCARD" },
    Type { name: "zset", size: "ZCARD" },
    Type { name: "hash", size: "HLEN" },
    Type { name: "stream", size: "XLEN" },
    Type { name: "array", size: "ARCOUNT" },
];

#[derive(Debug, PartialEq, Eq)]
struct Type {
    name: &'static str,
    size: &'static str,
}

fn run<'a>(work: &'a mut Work<'_>, out: &'a mut Builder) -> Working<'a> {
    Box::pin(check(work, out))
}

async fn check(work: &mut Work<'_>, out: &mut Builder) -> Result<(), Failure> {
    let (config, keys) = (work.context.config, work.context.keys);
    let (mut shards, mut refusals) = Shards::open(work).await?;
    let wanted =
        Wanted { patterns: &keys.check, single: &keys.check_single, count: config.batch_size, kind: None };
    let mut sheet = Sheet::new(out, !config.hide_key_values, !shards.is_cluster());
    walk(&wanted, &mut shards, &mut sheet, &mut refusals).await;
    refusals.outcome()
}

impl Look for Sheet<'_> {
    const BATCH: usize = 500;
    const MOST: usize = 100_000;

    async fn look(
        &mut self,
        node: &mut Node<'_>,
        db: u32,
        names: Vec<String>,
        refusals: &mut Refusals<'_>,
    ) -> Result<Vec<String>, Failure> {
        let mut keys: Vec<_> = names.into_iter().map(Key::new).collect();
        for plan in [Key::at_first, Key::by_type, Key::of_string, Key::of_string] {
            let values = self.values && refusals.allow("GET");
            let asks = |(i, key): (usize, &Key)| plan(key, values).map(|ask| ask.map(|ask| (i, ask)));
            let asks = keys.iter().enumerate().flat_map(asks).flatten().collect();
            round(node, db, &mut keys, asks, refusals).await?;
        }
        let (moved, here): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.moved);
        here.iter().for_each(|key| self.write(db, key));
        Ok(moved.into_iter().map(|key| key.name).collect())
    }
}

/// Asks some commands about some keys in one round trip.
async fn round(
    node: &mut Node<'_>,
    db: u32,
    keys: &mut [Key],
    mut asks: Vec<(usize, Ask)>,
    refusals: &mut Refusals<'_>,
) -> Result<(), Failure> {
    asks.retain(|(_, ask)| match ask {
        // STRLEN stands in for it.
        Ask::Cardinality => !refusals.knows(ask.what()),
        ask => refusals.allow(ask.what()),
    });
    if asks.is_empty() {
        return Ok(());
    }
    let batch = node.batch(db);
    for (i, ask) in &asks {
        match ask {
            Ask::Memory => batch.push(&["MEMORY", "USAGE", &keys[*i].name]),
            ask => batch.push(&[ask.what(), &keys[*i].name]),
        }
    }
    let answers = node.ask().await?;
    for (n, (i, ask)) in asks.into_iter().enumerate() {
        keys[i].hear(ask, answers.get(n)?, refusals);
    }
    Ok(())
}

/// A question about a key.
#[derive(Clone, Copy)]
enum Ask {
    Type,
    Memory,
    Size(&'static Type),
    Value,
    Cardinality,
}

impl Ask {
    fn what(self) -> &'static str {
        match self {
            Self::Type => "TYPE",
            Self::Memory => "MEMORY USAGE",
            Self::Size(kind) => kind.size,
            Self::Value => "GET",
            Self::Cardinality => "PFCOUNT",
        }
    }
}

/// What is known of a key.
#[derive(Default)]
struct Key {
    name: String,
    kind: Option<&'static Type>,
    missing: bool,
    moved: bool,
    memory: Option<f64>,
    size: Option<f64>,
    value: Option<String>,
    /// Whether GET was answered, by whatever.
    is_read: bool,
    /// Whether PFCOUNT was answered, by whatever.
    is_counted: bool,
    begins_as_hyperloglog: Option<bool>,
}

impl Key {
    fn new(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    fn is_string(&self) -> bool {
        self.kind.is_some_and(|kind| kind.name == "string")
    }

    fn at_first(&self, _values: bool) -> [Option<Ask>; 2] {
        [Some(Ask::Type), Some(Ask::Memory)]
    }

    /// The value with the size, if by its memory it is surely short enough.
    fn by_type(&self, values: bool) -> [Option<Ask>; 2] {
        let limit = (MAX_VALUE + MAX_OVERHEAD + self.name.len()) as f64;
        let short = self.memory.is_some_and(|bytes| bytes <= limit);
        [self.kind.map(Ask::Size), Some(Ask::Value).filter(|_| values && self.is_string() && short)]
    }

    /// The value, if by its size it is short enough. And whether a string is a HyperLogLog: asking that of
    /// every string, as the peer does, makes one error each in the server's statistics, so the first bytes
    /// say it or, where the value is not read, the length makes it possible.
    fn of_string(&self, values: bool) -> [Option<Ask>; 2] {
        let size = self.size.filter(|_| self.is_string());
        let read = values && !self.is_read && size.is_some_and(|size| size <= MAX_VALUE as f64);
        // From the bare header to the dense form with all registers.
        let possible = size.is_some_and(|size| (16.0..=16_400.0).contains(&size));
        let cardinality = possible && !self.is_counted && self.begins_as_hyperloglog.unwrap_or(!read);
        [Some(Ask::Value).filter(|_| read), Some(Ask::Cardinality).filter(|_| cardinality)]
    }

    fn hear(&mut self, ask: Ask, reply: Reply<'_>, refusals: &mut Refusals<'_>) {
        if has_moved(reply) {
            self.moved = true;
            return;
        }
        self.is_read |= matches!(ask, Ask::Value);
        self.is_counted |= matches!(ask, Ask::Cardinality);
        if let Some(refusal) = reply.error() {
            match ask {
                Ask::Cardinality => refusals.remember(ask.what(), refusal),
                // The key has become another since TYPE.
                _ if refusal.text().starts_with("WRONGTYPE") => {}
                _ => refusals.note(Failure::refused(ask.what(), refusal)),
            }
            return;
        }
        match ask {
            Ask::Type => {
                self.missing = reply.text() == Some("none");
                self.kind = TYPES.iter().find(|kind| reply.text() == Some(kind.name));
            }
            Ask::Memory => self.memory = reply.number(),
            Ask::Size(_) | Ask::Cardinality => self.size = reply.number(),
            Ask::Value => {
                let value = reply.bytes().unwrap_or_default();
                let registers = value.starts_with(b"HYLL");
                self.begins_as_hyperloglog = Some(registers);
                let fits = !registers && value.len() <= MAX_VALUE;
                self.value = reply.text().filter(|_| fits).map(str::to_owned);
            }
        }
    }
}

/// Where samples are recorded.
struct Sheet<'a> {
    out: &'a mut Builder,
    size: FamilyId,
    memory: FamilyId,
    value: FamilyId,
    text: FamilyId,
    /// Whether values are exported.
    values: bool,
    /// Whether a missing key has size 0. In cluster mode it has none, as with the peer.
    missing: bool,
}

impl<'a> Sheet<'a> {
    fn new(out: &'a mut Builder, values: bool, missing: bool) -> Self {
        let (size, memory) = (out.family(&SIZE), out.family(&MEMORY));
        let (value, text) = (out.family(&VALUE), out.family(&TEXT));
        Self { out, size, memory, value, text, values, missing }
    }

    fn write(&mut self, db: u32, key: &Key) {
        let db = format!("db{db}");
        let labels = [db.as_str(), &key.name];
        let size = if key.missing { Some(0.0).filter(|_| self.missing) } else { key.size };
        if let Some(size) = size {
            self.out.sample(self.size, &labels, size);
        }
        if let Some(bytes) = key.memory {
            self.out.sample(self.memory, &labels, bytes);
        }
        let Some(value) = key.value.as_deref().filter(|value| !value.is_empty()) else { return };
        match float::parse(value) {
            Some(number) => self.out.sample(self.value, &labels, number),
            None => self.out.sample(self.text, &[&db, &key.name, value], 1.0),
        }
    }
}
