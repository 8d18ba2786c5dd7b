//! Going through the records of a file, past what is damaged.
//!
//! What a newcomer would get wrong: a length is trusted only after the checksum of its head. Where a head is damaged, the
//! next sound one is looked for; what cannot be read at all is taken for zeros, so that each walk ends.

use super::Record;
use super::segment::{HEAD, HEADER, Head, RECORD_MAGIC};
use super::storage::{File, read_full_at};
use bytes::Bytes;
use crc32c::crc32c;
use std::sync::Arc;

/// How much is read at once, in bytes.
const WINDOW: u64 = 64 << 10;

/// A place in a file.
pub(super) struct Walk {
    file: Arc<dyn File>,
    at: u64,
    /// The number of the last sound head.
    last: u64,
    window: Vec<u8>,
    start: u64,
    /// Whether the system could not read some of it.
    pub(super) unreadable: bool,
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A sound record.
    Record(Head, Record),
    /// One that was not looked into.
    Passed(Head),
    /// One whose body is damaged.
    Damaged(Head),
    /// A damaged head; the walk goes on at the next sound one.
    Lost,
    /// From here to the end nothing is sound.
    Torn(u64),
    /// The end.
    End,
}

impl Walk {
    /// Begins at the first record.
    pub(super) fn new(file: Arc<dyn File>) -> Self {
        Self { file, at: HEADER as u64, last: 0, window: vec![], start: 0, unreadable: false }
    }

    /// Where it is.
    pub(super) fn place(&self) -> u64 {
        self.at
    }

    /// The number of the last one it came past.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Goes one step, to `end` at most. Records before that number are not looked into.
    pub(super) fn step(&mut self, end: u64, wanted: u64) -> Step {
        if self.at >= end {
            return Step::End;
        }
        let Some(head) = self.head(self.at, end) else {
            let from = self.at;
            let Some(found) = self.find(from + 1, end) else {
                self.at = end;
                return Step::Torn(from);
            };
            self.at = found;
            return Step::Lost;
        };
        let body = self.at + HEAD as u64;
        self.at += head.size();
        self.last = head.sequence;
        if head.sequence < wanted {
            return Step::Passed(head);
        }
        match self.read(body, head.length as usize, end) {
            Some(bytes) if crc32c(&bytes) == head.body_crc => Step::Record(
                head,
                Record {
                    body: bytes,
                    samples: head.samples,
                    min_timestamp: head.min_timestamp,
                    max_timestamp: head.max_timestamp,
                },
            ),
            _ => Step::Damaged(head),
        }
    }

    /// The sound head at that place, if one is there that can follow the last.
    fn head(&mut self, at: u64, end: u64) -> Option<Head> {
        let bytes = self.view(at, HEAD as u64, end)?;
        let head = Head::decode(bytes, at)?;
        (head.sequence > self.last && at + head.size() <= end).then_some(head)
    }

    /// The next place from there on where a sound head stands.
    fn find(&mut self, mut from: u64, end: u64) -> Option<u64> {
        let finder = memchr::memmem::Finder::new(&RECORD_MAGIC);
        while from + HEAD as u64 <= end {
            let length = WINDOW.min(end - from);
            let places: Vec<usize> = finder.find_iter(self.view(from, length, end)?).collect();
            if let Some(found) =
                places.iter().map(|place| from + *place as u64).find(|at| self.head(*at, end).is_some())
            {
                return Some(found);
            }
            // the magic may lie across the border
            from += (length - RECORD_MAGIC.len() as u64 + 1).max(1);
        }
        None
    }

    /// Bytes of the file, where it has them; few enough for the window.
    fn view(&mut self, at: u64, length: u64, end: u64) -> Option<&[u8]> {
        if at + length > end {
            return None;
        }
        let inside = at >= self.start && at + length <= self.start + self.window.len() as u64;
        if !inside {
            self.window.resize(WINDOW.max(length).min(end - at) as usize, 0);
            self.start = at;
            match read_full_at(self.file.as_ref(), &mut self.window, at) {
                Ok(read) => self.window.truncate(read),
                Err(_) => {
                    self.unreadable = true;
                    self.window.fill(0);
                }
            }
        }
        let from = (at - self.start) as usize;
        self.window.get(from..from + length as usize)
    }

    fn read(&mut self, at: u64, length: usize, end: u64) -> Option<Bytes> {
        if length as u64 <= WINDOW / 2 {
            return self.view(at, length as u64, end).map(Bytes::copy_from_slice);
        }
        let mut body = vec![0; length];
        match read_full_at(self.file.as_ref(), &mut body, at) {
            Ok(read) if read == length => Some(body.into()),
            Ok(_) => None,
            Err(_) => {
                self.unreadable = true;
                None
            }
        }
    }
}
