//! What to believe of what the Sentinels say. Pure: time is passed in.
//!
//! A master is believed when more than half of all known Sentinels name it at the same configuration epoch,
//! the newest that so many hold, and when it says itself that it is a master. Until another one is believed,
//! the last one stays: a minority, a Sentinel that is stuck on an old address, or one that was restarted and
//! tells of an old switch changes nothing.
//!
//! What a newcomer would get wrong: during a failover the Sentinels learn of the new master one after the
//! other. So everything is decided anew with every single answer, not once they all have answered.

use super::episode::{self, Episode, Phases, Signs, Turn};
use super::event::{Event, Hello};
use super::fellows::Fellows;
use super::members::{Change, Members, Named};
use super::naming::Naming;
use super::reply::{Answer, Flags, Instance, PHASES, Useless};
use crate::config::{Address, discover};
use crate::discover::lasting::Lasting;
use crate::discover::rewrite::rewrite;
use crate::discover::service::{
    Completed, History, Master, Member, SentinelState, SentinelView, Service, View,
};
use crate::telemetry::events::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long the word of a server about its own role counts.
const FRESH: Duration = Duration::from_secs(2);

/// How long a state must last before it is told: during a failover Sentinels disagree for a moment.
const PATIENCE: Duration = Duration::from_secs(2);

/// A phase that was heard of so long ago belongs to another failover. Of a planned one, nobody but its leader
/// knows for the first two or three seconds.
const RECENT: Duration = Duration::from_secs(5);

/// Now, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The clock for durations.
    pub at: Instant,
    /// The clock on the wall.
    pub time: SystemTime,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self { at: Instant::now(), time: SystemTime::now() }
    }
}

/// An entry for the event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The kind.
    pub kind: Kind,
    /// What it was before.
    pub from: Option<String>,
    /// What it is now.
    pub to: Option<String>,
    /// The sentence.
    pub message: String,
}

/// Everything that is known of the service.
#[derive(Debug)]
pub struct Belief {
    service: Arc<discover::Service>,
    fellows: Fellows,
    members: Members,
    /// Whether each server said that it is a master, and when; an error is no.
    roles: BTreeMap<Arc<str>, (bool, Instant)>,
    /// The master that was confirmed.
    master: Option<Master>,
    /// The master that was confirmed before we began.
    master_before: Option<Master>,
    /// What a majority holds: epoch and master.
    held: Option<(u64, Arc<str>)>,
    /// What each Sentinel that answers holds.
    votes: Vec<(u64, Arc<str>)>,
    /// The master that was named before any was confirmed.
    first_named: Option<Arc<str>>,
    episode: Option<Episode>,
    /// When the last failover ended with the same master.
    given_up: Option<Instant>,
    /// Phases heard of before the failover was seen.
    heard: Phases,
    history: History,
    answered: Option<Instant>,
    /// Since when a closer look is worth it, and what the news was: the newest epoch, and the failover.
    urgent: Option<(Instant, (u64, Option<Instant>))>,
    /// Since when a Sentinel is ahead of the master that is confirmed.
    ahead: Option<Instant>,
    /// How long a Sentinel that is ahead, or alone with its signs, or a closer look, may hold things open.
    pub failover_max: Duration,
    naming: Naming,
    disagreement: Lasting,
    no_majority: Lasting,
    no_quorum: Lasting,
    silent: BTreeMap<Arc<str>, Lasting>,
    notices: Vec<Notice>,
}

impl Belief {
    /// Nothing is known but where to ask.
    pub fn new(service: Arc<discover::Service>, now: Instant) -> Self {
        let listed = match &service.source {
            discover::Source::Sentinel { addresses, .. } => &addresses[..],
            _ => &[],
        };
        Self {
            fellows: Fellows::new(listed, now),
            service,
            members: Members::default(),
            roles: BTreeMap::new(),
            master: None,
            master_before: None,
            held: None,
            votes: vec![],
            first_named: None,
            episode: None,
            given_up: None,
            heard: Phases::default(),
            history: History::default(),
            answered: None,
            urgent: None,
            ahead: None,
            failover_max: crate::config::resilience::Health::default().failover_max,
            naming: Naming::default(),
            disagreement: Lasting::default(),
            no_majority: Lasting::default(),
            no_quorum: Lasting::default(),
            silent: BTreeMap::new(),
            notices: vec![],
        }
    }

