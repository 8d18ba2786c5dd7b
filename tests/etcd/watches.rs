//! Watches: from a revision on, without a gap and without a double, whatever happens on the way.

use crate::{VERSIONS, brief, client, client_of, within};
use redvigil::net::etcd::{Error, Keys, Kind, Watch};
use std::time::{Duration, Instant};
use testbed::etcd::Etcd;
use testbed::{Fault, Proxy};
use tokio::time::timeout;

/// Longer than a watch needs to notice that etcd is silent.
const PATIENCE: Duration = Duration::from_secs(25);

/// The next so many changes, in one line. What fails meanwhile is asked again, as whoever watches does.
async fn changes(watch: &mut Watch, count: usize) -> String {
    let mut told = vec![];
    let until = within(PATIENCE);
    while told.len() < count {
        match tokio::time::timeout_at(until, watch.next()).await {
            Ok(Ok(changes)) => told.extend(changes.events.iter().map(brief)),
            Ok(Err(error)) if error.kind() == Kind::Compacted => panic!("{error} after {told:?}"),
            Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(_) => panic!("{count} were to come: {told:?}"),
        }
    }
    told.join(", ")
}

async fn failure(watch: &mut Watch) -> Error {
    let told = timeout(PATIENCE, watch.next()).await.expect("it is told");
    told.expect_err("nothing changes")
}

/// Waits until it listens: what is told then is told from now on.
async fn begin(watch: &mut Watch) {
    let _ = timeout(Duration::from_millis(300), watch.next()).await.map(|told| panic!("{told:?}"));
}

#[tokio::test]
async fn a_watch_tells_what_happens_from_a_revision_on() {
    for part in VERSIONS {
        let etcd = Etcd::builder(part).start();
        let client = client_of(&etcd);
        etcd.put("a/1", "old", 0);
        let from = etcd.put("a/1", "1", 0);
        etcd.put("b/1", "of others", 0);
        let lease = etcd.grant(60);
        etcd.put("a/2", "2", lease);
        etcd.revoke(lease);
        etcd.delete_all("a/");
        etcd.put("a", "not below", 0);
        let mut watch = client.watch(Keys::prefix("a/"), from);
        assert_eq!(changes(&mut watch, 4).await, "a/1=1, a/2=2, a/2 gone, a/1 gone");
        let mut now = client.watch(Keys::one("a/3"), 0);
        begin(&mut now).await;
        etcd.put("a/30", "another", 0);
        etcd.put("a/3", "3", 0);
        assert_eq!(changes(&mut now, 1).await, "a/3=3");
        assert_eq!(changes(&mut watch, 2).await, "a/30=another, a/3=3");
    }
}

#[tokio::test]
async fn a_watch_from_before_a_compaction_says_so_and_goes_on_saying_it() {
    for part in VERSIONS {
        let etcd = Etcd::builder(part).start();
        let client = client_of(&etcd);
        let from = etcd.put("a", "1", 0);
        let last = (2..5).map(|n| etcd.put("a", &n.to_string(), 0)).max().expect("some");
        let mut open = client.watch(Keys::one("a"), from);
        assert_eq!(changes(&mut open, 4).await, "a=1, a=2, a=3, a=4");
        etcd.compact(last);
        for _ in 0..2 {
            let mut late = client.watch(Keys::one("a"), from);
            let Error::Compacted { revision } = failure(&mut late).await else { panic!("another failure") };
            assert_eq!(revision, Some(last), "the oldest that is known");
            assert_eq!(failure(&mut late).await.kind(), Kind::Compacted, "and again");
        }
        // What was open before goes on.
        etcd.put("a", "5", 0);
        assert_eq!(changes(&mut open, 1).await, "a=5");
        let mut rest = client.watch(Keys::one("a"), last);
        assert_eq!(changes(&mut rest, 2).await, "a=4, a=5");
    }
}

/// A thread of its own waits until it is so.
fn set(way: &Proxy, fault: Fault) {
    std::thread::scope(|scope| _ = scope.spawn(|| way.set(fault)));
}

#[tokio::test]
async fn what_happens_while_the_connection_is_cut_is_told_once_afterwards() {
    let etcd = Etcd::start();
    let way = Proxy::start(etcd.port());
    let client = client(&[format!("http://{}", way.address())]);
    let mut watch = client.watch(Keys::prefix("a"), etcd.revision() + 1);
    let mut number = 0;
    for fault in [Fault::Refuse, Fault::Close, Fault::Reset] {
        etcd.put("a", &format!("{number}"), 0);
        assert_eq!(changes(&mut watch, 1).await, format!("a={number}"));
        set(&way, fault);
        etcd.put("a", &format!("{}", number + 1), 0);
        let error = failure(&mut watch).await;
        assert!(error.kind() != Kind::Compacted, "{error}");
        etcd.put("a", &format!("{}", number + 2), 0);
        set(&way, Fault::Pass);
        let both = format!("a={}, a={}", number + 1, number + 2);
        assert_eq!(changes(&mut watch, 2).await, both, "{fault:?}");
        number += 3;
    }
}

#[tokio::test]
async fn a_watch_that_comes_back_below_the_compacted_revision_says_so() {
    for part in VERSIONS {
        let etcd = Etcd::builder(part).start();
        let way = Proxy::start(etcd.port());
        let client = client(&[format!("http://{}", way.address())]);
        let mut watch = client.watch(Keys::prefix("a"), etcd.revision() + 1);
        etcd.put("a", "1", 0);
        assert_eq!(changes(&mut watch, 1).await, "a=1");
        set(&way, Fault::Refuse);
        etcd.put("a", "2", 0);
        let last = etcd.put("a", "3", 0);
        etcd.compact(last);
        let mut told = failure(&mut watch).await;
        set(&way, Fault::Pass);
        let until = Instant::now();
        while told.kind() != Kind::Compacted {
            assert!(until.elapsed() < PATIENCE, "{told}");
            tokio::time::sleep(Duration::from_millis(20)).await;
            told = failure(&mut watch).await;
        }
    }
}

#[tokio::test]
async fn a_watch_of_an_etcd_that_stands_still_fails_and_goes_on_when_that_does() {
    let mut etcd = Etcd::start();
    let client = client_of(&etcd);
    let mut watch = client.watch(Keys::prefix("a"), etcd.revision() + 1);
    etcd.put("a", "1", 0);
    assert_eq!(changes(&mut watch, 1).await, "a=1");
    etcd.stop();
    let begun = Instant::now();
    let error = failure(&mut watch).await;
    let took = begun.elapsed();
    assert!(matches!(error.kind(), Kind::Silent | Kind::Broken), "{error}");
    assert!(took < Duration::from_secs(12), "{took:?}");
    etcd.cont();
    etcd.put("a", "2", 0);
    etcd.put("a", "3", 0);
    assert_eq!(changes(&mut watch, 2).await, "a=2, a=3");
}
