//! What runs for each output: its way, its queue, and a sender for each lane. One loop owns it all.
//!
//! Who reads the configuration asks for other outputs ([`Outputs::apply`]) and hears whether they could be had: all of
//! them, or the ones before go on. An output that goes has its queue closed, and its files stay. One that moves to another
//! URL keeps its queue, and what waits goes to the new one.
//!
//! *Stop*: when nobody hands anything on any more, what was gathered is queued, each lane is sent once as far as it gets
//! within [`DRAIN`], and the queues are closed.
//!
//! What a newcomer would get wrong: an output is its name. Another name is another output with a folder of its own.

mod running;

use super::board::{Board, State};
use super::intake::Way;
use super::queue::storage::Storage;
use super::queue::{self, Queue};
use crate::collect::collected::{Inlet, Lost};
use crate::config::deliver::{self as config, Deliver, Output};
use crate::net::tls;
use crate::telemetry::Metrics;
use crate::telemetry::events::Events;
use running::{HANDOVER, Running};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, info, warn};

/// How long it is sent to the end.
pub const DRAIN: Duration = Duration::from_secs(5);

/// How often is looked at what became of senders.
const LOOK: Duration = Duration::from_secs(1);

/// Collections that are taken in before others have their turn: a millisecond of work.
const AT_ONCE: usize = 8;

/// What outputs stand on.
pub struct World {
    /// Where state is kept: queues have their folders below it.
    pub root: PathBuf,
    /// The file system.
    pub storage: Arc<dyn Storage>,
    /// TLS.
    pub clients: Arc<tls::Clients>,
    /// Our own counters.
    pub metrics: Arc<Metrics>,
    /// The event log.
    pub events: Arc<Events>,
}

/// An output as others may look at it.
#[derive(Clone)]
pub struct Shown {
    /// What the operator says of it.
    pub output: Arc<Output>,
    /// What waits for it.
    pub queue: Queue,
    /// What its senders did.
    pub board: Arc<Board>,
}

/// Why outputs cannot be had as they are wished for.
#[derive(Debug, thiserror::Error)]
#[error(
    "output {output}: no queue at {} (make that folder writable, say another one with --storage.path, or \
     queue.durability: memory)",
    .path.display()
)]
pub struct Error {
    output: Arc<str>,
    path: PathBuf,
    source: queue::Error,
}

/// A wish for these outputs, for samples that are collected that often.
struct Wish {
    deliver: Deliver,
    interval: Duration,
    answer: oneshot::Sender<Result<(), Error>>,
}

/// The handle.
#[derive(Clone)]
pub struct Outputs {
    wishes: mpsc::Sender<Wish>,
    shown: watch::Receiver<Arc<[Shown]>>,
    degraded: watch::Receiver<bool>,
    lost: Lost,
}

impl Outputs {
    /// No outputs, and nobody who would run any.
    pub fn none() -> Self {
        let (shown, degraded) = (watch::channel(Arc::from([])).1, watch::channel(false).1);
        Self { wishes: mpsc::channel(1).0, shown, degraded, lost: Lost::default() }
    }

    /// Whether some output takes nothing at the moment. Looked at each second.
    pub fn degraded(&self) -> watch::Receiver<bool> {
        self.degraded.clone()
    }

    /// What runs.
    pub fn shown(&self) -> Arc<[Shown]> {
        self.shown.borrow().clone()
    }

    /// Collections that no output got.
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// Runs these outputs from now on; where one of them cannot be had, those from before.
    pub async fn apply(&self, deliver: &Deliver, interval: Duration) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        // An error means that the loop has ended: we are stopping.
        match self.wishes.send(Wish { deliver: deliver.clone(), interval, answer }).await {
            Ok(()) => answered.await.unwrap_or(Ok(())),
            Err(_) => Ok(()),
        }
    }
}

/// The loop.
pub struct Delivery {
    world: World,
    deliver: Deliver,
    interval: Duration,
    inlet: Inlet,
    /// Collections that were given up, and how many had been when it was last looked.
    lost: Lost,
    lost_before: u64,
    is_losing: bool,
    wishes: mpsc::Receiver<Wish>,
    shown: watch::Sender<Arc<[Shown]>>,
    degraded: watch::Sender<bool>,
    running: Vec<Running>,
    /// Outputs that are gone, while their queues are being closed.
    closing: JoinSet<()>,
}

