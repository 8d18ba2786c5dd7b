//! Thousands of servers in one thread: each has an address of its own, all give recorded answers.
//!
//! They stand all over 127.1.0.0/16, on one port, so that limits for each host do not throttle a client of theirs.
//! Each has a run id of its own and otherwise answers as a Redis 7.0.15 after some traffic did. Little memory and CPU
//! is spent, so that a benchmark measures the client: see `src/bin/farm.rs` for a farm as a process of its own.
//!
//! ```
//! use testbed::{Behaviour, Farm};
//!
//! let farm = Farm::start(100);
//! farm.set(0..50, Behaviour::Hang);
//! assert!(farm.file_sd().contains(&farm.addresses()[99].to_string()));
//! ```

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as answers};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::Port;
use crate::scripted::{INFO, bulk, verbatim, whole_commands};

/// INFO of servers that say little.
const SMALL: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n\
                     run_id:0000000000000000000000000000000000000000\r\nuptime_in_seconds:1000\r\n\
                     # Stats\r\ntotal_commands_processed:7\r\n# Replication\r\nrole:master\r\n";

/// How many servers share the third number of their addresses.
const ROW: usize = 250;
/// How many there can be in 127.1.0.0/16.
const MOST: usize = 256 * ROW;
/// Files for other things than the servers and a connection to each.
const FILES_BESIDE: usize = 200;

macro_rules! recorded {
    ($name:literal) => {
        include_bytes!(concat!("../../fixtures/replies/redis-7.0.15-standalone/", $name))
    };
}

/// Answers that do not change: the words of the command, the answer in RESP2 and in RESP3.
const ANSWERS: &[(&[&str], &[u8], &[u8])] = &[
    (&["PING"], b"+PONG\r\n", b"+PONG\r\n"),
    (&["AUTH"], b"+OK\r\n", b"+OK\r\n"),
    (&["SELECT"], b"+OK\r\n", b"+OK\r\n"),
    (&["READONLY"], b"+OK\r\n", b"+OK\r\n"),
    (&["CLIENT", "LIST"], recorded!("client_list.resp2"), recorded!("client_list.resp3")),
    (&["CLIENT"], b"+OK\r\n", b"+OK\r\n"),
    (&["CLUSTER", "INFO"], recorded!("cluster_info.resp2"), recorded!("cluster_info.resp3")),
    (&["LATENCY", "LATEST"], recorded!("latency_latest.resp2"), recorded!("latency_latest.resp3")),
    (&["LATENCY", "HISTOGRAM"], recorded!("latency_histogram.resp2"), recorded!("latency_histogram.resp3")),
    (&["SLOWLOG", "LEN"], b":2\r\n", b":2\r\n"),
    (&["SLOWLOG", "GET"], recorded!("slowlog_get.resp2"), recorded!("slowlog_get.resp3")),
    (&["MODULE", "LIST"], b"*0\r\n", b"*0\r\n"),
    (&["COMMAND", "INFO"], b"*1\r\n*-1\r\n", b"*1\r\n_\r\n"),
    (&["ROLE"], b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n", b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"),
];

/// All settings, as a client printed them: `  1) "name"`, `  2) "value"`.
const SETTINGS: &[u8] = recorded!("config_get_all.txt");

/// What a server of the farm does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers at once.
    Answer,
    /// Takes connections and commands and never answers.
    Hang,
    /// Does not listen.
    Refuse,
}

/// That a server was asked for INFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which server.
    pub server: usize,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// The password of who asked; empty where there was none.
    pub by: String,
}

type Ledger = Arc<Mutex<Vec<Asked>>>;

type Orders = mpsc::Sender<(Range<usize>, Behaviour, answers::Sender<()>)>;

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicUsize,
    open: AtomicUsize,
    commands: AtomicU64,
}

/// Running servers. They end when this is dropped.
#[derive(Debug)]
pub struct Farm {
    addresses: Vec<SocketAddr>,
    counters: Arc<Counters>,
    ledger: Option<Ledger>,
    orders: Option<Orders>,
    thread: Option<thread::JoinHandle<()>>,
    _port: Port,
}