    /// Goes on where another one stopped that followed the same service: nobody is to see members or the
    /// master go and come back. The master is confirmed anew, for it may be reached by another address.
    /// Counters are none of it: whoever starts providers adds them up.
    pub fn resume(&mut self, known: &Service, now: Instant) {
        self.members.resume(&known.members, now);
        self.master_before = known.master.clone();
    }

    /// The names of those that are listed stand for these addresses now.
    pub fn list(&mut self, listed: &[Address], now: Instant) {
        self.fellows.list(listed, now);
    }

    /// Whom to ask.
    pub fn sentinels(&self) -> impl Iterator<Item = (&Arc<str>, &Address)> {
        self.fellows.all().iter().map(|fellow| (&fellow.instance, &fellow.address))
    }

    /// Where greetings are heard.
    pub fn members(&self) -> Vec<Arc<Member>> {
        self.members.all()
    }

    /// A Sentinel answered, or did not.
    pub fn answered(&mut self, instance: &str, said: Result<Answer, Useless>, now: Moment) {
        if said.is_ok() {
            self.answered = Some(now.at);
        }
        self.fellows.record(instance, said);
    }

    /// A Sentinel published an event. Nothing of it is believed but when it came.
    pub fn heard(&mut self, event: &Event, now: Instant) {
        match (event, &mut self.episode) {
            (Event::Phase(phase), Some(episode)) => episode.phases.heard(phase, now),
            (Event::Phase(phase), None) => {
                let first = self.heard.first();
                let is_old = first.is_some_and(|first| now.saturating_duration_since(first) > RECENT);
                if is_old || *phase == PHASES[0].0 {
                    self.heard = Phases::default();
                }
                self.heard.heard(phase, now);
            }
            (Event::Aborted(why), Some(episode)) => episode.reason = Some(why),
            _ => {}
        }
    }

    /// Whether a greeting tells anything that the Sentinel's own answer does not.
    pub fn is_news(&self, hello: &Hello) -> bool {
        match self.fellows.of_id(&hello.id).map(|fellow| fellow.answer()) {
            Some(Some(answer)) => hello.epoch > answer.master.epoch || hello.master != answer.names,
            Some(None) | None => true,
        }
    }

    /// A server said whether it is a master.
    pub fn role(&mut self, instance: &Arc<str>, is_master: bool, now: Instant) {
        self.roles.insert(instance.clone(), (is_master, now));
    }

    /// Who is to be asked for its role now.
    pub fn questions(&self) -> Vec<Arc<Member>> {
        let mut wanted = vec![];
        if let Some((epoch, instance)) = self.candidate() {
            wanted.push(instance);
            wanted.extend(self.master.as_ref().filter(|master| epoch <= master.epoch).map(|m| &m.instance));
        }
        wanted.into_iter().filter_map(|instance| self.members.get(instance)).cloned().collect()
    }

    /// What a majority holds and is not confirmed yet.
    fn candidate(&self) -> Option<(u64, &Arc<str>)> {
        let (epoch, instance) = self.held.as_ref()?;
        let is_other = self.master.as_ref().is_none_or(|master| master.instance != *instance);
        is_other.then_some((*epoch, instance))
    }

    /// Draws the conclusions of all that came in.
    pub fn decide(&mut self, now: Moment) -> Vec<Notice> {
        let unnamed = self.naming.turn(now.at);
        if unnamed > 0 {
            let message = format!("And {unnamed} more servers that came, went, fell silent or answer again.");
            self.notice(Kind::Topology, None, None, message);
        }
        self.fellows.learn(&self.service, now.at);
        self.name_members(now.at);
        self.vote();
        self.begin_failover(now.at);
        self.confirm(now);
        self.follow_failover(now);
        self.tell(now.at);
        self.roles.retain(|_, (_, at)| now.at.saturating_duration_since(*at) < FRESH);
        std::mem::take(&mut self.notices)
    }

