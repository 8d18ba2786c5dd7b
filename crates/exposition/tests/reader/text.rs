//! Prometheus text 0.0.4.

use super::{Family, sample};

/// Reads a page. Panics with the reason where it is not valid.
pub fn read(page: &str) -> Vec<Family> {
    let mut families: Vec<Family> = vec![];
    assert!(page.is_empty() || page.ends_with('\n'), "the last line ends");
    for line in page.split_terminator('\n') {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a name and a text");
            assert!(families.iter().all(|family| family.name != name), "{name} is one family");
            families.push(Family { name: name.into(), help: Some(unescape(help)), ..Family::default() });
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and a kind");
            let family = families.last_mut().expect("HELP comes first");
            assert_eq!(family.name, name);
            assert!(["counter", "gauge", "histogram", "summary", "untyped"].contains(&kind), "{kind}");
            family.kind = kind.into();
        } else {
            let sample = sample(line);
            let family = families.last_mut().expect("comments come first");
            let suffixes: &[&str] = match &*family.kind {
                "histogram" => &["_bucket", "_sum", "_count"],
                "summary" => &["", "_sum", "_count"],
                _ => &[""],
            };
            let suffix = sample.name.strip_prefix(&*family.name).expect("the name begins as its family's");
            assert!(suffixes.contains(&suffix), "{} in a {} {}", sample.name, family.kind, family.name);
            family.samples.push(sample);
        }
    }
    families
}

/// In help texts only backslashes and line ends are escaped.
fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next().expect("something is escaped") {
                'n' => '\n',
                '\\' => '\\',
                other => panic!("{other:?} is not escaped"),
            },
            c => c,
        });
    }
    plain
}
