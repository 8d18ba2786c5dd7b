//! The keys of members, looked at apart from ticks and seldom.
//!
//! Of each shard one member is asked: a healthy replica where there is one and replicas come first, else the
//! master. Who stands in a list by itself is asked itself. A scan is a collection of key work alone, each
//! `scrape.key_scans.interval`, at the pace of `keys_per_second`; what it made stands beside the samples of the
//! ticks until the next one ends. One whose member goes, or whose service
//! wants something else, is given up, and another one begins.
//!
//! Scans take no permits of the pool, whose permits are for collections that end within a time-out: a few scans
//! of an hour would hold all that hung members share, and be the first to be cut whenever somebody is slow. They have
//! a small number of their own, and on one host no more than half of what ticks may have there at once.
//!
//! Of a service that is about to move to another peer no scan begins, and one that is under way is given up: it may take an
//! hour, and what it makes is of no use to the other one. That one begins its own.
//!
//! What a newcomer would get wrong: the samples of a member that is no longer asked go when those of its
//! successor come, so that no key is counted twice and none is missing in between. A scan that fails changes
//! nothing; samples older than two intervals go in any case.

use super::job::Job;
use super::once::{Scraper, Wanted, host_of};
use super::slot::Slot;
use super::store::Store;
use crate::collect::facts::Role;
use crate::collect::run::Scope;
use crate::collect::snapshot::{Progress, Snapshot};
use crate::config::Config;
use crate::config::collect::{Collect, Keys};
use crate::connect::Kind;
use crate::peers::{Duty, Share, Standing};
use crate::resilience::health::State as Health;
use crate::telemetry::Metrics;
use exposition::Families;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

/// Scans at once. More wait for one to end, those first that were due first: the pace of each is a matter of its
/// server, their number is one of ours.
const AT_ONCE: usize = 8;

/// How long a scan may take, however long the interval is.
const LONGEST: Duration = Duration::from_secs(3600);

/// Lags that differ by less than that are the same: who was asked before is asked again.
const SAME_LAG: u64 = 1 << 20;

/// Everything that key scans stand on.
pub struct KeyScans {
    /// The configuration that runs.
    pub config: watch::Receiver<Arc<Config>>,
    /// Makes the collections.
    pub scraper: Scraper,
    /// The members, and where the outcomes go.
    pub store: Arc<Store>,
    /// Our own counters.
    pub metrics: Arc<Metrics>,
    /// Which services are ours.
    pub share: Share,
}

/// Members of which one is asked: the service, and the shard or the only member.
type Key = (Arc<str>, Arc<str>);

/// What is kept of them.
struct Plan {
    /// Who was asked the last time.
    chosen: Option<Arc<str>>,
    /// What their service wants.
    wanted: Arc<Collect>,
    /// Whose samples are shown.
    holder: Option<Arc<str>>,
    due: Instant,
    running: Option<Running>,
    /// What went wrong the last time.
    trouble: Option<String>,
}

/// A scan under way. Dropped, it is given up.
struct Running {
    scan: AbortHandle,
    slot: Arc<Slot>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.scan.abort();
    }
}

impl Plan {
    /// At the first look at these members.
    fn new(wanted: Arc<Collect>, due: Instant) -> Self {
        Self { chosen: None, wanted, holder: None, due, running: None, trouble: None }
    }

    /// Gives up a scan that nobody wants any more, because its member is gone or the service wants something else,
    /// and has another one begin. The same samples are wanted until then. Nor is one waited for longer than `interval`.
    fn follow(&mut self, wanted: &Arc<Collect>, slots: &[Arc<Slot>], interval: Duration, now: Instant) {
        let is_gone = |running: &Running| !slots.iter().any(|slot| slot.is_same(&running.slot));
        let wants_other = !has_same_key_work(&self.wanted, wanted);
        if wants_other || self.running.as_ref().is_some_and(is_gone) {
            self.running = None;
            self.due = now;
        }
        // The interval was made shorter, and samples get old sooner with it.
        if self.due > now + interval {
            self.due = now;
        }
        self.wanted = wanted.clone();
    }
}

