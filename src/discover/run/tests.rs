//! The loop with real providers, and what changes a provider.

use super::*;
use crate::config::Address;
use crate::discover::board::Board;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use testbed::{Action, ScriptedServer};
use tokio::time::timeout;

fn service(name: &str, source: Source) -> Arc<discover::Service> {
    Arc::new(discover::Service::new(name, source))
}

fn list(name: &str, addresses: &[&str]) -> Arc<discover::Service> {
    let addresses = addresses.iter().map(|text| Address::parse(text).expect(text)).collect();
    service(name, Source::Instances(addresses))
}

fn files(name: &str, path: &Path) -> Arc<discover::Service> {
    service(name, Source::FileSd(vec![path.to_owned()]))
}

/// The loop at work.
struct Running {
    config: watch::Sender<Arc<Config>>,
    topology: watch::Receiver<Arc<Topology>>,
    world: World,
    identities: Arc<Identities>,
    _loop: JoinSet<()>,
}

impl Running {
    fn start(services: Vec<Arc<discover::Service>>) -> Self {
        Self::start_with(services, |world, wanted| Box::pin(provide(world, wanted)))
    }

    fn start_with(services: Vec<Arc<discover::Service>>, provide: Provide) -> Self {
        let mut first = Config::default();
        first.discover.services = services.into();
        let (config, receiver) = watch::channel(Arc::new(first));
        let world = World::new(receiver);
        let (publish, topology) = watch::channel(Arc::default());
        let identities = Arc::<Identities>::default();
        let mut discovery = Discovery::new(world.clone(), identities.clone(), publish);
        discovery.provide = provide;
        let mut tasks = JoinSet::new();
        tasks.spawn(discovery.run());
        Self { config, topology, world, identities, _loop: tasks }
    }

    fn list(&self, change: impl FnOnce(&mut Vec<Arc<discover::Service>>)) {
        let mut services = self.config.borrow().discover.services.to_vec();
        change(&mut services);
        self.configure(|config| config.discover.services = services.into());
    }

    fn configure(&self, change: impl FnOnce(&mut Config)) {
        let mut config = Config::clone(&self.config.borrow());
        change(&mut config);
        self.config.send_replace(Arc::new(config));
    }

    /// Waits until the topology is `name(kind): instances; …`.
    async fn until(&mut self, expected: &str) {
        let shown = |topology: &Arc<Topology>| {
            let shown = topology.services.iter().map(|service| {
                let members: Vec<_> = service.members.iter().map(|m| m.instance.to_string()).collect();
                format!("{}({}): {}", service.name, service.kind, members.join(" "))
            });
            shown.collect::<Vec<_>>().join("; ")
        };
        let reached = self.topology.wait_for(|topology| shown(topology) == expected);
        if timeout(Duration::from_secs(20), reached).await.is_err() {
            panic!("not {expected:?} but {:?}", shown(&self.topology.borrow()));
        }
    }

    fn told(&self) -> Vec<String> {
        self.world.events.all().into_iter().map(|event| event.message).collect()
    }
}

