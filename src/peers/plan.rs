//! Which shards to claim, which to give away, and when: decided from what is known, without asking anybody.
//!
//! - A shard that nobody has is claimed by whoever should have it, at once.
//! - A shard that is ours and should be somebody else's *leaves*: nothing begins there any more, and when whoever collects says
//!   that nothing is under way, it is released. These moves are voluntary, so they wait until the peers have been the same for a
//!   while, are few at a time, and stop while anything is wrong.
//! - What was ours before a lease ended is claimed again at once, whoever should have it: that moves the least.
//! - A shard that whoever should have it does not take is taken by the next in line after a while, who keeps it.
//!
//! What a newcomer would get wrong: none of this keeps two from having one shard. The transaction that claims does; here it is
//! only about moving little and leaving nothing alone.

use super::assign::rank;
use super::claims::Claims;
use super::members::Members;
use super::shards::{SHARDS, Shards};
use super::share::Seen;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// The most voluntary moves in an interval: 10 % of the shards, all peers together.
pub const MOST_MOVES: usize = SHARDS.div_ceil(10);

/// After which time one that did not take its shard is offered it again though the peers are the same.
const AGAIN: Duration = Duration::from_secs(600);

/// The operator's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long the peers must be the same before work moves from one that lives.
    pub settle: Duration,
    /// As long as fewer are there, nothing new is taken.
    pub min_peers: usize,
    /// In which time [`MOST_MOVES`] are the most.
    pub interval: Duration,
    /// How long a free shard waits for whoever should have it, before the next in line takes it.
    pub patience: Duration,
}

/// What is known.
pub struct View<'a> {
    /// The time.
    pub now: Instant,
    /// Who lives, ourselves included.
    pub members: &'a Members,
    /// Who has what.
    pub claims: &'a Claims,
    /// Our name.
    pub id: &'a str,
    /// Our lease.
    pub lease: i64,
    /// How far whoever collects has followed.
    pub seen: Seen,
    /// Nothing moves that need not: an output is down.
    pub hold: bool,
    /// What is known may be old: nothing is done.
    pub frozen: bool,
    /// Whether what is ours is collected all the same meanwhile.
    pub keeps: bool,
    /// The operator's part.
    pub settings: Settings,
}

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// To be claimed.
    pub claim: Shards,
    /// Ours, where nothing begins any more.
    pub leaving: Shards,
    /// Of these, those to be released.
    pub release: Shards,
}

/// What has to be remembered from one step to the next.
#[derive(Debug)]
pub struct Plan {
    /// Since when we are one of the peers.
    began: Instant,
    /// What was ours before.
    before: Shards,
    /// What leaves, and the number of the standing that said so first.
    leaving: BTreeMap<u8, Option<u64>>,
    /// What somebody was told to release: it may be gone any moment, so it stays away from collecting.
    releasing: Shards,
    free_since: [Option<Instant>; SHARDS],
    /// Who did not take a shard that it should have, and when we took it.
    refused: BTreeMap<u8, (String, Instant)>,
    same_since: Option<Instant>,
    moves: VecDeque<Instant>,
}

impl Plan {
    /// For one that has become one of the peers just now. `before`: what was ours until then.
    pub fn new(began: Instant, before: Shards) -> Self {
        Self {
            began,
            before,
            leaving: BTreeMap::new(),
            releasing: Shards::NONE,
            free_since: [None; SHARDS],
            refused: BTreeMap::new(),
            same_since: None,
            moves: VecDeque::new(),
        }
    }

    /// Whether free shards may be claimed: everybody who starts along with us has had time to say so, or the work is shared
    /// already.
    pub fn has_begun(&self, view: &View<'_>) -> bool {
        let is_other = |owner: &str| owner != view.id && view.members.place(owner).is_some();
        view.now >= self.began + view.settings.settle
            || view.claims.iter().any(|(_, claim)| is_other(&claim.owner))
    }

    /// The standing of that number says all that leaves.
    pub fn told(&mut self, number: u64) {
        for said in self.leaving.values_mut() {
            said.get_or_insert(number);
        }
    }

