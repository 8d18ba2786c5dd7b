//! The real file system.
//!
//! What a newcomer would get wrong: files are not opened with `O_APPEND`, because Linux then ignores the place that a
//! `pwrite` is given. The end of each file is kept here, and the lock of the folder sees to it that nobody else writes.

use super::storage::{File, Storage};
use rustix::fs::{FallocateFlags, FlockOperation};
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

struct OnDisk {
    file: fs::File,
    end: AtomicU64,
}

fn options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

impl Storage for Disk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = options().create_new(true).open(path)?;
        Ok(Arc::new(OnDisk { file, end: AtomicU64::new(0) }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = options().open(path)?;
        let end = AtomicU64::new(file.metadata()?.len());
        Ok(Arc::new(OnDisk { file, end }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => fs::remove_dir(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = options().create(true).truncate(false).open(path.join("LOCK"))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }

    fn boot(&self) -> Option<u128> {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
    }
}

impl File for OnDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.file.write_at(bytes, self.end.load(Ordering::Relaxed))?;
        self.end.fetch_add(taken as u64, Ordering::Relaxed);
        Ok(taken)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let taken = self.file.write_at(bytes, at)?;
        self.end.fetch_max(at + taken as u64, Ordering::Relaxed);
        Ok(taken)
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(into, at)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)?;
        self.end.store(size, Ordering::Relaxed);
        Ok(())
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, size) {
            // some file systems do not know it, and nothing depends on it
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            done => Ok(done?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_appended_to_written_within_cut_and_found_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let file = Disk.create(&path).expect("it is new");
        assert!(Disk.create(&path).is_err());
        file.reserve(1 << 16).expect("room");
        assert_eq!(file.size().expect("a size"), 0);
        file.append(b"hello world").expect("room");
        file.write_at(b"J", 0).expect("room");
        file.append(b"!").expect("room");
        file.sync().expect("a disk");
        let mut read = [0; 12];
        assert_eq!(file.read_at(&mut read, 0).expect("what was written"), 12);
        assert_eq!(&read, b"Jello world!");
        file.truncate(5).expect("it is longer");
        drop(file);
        let file = Disk.open(&path).expect("it is there");
        file.append(b"y").expect("room");
        assert_eq!(fs::read(&path).expect("it is there"), b"Jelloy");
        Disk.remove(&path).expect("it is there");
        Disk.remove(&path).expect("it is gone already");
        assert!(Disk.free(folder.path()).expect("a file system") > 0);
    }

    #[test]
    fn a_folder_is_locked_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let lock = Disk.lock(folder.path()).expect("nobody has it");
        let refused = Disk.lock(folder.path()).map(|_| ()).expect_err("it is taken");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        Disk.lock(folder.path()).expect("nobody has it");
    }
}
