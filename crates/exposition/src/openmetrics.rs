//! OpenMetrics 1.0 text: always valid, whatever is on the page.
//!
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>
//!
//! The format forbids some of what text 0.0.4 allows, so that series are not the same in both:
//!
//! | what | text 0.0.4 | OpenMetrics |
//! |---|---|---|
//! | the series of a counter whose name lacks `_total` | `x` | `x_total` |
//! | the family of a counter, in its `TYPE` and `HELP` lines | `x_total` | `x` |
//! | bounds and quantiles that are whole numbers | `le="1"` | `le="1.0"` |
//! | quantiles of a summary that has one above 1: they are percents | `quantile="99.9"` | `quantile="0.999"` |
//! | kinds | `untyped` | `unknown` |
//! | a counter with a value that is negative or not a number | `counter` | `unknown`; the series is still `x_total` |
//!
//! Some things are left out: quantiles below 0 or above 100, or with a negative value; buckets with a negative
//! bound, a count that is not whole, below that of the bucket before or above that of all; a sum that is
//! negative or not a number, and in a histogram then also the count.
//!
//! No two families may claim the same name, and each claims more than it shows: a counter `x` also claims
//! `x_total` and `x_created`, a summary `x_sum`, `x_count` and `x_created`, a histogram `x_bucket` besides.
//! Otherwise a gauge keeps its name, one that ends in `_total` or `_count` too. Where claims clash, families
//! whose series are called the same in both formats go first, then those earlier in the alphabet. A counter that
//! comes too late becomes `unknown` under the full name, which keeps the name of its series. Any other, and it if
//! that name is taken as well, gets its kind as a suffix, and a number where that is still not enough:
//! beside a summary `x`, a gauge `x_count` is `x_count_gauge`.

use crate::family::{Kind, SampleRef, Value};
use crate::merge::Page;
use crate::number;
use crate::points::Points;
use crate::text::{Series, append, escape, labels, value_of_line};
use std::borrow::Cow;
use std::collections::HashSet;

/// Appends `page` to `out`.
pub fn write(out: &mut Vec<u8>, page: &Page<'_>) {
    let mut series = Series::default();
    let candidates: Vec<_> = page
        .families()
        .map(|family| Candidate {
            name: family.name(),
            kind: family.kind(),
            counts: family.kind() == Kind::Counter && all_count(|visit| family.for_each(visit)),
        })
        .collect();
    for (family, (name, kind)) in page.families().zip(name_families(&candidates)) {
        head(out, &name, kind, family.help());
        family.for_each(|it| sample(out, &mut series, &name, kind, &it, &[]));
    }
    end(out);
}

/// Appends what is said of a family before its samples.
pub(crate) fn head(out: &mut Vec<u8>, name: &str, kind: Kind, help: &str) {
    append(out, &["# TYPE ", name, " ", type_word(kind), "\n"]);
    if !help.is_empty() {
        append(out, &["# HELP ", name, " "]);
        escape(out, help, true);
        out.push(b'\n');
    }
}

/// Appends the end of a page.
pub(crate) fn end(out: &mut Vec<u8>) {
    append(out, &["# EOF\n"]);
}

/// Appends the lines of a sample, where the family has that name and kind here. `more` are labels that come
/// before its own, as `text::label` writes them.
#[inline]
pub(crate) fn sample(
    out: &mut Vec<u8>,
    series: &mut Series,
    name: &str,
    kind: Kind,
    sample: &SampleRef<'_>,
    more: &[u8],
) {
    match sample.value() {
        Value::Number(value) => {
            append(out, &[name, if kind == Kind::Counter { "_total" } else { "" }]);
            labels(out, sample, more);
            value_of_line(out, value);
        }
        Value::Distribution { points, sum, count } => {
            match kind {
                Kind::Histogram => {
                    series.prepare(&[name, "_bucket"], sample, more, "le");
                    buckets(out, series, points, count);
                }
                _ => {
                    series.prepare(&[name], sample, more, "quantile");
                    quantiles(out, series, points);
                }
            }
            // Both are counters in all but name. A histogram has either both or none.
            let sum = (sum >= 0.0).then_some(sum);
            if let Some(sum) = sum {
                append(out, &[name, "_sum"]);
                out.extend_from_slice(&series.labels);
                value_of_line(out, sum);
            }
            if sum.is_some() || kind != Kind::Histogram {
                append(out, &[name, "_count"]);
                out.extend_from_slice(&series.labels);
                whole_of_line(out, count);
            }
        }
    }
}

