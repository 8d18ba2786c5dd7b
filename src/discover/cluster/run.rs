//! The provider: asks the nodes of a Cluster round by round, and puts up what they say.
//!
//! Each `discover.interval` every node that is known is asked, over a connection that is kept, in one round trip;
//! while something is happening (a master that its cluster or we do not reach, slots on the move, nodes that
//! disagree) every 250 ms, for at most `health.failover_max`. The seeds are asked at the start, and when those
//! that are known tell nothing.
//!
//! Between two rounds one node after the other is asked each half second for `CLUSTER INFO`: its epoch, the nodes
//! that it knows and the slots that it misses change whenever anything of interest does. If they did, or if the
//! node does not answer, the next round begins at once.
//!
//! Each table has a line for each node, so asking everybody for it costs the square. Up to 141 nodes that is
//! done all the same ([`LINES`]). In a bigger cluster every master is asked each round how it is, which is
//! short; for the table those to whom something is happening, and of the others as many as fit, in turn.
//!
//! What a newcomer would get wrong: nothing here decides. [`super::view`] says what is so, and
//! [`super::follow`] what happened.

use super::ask::{Failure, Session, Want};
use super::follow::{Follower, Now};
use super::table::{Info, Role};
use super::view::{self, Known, Said};
use crate::config::Address;
use crate::config::address::Endpoint;
use crate::config::credentials::Side;
use crate::config::discover::{Service, Source};
use crate::connect::{Deadline, Kind};
use crate::discover::board::World;
use crate::discover::names::{self, Names};
use crate::discover::rewrite::rewrite;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// How many nodes are asked at once.
const AT_ONCE: usize = 16;

/// How long one node may take for everything.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often nodes are asked while something is happening, and how long one may take then that has not
/// answered before.
const RESTLESS: Duration = Duration::from_millis(250);

/// How often one of the nodes is asked whether anything has changed.
const PULSE: Duration = Duration::from_millis(500);

/// The shortest pause between two rounds.
const BREATH: Duration = Duration::from_millis(50);

/// How soon seeds are tried again before anything is known.
const AGAIN: Duration = Duration::from_secs(1);

/// Lines of tables that are asked for in one round; some 3 MB.
pub const LINES: usize = 20_000;

/// Tables that are asked for in any case.
const FEWEST_TABLES: usize = 8;

/// Follows the Cluster of a service for ever.
pub async fn run(world: World, service: Arc<Service>) {
    let Source::Cluster { seeds, hostnames } = &service.source else {
        // Somebody else's to follow.
        return std::future::pending().await;
    };
    let mut nodes = Nodes::new(world.clone(), Arc::clone(&service), seeds.clone(), *hostnames);
    let mut follower = Follower::new(service.name.clone());
    let (mut round, mut beats) = (0, 0);
    loop {
        let started = Instant::now();
        let config = world.config.borrow().clone();
        let failover_max = config.resilience.health.failover_max;
        let was_restless = follower.is_restless(started.into_std(), failover_max);
        let said = nodes.round(&mut follower, round, was_restless).await;
        let now = Now { instant: Instant::now().into_std(), time: SystemTime::now() };
        let announced = |address| rewrite(&service, address);
        let told = match said {
            Ok(said) => match view::merge(&said, &follower.remembered, *hostnames, &announced) {
                Some(picture) => {
                    let tellers = said.iter().filter(|said| said.table.is_some()).count();
                    let told = follower.take(&picture, tellers, now, failover_max);
                    nodes.known = picture.nodes;
                    told
                }
                None => {
                    follower.fail(Kind::Protocol, "no node that answered names any node", now, failover_max)
                }
            },
            Err((kind, reason)) => follower.fail(kind, &reason, now, failover_max),
        };
        world.board.put(follower.service.clone());
        for happening in told {
            let (from, to) = (happening.from.as_deref(), happening.to.as_deref());
            world.events.push(&service.name, happening.kind, from, to, happening.message);
        }
        round += 1;
        let least = Instant::now() + BREATH;
        let is_restless = follower.is_restless(now.instant, failover_max);
        let is_unknown = follower.service.answered.is_none();
        // As the interval is by then.
        let until = || {
            let interval = world.config.borrow().discover.interval;
            let most = match (is_restless, is_unknown) {
                (true, _) => RESTLESS,
                (false, true) => AGAIN,
                (false, false) => interval,
            };
            (started + most.min(interval)).max(least)
        };
        let mut has_changed = false;
        while !has_changed && Instant::now() + PULSE < until() {
            sleep_until(Instant::now() + PULSE).await;
            beats += 1;
            has_changed = nodes.has_changed(&follower, beats).await;
        }
        if !has_changed {
            sleep_until(until()).await;
        }
    }
}

