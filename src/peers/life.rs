//! One lease: registered under it, kept alive, and what is claimed under it.
//!
//! [`Life`] looks at what etcd says, has the [`Plan`] decide, and does it. All that it asks of etcd is done beside the
//! loop, so that a call that hangs holds up nothing, least of all the beat that keeps the fence open.
//!
//! What a newcomer would get wrong: from when a keep-alive was *sent* the lease is good for its TTL, not from when it was
//! answered. And a beat that comes late says that we were asleep or held up: then nothing is certain until etcd has answered a
//! keep-alive that was sent after it.

use super::claims::{self, Claim, Claims};
use super::families::differing;
use super::fence::Boottime;
use super::members::{self, Members};
use super::plan::{self, Plan};
use super::run::{Coordination, Settings, farewell};
use super::shards::{SHARDS, Shards};
use super::share::{Peer, Standing};
use crate::config::peers::{OnLoss, Value};
use crate::net::etcd::{
    Change, Changes, Client, Compare, Counts, Done, Error, Is, Keys, Kind, Kv, Lease, Op, Outcome, Page,
    Range, Txn, Watch,
};
use crate::telemetry::log;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How many calls about shards are under way at once.
const AT_ONCE: usize = 32;

/// How many keys one call writes: etcd takes 128 unless told otherwise.
const MOST_AT_ONCE: usize = 100;

/// How long handing over may wait for what is under way, and as long again for etcd.
const LONGEST_FAREWELL: Duration = Duration::from_secs(2);

/// How long what becomes ours is gathered before it is published.
const GATHER: Duration = Duration::from_millis(100);

/// How long a watch that failed rests.
const REST: Duration = Duration::from_millis(500);

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
    check_due: Instant,
    /// Whether all is to be read anew, and when at the earliest.
    list_due: Option<Instant>,
    /// When what is ours was published last.
    published: Instant,
    is_silent: bool,
    /// Whether it was, and not all has been read anew since.
    was_silent: bool,
    /// Whether another process goes by our name, as was told last.
    has_twin: bool,
    /// Whether somebody wrote over our key.
    is_overwritten: bool,
    /// Since when there are claims of our name that are not ours.
    twin_since: Option<Instant>,
    /// What was counted of the client so far.
    counted: Counts,
}

/// A watch of one prefix.
struct Watched {
    prefix: String,
    watch: Option<Watch>,
    /// Not to be polled before.
    rest: Option<Instant>,
}

