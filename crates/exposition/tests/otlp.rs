//! Bodies of OTLP are read back by the messages that OpenTelemetry itself makes of its protocol.

mod random;

use exposition::remote_write::{Encoder, STALE, Scrape};
use exposition::{Builder, Desc, Families, otlp};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, metric::Data, number_data_point};
use proptest::prelude::*;
use prost::Message as _;
use random::{page, record};
use std::sync::Arc;

static COUNTER: Desc = Desc::counter("redis_commands_total", "Commands.").labels(&["cmd"]);
static GAUGE: Desc = Desc::gauge("redis_memory_used_bytes", "Memory, in bytes.");
static LATENCY: Desc = Desc::histogram("redis_latency_usec", "Latency.").labels(&["cmd"]);
static PERCENTILES: Desc = Desc::summary("redis_percentiles_sum", "Percentiles.").labels(&["cmd"]);

const NOW: i64 = 1_785_926_400_123;
const SINCE: i64 = 1_785_000_000_000;

fn target(instance: &str) -> Vec<(Box<str>, Box<str>)> {
    [("dc", "b"), ("instance", instance), ("job", "redvigil"), ("service", "orders")]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec()
}

fn push(encoder: &mut Encoder, instance: &str, now: &[Arc<Families>], before: &[Arc<Families>]) {
    let scrape = Scrape { parts: now, labels: &target(instance), timestamp: NOW, since: Some(SINCE) };
    encoder.push(&scrape, before);
}

fn read(encoder: &mut Encoder) -> Vec<ResourceMetrics> {
    let body = otlp::from_remote_write(&encoder.finish().body).expect("ours");
    ExportMetricsServiceRequest::decode(&*body).expect("a request of OTLP").resource_metrics
}

fn attributes(given: &[KeyValue]) -> String {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        other => panic!("{other:?} is no text"),
    };
    given.iter().map(|kv| format!("{}={}", kv.key, text(&kv.value))).collect::<Vec<_>>().join(",")
}

/// A point a line, and before them what their metric is.
fn shown(metric: &Metric) -> Vec<String> {
    let mut lines = vec![];
    let times = |start: u64, now: u64| {
        assert_eq!(now, NOW as u64 * 1_000_000);
        assert!(start == 0 || start == SINCE as u64 * 1_000_000);
        if start == 0 { "" } else { " since" }
    };
    let numbers = |points: &[opentelemetry_proto::tonic::metrics::v1::NumberDataPoint]| -> Vec<String> {
        let show = |point: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
            let value = match point.value {
                Some(number_data_point::Value::AsDouble(value)) => {
                    assert_ne!(value.to_bits(), STALE);
                    value.to_string()
                }
                None => "nothing".to_owned(),
                other => panic!("{other:?}"),
            };
            assert_eq!(point.flags, u32::from(point.value.is_none()));
            let times = times(point.start_time_unix_nano, point.time_unix_nano);
            format!("  {{{}}} {value}{times}", attributes(&point.attributes))
        };
        points.iter().map(show).collect()
    };
    let mut head = |kind: String| lines.push(format!("{kind} {} {:?}", metric.name, metric.description));
    match metric.data.as_ref().expect("data") {
        Data::Gauge(gauge) => {
            head("gauge".to_owned());
            lines.extend(numbers(&gauge.data_points));
        }
        Data::Sum(sum) => {
            assert_eq!(sum.aggregation_temporality, 2);
            head(if sum.is_monotonic { "counter".to_owned() } else { "sum".to_owned() });
            lines.extend(numbers(&sum.data_points));
        }
        Data::Histogram(histogram) => {
            assert_eq!(histogram.aggregation_temporality, 2);
            head("histogram".to_owned());
            for point in &histogram.data_points {
                let times = times(point.start_time_unix_nano, point.time_unix_nano);
                assert!(point.explicit_bounds.is_sorted_by(|a, b| a < b), "{point:?}");
                if !point.bucket_counts.is_empty() {
                    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
                    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
                }
                if point.flags == 1 {
                    assert_eq!((point.sum.unwrap_or(0.0), point.count), (0.0, 0));
                    let (attributes, bounds) = (attributes(&point.attributes), &point.explicit_bounds);
                    lines.push(format!("  {{{attributes}}} nothing, {:?} by {bounds:?}{times}", point.sum));
                    continue;
                }
                lines.push(format!(
                    "  {{{}}} {} of {:?}, {:?} by {:?}{times}",
                    attributes(&point.attributes),
                    point.count,
                    point.sum,
                    point.bucket_counts,
                    point.explicit_bounds
                ));
            }
        }
        Data::Summary(summary) => {
            head("summary".to_owned());
            for point in &summary.data_points {
                let times = times(point.start_time_unix_nano, point.time_unix_nano);
                let attributes = attributes(&point.attributes);
                let quantiles: Vec<_> = point.quantile_values.iter().map(|q| (q.quantile, q.value)).collect();
                let what = format!("{} of {}, {quantiles:?}", point.count, point.sum);
                let flag = ["", " nothing"][point.flags as usize];
                lines.push(format!("  {{{attributes}}} {what}{times}{flag}"));
            }
        }
        other => panic!("{other:?}"),
    }
    lines
}