    fn notice(&mut self, kind: Kind, from: Option<&str>, to: Option<&str>, message: String) {
        self.notices.push(Notice { kind, from: from.map(Into::into), to: to.map(Into::into), message });
    }

    /// Members are who those name that stand with the majority; before there is one, who anybody names.
    fn name_members(&mut self, now: Instant) {
        let discover::Source::Sentinel { master: shard, .. } = &self.service.source else { return };
        let answering = self.fellows.answering();
        let most_answer = answering.len() > self.fellows.distinct().len() / 2;
        let holds = |answer: &Answer| {
            let names = self.members.instance(&rewrite(&self.service, answer.names.clone()));
            self.held.as_ref().is_none_or(|(epoch, held)| answer.master.epoch >= *epoch || names == *held)
        };
        let tls = self.fellows.by_tls();
        let mut told = vec![];
        for (_, answer) in answering.iter().filter(|(_, answer)| holds(answer)) {
            let mut named = vec![];
            let master = &answer.master.instance;
            let names = Instance { address: answer.names.clone(), id: None, flags: Flags::default() };
            for Instance { address, id, flags } in [master, &names].into_iter().chain(&answer.replicas) {
                let address = Address { tls, ..rewrite(&self.service, address.clone()) };
                named.push(Named { address, id: id.clone(), is_well: flags.is_well() });
            }
            told.push(named.into_iter());
        }
        // In turns: where there is no room for all, one that invents servers takes but its own share.
        let mut named = vec![];
        while !told.is_empty() {
            told.retain_mut(|one| one.next().map(|server| named.push(server)).is_some());
        }
        let is_first = self.members.all().is_empty();
        let Change { joined, left } = self.members.take(shard, named, most_answer, now);
        if let Some(master) = &mut self.master {
            master.instance = self.members.same(master.instance.clone());
        }
        if is_first && !joined.is_empty() {
            let (told, more) = joined.split_at(self.naming.names(joined.len()));
            let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
            let message = format!("The Sentinels name these members: {}{more}.", told.join(", "));
            self.notice(Kind::Topology, None, None, message);
            return;
        }
        for instance in joined {
            if !self.naming.names_one() {
                continue;
            }
            let message = format!("{instance} is a member now: the Sentinels name it.");
            self.notice(Kind::Topology, None, Some(&instance), message);
        }
        for instance in left {
            if !self.naming.names_one() {
                continue;
            }
            let message = format!("{instance} is no member any more: no Sentinel names it.");
            self.notice(Kind::Topology, Some(&instance), None, message);
        }
    }

    /// What each Sentinel holds, and what a majority does.
    fn vote(&mut self) {
        let vote = |answer: &Answer| {
            let names = rewrite(&self.service, answer.names.clone());
            (answer.master.epoch, self.members.instance(&names))
        };
        self.votes = self.fellows.answering().iter().map(|(_, answer)| vote(answer)).collect();
        self.held = held_by_majority(&self.votes, self.fellows.distinct().len());
        if self.first_named.is_none() {
            self.first_named = self.held.as_ref().map(|(_, instance)| instance.clone());
        }
    }

    fn confirm(&mut self, now: Moment) {
        let Some((epoch, instance)) = self.held.clone() else { return };
        if let Some(master) = &mut self.master
            && master.instance == instance
        {
            // Lower only where all Sentinels were made anew.
            if epoch > master.epoch || self.votes.iter().all(|(other, _)| *other < master.epoch) {
                master.epoch = epoch;
            }
            return;
        }
        let says = |instance: &Arc<str>| {
            let (is_master, at) = self.roles.get(instance)?;
            (now.at.saturating_duration_since(*at) < FRESH).then_some(*is_master)
        };
        if says(&instance) != Some(true) || self.members.get(&instance).is_none() {
            return;
        }
        if let Some(master) = &self.master
            && epoch <= master.epoch
        {
            // Epochs go back only where Sentinels were made anew, or pointed elsewhere by hand. Then nobody
            // stands by the old master, and neither does that one itself.
            let stands = |vote: &(u64, Arc<str>)| vote.0 >= master.epoch && vote.1 != instance;
            if self.votes.iter().any(stands) || says(&master.instance) != Some(false) {
                return;
            }
        }
        let before = self.master.replace(Master { instance: instance.clone(), epoch, confirmed: now.at });
        let named = self.first_named.clone().filter(|named| *named != instance);
        match before.map(|master| master.instance).or(named) {
            Some(from) => self.complete(from, instance, epoch, now),
            None if self.master_before.as_ref().is_some_and(|before| before.instance == instance) => {}
            None => {
                let message = format!("{instance} is the master, at configuration epoch {epoch}.");
                self.notice(Kind::Topology, None, Some(&instance), message);
            }
        }
    }