impl Delivery {
    /// Opens the queues of these outputs. Fails where one of them cannot be had.
    pub fn open(
        world: World,
        (deliver, interval): (&Deliver, Duration),
        (lost, inlet): (Lost, Inlet),
    ) -> Result<(Self, Outputs), Error> {
        // Who asks waits for the answer, so that there is one at most.
        let (wish, wishes) = mpsc::channel(1);
        let (shown, is_shown) = watch::channel(Arc::from([]));
        let (degraded, is_degraded) = watch::channel(false);
        let outputs = Outputs { wishes: wish, shown: is_shown, degraded: is_degraded, lost: lost.clone() };
        let mut delivery = Self {
            world,
            deliver: deliver.clone(),
            interval,
            inlet,
            lost,
            lost_before: 0,
            is_losing: false,
            wishes,
            shown,
            degraded,
            running: vec![],
            closing: JoinSet::new(),
        };
        for output in delivery.deliver.outputs.clone() {
            let running = delivery.start(&output)?;
            delivery.running.push(running);
        }
        delivery.publish();
        Ok((delivery, outputs))
    }

    /// Runs until nobody can hand anything on any more, and has what was handed on sent or safe.
    pub async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                is_open = take_in(&mut self.inlet, &mut self.running) => if !is_open {
                    break;
                },
                Some(Wish { deliver, interval, answer }) = self.wishes.recv() => {
                    // Whoever asked may have left.
                    let _ = answer.send(self.apply(deliver, interval).await);
                }
                _ = look.tick() => self.look(),
            }
        }
        self.stop().await;
    }

    /// Tells what became of outputs, and starts senders for lanes that have none.
    fn look(&mut self) {
        while self.closing.try_join_next().is_some() {}
        let lost = self.lost.get();
        let is_losing = lost > self.lost_before;
        match (self.is_losing, is_losing) {
            (false, true) => {
                warn!(collections = lost, "more is collected than can be taken in: some is lost")
            }
            (true, false) => info!(collections = lost, "all that is collected is taken in again"),
            _ => {}
        }
        (self.lost_before, self.is_losing) = (lost, is_losing);
        for running in &mut self.running {
            running.tell(&self.world.events);
            running.send(&self.world.metrics);
        }
        let is_degraded = self.running.iter().any(|running| running.told == State::Degraded);
        self.degraded.send_if_modified(|known| std::mem::replace(known, is_degraded) != is_degraded);
    }

    async fn apply(&mut self, deliver: Deliver, interval: Duration) -> Result<(), Error> {
        self.make_room(&deliver).await;
        let (old, old_interval) = (self.deliver.clone(), self.interval);
        let outcome = self.reconcile(deliver, interval).await;
        if outcome.is_err() {
            self.closed().await;
            if let Err(error) = self.reconcile(old, old_interval).await {
                error!(
                    error = crate::telemetry::log::chain(&error),
                    "an output is lost until the next reload"
                );
            }
        }
        self.publish();
        outcome
    }

    /// Has senders end whose queue will be another one, and waits for folders that may be wanted again.
    async fn make_room(&mut self, deliver: &Deliver) {
        for running in &mut self.running {
            let wanted = deliver.outputs.iter().find(|output| output.name == running.output.name);
            if wanted.is_some_and(|wanted| !is_same_queue(&running.output, wanted)) {
                self.closing.spawn(running.let_go());
            }
        }
        self.closed().await;
    }

    /// Waits until all has ended that is to end, but not for a disk that hangs. What is collected meanwhile is taken in.
    async fn closed(&mut self) {
        let all = async { while self.closing.join_next().await.is_some() {} };
        let mut all = std::pin::pin!(timeout(2 * HANDOVER, all));
        let mut is_open = true;
        loop {
            tokio::select! {
                ended = &mut all => {
                    if ended.is_err() {
                        warn!("the queue of an output that is there no more cannot be closed");
                    }
                    return;
                }
                more = take_in(&mut self.inlet, &mut self.running), if is_open => is_open = more,
            }
        }
    }

    /// Moves to the wished-for state. What is as it should be is left alone.
    async fn reconcile(&mut self, deliver: Deliver, interval: Duration) -> Result<(), Error> {
        (self.deliver, self.interval) = (deliver, interval);
        let wanted = self.deliver.outputs.clone();
        let (known, new): (Vec<_>, Vec<_>) =
            wanted.iter().partition(|output| self.running.iter().any(|r| r.output.name == output.name));
        // What may fail comes first.
        let mut started = vec![];
        for output in new {
            match self.start(output) {
                Ok(running) => started.push(running),
                Err(error) => {
                    started
                        .into_iter()
                        .for_each(|running: Running| drop(self.closing.spawn(running.end(None))));
                    return Err(error);
                }
            }
        }
        self.running.extend(started);
        for output in known {
            let Some(place) = self.running.iter().position(|r| r.output.name == output.name) else {
                continue;
            };
            self.change(place, output).await?;
        }
        let is_wanted = |running: &Running| wanted.iter().any(|output| output.name == running.output.name);
        let (running, gone) = std::mem::take(&mut self.running).into_iter().partition(is_wanted);
        self.running = running;
        for running in gone {
            info!(output = %running.output.name, "the output is there no more; its queue is closed and stays");
            self.closing.spawn(running.end(None));
        }
        let place = |running: &Running| wanted.iter().position(|output| output.name == running.output.name);
        self.running.sort_by_key(place);
        Ok(())
    }

    /// Makes an output that runs what it is to be.
    async fn change(&mut self, place: usize, output: &Arc<Output>) -> Result<(), Error> {
        let running = &mut self.running[place];
        let old = running.output.clone();
        running.way.follow(output, &self.deliver);
        if !is_same_queue(&old, output) {
            // The folder is the same: who has it must let it go first.
            running.close(None).await;
            let opened = self.world.queue(output);
            let running = &mut self.running[place];
            match opened {
                Ok(queue) => {
                    running.queue = queue.clone();
                    running.way.replace(output, queue);
                }
                Err(error) => {
                    self.running.remove(place);
                    return Err(error);
                }
            }
        }
        let running = &mut self.running[place];
        let is_same_course = old.to == output.to
            && old.max_samples_per_second == output.max_samples_per_second
            && old.queue.lanes == output.queue.lanes
            && running.interval == self.interval;
        running.output = output.clone();
        if !is_same_course || running.stop.is_cancelled() && !old.paused {
            running.turn(self.interval, self.world.clients.clone());
        }
        if old.paused != output.paused {
            running.pause(output.paused);
        }
        running.send(&self.world.metrics);
        Ok(())
    }

    /// Starts an output.
    fn start(&self, output: &Arc<Output>) -> Result<Running, Error> {
        let queue = self.world.queue(output)?;
        let way = Way::new(output, &self.deliver, queue.clone());
        Ok(Running::new(output.clone(), way, queue, self.interval, self.world.clients.clone()))
    }

    fn publish(&self) {
        let shown = |running: &Running| Shown {
            output: running.output.clone(),
            queue: running.queue.clone(),
            board: running.board(),
        };
        self.shown.send_replace(self.running.iter().map(shown).collect());
    }

    /// Sends what can be sent, and closes the queues.
    async fn stop(mut self) {
        let until = Instant::now() + DRAIN;
        for running in self.running {
            self.closing.spawn(running.end(Some(until)));
        }
        while self.closing.join_next().await.is_some() {}
    }
}

