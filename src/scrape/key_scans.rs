//! The keys of members, looked at apart from ticks and seldom.
//!
//! Of each shard one member is asked: a healthy replica where there is one and replicas come first, else the
//! master. Who stands in a list by itself is asked itself. A scan is a collection of key work alone, each
//! `scrape.key_scans.interval`, at the pace of `keys_per_second`; what it made stands beside the samples of the
//! ticks until the next one ends.
//!
//! What a newcomer would get wrong: the samples of a member that is no longer asked go when those of its
//! successor come, so that no key is counted twice and none is missing in between. A scan that fails changes
//! nothing; samples older than two intervals go in any case.

use super::once::{Scraper, Wanted};
use super::store::{Slot, Store};
use super::target::Job;
use crate::collect::facts::Role;
use crate::collect::run::Scope;
use crate::collect::snapshot::{Progress, Snapshot};
use crate::config::Config;
use crate::config::collect::{Collect, Keys};
use crate::connect::Kind;
use crate::resilience::health::State as Health;
use crate::telemetry::Metrics;
use exposition::Families;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

/// Scans at once. More are due later: the pace of each is a matter of its server, their number is one of ours.
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
}

/// Members of which one is asked: the service, and the shard or the only member.
type Key = (Arc<str>, Arc<str>);

/// What is kept of them.
struct Plan {
    /// Who was asked the last time.
    chosen: Option<Arc<str>>,
    /// Whose samples are shown.
    holder: Option<Arc<str>>,
    due: Instant,
    is_running: bool,
    /// What went wrong the last time.
    trouble: Option<String>,
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
        let mut scans: JoinSet<(Key, Arc<Slot>, Scanned)> = JoinSet::new();
        loop {
            let config = self.config.borrow_and_update().clone();
            let groups = self.groups(&config);
            plans.retain(|key, _| groups.contains_key(key));
            let now = Instant::now();
            for (key, slots) in &groups {
                let plan = plans.entry(key.clone()).or_insert_with(|| Plan {
                    chosen: None,
                    holder: None,
                    due: now,
                    is_running: false,
                    trouble: None,
                });
                // Who was succeeded, and who came from another shard with that one's keys.
                if let Some(holder) = &plan.holder {
                    let others = slots.iter().filter(|slot| slot.member.instance != *holder);
                    others.for_each(|slot| slot.forget_keys(Duration::ZERO));
                }
                if plan.due <= now && !plan.is_running && scans.len() < AT_ONCE {
                    self.begin(&config, key, slots, plan, &mut scans);
                }
            }
            // Members come and go without a word to us.
            let has_work = config.discover.services.iter().any(|service| has_key_work(&service.collect));
            // Who waits for a place among those that run is begun when one of them ends.
            let waiting = plans.values().filter(|plan| !plan.is_running && plan.due > now);
            let soon = now + patience(config.scrape.key_scans.interval);
            let next = waiting.map(|plan| plan.due).min().map_or(soon, |due| due.min(soon));
            tokio::select! {
                changed = self.config.changed() => if changed.is_err() {
                    // Whoever published is gone: we are stopping.
                    std::future::pending().await
                },
                Some(ended) = scans.join_next() => match ended {
                    Ok((key, slot, scanned)) => self.end(&key, &slot, scanned, &mut plans),
                    Err(fault) => {
                        self.metrics.panics.increment();
                        error!(error = %fault, "a key scan panicked: please report this");
                        // Whose it was is not known: rather one scan too many than none for ever.
                        plans.values_mut().for_each(|plan| plan.is_running = false);
                    }
                },
                () = sleep_until(next), if has_work => {}
            }
        }
    }

    /// The members of services that want key work, by shard. The others lose what they had.
    fn groups(&self, config: &Config) -> HashMap<Key, Vec<Arc<Slot>>> {
        let mut groups: HashMap<Key, Vec<_>> = HashMap::new();
        for slot in self.store.slots().iter() {
            let service = config.discover.service(&slot.service);
            if !service.is_some_and(|service| has_key_work(&service.collect)) {
                slot.forget_keys(Duration::ZERO);
                continue;
            }
            slot.forget_keys(config.scrape.key_scans.interval * 2);
            let part = slot.member.shard.as_ref().unwrap_or(&slot.member.instance);
            groups.entry((slot.service.clone(), part.clone())).or_default().push(slot.clone());
        }
        groups
    }

    /// Starts the scan of one of them, if there is one to ask.
    fn begin(
        &self,
        config: &Arc<Config>,
        key: &Key,
        slots: &[Arc<Slot>],
        plan: &mut Plan,
        scans: &mut JoinSet<(Key, Arc<Slot>, Scanned)>,
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
        debug!(service = %key.0, instance = %slot.member.instance, "key scan");
        plan.chosen = Some(slot.member.instance.clone());
        plan.due = now + settings.interval;
        plan.is_running = true;
        let wanted = Wanted { job, end: now + settings.interval.min(LONGEST), member: None };
        let (key, slot, scraper) = (key.clone(), slot.clone(), self.scraper.clone());
        scans.spawn(async move {
            // Without a membership there is no pool that could be full.
            let outcome = scraper.collect(wanted).await.ok();
            (key, slot, outcome.map(|outcome| Scanned::new(outcome.snapshot)).unwrap_or_default())
        });
    }

    /// Takes in what a scan made.
    fn end(&self, key: &Key, slot: &Arc<Slot>, scanned: Scanned, plans: &mut HashMap<Key, Plan>) {
        // Its members may have gone, or nobody may want their keys any more.
        let Some(plan) = plans.get_mut(key) else { return };
        plan.is_running = false;
        let trouble = scanned.trouble();
        if plan.trouble != trouble {
            let instance = &slot.member.instance;
            match &trouble {
                Some(trouble) => warn!(service = %key.0, %instance, error = trouble, "key scan failed"),
                None => info!(service = %key.0, %instance, "key scans are well again"),
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

    #[test]
    fn key_work_is_keys_of_any_kind_or_groups() {
        assert!(!has_key_work(&Collect::default()));
        assert!(has_key_work(&Collect { key_groups: vec!["x".into()], ..Collect::default() }));
        let pattern = || vec![crate::config::collect::KeyPattern { db: 0, pattern: "a*".into() }];
        for keys in [
            Keys { check: pattern(), ..Keys::default() },
            Keys { count: pattern(), ..Keys::default() },
            Keys { streams_single: pattern(), ..Keys::default() },
        ] {
            assert!(has_key_work(&Collect { keys, ..Collect::default() }));
        }
    }
}
