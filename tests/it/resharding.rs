//! A Cluster that loses a master, grows, moves slots, shrinks and changes masters on purpose, followed from one
//! seed.

use crate::follow::{Fleet, Seen};
use crate::page::{Labels, Page};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use testbed::{Cluster, Part, wait_until};

/// An interval of discovery.
const INTERVAL: Duration = Duration::from_secs(1);

/// That, and the round of collections that follows, on a machine with much to do.
const SOON: Duration = Duration::from_secs(2);

/// A failover of a Cluster takes some seconds, and more on a machine with much to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// The exporter, told of one node; it finds the others.
fn following(cluster: &Cluster) -> Fleet {
    Fleet::start(&format!(
        "global: {{ scrape_interval: 2s, scrape_timeout: 1s }}\ndiscover: {{ interval: {}s }}\n\
         services:\n  - name: sessions\n    labels: {{ team: web }}\n    cluster: {{ seeds: [\"{}\"] }}\n",
        INTERVAL.as_secs(),
        cluster.nodes[0].address(),
    ))
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    let mut all: Vec<_> = cluster.nodes.iter().map(testbed::Server::address).collect();
    all.sort();
    all
}

/// The value of a sample about the service.
fn of_service(page: &Page, name: &str, more: &[(&str, &str)]) -> Option<f64> {
    page.value(name, &[&[("service", "sessions"), ("team", "web")], more].concat())
}

fn slots(fleet: &Fleet, state: &str) -> Option<f64> {
    of_service(&fleet.page("/-/metrics"), "redis_service_cluster_slots", &[("state", state)])
}

fn role(fleet: &Fleet, instance: &str) -> Option<String> {
    fleet.member("sessions", instance)?["role"].as_str().map(str::to_owned)
}

/// The instances with samples on the page.
fn with_samples(page: &Page) -> BTreeSet<String> {
    let instance = |labels: &Labels| labels.get("instance").cloned();
    page.families["redis_up"].samples.keys().filter_map(|(_, labels)| instance(labels)).collect()
}

/// Waits for this, which has to be so within an interval of discovery.
#[track_caller]
fn soon(what: &str, known: Instant, is_so: impl FnMut() -> bool) {
    wait_until(what, PATIENCE, is_so);
    let took = known.elapsed();
    assert!(took <= SOON, "{what}: {took:?} after the Cluster knew");
}

#[track_caller]
fn assert_never_down(seen: &Seen, but: &[&str]) {
    for (instance, states) in &seen.health {
        assert!(but.contains(&instance.as_str()) || !states.contains("down"), "{instance}: {states:?}");
    }
}

/// All that happens to a Cluster, one after the other: forming one takes long.
fn check(part: Part) {
    let mut cluster = Cluster::start(part, 3, 1);
    let fleet = following(&cluster);
    assert_eq!(fleet.instances("sessions"), addresses(&cluster), "all six, from one seed");
    let service = fleet.service("sessions");
    assert_eq!(service["kind"], "cluster");
    assert!(service["master"].is_null(), "there are several");
    assert_eq!(service["up"], true);
    let page = fleet.page("/-/metrics");
    assert_eq!(of_service(&page, "redis_topology_info", &[("kind", "cluster")]), Some(1.0));
    assert_eq!(of_service(&page, "redis_service_shards", &[]), Some(3.0));
    assert_eq!(of_service(&page, "redis_service_masters", &[]), Some(0.0), "no slot is claimed twice");
    assert_eq!((slots(&fleet, "covered"), slots(&fleet, "uncovered")), (Some(16384.0), Some(0.0)));

    changes_masters_on_purpose(&fleet, &cluster);
    moves_slots(&fleet, &cluster);
    loses_a_slot(&fleet, &cluster);
    grows_and_shrinks(&fleet, &mut cluster);
    loses_a_master(&fleet, &mut cluster);
}

