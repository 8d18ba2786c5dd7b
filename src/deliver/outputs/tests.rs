//! Outputs that come, go and change, with a receiver that is not there.

use super::*;
use crate::collect::collected::{Collected, Outlet, Said};
use crate::config::deliver::{Auth, Destination, Durability, Endpoint, Url, Version};
use crate::deliver::queue::disk::Disk;
use exposition::{Builder, Desc};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;
use tokio::time::sleep;

static NUMBER: Desc = Desc::gauge("n", "A number.");

fn output(name: &str, change: impl FnOnce(&mut Output)) -> Arc<Output> {
    // Nobody listens there.
    let url = Url { secure: false, host: "127.0.0.1".into(), port: 1, path: "/".into() };
    let endpoint = Endpoint {
        url,
        headers: vec![],
        auth: Auth::None,
        tls: <_>::default(),
        timeout: Duration::from_millis(100),
    };
    let mut output = Output {
        name: name.into(),
        to: Destination::RemoteWrite { version: Version::Auto, endpoint },
        queue: config::Queue { linger: Duration::ZERO, min_free: 0, ..config::Queue::default() },
        max_samples_per_second: None,
        paused: false,
        external_labels: BTreeMap::new(),
    };
    change(&mut output);
    Arc::new(output)
}

fn deliver(outputs: &[&Arc<Output>]) -> Deliver {
    Deliver { outputs: outputs.iter().map(|output| (*output).clone()).collect(), ..Deliver::default() }
}

fn world(root: &Path) -> World {
    World {
        root: root.into(),
        storage: Arc::new(Disk),
        clients: Arc::default(),
        metrics: Arc::default(),
        events: Arc::default(),
    }
}

/// A loop that runs, and its ends.
struct Bench {
    outputs: Outputs,
    outlet: Option<Outlet>,
    run: JoinSet<()>,
}

const SECOND: Duration = Duration::from_secs(1);

impl Bench {
    fn start(root: &Path, outputs: &[&Arc<Output>]) -> Self {
        let (outlet, inlet) = Outlet::new();
        let wanted = deliver(outputs);
        let opened = Delivery::open(world(root), (&wanted, SECOND), (outlet.lost(), inlet));
        let (delivery, outputs) = opened.expect("it can be had");
        let mut run = JoinSet::new();
        run.spawn(delivery.run());
        Self { outputs, outlet: Some(outlet), run }
    }

    async fn apply(&self, outputs: &[&Arc<Output>]) -> Result<(), Error> {
        self.outputs.apply(&deliver(outputs), SECOND).await
    }

    fn names(&self) -> String {
        let shown = self.outputs.shown();
        shown.iter().map(|shown| &*shown.output.name).collect::<Vec<_>>().join(" ")
    }

    /// Hands on a sample of a target.
    fn offer(&self, target: &str) {
        let mut out = Builder::new();
        out.push(&NUMBER, 1.0);
        let theirs = Said { parts: vec![Arc::new(out.finish())], since: None };
        let (target, labels, ours) = (target.into(), Arc::default(), Said::default());
        let collected = Collected { target, labels, at: SystemTime::now(), theirs, ours, has_moved: false };
        self.outlet.as_ref().expect("it is open").offer(collected);
    }

    /// Waits until the queue of the first output holds so many samples.
    async fn holds(&self, pending: u64) {
        let held = async {
            while self.outputs.shown()[0].queue.status().total.pending != pending {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let found = || self.outputs.shown()[0].queue.status().total;
        assert!(timeout(10 * SECOND, held).await.is_ok(), "{pending} {:?}", found());
        assert!(found().balance(), "{:?}", found());
    }

    async fn stop(mut self) {
        self.outlet = None;
        let patience = DRAIN + HANDOVER;
        let ended = timeout(patience, self.run.join_next()).await.expect("it ends");
        ended.expect("it ran").expect("no panic");
    }
}

#[tokio::test]
async fn outputs_come_and_go_and_the_others_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let [a, b, c] = ["a", "b", "c"].map(|name| output(name, |_| {}));
    let bench = Bench::start(folder.path(), &[&a]);
    bench.offer("t");
    bench.holds(1).await;
    for (wanted, names) in [(&[&a, &b, &c][..], "a b c"), (&[&a, &c], "a c"), (&[&a, &b, &c], "a b c")] {
        bench.apply(wanted).await.expect("they can be had");
        assert_eq!(bench.names(), names);
        bench.holds(1).await;
    }
    assert_eq!(bench.outputs.shown()[0].queue.status().total.accepted, 1, "it is the same queue");
    bench.apply(&[]).await.expect("none can be had");
    assert_eq!(bench.names(), "");
    bench.offer("t");
    bench.apply(&[&a]).await.expect("it can be had again");
    bench.holds(1).await;
    assert_eq!(bench.outputs.shown()[0].queue.status().total.recovered, 1, "it waited in its folder");
    bench.stop().await;
}

#[tokio::test]
async fn an_output_that_moves_keeps_what_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::start(folder.path(), &[&output("a", |_| {})]);
    bench.offer("t");
    bench.holds(1).await;
    let moved = output("a", |output| {
        let Destination::RemoteWrite { endpoint, .. } = &mut output.to else { return };
        endpoint.url.port = 2;
    });
    bench.apply(&[&moved]).await.expect("it can be had");
    let shown = bench.outputs.shown();
    assert_eq!((shown[0].output.endpoint().url.port, shown[0].queue.status().total.accepted), (2, 1));
    bench.offer("t");
    bench.holds(2).await;
    // The one who sends there now is at work.
    let is_tried = async {
        while shown[0].board.view().requests.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(10 * SECOND, is_tried).await.expect("it is tried");
    bench.stop().await;
}

#[tokio::test]
async fn other_lanes_are_another_queue_that_has_what_waited() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::start(folder.path(), &[&output("a", |_| {})]);
    bench.offer("t");
    bench.holds(1).await;
    bench.apply(&[&output("a", |output| output.queue.lanes = 4)]).await.expect("it can be had");
    bench.holds(1).await;
    for target in ["t", "u", "v", "w", "x", "y"] {
        bench.offer(target);
    }
    bench.holds(7).await;
    bench.stop().await;
}

