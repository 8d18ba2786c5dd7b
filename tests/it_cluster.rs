//! The provider that follows a Cluster, beside real ones: whatever the cluster does, it is published within one
//! interval after the cluster itself knows.

use redvigil::config::discover::{Rewrite, Service as Configured, Source};
use redvigil::config::scrape::HostPattern;
use redvigil::config::{Address, Config, Credentials, Profile, Secret};
use redvigil::connect::Kind;
use redvigil::discover::service::{ClusterView, View};
use redvigil::discover::{Board, Service, World, cluster};
use redvigil::telemetry::events::Events;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use testbed::{Certificates, Cluster, Part, Role, Server, wait_for, wait_until};
use tokio::sync::{oneshot, watch};

/// How often the provider asks here.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a busy machine may take for one round beside it.
const ROUND: Duration = Duration::from_millis(1500);

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A provider at work on a thread of its own; it ends when this is dropped.
struct Watched {
    board: Arc<Board>,
    events: Arc<Events>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().expect("a thread").join();
        assert!(std::thread::panicking() || ended.is_ok(), "the provider panicked");
    }
}

/// Follows these seeds; `change` may say more of the service and the configuration.
fn watch(seeds: &[String], change: impl FnOnce(&mut Configured, &mut Config)) -> Watched {
    let seeds = seeds.iter().map(|seed| Address::parse(seed).expect(seed)).collect();
    let mut service = Configured {
        name: "s".into(),
        source: Source::Cluster { seeds, hostnames: false },
        dns: false,
        rewrite: vec![],
        labels: Default::default(),
        collect: Default::default(),
        lag_bytes: 10_000,
    };
    let mut config = Config::default();
    config.discover.interval = INTERVAL;
    change(&mut service, &mut config);
    let (board, events) = (Arc::new(Board::default()), Arc::new(Events::default()));
    let (stop, stopped) = oneshot::channel();
    let (_, config) = watch::channel(Arc::new(config));
    let world = World { events: Arc::clone(&events), board: Arc::clone(&board), ..World::new(config) };
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            tokio::select! {
                () = cluster::run(world, Arc::new(service)) => unreachable!("a provider never ends"),
                _ = stopped => {}
            }
        });
    };
    Watched { board, events, stop: Some(stop), thread: Some(std::thread::spawn(run)) }
}

fn follow(cluster: &Cluster) -> Watched {
    watch(&[cluster.nodes[0].address()], |_, _| {})
}

fn view(service: &Service) -> &ClusterView {
    match &service.view {
        View::Cluster(view) => view,
        other => panic!("no view of a cluster: {other:?}"),
    }
}

fn instances(service: &Service) -> Vec<&str> {
    service.members.iter().map(|member| &*member.instance).collect()
}

impl Watched {
    fn now(&self) -> Option<Arc<Service>> {
        self.board.get("s")
    }

    /// Waits until what is published is so.
    fn until(&self, what: &str, is_so: impl Fn(&Service) -> bool) -> Arc<Service> {
        wait_for(what, PATIENCE, || self.now().filter(|service| is_so(service)))
    }

    /// The same, and it must not take more than one interval after the cluster knows, which is now.
    fn soon(&self, what: &str, is_so: impl Fn(&Service) -> bool) -> Arc<Service> {
        let known = Instant::now();
        let service = self.until(what, is_so);
        let took = known.elapsed();
        assert!(took <= INTERVAL + ROUND, "{what}: published {took:?} after the cluster knew");
        service
    }

    /// Members and the shape of a cluster in which all is well.
    fn sound(&self, cluster: &Cluster, shards: u32) -> Arc<Service> {
        let mut expected: Vec<_> = cluster.nodes.iter().map(Server::address).collect();
        expected.sort();
        self.soon("the members of a sound cluster", |service| {
            let View::Cluster(view) = &service.view else { return false };
            let is_whole = view.is_ok == Some(true) && view.covered == 16384 && view.shards == shards;
            let is_quiet = (view.disagreeing, view.contested, view.migrating, view.importing) == (0, 0, 0, 0);
            let all = expected.len() as u32;
            let is_reached = (view.nodes, view.reachable) == (all, all);
            instances(service) == expected && is_whole && is_quiet && is_reached && service.failover.is_none()
        })
    }

    fn messages(&self) -> Vec<String> {
        self.events.all().into_iter().map(|event| event.message).collect()
    }

