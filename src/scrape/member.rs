//! What is known of a member beside what its server said: health, breaker, age.

use super::slot::View;
use crate::resilience::breaker;
use crate::resilience::health;
use exposition::{Builder, Desc};
use std::time::Instant;

static HEALTH: Desc = Desc::gauge(
    "redis_target_health",
    "1 for the state in which the target is, 0 for the others. It is down after three failures in a row, \
     unless configured otherwise.",
)
.labels(&["state"]);
static FAILURES: Desc =
    Desc::counter("redis_target_failures_total", "Collections that failed, by reason.").labels(&["reason"]);
static CONSECUTIVE: Desc = Desc::gauge(
    "redis_target_consecutive_failures",
    "Collections that failed since the last one that did not.",
);
static BREAKER: Desc = Desc::gauge(
    "redvigil_breaker_state",
    "1 for the state of the breaker of the target, 0 for the others: while it is open, nothing is sent.",
)
.labels(&["state"]);
static SKIPPED: Desc = Desc::counter(
    "redvigil_ticks_skipped_total",
    "Collections that were due and found no room: too many were under way.",
);
static AGE: Desc = Desc::gauge(
    "redvigil_snapshot_age_seconds",
    "How long ago the collection ended whose samples these are, in seconds.",
);
static KEYS_AGE: Desc = Desc::gauge(
    "redvigil_key_scan_age_seconds",
    "How long ago the scan ended whose key samples these are, in seconds; absent where there was none.",
);

static RUNNING: Desc = Desc::gauge("redvigil_collections_running", "Collections of members under way.");
static WAITING: Desc =
    Desc::gauge("redvigil_collections_waiting", "Collections of members that wait for room: the queue.");

/// Every family of this file.
pub fn descs() -> [&'static Desc; 9] {
    [&HEALTH, &FAILURES, &CONSECUTIVE, &BREAKER, &SKIPPED, &AGE, &KEYS_AGE, &RUNNING, &WAITING]
}

/// Records how full the pool is.
pub fn record_load(running: usize, waiting: usize, out: &mut Builder) {
    out.push(&RUNNING, running as f64);
    out.push(&WAITING, waiting as f64);
}

impl View {
    /// Records it. `own`: the families that are ours, too.
    pub fn record(&self, own: bool, now: Instant, out: &mut Builder) {
        let family = out.family(&HEALTH);
        for state in health::State::ALL {
            out.sample(family, &[state.as_str()], f64::from(u8::from(state == self.health)));
        }
        let family = out.family(&FAILURES);
        for (reason, count) in &self.failures {
            out.sample(family, &[reason], *count as f64);
        }
        out.push(&CONSECUTIVE, f64::from(self.consecutive));
        if !own {
            return;
        }
        let family = out.family(&BREAKER);
        for state in breaker::State::ALL {
            out.sample(family, &[state.as_str()], f64::from(u8::from(state == self.breaker)));
        }
        out.push(&SKIPPED, self.skipped as f64);
        let age = |taken| now.saturating_duration_since(taken).as_secs_f64();
        if let Some(latest) = &self.latest {
            out.push(&AGE, age(latest.taken));
        }
        if let Some(keys) = &self.keys {
            out.push(&KEYS_AGE, age(keys.taken));
        }
    }
}
