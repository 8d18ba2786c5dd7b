//! A real etcd: one member or several, with users and with TLS where a test asks for them.
//!
//! It keeps its ports and its data when a member is killed, so that the member comes back as the same one. What it has is
//! asked by the JSON gateway (`gateway`), which shares no code with the client under test. `backup` is about what of its data is
//! kept.
//!
//! What a newcomer would get wrong: the shortest TTL that etcd grants comes from its election time-out (2 s here), and a lease
//! that ends is deleted up to half a second later.

mod backup;
mod gateway;

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tempfile::TempDir;

use crate::http::{self, Request};
use crate::{Certificates, Part, Port, Process, wait_until};

pub use gateway::{Event, Kv};

/// How long a member may take to be ready, a slow disk included.
const START: Duration = Duration::from_secs(30);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// The password of `root`, where there are users.
const ROOT: &str = "root-of-the-test";

/// What an etcd is started with.
#[derive(Debug)]
pub struct EtcdBuilder {
    part: Part,
    members: usize,
    user: Option<User>,
    tls: Option<Certificates>,
    client_certificates: bool,
    args: Vec<String>,
}

/// A user beside `root`, who may read and write what begins with one of its prefixes.
#[derive(Clone, Debug)]
struct User {
    name: String,
    password: String,
    prefixes: Vec<String>,
}

impl EtcdBuilder {
    /// So many members.
    pub fn members(mut self, members: usize) -> Self {
        self.members = members;
        self
    }

    /// Asks for a name and a password. This user may read and write what begins with one of these prefixes.
    pub fn user(mut self, name: &str, password: &str, prefixes: &[&str]) -> Self {
        let prefixes = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
        self.user = Some(User { name: name.to_owned(), password: password.to_owned(), prefixes });
        self
    }

    /// A token counts for so long after it was used last.
    pub fn token_ttl(self, ttl: Duration) -> Self {
        let ttl = format!("--auth-token-ttl={}", ttl.as_secs());
        self.args(&[&ttl])
    }

    /// Clients speak TLS.
    pub fn tls(mut self) -> Self {
        self.tls = Some(Certificates::generate());
        self
    }

    /// Clients speak TLS, and show a certificate.
    pub fn client_certificates(mut self) -> Self {
        self.client_certificates = true;
        self.tls()
    }

    /// Adds arguments.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Starts it, with empty folders on free ports; returns when it is ready, users included.
    pub fn start(self) -> Etcd {
        let folder = TempDir::with_prefix("redvigil-etcd-").expect("a temporary folder can be made");
        let ports: Vec<[Port; 3]> = (0..self.members).map(|_| [(); 3].map(|()| Port::take())).collect();
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let peer_url = |ports: &[Port; 3]| format!("http://127.0.0.1:{}", ports[1].number());
        let all: Vec<String> =
            (0..).zip(&ports).map(|(at, ports)| format!("n{at}={}", peer_url(ports))).collect();
        let mut members = Vec::new();
        for (at, ports) in ports.into_iter().enumerate() {
            let url = format!("{scheme}://127.0.0.1:{}", ports[0].number());
            let mut args = vec![
                format!("--name=n{at}"),
                format!("--data-dir={}", folder.path().join(format!("n{at}")).display()),
                format!("--listen-client-urls={url}"),
                format!("--advertise-client-urls={url}"),
                format!("--listen-peer-urls={}", peer_url(&ports)),
                format!("--initial-advertise-peer-urls={}", peer_url(&ports)),
                format!("--initial-cluster={}", all.join(",")),
                format!("--listen-metrics-urls=http://127.0.0.1:{}", ports[2].number()),
                "--logger=zap".to_owned(),
                "--log-outputs=stderr".to_owned(),
                "--heartbeat-interval=50".to_owned(),
                "--election-timeout=500".to_owned(),
            ];
            if self.part == Part::Etcd35 {
                // No test takes the power away: what the kernel has is as good as on the disk, and never late.
                args.push("--unsafe-no-fsync".to_owned());
            }
            if let Some(tls) = &self.tls {
                args.push(format!("--cert-file={}", tls.both.certificate.display()));
                args.push(format!("--key-file={}", tls.both.key.display()));
                if self.client_certificates {
                    args.push("--client-cert-auth".to_owned());
                    args.push(format!("--trusted-ca-file={}", tls.ca.display()));
                }
            }
            args.extend(self.args.iter().cloned());
            members.push(Member { part: self.part, args, url, ports, process: None });
        }
        let client = self.tls.as_ref().map(|tls| match self.client_certificates {
            true => tls.client_config(),
            false => tls.anonymous_config(),
        });
        let mut etcd = Etcd { members, tls: self.tls, client, with_users: false, folder };
        // Members wait for each other, so that all are started before the first is waited for.
        etcd.members.iter_mut().for_each(Member::launch);
        etcd.members.iter_mut().for_each(Member::wait);
        if let Some(user) = self.user {
            etcd.add_users(&user);
        }
        etcd
    }
}

/// A running etcd. It ends, and its data goes, when this is dropped.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    tls: Option<Certificates>,
    client: Option<Arc<ClientConfig>>,
    with_users: bool,
    folder: TempDir,
}

