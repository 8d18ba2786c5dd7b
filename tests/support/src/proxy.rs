//! A TCP proxy that makes trouble between a client and a server, switchable while both run.
//!
//! It stands on 127.0.0.1 before a port, or anywhere else on the loopback ([`Proxy::between`]): on 127.0.0.2 with
//! the number of the server's own port it is what an address rewrite of the client leads to.
//!
//! ```
//! use testbed::{Action, Connection, Fault, Proxy, ScriptedServer};
//!
//! let server = ScriptedServer::start(|_| Action::Default);
//! let proxy = Proxy::start(server.port());
//! assert_eq!(Connection::tcp(proxy.port())?.command(&["PING"])?.text(), "PONG");
//! proxy.set(Fault::Refuse);
//! assert!(Connection::tcp(proxy.port()).is_err());
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc as answers};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::Port;

/// How long a closed connection is read to its end, so that the client sees a FIN and not a RST.
const FAREWELL: Duration = Duration::from_secs(1);

/// What happens on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: bytes pass in both directions.
    Pass,
    /// Nobody listens, as after the end of a process; open connections are closed.
    Refuse,
    /// Connections are accepted and closed at once (FIN); open ones are closed.
    Close,
    /// Connections are accepted and thrown away at once (RST); open ones too.
    Reset,
    /// No byte passes, on open connections neither, and nobody is told: a partition. The kernel still accepts. What
    /// is held back arrives once the fault is over.
    BlackHole,
    /// A black hole that ends by itself after this time.
    Stall(Duration),
    /// This many bytes of the server's pass on each connection, from now on; then it is closed.
    CloseAfter(u64),
    /// Bytes arrive this much later, in each direction.
    Delay(Duration),
}

/// What all connections look at.
#[derive(Clone, Copy, Debug)]
struct State {
    fault: Fault,
    since: Instant,
    /// Goes up when connections are to be dropped: those that began under a lower number end.
    cut: u64,
}

enum Order {
    Set(Fault),
    Drop,
}

/// An order, and where to say that it is in effect.
type Orders = mpsc::Sender<(Order, answers::Sender<()>)>;

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicUsize,
    open: AtomicUsize,
}

/// A running proxy. It ends, with all its connections, when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    counters: Arc<Counters>,
    orders: Option<Orders>,
    thread: Option<thread::JoinHandle<()>>,
    _port: Option<Port>,
}

impl Proxy {
    /// Stands on a free port of 127.0.0.1 before this port of 127.0.0.1.
    pub fn start(to: u16) -> Self {
        let port = Port::take();
        let on = SocketAddr::from(([127, 0, 0, 1], port.number()));
        Self::new(on, SocketAddr::from(([127, 0, 0, 1], to)), Some(port))
    }

    /// Stands at `on` before `to`.
    pub fn between(on: SocketAddr, to: SocketAddr) -> Self {
        Self::new(on, to, None)
    }

    fn new(on: SocketAddr, to: SocketAddr, port: Option<Port>) -> Self {
        assert!(on.ip().is_loopback(), "{on}: tests stay on the loopback");
        let listener = std::net::TcpListener::bind(on).unwrap_or_else(|error| panic!("{on}: {error}"));
        listener.set_nonblocking(true).expect("a socket of ours can be set");
        let address = listener.local_addr().expect("it listens");
        // Each order waits for its answer, so one place is enough; another thread's order waits for it.
        let (orders, inbox) = mpsc::channel(1);
        let counters = Arc::new(Counters::default());
        let shared = Arc::clone(&counters);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("the kernel gives us an epoll");
            runtime.block_on(serve(listener, address, to, inbox, &shared));
        });
        Self { address, counters, orders: Some(orders), thread: Some(thread), _port: port }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its address, such as `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// `redis://ADDRESS`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Changes what happens on the way, for open connections too. It is in effect when this returns.
    pub fn set(&self, fault: Fault) {
        self.order(Order::Set(fault));
    }

    /// Closes all connections that are open now; new ones are taken as before.
    pub fn drop_connections(&self) {
        self.order(Order::Drop);
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.counters.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.counters.open.load(Ordering::SeqCst)
    }

    fn order(&self, order: Order) {
        let (done, answer) = answers::channel();
        let orders = self.orders.as_ref().expect("orders are taken until the drop");
        orders
            .blocking_send((order, done))
            .ok()
            .and_then(|()| answer.recv().ok())
            .expect("the proxy's thread runs");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    on: SocketAddr,
    to: SocketAddr,
    mut inbox: mpsc::Receiver<(Order, answers::Sender<()>)>,
    counters: &Arc<Counters>,
) {
    let mut listener = Some(TcpListener::from_std(listener).expect("a listening socket"));
    let (state, _) = watch::channel(State { fault: Fault::Pass, since: Instant::now(), cut: 0 });
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            order = inbox.recv() => {
                let Some((order, done)) = order else { return };
                state.send_modify(|state| match order {
                    Order::Set(fault) => (state.fault, state.since) = (fault, Instant::now()),
                    Order::Drop => state.cut += 1,
                });
                let refuse = state.borrow().fault == Fault::Refuse;
                if refuse {
                    listener = None;
                } else if listener.is_none() {
                    let again = TcpListener::bind(on).await;
                    listener = Some(again.unwrap_or_else(|error| panic!("{on}: {error}")));
                }
                let _ = done.send(());
            }
            Some(client) = accept(listener.as_ref()) => {
                counters.accepted.fetch_add(1, Ordering::SeqCst);
                open.spawn(relay(client, to, state.subscribe(), Open::count(counters)));
            }
            Some(_) = open.join_next() => {}
        }
    }
}

