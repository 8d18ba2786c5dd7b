//! A member that is known under two addresses is one.
//!
//! Each run of a server has an id (`run_id` of INFO). Who collects tells which id answered at which address;
//! where two members of a service turn out to be one server, the first that is listed stands for both, and the
//! loop asks the address of the other one from time to time whether that is still so.
//!
//! What a newcomer would get wrong: two ids that differ do not say that there are two servers. A server that
//! was started again has another id at both of its addresses, and we hear of it at one of them first. And an
//! address at which an id comes back is that of several servers (a load balancer, a virtual address): it
//! stands for itself, and its ids are no longer looked at.

use super::service::Member;
use crate::config::Address;
use crate::config::address::Endpoint;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often in a row an id must have answered before its address is merged with another one.
const SETTLED: u32 = 2;

/// The same for an address that was parted from another one: next time we are slower to believe it.
const SETTLED_AGAIN: u32 = 20;

/// How many earlier ids of an address are remembered.
const FORMER: usize = 4;

/// How often an address may not answer while nobody knows whether it is still the same server.
const SILENT: u32 = 3;

/// Which server answered where.
#[derive(Debug, Default)]
pub struct Identities {
    table: Mutex<Table>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    seen: HashMap<Endpoint, Seen>,
    /// At how many addresses an id was seen last.
    holders: HashMap<Arc<str>, u32>,
    /// Counts what was learned: which of two things was learned later.
    turn: u64,
    /// Addresses of several servers of which nobody was told yet.
    alternating: Vec<Endpoint>,
}

/// What is known of an address.
#[derive(Debug, Default)]
struct Seen {
    id: Option<Arc<str>>,
    /// Earlier ones, the oldest first.
    former: Vec<Arc<str>>,
    /// How often in a row the id answered, and how often it must.
    times: u32,
    needed: u32,
    /// When it answered last, and when first with this id.
    learned: u64,
    changed: u64,
    /// Whether the loop waits for its next answer.
    in_doubt: bool,
    /// Whether it is an address of several servers.
    alternates: bool,
}

impl Seen {
    /// The id, where it may be compared with others.
    fn settled(&self) -> Option<&Arc<str>> {
        self.id.as_ref().filter(|_| !self.alternates && self.times >= self.needed.max(SETTLED))
    }
}

/// Members that another one stands for, by instance.
pub type Aliases = BTreeMap<Arc<str>, Alias>;

/// A member that another one stands for.
#[derive(Debug)]
pub struct Alias {
    /// The member that is not published.
    pub member: Arc<Member>,
    /// The instance of the one that is.
    pub of: Arc<str>,
    /// Whether its address must be asked soon: an id changed.
    pub in_doubt: bool,
    /// How often in a row it did not answer.
    pub silent: u32,
    /// When it was asked last.
    pub asked: Option<Instant>,
}

/// What became of members.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// The first is no longer published: the second stands for it.
    Merged(Arc<str>, Arc<str>),
    /// The first is published again: it is not what the second is.
    Parted(Arc<str>, Arc<str>),
}

impl Identities {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while this lock is held.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server with this `run_id` answered at this address. Addresses that are in no service are not kept,
    /// and what is no id of 40 digits as servers make them says nothing.
    pub fn learn(&self, address: &Address, id: &str) {
        if is_id(id) && self.table().learn(&address.endpoint, id) {
            self.changed.notify_one();
        }
    }

    /// Waits until members may have to be merged or parted.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Keeps what is known of these addresses, and from now on learns of these only.
    pub(super) fn follow<'a>(&self, addresses: impl Iterator<Item = &'a Address>) {
        let mut table = self.table();
        let mut before = std::mem::take(&mut table.seen);
        for address in addresses {
            if let Some((endpoint, seen)) = before.remove_entry(&address.endpoint) {
                table.seen.insert(endpoint, seen);
            } else if !table.seen.contains_key(&address.endpoint) {
                table.seen.insert(address.endpoint.clone(), Seen::default());
            }
        }
        for id in before.into_values().filter_map(|seen| seen.id) {
            table.let_go(&id);
        }
    }

    /// Addresses that turned out to be those of several servers since the last call.
    pub(super) fn alternating(&self) -> Vec<Endpoint> {
        std::mem::take(&mut self.table().alternating)
    }

    /// The members of a service without those that another one stands for, in the same order.
    pub(super) fn merge(
        &self,
        members: &[Arc<Member>],
        aliases: &mut Aliases,
    ) -> (Vec<Arc<Member>>, Vec<Told>) {
        self.table().merge(members, aliases)
    }
}

