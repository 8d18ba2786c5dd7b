//! Random families, full of what is unusual.

use exposition::{Builder, Desc, Families, Kind};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// What is recorded into one family.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub name: String,
    pub kind: Kind,
    pub help: String,
    pub samples: Vec<Sample>,
}

/// Label values, value or sum, points, count.
pub type Sample = (Vec<String>, f64, Vec<(f64, f64)>, u64);

/// Names that clash with one another in many ways.
pub fn name() -> impl Strategy<Value = String> {
    let suffixes = ["", "_total", "_created", "_sum", "_count", "_bucket", "_counter", "_gauge", "_summary"];
    (select(vec!["a", "redis_a", "redis_a_total"]), select(suffixes.to_vec()))
        .prop_map(|(a, b)| format!("{a}{b}"))
}

fn kind() -> impl Strategy<Value = Kind> {
    select(vec![Kind::Counter, Kind::Gauge, Kind::Histogram, Kind::Summary, Kind::Untyped])
}

/// Text with all that has a meaning somewhere in a format.
pub fn words() -> impl Strategy<Value = String> {
    let pieces =
        ["\"", "\\", "\n", "\r", "\0", "{", "}", ",", "=", "#", " ", "n", "ä", "\u{feff}", "𝄞", "word"];
    vec(select(pieces.to_vec()), 0..8).prop_map(|pieces| pieces.concat())
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![any::<u64>().prop_map(f64::from_bits), (0..2_000_000u32).prop_map(f64::from), 0.0..1.0]
}

/// Points that rise now and then.
fn points() -> impl Strategy<Value = Vec<(f64, f64)>> {
    let rising = (vec(1..1_000u32, 0..5)).prop_map(|steps| {
        let sums = steps.iter().scan(0, |sum, step| {
            *sum += step;
            Some((f64::from(*sum) / 10.0, f64::from(*sum)))
        });
        sums.collect()
    });
    prop_oneof![rising, vec((number(), number()), 0..5)]
}

/// Some families, of which several may have one name.
pub fn page() -> impl Strategy<Value = Vec<Recorded>> {
    let sample = (vec(words(), 0..4), number(), points(), 0..5_000u64);
    let family = (name(), kind(), words(), vec(sample, 0..6));
    vec(family.prop_map(|(name, kind, help, samples)| Recorded { name, kind, help, samples }), 0..8)
}

/// Records them.
pub fn record(page: &[Recorded]) -> Families {
    fn forever(text: &str) -> &'static str {
        Box::leak(text.to_owned().into_boxed_str())
    }
    let mut out = Builder::new();
    for Recorded { name, kind, help, samples } in page {
        let labels = &["z", "cmd", "db"];
        let desc = Desc { name: forever(name), kind: *kind, help: forever(help), labels };
        let family = out.family(Box::leak(Box::new(desc)));
        for (labels, value, points, count) in samples {
            let labels: Vec<_> = labels.iter().take(3).map(String::as_str).collect();
            match kind {
                Kind::Histogram | Kind::Summary => {
                    out.distribution(family, &labels, points.iter().copied(), *value, *count);
                }
                _ => out.sample(family, &labels, *value),
            }
        }
    }
    out.finish()
}
