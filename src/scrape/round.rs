//! One round of a group, and all that are under way: its members collected side by side, compared, and handed on.
//!
//! What a newcomer would get wrong: a round that is under way is finished, whoever has the service by then, for that is
//! waited for. But what is ours no more is not begun, and what was collected while the fence was closed is not handed on.

use super::feed::{self, Feed, Tick};
use super::fleet::Key;
use super::job::Job;
use super::once::{Crowded, Membership, Scraper, Wanted};
use super::service::{Limits, MemberReading};
use super::slot::Slot;
use super::store::Store;
use crate::collect::Facts;
use crate::collect::facts::Id;
use crate::collect::run::Scope;
use crate::config::Config;
use crate::discover::merge::Identities;
use crate::discover::{Service, Topology};
use crate::peers::{Fence, SHARDS, Shards, shard_of};
use crate::resilience::breaker::Asker;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, sleep};

/// When a round counts as late: those that have answered are handed on, and the others when they have.
const LATE: Duration = Duration::from_secs(1);

/// One round of a group.
pub(super) struct Round {
    /// Which group.
    pub key: Key,
    /// Those of it that have their turn, which they have taken.
    pub slots: Vec<Arc<Slot>>,
    /// How many there were of this group.
    pub number: u64,
    /// A tick that finds no room until then is skipped.
    pub patience: Instant,
    /// The configuration that it goes by.
    pub config: Arc<Config>,
    /// The services, as they are when it ends.
    pub topology: watch::Receiver<Arc<Topology>>,
    /// Makes the collections.
    pub scraper: Scraper,
    /// Where outcomes go.
    pub store: Arc<Store>,
    /// Which server answers at which address.
    pub identities: Arc<Identities>,
    /// The way to whoever delivers.
    pub feed: Option<Feed>,
    /// Until when the group is ours.
    pub fence: Fence,
}

/// What is left of a round.
pub(super) struct Ended {
    /// Whose it was.
    pub key: Key,
    /// What the members of a long list said their history is.
    pub histories: Vec<(Arc<Slot>, Id)>,
}

/// Rounds under way, and whose they are.
pub(super) struct Rounds {
    tasks: JoinSet<Ended>,
    /// Of which shard each is, and whether it began before that was to leave.
    shards: HashMap<task::Id, (u8, bool)>,
    /// How many there are of each shard.
    running: Box<[usize]>,
    /// Shards that are to leave.
    leaving: Shards,
}

impl Rounds {
    /// None yet.
    pub fn none() -> Self {
        let (tasks, running) = (JoinSet::new(), vec![0; SHARDS].into());
        Self { tasks, shards: HashMap::new(), running, leaving: Shards::NONE }
    }

    /// One more.
    pub fn begin(&mut self, round: Round) {
        let shard = shard_of(&round.key.0);
        self.running[usize::from(shard)] += 1;
        let task = self.tasks.spawn(round.run());
        self.shards.insert(task.id(), (shard, false));
    }

    /// The next that ends; `None` where there are none.
    pub async fn ended(&mut self) -> Option<Result<Ended, JoinError>> {
        let ended = self.tasks.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        if let Some((shard, _)) = self.shards.remove(&id) {
            let running = &mut self.running[usize::from(shard)];
            *running = running.saturating_sub(1);
        }
        Some(ended.map(|(_, ended)| ended))
    }

    /// These shards are to leave from now on, or still.
    pub fn follow(&mut self, leaving: Shards) {
        let before = std::mem::replace(&mut self.leaving, leaving);
        if before != leaving {
            let leaves = |shard: u8| leaving.has(shard) && !before.has(shard);
            self.shards
                .values_mut()
                .filter(|(shard, _)| leaves(*shard))
                .for_each(|(_, is_old)| *is_old = true);
        }
    }

    /// Whether a shard that is to leave is held up by what began before.
    pub fn is_held_up(&self, shard: u8) -> bool {
        self.shards.values().any(|held_up| *held_up == (shard, true))
    }

    /// Of these shards those that have some.
    pub fn busy(&self, of: Shards) -> Shards {
        of.iter().filter(|shard| self.running[usize::from(*shard)] > 0).collect()
    }
}

