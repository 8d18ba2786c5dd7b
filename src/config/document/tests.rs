//! Whole documents, and what they come to.

use super::*;
use crate::config::collect::KeyPattern;
use crate::config::credentials::{SentinelTls, Side};
use crate::config::scrape::HostPattern;
use crate::config::{Address, Secret};

/// What a document says over the defaults, in a folder of its own with some files.
pub(super) fn outcome(text: &str) -> Result<Config, Vec<Problem>> {
    over(Config::default(), text).map(|loaded| loaded.config)
}

pub(super) fn over(flags: Config, text: &str) -> Result<Loaded, Vec<Problem>> {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
    write("secret", "hunter2\n");
    write("empty", "\n");
    write("q.lua", "return {}");
    write("a.pem", "");
    write("token", "hunter4\n");
    write("lines", "hunter5\nhunter6\n");
    let sources = of_flags(flags);
    let env = |name: &str| match name {
        "PW" => Some("hunter3".into()),
        "NOTHING" => Some("".into()),
        _ => None,
    };
    let root = tree::parse("r.yaml", text)
        .map_err(|fault| vec![Problem { place: fault.mark.to_string(), message: fault.message }])?;
    let around = Around { folder: folder.path(), env: &env, files: &Files::default() };
    let (config, warnings) = sources.apply(sources.flags.config.clone(), &root, around)?;
    Ok(Loaded { config, warnings })
}

fn of_flags(config: Config) -> Sources {
    Sources { file: None, flags: Arc::new(Flags { config, ..Flags::default() }) }
}

pub(super) fn config(text: &str) -> Config {
    outcome(text).unwrap_or_else(|problems| panic!("{text}\n{}", lines(&problems)))
}

