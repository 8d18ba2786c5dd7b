//! A real Redis or Valkey server of the test's own.
//!
//! Each has its own port and folder, keeps nothing on disk unless told to, and is ready (it answers PING) when
//! [`ServerBuilder::start`] returns.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use tempfile::TempDir;

use crate::{Certificates, Connection, Part, Port, Process, Value, wait_for, wait_until};

/// How long a server may take to answer its first PING.
const START: Duration = Duration::from_secs(15);

/// What a server is started with.
#[derive(Debug)]
pub struct ServerBuilder {
    part: Part,
    config: Vec<String>,
    args: Vec<String>,
    login: Vec<String>,
    tls: Option<Tls>,
    unix_socket: bool,
    sentinel: bool,
    loading_is_ready: bool,
    port: Option<Port>,
}

#[derive(Clone, Debug)]
struct Tls {
    lines: Vec<String>,
    client: Arc<ClientConfig>,
}

impl ServerBuilder {
    fn new(part: Part) -> Self {
        let mut config: Vec<String> =
            ["bind 127.0.0.1", "save \"\"", "appendonly no", "repl-diskless-sync-delay 0"]
                .map(str::to_owned)
                .into();
        if part.is_redis_7_or_later() {
            config.push("enable-debug-command yes".to_owned());
        }
        Self {
            part,
            config,
            args: Vec::new(),
            login: Vec::new(),
            tls: None,
            unix_socket: false,
            sentinel: false,
            loading_is_ready: false,
            port: None,
        }
    }

    /// A Sentinel with these lines in its configuration: it knows none of the directives of a data node.
    pub fn sentinel(part: Part, config: Vec<String>) -> Self {
        Self { config, sentinel: true, ..Self::new(part) }
    }

    /// Adds a line to the configuration file, such as `maxmemory 10mb`.
    pub fn config(mut self, line: &str) -> Self {
        self.config.push(line.to_owned());
        self
    }

