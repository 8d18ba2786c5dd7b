//! The loop of the room: a provider for each service of the configuration, and what they found, published.
//!
//! Who collects tells which server answered where ([`Identities`]); a member that is another one under a second
//! address is not published, and its address is asked now and then whether that is still so.
//!
//! What a newcomer would get wrong: the time of the last good answer moves at each interval. It is published
//! without waking anybody, so who follows is woken by changes only.

use super::board::World;
use super::merge::{Aliases, Identities, Told};
use super::service::{Failover, History, Master, Member, Service, Topology};
use super::{cluster, file, fixed, sentinel};
use crate::config::Config;
use crate::config::credentials::Side;
use crate::config::discover::{self, Source};
use crate::connect::{Batch, Converse as _, Deadline, Error, Replies};
use crate::telemetry::events;
use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, error};

/// How long a provider that panicked rests, the first time; twice as long each time after that.
const FIRST_REST: Duration = Duration::from_secs(1);

/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Who ran this long is taken for well.
const WELL: Duration = Duration::from_secs(300);

/// How often the address of a member that another one stands for is asked who answers there.
const ALIAS_INTERVAL: Duration = Duration::from_secs(30);

/// The same while an id changed.
const DOUBT_INTERVAL: Duration = Duration::from_secs(1);

/// How long such an address may take.
const ALIAS_TIMEOUT: Duration = Duration::from_secs(2);

/// How many are asked at once; the others wait for the next round.
const ASKED_AT_ONCE: usize = 16;

/// So many providers begin again at once, and how long until the next so many: a password that changed is one of all, and each
/// of them has connections to make.
const RESTARTS: usize = 64;
const RESTARTS_APART: Duration = Duration::from_millis(20);

/// What is put together of thousands of services takes as long as this part of the time, and no longer, however often one of them
/// has news.
const SHARE: u32 = 5;

/// A publishing that took less is followed by the next as soon as it may.
const QUICK: Duration = Duration::from_micros(500);

/// Follows all services.
pub struct Discovery {
    world: World,
    identities: Arc<Identities>,
    publish: watch::Sender<Arc<Topology>>,
    /// By the name of the service.
    providers: HashMap<Arc<str>, Provider>,
    tasks: JoinSet<()>,
    /// What follows a service: [`provide`].
    provide: Provide,
    /// The configuration that the providers follow.
    running: Arc<Config>,
    /// What was found and what was published of it, by the name of the service.
    published: HashMap<Arc<str>, Published>,
    /// Members that others stand for and that are being asked: service and instance.
    asked: HashSet<(Arc<str>, Arc<str>)>,
    answers: JoinSet<Answer>,
    /// When they are all asked again.
    next_round: Instant,
    /// Providers that are to begin again, and whether what is known of the service goes.
    restarts: HashMap<Arc<str>, bool>,
    next_restarts: Instant,
}

/// A service as it was found and as it was published.
struct Published {
    /// What the provider put up.
    found: Arc<Service>,
    /// The same on top of what was known when the provider was started again.
    whole: Arc<Service>,
    /// What was known then.
    before: Option<Arc<Service>>,
    aliases: Aliases,
    /// The same without members that others stand for.
    service: Arc<Service>,
}

impl Published {
    fn nothing(name: &Arc<str>, kind: &'static str) -> Self {
        let nothing = Arc::new(Service::unknown(name.clone(), kind));
        Self {
            found: nothing.clone(),
            whole: nothing.clone(),
            before: None,
            aliases: Aliases::new(),
            service: nothing,
        }
    }
}

/// Who answers at the address of a member that another one stands for; `None`: nobody.
struct Answer {
    service: Arc<str>,
    member: Arc<Member>,
    id: Option<String>,
}

