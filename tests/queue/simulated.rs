//! A disk that remembers what a power loss would leave: what a process sees is in the page cache, and comes to the
//! platter only by a sync, or by chance.
//!
//! Every call that changes something is a moment at which the machine or the process may die. [`Simulated::record`]
//! keeps the disk as it was before each of them.
//!
//! What a newcomer would get wrong: the content of a file and its name are made safe apart. A file that was synced and
//! whose folder was not is gone after a power loss, and one of which only the name is safe is empty.

use redvigil::deliver::queue::storage::{File, Storage};
use redvigil::deliver::queue::{Clock, Moment};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// When the clock begins, in milliseconds since 1970.
pub const START: i64 = 1_800_000_000_000;

/// Errors of the system, as it numbers them.
pub mod errno {
    /// Input or output failed.
    pub const EIO: i32 = 5;
    /// Too many files are open.
    pub const EMFILE: i32 = 24;
    /// No room on the file system.
    pub const ENOSPC: i32 = 28;
    /// The file system can only be read.
    pub const EROFS: i32 = 30;
    /// No room for this user.
    pub const EDQUOT: i32 = 122;
}

/// One change of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Bytes of a file.
    Write { file: u64, at: usize, bytes: Vec<u8> },
    /// The end of a file.
    Cut { file: u64, size: usize },
    /// A name for a file.
    Link { path: PathBuf, file: u64 },
    /// A folder.
    Folder { path: PathBuf },
    /// A name less.
    Unlink { path: PathBuf },
    /// Another name, in the place of what had it.
    Rename { from: PathBuf, to: PathBuf, file: Option<u64> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File(u64),
}

/// Names and contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tree {
    names: BTreeMap<PathBuf, Node>,
    contents: BTreeMap<u64, Vec<u8>>,
}

impl Tree {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { file, at, bytes } => {
                let content = self.contents.entry(*file).or_default();
                let end = at + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*at..end].copy_from_slice(bytes);
            }
            Change::Cut { file, size } => self.contents.entry(*file).or_default().resize(*size, 0),
            Change::Link { path, file } => {
                self.names.insert(path.clone(), Node::File(*file));
            }
            Change::Folder { path } => {
                self.names.insert(path.clone(), Node::Folder);
            }
            Change::Unlink { path } => {
                self.names.remove(path);
            }
            Change::Rename { from, to, file } => {
                let moved = self.names.remove(from);
                let node = file.map(Node::File).or(moved).unwrap_or(Node::Folder);
                self.names.insert(to.clone(), node);
            }
        }
    }

    /// Whether it writes behind the end of a file.
    fn is_new(&self, change: &Change) -> bool {
        let size = |file| self.contents.get(file).map_or(0, Vec::len);
        matches!(change, Change::Write { file, at, .. } if *at >= size(file))
    }

    /// Whether all folders above it are there.
    fn is_reachable(&self, path: &Path) -> bool {
        let mut above = path.ancestors().skip(1).filter(|above| *above != Path::new("/"));
        above.all(|above| self.names.get(above) == Some(&Node::Folder))
    }
}

impl Change {
    /// Whether a sync of that file makes it safe.
    fn is_of_file(&self, wanted: u64) -> bool {
        matches!(self, Self::Write { file, .. } | Self::Cut { file, .. } if *file == wanted)
    }

    /// Whether it is about what is in a file.
    pub fn is_content(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Cut { .. })
    }

    fn is_in_folder(&self, folder: &Path) -> bool {
        let inside = |path: &Path| path.parent() == Some(folder);
        match self {
            Self::Link { path, .. } | Self::Folder { path } | Self::Unlink { path } => inside(path),
            Self::Rename { from, to, .. } => inside(from) || inside(to),
            Self::Write { .. } | Self::Cut { .. } => false,
        }
    }
}

/// A disk at a moment.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// On the platter.
    safe: Tree,
    /// In the page cache.
    seen: Tree,
    /// What was changed and not made safe, in order.
    unsynced: Vec<Change>,
    next_file: u64,
    boot: u128,
}

