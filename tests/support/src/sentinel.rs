//! A master with two replicas and three Sentinels that watch over it.
//!
//! Every data node and every Sentinel can be killed, stopped and started again through [`SentinelSet::nodes`] and
//! [`SentinelSet::sentinels`]. What the Sentinels think is asked over connections that are kept, often enough to say
//! to a few milliseconds when a majority of them knew of a new master ([`SentinelSet::watch`]).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::server::ServerBuilder;
use crate::{Connection, Part, Port, Proxy, Server, Value, wait_for, wait_until};

/// The name the Sentinels know the master by.
const NAME: &str = "mymaster";
/// The question that decides: where is the master?
const ADDRESS: [&str; 3] = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
/// How long it may take until all know each other.
const DISCOVERY: Duration = Duration::from_secs(30);
/// How long a Sentinel may take to answer a watch before it counts as silent.
const SILENCE: Duration = Duration::from_millis(200);
/// How long a watch leaves a Sentinel alone between two questions.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(2);

/// Which addresses the proxies before the servers have a part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proxies {
    /// There are none.
    None,
    /// The servers do not know of them: a client has to come to them by itself.
    Aside,
    /// The servers announce them and speak to each other through them.
    Announced,
}

/// What a set is started with.
#[derive(Debug)]
pub struct SentinelSetBuilder {
    part: Part,
    down_after: Duration,
    failover_timeout: Duration,
    password: Option<String>,
    sentinel_password: Option<String>,
    users: Vec<(String, String)>,
    sentinel_users: Vec<(String, String)>,
    node_config: Vec<String>,
    proxies: Proxies,
}

impl SentinelSetBuilder {
    /// How long a server is silent until a Sentinel takes it for down; else one second.
    pub fn down_after(mut self, time: Duration) -> Self {
        self.down_after = time;
        self
    }

    /// How long a failover may take; else ten seconds. One that nobody asked for begins at the earliest after twice
    /// that time since the last attempt.
    pub fn failover_timeout(mut self, time: Duration) -> Self {
        self.failover_timeout = time;
        self
    }

    /// The data nodes ask for this password, from the Sentinels too.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// The Sentinels ask for this password, from each other too.
    pub fn sentinel_password(mut self, password: &str) -> Self {
        self.sentinel_password = Some(password.to_owned());
        self
    }

    /// Adds an ACL user to the data nodes; `rules` are those of `ACL SETUSER`.
    pub fn user(mut self, name: &str, rules: &str) -> Self {
        self.users.push((name.to_owned(), rules.to_owned()));
        self
    }

    /// Adds an ACL user to the Sentinels; `rules` are those of `ACL SETUSER`.
    pub fn sentinel_user(mut self, name: &str, rules: &str) -> Self {
        self.sentinel_users.push((name.to_owned(), rules.to_owned()));
        self
    }

    /// Adds a line to the configuration files of the data nodes.
    pub fn node_config(mut self, line: &str) -> Self {
        self.node_config.push(line.to_owned());
        self
    }

    /// Puts a [`Proxy`] before every server, on 127.0.0.2 with the server's own port. The servers do not know of
    /// them: what they announce is 127.0.0.1, and they speak to each other directly. A client that rewrites
    /// 127.0.0.1 to 127.0.0.2 comes through the proxies.
    pub fn proxies(mut self) -> Self {
        self.proxies = Proxies::Aside;
        self
    }

    /// As [`Self::proxies`], but every server announces its proxy's address: a black hole before a Sentinel or a
    /// node then holds for the other servers as well. (What the server itself begins still goes out.)
    pub fn announced_proxies(mut self) -> Self {
        self.proxies = Proxies::Announced;
        self
    }

    /// Starts all six and waits until every Sentinel knows both replicas and both other Sentinels.
    pub fn start(self) -> SentinelSet {
        let ports: Vec<Port> = (0..6).map(|_| Port::take()).collect();
        let numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        let proxies = match self.proxies {
            Proxies::None => BTreeMap::new(),
            _ => numbers.iter().map(|number| (*number, proxy(*number))).collect(),
        };
        let mut ports = ports.into_iter();
        let mut take = || ports.next().expect("a port for each of six");
        let nodes: Vec<Server> = (0..3).map(|at| self.node(at, take(), numbers[0])).collect();
        nodes[1..].iter().for_each(Server::wait_replicated);
        let sentinels = (0..3).map(|_| self.sentinel(take(), numbers[0])).collect();
        let set = SentinelSet { proxies, nodes, sentinels, sentinel_password: self.sentinel_password };
        set.wait_until_settled(DISCOVERY);
        set
    }

