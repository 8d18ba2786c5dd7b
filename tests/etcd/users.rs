//! Who we are: tokens that etcd forgets, passwords and certificates that change, and what it is told as when they are wrong.

use crate::{VERSIONS, brief, soon, with};
use redvigil::config::Secret;
use redvigil::config::connect::Tls;
use redvigil::config::deliver::Word;
use redvigil::net::etcd::{Client, Error, Keys, Kind};
use redvigil::telemetry::log;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testbed::etcd::Etcd;
use testbed::{Certificates, Part};
use tokio::time::{sleep, timeout};

fn given(password: &str) -> Word {
    Word::Given(Secret::new(password))
}

fn user(etcd: &Etcd, password: Word) -> Client {
    with(&etcd.urls(), Some(("me", password)), Tls::default())
}

/// In one line, without a secret.
fn shown(error: &Error) -> String {
    let shown = log::chain(error);
    assert!(!shown.contains('\n') && !shown.contains("hunter"), "{shown}");
    shown
}

#[tokio::test]
async fn a_user_may_do_what_it_may_and_is_told_what_it_may_not() {
    for part in VERSIONS {
        let etcd = Etcd::builder(part).user("me", "hunter2", &["a/"]).start();
        let client = user(&etcd, given("hunter2"));
        client.put("a/1", "1", 0, soon()).await.expect("written");
        let lease = client.grant(Duration::from_secs(60), soon()).await.expect("a lease");
        client.put("a/2", "2", lease.id, soon()).await.expect("written");
        client.keep_alive(lease.id, soon()).await.expect("kept alive");
        assert_eq!(client.all("a/", soon()).await.expect("read").kvs.len(), 2);
        let told = [
            client.put("b/1", "1", 0, soon()).await.map(drop),
            client.all("b/", soon()).await.map(drop),
            client.all("", soon()).await.map(drop),
        ];
        for answer in told {
            assert_eq!(answer.map_err(|error| error.kind()), Err(Kind::Denied));
        }
        assert_eq!(client.counts().tokens, 1);
        let wrong = user(&etcd, given("hunter3")).get("a/1", soon()).await.expect_err("wrong");
        assert_eq!(wrong.kind(), Kind::Auth, "{}", shown(&wrong));
        let nobody = with(&etcd.urls(), None, Tls::default()).get("a/1", soon()).await.expect_err("nobody");
        assert_eq!(nobody.kind(), Kind::Auth, "{}", shown(&nobody));
    }
}

