//! A cluster grows, shrinks, moves its slots and fails over while it runs.

use std::time::Duration;

use testbed::{Cluster, Part, Role};

const SOON: Duration = Duration::from_secs(20);

fn check_growing_and_shrinking(part: Part) {
    let mut cluster = Cluster::start(part, 3, 0);
    cluster.set("key", "value");
    let fourth = cluster.add_node(Role::Master);
    assert_eq!((fourth, cluster.slots(fourth)), (3, 0));
    cluster.reshard(0, fourth, 100);
    assert_eq!(cluster.slots(fourth), 100);
    let fifth = cluster.add_node(Role::ReplicaOf(fourth));
    assert_eq!(
        cluster.nodes[fifth].info("replication")["master_port"],
        cluster.nodes[fourth].port().to_string()
    );
    cluster.remove_node(fifth);
    cluster.remove_node(fourth);
    assert_eq!((0..3).map(|at| cluster.slots(at)).sum::<usize>(), 16_384);
    assert_eq!(cluster.ids().len(), 3);
}

#[test]
fn a_redis_cluster_grows_moves_slots_and_shrinks() {
    check_growing_and_shrinking(Part::Redis7);
}

#[test]
fn a_valkey_cluster_grows_moves_slots_and_shrinks() {
    check_growing_and_shrinking(Part::Valkey9);
}

#[test]
fn a_replica_takes_the_place_of_its_master_when_it_dies_and_when_it_is_asked_to() {
    let mut cluster = Cluster::start(Part::Redis7, 3, 1);
    let replica = (3..6).find(|at| {
        cluster.nodes[*at].info("replication")["master_port"] == cluster.nodes[0].port().to_string()
    });
    let replica = replica.expect("the first master has a replica");
    cluster.kill(0);
    assert_eq!(cluster.wait_for_failover(0, SOON), replica);
    cluster.nodes[0].restart();
    cluster.wait_until_settled(SOON);
    assert_eq!(cluster.nodes[0].info("replication")["role"], "slave");
    cluster.failover(0);
    assert!(cluster.slots(0) > 0 && cluster.slots(replica) == 0);
}

#[test]
fn a_slot_stays_in_migration_until_it_is_taken_back() {
    let cluster = Cluster::start(Part::Redis7, 3, 0);
    let on_its_way = |at: usize| cluster.nodes[at].ok(&["CLUSTER", "NODES"]).text().contains("[93-");
    cluster.set_slot_migrating(93, 0, 1);
    assert!(on_its_way(0) && on_its_way(1));
    assert_eq!(cluster.slots(0), 5461, "it still belongs to the first");
    cluster.set_slot_stable(93, 0, 1);
    assert!(!on_its_way(0) && !on_its_way(1));
}
