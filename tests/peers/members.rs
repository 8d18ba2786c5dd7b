//! An etcd of three members of which some are lost, and an etcd 3.4.
//!
//! What a newcomer would get wrong: the copies ask the first endpoint that answers. So whoever is to be lost comes first.

use crate::{Copy, TTL, begin, check_history, config_with, is_shared, two_with, until};
use redvigil::peers::Shards;
use std::time::Duration;
use testbed::etcd::Etcd;
use testbed::{Part, wait_until};
use tokio::time::{Instant, sleep};

/// Three members, and the place of the one that leads, or of one that does not.
fn three(leads: bool) -> (Etcd, usize) {
    let etcd = Etcd::cluster(3);
    let mut leader = None;
    wait_until("one to lead", Duration::from_secs(30), || {
        leader = etcd.leader();
        leader.is_some()
    });
    let leader = leader.expect("one leads");
    (etcd, if leads { leader } else { (leader + 1) % 3 })
}

/// All of them, one of them first.
fn endpoints(etcd: &Etcd, first: usize) -> String {
    let mut urls = etcd.urls();
    urls.rotate_left(first);
    format!("endpoints: {urls:?}")
}

/// For longer than a lease lives by itself, each has what it had and may collect it.
async fn keeps(copies: [&Copy; 2]) {
    let before = copies.map(Copy::ours);
    let since = Instant::now();
    while since.elapsed() < TTL * 3 / 2 {
        for (copy, before) in copies.iter().zip(before) {
            assert!(copy.share.fence.is_open() && copy.ours() == before, "{:?}", copy.board.status());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// One of three is lost; then one of the copies stops.
async fn check(leads: bool, lose: fn(&mut Etcd, usize)) {
    let (mut etcd, lost) = three(leads);
    let (a, b) = two_with(&endpoints(&etcd, lost), "").await;
    let made = check_history(&etcd);
    lose(&mut etcd, lost);
    keeps([&a, &b]).await;
    until("etcd answers both", || a.board.status().is_up && b.board.status().is_up).await;
    assert_eq!((a.board.status().leases_lost, b.board.status().leases_lost), (0, 0));
    assert_eq!(check_history(&etcd), made, "nothing moved");
    // The watches go on at another member.
    b.stop.cancel();
    let taken = until("the other takes it", || a.ours() == Shards::ALL).await;
    assert!(taken < TTL, "{taken:?}");
    check_history(&etcd);
    // One that stands still does not hear that it is to end.
    etcd.cont();
}

#[tokio::test]
async fn the_leader_is_killed_and_nothing_moves() {
    check(true, |etcd, at| etcd.member(at).kill()).await;
}

#[tokio::test]
async fn a_follower_that_is_asked_is_killed_and_nothing_moves() {
    check(false, |etcd, at| etcd.member(at).kill()).await;
}

#[tokio::test]
async fn the_leader_stands_still_and_nothing_moves() {
    check(true, |etcd, at| etcd.member(at).stop()).await;
}

#[tokio::test]
async fn a_follower_that_is_asked_stands_still_and_nothing_moves() {
    check(false, |etcd, at| etcd.member(at).stop()).await;
}

#[tokio::test]
async fn without_a_quorum_each_keeps_what_it_has_and_says_so() {
    let (mut etcd, stays) = three(false);
    let (a, b) = two_with(&endpoints(&etcd, stays), "").await;
    let before = (a.ours(), b.ours());
    let others = [(stays + 1) % 3, (stays + 2) % 3];
    others.into_iter().for_each(|at| etcd.member(at).kill());
    until("both see it", || a.standing().frozen && b.standing().frozen).await;
    keeps([&a, &b]).await;
    assert!(!a.board.status().is_up && !b.board.status().is_up);
    etcd.restart();
    let back =
        until("both share again", || !a.standing().frozen && !b.standing().frozen && is_shared(&[&a, &b]))
            .await;
    println!("shared again {back:?} after there was a quorum");
    assert_eq!((a.ours(), b.ours()), before);
    assert!(a.board.status().is_up && b.board.status().is_up);
    check_history(&etcd);
}

#[tokio::test]
async fn without_a_quorum_who_is_to_stop_stops() {
    let (mut etcd, stays) = three(false);
    let (a, b) = two_with(&endpoints(&etcd, stays), ", on_etcd_loss: stop").await;
    let others = [(stays + 1) % 3, (stays + 2) % 3];
    others.into_iter().for_each(|at| etcd.member(at).kill());
    let closed = until("both are fenced", || !a.share.fence.is_open() && !b.share.fence.is_open()).await;
    assert!(closed <= TTL * 2 / 3 + Duration::from_millis(500), "{closed:?}");
    etcd.restart();
    until("both share again", || is_shared(&[&a, &b])).await;
    check_history(&etcd);
}

#[tokio::test]
async fn etcd_3_4_does_as_well() {
    let mut etcd = Etcd::builder(Part::Etcd34).start();
    let (a, b) = two_with(&endpoints(&etcd, 0), "").await;
    let before = (a.ours(), b.ours());
    // Started again in time.
    etcd.kill();
    etcd.restart();
    keeps([&a, &b]).await;
    assert_eq!((a.board.status().leases_lost, b.board.status().leases_lost), (0, 0));
    // Silent for longer than the TTL.
    etcd.stop();
    until("both see it", || a.standing().frozen && b.standing().frozen).await;
    keeps([&a, &b]).await;
    etcd.cont();
    until("both share again", || {
        let is_back = |copy: &Copy| copy.board.status().leases_lost > 0 && !copy.standing().frozen;
        is_back(&a) && is_back(&b) && is_shared(&[&a, &b])
    })
    .await;
    assert_eq!((a.ours(), b.ours()), before);
    check_history(&etcd);
    // A third one comes, and one goes.
    let c = begin(config_with(&endpoints(&etcd, 0), "c:1", ""));
    until("all three share", || is_shared(&[&a, &b, &c]) && c.ours().len() > 40).await;
    b.stop.cancel();
    until("two share", || is_shared(&[&a, &c])).await;
    check_history(&etcd);
}