/// Takes in what is collected next, or hands on what was gathered for long enough. Whether more may come. Cancel safe.
async fn take_in(inlet: &mut Inlet, running: &mut [Running]) -> bool {
    let due = running.iter().filter_map(|running| running.way.due()).min();
    let mut collected = Vec::with_capacity(AT_ONCE);
    tokio::select! {
        count = inlet.recv_many(&mut collected, AT_ONCE) => {
            let now = Instant::now();
            for collected in &collected {
                running.iter_mut().for_each(|running| running.way.take(collected, now));
            }
            // More may be there already, and there is one thread.
            tokio::task::yield_now().await;
            count > 0
        }
        () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
            let now = Instant::now();
            running.iter_mut().for_each(|running| running.way.flush_due(now));
            true
        }
    }
}

/// Whether the queue of one serves the other as it is.
fn is_same_queue(one: &Output, other: &Output) -> bool {
    let log = |output: &Output| config::Queue { linger: Duration::ZERO, ..output.queue.clone() };
    log(one) == log(other)
}

impl World {
    fn queue(&self, output: &Output) -> Result<Queue, Error> {
        let path = self.root.join("queue").join(&*output.name);
        Queue::open(&path, &output.queue, self.storage.clone()).map_err(|source| Error {
            output: output.name.clone(),
            path,
            source,
        })
    }
}

#[cfg(test)]
mod tests;
