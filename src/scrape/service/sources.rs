//! Who replicates from whom, among the members of a service.
//!
//! What a newcomer would get wrong: the address by which a replica knows its master is an announced one, of its own
//! network. It need not be the one by which we reach that master.

use super::MemberTruth;
use crate::collect::facts::{Id, Role};
use crate::config::address::Endpoint;
use crate::discover::service::{Member, Service};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// Who replicates from whom.
pub(super) struct Sources<'a> {
    service: &'a Service,
    truths: &'a HashMap<Arc<str>, MemberTruth>,
    by_address: HashMap<(&'a str, u16), usize>,
    /// The only fresh master with that history, and the only one of that shard.
    by_history: HashMap<Id, Option<usize>>,
    by_shard: HashMap<&'a str, Option<usize>>,
}

impl<'a> Sources<'a> {
    /// Knows the members.
    pub(super) fn of(service: &'a Service, truths: &'a HashMap<Arc<str>, MemberTruth>) -> Self {
        let (mut by_address, mut by_history, mut by_shard) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (at, member) in service.members.iter().enumerate() {
            if let Endpoint::Tcp { host, port } = &member.address.endpoint {
                by_address.insert((host.as_str(), *port), at);
            }
            let facts = truths.get(&member.instance).and_then(MemberTruth::facts);
            let Some(facts) = facts.filter(|facts| facts.role == Some(Role::Master)) else { continue };
            let only = |slot: Option<&mut Option<usize>>| slot.map(|slot| *slot = None).is_none();
            if let Some(replid) = facts.replid
                && only(by_history.get_mut(&replid))
            {
                by_history.insert(replid, Some(at));
            }
            if let Some(shard) = &member.shard
                && only(by_shard.get_mut(&**shard))
            {
                by_shard.insert(&**shard, Some(at));
            }
        }
        Self { service, truths, by_address, by_history, by_shard }
    }

    /// The member that this one replicates from, by its place in the service: the one at the address that it
    /// says; else the only master that has its history, else the only master of its shard.
    pub(super) fn find(&self, member: &Member) -> Option<usize> {
        let truth = self.truths.get(&member.instance)?;
        let facts = truth.facts().filter(|facts| facts.role == Some(Role::Replica))?;
        let is_other = |at: &usize| self.service.members[*at].instance != member.instance;
        // Promoted since it said so.
        if truth.role != Some(Role::Replica) {
            return None;
        }
        let address = facts.master.as_ref().and_then(|master| {
            let host = match master.host.bytes().any(|byte| byte.is_ascii_uppercase()) {
                true => Cow::Owned(master.host.to_ascii_lowercase()),
                false => Cow::Borrowed(&*master.host),
            };
            self.by_address.get(&(&*host, master.port)).copied()
        });
        let is_near = |at: &usize| {
            let other = &self.service.members[*at];
            other.shard.is_none() || member.shard.is_none() || other.shard == member.shard
        };
        let history = || self.by_history.get(&facts.replid?).copied().flatten().filter(is_near);
        let shard = || self.by_shard.get(member.shard.as_deref()?).copied().flatten();
        address.filter(is_other).or_else(history).or_else(shard)
    }
}
