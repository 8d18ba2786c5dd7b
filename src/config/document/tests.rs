//! Whole documents, and what they come to.

use super::*;
use crate::config::credentials::Side;
use crate::config::{Address, Secret};

/// What a document says over the defaults, in a folder of its own with some files.
fn outcome(text: &str) -> Result<Config, Vec<Problem>> {
    over(Config::default(), text)
}

fn over(flags: Config, text: &str) -> Result<Config, Vec<Problem>> {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
    write("secret", "hunter2\n");
    write("empty", "\n");
    write("q.lua", "return {}");
    write("a.pem", "");
    let file = File { path: "r.yaml".into(), flags: Arc::new(flags), target_said: None };
    let env = |name: &str| match name {
        "PW" => Some("hunter3".into()),
        "NOTHING" => Some("".into()),
        _ => None,
    };
    let root = tree::parse("r.yaml", text)
        .map_err(|fault| vec![Problem { place: fault.mark.to_string(), message: fault.message }])?;
    file.apply(&root, folder.path(), &env)
}

fn config(text: &str) -> Config {
    outcome(text).unwrap_or_else(|problems| panic!("{text}\n{}", lines(&problems)))
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn the_document_of_the_issue_is_understood() {
    let config = config(
        r#"
global:      { scrape_interval: 15s, scrape_timeout: 5s, labels: {env: prod} }
credentials:
  - name: prod
    match: { services: [orders], hosts: ["10.0.0.0/8", "*.redis.prod"] }
    username: monitor
    password_file: secret
services:
  - name: orders
    sentinel: { master: mymaster, addresses: [s1:26379, "s2", s3:26379] }
    rewrite: [{ from: "172.17.0.0/16", to: host.docker.internal }]
    labels: { team: checkout }
  - name: sessions
    cluster: { seeds: [c1:6379, c2:6379], hostnames: false }
  - name: cache
    instances: [redis://cache-1:6379, unix:///run/redis.sock]
  - name: legacy
    file_sd: { files: [targets/*.json] }
scrape:      { concurrency: 64, per_host: 4, key_scans: { interval: 5m } }
health:      { failures_to_down: 3 }
breaker:     { pause: 1s, max_pause: 10s }
"#,
    );
    let kinds: Vec<_> =
        config.discover.services.iter().map(|s| format!("{} {}", s.name, s.source.kind())).collect();
    assert_eq!(kinds, ["orders sentinel", "sessions cluster", "cache instances", "legacy file_sd"]);
    let orders = config.discover.service("orders").expect("a service");
    assert_eq!(format!("{:?}", orders.labels), r#"{"env": "prod", "team": "checkout"}"#);
    assert!(format!("{:?}", orders.source).contains(r#"host: "s2", port: 26379"#));
    assert_eq!(orders.lag_bytes, 10_000);
    assert_eq!((config.scrape.target, config.connect.flag_target.clone()), (None, None));
    let access =
        |host: &str| config.connect.access("orders", &Address::tcp(host, 6379), Side::Data).credentials;
    assert_eq!(access("a.redis.prod").expect("a password").password, Secret::new("hunter2"));
    assert_eq!(access("elsewhere"), None);
}
