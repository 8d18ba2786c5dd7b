//! Several of ours that share the work through a real etcd, shown from outside. One file a story:
//!
//! - [`moves`]: one comes, one goes in good order, one dies, one is cut off; how long that takes, and what it costs
//! - [`chaos`]: all of that at random
//! - [`found`]: what a real Prometheus makes of it
//! - [`stopped`]: one is stopped and goes on
//!
//! Servers note who asked them when, and a receiver what was pushed by whom; `testbed::sharing` judges both, and etcd's own
//! history of the claims.
//!
//! What a newcomer would get wrong: a server knows an exporter by the password that it is shown, a receiver by its token. Both
//! come from a variable, so that all exporters have the same file.

mod chaos;
mod found;

mod moves;
mod stopped;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testbed::http::{self, Request};
use testbed::sharing::claims::Claims;
use testbed::sharing::collections::{Collected, Collection, Promise, Span, Verdict, spans};
use testbed::{Arrivals, Etcd, Exporter, Farm, Port, Proxy};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// From one collection of a server to the next, in milliseconds.
const INTERVAL: i64 = 1000;
/// For how long a silent exporter counts as alive, in seconds: the least that may be said.
const TTL: i64 = 3;
/// How late things may be, in milliseconds: etcd looks for leases that ended twice a second, and the machine is busy with
/// other tests.
const SLACK: i64 = 2000;
/// What the key of each claim begins with.
const CLAIMS: &str = "/redvigil/default/shards/";
/// What the key of each exporter begins with.
const PREFIX: &str = "/services/exporter/";
/// The variable that says who an exporter is to servers and receivers.
const WHO: &str = "EXPORTER_OF_THE_TEST";
/// The series that says of a collection whether it went well.
const UP: &str = "redis_up";

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_millis()).expect("this century fits")
}

/// Numbers for whoever reads the log of the test.
#[expect(clippy::print_stderr, reason = "that is where they are read")]
fn report(numbers: std::fmt::Arguments<'_>) {
    eprintln!("{numbers}");
}

/// How they are set up.
#[derive(Clone, Copy, Debug)]
struct Setup {
    /// How many services, of one server each.
    services: usize,
    /// How many exporters there can be.
    exporters: usize,
    /// `on_etcd_loss`.
    on_loss: &'static str,
    /// Whether each has a way of its own to etcd, which can be cut.
    apart: bool,
}

impl Setup {
    fn promise(&self) -> Promise {
        Promise { interval: INTERVAL, ttl: TTL * 1000, slack: SLACK, freeze: self.on_loss == "freeze" }
    }
}

/// Servers, an etcd, a receiver, and exporters that come and go.
struct Crew {
    setup: Setup,
    farm: Farm,
    etcd: Etcd,
    arrivals: Arrivals,
    posts: Vec<Post>,
    folder: tempfile::TempDir,
}

/// An exporter, whether it runs or not.
struct Post {
    /// Who it is to servers and receivers.
    name: String,
    port: Arc<Port>,
    /// Its way to etcd.
    way: Option<Proxy>,
    exporter: Option<Exporter>,
}

impl Post {
    /// Its name in the registry.
    fn id(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }
}

impl Crew {
    /// Everything but the exporters.
    fn prepare(setup: Setup) -> Self {
        let (farm, etcd, arrivals) =
            (Farm::start_noting(setup.services), Etcd::start(), Arrivals::start(&[UP]));
        let way = || setup.apart.then(|| Proxy::start(etcd.port()));
        let post = |at: usize| Post {
            name: format!("exporter-{at}"),
            port: Arc::new(Port::take()),
            way: way(),
            exporter: None,
        };
        let posts = (0..setup.exporters).map(post).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let crew = Self { setup, farm, etcd, arrivals, posts, folder };
        for at in 0..setup.exporters {
            std::fs::create_dir(crew.folder.path().join(&crew.posts[at].name)).expect("a folder");
            std::fs::write(crew.file(at), crew.document(at)).expect("written");
        }
        crew
    }

    /// With so many exporters running, and all that is to have an owner having one.
    fn start(setup: Setup, running: usize) -> Self {
        let mut crew = Self::prepare(setup);
        (0..running).for_each(|at| crew.run(at));
        crew.settle();
        crew
    }

    fn file(&self, at: usize) -> std::path::PathBuf {
        self.folder.path().join(&self.posts[at].name).join("redvigil.yaml")
    }

