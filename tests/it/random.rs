//! Random bytes for everything that reads what a stranger wrote: a little of what `make fuzz` does for long.
//!
//! The seeds are fixed, so a failure shows itself again. Half of the inputs are recorded replies with some
//! bytes changed, cut out or said twice; the other half are made of the words that the formats are made of.

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

use crate::page::Page;
use std::fs;
use std::path::{Path, PathBuf};

/// Inputs for each target: some seconds in all.
const ROUNDS: usize = 3000;

/// What the formats are made of.
const WORDS: &[&str] = &[
    "\r\n",
    "\n",
    "$",
    "*",
    "%",
    "~",
    ">",
    "|",
    "+",
    "-",
    ":",
    "_",
    "#",
    ",",
    "(",
    "!",
    "=",
    "$-1\r\n",
    "*-1\r\n",
    "*2\r\n",
    "$3\r\nabc\r\n",
    ":1\r\n",
    "+OK\r\n",
    "%1\r\n",
    ">1\r\n",
    "|1\r\n",
    "=7\r\ntxt:abc\r\n",
    "#t\r\n",
    ",1e3\r\n",
    "0",
    "1",
    "9",
    "99999999999",
    "18446744073709551616",
    "-1",
    "1e999",
    "nan",
    "inf",
    "0x1p4",
    "db0:",
    "db0:keys=1,expires=0,avg_ttl=0",
    "keys=",
    "cmdstat_",
    "calls=1,usec=2,usec_per_call=2.00",
    "errorstat_ERR:count=",
    "latency_percentiles_usec_get:p50=",
    "slave0:ip=",
    "state=online,offset=1,lag=0",
    "master0:name=",
    "status=ok",
    "address=[::1]:1",
    "module:name=",
    "id=1",
    "addr=127.0.0.1:1",
    "name=",
    "age=",
    "flags=N",
    " ",
    "@",
    "//",
    "://",
    "redis",
    "unix",
    "rediss",
    "[",
    "]",
    "::1",
    "/",
    "?",
    ";q=0.5",
    "*/*",
    "text/plain",
    "\t",
    "+switch-master",
    "mymaster",
    "127.0.0.1",
    "18010",
    "config-epoch",
    "failover-state",
    "s_down,o_down,master",
    ",1,mymaster,127.0.0.1,18010,",
    "version=0.0.4",
    "\"",
    "\\",
    "{",
    "}",
    "\u{e4}",
    "\0",
];

/// Recorded replies of real servers.
fn seeds() -> Vec<Vec<u8>> {
    recorded("")
}

/// Those whose name begins like that.
fn recorded(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/replies");
    let entries = |path: &Path| -> Vec<PathBuf> {
        let read = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut found: Vec<_> = read.flatten().map(|entry| entry.path()).collect();
        found.sort();
        found
    };
    let servers = entries(&folder).into_iter().filter(|path| path.is_dir());
    let files: Vec<PathBuf> = servers.flat_map(|server| entries(&server)).collect();
    assert!(files.len() > 50, "recorded replies are missing in {}", folder.display());
    let read = |path: &PathBuf| fs::read(path).expect("a file of the project");
    let is_wanted =
        |path: &&PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name));
    files.iter().filter(is_wanted).map(read).filter(|bytes| bytes.len() < 20_000).collect()
}

/// One input.
fn input(random: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    if random.bool() {
        let words = (0..random.usize(..30)).map(|_| WORDS[random.usize(..WORDS.len())]);
        return words.collect::<String>().into_bytes();
    }
    let mut bytes = seeds[random.usize(..seeds.len())].clone();
    for _ in 0..random.usize(..8) {
        let at = random.usize(..bytes.len());
        let end = (at + random.usize(..40)).min(bytes.len());
        match random.u8(..5) {
            0 => bytes[at] = random.u8(..),
            1 => drop(bytes.drain(at..end)),
            2 => drop(bytes.splice(at..at, WORDS[random.usize(..WORDS.len())].bytes())),
            3 => bytes.truncate(at.max(1)),
            _ => {
                let twice = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, twice));
            }
        }
        if bytes.is_empty() {
            bytes.push(b'$');
        }
    }
    bytes
}

