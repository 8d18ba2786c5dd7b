//! Outputs, and what they come to.

use crate::config::Config;
use crate::config::deliver::Output;
use crate::config::document::tests::{config, lines, outcome, over};
use std::sync::Arc;

/// A document with this one output.
fn document(text: &str) -> String {
    format!("outputs:\n- name: a\n  {text}\n")
}

fn output(text: &str) -> Arc<Output> {
    config(&document(text)).deliver.outputs[0].clone()
}

const REMOTE: &str = "remote_write: {url: \"https://h/w\"}";

#[test]
fn the_outputs_of_the_issue_are_understood() {
    let config = config(
        r#"
outputs:
  - name: mimir
    remote_write: { url: https://mimir/api/v1/push, version: auto, headers: {X-Scope-OrgID: checkout}, bearer_token_file: token }
    queue: { max_bytes: 2GiB, max_age: 24h, min_free: 512MiB, fsync: 1s, durability: wal, lanes: 1, on_full: drop_oldest }
    replay: { max_samples_per_second: 100000 }
    external_labels: { cluster: eu1, __replica__: a }
  - name: otel
    otlp: { endpoint: http://collector:4317, protocol: grpc, headers: {x-tenant: hunter5} }
"#,
    );
    let [mimir, otel] = &config.deliver.outputs[..] else { panic!("{config:?}") };
    let shown = format!("{mimir:?}");
    for expected in [
        r#"name: "mimir", to: RemoteWrite { version: Auto, endpoint: Endpoint { url: https://mimir/api/v1/push"#,
        r#"headers: [("X-Scope-OrgID", ***)], auth: Bearer(File("#,
        "timeout: 10s",
        "max_bytes: 2147483648, max_age: 86400s, min_free: 536870912, memory: 33554432",
        "fsync: Every(1s), durability: Wal, lanes: 1, on_full: DropOldest, linger: 250ms",
        "max_samples_per_second: Some(100000)",
        r#"external_labels: {"__replica__": "a", "cluster": "eu1"}"#,
    ] {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
    let shown = format!("{otel:?}");
    assert!(
        shown.contains("to: Otlp { protocol: Grpc, endpoint: Endpoint { url: http://collector:4317/"),
        "{shown}"
    );
    assert_eq!(config.deliver.job, "redvigil");
}

#[test]
fn every_field_reaches_its_place() {
    fn check(text: &str, expected: &str) {
        let (before, after) = (format!("{:?}", output(REMOTE)), format!("{:?}", output(text)));
        assert!(after.contains(expected), "{text}: expected {expected} in {after}");
        assert!(!before.contains(expected), "{text}: {expected} says nothing");
        assert!(!after.contains("hunter"), "{after}");
    }
    let remote = |text: &str, expected: &str| {
        check(&format!("remote_write: {{url: \"https://h/w\", {text}}}"), expected);
    };
    check("remote_write: {url: \"http://[::1]:9/w?hunter\"}", "url: http://[::1]:9/w?***");
    remote("version: 1.0", "version: V1");
    remote("version: v1", "version: V1");
    remote("version: \"2.0\"", "version: V2");
    remote("headers: {a: hunter, B: hunter}", r#"headers: [("a", ***), ("B", ***)]"#);
    remote("bearer_token: hunter", "auth: Bearer(Given(***))");
    remote("bearer_token_env: PW", "auth: Bearer(Given(***))");
    remote("bearer_token_file: token", "/token\"))");
    remote(
        "basic_auth: {username: me, password: hunter}",
        r#"auth: Basic { user: "me", password: Given(***) }"#,
    );
    remote(
        "basic_auth: {username: me, password_env: PW}",
        r#"auth: Basic { user: "me", password: Given(***) }"#,
    );
    remote(
        "basic_auth: {username: me, password_file: secret}",
        r#"auth: Basic { user: "me", password: File("#,
    );
    remote("timeout: 3s", "timeout: 3s");
    remote("tls: {ca_file: a.pem}", "/a.pem\")");
    remote("tls: {cert_file: a.pem, key_file: secret}", "/secret\"))");
    remote("tls: {server_name: n}", r#"server_name: Some("n")"#);
    remote("tls: {insecure_skip_verify: true}", "skip_verification: true");
    check(
        "otlp: {endpoint: \"http://h:4318\", protocol: http}",
        "protocol: Http, endpoint: Endpoint { url: http://h:4318/v1/metrics",
    );
    check("otlp: {endpoint: \"https://h/\"}", "Otlp { protocol: Grpc, endpoint: Endpoint { url: https://h/,");
    check("otlp: {endpoint: \"https://h\", timeout: 1m, bearer_token: hunter}", "auth: Bearer(Given(***))");
    let queue = |text: &str, expected: &str| check(&format!("{REMOTE}\n  queue: {{{text}}}"), expected);
    queue("max_bytes: 64MiB", "max_bytes: 67108864");
    queue("max_age: 55m", "max_age: 3300s");
    queue("min_free: 0", "min_free: 0,");
    queue("memory: 64MiB", "memory: 67108864");
    queue("fsync: always", "fsync: Always");
    queue("fsync: never", "fsync: Never");
    queue("fsync: 100ms", "fsync: Every(100ms)");
    queue("durability: spill", "durability: Spill");
    queue("durability: memory", "durability: Memory");
    queue("lanes: 16", "lanes: 16");
    queue("on_full: drop_newest", "on_full: DropNewest");
    queue("linger: 0s", "linger: 0ns");
    check(&format!("{REMOTE}\n  replay: {{max_samples_per_second: 7}}"), "max_samples_per_second: Some(7)");
    check(&format!("{REMOTE}\n  external_labels: {{cluster: a}}"), r#"external_labels: {"cluster": "a"}"#);
}

#[test]
fn the_path_of_otlp_by_http_ends_in_metrics_once() {
    fn check(endpoint: &str, expected: &str) {
        let output = output(&format!("otlp: {{protocol: http, endpoint: \"{endpoint}\"}}"));
        assert_eq!(output.endpoint().url.path, expected, "{endpoint}");
    }
    check("http://h:4318", "/v1/metrics");
    check("http://h:4318/", "/v1/metrics");
    check("http://h/v1/metrics", "/v1/metrics");
    check("http://h/v1/metrics/", "/v1/metrics");
    check("https://h/otlp", "/otlp/v1/metrics");
    check("https://h/otlp/?key=a/b", "/otlp/v1/metrics?key=a/b");
}

#[test]
fn what_is_wrong_is_told_with_line_path_and_expectation() {
    fn check(text: &str, expected: &[&str]) {
        let problems = outcome(text).err().unwrap_or_else(|| panic!("{text} is fine"));
        let found: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{text}\n{}", lines(&problems));
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with("r.yaml:"), "{found}");
            assert!(found["r.yaml:".len()..].starts_with(expected), "{text}\n{found}\n{expected}");
            assert!(!found.contains("hunter") && !found.contains('\n'), "{found}");
            assert!(found.contains("expected") || found.contains("cannot be read"), "{found}");
        }
    }
    // Names and receivers.
    check(
        "outputs: []",
        &["1: outputs: is empty; expected a list of mappings with name, remote_write, otlp, queue"],
    );
    check("outputs: {}", &["1: outputs: is a mapping; expected a list"]);
    check(&format!("outputs: [{{{REMOTE}}}]"), &["1: outputs[0].name: is missing; expected a name"]);
    for name in [".", "..", "a/b", "a b", "ä", "", "../a", "\\0", &"a".repeat(65)] {
        let text = format!("outputs: [{{name: \"{name}\", {REMOTE}}}]");
        check(
            &text,
            &[&format!("1: outputs[0].name: \"{name}\" is no name of an output; expected 1 to 64 letters")],
        );
    }
    check(
        &format!("outputs:\n- {{name: a, {REMOTE}}}\n- {{name: A, {REMOTE}}}\n- {{name: a, {REMOTE}}}"),
        &["4: outputs[2].name: is the name of another output, too; expected"],
    );
    check(&document("queue: {}"), &["2: outputs[0]: there is none of remote_write, otlp; expected one of"]);
    check(
        &document(&format!("{REMOTE}\n  otlp: {{endpoint: \"http://h\"}}")),
        &["4: outputs[0].otlp: cannot be combined with remote_write; expected one of remote_write, otlp"],
    );
    check(&document("remote_write: {}"), &["3: outputs[0].remote_write.url: is missing; expected a URL"]);
    check(&document("otlp: {}"), &["3: outputs[0].otlp.endpoint: is missing; expected a URL"]);
    check(
        &document("otlp: {url: \"http://h\"}"),
        &["3: outputs[0].otlp.endpoint: is missing", "3: outputs[0].otlp.url: there is no such key"],
    );
    // URLs, of which nothing is shown.
    let url = |url: &str, expected: &str| {
        let text = document(&format!("remote_write: {{url: \"{url}\"}}"));
        check(&text, &[&format!("3: outputs[0].remote_write.url: the value {expected}")]);
    };
    url(
        "https://u:hunter2@h/w",
        "holds a user or a password, which would be seen wherever the URL is; expected a URL without, and basic_auth",
    );
    url(
        "hunter2@h",
        "is no URL: it begins with neither http:// nor https://; expected one such as https://mimir.example/api/v1/push",
    );
    url("ftp://h/hunter2", "is no URL: it begins with neither");
    url("http://h:hunter2/", "is no URL: the port is no number from 1 to 65535");
    url("http://::1/hunter2", "is no URL: an IPv6 address must stand in brackets");
    url("http:///hunter2", "is no URL: there is no host");
    url("http://h/?hunter2 x", "is no URL: there is a character that must be encoded");
    url("http://h/?hunter2\\nx", "is no URL: there is a character that must be encoded");
    url("http://h/#hunter2", "is no URL: it has a fragment");
    check(
        &document("otlp: {endpoint: \"http://h:4318/v1/metrics/\"}"),
        &[
            "3: outputs[0].otlp.endpoint: has the path of OTLP over HTTP; expected protocol: http, or a URL without",
        ],
    );
    check(
        &document("otlp: {endpoint: \"collector:4317\"}"),
        &["3: outputs[0].otlp.endpoint: the value is no URL: it begins with neither"],
    );
    check(
        &document("otlp: {endpoint: \"http://h\", protocol: tcp}"),
        &["3: outputs[0].otlp.protocol: \"tcp\" is no protocol of OTLP; expected grpc or http"],
    );
    // Who we are.
    let remote = |text: &str, expected: &[&str]| {
        let text = document(&format!(
            "remote_write:\n    url: \"https://h/w\"\n    {}",
            text.replace("; ", "\n    ")
        ));
        let expected: Vec<_> =
            expected.iter().map(|text| text.replace('$', "outputs[0].remote_write.")).collect();
        check(&text, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    };
    remote(
        "version: 3.0",
        &["5: $version: \"3.0\" is no version of remote write; expected auto, 1.0 or 2.0"],
    );
    remote("bearer_token: \"\"", &["5: $bearer_token: the value is empty"]);
    remote("bearer_token: \"a\\nhunter2\"", &["5: $bearer_token: has a value that no header can have"]);
    remote(
        "bearer_token_file: empty",
        &["5: $bearer_token_file: \"empty\" is an empty file; expected one that holds a token"],
    );
    remote(
        "bearer_token_file: lines",
        &["5: $bearer_token_file: \"lines\" has a value that no header can have; expected"],
    );
    remote(
        "basic_auth: {username: a, password_file: empty}",
        &["5: $basic_auth.password_file: \"empty\" is an empty file; expected one that holds a password"],
    );
    remote(
        "basic_auth: {username: a, password_file: nope}",
        &["5: $basic_auth.password_file: \"nope\" cannot be read"],
    );
    remote("bearer_token_file: nope", &["5: $bearer_token_file: \"nope\" cannot be read"]);
    remote("bearer_token_env: hunter2", &["5: $bearer_token_env: the value is a variable that is not set"]);
    remote(
        "bearer_token: hunter2; bearer_token_file: token; basic_auth: {username: a, password: hunter2}",
        &[
            "6: $bearer_token_file: cannot be combined with bearer_token",
            "7: $basic_auth: cannot be combined with bearer_token; expected one of",
        ],
    );
    remote("basic_auth: {password: hunter2}", &["5: $basic_auth.username: is missing"]);
    remote(
        "basic_auth: {username: \"a:b\", password: hunter2}",
        &["5: $basic_auth.username: \"a:b\" is no user; expected a name without a colon"],
    );
    remote(
        "basic_auth: {username: a}",
        &["5: $basic_auth: there is none of password, password_file, password_env; expected"],
    );
    remote(
        "basic_auth: {username: a, password: hunter2, password_env: PW}",
        &["5: $basic_auth.password_env: cannot be combined with password; expected"],
    );
    // Headers.
    let ours = "is a header that we set ourselves; expected another one";
    remote(
        "headers:; \u{20} Content-Type: hunter2; \u{20} host: hunter2; \u{20} X-Prometheus-Remote-Write-Version: hunter2; \u{20} grpc-timeout: hunter2; \u{20} User-Agent: hunter2",
        &[
            &format!("6: $headers[\"Content-Type\"]: {ours}"),
            &format!("7: $headers.host: {ours}"),
            &format!("8: $headers[\"X-Prometheus-Remote-Write-Version\"]: {ours}"),
            "9: $headers[\"grpc-timeout\"]: is a header that we set ourselves",
            &format!("10: $headers[\"User-Agent\"]: {ours}"),
        ],
    );
    remote("headers: {\"a b\": hunter2}", &["5: $headers[\"a b\"]: is no name of a header"]);
    remote("headers: {a: \"hunter2\\r\\nb: c\"}", &["5: $headers.a: has a value that no header can have"]);
    remote("headers: {a: \"hunter2ä\"}", &["5: $headers.a: has a value that no header can have"]);
    remote("headers: {a: hunter2, A: hunter3}", &["5: $headers.A: is given twice, for upper and lower case"]);
    remote("headers: {a: [hunter2]}", &["5: $headers.a: is a list; expected a text"]);
    remote(
        "headers: {authorization: hunter2}; bearer_token: hunter2",
        &["5: $headers: has Authorization, which bearer_token says too; expected one of them"],
    );
    remote("tls: {key_file: a.pem}", &["5: $tls.key_file: needs cert_file too; expected both"]);
    remote(
        "tls: {enabled: true}",
        &["5: $tls.enabled: there is no such key; expected ca_file, cert_file, key_file"],
    );
    remote("timeout: 0s", &["5: $timeout: \"0s\" is out of range; expected a duration from 1ms to 5m"]);
    // The queue.
    let queue = |text: &str, expected: &str| {
        check(
            &document(&format!("{REMOTE}\n  queue: {{{text}}}")),
            &[&format!("4: outputs[0].queue.{expected}")],
        );
    };
    queue("max_bytes: 2", "max_bytes: \"2\" is out of range; expected a size from 1MiB to 1024TiB");
    queue(
        "max_bytes: 2Gi",
        "max_bytes: \"2Gi\" is no size; expected a whole number with a unit, such as 2GiB",
    );
    queue("max_bytes: 99999TiB", "max_bytes: \"99999TiB\" is out of range");
    queue("max_bytes: [2]", "max_bytes: is a list; expected a size");
    queue("max_age: 0s", "max_age: \"0s\" is out of range; expected a duration from 1s to 3650d");
    queue("memory: 1KiB", "memory: \"1KiB\" is out of range; expected a size from 1MiB to 64GiB");
    queue("fsync: 2h", "fsync: \"2h\" is out of range; expected a duration from 1ms to 1h, always or never");
    queue(
        "fsync: sometimes",
        "fsync: \"sometimes\" is no duration; expected one such as 1s, always or never",
    );
    queue("fsync: 0", "fsync: \"0\" is out of range");
    queue("durability: disk", "durability: \"disk\" is no durability; expected wal, spill or memory");
    queue("lanes: 0", "lanes: \"0\" is out of range; expected a whole number from 1 to 16");
    queue("lanes: 17", "lanes: \"17\" is out of range");
    queue("on_full: block", "on_full: \"block\" is no such thing; expected drop_oldest or drop_newest");
    queue("linger: 2m", "linger: \"2m\" is out of range; expected a duration from 0s to 1m");
    check(
        &document(&format!("{REMOTE}\n  replay: {{max_samples_per_second: 0}}")),
        &[
            "4: outputs[0].replay.max_samples_per_second: \"0\" is out of range; expected a whole number from 1 up",
        ],
    );
    // Labels.
    check(
        &document(&format!(
            "{REMOTE}\n  external_labels:\n    __x__: a\n    a-b: c\n    service: d\n    job: e\n    le: f\n    state: g\n    __replica__: h"
        )),
        &[
            "5: outputs[0].external_labels.__x__: begins with __",
            "6: outputs[0].external_labels[\"a-b\"]: is no name of a label",
            "7: outputs[0].external_labels.service: is a label that we set ourselves",
            "8: outputs[0].external_labels.job: is a label that we set ourselves; expected another name, or global.job",
            "9: outputs[0].external_labels.le: is a label of histograms",
            "10: outputs[0].external_labels.state: is a label of families of services and members",
        ],
    );
    check("global: {job: \"\"}", &["1: global.job: \"\" is no name"]);
}

#[test]
fn what_is_dangerous_or_has_no_effect_is_told() {
    fn check(text: &str, expected: &[&str]) {
        over_flags(Config::default(), text, expected);
    }
    fn over_flags(flags: Config, text: &str, expected: &[&str]) {
        let loaded = over(flags, text).unwrap_or_else(|problems| panic!("{text}\n{}", lines(&problems)));
        let found: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{text}\n{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(&format!("r.yaml:{expected}")), "{text}\n{found}\n{expected}");
            assert!(!found.contains("hunter") && !found.contains('\n'), "{found}");
        }
    }
    // What a Prometheus takes: whoever says max_age has thought of it.
    check(
        &document(REMOTE),
        &[
            "3: outputs[0].remote_write: keeps samples for 1d, and a Prometheus without out_of_order_time_window",
        ],
    );
    for age in ["55m", "24h", "30d"] {
        check(&document(&format!("{REMOTE}\n  queue: {{max_age: {age}}}")), &[]);
    }
    check(&document("otlp: {endpoint: \"http://h\"}"), &[]);
    let quiet = |remote: &str, more: &str| {
        document(&format!("remote_write: {{{remote}}}\n  queue: {{max_age: 24h, {more}}}"))
    };
    let of_remote = "3: outputs[0].remote_write.";
    check(
        &quiet("url: \"https://h\"", ""),
        &[&format!("{of_remote}url: has no path; receivers have one, such as /api/v1/write")],
    );
    check(&quiet("url: \"https://h/?a=hunter\"", ""), &[&format!("{of_remote}url: has no path")]);
    // Tokens in the open.
    let open = format!("{of_remote}url: begins with http://: whoever is on the way can read");
    for auth in [
        "bearer_token: hunter",
        "bearer_token_file: token",
        "basic_auth: {username: a, password: hunter}",
        "headers: {Authorization: hunter}",
    ] {
        check(&quiet(&format!("url: \"http://h/w\", {auth}"), ""), &[&open]);
        check(&quiet(&format!("url: \"https://h/w\", {auth}"), ""), &[]);
        for local in ["localhost:9090", "127.0.0.1", "[::1]"] {
            check(&quiet(&format!("url: \"http://{local}/w\", {auth}"), ""), &[]);
        }
    }
    check(&quiet("url: \"http://h/w\", headers: {X-Scope-OrgID: a}", ""), &[]);
    check(
        &quiet("url: \"http://h/w\", tls: {server_name: n}", ""),
        &[&format!("{of_remote}tls: without effect: the url begins with http://")],
    );
    check(
        &quiet("url: \"https://h/w\", tls: {ca_file: a.pem, insecure_skip_verify: true}", ""),
        &[&format!("{of_remote}tls.ca_file: without effect: insecure_skip_verify")],
    );
    check(
        &document("otlp: {endpoint: \"http://h\", bearer_token: hunter}"),
        &["3: outputs[0].otlp.endpoint: begins with http://"],
    );
    // The queue.
    check(
        &quiet(
            "url: \"https://h/w\"",
            "durability: memory, max_bytes: 1GiB, min_free: 0, fsync: always, memory: 64MiB",
        ),
        &[
            "4: outputs[0].queue.max_bytes: without effect: durability is memory",
            "4: outputs[0].queue.min_free: without",
            "4: outputs[0].queue.fsync: without",
        ],
    );
    check(&quiet("url: \"https://h/w\"", "durability: spill, max_bytes: 1GiB, fsync: never"), &[]);
    check(
        &quiet("url: \"https://h/w\"", "memory: 2MiB, max_bytes: 1MiB"),
        &["4: outputs[0].queue.memory: without effect: it is more than max_bytes"],
    );
    // Labels.
    let labels = |labels: &str, age: &str| {
        document(&format!("{REMOTE}\n  queue: {{max_age: {age}}}\n  external_labels: {{{labels}}}"))
    };
    check(
        &labels("cluster: a, __replica__: b", "55m"),
        &[
            "5: outputs[0].external_labels.__replica__: tells Mimir and Cortex to take samples of one replica only",
        ],
    );
    check(&labels("cluster: a, __replica__: b", "30s"), &[]);
    check(
        &labels("db: a, x: \"\"", "55m"),
        &[
            "5: outputs[0].external_labels.db: is a label of families of servers",
            "5: outputs[0].external_labels.x: without effect: an empty label",
        ],
    );
    // The whole document.
    check("global: {job: cache}", &["1: global: without effect"]);
    check(
        "services: [{name: a, instances: [h]}]\nglobal: {job: cache}",
        &["2: global.job: without effect: there are no outputs"],
    );
    let quiet = quiet("url: \"https://h/w\"", "");
    check(&format!("{quiet}global: {{job: cache, scrape_interval: 1m}}"), &[]);
    check(
        &format!("{quiet}global: {{labels: {{a: b}}}}"),
        &["5: global.labels: without effect: there are no services"],
    );
    check(
        &format!("{quiet}web: {{service_label: s, instance_label: i}}"),
        &["5: web.service_label: without effect: there are no services"],
    );
    let mut flags = Config::default();
    flags.scrape.target = None;
    over_flags(
        flags,
        &quiet,
        &["2: outputs: without effect: there are no services, and --redis.addr is empty"],
    );
}
