//! One collection on demand, shared by all who ask for the same at the same time.
//!
//! Whoever asks first starts the collection and sets its deadline; whoever comes while it runs gets the
//! same. Nobody waits longer than its own deadline: then it takes the families that are finished.

use super::shape::{Outcome, Totals};
use super::worker::{self, Job, Kept};
use crate::collect::Snapshot;
use crate::collect::run::Buffers;
use crate::config::Config;
use crate::connect::{Deadline, Kind};
use crate::net::tls;
use crate::telemetry::Metrics;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::error;

/// How long after a collection's deadline its requester still waits: the last words of a collection that
/// ran out of time say why.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// A target that nobody asked for in this time loses its connection and what is remembered of it.
const IDLE: Duration = Duration::from_secs(600);

/// Collections that wait to be started. Full means that the loop is far behind: callers then wait, within
/// their deadline.
const WAITING: usize = 256;

/// Buffers that are kept while no collection needs them.
const SPARE_BUFFERS: usize = 2;

/// A request for a collection.
pub struct Wanted {
    /// Who is asked for what.
    pub job: Job,
    /// When the caller must have its answer; without one, silence is bounded by the connection time-out.
    pub end: Option<Instant>,
}

/// The handle through which collections are asked for.
#[derive(Clone)]
pub struct Scraper {
    shared: Arc<Shared>,
    start: mpsc::Sender<Start>,
}

/// The loop that owns the collections under way. See [`Collections::run`].
pub struct Collections {
    shared: Arc<Shared>,
    starts: mpsc::Receiver<Start>,
}

struct Shared {
    config: watch::Receiver<Arc<Config>>,
    clients: Arc<tls::Clients>,
    metrics: Arc<Metrics>,
    targets: Mutex<HashMap<Job, Arc<Target>>>,
    /// For the next collection, of whatever target.
    buffers: Mutex<Vec<Buffers>>,
}

#[derive(Default)]
struct Target {
    state: Mutex<TargetState>,
    /// Held by the collection under way.
    kept: tokio::sync::Mutex<Kept>,
}

#[derive(Default)]
struct TargetState {
    under_way: Option<watch::Receiver<Snapshot>>,
    used: Option<Instant>,
    totals: Totals,
}

/// A collection to be started by the loop.
struct Start {
    job: Job,
    target: Arc<Target>,
    deadline: Deadline,
    snapshot: watch::Sender<Snapshot>,
}

/// A scraper for the configuration that runs, and its loop.
pub fn scraper(config: watch::Receiver<Arc<Config>>, metrics: Arc<Metrics>) -> (Scraper, Collections) {
    let (start, starts) = mpsc::channel(WAITING);
    let shared = Arc::new(Shared {
        config,
        clients: Arc::default(),
        metrics,
        targets: Mutex::default(),
        buffers: Mutex::default(),
    });
    (Scraper { shared: shared.clone(), start }, Collections { shared, starts })
}

/// No lock here is held while anything can panic, so a poisoned one holds good data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Scraper {
    /// Collects, or joins a collection of the same that is under way. Answers before `wanted.end`, or
    /// shortly after it with what is finished.
    pub async fn collect(&self, wanted: Wanted) -> Outcome {
        let begin = Instant::now();
        let silence = self.shared.config.borrow().connect.timeout;
        let deadline = Deadline::new(wanted.end, silence);
        let target = lock(&self.shared.targets).entry(wanted.job.clone()).or_default().clone();
        let (mut snapshot, start) = {
            let mut state = lock(&target.state);
            state.used = Some(Instant::now());
            match state.under_way.as_ref().filter(|s| s.has_changed().is_ok() && !s.borrow().is_complete()) {
                Some(under_way) => (under_way.clone(), None),
                None => {
                    let (sender, receiver) = watch::channel(Snapshot::default());
                    state.under_way = Some(receiver.clone());
                    let job = wanted.job.clone();
                    (receiver, Some(Start { job, target: target.clone(), deadline, snapshot: sender }))
                }
            }
        };
        let finish = async {
            if let Some(start) = start {
                // An error means that the loop has ended: we are stopping, and the sender is gone.
                let _ = self.start.send(start).await;
            }
            let _ = snapshot.wait_for(Snapshot::is_complete).await;
        };
        match wanted.end {
            None => finish.await,
            Some(end) => {
                tokio::select! {
                    () = finish => {}
                    () = sleep_until(end + LAST_WORDS) => {}
                }
            }
        }
        let mut snapshot = snapshot.borrow().clone();
        if !snapshot.is_complete() && snapshot.error.is_none() {
            let text = format!("{} did not answer in time", wanted.job.address);
            snapshot.error = Some((Kind::Timeout, text));
        }
        snapshot.duration.get_or_insert_with(|| begin.elapsed());
        let totals = lock(&target.state).totals;
        Outcome { snapshot, totals }
    }
}

impl Collections {
    /// Runs collections until every [`Scraper`] is gone, then finishes those under way. A panic in one
    /// of them is counted and costs that collection alone.
    pub async fn run(mut self) {
        let mut under_way = JoinSet::new();
        let mut sweep = tokio::time::interval(IDLE / 10);
        loop {
            tokio::select! {
                start = self.starts.recv() => match start {
                    Some(start) => drop(under_way.spawn(collect(self.shared.clone(), start))),
                    None => break,
                },
                Some(ended) = under_way.join_next() => self.note(ended),
                _ = sweep.tick() => self.sweep(),
            }
        }
        while let Some(ended) = under_way.join_next().await {
            self.note(ended);
        }
    }

    fn note(&self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(fault) = ended {
            self.shared.metrics.panics.increment();
            error!(error = %fault, "a collection panicked: please report this");
        }
    }

    /// Forgets targets that nobody asks for any more.
    fn sweep(&self) {
        lock(&self.shared.targets).retain(|_, target| {
            let state = lock(&target.state);
            let busy = state.under_way.as_ref().is_some_and(|s| !s.borrow().is_complete());
            busy || state.used.is_some_and(|used| used.elapsed() < IDLE)
        });
    }
}

async fn collect(shared: Arc<Shared>, start: Start) {
    let Start { job, target, deadline, snapshot } = start;
    let config = shared.config.borrow().clone();
    let mut kept = target.kept.lock().await;
    let mut buffers = lock(&shared.buffers).pop().unwrap_or_default();
    let took = worker::collect(
        &job,
        &mut kept,
        &mut buffers,
        (&config.collect, &config.connect),
        &shared.clients,
        deadline,
        &snapshot,
    )
    .await;
    let mut spare = lock(&shared.buffers);
    if spare.len() < SPARE_BUFFERS {
        buffers.shrink();
        spare.push(buffers);
    }
    drop(spare);
    let mut state = lock(&target.state);
    // Before the end is published: who waits for it reads the totals next.
    state.totals.add(took);
    snapshot.send_modify(|s| s.duration = Some(took));
    // Whoever waits has a receiver of its own; nobody else may keep the families alive.
    state.under_way = None;
}
