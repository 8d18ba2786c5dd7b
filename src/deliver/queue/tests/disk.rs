//! A queue with a disk, when all is well: deaths, limits, generations.

use super::*;
use crate::deliver::queue::disk::Disk;

#[test]
fn what_is_written_is_there_after_a_death_and_one_record_may_be_repeated() {
    let bench = Bench::new(|_| ());
    let (queue, mut worker) = bench.open();
    bench.append(&queue, &mut worker, 1..=10);
    let mut lane = queue.lane(0).expect("nobody has it");
    assert_eq!(deliver(&mut lane, &mut worker, 4), [1, 2, 3, 4]);
    assert_eq!(balanced(&queue).total.pending, 5 + 6 + 7 + 8 + 9 + 10);
    drop((queue, worker, lane));

    let (queue, mut worker) = bench.open();
    let status = balanced(&queue);
    assert_eq!((status.total.recovered, status.total.recovered_records), (45, 6));
    assert_eq!(status.disk.torn_tails, 0);
    let mut lane = queue.lane(0).expect("nobody has it");
    bench.append(&queue, &mut worker, 11..=12);
    for number in 5..=12 {
        let entry = next(&mut lane, &mut worker).expect("it waits");
        assert_eq!((entry.sequence, entry.record.samples), (u64::from(number), number));
        assert_eq!(entry.may_be_repeated, number == 5);
        lane.settle(entry.sequence, Settled::delivered(number));
        balanced(&queue);
    }
    while worker.turn() {}
    let status = balanced(&queue);
    assert_eq!((status.total.pending, status.total.pending_records, status.total.delivered), (0, 0, 45 + 23));
}

#[test]
fn after_a_stop_nothing_is_repeated_unless_a_record_was_under_way() {
    for under_way in [false, true] {
        let bench = Bench::new(|_| ());
        let (queue, mut worker) = bench.open();
        bench.append(&queue, &mut worker, 1..=3);
        let mut lane = queue.lane(0).expect("nobody has it");
        deliver(&mut lane, &mut worker, 1);
        if under_way {
            next(&mut lane, &mut worker).expect("it waits");
        }
        close(&queue, &mut worker);
        assert_eq!(balanced(&queue).total.pending, 5);
        drop((queue, worker, lane));
        let (queue, mut worker) = bench.open();
        let mut lane = queue.lane(0).expect("nobody has it");
        let entry = next(&mut lane, &mut worker).expect("it waits");
        assert_eq!((entry.sequence, entry.may_be_repeated), (2, under_way));
    }
}

#[test]
fn a_reader_waits_until_what_it_settled_is_written_down() {
    let bench = Bench::new(|_| ());
    let (queue, mut worker) = bench.open();
    bench.append(&queue, &mut worker, 1..=2);
    let mut lane = queue.lane(0).expect("nobody has it");
    let entry = lane.oldest_now().expect("it is in memory");
    lane.settle(entry.sequence, Settled::delivered(1));
    assert_eq!(lane.oldest_now(), None);
    worker.turn();
    assert_eq!(lane.oldest_now().expect("it is in memory").sequence, 2);
}

#[test]
fn memory_never_takes_more_than_it_may_and_what_it_forgot_comes_from_the_disk() {
    let bench = Bench::new(|config| config.memory = 10 << 10);
    let (queue, mut worker) = bench.open();
    for round in 0..50 {
        bench.append(&queue, &mut worker, round * 4 + 1..=round * 4 + 4);
        let status = balanced(&queue);
        assert!(status.memory_bytes <= status.memory_capacity, "{status:?}");
    }
    let mut lane = queue.lane(0).expect("nobody has it");
    let seen = deliver(&mut lane, &mut worker, 300);
    assert_eq!(seen, (1..=200).collect::<Vec<_>>());
    assert!(balanced(&queue).memory_bytes <= 10 << 10);
}

#[test]
fn above_its_size_the_oldest_files_go_and_what_is_under_way_is_counted_once() {
    let bench = Bench::new(|config| {
        config.max_bytes = 80 << 10;
        config.memory = 4 << 10;
    });
    let (queue, mut worker) = bench.open();
    let mut lane = queue.lane(0).expect("nobody has it");
    bench.append(&queue, &mut worker, 1..=1);
    let under_way = next(&mut lane, &mut worker).expect("it waits");
    for number in 2..=200 {
        bench.append(&queue, &mut worker, number..=number);
        assert!(balanced(&queue).disk_bytes <= 80 << 10);
    }
    let status = balanced(&queue);
    let dropped = status.total.dropped.get(Reason::Size);
    assert!(dropped > 0 && status.total.dropped.total() == dropped);
    assert_eq!(lane.oldest_now().as_ref(), Some(&under_way));
    lane.settle(1, Settled::delivered(1));
    assert_eq!(balanced(&queue).total.delivered, 1);
    let seen = deliver(&mut lane, &mut worker, 300);
    assert_eq!(*seen.last().expect("some are left"), 200);
    assert!(seen.windows(2).all(|two| two[1] == two[0] + 1));
    let status = balanced(&queue);
    assert_eq!(status.total.delivered + dropped, (1..=200).sum::<u64>());
    assert_eq!(status.total.pending, 0);
}

