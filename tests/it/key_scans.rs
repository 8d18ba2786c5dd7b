//! Keys of members, looked at apart from ticks: how fast, on whom, and that nothing is counted twice.

use crate::PATIENCE;
use crate::follow::Fleet;
use crate::page::{Labels, Page};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testbed::http::Request;
use testbed::{Action, Cluster, Part, ScriptedServer, SentinelSet, Server, wait_for, wait_until};

/// How often a server was asked a command.
fn calls(server: &Server, command: &str) -> u64 {
    let stats = server.info("commandstats");
    let line = stats.get(&format!("cmdstat_{command}"));
    let calls = line.and_then(|line| line.strip_prefix("calls=")?.split(',').next()?.parse().ok());
    calls.unwrap_or(0)
}

/// The labels and values of a family's samples.
fn samples(page: &Page, family: &str) -> Vec<(Labels, f64)> {
    let samples = page.families.get(family).map(|family| family.samples.clone()).unwrap_or_default();
    samples.into_iter().map(|((_, labels), value)| (labels, value)).collect()
}

/// The sum of a family's samples.
fn sum(page: &Page, family: &str) -> f64 {
    samples(page, family).iter().map(|(_, value)| value).sum()
}

/// The instances that a family has samples of.
fn instances(page: &Page, family: &str) -> BTreeSet<String> {
    samples(page, family).into_iter().map(|(labels, _)| labels["instance"].clone()).collect()
}

#[test]
fn a_scan_keeps_to_its_pace_and_holds_up_no_tick() {
    let server = Server::start(Part::Redis7);
    server.ok(&["EVAL", "for i = 1, 50000 do redis.call('SET', 'key:' .. i, i) end", "0"]);
    let fleet = Fleet::start(&format!(
        "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms }}\n\
         scrape: {{ key_scans: {{ interval: 10m, keys_per_second: 20000 }} }}\n\
         services:\n  - name: cache\n    instances: [\"{}\"]\n    collect: {{ count_keys: [\"key:*\"] }}\n",
        server.address(),
    ));
    wait_until("the scan to begin", PATIENCE, || calls(&server, "scan") > 0);
    let begin = Instant::now();
    let before = fleet.page("/metrics");
    assert!(samples(&before, "redis_keys_count").is_empty(), "it takes its time");
    let page = wait_for("the scan to end", PATIENCE, || {
        let page = fleet.page("/metrics");
        assert_eq!(sum(&page, "redis_up"), 1.0, "the member is there all the time");
        page.has("redis_keys_count").then_some(page)
    });
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(2), "50,000 keys in {took:?}");
    assert_eq!(sum(&page, "redis_keys_count"), 50_000.0);
    assert!(page.has("redvigil_key_scan_age_seconds"));
    assert_eq!(sum(&page, "redvigil_ticks_skipped_total"), 0.0);
    let ticks = sum(&page, "redis_exporter_scrapes_total") - sum(&before, "redis_exporter_scrapes_total");
    assert!(ticks >= 3.0, "{ticks} in {took:?}");
}

