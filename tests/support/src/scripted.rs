//! A server that behaves as the test says: a Redis for the commands it leaves alone, trouble for the others.
//!
//! ```
//! use testbed::{Action, Connection, ScriptedServer, scripted};
//!
//! let server = ScriptedServer::start(|command| match command[0].as_slice() {
//!     b"INFO" => Action::reply(scripted::LOADING),
//!     _ => Action::Default,
//! });
//! let mut connection = Connection::tcp(server.port())?;
//! assert_eq!(connection.command(&["PING"])?.text(), "PONG");
//! assert!(connection.command(&["INFO"])?.is_error());
//! # Ok::<(), std::io::Error>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::Port;
use crate::resp::read_command;

// What real servers say, as errors on the wire.

/// The data set is being read.
pub const LOADING: &str = "-LOADING Redis is loading the dataset in memory\r\n";
/// A replica without its master that may not serve old data.
pub const MASTERDOWN: &str =
    "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n";
/// No password was sent.
pub const NOAUTH: &str = "-NOAUTH Authentication required.\r\n";
/// The password is wrong.
pub const WRONGPASS: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
/// The user may not do this.
pub const NOPERM: &str = "-NOPERM this user has no permissions to run the 'info' command\r\n";
/// A script runs for too long.
pub const BUSY: &str =
    "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n";
/// Sent on connecting when there are too many clients; the connection is closed after it.
pub const MAXCLIENTS: &str = "-ERR max number of clients reached\r\n";
/// Sent on connecting from outside to a server without a password; the connection is closed after it.
pub const PROTECTED: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no \
                             password is set for the default user.\r\n";
/// A slot that no node serves.
pub const CLUSTERDOWN: &str = "-CLUSTERDOWN Hash slot not served\r\n";
/// INFO of a Redis 7.0.15 after traffic, as recorded.
pub const INFO: &[u8] = include_bytes!("../fixtures/redis-7.0.15-standalone-info.txt");

/// What the server does about a command.
#[derive(Clone, Debug)]
pub enum Action {
    /// Answers as an idle Redis would.
    Default,
    /// Sends these bytes, whatever they are.
    Reply(Vec<u8>),
    /// Waits, then acts. Commands that came behind wait too.
    Delay(Duration, Box<Action>),
    /// Sends these bytes, then acts.
    Then(Vec<u8>, Box<Action>),
    /// Sends these bytes and nothing more; the connection stays open.
    Half(Vec<u8>),
    /// Sends `head`, then `chunk` again and again, with a pause in between, until the client hangs up.
    Endless {
        /// Sent once.
        head: Vec<u8>,
        /// Sent without end.
        chunk: Vec<u8>,
        /// The time from one chunk to the next; none makes a flood of it.
        pause: Duration,
    },
    /// Answers nothing to this command, but goes on with the next.
    Silence,
    /// Closes the connection in good order (FIN).
    Close,
    /// Throws the connection away (RST).
    Reset,
}

impl Action {
    /// Sends these bytes.
    pub fn reply(bytes: impl AsRef<[u8]>) -> Self {
        Self::Reply(bytes.as_ref().to_vec())
    }

    /// Sends these bytes as one bulk string.
    pub fn bulk(bytes: impl AsRef<[u8]>) -> Self {
        Self::Reply(bulk(bytes.as_ref()))
    }
}

type Script = dyn Fn(&[Vec<u8>]) -> Action + Send + Sync;
type Greeting = dyn Fn(usize) -> Option<Action> + Send + Sync;

/// What a scripted server is started with.
pub struct ScriptedBuilder {
    info: Vec<u8>,
    greeting: Box<Greeting>,
    port: Option<Port>,
}

impl ScriptedBuilder {
    /// Answers INFO with this text unless the script says otherwise.
    pub fn info(mut self, text: impl AsRef<[u8]>) -> Self {
        self.info = text.as_ref().to_vec();
        self
    }

    /// Acts on a connection before any command has come. The closure gets its number, 0 first.
    pub fn greeting(mut self, greet: impl Fn(usize) -> Option<Action> + Send + Sync + 'static) -> Self {
        self.greeting = Box::new(greet);
        self
    }

    /// Listens on this port instead of a free one.
    pub fn port(mut self, port: Port) -> Self {
        self.port = Some(port);
        self
    }

    /// Starts the server; `script` is asked about each command.
    pub fn start(self, script: impl Fn(&[Vec<u8>]) -> Action + Send + Sync + 'static) -> ScriptedServer {
        let port = self.port.unwrap_or_else(Port::take);
        let listener =
            TcpListener::bind(("127.0.0.1", port.number())).expect("the port was free a moment ago");
        let state = Arc::new(State {
            script: Box::new(script),
            greeting: self.greeting,
            info: self.info,
            stopping: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            round_trips: AtomicU64::new(0),
            commands: Mutex::default(),
            open: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let acceptor = thread::spawn(move || accept(&listener, &shared));
        ScriptedServer { port, state, acceptor: Some(acceptor) }
    }
}

impl fmt::Debug for ScriptedBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedBuilder")
    }
}