/// How many scans there may be, in all and on one host.
struct Room {
    left: usize,
    of_host: usize,
    running: HashMap<String, usize>,
}

impl Room {
    /// What those that run leave.
    fn beside<'a>(running: impl Iterator<Item = &'a Running>, per_host: usize) -> Self {
        let mut room = Self { left: AT_ONCE, of_host: (per_host / 2).max(1), running: HashMap::new() };
        running.for_each(|running| room.take(&running.slot));
        room
    }

    fn has_place_for(&self, slot: &Slot) -> bool {
        let of_host = self.running.get(&host_of(&slot.member.address));
        self.left > 0 && of_host.is_none_or(|running| *running < self.of_host)
    }

    fn take(&mut self, slot: &Slot) {
        self.left = self.left.saturating_sub(1);
        *self.running.entry(host_of(&slot.member.address)).or_default() += 1;
    }
}

/// What came of a scan.
#[derive(Default)]
struct Scanned {
    /// What it made; nothing where it failed.
    parts: Option<Vec<Arc<Families>>>,
    /// Why it failed.
    error: Option<String>,
    /// A collector that could not do everything.
    failed: Option<(&'static str, Kind)>,
}

impl KeyScans {
    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut plans: HashMap<Key, Plan> = HashMap::new();
        let mut scans: JoinSet<(Key, Scanned)> = JoinSet::new();
        let mut had_work = false;
        loop {
            let config = self.config.borrow_and_update().clone();
            let standing = self.share.standing.borrow_and_update().clone();
            let has_work = config.discover.services.iter().any(|service| has_key_work(&service.collect));
            // Where nobody wants any, and nobody did, there is nothing to be forgotten either.
            let groups = if has_work || had_work { self.groups(&config, &standing) } else { HashMap::new() };
            had_work = has_work;
            plans.retain(|key, _| groups.contains_key(key));
            let now = Instant::now();
            for (key, slots) in &groups {
                let Some(service) = config.discover.service(&key.0) else { continue };
                let plan =
                    plans.entry(key.clone()).or_insert_with(|| Plan::new(service.collect.clone(), now));
                plan.follow(&service.collect, slots, config.scrape.key_scans.interval, now);
                // Who was succeeded, and who came from another shard with that one's keys.
                if let Some(holder) = &plan.holder {
                    let others = slots.iter().filter(|slot| slot.member.instance != *holder);
                    others.for_each(|slot| slot.forget_keys(Duration::ZERO));
                }
            }
            let mut room =
                Room::beside(plans.values().filter_map(|p| p.running.as_ref()), config.scrape.per_host);
            // One that was given up must let go of its collection first: who asks for the same keys would join it.
            let has_let_go = scans.len() == plans.values().filter(|plan| plan.running.is_some()).count();
            let may_begin = has_let_go && self.share.fence.is_open();
            let is_due =
                |(_, plan): &(&Key, &mut Plan)| may_begin && plan.due <= now && plan.running.is_none();
            let mut due: Vec<_> = plans.iter_mut().filter(is_due).collect();
            due.sort_by_key(|(_, plan)| plan.due);
            for (key, plan) in due {
                self.begin(&config, key, &groups[key], plan, &mut room, &mut scans);
            }
            // Who waits for a place among those that run is begun when one of them ends.
            let waiting = plans.values().filter(|plan| plan.running.is_none() && plan.due > now);
            let soon = now + patience(config.scrape.key_scans.interval);
            let next = waiting.map(|plan| plan.due).min().map_or(soon, |due| due.min(soon));
            tokio::select! {
                changed = self.config.changed() => if changed.is_err() {
                    // Whoever published is gone: we are stopping.
                    std::future::pending().await
                },
                Some(ended) = scans.join_next_with_id() => self.ended(ended, &mut plans),
                () = self.store.changed(), if has_work => {}
                // Nobody publishes where there are no others.
                Ok(()) = self.share.standing.changed(), if has_work => {}
                // Nobody tells us who is healthy.
                () = sleep_until(next), if has_work => {}
            }
        }
    }