pub(super) fn lines(problems: &[Problem]) -> String {
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

/// What stands at the place of a service in documents about something else.
const SERVICE: &str = "services: [{name: a, instances: [h]}]\n";

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
            assert!(
                found.contains("expected")
                    || found.contains("did you mean")
                    || found.contains("cannot be read"),
                "{found}"
            );
        }
    }
    let in_service = |text: &str| format!("services:\n- name: a\n  {text}\n");
    let in_profile = |text: &str| format!("credentials:\n- name: p\n  match: {{hosts: [h]}}\n  {text}\n");

    // Structure.
    check("[]", &["1: is a list; expected a mapping with global, credentials, services, scrape, health,"]);
    check("hello", &["1: is a text; expected a mapping"]);
    check("a: *x", &["1: an alias"]);
    check("healt: {}", &["1: healt: there is no such key; did you mean health?"]);
    check("zzz: {}", &["1: zzz: there is no such key; expected global, credentials"]);
    check("\"a b\": 1", &["1: [\"a b\"]: there is no such key"]);
    check("health: {}\nhealth: {}", &["2: health: is given twice, before on line 1; expected it once"]);
    check("health: 3", &["1: health: is a text; expected a mapping with failures_to_down, failover_max"]);
    check("health: [1]", &["1: health: is a list; expected a mapping"]);
    check("services: {}", &["1: services: is a mapping; expected a list of mappings with name, sentinel"]);
    check("services: []", &["1: services: is empty; expected a list of mappings with name"]);
    check(
        "services:\n- a\n- ~",
        &[
            "2: services[0]: is a text; expected a mapping with name",
            "3: services[1]: is empty; expected a mapping with name",
        ],
    );
    // Single values.
    check(
        "health:\n  failures_to_down: 0",
        &["2: health.failures_to_down: \"0\" is out of range; expected a whole number from 1 to 1000"],
    );
    check(
        "health: {failures_to_down: -1}",
        &["1: health.failures_to_down: \"-1\" is no such number; expected"],
    );
    check("health: {failures_to_down: 3.5}", &["1: health.failures_to_down: \"3.5\" is no such number"]);
    check(
        "health: {failures_to_down: \"3\"}",
        &["1: health.failures_to_down: \"3\" is in quotes, which makes it a text"],
    );
    check(
        "health: {failures_to_down: [3]}",
        &["1: health.failures_to_down: is a list; expected a whole number"],
    );
    check(
        "scrape: {key_scans: {replicas_first: yes}}",
        &["1: scrape.key_scans.replicas_first: \"yes\" is no switch; expected true or false"],
    );
    check(
        "collect: {client_list: \"true\"}",
        &["1: collect.client_list: \"true\" is in quotes, which makes it a text; expected true or false"],
    );
    check(
        "global: {scrape_interval: 15}",
        &["1: global.scrape_interval: \"15\" is no duration; expected whole numbers with units"],
    );
    check(
        "global: {scrape_interval: 1ms}",
        &["1: global.scrape_interval: \"1ms\" is out of range; expected a duration from 10ms to 1d"],
    );
    check(
        "global: {scrape_interval: {a: 1}}",
        &["1: global.scrape_interval: is a mapping; expected a duration"],
    );
    check(
        "collect: {check_search_indexes: \"(\"}",
        &["1: collect.check_search_indexes: \"(\" is no regular expression"],
    );
    check("collect: {config_command: a b}", &["1: collect.config_command: \"a b\" is no name of a command"]);
    check(
        "scrape: {allow: [h, \"10.0.0.0/33\", [x], ~]}",
        &[
            "1: scrape.allow[1]: \"10.0.0.0/33\" is no set of hosts; expected a host name",
            "1: scrape.allow[2]: is a list; expected one of host names",
            "1: scrape.allow[3]: is empty; expected one of host names",
        ],
    );
    check("scrape: {allow: [h, H]}", &["1: scrape.allow[1]: \"H\" is given twice; expected it once"]);
    check(
        "web: {external_address: \"http://h:1\"}",
        &["1: web.external_address: \"http://h:1\" is no address of ours"],
    );
    check(
        "web: {external_address: h}",
        &["1: web.external_address: \"h\" is no address of ours; expected host:port"],
    );
    // Keys and scripts.
    check(
        "collect: {check_keys: [\"a=b=c\", \"x=k\", \"a,b\", \"%\", \"\"]}",
        &[
            "1: collect.check_keys[0]: \"a=b=c\" is no pattern; expected [db=]pattern",
            "1: collect.check_keys[1]: \"x=k\" is no pattern",
            "1: collect.check_keys[2]: \"a,b\" is no pattern",
            "1: collect.check_keys[3]: \"%\" is no pattern",
            "1: collect.check_keys[4]: \"\" is no pattern",
        ],
    );
    check("collect: {scripts: [q.lua, nope.lua]}", &["1: collect.scripts[1]: \"nope.lua\" cannot be read"]);
    // What does not fit together.
    check(
        "global: {scrape_interval: 5s, scrape_timeout: 6s}",
        &["1: global.scrape_timeout: is longer than scrape_interval; expected"],
    );
    check("breaker:\n  pause: 2s\n  max_pause: 1s", &["3: breaker.max_pause: does not fit"]);
    check("breaker: {pause: 1m}", &["1: breaker.pause: does not fit: max_pause is shorter"]);
    check(
        "web: {service_label: instance}",
        &["1: web.service_label: is the other label, too; expected two names"],
    );
    check("web: {service_label: role}", &["1: web.service_label: \"role\" is a label of families of ours"]);
    check("web: {instance_label: db}", &["1: web.instance_label: \"db\" is a label of families of ours"]);
    check("web: {service_label: __a}", &["1: web.service_label: \"__a\" begins with __"]);
    // Labels.
    check(
        "global:\n  labels:\n    __x: a\n    a-b: c\n    service: d\n    le: e\n    ok: [f]\n    ok: g",
        &[
            "3: global.labels.__x: begins with __",
            "4: global.labels[\"a-b\"]: is no name of a label",
            "5: global.labels.service: is a label that we set ourselves; expected another name",
            "6: global.labels.le: is a label of histograms",
            "7: global.labels.ok: is a list; expected a text",
            "8: global.labels.ok: is given twice, before on line 7",
        ],
    );
    check(
        "web: {instance_label: node}\nglobal: {labels: {node: x, instance: fine}}",
        &["2: global.labels.node: is a label that we set"],
    );
    check(
        "global: {labels: {role: x}}",
        &["1: global.labels.role: is a label of families of services and members"],
    );
    check("global: {labels: [a]}", &["1: global.labels: is a list; expected a mapping of labels to texts"]);
    // Services.
    check("services: [{instances: [h]}]", &["1: services[0].name: is missing; expected a name"]);
    check("services: [{name: \"\", instances: [h]}]", &["1: services[0].name: \"\" is no name; expected"]);
    check("services: [{name: ~, instances: [h]}]", &["1: services[0].name: is missing"]);
    check(
        "services:\n- {name: a, instances: [h]}\n- {name: a, instances: [i]}",
        &["3: services[1].name: is the name of another service, too"],
    );
    check(
        "services: [{name: a}]",
        &["1: services[0]: there is none of sentinel, cluster, instances, file_sd; expected one of"],
    );
    check(
        &in_service("instances: [h]\n  cluster: {seeds: [c]}"),
        &["4: services[0].cluster: cannot be combined with instances; expected one of sentinel, cluster"],
    );
    check(&in_service("instances: []"), &["3: services[0].instances: has too few items; expected 1 or more"]);
    check(
        &in_service("instances: [h, \"redis://h:6379\"]"),
        &["3: services[0].instances[1]: the value is given twice"],
    );
    check(
        &in_service("instances: [\"redis://u:hunter2@h:x\", \"redis://me:hunter2\", \"http://hunter2\"]"),
        &[
            "3: services[0].instances[0]: the value is no address: the port is no number from 1 to 65535; expected one such as host:6379",
            "3: services[0].instances[1]: the value is no address: the port",
            "3: services[0].instances[2]: the value is no address: the scheme",
        ],
    );
    check(
        &in_service("sentinel: {addresses: [s]}"),
        &["3: services[0].sentinel.master: is missing; expected a name"],
    );
    check(
        &in_service("sentinel:\n    master: m\n    addresses: [\"s1\",\n      \"s2:x\", \"s3/1\"]"),
        &[
            "6: services[0].sentinel.addresses[1]: the value is no address: the port is no number from 1 to 65535; expected one such as host:26379",
            "6: services[0].sentinel.addresses[2]: the value names a database; expected an address without one",
        ],
    );
    check(
        &in_service("cluster: {seeds: h}"),
        &["3: services[0].cluster.seeds: is a text; expected a list of addresses"],
    );
    check(&in_service("cluster: {hostnames: true}"), &["3: services[0].cluster.seeds: is missing"]);
    check(
        &in_service("file_sd: {files: [\"t/*.txt\", \"*/t.json\", a.json]}"),
        &[
            "3: services[0].file_sd.files[0]: \"t/*.txt\" is no file of targets; expected",
            "3: services[0].file_sd.files[1]: \"*/t.json\" is no file of targets",
        ],
    );
    check(
        &in_service("instances: [h]\n  rewrite: [{from: a b, to: c}, {from: d, to: \"e/f\"}, {to: g}]"),
        &[
            "4: services[0].rewrite[0].from: \"a b\" is no set of hosts",
            "4: services[0].rewrite[1].to: \"e/f\" is no host; expected host or host:port",
            "4: services[0].rewrite[2].from: is missing; expected a host name",
        ],
    );
    check(
        &in_service("instances: [h]\n  labels: {instance: x}"),
        &["4: services[0].labels.instance: is a label that we set"],
    );
    check(
        &in_service("instances: [h]\n  collect: {check_key: [a]}"),
        &["4: services[0].collect.check_key: there is no such key; did you mean check_keys?"],
    );
    check(
        &in_service("instances: [h]\n  replication_lag_bytes: 10k"),
        &[
            "4: services[0].replication_lag_bytes: \"10k\" is no such number; expected a whole number from 0 up",
        ],
    );
    // Credentials.
    check("credentials: [{name: p}]", &["1: credentials[0].match: is missing"]);
    check(
        "credentials: [{name: p, match: {}}]",
        &["1: credentials[0].match: matches nothing; expected services, hosts or both"],
    );
    check("credentials: [{name: p, match: {hosts: []}}]", &["1: credentials[0].match: matches nothing"]);
    check(
        &format!("{SERVICE}credentials: [{{name: p, match: {{services: [b, aa]}}}}]"),
        &[
            "2: credentials[0].match.services[0]: \"b\" is the name of no service; did you mean \"a\"?",
            "2: credentials[0].match.services[1]: \"aa\" is the name of no service",
        ],
    );
    check(
        "credentials: [{name: p, match: {hosts: [h]}}, {name: p, match: {hosts: [i]}}]",
        &["1: credentials[1].name: is the name of another profile"],
    );
    check(
        &in_profile("username: me"),
        &[
            "4: credentials[0].username: needs a password too; expected one of password, password_file, password_env",
        ],
    );
    check(
        &in_profile("sentinel_username: me"),
        &["4: credentials[0].sentinel_username: needs a password too"],
    );
    check(
        &in_profile("password: hunter2\n  password_env: PW"),
        &["5: credentials[0].password_env: cannot be combined with password; expected one of password"],
    );
    check(
        &in_profile("password: \"\""),
        &["4: credentials[0].password: the value is empty; expected a text"],
    );
    check(&in_profile("password: [hunter2]"), &["4: credentials[0].password: is a list; expected a text"]);
    check(
        &in_profile("password_env: hunter2"),
        &["4: credentials[0].password_env: the value is a variable that is not set; expected"],
    );
    check(
        &in_profile("password_env: NOTHING"),
        &["4: credentials[0].password_env: the value is an empty variable"],
    );
    check(&in_profile("password_file: nope"), &["4: credentials[0].password_file: \"nope\" cannot be read"]);
    check(
        &in_profile("sentinel_password_file: empty"),
        &["4: credentials[0].sentinel_password_file: \"empty\" is an empty file"],
    );
    check(
        &in_profile("tls: {ca_file: nope.pem}"),
        &["4: credentials[0].tls.ca_file: \"nope.pem\" cannot be read"],
    );
    check(
        &in_profile("tls: {cert_file: a.pem}"),
        &["4: credentials[0].tls.cert_file: needs key_file too; expected both"],
    );
}

