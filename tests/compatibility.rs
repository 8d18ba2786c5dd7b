//! `docs/compatibility.md` says the truth: every behaviour has its row, every test that a row names is there,
//! and the lists on the page are those of the code.

use exposition::Kind;
use redvigil::collect::ALL;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../docs/compatibility.md");

/// How many behaviours there are.
const BEHAVIOURS: usize = 119;

/// Every test of one file.
fn tests_of(path: &str) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests_in(&fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}")))
}

/// The functions behind `#[test]` or `#[tokio::test…]`; other attributes may stand in between.
fn tests_in(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
            continue;
        }
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if let Some(name) = function.and_then(|rest| rest.split('(').next()).filter(|_| is_test) {
            found.insert(name.to_owned());
        }
        is_test = false;
    }
    found
}

/// The rows of the appendix: number, words, and what stands in the last column.
fn rows() -> Vec<(usize, &'static str, &'static str)> {
    let appendix = PAGE.split_once("\n| no | behaviour |").expect("the page has its appendix").1;
    let row = |line: &'static str| match line.split(" | ").collect::<Vec<_>>()[..] {
        [number, words, tests] => {
            let number = number.trim_start_matches("| ").parse();
            (number.unwrap_or_else(|_| panic!("{line}")), words, tests.trim_end_matches(" |"))
        }
        _ => panic!("a row of three columns: {line}"),
    };
    appendix.lines().skip(2).map(row).collect()
}

#[test]
fn every_behaviour_has_one_row() {
    let numbers: Vec<_> = rows().iter().map(|row| row.0).collect();
    assert_eq!(numbers, (1..=BEHAVIOURS).collect::<Vec<_>>());
    for (number, words, _) in rows() {
        assert!(words.len() > 5, "{number}");
    }
}

#[test]
fn every_test_that_is_named_is_there() {
    let mut files: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut wrong = vec![];
    for (number, _, tests) in rows() {
        let named: Vec<_> = tests.split('`').skip(1).step_by(2).filter(|word| word.contains("::")).collect();
        // Without a test there is a reason, in words.
        if named.is_empty() && tests.split_whitespace().count() < 4 {
            wrong.push(format!("{number}: neither a test nor a reason"));
        }
        for name in named {
            let (file, test) = name.split_once("::").expect("it was looked for");
            if !files.entry(file).or_insert_with(|| tests_of(file)).contains(test) {
                wrong.push(format!("{number}: no test {test} in {file}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn tests_are_known_by_their_attribute() {
    let check = |source: &str, expected: &[&str]| {
        assert_eq!(tests_in(source).iter().map(String::as_str).collect::<Vec<_>>(), expected, "{source}");
    };
    check("#[test]\nfn a() {}", &["a"]);
    check("    #[tokio::test(start_paused = true)]\n    async fn a() {}", &["a"]);
    check("#[test]\n#[cfg(unix)]\nfn a() {}", &["a"]);
    check("fn a() {}\n#[test]\nfn b() {}\nfn c() {}", &["b"]);
    check("// #[test]\nfn a() {}", &[]);
}

/// The words in backticks of the paragraph behind this text.
fn listed(after: &str) -> Vec<&'static str> {
    let rest = PAGE.split_once(after).unwrap_or_else(|| panic!("the page says: {after}")).1;
    let paragraph = rest.trim_start().split("\n\n").next().unwrap_or_default();
    paragraph.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_counters_that_openmetrics_renames_are_those_of_the_tables() {
    let descs = ALL.iter().flat_map(|collector| (collector.descs)());
    let counters = descs.filter(|desc| desc.kind == Kind::Counter && !desc.name.ends_with("_total"));
    let names: BTreeSet<_> = counters.filter_map(|desc| desc.name.strip_prefix("redis_")).collect();
    assert_eq!(listed("all of them under `redis_`:"), names.into_iter().collect::<Vec<_>>());
}

#[test]
fn the_reasons_are_those_of_the_code() {
    let source = include_str!("../src/connect/error.rs");
    let body = source.split_once("pub const fn as_str(self)").expect("kinds have a text").1;
    let arms = body.split("\n    }\n").next().unwrap_or_default();
    let words: Vec<_> = arms.split('"').skip(1).step_by(2).collect();
    assert!(words.len() > 10 && words.contains(&"timeout"), "{words:?}");
    assert_eq!(listed("#### Reasons"), words);
}
