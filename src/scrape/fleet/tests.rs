//! Groups, and what becomes of them when services come and go between peers, with servers that do as they are told.

use super::*;
use crate::collect::collected::{Collected, Inlet, Outlet};
use crate::collect::facts::Id;
use crate::config::deliver::{Auth, Destination, Endpoint, Output, Queue, Url, Version};
use crate::config::{Address, discover};
use crate::discover::fixed::member;
use crate::peers::{Fence, Peer, SHARDS, Shards};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};
use std::time::SystemTime;
use testbed::{Action, ScriptedServer};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Long enough for whatever happens to happen, where it is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that answers INFO once it is let.
struct Held {
    server: ScriptedServer,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Held {
    fn start() -> Self {
        let gate = Arc::<(Mutex<bool>, Condvar)>::default();
        let (is_held, changed) = (gate.clone(), gate.clone());
        let server = ScriptedServer::start(move |command| {
            if command[0] == b"INFO" {
                let is_held = is_held.0.lock().expect("nobody panics");
                drop(changed.1.wait_while(is_held, |is_held| *is_held).expect("nobody panics"));
            }
            Action::Default
        });
        Self { server, gate }
    }

    fn hold(&self, is_held: bool) {
        *self.gate.0.lock().expect("nobody panics") = is_held;
        self.gate.1.notify_all();
    }

    fn asked(&self) -> usize {
        self.server.count("INFO")
    }
}

/// A fleet with an output, the hands in which it is, and who stands behind it.
struct Bench {
    config: Config,
    /// Whoever publishes the configuration must live.
    publish: watch::Sender<Arc<Config>>,
    topology: watch::Sender<Arc<Topology>>,
    standing: watch::Sender<Arc<Standing>>,
    seen: watch::Receiver<Seen>,
    fence: Fence,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    inlet: Inlet,
    run: JoinSet<()>,
}

impl Bench {
    /// Services of one member each.
    fn start(interval: Duration, services: &[(&str, u16)], standing: Standing) -> Self {
        let mut config = config();
        config.scrape.interval = interval;
        for (name, _) in services {
            let service = discover::Service::new(name, discover::Source::Instances(vec![]));
            config.discover.services.push(Arc::new(service));
        }
        let (publish, configs) = watch::channel(Arc::new(config.clone()));
        let (topology, topologies) = watch::channel(topology(services));
        let (standing, standings) = watch::channel(Arc::new(standing));
        let (tell, seen) = watch::channel(Seen::default());
        let (outlet, inlet) = Outlet::new();
        let (fence, store, metrics) = (Fence::open(), Arc::<Store>::default(), Arc::default());
        let parts = (Arc::default(), Arc::clone(&metrics), Arc::default());
        let (scraper, collections) = crate::scrape::once::scraper(configs.clone(), parts.0, parts.1, parts.2);
        let beside: super::super::feed::Beside = Arc::new(|_: &Config| vec![]);
        let fleet = Fleet {
            config: configs,
            topology: topologies,
            scraper,
            store: store.clone(),
            identities: Arc::default(),
            events: Arc::default(),
            metrics: metrics.clone(),
            feed: Some(Feed { outlet, instance: "us:1".into(), began: SystemTime::UNIX_EPOCH, beside }),
            share: Share { standing: standings, fence: fence.clone(), seen: tell },
        };
        let mut run = JoinSet::new();
        run.spawn(collections.run());
        run.spawn(fleet.run());
        Self { config, publish, topology, standing, seen, fence, store, metrics, inlet, run }
    }

    /// What is ours from now on, of two peers of whom we are the first.
    fn stand(&self, number: u64, ours: &[&str], leaving: &[&str]) {
        self.standing.send_replace(Arc::new(standing(number, ours, leaving)));
    }

    /// The next that is handed on of a member, in words.
    async fn next(&mut self) -> String {
        let next = async {
            loop {
                let collected = self.inlet.recv().await.expect("the fleet runs");
                if collected.target.starts_with("member ") {
                    return word(&collected);
                }
            }
        };
        timeout(PATIENCE, next).await.expect("something is handed on")
    }

    /// What is there to be taken of members, in words.
    fn rest(&mut self) -> Vec<String> {
        let mut rest = vec![];
        while let Ok(collected) = self.inlet.try_recv() {
            rest.push(word(&collected));
        }
        rest.retain(|word| word.starts_with("member "));
        rest
    }

    async fn seen(&mut self, is_it: impl FnMut(&Seen) -> bool) {
        let seen = timeout(PATIENCE, self.seen.wait_for(is_it)).await;
        seen.expect("it is said").expect("the fleet runs");
    }

