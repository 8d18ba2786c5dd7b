//! Copies of the exporter that share work by a real etcd.

use redvigil::config::Config;
use redvigil::config::document::Sources;
use redvigil::peers::{Coordination, Seen, Shards, Share, Standing, World};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Copy {
    share: Share,
    stop: CancellationToken,
    task: JoinHandle<()>,
    follower: JoinHandle<()>,
}

fn config(url: &str, id: &str) -> Config {
    let text = format!(
        "registry: {{advertise: \"http://{id}\", etcd: {{endpoints: [\"{url}\"], ttl: 3s}}, sharding: {{settle: 1s}}}}\nglobal: {{scrape_interval: 1s}}\n"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("r.yaml");
    std::fs::write(&path, text).expect("written");
    let sources = Sources { file: Some(path), ..Sources::default() };
    sources.load_file(|_| None).expect("a document").config
}

fn start(url: &str, id: &str) -> Copy {
    let (publish, config) = watch::channel(Arc::new(config(url, id)));
    let (hold, is_held) = watch::channel(false);
    let world = World {
        config,
        clients: Arc::default(),
        metrics: Arc::default(),
        events: Arc::default(),
        hold: is_held,
    };
    let (coordination, share, _board) = Coordination::new(world);
    let stop = CancellationToken::new();
    let token = stop.clone();
    let task = tokio::spawn(async move {
        let _kept = (publish, hold);
        coordination.run(token).await
    });
    let mut standing = share.standing.clone();
    let seen = share.seen.clone();
    let follower = tokio::spawn(async move {
        loop {
            let number = standing.borrow_and_update().number;
            seen.send_replace(Seen { number, busy: Shards::NONE });
            if standing.changed().await.is_err() {
                return;
            }
        }
    });
    Copy { share, stop, task, follower }
}

impl Copy {
    fn standing(&self) -> Arc<Standing> {
        self.share.standing.borrow().clone()
    }
}

async fn until(what: &str, is: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

#[tokio::test]
async fn three_share_and_survive() {
    let etcd = testbed::etcd::Etcd::start();
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
    c.task.abort();
    c.follower.abort();
    until("crash: two have all", || counts(&[&a, &b]).iter().sum::<usize>() == 256).await;
    b.stop.cancel();
    until("stop: one has all", || a.standing().ours == Shards::ALL).await;
    assert!(b.standing().ours.is_empty());
}
