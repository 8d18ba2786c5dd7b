//! Calls of the system that fail, each in its turn: the process goes on, and all that was appended is accounted for.
//!
//! What a newcomer would get wrong: a failure of the disk costs no sample as long as memory has room. Only a full disk
//! lets the oldest go, counted.

use crate::life::{Ledger, Life, config, empty, number_of};
use crate::simulated::{Failing, Fault, Image, Loss, Simulated, Which, errno};
use redvigil::config::deliver::{Fsync, OnFull};
use redvigil::deliver::queue::Reason;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(500);

/// Some of everything.
fn work(life: &mut Life, ledger: &mut Ledger) {
    for round in 0..9 {
        life.append(ledger, 0, if round % 2 == 1 { 2500 } else { 40 });
        life.turn();
        life.disk.pass(TICK);
        life.turn();
        if round % 3 != 0 {
            life.deliver(ledger, 0);
            life.turn();
        }
    }
}

/// All that was appended came to a receiver in order, but for what is counted.
fn accounted(life: &Life, ledger: &Ledger, what: &str) {
    let total = life.total();
    let appended: u64 = ledger.appended[0].iter().map(|(record, _)| u64::from(record.samples)).sum();
    assert_eq!(total.pending, 0, "{what}");
    assert_eq!(total.accepted, appended, "{what}");
    assert!(ledger.sent[0].windows(2).all(|two| two[0] < two[1]), "{what}: {:?}", ledger.sent[0]);
}

fn faults() -> [Fault; 7] {
    [
        Fault::Error(errno::EIO),
        Fault::Error(errno::ENOSPC),
        Fault::Error(errno::EDQUOT),
        Fault::Error(errno::EROFS),
        Fault::Short(0),
        Fault::Short(1),
        Fault::Short(60),
    ]
}

fn is_full(fault: Fault) -> bool {
    matches!(fault, Fault::Error(errno::ENOSPC | errno::EDQUOT) | Fault::Short(0))
}

#[test]
fn whichever_call_fails_what_was_appended_is_delivered() {
    let quiet = Simulated::new(empty());
    let settings = config(|_| ());
    let mut life = Life::start(&quiet, &settings);
    let opened = quiet.calls();
    work(&mut life, &mut Ledger::new(1));
    let calls = quiet.calls();
    assert!(calls - opened > 40, "{calls}");
    for fault in faults() {
        for from in opened..calls {
            for length in [1, 3, 40] {
                let what = format!("{fault:?} at {from}, {length} times");
                let disk = Simulated::new(empty());
                let mut ledger = Ledger::new(1);
                let mut life = Life::start(&disk, &settings);
                disk.fail(vec![Failing { from, to: from + length, which: Which::Changes, fault }]);
                work(&mut life, &mut ledger);
                disk.fail(vec![]);
                disk.pass(Duration::from_secs(11));
                life.turn();
                assert!(life.status().disk_ok, "{what}: the disk works again");
                life.append(&mut ledger, 0, 50);
                life.drain(&mut ledger);
                accounted(&life, &ledger, &what);
                let dropped = life.total().dropped;
                let allowed = if is_full(fault) { dropped.get(Reason::DiskFull) } else { 0 };
                assert_eq!(dropped.total(), allowed, "{what}: {dropped:?}");
            }
        }
    }
}

#[test]
fn what_is_pending_after_a_failed_sync_survives_the_machine_two_intervals_later() {
    let settings = config(|_| ());
    let quiet = Simulated::new(empty());
    let mut life = Life::start(&quiet, &settings);
    let opened = quiet.calls();
    work(&mut life, &mut Ledger::new(1));
    let calls = quiet.calls();
    for from in opened..calls {
        for length in [1, 2, 3] {
            let what = format!("EIO at {from}, {length} times");
            let disk = Simulated::new(empty());
            let mut ledger = Ledger::new(1);
            let mut life = Life::start(&disk, &settings);
            let fault = Fault::Error(errno::EIO);
            disk.fail(vec![Failing { from, to: from + length, which: Which::Changes, fault }]);
            work(&mut life, &mut ledger);
            disk.fail(vec![]);
            disk.pass(Duration::from_secs(11));
            life.turn();
            disk.pass(Duration::from_secs(2));
            life.turn();
            let pending = life.total().pending;
            for image in [disk.image(), disk.image().after_power_loss(Loss::All)] {
                let mut after = Life::start(&Simulated::new(image), &settings);
                let mut found = ledger.clone();
                found.sent[0].clear();
                after.drain(&mut found);
                let unsettled: Vec<u32> = (0..ledger.appended[0].len() as u32)
                    .filter(|one| !ledger.settled[0].contains(one))
                    .collect();
                assert!(
                    found.sent[0].ends_with(&unsettled),
                    "{what} of {opened}: {:?} {:?} {:?} of {unsettled:?}",
                    disk.image().files(),
                    life.status(),
                    found.sent[0]
                );
                let again = found.sent[0].len() - unsettled.len();
                assert!(again <= 1 && pending <= after.total().recovered, "{what}: {again} again");
                assert_eq!(after.total().dropped.total(), 0, "{what}");
            }
        }
    }
}

