//! Files that hold configuration: which of them are others than before, by the hash of what they hold.
//!
//! Their folders are watched, those behind links too, and all are read every few seconds whatever was told. A thread that may
//! block does that, since a file may be on a network.
//!
//! What a newcomer would get wrong: this says that a file changed, and never what it says: it may change again before it is
//! read. What is told was the same twice, for whoever writes into a file has it empty and half full for a while. And a file that
//! is gone is no change, for an editor may be at work: what was known of it stays.

use super::folders::Folders;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use xxhash_rust::xxh3::xxh3_64;

/// How long after news from a folder its files are looked at: more comes in a moment.
const SOON: Duration = Duration::from_millis(150);

/// What is told was not written between two looks so far apart.
const QUIET: Duration = Duration::from_millis(200);

/// What is never the same twice is told after so long all the same.
const MOST: Duration = Duration::from_secs(10);

/// How often files are read where nothing is told.
const POLL: Duration = Duration::from_secs(3);

/// The same while a file or its folder is gone: a new folder is not watched yet.
const POLL_GONE: Duration = Duration::from_millis(500);

/// How much of a file counts. More than any document or secret may have.
const LARGEST: u64 = 16 << 20;

/// Files and the hashes of what they hold.
pub type Seen = BTreeMap<PathBuf, u64>;

/// What these files hold now. What cannot be read is not in it. Blocks.
pub fn look(files: &[PathBuf]) -> Seen {
    files.iter().filter_map(|path| Some((path.clone(), hash(path)?))).collect()
}

/// Follows files and publishes what is known of them, whenever one holds something else than before. Begins with what
/// `publish` has: [`look`], made before they were read, is right. Never returns.
pub async fn follow(mut files: watch::Receiver<Vec<PathBuf>>, publish: watch::Sender<Seen>) {
    let changed = Arc::<Notify>::default();
    let mut folders = Folders::new(changed.clone());
    loop {
        let wanted = files.borrow_and_update().clone();
        let (mut seen, mut written);
        (folders, seen, written) = look_beside(folders, wanted.clone()).await;
        let is_news = |seen: &Seen| {
            let known = publish.borrow();
            seen.iter().any(|(path, hash)| known.get(path) != Some(hash))
        };
        let until = Instant::now() + MOST;
        while is_news(&seen) && Instant::now() < until {
            sleep(QUIET).await;
            let before = std::mem::take(&mut written);
            (folders, seen, written) = look_beside(folders, wanted.clone()).await;
            if written == before {
                break;
            }
        }
        let pause = if seen.len() < wanted.len() { POLL_GONE } else { POLL };
        publish.send_if_modified(|known| {
            let is_new = seen.iter().any(|(path, hash)| known.get(path) != Some(hash));
            known.extend(seen);
            known.retain(|path, _| wanted.contains(path));
            is_new
        });
        tokio::select! {
            () = sleep(pause) => {}
            () = changed.notified() => sleep(SOON).await,
            Ok(()) = files.changed() => {}
        }
    }
}

/// Looks at these files and has their folders watched, on a thread beside ours.
async fn look_beside(mut folders: Folders, wanted: Vec<PathBuf>) -> (Folders, Seen, Vec<Option<Written>>) {
    let looking = tokio::task::spawn_blocking(move || {
        // First, so that no change falls between the look and the watch.
        let behind: Vec<_> = wanted.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
        folders.watch(wanted.iter().chain(&behind).map(PathBuf::as_path));
        // Before they are read: what is written meanwhile is seen at the next look.
        let written = wanted.iter().map(|path| written(path)).collect();
        let seen = look(&wanted);
        (folders, seen, written)
    });
    match looking.await {
        Ok(looked) => looked,
        // Told as what it is by whoever owns us.
        Err(fault) if fault.is_panic() => std::panic::resume_unwind(fault.into_panic()),
        // The process ends.
        Err(_) => std::future::pending().await,
    }
}

/// Which file it is, how long, and when it was written: seconds and nanoseconds.
type Written = (u64, u64, i64, i64);

