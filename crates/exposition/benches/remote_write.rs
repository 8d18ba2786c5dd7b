//! What it costs to push: one scrape of a busy server as remote write 2.0, that as 1.0 and as OTLP, and how many bytes
//! a sample takes on the wire and on disk.
//!
//! Each of ten servers has numbers of its own, and so has its scrape before: records of equal ones would look smaller
//! than they are.
//!
//! Goals: 2 million samples a second for 2.0 and for 1.0, and 10 bytes a sample on disk at ten scrapes a record.

mod busy;

use busy::{record, tables};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exposition::remote_write::{Encoder, Scrape, count, split_by_target, to_v1};
use exposition::{Families, otlp};
use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;

fn bench(c: &mut Criterion) {
    let tables = tables();
    let later = |scrapes| [Arc::new(record(&tables, &Families::default(), scrapes))];
    let all: Vec<_> = (0..11).map(later).collect();
    let (before, parts) = (&all[0], &all[1]);
    let labels = |number: usize| {
        [
            ("instance", format!("10.0.0.{number}:6379")),
            ("job", "redvigil".into()),
            ("service", "orders".into()),
        ]
        .map(|(name, value)| (name.into(), value.into()))
    };
    let first = labels(0);
    let scrape =
        Scrape { parts, labels: &first, timestamp: 1_785_926_400_123, since: Some(1_785_000_000_000) };
    let mut encoder = Encoder::new();
    encoder.push(&scrape, &[]);
    let one = encoder.finish();
    for (number, pair) in all.windows(2).enumerate() {
        encoder.push(&Scrape { parts: &pair[1], labels: &labels(number), ..scrape }, &pair[0]);
    }
    let ten = encoder.finish();
    let mut out = std::io::stdout();
    for (name, batch) in [("one scrape", &one), ("ten scrapes", &ten)] {
        let a_sample = |bytes: usize| bytes as f64 / f64::from(batch.size.samples);
        let snappy = snap::raw::Encoder::new().compress_vec(&batch.body).expect("memory");
        let zstd = zstd::bulk::compress(&batch.body, 1).expect("memory");
        let v1 = to_v1(&batch.body).expect("ours");
        let line = writeln!(
            out,
            "{name}: {} samples; bytes a sample: raw {:.1}, snappy {:.1}, zstd-1 {:.2}; 1.0 raw {:.1}",
            batch.size.samples,
            a_sample(batch.body.len()),
            a_sample(snappy.len()),
            a_sample(zstd.len()),
            a_sample(v1.len())
        );
        line.expect("a terminal or a file");
    }

    let mut group = c.benchmark_group("push");
    group.throughput(Throughput::Elements(u64::from(one.size.samples)));
    group.bench_function("2.0 from families", |b| {
        b.iter(|| {
            encoder.push(&scrape, &[]);
            black_box(encoder.finish())
        })
    });
    group.bench_function("2.0 from families, with those of before", |b| {
        b.iter(|| {
            encoder.push(&scrape, before);
            black_box(encoder.finish())
        })
    });
    group.throughput(Throughput::Elements(u64::from(ten.size.samples)));
    group.bench_function("1.0 from 2.0", |b| b.iter(|| black_box(to_v1(&ten.body))));
    group.bench_function("OTLP from 2.0", |b| b.iter(|| black_box(otlp::from_remote_write(&ten.body))));
    group.bench_function("how much is in 2.0", |b| b.iter(|| black_box(count(&ten.body))));
    group.bench_function("a request for each target", |b| b.iter(|| black_box(split_by_target(&ten.body))));
    group.bench_function("zstd-1", |b| b.iter(|| black_box(zstd::bulk::compress(&ten.body, 1))));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
