//! All lanes in memory, and what is known of the disk: what the sender, the thread of the queue and its owner share.
//!
//! What a newcomer would get wrong: the lock is held for a few moves in memory, never for a call of the system.

use super::lane::{Backlog, Settled};
use super::ring::{Ring, weight};
use super::status::{Disk, Status};
use super::{Clock, Entry, LARGEST_BODY, Moment, Reason, Record};
use crate::config::deliver as config;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// What is shared.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Tells the thread that there is work.
    pub(super) work: Condvar,
    /// Tells that the thread has ended.
    pub(super) ended: Notify,
    /// Tells the reader of each lane that something changed.
    readers: Vec<Notify>,
    pub(super) clock: Clock,
    pub(super) config: config::Queue,
}

/// What is shared and changes.
pub(super) struct State {
    pub(super) lanes: Vec<Ring>,
    /// How many of them are of earlier generations.
    pub(super) older: usize,
    pub(super) has_disk: bool,
    /// Whether records are accepted when they are written, rather than at once.
    pub(super) written_first: bool,
    /// Why nothing can be written now.
    pub(super) blocked: Option<Reason>,
    /// Whether there is something for the thread to do.
    pub(super) work: bool,
    /// Whether it is to end in order.
    pub(super) closing: bool,
    /// Whether it is to end at once, as by a death.
    pub(super) abandoned: bool,
    /// Whether nothing is taken any more.
    pub(super) closed: bool,
    pub(super) disk: Disk,
    pub(super) disk_bytes: u64,
    pub(super) disk_free: Option<u64>,
}

impl Shared {
    /// Lanes of which nothing survives the process.
    pub(super) fn in_memory(config: &config::Queue, clock: Clock) -> Self {
        let lanes = usize::from(config.lanes.max(1));
        let lanes =
            (0..lanes).map(|index| Ring::new(1, index, Default::default(), Default::default())).collect();
        Self::new(config, clock, lanes, 0, false)
    }

    pub(super) fn new(
        config: &config::Queue,
        clock: Clock,
        lanes: Vec<Ring>,
        older: usize,
        disk: bool,
    ) -> Self {
        Self {
            readers: lanes.iter().map(|_| Notify::new()).collect(),
            state: Mutex::new(State {
                lanes,
                older,
                has_disk: disk,
                written_first: config.durability == config::Durability::Wal,
                blocked: None,
                work: disk,
                closing: false,
                abandoned: false,
                closed: false,
                disk: Disk::default(),
                disk_bytes: 0,
                disk_free: None,
            }),
            work: Condvar::new(),
            ended: Notify::new(),
            clock,
            config: config.clone(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // a panic under the lock is a fault of ours; what is there is used on
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest timestamp that need not go.
    pub(super) fn too_old(&self) -> i64 {
        self.too_old_at((self.clock)())
    }

    fn too_old_at(&self, now: Moment) -> i64 {
        now.wall.saturating_sub(i64::try_from(self.config.max_age.as_millis()).unwrap_or(i64::MAX))
    }

    pub(super) fn append(&self, lane: usize, record: Record) {
        let mut state = self.lock();
        let place = (state.older + lane).min(state.lanes.len() - 1);
        let refused = if state.closed || state.closing {
            Some(Reason::Closed)
        } else if record.body.len() > LARGEST_BODY {
            Some(Reason::TooLarge)
        } else if state.has_disk && record.body.len() as u64 + 1024 > self.config.max_bytes {
            Some(Reason::Size)
        } else {
            state.make_room(place, weight(&record), &self.config).err()
        };
        if let Some(reason) = refused {
            return state.lanes[place].refuse(record.samples, reason);
        }
        let at_once = state.accepts_at_once();
        let now = (self.clock)();
        let ring = &mut state.lanes[place];
        ring.push(record, now.steady);
        if at_once {
            ring.accept(ring.end() - 1);
            ring.expire(self.too_old_at(now));
        }
        self.tell(state);
        if at_once {
            self.readers[place].notify_waiters();
        }
    }

    /// Tells the thread that there is something to do.
    fn tell(&self, mut state: MutexGuard<'_, State>) {
        let asleep = !std::mem::replace(&mut state.work, true);
        drop(state);
        if asleep {
            self.work.notify_one();
        }
    }

    pub(super) fn oldest(&self, place: usize) -> Option<Entry> {
        let too_old = self.too_old();
        let mut state = self.lock();
        if !state.may_read(place) {
            return None;
        }
        let ring = &mut state.lanes[place];
        let entry = ring.oldest(too_old).cloned();
        let ask = entry.is_none() && ring.next_is_on_disk() && !std::mem::replace(&mut ring.wanted, true);
        let wait = state.must_wait(place);
        if ask || wait {
            self.tell(state);
        }
        entry.filter(|_| !wait)
    }

    pub(super) fn settle(&self, place: usize, sequence: u64, settled: &Settled) -> bool {
        let mut state = self.lock();
        let now = (self.clock)().steady;
        let known = state.lanes[place].settle(sequence, settled, now);
        let emptied = place < state.older && state.lanes[place].counts.pending_records == 0;
        self.tell(state);
        if emptied {
            self.wake_all();
        }
        known
    }

    pub(super) fn wake(&self, place: usize) {
        self.readers[place].notify_waiters();
    }

    pub(super) fn wake_all(&self) {
        self.readers.iter().for_each(Notify::notify_waiters);
    }

    pub(super) fn changed(&self, place: usize) -> Notified<'_> {
        self.readers[place].notified()
    }

    pub(super) fn place(&self, index: usize) -> Option<usize> {
        let state = self.lock();
        Some(state.older + index).filter(|place| *place < state.lanes.len())
    }

    pub(super) fn places(&self) -> usize {
        self.readers.len()
    }

    pub(super) fn take(&self, place: usize) -> bool {
        !std::mem::replace(&mut self.lock().lanes[place].taken, true)
    }

    pub(super) fn give_back(&self, place: usize) {
        self.lock().lanes[place].taken = false;
    }

    pub(super) fn identity(&self, place: usize) -> (u32, usize) {
        let state = self.lock();
        (state.lanes[place].generation, state.lanes[place].index)
    }

    pub(super) fn backlog(&self, place: usize) -> Backlog {
        let status = self.lock().lanes[place].status();
        Backlog {
            records: status.counts.pending_records,
            samples: status.counts.pending,
            oldest: status.oldest_pending,
        }
    }

    pub(super) fn status(&self) -> Status {
        let state = self.lock();
        let disk = self.config.durability != config::Durability::Memory;
        let mut status = Status {
            memory_bytes: state.memory(),
            memory_capacity: self.config.memory,
            disk_bytes: state.disk_bytes,
            disk_capacity: if disk { self.config.max_bytes } else { 0 },
            disk_free: state.disk_free,
            disk_ok: state.blocked.is_none(),
            disk: state.disk.clone(),
            ..Status::default()
        };
        for ring in &state.lanes {
            let lane = ring.status();
            status.total.add(&lane.counts);
            status.oldest_pending = match (status.oldest_pending, lane.oldest_pending) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            status.highest_accepted = status.highest_accepted.max(lane.highest_accepted);
            status.highest_delivered = status.highest_delivered.max(lane.highest_delivered);
            status.lanes.push(lane);
        }
        status
    }

    /// Takes nothing more, and tells the thread to end in order.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        if !state.has_disk {
            state.closed = true;
            state.lanes.iter_mut().for_each(|ring| ring.drop_all(Reason::Closed));
        }
        self.tell(state);
    }