/// Feeds a target and names the seed of an input that breaks it.
fn feed(rounds: usize, run: impl FnMut(&[u8])) {
    feed_with(&seeds(), rounds, run);
}

/// The same, with inputs that begin as these.
fn feed_with(seeds: &[Vec<u8>], rounds: usize, mut run: impl FnMut(&[u8])) {
    for seed in 0..rounds as u64 {
        let bytes = input(&mut fastrand::Rng::with_seed(seed), seeds);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&bytes)));
        assert!(outcome.is_ok(), "seed {seed}: {}", bytes.escape_ascii());
    }
}

#[test]
fn resp_in_pieces_is_resp_at_once() {
    feed(ROUNDS, fuzz::resp);
}

#[test]
fn any_info_makes_a_page() {
    feed(ROUNDS / 3, |bytes| drop(Page::parse(&fuzz::info(bytes))));
}

#[test]
fn any_text_as_an_answer_makes_a_page() {
    feed(ROUNDS / 3, |bytes| drop(Page::parse(&fuzz::texts(bytes))));
}

#[test]
fn any_replies_make_a_page() {
    feed(ROUNDS / 3, |bytes| drop(Page::parse(&fuzz::replies(bytes))));
}

#[test]
fn what_people_write_is_read_or_refused() {
    feed(ROUNDS, fuzz::negotiate);
    feed(ROUNDS, fuzz::words);
}

#[test]
fn any_text_is_a_configuration_or_is_refused() {
    let example = include_bytes!("../../docs/example.yaml").to_vec();
    // Without its comments more of it is looked at.
    let bare = String::from_utf8_lossy(&example);
    let bare = bare.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    assert!(redvigil::config::document::tree::parse("f", &bare).is_ok());
    feed_with(&[example, bare.into_bytes()], ROUNDS / 3, fuzz::config_document);
}

#[test]
fn whatever_a_sentinel_says_is_read_or_refused() {
    let mut understood = 0;
    for name in ["sentinel_", "sentinel_masters.resp"] {
        feed_with(&recorded(name), ROUNDS, |bytes| understood += fuzz::sentinel_replies(bytes));
    }
    assert!(understood > 100, "only {understood} rounds were an answer");
    let mut events = recorded("failover_events");
    assert!(!events.is_empty());
    events.push(b"1\t__sentinel__:hello\t::1,18021,7c4f5ce1,1,mymaster,fd00::2,18012,7\n".to_vec());
    feed_with(&events, ROUNDS, fuzz::sentinel_events);
}

#[test]
fn whatever_the_files_of_a_queue_are_it_opens_and_its_counters_balance() {
    let (mut opened, mut lost) = (0, 0);
    for seed in 0..ROUNDS as u64 {
        // edits are short, and most of them are of the first kinds
        let mut random = fastrand::Rng::with_seed(seed);
        let bytes: Vec<u8> = (0..random.usize(..90)).map(|_| random.u8(..)).collect();
        let outcome = std::panic::catch_unwind(|| fuzz::queue::recover(&bytes));
        let total = outcome.unwrap_or_else(|_| panic!("seed {seed}: {}", bytes.escape_ascii()));
        opened += usize::from(total.delivered > 0);
        lost += usize::from(total.dropped.total() > 0);
    }
    assert!(opened > ROUNDS / 2 && lost > ROUNDS / 20, "{opened} had something, {lost} had lost something");
}

#[test]
fn every_target_has_its_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut files: Vec<String> = fs::read_dir(folder)
        .expect("the folder of the targets")
        .flatten()
        .map(|entry| entry.path().file_stem().expect("a file").to_string_lossy().into_owned())
        .collect();
    let mut names: Vec<&str> = fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
    files.sort();
    names.sort_unstable();
    assert_eq!(files, names);
    for (name, _) in fuzz::TARGETS {
        fuzz::check(name, b"");
    }
}
