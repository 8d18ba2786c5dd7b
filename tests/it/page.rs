//! What an answer says: a reader of Prometheus text of its own, which is strict about the form.
//!
//! It knows nothing of the writer in `crates/exposition`: what checks a page must not share its mistakes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Labels in the order of their names.
pub type Labels = BTreeMap<String, String>;

/// A page, family by family.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// By name.
    pub families: BTreeMap<String, Family>,
}

/// What stands under one TYPE line.
#[derive(Clone, Debug, Default)]
pub struct Family {
    /// `counter`, `gauge` …
    pub kind: String,
    /// Values by the name of the sample (with its `_sum` or `_bucket`) and its labels.
    pub samples: BTreeMap<(String, Labels), f64>,
}

impl Page {
    /// Reads a page; panics with the offending line where it is not well formed.
    pub fn parse(text: &str) -> Self {
        let mut page = Self::default();
        let mut current: Option<String> = None;
        assert!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                let family = Family { kind: kind.to_owned(), ..Family::default() };
                let twice = page.families.insert(name.to_owned(), family);
                assert!(twice.is_none(), "a family comes twice: {line}");
                current = Some(name.to_owned());
            } else if !line.starts_with("# HELP ") {
                let name = current.as_ref().unwrap_or_else(|| panic!("a sample without a family: {line}"));
                let family = page.families.get_mut(name).expect("it was put there at its TYPE line");
                let (sample, labels, value) = sample(line);
                let own = sample.strip_prefix(name.as_str()).is_some_and(|tail| {
                    matches!(
                        (family.kind.as_str(), tail),
                        (_, "") | ("histogram" | "summary", "_sum" | "_count") | ("histogram", "_bucket")
                    )
                });
                assert!(own, "{line}: stands under {name}");
                let twice = family.samples.insert((sample, labels), value);
                assert!(twice.is_none(), "a sample comes twice: {line}");
            }
        }
        page
    }

    /// The value of a sample with exactly these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels: Labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let family =
            name.strip_suffix("_sum").or(name.strip_suffix("_count")).or(name.strip_suffix("_bucket"));
        let find = |family: &str| {
            self.families.get(family)?.samples.get(&(name.to_owned(), labels.clone())).copied()
        };
        find(name).or_else(|| find(family?))
    }

    /// Whether there is a family of this name.
    pub fn has(&self, name: &str) -> bool {
        self.families.contains_key(name)
    }

    /// `redis_up`.
    pub fn up(&self) -> f64 {
        self.value("redis_up", &[]).unwrap_or_else(|| panic!("no redis_up in {:?}", self.names()))
    }

    /// The label of the one sample of `redis_exporter_last_scrape_error`; its value is 1 but for the empty one.
    pub fn error(&self) -> &str {
        let samples = &self.families["redis_exporter_last_scrape_error"].samples;
        assert_eq!(samples.len(), 1, "{samples:?}");
        let ((_, labels), value) = samples.iter().next().expect("one");
        let kind = labels["err"].as_str();
        assert_eq!(*value, if kind.is_empty() { 0.0 } else { 1.0 }, "{kind}");
        kind
    }

    /// `up 1` without any error, and every collector went well.
    #[track_caller]
    pub fn assert_healthy(&self) {
        assert_eq!((self.up(), self.error()), (1.0, ""), "{}", self.shown());
        let failed: Vec<_> = self.collectors().into_iter().filter(|(_, success)| !success).collect();
        assert!(failed.is_empty(), "{failed:?}");
        assert!(self.has("redis_uptime_in_seconds"), "{:?}", self.names());
    }

    /// `up 0` for this reason.
    #[track_caller]
    pub fn assert_down(&self, kind: &str) {
        assert_eq!((self.up(), self.error()), (0.0, kind), "{}", self.shown());
        assert!(!self.has("redis_uptime_in_seconds"), "{:?}", self.names());
    }

    /// Every collector that took part, and whether it went well.
    pub fn collectors(&self) -> BTreeMap<String, bool> {
        let Some(family) = self.families.get("redvigil_collector_success") else { return BTreeMap::new() };
        let samples = family.samples.iter();
        samples.map(|((_, labels), value)| (labels["collector"].clone(), *value == 1.0)).collect()
    }

    /// The names of all families.
    pub fn names(&self) -> BTreeSet<&str> {
        self.families.keys().map(String::as_str).collect()
    }

    /// The samples about the exporter itself, for messages.
    fn shown(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            if name.contains("exporter_last") || name.starts_with("redvigil_collector") || name == "redis_up"
            {
                for ((sample, labels), value) in &family.samples {
                    let _ = writeln!(text, "{sample}{labels:?} {value}");
                }
            }
        }
        text
    }
}

/// Name, labels and value of a sample line.
fn sample(line: &str) -> (String, Labels, f64) {
    let bad = |why: &str| -> ! { panic!("{why}: {line}") };
    let end = line.find(['{', ' ']).unwrap_or_else(|| bad("no value"));
    let name = line[..end].to_owned();
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if !name.chars().all(legal) || !name.starts_with(|c: char| !c.is_ascii_digit()) {
        bad("a name that is none");
    }
    let mut labels = Labels::new();
    let mut rest = &line[end..];
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            inside = inside.strip_prefix(',').unwrap_or(inside);
            if let Some(after) = inside.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = inside.split_once("=\"").unwrap_or_else(|| bad("a label without a value"));
            let (value, after) = quoted(after).unwrap_or_else(|| bad("an open label value"));
            if labels.insert(label.to_owned(), value).is_some() {
                bad("a label comes twice");
            }
            inside = after;
        }
    }
    let text = rest.strip_prefix(' ').unwrap_or_else(|| bad("no space before the value"));
    let value = match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        number => number.parse().unwrap_or_else(|_| bad("the value is no number")),
    };
    (name, labels, value)
}

/// A label value up to its closing quote, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                c @ ('\\' | '"') => value.push(c),
                _ => return None,
            },
            c => value.push(c),
        }
    }
    None
}

#[test]
fn a_page_is_read_with_its_labels() {
    let text = "# HELP a x\n# TYPE a summary\na{q=\"0.5\",t=\"x,\\\"}\\n\\\\\"} 1\na_sum 2\na_count{} +Inf\n";
    let page = Page::parse(text);
    assert_eq!(page.value("a", &[("q", "0.5"), ("t", "x,\"}\n\\")]), Some(1.0));
    assert_eq!(page.value("a_sum", &[]), Some(2.0));
    assert_eq!(page.value("a_count", &[]), Some(f64::INFINITY));
    assert_eq!(page.value("a", &[]), None);
}

#[test]
fn what_is_not_well_formed_is_refused() {
    for text in [
        "a 1\n",
        "# TYPE a gauge\na 1",
        "# TYPE a gauge\na 1\na 1\n",
        "# TYPE a gauge\nb 1\n",
        "# TYPE a gauge\na_sum 1\n",
        "# TYPE a gauge\na{x=\"1} 1\n",
        "# TYPE a gauge\na{x=\"1\",x=\"2\"} 1\n",
        "# TYPE a gauge\na one\n",
        "# TYPE a gauge\n# TYPE a gauge\n",
    ] {
        assert!(std::panic::catch_unwind(|| Page::parse(text)).is_err(), "{text:?}");
    }
}
