//! How a reload ended: published, or told why not.

use super::load::Fresh;
use super::{Reloader, compare};
use crate::serve::reload::Report;
use crate::telemetry::events::Kind;
use crate::telemetry::log;
use crate::telemetry::metrics::{Cause, Reload};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tracing::{debug, error, info, warn};

impl Reloader {
    /// Publishes what is new. Which keys wait for the next start.
    pub(super) fn publish(&mut self, cause: Cause, fresh: Fresh, began: Instant) -> Vec<String> {
        let Fresh { config, warnings, hash, at_start, change } = fresh;
        let told: HashSet<_> = warnings.iter().map(ToString::to_string).collect();
        for warning in told.difference(&self.told) {
            warn!("{warning}");
        }
        self.told = told;
        let pending: Vec<_> = compare::differing(&self.at_start, &at_start);
        for key in pending.iter().filter(|key| !self.world.report.borrow().pending.contains(key)) {
            warn!(key, "changed, and takes effect at restart");
        }
        let latest = self.world.remote.as_ref().and_then(|remote| remote.borrow().latest.clone());
        // There may be a newer one by now, which nobody has looked at.
        let read = config.origin.as_ref().and_then(|origin| origin.texts.remote.clone());
        let remote = latest.filter(|latest| read.is_some_and(|read| read.text == latest.text));
        if config.telemetry.level != self.world.publish.borrow().telemetry.level {
            log::set_level(config.telemetry.level);
        }
        self.world.metrics.config_hash.set(hash);
        self.bury();
        self.replaced.push(self.world.publish.send_replace(Arc::new(config)));
        let took_ms = began.elapsed().as_millis() as u64;
        info!(cause = cause.word(), took_ms, "configuration published");
        if cause != Cause::Runtime {
            let message = format!("the configuration changed ({}): {change}", cause.word());
            self.world.events.push("", Kind::Config, None, None, message);
        }
        if let (Some(document), Some(kept)) = (remote, self.world.kept.clone()) {
            kept.want(document);
            drop(tokio::task::spawn_blocking(move || {
                if let Err(error) = kept.keep_wanted() {
                    warn!(error = %error, "the remote document cannot be kept for a start without its source");
                }
            }));
        }
        pending
    }

    /// Tells what is wrong, where it is something new.
    pub(super) fn failed(&mut self, cause: Cause, reason: String) {
        self.world.metrics.reload_failed.swap(true);
        self.world.metrics.reload_failures.increment();
        self.world.metrics.reloaded(cause, Reload::Failed);
        if self.told_failure.as_ref() == Some(&reason) {
            debug!(cause = cause.word(), error = reason, "reload failed as before");
        } else {
            error!(cause = cause.word(), error = reason, "reload failed: what ran before goes on");
            self.told_failure = Some(reason.clone());
        }
        let before = self.world.report.borrow().clone();
        let report = Report {
            at: SystemTime::now(),
            cause,
            outcome: Reload::Failed,
            reason: Some(reason),
            ..Report::clone(&before)
        };
        self.world.report.send_replace(Arc::new(report));
    }
}

/// Since 1970.
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