    /// The host by which the servers know each other.
    fn host(&self) -> &'static str {
        if self.proxies == Proxies::Announced { "127.0.0.2" } else { "127.0.0.1" }
    }

    fn node(&self, at: usize, port: Port, master: u16) -> Server {
        let mut builder = Server::builder(self.part);
        if at > 0 {
            builder = builder.config(&format!("replicaof {} {master}", self.host()));
        }
        if self.proxies == Proxies::Announced {
            builder = builder.config(&format!("replica-announce-ip {}", self.host()));
        }
        if let Some(password) = &self.password {
            builder = builder.password(password);
        }
        for (name, rules) in &self.users {
            builder = builder.user(name, rules);
        }
        for line in &self.node_config {
            builder = builder.config(line);
        }
        builder.port(port).start()
    }

    fn sentinel(&self, port: Port, master: u16) -> Server {
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("sentinel monitor {NAME} {} {master} 2", self.host()),
            format!("sentinel down-after-milliseconds {NAME} {}", self.down_after.as_millis()),
            format!("sentinel failover-timeout {NAME} {}", self.failover_timeout.as_millis()),
        ];
        if self.proxies == Proxies::Announced {
            lines.push(format!("sentinel announce-ip {}", self.host()));
            lines.push(format!("sentinel announce-port {}", port.number()));
        }
        if let Some(password) = &self.password {
            lines.push(format!("sentinel auth-pass {NAME} {password}"));
        }
        if let Some(password) = &self.sentinel_password {
            lines.push(format!("sentinel sentinel-pass {password}"));
        }
        let mut builder = ServerBuilder::sentinel(self.part, lines);
        if let Some(password) = &self.sentinel_password {
            builder = builder.requirepass(password);
        }
        for (name, rules) in &self.sentinel_users {
            builder = builder.user(name, rules);
        }
        builder.port(port).start()
    }
}

/// Stands on 127.0.0.2 before the same port of 127.0.0.1.
fn proxy(port: u16) -> Proxy {
    let at = |last| SocketAddr::from(([127, 0, 0, last], port));
    Proxy::between(at(2), at(1))
}

/// Six processes: two kinds of server, one service.
#[derive(Debug)]
pub struct SentinelSet {
    /// The data nodes; the first one began as the master.
    pub nodes: Vec<Server>,
    /// The Sentinels.
    pub sentinels: Vec<Server>,
    /// By the port of the server behind.
    proxies: BTreeMap<u16, Proxy>,
    sentinel_password: Option<String>,
}

impl SentinelSet {
    /// The name of the service.
    pub const NAME: &'static str = NAME;

    /// Begins to describe a set.
    pub fn builder(part: Part) -> SentinelSetBuilder {
        SentinelSetBuilder {
            part,
            down_after: Duration::from_secs(1),
            failover_timeout: Duration::from_secs(10),
            password: None,
            sentinel_password: None,
            users: Vec::new(),
            sentinel_users: Vec::new(),
            node_config: Vec::new(),
            proxies: Proxies::None,
        }
    }

    /// Starts a set with nothing special about it.
    pub fn start(part: Part) -> Self {
        Self::builder(part).start()
    }

    /// The proxy before the data node or Sentinel on this port; panics where the set was started without.
    pub fn proxy(&self, port: u16) -> &Proxy {
        self.proxies.get(&port).unwrap_or_else(|| panic!("no proxy before port {port}"))
    }

    /// The data node on this port.
    pub fn node(&mut self, port: u16) -> &mut Server {
        self.nodes.iter_mut().find(|node| node.port() == port).expect("the port is that of a data node")
    }

    /// The port of the master as the first Sentinel sees it.
    pub fn master_port(&self) -> u16 {
        port_in(&self.sentinels[0].ok(&ADDRESS)).expect("a Sentinel names a port")
    }

    /// The port of the master that at least two of the three Sentinels name now. One that is silent for 200 ms has
    /// no say.
    pub fn majority_master(&self) -> Option<u16> {
        let views: Vec<Option<u16>> =
            self.sentinels.iter().map(|sentinel| self.voter(sentinel).ask()).collect();
        majority(&views)
    }

    /// The node that is the master in the eyes of the Sentinels.
    pub fn master(&mut self) -> &mut Server {
        let port = self.master_port();
        self.node(port)
    }