/// Somebody to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    /// Whom we expect there, where we know.
    id: Option<Arc<str>>,
    address: Address,
    want: Want,
}

/// What came of asking somebody.
struct Answer {
    asked: Asked,
    session: Option<Session>,
    said: Result<Said, Failure>,
}

/// The nodes that we talk with.
struct Nodes {
    world: World,
    service: Arc<Service>,
    seeds: Vec<Address>,
    /// What the names of the seeds stand for, where `dns` is true.
    names: Names,
    /// Where the seeds are reached.
    reached: Vec<Address>,
    hostnames: bool,
    sessions: HashMap<Endpoint, Session>,
    /// Those of the last picture that was believed or not: either way they are worth asking.
    known: BTreeMap<Arc<str>, Known>,
    /// What each node said last of the cluster as a whole.
    infos: HashMap<Arc<str>, Info>,
}

impl Nodes {
    fn new(world: World, service: Arc<Service>, seeds: Vec<Address>, hostnames: bool) -> Self {
        let (sessions, known, infos) = (HashMap::new(), BTreeMap::new(), HashMap::new());
        let (names, reached) = (Names::default(), seeds.clone());
        Self { world, service, seeds, names, reached, hostnames, sessions, known, infos }
    }

    /// All seeds, to be asked. With `dns` a name is all its addresses: a seed that is connected but tells nothing
    /// of use must not hide the others behind its name.
    async fn seeds(&mut self) -> Vec<Asked> {
        if self.service.dns {
            // Who takes longer keeps the addresses that it had.
            let _ = timeout(PATIENCE, self.names.look_up(&self.seeds, &names::system)).await;
            self.reached = self.names.reached(&self.seeds);
        }
        let want =
            |address: &Address| Asked { id: None, address: address.clone(), want: Want::TableWithShards };
        self.reached.iter().map(want).collect()
    }

    /// Asks one of the nodes whether the cluster is as that node said last. Not to answer counts as a change; it
    /// does so once, for the next round finds out.
    async fn has_changed(&mut self, follower: &Follower, beats: usize) -> bool {
        let silent = &follower.remembered.silent;
        let living: Vec<_> = self.known.iter().filter(|(id, _)| !silent.contains(*id)).collect();
        let Some((id, node)) = living.get(beats % living.len().max(1)) else { return false };
        let asked = Asked { id: Some(Arc::clone(id)), address: node.address.clone(), want: Want::State };
        let Some(answer) = self.ask_all(vec![asked], follower, false).await.pop() else { return false };
        let Answer { asked, session, said } = answer;
        if let Some(session) = session {
            self.sessions.insert(asked.address.endpoint.clone(), session);
        }
        match (said, asked.id) {
            (Ok(Said { info: Some(info), .. }), Some(id)) => {
                self.infos.insert(id, info).is_some_and(|before| before != info)
            }
            (Ok(_), _) => false,
            (Err((kind, _)), _) => !kind.is_lasting(),
        }
    }

    /// Asks all whose turn it is, then those that they name and that nobody knew; the seeds where of those
    /// that are known none answers.
    async fn round(
        &mut self,
        follower: &mut Follower,
        round: usize,
        is_restless: bool,
    ) -> Result<Vec<Said>, Failure> {
        let mut asked: HashSet<Endpoint> = HashSet::new();
        let mut said: Vec<Said> = vec![];
        let mut failure: Option<Failure> = None;
        let mut wave = plan(&self.known, &follower.restless, round);
        // The seeds come in where nobody is known, and where those that are known tell nothing of use.
        let mut are_seeds_left = true;
        if follower.service.failure.is_some() {
            wave.extend(self.seeds().await);
            are_seeds_left = false;
        }
        for _ in 0..4 {
            if wave.is_empty()
                && !said.iter().any(|said| said.table.is_some())
                && std::mem::take(&mut are_seeds_left)
            {
                wave = self.seeds().await;
            }
            wave.retain(|node| asked.insert(node.address.endpoint.clone()));
            for answer in self.ask_all(std::mem::take(&mut wave), follower, is_restless).await {
                let Answer { asked, session, said: answer } = answer;
                if let Some(session) = session {
                    self.sessions.insert(asked.address.endpoint.clone(), session);
                }
                if let Ok(Said { id: Some(id), info: Some(info), .. }) = &answer {
                    self.infos.insert(Arc::from(&**id), *info);
                }
                if let Some(id) = asked.id {
                    let is_it =
                        answer.as_ref().is_ok_and(|said| said.id.as_deref().is_none_or(|told| *told == *id));
                    if is_it {
                        follower.remembered.silent.remove(&id);
                    } else {
                        follower.remembered.silent.insert(id);
                    }
                }
                match answer {
                    // Two addresses may lead to one node: it speaks once.
                    Ok(told) if told.id.is_some() && said.iter().any(|known| known.id == told.id) => {}
                    Ok(told) => said.push(told),
                    Err(now) => failure = Some(worse(failure, now)),
                }
            }
            wave = self.newly_named(&said, &asked);
        }
        let is_current = |endpoint: &Endpoint| {
            asked.contains(endpoint) || self.known.values().any(|known| known.address.endpoint == *endpoint)
        };
        self.sessions.retain(|endpoint, _| is_current(endpoint));
        self.infos.retain(|id, _| self.known.is_empty() || self.known.contains_key(id));
        if said.iter().any(|said| said.table.is_some()) {
            return Ok(said);
        }
        Err(failure.unwrap_or_else(|| (Kind::Dns, "there is no seed".to_owned())))
    }

