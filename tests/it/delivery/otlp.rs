//! OTLP over gRPC and over HTTP into real receivers, which say afterwards what they got, sample by sample.

use super::oracle::Found;
use super::{PATIENCE, Setup, report};
use testbed::{Fault, Proxy, Rotel, Store, wait_until};

/// The receiver is away, a connection breaks in the middle, and we are killed.
fn check(protocol: &str) {
    let rotel = Rotel::start();
    let proxy = Proxy::start(if protocol == "grpc" { rotel.grpc_port() } else { rotel.http_port() });
    let output = format!("otlp: {{ endpoint: \"http://{}\", protocol: {protocol} }}", proxy.address());
    let mut push = Setup {
        targets: 3,
        small: false,
        interval: 200,
        output: &output,
        queue: "min_free: 0, linger: 50ms",
    }
    .start();
    push.collect(4);
    push.drain();
    proxy.set(Fault::Refuse);
    push.collect(4);
    proxy.set(Fault::Pass);
    push.drain();
    proxy.set(Fault::Reset);
    push.collect(3);
    push.kill();
    push.start();
    push.collect(2);
    proxy.set(Fault::Pass);
    push.collect(2);
    push.drain();
    assert!(push.count().dropped.is_empty(), "{:?}", push.count());
    push.finish();
    let newest = push.targets[0].handed().iter().rev().nth(2).expect("many").number;
    wait_until("rotel to write it down", PATIENCE, || {
        rotel.written().contains(&format!("\nValue: {newest}\n"))
    });
    report(format_args!("{protocol}: {:?}", push.compare(&Found::by_otlp(rotel.samples()))));
}

#[test]
fn rotel_has_every_collection_by_grpc() {
    check("grpc");
}

#[test]
fn rotel_has_every_collection_by_http() {
    check("http");
}

#[test]
fn victoria_metrics_has_every_collection_by_otlp() {
    let mut store = Store::victoria_metrics().start();
    let output = format!("otlp: {{ endpoint: \"{}\", protocol: http }}", store.otlp_url());
    let mut push =
        Setup { targets: 3, small: false, interval: 200, output: &output, queue: "min_free: 0" }.start();
    push.collect(5);
    store.stop();
    push.collect(6);
    store.start();
    push.collect(2);
    push.drain();
    push.finish();
    let found = Found::by_otlp(store.samples("{service.name=\"redvigil\"}"));
    report(format_args!("VictoriaMetrics: {:?}", push.compare(&found)));
}
