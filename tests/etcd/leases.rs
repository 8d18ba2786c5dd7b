//! Leases: granted, kept alive, ended by us, by others and by themselves.

use crate::{VERSIONS, client_of, soon};
use redvigil::net::etcd::Kind;
use std::time::Duration;
use testbed::Part;
use testbed::etcd::Etcd;
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn a_lease_lives_as_long_as_it_is_kept_alive() {
    let etcd = Etcd::builder(Part::Etcd34).start();
    let client = client_of(&etcd);
    // The least that etcd grants comes from its election time-out.
    let lease = client.grant(Duration::from_millis(1_200), soon()).await.expect("a lease");
    assert!(lease.id != 0 && lease.ttl >= Duration::from_secs(2), "{lease:?}");
    client.put("a", "1", lease.id, soon()).await.expect("written");
    let mut kept = Instant::now();
    for _ in 0..6 {
        sleep(lease.ttl / 4).await;
        kept = Instant::now();
        assert_eq!(client.keep_alive(lease.id, soon()).await.expect("it lives"), lease.ttl);
    }
    assert_eq!(etcd.all("a").first().map(|kv| kv.lease), Some(lease.id));
    let left = client.time_to_live(lease.id, soon()).await.expect("it lives");
    assert!(left <= lease.ttl, "{left:?}");
    // It ends by itself, and not before its time.
    while client.get("a", soon()).await.expect("read").0.is_some() {
        assert!(kept.elapsed() < Duration::from_secs(30), "it does not end");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(kept.elapsed() >= lease.ttl, "{:?}", kept.elapsed());
    let error = client.keep_alive(lease.id, soon()).await.expect_err("it has ended");
    assert_eq!(error.kind(), Kind::NoLease);
}

#[tokio::test]
async fn a_lease_that_has_ended_is_told_by_each_call() {
    for part in VERSIONS {
        let etcd = Etcd::builder(part).start();
        let client = client_of(&etcd);
        let lease = client.grant(Duration::from_secs(60), soon()).await.expect("a lease");
        client.put("a", "1", lease.id, soon()).await.expect("written");
        client.revoke(lease.id, soon()).await.expect("ended");
        client.revoke(lease.id, soon()).await.expect("one that has ended is fine");
        assert!(etcd.all("a").is_empty() && etcd.leases().is_empty());
        let told = [
            client.keep_alive(lease.id, soon()).await.map(drop),
            client.time_to_live(lease.id, soon()).await.map(drop),
            client.put("a", "1", lease.id, soon()).await.map(drop),
        ];
        for answer in told {
            assert_eq!(answer.map_err(|error| error.kind()), Err(Kind::NoLease));
        }
        // It is no failure of a member: nobody is left for another.
        assert_eq!((client.counts().connections, client.counts().moves), (1, 0));
    }
}

#[tokio::test]
async fn a_lease_outlives_etcd_as_long_as_its_time_goes() {
    for part in VERSIONS {
        let mut etcd = Etcd::builder(part).start();
        let client = client_of(&etcd);
        let lease = client.grant(Duration::from_secs(30), soon()).await.expect("a lease");
        client.put("a", "1", lease.id, soon()).await.expect("written");
        etcd.kill();
        let error = client.keep_alive(lease.id, soon()).await.expect_err("nobody listens");
        assert_eq!(error.kind(), Kind::Unreachable, "{error}");
        etcd.restart();
        assert_eq!(client.keep_alive(lease.id, soon()).await.expect("it lives"), lease.ttl);
        assert_eq!(etcd.all("a").len(), 1);
        assert_eq!(client.counts().connections, 2);
    }
}
