//! One lane in memory: its newest records, the one that is under way, and its counters.
//!
//! What a newcomer would get wrong: a record has no number of its own while it is in memory alone. Its number follows
//! from its place, so that one that goes leaves no gap in the log. [`Ring::written`] is where the log ends, and what
//! the thread is just writing ([`Ring::writing`]) stays where it is.

use super::cursor::Cursor;
use super::status::{Counts, LaneStatus};
use super::{Entry, Reason, Record, Settled};
use std::collections::VecDeque;
use std::time::Duration;

/// What a record takes in memory beside its body, in bytes.
const OVERHEAD: u64 = 96;

/// A place in a lane: a sequence number, and the samples of the records up to it, counted since the lane began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) sequence: u64,
    pub(super) total: u64,
}

/// A lane in memory.
#[derive(Debug, Default)]
pub(super) struct Ring {
    pub(super) generation: u32,
    pub(super) index: usize,
    /// The newest records, without a gap.
    records: VecDeque<Record>,
    /// The number of the first of them; where there is none, that of the next.
    first: u64,
    /// What they take.
    bytes: u64,
    /// All up to it are settled.
    pub(super) acked: Place,
    /// All up to it are settled, but for the one under way where that is below it.
    pub(super) floor: Place,
    /// Why the file of the one under way went, where [`Ring::floor`] is past it.
    pub(super) reason: Option<Reason>,
    /// All up to it are settled, and that is written down.
    pub(super) persisted: u64,
    /// The last one in the log.
    pub(super) written: Place,
    /// The last one that is being written.
    pub(super) writing: u64,
    /// The last one that counts as accepted.
    pub(super) accepted: u64,
    /// The last one that may have been delivered by an earlier process.
    pub(super) repeated: u64,
    /// The one under way, and whether its bytes are those of a record in memory.
    flight: Option<Flight>,
    /// When the first of those that wait came, or the one before it was settled.
    pub(super) moved: Duration,
    /// Whether the one to be read next is to be had from the disk.
    pub(super) wanted: bool,
    /// Whether somebody reads.
    pub(super) taken: bool,
    pub(super) counts: Counts,
    pub(super) highest_accepted: Option<i64>,
    pub(super) highest_delivered: Option<i64>,
    /// The oldest timestamp of the oldest file.
    pub(super) oldest_on_disk: Option<i64>,
}

#[derive(Debug)]
struct Flight {
    entry: Entry,
    bytes: u64,
}

/// What it takes to hold a record, in bytes.
pub(super) fn weight(record: &Record) -> u64 {
    record.body.len() as u64 + OVERHEAD
}

impl Ring {
    /// A lane whose log ends there and is settled up to `acked`.
    pub(super) fn new(generation: u32, index: usize, acked: Place, written: Place) -> Self {
        let end = acked.max(written);
        Self {
            generation,
            index,
            first: end.sequence + 1,
            acked,
            floor: acked,
            persisted: acked.sequence,
            written,
            writing: written.sequence,
            accepted: end.sequence,
            ..Self::default()
        }
    }

