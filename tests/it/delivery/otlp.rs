//! OTLP over gRPC and over HTTP into a real receiver, which passes it on to a store that can be asked.

use super::oracle::Found;
use super::{NUMBERS, PATIENCE, Setup, report};
use testbed::{Fault, Proxy, Rotel, Store, wait_until};

fn check(protocol: &str) {
    let store = Store::victoria_metrics().start();
    let rotel = Rotel::before(&store);
    let url = if protocol == "grpc" { rotel.grpc_url() } else { rotel.http_url() };
    let proxy = Proxy::start(url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port"));
    let output = format!("otlp: {{ endpoint: \"http://{}\", protocol: {protocol} }}", proxy.address());
    let mut push =
        Setup { targets: 3, interval: 200, output: &output, queue: "min_free: 0, linger: 50ms" }.start();
    push.collect(5);
    push.drain();
    // The receiver is away, and a connection breaks in the middle.
    proxy.set(Fault::Refuse);
    push.collect(6);
    proxy.set(Fault::Pass);
    push.drain();
    proxy.set(Fault::Reset);
    push.collect(3);
    push.kill();
    push.start();
    push.collect(2);
    proxy.set(Fault::Pass);
    push.collect(3);
    push.drain();
    assert!(push.count().dropped.is_empty(), "{:?}", push.count());
    push.stop();
    // What rotel took it passes on a moment later.
    let newest = push.targets[0].handed().iter().rev().nth(2).expect("many").number as f64;
    wait_until("rotel to pass on", PATIENCE, || {
        let numbers = store.samples(&format!("{{__name__=\"{NUMBERS}\"}}"));
        numbers.values().any(|samples| samples.iter().any(|sample| sample.value >= newest))
    });
    let written = rotel.written();
    for word in
        ["service.name: Str(redvigil)", "service.instance.id: Str(127.0.0.1:", &format!("Name: {NUMBERS}")]
    {
        assert!(written.contains(word), "{word} is not in what rotel wrote");
    }
    report(format_args!("{protocol}: {:?}", push.compare(&Found::of_otlp(&store))));
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
    let mut push = Setup { targets: 3, interval: 200, output: &output, queue: "min_free: 0" }.start();
    push.collect(5);
    store.stop();
    push.collect(6);
    store.start();
    push.collect(2);
    push.drain();
    push.stop();
    report(format_args!("VictoriaMetrics: {:?}", push.compare(&Found::of_otlp(&store))));
}
