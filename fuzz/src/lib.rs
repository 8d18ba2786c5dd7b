//! What the fuzz targets do with their bytes. `tests/it/random.rs` does the same with random ones on every run
//! of the tests, so that a machine without cargo-fuzz fuzzes a little, too.
//!
//! Nothing may panic, and what is stated here must hold whatever the bytes are.

pub mod queue;

use exposition::remote_write::{count, split_by_target, to_v1, v1_metadata};
use exposition::{Format, Page, negotiate, otlp};
use redvigil::collect::run::{Buffers, Request, run};
use redvigil::collect::{Connecting, Memory, Nodes, Snapshot};
use redvigil::config::collect::{Collect, KeyPattern, Keys, Script};
use redvigil::config::compat::prometheus::Prometheus;
use redvigil::config::credentials::parse_password_file;
use redvigil::config::document::reader::Files;
use redvigil::config::document::{Loaded, Sources, Text, Texts, tree};
use redvigil::config::scrape::HostPattern;
use redvigil::config::{Address, units};
use redvigil::connect::error::Violation;
use redvigil::connect::resp::{Decoder, Progress};
use redvigil::connect::{Asking, Batch, Converse, Deadline, Error, Limits, Replies, Reply, Server};
use redvigil::discover::Member;
use redvigil::discover::sentinel::event::{Event, Hello};
use redvigil::discover::sentinel::reply::{self, MOST_MEMBERS, MOST_SENTINELS};
use std::future::ready;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("resp", resp),
    ("info", |data| drop(info(data))),
    ("texts", |data| drop(texts(data))),
    ("replies", |data| drop(replies(data))),
    ("negotiate", negotiate),
    ("words", words),
    ("config_document", config_document),
    ("sentinel_replies", |data| _ = sentinel_replies(data)),
    ("sentinel_events", sentinel_events),
    ("remote_write", |data| _ = remote_write(data)),
    ("queue_recover", |data| _ = queue::recover(data)),
];

/// Runs one target on its bytes.
pub fn check(target: &str, data: &[u8]) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target of the list");
    run(data);
}

/// RESP: read in pieces it is the same as read at once, and all that is read can be looked at.
pub fn resp(data: &[u8]) {
    // Taken from the length, so that recorded replies are seeds as they are.
    let (wanted, step) = (data.len() % 3 + 1, data.len() % 31 + 1);
    let whole = decode(data, wanted, data.len().max(1));
    assert_eq!(decode(data, wanted, step), whole, "in pieces of {step}");
    assert_eq!(decode(data, wanted, 1), whole, "byte by byte");
}

/// The replies as a text, or why there are none.
fn decode(bytes: &[u8], wanted: usize, step: usize) -> Result<Option<String>, Violation> {
    // More bytes than a target gets: where they are cut must not matter.
    let limits = Limits { total: 1 << 20, nesting: 8, line: 256, values: 1000 };
    let (mut replies, mut decoder) = (Replies::default(), Decoder::default());
    for piece in bytes.chunks(step) {
        replies.push(piece);
        if decoder.advance(&mut replies, wanted, &limits)? == Progress::Complete {
            assert!(decoder.understood() <= replies.bytes());
            return Ok(Some(replies.iter().map(show).collect::<Vec<_>>().join(" ")));
        }
    }
    Ok(None)
}

/// Looks at a reply in every way that there is.
fn show(reply: Reply<'_>) -> String {
    let numbers = (reply.integer(), reply.number().map(f64::to_bits));
    let pairs = reply.pairs().map_or(0, Iterator::count);
    match reply.items() {
        Some(items) => format!("{pairs}[{}]", items.map(show).collect::<Vec<_>>().join(" ")),
        None => {
            let error = reply.error().map(|error| (error.text(), error.kind()));
            format!(
                "{:?}{numbers:?}{error:?}{}{:?}",
                reply.bytes(),
                reply.is_nil(),
                reply.field("k").is_some()
            )
        }
    }
}

/// A server that answers INFO with a text and all else from bytes.
struct Stranger<'a> {
    info: &'a [u8],
    rest: Rest<'a>,
    /// Batches that it still answers: a scan must not go on for ever.
    patience: usize,
}