    /// Waits until all Sentinels name a master other than `old`; allow 15 s.
    pub fn wait_for_failover(&self, old: u16, limit: Duration) {
        wait_until("the failover", limit, || {
            self.sentinels.iter().all(|sentinel| port_in(&sentinel.ok(&ADDRESS)) != Some(old))
        });
    }

    /// Begins to watch what the majority thinks, every few milliseconds.
    pub fn watch(&self) -> MajorityWatch {
        let log = Arc::new(Log::default());
        let voters: Vec<Voter> = self.sentinels.iter().map(|sentinel| self.voter(sentinel)).collect();
        lock(&log.state).views = vec![None; voters.len()];
        let threads = voters.into_iter().enumerate().map(|(at, voter)| {
            let log = Arc::clone(&log);
            thread::spawn(move || watch_one(at, voter, &log))
        });
        MajorityWatch { threads: threads.collect(), log }
    }

    /// Waits until at least two of the three Sentinels name one master other than `old`; returns its port and when
    /// that was first so. Whatever happened before the call is not seen: where the time matters, [`Self::watch`]
    /// before making trouble.
    pub fn wait_for_failover_majority(&self, old: u16, limit: Duration) -> (u16, Instant) {
        self.watch().wait_for_other_than(old, limit)
    }

    /// Asks a Sentinel for a planned failover, again while it says that it cannot yet, and returns when it has agreed.
    pub fn failover(&self) {
        wait_for("a Sentinel to begin a failover", DISCOVERY, || {
            self.sentinels.iter().find(|sentinel| {
                let reply = sentinel.try_command(&["SENTINEL", "FAILOVER", NAME]);
                reply.is_ok_and(|reply| !reply.is_error())
            })
        });
    }

    /// Waits until nothing is left of a failover: all Sentinels name the same master and hold every server for up,
    /// and both replicas are in step with it. All six have to run.
    pub fn wait_until_settled(&self, limit: Duration) {
        let began = Instant::now();
        while let Some(why) = self.unsettled() {
            assert!(began.elapsed() < limit, "not settled after {} s: {why}", limit.as_secs_f32());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What is not as it is in quiet times.
    fn unsettled(&self) -> Option<String> {
        let views: Vec<_> = self.sentinels.iter().map(|sentinel| port_in(&sentinel.ok(&ADDRESS))).collect();
        let Some(master) = views[0].filter(|_| views.iter().all(|view| *view == views[0])) else {
            return Some(format!("the Sentinels name {views:?}"));
        };
        for node in &self.nodes {
            let info = node.info("replication");
            let field = |name: &str| info.get(name).map(String::as_str);
            let is_in_step = match node.port() == master {
                true => field("role") == Some("master"),
                false => {
                    field("master_port") == Some(&master.to_string())
                        && field("master_link_status") == Some("up")
                }
            };
            if !is_in_step {
                return Some(format!("{} under the master {master} says {info:?}", node.port()));
            }
        }
        self.sentinels.iter().find_map(unsure)
    }

    fn voter(&self, sentinel: &Server) -> Voter {
        Voter { port: sentinel.port(), password: self.sentinel_password.clone(), connection: None }
    }
}

/// A Sentinel that is asked where the master is, over a connection that is kept while it answers.
struct Voter {
    port: u16,
    password: Option<String>,
    connection: Option<Connection>,
}

impl Voter {
    fn ask(&mut self) -> Option<u16> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let mut fresh = Connection::tcp_within(self.port, SILENCE).ok()?;
                if let Some(password) = &self.password {
                    fresh.command(&["AUTH", password]).ok()?;
                }
                fresh
            }
        };
        let reply = connection.command(&ADDRESS).ok()?;
        self.connection = Some(connection);
        port_in(&reply)
    }
}

/// What the majority of the Sentinels thinks, watched in the background until this is dropped.
#[derive(Debug)]
pub struct MajorityWatch {
    threads: Vec<thread::JoinHandle<()>>,
    log: Arc<Log>,
}

#[derive(Debug, Default)]
struct Log {
    state: Mutex<Views>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Views {
    /// What each Sentinel said last; nothing for one that is silent.
    views: Vec<Option<u16>>,
    /// Every opinion of a majority that differs from the one before it, and since when.
    opinions: Vec<(u16, Instant)>,
    over: bool,
}

impl MajorityWatch {
    /// Every master that a majority has named so far, with the time when it first did, oldest first.
    pub fn opinions(&self) -> Vec<(u16, Instant)> {
        lock(&self.log.state).opinions.clone()
    }

