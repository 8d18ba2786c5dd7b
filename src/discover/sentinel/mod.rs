//! Members by Sentinel: who they are, and where the master is, through failovers.
//!
//! - `belief`: what to believe; `fellows`, `members`, `episode`, `naming`: its parts. Pure
//! - [`reply`], [`event`]: what Sentinels and members say, read. Pure
//! - `watch`: the conversations
//! - `listed`: names that stand for several Sentinels
//!
//! Every Sentinel is asked at `discover.interval`, and every 100 ms while something is under way; an event or a
//! greeting with news has all of them asked at once, but each 20 ms at most. Every answer is weighed when it comes.
//! ACL on Sentinels: `+sentinel|master +sentinel|get-master-addr-by-name +sentinel|replicas
//! +sentinel|sentinels +sentinel|ckquorum +sentinel|myid +info +psubscribe +ping &*`; on members: `+role +info
//! +subscribe +ping &__sentinel__:hello`.
//!
//! What a newcomer would get wrong: the channel of greetings of a master is dead exactly when it matters. So
//! each member is listened to, and the Sentinels are asked whatever anybody publishes.

mod belief;
mod episode;
pub mod event;
mod fellows;
mod listed;
mod members;
mod naming;
pub mod reply;
mod watch;

use super::board::World;
use super::service::{Member, Service};
use crate::config::{Address, discover};
use belief::{Belief, Moment};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use watch::{Heard, Watch};

/// How often Sentinels are asked while something is under way.
const URGENT: Duration = Duration::from_millis(100);

/// All Sentinels are asked out of turn at most so often, whatever is published.
const CALLS_APART: Duration = Duration::from_millis(20);

/// What waits to be weighed; whoever has more to tell waits.
const WAITING: usize = 256;

/// How long nothing need be published where only the time of the last answer changed.
const UNCHANGED: Duration = Duration::from_secs(1);

/// Follows a service through its Sentinels and puts up what it knows. Never returns; ends when it is dropped.
pub async fn run(world: World, service: Arc<discover::Service>) {
    let discover::Source::Sentinel { master, .. } = &service.source else {
        return std::future::pending().await;
    };
    let interval = world.config.borrow().discover.interval;
    let (pace, paced) = tokio::sync::watch::channel(interval);
    let (heard, hearing) = mpsc::channel(WAITING);
    let watch = Watch {
        world: world.clone(),
        service: service.clone(),
        master: master.as_str().into(),
        pace: paced,
        heard,
    };
    let now = Instant::now();
    let mut belief = Belief::new(service.clone(), now);
    if let Some(known) = world.board.get(&service.name) {
        belief.resume(&known, now);
    }
    let conversations = Conversations { watch, all: JoinSet::new(), running: BTreeMap::new() };
    let wake = BTreeMap::new();
    Provider { world, belief, conversations, pace, hearing, wake, calls: Calls::default(), published: None }
        .follow()
        .await;
}

/// When all Sentinels are asked out of turn: one that publishes without end is not to have all asked without end.
#[derive(Debug, Default)]
struct Calls {
    is_wanted: bool,
    last: Option<Instant>,
}

impl Calls {
    /// How long until they may be asked, if that is wanted.
    fn wait(&self, now: Instant) -> Duration {
        if !self.is_wanted {
            return Duration::MAX;
        }
        self.last
            .map_or(Duration::ZERO, |last| CALLS_APART.saturating_sub(now.saturating_duration_since(last)))
    }

    /// Whether they are to be asked now.
    fn are_due(&mut self, now: Instant) -> bool {
        let are_due = self.wait(now).is_zero();
        if are_due {
            *self = Self { is_wanted: false, last: Some(now) };
        }
        are_due
    }
}

/// The loop that weighs what the conversations bring.
struct Provider {
    world: World,
    belief: Belief,
    conversations: Conversations,
    pace: tokio::sync::watch::Sender<Duration>,
    hearing: mpsc::Receiver<Heard>,
    /// To have each Sentinel asked at once.
    wake: BTreeMap<Arc<str>, Arc<Notify>>,
    calls: Calls,
    published: Option<(Service, Instant)>,
}