/// What a [`Stranger`] answers to everything but INFO.
enum Rest<'a> {
    /// It knows nothing else.
    Unknown,
    /// Always this text.
    Text(&'a [u8]),
    /// These values, again from the start when they are used up.
    Values(Vec<&'a [u8]>, usize),
}

impl Stranger<'_> {
    fn answer(&mut self, command: &[String], out: &mut Replies) {
        let is_info = command.first().is_some_and(|name| name == "INFO");
        match &mut self.rest {
            _ if is_info && command.get(1).is_none_or(|section| section != "MODULES") => bulk(self.info, out),
            Rest::Unknown => out.push(b"-ERR unknown command\r\n"),
            Rest::Text(text) => bulk(text, out),
            Rest::Values(values, next) => {
                out.push(values.get(*next).copied().unwrap_or(b"_\r\n"));
                *next = if *next + 1 < values.len() { *next + 1 } else { 0 };
            }
        }
    }
}

fn bulk(text: &[u8], out: &mut Replies) {
    out.push(format!("${}\r\n", text.len()).as_bytes());
    out.push(text);
    out.push(b"\r\n");
}

impl Converse for Stranger<'_> {
    fn ask<'a>(&'a mut self, batch: &'a Batch, into: &'a mut Replies, _: Deadline) -> Asking<'a> {
        let address = || "a stranger".to_owned();
        let closed = || Error::Closed { address: address(), source: io::ErrorKind::UnexpectedEof.into() };
        into.clear();
        if self.patience == 0 {
            return Box::pin(ready(Err(closed())));
        }
        self.patience -= 1;
        let mut commands = Replies::default();
        commands.push(batch.bytes());
        let read = Decoder::default().advance(&mut commands, batch.len(), &Limits::default());
        assert_eq!(read, Ok(Progress::Complete), "what we send is RESP");
        let text = |word: Reply<'_>| String::from_utf8_lossy(word.bytes().unwrap_or_default()).into_owned();
        for command in commands.iter() {
            let command: Vec<String> = command.items().into_iter().flatten().map(text).collect();
            self.answer(&command, into);
        }
        Box::pin(ready(match Decoder::default().advance(into, batch.len(), &Limits::default()) {
            Ok(Progress::Complete) => Ok(()),
            Ok(Progress::Missing(_)) => Err(closed()),
            Err(source) => Err(Error::Protocol { address: address(), source }),
        }))
    }

    fn server(&self) -> Option<&Server> {
        None
    }
}

/// No other node can be reached.
struct Alone;

impl Nodes for Alone {
    fn connect<'a>(&'a self, host: &'a str, _: u16, _: Deadline) -> Connecting<'a> {
        let source = io::ErrorKind::NotFound.into();
        Box::pin(ready(Err(Error::Dns { host: host.to_owned(), source })))
    }
}

/// Everything that can be asked for.
fn everything() -> &'static (Collect, Keys) {
    static ALL: OnceLock<(Collect, Keys)> = OnceLock::new();
    ALL.get_or_init(|| {
        let list = |text: &str| KeyPattern::parse_list(text).expect("a list of our own");
        let keys = Keys {
            check: list("k*,db1=m*"),
            check_single: list("k,db1=m"),
            streams: list("s*"),
            streams_single: list("s"),
            count: list("c*"),
        };
        let collect = Collect {
            key_groups: vec!["^(.*)$".into()],
            scripts: vec![Script { path: "s.lua".into(), source: "return {}".into() }],
            client_list: true,
            client_port: true,
            config_metrics: true,
            modules: true,
            search_indexes: Some(regex::Regex::new("").expect("an expression of our own").into()),
            sentinel_peers: true,
            system_metrics: true,
            rdb_file_size: true,
            role_label: true,
            ..Collect::default()
        };
        (collect, keys)
    })
}

