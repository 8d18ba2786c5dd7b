//! What follows from all members of a service together: whether it is up, who is the master, how far replicas
//! are behind, what failovers cost. Pure; time is passed in.
//!
//! [`ServiceTruth`] is kept for each service and told of every round: see [`ServiceTruth::round`]. Who found the
//! members says what is in [`crate::discover::Service`]; what they say themselves comes as [`MemberReading`]s.
//!
//! - `sources`: who replicates from whom
//! - [`super::replication`]: how two ends of replication compare
//! - `shape`: all of it as metric families
//!
//! What a newcomer would get wrong: a master that is read five seconds after its replica has written meanwhile,
//! and the difference of their offsets is no lag. Only what was read together is compared, and what was
//! compared stays until it is old or no longer true.

mod shape;
mod sources;
#[cfg(test)]
mod tests;

pub use shape::{member_descs, service_descs};

use self::sources::Sources;
use super::replication::{Lag, Stream, TOGETHER, shares_history};
use crate::collect::Facts;
use crate::collect::facts::{Id, Role};
use crate::discover::service::{Completed, Member, Service, View};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The slots of a Cluster.
const SLOTS: u32 = 16384;

/// How long it is remembered when somebody who is no member any more was last seen as the master: a Cluster may
/// forget the old master before it is known who is the new one.
const REMEMBERED: Duration = Duration::from_secs(600);

/// A member in one round.
#[derive(Clone, Copy, Debug)]
pub struct MemberReading<'a> {
    /// Which member.
    pub instance: &'a str,
    /// Which round of its shard: both ends of replication are compared within one.
    pub round: u64,
    /// Whether INFO was read.
    pub up: bool,
    /// When INFO was answered, or when the collection failed.
    pub taken: Instant,
    /// What INFO says.
    pub facts: Option<&'a Arc<Facts>>,
}

impl MemberReading<'_> {
    fn good(&self) -> Option<Reading> {
        let facts = self.facts.filter(|_| self.up)?.clone();
        Some(Reading { facts, taken: self.taken, round: self.round })
    }
}

/// What the operator may say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From how many bytes on a replica counts as lagging.
    pub lag_bytes: u64,
    /// How long a reading says something of now: two intervals.
    pub age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lag_bytes: 10_000, age: Duration::from_secs(30) }
    }
}

/// What is known of a service from all rounds so far.
#[derive(Debug, Default)]
pub struct ServiceTruth {
    limits: Limits,
    members: HashMap<Arc<str>, MemberTruth>,
    resyncs: Option<[u64; 3]>,
    completed: Total,
    aborted: Total,
    /// The last failover that was looked at, and how long nobody answered as the master.
    last: Option<(Instant, Option<Duration>)>,
}

/// What the service comes to now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it can be used; `None` while that is not known.
    pub up: Option<bool>,
    /// How many say that they are the master; of a Cluster, how many nodes claim the slots of others.
    pub masters: Option<u32>,
    /// The master: that of the Sentinels, or the only one of a list; a Cluster has none.
    pub master: Option<Arc<str>>,
    /// What a failover now would lose, in bytes.
    pub at_risk: Option<u64>,
}

/// What is known of one member.
#[derive(Debug, Default)]
struct MemberTruth {
    /// What it said in its last round; `None` where it did not answer.
    reading: Option<Reading>,
    /// When it was last asked.
    asked: Option<Instant>,
    /// What it is: what it said, or what was confirmed since.
    role: Option<Role>,
    /// What it was when that was last known.
    last_role: Option<Role>,
    /// When it last answered as a master.
    as_master: Option<Instant>,
    stream: Stream,
    link: Link,
    resyncs: [Option<u64>; 3],
    run_id: Option<Id>,
    lag: Option<Lag>,
    is_lagging: bool,
    mismatch: Option<bool>,
    /// The member that it replicates from.
    source: Option<Arc<str>>,
}

/// A good reading.
#[derive(Clone, Debug)]
struct Reading {
    facts: Arc<Facts>,
    taken: Instant,
    round: u64,
}

impl Reading {
    fn is_with(&self, other: &Self) -> bool {
        let (early, late) = (self.taken.min(other.taken), self.taken.max(other.taken));
        self.round == other.round && late.duration_since(early) <= TOGETHER
    }
}

/// The link of a replica to its master.
#[derive(Debug, Default)]
struct Link {
    /// How often it broke; `None` before one was seen.
    flaps: Option<u64>,
    last: Option<LinkState>,
}

#[derive(Debug)]
struct LinkState {
    taken: Instant,
    run_id: Option<Id>,
    is_up: bool,
    /// When it came up, by the server's own clock: seconds since the process began.
    up_at: Option<u64>,
}

