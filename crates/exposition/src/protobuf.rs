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
            wire::string(out, 1, family.name());
            wire::string(out, 2, family.help());
            wire::uint(out, 3, type_number(family.kind()));
            family.for_each(|sample| wire::message(out, 4, |out| metric(out, family.kind(), &sample)));
        });
    }
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
        wire::message(out, 1, |out| {
            wire::string(out, 1, name);
            wire::string(out, 2, value);
        });
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
