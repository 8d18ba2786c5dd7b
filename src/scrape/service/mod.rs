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

/// The last collection of a member.
#[derive(Clone, Copy, Debug)]
pub struct MemberReading<'a> {
    /// Which member.
    pub instance: &'a str,
    /// In which round it was read: both ends of replication are compared within one.
    pub round: u64,
    /// Whether INFO was read.
    pub up: bool,
    /// What it says.
    pub facts: Option<&'a Arc<Facts>>,
    /// When INFO was answered, or when the collection failed.
    pub taken: Instant,
}

/// What the operator may say about it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From how many bytes on a replica counts as lagging.
    pub lag_bytes: u64,
    /// How long a reading says something of now: two intervals.
    pub age: Duration,
}

/// What is known of a service from all rounds so far.
#[derive(Debug, Default)]
pub struct ServiceTruth {
    members: HashMap<Arc<str>, MemberTruth>,
    verdict: Verdict,
    resyncs: Option<[u64; 3]>,
    completed: Total,
    aborted: Total,
    /// The last failover that was looked at, and how long nobody answered as the master.
    last: Option<(Instant, Option<Duration>)>,
    /// The last round, and how long it says something.
    at: Option<(Instant, Duration)>,
}

/// What the last round said of the service.
#[derive(Debug, Default)]
struct Verdict {
    up: Option<bool>,
    masters: Option<u32>,
    master: Option<Arc<str>>,
    at_risk: Option<u64>,
}

/// What is known of one member.
#[derive(Debug, Default)]
struct MemberTruth {
    /// The last reading that was good, while it is fresh.
    reading: Option<Reading>,
    /// What it is: what it said, or what was confirmed since.
    role: Option<Role>,
    /// What it was when that was last known.
    last_role: Option<Role>,
    /// Whether it was ever read, well or not.
    was_read: bool,
    /// When it last answered as a master.
    as_master: Option<Instant>,
    stream: Stream,
    link: Link,
    resyncs: [Option<u64>; 3],
    run_id: Option<Id>,
    lag: Option<Lag>,
    is_lagging: bool,
    mismatch: Option<bool>,
    /// When it was last a member.
    seen: Option<Instant>,
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
            let came_again = last.up_at.zip(up_at).is_some_and(|(before, now)| now > before + 1);
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
        self.total += increase(self.last, value);
        self.last = value;
    }
}

/// What a counter grew by; one that fell began anew.
fn increase(last: u64, value: u64) -> u64 {
    value.checked_sub(last).unwrap_or(value)
}

impl MemberTruth {
    /// Takes what the member said, or that it did not. Returns what its counters of resynchronisations grew by.
    fn read(&mut self, reading: Option<&MemberReading<'_>>, age: Duration, now: Instant) -> Option<[u64; 3]> {
        self.seen = Some(now);
        self.was_read |= reading.is_some();
        let is_fresh = |reading: &&MemberReading<'_>| reading.up && now.duration_since(reading.taken) <= age;
        let fresh = reading.filter(is_fresh).and_then(|reading| Some((reading, reading.facts?)));
        self.reading = fresh.map(|(reading, facts)| Reading {
            facts: facts.clone(),
            taken: reading.taken,
            round: reading.round,
        });
        let (reading, facts) = fresh?;
        if facts.role == Some(Role::Master) {
            self.as_master = self.as_master.max(Some(reading.taken));
        }
        self.stream.read(facts, reading.taken);
        self.link.read(facts, reading.taken);
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
}

impl ServiceTruth {
    /// Takes what is known now: the service as discovery knows it, and the last collection of each member. To be
    /// called after each round, and best also when the topology changed; the same readings twice change nothing.
    pub fn round(&mut self, service: &Service, members: &[MemberReading<'_>], limits: &Limits, now: Instant) {
        let readings: HashMap<&str, &MemberReading<'_>> =
            members.iter().map(|reading| (reading.instance, reading)).collect();
        self.completed.read(service.history.completed);
        self.aborted.read(service.history.aborted);
        if let Some(done) = &service.history.last
            && self.last.is_none_or(|(confirmed, _)| confirmed != done.confirmed)
        {
            self.last = Some((done.confirmed, self.outage(done, &readings)));
        }
        for member in &service.members {
            let reading = readings.get(&*member.instance).copied();
            let truth = self.members.entry(member.instance.clone()).or_default();
            if let Some(grown) = truth.read(reading, limits.age, now) {
                let sums = self.resyncs.get_or_insert_default();
                sums.iter_mut().zip(grown).for_each(|(sum, grown)| *sum += grown);
            }
            truth.role = role_of(service, member, reading, truth, limits.age, now);
            truth.last_role = truth.role.or(truth.last_role);
        }
        self.members.retain(|_, truth| truth.seen.is_some_and(|seen| now - seen <= REMEMBERED));
        let sources = self.replicas(service, limits, now);
        self.verdict = self.judge(service, &sources);
        self.at = Some((now, limits.age));
    }

    /// From the last good answer of the old master to the first confirmed one of the new; nothing, where the old
    /// one answered for so long.
    fn outage(&self, done: &Completed, readings: &HashMap<&str, &MemberReading<'_>>) -> Option<Duration> {
        let before = self.members.get(&done.from).and_then(|truth| truth.as_master);
        // An old master that comes back does not shorten it.
        let is_good = |reading: &&&MemberReading<'_>| {
            let says = reading.facts.filter(|_| reading.up).and_then(|facts| facts.role);
            says == Some(Role::Master) && reading.taken <= done.confirmed
        };
        let last = readings.get(&*done.from).filter(is_good).map(|reading| reading.taken);
        Some(done.confirmed.saturating_duration_since(before.max(last)?))
    }

