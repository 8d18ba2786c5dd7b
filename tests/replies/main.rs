//! Recorded machines: what real servers said, collected as a whole and compared with golden text.
//!
//! `tests/fixtures/info/<server>-<version>-<role>.txt` is the INFO of a machine, `tests/fixtures/replies/`
//! holds its other replies, `tests/fixtures/golden/` what is made of them. `UPDATE=1` rewrites the golden
//! files; read what changed before you commit it. The golden text of a `standalone` machine is the whole
//! page; that of the others leaves out `# HELP`, `# TYPE` and the families with one sample a command. Both
//! end with how each collector went. `<machine>.all.txt` is what everything switched on adds.

#![allow(clippy::unwrap_used)] // a recording that is missing ends the test

mod machine;
mod printed;
mod records;

use exposition::{Builder, merge::Page, text};
use machine::{Form, Machine};
use redvigil::collect::run::{Buffers, Request, run};
use redvigil::collect::snapshot::Progress;
use redvigil::collect::{Connecting, Context, Info, Memory, Nodes, Snapshot};
use redvigil::config::collect::Collect;
use redvigil::connect::{Deadline, Error, Server};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};
use tokio::sync::watch;
use tokio::time::Instant;

/// The moment at which every recorded collection happens.
const NOW: f64 = 1_795_400_000.5;

/// Whether it may name a metric: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
fn is_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    name.starts_with(|c: char| is_part(c) && !c.is_ascii_digit()) && name.chars().all(is_part)
}

#[test]
fn recorded_machines_yield_the_golden_text() {
    let mut wrong = vec![];
    for name in machines() {
        let page = collect(&name, Form::Resp2, None, &Collect::default()).page();
        let shown = if name.ends_with("-standalone") { page } else { brief(&page) };
        compare(&format!("{name}.txt"), &shown, &mut wrong);
    }
    assert!(wrong.is_empty(), "not as before, UPDATE=1 rewrites them: {wrong:#?}");
}

#[test]
fn everything_switched_on_adds_to_the_golden_text() {
    let mut wrong = vec![];
    for name in machines().iter().filter(|name| name.ends_with("-standalone") || name.ends_with("-sentinel"))
    {
        let page = collect(name, Form::Resp2, None, &Collect::default()).page();
        let all = collect(name, Form::Resp2, None, &everything()).page();
        let before: Vec<_> = page.lines().collect();
        let added: String =
            all.lines().filter(|line| !before.contains(line)).map(|line| format!("{line}\n")).collect();
        compare(&format!("{name}.all.txt"), &added, &mut wrong);
    }
    assert!(wrong.is_empty(), "not as before, UPDATE=1 rewrites them: {wrong:#?}");
}

#[test]
fn knowing_the_server_beforehand_makes_no_difference() {
    for name in machines() {
        for config in [Collect::default(), everything()] {
            let known = Some(Machine::new(&name, Form::Resp2).server());
            let page = |server| collect(&name, Form::Resp2, server, &config).page();
            assert_eq!(first_difference(&page(None), &page(known)), None, "{name}");
        }
    }
}

/// Values may differ: the replies of both protocols were recorded one after the other.
#[test]
fn both_protocols_yield_the_same_families() {
    for name in machines() {
        for config in [Collect::default(), everything()] {
            let types = |form| {
                let page = collect(&name, form, None, &config).page();
                let types =
                    page.lines().filter(|line| line.starts_with("# TYPE") || line.starts_with("# coll"));
                types.map(|line| format!("{line}\n")).collect::<String>()
            };
            assert_eq!(first_difference(&types(Form::Resp2), &types(Form::Resp3)), None, "{name}");
        }
    }
}

#[test]
fn a_collection_takes_two_rounds_at_most_and_fails_only_where_the_server_refuses() {
    for name in machines() {
        for server in [None, Some(Machine::new(&name, Form::Resp2).server())] {
            let collected = collect(&name, Form::Resp2, server, &Collect::default());
            let rounds = &collected.machine.asked;
            assert!(rounds.len() <= 2, "{name}: {rounds:?}");
            assert_eq!(rounds[0][0].0, "INFO ALL", "{name}: INFO is asked first");
            assert!(collected.machine.unheard.is_empty(), "{name}: {:?}", collected.machine.unheard);
            let snapshot = &collected.snapshot;
            assert!(snapshot.up && snapshot.error.is_none(), "{name}: {:?}", snapshot.error);
            let is_failed = |(_, progress): &&(_, Progress)| matches!(progress, Progress::Failed(_));
            let failed = snapshot.collectors.iter().filter(is_failed).count();
            let refused = rounds.iter().flatten().filter(|(_, reply)| reply.starts_with(b"-")).count();
            assert!(failed <= refused, "{name}: {:?}", snapshot.collectors);
            let unfinished = snapshot.collectors.iter().any(|(_, progress)| *progress == Progress::Pending);
            assert!(!unfinished, "{name}: {:?}", snapshot.collectors);
        }
    }
}

