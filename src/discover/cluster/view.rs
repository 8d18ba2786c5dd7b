//! What many nodes said, made into one picture: members, shards, masters, and who owns which slot.
//!
//! Who is a member is what at least half of those say that were asked: a node that was removed still knows
//! itself, and an address may belong to another cluster by now. Of a node counts what it says of itself, else
//! what is said of it with the newest configuration epoch. A slot belongs to the claim with the newest epoch.
//! How a node is, is what most others say; where we do not reach it either, one of them is enough.
//!
//! What a newcomer would get wrong: an isolated old master goes on claiming its slots, and it means it. Its
//! claim is older, so it is no shard of its own; that two claim the same slot is counted beside.

use super::table::{Info, Role, Row, State, Table, is_id};
use super::{Node, SLOTS};
use crate::config::Address;
use crate::discover::rewrite::announced;
use crate::discover::service::ClusterView;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// What one node said in one round.
#[derive(Clone, Debug)]
pub struct Said {
    /// By which address we reached it.
    pub asked: Address,
    /// Its node id, where it told.
    pub id: Option<String>,
    /// What it says of all nodes.
    pub table: Option<Table>,
    /// What it says of the cluster.
    pub info: Option<Info>,
    /// The id of its shard (7.2 and later).
    pub shard: Option<String>,
}

/// What is remembered from earlier rounds.
#[derive(Debug, Default)]
pub struct Remembered {
    /// The shard of each node, by node id: before 7.2 servers have no name for shards, so the first id stays.
    pub shards: HashMap<Arc<str>, Arc<str>>,
    /// The master of each shard, by node id.
    pub masters: HashMap<Arc<str>, Arc<str>>,
    /// Nodes that did not answer when they were last asked.
    pub silent: HashSet<Arc<str>>,
}

/// A node of the cluster as it is known now.
#[derive(Clone, Debug)]
pub struct Known {
    /// By which address we reach it.
    pub address: Address,
    /// What it does.
    pub role: Role,
    /// How it is.
    pub state: State,
    /// Its shard.
    pub shard: Arc<str>,
    /// Whether it could take its master's place: a replica that is well and may.
    pub is_candidate: bool,
}

/// Nodes that copy each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shard {
    /// The node id of the master.
    pub master: Option<Arc<str>>,
    /// Its configuration epoch.
    pub epoch: u64,
    /// Whether the master says so itself, in this round.
    pub is_confirmed: bool,
    /// How many slots it serves.
    pub slots: u32,
    /// The ids of its nodes, the master's included.
    pub nodes: Vec<Arc<str>>,
}

/// A cluster as it is known now.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// The members, by node id.
    pub nodes: BTreeMap<Arc<str>, Known>,
    /// The shards, by their id.
    pub shards: BTreeMap<Arc<str>, Shard>,
    /// For each slot the shard that serves it: its place in [`Self::shards`] and 1, or 0 for none.
    pub owners: Vec<u16>,
    /// The figures. `masters` stays empty: who counts as confirmed is for others to say.
    pub view: ClusterView,
    /// Nodes to whom something is happening: they are asked every time.
    pub restless: BTreeSet<Arc<str>>,
}

/// All that is said of one node.
#[derive(Default)]
struct Votes<'a> {
    /// Tables that call it a member.
    named: usize,
    /// What it says of itself.
    own: Option<&'a Row>,
    /// Where it is, by whose table.
    places: Vec<(&'a Node, &'a Said, usize)>,
    /// What it does.
    roles: Vec<(Part<'a>, usize)>,
    /// Others that speak of it, that suspect it, that say it has failed.
    others: usize,
    suspected: usize,
    failed: usize,
}

/// What a node is in some table: its epoch, what it does, and its master.
type Part<'a> = (u64, Option<Role>, Option<&'a str>);

/// A slot's claim in some table: whose, and with which epoch.
type Claim<'a> = (&'a str, u64);

