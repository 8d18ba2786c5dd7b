//! The Prometheus text format 0.0.4.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
//!
//! Names are written as they are: they come from our tables or from [`crate::family::clean_name`]. Values of
//! labels may hold anything that is valid UTF-8, zero bytes and carriage returns included.

use crate::family::{Kind, SampleRef, Value};
use crate::merge::Page;
use crate::number;

/// Appends `page` to `out`.
pub fn write(out: &mut Vec<u8>, page: &Page<'_>) {
    let mut series = Series::default();
    for family in page.families() {
        let (name, kind) = (family.name(), family.kind());
        head(out, name, kind, family.help());
        family.for_each(|it| sample(out, &mut series, name, kind, &it, &[]));
    }
}

/// Appends what is said of a family before its samples.
pub(crate) fn head(out: &mut Vec<u8>, name: &str, kind: Kind, help: &str) {
    append(out, &["# HELP ", name, " "]);
    escape(out, help, false);
    append(out, &["\n# TYPE ", name, " ", kind.as_str(), "\n"]);
}

/// Appends the lines of a sample. `more` are labels that come before its own, as [`label`] writes them.
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
            append(out, &[name]);
            labels(out, sample, more);
            value_of_line(out, value);
        }
        Value::Distribution { points, sum, count } => {
            let (suffix, bound_label) = match kind {
                Kind::Histogram => ("_bucket", "le"),
                _ => ("", "quantile"),
            };
            series.prepare(&[name, suffix], sample, more, bound_label);
            for (bound, value) in points.iter() {
                out.extend_from_slice(&series.up_to_bound);
                number::write(out, bound);
                append(out, &["\"}"]);
                value_of_line(out, value);
            }
            if kind == Kind::Histogram {
                out.extend_from_slice(&series.up_to_bound);
                append(out, &["+Inf\"}"]);
                value_of_line(out, count as f64);
            }
            for (suffix, value) in [("_sum", sum), ("_count", count as f64)] {
                append(out, &[name, suffix]);
                out.extend_from_slice(&series.labels);
                value_of_line(out, value);
            }
        }
    }
}

/// What the many lines of one distribution share, put together once.
#[derive(Default)]
pub(crate) struct Series {
    /// `{cmd="get"}`, or nothing.
    pub labels: Vec<u8>,
    /// `name_bucket{cmd="get",le="`.
    pub up_to_bound: Vec<u8>,
}

impl Series {
    /// Gets ready for `sample`, whose points bear their bound in the label `bound_label`.
    pub fn prepare(&mut self, name: &[&str], sample: &SampleRef<'_>, more: &[u8], bound_label: &str) {
        self.labels.clear();
        labels(&mut self.labels, sample, more);
        self.up_to_bound.clear();
        append(&mut self.up_to_bound, name);
        match self.labels.split_last() {
            Some((_brace, open)) => {
                self.up_to_bound.extend_from_slice(open);
                self.up_to_bound.push(b',');
            }
            None => self.up_to_bound.push(b'{'),
        }
        append(&mut self.up_to_bound, &[bound_label, "=\""]);
    }
}

/// Appends pieces of text.
pub(crate) fn append(out: &mut Vec<u8>, pieces: &[&str]) {
    for piece in pieces {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// Appends `{a="b",c="d"}`, or nothing where there are no labels.
pub(crate) fn labels(out: &mut Vec<u8>, sample: &SampleRef<'_>, more: &[u8]) {
    let mut separator = "{";
    if !more.is_empty() {
        out.push(b'{');
        out.extend_from_slice(more);
        separator = ",";
    }
    for (name, value) in sample.labels() {
        append(out, &[separator]);
        quoted(out, name, value);
        separator = ",";
    }
    if separator == "," {
        out.push(b'}');
    }
}

/// Appends a label to others, which may be none.
pub(crate) fn label(out: &mut Vec<u8>, name: &str, value: &str) {
    if !out.is_empty() {
        out.push(b',');
    }
    quoted(out, name, value);
}

/// Appends `a="b"`.
fn quoted(out: &mut Vec<u8>, name: &str, value: &str) {
    append(out, &[name, "=\""]);
    escape(out, value, true);
    out.push(b'"');
}

/// Appends the value and ends the line.
pub(crate) fn value_of_line(out: &mut Vec<u8>, value: f64) {
    out.push(b' ');
    number::write(out, value);
    out.push(b'\n');
}

/// Appends `text` with a backslash before each backslash and line end, and with `quotes` before each `"`.
pub(crate) fn escape(out: &mut Vec<u8>, text: &str, quotes: bool) {
    let mut rest = text.as_bytes();
    let special = |b: &u8| matches!(b, b'\\' | b'\n') || (quotes && *b == b'"');
    // Hardly any text has something to escape. Looking at all bytes, without leaving at the first hit, is
    // what the compiler turns into a few wide instructions.
    if rest.iter().fold(false, |found, b| found | special(b)) {
        while let Some(at) = rest.iter().position(special) {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(match rest[at] {
                b'\n' => b"\\n",
                b'"' => b"\\\"",
                _ => b"\\\\",
            });
            rest = &rest[at + 1..];
        }
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