/// What comes to the platter of what was not made safe, when the machine dies.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    /// Nothing.
    All,
    /// The first so many changes.
    Behind(usize),
    /// All but that one.
    One(usize),
    /// All but the first so many.
    Before(usize),
    /// Sizes and names; instead of bytes there are zeros.
    Zeros,
    /// The first so many changes, and of the next so many bytes.
    Torn(usize, usize),
    /// The first so many changes, and of the next so many bytes with zeros behind them.
    TornZeros(usize, usize),
    /// Names, and no contents.
    Contents,
    /// Contents, and no names.
    Names,
    /// Any, by that seed.
    Random(u64),
}

impl Image {
    /// An empty disk with one folder, which is safe.
    pub fn new(folder: &Path) -> Self {
        let mut image = Self { boot: 1, ..Self::default() };
        for above in folder.ancestors().filter(|above| *above != Path::new("/")) {
            image.safe.names.insert(above.to_owned(), Node::Folder);
        }
        image.seen = image.safe.clone();
        image
    }

    /// How many changes are not safe.
    pub fn unsynced(&self) -> &[Change] {
        &self.unsynced
    }

    /// What the process left, with the first `bytes` bytes of what it was just writing.
    pub fn after_process_death(&self, torn: Option<(&Change, usize)>) -> Self {
        let mut image = self.clone();
        if let Some((Change::Write { file, at, bytes }, length)) = torn {
            let bytes = bytes[..length.min(bytes.len())].to_vec();
            image.change(Change::Write { file: *file, at: *at, bytes });
        }
        image
    }

    /// What the machine left.
    pub fn after_power_loss(&self, loss: Loss) -> Self {
        let mut tree = self.safe.clone();
        let mut random = fastrand::Rng::with_seed(if let Loss::Random(seed) = loss { seed } else { 0 });
        for (at, change) in self.unsynced.iter().enumerate() {
            let part = |length: usize, zeros: bool| match change {
                Change::Write { file, at, bytes } => {
                    let length = length.min(bytes.len());
                    let mut bytes = bytes.clone();
                    // zeros are what an end has that was never written; what was there before stays
                    if zeros && tree.is_new(change) {
                        bytes[length..].fill(0);
                    } else {
                        bytes.truncate(length);
                    }
                    Some(Change::Write { file: *file, at: *at, bytes })
                }
                other => (length > 0).then(|| other.clone()),
            };
            let whole = || Some(change.clone());
            let kept = match loss {
                Loss::All => None,
                Loss::Behind(count) => whole().filter(|_| at < count),
                Loss::One(one) => whole().filter(|_| at != one),
                Loss::Before(count) => whole().filter(|_| at >= count),
                Loss::Zeros => match change {
                    Change::Write { .. } => part(0, true),
                    _ => whole(),
                },
                Loss::Torn(count, _) | Loss::TornZeros(count, _) if at < count => whole(),
                Loss::Torn(count, bytes) => part(bytes, false).filter(|_| at == count),
                Loss::TornZeros(count, bytes) => part(bytes, true).filter(|_| at == count),
                Loss::Contents => whole().filter(|_| !change.is_content()),
                Loss::Names => whole().filter(|_| change.is_content()),
                Loss::Random(_) => match random.u8(..4) {
                    0 => None,
                    // what is written in the place of something comes to the platter by sectors
                    1 if tree.is_new(change) => part(random.usize(..200), random.bool()),
                    _ => whole(),
                },
            };
            if let Some(change) = kept {
                tree.apply(&change);
            }
        }
        let reachable: BTreeSet<PathBuf> =
            tree.names.keys().filter(|path| tree.is_reachable(path)).cloned().collect();
        tree.names.retain(|path, _| reachable.contains(path));
        Self {
            seen: tree.clone(),
            safe: tree,
            unsynced: vec![],
            next_file: self.next_file,
            boot: self.boot + 1,
        }
    }

