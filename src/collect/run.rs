//! One collection of one server: at most two pipelined rounds, then the work.
//!
//! The first round asks everything that needs no knowledge of the server, and on a kept connection that is
//! nearly all; the second asks what depends on INFO. What a server refused for good is remembered in
//! [`Memory`] and not asked again while its run_id stays.

use super::snapshot::{Progress, Snapshot};
use super::{ALL, Answers, Asks, Collector, Context, Failure, How, Info, Memory, Nodes, Slot, When, Work};
use crate::config::collect::{Collect, Keys};
use crate::connect::{Batch, Converse, Deadline, Error, Kind, Replies, Reply, Server};
use exposition::{Builder, Families};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tracing::{debug, warn};

/// What one collection needs to know.
pub struct Request<'a> {
    /// What the operator wants.
    pub config: &'a Collect,
    /// Key patterns of this request.
    pub keys: &'a Keys,
    /// Whether to PING first, and export how long it took.
    pub ping: bool,
    /// Until when to be done.
    pub deadline: Deadline,
    /// How to reach other nodes of the cluster.
    pub nodes: &'a dyn Nodes,
    /// Unix time in seconds: [`unix_now`] but for tests.
    pub clock: fn() -> f64,
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

    let known = server.server().cloned().or_else(|| memory.server.clone());
    let context = request.context(known.as_ref(), None, memory);
    let at_once = readers(&context, When::Now);
    let later = readers(&context, When::AfterInfo);
    snapshot.send_modify(|s| at_once.iter().chain(&later).for_each(|c| s.set(c.name, Progress::Pending)));

    let mut round = Round::ask(at_once, &context, batch);
    let mut broken = server.ask(batch, first, request.deadline).await.err();
    // What was answered before the conversation broke is good, and INFO comes first.
    if first.is_empty()
        && let Some(error) = broken
    {
        return Err(error);
    }
    let mut plain = Replies::default();
    if broken.is_none() && knows_no_sections(first) {
        batch.clear();
        batch.push(&["INFO"]);
        server.ask(batch, &mut plain, request.deadline).await?;
    }
    let text = match info_text(if plain.is_empty() { first } else { &plain }) {
        Ok(text) => text,
        Err(failure) => {
            snapshot.send_modify(|s| s.error = Some((failure.kind(), failure.to_string())));
            return Ok(());
        }
    };
    let info = Info::parse(&text);
    if learn(memory, &info) {
        round.forget_remembered();
    }
    let role = info.get("role").unwrap_or_default();
    let known = info.server();
    let context = request.context(Some(&known), Some(&info), memory);
    let mut refused = vec![];

    // INFO has the last word on what the server is: HELLO may have been answered by something before it.
    round.asked.retain(|(collector, _)| (collector.when)(&context) == When::Now);
    let mut out = builder(&context, role);
    out.reserve_like(last);
    let part = round.read(out, first, broken.as_ref(), &context, snapshot, &mut refused);
    *last = part.clone();
    snapshot.send_modify(|s| {
        s.up = true;
        s.role = role.to_owned();
        s.parts.push(part);
    });

    let mut still = readers(&context, When::Now);
    still.retain(|c| round.asked.iter().all(|(asked, _)| asked.name != c.name));
    snapshot.send_modify(|s| {
        s.collectors.retain(|(_, progress)| *progress != Progress::Pending);
        still.iter().for_each(|c| s.set(c.name, Progress::Pending));
    });
    if !still.is_empty() {
        let round = Round::ask(still, &context, batch);
        second.clear();
        if broken.is_none() {
            broken = server.ask(batch, second, request.deadline).await.err();
        }
        let out = builder(&context, role);
        let part = round.read(out, second, broken.as_ref(), &context, snapshot, &mut refused);
        snapshot.send_modify(|s| s.parts.push(part));
    }

    let workers: Vec<_> = ALL
        .iter()
        .filter_map(|collector| match collector.how {
            How::Work(run) if (collector.when)(&context) != When::Never => Some((collector, run)),
            _ => None,
        })
        .collect();
    // All at once: whoever finds no time any more is seen to be missing.
    snapshot.send_modify(|s| workers.iter().for_each(|(c, _)| s.set(c.name, Progress::Pending)));
    let mut talk = Work {
        server,
        context,
        deadline: request.deadline,
        nodes: request.nodes,
        replies: work,
        refused: memory.refused.clone(),
        masters: None,
    };
    for (collector, run) in workers {
        if let Some(error) = &broken {
            snapshot.send_modify(|s| s.set(collector.name, Progress::Failed(error.kind())));
            continue;
        }
        let mut out = builder(&context, role);
        let outcome = run(&mut talk, &mut out).await;
        let part = Arc::new(out.finish());
        snapshot.send_modify(|s| s.parts.push(part));
        if let Err(Failure::Refused { what, kind, .. }) = &outcome
            && kind.is_lasting()
        {
            refused.push((what, *kind));
        }
        settle(collector, outcome, snapshot);
    }
    refused.extend(talk.refused);
    memory.refused.extend(refused);
    if let Some(error) = broken {
        blame(&error, snapshot);
    }
    Ok(())
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

