//! What changes from one picture of a Cluster to the next: failovers, nodes that come and go, slots that move.
//!
//! Pure: time is passed in. A new master counts once it says itself, in its own line, that it is one with the
//! newest epoch; the cluster's word alone, or an older epoch, is taken after `failover_max`. A shard stays the same one through a
//! failover because its id is remembered.
//!
//! What a newcomer would get wrong: the nodes of a healthy cluster disagree for some hundred milliseconds
//! after every change, since they gossip. That is worth asking again soon, but no event before it has lasted.

use super::view::{Picture, Remembered, Shard};
use super::{SLOTS, table::State};
use crate::connect::Kind;
use crate::discover::lasting::Lasting;
use crate::discover::service::{Completed, Failover, History, Member, Service, View};
use crate::telemetry::events;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long nodes must disagree before it is an event, and how long no slot must have moved before a move is
/// over: moving slots one by one has pauses.
const LASTING: Duration = Duration::from_secs(3);

/// How many nodes that came, went or moved are told one by one; more are told as a number.
const TOLD_BY_NAME: usize = 10;

/// Something to be told in the event log.
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    /// What kind of thing.
    pub kind: events::Kind,
    /// What it was before.
    pub from: Option<Arc<str>>,
    /// What it is now.
    pub to: Option<Arc<str>>,
    /// The same as a sentence.
    pub message: String,
}

/// The same moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// By the clock that never jumps.
    pub instant: Instant,
    /// By the clock on the wall.
    pub time: SystemTime,
}

/// The master of a shard, as far as we believe it.
#[derive(Clone, Debug)]
struct Held {
    id: Arc<str>,
    instance: Arc<str>,
    epoch: u64,
    /// Since when its cluster does not reach it.
    failing: Option<Instant>,
    /// Whether a failover of it was published.
    is_published: bool,
    /// Since when the cluster names another one that has not confirmed it yet.
    rivalled: Option<Instant>,
}

/// Slots on the move.
#[derive(Clone, Debug)]
struct Move {
    /// Whose they were before.
    before: Vec<u16>,
    /// When one was last seen moving.
    last: Instant,
}

/// Something for which it is worth asking again soon.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Cause {
    /// Something happens to this node.
    Node(Arc<str>),
    /// We do not reach this master, whatever its cluster says.
    Silent(Arc<str>),
    /// The master of this shard fails, or another one is named.
    Shard(Arc<str>),
    /// Slots are on the move.
    Moving,
}

/// Follows one Cluster.
#[derive(Debug)]
pub struct Follower {
    /// What is known now, as it is published.
    pub service: Service,
    /// What the next picture is made with.
    pub remembered: Remembered,
    /// The nodes of the last picture that are to be asked every time.
    pub restless: HashSet<Arc<str>>,
    /// Node ids of the members, with their labels `instance`.
    members: BTreeMap<Arc<str>, Arc<str>>,
    masters: BTreeMap<Arc<str>, Held>,
    /// A number for each shard that is known or had slots before, from 1 on, and for each slot that of its shard.
    numbers: HashMap<Arc<str>, u16>,
    owners: Vec<u16>,
    moving: Option<Move>,
    uncovered: u32,
    /// What the nodes said last of the cluster as a whole.
    is_ok: bool,
    disagreement: Lasting,
    contest: Lasting,
    is_silent: bool,
    /// Since when something is happening: what stays for long must not hide what comes later.
    restless_since: HashMap<Cause, Instant>,
}

impl Follower {
    /// Begins to follow a service of which nothing is known.
    pub fn new(name: Arc<str>) -> Self {
        Self {
            service: Service::unknown(name, "cluster"),
            remembered: Remembered::default(),
            restless: HashSet::new(),
            members: BTreeMap::new(),
            masters: BTreeMap::new(),
            numbers: HashMap::new(),
            owners: vec![0; usize::from(SLOTS)],
            moving: None,
            uncovered: 0,
            is_ok: true,
            disagreement: Lasting::default(),
            contest: Lasting::default(),
            is_silent: false,
            restless_since: HashMap::new(),
        }
    }

    /// Takes note that nobody answered; what was known stays, but no failover lasts for ever.
    pub fn fail(&mut self, kind: Kind, reason: &str, now: Now, failover_max: Duration) -> Vec<Happening> {
        self.service.failure = Some((kind, reason.to_owned()));
        let is_over =
            |failover: &mut Failover| now.instant.saturating_duration_since(failover.began) >= failover_max;
        self.service.failover.take_if(is_over);
        if let View::Cluster(view) = &mut self.service.view {
            let silent = &self.remembered.silent;
            view.reachable = self.members.keys().filter(|id| !silent.contains(*id)).count() as u32;
        }
        if std::mem::replace(&mut self.is_silent, true) {
            return vec![];
        }
        let message = format!("no node of the cluster tells of the others: {reason}");
        vec![happening(events::Kind::Discovery, None, Some("failed"), message)]
    }

