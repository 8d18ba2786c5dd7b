//! The outcome of a collection as metric families: what a scrape says of itself.

use crate::collect::Snapshot;
use crate::collect::snapshot::Progress;
use exposition::{Builder, Desc};
use std::time::Duration;

/// What a requester gets.
#[derive(Clone)]
pub struct Outcome {
    /// What the collection made, as far as it came.
    pub snapshot: Snapshot,
    /// All collections of this target so far.
    pub totals: Totals,
    /// Whether this is what was known before: the breaker let no collection through.
    pub from_breaker: bool,
}

/// All collections of one target so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// How many.
    pub(super) collections: u64,
    seconds: f64,
}

impl Totals {
    /// One more collection, and how long it took.
    pub fn add(&mut self, took: Duration) {
        self.collections += 1;
        self.seconds += took.as_secs_f64();
    }
}

static UP: Desc = Desc::gauge("redis_up", "Whether this collection could read INFO from the server.");
static ERROR: Desc = Desc::gauge(
    "redis_exporter_last_scrape_error",
    "Whether something went wrong in this collection; err says what kind of thing, and is empty when all is well.",
)
.labels(&["err"]);
static CONNECT: Desc = Desc::gauge(
    "redis_exporter_last_scrape_connect_time_seconds",
    "Time until there was a connection, login included, in seconds; 0 when an open one was used again.",
);
static PING: Desc =
    Desc::gauge("redis_exporter_last_scrape_ping_time_seconds", "Time until PING was answered, in seconds.");
static LAST_DURATION: Desc =
    Desc::gauge("redis_exporter_last_scrape_duration_seconds", "How long this collection took, in seconds.");
static SCRAPES: Desc =
    Desc::counter("redis_exporter_scrapes_total", "Collections of this target since the exporter started.");
static DURATION: Desc = Desc::summary(
    "redis_exporter_scrape_duration_seconds",
    "How long the collections of this target took, in seconds.",
);
static COLLECTOR: Desc = Desc::gauge(
    "redvigil_collector_success",
    "Whether the collector could read everything in this collection.",
)
.labels(&["collector"]);

/// Every family of this file.
pub fn descs() -> [&'static Desc; 8] {
    [&UP, &ERROR, &CONNECT, &PING, &LAST_DURATION, &SCRAPES, &DURATION, &COLLECTOR]
}

impl Outcome {
    /// Records what this collection says of itself. `role_label`: with the role of the server, as redis_exporter
    /// has it, on what says how the server is, and not on what is about the exporter. `own`: the families
    /// that are ours, too.
    pub fn record(&self, role_label: bool, own: bool, out: &mut Builder) {
        let snapshot = &self.snapshot;
        let role = [("instance_role", snapshot.role.as_str())];
        let role = if role_label { &role[..] } else { &[] };
        let (up, error, duration) = (out.family(&UP), out.family(&ERROR), out.family(&LAST_DURATION));
        out.sample_with(up, role, f64::from(u8::from(snapshot.up)));
        let (kind, value) = snapshot.error.as_ref().map_or(("", 0.0), |(kind, _)| (kind.as_str(), 1.0));
        out.sample_with(error, &[&[("err", kind)], role].concat(), value);
        out.sample_with(duration, role, snapshot.duration.unwrap_or_default().as_secs_f64());
        out.push(&CONNECT, snapshot.connect.unwrap_or_default().as_secs_f64());
        if let Some(ping) = snapshot.ping {
            out.push(&PING, ping.as_secs_f64());
        }
        self.totals.record(out);
        if own {
            let family = out.family(&COLLECTOR);
            for (name, progress) in &snapshot.collectors {
                out.sample(family, &[name], f64::from(u8::from(*progress == Progress::Done)));
            }
        }
    }
}

impl Totals {
    /// Records the counters, also where no target is configured.
    pub fn record(&self, out: &mut Builder) {
        out.push(&SCRAPES, self.collections as f64);
        let duration = out.family(&DURATION);
        out.distribution(duration, &[], [], self.seconds, self.collections);
    }
}