#[test]
fn a_death_after_the_file_of_a_record_under_way_went_counts_it_as_dropped() {
    let bench = Bench::new(|config| {
        config.max_bytes = 80 << 10;
        config.memory = 4 << 10;
    });
    let (queue, mut worker) = bench.open();
    let mut lane = queue.lane(0).expect("nobody has it");
    bench.append(&queue, &mut worker, 7..=7);
    next(&mut lane, &mut worker).expect("it waits");
    for number in 8..=200 {
        bench.append(&queue, &mut worker, number..=number);
    }
    let before = balanced(&queue).total;
    assert!(before.dropped.get(Reason::Size) > 0);
    drop((queue, worker, lane));
    let (queue, _worker) = bench.open();
    let after = balanced(&queue).total;
    assert_eq!((after.recovered, after.dropped.get(Reason::Size)), (before.pending, 7));
    assert_eq!(after.pending, before.pending - 7);
}

#[test]
fn above_its_size_the_newest_goes_where_that_is_wished_once_memory_is_full_too() {
    let bench = Bench::new(|config| {
        config.max_bytes = 80 << 10;
        config.memory = 4 << 10;
        config.on_full = OnFull::DropNewest;
    });
    let (queue, mut worker) = bench.open();
    for number in 1..=100 {
        bench.append(&queue, &mut worker, number..=number);
    }
    let status = balanced(&queue);
    assert!(!status.disk_ok && status.disk_bytes <= 80 << 10);
    assert!(status.total.dropped.get(Reason::Size) >= 100);
    let mut lane = queue.lane(0).expect("nobody has it");
    let seen = deliver(&mut lane, &mut worker, 300);
    assert!(seen.windows(2).all(|two| two[1] == two[0] + 1) && seen[0] == 1);
    bench.pass(Duration::from_secs(11));
    bench.append(&queue, &mut worker, 101..=101);
    let status = balanced(&queue);
    assert!(status.disk_ok, "there is room again: {status:?}");
    assert_eq!(deliver(&mut lane, &mut worker, 300), [101]);
}

#[test]
fn what_waited_too_long_goes_file_by_file_and_record_by_record() {
    let bench = Bench::new(|config| config.max_age = Duration::from_secs(80));
    let (queue, mut worker) = bench.open();
    bench.append(&queue, &mut worker, 1..=2);
    bench.pass(Duration::from_secs(15));
    bench.append(&queue, &mut worker, 3..=3);
    bench.pass(Duration::from_secs(5));
    bench.append(&queue, &mut worker, 4..=4);
    bench.pass(Duration::from_secs(64));
    while worker.turn() {}
    assert_eq!(
        balanced(&queue).total.dropped.get(Reason::Age),
        3,
        "the first file is old, the second is not"
    );
    bench.pass(Duration::from_secs(14));
    let mut lane = queue.lane(0).expect("nobody has it");
    assert_eq!(deliver(&mut lane, &mut worker, 9), [4]);
    assert_eq!(balanced(&queue).total.dropped.get(Reason::Age), 6);
    bench.append(&queue, &mut worker, 5..=5);
    bench.pass(Duration::from_secs(100));
    while worker.turn() {}
    assert_eq!(balanced(&queue).total.pending, 0, "one that is written to is too old as well");
}

#[test]
fn less_free_than_is_to_be_left_free_lets_files_go() {
    let bench = Bench::new(|config| config.min_free = u64::MAX / 2);
    let (queue, mut worker) = bench.open();
    bench.append(&queue, &mut worker, 1..=3);
    let status = balanced(&queue);
    assert!(!status.disk_ok && status.disk_bytes == 0);
    assert_eq!(status.total.pending, 6, "memory has them");
    let mut lane = queue.lane(0).expect("nobody has it");
    assert_eq!(deliver(&mut lane, &mut worker, 9), [1, 2, 3]);
    assert_eq!(balanced(&queue).total.pending, 0);
}

#[test]
fn another_number_of_lanes_begins_when_the_old_ones_are_empty() {
    let mut bench = Bench::new(|_| ());
    let (queue, mut worker) = bench.open();
    bench.append(&queue, &mut worker, 1..=2);
    drop((queue, worker));
    bench.config.lanes = 2;
    let (queue, mut worker) = bench.open();
    queue.append(1, bench.record(3));
    while worker.turn() {}
    let mut lanes = queue.lanes();
    let identities: Vec<_> = lanes.iter().map(|lane| (lane.generation(), lane.index())).collect();
    assert_eq!(identities, [(1, 0), (2, 0), (2, 1)]);
    assert_eq!(next(&mut lanes[2], &mut worker), None);
    assert_eq!(deliver(&mut lanes[0], &mut worker, 9), [1, 2]);
    assert_eq!(deliver(&mut lanes[2], &mut worker, 9), [3]);
    close(&queue, &mut worker);
    drop((queue, worker, lanes));
    let (queue, _worker) = bench.open();
    assert_eq!(queue.lanes().len(), 2, "the old one is gone");
}

