//! The page of a fleet: what a page of one member says, whatever the pieces, and nothing twice.

mod random;
mod reader;

use exposition::family::Value;
use exposition::{Builder, Desc, Families, Format, Kind, Labelled, Page, Stream, write};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use reader::{message, openmetrics, text};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

const FORMATS: [Format; 3] = [Format::Text, Format::OpenMetrics, Format::Protobuf];

/// The whole page in pieces of about that size.
fn streamed(format: Format, sets: &[Labelled], names: &[String], enough: usize) -> Vec<u8> {
    let mut stream = Stream::new(format, sets.to_vec(), names);
    let mut out = vec![];
    let (mut more, mut silent) = (true, 0);
    while more {
        let before = out.len();
        more = stream.write_some(&mut out, enough);
        silent = if out.len() == before { silent + 1 } else { 0 };
        assert!(silent < 100_000, "it gets nowhere after {before} bytes");
    }
    let len = out.len();
    assert!(!stream.write_some(&mut out, enough) && out.len() == len, "the end is the end");
    out
}

fn labelled(labels: &[(&str, &str)], parts: &[Families]) -> Labelled {
    let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Labelled { labels, parts: parts.iter().cloned().map(Arc::new).collect() }
}

/// A sample: labels in the order of their names, and its value (of a distribution: the count).
type Sample = (Labels, u64);

type Labels = Vec<(String, String)>;

/// A family: its name, its kind and its samples.
type Family = (String, Kind, String, Vec<Sample>);

/// Labels by their names, and families.
type Member = (BTreeMap<String, String>, Vec<Arc<Families>>);

/// What should be on the page, found in the plainest way.
fn expected(sets: &[Labelled]) -> Vec<Family> {
    let mut members: Vec<Member> = vec![];
    for set in sets {
        let mut labels = BTreeMap::new();
        for (name, value) in set.labels.iter() {
            labels.entry(name.to_string()).or_insert(value.to_string());
        }
        labels.retain(|_, value| !value.is_empty());
        match members.iter_mut().find(|(known, _)| *known == labels) {
            Some((_, parts)) => parts.extend(set.parts.clone()),
            None => members.push((labels, set.parts.clone())),
        }
    }
    let mut families = BTreeMap::<String, Family>::new();
    let mut seen = HashSet::new();
    for (labels, parts) in &members {
        let kinds: BTreeMap<_, _> = families.iter().map(|(name, family)| (name.clone(), family.1)).collect();
        // A page takes the kind of its first part; here it is that of the first member.
        let names: HashSet<_> =
            parts.iter().flat_map(|part| part.iter()).map(|f| f.name().to_owned()).collect();
        for name in names {
            let found: Vec<_> = parts.iter().filter_map(|part| part.get(&name)).collect();
            let kind = kinds.get(&name).copied().unwrap_or_else(|| found[0].kind());
            let family = families
                .entry(name.clone())
                .or_insert_with(|| (name.clone(), kind, found[0].help().to_owned(), vec![]));
            let mut samples = vec![];
            for sample in found.iter().filter(|f| f.kind() == kind).flat_map(|f| f.samples()) {
                let own: Vec<_> = sample.labels().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
                let mut all: BTreeMap<_, _> = labels.clone();
                all.extend(own.iter().cloned());
                let value = match sample.value() {
                    Value::Number(value) => bits(value),
                    Value::Distribution { count, .. } => count,
                };
                samples.push((own, (all.into_iter().collect::<Vec<_>>(), value)));
            }
            // By values, then by names; the sort is stable, so that of equal ones the first stays.
            samples.sort_by_key(|(own, _)| {
                let names: Vec<_> = own.iter().map(|(name, _)| name.clone()).collect();
                (own.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>(), names)
            });
            for (_, (labels, value)) in samples {
                if seen.insert((name.clone(), labels.clone())) {
                    family.3.push((labels, value));
                }
            }
        }
    }
    families.into_values().collect()
}

fn bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

fn sorted(mut labels: Labels) -> Labels {
    labels.sort();
    labels
}

