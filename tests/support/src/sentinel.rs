//! A master with two replicas and three Sentinels that watch over it.

use std::time::Duration;

use crate::server::ServerBuilder;
use crate::{Part, Server, Value, wait_until};

/// The name the Sentinels know the master by.
const NAME: &str = "mymaster";
/// How long it may take until all know each other.
const DISCOVERY: Duration = Duration::from_secs(30);

/// Six processes: two kinds of server, one service.
#[derive(Debug)]
pub struct SentinelSet {
    /// The data nodes; the first one began as the master.
    pub nodes: Vec<Server>,
    /// The Sentinels.
    pub sentinels: Vec<Server>,
}

impl SentinelSet {
    /// The name of the service.
    pub const NAME: &'static str = NAME;

    /// Starts all six and waits until every Sentinel knows both replicas and both other Sentinels.
    pub fn start(part: Part) -> Self {
        let master = Server::start(part);
        let replica = |_| Server::builder(part).replica_of(&master).start();
        let replicas: Vec<Server> = (0..2).map(replica).collect();
        replicas.iter().for_each(Server::wait_replicated);
        let mut nodes = vec![master];
        nodes.extend(replicas);
        let watch = |_| {
            let lines = [
                "bind 127.0.0.1".to_owned(),
                format!("sentinel monitor {NAME} 127.0.0.1 {} 2", nodes[0].port()),
                format!("sentinel down-after-milliseconds {NAME} 1000"),
                format!("sentinel failover-timeout {NAME} 10000"),
            ];
            ServerBuilder::sentinel(part, lines.into()).start()
        };
        let sentinels: Vec<Server> = (0..3).map(watch).collect();
        let set = Self { nodes, sentinels };
        wait_until("the Sentinels to know each other", DISCOVERY, || set.sentinels.iter().all(knows_all));
        set
    }

    /// The port of the master as the first Sentinel that answers sees it.
    pub fn master_port(&self) -> u16 {
        let reply = self.sentinels[0].ok(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
        reply.array()[1].text().parse().expect("a Sentinel names a port")
    }

    /// The node that is the master in the eyes of the Sentinels.
    pub fn master(&mut self) -> &mut Server {
        let port = self.master_port();
        self.nodes.iter_mut().find(|node| node.port() == port).expect("the master is one of the nodes")
    }

    /// Waits until all Sentinels name a master other than `old`; allow 15 s.
    pub fn wait_for_failover(&self, old: u16, limit: Duration) {
        wait_until("the failover", limit, || {
            let address = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
            let differs = |sentinel: &Server| sentinel.ok(&address).array()[1].text() != old.to_string();
            self.sentinels.iter().all(differs)
        });
    }
}

fn knows_all(sentinel: &Server) -> bool {
    let reply = sentinel.ok(&["SENTINEL", "MASTER", NAME]);
    let fields: Vec<String> = reply.array().iter().map(Value::text).collect();
    let field = |name: &str| fields.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str());
    field("num-slaves") == Some("2")
        && field("num-other-sentinels") == Some("2")
        && field("flags") == Some("master")
}