    /// Takes the next picture and says what happened since the last one. `tellers` nodes made it.
    pub fn take(
        &mut self,
        picture: &Picture,
        tellers: usize,
        now: Now,
        failover_max: Duration,
    ) -> Vec<Happening> {
        let serves = |picture: &Picture| picture.view.shards > 0;
        let was_serving = self.owners.iter().any(|owner| *owner != 0);
        if was_serving && !serves(picture) && tellers * 2 < self.members.len() {
            // Nodes that were removed know nobody but themselves.
            let reason = "those that answer belong to no cluster that serves slots";
            return self.fail(Kind::ClusterDown, reason, now, failover_max);
        }
        let mut told = vec![];
        if std::mem::take(&mut self.is_silent) {
            let message = "nodes of the cluster tell of the others again".to_owned();
            told.push(happening(events::Kind::Discovery, Some("failed"), Some("ok"), message));
        }
        let is_first = self.service.answered.is_none();
        self.take_members(picture, is_first, &mut told);
        self.take_masters(picture, now, failover_max, &mut told);
        self.take_slots(picture, now.instant, is_first, &mut told);
        self.take_views(picture, now.instant, &mut told);
        self.service.answered = Some(now.instant);
        self.service.failure = None;
        self.restless = picture.restless.iter().cloned().collect();
        self.remember(picture);
        let causes = self.causes();
        self.restless_since.retain(|cause, _| causes.contains(cause));
        for cause in causes {
            self.restless_since.entry(cause).or_insert(now.instant);
        }
        told
    }

    /// Whether to ask again soon: something is happening, and has not been for too long.
    pub fn is_restless(&self, now: Instant, failover_max: Duration) -> bool {
        self.restless_since.values().any(|since| now.saturating_duration_since(*since) < failover_max)
    }

    /// What is happening now.
    fn causes(&self) -> HashSet<Cause> {
        let silent = |held: &Held| self.remembered.silent.contains(&held.id);
        let in_trouble = |held: &Held| held.failing.is_some() || held.rivalled.is_some();
        let nodes = self.restless.iter().map(|id| Cause::Node(id.clone()));
        let missed =
            self.masters.values().filter(|held| silent(held)).map(|held| Cause::Silent(held.id.clone()));
        let shards = self.masters.iter().filter(|(_, held)| in_trouble(held));
        let shards = shards.map(|(shard, _)| Cause::Shard(shard.clone()));
        nodes.chain(missed).chain(shards).chain(self.moving.is_some().then_some(Cause::Moving)).collect()
    }

    fn take_members(&mut self, picture: &Picture, is_first: bool, told: &mut Vec<Happening>) {
        let topology = events::Kind::Topology;
        let mut members: Vec<Arc<Member>> = vec![];
        let mut instances = BTreeMap::new();
        let mut changes = vec![];
        let (mut joined, mut elsewhere, mut left) = (0, 0, 0);
        for (id, known) in &picture.nodes {
            let instance = Member::instance_of(&known.address);
            match self.members.get(id) {
                None if is_first => {}
                None => {
                    let message = format!("{instance} joined the cluster");
                    changes.push(happening(topology, None, Some(&instance), message));
                    joined += 1;
                }
                Some(before) if *before != instance => {
                    let message = format!("{before} is reached at {instance} now");
                    changes.push(happening(topology, Some(before), Some(&instance), message));
                    elsewhere += 1;
                }
                Some(_) => {}
            }
            instances.insert(id.clone(), instance.clone());
            members.push(Arc::new(Member {
                address: known.address.clone(),
                instance,
                shard: Some(known.shard.clone()),
                id: Some(id.clone()),
                labels: BTreeMap::new(),
            }));
        }
        for (_, instance) in self.members.iter().filter(|(id, _)| !instances.contains_key(*id)) {
            changes.push(happening(topology, Some(instance), None, format!("{instance} left the cluster")));
            left += 1;
        }
        if changes.len() > TOLD_BY_NAME {
            let message = format!(
                "nodes that joined the cluster: {joined}, left it: {left}, are reached elsewhere now: {elsewhere}"
            );
            changes = vec![happening(topology, None, None, message)];
        }
        told.append(&mut changes);
        if is_first {
            let (nodes, shards) = (picture.view.nodes, picture.view.shards);
            let message = format!("found a cluster of {nodes} nodes with {shards} shards that serve slots");
            told.push(happening(events::Kind::Discovery, None, Some("ok"), message));
        }
        members.sort_by(|a, b| a.instance.cmp(&b.instance));
        // Members that are still the same stay the same object.
        let known: HashMap<_, _> =
            self.service.members.iter().map(|member| (&member.instance, member)).collect();
        for member in &mut members {
            if let Some(same) = known.get(&member.instance).filter(|same| ***same == *member) {
                *member = Arc::clone(same);
            }
        }
        self.service.members = members;
        self.members = instances;
    }

