//! A disk that fails: what was taken is in memory, what finds no room there is counted, and it goes on by itself.

use super::*;
use crate::config::deliver::Fsync;
use std::path::PathBuf;

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;

#[test]
fn while_nothing_can_be_written_memory_takes_records_and_drops_its_oldest() {
    for (number, name, reason) in [
        (EIO, "EIO", Reason::RingFull),
        (EROFS, "EROFS", Reason::RingFull),
        (ENOSPC, "ENOSPC", Reason::DiskFull),
        (EDQUOT, "EDQUOT", Reason::DiskFull),
    ] {
        let bench = Bench::new(|config| config.memory = 8 << 10);
        let (queue, mut worker) = bench.open();
        let mut lane = queue.lane(0).expect("nobody has it");
        bench.append(&queue, &mut worker, 1..=3);
        bench.storage.fail(move |call, _| {
            ["append", "create", "write_at", "reserve"].contains(&call).then(|| errno(number))
        });
        for number in 4..=20 {
            bench.append(&queue, &mut worker, number..=number);
            let status = balanced(&queue);
            assert!(status.memory_bytes <= status.memory_capacity);
        }
        let status = balanced(&queue);
        assert!(!status.disk_ok && status.disk.write_errors[name] > 0, "{name}: {status:?}");
        assert!(status.total.dropped.get(reason) > 0);
        assert_eq!(status.total.accepted, 210);
        bench.storage.heal();
        bench.append(&queue, &mut worker, 21..=21);
        assert!(!balanced(&queue).disk_ok, "it is left alone for a while");
        bench.pass(Duration::from_secs(11));
        while worker.turn() {}
        let status = balanced(&queue);
        assert!(status.disk_ok);
        drop((queue, worker, lane));
        let (queue, mut worker) = bench.open();
        let after = balanced(&queue);
        assert_eq!((after.total.recovered, after.disk.gaps), (status.total.pending, 0), "{name}");
        lane = queue.lane(0).expect("nobody has it");
        let seen = deliver(&mut lane, &mut worker, 99);
        assert_eq!(seen.last(), Some(&21));
        assert_eq!(seen.iter().map(|seen| u64::from(*seen)).sum::<u64>(), status.total.pending);
    }
}

#[test]
fn what_is_settled_while_nothing_can_be_written_is_not_sent_again() {
    let bench = Bench::new(|_| ());
    let (queue, mut worker) = bench.open();
    let mut lane = queue.lane(0).expect("nobody has it");
    bench.append(&queue, &mut worker, 1..=3);
    bench.storage.fail(|call, _| ["append", "create", "write_at"].contains(&call).then(|| errno(EIO)));
    bench.append(&queue, &mut worker, 4..=6);
    assert_eq!(deliver(&mut lane, &mut worker, 5), [1, 2, 3, 4, 5]);
    bench.storage.heal();
    bench.pass(Duration::from_secs(11));
    bench.append(&queue, &mut worker, 7..=7);
    drop((queue, worker, lane));
    let (queue, mut worker) = bench.open();
    let status = balanced(&queue);
    assert_eq!((status.total.recovered, status.total.dropped.total()), (6 + 7, 0));
    let mut lane = queue.lane(0).expect("nobody has it");
    assert_eq!(deliver(&mut lane, &mut worker, 9), [6, 7]);
}

#[test]
fn a_full_disk_lets_the_oldest_file_go() {
    let mut bench = Bench::new(|config| config.memory = 8 << 10);
    bench.options.segment = 16 << 10;
    bench.storage.limit(Some(200 << 10));
    let (queue, mut worker) = bench.open();
    let mut lane = queue.lane(0).expect("nobody has it");
    for number in 1..=400 {
        bench.append(&queue, &mut worker, number..=number);
        balanced(&queue);
    }
    let status = balanced(&queue);
    assert!(status.disk_ok && status.total.dropped.get(Reason::DiskFull) > 0, "{status:?}");
    assert_eq!(status.total.dropped.total(), status.total.dropped.get(Reason::DiskFull));
    let seen = deliver(&mut lane, &mut worker, 999);
    assert!(seen.len() > 50 && seen.ends_with(&[399, 400]));
    let status = balanced(&queue);
    assert_eq!((status.total.pending, status.total.accepted), (0, 400 * 401 / 2));
}

