//! Real servers that take samples: that they start, take, tell what they have, and come back with it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use testbed::http::{self, Request};
use testbed::{Labels, Part, Rotel, Sample, Store, wait_until};

const PATIENCE: Duration = Duration::from_secs(20);

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis())
        .expect("fits")
}

fn write(store: &Store, samples: &[(i64, f64)]) -> u16 {
    let labels: Labels = [("__name__", "a"), ("n", "1")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    let samples: Vec<Sample> = samples.iter().map(|(at, value)| Sample { at: *at, value: *value }).collect();
    store.write(&labels, &samples)
}

fn check(mut store: Store, takes_old: bool) {
    let now = now();
    let new = [(now - 2000, 1.0), (now - 1001, 2.5)];
    assert_eq!(write(&store, &new) / 100, 2, "{}", store.log());
    let old = [(now - 60_000, 7.0), (now - 59_000, 8.0)];
    assert_eq!(write(&store, &old) / 100, if takes_old { 2 } else { 4 });
    let taken = if takes_old { [&old[..], &new].concat() } else { new.to_vec() };
    let expected: Vec<Sample> = taken.into_iter().map(|(at, value)| Sample { at, value }).collect();
    let seen = |store: &Store| store.samples("{n=\"1\"}").into_values().next().unwrap_or_default();
    assert_eq!(seen(&store), expected);
    assert_eq!(store.now("a").into_values().collect::<Vec<_>>(), [2.5]);
    store.stop();
    store.start();
    assert_eq!(seen(&store), expected);
    store.kill();
    store.start();
    assert_eq!(seen(&store), expected);
}

#[test]
fn prometheus_2_keeps_what_it_took() {
    check(Store::prometheus(Part::Prometheus253).start(), false);
    check(Store::prometheus(Part::Prometheus253).out_of_order("10m").start(), true);
}

#[test]
fn prometheus_3_keeps_what_it_took() {
    if Part::Prometheus3.or_skip("prometheus_3_keeps_what_it_took").is_some() {
        check(Store::prometheus(Part::Prometheus3).start(), false);
        check(Store::prometheus(Part::Prometheus3).out_of_order("10m").start(), true);
    }
}

#[test]
fn victoria_metrics_keeps_what_it_took() {
    check(Store::victoria_metrics().start(), true);
}

#[test]
fn rotel_writes_down_what_it_got() {
    let rotel = Rotel::start();
    let at = now();
    let body = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"j"}}}}]}},
        "scopeMetrics":[{{"metrics":[{{"name":"b","gauge":{{"dataPoints":[{{"timeUnixNano":"{at}000000","asDouble":4.5}}]}}}}]}}]}}]}}"#
    );
    let headers = [("Content-Type", "application/json")];
    let request = Request { method: "POST", path: "/v1/metrics", headers: &headers, body: body.as_bytes() };
    assert_eq!(http::send(rotel.http_port(), None, request, PATIENCE).expect("an answer").status, 200);
    wait_until("the sample to be written down", PATIENCE, || !rotel.samples().is_empty());
    let labels: Labels =
        [("__name__", "b"), ("service.name", "j")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    assert_eq!(rotel.samples()[&labels], [Sample { at, value: 4.5 }]);
}
