//! Beside the exporter that ours replaces, Debian's version 1.45, on the same servers.
//!
//! Everything that the peer sends has to be there with the same type, the same labels and the same value. The
//! peer is asked before and after us: what did not move in between has to be equal, what moved has to lie in
//! between. What differs on purpose stands in [`DIFFERENT`], and [`MOVING`] names what moves by itself.
//! HELP texts are ours and are not compared; families that only we have are no difference.

use crate::{PATIENCE, exporter, metrics, page::Labels, page::Page};
use std::collections::BTreeSet;
use testbed::{Cluster, Exporter, Part, SentinelSet, Server};

/// What differs on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Difference {
    /// We do not send it.
    Absent,
    /// The TYPE line.
    Kind(&'static str),
    /// Labels that later versions of the peer have as well.
    Label(&'static str),
    /// A label that the peer leaves empty.
    Filled(&'static str),
    /// The value.
    Value,
}
use Difference::{Absent, Filled, Kind, Label, Value};

/// Why none of the families that 1.45 makes of the lines of Redis 8 about the sizes of keys is there.
const SIZES: &str = "a list of sizes that 1.45 takes for the number 0; later versions leave it out";

/// Family, what differs, and why.
const DIFFERENT: &[(&str, Difference, &str)] = &[
    (
        "redis_connected_clients",
        Value,
        "the peer connects anew for each scrape and counts itself; ours is there all the time",
    ),
    (
        "redis_connected_clients_details",
        Absent,
        "split into redis_connected_client_info and a family for each number in later versions of the peer",
    ),
    (
        "redis_db_keys_cached",
        Absent,
        "1.45 takes the field subexpiry for cached keys; mended in later versions of the peer",
    ),
    ("redis_db0_distrib_hashes_items", Absent, SIZES),
    ("redis_db0_distrib_lists_items", Absent, SIZES),
    ("redis_db0_distrib_sets_items", Absent, SIZES),
    ("redis_db0_distrib_strings_sizes", Absent, SIZES),
    ("redis_db0_distrib_zsets_items", Absent, SIZES),
    ("redis_db1_distrib_strings_sizes", Absent, SIZES),
    ("redis_db5_distrib_hashes_items", Absent, SIZES),
    ("redis_expired_time_cap_reached_total", Kind("counter"), "later versions of the peer say counter"),
    ("redis_instance_info", Label("master_replid"), "later versions of the peer have it"),
    ("redis_instance_info", Filled("redis_mode"), "Valkey 8 says server_mode, which the peer does not read"),
    ("redis_instance_info", Label("valkey_version"), "later versions of the peer have it, on Valkey"),
    ("redis_instance_info", Label("valkey_release_stage"), "later versions of the peer have it, on Valkey"),
    ("redis_script_values", Label("filename"), "later versions of the peer run several scripts"),
];

/// Gauges that move with every look at them, up and down.
const MOVING: &[&str] = &[
    "redis_last_key_groups_scrape_duration_milliseconds",
    "redis_latency_percentiles_usec",
    "redis_memory_used_bytes",
    "redis_memory_used_dataset_bytes",
    "redis_memory_used_lua_bytes",
];

/// Families that are about the exporter and not about the server.
fn is_about_itself(family: &str) -> bool {
    ["go_", "process_", "promhttp_", "redis_exporter_"].iter().any(|start| family.starts_with(start))
}

/// The name that a family has by default, where `--namespace=test` changed it.
fn usual(family: &str) -> String {
    family.strip_prefix("test_").map_or_else(|| family.to_owned(), |rest| format!("redis_{rest}"))
}

/// What of the peer's pages, before and after, is not in ours.
fn differences(before: &Page, ours: &Page, after: &Page) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, family) in &before.families {
        let usual = usual(name);
        if is_about_itself(&usual) {
            continue;
        }
        let allowed = |what: &Difference| DIFFERENT.iter().any(|(n, w, _)| *n == usual && w == what);
        let Some(own) = ours.families.get(name) else {
            if !allowed(&Absent) {
                found.insert(format!("{name} is missing"));
            }
            continue;
        };
        let kind_is_known = |(n, what, _): &(&str, Difference, &str)| {
            *n == usual && matches!(what, Kind(kind) if *kind == own.kind)
        };
        if own.kind != family.kind && !DIFFERENT.iter().any(kind_is_known) {
            found.insert(format!("{name} is a {} and not a {}", own.kind, family.kind));
        }
        let difference_in = |label: &str| {
            let row = DIFFERENT.iter().find(|(n, what, _)| {
                *n == usual && matches!(what, Label(name) | Filled(name) if *name == label)
            });
            row.map(|(_, what, _)| *what)
        };
        let plain = |labels: &Labels| -> Labels {
            let as_the_peer_has_it = labels.iter().filter_map(|(label, value)| match difference_in(label) {
                Some(Label(_)) => None,
                Some(_) => Some((label.clone(), String::new())),
                None => Some((label.clone(), value.clone())),
            });
            as_the_peer_has_it.collect()
        };
        for ((sample, labels), first) in &family.samples {
            let own = own
                .samples
                .iter()
                .find(|((s, l), _)| s == sample && (l == labels || plain(l) == plain(labels)));
            // What is gone again was not there for us either.
            let Some(last) =
                after.families.get(name).and_then(|f| f.samples.get(&(sample.clone(), labels.clone())))
            else {
                continue;
            };
            let Some((_, value)) = own else {
                found.insert(format!("{sample}{labels:?} is missing"));
                continue;
            };
            let between = (first.min(*last)..=first.max(*last)).contains(value) || first == value;
            if !between && !allowed(&Value) && !MOVING.contains(&usual.as_str()) {
                found.insert(format!("{sample}{labels:?} is {value} and not {first} to {last}"));
            }
        }
    }
    found
}