#[test]
fn what_has_no_effect_is_told_with_line_and_path() {
    fn check(text: &str, expected: &[&str]) {
        let loaded = over(Config::default(), text);
        let loaded = loaded.unwrap_or_else(|problems| panic!("{text}\n{}", lines(&problems)));
        let found: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{text}\n{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(&format!("r.yaml:{expected}")), "{text}\n{found}\n{expected}");
            assert!(!found.contains("hunter") && !found.contains('\n'), "{found}");
        }
    }
    let service = |text: &str| format!("services:\n- name: a\n  {text}\n");
    let (list, sentinel) = ("instances: [h]", "sentinel: {master: m, addresses: [s]}");
    // Of a list.
    check(&service(list), &[]);
    check(
        &service(&format!("{list}\n  rewrite: [{{from: f, to: t}}]")),
        &["4: services[0].rewrite: without effect: addresses that are listed"],
    );
    check(
        &service("file_sd: {files: [a.json]}\n  dns: true\n  rewrite: [{from: f, to: t}]"),
        &["4: services[0].dns: without effect: names in files", "5: services[0].rewrite: without effect"],
    );
    let no_name = "4: services[0].dns: without effect: there is no host name";
    check(&service("instances: [\"unix:///s\", 10.0.0.1, \"[::1]:1\"]\n  dns: true"), &[no_name]);
    check(&service("instances: [\"unix:///s\", h]\n  dns: true"), &[]);
    check(&service("instances: [\"unix:///s\"]\n  dns: false"), &[]);
    let user = "3: services[0].instances[1]: without effect: the user of an address";
    check(&service("instances: [\"redis://u:hunter2@h\", \"redis://hunter2@i\"]"), &[user]);
    // Of others.
    let twice = "rewrite: [{from: f, to: t}, {from: g, to: t}, {from: F, to: u}]";
    check(
        &service(&format!("{sentinel}\n  {twice}")),
        &["4: services[0].rewrite[2]: without effect: an earlier one"],
    );
    check(
        &service("cluster: {seeds: [10.0.0.1]}\n  dns: true\n  collect: {sentinel_peer_info: true}"),
        &[no_name, "5: services[0].collect.sentinel_peer_info: without effect"],
    );
    check(&service(&format!("{list}\n  collect: {{sentinel_peer_info: true}}")), &[]);
    // What is collected, for one service and for all.
    for (idle, key, used) in [
        ("client_port: true", "client_port", "client_list: true"),
        ("redact_config_metrics: false", "redact_config_metrics", "config_metrics: true"),
        ("check_search_indexes: x", "check_search_indexes", "search_indexes_metrics: true"),
        ("lua_script_read_only: true", "lua_script_read_only", "scripts: [q.lua]"),
        ("max_distinct_key_groups: 7", "max_distinct_key_groups", "check_key_groups: [x]"),
    ] {
        let of_service = service(&format!("{list}\n  collect: {{{idle}}}"));
        check(&of_service, &[&format!("4: services[0].collect.{key}: without effect")]);
        check(&format!("{of_service}collect: {{{used}}}"), &[]);
        let of_all = format!("collect: {{{idle}}}\n{}", service(list));
        check(&of_all, &[&format!("1: collect.{key}: without effect")]);
        check(&format!("{of_all}  collect: {{{used}}}"), &[]);
        check(&format!("collect: {{{idle}}}"), &[&format!("1: collect.{key}: without effect")]);
        check(&format!("collect: {{{idle}, {used}}}"), &[]);
    }
    check(
        "collect: {config_metrics: true, config_command: \"-\"}",
        &["1: collect.config_metrics: without effect"],
    );
    check("collect: {client_port: false, redact_config_metrics: true, max_distinct_key_groups: 100}", &[]);
    // Credentials.
    let profile = |text: &str| format!("credentials: [{{name: p, {text}}}]\n");
    let both = "match: {hosts: [h]}, password: hunter2, sentinel_password: hunter2";
    let for_none = "1: credentials[0].sentinel_password: without effect: it is for no service with Sentinels";
    check(&(profile(both) + &service(list)), &[for_none]);
    check(&(profile(both) + &service(sentinel)), &[]);
    let of_a = both.replace("hosts: [h]", "services: [a]");
    check(&(profile(&of_a) + &service(list) + &format!("- name: b\n  {sentinel}")), &[for_none]);
    check(&(profile(&of_a) + &service(sentinel)), &[]);
    let second = "{name: q, match: {services: [a], hosts: [h]}}";
    check(
        &format!("credentials:\n- {{name: p, match: {{services: [a]}}}}\n- {second}\n{SERVICE}"),
        &["3: credentials[1].match: without effect: the profile \"p\" matches all of it"],
    );
    check(
        &format!("credentials:\n- {{name: p, match: {{services: [a], hosts: [i]}}}}\n- {second}\n{SERVICE}"),
        &[],
    );
    check(
        &(profile("match: {hosts: [h]}, tls: {ca_file: a.pem, insecure_skip_verify: true}") + SERVICE),
        &["1: credentials[0].tls.ca_file: without effect"],
    );
    for (tls, warned) in [
        ("tls: {enabled: false, server_name: n}", &["1: credentials[0].tls.server_name: without effect"][..]),
        ("tls: {}, sentinel_tls: {}", &[]),
        ("tls: {}, sentinel_tls: {enabled: false}", &[]),
        (
            "sentinel_tls: {enabled: false}",
            &["1: credentials[0].sentinel_tls: without effect: there is no tls"],
        ),
    ] {
        check(&(profile(&format!("match: {{services: [a]}}, {tls}")) + &service(sentinel)), warned);
    }
    let for_none = "1: credentials[0].sentinel_tls: without effect: it is for no service with Sentinels";
    check(&(profile("match: {services: [a]}, sentinel_tls: {}") + &service(list)), &[for_none]);
    // Of the whole document.
    check(
        &format!("{}  labels: {{host: y}}\nglobal: {{labels: {{db: x, team: z}}}}", service(list)),
        &[
            "4: services[0].labels.host: is a label of families",
            "5: global.labels.db: is a label of families",
        ],
    );
    check(
        &format!("{SERVICE}global: {{labels: {{a: \"\", b: c}}}}"),
        &["2: global.labels.a: without effect: an empty label"],
    );
    check(
        &format!("{SERVICE}scrape: {{concurrency: 3, per_host: 4, key_scans: {{interval: 1h}}}}"),
        &["2: scrape.per_host: without effect", "2: scrape.key_scans: without effect: no service has keys"],
    );
    check(&format!("{SERVICE}scrape: {{concurrency: 3, key_scans: {{interval: 5m}}}}"), &[]);
    check(&format!("{SERVICE}scrape: {{key_scans: {{interval: 1h}}}}\ncollect: {{count_keys: [a]}}"), &[]);
    check(&format!("{SERVICE}breaker: {{max_pause: 31s}}"), &["2: breaker.max_pause: is longer than two"]);
    check(&format!("{SERVICE}breaker: {{max_pause: 31s}}\nglobal: {{scrape_interval: 16s}}"), &[]);
    let of_lists = "health: {failover_max: 2m}\ndiscover: {interval: 1s}\n";
    check(
        &format!("{of_lists}{SERVICE}"),
        &["1: health.failover_max: without effect", "2: discover.interval: without effect: all members"],
    );
    check(&format!("{of_lists}{}", service(sentinel)), &[]);
    check(
        "global: {scrape_interval: 1s}\ncredentials: [{name: p, match: {hosts: [h]}}]\n\
         scrape: {concurrency: 7, allow: [h]}\nhealth: {failures_to_down: 2}\nweb: {service_label: s}",
        &[
            "1: global: without effect: there are no services",
            "2: credentials: without effect",
            "3: scrape.concurrency: without effect",
            "5: web.service_label: without effect",
        ],
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once_in_the_order_of_the_text() {
    let problems = outcome(
        "services:
- name: a
  instances: [h:x]
  colect: {}
- name: a
global: {scrape_interval: never}
credentials:
- match: {services: [c]}
  password_file: nope
zzz: 1
",
    )
    .expect_err("it is all wrong");
    let places: Vec<_> = problems.iter().map(|problem| problem.place.as_str()).collect();
    assert_eq!(
        places,
        [
            "r.yaml:3: services[0].instances[0]",
            "r.yaml:4: services[0].colect",
            "r.yaml:5: services[1]",
            "r.yaml:5: services[1].name",
            "r.yaml:6: global.scrape_interval",
            "r.yaml:8: credentials[0].name",
            "r.yaml:8: credentials[0].match.services[0]",
            "r.yaml:9: credentials[0].password_file",
            "r.yaml:10: zzz",
        ]
    );
}

#[test]
fn problems_without_end_have_an_end() {
    let text: String = (0..100_000).map(|n| format!("k{n}: 1\n")).collect();
    let problems = outcome(&text).expect_err("no key is known");
    assert_eq!(problems.len(), reader::MOST_PROBLEMS + 1);
    let last = problems.last().expect("it has some").to_string();
    assert_eq!(last, "r.yaml: there are 99000 more problems");
}

#[test]
fn every_field_reaches_its_place() {
    fn check(text: &str, expected: &str) {
        let config = config(&format!("{SERVICE}{text}"));
        let before = format!("{:?}", self::config(SERVICE));
        let after = format!("{config:?}");
        assert!(after.contains(expected), "{text}: expected {expected} in {after}");
        assert!(!before.contains(expected), "{text}: {expected} says nothing");
    }
    check("global: {scrape_interval: 1m}", "interval: 60s");
    check("global: {scrape_interval: 2s}", "timeout: 2s");
    check("global: {scrape_timeout: 3s}", "timeout: 3s");
    check("global: {labels: {env: prod}}", r#"labels: {"env": "prod"}"#);
    check("global: {job: cache}", r#"job: "cache""#);
    check("scrape: {concurrency: 7}", "concurrency: 7");
    check("scrape: {per_host: 7}", "per_host: 7");
    check("scrape: {allow: [x]}", r#"allow: [Name { glob: "x", port: None }]"#);
    check("scrape: {timeout_offset: 0s}", "timeout_offset: 0ns");
    check("scrape: {key_scans: {interval: 1h}}", "KeyScans { interval: 3600s");
    check("scrape: {key_scans: {replicas_first: false}}", "replicas_first: false");
    check("scrape: {key_scans: {keys_per_second: 7}}", "keys_per_second: 7");
    check("health: {failures_to_down: 7}", "failures_to_down: 7");
    check("health: {failover_max: 0}", "failover_max: 0ns");
    check("breaker: {pause: 2s}", "Breaker { pause: 2s");
    check("breaker: {max_pause: 1m30s}", "max_pause: 90s");
    check("discover: {interval: 500ms}", "interval: 500ms");
    check("web: {service_label: svc}", r#"service_label: "svc""#);
    check("web: {instance_label: member}", r#"instance_label: "member""#);
    check("web: {external_address: \"[::1]:1\"}", r#"external_address: Some("[::1]:1")"#);
    for (text, expected) in [
        ("config_command: \"-\"", "config_command: None"),
        ("config_command: CFG", r#"config_command: Some("CFG")"#),
        ("check_keys: [1=a*]", r#" check: [KeyPattern { db: 1, pattern: "a*" }]"#),
        ("check_single_keys: [a%2Cb]", r#"check_single: [KeyPattern { db: 0, pattern: "a,b" }]"#),
        ("count_keys: [3=a]", "count: [KeyPattern { db: 3"),
        ("check_streams: [4=a]", "streams: [KeyPattern { db: 4"),
        ("check_single_streams: [5=a]", "streams_single: [KeyPattern { db: 5"),
        ("streams_exclude_consumer_metrics: true", "exclude_stream_consumers: true"),
        ("check_keys_batch_size: 7", "batch_size: 7"),
        ("check_key_groups: [^a$, \"b,c\"]", r#"key_groups: ["^a$", "b,c"]"#),
        ("max_distinct_key_groups: 0", "max_key_groups: 0"),
        ("skip_checkkeys_for_role_master: true", "skip_keys_on_master: true"),
        ("disable_exporting_key_values: true", "hide_key_values: true"),
        ("scripts: [q.lua]", r#"scripts: [Script { path: "q.lua", source: "return {}" }]"#),
        ("lua_script_read_only: true", "scripts_read_only: true"),
        ("client_list: true", "client_list: true"),
        ("client_port: true", "client_port: true"),
        ("config_metrics: true", "config_metrics: true"),
        ("redact_config_metrics: false", "redact_config: false"),
        ("modules_metrics: true", "modules: true"),
        ("search_indexes_metrics: true", r#"search_indexes: Some(Regex(".*"))"#),
        ("{search_indexes_metrics: true, check_search_indexes: x}", r#"search_indexes: Some(Regex("x"))"#),
        ("sentinel_peer_info: true", "sentinel_peers: true"),
        ("latency_histograms: false", "latency: false"),
        ("system_metrics: true", "system_metrics: true"),
        ("rdb_file_size_metric: true", "rdb_file_size: true"),
        ("metrics_for_empty_databases: false", "empty_databases: false"),
        ("instance_role_label: true", "role_label: true"),
        ("is_tile38: true", "tile38: true"),
    ] {
        let text = format!("{{{}}}", text.trim_matches(['{', '}']));
        check(&format!("collect: {text}"), expected);
        // For one service alone.
        let config = config(&format!("services: [{{name: a, instances: [h], collect: {text}}}]"));
        let of_service = format!("{:?}", config.discover.services[0].collect);
        assert!(of_service.contains(expected), "{text}: {of_service}");
        assert!(!format!("{:?}", config.collect).contains(expected), "{text}");
    }
    for (text, expected) in [
        (
            "sentinel: {master: m, addresses: [s, \"t:1\"]}",
            r#"source: Sentinel { master: "m", addresses: [Address { endpoint: Tcp { host: "s", port: 26379 }"#,
        ),
        (
            "cluster: {seeds: [c], hostnames: true}",
            r#"source: Cluster { seeds: [Address { endpoint: Tcp { host: "c", port: 6379 }"#,
        ),
        ("cluster: {seeds: [c], hostnames: true}", "hostnames: true"),
        ("instances: [\"unix:///s\"]", r#"source: Instances([Address { endpoint: Unix("/s")"#),
        ("instances: [i], dns: true", "dns: true"),
        ("instances: [i], labels: {a: b}", r#"labels: {"a": "b"}"#),
        ("instances: [i], replication_lag_bytes: 0", "lag_bytes: 0"),
        ("instances: [i], rewrite: [{from: f, to: \"t:1\"}]", r#"host: "t", port: Some(1)"#),
        ("instances: [i], rewrite: [{from: f, to: \"::1\"}]", r#"host: "::1", port: None"#),
        ("instances: [i], rewrite: [{from: f, to: \"[::1]:2\"}]", r#"host: "::1", port: Some(2)"#),
        (
            "instances: [i], rewrite: [{from: f, to: t}]",
            r#"from: Name { glob: "f", port: None }, host: "t", port: None"#,
        ),
        ("file_sd: {files: [/t/*.json]}", r#"source: FileSd(["/t/*.json"])"#),
    ] {
        let config = config(&format!("services: [{{name: a, {text}}}]"));
        let service = format!("{:?}", config.discover.services[0]);
        assert!(service.contains(expected), "{text}: {service}");
    }
}

#[test]
fn passwords_come_from_the_text_a_file_or_a_variable() {
    fn check(text: &str, data: Option<&str>, sentinel: Option<&str>) {
        let profile = format!("credentials: [{{name: p, match: {{hosts: [h]}}, {text}}}]");
        let config = config(&profile);
        let profile = &config.connect.profiles[0];
        let written = |c: &Option<crate::config::Credentials>| {
            c.as_ref().map(|c| format!("{}:{}", c.user.as_deref().unwrap_or_default(), c.password.expose()))
        };
        assert_eq!(written(&profile.data).as_deref(), data, "{text}");
        assert_eq!(written(&profile.sentinel).as_deref(), sentinel, "{text}");
        assert!(!format!("{config:?}").contains("hunter"));
    }
    check("password: hunter1", Some(":hunter1"), None);
    check("password: 0123", Some(":0123"), None);
    check("username: me, password_file: secret", Some("me:hunter2"), None);
    check("password_env: PW", Some(":hunter3"), None);
    check("sentinel_username: me, sentinel_password: pw", None, Some("me:pw"));
    check("sentinel_password_file: secret, password_env: PW", Some(":hunter3"), Some(":hunter2"));
    check("sentinel_password_env: PW", None, Some(":hunter3"));
    check("tls: {}", None, None);
}

#[test]
fn tls_of_a_profile_is_there_where_it_is_said() {
    fn check(text: &str, expected: Option<&str>) {
        let config = config(&format!("credentials: [{{name: p, match: {{hosts: [h]}}, {text}}}]"));
        let tls = config.connect.profiles[0].tls.as_ref().map(|tls| format!("{tls:?}"));
        match expected {
            None => assert_eq!(tls, None, "{text}"),
            Some(expected) => {
                assert!(tls.as_ref().is_some_and(|tls| tls.contains(expected)), "{text}: {tls:?}")
            }
        }
    }
    check("password: a", None);
    check("tls: ~", None);
    check("tls: {}", Some("ca_file: None, client: None, server_name: None, skip_verification: false"));
    check(
        "tls: {server_name: n, insecure_skip_verify: true}",
        Some(r#"server_name: Some("n"), skip_verification: true"#),
    );
    check("tls: {ca_file: a.pem}", Some("/a.pem\")"));
    check("tls: {cert_file: a.pem, key_file: secret}", Some("/secret\"))"));
    check("tls: {enabled: true}", Some("ca_file: None"));
    check("tls: {enabled: false, server_name: n}", None);
    check("sentinel_tls: {}", None);
    let of_sentinels = |text: &str| {
        let config = config(&format!("credentials: [{{name: p, match: {{hosts: [h]}}, {text}}}]"));
        config.connect.profiles[0].sentinel_tls.clone()
    };
    assert_eq!(of_sentinels("tls: {server_name: n}"), SentinelTls::LikeData);
    assert_eq!(of_sentinels("sentinel_tls: {enabled: false, server_name: n}"), SentinelTls::AsAddressed);
    let named = crate::config::connect::Tls { server_name: Some("n".into()), ..Default::default() };
    assert_eq!(of_sentinels("sentinel_tls: {server_name: n}"), SentinelTls::By(named));
}

#[test]
fn what_flags_say_is_what_documents_begin_with() {
    let mut flags = Config::default();
    flags.collect.client_list = true;
    flags.collect.keys.check = KeyPattern::parse_list("a").expect("a list");
    flags.collect.search_indexes = regex::Regex::new("x").ok().map(Into::into);
    flags.scrape.allow = HostPattern::parse_list("h").expect("a list");
    let check = |text: &str, expected: [&str; 4]| {
        let loaded = over(flags.clone(), text).unwrap_or_else(|problems| panic!("{}", lines(&problems)));
        let config = loaded.config;
        let collect = config.discover.services.first().map_or(&config.collect, |service| &*service.collect);
        let pattern = collect.search_indexes.as_ref().map(|pattern| pattern.as_str().to_owned());
        let keys: Vec<_> = collect.keys.check.iter().map(|key| key.pattern.as_str()).collect();
        let allow: Vec<_> = config.scrape.allow.iter().map(ToString::to_string).collect();
        let found =
            [collect.client_list.to_string(), keys.join(" "), pattern.unwrap_or_default(), allow.join(" ")];
        assert_eq!(found, expected, "{text}");
    };
    check("", ["true", "a", "x", "h"]);
    check(SERVICE, ["true", "a", "x", "h"]);
    check("collect: {client_list: false, check_keys: [b]}\nscrape: {allow: [i]}", ["false", "b", "x", "i"]);
    check("collect: {check_keys: [], search_indexes_metrics: false}", ["true", "", "", "h"]);
    check(
        "collect: {client_list: false}\nservices: [{name: a, instances: [h], collect: {check_keys: [c]}}]",
        ["false", "c", "x", "h"],
    );
    check("collect: ~\nscrape:\n", ["true", "a", "x", "h"]);
}

#[test]
fn without_services_the_target_of_the_flags_stays() {
    let config = config("health: {failures_to_down: 5}");
    assert_eq!(config.scrape.target, Some(Address::default()));
    assert_eq!(config.connect.flag_target, Some(Address::default()));
}

#[test]
fn a_document_that_says_nothing_changes_nothing() {
    for text in ["", "# nothing\n", "---\n", "{}", "services:\n", "collect: {}\nscrape: {key_scans: {}}"] {
        assert_eq!(format!("{:?}", config(text)), format!("{:?}", Config::default()), "{text}");
    }
}

/// Every row with its path, `services[].sentinel.master`.
fn paths() -> Vec<(String, Row)> {
    fn walk(rows: Vec<Row>, before: &str, into: &mut Vec<(String, Row)>) {
        for mut row in rows {
            let path = format!("{before}{}", row.key);
            let nested = std::mem::take(&mut row.nested);
            walk(nested, &format!("{path}{}.", if row.each { "[]" } else { "" }), into);
            into.push((path, row));
        }
    }
    let mut all = vec![];
    walk(rows(), "", &mut all);
    all
}

/// A document with this one value.
fn document(path: &str, value: &str) -> String {
    path.rsplit('.').fold(value.to_owned(), |inside, step| match step.strip_suffix("[]") {
        Some(step) => format!("{{{step}: [{inside}]}}"),
        None => format!("{{{step}: {inside}}}"),
    })
}

#[test]
fn the_defaults_of_the_rows_are_those_of_the_structs() {
    // What must be there beside the field.
    const BESIDE: [(&str, &str, &str); 16] = [
        ("registry.etcd.tls.", "registry: {etcd: {endpoints: [\"https://h\"], tls: {", "}}}"),
        ("registry.etcd.", "registry: {etcd: {endpoints: [\"https://h\"], ", "}}"),
        ("registry.consul.tls.", "registry: {consul: {url: \"https://h\", tls: {", "}}}"),
        ("registry.consul.", "registry: {consul: {url: \"https://h\", ", "}}"),
        ("registry.", "registry: {etcd: {endpoints: [\"https://h\"]}, ", "}"),
        (
            "outputs[].remote_write.tls.",
            "outputs: [{name: a, remote_write: {url: \"https://h/w\", tls: {",
            "}}}]",
        ),
        ("outputs[].remote_write.", "outputs: [{name: a, remote_write: {url: \"https://h/w\", ", "}}]"),
        ("outputs[].otlp.tls.", "outputs: [{name: a, otlp: {endpoint: \"https://h\", tls: {", "}}}]"),
        ("outputs[].otlp.", "outputs: [{name: a, otlp: {endpoint: \"https://h\", ", "}}]"),
        ("outputs[].queue.", "outputs: [{name: a, otlp: {endpoint: \"https://h\"}, queue: {", "}}]"),
        ("outputs[].", "outputs: [{name: a, otlp: {endpoint: \"https://h\"}, ", "}]"),
        ("services[].cluster.", "services: [{name: a, cluster: {seeds: [h], ", "}}]"),
        ("services[].", "services: [{name: a, instances: [h], ", "}]"),
        ("credentials[].tls.", "credentials: [{name: a, match: {hosts: [h]}, tls: {", "}}]"),
        (
            "credentials[].sentinel_tls.",
            "credentials: [{name: a, match: {hosts: [h]}, sentinel_tls: {",
            "}}]",
        ),
        ("", "{", "}"),
    ];
    let mut checked = 0;
    for (path, row) in paths().iter().filter(|(_, row)| !row.default.is_empty()) {
        let default = if row.default == ".*" { "\".*\"" } else { row.default };
        let (prefix, before, after) =
            BESIDE.iter().find(|(prefix, ..)| path.starts_with(prefix)).expect("the last fits all");
        let said = document(&path[prefix.len()..], default);
        let said = said.strip_prefix('{').and_then(|said| said.strip_suffix('}')).expect("a mapping");
        let (with, without) = (format!("{before}{said}{after}"), format!("{before}{after}"));
        assert_eq!(format!("{:?}", config(&with)), format!("{:?}", config(&without)), "{with}");
        checked += 1;
    }
    assert!(checked > 85, "{checked}");
}

#[test]
fn every_row_explains_itself_and_has_an_example_that_is_right() {
    for (path, row) in paths() {
        assert!(row.meaning.ends_with('.') && row.meaning.len() > 8, "{path}: {}", row.meaning);
        assert!(!row.kind.is_empty(), "{path}");
        if path == "global.labels" {
            let refused = crate::config::validate::SERVICE_LABELS;
            assert!(row.meaning.contains(&refused.join(", ")), "{}", row.meaning);
        }
        if row.example.is_empty() {
            continue;
        }
        // Files and variables of the example are not here, and the other fields are missing.
        let problems = outcome(&document(&path, row.example)).err().unwrap_or_default();
        let own = path.replace("[]", "[0]");
        let about_it = problems.iter().filter(|problem| {
            let is_own = problem.place.contains(&format!(": {own}"));
            let is_absent = ["cannot be read", "is not set", "needs ", "name of no service"]
                .iter()
                .any(|text| problem.message.contains(text));
            is_own && !is_absent
        });
        assert_eq!(about_it.map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new(), "{path}");
    }
}

#[test]
fn a_reload_reads_everything_again_or_tells_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| fs::write(at(name), text).expect("a file");
    let mut flags = Config::default();
    flags.connect.password_file = Some(at("passwords.json"));
    let sources = Sources { file: Some(at("r.yaml")), ..of_flags(flags) };
    let profile = "credentials: [{name: p, match: {hosts: [h]}, password_file: secret}]\n";
    write("passwords.json", r#"{"h": "one"}"#);
    write("secret", "hunter1\r\n");
    write("r.yaml", profile);
    let password = |config: &Config| {
        let data = config.connect.profiles[0].data.as_ref().expect("a password");
        let filed = config.connect.passwords.get("redis://h:6379").map(Secret::expose).unwrap_or_default();
        format!("{} {filed}", data.password.expose())
    };
    let first = sources.load_file(|_| None).expect("it is all right").config;
    assert_eq!(password(&first), "hunter1 one");
    let again = |config: Config| config.origin.expect("where it came from").sources.load_file(|_| None);
    write("passwords.json", r#"{"h": "two"}"#);
    write("secret", "hunter2");
    write("r.yaml", &format!("{profile}health: {{failures_to_down: 9}}"));
    let second = again(first).expect("it is all right").config;
    assert_eq!((password(&second).as_str(), second.resilience.health.failures_to_down), ("hunter2 two", 9));
    for (name, text, expected) in [
        ("passwords.json", "{", "passwords.json: is no password file"),
        ("secret", "", "r.yaml:1: credentials[0].password_file: \"secret\" is an empty file"),
        ("r.yaml", "{", "r.yaml:1: is no YAML"),
    ] {
        let before = fs::read(at(name)).expect("a file");
        write(name, text);
        let problems = again(second.clone()).expect_err(name);
        assert_eq!(problems.len(), 1, "{name}");
        let prefix = format!("{}/", folder.path().display());
        let found = problems[0].to_string();
        assert!(found.strip_prefix(&prefix).is_some_and(|found| found.starts_with(expected)), "{found}");
        fs::write(at(name), before).expect("a file");
    }
    // What was gone comes back with the next one.
    write("r.yaml", SERVICE);
    let third = again(second).expect("it is all right").config;
    assert_eq!((third.scrape.target.clone(), third.connect.profiles.len()), (None, 0));
    write("r.yaml", "");
    let fourth = again(third).expect("it is all right").config;
    assert_eq!((fourth.scrape.target.is_some(), fourth.resilience.health.failures_to_down), (true, 3));
}

/// A file, a remote document and what is said for the moment, over flags that were said.
fn layered(
    file: &str,
    remote: &str,
    said: &[(&str, &str)],
    patch: serde_json::Value,
) -> Result<Loaded, Vec<Problem>> {
    let said = said.iter().map(|(key, place)| Said {
        key: (*key).into(),
        place: (*place).into(),
        text: String::new(),
    });
    let flags = Flags { said: said.collect(), ..Flags::default() };
    let text = |name: &str, text: &str| {
        Some(Text { name: name.into(), text: text.into() }).filter(|t| !t.text.is_empty())
    };
    let overrides = Overrides::default().patched(&patch, &rows()).expect("may be said");
    let texts = Texts { file: text("r.yaml", file), remote: text("etcd://h:2379/k", remote), overrides };
    Sources { file: Some("r.yaml".into()), flags: Arc::new(flags) }.load(&texts, &Files::default(), &|_| None)
}

#[test]
fn what_is_said_later_wins() {
    fn check(
        file: &str,
        remote: &str,
        said: &[(&str, &str)],
        patch: serde_json::Value,
        expected: (u32, u128, bool, &[&str]),
    ) {
        let Loaded { config, warnings } =
            layered(file, remote, said, patch).unwrap_or_else(|problems| panic!("{}", lines(&problems)));
        let collects =
            config.discover.services.first().map_or(&config.collect, |service| &*service.collect).client_list;
        let told: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        let found = (config.resilience.health.failures_to_down, config.scrape.interval.as_millis(), collects);
        assert_eq!(found, (expected.0, expected.1, expected.2), "{file} {remote}");
        assert_eq!(told, expected.3, "{file} {remote}");
    }
    let none = || serde_json::json!({});
    let five = "health: {failures_to_down: 5}\n";
    check("", "", &[], none(), (3, 15_000, false, &[]));
    check(five, "", &[], none(), (5, 15_000, false, &[]));
    check(five, "health: {failures_to_down: 6}", &[], none(), (6, 15_000, false, &[]));
    check(five, "health: {failures_to_down: ~}", &[], none(), (3, 15_000, false, &[]));
    check(five, "", &[], serde_json::json!({"health": {"failures_to_down": 7}}), (7, 15_000, false, &[]));
    let listed = format!("{SERVICE}collect: {{client_list: true}}");
    let flag = [("collect.client_list", "--export-client-list")];
    check(&listed, "", &[], none(), (3, 15_000, true, &[]));
    check(
        &listed,
        "",
        &flag,
        none(),
        (3, 15_000, false, &["r.yaml:2: collect.client_list: overridden by --export-client-list"]),
    );
    // A service says what is more than all of them.
    check(
        "",
        "services: [{name: a, instances: [h], collect: {client_list: true}}]",
        &flag,
        none(),
        (3, 15_000, true, &[]),
    );
    check(
        SERVICE,
        "services: [{name: a, collect: {client_list: true}}]",
        &[],
        none(),
        (3, 15_000, true, &[]),
    );
    let of_service = |name: &str| serde_json::json!({"services": {name: {"collect": {"client_list": true}}}});
    check(SERVICE, "", &flag, of_service("a"), (3, 15_000, true, &[]));
    check(
        SERVICE,
        "",
        &[],
        of_service("b"),
        (3, 15_000, false, &["runtime: services.\"b\": without effect: there is none of that name"]),
    );
}

#[test]
fn a_problem_is_told_where_it_was_said() {
    fn check(file: &str, remote: &str, patch: serde_json::Value, expected: &str) {
        let problems = layered(file, remote, &[], patch).expect_err("a problem");
        assert_eq!(problems.len(), 1, "{}", lines(&problems));
        assert!(problems[0].to_string().starts_with(expected), "{}", lines(&problems));
    }
    let none = || serde_json::json!({});
    check(
        "health: {}",
        "\n\nhealth: {failures_to_down: 0}",
        none(),
        "etcd://h:2379/k:3: health.failures_to_down: ",
    );
    check(
        "health: {failures_to_down: 0}",
        "health: {failover_max: 2m}",
        none(),
        "r.yaml:1: health.failures_to_down: ",
    );
    check("", "x", none(), "etcd://h:2379/k:1: is a text; expected a mapping");
    check("[", "", none(), "r.yaml:1: is no YAML");
    check(
        SERVICE,
        "services: [{name: a, cluster: {seeds: [h]}}]",
        none(),
        "r.yaml:1: services[0].instances: cannot be combined",
    );
    check(
        "",
        "",
        serde_json::json!({"health": {"failures_to_down": "x"}}),
        "runtime: health.failures_to_down: \"x\" is in quotes",
    );
    let twice = "services: [{name: a, instances: [h]}, {name: a, instances: [i]}]";
    check(SERVICE, twice, none(), "etcd://h:2379/k:1: services[1].name: is the name of another service");
}
