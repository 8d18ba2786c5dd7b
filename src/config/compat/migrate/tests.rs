//! Flags, password files and jobs of Prometheus, and the documents that they become.

use super::super::{Outcome, parse};
use crate::config::Config;
use crate::config::document::Sources;
use std::fs;

type Vars<'a> = &'a [(&'a str, &'a str)];

/// The result, and the configuration that it makes.
fn migrated(args: &[&str], env: Vars) -> (String, Config) {
    let get = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
    let all = ["migrate"].iter().chain(args).map(Into::into);
    let document = match parse(all, get) {
        Outcome::Migrated(document) => document,
        other => panic!("{args:?} {env:?}: {other:?}"),
    };
    assert!(!format!("{document:?}").contains("hunter"));
    let mut text = vec![];
    document.write_to(&mut text).expect("a vector takes all");
    let text = String::from_utf8(text).expect("UTF-8");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("redvigil.yaml");
    fs::write(&path, &text).expect("a file");
    let sources = Sources { file: Some(path), ..Sources::default() };
    let loaded = sources.load_file(get).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
    (text, loaded.config)
}

fn check(args: &[&str], env: Vars, expected: &str) {
    let (text, _) = migrated(args, env);
    let body = text.strip_prefix("# Written by redvigil migrate; docs/config.md has every key.\n");
    assert_eq!(body, Some(expected), "{args:?} {env:?}\n{text}");
}

