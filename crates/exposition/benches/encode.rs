//! What one page costs: recording it, finishing it, laying it out, and writing it in each format;
//! and what the page of a fleet of such servers costs.
//!
//! The page is that of [`busy`].

mod busy;

use busy::{record, tables};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exposition::{Builder, Families, Format, Kind, Labelled, Page, Stream, write};
use std::hint::black_box;
use std::sync::Arc;

fn bench(c: &mut Criterion) {
    let tables = tables();
    let set = record(&tables, &Families::default(), 0);
    assert_eq!((set.len(), set.samples()), (328, 1500));

    let empty = Families::default();
    c.bench_function("record and finish, the first time", |b| {
        b.iter(|| black_box(record(&tables, &empty, 0)))
    });
    c.bench_function("record and finish, with room", |b| b.iter(|| black_box(record(&tables, &set, 0))));

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
