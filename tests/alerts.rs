//! The alert rules: each is explained in its page, and `promtool` shows when it fires and when it is silent.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Rules without their ending, and the page that explains them.
const RULES: [(&str, &str); 2] =
    [("redvigil-alerts", "delivery.md"), ("redvigil-peers-alerts", "coordination.md")];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_alert_is_explained_and_tested() {
    for (name, page) in RULES {
        let rules = read(&format!("deploy/prometheus/{name}.yml"));
        let tests = read(&format!("deploy/prometheus/{name}.test.yml"));
        let page = read(&format!("docs/{page}"));
        let alerts: BTreeSet<_> =
            rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
        assert!(alerts.len() > 5, "{alerts:?}");
        let (_, table) = page.split_once("| alert | what it means").expect("a table");
        let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
        let explained: BTreeSet<_> =
            rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next()).collect();
        assert_eq!(alerts, explained, "{name}");
        // A test that expects an alert says so below its name.
        let fires = |alert: &&&str| tests.contains(&format!("alertname: {alert}\n        exp_alerts:\n"));
        let is_silent = |alert: &&&str| tests.contains(&format!("alertname: {alert} }}"));
        let untested: Vec<_> = alerts.iter().filter(|alert| !fires(alert) || !is_silent(alert)).collect();
        assert!(untested.is_empty(), "{untested:?}");
    }
}

#[test]
fn prometheus_takes_the_rules_and_they_fire_when_they_should() {
    for (name, _) in RULES {
        for args in
            [["check", "rules", &format!("{name}.yml")], ["test", "rules", &format!("{name}.test.yml")]]
        {
            let output =
                Command::new("promtool").args(args).current_dir(root().join("deploy/prometheus")).output();
            let output = output.expect("promtool starts (Debian's package prometheus has it)");
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(output.status.success(), "{said}");
        }
    }
}
