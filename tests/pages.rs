//! `docs/api.md` and `docs/services.md` say the truth: fields of the API are those of the code, the configuration
//! is one, and the alert rules are rules about families that exist.

use redvigil::config::document::Sources;
use std::fs;
use std::process::Command;

const API: &str = include_str!("../docs/api.md");
const API_SOURCE: &str = concat!(
    include_str!("../src/serve/api.rs"),
    include_str!("../src/serve/outputs.rs"),
    include_str!("../src/serve/config.rs"),
    include_str!("../src/serve/runtime.rs"),
    include_str!("../src/serve/peers.rs")
);
const SERVICES: &str = include_str!("../docs/services.md");

/// Each table of the page, and the struct that it is about.
const TABLES: [(&str, &str); 21] = [
    ("Config", "ConfigJson"),
    ("Reload", "ReloadJson"),
    ("Setting", "SettingJson"),
    ("Runtime", "RuntimeJson"),
    ("Refusal", "RefusalJson"),
    ("Problem", "ProblemJson"),
    ("Service", "ServiceJson"),
    ("Failover", "FailoverJson"),
    ("Discovery", "DiscoveryJson"),
    ("Sentinel", "SentinelJson"),
    ("Cluster", "ClusterJson"),
    ("Member", "MemberJson"),
    ("Target", "TargetJson"),
    ("Event", "EventJson"),
    ("Output", "OutputJson"),
    ("Error", "ErrorJson"),
    ("Samples", "SamplesJson"),
    ("Queue", "QueueJson"),
    ("Lane", "LaneJson"),
    ("Peers", "PeersJson"),
    ("Peer", "PeerJson"),
];

/// Name, type on the page, and whether it may be null.
type Field = (String, String, bool);

/// The fields of a struct of the source, but for those that another one brings along.
fn fields_in(source: &str, name: &str) -> Vec<Field> {
    let body = source.split_once(&format!("struct {name} {{\n")).unwrap_or_else(|| panic!("no {name}")).1;
    let mut is_flat = false;
    let mut fields = vec![];
    for line in body.lines().map(str::trim).take_while(|line| *line != "}") {
        if line.starts_with("//") {
            continue;
        }
        if line == "#[serde(flatten)]" {
            is_flat = true;
            continue;
        }
        let (field, kind) = line.trim_end_matches(',').split_once(": ").unwrap_or_else(|| panic!("{line}"));
        let inner = kind.strip_prefix("Option<").and_then(|kind| kind.strip_suffix('>'));
        if !std::mem::take(&mut is_flat) {
            fields.push((field.to_owned(), word(inner.unwrap_or(kind)), inner.is_some()));
        }
    }
    fields
}

/// What the page calls a type.
fn word(kind: &str) -> String {
    match kind {
        "String" | "&'static str" => "string".into(),
        "bool" => "bool".into(),
        "f64" | "u64" | "u32" | "u8" => "number".into(),
        "serde_json::Value" | "Json" => "any".into(),
        "BTreeMap<String, String>" | "BTreeMap<String, u64>" => "object".into(),
        _ => match kind.strip_prefix("Vec<").and_then(|kind| kind.strip_suffix('>')) {
            Some(inner) => format!("list of {}", word(inner)),
            None => kind.trim_end_matches("Json").into(),
        },
    }
}

/// The rows of the table below a title.
fn rows_in(page: &str, title: &str) -> Vec<Field> {
    let after = page.split_once(&format!("\n### {title}\n")).unwrap_or_else(|| panic!("no {title}")).1;
    let lines = after.lines().skip_while(|line| !line.starts_with("| --- ")).skip(1);
    let row = |line: &str| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{line}");
        (cells[0].trim_matches('`').to_owned(), cells[1].to_owned(), cells[2] != "–")
    };
    lines.take_while(|line| line.starts_with('|')).map(row).collect()
}

#[test]
fn the_fields_of_the_api_are_those_of_the_code() {
    for (title, name) in TABLES {
        assert_eq!(rows_in(API, title), fields_in(API_SOURCE, name), "{title}");
    }
    // What holds a list and nothing else stands on the page as a line.
    let structs = API_SOURCE.lines().filter_map(|line| line.strip_prefix("struct ")).count();
    assert_eq!(structs, TABLES.len() + 4);
}

#[test]
fn fields_and_rows_are_read_as_they_stand() {
    let source = "struct A {\n    /// Doc.\n    one: Option<u64>,\n    #[serde(flatten)]\n    b: B,\n    two: Vec<CJson>,\n}\n";
    let fields = [("one".into(), "number".into(), true), ("two".into(), "list of C".into(), false)];
    assert_eq!(fields_in(source, "A"), fields);
    let page = "\n### A\n\n| a | b | c | d |\n| --- | --- | --- | --- |\n| `one` | number | never | x |\n| `two` | list of C | – | y |\n\n| z |\n";
    assert_eq!(rows_in(page, "A"), fields);
}

/// The YAML of the page.
fn blocks() -> impl Iterator<Item = &'static str> {
    SERVICES.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next())
}

/// The block that says this.
fn block_with(words: &str) -> &'static str {
    let mut found = blocks().filter(|block| block.contains(words));
    found.next().unwrap_or_else(|| panic!("no block with {words}"))
}

#[test]
fn the_configuration_is_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = block_with("sentinel: {").replace("/run/secrets", &folder.path().display().to_string());
    for name in ["redis", "sentinel"] {
        fs::write(folder.path().join(name), "secret\n").expect("a file");
    }
    let path = folder.path().join("redvigil.yaml");
    fs::write(&path, text).expect("a file");
    let loaded = Sources { file: Some(path), ..Sources::default() }.load_file(|_| None).expect("it is right");
    assert_eq!((loaded.config.discover.services.len(), loaded.warnings), (4, vec![]));
}

#[test]
fn prometheus_takes_what_the_page_tells_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |what: &[&str], text: &str| {
        let path = folder.path().join("file.yml");
        fs::write(&path, text).expect("a file");
        let output = Command::new("promtool").arg("check").args(what).arg(&path).output();
        let output = output.expect("promtool starts (Debian's package prometheus has it)");
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    };
    check(&["rules"], block_with("alert:"));
    let configs: Vec<_> = blocks().filter(|block| block.starts_with("scrape_configs")).collect();
    assert_eq!(configs.len(), 2);
    configs.into_iter().for_each(|config| check(&["config"], config));
}

/// Every word in this text that looks like a family.
fn families(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("redis_") || word.starts_with("redvigil_")).collect()
}

#[test]
fn every_family_that_is_named_exists() {
    let mut sources = String::new();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src/");
    for file in [
        "discover/families.rs",
        "scrape/service/shape.rs",
        "scrape/member.rs",
        "scrape/shape.rs",
        "scrape/book.rs",
        "telemetry/metrics.rs",
    ] {
        sources +=
            &fs::read_to_string(format!("{root}{file}")).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    let named = families(SERVICES);
    assert!(named.len() > 40, "{named:?}");
    // Of several families the page names the beginning, with a star.
    let is_there = |name: &&&str| {
        name.ends_with('_') || **name == "redis_exporter" || sources.contains(&format!("\"{name}\""))
    };
    let unknown: Vec<_> = named.iter().filter(|name| !is_there(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
