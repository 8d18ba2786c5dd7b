//! Whole command lines and environments, and what they come to.

use super::*;
use crate::config::Address;
use crate::config::serve::PasswordCheck;
use crate::config::{Origin, Secret};
use std::fs;

type Vars<'a> = &'a [(&'a str, &'a str)];

fn outcome(args: &[&str], env: Vars) -> Outcome {
    let get = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
    parse(args.iter().map(Into::into), get)
}

fn config(args: &[&str], env: Vars) -> Config {
    match outcome(args, env) {
        Outcome::Run(config, _) => *config,
        other => panic!("{args:?} {env:?}: {other:?}"),
    }
}

/// All problems, one a line.
fn problems(args: &[&str], env: Vars) -> Vec<String> {
    match outcome(args, env) {
        Outcome::Problems(problems) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("{args:?} {env:?}: {other:?}"),
    }
}

#[test]
fn what_nobody_said_is_as_the_structs_say() {
    let config = Config { origin: None, ..config(&[], &[]) };
    assert_eq!(format!("{config:#?}"), format!("{:#?}", Config::default()));
}

#[test]
fn the_syntax_is_that_of_go() {
    fn check(args: &[&str], namespace: &str, debug: bool) {
        let config = config(args, &[]);
        let is_debug = config.telemetry.level == crate::config::telemetry::Level::Debug;
        assert_eq!((config.collect.namespace.as_str(), is_debug), (namespace, debug), "{args:?}");
    }
    check(&["--namespace=a"], "a", false);
    check(&["-namespace=a"], "a", false);
    check(&["--namespace", "a"], "a", false);
    check(&["-namespace", "a", "-debug"], "a", true);
    check(&["--namespace", "a", "--namespace=b"], "b", false);
    check(&["--namespace="], "", false);
    check(&["--namespace", ""], "", false);
    check(&["", "--namespace=a", ""], "a", false);
    check(&["--debug", "--namespace=a", "--"], "a", true);
    check(&["--debug=false"], "redis", false);
    check(&["--debug", "--debug=F"], "redis", false);
    check(&["--debug=0", "-debug=T"], "redis", true);
    let config =
        config(&["--config-command", "-", "--check-keys", "-a=", "--check-keys-batch-size", "0x10"], &[]);
    assert_eq!((config.collect.config_command, config.collect.batch_size), (None, 16));
}

#[test]
fn the_command_line_wins_over_the_environment() {
    fn check(args: &[&str], env: Vars, expected: &str) {
        let config = config(args, env);
        let listen: Vec<_> = config.serve.listen.iter().map(ToString::to_string).collect();
        let found = format!(
            "{} {} {} {}",
            config.scrape.target.map(|target| target.key()).unwrap_or_default(),
            config.collect.batch_size,
            config.connect.set_client_name,
            listen.join(",")
        );
        assert_eq!(found, expected, "{args:?} {env:?}");
    }
    check(&[], &[], "redis://localhost:6379 1000 true :9121");
    check(&[], &[("REDIS_ADDR", "h")], "redis://h:6379 1000 true :9121");
    check(&["--redis.addr=i"], &[("REDIS_ADDR", "h")], "redis://i:6379 1000 true :9121");
    check(&["--redis.addr=i"], &[("REDIS_ADDR", "::")], "redis://i:6379 1000 true :9121");
    check(&[], &[("REDIS_ADDR", "")], " 1000 true :9121");
    check(&["--redis.addr="], &[("REDIS_ADDR", "h")], " 1000 true :9121");
    let batch = "REDIS_EXPORTER_CHECK_KEYS_BATCH_SIZE";
    check(&[], &[(batch, "017")], "redis://localhost:6379 17 true :9121");
    check(&[], &[(batch, "")], "redis://localhost:6379 1000 true :9121");
    check(&["--check-keys-batch-size=017"], &[(batch, "5")], "redis://localhost:6379 15 true :9121");
    let name = "REDIS_EXPORTER_SET_CLIENT_NAME";
    check(&[], &[(name, "0")], "redis://localhost:6379 1000 false :9121");
    check(&[], &[(name, "")], "redis://localhost:6379 1000 true :9121");
    check(&["--set-client-name"], &[(name, "false")], "redis://localhost:6379 1000 true :9121");
    let listen = "REDIS_EXPORTER_WEB_LISTEN_ADDRESS";
    check(&[], &[(listen, "[::1]:1")], "redis://localhost:6379 1000 true [::1]:1");
    check(
        &["--web.listen-address=:1", "-web.listen-address", "unix:/s"],
        &[(listen, ":3")],
        "redis://localhost:6379 1000 true :1,unix:/s",
    );
}