    fn take_masters(
        &mut self,
        picture: &Picture,
        now: Now,
        failover_max: Duration,
        told: &mut Vec<Happening>,
    ) {
        let serving = |shard: &Arc<str>| picture.shards.get(shard).is_some_and(|shard| shard.slots > 0);
        self.masters.retain(|shard, _| serving(shard));
        let mut concerned: Vec<Arc<str>> = vec![];
        let mut began: Option<Instant> = None;
        for (name, shard) in picture.shards.iter().filter(|(name, _)| serving(name)) {
            let Some(master) = &shard.master else { continue };
            let Some(instance) = self.members.get(master).cloned() else { continue };
            let held = self.masters.entry(name.clone()).or_insert_with(|| Held {
                id: master.clone(),
                instance: instance.clone(),
                epoch: shard.epoch,
                failing: None,
                is_published: false,
                rivalled: None,
            });
            if held.id == *master {
                held.instance = instance;
                // 0: it was not told.
                held.epoch = if shard.epoch == 0 { held.epoch } else { shard.epoch };
                held.rivalled = None;
                let state = picture.nodes.get(master).map_or(State::Fine, |node| node.state);
                if let Some(happening) =
                    held.observe(state, shard.slots, now.instant, &mut self.service.history)
                {
                    told.push(happening);
                }
            } else {
                let is_newer = shard.epoch >= held.epoch || shard.epoch == 0;
                let since = *held.rivalled.get_or_insert(now.instant);
                let is_overdue = now.instant.saturating_duration_since(since) >= failover_max;
                if (shard.is_confirmed && is_newer) || is_overdue {
                    let message = format!(
                        "{instance} is the master of {} slots in the place of {}",
                        shard.slots, held.instance
                    );
                    told.push(happening(
                        events::Kind::Failover,
                        Some(&held.instance),
                        Some(&instance),
                        message,
                    ));
                    self.service.history.completed += 1;
                    self.service.history.last = Some(Completed {
                        from: held.instance.clone(),
                        to: instance.clone(),
                        began: held.failing,
                        confirmed: now.instant,
                        time: now.time,
                        phases: vec![],
                    });
                    *held = Held {
                        id: master.clone(),
                        instance,
                        epoch: shard.epoch,
                        failing: None,
                        is_published: false,
                        rivalled: None,
                    };
                }
            }
            let since = [held.failing, held.rivalled].into_iter().flatten().min();
            let Some(since) = since else { continue };
            if now.instant.saturating_duration_since(since) < failover_max
                && held.has_successor(shard, picture)
            {
                held.is_published = true;
                began = Some(began.map_or(since, |began| began.min(since)));
                concerned.extend(shard.nodes.iter().filter_map(|id| self.members.get(id)).cloned());
            }
        }
        concerned.sort();
        self.service.failover = began.map(|began| Failover { began, members: concerned, phase: "failing" });
        let mut view = picture.view.clone();
        view.masters =
            self.masters.iter().map(|(shard, held)| (shard.clone(), held.instance.clone())).collect();
        self.service.view = View::Cluster(view);
    }

