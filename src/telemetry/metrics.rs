//! Our own counters: plain atomics that anybody may count up, written out at a scrape of ourselves.

use crate::config::build;
use exposition::{Builder, Desc};
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that we count about ourselves.
#[derive(Debug, Default)]
pub struct Metrics {
    /// `/scrape` requests answered 400.
    pub bad_requests: Counter,
    /// `/scrape` requests answered 403.
    pub denied: Counter,
    /// Requests turned away because too many were under way.
    pub overloaded: Counter,
    /// Requests whose user or password was wrong.
    pub unauthorized: Counter,
    /// Panics that cost one collection and not the process.
    pub panics: Counter,
}

static BUILD: Desc = Desc::gauge("redvigil_build_info", "Version and commit of this exporter; always 1.")
    .labels(&["version", "commit"]);
static DENIED: Desc =
    Desc::counter("redvigil_scrape_denied_total", "Requests for targets that --scrape.allow does not admit.");
static OVERLOADED: Desc = Desc::counter(
    "redvigil_requests_overloaded_total",
    "HTTP requests turned away because too many were under way.",
);
static UNAUTHORIZED: Desc =
    Desc::counter("redvigil_requests_unauthorized_total", "HTTP requests with a wrong user or password.");
static PANICS: Desc =
    Desc::counter("redvigil_panics_total", "Faults of our own that cost one collection and not the process.");

static EXPORTER_BUILD: Desc =
    Desc::gauge("redis_exporter_build_info", "Version, commit, day and compiler of this exporter; always 1.")
        .labels(&["version", "commit_sha", "build_date", "golang_version"]);

/// Records which build this is, in the family that users of the peer know. There is no Go here: the label
/// of that name says which Rust compiler.
pub fn record_build(out: &mut Builder) {
    let family = out.family(&EXPORTER_BUILD);
    out.sample(
        family,
        &[build::VERSION, build::COMMIT, build::DATE, &format!("rustc {}", build::RUSTC)],
        1.0,
    );
}

impl Metrics {
    /// Records all of it.
    pub fn record(&self, out: &mut Builder) {
        let family = out.family(&BUILD);
        out.sample(family, &[build::VERSION, build::COMMIT], 1.0);
        for (desc, counter) in [
            (&DENIED, &self.denied),
            (&OVERLOADED, &self.overloaded),
            (&UNAUTHORIZED, &self.unauthorized),
            (&PANICS, &self.panics),
        ] {
            out.push(desc, counter.get() as f64);
        }
    }
}
