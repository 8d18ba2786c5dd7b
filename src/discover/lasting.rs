//! A state that is told once it has lasted, and once it is over: what comes and goes between two answers is no
//! news.

use std::time::{Duration, Instant};

/// Such a state.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lasting {
    since: Option<Instant>,
    is_told: bool,
}

impl Lasting {
    /// Whether it was told, and is not over.
    pub(super) fn is_told(&self) -> bool {
        self.is_told
    }

    /// `Some(true)`: it has lasted for `patience` and is to be told; `Some(false)`: what was told is over.
    pub(super) fn turn(&mut self, is_so: bool, now: Instant, patience: Duration) -> Option<bool> {
        if !is_so {
            return std::mem::take(self).is_told.then_some(false);
        }
        let since = *self.since.get_or_insert(now);
        let tells = !self.is_told && now.saturating_duration_since(since) >= patience;
        self.is_told |= tells;
        tells.then_some(true)
    }
}