/// Two collections of a stranger, one after the other as over a kept connection; the text of the second.
fn collect(mut stranger: Stranger<'_>) -> String {
    let (config, keys) = everything();
    let deadline = Deadline::until(Instant::now() + Duration::from_secs(1));
    let request = Request {
        config,
        keys,
        scope: Default::default(),
        keys_per_second: None,
        ping: true,
        deadline,
        nodes: &Alone,
        clock: || 1.7e9,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime of one thread can be made");
    let (mut memory, mut buffers) = (Memory::default(), Buffers::default());
    let mut text = vec![];
    for _ in 0..2 {
        let (sender, receiver) = watch::channel(Snapshot::default());
        let _ = runtime.block_on(run(&mut stranger, &request, &mut memory, &mut buffers, &sender));
        let snapshot = receiver.borrow().clone();
        let page = Page::new(snapshot.parts.iter().map(|part| &**part), &[]);
        text.clear();
        for format in [Format::OpenMetrics, Format::Protobuf, Format::Text] {
            text.clear();
            exposition::write(format, &mut text, &page);
        }
    }
    String::from_utf8(text).expect("what we write is UTF-8")
}

/// Any bytes as INFO; the text that comes of it.
pub fn info(data: &[u8]) -> String {
    collect(Stranger { info: data, rest: Rest::Unknown, patience: 64 })
}

/// Any text as the answer to every other command.
pub fn texts(data: &[u8]) -> String {
    collect(Stranger { info: known(data.len()), rest: Rest::Text(data), patience: 64 })
}

/// Any values as the answers to every other command.
pub fn replies(data: &[u8]) -> String {
    let rest = Rest::Values(values(data), 0);
    collect(Stranger { info: known(data.len()), rest, patience: 64 })
}

/// The values that these bytes begin with.
fn values(data: &[u8]) -> Vec<&[u8]> {
    let mut values = vec![];
    let mut rest = data;
    let limits = Limits { nesting: 8, ..Limits::default() };
    while !rest.is_empty() && values.len() < 64 {
        let (mut replies, mut decoder) = (Replies::default(), Decoder::default());
        replies.push(rest);
        if decoder.advance(&mut replies, 1, &limits) != Ok(Progress::Complete) {
            break;
        }
        let (value, others) = rest.split_at(decoder.understood());
        values.push(value);
        rest = others;
    }
    values
}

/// INFO of the kinds of server that are asked different things.
fn known(kind: usize) -> &'static [u8] {
    const KINDS: [&[u8]; 4] = [
        b"# Server\r\nredis_version:8.2.0\r\nredis_mode:cluster\r\nrun_id:a\r\nrole:master\r\ncluster_enabled:1\r\n",
        b"# Server\r\nredis_version:7.2.4\r\nvalkey_version:9.1.0\r\nserver_mode:standalone\r\nrole:slave\r\n",
        b"# Server\r\nredis_version:7.0.15\r\nredis_mode:sentinel\r\nsentinel_masters:1\r\nmaster0:name=m,status=ok\r\n",
        b"# Server\r\nredis_version:6.0.0\r\nrole:master\r\ndb0:keys=1,expires=0\r\n",
    ];
    KINDS[kind % KINDS.len()]
}

/// What a client says that it accepts.
pub fn negotiate(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for prefer in [false, true] {
        let (format, _) = negotiate::format(Some(&text), prefer);
        assert!(matches!(format, Format::Text | Format::OpenMetrics | Format::Protobuf));
    }
    negotiate::encoding(Some(&text));
}

/// What an operator or a caller writes.
pub fn words(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(address) = Address::parse(&text) {
        let shown = address.to_string();
        let again =
            Address::parse(&shown).unwrap_or_else(|error| panic!("{text:?} is shown as {shown:?}: {error}"));
        assert_eq!(again.key_for(None), address.key_for(None), "{text:?} is shown as {shown:?}");
        assert_eq!(again.to_string(), shown);
    }
    if let Ok(pattern) = HostPattern::parse(&text) {
        pattern.matches(&Address::default().endpoint);
    }
    let _ = KeyPattern::parse_list(&text);
    let _ = parse_password_file(&text);
}

/// A configuration file, and a configuration of Prometheus to be migrated.
pub fn config_document(data: &[u8]) {
    // No file of this machine is to be opened: some never end.
    let text = String::from_utf8_lossy(data).replace("_file", "_fil").replace("scripts", "script");
    if let Ok(duration) = units::prometheus_duration(&text) {
        assert_eq!(units::prometheus_duration(&units::written(duration)), Ok(duration), "{text:?}");
    }
    let _ = Prometheus::parse(&text);
    if tree::parse("f", &text).is_err() {
        return;
    }
    let sources = Sources { file: Some("/nonexistent/f".into()), ..Sources::default() };
    let file = Some(Text { name: "f".into(), text: (*text).into() });
    match sources.load(&Texts { file, ..Texts::default() }, &Files::default(), &|_| None) {
        Ok(Loaded { config, warnings }) => {
            for warning in warnings.iter().map(ToString::to_string) {
                assert!(warning.starts_with("f:") && !warning.contains('\n'), "{warning:?}");
            }
            assert!(config.scrape.timeout <= config.scrape.interval);
            let names = config.discover.services.iter().map(|service| &*service.name);
            assert!(names.clone().all(|name| config.discover.service(name).is_some() && !name.is_empty()));
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems.iter().map(ToString::to_string) {
                assert!(problem.starts_with("f:") && !problem.contains('\n'), "{problem:?}");
            }
        }
    }
}

