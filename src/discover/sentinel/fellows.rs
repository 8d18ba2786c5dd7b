//! The Sentinels of a service: those that are listed and those that they know. Pure.
//!
//! What a newcomer would get wrong: a Sentinel is its run id, not its address. One that is listed by name and
//! announced by another address votes once; and one that is known but cannot be reached still counts when it
//! is asked what a majority is. But one that a single Sentinel speaks of does not, or who invents fellows would
//! push the majority out of reach.

use super::reply::{Answer, Instance, MOST_SENTINELS, Useless};
use crate::config::{Address, discover};
use crate::discover::rewrite::rewrite;
use crate::discover::service::{Member, SentinelState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long one that nobody names any more is kept: after `SENTINEL RESET`, Sentinels find each other again
/// within two greetings.
const REMEMBERED: Duration = Duration::from_secs(5);

/// So many that answer must name one that never answered before it counts; where fewer answer, all of them.
const ENOUGH: usize = 2;

/// What is told of a Sentinel by others.
#[derive(Debug)]
struct Told {
    /// Where it is.
    address: Address,
    /// By how many.
    by: usize,
}

/// One Sentinel.
#[derive(Clone, Debug)]
pub struct Fellow {
    /// Where we reach it.
    pub address: Address,
    /// The same as text.
    pub instance: Arc<str>,
    /// Whether the operator listed it.
    pub is_listed: bool,
    /// Whether it is one of several addresses of what the operator listed. Some of them may be of the same Sentinel,
    /// or lead nowhere, as IPv6 often does: it counts once it has answered.
    is_expanded: bool,
    /// Its run id, once it is known.
    pub id: Option<Arc<str>>,
    /// What it said last.
    last: Option<Answer>,
    /// Why it does not answer now.
    pub failure: Option<Useless>,
    /// How often in a row it did not answer.
    pub failures: u32,
    /// When another one named it last.
    named: Instant,
    /// Whether as many name it as it takes for one that never answered.
    is_vouched: bool,
}

impl Fellow {
    fn new(address: Address, is_listed: bool, id: Option<Arc<str>>, now: Instant) -> Self {
        let instance = Member::instance_of(&address);
        let (last, failure, failures) = (None, None, 0);
        let (named, is_expanded, is_vouched) = (now, false, false);
        Self { address, instance, is_listed, is_expanded, id, last, failure, failures, named, is_vouched }
    }

    /// What it says now; `None` while it does not answer.
    pub fn answer(&self) -> Option<&Answer> {
        self.last.as_ref().filter(|_| self.failure.is_none())
    }

    /// Whether it counts when it is asked what a majority is.
    fn counts(&self) -> bool {
        let is_listed = self.is_listed && (!self.is_expanded || self.id.is_some());
        is_listed || self.is_vouched || self.answer().is_some()
    }
}

/// All of them.
#[derive(Debug)]
pub struct Fellows {
    all: Vec<Fellow>,
}

impl Fellows {
    /// Those that the operator listed.
    pub fn new(listed: &[Address], now: Instant) -> Self {
        let mut all: Vec<Fellow> = vec![];
        for address in listed {
            let fellow = Fellow::new(address.clone(), true, None, now);
            if all.iter().all(|known| known.instance != fellow.instance) {
                all.push(fellow);
            }
        }
        Self { all }
    }

    /// Takes the addresses for which those that are listed stand now. One that is listed no more is one of those that
    /// others name, or goes.
    pub fn list(&mut self, listed: &[Address], now: Instant) {
        let is_same = |fellow: &Fellow, address: &Address| fellow.address.endpoint == address.endpoint;
        for fellow in self.all.iter_mut().filter(|fellow| fellow.is_listed) {
            if !listed.iter().any(|address| is_same(fellow, address)) {
                (fellow.is_listed, fellow.named) = (false, now);
            }
        }
        for address in listed.iter().take(MOST_SENTINELS) {
            let known = self.all.iter().position(|fellow| is_same(fellow, address));
            let at = known.unwrap_or(self.all.len());
            if known.is_none() {
                self.all.push(Fellow::new(address.clone(), false, None, now));
            }
            let fellow = &mut self.all[at];
            if !fellow.is_listed {
                (fellow.is_listed, fellow.is_expanded) = (true, true);
                fellow.address = address.clone();
            }
        }
    }

    /// Everybody whom we ask.
    pub fn all(&self) -> &[Fellow] {
        &self.all
    }

    /// The one with that run id.
    pub fn of_id(&self, id: &str) -> Option<&Fellow> {
        self.distinct().into_iter().find(|fellow| fellow.id.as_deref() == Some(id))
    }

    /// Whether whatever they announce is reached by TLS: an announcement says nothing of it, and what was
    /// listed as `rediss://` is not to be followed by a password in the clear.
    pub fn by_tls(&self) -> bool {
        self.all.iter().all(|fellow| !fellow.is_listed || fellow.address.tls)
    }

    /// Takes what one said, or why it said nothing.
    pub fn record(&mut self, instance: &str, said: Result<Answer, Useless>) {
        let Some(fellow) = self.all.iter_mut().find(|fellow| &*fellow.instance == instance) else { return };
        match said {
            Ok(answer) => {
                // Another process may stand at the address now.
                fellow.id = answer.id.clone().or(fellow.id.take());
                fellow.last = Some(answer);
                (fellow.failure, fellow.failures) = (None, 0);
            }
            Err(useless) => {
                fellow.failure = Some(useless);
                fellow.failures = fellow.failures.saturating_add(1);
            }
        }
    }

    /// Each Sentinel that counts once, sorted by instance: the address that answers before one that does not.
    ///
    /// Of a listed one that never told its id nobody knows which of those it is that others name under
    /// addresses that do not answer: it counts as one of them.
    pub fn distinct(&self) -> Vec<&Fellow> {
        let mut by_id: BTreeMap<&str, &Fellow> = BTreeMap::new();
        let mut nameless: Vec<&Fellow> = vec![];
        let rank = |fellow: &Fellow| (fellow.answer().is_some(), fellow.is_listed);
        for fellow in self.all.iter().filter(|fellow| fellow.counts()) {
            match &fellow.id {
                Some(id) => {
                    let best = by_id.entry(id).or_insert(fellow);
                    if rank(fellow) > rank(best) {
                        *best = fellow;
                    }
                }
                None => nameless.push(fellow),
            }
        }
        let mut found: Vec<&Fellow> = by_id.into_values().collect();
        nameless.sort_by_key(|fellow| fellow.answer().is_none());
        for fellow in nameless {
            let same = found.iter().position(|one| one.answer().is_none() && !one.is_listed);
            match (same, fellow.answer()) {
                (Some(at), Some(_)) => found[at] = fellow,
                (Some(at), None) => {
                    // Counted there already; not twice for another nameless one either.
                    found[at] = fellow;
                }
                (None, _) => found.push(fellow),
            }
        }
        found.sort_by(|a, b| a.instance.cmp(&b.instance));
        found
    }

    /// Those that answer, each once.
    pub fn answering(&self) -> Vec<(&Fellow, &Answer)> {
        self.distinct().into_iter().filter_map(|fellow| Some((fellow, fellow.answer()?))).collect()
    }

    /// Learns who they are of what they say of each other.
    pub fn learn(&mut self, service: &discover::Service, now: Instant) {
        let named = self.named(service);
        self.identify(&named.iter().map(|(id, told)| (id.clone(), told.address.clone())).collect());
        // Those that most name come first, where there is no room for all.
        let enough = self.answering().len().clamp(1, ENOUGH);
        let mut named: Vec<_> = named.into_iter().collect();
        named.sort_by_key(|(_, told)| std::cmp::Reverse(told.by));
        let by_tls = self.by_tls();
        for (id, Told { address, by }) in named {
            let is_vouched = by >= enough;
            let address = Address { tls: by_tls, ..address };
            let instance = Member::instance_of(&address);
            let known = self.all.iter().position(|fellow| fellow.id.as_ref() == Some(&id));
            let taken = self.all.iter().any(|fellow| fellow.instance == instance);
            match known {
                Some(at) => {
                    let fellow = &mut self.all[at];
                    (fellow.named, fellow.is_vouched) = (now, is_vouched);
                    // It moved. One that answers where we ask it is asked there.
                    if !fellow.is_listed && fellow.answer().is_none() && !taken {
                        *fellow = Fellow { is_vouched, ..Fellow::new(address, false, Some(id), now) };
                    }
                }
                None if taken => {}
                None => {
                    if self.all.len() >= MOST_SENTINELS {
                        // Whoever counts gets the place of one that does not.
                        let Some(at) = self.all.iter().position(|f| is_vouched && !f.counts()) else {
                            continue;
                        };
                        self.all.remove(at);
                    }
                    self.all.push(Fellow { is_vouched, ..Fellow::new(address, false, Some(id), now) });
                }
            }
        }
        self.forget(now);
    }

    /// The ids that those that answer name, where each is, and how many name it.
    fn named(&self, service: &discover::Service) -> BTreeMap<Arc<str>, Told> {
        let mut named = BTreeMap::new();
        for (_, answer) in self.answering() {
            let mut own = BTreeSet::new();
            for Instance { address, id, .. } in &answer.sentinels {
                let Some(id) = id else { continue };
                // Whoever names it twice is still one.
                if own.insert(id) {
                    let told = || Told { address: rewrite(service, address.clone()), by: 0 };
                    named.entry(id.clone()).or_insert_with(told).by += 1;
                }
            }
        }
        named
    }

    /// Gives ids to those that do not tell theirs: by the address under which others name them, else by being
    /// the only one that it does not name itself.
    fn identify(&mut self, named: &BTreeMap<Arc<str>, Address>) {
        // One that others announce by an address that does not answer may be one of these.
        let settled = self.all.iter().filter(|fellow| fellow.is_listed || fellow.answer().is_some());
        let told: BTreeSet<_> = settled.filter_map(|fellow| fellow.id.clone()).collect();
        for fellow in &mut self.all {
            if fellow.id.is_some() {
                continue;
            }
            let there = named.iter().find(|(_, address)| address.endpoint == fellow.address.endpoint);
            let only = fellow.answer().and_then(|answer| {
                let own = |id: &&Arc<str>| answer.sentinels.iter().all(|peer| peer.id.as_ref() != Some(*id));
                let mut missing = named.keys().filter(own);
                missing.next().filter(|_| missing.next().is_none())
            });
            fellow.id = there.map(|(id, _)| id).or(only.filter(|id| !told.contains(*id))).cloned();
        }
    }

    /// Lets go of addresses that are another one's too, and of those that nobody names any more.
    fn forget(&mut self, now: Instant) {
        let listed: BTreeSet<_> =
            self.all.iter().filter(|f| f.is_listed).filter_map(|f| f.id.clone()).collect();
        self.all
            .retain(|fellow| fellow.is_listed || fellow.id.as_ref().is_none_or(|id| !listed.contains(id)));
        let enough_answer = 2 * self.answering().len() >= self.distinct().len();
        self.all.retain(|fellow| {
            let is_named = now.saturating_duration_since(fellow.named) < REMEMBERED;
            fellow.is_listed || is_named || fellow.answer().is_some() || !enough_answer
        });
    }

    /// What each is, for those who follow.
    pub fn states(&self) -> Vec<SentinelState> {
        let answering = self.answering();
        let state = |fellow: &Fellow| {
            let answer = fellow.answer();
            SentinelState {
                instance: fellow.instance.clone(),
                // Nobody asked it yet: as if it took its time.
                failure: match (&fellow.failure, answer) {
                    (Some(useless), _) => Some(useless.kind),
                    (None, None) => Some(crate::connect::Kind::Timeout),
                    (None, Some(_)) => None,
                },
                usable: Self::is_usable(fellow, &answering),
                names: answer.map(|answer| Member::instance_of(&answer.names)),
                epoch: answer.map(|answer| answer.master.epoch),
            }
        };
        self.distinct().into_iter().map(state).collect()
    }

    /// Whether at least half of the others that know it say that it can vote.
    fn is_usable(fellow: &Fellow, answering: &[(&Fellow, &Answer)]) -> bool {
        let in_tilt = fellow.answer().is_some_and(|answer| answer.in_tilt);
        let others = answering.iter().filter(|(other, _)| other.instance != fellow.instance);
        let says = |(_, answer): &(&Fellow, &Answer)| {
            let peer = answer.sentinels.iter().find(|peer| peer.id.is_some() && peer.id == fellow.id)?;
            Some(peer.flags.is_well())
        };
        let said: Vec<bool> = others.filter_map(says).collect();
        let well = said.iter().filter(|is_well| **is_well).count();
        !in_tilt && if said.is_empty() { fellow.answer().is_some() } else { 2 * well >= said.len() }
    }
}
