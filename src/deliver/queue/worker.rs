//! The thread of a queue: it alone calls the system.
//!
//! What a newcomer would get wrong: a turn does a bounded piece of each kind of work, so that a burst of new records
//! delays neither the reader nor what is settled. What is slow (`fdatasync`) has a thread of its own.

use super::cursor::{Cursor, End};
use super::log::Log;
use super::ring::{Place, weight};
use super::state::{Shared, State};
use super::sync::Syncer;
use super::trouble::{Trouble, errno, reason_of};
use super::{Moment, Reason, Record, storage::Storage};
use crate::config::deliver::{Durability, Fsync};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How many bytes of records one turn writes for a lane.
const TURN: u64 = 1 << 20;
/// How long a disk that failed is left alone.
pub(super) const AGAIN: Duration = Duration::from_secs(10);
/// How often limits are looked at that nothing of ours brings about.
pub(super) const HOUSE: Duration = Duration::from_secs(10);
/// How long a record waits for a receiver before a queue that spills counts that as its failing.
const FAILING: Duration = Duration::from_secs(5);

/// What the thread has. A test calls [`Worker::turn`] itself.
pub struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) folder: PathBuf,
    /// One for each lane, in the same places.
    pub(super) logs: Vec<Log>,
    pub(super) segment: u64,
    pub(super) boot: u128,
    pub(super) syncer: Syncer,
    pub(super) next_sync: Duration,
    pub(super) next_house: Duration,
    /// When a disk that failed is tried again.
    pub(super) again: Duration,
    /// Whether something failed in this turn.
    pub(super) failed: bool,
    /// Folders in which the names are not known to be safe.
    pub(super) unsynced_names: Vec<PathBuf>,
    /// When a file had to go before its time.
    pub(super) evicted: Option<Duration>,
    /// When something could not be made safe.
    pub(super) unsafe_since: Option<Duration>,
    pub(super) _lock: Box<dyn Send + Sync>,
}

impl Worker {
    /// Does what there is to do, or a piece of it; `true`: there is more. Waits for the disk and nothing else.
    pub fn turn(&mut self) -> bool {
        let now = (self.shared.clock)();
        let closing = {
            let mut state = self.shared.lock();
            state.work = false;
            if state.closed {
                return false;
            }
            state.closing
        };
        if closing {
            self.close(now);
            return false;
        }
        self.synced();
        let blocked = self.shared.lock().blocked;
        let mut more = false;
        self.failed = false;
        if blocked != Some(Reason::RingFull) || now.steady >= self.again {
            self.persist();
        }
        if blocked.is_none() || now.steady >= self.again {
            self.again = now.steady + AGAIN;
            more = self.write(now, false);
            if blocked.is_some() && !self.failed {
                self.unblock();
            }
        }
        self.read();
        if now.steady >= self.next_sync {
            self.sync(now);
        }
        self.reclaim();
        if now.steady >= self.next_house {
            self.house(now);
        }
        self.publish();
        more || self.shared.lock().work
    }

    /// Has what is slow done by a thread of its own.
    pub(super) fn with_threads(&mut self, storage: Arc<dyn Storage>) -> io::Result<()> {
        self.syncer = Syncer::start(storage, Arc::clone(&self.shared))?;
        Ok(())
    }

    /// Turns until it is told to end.
    pub(super) fn run(&mut self) {
        loop {
            let more = self.turn();
            let mut state = self.shared.lock();
            if state.closed || state.abandoned {
                return;
            }
            if more || state.work {
                continue;
            }
            let wait = self.rest(&state);
            // a word that came before is in `work`; one that comes now wakes us
            state = self
                .shared
                .work
                .wait_timeout_while(state, wait, |state| !state.work && !state.abandoned)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
            if state.abandoned {
                return;
            }
        }
    }

