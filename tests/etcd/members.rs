//! Three members, of which one is dead, silent, or alone: each call has an answer by its deadline.

use crate::{client, client_of, soon, within};
use redvigil::net::etcd::{Client, Keys, Kind};
use std::time::Duration;
use testbed::etcd::Etcd;
use testbed::wait_until;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(30);

/// How late an answer may be on a busy machine.
const LATE: Duration = Duration::from_secs(1);

fn names(etcd: &Etcd) -> Vec<String> {
    etcd.urls().iter().map(|url| url.trim_start_matches("http://").to_owned()).collect()
}

/// Reads until there is an answer, as whoever asks again does.
async fn until_read(client: &Client) {
    let begun = Instant::now();
    while let Err(error) = client.get("a", within(Duration::from_secs(3))).await {
        assert!(begun.elapsed() < PATIENCE, "{error}");
    }
}

#[tokio::test]
async fn a_silent_etcd_costs_the_deadline_and_no_more() {
    let mut etcd = Etcd::start();
    let client = client_of(&etcd);
    client.put("a", "1", 0, soon()).await.expect("written");
    let lease = client.grant(Duration::from_secs(60), soon()).await.expect("a lease");
    etcd.stop();
    for _ in 0..2 {
        let (begun, limit) = (Instant::now(), Duration::from_millis(800));
        let until = begun + limit;
        let (read, written, kept) = tokio::join!(
            client.get("a", until),
            client.put("a", "2", 0, until),
            client.keep_alive(lease.id, until)
        );
        let took = begun.elapsed();
        for error in [read.map(drop), written.map(drop), kept.map(drop)] {
            let error = error.expect_err("nobody answers");
            assert_eq!(error.kind(), Kind::Silent, "{error}");
        }
        assert!(took >= limit && took < limit + LATE, "{took:?}");
    }
    etcd.cont();
    client.get("a", soon()).await.expect("it answers again");
}

#[tokio::test]
async fn one_of_three_that_is_silent_is_left_within_the_deadline() {
    let mut etcd = Etcd::cluster(3);
    let client = client_of(&etcd);
    client.put("a", "1", 0, soon()).await.expect("written");
    assert_eq!(&*client.member().0, names(&etcd)[0]);
    etcd.member(0).stop();
    // If that was the leader, the others have to find another one first.
    let read = client.get("a", within(Duration::from_secs(6))).await;
    let (kv, _) = read.expect("the next one answers");
    assert_eq!(&*kv.expect("it is there").value, b"1");
    assert_ne!(&*client.member().0, names(&etcd)[0]);
    client.put("a", "2", 0, soon()).await.expect("written, by the one that answered");
    etcd.member(0).cont();
}

#[tokio::test]
async fn a_write_to_one_that_is_silent_is_not_sent_to_another_but_the_next_one_is() {
    let mut etcd = Etcd::cluster(3);
    let client = client_of(&etcd);
    client.put("a", "1", 0, soon()).await.expect("written");
    etcd.member(0).stop();
    let error = client.put("a", "2", 0, within(Duration::from_secs(2))).await.expect_err("silent");
    assert_eq!(error.kind(), Kind::Silent, "{error}");
    wait_until("another to lead", PATIENCE, || etcd.leader().is_some_and(|at| at != 0));
    let third = client.put("a", "3", 0, soon()).await.expect("the next member takes it");
    assert_eq!(etcd.all("a")[0].value, "3");
    // The first one may do what it was told before it stood still: no more than once.
    etcd.member(0).cont();
    until_read(&client).await;
    let written = etcd.history("a", 1).len();
    assert!((2..=3).contains(&written), "{written} writes, the last at {third}");
}

#[tokio::test]
async fn a_dead_member_costs_nothing_but_the_next_connection() {
    for dead in 0..3 {
        let mut etcd = Etcd::cluster(3);
        let client = client_of(&etcd);
        client.put("a", "1", 0, soon()).await.expect("written");
        etcd.member(dead).kill();
        wait_until("one to lead", PATIENCE, || etcd.leader().is_some());
        until_read(&client).await;
        assert_eq!(&*client.member().0, names(&etcd)[usize::from(dead == 0)]);
        client.put("a", "2", 0, soon()).await.expect("written");
        // A watch follows.
        let mut watch = client.watch(Keys::one("a"), 1);
        let changes = tokio::time::timeout(PATIENCE, watch.next()).await.expect("in time").expect("changes");
        assert_eq!(changes.events.len(), 2);
    }
}

#[tokio::test]
async fn a_member_that_is_alone_is_left_or_told() {
    let mut etcd = Etcd::cluster(3);
    client_of(&etcd).put("a", "1", 0, soon()).await.expect("written");
    let alone = client(&etcd.urls()[..1]);
    let mut watch = alone.watch(Keys::one("a"), 2);
    tokio::time::timeout(PATIENCE, watch.next()).await.expect("in time").expect("a change");
    etcd.member(1).stop();
    etcd.member(2).stop();
    // It listens and answers, and knows of no leader after a while: then that is told at once.
    let begun = Instant::now();
    loop {
        let limit = Duration::from_secs(2);
        let asked = Instant::now();
        let error = alone.get("a", asked + limit).await.expect_err("there is no quorum");
        assert!(asked.elapsed() < limit + LATE, "{:?}", asked.elapsed());
        let expected = [Kind::NoLeader, Kind::Silent, Kind::Unavailable];
        assert!(expected.contains(&error.kind()), "{error}");
        if error.kind() == Kind::NoLeader {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{error}");
    }
    // The watch ends too, whether its connection does or not.
    let told = tokio::time::timeout(PATIENCE, watch.next()).await.expect("it is told");
    let kind = told.expect_err("it is of no use").kind();
    let expected = [Kind::NoLeader, Kind::Silent, Kind::Unavailable, Kind::Broken];
    assert!(expected.contains(&kind), "{kind:?}");
    etcd.member(1).cont();
    etcd.member(2).cont();
    until_read(&alone).await;
    alone.put("a", "2", 0, soon()).await.expect("written");
    let begun = Instant::now();
    let changes = loop {
        match tokio::time::timeout(PATIENCE, watch.next()).await.expect("in time") {
            Ok(changes) => break changes,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(crate::brief(&changes.events[0]), "a=2");
}
