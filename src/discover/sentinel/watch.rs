//! The conversations: with each Sentinel one that asks and one that listens, with each member one that
//! listens, and one that asks a candidate for its role.
//!
//! Each is a loop of its own that never ends, so that one that hangs delays nobody. All that they learn goes
//! through one channel to the belief. An answer waits where the channel is full; nothing is lost.
//!
//! What a newcomer would get wrong: whoever was asked too late says nothing. After a time-out the connection
//! is gone, and the next question goes over a new one.

use super::event::{Event, HELLO, Hello};
use super::reply::{self, Answer, Useless};
use crate::config::credentials::Side;
use crate::config::{Address, discover};
use crate::connect::subscribe::Channels;
use crate::connect::{
    Batch, Connection, Converse, Deadline, Error, Kind, Message, Replies, Subscription, Version,
};
use crate::discover::board::World;
use crate::resilience::backoff::Backoff;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// How long anybody may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// How long a subscription may be silent before it has to show that it lives.
const SILENCE: Duration = Duration::from_secs(2);

/// Questions to one Sentinel are at least so far apart, however many events call for them.
const APART: Duration = Duration::from_millis(10);

/// A candidate is asked for its role so many times as often as the Sentinels: every 20 ms while something is
/// under way. One that is just being promoted throws its clients out, so the first answer may be none.
const ROLES: u32 = 5;

/// How long to leave alone who failed.
const BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(100), max: Duration::from_secs(5), attempts: u32::MAX };

/// The pause after a refusal that will stay, so that no server writes a log full of us.
const LASTING: Duration = Duration::from_secs(60);

/// What was learned.
#[derive(Debug)]
pub enum Heard {
    /// A Sentinel answered, or did not.
    Answer(Arc<str>, Box<Result<Answer, Useless>>),
    /// A Sentinel published an event.
    Event(Event),
    /// A greeting came by.
    Hello(Hello),
    /// We listen, and may have missed something before.
    Listening,
    /// A server said whether it is a master.
    Role(Arc<str>, bool),
    /// Those that are listed, by other addresses than before.
    Listed(Vec<Address>),
}

/// What all conversations of a service share.
#[derive(Clone)]
pub struct Watch {
    /// What providers stand on.
    pub world: World,
    /// The service.
    pub service: Arc<discover::Service>,
    /// The name of the master.
    pub master: Arc<str>,
    /// How often to ask.
    pub pace: watch::Receiver<Duration>,
    /// Where what was learned goes. Holds a few hundred; those that talk wait for room.
    pub heard: Sender<Heard>,
}

/// The pauses after failures in a row.
#[derive(Debug, Default)]
struct Pauses {
    failures: u32,
}

impl Pauses {
    fn next(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        // Never nothing: others need their turn.
        BACKOFF.delay(self.failures, 0.5 + fastrand::f64() / 2.0)
    }
}

fn soon() -> Deadline {
    Deadline::until(Instant::now() + ANSWER)
}

impl Watch {
    async fn connect(&self, address: &Address, side: Side, deadline: Deadline) -> Result<Connection, Error> {
        self.world.connect(&self.service.name, address, side, deadline).await
    }

    /// Asks a Sentinel again and again: at the pace, and whenever it is woken.
    pub async fn ask(mut self, instance: Arc<str>, address: Address, wake: Arc<Notify>) {
        let mut asker = Asker::default();
        let mut pauses = Pauses::default();
        loop {
            let began = Instant::now();
            let said = asker.ask(&self, &address).await;
            let pause = match &said {
                Ok(_) => {
                    pauses = Pauses::default();
                    None
                }
                Err(useless) => {
                    asker.connection = None;
                    Some(pauses.next().max(if useless.kind == Kind::Auth { LASTING } else { APART }))
                }
            };
            if self.heard.send(Heard::Answer(instance.clone(), Box::new(said))).await.is_err() {
                return;
            }
            if let Some(pause) = pause {
                sleep(pause).await;
                continue;
            }
            sleep_until(began + APART).await;
            loop {
                let next = began + *self.pace.borrow_and_update();
                tokio::select! {
                    () = wake.notified() => break,
                    () = sleep_until(next) => break,
                    changed = self.pace.changed() => if changed.is_err() { return },
                }
            }
        }
    }

    /// Listens to the events of a Sentinel.
    pub async fn events(self, address: Address) {
        let read = |message: &Message| {
            Event::parse(&message.channel, &message.payload, &self.master).map(Heard::Event)
        };
        self.listen(&address, Side::Sentinel, Channels::Matching(&["*"]), read).await;
    }

    /// Listens to the greetings that Sentinels leave at a member.
    pub async fn greetings(self, address: Address) {
        let mut last: HashMap<Arc<str>, Hello> = HashMap::new();
        let read = |message: &Message| {
            let hello = Hello::parse(&message.payload, &self.master)?;
            if last.get(&hello.id) == Some(&hello) {
                return None;
            }
            // Who invents Sentinels is not remembered.
            if last.len() < reply::MOST_SENTINELS || last.contains_key(&hello.id) {
                last.insert(hello.id.clone(), hello.clone());
            }
            Some(Heard::Hello(hello))
        };
        self.listen(&address, Side::Data, Channels::Named(&[HELLO]), read).await;
    }

