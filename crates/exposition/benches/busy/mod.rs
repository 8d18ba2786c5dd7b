//! The page of a busy Redis 7: 330 families, 1,500 samples, of which 140 are histograms of twelve buckets and 140
//! summaries of three quantiles. Commands come in the order in which a server lists them, which is no order at all.

use exposition::{Builder, Desc, Families};

const COMMANDS: usize = 140;
const WORDS: [&str; 12] = [
    "memory",
    "clients",
    "used",
    "rejected",
    "latency",
    "keyspace",
    "replication",
    "aof",
    "rdb",
    "connected",
    "total",
    "active",
];

/// The rows of 320 families with one sample each, shuffled, and of those that have a sample a command.
pub struct Tables {
    single: Vec<&'static Desc>,
    command: Vec<&'static Desc>,
    commands: Vec<String>,
    clients: Vec<[String; 3]>,
}

static HISTOGRAM: Desc =
    Desc::histogram("redis_commands_latencies_usec", "How long calls of a command took, in microseconds.")
        .labels(&["cmd"]);
static SUMMARY: Desc =
    Desc::summary("redis_latency_percentiles_usec", "Percentiles of the time that calls of a command took.")
        .labels(&["cmd"]);
static CLIENTS: Desc =
    Desc::gauge("redis_connected_client_output_buffer_memory_usage_bytes", "Memory of a client.")
        .labels(&["id", "name", "age", "addr", "user"]);

/// Makes them.
pub fn tables() -> Tables {
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let mut single = vec![];
    for i in 0..320usize {
        let i = i * 137 % 320; // coprime: every family once, in no order
        let name = leak(format!("redis_{}_{}_{}_{i}", WORDS[i % 12], WORDS[i / 12 % 12], WORDS[i / 7 % 12]));
        let desc =
            Desc::gauge(name, "A sentence of about the usual length that ends with the unit, in bytes.");
        single.push(&*Box::leak(Box::new(desc)));
    }
    let mut command = vec![];
    for name in
        ["calls_total", "duration_seconds_total", "rejected_calls_total", "failed_calls_total", "extra"]
    {
        let desc = Desc::counter(leak(format!("redis_commands_{name}")), "What calls of a command did.");
        command.push(&*Box::leak(Box::new(desc.labels(&["cmd"]))));
    }
    let commands =
        (0..COMMANDS).map(|i| i * 97 % COMMANDS).map(|i| format!("{}|{i}", WORDS[i % 12])).collect();
    let client = |i: usize| [i.to_string(), (i * 13).to_string(), format!("10.0.{}.7:51{i:03}", i % 9)];
    Tables { single, command, commands, clients: (0..200).map(client).collect() }
}

/// One page. `last` says how much room it takes. Other `scrapes` have others of two thirds of the numbers.
pub fn record(tables: &Tables, last: &Families, scrapes: usize) -> Families {
    let moved = |i: usize, value: f64| {
        if i.is_multiple_of(3) { value } else { value + (scrapes * (i * 37 % 101)) as f64 }
    };
    let mut out = Builder::new();
    out.reserve_like(last);
    for (i, desc) in tables.single.iter().enumerate() {
        out.push(desc, moved(i, [i as f64, 1_785_926_400.0 + i as f64, 0.0, i as f64 * 0.37][i % 4]));
    }
    for (f, desc) in tables.command.iter().enumerate() {
        let family = out.family(desc);
        for (i, cmd) in tables.commands.iter().enumerate() {
            let value = moved(i, (i * 7919 * (f + 1)) as f64);
            out.sample(family, &[cmd], if f == 1 { value / 1e6 } else { value });
        }
    }
    let histogram = out.family(&HISTOGRAM);
    let summary = out.family(&SUMMARY);
    for (i, cmd) in tables.commands.iter().enumerate() {
        let buckets = (0..12).map(|b| {
            ((1.0322 * f64::from(1u32 << (b + i % 4))).floor(), moved(i, (i * 31 * (b + 1)) as f64))
        });
        out.distribution(
            histogram,
            &[cmd],
            buckets,
            moved(i, i as f64 * 1234.0),
            moved(i, (i * 31 * 13) as f64) as u64,
        );
        let quantiles = [(50.0, 1.003), (99.0, 12.031), (99.9, 204.8)];
        out.distribution(
            summary,
            &[cmd],
            quantiles,
            moved(i, i as f64 * 1234.0),
            moved(i, (i * 31 * 13) as f64) as u64,
        );
    }
    let clients = out.family(&CLIENTS);
    for [id, age, address] in &tables.clients {
        out.sample(clients, &[id, "worker", age, address, "default"], moved(age.len(), 20_504.0));
    }
    out.finish()
}
