//! A key of a real etcd.

use crate::follow::Following;
use redvigil::source::Kind;
use std::time::Duration;
use testbed::{Etcd, Part, wait_until};

const KEY: &str = "/redvigil/config";

fn url(etcd: &Etcd, query: &str) -> String {
    let hosts: Vec<_> = etcd
        .urls()
        .iter()
        .map(|url| url.trim_start_matches("http://").trim_start_matches("https://").to_owned())
        .collect();
    format!("etcd://{}{KEY}{query}", hosts.join(","))
}

#[test]
fn a_key_that_comes_changes_and_goes_is_followed() {
    let etcd = Etcd::start();
    let mut following = Following::start(&url(&etcd, ""));
    following.fails(Kind::Missing, None);
    for number in 1..6 {
        let text = format!("a: {number}");
        following.changes("etcd", &text, || _ = etcd.put(KEY, &text, 0));
    }
    let latest = following.state().latest.expect("a document");
    assert_eq!(latest.version, etcd.all(KEY)[0].mod_revision.to_string());
    assert_eq!(*latest.place, *url(&etcd, ""));
    etcd.put("/redvigil/config2", "x", 0);
    following.is_quiet(Duration::from_millis(500));
    etcd.delete_all(KEY);
    following.fails(Kind::Missing, Some("a: 5"));
    following.changes("etcd", "a: 6", || _ = etcd.put(KEY, "a: 6", 0));
}

#[test]
fn one_that_was_killed_or_is_silent_is_followed_again_though_it_was_compacted() {
    let mut etcd = Etcd::start();
    etcd.put(KEY, "a: 1", 0);
    let following = Following::start(&url(&etcd, ""));
    following.until("a: 1");
    etcd.kill();
    following.fails(Kind::Unreachable, Some("a: 1"));
    etcd.restart();
    let mut revision = 0;
    for number in 2..9 {
        revision = etcd.put(KEY, &format!("a: {number}"), 0);
    }
    etcd.compact(revision);
    following.until("a: 8");
    etcd.stop();
    // A watch that is silent, and then no connection.
    following.fails_as(&[Kind::Timeout, Kind::Unreachable], Some("a: 8"));
    etcd.cont();
    following.until("a: 8");
    following.changes("etcd", "a: 9", || _ = etcd.put(KEY, "a: 9", 0));
}

#[test]
fn the_loss_of_a_member_is_no_loss() {
    let mut etcd = Etcd::cluster(3);
    etcd.put(KEY, "a: 1", 0);
    let following = Following::start(&url(&etcd, ""));
    following.until("a: 1");
    etcd.member(0).kill();
    // There may be no leader for a moment.
    wait_until("the others to take it", Duration::from_secs(30), || etcd.try_put(KEY, "a: 2", 0).is_ok());
    following.until("a: 2");
}

#[test]
fn users_and_tls_are_as_said() {
    let etcd = Etcd::builder(Part::Etcd35).tls().user("me", "hunter2", &["/redvigil/"]).start();
    etcd.put(KEY, "a: 1", 0);
    let ca = &etcd.certificates().expect("it speaks TLS").ca;
    let tls = format!("?tls=true&ca_file={}", ca.display());
    Following::start(&url(&etcd, &format!("{tls}&username=me&password_env=WRONG")))
        .fails(Kind::Refused, None);
    Following::start(&url(&etcd, "?tls=true&username=me&password_env=RIGHT")).fails(Kind::Tls, None);
    let following = Following::start(&url(&etcd, &format!("{tls}&username=me&password_env=RIGHT")));
    following.until("a: 1");
    following.changes("etcd with TLS and users", "a: 2", || _ = etcd.put(KEY, "a: 2", 0));
}
