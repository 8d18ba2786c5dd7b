//! The only place where long tasks are started: by name, with a token that tells them to stop.
//!
//! A panic is counted and logged. A task that we cannot run without ends the process when it ends: half an
//! exporter that looks alive is worse than one that is started again.

use crate::telemetry::Metrics;
use anyhow::{Result, anyhow};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

/// The tasks that run.
pub struct Tasks {
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    /// What lets work in; ends by itself when told to stop and the work is done.
    inlets: JoinSet<()>,
    /// What the work stands on.
    others: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// None yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            stop: CancellationToken::new(),
            inlets: JoinSet::new(),
            others: JoinSet::new(),
            names: HashMap::new(),
        }
    }

    /// What tells the inlets to stop.
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task that must run until the inlets are closed; then it is dropped.
    pub fn start(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.others.spawn(task);
        self.names.insert(handle.id(), name);
        debug!(task = name, "started");
    }

    /// Starts a task that lets work in until its token says stop, and ends when the last work is done.
    pub fn start_inlet(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.inlets.spawn(task);
        self.names.insert(handle.id(), name);
        debug!(task = name, "started");
    }

    /// Waits for a task to end before the stop, which is a failure.
    pub async fn failed(&mut self) -> anyhow::Error {
        let ended = tokio::select! {
            Some(ended) = self.inlets.join_next_with_id() => ended,
            Some(ended) = self.others.join_next_with_id() => ended,
            // Without tasks there is nothing to wait for.
            else => std::future::pending().await,
        };
        anyhow!("the task `{}` ended", self.note(ended))
    }

    /// Tells the inlets to stop, and waits for them as long as is left of `grace`. What still runs then is dropped, and
    /// is the error. All else is dropped at the end.
    pub async fn stop(mut self, grace: Duration, spent: Duration) -> Result<()> {
        self.stop.cancel();
        let all = async {
            while let Some(ended) = self.inlets.join_next_with_id().await {
                self.note(ended);
            }
        };
        match tokio::time::timeout(grace.saturating_sub(spent), all).await {
            Ok(()) => Ok(()),
            Err(_) => Err(anyhow!("requests under way did not finish within {} s", grace.as_secs())),
        }
    }

    /// The name of a task that ended.
    fn note(&mut self, ended: std::result::Result<(Id, ()), JoinError>) -> &'static str {
        let (id, panic) = match ended {
            Ok((id, ())) => (id, None),
            Err(fault) => (fault.id(), Some(fault)),
        };
        let name = self.names.remove(&id).unwrap_or("unknown");
        if let Some(fault) = panic {
            self.metrics.panics.increment();
            error!(task = name, error = %fault, "a task panicked: please report this");
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_or_panics_is_told_by_name() {
        let metrics = Arc::<Metrics>::default();
        let mut tasks = Tasks::new(metrics.clone());
        tasks.start("loop", std::future::pending());
        tasks.start("short", async {});
        assert_eq!(tasks.failed().await.to_string(), "the task `short` ended");
        tasks.start("faulty", async { panic!("on purpose") });
        assert_eq!(tasks.failed().await.to_string(), "the task `faulty` ended");
        assert_eq!(metrics.panics.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_the_willing_and_gives_up_the_others() {
        for (stubborn, expected) in [(false, true), (true, false)] {
            let mut tasks = Tasks::new(Arc::default());
            let stop = tasks.token();
            tasks.start("foundation", std::future::pending());
            tasks.start_inlet("task", async move {
                stop.cancelled().await;
                tokio::time::sleep(Duration::from_secs(if stubborn { 11 } else { 9 })).await;
            });
            assert_eq!(tasks.stop(Duration::from_secs(12), Duration::from_secs(2)).await.is_ok(), expected);
        }
    }
}
