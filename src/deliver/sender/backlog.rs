//! What a sender stands between: the records that wait, and the receiver. Both are traits, so that the states can be tested
//! without a disk, a socket and a clock.

use crate::deliver::queue::{Entry, Lane, Queue, Settled};
use crate::net::http::{Answer, Client, Error, Request};
use tokio::time::Instant;

/// Records that wait, in order.
pub trait Backlog: Send {
    /// The oldest, when there is one; the same until it is settled. Cancel safe.
    fn oldest(&mut self) -> impl Future<Output = Entry> + Send;
    /// It is delivered or counted.
    fn settle(&mut self, sequence: u64, settled: Settled);
    /// Whether nothing waits, that of [`Self::oldest`] neither.
    fn is_empty(&self) -> bool;
    /// Samples that ever came, for their rate. Asked once in some seconds.
    fn accepted(&self) -> u64;
}

/// A lane of a queue.
pub struct Waiting {
    lane: Lane,
    queue: Queue,
}

impl Waiting {
    /// That lane of that queue.
    pub fn new(lane: Lane, queue: Queue) -> Self {
        Self { lane, queue }
    }
}

impl Backlog for Waiting {
    async fn oldest(&mut self) -> Entry {
        self.lane.oldest().await
    }

    fn settle(&mut self, sequence: u64, settled: Settled) {
        // `false`: the queue gave it up meanwhile, and counted it.
        let _ = self.lane.settle(sequence, settled);
    }

    fn is_empty(&self) -> bool {
        self.lane.backlog().records == 0
    }

    fn accepted(&self) -> u64 {
        let own = (self.lane.generation(), self.lane.index());
        let status = self.queue.status();
        let lane = status.lanes.iter().find(|lane| (lane.generation, lane.index) == own);
        lane.map_or(0, |lane| lane.counts.accepted)
    }
}

/// The way to the receiver.
pub trait Transport: Send {
    /// Asks, and waits for the answer until the deadline. Cancel safe.
    fn send(
        &mut self,
        request: &Request,
        deadline: Instant,
    ) -> impl Future<Output = Result<Answer, Error>> + Send;
    /// Gives its connection up.
    fn close(&mut self);
    /// Whether a file with who we are changed since it was read.
    fn is_outdated(&self) -> bool;
    /// A text without what is secret about us.
    fn redacted(&self, text: &str) -> String;
}

impl Transport for Client {
    async fn send(&mut self, request: &Request, deadline: Instant) -> Result<Answer, Error> {
        Self::send(self, request, deadline).await
    }

    fn close(&mut self) {
        Self::close(self);
    }

    fn is_outdated(&self) -> bool {
        Self::is_outdated(self)
    }
    fn redacted(&self, text: &str) -> String {
        Self::redacted(self, text)
    }
}