    /// Nodes that were named and are not known yet, as far as a round has room for them.
    fn newly_named(&self, said: &[Said], asked: &HashSet<Endpoint>) -> Vec<Asked> {
        let mut found: BTreeMap<&str, Address> = BTreeMap::new();
        for said in said {
            let rows = said.table.iter().flat_map(|table| &table.rows);
            for row in rows.filter(|row| row.is_member() && !row.is_myself) {
                let Some(node) = &row.node else { continue };
                if self.known.contains_key(&*row.id) {
                    continue;
                }
                if let Some(address) =
                    view::reached(node, said, self.hostnames, &|it| rewrite(&self.service, it))
                {
                    found.entry(&row.id).or_insert(address);
                }
            }
        }
        let room = tables(found.len() + self.known.len());
        let new = found.into_iter().filter(|(_, address)| !asked.contains(&address.endpoint));
        let want = |(id, address)| Asked { id: Some(Arc::from(id)), address, want: Want::Table };
        new.take(room).map(want).collect()
    }

    /// Asks them all, so many at once.
    async fn ask_all(&mut self, wave: Vec<Asked>, follower: &Follower, is_restless: bool) -> Vec<Answer> {
        let longest = PATIENCE.min(self.world.config.borrow().connect.timeout);
        let mut running = JoinSet::new();
        let mut answers = vec![];
        let mut waiting = wave.into_iter();
        loop {
            while running.len() < AT_ONCE
                && let Some(asked) = waiting.next()
            {
                let session = self.sessions.remove(&asked.address.endpoint);
                let is_silent = asked.id.as_ref().is_some_and(|id| follower.remembered.silent.contains(id));
                // One that hangs is not to keep us from seeing who takes its place.
                let patience = if is_silent && is_restless { RESTLESS.min(longest) } else { longest };
                let seed = self.reached.iter().find(|seed| seed.endpoint == asked.address.endpoint);
                let by = seed.unwrap_or(&asked.address).clone();
                running.spawn(ask(
                    self.world.clone(),
                    self.service.name.clone(),
                    asked,
                    by,
                    session,
                    patience,
                ));
            }
            match running.join_next().await {
                Some(Ok(answer)) => answers.push(answer),
                // A panic costs this node this round.
                Some(Err(_)) => {}
                None => return answers,
            }
        }
    }
}

/// Asks one node, over the kept conversation where there is one, else, or where that has ended, over a new one.
/// `by`: the same address with what the operator says of it.
async fn ask(
    world: World,
    service: Arc<str>,
    asked: Asked,
    by: Address,
    session: Option<Session>,
    patience: Duration,
) -> Answer {
    let deadline = Deadline::until(Instant::now() + patience);
    if let Some(mut session) = session {
        match session.ask(&asked.address, asked.want, deadline).await {
            Ok(said) => return Answer { asked, session: Some(session), said },
            // The server may have closed an idle connection, or have been started again.
            Err(error) if error.kind() == Kind::Closed => {}
            Err(error) => {
                let said = Err((error.kind(), error.chain()));
                return Answer { asked, session: None, said };
            }
        }
    }
    let connected = world.connect(&service, &by, Side::Data, deadline).await;
    let mut session = match connected {
        Ok(connection) => Session::new(connection),
        Err(error) => return Answer { asked, session: None, said: Err((error.kind(), error.chain())) },
    };
    match session.ask(&asked.address, asked.want, deadline).await {
        Ok(said) => Answer { asked, session: Some(session), said },
        Err(error) => Answer { asked, session: None, said: Err((error.kind(), error.chain())) },
    }
}

