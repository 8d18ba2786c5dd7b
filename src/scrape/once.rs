//! One collection on demand, shared by all who ask for the same at the same time.
//!
//! Whoever asks first starts the collection and sets its deadline; whoever comes while it runs gets the
//! same. Nobody waits longer than its own deadline: then it takes the families that are finished. A collection
//! for which nobody waits any more is given up, so that there are never more than there are requests.

use super::collections::{Collections, Shared, Start, Unheard};
use super::job::Job;
use super::shape::Outcome;
use super::slot::{Latest, Slot};
use super::target::{Target, Targets};
use crate::collect::Snapshot;
use crate::collect::run::Scope;
use crate::config::address::Endpoint;
use crate::config::{Address, Config};
use crate::connect::{Deadline, Kind};
use crate::net::tls;
use crate::resilience::breaker::{Asker, Decision};
use crate::resilience::permits::{Permits, Stats as Load};
use crate::telemetry::Metrics;
use crate::telemetry::events::Events;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

/// How long after a collection's deadline its requester still waits: the last words of a collection that
/// ran out of time say why.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Collections that wait to be started. Full means that the loop is far behind: callers then wait, within
/// their deadline.
const WAITING: usize = 256;

/// Collections of members that wait for room. Full means that a request gets a 503 and a tick is skipped.
const QUEUE: usize = 4096;

/// A request for a collection.
pub struct Wanted {
    /// Who is asked for what.
    pub job: Job,
    /// When the caller must have its answer. Silence of the server is bounded by the connection time-out.
    pub end: Instant,
    /// Whose collection this is, where it is a member of a service or our only target.
    pub member: Option<Membership>,
}

/// What a collection means to a member.
#[derive(Clone)]
pub struct Membership {
    /// The member's place.
    pub slot: Arc<Slot>,
    /// Who asks.
    pub asker: Asker,
    /// Whether the breaker and the pool have a say: with services. Else every request collects.
    pub guarded: bool,
}

/// There was no room for a collection before its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowded;

/// The handle through which collections are asked for.
#[derive(Clone)]
pub struct Scraper {
    shared: Arc<Shared>,
    start: mpsc::Sender<Start>,
}

/// A scraper for the configuration that runs, and its loop.
pub fn scraper(
    config: watch::Receiver<Arc<Config>>,
    clients: Arc<tls::Clients>,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
) -> (Scraper, Collections) {
    let (start, starts) = mpsc::channel(WAITING);
    let permits = {
        let config = config.borrow();
        Permits::new(config.scrape.concurrency, config.scrape.per_host, QUEUE)
    };
    let (targets, buffers) = (Targets::default(), Mutex::default());
    let shared = Shared { config, clients, metrics, targets, permits, events, buffers };
    let shared = Arc::new(shared);
    (Scraper { shared: shared.clone(), start }, Collections { shared, starts })
}

impl Scraper {
    /// Collects, or joins a collection of the same that is under way. Answers before `wanted.end`, or
    /// shortly after it with what is finished.
    pub async fn collect(&self, wanted: Wanted) -> Result<Outcome, Crowded> {
        let begin = Instant::now();
        let target = self.shared.targets.get(&wanted.job.place);
        let mut ended_early = false;
        let mut snapshot = loop {
            let snapshot = match self.attempt(&target, &wanted).await? {
                Attempt::Known(latest) => {
                    return Ok(Outcome { from_breaker: true, ..Outcome::clone(&latest.outcome) });
                }
                Attempt::Left => continue,
                Attempt::Made(snapshot) => snapshot,
            };
            // Whoever joins in the very moment in which the others leave finds the collection given up.
            if snapshot.is_complete() || ended_early || Instant::now() >= wanted.end {
                break snapshot;
            }
            ended_early = true;
        };
        if !snapshot.is_complete() && snapshot.error.is_none() {
            snapshot.error = Some(match Instant::now() < wanted.end {
                true => (Kind::Internal, "the collection ended before its time: see the log".into()),
                false => (Kind::Timeout, format!("{} did not answer in time", wanted.job.place.address)),
            });
        }
        snapshot.duration.get_or_insert_with(|| begin.elapsed());
        snapshot.role = target.role(Some(snapshot.role.as_str()).filter(|_| snapshot.up));
        Ok(Outcome { snapshot, totals: target.totals(), from_breaker: false })
    }