impl Etcd {
    /// One member of etcd 3.5, without users and TLS.
    pub fn start() -> Self {
        Self::builder(Part::Etcd35).start()
    }

    /// So many members of etcd 3.5, without users and TLS.
    pub fn cluster(members: usize) -> Self {
        Self::builder(Part::Etcd35).members(members).start()
    }

    /// Begins to describe an etcd of this version.
    pub fn builder(part: Part) -> EtcdBuilder {
        EtcdBuilder { part, members: 1, user: None, tls: None, client_certificates: false, args: Vec::new() }
    }

    /// Where the first member takes clients: `http://127.0.0.1:PORT`, or `https`.
    pub fn url(&self) -> String {
        self.members[0].url.clone()
    }

    /// Where each member takes clients.
    pub fn urls(&self) -> Vec<String> {
        self.members.iter().map(|member| member.url.clone()).collect()
    }

    /// The port of the first member.
    pub fn port(&self) -> u16 {
        self.members[0].port()
    }

    /// A member.
    pub fn member(&mut self, at: usize) -> &mut Member {
        &mut self.members[at]
    }

    /// How many members it has, those that are killed included.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Never: it has a member at least.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Its authority and its certificates, where it speaks TLS.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.tls.as_ref()
    }

    /// Which member leads; nothing while none does.
    pub fn leader(&self) -> Option<usize> {
        let leads = |member: &Member| {
            let metrics = member.try_metrics().unwrap_or_default();
            metrics.lines().any(|line| line == "etcd_server_is_leader 1")
        };
        self.members.iter().position(leads)
    }

    /// Kills all members as a crash would (SIGKILL).
    pub fn kill(&mut self) {
        self.members.iter_mut().filter(|member| member.is_running()).for_each(Member::kill);
    }

    /// Starts all members that do not run, on the data they had; returns when they are ready.
    pub fn restart(&mut self) {
        let ended: Vec<usize> = (0..self.len()).filter(|at| !self.members[*at].is_running()).collect();
        ended.iter().for_each(|at| self.members[*at].launch());
        ended.iter().for_each(|at| self.members[*at].wait());
    }

    /// Stops all members from running, without ending them (SIGSTOP): connections are accepted, nothing is answered.
    pub fn stop(&mut self) {
        self.members.iter_mut().filter(|member| member.is_running()).for_each(Member::stop);
    }

    /// Lets all members run again (SIGCONT).
    pub fn cont(&mut self) {
        self.members.iter_mut().filter(|member| member.is_running()).for_each(Member::cont);
    }

    /// How many messages clients have sent to all members since those were started: requests, and what comes on streams.
    /// What this testbed asked counts, too: look before and behind a time in which it is quiet.
    pub fn requests(&self) -> u64 {
        let sum = |metrics: &str| -> u64 {
            let ours = metrics.lines().filter(|line| line.starts_with("grpc_server_msg_received_total{"));
            let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a counter of a test"
            )]
            ours.filter_map(value).map(|value| value as u64).sum()
        };
        self.members.iter().filter_map(Member::try_metrics).map(|metrics| sum(&metrics)).sum()
    }
}

/// A member of an etcd.
#[derive(Debug)]
pub struct Member {
    part: Part,
    args: Vec<String>,
    url: String,
    /// For clients, for the other members, for metrics.
    ports: [Port; 3],
    process: Option<Process>,
}

impl Member {
    /// Where it takes clients.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port where it takes clients.
    pub fn port(&self) -> u16 {
        self.ports[0].number()
    }

    /// Whether it runs; one that stands still counts.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Its process, for signals.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    /// What it has logged since it was started last.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::stderr).unwrap_or_default()
    }

    /// Its own metrics, which it gives to everybody.
    pub fn metrics(&self) -> String {
        self.try_metrics().expect("it answers")
    }

    /// Ends it as a crash would (SIGKILL).
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// Starts it again, on the data it had; returns when it is ready.
    pub fn restart(&mut self) {
        self.launch();
        self.wait();
    }

    /// Stops it from running, without ending it (SIGSTOP).
    pub fn stop(&mut self) {
        self.process().pause();
    }

    /// Lets it run again (SIGCONT).
    pub fn cont(&mut self) {
        self.process().resume();
    }

    fn launch(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        self.process = Some(Process::start(&self.part.path(), &self.args, &[]));
    }

    /// Waits until it has a leader and answers.
    fn wait(&mut self) {
        wait_until(&format!("{} at {} to be ready", self.part.name(), self.url), START, || {
            let process = self.process.as_mut().expect("it was started");
            assert!(process.status().is_none(), "etcd ended: {}", process.stderr());
            self.try_get("/health").is_some_and(|text| text.contains("\"health\":\"true\""))
        });
    }

    fn try_metrics(&self) -> Option<String> {
        self.process.as_ref()?;
        self.try_get("/metrics")
    }

    fn try_get(&self, path: &str) -> Option<String> {
        let answer =
            http::send(self.ports[2].number(), None, Request::get(path, &[]), Duration::from_secs(2)).ok()?;
        Some(answer.text().to_owned())
    }
}