impl Link {
    fn read(&mut self, facts: &Facts, taken: Instant) {
        if self.last.as_ref().is_some_and(|last| taken <= last.taken) {
            return;
        }
        // A master has none: that it has none any more is no flap.
        let Some(is_up) = facts.link_up else {
            self.last = None;
            return;
        };
        let up_at = facts.uptime.zip(facts.link_up_since).and_then(|(all, since)| all.checked_sub(since));
        let flaps = self.flaps.get_or_insert(0);
        if let Some(last) = &self.last
            && last.run_id == facts.run_id
        {
            // Between two readings it may have gone and come again.
            let came_again =
                last.up_at.zip(up_at).is_some_and(|(before, now)| now > before.saturating_add(1));
            *flaps += u64::from(last.is_up && (!is_up || came_again));
        }
        self.last = Some(LinkState { taken, run_id: facts.run_id, is_up, up_at });
    }
}

/// A counter that goes on when what it counts begins anew.
#[derive(Debug, Default)]
struct Total {
    last: u64,
    total: u64,
}

impl Total {
    fn read(&mut self, value: u64) {
        self.total = self.total.saturating_add(increase(self.last, value));
        self.last = value;
    }
}

/// What a counter grew by; one that fell began anew.
fn increase(last: u64, value: u64) -> u64 {
    value.checked_sub(last).unwrap_or(value)
}

impl MemberTruth {
    /// Takes what the member said, or that it did not. Returns what its counters of resynchronisations grew by.
    fn read(&mut self, reading: &MemberReading<'_>) -> Option<[u64; 3]> {
        self.asked = Some(reading.taken);
        self.reading = reading.good();
        let Reading { facts, taken, .. } = self.reading.as_ref()?;
        if facts.role == Some(Role::Master) {
            self.as_master = self.as_master.max(Some(*taken));
        }
        self.stream.read(facts, *taken);
        self.link.read(facts, *taken);
        let is_another = self.run_id != facts.run_id;
        self.run_id = facts.run_id;
        let said = [facts.sync_full, facts.sync_partial_ok, facts.sync_partial_err];
        said.iter().any(Option::is_some).then(|| {
            let mut grown = [0; 3];
            for ((grown, last), said) in grown.iter_mut().zip(&mut self.resyncs).zip(said) {
                // What was before we came is not counted, what another process did is.
                let before = last.map(|last| if is_another { 0 } else { last });
                *grown = said.map_or(0, |said| increase(before.unwrap_or(said), said));
                *last = said.or(*last);
            }
            grown
        })
    }

    fn facts(&self) -> Option<&Facts> {
        self.reading.as_ref().map(|reading| &*reading.facts)
    }

    /// How far it is behind, and whether its data is of another history.
    fn compare(&self, source: &Self, limits: &Limits, now: Instant) -> (Option<Lag>, Option<bool>) {
        let (Some(own), Some(masters)) = (&self.reading, &source.reading) else { return (None, None) };
        // One of them took its time, or was not asked: what was known is not wrong for that.
        if !own.is_with(masters) {
            let is_recent = |lag: &Lag| now.saturating_duration_since(lag.taken) <= limits.age;
            return (self.lag.filter(is_recent), self.mismatch);
        }
        let shares = shares_history(&own.facts, &masters.facts);
        let lag = Lag::between(&own.facts, &masters.facts, own.taken, &source.stream);
        (lag.filter(|_| shares != Some(false)), shares.map(|shares| !shares))
    }

    /// What it is, by what discovery knows: who was confirmed as the master since it was asked is one.
    fn role(&self, service: &Service, member: &Member, limits: &Limits, now: Instant) -> Option<Role> {
        let is_news = service.master.as_ref().is_some_and(|master| {
            master.instance == member.instance
                && self.asked.is_none_or(|asked| master.confirmed > asked)
                && now.saturating_duration_since(master.confirmed) <= limits.age
        });
        let said = self.facts().and_then(|facts| facts.role);
        if is_news { Some(Role::Master) } else { said.filter(|_| self.is_recent(limits, now)) }
    }

    /// Whether what it said, or that it said nothing, says something of now.
    fn is_recent(&self, limits: &Limits, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now.saturating_duration_since(asked) <= limits.age)
    }
}

