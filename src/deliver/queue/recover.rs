//! What an earlier process left: the files of a lane and its cursor, brought into an order that can be gone on with.
//!
//! What a newcomer would get wrong: a file with a footer is not read, so damage within it is found when it is sent. What
//! is missing between files is counted here, by the numbers on both sides of it: as found, and as dropped.

use super::Reason;
use super::cursor::{CursorFile, End};
use super::log::{Log, Segment};
use super::ring::{Place, Ring};
use super::segment::{self, FOOTER, Footer, HEADER, Header};
use super::status::Disk;
use super::storage::{File, Storage, append_all, read_full_at};
use super::trouble::is_lost;
use super::walk::{Step, Walk};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many files are put aside at most.
const ASIDE: usize = 16;
/// How much of a damaged end is put aside, in bytes.
const TAIL: u64 = 1 << 20;

/// Where damaged ends and files go.
pub(super) struct Quarantine {
    pub(super) folder: PathBuf,
}

/// What is known of a file before those beside it are.
struct Found {
    file: Arc<dyn File>,
    /// Samples of the lane before it, where that is known.
    before: Option<u64>,
    /// Whether the numbers before it were never written.
    anew: bool,
    last: u64,
    samples: u64,
    /// Samples of it up to the settled one, where that is in it; too few where what is around that is damaged, too.
    settled: Option<u64>,
    min_timestamp: i64,
    max_timestamp: i64,
    end: u64,
    size: u64,
    /// Whether it has its footer.
    sealed: bool,
    /// Whether some of it could not be read.
    unreadable: bool,
}

/// Opens the folder of a lane, or makes it.
pub(super) fn open(
    storage: &Arc<dyn Storage>,
    folder: PathBuf,
    (generation, index): (u32, usize),
    quarantine: &Quarantine,
    disk: &mut Disk,
) -> io::Result<(Log, Ring)> {
    storage.create_folder(&folder)?;
    let names = storage.list(&folder)?;
    for name in names.iter().filter(|name| name.ends_with(".new")) {
        let _ = storage.remove(&folder.join(name));
    }
    let mut firsts: Vec<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
    firsts.sort_unstable();

    let (cursor_file, found) = CursorFile::open(storage.as_ref(), folder.join("cursor"));
    if found.cursor.is_none() && (found.damaged > 0 || !firsts.is_empty()) {
        *disk.corrupt.entry("cursor").or_default() += 1;
    }
    let cursor = found.cursor.unwrap_or_default();
    let base = cursor.acked.max(cursor.floor);
    let mut log = Log {
        storage: Arc::clone(storage),
        lane: index as u16,
        segments: VecDeque::new(),
        active: None,
        limit: 0,
        end: base,
        names: (1, 0),
        cursor: cursor_file,
        safe: 0,
        walk: None,
        damage: vec![],
        buffer: vec![],
        folder,
    };

    // before is what comes before the next file; lost is what is missing
    let mut end = found.cursor.map(|_| base);
    let (mut lost_records, mut lost_samples) = (0, 0);
    // whether what comes before the last file was guessed
    let mut guessed = false;
    for (at, first) in firsts.iter().copied().enumerate() {
        let next = firsts.get(at + 1).copied();
        let path = log.path(first);
        // settled: it is not worth a look, and goes when the cursor is safe
        if next.is_some_and(|next| next <= base.sequence + 1) {
            log.segments.push_back(settled(first, base));
            continue;
        }
        let looked = look(storage.as_ref(), &path, first, base.sequence, disk);
        let Ok(Some(mut found)) = looked else {
            if let Err(error) = looked {
                if !is_lost(&error) {
                    return Err(error);
                }
                *disk.corrupt.entry("segment").or_default() += 1;
            }
            quarantine.put_file(storage.as_ref(), &path, index, disk);
            continue;
        };
        let before = found.before.unwrap_or_else(|| match (found.settled, end) {
            (Some(settled), _) => base.total.saturating_sub(settled),
            (None, Some(end)) => end.total,
            (None, None) => 0,
        });
        if let Some(previous) = log.segments.back_mut().filter(|previous| previous.last.sequence >= first) {
            // what is behind that was not taken, and its numbers were given again
            previous.last = Place { sequence: first - 1, total: before.max(previous.before) };
            end = end.map(|end| base.max(previous.last).min(end));
        }
        if let Some(previous) =
            log.segments.back_mut().filter(|previous| guessed && previous.last.sequence + 1 == first)
        {
            // now it is known: what was missed is missing before it
            let missed = before.saturating_sub(previous.last.total);
            previous.before += missed;
            previous.last.total += missed;
            lost_samples += missed;
            end = end.max(Some(previous.last));
        }
        guessed = found.before.is_none() && found.settled.is_none();
        if let Some(end) = end.filter(|end| first > end.sequence + 1 && !found.anew) {
            lost_records += first - end.sequence - 1;
            lost_samples += before.saturating_sub(end.total);
            disk.gaps += 1;
        }
        tidy(storage.as_ref(), &mut found, first, before, next.is_none(), (quarantine, index), disk);
        let last = Place { sequence: found.last, total: before + found.samples };
        log.segments.push_back(Segment {
            first,
            before,
            anew: found.anew,
            last,
            min_timestamp: found.min_timestamp,
            max_timestamp: found.max_timestamp,
            end: found.end,
            wrote: found.size,
            synced: 0,
            broken: false,
            size: found.size,
            file: None,
        });
        end = end.max(Some(last));
    }
    log.end = end.unwrap_or_default();

    // without a cursor all that is there is to be sent again
    let acked = match (found.cursor, log.segments.front()) {
        (None, Some(oldest)) => Place { sequence: oldest.first - 1, total: oldest.before },
        _ => base,
    };
    // what is missing at the front is counted now and not at the next start again
    let acked = match log.segments.iter().find(|segment| segment.last.sequence > acked.sequence) {
        Some(next) if next.first > acked.sequence + 1 => {
            Place { sequence: next.first - 1, total: next.before }
        }
        _ => acked,
    };
    let mut ring = Ring::new(generation, index, acked, log.end);
    let (mut records, mut samples) = (0, 0);
    for segment in log.segments.iter().filter(|segment| segment.last.sequence > acked.sequence) {
        records += segment.last.sequence - acked.sequence.max(segment.first - 1);
        samples += segment.last.total.saturating_sub(acked.total.max(segment.before));
    }
    let held = if cursor.floor > cursor.acked { cursor.held } else { 0 };
    ring.counts.pending = samples;
    ring.counts.pending_records = records;
    ring.counts.recovered_records = records + lost_records;
    ring.counts.recovered = samples + lost_samples + held;
    ring.counts.dropped.add(Reason::Corrupt, lost_samples);
    ring.counts.dropped.add(cursor.reason.unwrap_or(Reason::Corrupt), held);
    let repeated = match (found.cursor, cursor.end) {
        (None, _) => log.end.sequence,
        (Some(_), End::Clean) if found.damaged == 0 => 0,
        (Some(_), End::UnderWay) if found.damaged == 0 => acked.sequence + 1,
        // the cursor may be older than what was settled, where the machine went down
        _ if Some(cursor.boot) != storage.boot() => log.end.sequence,
        // the last word of the cursor may be in the slot that is damaged
        _ if found.damaged > 0 => acked.sequence + 2,
        _ => acked.sequence + 1,
    };
    // one that was not read since is no less in doubt than it was
    ring.repeated = repeated.max(cursor.repeated);
    ring.oldest_on_disk = log.oldest_timestamp(acked);
    Ok((log, ring))
}