    /// How long there is nothing to do but what comes.
    fn rest(&self, state: &State) -> Duration {
        let now = (self.shared.clock)().steady;
        let mut next = self.next_house;
        if !matches!(self.shared.config.fsync, Fsync::Never) && self.logs.iter().any(Log::is_unsynced) {
            next = next.min(self.next_sync.max(now + Duration::from_millis(10)));
        }
        if state.blocked.is_some() {
            next = next.min(self.again);
        }
        if state.lanes.iter().any(|ring| ring.wanted) {
            next = next.min(now + Duration::from_secs(1));
        }
        if self.shared.config.durability == Durability::Spill {
            next = next.min(now + Duration::from_secs(1));
        }
        next.saturating_sub(now)
    }

    /// Writes down what was settled.
    pub(super) fn persist(&mut self) {
        let cursors: Vec<Cursor> = {
            let state = self.shared.lock();
            let cursors = state.lanes.iter().map(|ring| Cursor { boot: self.boot, ..ring.cursor() });
            cursors.collect()
        };
        for (place, cursor) in cursors.into_iter().enumerate() {
            let log = &mut self.logs[place];
            let mut written = Ok(());
            if log.cursor.written != Some(cursor) {
                written = log.cursor.put(self.storage.as_ref(), cursor);
                if written.is_ok() && self.shared.config.fsync == Fsync::Always {
                    written = self.sync_cursor(place);
                }
            }
            match written {
                Ok(()) => {
                    if self.shared.config.fsync == Fsync::Never {
                        self.logs[place].safe = cursor.floor.sequence;
                    }
                    let persisted = &mut self.shared.lock().lanes[place].persisted;
                    if std::mem::replace(persisted, cursor.acked.sequence) != cursor.acked.sequence {
                        self.shared.wake(place);
                    }
                }
                Err(error) => {
                    self.count_error(&error);
                    self.block(Trouble { reason: Reason::RingFull, error: Some(error) });
                }
            }
        }
    }

    /// Writes records, of each lane some; `true`: there are more. `all`: those too that need not be on disk.
    pub(super) fn write(&mut self, now: Moment, all: bool) -> bool {
        let mut more = false;
        for place in 0..self.logs.len() {
            let Some((before, records, left)) = self.batch(place, now, all) else { continue };
            more |= left;
            let end = before.sequence + records.len() as u64;
            let mut at = before;
            let mut rest = &records[..];
            while !rest.is_empty() {
                match self.put(place, at, rest, now) {
                    Ok(taken) => {
                        let samples: u64 = rest[..taken].iter().map(|record| u64::from(record.samples)).sum();
                        at = Place { sequence: at.sequence + taken as u64, total: at.total + samples };
                        rest = &rest[taken..];
                        if self.shared.config.fsync == Fsync::Always {
                            self.sync_lane(place);
                        }
                        // at once: its file may have to go for the next
                        self.shared.lock().lanes[place].wrote(at, end);
                    }
                    Err(trouble) => {
                        self.block(trouble);
                        break;
                    }
                }
            }
            let mut state = self.shared.lock();
            state.lanes[place].writing = state.lanes[place].written.sequence;
            drop(state);
            self.shared.wake(place);
            if self.failed {
                return false;
            }
        }
        more
    }

    /// Records that are to be written, what comes before them, and whether there are more.
    fn batch(&self, place: usize, now: Moment, all: bool) -> Option<(Place, Vec<Record>, bool)> {
        let mut state = self.shared.lock();
        let spill = || state.spills(&self.shared.config, now.steady, FAILING);
        if !all && state.blocked.is_none() && self.shared.config.durability == Durability::Spill && !spill() {
            return None;
        }
        let ring = &mut state.lanes[place];
        let (before, unwritten) = ring.unwritten();
        let mut bytes = 0;
        let fits = |record: &&Record| {
            bytes += weight(record);
            bytes <= TURN || bytes == weight(record)
        };
        let records: Vec<Record> = unwritten.take_while(fits).cloned().collect();
        let end = before.sequence + records.len() as u64;
        ring.writing = end;
        (!records.is_empty()).then(|| (before, records, end + 1 < ring.end()))
    }

