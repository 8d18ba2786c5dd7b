//! A real Redis or Valkey Cluster, which grows, shrinks, moves slots and fails over while it runs.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use crate::{Part, Server, wait_for, wait_until};

/// How long forming a cluster may take.
const FORMING: Duration = Duration::from_secs(30);

/// Nodes that form a cluster and cover all slots.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, in the order of their start. A new one comes last.
    pub nodes: Vec<Server>,
}

/// What a node is to be in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A master without slots: [`Cluster::reshard`] gives it some.
    Master,
    /// A replica of the node with this index.
    ReplicaOf(usize),
}

impl Cluster {
    /// Starts `masters` masters with `replicas` replicas each, and waits until every node knows all the others,
    /// calls the cluster sound and, being a replica, has its master's data.
    pub fn start(part: Part, masters: usize, replicas: usize) -> Self {
        let count = masters * (1 + replicas);
        let node = |_| Server::builder(part).cluster_node().start();
        let nodes: Vec<Server> = (0..count).map(node).collect();
        let mut create = vec!["create".to_owned()];
        create.extend(nodes.iter().map(Server::address));
        create.extend(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"].map(str::to_owned));
        redis_cli(&create);
        let cluster = Self { nodes };
        cluster.wait_until_settled(FORMING);
        cluster
    }

    /// Waits until all nodes say the same of all, call the cluster sound and, being replicas, have their master's
    /// data. All of them have to run.
    pub fn wait_until_settled(&self, limit: Duration) {
        let count = self.nodes.len();
        wait_until("the cluster to settle", limit, || {
            let first = view(&self.nodes[0]);
            let is_whole = first.len() == count && first.values().all(|member| !member.failed);
            is_whole && self.nodes.iter().all(|node| is_settled(node, count) && view(node) == first)
        });
    }

    /// Starts a node, lets it join and waits until all know it. Returns its index.
    pub fn add_node(&mut self, role: Role) -> usize {
        let node = Server::builder(self.nodes[0].part()).cluster_node().start();
        let mut add = vec!["add-node".to_owned(), node.address(), self.nodes[0].address()];
        if let Role::ReplicaOf(master) = role {
            add.push("--cluster-slave".to_owned());
            add.extend(["--cluster-master-id".to_owned(), self.id(master)]);
        }
        redis_cli(&add);
        self.nodes.push(node);
        self.wait_until_settled(FORMING);
        self.nodes.len() - 1
    }

    /// Moves so many slots, with their keys, from one master to another, and waits until all nodes say so.
    pub fn reshard(&self, from: usize, to: usize, slots: usize) {
        let before = self.slots(to);
        redis_cli(&[
            "reshard".to_owned(),
            self.nodes[from].address(),
            "--cluster-from".to_owned(),
            self.id(from),
            "--cluster-to".to_owned(),
            self.id(to),
            "--cluster-slots".to_owned(),
            slots.to_string(),
            "--cluster-yes".to_owned(),
        ]);
        assert_eq!(self.slots(to), before + slots, "the slots have moved");
        self.wait_until_settled(FORMING);
    }

    /// Takes a node out of the cluster, its slots first, where it has any, and ends it. The nodes behind it move up
    /// by one index. Replicas of a removed master find another one by themselves or stay; remove them before it.
    pub fn remove_node(&mut self, index: usize) {
        let slots = self.slots(index);
        if slots > 0 {
            let is_other = |at: &usize| *at != index && self.slots(*at) > 0;
            let heir = (0..self.nodes.len()).find(is_other).expect("another master takes the slots");
            self.reshard(index, heir, slots);
        }
        let through = self.nodes.iter().enumerate().find(|(at, _)| *at != index).expect("another node").1;
        redis_cli(&["del-node".to_owned(), through.address(), self.id(index)]);
        drop(self.nodes.remove(index));
        self.wait_until_settled(FORMING);
    }

    /// Ends a node as a crash would (SIGKILL); [`Server::restart`] brings it back.
    pub fn kill(&mut self, index: usize) {
        self.nodes[index].kill();
    }

    /// Waits until a replica has taken the place of the node with this index, a master that was killed or stopped, and
    /// all other nodes say so. Returns the index of the new master; allow 20 s.
    pub fn wait_for_failover(&self, old: usize, limit: Duration) -> usize {
        let old = self.nodes[old].address();
        wait_for("a replica to become the master", limit, || {
            let others = || self.nodes.iter().filter(|node| node.address() != old);
            let mut heir = None;
            for view in others().map(view) {
                if view.get(&old).is_some_and(|member| member.slots > 0) {
                    return None;
                }
                // An election gives the newest epoch.
                let newest =
                    view.iter().filter(|(_, member)| member.slots > 0).max_by_key(|(_, member)| member.epoch);
                let (address, _) = newest?;
                if heir.get_or_insert_with(|| address.clone()) != address {
                    return None;
                }
            }
            if !others().all(|node| says(node, "cluster_state:ok")) {
                return None;
            }
            self.nodes.iter().position(|node| Some(node.address()) == heir)
        })
    }

    /// Lets a replica take its master's place in good order (`CLUSTER FAILOVER`), and waits until all nodes say so.
    pub fn failover(&self, replica: usize) {
        self.nodes[replica].ok(&["CLUSTER", "FAILOVER"]);
        wait_until("the replica to become the master", FORMING, || self.slots(replica) > 0);
        self.wait_until_settled(FORMING);
    }

    /// Begins to move a slot from one master to another and goes no further: the slot is migrating on one and
    /// importing on the other.
    pub fn set_slot_migrating(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        self.nodes[to].ok(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.id(from)]);
        self.nodes[from].ok(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.id(to)]);
    }

    /// Takes back what [`Self::set_slot_migrating`] began.
    pub fn set_slot_stable(&self, slot: u16, from: usize, to: usize) {
        for node in [from, to] {
            self.nodes[node].ok(&["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"]);
        }
    }

    /// The node's id.
    pub fn id(&self, index: usize) -> String {
        self.nodes[index].ok(&["CLUSTER", "MYID"]).text()
    }

    /// How many slots this node has, in its own eyes.
    pub fn slots(&self, index: usize) -> usize {
        let node = &self.nodes[index];
        view(node).get(&node.address()).map_or(0, |member| member.slots)
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

/// Runs `redis-cli --cluster`; panics with what it said when it fails.
fn redis_cli(args: &[String]) {
    let mut command = Command::new(Part::RedisCli.path());
    let output = command.arg("--cluster").args(args).output();
    let output = output.unwrap_or_else(|error| panic!("redis-cli: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "redis-cli --cluster {}: {said}", args.join(" "));
}

/// What a node says of a member of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    failed: bool,
    /// The id of its master; `-` for a master.
    master: String,
    epoch: u64,
    slots: usize,
}

/// What this node says of all members, by their addresses.
fn view(node: &Server) -> BTreeMap<String, Member> {
    members(&node.ok(&["CLUSTER", "NODES"]).text())
}

/// Reads `CLUSTER NODES`.
fn members(text: &str) -> BTreeMap<String, Member> {
    text.lines().filter_map(member).collect()
}

/// Reads a line such as `ID HOST:PORT@BUS,NAME FLAGS MASTER PINGED PONGED EPOCH LINK SLOTS…`.
fn member(line: &str) -> Option<(String, Member)> {
    let words: Vec<&str> = line.split(' ').collect();
    let address = words.get(1)?.split('@').next()?.to_owned();
    let slots = words.get(8..).unwrap_or_default().iter().filter_map(|range| slots_in(range)).sum();
    let failed =
        words.get(2)?.split(',').any(|flag| matches!(flag, "fail" | "fail?" | "handshake" | "noaddr"));
    let master = (*words.get(3)?).to_owned();
    Some((address, Member { failed, master, epoch: words.get(6)?.parse().ok()?, slots }))
}

/// How many slots a range has; `[93->-ID]`, a slot on its way, has none of its own.
fn slots_in(range: &str) -> Option<usize> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    (last + 1).checked_sub(first)
}

/// Whether CLUSTER INFO has this line.
fn says(node: &Server, wanted: &str) -> bool {
    node.ok(&["CLUSTER", "INFO"]).text().lines().any(|line| line == wanted)
}

fn is_settled(node: &Server, count: usize) -> bool {
    let replication = node.info("replication");
    let in_step = replication["role"] == "master"
        || replication.get("master_link_status").is_some_and(|status| status == "up");
    in_step && says(node, "cluster_state:ok") && says(node, &format!("cluster_known_nodes:{count}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(&str, bool, usize)>) {
        let found = member(line);
        let found = found.as_ref().map(|(address, member)| (address.as_str(), member.failed, member.slots));
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn a_line_says_who_is_where_with_how_many_slots() {
        check(
            "07c3 127.0.0.1:30004@31004,node-4 myself,master - 0 1426238317239 4 connected 0-10 12 [93-<-67ed]",
            Some(("127.0.0.1:30004", false, 12)),
        );
        check(
            "07c3 127.0.0.1:30004@31004 slave 67ed 0 1426238317239 4 connected",
            Some(("127.0.0.1:30004", false, 0)),
        );
        check(
            "07c3 127.0.0.1:30004@31004 master,fail? - 0 0 4 disconnected 5",
            Some(("127.0.0.1:30004", true, 1)),
        );
        check("", None);
    }
}