    fn complete(&mut self, from: Arc<str>, to: Arc<str>, epoch: u64, now: Moment) {
        let message = format!("{to} is the master in place of {from}, at configuration epoch {epoch}.");
        self.notice(Kind::Failover, Some(&from), Some(&to), message);
        if let Some(episode) = &mut self.episode {
            episode.is_completed = true;
            episode.members.extend([from.clone(), to.clone()]);
        }
        let episode = self.episode.as_ref();
        self.history.completed += 1;
        self.history.last = Some(Completed {
            from,
            to,
            began: episode.map(|episode| episode.began),
            confirmed: now.at,
            time: now.time,
            phases: episode.map(|episode| episode.phases.durations(None)).unwrap_or_default(),
        });
    }

    /// What those say of a failover now that do not lag behind the master that is confirmed: what those hold
    /// nobody cares for.
    fn signs(&self) -> Signs {
        let epoch = self.master.as_ref().map(|master| master.epoch);
        let answering = self.fellows.answering();
        let answers = answering.iter().map(|(_, answer)| *answer);
        Signs::of(
            answers.filter(|answer| Some(answer.master.epoch) >= epoch),
            self.fellows.distinct().len(),
            epoch,
        )
    }

    /// Decided before another master is confirmed, for the answer that agrees with the first sign may be the
    /// one that makes the majority.
    fn begin_failover(&mut self, now: Instant) {
        let signs = self.signs();
        let rests = self.given_up.is_some_and(|since| now.saturating_duration_since(since) < episode::APART);
        if self.episode.is_some() || !signs.begin() || rests {
            return;
        }
        let from = self.master.as_ref().map(|master| master.instance.clone());
        let from = from.or(self.first_named.clone()).or_else(|| {
            // Nobody stands with a majority yet: the one that it is about.
            let answering = self.fellows.answering();
            let (_, answer) = answering.iter().find(|(_, answer)| Signs::is_one(answer))?;
            let address = rewrite(&self.service, answer.master.instance.address.clone());
            Some(self.members.instance(&address))
        });
        let heard = std::mem::take(&mut self.heard);
        let is_recent = heard.first().is_some_and(|at| now.saturating_duration_since(at) <= RECENT);
        let heard = if is_recent { heard } else { Phases::default() };
        self.episode = Some(Episode::begin(from.clone(), heard, now));
        let name = from.as_deref().unwrap_or("the master");
        let message = if signs.is_down {
            format!("A failover begins: a quorum of Sentinels holds {name} for down.")
        } else {
            format!("A failover begins: a Sentinel replaces {name}, which is not down.")
        };
        self.notice(Kind::Failover, from.as_deref(), None, message);
    }

