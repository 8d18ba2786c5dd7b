//! The master and its replicas as the Sentinels name them. Pure.
//!
//! What a newcomer would get wrong: a replica that is down is a member all the same, and a Sentinel that does
//! not answer takes nobody away. Only when those that answer name a server no more, as after
//! `SENTINEL RESET`, does it go.

use super::reply::MOST_MEMBERS;
use crate::config::Address;
use crate::discover::service::Member;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a server that nobody names any more is kept: after `SENTINEL RESET`, Sentinels find the living
/// ones again when they next ask the master for INFO, which they do every ten seconds.
const REMEMBERED: Duration = Duration::from_secs(12);

/// A server that somebody names.
#[derive(Clone, Debug)]
pub struct Named {
    /// Where we reach it.
    pub address: Address,
    /// Its run id, where it is known.
    pub id: Option<Arc<str>>,
    /// Whether it is well in the eyes of whoever names it.
    pub is_well: bool,
}

/// Those that came and those that went.
#[derive(Debug, Default)]
pub struct Change {
    /// New ones.
    pub joined: Vec<Arc<str>>,
    /// Those that nobody names any more.
    pub left: Vec<Arc<str>>,
}

/// The members.
#[derive(Debug, Default)]
pub struct Members {
    all: BTreeMap<Arc<str>, (Arc<Member>, Instant)>,
    /// Other addresses of members.
    also: BTreeMap<Arc<str>, Arc<str>>,
}

impl Members {
    /// Begins with those that were known before.
    pub fn resume(&mut self, known: &[Arc<Member>], now: Instant) {
        self.all = known.iter().map(|member| (member.instance.clone(), (member.clone(), now))).collect();
    }

    /// All, sorted by instance.
    pub fn all(&self) -> Vec<Arc<Member>> {
        self.all.values().map(|(member, _)| member.clone()).collect()
    }

    /// The member of that instance.
    pub fn get(&self, instance: &str) -> Option<&Arc<Member>> {
        self.all.get(instance).map(|(member, _)| member)
    }

    /// The member that is reached there, which may have another instance.
    pub fn instance(&self, address: &Address) -> Arc<str> {
        let instance = Member::instance_of(address);
        self.same(instance)
    }

    /// The instance of the same member now.
    pub fn same(&self, instance: Arc<str>) -> Arc<str> {
        self.also.get(&instance).cloned().unwrap_or(instance)
    }

    /// Takes who is named now. `may_forget`: whether enough Sentinels answer to say who is gone.
    pub fn take(&mut self, shard: &str, named: Vec<Named>, may_forget: bool, now: Instant) -> Change {
        let mut change = Change::default();
        let mut seen: BTreeMap<Arc<str>, Named> = BTreeMap::new();
        for one in named {
            let instance = Member::instance_of(&one.address);
            let is_full = seen.len() >= MOST_MEMBERS;
            match seen.get_mut(&instance) {
                Some(known) => {
                    known.id = known.id.take().or(one.id);
                    known.is_well |= one.is_well;
                }
                None if is_full => {}
                None => {
                    seen.insert(instance, one);
                }
            }
        }
        self.pair(&mut seen);
        // Those that are kept for a while give way to those that are named, the oldest first.
        let new = seen.keys().filter(|instance| !self.all.contains_key(*instance)).count();
        let over = (self.all.len() + new).saturating_sub(MOST_MEMBERS);
        let mut unnamed: Vec<_> =
            self.all.iter().filter(|(instance, _)| !seen.contains_key(*instance)).collect();
        unnamed.sort_by_key(|(_, (_, named))| *named);
        let gone: Vec<_> = unnamed.into_iter().take(over).map(|(instance, _)| instance.clone()).collect();
        for instance in gone {
            self.all.remove(&instance);
            change.left.push(instance);
        }
        for (instance, one) in seen {
            let before = self.all.get(&instance).map(|(member, _)| member.clone());
            let id = one.id.or(before.as_ref().and_then(|member| member.id.clone()));
            let member = match before {
                Some(member) if member.id == id && member.address.tls == one.address.tls => member,
                // One that is kept from before a reload may have been reached in the clear.
                Some(member) => {
                    let address = one.address.without_credentials();
                    Arc::new(Member { id, address, ..Member::clone(&member) })
                }
                None => {
                    change.joined.push(instance.clone());
                    Arc::new(Member {
                        address: one.address.without_credentials(),
                        instance: instance.clone(),
                        shard: Some(shard.into()),
                        id,
                        labels: BTreeMap::new(),
                    })
                }
            };
            self.all.insert(instance, (member, now));
        }
        let also = &self.also;
        self.all.retain(|instance, (_, named)| {
            let is_named = now.saturating_duration_since(*named) < REMEMBERED || !may_forget;
            // Another address of one that stays is no loss.
            let stays = is_named && !also.contains_key(instance);
            if !stays {
                change.left.push(instance.clone());
            }
            stays
        });
        change
    }