/// Whether this is an id as servers make them: some that speak the protocol say the same of all of them.
fn is_id(text: &str) -> bool {
    text.len() == 40
        && text.bytes().all(|b| b.is_ascii_hexdigit())
        && text.bytes().collect::<HashSet<_>>().len() > 4
}

impl Table {
    /// Returns whether members may have to be merged or parted now.
    fn learn(&mut self, endpoint: &Endpoint, id: &str) -> bool {
        let Some(seen) = self.seen.get_mut(endpoint).filter(|seen| !seen.alternates) else { return false };
        self.turn += 1;
        seen.learned = self.turn;
        if seen.id.as_deref() == Some(id) {
            seen.times = seen.times.saturating_add(1);
            let settles = seen.times == seen.needed.max(SETTLED);
            return seen.in_doubt || settles && self.holders.get(id).is_some_and(|holders| *holders > 1);
        }
        let id: Arc<str> = match self.holders.get_key_value(id) {
            Some((same, _)) => same.clone(),
            None => id.into(),
        };
        (seen.times, seen.changed) = (1, self.turn);
        let Some(before) = seen.id.replace(id.clone()) else {
            *self.holders.entry(id).or_default() += 1;
            return false;
        };
        if seen.former.contains(&id) {
            seen.alternates = true;
            seen.former = vec![];
            self.alternating.push(endpoint.clone());
        }
        if seen.former.len() == FORMER {
            seen.former.remove(0);
        }
        seen.former.push(before.clone());
        *self.holders.entry(id).or_default() += 1;
        self.let_go(&before);
        true
    }

    fn let_go(&mut self, id: &Arc<str>) {
        if let Some(holders) = self.holders.get_mut(id) {
            *holders -= 1;
            if *holders == 0 {
                self.holders.remove(id);
            }
        }
    }

    fn merge(&mut self, members: &[Arc<Member>], aliases: &mut Aliases) -> (Vec<Arc<Member>>, Vec<Told>) {
        let mut told = vec![];
        if !aliases.is_empty() {
            self.part(members, aliases, &mut told);
        }
        let mut firsts: HashMap<&Arc<str>, &Arc<str>> = HashMap::new();
        let mut kept = vec![];
        for member in members {
            if aliases.contains_key(&member.instance) {
                continue;
            }
            let id = self.seen.get(&member.address.endpoint).and_then(Seen::settled);
            match id.and_then(|id| firsts.get(id).copied()) {
                Some(first) => {
                    told.push(Told::Merged(member.instance.clone(), first.clone()));
                    let (member, of) = (member.clone(), first.clone());
                    kept_by(aliases, &member.instance, &of);
                    aliases.insert(
                        member.instance.clone(),
                        Alias { member, of, in_doubt: false, silent: 0, asked: None },
                    );
                }
                None => {
                    if let Some(id) = id {
                        firsts.insert(id, &member.instance);
                    }
                    kept.push(member.clone());
                }
            }
        }
        (kept, told)
    }

    /// Lets those stand for themselves again that are known not to be what stands for them.
    fn part(&mut self, members: &[Arc<Member>], aliases: &mut Aliases, told: &mut Vec<Told>) {
        let listed: HashMap<&str, &Arc<Member>> =
            members.iter().map(|member| (&*member.instance, member)).collect();
        aliases.retain(|instance, alias| {
            let (Some(member), Some(first)) = (listed.get(&**instance), listed.get(&*alias.of)) else {
                // One of them is not listed any more, which is told elsewhere.
                return false;
            };
            alias.member = Arc::clone(member);
            let verdict = self.verdict(&first.address.endpoint, &alias.member.address.endpoint, alias.silent);
            alias.in_doubt = verdict == Verdict::Doubt;
            if verdict == Verdict::Two {
                told.push(Told::Parted(instance.clone(), alias.of.clone()));
            }
            verdict != Verdict::Two
        });
        // Others may wait for the same address, so this is set once all are known.
        let mut in_doubt = HashSet::new();
        for alias in aliases.values().filter(|alias| alias.in_doubt) {
            in_doubt.insert(&alias.member.instance);
            in_doubt.insert(&alias.of);
        }
        for member in members {
            if let Some(seen) = self.seen.get_mut(&member.address.endpoint) {
                seen.in_doubt = in_doubt.contains(&member.instance);
            }
        }
    }

