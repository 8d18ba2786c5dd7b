//! The files of one lane: appended to at one end, read and removed at the other.
//!
//! What a newcomer would get wrong: nothing here decides. Which file has to go, and what an error means, is for
//! [`super::limits`] and [`super::worker`]; what was counted wrong is in no file.

use super::cursor::CursorFile;
use super::ring::Place;
use super::segment::{self, FOOTER, Footer, HEADER, Head, Header};
use super::storage::{File, Storage, append_all};
use super::trouble::is_lost;
use super::walk::{Step, Walk};
use super::{Moment, Record};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How much is written in one call, in bytes; a larger record has one of its own.
const GROUP: usize = 256 << 10;

/// A file of a log.
#[derive(Clone)]
pub(super) struct Segment {
    /// The number of its first record.
    pub(super) first: u64,
    /// Samples of the lane before it.
    pub(super) before: u64,
    /// Whether the numbers just before it were never written.
    pub(super) anew: bool,
    /// Its last record.
    pub(super) last: Place,
    pub(super) min_timestamp: i64,
    pub(super) max_timestamp: i64,
    /// Where its records end.
    pub(super) end: u64,
    /// Where all that was written ends.
    pub(super) wrote: u64,
    /// Up to where that is safe.
    pub(super) synced: u64,
    /// Whether the system forgot something of it that it could not make safe: it is to be written anew.
    pub(super) broken: bool,
    /// What it takes on disk, with what is kept for it.
    pub(super) size: u64,
    /// Open while it is appended to, or not safe.
    pub(super) file: Option<Arc<dyn File>>,
}

/// The files of a lane.
pub(super) struct Log {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) folder: PathBuf,
    pub(super) lane: u16,
    /// The oldest first.
    pub(super) segments: VecDeque<Segment>,
    /// Whether the last of them is appended to, and since when.
    pub(super) active: Option<Duration>,
    /// How large that becomes.
    pub(super) limit: u64,
    /// Its last record, be it there still or not.
    pub(super) end: Place,
    /// How often files came or went, and how much of that is safe.
    pub(super) names: (u64, u64),
    pub(super) cursor: CursorFile,
    /// Up to where it is settled, in what is safe.
    pub(super) safe: u64,
    pub(super) walk: Option<(u64, Walk)>,
    /// What was found damaged since it was asked last.
    pub(super) damage: Vec<&'static str>,
    pub(super) buffer: Vec<u8>,
}

/// What comes after a place of a log.
#[derive(Debug)]
pub(super) enum Read {
    /// A record, and what comes before it.
    Record(Place, Record),
    /// All up to there are lost.
    Lost(Place),
    /// There is nothing up to there, and that is known.
    Skip(Place),
    /// It cannot be said now.
    Later,
    /// Nothing.
    Nothing,
}

impl Log {
    pub(super) fn path(&self, first: u64) -> PathBuf {
        self.folder.join(segment::name(first))
    }

    /// What its files take, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// Whether the next record, which takes that many bytes, needs a new file.
    pub(super) fn is_full(&self, before: Place, size: u64, now: Duration, age: Duration) -> bool {
        match (self.active, self.segments.back()) {
            (Some(since), Some(last)) => {
                last.last.sequence != before.sequence
                    || last.end > HEADER as u64 && last.end + size + FOOTER as u64 > self.limit
                    || now.saturating_sub(since) > age
            }
            _ => true,
        }
    }

    /// Ends the last file, and begins another with room for that many bytes.
    pub(super) fn roll(&mut self, before: Place, room: u64, now: Moment) -> io::Result<()> {
        self.seal();
        // one that failed before it had a record has the same name
        while self.segments.pop_back_if(|last| last.last.sequence < last.first).is_some() {}
        let first = before.sequence + 1;
        let path = self.path(first);
        self.storage.remove(&path)?;
        let file = self.storage.create(&path)?;
        self.names.0 += 1;
        let header = Header {
            lane: self.lane,
            first,
            before: before.total,
            anew: before.sequence != self.end.sequence,
            created: now.wall,
        };
        let begun = file.reserve(room).and_then(|()| append_all(file.as_ref(), &header.encode()));
        if let Err(error) = begun {
            drop(file);
            let _ = self.storage.remove(&path);
            return Err(error);
        }
        self.active = Some(now.steady);
        self.limit = room;
        self.segments.push_back(Segment {
            first,
            before: before.total,
            anew: header.anew,
            last: before,
            min_timestamp: i64::MAX,
            max_timestamp: i64::MIN,
            end: HEADER as u64,
            wrote: HEADER as u64,
            synced: 0,
            broken: false,
            size: room,
            file: Some(file),
        });
        Ok(())
    }

