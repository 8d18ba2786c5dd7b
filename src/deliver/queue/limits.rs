//! What goes when there is too much: whole files, the oldest first.
//!
//! What a newcomer would get wrong: a record that is under way when its file goes is not counted here. Its reader has it
//! in memory, and says what became of it; until then the cursor holds its samples.

use super::Moment;
use super::Reason;
use super::cursor::Cursor;
use super::log::Log;
use super::open;
use super::ring::Place;
use super::trouble::Trouble;
use super::worker::{HOUSE, Worker};
use crate::config::deliver::{Fsync, OnFull};
use std::time::Duration;

/// How long it has to be quiet for another line in the log.
pub(super) const QUIET: Duration = Duration::from_secs(600);

impl Worker {
    /// Whether the oldest goes, rather than the newest.
    pub(super) fn evicts(&self) -> bool {
        self.shared.config.on_full == OnFull::DropOldest
    }

    /// Makes room for a new file of `wanted` bytes, or of `least` where the file system has little, and says how many.
    pub(super) fn room(&mut self, wanted: u64, least: u64, now: Moment) -> Result<u64, Trouble> {
        let trouble = |reason| Trouble { reason, error: None };
        let bytes = |logs: &[Log]| logs.iter().map(Log::bytes).sum::<u64>();
        if bytes(&self.logs) + wanted > self.shared.config.max_bytes {
            self.reclaim_now();
        }
        loop {
            if bytes(&self.logs) + wanted <= self.shared.config.max_bytes {
                break;
            }
            if !self.evicts() || !self.evict(Reason::Size, now) {
                return Err(trouble(Reason::Size));
            }
        }
        loop {
            let Ok(free) = self.storage.free(&self.folder) else { return Ok(wanted) };
            self.shared.lock().disk_free = Some(free);
            let free = free.saturating_sub(self.shared.config.min_free);
            if free >= wanted {
                return Ok(wanted);
            }
            // a quarter of what there is, so that files can come and go one by one
            if free / 4 >= least.max(64 << 10) {
                return Ok(free / 4);
            }
            if !self.evicts() || !self.evict(Reason::DiskFull, now) {
                return if free >= least && self.shared.config.min_free == 0 {
                    Ok(least)
                } else {
                    Err(trouble(Reason::DiskFull))
                };
            }
        }
    }

    /// The oldest file goes, and what waits in it is counted; `false`: there is none.
    pub(super) fn evict(&mut self, reason: Reason, now: Moment) -> bool {
        let age = |log: &Log, sealed: bool| {
            let in_use = log.segments.len() == 1 && log.active.is_some();
            log.segments.front().filter(|_| in_use != sealed).map(|oldest| oldest.max_timestamp)
        };
        let oldest = |sealed: bool| {
            let ages =
                self.logs.iter().enumerate().filter_map(|(place, log)| Some((age(log, sealed)?, place)));
            ages.min().map(|(_, place)| place)
        };
        // one that is written to goes only where there is no other
        let Some(place) = oldest(true).or_else(|| oldest(false)) else { return false };
        self.evict_of(place, reason, now);
        true
    }

    fn evict_of(&mut self, place: usize, reason: Reason, now: Moment) {
        let Some(segment) = self.logs[place].pop() else { return };
        let (samples, cursor) = {
            let mut state = self.shared.lock();
            let ring = &mut state.lanes[place];
            ring.skip(Place { sequence: segment.first - 1, total: segment.before });
            let samples = ring.leave(segment.last, reason);
            (samples, Cursor { boot: self.boot, ..ring.cursor() })
        };
        // first it is written down that nothing is missing, then it goes
        let log = &mut self.logs[place];
        let mut written = log.cursor.put(self.storage.as_ref(), cursor);
        if written.is_ok() && self.shared.config.fsync != Fsync::Never {
            written = self.sync_cursor(place);
        }
        let gone = self.logs[place].unlink(segment);
        for error in [written, gone].into_iter().filter_map(Result::err) {
            self.count_error(&error);
        }
        if samples > 0 {
            let quiet = self.evicted.is_none_or(|last| now.steady.saturating_sub(last) > QUIET);
            self.evicted = Some(now.steady);
            if quiet {
                tracing::warn!(
                    queue = %self.folder.display(),
                    reason = reason.word(),
                    samples,
                    "the oldest samples of the queue are dropped undelivered"
                );
            }
        }
        self.shared.wake_all();
    }

    /// Removes files of which everything is settled.
    pub(super) fn reclaim(&mut self) {
        let mut removed = false;
        for place in 0..self.logs.len() {
            while self.logs[place].oldest_is_settled() {
                let Some(segment) = self.logs[place].pop() else { break };
                removed = true;
                if let Err(error) = self.logs[place].unlink(segment) {
                    self.count_error(&error);
                }
            }
        }
        if removed && self.shared.lock().blocked.is_some_and(|reason| reason != Reason::RingFull) {
            // there is room again
            self.again = Duration::ZERO;
            self.shared.lock().work = true;
        }
    }

    /// Makes safe what was settled, so that files can be removed for it.
    fn reclaim_now(&mut self) {
        for place in 0..self.logs.len() {
            let log = &self.logs[place];
            let settled = log.cursor.written.map_or(0, |cursor| cursor.floor.sequence);
            let waits = log.segments.front().is_some_and(|oldest| oldest.last.sequence <= settled);
            if waits && let Err(error) = self.sync_cursor(place) {
                self.count_error(&error);
            }
        }
        self.reclaim();
    }

    /// Looks at limits that time and others bring about.
    pub(super) fn house(&mut self, now: Moment) {
        self.next_house = now.steady + HOUSE;
        open::sync_names(self.storage.as_ref(), &mut self.unsynced_names);
        let too_old = self.shared.too_old();
        for place in 0..self.logs.len() {
            while let Some(oldest) = self.logs[place].segments.front() {
                if oldest.max_timestamp >= too_old || oldest.last.sequence < oldest.first {
                    break;
                }
                self.evict_of(place, Reason::Age, now);
            }
        }
        {
            let mut state = self.shared.lock();
            state.lanes.iter_mut().for_each(|ring| ring.expire(too_old));
        }
        // the limit may have been another one, or a file could not be removed
        let limit = self.shared.config.max_bytes;
        while self.evicts()
            && self.logs.iter().map(Log::bytes).sum::<u64>() > limit
            && self.evict(Reason::Size, now)
        {}
        let free = self.storage.free(&self.folder).ok();
        self.shared.lock().disk_free = free;
        let short = |free: Option<u64>| free.is_some_and(|free| free < self.shared.config.min_free);
        if short(free) && self.evicts() {
            self.evict_until_free(now);
        }
    }

    /// Lets files go until enough of the file system is free, or none but those in use are left.
    fn evict_until_free(&mut self, now: Moment) {
        while self.logs.iter().any(|log| log.segments.len() > usize::from(log.active.is_some())) {
            let free = self.storage.free(&self.folder).ok();
            self.shared.lock().disk_free = free;
            if free.is_none_or(|free| free >= self.shared.config.min_free)
                || !self.evict(Reason::DiskFull, now)
            {
                return;
            }
        }
    }
}
