//! Every member of every service, collected each interval.
//!
//! The members of one shard, of a short list, or of a long one that replicate from one another ([`Kin`]), form a
//! `Group` and are collected in one round, so that both ends of a replication are read at the same time. Rounds are
//! spread over the interval by the name of the group: each is due at the same moment of every interval, also after a
//! restart. When a service gets another master or new members, a round of theirs is made at once.
//!
//! What a newcomer would get wrong: a member whose turn is still under way when the next one is due gets no
//! second one. Its tick is skipped and counted; the other members of its group have theirs.

use super::background::Background;
use super::feed::{self, Feed, Tick};
use super::kin::{self, Kin};
use super::once::{Crowded, Membership, Scraper, Wanted};
use super::service::{Limits, MemberReading};
use super::slot::Slot;
use super::store::Store;
use super::target::Job;
use crate::collect::Facts;
use crate::collect::facts::Id;
use crate::collect::run::Scope;
use crate::config::Config;
use crate::discover::merge::Identities;
use crate::discover::service::View;
use crate::discover::{Service, Topology};
use crate::resilience::breaker::Asker;
use crate::telemetry::Metrics;
use crate::telemetry::events::Events;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::error;

/// Lists of at most so many members are collected in one round: the master and replicas of a small service.
const SHORT_LIST: usize = kin::MOST;

/// How long members of long lists may say who they replicate from before they are grouped anew: at the start all
/// of them do.
const REGROUP: Duration = Duration::from_secs(1);

/// When a round counts as late: those that have answered are handed on, and the others when they have.
const LATE: Duration = Duration::from_secs(1);

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
}

/// The name of a group: the service, and the shard, the only member or the first of those that are kin; nothing for a
/// short list.
type Key = (Arc<str>, Option<Arc<str>>);

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