    /// Ends the last file. A footer that cannot be written is done without: the file is read through instead.
    pub(super) fn seal(&mut self) {
        if self.active.take().is_none() {
            return;
        }
        let Some(last) = self.segments.back_mut() else { return };
        if last.last.sequence >= last.first {
            last.seal();
        } else if let Some(last) = self.segments.pop_back() {
            let _ = self.unlink(last);
        }
    }

    /// Appends records, as many as one call takes, and says how many. After an error none of them is there.
    pub(super) fn append(&mut self, before: Place, records: &[Record]) -> io::Result<usize> {
        let Some(last) = self.segments.back_mut() else { return Err(io::ErrorKind::NotFound.into()) };
        let Some(file) = &last.file else { return Err(io::ErrorKind::NotFound.into()) };
        self.buffer.clear();
        let (mut place, mut at, mut taken) = (before, last.end, 0);
        let (mut min, mut max) = (last.min_timestamp, last.max_timestamp);
        for record in records {
            let head = Head::of(record, place.sequence + 1, place.total.wrapping_sub(last.before));
            let full = self.buffer.len() + head.size() as usize > GROUP
                || at + head.size() + FOOTER as u64 > self.limit && at > HEADER as u64;
            if full && taken > 0 {
                break;
            }
            self.buffer.extend_from_slice(&head.encode(at));
            self.buffer.extend_from_slice(&record.body);
            at += head.size();
            place = Place { sequence: head.sequence, total: place.total + u64::from(record.samples) };
            (min, max) = (min.min(record.min_timestamp), max.max(record.max_timestamp));
            taken += 1;
        }
        let done = append_all(file.as_ref(), &self.buffer);
        if self.buffer.capacity() > 4 * GROUP {
            self.buffer = Vec::new();
        }
        if let Err(error) = done {
            if file.truncate(last.end).is_err() {
                // what is behind its end is not looked at, and the next record has a file of its own
                self.active = None;
            }
            return Err(error);
        }
        (last.last, last.end, last.wrote) = (place, at, at);
        (last.min_timestamp, last.max_timestamp) = (min, max);
        last.size = last.size.max(at);
        self.end = place;
        Ok(taken)
    }

    /// Closes all files but the one that is appended to: they are not made safe.
    pub(super) fn let_go(&mut self) {
        let last = self.segments.len().saturating_sub(1);
        for segment in self.segments.iter_mut().take(last) {
            segment.synced = segment.wrote;
            segment.file = None;
        }
    }

    /// Removes the oldest file from the list. It is the caller's to remove it from the disk.
    pub(super) fn pop(&mut self) -> Option<Segment> {
        let segment = self.segments.pop_front()?;
        if self.segments.is_empty() {
            self.active = None;
        }
        if self.walk.as_ref().is_some_and(|(first, _)| *first == segment.first) {
            self.walk = None;
        }
        Some(segment)
    }

    /// Removes a file from the disk.
    pub(super) fn unlink(&mut self, segment: Segment) -> io::Result<()> {
        self.names.0 += 1;
        let path = self.path(segment.first);
        drop(segment);
        self.storage.remove(&path)
    }

    /// Whether the oldest file is settled, and that is safe.
    pub(super) fn oldest_is_settled(&self) -> bool {
        let oldest = self.segments.front();
        let in_use = self.segments.len() == 1 && self.active.is_some();
        oldest.is_some_and(|oldest| oldest.last.sequence <= self.safe) && !in_use
    }

    /// The oldest timestamp of the file that comes after that place.
    pub(super) fn oldest_timestamp(&self, base: Place) -> Option<i64> {
        let next = self.segments.iter().find(|segment| segment.last.sequence > base.sequence);
        next.map(|segment| segment.min_timestamp)
    }