/// What the text reader finds.
fn read_text(page: &[u8]) -> Vec<Family> {
    let page = std::str::from_utf8(page).expect("UTF-8");
    let families = text::read(page).into_iter().map(|family| {
        let kinds = [Kind::Counter, Kind::Gauge, Kind::Histogram, Kind::Summary, Kind::Untyped];
        let kind = kinds.into_iter().find(|kind| kind.as_str() == family.kind).expect("a kind");
        let suffix = if matches!(kind, Kind::Histogram | Kind::Summary) { "_count" } else { "" };
        let name = format!("{}{suffix}", family.name);
        let samples = family.samples.into_iter().filter(|sample| sample.name == name);
        let value = |value: f64| if suffix.is_empty() { bits(value) } else { value as u64 };
        let samples = samples.map(|sample| (sorted(sample.labels), value(sample.value)));
        (family.name.clone(), kind, family.help.unwrap_or_default(), samples.collect())
    });
    families.collect()
}

/// How many samples of which labels the message reader finds.
fn read_messages(page: &[u8]) -> Vec<(String, Vec<Labels>)> {
    let families = message::read(page).into_iter().map(|family| {
        let samples = family.metric.into_iter().map(|metric| {
            let labels =
                metric.label.into_iter().map(|l| (l.name.unwrap_or_default(), l.value.unwrap_or_default()));
            sorted(labels.collect())
        });
        (family.name.unwrap_or_default(), samples.collect())
    });
    families.collect()
}

#[track_caller]
fn check(sets: &[Labelled], enough: usize) {
    let expected = expected(sets);
    let pages = FORMATS.map(|format| {
        let page = streamed(format, sets, &[], usize::MAX / 2);
        let pieces = streamed(format, sets, &[], enough);
        assert!(page == pieces, "{format:?} in pieces of {enough}: {} and {}", page.len(), pieces.len());
        page
    });
    assert_eq!(read_text(&pages[0]), expected);
    let labels = |samples: Vec<Sample>| samples.into_iter().map(|(labels, _)| labels).collect::<Vec<_>>();
    let expected: Vec<_> =
        expected.into_iter().map(|(name, _, _, samples)| (name, labels(samples))).collect();
    assert_eq!(read_messages(&pages[2]), expected);
    let read = openmetrics::read(std::str::from_utf8(&pages[1]).expect("UTF-8"));
    assert_eq!(read.len(), expected.len());
}

/// Labels of a member, some of which its samples have too.
fn labels() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = select(vec!["service", "instance", "cmd", "db", "z"]);
    let value = prop_oneof![select(vec!["a", "b", ""]).prop_map(str::to_owned), random::words()];
    vec((name.prop_map(str::to_owned), value), 0..4)
}

