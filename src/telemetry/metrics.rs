//! Our own counters: plain atomics that anybody may count up, written out at a scrape of ourselves.

use crate::config::build;
use exposition::{Builder, Desc};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

/// Something that is so, or not.
#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    /// Says how it is now, and returns how it was.
    pub fn swap(&self, now: bool) -> bool {
        self.0.swap(now, Ordering::Relaxed)
    }

    /// How it is.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that is set: whole, or of seconds.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Says what it is now.
    pub fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What asked for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The start of the process.
    Start,
    /// SIGHUP.
    Signal,
    /// `/-/reload`.
    Request,
    /// The file changed.
    File,
    /// The remote document changed.
    Remote,
    /// A file changed that a document or flag names.
    Named,
    /// `PATCH /api/v1/runtime`.
    Runtime,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Start, Self::Signal, Self::Request, Self::File, Self::Remote, Self::Named, Self::Runtime];

    /// Whether somebody asked, and did not just write.
    pub const fn is_asked(self) -> bool {
        matches!(self, Self::Signal | Self::Request)
    }

    /// Its word: the label `source`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Signal => "signal",
            Self::Request => "request",
            Self::File => "file",
            Self::Remote => "remote",
            Self::Named => "named_file",
            Self::Runtime => "runtime",
        }
    }
}

/// What came of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Something is new.
    Applied,
    /// Nothing is.
    Unchanged,
    /// What ran before goes on.
    Failed,
}

impl Reload {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Applied, Self::Unchanged, Self::Failed];

    /// Its word: the label `outcome`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
        }
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
    /// Requests turned away because of the rate limit.
    pub limited: Counter,
    /// Connections closed to make room for others.
    pub crowded_out: Counter,
    /// Connections closed because their client was too slow.
    pub too_slow: Counter,
    /// Reloads that failed.
    pub reload_failures: Counter,
    /// Whether the last reload failed.
    pub reload_failed: Flag,
    /// Reloads by cause and outcome, in the order of [`Cause::ALL`] and [`Reload::ALL`].
    pub reloads: [[Counter; Reload::ALL.len()]; Cause::ALL.len()],
    /// When the configuration was taken that runs: milliseconds since 1970.
    pub config_since: Gauge,
    /// The hash of the configuration that runs.
    pub config_hash: Gauge,
    /// How many settings are said for the moment.
    pub config_overrides: Gauge,
    /// Whether the web config file or the certificates that are there now cannot be used.
    pub web_reload_failed: Flag,
    /// Rounds that were not begun because the fence was closed.
    pub fenced: Counter,
    /// Times that the file of `registry.file_sd` could not be written.
    pub file_sd_failures: Counter,
    /// Panics that cost one collection or connection and not the process.
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
static LIMITED: Desc = Desc::counter(
    "redvigil_requests_limited_total",
    "HTTP requests turned away because of the rate limit of the web config file.",
);
static CROWDED_OUT: Desc = Desc::counter(
    "redvigil_connections_crowded_out_total",
    "HTTP connections closed to make room for others: the oldest idle ones first.",
);
static TOO_SLOW: Desc = Desc::counter(
    "redvigil_connections_too_slow_total",
    "HTTP connections closed, and answers over HTTP/2 broken off, because the client was too slow.",
);
static RELOAD_FAILURES: Desc =
    Desc::counter("redvigil_config_reload_failures_total", "Reloads that failed; what ran before went on.");
static RELOADED: Desc = Desc::gauge(
    "redvigil_config_last_reload_successful",
    "Whether the last reload succeeded; 1 where there was none.",
);
static RELOADS: Desc =
    Desc::counter("redvigil_config_reloads_total", "Reloads by what asked for them and what came of them.")
        .labels(&["source", "outcome"]);
static CONFIG_SINCE: Desc = Desc::gauge(
    "redvigil_config_last_reload_success_timestamp_seconds",
    "When the configuration was read last without a failure; the start counts.",
);
static CONFIG_INFO: Desc = Desc::gauge(
    "redvigil_config_info",
    "The hash of the configuration that runs, the same for two exporters that do the same; always 1.",
)
.labels(&["hash"]);
static CONFIG_OVERRIDES: Desc =
    Desc::gauge("redvigil_config_overrides", "Settings that were said for the moment, by /api/v1/runtime.");
