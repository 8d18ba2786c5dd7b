//! How fast a queue takes records, and how soon one that is full is open.
//!
//! `cargo bench --bench queue [-- FOLDER]`; without a folder one below `target`. Two numbers to be held: 100,000
//! records of 8 KiB a second in a burst of 1 GiB, and less than 200 ms to open 2 GiB.
//!
//! What a newcomer would get wrong: a burst that is faster than memory and disk together is not slowed down but dropped
//! and counted. So the burst here waits where memory is half full, and that counts in its time; the calls themselves are
//! measured beside it.

#![expect(clippy::print_stdout, reason = "its numbers are what it is for")]

use bytes::Bytes;
use redvigil::config::deliver as config;
use redvigil::deliver::queue::disk::Disk;
use redvigil::deliver::queue::{Queue, Record, Settled};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const BODY: usize = 8 << 10;

fn main() {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let folder = folder.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let folder = tempfile::tempdir_in(folder).expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        burst(&folder.path().join("burst"), 1 << 30).await;
        open(&folder.path().join("open"), 2 << 30).await;
        through(&folder.path().join("through"), 20_000).await;
    });
}

fn record(body: &Bytes) -> Record {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    Record { body: body.clone(), samples: 840, min_timestamp: now, max_timestamp: now }
}

fn body() -> Bytes {
    let mut random = fastrand::Rng::with_seed(7);
    (0..BODY).map(|_| random.u8(..)).collect()
}

fn queue(folder: &Path) -> Queue {
    let config = config::Queue { max_bytes: 8 << 30, min_free: 0, ..config::Queue::default() };
    Queue::open(folder, &config, Arc::new(Disk)).expect("a folder")
}

/// Appends that many bytes as fast as they are taken, and says how long the slowest call took.
async fn fill(queue: &Queue, bytes: u64) -> (u64, Duration, Duration) {
    let (body, count) = (body(), bytes / BODY as u64);
    let (mut slowest, mut waited) = (Duration::ZERO, Duration::ZERO);
    for number in 0..count {
        let record = record(&body);
        let start = Instant::now();
        queue.append(0, record);
        slowest = slowest.max(start.elapsed());
        // the check is not for free: one in 64
        if number % 64 == 0 {
            let start = Instant::now();
            while accepted(queue) + 2048 < number {
                std::thread::sleep(Duration::from_micros(100));
            }
            waited += start.elapsed();
        }
    }
    while accepted(queue) < count {
        std::thread::sleep(Duration::from_micros(100));
    }
    (count, slowest, waited)
}

fn accepted(queue: &Queue) -> u64 {
    queue.status().total.accepted / 840
}

async fn burst(folder: &Path, bytes: u64) {
    for round in 1..=3 {
        let queue = queue(&folder.join(round.to_string()));
        let start = Instant::now();
        let (count, slowest, waited) = fill(&queue, bytes).await;
        let took = start.elapsed();
        let status = queue.status();
        assert_eq!(status.total.dropped.total(), 0, "nothing is dropped");
        println!(
            "burst of {} MiB: {count} records accepted in {took:.2?}, {:.0} records/s; slowest append {slowest:.2?}; \
             waited for memory {waited:.2?}; fdatasync {} times, {:.2} s",
            bytes >> 20,
            count as f64 / took.as_secs_f64(),
            status.disk.fsyncs,
            status.disk.fsync_seconds,
        );
        queue.close().await;
    }
}

async fn open(folder: &Path, bytes: u64) {
    let first = queue(folder);
    let (count, ..) = fill(&first, bytes).await;
    // as after a death: the last file has no footer
    drop(first);
    for _ in 0..3 {
        let start = Instant::now();
        let queue = queue(folder);
        let took = start.elapsed();
        assert_eq!(queue.status().total.recovered, count * 840);
        println!("open of {} MiB, {count} records: {took:.2?}", bytes >> 20);
        drop(queue);
    }
}

/// A record in, read, settled, and the next: what a sender costs the queue.
async fn through(folder: &Path, count: u32) {
    let queue = queue(folder);
    let mut lane = queue.lane(0).expect("nobody has it");
    let body = body();
    let start = Instant::now();
    for _ in 0..count {
        queue.append(0, record(&body));
        let entry = lane.oldest().await;
        lane.settle(entry.sequence, Settled::delivered(840));
    }
    let took = start.elapsed();
    println!("append, read, settle: {:.1?} a record", took / count);
    queue.close().await;
}
