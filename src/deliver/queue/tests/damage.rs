//! Files that are not as they were written: never a panic, never more lost than was touched, and each sample counted.

use super::*;

const RECORDS: u32 = 8;

/// A queue of one file with records of 1, 2, 3… samples; `end`: it was closed.
fn written(end: bool) -> Bench {
    let bench = Bench::new(|_| ());
    let (queue, mut worker) = bench.open();
    for number in 1..=RECORDS {
        queue.append(0, Record { body: Bytes::from(vec![number as u8; 24]), ..bench.record(number) });
    }
    while worker.turn() {}
    if end {
        close(&queue, &mut worker);
    }
    drop((queue, worker));
    bench
}

/// Opens what is there now, reads all of it, and says which records came and what was lost.
fn read(bench: &Bench) -> (Vec<u32>, Status) {
    let (queue, mut worker) = bench.open();
    let mut lane = queue.lane(0).expect("nobody has it");
    let mut seen = vec![];
    while let Some(entry) = next(&mut lane, &mut worker) {
        let number = entry.record.samples;
        assert_eq!(entry.record.body, vec![number as u8; 24], "what comes is as it was written");
        assert_eq!(entry.sequence, u64::from(number));
        seen.push(number);
        assert!(lane.settle(entry.sequence, Settled::delivered(number)));
        assert!(seen.len() <= RECORDS as usize);
    }
    let status = balanced(&queue);
    assert_eq!((status.total.pending, status.total.pending_records), (0, 0));
    // it goes on
    bench.append(&queue, &mut worker, 99..=99);
    assert_eq!(next(&mut lane, &mut worker).map(|entry| entry.record.samples), Some(99));
    (seen, status)
}

fn missing(seen: &[u32]) -> Vec<u32> {
    assert!(seen.is_sorted_by(|one, other| one < other), "in order and once: {seen:?}");
    (1..=RECORDS).filter(|number| !seen.contains(number)).collect()
}

fn file(bench: &Bench) -> PathBuf {
    let files = bench.storage.files(".seg");
    assert_eq!(files.len(), 1);
    files[0].clone()
}

/// The same files, to be damaged.
fn copy(bench: &Bench) -> Bench {
    Bench {
        storage: bench.storage.copy(),
        config: bench.config.clone(),
        options: bench.options.clone(),
        time: Arc::clone(&bench.time),
    }
}