/// The name of the series of a family called `name`, unless names clash (see the head of this file).
/// Histograms and summaries add their suffixes to it as ever.
pub fn series_name(name: &str, kind: Kind) -> Cow<'_, str> {
    match kind {
        Kind::Counter if !name.ends_with("_total") => Cow::Owned(format!("{name}_total")),
        _ => Cow::Borrowed(name),
    }
}

fn type_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Untyped => "unknown",
        _ => kind.as_str(),
    }
}

fn buckets(out: &mut Vec<u8>, series: &Series, points: Points<'_>, count: u64) {
    let (mut last_bound, mut last_value) = (f64::NEG_INFINITY, 0.0);
    for (bound, value) in points.iter() {
        // No comparison holds for NaN.
        let rises = bound > last_bound && bound >= 0.0 && bound.is_finite() && value >= last_value;
        if rises && value.fract() == 0.0 && value as u64 <= count {
            out.extend_from_slice(&series.up_to_bound);
            number::write_as_float(out, bound);
            append(out, &["\"}"]);
            whole_of_line(out, value as u64);
            (last_bound, last_value) = (bound, value);
        }
    }
    out.extend_from_slice(&series.up_to_bound);
    append(out, &["+Inf\"}"]);
    whole_of_line(out, count);
}

fn quantiles(out: &mut Vec<u8>, series: &Series, points: Points<'_>) {
    let percents = points.iter().any(|(quantile, _)| quantile > 1.0);
    let mut last = f64::NEG_INFINITY;
    for (quantile, value) in points.iter() {
        let quantile = if percents { hundredth(quantile) } else { quantile };
        let negative = value < 0.0;
        if quantile > last && (0.0..=1.0).contains(&quantile) && !negative {
            out.extend_from_slice(&series.up_to_bound);
            number::write_as_float(out, quantile);
            append(out, &["\"}"]);
            value_of_line(out, value);
            last = quantile;
        }
    }
}

/// The point moves in the decimal: 99.9 becomes 0.999, whereas dividing gives 0.9990000000000001.
fn hundredth(percent: f64) -> f64 {
    format!("{percent}e-2").parse().unwrap_or(percent)
}

/// Appends a count and ends the line. Counts must not look like floats.
fn whole_of_line(out: &mut Vec<u8>, value: u64) {
    append(out, &[" ", itoa::Buffer::new().format(value), "\n"]);
}

/// A family that needs a name.
pub(crate) struct Candidate<'a> {
    /// Its name in other formats.
    pub name: &'a str,
    /// Its kind in other formats.
    pub kind: Kind,
    /// Whether all values are ones that a counter may have. Asked of counters only.
    pub counts: bool,
}

/// Whether all of the samples that are visited have values that a counter may have.
pub(crate) fn all_count<'a>(visit_each: impl FnOnce(&mut dyn FnMut(SampleRef<'a>))) -> bool {
    let mut all = true;
    visit_each(&mut |sample| all &= matches!(sample.value(), Value::Number(value) if value >= 0.0));
    all
}

/// Gives each family a name whose claims clash with those of no other, and a kind. They stay in their order.
pub(crate) fn name_families<'a>(families: &[Candidate<'a>]) -> Vec<(Cow<'a, str>, Kind)> {
    let keeps_its_series = |family: &Candidate<'_>| series_name(family.name, family.kind) == family.name;
    let mut order: Vec<_> = families.iter().enumerate().collect();
    order.sort_by_key(|(_, family)| !keeps_its_series(family));
    let mut taken = HashSet::new();
    let mut named: Vec<_> =
        order.into_iter().map(|(at, family)| (at, name_family(family, &mut taken))).collect();
    named.sort_unstable_by_key(|(at, _)| *at);
    named.into_iter().map(|(_, named)| named).collect()
}

