//! What a receiver asks of a request of remote write 2.0, rule by rule: the groups symbols, samples, labels and
//! metadata of the sender tests of `prometheus/compliance`, asked of what the encoder writes.

use crate::write::{Line, Request, checked};
use exposition::remote_write::{Encoder, STALE, Scrape, count, split_by_target, to_v1, v1_metadata};
use exposition::{Builder, Desc, Families, otlp};
use std::sync::Arc;

static GAUGE: Desc = Desc::gauge("redis_value", "A value.").labels(&["a", "b"]);
static COUNTER: Desc = Desc::counter("redis_events_total", "Events.").labels(&["a"]);
static UPPER: Desc = Desc::gauge("redis_upper", "").labels(&["Zone", "_x", "zone"]);
static LE: Desc = Desc::histogram("redis_le", "A histogram with a label of its buckets.").labels(&["le"]);
static SUMS: Desc = Desc::gauge("redis_le_sum", "What a histogram has, too.");

const NOW: i64 = 1_785_926_400_123;

type Given<'a> = &'a [(&'a str, &'a str)];

type Parts<'a> = &'a [Arc<Families>];

fn labels(given: Given<'_>) -> Vec<(Box<str>, Box<str>)> {
    given.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn families(record: impl FnOnce(&mut Builder)) -> Arc<Families> {
    let mut out = Builder::new();
    record(&mut out);
    Arc::new(out.finish())
}

fn gauge(values: &[(&[&str], f64)]) -> Arc<Families> {
    families(|out| {
        let family = out.family(&GAUGE);
        values.iter().for_each(|(labels, value)| out.sample(family, labels, *value));
    })
}

fn encode(now: Parts<'_>, before: Parts<'_>, target: Given<'_>) -> (Request, Vec<Line>) {
    let mut encoder = Encoder::new();
    let scrape = Scrape { parts: now, labels: &labels(target), timestamp: NOW, since: None };
    encoder.push(&scrape, before);
    checked(&encoder.finish().body)
}

/// Series as `name{a=b,…} value`; `end` is a stale marker.
fn shown(lines: &[Line]) -> Vec<String> {
    let show = |(labels, bits, ..): &Line| {
        let name = labels.iter().find(|(name, _)| name == "__name__").expect("a name");
        let others = labels.iter().filter(|(name, _)| name != "__name__").map(|(n, v)| format!("{n}={v}"));
        let value = if *bits == STALE { "end".to_owned() } else { f64::from_bits(*bits).to_string() };
        format!("{}{{{}}} {value}", name.1, others.collect::<Vec<_>>().join(","))
    };
    lines.iter().map(show).collect()
}

fn check(now: Parts<'_>, before: Parts<'_>, target: Given<'_>, expected: &[&str]) {
    assert_eq!(shown(&encode(now, before, target).1), expected);
}

#[test]
fn every_value_has_the_bits_that_it_had() {
    let values = [
        0.0,
        -0.0,
        1.0,
        -7.0,
        9_007_199_254_740_993.0,
        1e308,
        1e-308,
        f64::MIN_POSITIVE / 4.0,
        f64::MAX,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        f64::from_bits(0x7ff8_0000_0000_0001),
        f64::from_bits(0xfff8_0000_dead_beef),
    ];
    for value in values {
        let mut encoder = Encoder::new();
        let parts = [gauge(&[(&["x"], value)])];
        encoder.push(&Scrape { parts: &parts, labels: &[], timestamp: NOW, since: None }, &[]);
        let body = encoder.finish().body;
        let (_, lines) = checked(&body);
        assert_eq!((lines[0].1, lines[0].2), (value.to_bits(), NOW), "{value}");
        let [again] = &split_by_target(&body).expect("ours")[..] else { panic!("one target") };
        assert_eq!(checked(&again.body).1, lines, "{value}");
    }
}

#[test]
fn labels_are_sorted_by_bytes_and_a_label_of_the_sample_hides_that_of_the_target() {
    let upper = families(|out| {
        let family = out.family(&UPPER);
        out.sample(family, &["1", "2", "3"], 4.0);
    });
    let (_, lines) = encode(&[upper], &[], &[("Job", "j"), ("job", "r")]);
    let names: Vec<_> = lines[0].0.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["Job", "Zone", "__name__", "_x", "job", "zone"]);

    let own = gauge(&[(&["own"], 1.0)]);
    check(&[own], &[], &[("a", "target"), ("b", "target")], &["redis_value{a=own,b=target} 1"]);
    // An empty label is none, and hides all the same.
    let empty = gauge(&[(&["", "x"], 1.0)]);
    check(&[empty], &[], &[("a", "target"), ("c", "")], &["redis_value{b=x} 1"]);
    // What tells buckets apart is not to be overridden.
    let le = families(|out| {
        let family = out.family(&LE);
        out.distribution(family, &["own"], [(1.0, 2.0)], 3.0, 4);
    });
    let expected = [
        "redis_le_bucket{le=1.0} 2",
        "redis_le_bucket{le=+Inf} 4",
        "redis_le_sum{le=own} 3",
        "redis_le_count{le=own} 4",
    ];
    check(&[le], &[], &[], &expected);
}