    async fn stop(mut self) {
        self.run.shutdown().await;
    }
}

/// A configuration with an output and no services.
fn config() -> Config {
    let mut config = Config::default();
    let url = Url { secure: false, host: "h".into(), port: 80, path: "/".into() };
    let (headers, auth, tls) = (vec![], Auth::None, <_>::default());
    let endpoint = Endpoint { url, headers, auth, tls, timeout: Duration::from_secs(1) };
    config.deliver.outputs.push(Arc::new(Output {
        paused: false,
        name: "o".into(),
        to: Destination::RemoteWrite { version: Version::Auto, endpoint },
        queue: Queue::default(),
        max_samples_per_second: None,
        external_labels: BTreeMap::new(),
    }));
    config
}

fn topology(services: &[(&str, u16)]) -> Arc<Topology> {
    let service = |(name, port): &(&str, u16)| {
        let members = match port {
            0 => vec![],
            port => vec![Arc::new(member(Address::tcp("127.0.0.1", *port), BTreeMap::new()))],
        };
        Arc::new(Service { members, ..Service::unknown((*name).into(), "instances") })
    };
    Arc::new(Topology { services: services.iter().map(service).collect::<Vec<_>>().into() })
}

fn peer(id: &str) -> Arc<Peer> {
    let url = Url::parse(&format!("http://{id}")).expect("a URL");
    let (version, config_hash, zone) = (String::new(), String::new(), None);
    Arc::new(Peer { id: id.into(), url, zone, weight: 100, version, config_hash, started: 0 })
}

/// We are `a:1`. What is not ours is of `b:1`.
fn standing(number: u64, ours: &[&str], leaving: &[&str]) -> Standing {
    let shards = |services: &[&str]| services.iter().map(|service| shard_of(service)).collect::<Shards>();
    let (ours, leaving) = (shards(ours), shards(leaving));
    let mut owners = [Some(1); SHARDS];
    ours.iter().for_each(|shard| owners[usize::from(shard)] = Some(0));
    let peers = vec![peer("a:1"), peer("b:1")];
    let (owners, left) = (Arc::new(owners), Arc::default());
    Standing { number, ours, leaving, peers, owners, own: Some(0), left, frozen: false }
}

/// Who it is, and whether that is the end of it.
fn word(collected: &Collected) -> String {
    let end = match (collected.is_gone(), collected.has_moved) {
        (false, _) => "",
        (true, true) => " moves",
        (true, false) => " ends",
    };
    let target = collected.target.split(' ').take(2).collect::<Vec<_>>().join(" ");
    format!("{target}{end}")
}

/// So short that something would have happened within a few of them, did it happen.
const OFTEN: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_service_that_leaves_has_its_round_finished_and_handed_on_and_then_moves_without_a_stale_marker() {
    let held = Held::start();
    held.hold(true);
    let mut bench = Bench::start(OFTEN, &[("cache", held.server.port())], standing(1, &["cache"], &[]));
    while held.asked() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    bench.stand(2, &["cache"], &["cache"]);
    let shard = shard_of("cache");
    bench.seen(|seen| seen.number == 2).await;
    assert!(bench.seen.borrow().busy.has(shard), "a round is under way");
    sleep(4 * OFTEN).await;
    assert!(bench.seen.borrow().busy.has(shard), "it is still");
    held.hold(false);
    bench.seen(|seen| seen.number == 2 && !seen.busy.has(shard)).await;
    // Once that is said, all was handed on, and there is nothing more.
    assert_eq!(bench.rest(), ["member cache"]);
    let asked = held.asked();
    sleep(4 * OFTEN).await;
    assert_eq!((held.asked(), bench.rest()), (asked, vec![]));
    bench.stand(3, &[], &[]);
    bench.seen(|seen| seen.number == 3).await;
    assert_eq!(bench.rest(), ["member cache moves"]);
    assert!(bench.store.slots().is_empty() && bench.store.book("cache").is_none());
    sleep(4 * OFTEN).await;
    assert_eq!((held.asked(), bench.rest()), (asked, vec![]));
    // Back again.
    bench.stand(4, &["cache"], &[]);
    assert_eq!(bench.next().await, "member cache");
    bench.stop().await;
}

#[tokio::test]
async fn a_round_that_hangs_holds_up_its_shard_and_not_the_rounds_of_others_in_it() {
    let (hangs, other) = (Held::start(), Held::start());
    hangs.hold(true);
    let shard = shard_of("cache");
    let twin = (0..).map(|number| format!("s{number}")).find(|name| shard_of(name) == shard);
    let twin = twin.expect("one in 256");
    let services = [("cache", hangs.server.port()), (&*twin, other.server.port())];
    let mut bench = Bench::start(OFTEN, &services, standing(1, &["cache"], &[]));
    let member = format!("member {twin}");
    assert_eq!(bench.next().await, member);
    while hangs.asked() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    bench.stand(2, &["cache"], &["cache"]);
    bench.seen(|seen| seen.number == 2).await;
    bench.rest();
    for _ in 0..3 {
        assert_eq!(bench.next().await, member, "it goes on while it must wait");
    }
    assert!(bench.seen.borrow().busy.has(shard));
    hangs.hold(false);
    bench.seen(|seen| !seen.busy.has(shard)).await;
    bench.rest();
    let asked = (hangs.asked(), other.asked());
    sleep(4 * OFTEN).await;
    assert_eq!((hangs.asked(), other.asked(), bench.rest()), (asked.0, asked.1, vec![]));
    bench.stop().await;
}

#[tokio::test]
async fn a_member_that_is_none_any_more_ends_and_one_of_another_peer_moves() {
    let (one, two) = (Held::start(), Held::start());
    let services = [("cache", one.server.port()), ("orders", two.server.port())];
    let mut bench = Bench::start(OFTEN, &services, standing(1, &["cache", "orders"], &[]));
    let mut told = HashSet::new();
    while told.len() < 2 {
        told.insert(bench.next().await);
    }
    bench.stand(2, &["cache"], &[]);
    bench.seen(|seen| seen.number == 2).await;
    bench.topology.send_replace(topology(&[("cache", 0), ("orders", two.server.port())]));
    let mut ends = vec![];
    while ends.len() < 2 {
        let next = bench.next().await;
        if next.ends_with(" moves") || next.ends_with(" ends") {
            ends.push(next);
        }
    }
    assert_eq!(ends, ["member orders moves", "member cache ends"]);
    bench.stop().await;
}

#[tokio::test]
async fn one_that_goes_while_it_moves_ends() {
    let held = Held::start();
    let mut bench = Bench::start(OFTEN, &[("cache", held.server.port())], standing(1, &["cache"], &[]));
    assert_eq!(bench.next().await, "member cache");
    bench.topology.send_replace(topology(&[("cache", 0)]));
    bench.stand(2, &[], &[]);
    let mut next = bench.next().await;
    while next == "member cache" {
        next = bench.next().await;
    }
    assert_eq!(next, "member cache ends");
    bench.stop().await;
}

#[tokio::test]
async fn a_closed_fence_keeps_ticks_from_collecting_and_nothing_else_changes() {
    let held = Held::start();
    let mut bench = Bench::start(OFTEN, &[("cache", held.server.port())], standing(1, &["cache"], &[]));
    assert_eq!(bench.next().await, "member cache");
    bench.fence.close();
    let is_idle = async {
        let mut asked = held.asked();
        loop {
            sleep(4 * OFTEN).await;
            if std::mem::replace(&mut asked, held.asked()) == held.asked() {
                break asked;
            }
        }
    };
    let asked = timeout(PATIENCE, is_idle).await.expect("it stops");
    bench.rest();
    let known = || {
        let view = bench.store.slots()[0].view();
        (view.health, view.skipped, view.failures, view.latest.map(|latest| latest.taken))
    };
    let (before, fenced) = (known(), bench.metrics.fenced.get());
    sleep(4 * OFTEN).await;
    assert_eq!((held.asked(), known()), (asked, before));
    assert!(bench.metrics.fenced.get() > fenced, "it is counted");
    assert!(bench.rest().is_empty());
    bench.fence.open_until(crate::peers::fence::Boottime(Duration::MAX / 2));
    assert_eq!(bench.next().await, "member cache");
    assert_eq!(bench.publish.borrow().scrape.interval, bench.config.scrape.interval);
    bench.stop().await;
}

#[tokio::test]
async fn what_was_collected_while_the_fence_closed_is_not_handed_on() {
    let held = Held::start();
    held.hold(true);
    let mut bench =
        Bench::start(OFTEN, &[("cache", held.server.port())], standing(1, &["cache"], &["cache"]));
    bench.stand(2, &["cache"], &[]);
    bench.seen(|seen| seen.number == 2).await;
    while held.asked() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    bench.fence.close();
    held.hold(false);
    bench.stand(3, &["cache"], &["cache"]);
    bench.seen(|seen| seen.number == 3 && seen.busy.is_empty()).await;
    assert!(bench.rest().is_empty());
    bench.stop().await;
}

#[test]
fn what_was_handed_over_is_told_from_what_was_free() {
    let cache = shard_of("cache");
    let check = |before: &Standing, now: &Standing, expected: Option<u64>| {
        assert_eq!(handed_over(before, now).get(&cache), expected.as_ref(), "{now:?}");
    };
    let (theirs, ours) = (standing(1, &[], &[]), standing(3, &["cache"], &[]));
    let given = Standing { left: Arc::new([(cache, 7)].into()), ..ours.clone() };
    check(&theirs, &given, Some(7));
    check(&theirs, &ours, None);
    // It was ours already; it is not ours yet.
    check(&ours, &given, None);
    check(&theirs, &Standing { ours: Shards::NONE, ..given }, None);
}

#[tokio::test]
async fn a_service_that_was_handed_over_goes_on_at_its_moment_and_one_of_a_dead_peer_at_once() {
    let due_at_once = async |now: Standing| {
        let hour = Duration::from_secs(3600);
        // Of many names some have just had their moment.
        let names: Vec<_> = (0..60).map(|number| format!("s{number}")).collect();
        let services: Vec<_> = names.iter().map(|name| (&**name, 1)).collect();
        let mut config = config();
        config.scrape.interval = hour;
        let (_config, config) = watch::channel(Arc::new(config));
        let (_topology, topology) = watch::channel(topology(&services));
        let (publish, follow) = watch::channel(Arc::new(standing(1, &[], &[])));
        let parts = (Arc::default(), Arc::default(), Arc::default());
        let (scraper, _collections) = crate::scrape::once::scraper(config.clone(), parts.0, parts.1, parts.2);
        let share = Share { standing: follow, ..Share::alone() };
        let mut fleet = fleet(config, topology, scraper, share);
        let mut course = Course::new();
        fleet.reconcile(&mut course);
        assert!(course.due.is_empty() && course.groups.is_empty());
        publish.send_replace(Arc::new(now));
        fleet.reconcile(&mut course);
        assert_eq!(course.groups.len(), 60);
        let now = Instant::now();
        course.due.iter().filter(|Reverse((at, _))| *at <= now).count()
    };
    let all = || Standing { ours: Shards::ALL, owners: Arc::new([Some(0); SHARDS]), ..standing(2, &[], &[]) };
    let left = |ago: u64| {
        let left = (0..=u8::MAX).map(|shard| (shard, moment::milliseconds() - ago)).collect();
        Standing { left: Arc::new(left), ..all() }
    };
    assert_eq!(due_at_once(left(0)).await, 0);
    // Half of them had their moment since.
    let half = due_at_once(left(1_800_000)).await;
    assert!((15..=45).contains(&half), "{half}");
    assert_eq!(due_at_once(left(3_600_000)).await, 60);
    assert_eq!(due_at_once(all()).await, 60);
}

fn fleet(
    config: watch::Receiver<Arc<Config>>,
    topology: watch::Receiver<Arc<Topology>>,
    scraper: Scraper,
    share: Share,
) -> Fleet {
    let (store, identities, events, metrics) = <_>::default();
    Fleet { config, topology, scraper, store, identities, events, metrics, feed: None, share }
}

#[tokio::test]
async fn members_of_a_long_list_that_replicate_from_one_another_are_a_group() {
    let at = |port| Arc::new(member(Address::tcp("h", port), BTreeMap::new()));
    let members: Vec<_> = (1..=20).map(at).collect();
    let mut config = Config::default();
    config.discover.services.push(Arc::new(discover::Service::new("s", discover::Source::Instances(vec![]))));
    let service = Arc::new(Service { members, ..Service::unknown("s".into(), "instances") });
    let (_config, config) = watch::channel(Arc::new(config));
    let (_topology, topology) = watch::channel(Arc::new(Topology { services: vec![service].into() }));
    let parts = (Arc::default(), Arc::default(), Arc::default());
    let (scraper, _collections) = crate::scrape::once::scraper(config.clone(), parts.0, parts.1, parts.2);
    let mut fleet = fleet(config, topology, scraper, Share::alone());
    let mut course = Course::new();
    let mut check = |said: &[(usize, char)], expected: &[usize], rounds_at_once: usize| {
        let slots = fleet.store.slots();
        for (port, letter) in said {
            let id = Id::parse(&letter.to_string().repeat(40)).expect("an id");
            course.kin.learn(&slots[port - 1], id);
        }
        course.due.clear();
        fleet.reconcile(&mut course);
        let Course { groups, due, .. } = &course;
        let mut sizes: Vec<_> = groups.values().map(|group| group.slots.len()).collect();
        sizes.sort_unstable();
        sizes.retain(|size| *size > 1);
        assert_eq!((&*sizes, groups.values().map(|g| g.slots.len()).sum::<usize>()), (expected, 20));
        let now = Instant::now();
        assert_eq!(due.iter().filter(|Reverse((at, _))| *at <= now).count(), rounds_at_once, "{said:?}");
    };
    check(&[], &[], 20);
    check(&[(1, 'a'), (2, 'b'), (3, 'c')], &[], 0);
    // Nobody is collected out of turn because it has kin now; who is alone again has no turn yet.
    check(&[(3, 'a'), (7, 'a'), (8, 'b')], &[2, 3], 0);
    check(&[(3, 'd')], &[2, 2], 1);
}