    /// The members of services that want key work, by shard. The others lose what they had.
    fn groups(&self, config: &Config, standing: &Standing) -> HashMap<Key, Vec<Arc<Slot>>> {
        let mut groups: HashMap<Key, Vec<_>> = HashMap::new();
        for slot in self.store.slots().iter() {
            let service = config.discover.service(&slot.service);
            if !service.is_some_and(|service| has_key_work(&service.collect)) {
                slot.forget_keys(Duration::ZERO);
                continue;
            }
            slot.forget_keys(config.scrape.key_scans.interval * 2);
            if standing.duty(&slot.service) != Duty::Ours {
                continue;
            }
            let part = slot.member.shard.as_ref().unwrap_or(&slot.member.instance);
            groups.entry((slot.service.clone(), part.clone())).or_default().push(slot.clone());
        }
        groups
    }

    /// Starts the scan of one of them, if there is one to ask, and room.
    fn begin(
        &self,
        config: &Arc<Config>,
        key: &Key,
        slots: &[Arc<Slot>],
        plan: &mut Plan,
        room: &mut Room,
        scans: &mut JoinSet<(Key, Scanned)>,
    ) {
        let settings = &config.scrape.key_scans;
        let candidates: Vec<_> = slots.iter().map(|slot| Candidate::of(slot)).collect();
        let chosen = choose(&candidates, settings.replicas_first, plan.chosen.as_deref());
        let slot = chosen.and_then(|chosen| slots.iter().find(|slot| *slot.member.instance == *chosen));
        let asked = slot.and_then(|slot| {
            Some((slot, Job::of_member(config, &slot.service, &slot.member, Scope::KeysOnly)?))
        });
        let now = Instant::now();
        let Some((slot, job)) = asked else {
            plan.due = now + patience(settings.interval);
            return;
        };
        if !room.has_place_for(slot) {
            return;
        }
        room.take(slot);
        debug!(service = %key.0, instance = %slot.member.instance, "key scan");
        plan.chosen = Some(slot.member.instance.clone());
        plan.due = now + settings.interval;
        let wanted = Wanted { job, end: now + settings.interval.min(LONGEST), member: None };
        let (key, scraper) = (key.clone(), self.scraper.clone());
        let scan = scans.spawn(async move {
            // Without a membership there is no pool that could be full.
            let outcome = scraper.collect(wanted).await.ok();
            (key, outcome.map(|outcome| Scanned::new(outcome.snapshot)).unwrap_or_default())
        });
        plan.running = Some(Running { scan, slot: slot.clone() });
    }

    /// A scan ended: by itself, given up, or by a fault of ours.
    fn ended(&self, ended: Result<(Id, (Key, Scanned)), JoinError>, plans: &mut HashMap<Key, Plan>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(fault) => fault.id(),
        };
        let is_its = |plan: &&mut Plan| plan.running.as_ref().is_some_and(|running| running.scan.id() == id);
        match ended {
            Ok((_, (key, scanned))) => {
                // One that was given up may have ended just before: nobody wants it.
                if let Some(plan) = plans.get_mut(&key).filter(is_its)
                    && let Some(running) = plan.running.take()
                {
                    self.take_in(&running.slot, scanned, plan);
                }
            }
            Err(fault) if fault.is_cancelled() => {}
            Err(fault) => {
                self.metrics.panics.increment();
                error!(error = %fault, "a key scan panicked: please report this");
                if let Some(plan) = plans.values_mut().find(is_its) {
                    plan.running = None;
                }
            }
        }
    }

    /// Takes in what a scan made.
    fn take_in(&self, slot: &Slot, scanned: Scanned, plan: &mut Plan) {
        let trouble = scanned.trouble();
        if plan.trouble != trouble {
            let (service, instance) = (&slot.service, &slot.member.instance);
            match &trouble {
                Some(trouble) => warn!(%service, %instance, error = trouble, "key scan failed"),
                None => info!(%service, %instance, "key scans are well again"),
            }
            plan.trouble = trouble;
        }
        match scanned.parts {
            Some(parts) => {
                plan.holder = Some(slot.member.instance.clone());
                slot.scanned(parts);
            }
            None => plan.due = Instant::now() + self.config.borrow().scrape.key_scans.interval / 10,
        }
    }
}

