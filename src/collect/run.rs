//! One collection of one server: at most two pipelined rounds, then the work. PING, where it is wanted, and
//! the first visit to a server that knows no sections of INFO add one round trip each.
//!
//! The first round asks everything that needs no knowledge of the server, and on a kept connection that is
//! nearly all; the second asks what depends on INFO. What a server refused for good is remembered in
//! [`Memory`] and not asked again while its run_id stays.

use super::keys::Pace;
use super::round::{Round, blame, readers, settle};
use super::snapshot::{Progress, Snapshot};
use super::{ALL, Collector, Context, Facts, Failure, How, Info, Memory, Nodes, When, Work};
use crate::config::collect::{Collect, Keys};
use crate::connect::{Batch, Converse, Deadline, Error, Kind, Mode, Replies, Server};
use exposition::{Builder, Families};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// What one collection needs to know.
pub struct Request<'a> {
    /// What the operator wants.
    pub config: &'a Collect,
    /// Key patterns of this request.
    pub keys: &'a Keys,
    /// Which part of it all.
    pub scope: Scope,
    /// How many keys are looked at in a second at most.
    pub keys_per_second: Option<u32>,
    /// Whether to PING first, and export how long it took.
    pub ping: bool,
    /// Until when to be done.
    pub deadline: Deadline,
    /// How to reach other nodes of the cluster.
    pub nodes: &'a dyn Nodes,
    /// Unix time in seconds: [`unix_now`] but for tests.
    pub clock: fn() -> f64,
}

/// Which collectors take part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All.
    #[default]
    Everything,
    /// All but those that look at keys, which may take minutes.
    WithoutKeys,
    /// Those that look at keys, and of a Cluster at those of this node. INFO is asked, for what the server is, and
    /// not published.
    KeysOnly,
}

impl Scope {
    fn has(self, collector: &Collector) -> bool {
        match self {
            Self::Everything => true,
            Self::WithoutKeys => !collector.is_key_work(),
            Self::KeysOnly => collector.is_key_work() || collector.name == super::info::COLLECTOR.name,
        }
    }
}

impl<'a> Request<'a> {
    fn context(
        &self,
        server: Option<&'a Server>,
        info: Option<&'a Info<'a>>,
        memory: &'a Memory,
    ) -> Context<'a>
    where
        Self: 'a,
    {
        Context { config: self.config, keys: self.keys, server, info, memory, now: (self.clock)() }
    }
}

/// A collection of more samples than that is no guess at what the next target will have.
const USUAL_SAMPLES: usize = 10_000;

/// Memory that one collection after the other uses, whatever the target.
#[derive(Default)]
pub struct Buffers {
    batch: Batch,
    first: Replies,
    second: Replies,
    work: Replies,
    /// What the first round of the last collection came to: a guess at what the next one will.
    last: Arc<Families>,
}

impl Buffers {
    /// Gives back what an unusually large reply took.
    pub fn shrink(&mut self) {
        [&mut self.first, &mut self.second, &mut self.work].into_iter().for_each(Replies::clear);
        if self.last.samples() > USUAL_SAMPLES {
            self.last = Arc::default();
        }
    }
}

/// Collects from `server` and publishes what was made, step by step, through `snapshot`.
///
/// An error means that the conversation broke before INFO was read: nothing was made, and the caller may
/// try another connection. What goes wrong later is told by the snapshot.
pub async fn run(
    server: &mut dyn Converse,
    request: &Request<'_>,
    memory: &mut Memory,
    buffers: &mut Buffers,
    snapshot: &watch::Sender<Snapshot>,
) -> Result<(), Error> {
    let Buffers { batch, first, second, work, last } = buffers;
    if request.ping {
        let took = ping(server, request.deadline, batch, first).await?;
        snapshot.send_modify(|s| s.ping = Some(took));
    }

    // The first round: everything that needs no knowledge of the server, or only what it said before.
    let known = server.server().cloned().or_else(|| memory.server.clone());
    let context = request.context(known.as_ref(), None, memory);
    let wanted = |when| {
        let mut readers = readers(&context, when);
        readers.retain(|collector| request.scope.has(collector));
        readers
    };
    let (at_once, later) = (wanted(When::Now), wanted(When::AfterInfo));
    snapshot.send_modify(|s| at_once.iter().chain(&later).for_each(|c| s.set(c.name, Progress::Pending)));
    let mut round = Round::ask(at_once, &context, batch);
    let broken = server.ask(batch, first, request.deadline).await.err();
    // What was answered before the conversation broke is good, and INFO comes first.
    if first.is_empty()
        && let Some(error) = broken
    {
        return Err(error);
    }
    let mut plain = Replies::default();
    if broken.is_none() && !memory.plain_info && knows_no_sections(first) {
        batch.clear();
        batch.push(&["INFO"]);
        server.ask(batch, &mut plain, request.deadline).await?;
    }

    let taken = Instant::now();

    // INFO, which says what is in front of us, whatever HELLO or an earlier collection said.
    let text = match info_text(if plain.is_empty() { first } else { &plain }) {
        Ok(text) => text,
        Err(failure) => {
            snapshot.send_modify(|s| s.error = Some((failure.kind(), failure.to_string())));
            return Ok(());
        }
    };
    let info = Info::parse(&text);
    let known = info.server();
    let facts = Arc::new(Facts::read(&info));
    if learn(memory, &info, &known) {
        round.forget_remembered();
    }
    memory.plain_info |= !plain.is_empty();
    let context = request.context(Some(&known), Some(&info), memory);
    round.asked.retain(|(collector, _)| (collector.when)(&context) == When::Now);
    let mut visit = Visit { server, request, context, snapshot, broken, refused: vec![] };
    let mut out = visit.builder();
    out.reserve_like(last);
    *last = visit.read(&round, out, first);
    snapshot.send_modify(|s| {
        s.up = true;
        s.role = visit.role().to_owned();
        s.facts = Some(facts);
        s.taken = Some(taken);
    });

    visit.second_round(&round, batch, second).await;
    let learned = visit.work(work).await;
    memory.refused.extend(learned);
    Ok(())
}

