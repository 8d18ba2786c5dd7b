//! Tokens, passwords, permissions and certificates that count no more under copies that run.

use crate::{
    CLAIMS, Copy, MEMBERS, REGISTRATIONS, TTL, begin, check_history, config_with, is_shared, two_with, until,
};
use redvigil::net::etcd::Kind;
use redvigil::peers::Shards;
use std::fs;
use std::path::Path;
use std::time::Duration;
use testbed::etcd::{Etcd, EtcdBuilder};
use testbed::{Certificates, Part};
use tokio::time::{Instant, sleep};

const PASSWORD: &str = "hunter2";

fn with_user(part: Part) -> EtcdBuilder {
    Etcd::builder(part).user("me", PASSWORD, &[REGISTRATIONS, "/redvigil/"])
}

fn said(etcd: &Etcd, password: &Path) -> String {
    format!("endpoints: [\"{}\"], username: me, password_file: {}", etcd.url(), password.display())
}

/// A file with that in it.
fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), text).expect("written");
    file
}

/// What went wrong last: its kind, in one line and without a secret.
fn wrong(copy: &Copy) -> Option<Kind> {
    let (kind, text) = copy.board.status().error?;
    assert!(!text.contains('\n') && !text.contains("hunter"), "{text}");
    Some(kind)
}

#[tokio::test]
async fn tokens_that_end_take_nothing_away() {
    // Each is used again about when it ends.
    let mut etcd = with_user(Part::Etcd34).token_ttl(Duration::from_secs(1)).start();
    let password = file(PASSWORD);
    let (a, b) = two_with(&said(&etcd, password.path()), "").await;
    let (before, made) = ((a.ours(), b.ours()), check_history(&etcd));
    let since = Instant::now();
    while since.elapsed() < TTL * 3 / 2 {
        assert_eq!((a.ours(), b.ours()), before);
        for copy in [&a, &b] {
            assert!(!copy.standing().frozen && copy.share.fence.is_open(), "{:?}", copy.board.status());
        }
        sleep(Duration::from_millis(20)).await;
    }
    // One that is started again knows none of them.
    etcd.kill();
    etcd.restart();
    sleep(TTL * 3 / 2).await;
    assert_eq!((a.ours(), b.ours(), check_history(&etcd)), (before.0, before.1, made));
    assert_eq!((a.board.status().leases_lost, b.board.status().leases_lost), (0, 0));
    until("nothing is wrong", || wrong(&a).is_none() && wrong(&b).is_none()).await;
    b.stop.cancel();
    let taken = until("the other takes it", || a.ours() == Shards::ALL).await;
    assert!(taken < TTL, "{taken:?}");
}

