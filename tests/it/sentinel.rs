//! A service behind real Sentinels, followed in this process: who is published as the master, and when.

use super::PATIENCE;
use redvigil::config::discover::{Discover, Rewrite, Service as Wanted, Source};
use redvigil::config::scrape::HostPattern;
use redvigil::config::{Address, Config, Credentials, Profile, Secret};
use redvigil::connect;
use redvigil::discover::service::{Service, View};
use redvigil::discover::{World, sentinel};
use redvigil::telemetry::events::{Event, Kind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use testbed::{Fault, Part, SentinelSet, wait_for, wait_until};

/// How soon after the majority the new master has to be published.
const SOON: Duration = Duration::from_millis(250);

/// The provider at work in a thread of its own.
struct Following {
    world: World,
    /// Each master that was published, and when it first was.
    masters: Arc<Mutex<Vec<(u16, Instant)>>>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    _config: tokio::sync::watch::Sender<Arc<Config>>,
}

impl Following {
    fn start(sentinels: &[String], change: impl FnOnce(&mut Wanted, &mut Config)) -> Self {
        let addresses = sentinels.iter().map(|text| Address::parse(text).expect("an address")).collect();
        let mut wanted = Wanted {
            name: "orders".into(),
            source: Source::Sentinel { master: SentinelSet::NAME.into(), addresses },
            dns: false,
            rewrite: vec![],
            labels: Default::default(),
            collect: Default::default(),
            lag_bytes: 10_000,
        };
        let mut config = Config::default();
        change(&mut wanted, &mut config);
        let wanted = Arc::new(wanted);
        config.discover = Discover { services: vec![wanted.clone()].into(), ..Discover::default() };
        let (config_kept, config) = tokio::sync::watch::channel(Arc::new(config));
        let world = World::new(config);
        let masters = Arc::new(Mutex::new(vec![]));
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let (followed, seen) = (world.clone(), masters.clone());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let look = async {
                loop {
                    followed.board.changed().await;
                    let now = followed.board.get("orders").and_then(|service| port(&service));
                    let mut seen = seen.lock().expect("a list");
                    if let Some(now) = now
                        && seen.last().is_none_or(|(before, _)| *before != now)
                    {
                        seen.push((now, Instant::now()));
                    }
                }
            };
            runtime.expect("a runtime").block_on(async {
                tokio::select! {
                    () = sentinel::run(followed.clone(), wanted) => {}
                    () = look => {}
                    _ = ended => {}
                }
            });
        });
        Self { world, masters, end: Some(end), thread: Some(thread), _config: config_kept }
    }

    fn of(set: &SentinelSet) -> Self {
        let all: Vec<_> = set.sentinels.iter().map(|sentinel| sentinel.address()).collect();
        Self::start(&all, |_, _| {})
    }

    fn service(&self) -> Option<Arc<Service>> {
        self.world.board.get("orders")
    }

    /// Waits until the service is like that.
    fn wait(&self, what: &str, is_it: impl Fn(&Service) -> bool) -> Arc<Service> {
        wait_for(what, PATIENCE, || self.service().filter(|service| is_it(service)))
    }

    fn wait_for_master(&self, master: u16) -> Arc<Service> {
        self.wait(&format!("the master {master}"), |service| port(service) == Some(master))
    }

    /// The published masters so far.
    fn masters(&self) -> Vec<u16> {
        self.masters.lock().expect("a list").iter().map(|(port, _)| *port).collect()
    }

    /// How long after the majority knew of it the master was published; nothing where it was before.
    fn check_delay(&self, (master, known): (u16, Instant)) -> Duration {
        self.wait_for_master(master);
        let all = self.masters.lock().expect("a list").clone();
        let (_, published) = *all.iter().rev().find(|(port, _)| *port == master).expect("it was published");
        let delay = published.saturating_duration_since(known);
        assert!(delay <= SOON, "published {delay:?} after the majority knew");
        delay
    }

    fn events(&self, kind: Kind) -> Vec<Event> {
        self.world.events.all().into_iter().filter(|event| event.kind == kind).collect()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the provider panicked");
        }
    }
}

/// The port of the published master.
fn port(service: &Service) -> Option<u16> {
    service.master.as_ref()?.instance.rsplit_once(':')?.1.parse().ok()
}

