//! Up to where a lane is settled, in two places that are written by turns: one of them is always whole.
//!
//! What a newcomer would get wrong: it does not say where the log ends. That is read from the log, so that the two
//! cannot contradict each other.

use super::Reason;
use super::ring::Place;
use super::segment::{MOST, seal, sealed};
use super::storage::{File, Storage, read_full_at, write_all_at};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

const SLOT: usize = 128;
/// How far the slots are from each other: a sector that is damaged has one of them.
const APART: u64 = 512;
const MAGIC: u32 = u32::from_le_bytes(*b"rvQC");

/// How the process went that wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// It did not end by itself, or is running.
    #[default]
    None,
    /// It ended, and a record was under way.
    UnderWay,
    /// It ended, and nothing was under way.
    Clean,
}

/// Up to where a lane is settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// All up to it are settled.
    pub(super) acked: Place,
    /// All up to it are settled, but for [`Cursor::held`] samples that were under way when their file went.
    pub(super) floor: Place,
    /// Samples that are neither settled nor in the log.
    pub(super) held: u64,
    /// Why their file went.
    pub(super) reason: Option<Reason>,
    /// The last one that may have been delivered before the process that wrote this began.
    pub(super) repeated: u64,
    pub(super) end: End,
    /// The run of the machine.
    pub(super) boot: u128,
}

impl Cursor {
    fn encode(&self, turn: u64) -> [u8; SLOT] {
        let mut out = vec![];
        out.extend(MAGIC.to_le_bytes());
        out.extend(1u32.to_le_bytes());
        for number in [
            turn,
            self.acked.sequence,
            self.acked.total,
            self.floor.sequence,
            self.floor.total,
            self.held,
            self.repeated,
        ] {
            out.extend(number.to_le_bytes());
        }
        out.extend(self.boot.to_le_bytes());
        out.push(self.end as u8);
        out.push(self.reason.map_or(u8::MAX, |reason| reason as u8));
        let mut slot = [0; SLOT];
        slot[..out.len()].copy_from_slice(&out);
        seal(&mut slot);
        slot
    }

    fn decode(slot: &[u8]) -> Option<(u64, Self)> {
        let number = |at: usize| Some(u64::from_le_bytes(slot.get(at..at + 8)?.try_into().ok()?));
        let sound = slot.len() == SLOT && sealed(slot) && slot[..4] == MAGIC.to_le_bytes();
        (sound && slot[4..8] == 1u32.to_le_bytes()).then_some(())?;
        let cursor = Self {
            acked: Place { sequence: number(16)?, total: number(24)? },
            floor: Place { sequence: number(32)?, total: number(40)? },
            held: number(48)?,
            repeated: number(56)?,
            boot: u128::from_le_bytes(slot.get(64..80)?.try_into().ok()?),
            end: match slot[80] {
                1 => End::UnderWay,
                2 => End::Clean,
                _ => End::None,
            },
            reason: Reason::ALL.get(usize::from(slot[81])).copied(),
        };
        let (acked, floor) = (cursor.acked, cursor.floor);
        let numbers = [number(8)?, acked.sequence, acked.total, floor.sequence, floor.total, cursor.held];
        numbers.iter().all(|number| *number < MOST).then_some((numbers[0], cursor))
    }
}

/// The file of a cursor.
pub(super) struct CursorFile {
    pub(super) path: PathBuf,
    file: Option<Arc<dyn File>>,
    turn: u64,
    /// What was written last.
    pub(super) written: Option<Cursor>,
    /// Whether that is not known to be safe.
    pub(super) unsynced: bool,
    /// Whether the system forgot it, because it could not make it safe: it is to be written anew.
    pub(super) broken: bool,
}

/// What a cursor's file had.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The later of the two that were whole.
    pub(super) cursor: Option<Cursor>,
    /// How many slots were damaged.
    pub(super) damaged: usize,
}

