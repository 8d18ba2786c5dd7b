//! Files that are not what was written: bits that flipped, ends that are missing, files that are missing or strange.
//!
//! What a newcomer would get wrong: a damaged record is counted by its samples, exactly, as long as something sound
//! stands behind it. The end of a log that has no footer is not damage: that is how a death leaves it.

use crate::life::{Ledger, Life, config, empty, folder, lane_folder, number_of, samples_of};
use crate::simulated::{Image, Simulated};
use redvigil::deliver::queue::Status;
use std::path::PathBuf;

const RECORDS: u32 = 20;
/// Header, head of a record, body, footer.
const SIZES: (usize, usize, usize, usize) = (64, 48, 8, 64);

fn segment(first: u64) -> PathBuf {
    lane_folder(1, 0).join(format!("{first:020}.seg"))
}

fn cursor() -> PathBuf {
    lane_folder(1, 0).join("cursor")
}

/// A queue of some records, of which some are settled, after a stop or a death.
struct Left {
    image: Image,
    ledger: Ledger,
    settled: u32,
}

fn left(records: u32, settled: u32, stopped: bool, size: usize) -> Left {
    let disk = Simulated::new(empty());
    let mut ledger = Ledger::new(1);
    let mut life = Life::start(&disk, &config(|_| ()));
    for _ in 0..records {
        life.append(&mut ledger, 0, size);
        life.turn();
    }
    for _ in 0..settled {
        life.deliver(&mut ledger, 0);
        life.turn();
    }
    if stopped {
        life.stop();
    }
    Left { image: disk.image(), ledger, settled }
}

/// What is found in a changed image, and the numbers of what is delivered.
fn look(left: &Left, image: Image) -> (Status, Vec<u32>) {
    let disk = Simulated::new(image);
    let mut ledger = left.ledger.clone();
    let mut life = Life::start(&disk, &config(|_| ()));
    let entries = life.drain(&mut ledger).swap_remove(0);
    let status = life.status();
    assert_eq!(status.total.pending, 0);
    for entry in &entries {
        let sent = number_of(&entry.record) < left.settled;
        assert!(!sent || entry.may_be_repeated, "{} is sent again", entry.sequence);
    }
    let numbers: Vec<u32> = entries.iter().map(|entry| number_of(&entry.record)).collect();
    assert!(numbers.windows(2).all(|two| two[0] < two[1]), "{numbers:?}");
    // the queue goes on, and has nothing more the next time
    life.append(&mut ledger, 0, 10);
    life.turn();
    assert!(life.deliver(&mut ledger, 0).is_some());
    life.turn();
    drop(life);
    assert_eq!(Life::start(&disk, &config(|_| ())).total().pending, 0);
    (status, numbers)
}

fn samples(numbers: impl IntoIterator<Item = u32>) -> u64 {
    numbers.into_iter().map(|number| u64::from(samples_of(number))).sum()
}

/// The record that a byte of a file belongs to.
fn touched(at: usize) -> Option<u32> {
    let (header, head, body, _) = SIZES;
    let number = at.checked_sub(header)? / (head + body);
    (number < RECORDS as usize).then_some(number as u32)
}

#[test]
fn a_flipped_bit_costs_the_record_that_it_is_in_and_no_other() {
    let all: Vec<u32> = (0..RECORDS).collect();
    for stopped in [true, false] {
        let left = left(RECORDS, 0, stopped, SIZES.2);
        let whole = left.image.read(&segment(1)).expect("it is there").to_vec();
        let (header, head, body, footer) = SIZES;
        let records = header + (head + body) * RECORDS as usize;
        assert_eq!(whole.len(), records + if stopped { footer } else { 0 });
        for bit in 0..whole.len() * 8 {
            // of a log without a footer one bit of each byte
            if !stopped && bit % 8 != bit / 8 % 8 {
                continue;
            }
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut image = left.image.clone();
            image.write(&segment(1), bytes);
            let (status, numbers) = look(&left, image);
            let lost = touched(bit / 8);
            let expected: Vec<u32> = all.iter().copied().filter(|one| Some(*one) != lost).collect();
            assert_eq!(numbers, expected, "bit {bit}, stopped: {stopped}");
            let is_end = !stopped && lost == Some(RECORDS - 1);
            if !is_end || status.total.dropped.total() > 0 {
                let counts = (status.total.recovered, status.total.dropped.total());
                assert_eq!(counts, (samples(all.clone()), samples(lost)), "bit {bit}, stopped: {stopped}");
            }
        }
    }
}