    /// Closes the connections to members that went.
    pub(super) fn forget(&self, gone: &[Arc<Slot>]) {
        if !gone.is_empty() {
            let gone = gone.iter().map(|slot| (&*slot.service, &slot.member.address.endpoint));
            self.shared.targets.forget(&gone.collect());
        }
    }

    /// How full it is.
    pub fn load(&self) -> Load {
        self.shared.permits.stats()
    }

    /// The snapshot of one collection, as far as it came by `end`; or what is known, where the breaker of the
    /// member says that asking is of no use.
    async fn attempt(&self, target: &Arc<Target>, wanted: &Wanted) -> Result<Attempt, Crowded> {
        let Wanted { job, end, member } = wanted;
        let mut seat = target.seat(&job.keys, job.scope);
        let (joins, patience, mut end) = (seat.to_start.is_none(), *end, *end);
        if let Some(snapshot) = seat.to_start.take() {
            let config = self.shared.config.borrow().clone();
            let mut start = Start {
                job: job.clone(),
                target: target.clone(),
                deadline: Deadline::new(end, config.connect.timeout),
                snapshot,
                slot: Unheard(None),
                permit: None,
            };
            if let Some(Membership { slot, guarded: false, .. }) = member {
                start.slot = Unheard(Some(slot.clone()));
            } else if let Some(Membership { slot, asker, .. }) = member {
                if let (Decision::Answer, Some(latest)) =
                    (slot.ask(*asker, config.scrape.interval), slot.view().latest)
                {
                    return Ok(Attempt::Known(latest));
                }
                // From here on it has to be told how it went, or that there was no way to know.
                let unheard = Unheard(Some(slot.clone()));
                let host = host_of(&job.place.address);
                self.shared.permits.resize(config.scrape.concurrency, config.scrape.per_host, QUEUE);
                let class = slot.class();
                let permit = self.shared.permits.acquire(&host, class);
                let permit = timeout_at(end, permit).await.map_err(|_| Crowded)?.map_err(|_| Crowded)?;
                // As long as any collection of a member, whoever asked first: a tick may be waiting for that of
                // a request, and a request that is in a hurry leaves before the end, for it must not be able to
                // make a member look as if it did not answer. Keys take what they take.
                let own = Instant::now() + config.scrape.timeout;
                let last = if job.scope == Scope::Everything { end.max(own) } else { own };
                // A tick has waited for its turn, and now has all of its time.
                end = if *asker == Asker::Tick { last } else { end.min(last) };
                start.deadline = Deadline::new(last, config.connect.timeout);
                start.permit = Some((permit, class));
                start.slot = unheard;
            }
            // An error means that the loop has ended: we are stopping, and the sender is gone.
            let _ = timeout_at(end, self.start.send(start)).await;
        }
        let _ = timeout_at(end + LAST_WORDS, seat.snapshot.wait_for(Snapshot::is_complete)).await;
        let snapshot = seat.snapshot.borrow().clone();
        if !snapshot.began && member.as_ref().is_some_and(|member| member.guarded) {
            // Whoever joined one that ran out of room says the same as who started it. One that was left before there
            // was any was in a hurry: a request must not be able to take a tick's turn away.
            let is_left = joins && !snapshot.is_complete() && Instant::now() < patience;
            return if is_left { Ok(Attempt::Left) } else { Err(Crowded) };
        }
        Ok(Attempt::Made(snapshot))
    }
}

/// What an attempt at a collection comes to.
enum Attempt {
    /// The breaker answered with what is known.
    Known(Arc<Latest>),
    /// Whoever was joined left before there was room.
    Left,
    /// A collection, as far as it came.
    Made(Snapshot),
}