impl Fleet {
    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut groups: HashMap<Key, Group> = HashMap::new();
        let mut seen: HashMap<Arc<str>, Arc<Service>> = HashMap::new();
        let mut due = BinaryHeap::new();
        let mut rounds = JoinSet::new();
        let mut kin = Kin::default();
        let mut regroup: Option<Instant> = None;
        let mut background = Background::new(self.config.borrow().scrape.interval);
        self.reconcile(&mut groups, &mut seen, &mut due, &mut kin);
        loop {
            let next = due.peek().map(|Reverse((at, _))| *at);
            tokio::select! {
                changed = self.topology.changed() => match changed {
                    Ok(()) => self.reconcile(&mut groups, &mut seen, &mut due, &mut kin),
                    // Whoever published is gone: we are stopping.
                    Err(_) => std::future::pending().await,
                },
                changed = self.config.changed() => match changed {
                    Ok(()) => {
                        self.reconcile(&mut groups, &mut seen, &mut due, &mut kin);
                        background.follow(self.config.borrow().scrape.interval);
                    }
                    Err(_) => std::future::pending().await,
                },
                Some(ended) = rounds.join_next() => {
                    let Ended { key, histories } = match ended {
                        Ok(ended) => ended,
                        Err(fault) => {
                            self.metrics.panics.increment();
                            error!(error = %fault, "a round panicked: please report this");
                            continue;
                        }
                    };
                    // Of all, also after the first that is news.
                    let here = |slot: &Slot| self.store.find(Some(&slot.service), &slot.member.address).is_some();
                    let histories = histories.iter().filter(|(slot, _)| here(slot));
                    let news = histories.filter(|(slot, history)| kin.learn(slot, *history)).count();
                    if news > 0 {
                        regroup.get_or_insert(Instant::now() + REGROUP);
                    }
                    if groups.get_mut(&key).is_some_and(|group| std::mem::take(&mut group.again)) {
                        due.push(Reverse((Instant::now(), key)));
                    }
                },
                () = sleep_until(regroup.unwrap_or_else(Instant::now)), if regroup.is_some() => {
                    regroup = None;
                    self.reconcile(&mut groups, &mut seen, &mut due, &mut kin);
                }
                () = sleep_until(background.next), if self.feed.is_some() => background.tick(&self),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    let Some(Reverse((at, key))) = due.pop() else { continue };
                    self.tick(at, key, &mut groups, &mut due, &mut rounds);
                }
            }
        }
    }

    /// A group's time has come.
    fn tick(
        &self,
        at: Instant,
        key: Key,
        groups: &mut HashMap<Key, Group>,
        due: &mut BinaryHeap<Reverse<(Instant, Key)>>,
        rounds: &mut JoinSet<Ended>,
    ) {
        let Some(group) = groups.get_mut(&key) else { return };
        let config = self.config.borrow().clone();
        let now = Instant::now();
        let is_scheduled = at == group.next;
        if is_scheduled {
            // Where we were held up for longer than an interval, what was missed is missed.
            let behind = now.duration_since(at).as_nanos() / config.scrape.interval.as_nanos().max(1);
            group.next = at + config.scrape.interval * (u32::try_from(behind).unwrap_or(u32::MAX - 1) + 1);
            due.push(Reverse((group.next, key.clone())));
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
        let round = Round {
            key,
            slots: free,
            number: group.round,
            // A tick that finds no room until the next one is due is skipped.
            patience: now + config.scrape.interval,
            config,
            topology: self.topology.clone(),
            scraper: self.scraper.clone(),
            store: self.store.clone(),
            identities: self.identities.clone(),
            feed: self.feed.clone(),
        };
        rounds.spawn(round.run());
    }

    /// Brings slots, groups and the schedule in line with the topology. What changed gets a round at once.
    fn reconcile(
        &mut self,
        groups: &mut HashMap<Key, Group>,
        seen: &mut HashMap<Arc<str>, Arc<Service>>,
        due: &mut BinaryHeap<Reverse<(Instant, Key)>>,
        kin: &mut Kin,
    ) {
        let topology = self.topology.borrow_and_update().clone();
        let config = self.config.borrow_and_update().clone();
        let names: HashSet<_> = topology.services.iter().map(|service| service.name.clone()).collect();
        let members = topology.members().map(|(service, member)| (service.name.clone(), member.clone()));
        let gone = self.store.replace(&names, members.collect());
        self.scraper.forget(&gone);
        kin.forget(&gone);
        if let Some(feed) = &self.feed {
            feed.gone(&gone);
        }
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
        let new = wanted.keys().filter(|key| !groups.contains_key(*key)).count();
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
            let next = first_due(&key, interval, now);
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
            if (is_new && new <= CROWD) || joined || changed.get(&key.0).is_some_and(is_concerned) {
                due.push(Reverse((now, key)));
            }
        }
    }
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

/// When a group's first scheduled round is due: at the moment of the interval that its name says.
fn first_due(key: &Key, interval: Duration, now: Instant) -> Instant {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let interval = interval.as_nanos().max(1);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let wait = phase(u128::from(hasher.finish()), interval, clock);
    now + Duration::from_nanos(u64::try_from(wait).unwrap_or(0))
}

/// How long until the clock shows the moment of the interval that belongs to `hash`.
fn phase(hash: u128, interval: u128, clock: u128) -> u128 {
    (hash % interval + interval - clock % interval) % interval
}

/// One round of a group.
struct Round {
    key: Key,
    slots: Vec<Arc<Slot>>,
    number: u64,
    patience: Instant,
    config: Arc<Config>,
    topology: watch::Receiver<Arc<Topology>>,
    scraper: Scraper,
    store: Arc<Store>,
    identities: Arc<Identities>,
    feed: Option<Feed>,
}

/// What is left of a round.
struct Ended {
    key: Key,
    /// What the members of a long list said their history is.
    histories: Vec<(Arc<Slot>, Id)>,
}

