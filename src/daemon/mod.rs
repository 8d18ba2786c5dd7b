//! Puts it together: starts in the order of the data, stops in the opposite order.
//!
//! - [`tasks`]: everything that runs for long
//! - [`reload`]: the owner of the configuration
//! - `first`: the configuration of a start
//! - [`systemd`]: sockets from it, and what it wants to hear
//!
//! - [`state`]: where state is kept
//!
//! *Stop*: readiness turns false, ticks end, our share goes back to the other peers, what was collected is sent or safe; then the
//! sockets close, requests under way finish, and the collections are dropped: all within [`GRACE`]. A second signal ends it at
//! once.

mod first;
pub mod reload;
pub mod state;
pub mod systemd;
pub mod tasks;

use crate::collect::collected::Outlet;
use crate::config::Config;
use crate::config::compat::Warning;
use crate::deliver;
use crate::deliver::outputs::{Delivery, Outputs};
use crate::discover::merge::Identities;
use crate::discover::{Discovery, Topology, World};
use crate::net::tls;
use crate::peers::{self, Coordination, Known};
use crate::scrape::{Feed, Fleet, KeyScans, Store, once};
use crate::serve::connections::Connections;
use crate::serve::file_sd::FileSd;
use crate::serve::peers::Peers;
use crate::serve::reload::{Report, Wanted};
use crate::serve::web::Web;
use crate::serve::{self, Room, State, listen};
use crate::source;
use crate::source::last_good::LastGood;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Cause;
use crate::telemetry::{Metrics, log};
use anyhow::{Context as _, Result, bail};
use reload::Reloader;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use systemd::{Inherited, Notify};
use tasks::Tasks;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long requests that are under way at the stop may take.
pub const GRACE: Duration = Duration::from_secs(10);

/// Reloads that may wait for the one under way; more wait where they came from.
const RELOADS: usize = 8;

/// Files that are not connections of clients: ours to servers among them.
const OTHER_FILES: u64 = 256;

/// Runs until SIGINT or SIGTERM. An error means that we could not start, or had to stop.
pub fn run(config: Config, warnings: Vec<Warning>) -> Result<()> {
    log::start(&config.telemetry);
    for warning in warnings {
        warn!("{warning}");
    }
    // Before there are threads: it changes the environment.
    let inherited = if config.serve.systemd_socket { systemd::sockets()? } else { vec![] };
    // One thread: see docs/decisions/0004-one-thread.md.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(main(config, inherited));
    // A name that is being looked up is not waited for.
    runtime.shutdown_background();
    ended
}

async fn main(config: Config, inherited: Vec<Inherited>) -> Result<()> {
    let mut signals = Signals::new()?;
    let notify = Notify::from_env();
    let mut daemon = Daemon::start(config, inherited).await?;
    notify.ready();
    daemon.tasks.start("watchdog", Notify::from_env().watchdog());
    let ended = loop {
        tokio::select! {
            failure = daemon.tasks.failed() => break Err(failure),
            signal = signals.next() => match signal {
                Asked::Stop => break Ok(()),
                Asked::Reload => {
                    notify.reloading();
                    daemon.reload().await;
                    notify.ready();
                }
            },
        }
    };
    notify.stopping();
    info!("stopping");
    let second_stop = async { while !matches!(signals.next().await, Asked::Stop) {} };
    tokio::select! {
        stopped = daemon.stop(GRACE) => ended.and(stopped),
        () = second_stop => bail!("stopped at once by a second signal"),
    }
}

/// Everything that runs.
pub struct Daemon {
    /// The long tasks.
    pub tasks: Tasks,
    /// Where we listen.
    pub places: Vec<String>,
    ready: watch::Sender<bool>,
    connections: Arc<Connections>,
    reloads: mpsc::Sender<Wanted>,
    /// Ends the ticks.
    scraping: CancellationToken,
    /// Has our share given back.
    sharing: CancellationToken,
    /// Others may have it.
    left: CancellationToken,
    /// What was collected is sent or safe.
    drained: CancellationToken,
}

