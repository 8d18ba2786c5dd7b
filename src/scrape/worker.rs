//! One target: the connection that it keeps, and what is remembered of it.

use crate::collect::run::{self, Buffers, Request};
use crate::collect::{Connecting, Memory, Nodes, Snapshot};
use crate::config::address::Endpoint;
use crate::config::collect::{Collect, Keys};
use crate::config::connect::Tls;
use crate::config::{Address, Connect};
use crate::connect::{self, Connection, Converse, Deadline, Error, Kind, Login};
use crate::net::tls;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// Who is asked for what: two requests with the same job share a collection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    /// The server.
    pub address: Address,
    /// Who we are to it.
    pub login: Login,
    /// TLS towards it.
    pub tls: Tls,
    /// Key patterns.
    pub keys: Keys,
}

/// What a target keeps from one collection to the next.
#[derive(Default)]
pub struct Kept {
    connection: Option<Connection>,
    memory: Memory,
    /// What went wrong in the collection before this one.
    failing: Option<Kind>,
}

impl Kept {
    /// Logs when something begins to go wrong, and when it is well again; in between only at debug level.
    fn note(&mut self, address: &Address, error: Option<&(Kind, String)>) {
        let before = std::mem::replace(&mut self.failing, error.map(|(kind, _)| *kind));
        match error {
            Some((kind, text)) if before == Some(*kind) => {
                debug!(target = %address, reason = kind.as_str(), error = text, "collection failed again");
            }
            Some((kind, text)) => {
                warn!(target = %address, reason = kind.as_str(), error = text, "collection failed");
            }
            None if before.is_some() => info!(target = %address, "collection is well again"),
            None => {}
        }
    }
}

/// Collects once, over the kept connection where it still lives. Publishes everything through `snapshot`
/// but the end, and returns how long it took.
pub async fn collect(
    job: &Job,
    kept: &mut Kept,
    buffers: &mut Buffers,
    (config, connect): (&Collect, &Connect),
    clients: &Arc<tls::Clients>,
    deadline: Deadline,
    snapshot: &watch::Sender<Snapshot>,
) -> Duration {
    let begin = Instant::now();
    let reach = Reach { job, connect, clients };
    if let Err(error) = reach.run(kept, buffers, config, deadline, snapshot).await {
        snapshot.send_modify(|s| s.error = Some((error.kind(), error.chain())));
    }
    kept.note(&job.address, snapshot.borrow().error.as_ref());
    if kept.connection.as_ref().is_some_and(|connection| !connection.is_usable()) {
        kept.connection = None;
    }
    begin.elapsed()
}

/// How a job's servers are reached.
struct Reach<'a> {
    job: &'a Job,
    connect: &'a Connect,
    clients: &'a Arc<tls::Clients>,
}

impl Reach<'_> {
    async fn run(
        &self,
        kept: &mut Kept,
        buffers: &mut Buffers,
        config: &Collect,
        deadline: Deadline,
        snapshot: &watch::Sender<Snapshot>,
    ) -> Result<(), Error> {
        let request = Request {
            config,
            keys: &self.job.keys,
            ping: self.connect.ping,
            deadline,
            clock: run::unix_now,
            nodes: self,
        };
        // A kept connection may have been closed since: the server restarted, or dropped idle clients.
        // That is no failure of the server, so a new one is tried once.
        if let Some(mut connection) = kept.connection.take() {
            snapshot.send_modify(|s| s.connect = Some(Duration::ZERO));
            match run::run(&mut connection, &request, &mut kept.memory, buffers, snapshot).await {
                Ok(()) => {
                    kept.connection = Some(connection);
                    return Ok(());
                }
                Err(Error::Closed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let begin = Instant::now();
        let dialled = self.dial(&self.job.address, deadline).await;
        snapshot.send_modify(|s| s.connect = Some(begin.elapsed()));
        let connection = kept.connection.insert(dialled?);
        run::run(connection, &request, &mut kept.memory, buffers, snapshot).await
    }

    async fn dial(&self, address: &Address, deadline: Deadline) -> Result<Connection, Error> {
        let deadline = deadline.at_most(self.connect.timeout);
        connect::connect(address, &self.job.login, &self.job.tls, self.clients, deadline).await
    }
}

impl Nodes for Reach<'_> {
    fn connect<'a>(&'a self, host: &'a str, port: u16, deadline: Deadline) -> Connecting<'a> {
        Box::pin(async move {
            let own = match &self.job.address.endpoint {
                Endpoint::Tcp { host, .. } => host,
                Endpoint::Unix(_) => "localhost",
            };
            let mut address = Address::tcp(if host.is_empty() { own } else { host }, port);
            address.tls = self.job.address.tls;
            let connection = self.dial(&address, deadline).await?;
            Ok(Box::new(connection) as Box<dyn Converse>)
        })
    }
}
