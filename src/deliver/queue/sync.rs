//! What was written is made safe: by a thread of its own, because `fdatasync` takes milliseconds or, behind a burst,
//! seconds, and records come in all the time.
//!
//! What a newcomer would get wrong: after a failed `fdatasync` the system takes the pages for clean, so that calling it
//! again says nothing. The file is written anew, from memory where that has the records, and takes the old one's place.

use super::cursor::Cursor;
use super::limits::QUIET;
use super::log::Log;
use super::state::Shared;
use super::storage::{File, Storage};
use super::trouble::{Trouble, is_lost, reason_of};
use super::worker::Worker;
use super::{Moment, Record};
use crate::config::deliver::Fsync;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How many files of a lane are open at once to be made safe.
const FILES: usize = 64;

/// Something to be made safe.
pub(super) struct Item {
    place: usize,
    what: What,
}

enum What {
    /// With how often files had come or gone then.
    Folder(PathBuf, u64),
    /// The file that begins with that number, up to there.
    Segment(u64, Arc<dyn File>, u64),
    Cursor(Cursor, Arc<dyn File>),
}

pub(super) type Outcome = (Item, io::Result<()>, Duration);

/// Who does it.
pub(super) enum Syncer {
    /// The caller.
    Here,
    /// A thread.
    Thread {
        jobs: Option<mpsc::SyncSender<Vec<Item>>>,
        outcomes: mpsc::Receiver<Vec<Outcome>>,
        under_way: bool,
        thread: Option<JoinHandle<()>>,
    },
}

fn carry_out(storage: &dyn Storage, items: Vec<Item>) -> Vec<Outcome> {
    let one = |item: Item| {
        let start = Instant::now();
        let done = match &item.what {
            What::Folder(folder, _) => storage.sync_folder(folder),
            What::Segment(_, file, _) | What::Cursor(_, file) => file.sync(),
        };
        (item, done, start.elapsed())
    };
    items.into_iter().map(one).collect()
}

impl Syncer {
    /// Starts the thread.
    pub(super) fn start(storage: Arc<dyn Storage>, shared: Arc<Shared>) -> io::Result<Self> {
        // one job at a time: the channel is never full
        let (jobs, todo) = mpsc::sync_channel::<Vec<Item>>(1);
        let (done, outcomes) = mpsc::sync_channel(1);
        let body = move || {
            while let Ok(items) = todo.recv() {
                if done.send(carry_out(storage.as_ref(), items)).is_err() {
                    return;
                }
                shared.lock().work = true;
                shared.work.notify_one();
            }
        };
        let thread = std::thread::Builder::new().name("queue-sync".to_owned()).spawn(body)?;
        Ok(Self::Thread { jobs: Some(jobs), outcomes, under_way: false, thread: Some(thread) })
    }

    /// Ends the thread, and says what it did last: a failure is told once.
    pub(super) fn end(&mut self) -> Vec<Outcome> {
        let mut last = vec![];
        if let Self::Thread { jobs, outcomes, thread, .. } = self {
            drop(jobs.take());
            while let Ok(outcomes) = outcomes.recv() {
                last.extend(outcomes);
            }
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
            *self = Self::Here;
        }
        last
    }
}

impl Log {
    /// Whether something is not known to be safe.
    pub(super) fn is_unsynced(&self) -> bool {
        let unsynced = |segment: &super::log::Segment| segment.synced < segment.wrote;
        self.names.1 < self.names.0 || self.cursor.unsynced || self.segments.iter().any(unsynced)
    }

    /// All that is not, the oldest first.
    fn unsynced(&mut self, place: usize) -> Vec<Item> {
        let mut items = vec![];
        if self.names.1 < self.names.0 {
            items.push(Item { place, what: What::Folder(self.folder.clone(), self.names.0) });
        }
        for at in 0..self.segments.len() {
            let segment = &self.segments[at];
            if segment.synced >= segment.wrote || segment.broken {
                continue;
            }
            if items.len() >= FILES {
                break;
            }
            let (first, wrote) = (segment.first, segment.wrote);
            let file = segment.file.clone().map_or_else(|| self.storage.open(&self.path(first)), Ok);
            match file {
                Ok(file) => items.push(Item { place, what: What::Segment(first, file, wrote) }),
                // what is not there cannot be made safe; reading it will say so
                Err(error) if is_lost(&error) => self.segments[at].synced = wrote,
                Err(_) => {}
            }
        }
        if let (true, Some(cursor), Some(file)) =
            (self.cursor.unsynced && !self.cursor.broken, self.cursor.written, self.cursor.file())
        {
            items.push(Item { place, what: What::Cursor(cursor, Arc::clone(file)) });
        }
        items
    }
}

impl Worker {
    /// The time has come to make safe what was written.
    pub(super) fn sync(&mut self, now: Moment) {
        let Fsync::Every(interval) = self.shared.config.fsync else { return };
        if matches!(self.syncer, Syncer::Thread { under_way: true, .. }) {
            return;
        }
        self.next_sync = now.steady + interval;
        if self.shared.lock().blocked.is_none() {
            (0..self.logs.len()).for_each(|place| self.mend(place));
        }
        let logs = self.logs.iter_mut().enumerate();
        let items: Vec<Item> = logs.flat_map(|(place, log)| log.unsynced(place)).collect();
        if items.is_empty() {
            return;
        }
        match &mut self.syncer {
            Syncer::Thread { jobs: Some(jobs), under_way, .. } => *under_way = jobs.try_send(items).is_ok(),
            _ => {
                let outcomes = carry_out(self.storage.as_ref(), items);
                self.learn(outcomes);
            }
        }
    }