    fn change(&mut self, change: Change) {
        self.seen.apply(&change);
        self.unsynced.push(change);
    }

    fn settle(&mut self, is_safe: impl Fn(&Change) -> bool) {
        let changes = std::mem::take(&mut self.unsynced);
        for change in changes {
            if is_safe(&change) {
                self.safe.apply(&change);
            } else {
                self.unsynced.push(change);
            }
        }
    }

    /// The paths of all files.
    pub fn files(&self) -> Vec<PathBuf> {
        let is_file = |(path, node): (&PathBuf, &Node)| (*node != Node::Folder).then(|| path.clone());
        self.seen.names.iter().filter_map(is_file).collect()
    }

    /// What is in a file.
    pub fn read(&self, path: &Path) -> Option<&[u8]> {
        match self.seen.names.get(path)? {
            Node::File(file) => Some(self.seen.contents.get(file).map_or(&[][..], Vec::as_slice)),
            Node::Folder => None,
        }
    }

    /// Puts a file there, which is safe, and the folders above it.
    pub fn write(&mut self, path: &Path, bytes: Vec<u8>) {
        self.next_file += 1;
        for tree in [&mut self.safe, &mut self.seen] {
            for above in path.ancestors().skip(1).filter(|above| *above != Path::new("/")) {
                tree.names.insert(above.to_owned(), Node::Folder);
            }
            tree.names.insert(path.to_owned(), Node::File(self.next_file));
            tree.contents.insert(self.next_file, bytes.clone());
        }
    }

    /// Removes a file, for good.
    pub fn remove(&mut self, path: &Path) {
        self.safe.names.remove(path);
        self.seen.names.remove(path);
    }
}

/// What a call does instead of what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fails with that number.
    Error(i32),
    /// Writes and reads only so many bytes.
    Short(usize),
}

/// Kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// Those that change something.
    Changes,
    /// Those, and opening a file.
    Opens,
    /// All.
    All,
}

/// Calls that fail.
#[derive(Clone, Copy, Debug)]
pub struct Failing {
    /// The number of the first of them.
    pub from: usize,
    /// The number of the first that does not.
    pub to: usize,
    /// Which of them.
    pub which: Which,
    /// What they do.
    pub fault: Fault,
}

/// The disk before a call that changes it.
pub struct Before {
    /// The disk.
    pub image: Image,
    /// What the call is about to change; `None`: to make something safe.
    pub change: Option<Change>,
}

type Watch = Box<dyn FnMut(Before) + Send>;

/// A disk, and the processor that it is in.
#[derive(Clone)]
pub struct Simulated {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Mutex<Running>,
    watch: Mutex<Option<Watch>>,
    time: Arc<AtomicI64>,
}

struct Running {
    image: Image,
    calls: usize,
    failing: Vec<Failing>,
    /// All that the files may take; what was kept for one counts.
    capacity: Option<u64>,
    reserved: BTreeMap<u64, u64>,
    locked: BTreeSet<PathBuf>,
}

impl Running {
    fn used(&self) -> u64 {
        let mut used = 0;
        for node in self.image.seen.names.values() {
            if let Node::File(file) = node {
                let size = self.image.seen.contents.get(file).map_or(0, |content| content.len() as u64);
                used += size.max(self.reserved.get(file).copied().unwrap_or(0));
            }
        }
        used
    }

    /// How many of these bytes find room at that place of a file.
    fn fitting(&self, file: u64, at: usize, length: usize) -> usize {
        let Some(capacity) = self.capacity else { return length };
        let size = self.image.seen.contents.get(&file).map_or(0, Vec::len);
        let has = (size as u64).max(self.reserved.get(&file).copied().unwrap_or(0));
        let most = has + capacity.saturating_sub(self.used());
        length.min((most as usize).saturating_sub(at))
    }

    fn size(&self, file: u64) -> usize {
        self.image.seen.contents.get(&file).map_or(0, Vec::len)
    }
}

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