/// What `--scrape.per_host` counts by: the host without the port; each socket is a host of its own.
pub(super) fn host_of(address: &Address) -> String {
    match &address.endpoint {
        Endpoint::Tcp { host, .. } => host.clone(),
        Endpoint::Unix(path) => path.to_string_lossy().into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::connect::Tls;
    use crate::connect::Login;
    use crate::discover::fixed::member;
    use crate::resilience::health::State;
    use crate::scrape::Place;
    use std::collections::BTreeMap;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::{JoinHandle, yield_now};

    /// A server that reads, and answers with these pieces, one each 50 ms, to its end. How many were sent.
    async fn server(pieces: &'static [&'static str]) -> (u16, watch::Receiver<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (tell, sent) = watch::channel(0);
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a client");
            let mut room = [0; 1024];
            let _ = socket.read(&mut room).await;
            for piece in pieces {
                socket.write_all(piece.as_bytes()).await.expect("sent");
                tell.send_modify(|sent| *sent += 1);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            std::future::pending::<()>().await
        });
        (port, sent)
    }

    type Asked = (Arc<Slot>, JoinHandle<Result<Outcome, Crowded>>);

    /// A tick's collection of the server at that port.
    fn ask(scraper: &Scraper, port: u16) -> Asked {
        let at = Arc::new(member(Address::tcp("127.0.0.1", port), BTreeMap::new()));
        let slot = Arc::new(Slot::new("s".into(), at, Arc::default()));
        let asked = ask_for(scraper, &slot, Asker::Tick, Duration::from_secs(10));
        (slot, asked)
    }

    fn ask_for(
        scraper: &Scraper,
        slot: &Arc<Slot>,
        asker: Asker,
        patience: Duration,
    ) -> JoinHandle<Result<Outcome, Crowded>> {
        let address = slot.member.address.clone();
        let (login, tls, service) = (Login::default(), Tls::default(), Some("s".into()));
        let place = Place { address, login, tls, lists_nodes: false, service };
        let job = Job { place, keys: Default::default(), scope: Scope::WithoutKeys };
        let member = Some(Membership { slot: slot.clone(), asker, guarded: true });
        let (scraper, end) = (scraper.clone(), Instant::now() + patience);
        tokio::spawn(async move { scraper.collect(Wanted { job, end, member }).await })
    }

    #[tokio::test]
    async fn a_request_in_a_hurry_takes_no_tick_with_it() {
        let mut config = Config::default();
        (config.scrape.concurrency, config.scrape.timeout) = (1, Duration::from_secs(1));
        let (_publish, config) = watch::channel(Arc::new(config));
        let (scraper, collections) = scraper(config, Arc::default(), Arc::default(), Arc::default());
        tokio::spawn(collections.run());
        let (_, hung) = ask(&scraper, server(&[]).await.0);
        while scraper.load().running < 1 {
            yield_now().await;
        }
        let at = Arc::new(member(Address::tcp("127.0.0.1", server(&[]).await.0), BTreeMap::new()));
        let slot = Arc::new(Slot::new("s".into(), at, Arc::default()));
        let hurried = ask_for(&scraper, &slot, Asker::Pull, Duration::from_millis(100));
        while scraper.load().waiting < 1 {
            yield_now().await;
        }
        let tick = ask_for(&scraper, &slot, Asker::Tick, Duration::from_secs(10));
        assert!(hurried.await.expect("no panic").is_err());
        assert!(hung.await.expect("no panic").is_ok());
        assert!(tick.await.expect("no panic").is_ok(), "it has its turn");
        assert_eq!(slot.view().consecutive, 1);
    }

    #[tokio::test]
    async fn who_must_make_room_while_it_answers_has_not_failed_and_who_was_silent_has() {
        let mut config = Config::default();
        // One permit for the slow ones.
        config.scrape.concurrency = 4;
        config.scrape.per_host = 100;
        let (_publish, config) = watch::channel(Arc::new(config));
        let (scraper, collections) = scraper(config, Arc::default(), Arc::default(), Arc::default());
        tokio::spawn(collections.run());
        let pieces =
            &["-ERR unknown command 'HELLO'\r\n", "$9999\r\n", "redis_", "version:7", ".0.0\r\n", "x", "y"];
        let (port, mut sent) = server(pieces).await;
        let (answering, answered) = ask(&scraper, port);
        sent.wait_for(|sent| *sent >= 2).await.expect("it sends");
        let (silent, hung) = ask(&scraper, server(&[]).await.0);
        sent.wait_for(|sent| *sent >= 4).await.expect("it sends");
        let (last, _hung) = ask(&scraper, server(&[]).await.0);
        while scraper.load().running < 3 {
            yield_now().await;
        }

        // The second is slow after half a second: the first has to go. So has the second for the third.
        assert!(answered.await.expect("no panic").is_err());
        let outcome = hung.await.expect("no panic").expect("an outcome");
        assert!(matches!(outcome.snapshot.error, Some((Kind::Timeout, _))), "{:?}", outcome.snapshot.error);
        let known = |slot: &Slot| {
            let view = slot.view();
            (view.health, view.consecutive, view.failures.len(), view.latest.is_some())
        };
        assert_eq!(known(&answering), (State::Unknown, 0, 0, false));
        assert_eq!(known(&silent), (State::Suspect, 1, 1, true));
        assert_eq!(known(&last), (State::Unknown, 0, 0, false), "it is waited for");
    }
}