/// What a Sentinel answers to a round of questions. How many rounds were an answer.
pub fn sentinel_replies(data: &[u8]) -> usize {
    let mut understood = 0;
    let outer = values(data);
    // What was recorded is a list of masters; a round begins with one of them.
    let items = |list: &&[u8]| list.iter().position(|b| *b == b'\n').map_or(0, |end| end + 1);
    let inner: Vec<_> = outer.iter().take(4).flat_map(|list| values(&list[items(list)..])).take(8).collect();
    for (at, first) in inner.into_iter().chain(outer.iter().copied().take(8)).enumerate() {
        let (mut round, mut decoder) = (Replies::default(), Decoder::default());
        round.push(first);
        outer.iter().cycle().skip(at).take(6).for_each(|value| round.push(value));
        if decoder.advance(&mut round, 7, &Limits::default()) == Ok(Progress::Complete) {
            understood += usize::from(sentinel_round(&round));
        }
    }
    understood
}

fn sentinel_round(round: &Replies) -> bool {
    let mut before = None;
    for one in round.iter() {
        let _ = reply::in_tilt(one);
        let _ = reply::can_authorise(one);
        let _ = reply::says_master(one, before.unwrap_or(one));
        if let Ok(replicas) = reply::replicas(one) {
            assert!(replicas.len() <= MOST_MEMBERS);
            replicas.iter().for_each(|replica| can_be_reached(&replica.address));
        }
        if let Ok(sentinels) = reply::sentinels(one) {
            assert!(sentinels.len() <= MOST_SENTINELS && sentinels.iter().all(|fellow| fellow.id.is_some()));
        }
        if let Some(named) = reply::named_master(one) {
            can_be_reached(&named);
        }
        if let Some(id) = reply::own_id(one) {
            is_id(&id);
        }
        before = Some(one);
    }
    let Ok(answer) = reply::answer(round, None) else { return false };
    can_be_reached(&answer.names);
    can_be_reached(&answer.master.instance.address);
    true
}

fn is_id(id: &str) {
    assert!((1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric()), "{id:?}");
}

/// What is announced is the name of a member, and a name that is read again.
fn can_be_reached(announced: &Address) {
    let instance = Member::instance_of(announced);
    let again =
        Address::parse(&instance).unwrap_or_else(|error| panic!("{announced:?} is {instance}: {error}"));
    assert_eq!(Member::instance_of(&again), instance, "{announced:?}");
}

/// What a Sentinel publishes, one message a line: a time, the channel, the message, with tabs between.
pub fn sentinel_events(data: &[u8]) {
    for line in String::from_utf8_lossy(data).lines() {
        let (before, message) = line.rsplit_once('\t').unwrap_or(("", line));
        let channel = before.rsplit('\t').next().unwrap_or_default();
        if let Some(Event::Switched { from, to }) = Event::parse(channel, message, "mymaster") {
            can_be_reached(&from);
            can_be_reached(&to);
        }
        if let Some(hello) = Hello::parse(message, "mymaster") {
            is_id(&hello.id);
            can_be_reached(&hello.address);
            can_be_reached(&hello.master);
        }
    }
}

/// A body of remote write 2.0 as it comes from a disk. How many samples were read; none of what is malformed.
pub fn remote_write(data: &[u8]) -> u32 {
    let metadata = v1_metadata(data);
    let Ok(whole) = count(data) else {
        assert!(metadata.is_err() && to_v1(data).is_err() && split_by_target(data).is_err());
        assert!(otlp::from_remote_write(data).is_err());
        return 0;
    };
    let (v1, otlp) = (to_v1(data), otlp::from_remote_write(data));
    if let Ok(parts) = split_by_target(data) {
        let mut samples = 0;
        for part in &parts {
            samples += part.size.samples;
            assert_eq!(count(&part.body), Ok(part.size), "a part is what it says");
            assert_eq!(split_by_target(&part.body).map(|parts| parts.len()), Ok(1), "a part has one target");
        }
        assert_eq!(samples, whole.samples, "the parts are the whole");
        if let ([only], Ok(v1), Ok(otlp)) = (&parts[..], &v1, &otlp) {
            assert_eq!(to_v1(&only.body).as_ref(), Ok(v1), "a part says what the whole says");
            assert_eq!(otlp::from_remote_write(&only.body).as_ref(), Ok(otlp));
        }
    }
    whole.samples
}