fn changes_masters_on_purpose(fleet: &Fleet, cluster: &Cluster) {
    let watch = fleet.watch("sessions");
    let old = cluster.masters()[0].address();
    let replica = replica_of(cluster, &old);
    let new = cluster.nodes[replica].address();
    cluster.failover(replica);
    let known = Instant::now();
    soon("the new master", known, || role(fleet, &new).as_deref() == Some("master"));
    wait_until("its samples", PATIENCE, || watch.seen().samples.contains_key(&new));
    wait_until("the old master as a replica", PATIENCE, || role(fleet, &old).as_deref() == Some("replica"));
    assert_told(fleet, &old, &new);
    assert_never_down(&watch.end(), &[]);
    wait_until("the end of the failover", PATIENCE, || fleet.service("sessions")["failover"].is_null());
    assert_eq!(of_service(&fleet.page("/-/metrics"), "redis_failovers_total", &[]), Some(1.0));
}

fn moves_slots(fleet: &Fleet, cluster: &Cluster) {
    let index = |address: &str| cluster.nodes.iter().position(|n| n.address() == address).expect("a node");
    let masters = cluster.masters();
    let (from, to) = (index(&masters[0].address()), index(&masters[1].address()));
    let slot = first_slot(masters[0]);
    cluster.set_slot_migrating(slot, from, to);
    soon("the slot on its way", Instant::now(), || {
        (slots(fleet, "migrating"), slots(fleet, "importing")) == (Some(1.0), Some(1.0))
    });
    cluster.set_slot_stable(slot, from, to);
    soon("the slot at rest", Instant::now(), || {
        (slots(fleet, "migrating"), slots(fleet, "importing")) == (Some(0.0), Some(0.0))
    });
}

/// A slot that nobody serves: no application can use all of the Cluster.
fn loses_a_slot(fleet: &Fleet, cluster: &Cluster) {
    let slot = "100";
    let masters = cluster.masters();
    let owner = masters.iter().find(|node| first_slot(node) == 0).expect("somebody has the first slots");
    // The owner first: as long as it says that the slot is its own, others learn that again.
    owner.ok(&["CLUSTER", "DELSLOTS", slot]);
    for node in cluster.nodes.iter().filter(|node| node.address() != owner.address()) {
        node.ok(&["CLUSTER", "DELSLOTS", slot]);
    }
    wait_until("the slot to be missed", PATIENCE, || slots(fleet, "uncovered") == Some(1.0));
    wait_until("the service to be down", PATIENCE, || fleet.service("sessions")["up"] == false);
    owner.ok(&["CLUSTER", "ADDSLOTS", slot]);
    cluster.wait_until_settled(PATIENCE);
    soon("the slot to be served", Instant::now(), || slots(fleet, "uncovered") == Some(0.0));
    wait_until("the service to be up", PATIENCE, || fleet.service("sessions")["up"] == true);
}

/// The first slot of a master.
fn first_slot(node: &testbed::Server) -> u16 {
    let nodes = node.ok(&["CLUSTER", "NODES"]).text();
    let own = nodes.lines().find(|line| line.contains("myself")).expect("itself");
    let range = own.split(' ').nth(8).expect("slots");
    range.split('-').next().and_then(|first| first.parse().ok()).expect("a number")
}