/// A future that follows a service, and never ends by itself.
type Provide = fn(World, watch::Receiver<Arc<discover::Service>>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

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
        Self {
            world,
            identities,
            publish,
            providers: HashMap::new(),
            tasks: JoinSet::new(),
            provide: |world, wanted| Box::pin(provide(world, wanted)),
            running,
            published: HashMap::new(),
            asked: HashSet::new(),
            answers: JoinSet::new(),
            next_round: Instant::now() + ALIAS_INTERVAL,
            restarts: HashMap::new(),
            next_restarts: Instant::now(),
        }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut config = self.world.config.clone();
        // Whether something is to be published, also of who is who, and not before when.
        let (mut has_news, mut identified, mut rested) = (true, false, Instant::now());
        loop {
            let wanted = config.borrow_and_update().clone();
            if !Arc::ptr_eq(&wanted, &self.running) || self.providers.is_empty() {
                self.reconcile(wanted);
                (has_news, rested) = (true, Instant::now());
            }
            let began = Instant::now();
            if has_news && rested <= began {
                self.publish(std::mem::take(&mut identified));
                let took = began.elapsed();
                has_news = false;
                rested = Instant::now() + if took < QUICK { Duration::ZERO } else { took * (SHARE - 1) };
            }
            let has_aliases = self.published.values().any(|published| !published.aliases.is_empty());
            tokio::select! {
                // Whoever publishes the configuration ends last; then there is no more of it.
                Ok(()) = config.changed() => {}
                () = self.world.board.changed(), if !has_news => has_news = true,
                () = sleep_until(rested), if has_news => {}
                () = sleep_until(self.next_restarts), if !self.restarts.is_empty() => self.restart_some(),
                () = self.identities.changed() => (has_news, identified) = (true, true),
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                Some(answer) = self.answers.join_next() => if self.answered(answer) {
                    (has_news, identified) = (true, true);
                },
                () = sleep_until(self.next_round), if has_aliases => self.ask_aliases(),
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
        let is_same_beside =
            before.connect == wanted.connect && before.discover.interval == wanted.discover.interval;
        for service in &wanted.discover.services {
            let Some(provider) = self.providers.get(&service.name) else {
                self.start(service, 0);
                continue;
            };
            let followed = provider.service.borrow().clone();
            if is_same_beside && Arc::ptr_eq(&followed, service) {
                continue;
            }
            match change(&followed, service, &before, &wanted, &self.world) {
                // It is the same to whoever follows it.
                Change::None => {
                    _ = provider.service.send_if_modified(|known| {
                        *known = service.clone();
                        false
                    })
                }
                Change::Told => _ = provider.service.send_replace(service.clone()),
                Change::Restart { forget } => {
                    *self.restarts.entry(service.name.clone()).or_default() |= forget;
                }
            }
        }
        if !self.restarts.is_empty() && self.next_restarts <= Instant::now() {
            self.restart_some();
        }
    }

    /// Has some of those begin again that are to.
    fn restart_some(&mut self) {
        let some: Vec<_> = self.restarts.keys().take(RESTARTS).cloned().collect();
        for name in some {
            let forget = self.restarts.remove(&name).unwrap_or_default();
            let running = self.running.clone();
            // It may be gone by now.
            let (Some(service), Some(provider)) =
                (running.discover.service(&name), self.providers.get(&name))
            else {
                continue;
            };
            provider.task.abort();
            if forget {
                self.published.remove(&name);
                self.world.board.put(Service::unknown(name.clone(), service.source.kind()));
            }
            self.remember(&name);
            self.start(service, 0);
        }
        self.next_restarts = Instant::now() + RESTARTS_APART;
    }

    fn start(&mut self, service: &Arc<discover::Service>, falls: u32) {
        debug!(service = &*service.name, kind = service.source.kind(), falls, "followed");
        let (tell, wanted) = watch::channel(service.clone());
        let world = self.world.clone();
        let rest = match falls {
            0 => Duration::ZERO,
            falls => FIRST_REST.saturating_mul(1 << (falls - 1).min(10)).min(LONGEST_REST),
        };
        let provide = self.provide;
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
        self.remember(&service.name);
        self.start(&service, falls);
    }

    /// Keeps what is known of a service whose provider begins with nothing.
    fn remember(&mut self, name: &str) {
        if let Some(published) = self.published.get_mut(name) {
            published.before = Some(published.whole.clone());
        }
    }

    /// Publishes what is known now. `identified`: who is who may have changed, too.
    fn publish(&mut self, identified: bool) {
        let found = self.world.board.topology(&self.running.discover.services);
        let before = self.published.len();
        self.published.retain(|name, _| found.service(name).is_some());
        let mut members_changed = self.published.len() != before;
        let services = found.services.map(|service| {
            let published = (self.published.entry(service.name.clone()))
                .or_insert_with(|| Published::nothing(&service.name, service.kind));
            if Arc::ptr_eq(&published.found, service) {
                return published.whole.clone();
            }
            let whole = match &published.before {
                Some(before) => Arc::new(resumed(before, service)),
                None => service.clone(),
            };
            members_changed |= !has_same_members(&published.whole, &whole);
            published.found = service.clone();
            whole
        });
        let found = Topology { services };
        if members_changed {
            self.identities.follow(found.members().map(|(_, member)| &member.address));
        }
        let alternating = self.identities.alternating();
        for (service, member) in found.members() {
            if alternating.contains(&member.address.endpoint) {
                let name = &*member.instance;
                let message = format!(
                    "{name} is answered by several servers in turn, as by a load balancer or a virtual address: \
                     it is a member of its own"
                );
                self.world.events.push(&service.name, events::Kind::Topology, None, Some(name), message);
            }
        }
        let services = found.services.map(|service| self.merged(service.clone(), identified));
        let now = Topology { services };
        self.publish.send_if_modified(|before| {
            let is_news = before.services.len() != now.services.len()
                || before.services.iter().zip(&now.services).any(|(before, now)| is_news(before, now));
            *before = Arc::new(now);
            is_news
        });
    }

    /// A service with each server once, and its members in order.
    fn merged(&mut self, found: Arc<Service>, identified: bool) -> Arc<Service> {
        let published = (self.published.entry(found.name.clone()))
            .or_insert_with(|| Published::nothing(&found.name, found.kind));
        if Arc::ptr_eq(&published.whole, &found) && !identified {
            return published.service.clone();
        }
        // The master is the one that everybody names.
        let (mut members, others): (Vec<_>, Vec<_>) =
            found.members.iter().cloned().partition(|member| is_master(&found, member));
        members.extend(others);
        let (mut members, told) = self.identities.merge(&members, &mut published.aliases);
        members.sort_unstable_by(|a, b| a.instance.cmp(&b.instance));
        let kind = events::Kind::Topology;
        for told in told {
            let (from, to, message) = match &told {
                Told::Merged(gone, stays) => {
                    (gone, stays, format!("{gone} and {stays} are one server, which is followed as {stays}"))
                }
                Told::Parted(back, other) => {
                    (other, back, format!("{back} and {other} are no longer known to be one server"))
                }
            };
            self.world.events.push(&found.name, kind, Some(from), Some(to), message);
        }
        if published.aliases.values().any(|alias| alias.in_doubt) {
            self.next_round = self.next_round.min(Instant::now() + DOUBT_INTERVAL);
        }
        let named = |instance: &Arc<str>| match published.aliases.get(instance) {
            Some(alias) => alias.of.clone(),
            None => instance.clone(),
        };
        let master = found.master.as_ref();
        let master = master.map(|master| Master { instance: named(&master.instance), ..master.clone() });
        let failover = found.failover.as_ref().map(|failover| Failover {
            members: failover.members.iter().map(named).collect(),
            ..failover.clone()
        });
        published.service = Arc::new(Service { members, master, failover, ..Service::clone(&found) });
        published.whole = found;
        published.service.clone()
    }

    /// Asks members that others stand for who they are: those of which somebody doubts it, and those that were
    /// not asked for long, the latter in turn.
    fn ask_aliases(&mut self) {
        let now = Instant::now();
        let mut due: Vec<_> = (self.published.iter_mut())
            .flat_map(|(service, published)| {
                published.aliases.values_mut().map(move |alias| (service, alias))
            })
            .filter(|(service, alias)| {
                let is_due = alias.asked.is_none_or(|asked| now.duration_since(asked) >= ALIAS_INTERVAL);
                (alias.in_doubt || is_due)
                    && !self.asked.contains(&((*service).clone(), alias.member.instance.clone()))
            })
            .collect();
        due.sort_by_key(|(_, alias)| (!alias.in_doubt, alias.asked));
        let is_more = due.len() > ASKED_AT_ONCE || due.iter().any(|(_, alias)| alias.in_doubt);
        let room = ASKED_AT_ONCE.saturating_sub(self.asked.len());
        for (service, alias) in due.into_iter().take(room) {
            alias.asked = Some(now);
            let (world, service, member) = (self.world.clone(), service.clone(), alias.member.clone());
            self.asked.insert((service.clone(), member.instance.clone()));
            self.answers.spawn(async move {
                let id = ask_identity(&world, &service, &member).await;
                let id = id.inspect_err(|error| {
                    let (service, instance) = (&*service, &*member.instance);
                    debug!(
                        service,
                        instance,
                        error = error.chain(),
                        "a second address of a server is silent"
                    );
                });
                Answer { service, member, id: id.ok().flatten() }
            });
        }
        self.next_round = now + if is_more { DOUBT_INTERVAL } else { ALIAS_INTERVAL };
    }

    /// Takes an answer. Returns whether members may have to be parted.
    fn answered(&mut self, answer: Result<Answer, JoinError>) -> bool {
        let Answer { service, member, id } = match answer {
            Ok(answer) => answer,
            Err(fault) => {
                // Which one it was is not known, so all may be asked again.
                self.asked.clear();
                self.world.metrics.panics.increment();
                error!(error = %fault, "asking for an identity panicked: please report this");
                return false;
            }
        };
        self.asked.remove(&(service.clone(), member.instance.clone()));
        let alias = self.published.get_mut(&service).and_then(|p| p.aliases.get_mut(&member.instance));
        let Some(alias) = alias else { return false };
        match id {
            Some(id) => {
                alias.silent = 0;
                self.identities.learn(&member.address, &id);
            }
            None => alias.silent = alias.silent.saturating_add(1),
        }
        alias.in_doubt
    }
}

/// What a provider found that was started again, put on top of what was known before: counters go on, and
/// members stay until it had a whole answer.
fn resumed(before: &Service, found: &Service) -> Service {
    let history = History {
        completed: before.history.completed + found.history.completed,
        aborted: before.history.aborted + found.history.aborted,
        last: found.history.last.clone().or_else(|| before.history.last.clone()),
    };
    if found.answered.is_some() {
        return Service { history, ..found.clone() };
    }
    let (view, failure) = (found.view.clone(), found.failure.clone());
    Service { history, failover: None, view, failure, ..before.clone() }
}

/// The `run_id` of the server that answers there.
async fn ask_identity(world: &World, service: &str, member: &Member) -> Result<Option<String>, Error> {
    let deadline = Deadline::until(Instant::now() + ALIAS_TIMEOUT);
    let mut server = world.connect(service, &member.address, Side::Data, deadline).await?;
    let (mut batch, mut replies) = (Batch::default(), Replies::default());
    batch.push(&["INFO", "server"]);
    server.ask(&batch, &mut replies, deadline).await?;
    let text = replies.get(0).and_then(|reply| reply.text()).unwrap_or_default();
    Ok(text.lines().find_map(|line| line.strip_prefix("run_id:")).map(|id| id.trim().to_owned()))
}

/// Whether the members of both are the same values.
fn has_same_members(before: &Service, now: &Service) -> bool {
    before.members.len() == now.members.len()
        && before.members.iter().zip(&now.members).all(|(before, now)| Arc::ptr_eq(before, now))
}

fn is_master(service: &Service, member: &Member) -> bool {
    service.master.as_ref().is_some_and(|master| master.instance == member.instance)
}

/// Follows one service; never returns.
async fn provide(world: World, wanted: watch::Receiver<Arc<discover::Service>>) {
    let service = wanted.borrow().clone();
    match &service.source {
        Source::Instances(_) => fixed::run(world, wanted).await,
        Source::FileSd(_) => file::run(world, wanted).await,
        Source::Sentinel { .. } => sentinel::run(world, service.clone()).await,
        Source::Cluster { .. } => cluster::run(world, service.clone()).await,
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
            // Who looks seldom is not to look first when it would have.
            if is_same && before.discover.interval == now.discover.interval {
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

#[cfg(test)]
mod tests;
