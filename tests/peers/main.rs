//! Copies of the exporter that share work by a real etcd: each is the loop alone, with somebody who follows it as one who
//! collects would.
//!
//! | what happens to etcd | what a copy does | shown by |
//! | --- | --- | --- |
//! | killed, and started again in time | the same lease; watches go on behind what they told | `trouble`, on 3.4 in `members` |
//! | silent (SIGSTOP) | frozen within the TTL; `freeze` keeps its share, `stop` closes the fence | `trouble`, `members` |
//! | silent for longer than the TTL | another lease, all anew, first what it had | `trouble`, on 3.4 in `members` |
//! | one of three dead or silent | the next is asked; nothing moves | `members` |
//! | no quorum | as if it were silent | `members` |
//! | compacted | a list where a watch is below it, nothing where none is | `forgotten`, `aftermath` |
//! | a token, password or certificate that counts no more | another token; frozen while none is to be had | `users` |
//! | a lease that somebody revokes, keys that somebody touches | another lease; what is missing is written again | `forgotten`, `trouble` |
//! | its data gone, or those of yesterday | all anew | `forgotten`, `aftermath` |
//! | nothing, but we are held up | nothing is collected until etcd has confirmed the lease | `trouble` |
//!
//! What the client makes of it is in `tests/etcd`, what is seen from outside of the process in `tests/it/sharing`.
//!
//! What a newcomer would get wrong: the copies share one process and one runtime. Whoever is to be held up is its etcd.

mod aftermath;
mod forgotten;
mod members;
mod trouble;
mod users;

use redvigil::config::Config;
use redvigil::config::document::Sources;
use redvigil::peers::{Board, Coordination, SHARDS, Seen, Shards, Share, Standing, World};
use redvigil::telemetry::events::Events;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use testbed::etcd::{Etcd, Event};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const CLAIMS: &str = "/redvigil/default/shards/";
const MEMBERS: &str = "/redvigil/default/peers/";
const REGISTRATIONS: &str = "/services/exporter/";
const TTL: Duration = Duration::from_secs(3);

struct Copy {
    share: Share,
    board: Arc<Board>,
    events: Arc<Events>,
    publish: Arc<watch::Sender<Arc<Config>>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    follower: JoinHandle<()>,
}

/// With one endpoint of etcd.
fn config(url: &str, id: &str, more: &str) -> Config {
    config_with(&format!("endpoints: [\"{url}\"]"), id, more)
}

/// With that said of etcd beside the TTL, and more of sharding.
fn config_with(etcd: &str, id: &str, more: &str) -> Config {
    let text = format!(
        "registry:\n  advertise: http://{id}\n  etcd: {{ {etcd}, ttl: 3s }}\n  sharding: {{ settle: 1s{more} }}\n\
         global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("r.yaml");
    std::fs::write(&path, text).expect("written");
    let sources = Sources { file: Some(path), ..Sources::default() };
    sources.load_file(|_| None).expect("a document").config
}

fn start(url: &str, id: &str) -> Copy {
    begin(config(url, id, ""))
}

fn begin(config: Config) -> Copy {
    let (publish, config) = watch::channel(Arc::new(config));
    let (publish, events) = (Arc::new(publish), Arc::<Events>::default());
    let (hold, is_held) = watch::channel(false);
    let world = World {
        config,
        clients: Arc::default(),
        metrics: Arc::default(),
        events: events.clone(),
        hold: is_held,
    };
    let (coordination, share, board) = Coordination::new(world);
    let stop = CancellationToken::new();
    let token = stop.clone();
    let task = tokio::spawn(async move {
        let _kept = hold;
        coordination.run(token).await
    });
    let mut standing = share.standing.clone();
    let seen = share.seen.clone();
    let follower = tokio::spawn(async move {
        loop {
            let number = standing.borrow_and_update().number;
            seen.send_replace(Seen { number, ..Seen::default() });
            if standing.changed().await.is_err() {
                return;
            }
        }
    });
    Copy { share, board, events, publish, stop, task, follower }
}

impl Copy {
    fn standing(&self) -> Arc<Standing> {
        self.share.standing.borrow().clone()
    }

    fn ours(&self) -> Shards {
        self.standing().ours
    }

    /// Dies without a word.
    fn die(&self) {
        self.task.abort();
        self.follower.abort();
    }
}

/// All is somebody's, and nothing is on its way.
fn is_shared(copies: &[&Copy]) -> bool {
    let sum: usize = copies.iter().map(|copy| copy.ours().len()).sum();
    let is_calm = |copy: &&Copy| copy.standing().leaving.is_empty() && copy.share.fence.is_open();
    sum == SHARDS && copies.iter().all(is_calm)
}

async fn until(what: &str, is: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

/// At no revision has a shard two owners: a claim is made where there is none. How many were made.
fn check_history(etcd: &Etcd) -> usize {
    let mut leases = BTreeMap::new();
    let mut made = 0;
    for event in etcd.history(CLAIMS, 1) {
        match event {
            Event::Put(kv) => {
                let before = leases.insert(kv.key.clone(), kv.lease);
                assert_eq!(before, None, "{} is claimed twice", kv.key);
                assert_ne!(kv.lease, 0);
                made += 1;
            }
            Event::Delete { key, .. } => _ = leases.remove(&key),
        }
    }
    made
}

async fn two(etcd: &Etcd) -> (Copy, Copy) {
    two_with(&format!("endpoints: [\"{}\"]", etcd.url()), "").await
}

/// Two that share, with that said of etcd, and more of sharding.
async fn two_with(etcd: &str, more: &str) -> (Copy, Copy) {
    let copy = |id: &str| begin(config_with(etcd, id, more));
    let (a, b) = (copy("a:1"), copy("b:1"));
    until("both share", || is_shared(&[&a, &b]) && a.ours().len() > 60 && b.ours().len() > 60).await;
    (a, b)
}

#[tokio::test]
async fn three_share_and_survive() {
    let etcd = Etcd::start();
    let url = etcd.url();
    let a = start(&url, "a:1");
    until("a has all", || a.standing().ours == Shards::ALL && a.share.fence.is_open()).await;
    let b = start(&url, "b:1");
    let c = start(&url, "c:1");
    let counts = |all: &[&Copy]| all.iter().map(|copy| copy.standing().ours.len()).collect::<Vec<_>>();
    until("settled", || {
        let n = counts(&[&a, &b, &c]);
        n.iter().sum::<usize>() == 256
            && n.iter().all(|n| *n > 50 && *n < 120)
            && a.standing().leaving.is_empty()
    })
    .await;
    c.die();
    until("crash: two have all", || counts(&[&a, &b]).iter().sum::<usize>() == 256).await;
    b.stop.cancel();
    until("stop: one has all", || a.standing().ours == Shards::ALL).await;
    assert!(b.standing().ours.is_empty());
}
