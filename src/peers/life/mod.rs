//! One lease: registered under it, kept alive, and what is claimed under it.
//!
//! [`Life`] looks at what etcd says, has the [`Plan`] decide, and does it. Here are the loop and the fence.
//!
//! - `calls`: what is asked of etcd, and what is made of the answers
//! - `watching`: what stands there, by lists and watches
//! - `twin`: what stands under our own name
//! - `ending`: what is handed over at the end
//!
//! What a newcomer would get wrong: from when a keep-alive was *sent* the lease is good for its TTL, not from when it was
//! answered. And a beat that comes late says that we were asleep or held up: then nothing is certain until etcd has answered a
//! keep-alive that was sent after it.

mod calls;
mod ending;
mod twin;
mod watching;

use super::claims::Claims;
use super::fence::Boottime;
use super::members::Members;
use super::plan::{self, Plan};
use super::run::{Coordination, Settings};
use super::shards::{SHARDS, Shards};
use super::share::Standing;
use crate::config::peers::OnLoss;
use crate::net::etcd::{Client, Counts, Lease};
use calls::Told;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use watching::{Watched, next_change, watched};

/// How long what becomes ours is gathered before it is published.
const GATHER: Duration = Duration::from_millis(100);

/// Why a life ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// There was none: etcd did not do as it was asked.
    Unborn,
    /// The lease has ended against our will.
    Lost,
    /// The configuration wants another one.
    Changed,
    /// We are stopping.
    Stopped,
}

/// One lease, and what we do while it lasts.
pub(super) struct Life<'a> {
    of: &'a mut Coordination,
    settings: Settings,
    client: Client,
    lease: Lease,
    members: Members,
    claims: Claims,
    /// Of shards that were handed over: since when whoever had them begins nothing, in milliseconds since 1970.
    left: BTreeMap<u8, u64>,
    plan: Plan,
    watches: Vec<Watched>,
    calls: JoinSet<Told>,
    /// Shards about which a call is under way.
    busy: Shards,
    /// When the last keep-alive that was answered was sent.
    sent: Boottime,
    /// When the loop was here last.
    beat: Boottime,
    /// What was sent before that does not count, for we were asleep.
    doubt: Option<Boottime>,
    keep_due: Instant,
    /// Whether a keep-alive is under way.
    keeping: bool,
    /// Whether who we are is to be written, and when at the earliest.
    register_due: Option<Instant>,
    /// Whether that is under way.
    registering: bool,
    /// The revision in which it was written last; 0: not yet.
    registered: i64,
    check_due: Instant,
    /// Whether our keys are being looked at.
    checking: bool,
    /// Whether all is to be read anew, and when at the earliest.
    list_due: Option<Instant>,
    /// How many lists are under way.
    listing: usize,
    /// How often one failed, in a row.
    list_failures: u32,
    /// The revision that etcd has told at least.
    revision: i64,
    /// The id of the cluster; 0: it is not known yet.
    cluster: u64,
    /// When what is ours was published last.
    published: Instant,
    is_silent: bool,
    /// Whether it was, and not all has been read anew since.
    was_silent: bool,
    /// Whether something went while etcd was silent about our lease, and was not taken in.
    has_missed: bool,
    /// Since when what there is has to be read.
    unread_since: Option<Instant>,
    /// Whether another process goes by our name, as was told last.
    has_twin: bool,
    /// Whether somebody wrote over our key.
    is_overwritten: bool,
    /// Since when there are claims of our name that are not ours.
    twin_since: Option<Instant>,
    /// Who is configured otherwise, since when, and whether that was told.
    differ: BTreeMap<String, (Instant, bool)>,
    /// What was counted of the client so far.
    counted: Counts,
}

impl<'a> Life<'a> {
    /// Lives one life.
    pub(super) async fn live(
        of: &'a mut Coordination,
        settings: Settings,
        client: Client,
        before: Shards,
        stop: &CancellationToken,
    ) -> (End, Shards) {
        let (sent, until) = (Boottime::now(), Instant::now() + settings.etcd.ttl / 2);
        let granted = tokio::select! {
            granted = client.grant(settings.etcd.ttl, until) => granted,
            Ok(()) = of.world.config.changed() => return (End::Changed, before),
            () = stop.cancelled() => return (End::Stopped, before),
        };
        let lease = match granted {
            Ok(lease) => lease,
            Err(error) => {
                of.count(&client.counts(), &Counts::default());
                of.failed(&error);
                return (End::Unborn, before);
            }
        };
        info!(lease = format!("{:x}", lease.id), ttl = ?lease.ttl, id = settings.own.id, "a lease from etcd");
        let now = Instant::now();
        let mut life = Self {
            watches: watched(&settings),
            of,
            settings,
            client,
            lease,
            members: Members::none(now),
            claims: Claims::default(),
            left: BTreeMap::new(),
            plan: Plan::new(now, before),
            calls: JoinSet::new(),
            busy: Shards::NONE,
            sent,
            beat: Boottime::now(),
            doubt: None,
            keep_due: now + lease.ttl / 3,
            keeping: false,
            register_due: Some(now),
            registering: false,
            registered: 0,
            check_due: now + lease.ttl,
            checking: false,
            list_due: Some(now),
            listing: 0,
            list_failures: 0,
            revision: 0,
            cluster: 0,
            published: now,
            is_silent: false,
            was_silent: false,
            has_missed: false,
            unread_since: None,
            has_twin: false,
            is_overwritten: false,
            twin_since: None,
            differ: BTreeMap::new(),
            counted: Default::default(),
        };
        life.answered();
        let end = life.run(stop).await;
        let had = life.end(&end).await;
        (end, had)
    }