    /// Waits until this stands in the log, and makes sure that it does so once.
    fn told_once(&self, message: &str) {
        wait_until(message, PATIENCE, || self.messages().iter().any(|told| told == message));
        let messages = self.messages();
        let count = messages.iter().filter(|told| *told == message).count();
        assert_eq!(count, 1, "{message}: {messages:#?}");
    }
}

/// The index of the node that is reached there.
fn index(cluster: &Cluster, instance: &str) -> usize {
    cluster.nodes.iter().position(|node| node.address() == *instance).expect(instance)
}

/// The shard of a member.
fn shard(service: &Service, instance: &str) -> Arc<str> {
    let member = service.members.iter().find(|member| *member.instance == *instance).expect(instance);
    member.shard.clone().expect("every member of a cluster has a shard")
}

/// The other members of its shard.
fn companions(service: &Service, instance: &str) -> Vec<String> {
    let own = Some(shard(service, instance));
    let others = service.members.iter().filter(|member| member.shard == own && *member.instance != *instance);
    others.map(|member| member.instance.to_string()).collect()
}

/// Everything that a cluster does in its life.
fn check_life(part: Part) {
    let mut cluster = Cluster::start(part, 3, 1);
    let watched = follow(&cluster);
    let service = watched.sound(&cluster, 3);
    let masters: BTreeSet<_> = view(&service).masters.values().map(|master| master.to_string()).collect();
    assert_eq!(masters, cluster.masters().into_iter().map(Server::address).collect());
    let shards: BTreeSet<_> = service.members.iter().map(|member| member.shard.clone()).collect();
    assert_eq!((shards.len(), view(&service).without_replica), (3, 0));
    let ids: BTreeSet<_> =
        service.members.iter().filter_map(|m| m.id.as_ref().map(ToString::to_string)).collect();
    assert_eq!(ids, cluster.ids().into_keys().collect());

    // A planned failover.
    let old = cluster.masters()[1].address();
    let (own, heir) = (shard(&service, &old), companions(&service, &old)[0].clone());
    cluster.failover(index(&cluster, &heir));
    let service = watched.soon("a planned failover", |service| service.history.completed == 1);
    let last = service.history.last.clone().expect("the last failover");
    assert_eq!((&*last.from, &*last.to, service.history.aborted), (&*old, &*heir, 0));
    assert_eq!((&*view(&service).masters[&own], shard(&service, &old)), (&*heir, own));
    assert_eq!(watched.now().and_then(|service| service.failover.clone()), None);

    // A master dies, and it was the seed.
    let seed = cluster.nodes[0].address();
    let service = watched.sound(&cluster, 3);
    let (own, heir) = (shard(&service, &seed), companions(&service, &seed)[0].clone());
    cluster.kill(0);
    watched.until("a failover under way", |service| {
        service.failover.as_ref().is_some_and(|failover| {
            let concerned: Vec<_> = failover.members.iter().map(|member| &**member).collect();
            concerned.contains(&&*seed) && concerned.contains(&&*heir) && concerned.len() == 2
        }) || service.history.completed == 2
    });
    assert_eq!(cluster.wait_for_failover(0, PATIENCE), index(&cluster, &heir));
    let service = watched.soon("the failover", |service| service.history.completed == 2);
    let last = service.history.last.clone().expect("the last failover");
    assert_eq!((&*last.from, &*last.to, service.history.aborted), (&*seed, &*heir, 0));
    // Valkey 9 can be done with it between two questions.
    let is_heard = last.began.is_some();
    assert!(is_heard || part == Part::Valkey9, "we hear of it before it is over");
    assert!(last.began.is_none_or(|began| began < last.confirmed));
    assert_eq!((&*view(&service).masters[&own], shard(&service, &seed)), (&*heir, own));
    let service = watched.until("the dead one to be seen as such", |service| view(service).reachable == 5);
    assert_eq!((service.members.len(), view(&service).without_replica), (6, 1));
    if is_heard {
        watched.told_once(&format!("the cluster does not reach {seed}, the master of 5461 slots"));
    }
    watched.told_once(&format!("{heir} is the master of 5461 slots in the place of {seed}"));

    // It comes back as a replica.
    cluster.nodes[0].restart();
    cluster.wait_until_settled(PATIENCE);
    let service = watched.sound(&cluster, 3);
    assert_eq!((service.history.completed, view(&service).without_replica), (2, 0));

    // A node joins, gets slots, loses them and leaves.
    let new = cluster.add_node(Role::Master);
    let joined = cluster.nodes[new].address();
    watched.sound(&cluster, 3);
    watched.told_once(&format!("{joined} joined the cluster"));
    let from = index(&cluster, &heir);
    cluster.reshard(from, new, 100);
    let service = watched.sound(&cluster, 4);
    assert_eq!(view(&service).without_replica, 1);
    watched.told_once("slots are being moved between shards");
    watched.told_once("slots are no longer being moved, 100 have changed their shard");
    cluster.set_slot_migrating(16_000, index(&cluster, &last_master(&service, &cluster, 16_000)), new);
    watched.soon("a slot on its way", |service| (view(service).migrating, view(service).importing) == (1, 1));
    cluster.set_slot_stable(16_000, index(&cluster, &last_master(&service, &cluster, 16_000)), new);
    watched.soon("a slot that stays", |service| (view(service).migrating, view(service).importing) == (0, 0));
    watched.told_once("slots are no longer being moved, and none has changed its shard");
    cluster.remove_node(new);
    let service = watched.sound(&cluster, 3);
    watched.told_once(&format!("{joined} left the cluster"));
    assert_eq!(
        (service.history.completed, service.history.aborted),
        (2, 0),
        "no slot that moves is a failover"
    );

    // What is known stays when nobody answers.
    for node in &mut cluster.nodes {
        node.kill();
    }
    let service = watched.until("a failure", |service| service.failure.is_some());
    assert_eq!((service.members.len(), service.failure.as_ref().map(|why| why.0)), (6, Some(Kind::Refused)));
    let messages = watched.messages();
    assert_eq!(messages.iter().filter(|told| told.contains(" left the cluster")).count(), 1, "{messages:#?}");
}