#[test]
fn a_file_that_is_cut_off_has_what_was_before() {
    for stopped in [true, false] {
        let left = left(RECORDS, 0, stopped, SIZES.2);
        let whole = left.image.read(&segment(1)).expect("it is there").to_vec();
        let (header, head, body, _) = SIZES;
        for length in 0..whole.len() {
            for zeros in [false, true] {
                let mut bytes = whole[..length].to_vec();
                if zeros {
                    bytes.resize(whole.len() + 100, 0);
                }
                let mut image = left.image.clone();
                image.write(&segment(1), bytes);
                let (status, numbers) = look(&left, image);
                // the last byte of a body may be zero itself
                let kept = (length.saturating_sub(header) / (head + body)).min(RECORDS as usize);
                let fits = numbers.len() == kept || zeros && numbers.len() == kept + 1;
                assert!(fits && numbers.iter().copied().eq(0..numbers.len() as u32), "{length}: {numbers:?}");
                assert_eq!(status.total.recovered, samples(numbers) + status.total.dropped.total());
            }
        }
    }
}

#[test]
fn a_damaged_cursor_repeats_and_loses_nothing() {
    for (stopped, settled) in [(true, 6), (false, 6), (false, 7), (true, 0)] {
        let left = left(RECORDS, settled, stopped, SIZES.2);
        let whole = left.image.read(&cursor()).expect("it is there").to_vec();
        let check = |bytes: Option<Vec<u8>>, what: &str| {
            let mut image = left.image.clone();
            match bytes {
                Some(bytes) => image.write(&cursor(), bytes),
                None => image.remove(&cursor()),
            }
            let (status, numbers) = look(&left, image);
            assert!(numbers.ends_with(&(settled..RECORDS).collect::<Vec<_>>()), "{what}: {numbers:?}");
            assert_eq!(status.total.dropped.total(), 0, "{what}");
            numbers.len() as u32 - (RECORDS - settled)
        };
        for bit in 0..whole.len() * 8 {
            // between the two slots is nothing
            let is_slot = bit / 8 % 512 < 128;
            if !is_slot && bit % 129 != 0 {
                continue;
            }
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let again = check(Some(bytes), &format!("bit {bit}"));
            assert!(again <= 1, "bit {bit}: {again} are sent again");
        }
        for length in (0..whole.len()).step_by(7) {
            check(Some(whole[..length].to_vec()), &format!("{length} bytes"));
        }
        check(Some(vec![0; whole.len()]), "zeros");
        check(Some(vec![0xff; whole.len()]), "ones");
        check(Some(vec![0x55; 100_000]), "a large one");
        assert_eq!(check(None, "no cursor"), settled);
    }
}

