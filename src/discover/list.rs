//! What providers of lists share: from the members that they found to the board, and what is told of it.
//!
//! What a newcomer would get wrong: members stand on the board in the order of the list, since the first of
//! two addresses of one server is the one that stays. They are sorted when they are published.

use super::board::World;
use super::service::{Member, Service, View};
use crate::config::discover;
use crate::connect::Kind;
use crate::telemetry::events::{self, Events};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How many members that came or went are told one by one; more are told as a number.
const TOLD_BY_NAME: usize = 10;

/// How many things that are wrong are named in a message.
const NAMED: usize = 3;

/// What is wrong, by what it is wrong with: a host name, a file.
pub type Troubles = BTreeMap<String, String>;

/// A list of members as it was found last.
pub struct List {
    world: World,
    name: Arc<str>,
    kind: &'static str,
    members: Option<Vec<Arc<Member>>>,
    troubles: Troubles,
    /// Instances that are listed more than once.
    twins: BTreeSet<Arc<str>>,
    answered: Option<Instant>,
}

impl List {
    /// A list of which nothing is known yet.
    pub fn new(world: World, service: &discover::Service) -> Self {
        Self {
            world,
            name: service.name.clone(),
            kind: service.source.kind(),
            members: None,
            troubles: Troubles::new(),
            twins: BTreeSet::new(),
            answered: None,
        }
    }

    /// How long until the list is looked at again where nobody tells of a change.
    pub fn interval(&self) -> Duration {
        // A config may be hostile to us by mistake.
        self.world.config.borrow().discover.interval.max(Duration::from_millis(100))
    }

