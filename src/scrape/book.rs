//! The book of a service: what outlives every single collection of its members.

use super::service::ServiceTruth;
use exposition::{Builder, Desc};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is kept of a service.
#[derive(Default)]
pub struct Book {
    truth: Mutex<ServiceTruth>,
    durations: Mutex<[Durations; 2]>,
}

/// How long collections took.
#[derive(Clone, Copy, Default)]
struct Durations {
    /// Not cumulative; what is above the last bound is in the last place.
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

/// Upper bounds of the buckets in seconds.
const BOUNDS: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

static DURATION: Desc = Desc::histogram(
    "redvigil_collection_duration_seconds",
    "How long collections of members took, in seconds, by how they ended: ok or failed.",
)
.labels(&["outcome"]);

/// Every family of this file.
pub fn descs() -> [&'static Desc; 1] {
    [&DURATION]
}

impl Book {
    /// What the rounds say of the service.
    pub fn truth(&self) -> MutexGuard<'_, ServiceTruth> {
        // Readings of servers go through checked arithmetic: nothing panics while this lock is held.
        self.truth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a collection.
    pub(super) fn count(&self, is_ok: bool, took: Duration) {
        let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = took.as_secs_f64();
        let place = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        let durations = &mut durations[usize::from(!is_ok)];
        durations.counts[place] += 1;
        durations.sum += seconds;
    }

    /// Records how long collections took.
    pub fn record_durations(&self, out: &mut Builder) {
        let durations = *self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        let family = out.family(&DURATION);
        for (outcome, Durations { counts, sum }) in ["ok", "failed"].into_iter().zip(durations) {
            let cumulative = counts.iter().scan(0, |total, count| {
                *total += count;
                Some(*total as f64)
            });
            let count = counts.iter().sum();
            out.distribution(family, &[outcome], BOUNDS.into_iter().zip(cumulative), sum, count);
        }
    }
}