    fn take_slots(&mut self, picture: &Picture, now: Instant, is_first: bool, told: &mut Vec<Happening>) {
        let topology = events::Kind::Topology;
        let mut translated = vec![0_u16];
        // A number is free again when nothing speaks of its shard any more.
        let before = self.moving.iter().flat_map(|moving| &moving.before);
        let referenced: HashSet<u16> = self.owners.iter().chain(before).copied().collect();
        self.numbers
            .retain(|shard, number| picture.shards.contains_key(shard) || referenced.contains(number));
        let taken: HashSet<u16> = self.numbers.values().copied().collect();
        let mut free = (1..u16::MAX).filter(|number| !taken.contains(number));
        for shard in picture.shards.keys() {
            let number = self.numbers.entry(shard.clone());
            translated.push(*number.or_insert_with(|| free.next().unwrap_or(u16::MAX)));
        }
        let owners: Vec<u16> =
            picture.owners.iter().map(|at| translated.get(usize::from(*at)).copied().unwrap_or(0)).collect();
        // A shard that is not known any more did not lose its slots: it has got its proper name.
        let moved = |before: &[u16]| {
            let is_moved = |(before, after): &(&u16, &u16)| {
                before != after && **after != 0 && translated.contains(before)
            };
            before
                .iter()
                .zip(&owners)
                .filter(|(before, after)| **before != 0 && is_moved(&(before, after)))
                .count()
        };
        let open = picture.view.migrating + picture.view.importing;
        if open > 0 || (!is_first && moved(&self.owners) > 0) {
            match &mut self.moving {
                Some(moving) => moving.last = now,
                None => {
                    self.moving = Some(Move { before: self.owners.clone(), last: now });
                    let message = "slots are being moved between shards".to_owned();
                    told.push(happening(topology, None, Some("resharding"), message));
                }
            }
        } else if let Some(moving) = &self.moving
            && now.saturating_duration_since(moving.last) >= LASTING
        {
            let message = match moved(&moving.before) {
                0 => "slots are no longer being moved, and none has changed its shard".to_owned(),
                count => format!("slots are no longer being moved, {count} have changed their shard"),
            };
            told.push(happening(topology, Some("resharding"), None, message));
            self.moving = None;
        }
        self.owners = owners;
        let uncovered = picture.view.uncovered;
        let before = std::mem::replace(&mut self.uncovered, uncovered);
        // A cluster that was never set up lacks nothing.
        if before == 0 && uncovered > 0 && picture.view.shards > 0 {
            let message = format!("no node serves {uncovered} of the slots");
            told.push(happening(topology, None, Some("uncovered"), message));
        } else if before > 0 && uncovered == 0 && !is_first {
            let message = "all slots are served".to_owned();
            told.push(happening(topology, Some("uncovered"), None, message));
        }
    }

    fn take_views(&mut self, picture: &Picture, now: Instant, told: &mut Vec<Happening>) {
        let discovery = events::Kind::Discovery;
        let view = &picture.view;
        if let Some(is_ok) = view.is_ok
            && std::mem::replace(&mut self.is_ok, is_ok) != is_ok
        {
            let (from, to, message) = match is_ok {
                false => ("ok", "fail", "masters say that the cluster is down (cluster_state:fail)"),
                true => (
                    "fail",
                    "ok",
                    "all masters that were asked say that the cluster is up (cluster_state:ok)",
                ),
            };
            told.push(happening(events::Kind::Topology, Some(from), Some(to), message.to_owned()));
        }
        match self.disagreement.turn(view.disagreeing > 0, now, LASTING) {
            Some(true) => {
                let message = format!("nodes name other owners of slots than most do: {}", view.disagreeing);
                told.push(happening(discovery, None, Some("disagreeing"), message));
            }
            Some(false) => {
                let message = "all nodes that were asked name the same owners of slots".to_owned();
                told.push(happening(discovery, Some("disagreeing"), None, message));
            }
            None => {}
        }
        match self.contest.turn(view.contested > 0, now, LASTING) {
            Some(true) => {
                let message =
                    format!("{} masters claim slots of each other: {}", view.rivals, view.contested);
                told.push(happening(discovery, None, Some("contested"), message));
            }
            Some(false) => {
                let message = "no slot is claimed by several masters".to_owned();
                told.push(happening(discovery, Some("contested"), None, message));
            }
            None => {}
        }
    }

    fn remember(&mut self, picture: &Picture) {
        let shards = picture.nodes.iter().map(|(id, known)| (id.clone(), known.shard.clone()));
        self.remembered.shards = shards.collect();
        let masters = self.masters.iter().map(|(shard, held)| (shard.clone(), held.id.clone()));
        self.remembered.masters = masters.collect();
        self.remembered.silent.retain(|id| picture.nodes.contains_key(id));
    }
}

impl Held {
    /// Takes note of how its cluster sees it.
    fn observe(
        &mut self,
        state: State,
        slots: u32,
        now: Instant,
        history: &mut History,
    ) -> Option<Happening> {
        let failover = events::Kind::Failover;
        match (state, self.failing) {
            (State::Fine, Some(_)) => {
                self.failing = None;
                history.aborted += u64::from(std::mem::take(&mut self.is_published));
                let message =
                    format!("the cluster reaches {} again, which is still the master", self.instance);
                Some(happening(failover, Some("failing"), Some(&self.instance), message))
            }
            (State::Suspected | State::Failed, None) => {
                self.failing = Some(now);
                let message =
                    format!("the cluster does not reach {}, the master of {slots} slots", self.instance);
                Some(happening(failover, Some(&self.instance), Some("failing"), message))
            }
            _ => None,
        }
    }