impl Round {
    /// Collects, and hands on.
    pub async fn run(self) -> Ended {
        let mut members = JoinSet::new();
        let config = &self.config;
        // Where there is no room for all, those go first whose turn is longest ago. Else the last would never be read.
        let mut slots: Vec<_> = self.slots.iter().cloned().map(Turn).collect();
        slots.sort_by_cached_key(|turn| turn.0.taken());
        for turn in slots {
            let job = Job::of_member(config, &turn.0.service, &turn.0.member, Scope::WithoutKeys);
            let Some(job) = job else { continue };
            let fence = self.fence.clone();
            members.spawn(collect(self.scraper.clone(), turn, job, (self.patience, fence)));
        }
        let mut read = vec![];
        let mut handed_on = 0;
        // Who answered is not kept from whoever delivers by those that hang.
        let feed = self.feed.as_ref().filter(|_| feed::is_wanted(config));
        let is_late = sleep(LATE.min(config.scrape.interval / 2));
        tokio::pin!(is_late);
        loop {
            tokio::select! {
                ended = members.join_next() => match ended {
                    // A panic was counted where the collection ran.
                    Some(ended) => read.extend(ended.ok().and_then(|(turn, tick)| self.take_in(turn, tick))),
                    None => break,
                },
                () = &mut is_late, if feed.is_some() && !is_late.is_elapsed() => {}
            }
            if let Some(feed) = feed.filter(|_| is_late.is_elapsed() && handed_on < read.len()) {
                self.conclude(&read);
                self.hand_on(feed, &mut read, &mut handed_on);
            }
        }
        self.conclude(&read);
        if let Some(feed) = feed {
            self.hand_on(feed, &mut read, &mut handed_on);
        }
        let is_long_list = self.key.1.is_some();
        let history = |Read { slot, facts, .. }: Read| {
            let history = facts?.0.replid.filter(|_| is_long_list && slot.member.shard.is_none())?;
            Some((slot, history))
        };
        Ended { histories: read.into_iter().filter_map(history).collect(), key: self.key }
    }

    /// What a member's tick says of it; nothing where there was no room.
    fn take_in(&self, turn: Turn, tick: Tick) -> Option<Read> {
        let slot = turn.0.clone();
        let facts = match tick {
            Tick::Collected => slot.facts(),
            Tick::Known => None,
            Tick::Fenced => return None,
            Tick::Skipped => {
                if let Some(feed) = &self.feed {
                    feed.member(&self.config, &slot, tick);
                }
                return None;
            }
        };
        if let Some((facts, _)) = &facts
            && let Some(id) = &facts.run_id
        {
            self.identities.learn(&slot.member.address, &id.to_string());
        }
        let turn = (self.feed.is_some() && feed::is_wanted(&self.config)).then_some(turn);
        Some(Read { slot, tick, facts, turn })
    }

    /// Hands on those that were not yet. Who was held up for so long that it cannot know whose they are says nothing.
    fn hand_on(&self, feed: &Feed, read: &mut [Read], handed_on: &mut usize) {
        for read in &mut read[*handed_on..] {
            if self.fence.is_open() {
                feed.member(&self.config, &read.slot, read.tick);
            }
            read.turn = None;
        }
        *handed_on = read.len();
    }

    /// Puts what the members said in this round side by side.
    fn conclude(&self, read: &[Read]) {
        let now = std::time::Instant::now();
        let readings = read.iter().map(|Read { slot, facts, .. }| MemberReading {
            instance: &slot.member.instance,
            round: self.number,
            up: facts.is_some(),
            taken: facts.as_ref().map_or(now, |(_, taken)| *taken),
            facts: facts.as_ref().map(|(facts, _)| facts),
        });
        let readings: Vec<_> = readings.collect();
        let topology = self.topology.borrow().clone();
        if let Some(service) = topology.service(&self.key.0) {
            put_down(&self.store, &self.config, service, &readings);
        }
    }
}

/// Puts into the book of a service what is known of it and of its members.
pub(super) fn put_down(store: &Store, config: &Config, service: &Service, readings: &[MemberReading<'_>]) {
    let (Some(book), Some(configured)) = (store.book(&service.name), config.discover.service(&service.name))
    else {
        return;
    };
    let limits = Limits { lag_bytes: configured.lag_bytes, age: config.scrape.interval * 2 };
    book.truth().round(service, readings, &limits, std::time::Instant::now());
}

/// A member in a round.
struct Read {
    slot: Arc<Slot>,
    tick: Tick,
    /// What it said, and when; nothing where it did not answer.
    facts: Option<(Arc<Facts>, std::time::Instant)>,
    /// Kept until it is handed on: of two collections only the last would be.
    turn: Option<Turn>,
}

/// A member's turn. Dropped, the next one may begin.
struct Turn(Arc<Slot>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.end_turn();
    }
}

/// One member's part in a round.
async fn collect(
    scraper: Scraper,
    turn: Turn,
    job: Job,
    (patience, fence): (Instant, Fence),
) -> (Turn, Tick) {
    let membership = Membership { slot: turn.0.clone(), asker: Asker::Tick, guarded: true };
    let wanted = Wanted { job, end: patience, member: Some(membership) };
    // Some time may have gone by since the tick.
    if !fence.is_open() {
        return (turn, Tick::Fenced);
    }
    let tick = match scraper.collect(wanted).await {
        Ok(outcome) if outcome.from_breaker => Tick::Known,
        Ok(_) => Tick::Collected,
        Err(Crowded) => {
            turn.0.skip();
            Tick::Skipped
        }
    };
    (turn, tick)
}
