//! Every member of every service, collected each interval.
//!
//! The members of one shard, of a short list, or of a long one that replicate from one another ([`Kin`]), form a
//! `Group` and are collected in one round, so that both ends of a replication are read at the same time. Rounds are
//! spread over the interval by the name of the group: each is due at the same moment of every interval (`moment`),
//! also after a restart, and whichever peer has it. When a service gets another master or new members, a round of theirs is
//! made at once.
//!
//! Of services that other peers have there are neither slots nor groups. Of one that is about to leave no round begins; what is
//! under way is finished and handed on, and then [`Seen`] says so. Where a round that began before hangs, its shard cannot go
//! before that has ended, and until then the other groups of the shard have their rounds. A tick that finds the fence closed
//! begins nothing.
//!
//! # When a service comes
//!
//! - *It is new, or whoever had it died*: a round at once, unless a crowd comes. So the last sample of one that crashed is
//!   followed by the next within the TTL and one interval; of a crowd that is from the crash on. Nothing is doubled: a claim is
//!   free only when nobody collects by it, or when somebody goes on though it has lost it, as `freeze` wants.
//! - *It was handed over*: whoever had it says since when it begins nothing, by the wall clock. The first moment behind that is
//!   ours, at once where it has passed, and the one before it was collected.
//!
//! What a newcomer would get wrong: a member whose turn is still under way when the next one is due gets no
//! second one. Its tick is skipped and counted; the other members of its group have theirs.

use super::background::Background;
use super::feed::Feed;
use super::kin::{self, Kin};
use super::moment::{self, Moment};
use super::once::Scraper;
use super::round::{Ended, Round, Rounds, put_down};
use super::slot::Slot;
use super::store::Store;
use crate::config::{Config, Resilience};
use crate::discover::merge::Identities;
use crate::discover::service::View;
use crate::discover::{Service, Topology};
use crate::peers::{Duty, Seen, Share, Standing, shard_of};
use crate::telemetry::Metrics;
use crate::telemetry::events::Events;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::{Instant, sleep_until};
use tracing::error;

/// Lists of at most so many members are collected in one round: the master and replicas of a small service.
const SHORT_LIST: usize = kin::MOST;

/// How long members of long lists may say who they replicate from before they are grouped anew: at the start all
/// of them do.
const REGROUP: Duration = Duration::from_secs(1);

/// When so many groups appear at once, their first rounds are spread over the interval like all others.
const CROWD: usize = 64;

/// Everything that the fleet stands on.
pub struct Fleet {
    /// The configuration that runs.
    pub config: watch::Receiver<Arc<Config>>,
    /// The services and their members.
    pub topology: watch::Receiver<Arc<Topology>>,
    /// Makes the collections.
    pub scraper: Scraper,
    /// Where outcomes go.
    pub store: Arc<Store>,
    /// Which server answers at which address.
    pub identities: Arc<Identities>,
    /// The event log.
    pub events: Arc<Events>,
    /// Our own counters.
    pub metrics: Arc<Metrics>,
    /// The way to whoever delivers, where somebody does.
    pub feed: Option<Feed>,
    /// Which services are ours.
    pub share: Share,
}

/// The name of a group: the service, and the shard, the only member or the first of those that are kin; nothing for a
/// short list.
pub(super) type Key = (Arc<str>, Option<Arc<str>>);

/// Members that are collected in one round.
struct Group {
    slots: Vec<Arc<Slot>>,
    next: Instant,
    /// The interval that [`Self::next`] was reckoned with.
    interval: Duration,
    round: u64,
    /// Something happened while some were under way: another round follows at once.
    again: bool,
}

/// What the fleet goes by, beside what it stands on.
struct Course {
    groups: HashMap<Key, Group>,
    /// The services, as they were when it was looked last.
    seen: HashMap<Arc<str>, Arc<Service>>,
    due: BinaryHeap<Reverse<(Instant, Key)>>,
    kin: Kin,
    standing: Arc<Standing>,
    /// Since when nothing begins of what leaves.
    quiet: BTreeMap<u8, u64>,
    goes_by: GoesBy,
}

/// What of the configuration slots, groups and the schedule are made of. Who is a member is the topology's to say.
#[derive(Default, PartialEq)]
struct GoesBy {
    interval: Duration,
    resilience: Resilience,
}