    /// Compares every replica with the member that it follows. Returns who that is, replicas in the order of the
    /// members.
    fn replicas(&mut self, service: &Service, limits: &Limits, now: Instant) -> Vec<Option<usize>> {
        let sources = Sources::of(service, &self.members);
        let sources: Vec<_> = service.members.iter().map(|member| sources.find(member)).collect();
        for (member, source) in service.members.iter().zip(&sources) {
            let source = source.and_then(|at| self.members.get(&service.members[at].instance));
            let Some(replica) = self.members.get(&member.instance) else { continue };
            let both = source.and_then(|source| Some((replica.reading.as_ref()?, source.reading.as_ref()?)));
            let (lag, mismatch) = match both {
                None => (None, None),
                Some((own, masters)) if own.is_with(masters) => {
                    let shares = shares_history(&own.facts, &masters.facts);
                    let stream = source.map(|source| &source.stream);
                    let lag = stream
                        .filter(|_| shares != Some(false))
                        .and_then(|stream| Lag::between(&own.facts, &masters.facts, own.taken, stream));
                    (lag, shares.map(|shares| !shares))
                }
                // One of them was asked alone since.
                Some(_) => {
                    let is_fresh = |lag: &Lag| now.saturating_duration_since(lag.taken) <= limits.age;
                    let lag = replica.lag.filter(is_fresh);
                    (lag, replica.mismatch)
                }
            };
            if let Some(replica) = self.members.get_mut(&member.instance) {
                (replica.lag, replica.mismatch) = (lag, mismatch);
                replica.is_lagging = lag.is_some_and(|lag| lag.bytes >= limits.lag_bytes);
            }
        }
        sources
    }

    fn judge(&self, service: &Service, sources: &[Option<usize>]) -> Verdict {
        let truths: Vec<_> = service.members.iter().map(|m| self.members.get(&m.instance)).collect();
        let role = |at: usize| truths[at].and_then(|truth| truth.role);
        let said: Vec<_> = (0..truths.len()).filter(|at| role(*at) == Some(Role::Master)).collect();
        let was_read = truths.iter().flatten().any(|truth| truth.was_read);
        let confirmed = service.master.as_ref().map(|master| master.instance.clone());
        let master = match service.kind {
            "sentinel" => confirmed,
            "cluster" => None,
            _ => match said[..] {
                [one] => Some(service.members[one].instance.clone()),
                _ => None,
            },
        };
        let masters = match &service.view {
            View::Cluster(view) => service.answered.map(|_| view.rivals),
            _ => was_read.then_some(said.len() as u32),
        };
        let at_risk = self.at_risk(&truths, sources, |head| {
            service.kind != "sentinel" || master.as_ref() == Some(&service.members[head].instance)
        });
        Verdict { up: self.is_up(service, &truths, was_read), masters, master, at_risk }
    }

