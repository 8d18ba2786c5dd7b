//! Keys that are marked `restart`: a change of one is told once, and named until it is as it was at the start.

use super::leaves;
use crate::exporter;
use redvigil::config::document::rows;
use serde_json::Value;
use std::collections::BTreeMap;
use testbed::http::Request;

#[test]
fn a_key_that_is_marked_is_told_once_and_named_until_it_is_as_it_was() {
    let mut all = BTreeMap::new();
    leaves(&rows(), "", &mut all);
    let marked: Vec<_> =
        all.iter().filter(|(_, is_marked)| **is_marked).map(|(key, _)| key.as_str()).collect();
    assert_eq!(marked, ["log.format"], "a new one needs a value here");

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("redvigil.yaml");
    let write = |format: &str, failures: u32| {
        let text = format!(
            "services: [{{ name: a, instances: [\"127.0.0.1:1\"] }}]\nlog: {{ format: {format} }}\nhealth: {{ failures_to_down: {failures} }}\n"
        );
        std::fs::write(&path, text).expect("written");
    };
    write("json", 3);
    let exporter = exporter(&[format!("--config.file={}", path.display())]).start();
    assert!(exporter.stderr().starts_with('{'), "it counts at the start: {}", exporter.stderr());
    let pending = || {
        let config: Value = serde_json::from_str(exporter.get("/api/v1/config", &[]).text()).expect("JSON");
        let settings = config["settings"].as_array().expect("a list").clone();
        let marked = settings
            .iter()
            .filter(|s| s["restart"] == true && !s["key"].as_str().unwrap_or("-").starts_with('-'));
        let marked: Vec<_> = marked.map(|s| s["key"].clone()).collect();
        assert_eq!(marked, ["log.format"]);
        config["pending_restart"].clone()
    };
    let at_the_top =
        || exporter.get("/", &[]).text().contains("in effect at the next start only: log.format");
    let warnings = || exporter.stderr().matches("takes effect at restart").count();
    let reload = || {
        let request = Request { method: "POST", path: "/-/reload", headers: &[], body: b"" };
        assert_eq!(exporter.send(request).status, 200);
    };
    assert_eq!((pending(), at_the_top(), warnings()), (serde_json::json!([]), false, 0));
    write("txt", 4);
    reload();
    let told = serde_json::json!(["log.format"]);
    assert_eq!((pending(), at_the_top(), warnings()), (told.clone(), true, 1));
    // What is changed along with it counts at once, and another reload does not tell it again.
    let failures = || {
        exporter.get("/api/v1/config", &[]).text().contains("\"key\":\"health.failures_to_down\",\"value\":5")
    };
    write("txt", 5);
    reload();
    assert!(failures());
    assert_eq!((pending(), at_the_top(), warnings()), (told, true, 1));
    assert!(exporter.stderr().lines().all(|line| line.starts_with('{')), "the log keeps its form");
    write("json", 5);
    reload();
    assert_eq!((pending(), at_the_top(), warnings()), (serde_json::json!([]), false, 1));
}
