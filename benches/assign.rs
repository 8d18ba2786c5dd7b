//! Ten thousand services over ten peers: what each change of the peers costs.

use criterion::{Criterion, criterion_group, criterion_main};
use redvigil::peers::assign::assign;
use redvigil::peers::shard_of;
use std::hint::black_box;

fn services(criterion: &mut Criterion) {
    let services: Vec<_> = (0..10_000).map(|n| format!("service-{n}")).collect();
    let ids: Vec<_> = (0..10).map(|n| format!("10.0.0.{n}:9121")).collect();
    let peers: Vec<_> = ids.iter().map(|id| (&**id, 100)).collect();
    criterion.bench_function("assign/10000 services over 10 peers", |bencher| {
        bencher.iter(|| {
            let owners = assign(black_box(&peers));
            let place = |service: &String| owners[usize::from(shard_of(service))].unwrap_or_default();
            services.iter().map(|service| u64::from(place(service))).sum::<u64>()
        });
    });
}

criterion_group!(benches, services);
criterion_main!(benches);