/// What became of a call.
enum Told {
    Kept { sent: Boottime, answer: Result<Duration, Error> },
    Claimed { shard: u8, answer: Result<Done, Error> },
    Released { shard: u8, answer: Result<Done, Error> },
    Listed { place: usize, answer: Result<Page, Error> },
    Registered { answer: Result<Done, Error> },
    Checked { answer: Result<Option<Kv>, Error> },
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
            _ = of.world.config.changed() => return (End::Changed, before),
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
            check_due: now + lease.ttl,
            list_due: Some(now),
            published: now,
            is_silent: false,
            was_silent: false,
            has_twin: false,
            is_overwritten: false,
            twin_since: None,
            counted: Default::default(),
        };
        life.answered();
        life.register();
        let end = life.run(stop).await;
        let had = life.end(&end).await;
        (end, had)
    }

    async fn run(&mut self, stop: &CancellationToken) -> End {
        loop {
            self.keep_fence();
            self.start_calls();
            self.decide();
            self.count();
            let beat = Instant::now() + (self.lease.ttl / 10).min(Duration::from_millis(500));
            tokio::select! {
                Some(told) = self.calls.join_next() => {
                    let ended = match told {
                        Ok(told) => self.told(told),
                        Err(fault) => {
                            self.of.world.metrics.panics.increment();
                            tracing::error!(error = %fault, "a call to etcd panicked: please report this");
                            self.list_due = Some(Instant::now());
                            None
                        }
                    };
                    if let Some(end) = ended {
                        return end;
                    }
                }
                (place, changes) = next_change(&mut self.watches) => self.changed(place, changes),
                changed = self.of.world.config.changed() => {
                    if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
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

    /// Starts the calls whose time has come.
    fn start_calls(&mut self) {
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
        if self.list_due.is_some_and(|due| now >= due) {
            self.list_due = None;
            for (place, watched) in self.watches.iter_mut().enumerate() {
                watched.watch = None;
                let (client, prefix) = (self.client.clone(), watched.prefix.clone());
                self.calls.spawn(async move {
                    Told::Listed { place, answer: client.all(prefix, now + patience).await }
                });
            }
        }
        if now >= self.check_due {
            self.check_due = now + self.lease.ttl;
            let (client, key) = (self.client.clone(), self.settings.registration());
            self.calls.spawn(async move {
                let read = client.get(key, now + patience).await;
                Told::Checked { answer: read.map(|(kv, _)| kv) }
            });
        }
    }

    /// Writes who we are.
    fn register(&mut self) {
        let said = members::written(&self.settings.own);
        let plain = match self.settings.etcd.value {
            Value::Json => said.clone(),
            Value::Url => members::address(&self.settings.own.url),
        };
        let lease = self.lease.id;
        let put = |key: String, value: String| Op::Put { key: key.into(), value: value.into(), lease };
        let own = format!("{}{}", self.settings.members, self.settings.own.id);
        let then = vec![put(self.settings.registration(), plain), put(own, said)];
        let (client, until) = (self.client.clone(), Instant::now() + self.lease.ttl / 3);
        self.calls.spawn(async move {
            let txn = Txn { then, ..Txn::default() };
            Told::Registered { answer: client.txn(txn, until).await }
        });
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
        let frozen = self.is_silent || self.is_unread() || self.doubt.is_some();
        let sharding = &self.settings.registry.sharding;
        let step = self.plan.step(&plan::View {
            now: Instant::now(),
            members: &self.members,
            claims: &self.claims,
            id: &self.settings.own.id,
            lease: self.lease.id,
            seen: self.of.seen.borrow_and_update().clone(),
            hold: *self.of.world.hold.borrow_and_update(),
            frozen,
            keeps: sharding.on_etcd_loss == OnLoss::Freeze,
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

    /// Whether what there is has not been read yet, or has to be read anew.
    fn is_unread(&self) -> bool {
        self.watches.iter().any(|watched| watched.watch.is_none())
    }

    /// Whether a call about a shard may begin; then one has.
    fn begins(&mut self, shard: u8) -> bool {
        self.busy.len() < AT_ONCE && self.busy.insert(shard)
    }

    fn claim(&mut self, shard: u8) {
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

    fn release(&mut self, shard: u8) {
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
    fn said_left(&self, shard: u8) -> Option<Op> {
        let since = self.of.seen.borrow().quiet.get(&shard).copied()?;
        let (key, value) = (self.settings.left(shard).into_bytes(), since.to_string().into());
        Some(Op::Put { key, value, lease: self.lease.id })
    }

    /// Hands over all that is ours, as far as that can be done in a moment: whoever collects finishes what is under way, and the
    /// others are told since when nothing begins.
    async fn hand_over(&mut self) {
        if !self.settings.registry.sharding.enabled || self.is_silent || self.doubt.is_some() {
            return;
        }
        let ours = self.claims.under(self.lease.id);
        let number = self.publish(ours, ours);
        let until = Instant::now() + LONGEST_FAREWELL.min(self.lease.ttl / 3);
        let mut seen = self.of.seen.clone();
        loop {
            let is_quiet = {
                let seen = seen.borrow_and_update();
                seen.number >= number && seen.busy.is_empty()
            };
            if is_quiet || !matches!(timeout_at(until, seen.changed()).await, Ok(Ok(()))) {
                break;
            }
        }
        let said: Vec<_> = ours.iter().filter_map(|shard| self.said_left(shard)).collect();
        let until = Instant::now() + LONGEST_FAREWELL.min(self.lease.ttl / 3);
        for then in said.chunks(MOST_AT_ONCE) {
            let txn = Txn { then: then.to_vec(), ..Txn::default() };
            if let Err(error) = self.client.txn(txn, until).await {
                return self.of.failed(&error);
            }
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

    /// A watch told something.
    fn changed(&mut self, place: usize, changes: Result<Changes, Error>) {
        match changes {
            Ok(changes) => {
                let before = self.members.peers().to_vec();
                changes.events.iter().for_each(|change| self.take_in(change));
                self.tell_of_peers(&before);
            }
            Err(Error::Compacted { .. }) => self.list_due = Some(Instant::now()),
            Err(error) => {
                self.of.failed(&error);
                self.watches[place].rest = Some(Instant::now() + REST.mul_f64(0.5 + fastrand::f64()));
            }
        }
    }

    /// A key changed.
    fn take_in(&mut self, change: &Change) {
        let key = change.key();
        let id =
            key.strip_prefix(self.settings.members.as_bytes()).and_then(|id| std::str::from_utf8(id).ok());
        let shard = claims::shard(&self.settings.claims, key);
        if let (Change::Put(kv), Some(shard)) = (change, self.settings.left_of(key)) {
            return self.note_left(shard, &kv.value);
        }
        match (change, id, shard) {
            (Change::Put(kv), Some(id), _) => {
                self.members.put(id, &kv.value, kv.mod_revision, Instant::now());
                self.look_at_own(id, Some(kv.lease));
            }
            (Change::Delete { mod_revision, .. }, Some(id), _) => {
                self.members.delete(id, *mod_revision, Instant::now());
                self.look_at_own(id, None);
            }
            (Change::Put(kv), _, Some(shard)) => {
                if kv.lease != self.lease.id {
                    self.left.remove(&shard);
                }
                self.claims.put(shard, claim(kv));
            }
            (Change::Delete { mod_revision, .. }, _, Some(shard)) => self.claims.delete(shard, *mod_revision),
            _ => {}
        }
    }

    /// Since when whoever has a shard begins nothing of it. What cannot be read says nothing.
    fn note_left(&mut self, shard: u8, value: &[u8]) {
        let since = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        if let Some(since) = since {
            self.left.insert(shard, since);
        }
    }

    /// Who came or went.
    fn tell_of_peers(&self, before: &[Arc<Peer>]) {
        let now = self.members.peers();
        let has = |peers: &[Arc<Peer>], id: &str| peers.iter().any(|peer| peer.id == id);
        for Peer { id, .. } in before.iter().map(|peer| &**peer).filter(|peer| !has(now, &peer.id)) {
            self.of.say(Some(id), None, format!("{id} is gone"));
        }
        for Peer { id, .. } in now.iter().map(|peer| &**peer).filter(|peer| !has(before, &peer.id)) {
            self.of.say(None, Some(id), format!("{id} is there"));
        }
        let differ =
            |peers| differing(peers, Some(&self.settings.own)).map(String::from).collect::<BTreeSet<_>>();
        let (differed, differ) = (differ(before), differ(now));
        for id in differ.difference(&differed) {
            self.of.say(None, Some(id), format!("{id} is configured otherwise than we are"));
        }
        for id in differed.difference(&differ) {
            self.of.say(Some(id), None, format!("{id} is not configured otherwise any more, or gone"));
        }
    }

    /// What stands under our own name: our lease, or that of another process that goes by it. One that is gone though our lease
    /// lives is put again.
    fn look_at_own(&mut self, id: &str, lease: Option<i64>) {
        if id != self.settings.own.id {
            return;
        }
        self.is_overwritten = lease.is_some_and(|lease| lease != self.lease.id);
        self.of.board.note(|status| status.is_registered &= lease.is_some());
        self.look_for_twin();
        if lease.is_none() {
            self.register();
        }
    }

    /// Whether another process goes by our name: it has written over our key, or we over its, and then its claims stay longer
    /// than those that we left behind when we started again.
    fn look_for_twin(&mut self) {
        let (id, own) = (&self.settings.own.id, self.lease.id);
        let is_of_twin = |claim: &Claim| claim.owner == *id && claim.lease != own && claim.lease != 0;
        let has_claims = self.claims.iter().any(|(_, claim)| is_of_twin(claim));
        self.twin_since = self.twin_since.or(Some(Instant::now())).filter(|_| has_claims);
        let stays = self.twin_since.is_some_and(|since| since.elapsed() > self.lease.ttl * 2);
        let has_twin = self.is_overwritten || stays;
        if std::mem::replace(&mut self.has_twin, has_twin) == has_twin {
            return;
        }
        self.of.board.note(|status| status.has_twin = has_twin);
        if has_twin {
            warn!(id, "another process is registered by this name: each needs an advertise of its own");
            self.of.say(Some(id), Some(id), format!("another process is registered as {id}"));
        } else {
            self.of.say(Some(id), None, format!("no other process is registered as {id} any more"));
        }
    }

    /// A call was answered, or was not.
    fn told(&mut self, told: Told) -> Option<End> {
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
            Told::Listed { place, answer } => match answer {
                Ok(page) => self.listed(place, &page),
                Err(error) => self.unsure(&error),
            },
            Told::Registered { answer } => match answer {
                Ok(_) => self.of.board.note(|status| status.is_registered = true),
                Err(Error::NoLease) => return Some(End::Lost),
                Err(error) => {
                    self.of.failed(&error);
                    self.check_due = Instant::now() + REST;
                }
            },
            Told::Checked { answer } => match answer {
                Ok(kv) => {
                    let lease = kv.map(|kv| kv.lease);
                    if lease.is_none() {
                        self.of.board.note(|status| status.is_registered = false);
                        self.register();
                    }
                }
                Err(error) => self.of.failed(&error),
            },
        }
        None
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
            page.kvs.iter().for_each(|kv| self.claims.put(shard, claim(kv)));
        }
    }

    fn listed(&mut self, place: usize, page: &Page) {
        let Some(prefix) = self.watches.get(place).map(|watched| watched.prefix.clone()) else { return };
        let (names, before) = (&self.settings, self.members.peers().to_vec());
        if names.members.starts_with(&prefix) {
            let own = names.own.id.clone();
            let ids = page.kvs.iter().filter_map(|kv| {
                let id = std::str::from_utf8(kv.key.strip_prefix(names.members.as_bytes())?).ok()?;
                Some((id, kv))
            });
            let all: Vec<_> = ids.map(|(id, kv)| (id, &*kv.value, kv.mod_revision)).collect();
            self.members.list(all.iter().copied(), Instant::now());
            let lease = page.kvs.iter().find(|kv| kv.key == format!("{}{own}", names.members).as_bytes());
            let lease = lease.map(|kv| kv.lease);
            // What we wrote just now may be behind that list.
            if lease.is_some() {
                self.look_at_own(&own, lease);
            }
        }
        for kv in &page.kvs {
            if let Some(shard) = self.settings.left_of(&kv.key) {
                self.note_left(shard, &kv.value);
            }
        }
        if self.settings.claims.starts_with(&prefix) {
            let shard = |kv: &Kv| Some((claims::shard(&self.settings.claims, &kv.key)?, claim(kv)));
            self.claims.list(page.kvs.iter().filter_map(shard), page.revision);
        }
        self.tell_of_peers(&before);
        let watch = self.client.watch(Keys::prefix(prefix), page.revision + 1);
        let watched = &mut self.watches[place];
        (watched.watch, watched.rest) = (Some(watch), None);
    }

    /// A call may have been done or not: all is read anew, in a moment.
    fn unsure(&mut self, error: &Error) {
        self.of.failed(error);
        if self.list_due.is_none() {
            self.list_due = Some(Instant::now() + REST.mul_f64(0.5 + fastrand::f64()));
        }
    }

    fn answered(&mut self) {
        let was_silent = std::mem::take(&mut self.is_silent);
        self.of
            .board
            .note(|status| (status.is_up, status.answered) = (true, Some(std::time::Instant::now())));
        if was_silent {
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

    /// What is left to do at the end; what was ours.
    async fn end(&mut self, end: &End) -> Shards {
        if *end != End::Lost {
            self.hand_over().await;
        }
        self.of.fence.close();
        let had = self.claims.under(self.lease.id);
        self.of.take_away();
        self.of.board.note(|status| (status.is_registered, status.has_twin) = (false, false));
        self.calls.abort_all();
        match end {
            End::Lost => {
                self.of.board.note(|status| {
                    (status.leases_lost, status.lost) =
                        (status.leases_lost + 1, status.lost + had.len() as u64)
                });
                warn!(shards = had.len(), "the lease has ended: nothing is ours until there is another");
                self.of.say(Some("ok"), Some("lost"), "the lease has ended; another one is asked for".into());
            }
            _ => farewell(&self.client, self.lease.id).await,
        }
        self.count();
        had
    }
}

impl Coordination {
    /// A call failed.
    pub(super) fn failed(&self, error: &Error) {
        let gone = matches!(
            error.kind(),
            Kind::Unreachable
                | Kind::Silent
                | Kind::Broken
                | Kind::Tls
                | Kind::Local
                | Kind::Auth
                | Kind::Unavailable
                | Kind::NoLeader
        );
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

/// What stands under the key of a claim.
fn claim(kv: &Kv) -> Claim {
    Claim { owner: claims::owner(&kv.value), lease: kv.lease, mod_revision: kv.mod_revision }
}

/// What is to be watched: one prefix where both kinds of keys are under it.
fn watched(settings: &Settings) -> Vec<Watched> {
    let (root, claims) = (settings.root.clone(), settings.claims.clone());
    let prefixes = if claims.starts_with(&root) { vec![root] } else { vec![root, claims] };
    prefixes.into_iter().map(|prefix| Watched { prefix, watch: None, rest: None }).collect()
}

/// What one of the watches tells next. Cancel safe.
async fn next_change(watches: &mut [Watched]) -> (usize, Result<Changes, Error>) {
    async fn of(place: usize, watched: Option<&mut Watched>) -> (usize, Result<Changes, Error>) {
        let Some(Watched { watch: Some(watch), rest, .. }) = watched else {
            return std::future::pending().await;
        };
        if let Some(rest) = rest.take_if(|rest| *rest <= Instant::now()).or(*rest) {
            sleep_until(rest).await;
        }
        (place, watch.next().await)
    }
    let (first, second) = watches.split_at_mut(watches.len().min(1));
    tokio::select! {
        told = of(0, first.first_mut()) => told,
        told = of(1, second.first_mut()) => told,
    }
}