impl Round {
    async fn run(self) -> Ended {
        let mut members = JoinSet::new();
        let config = &self.config;
        // Where there is no room for all, those go first whose turn is longest ago. Else the last would never be read.
        let mut slots: Vec<_> = self.slots.iter().cloned().map(Turn).collect();
        slots.sort_by_cached_key(|turn| turn.0.taken());
        for turn in slots {
            let job = Job::of_member(config, &turn.0.service, &turn.0.member, Scope::WithoutKeys);
            let Some(job) = job else { continue };
            members.spawn(collect(self.scraper.clone(), turn, job, self.patience));
        }
        let mut read = vec![];
        let mut handed_on = 0;
        // Who answered is not kept from whoever delivers by those that hang.
        let feed = self.feed.as_ref().filter(|_| feed::is_wanted(config));
        let is_late = sleep(LATE.min(config.scrape.interval / 2));
        tokio::pin!(is_late);
        loop {
            tokio::select! {
                ended = members.join_next() => match ended {
                    // A panic was counted where the collection ran.
                    Some(ended) => read.extend(ended.ok().and_then(|(turn, tick)| self.take_in(turn, tick))),
                    None => break,
                },
                () = &mut is_late, if feed.is_some() && !is_late.is_elapsed() => {}
            }
            if let Some(feed) = feed.filter(|_| is_late.is_elapsed() && handed_on < read.len()) {
                self.conclude(&read);
                hand_on(feed, config, &mut read, &mut handed_on);
            }
        }
        self.conclude(&read);
        if let Some(feed) = feed {
            hand_on(feed, config, &mut read, &mut handed_on);
        }
        let is_long_list = self.key.1.is_some();
        let history = |Read { slot, facts, .. }: Read| {
            let history = facts?.0.replid.filter(|_| is_long_list && slot.member.shard.is_none())?;
            Some((slot, history))
        };
        Ended { histories: read.into_iter().filter_map(history).collect(), key: self.key }
    }

    /// What a member's tick says of it; nothing where there was no room.
    fn take_in(&self, turn: Turn, tick: Tick) -> Option<Read> {
        let slot = turn.0.clone();
        let facts = match tick {
            Tick::Collected => slot.facts(),
            Tick::Known => None,
            Tick::Skipped => {
                if let Some(feed) = &self.feed {
                    feed.member(&self.config, &slot, tick);
                }
                return None;
            }
        };
        if let Some((facts, _)) = &facts
            && let Some(id) = &facts.run_id
        {
            self.identities.learn(&slot.member.address, &id.to_string());
        }
        let turn = (self.feed.is_some() && feed::is_wanted(&self.config)).then_some(turn);
        Some(Read { slot, tick, facts, turn })
    }

    /// Puts what the members said in this round side by side.
    fn conclude(&self, read: &[Read]) {
        let now = std::time::Instant::now();
        let readings = read.iter().map(|Read { slot, facts, .. }| MemberReading {
            instance: &slot.member.instance,
            round: self.number,
            up: facts.is_some(),
            taken: facts.as_ref().map_or(now, |(_, taken)| *taken),
            facts: facts.as_ref().map(|(facts, _)| facts),
        });
        let readings: Vec<_> = readings.collect();
        let topology = self.topology.borrow().clone();
        if let Some(service) = topology.service(&self.key.0) {
            put_down(&self.store, &self.config, service, &readings);
        }
    }
}

/// Puts into the book of a service what is known of it and of its members.
fn put_down(store: &Store, config: &Config, service: &Service, readings: &[MemberReading<'_>]) {
    let (Some(book), Some(configured)) = (store.book(&service.name), config.discover.service(&service.name))
    else {
        return;
    };
    let limits = Limits { lag_bytes: configured.lag_bytes, age: config.scrape.interval * 2 };
    book.truth().round(service, readings, &limits, std::time::Instant::now());
}

/// Hands on those that were not yet.
fn hand_on(feed: &Feed, config: &Config, read: &mut [Read], handed_on: &mut usize) {
    for read in &mut read[*handed_on..] {
        feed.member(config, &read.slot, read.tick);
        read.turn = None;
    }
    *handed_on = read.len();
}

/// A member in a round.
struct Read {
    slot: Arc<Slot>,
    tick: Tick,
    /// What it said, and when; nothing where it did not answer.
    facts: Option<(Arc<Facts>, std::time::Instant)>,
    /// Kept until it is handed on: of two collections only the last would be.
    turn: Option<Turn>,
}

/// A member's turn. Dropped, the next one may begin.
struct Turn(Arc<Slot>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.end_turn();
    }
}