    /// Adds arguments to the command line, such as `--maxmemory 10mb`.
    pub fn args<A: AsRef<str>>(mut self, args: &[A]) -> Self {
        self.args.extend(args.iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Asks everybody for a password; our own commands send it.
    pub fn password(self, password: &str) -> Self {
        self.requirepass(password).config(&format!("masterauth {password}"))
    }

    /// The half of [`Self::password`] that a Sentinel knows too.
    pub(crate) fn requirepass(mut self, password: &str) -> Self {
        self.login = vec![password.to_owned()];
        self.config(&format!("requirepass {password}"))
    }

    /// Adds an ACL user. `rules` are those of `ACL SETUSER`, such as `on >secret ~* &* +info`.
    pub fn user(self, name: &str, rules: &str) -> Self {
        self.config(&format!("user {name} {rules}"))
    }

    /// Sends our own commands as this user, for servers on which the default user is off.
    pub fn command_as(mut self, user: &str, password: &str) -> Self {
        self.login = vec![user.to_owned(), password.to_owned()];
        self
    }

    /// Speaks only TLS. With `client_certificates` a client has to show one of this authority.
    pub fn tls(mut self, certificates: &Certificates, client_certificates: bool) -> Self {
        assert!(self.part.has_tls(), "{} was built without TLS", self.part.name());
        let path = |path: &Path| path.display().to_string();
        self.tls = Some(Tls {
            lines: vec![
                format!("tls-cert-file {}", path(&certificates.server.certificate)),
                format!("tls-key-file {}", path(&certificates.server.key)),
                format!("tls-ca-cert-file {}", path(&certificates.ca)),
                format!("tls-auth-clients {}", if client_certificates { "yes" } else { "no" }),
            ],
            client: certificates.client_config(),
        });
        self
    }

    /// Listens on a unix socket as well: [`Server::socket`].
    pub fn unix_socket(mut self) -> Self {
        self.unix_socket = true;
        self
    }

    /// Copies another server.
    pub fn replica_of(self, master: &Server) -> Self {
        self.config(&format!("replicaof 127.0.0.1 {}", master.port()))
    }

    /// Is a node of a cluster that has yet to be formed; see [`crate::Cluster`].
    pub fn cluster_node(self) -> Self {
        self.config("cluster-enabled yes").config("cluster-node-timeout 2000")
    }

    /// Takes a server that answers LOADING or MASTERDOWN for ready.
    pub fn ready_while_loading(mut self) -> Self {
        self.loading_is_ready = true;
        self
    }

    /// Listens on this port instead of a free one; with it a server can take the place of another.
    pub fn port(mut self, port: Port) -> Self {
        self.port = Some(port);
        self
    }

    /// Starts the server and waits until it answers. Panics with the end of its log when it does not.
    pub fn start(self) -> Server {
        let folder = TempDir::with_prefix("redvigil-redis-").expect("a temporary folder can be made");
        let port = self.port.unwrap_or_else(Port::take);
        let socket = folder.path().join("s");
        let mut lines = self.config;
        lines.push(format!("dir {}", folder.path().display()));
        match &self.tls {
            Some(tls) => {
                lines.push("port 0".to_owned());
                lines.push(format!("tls-port {}", port.number()));
                lines.extend(tls.lines.iter().cloned());
            }
            None => lines.push(format!("port {}", port.number())),
        }
        if self.unix_socket {
            lines.push(format!("unixsocket {}", socket.display()));
            lines.push("unixsocketperm 700".to_owned());
        }
        let file = folder.path().join("server.conf");
        fs::write(&file, lines.join("\n") + "\n").expect("a temporary file can be written");
        let mut args = vec![file.display().to_string()];
        if self.sentinel {
            args.push("--sentinel".to_owned());
        }
        args.extend(self.args);
        let program = self.part.path();
        let process = Process::start(&program, &args, &[]);
        let mut server = Server {
            process,
            part: self.part,
            program,
            args,
            port,
            socket,
            login: self.login,
            tls: self.tls.map(|tls| tls.client),
            loading_is_ready: self.loading_is_ready,
            control: Mutex::new(None),
            _folder: folder,
        };
        server.wait_until_ready();
        server
    }
}

/// A running server. It ends, and its folder goes, when this is dropped.
#[derive(Debug)]
pub struct Server {
    // The process stands first: it is dropped, and so ended, before its port and folder are given up.
    process: Process,
    part: Part,
    program: PathBuf,
    args: Vec<String>,
    port: Port,
    socket: PathBuf,
    login: Vec<String>,
    tls: Option<Arc<ClientConfig>>,
    loading_is_ready: bool,
    control: Mutex<Option<Connection>>,
    _folder: TempDir,
}

impl Server {
    /// Begins to describe a server.
    pub fn builder(part: Part) -> ServerBuilder {
        ServerBuilder::new(part)
    }

    /// Starts a server with nothing special about it.
    pub fn start(part: Part) -> Self {
        Self::builder(part).start()
    }

    /// Which program it is.
    pub fn part(&self) -> Part {
        self.part
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// `redis://127.0.0.1:PORT`, or `rediss://` where it speaks TLS. Without credentials.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://{}", self.address())
    }

    /// Its unix socket, where it was asked for one.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.stdout()
    }

    /// Opens another connection, logged in like our own.
    pub fn connect(&self) -> io::Result<Connection> {
        let mut connection = match &self.tls {
            Some(config) => Connection::tls(self.port(), Arc::clone(config))?,
            None => Connection::tcp(self.port())?,
        };
        if !self.login.is_empty() {
            let mut auth = vec!["AUTH".to_owned()];
            auth.extend(self.login.iter().cloned());
            let reply = connection.command(&auth)?;
            if reply.is_error() && !reply.text().starts_with("LOADING") {
                return Err(io::Error::other(format!("AUTH: {reply}")));
            }
        }
        Ok(connection)
    }

    /// Sends a command over a connection that is kept, and returns the reply. Panics where none comes; an error
    /// reply is a [`Value::Error`].
    pub fn command<A: AsRef<[u8]>>(&self, args: &[A]) -> Value {
        self.try_command(args).unwrap_or_else(|error| panic!("{}: no reply: {error}", self.address()))
    }

    pub(crate) fn try_command<A: AsRef<[u8]>>(&self, args: &[A]) -> io::Result<Value> {
        let mut kept = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        // After an error the connection is not put back: its next reply might belong to this command.
        if let Some(mut connection) = kept.take() {
            match connection.command(args) {
                // The server has closed it meanwhile, as it does when it becomes a master.
                Err(error) if is_closed(&error) => {}
                reply => {
                    *kept = reply.is_ok().then_some(connection);
                    return reply;
                }
            }
        }
        let mut connection = self.connect()?;
        let reply = connection.command(args)?;
        *kept = Some(connection);
        Ok(reply)
    }

    /// Sends a command that has to succeed.
    pub fn ok<A: AsRef<[u8]>>(&self, args: &[A]) -> Value {
        let reply = self.command(args);
        let shown: Vec<_> = args.iter().map(|arg| String::from_utf8_lossy(arg.as_ref())).collect();
        assert!(!reply.is_error(), "{}: {} was refused: {reply}", self.address(), shown.join(" "));
        reply
    }

    /// The fields of a section of INFO.
    pub fn info(&self, section: &str) -> BTreeMap<String, String> {
        let text = self.ok(&["INFO", section]).text();
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Waits until a field of INFO has this value.
    pub fn wait_for_info(&self, section: &str, field: &str, value: &str, limit: Duration) {
        let what = format!("{}: {field}:{value}", self.address());
        wait_until(&what, limit, || self.info(section).get(field).is_some_and(|now| now == value));
    }

    /// Waits until this replica has its master's data.
    pub fn wait_replicated(&self) {
        self.wait_for_info("replication", "master_link_status", "up", Duration::from_secs(20));
    }

    /// Stops it from running (SIGSTOP): connections are accepted by the kernel, nothing is answered.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    /// Lets it run again.
    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Ends it as a crash would (SIGKILL). Its port stays ours, so that nothing else answers there.
    pub fn kill(&mut self) -> ExitStatus {
        self.forget_connection();
        self.process.kill()
    }

    /// Ends it in good order (SIGTERM).
    pub fn stop(&mut self) -> ExitStatus {
        self.forget_connection();
        self.process.stop()
    }

    /// Starts it again on the same port and folder, having ended it first where it still runs.
    pub fn restart(&mut self) {
        self.stop();
        self.process = Process::start(&self.program, &self.args, &[]);
        self.wait_until_ready();
    }

    /// Ends it and gives its port away, for another server to take its place.
    pub fn into_port(self) -> Port {
        let Self { process, port, .. } = self;
        drop(process);
        port
    }

    fn forget_connection(&mut self) {
        *self.control.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn wait_until_ready(&mut self) {
        let what = format!("{} on port {} to answer PING", self.part.name(), self.port());
        wait_for(&what, START, || {
            if let Some(status) = self.process.status() {
                self.process.wait(START);
                let log = self.process.stdout() + &self.process.stderr();
                let end: Vec<_> = log.lines().rev().take(5).collect();
                panic!("{} ended at its start, {status}: {}", self.part.name(), end.join(" | "));
            }
            match self.try_command(&["PING"]).ok()? {
                Value::Error(text) => {
                    let busy = text.starts_with("LOADING") || text.starts_with("MASTERDOWN");
                    (busy && self.loading_is_ready).then_some(())
                }
                _ => Some(()),
            }
        });
    }
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}