    /// Whether there is somebody who could take its place, or does.
    fn has_successor(&self, shard: &Shard, picture: &Picture) -> bool {
        let is_well = |id: &&Arc<str>| picture.nodes.get(*id).is_some_and(|node| node.state == State::Fine);
        shard.nodes.iter().filter(|id| **id != self.id).any(|id| is_well(&id))
    }
}

fn happening(kind: events::Kind, from: Option<&str>, to: Option<&str>, message: String) -> Happening {
    Happening { kind, from: from.map(Arc::from), to: to.map(Arc::from), message }
}

#[cfg(test)]
mod tests {
    use super::super::view::tests::{all_say, picture};
    use super::super::view::{Known, Said};
    use super::*;
    use crate::discover::service::ClusterView;

    const MAX: Duration = Duration::from_secs(60);

    const SOUND: &str = "a:1 master - 1 0-99
        b:2 slave a 1
        c:3 master - 2 100-16383
        d:4 slave c 2";
    const FAILING: &str = "a:1 master,fail? - 1 0-99
        b:2 slave a 1
        c:3 master - 2 100-16383
        d:4 slave c 2";
    const REPLACED: &str = "a:1 master,fail - 1
        b:2 master - 5 0-99
        c:3 master - 2 100-16383
        d:4 slave c 2";

    /// A follower and a clock.
    struct Scene {
        follower: Follower,
        now: Now,
    }

    impl Scene {
        /// After the first picture of a sound cluster.
        fn new() -> Self {
            let now = Now { instant: Instant::now(), time: SystemTime::UNIX_EPOCH };
            let mut scene = Self { follower: Follower::new("s".into()), now };
            assert_eq!(
                scene.all(&[1, 2, 3, 4], SOUND),
                ["discovery -/ok: found a cluster of 4 nodes with 2 shards that serve slots"]
            );
            scene
        }

        /// What is told after another second in which these said that.
        fn take(&mut self, said: &[Said]) -> Vec<String> {
            self.after(1, said)
        }

        fn after(&mut self, seconds: u64, said: &[Said]) -> Vec<String> {
            self.now.instant += Duration::from_secs(seconds);
            let picture = picture(said, &self.follower.remembered);
            written(self.follower.take(&picture, said.len(), self.now, MAX))
        }

        /// The same of nodes that agree.
        fn all(&mut self, ports: &[u16], lines: &str) -> Vec<String> {
            self.take(&all_say(ports, lines))
        }

        fn fail(&mut self) -> Vec<Happening> {
            self.now.instant += Duration::from_secs(1);
            self.follower.fail(Kind::Refused, "cannot connect", self.now, MAX)
        }

        fn view(&self) -> &ClusterView {
            match &self.follower.service.view {
                View::Cluster(view) => view,
                other => panic!("{other:?}"),
            }
        }

        fn concerned(&self) -> Vec<&str> {
            self.follower
                .service
                .failover
                .iter()
                .flat_map(|failover| &failover.members)
                .map(|m| &**m)
                .collect()
        }

        fn history(&self) -> (u64, u64) {
            (self.follower.service.history.completed, self.follower.service.history.aborted)
        }
    }

    fn written(told: Vec<Happening>) -> Vec<String> {
        let word = |word: Option<Arc<str>>| word.map_or("-".to_owned(), |word| word.to_string());
        told.into_iter()
            .map(|it| format!("{} {}/{}: {}", it.kind.as_str(), word(it.from), word(it.to), it.message))
            .map(|line| line.replace("10.0.0.1:", ":"))
            .collect()
    }

