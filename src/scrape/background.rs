//! What is handed on each interval beside the members: ourselves, the services and, where there are no services, the
//! target of `--redis.addr`.
//!
//! The first time is soon after the start; then it is at one moment of the interval, the same in every copy of this exporter, so
//! that the series of a service that moves go on as evenly as those of its members.
//!
//! What a newcomer would get wrong: that target is collected at the interval only where there is an output. A request
//! to its page sets off a collection of its own, as ever, or joins one that is under way.

use super::feed::{self, Feed, Told};
use super::fleet::Fleet;
use super::job::Job;
use super::moment::Moment;
use super::once::{Membership, Scraper, Wanted};
use super::slot::Slot;
use crate::config::Config;
use crate::config::credentials::Origin;
use crate::peers::{Duty, Shards, shard_of};
use crate::resilience::breaker::Asker;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::error;

/// Soon after the start, when the first members have answered.
const FIRST: Duration = Duration::from_secs(1);

/// What goes on beside the members.
pub(super) struct Background {
    /// When it is due.
    pub next: Instant,
    /// What was said of ourselves and of services.
    known: HashMap<Arc<str>, Told>,
    /// The target of `--redis.addr`, where it is collected here.
    target: Option<Arc<Slot>>,
    /// Its collection.
    under_way: JoinSet<()>,
}

impl Background {
    /// Nothing was done yet.
    pub fn new(interval: Duration) -> Self {
        let next = Instant::now() + interval.min(FIRST);
        Self { next, known: HashMap::new(), target: None, under_way: JoinSet::new() }
    }

    /// The configuration changed: an interval that became shorter counts at once.
    pub fn follow(&mut self, interval: Duration) {
        self.next = self.next.min(Instant::now() + interval);
    }

    /// Does what is due. `busy`: shards that are about to leave and cannot yet, so that their services are told of.
    pub fn tick(&mut self, fleet: &Fleet, busy: Shards) {
        let config = fleet.config.borrow().clone();
        // By the clock, and never the moment that has just come.
        self.next = moment().next(config.scrape.interval, Instant::now() + config.scrape.interval / 100);
        let Some(feed) = fleet.feed.as_ref().filter(|_| feed::is_wanted(&config)) else {
            self.known.clear();
            self.target = None;
            return;
        };
        let topology = fleet.topology.borrow().clone();
        let of_us = (&*fleet.metrics, fleet.scraper.load());
        let standing = fleet.share.standing.borrow().clone();
        let is_open = fleet.share.fence.is_open();
        let duty = |service: &str| match standing.duty(service) {
            _ if !is_open => Duty::Leaving,
            Duty::Leaving if busy.has(shard_of(service)) => Duty::Ours,
            duty => duty,
        };
        feed.ourselves(&config, of_us, (&topology, &fleet.store), duty, &mut self.known);
        let address = config.scrape.target.as_ref().filter(|_| config.discover.services.is_empty());
        let slot = address.map(|address| fleet.store.own(address));
        let is_same = match (&self.target, &slot) {
            (Some(old), Some(new)) => old.is_same(new),
            (old, new) => old.is_none() && new.is_none(),
        };
        if !is_same {
            self.under_way.abort_all();
            self.target.iter().for_each(|old| feed.gone(std::slice::from_ref(old)));
            slot.iter().for_each(|new| feed.back(new));
            self.target = slot.clone();
        }
        while let Some(ended) = self.under_way.try_join_next() {
            if let Err(fault) = ended
                && fault.is_panic()
            {
                fleet.metrics.panics.increment();
                error!(error = %fault, "a collection panicked: please report this");
            }
        }
        // One that takes longer than the interval is waited for.
        if let (Some(slot), Some(address), true) = (slot, address, self.under_way.is_empty()) {
            let keys = config.collect.keys.clone();
            let job = Job::of_address(&config, address, Origin::Flag, keys);
            self.under_way.spawn(collect(feed.clone(), fleet.scraper.clone(), config, job, slot));
        }
    }
}

/// When it is due.
fn moment() -> Moment {
    Moment::of(&[])
}

/// One collection of the target of `--redis.addr`.
async fn collect(feed: Feed, scraper: Scraper, config: Arc<Config>, job: Job, slot: Arc<Slot>) {
    let member = Membership { slot: slot.clone(), asker: Asker::Tick, guarded: false };
    let end = Instant::now() + config.scrape.interval;
    if let Ok(outcome) = scraper.collect(Wanted { job, end, member: Some(member) }).await {
        feed.own_target(&config, &slot, &outcome);
    }
}