    /// The configuration. All have the same but for their ways to etcd, where those are apart.
    fn document(&self, at: usize) -> String {
        let etcd = self.posts[at].way.as_ref().map_or(self.etcd.port(), Proxy::port);
        let services: String = (0..)
            .zip(self.farm.addresses())
            .map(|(at, address)| format!("- {{ name: service-{at}, instances: [\"{address}\"] }}\n"))
            .collect();
        format!(
            "global: {{ scrape_interval: {INTERVAL}ms, scrape_timeout: {INTERVAL}ms }}\n\
             credentials:\n- {{ name: all, match: {{ hosts: [127.0.0.0/8] }}, password_env: {WHO} }}\n\
             collect: {{ latency_histograms: false }}\n\
             services:\n{services}\
             outputs:\n- name: out\n  remote_write: {{ url: \"{}\", version: \"2.0\", bearer_token_env: {WHO} }}\n  \
             queue: {{ min_free: 0 }}\n\
             registry:\n  file_sd: exporters.json\n  etcd: {{ endpoints: [\"http://127.0.0.1:{etcd}\"], ttl: {TTL}s }}\n  \
             sharding: {{ settle: 1s, on_etcd_loss: {} }}\n",
            self.arrivals.write_url(),
            self.setup.on_loss,
        )
    }

    /// Starts one, or starts it again.
    fn run(&mut self, at: usize) {
        let post = &self.posts[at];
        assert!(post.exporter.is_none(), "{} runs already", post.name);
        let arguments = [
            format!("--config.file={}", self.file(at).display()),
            format!("--storage.path={}", self.folder.path().join(&post.name).join("state").display()),
            format!("--registry.advertise=http://{}", post.id()),
        ];
        let builder = crate::exporter(&arguments).env(WHO, &post.name).port(post.port.clone());
        self.posts[at].exporter = Some(builder.start());
    }

    /// Ends one as a crash would.
    fn kill(&mut self, at: usize) {
        self.posts[at].exporter.take().expect("it runs").process().kill();
    }

    /// Ends one in good order.
    fn end(&mut self, at: usize) {
        let mut exporter = self.posts[at].exporter.take().expect("it runs");
        let status = exporter.process().stop_within(Duration::from_secs(15));
        assert!(status.success(), "{status}: {}", exporter.stderr());
    }

    fn exporter(&mut self, at: usize) -> &mut Exporter {
        self.posts[at].exporter.as_mut().expect("it runs")
    }

    /// Which of them run.
    fn running(&self) -> Vec<usize> {
        (0..self.posts.len()).filter(|at| self.posts[*at].exporter.is_some()).collect()
    }

    /// How many shards each has by etcd, by its place; who is none of ours is nobody.
    fn shares(&self) -> BTreeMap<usize, usize> {
        let mut shares = BTreeMap::new();
        for claim in self.etcd.try_all(CLAIMS).unwrap_or_default() {
            let claim: Value = serde_json::from_str(&claim.value).expect("a claim is JSON");
            let owner = claim["owner"].as_str().expect("it names its owner");
            let at = self.posts.iter().position(|post| post.id() == owner).expect("it is one of ours");
            *shares.entry(at).or_default() += 1;
        }
        shares
    }