    #[test]
    fn a_dead_master_is_a_failover_until_a_replica_has_its_place() {
        let mut scene = Scene::new();
        let before = scene.follower.service.members.clone();
        let told = scene.all(&[2, 3, 4], FAILING);
        assert_eq!(told, ["failover :1/failing: the cluster does not reach :1, the master of 100 slots"]);
        let began = scene.now.instant;
        assert_eq!(scene.concerned(), ["10.0.0.1:1", "10.0.0.1:2"]);
        assert!(scene.follower.is_restless(scene.now.instant, MAX));
        assert_eq!(scene.all(&[2, 3, 4], FAILING), [""; 0]);
        // The others know of it before we have heard it from the new master.
        assert_eq!(scene.all(&[3, 4], REPLACED), [""; 0]);
        assert_eq!(&*scene.view().masters["a"], "10.0.0.1:1");
        assert_eq!(scene.concerned(), ["10.0.0.1:1", "10.0.0.1:2"]);
        let told = scene.all(&[2, 3, 4], REPLACED);
        assert_eq!(told, ["failover :1/:2: :2 is the master of 100 slots in the place of :1"]);
        assert_eq!((scene.concerned().len(), scene.history()), (0, (1, 0)));
        assert_eq!(&*scene.view().masters["a"], "10.0.0.1:2");
        let last = scene.follower.service.history.last.clone().expect("a failover");
        assert_eq!((last.began, last.confirmed), (Some(began), scene.now.instant));
        let same = before.iter().zip(&scene.follower.service.members).all(|(a, b)| Arc::ptr_eq(a, b));
        assert!(same && before.len() == 4, "nobody is another member because of a failover");
        assert!(!scene.follower.is_restless(scene.now.instant, MAX));
        // It comes back as a replica.
        let back = "a:1 slave b 5\nb:2 master - 5 0-99\nc:3 master - 2 100-16383\nd:4 slave c 2";
        assert_eq!(scene.all(&[1, 2, 3, 4], back), [""; 0]);
        // And takes its place again.
        let again = "a:1 master - 6 0-99\nb:2 slave a 6\nc:3 master - 2 100-16383\nd:4 slave c 2";
        let told = scene.all(&[1, 2, 3, 4], again);
        assert_eq!(told, ["failover :2/:1: :1 is the master of 100 slots in the place of :2"]);
        let last = scene.follower.service.history.last.clone().expect("a failover");
        assert_eq!((last.began, scene.history()), (None, (2, 0)));
    }

    #[test]
    fn a_master_that_comes_back_in_time_aborts_the_failover() {
        let mut scene = Scene::new();
        scene.all(&[2, 3, 4], FAILING);
        let told = scene.all(&[1, 2, 3, 4], SOUND);
        assert_eq!(told, ["failover failing/:1: the cluster reaches :1 again, which is still the master"]);
        assert_eq!((scene.concerned().len(), scene.history()), (0, (0, 1)));
    }

    #[test]
    fn a_failover_does_not_last_for_ever_and_nobody_fails_over_without_a_replica() {
        let mut scene = Scene::new();
        scene.all(&[2, 3, 4], FAILING);
        scene.after(59, &all_say(&[2, 3, 4], FAILING));
        assert_eq!(scene.concerned().len(), 2);
        scene.after(1, &all_say(&[2, 3, 4], FAILING));
        assert_eq!(scene.concerned().len(), 0);
        assert!(!scene.follower.is_restless(scene.now.instant, MAX));
        let mut scene = Scene::new();
        let told = scene.all(&[3, 4], &FAILING.replace("slave a", "slave,fail a"));
        assert_eq!(told.len(), 1);
        assert_eq!((scene.concerned().len(), scene.history()), (0, (0, 0)));
        scene.all(&[1, 2, 3, 4], SOUND);
        assert_eq!(scene.history(), (0, 0), "what was no failover was not aborted");
    }

    #[test]
    fn a_master_that_never_confirms_is_believed_in_the_end_and_an_older_claim_never() {
        let mut scene = Scene::new();
        scene.all(&[3, 4], REPLACED);
        assert_eq!(scene.concerned(), ["10.0.0.1:1", "10.0.0.1:2"]);
        let told = scene.after(60, &all_say(&[3, 4], REPLACED));
        assert_eq!(told, ["failover :1/:2: :2 is the master of 100 slots in the place of :1"]);
        // One that was away for long knows nothing of it.
        assert_eq!(scene.all(&[1], SOUND), [""; 0]);
        assert_eq!((&*scene.view().masters["a"], scene.history()), ("10.0.0.1:2", (1, 0)));
    }

    #[test]
    fn nodes_join_and_leave_and_move() {
        let mut scene = Scene::new();
        let more = format!("{SOUND}\ne:5 slave c 2");
        assert_eq!(scene.all(&[1, 2, 3, 4, 5], &more), ["topology -/:5: :5 joined the cluster"]);
        let moved = more.replace("e:5", "e:6");
        assert_eq!(scene.all(&[1, 2, 3, 4, 6], &moved), ["topology :5/:6: :5 is reached at :6 now"]);
        assert_eq!(scene.all(&[1, 2, 3, 4], SOUND), ["topology :6/-: :6 left the cluster"]);
    }

