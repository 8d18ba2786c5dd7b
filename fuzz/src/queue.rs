//! Files of a queue that anybody may have written, opened and read to their end.
//!
//! What a newcomer would get wrong: bytes as they come have no sound checksum, and say nothing about what is behind it.
//! So they change the files of a sound queue, and half of the changes put the checksum right again.

#[allow(dead_code)]
#[path = "../../tests/queue/simulated.rs"]
mod simulated;

use redvigil::config::deliver::Queue as Config;
use redvigil::deliver::queue::{Options, Queue, Record, Settled, Worker};
use simulated::{Image, Simulated};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const RECORDS: u32 = 14;

fn folder() -> PathBuf {
    PathBuf::from("/state/queue/output")
}

fn config() -> Config {
    Config { min_free: 0, memory: 16 << 10, ..Config::default() }
}

fn open(disk: &Simulated) -> (Queue, Worker) {
    let options = Options { clock: disk.clock(), segment: 4 << 10 };
    let opened = Queue::prepare(&folder(), &config(), Arc::new(disk.clone()), &options);
    let (queue, worker) = opened.expect("this disk never refuses");
    (queue, worker.expect("it has a disk"))
}

fn record(disk: &Simulated, number: u32) -> Record {
    let now = simulated::START + disk.now();
    let body = vec![number as u8; 40 + number as usize * 150 % 1100].into();
    Record { body, samples: number, min_timestamp: now, max_timestamp: now }
}

/// A queue of some files, of which the first is half settled.
fn sound() -> &'static Image {
    static SOUND: OnceLock<Image> = OnceLock::new();
    SOUND.get_or_init(|| {
        let disk = Simulated::new(Image::new(Path::new("/state")));
        let (queue, mut worker) = open(&disk);
        for number in 1..=RECORDS {
            queue.append(0, record(&disk, number));
            while worker.turn() {}
        }
        let mut lane = queue.lane(0).expect("nobody has it");
        for _ in 0..3 {
            let entry = lane.oldest_now().expect("it is in memory");
            assert!(lane.settle(entry.sequence, Settled::delivered(entry.record.samples)));
            while worker.turn() {}
        }
        let image = disk.image();
        assert!(image.files().len() > 3);
        image
    })
}

/// Puts the checksum right of what stands at that place: a slot of a cursor, a header, a footer, or the head of a record.
fn mend(bytes: &mut [u8], is_cursor: bool, at: usize) {
    let whole = |bytes: &mut [u8]| {
        let end = bytes.len() - 4;
        let sum = crc32c::crc32c(&bytes[..end]);
        bytes[end..].copy_from_slice(&sum.to_le_bytes());
    };
    let size = bytes.len();
    if is_cursor {
        let slot = at / 512 * 512;
        if slot + 128 <= size {
            whole(&mut bytes[slot..slot + 128]);
        }
    } else if at < 64 && size >= 64 {
        whole(&mut bytes[..64]);
    } else if size >= 128 && at >= size - 64 {
        whole(&mut bytes[size - 64..]);
    } else if let Some(head) = (64..=at).rev().find(|at| bytes[*at..].starts_with(&[0xd7, b'r', b'v', 0xa1]))
        && head + 48 <= size
    {
        let sum = crc32c::crc32c(&(head as u64).to_le_bytes());
        let sum = crc32c::crc32c_append(sum, &bytes[head..head + 8]);
        let sum = crc32c::crc32c_append(sum, &bytes[head + 12..head + 48]);
        bytes[head + 8..head + 12].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Changes files as the bytes say: what, which file, where, and how.
fn change(image: &mut Image, data: &[u8]) {
    for part in data.chunks(6).take(64) {
        let &[what, which, low, high, value, count] = part else { return };
        let files = image.files();
        let Some(path) = files.get(usize::from(which) % files.len().max(1)).cloned() else { return };
        let mut bytes = image.read(&path).unwrap_or_default().to_vec();
        let at = usize::from(u16::from_le_bytes([low, high])) % bytes.len().max(1);
        let is_cursor = path.ends_with("cursor");
        match what % 16 {
            0..4 => {
                bytes.iter_mut().skip(at).take(1 + usize::from(count % 8)).for_each(|byte| *byte ^= value)
            }
            4..10 => {
                bytes.iter_mut().skip(at).take(1 + usize::from(count % 8)).for_each(|byte| *byte = value);
                mend(&mut bytes, is_cursor, at);
            }
            10 => bytes.truncate(at),
            11 => bytes.iter_mut().skip(at).for_each(|byte| *byte = 0),
            12 => bytes.extend(vec![value; usize::from(count) * 8]),
            13 => {
                let twice = bytes[at.min(bytes.len())..].iter().take(usize::from(count) * 4).copied();
                let twice: Vec<u8> = twice.collect();
                bytes.splice(at..at, twice);
            }
            14 => {
                image.remove(&path);
                continue;
            }
            // the same under another number
            _ => {
                let name = format!("{:020}.seg", u64::from(value) % 40);
                image.write(&path.with_file_name(name), bytes);
                continue;
            }
        }
        image.write(&path, bytes);
    }
}

/// Whatever the files are, the queue opens, comes to its end, counts each sample once, and goes on.
pub fn queue_recover(data: &[u8]) {
    let mut image = sound().clone();
    change(&mut image, data);
    let disk = Simulated::new(image);
    let (queue, mut worker) = open(&disk);
    let balanced = |queue: &Queue| {
        let total = queue.status().total;
        assert!(total.balance(), "{total:?}");
        total
    };
    balanced(&queue);
    let mut lane = queue.lane(0).expect("nobody has it");
    queue.append(0, record(&disk, 99));
    let (mut last, mut body, mut rest) = (0, None, 0);
    for turn in 0.. {
        assert!(turn < 10_000, "it never ends");
        let more = worker.turn();
        balanced(&queue);
        let Some(entry) = lane.oldest_now() else {
            rest += usize::from(!more);
            if rest > 4 {
                break;
            }
            continue;
        };
        rest = 0;
        assert!(entry.sequence > last, "{} after {last}", entry.sequence);
        (last, body) = (entry.sequence, Some(entry.record.body.clone()));
        assert!(lane.settle(entry.sequence, Settled::delivered(entry.record.samples)));
        balanced(&queue);
        disk.pass(Duration::from_millis(100));
    }
    assert_eq!(body, Some(record(&disk, 99).body), "what came last is delivered last");
    let total = balanced(&queue);
    assert_eq!((total.pending, total.pending_records), (0, 0), "{total:?}");
    disk.pass(Duration::from_secs(11));
    while worker.turn() {}
    drop((queue, worker, lane));
    let total = balanced(&open(&disk).0);
    assert_eq!((total.recovered, total.pending), (0, 0), "{total:?}");
}