#[tokio::test]
async fn where_an_output_cannot_be_had_those_from_before_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("written");
    let (_, inlet) = Outlet::new();
    let wanted = deliver(&[&output("a", |_| {})]);
    let refused = Delivery::open(world(&file), (&wanted, SECOND), (Lost::default(), inlet));
    let error = crate::telemetry::log::chain(&refused.err().expect("a file is no folder"));
    let start =
        format!("output a: no queue at {} (make that folder writable", file.join("queue/a").display());
    assert!(
        error.starts_with(&start) && error.contains("--storage.path") && !error.contains('\n'),
        "{error}"
    );

    // Memory needs no folder.
    let in_memory = output("a", |output| output.queue.durability = Durability::Memory);
    let bench = Bench::start(&file, &[&in_memory]);
    bench.offer("t");
    bench.holds(1).await;
    for wanted in [
        &[&in_memory, &output("b", |_| {})][..],
        &[&output("b", |output| output.queue.durability = Durability::Memory), &output("c", |_| {})],
        &[&output("a", |_| {})],
    ] {
        assert!(bench.apply(wanted).await.is_err());
        assert_eq!(bench.names(), "a");
    }
    bench.offer("t");
    bench.holds(1).await;
    bench.stop().await;
}

#[tokio::test]
async fn who_asks_hears_when_an_output_takes_nothing_and_when_it_takes_something_again() {
    let root = tempfile::tempdir().expect("a folder");
    let bench = Bench::start(root.path(), &[&output("a", |_| ()), &output("b", |_| ())]);
    let mut degraded = bench.outputs.degraded();
    for (state, expected) in
        [(State::Probing, true), (State::Recovering, false), (State::Degraded, true), (State::Live, false)]
    {
        bench.outputs.shown()[1].board.enter(0, state, None, SystemTime::now());
        let heard = timeout(10 * SECOND, degraded.wait_for(|is_degraded| *is_degraded == expected)).await;
        assert!(heard.is_ok(), "{state:?}");
    }
    bench.stop().await;
}

#[tokio::test]
async fn while_a_request_hangs_that_a_change_waits_for_all_that_is_collected_is_taken_in() {
    let folder = tempfile::tempdir().expect("a folder");
    // It takes a request, and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let hangs = |most: u64| {
        output("hangs", |output| {
            let Destination::RemoteWrite { endpoint, .. } = &mut output.to else { return };
            (endpoint.url.port, endpoint.timeout) = (port, 60 * SECOND);
            output.queue.max_bytes = most;
        })
    };
    let other = output("other", |_| {});
    let bench = Bench::start(folder.path(), &[&hangs(1 << 30), &other]);
    bench.offer("t");
    let request = timeout(10 * SECOND, silent.accept()).await.expect("a request").expect("a connection");
    let accepted = |place: usize| bench.outputs.shown()[place].queue.status().total.accepted;
    let outputs = bench.outputs.clone();
    let wanted = deliver(&[&hangs(2 << 30), &other]);
    let mut change = std::pin::pin!(outputs.apply(&wanted, SECOND));
    let mut offered = 1_u64;
    let began = Instant::now();
    loop {
        tokio::select! {
            changed = &mut change => break changed.expect("it can be had"),
            () = sleep(Duration::from_millis(20)) => {
                // What was offered a while ago was taken in long ago.
                let least = offered.saturating_sub(10);
                assert!(accepted(0) >= least && accepted(1) >= least, "{offered} after {:?}", began.elapsed());
                bench.offer("t");
                offered += 1;
            }
        }
    }
    assert!(offered > 50, "it waited for the request: {offered}");
    bench.holds(offered).await;
    assert_eq!(bench.outputs.lost(), 0);
    drop(request);
    bench.stop().await;
}