impl ServiceTruth {
    /// Takes in a round: the service as discovery knows it, and what those of its members said that were asked.
    /// Who was not asked keeps what it said. The same readings twice change nothing.
    pub fn round(
        &mut self,
        service: &Service,
        readings: &[MemberReading<'_>],
        limits: &Limits,
        now: Instant,
    ) {
        self.limits = *limits;
        self.completed.read(service.history.completed);
        self.aborted.read(service.history.aborted);
        if let Some(done) = &service.history.last
            && self.last.is_none_or(|(confirmed, _)| confirmed != done.confirmed)
        {
            self.last = Some((done.confirmed, self.outage(done, readings)));
        }
        let mut asked: Vec<&Member> = Vec::with_capacity(readings.len());
        for reading in readings {
            let Some(member) = member(service, reading.instance) else { continue };
            asked.push(member);
            let truth = self.members.entry(member.instance.clone()).or_default();
            if let Some(grown) = truth.read(reading) {
                let sums = self.resyncs.get_or_insert_default();
                sums.iter_mut().zip(grown).for_each(|(sum, grown)| *sum = sum.saturating_add(grown));
            }
            truth.role = truth.role(service, member, &self.limits, now);
            truth.last_role = truth.role.or(truth.last_role);
        }
        self.compare(service, &asked, now);
        if self.members.len() > service.members.len() {
            let is_recent = |truth: &MemberTruth| {
                truth.asked.is_some_and(|asked| now.saturating_duration_since(asked) <= REMEMBERED)
            };
            self.members.retain(|instance, truth| member(service, instance).is_some() || is_recent(truth));
        }
    }

    /// From the last good answer of the old master to the first confirmed one of the new; nothing, where the old
    /// one answered for so long.
    fn outage(&self, done: &Completed, readings: &[MemberReading<'_>]) -> Option<Duration> {
        let before = self.members.get(&done.from).and_then(|truth| truth.as_master);
        let reading = readings.iter().find(|reading| reading.instance == &*done.from);
        // An old master that comes back does not shorten it.
        let is_good =
            |reading: &Reading| reading.facts.role == Some(Role::Master) && reading.taken <= done.confirmed;
        let last = reading.and_then(MemberReading::good).filter(is_good).map(|reading| reading.taken);
        Some(done.confirmed.saturating_duration_since(before.max(last)?))
    }

    /// Compares each replica that was asked with the member that it follows.
    fn compare(&mut self, service: &Service, asked: &[&Member], now: Instant) {
        let sources = Sources::of(service, asked, &self.members);
        let compared = asked.iter().filter_map(|member| {
            let source = sources.find(member);
            let replica = self.members.get(&member.instance)?;
            let (lag, mismatch) = match source.and_then(|source| self.members.get(&source.instance)) {
                Some(source) => replica.compare(source, &self.limits, now),
                None => (None, None),
            };
            Some((&member.instance, source.map(|source| source.instance.clone()), lag, mismatch))
        });
        for (instance, source, lag, mismatch) in compared.collect::<Vec<_>>() {
            let Some(replica) = self.members.get_mut(instance) else { continue };
            replica.is_lagging = lag.is_some_and(|lag| lag.bytes >= self.limits.lag_bytes);
            (replica.source, replica.lag, replica.mismatch) = (source, lag, mismatch);
        }
    }

    /// What the service comes to, by all that is known now. Costs a look at every member.
    pub fn judge(&self, service: &Service, now: Instant) -> Verdict {
        let seen: Vec<_> =
            service.members.iter().map(|member| Seen::of(self, service, member, now)).collect();
        let mut masters = seen.iter().filter(|seen| seen.role == Some(Role::Master));
        let master = match service.kind {
            "sentinel" => service.master.as_ref().map(|master| &master.instance),
            "cluster" => None,
            _ => match (masters.next(), masters.next()) {
                (Some(one), None) => Some(&one.member.instance),
                _ => None,
            },
        };
        let count = seen.iter().filter(|seen| seen.role == Some(Role::Master)).count() as u32;
        let is_known = seen.iter().any(|seen| seen.truth.is_some());
        let masters = match &service.view {
            View::Cluster(view) => service.answered.map(|_| view.rivals),
            _ => is_known.then_some(count),
        };
        let counts = |head: &Member| service.kind != "sentinel" || master == Some(&head.instance);
        Verdict {
            up: is_up(service, &seen),
            masters,
            master: master.cloned(),
            at_risk: at_risk(service, &seen, counts),
        }
    }

    /// What the member is; `None` while that is not known.
    pub fn role(&self, instance: &str) -> Option<Role> {
        self.members.get(instance)?.role
    }

    /// How far the member is behind the one that it replicates from.
    pub fn lag_bytes(&self, instance: &str) -> Option<u64> {
        Some(self.members.get(instance)?.lag?.bytes)
    }
}

/// The member of that name: they are sorted.
fn member<'a>(service: &'a Service, instance: &str) -> Option<&'a Member> {
    place(service, instance).map(|at| &*service.members[at])
}