    /// Writes some records, and says how many.
    fn put(
        &mut self,
        place: usize,
        before: Place,
        records: &[Record],
        now: Moment,
    ) -> Result<usize, Trouble> {
        let mut tried = false;
        loop {
            let done = self.try_put(place, before, records, now);
            let Err(Trouble { error: Some(error), .. }) = &done else { return done };
            self.count_error(error);
            // where the disk is full, the oldest file makes room, once
            if tried
                || reason_of(error) != Reason::DiskFull
                || !self.evicts()
                || !self.evict(Reason::DiskFull, now)
            {
                return done;
            }
            tried = true;
        }
    }

    fn try_put(
        &mut self,
        place: usize,
        before: Place,
        records: &[Record],
        now: Moment,
    ) -> Result<usize, Trouble> {
        let trouble = |error: io::Error| Trouble { reason: reason_of(&error), error: Some(error) };
        let size = records.first().map_or(0, |record| record.body.len() as u64 + super::segment::HEAD as u64);
        let age = (self.shared.config.max_age / 8).max(Duration::from_secs(1));
        if self.logs[place].is_full(before, size, now.steady, age) {
            let least = size + (super::segment::HEADER + super::segment::FOOTER) as u64;
            let room = self.room(self.segment.max(least), least, now)?;
            self.logs[place].roll(before, room, now).map_err(trouble)?;
            if self.shared.config.fsync == Fsync::Never {
                self.logs[place].let_go();
            }
        }
        self.logs[place].append(before, records).map_err(trouble)
    }

    /// Says what the disk has.
    pub(super) fn publish(&self) {
        let bytes = self.logs.iter().map(Log::bytes).sum();
        let mut state = self.shared.lock();
        state.disk_bytes = bytes;
        for (ring, log) in state.lanes.iter_mut().zip(&self.logs) {
            ring.oldest_on_disk = log.oldest_timestamp(ring.base());
        }
    }

    /// Nothing can be written now: memory is all there is.
    pub(super) fn block(&mut self, trouble: Trouble) {
        self.failed = true;
        let mut state = self.shared.lock();
        for ring in &mut state.lanes {
            ring.accept(ring.end() - 1);
        }
        let before = state.blocked.replace(trouble.reason);
        drop(state);
        self.shared.wake_all();
        if before.is_none() {
            let error = trouble.error.map(|error| error.to_string());
            tracing::warn!(
                queue = %self.folder.display(),
                reason = trouble.reason.word(),
                error,
                "nothing can be written to the queue; new samples are in memory only"
            );
        }
    }

    fn unblock(&mut self) {
        if self.shared.lock().blocked.take().is_some() {
            tracing::info!(queue = %self.folder.display(), "the queue is written to again");
        }
        self.shared.wake_all();
    }

    pub(super) fn count_error(&self, error: &io::Error) {
        *self.shared.lock().disk.write_errors.entry(errno(error)).or_default() += 1;
    }

    /// Everything that was taken is written and safe, and the next start knows that nothing was under way.
    fn close(&mut self, now: Moment) {
        let outcomes = self.syncer.end();
        self.learn(outcomes);
        self.failed = false;
        while self.write(now, true) && !self.failed {}
        {
            let mut state = self.shared.lock();
            state.lanes.iter_mut().for_each(|ring| ring.drop_all(Reason::Closed));
        }
        self.persist();
        for log in &mut self.logs {
            log.seal();
        }
        self.sync_all();
        let ends: Vec<Cursor> = {
            let state = self.shared.lock();
            let end = |under_way| if under_way { End::UnderWay } else { End::Clean };
            let cursors = state.lanes.iter().map(|ring| Cursor {
                boot: self.boot,
                end: end(ring.flight().is_some()),
                ..ring.cursor()
            });
            cursors.collect()
        };
        for (place, cursor) in ends.into_iter().enumerate() {
            let done = self.logs[place].cursor.put(self.storage.as_ref(), cursor);
            if let Err(error) = done.and_then(|()| self.sync_cursor(place)) {
                self.count_error(&error);
            }
        }
        self.reclaim();
        self.publish();
        self.shared.lock().closed = true;
        self.shared.wake_all();
        self.shared.ended.notify_waiters();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.syncer.end();
        self.shared.lock().closed = true;
        self.shared.ended.notify_waiters();
    }
}