#[tokio::test]
async fn a_token_that_etcd_forgot_is_got_anew_and_a_write_is_not_lost() {
    for part in VERSIONS {
        let mut etcd =
            Etcd::builder(part).user("me", "hunter2", &["a"]).token_ttl(Duration::from_secs(1)).start();
        let client = user(&etcd, given("hunter2"));
        let mut watch = client.watch(Keys::one("a"), etcd.revision() + 1);
        client.put("a", "1", 0, soon()).await.expect("written");
        let told = timeout(Duration::from_secs(20), watch.next()).await.expect("in time").expect("told");
        assert_eq!(brief(&told.events[0]), "a=1");
        let tokens = client.counts().tokens;
        // It ends while nobody uses it.
        sleep(Duration::from_millis(3_500)).await;
        client.put("a", "2", 0, soon()).await.expect("written");
        assert!(client.counts().tokens > tokens, "the old one had ended");
        // One that was started again knows none. A write on the connection that is dead now would be told as broken.
        etcd.kill();
        etcd.restart();
        client.get("a", soon()).await.expect("read");
        client.put("a", "3", 0, soon()).await.expect("written");
        let mut told = vec![];
        while told.len() < 2 {
            match timeout(Duration::from_secs(20), watch.next()).await.expect("in time") {
                Ok(changes) => told.extend(changes.events.iter().map(brief)),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
        assert_eq!(told, ["a=2", "a=3"]);
        assert_eq!(etcd.all("a")[0].value, "3");
    }
}

#[tokio::test]
async fn a_password_that_changes_is_wrong_until_its_file_has_it() {
    for part in VERSIONS {
        let etcd = Etcd::builder(part).user("me", "hunter2", &["a"]).start();
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "hunter2\n").expect("written");
        let client = user(&etcd, Word::File(file.path().into()));
        client.put("a", "1", 0, soon()).await.expect("written");
        etcd.change_password("me", "hunter33");
        let error = client.put("a", "2", 0, soon()).await.expect_err("its token is forgotten with it");
        assert_eq!(error.kind(), Kind::Auth, "{}", shown(&error));
        fs::write(file.path(), "hunter33\n").expect("written");
        client.put("a", "3", 0, soon()).await.expect("written");
        assert_eq!(etcd.all("a")[0].value, "3");
    }
}

#[tokio::test]
async fn permission_that_is_given_later_counts_though_the_token_is_older() {
    for part in VERSIONS {
        let etcd = Etcd::builder(part).user("me", "hunter2", &["a"]).start();
        let client = user(&etcd, given("hunter2"));
        let error = client.put("b", "1", 0, soon()).await.expect_err("not yet");
        assert_eq!(error.kind(), Kind::Denied, "{}", shown(&error));
        etcd.permit("me", "b");
        client.put("b", "1", 0, soon()).await.expect("written");
    }
}

fn tls(certificates: &Certificates, client: Option<(PathBuf, PathBuf)>) -> Tls {
    Tls { ca_file: Some(certificates.ca.clone()), client, ..Tls::default() }
}

#[tokio::test]
async fn who_is_not_who_it_should_be_is_told_as_such() {
    for part in VERSIONS {
        let etcd = Etcd::builder(part).client_certificates().start();
        let (right, wrong) = (etcd.certificates().expect("it speaks TLS"), Certificates::generate());
        let of = |all: &Certificates| Some((all.client.certificate.clone(), all.client.key.clone()));
        let fine = with(&etcd.urls(), None, tls(right, of(right)));
        fine.put("a", "1", 0, soon()).await.expect("written");
        let check = async |tls: Tls, expected: &[Kind]| {
            let error = with(&etcd.urls(), None, tls).get("a", soon()).await.expect_err("wrong");
            assert!(expected.contains(&error.kind()), "{:?}: {}", error.kind(), shown(&error));
        };
        // An authority that did not sign etcd's, or none of ours at all.
        check(tls(&wrong, of(right)), &[Kind::Tls]).await;
        check(Tls { client: of(right), ..Tls::default() }, &[Kind::Tls]).await;
        // Etcd does not take ours: it says so when we believe to be connected already.
        check(tls(right, None), &[Kind::Tls, Kind::Broken]).await;
        check(tls(right, of(&wrong)), &[Kind::Tls, Kind::Broken]).await;
        // A file that is not there, and one that is none.
        let missing = Some(("/nowhere/a.pem".into(), "/nowhere/a.key".into()));
        check(tls(right, missing), &[Kind::Local]).await;
        let not_one = Some((right.client.key.clone(), right.client.certificate.clone()));
        check(tls(right, not_one), &[Kind::Local]).await;
        // TLS where there is none, and none where there is.
        let plain = etcd.url().replace("https", "http");
        let error = with(&[plain], None, Tls::default()).get("a", soon()).await.expect_err("it speaks TLS");
        assert!(
            matches!(error.kind(), Kind::Broken | Kind::Unreachable | Kind::Protocol),
            "{}",
            shown(&error)
        );
        let other = Etcd::start();
        let secure = other.url().replace("http", "https");
        let error = with(&[secure], None, tls(right, None)).get("a", soon()).await.expect_err("it does not");
        assert_eq!(error.kind(), Kind::Tls, "{}", shown(&error));
    }
}

fn put_in_place(from: &Path, to: &Path) {
    let beside = to.with_extension("new");
    fs::copy(from, &beside).expect("copied");
    fs::rename(beside, to).expect("in place");
}

#[tokio::test]
async fn certificates_that_are_renewed_are_used_from_the_next_call_on() {
    let etcd = Etcd::builder(Part::Etcd35).client_certificates().start();
    let right = etcd.certificates().expect("it speaks TLS");
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = (folder.path().join("client.pem"), folder.path().join("client.key"));
    put_in_place(&right.client.certificate, &certificate);
    put_in_place(&right.client.key, &key);
    let client = with(&etcd.urls(), None, tls(right, Some((certificate.clone(), key.clone()))));
    client.put("a", "1", 0, soon()).await.expect("written");
    client.put("a", "2", 0, soon()).await.expect("written");
    assert_eq!(client.counts().connections, 1);
    let mut watch = client.watch(Keys::one("a"), etcd.revision() + 1);
    put_in_place(&right.both.certificate, &certificate);
    put_in_place(&right.both.key, &key);
    client.put("a", "3", 0, soon()).await.expect("written");
    assert_eq!(client.counts().connections, 2, "with the new one");
    let told = timeout(Duration::from_secs(20), watch.next()).await.expect("in time").expect("told");
    assert_eq!(brief(&told.events[0]), "a=3");
    // One that etcd does not take is told, and mended by the next.
    let wrong = Certificates::generate();
    put_in_place(&wrong.client.certificate, &certificate);
    put_in_place(&wrong.client.key, &key);
    let error = client.put("a", "4", 0, soon()).await.expect_err("wrong");
    assert!(matches!(error.kind(), Kind::Tls | Kind::Broken), "{}", shown(&error));
    put_in_place(&right.client.certificate, &certificate);
    put_in_place(&right.client.key, &key);
    client.put("a", "5", 0, soon()).await.expect("written");
    assert_eq!(etcd.all("a")[0].value, "5");
}