    fn follow_failover(&mut self, now: Moment) {
        let signs = self.signs();
        let answering = self.fellows.answering();
        let epoch = self.master.as_ref().map_or(0, |master| master.epoch);
        // One that is ahead of the others tells of a success that is still to come, but not for ever.
        let is_ahead = self.votes.iter().any(|(other, _)| *other > epoch);
        self.ahead = if is_ahead { self.ahead.or(Some(now.at)) } else { None };
        let is_news =
            self.ahead.is_some_and(|since| now.at.saturating_duration_since(since) < self.failover_max);
        let is_settled = match (&self.master, &self.held) {
            (Some(master), Some((_, held))) => master.instance == *held && !is_news,
            _ => false,
        };
        let mut concerned = BTreeSet::new();
        for (_, answer) in &answering {
            if answer.master.instance.flags.failover_in_progress {
                let moved = |replica: &&Instance| replica.flags.promoted || replica.flags.reconfigured;
                let reach = |replica: &Instance| rewrite(&self.service, replica.address.clone());
                let moved = answer.replicas.iter().filter(moved).map(reach);
                concerned.extend(moved.map(|address| self.members.instance(&address)));
            }
        }
        let Some(episode) = &mut self.episode else { return };
        episode.members.extend(concerned);
        let turn = episode.watch(signs, is_settled, self.failover_max, now.at);
        match turn {
            None => {}
            Some(Turn::GaveUp) => {
                episode.aborted += 1;
                let why = episode.reason.take().map(|why| format!(": {why}")).unwrap_or_default();
                let from = episode.from.clone();
                let name = from.as_deref().unwrap_or("the master");
                let message = format!("A failover of {name} was given up{why}. It is still the master.");
                self.history.aborted += 1;
                self.notice(Kind::Failover, from.as_deref(), from.as_deref(), message);
            }
            Some(Turn::Over) => {
                self.given_up = (!episode.is_completed).then_some(now.at);
                self.end_failover();
            }
            Some(Turn::Lost) => {
                let from = self.episode.take().and_then(|episode| episode.from);
                let name = from.as_deref().unwrap_or("the master");
                let message = format!("There is no sign of a failover of {name} any more.");
                self.notice(Kind::Failover, from.as_deref(), None, message);
            }
        }
    }

    fn end_failover(&mut self) {
        let Some(mut episode) = self.episode.take() else { return };
        if episode.is_completed {
            if let Some(last) = &mut self.history.last {
                last.phases = episode.phases.durations(episode.ended());
            }
            return;
        }
        let from = episode.from.take();
        let name = from.as_deref().unwrap_or("the master");
        let message = if episode.is_attempted || episode.aborted == 0 {
            self.history.aborted += 1;
            let why = episode.reason.map(|why| format!(": {why}")).unwrap_or_default();
            format!("A failover of {name} was given up{why}. It is still the master.")
        } else {
            format!("The Sentinels hold {name} for down no more. It is still the master.")
        };
        self.notice(Kind::Failover, from.as_deref(), from.as_deref(), message);
    }

    /// States of the Sentinels that last, each told once.
    fn tell(&mut self, now: Instant) {
        let mut notices = vec![];
        let mut say = |to: &str, message: String| {
            let (to, kind) = (Some(to.to_owned()), Kind::Discovery);
            notices.push(Notice { kind, from: None, to, message });
        };
        let all = self.fellows.all();
        self.silent.retain(|instance, _| all.iter().any(|fellow| fellow.instance == *instance));
        for fellow in all {
            let state = self.silent.entry(fellow.instance.clone()).or_default();
            let instance = &fellow.instance;
            let why = fellow.failure.as_ref().map_or(String::new(), |useless| useless.message.clone());
            // Not asked yet is not silent; and one failure is none.
            let is_silent = fellow.failures >= 2 || (state.is_told() && fellow.answer().is_none());
            let Some(is_silent) = state.turn(is_silent, now, PATIENCE) else { continue };
            // Those that the operator listed nobody can invent.
            if !fellow.is_listed && !self.naming.names_one() {
                continue;
            }
            match is_silent {
                true => say("unreachable", format!("Sentinel {instance} does not answer: {why}.")),
                false => say("reachable", format!("Sentinel {instance} answers again.")),
            }
        }
        let known = self.fellows.distinct().len();
        let answering = self.votes.len();
        match self.no_majority.turn(answering <= known / 2, now, PATIENCE) {
            Some(true) => say(
                "majority_lost",
                format!("Only {answering} of {known} Sentinels answer: nobody can tell of a new master."),
            ),
            Some(false) => say("majority_back", format!("{answering} of {known} Sentinels answer again.")),
            None => {}
        }
        match self.no_quorum.turn(self.can_authorise() == Some(false), now, PATIENCE) {
            Some(true) => say("quorum_lost", "The Sentinels could not authorise a failover now.".into()),
            Some(false) => say("quorum_back", "The Sentinels can authorise a failover again.".into()),
            None => {}
        }
        match self.disagreement.turn(self.disagrees(), now, PATIENCE) {
            Some(true) => {
                let names: BTreeSet<_> = self.votes.iter().map(|(_, instance)| &**instance).collect();
                let names = names.into_iter().collect::<Vec<_>>().join(", ");
                say("disagree", format!("The Sentinels name different masters: {names}."));
            }
            Some(false) => say("agree", "All Sentinels that answer name the same master again.".into()),
            None => {}
        }
        self.notices.extend(notices);
    }