    /// What its records take in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + self.flight.as_ref().map_or(0, |flight| flight.bytes)
    }

    /// The number after the last.
    pub(super) fn end(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    /// Where the next one to be read comes after.
    pub(super) fn base(&self) -> Place {
        self.acked.max(self.floor)
    }

    /// Whether the one to be read next is on disk alone.
    pub(super) fn next_is_on_disk(&self) -> bool {
        let next = self.base().sequence + 1;
        next < self.first && next <= self.written.sequence
    }

    /// Puts a record at the end; it is not accepted yet.
    pub(super) fn push(&mut self, record: Record, now: Duration) {
        if self.counts.pending_records == 0 {
            self.moved = now;
        }
        self.bytes += weight(&record);
        self.records.push_back(record);
    }

    /// Counts what never came in.
    pub(super) fn refuse(&mut self, samples: u32, reason: Reason) {
        self.counts.accepted += u64::from(samples);
        self.counts.dropped.add(reason, u64::from(samples));
    }

    /// Counts all up to that number as accepted; says whether there were any.
    pub(super) fn accept(&mut self, to: u64) -> bool {
        let from = (self.accepted + 1).max(self.first);
        for sequence in from..=to {
            let Some(record) = self.records.get((sequence - self.first) as usize) else { break };
            self.counts.accepted += u64::from(record.samples);
            self.counts.pending += u64::from(record.samples);
            self.counts.pending_records += 1;
            self.highest_accepted = self.highest_accepted.max(Some(record.max_timestamp));
        }
        let new = to > self.accepted;
        self.accepted = self.accepted.max(to);
        new
    }

    /// The record that is under way, taken from memory where none is. Records that waited too long are dropped.
    pub(super) fn oldest(&mut self, too_old: i64) -> Option<&Entry> {
        if self.flight.is_none() {
            let (next, record) = loop {
                let next = self.base().sequence + 1;
                if next < self.first || next > self.accepted {
                    return None;
                }
                let record = self.records.front()?.clone();
                if record.max_timestamp >= too_old || next <= self.writing && next > self.written.sequence {
                    break (next, record);
                }
                self.drop_next(Reason::Age);
            };
            self.wanted = false;
            let may_be_repeated = next <= self.repeated;
            // its bytes are those of the ring until it leaves that; `forget` then makes them its own
            self.flight = Some(Flight { entry: Entry { sequence: next, record, may_be_repeated }, bytes: 0 });
        }
        self.flight.as_ref().map(|flight| &flight.entry)
    }

    /// What is under way.
    pub(super) fn flight(&self) -> Option<&Entry> {
        self.flight.as_ref().map(|flight| &flight.entry)
    }

    /// A record from the disk is under way.
    pub(super) fn fly(&mut self, sequence: u64, record: Record) {
        self.wanted = false;
        let bytes = weight(&record);
        let may_be_repeated = sequence <= self.repeated;
        self.flight = Some(Flight { entry: Entry { sequence, record, may_be_repeated }, bytes });
    }

    /// What became of the record under way; `false` where it is another one.
    pub(super) fn settle(&mut self, sequence: u64, settled: &Settled, now: Duration) -> bool {
        let Some(flight) = self.flight.take_if(|flight| flight.entry.sequence == sequence) else {
            return false;
        };
        self.moved = now;
        let record = flight.entry.record;
        let mut left = record.samples;
        let mut take = |samples: u32| {
            let taken = samples.min(left);
            left -= taken;
            u64::from(taken)
        };
        let delivered = take(settled.delivered);
        self.counts.delivered += delivered;
        for (reason, samples) in &settled.dropped {
            self.counts.dropped.add(*reason, take(*samples));
        }
        self.counts.dropped.add(Reason::Rejected, u64::from(left));
        if delivered > 0 || record.samples == 0 {
            self.highest_delivered = self.highest_delivered.max(Some(record.max_timestamp));
        }
        self.gone(u64::from(record.samples), 1);
        if self.floor.sequence >= sequence {
            self.acked = self.floor;
        } else {
            self.acked =
                Place { sequence, total: self.acked.total.max(self.floor.total) + u64::from(record.samples) };
            self.floor = self.acked;
        }
        self.pop_settled();
        true
    }

    /// These wait no more, and are counted already. Where files contradict each other, there may be more or less of
    /// them than was found at the start: what was found is then corrected, so that the counters balance.
    fn gone(&mut self, samples: u64, records: u64) {
        let counts = &mut self.counts;
        counts.recovered += samples.saturating_sub(counts.pending);
        counts.pending = counts.pending.saturating_sub(samples);
        counts.pending_records = counts.pending_records.saturating_sub(records);
        if counts.pending_records == 0 {
            counts.dropped.add(Reason::Corrupt, std::mem::take(&mut counts.pending));
        }
    }

    /// All up to that place leave, but for the record under way, and count with a reason. Those that are not there
    /// any more without having been counted are not to be in it: see [`Ring::skip`].
    pub(super) fn leave(&mut self, to: Place, reason: Reason) -> u64 {
        let base = self.base();
        if to.sequence <= base.sequence {
            return 0;
        }
        let mut samples = to.total.saturating_sub(base.total);
        let mut records = to.sequence - base.sequence;
        if let Some(flight) = self.flight.as_ref().filter(|flight| flight.entry.sequence > base.sequence) {
            samples = samples.saturating_sub(u64::from(flight.entry.record.samples));
            records -= 1;
        }
        self.counts.dropped.add(reason, samples);
        self.gone(samples, records);
        self.reason = Some(reason);
        self.skip(to);
        samples
    }

    /// Goes on after that place, with nothing to be counted.
    pub(super) fn skip(&mut self, to: Place) {
        if to.sequence > self.base().sequence {
            self.floor = to;
            if self.flight.is_none() {
                self.acked = to;
            }
            self.pop_settled();
        }
    }

    /// Drops the next one to be read, which is in memory and not under way.
    fn drop_next(&mut self, reason: Reason) {
        let base = self.base();
        let Some(record) = self.records.front() else { return };
        let samples = u64::from(record.samples);
        if base.sequence < self.written.sequence {
            self.leave(Place { sequence: base.sequence + 1, total: base.total + samples }, reason);
        } else {
            self.remove(0, reason);
        }
    }

    /// Drops the oldest that is in memory alone and neither under way nor being written; `false` where there is none.
    pub(super) fn drop_oldest(&mut self, reason: Reason) -> bool {
        match self.droppable() {
            Some(at) => {
                self.remove(at, reason);
                true
            }
            None => false,
        }
    }

    /// Drops the newest that is in memory alone and neither under way nor being written; `false` where there is none.
    pub(super) fn drop_newest(&mut self, reason: Reason) -> bool {
        let found = self.droppable().is_some();
        if found {
            self.remove(self.records.len() - 1, reason);
        }
        found
    }

    /// Drops what waited too long in memory alone.
    pub(super) fn expire(&mut self, too_old: i64) {
        while let Some(at) = self.droppable().filter(|at| self.records[*at].max_timestamp < too_old) {
            self.remove(at, Reason::Age);
        }
    }

    fn droppable(&self) -> Option<usize> {
        let under_way = self.flight.as_ref().map_or(0, |flight| flight.entry.sequence);
        let sequence = (self.written.sequence.max(self.writing).max(under_way) + 1).max(self.first);
        (sequence < self.end()).then_some((sequence - self.first) as usize)
    }

    /// Takes one out that has no number yet: those behind it move up.
    fn remove(&mut self, at: usize, reason: Reason) {
        let sequence = self.first + at as u64;
        let Some(record) = self.records.remove(at) else { return };
        self.bytes -= weight(&record);
        let samples = u64::from(record.samples);
        self.counts.dropped.add(reason, samples);
        if sequence <= self.accepted {
            self.accepted -= 1;
            self.counts.pending -= samples;
            self.counts.pending_records -= 1;
        } else {
            self.counts.accepted += samples;
        }
    }

    /// Forgets the memory of the oldest record that is in the log; says what that gave.
    pub(super) fn forget(&mut self) -> Option<u64> {
        if self.first > self.written.sequence {
            return None;
        }
        let record = self.records.pop_front()?;
        let mut bytes = weight(&record);
        self.bytes -= bytes;
        if let Some(flight) = self.flight.as_mut().filter(|flight| flight.entry.sequence == self.first) {
            flight.bytes = std::mem::take(&mut bytes);
        }
        self.first += 1;
        Some(bytes)
    }

    fn pop_settled(&mut self) {
        let base = self.base().sequence;
        while self.first <= base {
            let Some(record) = self.records.pop_front() else { break };
            self.bytes -= weight(&record);
            if let Some(flight) = self.flight.as_mut().filter(|flight| flight.entry.sequence == self.first) {
                flight.bytes = weight(&record);
            }
            self.first += 1;
        }
        self.first = self.first.max(base + 1);
    }

    /// Those that are in memory alone, from the first on, and what comes before it.
    pub(super) fn unwritten(&self) -> (Place, impl Iterator<Item = &Record>) {
        let from = (self.written.sequence + 1).max(self.first);
        let before = if from == self.written.sequence + 1 { self.written } else { self.base() };
        (Place { sequence: from - 1, ..before }, self.records.iter().skip((from - self.first) as usize))
    }

    /// What is in memory alone takes, in bytes.
    pub(super) fn unwritten_bytes(&self) -> u64 {
        self.unwritten().1.map(weight).sum()
    }

    /// It is in the log up to there, which accepts them; up to `end` it is being written.
    pub(super) fn wrote(&mut self, to: Place, end: u64) {
        self.written = to;
        self.writing = end;
        self.accept(to.sequence);
    }

    /// What is to be written down of it, but for how the process went.
    pub(super) fn cursor(&self) -> Cursor {
        let held = self.flight.as_ref().filter(|flight| flight.entry.sequence <= self.floor.sequence);
        Cursor {
            acked: self.acked,
            floor: self.floor.max(self.acked),
            held: held.map_or(0, |flight| u64::from(flight.entry.record.samples)),
            reason: held.and(self.reason),
            repeated: self.repeated,
            ..Cursor::default()
        }
    }

    /// Whether what was settled or dropped last is still to be written down.
    pub(super) fn unpersisted(&self) -> bool {
        self.acked.sequence > self.persisted && self.acked.sequence <= self.written.sequence
    }

    /// A record that is in memory, by its number.
    pub(super) fn get(&self, sequence: u64) -> Option<&Record> {
        self.records.get(usize::try_from(sequence.checked_sub(self.first)?).ok()?)
    }

    /// Drops all that is in memory alone, with what is under way from there.
    pub(super) fn drop_all(&mut self, reason: Reason) {
        if let Some(flight) = self.flight.take_if(|flight| flight.entry.sequence > self.written.sequence) {
            // it is still in the ring
            drop(flight);
        }
        while self.drop_oldest(reason) {}
    }

    pub(super) fn status(&self) -> LaneStatus {
        let oldest = if self.counts.pending_records == 0 {
            None
        } else if let Some(flight) = &self.flight {
            Some(flight.entry.record.min_timestamp)
        } else if self.next_is_on_disk() {
            self.oldest_on_disk
        } else {
            self.records.front().map(|record| record.min_timestamp)
        };
        LaneStatus {
            generation: self.generation,
            index: self.index,
            counts: self.counts.clone(),
            oldest_pending: oldest,
            highest_accepted: self.highest_accepted,
            highest_delivered: self.highest_delivered,
        }
    }
}