impl Provider {
    async fn follow(mut self) {
        loop {
            self.decide();
            self.converse();
            self.publish();
            let now = Instant::now();
            if self.calls.are_due(now) {
                self.wake.values().for_each(|wake| wake.notify_one());
            }
            // States that last are told by the clock, whoever is silent.
            let next = (*self.pace.borrow()).min(UNCHANGED).min(self.calls.wait(now));
            if let Ok(Some(heard)) = timeout(next, self.hearing.recv()).await {
                self.take(heard);
            }
            // Each answer may be the one that makes a majority, but those that are here are weighed together.
            for _ in 0..WAITING {
                let Ok(heard) = self.hearing.try_recv() else { break };
                self.take(heard);
            }
        }
    }

    fn take(&mut self, heard: Heard) {
        let now = Moment::now();
        match heard {
            Heard::Answer(instance, said) => self.belief.answered(&instance, *said, now),
            Heard::Event(event) => {
                self.belief.heard(&event, now.at);
                self.ask_all();
            }
            Heard::Hello(hello) if self.belief.is_news(&hello) => self.ask_all(),
            Heard::Hello(_) => {}
            Heard::Listening => self.ask_all(),
            Heard::Role(instance, is_master) => self.belief.role(&instance, is_master, now.at),
            Heard::Listed(addresses) => self.belief.list(&addresses, now.at),
        }
    }

    /// Has all asked soon.
    fn ask_all(&mut self) {
        self.calls.is_wanted = true;
    }

    fn decide(&mut self) {
        let now = Moment::now();
        let config = self.world.config.borrow().clone();
        self.belief.failover_max = config.resilience.health.failover_max;
        let name = self.conversations.watch.service.name.clone();
        for notice in self.belief.decide(now) {
            let (from, to) = (notice.from.as_deref(), notice.to.as_deref());
            self.world.events.push(&name, notice.kind, from, to, notice.message);
        }
        let interval = config.discover.interval;
        let is_urgent = self.belief.is_urgent(now.at);
        let pace = if is_urgent { interval.min(URGENT) } else { interval };
        self.pace.send_if_modified(|now| std::mem::replace(now, pace) != pace);
    }

    /// Begins the conversations that are wanted, and ends all others.
    fn converse(&mut self) {
        let mut wanted = BTreeSet::new();
        let Watch { service, .. } = &self.conversations.watch;
        if service.dns {
            let key = (Purpose::Listed, service.name.clone());
            self.conversations.keep(&mut wanted, key, None, Watch::listed);
        }
        let sentinels: Vec<_> = self.belief.sentinels().map(|(i, a)| (i.clone(), a.clone())).collect();
        self.wake.retain(|instance, _| sentinels.iter().any(|(known, _)| known == instance));
        for (instance, address) in sentinels {
            let wake = self.wake.entry(instance.clone()).or_default().clone();
            let key = (Purpose::Ask, instance.clone());
            let (asked, place) = (instance.clone(), address.clone());
            let at = Some(&address);
            self.conversations.keep(&mut wanted, key, at, |watch| watch.ask(asked, place, wake));
            let (key, place) = ((Purpose::Events, instance), address.clone());
            self.conversations.keep(&mut wanted, key, at, |watch| watch.events(place));
        }
        for member in self.belief.members() {
            let key = (Purpose::Greetings, member.instance.clone());
            let place = member.address.clone();
            self.conversations.keep(&mut wanted, key, Some(&member.address), |watch| watch.greetings(place));
        }
        for member in self.belief.questions() {
            let Member { instance, address, .. } = Member::clone(&member);
            let key = (Purpose::Role, instance.clone());
            let at = Some(&member.address);
            self.conversations.keep(&mut wanted, key, at, |watch| watch.roles(instance, address));
        }
        self.conversations.end_others(&wanted);
    }