/// The master that serves a slot, in the words of its own `CLUSTER NODES`.
fn last_master(service: &Service, cluster: &Cluster, slot: u16) -> String {
    let serves = |node: &&Server| {
        let text = node.ok(&["CLUSTER", "NODES"]).text();
        let own = text.lines().find(|line| line.contains("myself")).map(str::to_owned).unwrap_or_default();
        own.split(' ').skip(8).any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u16, u16) = (first.parse().unwrap_or(1), last.parse().unwrap_or(0));
            (first..=last).contains(&slot)
        })
    };
    let master = cluster.masters().into_iter().find(serves).expect("a master of the slot").address();
    assert!(view(service).masters.values().any(|known| **known == *master));
    master
}

#[test]
fn redis_7_is_followed_through_all_that_a_cluster_does() {
    check_life(Part::Redis7);
}

#[test]
fn valkey_9_is_followed_through_all_that_a_cluster_does() {
    check_life(Part::Valkey9);
}

#[test]
fn redis_6_2_is_followed_through_all_that_a_cluster_does() {
    check_life(Part::Redis62);
}

#[test]
fn a_planned_failover_is_known_long_before_the_interval_is_over() {
    let cluster = Cluster::start(Part::Redis8, 3, 1);
    let watched = watch(&[cluster.nodes[5].address()], |_, config| {
        config.discover.interval = Duration::from_secs(600);
    });
    let service = watched.sound(&cluster, 3);
    let old = cluster.masters()[2].address();
    let heir = companions(&service, &old)[0].clone();
    cluster.failover(index(&cluster, &heir));
    let service = watched.soon("a planned failover", |service| service.history.completed == 1);
    assert_eq!(service.history.last.as_ref().map(|last| &*last.to), Some(&*heir));
}

#[test]
fn a_master_that_hangs_and_comes_back_is_a_failover_that_was_aborted() {
    let mut cluster = Cluster::start(Part::Valkey8, 3, 1);
    let watched = follow(&cluster);
    let service = watched.sound(&cluster, 3);
    let master = cluster.masters()[0].address();
    let replica = companions(&service, &master)[0].clone();
    cluster.nodes[index(&cluster, &replica)].ok(&["CONFIG", "SET", "cluster-replica-no-failover", "yes"]);
    let at = index(&cluster, &master);
    cluster.nodes[at].pause();
    let service = watched.until("the cluster to miss its master", |service| service.failover.is_some());
    let failover = service.failover.clone().expect("a failover");
    assert_eq!(
        failover.members.iter().map(|member| &**member).collect::<BTreeSet<_>>(),
        [&*master, &*replica].into()
    );
    cluster.nodes[at].resume();
    let service = watched.until("the failover to be over", |service| service.history.aborted == 1);
    assert_eq!((service.failover.is_none(), service.history.completed), (true, 0));
    watched.told_once(&format!("the cluster reaches {master} again, which is still the master"));
}

