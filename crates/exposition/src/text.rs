//! The Prometheus text format 0.0.4.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use crate::family::{Kind, SampleRef, Value};
use crate::merge::Page;
use crate::number;

/// Appends `page` to `out`.
pub fn write(out: &mut Vec<u8>, page: &Page<'_>) {
    for family in page.families() {
        let (name, kind) = (family.name().as_bytes(), family.kind());
        out.extend_from_slice(b"# HELP ");
        out.extend_from_slice(name);
        out.push(b' ');
        escape(out, family.help(), false);
        out.extend_from_slice(b"\n# TYPE ");
        out.extend_from_slice(name);
        out.push(b' ');
        out.extend_from_slice(kind.as_str().as_bytes());
        out.push(b'\n');
        family.for_each(|sample| match sample.value() {
            Value::Number(value) => line(out, name, b"", &sample, None, value),
            Value::Distribution { points, sum, count } => {
                let (label, suffix): (_, &[u8]) = match kind {
                    Kind::Histogram => ("le", b"_bucket"),
                    _ => ("quantile", b""),
                };
                for (bound, value) in points {
                    line(out, name, suffix, &sample, Some((label, *bound)), *value);
                }
                if kind == Kind::Histogram {
                    line(out, name, suffix, &sample, Some((label, f64::INFINITY)), count as f64);
                }
                line(out, name, b"_sum", &sample, None, sum);
                line(out, name, b"_count", &sample, None, count as f64);
            }
        });
    }
}

/// One line: name, suffix, labels (with `le` or `quantile` last), value.
fn line(
    out: &mut Vec<u8>,
    name: &[u8],
    suffix: &[u8],
    sample: &SampleRef<'_>,
    bound: Option<(&str, f64)>,
    value: f64,
) {
    out.extend_from_slice(name);
    out.extend_from_slice(suffix);
    let mut separator = b'{';
    for (name, value) in sample.labels() {
        out.push(separator);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        escape(out, value, true);
        out.push(b'"');
        separator = b',';
    }
    if let Some((name, value)) = bound {
        out.push(separator);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        number::write(out, value);
        out.push(b'"');
        separator = b',';
    }
    if separator == b',' {
        out.push(b'}');
    }
    out.push(b' ');
    number::write(out, value);
    out.push(b'\n');
}

/// Escapes `\` and line ends, in label values (`quotes`) also `"`.
fn escape(out: &mut Vec<u8>, text: &str, quotes: bool) {
    let mut rest = text.as_bytes();
    let special = |b: &u8| matches!(b, b'\\' | b'\n') || (quotes && *b == b'"');
    while let Some(at) = rest.iter().position(special) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(match rest[at] {
            b'\n' => b"\\n",
            b'"' => b"\\\"",
            _ => b"\\\\",
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use crate::{Builder, Desc, merge::Page};

    static GAUGE: Desc = Desc::gauge("g", "With \\ and\nline end.").labels(&["l"]);
    static HISTOGRAM: Desc = Desc::histogram("h", "H.").labels(&["cmd"]);
    static SUMMARY: Desc = Desc::summary("s", "S.");

    #[test]
    fn all_kinds_in_one_page() {
        let mut out = Builder::new();
        let gauge = out.family(&GAUGE);
        out.sample(gauge, &["a\"b\\c\nd"], 1.5);
        let histogram = out.family(&HISTOGRAM);
        out.distribution(histogram, &["get"], [(1.0, 2.0), (16.0, 3.0)], 20.0, 4);
        let summary = out.family(&SUMMARY);
        out.distribution(summary, &[], [], 0.25, 1);
        let set = out.finish();
        let mut text = vec![];
        super::write(&mut text, &Page::new([&set], &[]));
        assert_eq!(
            String::from_utf8(text).expect("text is UTF-8"),
            "# HELP g With \\\\ and\\nline end.\n# TYPE g gauge\ng{l=\"a\\\"b\\\\c\\nd\"} 1.5\n\
             # HELP h H.\n# TYPE h histogram\n\
             h_bucket{cmd=\"get\",le=\"1\"} 2\nh_bucket{cmd=\"get\",le=\"16\"} 3\n\
             h_bucket{cmd=\"get\",le=\"+Inf\"} 4\nh_sum{cmd=\"get\"} 20\nh_count{cmd=\"get\"} 4\n\
             # HELP s S.\n# TYPE s summary\ns_sum 0.25\ns_count 1\n"
        );
    }
}
