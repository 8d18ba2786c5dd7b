//! Our own counters: plain atomics that anybody may count up, written out at a scrape of ourselves.

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

/// The version that is running.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from, where that is known.
pub const COMMIT: &str = match option_env!("REDVIGIL_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

impl Metrics {
    /// Records all of it.
    pub fn record(&self, out: &mut Builder) {
        let build = out.family(&BUILD);
        out.sample(build, &[VERSION, COMMIT], 1.0);
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
