//! Delivery, shown from outside: numbered targets, our whole process, and receivers that come and go.
//!
//! An oracle says what must have arrived: every number that a target handed out, once, in order, unless it was handed out
//! in the moment before our process was ended. One file a story:
//!
//! - [`stores`]: real receivers, asked afterwards sample by sample
//! - `otlp`: the same by OTLP
//! - `kills`: our process is killed again and again while the receiver comes and goes
//! - `disk`: a file system that is really full
//! - `refusals`: an expired token, a poisoned sample
//! - `memory`: what a long outage costs
//!
//! What a newcomer would get wrong: `accepted` is not `handed out`. A collection is accepted when its record is
//! written, a moment after the target answered.

mod disk;
mod kills;
mod memory;
mod oracle;
mod otlp;
mod refusals;
mod stores;

use oracle::{CUT_OFF, Count, Cut, UNACCEPTED};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testbed::{Exporter, Numbered, http, wait_until};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long an end in good order may take, the last attempt to send included.
const GRACE: Duration = Duration::from_secs(10);
/// The series whose values are the numbers.
const NUMBERS: &str = "redis_commands_processed_total";
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

/// Our exporter with an output, and the targets that it watches. It can be ended and started again.
struct Push {
    targets: Vec<Numbered>,
    folder: tempfile::TempDir,
    state: PathBuf,
    exporter: Option<Exporter>,
    cuts: Vec<Cut>,
}

/// How our exporter is set up, as far as a test cares.
struct Setup<'a> {
    /// How many targets.
    targets: usize,
    /// Whether they say little beside their numbers.
    small: bool,
    /// `global.scrape_interval`, in milliseconds.
    interval: u64,
    /// The destination: `remote_write: { … }`, and further keys of the output.
    output: &'a str,
    /// The keys of `queue`.
    queue: &'a str,
}

impl Setup<'_> {
    /// Starts it.
    fn start(self) -> Push {
        let mut push = self.prepare();
        push.start();
        push
    }

    /// Everything but our exporter.
    fn prepare(self) -> Push {
        let folder = tempfile::tempdir().expect("a folder");
        let target = if self.small { Numbered::start_small } else { Numbered::start };
        let targets = (0..self.targets).map(|_| target()).collect();
        let document = format!(
            "global: {{ scrape_interval: {0}ms, scrape_timeout: {0}ms }}\n\
             services:\n- name: numbers\n  file_sd: {{ files: [targets.json] }}\n\
             outputs:\n- name: out\n  {1}\n  queue: {{ {2} }}\n  external_labels: {{ cluster: c1 }}\n",
            self.interval, self.output, self.queue
        );
        std::fs::write(folder.path().join("redvigil.yaml"), document).expect("written");
        let state = folder.path().join("state");
        let push = Push { targets, folder, state, exporter: None, cuts: Vec::new() };
        push.list(0);
        push
    }
}

/// An output that speaks remote write, as `remote_write: { … }`.
fn remote_write(url: &str, version: &str) -> String {
    format!("remote_write: {{ url: \"{url}\", version: \"{version}\" }}")
}

impl Push {
    /// Lists the targets but for so many, as members.
    fn list(&self, but: usize) {
        let targets = self.targets[but..].iter().map(|target| format!("\"{}\"", target.address()));
        let targets = targets.collect::<Vec<_>>().join(",");
        let file = self.folder.path().join("targets.json");
        std::fs::write(file, format!("[{{\"targets\":[{targets}]}}]")).expect("written");
    }

    /// Takes the first target from the list; which that was.
    fn leave(&self) -> String {
        self.list(1);
        self.targets[0].address()
    }

    /// Starts our exporter, or starts it again.
    fn start(&mut self) {
        assert!(self.exporter.is_none(), "it runs");
        self.exporter = Some(crate::exporter(&self.arguments()).start());
    }

    fn arguments(&self) -> [String; 2] {
        [
            format!("--config.file={}", self.folder.path().join("redvigil.yaml").display()),
            format!("--storage.path={}", self.state.display()),
        ]
    }

    fn exporter(&self) -> &Exporter {
        self.exporter.as_ref().expect("it runs")
    }

    /// Ends it as a crash would.
    fn kill(&mut self) {
        let before = now();
        self.exporter.take().expect("it runs").process().kill();
        self.cuts.push(Cut { before, after: now(), excused: UNACCEPTED });
    }

    /// Ends it in good order; panics where that takes long or does not end well.
    fn stop(&mut self) {
        let before = now();
        let mut exporter = self.exporter.take().expect("it runs");
        let status = exporter.process().stop_within(GRACE);
        self.cuts.push(Cut { before, after: now(), excused: CUT_OFF });
        assert!(status.success(), "{status} after {} ms: {}", now() - before, exporter.stderr());
    }

    /// Ends it for good: what it could not send any more in its last moments waits on the disk, so it is started once more
    /// to send that, with nobody to collect.
    fn finish(&mut self) {
        self.stop();
        self.list(self.targets.len());
        self.start();
        self.drain();
        self.stop();
    }

    /// What it says of its output's samples now, on `/-/metrics`. The equation has to hold.
    fn count(&self) -> Count {
        Count::read(self.exporter().get("/-/metrics", &[]).text())
    }

    /// The output, as `/api/v1/outputs` has it.
    fn output(&self) -> Value {
        let response = self.exporter().get("/api/v1/outputs", &[]);
        let answer: Value = serde_json::from_str(response.text()).expect("JSON");
        answer["outputs"][0].clone()
    }

    /// What the output does: `live`, `degraded` …
    fn state(&self) -> String {
        self.output()["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until each target has handed out so many numbers more than now.
    fn collect(&self, more: u64) {
        let wanted: Vec<u64> = self.targets.iter().map(|target| target.count() + more).collect();
        wait_until(&format!("{more} more collections of each target"), PATIENCE, || {
            self.targets.iter().zip(&wanted).all(|(target, wanted)| target.count() >= *wanted)
        });
    }

    /// Waits until all that is older than this call was delivered or dropped.
    fn drain(&self) {
        let from = self.count();
        let wanted = from.recovered + from.accepted;
        let started = Instant::now();
        loop {
            let count = self.count();
            if count.delivered + count.dropped_in_all() >= wanted {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "it does not drain: {}", self.output());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Compares what a receiver has with what was handed out; panics unless nothing is missing, twice or out of order.
    fn compare(&self, found: &oracle::Found) -> oracle::Verdict {
        oracle::compare(&self.targets, found, &self.cuts)
    }
}

/// Asks a page again and again, from another thread: it has to answer 200 each time, and the equation has to hold.
struct Scraper {
    end: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<Vec<Count>>,
}

impl Scraper {
    /// Begins to ask this exporter.
    fn start(push: &Push) -> Self {
        let end = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (over, port) = (end.clone(), push.exporter().port());
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                for path in ["/metrics", "/-/metrics"] {
                    let request = http::Request::get(path, &[]);
                    let answer = http::send(port, None, request, PATIENCE);
                    let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
                    assert_eq!(answer.status, 200, "{path}");
                    seen.push(Count::read(answer.text()));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            seen
        });
        Self { end, thread }
    }

    /// Ends asking; all that was seen.
    fn finish(self) -> Vec<Count> {
        self.end.store(true, std::sync::atomic::Ordering::Relaxed);
        let seen = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(!seen.is_empty(), "nobody asked");
        seen
    }
}
