//! The loop of the room: a provider for each service of the configuration, and what they found, published.
//!
//! What a newcomer would get wrong: the time of the last good answer moves at each interval. It is published
//! without waking anybody, so who follows is woken by changes only.

use super::board::World;
use super::merge::Identities;
use super::service::{Member, Service, Topology};
use super::{file, fixed, sentinel};
use crate::config::Config;
use crate::config::credentials::Side;
use crate::config::discover::{self, Source};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep};
use tracing::{debug, error};

/// How long a provider that panicked rests, the first time; twice as long each time after that.
const FIRST_REST: Duration = Duration::from_secs(1);

/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Who ran this long is taken for well.
const WELL: Duration = Duration::from_secs(300);

/// Follows all services.
pub struct Discovery {
    world: World,
    identities: Arc<Identities>,
    publish: watch::Sender<Arc<Topology>>,
    /// By the name of the service.
    providers: HashMap<Arc<str>, Provider>,
    tasks: JoinSet<()>,
    /// The configuration that the providers follow.
    running: Arc<Config>,
}

/// The task that follows one service.
struct Provider {
    service: watch::Sender<Arc<discover::Service>>,
    task: AbortHandle,
    began: Instant,
    /// How often it panicked without being well in between.
    falls: u32,
}

impl Discovery {
    /// Follows the services of the configuration in `world`, and publishes what it finds.
    pub fn new(world: World, identities: Arc<Identities>, publish: watch::Sender<Arc<Topology>>) -> Self {
        let running = world.config.borrow().clone();
        Self { world, identities, publish, providers: HashMap::new(), tasks: JoinSet::new(), running }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut config = self.world.config.clone();
        loop {
            let wanted = config.borrow_and_update().clone();
            self.reconcile(wanted);
            self.publish();
            tokio::select! {
                // Whoever publishes the configuration ends last; then there is no more of it.
                Ok(()) = config.changed() => {}
                () = self.world.board.changed() => {}
                () = self.identities.changed() => {}
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
            }
        }
    }

    /// Starts, ends and changes providers, so that they follow what is wanted.
    fn reconcile(&mut self, wanted: Arc<Config>) {
        self.providers.retain(|name, provider| {
            let stays = wanted.discover.service(name).is_some();
            if !stays {
                debug!(service = &**name, "no longer followed");
                provider.task.abort();
            }
            stays
        });
        let before = std::mem::replace(&mut self.running, wanted.clone());
        for service in &wanted.discover.services {
            let Some(provider) = self.providers.get(&service.name) else {
                self.start(service, 0);
                continue;
            };
            let followed = provider.service.borrow().clone();
            match change(&followed, service, &before, &wanted, &self.world) {
                Change::None => {}
                Change::Told => _ = provider.service.send_replace(service.clone()),
                Change::Restart { forget } => {
                    provider.task.abort();
                    if forget {
                        let kind = service.source.kind();
                        self.world.board.put(Service::unknown(service.name.clone(), kind));
                    }
                    self.start(service, 0);
                }
            }
        }
    }

    fn start(&mut self, service: &Arc<discover::Service>, falls: u32) {
        debug!(service = &*service.name, kind = service.source.kind(), falls, "followed");
        let (tell, wanted) = watch::channel(service.clone());
        let world = self.world.clone();
        let rest = match falls {
            0 => Duration::ZERO,
            falls => FIRST_REST.saturating_mul(1 << (falls - 1).min(10)).min(LONGEST_REST),
        };
        let task = self.tasks.spawn(async move {
            sleep(rest).await;
            provide(world, wanted).await;
        });
        let provider = Provider { service: tell, task, began: Instant::now() + rest, falls };
        self.providers.insert(service.name.clone(), provider);
    }

    /// A task ended: one that was told to, or one that should not.
    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(fault) => fault.id(),
        };
        let Some(provider) = self.providers.values().find(|provider| provider.task.id() == id) else {
            return;
        };
        let service = provider.service.borrow().clone();
        match ended {
            Ok(_) => error!(service = &*service.name, "discovery ended: please report this"),
            Err(fault) => {
                self.world.metrics.panics.increment();
                error!(service = &*service.name, error = %fault, "discovery panicked: please report this");
            }
        }
        let was_well = provider.began.elapsed() >= WELL;
        let falls = if was_well { 1 } else { provider.falls + 1 };
        self.start(&service, falls);
    }

    fn publish(&self) {
        let now = self.world.board.topology(&self.running.discover.services);
        self.publish.send_if_modified(|before| {
            let is_news = before.services.len() != now.services.len()
                || before.services.iter().zip(&now.services).any(|(before, now)| is_news(before, now));
            *before = Arc::new(now);
            is_news
        });
    }
}

/// Follows one service; never returns.
async fn provide(world: World, wanted: watch::Receiver<Arc<discover::Service>>) {
    let service = wanted.borrow().clone();
    match &service.source {
        Source::Instances(_) => fixed::run(world, wanted).await,
        Source::FileSd(_) => file::run(world, wanted).await,
        Source::Sentinel { .. } => sentinel::run(world, service).await,
        Source::Cluster { .. } => std::future::pending().await,
    }
}

/// What a provider must do about a changed configuration.
#[derive(Debug, PartialEq)]
enum Change {
    /// Nothing.
    None,
    /// It is told, and keeps what it knows.
    Told,
    /// It begins again; what is known of the service goes where it is about something else.
    Restart { forget: bool },
}

fn change(
    followed: &discover::Service,
    wanted: &discover::Service,
    before: &Config,
    now: &Config,
    world: &World,
) -> Change {
    // What is collected, labels and thresholds are no matter of who the members are.
    let is_same =
        followed.source == wanted.source && followed.dns == wanted.dns && followed.rewrite == wanted.rewrite;
    match (&followed.source, &wanted.source) {
        (Source::Instances(_), Source::Instances(_)) | (Source::FileSd(_), Source::FileSd(_)) => {
            if is_same {
                Change::None
            } else {
                Change::Told
            }
        }
        _ if !is_same => Change::Restart { forget: followed.source != wanted.source },
        (Source::Sentinel { addresses, .. } | Source::Cluster { seeds: addresses, .. }, _) => {
            let found = world.board.get(&wanted.name);
            let members = found.iter().flat_map(|found| &found.members).map(|member| &member.address);
            let mut reached = addresses.iter().chain(members);
            let access = |config: &Config, address, side| config.connect.access(&wanted.name, address, side);
            let differs = reached.any(|address| {
                [Side::Data, Side::Sentinel]
                    .into_iter()
                    .any(|side| access(before, address, side) != access(now, address, side))
            });
            let differs = differs || before.connect.set_client_name != now.connect.set_client_name;
            if differs { Change::Restart { forget: false } } else { Change::None }
        }
        _ => Change::None,
    }
}

/// Whether anything differs but the time of the last answer.
fn is_news(before: &Arc<Service>, now: &Arc<Service>) -> bool {
    if Arc::ptr_eq(before, now) {
        return false;
    }
    // Every field is named, so that a new one is not forgotten.
    let Service { name, kind, members, master, failover, history, view, answered: _, failure } = &**before;
    let is_member = |(a, b): (&Arc<Member>, &Arc<Member>)| Arc::ptr_eq(a, b) || a == b;
    *name != now.name
        || *kind != now.kind
        || members.len() != now.members.len()
        || !members.iter().zip(&now.members).all(is_member)
        || *master != now.master
        || *failover != now.failover
        || *history != now.history
        || *view != now.view
        || *failure != now.failure
        || before.answered.is_some() != now.answered.is_some()
}
