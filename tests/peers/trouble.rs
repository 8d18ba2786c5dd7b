//! etcd that hangs, keys that others touch, two of one name, and what it costs when nothing happens.

use crate::{
    CLAIMS, Copy, MEMBERS, REGISTRATIONS, TTL, begin, check_history, config, is_shared, start, two, until,
};
use redvigil::peers::{SHARDS, Shards};
use std::sync::Arc;
use std::time::Duration;
use testbed::etcd::Etcd;
use tokio::time::sleep;

#[tokio::test]
async fn etcd_that_hangs_longer_than_the_ttl_takes_nothing_away_until_it_says_so() {
    let mut etcd = Etcd::start();
    let (a, b) = two(&etcd).await;
    let before = (a.ours(), b.ours());
    etcd.stop();
    let frozen = until("both see it", || a.standing().frozen && b.standing().frozen).await;
    assert!(frozen <= TTL, "{frozen:?}: before the lease may have ended");
    sleep(TTL * 2).await;
    assert_eq!((a.ours(), b.ours()), before);
    assert!(a.share.fence.is_open() && b.share.fence.is_open(), "rather twice than never");
    etcd.cont();
    let back = until("both share again", || {
        let is_back = |copy: &Copy| copy.board.status().leases_lost > 0 && !copy.standing().frozen;
        is_back(&a) && is_back(&b) && is_shared(&[&a, &b])
    })
    .await;
    println!("frozen after {frozen:?}, shared again {back:?} after etcd went on");
    assert_eq!((a.ours(), b.ours()), before, "each has claimed first what it had");
    check_history(&etcd);
    let registered = || etcd.all(REGISTRATIONS).len();
    assert_eq!((registered(), etcd.all(MEMBERS).len()), (2, 2));
}

#[tokio::test]
async fn with_stop_nothing_is_collected_from_two_thirds_of_the_ttl_on() {
    let mut etcd = Etcd::start();
    let copy = begin(config(&etcd.url(), "a:1", ", on_etcd_loss: stop"));
    until("all is ours", || copy.ours() == Shards::ALL && copy.share.fence.is_open()).await;
    etcd.stop();
    let closed = until("the fence closes", || !copy.share.fence.is_open()).await;
    assert!(closed <= TTL * 2 / 3 + Duration::from_millis(100), "{closed:?}");
    etcd.cont();
    until("it opens", || copy.share.fence.is_open() && copy.ours() == Shards::ALL).await;
}

/// All of this process is held up, as by SIGSTOP or a machine that sleeps; etcd is not.
fn hold_up(time: Duration) {
    std::thread::sleep(time);
}

#[tokio::test]
async fn who_was_held_up_collects_nothing_until_etcd_has_confirmed_the_lease() {
    let etcd = Etcd::start();
    let (a, b) = two(&etcd).await;
    let before = (a.ours(), b.ours());
    hold_up(TTL * 7 / 10);
    assert!(!a.share.fence.is_open() && !b.share.fence.is_open(), "closed before anybody could look");
    until("confirmed", || is_shared(&[&a, &b])).await;
    for copy in [&a, &b] {
        let status = copy.board.status();
        assert_eq!((status.sleeps, status.leases_lost), (1, 0));
    }
    assert_eq!((a.ours(), b.ours()), before);
    hold_up(TTL * 2);
    assert!(!a.share.fence.is_open() && !b.share.fence.is_open());
    until("another lease", || a.board.status().leases_lost == 1 && b.board.status().leases_lost == 1).await;
    until("shared again", || is_shared(&[&a, &b])).await;
    assert_eq!((a.ours(), b.ours()), before);
    check_history(&etcd);
}

#[tokio::test]
async fn one_that_starts_while_etcd_is_away_has_nothing_until_it_comes() {
    let mut etcd = Etcd::start();
    let url = etcd.url();
    etcd.kill();
    let copy = start(&url, "a:1");
    sleep(TTL).await;
    let status = copy.board.status();
    assert!(copy.ours().is_empty() && !copy.share.fence.is_open() && !status.is_up, "{status:?}");
    assert!(status.error.is_some() && status.calls > 0);
    etcd.restart();
    until("all is ours", || copy.ours() == Shards::ALL && copy.share.fence.is_open()).await;
}

#[tokio::test]
async fn etcd_that_is_started_again_in_time_changes_nothing() {
    let mut etcd = Etcd::start();
    let (a, b) = two(&etcd).await;
    let before = (a.ours(), b.ours(), check_history(&etcd));
    etcd.kill();
    etcd.restart();
    sleep(TTL * 2).await;
    assert_eq!((a.ours(), b.ours(), check_history(&etcd)), before);
    assert_eq!((a.board.status().leases_lost, b.board.status().leases_lost), (0, 0));
    // The watch hears again: what one gives up comes to the other at once.
    b.stop.cancel();
    let taken = until("the other takes it", || a.ours() == Shards::ALL).await;
    assert!(taken < TTL, "{taken:?}");
}

