//! What is kept of a target from one collection to the next, and of how many.
//!
//! What a newcomer would get wrong: whoever may send a request may name any target and any keys. So the
//! connection belongs to the [`Place`], not to the keys that a request asks for, and only so many places are
//! kept: the one that nobody has asked for the longest makes room.

use super::job::Place;
use super::shape::Totals;
use crate::collect::run::Scope;
use crate::collect::snapshot::Progress;
use crate::collect::{Memory, Snapshot};
use crate::config::Address;
use crate::config::address::Endpoint;
use crate::config::collect::Keys;
use crate::connect::{Connection, Kind};
use crate::resilience::Backoff;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// A target that nobody asked for in this time loses its connection and what is remembered of it.
pub const IDLE: Duration = Duration::from_secs(600);

/// Targets that are kept at most.
const MOST: usize = 4096;

/// Targets at one server that keep their connection: its databases and users as they are really used. More
/// are collected over connections of the moment, for a server has only so many to give.
const KEPT_OF_ONE_SERVER: usize = 4;

/// Every target that is kept.
#[derive(Default)]
pub struct Targets(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_place: HashMap<Place, Arc<Target>>,
    /// Where members are asked at the moment: the service, the server and the database.
    members: HashMap<(Arc<str>, Endpoint, u32), Place>,
}

/// No lock here is held while anything can panic, so a poisoned one holds good data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Targets {
    /// The target at that place, known from now on. A member to whom we are somebody else than before is asked over another
    /// connection, and goes on counting where it was.
    pub fn get(&self, place: &Place) -> Arc<Target> {
        let Known { by_place: targets, members } = &mut *lock(&self.0);
        if let Some(target) = targets.get(place) {
            lock(&target.state).used = Instant::now();
            return target.clone();
        }
        let target = match &place.service {
            Some(service) => {
                let whose = (service.clone(), place.address.endpoint.clone(), place.address.db);
                let before = members.insert(whose, place.clone()).and_then(|before| targets.remove(&before));
                before.map(|before| before.successor()).unwrap_or_default()
            }
            // The operator's own services are as many as they are; only what requests name is counted.
            None => {
                if targets.len() >= MOST {
                    let of_requests = targets.iter().filter(|(place, _)| place.service.is_none());
                    let longest_unused = of_requests.min_by_key(|(_, target)| lock(&target.state).used);
                    if let Some(place) = longest_unused.map(|(place, _)| place.clone()) {
                        targets.remove(&place);
                    }
                }
                let of_server =
                    targets.keys().filter(|other| other.address.endpoint == place.address.endpoint);
                let keeps = of_server.take(KEPT_OF_ONE_SERVER).count() < KEPT_OF_ONE_SERVER;
                Target { keeps, ..Target::default() }
            }
        };
        let target = Arc::new(target);
        targets.insert(place.clone(), target.clone());
        target
    }

    /// Forgets members that went, with their connections. The same server as a member of another service, or as
    /// the target of a request, is another place.
    pub fn forget(&self, gone: &HashSet<(&str, &Endpoint)>) {
        let is_gone = |place: &Place| {
            place.service.as_deref().is_some_and(|service| gone.contains(&(service, &place.address.endpoint)))
        };
        let Known { by_place, members } = &mut *lock(&self.0);
        by_place.retain(|place, _| !is_gone(place));
        members.retain(|_, place| !is_gone(place));
    }

    /// Forgets targets that nobody asks for any more.
    pub fn sweep(&self) {
        let Known { by_place, members } = &mut *lock(&self.0);
        by_place.retain(|_, target| {
            let state = lock(&target.state);
            state.used.elapsed() < IDLE
                || state.under_way.iter().any(|(_, snapshot)| snapshot.strong_count() > 0)
        });
        members.retain(|_, place| by_place.contains_key(place));
    }
}

/// One target.
pub struct Target {
    /// Whether it keeps its connection.
    keeps: bool,
    state: Mutex<State>,
}

/// What somebody asked for.
type Asked = (Keys, Scope);

struct State {
    connection: Option<Connection>,
    memory: Memory,
    /// What went wrong in the last collection.
    failing: Option<Kind>,
    /// The collectors that made nothing in it.
    failing_collectors: Vec<(&'static str, Kind)>,
    totals: Totals,
    /// The role that INFO said last.
    role: String,
    /// Collections that somebody may join, by what they are asked for.
    under_way: Vec<(Asked, Weak<watch::Sender<Snapshot>>)>,
    used: Instant,
}

impl Default for State {
    fn default() -> Self {
        Self {
            connection: None,
            memory: Memory::default(),
            failing: None,
            failing_collectors: vec![],
            totals: Totals::default(),
            role: String::new(),
            under_way: vec![],
            used: Instant::now(),
        }
    }
}

impl Default for Target {
    fn default() -> Self {
        Self { keeps: true, state: Mutex::default() }
    }
}

/// What a collection borrows from its target.
pub struct Lent {
    /// The connection, where one is kept and no other collection has it.
    pub connection: Option<Connection>,
    /// What earlier collections learned.
    pub memory: Memory,
}

impl Lent {
    /// Whether the server answered anything, be it one byte, within this time.
    pub fn was_answered_within(&self, time: Duration) -> bool {
        let heard = self.connection.as_ref().and_then(Connection::heard);
        heard.is_some_and(|at| at.elapsed() <= time)
    }
}

/// A place in a collection: what it makes, and how to publish it for who has to start it.
pub struct Seat {
    /// The snapshot as it grows.
    pub snapshot: watch::Receiver<Snapshot>,
    /// Given to the first who asks, who is to start the collection.
    pub to_start: Option<Arc<watch::Sender<Snapshot>>>,
}

impl Target {
    /// The same member, asked as somebody else: what was counted, and what it said of itself last.
    fn successor(&self) -> Self {
        let state = lock(&self.state);
        let (totals, role) = (state.totals, state.role.clone());
        Self { state: Mutex::new(State { totals, role, ..State::default() }), ..Self::default() }
    }

