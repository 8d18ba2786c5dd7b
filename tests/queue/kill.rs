//! A real process on a real file system, killed at random moments.
//!
//! What a newcomer would get wrong: the process is this test binary, started anew for one test, which says on its output
//! what was accepted and what it sent. A pipe keeps that after the death.

use crate::life::config;
use bytes::Bytes;
use redvigil::config::deliver as config;
use redvigil::deliver::queue::{Queue, Record, Settled, disk::Disk};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const FOLDER: &str = "REDVIGIL_TEST_QUEUE";
const FROM: &str = "REDVIGIL_TEST_QUEUE_FROM";
const KILLS: u64 = 50;
/// How far the numbers of two lives are apart.
const APART: u64 = 1_000_000;

fn settings() -> config::Queue {
    config(|config| {
        config.fsync = config::Fsync::Every(Duration::from_millis(20));
        // files of 16 KiB, so that many come and go
        config.max_bytes = 128 << 10;
        config.memory = 16 << 10;
        config.on_full = config::OnFull::DropNewest;
    })
}

fn record(number: u64) -> Record {
    let body: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(200).collect();
    Record { body: Bytes::from(body), samples: 1, min_timestamp: i64::MAX, max_timestamp: i64::MAX }
}

fn number_of(record: &Record) -> u64 {
    let number = record.body.first_chunk().expect("eight bytes");
    assert_eq!(*record, self::record(u64::from_le_bytes(*number)));
    u64::from_le_bytes(*number)
}

#[test]
#[ignore = "it is started by the other one, to be killed"]
fn the_one_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let from: u64 = std::env::var(FROM).expect("it is set").parse().expect("a number");
    let queue = Queue::open(&folder, &settings(), Arc::new(Disk)).expect("a folder of the test");
    let mut lane = queue.lane(0).expect("nobody has it");
    let mut random = fastrand::Rng::with_seed(from);
    let mut out = std::io::stdout();
    let mut say = |word: &str, number: u64| {
        out.write_all(format!("\n{word} {number}\n").as_bytes()).and_then(|()| out.flush()).expect("a pipe");
    };
    let mut next = from;
    loop {
        let before = queue.status().total;
        let waits = before.pending_records;
        // memory has room for some fifty that are not written; what comes above that is dropped, as it should be
        if waits < 200 && next - from - before.accepted < 30 {
            queue.append(0, record(next));
            next += 1;
        }
        let status = queue.status();
        assert!(status.total.balance() && status.total.dropped.total() == 0, "{status:?}");
        // one sample is one record: so many of this life were accepted
        if status.total.accepted > before.accepted {
            say("accepted", status.total.accepted);
        }
        if waits >= 200 || random.u8(..3) > 0 {
            if let Some(entry) = lane.oldest_now() {
                say("sent", number_of(&entry.record));
                assert!(lane.settle(entry.sequence, Settled::delivered(1)));
            } else {
                std::thread::yield_now();
            }
        }
    }
}

/// What a life said before its death.
#[derive(Default)]
struct Said {
    accepted: u64,
    sent: Vec<u64>,
}

/// Lets it live until it has said so many words, and kills it. It is ahead of what is read by what fits into a pipe, so
/// that the moment is any.
fn live(folder: &Path, from: u64, words: usize) -> Said {
    let mut child = Command::new(std::env::current_exe().expect("a test binary"))
        .args(["--exact", "kill::the_one_that_is_killed", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(FROM, from.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the test binary starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut said = Said::default();
    let (mut line, mut heard) = (String::new(), 0);
    // what was cut short is not said
    while lines.read_line(&mut line).expect("a pipe") > 0 && line.ends_with('\n') {
        match line.trim_end().split_once(' ').map(|(word, number)| (word, number.parse())) {
            Some(("accepted", Ok(number))) => said.accepted = number,
            Some(("sent", Ok(number))) => said.sent.push(number),
            _ => {}
        }
        heard += 1;
        if heard == words {
            child.kill().expect("it is ours");
        }
        line.clear();
    }
    let status = child.wait().expect("it is ours");
    let mut why = String::new();
    let _ = child.stderr.take().expect("a pipe").read_to_string(&mut why);
    assert!(status.code().is_none(), "it ended by itself: {status}: {why}");
    said
}

#[test]
fn fifty_kills_lose_nothing_and_repeat_one_record_at_most() {
    let folder = tempfile::tempdir().expect("a folder");
    let queue = folder.path().join("queue");
    let mut random = fastrand::Rng::with_seed(7);
    let (mut accepted, mut sent) = (BTreeSet::new(), vec![]);
    for life in 1..=KILLS {
        let said = live(&queue, life * APART, random.usize(5..600));
        accepted.extend(life * APART..life * APART + said.accepted);
        let repeated = said.sent.first().is_some_and(|first| sent.last() == Some(first));
        sent.extend(said.sent.into_iter().skip(usize::from(repeated)));
    }
    let rest = Queue::open(&queue, &settings(), Arc::new(Disk)).expect("a folder of the test");
    let mut lane = rest.lane(0).expect("nobody has it");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        while rest.status().total.pending_records > 0 {
            let entry = lane.oldest().await;
            let number = number_of(&entry.record);
            assert!(lane.settle(entry.sequence, Settled::delivered(1)));
            if sent.last() != Some(&number) {
                sent.push(number);
            }
        }
        rest.close().await;
    });
    assert!(rest.status().total.balance() && rest.status().total.dropped.total() == 0);
    assert!(accepted.len() > 1000, "only {} were accepted", accepted.len());
    let wrong = sent.windows(2).find(|two| two[0] >= two[1]);
    assert_eq!(wrong, None, "sent out of order, or twice");
    let sent: BTreeSet<u64> = sent.into_iter().collect();
    let missing: Vec<_> = accepted.difference(&sent).take(10).collect();
    assert!(missing.is_empty(), "{missing:?} were accepted and never sent");
}