/// One member's part in a round.
async fn collect(scraper: Scraper, turn: Turn, job: Job, patience: Instant) -> (Turn, Tick) {
    let membership = Membership { slot: turn.0.clone(), asker: Asker::Tick, guarded: true };
    let wanted = Wanted { job, end: patience, member: Some(membership) };
    let tick = match scraper.collect(wanted).await {
        Ok(outcome) if outcome.from_breaker => Tick::Known,
        Ok(_) => Tick::Collected,
        Err(Crowded) => {
            turn.0.skip();
            Tick::Skipped
        }
    };
    (turn, tick)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Address, discover};
    use crate::discover::fixed::member;
    use std::collections::BTreeMap;

    #[tokio::test]
    async fn members_of_a_long_list_that_replicate_from_one_another_are_a_group() {
        let at = |port| Arc::new(member(Address::tcp("h", port), BTreeMap::new()));
        let members: Vec<_> = (1..=20).map(at).collect();
        let mut config = Config::default();
        config
            .discover
            .services
            .push(Arc::new(discover::Service::new("s", discover::Source::Instances(vec![]))));
        let service = Arc::new(Service { members, ..Service::unknown("s".into(), "instances") });
        let (_config, config) = watch::channel(Arc::new(config));
        let (_topology, topology) = watch::channel(Arc::new(Topology { services: vec![service].into() }));
        let parts = (Arc::default(), Arc::default(), Arc::default());
        let (scraper, _collections) = crate::scrape::once::scraper(config.clone(), parts.0, parts.1, parts.2);
        let mut fleet = Fleet {
            config,
            topology,
            scraper,
            store: Arc::default(),
            identities: Arc::default(),
            events: Arc::default(),
            metrics: Arc::default(),
            feed: None,
        };
        let (mut groups, mut seen, mut kin) = (HashMap::new(), HashMap::new(), Kin::default());
        let mut check = |said: &[(usize, char)], expected: &[usize], rounds_at_once: usize| {
            let slots = fleet.store.slots();
            for (port, letter) in said {
                let id = Id::parse(&letter.to_string().repeat(40)).expect("an id");
                kin.learn(&slots[port - 1], id);
            }
            let mut due = BinaryHeap::new();
            fleet.reconcile(&mut groups, &mut seen, &mut due, &mut kin);
            let mut sizes: Vec<_> = groups.values().map(|group| group.slots.len()).collect();
            sizes.sort_unstable();
            sizes.retain(|size| *size > 1);
            assert_eq!((&*sizes, groups.values().map(|g| g.slots.len()).sum::<usize>()), (expected, 20));
            let now = Instant::now();
            assert_eq!(due.iter().filter(|Reverse((at, _))| *at <= now).count(), rounds_at_once, "{said:?}");
        };
        check(&[], &[], 20);
        check(&[(1, 'a'), (2, 'b'), (3, 'c')], &[], 0);
        // Nobody is collected out of turn because it has kin now; who is alone again has no turn yet.
        check(&[(3, 'a'), (7, 'a'), (8, 'b')], &[2, 3], 0);
        check(&[(3, 'd')], &[2, 2], 1);
    }

    #[test]
    fn a_group_is_due_at_its_own_moment_of_every_interval() {
        fn check(hash: u128, clock: u128, expected: u128) {
            assert_eq!(phase(hash, 15, clock), expected, "{hash} {clock}");
        }
        check(0, 0, 0);
        check(4, 0, 4);
        check(4, 3, 1);
        check(4, 4, 0);
        check(4, 5, 14);
        check(34, 15, 4);
        for clock in 0..60 {
            assert_eq!((clock + phase(7, 15, clock)) % 15, 7);
        }
    }
}
