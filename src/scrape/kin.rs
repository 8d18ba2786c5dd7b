//! Which members of a long list replicate from one another, by what they said of themselves.
//!
//! A list knows of no shards. Members with the same `master_replid` have the same history: a master, its replicas, and
//! theirs. They are collected in one round, as those of a shard are.
//!
//! What a newcomer would get wrong: the address by which a replica knows its master is often not the one by which
//! we do, so nobody is looked up by it. Servers before 4.0 say no id, and stay by themselves.

use super::slot::Slot;
use crate::collect::facts::Id;
use std::collections::HashMap;
use std::sync::Arc;

/// As many members may be of one kin. More would be collected all at once because servers share an id by mistake.
pub const MOST: usize = 16;

/// What members of long lists said last: a member that is down keeps its kin.
#[derive(Default)]
pub struct Kin {
    /// By service and instance.
    said: HashMap<(Arc<str>, Arc<str>), Id>,
}

impl Kin {
    /// Takes in what a member says its history is. Whether it said something else before, or nothing.
    pub fn learn(&mut self, slot: &Slot, history: Id) -> bool {
        self.said.insert(key(slot), history) != Some(history)
    }

    /// Forgets members that went.
    pub fn forget(&mut self, gone: &[Arc<Slot>]) {
        for slot in gone {
            self.said.remove(&key(slot));
        }
    }

    /// The first of its kin, for each of these members of one list that has any.
    pub fn firsts(&self, members: &[Arc<Slot>]) -> HashMap<Arc<str>, Arc<str>> {
        let mut kin: HashMap<Id, Vec<&Arc<str>>> = HashMap::new();
        for slot in members {
            if let Some(history) = self.said.get(&key(slot)) {
                kin.entry(*history).or_default().push(&slot.member.instance);
            }
        }
        let kin = kin.into_values().filter(|kin| (2..=MOST).contains(&kin.len()));
        kin.flat_map(|kin| kin.iter().map(|one| ((*one).clone(), kin[0].clone())).collect::<Vec<_>>())
            .collect()
    }
}

fn key(slot: &Slot) -> (Arc<str>, Arc<str>) {
    (slot.service.clone(), slot.member.instance.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Address;
    use crate::discover::fixed::member;
    use std::collections::BTreeMap;

    fn slots(count: u16) -> Vec<Arc<Slot>> {
        let slot = |port| {
            let at = Arc::new(member(Address::tcp("h", port), BTreeMap::new()));
            Arc::new(Slot::new("s".into(), at, Arc::default()))
        };
        (1..=count).map(slot).collect()
    }

    fn id(letter: char) -> Id {
        Id::parse(&letter.to_string().repeat(40)).expect("an id")
    }

    /// Histories as letters, one a member; who has kin, and who is the first of it.
    fn check(said: &str, expected: &[(u16, u16)]) {
        let slots = slots(u16::try_from(said.len()).expect("few"));
        let mut kin = Kin::default();
        for (slot, letter) in slots.iter().zip(said.chars()).filter(|(_, letter)| *letter != '-') {
            assert!(kin.learn(slot, id(letter)) && !kin.learn(slot, id(letter)), "news once");
        }
        let name = |port: u16| Arc::<str>::from(format!("h:{port}"));
        let expected = expected.iter().map(|(one, first)| (name(*one), name(*first))).collect();
        assert_eq!(kin.firsts(&slots), expected, "{said}");
    }

    #[test]
    fn those_with_the_same_history_are_kin_and_all_others_stand_alone() {
        check("", &[]);
        check("abc", &[]);
        check("---", &[]);
        check("abca", &[(1, 1), (4, 1)]);
        check("ab-bab", &[(1, 1), (5, 1), (2, 2), (4, 2), (6, 2)]);
        check(&"a".repeat(MOST + 1), &[]);
    }

    #[test]
    fn who_changes_its_history_changes_its_kin_and_who_goes_has_none() {
        let (slots, mut kin) = (slots(3), Kin::default());
        assert!(slots.iter().all(|slot| kin.learn(slot, id('a'))));
        assert!(kin.learn(&slots[0], id('b')));
        assert_eq!(kin.firsts(&slots).len(), 2);
        kin.forget(&slots[1..2]);
        assert!(kin.firsts(&slots).is_empty());
    }
}