    #[test]
    fn an_epoch_that_never_comes_delays_a_failover_but_does_not_forbid_it() {
        let mut scene = Scene::new();
        let mad = SOUND.replace("a:1 master - 1", "a:1 master - 18446744073709551615");
        scene.all(&[1, 2, 3, 4], &mad);
        // All that is told of it is sane again, and so is the failover that follows.
        scene.all(&[1, 2, 3, 4], SOUND);
        let taken =
            [":2 is the master of 100 slots in the place of :1"].map(|it| format!("failover :1/:2: {it}"));
        assert_eq!(scene.all(&[2, 3, 4], REPLACED), taken);
        let mut scene = Scene::new();
        scene.all(&[1, 2, 3, 4], &mad);
        assert_eq!(scene.all(&[2, 3, 4], REPLACED), [""; 0]);
        assert_eq!(scene.after(60, &all_say(&[2, 3, 4], REPLACED)), taken);
    }

    #[test]
    fn shards_that_are_gone_are_forgotten() {
        let mut scene = Scene::new();
        for round in 0..20 {
            let mut said = all_say(&[1, 2, 3, 4], SOUND);
            for said in &mut said {
                said.shard = said
                    .id
                    .as_ref()
                    .map(|id| format!("{}{round}", if id.as_str() < "c" { 'x' } else { 'y' }));
            }
            scene.take(&said);
        }
        let mut numbers: Vec<_> = scene.follower.numbers.values().copied().collect();
        numbers.sort_unstable();
        assert!(numbers.len() <= 4 && numbers.iter().all(|number| *number <= 4), "{numbers:?}");
    }

    #[test]
    fn many_nodes_that_join_move_and_leave_are_told_as_a_number() {
        let mut scene = Scene::new();
        let more = |count: u16, from: u16| {
            let line = |number| format!("\nn{number}:{} slave c 2", from + number);
            SOUND.to_owned() + &(0..count).map(line).collect::<String>()
        };
        let sum = |joined, left, elsewhere| {
            format!(
                "topology -/-: nodes that joined the cluster: {joined}, left it: {left}, are reached elsewhere now: {elsewhere}"
            )
        };
        assert_eq!(scene.all(&[1, 2, 3, 4], &more(10, 100)).len(), 10);
        assert_eq!(scene.all(&[1, 2, 3, 4], SOUND).len(), 10);
        assert_eq!(scene.all(&[1, 2, 3, 4], &more(11, 100)), [sum(11, 0, 0)]);
        assert_eq!(scene.all(&[1, 2, 3, 4], &more(11, 200)), [sum(0, 0, 11)]);
        assert_eq!(scene.all(&[1, 2, 3, 4], SOUND), [sum(0, 11, 0)]);
    }

    #[test]
    fn slots_move_and_that_is_over_when_it_has_paused_for_long_enough() {
        let mut scene = Scene::new();
        let open = SOUND.replace("100-16383", "100-16383 [7->-a]");
        let told = scene.all(&[1, 2, 3, 4], &open);
        assert_eq!(told, ["topology -/resharding: slots are being moved between shards"]);
        let moved = SOUND.replace("1 0-99", "7 0-199").replace("100-16383", "200-16383");
        assert_eq!(scene.all(&[1, 2, 3, 4], &moved), [""; 0]);
        assert_eq!(scene.all(&[1, 2, 3, 4], &moved), [""; 0]);
        let told = scene.after(2, &all_say(&[1, 2, 3, 4], &moved));
        assert_eq!(
            told,
            ["topology resharding/-: slots are no longer being moved, 100 have changed their shard"]
        );
        // So fast that nobody saw them on their way.
        let told = scene.all(&[1, 2, 3, 4], &SOUND.replace("- 2 100", "- 8 100"));
        assert_eq!(told, ["topology -/resharding: slots are being moved between shards"]);
        assert!(scene.follower.is_restless(scene.now.instant, MAX));
    }

    #[test]
    fn slots_that_nobody_serves_are_told_once() {
        let mut scene = Scene::new();
        let less = SOUND.replace("100-16383", "101-16383");
        assert_eq!(scene.all(&[1, 2, 3, 4], &less), ["topology -/uncovered: no node serves 1 of the slots"]);
        assert_eq!(scene.all(&[1, 2, 3, 4], &less), [""; 0]);
        assert_eq!(scene.all(&[1, 2, 3, 4], SOUND), ["topology uncovered/-: all slots are served"]);
    }

