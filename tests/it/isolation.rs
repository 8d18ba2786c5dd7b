//! An edit of the configuration touches what it is about, and nobody else: counters, connections, streaks and queues of
//! all others go on.
//!
//! What a newcomer would get wrong: that a counter is not lower proves little where it began at nothing a moment ago. So who
//! is untouched is also asked: servers count their connections and note when they are asked.

use crate::page::{Labels, Page};
use crate::{PATIENCE, exporter, our_clients};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use testbed::http::Request;
use testbed::{Action, Exporter, Part, Receiver, ScriptedServer, Server, scripted, wait_until};

/// As many as an operator may have, each with a server of its own.
const SERVICES: usize = 300;
const INTERVAL: Duration = Duration::from_secs(4);

/// What a server of no words says of itself.
const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nuptime_in_seconds:9\r\n\
                    # Replication\r\nrole:master\r\n# Stats\r\ntotal_commands_processed:7\r\n";

/// A server, and when it was asked for INFO.
struct Watched {
    server: ScriptedServer,
    asked: Arc<Mutex<Vec<Instant>>>,
}

impl Watched {
    fn start() -> Self {
        let asked = Arc::new(Mutex::new(vec![]));
        let notes = asked.clone();
        let server = ScriptedServer::builder().info(INFO).start(move |command| {
            if command[0] == b"INFO" {
                notes.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            }
            Action::Default
        });
        Self { server, asked }
    }

    fn asked(&self) -> Vec<Instant> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The configuration, as parts that edits change.
#[derive(Clone)]
struct Document {
    head: String,
    /// Name, address, more keys.
    services: Vec<(String, String, String)>,
    credentials: String,
    outputs: [(String, String); 2],
}

impl Document {
    fn text(&self) -> String {
        let mut text = format!("{}\nservices:\n", self.head);
        for (name, address, more) in &self.services {
            let _ = writeln!(text, "  - {{ name: {name}, instances: [\"{address}\"]{more} }}");
        }
        text += &self.credentials;
        text += "outputs:\n";
        for (name, more) in &self.outputs {
            let _ = writeln!(text, "  - {{ name: {name}, {more} }}");
        }
        text
    }
}

/// An exporter and its file.
struct Watcher {
    exporter: Exporter,
    folder: tempfile::TempDir,
}

impl Watcher {
    fn json(&self, path: &str) -> Value {
        let response = self.exporter.get(path, &[]);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        serde_json::from_str(response.text()).expect("JSON")
    }

    /// By rename, as editors and Kubernetes do, so that nobody reads half of it.
    fn edit(&self, document: &Document) {
        let path = self.folder.path().join("redvigil.yaml");
        let beside = self.folder.path().join("redvigil.yaml.new");
        std::fs::write(&beside, document.text()).expect("written");
        std::fs::rename(&beside, &path).expect("renamed");
        let request = Request { method: "POST", path: "/-/reload", headers: &[], body: b"" };
        let response = self.exporter.send(request);
        assert_eq!(response.status, 200, "{}", response.text());
    }

