//! Bodies of OTLP: `ExportMetricsServiceRequest`, made of a request of remote write 2.0.
//!
//! <https://opentelemetry.io/docs/specs/otlp/>,
//! <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>
//!
//! | there | here |
//! |---|---|
//! | `job`, `instance` | attributes `service.name`, `service.instance.id` of the resource |
//! | `service` | attribute of the resource of the same name |
//! | counter | cumulative monotonic sum |
//! | gauge, unknown | gauge |
//! | `_bucket`, `_sum`, `_count` of one histogram | one cumulative histogram point |
//! | quantiles, `_sum`, `_count` of one summary | one summary point |
//! | stale marker | a point with the flag `NO_RECORDED_VALUE` |
//! | stale markers of a distribution | one such point with its bounds or quantiles and a sum, all zero: VictoriaMetrics ends only series that the point names |
//! | stale marker of a bucket alone | nothing: a point ends as a whole |
//!
//! What a newcomer would get wrong: a histogram is put together from series that stand side by side, as the encoder
//! writes them. Where they do not, each run of them is a point.

use crate::remote_write::{Body, Malformed, STALE, Series, kind};
use crate::wire;

/// The name of the instrumentation scope.
const SCOPE: &str = "redvigil";

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;

/// The flag of a point that says that there is no value.
const NO_RECORDED_VALUE: u64 = 1;

/// What is measured by, in nanoseconds, where others are in milliseconds.
const NANOSECONDS: u64 = 1_000_000;

/// Labels that became attributes of the resource, and the names of these.
const RESOURCE: [(&str, &str); 3] =
    [("job", "service.name"), ("service", "service"), ("instance", "service.instance.id")];

/// An `ExportMetricsServiceRequest` that says what a request of remote write 2.0 says.
pub fn from_remote_write(body: &[u8]) -> Result<Vec<u8>, Malformed> {
    let body = Body::read(body)?;
    let mut writer = Writer { out: Vec::with_capacity(1 << 16), ..Writer::default() };
    body.for_each(|series| {
        series.has_room(writer.len(), series.samples.len())?;
        writer.series(series);
        Ok(())
    })?;
    writer.end_resource();
    Ok(writer.out)
}

#[derive(Default)]
struct Writer<'a> {
    out: Vec<u8>,
    /// The values of the labels of the resource.
    resource: [&'a str; 3],
    /// Fields `metrics` of its scope.
    metrics: Vec<u8>,
    /// Name, kind, help and unit of the metric that is written.
    metric: Option<(&'a str, u64, &'a str, &'a str)>,
    /// Fields `data_points` of it.
    points: Vec<u8>,
    distribution: Option<Distribution<'a>>,
}

/// A point that is put together.
struct Distribution<'a> {
    labels: Vec<(&'a str, &'a str)>,
    timestamp: i64,
    start: i64,
    /// Bounds or quantiles with their values.
    points: Vec<(f64, f64)>,
    sum: Option<f64>,
    count: Option<f64>,
    /// All of it are stale markers; the whole has ended where its count has.
    stale: bool,
}

impl<'a> Writer<'a> {
    /// How many bytes there are by now.
    fn len(&self) -> usize {
        self.out.len() + self.metrics.len() + self.points.len()
    }

    fn series(&mut self, series: &Series<'a>) {
        let resource = RESOURCE.map(|(label, _)| series.label(label));
        if resource != self.resource {
            self.end_resource();
            self.resource = resource;
        }
        let metric = (series.family(), series.kind, series.help, series.unit);
        if self.metric != Some(metric) {
            self.end_metric();
            self.metric = Some(metric);
        }
        for sample in &series.samples {
            match series.kind {
                kind::HISTOGRAM | kind::SUMMARY => self.part(series, *sample),
                _ => self.number(series, *sample),
            }
        }
    }

    /// A point of a sum or a gauge.
    fn number(&mut self, series: &Series<'a>, (value, timestamp, start): (f64, i64, i64)) {
        wire::message(&mut self.points, 1, |out| {
            times(out, timestamp, start);
            if value.to_bits() != STALE {
                wire::double(out, 4, value);
            }
            attributes(out, 7, &series.labels);
            if value.to_bits() == STALE {
                wire::uint(out, 8, NO_RECORDED_VALUE);
            }
        });
    }

    /// A series of a distribution.
    fn part(&mut self, series: &Series<'a>, (value, timestamp, start): (f64, i64, i64)) {
        let bound_label = bound_label(series.kind);
        let others = || series.labels.iter().filter(|(name, _)| *name != "__name__" && *name != bound_label);
        let suffix = series.label("__name__").strip_prefix(series.family()).unwrap_or_default();
        let stale = value.to_bits() == STALE;
        let begins_anew = self.distribution.as_ref().is_none_or(|known| {
            !known.labels.iter().eq(others())
                || known.timestamp != timestamp
                || known.stale != stale
                || (suffix == "_sum" && known.sum.is_some())
                // The count comes last.
                || known.count.is_some()
        });
        if begins_anew {
            self.end_point();
            let (labels, points) = (others().copied().collect(), vec![]);
            self.distribution =
                Some(Distribution { labels, timestamp, start, points, sum: None, count: None, stale });
        }
        let Some(known) = &mut self.distribution else { return };
        // A marker has no value, but which series end is told by the bounds and the sum being there.
        let value = if stale { 0.0 } else { value };
        match suffix {
            "_sum" => known.sum = Some(value),
            "_count" => known.count = Some(value),
            _ => {
                if let Ok(bound) = series.label(bound_label).parse() {
                    known.points.push((bound, value));
                }
            }
        }
    }