fn absent() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Simulated {
    /// A machine with that disk.
    pub fn new(image: Image) -> Self {
        let disk = Running {
            image,
            calls: 0,
            failing: vec![],
            capacity: None,
            reserved: BTreeMap::new(),
            locked: BTreeSet::new(),
        };
        let inner =
            Inner { disk: Mutex::new(disk), watch: Mutex::new(None), time: Arc::new(AtomicI64::new(0)) };
        Self { inner: Arc::new(inner) }
    }

    fn disk(&self) -> MutexGuard<'_, Running> {
        self.inner.disk.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The disk as it is.
    pub fn image(&self) -> Image {
        self.disk().image.clone()
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.disk().calls
    }

    /// From now on these calls fail, and no others.
    pub fn fail(&self, failing: Vec<Failing>) {
        self.disk().failing = failing;
    }

    /// All that the files may take, in bytes.
    pub fn limit(&self, capacity: Option<u64>) {
        self.disk().capacity = capacity;
    }

    /// Shows the disk before each call that changes it.
    pub fn record(&self, watch: impl FnMut(Before) + Send + 'static) {
        *self.inner.watch.lock().expect("no watch panics") = Some(Box::new(watch));
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        self.inner.time.fetch_add(time.as_millis() as i64, Ordering::Relaxed);
    }

    /// Milliseconds since the machine started.
    pub fn now(&self) -> i64 {
        self.inner.time.load(Ordering::Relaxed)
    }

    /// The clock of the machine.
    pub fn clock(&self) -> Clock {
        let time = Arc::clone(&self.inner.time);
        Arc::new(move || {
            let past = time.load(Ordering::Relaxed);
            Moment { wall: START + past, steady: Duration::from_millis(past as u64) }
        })
    }

    /// Counts a call, and says how it is to fail.
    fn call(&self, kind: Which) -> Result<Option<usize>, io::Error> {
        let mut disk = self.disk();
        let number = disk.calls;
        disk.calls += 1;
        let fails =
            |failing: &&Failing| (failing.from..failing.to).contains(&number) && kind <= failing.which;
        match disk.failing.iter().find(fails).map(|failing| failing.fault) {
            Some(Fault::Error(number)) => Err(error(number)),
            Some(Fault::Short(bytes)) => Ok(Some(bytes)),
            None => Ok(None),
        }
    }

    fn show(&self, change: Option<&Change>) {
        let mut watch = self.inner.watch.lock().expect("no watch panics");
        if let Some(watch) = watch.as_mut() {
            watch(Before { image: self.image(), change: change.cloned() });
        }
    }

    fn change(&self, change: Change) {
        self.show(Some(&change));
        self.disk().image.change(change);
    }

    fn settle(&self, is_safe: impl Fn(&Change) -> bool) {
        self.show(None);
        self.disk().image.settle(is_safe);
    }

    fn file(&self, file: u64) -> Arc<dyn File> {
        Arc::new(Opened { machine: self.clone(), file })
    }
}