impl Farm {
    /// Starts so many servers, all of which answer.
    pub fn start(count: usize) -> Self {
        Self::new(count, INFO, None)
    }

    /// Starts so many servers that say little, and remember who asked when. Each takes any password.
    pub fn start_noting(count: usize) -> Self {
        Self::new(count, SMALL.as_bytes(), Some(Ledger::default()))
    }

    fn new(count: usize, info: &'static [u8], ledger: Option<Ledger>) -> Self {
        assert!(count <= MOST, "{count} servers: there are addresses for {MOST}");
        allow_files(2 * count + FILES_BESIDE);
        let port = Port::take();
        let addresses: Vec<SocketAddr> = (0..count).map(|at| address(at, port.number())).collect();
        let listeners: Vec<_> = addresses.iter().map(|address| listen(*address)).collect();
        let counters = Arc::new(Counters::default());
        let (shared, notes) = (Arc::clone(&counters), ledger.clone());
        // Each order waits for its answer, so one place is enough; another thread's order waits for it.
        let (orders, inbox) = mpsc::channel(1);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            let runtime = runtime.expect("the kernel gives us an epoll");
            runtime.block_on(run(listeners, info, inbox, shared, notes));
        });
        Self { addresses, counters, ledger, orders: Some(orders), thread: Some(thread), _port: port }
    }

    /// Their addresses.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// All addresses in Prometheus' `file_sd` format, as JSON.
    pub fn file_sd(&self) -> String {
        let targets: Vec<String> = self.addresses.iter().map(|address| format!("\"{address}\"")).collect();
        format!("[{{\"targets\":[{}]}}]", targets.join(","))
    }

    /// Changes what some of the servers do, on open connections too. It is in effect when this returns.
    pub fn set(&self, servers: Range<usize>, behaviour: Behaviour) {
        assert!(servers.end <= self.addresses.len(), "{servers:?}: there are {}", self.addresses.len());
        let (done, answer) = answers::channel();
        let orders = self.orders.as_ref().expect("orders are taken until the drop");
        let sent = orders.blocking_send((servers, behaviour, done)).ok();
        sent.and_then(|()| answer.recv().ok()).expect("the farm's thread runs");
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.counters.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.counters.open.load(Ordering::SeqCst)
    }

    /// Who asked for INFO, and when, in the order of time; empty unless this farm notes it.
    pub fn asked(&self) -> Vec<Asked> {
        let ledger = self.ledger.as_ref().map(|ledger| ledger.lock().unwrap_or_else(PoisonError::into_inner));
        ledger.map(|ledger| ledger.clone()).unwrap_or_default()
    }

    /// How many commands were answered so far.
    pub fn commands(&self) -> u64 {
        self.counters.commands.load(Ordering::SeqCst)
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn address(at: usize, port: u16) -> SocketAddr {
    let part = |number: usize| u8::try_from(number).expect("there are not more than MOST");
    SocketAddr::from(([127, 1, part(at / ROW), part(at % ROW + 1)], port))
}

fn listen(address: SocketAddr) -> std::net::TcpListener {
    let listener = std::net::TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    listener.set_nonblocking(true).expect("a socket of ours can be set");
    listener
}

/// Raises our limit of open files, as far as the system lets us.
fn allow_files(wanted: usize) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = wanted as u64;
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
        assert!(raised.is_ok(), "{wanted} open files are needed: raise the limit (ulimit -n)");
    }
}

/// Holds all listeners and does what is ordered.
async fn run(
    listeners: Vec<std::net::TcpListener>,
    info: &[u8],
    mut inbox: mpsc::Receiver<(Range<usize>, Behaviour, answers::Sender<()>)>,
    counters: Arc<Counters>,
    ledger: Option<Ledger>,
) {
    let replies = Arc::new(Replies::new(info));
    let mut servers = Vec::with_capacity(listeners.len());
    for (at, listener) in listeners.into_iter().enumerate() {
        let address = listener.local_addr().expect("it listens");
        let (behaviour, _) = watch::channel(Behaviour::Answer);
        let shared = Shared {
            at,
            behaviour,
            replies: Arc::clone(&replies),
            counters: Arc::clone(&counters),
            ledger: ledger.clone(),
        };
        let mut server = Standing { address, shared: Arc::new(shared), acceptor: None };
        server.accept(listener);
        servers.push(server);
    }
    while let Some((range, behaviour, done)) = inbox.recv().await {
        for server in &mut servers[range] {
            server.set(behaviour).await;
        }
        let _ = done.send(());
    }
}

