//! Our whole process is ended again and again, while the receiver comes and goes: nothing is missing, nothing is out of
//! order, and after a crash at most one record of a lane comes twice.
//!
//! `make soak FOR=seconds` runs [`nothing_is_lost_while_we_are_killed_and_the_receiver_flaps`] for as long as one likes.
//!
//! What a newcomer would get wrong: a record that comes twice is no fault in itself. Within a life it may come as often as
//! answers get lost; what is bounded is what comes again because we died.

use super::oracle::{Count, Cut, Found, UNACCEPTED};
use super::{NUMBERS, PATIENCE, Push, Setup, UP, now, remote_write, report};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testbed::{Arrival, Arrivals, Dice, Mood, Port, Process, http, skipped, wait_until};

/// How long it goes on in `make test`. `REDVIGIL_SOAK` says another number of seconds.
const SECONDS: u64 = 45;

/// How often each target is collected, in milliseconds.
const INTERVAL: i64 = 150;
/// How long, in milliseconds, after one target another may be accepted that answered earlier: targets have their moments
/// all over the interval, and collections take their time.
const ROUND: i64 = 2 * INTERVAL;

/// A receiver that is up, away, deaf or forgetful, by turns.
struct Weather {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<u64>,
}

impl Weather {
    fn start(arrivals: Arc<Arrivals>, mut dice: Dice) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let end = over.clone();
        let thread = thread::spawn(move || {
            let mut changes = 0;
            while !end.load(Ordering::Relaxed) {
                match dice.below(10) {
                    0..2 => arrivals.down(),
                    2 => arrivals.set(Mood::LoseAnswer),
                    3 => arrivals.set(Mood::Refuse(503)),
                    4 => arrivals.set(Mood::Hang),
                    _ => {
                        arrivals.set(Mood::Take);
                        arrivals.up();
                    }
                }
                changes += 1;
                thread::sleep(Duration::from_millis(30) + dice.milliseconds(500));
            }
            changes
        });
        Self { over, thread }
    }

    fn finish(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the weather does not panic")
    }
}

/// How our process was ended, and how often.
#[derive(Debug, Default)]
struct Ends {
    kills: u64,
    at_start: u64,
    terminated: u64,
    paused: u64,
}

fn soak(seconds: u64, seed: u64, lanes: u64, linger: &str, version: &str) {
    let mut dice = Dice(seed);
    let arrivals = Arc::new(Arrivals::start(&[NUMBERS, UP]));
    let url = arrivals.write_url();
    let output = remote_write(&url, version);
    let queue = format!("min_free: 0, lanes: {lanes}, linger: {linger}");
    let mut push =
        Setup { targets: 4, small: true, interval: INTERVAL.unsigned_abs(), output: &output, queue: &queue }
            .start();
    let weather = Weather::start(arrivals.clone(), Dice(dice.below(u64::MAX)));
    let (mut ends, mut said, mut lives) = (Ends::default(), 0, Vec::new());
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(seconds) {
        thread::sleep(dice.milliseconds(400));
        let count = push.count();
        // What it says here it must not lose.
        thread::sleep(dice.milliseconds(30));
        match dice.below(12) {
            0 => {
                let before = now();
                push.exporter.as_mut().expect("it runs").process().pause();
                thread::sleep(dice.milliseconds(600));
                push.exporter.as_mut().expect("it runs").process().resume();
                // A collection that stood still tries again, with another number, where it has time left.
                push.cuts.push(Cut { before, after: now(), excused: INTERVAL });
                ends.paused += 1;
                continue;
            }
            1 => {
                push.stop();
                ends.terminated += 1;
            }
            _ => {
                push.kill();
                push.hold_to(&count);
                ends.kills += 1;
            }
        }
        said += count.accepted;
        lives.push(arrivals.requests());
        // Sometimes it dies while it is still looking at what it left.
        while dice.below(4) == 0 {
            push.die_at_start(dice.milliseconds(120));
            ends.at_start += 1;
            lives.push(arrivals.requests());
        }
        push.start();
    }
    let changes = weather.finish();
    arrivals.set(Mood::Take);
    arrivals.up();
    // A life without memory of failures, so that nobody waits for the next probe.
    push.stop();
    lives.push(arrivals.requests());
    push.start();
    push.collect(3);
    push.drain();
    let count = push.count();
    said += count.accepted;
    push.finish();

    assert_eq!(arrivals.faults(), Vec::<String>::new(), "seed {seed}");
    let verdict = push.compare(&Found::arrived(&arrivals));
    assert!(
        arrivals.samples() as u64 >= said,
        "{} samples arrived, {said} were accepted",
        arrivals.samples()
    );
    let again = again(&arrivals.all(), &lives);
    let most = again.iter().copied().max().unwrap_or(0);
    assert!(most as u64 <= lanes, "{most} records came twice after one crash; there are {lanes} lanes");
    assert!(count.dropped.is_empty(), "{count:?}");
    report(format_args!(
        "seed {seed}, {lanes} lanes, linger {linger}, version {version}: {ends:?}, {changes} changes of the receiver; \
         missing 0, reordered 0; {verdict:?}; {} requests, {} samples; after {} deaths {} records came twice, \
         {most} at most",
        arrivals.requests(),
        arrivals.samples(),
        lives.len(),
        again.iter().sum::<usize>(),
    ));
}