#[test]
fn flags_and_variables_become_a_service_a_profile_and_collectors() {
    check(&[], &[], "\nservices:\n  - name: redis\n    instances: [\"redis://localhost:6379\"]\n");
    check(
        &["--redis.addr=rediss://h:1/3", "--check-keys=a*,,1=b,a*", "--export-client-list", "--debug=false"],
        &[
            ("REDIS_PASSWORD", "hunter2"),
            ("REDIS_USER", "me"),
            ("REDIS_EXPORTER_EXCLUDE_LATENCY_HISTOGRAM_METRICS", "true"),
            ("REDIS_EXPORTER_BASIC_AUTH_USERNAME", "u"),
            ("REDIS_EXPORTER_BASIC_AUTH_PASSWORD", "hunter3"),
        ],
        "#
# These are said by this file, and must go:
#   --redis.addr
#   REDIS_USER
#
# These are no matter of this file, and stay:
#   REDIS_PASSWORD (this file names it)
#   REDIS_EXPORTER_BASIC_AUTH_USERNAME=u
#   REDIS_EXPORTER_BASIC_AUTH_PASSWORD (with its value)
#   --debug=false

credentials:
  - name: profile-1
    match: { services: [redis] }
    username: me
    password_env: REDIS_PASSWORD

services:
  - name: redis
    instances: [\"rediss://h:1/3\"]

collect:
  check_keys: [\"a*\", \"1=b\"]
  client_list: true
  latency_histograms: false
",
    );
    check(
        &["--redis.addr", "redis://me:hunter2@h", "--is-cluster", "-cluster-discover-hostnames", "--script="],
        &[],
        "#
# These are said by this file, and must go:
#   --redis.addr
#   --is-cluster
#   -cluster-discover-hostnames

credentials:
  - name: profile-1
    match: { services: [redis] }
    username: me
    # From --redis.addr. It is safer in a file of its own: password_file.
    password: \"hunter2\"

services:
  - name: redis
    cluster: { seeds: [\"redis://h:6379\"], hostnames: true }

collect:
  scripts: []
",
    );
    check(
        &["--redis.addr=", "--redis.password=hunter2"],
        &[],
        "#
# These are said by this file, and must go:
#   --redis.addr
#   --redis.password
#
# These could not be carried over:
#   --redis.password: there is no service that it could be for
",
    );
}

#[test]
fn every_collector_flag_comes_to_the_same_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("q.lua");
    fs::write(&script, "return {}").expect("a file");
    let script = script.display().to_string();
    for (flag, key, form) in super::super::pairs::COLLECT {
        let value = match form {
            super::super::pairs::Form::Switch => {
                if matches!(*key, "redact_config_metrics" | "metrics_for_empty_databases") {
                    "false"
                } else {
                    "true"
                }
            }
            super::super::pairs::Form::Opposite => "true",
            super::super::pairs::Form::Number => "0x7",
            super::super::pairs::Form::Command => "CFG",
            super::super::pairs::Form::Text => "^idx:",
            super::super::pairs::Form::Keys => "a*, 3=b%2C,c d",
            super::super::pairs::Form::Csv => "^a$,\"b,c\"",
            super::super::pairs::Form::Files => &script,
        };
        let mut args = vec![format!("--{flag}={value}")];
        if *flag == "check-search-indexes" {
            args.push("--include-search-indexes-metrics".into());
        }
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let (text, config) = migrated(&args, &[]);
        let Outcome::Run(by_flags, _) = parse(args.iter().map(Into::into), |_| None) else {
            panic!("{args:?}")
        };
        assert_eq!(format!("{:?}", config.collect), format!("{:?}", by_flags.collect), "{args:?}\n{text}");
        assert_ne!(format!("{:?}", config.collect), format!("{:?}", Config::default().collect), "{args:?}");
    }
}

#[test]
fn a_password_file_becomes_a_profile_for_each_password() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let entries = r#"{"redis://a": "hunter2", "b:7000": "hunter2", "redis://me@[::1]:1": "hunter\"3", "c": "",
            "unix:///run/r.sock": "hunter4"}"#;
    fs::write(file.path(), entries).expect("written");
    let path = file.path().display().to_string();
    let (text, config) = migrated(&["--redis.password-file", &path, "--redis.user=you"], &[]);
    let found: Vec<_> = config
        .connect
        .profiles
        .iter()
        .map(|profile| {
            let login = profile.data.as_ref().expect("a password");
            let hosts: Vec<_> = profile.hosts.iter().map(ToString::to_string).collect();
            format!(
                "{}:{} {}",
                login.user.as_deref().unwrap_or_default(),
                login.password.expose(),
                hosts.join(" ")
            )
        })
        .collect();
    assert_eq!(
        found,
        ["you:hunter2 a:6379 b:7000", "me:hunter\"3 [::1]:1", "you:hunter4 unix:///run/r.sock",],
        "{text}"
    );
    assert!(text.contains(&format!("# From {path}. It is safer")), "{text}");
}

#[test]
fn jobs_of_prometheus_become_services() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("prometheus.yml");
    let text = r#"
global: { scrape_interval: 30s, external_labels: { a: b } }
rule_files: [x.yml]
scrape_configs:
  - job_name: node
    static_configs: [{ targets: ["localhost:9100"] }]
  - job_name: redis
    metrics_path: /scrape
    scrape_timeout: 40s
    basic_auth: { username: u, password: hunter9 }
    params: { check-keys: ["a*,1=b"], other: [x] }
    static_configs:
      - targets: ["redis://a:6379", "b", "redis://u:hunter8@c:1", "nope:x"]
        labels: { team: one, shard: 1, instance: z, role: r, __meta: y }
      - targets: [d]
    relabel_configs: &usual
      - source_labels: [__address__]
        target_label: __param_target
      - source_labels: [__param_target]
        target_label: instance
      - target_label: __address__
        replacement: exporter:9121
  - job_name: files
    scrape_interval: 15s
    file_sd_configs: [{ files: ["targets/*.json", "/abs/t.yml"] }]
    kubernetes_sd_configs: [{ role: pod }]
    relabel_configs: *usual
    metric_relabel_configs: [{ action: drop }]
  - job_name: nodes
    http_sd_configs: [{ url: "http://exporter:9121/discover-cluster-nodes" }]
    relabel_configs:
      - { source_labels: [__address__], target_label: __param_target }
      - { source_labels: [__meta_x], target_label: x }
"#;
    fs::write(&path, text).expect("a file");
    let path = path.display().to_string();
    let folder = folder.path().display();
    check(
            &["--prometheus", &path, "--redis.password=hunter1"],
            &[],
            &format!(
                "#
# These are said by this file, and must go:
#   --redis.password
#
# These could not be carried over:
#   job node: left out: no rule of relabel_configs sets __param_target, so no exporter is asked for its targets
#   job redis: the parameter other
#   job redis: a target that is no address: the port is no number from 1 to 65535
#   job redis: the label __meta, which is not for services to set
#   job redis: the label instance, which is not for services to set
#   job redis: the label role, which is not for services to set
#   job files: kubernetes_sd_configs; name the services that they find, or write their targets into files
#   job files: metric_relabel_configs; they belong to the new job of Prometheus
#   job nodes: a rule of relabel_configs that sets x; labels of a service may do the same
#
# This job of Prometheus reads all services, in place of those that name single targets:
#   - job_name: redis
#     honor_labels: true
#     static_configs: [{{ targets: [\"redvigil:9121\"] }}]

global:
  scrape_interval: 15s
  scrape_timeout: 15s

credentials:
  - name: profile-1
    match: {{ hosts: [\"c:1\"] }}
    username: u
    # From a target of job redis. It is safer in a file of its own: password_file.
    password: \"hunter8\"
  - name: profile-2
    match: {{ services: [redis, redis-2, files, nodes] }}
    # From --redis.password. It is safer in a file of its own: password_file.
    password: \"hunter1\"

services:
  - name: redis
    instances: [\"redis://a:6379\", \"redis://b:6379\", \"redis://c:1\"]
    labels: {{ shard: \"1\", team: \"one\" }}
    collect:
      check_keys: [\"a*\", \"1=b\"]
  - name: redis-2
    instances: [\"redis://d:6379\"]
    collect:
      check_keys: [\"a*\", \"1=b\"]
  - name: files
    file_sd: {{ files: [\"{folder}/targets/*.json\", /abs/t.yml] }}
  - name: nodes
    cluster: {{ seeds: [\"redis://localhost:6379\"] }}
"
            ),
        );
}

#[test]
fn nothing_that_was_written_gets_out_of_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("prometheus.yml");
    let text = "scrape_configs:
  - job_name: \"a\\nservices: x\\u2028y: &z\"
    params: { target: [\"h\", \"h\"], \"p\\n- q\": [r] }
    static_configs: [{ targets: [x], labels: { l: \"v\\n}, dns: {\" } }]
";
    fs::write(&path, text).expect("a file");
    let path = path.display().to_string();
    let (text, config) = migrated(
        &["--prometheus", &path, "--namespace=x", "--check-key-groups=\": \"\"#\",a,a"],
        &[("REDIS_PASSWORD", "\u{7f}hunter\n: #")],
    );
    assert_eq!(config.discover.services.len(), 1, "{text}");
    assert_eq!(config.discover.services[0].labels["l"], "v\n}, dns: {", "{text}");
    assert_eq!(config.collect.key_groups, [": \"#", "a"], "{text}");
}

#[test]
fn what_cannot_be_read_is_told() {
    fn check(args: &[&str], expected: &str) {
        let all = ["migrate"].iter().chain(args).map(Into::into);
        let Outcome::Problems(problems) = parse(all, |_| None) else { panic!("{args:?}") };
        let found: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(found.len() == 1 && found[0].starts_with(expected), "{args:?} {found:?}");
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().display().to_string();
    fs::write(file.path(), "scrape_configs: [{job_name: [hunter]}]").expect("written");
    check(&["--prometheus", &path], &format!("{path}: is no configuration of Prometheus: line 1"));
    check(&["--prometheus=/nope.yml"], "/nope.yml: cannot be read");
    check(&["--prometheus"], "--prometheus: needs a value");
    check(&["--config.file=x"], "--config.file: cannot be combined with migrate");
    check(&["--debug=x"], "--debug: \"x\" is no boolean");
    check(&["more"], "argument 2: is no flag");
}
