//! Folders of files that may change, watched.
//!
//! The folders are watched rather than the files: an editor puts a new file in place of the old one, and Kubernetes swaps a
//! link (`..data`) beside it.
//!
//! What a newcomer would get wrong: that nothing is told does not mean that nothing changed. On a network, behind a link or in
//! a folder that took the place of another one, nobody tells; so who watches also looks from time to time.

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::warn;

/// The folders that are watched.
pub struct Folders {
    /// `None`: the system does not let us; looking from time to time has to do.
    watcher: Option<RecommendedWatcher>,
    /// Which folder each was: another one in its place must be watched anew.
    watched: HashMap<PathBuf, Identity>,
}

/// Device, number and time of birth: numbers are used again.
type Identity = (u64, u64, Option<SystemTime>);

impl Folders {
    /// Watches nothing yet. `changed` is told of whatever is not reading.
    pub fn new(changed: Arc<Notify>) -> Self {
        let handler = move |event: notify::Result<notify::Event>| {
            if !event.is_ok_and(|event| is_reading(&event.kind)) {
                changed.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(handler);
        let watcher = watcher
            .inspect_err(|error| warn!(%error, "folders cannot be watched: files are read each interval"))
            .ok();
        Self { watcher, watched: HashMap::new() }
    }

    /// Watches the folders of these files and no other. May block: folders may be on a network.
    pub fn watch<'a>(&mut self, files: impl IntoIterator<Item = &'a Path>) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeSet<_> = files.into_iter().map(folder).collect();
        let now = |path: &Path| -> Option<Identity> {
            fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino(), meta.created().ok()))
        };
        self.watched.retain(|path, seen| {
            let stays = wanted.contains(&**path) && now(path) == Some(*seen);
            if !stays {
                // It may have ended by itself when the folder went.
                let _ = watcher.unwatch(path);
            }
            stays
        });
        for path in wanted {
            if !self.watched.contains_key(path)
                && let Some(seen) = now(path)
                && watcher.watch(path, RecursiveMode::NonRecursive).is_ok()
            {
                self.watched.insert(path.to_owned(), seen);
            }
        }
    }
}

/// Waits until nothing was told for that long, and no longer than `most`.
pub async fn settled(changed: &Notify, quiet: Duration, most: Duration) {
    let is_quiet = async { while timeout(quiet, changed.notified()).await.is_ok() {} };
    let _ = timeout(most, is_quiet).await;
}

/// The folder of a file.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether somebody only reads, as we do.
fn is_reading(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}