    async fn listen(
        &self,
        address: &Address,
        side: Side,
        channels: Channels<'_>,
        mut read: impl FnMut(&Message) -> Option<Heard>,
    ) {
        let mut pauses = Pauses::default();
        loop {
            let error = match self.subscribe(address, side, channels).await {
                Ok(mut subscription) => {
                    pauses = Pauses::default();
                    if self.heard.send(Heard::Listening).await.is_err() {
                        return;
                    }
                    loop {
                        match subscription.next(SILENCE).await {
                            Ok(message) => {
                                if let Some(heard) = read(&message)
                                    && self.heard.send(heard).await.is_err()
                                {
                                    return;
                                }
                            }
                            Err(error) => break error,
                        }
                    }
                }
                Err(error) => error,
            };
            let kind = error.kind();
            let is_lasting = kind.is_lasting() || kind == Kind::Auth;
            sleep(pauses.next().max(if is_lasting { LASTING } else { Duration::ZERO })).await;
        }
    }

    async fn subscribe(
        &self,
        address: &Address,
        side: Side,
        channels: Channels<'_>,
    ) -> Result<Subscription, Error> {
        let deadline = soon();
        self.connect(address, side, deadline).await?.subscribe(channels, deadline).await
    }

    /// Asks a member for its role again and again.
    pub async fn roles(self, instance: Arc<str>, address: Address) {
        let mut connection = None;
        loop {
            let began = Instant::now();
            let is_master = match self.role(&mut connection, &address).await {
                Ok(is_master) => is_master,
                Err(_) => {
                    connection = None;
                    false
                }
            };
            if self.heard.send(Heard::Role(instance.clone(), is_master)).await.is_err() {
                return;
            }
            let pause = *self.pace.borrow() / ROLES;
            sleep_until(began + pause.max(APART)).await;
        }
    }

    async fn role(&self, kept: &mut Option<Connection>, address: &Address) -> Result<bool, Useless> {
        let deadline = soon();
        let (mut batch, mut replies) = (Batch::default(), Replies::default());
        batch.push(&["ROLE"]);
        batch.push(&["INFO", "replication"]);
        if kept.is_none() {
            *kept = Some(self.connect(address, Side::Data, deadline).await.map_err(useless)?);
        }
        let Some(connection) = kept else { return Err(Useless::shape("ROLE")) };
        connection.ask(&batch, &mut replies, deadline).await.map_err(useless)?;
        let (Some(role), Some(info)) = (replies.get(0), replies.get(1)) else {
            return Err(Useless::shape("ROLE"));
        };
        reply::says_master(role, info)
    }
}

fn useless(error: Error) -> Useless {
    Useless { kind: error.kind(), message: error.chain() }
}

/// A conversation with a Sentinel, and what was learned in it.
#[derive(Default)]
struct Asker {
    connection: Option<Connection>,
    /// What MYID said; the process at the other end stays the same as long as the connection does.
    id: Option<Arc<str>>,
    /// Before 5.0, replicas were asked for by another word.
    by_slaves: bool,
    replies: Replies,
}

impl Asker {
    async fn ask(&mut self, watch: &Watch, address: &Address) -> Result<Answer, Useless> {
        let deadline = soon();
        // A Sentinel that was restarted meanwhile has hung up: that is seen before anything is written.
        if let Some(connection) = &mut self.connection {
            match Self::round(connection, &mut self.replies, watch, false, self.by_slaves, deadline).await {
                Ok(()) => return self.read(),
                Err(error) if error.kind() != Kind::Closed => return Err(useless(error)),
                Err(_) => {}
            }
        }
        let mut connection = watch.connect(address, Side::Sentinel, deadline).await.map_err(useless)?;
        let version = connection.server().map(|server| server.version);
        self.by_slaves = version.is_none_or(|version| version < Version(5, 0, 0));
        self.id = None;
        let asked = Self::round(&mut connection, &mut self.replies, watch, true, self.by_slaves, deadline);
        asked.await.map_err(useless)?;
        self.connection = Some(connection);
        self.id = self.replies.get(ID).and_then(reply::own_id);
        self.read()
    }

    /// All questions in one round trip.
    async fn round(
        connection: &mut Connection,
        replies: &mut Replies,
        watch: &Watch,
        is_first: bool,
        by_slaves: bool,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let name = &*watch.master;
        let mut batch = Batch::default();
        // In the order in which `reply::answer` reads.
        batch.push(&["SENTINEL", "MASTER", name]);
        // In one read of the Sentinel with the former, so that both are of one moment.
        batch.push(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name]);
        batch.push(&["SENTINEL", if by_slaves { "SLAVES" } else { "REPLICAS" }, name]);
        batch.push(&["SENTINEL", "SENTINELS", name]);
        batch.push(&["SENTINEL", "CKQUORUM", name]);
        batch.push(&["INFO", "sentinel"]);
        if is_first {
            batch.push(&["SENTINEL", "MYID"]);
        }
        connection.ask(&batch, replies, deadline).await
    }

    fn read(&self) -> Result<Answer, Useless> {
        reply::answer(&self.replies, self.id.clone())
    }
}

/// Where MYID stands in the first round.
const ID: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_differ_and_are_never_nothing() {
        let first: Vec<_> = (0..50).map(|_| Pauses::default().next()).collect();
        assert!(first.iter().all(|pause| (BACKOFF.base / 2..=BACKOFF.base).contains(pause)), "{first:?}");
        assert!(first.iter().any(|pause| *pause != first[0]), "{first:?}");
        let mut pauses = Pauses { failures: 20 };
        assert!(pauses.next() >= BACKOFF.max / 2);
    }
}