/// Gives a family the first of its possible names that is free, and takes that.
fn name_family<'a>(family: &Candidate<'a>, taken: &mut HashSet<Cow<'a, str>>) -> (Cow<'a, str>, Kind) {
    let Candidate { name, kind, counts } = *family;
    let stem = match kind {
        Kind::Counter => name.strip_suffix("_total").unwrap_or(name),
        _ => name,
    };
    let may_count = kind == Kind::Counter && !stem.is_empty() && counts;
    // A counter that may not be called one is still found under the name that its series would have.
    let of_stem = |stem: Cow<'a, str>| match kind {
        Kind::Counter if !may_count => (Cow::Owned(format!("{stem}_total")), Kind::Untyped),
        _ => (stem, kind),
    };
    let first = of_stem(Cow::Borrowed(stem));
    let second = may_count.then(|| (series_name(name, kind), Kind::Untyped));
    let others = (1..).map(|number| {
        let number = if number == 1 { String::new() } else { format!("_{number}") };
        of_stem(Cow::Owned(format!("{stem}_{}{number}", type_word(kind))))
    });
    let mut possible = [first].into_iter().chain(second).chain(others);
    let (name, kind) = possible
        .find(|(name, kind)| !claims(name, *kind).any(|claim| taken.contains(&claim)))
        .expect("endless, and only so many are taken");
    taken.extend(claims(&name, kind));
    (name, kind)
}