    /// What comes after that place.
    pub(super) fn read(&mut self, base: Place) -> Read {
        let wanted = base.sequence + 1;
        let Some(segment) = self.segments.iter().find(|segment| segment.last.sequence >= wanted) else {
            return Read::Nothing;
        };
        if segment.first > wanted {
            return Read::Skip(Place { sequence: segment.first - 1, total: segment.before });
        }
        let fits = |(first, walk): &(u64, Walk)| *first == segment.first && walk.last() < wanted;
        if !self.walk.as_ref().is_some_and(fits) {
            let file = match &segment.file {
                Some(file) => Arc::clone(file),
                None => match self.storage.open(&self.folder.join(segment::name(segment.first))) {
                    Ok(file) => file,
                    Err(error) if is_lost(&error) => {
                        self.damage.push("segment");
                        return Read::Lost(segment.last);
                    }
                    Err(_) => return Read::Later,
                },
            };
            self.walk = Some((segment.first, Walk::new(file)));
        }
        let Some((_, walk)) = &mut self.walk else { return Read::Nothing };
        loop {
            match walk.step(segment.end, wanted) {
                Step::Record(head, record) if head.sequence <= segment.last.sequence => {
                    let total = segment.before + segment.within(head.before);
                    return Read::Record(Place { sequence: head.sequence - 1, total }, record);
                }
                Step::Passed(_) => {}
                Step::Damaged(_) => self.damage.push("payload"),
                Step::Lost | Step::Torn(_) => self.damage.push("header"),
                Step::Record(..) | Step::End => {
                    self.walk = None;
                    return Read::Lost(segment.last);
                }
            }
        }
    }

    /// Writes a file anew, because what was written could not be made safe. What memory has is taken from there.
    pub(super) fn rewrite(&mut self, first: u64, held: impl Fn(u64) -> Option<Record>) -> io::Result<()> {
        let Some(at) = self.segments.iter().position(|segment| segment.first == first) else { return Ok(()) };
        let segment = &self.segments[at];
        let (path, new) = (self.path(first), self.path(first).with_extension("new"));
        self.storage.remove(&new)?;
        let file = self.storage.create(&new)?;
        file.reserve(segment.size)?;
        let Segment { before, anew, min_timestamp: created, .. } = *segment;
        let header = Header { lane: self.lane, first, before, anew, created };
        append_all(file.as_ref(), &header.encode())?;
        let old = segment.file.clone().map_or_else(|| self.storage.open(&path), Ok);
        let mut walk = old.ok().map(Walk::new);
        let (mut next, mut end, mut before) = (first, HEADER as u64, 0);
        // memory has the newest: what is before them follows from the end
        let newest: u64 =
            (first..=segment.last.sequence).filter_map(&held).map(|record| u64::from(record.samples)).sum();
        let mut from_memory = false;
        while next <= segment.last.sequence {
            let record = match (held(next), &mut walk) {
                (Some(record), _) => {
                    if !std::mem::replace(&mut from_memory, true) {
                        before = segment.last.total - segment.before - newest;
                    }
                    Some(record)
                }
                (None, Some(walk)) => match walk.step(segment.end, next) {
                    Step::Record(head, record) => {
                        (next, before) = (head.sequence, segment.within(head.before));
                        Some(record)
                    }
                    Step::End => {
                        next += 1;
                        continue;
                    }
                    _ => continue,
                },
                (None, None) => None,
            };
            if let Some(record) = record {
                let head = Head::of(&record, next, before);
                append_all(file.as_ref(), &head.encode(end))?;
                append_all(file.as_ref(), &record.body)?;
                end += head.size();
                before += u64::from(record.samples);
            }
            next += 1;
        }
        let mut rewritten = Segment { end, wrote: end, file: Some(Arc::clone(&file)), ..segment.clone() };
        if self.active.is_none() || at + 1 < self.segments.len() {
            rewritten.seal();
        }
        file.sync()?;
        self.storage.rename(&new, &path)?;
        (rewritten.synced, rewritten.broken) = (rewritten.wrote, false);
        self.segments[at] = rewritten;
        self.walk = None;
        self.names.0 += 1;
        if self.storage.sync_folder(&self.folder).is_ok() {
            self.names.1 = self.names.0;
        }
        Ok(())
    }
}

impl Segment {
    /// Samples of the file before a record, of which the head has the lower half.
    fn within(&self, before: u32) -> u64 {
        u64::from(before).min(self.last.total - self.before)
    }

    /// Writes the footer, where that is possible, and gives back what was kept.
    pub(super) fn seal(&mut self) {
        let Some(file) = &self.file else { return };
        let footer = Footer {
            records: u32::try_from(self.last.sequence + 1 - self.first).unwrap_or(u32::MAX),
            first: self.first,
            before: self.before,
            samples: self.last.total - self.before,
            min_timestamp: self.min_timestamp,
            max_timestamp: self.max_timestamp,
            end: self.end,
        };
        let size = self.end + FOOTER as u64;
        if append_all(file.as_ref(), &footer.encode()).is_ok() {
            let _ = file.truncate(size);
            (self.wrote, self.size) = (size, size);
        } else {
            let _ = file.truncate(self.end);
            self.size = self.end;
        }
    }
}
