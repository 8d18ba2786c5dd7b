//! How long after the Sentinels know of a failover do we: `failover EXPORTER [ROUNDS [JSON-FILE]]`.
//!
//! A master with two replicas and three Sentinels, all real, and the exporter that follows them. Each round replaces
//! the master, in turns planned (`SENTINEL FAILOVER`) and by a crash (SIGKILL). The clock starts when two of the
//! three Sentinels name the new master, which is asked every few milliseconds; it stops when `/api/v1/services` names
//! it, and when `/metrics` has a sample of it that says so. Times below zero mean that we knew before the majority.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testbed::{Exporter, Part, SentinelSet, http, wait_for};

/// The name of the service in our configuration.
const SERVICE: &str = "bench";
/// How long one failover may take, and what comes after it.
const LIMIT: Duration = Duration::from_secs(60);
/// How long the exporter is left alone between two questions about the service.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(2);
/// The same for its metrics, which are more work.
const BETWEEN_PAGES: Duration = Duration::from_millis(10);

/// How the master goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Planned,
    Crash,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Planned => "planned",
            Kind::Crash => "kill -9",
        }
    }
}

/// One failover, in milliseconds since the majority knew.
#[derive(Clone, Copy, Debug)]
struct Round {
    kind: Kind,
    /// From the trouble to the majority.
    sentinels: f64,
    services: f64,
    samples: f64,
    /// Whether a member was called down at any time.
    down: bool,
}

