//! Transactions, ranges in pages, and values at the limit.

use crate::{VERSIONS, client, client_of, soon, text};
use redvigil::net::etcd::{Change, Client, Compare, Done, Is, Keys, Kind, Op, Outcome, Page, Range, Txn};
use std::collections::BTreeMap;
use testbed::etcd::Etcd;

fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.into(), value: value.to_owned().into(), lease: 0 }
}

async fn compare(client: &Client, is: Is) -> Done {
    let txn = Txn {
        if_: vec![Compare { key: b"a".to_vec(), is }],
        then: vec![put("told", "yes")],
        else_: vec![Op::Get(Range::of(Keys::one("a")))],
    };
    client.txn(txn, soon()).await.expect("an answer")
}

#[tokio::test]
async fn a_transaction_compares_all_that_can_be_compared() {
    for part in VERSIONS {
        let etcd = Etcd::builder(part).start();
        let client = client_of(&etcd);
        for none in [Is::Created(0), Is::Modified(0), Is::Version(0)] {
            assert!(compare(&client, none.clone()).await.succeeded, "{none:?}: there is no such key");
        }
        let lease = etcd.grant(60);
        let made = etcd.put("a", "1", 0);
        let written = etcd.put("a", "2", lease);
        let check = async |is: Is, expected: bool| {
            let before = etcd.revision();
            let done = compare(&client, is.clone()).await;
            assert_eq!(done.succeeded, expected, "{is:?}");
            if expected {
                assert_eq!((done.revision, &*done.outcomes), (before + 1, &[Outcome::Put][..]), "{is:?}");
                return;
            }
            // Nothing changed, and what stands there instead comes with it.
            let [Outcome::Got(page)] = &*done.outcomes else { panic!("{:?}", done.outcomes) };
            let kv = &page.kvs[0];
            assert_eq!((done.revision, etcd.revision()), (before, before), "{is:?}");
            assert_eq!((text(&kv.value).as_str(), kv.version, kv.lease), ("2", 2, lease));
            assert_eq!((kv.create_revision, kv.mod_revision), (made, written));
        };
        check(Is::Created(made), true).await;
        check(Is::Created(written), false).await;
        check(Is::Created(0), false).await;
        check(Is::Modified(written), true).await;
        check(Is::Modified(made), false).await;
        check(Is::Version(2), true).await;
        check(Is::Version(1), false).await;
        check(Is::Value("2".into()), true).await;
        check(Is::Value("".into()), false).await;
        check(Is::Lease(lease), true).await;
        check(Is::Lease(0), false).await;
    }
}

#[tokio::test]
async fn a_transaction_is_done_as_a_whole_or_not_at_all() {
    for part in VERSIONS {
        let etcd = Etcd::builder(part).start();
        let client = client_of(&etcd);
        let of = |then: Vec<Op>| Txn { then, ..Txn::default() };
        let lease = etcd.grant(60);
        etcd.revoke(lease);
        let under = |key: &str| Op::Put { key: key.into(), value: "1".into(), lease };
        let many = (0..129).map(|n| put(&format!("a/{n}"), "1")).collect();
        for (wrong, kind) in [
            (vec![put("a/1", "1"), under("a/2")], Kind::NoLease),
            (vec![put("a/1", "1"), put("a/1", "2")], Kind::Refused),
            (many, Kind::Refused),
        ] {
            let error = client.txn(of(wrong), soon()).await.expect_err("it is wrong");
            assert_eq!(error.kind(), kind, "{error}");
        }
        assert!(etcd.all("a/").is_empty());
        let all = vec![put("a/1", "1"), put("a/2", "2"), Op::Get(Range::of(Keys::prefix("a/")))];
        let done = client.txn(of(all), soon()).await.expect("done");
        let [Outcome::Put, Outcome::Put, Outcome::Got(page)] = &*done.outcomes else { panic!("{done:?}") };
        // One revision for all of it, and what was done before is read behind it.
        assert_eq!(page.kvs.iter().map(|kv| kv.mod_revision).collect::<Vec<_>>(), [done.revision; 2]);
        let done = client.txn(of(vec![Op::Delete(Keys::prefix("a/"))]), soon()).await.expect("done");
        assert_eq!((done.succeeded, &*done.outcomes), (true, &[Outcome::Deleted(2)][..]));
        assert_eq!(client.delete(Keys::prefix("a/"), soon()).await.expect("none is fine"), 0);
    }
}

/// As etcd has them: key and value.
fn as_map(page: &Page) -> BTreeMap<String, String> {
    page.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect()
}