#[test]
fn a_replica_is_asked_for_the_keys_and_the_master_is_left_alone() {
    let mut set = SentinelSet::start(Part::Redis7);
    let master = set.master_port();
    for key in ["a", "b", "c"] {
        set.master().ok(&["SET", key, "1"]);
    }
    let fleet = Fleet::start(&format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
         scrape: {{ key_scans: {{ interval: 1s }} }}\n\
         services:\n  - name: orders\n    \
         sentinel: {{ master: {}, addresses: [\"127.0.0.1:{}\"] }}\n    \
         collect: {{ count_keys: [\"*\"], check_keys: [\"[ab]\"] }}\n",
        SentinelSet::NAME,
        set.sentinels[0].port(),
    ));
    let counted = |not: &BTreeSet<String>| {
        wait_for("the keys to be counted", PATIENCE, || {
            let page = fleet.page("/metrics");
            let found = instances(&page, "redis_keys_count");
            (sum(&page, "redis_keys_count") == 3.0 && found.is_disjoint(not)).then_some(found)
        })
    };
    let master_alone = BTreeSet::from([format!("127.0.0.1:{master}")]);
    let first = counted(&master_alone);
    assert_eq!(first.len(), 1, "nothing is counted twice: {first:?}");
    // Always the same one.
    let scans =
        |set: &SentinelSet| -> Vec<u64> { set.nodes.iter().map(|node| calls(node, "scan")).collect() };
    let scanned = scans(&set).iter().sum::<u64>();
    wait_until("more scans", PATIENCE, || scans(&set).iter().sum::<u64>() > scanned + 4);
    assert_eq!(scans(&set).iter().filter(|calls| **calls > 0).count(), 1, "{:?}", scans(&set));
    assert_eq!(calls(set.node(master), "scan"), 0);
    assert_eq!(samples(&fleet.page("/metrics"), "redis_key_size").len(), 2);
    // The other takes its place.
    let chosen = first.iter().next().and_then(|at| at.rsplit(':').next()?.parse().ok()).expect("an address");
    set.node(chosen).kill();
    let second = counted(&first);
    assert_eq!(second.len(), 1, "{second:?}");
    assert!(second.is_disjoint(&master_alone), "{second:?}");
    assert_eq!(calls(set.node(master), "scan"), 0);
}

#[test]
fn each_key_of_a_cluster_is_found_once_on_a_replica() {
    let cluster = Cluster::start(Part::Redis7, 3, 1);
    for i in 0..30 {
        cluster.set(&format!("key:{i}"), "1");
    }
    for replica in cluster.replicas() {
        replica.wait_replicated();
    }
    let fleet = Fleet::start(&format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
         scrape: {{ key_scans: {{ interval: 1s }} }}\n\
         services:\n  - name: sessions\n    cluster: {{ seeds: [\"{}\"] }}\n    \
         collect: {{ count_keys: [\"*\"], check_keys: [\"key:1*\"], check_single_keys: [\"key:2\", \"key:3\"], \
         check_key_groups: [\"^(key)\"] }}\n",
        cluster.nodes[0].address(),
    ));
    let page = wait_for("every shard to be scanned", PATIENCE, || {
        let page = fleet.page("/metrics");
        (samples(&page, "redis_keys_count").len() == 3).then_some(page)
    });
    assert_eq!(sum(&page, "redis_keys_count"), 30.0);
    assert_eq!(sum(&page, "redis_key_group_count"), 30.0);
    let keys: Vec<_> =
        samples(&page, "redis_key_size").into_iter().map(|(labels, _)| labels["key"].clone()).collect();
    let distinct: BTreeSet<_> = keys.iter().collect();
    assert_eq!((keys.len(), distinct.len()), (13, 13), "{keys:?}");
    assert_eq!(samples(&page, "redis_key_memory_usage_bytes").len(), 13);
    for master in cluster.masters() {
        assert_eq!((calls(master, "scan"), calls(master, "eval")), (0, 0), "{}", master.address());
    }
    for replica in cluster.replicas() {
        let flags: Vec<_> =
            crate::our_clients(replica).iter().map(|client| client["flags"].clone()).collect();
        assert!(
            !flags.is_empty() && flags.iter().all(|flags| !flags.contains('r')),
            "READWRITE again: {flags:?}"
        );
    }
}

#[test]
fn a_scan_that_fails_leaves_what_was_known_for_two_intervals() {
    let breaks = Arc::new(AtomicBool::new(false));
    let is_broken = breaks.clone();
    let server = ScriptedServer::start(move |command| match command[0].as_slice() {
        b"SCAN" if is_broken.load(Ordering::SeqCst) => Action::Close,
        b"SCAN" => Action::reply("*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        _ => Action::Default,
    });
    let fleet = Fleet::start(&format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
         scrape: {{ key_scans: {{ interval: 2s }} }}\n\
         services:\n  - name: cache\n    instances: [\"{}\"]\n    collect: {{ count_keys: [\"*\"] }}\n",
        server.address(),
    ));
    let keys = || sum(&fleet.page("/metrics"), "redis_keys_count");
    wait_until("the first scan", PATIENCE, || keys() == 2.0);
    breaks.store(true, Ordering::SeqCst);
    let before = server.count("SCAN");
    wait_until("a scan that fails", PATIENCE, || server.count("SCAN") > before);
    assert_eq!(keys(), 2.0, "the keys are still known");
    wait_until("them to be too old", PATIENCE, || keys() == 0.0);
    assert_eq!(sum(&fleet.page("/metrics"), "redis_up"), 1.0, "the member is none the worse for it");
    let told = fleet.exporter.stderr().matches("key scan failed").count();
    assert_eq!(told, 1, "it is said once");
    breaks.store(false, Ordering::SeqCst);
    wait_until("another good scan", PATIENCE, || keys() == 2.0);
}

#[test]
fn a_scan_that_nobody_wants_any_more_is_given_up() {
    let server = Server::start(Part::Redis7);
    server.ok(&["EVAL", "for i = 1, 100000 do redis.call('SET', 'key:' .. i, i) end", "0"]);
    // At this pace it takes more than three minutes.
    let document = |service: &str| {
        format!(
            "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms }}\n\
             scrape: {{ key_scans: {{ interval: 10m, keys_per_second: 500 }} }}\nservices:\n{service}"
        )
    };
    let of = |work: &str| {
        document(&format!(
            "  - name: cache\n    instances: [\"{}\"]\n    collect: {{ {work} }}\n",
            server.address()
        ))
    };
    let mut fleet = Fleet::start(&of("count_keys: [\"key:*\"]"));
    let reload = |fleet: &mut Fleet, document: &str| {
        fleet.rewrite(document);
        let request = Request { method: "POST", path: "/-/reload", headers: &[], body: b"" };
        assert_eq!(fleet.exporter.send(request).status, 200);
    };
    wait_until("the scan to begin", PATIENCE, || calls(&server, "scan") > 0);

    reload(&mut fleet, &of("check_single_keys: [\"key:7\"]"));
    wait_until("what is wanted instead", PATIENCE, || fleet.page("/metrics").has("redis_key_size"));
    reload(&mut fleet, &of("count_keys: [\"key:*\"]"));
    let before = calls(&server, "scan");
    wait_until("the scan to begin again", PATIENCE, || calls(&server, "scan") > before);

    reload(&mut fleet, &document("  - { name: others, instances: [\"127.0.0.1:1\"] }\n"));
    wait_until("the end of all connections", PATIENCE, || crate::our_clients(&server).is_empty());
}