/// Of two failures the one that says more: what a server said before what the network said.
fn worse(before: Option<Failure>, now: Failure) -> Failure {
    let of_network = |kind| {
        use Kind::{Closed, Dns, Refused, Timeout, Unreachable};
        matches!(kind, Closed | Dns | Refused | Timeout | Unreachable)
    };
    match before {
        Some(before) if !of_network(before.0) || of_network(now.0) => before,
        _ => now,
    }
}

/// How many tables a round has room for in a cluster of so many nodes.
fn tables(nodes: usize) -> usize {
    (LINES / nodes.max(1)).max(FEWEST_TABLES)
}

/// Whom to ask for what in this round: everybody for the table where there is room; else first those to whom
/// something is happening, at most three quarters, then others in turn, and the remaining masters only how they
/// are.
fn plan(known: &BTreeMap<Arc<str>, Known>, restless: &HashSet<Arc<str>>, round: usize) -> Vec<Asked> {
    let room = tables(known.len());
    let (mut first, mut others): (Vec<_>, Vec<_>) = known.iter().partition(|(id, _)| restless.contains(*id));
    others.extend(first.split_off(first.len().min(room - room / 4)));
    if known.len() > room && !others.is_empty() {
        let turn = round.wrapping_mul(room - first.len()) % others.len();
        others.rotate_left(turn);
    }
    let mut plan = vec![];
    for (place, (id, node)) in first.into_iter().chain(others).enumerate() {
        let want = match place {
            // More than one: the first may be the dead one.
            0..3 => Want::TableWithShards,
            place if place < room => Want::Table,
            _ if node.role == Role::Master => Want::State,
            _ => continue,
        };
        plan.push(Asked { id: Some(id.clone()), address: node.address.clone(), want });
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::super::table::State;
    use super::*;

    fn known(nodes: usize) -> BTreeMap<Arc<str>, Known> {
        let node = |number: usize| Known {
            address: Address::tcp("h", number as u16 + 1),
            role: if number.is_multiple_of(2) { Role::Master } else { Role::Replica },
            state: State::Fine,
            shard: "s".into(),
            is_candidate: false,
        };
        (0..nodes).map(|number| (Arc::from(format!("{number:04}")), node(number))).collect()
    }

    /// How many are asked for the table and how many for their state.
    fn count(plan: &[Asked]) -> (usize, usize) {
        let states = plan.iter().filter(|asked| asked.want == Want::State).count();
        (plan.len() - states, states)
    }

    #[test]
    fn everybody_is_asked_for_the_table_in_a_cluster_of_ordinary_size() {
        for (nodes, expected) in
            [(0, (0, 0)), (6, (6, 0)), (141, (141, 0)), (200, (100, 50)), (1000, (20, 490))]
        {
            assert_eq!(count(&plan(&known(nodes), &HashSet::new(), 0)), expected, "{nodes}");
        }
    }

    #[test]
    fn in_a_big_cluster_everybody_has_a_turn_and_all_masters_are_asked_each_round() {
        let known = known(1000);
        let restless: HashSet<Arc<str>> = ["0999".into()].into();
        let mut asked = HashSet::new();
        for round in 0..60 {
            let plan = plan(&known, &restless, round);
            let of =
                |id: &str| plan.iter().find(|asked| asked.id.as_deref() == Some(id)).map(|asked| asked.want);
            assert_eq!(of("0999"), Some(Want::TableWithShards));
            let masters = known.iter().filter(|(_, node)| node.role == Role::Master);
            assert!(masters.into_iter().all(|(id, _)| of(id).is_some()));
            asked.extend(plan.into_iter().filter(|asked| asked.want != Want::State).map(|asked| asked.id));
        }
        assert_eq!(asked.len(), 1000);
    }

    #[test]
    fn what_a_server_says_tells_more_than_what_the_network_says() {
        let failure = |kind: Kind| (kind, String::new());
        let check = |kinds: &[Kind], expected: Kind| {
            let worst = kinds.iter().fold(None, |before, kind| Some(worse(before, failure(*kind))));
            assert_eq!(worst.map(|failure| failure.0), Some(expected), "{kinds:?}");
        };
        check(&[Kind::Refused, Kind::NoPerm, Kind::Timeout], Kind::NoPerm);
        check(&[Kind::Refused, Kind::Timeout], Kind::Refused);
        check(&[Kind::Auth, Kind::NoPerm], Kind::Auth);
    }
}