fn metrics(resource: &ResourceMetrics) -> Vec<String> {
    let [scope] = &resource.scope_metrics[..] else { panic!("one scope") };
    assert_eq!(scope.scope.as_ref().map(|scope| &*scope.name), Some("redvigil"));
    scope.metrics.iter().flat_map(shown).collect()
}

fn server(record: impl FnOnce(&mut Builder)) -> [Arc<Families>; 1] {
    let mut out = Builder::new();
    record(&mut out);
    [Arc::new(out.finish())]
}

fn usual(out: &mut Builder) {
    out.push(&GAUGE, f64::NEG_INFINITY);
    let family = out.family(&COUNTER);
    out.sample(family, &["get"], 7.0);
    out.sample(family, &["set"], 0.0);
    let family = out.family(&LATENCY);
    out.distribution(family, &["get"], [(1.0, 2.0), (2.5, 3.0)], 20.5, 4);
    out.distribution(family, &["set"], [], 0.0, 0);
    let family = out.family(&PERCENTILES);
    out.distribution(family, &["get"], [(0.5, 1.5), (0.99, 9.0)], 3.0, 2);
}

#[test]
fn every_kind_of_family_becomes_its_kind_of_metric() {
    let mut encoder = Encoder::new();
    push(&mut encoder, "a:1", &server(usual), &[]);
    let all = read(&mut encoder);
    let [resource] = &all[..] else { panic!("{all:?}") };
    let of = resource.resource.as_ref().expect("a resource");
    assert_eq!(attributes(&of.attributes), "service.name=redvigil,service=orders,service.instance.id=a:1");
    let expected = [
        r#"counter redis_commands_total "Commands.""#,
        "  {cmd=get,dc=b} 7 since",
        "  {cmd=set,dc=b} 0 since",
        r#"histogram redis_latency_usec "Latency.""#,
        "  {cmd=get,dc=b} 4 of Some(20.5), [2, 1, 1] by [1.0, 2.5] since",
        "  {cmd=set,dc=b} 0 of Some(0.0), [0] by [] since",
        r#"gauge redis_memory_used_bytes "Memory, in bytes.""#,
        "  {dc=b} -inf",
        r#"summary redis_percentiles_sum "Percentiles.""#,
        "  {cmd=get,dc=b} 2 of 3, [(0.5, 1.5), (0.99, 9.0)] since",
    ];
    assert_eq!(metrics(resource), expected);
}