/// Makes one picture of what was said; `None` where nobody names a node that one can go to.
pub fn merge(
    said: &[Said],
    remembered: &Remembered,
    hostnames: bool,
    rewrite: &dyn Fn(Address) -> Address,
) -> Option<Picture> {
    let tables: Vec<(&Said, &Table)> =
        said.iter().filter_map(|said| Some((said, said.table.as_ref()?))).collect();
    if tables.is_empty() {
        return None;
    }
    let votes = members(votes(&tables), tables.len());
    let mut nodes = BTreeMap::new();
    for (id, votes) in &votes {
        let (epoch, role, master) = votes.role();
        let is_silent = remembered.silent.contains(*id);
        let Some(address) = votes.address(hostnames, rewrite) else { continue };
        nodes.insert(*id, Merged { address, epoch, role, master, state: votes.state(is_silent), slots: 0 });
    }
    if nodes.is_empty() {
        return None;
    }
    one_node_an_address(&mut nodes, &votes);

    let slots = Slots::of(&tables, &nodes);
    for (count, owner) in &slots.runs {
        if let Some(node) = owner.and_then(|owner| nodes.get_mut(owner)) {
            node.slots += *count as u32;
        }
    }
    let heard = |id: &str| votes.get(id).is_some_and(|votes| votes.own.is_some());
    let shards = shards(&nodes, said, remembered, &heard);
    let mut picture = Picture::default();
    let place: HashMap<&str, u16> = shards.keys().map(|id| &**id).zip(1..).collect();
    let shard_of: HashMap<&str, &Arc<str>> =
        shards.iter().flat_map(|(id, shard)| shard.nodes.iter().map(move |node| (&**node, id))).collect();
    for (count, owner) in &slots.runs {
        let shard = owner.and_then(|owner| shard_of.get(owner));
        let place = shard.and_then(|shard| place.get(&***shard)).copied().unwrap_or(0);
        picture.owners.extend(std::iter::repeat_n(place, *count));
    }
    picture.count(&nodes, &slots, said, &remembered.silent);
    picture.count_own(&nodes, &votes);
    for (id, node) in &nodes {
        let Some(shard) = shard_of.get(id) else { continue };
        let may = votes.get(id).is_some_and(|v| !v.own.is_some_and(|row| row.is_no_candidate));
        let is_candidate = node.role == Role::Replica && node.state == State::Fine && may;
        let known = Known {
            address: node.address.clone(),
            role: node.role,
            state: node.state,
            shard: Arc::clone(shard),
            is_candidate,
        };
        picture.nodes.insert(Arc::from(*id), known);
    }
    picture.shards = shards;
    picture.count_shards();
    picture.restless.retain(|id| picture.nodes.contains_key(id));
    Some(picture)
}

/// A node on its way into a [`Picture`].
struct Merged<'a> {
    address: Address,
    epoch: u64,
    role: Role,
    master: Option<&'a str>,
    state: State,
    /// The slots that it owns.
    slots: u32,
}

fn votes<'a>(tables: &[(&'a Said, &'a Table)]) -> HashMap<&'a str, Votes<'a>> {
    let mut all: HashMap<&str, Votes> = HashMap::new();
    for (said, table) in tables {
        // Each table has one vote, however often it names somebody.
        let mut seen = HashSet::new();
        for row in table.rows.iter().filter(|row| seen.insert(&*row.id)) {
            let votes = all.entry(&row.id).or_default();
            if row.is_myself {
                votes.own = Some(row);
            } else {
                votes.others += 1;
                votes.suspected += usize::from(row.state == State::Suspected);
                votes.failed += usize::from(row.state == State::Failed);
            }
            let Some(node) = row.node.as_ref().filter(|_| row.is_member()) else { continue };
            votes.named += 1;
            match votes.places.iter_mut().find(|(known, ..)| *known == node) {
                Some((.., count)) => *count += 1,
                None => votes.places.push((node, said, 1)),
            }
            let role = (row.epoch, row.role, row.master.as_deref());
            match votes.roles.iter_mut().find(|(known, _)| *known == role) {
                Some((_, count)) => *count += 1,
                None => votes.roles.push((role, 1)),
            }
        }
    }
    all
}

