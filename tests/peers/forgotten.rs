//! What etcd forgets, or is made to forget: its history, a lease, keys, and all that it had.

use crate::{
    CLAIMS, Copy, MEMBERS, REGISTRATIONS, TTL, begin, check_history, config, is_shared, start, two, until,
};
use redvigil::peers::{SHARDS, Shards};
use std::time::Duration;
use testbed::etcd::Etcd;
use testbed::{Fault, Proxy};
use tokio::time::sleep;

fn told(copy: &Copy) -> Vec<String> {
    copy.events.all().iter().map(|event| event.message.to_string()).collect()
}

/// A thread of its own waits until it is so.
fn set(way: &Proxy, fault: Fault) {
    std::thread::scope(|scope| _ = scope.spawn(|| way.set(fault)));
}

#[tokio::test]
async fn a_compaction_is_nothing_to_who_is_connected() {
    let etcd = Etcd::start();
    let (a, b) = two(&etcd).await;
    let before = (a.ours(), b.ours());
    for _ in 0..5 {
        let revision = etcd.put("/elsewhere", "1", 0);
        etcd.compact(revision);
        sleep(TTL / 5).await;
        assert_eq!((a.ours(), b.ours()), before);
        assert!(!a.standing().frozen && !b.standing().frozen);
    }
    assert_eq!((a.board.status().leases_lost, b.board.status().leases_lost), (0, 0));
    b.stop.cancel();
    let taken = until("the other takes it", || a.ours() == Shards::ALL).await;
    assert!(taken < TTL, "{taken:?}");
}

#[tokio::test]
async fn what_was_compacted_while_one_was_cut_off_is_read_by_a_list() {
    let etcd = Etcd::start();
    let way = Proxy::start(etcd.port());
    let a = start(&format!("http://{}", way.address()), "a:1");
    let b = start(&etcd.url(), "b:1");
    let c = start(&etcd.url(), "c:1");
    until("all three share", || is_shared(&[&a, &b, &c]) && a.standing().peers.len() == 3).await;
    set(&way, Fault::Refuse);
    // One goes, one comes, and nobody can tell the first one how.
    b.stop.cancel();
    let d = start(&etcd.url(), "d:1");
    until("one came", || c.standing().peers.iter().any(|peer| &*peer.id == "d:1")).await;
    until("one went", || c.standing().peers.iter().all(|peer| &*peer.id != "b:1")).await;
    etcd.put("/elsewhere", "1", 0);
    etcd.compact(etcd.revision());
    set(&way, Fault::Pass);
    let ids = |copy: &Copy| copy.standing().peers.iter().map(|peer| peer.id.clone()).collect::<Vec<_>>();
    let is_there = |copy: &Copy| copy.standing().own.is_some() && ids(copy) == ["a:1", "c:1", "d:1"];
    until("all three know each other", || [&a, &c, &d].into_iter().all(is_there)).await;
    until("all three share", || is_shared(&[&a, &c, &d])).await;
    // And hear again.
    c.stop.cancel();
    until("two share", || is_shared(&[&a, &d])).await;
}

#[tokio::test]
async fn a_lease_that_somebody_revokes_is_followed_by_another() {
    let etcd = Etcd::start();
    let (a, b) = two(&etcd).await;
    let lease = etcd.all(&format!("{MEMBERS}a:1"))[0].lease;
    etcd.revoke(lease);
    let noticed = until("it notices", || a.board.status().leases_lost == 1).await;
    assert!(noticed <= TTL / 3 + Duration::from_secs(1), "{noticed:?}");
    until("both share again", || is_shared(&[&a, &b]) && a.ours().len() > 60).await;
    until("it is registered", || etcd.all(REGISTRATIONS).len() == 2 && etcd.all(MEMBERS).len() == 2).await;
    assert_ne!(etcd.all(&format!("{MEMBERS}a:1"))[0].lease, lease);
    assert_eq!(b.board.status().leases_lost, 0);
    assert!(told(&a).iter().any(|message| message.contains("the lease has ended")), "{:?}", told(&a));
    check_history(&etcd);
}

#[tokio::test]
async fn all_leases_are_revoked_at_once_and_all_is_shared_again() {
    let etcd = Etcd::start();
    let (a, b) = two(&etcd).await;
    etcd.leases().into_iter().for_each(|lease| etcd.revoke(lease));
    until("both notice", || [&a, &b].iter().all(|copy| copy.board.status().leases_lost == 1)).await;
    until("both share again", || is_shared(&[&a, &b])).await;
    check_history(&etcd);
}

