//! A real etcd takes keys, tells its history, and comes back with both, whatever is done to it.

use std::time::{Duration, Instant};

use testbed::etcd::Event;
use testbed::{Etcd, Part, wait_until};

const SOON: Duration = Duration::from_secs(15);

/// What happened, briefly.
fn story(etcd: &Etcd, prefix: &str, from: i64) -> Vec<String> {
    let brief = |event: Event| match event {
        Event::Put(kv) => format!("{}={}", kv.key, kv.value),
        Event::Delete { key, .. } => format!("{key} gone"),
    };
    etcd.history(prefix, from).into_iter().map(brief).collect()
}

fn check(etcd: &mut Etcd) {
    let lease = etcd.grant(60);
    etcd.put("/a/1", "one", 0);
    etcd.put("/a/2", "two", lease);
    etcd.put("/b/1", "other", 0);
    let two = etcd.all("/a/").pop().expect("it was written");
    assert_eq!((two.key.as_str(), two.value.as_str(), two.lease), ("/a/2", "two", lease));
    assert_eq!(two.create_revision, two.mod_revision);
    assert_eq!(etcd.leases(), [lease]);
    etcd.kill();
    etcd.restart();
    etcd.revoke(lease);
    assert_eq!(etcd.delete_all("/a/"), 1);
    assert_eq!(story(etcd, "/a/", 1), ["/a/1=one", "/a/2=two", "/a/2 gone", "/a/1 gone"]);
    assert_eq!(etcd.all("/b/").len(), 1);
}

#[test]
fn keys_leases_and_history_outlive_a_kill() {
    check(&mut Etcd::start());
    check(&mut Etcd::builder(Part::Etcd34).start());
}

#[test]
fn the_same_with_users_and_with_certificates() {
    let users = Etcd::builder(Part::Etcd34).user("redvigil", "secret", &["/a/"]);
    check(&mut users.token_ttl(Duration::from_secs(2)).start());
    check(&mut Etcd::builder(Part::Etcd35).tls().user("redvigil", "secret", &["/a/", "/c/"]).start());
    check(&mut Etcd::builder(Part::Etcd34).client_certificates().start());
    check(&mut Etcd::builder(Part::Etcd35).client_certificates().start());
}

#[test]
fn what_is_compacted_is_not_told_any_more() {
    let etcd = Etcd::start();
    etcd.put("/a/1", "one", 0);
    etcd.put("/a/1", "two", 0);
    let revision = etcd.put("/a/1", "three", 0);
    etcd.compact(revision);
    assert_eq!(story(&etcd, "/a/", revision), ["/a/1=three"]);
    let whole = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| etcd.history("/a/", 1)));
    assert!(whole.is_err());
}

#[test]
fn keys_go_with_their_lease_and_a_member_that_stands_still_answers_later() {
    let mut etcd = Etcd::start();
    let before = etcd.requests();
    let lease = etcd.grant(2);
    etcd.put("/a/1", "one", lease);
    assert!(etcd.requests() >= before + 2);
    etcd.stop();
    let started = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    etcd.cont();
    wait_until("the lease to end", SOON, || etcd.all("/a/").is_empty());
    assert!(started.elapsed() > Duration::from_secs(1) && etcd.leases().is_empty());
    assert_eq!(story(&etcd, "/a/", 1), ["/a/1=one", "/a/1 gone"]);
}

#[test]
fn three_members_go_on_without_one() {
    let mut etcd = Etcd::cluster(3);
    assert_eq!((etcd.urls().len(), etcd.len()), (3, 3));
    etcd.put("/a/1", "one", 0);
    let leader = etcd.leader().expect("one leads");
    etcd.member(leader).kill();
    wait_until("another to lead", SOON, || etcd.leader().is_some());
    etcd.put("/a/1", "two", 0);
    etcd.member(leader).restart();
    let other = (leader + 1) % 3;
    etcd.member(other).stop();
    wait_until("one to lead", SOON, || etcd.leader().is_some_and(|leader| leader != other));
    etcd.put("/a/1", "three", 0);
    etcd.member(other).cont();
    assert_eq!(story(&etcd, "/a/", 1), ["/a/1=one", "/a/1=two", "/a/1=three"]);
}
