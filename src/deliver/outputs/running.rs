//! An output that runs: its way, its queue, and a sender for each lane.
//!
//! What a newcomer would get wrong: another receiver or another way is another *course*: senders of the former one end what they
//! are at, beside those of the new one, who begin with a lane when it is free.

use super::super::board::{Board, State};
use super::super::intake::Way;
use super::super::queue::status::LaneStatus;
use super::super::queue::{self, Queue};
use super::super::sender::{Course, Sender};
use crate::config::deliver::Output;
use crate::net::tls;
use crate::telemetry::Metrics;
use crate::telemetry::events::{Events, Kind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// How long senders may finish what they are at.
pub(super) const HANDOVER: Duration = Duration::from_secs(5);

/// A sender that was to end by itself is given so much longer.
const GRACE: Duration = Duration::from_secs(1);

/// How often is looked whether the queue has written all, at the stop.
const WRITTEN: Duration = Duration::from_millis(2);

/// An output that runs.
pub(super) struct Running {
    /// What the operator says of it.
    pub(super) output: Arc<Output>,
    /// What is collected is gathered there,
    pub(super) way: Way,
    /// and waits here.
    pub(super) queue: Queue,
    course: Course,
    /// How often it is collected.
    pub(super) interval: Duration,
    senders: JoinSet<()>,
    /// Whether senders have been told to stop.
    pub(super) stop: CancellationToken,
    /// Until when senders go on after they were told to stop.
    until: Arc<OnceLock<Instant>>,
    /// What was said of it last.
    pub(super) told: State,
}

impl Running {
    /// Nothing is sent yet.
    pub(super) fn new(
        output: Arc<Output>,
        way: Way,
        queue: Queue,
        interval: Duration,
        clients: Arc<tls::Clients>,
    ) -> Self {
        let course = course(&output, &queue, interval, clients);
        let (senders, stop, until) = (JoinSet::new(), CancellationToken::new(), Arc::default());
        let told = State::Live;
        Self { output, way, queue, course, interval, senders, stop, until, told }
    }

    /// What its senders did.
    pub(super) fn board(&self) -> Arc<Board> {
        self.course.board()
    }

    /// Starts a sender for each lane that has none.
    pub(super) fn send(&mut self, metrics: &Metrics) {
        while let Some(ended) = self.senders.try_join_next() {
            if let Err(fault) = ended
                && fault.is_panic()
            {
                metrics.panics.increment();
                error!(error = %fault, output = %self.output.name, "a sender panicked: please report this");
            }
        }
        if self.output.paused || self.stop.is_cancelled() {
            return;
        }
        let free = self.queue.lanes();
        if free.is_empty() {
            return;
        }
        let lanes = self.queue.status().lanes;
        for lane in free {
            let own =
                |known: &LaneStatus| (known.generation, known.index) == (lane.generation(), lane.index());
            let Some(place) = lanes.iter().position(own) else { continue };
            let sender = self.course.sender(place, lane, self.queue.clone());
            self.senders.spawn(send(sender, self.stop.clone(), self.until.clone()));
        }
    }

    /// Goes on to another receiver, or in another way. Senders end what they are at; others begin when they have.
    pub(super) fn turn(&mut self, interval: Duration, clients: Arc<tls::Clients>) {
        self.stop.cancel();
        self.interval = interval;
        self.course = course(&self.output, &self.queue, interval, clients);
        (self.stop, self.until) = (CancellationToken::new(), Arc::default());
    }

    /// Stops or goes on sending; what was known of it stays. What is under way ends.
    pub(super) fn pause(&mut self, is_paused: bool) {
        info!(output = %self.output.name, paused = is_paused, "sending");
        if is_paused {
            self.stop.cancel();
        } else {
            (self.stop, self.until) = (CancellationToken::new(), Arc::default());
        }
    }

    /// Tells that it became well, or is no more.
    pub(super) fn tell(&mut self, events: &Events) {
        let view = self.course.board().view();
        let (from, to) = (self.told, view.state().told());
        if from == to {
            return;
        }
        self.told = to;
        let reason = view.worst().and_then(|lane| lane.reason);
        let why = reason.map(|reason| format!(": {}", reason.word())).unwrap_or_default();
        let name = &self.output.name;
        let message = format!("output {name} is {} and was {}{why}", to.word(), from.word());
        events.push(name, Kind::Output, Some(from.word()), Some(to.word()), message);
    }

    /// Has the senders end: what is under way or, where it is said until when, what waits.
    async fn stop_senders(&mut self, until: Option<Instant>) {
        if let Some(until) = until {
            let _ = self.until.set(until);
        }
        self.stop.cancel();
        let patience = until.unwrap_or_else(|| Instant::now() + HANDOVER) + GRACE;
        ended(&mut self.senders, patience, &self.output.name).await;
    }

    /// Has the senders end what is under way, while the output goes on taking in what is collected.
    pub(super) fn let_go(&mut self) -> impl Future<Output = ()> + use<> {
        self.stop.cancel();
        let (mut senders, name) = (std::mem::take(&mut self.senders), self.output.name.clone());
        let patience = Instant::now() + HANDOVER + GRACE;
        async move { ended(&mut senders, patience, &name).await }
    }

    /// The same as [`Running::close`], and it is no more.
    pub(super) async fn end(mut self, until: Option<Instant>) {
        self.close(until).await;
    }

    /// Has what was gathered written, senders end, and the queue closed.
    pub(super) async fn close(&mut self, until: Option<Instant>) {
        self.way.flush();
        // What is not written yet would not be sent.
        let patience = until.unwrap_or_else(Instant::now);
        while !self.way.is_written() && Instant::now() < patience {
            sleep(WRITTEN).await;
        }
        self.stop_senders(until).await;
        self.queue.close().await;
        let left = self.queue.status().total;
        let (output, lost) = (&self.output.name, left.dropped.get(queue::Reason::Closed));
        if left.pending > 0 {
            info!(%output, samples = left.pending, "what was not delivered waits in its folder");
        }
        if lost > 0 {
            warn!(%output, samples = lost, "what waited in memory is lost");
        }
    }
}

/// Waits until all have ended, and ends what has not by then.
async fn ended(senders: &mut JoinSet<()>, patience: Instant, output: &str) {
    let all = async { while senders.join_next().await.is_some() {} };
    if timeout_at(patience, all).await.is_err() {
        warn!(output, "a request was given up");
        senders.shutdown().await;
    }
}

fn course(output: &Arc<Output>, queue: &Queue, interval: Duration, clients: Arc<tls::Clients>) -> Course {
    Course::new(output.clone(), queue.status().lanes.len(), interval, clients)
}

/// One lane is sent until it is told to stop; then what is under way, or what waits.
async fn send(mut sender: Sender, stop: CancellationToken, until: Arc<OnceLock<Instant>>) {
    let end = async {
        stop.cancelled().await;
        sleep_until(until.get().copied().unwrap_or_else(|| Instant::now() + HANDOVER)).await;
    };
    tokio::select! {
        () = sender.run(&stop) => {}
        () = end => {}
    }
    if let Some(until) = until.get() {
        sender.drain(*until).await;
    }
}
