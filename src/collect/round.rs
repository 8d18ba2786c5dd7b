//! One pipelined round: what every collector asks goes out together, and what comes back is read by each for
//! itself.

use super::snapshot::{Progress, Snapshot};
use super::{ALL, Answers, Asks, Collector, Context, Failure, How, Slot, When, plain_name};
use crate::connect::{Batch, Error, Kind, Replies, Reply};
use exposition::{Builder, Families};
use std::sync::Arc;
use tokio::sync::watch;
use tracing::{debug, warn};

/// The collectors that read replies and answer `when` like this.
pub(super) fn readers(context: &Context<'_>, when: When) -> Vec<&'static Collector> {
    let reads = |c: &&&Collector| matches!(c.how, How::Read { .. }) && (c.when)(context) == when;
    ALL.iter().filter(reads).copied().collect()
}

/// Who asked what.
pub(super) struct Round {
    pub(super) asked: Vec<(&'static Collector, Vec<Slot>)>,
}

impl Round {
    /// Fills the batch with what these collectors ask.
    pub(super) fn ask(collectors: Vec<&'static Collector>, context: &Context<'_>, batch: &mut Batch) -> Self {
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
    pub(super) fn forget_remembered(&mut self) {
        self.asked.retain(|(_, slots)| slots.iter().all(|slot| slot.sent.is_ok()));
    }

    /// Reads what was answered; who lacks an answer because the conversation is `broken` made nothing.
    pub(super) fn read(
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
        // Without INFO there is nothing: it is asked whatever was said before.
        let may_do_without = self.what != "INFO";
        let reply = replies.get(*self.sent.as_ref().ok()?).filter(|_| may_do_without);
        let refusal = reply.and_then(Reply::error)?;
        let what = if refusal.is_unknown_command() { plain_name(self.what) } else { self.what };
        Some((what, refusal.kind())).filter(|(_, kind)| kind.is_lasting())
    }
}

/// Notes how a collector went.
pub(super) fn settle(
    collector: &Collector,
    outcome: Result<(), Failure>,
    snapshot: &watch::Sender<Snapshot>,
) {
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
pub(super) fn blame(error: &Error, snapshot: &watch::Sender<Snapshot>) {
    snapshot.send_modify(|s| {
        s.error.get_or_insert_with(|| (error.kind(), error.chain()));
    });
}
