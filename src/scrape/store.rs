//! The members of services, each with its [`Slot`], and the books of services.
//!
//! What a newcomer would get wrong: a server in two services has a slot in each. What is known of it in one is not
//! known in the other, whose users and collectors may be others.

use super::book::Book;
use super::slot::Slot;
use crate::config::Address;
use crate::config::address::Endpoint;
use crate::discover::Member;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Every member that is collected, and a book for every service.
#[derive(Default)]
pub struct Store {
    inner: Mutex<Inner>,
    /// For the one who looks at keys, and has nobody else to tell it who came and went.
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    /// In the order of the topology.
    slots: Arc<Vec<Arc<Slot>>>,
    /// Where in `slots` those of a service are.
    by_service: HashMap<Arc<str>, Range<usize>>,
    by_endpoint: HashMap<Endpoint, Vec<Arc<Slot>>>,
    books: BTreeMap<Arc<str>, Arc<Book>>,
    /// The target of `--redis.addr`, where there are no services.
    own: Option<Arc<Slot>>,
}

/// The name of the service that the target of `--redis.addr` makes.
pub const OWN: &str = "default";

impl Store {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while this lock is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All members, in the order of the topology.
    pub fn slots(&self) -> Arc<Vec<Arc<Slot>>> {
        self.inner().slots.clone()
    }

    /// The members of a service.
    pub fn of_service(&self, service: &str) -> Vec<Arc<Slot>> {
        let inner = self.inner();
        inner.by_service.get(service).map(|places| inner.slots[places.clone()].to_vec()).unwrap_or_default()
    }

    /// The member that is reached there: of the service that is named, else of the first that has it, for a server
    /// may be in several.
    pub fn find(&self, service: Option<&str>, address: &Address) -> Option<Arc<Slot>> {
        let inner = self.inner();
        let slots = inner.by_endpoint.get(&address.endpoint)?;
        slots.iter().find(|slot| service.is_none_or(|service| *slot.service == *service)).cloned()
    }

    /// The place of the target of `--redis.addr`.
    pub fn own(&self, target: &Address) -> Arc<Slot> {
        let address = target.clone().without_credentials();
        let mut inner = self.inner();
        match &inner.own {
            Some(slot) if slot.member.address == address => slot.clone(),
            _ => {
                let instance = Member::instance_of(&address);
                let member = Member { address, instance, shard: None, id: None, labels: BTreeMap::new() };
                let slot = Arc::new(Slot::new(OWN.into(), Arc::new(member), Arc::default()));
                inner.own.insert(slot).clone()
            }
        }
    }

    /// The book of a service.
    pub fn book(&self, service: &str) -> Option<Arc<Book>> {
        self.inner().books.get(service).cloned()
    }

    /// Replaces the services and, service by service, their members; who stays keeps its slot and its book. Who went,
    /// or is reached elsewhere now, comes back.
    pub(super) fn replace(
        &self,
        services: &HashSet<Arc<str>>,
        members: Vec<(Arc<str>, Arc<Member>)>,
    ) -> Vec<Arc<Slot>> {
        let mut inner = self.inner();
        inner.books.retain(|name, _| services.contains(name));
        for name in services {
            inner.books.entry(name.clone()).or_default();
        }
        let key = |slot: &Arc<Slot>| ((slot.service.clone(), slot.member.instance.clone()), slot.clone());
        let mut known: HashMap<_, _> = inner.slots.iter().map(key).collect();
        let (mut slots, mut gone) = (Vec::with_capacity(members.len()), vec![]);
        for (service, member) in members {
            let Some(book) = inner.books.get(&service).cloned() else { continue };
            let slot = match known.remove(&(service.clone(), member.instance.clone())) {
                Some(slot) if slot.member == member => slot,
                // Other labels or another shard: it is the same server.
                Some(slot) if slot.member.address == member.address => Arc::new(slot.renamed(member, book)),
                old => {
                    gone.extend(old);
                    Arc::new(Slot::new(service, member, book))
                }
            };
            slots.push(slot);
        }
        gone.extend(known.into_values());
        inner.by_endpoint.clear();
        inner.by_service.clear();
        for (place, slot) in slots.iter().enumerate() {
            inner.by_endpoint.entry(slot.member.address.endpoint.clone()).or_default().push(slot.clone());
            inner.by_service.entry(slot.service.clone()).or_insert(place..place).end = place + 1;
        }
        inner.slots = Arc::new(slots);
        self.changed.notify_one();
        gone
    }

    /// Waits until the members are others.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members as `service:port/label`, who stays in the store, and who of those before went.
    fn check(store: &Store, members: &str, stays: &str, gone: &str) {
        let before = store.slots();
        let members: Vec<_> = members.split(' ').filter(|word| !word.is_empty()).collect();
        let parsed = members.iter().map(|word| {
            let (service, rest) = word.split_once(':').expect("a service");
            let (port, label) = rest.split_once('/').unwrap_or((rest, ""));
            let labels = [("l".to_owned(), label.to_owned())].into();
            let address = Address::tcp("h", port.parse().expect("a port"));
            (Arc::from(service), Arc::new(crate::discover::fixed::member(address, labels)))
        });
        let parsed: Vec<(Arc<str>, _)> = parsed.collect();
        let names = parsed.iter().map(|(service, _)| service.clone()).collect();
        let shown = |slots: &[Arc<Slot>]| {
            let mut shown: Vec<_> =
                slots.iter().map(|s| format!("{}:{}", s.service, &s.member.instance[2..])).collect();
            shown.sort();
            shown.join(" ")
        };
        let went = store.replace(&names, parsed);
        let after = store.slots();
        let stayed: Vec<_> =
            after.iter().filter(|s| before.iter().any(|old| s.is_same(old))).cloned().collect();
        assert_eq!((shown(&stayed), shown(&went)), (stays.to_owned(), gone.to_owned()), "{members:?}");
        for name in names {
            let of_service: Vec<_> = after.iter().filter(|slot| slot.service == name).cloned().collect();
            assert_eq!(shown(&store.of_service(&name)), shown(&of_service), "{members:?}");
        }
        assert!(store.of_service("none").is_empty());
    }

    #[test]
    fn who_stays_keeps_its_place_and_who_went_is_told() {
        let store = Store::default();
        check(&store, "a:1 a:2 b:1", "", "");
        check(&store, "a:1 a:2 b:1", "a:1 a:2 b:1", "");
        check(&store, "b:1 a:1/x a:3", "a:1 b:1", "a:2");
        check(&store, "a:1/x c:3", "a:1", "a:3 b:1");
        check(&store, "", "", "a:1 c:3");
    }
}
