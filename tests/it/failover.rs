//! A master behind Sentinels that dies, hangs, is replaced on purpose or is cut off: who is told to be the
//! master, how soon, and what the event log says.

use crate::follow::{Fleet, Seen, Watch};
use std::time::{Duration, Instant};
use testbed::{Fault, Part, SentinelSet, wait_until};

/// From the moment at which a majority of the Sentinels knows it.
const SOON: Duration = Duration::from_millis(250);

/// A failover of these sets takes 2 to 4 seconds, and ten on a machine with much to do.
const FAILOVER: Duration = Duration::from_secs(30);

/// The exporter, told of one Sentinel of the set; it finds the others.
fn following(set: &SentinelSet) -> Fleet {
    Fleet::start(&format!(
        "global: {{ scrape_interval: 2s, scrape_timeout: 1s }}\n\
         services:\n  - name: orders\n    labels: {{ team: checkout }}\n    \
         sentinel: {{ master: {}, addresses: [\"127.0.0.1:{}\"] }}\n",
        SentinelSet::NAME,
        set.sentinels[0].port(),
    ))
}

fn at(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// The new master is named and its samples flow soon after the majority knows it.
#[track_caller]
fn assert_soon(watch: &Watch, new: u16, known: Instant) {
    let (named, samples) = watch.wait_for_master(&at(new));
    let (named, samples) = (named.saturating_duration_since(known), samples.saturating_duration_since(known));
    assert!(named <= SOON, "the API named it {named:?} after the majority");
    assert!(samples <= SOON, "its samples came {samples:?} after the majority");
}

#[track_caller]
fn assert_never_down(seen: &Seen) {
    for (instance, states) in &seen.health {
        assert!(!states.contains("down"), "{instance}: {states:?}");
    }
}

#[test]
fn a_master_that_is_killed_is_replaced_at_once() {
    let mut set = SentinelSet::start(Part::Redis7);
    let fleet = following(&set);
    let (watch, majority) = (fleet.watch("orders"), set.watch());
    let old = set.master_port();
    set.node(old).kill();
    let (new, known) = majority.wait_for_other_than(old, FAILOVER);
    assert_soon(&watch, new, known);
    let seen = watch.end();
    let masters: Vec<_> = seen.masters.iter().flat_map(|(name, _)| name.clone()).collect();
    assert_eq!(masters, [at(old), at(new)], "nobody else was named in between");
    let told = fleet.told("failover");
    assert!(told.contains(&format!("{} > {}", at(old), at(new))), "{told:?}");
    let page = fleet.page("/-/metrics");
    let of_service = [("service", "orders"), ("team", "checkout")];
    assert_eq!(page.value("redis_failovers_total", &of_service), Some(1.0));
    assert_eq!(page.value("redis_service_up", &of_service), Some(1.0));
    let took = page.value("redis_failover_duration_seconds", &of_service).expect("it was timed");
    assert!((0.5..20.0).contains(&took), "{took}");
}

#[test]
fn a_planned_failover_pages_nobody() {
    let mut set = SentinelSet::start(Part::Redis7);
    let fleet = following(&set);
    let (watch, majority) = (fleet.watch("orders"), set.watch());
    let old = set.master_port();
    set.failover();
    let (new, known) = majority.wait_for_other_than(old, FAILOVER);
    assert_soon(&watch, new, known);
    set.wait_until_settled(FAILOVER);
    wait_until("the failover to be over", FAILOVER, || fleet.service("orders")["failover"].is_null());
    // Long enough for three failures in a row, had there been any.
    let rounds = || fleet.member("orders", &at(old)).is_some_and(|member| member["role"] == "replica");
    wait_until("the old master to be a replica", FAILOVER, rounds);
    assert_never_down(&watch.end());
    let told = fleet.told("failover");
    assert!(told.contains(&format!("{} > {}", at(old), at(new))), "{told:?}");
    let health = fleet.told("health");
    assert!(health.iter().all(|change| !change.ends_with("> down")), "{health:?}");
    set.node(old).restart();
}

#[test]
fn a_master_that_hangs_and_comes_back_is_no_second_master_for_us() {
    let mut set = SentinelSet::start(Part::Redis7);
    let fleet = following(&set);
    let (watch, majority) = (fleet.watch("orders"), set.watch());
    let old = set.master_port();
    set.node(old).pause();
    let (new, known) = majority.wait_for_other_than(old, FAILOVER);
    assert_soon(&watch, new, known);
    std::thread::sleep(Duration::from_secs(20).saturating_sub(known.elapsed()));
    set.node(old).resume();
    set.wait_until_settled(FAILOVER);
    wait_until("the old master to be a replica", FAILOVER, || {
        fleet.member("orders", &at(old)).is_some_and(|member| member["role"] == "replica")
    });
    let seen = watch.end();
    let masters: Vec<_> = seen.masters.iter().flat_map(|(name, _)| name.clone()).collect();
    assert_eq!(masters, [at(old), at(new)], "the old one was never named again");
    let told: Vec<_> = fleet.told("failover").into_iter().filter(|change| !change.ends_with('-')).collect();
    assert_eq!(told, [format!("{} > {}", at(old), at(new))], "one failover");
}

#[test]
fn a_sentinel_that_is_killed_or_restarted_changes_nothing() {
    let mut set = SentinelSet::start(Part::Redis7);
    let fleet = following(&set);
    let watch = fleet.watch("orders");
    let master = set.master_port();
    // The one that we were told of: the others were learned.
    set.sentinels[0].kill();
    let sentinels = || fleet.service("orders")["sentinels"].as_array().cloned().unwrap_or_default();
    wait_until("it to be missed", FAILOVER, || sentinels().iter().any(|one| !one["reason"].is_null()));
    let service = fleet.service("orders");
    assert_eq!((service["master"].as_str(), service["up"].as_bool()), (Some(&*at(master)), Some(true)));
    set.sentinels[0].restart();
    wait_until("it to be back", FAILOVER, || {
        let sentinels = sentinels();
        sentinels.len() == 3 && sentinels.iter().all(|one| one["reason"].is_null())
    });
    // A restarted Sentinel publishes what it read from its file as if it were news.
    let seen = watch.end();
    assert_eq!(seen.masters.len(), 1, "{:?}", seen.masters);
    assert_never_down(&seen);
    assert!(
        fleet.told("failover").iter().all(|change| change.ends_with('-')),
        "{:?}",
        fleet.told("failover")
    );
    let of_service = [("service", "orders"), ("team", "checkout")];
    assert_eq!(fleet.page("/-/metrics").value("redis_failovers_total", &of_service), Some(0.0));
}

#[test]
fn without_a_majority_the_last_confirmed_master_stays() {
    let set = SentinelSet::builder(Part::Redis7).proxies().start();
    let fleet = Fleet::start(&format!(
        "global: {{ scrape_interval: 2s, scrape_timeout: 1s }}\n\
         services:\n  - name: orders\n    sentinel:\n      master: {}\n      addresses: [{}]\n    rewrite: [{}]\n",
        SentinelSet::NAME,
        set.sentinels
            .iter()
            .map(|s| format!("\"{}\"", set.proxy(s.port()).address()))
            .collect::<Vec<_>>()
            .join(", "),
        set.sentinels
            .iter()
            .map(|s| format!("{{ from: \"{}\", to: \"{}\" }}", at(s.port()), set.proxy(s.port()).address()))
            .collect::<Vec<_>>()
            .join(", "),
    ));
    let watch = fleet.watch("orders");
    let master = set.master_port();
    for sentinel in &set.sentinels[1..] {
        set.proxy(sentinel.port()).set(Fault::BlackHole);
        set.proxy(sentinel.port()).drop_connections();
    }
    let unreachable = |fleet: &Fleet| {
        let service = fleet.service("orders");
        let sentinels = service["sentinels"].as_array().cloned().unwrap_or_default();
        sentinels.iter().filter(|one| !one["reason"].is_null()).count()
    };
    wait_until("two Sentinels to be missed", FAILOVER, || unreachable(&fleet) == 2);
    let service = fleet.service("orders");
    assert_eq!(service["master"].as_str(), Some(&*at(master)));
    assert_eq!(fleet.member("orders", &at(master)).expect("a member")["health"], "ok", "its samples flow");
    for sentinel in &set.sentinels[1..] {
        set.proxy(sentinel.port()).set(Fault::Pass);
        set.proxy(sentinel.port()).drop_connections();
    }
    wait_until("all to be back", FAILOVER, || unreachable(&fleet) == 0);
    let seen = watch.end();
    assert_eq!(seen.masters.len(), 1, "{:?}", seen.masters);
    assert_never_down(&seen);
}