    /// Waits until those who run share all shards, and nothing moves any more.
    fn settle(&self) {
        let running = self.running();
        let (mut last, mut since) = (BTreeMap::new(), Instant::now());
        let started = Instant::now();
        loop {
            let shares = self.shares();
            if shares != last {
                (last, since) = (shares, Instant::now());
            }
            let whole =
                last.values().sum::<usize>() == 256 && last.keys().copied().eq(running.iter().copied());
            if whole && since.elapsed() > Duration::from_millis(2500) {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{running:?} do not share all shards: {last:?}\n{}",
                self.logs()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The ends of the logs of those who run.
    fn logs(&self) -> String {
        let mut logs = String::new();
        for post in &self.posts {
            let log = post.exporter.as_ref().map(Exporter::stderr).unwrap_or_default();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains(" listed\"")).collect();
            let last = lines[lines.len().saturating_sub(25)..].join("\n");
            logs.push_str(&format!("== {} {}\n{last}\n", post.name, post.id()));
        }
        logs
    }

    /// What one says under `/api/v1/peers`.
    fn peers(&self, at: usize) -> Value {
        peers(self.posts[at].port.number(), PATIENCE).expect("it answers")
    }

    /// Who asked which server, and when.
    fn collected(&self) -> Collected {
        let mut collected: Collected =
            self.farm.addresses().iter().map(|address| (address.to_string(), Vec::new())).collect();
        for asked in self.farm.asked() {
            let server = self.farm.addresses()[asked.server].to_string();
            let by = if asked.by.is_empty() { "nobody".to_owned() } else { asked.by };
            collected.entry(server).or_default().push(Collection { at: asked.at, by });
        }
        collected
    }

    /// What was pushed of each server, by whom, with the times of the samples; how many stale markers there were.
    fn pushed(&self) -> (Collected, usize) {
        let mut pushed: Collected =
            self.farm.addresses().iter().map(|address| (address.to_string(), Vec::new())).collect();
        let mut stale = 0;
        for arrival in self.arrivals.all().iter().filter(|arrival| !arrival.again) {
            let from = arrival.from.as_deref().unwrap_or_default();
            let by = from.trim_start_matches("Bearer ").to_owned();
            for (_, server, sample) in &arrival.followed {
                if sample.value.is_nan() {
                    stale += 1;
                } else {
                    let one = Collection { at: sample.at, by: by.clone() };
                    pushed.entry(server.clone()).or_default().push(one);
                }
            }
        }
        (pushed, stale)
    }

    /// Waits until all that was collected before now was pushed.
    fn drain(&self) {
        let (until, began) = (now(), Instant::now());
        loop {
            let (pushed, _) = self.pushed();
            let late = |(server, all): (&String, &Vec<Collection>)| {
                (!all.iter().any(|one| one.at > until)).then(|| (server.clone(), all.last().cloned()))
            };
            let late: Vec<_> = pushed.iter().filter_map(late).collect();
            if late.is_empty() {
                break;
            }
            let few = &late[..late.len().min(5)];
            let peers: Vec<_> = self.running().into_iter().map(|at| self.peers(at).to_string()).collect();
            let seen = |(server, _): &(String, _)| self.collected()[server].last().cloned();
            assert!(
                began.elapsed() < PATIENCE,
                "{} servers have had no sample since {until}: {few:?}; last asked {:?}\n{}\n{}",
                late.len(),
                few.iter().map(seen).collect::<Vec<_>>(),
                peers.join("\n"),
                self.logs()
            );
            thread::sleep(Duration::from_millis(100));
        }
        thread::sleep(Duration::from_millis(500));
    }

    /// Etcd's history of the claims; panics with what must not be.
    fn claims(&self) -> Claims {
        let claims = Claims::replay(CLAIMS, &self.etcd.history(CLAIMS, 1));
        assert_eq!(claims.faults, Vec::<String>::new());
        claims
    }
}

fn peers(port: u16, limit: Duration) -> Option<Value> {
    let answer = http::send(port, None, Request::get("/api/v1/peers", &[]), limit).ok()?;
    serde_json::from_str(answer.text()).ok()
}

/// What each one said, and when.
type Seen = BTreeMap<String, Vec<(i64, bool)>>;

/// Asks all exporters again and again whether they go on without etcd.
struct Flags {
    over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
    seen: Arc<Mutex<Seen>>,
}

impl Flags {
    fn watch(crew: &Crew) -> Self {
        let (over, seen) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Seen>>::default());
        let ask = |post: &Post| {
            let (name, port) = (post.name.clone(), post.port.number());
            let (over, seen) = (over.clone(), seen.clone());
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    // What it says was so at some time in between; that is what the spans are about.
                    let at = now();
                    let answer = peers(port, Duration::from_millis(500));
                    if let Some(frozen) = answer.and_then(|answer| answer["frozen"].as_bool()) {
                        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                        seen.entry(name.clone()).or_default().push((if frozen { at } else { now() }, frozen));
                    }
                    thread::sleep(Duration::from_millis(100));
                }
            })
        };
        let threads = crew.posts.iter().map(ask).collect();
        Self { over, threads, seen }
    }

    /// When each one said so.
    fn finish(self) -> BTreeMap<String, Vec<Span>> {
        self.over.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("asking does not panic"));
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().map(|(name, seen)| (name.clone(), spans(seen, Duration::from_millis(500)))).collect()
    }
}

/// All that is wrong with a verdict, a few lines at most.
fn wrong(of: &str, verdict: &Verdict) -> Vec<String> {
    let few = |lines: Vec<String>| {
        let more = lines.len().saturating_sub(5);
        let mut few: Vec<String> = lines.into_iter().take(5).collect();
        few.extend((more > 0).then(|| format!("… and {more} more")));
        few
    };
    let gap = |gap: &testbed::sharing::collections::Gap| {
        let long = gap.span.until - gap.span.from;
        format!(
            "{of}: nobody looked at {} for {long} ms from {}, {} are allowed",
            gap.server, gap.span.from, gap.allowed
        )
    };
    let double = |double: &testbed::sharing::collections::Double| {
        format!("{of}: two looked at {}: {:?}", double.server, double.both)
    };
    let mut lines = few(verdict.gaps.iter().map(gap).collect());
    lines.extend(few(verdict.doubles.iter().map(double).collect()));
    lines
}

/// The names of all series that are there but once for each server.
fn labels_changed(crew: &Crew) -> BTreeSet<String> {
    crew.arrivals.series(UP).into_iter().filter(|(_, count)| *count != 1).map(|(server, _)| server).collect()
}