/// A file of which nothing is wanted.
fn settled(first: u64, base: Place) -> Segment {
    let last = Place { sequence: first, total: base.total };
    Segment {
        first,
        before: base.total,
        anew: true,
        last,
        min_timestamp: i64::MAX,
        max_timestamp: i64::MIN,
        end: HEADER as u64,
        wrote: 0,
        synced: 0,
        broken: false,
        size: 0,
        file: None,
    }
}

/// What a file has; `None` where no record is in it.
fn look(
    storage: &dyn Storage,
    path: &Path,
    first: u64,
    settled: u64,
    disk: &mut Disk,
) -> io::Result<Option<Found>> {
    let file = storage.open(path)?;
    let size = file.size()?;
    let mut bytes = [0; HEADER];
    let read = read_full_at(file.as_ref(), &mut bytes, 0);
    let header = read.as_ref().ok().and_then(|read| Header::decode(&bytes[..*read]));
    let header = header.filter(|header| header.first == first);
    let mut found = Found {
        file,
        before: header.map(|header| header.before),
        anew: header.is_some_and(|header| header.anew),
        last: 0,
        samples: 0,
        settled: (first <= settled).then_some(0),
        min_timestamp: i64::MAX,
        max_timestamp: i64::MIN,
        end: HEADER as u64,
        size,
        sealed: false,
        unreadable: read.is_err(),
    };
    if let Some(footer) = footer(&found, first) {
        found.before = Some(footer.before);
        (found.last, found.samples) = (first + u64::from(footer.records) - 1, footer.samples);
        (found.min_timestamp, found.max_timestamp) = (footer.min_timestamp, footer.max_timestamp);
        (found.end, found.sealed) = (footer.end, true);
        if header.is_none() {
            *disk.corrupt.entry("segment").or_default() += 1;
        }
        return Ok(Some(found));
    }
    scan(&mut found, first, settled);
    if found.last == 0 {
        return if found.unreadable { Err(io::ErrorKind::InvalidData.into()) } else { Ok(None) };
    }
    if header.is_none() {
        *disk.corrupt.entry("segment").or_default() += 1;
    }
    Ok(Some(found))
}