#[test]
fn a_disk_that_others_fill_up_is_used_again_when_there_is_room() {
    let bench = Bench::new(|config| config.memory = 8 << 10);
    bench.storage.limit(Some(1 << 10));
    let (queue, mut worker) = bench.open();
    for number in 1..=30 {
        bench.append(&queue, &mut worker, number..=number);
        assert!(balanced(&queue).memory_bytes <= 8 << 10);
    }
    assert!(!balanced(&queue).disk_ok);
    bench.storage.limit(None);
    bench.pass(Duration::from_secs(11));
    while worker.turn() {}
    let status = balanced(&queue);
    assert!(status.disk_ok && status.disk_bytes > 0);
}

#[test]
fn a_write_that_fails_half_way_leaves_nothing_behind() {
    let bench = Bench::new(|config| config.on_full = OnFull::DropNewest);
    let (queue, mut worker) = bench.open();
    bench.append(&queue, &mut worker, 1..=2);
    // takes half a record, then none
    bench.storage.limit(Some(3500));
    bench.append(&queue, &mut worker, 3..=5);
    bench.storage.limit(None);
    bench.pass(Duration::from_secs(11));
    bench.append(&queue, &mut worker, 6..=6);
    let status = balanced(&queue);
    assert!(status.disk_ok);
    drop((queue, worker));
    let (queue, mut worker) = bench.open();
    let mut lane = queue.lane(0).expect("nobody has it");
    let seen = deliver(&mut lane, &mut worker, 9);
    assert!(seen == [1, 2, 3, 4, 5, 6], "{seen:?}");
    assert_eq!(balanced(&queue).total.dropped.get(Reason::Corrupt), 0);
}

#[test]
fn what_cannot_be_cut_off_after_a_failed_write_is_not_taken_for_a_record() {
    let bench = Bench::new(|config| config.on_full = OnFull::DropNewest);
    let (queue, mut worker) = bench.open();
    let mut lane = queue.lane(0).expect("nobody has it");
    bench.append(&queue, &mut worker, 1..=2);
    // three records go into one call, of which two are taken; the file cannot be cut
    bench.storage.limit(Some(2 * 1048 + 64 + 640 + 2 * 1048 + 100));
    bench.storage.fail(|call, _| (call == "truncate").then(|| errno(EIO)));
    bench.append(&queue, &mut worker, 3..=5);
    bench.storage.heal();
    bench.storage.limit(None);
    bench.pass(Duration::from_secs(11));
    bench.append(&queue, &mut worker, 6..=6);
    let pending = balanced(&queue).total.pending;
    drop((queue, worker, lane));
    let (queue, mut worker) = bench.open();
    let status = balanced(&queue);
    assert_eq!((status.total.recovered, status.total.dropped.total()), (pending, 0), "{status:?}");
    lane = queue.lane(0).expect("nobody has it");
    let seen = deliver(&mut lane, &mut worker, 9);
    assert!(seen == [1, 2, 3, 4, 5, 6], "{seen:?}");
}

#[test]
fn a_file_that_goes_while_its_batch_is_still_written_is_counted() {
    for fsync in [Fsync::Always, Fsync::Never] {
        let bench = Bench::new(|config| config.fsync = fsync);
        let (queue, mut worker) = bench.open();
        bench.append(&queue, &mut worker, 1..=2);
        // room for one record: each that is written lets the one before go
        bench.storage.limit(Some(640 + 64 + 1048 + 500));
        bench.append(&queue, &mut worker, 3..=9);
        let status = balanced(&queue);
        assert_eq!(status.total.accepted, 45);
        assert!(status.total.dropped.get(Reason::DiskFull) > 0);
        bench.storage.limit(None);
        bench.pass(Duration::from_secs(11));
        let mut lane = queue.lane(0).expect("nobody has it");
        let seen = deliver(&mut lane, &mut worker, 99);
        let total = balanced(&queue).total;
        assert_eq!(seen.iter().map(|seen| u64::from(*seen)).sum::<u64>() + total.dropped.total(), 45);
        assert_eq!(total.pending, 0);
    }
}

