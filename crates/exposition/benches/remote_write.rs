//! What pushing costs: a scrape becomes a request of remote write 2.0, and that becomes one of 1.0 or of OTLP; and how
//! many bytes a sample takes in a record.
//!
//! The server is like a busy one: 1,160 samples, of which 640 are gauges and counters of their own names, 250 are
//! counters of fifty commands, and the rest the classic series of histograms and summaries of a few. Its next scrape has
//! other values for a third of them.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exposition::remote_write::{Encoder, Scrape, count, split_by_target, to_v1};
use exposition::{Builder, Desc, Families, otlp};
use std::hint::black_box;
use std::sync::Arc;

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

static HISTOGRAM: Desc =
    Desc::histogram("redis_commands_latencies_usec", "How long calls of a command took, in microseconds.")
        .labels(&["cmd"]);
static SUMMARY: Desc =
    Desc::summary("redis_latency_percentiles_usec", "Percentiles of the time that calls of a command took.")
        .labels(&["cmd"]);

struct Tables {
    single: Vec<&'static Desc>,
    command: Vec<&'static Desc>,
}

fn tables() -> Tables {
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let single = |i: usize| -> &'static Desc {
        let name = leak(format!("redis_{}_{}_{}_{i}", WORDS[i % 12], WORDS[i / 12 % 12], WORDS[i / 7 % 12]));
        let help = leak(format!("A sentence of about the usual length about {} number {i}.", WORDS[i % 12]));
        let desc = if i % 3 == 0 { Desc::counter(name, help) } else { Desc::gauge(name, help) };
        Box::leak(Box::new(desc))
    };
    let names =
        ["calls_total", "duration_seconds_total", "rejected_calls_total", "failed_calls_total", "extra"];
    let command = names.map(|name| -> &'static Desc {
        let desc = Desc::counter(leak(format!("redis_commands_{name}")), "What calls of a command did.");
        Box::leak(Box::new(desc.labels(&["cmd"])))
    });
    Tables { single: (0..640).map(single).collect(), command: command.to_vec() }
}

/// A scrape of that round; every third value is another one than in the round before.
fn record(tables: &Tables, round: usize) -> Arc<Families> {
    let mut out = Builder::new();
    let moved = |i: usize, value: f64| {
        if i.is_multiple_of(3) { value + round as f64 * (i % 7 + 1) as f64 } else { value }
    };
    for (i, desc) in tables.single.iter().enumerate() {
        let value = [i as f64, 1_785_926_400.0 + i as f64, 0.0, i as f64 * 0.37][i % 4];
        out.push(desc, moved(i, value));
    }
    let commands: Vec<_> = (0..50).map(|i| format!("{}|{i}", WORDS[i % 12])).collect();
    for (f, desc) in tables.command.iter().enumerate() {
        let family = out.family(desc);
        for (i, cmd) in commands.iter().enumerate() {
            let value = (i * 7919 * (f + 1)) as f64;
            out.sample(family, &[cmd], moved(i + f, if f == 1 { value / 1e6 } else { value }));
        }
    }
    let (histogram, summary) = (out.family(&HISTOGRAM), out.family(&SUMMARY));
    for (i, cmd) in commands.iter().take(14).enumerate() {
        let buckets = (0..12).map(|b| (f64::from(1u32 << b), moved(i, (i * 31 * (b + 1)) as f64).floor()));
        out.distribution(
            histogram,
            &[cmd],
            buckets,
            moved(i, i as f64 * 1234.0),
            (i * 31 * 13 + round * 8) as u64,
        );
        out.distribution(
            summary,
            &[cmd],
            [(50.0, 1.003), (99.0, 12.031)],
            i as f64 * 12.0,
            (i * 31 + round) as u64,
        );
    }
    Arc::new(out.finish())
}

fn labels(instance: &str) -> Vec<(Box<str>, Box<str>)> {
    [("instance", instance), ("job", "redvigil"), ("service", "orders")]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec()
}

/// Scrapes of as many servers, each after another one of its own.
fn gather(encoder: &mut Encoder, rounds: &[Arc<Families>], targets: &[Vec<(Box<str>, Box<str>)>]) {
    for (i, labels) in targets.iter().enumerate() {
        let (before, now) = (&rounds[i..=i], &rounds[i + 1..=i + 1]);
        let timestamp = 1_785_926_400_000 + i as i64 * 137;
        encoder.push(&Scrape { parts: now, labels, timestamp, since: Some(1_785_000_000_000) }, before);
    }
}

fn bench(c: &mut Criterion) {
    let tables = tables();
    let rounds: Vec<_> = (0..11).map(|round| record(&tables, round)).collect();
    let targets: Vec<_> = (0..10).map(|i| labels(&format!("10.0.0.{i}:6379"))).collect();
    let mut encoder = Encoder::new();

    let mut group = c.benchmark_group("remote write");
    for scrapes in [1, 10] {
        gather(&mut encoder, &rounds, &targets[..scrapes]);
        let batch = encoder.finish();
        let samples = batch.size.samples;
        assert_eq!(samples as usize, 1_156 * scrapes);
        let each = |bytes: usize| bytes as f64 / f64::from(samples);
        let snappy = |body: &[u8]| snap::raw::Encoder::new().compress_vec(body).expect("it is short").len();
        let zstd = |body: &[u8]| zstd::bulk::compress(body, 1).expect("memory suffices").len();
        let [v1, otlp] =
            [to_v1(&batch.body), otlp::from_remote_write(&batch.body)].map(|it| it.expect("ours"));
        for (name, body) in [("2.0", &batch.body), ("1.0", &v1), ("otlp", &otlp)] {
            let [raw, snappy, zstd] = [body.len(), snappy(body), zstd(body)].map(each);
            eprintln!(
                "{name:>4}, {scrapes:2} scrapes, {samples} samples: {raw:.1} bytes a sample, {snappy:.1} with snappy, {zstd:.2} with zstd"
            );
        }

        group.throughput(Throughput::Elements(samples.into()));
        group.bench_function(format!("families to 2.0, {scrapes}"), |b| {
            b.iter(|| {
                gather(&mut encoder, &rounds, &targets[..scrapes]);
                black_box(encoder.finish())
            })
        });
        group.bench_function(format!("2.0 to 1.0, {scrapes}"), |b| b.iter(|| black_box(to_v1(&batch.body))));
        group.bench_function(format!("2.0 to OTLP, {scrapes}"), |b| {
            b.iter(|| black_box(otlp::from_remote_write(&batch.body)))
        });
        group.bench_function(format!("count, {scrapes}"), |b| b.iter(|| black_box(count(&batch.body))));
        group.bench_function(format!("split, {scrapes}"), |b| {
            b.iter(|| black_box(split_by_target(&batch.body)))
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