    /// A seat in the collection of these keys that is under way, or in a new one.
    pub fn seat(&self, keys: &Keys, scope: Scope) -> Seat {
        let mut state = lock(&self.state);
        state.under_way.retain(|(_, snapshot)| snapshot.strong_count() > 0);
        let same = state.under_way.iter().filter(|((others, other), _)| others == keys && *other == scope);
        // One for which nobody waits is about to be given up, though it may not have heard of it yet. The receiver is
        // taken before the snapshot is looked at, so that none is given up in between.
        let wanted = same.filter_map(|(_, snapshot)| snapshot.upgrade()).filter(|s| s.receiver_count() > 0);
        let mut open = wanted.map(|snapshot| snapshot.subscribe());
        if let Some(snapshot) = open.find(|snapshot| !snapshot.borrow().is_complete()) {
            return Seat { snapshot, to_start: None };
        }
        drop(open);
        let (sender, snapshot) = watch::channel(Snapshot::default());
        let sender = Arc::new(sender);
        state.under_way.push(((keys.clone(), scope), Arc::downgrade(&sender)));
        Seat { snapshot, to_start: Some(sender) }
    }

    /// What a collection needs. The connection is given to one at a time; a second dials its own.
    pub fn lend(&self) -> Lent {
        let mut state = lock(&self.state);
        let connection = state.connection.take();
        Lent { connection, memory: state.memory.clone() }
    }

    /// Takes back what a collection borrowed, and what it learned.
    pub fn take_back(&self, lent: Lent) {
        let mut state = lock(&self.state);
        state.memory = lent.memory;
        if let Some(connection) = lent.connection.filter(|c| self.keeps && c.is_usable()) {
            state.connection.get_or_insert(connection);
        }
    }

    /// Counts a collection, and logs when something begins to go wrong and when it is well again; in between
    /// only at debug level.
    pub fn count(&self, address: &Address, took: Duration, snapshot: &Snapshot) {
        let failed = |(name, progress): &(_, _)| match progress {
            Progress::Failed(kind) => Some((*name, *kind)),
            _ => None,
        };
        let collectors: Vec<_> = snapshot.collectors.iter().filter_map(failed).collect();
        let error = snapshot.error.as_ref();
        let (before, failing) = {
            let mut state = lock(&self.state);
            state.totals.add(took);
            let before = std::mem::replace(&mut state.failing, error.map(|(kind, _)| *kind));
            (before, std::mem::replace(&mut state.failing_collectors, collectors.clone()))
        };
        match error {
            Some((kind, text)) if before == Some(*kind) => {
                debug!(target = %address, reason = kind.as_str(), error = text, "collection failed again");
            }
            Some((kind, text)) => {
                warn!(target = %address, reason = kind.as_str(), error = text, "collection failed");
            }
            None if before.is_some() => info!(target = %address, "collection is well again"),
            None => {}
        }
        // What a server refuses for good is told where it is remembered.
        let is_news = |pair: &&(_, Kind)| error.is_none() && !pair.1.is_lasting() && !failing.contains(*pair);
        for (collector, kind) in collectors.iter().filter(is_news) {
            warn!(target = %address, collector, reason = kind.as_str(), "collector fails: see the debug log");
        }
    }

    /// How often a connection to it is tried: once where the last collection failed.
    pub fn backoff(&self) -> Backoff {
        if lock(&self.state).failing.is_some() { Backoff::ONCE } else { Backoff::HICCUP }
    }

    /// The role of a server that said one now, and of one that did not the role that it had: while it is down
    /// its series go on.
    pub fn role(&self, said: Option<&str>) -> String {
        let mut state = lock(&self.state);
        if let Some(said) = said {
            said.clone_into(&mut state.role);
        }
        state.role.clone()
    }

