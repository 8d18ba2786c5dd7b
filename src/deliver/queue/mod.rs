//! The queue of an output: records are written to a log first, and leave it when they are delivered or counted.
//!
//! - [`status`]: what is counted
//! - `ring`: one lane in memory
//! - `state`: all lanes in memory, and what is known of the disk
//! - [`lane`]: who reads
//! - `worker`: the thread that writes; `reading` reads, `sync` makes safe, `limits` says what has to go,
//!   `trouble` what an error means
//! - `open`: lock, generations and threads; `recover`: what an earlier process left
//! - `log`: the files of a lane; `cursor`: up to where it is settled
//! - `segment`, `walk`: how a file is written, and how it is gone through past what is damaged
//! - [`storage`]: the calls of the system, so that each can fail in a test; [`disk`]: the real ones
//!
//! What a newcomer would get wrong: [`Queue::append`] waits for nothing. What it takes is in memory only until the
//! thread of the queue has written it; from then on it is accepted, counted, and may be read.

mod cursor;
pub mod disk;
pub mod lane;
mod limits;
mod log;
mod open;
mod reading;
mod recover;
mod ring;
mod segment;
mod state;
pub mod status;
pub mod storage;
mod sync;
mod trouble;
mod walk;
mod worker;
#[cfg(test)]
mod tests;

pub use lane::{Backlog, Lane, Settled};
pub use status::{Counts, Status};
pub use worker::Worker;

use crate::config::deliver as config;
use bytes::Bytes;
use state::Shared;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use storage::Storage;

/// Records on their way to one output. Copies are of the same queue.
#[derive(Clone)]
pub struct Queue {
    handle: Arc<Handle>,
}

/// How long the thread may take to end when a queue is dropped.
const PATIENCE: Duration = Duration::from_secs(5);

/// What all copies share. When the last one goes without [`Queue::close`], that is as a death of the process.
pub(super) struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.abandon();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        // it ends after the call of the system that it is in; a disk that hangs is not waited for
        let start = Instant::now();
        while !thread.is_finished() && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Queue {
    /// Opens the queue in a folder, or makes it. With [`config::Durability::Memory`] the folder is not touched.
    ///
    /// Fails where the folder cannot be had: another process is at it, or it cannot be written.
    pub fn open(folder: &Path, config: &config::Queue, storage: Arc<dyn Storage>) -> Result<Self, Error> {
        let (queue, worker) = Self::prepare(folder, config, Arc::clone(&storage), &Options::default())?;
        let Some(mut worker) = worker else { return Ok(queue) };
        let failed = |source| Error::Thread { path: folder.to_owned(), source };
        worker.with_threads(storage).map_err(failed)?;
        let thread =
            thread::Builder::new().name("queue".to_owned()).spawn(move || worker.run()).map_err(failed)?;
        *queue.handle.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(queue)
    }

    /// The same for tests, which do the work of its thread themselves by [`Worker::turn`]. There is no worker where
    /// there is no disk.
    pub fn prepare(
        folder: &Path,
        config: &config::Queue,
        storage: Arc<dyn Storage>,
        options: &Options,
    ) -> Result<(Self, Option<Worker>), Error> {
        let (shared, worker) = if config.durability == config::Durability::Memory {
            (Arc::new(Shared::in_memory(config, Arc::clone(&options.clock))), None)
        } else {
            let (shared, worker) = open::open(folder, config, storage, options)?;
            (shared, Some(worker))
        };
        Ok((Self { handle: Arc::new(Handle { shared, thread: Mutex::default() }) }, worker))
    }

    /// Takes a record for a lane of [`config::Queue::lanes`]. Never waits: what finds no room is counted as dropped.
    /// A lane that is not there is the last one.
    pub fn append(&self, lane: usize, record: Record) {
        self.handle.shared.append(lane, record);
    }

    /// The reader of a lane; `None` while somebody has it.
    pub fn lane(&self, index: usize) -> Option<Lane> {
        Lane::take(&self.handle, self.handle.shared.place(index)?)
    }

    /// The readers of all lanes that nobody has, with those that were there before `lanes` was changed. These come
    /// first, and the others have nothing to read until they are empty.
    pub fn lanes(&self) -> Vec<Lane> {
        (0..self.handle.shared.places()).filter_map(|place| Lane::take(&self.handle, place)).collect()
    }

    /// All that is counted, of one moment.
    pub fn status(&self) -> Status {
        self.handle.shared.status()
    }

    /// Ends it: what was taken is written and safe, and the next start knows that nothing was under way. What is in
    /// memory alone is counted as dropped. Takes as long as the disk does: a caller has a deadline of its own.
    pub async fn close(&self) {
        let shared = &self.handle.shared;
        shared.close();
        loop {
            let ended = shared.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if shared.lock().closed {
                return;
            }
            ended.await;
        }
    }
}