#[test]
fn a_queue_opens_or_says_why_not_and_loses_nothing() {
    let disk = Simulated::new(empty());
    let settings = config(|config| config.lanes = 2);
    let mut life = Life::start(&disk, &settings);
    let mut ledger = Ledger::new(2);
    for round in 0..12 {
        life.append(&mut ledger, round % 2, if round % 3 == 0 { 2500 } else { 30 });
        life.turn();
    }
    life.deliver(&mut ledger, 0);
    life.turn();
    drop(life);
    // a torn end, so that there is something to mend
    let mut image = disk.image();
    let file = image.files().into_iter().rfind(|path| path.extension().is_some_and(|e| e == "seg"));
    let file = file.expect("a file");
    let mut bytes = image.read(&file).expect("it is there").to_vec();
    bytes.extend([0xd7; 99]);
    image.write(&file, bytes);
    let count = |image: Image| {
        let disk = Simulated::new(image);
        drop(Life::start(&disk, &settings));
        disk.calls()
    };
    let calls = count(image.clone());
    let (mut refused, mut opened) = (0, 0);
    let changes = faults().map(|fault| (fault, Which::Changes));
    let others = [
        (Fault::Error(errno::EMFILE), Which::Opens),
        (Fault::Error(errno::EIO), Which::All),
        (Fault::Short(1), Which::All),
        (Fault::Short(60), Which::All),
    ];
    for (fault, which) in changes.into_iter().chain(others) {
        for from in 0..calls {
            for length in [1, 1000] {
                let what = format!("{fault:?} of {which:?} at {from}, {length} times");
                let disk = Simulated::new(image.clone());
                disk.fail(vec![Failing { from, to: from + length, which, fault }]);
                let life = Life::try_start(&disk, &settings);
                disk.fail(vec![]);
                let mut life = match life {
                    Ok(life) => {
                        opened += 1;
                        life
                    }
                    Err(error) => {
                        refused += 1;
                        assert!(error.to_string().contains("queue"), "{error}");
                        Life::start(&disk, &settings)
                    }
                };
                let mut found = ledger.clone();
                disk.pass(Duration::from_secs(11));
                life.drain(&mut found);
                // a file that could not be read is put aside and counted
                if which == Which::All && fault == Fault::Error(errno::EIO) {
                    continue;
                }
                for lane in 0..2 {
                    let sent = &found.sent[lane][ledger.sent[lane].len()..];
                    let expected: Vec<u32> =
                        (0..6).filter(|one| !ledger.settled[lane].contains(one)).collect();
                    assert!(sent.ends_with(&expected), "{what}: {sent:?} in lane {lane}");
                }
            }
        }
    }
    assert!(refused > 10 && opened > 100, "{refused} were refused, {opened} opened");
}

#[test]
fn a_disk_that_is_full_costs_the_oldest_and_heals_by_itself() {
    for (on_full, fsync) in [
        (OnFull::DropOldest, Fsync::Every(TICK)),
        (OnFull::DropNewest, Fsync::Every(TICK)),
        (OnFull::DropOldest, Fsync::Always),
    ] {
        for capacity in [9_000, 20_000, 40_000, 70_000] {
            let what = format!("{on_full:?}, {fsync:?}, {capacity} bytes");
            let disk = Simulated::new(empty());
            disk.limit(Some(capacity));
            let settings = config(|config| {
                (config.on_full, config.fsync) = (on_full, fsync);
                config.memory = 16 << 10;
            });
            let mut life = Life::start(&disk, &settings);
            let mut ledger = Ledger::new(1);
            for round in 0..120 {
                life.append(&mut ledger, 0, 700);
                life.turn();
                disk.pass(TICK);
                life.turn();
                if round == 60 {
                    life.send(&mut ledger, 0);
                    ledger.sent[0].clear();
                }
            }
            let status = life.status();
            assert!(status.total.dropped.total() > 0, "{what}: {status:?}");
            disk.limit(None);
            disk.pass(Duration::from_secs(11));
            life.turn();
            life.append(&mut ledger, 0, 50);
            life.turn();
            assert!(life.status().disk_ok, "{what}");
            let entries = life.drain(&mut ledger).swap_remove(0);
            accounted(&life, &ledger, &what);
            let last = entries.last().map(|entry| number_of(&entry.record));
            assert_eq!(last, Some(120), "{what}");
        }
    }
}