/// All comparisons of a test: what is missing is listed once, at the end.
#[derive(Default)]
struct Comparison {
    found: Vec<String>,
}

impl Comparison {
    /// Starts both on the same server with the same flags and compares.
    fn check(&mut self, what: &str, address: &str, flags: &[&str]) {
        let addr = format!("--redis.addr={address}");
        let ours = exporter(&[addr.as_str()]).args(flags).start();
        let peer = Exporter::peer().args(&[addr.as_str()]).args(flags).start();
        // Both were there before: what a first visit leaves behind is in all three pages.
        peer.metrics();
        ours.metrics();
        let [before, own, after] = [&peer, &ours, &peer].map(metrics);
        assert!(before.families.len() > 50, "{what}: the peer shows {:?}", before.names());
        let found = differences(&before, &own, &after);
        self.found.extend(found.iter().map(|difference| format!("{what}: {difference}")));
    }

    /// Panics with all differences.
    #[track_caller]
    fn assert_none(self) {
        assert!(self.found.is_empty(), "{} differences\n{}\n", self.found.len(), self.found.join("\n"));
    }
}

/// Keys of every type in several databases, entries in the slow log, latency events, errors.
fn give_traffic(server: &Server) {
    let mut connection = server.connect().expect("the server listens");
    let mut run = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        connection.command(&words).unwrap_or_else(|error| panic!("{line}: {error}"))
    };
    for line in [
        "CONFIG SET slowlog-log-slower-than 10000",
        "CONFIG SET latency-monitor-threshold 10",
        "SELECT 1",
        "SET one 1",
        "SET text words",
        "EXPIRE text 5000",
        "SELECT 5",
        "HSET hash a 1 b 2 c 3",
        "SELECT 0",
        "SET key:number 1234.56",
        "SET key:text words",
        "RPUSH key:list a b c",
        "SADD key:set a b",
        "ZADD key:zset 1 a 2 b",
        "HSET key:hash a 1 b 2",
        "PFADD key:log a b c",
        "XADD stream:a 1-1 f v",
        "XADD stream:a 2-1 f v",
        "XGROUP CREATE stream:a readers 0",
        "XREADGROUP GROUP readers me COUNT 1 STREAMS stream:a >",
        "XADD stream:b 3-1 f v",
        "INCR key:text",
        "LPUSH key:number x",
        "NO.SUCH.COMMAND",
        "EVAL return(1) 0",
        "DEBUG SLEEP 0.03",
        "GET key:number",
        "GET key:nobody",
    ] {
        run(line);
    }
}

#[test]
fn a_plain_server_looks_the_same() {
    let mut all = Comparison::default();
    for part in [Part::Redis62, Part::Redis7, Part::Redis8, Part::Valkey8] {
        let server = Server::start(part);
        give_traffic(&server);
        all.check(part.name(), &server.url(), &[]);
    }
    all.assert_none();
}

