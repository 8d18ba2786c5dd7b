//! The Prometheus protobuf format: `io.prometheus.client.MetricFamily` messages, each with its length before it.
//!
//! <https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto>
//!
//! As the Go client does, histograms are written without their `+Inf` bucket (the count of observations is
//! that bucket, and readers add it), and quantiles as they were recorded. The reader turns bounds into labels
//! itself: Prometheus makes `le="1.0"` of what text calls `le="1"`.

use crate::family::{Kind, SampleRef, Value};
use crate::merge::Page;
use crate::wire;

/// Appends `page` to `out`.
pub fn write(out: &mut Vec<u8>, page: &Page<'_>) {
    for family in page.families() {
        wire::delimited(out, |out| {
            head(out, family.name(), family.kind(), family.help());
            family.for_each(|it| sample(out, family.kind(), &it, &[]));
        });
    }
}

/// Appends the fields of a message `MetricFamily` that come before its samples.
pub(crate) fn head(out: &mut Vec<u8>, name: &str, kind: Kind, help: &str) {
    wire::string(out, 1, name);
    wire::string(out, 2, help);
    wire::uint(out, 3, type_number(kind));
}

/// Appends a sample as a field of its family. `more` are labels that come before its own, as [`label`] writes
/// them.
pub(crate) fn sample(out: &mut Vec<u8>, kind: Kind, sample: &SampleRef<'_>, more: &[u8]) {
    wire::message(out, 4, |out| {
        out.extend_from_slice(more);
        metric(out, kind, sample);
    });
}

/// Appends a label as a field of its sample.
pub(crate) fn label(out: &mut Vec<u8>, name: &str, value: &str) {
    wire::message(out, 1, |out| {
        wire::string(out, 1, name);
        wire::string(out, 2, value);
    });
}

/// The number of a kind in the enum `MetricType`.
fn type_number(kind: Kind) -> u64 {
    match kind {
        Kind::Counter => 0,
        Kind::Gauge => 1,
        Kind::Summary => 2,
        Kind::Untyped => 3,
        Kind::Histogram => 4,
    }
}

/// The content of a message `Metric`.
fn metric(out: &mut Vec<u8>, kind: Kind, sample: &SampleRef<'_>) {
    for (name, value) in sample.labels() {
        label(out, name, value);
    }
    let field = match kind {
        Kind::Gauge => 2,
        Kind::Counter => 3,
        Kind::Summary => 4,
        Kind::Untyped => 5,
        Kind::Histogram => 7,
    };
    wire::message(out, field, |out| match sample.value() {
        Value::Number(value) => wire::double(out, 1, value),
        Value::Distribution { points, sum, count } => {
            wire::uint(out, 1, count);
            wire::double(out, 2, sum);
            for (bound, value) in points.iter() {
                wire::message(out, 3, |out| match kind {
                    Kind::Histogram => {
                        wire::uint(out, 1, value as u64);
                        wire::double(out, 2, bound);
                    }
                    _ => {
                        wire::double(out, 1, bound);
                        wire::double(out, 2, value);
                    }
                });
            }
        }
    });
}