/// The collectors that read replies and answer `when` like this.
fn readers(context: &Context<'_>, when: When) -> Vec<&'static Collector> {
    let reads = |c: &&&Collector| matches!(c.how, How::Read { .. }) && (c.when)(context) == when;
    ALL.iter().filter(reads).copied().collect()
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
fn learn(memory: &mut Memory, info: &Info<'_>) -> bool {
    let run_id = info.get("run_id").unwrap_or_default();
    let is_another = memory.run_id != run_id;
    if is_another {
        *memory = Memory { run_id: run_id.to_owned(), ..Memory::default() };
    }
    memory.server = Some(info.server());
    is_another
}

fn builder(context: &Context<'_>, role: &str) -> Builder {
    let mut out = Builder::with_namespace(&context.config.namespace);
    if context.config.role_label {
        out.constant_label("instance_role", role);
    }
    out
}

/// One pipelined round: who asked what.
struct Round {
    asked: Vec<(&'static Collector, Vec<Slot>)>,
}

impl Round {
    fn ask(collectors: Vec<&'static Collector>, context: &Context<'_>, batch: &mut Batch) -> Self {
        batch.clear();
        let mut asked = vec![];
        for collector in collectors {
            let How::Read { ask, .. } = collector.how else { continue };
            let mut asks = Asks { batch, memory: context.memory, slots: vec![] };
            ask(context, &mut asks);
            asked.push((collector, asks.slots));
        }
        Self { asked }
    }

    /// Drops the collectors that did not send everything because of what is remembered.
    fn forget_remembered(&mut self) {
        self.asked.retain(|(_, slots)| slots.iter().all(|slot| slot.sent.is_ok()));
    }

    /// Reads what was answered; who lacks an answer because the conversation is `broken` made nothing.
    fn read(
        &self,
        mut out: Builder,
        replies: &Replies,
        broken: Option<&Error>,
        context: &Context<'_>,
        snapshot: &watch::Sender<Snapshot>,
        refused: &mut Vec<(&'static str, Kind)>,
    ) -> Arc<Families> {
        for (collector, slots) in &self.asked {
            let How::Read { read, .. } = collector.how else { continue };
            let lacks_answer = |slot: &Slot| slot.sent.is_ok_and(|at| at >= replies.len());
            if let Some(error) = broken
                && slots.iter().any(lacks_answer)
            {
                snapshot.send_modify(|s| s.set(collector.name, Progress::Failed(error.kind())));
                continue;
            }
            let mark = out.mark();
            let outcome = read(context, &Answers { replies, slots }, &mut out);
            if outcome.is_err() {
                out.rollback(mark);
            }
            // Whether or not the collector could do without.
            refused.extend(slots.iter().filter_map(|slot| slot.refused_for_good(replies)));
            settle(collector, outcome, snapshot);
        }
        Arc::new(out.finish())
    }
}

impl Slot {
    /// What the server refused here for good.
    fn refused_for_good(&self, replies: &Replies) -> Option<(&'static str, Kind)> {
        let refusal = replies.get(*self.sent.as_ref().ok()?).and_then(Reply::error)?;
        Some((self.what, refusal.kind())).filter(|(_, kind)| kind.is_lasting())
    }
}

/// Notes how a collector went.
fn settle(collector: &Collector, outcome: Result<(), Failure>, snapshot: &watch::Sender<Snapshot>) {
    let progress = match outcome {
        Ok(()) => Progress::Done,
        Err(failure) => {
            let kind = failure.kind();
            match failure {
                Failure::Refused { .. } if kind.is_lasting() => {
                    warn!(collector = collector.name, error = %failure, "not asked again until the server restarts");
                }
                failure => {
                    debug!(collector = collector.name, error = %failure, "collector failed");
                    if let Failure::Broken(error) = &failure {
                        blame(error, snapshot);
                    }
                }
            }
            Progress::Failed(kind)
        }
    };
    snapshot.send_modify(|s| s.set(collector.name, progress));
}

/// Names the first thing that broke the conversation as what went wrong in this collection.
fn blame(error: &Error, snapshot: &watch::Sender<Snapshot>) {
    snapshot.send_modify(|s| {
        s.error.get_or_insert_with(|| (error.kind(), error.chain()));
    });
}
