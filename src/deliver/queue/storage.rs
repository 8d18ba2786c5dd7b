//! The calls of the system that a queue makes, so that each of them can fail, be torn or be forgotten in a test.
//!
//! What a newcomer would get wrong: [`Storage::open`] takes no lock and makes no folder, and what [`File::append`] has
//! written may be less than it was given.

use std::io;
use std::path::Path;
use std::sync::Arc;

/// A file system.
pub trait Storage: Send + Sync + 'static {
    /// `mkdir -p`.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder, in no order.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// A new file, to be appended to and read; an error where it is there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// A file that is there, to be appended to and read.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// `unlink`; no error where it is gone already.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Puts a file in the place of another.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// `fsync` of a folder, so that what came into it and went from it stays so.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Bytes that are free to us on the file system of that path.
    fn free(&self, path: &Path) -> io::Result<u64>;
    /// Takes the lock of a folder for as long as the answer lives. `WouldBlock`: another process has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
    /// Which run of the machine this is. `None`: not known, so what was written before may have been lost.
    fn boot(&self) -> Option<u128> {
        None
    }
}

/// Writes all of it at the end, however many calls that takes.
pub(super) fn append_all(file: &dyn File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.append(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => bytes = &bytes[taken.min(bytes.len())..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of it at that place.
pub(super) fn write_all_at(file: &dyn File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => {
                bytes = &bytes[taken.min(bytes.len())..];
                at += taken as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until it is full or the file ends, and says how many bytes there were.
pub(super) fn read_full_at(file: &dyn File, into: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], at + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// An open file.
pub trait File: Send + Sync {
    /// Its size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Appends, and says how many bytes it took.
    fn append(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Writes at that place, and says how many bytes it took.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;
    /// Reads from that place, and says how many bytes there were.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;
    /// Cuts it off.
    fn truncate(&self, size: u64) -> io::Result<()>;
    /// Has room for that many bytes kept, without changing the size.
    fn reserve(&self, size: u64) -> io::Result<()>;
    /// `fdatasync`.
    fn sync(&self) -> io::Result<()>;
}
