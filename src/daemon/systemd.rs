//! What systemd wants to hear, and the sockets that it opened for us.
//!
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>,
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html>. Without systemd nothing
//! happens here. The protocol is a few lines to a datagram socket, so there is no crate for it.

use crate::serve::listen::Listener;
use anyhow::{Context as _, Result, bail};
use listenfd::ListenFd;
use rustix::time::{ClockId, clock_gettime};
use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tracing::warn;

/// Who is told how we are.
#[derive(Default)]
pub struct Notify {
    place: Option<SocketAddr>,
}

impl Notify {
    /// As `NOTIFY_SOCKET` says: a path, or an abstract name behind an `@`.
    pub fn from_env() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").and_then(|name| name.into_string().ok()) else {
            return Self::default();
        };
        let place = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&name),
        };
        Self { place: place.ok() }
    }

    /// All listens.
    pub fn ready(&self) {
        self.send("READY=1\n");
    }

    /// Files are read again; [`Self::ready`] follows.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\n"));
    }

    /// A stop has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1\n");
    }

    /// Says that we live, twice as often as asked, until it is dropped.
    pub async fn watchdog(self) {
        match watchdog_period(&|name| env::var(name).ok(), std::process::id()) {
            Some(period) if self.place.is_some() => {
                let mut beat = tokio::time::interval(period / 2);
                loop {
                    beat.tick().await;
                    self.send("WATCHDOG=1\n");
                }
            }
            _ => std::future::pending().await,
        }
    }

    fn send(&self, text: &str) {
        let Some(place) = &self.place else { return };
        let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(text.as_bytes(), place));
        if let Err(fault) = sent {
            warn!(error = %fault, "cannot tell systemd how we are");
        }
    }
}

/// How often systemd wants to hear from us, if it does.
fn watchdog_period(env: &dyn Fn(&str) -> Option<String>, own: u32) -> Option<Duration> {
    let is_meant = env("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(own));
    let microseconds = env("WATCHDOG_USEC")?.parse().ok().filter(|period| *period > 0 && is_meant)?;
    Some(Duration::from_micros(microseconds))
}

/// Sockets that were open when we were started.
pub enum Inherited {
    /// A port.
    Tcp(std::net::TcpListener),
    /// A unix socket.
    Unix(std::os::unix::net::UnixListener),
}

/// Takes the sockets of `LISTEN_FDS`. To be called once, before any thread is started: it changes the
/// environment. Fails where there is none, for then nobody could ever reach us.
pub fn sockets() -> Result<Vec<Inherited>> {
    let is_meant = env::var("LISTEN_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()));
    if !is_meant {
        bail!("--web.systemd-socket: systemd passed no socket; expected LISTEN_PID to name this process");
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = ListenFd::from_env();
    let mut sockets = vec![];
    for index in 0..passed.len() {
        let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown");
        let tcp = passed.take_tcp_listener(index).map(|socket| socket.map(Inherited::Tcp));
        let any = tcp.or_else(|_| passed.take_unix_listener(index).map(|socket| socket.map(Inherited::Unix)));
        let socket = any.with_context(|| format!("--web.systemd-socket: the socket {index} ({name})"))?;
        sockets.extend(socket);
    }
    if sockets.is_empty() {
        bail!("--web.systemd-socket: systemd passed no socket");
    }
    Ok(sockets)
}

impl Inherited {
    /// Takes it into the runtime. The file of a unix socket belongs to systemd and stays.
    pub fn listener(self) -> io::Result<Listener> {
        match self {
            Self::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                Ok(Listener::Tcp(TcpListener::from_std(socket)?))
            }
            Self::Unix(socket) => {
                socket.set_nonblocking(true)?;
                Ok(Listener::Unix(UnixListener::from_std(socket)?, None))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_arrives() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).expect("bound");
        let notify = Notify { place: Some(SocketAddr::from_pathname(&path).expect("a path")) };
        let check = |say: fn(&Notify), expected: &str| {
            say(&notify);
            let mut heard = [0; 100];
            let size = systemd.recv(&mut heard).expect("a datagram");
            let heard = String::from_utf8_lossy(&heard[..size]).into_owned();
            assert!(heard.starts_with(expected), "{heard}");
        };
        check(Notify::ready, "READY=1\n");
        check(Notify::reloading, "RELOADING=1\nMONOTONIC_USEC=");
        check(Notify::stopping, "STOPPING=1\n");
    }

    #[test]
    fn the_watchdog_is_fed_only_where_it_watches_us() {
        let check = |usec: Option<&str>, pid: Option<&str>, expected: Option<u64>| {
            let env = |name: &str| (if name == "WATCHDOG_PID" { pid } else { usec }).map(Into::into);
            assert_eq!(watchdog_period(&env, 7), expected.map(Duration::from_secs), "{usec:?} {pid:?}");
        };
        check(Some("30000000"), None, Some(30));
        check(Some("30000000"), Some("7"), Some(30));
        check(Some("30000000"), Some("8"), None);
        check(Some("0"), None, None);
        check(Some("x"), None, None);
        check(None, None, None);
    }
}