    /// What to do now. `told` has to follow, when what leaves has been published.
    pub fn step(&mut self, view: &View<'_>) -> Step {
        let ours = view.claims.under(view.lease);
        self.leaving.retain(|shard, _| ours.has(*shard));
        self.releasing = self.releasing.iter().filter(|shard| ours.has(*shard)).collect();
        if view.frozen {
            // How long something has been free is not known either.
            self.free_since = [None; SHARDS];
            if view.keeps {
                // It may last, and rather twice than never: what was to go is collected, be it released meanwhile or not.
                self.leaving.clear();
                self.releasing = Shards::NONE;
            }
            return self.outcome(Shards::NONE);
        }
        if self.same_since != Some(view.members.same_since()) {
            self.same_since = Some(view.members.same_since());
            self.refused.clear();
        }
        let is_theirs = |shard: u8| view.claims.get(shard).is_some() && !ours.has(shard);
        self.refused.retain(|shard, (_, since)| !is_theirs(*shard) && view.now < *since + AGAIN);
        let claim = self.claim(view);
        self.leave(view, ours);
        self.release(view);
        self.outcome(claim)
    }

    fn outcome(&self, claim: Shards) -> Step {
        Step { claim, leaving: self.leaving.keys().copied().collect(), release: self.releasing }
    }

    /// What nobody has and we take.
    fn claim(&mut self, view: &View<'_>) -> Shards {
        let Some(own) = view.members.place(view.id) else { return Shards::NONE };
        if view.now >= self.began + view.settings.settle {
            self.before = Shards::NONE;
        }
        let has_begun = self.has_begun(view) && view.members.peers().len() >= view.settings.min_peers;
        let mut peers = vec![];
        let mut claim = Shards::NONE;
        for shard in 0..=u8::MAX {
            let since = &mut self.free_since[usize::from(shard)];
            if view.claims.get(shard).is_some() {
                *since = None;
                continue;
            }
            let free_for = view.now.duration_since(*since.get_or_insert(view.now));
            let preferred = view.members.preferred()[usize::from(shard)];
            if self.before.has(shard) || (has_begun && preferred == Some(own)) {
                claim.insert(shard);
            } else if has_begun && free_for >= view.settings.patience {
                if peers.is_empty() {
                    peers = view.members.peers().iter().map(|peer| (&*peer.id, peer.weight)).collect();
                }
                let place = rank(shard, view.id, &peers).and_then(|rank| u32::try_from(rank).ok());
                if place.is_some_and(|place| free_for >= view.settings.patience * place) {
                    claim.insert(shard);
                    if let Some(other) =
                        preferred.and_then(|place| view.members.peers().get(usize::from(place)))
                    {
                        self.refused.insert(shard, (other.id.clone(), view.now));
                    }
                }
            }
        }
        claim
    }

    /// What is ours and should be somebody else's.
    fn leave(&mut self, view: &View<'_>, ours: Shards) {
        let should_go = |owner: &str, shard: u8| {
            let place = view.members.preferred()[usize::from(shard)]?;
            let other = view.members.peers().get(usize::from(place))?;
            (other.id != owner).then_some(&other.id)
        };
        // What should be ours again stays, unless it may be released any moment.
        let releasing = self.releasing;
        self.leaving.retain(|shard, _| releasing.has(*shard) || should_go(view.id, *shard).is_some());
        let is_calm = view.now >= view.members.same_since() + view.settings.settle;
        if view.hold || !is_calm || view.members.peers().len() < view.settings.min_peers {
            self.leaving.retain(|shard, _| releasing.has(*shard));
            return;
        }
        while self.moves.front().is_some_and(|at| view.now.duration_since(*at) >= view.settings.interval) {
            self.moves.pop_front();
        }
        // Everybody sees how much has to move in all, and does its part of what may.
        let lives = |owner: &str| view.members.place(owner).is_some();
        let all = (view.claims.iter())
            .filter(|(shard, claim)| lives(&claim.owner) && should_go(&claim.owner, *shard).is_some())
            .count();
        let mine: Vec<_> = ours
            .iter()
            .filter(|shard| {
                should_go(view.id, *shard)
                    .is_some_and(|to| self.refused.get(shard).is_none_or(|(who, _)| who != to))
            })
            .collect();
        let part = (MOST_MOVES * mine.len()).checked_div(all.max(mine.len())).unwrap_or(0).max(1);
        let room = part.saturating_sub(self.moves.len());
        let next: Vec<_> =
            mine.into_iter().filter(|shard| !self.leaving.contains_key(shard)).take(room).collect();
        for shard in next {
            self.leaving.insert(shard, None);
            self.moves.push_back(view.now);
        }
    }

    /// What leaves and of which nothing is under way any more.
    fn release(&mut self, view: &View<'_>) {
        for (shard, said) in &self.leaving {
            let is_heard = said.is_some_and(|number| view.seen.number >= number);
            if is_heard && !view.seen.busy.has(*shard) {
                self.releasing.insert(*shard);
            }
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
