//! A file system in memory that fails on demand: nothing is slow, nothing survives the test.

use crate::deliver::queue::storage::{File, Storage};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// Says of a call, by its name and its file, whether it fails.
type Fault = dyn FnMut(&'static str, &Path) -> Option<io::Error> + Send;

/// What a file system has.
#[derive(Default)]
struct Inner {
    files: BTreeMap<PathBuf, Arc<Mutex<Vec<u8>>>>,
    fault: Option<Box<Fault>>,
    /// How much is there in all.
    capacity: Option<u64>,
    calls: Vec<(&'static str, PathBuf)>,
}

/// A file system in memory.
#[derive(Clone, Default)]
pub(super) struct Memory(Arc<Mutex<Inner>>);

struct Open {
    of: Memory,
    path: PathBuf,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no test panics in it")
    }

    /// From now on calls fail as that says.
    pub(super) fn fail(&self, fault: impl FnMut(&'static str, &Path) -> Option<io::Error> + Send + 'static) {
        self.lock().fault = Some(Box::new(fault));
    }

    /// From now on none does.
    pub(super) fn heal(&self) {
        self.lock().fault = None;
    }

    pub(super) fn limit(&self, capacity: Option<u64>) {
        self.lock().capacity = capacity;
    }

    /// Another file system with the same files.
    pub(super) fn copy(&self) -> Self {
        let files = self.lock().files.clone();
        let files = files
            .into_iter()
            .map(|(path, bytes)| (path, Arc::new(Mutex::new(bytes.lock().expect("whole").clone()))));
        Self(Arc::new(Mutex::new(Inner { files: files.collect(), ..Inner::default() })))
    }

    /// The files whose name ends so.
    pub(super) fn files(&self, end: &str) -> Vec<PathBuf> {
        let inner = self.lock();
        inner.files.keys().filter(|path| path.to_string_lossy().ends_with(end)).cloned().collect()
    }

    pub(super) fn change(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.lock().files[path].lock().expect("whole"));
    }

    pub(super) fn calls(&self) -> Vec<(&'static str, PathBuf)> {
        std::mem::take(&mut self.lock().calls)
    }

    fn call(&self, name: &'static str, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.calls.push((name, path.to_owned()));
        let error = inner.fault.as_mut().and_then(|fault| fault(name, path));
        error.map_or(Ok(()), Err)
    }

    fn free_bytes(&self) -> u64 {
        let inner = self.lock();
        let used: usize = inner.files.values().map(|bytes| bytes.lock().expect("whole").len()).sum();
        inner.capacity.map_or(1 << 40, |capacity| capacity.saturating_sub(used as u64))
    }

    fn open_file(&self, path: &Path, bytes: Arc<Mutex<Vec<u8>>>) -> Arc<dyn File> {
        Arc::new(Open { of: self.clone(), path: path.to_owned(), bytes })
    }
}

impl Storage for Memory {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.call("create_folder", path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.call("list", folder)?;
        let mut names: Vec<String> = vec![];
        for path in self.lock().files.keys() {
            let Ok(rest) = path.strip_prefix(folder) else { continue };
            let first = rest.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
            if names.last() != Some(&first) {
                names.push(first);
            }
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.call("create", path)?;
        if self.lock().files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let bytes = Arc::default();
        self.lock().files.insert(path.to_owned(), Arc::clone(&bytes));
        Ok(self.open_file(path, bytes))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.call("open", path)?;
        let bytes = self.lock().files.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.open_file(path, bytes))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call("remove", path)?;
        self.lock().files.remove(path);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename", from)?;
        let mut inner = self.lock();
        let bytes = inner.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.call("sync_folder", path)
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        self.call("free", path)?;
        Ok(self.free_bytes())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.call("lock", path)?;
        Ok(Box::new(()))
    }

    fn boot(&self) -> Option<u128> {
        Some(1)
    }
}

impl File for Open {
    fn size(&self) -> io::Result<u64> {
        self.of.call("size", &self.path)?;
        Ok(self.bytes.lock().expect("whole").len() as u64)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        self.of.call("append", &self.path)?;
        let fits = (self.of.free_bytes() as usize).min(bytes.len());
        if fits == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.lock().expect("whole").extend_from_slice(&bytes[..fits]);
        Ok(fits)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.of.call("write_at", &self.path)?;
        let mut all = self.bytes.lock().expect("whole");
        let (at, end) = (at as usize, at as usize + bytes.len());
        if all.len() < end {
            all.resize(end, 0);
        }
        all[at..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.of.call("read_at", &self.path)?;
        let all = self.bytes.lock().expect("whole");
        let rest = all.get(at as usize..).unwrap_or_default();
        let read = rest.len().min(into.len());
        into[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.of.call("truncate", &self.path)?;
        self.bytes.lock().expect("whole").resize(size as usize, 0);
        Ok(())
    }

    fn reserve(&self, _size: u64) -> io::Result<()> {
        self.of.call("reserve", &self.path)
    }

    fn sync(&self) -> io::Result<()> {
        self.of.call("sync", &self.path)
    }
}