/// A collection after INFO was read.
struct Visit<'a> {
    server: &'a mut dyn Converse,
    request: &'a Request<'a>,
    context: Context<'a>,
    snapshot: &'a watch::Sender<Snapshot>,
    /// What broke the conversation: nothing is asked any more.
    broken: Option<Error>,
    /// What the server refused for good.
    refused: Vec<(&'static str, Kind)>,
}

impl Visit<'_> {
    fn role(&self) -> &str {
        self.context.info.and_then(|info| info.get("role")).unwrap_or_default()
    }

    fn builder(&self) -> Builder {
        let mut out = Builder::with_namespace(&self.context.config.namespace);
        if self.context.config.role_label {
            out.constant_label("instance_role", self.role());
        }
        out
    }

    /// Reads the replies of a round, and publishes what was made.
    fn read(&mut self, round: &Round, out: Builder, replies: &Replies) -> Arc<Families> {
        let broken = self.broken.as_ref();
        let part = round.read(out, replies, broken, &self.context, self.snapshot, &mut self.refused);
        if self.request.scope != Scope::KeysOnly {
            self.snapshot.send_modify(|s| s.parts.push(part.clone()));
        }
        part
    }

    /// What depends on INFO, and what an earlier process at this address refused.
    async fn second_round(&mut self, first: &Round, batch: &mut Batch, replies: &mut Replies) {
        let mut still = readers(&self.context, When::Now);
        still.retain(|c| {
            self.request.scope.has(c) && first.asked.iter().all(|(asked, _)| asked.name != c.name)
        });
        self.snapshot.send_modify(|s| {
            s.collectors.retain(|(_, progress)| *progress != Progress::Pending);
            still.iter().for_each(|c| s.set(c.name, Progress::Pending));
        });
        if still.is_empty() {
            return;
        }
        let round = Round::ask(still, &self.context, batch);
        replies.clear();
        if self.broken.is_none() {
            self.broken = self.server.ask(batch, replies, self.request.deadline).await.err();
        }
        let out = self.builder();
        self.read(&round, out, replies);
    }

    /// Keys, streams, scripts, search: one after the other. Returns what the server refused for good in the
    /// whole collection.
    async fn work(mut self, replies: &mut Replies) -> Vec<(&'static str, Kind)> {
        let is_wanted = |c: &Collector| self.request.scope.has(c) && (c.when)(&self.context) != When::Never;
        let workers = ALL.iter().filter_map(|collector| match collector.how {
            How::Work(run) if is_wanted(collector) => Some((*collector, run)),
            _ => None,
        });
        let workers: Vec<_> = workers.collect();
        // All at once: whoever finds no time any more is seen to be missing.
        self.snapshot.send_modify(|s| workers.iter().for_each(|(c, _)| s.set(c.name, Progress::Pending)));
        if let Some(error) = &self.broken {
            self.snapshot.send_modify(|s| {
                workers.iter().for_each(|(c, _)| s.set(c.name, Progress::Failed(error.kind())));
            });
            blame(error, self.snapshot);
            return self.refused;
        }
        let is_cluster_node = self.context.server.is_some_and(|server| server.mode == Mode::Cluster);
        let builders: Vec<_> = workers.iter().map(|_| self.builder()).collect();
        let mut talk = Work {
            server: self.server,
            context: self.context,
            deadline: self.request.deadline,
            nodes: self.request.nodes,
            replies,
            refused: self.context.memory.refused.clone(),
            masters: None,
            pace: Pace::new(self.request.keys_per_second),
            only_here: self.request.scope == Scope::KeysOnly && is_cluster_node,
        };
        for ((collector, run), mut out) in workers.into_iter().zip(builders) {
            let outcome = run(&mut talk, &mut out).await;
            let part = Arc::new(out.finish());
            self.snapshot.send_modify(|s| s.parts.push(part));
            if let Err(Failure::Refused { what, kind, .. }) = &outcome
                && kind.is_lasting()
            {
                self.refused.push((what, *kind));
            }
            settle(collector, outcome, self.snapshot);
        }
        self.refused.extend(talk.refused);
        self.refused
    }
}