#[test]
fn long_labels_many_labels_and_any_text_are_sent_as_they_are() {
    let long = "ä".repeat(50_000);
    let text = "line\nquote\" back\\slash \u{0}\u{feff}𝄞";
    let given: Vec<(String, String)> = (0..300).map(|i| (format!("l{i:03}"), format!("v{i}"))).collect();
    let many: Vec<_> = given.iter().map(|(name, value)| (&**name, &**value)).collect();
    let (_, lines) = encode(&[gauge(&[(&[&long, text], 1.0)])], &[], &many);
    let labels = &lines[0].0;
    assert_eq!(labels.len(), 303);
    assert!(labels.contains(&("a".into(), long)) && labels.contains(&("b".into(), text.into())));
    assert!(given.iter().all(|label| labels.contains(label)));
}

#[test]
fn a_series_is_sent_once_whatever_made_it_twice() {
    let target: Given<'_> = &[("a", "x")];
    // A part that says what another said; a label that says what the target's says; an empty one.
    check(&[gauge(&[(&["y"], 1.0)]), gauge(&[(&["y"], 2.0)])], &[], target, &["redis_value{a=y} 1"]);
    check(&[gauge(&[(&[], 1.0), (&["x"], 2.0)])], &[], target, &["redis_value{a=x} 1"]);
    check(&[gauge(&[(&["x"], 1.0), (&["x", ""], 2.0)])], &[], target, &["redis_value{a=x} 1"]);
    // The sum of a histogram, and a gauge that is called like it.
    let both = families(|out| {
        let family = out.family(&LE);
        out.distribution(family, &[], [(1.0, 2.0), (1.0, 3.0)], 3.0, 4);
        out.push(&SUMS, 9.0);
    });
    let expected =
        ["redis_le_bucket{le=1.0} 2", "redis_le_bucket{le=+Inf} 4", "redis_le_sum{} 3", "redis_le_count{} 4"];
    check(&[both], &[], &[], &expected);
}

#[test]
fn what_has_ended_is_said_once_and_of_nothing_else() {
    let (one, two) = (gauge(&[(&["1"], 1.0)]), gauge(&[(&["1"], 1.0), (&["2"], 2.0)]));
    let histogram = |bounds: &[(f64, f64)]| {
        families(|out| {
            let family = out.family(&LE);
            out.distribution(family, &[], bounds.iter().copied(), 3.0, 4);
        })
    };
    let sum = families(|out| out.push(&SUMS, 9.0));
    let nothing: Parts<'_> = &[];
    let cases: [(Parts<'_>, Parts<'_>, &[&str]); 8] = [
        (nothing, nothing, &[]),
        (
            std::slice::from_ref(&two),
            std::slice::from_ref(&two),
            &["redis_value{a=1} 1", "redis_value{a=2} 2"],
        ),
        (
            std::slice::from_ref(&one),
            std::slice::from_ref(&two),
            &["redis_value{a=1} 1", "redis_value{a=2} end"],
        ),
        (nothing, &[two.clone(), one.clone()], &["redis_value{a=1} end", "redis_value{a=2} end"]),
        // It moved to another part.
        (
            &[one.clone(), two.clone()],
            std::slice::from_ref(&two),
            &["redis_value{a=1} 1", "redis_value{a=2} 2"],
        ),
        // A bucket less.
        (
            &[histogram(&[(1.0, 1.0)])],
            &[histogram(&[(1.0, 1.0), (2.0, 1.0)])],
            &[
                "redis_le_bucket{le=1.0} 1",
                "redis_le_bucket{le=+Inf} 4",
                "redis_le_sum{} 3",
                "redis_le_count{} 4",
                "redis_le_bucket{le=2.0} end",
            ],
        ),
        // A gauge became a part of a histogram, and the other way round.
        (
            &[histogram(&[])],
            std::slice::from_ref(&sum),
            &["redis_le_bucket{le=+Inf} 4", "redis_le_sum{} 3", "redis_le_count{} 4"],
        ),
        (
            std::slice::from_ref(&sum),
            &[histogram(&[])],
            &["redis_le_sum{} 9", "redis_le_bucket{le=+Inf} end", "redis_le_count{} end"],
        ),
    ];
    for (now, before, expected) in cases {
        check(now, before, &[], expected);
    }
}