    fn snapshot(&self) -> Snapshot {
        let mut counters = BTreeMap::new();
        for path in ["/metrics", "/-/metrics"] {
            let page = Page::parse(self.exporter.get(path, &[]).text());
            for (family, of) in &page.families {
                let counts = matches!(of.kind.as_str(), "counter" | "histogram");
                let lives = matches!(family.as_str(), "redis_up" | "redis_service_up");
                for ((sample, labels), value) in of.samples.iter().filter(|_| counts || lives) {
                    let value = if lives { 0.0 } else { *value };
                    counters.insert((path, sample.clone(), labels.clone()), value);
                }
            }
        }
        let mut targets = BTreeMap::new();
        for target in self.json("/api/v1/targets")["targets"].as_array().expect("a list") {
            let text = |name: &str| target[name].as_str().unwrap_or_default().to_owned();
            let streak = target["consecutive_failures"].as_u64().expect("a number");
            let skipped = target["skipped_ticks"].as_u64().expect("a number");
            let health = (text("health"), target["health_seconds"].as_f64().unwrap_or_default());
            targets.insert(
                text("service"),
                Target { health, streak, skipped, is_open: text("breaker") != "closed" },
            );
        }
        let outputs = self.json("/api/v1/outputs")["outputs"].as_array().expect("a list").clone();
        let outputs = outputs.into_iter().map(|output| {
            let number = |name: &str| output["samples"][name].as_u64().expect("a number");
            let samples = [number("accepted"), number("pending"), number("dropped"), number("recovered")];
            (output["name"].as_str().expect("a name").to_owned(), samples)
        });
        Snapshot { at: Instant::now(), counters, targets, outputs: outputs.collect() }
    }
}

struct Target {
    health: (String, f64),
    streak: u64,
    skipped: u64,
    is_open: bool,
}

struct Snapshot {
    at: Instant,
    counters: BTreeMap<(&'static str, String, Labels), f64>,
    targets: BTreeMap<String, Target>,
    outputs: BTreeMap<String, [u64; 4]>,
}

/// What is not as it was, though the edit was not about it.
fn disturbed(before: &Snapshot, after: &Snapshot, touched: &[&str]) -> Vec<String> {
    let mut faults = vec![];
    let is_touched = |labels: &Labels| {
        let named = labels.get("service").or(labels.get("output"));
        named.is_some_and(|name| touched.contains(&name.as_str()))
    };
    for (key, value) in before.counters.iter().filter(|(key, _)| !is_touched(&key.2)) {
        match after.counters.get(key) {
            None => faults.push(format!("{key:?} is gone")),
            Some(now) if now < value => faults.push(format!("{key:?} was {value} and is {now}")),
            Some(_) => {}
        }
    }
    let passed = (after.at - before.at).as_secs_f64();
    for (service, was) in before.targets.iter().filter(|(name, _)| !touched.contains(&name.as_str())) {
        let Some(is) = after.targets.get(service) else {
            faults.push(format!("{service} is gone"));
            continue;
        };
        if is.health.0 != was.health.0 || is.health.1 + 1.0 < was.health.1 + passed {
            faults.push(format!("{service}: health {:?}, and {:?} {passed} s later", was.health, is.health));
        }
        if is.streak < was.streak || is.skipped < was.skipped || is.is_open != was.is_open {
            faults.push(format!("{service}: streak, skipped ticks or breaker began anew"));
        }
    }
    for (output, was) in &before.outputs {
        let is = after.outputs.get(output).unwrap_or_else(|| panic!("{output} is gone"));
        // Accepted, pending, dropped, recovered: one that is paused keeps all that it has, also where it begins anew.
        let began_anew = !touched.contains(&output.as_str()) && (is[0] < was[0] || is[3] != was[3]);
        if began_anew || (output == "kept" && is[1] < was[1]) || is[2] != was[2] {
            faults.push(format!("output {output}: {was:?}, then {is:?}"));
        }
    }
    faults
}

/// The files of a queue that hold records.
fn segments(state: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![state.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.components().any(|part| part.as_os_str() == "kept") {
                found.insert(path);
            }
        }
    }
    found
}

type Edit = fn(&mut Document);

/// Name, the edit, and who may be touched by it.
const EDITS: &[(&str, Edit, &[&str])] = &[
    ("a label of one", |d| d.services[1].2 = ", labels: { team: a }".into(), &["s1"]),
    ("a threshold of one", |d| d.services[2].2 = ", replication_lag_bytes: 7".into(), &["s2"]),
    (
        "credentials of one",
        |d| {
            d.credentials = "credentials: [{ name: p, match: { services: [s3] }, password: sesame }]\n".into()
        },
        &["s3"],
    ),
    ("a collector of one", |d| d.services[4].2 = ", collect: { client_list: true }".into(), &["s4"]),
    (
        "one more",
        |d| {
            let address = d.services[5].1.clone();
            d.services.insert(7, ("new".into(), address, String::new()));
        },
        &["new"],
    ),
    ("one less", |d| d.services.retain(|service| service.0 != "s6"), &["s6"]),
    ("another name", |d| d.services[1].0 = "renamed".into(), &["s1", "renamed"]),
    ("the order", |d| d.services.reverse(), &[]),
    // It concerns all, and yet nobody has to begin anew.
    ("a default of all", |d| d.head = d.head.replace("failures_to_down: 3", "failures_to_down: 4"), &[]),
    // What counts its own requests begins anew; what waits in its queue does not.
    ("an output", |d| d.outputs[0].1 = d.outputs[0].1.replace("max_age: 55m", "max_age: 50m"), &["kept"]),
];

#[test]
fn an_edit_touches_what_it_is_about_and_nobody_else() {
    let watched: Vec<_> = (0..SERVICES - 3).map(|_| Watched::start()).collect();
    let (real, dead) = (Server::start(Part::Redis7), testbed::Port::take());
    let loading = ScriptedServer::start(|command| match command[0].as_slice() {
        b"INFO" => Action::reply(scripted::LOADING),
        _ => Action::Default,
    });
    let receiver = Receiver::start();
    let mut services: Vec<_> = watched.iter().map(|one| one.server.address()).collect();
    services.extend([real.address(), format!("127.0.0.1:{}", dead.number()), loading.address()]);
    let services = services.into_iter().enumerate();
    let to = format!("remote_write: {{ url: \"{}\" }}", receiver.url("/api/v1/write"));
    let queue = "queue: { min_free: 1MiB, max_age: 55m, linger: 100ms }";
    let mut document = Document {
        head: format!(
            "global: {{ scrape_interval: {0}s, scrape_timeout: {0}s }}\nhealth: {{ failures_to_down: 3 }}",
            INTERVAL.as_secs()
        ),
        services: services.map(|(number, address)| (format!("s{number}"), address, String::new())).collect(),
        credentials: String::new(),
        outputs: [
            ("kept".into(), format!("paused: true, {to}, {queue}")),
            ("all".into(), format!("{to}, {queue}")),
        ],
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("redvigil.yaml");
    std::fs::write(&path, document.text()).expect("written");
    let flags = [
        format!("--config.file={}", path.display()),
        format!("--storage.path={}", folder.path().join("state").display()),
    ];
    let watcher = Watcher { exporter: exporter(&flags).start(), folder };
    let dead = format!("s{}", SERVICES - 2);
    let settled = || {
        let now = watcher.snapshot();
        let is_settled = |(name, target): (&String, &Target)| match target.health.0.as_str() {
            "down" => *name == dead && target.is_open,
            health => health == "ok" || health == "loading",
        };
        now.targets.len() == SERVICES && now.targets.iter().all(is_settled) && now.outputs["kept"][1] > 0
    };
    wait_until("all to be settled", 3 * PATIENCE, settled);
    let asked_twice = || watched.iter().all(|one| one.asked().len() >= 3);
    wait_until("a beat of each", PATIENCE, asked_twice);
    let clients =
        || our_clients(&real).into_iter().map(|client| client["id"].clone()).collect::<BTreeSet<_>>();
    let accepted = || watched.iter().map(|one| one.server.accepted()).collect::<Vec<_>>();
    let (clients_before, accepted_before, files) =
        (clients(), accepted(), segments(&watcher.folder.path().join("state")));
    assert!(!files.is_empty() && clients_before.len() == 1);

    let mut before = watcher.snapshot();
    // An edit is answered once it is published; whom it is about may follow a moment later, beside the next edit.
    let mut touched = vec![];
    for (name, edit, about) in EDITS {
        touched.extend_from_slice(about);
        edit(&mut document);
        watcher.edit(&document);
        let after = watcher.snapshot();
        let faults = disturbed(&before, &after, &touched);
        assert!(faults.is_empty(), "{name}: {} faults: {:#?}", faults.len(), &faults[..faults.len().min(12)]);
        before = after;
    }
    let ended = Instant::now();
    // Who was never touched is asked twice more, by its old connection.
    let at_rest = |number: usize| !(1..=6).contains(&number);
    let asked_since = |one: &Watched| one.asked().iter().filter(|at| **at > ended).count();
    wait_until("two beats more", PATIENCE, || {
        watched.iter().enumerate().all(|(number, one)| !at_rest(number) || asked_since(one) >= 2)
    });
    let faults = disturbed(&before, &watcher.snapshot(), &touched);
    assert!(faults.is_empty(), "afterwards: {faults:#?}");
    assert_eq!(clients(), clients_before, "the connection of the real one");
    for (number, one) in watched.iter().enumerate().filter(|(number, _)| at_rest(*number)) {
        assert_eq!(one.server.accepted(), accepted_before[number], "connections of s{number}");
    }
    assert!(
        files.is_subset(&segments(&watcher.folder.path().join("state"))),
        "files of the queue that waits"
    );
}
