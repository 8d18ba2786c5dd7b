//! A real Redis or Valkey Cluster.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use crate::{Part, Server, wait_until};

/// How long forming a cluster may take.
const FORMING: Duration = Duration::from_secs(30);

/// Nodes that form a cluster and cover all slots.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, in the order of their start.
    pub nodes: Vec<Server>,
}

impl Cluster {
    /// Starts `masters` masters with `replicas` replicas each, and waits until every node knows all the others,
    /// calls the cluster sound and, being a replica, has its master's data.
    pub fn start(part: Part, masters: usize, replicas: usize) -> Self {
        let count = masters * (1 + replicas);
        let node = |_| Server::builder(part).cluster_node().start();
        let nodes: Vec<Server> = (0..count).map(node).collect();
        let mut create = Command::new(Part::RedisCli.path());
        create.args(["--cluster", "create"]).args(nodes.iter().map(Server::address));
        create.args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"]);
        let output = create.output().unwrap_or_else(|error| panic!("redis-cli: {error}"));
        assert!(
            output.status.success(),
            "redis-cli --cluster create: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        let cluster = Self { nodes };
        wait_until("the cluster to form", FORMING, || {
            cluster.nodes.iter().all(|node| is_settled(node, count))
        });
        cluster
    }

    /// The nodes that are masters now.
    pub fn masters(&self) -> Vec<&Server> {
        self.with_role("master")
    }

    /// The nodes that are replicas now.
    pub fn replicas(&self) -> Vec<&Server> {
        self.with_role("slave")
    }

    fn with_role(&self, role: &str) -> Vec<&Server> {
        self.nodes.iter().filter(|node| node.info("replication")["role"] == role).collect()
    }

    /// `127.0.0.1:PORT` of every node, by the node's id.
    pub fn ids(&self) -> BTreeMap<String, String> {
        self.nodes.iter().map(|node| (node.ok(&["CLUSTER", "MYID"]).text(), node.address())).collect()
    }

    /// Sets a key on the node whose slot it falls into, whichever that is.
    pub fn set(&self, key: &str, value: &str) {
        let stored = self.masters().iter().any(|node| !node.command(&["SET", key, value]).is_error());
        assert!(stored, "no node takes the key {key}");
    }
}

fn is_settled(node: &Server, count: usize) -> bool {
    let text = node.ok(&["CLUSTER", "INFO"]).text();
    let has = |wanted: &str| text.lines().any(|line| line == wanted);
    let replication = node.info("replication");
    let in_step = replication["role"] == "master"
        || replication.get("master_link_status").is_some_and(|status| status == "up");
    has("cluster_state:ok") && has(&format!("cluster_known_nodes:{count}")) && in_step
}
