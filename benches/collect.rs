//! From the text of INFO to finished families: what each collection of each server pays.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exposition::Builder;
use redvigil::collect::{Context, Info, Memory, info};
use redvigil::config::collect::{Collect, Keys};
use std::hint::black_box;

const RECORDED: &str = include_str!("../tests/fixtures/info/redis-8.2.3-standalone.txt");

/// How many commands a busy server has seen.
const COMMANDS: usize = 140;

/// The recorded INFO with more commands.
fn text() -> String {
    let mut text = String::new();
    let more = |prefix: &str| {
        let lines: Vec<_> = RECORDED.lines().filter(|line| line.starts_with(prefix)).collect();
        let copies = (0..COMMANDS).map(|i| (i / lines.len(), lines[i % lines.len()]));
        copies
            .map(|(copy, line)| {
                let (field, value) = line.split_once(':').expect("a field and its value");
                if copy == 0 { format!("{line}\r\n") } else { format!("{field}{copy}:{value}\r\n") }
            })
            .collect::<String>()
    };
    for line in RECORDED.lines() {
        if line.starts_with("cmdstat_") || line.starts_with("latency_percentiles_usec_") {
            continue;
        }
        text.push_str(line);
        text.push_str("\r\n");
        match line {
            "# Commandstats" => text.push_str(&more("cmdstat_")),
            "# Latencystats" => text.push_str(&more("latency_percentiles_usec_")),
            _ => {}
        }
    }
    text
}

fn info(criterion: &mut Criterion) {
    let text = text();
    let (config, keys, memory) = (Collect::default(), Keys::default(), Memory::default());
    let record = |info: &Info<'_>| {
        let server = info.server();
        let context = Context {
            config: &config,
            keys: &keys,
            server: Some(&server),
            info: Some(info),
            memory: &memory,
            now: 1_795_400_000.0,
        };
        let mut out = Builder::new();
        info::record(info, &context, &mut out);
        out
    };
    let parsed = Info::parse(&text);

    let mut group = criterion.benchmark_group("info");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("parse", |b| b.iter(|| Info::parse(black_box(&text))));
    group.bench_function("record", |b| b.iter(|| record(black_box(&parsed))));
    group.bench_function("all", |b| b.iter(|| record(&Info::parse(black_box(&text))).finish()));
    group.finish();
}

criterion_group!(benches, info);
criterion_main!(benches);