#[test]
fn every_bit_of_a_file_that_flips_costs_its_record_and_no_other() {
    for end in [true, false] {
        let whole = written(end);
        let path = file(&whole);
        let mut size = 0;
        whole.storage.change(&path, |bytes| size = bytes.len());
        for bit in 0..size * 8 {
            let bench = copy(&whole);
            bench.storage.change(&path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            let (seen, status) = read(&bench);
            let touched = match bit / 8 {
                0..64 => None,
                at => {
                    Some((at - 64) / 72 + 1).map(|number| number as u32).filter(|number| *number <= RECORDS)
                }
            };
            let lost = missing(&seen);
            assert_eq!(lost, Vec::from_iter(touched), "bit {bit}, closed {end}");
            let counted = status.total.dropped.get(Reason::Corrupt);
            // without a footer nobody knows of a record behind the last sound head
            let unknown = !end && touched == Some(RECORDS) && (bit / 8 - 64) % 72 < 48;
            assert_eq!(
                counted,
                if unknown { 0 } else { lost.iter().map(|lost| u64::from(*lost)).sum() },
                "bit {bit}"
            );
        }
    }
}

#[test]
fn at_every_length_a_file_gives_the_records_that_are_whole() {
    for end in [true, false] {
        let whole = written(end);
        let path = file(&whole);
        let mut size = 0;
        whole.storage.change(&path, |bytes| size = bytes.len());
        for length in 0..size {
            let bench = copy(&whole);
            bench.storage.change(&path, |bytes| bytes.truncate(length));
            let (seen, status) = read(&bench);
            let whole = (length.saturating_sub(64) / 72).min(RECORDS as usize) as u32;
            assert_eq!(seen, (1..=whole).collect::<Vec<_>>(), "{length} bytes");
            assert_eq!(status.total.dropped.total(), 0);
        }
    }
}

#[test]
fn zeros_behind_the_last_record_are_a_torn_tail() {
    let bench = written(false);
    bench.storage.change(&file(&bench), |bytes| bytes.resize(bytes.len() + 5000, 0));
    let (seen, status) = read(&bench);
    assert_eq!((missing(&seen), status.disk.torn_tails, status.disk.quarantined), (vec![], 1, 0));
}

#[test]
fn rubbish_behind_the_last_record_is_put_aside() {
    let bench = written(false);
    bench.storage.change(&file(&bench), |bytes| bytes.extend([7; 5000]));
    let (seen, status) = read(&bench);
    assert_eq!((missing(&seen), status.disk.torn_tails, status.disk.quarantined), (vec![], 1, 1));
    assert_eq!(bench.storage.files(".tail").len(), 1);
}

#[test]
fn a_file_of_rubbish_is_put_aside_and_a_new_one_begun() {
    let bench = written(false);
    bench.storage.change(&file(&bench), |bytes| bytes.fill(7));
    let (seen, status) = read(&bench);
    assert_eq!((seen, status.disk.quarantined), (vec![], 1));
}

#[test]
fn without_its_cursor_all_that_is_there_comes_again_and_is_marked() {
    for cursor in ["gone", "empty", "zeros", "rubbish"] {
        let bench = Bench::new(|_| ());
        let (queue, mut worker) = bench.open();
        bench.append(&queue, &mut worker, 1..=5);
        let mut lane = queue.lane(0).expect("nobody has it");
        deliver(&mut lane, &mut worker, 3);
        drop((queue, worker, lane));
        let path = bench.storage.files("cursor").remove(0);
        match cursor {
            "gone" => bench.storage.remove(&path).expect("it is there"),
            "empty" => bench.storage.change(&path, Vec::clear),
            "zeros" => bench.storage.change(&path, |bytes| bytes.fill(0)),
            _ => bench.storage.change(&path, |bytes| bytes.fill(9)),
        }
        let (queue, mut worker) = bench.open();
        let status = balanced(&queue);
        assert_eq!((status.total.recovered, status.disk.corrupt.get("cursor")), (15, Some(&1)), "{cursor}");
        let mut lane = queue.lane(0).expect("nobody has it");
        for number in 1..=5 {
            let entry = next(&mut lane, &mut worker).expect("it waits");
            assert_eq!((entry.record.samples, entry.may_be_repeated), (number, true));
            lane.settle(entry.sequence, Settled::delivered(number));
        }
        bench.append(&queue, &mut worker, 6..=6);
        assert!(!next(&mut lane, &mut worker).expect("it waits").may_be_repeated);
    }
}

#[test]
fn a_file_that_is_missing_between_others_is_counted_in_samples() {
    let mut bench = Bench::new(|_| ());
    bench.options.segment = 4 << 10;
    let (queue, mut worker) = bench.open();
    bench.append(&queue, &mut worker, 1..=12);
    drop((queue, worker));
    let files = bench.storage.files(".seg");
    assert_eq!(files.len(), 4, "{files:?}");
    for (gone, lost) in [(0, 1 + 2 + 3), (1, 4 + 5 + 6), (2, 7 + 8 + 9)] {
        let bench = copy(&bench);
        bench.storage.remove(&files[gone]).expect("it is there");
        let (queue, mut worker) = bench.open();
        let status = balanced(&queue);
        assert_eq!((status.total.recovered, status.total.recovered_records), (78, 12));
        assert_eq!((status.total.dropped.get(Reason::Corrupt), status.disk.gaps), (lost, 1));
        let mut lane = queue.lane(0).expect("nobody has it");
        let seen = deliver(&mut lane, &mut worker, 99);
        assert_eq!(seen.iter().map(|seen| u64::from(*seen)).sum::<u64>(), 78 - lost);
        assert_eq!(balanced(&queue).total.pending, 0);
    }
}

#[test]
fn a_file_whose_header_is_damaged_is_read_all_the_same_and_counted() {
    let mut bench = Bench::new(|_| ());
    bench.options.segment = 4 << 10;
    let (queue, mut worker) = bench.open();
    bench.append(&queue, &mut worker, 1..=12);
    let mut lane = queue.lane(0).expect("nobody has it");
    deliver(&mut lane, &mut worker, 5);
    drop((queue, worker, lane));
    for path in bench.storage.files(".seg") {
        bench.storage.change(&path, |bytes| bytes[20] ^= 1);
    }
    let (queue, mut worker) = bench.open();
    let status = balanced(&queue);
    assert_eq!((status.total.recovered, status.total.dropped.total()), (78 - 15, 0), "{status:?}");
    assert!(status.disk.corrupt["segment"] >= 3);
    let mut lane = queue.lane(0).expect("nobody has it");
    assert_eq!(deliver(&mut lane, &mut worker, 99), (6..=12).collect::<Vec<_>>());
    assert_eq!(balanced(&queue).total.pending, 0);
}