fn footer(found: &Found, first: u64) -> Option<Footer> {
    let place = found.size.checked_sub(FOOTER as u64).filter(|place| *place > HEADER as u64)?;
    let mut bytes = [0; FOOTER];
    let read = read_full_at(found.file.as_ref(), &mut bytes, place).ok()?;
    Footer::decode(&bytes[..read], place).filter(|footer| footer.first == first)
}

/// Goes through a file without a footer. Damage within it is counted when it is read; its end is where nothing sound
/// comes any more.
fn scan(found: &mut Found, first: u64, settled: u64) {
    let mut walk = Walk::new(Arc::clone(&found.file));
    loop {
        match walk.step(found.size, first) {
            Step::Record(head, _) | Step::Damaged(head) | Step::Passed(head) => {
                if head.sequence < first {
                    continue;
                }
                found.last = head.sequence;
                found.samples = u64::from(head.before) + u64::from(head.samples);
                found.end = walk.place();
                found.min_timestamp = found.min_timestamp.min(head.min_timestamp);
                found.max_timestamp = found.max_timestamp.max(head.max_timestamp);
                // where that one is damaged, the one behind it says as much
                if head.sequence <= settled {
                    found.settled = Some(found.samples);
                } else if head.sequence == settled + 1 && first <= settled {
                    found.settled = Some(u64::from(head.before));
                }
            }
            Step::Lost => {}
            Step::Torn(_) | Step::End => break,
        }
    }
    found.unreadable |= walk.unreadable;
}

/// Cuts off what is behind the last record, and writes the footer.
fn tidy(
    storage: &dyn Storage,
    found: &mut Found,
    first: u64,
    before: u64,
    newest: bool,
    (quarantine, lane): (&Quarantine, usize),
    disk: &mut Disk,
) {
    // where the header is gone, a footer would make a guess of what comes before it into knowledge
    if found.sealed || found.unreadable || found.before.is_none() && !newest {
        return;
    }
    if found.end < found.size {
        if newest {
            disk.torn_tails += 1;
        } else {
            *disk.corrupt.entry("footer").or_default() += 1;
        }
        quarantine.put_tail(storage, found.file.as_ref(), (lane, first), (found.end, found.size), disk);
        if found.file.truncate(found.end).is_err() {
            return;
        }
        found.size = found.end;
    }
    let footer = Footer {
        records: u32::try_from(found.last + 1 - first).unwrap_or(u32::MAX),
        first,
        before,
        samples: found.samples,
        min_timestamp: found.min_timestamp,
        max_timestamp: found.max_timestamp,
        end: found.end,
    };
    match append_all(found.file.as_ref(), &footer.encode()) {
        Ok(()) => found.size = found.end + FOOTER as u64,
        Err(_) => {
            let _ = found.file.truncate(found.end);
        }
    }
}

impl Quarantine {
    /// How many are there already; as many as may be where that is not known.
    fn count(&self, storage: &dyn Storage) -> usize {
        if storage.create_folder(&self.folder).is_err() {
            return ASIDE;
        }
        storage.list(&self.folder).map_or(ASIDE, |names| names.len())
    }

    /// Puts a file aside of which nothing can be read; where enough are there, it is removed.
    fn put_file(&self, storage: &dyn Storage, path: &Path, lane: usize, disk: &mut Disk) {
        let empty = storage.open(path).and_then(|file| file.size()).is_ok_and(|size| size <= HEADER as u64);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let kept = !empty
            && self.count(storage) < ASIDE
            && storage.rename(path, &self.folder.join(format!("lane-{lane:02}-{name}"))).is_ok();
        if kept {
            disk.quarantined += 1;
        } else if let Err(error) = storage.remove(path) {
            tracing::warn!(file = %path.display(), %error, "a damaged file of a queue cannot be removed");
        }
    }

    /// Keeps a copy of a damaged end, where it is not just zeros.
    fn put_tail(
        &self,
        storage: &dyn Storage,
        file: &dyn File,
        (lane, first): (usize, u64),
        (from, to): (u64, u64),
        disk: &mut Disk,
    ) {
        let mut bytes = vec![0; (to - from).min(TAIL) as usize];
        let read = read_full_at(file, &mut bytes, from).unwrap_or(0);
        bytes.truncate(read);
        if bytes.iter().all(|byte| *byte == 0) || self.count(storage) >= ASIDE {
            return;
        }
        let path = self.folder.join(format!("lane-{lane:02}-{first:020}-{from}.tail"));
        let put = storage.create(&path).and_then(|copy| append_all(copy.as_ref(), &bytes));
        if put.is_ok() {
            disk.quarantined += 1;
        }
    }
}