    /// Writes the point that was put together.
    fn end_point(&mut self) {
        let Some(mut whole) = self.distribution.take() else { return };
        // A bucket that ended alone: the points that go on are without it.
        if whole.stale && whole.count.is_none() {
            return;
        }
        let is_histogram = self.metric.is_some_and(|(_, kind, ..)| kind == kind::HISTOGRAM);
        whole.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        whole.points.dedup_by(|later, first| later.0 == first.0);
        let count = whole.count.or(whole.points.last().map(|(_, value)| *value)).unwrap_or_default();
        wire::message(&mut self.points, 1, |out| {
            times(out, whole.timestamp, whole.start);
            wire::fixed64(out, 4, count as u64);
            if let Some(sum) = whole.sum {
                wire::double(out, 5, sum);
            }
            match is_histogram {
                true => buckets(out, &whole.points, count as u64),
                false => quantiles(out, &whole.points),
            }
            attributes(out, if is_histogram { 9 } else { 7 }, &whole.labels);
            if whole.stale {
                wire::uint(out, if is_histogram { 10 } else { 8 }, NO_RECORDED_VALUE);
            }
        });
    }

    fn end_metric(&mut self) {
        self.end_point();
        let Some((name, kind, help, unit)) = self.metric.take() else { return };
        let points = &self.points;
        wire::message(&mut self.metrics, 2, |out| {
            wire::string(out, 1, name);
            wire::string(out, 2, help);
            wire::string(out, 3, unit);
            let (field, is_cumulative) = match kind {
                kind::COUNTER => (7, true),
                kind::HISTOGRAM => (9, true),
                kind::SUMMARY => (11, false),
                _ => (5, false),
            };
            wire::message(out, field, |out| {
                out.extend_from_slice(points);
                if is_cumulative {
                    wire::uint(out, 2, CUMULATIVE);
                }
                if kind == kind::COUNTER {
                    wire::uint(out, 3, 1);
                }
            });
        });
        self.points.clear();
    }

    fn end_resource(&mut self) {
        self.end_metric();
        if self.metrics.is_empty() {
            return;
        }
        let (resource, metrics) = (&self.resource, &self.metrics);
        wire::message(&mut self.out, 1, |out| {
            wire::message(out, 1, |out| {
                for ((_, name), value) in RESOURCE.iter().zip(resource).filter(|(_, value)| !value.is_empty())
                {
                    attribute(out, 1, name, value);
                }
            });
            wire::message(out, 2, |out| {
                wire::message(out, 1, |out| wire::string(out, 1, SCOPE));
                out.extend_from_slice(metrics);
            });
        });
        self.metrics.clear();
    }
}

/// The label that tells the points of a distribution apart.
fn bound_label(kind: u64) -> &'static str {
    if kind == kind::HISTOGRAM { "le" } else { "quantile" }
}

/// `start_time_unix_nano` and `time_unix_nano`, which stand in the same fields of all points.
fn times(out: &mut Vec<u8>, timestamp: i64, start: i64) {
    let nanoseconds = |millis: i64| u64::try_from(millis).unwrap_or(0).saturating_mul(NANOSECONDS);
    if start > 0 {
        wire::fixed64(out, 2, nanoseconds(start));
    }
    wire::fixed64(out, 3, nanoseconds(timestamp));
}

/// Cumulative counts as counts of each bucket; the last one is what is above all bounds. Together they are the count,
/// as receivers demand, even where the server counted on between the two.
fn buckets(out: &mut Vec<u8>, points: &[(f64, f64)], count: u64) {
    // What is no number is no bound. Without any bound there still is what is above all: some take no point without it.
    let finite: Vec<_> = points.iter().filter(|(bound, _)| bound.is_finite()).collect();
    if points.is_empty() {
        return;
    }
    let mut below = 0;
    wire::message(out, 6, |out| {
        for (_, value) in &finite {
            let value = (*value as u64).min(count);
            out.extend_from_slice(&value.saturating_sub(below).to_le_bytes());
            below = below.max(value);
        }
        out.extend_from_slice(&(count - below).to_le_bytes());
    });
    wire::message(out, 7, |out| {
        finite.iter().for_each(|(bound, _)| out.extend_from_slice(&bound.to_le_bytes()));
    });
}

fn quantiles(out: &mut Vec<u8>, points: &[(f64, f64)]) {
    for (quantile, value) in points {
        wire::message(out, 6, |out| {
            wire::double(out, 1, *quantile);
            wire::double(out, 2, *value);
        });
    }
}

/// The labels that are neither the name nor in the resource.
fn attributes(out: &mut Vec<u8>, field: u32, labels: &[(&str, &str)]) {
    let is_elsewhere = |name: &str| name == "__name__" || RESOURCE.iter().any(|(label, _)| *label == name);
    for (name, value) in labels.iter().filter(|(name, _)| !is_elsewhere(name)) {
        attribute(out, field, name, value);
    }
}

/// A `KeyValue` with a text.
fn attribute(out: &mut Vec<u8>, field: u32, name: &str, value: &str) {
    wire::message(out, field, |out| {
        wire::string(out, 1, name);
        wire::message(out, 2, |out| wire::string(out, 1, value));
    });
}