fn main() -> io::Result<ExitCode> {
    let mut args = env::args().skip(1);
    let Some(program) = args.next().map(PathBuf::from) else {
        writeln!(io::stderr(), "usage: failover EXPORTER [ROUNDS [JSON-FILE]]")?;
        return Ok(ExitCode::from(2));
    };
    let rounds = args.next().and_then(|word| word.parse().ok()).unwrap_or(5);
    let json = args.next();

    let mut set = SentinelSet::start(Part::Redis7);
    let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
    fs::write(&file, config(&set))?;
    let config = format!("--config.file={}", file.path().display());
    let exporter = Exporter::builder(program).args(&[config]).start();
    let mut all = Vec::new();
    for kind in (0..rounds).flat_map(|_| [Kind::Planned, Kind::Crash]) {
        let round = replace(&mut set, &exporter, kind);
        writeln!(
            io::stderr(),
            "{}: the Sentinels after {:.0} ms, services {:+.1} ms, samples {:+.1} ms",
            kind.name(),
            round.sentinels,
            round.services,
            round.samples
        )?;
        all.push(round);
    }
    write!(io::stdout(), "{}", table(&all))?;
    if let Some(json) = json {
        fs::write(json, as_json(&all))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn config(set: &SentinelSet) -> String {
    let addresses: Vec<String> =
        set.sentinels.iter().map(|sentinel| format!("\"{}\"", sentinel.address())).collect();
    format!(
        "services:\n  - name: {SERVICE}\n    sentinel: {{ master: {}, addresses: [{}] }}\n",
        SentinelSet::NAME,
        addresses.join(", ")
    )
}

/// Replaces the master once and brings everything back to how it was.
fn replace(set: &mut SentinelSet, exporter: &Exporter, kind: Kind) -> Round {
    set.wait_until_settled(LIMIT);
    let old = set.master_port();
    wait_for("the exporter to know the master and to find all well", LIMIT, || {
        let page = services(exporter);
        let is_well = page.matches("\"health\":\"ok\"").count() == 3;
        (master_in(&page) == Some(old) && is_well && masters_in(&metrics(exporter)) == [old]).then_some(())
    });
    let watch = set.watch();
    watch.wait_for(|port| port == old, LIMIT);
    let down = AtomicBool::new(false);
    let over = AtomicBool::new(false);
    let new = OnceLock::new();
    let (began, services_at, samples_at, known) = thread::scope(|scope| {
        let services_at = scope.spawn(|| {
            let mut found = None;
            // Goes on until all is over, to hear of members that are called down.
            while !over.load(Ordering::SeqCst) {
                let page = services(exporter);
                let now = Instant::now();
                down.fetch_or(page.contains("\"health\":\"down\""), Ordering::SeqCst);
                if found.is_none() && master_in(&page).is_some_and(|port| port != old) {
                    found = Some(now);
                }
                thread::sleep(BETWEEN_QUESTIONS);
            }
            found
        });
        let samples_at = scope.spawn(|| {
            let started = Instant::now();
            // At the beginning only the old one says that it is the master.
            let mut first = BTreeMap::new();
            while started.elapsed() < LIMIT {
                let page = metrics(exporter);
                let now = Instant::now();
                for port in masters_in(&page) {
                    first.entry(port).or_insert(now);
                }
                if let Some(found) = new.get().and_then(|new| first.get(new)) {
                    return Some(*found);
                }
                thread::sleep(BETWEEN_PAGES);
            }
            None
        });
        let began = Instant::now();
        match kind {
            Kind::Planned => set.failover(),
            Kind::Crash => drop(set.node(old).kill()),
        }
        let (port, known) = watch.wait_for(|port| port != old, LIMIT);
        new.get_or_init(|| port);
        let samples_at = samples_at.join().expect("no panic while asking for metrics");
        if samples_at.is_some() {
            thread::sleep(Duration::from_secs(1));
        }
        over.store(true, Ordering::SeqCst);
        let services_at = services_at.join().expect("no panic while asking for services");
        (began, services_at, samples_at, known)
    });
    if kind == Kind::Crash {
        set.node(old).restart();
    }
    Round {
        kind,
        sentinels: millis(began, Some(known)),
        services: millis(known, services_at),
        samples: millis(known, samples_at),
        down: down.load(Ordering::SeqCst),
    }
}

/// From one moment to another, which may come before it; not a number where it never came.
fn millis(from: Instant, to: Option<Instant>) -> f64 {
    to.map_or(f64::NAN, |to| {
        let after = to.saturating_duration_since(from).as_secs_f64();
        let before = from.saturating_duration_since(to).as_secs_f64();
        (after - before) * 1000.0
    })
}

/// A page of the exporter without white space; empty where it does not answer.
fn get(exporter: &Exporter, path: &str) -> String {
    let answer = http::send(exporter.port(), None, http::Request::get(path, &[]), Duration::from_secs(5));
    answer.map(|answer| String::from_utf8_lossy(&answer.body).into_owned()).unwrap_or_default()
}

fn services(exporter: &Exporter) -> String {
    get(exporter, "/api/v1/services").split_ascii_whitespace().collect()
}

/// The port of the master that the page names.
fn master_in(page: &str) -> Option<u16> {
    let (_, rest) = page.split_once("\"master\":\"")?;
    rest.split('"').next()?.rsplit(':').next()?.parse().ok()
}

fn metrics(exporter: &Exporter) -> String {
    get(exporter, &format!("/metrics?service={SERVICE}"))
}

/// The ports of the members that are masters by their own samples.
fn masters_in(page: &str) -> Vec<u16> {
    let is_one = |line: &&str| {
        line.starts_with("redis_member_role{") && line.contains("role=\"master\"") && line.ends_with(" 1")
    };
    let port = |line: &str| {
        let (_, rest) = line.split_once("instance=\"")?;
        rest.split('"').next()?.rsplit(':').next()?.parse().ok()
    };
    page.lines().filter(is_one).filter_map(port).collect()
}

/// Median and maximum; not a number where a value is missing.
fn summary(mut values: Vec<f64>) -> (f64, f64) {
    if values.is_empty() || values.iter().any(|value| value.is_nan()) {
        return (f64::NAN, f64::NAN);
    }
    values.sort_by(f64::total_cmp);
    let (low, high) = ((values.len() - 1) / 2, values.len() / 2);
    (f64::midpoint(values[low], values[high]), values[values.len() - 1])
}

fn of_kind(rounds: &[Round], kind: Kind, value: fn(&Round) -> f64) -> Vec<f64> {
    rounds.iter().filter(|round| round.kind == kind).map(value).collect()
}

/// What each row of the table measures.
type Row = (&'static str, fn(&Round) -> f64);

const ROWS: [Row; 4] = [
    ("trouble to majority", |round| round.sentinels),
    ("majority to /api/v1/services", |round| round.services),
    ("majority to its samples in /metrics", |round| round.samples),
    ("a member was called down (1: yes)", |round| f64::from(u8::from(round.down))),
];

fn table(rounds: &[Round]) -> String {
    let mut text =
        "\n## failover\n\n| ms | kind | rounds | median | max |\n|---|---|---|---|---|\n".to_owned();
    for kind in [Kind::Planned, Kind::Crash] {
        for (name, value) in ROWS {
            let values = of_kind(rounds, kind, value);
            let count = values.len();
            let (median, max) = summary(values);
            text += &format!("| {name} | {} | {count} | {median:.1} | {max:.1} |\n", kind.name());
        }
    }
    text
}

/// A missing value is `null`.
fn as_json(rounds: &[Round]) -> String {
    let number = |value: f64| if value.is_nan() { "null".to_owned() } else { format!("{:.3}", value) };
    let one = |round: &Round| {
        let values = [number(round.sentinels), number(round.services), number(round.samples)];
        format!(
            "{{\"kind\":\"{}\",\"sentinels_ms\":{},\"services_ms\":{},\"samples_ms\":{},\"down\":{}}}",
            round.kind.name(),
            values[0],
            values[1],
            values[2],
            round.down
        )
    };
    let all: Vec<String> = rounds.iter().map(one).collect();
    format!("{{\"rounds\":[\n{}\n]}}\n", all.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_master_is_read_from_the_page() {
        assert_eq!(master_in("{\"services\":[{\"master\":\"127.0.0.1:6379\",\"members\":[]}]}"), Some(6379));
        assert_eq!(master_in("{\"services\":[{\"master\":null,\"members\":[]}]}"), None);
        let page = "redis_member_role{service=\"bench\",instance=\"127.0.0.1:2\",role=\"master\"} 1\n";
        assert_eq!(masters_in(page), [2]);
        assert_eq!(masters_in(&page.replace(" 1\n", " 0\n")), [0_u16; 0]);
    }

    #[test]
    fn a_time_before_the_majority_is_negative_and_a_missing_one_no_number() {
        let now = Instant::now();
        let later = now + Duration::from_millis(5);
        assert_eq!((millis(now, Some(later)), millis(later, Some(now))), (5.0, -5.0));
        assert!(millis(now, None).is_nan() && summary(vec![1.0, f64::NAN]).1.is_nan());
        assert_eq!(summary(vec![3.0, 1.0, 2.0]), (2.0, 3.0));
        assert_eq!(summary(vec![4.0, 1.0, 2.0, 9.0]), (3.0, 9.0));
    }
}
