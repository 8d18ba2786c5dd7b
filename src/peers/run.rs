//! The loop that registers us and holds our share, from one lease to the next.
//!
//! Without a registry in etcd all is ours and nothing is asked. With one, a `Life` lasts as long as a lease does; when it
//! ends, what was ours is not any more, and another begins.
//!
//! What a newcomer would get wrong: etcd that does not answer ends nothing. What was ours stays ours as far as `on_etcd_loss`
//! and the fence say, and only an answer, that there is no such lease, takes it away.

use super::board::Board;
use super::claims;
use super::fence::Fence;
use super::life::{End, Life};
use super::shards::Shards;
use super::share::{Peer, Seen, Share, Standing};
use crate::config::peers::{EtcdRegistry, Registry};
use crate::config::{Config, build, hash};
use crate::net::etcd::Client;
use crate::net::tls;
use crate::telemetry::Metrics;
use crate::telemetry::events::{Events, Kind};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The shortest and the longest pause before the next life, where one could not begin.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// How long giving the lease up may take at the stop.
const FAREWELL: Duration = Duration::from_secs(2);

/// Everything that coordination stands on.
pub struct World {
    /// The configuration that runs.
    pub config: watch::Receiver<Arc<Config>>,
    /// TLS towards etcd.
    pub clients: Arc<tls::Clients>,
    /// Our own counters.
    pub metrics: Arc<Metrics>,
    /// The event log.
    pub events: Arc<Events>,
    /// Whether nothing is to be given away: what waits for an output would come after what the next owner sends.
    pub hold: watch::Receiver<bool>,
}

/// The loop that registers us and holds our share.
pub struct Coordination {
    pub(super) world: World,
    pub(super) standing: watch::Sender<Arc<Standing>>,
    pub(super) seen: watch::Receiver<Seen>,
    pub(super) fence: Fence,
    pub(super) board: Arc<Board>,
    started: u64,
}

/// What the configuration says of us.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) registry: Registry,
    pub(super) etcd: EtcdRegistry,
    /// What all keys of ours begin with, but for claims that the operator puts elsewhere.
    pub(super) root: String,
    /// What the keys of those who share begin with.
    pub(super) members: String,
    /// What the keys of claims begin with.
    pub(super) claims: String,
    pub(super) own: Peer,
    /// How often members are collected.
    pub(super) interval: Duration,
}

impl Settings {
    /// Where it is said since when nothing of a shard begins.
    pub(super) fn left(&self, shard: u8) -> String {
        claims::key(&format!("{}left/", self.root), shard)
    }

    /// Of which shard that is said under a key.
    pub(super) fn left_of(&self, key: &[u8]) -> Option<u8> {
        claims::shard("left/", key.strip_prefix(self.root.as_bytes())?)
    }

    /// The key in the registry.
    pub(super) fn registration(&self) -> String {
        format!("{}{}", self.etcd.prefix, self.own.id)
    }

    /// Whether a lease and what stands under it can go on when this is what is wanted.
    pub(super) fn is_same_life(&self, wanted: &Self) -> bool {
        let part = |settings: &Self| {
            let etcd = &settings.etcd;
            let names = (settings.members.clone(), settings.claims.clone(), settings.own.id.clone());
            (etcd.etcd.clone(), etcd.prefix.clone(), etcd.ttl, names)
        };
        part(self) == part(wanted) && self.registry.sharding.enabled == wanted.registry.sharding.enabled
    }
}

impl Coordination {
    /// One that has not begun, what whoever collects has in hand, and what is known. Without a registry all is ours at once.
    pub fn new(world: World) -> (Self, Share, Arc<Board>) {
        let is_alone = !shares(&world.config.borrow());
        let begin = if is_alone { Standing::alone() } else { Standing::nothing() };
        let (standing, follow) = watch::channel(Arc::new(begin));
        let (seen, is_seen) = watch::channel(Seen::default());
        let fence = if is_alone { Fence::open() } else { Fence::closed() };
        let board = Arc::<Board>::default();
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started = u64::try_from(started.as_millis()).unwrap_or(u64::MAX);
        let share = Share { standing: follow, fence: fence.clone(), seen };
        (Self { world, standing, seen: is_seen, fence, board: board.clone(), started }, share, board)
    }