impl Storage for Simulated {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.call(Which::Changes)?;
        let mut above: Vec<&Path> = path.ancestors().filter(|above| *above != Path::new("/")).collect();
        above.reverse();
        for folder in above {
            let there = self.disk().image.seen.names.get(folder).copied();
            match there {
                Some(Node::Folder) => {}
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => self.change(Change::Folder { path: folder.to_owned() }),
            }
        }
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.call(Which::All)?;
        let disk = self.disk();
        if disk.image.seen.names.get(folder) != Some(&Node::Folder) {
            return Err(absent());
        }
        let inside = disk.image.seen.names.keys().filter(|path| path.parent() == Some(folder));
        let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        // in no order: here backwards
        Ok(inside.rev().filter_map(name).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.call(Which::Changes)?;
        let file = {
            let mut disk = self.disk();
            if disk.image.seen.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if !disk.image.seen.is_reachable(path) {
                return Err(absent());
            }
            disk.image.next_file += 1;
            disk.image.next_file
        };
        self.change(Change::Link { path: path.to_owned(), file });
        Ok(self.file(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.call(Which::Opens)?;
        match self.disk().image.seen.names.get(path) {
            Some(Node::File(file)) => Ok(self.file(*file)),
            Some(Node::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(absent()),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Which::Changes)?;
        let there = {
            let disk = self.disk();
            let names = &disk.image.seen.names;
            if names.keys().any(|inside| inside.parent() == Some(path)) {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            names.contains_key(path)
        };
        if there {
            self.change(Change::Unlink { path: path.to_owned() });
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Which::Changes)?;
        let node = self.disk().image.seen.names.get(from).copied().ok_or_else(absent)?;
        if !self.disk().image.seen.is_reachable(to) {
            return Err(absent());
        }
        let file = if let Node::File(file) = node { Some(file) } else { None };
        self.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), file });
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.call(Which::Changes)?;
        if self.disk().image.seen.names.get(path) != Some(&Node::Folder) {
            return Err(absent());
        }
        self.settle(|change| change.is_in_folder(path));
        Ok(())
    }

    fn free(&self, _: &Path) -> io::Result<u64> {
        self.call(Which::All)?;
        let disk = self.disk();
        Ok(disk.capacity.map_or(1 << 50, |capacity| capacity.saturating_sub(disk.used())))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        if !self.disk().locked.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Locked { machine: self.clone(), path: path.to_owned() }))
    }

    fn boot(&self) -> Option<u128> {
        Some(self.disk().image.boot)
    }
}

struct Locked {
    machine: Simulated,
    path: PathBuf,
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.machine.disk().locked.remove(&self.path);
    }
}

struct Opened {
    machine: Simulated,
    file: u64,
}

impl Opened {
    fn write(&self, bytes: &[u8], at: Option<u64>) -> io::Result<usize> {
        let short = self.machine.call(Which::Changes)?;
        let (at, fitting) = {
            let disk = self.machine.disk();
            let at = at.map_or(disk.size(self.file), |at| at as usize);
            (at, disk.fitting(self.file, at, bytes.len()))
        };
        let length = fitting.min(short.unwrap_or(usize::MAX));
        if length == 0 && !bytes.is_empty() {
            return if fitting == 0 { Err(error(errno::ENOSPC)) } else { Ok(0) };
        }
        self.machine.change(Change::Write { file: self.file, at, bytes: bytes[..length].to_vec() });
        Ok(length)
    }
}

impl File for Opened {
    fn size(&self) -> io::Result<u64> {
        self.machine.call(Which::All)?;
        Ok(self.machine.disk().size(self.file) as u64)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes, None)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.write(bytes, Some(at))
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let short = self.machine.call(Which::All)?.unwrap_or(usize::MAX).max(1);
        let disk = self.machine.disk();
        let content = disk.image.seen.contents.get(&self.file).map_or(&[][..], Vec::as_slice);
        let rest = content.get(at.min(content.len() as u64) as usize..).unwrap_or_default();
        let length = rest.len().min(into.len()).min(short);
        into[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.machine.call(Which::Changes)?;
        self.machine.disk().reserved.remove(&self.file);
        self.machine.change(Change::Cut { file: self.file, size: size as usize });
        Ok(())
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        self.machine.call(Which::Changes)?;
        let mut disk = self.machine.disk();
        if disk.fitting(self.file, 0, size as usize) < size as usize {
            return Err(error(errno::ENOSPC));
        }
        disk.reserved.insert(self.file, size);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if let Err(error) = self.machine.call(Which::Changes) {
            // as Linux does it: the pages count as clean, and never come to the platter
            let file = self.file;
            self.machine.disk().image.unsynced.retain(|change| !change.is_of_file(file));
            return Err(error);
        }
        let file = self.file;
        self.machine.settle(|change| change.is_of_file(file));
        Ok(())
    }
}