#[test]
fn texts_of_many_targets_stand_in_the_table_once() {
    let mut encoder = Encoder::new();
    for i in 0..50 {
        let labels = labels(&[("instance", &format!("10.0.0.{i}:6379")), ("job", "redvigil")]);
        let parts = [gauge(&[(&["1", "2"], f64::from(i)), (&["2", "1"], 0.0)])];
        encoder.push(
            &Scrape { parts: &parts, labels: &labels, timestamp: NOW + i64::from(i), since: None },
            &[],
        );
    }
    let batch = encoder.finish();
    let (request, lines) = checked(&batch.body);
    // "", name, a, b, 1, 2, help, __name__, instance, job, redvigil, and the instances.
    assert_eq!((request.symbols.len(), lines.len()), (11 + 50, 100));
    assert_eq!((batch.size.min_timestamp, batch.size.max_timestamp), (NOW, NOW + 49));
    // Used again it begins anew, and the same makes the same.
    let parts = [gauge(&[(&["1"], 1.0)])];
    let scrape = Scrape { parts: &parts, labels: &[], timestamp: NOW, since: None };
    encoder.push(&scrape, &[]);
    let again = encoder.finish();
    let mut fresh = Encoder::new();
    fresh.push(&scrape, &[]);
    assert_eq!(fresh.finish(), again);
}

#[test]
fn a_start_is_said_of_what_counts_and_never_of_an_end() {
    let counted = |a: &str| {
        families(|out| {
            let family = out.family(&COUNTER);
            out.sample(family, &[a], 5.0);
            let family = out.family(&GAUGE);
            out.sample(family, &[a], 6.0);
        })
    };
    let mut encoder = Encoder::new();
    let parts = [counted("new")];
    let scrape = Scrape { parts: &parts, labels: &[], timestamp: NOW, since: Some(NOW - 5) };
    encoder.push(&scrape, &[counted("old")]);
    let (_, lines) = checked(&encoder.finish().body);
    let starts: Vec<_> = shown(&lines).into_iter().zip(lines.iter().map(|line| line.3)).collect();
    let expected = [
        ("redis_events_total{a=new} 5", NOW - 5),
        ("redis_events_total{a=old} end", 0),
        ("redis_value{a=new} 6", 0),
        ("redis_value{a=old} end", 0),
    ];
    assert_eq!(starts, expected.map(|(line, start)| (line.to_owned(), start)));
}

#[test]
fn a_few_bytes_do_not_become_very_many() {
    // A text of 1 MiB, and 200 series of 1,000 labels that are that text: half a megabyte that means 200 GiB.
    let mut body = vec![0x22, 0, 0x22, 0x80, 0x80, 0x40];
    body.extend(vec![b'x'; 1 << 20]);
    let mut series = vec![0x0a, 0xd0, 0x0f];
    series.extend(vec![1; 2000]);
    series.extend([0x12, 2, 0x10, 1]);
    for _ in 0..200 {
        body.extend([0x2a, 0xd7, 0x0f]);
        body.extend(&series);
    }
    assert_eq!(count(&body).map(|size| size.samples), Ok(200));
    for (name, fault) in [
        ("1.0", to_v1(&body).expect_err("too large")),
        ("otlp", otlp::from_remote_write(&body).expect_err("too large")),
    ] {
        assert_eq!(
            fault.to_string(),
            format!("what becomes of the request is too large, at byte {}", fault.at),
            "{name}"
        );
    }
    assert!(split_by_target(&body).is_err_and(|fault| fault.what.ends_with("too large")));
    assert_eq!(v1_metadata(&body), Ok(vec![]));
}

#[test]
fn what_is_wrong_with_a_body_is_said_with_its_place() {
    let series = |content: &[u8]| [&[0x22, 0, 0x2a, content.len() as u8], content].concat();
    let cases: &[(Vec<u8>, &str, usize)] = &[
        (vec![0x22, 1], "a field of the request is malformed", 2),
        (vec![0x20, 1], "a field of the request is malformed", 2),
        (vec![0x22, 1, b'x'], "the first symbol is not the empty one", 3),
        (vec![0x22, 0, 0x22, 1, 0xff], "a symbol is no text", 5),
        (series(&[0x0a, 2, 0, 9]), "there is no symbol of that number", 8),
        (series(&[0x0a, 1, 0]), "a label has no value", 7),
        (series(&[0x0a, 1, 0x80]), "the number of a label is malformed", 7),
        (series(&[0x08, 1]), "a field of a series is malformed", 6),
        (series(&[0x12, 2, 0x08, 1]), "a number of a sample is of another type", 8),
        (series(&[0x12, 1, 0x09]), "a field of a sample is malformed", 7),
        (series(&[0x2a, 2, 0x18, 7]), "there is no symbol of that number", 8),
        (series(&[0x2a, 2, 0x1a, 0]), "a field of a series is malformed", 8),
    ];
    for (body, what, at) in cases {
        let fault = count(body).expect_err(what);
        assert_eq!((fault.what, fault.at), (*what, *at), "{body:?}");
        assert_eq!(to_v1(body), Err(fault));
        assert_eq!(v1_metadata(body), Err(fault));
        assert_eq!(split_by_target(body), Err(fault));
        assert_eq!(otlp::from_remote_write(body), Err(fault));
    }
    // Fields of a later version are passed over.
    assert_eq!(count(&[0x22, 0, 0x3a, 1, 5, 0x2a, 5, 0x7a, 1, 5, 0x12, 0]).map(|size| size.samples), Ok(1));
}