#[test]
fn a_queue_that_spills_writes_when_memory_is_half_full_or_the_receiver_fails() {
    let bench = Bench::new(|config| {
        config.durability = Durability::Spill;
        config.memory = 20 << 10;
    });
    let (queue, mut worker) = bench.open();
    let mut lane = queue.lane(0).expect("nobody has it");
    bench.append(&queue, &mut worker, 1..=5);
    assert_eq!(balanced(&queue).disk_bytes, 0);
    assert_eq!(deliver(&mut lane, &mut worker, 2), [1, 2]);
    for number in 6..=30 {
        bench.append(&queue, &mut worker, number..=number);
    }
    assert!(balanced(&queue).disk_bytes > 0);
    assert_eq!(deliver(&mut lane, &mut worker, 99), (3..=30).collect::<Vec<_>>());
    bench.append(&queue, &mut worker, 31..=32);
    bench.pass(Duration::from_secs(6));
    while worker.turn() {}
    drop((queue, worker, lane));
    let (queue, mut worker) = bench.open();
    let status = balanced(&queue);
    assert_eq!((status.total.recovered, status.disk.gaps), (31 + 32, 0));
    let mut lane = queue.lane(0).expect("nobody has it");
    assert_eq!(deliver(&mut lane, &mut worker, 9), [31, 32]);
}

#[test]
fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Queue::open(folder.path(), &config::Queue::default(), Arc::new(Disk));
    let _first = open().expect("nobody has it");
    let refused = open().map(|_| ());
    let refused = refused.expect_err("it is in use");
    assert_eq!(refused.kind(), "busy");
    assert!(refused.to_string().contains("in use by another process"));
}

#[test]
fn a_folder_that_cannot_be_made_is_said_by_name() {
    let refused = Queue::open(Path::new("/proc/nowhere"), &config::Queue::default(), Arc::new(Disk));
    let refused = refused.map(|_| ()).expect_err("it cannot be made");
    assert_eq!((refused.kind(), refused.to_string().contains("/proc/nowhere")), ("folder", true));
}

#[tokio::test]
async fn with_its_threads_all_of_it_goes_through_and_is_there_after_a_stop() {
    let folder = tempfile::tempdir().expect("a folder");
    for fsync in [config::Fsync::Always, config::Fsync::Every(Duration::from_millis(5)), config::Fsync::Never]
    {
        let config = config::Queue { min_free: 0, fsync, memory: 32 << 10, ..config::Queue::default() };
        let queue = Queue::open(folder.path(), &config, Arc::new(Disk)).expect("a folder");
        let mut lane = queue.lane(0).expect("nobody has it");
        for number in 1..=120 {
            queue.append(0, record(number));
            if number > 80 {
                continue;
            }
            let entry = lane.oldest().await;
            assert_eq!(entry.record.samples, number);
            lane.settle(entry.sequence, Settled::delivered(number));
        }
        queue.close().await;
        let total = balanced(&queue).total;
        assert_eq!(total.pending, (81..=120).sum::<u64>());
        drop((queue, lane));
        let queue = Queue::open(folder.path(), &config, Arc::new(Disk)).expect("a folder");
        assert_eq!(balanced(&queue).total.recovered, total.pending);
        let mut lane = queue.lane(0).expect("nobody has it");
        for number in 81..=120 {
            let entry = lane.oldest().await;
            assert_eq!((entry.record.samples, entry.may_be_repeated), (number, false));
            lane.settle(entry.sequence, Settled::delivered(number));
        }
        queue.close().await;
        balanced(&queue);
    }
}

#[test]
fn a_limit_that_was_lowered_holds_from_the_start() {
    let mut bench = Bench::new(|_| ());
    bench.options.segment = 8 << 10;
    let (queue, mut worker) = bench.open();
    for number in 1..=100 {
        bench.append(&queue, &mut worker, number..=number);
    }
    drop((queue, worker));
    bench.config.max_bytes = 64 << 10;
    let (queue, mut worker) = bench.open();
    while worker.turn() {}
    let status = balanced(&queue);
    assert!(status.disk_bytes <= 64 << 10 && status.total.dropped.get(Reason::Size) > 0);
    let mut lane = queue.lane(0).expect("nobody has it");
    assert!(deliver(&mut lane, &mut worker, 200).ends_with(&[99, 100]));
}