impl GoesBy {
    fn of(config: &Config) -> Self {
        Self { interval: config.scrape.interval, resilience: config.resilience }
    }
}

impl Course {
    fn new() -> Self {
        let (groups, seen, due, kin, quiet, goes_by) = <_>::default();
        Self { groups, seen, due, kin, quiet, goes_by, standing: Arc::new(Standing::nothing()) }
    }
}

impl Fleet {
    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut course = Course::new();
        let mut rounds = Rounds::none();
        let mut regroup: Option<Instant> = None;
        let mut background = Background::new(self.config.borrow().scrape.interval);
        self.reconcile(&mut course);
        loop {
            rounds.follow(course.standing.leaving);
            self.tell(&mut course, &rounds);
            let next = course.due.peek().map(|Reverse((at, _))| *at);
            tokio::select! {
                changed = self.topology.changed() => match changed {
                    Ok(()) => self.reconcile(&mut course),
                    // Whoever published is gone: we are stopping.
                    Err(_) => std::future::pending().await,
                },
                changed = self.config.changed() => match changed {
                    Ok(()) => {
                        // Nearly every change is one that rounds take as they come.
                        if course.goes_by != GoesBy::of(&self.config.borrow_and_update()) {
                            self.reconcile(&mut course);
                        }
                        background.follow(self.config.borrow().scrape.interval);
                    }
                    Err(_) => std::future::pending().await,
                },
                // Nobody publishes where there are no others.
                Ok(()) = self.share.standing.changed() => self.reconcile(&mut course),
                Some(ended) = rounds.ended() => {
                    if self.learn(ended, &mut course) {
                        regroup.get_or_insert(Instant::now() + REGROUP);
                    }
                },
                () = sleep_until(regroup.unwrap_or_else(Instant::now)), if regroup.is_some() => {
                    regroup = None;
                    self.reconcile(&mut course);
                }
                () = sleep_until(background.next), if self.feed.is_some() => {
                    background.tick(&self, rounds.busy(course.standing.leaving));
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    let Some(Reverse((at, key))) = course.due.pop() else { continue };
                    self.tick(at, key, &mut course, &mut rounds);
                }
            }
        }
    }

    /// Says how far we have followed, where that is news.
    fn tell(&self, course: &mut Course, rounds: &Rounds) {
        let Standing { number, leaving, .. } = *course.standing;
        let busy = rounds.busy(leaving);
        let is_quiet = |shard: &u8| leaving.has(*shard) && !busy.has(*shard);
        course.quiet.retain(|shard, _| is_quiet(shard));
        for shard in leaving.iter().filter(is_quiet) {
            course.quiet.entry(shard).or_insert_with(moment::milliseconds);
        }
        self.share.seen.send_if_modified(|told| {
            let is_news = told.number != number || told.busy != busy || *told.quiet != course.quiet;
            if is_news {
                *told = Seen { number, busy, quiet: Arc::new(course.quiet.clone()) };
            }
            is_news
        });
    }

    /// Takes in what is left of a round. Whether members are to be grouped anew.
    fn learn(&self, ended: Result<Ended, JoinError>, course: &mut Course) -> bool {
        let Ended { key, histories } = match ended {
            Ok(ended) => ended,
            Err(fault) => {
                self.metrics.panics.increment();
                error!(error = %fault, "a round panicked: please report this");
                return false;
            }
        };
        // Of all, also after the first that is news.
        let here = |slot: &Slot| self.store.find(Some(&slot.service), &slot.member.address).is_some();
        let histories = histories.iter().filter(|(slot, _)| here(slot));
        let news = histories.filter(|(slot, history)| course.kin.learn(slot, *history)).count();
        if course.groups.get_mut(&key).is_some_and(|group| std::mem::take(&mut group.again)) {
            course.due.push(Reverse((Instant::now(), key)));
        }
        news > 0
    }

    /// A group's time has come.
    fn tick(&self, at: Instant, key: Key, course: &mut Course, rounds: &mut Rounds) {
        let Some(group) = course.groups.get_mut(&key) else { return };
        let config = self.config.borrow().clone();
        let now = Instant::now();
        let is_scheduled = at == group.next;
        if is_scheduled {
            // Where we were held up for longer than an interval, what was missed is missed.
            let behind = now.duration_since(at).as_nanos() / config.scrape.interval.as_nanos().max(1);
            group.next = at + config.scrape.interval * (u32::try_from(behind).unwrap_or(u32::MAX - 1) + 1);
            course.due.push(Reverse((group.next, key.clone())));
        }
        // As it is now, which may be newer than what was followed.
        let duty = self.share.standing.borrow().duty(&key.0);
        if duty == Duty::Theirs || (duty == Duty::Leaving && !rounds.is_held_up(shard_of(&key.0))) {
            return;
        }
        if !self.share.fence.is_open() {
            self.metrics.fenced.increment();
            return;
        }
        // One member that hangs does not cost the others their turn.
        let (free, busy): (Vec<_>, Vec<_>) = group.slots.iter().cloned().partition(|slot| slot.take_turn());
        match is_scheduled {
            true => busy.iter().for_each(|slot| slot.skip()),
            false => group.again |= !busy.is_empty(),
        }
        if free.is_empty() {
            return;
        }
        group.round += 1;
        rounds.begin(Round {
            key,
            slots: free,
            number: group.round,
            patience: now + config.scrape.interval,
            config,
            topology: self.topology.clone(),
            scraper: self.scraper.clone(),
            store: self.store.clone(),
            identities: self.identities.clone(),
            feed: self.feed.clone(),
            fence: self.share.fence.clone(),
        });
    }

    /// Brings slots, groups and the schedule in line with the topology and with what is ours. What changed gets a round at
    /// once.
    fn reconcile(&mut self, course: &mut Course) {
        let topology = self.topology.borrow_and_update().clone();
        let config = self.config.borrow_and_update().clone();
        let standing = self.share.standing.borrow_and_update().clone();
        let handed_over = handed_over(&course.standing, &standing);
        course.standing = standing.clone();
        course.goes_by = GoesBy::of(&config);
        let Course { groups, seen, due, kin, .. } = course;

        self.replace(&topology, &standing, kin);
        let is_long = |service: &Service| service.members.len() > SHORT_LIST;
        let long = topology.services.iter().filter(|service| is_long(service));
        let firsts: HashMap<_, _> =
            long.map(|service| (&service.name, kin.firsts(&self.store.of_service(&service.name)))).collect();

        let mut wanted: HashMap<Key, Vec<Arc<Slot>>> = HashMap::new();
        for slot in self.store.slots().iter() {
            let Some(service) = topology.service(&slot.service) else { continue };
            let concerned =
                service.failover.as_ref().is_some_and(|f| f.members.contains(&slot.member.instance));
            slot.failover(concerned, &config.resilience, &self.events);
            let part = match &slot.member.shard {
                Some(shard) => Some(shard.clone()),
                None => firsts.get(&service.name).map(|firsts| {
                    let own = &slot.member.instance;
                    firsts.get(own).unwrap_or(own).clone()
                }),
            };
            wanted.entry((service.name.clone(), part)).or_default().push(slot.clone());
        }

        let known: HashSet<_> = groups.values().flat_map(|group| &group.slots).map(Arc::as_ptr).collect();
        groups.retain(|key, _| wanted.contains_key(key));
        let goes_on = |key: &Key| handed_over.get(&shard_of(&key.0)).copied();
        let new = wanted.keys().filter(|key| !groups.contains_key(*key) && goes_on(key).is_none()).count();
        let changed = changed_services(&topology, seen);
        // What changed is known at once; the round that follows adds what the members say.
        for name in changed.keys() {
            if let Some(service) = topology.service(name) {
                put_down(&self.store, &config, service, &[]);
            }
        }
        let (now, interval) = (Instant::now(), config.scrape.interval);
        for (key, slots) in wanted {
            let is_new = !groups.contains_key(&key);
            let moment = Moment::of(&[Some(&key.0), key.1.as_deref()]);
            // What was collected before us needs no round of ours, and what was not needs one.
            let handed_over = goes_on(&key).filter(|_| is_new).and_then(|left| moment.after(interval, left));
            let next = moment.next(interval, now).max(now + handed_over.unwrap_or_default());
            let group = groups.entry(key.clone()).or_insert_with(|| {
                due.push(Reverse((next, key.clone())));
                Group { slots: vec![], next, interval, round: 0, again: false }
            });
            if group.interval != interval {
                // What was due before the change finds that its time is no longer the group's, and is a round
                // more at most.
                (group.interval, group.next) = (interval, next);
                due.push(Reverse((next, key.clone())));
            }
            let joined = !is_new && slots.iter().any(|slot| !known.contains(&Arc::as_ptr(slot)));
            group.slots = slots;
            let is_concerned = |shards: &Option<HashSet<Arc<str>>>| match (shards, &key.1) {
                (Some(shards), Some(shard)) => shards.contains(shard),
                _ => true,
            };
            let at_once = match goes_on(&key) {
                Some(_) => handed_over.is_none(),
                None => new <= CROWD,
            };
            if (is_new && at_once) || joined || changed.get(&key.0).is_some_and(is_concerned) {
                due.push(Reverse((now, key)));
            }
        }
    }

    /// Slots and books for what is ours, and for nobody else.
    fn replace(&self, topology: &Topology, standing: &Standing, kin: &mut Kin) {
        let is_theirs = |service: &Arc<Service>| standing.duty(&service.name) == Duty::Theirs;
        let ours = topology.services.iter().filter(|service| !is_theirs(service));
        let names: HashSet<_> = ours.map(|service| service.name.clone()).collect();
        let members = topology.members().filter(|(service, _)| names.contains(&service.name));
        let members = members.map(|(service, member)| (service.name.clone(), member.clone()));
        let left = self.store.replace(&names, members.collect());
        self.scraper.forget(&left);
        kin.forget(&left);
        let Some(feed) = &self.feed else { return };
        // Who is a member still, though not of ours, goes on elsewhere.
        let theirs = topology.services.iter().filter(|service| is_theirs(service));
        let theirs: HashSet<_> = theirs
            .flat_map(|service| service.members.iter().map(|member| (&*service.name, &*member.instance)))
            .collect();
        let has_moved = |slot: &Arc<Slot>| theirs.contains(&(&*slot.service, &*slot.member.instance));
        let (moved, gone): (Vec<_>, Vec<_>) = left.into_iter().partition(has_moved);
        feed.moved(&moved);
        feed.gone(&gone);
    }
}

