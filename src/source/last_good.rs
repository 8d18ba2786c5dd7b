//! The last remote document that was accepted, on disk: what is used at a start when its source is down.
//!
//! `<storage>/config/last-good.yaml`: a line that says whose it is, and then the document as it was. Only its owner may read it,
//! for it may hold secrets.
//!
//! What a newcomer would get wrong: it is no cache that may be read instead of asking. It counts only where nobody answers, and
//! only for the place that it came from.

use super::{Document, LARGEST};
use crate::config::source::Remote;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xxhash_rust::xxh3::xxh3_64;

const FOLDER: &str = "config";
const NAME: &str = "last-good.yaml";
const UNFINISHED: &str = "last-good.tmp";

/// What the first line begins with.
const MARK: &str = "# redvigil last good 1 ";

/// The most that the first line may have.
const HEAD: usize = 8 * 1024;

/// Where it is kept.
#[derive(Clone, Debug)]
pub struct LastGood {
    folder: PathBuf,
    /// Whose document it must be.
    place: Arc<str>,
    /// Held while one is written.
    writing: Arc<Mutex<()>>,
    /// The newest that is to be kept.
    wanted: Arc<Mutex<Option<Document>>>,
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    place: String,
    version: String,
    bytes: usize,
    xxh3: String,
}

/// Why what is there is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not as it was written.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// It came from elsewhere.
    #[error("{} is from {place}", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Where it came from.
        place: String,
    },
}

impl LastGood {
    /// That of a remote document, below the folder of all state (`Deliver::state`).
    pub fn new(storage: &Path, remote: &Remote) -> Self {
        let (writing, wanted) = <_>::default();
        Self { folder: storage.join(FOLDER), place: remote.to_string().into(), writing, wanted }
    }

    /// This one is to be kept, and none that was to be before it.
    pub fn want(&self, document: Document) {
        *lock(&self.wanted) = Some(document);
    }

    /// Keeps the newest that is wanted, unless somebody has. One at a time, as [`Self::keep`] is.
    pub fn keep_wanted(&self) -> io::Result<()> {
        let _alone = lock(&self.writing);
        let wanted = lock(&self.wanted).take();
        wanted.map_or(Ok(()), |document| self.keep(&document))
    }

    /// Keeps a document that was accepted, in the place of the one before. Blocks until it is on the disk; after an error the
    /// one before is still there.
    pub fn keep(&self, document: &Document) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let unfinished = self.folder.join(UNFINISHED);
        // Who made one that we did not finish may have let others read it.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let text = document.text.as_bytes();
        let head = Head {
            place: document.place.to_string(),
            version: document.version.clone(),
            bytes: text.len(),
            xxh3: hash(text),
        };
        let head = serde_json::to_string(&head)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(format!("{MARK}{head}\n").as_bytes())?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.path())?;
        File::open(&self.folder)?.sync_all()
    }

    /// What is kept. `None`: nothing is. Blocks.
    pub fn load(&self) -> Result<Option<Document>, Error> {
        let path = self.path();
        let mut content = vec![];
        let most = (HEAD + LARGEST + 1) as u64;
        match File::open(&path).and_then(|file| file.take(most).read_to_end(&mut content)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Read { path, source }),
        }
        let Some((head, text)) = parse(&content) else { return Err(Error::Damaged { path }) };
        if *head.place != *self.place {
            return Err(Error::Foreign { path, place: head.place });
        }
        Ok(Some(Document { place: self.place.clone(), text: text.into(), version: head.version }))
    }

    fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it holds is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The head and the document behind it, where they are as they were written.
fn parse(content: &[u8]) -> Option<(Head, &str)> {
    let end = memchr::memchr(b'\n', content).filter(|end| *end < HEAD)?;
    let head = content[..end].strip_prefix(MARK.as_bytes())?;
    let head: Head = serde_json::from_slice(head).ok()?;
    let text = &content[end + 1..];
    let is_whole = text.len() == head.bytes && hash(text) == head.xxh3;
    Some((head, std::str::from_utf8(text).ok().filter(|_| is_whole)?))
}

fn hash(text: &[u8]) -> String {
    format!("{:016x}", xxh3_64(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn remote(text: &str) -> Remote {
        Remote::parse(text, &|_| None).expect("a place")
    }

    #[test]
    fn what_was_kept_is_there_again_for_its_owner_alone() {
        let storage = tempfile::tempdir().expect("a folder");
        let place = remote("consul://h/k?token_file=/run/token");
        let last = LastGood::new(&storage.path().join("state"), &place);
        assert_eq!(last.load().expect("nothing is no fault"), None);
        for (text, version) in [("a: hunter2\n", "7"), ("", "8"), ("# no end", "9")] {
            let document =
                Document { place: place.to_string().into(), text: text.into(), version: version.into() };
            last.keep(&document).expect("kept");
            assert_eq!(last.load().expect("whole"), Some(document));
        }
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&last.path()), mode(&last.folder)), (0o600, 0o700));
        let names: Vec<_> =
            fs::read_dir(&last.folder).expect("a folder").flatten().map(|e| e.file_name()).collect();
        assert_eq!(names, [NAME]);
    }

    #[test]
    fn the_newest_is_kept_however_many_are_written_at_once() {
        let storage = tempfile::tempdir().expect("a folder");
        let last = LastGood::new(storage.path(), &remote("consul://h/k"));
        let document = |version: u32| Document {
            place: "consul://h:8500/k".into(),
            text: "a: 1\n".repeat(50_000).into(),
            version: version.to_string(),
        };
        std::thread::scope(|scope| {
            for version in 1..=20 {
                last.want(document(version));
                scope.spawn(|| last.keep_wanted().expect("kept"));
            }
        });
        assert_eq!(last.load().expect("whole"), Some(document(20)));
    }

    #[test]
    fn a_damaged_or_foreign_one_is_none() {
        let storage = tempfile::tempdir().expect("a folder");
        let place = remote("consul://h/k");
        let last = LastGood::new(storage.path(), &place);
        let document =
            Document { place: place.to_string().into(), text: "a: 1\n".into(), version: "7".into() };
        last.keep(&document).expect("kept");
        let other = LastGood::new(storage.path(), &remote("consul://h/other"));
        assert!(matches!(other.load(), Err(Error::Foreign { place, .. }) if place == "consul://h:8500/k"));
        let good = fs::read(last.path()).expect("there");
        let mut number = 0;
        let mut check = |content: &[u8]| {
            fs::write(last.path(), content).expect("written");
            assert!(matches!(last.load(), Err(Error::Damaged { .. })), "{}", content.escape_ascii());
            number += 1;
        };
        for end in 0..good.len() {
            check(&good[..end]);
        }
        check(&[&good[..], b"x"].concat());
        let mut turned = good.clone();
        *turned.last_mut().expect("text") ^= 1;
        check(&turned);
        check(b"services: []\n");
        check(&[b"# redvigil last good 1 ", &[b' '; HEAD][..], b"\n"].concat());
        assert!(number > 100);
        // A crash before it was in place leaves the one before.
        fs::write(last.path(), &good).expect("written");
        fs::write(last.folder.join(UNFINISHED), "half").expect("written");
        assert_eq!(last.load().expect("whole"), Some(document.clone()));
        last.keep(&document).expect("kept");
        fs::remove_file(last.path()).expect("there");
        fs::create_dir(last.path()).expect("a folder");
        assert!(matches!(last.load(), Err(Error::Read { .. })));
        assert!(last.keep(&document).is_err());
    }
}
