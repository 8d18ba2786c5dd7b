//! What is asked of etcd, and what is made of the answers.
//!
//! All of it is done beside the loop, so that a call that hangs holds up nothing; the loop hears what became of each as a [`Told`].
//!
//! What a newcomer would get wrong: a write whose answer is missing may have been done. Nothing is sent again then: all is read
//! anew, and the plan decides by what stands there.

use super::watching::{REST, standing_claim};
use super::{End, Life};
use crate::config::peers::Value;
use crate::net::etcd::{Compare, Counts, Done, Error, Is, Keys, Kind, Op, Outcome, Page, Range, Txn};
use crate::peers::claims::{self, Claim};
use crate::peers::fence::Boottime;
use crate::peers::members;
use crate::peers::run::Coordination;
use crate::peers::shards::Shards;
use crate::telemetry::log;
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// How many calls about shards are under way at once.
const AT_ONCE: usize = 32;

/// The longest pause before all is read anew.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// What became of a call.
pub(super) enum Told {
    Kept { sent: Boottime, answer: Result<Duration, Error> },
    Claimed { shard: u8, answer: Result<Done, Error> },
    Released { shard: u8, answer: Result<Done, Error> },
    Listed { place: usize, answer: Result<Page, Error> },
    Registered { answer: Result<Done, Error> },
    Checked { known: i64, answer: Result<Done, Error> },
}