fn fleet() -> impl Strategy<Value = Vec<Labelled>> {
    let member = (labels(), vec(random::page(), 0..3)).prop_map(|(labels, pages)| {
        let parts: Vec<_> = pages.iter().map(|page| random::record(page)).collect();
        let labels: Vec<_> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        labelled(&labels, &parts)
    });
    vec(member, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_fleet_is_read_back_whole_and_without_duplicates(sets in fleet(), enough in 1..3_000usize) {
        check(&sets, enough);
    }

    #[test]
    fn one_member_without_labels_is_its_page(pages in vec(random::page(), 0..4), enough in 1..3_000usize) {
        let parts: Vec<_> = pages.iter().map(|page| random::record(page)).collect();
        let sets = [labelled(&[], &parts)];
        for format in FORMATS {
            let mut page = vec![];
            write(format, &mut page, &Page::new(&parts, &[]));
            prop_assert_eq!(streamed(format, &sets, &[], enough), page);
        }
    }

    #[test]
    fn a_filter_keeps_what_a_page_keeps(pages in vec(random::page(), 0..4), names in vec(random::name(), 1..4)) {
        let parts: Vec<_> = pages.iter().map(|page| random::record(page)).collect();
        let sets = [labelled(&[], &parts)];
        for format in FORMATS {
            let mut page = vec![];
            write(format, &mut page, &Page::new(&parts, &names));
            prop_assert_eq!(streamed(format, &sets, &names, 100), page);
        }
    }
}

static UP: Desc = Desc::gauge("redis_up", "Up.");
static CALLS: Desc = Desc::counter("redis_commands_total", "Calls.").labels(&["cmd"]);
static LATENCY: Desc = Desc::histogram("redis_latency_usec", "Run times.").labels(&["cmd"]);

/// What one server has.
fn machine(number: usize, commands: usize) -> Families {
    let mut out = Builder::new();
    out.push(&UP, 1.0);
    let (calls, latency) = (out.family(&CALLS), out.family(&LATENCY));
    for command in 0..commands {
        let command = format!("command{command}");
        out.sample(calls, &[&command], number as f64);
        out.distribution(latency, &[&command], [(1.0, 1.0), (2.0, 2.0)], 3.5, 3);
    }
    out.finish()
}

#[test]
fn labels_come_first_escaped_and_give_way_to_own_ones() {
    let machine = machine(7, 1);
    let sets = [labelled(&[("service", "a\"b\\\n"), ("cmd", "x")], &[machine])];
    let page = String::from_utf8(streamed(Format::Text, &sets, &[], 10)).expect("UTF-8");
    let escaped = r#"service="a\"b\\\n""#;
    let expected = format!(
        "# HELP redis_commands_total Calls.\n# TYPE redis_commands_total counter\n\
         redis_commands_total{{{escaped},cmd=\"command0\"}} 7\n\
         # HELP redis_latency_usec Run times.\n# TYPE redis_latency_usec histogram\n\
         redis_latency_usec_bucket{{{escaped},cmd=\"command0\",le=\"1\"}} 1\n\
         redis_latency_usec_bucket{{{escaped},cmd=\"command0\",le=\"2\"}} 2\n\
         redis_latency_usec_bucket{{{escaped},cmd=\"command0\",le=\"+Inf\"}} 3\n\
         redis_latency_usec_sum{{{escaped},cmd=\"command0\"}} 3.5\n\
         redis_latency_usec_count{{{escaped},cmd=\"command0\"}} 3\n\
         # HELP redis_up Up.\n# TYPE redis_up gauge\n\
         redis_up{{cmd=\"x\",{escaped}}} 1\n"
    );
    assert_eq!(page, expected);
}

#[test]
fn members_that_come_to_the_same_series_write_it_once() {
    let mut out = Builder::new();
    let calls = out.family(&CALLS);
    out.sample(calls, &[], 5.0);
    out.push(&UP, 1.0);
    let without_labels = out.finish();
    let sets = [
        labelled(&[("service", "s")], &[machine(1, 2)]),
        // Its sample without labels gets those of the first member's.
        labelled(&[("service", "s"), ("cmd", "command1")], std::slice::from_ref(&without_labels)),
        // Its own labels stand in place of the one that tells it from the first.
        labelled(&[("service", "s"), ("cmd", "other")], &[machine(2, 3)]),
        // The same labels: the same member.
        labelled(&[("cmd", "other"), ("service", "s"), ("empty", "")], std::slice::from_ref(&without_labels)),
    ];
    check(&sets, 64);
    let families = read_text(&streamed(Format::Text, &sets, &[], 64));
    let calls: Vec<_> =
        families[0].3.iter().map(|(labels, value)| (&*labels[0].1, f64::from_bits(*value))).collect();
    assert_eq!(calls, [("command0", 1.0), ("command1", 1.0), ("other", 5.0), ("command2", 2.0)]);
}

#[test]
fn pieces_of_any_size_make_the_same_page() {
    let instances = ["a:1", "b:2", "c:3"];
    let member = |(number, instance): (usize, &&str)| {
        labelled(&[("service", "s"), ("instance", instance)], &[machine(number, 3), machine(9, number)])
    };
    let sets: Vec<_> = instances.iter().enumerate().map(member).collect();
    for format in FORMATS {
        let page = streamed(format, &sets, &[], usize::MAX / 2);
        for enough in 0..page.len() + 2 {
            assert!(streamed(format, &sets, &[], enough) == page, "{format:?} {enough}");
        }
    }
    check(&sets, 64);
}

#[test]
fn no_piece_is_much_larger_than_it_is_to_be() {
    let sets: Vec<_> = (0..300)
        .map(|number| labelled(&[("instance", &*format!("host-{number}:6379"))], &[machine(number, 50)]))
        .collect();
    for format in FORMATS {
        let mut stream = Stream::new(format, sets.clone(), &[]);
        let (mut out, mut total, mut largest) = (Vec::new(), 0, 0);
        while stream.write_some(&mut out, 10_000) {
            (total, largest) = (total + out.len(), largest.max(out.len()));
            out.clear();
        }
        assert!(total > 1_000_000 && largest < 11_000, "{format:?}: {largest} of {total} bytes");
    }
}