/// Those that at least half of the tables name.
fn members<'a>(mut votes: HashMap<&'a str, Votes<'a>>, tables: usize) -> HashMap<&'a str, Votes<'a>> {
    votes.retain(|_, votes| votes.named > 0 && votes.named * 2 >= tables);
    votes
}

impl<'a> Votes<'a> {
    /// Epoch, role and master: its own word, else the newest, else what most say.
    fn role(&self) -> (u64, Role, Option<&'a str>) {
        let own = self.own.map(|row| (row.epoch, row.role, row.master.as_deref()));
        let told = self.roles.iter().max_by_key(|((epoch, ..), count)| (*epoch, *count));
        let told = told.map(|((_, role, master), _)| (self.epoch(), *role, *master));
        let (epoch, role, master) = own.or(told).unwrap_or_default();
        (epoch, role.unwrap_or(Role::Master), master)
    }

    /// The newest epoch that most of those grant it who name it: one alone could name one that never comes.
    fn epoch(&self) -> u64 {
        let mut epochs: Vec<_> = self.roles.iter().map(|((epoch, ..), count)| (*epoch, *count)).collect();
        epochs.sort_unstable_by_key(|(epoch, _)| std::cmp::Reverse(*epoch));
        let mut granted = 0;
        let most = epochs.into_iter().find(|(_, count)| {
            granted += count;
            granted * 2 > self.named
        });
        most.map_or(0, |(epoch, _)| epoch)
    }

    fn state(&self, is_silent: bool) -> State {
        if self.failed * 2 > self.others || (is_silent && self.failed > 0) {
            State::Failed
        } else if (self.failed + self.suspected) * 2 > self.others || (is_silent && self.suspected > 0) {
            State::Suspected
        } else {
            State::Fine
        }
    }

    /// Where most say that it is; an address that is known before one that is not.
    fn address(&self, hostnames: bool, rewrite: &dyn Fn(Address) -> Address) -> Option<Address> {
        let mut places: Vec<_> = self.places.iter().collect();
        places.sort_by_key(|(node, _, count)| std::cmp::Reverse((!node.ip.is_empty(), *count)));
        places.into_iter().find_map(|(node, said, _)| reached(node, said, hostnames, rewrite))
    }
}

/// Where we reach a node that somebody names. A node without an address is the one that speaks, and was met
/// by nobody yet: it is reached where it was asked, which is no announced address. `None` for a host that is
/// none.
pub fn reached(
    node: &Node,
    said: &Said,
    hostnames: bool,
    rewrite: &dyn Fn(Address) -> Address,
) -> Option<Address> {
    let host = node.hostname.as_ref().filter(|_| hostnames).unwrap_or(&node.ip);
    if host.is_empty() {
        return Some(said.asked.clone());
    }
    let announced = announced(host, &node.port.to_string())?;
    Some(rewrite(Address { tls: said.asked.tls, ..announced }))
}

/// A node that was set up anew at the address of another one takes its place: that one cannot be reached.
fn one_node_an_address(nodes: &mut BTreeMap<&str, Merged>, votes: &HashMap<&str, Votes>) {
    let mut best = HashMap::new();
    for (id, node) in nodes.iter() {
        let heard = votes.get(id).is_some_and(|votes| votes.own.is_some());
        let rank = (heard, std::cmp::Reverse(node.state), node.epoch);
        let entry = best.entry(node.address.endpoint.clone()).or_insert((rank, *id));
        if rank > entry.0 {
            *entry = (rank, id);
        }
    }
    nodes.retain(|id, node| best.get(&node.address.endpoint).is_some_and(|(_, best)| best == id));
}

/// Who owns which slot, and who says otherwise.
struct Slots<'a> {
    /// Whose claim is the newest: for all slots in order, how many in a row, and whose they are.
    runs: Vec<(usize, Option<&'a str>)>,
    /// Tellers that name another owner than most do.
    disagreeing: Vec<&'a Said>,
    /// Nodes named as owners of slots about which not all agree.
    disputed: HashSet<&'a str>,
}