/// Thousands of members stay in memory: a whole collection of each has to be small.
#[test]
fn a_collection_is_kept_in_few_bytes() {
    let check = |name: &str, limit: usize| {
        let collected = collect(name, Form::Resp2, None, &Collect::default());
        let sizes = collected.snapshot.parts.iter().map(|part| part.heap_size() + size_of_val(&**part));
        let size: usize = sizes.sum();
        assert!(size > limit / 2 && size < limit, "{name}: {size} bytes");
    };
    check("redis-7.0.15-standalone", 16 << 10);
    check("redis-7.0.15-standalone-fresh", 10 << 10);
    check("redis-7.0.15-sentinel", 6 << 10);
    check("valkey-9.1.2-standalone", 18 << 10);
}

/// Bytes changed, cut and doubled at random (but the same each time) cost samples and nothing else.
#[test]
fn mangled_texts_are_no_harm() {
    let (config, keys, memory) = (everything(), Default::default(), Memory::default());
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    for name in machines() {
        let text = fs::read(fixtures().join(format!("info/{name}.txt"))).unwrap();
        for _ in 0..20 {
            let mut mangled = text.clone();
            for _ in 0..random(200) {
                let at = random(mangled.len());
                match random(4) {
                    0 => mangled[at] = b":,=#\r\n.0_-"[random(10)],
                    1 => mangled[at] = random(256) as u8,
                    2 => drop(mangled.drain(at..(at + random(20)).min(text.len() / 2).max(at))),
                    _ => mangled.insert(at, b":,=\n9"[random(5)]),
                }
            }
            let mangled = String::from_utf8_lossy(&mangled);
            let info = Info::parse(&mangled);
            let server = info.server();
            let context = Context {
                config: &config,
                keys: &keys,
                server: Some(&server),
                info: Some(&info),
                memory: &memory,
                now: NOW,
            };
            let mut out = Builder::new();
            redvigil::collect::info::record(&info, &context, &mut out);
            let families = out.finish();
            assert!(families.iter().all(|family| is_name(family.name())), "{mangled}");
        }
    }
}

/// Every recorded machine.
fn machines() -> Vec<String> {
    let files = fs::read_dir(fixtures().join("info")).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<_> =
        files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    assert!(names.len() > 90, "the recorded machines are missing");
    names
}

/// All that reads replies and needs no keys.
fn everything() -> Collect {
    Collect {
        client_list: true,
        client_port: true,
        config_metrics: true,
        modules: true,
        sentinel_peers: true,
        system_metrics: true,
        ..Collect::default()
    }
}

/// A collection and how it went.
struct Collected {
    machine: Machine,
    snapshot: Snapshot,
}

impl Collected {
    /// The text page, and a line for each collector.
    fn page(&self) -> String {
        let mut out = vec![];
        text::write(&mut out, &Page::new(self.snapshot.parts.iter().map(|part| &**part), &[]));
        let mut page = String::from_utf8(out).unwrap();
        let mut collectors = self.snapshot.collectors.clone();
        collectors.sort_by_key(|(name, _)| *name);
        for (name, progress) in collectors {
            page.push_str(&match progress {
                Progress::Failed(kind) => format!("# collector {name}: {}\n", kind.as_str()),
                Progress::Done => format!("# collector {name}: done\n"),
                Progress::Pending => format!("# collector {name}: not finished\n"),
            });
        }
        page
    }
}

fn collect(name: &str, form: Form, server: Option<Server>, config: &Collect) -> Collected {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut machine = Machine::new(name, form);
    machine.know(server);
    let snapshot = watch::Sender::new(Snapshot::default());
    runtime.block_on(async {
        let request = Request {
            scope: Default::default(),
            keys_per_second: None,
            config,
            keys: &config.keys,
            ping: false,
            deadline: Deadline::until(Instant::now() + Duration::from_secs(60)),
            nodes: &Alone,
            clock: || NOW,
        };
        let (mut memory, mut buffers) = (Memory::default(), Buffers::default());
        run(&mut machine, &request, &mut memory, &mut buffers, &snapshot).await.unwrap();
    });
    Collected { machine, snapshot: snapshot.borrow().clone() }
}

/// No other node can be reached.
struct Alone;

impl Nodes for Alone {
    fn connect<'a>(&'a self, host: &'a str, _: u16, _: Deadline) -> Connecting<'a> {
        let error = Error::Dns { host: host.to_owned(), source: std::io::ErrorKind::NotFound.into() };
        Box::pin(std::future::ready(Err(error)))
    }
}

/// Without help, types and families that have a sample for each command.
fn brief(page: &str) -> String {
    let by_command = |line: &str| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        name.starts_with("redis_latency_percentiles_usec")
            || (name.starts_with("redis_commands_") && name != "redis_commands_processed_total")
    };
    let is_dull = |line: &str| line.starts_with("# HELP ") || line.starts_with("# TYPE ") || by_command(line);
    page.lines().filter(|line| !is_dull(line)).map(|line| format!("{line}\n")).collect()
}

/// The first line that is not the same in both.
fn first_difference(a: &str, b: &str) -> Option<(String, String)> {
    let ends = ["(end)"];
    let mut pairs = a.lines().chain(ends).zip(b.lines().chain(ends));
    pairs.find(|(a, b)| a != b).map(|(a, b)| (a.to_owned(), b.to_owned()))
}

/// Compares with a golden file, or writes it.
fn compare(file: &str, text: &str, wrong: &mut Vec<String>) {
    let path = fixtures().join("golden").join(file);
    if env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    } else if let Some(lines) = first_difference(&fs::read_to_string(path).unwrap_or_default(), text) {
        wrong.push(format!("{file}: {lines:?}"));
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}