#[tokio::test]
async fn a_password_that_changes_freezes_until_its_file_has_it() {
    let etcd = with_user(Part::Etcd35).start();
    let password = file(PASSWORD);
    let (a, b) = two_with(&said(&etcd, password.path()), "").await;
    let before = (a.ours(), b.ours());
    etcd.change_password("me", "hunter33");
    until("both are refused", || {
        [&a, &b].iter().all(|copy| copy.standing().frozen && wrong(copy) == Some(Kind::Auth))
    })
    .await;
    // Longer than the leases live.
    let since = Instant::now();
    while since.elapsed() < TTL * 3 / 2 {
        assert_eq!((a.ours(), b.ours()), before, "rather twice than never");
        for copy in [&a, &b] {
            let standing = copy.standing();
            assert!(copy.share.fence.is_open());
            assert!(standing.frozen && standing.peers.len() == 2 && standing.own.is_some(), "as it was last");
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert!(etcd.all(CLAIMS).is_empty(), "the leases have ended");
    fs::write(password.path(), "hunter33").expect("written");
    until("both share again", || is_shared(&[&a, &b]) && !a.standing().frozen && !b.standing().frozen).await;
    assert_eq!((a.ours(), b.ours()), before);
    until("nothing is wrong", || wrong(&a).is_none() && wrong(&b).is_none()).await;
    check_history(&etcd);
}

#[tokio::test]
async fn who_alone_is_refused_lets_go_of_what_others_take() {
    let etcd = with_user(Part::Etcd35).start();
    let (old, new) = (file(PASSWORD), file(PASSWORD));
    let a = begin(config_with(&said(&etcd, old.path()), "a:1", ""));
    let b = begin(config_with(&said(&etcd, new.path()), "b:1", ""));
    until("both share", || is_shared(&[&a, &b]) && a.ours().len() > 60 && b.ours().len() > 60).await;
    etcd.change_password("me", "hunter33");
    fs::write(new.path(), "hunter33").expect("written");
    until("one takes all", || b.ours() == Shards::ALL && !b.standing().frozen).await;
    // What it hears from its watch is enough for that, and it says that it hears nothing else.
    until("the other lets go", || a.ours().is_empty()).await;
    assert!(a.standing().frozen && wrong(&a) == Some(Kind::Auth), "{:?}", a.board.status());
    fs::write(old.path(), "hunter33").expect("written");
    until("both share again", || is_shared(&[&a, &b]) && a.ours().len() > 60).await;
    check_history(&etcd);
}

#[tokio::test]
async fn a_password_that_changes_in_time_moves_nothing() {
    let etcd = with_user(Part::Etcd34).start();
    let password = file(PASSWORD);
    let (a, b) = two_with(&said(&etcd, password.path()), "").await;
    let (before, made) = ((a.ours(), b.ours()), check_history(&etcd));
    etcd.change_password("me", "hunter33");
    fs::write(password.path(), "hunter33").expect("written");
    sleep(TTL * 3 / 2).await;
    until("nothing is wrong", || {
        [&a, &b].iter().all(|copy| wrong(copy).is_none() && !copy.standing().frozen)
    })
    .await;
    assert_eq!((a.ours(), b.ours(), check_history(&etcd)), (before.0, before.1, made));
    assert_eq!((a.board.status().leases_lost, b.board.status().leases_lost), (0, 0));
}

#[tokio::test]
async fn who_may_not_write_says_so_and_begins_when_it_may() {
    let etcd = Etcd::builder(Part::Etcd34).user("me", PASSWORD, &[REGISTRATIONS]).start();
    let password = file(PASSWORD);
    let copy = begin(config_with(&said(&etcd, password.path()), "a:1", ""));
    until("it is told", || wrong(&copy) == Some(Kind::Denied)).await;
    assert!(copy.ours().is_empty() && !copy.board.status().is_registered);
    etcd.permit("me", MEMBERS);
    until("it is there", || copy.board.status().is_registered).await;
    until("it may still not claim", || wrong(&copy) == Some(Kind::Denied) && copy.ours().is_empty()).await;
    etcd.permit("me", "/redvigil/");
    until("all is ours", || copy.ours() == Shards::ALL && etcd.all(CLAIMS).len() == 256).await;
    until("nothing is wrong", || wrong(&copy).is_none()).await;
}

fn put_in_place(from: &Path, to: &Path) {
    let beside = to.with_extension("new");
    fs::copy(from, &beside).expect("copied");
    fs::rename(beside, to).expect("in place");
}

#[tokio::test]
async fn certificates_are_renewed_under_copies_that_run() {
    let etcd = Etcd::builder(Part::Etcd35).client_certificates().start();
    let (right, others) = (etcd.certificates().expect("it speaks TLS"), Certificates::generate());
    let folder = tempfile::tempdir().expect("a folder");
    let [ca, certificate, key] = ["ca.pem", "client.pem", "client.key"].map(|name| folder.path().join(name));
    put_in_place(&others.ca, &ca);
    put_in_place(&right.client.certificate, &certificate);
    put_in_place(&right.client.key, &key);
    let said = format!(
        "endpoints: [\"{}\"], tls: {{ ca_file: {}, cert_file: {}, key_file: {} }}",
        etcd.url(),
        ca.display(),
        certificate.display(),
        key.display()
    );
    // An authority that did not sign what etcd shows.
    let copy = |id: &str| begin(config_with(&said, id, ""));
    let (a, b) = (copy("a:1"), copy("b:1"));
    until("it is told", || [&a, &b].iter().all(|copy| wrong(copy) == Some(Kind::Tls))).await;
    let text = a.board.status().error.map(|(_, text)| text).unwrap_or_default();
    assert!(text.contains("TLS") && text.contains("invalid peer certificate"), "{text}");
    put_in_place(&right.ca, &ca);
    until("both share", || is_shared(&[&a, &b]) && a.ours().len() > 60 && b.ours().len() > 60).await;
    let (before, made) = ((a.ours(), b.ours()), check_history(&etcd));
    put_in_place(&right.both.certificate, &certificate);
    put_in_place(&right.both.key, &key);
    let since = Instant::now();
    while since.elapsed() < TTL * 3 / 2 {
        assert_eq!((a.ours(), b.ours()), before);
        assert!(a.share.fence.is_open() && b.share.fence.is_open());
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((a.board.status().leases_lost, b.board.status().leases_lost), (0, 0));
    assert_eq!(check_history(&etcd), made);
    until("nothing is wrong", || wrong(&a).is_none() && wrong(&b).is_none()).await;
    b.stop.cancel();
    until("the other takes it", || a.ours() == Shards::ALL).await;
}