/// The next client; none where it hung up at once. Waits for ever where nobody listens.
async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(client, _)| client),
        None => std::future::pending().await,
    }
}

/// Counts an open connection for as long as it lives.
struct Open(Arc<Counters>);

impl Open {
    fn count(counters: &Arc<Counters>) -> Self {
        counters.open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(counters))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Why a connection ends before its two ends want it to.
enum End {
    Close,
    Reset,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Close
    }
}

/// One connection, from its first byte to its last.
async fn relay(mut client: TcpStream, to: SocketAddr, state: watch::Receiver<State>, open: Open) {
    let end = converse(&mut client, to, state).await;
    drop(open);
    match end {
        Err(End::Reset) => {
            let _ = set_socket_linger(&client, Some(Duration::ZERO));
        }
        Err(End::Close) => {
            let _ = client.shutdown().await;
            let mut rest = [0; 4096];
            let _ = timeout(FAREWELL, async { while let Ok(1..) = client.read(&mut rest).await {} }).await;
        }
        Ok(()) => {}
    }
}

async fn converse(
    client: &mut TcpStream,
    to: SocketAddr,
    mut state: watch::Receiver<State>,
) -> Result<(), End> {
    let born = state.borrow().cut;
    pass(&mut state, born).await?;
    let mut server = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::try_join!(
        pump(from_client, to_server, state.clone(), born, false),
        pump(from_server, to_client, state, born, true),
    )?;
    Ok(())
}

/// Waits until bytes may pass, or says that the connection has to end.
async fn pass(state: &mut watch::Receiver<State>, born: u64) -> Result<State, End> {
    loop {
        let now = *state.borrow_and_update();
        if now.cut > born {
            return Err(End::Close);
        }
        let until = match now.fault {
            Fault::Pass | Fault::CloseAfter(_) | Fault::Delay(_) => return Ok(now),
            Fault::Refuse | Fault::Close => return Err(End::Close),
            Fault::Reset => return Err(End::Reset),
            Fault::BlackHole => None,
            Fault::Stall(time) if now.since.elapsed() >= time => return Ok(now),
            Fault::Stall(time) => Some(now.since + time),
        };
        tokio::select! {
            changed = state.changed() => changed.map_err(|_| End::Close)?,
            () = sleep_until(until.unwrap_or(now.since)), if until.is_some() => {}
        }
    }
}

/// One direction of a connection, until its source has said all.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
    born: u64,
    of_server: bool,
) -> Result<(), End> {
    let mut chunk = vec![0; 16 * 1024];
    let mut counted = None;
    let mut passed = 0;
    loop {
        let now = pass(&mut state, born).await?;
        let count = tokio::select! {
            biased;
            changed = state.changed() => {
                changed.map_err(|_| End::Close)?;
                continue;
            }
            count = from.read(&mut chunk) => count?,
        };
        if count == 0 {
            to.shutdown().await?;
            return Ok(());
        }
        if counted != Some(now.since) {
            (counted, passed) = (Some(now.since), 0);
        }
        match now.fault {
            Fault::Delay(time) => sleep(time).await,
            Fault::CloseAfter(limit) if of_server => {
                let left = usize::try_from(limit - passed).unwrap_or(usize::MAX);
                if count >= left {
                    to.write_all(&chunk[..left]).await?;
                    return Err(End::Close);
                }
            }
            _ => {}
        }
        to.write_all(&chunk[..count]).await?;
        passed += count as u64;
    }
}