    /// All collections so far.
    pub fn totals(&self) -> Totals {
        lock(&self.state).totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::config::collect::KeyPattern;
    use crate::config::connect::Tls;
    use crate::config::credentials::Credentials;
    use crate::connect::Login;

    fn place(port: u16) -> Place {
        Place {
            address: Address::tcp("h", port),
            login: Login::default(),
            tls: Tls::default(),
            lists_nodes: false,
            service: None,
        }
    }

    fn keys(pattern: &str) -> Keys {
        Keys { check: vec![KeyPattern { db: 0, pattern: pattern.into() }], ..Keys::default() }
    }

    #[test]
    fn the_same_is_joined_while_it_runs_and_nothing_else() {
        let target = Target::default();
        let first = target.seat(&keys("a"), Scope::Everything);
        let sender = first.to_start.expect("the first starts");
        assert!(target.seat(&keys("a"), Scope::Everything).to_start.is_none(), "the same keys");
        assert!(target.seat(&keys("b"), Scope::Everything).to_start.is_some(), "other keys");
        sender.send_modify(|snapshot| snapshot.duration = Some(Duration::ZERO));
        assert!(target.seat(&keys("a"), Scope::Everything).to_start.is_some(), "it is complete");
    }

    #[test]
    fn a_collection_that_ended_early_is_not_joined() {
        let target = Target::default();
        drop(target.seat(&keys("a"), Scope::Everything).to_start);
        assert!(target.seat(&keys("a"), Scope::Everything).to_start.is_some());
    }

    #[test]
    fn a_collection_for_which_nobody_waits_is_not_joined() {
        let target = Target::default();
        let Seat { snapshot, to_start: Some(_goes_on) } = target.seat(&keys("a"), Scope::KeysOnly) else {
            panic!("the first starts");
        };
        drop(snapshot);
        assert!(target.seat(&keys("a"), Scope::KeysOnly).to_start.is_some());
    }

    #[test]
    fn only_so_many_targets_of_one_server_keep_a_connection() {
        let targets = Targets::default();
        let database = |db| {
            let mut place = place(1);
            place.address.db = db;
            targets.get(&place).keeps
        };
        assert!((0..4).all(database) && !(4..10).any(database));
        assert!(database(0), "it is still one of the four");
        assert!(targets.get(&place(2)).keeps, "another server");
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_unused_target_makes_room() {
        let targets = Targets::default();
        for port in 0..MOST as u16 {
            targets.get(&place(port));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let oldest = Arc::downgrade(&targets.get(&place(0)));
        let second = Arc::downgrade(&targets.get(&place(1)));
        tokio::time::advance(Duration::from_millis(1)).await;
        targets.get(&place(0));
        for port in 0..2 {
            targets.get(&place(20_000 + port));
        }
        assert_eq!(lock(&targets.0).by_place.len(), MOST);
        assert!(oldest.upgrade().is_some() && second.upgrade().is_some(), "2 and 3 went");
        assert!(!lock(&targets.0).by_place.contains_key(&place(2)));
    }

    #[test]
    fn a_member_that_went_is_forgotten_in_its_service_and_nowhere_else() {
        let targets = Targets::default();
        let of = |service: Option<&str>, port| Place { service: service.map(Into::into), ..place(port) };
        let of_database = |db| {
            let mut place = of(Some("a"), 1);
            place.address.db = db;
            place
        };
        let places = [of(Some("a"), 1), of_database(3), of(Some("a"), 2), of(Some("b"), 1), of(None, 1)];
        places.iter().for_each(|place| drop(targets.get(place)));
        let gone = Address::tcp("h", 1).endpoint;
        targets.forget(&[("a", &gone)].into());
        let known = lock(&targets.0);
        let left: Vec<_> = places.iter().map(|place| known.by_place.contains_key(place)).collect();
        assert_eq!(left, [false, false, true, true, true]);
        assert_eq!(known.members.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_to_whom_we_are_somebody_else_goes_on_counting_and_loses_its_connection() {
        let targets = Targets::default();
        let as_user = |user: Option<&str>, db| {
            let mut place = Place { service: Some("a".into()), ..place(1) };
            place.address.db = db;
            let password = Secret::new("hush");
            place.login.credentials = user.map(|user| Credentials { user: Some(user.into()), password });
            place
        };
        let before = targets.get(&as_user(None, 0));
        before.count(&place(1).address, Duration::from_secs(2), &Snapshot::default());
        before.role(Some("master"));
        let other_database = targets.get(&as_user(Some("me"), 3));
        assert_eq!((other_database.totals().collections, other_database.role(None)), (0, String::new()));
        let after = targets.get(&as_user(Some("me"), 0));
        assert_eq!((after.totals().collections, after.role(None)), (1, "master".into()));
        assert_eq!(Arc::strong_count(&before), 1, "nobody asks as the former one any more");
        assert!(Arc::ptr_eq(&after, &targets.get(&as_user(Some("me"), 0))));
        tokio::time::advance(IDLE).await;
        targets.sweep();
        assert!(lock(&targets.0).members.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_nobody_asks_for_is_forgotten_unless_it_is_being_collected() {
        let targets = Targets::default();
        targets.get(&place(1));
        let seat = targets.get(&place(2)).seat(&Keys::default(), Scope::Everything);
        tokio::time::advance(IDLE).await;
        targets.sweep();
        let left: Vec<_> = lock(&targets.0).by_place.keys().cloned().collect();
        assert_eq!(left, [place(2)]);
        drop(seat);
        targets.sweep();
        assert!(lock(&targets.0).by_place.is_empty());
    }
}
