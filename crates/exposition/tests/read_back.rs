//! Whatever is recorded is read back: random pages through each format and an independent reader of it.

mod random;
mod reader;

use exposition::family::{FamilyRef, Value};
use exposition::{Families, Format, Kind, Page, write};
use proptest::prelude::*;
use random::{page, record};
use reader::message::{self, MetricType};
use reader::{Family, openmetrics, text};

fn written(format: Format, set: &Families) -> Vec<u8> {
    let mut out = vec![];
    write(format, &mut out, &Page::new([set], &[]));
    out
}

/// A float that equals itself.
fn bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

/// A line of text 0.0.4: name, labels, value.
type Line = (String, Vec<(String, String)>, u64);

/// The lines that a family should have.
fn expected_lines(family: FamilyRef<'_>) -> Vec<Line> {
    let mut lines = vec![];
    for sample in family.samples() {
        let labels: Vec<_> = sample.labels().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let mut line = |suffix: &str, bound: Option<(&str, f64)>, value: f64| {
            let bound = bound.map(|(label, bound)| (label.to_owned(), bits(bound).to_string()));
            let labels = labels.iter().cloned().chain(bound).collect();
            lines.push((format!("{}{suffix}", family.name()), labels, bits(value)));
        };
        match sample.value() {
            Value::Number(value) => line("", None, value),
            Value::Distribution { points, sum, count } => {
                let histogram = family.kind() == Kind::Histogram;
                let (suffix, label) = if histogram { ("_bucket", "le") } else { ("", "quantile") };
                points.iter().for_each(|(bound, value)| line(suffix, Some((label, bound)), value));
                if histogram {
                    line(suffix, Some((label, f64::INFINITY)), count as f64);
                }
                line("_sum", None, sum);
                line("_count", None, count as f64);
            }
        }
    }
    lines
}

/// The lines that were read, bounds as the bits of their number.
fn read_lines(family: &Family) -> Vec<Line> {
    let lines = family.samples.iter().map(|sample| {
        let labels = sample.labels.iter().map(|(name, value)| match &**name {
            "le" | "quantile" => {
                (name.clone(), bits(value.parse().expect("a bound is a number")).to_string())
            }
            _ => (name.clone(), value.clone()),
        });
        (sample.name.clone(), labels.collect(), bits(sample.value))
    });
    lines.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn text_is_read_back_as_it_was_recorded(page in page()) {
        let set = record(&page);
        let page = String::from_utf8(written(Format::Text, &set)).expect("UTF-8");
        let read = text::read(&page);
        prop_assert_eq!(read.len(), set.len());
        for (read, family) in read.iter().zip(set.iter()) {
            prop_assert_eq!((&*read.name, &*read.kind), (family.name(), family.kind().as_str()));
            prop_assert_eq!(read.help.as_deref(), Some(family.help()));
            prop_assert_eq!(read_lines(read), expected_lines(family));
        }
    }

    #[test]
    fn protobuf_is_read_back_as_it_was_recorded(page in page()) {
        let set = record(&page);
        let read = message::read(&written(Format::Protobuf, &set));
        prop_assert_eq!(read.len(), set.len());
        for (read, family) in read.iter().zip(set.iter()) {
            prop_assert_eq!(read.name.as_deref(), Some(family.name()));
            prop_assert_eq!(read.help.as_deref(), Some(family.help()));
            let kind = match family.kind() {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Summary => MetricType::Summary,
                Kind::Untyped => MetricType::Untyped,
                Kind::Histogram => MetricType::Histogram,
            };
            prop_assert_eq!(read.kind, Some(kind as i32));
            prop_assert_eq!(read.metric.len(), family.samples().len());
            for (metric, sample) in read.metric.iter().zip(family.samples()) {
                let labels = metric.label.iter().map(|l| (l.name.as_deref(), l.value.as_deref()));
                let expected = sample.labels().map(|(name, value)| (Some(name), Some(value)));
                prop_assert_eq!(labels.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
                let number = match kind {
                    MetricType::Counter => &metric.counter,
                    MetricType::Gauge => &metric.gauge,
                    _ => &metric.untyped,
                };
                match sample.value() {
                    Value::Number(value) => {
                        let read = number.as_ref().and_then(|number| number.value).map(bits);
                        prop_assert_eq!(read, Some(bits(value)));
                    }
                    Value::Distribution { points, sum, count } => {
                        let (read_count, read_sum, read_points) = match (&metric.histogram, &metric.summary) {
                            (Some(h), None) => (h.sample_count, h.sample_sum, h.points()),
                            (None, Some(s)) => (s.sample_count, s.sample_sum, s.points()),
                            _ => panic!("one of the two"),
                        };
                        let whole = family.kind() == Kind::Histogram;
                        let expected = points.iter().map(|(bound, value)| {
                            (bits(bound), bits(if whole { value as u64 as f64 } else { value }))
                        });
                        prop_assert_eq!((read_count, read_sum.map(bits)), (Some(count), Some(bits(sum))));
                        prop_assert_eq!(read_points, expected.collect::<Vec<_>>());
                    }
                }
            }
        }
    }

    #[test]
    fn openmetrics_is_valid_and_loses_no_family_and_no_number(page in page()) {
        let set = record(&page);
        let page = String::from_utf8(written(Format::OpenMetrics, &set)).expect("UTF-8");
        let read = openmetrics::read(&page);
        prop_assert_eq!(read.len(), set.len());
        for (read, family) in read.iter().zip(set.iter()) {
            prop_assert_eq!(read.help.as_deref().unwrap_or_default(), family.help());
            let numbers = family.samples().filter_map(|sample| match sample.value() {
                Value::Number(value) => Some(bits(value)),
                Value::Distribution { .. } => None,
            });
            let numbers: Vec<_> = numbers.collect();
            if !numbers.is_empty() {
                let read: Vec<_> = read.samples.iter().map(|sample| bits(sample.value)).collect();
                prop_assert_eq!(read, numbers);
            }
        }
    }
}

impl message::Histogram {
    fn points(&self) -> Vec<(u64, u64)> {
        let point = |b: &message::Bucket| {
            (b.upper_bound.map_or(0, bits), b.cumulative_count.map_or(0, |count| bits(count as f64)))
        };
        self.bucket.iter().map(point).collect()
    }
}

impl message::Summary {
    fn points(&self) -> Vec<(u64, u64)> {
        self.quantile.iter().map(|q| (q.quantile.map_or(0, bits), q.value.map_or(0, bits))).collect()
    }
}