/// The shards that have become ours and were handed over, with when whoever had them began nothing more.
fn handed_over(before: &Standing, now: &Standing) -> BTreeMap<u8, u64> {
    let new = now.ours.iter().filter(|shard| !before.ours.has(*shard));
    new.filter_map(|shard| Some((shard, *now.left.get(&shard)?))).collect()
}

/// The services that got another master, or whose failover began or ended, since this was asked last; of a
/// Cluster the shards to which that happened.
fn changed_services(
    topology: &Topology,
    seen: &mut HashMap<Arc<str>, Arc<Service>>,
) -> HashMap<Arc<str>, Option<HashSet<Arc<str>>>> {
    seen.retain(|name, _| topology.service(name).is_some());
    let mut changed = HashMap::new();
    for now in &topology.services {
        let Some(before) = seen.insert(now.name.clone(), now.clone()) else { continue };
        let master = |service: &Service| service.master.as_ref().map(|master| master.instance.clone());
        let failing = |service: &Service| service.failover.as_ref().map(|f| f.members.clone());
        let (was, is) = (failing(&before), failing(now));
        let shards = match (&before.view, &now.view) {
            (View::Cluster(old), View::Cluster(new)) => {
                let moved =
                    new.masters.iter().filter(|(shard, master)| old.masters.get(*shard) != Some(master));
                let mut shards: HashSet<_> = moved.map(|(shard, _)| shard.clone()).collect();
                if was != is {
                    let concerned: HashSet<_> = was.iter().chain(&is).flatten().cloned().collect();
                    let members = now.members.iter().filter(|member| concerned.contains(&member.instance));
                    shards.extend(members.filter_map(|member| member.shard.clone()));
                }
                Some(shards).filter(|shards| !shards.is_empty())
            }
            _ => None,
        };
        let is_cluster = matches!(now.view, View::Cluster(_));
        let other_master = !is_cluster && master(&before) != master(now);
        if shards.is_some() || other_master || (!is_cluster && was.is_some() != is.is_some()) {
            changed.insert(now.name.clone(), shards);
        }
    }
    changed
}

#[cfg(test)]
mod tests;
