//! `docs/delivery.md` and the alert rules say the truth: the configuration is one, and each alert fires when it should.

use redvigil::config::document::File;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const PAGE: &str = include_str!("../docs/delivery.md");
const RULES: &str = include_str!("../deploy/prometheus/redvigil-alerts.yml");
const RULE_TESTS: &str = include_str!("../deploy/prometheus/redvigil-alerts.test.yml");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What stands behind this in each line that begins with it.
fn after<'a>(text: &'a str, start: &str) -> BTreeSet<&'a str> {
    text.lines().filter_map(|line| line.trim_start().strip_prefix(start)).collect()
}

#[test]
fn the_configuration_is_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = PAGE.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let text = text.replace("/run/secrets", &folder.path().display().to_string());
    fs::write(folder.path().join("mimir-token"), "secret\n").expect("a file");
    let path = folder.path().join("redvigil.yaml");
    fs::write(&path, text).expect("a file");
    let loaded = File { path, flags: Arc::default(), target_said: None }.load(|_| None).expect("it is right");
    assert_eq!((loaded.config.deliver.outputs.len(), loaded.warnings), (2, vec![]));
}

#[test]
fn every_alert_is_explained_and_tested() {
    let alerts = after(RULES, "- alert: ");
    assert!(alerts.len() > 7, "{alerts:?}");
    let (explained, rows) = (PAGE.split_once("| alert | what it means").expect("a table").1, "| `");
    let explained: BTreeSet<_> =
        after(explained, rows).into_iter().filter_map(|row| row.split('`').next()).collect();
    assert_eq!(alerts, explained);
    // A test that expects an alert says so below its name.
    let fires = |alert: &&&str| RULE_TESTS.contains(&format!("alertname: {alert}\n        exp_alerts:\n"));
    let is_silent = |alert: &&&str| RULE_TESTS.contains(&format!("alertname: {alert} }}"));
    let untested: Vec<_> = alerts.iter().filter(|alert| !fires(alert) || !is_silent(alert)).collect();
    assert!(untested.is_empty(), "{untested:?}");
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

#[test]
fn prometheus_takes_the_rules_and_they_fire_when_they_should() {
    assert_eq!(promtool(&["check", "rules", "redvigil-alerts.yml"]), Ok(()));
    assert_eq!(promtool(&["test", "rules", "redvigil-alerts.test.yml"]), Ok(()));
}