impl<'a> Slots<'a> {
    fn of(tables: &[(&'a Said, &'a Table)], nodes: &BTreeMap<&'a str, Merged<'a>>) -> Self {
        // Almost always all tables say the same: they are compared as a whole first.
        let mut claims: Vec<Claim> = vec![];
        let mut number: HashMap<Claim, u16> = HashMap::new();
        let mut groups: HashMap<Vec<u16>, Vec<&Said>> = HashMap::new();
        for (said, table) in tables {
            let mut map = vec![0_u16; usize::from(SLOTS)];
            for row in table.rows.iter().filter(|row| nodes.contains_key(&*row.id)) {
                let claim = (&*row.id, row.epoch);
                let number = match number.entry(claim) {
                    Entry::Occupied(number) => *number.get(),
                    Entry::Vacant(place) => {
                        // More claims than there are numbers are no cluster's: they count as none.
                        let Ok(next) = u16::try_from(claims.len() + 1) else { continue };
                        claims.push(claim);
                        *place.insert(next)
                    }
                };
                for range in &row.slots {
                    map[usize::from(*range.start())..=usize::from(*range.end())].fill(number);
                }
            }
            groups.entry(map).or_default().push(said);
        }
        let claim = |number: u16| usize::from(number).checked_sub(1).and_then(|at| claims.get(at)).copied();
        let mut odd: HashSet<usize> = HashSet::new();
        let groups: Vec<(Vec<u16>, Vec<&Said>)> = groups.into_iter().collect();
        let mut disputed = HashSet::new();
        let mut runs: Vec<(usize, Option<&str>)> = vec![];
        for slot in 0..usize::from(SLOTS) {
            // Slots stand in long runs about which the same is said.
            if let Some((count, _)) = runs.last_mut()
                && groups.iter().all(|(map, _)| map[slot] == map[slot - 1])
            {
                *count += 1;
                continue;
            }
            // Owner, newest epoch, how many say so.
            let mut owners: Vec<(Option<&str>, u64, usize)> = vec![];
            let mut places: HashMap<Option<&str>, usize> = HashMap::new();
            for (map, tellers) in &groups {
                let (owner, epoch) =
                    claim(map[slot]).map_or((None, 0), |(owner, epoch)| (Some(owner), epoch));
                let at = *places.entry(owner).or_insert_with(|| {
                    owners.push((owner, epoch, 0));
                    owners.len() - 1
                });
                let (_, newest, count) = &mut owners[at];
                *newest = epoch.max(*newest);
                *count += tellers.len();
            }
            let newest = owners.iter().filter(|(owner, ..)| owner.is_some());
            let newest = newest.max_by_key(|(_, epoch, count)| (*epoch, *count));
            runs.push((1, newest.and_then(|(owner, ..)| *owner)));
            if owners.len() > 1 {
                disputed.extend(owners.iter().filter_map(|(owner, ..)| *owner));
                let usual =
                    owners.iter().max_by_key(|(_, epoch, count)| (*count, *epoch)).map(|owner| owner.0);
                let differs = |(map, _): &(Vec<u16>, _)| Some(claim(map[slot]).map(|claim| claim.0)) != usual;
                odd.extend(groups.iter().enumerate().filter(|(_, group)| differs(group)).map(|(at, _)| at));
            }
        }
        let disagreeing = odd.iter().flat_map(|at| groups[*at].1.iter().copied()).collect();
        Self { runs, disagreeing, disputed }
    }
}