/// How many Sentinels are known, and how many answer.
fn sentinels(service: &Service) -> (usize, usize) {
    match &service.view {
        View::Sentinel(view) => (view.sentinels.len(), view.reachable()),
        _ => (0, 0),
    }
}

fn name(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

#[test]
fn a_killed_master_is_replaced_as_soon_as_the_majority_knows() {
    let mut set = SentinelSet::start(Part::Redis7);
    // One is listed; the others are learned.
    let following = Following::start(&[set.sentinels[0].address()], |_, _| {});
    let old = set.master_port();
    let before = following.wait_for_master(old);
    following.wait("all Sentinels", |service| sentinels(service) == (3, 3));
    assert_eq!(before.members.len(), 3);
    let watch = set.watch();
    set.node(old).kill();
    let (new, known) = watch.wait_for_other_than(old, PATIENCE);
    println!("kill -9: published {:?} after the majority knew", following.check_delay((new, known)));
    let after = following.wait("the end of the failover", |service| service.failover.is_none());
    assert_eq!(following.masters(), [old, new]);
    assert_eq!((after.history.completed, after.history.aborted), (1, 0));
    let last = after.history.last.as_ref().expect("a failover");
    assert_eq!((&*last.from, &*last.to), (&*name(old), &*name(new)));
    assert!(last.began.is_some_and(|began| began < last.confirmed), "{last:?}");
    let phases: Vec<_> = last.phases.iter().map(|(phase, _)| *phase).collect();
    assert!(phases.contains(&"wait_promotion"), "{phases:?}");
    // The dead one is a member all the same.
    let instances =
        |service: &Service| service.members.iter().map(|m| m.instance.clone()).collect::<Vec<_>>();
    assert_eq!(instances(&before), instances(&after));
    let told: Vec<_> = following.events(Kind::Failover);
    let told: Vec<_> = told.iter().map(|event| (event.from.as_deref(), event.to.as_deref())).collect();
    let (old, new) = (name(old), name(new));
    assert_eq!(told, [(Some(&*old), None), (Some(&*old), Some(&*new))]);
}

#[test]
fn a_planned_failover_is_followed_and_nothing_else_is_told() {
    let set = SentinelSet::start(Part::Valkey9);
    let following = Following::of(&set);
    let old = set.master_port();
    following.wait_for_master(old);
    following.wait("all Sentinels", |service| sentinels(service) == (3, 3));
    let watch = set.watch();
    set.failover();
    let (new, known) = watch.wait_for_other_than(old, PATIENCE);
    println!("planned failover: published {:?} after the majority knew", following.check_delay((new, known)));
    set.wait_until_settled(Duration::from_secs(40));
    let after = following.wait("the end of the failover", |service| service.failover.is_none());
    assert_eq!(following.masters(), [old, new]);
    assert_eq!((after.history.completed, after.history.aborted), (1, 0));
    assert_eq!(following.events(Kind::Failover).len(), 2, "{:?}", following.events(Kind::Failover));
    assert_eq!(following.events(Kind::Discovery), []);
    let topology = following.events(Kind::Topology);
    assert!(topology.iter().all(|event| event.from.is_none()), "nobody left: {topology:?}");
}

#[test]
fn sentinels_that_die_or_start_again_change_no_master() {
    let mut set = SentinelSet::start(Part::Redis7);
    let following = Following::of(&set);
    let old = set.master_port();
    following.wait_for_master(old);
    following.wait("all Sentinels", |service| sentinels(service) == (3, 3));
    set.sentinels[2].kill();
    following.wait("a dead Sentinel", |service| sentinels(service) == (3, 2));
    // Two of three still are a majority.
    let watch = set.watch();
    set.node(old).kill();
    let (new, known) = watch.wait_for_other_than(old, PATIENCE);
    println!(
        "kill -9 with a dead Sentinel: published {:?} after the majority knew",
        following.check_delay((new, known))
    );
    wait_until("the word of the dead Sentinel", PATIENCE, || {
        following.events(Kind::Discovery).iter().any(|event| event.to.as_deref() == Some("unreachable"))
    });
    // What it knows is old, and so is what it publishes.
    set.sentinels[2].restart();
    following.wait("the Sentinel that is back", |service| sentinels(service) == (3, 3));
    wait_until("the word of the Sentinel that is back", PATIENCE, || {
        following.events(Kind::Discovery).iter().any(|event| event.to.as_deref() == Some("reachable"))
    });
    assert_eq!(following.masters(), [old, new]);
    assert_eq!(following.service().map(|service| service.history.completed), Some(1));
}

#[test]
fn a_minority_of_sentinels_changes_nothing() {
    let mut set = SentinelSet::start(Part::Redis7);
    let following = Following::of(&set);
    let old = set.master_port();
    following.wait_for_master(old);
    following.wait("all Sentinels", |service| sentinels(service) == (3, 3));
    for at in 0..2 {
        set.sentinels[at].pause();
    }
    following.wait("two silent Sentinels", |service| sentinels(service) == (3, 1));
    // The last one is told to name another master. It is alone with that.
    let other = set.nodes.iter().map(|node| node.port()).find(|port| *port != old).expect("a replica");
    set.sentinels[2].ok(&["SENTINEL", "REMOVE", SentinelSet::NAME]);
    set.sentinels[2].ok(&["SENTINEL", "MONITOR", SentinelSet::NAME, "127.0.0.1", &other.to_string(), "2"]);
    wait_until("the word of the lost majority", PATIENCE, || {
        following.events(Kind::Discovery).iter().any(|event| event.to.as_deref() == Some("majority_lost"))
    });
    assert_eq!(following.masters(), [old]);
    for at in 0..2 {
        set.sentinels[at].resume();
    }
    following.wait("all Sentinels", |service| sentinels(service).1 == 3);
    assert_eq!(following.masters(), [old]);
    assert_eq!(following.events(Kind::Failover), []);
}

#[test]
fn a_stopped_master_that_comes_back_is_not_the_master() {
    let mut set = SentinelSet::start(Part::Redis7);
    let following = Following::of(&set);
    let old = set.master_port();
    following.wait_for_master(old);
    following.wait("all Sentinels", |service| sentinels(service) == (3, 3));
    let watch = set.watch();
    set.node(old).pause();
    let (new, known) = watch.wait_for_other_than(old, PATIENCE);
    println!("SIGSTOP: published {:?} after the majority knew", following.check_delay((new, known)));
    // It takes itself for the master until a Sentinel tells it otherwise.
    set.node(old).resume();
    set.wait_until_settled(Duration::from_secs(40));
    let after = following.wait("the end of the failover", |service| service.failover.is_none());
    assert_eq!(following.masters(), [old, new]);
    assert_eq!((after.history.completed, after.history.aborted), (1, 0));
    assert_eq!(following.events(Kind::Failover).len(), 2);
}

/// Has everything that is announced reached through the proxies on 127.0.0.2.
fn through_proxies(wanted: &mut Wanted, _: &mut Config) {
    let from = HostPattern::parse("127.0.0.1").expect("a pattern");
    wanted.rewrite = vec![Rewrite { from, host: "127.0.0.2".into(), port: None }];
}

#[test]
fn a_partition_from_two_of_three_sentinels_is_a_reason_to_wait() {
    let mut set = SentinelSet::builder(Part::Redis7).proxies().start();
    let ports: Vec<_> = set.sentinels.iter().map(|sentinel| sentinel.port()).collect();
    let listed: Vec<_> = ports.iter().map(|port| format!("127.0.0.2:{port}")).collect();
    let following = Following::start(&listed, through_proxies);
    let old = set.master_port();
    let before = following.wait_for_master(old);
    let hosts = before.members.iter().map(|member| member.instance.starts_with("127.0.0.2:"));
    assert_eq!(hosts.collect::<Vec<_>>(), [true; 3], "they are reached by their rewritten addresses");
    following.wait("all Sentinels", |service| sentinels(service) == (3, 3));
    for port in &ports[..2] {
        set.proxy(*port).set(Fault::BlackHole);
    }
    following.wait("two that hang", |service| sentinels(service) == (3, 1));
    let watch = set.watch();
    set.node(old).kill();
    let (new, _) = watch.wait_for_other_than(old, PATIENCE);
    // The one that answers names the new master now, and nobody stands by it.
    let names = |service: &Service| match &service.view {
        View::Sentinel(view) => view.sentinels.iter().filter_map(|sentinel| sentinel.names.clone()).collect(),
        _ => vec![],
    };
    following.wait("the word of one", |service| names(service) == [name(new).into()]);
    assert_eq!(following.masters(), [old]);
    for port in &ports[..2] {
        set.proxy(*port).set(Fault::Pass);
    }
    following.wait_for_master(new);
    assert_eq!(following.masters(), [old, new]);
    wait_until("the word of the majority that is back", PATIENCE, || {
        following.events(Kind::Discovery).iter().any(|event| event.to.as_deref() == Some("majority_back"))
    });
}

#[test]
fn one_sentinel_that_hangs_delays_nobody() {
    let mut set = SentinelSet::builder(Part::Valkey8).proxies().start();
    let ports: Vec<_> = set.sentinels.iter().map(|sentinel| sentinel.port()).collect();
    let following = Following::start(&[format!("127.0.0.2:{}", ports[0])], through_proxies);
    let old = set.master_port();
    following.wait_for_master(old);
    following.wait("all Sentinels", |service| sentinels(service) == (3, 3));
    set.proxy(ports[0]).set(Fault::BlackHole);
    let watch = set.watch();
    set.node(old).kill();
    let (new, known) = watch.wait_for_other_than(old, PATIENCE);
    println!("with one that hangs: published {:?} after the majority", following.check_delay((new, known)));
    assert_eq!(following.masters(), [old, new]);
}

#[test]
fn sentinels_and_members_have_passwords_of_their_own() {
    let set =
        SentinelSet::builder(Part::Redis8).password("of-data").sentinel_password("of-sentinels").start();
    let listed: Vec<_> = set.sentinels.iter().map(|sentinel| sentinel.address()).collect();
    let secret = |word: &str| Some(Credentials { user: None, password: Secret::new(word) });
    let profile = Profile {
        name: "prod".into(),
        services: ["orders".into()].into(),
        data: secret("of-data"),
        sentinel: secret("of-sentinels"),
        ..Profile::default()
    };
    let following = Following::start(&listed, |_, config| config.connect.profiles = vec![profile.clone()]);
    let old = set.master_port();
    following.wait_for_master(old);
    let watch = set.watch();
    set.failover();
    let (new, known) = watch.wait_for_other_than(old, PATIENCE);
    println!("with passwords: published {:?} after the majority knew", following.check_delay((new, known)));
    drop(following);

    let wrong = Profile { sentinel: secret("of-data"), ..profile };
    let refused = Following::start(&listed, |_, config| config.connect.profiles = vec![wrong]);
    let service = refused.wait("a refusal", |service| service.failure.is_some());
    let (kind, message) = service.failure.as_ref().expect("a failure");
    assert_eq!(*kind, connect::Kind::Auth, "{message}");
    assert!(!message.contains("of-data") && service.members.is_empty() && service.answered.is_none());
}

#[test]
fn a_dead_replica_leaves_when_the_sentinels_forget_it() {
    let mut set = SentinelSet::start(Part::Redis62);
    let following = Following::of(&set);
    let master = set.master_port();
    following.wait_for_master(master);
    following.wait("three members", |service| service.members.len() == 3);
    let dead = set.nodes.iter().map(|node| node.port()).find(|port| *port != master).expect("a replica");
    set.node(dead).kill();
    wait_until("the Sentinels to see it", PATIENCE, || {
        set.sentinels.iter().all(|sentinel| {
            sentinel
                .ok(&["SENTINEL", "REPLICAS", SentinelSet::NAME])
                .array()
                .iter()
                .any(|replica| replica.array().iter().any(|field| field.text().contains("s_down")))
        })
    });
    assert_eq!(following.service().map(|service| service.members.len()), Some(3), "it is dead and a member");
    for sentinel in &set.sentinels {
        sentinel.ok(&["SENTINEL", "RESET", SentinelSet::NAME]);
    }
    let after = following.wait("two members", |service| service.members.len() == 2);
    assert!(after.members.iter().all(|member| *member.instance != *name(dead)));
    let left = following.events(Kind::Topology).into_iter().filter_map(|event| event.from);
    assert_eq!(left.collect::<Vec<_>>(), [name(dead)], "the living ones never left");
    assert_eq!(following.masters(), [master]);
    assert_eq!(following.events(Kind::Failover), []);
}