    fn disagrees(&self) -> bool {
        self.votes.windows(2).any(|pair| pair[0].1 != pair[1].1)
    }

    /// What most of those say that answer to it.
    fn can_authorise(&self) -> Option<bool> {
        let answering = self.fellows.answering();
        let said: Vec<bool> = answering.iter().filter_map(|(_, answer)| answer.can_authorise).collect();
        let yes = said.iter().filter(|can| **can).count();
        (!said.is_empty()).then_some(2 * yes > said.len())
    }

    /// Whether something is under way that is worth a closer look; for so long after the last news.
    pub fn is_urgent(&mut self, now: Instant) -> bool {
        let answering = self.fellows.answering();
        let is_down = answering.iter().any(|(_, answer)| {
            let flags = answer.master.instance.flags;
            flags.s_down || flags.o_down || flags.failover_in_progress || answer.master.phase.is_some()
        });
        let is_urgent = is_down || self.episode.is_some() || self.disagrees() || self.candidate().is_some();
        let epoch = self.votes.iter().map(|(epoch, _)| *epoch).max().unwrap_or(0);
        let news = (epoch, self.episode.as_ref().map(|episode| episode.began));
        self.urgent = match self.urgent {
            _ if !is_urgent => None,
            // Less than before is no news.
            Some((since, known)) if known >= news => Some((since, known)),
            _ => Some((now, news)),
        };
        self.urgent.is_some_and(|(since, _)| now.saturating_duration_since(since) < self.failover_max)
    }

    /// Everything for those who follow.
    pub fn service(&self) -> Service {
        let sentinels: Vec<SentinelState> = self.fellows.states();
        let quorums: BTreeSet<u32> =
            self.fellows.answering().iter().filter_map(|(_, answer)| answer.master.quorum).collect();
        // Where they differ, the largest: only then does any of them act.
        let quorum = quorums.last().copied();
        let first_failure = || {
            let failure = self.fellows.all().iter().find_map(|fellow| fellow.failure.as_ref())?;
            Some((failure.kind, failure.message.clone()))
        };
        let before = || {
            let before = self.master_before.clone()?;
            self.members.get(&before.instance).map(|_| before)
        };
        Service {
            name: self.service.name.clone(),
            kind: self.service.source.kind(),
            members: self.members.all(),
            master: self.master.clone().or_else(before),
            failover: self.episode.as_ref().map(Episode::failover),
            history: self.history.clone(),
            view: View::Sentinel(SentinelView {
                epoch: self.held.as_ref().map(|(epoch, _)| *epoch),
                quorum,
                sentinels,
                can_authorise: self.can_authorise(),
            }),
            answered: self.answered,
            failure: if self.votes.is_empty() { first_failure() } else { None },
        }
    }
}

/// The newest epoch, with its master, that more than half of the voters hold.
fn held_by_majority(votes: &[(u64, Arc<str>)], voters: usize) -> Option<(u64, Arc<str>)> {
    let mut counts: BTreeMap<&(u64, Arc<str>), usize> = BTreeMap::new();
    for vote in votes {
        *counts.entry(vote).or_default() += 1;
    }
    counts.into_iter().rev().find(|(_, count)| *count > voters / 2).map(|(vote, _)| vote.clone())
}

#[cfg(test)]
mod tests;
