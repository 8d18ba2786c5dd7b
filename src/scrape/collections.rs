//! Collections under way: each is run to its end here, or given up, and its member told how it went.
//!
//! What a newcomer would get wrong: not every end is an outcome. A collection for which nobody waits any more, and one
//! that had to make room while it was being answered, say nothing of the member (`Ended`).

use super::job::Job;
use super::shape::Outcome;
use super::slot::Slot;
use super::target::{IDLE, Target, Targets};
use super::worker::Worker;
use crate::collect::Snapshot;
use crate::collect::run::{Buffers, Scope};
use crate::config::Config;
use crate::connect::{Deadline, Kind};
use crate::net::tls;
use crate::resilience::permits::{Class, Permit, Permits};
use crate::telemetry::Metrics;
use crate::telemetry::events::Events;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error};

/// Buffers that are kept while no collection needs them.
const SPARE_BUFFERS: usize = 2;

/// When a collection counts as slow: it then shares its permits with those that may hang.
const SLOW: Duration = Duration::from_millis(500);

/// The loop that owns the collections under way.
pub struct Collections {
    pub(super) shared: Arc<Shared>,
    pub(super) starts: mpsc::Receiver<Start>,
}

/// What collections share with those who ask for them.
pub(super) struct Shared {
    pub config: watch::Receiver<Arc<Config>>,
    pub clients: Arc<tls::Clients>,
    pub metrics: Arc<Metrics>,
    pub targets: Targets,
    /// Room for collections of members.
    pub permits: Permits,
    pub events: Arc<Events>,
    /// For the next collection, of whatever target.
    pub buffers: Mutex<Vec<Buffers>>,
}

/// A collection to be started by the loop.
pub(super) struct Start {
    pub job: Job,
    pub target: Arc<Target>,
    pub deadline: Deadline,
    pub snapshot: Arc<watch::Sender<Snapshot>>,
    pub slot: Unheard,
    pub permit: Option<(Permit, Class)>,
}

impl Collections {
    /// Runs collections until every [`Scraper`](super::Scraper) is gone, then finishes those under way. A panic in one
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
    let Start { job, target, deadline, snapshot, slot, permit } = start;
    let begin = Instant::now();
    let config = shared.config.borrow().clone();
    let service = job.place.service.as_deref().and_then(|name| config.discover.service(name));
    let backoff = slot.0.as_ref().map_or_else(|| target.backoff(), |slot| slot.backoff());
    snapshot.send_modify(|s| s.began = true);
    let worker = Worker {
        place: &job.place,
        connect: &config.connect,
        collect: service.map_or(&config.collect, |service| &service.collect),
        allow: &config.scrape.allow,
        clients: &shared.clients,
        keys_per_second: Some(config.scrape.key_scans.keys_per_second),
        backoff,
    };
    let mut lent = target.lend();
    let mut buffers = shared.borrow_buffers();
    let ended = tokio::select! {
        () = worker.run(&job.keys, job.scope, &mut lent, &mut buffers, deadline, &snapshot) => Ended::Whole,
        () = snapshot.closed() => Ended::Unwanted,
        () = made_to_wait(permit.as_ref()) => Ended::Cut,
    };
    let was_answered = lent.was_answered_within(SLOW);
    target.take_back(lent);
    shared.return_buffers(buffers);
    match ended {
        Ended::Whole => {}
        Ended::Cut if was_answered => {
            debug!(target = %job.place.address, "collection given up: others needed its room");
            // As if there had been no room to begin with, for whoever waits and for the member.
            snapshot.send_modify(|s| (s.began, s.duration) = (false, Some(begin.elapsed())));
            return;
        }
        Ended::Cut => snapshot.send_modify(|s| {
            let reason = format!("{} was silent, and others needed the room", job.place.address);
            s.error.get_or_insert((Kind::Timeout, reason));
        }),
        Ended::Unwanted => {
            debug!(target = %job.place.address, "collection given up: nobody waits for it any more");
            return;
        }
    }
    drop(permit);
    // Before the end is published: who waits for it reads the totals next.
    let took = begin.elapsed();
    // A scan of keys is told of where it is wanted: it is no scrape of the target.
    if job.scope != Scope::KeysOnly {
        target.count(&job.place.address, took, &snapshot.borrow());
    }
    if let Some(slot) = slot.keep() {
        let mut snapshot = snapshot.borrow().clone();
        snapshot.duration = Some(took);
        snapshot.role = target.role(Some(snapshot.role.as_str()).filter(|_| snapshot.up));
        let outcome = Outcome { snapshot, totals: target.totals(), from_breaker: false };
        let room = (config.scrape.interval, fastrand::f64());
        slot.observe(outcome, &config.resilience, room, job.place.service.is_some(), &shared.events);
    }
    snapshot.send_modify(|s| s.duration = Some(took));
}

/// How a collection ended.
enum Ended {
    Whole,
    Unwanted,
    /// It had half a second or more, and had to make room. That is our lack of room, and says nothing of a server
    /// that was answering: no failure, no answer for its breaker, and nothing to show. One that has not answered a
    /// byte for [`SLOW`] has failed, whatever it was before. Else, where a thousand hang, each of them would be cut
    /// each time, and none ever be known to be down.
    Cut,
}

/// Ends when the holder of the permit was slow, and others need the room: for a target that was well, when the pool
/// picks it; for one that was not, as soon as others of its kind wait. Else it would take a thousand hung targets ten
/// minutes to be known to be down.
async fn made_to_wait(permit: Option<&(Permit, Class)>) {
    let Some((permit, class)) = permit else { return std::future::pending().await };
    tokio::time::sleep(SLOW).await;
    permit.move_to_slow();
    while *class == Class::Prompt || !permit.is_awaited() {
        tokio::select! {
            () = permit.cut() => return,
            () = tokio::time::sleep(SLOW / 5), if *class == Class::Slow => {}
        }
    }
}

/// A member whose breaker let a collection through that has not begun yet. Dropped, it is told that nothing
/// came of it.
pub(super) struct Unheard(pub Option<Arc<Slot>>);

impl Unheard {
    /// Somebody else is to tell it.
    pub fn keep(mut self) -> Option<Arc<Slot>> {
        self.0.take()
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.give_up();
        }
    }
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