async fn ping(
    server: &mut dyn Converse,
    deadline: Deadline,
    batch: &mut Batch,
    replies: &mut Replies,
) -> Result<Duration, Error> {
    batch.clear();
    batch.push(&["PING"]);
    let begin = Instant::now();
    server.ask(batch, replies, deadline).await?;
    Ok(begin.elapsed())
}

/// What the clock of this machine says, in seconds since 1970.
pub fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// What INFO may be at most. It is some kilobytes, and with ten thousand databases less than one megabyte; who
/// sends tens of megabytes wants to keep our one thread busy.
const INFO_LIMIT: usize = 4 << 20;

/// INFO is always asked first. Lua scripts can put any bytes into the names of errors, so the text is
/// taken as it can be read.
fn info_text(replies: &Replies) -> Result<Cow<'_, str>, Failure> {
    let reply = replies.get(0).ok_or(Failure::shape("INFO"))?;
    if let Some(refusal) = reply.error() {
        return Err(Failure::Refused { what: "INFO", kind: refusal.kind(), reply: refusal.text() });
    }
    let possible = |bytes: &&[u8]| (1..=INFO_LIMIT).contains(&bytes.len());
    let text = reply.bytes().filter(possible).ok_or(Failure::shape("INFO"))?;
    // The strict reader is several times as fast as the lossy one, and mostly all that is needed.
    Ok(std::str::from_utf8(text).map_or_else(|_| String::from_utf8_lossy(text), Cow::Borrowed))
}

/// Some servers know INFO without sections only, and say so or answer nothing.
fn knows_no_sections(replies: &Replies) -> bool {
    replies.get(0).is_some_and(|reply| match reply.error() {
        Some(refusal) => matches!(refusal.kind(), Kind::Unsupported | Kind::Command),
        None => reply.bytes().is_some_and(<[u8]>::is_empty),
    })
}

/// Another run_id is another process: what the old one refused says nothing of it. True where it is one.
fn learn(memory: &mut Memory, info: &Info<'_>, server: &Server) -> bool {
    let run_id = info.get("run_id").unwrap_or_default();
    // Where there is no run_id, a new version is a new process.
    let is_another = memory.run_id != run_id || memory.server.as_ref().is_some_and(|known| known != server);
    if is_another {
        *memory = Memory { run_id: run_id.to_owned(), ..Memory::default() };
    }
    memory.server = Some(server.clone());
    is_another
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::Connecting;
    use crate::connect::replay::Replay;

    struct Alone;
    impl Nodes for Alone {
        fn connect<'a>(&'a self, host: &'a str, _: u16, _: Deadline) -> Connecting<'a> {
            let host = host.to_owned();
            Box::pin(std::future::ready(Err(Error::Dns {
                host,
                source: std::io::ErrorKind::NotFound.into(),
            })))
        }
    }

    #[tokio::test]
    async fn a_server_without_sections_is_up_the_second_time_too() {
        for refusal in [
            "-ERR syntax error\r\n",
            "-ERR wrong number of arguments for 'info' command\r\n",
            "-ERR other\r\n",
            "$0\r\n\r\n",
        ] {
            let mut server = Replay::default();
            server.record("INFO ALL", refusal);
            server.record(
                "INFO",
                super::super::recorded::bulk("redis_version:6.0.0\r\nrun_id:x\r\nhz:1234\r\n"),
            );
            let (config, keys) = (Collect::default(), Keys::default());
            let request = Request {
                config: &config,
                keys: &keys,
                scope: Scope::Everything,
                keys_per_second: None,
                ping: false,
                nodes: &Alone,
                clock: unix_now,
                deadline: Deadline::until(tokio::time::Instant::now() + Duration::from_secs(1)),
            };
            let (mut memory, mut buffers) = (Memory::default(), Buffers::default());
            for time in 1..=3 {
                let (snapshot, _keep) = watch::channel(Snapshot::default());
                run(&mut server, &request, &mut memory, &mut buffers, &snapshot).await.unwrap();
                assert!(snapshot.borrow().up, "{refusal:?}, time {time}");
            }
            let asked: Vec<_> = server.asked.iter().flatten().filter(|c| c.starts_with("INFO")).collect();
            assert_eq!(asked, ["INFO ALL", "INFO", "INFO", "INFO"], "{refusal:?}");
        }
    }
}
