//! Opening a queue: its lock, its generations, and its thread.
//!
//! What a newcomer would get wrong: how many lanes a generation has stands in the name of its folder, so that no death
//! while it is made leaves a doubt. One that was left is read to its end before the present one is.

use super::cursor::Cursor;
use super::log::Log;
use super::recover::{self, Quarantine};
use super::ring::Ring;
use super::state::Shared;
use super::status::Disk;
use super::storage::Storage;
use super::sync::Syncer;
use super::trouble::{Trouble, reason_of};
use super::worker::Worker;
use super::{Error, Options};
use crate::config::deliver as config;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Lanes that were made together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Generation {
    number: u32,
    lanes: u16,
}

impl Generation {
    fn name(self) -> String {
        format!("generation-{:04}-lanes-{:02}", self.number, self.lanes)
    }

    fn of(name: &str) -> Option<Self> {
        let (number, lanes) = name.strip_prefix("generation-")?.split_once("-lanes-")?;
        let found = Self { number: number.parse().ok()?, lanes: lanes.parse().ok()? };
        (found.name() == name && found.lanes > 0).then_some(found)
    }

    fn lane(self, folder: &Path, index: u16) -> PathBuf {
        folder.join(self.name()).join(format!("lane-{index:02}"))
    }
}

/// Opens a queue that has a disk.
pub(super) fn open(
    folder: &Path,
    config: &config::Queue,
    storage: Arc<dyn Storage>,
    options: &Options,
) -> Result<(Arc<Shared>, Worker), Error> {
    let failed = |source| Error::Folder { path: folder.to_owned(), source };
    storage.create_folder(folder).map_err(failed)?;
    // what is safe in it is not, as long as its own name is not: `queue`, the folder above that, and where that is
    let mut unsynced_names: Vec<PathBuf> = folder.ancestors().skip(1).take(3).map(Path::to_owned).collect();
    let lock = storage.lock(folder).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Error::Busy(folder.to_owned()),
        _ => failed(error),
    })?;
    let lanes = config.lanes.max(1);
    let names = storage.list(folder).map_err(failed)?;
    let mut generations: Vec<Generation> = names.iter().filter_map(|name| Generation::of(name)).collect();
    generations.sort_unstable();
    if generations.last().is_none_or(|last| last.lanes != lanes) {
        let number = generations.last().map_or(1, |last| last.number + 1);
        generations.push(Generation { number, lanes });
    }

    let quarantine = Quarantine { folder: folder.join("quarantine") };
    let mut disk = Disk::default();
    let mut found: Vec<(Log, Ring)> = vec![];
    let newest = generations.len() - 1;
    for (at, generation) in generations.iter().enumerate() {
        let mut of_it = vec![];
        for index in 0..generation.lanes {
            let path = generation.lane(folder, index);
            let identity = (generation.number, usize::from(index));
            let source = |source| Error::Folder { path: path.clone(), source };
            of_it.push(
                recover::open(&storage, path.clone(), identity, &quarantine, &mut disk).map_err(source)?,
            );
        }
        let waits = of_it.iter().any(|(_, ring)| ring.counts.pending_records > 0);
        if at < newest && !waits {
            of_it = forget(storage.as_ref(), &folder.join(generation.name()), of_it);
        }
        unsynced_names.push(folder.join(generation.name()));
        found.extend(of_it);
    }
    unsynced_names.push(folder.to_owned());
    sync_names(storage.as_ref(), &mut unsynced_names);

    let older = found.iter().filter(|(_, ring)| ring.generation != generations[newest].number).count();
    let (logs, rings): (Vec<Log>, Vec<Ring>) = found.into_iter().unzip();
    let recovered: u64 = rings.iter().map(|ring| ring.counts.recovered).sum();
    let free = storage.free(folder).ok();
    if recovered > 0 || disk != Disk::default() {
        tracing::info!(
            queue = %folder.display(),
            samples = recovered,
            torn_tails = disk.torn_tails,
            gaps = disk.gaps,
            damaged = disk.corrupt.values().sum::<u64>(),
            "found what an earlier run left in the queue"
        );
    }
    if let Some(free) = free.filter(|free| *free < config.max_bytes) {
        tracing::warn!(
            queue = %folder.display(),
            free,
            max_bytes = config.max_bytes,
            "the file system has less room than the queue may take"
        );
    }
    let shared = Arc::new(Shared::new(config, Arc::clone(&options.clock), rings, older, true));
    {
        let mut state = shared.lock();
        (state.disk, state.disk_free) = (disk, free);
    }
    let now = (shared.clock)();
    let segment = options.segment.min(config.max_bytes / 8 / u64::from(lanes)).max(4 << 10);
    let mut worker = Worker {
        shared: Arc::clone(&shared),
        boot: storage.boot().unwrap_or(0),
        storage,
        folder: folder.to_owned(),
        logs,
        segment,
        syncer: Syncer::Here,
        next_sync: now.steady,
        next_house: now.steady,
        again: now.steady,
        failed: false,
        unsynced_names,
        evicted: None,
        unsafe_since: None,
        lock: Some(lock),
    };
    worker.begin();
    Ok((shared, worker))
}

/// Makes names in those folders safe, and keeps those where that is to be tried again. Some that are above the queue may
/// not be ours to open.
pub(super) fn sync_names(storage: &dyn Storage, folders: &mut Vec<PathBuf>) {
    folders.retain(|folder| {
        let done = storage.sync_folder(folder);
        let refused = [io::ErrorKind::PermissionDenied, io::ErrorKind::NotFound];
        done.is_err_and(|error| !refused.contains(&error.kind()))
    });
}

/// Removes a generation in which nothing waits. One of which something is to be counted stays until the next start.
fn forget(storage: &dyn Storage, folder: &Path, lanes: Vec<(Log, Ring)>) -> Vec<(Log, Ring)> {
    if lanes.iter().any(|(_, ring)| ring.counts.recovered > 0) {
        return lanes;
    }
    for (log, _) in &lanes {
        let files = log.segments.iter().map(|segment| log.path(segment.first));
        // the cursor goes last: without it the files would be sent again
        let gone = files
            .chain([log.cursor.path.clone(), log.folder.clone()])
            .try_for_each(|path| storage.remove(&path));
        if gone.is_err() {
            return lanes;
        }
    }
    let _ = storage.remove(folder);
    vec![]
}

impl Worker {
    /// From now on a death is a death.
    fn begin(&mut self) {
        let cursors: Vec<Cursor> = {
            let state = self.shared.lock();
            let cursors = state.lanes.iter().map(|ring| Cursor { boot: self.boot, ..ring.cursor() });
            cursors.collect()
        };
        for (place, cursor) in cursors.into_iter().enumerate() {
            let storage = Arc::clone(&self.storage);
            let written = self.logs[place].cursor.put(storage.as_ref(), cursor);
            // it is safe before anything is sent, or what is sent may be taken for not having been
            if let Err(error) = written.and_then(|()| self.sync_cursor(place)) {
                self.count_error(&error);
                self.block(Trouble { reason: reason_of(&error), error: Some(error) });
            }
        }
        self.publish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_generation_says_how_many_lanes_it_has() {
        let generation = Generation { number: 12, lanes: 3 };
        assert_eq!(generation.name(), "generation-0012-lanes-03");
        assert_eq!(Generation::of(&generation.name()), Some(generation));
        for wrong in
            ["generation-1-lanes-1", "generation-0001-lanes-00", "LOCK", "quarantine", "generation-0001"]
        {
            assert_eq!(Generation::of(wrong), None, "{wrong}");
        }
    }
}