    /// Runs until `stop`; then the lease is given up, so that others take over at once, and nothing is ours any more.
    pub async fn run(mut self, stop: CancellationToken) {
        // What was ours when the last lease ended.
        let mut before = Shards::NONE;
        let mut failures = 0;
        while !stop.is_cancelled() {
            let Some(settings) = self.settings() else {
                self.alone();
                tokio::select! {
                    changed = self.world.config.changed() => if changed.is_err() { break },
                    () = stop.cancelled() => {}
                }
                continue;
            };
            self.board.note(|status| status.is_used = true);
            match settings.registry.sharding.enabled {
                true => self.take_away(),
                false => self.keep_all(),
            }
            let claims = settings.claims.clone();
            let client = Client::new(&settings.etcd.etcd, self.world.clients.clone());
            let end;
            (end, before) = Life::live(&mut self, settings, client, before, &stop).await;
            match end {
                End::Lost => failures = 0,
                // What was ours is claimed again first, where it is the same that is shared.
                End::Changed => {
                    failures = 0;
                    if self.settings().is_none_or(|wanted| wanted.claims != claims) {
                        before = Shards::NONE;
                    }
                }
                End::Stopped => break,
                End::Unborn => {
                    failures = (failures + 1).min(10);
                    let most = PAUSES.0.saturating_mul(1 << failures).min(PAUSES.1);
                    let pause = most.mul_f64(0.5 + fastrand::f64() / 2.0);
                    tokio::select! {
                        () = sleep(pause) => {}
                        Ok(()) = self.world.config.changed() => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        }
    }

    /// What the configuration says now; `None`: there is no registry in etcd.
    pub(super) fn settings(&mut self) -> Option<Settings> {
        let config = self.world.config.borrow_and_update().clone();
        let registry = config.peers.registry.clone()?;
        let etcd = registry.etcd.clone()?;
        let sharding = &registry.sharding;
        let (root, members, claims) = (sharding.root(), sharding.members(), sharding.claims());
        let own = Peer {
            id: registry.advertise.authority(),
            url: registry.advertise.clone(),
            zone: registry.zone.clone(),
            weight: registry.weight,
            version: build::VERSION.into(),
            config_hash: hash::shown(config.hash()),
            started: self.started,
        };
        Some(Settings { registry, etcd, root, members, claims, own, interval: config.scrape.interval })
    }

    /// There is no registry: all is ours.
    fn alone(&self) {
        self.board.note(|status| status.is_used = false);
        self.publish(Standing::alone());
        self.fence.open_for_ever();
    }

    /// Nothing is ours until a lease says so. Who the others were, and who had what, stays for lists.
    pub(super) fn take_away(&self) {
        self.fence.close();
        let before = self.standing.borrow().clone();
        let Standing { peers, owners, .. } = &*before;
        self.publish(Standing { peers: peers.clone(), owners: owners.clone(), ..Standing::nothing() });
    }

    /// Nothing is shared: all is ours, whatever becomes of the registration. Who the others were stays for lists.
    fn keep_all(&self) {
        let before = self.standing.borrow().clone();
        let Standing { peers, owners, own, .. } = &*before;
        self.publish(Standing {
            peers: peers.clone(),
            owners: owners.clone(),
            own: *own,
            ..Standing::alone()
        });
        self.fence.open_for_ever();
    }

    /// Publishes what differs from what was published last; the number is that of the last one.
    pub(super) fn publish(&self, mut standing: Standing) -> u64 {
        let before = self.standing.borrow().clone();
        standing.number = before.number;
        if standing != *before {
            standing.number += 1;
            self.standing.send_replace(Arc::new(standing));
        }
        self.standing.borrow().number
    }

    /// Says something in the event log.
    pub(super) fn say(&self, from: Option<&str>, to: Option<&str>, message: String) {
        self.world.events.push("", Kind::Peers, from, to, message);
    }
}

/// Whether work is shared.
fn shares(config: &Config) -> bool {
    let registry = config.peers.registry.as_ref();
    registry.is_some_and(|registry| registry.etcd.is_some() && registry.sharding.enabled)
}

/// Gives a lease up, in a moment; it ends by itself where that fails.
pub(super) async fn farewell(client: &Client, lease: i64) {
    let until = Instant::now() + FAREWELL;
    let done = timeout_at(until, client.revoke(lease, until)).await;
    if let Ok(Err(error)) = done {
        warn!(
            error = crate::telemetry::log::chain(&error),
            "the lease could not be given up; it ends by itself"
        );
    }
}
