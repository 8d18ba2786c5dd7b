//! A file system that is really full: a small tmpfs that only our process sees, and a receiver that is away.

use super::{NUMBERS, PATIENCE, Push, Scraper, Setup, UP, report};
use std::time::Duration;
use testbed::{Arrivals, Exporter, Mood, skipped, wait_until};

/// Starts our exporter with a tmpfs of this size in place of its folder of state. The mount is gone with the process.
fn on_tmpfs(push: &mut Push, size: &str) {
    let state = push.state.display().to_string();
    std::fs::create_dir_all(&push.state).expect("a folder");
    let script = format!("mount -t tmpfs -o size={size} tmpfs '{state}' && exec \"$@\"");
    let wrapped =
        ["--mount", "--propagation=private", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_redvigil")];
    let exporter = Exporter::builder("/usr/bin/unshare").args(&wrapped).args(&push.arguments()).start();
    push.exporter = Some(exporter);
}

#[test]
fn a_full_disk_drops_the_oldest_counts_them_and_heals_by_itself() {
    let test = "a_full_disk_drops_the_oldest_counts_them_and_heals_by_itself";
    let mount = ["--mount", "--propagation=private", "mount", "-t", "tmpfs", "tmpfs", "/mnt"];
    if !std::process::Command::new("unshare").args(mount).status().is_ok_and(|status| status.success()) {
        skipped(test, "nothing can be mounted here: not root");
        return;
    }
    let arrivals = Arrivals::start(&[NUMBERS, UP]);
    // It hangs, so that the output is tried again and again for as long as this takes, and not each half minute.
    let output = format!("remote_write: {{ url: \"{}\", timeout: 3s }}", arrivals.write_url());
    let mut push = Setup {
        targets: 3,
        small: false,
        interval: 200,
        output: &output,
        queue: "min_free: 0, memory: 1MiB, max_bytes: 1GiB, linger: 200ms",
    }
    .prepare();
    on_tmpfs(&mut push, "2m");
    let scraper = Scraper::start(&push);
    push.collect(3);
    push.drain();
    arrivals.set(Mood::Hang);
    wait_until("the disk to be full", PATIENCE, || push.count().dropped_in_all() > 0);
    push.collect(10);
    let full = push.count();
    assert!(
        full.dropped.keys().all(|reason| ["disk_full", "ring_full"].contains(&reason.as_str())),
        "{full:?}"
    );
    arrivals.set(Mood::Take);
    wait_until("the output to be live again", Duration::from_secs(80), || push.state() == "live");
    push.drain();
    wait_until("the disk to be fine again", Duration::from_secs(15), || push.count().disk_ok);
    push.collect(3);
    push.drain();
    wait_until("what is called delivered to be what arrived", PATIENCE, || {
        let before = push.count().delivered;
        let arrived = arrivals.samples() as u64;
        before == arrived && push.count().delivered == arrived
    });
    let last = push.count();
    let seen = scraper.finish();
    push.stop();
    assert_eq!(arrivals.faults(), Vec::<String>::new());

    // What is missing lies between what was delivered before and what was kept: the oldest went. What was under way when
    // the files around it went is there, and makes two pieces of one.
    let mut missing = 0;
    let followed = arrivals.followed(NUMBERS);
    for target in &push.targets {
        let samples = followed[&target.address()].iter().filter(|sample| !sample.value.is_nan());
        let numbers: Vec<u64> = samples.map(|sample| sample.value as u64).collect();
        let gaps: Vec<_> = numbers.windows(2).filter(|two| two[1] != two[0] + 1).collect();
        assert!(numbers[0] == 1 && (1..=4).contains(&gaps.len()), "{gaps:?} in {numbers:?}");
        missing += gaps.iter().map(|gap| gap[1] - gap[0] - 1).sum::<u64>();
    }
    report(format_args!(
        "{} pages, all 200 and all right to the sample; dropped {:?}; {missing} of {} collections gone, the oldest; \
         disk not fine on {} pages",
        seen.len(),
        last.dropped,
        push.targets.iter().map(testbed::Numbered::count).sum::<u64>(),
        seen.iter().filter(|count| !count.disk_ok).count(),
    ));
}