    async fn run(&mut self, stop: &CancellationToken) -> End {
        loop {
            self.keep_fence();
            self.start_calls();
            self.decide();
            self.tell_of_differences();
            self.count();
            let beat = Instant::now() + (self.lease.ttl / 10).min(Duration::from_millis(500));
            tokio::select! {
                Some(told) = self.calls.join_next() => {
                    let ended = match told {
                        Ok(told) => self.told(told),
                        Err(fault) => {
                            self.of.world.metrics.panics.increment();
                            tracing::error!(error = %fault, "a call to etcd panicked: please report this");
                            self.forget_calls();
                            None
                        }
                    };
                    if let Some(end) = ended {
                        return end;
                    }
                }
                (place, changes) = next_change(&mut self.watches) => self.changed(place, changes),
                Ok(()) = self.of.world.config.changed() => {
                    if let Some(end) = self.reconcile() {
                        return end;
                    }
                }
                // Who sends this is there as long as somebody collects.
                Ok(()) = self.of.seen.changed() => {}
                Ok(()) = self.of.world.hold.changed() => {}
                () = sleep_until(beat) => {}
                () = stop.cancelled() => return End::Stopped,
            }
        }
    }

    /// Moves the end of the fence, or leaves it where it is.
    fn keep_fence(&mut self) {
        let now = Boottime::now();
        let grace = self.lease.ttl * 2 / 3;
        if now.0.saturating_sub(self.beat.0) > grace {
            let slept = now.0.saturating_sub(self.beat.0);
            warn!(slept = ?slept, "asleep or held up: nothing is collected until etcd has confirmed the lease");
            self.of.board.note(|status| status.sleeps += 1);
            self.doubt = Some(now);
            self.keep_due = Instant::now();
            self.of.fence.close();
        }
        self.beat = now;
        if !self.settings.registry.sharding.enabled {
            return self.of.fence.open_for_ever();
        }
        if self.doubt.is_some() {
            return;
        }
        let from = match self.settings.registry.sharding.on_etcd_loss {
            OnLoss::Freeze => now,
            OnLoss::Stop => self.sent,
        };
        self.of.fence.open_until(Boottime(from.0 + grace));
    }

    /// Has the plan say what to do, publishes what is ours, and does it.
    fn decide(&mut self) {
        if !self.settings.registry.sharding.enabled {
            self.publish(Shards::ALL, Shards::NONE);
            return;
        }
        self.look_for_twin();
        // What there is has not been read yet, or may be old. What leaves goes on leaving: its release may be on its way.
        self.was_silent |= self.is_silent;
        self.was_silent &= self.is_silent || self.is_unread() || self.list_due.is_some();
        let (now, is_unread) = (Instant::now(), self.is_unread());
        let frozen = self.is_silent || is_unread || self.doubt.is_some();
        // To read all anew takes a moment, in which nothing that leaves comes back; what takes longer is a loss.
        self.unread_since = self.unread_since.or(Some(now)).filter(|_| is_unread);
        let is_lost = self.is_silent || self.unread_since.is_some_and(|since| now - since > self.lease.ttl);
        let sharding = &self.settings.registry.sharding;
        let step = self.plan.step(&plan::View {
            now,
            members: &self.members,
            claims: &self.claims,
            id: &self.settings.own.id,
            lease: self.lease.id,
            seen: self.of.seen.borrow_and_update().clone(),
            hold: *self.of.world.hold.borrow_and_update(),
            frozen,
            keeps: is_lost && sharding.on_etcd_loss == OnLoss::Freeze,
            settings: plan::Settings {
                settle: sharding.settle,
                min_peers: sharding.min_peers,
                interval: self.settings.interval,
                patience: self.lease.ttl,
            },
        });
        // Many are claimed one by one: whoever collects is not told of each.
        if self.busy.is_empty() || self.published.elapsed() >= GATHER {
            let number = self.publish(self.claims.under(self.lease.id), step.leaving);
            self.plan.told(number);
            self.published = Instant::now();
        }
        for shard in step.claim.iter() {
            self.claim(shard);
        }
        for shard in step.release.iter() {
            self.release(shard);
        }
    }

    /// Publishes what is ours, with who else is there; the number of that.
    fn publish(&self, ours: Shards, leaving: Shards) -> u64 {
        // Until all is read anew, what we have may be another one's since.
        let is_unread = self.was_silent && self.is_unread();
        let mut owners = [None; SHARDS];
        for (shard, claim) in self.claims.iter() {
            owners[usize::from(shard)] = self.members.place(&claim.owner);
        }
        self.of.publish(Standing {
            number: 0,
            ours,
            leaving,
            peers: self.members.peers().to_vec(),
            owners: Arc::new(owners),
            own: self.members.place(&self.settings.own.id),
            left: Arc::new(
                self.left.iter().filter(|(shard, _)| ours.has(**shard)).map(|(a, b)| (*a, *b)).collect(),
            ),
            frozen: self.is_silent || is_unread,
        })
    }

    /// The configuration changed.
    fn reconcile(&mut self) -> Option<End> {
        let Some(wanted) = self.of.settings() else { return Some(End::Changed) };
        if !self.settings.is_same_life(&wanted) {
            return Some(End::Changed);
        }
        let says_other = self.settings.own != wanted.own || self.settings.etcd.value != wanted.etcd.value;
        self.settings = wanted;
        if says_other {
            self.register();
        }
        None
    }

    fn count(&mut self) {
        let now = self.client.counts();
        self.of.count(&now, &self.counted);
        self.of.board.note(|status| status.broken = self.members.broken());
        self.counted = now;
    }
}