    /// Puts up the members, in the order of the list. With troubles it is no whole answer: `members` then
    /// holds what was known before of that which cannot be read now.
    pub fn found(&mut self, members: Vec<Arc<Member>>, troubles: Troubles, of_kind: Kind) {
        // Nearly always all are as they were.
        let same = |known: &Vec<Arc<Member>>| {
            known.len() == members.len() && known.iter().zip(&members).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        let is_same = self.members.as_ref().is_some_and(same);
        let members = if is_same { members } else { self.without_twins(members) };
        let events = &self.world.events;
        match &self.members {
            Some(_) if is_same => {}
            Some(before) => tell_changes(events, &self.name, before, &members),
            None if troubles.is_empty() || !members.is_empty() => {
                let message = format!("{} listed", count(members.len()));
                events.push(&self.name, events::Kind::Topology, None, None, message);
            }
            None => {}
        }
        tell_troubles(events, &self.name, &self.troubles, &troubles);
        if troubles.is_empty() {
            self.answered = Some(Instant::now());
        }
        // What was never told is not known: the first members are told when there are any.
        if self.members.is_some() || troubles.is_empty() || !members.is_empty() {
            self.members = Some(members.clone());
        }
        self.world.board.put(Service {
            members,
            view: View::Plain,
            answered: self.answered,
            failure: failure(&troubles).map(|why| (of_kind, why)),
            ..Service::unknown(self.name.clone(), self.kind)
        });
        self.troubles = troubles;
    }

    /// Each address once, the first one that is listed; a member that did not change stays the same value.
    fn without_twins(&mut self, members: Vec<Arc<Member>>) -> Vec<Arc<Member>> {
        let known: HashMap<&str, &Arc<Member>> =
            self.members.iter().flatten().map(|member| (&*member.instance, member)).collect();
        let mut seen = HashSet::with_capacity(members.len());
        let mut twins = BTreeSet::new();
        let mut first = Vec::with_capacity(members.len());
        for member in members {
            if !seen.insert(member.instance.clone()) {
                twins.insert(member.instance.clone());
                continue;
            }
            first.push(match known.get(&*member.instance) {
                Some(same) if **same == member => Arc::clone(same),
                _ => member,
            });
        }
        if let Some(one) = twins.first().filter(|_| twins != self.twins) {
            let message = match twins.len() {
                1 => format!("{one} is listed more than once: the first counts"),
                many => format!("{many} are listed more than once, {one} among them: the first counts"),
            };
            self.world.events.push(&self.name, events::Kind::Discovery, None, Some(one), message);
        }
        self.twins = twins;
        first
    }
}

/// Waits until the list should be looked at again: its configuration changed, or `until` is over.
pub async fn pause(wanted: &mut watch::Receiver<Arc<discover::Service>>, until: Duration) {
    // When the loop is gone, we are about to be dropped: no reason to look more often.
    let changed = async {
        if wanted.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let _ = tokio::time::timeout(until, changed).await;
}

fn count(members: usize) -> String {
    match members {
        1 => "1 member".into(),
        members => format!("{members} members"),
    }
}

fn tell_changes(events: &Events, service: &str, before: &[Arc<Member>], after: &[Arc<Member>]) {
    fn names(members: &[Arc<Member>]) -> HashSet<&str> {
        members.iter().map(|member| &*member.instance).collect()
    }
    let (old, new) = (names(before), names(after));
    let joined: Vec<_> = after.iter().filter(|member| !old.contains(&*member.instance)).collect();
    let left: Vec<_> = before.iter().filter(|member| !new.contains(&*member.instance)).collect();
    let kind = events::Kind::Topology;
    if joined.len() + left.len() > TOLD_BY_NAME {
        let message = format!("{} joined, {} left", count(joined.len()), left.len());
        events.push(service, kind, None, None, message);
        return;
    }
    for member in left {
        let name = &*member.instance;
        events.push(service, kind, Some(name), None, format!("{name} left the list"));
    }
    for member in joined {
        let name = &*member.instance;
        events.push(service, kind, None, Some(name), format!("{name} joined the list"));
    }
}

/// Each trouble is told when it begins and when it ends.
pub fn tell_troubles(events: &Events, service: &str, before: &Troubles, now: &Troubles) {
    let kind = events::Kind::Discovery;
    let begun: Vec<_> = now.iter().filter(|(thing, _)| !before.contains_key(*thing)).collect();
    if begun.len() > TOLD_BY_NAME {
        let message = format!("{} things are wrong, {} among them", begun.len(), begun[0].0);
        events.push(service, kind, Some("ok"), Some("failing"), message);
    } else {
        for (thing, why) in begun {
            events.push(service, kind, Some("ok"), Some("failing"), format!("{thing} {why}"));
        }
    }
    let over: Vec<_> = before.keys().filter(|thing| !now.contains_key(*thing)).collect();
    if over.len() > TOLD_BY_NAME {
        let message = format!("{} things are well again, {} among them", over.len(), over[0]);
        events.push(service, kind, Some("failing"), Some("ok"), message);
    } else {
        for thing in over {
            events.push(service, kind, Some("failing"), Some("ok"), format!("{thing} is well again"));
        }
    }
}

/// All troubles in a sentence.
fn failure(troubles: &Troubles) -> Option<String> {
    let named: Vec<_> = troubles.iter().take(NAMED).map(|(thing, why)| format!("{thing} {why}")).collect();
    let more = troubles.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    (!named.is_empty()).then(|| named.join("; ") + &more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Address, Config};
    use crate::discover::fixed::member;

    /// What is told and left when these are listed one after the other.
    fn check(lists: &[&[&str]], expected: &[&str], told: &[&str]) {
        let (_config, config) = watch::channel(Arc::<Config>::default());
        let world = World::new(config);
        let service = discover::Service::new("s", discover::Source::Instances(vec![]));
        let mut list = List::new(world.clone(), &service);
        for addresses in lists {
            let of = |host: &&str| Arc::new(member(Address::tcp(host, 1), BTreeMap::new()));
            list.found(addresses.iter().map(of).collect(), Troubles::new(), Kind::Dns);
        }
        let found = world.board.get("s").expect("put up");
        let found: Vec<_> =
            found.members.iter().map(|member| member.instance.trim_end_matches(":1")).collect();
        let messages: Vec<_> = world.events.all().into_iter().map(|event| event.message).collect();
        assert_eq!(
            (&*found, messages.iter().map(String::as_str).collect::<Vec<_>>()),
            (expected, told.to_vec())
        );
    }

    #[test]
    fn an_address_counts_once_and_in_the_order_of_the_list() {
        check(&[&["b", "a"]], &["b", "a"], &["2 members listed"]);
        check(
            &[&["b", "a", "b"], &["b", "a", "b"], &["a", "b", "a", "b"], &["a"]],
            &["a"],
            &[
                "b:1 is listed more than once: the first counts",
                "2 members listed",
                "2 are listed more than once, a:1 among them: the first counts",
                "b:1 left the list",
            ],
        );
    }

    #[test]
    fn few_changes_are_told_by_name_and_many_as_a_number() {
        check(
            &[&[], &["a"], &["b"]],
            &["b"],
            &["0 members listed", "a:1 joined the list", "a:1 left the list", "b:1 joined the list"],
        );
        let many: Vec<_> = (0..20).map(|number| format!("h{number}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        check(
            &[&many[..5], &many, &many[..8]],
            &many[..8],
            &["5 members listed", "15 members joined, 0 left", "0 members joined, 12 left"],
        );
    }
}
