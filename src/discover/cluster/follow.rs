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
mod tests;