/// Puts nodes together that copy each other, under an id that outlives their masters.
fn shards(
    nodes: &BTreeMap<&str, Merged>,
    said: &[Said],
    remembered: &Remembered,
    heard: &dyn Fn(&str) -> bool,
) -> BTreeMap<Arc<str>, Shard> {
    let told = told_shards(said);
    let remembered_shard = |id: &str| remembered.shards.get(id).cloned();
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for id in nodes.keys() {
        groups.entry(root(nodes, id)).or_default().push(id);
    }
    // First those that serve, and of them those that were the masters of their shards before.
    let mut order: Vec<&str> = groups.keys().copied().collect();
    let was_master = |id: &str| {
        let shard = remembered.shards.get(id);
        shard.and_then(|shard| remembered.masters.get(shard)).is_some_and(|master| **master == *id)
    };
    order.sort_by_key(|id| {
        let (slots, epoch) = nodes.get(id).map_or((0, 0), |node| (node.slots, node.epoch));
        std::cmp::Reverse((slots > 0, was_master(id), epoch))
    });
    let mut shards: BTreeMap<Arc<str>, Shard> = BTreeMap::new();
    for root in order {
        let Some(group) = groups.get(root) else { continue };
        let node = nodes.get(root);
        let slots = node.map_or(0, |node| node.slots);
        let of_replicas = || group.iter().find_map(|id| told.get(id).copied());
        let named = told.get(root).copied().or_else(of_replicas).map(Arc::from);
        let name = named
            .or_else(|| remembered_shard(root))
            .or_else(|| group.iter().find_map(|id| remembered_shard(id)));
        let mut name = name.unwrap_or_else(|| Arc::from(root));
        if slots > 0 {
            // Two that serve are never one shard.
            if shards.contains_key(&name) {
                name = Arc::from(root);
            }
            while shards.contains_key(&name) {
                name = format!("{name}+").into();
            }
        }
        // A dead or empty master stands with the one that took its slots.
        let shard = shards.entry(name).or_default();
        if shard.master.is_none() && node.is_some_and(|node| node.role == Role::Master) {
            shard.master = Some(Arc::from(root));
            shard.epoch = node.map_or(0, |node| node.epoch);
            shard.is_confirmed = heard(root);
            shard.slots = slots;
        }
        shard.nodes.extend(group.iter().map(|id| Arc::from(*id)));
    }
    shards
}

/// The master of a node, the master's master …; the node itself where there is none that is known.
fn root<'a>(nodes: &BTreeMap<&'a str, Merged<'a>>, id: &'a str) -> &'a str {
    let mut at = id;
    for _ in 0..8 {
        let Some(node) = nodes.get(at).filter(|node| node.role == Role::Replica) else { return at };
        let Some(master) = node.master.filter(|master| nodes.contains_key(master)) else { return id };
        at = master;
    }
    id
}

/// The shard of each node where a server names it: its own word, what `CLUSTER SHARDS` or a line says, or
/// that of those with whom `CLUSTER SHARDS` puts it together.
fn told_shards(said: &[Said]) -> HashMap<&str, &str> {
    let mut told = HashMap::new();
    let tables = || said.iter().filter_map(|said| said.table.as_ref());
    for row in tables().flat_map(|table| &table.rows) {
        if let Some(shard) = row.shard.as_deref() {
            told.insert(&*row.id, shard);
        }
    }
    for said in said {
        let shard = said.shard.as_deref().filter(|shard| is_id(shard));
        if let (Some(id), Some(shard)) = (said.id.as_deref(), shard) {
            told.insert(id, shard);
        }
    }
    for group in tables().flat_map(|table| &table.shards) {
        let Some(shard) = group.iter().find_map(|id| told.get(&**id).copied()) else { continue };
        for id in group {
            told.entry(&**id).or_insert(shard);
        }
    }
    told
}

