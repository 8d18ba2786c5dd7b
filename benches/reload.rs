//! A configuration of five thousand services: read and validated, and listed with who said what.

use criterion::{Criterion, criterion_group, criterion_main};
use redvigil::config::document::reader::Files;
use redvigil::config::document::{Sources, Text, Texts, effective, rows};
use std::hint::black_box;

fn services(criterion: &mut Criterion) {
    let mut text = String::from(
        "global: { labels: { env: prod } }\ncredentials:\n  - name: all\n    match:\n      services: [",
    );
    text.extend((0..5000).map(|n| format!("service-{n}, ")));
    text.push_str("]\n    username: monitor\n    password: change-me\nservices:\n");
    text.extend((0..5000).map(|n| {
        format!(
            "  - name: service-{n}\n    sentinel: {{ master: m{n}, addresses: [\"s1:26379\", \"s2:26379\", \"s3:26379\"] }}\n    \
             labels: {{ team: team-{} }}\n    collect: {{ client_list: true }}\n",
            n % 50
        )
    }));
    let texts = Texts { file: Some(Text { name: "r.yaml".into(), text: text.into() }), ..Texts::default() };
    let load = || Sources::default().load(&texts, &Files::default(), &|_| None).map(|loaded| loaded.config);
    criterion.bench_function("reload/5000 services read and validated", |bencher| {
        bencher.iter(|| black_box(load()).is_ok());
    });
    let origin = load().ok().and_then(|config| config.origin);
    criterion.bench_function("reload/5000 services listed and hashed", |bencher| {
        bencher.iter(|| {
            let settings = origin.as_ref().map(|origin| effective::settings(origin, &rows()));
            effective::hash(&settings.unwrap_or_default())
        });
    });
}

criterion_group!(benches, services);
criterion_main!(benches);
