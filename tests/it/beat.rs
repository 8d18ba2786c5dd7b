//! The moments of collections go on through edits of the configuration, for all whom an edit is not about: nobody is asked sooner or
//! later, and nothing is pushed twice, left out or ended.
//!
//! What a newcomer would get wrong: three hundred services are too many for this, beside other tests: late is then the machine, and
//! not the edit. How late it was is measured beside, and allowed for.

use crate::{PATIENCE, exporter};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testbed::http::Request;
use testbed::{Arrivals, Farm, wait_until};

const SERVICES: usize = 40;
/// From one collection to the next, in seconds.
const INTERVAL: u64 = 2;
const UP: &str = "redis_up";

/// The configuration, to be edited.
struct Document {
    failures_to_down: u32,
    credentials: String,
    /// Name, address, more keys.
    services: Vec<(String, String, String)>,
    write_url: String,
    queue: &'static str,
}

impl Document {
    fn text(&self) -> String {
        let Self { failures_to_down, credentials, services, write_url, queue } = self;
        let mut text = format!(
            "global: {{ scrape_interval: {INTERVAL}s, scrape_timeout: {INTERVAL}s }}\n\
             health: {{ failures_to_down: {failures_to_down} }}\n{credentials}services:\n"
        );
        for (name, address, more) in services {
            let _ = writeln!(text, "  - {{ name: {name}, instances: [\"{address}\"]{more} }}");
        }
        let _ = writeln!(
            text,
            "outputs:\n  - {{ name: store, remote_write: {{ url: \"{write_url}\" }}, queue: {{ min_free: 0, max_age: 55m{queue} }} }}"
        );
        text
    }

    fn service(&mut self, name: &str) -> &mut (String, String, String) {
        self.services.iter_mut().find(|service| service.0 == name).expect("it is there")
    }
}

type Edit = fn(&mut Document);

/// The edit, and whom it is about.
const EDITS: &[(Edit, &[usize])] = &[
    (|d| d.service("s1").2 = ", labels: { team: a }".into(), &[1]),
    (|d| d.service("s2").2 = ", collect: { client_list: true }".into(), &[2]),
    (|d| d.credentials = d.credentials.replace("first", "second"), &[3]),
    (|d| d.services.retain(|service| service.0 != "s4"), &[4]),
    (|d| d.service("s5").0 = "other".into(), &[5]),
    (|d| d.services.push(("s4".into(), d.services[0].1.clone(), String::new())), &[0]),
    (|d| d.queue = ", max_bytes: 64MiB", &[]),
    (|d| d.failures_to_down = 5, &[]),
    (|d| d.services.reverse(), &[]),
];

/// How long this machine held up somebody who wanted to sleep for a moment, at most.
struct Stalls {
    over: Arc<AtomicBool>,
    longest: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

impl Stalls {
    fn watch() -> Self {
        const NAP: Duration = Duration::from_millis(10);
        let (over, longest) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (end, most) = (over.clone(), longest.clone());
        let thread = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let began = Instant::now();
                thread::sleep(NAP);
                let late = began.elapsed().saturating_sub(NAP);
                most.fetch_max(u64::try_from(late.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        Self { over, longest, thread }
    }

    /// In milliseconds.
    fn longest(self) -> i64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic");
        i64::try_from(self.longest.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
    }
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_millis()).expect("this century fits")
}

#[test]
fn whoever_an_edit_is_not_about_is_asked_at_the_same_moment_as_ever() {
    let (farm, arrivals) = (Farm::start_noting(SERVICES), Arrivals::start(&[UP]));
    let address = |at: usize| farm.addresses()[at].to_string();
    let mut document = Document {
        failures_to_down: 3,
        credentials: "credentials: [{ name: p, match: { services: [s3] }, password: first }]\n".into(),
        services: (0..SERVICES).map(|at| (format!("s{at}"), address(at), String::new())).collect(),
        write_url: arrivals.write_url(),
        queue: "",
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (path, new) = (folder.path().join("r.yaml"), folder.path().join("r.new"));
    std::fs::write(&path, document.text()).expect("written");
    let flags = [
        format!("--config.file={}", path.display()),
        format!("--storage.path={}", folder.path().join("state").display()),
    ];
    let exporter = exporter(&flags).start();
    let asked = || {
        let mut asked: BTreeMap<usize, Vec<i64>> = (0..SERVICES).map(|at| (at, vec![])).collect();
        farm.asked().iter().for_each(|one| asked.entry(one.server).or_default().push(one.at));
        asked
    };
    let have =
        |times: usize| move |asked: BTreeMap<usize, Vec<i64>>| asked.values().all(|at| at.len() >= times);
    wait_until("a beat of each", PATIENCE, || have(2)(asked()));

    let (stalls, begun) = (Stalls::watch(), now());
    let mut about: BTreeSet<usize> = BTreeSet::new();
    for (edit, whom) in EDITS {
        edit(&mut document);
        about.extend(*whom);
        std::fs::write(&new, document.text()).expect("written");
        std::fs::rename(&new, &path).expect("in its place");
        let response = exporter.send(Request { method: "POST", path: "/-/reload", headers: &[], body: b"" });
        assert_eq!(response.status, 200, "{}", response.text());
        // Before and behind the next edit the beat goes on for a while.
        thread::sleep(Duration::from_millis(1300));
    }
    thread::sleep(Duration::from_secs(2 * INTERVAL));
    let (slack, ended) = (600 + 2 * stalls.longest(), now());

    let interval = i64::try_from(INTERVAL * 1000).expect("it fits");
    let others: Vec<_> = (0..SERVICES).filter(|at| !about.contains(at)).collect();
    for (at, times) in asked().into_iter().filter(|(at, _)| others.contains(at)) {
        let times: Vec<_> = times.into_iter().filter(|at| (begun..ended).contains(at)).collect();
        assert!(times.len() as i64 + 1 >= (ended - begun) / interval, "s{at}: {times:?}");
        for pair in times.windows(2) {
            let gap = pair[1] - pair[0];
            assert!(
                (gap - interval).abs() <= slack,
                "s{at}: {gap} ms between two, {slack} allowed: {times:?}"
            );
        }
    }
    wait_until("all to be pushed", PATIENCE, || {
        let outputs: serde_json::Value =
            serde_json::from_str(exporter.get("/api/v1/outputs", &[]).text()).expect("JSON");
        let samples = &outputs["outputs"][0]["samples"];
        assert_eq!(samples["dropped"], 0, "{samples}");
        arrivals.samples() as u64 >= samples["accepted"].as_u64().expect("a number")
    });
    assert_eq!(arrivals.faults(), Vec::<String>::new());
    let pushed = arrivals.followed(UP);
    for at in others {
        let samples = &pushed[&address(at)];
        assert!(samples.iter().all(|sample| sample.value == 1.0), "s{at} ended, or failed: {samples:?}");
        // The first two come one upon the other: one at once, and one at its moment.
        for pair in samples.windows(2).filter(|pair| pair[0].at >= begun) {
            let gap = pair[1].at - pair[0].at;
            assert!((gap - interval).abs() <= slack, "s{at}: {gap} ms between two that were pushed");
        }
    }
    let ends = |at: usize| pushed[&address(at)].iter().filter(|sample| sample.value.is_nan()).count();
    assert_eq!([1, 4, 5].map(ends), [1, 1, 1], "another label, nobody, another name: a series ends");
    println!("on time within {slack} ms");
}
