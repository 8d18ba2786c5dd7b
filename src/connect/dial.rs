//! From an address to a stream: DNS, TCP or a unix socket, TLS.

use super::Deadline;
use super::error::{CONNECT, Error};
use crate::config::Address;
use crate::config::address::Endpoint;
use crate::config::connect::Tls;
use crate::net::tls;
use socket2::{SockRef, TcpKeepalive};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

/// How long a connection may be idle before the system asks whether the other side still lives.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Anything that bytes go through.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// Opens a stream to `address`.
pub async fn dial(
    address: &Address,
    tls: &Tls,
    clients: &tls::Clients,
    deadline: Deadline,
) -> Result<Box<dyn Stream>, Error> {
    let name = address.to_string();
    match &address.endpoint {
        Endpoint::Unix(path) => {
            let stream = within(deadline, &name, CONNECT, UnixStream::connect(path)).await?;
            Ok(Box::new(stream.map_err(|source| Error::Connect { address: name, source })?))
        }
        Endpoint::Tcp { host, port } => {
            let stream = tcp(&name, host, *port, deadline).await?;
            if !address.tls {
                return Ok(Box::new(stream));
            }
            let refuse = |source| Error::Tls { address: name.clone(), source };
            let config = clients.get(tls).map_err(refuse)?;
            let server = tls::server_name(tls, host).map_err(refuse)?;
            let handshake = TlsConnector::from(config).connect(server, stream);
            let stream = within(deadline, &name, "the TLS handshake", handshake).await?;
            Ok(Box::new(stream.map_err(|error| refuse(error.into()))?))
        }
    }
}

/// Tries all addresses of the host, each with its share of the time that is left, so that a dead first
/// address does not use up the time of a living second one. None gets more than [`Deadline::connect_limit`].
async fn tcp(name: &str, host: &str, port: u16, deadline: Deadline) -> Result<TcpStream, Error> {
    let no_address = |source| Error::Dns { host: host.to_owned(), source };
    let found = within(deadline, name, "the name lookup", look_up(host, port)).await?;
    let addresses = found.map_err(no_address)?;
    let mut last = no_address(io::Error::new(io::ErrorKind::NotFound, "no address"));
    for (i, address) in addresses.iter().enumerate() {
        let share = deadline.left() / (addresses.len() - i) as u32;
        let attempt = Deadline::until(Instant::now() + share.min(deadline.connect_limit));
        match within(attempt, name, CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // A batch is one write; without this the tail of a large one waits for an ACK.
                let _ = stream.set_nodelay(true);
                // The connection is kept between collections: a firewall may forget it, a host may vanish.
                let probes = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
                let _ = SockRef::from(&stream).set_tcp_keepalive(&probes);
                return Ok(stream);
            }
            Ok(Err(source)) => last = Error::Connect { address: name.to_owned(), source },
            Err(timeout) => last = timeout,
        }
    }
    Err(last)
}

/// The addresses of a host. The system's resolver cannot be interrupted and may take half a minute, so only
/// so many are at work: the threads that they hold serve others, too.
pub async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    static LOOK_UPS: Semaphore = Semaphore::const_new(64);
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let turn = LOOK_UPS.acquire().await.map_err(io::Error::other)?;
    let host = host.to_owned();
    let found = tokio::task::spawn_blocking(move || {
        let _turn = turn; // kept until the resolver is done, though nobody may wait for it any more
        (host.as_str(), port).to_socket_addrs().map(Iterator::collect)
    });
    found.await.map_err(io::Error::other)?
}

/// Waits for `future` until the deadline.
pub(super) async fn within<T>(
    deadline: Deadline,
    address: &str,
    what: &'static str,
    future: impl Future<Output = T>,
) -> Result<T, Error> {
    let timeout = |_| Error::Timeout { address: address.to_owned(), what };
    timeout_at(deadline.next(), future).await.map_err(timeout)
}
