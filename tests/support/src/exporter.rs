//! An exporter under test: our binary, or the peer's, as a process of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::http::{self, Request, Response};
use crate::{Part, Port, Process, wait_for};

/// How long an exporter may take to listen.
const START: Duration = Duration::from_secs(15);
/// How long an answer may take before the test fails; longer than any deadline an exporter has by default.
const ANSWER: Duration = Duration::from_secs(40);

/// What an exporter is started with.
#[derive(Debug)]
pub struct ExporterBuilder {
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    tls: Option<Arc<ClientConfig>>,
    port: Option<Arc<Port>>,
}

impl ExporterBuilder {
    /// Adds arguments, such as `--redis.addr=…`. The listen address is added by [`Self::start`].
    pub fn args<A: AsRef<str>>(mut self, args: &[A]) -> Self {
        self.args.extend(args.iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable. Those of the developer's shell that begin with `REDIS_` are not passed on.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Asks by HTTPS, as this client.
    pub fn https(mut self, client: Arc<ClientConfig>) -> Self {
        self.tls = Some(client);
        self
    }

    /// Listens on this port rather than on any free one: an exporter that comes back as who it was.
    pub fn port(mut self, port: Arc<Port>) -> Self {
        self.port = Some(port);
        self
    }

    /// Starts it on a free port and waits until `/health` answers, whatever it says. Panics with the end of its
    /// log when it does not.
    pub fn start(mut self) -> Exporter {
        let port = self.port.take().unwrap_or_else(|| Arc::new(Port::take()));
        self.args.push(format!("--web.listen-address=127.0.0.1:{}", port.number()));
        let process = Process::start(&self.program, &self.args, &self.env);
        let mut exporter = Exporter { process, port, tls: self.tls };
        let what = format!("{} to answer on /health", self.program.display());
        wait_for(&what, START, || {
            if let Some(status) = exporter.process.status() {
                exporter.process.wait(START);
                panic!("the exporter ended at its start, {status}: {}", exporter.stderr());
            }
            exporter.try_get("/health", &[]).ok()
        });
        exporter
    }

    /// Runs it to its end, for flags that make it print something or refuse to start; panics when it still runs
    /// after `limit`. No listen address is added.
    pub fn run_to_end(self, limit: Duration) -> Finished {
        let mut process = Process::start(&self.program, &self.args, &self.env);
        let status = process.wait(limit);
        Finished { status, stdout: process.stdout(), stderr: process.stderr() }
    }
}

/// What is left of an exporter that ended by itself.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// A running exporter. It ends when this is dropped.
#[derive(Debug)]
pub struct Exporter {
    process: Process,
    port: Arc<Port>,
    tls: Option<Arc<ClientConfig>>,
}

impl Exporter {
    /// Begins to describe our exporter: pass `env!("CARGO_BIN_EXE_redvigil")`.
    pub fn builder(program: impl AsRef<Path>) -> ExporterBuilder {
        ExporterBuilder {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            tls: None,
            port: None,
        }
    }

    /// Begins to describe the exporter that ours replaces, Debian's `prometheus-redis-exporter`.
    pub fn peer() -> ExporterBuilder {
        Self::builder(Part::Peer.path())
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// Asks for a path. Panics where no whole answer comes.
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.send(Request::get(path, headers))
    }

    /// Asks for a path.
    pub fn try_get(&self, path: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
        http::send(self.port(), self.tls.clone(), Request::get(path, headers), ANSWER)
    }

    /// Sends any request. Panics where no whole answer comes.
    pub fn send(&self, request: Request<'_>) -> Response {
        http::send(self.port(), self.tls.clone(), request, ANSWER).unwrap_or_else(|error| {
            panic!("{} {}: {error}; log:\n{}", request.method, request.path, self.stderr())
        })
    }

    /// The text of `/metrics`; panics unless the status is 200.
    pub fn metrics(&self) -> String {
        let response = self.get("/metrics", &[]);
        assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
        response.text().to_owned()
    }

    /// What it has logged.
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// What it has written to stdout.
    pub fn stdout(&self) -> String {
        self.process.stdout()
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The process, for signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Ends it in good order (SIGTERM) and says how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.stop()
    }
}
