//! The files of a queue, changed by edits that the bytes say, and what the queue makes of them.
//!
//! What a newcomer would get wrong: a checksum keeps random bytes out. Some edits therefore put the checksum right, so
//! that files which contradict each other are read, too.

#[path = "../../tests/queue/simulated.rs"]
#[allow(dead_code)]
mod simulated;

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use redvigil::config::deliver as config;
use redvigil::deliver::queue::{Counts, Lane, Options, Queue, Record, Settled, Worker};
use simulated::{Image, START, Simulated};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Header, head of a record, body, footer, and how far the slots of the cursor are apart.
const HEADER: usize = 64;
const HEAD: usize = 48;
const BODY: usize = 400;
const FOOTER: usize = 64;
const SLOT: usize = 128;
const APART: usize = 512;

fn folder() -> PathBuf {
    PathBuf::from("/state/queue")
}

fn record(number: u32) -> Record {
    let body: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(BODY).collect();
    Record { body: Bytes::from(body), samples: number % 5 + 1, min_timestamp: START, max_timestamp: START }
}

fn open(disk: &Simulated) -> Option<(Queue, Worker)> {
    let config = config::Queue { min_free: 0, ..config::Queue::default() };
    let options = Options { clock: disk.clock(), segment: 4 << 10 };
    let (queue, worker) = Queue::prepare(&folder(), &config, Arc::new(disk.clone()), &options).ok()?;
    Some((queue, worker?))
}

fn turn(queue: &Queue, worker: &mut Worker) {
    for _ in 0..1000 {
        let more = worker.turn();
        assert!(queue.status().total.balance(), "{:?}", queue.status());
        if !more {
            return;
        }
    }
    panic!("it does not come to rest");
}

/// Delivers all there is, or so much, and says how many records that were.
fn drain(queue: &Queue, worker: &mut Worker, lane: &mut Lane, most: usize) -> usize {
    let (mut delivered, mut idle, mut last) = (0, 0, 0);
    while idle < 3 && delivered < most {
        let Some(entry) = lane.oldest_now() else {
            turn(queue, worker);
            idle += 1;
            continue;
        };
        assert!(entry.sequence > last, "{} after {last}", entry.sequence);
        last = entry.sequence;
        assert!(lane.settle(entry.sequence, Settled::delivered(entry.record.samples)));
        assert!(queue.status().total.balance(), "{:?}", queue.status());
        (delivered, idle) = (delivered + 1, 0);
    }
    delivered
}

/// A queue of some files, of which some records are settled.
fn sound() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let disk = Simulated::new(Image::new(Path::new("/state")));
        let (queue, mut worker) = open(&disk).expect("it can be opened");
        for number in 0..30 {
            queue.append(0, record(number));
            turn(&queue, &mut worker);
        }
        let mut lane = queue.lane(0).expect("nobody has it");
        assert_eq!(drain(&queue, &mut worker, &mut lane, 11), 11);
        turn(&queue, &mut worker);
        disk.image()
    })
}

/// Puts the checksum of all before it into the last four bytes.
fn seal(bytes: &mut [u8]) {
    if let Some((rest, sum)) = bytes.split_last_chunk_mut::<4>() {
        *sum = crc32c(rest).to_le_bytes();
    }
}

fn seal_head(bytes: &mut [u8], at: usize) {
    if let Some(head) = bytes.get_mut(at..at + HEAD) {
        let crc = crc32c(&(at as u64).to_le_bytes());
        let crc = crc32c_append(crc32c_append(crc, &head[..8]), &head[12..]);
        head[8..12].copy_from_slice(&crc.to_le_bytes());
    }
}

struct Edits<'a>(&'a [u8]);

impl Edits<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    /// One edit; `None`: there are no more.
    fn next(&mut self, image: &mut Image) -> Option<()> {
        let [kind, file, low, high] = self.take()?;
        let files = image.files();
        let path = files.get(usize::from(file) % files.len().max(1))?;
        let mut bytes = image.read(path)?.to_vec();
        let place = usize::from(u16::from_le_bytes([low, high]));
        let at = place % bytes.len().max(1);
        let is_cursor = path.ends_with("cursor");
        match kind % 12 {
            0 => bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << (high % 8)),
            1 => bytes.truncate(at),
            2 => {
                image.remove(path);
                return Some(());
            }
            3 => bytes.resize(bytes.len() + at.min(2000), low),
            4 => {
                let number = u64::from_le_bytes(self.take()?);
                image.write(&path.with_file_name(format!("{number:020}.seg")), bytes);
                return Some(());
            }
            5 => {
                let length = self.0.len().min(place % 300);
                let (raw, rest) = self.0.split_at(length);
                (bytes, self.0) = (raw.to_vec(), rest);
            }
            6 => bytes.fill(0),
            // a number of a part, with a checksum that is right
            7.. if is_cursor => {
                let slot = (place & 1) * APART;
                let number: [u8; 8] = self.take()?;
                let slot = bytes.get_mut(slot..slot + SLOT)?;
                let field = 8 + 8 * (place / 2 % 9);
                slot[field..field + 8].copy_from_slice(&number);
                seal(slot);
            }
            7 => {
                let number: [u8; 8] = self.take()?;
                let header = bytes.get_mut(..HEADER)?;
                let field = 4 + place % 28;
                header[field..field + 8].copy_from_slice(&number);
                seal(header);
            }
            8 | 9 => {
                let number: [u8; 4] = self.take()?;
                let start = bytes.len().checked_sub(FOOTER)?;
                let field = start + 4 + place % 52;
                bytes[field..field + 4].copy_from_slice(&number);
                seal(&mut bytes[start..]);
            }
            _ => {
                let number: [u8; 4] = self.take()?;
                let head = HEADER + place % 8 * (HEAD + BODY);
                let field = head + 12 + 4 * (place / 8 % 9);
                bytes.get_mut(field..field + 4)?.copy_from_slice(&number);
                seal_head(&mut bytes, head);
            }
        }
        image.write(path, bytes);
        Some(())
    }
}

/// Opens a queue of changed files, delivers what there is, and does it again. What was counted the first time.
pub fn recover(data: &[u8]) -> Counts {
    let mut image = sound().clone();
    let mut edits = Edits(data);
    while edits.next(&mut image).is_some() {}
    let disk = Simulated::new(image);
    let Some((queue, mut worker)) = open(&disk) else { return Counts::default() };
    assert!(queue.status().total.balance(), "{:?}", queue.status());
    let mut lane = queue.lane(0).expect("nobody has it");
    let delivered = drain(&queue, &mut worker, &mut lane, 1000);
    assert!(delivered < 1000, "there were 30");
    turn(&queue, &mut worker);
    let total = queue.status().total;
    assert_eq!((total.pending, total.pending_records), (0, 0), "{total:?}");
    // what comes now is written, and there after a death
    queue.append(0, record(99));
    turn(&queue, &mut worker);
    drop((queue, worker, lane));
    let (queue, mut worker) = open(&disk).expect("what it wrote itself can be opened");
    let mut lane = queue.lane(0).expect("nobody has it");
    let last = queue.status().total.pending_records;
    assert!((1..=2).contains(&last), "{:?}", queue.status());
    drain(&queue, &mut worker, &mut lane, 3);
    assert_eq!(queue.status().total.pending, 0);
    total
}