#[tokio::test]
async fn all_pages_are_of_one_revision_though_others_write_meanwhile() {
    const KEYS: usize = 1_700; // four pages
    let etcd = Etcd::start();
    let writer = client_of(&etcd);
    let key = |n: usize| format!("a/{n:04}");
    for chunk in (0..KEYS).collect::<Vec<_>>().chunks(100) {
        let then = chunk.iter().map(|n| put(&key(*n), "0")).collect();
        writer.txn(Txn { then, ..Txn::default() }, soon()).await.expect("written");
    }
    let stop = tokio_util::sync::CancellationToken::new();
    let (stopped, last) = (stop.clone(), key(KEYS - 1));
    let writing = tokio::spawn(async move {
        // The first and the last of all are always the same, on different pages; between them keys come and go.
        for n in 1.. {
            let (both, own) = (n.to_string(), format!("a/0800/{}", n % 7));
            let come_or_go = if n % 3 == 0 { Op::Delete(Keys::one(own.clone())) } else { put(&own, "here") };
            let then = vec![put("a/0000", &both), put(&last, &both), come_or_go];
            writer.txn(Txn { then, ..Txn::default() }, soon()).await.expect("written");
            if stopped.is_cancelled() {
                return n;
            }
        }
        0
    });
    let reader = client_of(&etcd);
    let mut seen = std::collections::BTreeSet::new();
    let mut replayed = None;
    for _ in 0..12 {
        let page = reader.all("a/", soon()).await.expect("all");
        let map = as_map(&page);
        assert_eq!(map["a/0000"], map[&key(KEYS - 1)], "of one moment");
        assert!(page.kvs.iter().all(|kv| kv.mod_revision <= page.revision), "none is newer");
        assert!(page.kvs.is_sorted_by(|a, b| a.key < b.key), "none is there twice");
        seen.insert(page.revision);
        replayed.get_or_insert((map, page.revision));
    }
    assert!(seen.len() > 6, "others wrote meanwhile: {seen:?}");
    stop.cancel();
    let rounds = writing.await.expect("it writes");
    // A watch from behind a list comes to what a later list says.
    let (mut map, revision) = replayed.expect("it was read");
    let until = reader.all("a/", soon()).await.expect("all");
    let mut watch = reader.watch(Keys::prefix("a/"), revision + 1);
    let mut at = revision;
    while at < until.revision {
        let changes = watch.next().await.expect("changes");
        at = changes.revision;
        for change in changes.events {
            match change {
                Change::Put(kv) => _ = map.insert(text(&kv.key), text(&kv.value)),
                Change::Delete { key, .. } => _ = map.remove(&text(&key)),
            }
        }
    }
    assert_eq!(map, as_map(&until), "after {rounds} rounds");
}

#[tokio::test]
async fn what_is_too_large_for_a_page_is_read_in_smaller_ones() {
    let etcd = Etcd::start();
    let client = client_of(&etcd);
    let large = "x".repeat(1 << 20);
    for n in 0..12 {
        client.put(format!("a/{n:02}"), large.clone(), 0, soon()).await.expect("written");
    }
    let keys = Range::of(Keys::prefix("a/"));
    let error = client.range(keys, soon()).await.expect_err("12 MiB in one message");
    assert_eq!(error.kind(), Kind::TooLarge, "{error}");
    let all = client.all("a/", soon()).await.expect("all");
    assert_eq!(all.kvs.len(), 12);
    assert!(all.kvs.iter().all(|kv| kv.value == large));
    // The connection is none the worse for it.
    assert_eq!((client.counts().connections, client.counts().moves), (1, 0));
}

#[tokio::test]
async fn a_value_is_taken_up_to_the_limit_of_etcd_and_told_by_a_watch() {
    const LIMIT: usize = 3 << 19; // 1.5 MiB with all around it
    for part in VERSIONS {
        let etcd = Etcd::builder(part).start();
        let client = client_of(&etcd);
        let from = etcd.revision() + 1;
        let value = |size: usize| "x".repeat(size);
        for size in [0, 1, LIMIT - 1_000] {
            client.put("a", value(size), 0, soon()).await.expect("written");
            let kv = client.get("a", soon()).await.expect("read").0.expect("it is there");
            assert_eq!(kv.value.len(), size);
        }
        for size in [LIMIT + 1, LIMIT * 2] {
            let error = client.put("a", value(size), 0, soon()).await.expect_err("too large");
            assert_eq!(error.kind(), Kind::TooLarge, "{size}: {error}");
        }
        // All of them at once, and more than one message may carry.
        for n in 0..8 {
            client.put(format!("a/{n}"), value(LIMIT - 1_000), 0, soon()).await.expect("written");
        }
        let mut watch = client.watch(Keys::prefix("a"), from);
        let mut sizes = vec![];
        while sizes.len() < 11 {
            let changes = watch.next().await.expect("changes");
            sizes.extend(changes.events.iter().map(|change| match change {
                Change::Put(kv) => kv.value.len(),
                Change::Delete { .. } => panic!("nothing was deleted"),
            }));
        }
        assert_eq!((&sizes[..2], sizes[2..].iter().min()), (&[0, 1][..], Some(&(LIMIT - 1_000))));
        assert_eq!(client.counts().connections, 1);
    }
}

#[tokio::test]
async fn what_was_is_read_until_it_is_compacted() {
    let etcd = Etcd::start();
    let client = client(&etcd.urls());
    let first = etcd.put("a", "1", 0);
    let second = etcd.put("a", "2", 0);
    let at = async |revision: i64| {
        let page = client.range(Range { keys: Keys::one("a"), revision, limit: 0 }, soon()).await;
        page.map(|page| (text(&page.kvs[0].value), page.revision)).map_err(|error| error.kind())
    };
    // Whatever revision is read, that of now comes with it.
    assert_eq!(at(first).await, Ok(("1".into(), second)));
    assert_eq!(at(second + 1).await, Err(Kind::Refused), "that is yet to come");
    etcd.compact(second);
    assert_eq!(at(first).await, Err(Kind::Compacted));
    assert_eq!(at(second).await, Ok(("2".into(), second)));
}