#[tokio::test]
async fn what_somebody_wrote_over_a_key_of_ours_is_told_and_left_alone() {
    let etcd = Etcd::start();
    let copy = start(&etcd.url(), "a:1");
    until("all is ours", || copy.ours() == Shards::ALL && copy.board.status().is_registered).await;
    // A claim that is another one's is not ours.
    let claim = format!("{CLAIMS}007");
    etcd.put(&claim, r#"{"owner":"x:1"}"#, 0);
    until("it is not ours", || copy.ours().len() == SHARDS - 1 && !copy.ours().has(7)).await;
    // Nor is who we are.
    let own = format!("{MEMBERS}a:1");
    etcd.put(&own, r#"{"owner":"x:1"}"#, 0);
    until("it is told", || copy.board.status().has_twin).await;
    sleep(TTL * 3 / 2).await;
    assert_eq!((etcd.all(&claim)[0].lease, etcd.all(&own)[0].lease), (0, 0), "left alone");
    assert_eq!((copy.ours().len(), copy.board.status().leases_lost), (SHARDS - 1, 0));
    etcd.delete_all(&claim);
    etcd.delete_all(&own);
    until("all is ours again", || copy.ours() == Shards::ALL && copy.standing().own.is_some()).await;
    until("nobody is told of", || !copy.board.status().has_twin).await;
    assert_ne!(etcd.all(&own)[0].lease, 0);
}

/// All begins anew: other leases, and one owner for each.
async fn check_anew(etcd: &Etcd, a: &Copy, b: &Copy, leases: &[i64]) {
    until("both have another lease", || {
        let now = etcd.all(MEMBERS);
        now.len() == 2 && now.iter().all(|kv| !leases.contains(&kv.lease))
    })
    .await;
    until("both share", || is_shared(&[a, b]) && !a.standing().frozen && !b.standing().frozen).await;
    let both = a.ours().iter().filter(|shard| b.ours().has(*shard)).count();
    assert_eq!((both, etcd.all(CLAIMS).len(), etcd.all(REGISTRATIONS).len()), (0, SHARDS, 2));
    let by_etcd = |id: &str| {
        let owner = format!("\"{id}\"");
        etcd.all(CLAIMS).iter().filter(|kv| kv.value.contains(&owner)).count()
    };
    assert_eq!((by_etcd("a:1"), by_etcd("b:1")), (a.ours().len(), b.ours().len()));
    // The watches hear again.
    b.stop.cancel();
    let taken = until("the other takes it", || a.ours() == Shards::ALL).await;
    assert!(taken < TTL, "{taken:?}");
}

#[tokio::test]
async fn an_etcd_whose_data_are_gone_is_begun_with_anew() {
    let mut etcd = Etcd::start();
    let (a, b) = two(&etcd).await;
    (0..500).for_each(|_| _ = etcd.put("/elsewhere", "1", 0));
    let (leases, before) = (etcd.leases(), etcd.revision());
    etcd.kill();
    etcd.wipe();
    etcd.restart();
    until("both see it", || {
        [&a, &b].iter().all(|copy| {
            let status = copy.board.status();
            status.leases_lost > 0 || told(copy).iter().any(|told| told.contains("not what it was"))
        })
    })
    .await;
    assert!(etcd.revision() < before);
    check_anew(&etcd, &a, &b, &leases).await;
    check_history(&etcd);
}

/// Of a snapshot that knew both of them, with the same leases; with the id of the cluster that it had, or another.
async fn check_snapshot(token: &str) {
    let mut etcd = Etcd::start();
    let (a, b) = two(&etcd).await;
    let (leases, snapshot) = (etcd.leases(), etcd.snapshot());
    // Since then one got more of the work than the snapshot knows.
    let mut heavy = config(&etcd.url(), "a:1", "");
    heavy.peers.registry.as_mut().expect("a registry").weight = 1_000;
    a.publish.send_replace(std::sync::Arc::new(heavy));
    until("the heavy one has most", || is_shared(&[&a, &b]) && a.ours().len() > 200).await;
    etcd.kill();
    etcd.restore(&snapshot, token);
    etcd.restart();
    until("both see it", || {
        [&a, &b].iter().all(|copy| told(copy).iter().any(|told| told.contains("not what it was")))
    })
    .await;
    check_anew(&etcd, &a, &b, &leases).await;
}

#[tokio::test]
async fn an_etcd_that_is_restored_from_a_snapshot_is_begun_with_anew() {
    check_snapshot("etcd-cluster").await;
}

#[tokio::test]
async fn an_etcd_that_is_restored_as_another_cluster_is_begun_with_anew() {
    check_snapshot("another").await;
}

#[tokio::test]
async fn who_began_with_the_etcd_of_before_and_does_not_reach_that_of_now_keeps_its_share() {
    let mut etcd = Etcd::start();
    let way = Proxy::start(etcd.port());
    let copy = begin(config(&format!("http://{}", way.address()), "a:1", ""));
    until("all is ours", || copy.ours() == Shards::ALL).await;
    etcd.kill();
    etcd.wipe();
    set(&way, Fault::BlackHole);
    etcd.restart();
    until("it is told", || copy.standing().frozen).await;
    sleep(TTL * 3 / 2).await;
    assert!(copy.ours() == Shards::ALL && copy.share.fence.is_open(), "{:?}", copy.standing());
    set(&way, Fault::Pass);
    until("it has begun anew", || copy.board.status().leases_lost == 1 && etcd.all(CLAIMS).len() == SHARDS)
        .await;
    until("all is ours", || copy.ours() == Shards::ALL && !copy.standing().frozen).await;
    check_history(&etcd);
}