struct State {
    script: Box<Script>,
    greeting: Box<Greeting>,
    info: Vec<u8>,
    stopping: AtomicBool,
    accepted: AtomicUsize,
    round_trips: AtomicU64,
    commands: Mutex<Vec<Vec<String>>>,
    open: Mutex<BTreeMap<usize, TcpStream>>,
}

/// A running scripted server. It ends when this is dropped.
pub struct ScriptedServer {
    port: Port,
    state: Arc<State>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl fmt::Debug for ScriptedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScriptedServer({})", self.address())
    }
}

impl ScriptedServer {
    /// Begins to describe a server.
    pub fn builder() -> ScriptedBuilder {
        ScriptedBuilder { info: INFO.to_vec(), greeting: Box::new(|_| None), port: None }
    }

    /// Starts a server; `script` is asked about each command.
    pub fn start(script: impl Fn(&[Vec<u8>]) -> Action + Send + Sync + 'static) -> Self {
        Self::builder().start(script)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// All commands so far, in the order in which they came.
    pub fn commands(&self) -> Vec<Vec<String>> {
        lock(&self.state.commands).clone()
    }

    /// How often a command of this name came; `name` in upper case.
    pub fn count(&self, name: &str) -> usize {
        lock(&self.state.commands).iter().filter(|command| command[0].eq_ignore_ascii_case(name)).count()
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        lock(&self.state.open).len()
    }

    /// How often a client sent commands and had to wait for the replies before it sent more. Commands that
    /// arrive within a few milliseconds of each other count as sent together.
    pub fn round_trips(&self) -> u64 {
        self.state.round_trips.load(Ordering::SeqCst)
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees that it is to end.
        let _ = TcpStream::connect(("127.0.0.1", self.port()));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for stream in lock(&self.state.open).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for stream in listener.incoming().map_while(Result::ok) {
        if state.stopping.load(Ordering::SeqCst) {
            return;
        }
        let number = state.accepted.fetch_add(1, Ordering::SeqCst);
        if let Ok(stream) = stream.try_clone() {
            lock(&state.open).insert(number, stream);
        }
        let state = Arc::clone(state);
        thread::spawn(move || {
            // The client may hang up at any time; then there is nothing left to do.
            let _ = Conversation { state: &state, number, stream, resp3: false }.run();
            lock(&state.open).remove(&number);
        });
    }
}

/// How long to look for more of a pipeline before answering the first part of it.
const SETTLE: Duration = Duration::from_millis(3);

/// Whether a connection goes on after an action.
enum Next {
    GoOn,
    End,
}

/// One connection.
struct Conversation<'a> {
    state: &'a State,
    number: usize,
    stream: TcpStream,
    resp3: bool,
}

impl Conversation<'_> {
    fn run(&mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        if let Some(action) = (self.state.greeting)(self.number)
            && let Next::End = self.act(action, &[])?
        {
            return Ok(());
        }
        let mut waiting = Vec::new();
        loop {
            if !self.read_batch(&mut waiting)? {
                return Ok(());
            }
            let (commands, used) = whole_commands(&waiting)?;
            waiting.drain(..used);
            if !commands.is_empty() {
                self.state.round_trips.fetch_add(1, Ordering::SeqCst);
            }
            for command in commands {
                let shown = command.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
                lock(&self.state.commands).push(shown);
                let action = (self.state.script)(&command);
                if let Next::End = self.act(action, &command)? {
                    return Ok(());
                }
            }
        }
    }