impl Daemon {
    /// Starts everything, in the order of the data. No server is contacted, but for that of a remote document.
    pub async fn start(config: Config, inherited: Vec<Inherited>) -> Result<Self> {
        let metrics = Arc::<Metrics>::default();
        let clients = Arc::<tls::Clients>::default();
        let root = state::folder(&config.deliver, |name| std::env::var_os(name));
        let kept = config.remote.as_ref().map(|remote| LastGood::new(&root, remote));
        let (config, document) = first::configuration(config, &clients, kept.as_ref()).await?;
        let web = Arc::new(Web::open(&config.serve, metrics.clone())?);
        check_tls(&config, &clients)?;
        let listeners = match inherited.is_empty() {
            true => listen::bind(&config.serve.listen).await?,
            false => {
                let sockets = inherited.into_iter().map(Inherited::listener).collect::<Result<_, _>>();
                sockets.context("--web.systemd-socket")?
            }
        };
        let connections = Connections::new(most_connections(config.serve.max_connections), metrics.clone());
        let room = Room::new(config.serve.max_requests);
        let mut tasks = Tasks::new(metrics.clone());
        let events = Arc::<Events>::default();

        let (outlet, inlet) = Outlet::new();
        let world = deliver::outputs::World {
            root,
            storage: Arc::new(deliver::queue::disk::Disk),
            clients: clients.clone(),
            metrics: metrics.clone(),
            events: events.clone(),
        };
        let wanted = (&config.deliver, config.scrape.interval);
        let (delivery, outputs) = Delivery::open(world, wanted, (outlet.lost(), inlet))?;
        let (scraping, drained) = (CancellationToken::new(), CancellationToken::new());
        let is_drained = drained.clone().drop_guard();
        tasks.start("delivery", async move {
            delivery.run().await;
            drop(is_drained);
        });

        let (publish, config) = watch::channel(Arc::new(config));
        let (reloads, wanted) = mpsc::channel(RELOADS);
        let (report, is_reported) = watch::channel(Arc::new(Report::start(SystemTime::now())));
        let (files, followed) = watch::channel(vec![]);
        let (publish_seen, changed) = watch::channel(source::file::Seen::new());
        tasks.start("files", source::file::follow(followed, publish_seen));
        let remote = config.borrow().remote.clone();
        let remote_state = remote.map(|remote| {
            let known = source::State { latest: document, ..source::State::default() };
            let (publish, state) = watch::channel(known);
            tasks.start("remote document", source::follow(remote, clients.clone(), publish));
            state
        });
        let reloader = Reloader::new(reload::World {
            publish,
            report,
            outputs: outputs.clone(),
            web: web.clone(),
            metrics: metrics.clone(),
            events: events.clone(),
            wanted,
            remote: remote_state,
            kept,
            files,
            changed,
        });
        tasks.start("reload", reloader.run());

        let (publish, topology) = watch::channel(Arc::<Topology>::default());
        let (store, identities) = (Arc::<Store>::default(), Arc::<Identities>::default());
        let world = World {
            config: config.clone(),
            clients: clients.clone(),
            metrics: metrics.clone(),
            events: events.clone(),
            board: Arc::default(),
        };
        tasks.start("discovery", Discovery::new(world, identities.clone(), publish).run());

        let world = peers::World {
            config: config.clone(),
            clients: clients.clone(),
            metrics: metrics.clone(),
            events: events.clone(),
            // What waits for an output would come after what the next owner sends.
            hold: outputs.degraded(),
        };
        let (coordination, share, board) = Coordination::new(world);
        let (sharing, left) = (CancellationToken::new(), CancellationToken::new());
        let (stop, has_left) = (sharing.clone(), left.clone().drop_guard());
        let in_consul = peers::consul::run(config.clone(), clients.clone(), events.clone(), stop.clone());
        tasks.start("peers", async move {
            tokio::join!(coordination.run(stop), in_consul);
            drop(has_left);
            std::future::pending().await
        });
        let peers = Peers { share: share.clone(), board, last: Known::default() };
        let file_sd = FileSd {
            config: config.clone(),
            standing: share.standing.clone(),
            known: peers.last.clone(),
            metrics: metrics.clone(),
        };
        tasks.start("list of peers", file_sd.run());

        let (scraper, collections) =
            once::scraper(config.clone(), clients.clone(), metrics.clone(), events.clone());
        tasks.start("collections", collections.run());
        let fleet = Fleet {
            config: config.clone(),
            topology: topology.clone(),
            scraper: scraper.clone(),
            store: store.clone(),
            identities,
            events: events.clone(),
            metrics: metrics.clone(),
            feed: Some(feed(outlet, &config.borrow(), (outputs.clone(), peers.clone(), metrics.clone()))),
            share: share.clone(),
        };
        let stop = scraping.clone();
        tasks.start("fleet", async move { stop.run_until_cancelled(fleet.run()).await.unwrap_or_default() });
        let key_scans = KeyScans {
            config: config.clone(),
            scraper: scraper.clone(),
            store: store.clone(),
            metrics: metrics.clone(),
            share,
        };
        tasks.start("key scans", key_scans.run());

        let (ready, is_ready) = watch::channel(true);
        let state = State {
            config,
            topology,
            scraper,
            store,
            events,
            clients,
            metrics,
            ready: is_ready,
            web,
            reloads: reloads.clone(),
            report: is_reported,
            room,
            outputs,
            peers,
        };
        tasks.start("sweep", connections.clone().sweep());
        let mut places = vec![];
        for listener in listeners {
            places.push(listener.to_string());
            info!(address = %listener, "listening");
            let stop = tasks.token();
            tasks.start_inlet("listener", listen::serve(listener, connections.clone(), state.clone(), stop));
        }
        Ok(Self { tasks, places, ready, connections, reloads, scraping, sharing, left, drained })
    }