#[tokio::test]
async fn a_key_of_ours_that_somebody_deletes_is_written_again() {
    let etcd = Etcd::start();
    let copy = start(&etcd.url(), "a:1");
    until("all is ours", || copy.ours() == Shards::ALL).await;
    etcd.delete_all(MEMBERS);
    until("what peers see", || etcd.all(MEMBERS).len() == 1).await;
    etcd.delete_all(REGISTRATIONS);
    let late = until("what others see", || etcd.all(REGISTRATIONS).len() == 1).await;
    assert!(late <= TTL + Duration::from_secs(1), "{late:?}");
    // A claim that is taken away is not ours, and claimed again.
    let made = check_history(&etcd);
    etcd.delete_all(&format!("{CLAIMS}007"));
    until("the claim", || etcd.all(CLAIMS).len() == SHARDS).await;
    assert_eq!(check_history(&etcd), made + 1);
}

#[tokio::test]
async fn two_of_one_name_are_told_and_share_all_the_same() {
    let etcd = Etcd::start();
    let first = start(&etcd.url(), "a:1");
    until("all is its own", || first.ours() == Shards::ALL).await;
    let second = start(&etcd.url(), "a:1");
    until("it is told", || first.board.status().has_twin).await;
    assert!(first.events.all().iter().any(|event| event.message.contains("another process")));
    until("by the other one, too", || second.board.status().has_twin).await;
    let both = first.ours().iter().filter(|shard| second.ours().has(*shard)).count();
    assert_eq!((both, first.ours().len() + second.ours().len()), (0, SHARDS));
    second.stop.cancel();
    until("it stands there again", || !first.board.status().has_twin && first.ours() == Shards::ALL).await;
    let keys = etcd.all(MEMBERS);
    assert_eq!(keys.len(), 1);
    check_history(&etcd);
}

#[tokio::test]
async fn one_that_starts_again_at_once_waits_for_its_old_claims_to_end() {
    let etcd = Etcd::start();
    let old = start(&etcd.url(), "a:1");
    until("all is its own", || old.ours() == Shards::ALL).await;
    old.die();
    let new = start(&etcd.url(), "a:1");
    let waited = until("all is its own again", || new.ours() == Shards::ALL).await;
    println!("killed and started again: its share back after {waited:?}");
    assert!(waited < TTL + Duration::from_secs(2), "{waited:?}");
    check_history(&etcd);
}

#[tokio::test]
async fn what_others_wrote_is_left_alone_and_counted() {
    let etcd = Etcd::start();
    etcd.put(&format!("{MEMBERS}junk"), "no JSON", 0);
    etcd.put(&format!("{MEMBERS}b:1"), &format!("{{\"id\":\"{}\"}}", "x".repeat(100_000)), 0);
    etcd.put(&format!("{CLAIMS}005"), "no JSON", 0);
    etcd.put(&format!("{CLAIMS}5"), "no claim", 0);
    etcd.put(&format!("{CLAIMS}999"), "no claim", 0);
    let copy = start(&etcd.url(), "a:1");
    until("what is free is ours", || copy.ours().len() == SHARDS - 1).await;
    let standing = copy.standing();
    assert_eq!((copy.board.status().broken, standing.peers.len(), standing.ours.has(5)), (2, 1, false));
    etcd.delete_all(&format!("{CLAIMS}005"));
    until("and then the last", || copy.ours() == Shards::ALL).await;
}

#[tokio::test]
async fn another_weight_moves_work_and_another_ttl_begins_anew() {
    let etcd = Etcd::start();
    let (a, b) = two(&etcd).await;
    let mut heavy = config(&etcd.url(), "a:1", "");
    heavy.peers.registry.as_mut().expect("a registry").weight = 1_000;
    a.publish.send_replace(Arc::new(heavy.clone()));
    until("the heavy one has most", || is_shared(&[&a, &b]) && a.ours().len() > 200).await;
    let lost = check_history(&etcd);
    let registry = heavy.peers.registry.as_mut().expect("a registry");
    registry.etcd.as_mut().expect("an etcd").ttl = Duration::from_secs(5);
    a.publish.send_replace(Arc::new(heavy.clone()));
    let leases = etcd.leases();
    until("another lease", || etcd.leases().iter().any(|lease| !leases.contains(lease))).await;
    until("shared again", || is_shared(&[&a, &b]) && a.ours().len() > 200).await;
    assert!(check_history(&etcd) > lost);
    // Another interval: it is seen, and moves nothing.
    heavy.scrape.interval = Duration::from_secs(2);
    a.publish.send_replace(Arc::new(heavy));
    until("it is told", || b.events.all().iter().any(|event| event.message.contains("otherwise"))).await;
    // No registry any more: all is ours, and the other one has all, too.
    a.publish.send_replace(Arc::default());
    until("alone", || a.ours() == Shards::ALL && b.ours() == Shards::ALL).await;
    assert!(a.standing().peers.is_empty());
}

#[tokio::test]
async fn a_peer_that_idles_asks_for_a_handful_in_a_ttl() {
    let etcd = Etcd::start();
    let (a, b) = two(&etcd).await;
    sleep(Duration::from_secs(2)).await;
    let before = (etcd.requests(), a.board.status().calls);
    let ttls = 4;
    sleep(TTL * ttls).await;
    let (all, own) = (etcd.requests() - before.0, a.board.status().calls - before.1);
    let each = all as f64 / f64::from(ttls) / 2.0;
    println!(
        "{each:.1} messages to etcd a TTL and peer, {:.1} of them requests",
        own as f64 / f64::from(ttls)
    );
    assert!(each <= 10.0, "{each}");
    assert!(is_shared(&[&a, &b]));
}