#[test]
fn every_feature_looks_the_same() {
    let mut all = Comparison::default();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let script = folder.path().join("answer.lua");
    std::fs::write(&script, "return {\"a\", \"11\", \"b\", \"12.5\"}")
        .expect("a temporary file can be written");
    let script = format!("--script={}", script.display());
    let server = Server::builder(Part::Redis7)
        .password("sesame")
        .config("appendonly yes")
        .config("maxmemory 100mb")
        .config("maxmemory-policy allkeys-lru")
        .config("io-threads 2")
        .start();
    give_traffic(&server);
    let mut blocked = server.connect().expect("the server listens");
    blocked.command(&["CLIENT", "SETNAME", "waiting"]).expect("the server answers");
    blocked.send(&["BLPOP", "nothing", "0"]).expect("the server reads");
    server.wait_for_info("clients", "blocked_clients", "1", PATIENCE);
    for flags in [
        &["--include-config-metrics"][..],
        &["--include-system-metrics", "--include-config-metrics", "--redact-config-metrics=false"],
        &["--export-client-list"],
        &["--export-client-list", "--export-client-port"],
        &[
            "--check-keys=key:*,db1=*",
            "--check-single-keys=db5=hash,key:nobody",
            "--count-keys=key:*,db1=*,none*",
        ],
        &["--check-streams=stream:*"],
        &["--check-single-streams=stream:a"],
        &["--check-key-groups=^(key):.*$,^(stream).*$"],
        &[&script],
        &["--namespace=test", "--ping-on-connect"],
        &["--config-command=-"],
        &["--set-client-name=false", "--redis-only-metrics"],
    ] {
        all.check(&flags.join(" "), &server.url(), &[flags, &["--redis.password=sesame"]].concat());
    }
    drop(blocked);
    all.assert_none();
}

#[test]
fn a_master_and_its_replica_look_the_same() {
    let mut all = Comparison::default();
    let master = Server::start(Part::Redis7);
    give_traffic(&master);
    let replica = Server::builder(Part::Redis7).replica_of(&master).start();
    replica.wait_replicated();
    master.wait_for_info("replication", "connected_slaves", "1", PATIENCE);
    all.check("the master", &master.url(), &[]);
    all.check("the replica", &replica.url(), &["--check-keys=*"]);
    drop(master);
    replica.wait_for_info("replication", "master_link_status", "down", PATIENCE);
    all.check("the replica without its master", &replica.url(), &[]);
    all.assert_none();
}

#[test]
fn a_node_of_a_cluster_looks_the_same() {
    let mut all = Comparison::default();
    let cluster = Cluster::start(Part::Redis7, 3, 0);
    for number in 0..50 {
        cluster.set(&format!("key:{number}"), "value");
    }
    all.check("a node", &cluster.nodes[0].url(), &[]);
    all.check("a node in cluster mode", &cluster.nodes[0].url(), &["--is-cluster"]);
    all.assert_none();
}

#[test]
fn a_sentinel_looks_the_same() {
    let mut all = Comparison::default();
    let set = SentinelSet::start(Part::Redis7);
    all.check("a Sentinel", &set.sentinels[0].url(), &[]);
    all.check("a Sentinel and its settings", &set.sentinels[1].url(), &["--include-config-metrics"]);
    all.assert_none();
}

#[test]
fn a_server_that_is_down_looks_the_same() {
    let port = testbed::Port::take();
    let addr = format!("--redis.addr=127.0.0.1:{}", port.number());
    let ours = metrics(&exporter(&[&addr]).start());
    let peer = metrics(&Exporter::peer().args(&[&addr]).start());
    ours.assert_down("refused");
    assert_eq!(peer.up(), 0.0);
    let missing: Vec<_> = peer
        .names()
        .into_iter()
        .filter(|name| name.starts_with("redis_") && !ours.has(name))
        .filter(|name| !DIFFERENT.iter().any(|(family, what, _)| family == name && *what == Absent))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_difference_has_its_reason_and_is_one() {
    let names: BTreeSet<_> =
        DIFFERENT.iter().map(|(family, what, _)| (family, format!("{what:?}"))).collect();
    assert_eq!(names.len(), DIFFERENT.len(), "a row comes twice");
    assert!(DIFFERENT.iter().all(|(_, _, reason)| reason.len() > 10));
}