#[test]
fn what_is_missing_between_files_is_counted_to_the_sample() {
    let left = left(60, 3, false, 300);
    let files: Vec<PathBuf> =
        left.image.files().into_iter().filter(|path| path.extension().is_some_and(|e| e == "seg")).collect();
    assert!(files.len() >= 5, "{files:?}");
    let first_of = |path: &PathBuf| -> u32 {
        path.file_stem().and_then(|stem| stem.to_str()).expect("a name").parse().expect("a number")
    };
    let last = files.len() - 1;
    for (at, gone) in files.iter().enumerate() {
        let from = first_of(gone) - 1;
        let to = if at == last { 60 } else { first_of(&files[at + 1]) - 1 };
        let whole = left.image.read(gone).expect("it is there").to_vec();
        let kinds: [(&str, Option<Vec<u8>>); 7] = [
            ("missing", None),
            ("empty", Some(vec![])),
            ("zeros", Some(vec![0; 4096])),
            ("ones", Some(vec![0xff; 4096])),
            ("its header", Some(whole[..64].to_vec())),
            ("half", Some(whole[..whole.len() / 2].to_vec())),
            ("without its footer", Some(whole[..whole.len() - 1].to_vec())),
        ];
        for (what, bytes) in kinds {
            let has = match what {
                "half" => ((whole.len() / 2 - 64) / 348) as u32,
                "without its footer" if at < last => to - from,
                "without its footer" => to - from - 1,
                _ => 0,
            };
            let mut image = left.image.clone();
            match bytes {
                Some(bytes) => image.write(gone, bytes),
                None => image.remove(gone),
            }
            let (status, numbers) = look(&left, image);
            let lost = from + has..to;
            let expected: Vec<u32> = (3..60).filter(|one| !lost.contains(one)).collect();
            assert_eq!(numbers, expected, "{what}, {}", gone.display());
            // what is missing at the end is not known of, or was never written
            if at < last {
                let lost: Vec<u32> = lost.filter(|one| *one >= 3).collect();
                let counts = (status.total.recovered, status.total.dropped.total());
                assert_eq!(counts, (samples(3..60), samples(lost)), "{what}, {}", gone.display());
            }
        }
    }
}

#[test]
fn strange_files_change_nothing() {
    let left = left(RECORDS, 4, false, SIZES.2);
    let whole = left.image.read(&segment(1)).expect("it is there").to_vec();
    let lane = lane_folder(1, 0);
    let generation = folder().join("generation-0001-lanes-01");
    let strange = [
        (lane.join("core"), b"x".to_vec()),
        (lane.join("1.seg"), whole.clone()),
        (lane.join("00000000000000000000.seg"), whole.clone()),
        (lane.join("0000000000000000000a.seg"), whole.clone()),
        (lane.join("00000000000000000001.seg.new"), whole.clone()),
        (lane.join("00000000000000000001.new"), vec![1; 100]),
        (lane.join("cursor.new"), vec![1; 100]),
        (lane.join("cursor~"), vec![1; 100]),
        (lane.join("00000000000000000009.seg/inner"), vec![1; 10]),
        (generation.join("lane-01/00000000000000000001.seg"), whole.clone()),
        (generation.join("lane-0"), vec![]),
        (folder().join("generation-0000-lanes-00/lane-00/cursor"), vec![]),
        (folder().join("generation-2-lanes-1/lane-00/cursor"), vec![]),
        (folder().join("quarantine/junk"), vec![7; 7]),
        (folder().join("\u{e4}\u{1f9ff}"), vec![]),
        // segments from the future, as a damaged disk or a copied folder may have them
        (segment(21), vec![9; 300]),
        (segment(22), whole.clone()),
        (segment(1_000_000), vec![]),
        (segment(1_000_001), vec![0; 5000]),
        (segment(u64::MAX), vec![0xff; 5000]),
        (segment(u64::MAX - 1), whole.clone()),
    ];
    let mut all = left.image.clone();
    for (path, bytes) in &strange {
        let mut image = left.image.clone();
        image.write(path, bytes.clone());
        all.write(path, bytes.clone());
        let (status, numbers) = look(&left, image);
        assert_eq!(numbers, (4..RECORDS).collect::<Vec<_>>(), "{}", path.display());
        assert_eq!(status.total.dropped.total(), 0, "{}", path.display());
    }
    // one that is called by another number: what is in it is told twice, and sent once
    all.write(&segment(10), whole.clone());
    let (_, numbers) = look(&left, all);
    assert_eq!(numbers, (4..RECORDS).collect::<Vec<_>>());
}