    /// Reads what the client has sent, and what follows at once. False at the end of the connection.
    fn read_batch(&mut self, waiting: &mut Vec<u8>) -> io::Result<bool> {
        let mut chunk = [0; 65_536];
        self.stream.set_read_timeout(None)?;
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(count) => waiting.extend_from_slice(&chunk[..count]),
                Err(error) if is_timeout(&error) => return Ok(true),
                Err(error) => return Err(error),
            }
            self.stream.set_read_timeout(Some(SETTLE))?;
        }
    }

    fn act(&mut self, action: Action, command: &[Vec<u8>]) -> io::Result<Next> {
        match action {
            Action::Default => {
                let reply = self.default_reply(command);
                self.stream.write_all(&reply)?;
            }
            Action::Reply(bytes) => self.stream.write_all(&bytes)?,
            Action::Delay(time, then) => {
                thread::sleep(time);
                return self.act(*then, command);
            }
            Action::Then(bytes, then) => {
                self.stream.write_all(&bytes)?;
                return self.act(*then, command);
            }
            Action::Half(bytes) => {
                self.stream.write_all(&bytes)?;
                self.wait_for_the_end()?;
                return Ok(Next::End);
            }
            Action::Endless { head, chunk, pause } => {
                self.stream.write_all(&head)?;
                while !self.state.stopping.load(Ordering::SeqCst) {
                    self.stream.write_all(&chunk)?;
                    thread::sleep(pause);
                }
                return Ok(Next::End);
            }
            Action::Silence => {}
            Action::Close => {
                self.stream.shutdown(Shutdown::Both)?;
                return Ok(Next::End);
            }
            Action::Reset => {
                set_socket_linger(&self.stream, Some(Duration::ZERO))?;
                // The RST goes out when the last copy of the socket is closed, so no copy may be kept.
                lock(&self.state.open).remove(&self.number);
                return Ok(Next::End);
            }
        }
        Ok(Next::GoOn)
    }

    /// Reads on, so that the client's bytes find a taker, until it hangs up.
    fn wait_for_the_end(&mut self) -> io::Result<()> {
        self.stream.set_read_timeout(None)?;
        let mut chunk = [0; 4096];
        while self.stream.read(&mut chunk)? > 0 {}
        Ok(())
    }

    /// A field of the text that INFO is answered with.
    fn info_field(&self, name: &str) -> Option<&str> {
        // What matters stands at the top.
        let top = self.state.info.get(..4096).unwrap_or(&self.state.info);
        std::str::from_utf8(top).ok()?.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    }

    /// What an idle Redis 7 without a password says.
    fn default_reply(&mut self, command: &[Vec<u8>]) -> Vec<u8> {
        let word = |at: usize| command.get(at).map(|arg| arg.to_ascii_uppercase()).unwrap_or_default();
        let empty_map = if self.resp3 { b"%0\r\n".to_vec() } else { b"*0\r\n".to_vec() };
        match (word(0).as_slice(), word(1).as_slice()) {
            (b"HELLO", version) => {
                self.resp3 = version == b"3" || (version.is_empty() && self.resp3);
                let head = if self.resp3 { "%4" } else { "*8" };
                let mut reply = format!("{head}\r\n").into_bytes();
                let valkey = self.info_field("valkey_version");
                let version = valkey.or_else(|| self.info_field("redis_version")).unwrap_or_default();
                for (name, value) in [
                    ("server", if valkey.is_some() { "valkey" } else { "redis" }),
                    ("version", version),
                    ("mode", self.info_field("redis_mode").unwrap_or("standalone")),
                ] {
                    reply.extend(bulk(name.as_bytes()));
                    reply.extend(bulk(value.as_bytes()));
                }
                reply.extend(bulk(b"proto"));
                reply.extend(if self.resp3 { b":3\r\n" } else { b":2\r\n" });
                reply
            }
            (b"PING", _) => b"+PONG\r\n".to_vec(),
            (b"AUTH" | b"SELECT" | b"CLIENT" | b"READONLY", _) => b"+OK\r\n".to_vec(),
            (b"ECHO", _) => bulk(command.get(1).map_or(b"", Vec::as_slice)),
            (b"INFO", _) if self.resp3 => verbatim(&self.state.info),
            (b"INFO", _) => bulk(&self.state.info),
            (b"CONFIG", b"GET") | (b"LATENCY", b"HISTOGRAM") => empty_map,
            (b"SLOWLOG", b"LEN") => b":0\r\n".to_vec(),
            (b"SLOWLOG" | b"LATENCY", _) => b"*0\r\n".to_vec(),
            (b"COMMAND", b"INFO") => if self.resp3 { "*1\r\n_\r\n" } else { "*1\r\n*-1\r\n" }.into(),
            (b"ROLE", _) => b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".to_vec(),
            (name, _) => format!(
                "-ERR unknown command '{}', with args beginning with: \r\n",
                String::from_utf8_lossy(name)
            )
            .into_bytes(),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

pub(crate) fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

pub(crate) fn verbatim(bytes: &[u8]) -> Vec<u8> {
    [format!("={}\r\ntxt:", bytes.len() + 4).as_bytes(), bytes, b"\r\n"].concat()
}

/// The commands that have arrived whole, and how many bytes they take.
pub(crate) fn whole_commands(bytes: &[u8]) -> io::Result<(Vec<Vec<Vec<u8>>>, usize)> {
    let mut commands = Vec::new();
    let mut rest = bytes;
    loop {
        let used = bytes.len() - rest.len();
        match read_command(&mut rest) {
            Ok(Some(command)) => commands.push(command),
            Ok(None) => return Ok((commands, used)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok((commands, used)),
            Err(error) => return Err(error),
        }
    }
}