fn place(service: &Service, instance: &str) -> Option<usize> {
    service.members.binary_search_by(|member| (*member.instance).cmp(instance)).ok()
}

/// A member at the moment of a verdict.
struct Seen<'a> {
    member: &'a Member,
    /// What is known of it, where that is not too old.
    truth: Option<&'a MemberTruth>,
    role: Option<Role>,
    /// Whether it ever said that it is a master, and nothing else since.
    was_master: bool,
    lag: Option<&'a Lag>,
    /// Where it replicates from.
    source: Option<usize>,
}

impl<'a> Seen<'a> {
    fn of(all: &'a ServiceTruth, service: &'a Service, member: &'a Member, now: Instant) -> Self {
        let limits = &all.limits;
        let known = all.members.get(&member.instance);
        let nobody = MemberTruth::default();
        let role = known.unwrap_or(&nobody).role(service, member, limits, now);
        let lag = known.and_then(|truth| truth.lag.as_ref());
        Self {
            member,
            truth: known.filter(|truth| truth.is_recent(limits, now)),
            role,
            was_master: known.is_some_and(|truth| truth.last_role == Some(Role::Master)),
            lag: lag.filter(|lag| now.saturating_duration_since(lag.taken) <= limits.age),
            source: known.and_then(|truth| place(service, truth.source.as_deref()?)),
        }
    }

    /// Whether it answers and is not loading; `None` while that is not known.
    fn serves(&self) -> Option<bool> {
        if self.role == Some(Role::Master) && self.truth.is_none_or(|truth| truth.reading.is_none()) {
            // Confirmed by others since.
            return Some(true);
        }
        let reading = &self.truth?.reading;
        Some(reading.as_ref().is_some_and(|reading| reading.facts.loading != Some(true)))
    }

    fn serves_as_master(&self) -> Option<bool> {
        Some(self.serves()? && self.role == Some(Role::Master))
    }
}

/// See the help of the family.
fn is_up(service: &Service, seen: &[Seen<'_>]) -> Option<bool> {
    let is_told = matches!(service.kind, "sentinel" | "cluster");
    // Before anybody answered nothing is known, unless nobody does.
    if service.answered.is_none() && (is_told || seen.is_empty()) {
        return service.failure.is_some().then_some(false);
    }
    let serves_as_master = |instance: &str| seen[place(service, instance)?].serves_as_master();
    match (service.kind, &service.view) {
        ("sentinel", view) => {
            let Some(master) = &service.master else {
                return seen.iter().any(|seen| seen.truth.is_some()).then_some(false);
            };
            let newest = match view {
                View::Sentinel(view) => view.epoch,
                _ => None,
            };
            let is_newest = newest.is_none_or(|epoch| epoch <= master.epoch);
            serves_as_master(&master.instance).map(|serves| serves && is_newest)
        }
        ("cluster", View::Cluster(view)) => {
            // What an old answer says of the slots is true as long as their masters answer us.
            let answers = |instance: &Arc<str>| serves_as_master(instance) == Some(true);
            let is_known = service.failure.is_none() || view.masters.values().all(answers);
            Some(view.covered == SLOTS && is_known)
        }
        _ => {
            let has_master = seen.iter().any(|seen| seen.was_master || seen.role == Some(Role::Master));
            let mut found = Some(false);
            for one in seen {
                match if has_master { one.serves_as_master() } else { one.serves() } {
                    Some(true) => return Some(true),
                    Some(false) => {}
                    None => found = None,
                }
            }
            found
        }
    }
}

/// How far the best replica of a master is behind it, over however many others it replicates; of several masters
/// the worst.
fn at_risk(service: &Service, seen: &[Seen<'_>], counts: impl Fn(&Member) -> bool) -> Option<u64> {
    let behind = |replica: &Seen<'_>| {
        if replica.truth?.facts()?.priority == Some(0) {
            return None;
        }
        let (mut at, mut bytes) = (replica, 0_u64);
        // A chain is short; who replicate from each other in a circle have no head.
        for _ in 0..8 {
            bytes = bytes.saturating_add(at.lag?.bytes);
            let head = at.source?;
            at = &seen[head];
            if at.role == Some(Role::Master) {
                return at.truth?.facts().map(|_| (head, bytes));
            }
        }
        None
    };
    let mut best: HashMap<usize, u64> = HashMap::new();
    for (head, bytes) in seen.iter().filter_map(behind) {
        if counts(&service.members[head]) {
            best.entry(head).and_modify(|least| *least = bytes.min(*least)).or_insert(bytes);
        }
    }
    best.into_values().max()
}