/// All names that a family of that name and kind has for itself.
fn claims<'a>(name: &Cow<'a, str>, kind: Kind) -> impl Iterator<Item = Cow<'a, str>> {
    let suffixes: &[&str] = match kind {
        Kind::Counter => &["_total", "_created"],
        Kind::Histogram => &["_bucket", "_sum", "_count", "_created"],
        Kind::Summary => &["_sum", "_count", "_created"],
        Kind::Gauge | Kind::Untyped => &[],
    };
    let with = |suffix: &&str| Cow::Owned(format!("{name}{suffix}"));
    [name.clone()].into_iter().chain(suffixes.iter().map(with).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Builder;

    /// Writes families of (name, kind, one value) and compares what stands between `TYPE` and the value.
    fn check(families: &[(&str, Kind, f64)], expected: &str) {
        let mut out = Builder::new();
        for (name, kind, value) in families {
            let family = out.named_family(name, *kind, "");
            match kind {
                Kind::Histogram | Kind::Summary => out.distribution(family, &[], [], *value, 1),
                _ => out.sample(family, &[], *value),
            }
        }
        let set = out.finish();
        let mut text = vec![];
        write(&mut text, &Page::new([&set], &[]));
        let text = String::from_utf8(text).expect("text is UTF-8");
        assert_eq!(text.replace("# TYPE ", "").trim_end().trim_end_matches("# EOF"), expected);
    }

    #[test]
    fn a_counter_has_its_suffix_on_the_series_alone() {
        check(&[("a_total", Kind::Counter, 1.0)], "a counter\na_total 1\n");
        check(&[("a", Kind::Counter, 1.0)], "a counter\na_total 1\n");
        check(&[("total_a", Kind::Counter, 1e6)], "total_a counter\ntotal_a_total 1e+06\n");
    }

    #[test]
    fn gauges_keep_their_names_whatever_they_end_in() {
        for name in ["a_total", "a_count", "a_info", "a_bucket", "a_created"] {
            check(&[(name, Kind::Gauge, 1.0)], &format!("{name} gauge\n{name} 1\n"));
        }
        check(&[("a", Kind::Untyped, 1.0)], "a unknown\na 1\n");
    }

    #[test]
    fn what_no_counter_may_hold_is_unknown_under_the_same_name() {
        check(&[("a_total", Kind::Counter, -1.0)], "a_total unknown\na_total -1\n");
        check(&[("a", Kind::Counter, f64::NAN)], "a_total unknown\na_total NaN\n");
        check(&[("_total", Kind::Counter, 1.0)], "_total unknown\n_total 1\n");
    }

    #[test]
    fn of_families_that_clash_those_whose_series_keep_their_names_go_first() {
        use Kind::{Counter, Gauge, Histogram, Summary};
        for (families, expected) in [
            (
                &[("a", Gauge, 1.0), ("a_total", Counter, 2.0)][..],
                "a gauge\na 1\na_total unknown\na_total 2\n",
            ),
            (
                &[("a", Counter, 1.0), ("a_total", Gauge, 2.0)],
                "a_counter counter\na_counter_total 1\na_total gauge\na_total 2\n",
            ),
            (
                &[("a", Counter, 1.0), ("a_total", Counter, 2.0)],
                "a_counter counter\na_counter_total 1\na counter\na_total 2\n",
            ),
            (
                &[("a", Summary, 1.0), ("a_count", Gauge, 2.0)],
                "a summary\na_sum 1\na_count 1\na_count_gauge gauge\na_count_gauge 2\n",
            ),
            (
                &[("a", Summary, 1.0), ("a_count", Gauge, 2.0), ("a_count_gauge", Gauge, 3.0)],
                "a summary\na_sum 1\na_count 1\na_count_gauge gauge\na_count_gauge 2\n\
                 a_count_gauge_gauge gauge\na_count_gauge_gauge 3\n",
            ),
            (
                &[("a", Histogram, 1.0), ("a_sum", Counter, 2.0)],
                "a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\na_sum_total unknown\na_sum_total 2\n",
            ),
        ] {
            check(families, expected);
        }
    }

    fn check_points(kind: Kind, points: &[(f64, f64)], sum: f64, expected: &str) {
        let mut out = Builder::new();
        let family = out.named_family("a", kind, "");
        out.distribution(family, &[], points.iter().copied(), sum, 1_000_000);
        let set = out.finish();
        let mut text = vec![];
        write(&mut text, &Page::new([&set], &[]));
        let text = String::from_utf8(text).expect("text is UTF-8");
        let (_, lines) = text.split_once('\n').expect("the line of the type");
        assert_eq!(lines, format!("{expected}# EOF\n"));
    }

    #[test]
    fn percents_become_quantiles() {
        for (points, expected) in [
            (
                &[(50.0, 1.003), (99.0, f64::NAN), (99.9, 3.0), (100.0, 4.0)][..],
                "a{quantile=\"0.5\"} 1.003\na{quantile=\"0.99\"} NaN\na{quantile=\"0.999\"} 3\na{quantile=\"1.0\"} 4\n",
            ),
            (&[(0.5, 1.0), (0.99, 2.0)], "a{quantile=\"0.5\"} 1\na{quantile=\"0.99\"} 2\n"),
            (&[(0.0, 1.0), (1.0, 2.0)], "a{quantile=\"0.0\"} 1\na{quantile=\"1.0\"} 2\n"),
            (&[(0.5, 1.0), (50.0, 2.0)], "a{quantile=\"0.005\"} 1\na{quantile=\"0.5\"} 2\n"),
            (
                &[(-1.0, 1.0), (50.0, -2.0), (75.0, 3.0), (75.0, 4.0), (f64::NAN, 5.0), (1e9, 6.0)],
                "a{quantile=\"0.75\"} 3\n",
            ),
        ] {
            check_points(Kind::Summary, points, 7.0, &format!("{expected}a_sum 7\na_count 1000000\n"));
        }
    }

    #[test]
    fn buckets_that_cannot_be_are_left_out() {
        let points = [
            (f64::NAN, 1.0),
            (-1.0, 0.0),
            (1.0, 2.0),
            (1.0, 3.0),
            (2.0, 1.0),
            (2.5, 2.5),
            (1e6, 2.0),
            (1e7, f64::NAN),
            (2e7, 1e9),
            (f64::INFINITY, 1e6),
        ];
        let expected = "a_bucket{le=\"1.0\"} 2\na_bucket{le=\"1e+06\"} 2\na_bucket{le=\"+Inf\"} 1000000\n";
        check_points(Kind::Histogram, &points, 7.0, &format!("{expected}a_sum 7\na_count 1000000\n"));
        check_points(Kind::Histogram, &points, -7.0, expected);
        check_points(Kind::Histogram, &points, f64::NAN, expected);
        check_points(Kind::Summary, &[], f64::NAN, "a_count 1000000\n");
    }

    #[test]
    fn help_escapes_quotes_too() {
        static GAUGE: crate::Desc =
            crate::Desc::gauge("a", "With \\, \"quotes\" and\nline end.").labels(&["l"]);
        let mut out = Builder::new();
        let gauge = out.family(&GAUGE);
        out.sample(gauge, &["\"\\\n\r\0"], 1.0);
        let set = out.finish();
        let mut text = vec![];
        write(&mut text, &Page::new([&set], &[]));
        let expected = "# TYPE a gauge\n# HELP a With \\\\, \\\"quotes\\\" and\\nline end.\n\
                        a{l=\"\\\"\\\\\\n\r\0\"} 1\n# EOF\n";
        assert_eq!(String::from_utf8(text).expect("text is UTF-8"), expected);
    }
}
