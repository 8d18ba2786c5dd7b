//! What an operator does while etcd is away, and what etcd forgets: a reload, a key that nobody saw go, data of yesterday.
//!
//! What a newcomer would get wrong: all of it is about the time after. A copy that is wrong for a moment is no fault; one that stays
//! so, because nobody looks again, is.

use crate::{Copy, begin, config, is_shared, start, until};
use redvigil::peers::Shards;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use testbed::etcd::Etcd;
use testbed::{Fault, Proxy};
use tokio::time::{sleep, timeout};

const MEMBERS: &str = "/redvigil/default/peers/";
const REGISTRATIONS: &str = "/services/exporter/";

#[tokio::test]
async fn sharing_that_is_switched_off_while_etcd_is_away_leaves_all_to_everybody() {
    let mut etcd = Etcd::start();
    let (a, b) = (start(&etcd.url(), "a:1"), start(&etcd.url(), "b:1"));
    until("both share", || is_shared(&[&a, &b]) && a.ours().len() > 60 && b.ours().len() > 60).await;
    etcd.kill();
    for (copy, id) in [(&a, "a:1"), (&b, "b:1")] {
        copy.publish.send_replace(Arc::new(config(&etcd.url(), id, ", enabled: false")));
    }
    let all = |copy: &Copy| copy.ours() == Shards::ALL && copy.share.fence.is_open();
    let late = until("each has all", || all(&a) && all(&b)).await;
    assert!(late < Duration::from_secs(8), "{late:?}");
    // Another TTL takes nothing away from who does not share.
    let mut other = config(&etcd.url(), "a:1", ", enabled: false");
    other.peers.registry.as_mut().expect("a registry").etcd.as_mut().expect("an etcd").ttl *= 2;
    a.publish.send_replace(Arc::new(other));
    for _ in 0..50 {
        sleep(Duration::from_millis(20)).await;
        assert!(all(&a), "{:?}", a.standing());
    }
}

#[tokio::test]
async fn who_does_not_share_collects_whatever_becomes_of_its_lease() {
    let etcd = Etcd::start();
    let copy = begin(config(&etcd.url(), "a:1", ", enabled: false"));
    until("it is registered", || etcd.all(REGISTRATIONS).len() == 1).await;
    let follow = async {
        let mut standing = copy.share.standing.clone();
        loop {
            let ours = standing.borrow_and_update().ours;
            assert!(ours == Shards::ALL && copy.share.fence.is_open(), "{ours:?}");
            tokio::select! {
                changed = standing.changed() => changed.expect("the loop is there"),
                () = sleep(Duration::from_millis(5)) => {}
            }
        }
    };
    let trouble = async {
        etcd.leases().into_iter().for_each(|lease| etcd.revoke(lease));
        until("it notices", || copy.board.status().leases_lost == 1).await;
        until("it is there again", || etcd.all(REGISTRATIONS).len() == 1).await;
    };
    tokio::select! {
        () = trouble => {}
        () = follow => {}
    }
}