#[test]
fn what_has_ended_has_points_without_values() {
    let mut encoder = Encoder::new();
    push(&mut encoder, "a:1", &[], &server(usual));
    let expected = [
        r#"counter redis_commands_total "Commands.""#,
        "  {cmd=get,dc=b} nothing",
        "  {cmd=set,dc=b} nothing",
        r#"histogram redis_latency_usec "Latency.""#,
        "  {cmd=get,dc=b} nothing, Some(0.0) by [1.0, 2.5]",
        "  {cmd=set,dc=b} nothing, Some(0.0) by []",
        r#"gauge redis_memory_used_bytes "Memory, in bytes.""#,
        "  {dc=b} nothing",
        r#"summary redis_percentiles_sum "Percentiles.""#,
        "  {cmd=get,dc=b} 0 of 0, [(0.5, 0.0), (0.99, 0.0)] nothing",
    ];
    assert_eq!(metrics(&read(&mut encoder)[0]), expected);

    // What goes on and what has ended is one metric.
    let more = server(|out| {
        usual(out);
        let family = out.family(&COUNTER);
        out.sample(family, &["del"], 1.0);
        let family = out.family(&LATENCY);
        out.distribution(family, &["del"], [(1.0, 2.0)], 20.5, 4);
    });
    push(&mut encoder, "a:1", &server(usual), &more);
    let shown = metrics(&read(&mut encoder)[0]);
    assert_eq!(shown.iter().filter(|line| !line.starts_with(' ')).count(), 4, "{shown:?}");
    let ended: Vec<_> = shown.iter().filter(|line| line.contains("nothing")).collect();
    assert_eq!(ended, ["  {cmd=del,dc=b} nothing", "  {cmd=del,dc=b} nothing, Some(0.0) by [1.0]"]);

    // A bucket that ended does not end its histogram.
    let with = |bounds: &'static [(f64, f64)]| {
        server(|out| {
            let family = out.family(&LATENCY);
            out.distribution(family, &["get"], bounds.iter().copied(), 1.0, 4);
        })
    };
    push(&mut encoder, "a:1", &with(&[(1.0, 2.0)]), &with(&[(1.0, 2.0), (2.0, 3.0)]));
    let points: Vec<_> =
        metrics(&read(&mut encoder)[0]).into_iter().filter(|line| line.starts_with(' ')).collect();
    assert_eq!(points, ["  {cmd=get,dc=b} 4 of Some(1.0), [2, 2] by [1.0] since"]);
}

#[test]
fn each_target_is_a_resource_and_their_points_do_not_mix() {
    let mut encoder = Encoder::new();
    for instance in ["a:1", "b:2"] {
        push(&mut encoder, instance, &server(usual), &[]);
    }
    let all = read(&mut encoder);
    let of = |resource: &ResourceMetrics| attributes(&resource.resource.as_ref().expect("one").attributes);
    let names: Vec<_> = all.iter().map(of).collect();
    assert_eq!(names.len(), 2);
    assert!(names[0].ends_with("a:1") && names[1].ends_with("b:2"), "{names:?}");
    assert_eq!(metrics(&all[0]), metrics(&all[1]));
    assert_eq!(otlp::from_remote_write(&[]), Ok(vec![]));
}

#[test]
fn buckets_that_a_server_counted_on_between_are_made_to_fit() {
    for (points, count, expected) in [
        (&[(1.0, 5.0), (2.0, 9.0)][..], 7, "7 of Some(1.0), [5, 2, 0] by [1.0, 2.0]"),
        (&[(1.0, 5.0), (2.0, 3.0)], 7, "7 of Some(1.0), [5, 0, 2] by [1.0, 2.0]"),
        (&[(2.0, 3.0), (1.0, 1.0)], 3, "3 of Some(1.0), [1, 2, 0] by [1.0, 2.0]"),
        (&[(1.0, 1.0), (1.0, 2.0)], 3, "3 of Some(1.0), [1, 2] by [1.0]"),
        (&[(f64::NAN, 1.0), (f64::NEG_INFINITY, 1.0)], 3, "3 of Some(1.0), [3] by []"),
        (&[(0.0, 1.0), (-0.0, 2.0), (4.0, f64::NAN)], 3, "3 of Some(1.0), [2, 0, 1] by [-0.0, 4.0]"),
    ] {
        let mut encoder = Encoder::new();
        let given = server(|out| {
            let family = out.family(&LATENCY);
            out.distribution(family, &["get"], points.iter().copied(), 1.0, count);
        });
        push(&mut encoder, "a:1", &given, &[]);
        let shown = metrics(&read(&mut encoder)[0]);
        assert_eq!(shown[1], format!("  {{cmd=get,dc=b}} {expected} since"), "{points:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn whatever_is_recorded_becomes_a_valid_request(now in page(), before in page()) {
        let mut encoder = Encoder::new();
        let [now, before] = [now, before].map(|page| [Arc::new(record(&page))]);
        push(&mut encoder, "a:1", &now, &before);
        let is_empty = encoder.is_empty();
        let all = read(&mut encoder);
        let lines: Vec<_> = all.iter().flat_map(metrics).collect();
        prop_assert_eq!(lines.is_empty(), is_empty);
    }
}