#[test]
fn a_failed_fsync_has_the_file_written_anew_and_is_not_repeated() {
    for (memory, file) in [(32 << 20, ".seg"), (2 << 10, ".seg"), (32 << 20, "cursor")] {
        let bench = Bench::new(|config| {
            config.memory = memory;
            config.fsync = Fsync::Every(Duration::from_secs(1));
        });
        let (queue, mut worker) = bench.open();
        let mut lane = queue.lane(0).expect("nobody has it");
        for number in 1..=5 {
            bench.append(&queue, &mut worker, number..=number);
        }
        deliver(&mut lane, &mut worker, 1);
        bench.pass(Duration::from_secs(1));
        bench.storage.calls();
        let mut failed = false;
        bench.storage.fail(move |call, path| {
            let hit = call == "sync"
                && path.to_string_lossy().ends_with(file)
                && !std::mem::replace(&mut failed, true);
            hit.then(|| errno(EIO))
        });
        while worker.turn() {}
        bench.storage.heal();
        let calls: Vec<(&str, PathBuf)> = bench.storage.calls();
        let renamed = calls.iter().filter(|(call, _)| *call == "rename").count();
        let synced =
            calls.iter().filter(|(call, path)| *call == "sync" && path.to_string_lossy().ends_with(file));
        assert_eq!((renamed, synced.count()), (1, 1), "{file}: {calls:?}");
        let status = balanced(&queue);
        assert!(status.disk_ok);
        assert_eq!(status.disk.fsync_errors, 1);
        // it is appended to and read as before, in this process and the next
        bench.append(&queue, &mut worker, 6..=6);
        assert_eq!(deliver(&mut lane, &mut worker, 2), [2, 3]);
        drop((queue, worker, lane));
        let (queue, mut worker) = bench.open();
        let mut lane = queue.lane(0).expect("nobody has it");
        assert_eq!(deliver(&mut lane, &mut worker, 9), [4, 5, 6]);
        let status = balanced(&queue);
        assert_eq!((status.total.pending, status.total.dropped.total()), (0, 0));
    }
}

#[test]
fn a_file_that_cannot_be_read_costs_its_records_and_no_others() {
    let mut bench = Bench::new(|config| config.memory = 2 << 10);
    bench.options.segment = 4 << 10;
    let (queue, mut worker) = bench.open();
    bench.append(&queue, &mut worker, 1..=1);
    for number in 2..=12 {
        bench.append(&queue, &mut worker, number..=number);
    }
    let bad = bench.storage.files(".seg").remove(1);
    bench.storage.fail(move |call, path| (call == "read_at" && path == bad).then(|| errno(EIO)));
    let mut lane = queue.lane(0).expect("nobody has it");
    assert_eq!(deliver(&mut lane, &mut worker, 99), [1, 2, 3, 7, 8, 9, 10, 11, 12]);
    let status = balanced(&queue);
    assert_eq!((status.total.dropped.get(Reason::Corrupt), status.total.pending), (4 + 5 + 6, 0));
    drop((queue, worker, lane));
}

#[test]
fn a_file_that_cannot_be_read_when_it_is_opened_is_put_aside_and_counted() {
    let mut bench = Bench::new(|_| ());
    bench.options.segment = 4 << 10;
    let (queue, mut worker) = bench.open();
    bench.append(&queue, &mut worker, 1..=12);
    drop((queue, worker));
    let bad = bench.storage.files(".seg").remove(1);
    bench.storage.fail(move |call, path| (call == "read_at" && path == bad).then(|| errno(EIO)));
    let (queue, mut worker) = bench.open();
    let status = balanced(&queue);
    assert_eq!((status.total.dropped.get(Reason::Corrupt), status.disk.quarantined), (4 + 5 + 6, 1));
    let mut lane = queue.lane(0).expect("nobody has it");
    assert_eq!(deliver(&mut lane, &mut worker, 99), [1, 2, 3, 7, 8, 9, 10, 11, 12]);
}

