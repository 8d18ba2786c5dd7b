//! One collector over recorded replies: for the unit tests of collectors.
//!
//! [`Recorded`] is a server that said what a test says it said. It shows what the collector asked, and what
//! it made of the answers, as one line a sample.

use super::{Answers, Asks, Collector, Connecting, Context, Failure, How, Info, Memory, Nodes, When, Work};
use crate::config::collect::{Collect, Keys};
use crate::connect::replay::Replay;
use crate::connect::{Batch, Converse, Deadline, Kind, Replies, Server};
use exposition::family::Value;
use exposition::{Builder, Families};
use std::time::Duration;
use tokio::time::Instant;

/// The moment at which all recorded collections happen.
pub const NOW: f64 = 1_800_000_000.5;

/// A server, and what the operator wants of it.
#[derive(Default)]
pub struct Recorded {
    info: String,
    replay: Replay,
    memory: Memory,
    config: Collect,
    keys: Keys,
}

impl Recorded {
    /// A server with that INFO and no other command.
    pub fn new(info: &str) -> Self {
        Self { info: info.to_owned(), ..Self::default() }
    }

    /// The same, and it answers that command.
    pub fn reply(mut self, command: &str, reply: impl Into<Vec<u8>>) -> Self {
        self.replay.record(command, reply);
        self
    }

    /// The same with other settings.
    pub fn with(mut self, set: impl FnOnce(&mut Collect)) -> Self {
        set(&mut self.config);
        self
    }

    /// The same after it refused something.
    pub fn refused_before(mut self, what: &'static str, kind: Kind) -> Self {
        self.memory.refused.insert(what, kind);
        self
    }

    /// Whether the collector takes part before INFO was read: on a new connection to an old server, which
    /// says nothing of itself, and where the server is known already.
    pub fn when(&self, collector: &Collector) -> [When; 2] {
        let server = Info::parse(&self.info).server();
        [None, Some(&server)].map(|server| (collector.when)(&self.context(server, None)))
    }

    /// What the collector makes of it: one line a sample, `name{label=value,…} number`.
    pub fn collect(&mut self, collector: &Collector) -> Result<Vec<String>, Failure> {
        let info = Info::parse(&self.info);
        let server = info.server();
        let context = Context {
            config: &self.config,
            keys: &self.keys,
            server: Some(&server),
            info: Some(&info),
            memory: &self.memory,
            now: NOW,
        };
        if (collector.when)(&context) != When::Now {
            return Ok(vec![]);
        }
        let deadline = Deadline::until(Instant::now() + Duration::from_secs(1));
        let mut replies = Replies::default();
        let mut out = Builder::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        match collector.how {
            How::Read { ask, read } => {
                let mut batch = Batch::default();
                let mut asks = Asks { batch: &mut batch, memory: &self.memory, slots: vec![] };
                ask(&context, &mut asks);
                let slots = asks.slots;
                runtime.block_on(self.replay.ask(&batch, &mut replies, deadline))?;
                read(&context, &Answers { replies: &replies, slots: &slots }, &mut out)?;
            }
            How::Work(run) => {
                let server = &mut self.replay;
                let mut work = Work {
                    server,
                    context,
                    deadline,
                    nodes: &Alone,
                    replies: &mut replies,
                    refused: Default::default(),
                    masters: None,
                    pace: Default::default(),
                    only_here: false,
                };
                runtime.block_on(run(&mut work, &mut out))?;
            }
        }
        Ok(lines(&out.finish()))
    }

    /// Every command that was asked, batch by batch.
    pub fn asked(&self) -> &[Vec<String>] {
        &self.replay.asked
    }

    fn context<'a>(&'a self, server: Option<&'a Server>, info: Option<&'a Info<'a>>) -> Context<'a> {
        let Self { config, keys, memory, .. } = self;
        Context { config, keys, server, info, memory, now: NOW }
    }
}

/// No other node can be reached.
struct Alone;

impl Nodes for Alone {
    fn connect<'a>(&'a self, host: &'a str, _: u16, _: Deadline) -> Connecting<'a> {
        let host = host.to_owned();
        let source = std::io::ErrorKind::NotFound.into();
        Box::pin(std::future::ready(Err(crate::connect::Error::Dns { host, source })))
    }
}

/// A distribution is written `bound:count … sum/count`.
fn lines(families: &Families) -> Vec<String> {
    let mut lines = vec![];
    for family in families.iter() {
        for sample in family.samples() {
            let labels: Vec<_> = sample.labels().map(|(name, value)| format!("{name}={value}")).collect();
            let value = match sample.value() {
                Value::Number(number) => number.to_string(),
                Value::Distribution { points, sum, count } => {
                    let points: String = points.iter().map(|(le, count)| format!("{le}:{count} ")).collect();
                    format!("{points}{sum}/{count}")
                }
            };
            let name = family.name();
            lines.push(match labels.is_empty() {
                true => format!("{name} {value}"),
                false => format!("{name}{{{}}} {value}", labels.join(",")),
            });
        }
    }
    lines
}

/// Words as RESP2 sends them: an array of bulk strings.
pub fn array<S: AsRef<str>>(words: &[S]) -> Vec<u8> {
    let mut batch = Batch::default();
    batch.push(&words.iter().map(|word| word.as_ref().as_bytes()).collect::<Vec<_>>());
    batch.bytes().to_vec()
}

/// A bulk string.
pub fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

/// The words of a reply of strings as `redis-cli --no-raw` prints it: `1) "word"`.
pub fn printed(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.split_once(") \"")?.1.strip_suffix('"')).collect()
}