    /// Tells the thread to end at once.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.abandoned = true;
        drop(state);
        self.work.notify_one();
    }
}

impl State {
    /// Whether a record is accepted as soon as it is in memory.
    pub(super) fn accepts_at_once(&self) -> bool {
        !self.written_first || self.blocked.is_some()
    }

    /// Whether what was settled last is to be written down before the next is read. A disk that fails is not
    /// waited for.
    fn must_wait(&self, place: usize) -> bool {
        let working = self.has_disk && self.blocked != Some(Reason::RingFull) && !self.closed;
        working && self.lanes[place].unpersisted()
    }

    /// Whether what is in memory alone is to be written, in a queue that does not write all.
    pub(super) fn spills(&self, config: &config::Queue, now: Duration, failing: Duration) -> bool {
        let waits = |ring: &Ring| ring.counts.pending_records > 0 && now.saturating_sub(ring.moved) > failing;
        let bytes: u64 = self.lanes.iter().map(Ring::unwritten_bytes).sum();
        bytes > config.memory / 2 || self.lanes.iter().any(waits)
    }

    /// What all records take in memory.
    pub(super) fn memory(&self) -> u64 {
        self.lanes.iter().map(Ring::bytes).sum()
    }

    /// Whether all that was before this lane's generation is gone.
    fn may_read(&self, place: usize) -> bool {
        let generation = self.lanes[place].generation;
        let mut before = self.lanes[..place].iter().take_while(|ring| ring.generation < generation);
        before.all(|ring| ring.counts.pending_records == 0)
    }

    /// Makes room for that many bytes, or says why there is none.
    fn make_room(&mut self, place: usize, bytes: u64, config: &config::Queue) -> Result<(), Reason> {
        if bytes > config.memory {
            return Err(Reason::RingFull);
        }
        let mut memory = self.memory();
        while memory + bytes > config.memory {
            if let Some(freed) = self.forget() {
                memory -= freed.min(memory);
                continue;
            }
            let reason = self.blocked.unwrap_or(Reason::RingFull);
            let no_disk = config.durability == config::Durability::Memory || self.blocked.is_some();
            let oldest_goes = no_disk && config.on_full == config::OnFull::DropOldest;
            if !oldest_goes || !self.drop_oldest(place, reason) {
                return Err(reason);
            }
            memory = self.memory();
        }
        Ok(())
    }

    /// Gives up what is too much, after a record came from the disk.
    pub(super) fn trim(&mut self, place: usize, config: &config::Queue) {
        while self.memory() > config.memory {
            let reason = self.blocked.unwrap_or(Reason::RingFull);
            let oldest_goes = self.blocked.is_some() && config.on_full == config::OnFull::DropOldest;
            let gone = self.forget().is_some()
                || oldest_goes && self.drop_oldest(place, reason)
                || self.lanes.iter_mut().any(|ring| ring.drop_newest(reason));
            if !gone {
                return;
            }
        }
    }

    /// Forgets a record that is in the log, of the lane that takes most.
    pub(super) fn forget(&mut self) -> Option<u64> {
        let mut order: Vec<&mut Ring> = self.lanes.iter_mut().collect();
        order.sort_by_key(|ring| std::cmp::Reverse(ring.bytes()));
        order.into_iter().find_map(Ring::forget)
    }

    /// Drops the oldest record of that lane, or of another where it has none.
    fn drop_oldest(&mut self, place: usize, reason: Reason) -> bool {
        self.lanes[place].drop_oldest(reason) || self.lanes.iter_mut().any(|ring| ring.drop_oldest(reason))
    }
}