/// What the connections of one server share.
struct Shared {
    at: usize,
    behaviour: watch::Sender<Behaviour>,
    replies: Arc<Replies>,
    counters: Arc<Counters>,
    ledger: Option<Ledger>,
}

impl Shared {
    /// Notes that somebody asks for INFO, and who somebody is.
    fn note(&self, command: &[Vec<u8>], by: &mut String) {
        let Some(ledger) = &self.ledger else { return };
        let is = |at: usize, wanted: &str| {
            command.get(at).is_some_and(|word| word.eq_ignore_ascii_case(wanted.as_bytes()))
        };
        let password = if is(0, "AUTH") {
            command.last()
        } else if is(0, "HELLO") && is(2, "AUTH") {
            command.get(4)
        } else {
            None
        };
        if let Some(password) = password {
            *by = String::from_utf8_lossy(password).into_owned();
        }
        if is(0, "INFO") {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
            let at = i64::try_from(since.as_millis()).expect("this century fits");
            let asked = Asked { server: self.at, at, by: by.clone() };
            ledger.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        }
    }
}

/// One server.
struct Standing {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Standing {
    fn accept(&mut self, listener: std::net::TcpListener) {
        let shared = Arc::clone(&self.shared);
        self.acceptor = Some(tokio::spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listening socket");
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    shared.counters.accepted.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(converse(stream, Arc::clone(&shared)));
                }
            }
        }));
    }

    async fn set(&mut self, behaviour: Behaviour) {
        self.shared.behaviour.send_replace(behaviour);
        match (&mut self.acceptor, behaviour) {
            (Some(acceptor), Behaviour::Refuse) => {
                acceptor.abort();
                let _ = acceptor.await;
                self.acceptor = None;
            }
            (None, Behaviour::Answer | Behaviour::Hang) => self.accept(listen(self.address)),
            _ => {}
        }
    }
}

/// Counts an open connection for as long as it lives.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One connection, until the client hangs up, says what is no command or the server is to refuse.
async fn converse(mut stream: TcpStream, shared: Arc<Shared>) {
    shared.counters.open.fetch_add(1, Ordering::SeqCst);
    let _open = Open(Arc::clone(&shared));
    let _ = stream.set_nodelay(true);
    let mut behaviour = shared.behaviour.subscribe();
    let mut chunk = [0; 1024];
    let mut waiting = Vec::new();
    let mut resp3 = false;
    let mut by = String::new();
    loop {
        let now = *behaviour.borrow_and_update();
        if now == Behaviour::Refuse {
            return;
        }
        let count = tokio::select! {
            _ = behaviour.changed() => continue,
            count = stream.read(&mut chunk) => count.unwrap_or(0),
        };
        if count == 0 {
            return;
        }
        if now == Behaviour::Hang {
            continue;
        }
        waiting.extend_from_slice(&chunk[..count]);
        let Ok((commands, used)) = whole_commands(&waiting) else { return };
        waiting.drain(..used);
        if waiting.is_empty() {
            waiting = Vec::new();
        }
        let mut out = Vec::new();
        for command in &commands {
            shared.note(command, &mut by);
            shared.replies.answer(shared.at, command, &mut resp3, &mut out);
        }
        shared.counters.commands.fetch_add(commands.len() as u64, Ordering::SeqCst);
        if stream.write_all(&out).await.is_err() {
            return;
        }
    }
}

/// What is prepared once for all servers.
struct Replies {
    /// INFO as a bulk string and as a verbatim one, each cut around the run id.
    info: [(Vec<u8>, Vec<u8>); 2],
    settings: Vec<(String, String)>,
}