/// Samples that are sent in one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `io.prometheus.write.v2.Request`, compressed with zstd.
    pub body: Bytes,
    /// How many samples it has.
    pub samples: u32,
    /// The time of its oldest sample, in milliseconds since 1970.
    pub min_timestamp: i64,
    /// The time of its newest sample, in milliseconds since 1970.
    pub max_timestamp: i64,
}

/// The largest body of a record, in bytes.
pub const LARGEST_BODY: usize = 8 << 20;

/// A record of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// One more than that of the record before it.
    pub sequence: u64,
    /// The record.
    pub record: Record,
    /// Whether it may have been delivered before the last start, which did not follow a stop.
    pub may_be_repeated: bool,
}

/// Why samples left without having been delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The queue was above `max_bytes`.
    Size,
    /// They waited longer than `max_age`.
    Age,
    /// The file system was full.
    DiskFull,
    /// The disk was of no use, and memory was full.
    RingFull,
    /// Their record was damaged, or its file was.
    Corrupt,
    /// The receiver refused them.
    Rejected,
    /// The receiver refused what it may have had already.
    PossibleDuplicate,
    /// A target of its own is more than the receiver takes in one request.
    TooLarge,
    /// The output is there no more, or its queue was in memory alone.
    Closed,
}

impl Reason {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 9] = [
        Self::Size,
        Self::Age,
        Self::DiskFull,
        Self::RingFull,
        Self::Corrupt,
        Self::Rejected,
        Self::PossibleDuplicate,
        Self::TooLarge,
        Self::Closed,
    ];

    /// The word that a label has for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Age => "age",
            Self::DiskFull => "disk_full",
            Self::RingFull => "ring_full",
            Self::Corrupt => "corrupt",
            Self::Rejected => "rejected",
            Self::PossibleDuplicate => "possible_duplicate",
            Self::TooLarge => "too_large",
            Self::Closed => "closed",
        }
    }
}

/// What tests and benches set, and nobody else.
#[derive(Clone)]
pub struct Options {
    /// What time it is.
    pub clock: Clock,
    /// How large a file of the log becomes, in bytes; less where `max_bytes` asks for it.
    pub segment: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { clock: system_clock(), segment: 16 << 20 }
    }
}

/// What time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970, which may jump.
    pub wall: i64,
    /// Since some moment of the past; it never goes back.
    pub steady: Duration,
}

/// Says what time it is.
pub type Clock = Arc<dyn Fn() -> Moment + Send + Sync>;

fn system_clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || Moment {
        wall: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
        steady: start.elapsed(),
    })
}

/// Why a queue cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error("the queue in {} is in use by another process", .0.display())]
    Busy(PathBuf),
    /// Its folder cannot be made, written or read.
    #[error("cannot use {} for a queue", .path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no thread for it.
    #[error("cannot start the thread of the queue in {}", .path.display())]
    Thread {
        /// Its folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Error {
    /// The kind of it, one of a closed set.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Busy(_) => "busy",
            Self::Folder { .. } => "folder",
            Self::Thread { .. } => "thread",
        }
    }
}