    /// Whether an address is still that of the server that another one is.
    fn verdict(&mut self, first: &Endpoint, alias: &Endpoint, silent: u32) -> Verdict {
        let (Some(a), Some(b)) = (self.seen.get(first), self.seen.get(alias)) else { return Verdict::Two };
        if a.alternates || b.alternates {
            return Verdict::Two;
        }
        if a.id == b.id {
            return Verdict::One;
        }
        let last_change = a.changed.max(b.changed);
        let both_answered_since = a.learned.min(b.learned) >= last_change;
        if !both_answered_since && silent < SILENT {
            return Verdict::Doubt;
        }
        let moved = if a.changed == last_change { first } else { alias };
        if let Some(seen) = self.seen.get_mut(moved) {
            seen.needed = SETTLED_AGAIN;
        }
        Verdict::Two
    }
}

/// Those that stood behind a member which now stands behind another one itself.
fn kept_by(aliases: &mut Aliases, before: &Arc<str>, now: &Arc<str>) {
    for alias in aliases.values_mut().filter(|alias| alias.of == *before) {
        alias.of = now.clone();
    }
}

#[derive(PartialEq)]
enum Verdict {
    /// They are one server.
    One,
    /// They are not, or nobody can tell any more.
    Two,
    /// One of them has another id now, and the other one did not answer since.
    Doubt,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::fixed::member;

    /// A service with members `a`, `b` …, and what was learned and told.
    struct Service {
        identities: Identities,
        members: Vec<Arc<Member>>,
        aliases: Aliases,
    }

    impl Service {
        fn of(hosts: &str) -> Self {
            let mut service =
                Self { identities: Identities::default(), members: vec![], aliases: Aliases::new() };
            service.list(hosts);
            service
        }

        fn list(&mut self, hosts: &str) {
            let of = |host| Arc::new(member(Address::tcp(host, 1), BTreeMap::new()));
            self.members = hosts.split(' ').map(of).collect();
            self.identities.follow(self.members.iter().map(|member| &member.address));
        }

        /// `a=1 b=2`: what answers where, in that order. Then the members that are left, and what was told:
        /// `b>a` is merged, `b<a` parted, `b?` in doubt, `b~` alternating.
        fn check(&mut self, learned: &str, members: &str, told: &str) {
            for (host, id) in learned.split_whitespace().filter_map(|word| word.split_once('=')) {
                let address = Address::tcp(host, 1);
                self.identities.learn(&address, &format!("{id:0>2}23456789abcdef0123456789abcdef01234567"));
            }
            let (kept, happened) = self.identities.merge(&self.members, &mut self.aliases);
            let host = |instance: &str| instance.trim_end_matches(":1").to_owned();
            let kept: Vec<_> = kept.iter().map(|member| host(&member.instance)).collect();
            let happened = happened.iter().map(|told| match told {
                Told::Merged(a, b) => format!("{}>{}", host(a), host(b)),
                Told::Parted(a, b) => format!("{}<{}", host(a), host(b)),
            });
            let alternating = self.identities.alternating();
            let alternating = alternating.iter().map(|endpoint| format!("{}~", host(&endpoint.to_string())));
            let in_doubt = self.aliases.values().filter(|alias| alias.in_doubt);
            let in_doubt = in_doubt.map(|alias| format!("{}?", host(&alias.member.instance)));
            let found: Vec<_> = happened.chain(alternating).chain(in_doubt).collect();
            assert_eq!((kept.join(" "), found.join(" ")), (members.into(), told.into()), "{learned}");
        }
    }

    #[test]
    fn the_first_of_two_addresses_of_a_server_stays() {
        let mut service = Service::of("b a c");
        service.check("", "b a c", "");
        service.check("a=1 b=1 c=2", "b a c", "");
        service.check("a=1", "b a c", "");
        service.check("b=1 c=2", "b c", "a>b");
        service.check("b=1 c=2 a=1", "b c", "");
        let mut three = Service::of("a b c");
        three.check("a=1 b=1 c=1 a=1 b=1 c=1", "a", "b>a c>a");
    }

    #[test]
    fn what_is_no_id_says_nothing() {
        let identities = Identities::default();
        let (a, b) = (Address::tcp("a", 1), Address::tcp("b", 1));
        let members = [&a, &b].map(|address| Arc::new(member(address.clone(), BTreeMap::new())));
        identities.follow([&a, &b].into_iter());
        for id in ["", "0", &"0".repeat(40), &"x".repeat(40), "0123456789abcdef"] {
            for address in [&a, &b, &a, &b] {
                identities.learn(address, id);
            }
            assert_eq!(identities.merge(&members, &mut Aliases::new()).0.len(), 2, "{id:?}");
        }
    }

