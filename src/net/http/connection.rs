//! From a place to a conversation in HTTP.
//!
//! What a newcomer would get wrong: somebody has to drive a connection while nobody asks anything, or its end is not
//! noticed. That is a task in a set of the connection's own, and ends with it.

use super::{Error, Place, Version};
use crate::config::connect::Tls;
use crate::net::tls;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor as _;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

/// What takes too long before there is a connection.
pub(in crate::net) const CONNECTING: &str = "to be connected to";
/// What takes too long once there is one.
pub(in crate::net) const WAITING: &str = "to answer";

/// How long a connection may be idle before the system asks whether the other side still lives.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Headers that an answer may have.
const HEADERS: usize = 100;
/// Bytes that they may take.
pub(in crate::net) const HEADER_SIZE: usize = 64 * 1024;

/// A conversation.
#[derive(Debug)]
pub(super) struct Connection {
    asks: Asks,
    /// What TLS was made with.
    config: Option<Arc<ClientConfig>>,
    tasks: Tasks,
}

/// What drives a connection: aborted with it, so that one to a host that is gone holds nothing.
#[derive(Clone, Debug, Default)]
pub(in crate::net) struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    /// Ends the connection and all that is under way on it.
    pub(in crate::net) fn abort(&self) {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).abort_all();
    }
}

impl<F: Future + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, future: F) {
        let mut tasks = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // HTTP/2 has a task for each request; those that are over are kept until somebody looks.
        while tasks.try_join_next().is_some() {}
        // How it ended is told to who asks.
        tasks.spawn(async { drop(future.await) });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

/// Bytes both ways, with or without TLS.
pub(in crate::net) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

#[derive(Debug)]
enum Asks {
    V1(http1::SendRequest<Full<Bytes>>),
    V2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Opens it, until then.
    pub(super) async fn open(
        place: &Place,
        tls: &Tls,
        config: Option<Arc<ClientConfig>>,
        version: Version,
        until: Instant,
    ) -> Result<Self, Error> {
        let opened = timeout_at(until, Self::connect(place, tls, config, version, until)).await;
        opened.unwrap_or_else(|_| Err(Error::Timeout { server: place.server.clone(), what: CONNECTING }))
    }

    async fn connect(
        place: &Place,
        tls: &Tls,
        config: Option<Arc<ClientConfig>>,
        version: Version,
        until: Instant,
    ) -> Result<Self, Error> {
        let stream = socket(place, tls, config.as_ref(), version, until).await?;
        Self::shake_hands(place, stream, config, version).await
    }

    async fn shake_hands(
        place: &Place,
        stream: Box<dyn Socket>,
        config: Option<Arc<ClientConfig>>,
        version: Version,
    ) -> Result<Self, Error> {
        let refuse = |source| Error::Http { server: place.server.clone(), source };
        let tasks = Tasks::default();
        let stream = TokioIo::new(stream);
        let asks = match version {
            Version::V1 => {
                let mut builder = http1::Builder::new();
                builder.max_headers(HEADERS).max_buf_size(HEADER_SIZE);
                let (asks, connection) = builder.handshake(stream).await.map_err(refuse)?;
                tasks.execute(connection);
                Asks::V1(asks)
            }
            Version::V2 => {
                let mut builder = http2::Builder::new(tasks.clone());
                builder.max_header_list_size(HEADER_SIZE as u32);
                let (asks, connection) = builder.handshake(stream).await.map_err(refuse)?;
                tasks.execute(connection);
                Asks::V2(asks)
            }
        };
        Ok(Self { asks, config, tasks })
    }

    /// Whether it is over.
    pub(super) fn is_closed(&self) -> bool {
        match &self.asks {
            Asks::V1(asks) => asks.is_closed(),
            Asks::V2(asks) => asks.is_closed(),
        }
    }

    /// Whether that is what its TLS was made with.
    pub(super) fn was_made_with(&self, config: &Arc<ClientConfig>) -> bool {
        self.config.as_ref().is_some_and(|own| Arc::ptr_eq(own, config))
    }

    /// Sends a request and waits for the head of the answer.
    pub(super) async fn ask(
        &mut self,
        request: hyper::Request<Full<Bytes>>,
    ) -> hyper::Result<hyper::Response<Incoming>> {
        match &mut self.asks {
            Asks::V1(asks) => {
                asks.ready().await?;
                asks.send_request(request).await
            }
            Asks::V2(asks) => {
                asks.ready().await?;
                asks.send_request(request).await
            }
        }
    }
}

/// A connection to a place, with TLS where there is a configuration for it.
pub(in crate::net) async fn socket(
    place: &Place,
    tls: &Tls,
    config: Option<&Arc<ClientConfig>>,
    version: Version,
    until: Instant,
) -> Result<Box<dyn Socket>, Error> {
    let stream = dial(place, until).await?;
    let Some(config) = config else { return Ok(Box::new(stream)) };
    let refuse = |source| Error::Tls { server: place.server.clone(), source };
    let name = tls::server_name(tls, &place.host).map_err(refuse)?;
    let mut spoken = ClientConfig::clone(config);
    spoken.alpn_protocols = vec![match version {
        Version::V1 => b"http/1.1".to_vec(),
        Version::V2 => b"h2".to_vec(),
    }];
    let stream = TlsConnector::from(Arc::new(spoken)).connect(name, stream).await;
    Ok(Box::new(stream.map_err(|error| refuse(error.into()))?))
}

/// Tries all addresses of the host, each with its share of the time that is left, so that a dead first one does not use
/// up the time of a living second one.
async fn dial(place: &Place, until: Instant) -> Result<TcpStream, Error> {
    let no_address = |source| Error::Dns { host: place.host.clone(), source };
    let found = tokio::net::lookup_host((&*place.host, place.port)).await.map_err(no_address)?;
    let found: Vec<SocketAddr> = found.collect();
    let mut last = no_address(io::Error::new(io::ErrorKind::NotFound, "no address"));
    for (i, address) in found.iter().enumerate() {
        let now = Instant::now();
        let share = until.saturating_duration_since(now) / (found.len() - i) as u32;
        match timeout_at(now + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // A body is one write; without this its tail waits for an ACK.
                let _ = stream.set_nodelay(true);
                let probes = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
                let _ = SockRef::from(&stream).set_tcp_keepalive(&probes);
                return Ok(stream);
            }
            Ok(Err(source)) => last = Error::Connect { server: place.server.clone(), source },
            Err(_) => last = Error::Timeout { server: place.server.clone(), what: CONNECTING },
        }
    }
    Err(last)
}
