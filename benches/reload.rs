//! A reload of five thousand services, step by step, and what is asked for beside it.
//!
//! What a newcomer would get wrong: *all of it* is what stands before the publishing of a change, but for reading the file and
//! for outputs that change.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use redvigil::config::Config;
use redvigil::config::document::reader::Files;
use redvigil::config::document::{Sources, Text, Texts, effective, rows};
use redvigil::daemon::reload::compare;
use std::hint::black_box;

/// The document; one service has this limit.
fn document(limit: usize) -> Texts {
    let mut text = String::from(
        "global: { labels: { env: prod } }\ncredentials:\n  - name: all\n    match:\n      services: [",
    );
    text.extend((0..5000).map(|n| format!("service-{n}, ")));
    text.push_str("]\n    username: monitor\n    password: change-me\nservices:\n");
    text.extend((0..5000).map(|n| {
        let limit = if n == 2500 { limit } else { 10_000 };
        format!(
            "  - name: service-{n}\n    sentinel: {{ master: m{n}, addresses: [\"s1:26379\", \"s2:26379\", \"s3:26379\"] }}\n    \
             labels: {{ team: team-{} }}\n    collect: {{ client_list: true }}\n    replication_lag_bytes: {limit}\n",
            n % 50
        )
    }));
    Texts { file: Some(Text { name: "r.yaml".into(), text: text.into() }), ..Texts::default() }
}

fn load(texts: &Texts) -> Config {
    let loaded = Sources::default().load(texts, &Files::default(), &|_| None);
    loaded.map(|loaded| loaded.config).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn services(criterion: &mut Criterion) {
    let (before, after) = (document(10_000), document(20_000));
    let running = load(&before);
    let bench = |criterion: &mut Criterion, name: &str, step: &mut dyn FnMut()| {
        criterion.bench_function(&format!("reload/5000 services {name}"), |bencher| bencher.iter(&mut *step));
    };
    bench(criterion, "read and validated", &mut || drop(black_box(load(&before))));
    criterion.bench_function("reload/5000 services compared and shared", |bencher| {
        let mut shared = |mut fresh: Config| (compare::share(&running, &mut fresh), fresh);
        bencher.iter_batched(|| load(&after), &mut shared, BatchSize::PerIteration);
    });
    bench(criterion, "hashed", &mut || _ = black_box(running.clone().hash()));
    let origin = running.origin.clone().unwrap_or_else(|| panic!("it came from a document"));
    bench(criterion, "what counts at a start", &mut || {
        drop(black_box(effective::at_start(&origin, &rows())))
    });
    bench(criterion, "all of it", &mut || {
        let mut fresh = load(&after);
        let change = compare::share(&running, &mut fresh);
        let at_start = fresh.origin.as_ref().map(|origin| effective::at_start(origin, &rows()));
        drop(black_box((change, at_start, fresh.hash(), fresh)));
    });
    bench(criterion, "listed for /api/v1/config", &mut || {
        drop(black_box(effective::settings(&origin, &rows())))
    });
}

criterion_group!(benches, services);
criterion_main!(benches);
