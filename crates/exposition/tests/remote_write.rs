//! What is pushed is read back by messages of their own: 2.0 as it was recorded, 1.0 and the parts as 2.0 says.

mod random;
mod rules;
#[path = "reader/write.rs"]
mod write;

use exposition::family::Value;
use exposition::remote_write::{Encoder, STALE, Scrape, count, split_by_target, to_v1, v1_metadata};
use exposition::{Builder, Desc, Families, Kind, Page};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use random::{page, record};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use write::{Labels, Line, Request, WriteRequest, checked};

/// What a request of 2.0 says, after all that holds for every request was looked at.
fn lines(body: &[u8]) -> Vec<Line> {
    let (_, lines) = checked(body);
    lines
}

/// What a request of 1.0 says.
fn v1_lines(body: &[u8]) -> Vec<Line> {
    let request = WriteRequest::decode(body).expect("a request");
    assert_eq!(request.metadata, []);
    let series = request.timeseries.into_iter().map(|series| {
        let [sample] = &series.samples[..] else { panic!("{series:?}") };
        let labels = series.labels.into_iter().map(|label| (label.name, label.value)).collect();
        (labels, sample.value.to_bits(), sample.timestamp, 0)
    });
    series.collect()
}

/// The series of a scrape, each with the bits of its value and whether it counts. Of several the first is there.
fn series(parts: &[Arc<Families>], target: &[(Box<str>, Box<str>)]) -> BTreeMap<Labels, (u64, bool)> {
    let mut found = BTreeMap::new();
    let page = Page::new(parts.iter().map(|part| &**part), &[]);
    for family in page.families() {
        let counts = !matches!(family.kind(), Kind::Gauge | Kind::Untyped);
        family.for_each(|sample| {
            let mut add = |suffix: &str, bound: Option<(&str, f64)>, value: f64| {
                let mut labels: BTreeMap<_, _> =
                    target.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
                labels.extend(sample.labels().map(|(name, value)| (name.into(), value.into())));
                labels.insert("__name__".into(), format!("{}{suffix}", family.name()));
                if let Some((label, bound)) = bound {
                    let mut text = vec![];
                    exposition::number::write_as_float(&mut text, bound);
                    labels.insert(label.into(), String::from_utf8(text).expect("text"));
                }
                labels.retain(|_, value| !value.is_empty());
                found.entry(labels.into_iter().collect()).or_insert((value.to_bits(), counts));
            };
            match sample.value() {
                Value::Number(value) => add("", None, value),
                Value::Distribution { points, sum, count } => {
                    let is_histogram = family.kind() == Kind::Histogram;
                    let (suffix, label) = if is_histogram { ("_bucket", "le") } else { ("", "quantile") };
                    points.iter().for_each(|(bound, value)| add(suffix, Some((label, bound)), value));
                    if is_histogram {
                        add(suffix, Some((label, f64::INFINITY)), count as f64);
                    }
                    add("_sum", None, sum);
                    add("_count", None, count as f64);
                }
            }
        });
    }
    found
}

fn target(instance: &str) -> Vec<(Box<str>, Box<str>)> {
    [("cmd", "of the target"), ("instance", instance), ("job", "redvigil"), ("unset", "")]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec()
}

const NOW: i64 = 1_700_000_000_123;
const SINCE: i64 = 1_600_000_000_000;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn a_scrape_is_read_back_with_the_end_of_what_is_no_more(
        now in vec(page(), 0..3), before in vec(page(), 0..3), kept in 0..3usize, other in page(),
    ) {
        let [now, mut before] = [now, before].map(|pages| {
            pages.iter().map(|page| Arc::new(record(page))).collect::<Vec<_>>()
        });
        before.extend(now.iter().take(kept).cloned());
        let other = Arc::new(record(&other));
        let labels = target("a:1");
        let (expected, past) = (series(&now, &labels), series(&before, &labels));

        let mut encoder = Encoder::new();
        let scrape = Scrape { parts: &now, labels: &labels, timestamp: NOW, since: Some(SINCE) };
        encoder.push(&scrape, &before);
        let size = encoder.size();
        let whole = encoder.finish();
        prop_assert_eq!(whole.body.len(), size);
        let mut left = expected.clone();
        let mut ended: BTreeSet<_> = past.into_keys().filter(|labels| !expected.contains_key(labels)).collect();
        for (labels, bits, timestamp, start) in lines(&whole.body) {
            prop_assert_eq!(timestamp, NOW);
            match left.remove(&labels) {
                Some((value, counts)) => prop_assert_eq!((bits, start), (value, if counts { SINCE } else { 0 })),
                None => {
                    prop_assert!(ended.remove(&labels), "{:?}", labels);
                    prop_assert_eq!((bits, start), (STALE, 0));
                }
            }
        }
        prop_assert!(left.is_empty() && ended.is_empty(), "{:?} {:?}", left, ended);

        // What is made of it says the same.
        prop_assert_eq!(count(&whole.body), Ok(whole.size));
        let no_start = |line: &Line| (line.0.clone(), line.1, line.2, 0);
        let all: Vec<_> = lines(&whole.body).iter().map(no_start).collect();
        prop_assert_eq!(v1_lines(&to_v1(&whole.body).expect("ours")), all);

        // Two targets in one request, and each for itself again.
        encoder.push(&scrape, &[]);
        let one = lines(&{ let mut alone = Encoder::new(); alone.push(&scrape, &[]); alone.finish() }.body);
        let other_scrape = Scrape { parts: &[other], labels: &target("b:2"), timestamp: NOW + 1, since: None };
        encoder.push(&Scrape { parts: &[], ..other_scrape }, &[]);
        encoder.push(&other_scrape, &[]);
        let both = encoder.finish();
        let parts = split_by_target(&both.body).expect("ours");
        prop_assert_eq!(parts.len(), usize::from(!one.is_empty()) + usize::from(other_scrape.parts[0].samples() > 0));
        prop_assert_eq!(parts.iter().map(|part| part.size.samples).sum::<u32>(), both.size.samples);
        let of_parts: Vec<_> = parts.iter().flat_map(|part| lines(&part.body)).collect();
        prop_assert_eq!(of_parts, lines(&both.body));
        for part in &parts {
            prop_assert_eq!(count(&part.body), Ok(part.size));
        }
    }

    #[test]
    fn broken_bodies_are_malformed_and_nothing_worse(page in page(), flips in vec((any::<usize>(), any::<u8>()), 1..9), end in any::<usize>()) {
        let mut encoder = Encoder::new();
        encoder.push(&Scrape { parts: &[Arc::new(record(&page))], labels: &target("a:1"), timestamp: NOW, since: None }, &[]);
        let mut body = encoder.finish().body;
        for (at, byte) in flips {
            if let Some(at) = at.checked_rem(body.len()) {
                body[at] = byte;
            }
        }
        body.truncate(end % (body.len() + 1));
        let _ = (count(&body), to_v1(&body), v1_metadata(&body), split_by_target(&body), exposition::otlp::from_remote_write(&body));
    }
}