#[test]
fn every_flag_reaches_its_field() {
    let files = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let (pem, lua) = (file("a.pem", ""), file("a.lua", "return {}"));
    let passwords = file("passwords.json", r#"{"valkey://h": "pw"}"#);
    let document = file("redvigil.yaml", "{}");
    // What a field looks like by Debug once the flag is set.
    let rows = [
        (
            "redis.addr",
            "rediss://h/3",
            r#"target: Some(Address { endpoint: Tcp { host: "h", port: 6379 }, tls: true"#,
        ),
        ("redis.user", "me", r#"user: "me""#),
        ("redis.password-file", &passwords, r#"passwords: {"redis://h:6379": ***}"#),
        ("connection-timeout", "1m30s", "timeout: 90s"),
        ("set-client-name", "false", "set_client_name: false"),
        ("config.file", &document, &format!("Origin {{ file: Some({document:?})")),
        ("config.source", "consul://h/a", r#"key: "a""#),
        ("ping-on-connect", "true", "ping: true"),
        ("config-command", "CFG", r#"config_command: Some("CFG")"#),
        ("is-cluster", "true", "cluster: true"),
        ("cluster-discover-hostnames", "true", "cluster_hostnames: true"),
        ("is-tile38", "true", "tile38: true"),
        ("tls-ca-cert-file", &pem, &format!("ca_file: Some({pem:?})")),
        ("tls-client-cert-file", &pem, &format!("client: Some(({pem:?}, {lua:?}))")),
        ("tls-client-key-file", &lua, &format!("client: Some(({pem:?}, {lua:?}))")),
        ("tls-server-name", "n", r#"server_name: Some("n")"#),
        ("skip-tls-verification", "true", "skip_verification: true"),
        ("namespace", "n", r#"namespace: "n""#),
        ("redis-only-metrics", "true", "redis_only: true"),
        ("append-instance-role-label", "true", "role_label: true"),
        ("include-metrics-for-empty-databases", "false", "empty_databases: false"),
        ("exclude-latency-histogram-metrics", "true", "latency: false"),
        ("include-config-metrics", "true", "config_metrics: true"),
        ("redact-config-metrics", "false", "redact_config: false"),
        ("include-modules-metrics", "true", "modules: true"),
        ("include-search-indexes-metrics", "true", r#"search_indexes: Some(Regex("(?i)^idx:"))"#),
        ("check-search-indexes", "(?i)^idx:", r#"search_indexes: Some(Regex("(?i)^idx:"))"#),
        ("include-sentinel-peer-info", "true", "sentinel_peers: true"),
        ("include-system-metrics", "true", "system_metrics: true"),
        ("include-rdb-file-size-metric", "true", "rdb_file_size: true"),
        ("export-client-list", "true", "client_list: true"),
        ("export-client-port", "true", "client_port: true"),
        ("check-keys", "1=a", r#" check: [KeyPattern { db: 1, pattern: "a" }]"#),
        ("check-single-keys", "2=a", r#"check_single: [KeyPattern { db: 2, pattern: "a" }]"#),
        ("count-keys", "3=a", r#"count: [KeyPattern { db: 3, pattern: "a" }]"#),
        ("check-streams", "4=a", r#"streams: [KeyPattern { db: 4, pattern: "a" }]"#),
        ("check-single-streams", "5=a", r#"streams_single: [KeyPattern { db: 5, pattern: "a" }]"#),
        ("streams-exclude-consumer-metrics", "true", "exclude_stream_consumers: true"),
        ("check-keys-batch-size", "77", "batch_size: 77"),
        ("check-key-groups", r#"^a$,"b,c""#, r#"key_groups: ["^a$", "b,c"]"#),
        ("max-distinct-key-groups", "0", "max_key_groups: 0"),
        ("skip-checkkeys-for-role-master", "true", "skip_keys_on_master: true"),
        ("disable-exporting-key-values", "true", "hide_key_values: true"),
        ("script", &lua, &format!(r#"scripts: [Script {{ path: {lua:?}, source: "return {{}}" }}]"#)),
        ("lua-script-read-only", "true", "scripts_read_only: true"),
        ("scrape.allow", "a:1,10.0.0.0/8", r#"allow: [Name { glob: "a", port: Some(1) }, Net(10.0.0.0/8)]"#),
        ("scrape.credentials-for", "a*", r#"trusted: [Name { glob: "a*", port: None }]"#),
        ("scrape.timeout-offset", "1s", "timeout_offset: 1s"),
        ("disable-scrape-endpoint", "true", "scrape_endpoint: false"),
        ("web.listen-address", "[::1]:1", r#"listen: [Tcp { host: "::1", port: 1 }]"#),
        ("web.systemd-socket", "true", "systemd_socket: true"),
        ("web.telemetry-path", "/m", r#"telemetry_path: "/m""#),
        ("web.prefer-openmetrics", "true", "prefer_openmetrics: true"),
        ("web.max-requests", "7", "max_requests: 7"),
        ("web.max-connections", "7", "max_connections: 7"),
        ("storage.path", "/s", r#"storage: Some("/s")"#),
        ("registry.advertise", "http://me:9", "advertise: Some(http://me:9/)"),
        ("registry.zone", "eu", r#"zone: Some("eu")"#),
        ("registry.weight", "7", "weight: Some(7)"),
        ("web.external-address", "Me:1", r#"external_address: Some("me:1")"#),
        ("web.config.file", &pem, &format!("web_config: Some({pem:?})")),
        ("web.enable-runtime-api", "true", "runtime_api: true"),
        ("tls-server-cert-file", &pem, &format!("cert_file: {pem:?}, key_file: {lua:?}")),
        ("tls-server-key-file", &lua, &format!("cert_file: {pem:?}, key_file: {lua:?}")),
        ("tls-server-ca-cert-file", &pem, &format!("client_ca_file: Some({pem:?})")),
        ("tls-server-min-version", "TLS1.3", "min_version: V13"),
        ("basic-auth-username", "u", r#"basic_auth: Some(BasicAuth { user: "u""#),
        ("log-level", "Warning", "level: Warn"),
        ("debug", "true", "level: Debug"),
        ("log-format", "JSON", "format: Json"),
    ];
    let server = format!("--tls-server-cert-file={pem}");
    for (name, value, expected) in &rows {
        let flag = format!("--{name}={value}");
        let mut args = vec![flag.as_str()];
        // Those that count only beside others.
        let others = match *name {
            "tls-client-cert-file" => vec![format!("--tls-client-key-file={lua}")],
            "tls-client-key-file" => vec![format!("--tls-client-cert-file={pem}")],
            "tls-server-cert-file" => vec![format!("--tls-server-key-file={lua}")],
            "tls-server-key-file" => vec![server.clone()],
            "tls-server-ca-cert-file" | "tls-server-min-version" => {
                vec![server.clone(), format!("--tls-server-key-file={lua}")]
            }
            "include-search-indexes-metrics" => vec!["--check-search-indexes=(?i)^idx:".into()],
            "check-search-indexes" => vec!["--include-search-indexes-metrics".into()],
            "basic-auth-username" => vec!["--basic-auth-password=pw".into()],
            _ => vec![],
        };
        args.extend(others.iter().map(String::as_str));
        let by_flag = format!("{:?}", config(&args, &[]));
        assert!(by_flag.contains(expected), "{flag}: expected {expected} in {by_flag}");
        assert!(!format!("{:?}", Config::default()).contains(expected), "{flag}: {expected} says nothing");
        // The variable says the same.
        let env = flags::find(name).expect("a flag of the table").env;
        let by_variable = format!("{:?}", config(&args[1..], &[(env, value)]));
        assert_eq!(by_variable, by_flag, "{env}");
    }
    // Not seen by Debug, or without a field; each has a test of its own below.
    let elsewhere = ["redis.password", "basic-auth-password", "basic-auth-hash-password"];
    let without_field = ["include-go-runtime-metrics", "version", "help"];
    for flag in flags::all() {
        let is_tested =
            rows.iter().map(|row| row.0).chain(elsewhere).chain(without_field).any(|n| n == flag.name);
        assert!(is_tested, "{}", flag.name);
    }
}

#[test]
fn a_source_with_a_password_in_it_is_refused_and_not_shown() {
    let words = ["--config.source=etcd://me:hunter2@h/k".to_owned()].map(OsString::from);
    let Outcome::Problems(problems) = parse(words.into_iter(), |_| None) else { panic!("it is refused") };
    let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "--config.source: the value holds a user or a password in front of the host; expected username=USER and \
          password_file=FILE or password_env=VARIABLE behind the ?"
        ]
    );
}

#[test]
fn services_of_a_document_take_the_place_of_the_target_of_the_flags() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let services = file("services.yaml", "services: [{name: a, instances: [h]}]");
    let none = file("none.yaml", "health: {failures_to_down: 5}");
    let check = |document: &str, args: &[&str], env: Vars, expected: (&str, usize)| {
        let mut args = args.to_vec();
        args.extend(["--config.file", document]);
        let Outcome::Run(config, warnings) = outcome(&args, env) else { panic!("{args:?} {env:?}") };
        let target = config.scrape.target.as_ref().map(Address::key).unwrap_or_default();
        assert_eq!((target.as_str(), warnings.len()), expected, "{args:?} {env:?} {warnings:?}");
        let has_services = !config.discover.services.is_empty();
        assert!(!has_services || config.connect.password.is_empty());
        assert_eq!(config.connect.flag_target.is_none(), has_services || expected.0.is_empty());
    };
    check(&services, &[], &[], ("", 0));
    check(&services, &["--redis.addr="], &[], ("", 0));
    check(&services, &[], &[("REDIS_ADDR", "")], ("", 0));
    check(&services, &["--redis.password=pw", "--redis.user=me"], &[], ("", 2));
    check(&services, &["--redis.addr="], &[("REDIS_PASSWORD", "pw")], ("", 1));
    let by_variable = file(
        "variable.yaml",
        "services: [{name: a, instances: [h]}]\ncredentials: [{name: p, match: {services: [a]}, password_env: REDIS_PASSWORD}]",
    );
    check(&by_variable, &[], &[("REDIS_PASSWORD", "pw")], ("", 0));
    check(&by_variable, &["--redis.addr="], &[("REDIS_PASSWORD", "pw"), ("REDIS_USER", "me")], ("", 1));
    check(&none, &[], &[], ("redis://localhost:6379", 0));
    check(&none, &["--redis.addr=h"], &[("REDIS_PASSWORD", "pw")], ("redis://h:6379", 0));
    for (args, env, place) in [
        (["--redis.addr=h", "--config.file"], &[] as Vars, "--redis.addr"),
        (["--debug", "--config.file"], &[("REDIS_ADDR", "h")], "REDIS_ADDR"),
    ] {
        let problems = problems(&[args[0], args[1], &services], env);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].starts_with(&format!("{place}: cannot be combined with services")),
            "{problems:?}"
        );
    }
    let broken = file("broken.yaml", "healt: {}\nscrape: {per_host: 0}");
    let problems = problems(&["--log-level=loud", "--config.file", &broken], &[]);
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert_eq!(problems[1], format!("{broken}:1: healt: there is no such key; did you mean health?"));
    let by_variable = config(&[], &[("REDVIGIL_CONFIG_FILE", &services)]);
    assert_eq!(by_variable.discover.services.len(), 1);
}

#[test]
fn levels_and_formats_of_the_log_are_words_in_either_case() {
    fn check(args: &[&str], env: Vars, expected: &str) {
        let telemetry = config(args, env).telemetry;
        assert_eq!(format!("{:?} {:?}", telemetry.level, telemetry.format), expected, "{args:?} {env:?}");
    }
    check(&[], &[], "Info Logfmt");
    for (word, level) in
        [("debug", "Debug"), ("info", "Info"), ("warn", "Warn"), ("warning", "Warn"), ("error", "Error")]
    {
        for word in [word.to_owned(), word.to_uppercase()] {
            check(&[&format!("--log-level={word}")], &[], &format!("{level} Logfmt"));
            check(&[&format!("--log-level={word}"), "--debug"], &[], "Debug Logfmt");
            check(&[], &[("REDIS_EXPORTER_LOG_LEVEL", &word)], &format!("{level} Logfmt"));
        }
    }
    check(&["--log-level="], &[("REDIS_EXPORTER_LOG_LEVEL", "error")], "Info Logfmt");
    check(&["--log-format=json"], &[], "Info Json");
    check(&["--log-format=txt"], &[("REDIS_EXPORTER_LOG_FORMAT", "JSON")], "Info Logfmt");
}

#[test]
fn secrets_reach_their_fields() {
    let password = config(&["--redis.password=pw"], &[]).connect.password;
    assert_eq!(password, Secret::new("pw"));
    let basic_auth = |flag: &str| config(&["--basic-auth-username=u", flag], &[]).serve.basic_auth;
    assert!(matches!(
        basic_auth("--basic-auth-password=pw").map(|auth| auth.password),
        Some(PasswordCheck::Plain(password)) if password.expose() == "pw"
    ));
    let hash = format!("$2b$12${}", "a".repeat(53));
    assert!(matches!(
        basic_auth(&format!("--basic-auth-hash-password={hash}")).map(|auth| auth.password),
        Some(PasswordCheck::Bcrypt(found)) if found.expose() == hash
    ));
    let target = config(&["--redis.addr=redis://u:pw@h"], &[]).scrape.target.expect("a target");
    assert_eq!(target.password, Some(Secret::new("pw")));
}

#[test]
fn what_is_wrong_is_told_by_name_value_and_expectation() {
    fn check(args: &[&str], env: Vars, expected: &[&str]) {
        assert_eq!(problems(args, env), expected, "{args:?} {env:?}");
    }
    check(
        &["--debug", "false"],
        &[],
        &[r#"--debug: the value "false" must stand behind =; expected --debug=false"#],
    );
    check(&["--debug=yes"], &[], &[r#"--debug: "yes" is no boolean; expected true or false"#]);
    check(&["-check-key=a"], &[], &["-check-key: there is no such flag; did you mean --check-keys?"]);
    check(
        &["--redis.address", "h", "--x"],
        &[],
        &[
            "--redis.address: there is no such flag; did you mean --redis.addr?",
            "--x: there is no such flag; --help lists them all",
        ],
    );
    check(&["--namespace"], &[], &["--namespace: needs a value; expected --namespace=NAME"]);
    check(
        &["--namespace", "--debug"],
        &[],
        &["--namespace: needs a value, but the flag --debug follows; expected --namespace=NAME"],
    );
    check(
        &["scrape"],
        &[],
        &[r#"argument 1: "scrape" is no command; there are help, version, completions, check, migrate"#],
    );
    let no_flag = "is no flag, and nothing else is expected; a value stands behind = or right after its flag";
    check(&["redis://h"], &[], &[&format!("argument 1: {no_flag}")]);
    check(
        &["--debug", "x", "--", "--debug"],
        &[],
        &[
            &format!("argument 2 (after --debug): {no_flag}"),
            &format!("argument 4 (after --debug): {no_flag}"),
        ],
    );
    check(&["-"], &[], &[&format!("argument 1: {no_flag}")]);
    check(&["completions", "csh"], &[], &["completions: expected one shell: bash, zsh or fish"]);
    check(&["completions"], &[], &["completions: expected one shell: bash, zsh or fish"]);
    // Variables are named where they say it.
    check(
        &[],
        &[("REDIS_EXPORTER_DEBUG", "yes"), ("REDIS_EXPORTER_CHECK_KEYS_BATCH_SIZE", "0x10")],
        &[
            r#"REDIS_EXPORTER_CHECK_KEYS_BATCH_SIZE: "0x10" is no whole number; expected one from 1 to 4294967295"#,
            r#"REDIS_EXPORTER_DEBUG: "yes" is no boolean; expected true or false"#,
        ],
    );
    check(
        &["--check-keys-batch-size=0"],
        &[],
        &[r#"--check-keys-batch-size: "0" is out of range; expected a whole number from 1 to 4294967295"#],
    );
    check(
        &["--max-distinct-key-groups=-1"],
        &[],
        &[r#"--max-distinct-key-groups: "-1" is out of range; expected a whole number from 0 up"#],
    );
    check(
        &["--log.level=loud", "--log-format=xml"],
        &[],
        &[
            r#"--log.level: "loud" is no log level; expected DEBUG, INFO, WARN or ERROR"#,
            r#"--log-format: "xml" is no log format; expected txt or json"#,
        ],
    );
    check(
        &["--connection-timeout=15", "--scrape.timeout-offset=-1s"],
        &[],
        &[
            r#"--connection-timeout: "15" is no duration; expected a number with a unit, such as 15s, 500ms or 1m30s"#,
            r#"--scrape.timeout-offset: "-1s" is below zero; expected a duration of 0 or more, such as 15s"#,
        ],
    );
    check(
        &["--check-keys=wrong=wrong=1", "--check-single-keys=db-1=k"],
        &[],
        &[
            r#"--check-keys: "wrong=wrong=1" has the item "wrong=wrong=1", which has more than one =; expected [db=]pattern by comma"#,
            r#"--check-single-keys: "db-1=k" has the item "db-1=k", whose database is no number from 0 up; expected [db=]pattern by comma"#,
        ],
    );
    check(
        &["--redis.addr=http://h"],
        &[],
        &[
            "--redis.addr: the value is no address: the scheme is none of redis, rediss, valkey, valkeys, tcp, unix, \
           redis+unix and redis-socket; expected one such as redis://host:6379",
        ],
    );
    check(
        &["--include-search-indexes-metrics", "--check-search-indexes=(a"],
        &[],
        &[r#"--check-search-indexes: "(a" is no regular expression: unclosed group"#],
    );
    check(
        &["--web.telemetry-path=/scrape"],
        &[],
        &[
            r#"--web.telemetry-path: "/scrape" is taken by another page; expected another path, such as /metrics"#,
        ],
    );
    check(
        &["--web.listen-address=:1", "--web.listen-address=:1"],
        &[],
        &[r#"--web.listen-address: ":1" is given twice"#],
    );
    check(
        &["--tls-server-min-version=TLSX"],
        &[],
        &[r#"--tls-server-min-version: "TLSX" is no TLS version; expected TLS1.2 or TLS1.3"#],
    );
    // A bad pattern does not matter while the feature is off.
    config(&["--check-search-indexes=(a"], &[]);
    config(&[], &[("REDIS_EXPORTER_LOG_LEVEL", ""), ("REDIS_EXPORTER_LOG_FORMAT", "")]);
}

#[test]
fn what_belongs_together_must_be_there_together() {
    fn check(args: &[&str], env: Vars, place: &str, message: &str) {
        let found = problems(args, env);
        let [problem] = &found[..] else { panic!("{args:?} {env:?}: {found:?}") };
        assert!(problem.starts_with(&format!("{place}: ")) && problem.contains(message), "{problem}");
    }
    let files = tempfile::tempdir().expect("a directory");
    let pem = files.path().join("a.pem");
    fs::write(&pem, "").expect("a file");
    let pem = pem.display();
    let flag = |name: &str| format!("--{name}={pem}");
    for (given, missing) in [
        ("tls-client-cert-file", "tls-client-key-file"),
        ("tls-client-key-file", "tls-client-cert-file"),
        ("tls-server-cert-file", "tls-server-key-file"),
        ("tls-server-key-file", "tls-server-cert-file"),
        ("tls-server-ca-cert-file", "tls-server-cert-file"),
    ] {
        check(&[&flag(given)], &[], &format!("--{given}"), &format!("needs --{missing}"));
        let env = flags::find(given).expect("a flag").env;
        check(&[], &[(env, &pem.to_string())], env, &format!("needs --{missing}"));
    }
    let hash = format!("--basic-auth-hash-password=$2b$12${}", "a".repeat(53));
    check(&["--basic-auth-username=u"], &[], "--basic-auth-username", "needs --basic-auth-password or");
    check(&["--basic-auth-password=p"], &[], "--basic-auth-password", "needs --basic-auth-username");
    check(&[&hash], &[], "--basic-auth-hash-password", "needs --basic-auth-username");
    check(
        &["--basic-auth-username=u", "--basic-auth-password=p", &hash],
        &[],
        "--basic-auth-hash-password",
        "cannot be combined with --basic-auth-password",
    );
    check(
        &["--basic-auth-username=u", "--basic-auth-hash-password=hunter2"],
        &[],
        "--basic-auth-hash-password",
        "is no bcrypt hash",
    );
    let both = [&flag("web.config.file"), "--basic-auth-username=u", "--basic-auth-password=p"];
    let found = problems(&both, &[("REDIS_EXPORTER_TLS_SERVER_CERT_FILE", "")]);
    let expected = |name| format!("--basic-auth-{name}: cannot be combined with --web.config.file");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with(&expected("username")) && found[1].starts_with(&expected("password")),
        "{found:?}"
    );
}

#[test]
fn files_that_cannot_be_used_are_told() {
    fn check(args: &[&str], place: &str, message: &str) {
        let found = problems(args, &[]);
        let [problem] = &found[..] else { panic!("{args:?}: {found:?}") };
        assert!(problem.starts_with(&format!("{place}: \"")) && problem.contains(message), "{problem}");
        assert!(!problem.contains("hunter"), "{problem}");
    }
    let files = tempfile::tempdir().expect("a directory");
    let path = |name: &str| files.path().join(name).display().to_string();
    for (name, text) in [
        ("good.lua", &b"return {}"[..]),
        ("binary.lua", &[0xff]),
        ("cut.json", br#"{"redis://h": "hunter"#),
        ("twice.json", br#"{"h": "hunter1", "redis://h:6379": "hunter2"}"#),
        ("number.json", br#"{"h": 5}"#),
    ] {
        fs::write(path(name), text).expect("a file");
    }
    let file = |flag: &str, name: &str| format!("--{flag}={}", path(name));
    check(&[&file("script", "none.lua")], "--script", "which cannot be read: No such file");
    check(&[&file("script", "binary.lua")], "--script", "which cannot be read: it is no UTF-8");
    check(&[&format!("--script={},", path("good.lua"))], "--script", r#"has the script "", which"#);
    check(&[&file("redis.password-file", "none.json")], "--redis.password-file", "cannot be read: No such");
    check(
        &[&file("redis.password-file", "cut.json")],
        "--redis.password-file",
        "unexpected end of JSON input",
    );
    check(
        &[&file("redis.password-file", "twice.json")],
        "--redis.password-file",
        r#""h" and "redis://h:6379""#,
    );
    check(&[&file("redis.password-file", "number.json")], "--redis.password-file", "both strings, at line 1");
    check(&[&file("tls-ca-cert-file", "none.pem")], "--tls-ca-cert-file", "cannot be read: No such file");
    check(&[&file("tls-ca-cert-file", "")], "--tls-ca-cert-file", "cannot be read: it is a directory");
    check(&[&file("web.config.file", "none.yml")], "--web.config.file", "cannot be read: No such file");
    let scripts = config(&[&format!("--script={0},{0}", path("good.lua"))], &[]).collect.scripts;
    assert_eq!(scripts.len(), 1);
}

#[test]
fn all_problems_are_told_at_once() {
    let found = problems(
        &["--nonsense", "--redis.addr=h:x", "--debug=x", "stray", "--tls-server-key-file=/nowhere/key.pem"],
        &[("REDIS_EXPORTER_CONNECTION_TIMEOUT", "soon")],
    );
    let places: Vec<_> = found.iter().map(|line| line.split(": ").next().unwrap_or_default()).collect();
    assert_eq!(
        places,
        [
            "--nonsense",
            "argument 4 (after --debug)",
            "--redis.addr",
            "REDIS_EXPORTER_CONNECTION_TIMEOUT",
            "--tls-server-key-file",
            "--debug",
            "--tls-server-key-file",
        ]
    );
}

#[test]
fn no_problem_and_no_warning_shows_a_secret() {
    for args in [
        &["--redis.addr=redis://:hunter2@h:x"][..],
        &["--redis.addr", "redis://hunter2"],
        &["--redis.addr", "hunter2:"],
        &["redis://:hunter2@h"],
        &["hunter2"],
        &["--redis.pasword=hunter2"],
        &["--redis.pasword", "hunter2"],
        &["--redis.password", "=", "hunter2"],
        &["--redis.password=x", "hunter2"],
        &["--debug", "hunter2"],
        &["--basic-auth-hash-password=hunter2"],
        &["--basic-auth-password=hunter2"],
        &["--basic-auth-username=u", "--basic-auth-password=hunter2", "--basic-auth-hash-password=hunter2"],
        &["--redis.addr=", "--redis.password=hunter2"],
        &["--scrape.allow=redis://:hunter2@h", "--scrape.credentials-for=:hunter2@h"],
        &["--web.listen-address=redis://:hunter2@h", "--tls-ca-cert-file=redis://:hunter2@h"],
        &["--redis.addr=redis://u:hunter2@h", "--redis.password=hunter2", "--debug=x"],
    ] {
        let outcome = outcome(args, &[("REDIS_EXPORTER_BASIC_AUTH_PASSWORD", "hunter2")]);
        assert!(!format!("{outcome:?}").contains("hunter"), "{args:?}: {outcome:?}");
    }
}

#[test]
fn what_works_otherwise_than_one_thinks_is_a_warning() {
    fn check(args: &[&str], expected: &[(&str, &str)]) {
        let Outcome::Run(_, warnings) = outcome(args, &[]) else { panic!("{args:?}") };
        assert_eq!(warnings.len(), expected.len(), "{args:?}: {warnings:?}");
        for (warning, (place, message)) in warnings.iter().zip(expected) {
            assert_eq!(warning.place, *place, "{args:?}");
            assert!(warning.message.contains(message), "{warning}");
        }
    }
    check(&[], &[]);
    check(&["--redis.password=p"], &[]);
    check(&["--redis.addr="], &[]);
    check(&["--redis.addr=", "-redis.password=p"], &[("-redis.password", "--scrape.credentials-for")]);
    check(&["--redis.addr=", "--redis.password=p", "--scrape.credentials-for=*"], &[]);
    check(&["--include-go-runtime-metrics"], &[("--include-go-runtime-metrics", "no Go runtime")]);
    check(&["--connection-timeout=0"], &[("--connection-timeout", "an hour")]);
    check(&["--web.systemd-socket"], &[]);
    check(
        &["--web.systemd-socket", "--web.listen-address=:1"],
        &[("--web.listen-address", "--web.systemd-socket")],
    );
    let files = tempfile::tempdir().expect("a directory");
    let pem = files.path().join("a.pem");
    fs::write(&pem, "").expect("a file");
    let (cert, key) = (
        format!("--tls-server-cert-file={}", pem.display()),
        format!("--tls-server-key-file={}", pem.display()),
    );
    check(&[&cert, &key, "--tls-server-min-version=TLS1.1"], &[("--tls-server-min-version", "1.2")]);
    check(&[&cert, &key, "--tls-server-min-version=TLS1.2"], &[]);
    check(&["--tls-server-min-version=TLS1.0"], &[]);
}

#[test]
fn without_an_address_the_password_is_for_all_unless_it_is_narrowed() {
    fn check(args: &[&str], target: &str, expected: bool) {
        let connect = config(args, &[]).connect;
        let address = Address::parse(target).expect(target);
        assert_eq!(connect.credentials(&address, Origin::Request).is_some(), expected, "{args:?} {target}");
    }
    check(&["--redis.password=p"], "localhost", true);
    check(&["--redis.password=p"], "h", false);
    check(&["--redis.addr=h", "--redis.password=p"], "h:6379", true);
    check(&["--redis.addr=", "--redis.password=p"], "h", true);
    check(&["--redis.addr=", "--redis.password=p", "--scrape.credentials-for=*.prod"], "h", false);
    check(&["--redis.addr=", "--redis.password=p", "--scrape.credentials-for=*.prod"], "a.prod", true);
}

#[test]
fn help_and_version_come_before_all_that_is_wrong() {
    fn check(args: &[&str], expected: &str) {
        let outcome = format!("{:?}", outcome(args, &[]));
        assert!(outcome.starts_with(expected), "{args:?}: {outcome}");
    }
    check(&["--help"], "Help");
    check(&["-h"], "Help");
    check(&["--nonsense", "-help"], "Help");
    check(&["help"], "Help");
    check(&["--version"], "Version");
    check(&["-version=true"], "Version");
    check(&["version"], "Version");
    check(&["--version", "--debug=x"], "Version");
    check(&["--version=false"], "Run");
    check(&["--version=x"], "Problems");
    check(&["--namespace", "-h"], "Problems");
    check(&["completions", "bash"], "Completions(Bash)");
    check(&["completions", "zsh"], "Completions(Zsh)");
    check(&["completions", "fish"], "Completions(Fish)");
}

#[cfg(unix)]
#[test]
fn what_is_no_utf8_is_told() {
    use std::os::unix::ffi::OsStringExt;
    let bad = || OsString::from_vec(vec![b'-', b'-', 0xff]);
    let args = [bad(), "--namespace".into(), OsString::from_vec(vec![0xff])];
    let outcome = parse(args.into_iter(), |name| (name == "REDIS_USER").then(bad));
    let Outcome::Problems(problems) = outcome else { panic!("{outcome:?}") };
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "argument 1: is no UTF-8",
            "--namespace: the value is no UTF-8",
            "REDIS_USER: the value is no UTF-8"
        ]
    );
}
