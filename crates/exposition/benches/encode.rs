//! What one page costs: recording it, finishing it, laying it out, and writing it in each format;
//! and what the page of a fleet of such servers costs.
//!
//! The page is like that of a busy Redis 7: 330 families, 1,500 samples, of which 140 are histograms of
//! twelve buckets and 140 summaries of three quantiles. Commands come in the order in which a server lists
//! them, which is no order at all.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exposition::{Builder, Desc, Families, Format, Kind, Labelled, Page, Stream, write};
use std::hint::black_box;
use std::sync::Arc;

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
struct Tables {
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

fn tables() -> Tables {
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

fn record(tables: &Tables, last: &Families) -> Families {
    let mut out = Builder::new();
    out.reserve_like(last);
    for (i, desc) in tables.single.iter().enumerate() {
        out.push(desc, [i as f64, 1_785_926_400.0 + i as f64, 0.0, i as f64 * 0.37][i % 4]);
    }
    for (f, desc) in tables.command.iter().enumerate() {
        let family = out.family(desc);
        for (i, cmd) in tables.commands.iter().enumerate() {
            let value = (i * 7919 * (f + 1)) as f64;
            out.sample(family, &[cmd], if f == 1 { value / 1e6 } else { value });
        }
    }
    let histogram = out.family(&HISTOGRAM);
    let summary = out.family(&SUMMARY);
    for (i, cmd) in tables.commands.iter().enumerate() {
        let buckets =
            (0..12).map(|b| ((1.0322 * f64::from(1u32 << (b + i % 4))).floor(), (i * 31 * (b + 1)) as f64));
        out.distribution(histogram, &[cmd], buckets, i as f64 * 1234.0, i as u64 * 31 * 13);
        let quantiles = [(50.0, 1.003), (99.0, 12.031), (99.9, 204.8)];
        out.distribution(summary, &[cmd], quantiles, i as f64 * 1234.0, i as u64 * 31 * 13);
    }
    let clients = out.family(&CLIENTS);
    for [id, age, address] in &tables.clients {
        out.sample(clients, &[id, "worker", age, address, "default"], 20_504.0);
    }
    out.finish()
}

fn bench(c: &mut Criterion) {
    let tables = tables();
    let set = record(&tables, &Families::default());
    assert_eq!((set.len(), set.samples()), (328, 1500));

    let empty = Families::default();
    c.bench_function("record and finish, the first time", |b| b.iter(|| black_box(record(&tables, &empty))));
    c.bench_function("record and finish, with room", |b| b.iter(|| black_box(record(&tables, &set))));

    let mut own = Builder::new();
    let up = own.named_family("redvigil_up", Kind::Gauge, "Itself.");
    own.sample(up, &[], 1.0);
    let own = own.finish();
    c.bench_function("page", |b| b.iter(|| black_box(Page::new([&set, &own], &[])).is_empty()));

    let page = Page::new([&set, &own], &[]);
    let mut group = c.benchmark_group("write");
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let mut out = vec![];
        write(format, &mut out, &page);
        group.throughput(Throughput::Bytes(out.len() as u64));
        group.bench_function(format!("{format:?}"), |b| {
            b.iter(|| {
                out.clear();
                write(format, &mut out, &page);
                black_box(&out);
            })
        });
    }
    group.finish();

    // A hundred such servers, in the pieces in which it is sent.
    let set = Arc::new(set);
    let member = |number: usize| Labelled {
        labels: [("service", "orders".to_owned()), ("instance", format!("10.0.0.{number}:6379"))]
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        parts: vec![Arc::new((*set).clone())],
    };
    let fleet: Vec<_> = (0..100).map(member).collect();
    let mut group = c.benchmark_group("fleet");
    group.sample_size(20);
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let page = |out: &mut Vec<u8>| {
            let (mut stream, mut total) = (Stream::new(format, fleet.clone(), &[]), 0);
            while stream.write_some(out, 64 * 1024) {
                total += out.len();
                out.clear();
            }
            total
        };
        let mut out = vec![];
        group.throughput(Throughput::Bytes(page(&mut out) as u64));
        group.bench_function(format!("{format:?}"), |b| b.iter(|| black_box(page(&mut out))));
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
