//! One collection of one target: over the connection that it keeps, or over a new one.
//!
//! To dial and to shake hands is tried again where that may help, within the time of the collection: see
//! [`Error::retry`] and [`Backoff`]. What a new connection was asked for is not asked again.

use super::job::Place;
use super::target::Lent;
use crate::collect::run::{self, Buffers, Request, Scope};
use crate::collect::{Connecting, Nodes, Snapshot};
use crate::config::address::Endpoint;
use crate::config::collect::{Collect, Keys};
use crate::config::scrape::HostPattern;
use crate::config::{Address, Connect};
use crate::connect::{self, Connection, Converse, Deadline, Error};
use crate::net::tls;
use crate::resilience::Backoff;
use crate::resilience::backoff::dial_limit;
use std::io;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::debug;

/// What a collection stands on.
pub struct Worker<'a> {
    /// Who is asked.
    pub place: &'a Place,
    /// How servers are reached.
    pub connect: &'a Connect,
    /// What is collected.
    pub collect: &'a Collect,
    /// Which servers a request may name.
    pub allow: &'a [HostPattern],
    /// TLS towards Redis.
    pub clients: &'a tls::Clients,
    /// How fast keys are looked at where nothing else is.
    pub keys_per_second: Option<u32>,
    /// How often a connection is tried.
    pub backoff: Backoff,
}

impl Worker<'_> {
    /// Collects once. Publishes everything through `snapshot` but the end.
    pub async fn run(
        &self,
        keys: &Keys,
        scope: Scope,
        lent: &mut Lent,
        buffers: &mut Buffers,
        deadline: Deadline,
        snapshot: &watch::Sender<Snapshot>,
    ) {
        let request = Request {
            config: self.collect,
            keys,
            scope,
            keys_per_second: self.keys_per_second.filter(|_| scope == Scope::KeysOnly),
            ping: self.connect.ping,
            deadline,
            clock: run::unix_now,
            nodes: self,
        };
        if let Err(error) = self.converse(&request, lent, buffers, snapshot).await {
            snapshot.send_modify(|s| s.error = Some((error.kind(), error.chain())));
        }
    }

    async fn converse(
        &self,
        request: &Request<'_>,
        lent: &mut Lent,
        buffers: &mut Buffers,
        snapshot: &watch::Sender<Snapshot>,
    ) -> Result<(), Error> {
        // A kept connection may have been closed since: the server restarted, or dropped idle clients.
        // That is no failure of the server, so a new one is tried once.
        if let Some(connection) = &mut lent.connection {
            snapshot.send_modify(|s| s.connect = Some(Duration::ZERO));
            match run::run(connection, request, &mut lent.memory, buffers, snapshot).await {
                Err(Error::Closed { .. }) => {}
                outcome => return outcome,
            }
        }
        let begin = Instant::now();
        let dialled = self.dial(&mut lent.connection, &self.place.address, request.deadline).await;
        snapshot.send_modify(|s| s.connect = Some(begin.elapsed()));
        let connection = dialled?;
        run::run(connection, request, &mut lent.memory, buffers, snapshot).await
    }

    /// A node that a target of a request names is a target that the request names.
    fn admit(&self, node: &Address) -> Result<(), Error> {
        if !self.place.lists_nodes || self.allow.iter().any(|pattern| pattern.matches(&node.endpoint)) {
            return Ok(());
        }
        let source =
            io::Error::new(io::ErrorKind::PermissionDenied, "--scrape.allow does not list this node");
        Err(Error::Connect { address: node.to_string(), source })
    }

    /// All attempts together take no longer than the connection time-out.
    async fn dial<'a>(
        &self,
        place: &'a mut Option<Connection>,
        address: &Address,
        deadline: Deadline,
    ) -> Result<&'a mut Connection, Error> {
        let deadline = deadline.at_most(self.connect.timeout);
        let mut attempt = 1;
        loop {
            let limited = deadline.connecting_within(dial_limit(deadline.left()));
            let Place { login, tls, .. } = self.place;
            let error = match connect::connect_at(place, address, login, tls, self.clients, limited).await {
                Ok(()) => return Ok(place.as_mut().expect("connected without an error")),
                Err(error) => error,
            };
            let pause = self.backoff.next(error.retry(), attempt, deadline.left(), fastrand::f64());
            let Some(pause) = pause else { return Err(error) };
            debug!(target = %address, error = error.chain(), attempt, "no connection yet");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }
}

impl Nodes for Worker<'_> {
    fn connect<'a>(&'a self, host: &'a str, port: u16, deadline: Deadline) -> Connecting<'a> {
        Box::pin(async move {
            let own = match &self.place.address.endpoint {
                Endpoint::Tcp { host, .. } => host,
                Endpoint::Unix(_) => "localhost",
            };
            let mut address = Address::tcp(if host.is_empty() { own } else { host }, port);
            address.tls = self.place.address.tls;
            self.admit(&address)?;
            let mut place = None;
            self.dial(&mut place, &address, deadline).await?;
            Ok(Box::new(place.expect("connected without an error")) as Box<dyn Converse>)
        })
    }
}