impl Replies {
    fn new(info: &[u8]) -> Self {
        let cut = |reply: Vec<u8>| {
            let text = String::from_utf8(reply).expect("INFO was recorded as text");
            let (head, rest) = text.split_once("run_id:").expect("INFO has a run id");
            let head = format!("{head}run_id:");
            (head.into_bytes(), rest.as_bytes()[RUN_ID..].to_vec())
        };
        let printed = String::from_utf8_lossy(SETTINGS);
        let words: Vec<&str> = printed.lines().filter_map(|line| line.split('"').nth(1)).collect();
        let pair = |pair: &[&str]| (pair[0].to_owned(), pair[1].to_owned());
        Self {
            info: [cut(bulk(info)), cut(verbatim(info))],
            settings: words.chunks_exact(2).map(pair).collect(),
        }
    }

    fn answer(&self, at: usize, command: &[Vec<u8>], resp3: &mut bool, out: &mut Vec<u8>) {
        let word = |at: usize| command.get(at).map(Vec::as_slice).unwrap_or_default();
        let is = |at: usize, wanted: &str| word(at).eq_ignore_ascii_case(wanted.as_bytes());
        if is(0, "INFO") {
            let (head, tail) = &self.info[usize::from(*resp3)];
            out.extend_from_slice(head);
            out.extend_from_slice(format!("{at:0RUN_ID$x}").as_bytes());
            out.extend_from_slice(tail);
        } else if is(0, "HELLO") {
            *resp3 = word(1) == b"3" || (word(1).is_empty() && *resp3);
            let words = [("server", "redis"), ("version", "7.0.15"), ("mode", "standalone")];
            pairs(out, *resp3, words.len() + 1, words.into_iter());
            out.extend(bulk(b"proto"));
            out.extend_from_slice(if *resp3 { b":3\r\n" } else { b":2\r\n" });
        } else if is(0, "CONFIG") && is(1, "GET") {
            let asked = |name: &str| command[2..].iter().any(|word| word == b"*" || word == name.as_bytes());
            let found = || self.settings.iter().filter(|(name, _)| asked(name));
            let words = found().map(|(name, value)| (name.as_str(), value.as_str()));
            pairs(out, *resp3, found().count(), words);
        } else if let Some((_, second, third)) =
            ANSWERS.iter().find(|(words, _, _)| words.iter().enumerate().all(|(at, wanted)| is(at, wanted)))
        {
            out.extend_from_slice(if *resp3 { third } else { second });
        } else {
            let name = String::from_utf8_lossy(word(0));
            let error = format!("-ERR unknown command '{name}', with args beginning with: \r\n");
            out.extend_from_slice(error.as_bytes());
        }
    }
}

/// How long a run id is.
const RUN_ID: usize = 40;

/// A map with so many pairs, or what RESP2 has instead; the caller may add the last ones.
fn pairs<'a>(out: &mut Vec<u8>, resp3: bool, count: usize, words: impl Iterator<Item = (&'a str, &'a str)>) {
    let head = if resp3 { format!("%{count}\r\n") } else { format!("*{}\r\n", 2 * count) };
    out.extend_from_slice(head.as_bytes());
    for (name, value) in words {
        out.extend(bulk(name.as_bytes()));
        out.extend(bulk(value.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_server_has_an_address_of_its_own_in_its_network() {
        let all: BTreeSet<SocketAddr> = (0..MOST).map(|at| address(at, 1)).collect();
        assert_eq!(all.len(), MOST);
        assert_eq!(address(0, 1).to_string(), "127.1.0.1:1");
        assert_eq!(address(1999, 1).to_string(), "127.1.7.250:1");
        assert_eq!(address(MOST - 1, 1).to_string(), "127.1.255.250:1");
    }

    #[test]
    fn all_settings_are_read_from_the_recording() {
        let settings = Replies::new(INFO).settings;
        assert!(settings.len() > 150, "{}", settings.len());
        assert!(settings.contains(&("databases".to_owned(), "16".to_owned())));
    }
}