impl Life<'_> {
    /// Starts the calls whose time has come.
    pub(super) fn start_calls(&mut self) {
        let now = Instant::now();
        let patience = self.lease.ttl / 3;
        if now >= self.keep_due && !self.keeping {
            self.keeping = true;
            self.keep_due = now + patience;
            let (client, id, sent) = (self.client.clone(), self.lease.id, Boottime::now());
            self.calls.spawn(async move {
                Told::Kept { sent, answer: client.keep_alive(id, now + patience).await }
            });
        }
        // One after the other: what an older one says would come after what a newer one does.
        if self.listing == 0 && self.list_due.is_some_and(|due| now >= due) {
            self.list_due = None;
            self.listing = self.watches.len();
            for (place, watched) in self.watches.iter_mut().enumerate() {
                watched.watch = None;
                let (client, prefix) = (self.client.clone(), watched.prefix.clone());
                self.calls.spawn(async move {
                    Told::Listed { place, answer: client.all(prefix, now + patience).await }
                });
            }
        }
        if !self.registering && self.register_due.is_some_and(|due| now >= due) {
            self.register_due = None;
            self.registering = true;
            let then = self.said().map(|(key, value)| Op::Put { key, value, lease: self.lease.id });
            let (client, txn) = (self.client.clone(), Txn { then: then.into(), ..Txn::default() });
            self.calls
                .spawn(async move { Told::Registered { answer: client.txn(txn, now + patience).await } });
        }
        if !self.checking && now >= self.check_due {
            self.checking = true;
            self.check_due = now + self.lease.ttl;
            let then = self.said().map(|(key, _)| Op::Get(Range::of(Keys::one(key))));
            let (client, txn) = (self.client.clone(), Txn { then: then.into(), ..Txn::default() });
            let known = self.revision;
            self.calls
                .spawn(async move { Told::Checked { known, answer: client.txn(txn, now + patience).await } });
        }
    }

    /// What became of the calls that are under way is not known.
    pub(super) fn forget_calls(&mut self) {
        (self.busy, self.listing) = (Shards::NONE, 0);
        (self.keeping, self.registering, self.checking) = (false, false, false);
        self.list_due = Some(Instant::now());
    }

    /// Who we are is to be written, or written again.
    pub(super) fn register(&mut self) {
        self.register_due = Some(Instant::now());
    }

    /// What is to stand under our keys: for others, and for those who share.
    fn said(&self) -> [(Vec<u8>, Bytes); 2] {
        let said = members::written(&self.settings.own);
        let plain = match self.settings.etcd.value {
            Value::Json => said.clone(),
            Value::Url => members::address(&self.settings.own.url),
        };
        let own = format!("{}{}", self.settings.members, self.settings.own.id);
        [(self.settings.registration().into(), plain.into()), (own.into(), said.into())]
    }

    /// Whether a call about a shard may begin; then one has.
    fn begins(&mut self, shard: u8) -> bool {
        self.busy.len() < AT_ONCE && self.busy.insert(shard)
    }

    pub(super) fn claim(&mut self, shard: u8) {
        if !self.begins(shard) {
            return;
        }
        let key = claims::key(&self.settings.claims, shard).into_bytes();
        let value = claims::written(&self.settings.own.id).into();
        let txn = Txn {
            if_: vec![Compare { key: key.clone(), is: Is::Created(0) }],
            then: vec![
                Op::Put { key: key.clone(), value, lease: self.lease.id },
                // It is read already, or of no use any more.
                Op::Delete(Keys::one(self.settings.left(shard))),
            ],
            else_: vec![Op::Get(Range::of(Keys::one(key)))],
        };
        let (client, until) = (self.client.clone(), Instant::now() + self.lease.ttl / 3);
        self.calls.spawn(async move { Told::Claimed { shard, answer: client.txn(txn, until).await } });
    }

    pub(super) fn release(&mut self, shard: u8) {
        let claim = self.claims.get(shard).filter(|claim| claim.lease == self.lease.id);
        let Some(revision) = claim.map(|claim| claim.mod_revision) else { return };
        if !self.begins(shard) {
            return;
        }
        let key = claims::key(&self.settings.claims, shard).into_bytes();
        let txn = Txn {
            if_: vec![Compare { key: key.clone(), is: Is::Modified(revision) }],
            then: vec![Op::Delete(Keys::one(key))].into_iter().chain(self.said_left(shard)).collect(),
            else_: vec![],
        };
        let (client, until) = (self.client.clone(), Instant::now() + self.lease.ttl / 3);
        self.calls.spawn(async move { Told::Released { shard, answer: client.txn(txn, until).await } });
    }

    /// Says since when nothing of a shard begins, for whoever has it next.
    pub(super) fn said_left(&self, shard: u8) -> Option<Op> {
        let since = self.of.seen.borrow().quiet.get(&shard).copied()?;
        let (key, value) = (self.settings.left(shard).into_bytes(), since.to_string().into());
        Some(Op::Put { key, value, lease: self.lease.id })
    }

    /// A call was answered, or was not.
    pub(super) fn told(&mut self, told: Told) -> Option<End> {
        match told {
            Told::Kept { sent, answer } => {
                self.keeping = false;
                match answer {
                    Ok(_) => {
                        self.sent = sent;
                        if self.doubt.is_some_and(|doubt| sent >= doubt) {
                            self.doubt = None;
                            info!("etcd has confirmed the lease");
                        }
                        if self.doubt.is_some() {
                            self.keep_due = Instant::now();
                        }
                        self.answered();
                    }
                    Err(Error::NoLease) => return Some(End::Lost),
                    Err(error) => {
                        self.silent(&error);
                        // Sooner than at the next beat of the lease, for that one is being missed.
                        let pause = (self.lease.ttl / 10).min(Duration::from_secs(1));
                        self.keep_due = Instant::now() + pause.mul_f64(0.5 + fastrand::f64() / 2.0);
                    }
                }
            }
            Told::Claimed { shard, answer } => {
                self.busy.remove(shard);
                match answer {
                    Ok(done) => self.claimed(shard, &done),
                    Err(Error::NoLease) => return Some(End::Lost),
                    Err(error) => self.unsure(&error),
                }
            }
            Told::Released { shard, answer } => {
                self.busy.remove(shard);
                match answer {
                    Ok(done) if done.succeeded => {
                        self.claims.delete(shard, done.revision);
                        self.of.board.note(|status| status.released += 1);
                    }
                    Ok(_) => self.list_due = Some(Instant::now()),
                    Err(Error::NoLease) => return Some(End::Lost),
                    Err(error) => self.unsure(&error),
                }
            }
            Told::Listed { place, answer } => {
                self.listing = self.listing.saturating_sub(1);
                match answer {
                    Ok(page) => {
                        self.list_failures = 0;
                        self.revision = self.revision.max(page.revision);
                        self.listed(place, &page);
                    }
                    Err(error) => {
                        self.list_failures += 1;
                        self.unsure(&error);
                    }
                }
            }
            Told::Registered { answer } => {
                self.registering = false;
                match answer {
                    Ok(done) => {
                        self.registered = done.revision;
                        self.revision = self.revision.max(done.revision);
                        self.cluster = if self.cluster == 0 { done.cluster } else { self.cluster };
                        self.of.board.note(|status| (status.is_registered, status.error) = (true, None));
                    }
                    Err(Error::NoLease) => return Some(End::Lost),
                    Err(error) => {
                        self.of.failed(&error);
                        let pause = (self.lease.ttl / 5).mul_f64(0.5 + fastrand::f64());
                        self.register_due.get_or_insert(Instant::now() + pause);
                    }
                }
            }
            Told::Checked { known, answer } => {
                self.checking = false;
                match answer {
                    Ok(done) if self.is_another(&done, known) => {
                        let (from, to) = (known, done.revision);
                        warn!(from, to, "etcd is not what it was, as after a restore: all begins anew");
                        let message =
                            format!("etcd is not what it was: revision {to} after {from}, all begins anew");
                        self.of.say(None, None, message);
                        return Some(End::Changed);
                    }
                    Ok(done) => self.checked(&done),
                    Err(error) => {
                        self.of.failed(&error);
                        if is_away(error.kind()) {
                            self.check_soon();
                        }
                    }
                }
            }
        }
        None
    }

    /// Whether that is an answer of another cluster, or of one that has gone back.
    fn is_another(&mut self, done: &Done, known: i64) -> bool {
        if self.cluster == 0 {
            self.cluster = done.cluster;
        }
        let is_other = done.cluster != 0 && done.cluster != self.cluster;
        is_other || (done.revision > 0 && done.revision < known)
    }

    /// Etcd was away, or it may have been: who knows what it is now.
    pub(super) fn check_soon(&mut self) {
        let pause = (self.lease.ttl / 5).min(REST).mul_f64(0.5 + fastrand::f64());
        self.check_due = self.check_due.min(Instant::now() + pause);
    }

    /// What stands under our keys was read: what is missing, or not what we say, is written again. What another process wrote under
    /// our name is left alone.
    fn checked(&mut self, done: &Done) {
        let own = self.lease.id;
        let found = done.outcomes.iter().map(|outcome| match outcome {
            Outcome::Got(page) => page.kvs.first(),
            _ => None,
        });
        let stands = found
            .zip(self.said())
            .all(|(found, (_, value))| found.is_some_and(|kv| kv.lease != own || kv.value == value));
        if stands {
            self.of.board.note(|status| status.error = None);
        } else if !self.registering {
            self.of.board.note(|status| status.is_registered = false);
            self.register();
        }
        // Where a watch has not told.
        if let (Some(Outcome::Got(page)), false) = (done.outcomes.last(), self.registering) {
            let stands = page.kvs.first().map(|kv| (kv.lease, kv.mod_revision));
            self.look_at_own(&self.settings.own.id.clone(), stands);
        }
    }

    fn claimed(&mut self, shard: u8, done: &Done) {
        if done.succeeded {
            let (owner, lease) = (self.settings.own.id.clone(), self.lease.id);
            self.claims.put(shard, Claim { owner, lease, mod_revision: done.revision });
            self.of.board.note(|status| status.claimed += 1);
            return;
        }
        self.of.board.note(|status| status.beaten += 1);
        if let Some(Outcome::Got(page)) = done.outcomes.first() {
            page.kvs.iter().for_each(|kv| self.claims.put(shard, standing_claim(kv)));
        }
    }

    /// A call may have been done or not: all is read anew, in a moment.
    pub(super) fn unsure(&mut self, error: &Error) {
        self.of.failed(error);
        let rest =
            REST.saturating_mul(1 << self.list_failures.min(8)).min(LONGEST_REST.max(self.lease.ttl / 3));
        self.list_due.get_or_insert(Instant::now() + rest.mul_f64(0.5 + fastrand::f64()));
    }

    pub(super) fn answered(&mut self) {
        let was_silent = std::mem::take(&mut self.is_silent);
        self.of.board.note(|status| {
            (status.is_up, status.answered) = (true, Some(std::time::Instant::now()));
            // What is over is not shown as if it were so.
            status.error = status.error.take().filter(|(kind, _)| !is_away(*kind));
        });
        if was_silent {
            self.check_soon();
            self.list_failures = 0;
            let is_due = std::mem::take(&mut self.has_missed) || self.list_due.is_some();
            self.list_due = is_due.then(Instant::now);
            info!("etcd answers again");
            self.of.say(Some("frozen"), Some("ok"), "etcd answers again".into());
        }
    }

    fn silent(&mut self, error: &Error) {
        self.of.failed(error);
        if !std::mem::replace(&mut self.is_silent, true) {
            let shown = log::chain(error);
            warn!(error = shown, "etcd does not answer: what is ours stays so, nothing is taken");
            self.of.say(Some("ok"), Some("frozen"), format!("etcd does not answer: {shown}"));
        }
    }
}

impl Coordination {
    /// A call failed.
    pub(super) fn failed(&self, error: &Error) {
        let gone = is_away(error.kind());
        let told = (error.kind(), log::chain(error));
        let is_new = self.board.status().error.as_ref() != Some(&told);
        if is_new {
            info!(error = told.1, "a call to etcd failed");
        }
        self.board.note(|status| {
            status.is_up &= !gone;
            status.error = Some(told);
        });
    }

    /// What a client has counted since.
    pub(super) fn count(&self, now: &Counts, before: &Counts) {
        self.board.note(|status| {
            status.calls += now.calls - before.calls;
            for ((all, now), before) in status.failures.iter_mut().zip(now.failures).zip(before.failures) {
                *all += now - before;
            }
        });
    }
}

/// Whether etcd as a whole does nothing for us then.
fn is_away(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Unreachable
            | Kind::Silent
            | Kind::Broken
            | Kind::Tls
            | Kind::Local
            | Kind::Auth
            | Kind::Unavailable
            | Kind::NoLeader
    )
}
