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
pub(super) mod tests {
    use super::*;

    /// What the node at this port says: lines of `id:port flags master epoch slots…`.
    pub(in super::super) fn said(port: u16, lines: &str) -> Said {
        let row = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let mut next = || words.next().expect(line);
            let (node, flags, master, epoch) = (next(), next(), next(), next());
            let (id, at) = node.split_once(':').expect(line);
            let slots = words.collect::<Vec<_>>().join(" ");
            let ip = if at == "0" { "" } else { "10.0.0.1" };
            Row::parse(&format!("{id} {ip}:{at}@9 {flags} {master} 0 0 {epoch} connected {slots}"))
                .expect(line)
        };
        let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
        let table = Table { rows: lines.map(row).collect(), shards: vec![] };
        let id = table.myself().map(|row| row.id.clone());
        let info = Some(Info { is_ok: Some(true), epoch: 9, ..Info::default() });
        Said { asked: Address::tcp("seed", port), id, table: Some(table), info, shard: None }
    }

    /// The same lines told by each of these nodes, by their ports.
    pub(in super::super) fn all_say(ports: &[u16], lines: &str) -> Vec<Said> {
        let told = |port: &u16| {
            let node = format!(":{port} ");
            let own = |line: &str| match line.trim().split_once(&node) {
                Some((id, rest)) => format!("{id}{node}myself,{rest}\n"),
                None => format!("{line}\n"),
            };
            said(*port, &lines.lines().map(own).collect::<String>())
        };
        ports.iter().map(told).collect()
    }

    pub(in super::super) fn picture(said: &[Said], remembered: &Remembered) -> Picture {
        merge(said, remembered, false, &|address| address).expect("a picture")
    }

    /// `shard=master(nodes)` of each shard; a master that did not say so itself has a question mark.
    fn written(picture: &Picture) -> String {
        let shard = |(id, shard): (&Arc<str>, &Shard)| {
            let nodes: Vec<_> = shard.nodes.iter().map(|id| &**id).collect();
            let sure = if shard.is_confirmed { "" } else { "?" };
            format!("{id}={}{sure}({})", shard.master.as_deref().unwrap_or("-"), nodes.join(","))
        };
        picture.shards.iter().map(shard).collect::<Vec<_>>().join(" ")
    }

    fn remembered(shards: &[(&str, &str)]) -> Remembered {
        let shards = shards.iter().map(|(id, shard)| (Arc::from(*id), Arc::from(*shard)));
        Remembered { shards: shards.collect(), ..Remembered::default() }
    }

    const SOUND: &str = "a:1 master - 1 0-99
        b:2 slave a 1
        c:3 master - 2 100-16383
        d:4 slave c 2";

    #[test]
    fn a_sound_cluster_has_its_shards_and_nothing_to_tell() {
        let picture = picture(&all_say(&[1, 2, 3, 4], SOUND), &Remembered::default());
        assert_eq!(written(&picture), "a=a(a,b) c=c(c,d)");
        let expected = ClusterView {
            is_ok: Some(true),
            epoch: 9,
            covered: 16384,
            nodes: 4,
            reachable: 4,
            shards: 2,
            ..ClusterView::default()
        };
        assert_eq!(picture.view, expected);
        assert!(picture.restless.is_empty());
        assert_eq!(picture.nodes["b"].address, Address::tcp("10.0.0.1", 2));
    }

    #[test]
    fn a_replica_that_takes_over_keeps_the_shard_and_the_dead_master_stays_in_it() {
        let after = "a:1 master,fail - 1
            b:2 master - 5 0-99
            c:3 master - 2 100-16383
            d:4 slave c 2";
        let known = remembered(&[("a", "a"), ("b", "a"), ("c", "c"), ("d", "c")]);
        let after = picture(&all_say(&[2, 3, 4], after), &known);
        assert_eq!(written(&after), "a=b(b,a) c=c(c,d)");
        assert_eq!((after.view.without_replica, after.view.shards, after.view.covered), (1, 2, 16384));
        assert_eq!(after.nodes["a"].state, State::Failed);
    }

    #[test]
    fn the_shard_ids_of_the_servers_come_first() {
        let named = |said: Vec<Said>, ids: &[&str]| -> Vec<Said> {
            said.into_iter().zip(ids).map(|(said, id)| Said { shard: Some((*id).into()), ..said }).collect()
        };
        let said = named(all_say(&[1, 2, 3, 4], SOUND), &["x", "x", "y", "y"]);
        assert_eq!(written(&picture(&said, &remembered(&[("a", "a"), ("c", "c")]))), "x=a(a,b) y=c(c,d)");
        // The master does not answer: its replica names the shard. Nobody names that of the other one.
        let said = named(all_say(&[2], SOUND), &["x"]);
        assert_eq!(written(&picture(&said, &Remembered::default())), "c=c?(c,d) x=a?(a,b)");
    }

    #[test]
    fn cluster_shards_says_to_whom_a_dead_master_belongs() {
        let mut all = all_say(
            &[2, 3],
            "a:1 master,fail - 1
            b:2 master - 5 0-99
            c:3 master - 2 100-16383",
        );
        all[0].shard = Some("x".into());
        all[0].table.as_mut().expect("a table").shards = vec![vec!["b".into(), "a".into()], vec!["c".into()]];
        assert_eq!(written(&picture(&all, &Remembered::default())), "c=c(c) x=b(b,a)");
    }

    #[test]
    fn the_newest_claim_wins_and_those_who_claim_the_same_are_counted() {
        let mut said = all_say(
            &[2, 3, 4],
            "a:1 master,fail - 1
            b:2 master - 5 0-99
            c:3 master - 2 100-16383
            d:4 slave c 2",
        );
        // Back from its isolation, with its old table.
        said.extend(all_say(&[1], SOUND));
        let picture = picture(&said, &remembered(&[("a", "a"), ("b", "a")]));
        assert_eq!(written(&picture), "a=b(b,a) c=c(c,d)");
        let view = &picture.view;
        assert_eq!((view.contested, view.rivals, view.disagreeing, view.covered), (100, 2, 1, 16384));
        let restless: Vec<_> = picture.restless.iter().map(|id| &**id).collect();
        assert_eq!(restless, ["a", "b"]);
    }

    #[test]
    fn a_new_master_is_believed_before_most_have_heard_of_it() {
        let new = "a:1 slave b 5
            b:2 master - 5 0-99
            c:3 master - 2 100-16383
            d:4 slave c 2";
        let said = [all_say(&[3, 4], SOUND), all_say(&[2], new)].concat();
        let picture = picture(&said, &remembered(&[("a", "a"), ("b", "a")]));
        assert_eq!(written(&picture), "a=b(a,b) c=c(c,d)");
        assert_eq!((picture.view.disagreeing, picture.view.contested, picture.view.covered), (1, 0, 16384));
    }

    #[test]
    fn two_masters_that_serve_are_never_one_shard() {
        let lines = "a:1 master - 1 0-99
            b:2 master - 5 100-199";
        let known = remembered(&[("a", "a"), ("b", "a")]);
        assert_eq!(written(&picture(&all_say(&[1, 2], lines), &known)), "a=b(b) a+=a(a)");
        let masters = HashMap::from([(Arc::from("a"), Arc::from("a"))]);
        let known = Remembered { masters, ..known };
        assert_eq!(written(&picture(&all_say(&[1, 2], lines), &known)), "a=a(a) b=b(b)");
    }

    #[test]
    fn every_shard_gets_a_name_though_those_of_its_master_are_taken() {
        let lines = "a:1 master - 1 0-99
            b:2 master - 5 100-199
            c:3 master - 4 200-299";
        let known = remembered(&[("a", "a"), ("b", "a"), ("c", "a+")]);
        assert_eq!(written(&picture(&all_say(&[1, 2, 3], lines), &known)), "a=b(b) a+=c(c) a++=a(a)");
    }

    #[test]
    fn a_shard_id_that_is_none_names_no_shard() {
        let check = |id: &str, expected: &str| {
            let mut said = all_say(&[1], "a:1 master - 1 0-99");
            said[0].shard = Some(id.into());
            assert_eq!(written(&picture(&said, &Remembered::default())), expected, "{id}");
        };
        check("x", "x=a(a)");
        for strange in ["", "x+", "x y", "ü", &"x".repeat(65)] {
            check(strange, "a=a(a)");
        }
    }

    #[test]
    fn the_epoch_of_a_silent_master_is_what_most_say_and_nobody_says_it_twice() {
        let check = |epochs: [&str; 3], expected: u64| {
            let said = [2, 3, 4].into_iter().zip(epochs).flat_map(|(port, epoch)| {
                let line = |epoch| format!("a:1 master - {epoch} 0-16383\n");
                let lines: String = epoch.split(',').map(line).collect();
                all_say(&[port], &(lines + "b:2 slave a 1\nc:3 slave a 1\nd:4 slave a 1"))
            });
            let picture = picture(&said.collect::<Vec<_>>(), &Remembered::default());
            assert_eq!(picture.shards["a"].epoch, expected, "{epochs:?}");
        };
        check(["1", "1", "1"], 1);
        check(["1", "7", "7"], 7);
        check(["1", "1", "18446744073709551615"], 1);
        check(["1", "1", "9,9,9,9"], 1);
    }

    #[test]
    fn who_was_removed_or_is_only_being_met_is_no_member() {
        let mut all = all_say(
            &[1, 2],
            "a:1 master - 1 0-16383
            b:2 slave a 1
            x:7 handshake - 0
            y:0 slave,noaddr a 1",
        );
        all.push(said(8, "z:8 myself,master - 0"));
        assert_eq!(written(&picture(&all, &Remembered::default())), "a=a(a,b)");
        let forgotten_by_one = [
            all_say(&[1], "a:1 master - 1 0-16383\nb:2 slave a 1"),
            all_say(&[2, 3], "a:1 master - 1 0-16383\nb:2 slave a 1\nc:3 slave a 1"),
        ]
        .concat();
        assert_eq!(written(&picture(&forgotten_by_one, &Remembered::default())), "a=a(a,b,c)");
    }

    #[test]
    fn a_node_that_was_never_met_is_reached_where_it_was_asked() {
        let said = [said(7, "a:0 myself,master - 0 0-16383")];
        // A line without a port has no address at all.
        assert!(merge(&said, &Remembered::default(), false, &|address| address).is_none());
        let row = Row::parse("a :7@8 myself,master - 0 0 0 connected 0-16383").expect("a line");
        let table = Some(Table { rows: vec![row], shards: vec![] });
        let said = [Said {
            asked: Address::parse("rediss://seed:9007").expect("an address"),
            table,
            ..said[0].clone()
        }];
        let moved = |_| Address::tcp("elsewhere", 1);
        let picture = merge(&said, &Remembered::default(), false, &moved).expect("a picture");
        assert_eq!(picture.nodes["a"].address.to_string(), "rediss://seed:9007");
    }

    #[test]
    fn announced_addresses_are_rewritten_and_host_names_taken_if_wished() {
        let check = |hostnames, expected: &str| {
            let line = "a 10.0.0.1:7@8,Cache-1 myself,master - 0 0 0 connected 0-16383";
            let table = Some(Table { rows: vec![Row::parse(line).expect("a line")], shards: vec![] });
            let said = [Said { table, ..said(1, "a:1 myself,master - 0") }];
            let rewrite = |address: Address| match address.to_string().as_str() {
                "redis://10.0.0.1:7" => Address::tcp("edge", 7),
                _ => address,
            };
            let picture = merge(&said, &Remembered::default(), hostnames, &rewrite).expect("a picture");
            assert_eq!(picture.nodes["a"].address.to_string(), expected);
        };
        check(false, "redis://edge:7");
        check(true, "redis://cache-1:7");
    }

    #[test]
    fn a_node_that_took_over_an_address_hides_the_dead_one() {
        let lines = "a:1 master,fail - 1
            n:1 master - 0
            c:3 master - 2 0-16383";
        let said = [
            said(1, &lines.replace("n:1 master", "n:1 myself,master")),
            said(3, &lines.replace("c:3 master", "c:3 myself,master")),
        ];
        assert_eq!(written(&picture(&said, &Remembered::default())), "c=c(c) n=n(n)");
    }

    #[test]
    fn a_node_is_as_most_say_or_as_one_says_whom_we_bear_out() {
        let check = |flags: [&str; 3], is_silent: bool, expected: State| {
            let line = |flag: &str| format!("a:1 master{flag} - 1 0-16383\n");
            let others = "b:2 slave a 1\nc:3 slave a 1\nd:4 slave a 1";
            let said: Vec<_> = [2, 3, 4]
                .into_iter()
                .zip(flags)
                .flat_map(|(port, flag)| all_say(&[port], &(line(flag) + others)))
                .collect();
            let silent = is_silent.then(|| Arc::from("a")).into_iter().collect();
            let picture = picture(&said, &Remembered { silent, ..Remembered::default() });
            assert_eq!(picture.nodes["a"].state, expected, "{flags:?} {is_silent}");
            let view = &picture.view;
            assert_eq!(view.covered + view.suspected + view.failed, 16384);
            assert_eq!(
                (view.failed > 0, view.suspected > 0),
                (expected == State::Failed, expected == State::Suspected)
            );
        };
        check(["", "", ""], false, State::Fine);
        check(["", "", ""], true, State::Fine);
        check([",fail?", "", ""], false, State::Fine);
        check([",fail?", "", ""], true, State::Suspected);
        check([",fail?", ",fail?", ""], false, State::Suspected);
        check([",fail?", ",fail", ""], false, State::Suspected);
        check([",fail", ",fail", ""], false, State::Failed);
        check(["", ",fail", ""], true, State::Failed);
    }

    #[test]
    fn slots_on_the_move_and_slots_without_a_master_are_counted() {
        let said = [
            said(1, "a:1 myself,master - 1 0-99 [7->-c] [8->-c]\nc:3 master - 2 200-16383"),
            said(3, "a:1 master - 1 0-99\nc:3 myself,master - 2 200-16383 [7-<-a]"),
        ];
        let picture = picture(&said, &Remembered::default());
        let view = &picture.view;
        assert_eq!((view.migrating, view.importing, view.uncovered, view.covered), (2, 1, 100, 16284));
        assert_eq!(picture.restless.len(), 2);
    }

    #[test]
    fn a_node_that_names_another_owner_than_most_is_counted() {
        let mut all = all_say(&[1, 2, 3], SOUND);
        all.extend(all_say(&[4], &SOUND.replace("0-99", "0-98")));
        let picture = picture(&all, &Remembered::default());
        assert_eq!((picture.view.disagreeing, picture.view.uncovered), (1, 0));
    }
}