    /// Reads the files again. The outcome is in the log and in the metrics.
    pub async fn reload(&self) {
        let (answer, answered) = oneshot::channel();
        let wanted = Wanted::Reload { cause: Cause::Signal, answer };
        if self.reloads.send(wanted).await.is_ok() {
            let _ = answered.await;
        }
    }

    /// Stops everything. Requests under way may take as long as `grace`; what takes longer is the error.
    pub async fn stop(self, grace: Duration) -> Result<()> {
        let began = Instant::now();
        self.ready.send_replace(false);
        // What is under way is finished, and others go on where we end. Where there are no others this takes no time.
        self.sharing.cancel();
        if timeout_at(began + grace / 2, self.left.cancelled()).await.is_err() {
            warn!("our share could not be given back in time: it is free when the lease ends");
        }
        self.scraping.cancel();
        if timeout_at(began + grace, self.drained.cancelled()).await.is_err() {
            warn!("queues could not be closed in time");
        }
        self.connections.stop();
        self.tasks.stop(grace, began.elapsed()).await
    }
}

/// The way from ticks to outputs.
fn feed(outlet: Outlet, config: &Config, (outputs, peers, metrics): (Outputs, Peers, Arc<Metrics>)) -> Feed {
    let beside = move |config: &Config| {
        let outputs = serve::outputs::families(&outputs, config);
        vec![Arc::new(outputs), Arc::new(peers.families(&metrics, config))]
    };
    let (instance, began) = (state::instance(&config.serve.listen).into(), SystemTime::now());
    Feed { outlet, instance, began, beside: Arc::new(beside) }
}

/// Whether TLS towards Redis can be had as the flags want it: better told now than by each scrape.
fn check_tls(config: &Config, clients: &tls::Clients) -> Result<()> {
    let wanted = &config.connect.tls;
    if wanted.ca_file.is_some() || wanted.client.is_some() {
        clients.get(wanted).context("--tls-ca-cert-file, --tls-client-cert-file, --tls-client-key-file")?;
    }
    if let Some(name) = &wanted.server_name {
        tls::server_name(wanted, name).context("--tls-server-name")?;
    }
    Ok(())
}

/// How many connections there may be: as configured, or what the system lets us have. Takes as many files as
/// the system gives, for it is modest unless asked.
fn most_connections(configured: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let files = match (raised, maximum, current) {
        (Ok(()), None, _) | (Err(_), _, None) => return configured,
        (Ok(()), Some(files), _) | (Err(_), _, Some(files)) => files,
    };
    // Each may be a connection to a server of its own too.
    let room = usize::try_from(files.saturating_sub(OTHER_FILES) / 2).unwrap_or(usize::MAX).max(16);
    if room < configured {
        warn!(configured, room, files, "--web.max-connections is above what the limit of open files allows");
    }
    configured.min(room)
}

/// What a signal asks for.
enum Asked {
    Stop,
    Reload,
}

/// The signals that we answer to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let of = |kind| signal(kind).context("cannot wait for signals");
        Ok(Self {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
            hangup: of(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}