#[test]
fn a_file_that_cannot_be_opened_just_now_is_waited_for() {
    const EMFILE: i32 = 24;
    let mut bench = Bench::new(|config| config.memory = 2 << 10);
    bench.options.segment = 4 << 10;
    let (queue, mut worker) = bench.open();
    for number in 1..=12 {
        bench.append(&queue, &mut worker, number..=number);
    }
    bench.pass(Duration::from_secs(2));
    while worker.turn() {}
    let mut lane = queue.lane(0).expect("nobody has it");
    bench.storage.fail(|call, _| (call == "open").then(|| errno(EMFILE)));
    assert_eq!(next(&mut lane, &mut worker), None);
    bench.storage.heal();
    assert_eq!(deliver(&mut lane, &mut worker, 99), (1..=12).collect::<Vec<_>>());
}

#[test]
fn a_file_that_could_be_neither_made_safe_nor_written_anew_is_not_taken_for_safe_later() {
    let bench = Bench::new(|config| config.fsync = Fsync::Every(Duration::from_secs(1)));
    let (queue, mut worker) = bench.open();
    bench.append(&queue, &mut worker, 1..=3);
    bench.append(&queue, &mut worker, 4..=4);
    bench.pass(Duration::from_secs(1));
    let segment = bench.storage.files(".seg").remove(0);
    let of_it = segment.clone();
    bench
        .storage
        .fail(move |call, path| (call == "sync" && *path == of_it || call == "create").then(|| errno(EIO)));
    while worker.turn() {}
    assert!(!balanced(&queue).disk_ok);
    bench.storage.heal();
    bench.storage.calls();
    for _ in 0..3 {
        bench.pass(Duration::from_secs(11));
        while worker.turn() {}
    }
    let calls = bench.storage.calls();
    assert!(calls.iter().any(|(call, path)| *call == "rename" && path.with_extension("seg") == segment));
    assert!(!calls.contains(&("sync", segment)), "{calls:?}");
    assert!(balanced(&queue).disk_ok);
    let mut lane = queue.lane(0).expect("nobody has it");
    assert_eq!(deliver(&mut lane, &mut worker, 9), [1, 2, 3, 4]);
}

#[test]
fn a_file_that_failed_before_it_had_a_record_does_not_take_its_successor_with_it() {
    let mut bench = Bench::new(|_| ());
    bench.options.segment = 4 << 10;
    let (queue, mut worker) = bench.open();
    bench.append(&queue, &mut worker, 1..=1);
    bench.append(&queue, &mut worker, 2..=3);
    let mut lane = queue.lane(0).expect("nobody has it");
    assert_eq!(deliver(&mut lane, &mut worker, 9), [1, 2, 3]);
    let mut appends = 0;
    bench.storage.fail(move |call, _| {
        appends += usize::from(call == "append");
        // the footer of the one before, and its own header
        let header = call == "append" && appends <= 2;
        (["append", "truncate"].contains(&call) && !header).then(|| errno(EIO))
    });
    bench.append(&queue, &mut worker, 4..=6);
    assert!(!balanced(&queue).disk_ok);
    bench.storage.heal();
    for _ in 0..3 {
        bench.pass(Duration::from_secs(11));
        while worker.turn() {}
    }
    assert!(balanced(&queue).disk_ok);
    close(&queue, &mut worker);
    drop((queue, worker, lane));
    let (queue, mut worker) = bench.open();
    let mut lane = queue.lane(0).expect("nobody has it");
    assert_eq!(deliver(&mut lane, &mut worker, 9), [4, 5, 6]);
}