    #[test]
    fn disagreement_is_told_when_it_lasts() {
        let mut scene = Scene::new();
        let odd = [all_say(&[1, 2, 3], SOUND), all_say(&[4], &SOUND.replace("0-99", "0-98"))].concat();
        assert_eq!(scene.take(&odd), [""; 0]);
        assert_eq!(scene.all(&[1, 2, 3, 4], SOUND), [""; 0]);
        assert_eq!(scene.take(&odd), [""; 0]);
        let told = scene.after(3, &odd);
        assert_eq!(told, ["discovery -/disagreeing: nodes name other owners of slots than most do: 1"]);
        assert_eq!(scene.take(&odd), [""; 0]);
        let told = scene.all(&[1, 2, 3, 4], SOUND);
        assert_eq!(
            told,
            ["discovery disagreeing/-: all nodes that were asked name the same owners of slots"]
        );
    }

    #[test]
    fn what_was_known_stays_when_nobody_answers_or_only_those_who_know_nobody() {
        let mut scene = Scene::new();
        let told = written(scene.fail());
        assert_eq!(told, ["discovery -/failed: no node of the cluster tells of the others: cannot connect"]);
        assert_eq!(scene.fail(), []);
        let service = &scene.follower.service;
        assert_eq!(
            (service.members.len(), service.failure.as_ref().map(|why| why.0)),
            (4, Some(Kind::Refused))
        );
        assert_eq!(scene.all(&[2], "b:2 master - 0"), [""; 0]);
        assert_eq!(scene.follower.service.members.len(), 4);
        assert_eq!(scene.follower.service.failure.as_ref().map(|why| why.0), Some(Kind::ClusterDown));
        let told = scene.all(&[1, 2, 3, 4], SOUND);
        assert_eq!(told, ["discovery failed/ok: nodes of the cluster tell of the others again"]);
        assert_eq!(scene.follower.service.failure, None);
    }

    #[test]
    fn what_happens_for_long_does_not_hide_what_comes_later() {
        let mut scene = Scene::new();
        let stuck = SOUND.replace("100-16383", "100-16383 [7->-a]");
        let check = |scene: &mut Scene, seconds, expected, what: &str| {
            scene.after(seconds, &all_say(&[1, 2, 3, 4], &stuck));
            assert_eq!(scene.follower.is_restless(scene.now.instant, MAX), expected, "{what}");
        };
        check(&mut scene, 1, true, "a slot is being moved");
        check(&mut scene, 60, false, "it is stuck");
        scene.follower.remembered.silent.insert("a".into());
        check(&mut scene, 1, true, "a master is silent");
        check(&mut scene, 60, false, "to us alone");
        scene.follower.remembered.silent.insert("b".into());
        check(&mut scene, 1, false, "a replica is not waited for");
    }

    #[test]
    fn a_failover_is_over_in_the_end_though_nobody_answers() {
        let mut scene = Scene::new();
        scene.all(&[2, 3, 4], FAILING);
        scene.fail();
        assert_eq!(scene.concerned().len(), 2);
        scene.now.instant += MAX;
        scene.fail();
        assert_eq!(scene.concerned().len(), 0);
    }

    #[test]
    fn the_state_of_the_cluster_is_told_when_it_changes() {
        let mut scene = Scene::new();
        let mut said = all_say(&[1, 2, 3, 4], SOUND);
        let say = |said: &mut Vec<Said>, is_ok| said[2].info.as_mut().expect("info").is_ok = Some(is_ok);
        say(&mut said, false);
        let told = scene.take(&said);
        assert_eq!(told, ["topology ok/fail: masters say that the cluster is down (cluster_state:fail)"]);
        assert_eq!(scene.take(&said), [""; 0]);
        say(&mut said, true);
        let up =
            "topology fail/ok: all masters that were asked say that the cluster is up (cluster_state:ok)";
        assert_eq!(scene.take(&said), [up]);
    }

    #[test]
    fn a_shard_that_gets_its_proper_name_has_moved_nothing() {
        let mut scene = Scene::new();
        let mut said = all_say(&[1, 2, 3, 4], SOUND);
        for (said, shard) in said.iter_mut().zip(["x", "x", "c", "c"]) {
            said.shard = Some(shard.into());
        }
        assert_eq!(scene.take(&said), [""; 0]);
        assert_eq!(&*scene.view().masters["x"], "10.0.0.1:1");
        let shard = |known: &Known| known.shard.to_string();
        let picture = picture(&said, &scene.follower.remembered);
        assert_eq!(picture.nodes.values().map(shard).collect::<Vec<_>>(), ["x", "x", "c", "c"]);
    }
}