    /// Waits until a majority names a master other than `old`, and returns its port and when that was first so.
    pub fn wait_for_other_than(&self, old: u16, limit: Duration) -> (u16, Instant) {
        self.wait_for(|port| port != old, limit)
    }

    /// Waits until a majority names such a master, and returns its port and when that was first so.
    pub fn wait_for(&self, is_it: impl Fn(u16) -> bool, limit: Duration) -> (u16, Instant) {
        let end = Instant::now() + limit;
        let mut state = lock(&self.log.state);
        loop {
            if let Some(found) = state.opinions.iter().find(|(port, _)| is_it(*port)) {
                return *found;
            }
            let left = end.saturating_duration_since(Instant::now());
            let opinions: Vec<u16> = state.opinions.iter().map(|(port, _)| *port).collect();
            assert!(!left.is_zero(), "waited {} s in vain; the majority: {opinions:?}", limit.as_secs_f32());
            (state, _) = self.log.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for MajorityWatch {
    fn drop(&mut self) {
        lock(&self.log.state).over = true;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn watch_one(at: usize, mut voter: Voter, log: &Log) {
    loop {
        let view = voter.ask();
        let now = Instant::now();
        {
            let mut state = lock(&log.state);
            if state.over {
                return;
            }
            state.views[at] = view;
            if let Some(port) = majority(&state.views)
                && state.opinions.last().is_none_or(|(last, _)| *last != port)
            {
                state.opinions.push((port, now));
                log.changed.notify_all();
            }
        }
        thread::sleep(BETWEEN_QUESTIONS);
    }
}

fn lock(state: &Mutex<Views>) -> std::sync::MutexGuard<'_, Views> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What at least two of them say.
fn majority(views: &[Option<u16>]) -> Option<u16> {
    let votes = |port: u16| views.iter().filter(|view| **view == Some(port)).count();
    views.iter().flatten().copied().find(|port| votes(*port) >= 2)
}

/// The port in an answer to GET-MASTER-ADDR-BY-NAME.
fn port_in(reply: &Value) -> Option<u16> {
    match reply {
        Value::Array(items) => items.get(1)?.text().parse().ok(),
        _ => None,
    }
}

/// What this Sentinel does not know yet, or holds for down.
fn unsure(sentinel: &Server) -> Option<String> {
    let found = sentinel.ok(&["SENTINEL", "MASTER", NAME]);
    let master = fields(&found);
    let known = ["num-slaves", "num-other-sentinels", "flags"].map(|name| master[name].as_str());
    if known != ["2", "2", "master"] {
        return Some(format!("Sentinel {} says of the master {known:?}", sentinel.port()));
    }
    ["REPLICAS", "SENTINELS"].iter().find_map(|kind| {
        let found = sentinel.ok(&["SENTINEL", kind, NAME]);
        // `master_down` stays on a Sentinel for long: it is what that one said last of an earlier master.
        let is_down = |server: &BTreeMap<String, String>| {
            server["flags"].split(',').any(|flag| ["s_down", "o_down", "disconnected"].contains(&flag))
        };
        let down = found.array().iter().map(fields).find(is_down)?;
        Some(format!("Sentinel {} says {} is {}", sentinel.port(), down["name"], down["flags"]))
    })
}

/// Names and values that follow each other.
fn fields(reply: &Value) -> BTreeMap<String, String> {
    reply.array().chunks_exact(2).map(|pair| (pair[0].text(), pair[1].text())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(views: [Option<u16>; 3], expected: Option<u16>) {
        assert_eq!(majority(&views), expected, "{views:?}");
    }

    #[test]
    fn two_of_three_make_a_majority() {
        check([Some(1), Some(1), Some(1)], Some(1));
        check([Some(1), Some(2), Some(2)], Some(2));
        check([Some(2), None, Some(2)], Some(2));
        check([Some(1), None, Some(2)], None);
        check([None, None, Some(2)], None);
    }

    #[test]
    fn an_error_names_no_port() {
        assert_eq!(port_in(&Value::Error("NOAUTH".to_owned())), None);
        assert_eq!(port_in(&Value::Nil), None);
        let address = [b"127.0.0.1".to_vec(), b"6379".to_vec()].map(Value::Bulk);
        assert_eq!(port_in(&Value::Array(address.into())), Some(6379));
    }
}
