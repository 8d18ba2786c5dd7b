//! What is pushed by OTLP is read back by the published messages.

use exposition::remote_write::{Encoder, Scrape};
use exposition::{Builder, Desc, Families, otlp};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point};
use prost::Message as _;
use std::sync::Arc;

static COUNTER: Desc = Desc::counter("redis_calls_total", "Calls.").labels(&["cmd"]);
static GAUGE: Desc = Desc::gauge("redis_up", "Whether it is up.");
static LATENCY: Desc = Desc::histogram("redis_latency_usec", "Latency.").labels(&["cmd"]);
static PERCENTILES: Desc = Desc::summary("redis_percentiles", "Percentiles.").labels(&["cmd"]);

const NOW: i64 = 1_700_000_000_123;
const SINCE: i64 = 1_600_000_000_000;

/// One that gets and one that sets, or the first alone.
fn parts(commands: &[&str]) -> Vec<Arc<Families>> {
    let mut out = Builder::new();
    out.push(&GAUGE, 1.0);
    for cmd in commands {
        let family = out.family(&COUNTER);
        out.sample(family, &[cmd], 7.0);
        let family = out.family(&LATENCY);
        out.distribution(family, &[cmd], [(1.0, 2.0), (2.0, 3.0)], 20.0, 4);
        let family = out.family(&PERCENTILES);
        out.distribution(family, &[cmd], [(0.5, 1.5)], 3.0, 2);
    }
    vec![Arc::new(out.finish())]
}

fn pushed(instances: &[&str], before: &[Arc<Families>]) -> ExportMetricsServiceRequest {
    let mut encoder = Encoder::new();
    for instance in instances {
        let labels = [("instance", *instance), ("job", "redvigil"), ("team", "a")]
            .map(|(name, value)| (name.into(), value.into()));
        let parts = parts(&["get"]);
        encoder.push(&Scrape { parts: &parts, labels: &labels, timestamp: NOW, since: Some(SINCE) }, before);
    }
    let body = otlp::from_remote_write(&encoder.finish().body).expect("ours");
    ExportMetricsServiceRequest::decode(&*body).expect("OTLP")
}

fn attributes(given: &[KeyValue]) -> Vec<(String, String)> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => (attribute.key.clone(), text.clone()),
        other => panic!("{other:?}"),
    };
    given.iter().map(text).collect()
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn metric<'a>(metrics: &'a [Metric], name: &str) -> &'a Data {
    let mut found = metrics.iter().filter(|metric| metric.name == name);
    let metric = found.next().expect(name);
    assert!(found.next().is_none(), "{name} is there twice");
    assert!(!metric.description.is_empty());
    metric.data.as_ref().expect("data")
}

#[test]
fn each_kind_is_what_it_is_there() {
    let request = pushed(&["a:1", "b:2"], &[]);
    assert_eq!(request.resource_metrics.len(), 2);
    for (found, instance) in request.resource_metrics.iter().zip(["a:1", "b:2"]) {
        let resource = found.resource.as_ref().expect("a resource");
        let expected = owned(&[("service.name", "redvigil"), ("service.instance.id", instance)]);
        assert_eq!(attributes(&resource.attributes), expected);
        let [scope] = &found.scope_metrics[..] else { panic!("{found:?}") };
        assert_eq!(scope.metrics.len(), 4);
        let times = (SINCE as u64 * 1_000_000, NOW as u64 * 1_000_000);
        let labelled = owned(&[("cmd", "get"), ("team", "a")]);
        let Data::Sum(sum) = metric(&scope.metrics, "redis_calls_total") else { panic!() };
        let [point] = &sum.data_points[..] else { panic!("{sum:?}") };
        assert_eq!((sum.aggregation_temporality, sum.is_monotonic), (2, true));
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), times);
        assert_eq!(point.value, Some(number_data_point::Value::AsDouble(7.0)));
        assert_eq!(attributes(&point.attributes), labelled);
        let Data::Gauge(gauge) = metric(&scope.metrics, "redis_up") else { panic!() };
        let [point] = &gauge.data_points[..] else { panic!("{gauge:?}") };
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (0, times.1));
        let Data::Histogram(histogram) = metric(&scope.metrics, "redis_latency_usec") else { panic!() };
        let [point] = &histogram.data_points[..] else { panic!("{histogram:?}") };
        assert_eq!(histogram.aggregation_temporality, 2);
        assert_eq!((point.count, point.sum), (4, Some(20.0)));
        assert_eq!((&*point.explicit_bounds, &*point.bucket_counts), (&[1.0, 2.0][..], &[2, 1, 1][..]));
        assert_eq!(attributes(&point.attributes), labelled);
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), times);
        let Data::Summary(summary) = metric(&scope.metrics, "redis_percentiles") else { panic!() };
        let [point] = &summary.data_points[..] else { panic!("{summary:?}") };
        assert_eq!((point.count, point.sum), (2, 3.0));
        let [quantile] = &point.quantile_values[..] else { panic!("{point:?}") };
        assert_eq!((quantile.quantile, quantile.value), (0.5, 1.5));
        assert_eq!(attributes(&point.attributes), labelled);
    }
}

#[test]
fn what_ended_has_no_recorded_value() {
    let request = pushed(&["a:1"], &parts(&["get", "set"]));
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    let Data::Sum(sum) = metric(metrics, "redis_calls_total") else { panic!() };
    let flags: Vec<_> =
        sum.data_points.iter().map(|p| (p.flags, p.value.is_some(), p.start_time_unix_nano > 0)).collect();
    assert_eq!(flags, [(0, true, true), (1, false, false)]);
    let Data::Histogram(histogram) = metric(metrics, "redis_latency_usec") else { panic!() };
    let flags: Vec<_> =
        histogram.data_points.iter().map(|p| (p.flags, p.count, p.bucket_counts.len())).collect();
    assert_eq!(flags, [(0, 4, 3), (1, 0, 0)]);
    let Data::Summary(summary) = metric(metrics, "redis_percentiles") else { panic!() };
    let flags: Vec<_> = summary.data_points.iter().map(|p| (p.flags, p.count)).collect();
    assert_eq!(flags, [(0, 2), (1, 0)]);
}