    #[test]
    fn a_server_that_was_started_again_stays_one_member() {
        let mut service = Service::of("a b");
        service.check("a=1 b=1 a=1 b=1", "a", "b>a");
        service.check("a=2", "a", "b?");
        service.check("a=2", "a", "b?");
        service.check("b=2", "a", "");
        // Seen at the other address first.
        service.check("b=3", "a", "b?");
        service.check("a=3", "a", "");
    }

    #[test]
    fn another_server_at_one_of_the_addresses_parts_them() {
        let mut service = Service::of("a b");
        service.check("a=1 b=1 a=1 b=1", "a", "b>a");
        service.check("a=2", "a", "b?");
        service.check("b=1", "a b", "b<a");
        service.check("a=2 b=1 a=2 b=1", "a b", "");
        let mut other = Service::of("a b");
        other.check("a=1 b=1 a=1 b=1", "a", "b>a");
        other.check("b=2", "a", "b?");
        other.check("a=1", "a b", "b<a");
        // Only after some time it may be one with another server.
        other.check("a=2 b=2 a=2 b=2", "a b", "");
        other.check(&"b=2 ".repeat(20), "a", "b>a");
    }

    #[test]
    fn who_does_not_answer_while_in_doubt_stands_for_itself() {
        let mut service = Service::of("a b");
        service.check("a=1 b=1 a=1 b=1", "a", "b>a");
        for silent in 0..SILENT {
            service.aliases.get_mut("b:1").expect("merged").silent = silent;
            service.check("a=2", "a", "b?");
        }
        service.aliases.get_mut("b:1").expect("merged").silent = SILENT;
        service.check("a=2", "a b", "b<a");
    }

    #[test]
    fn silence_alone_parts_nobody() {
        let mut service = Service::of("a b");
        service.check("a=1 b=1 a=1 b=1", "a", "b>a");
        service.aliases.get_mut("b:1").expect("merged").silent = 100;
        service.check("a=1", "a", "");
    }

    #[test]
    fn an_address_of_several_servers_is_told_once_and_stands_for_itself() {
        let mut by_turns = Service::of("vip a b");
        by_turns.check("vip=1 a=1 b=2", "vip a b", "");
        by_turns.check("vip=2 a=1 b=2", "vip a b", "");
        by_turns.check("vip=1 a=1 b=2", "vip a b", "vip~");
        for _ in 0..10 {
            by_turns.check("vip=1 vip=1 vip=2 a=1 b=2", "vip a b", "");
        }
        // One that stays with a server for long.
        let mut slow = Service::of("vip a b");
        slow.check("vip=1 a=1 b=2 vip=1 a=1 b=2", "vip b", "a>vip");
        slow.check("vip=2 b=2", "vip b", "a?");
        slow.check("a=1", "vip a b", "a<vip");
        slow.check("vip=2 a=1 b=2 vip=2 a=1 b=2", "vip a b", "");
        slow.check("vip=1 a=1 b=2", "vip a b", "vip~");
        slow.check(&"vip=1 a=1 ".repeat(30), "vip a b", "");
    }

    #[test]
    fn a_member_that_leaves_the_list_lets_the_other_one_stand_for_itself() {
        let mut service = Service::of("a b");
        service.check("a=1 b=1 a=1 b=1", "a", "b>a");
        service.list("b");
        service.check("b=1", "b", "");
        service.list("b a");
        service.check("b=1 a=1", "b a", "");
        service.check("b=1 a=1", "b", "a>b");
        assert_eq!(service.identities.table().holders.values().sum::<u32>(), 2);
    }

    #[test]
    fn only_addresses_of_services_are_kept() {
        let mut service = Service::of("a b");
        service.check("a=1 b=1 x=1 y=2", "a b", "");
        service.list("a");
        // An address may be in two services.
        let twice = [&service.members[0].address, &service.members[0].address];
        service.identities.follow(twice.into_iter());
        let table = service.identities.table();
        assert_eq!((table.seen.len(), table.holders.len(), table.holders.values().sum::<u32>()), (1, 1, 1));
    }

    #[test]
    fn who_stands_for_others_may_be_merged_itself() {
        let mut service = Service::of("a b c");
        service.check("a=1 b=2 c=2 a=1 b=2 c=2", "a b", "c>b");
        service.check("b=1 b=1 c=1 c=1", "a", "b>a");
        assert_eq!(&*service.aliases["c:1"].of, "a:1");
    }
}
