//! Who was there last, and who had each shard last: what lists are made of while nobody can be asked.
//!
//! Who follows a [`Standing`] has it follow, too; the pages that list peers and members look.
//!
//! What a newcomer would get wrong: a shard that nobody has is still shown with who had it. A list that leaves out what nobody
//! has at the moment would make a reader drop its series, and they come back a moment later.

use super::shards::{SHARDS, shard_of};
use super::share::{Peer, Standing};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who was there last, and who had what. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Known {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    number: Option<u64>,
    peers: Arc<[Arc<Peer>]>,
    owners: Box<[Option<Arc<Peer>>]>,
}

impl Default for Inner {
    fn default() -> Self {
        Self { number: None, peers: [].into(), owners: vec![None; SHARDS].into() }
    }
}

impl Known {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while this lock is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what is so now. What it does not say stays as it was.
    pub fn follow(&self, standing: &Standing) {
        let mut inner = self.inner();
        if inner.number.is_some_and(|number| number >= standing.number) {
            return;
        }
        inner.number = Some(standing.number);
        if !standing.peers.is_empty() {
            inner.peers = standing.peers.clone().into();
        }
        for (shard, place) in standing.owners.iter().enumerate() {
            if let Some(peer) = place.and_then(|place| standing.peers.get(usize::from(place))) {
                inner.owners[shard] = Some(peer.clone());
            }
        }
    }

    /// Everybody who was there last, in the order of their ids; empty where nobody was ever seen.
    pub fn peers(&self) -> Arc<[Arc<Peer>]> {
        self.inner().peers.clone()
    }

    /// Who had a shard last, as it said of itself last.
    pub fn owner_of(&self, shard: u8) -> Option<Arc<Peer>> {
        let inner = self.inner();
        let owner = inner.owners[usize::from(shard)].as_ref()?;
        let now = inner.peers.iter().find(|peer| peer.id == owner.id);
        Some(now.unwrap_or(owner).clone())
    }

    /// Who had a service last.
    pub fn owner(&self, service: &str) -> Option<Arc<Peer>> {
        self.owner_of(shard_of(service))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::deliver::Url;

    fn standing(number: u64, peers: &[&str], owners: &[(u8, u16)]) -> Standing {
        let peer = |id: &&str| {
            let url = Url::parse(&format!("http://{id}/")).expect("a URL");
            let (version, config_hash) = ("1".into(), String::new());
            Arc::new(Peer {
                id: (*id).into(),
                url,
                zone: None,
                weight: 100,
                version,
                config_hash,
                started: number,
            })
        };
        let mut all = [None; SHARDS];
        owners.iter().for_each(|(shard, place)| all[usize::from(*shard)] = Some(*place));
        let peers = peers.iter().map(peer).collect();
        Standing { number, peers, owners: Arc::new(all), ..Standing::nothing() }
    }

    #[test]
    fn what_is_known_stays_until_something_else_is() {
        let known = Known::default();
        let check = |standing: &Standing, peers: &str, owner: Option<(&str, u64)>| {
            known.follow(standing);
            let ids: Vec<_> = known.peers().iter().map(|peer| peer.id.clone()).collect();
            assert_eq!(ids.join(" "), peers);
            let found = known.owner_of(7);
            assert_eq!(found.as_ref().map(|peer| (&*peer.id, peer.started)), owner, "{standing:?}");
        };
        check(&Standing::nothing(), "", None);
        check(&standing(1, &["a:1", "b:1"], &[(7, 1)]), "a:1 b:1", Some(("b:1", 1)));
        // Nobody has it; it is still shown with who had it, as that one is now.
        check(&standing(2, &["a:1", "b:1"], &[]), "a:1 b:1", Some(("b:1", 2)));
        check(&standing(3, &["a:1"], &[]), "a:1", Some(("b:1", 1)));
        check(&Standing { number: 4, ..Standing::nothing() }, "a:1", Some(("b:1", 1)));
        check(&standing(5, &["a:1"], &[(7, 0)]), "a:1", Some(("a:1", 5)));
        // What is older than what is known is no news; nor is a place that nobody is at.
        check(&standing(2, &["b:1"], &[(7, 0)]), "a:1", Some(("a:1", 5)));
        check(&standing(6, &["a:1"], &[(7, 9)]), "a:1", Some(("a:1", 6)));
    }
}