#[test]
fn a_user_with_few_rights_follows_with_what_it_may_ask() {
    let cluster = Cluster::start(Part::Redis7, 3, 1);
    let check = |rights: &str, expected: Result<u32, Kind>| {
        for node in &cluster.nodes {
            let rules = format!("ACL SETUSER few reset on >secret {rights}");
            node.ok(&rules.split(' ').collect::<Vec<_>>());
        }
        let watched = watch(&[cluster.nodes[0].address()], |service, config| {
            let few = Credentials { user: Some("few".into()), password: Secret::new("secret") };
            let services = [service.name.to_string()].into();
            config.connect.profiles = vec![Profile { services, data: Some(few), ..Profile::default() }];
        });
        let service =
            watched.until("an answer", |service| service.answered.is_some() || service.failure.is_some());
        let shards = |service: &Service| view(service).shards;
        let failure = service.failure.as_ref().map(|why| why.0);
        assert_eq!(failure.map_or_else(|| Ok(shards(&service)), Err), expected, "{rights}");
        if expected.is_ok() {
            watched
                .until("all members", |service| service.members.len() == 6 && view(service).covered == 16384);
            let masters: BTreeSet<_> = cluster.masters().into_iter().map(Server::address).collect();
            let service = watched.now().expect("a service");
            assert_eq!(
                view(&service).masters.values().map(|m| m.to_string()).collect::<BTreeSet<_>>(),
                masters
            );
        } else {
            let (_, reason) = service.failure.clone().expect("a failure");
            assert!(reason.contains("NOPERM") && !reason.contains("secret"), "{reason}");
        }
    };
    check("+cluster|nodes +cluster|info", Ok(3));
    check("+cluster|shards +cluster|myid", Ok(3));
    check("+cluster|slots +cluster|myid", Ok(3));
    check("+cluster|info +cluster|myid", Err(Kind::NoPerm));
}

/// A cluster of one node that was never met, with all slots.
fn alone(part: Part, change: impl FnOnce(testbed::ServerBuilder) -> testbed::ServerBuilder) -> Server {
    let node = change(Server::builder(part).cluster_node()).start();
    node.ok(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    node
}

fn only(watched: &Watched) -> String {
    let service =
        watched.until("the only member", |service| service.members.len() == 1 && view(service).covered > 0);
    assert_eq!(&*service.members[0].instance, service.members[0].address.endpoint.to_string());
    service.members[0].address.to_string()
}

#[test]
fn a_node_without_an_address_is_reached_where_it_was_asked() {
    let node = alone(Part::Redis7, |node| node);
    let seed = format!("localhost:{}", node.port());
    assert_eq!(only(&watch(&[seed], |_, _| {})), format!("redis://localhost:{}", node.port()));
    let certificates = Certificates::generate();
    let node = alone(Part::Valkey8, |node| node.tls(&certificates, false).config("tls-cluster yes"));
    let watched = watch(&[node.url()], |_, config| {
        config.connect.tls.ca_file = Some(certificates.ca.clone());
    });
    assert_eq!(only(&watched), node.url());
}

#[test]
fn announced_addresses_are_rewritten_and_host_names_taken_where_wished() {
    let node = alone(Part::Redis7, |node| {
        node.config("cluster-announce-ip 192.0.2.7").config("cluster-announce-hostname LocalHost")
    });
    let seed = [node.address()];
    let check = |hostnames: bool, from: &str, expected: &str| {
        let watched = watch(&seed, |service, _| {
            let Source::Cluster { hostnames: wished, .. } = &mut service.source else {
                unreachable!("a cluster")
            };
            *wished = hostnames;
            let from = HostPattern::parse(from).expect(from);
            service.rewrite = vec![Rewrite { from, host: "127.0.0.2".into(), port: None }];
        });
        assert_eq!(only(&watched), format!("redis://{expected}:{}", node.port()));
    };
    check(false, "192.0.2.0/24", "127.0.0.2");
    check(false, "198.51.100.0/24", "192.0.2.7");
    check(true, "192.0.2.0/24", "localhost");
}

#[test]
fn a_server_that_is_no_cluster_is_a_failure_with_its_reason() {
    let server = Server::start(Part::Redis8);
    let watched = watch(&[server.address()], |_, _| {});
    let service = watched.until("a failure", |service| service.failure.is_some());
    let (kind, reason) = service.failure.clone().expect("a failure");
    assert_eq!((kind, service.members.len()), (Kind::Unsupported, 0));
    assert!(reason.contains("cluster support disabled"), "{reason}");
}
