//! Who replicates from whom, among the members of a service.
//!
//! What a newcomer would get wrong: the address by which a replica knows its master is an announced one, of its own
//! network. It need not be the one by which we reach that master.

use super::{MemberTruth, member};
use crate::collect::facts::{Id, Role};
use crate::config::Address;
use crate::discover::service::{Member, Service};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

/// Who replicates from whom.
pub(super) struct Sources<'a> {
    service: &'a Service,
    truths: &'a HashMap<Arc<str>, MemberTruth>,
    by_history: Only<'a, Id>,
    by_shard: Only<'a, &'a str>,
}

/// The only master of each key; `None` where there are several.
type Only<'a, K> = HashMap<K, Option<&'a Member>>;

impl<'a> Sources<'a> {
    /// Looks for masters among those that were asked.
    pub(super) fn of(
        service: &'a Service,
        asked: &[&'a Member],
        truths: &'a HashMap<Arc<str>, MemberTruth>,
    ) -> Self {
        let (mut by_history, mut by_shard) = (HashMap::new(), HashMap::new());
        for member in asked {
            let facts = truths.get(&member.instance).and_then(MemberTruth::facts);
            let Some(facts) = facts.filter(|facts| facts.role == Some(Role::Master)) else { continue };
            add(&mut by_history, facts.replid, member);
            add(&mut by_shard, member.shard.as_deref(), member);
        }
        Self { service, truths, by_history, by_shard }
    }

    /// The member that this one replicates from: the one at the address that it says; else the only master that
    /// has its history, else the only master of its shard.
    pub(super) fn find(&self, replica: &Member) -> Option<&'a Member> {
        let truth = self.truths.get(&replica.instance)?;
        let facts = truth.facts().filter(|facts| facts.role == Some(Role::Replica))?;
        // Promoted since it said so.
        if truth.role == Some(Role::Master) {
            return None;
        }
        let address = facts.master.as_ref().and_then(|at| {
            let instance = Member::instance_of(&Address::tcp(&at.host, at.port));
            member(self.service, &instance).filter(|member| member.instance != replica.instance)
        });
        let is_near = |other: &&Member| {
            other.shard.is_none() || replica.shard.is_none() || other.shard == replica.shard
        };
        let history = || self.by_history.get(&facts.replid?).copied().flatten().filter(is_near);
        let shard = || self.by_shard.get(replica.shard.as_deref()?).copied().flatten();
        address.or_else(history).or_else(shard)
    }
}

fn add<'a, K: Eq + Hash>(only: &mut Only<'a, K>, key: Option<K>, member: &'a Member) {
    let Some(key) = key else { return };
    match only.entry(key) {
        Entry::Occupied(mut known) => _ = known.insert(None),
        Entry::Vacant(place) => _ = place.insert(Some(member)),
    }
}