    fn publish(&mut self) {
        let service = self.belief.service();
        let is_due = self.published.as_ref().is_none_or(|(last, at)| {
            !is_same(last, &service) || (last.answered != service.answered && at.elapsed() >= UNCHANGED)
        });
        if is_due {
            self.published = Some((service.clone(), Instant::now()));
            self.world.board.put(service);
        }
    }
}

/// Whether nothing but the time of the last answer differs.
fn is_same(one: &Service, other: &Service) -> bool {
    one.members == other.members
        && one.master == other.master
        && one.failover == other.failover
        && one.history == other.history
        && one.view == other.view
        && one.failure == other.failure
}

/// What a conversation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    Ask,
    Events,
    Greetings,
    Role,
    Listed,
}

/// All conversations that are under way; they end with this.
struct Conversations {
    watch: Watch,
    all: JoinSet<()>,
    running: BTreeMap<(Purpose, Arc<str>), (Option<Address>, AbortHandle)>,
}

impl Conversations {
    /// Keeps a conversation, or begins it; anew where the same server is reached otherwise now: by TLS, or with the
    /// password of an address that is listed.
    fn keep<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        wanted: &mut BTreeSet<(Purpose, Arc<str>)>,
        key: (Purpose, Arc<str>),
        at: Option<&Address>,
        begin: impl FnOnce(Watch) -> F,
    ) {
        // They never end by themselves: one that did has panicked, and begins anew.
        let goes_on = |(before, running): &(Option<Address>, AbortHandle)| {
            before.as_ref() == at && !running.is_finished()
        };
        if !self.running.get(&key).is_some_and(goes_on) {
            let begun = self.all.spawn(begin(self.watch.clone()));
            if let Some((_, before)) = self.running.insert(key.clone(), (at.cloned(), begun)) {
                before.abort();
            }
        }
        wanted.insert(key);
    }

    fn end_others(&mut self, wanted: &BTreeSet<(Purpose, Arc<str>)>) {
        self.running.retain(|key, (_, running)| {
            let stays = wanted.contains(key);
            if !stays {
                running.abort();
            }
            stays
        });
        while let Some(ended) = self.all.try_join_next() {
            if ended.is_err_and(|error| error.is_panic()) {
                self.watch.world.metrics.panics.increment();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_asked_at_once_and_then_once_in_a_while_however_many_events_come() {
        let start = Instant::now();
        let mut calls = Calls::default();
        let mut check = |ms, is_event: bool, expected| {
            calls.is_wanted |= is_event;
            assert_eq!(calls.are_due(start + Duration::from_millis(ms)), expected, "after {ms} ms");
        };
        check(0, false, false);
        check(1, true, true);
        check(2, true, false);
        check(20, true, false);
        // The last event is not forgotten.
        check(21, false, true);
        check(200, false, false);
        check(201, true, true);
    }

    #[tokio::test]
    async fn a_conversation_begins_anew_where_its_server_is_reached_otherwise() {
        let (_config, config) = tokio::sync::watch::channel(Arc::default());
        let world = World::new(config);
        let service = Arc::new(discover::Service::new("s", discover::Source::Instances(vec![])));
        let (_pace, pace) = tokio::sync::watch::channel(UNCHANGED);
        let (heard, _hearing) = mpsc::channel(1);
        let watch = Watch { world, service, master: "m".into(), pace, heard };
        let mut all = Conversations { watch, all: JoinSet::new(), running: BTreeMap::new() };
        let mut check = |at: &str, expected: bool| {
            let mut begins = false;
            let (key, at) = ((Purpose::Ask, Arc::from("h:1")), Address::parse(at).expect(at));
            all.keep(&mut BTreeSet::new(), key, Some(&at), |_| {
                begins = true;
                std::future::pending()
            });
            assert_eq!(begins, expected, "{at}");
        };
        check("h:1", true);
        check("h:1", false);
        check("redis://u:p@h:1", true);
        check("rediss://u:p@h:1", true);
        check("rediss://u:p@h:1", false);
    }
}