impl Picture {
    /// Counts slots, and what is said of the whole.
    fn count(
        &mut self,
        nodes: &BTreeMap<&str, Merged>,
        slots: &Slots,
        said: &[Said],
        silent: &HashSet<Arc<str>>,
    ) {
        let view = &mut self.view;
        for (count, owner) in &slots.runs {
            let state = owner.and_then(|owner| nodes.get(owner)).map(|node| node.state);
            *match state {
                Some(State::Fine) => &mut view.covered,
                Some(State::Suspected) => &mut view.suspected,
                Some(State::Failed) => &mut view.failed,
                None => &mut view.uncovered,
            } += *count as u32;
        }
        view.disagreeing = slots.disagreeing.len() as u32;
        let tellers = slots.disagreeing.iter().filter_map(|said| said.id.as_deref());
        self.restless.extend(slots.disputed.iter().copied().chain(tellers).map(Arc::from));
        let member = |said: &&Said| said.id.as_deref().is_some_and(|id| nodes.contains_key(id));
        let infos = |masters: bool| {
            let is = move |id: &str| !masters || nodes.get(id).is_some_and(|node| node.role == Role::Master);
            let of = said.iter().filter(member).filter(move |said| said.id.as_deref().is_some_and(is));
            of.filter_map(|said| said.info).filter_map(|info| info.is_ok).collect::<Vec<_>>()
        };
        let states = Some(infos(true)).filter(|states| !states.is_empty()).unwrap_or_else(|| infos(false));
        view.is_ok = (!states.is_empty()).then(|| states.iter().all(|is_ok| *is_ok));
        let told = said.iter().filter(member).filter_map(|said| said.info).map(|info| info.epoch);
        view.epoch = told.chain(nodes.values().map(|node| node.epoch)).max().unwrap_or(0);
        view.nodes = nodes.len() as u32;
        view.reachable = nodes.keys().filter(|id| !silent.contains(**id)).count() as u32;
    }

    /// Counts what nodes say of themselves: slots on the move, and slots that several claim.
    fn count_own(&mut self, nodes: &BTreeMap<&str, Merged>, votes: &HashMap<&str, Votes>) {
        let own: Vec<(&str, &Row)> = nodes.keys().filter_map(|id| Some((*id, votes.get(id)?.own?))).collect();
        let mut claims = vec![0_u16; usize::from(SLOTS)];
        let masters = || own.iter().filter(|(_, row)| row.role == Some(Role::Master));
        for slot in masters().flat_map(|(_, row)| row.slots.iter().cloned().flatten()) {
            let count = &mut claims[usize::from(slot)];
            *count = count.saturating_add(1);
        }
        let contested =
            |row: &Row| row.slots.iter().cloned().flatten().any(|slot| claims[usize::from(slot)] > 1);
        let rivals: Vec<&str> = masters().filter(|(_, row)| contested(row)).map(|(id, _)| *id).collect();
        self.view.contested = claims.iter().filter(|count| **count > 1).count() as u32;
        self.view.rivals = rivals.len() as u32;
        let distinct = |of: fn(&Row) -> &Vec<(u16, String)>| {
            let slots = own.iter().flat_map(|(_, row)| of(row)).map(|(slot, _)| *slot);
            slots.collect::<BTreeSet<_>>().len() as u32
        };
        self.view.migrating = distinct(|row| &row.migrating);
        self.view.importing = distinct(|row| &row.importing);
        let movers = own.iter().filter(|(_, row)| !row.migrating.is_empty() || !row.importing.is_empty());
        self.restless.extend(rivals.into_iter().chain(movers.map(|(id, _)| *id)).map(Arc::from));
    }

    /// Counts the shards that serve slots: one without slots lacks nothing.
    fn count_shards(&mut self) {
        let serving = || self.shards.values().filter(|shard| shard.slots > 0);
        let well = |id: &Arc<str>| {
            self.nodes.get(id).is_some_and(|n| n.role == Role::Replica && n.state == State::Fine)
        };
        self.view.shards = serving().count() as u32;
        self.view.without_replica = serving().filter(|shard| !shard.nodes.iter().any(well)).count() as u32;
        let state = |id: &Arc<str>| self.nodes.get(id).map_or(State::Fine, |node| node.state);
        let failing =
            serving().filter(|shard| shard.master.as_ref().is_some_and(|id| state(id) != State::Fine));
        let restless: Vec<_> = failing.flat_map(|shard| shard.nodes.iter().cloned()).collect();
        self.restless.extend(restless);
    }
}

#[cfg(test)]
pub(super) mod tests;