impl Scanned {
    fn new(snapshot: Snapshot) -> Self {
        let failed = |(name, progress): &(&'static str, Progress)| match progress {
            // What is refused for good was told when it was.
            Progress::Failed(kind) if !kind.is_lasting() => Some((*name, *kind)),
            _ => None,
        };
        let failed = snapshot.collectors.iter().find_map(failed);
        let error = snapshot.error.map(|(_, text)| text);
        let is_whole = snapshot.up && error.is_none();
        Self { parts: Some(snapshot.parts).filter(|_| is_whole), error, failed }
    }

    /// What went wrong, in words that are the same while the same does.
    fn trouble(&self) -> Option<String> {
        let failed = || self.failed.map(|(name, kind)| format!("{name}: {}", kind.as_str()));
        self.error
            .clone()
            .or_else(failed)
            .or_else(|| self.parts.is_none().then(|| "it made nothing".to_owned()))
    }
}

/// Whether there are keys to look at.
fn has_key_work(collect: &Collect) -> bool {
    collect.keys != Keys::default() || !collect.key_groups.is_empty()
}

/// Whether a scan makes the same of both.
fn has_same_key_work(a: &Collect, b: &Collect) -> bool {
    let of_keys = |c: &Collect| (c.batch_size, c.hide_key_values, c.skip_keys_on_master, c.tile38);
    let of_others = |c: &Collect| (c.exclude_stream_consumers, c.max_key_groups);
    (&a.namespace, &a.keys, &a.key_groups) == (&b.namespace, &b.keys, &b.key_groups)
        && of_keys(a) == of_keys(b)
        && of_others(a) == of_others(b)
}

/// How long until another look at those of whom nobody could be asked.
fn patience(interval: Duration) -> Duration {
    (interval / 10).clamp(Duration::from_millis(100), Duration::from_secs(5))
}

/// A member as far as it matters here.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Who it is.
    pub instance: Arc<str>,
    /// What it says it is.
    pub role: Option<Role>,
    /// Whether it is well and, being a replica, has all of its master's data but the newest.
    pub is_healthy: bool,
    /// Up to where it has the stream of replication; of a master, where that ends.
    pub offset: Option<u64>,
}

impl Candidate {
    fn of(slot: &Slot) -> Self {
        let facts = slot.facts().map(|(facts, _)| facts);
        let is_linked =
            |facts: &crate::collect::Facts| facts.role != Some(Role::Replica) || facts.link_up == Some(true);
        Self {
            instance: slot.member.instance.clone(),
            role: facts.as_ref().and_then(|facts| facts.role),
            is_healthy: slot.view().health == Health::Ok
                && facts.as_ref().is_some_and(|facts| is_linked(facts)),
            offset: facts.as_ref().and_then(|facts| match facts.role {
                Some(Role::Replica) => facts.replica_offset,
                _ => facts.offset,
            }),
        }
    }
}

