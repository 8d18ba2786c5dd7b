//! Registries, and what they come to.

use crate::config::Config;
use crate::config::document::tests::{config, lines, outcome, over};
use crate::config::peers::Registry;

const ETCD: &str = "etcd: {endpoints: [\"http://e:2379\"]}";

/// A document with this registry.
fn document(text: &str) -> String {
    format!("registry: {{advertise: \"http://me:9\", {text}}}\n")
}

fn registry(text: &str) -> Registry {
    config(&document(text)).peers.registry.expect("a registry")
}

#[test]
fn the_registry_of_the_issue_is_understood() {
    let registry = config(
        r#"
registry:
  advertise: http://10.0.0.5:9121
  zone: eu-1a
  weight: 200
  etcd: { endpoints: [ "https://a:2379", "https://b:2379" ], prefix: /services/exporter/, ttl: 10s, username: me, password_file: token, tls: {} }
  consul: { url: "http://127.0.0.1:8500", tags: [ redis ] }
"#,
    );
    let shown = format!("{:?}", registry.peers.registry);
    for expected in [
        "advertise: http://10.0.0.5:9121/, zone: Some(\"eu-1a\"), weight: 200, file_sd: None",
        "endpoints: [https://a:2379/, https://b:2379/], user: Some((\"me\", File(",
        "prefix: \"/services/exporter/\", ttl: 10s, value: Json",
        "agent: Endpoint { url: http://127.0.0.1:8500/",
        "service: \"redvigil\", tags: [\"redis\"], ttl: 10s",
        "enabled: true, cluster: \"default\", claims_prefix: None, min_peers: 1, settle: 5s, on_etcd_loss: Freeze",
    ] {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
}

#[test]
fn every_field_reaches_its_place() {
    fn check(text: &str, expected: &str) {
        let (before, after) = (format!("{:?}", registry(ETCD)), format!("{:?}", registry(text)));
        assert!(after.contains(expected), "{text}: expected {expected} in {after}");
        assert!(!before.contains(expected), "{text}: {expected} says nothing");
        assert!(!after.contains("hunter"), "{after}");
    }
    let etcd = |text: &str, expected: &str| {
        check(&format!("etcd: {{endpoints: [\"http://e:2379\"], {text}}}"), expected);
    };
    etcd("prefix: /a/b/", "prefix: \"/a/b/\"");
    etcd("ttl: 3s", "ttl: 3s");
    etcd("value: url", "value: Url");
    etcd("username: me, password: hunter", "user: Some((\"me\", Given(***)))");
    etcd("username: me, password_env: PW", "user: Some((\"me\", Given(***)))");
    let sharding = |text: &str, expected: &str| check(&format!("{ETCD}, sharding: {{{text}}}"), expected);
    sharding("enabled: false", "enabled: false");
    sharding("cluster: blue", "cluster: \"blue\"");
    sharding("claims_prefix: /c/", "claims_prefix: Some(\"/c/\")");
    sharding("min_peers: 3", "min_peers: 3");
    sharding("settle: 0s", "settle: 0ns");
    sharding("on_etcd_loss: stop", "on_etcd_loss: Stop");
    check(&format!("{ETCD}, file_sd: out/x.json"), "out/x.json");
    let consul = |text: &str, expected: &str| {
        check(&format!("consul: {{url: \"http://c:8500\", {text}}}"), expected);
    };
    consul("service: eye", "service: \"eye\"");
    consul("token: hunter", "auth: Bearer(Given(***))");
    consul("token_env: PW", "auth: Bearer(Given(***))");
    consul("ttl: 30s", "ttl: 30s");
}

#[test]
fn claims_and_members_have_prefixes_of_their_cluster() {
    let sharding = registry(&format!("{ETCD}, sharding: {{cluster: blue}}")).sharding;
    assert_eq!(
        (&*sharding.claims(), &*sharding.members()),
        ("/redvigil/blue/shards/", "/redvigil/blue/peers/")
    );
    let sharding = registry(&format!("{ETCD}, sharding: {{claims_prefix: /x/}}")).sharding;
    assert_eq!((&*sharding.claims(), &*sharding.members()), ("/x/", "/redvigil/default/peers/"));
}

#[test]
fn who_says_no_address_is_reached_by_its_own_name() {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let check = |web: &str, expected: &str| {
        let found = config(&format!("{web}\nregistry: {{{ETCD}}}\n")).peers.registry.expect("a registry");
        assert_eq!(found.advertise.to_string(), expected, "{web}");
    };
    check("", &format!("http://{name}:9121/"));
    check("web: {external_address: \"out.example:80\"}", "http://out.example/");
}

#[test]
fn what_cannot_be_is_told_by_its_key() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let problems = lines(&outcome(&document(text)).expect_err("a problem"));
        assert!(problems.contains(expected) && !problems.contains("hunter"), "{text}: {problems}");
    }
    check("zone: a", "registry: names no registry; expected etcd or consul");
    check("etcd: {endpoints: []}", "registry.etcd.endpoints: has too few items");
    check("etcd: {endpoints: [\"e:2379\"]}", "is no URL");
    check("etcd: {endpoints: [\"http://me:hunter@e:2379\"]}", "holds a user or a password");
    check("etcd: {endpoints: [\"http://e\", \"https://f\"]}", "has both http:// and https://");
    let etcd = |text: &str, expected: &str| {
        check(&format!("etcd: {{endpoints: [\"http://e:2379\"], {text}}}"), expected);
    };
    for prefix in ["services/", "/services", "/", "//", "/a//b/", "\"/a b/\"", "\"\""] {
        etcd(&format!("prefix: {prefix}"), "is no prefix of keys");
    }
    for ttl in ["2s", "6m", "soon"] {
        etcd(&format!("ttl: {ttl}"), "registry.etcd.ttl: ");
    }
    etcd("value: yaml", "expected json or url");
    etcd("username: me", "needs a password too");
    etcd("password: hunter", "registry.etcd.password: needs username too");
    etcd("prefix: /redvigil/", "puts /redvigil/default/shards/ below /redvigil/");
    check(&format!("{ETCD}, sharding: {{claims_prefix: /services/exporter/c/}}"), "registry.sharding: puts");
    check(&format!("{ETCD}, sharding: {{cluster: a/b}}"), "is no name of a cluster");
    check(&format!("{ETCD}, sharding: {{min_peers: 0}}"), "out of range");
    check(&format!("{ETCD}, sharding: {{on_etcd_loss: hope}}"), "expected freeze or stop");
    check(&format!("{ETCD}, weight: 0"), "registry.weight");
    check("consul: {url: \"http://c:8500\", token: hunter, token_env: PW}", "cannot be combined with token");
    let problems = lines(
        &outcome("registry: {advertise: \"http://me:9/x\", consul: {url: \"http://c\"}}")
            .expect_err("a problem"),
    );
    assert!(problems.contains("registry.advertise: \"http://me:9/x\" has a path"), "{problems}");
}

#[test]
fn what_has_no_effect_is_told() {
    let check = |text: &str, expected: Option<&str>| {
        let warnings = over(Config::default(), &document(text)).expect("a document").warnings;
        let told: Vec<_> =
            warnings.iter().map(ToString::to_string).filter(|line| line.contains("registry")).collect();
        assert_eq!(told.len(), usize::from(expected.is_some()), "{told:?}");
        assert!(expected.is_none_or(|expected| told[0].contains(expected)), "{told:?}");
    };
    let consul = "consul: {url: \"http://c:8500\"}, sharding: {min_peers: 2}";
    check(consul, Some("registry.sharding: without effect: work is shared by etcd"));
    check("etcd: {endpoints: [\"http://e\"], tls: {}}", Some("registry.etcd.tls: without effect"));
    check(ETCD, None);
}