static COUNTER: Desc = Desc::counter("redis_commands_processed_total", "Commands.");
static LATENCY: Desc = Desc::histogram("redis_latency_usec", "Latency.\nIn microseconds.").labels(&["cmd"]);
static PERCENTILES: Desc = Desc::summary("redis_percentiles", "").labels(&["cmd"]);

fn three() -> Arc<Families> {
    let mut out = Builder::new();
    out.push(&COUNTER, 7.0);
    let family = out.family(&LATENCY);
    out.distribution(family, &["get"], [(1.0, 2.0), (2.0, 3.0)], 20.0, 4);
    let family = out.family(&PERCENTILES);
    out.distribution(family, &["get"], [(0.5, 1.5)], 3.0, 2);
    Arc::new(out.finish())
}

#[test]
fn metadata_is_said_of_families_and_once_in_1_0() {
    let mut encoder = Encoder::new();
    for instance in ["a:1", "b:2"] {
        encoder
            .push(&Scrape { parts: &[three()], labels: &target(instance), timestamp: NOW, since: None }, &[]);
    }
    let body = encoder.finish().body;
    let request = Request::decode(&*body).expect("a request");
    let kinds = |name: &str| {
        let is_it = |refs: &[u32]| refs.chunks(2).any(|pair| request.symbols[pair[1] as usize] == name);
        let series = request.timeseries.iter().find(|series| is_it(&series.labels_refs)).expect(name);
        let metadata = series.metadata.as_ref().expect("metadata");
        (metadata.kind, request.symbols[metadata.help_ref as usize].clone())
    };
    assert_eq!(kinds("redis_commands_processed_total"), (1, "Commands.".to_owned()));
    assert_eq!(kinds("redis_latency_usec_bucket"), (3, "Latency.\nIn microseconds.".to_owned()));
    assert_eq!(kinds("redis_percentiles_count"), (5, String::new()));
    let metadata = WriteRequest::decode(&*v1_metadata(&body).expect("ours")).expect("a request").metadata;
    let said: Vec<_> = metadata.iter().map(|m| (&*m.metric_family_name, m.kind, &*m.help)).collect();
    assert_eq!(
        said,
        [
            ("redis_commands_processed_total", 1, "Commands."),
            ("redis_latency_usec", 3, "Latency.\nIn microseconds."),
            ("redis_percentiles", 5, ""),
        ]
    );
}

#[test]
fn a_start_that_is_no_start_is_left_out() {
    for (since, expected) in
        [(None, 0), (Some(SINCE), SINCE), (Some(NOW), NOW), (Some(NOW + 1), 0), (Some(-1), 0)]
    {
        let mut encoder = Encoder::new();
        encoder.push(&Scrape { parts: &[three()], labels: &[], timestamp: NOW, since }, &[]);
        let starts: BTreeSet<_> = lines(&encoder.finish().body).into_iter().map(|line| line.3).collect();
        assert_eq!(starts, BTreeSet::from([expected]), "{since:?}");
    }
}

#[test]
fn a_target_that_went_ends_all_its_series() {
    let mut encoder = Encoder::new();
    encoder.push(&Scrape { parts: &[], labels: &target("a:1"), timestamp: NOW, since: None }, &[three()]);
    let batch = encoder.finish();
    let ended = lines(&batch.body);
    assert_eq!((batch.size.samples, ended.len()), (9, 9));
    assert!(ended.iter().all(|line| line.1 == STALE));
    assert!(encoder.is_empty());
}