    /// Finds servers that are named by two addresses, and keeps one: that of one that is well, else the one
    /// that we know.
    fn pair(&mut self, seen: &mut BTreeMap<Arc<str>, Named>) {
        let mut best: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
        for (instance, one) in seen.iter() {
            let Some(id) = &one.id else { continue };
            let rank = |instance: &Arc<str>| (seen[instance].is_well, self.all.contains_key(instance));
            match best.get_mut(id) {
                Some(other) if rank(instance) > rank(other) => *other = instance.clone(),
                Some(_) => {}
                None => {
                    best.insert(id.clone(), instance.clone());
                }
            }
        }
        self.also = seen
            .iter()
            .filter_map(|(instance, one)| {
                let other = best.get(one.id.as_ref()?)?;
                (other != instance).then(|| (instance.clone(), other.clone()))
            })
            .collect();
        seen.retain(|instance, _| !self.also.contains_key(instance));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<Named> {
        let one = |word: &str| {
            let mut parts = word.split('=');
            let address = parts.next().expect("an address");
            let id = parts.next().filter(|id| !id.is_empty()).map(Into::into);
            Named { address: Address::parse(address).expect(address), id, is_well: parts.next().is_none() }
        };
        text.split_whitespace().map(one).collect()
    }

    #[test]
    fn members_come_when_named_and_go_when_nobody_names_them() {
        let start = Instant::now();
        let mut members = Members::default();
        /// Joined, left, and all.
        type Expected<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str]);
        let mut check = |at: u64, text: &str, may_forget, expected: Expected<'_>| {
            let change = members.take("m", named(text), may_forget, start + Duration::from_secs(at));
            let all: Vec<_> = members.all().iter().map(|member| member.instance.to_string()).collect();
            assert_eq!(change.joined.iter().map(|name| &**name).collect::<Vec<_>>(), expected.0, "{text}");
            assert_eq!(change.left.iter().map(|name| &**name).collect::<Vec<_>>(), expected.1, "{text}");
            assert_eq!(all, expected.2, "{text}");
        };
        check(0, "a:1=x b:1=y", true, (&["a:1", "b:1"], &[], &["a:1", "b:1"]));
        // A replica that is down, and whose id is forgotten, stays.
        check(1, "a:1=x b:1==ill", true, (&[], &[], &["a:1", "b:1"]));
        check(2, "a:1=x c:1", true, (&["c:1"], &[], &["a:1", "b:1", "c:1"]));
        check(14, "a:1=x c:1", false, (&[], &[], &["a:1", "b:1", "c:1"]));
        check(15, "a:1=x c:1", true, (&[], &["b:1"], &["a:1", "c:1"]));
        // One process by two addresses is one member; the address that works counts, else the known one.
        check(16, "a:1=x z:1=x c:1", true, (&[], &[], &["a:1", "c:1"]));
        check(17, "a:1=x=ill z:1=x c:1", true, (&["z:1"], &["a:1"], &["c:1", "z:1"]));
    }

    #[test]
    fn a_thousand_servers_are_cut() {
        let many: String = (1..=1000).map(|port| format!("h:{port} ")).collect();
        let mut members = Members::default();
        members.take("m", named(&many), true, Instant::now());
        assert_eq!(members.all().len(), MOST_MEMBERS);
    }
}
