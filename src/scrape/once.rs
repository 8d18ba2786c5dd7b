//! One collection on demand, shared by all who ask for the same at the same time.
//!
//! Whoever asks first starts the collection and sets its deadline; whoever comes while it runs gets the
//! same. Nobody waits longer than its own deadline: then it takes the families that are finished. A collection
//! for which nobody waits any more is given up, so that there are never more than there are requests.

use super::shape::Outcome;
use super::target::{IDLE, Job, Target, Targets};
use super::worker::Worker;
use crate::collect::Snapshot;
use crate::collect::run::Buffers;
use crate::config::Config;
use crate::connect::{Deadline, Kind};
use crate::net::tls;
use crate::telemetry::Metrics;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, error};

/// How long after a collection's deadline its requester still waits: the last words of a collection that
/// ran out of time say why.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Collections that wait to be started. Full means that the loop is far behind: callers then wait, within
/// their deadline.
const WAITING: usize = 256;

/// Buffers that are kept while no collection needs them.
const SPARE_BUFFERS: usize = 2;

/// A request for a collection.
pub struct Wanted {
    /// Who is asked for what.
    pub job: Job,
    /// When the caller must have its answer. Silence of the server is bounded by the connection time-out.
    pub end: Instant,
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
    targets: Targets,
    /// For the next collection, of whatever target.
    buffers: Mutex<Vec<Buffers>>,
}

/// A collection to be started by the loop.
struct Start {
    job: Job,
    target: Arc<Target>,
    deadline: Deadline,
    snapshot: Arc<watch::Sender<Snapshot>>,
}

/// A scraper for the configuration that runs, and its loop.
pub fn scraper(
    config: watch::Receiver<Arc<Config>>,
    clients: Arc<tls::Clients>,
    metrics: Arc<Metrics>,
) -> (Scraper, Collections) {
    let (start, starts) = mpsc::channel(WAITING);
    let shared = Shared { config, clients, metrics, targets: Targets::default(), buffers: Mutex::default() };
    let shared = Arc::new(shared);
    (Scraper { shared: shared.clone(), start }, Collections { shared, starts })
}

impl Scraper {
    /// Collects, or joins a collection of the same that is under way. Answers before `wanted.end`, or
    /// shortly after it with what is finished.
    pub async fn collect(&self, wanted: Wanted) -> Outcome {
        let begin = Instant::now();
        let Wanted { job, end } = wanted;
        let target = self.shared.targets.get(&job.place);
        let attempt = async {
            let mut ended_early = false;
            loop {
                let snapshot = self.attempt(&target, &job, end).await;
                // Whoever joins in the very moment in which the others leave finds the collection given up.
                if snapshot.is_complete() || ended_early || Instant::now() >= end {
                    return snapshot;
                }
                ended_early = true;
            }
        };
        let mut snapshot = attempt.await;
        if !snapshot.is_complete() && snapshot.error.is_none() {
            snapshot.error = Some(match Instant::now() < end {
                true => (Kind::Internal, "the collection ended before its time: see the log".into()),
                false => (Kind::Timeout, format!("{} did not answer in time", job.place.address)),
            });
        }
        snapshot.duration.get_or_insert_with(|| begin.elapsed());
        snapshot.role = target.role(Some(snapshot.role.as_str()).filter(|_| snapshot.up));
        Outcome { snapshot, totals: target.totals() }
    }

    /// The snapshot of one collection, as far as it came by `end`.
    async fn attempt(&self, target: &Arc<Target>, job: &Job, end: Instant) -> Snapshot {
        let mut seat = target.seat(&job.keys);
        let finish = async {
            if let Some(snapshot) = seat.to_start.take() {
                let deadline = Deadline::new(end, self.shared.config.borrow().connect.timeout);
                let start = Start { job: job.clone(), target: target.clone(), deadline, snapshot };
                // An error means that the loop has ended: we are stopping, and the sender is gone.
                let _ = self.start.send(start).await;
            }
            let _ = seat.snapshot.wait_for(Snapshot::is_complete).await;
        };
        let _ = timeout_at(end + LAST_WORDS, finish).await;
        seat.snapshot.borrow().clone()
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
                _ = sweep.tick() => self.shared.targets.sweep(),
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
}

async fn collect(shared: Arc<Shared>, start: Start) {
    let Start { job, target, deadline, snapshot } = start;
    let begin = Instant::now();
    let config = shared.config.borrow().clone();
    let worker = Worker {
        place: &job.place,
        connect: &config.connect,
        collect: &config.collect,
        allow: &config.scrape.allow,
        clients: &shared.clients,
    };
    let mut lent = target.lend();
    let mut buffers = shared.borrow_buffers();
    let is_finished = tokio::select! {
        () = worker.run(&job.keys, &mut lent, &mut buffers, deadline, &snapshot) => true,
        () = snapshot.closed() => false,
    };
    target.take_back(lent);
    shared.return_buffers(buffers);
    if !is_finished {
        debug!(target = %job.place.address, "collection given up: nobody waits for it any more");
        return;
    }
    // Before the end is published: who waits for it reads the totals next.
    target.count(&job.place.address, begin.elapsed(), &snapshot.borrow());
    snapshot.send_modify(|s| s.duration = Some(begin.elapsed()));
}

impl Shared {
    fn borrow_buffers(&self) -> Buffers {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn return_buffers(&self, mut buffers: Buffers) {
        buffers.shrink();
        let mut spare = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_BUFFERS {
            spare.push(buffers);
        }
    }
}
