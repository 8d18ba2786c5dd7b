//! OpenMetrics 1.0: its grammar, and its rules about kinds, names, groups and values.

use super::{Cursor, Family, Sample, sample};
use std::collections::HashSet;

/// Reads a page. Panics with the reason where it is not valid.
pub fn read(page: &str) -> Vec<Family> {
    let lines = page.strip_suffix("# EOF\n").expect("the page ends with EOF");
    let mut families: Vec<Family> = vec![];
    for line in lines.split_terminator('\n') {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a kind");
            assert!(["counter", "gauge", "histogram", "summary", "unknown"].contains(&kind), "{kind}");
            families.push(Family { name: name.into(), kind: kind.into(), ..Family::default() });
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and a text");
            let family = families.last_mut().expect("TYPE comes first");
            assert_eq!(family.name, name);
            assert!(family.help.is_none() && family.samples.is_empty(), "one HELP before the samples");
            // The same escapes as in labels: a quote that is not escaped would end the text early.
            let quoted = format!("{help}\"");
            let mut cursor = Cursor { rest: &quoted };
            family.help = Some(cursor.quoted());
            assert_eq!(cursor.rest, "");
        } else {
            families.last_mut().expect("TYPE comes first").samples.push(sample(line));
        }
    }
    let mut claimed = HashSet::new();
    for family in &families {
        for suffix in
            [&[""], suffixes(&family.kind), created(&family.kind)].concat().iter().collect::<HashSet<_>>()
        {
            let name = format!("{}{suffix}", family.name);
            assert!(claimed.insert(name.clone()), "{name} is claimed once");
        }
        check(family);
    }
    families
}

fn suffixes(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" => &["_total"],
        "histogram" => &["_bucket", "_sum", "_count"],
        "summary" => &["", "_sum", "_count"],
        _ => &[""],
    }
}

fn created(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" | "histogram" | "summary" => &["_created"],
        _ => &[],
    }
}

fn check(family: &Family) {
    let mut groups: Vec<Group<'_>> = vec![];
    let mut seen = HashSet::new();
    for sample in &family.samples {
        let suffix = sample.name.strip_prefix(&*family.name).expect("the name begins as its family's");
        let kind = &*family.kind;
        assert!(suffixes(kind).contains(&suffix), "{} in a {kind} {}", sample.name, family.name);
        assert!(seen.insert((&sample.name, &sample.labels)), "once: {sample:?}");
        let bound_label = match (kind, suffix) {
            ("histogram", "_bucket") => "le",
            ("summary", "") => "quantile",
            _ => "",
        };
        let labels: Vec<_> = sample.labels.iter().filter(|(name, _)| name != bound_label).collect();
        if groups.last().is_none_or(|group| group.labels != labels) {
            assert!(
                groups.iter().all(|group| group.labels != labels),
                "groups are not interleaved: {labels:?}"
            );
            groups.push(Group { labels, ..Group::default() });
        }
        let group = groups.last_mut().expect("just made");
        match (kind, suffix) {
            ("histogram", "_bucket") => group.buckets.push((bound(sample, "le"), whole(sample))),
            ("summary", "") => {
                let quantile = bound(sample, "quantile");
                assert!((0.0..=1.0).contains(&quantile), "{quantile} is between 0 and 1");
                assert!(sample.value.is_nan() || sample.value >= 0.0, "not negative: {sample:?}");
            }
            ("counter", _) => assert!(sample.value >= 0.0, "a count: {sample:?}"),
            (_, "_sum") => {
                assert!(sample.value >= 0.0, "a sum of counts: {sample:?}");
                group.sum = true;
            }
            (_, "_count") => group.count = Some(whole(sample)),
            _ => {}
        }
    }
    if family.kind == "histogram" {
        groups.iter().for_each(Group::check_histogram);
    }
}

/// Lines of one family whose labels are the same but for bounds.
#[derive(Default)]
struct Group<'a> {
    labels: Vec<&'a (String, String)>,
    buckets: Vec<(f64, u64)>,
    sum: bool,
    count: Option<u64>,
}

impl Group<'_> {
    fn check_histogram(&self) {
        let buckets = &self.buckets;
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "buckets rise: {buckets:?}");
        let last = buckets.last().expect("a histogram has a bucket");
        assert_eq!(last.0, f64::INFINITY);
        assert!(buckets.iter().all(|(bound, _)| *bound >= 0.0), "a sum needs bounds that are not negative");
        assert_eq!(self.sum, self.count.is_some(), "both or none of sum and count");
        assert!(self.count.is_none_or(|count| count == last.1), "the last bucket holds all");
    }
}

/// A bound in canonical form: what is finite has a point or an exponent.
fn bound(sample: &Sample, label: &str) -> f64 {
    let (_, text) = sample.labels.iter().find(|(name, _)| name == label).expect("points have a bound");
    assert!(text == "+Inf" || text.contains(['.', 'e']), "canonical: {text}");
    text.parse().expect("a number")
}

/// A count is a whole number that is written as one.
fn whole(sample: &Sample) -> u64 {
    sample.number.parse().expect("a whole number")
}
