//! What a long outage costs in memory: the ring that was configured, and no more.

use super::oracle::Count;
use super::{NUMBERS, PATIENCE, UP, remote_write, report};
use std::time::Instant;
use testbed::{Arrivals, Farm, wait_until};

/// Resident memory, in bytes, without what is only mapped from files.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("Linux tells");
    let number = line.split_ascii_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    number.expect("a number of kB") * 1024
}

#[test]
fn an_outage_costs_the_ring_in_memory_however_long_it_is() {
    const RING: u64 = 2 << 20;
    let farm = Farm::start(60);
    let arrivals = Arrivals::start(&[NUMBERS, UP]);
    arrivals.down();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("redvigil.yaml");
    std::fs::write(folder.path().join("targets.json"), farm.file_sd()).expect("written");
    let document = format!(
        "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms }}\n\
         services:\n- name: farm\n  file_sd: {{ files: [targets.json] }}\n\
         outputs:\n- name: out\n  {}\n  queue: {{ min_free: 0, memory: 2MiB }}\n",
        remote_write(&arrivals.write_url(), "auto")
    );
    std::fs::write(&path, document).expect("written");
    let state = folder.path().join("state");
    let arguments =
        [format!("--config.file={}", path.display()), format!("--storage.path={}", state.display())];
    let exporter = crate::exporter(&arguments).start();
    let count = || Count::read(exporter.get("/-/metrics", &[]).text());
    wait_until("the ring to be full", PATIENCE, || count().bytes["memory"] > RING * 3 / 4);
    // What is made once, such as buffers, is made by then.
    wait_until("as much again to be accepted", PATIENCE, || {
        static FULL: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
        let accepted = count().accepted;
        accepted > 2 * FULL.get_or_init(|| accepted)
    });
    let (full, begun, at_full) = (resident(exporter.pid()), Instant::now(), count());
    wait_until("twice that to be accepted", PATIENCE, || count().accepted > 2 * at_full.accepted);
    let (later, passed) = (resident(exporter.pid()), begun.elapsed());
    let after = count();
    assert!(after.bytes["memory"] <= RING, "{after:?}");
    assert!(after.dropped.is_empty(), "{after:?}");
    report(format_args!(
        "ring {} KiB; twice full: {} KiB resident, {} samples wait; {:.1} s later: {} KiB, {} samples ({} KiB in memory, \
         {} on disk)",
        RING >> 10,
        full >> 10,
        at_full.pending,
        passed.as_secs_f64(),
        later >> 10,
        after.pending,
        after.bytes["memory"] >> 10,
        after.bytes["disk"] >> 10,
    ));
    // Three times the ring, for what the allocator cannot give back; without a bound it would be tens of MiB.
    assert!(later < full + 3 * RING, "{} KiB became {} KiB", full >> 10, later >> 10);
}