#[tokio::test]
async fn services_follow_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.json");
    std::fs::write(&path, r#"[{"targets": ["f:1"]}]"#).expect("written");
    let mut running = Running::start(vec![list("a", &["y:1", "x:1", "y:1"]), files("b", &path)]);
    running.until("a(instances): x:1 y:1; b(file_sd): f:1").await;
    running.list(|services| services.reverse());
    running.until("b(file_sd): f:1; a(instances): x:1 y:1").await;
    running.list(|services| services[1] = list("a", &["z:1", "x:1"]));
    running.until("b(file_sd): f:1; a(instances): x:1 z:1").await;
    running.list(|services| services.truncate(1));
    running.until("b(file_sd): f:1").await;
    std::fs::write(&path, r#"[{"targets": ["f:2"]}]"#).expect("written");
    running.until("b(file_sd): f:2").await;
    running.list(|services| services[0] = list("b", &["x:1"]));
    running.until("b(instances): x:1").await;
    running.list(|services| services.clear());
    running.until("").await;
    running.list(|services| services.push(list("a", &["x:1"])));
    running.until("a(instances): x:1").await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_woken_when_only_time_passes() {
    let mut running = Running::start(vec![list("a", &["x:1"])]);
    running.until("a(instances): x:1").await;
    let answered = |running: &Running| running.topology.borrow().services[0].answered;
    let (first, board) = (answered(&running), running.world.board.clone());
    let found = |board: &Board| board.get("a").and_then(|service| service.answered);
    while found(&board) == first {
        sleep(Duration::from_secs(1)).await;
    }
    // The loop comes after the board.
    sleep(Duration::from_secs(1)).await;
    assert_ne!(answered(&running), first);
    assert!(!running.topology.has_changed().expect("the loop runs"));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_panics_is_started_again() {
    let began = Instant::now();
    let mut running = Running::start_with(vec![list("a", &["x:1"])], |world, wanted| {
        Box::pin(async move {
            assert!(world.metrics.panics.get() >= 3, "on purpose");
            fixed::run(world, wanted).await;
        })
    });
    running.until("a(instances): x:1").await;
    assert_eq!(running.world.metrics.panics.get(), 3);
    assert!(began.elapsed() >= FIRST_REST * 7, "it rests longer each time");
}

/// A service as a provider of its own finds it: members and failovers.
fn found(hosts: &[&str], completed: u64, failure: Option<&str>) -> Service {
    let member = |host: &&str| Arc::new(fixed::member(Address::tcp(host, 1), BTreeMap::new()));
    Service {
        members: hosts.iter().map(member).collect(),
        history: History { completed, ..History::default() },
        answered: failure.is_none().then(std::time::Instant::now),
        failure: failure.map(|why| (crate::connect::Kind::Timeout, why.to_owned())),
        ..Service::unknown("a".into(), "sentinel")
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_knew_outlives_it() {
    let mut running = Running::start_with(vec![list("a", &[])], |world, _| {
        Box::pin(async move {
            let lives = world.metrics.panics.get();
            world.board.put(match lives {
                0 => found(&["x", "y"], 2, None),
                _ => found(&[], 0, Some("silence")),
            });
            sleep(Duration::from_secs(10)).await;
            assert!(lives > 0, "on purpose");
            world.board.put(found(&["y", "z"], 1, None));
            std::future::pending().await
        })
    });
    running.until("a(sentinel): x:1 y:1").await;
    let failing = running.topology.wait_for(|topology| topology.services[0].failure.is_some()).await;
    let failing = failing.expect("the loop runs").services[0].clone();
    assert_eq!((failing.members.len(), failing.history.completed), (2, 2));
    assert!(failing.answered.is_some(), "the age goes on");
    running.until("a(sentinel): y:1 z:1").await;
    let again = running.topology.borrow().services[0].clone();
    assert_eq!((again.failure.clone(), again.history.completed), (None, 3));
}

#[test]
fn only_what_matters_to_a_provider_changes_it() {
    fn check(followed: &discover::Service, wanted: &discover::Service, now: &Config, expected: Change) {
        let (_config, config) = watch::channel(Arc::<Config>::default());
        let world = World::new(config);
        let found = change(followed, wanted, &Config::default(), now, &world);
        assert_eq!(found, expected, "{followed:?} {wanted:?}");
    }
    let same = Config::default();
    let labelled = |service: &discover::Service| discover::Service {
        labels: BTreeMap::from([("team".into(), "a".into())]),
        lag_bytes: 7,
        ..service.clone()
    };
    let sentinel = |host: &str| {
        let addresses = vec![Address::tcp(host, 26379)];
        service("s", Source::Sentinel { master: "m".into(), addresses })
    };
    let (a, b) = (list("s", &["a:1"]), list("s", &["b:1"]));
    let files = files("s", Path::new("a.json"));
    check(&a, &a, &same, Change::None);
    check(&a, &labelled(&a), &same, Change::None);
    check(&a, &b, &same, Change::Told);
    check(&a, &discover::Service { dns: true, ..discover::Service::clone(&a) }, &same, Change::Told);
    check(&a, &files, &same, Change::Restart { forget: true });
    check(&a, &sentinel("a"), &same, Change::Restart { forget: true });
    check(&sentinel("a"), &labelled(&sentinel("a")), &same, Change::None);
    check(&sentinel("a"), &sentinel("b"), &same, Change::Restart { forget: true });
    let mut with_profile = Config::default();
    let profile = crate::config::Profile { services: ["s".into()].into(), ..Default::default() };
    with_profile.connect.profiles = vec![profile.clone()];
    check(&sentinel("a"), &sentinel("a"), &with_profile, Change::None);
    let password = crate::config::Secret::new("p");
    let credentials = crate::config::Credentials { user: None, password };
    with_profile.connect.profiles = vec![crate::config::Profile { sentinel: Some(credentials), ..profile }];
    check(&sentinel("a"), &sentinel("a"), &with_profile, Change::Restart { forget: false });
    check(&a, &a, &with_profile, Change::None);
    // Who looks seldom hears of it at once that it is to look often; who asks all the time finds out.
    let mut often = Config::default();
    often.discover.interval = Duration::from_secs(1);
    check(&a, &a, &often, Change::Told);
    check(&sentinel("a"), &sentinel("a"), &often, Change::None);
    let rewrite = vec![discover::Rewrite {
        from: crate::config::scrape::HostPattern::parse("10.0.0.0/8").expect("a network"),
        host: "h".into(),
        port: None,
    }];
    let rewritten = discover::Service { rewrite, ..discover::Service::clone(&sentinel("a")) };
    check(&sentinel("a"), &rewritten, &same, Change::Restart { forget: false });
}

#[tokio::test(start_paused = true)]
async fn a_password_of_all_has_some_begin_again_at_once_and_the_others_soon() {
    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    let sentinel = |n: usize| {
        let addresses = vec![Address::tcp("h", 1)];
        service(&format!("s{n:03}"), Source::Sentinel { master: "m".into(), addresses })
    };
    let count = 3 * RESTARTS + 1;
    let running = Running::start_with((0..count).map(sentinel).collect(), |_, _| {
        Box::pin(async {
            BEGUN.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        })
    });
    let begun = async |after: Duration| {
        sleep(after).await;
        BEGUN.swap(0, Ordering::Relaxed)
    };
    let moment = Duration::from_millis(1);
    assert_eq!(begun(moment).await, count);
    let credentials = |password: &'static str| crate::config::Credentials {
        user: None,
        password: crate::config::Secret::new(password),
    };
    let names: HashSet<_> = (0..count).map(|n| format!("s{n:03}")).collect();
    let profile = |password: &'static str| crate::config::Profile {
        services: names.clone(),
        sentinel: Some(credentials(password)),
        ..Default::default()
    };
    running.configure(|config| config.connect.profiles = vec![profile("p")]);
    assert_eq!(begun(moment).await, RESTARTS);
    assert_eq!(begun(2 * RESTARTS_APART).await, 2 * RESTARTS);
    assert_eq!(begun(Duration::from_secs(1)).await, 1);
    // Of those that are gone by then nothing begins.
    running.configure(|config| config.connect.profiles = vec![profile("q")]);
    running.list(|services| services.clear());
    assert!(begun(Duration::from_secs(1)).await <= RESTARTS);
    running.configure(|config| config.connect.timeout += Duration::from_secs(1));
    assert_eq!(begun(Duration::from_secs(1)).await, 0, "the same access");
}

fn id(number: u8) -> String {
    format!("{number:02}23456789abcdef0123456789abcdef01234567")
}

#[tokio::test]
async fn a_server_under_two_addresses_is_asked_before_it_is_two_again() {
    let answers = Arc::new(Mutex::new(1));
    let answer = answers.clone();
    let server = ScriptedServer::start(move |command| match command[0].as_slice() {
        b"INFO" => {
            let number = *answer.lock().expect("whole");
            Action::bulk(format!("# Server\r\nredis_version:7.2.0\r\nrun_id:{}\r\n", id(number)))
        }
        _ => Action::Default,
    });
    let (first, second) = (format!("localhost:{}", server.port()), server.address());
    let mut running = Running::start(vec![list("a", &[&first, &second])]);
    running.until(&format!("a(instances): {second} {first}")).await;
    let learn = |running: &Running, which: &str, number: u8| {
        running.identities.learn(&Address::parse(which).expect("an address"), &id(number));
    };
    for which in [&first, &second, &first, &second] {
        learn(&running, which, 1);
    }
    running.until(&format!("a(instances): {first}")).await;
    let info = |server: &ScriptedServer| server.count("INFO");
    let wait = async |server: &ScriptedServer, count: usize| {
        let enough = async {
            while info(server) < count {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), enough).await.expect("it is asked");
    };

    // Started again: heard of at the one address, and asked for at the other one.
    let asked = info(&server);
    *answers.lock().expect("whole") = 2;
    learn(&running, &first, 2);
    wait(&server, asked + 1).await;
    learn(&running, &first, 2);

    // Another server at the first address only, which is collected again and again.
    let learning = async {
        loop {
            running.identities.learn(&Address::parse(&first).expect("an address"), &id(3));
            sleep(Duration::from_millis(10)).await;
        }
    };
    let mut topology = running.topology.clone();
    let parted = topology.wait_for(|topology| topology.services[0].members.len() == 2);
    tokio::select! {
        parted = timeout(Duration::from_secs(20), parted) => {
            parted.expect("they part").expect("the loop runs");
        }
        () = learning => {}
    }
    let expected = [
        "2 members listed".to_owned(),
        format!("{second} and {first} are one server, which is followed as {first}"),
        format!("{second} and {first} are no longer known to be one server"),
    ];
    assert_eq!(running.told(), expected);
}