    /// Takes note of what the thread did.
    pub(super) fn synced(&mut self) {
        if let Syncer::Thread { outcomes, under_way, .. } = &mut self.syncer
            && let Ok(outcomes) = outcomes.try_recv()
        {
            *under_way = false;
            self.learn(outcomes);
        }
    }

    /// Makes everything safe, now.
    pub(super) fn sync_all(&mut self) {
        if self.shared.config.fsync == Fsync::Never {
            return;
        }
        for place in 0..self.logs.len() {
            self.sync_lane(place);
        }
    }

    /// Makes one lane safe, now.
    pub(super) fn sync_lane(&mut self, place: usize) {
        self.mend(place);
        let items = self.logs[place].unsynced(place);
        let outcomes = carry_out(self.storage.as_ref(), items);
        self.learn(outcomes);
    }

    /// Makes a cursor safe, now.
    pub(super) fn sync_cursor(&mut self, place: usize) -> io::Result<()> {
        if self.logs[place].cursor.broken {
            return self.repair_cursor(place);
        }
        let (Some(cursor), Some(file)) = (self.logs[place].cursor.written, self.logs[place].cursor.file())
        else {
            return Ok(());
        };
        let what = What::Cursor(cursor, Arc::clone(file));
        let outcomes = carry_out(self.storage.as_ref(), vec![Item { place, what }]);
        self.learn(outcomes);
        if self.logs[place].cursor.unsynced {
            Err(io::Error::other("a cursor cannot be made safe"))
        } else {
            Ok(())
        }
    }

    pub(super) fn learn(&mut self, outcomes: Vec<Outcome>) {
        for (Item { place, what }, done, took) in outcomes {
            {
                let mut state = self.shared.lock();
                state.disk.fsyncs += 1;
                state.disk.fsync_seconds += took.as_secs_f64();
                state.disk.fsync_errors += u64::from(done.is_err());
            }
            match done {
                Ok(()) => self.is_safe(place, &what),
                Err(error) => {
                    self.count_error(&error);
                    let now = (self.shared.clock)().steady;
                    let last = self.unsafe_since.replace(now);
                    if last.is_none_or(|last| now.saturating_sub(last) > QUIET) {
                        tracing::warn!(queue = %self.folder.display(), %error, "fdatasync failed; the file is written anew");
                    }
                    if let Err(error) = self.repair(place, &what) {
                        self.count_error(&error);
                        self.block(Trouble { reason: reason_of(&error), error: Some(error) });
                    }
                }
            }
        }
    }

    fn is_safe(&mut self, place: usize, what: &What) {
        let log = &mut self.logs[place];
        match what {
            What::Folder(_, names) => log.names.1 = log.names.1.max(*names),
            What::Segment(first, _, wrote) => {
                let last = log.segments.len().wrapping_sub(1);
                let active = log.active.is_some();
                let found = log.segments.iter_mut().enumerate().find(|(_, segment)| segment.first == *first);
                if let Some((at, segment)) = found {
                    segment.synced = segment.synced.max(*wrote);
                    if segment.synced >= segment.wrote && !(active && at == last) {
                        segment.file = None;
                    }
                }
            }
            What::Cursor(cursor, _) => {
                log.safe = log.safe.max(cursor.floor.sequence);
                if log.cursor.written == Some(*cursor) {
                    log.cursor.unsynced = false;
                }
            }
        }
    }

    /// Writes anew what could not be written anew before.
    fn mend(&mut self, place: usize) {
        let log = &self.logs[place];
        let broken: Vec<u64> =
            log.segments.iter().filter(|segment| segment.broken).map(|segment| segment.first).collect();
        let cursor = log.cursor.broken.then(|| self.repair_cursor(place));
        let segments = broken.into_iter().map(|first| self.repair_segment(place, first));
        let failed: Vec<io::Error> = segments.chain(cursor).filter_map(Result::err).collect();
        for error in failed {
            self.count_error(&error);
            self.block(Trouble { reason: reason_of(&error), error: Some(error) });
        }
    }

    fn repair(&mut self, place: usize, what: &What) -> io::Result<()> {
        match what {
            What::Folder(..) => Ok(()),
            What::Segment(first, ..) => self.repair_segment(place, *first),
            What::Cursor(..) => self.repair_cursor(place),
        }
    }

    fn repair_segment(&mut self, place: usize, first: u64) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let held = |sequence| -> Option<Record> { shared.lock().lanes[place].get(sequence).cloned() };
        let done = self.logs[place].rewrite(first, held);
        if done.is_err() {
            let found = self.logs[place].segments.iter_mut().find(|segment| segment.first == first);
            found.into_iter().for_each(|segment| segment.broken = true);
        }
        done
    }

    fn repair_cursor(&mut self, place: usize) -> io::Result<()> {
        let log = &mut self.logs[place];
        let done = log.cursor.replace(self.storage.as_ref());
        log.cursor.broken = done.is_err();
        done?;
        log.safe = log.safe.max(log.cursor.written.map_or(0, |cursor| cursor.floor.sequence));
        Ok(())
    }
}