    /// How far the best replica of a master is behind it, over however many others it replicates; of several
    /// masters the worst.
    fn at_risk(
        &self,
        truths: &[Option<&MemberTruth>],
        sources: &[Option<usize>],
        counts: impl Fn(usize) -> bool,
    ) -> Option<u64> {
        let is_head =
            |at: usize| truths[at].is_some_and(|t| t.role == Some(Role::Master) && t.reading.is_some());
        let behind = |replica: usize| {
            if truths[replica]?.facts()?.priority == Some(0) {
                return None;
            }
            let (mut at, mut bytes) = (replica, 0_u64);
            // A chain is short; who replicate from each other in a circle have no head.
            for _ in 0..8 {
                bytes = bytes.saturating_add(truths[at]?.lag?.bytes);
                at = sources[at]?;
                if is_head(at) {
                    return Some((at, bytes));
                }
            }
            None
        };
        let mut best: HashMap<usize, u64> = HashMap::new();
        for (head, bytes) in (0..truths.len()).filter_map(behind).filter(|(head, _)| counts(*head)) {
            best.entry(head).and_modify(|least| *least = bytes.min(*least)).or_insert(bytes);
        }
        best.into_values().max()
    }

    /// See the family's help.
    fn is_up(&self, service: &Service, truths: &[Option<&MemberTruth>], was_read: bool) -> Option<bool> {
        let serves = |truth: &MemberTruth| {
            truth.role.is_some() && truth.facts().and_then(|facts| facts.loading) != Some(true)
        };
        let is_master = |truth: &MemberTruth| serves(truth) && truth.role == Some(Role::Master);
        // Before anybody answered nothing is known, unless nobody does.
        let is_told = matches!(service.kind, "sentinel" | "cluster");
        if service.answered.is_none() && (is_told || service.members.is_empty()) {
            return service.failure.is_some().then_some(false);
        }
        let member = |instance: &str| {
            self.members.get(instance).filter(|truth| truth.was_read || truth.role.is_some())
        };
        match (service.kind, &service.view) {
            ("sentinel", view) => {
                let Some(master) = &service.master else { return was_read.then_some(false) };
                let newest = match view {
                    View::Sentinel(view) => view.epoch,
                    _ => None,
                };
                let is_newest = newest.is_none_or(|epoch| epoch <= master.epoch);
                member(&master.instance).map(|truth| is_newest && is_master(truth))
            }
            ("cluster", View::Cluster(view)) => {
                // What an old answer says of the slots is true as long as their masters answer us.
                let answers = |instance: &Arc<str>| member(instance).is_some_and(is_master);
                let is_known = service.failure.is_none() || view.masters.values().all(answers);
                Some(view.covered == SLOTS && is_known)
            }
            _ => {
                let had_master = truths.iter().flatten().any(|truth| truth.last_role == Some(Role::Master));
                let counts = |truth: &&MemberTruth| match had_master {
                    true => is_master(truth),
                    false => truth.reading.is_some(),
                };
                (was_read || service.members.is_empty()).then(|| truths.iter().flatten().any(|t| counts(&t)))
            }
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

    /// Whether the service can be used; `None` while that is not known.
    pub fn up(&self) -> Option<bool> {
        self.verdict.up
    }

    /// The master: that of the Sentinels, or the only one of a list; a Cluster has none.
    pub fn master(&self) -> Option<&Arc<str>> {
        self.verdict.master.as_ref()
    }
}

/// What the member is: what it said, or what was confirmed since.
fn role_of(
    service: &Service,
    member: &Member,
    reading: Option<&MemberReading<'_>>,
    truth: &MemberTruth,
    age: Duration,
    now: Instant,
) -> Option<Role> {
    let is_news = service.master.as_ref().is_some_and(|master| {
        master.instance == member.instance
            && reading.is_none_or(|reading| master.confirmed > reading.taken)
            && now.saturating_duration_since(master.confirmed) <= age
    });
    if is_news { Some(Role::Master) } else { truth.facts().and_then(|facts| facts.role) }
}
