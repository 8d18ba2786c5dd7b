//! The sockets that requests come in by: ports, unix sockets, and those that systemd opened for us.

use super::State;
use super::connections::Connections;
use crate::config::serve::Listen;
use rustix::io::Errno;
use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// Connections that the kernel holds for us before they are accepted.
const BACKLOG: i32 = 1024;

/// How long accepting pauses after it failed: the usual reason is that there are no more files.
const PAUSE: Duration = Duration::from_millis(50);

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {place}")]
pub struct Error {
    /// Where, as the operator wrote it.
    pub place: String,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// A socket that listens.
pub enum Listener {
    /// A port.
    Tcp(TcpListener),
    /// A unix socket, with the file that is ours to remove.
    Unix(UnixListener, Option<SocketFile>),
}

/// Binds everything that the operator named; of host names, all addresses.
pub async fn bind(places: &[Listen]) -> Result<Vec<Listener>, Error> {
    let mut listeners = vec![];
    for place in places {
        let fault = |source| Error { place: place.to_string(), source };
        match place {
            Listen::Unix(path) => listeners.push(bind_unix(path).map_err(fault)?),
            Listen::Tcp { host, port } if host.is_empty() => listeners.push(bind_all(*port).map_err(fault)?),
            Listen::Tcp { host, port } => {
                let found = tokio::net::lookup_host((host.as_str(), *port)).await.map_err(fault)?;
                let mut addresses: Vec<_> = found.collect();
                addresses.sort_unstable();
                addresses.dedup();
                if addresses.is_empty() {
                    return Err(fault(io::Error::other("the name has no address")));
                }
                let bound = addresses.into_iter().map(bind_tcp);
                // `localhost` may name `::1` on a machine without IPv6: what does not exist is no failure.
                let (bound, missing): (Vec<_>, Vec<_>) =
                    bound.partition(|one| !one.as_ref().is_err_and(is_absent));
                let bound = if bound.is_empty() { missing } else { bound };
                listeners.extend(bound.into_iter().collect::<io::Result<Vec<_>>>().map_err(fault)?);
            }
        }
    }
    Ok(listeners)
}

/// Whether this machine has no such address, or no such family of addresses.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

/// All addresses of both families; of IPv4 alone where the kernel has no IPv6.
fn bind_all(port: u16) -> io::Result<Listener> {
    bind_tcp((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|error| match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
        _ => bind_tcp((Ipv4Addr::UNSPECIFIED, port).into()),
    })
}

fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(Listener::Tcp(TcpListener::from_std(socket.into())?))
}

fn bind_unix(path: &Path) -> io::Result<Listener> {
    let listener = StdUnixListener::bind(path).or_else(|error| match error.kind() {
        io::ErrorKind::AddrInUse if is_abandoned(path) => {
            fs::remove_file(path)?;
            StdUnixListener::bind(path)
        }
        _ => Err(error),
    })?;
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix(UnixListener::from_std(listener)?, SocketFile::of(path)))
}

/// Whether it is a socket that nobody answers on: left behind by a process that was killed.
fn is_abandoned(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let answer = StdUnixStream::connect(path);
    is_socket && answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The file of a unix socket that we made. Removed when this is dropped, unless another file has taken its
/// place.
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> Option<Self> {
        let inode = fs::symlink_metadata(path).ok()?.ino();
        Some(Self { path: path.to_owned(), inode })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where it listens.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "{address}"),
                Err(_) => f.write_str("a port"),
            },
            Self::Unix(listener, _) => {
                match listener.local_addr().ok().as_ref().and_then(|a| a.as_pathname()) {
                    Some(path) => write!(f, "unix:{}", path.display()),
                    None => f.write_str("a unix socket"),
                }
            }
        }
    }
}

/// A connection that came in.
enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Accepts connections until the stop, then lets those that are open finish.
pub async fn serve(listener: Listener, connections: Arc<Connections>, state: State, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = tasks.join_next() => note(&state, ended),
            accepted = accept(&listener) => match accepted {
                Ok(Accepted::Tcp(socket)) => connections.serve(&mut tasks, socket, state.clone(), stop.clone()),
                Ok(Accepted::Unix(socket)) => connections.serve(&mut tasks, socket, state.clone(), stop.clone()),
                // A client that left before it was accepted is no failure of ours.
                Err(fault) if fault.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(fault) => {
                    warn!(error = %fault, listener = %listener, "cannot accept connections");
                    connections.make_room();
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = tasks.join_next().await {
        note(&state, ended);
    }
}

async fn accept(listener: &Listener) -> io::Result<Accepted> {
    match listener {
        Listener::Tcp(listener) => {
            let (socket, _) = listener.accept().await?;
            // Answers are written whole: there is nothing to wait for.
            let _ = socket.set_nodelay(true);
            Ok(Accepted::Tcp(socket))
        }
        Listener::Unix(listener, _) => Ok(Accepted::Unix(listener.accept().await?.0)),
    }
}

fn note(state: &State, ended: Result<(), tokio::task::JoinError>) {
    if let Err(fault) = ended
        && fault.is_panic()
    {
        state.metrics.panics.increment();
        error!(error = %fault, "a request panicked: please report this");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_nobody_answers_on_is_taken_over_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        let place = [Listen::Unix(path.clone())];
        drop(StdUnixListener::bind(&path).expect("bound"));
        assert!(path.exists(), "left behind");
        let first = bind(&place).await.expect("taken over");
        let error = bind(&place).await.err().expect("in use");
        assert_eq!(error.place, format!("unix:{}", path.display()));
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists(), "removed");
        fs::write(&path, "precious").expect("written");
        assert!(bind(&place).await.is_err());
        assert_eq!(fs::read(&path).expect("still there"), b"precious");
    }

    #[tokio::test]
    async fn a_port_in_use_is_told_by_the_word_of_the_operator() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("an address").port();
        let error = bind(&[Listen::Tcp { host: "127.0.0.1".into(), port }]).await.err().expect("in use");
        assert_eq!(error.to_string(), format!("cannot listen on 127.0.0.1:{port}"));
    }

    #[tokio::test]
    async fn an_empty_host_is_all_addresses_and_a_name_is_looked_up() {
        let any = |host: &str| [Listen::Tcp { host: host.into(), port: 0 }];
        let all = bind(&any("")).await.expect("bound");
        let Listener::Tcp(listener) = &all[0] else { panic!("a port") };
        let port = listener.local_addr().expect("an address").port();
        assert!(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        assert!(!bind(&any("localhost")).await.expect("bound").is_empty());
        assert!(bind(&any("no-such-host.invalid")).await.is_err());
    }
}