/// Which member of a shard is asked for its keys: with `replicas_first` a healthy replica that is hardly
/// behind the best of them, the same as `before` where it is one of these; else the master. `None` where nobody
/// can be asked, and where everybody is a replica of somebody else and replicas do not come first.
pub fn choose(members: &[Candidate], replicas_first: bool, before: Option<&str>) -> Option<Arc<str>> {
    let healthy = |role: fn(Option<Role>) -> bool| {
        let fits = move |member: &&Candidate| member.is_healthy && role(member.role);
        members.iter().filter(fits).collect::<Vec<_>>()
    };
    let replicas = if replicas_first { healthy(|role| role == Some(Role::Replica)) } else { vec![] };
    let others = |replicas: Vec<_>| {
        if replicas.is_empty() { healthy(|role| role != Some(Role::Replica)) } else { replicas }
    };
    let mut fit = others(replicas);
    // A list of one: it is asked whatever it is.
    if let ([only], true) = (members, fit.is_empty()) {
        fit.extend(Some(only).filter(|member| member.is_healthy));
    }
    // Those that are furthest have the least lag.
    let furthest = fit.iter().filter_map(|member| member.offset).max().unwrap_or(0);
    fit.retain(|member| furthest - member.offset.unwrap_or(0) < SAME_LAG);
    let again = fit.iter().find(|member| Some(&*member.instance) == before);
    let first = again.or_else(|| fit.iter().min_by_key(|member| &member.instance));
    first.map(|member| member.instance.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Address;
    use crate::config::collect::KeyPattern;

    const MIB: u64 = 1 << 20;

    /// Members as words: the name, `m` or `r`, the offset in MiB, and `!` for one that is not well.
    fn members(words: &str) -> Vec<Candidate> {
        let member = |word: &str| {
            let (word, is_healthy) = word.strip_suffix('!').map_or((word, true), |word| (word, false));
            let role = match &word[1..2] {
                "m" => Some(Role::Master),
                "r" => Some(Role::Replica),
                _ => None,
            };
            let offset = word[2..].parse::<u64>().ok().map(|mib| mib * MIB);
            Candidate { instance: word[..1].into(), role, is_healthy, offset }
        };
        words.split(' ').map(member).collect()
    }

    fn check(words: &str, replicas_first: bool, before: &str, expected: &str) {
        let chosen = choose(&members(words), replicas_first, Some(before));
        assert_eq!(chosen.as_deref().unwrap_or("-"), expected, "{words} {replicas_first} {before}");
    }

    #[test]
    fn a_healthy_replica_comes_before_the_master() {
        check("am9 br9", true, "", "b");
        check("am9 br9 cr9", true, "", "b");
        check("am9 br9! cr9", true, "", "c");
        check("am9 br9! cr9!", true, "", "a");
        check("am9! br9! cr9!", true, "", "-");
        check("am9! br9", true, "", "b");
    }

    #[test]
    fn the_master_is_asked_where_replicas_do_not_come_first() {
        check("am9 br9", false, "", "a");
        check("am9 br9", false, "b", "a");
        check("am9! br9", false, "", "-");
    }

    #[test]
    fn the_replica_that_lags_least_is_asked() {
        check("am9 br5 cr9", true, "", "c");
        check("am9 br5 cr9", true, "b", "c");
        check("am9 br cr9", true, "", "c");
        check("am9 br5 cr9!", true, "", "b");
    }

    #[test]
    fn who_was_asked_is_asked_again_among_equals() {
        check("am9 br9 cr9 dr9", true, "d", "d");
        check("am9 br9 cr9 dr9!", true, "d", "b");
        check("am9 br9", true, "a", "b");
        check("am9 bm9", true, "b", "b");
        let mut near = members("am9 br9 cr9");
        near[1].offset = Some(9 * MIB - 1000);
        assert_eq!(choose(&near, true, Some("b")).as_deref(), Some("b"));
    }

    #[test]
    fn who_stands_alone_is_asked_itself() {
        check("am9", true, "", "a");
        check("ar9", true, "", "a");
        check("ar9", false, "", "a");
        check("a?", true, "", "a");
        check("ar9!", false, "", "-");
    }

    fn pattern() -> Vec<KeyPattern> {
        vec![KeyPattern { db: 0, pattern: "a*".into() }]
    }

    fn slot(host: &str, port: u16) -> Arc<Slot> {
        let member = crate::discover::fixed::member(Address::tcp(host, port), Default::default());
        Arc::new(Slot::new("s".into(), Arc::new(member), Arc::default()))
    }

    #[test]
    fn scans_of_one_host_are_half_of_what_ticks_may_have_there() {
        fn check(per_host: usize, hosts: &str, expected: usize) {
            let mut room = Room::beside([].into_iter(), per_host);
            let begun = hosts.split(' ').zip(1..).filter(|(host, port)| {
                let slot = slot(host, *port);
                let has_place = room.has_place_for(&slot);
                if has_place {
                    room.take(&slot);
                }
                has_place
            });
            assert_eq!(begun.count(), expected, "{per_host} {hosts}");
        }
        check(4, "a a a a", 2);
        check(4, "a a b b b", 4);
        check(5, "a a a", 2);
        check(1, "a a", 1);
        check(100, "a a a a a a a a a a", AT_ONCE);
        check(4, "a b c d e f g h i j", AT_ONCE);
    }

    #[test]
    fn a_shorter_interval_is_not_waited_for_any_longer_than_it_lasts() {
        fn check(due_in: u64, interval: u64, expected: u64) {
            let (now, collect) = (Instant::now(), Arc::new(Collect::default()));
            let after = |secs| now + Duration::from_secs(secs);
            let mut plan = Plan::new(collect.clone(), after(due_in));
            plan.follow(&collect, &[], Duration::from_secs(interval), now);
            assert_eq!(plan.due, after(expected), "{due_in} {interval}");
        }
        check(300, 300, 300);
        check(200, 3600, 200);
        check(86_400, 300, 0);
    }

    #[tokio::test]
    async fn a_scan_is_given_up_when_its_member_goes_or_its_service_wants_something_else() {
        let wanted = Collect { key_groups: vec!["x".into()], ..Collect::default() };
        let check = async |change: fn(&mut Collect), is_member: bool, goes_on: bool| {
            let now = Instant::now();
            let later = now + Duration::from_secs(60);
            let mut scans = JoinSet::new();
            let scan = scans.spawn(async {});
            let slot = slot("a", 1);
            let mut plan = Plan::new(Arc::new(wanted.clone()), later);
            plan.running = Some(Running { scan, slot: slot.clone() });
            let mut other = wanted.clone();
            change(&mut other);
            let slots = if is_member { vec![slot] } else { vec![self::slot("a", 1)] };
            plan.follow(&Arc::new(other), &slots, Duration::from_secs(60), now);
            assert_eq!((plan.running.is_some(), plan.due == later), (goes_on, goes_on));
            let ended = scans.join_next().await.expect("it was there");
            assert_eq!(ended.is_ok(), goes_on, "it ends by itself, or is made to");
        };
        check(|_| (), true, true).await;
        check(|_| (), false, false).await;
        check(|collect| collect.client_list = true, true, true).await;
        check(|collect| collect.key_groups.push("y".into()), true, false).await;
        check(|collect| collect.key_groups.clear(), true, false).await;
        check(|collect| collect.keys.check_single.clone_from(&pattern()), true, false).await;
        check(|collect| collect.batch_size = 5, true, false).await;
        check(|collect| collect.max_key_groups = 5, true, false).await;
    }

    #[test]
    fn key_work_is_keys_of_any_kind_or_groups() {
        assert!(!has_key_work(&Collect::default()));
        assert!(has_key_work(&Collect { key_groups: vec!["x".into()], ..Collect::default() }));
        for keys in [
            Keys { check: pattern(), ..Keys::default() },
            Keys { count: pattern(), ..Keys::default() },
            Keys { streams_single: pattern(), ..Keys::default() },
        ] {
            assert!(has_key_work(&Collect { keys, ..Collect::default() }));
        }
    }
}