impl CursorFile {
    /// Reads what is there. What cannot be read counts as damaged.
    pub(super) fn open(storage: &dyn Storage, path: PathBuf) -> (Self, Found) {
        let file = storage.open(&path).ok();
        let mut read = vec![0; APART as usize + SLOT];
        let size = file.as_ref().map_or(0, |file| read_full_at(file.as_ref(), &mut read, 0).unwrap_or(0));
        let mut found = Found::default();
        let mut turn = 0;
        for at in [0, APART as usize] {
            let slot = &read[at.min(size)..(at + SLOT).min(size)];
            match Cursor::decode(slot) {
                Some((its, cursor)) if its > turn => (turn, found.cursor) = (its, Some(cursor)),
                Some(_) => {}
                // one that was never written
                None if slot.iter().all(|byte| *byte == 0) => {}
                None => found.damaged += 1,
            }
        }
        (Self { path, file, turn, written: found.cursor, unsynced: false, broken: false }, found)
    }

    /// Writes it where the older one is.
    pub(super) fn write(&mut self, storage: &dyn Storage, cursor: Cursor) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(storage.create(&self.path).or_else(|_| storage.open(&self.path))?),
        };
        let turn = self.turn + 1;
        write_all_at(file.as_ref(), &cursor.encode(turn), (turn % 2) * APART)?;
        (self.turn, self.written, self.unsynced, self.broken) = (turn, Some(cursor), true, false);
        Ok(())
    }

    /// Writes it, into a new file where the one that is there cannot be written.
    pub(super) fn put(&mut self, storage: &dyn Storage, cursor: Cursor) -> io::Result<()> {
        self.write(storage, cursor).or_else(|_| {
            let before = self.written.replace(cursor);
            let replaced = self.replace(storage);
            if replaced.is_err() {
                self.written = before;
            }
            replaced
        })
    }

    pub(super) fn file(&self) -> Option<&Arc<dyn File>> {
        self.file.as_ref()
    }

    /// Writes it into a new file, which takes the place of one that could not be made safe.
    pub(super) fn replace(&mut self, storage: &dyn Storage) -> io::Result<()> {
        let Some(cursor) = self.written else { return Ok(()) };
        let path = self.path.with_extension("new");
        storage.remove(&path)?;
        let file = storage.create(&path)?;
        let turn = self.turn + 1;
        write_all_at(file.as_ref(), &cursor.encode(turn), (turn % 2) * APART)?;
        file.sync()?;
        storage.rename(&path, &self.path)?;
        (self.turn, self.file, self.unsynced, self.broken) = (turn, Some(file), false, false);
        if let Some(folder) = self.path.parent() {
            storage.sync_folder(folder)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::Disk;
    use super::*;
    use std::fs;

    fn cursor(number: u64) -> Cursor {
        Cursor {
            acked: Place { sequence: number, total: number * 10 },
            floor: Place { sequence: number + 1, total: number * 10 + 5 },
            held: 5,
            repeated: 3,
            reason: Some(Reason::Age),
            end: End::UnderWay,
            boot: u128::MAX - u128::from(number),
        }
    }

    #[test]
    fn the_later_of_two_slots_counts_and_any_damage_to_it_leaves_the_one_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cursor");
        let open = || CursorFile::open(&Disk, path.clone());
        assert!(open().1.cursor.is_none());
        for number in 1..=5 {
            let (mut file, _) = open();
            file.write(&Disk, cursor(number)).expect("room");
            let found = open().1;
            assert_eq!((found.cursor, found.damaged), (Some(cursor(number)), 0));
        }
        let whole = fs::read(&path).expect("it is there");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).expect("room");
            let found = open().1;
            let expected = match at {
                0..SLOT => (Some(cursor(5)), 1),
                at if at < APART as usize => (Some(cursor(5)), 0),
                _ => (Some(cursor(4)), 1),
            };
            assert_eq!((found.cursor, found.damaged), expected, "byte {at}");
            fs::write(&path, &whole[..at]).expect("room");
            let found = open().1;
            let expected = (at >= SLOT).then_some(cursor(4));
            assert_eq!(found.cursor, expected, "{at} bytes");
        }
    }

    #[test]
    fn a_new_file_takes_the_place_of_one_that_could_not_be_made_safe() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cursor");
        let (mut file, _) = CursorFile::open(&Disk, path.clone());
        file.write(&Disk, cursor(1)).expect("room");
        file.write(&Disk, cursor(2)).expect("room");
        file.replace(&Disk).expect("room");
        assert_eq!(CursorFile::open(&Disk, path.clone()).1.cursor, Some(cursor(2)));
        file.write(&Disk, cursor(3)).expect("room");
        assert_eq!(CursorFile::open(&Disk, path).1.cursor, Some(cursor(3)));
    }
}