fn written(path: &Path) -> Option<Written> {
    fs::metadata(path).ok().map(|file| (file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
}

/// The hash of what a file holds. What is no file is not opened: a pipe would make us wait.
fn hash(path: &Path) -> Option<u64> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut content = vec![];
    File::open(path).ok()?.take(LARGEST).read_to_end(&mut content).ok()?;
    Some(xxh3_64(&content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tokio::task::JoinSet;
    use tokio::time::timeout;

    /// Files that are followed.
    struct Followed {
        folder: tempfile::TempDir,
        seen: watch::Receiver<Seen>,
        wanted: watch::Sender<Vec<PathBuf>>,
        _following: JoinSet<()>,
    }

    impl Followed {
        /// Follows that file of a folder as it is after `prepare`.
        async fn start(name: &str, prepare: impl FnOnce(&Path)) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            prepare(folder.path());
            let files = vec![folder.path().join(name)];
            let (publish, mut seen) = watch::channel(Seen::new());
            let (wanted, wished) = watch::channel(files);
            let mut _following = JoinSet::new();
            _following.spawn(follow(wished, publish));
            // By now its folder is watched.
            timeout(Duration::from_secs(20), seen.changed()).await.expect("in time").expect("it runs");
            seen.mark_unchanged();
            Self { folder, seen, wanted, _following }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// Waits until the only file is known with that content, and says how long that took.
        async fn until(&mut self, content: &str) -> Duration {
            let begun = Instant::now();
            let hash = xxh3_64(content.as_bytes());
            let known = self.seen.wait_for(|seen| seen.values().any(|known| *known == hash));
            timeout(Duration::from_secs(20), known).await.expect("in time").expect("it runs");
            begun.elapsed()
        }
    }

    fn write(path: &Path, text: &str) {
        fs::write(path, text).expect("written");
    }

    #[tokio::test]
    async fn what_is_written_or_put_in_its_place_is_seen_within_a_second() {
        let mut followed = Followed::start("c.yaml", |folder| write(&folder.join("c.yaml"), "1")).await;
        let path = followed.path("c.yaml");
        write(&path, "2");
        let mut longest = followed.until("2").await;
        // As editors do it.
        write(&followed.path("c.yaml~"), "3");
        fs::rename(followed.path("c.yaml~"), &path).expect("renamed");
        longest = longest.max(followed.until("3").await);
        // As others do it: for a moment nobody is there.
        fs::remove_file(&path).expect("there");
        write(&path, "4");
        longest = longest.max(followed.until("4").await);
        assert!(longest < Duration::from_secs(1), "{longest:?}");
    }

    #[tokio::test]
    async fn what_is_being_written_is_not_told_before_it_is_whole() {
        let mut followed = Followed::start("c.yaml", |folder| write(&folder.join("c.yaml"), "whole")).await;
        let path = followed.path("c.yaml");
        let begun = Instant::now();
        for _ in 0..40 {
            write(&path, "");
            sleep(Duration::from_millis(15)).await;
            write(&path, "ha");
            sleep(Duration::from_millis(15)).await;
        }
        write(&path, "whole again");
        let halves = ["", "ha"].map(|text| xxh3_64(text.as_bytes()));
        // Whatever was told so far; a machine that stood still for long may have made a half whole.
        let told = followed.seen.has_changed().expect("it runs");
        let is_half = followed.seen.borrow_and_update().values().any(|known| halves.contains(known));
        assert!(!told && !is_half || begun.elapsed() > MOST, "after {:?}", begun.elapsed());
        followed.until("whole again").await;
    }

    #[tokio::test]
    async fn the_swap_of_a_mounted_config_map_is_seen() {
        fn version(folder: &Path, name: &str, text: &str) {
            fs::create_dir(folder.join(name)).expect("a folder");
            write(&folder.join(name).join("c.yaml"), text);
            symlink(name, folder.join("..data_tmp")).expect("a link");
            fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("renamed");
        }
        let mut followed = Followed::start("c.yaml", |folder| {
            version(folder, "..1", "1");
            symlink("..data/c.yaml", folder.join("c.yaml")).expect("a link");
        })
        .await;
        for number in 2..5 {
            version(followed.folder.path(), &format!("..{number}"), &number.to_string());
            fs::remove_dir_all(followed.path(&format!("..{}", number - 1))).expect("there");
            let took = followed.until(&number.to_string()).await;
            assert!(took < Duration::from_secs(1), "{took:?}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_gone_is_no_change_and_a_new_folder_is_watched() {
        let mut followed = Followed::start("sub/c.yaml", |folder| {
            fs::create_dir(folder.join("sub")).expect("a folder");
            write(&folder.join("sub/c.yaml"), "1");
        })
        .await;
        fs::remove_dir_all(followed.path("sub")).expect("there");
        let told = timeout(Duration::from_secs(2), followed.seen.changed()).await;
        assert!(told.is_err(), "that it is gone is no change");
        fs::create_dir(followed.path("sub")).expect("a folder");
        write(&followed.path("sub/c.yaml"), "2");
        let took = followed.until("2").await;
        assert!(took < Duration::from_secs(1), "{took:?}");
        // By the watch, not by luck.
        write(&followed.path("sub/c.yaml"), "3");
        let took = followed.until("3").await;
        assert!(took < Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test]
    async fn a_file_behind_a_link_is_watched_where_it_is() {
        let elsewhere = tempfile::tempdir().expect("a folder");
        let file = elsewhere.path().join("c.yaml");
        write(&file, "1");
        let mut followed =
            Followed::start("c.yaml", |folder| symlink(&file, folder.join("c.yaml")).expect("a link")).await;
        write(&file, "2");
        let took = followed.until("2").await;
        assert!(took < Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test]
    async fn other_files_can_be_wished_for() {
        let mut followed = Followed::start("a", |folder| write(&folder.join("a"), "1")).await;
        write(&followed.path("b"), "2");
        followed.wanted.send_replace(vec![followed.path("b"), followed.path("none"), followed.path("")]);
        followed.until("2").await;
        assert_eq!(followed.seen.borrow().keys().cloned().collect::<Vec<_>>(), [followed.path("b")]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_is_no_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = vec![folder.path().join("a")];
        write(&files[0], "1");
        let (publish, mut seen) = watch::channel(look(&files));
        let (_wanted, wished) = watch::channel(files);
        let mut following = JoinSet::new();
        following.spawn(follow(wished, publish));
        let told = timeout(POLL * 10, seen.changed()).await;
        assert!(told.is_err(), "nothing changed");
    }

    #[test]
    fn what_is_no_file_is_not_looked_at() {
        assert_eq!(look(&["/dev/zero".into(), "/".into(), "/none".into()]), Seen::new());
    }
}