/// For each life, how many records came that had come in an earlier life already.
fn again(arrivals: &[Arrival], lives: &[usize]) -> Vec<usize> {
    let life = |at: usize| lives.partition_point(|end| *end <= at);
    let mut first: HashMap<u64, usize> = HashMap::new();
    let mut found = vec![HashSet::new(); lives.len() + 1];
    for (at, arrival) in arrivals.iter().enumerate() {
        let begun = *first.entry(arrival.digest).or_insert_with(|| life(at));
        if life(at) > begun {
            found[life(at)].insert(arrival.digest);
        }
    }
    found.iter().map(HashSet::len).collect()
}

impl Push {
    /// What it had accepted when it was asked before it was killed must not be missing: only what is newer is excused.
    fn hold_to(&mut self, count: &Count) {
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds of this century fit")]
        let accepted = (count.highest_accepted * 1000.0) as i64;
        let cut = self.cuts.last_mut().expect("it was killed");
        // The targets of a round are accepted one after the other.
        cut.excused = cut.excused.min(cut.before - accepted + ROUND);
    }

    /// Starts our exporter and kills it after this time, whatever it does by then.
    fn die_at_start(&mut self, after: Duration) {
        let port = Port::take();
        let mut arguments = self.arguments().to_vec();
        arguments.push(format!("--web.listen-address=127.0.0.1:{}", port.number()));
        let before = now();
        let mut process = Process::start(env!("CARGO_BIN_EXE_redvigil").as_ref(), &arguments, &[]);
        thread::sleep(after);
        assert!(process.status().is_none(), "it ended: {}", process.stderr());
        process.kill();
        self.cuts.push(Cut { before, after: now(), excused: UNACCEPTED });
    }
}

#[test]
fn nothing_is_lost_while_we_are_killed_and_the_receiver_flaps() {
    let seed = |at: u64| now().unsigned_abs() ^ (at << 48);
    let Some(seconds) = std::env::var("REDVIGIL_SOAK").ok().and_then(|seconds| seconds.parse::<u64>().ok())
    else {
        return soak(SECONDS, seed(0), 1, "0s", "auto");
    };
    let started = Instant::now();
    for (at, (lanes, linger, version)) in
        [(1, "0s", "auto"), (3, "0s", "1.0"), (1, "100ms", "2.0"), (2, "20ms", "auto")]
            .iter()
            .cycle()
            .enumerate()
    {
        let left = seconds.saturating_sub(started.elapsed().as_secs());
        if left == 0 {
            break;
        }
        soak(left.min(120), seed(at as u64), *lanes, linger, version);
    }
}

/// A memory cgroup of version 1 of our own, which is removed again.
struct Cgroup(std::path::PathBuf);

impl Cgroup {
    /// Nothing where this machine or this user cannot have one.
    fn new() -> Option<Self> {
        let folder = format!("/sys/fs/cgroup/memory/redvigil-test-{}-{}", std::process::id(), now());
        std::fs::create_dir(&folder).ok()?;
        Some(Self(folder.into()))
    }

    fn set(&self, name: &str, value: &str) -> bool {
        std::fs::write(self.0.join(name), value).is_ok()
    }

    fn number(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(self.0.join(name)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel needs a moment to let go of who was killed.
        for _ in 0..200 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn an_oom_kill_loses_nothing_that_was_accepted() {
    let Some(cgroup) = Cgroup::new() else {
        skipped("an_oom_kill_loses_nothing_that_was_accepted", "no memory cgroup of version 1 can be made");
        return;
    };
    let arrivals = Arrivals::start(&[NUMBERS, UP]);
    let output = remote_write(&arrivals.write_url(), "auto");
    let mut push = Setup {
        targets: 4,
        small: true,
        interval: INTERVAL.unsigned_abs(),
        output: &output,
        queue: "min_free: 0, linger: 0s",
    }
    .start();
    push.collect(5);
    arrivals.down();
    push.collect(5);
    let accepted = push.count().accepted;
    // What it has is not charged to the group, what it takes from now on is: a quarter of a MiB.
    assert!(cgroup.set("memory.limit_in_bytes", "262144"));
    assert!(cgroup.set("cgroup.procs", &push.exporter().pid().to_string()));
    let (before, port) = (now(), push.exporter().port());
    let over = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = (0..40)
        .map(|_| {
            let over = over.clone();
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let _ =
                        http::send(port, None, http::Request::get("/metrics", &[]), Duration::from_secs(5));
                }
            })
        })
        .collect();
    let mut exporter = push.exporter.take().expect("it runs");
    wait_until("the kernel to kill it", PATIENCE, || exporter.process().status().is_some());
    push.cuts.push(Cut { before, after: now(), excused: UNACCEPTED });
    over.store(true, Ordering::Relaxed);
    askers.into_iter().for_each(|asker| asker.join().expect("asking does not panic"));
    assert!(cgroup.number("memory.failcnt") > 0);
    drop(exporter);
    push.start();
    let count: Count = push.count();
    arrivals.up();
    push.collect(5);
    push.drain();
    push.finish();
    assert_eq!(arrivals.faults(), Vec::<String>::new());
    assert!(arrivals.samples() as u64 >= accepted, "{count:?}");
    let verdict = push.compare(&Found::arrived(&arrivals));
    report(format_args!("killed for want of memory: {verdict:?}"));
}
