//! Who reads a lane: the oldest record, until it is settled.
//!
//! What a newcomer would get wrong: [`Lane::oldest`] gives the same record again until [`Lane::settle`] says what became
//! of it, and the next one only when that is written down: a death repeats one record, not more.

use super::{Entry, Handle, Reason};
use std::sync::Arc;

/// The reader of a lane. When it goes, another can be had of the queue, which begins where this one was.
pub struct Lane {
    handle: Arc<Handle>,
    place: usize,
}

/// What became of a record. Samples of it that are neither delivered nor dropped count as [`Reason::Rejected`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// How many samples the receiver took.
    pub delivered: u32,
    /// How many it did not.
    pub dropped: Vec<(Reason, u32)>,
}

impl Settled {
    /// All of them were taken.
    pub fn delivered(samples: u32) -> Self {
        Self { delivered: samples, dropped: vec![] }
    }
}

/// What waits in a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Records, with the one under way.
    pub records: u64,
    /// Their samples.
    pub samples: u64,
    /// The oldest timestamp.
    pub oldest: Option<i64>,
}

impl Lane {
    pub(super) fn take(handle: &Arc<Handle>, place: usize) -> Option<Self> {
        handle.shared.take(place).then(|| Self { handle: Arc::clone(handle), place })
    }

    /// The oldest record, when there is one; the same until it is settled. May be broken off and asked again.
    pub async fn oldest(&mut self) -> Entry {
        loop {
            let changed = self.handle.shared.changed(self.place);
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(entry) = self.handle.shared.oldest(self.place) {
                return entry;
            }
            changed.await;
        }
    }

    /// The oldest record, where it is to be had at once.
    pub fn oldest_now(&mut self) -> Option<Entry> {
        self.handle.shared.oldest(self.place)
    }

    /// Says what became of the record with that number. `false`: it is not the one under way, and nothing is counted.
    pub fn settle(&mut self, sequence: u64, settled: Settled) -> bool {
        self.handle.shared.settle(self.place, sequence, &settled)
    }

    /// What waits in it.
    pub fn backlog(&self) -> Backlog {
        self.handle.shared.backlog(self.place)
    }

    /// One more with each change of `lanes`.
    pub fn generation(&self) -> u32 {
        self.handle.shared.identity(self.place).0
    }

    /// Which lane of its generation.
    pub fn index(&self) -> usize {
        self.handle.shared.identity(self.place).1
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.handle.shared.give_back(self.place);
    }
}
