//! `docs/delivery.md` and the alert rules say the truth: the promises have tests, families and reasons exist, and the
//! configuration is one. When the rules fire is the matter of `alerts.rs`.

use redvigil::config::document::Sources;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PAGE: &str = include_str!("../docs/delivery.md");
const METRICS: &str = include_str!("../docs/metrics.md");
const QUEUE: &str = include_str!("../src/deliver/queue/mod.rs");
const RULES: &str = include_str!("../deploy/prometheus/redvigil-alerts.yml");
const RULE_TESTS: &str = include_str!("../deploy/prometheus/redvigil-alerts.test.yml");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every word that looks like a family of outputs.
fn families(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("redvigil_output_")).collect()
}

#[test]
fn every_promise_is_a_test() {
    let mut sources = vec![];
    let mut folders = ["src", "tests", "crates"].map(|name| root().join(name)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            match entry.extension().and_then(|end| end.to_str()) {
                Some("rs") => sources.push(fs::read_to_string(&entry).expect("a source")),
                None if entry.is_dir() => folders.push(entry),
                _ => {}
            }
        }
    }
    let promises = PAGE.lines().filter(|line| line.starts_with("| **G"));
    let mut names = vec![];
    for (number, promise) in (1..).zip(promises) {
        let name = promise.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default().trim_matches('`');
        assert!(name.starts_with(&format!("g{number}_")), "{promise}");
        let test = format!("fn {name}(");
        assert!(sources.iter().any(|source| source.contains(&test)), "no test is called {name}");
        names.push(name);
    }
    assert_eq!(names.len(), 5, "{names:?}");
}

#[test]
fn every_family_that_is_named_exists() {
    let known = families(METRICS);
    for (what, text, least) in
        [("the page", PAGE, 10), ("the rules", RULES, 10), ("their tests", RULE_TESTS, 10)]
    {
        let named = families(text);
        assert!(named.len() >= least, "{what}: {named:?}");
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{what}: docs/metrics.md has no {unknown:?}");
    }
}

#[test]
fn every_reason_that_is_named_exists() {
    let words = QUEUE.split_once("fn word(self)").expect("the words of reasons").1;
    let words = words.lines().skip_while(|line| !line.contains("=>")).take_while(|line| line.contains("=>"));
    let reasons: BTreeSet<_> = words.filter_map(|line| line.split('"').nth(1)).collect();
    let table = PAGE.split_once("| reason | who |").expect("a table").1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("| `"));
    let named: BTreeSet<_> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    assert_eq!(named, reasons);
    assert!(named.len() > 6, "{named:?}");
}

#[test]
fn the_configuration_is_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = PAGE.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let text = text.replace("/run/secrets", &folder.path().display().to_string());
    fs::write(folder.path().join("mimir-token"), "secret\n").expect("a file");
    let path = folder.path().join("redvigil.yaml");
    fs::write(&path, text).expect("a file");
    let loaded = Sources { file: Some(path), ..Sources::default() }.load_file(|_| None).expect("it is right");
    assert_eq!((loaded.config.deliver.outputs.len(), loaded.warnings), (2, vec![]));
}

fn promtool(args: &[&str]) -> Result<(), String> {
    let folder: PathBuf = root().join("deploy/prometheus");
    let output = Command::new("promtool").args(args).current_dir(folder).output();
    let output = output.expect("promtool starts (Debian's package prometheus has it)");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

#[test]
fn the_equation_is_an_expression() {
    let equation =
        PAGE.split("```promql\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let lines: String = equation.lines().map(|line| format!("          {line}\n")).collect();
    let rules = tempfile::NamedTempFile::new().expect("a file");
    let text = format!("groups:\n  - name: g\n    rules:\n      - alert: A\n        expr: |\n{lines}");
    fs::write(rules.path(), text).expect("a file");
    assert_eq!(promtool(&["check", "rules", &rules.path().display().to_string()]), Ok(()));
}