#[tokio::test]
async fn what_is_said_anew_while_etcd_is_away_is_written_when_it_is_back() {
    let mut etcd = Etcd::start();
    let copy = start(&etcd.url(), "a:1");
    until("all is ours", || copy.ours() == Shards::ALL && copy.board.status().is_registered).await;
    etcd.kill();
    let mut heavy = config(&etcd.url(), "a:1", "");
    heavy.peers.registry.as_mut().expect("a registry").weight = 1_000;
    copy.publish.send_replace(Arc::new(heavy));
    until("it cannot be written", || copy.board.status().error.is_some()).await;
    sleep(Duration::from_millis(300)).await;
    etcd.restart();
    let says = |prefix: &str| etcd.all(prefix).iter().all(|kv| kv.value.contains(r#""weight":1000"#));
    until("peers read it", || says(MEMBERS)).await;
    until("others read it", || says(REGISTRATIONS)).await;
    assert_eq!(copy.board.status().leases_lost, 0);
    until("nothing is wrong any more", || copy.board.status().error.is_none()).await;
}

/// A thread of its own waits until it is so.
fn set(way: &Proxy, fault: Fault) {
    std::thread::scope(|scope| _ = scope.spawn(|| way.set(fault)));
}

#[tokio::test]
async fn who_is_not_among_the_peers_though_nobody_saw_it_go_comes_back() {
    let etcd = Etcd::start();
    let way = Proxy::start(etcd.port());
    let copy = start(&format!("http://{}", way.address()), "a:1");
    until("all is ours", || copy.ours() == Shards::ALL).await;
    set(&way, Fault::Refuse);
    etcd.delete_all(MEMBERS);
    etcd.put("/elsewhere", "1", 0);
    etcd.compact(etcd.revision());
    set(&way, Fault::Pass);
    until("it is among them again", || etcd.all(MEMBERS).len() == 1).await;
    until("and knows", || copy.standing().own.is_some() && copy.ours() == Shards::ALL).await;
    assert_eq!(copy.board.status().leases_lost, 0);
}

#[tokio::test]
async fn one_that_starts_again_at_once_is_no_twin_of_itself() {
    let etcd = Etcd::start();
    for _ in 0..5 {
        let old = start(&etcd.url(), "a:1");
        until("it is there", || old.board.status().is_registered && old.standing().own.is_some()).await;
        old.die();
        let new = start(&etcd.url(), "a:1");
        until("the next one, too", || new.board.status().is_registered && new.standing().own.is_some()).await;
        sleep(Duration::from_millis(300)).await;
        let told: Vec<_> = new.events.all().iter().map(|event| event.message.to_string()).collect();
        assert!(!told.iter().any(|message| message.contains("another process")), "{told:?}");
        new.die();
    }
}

#[tokio::test]
async fn a_reload_of_all_is_no_difference() {
    let etcd = Etcd::start();
    let (a, b) = (start(&etcd.url(), "a:1"), start(&etcd.url(), "b:1"));
    let same = |copy: &Copy, expected: usize| {
        let standing = copy.standing();
        let hashes: BTreeSet<_> = standing.peers.iter().map(|peer| peer.config_hash.clone()).collect();
        standing.peers.len() == 2 && hashes.len() == expected
    };
    until("both are there", || same(&a, 1) && same(&b, 1)).await;
    let other = |id: &str| {
        let mut config = config(&etcd.url(), id, "");
        config.scrape.interval = Duration::from_secs(2);
        Arc::new(config)
    };
    a.publish.send_replace(other("a:1"));
    until("they differ", || same(&a, 2) && same(&b, 2)).await;
    sleep(Duration::from_millis(500)).await;
    b.publish.send_replace(other("b:1"));
    until("both are the same again", || same(&a, 1) && same(&b, 1)).await;
    sleep(Duration::from_millis(500)).await;
    for copy in [&a, &b] {
        let told: Vec<_> = copy.events.all().iter().map(|event| event.message.to_string()).collect();
        assert!(!told.iter().any(|message| message.contains("configured")), "{told:?}");
    }
}

#[tokio::test]
async fn what_leaves_does_not_come_back_because_all_is_read_anew() {
    let etcd = Etcd::start();
    let way = Proxy::start(etcd.port());
    let copy = |id: &str| {
        let mut config = config(&format!("http://{}", way.address()), id, "");
        let registry = config.peers.registry.as_mut().expect("a registry");
        registry.etcd.as_mut().expect("an etcd").ttl = Duration::from_secs(12);
        begin(config)
    };
    let a = copy("a:1");
    until("all is ours", || a.ours() == Shards::ALL).await;
    // Whoever collects is held up: what leaves is not released.
    a.follower.abort();
    let b = copy("b:1");
    until("something leaves", || !a.standing().leaving.is_empty()).await;
    let leaving = a.standing().leaving;
    let calls = a.board.status().calls;
    set(&way, Fault::Refuse);
    etcd.put(&format!("{MEMBERS}junk"), "no JSON", 0);
    etcd.put("/elsewhere", "1", 0);
    etcd.compact(etcd.revision());
    set(&way, Fault::Pass);
    let mut standing = a.share.standing.clone();
    let read = async {
        while a.board.status().broken == 0 {
            let now = standing.borrow_and_update().clone();
            let came_back = leaving.iter().find(|shard| !now.leaving.has(*shard) && now.ours.has(*shard));
            assert!(now.frozen || came_back.is_none(), "{came_back:?}");
            let _ = timeout(Duration::from_millis(20), standing.changed()).await;
        }
    };
    timeout(Duration::from_secs(10), read).await.expect("it was read anew");
    assert!(a.board.status().calls > calls && !a.standing().frozen);
    let came_back = leaving.iter().find(|shard| !a.standing().leaving.has(*shard));
    assert_eq!(came_back, None, "though nobody was asked to release it");
    drop(b);
}

#[tokio::test]
async fn a_copy_that_nobody_configures_any_more_goes_on_and_stops() {
    let etcd = Etcd::start();
    let Copy { publish, stop, task, share, board, .. } = start(&etcd.url(), "a:1");
    until("all is ours", || share.standing.borrow().ours == Shards::ALL).await;
    drop(publish);
    sleep(Duration::from_secs(6)).await;
    assert!(share.fence.is_open() && board.status().leases_lost == 0, "its lease is kept alive");
    stop.cancel();
    timeout(Duration::from_secs(10), task).await.expect("in a moment").expect("no panic");
    assert!(etcd.all(MEMBERS).is_empty());
}

/// Where the first member keeps its data.
fn data_of(etcd: &mut Etcd) -> PathBuf {
    let line = std::fs::read_to_string(format!("/proc/{}/cmdline", etcd.member(0).process().pid()));
    let line = line.expect("it runs");
    PathBuf::from(
        line.split('\0').find_map(|word| word.strip_prefix("--data-dir=")).expect("it has a folder"),
    )
}

fn copy_folder(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("there is a cp").success());
}

#[tokio::test]
async fn when_etcd_has_the_data_of_yesterday_again_all_begins_anew() {
    let mut etcd = Etcd::start();
    let (a, b) = (start(&etcd.url(), "a:1"), start(&etcd.url(), "b:1"));
    let is_halved = || is_shared(&[&a, &b]) && a.ours().len() > 60 && b.ours().len() > 60;
    until("both share", is_halved).await;
    let data = data_of(&mut etcd);
    let yesterday = data.with_extension("yesterday");
    etcd.kill();
    copy_folder(&data, &yesterday);
    etcd.restart();
    until("both share", is_halved).await;
    // Both have heard of something that is forgotten then. Much has happened: whoever begins anew writes, too, and the other one
    // must still see that etcd has gone back.
    (0..1_000).for_each(|_| _ = etcd.put("/elsewhere", "1", 0));
    let said = etcd.put(&format!("{MEMBERS}junk"), "no JSON", 0);
    until("both hear of it", || a.board.status().broken + b.board.status().broken == 2).await;
    etcd.kill();
    std::fs::remove_dir_all(&data).expect("removed");
    std::fs::rename(&yesterday, &data).expect("moved");
    etcd.restart();
    assert!(etcd.revision() < said);
    let is_gone = || a.board.status().broken + b.board.status().broken == 0;
    let told = || (a.board.status(), a.events.all(), b.board.status(), b.events.all());
    let seen = timeout(Duration::from_secs(20), until("both see that it is gone", is_gone)).await;
    assert!(seen.is_ok(), "{:?}", told());
    until("both share", is_halved).await;
    // The watch hears again: what one gives up comes to the other at once.
    b.stop.cancel();
    let taken = until("the other takes it", || a.ours() == Shards::ALL).await;
    assert!(taken < Duration::from_secs(3), "{taken:?}");
}