fn grows_and_shrinks(fleet: &Fleet, cluster: &mut Cluster) {
    let watch = fleet.watch("sessions");
    let failovers = fleet.told("failover").len();
    let index = cluster.add_node(testbed::Role::Master);
    let added = cluster.nodes[index].address();
    soon("the new node", Instant::now(), || fleet.instances("sessions") == addresses(cluster));
    wait_until("its samples", PATIENCE, || with_samples(&fleet.page("/metrics")).contains(&added));
    let donor = cluster.masters()[0].address();
    let donor = cluster.nodes.iter().position(|node| node.address() == donor).expect("a node");
    cluster.reshard(donor, index, 20);
    soon("the fourth shard", Instant::now(), || {
        of_service(&fleet.page("/-/metrics"), "redis_service_shards", &[]) == Some(4.0)
    });
    wait_until("its role", PATIENCE, || role(fleet, &added).as_deref() == Some("master"));
    assert_eq!(slots(fleet, "covered"), Some(16384.0));
    assert_eq!(of_service(&fleet.page("/-/metrics"), "redis_service_shards_without_replica", &[]), Some(1.0));

    cluster.remove_node(index);
    soon("the end of the removed node", Instant::now(), || fleet.instances("sessions") == addresses(cluster));
    assert!(!with_samples(&fleet.page("/metrics")).contains(&added), "its series end");
    let response = fleet.exporter.get(&format!("/scrape?target={}", crate::encoded(&added)), &[]);
    assert_eq!(response.status, 403, "it is a stranger again");
    assert_eq!(of_service(&fleet.page("/-/metrics"), "redis_service_shards", &[]), Some(3.0));
    assert_never_down(&watch.end(), &[&added]);
    assert_eq!(
        fleet.told("failover").len(),
        failovers,
        "moving slots is no failover: {:?}",
        fleet.told("failover")
    );
    let events = fleet.events();
    let of_node = events.iter().filter(|event| event["message"].as_str().is_some_and(|m| m.contains(&added)));
    assert!(of_node.clone().count() >= 2, "it came and went: {events:?}");
    assert!(of_node.clone().any(|event| event["kind"] == "topology"), "{events:?}");
}

fn loses_a_master(fleet: &Fleet, cluster: &mut Cluster) {
    let watch = fleet.watch("sessions");
    let before = fleet.told("failover").len();
    let old = cluster.masters()[0].address();
    let index = cluster.nodes.iter().position(|node| node.address() == old).expect("a node");
    cluster.kill(index);
    let heir = cluster.wait_for_failover(index, PATIENCE);
    let known = Instant::now();
    let new = cluster.nodes[heir].address();
    soon("the new master", known, || role(fleet, &new).as_deref() == Some("master"));
    soon("its samples", known, || watch.seen().samples.contains_key(&new));
    wait_until("all slots to be served again", PATIENCE, || fleet.service("sessions")["up"] == true);
    wait_until("the loss to be told", PATIENCE, || {
        fleet.member("sessions", &old).is_none_or(|member| member["health"] == "down")
    });
    wait_until("the count", PATIENCE, || {
        of_service(&fleet.page("/-/metrics"), "redis_failovers_total", &[]) == Some(2.0)
    });
    assert_never_down(&watch.end(), &[&old]);
    assert_told(fleet, &old, &new);
    assert!(fleet.told("failover").len() > before);
    assert_eq!(of_service(&fleet.page("/-/metrics"), "redis_service_shards_without_replica", &[]), Some(1.0));
    cluster.nodes[index].restart();
    wait_until("its return as a replica", PATIENCE, || {
        fleet.member("sessions", &old).is_some_and(|m| m["role"] == "replica" && m["health"] == "ok")
    });
    // All samples of it are still under the same labels.
    assert!(with_samples(&fleet.page("/metrics")).contains(&old));
}

/// The event log has this failover, once.
#[track_caller]
fn assert_told(fleet: &Fleet, old: &str, new: &str) {
    let wanted = format!("{old} > {new}");
    // The role is known from the node itself, before those who know the Cluster are asked again.
    wait_until("the failover to be told", PATIENCE, || fleet.told("failover").contains(&wanted));
    let told = fleet.told("failover");
    assert_eq!(told.iter().filter(|change| **change == wanted).count(), 1, "{wanted}: {told:?}");
}

/// The index of the replica of the master at this address.
fn replica_of(cluster: &Cluster, master: &str) -> usize {
    let port = master.rsplit(':').next().expect("a port");
    let is_its =
        |node: &testbed::Server| node.info("replication").get("master_port").is_some_and(|p| p == port);
    cluster.nodes.iter().position(is_its).expect("it has one")
}

#[test]
fn a_redis_cluster_is_followed_through_all_its_changes() {
    check(Part::Redis7);
}

#[test]
fn a_valkey_cluster_is_followed_through_all_its_changes() {
    check(Part::Valkey9);
}