static WEB_RELOADED: Desc = Desc::gauge(
    "redvigil_web_config_last_reload_successful",
    "Whether the web config file and the certificates that are there now are in use.",
);
static PANICS: Desc = Desc::counter(
    "redvigil_panics_total",
    "Faults of our own that cost one collection or connection and not the process.",
);
static FENCED: Desc = Desc::counter(
    "redvigil_peers_fenced_rounds_total",
    "Rounds that were due and not begun, because what is ours could have been somebody else's by then.",
);
static FILE_SD_FAILURES: Desc = Desc::counter(
    "redvigil_peers_file_sd_failures_total",
    "Times that the file of registry.file_sd could not be written.",
);
static BAD_REQUESTS: Desc = Desc::counter(
    "redis_target_scrape_request_errors_total",
    "Requests to /scrape that could not be understood.",
);

static EXPORTER_BUILD: Desc =
    Desc::gauge("redis_exporter_build_info", "Version, commit, day and compiler of this exporter; always 1.")
        .labels(&["version", "commit_sha", "build_date", "golang_version"]);

/// Every family of this file.
pub fn descs() -> [&'static Desc; 19] {
    [
        &BUILD,
        &DENIED,
        &OVERLOADED,
        &UNAUTHORIZED,
        &LIMITED,
        &CROWDED_OUT,
        &TOO_SLOW,
        &RELOAD_FAILURES,
        &RELOADED,
        &RELOADS,
        &CONFIG_SINCE,
        &CONFIG_INFO,
        &CONFIG_OVERRIDES,
        &WEB_RELOADED,
        &PANICS,
        &FENCED,
        &FILE_SD_FAILURES,
        &BAD_REQUESTS,
        &EXPORTER_BUILD,
    ]
}

/// Records what is counted where there are peers.
pub fn record_peers(metrics: &Metrics, out: &mut Builder) {
    out.push(&FENCED, metrics.fenced.get() as f64);
    out.push(&FILE_SD_FAILURES, metrics.file_sd_failures.get() as f64);
}

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
    /// A reload came to an end.
    pub fn reloaded(&self, cause: Cause, outcome: Reload) {
        self.reloads[cause as usize][outcome as usize].increment();
    }

    /// Records all of it.
    pub fn record(&self, out: &mut Builder) {
        let family = out.family(&BUILD);
        out.sample(family, &[build::VERSION, build::COMMIT], 1.0);
        for (desc, counter) in [
            (&DENIED, &self.denied),
            (&OVERLOADED, &self.overloaded),
            (&UNAUTHORIZED, &self.unauthorized),
            (&LIMITED, &self.limited),
            (&CROWDED_OUT, &self.crowded_out),
            (&TOO_SLOW, &self.too_slow),
            (&RELOAD_FAILURES, &self.reload_failures),
            (&PANICS, &self.panics),
        ] {
            out.push(desc, counter.get() as f64);
        }
        let family = out.family(&RELOADS);
        for (cause, counters) in Cause::ALL.into_iter().zip(&self.reloads) {
            for (outcome, counter) in Reload::ALL.into_iter().zip(counters) {
                // Most never happen.
                if counter.get() > 0 {
                    out.sample(family, &[cause.word(), outcome.word()], counter.get() as f64);
                }
            }
        }
        out.push(&CONFIG_SINCE, self.config_since.get() as f64 / 1000.0);
        let family = out.family(&CONFIG_INFO);
        out.sample(family, &[&format!("{:016x}", self.config_hash.get())], 1.0);
        out.push(&CONFIG_OVERRIDES, self.config_overrides.get() as f64);
        for (desc, failed) in [(&RELOADED, &self.reload_failed), (&WEB_RELOADED, &self.web_reload_failed)] {
            out.push(desc, f64::from(u8::from(!failed.get())));
        }
    }
}

/// Records how many `/scrape` requests were wrong: on the page of such a request always 0, as in the peer,
/// where each of them has counters of its own.
pub fn record_bad_requests(count: u64, out: &mut Builder) {
    out.push(&BAD_REQUESTS, count as f64);
}
