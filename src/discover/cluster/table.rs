//! What one node says of all nodes: the pure readers of `CLUSTER NODES`, `SHARDS`, `SLOTS` and `INFO`.
//!
//! `CLUSTER NODES` says most: who is suspected, who holds which epoch, which slots are being moved. The two
//! others stand in for it where a user may not run it. `CLUSTER SHARDS` also says who belongs together when a
//! master is dead and another one has its slots (7.2 and later).
//! <https://redis.io/docs/latest/commands/cluster-nodes/>, <https://redis.io/docs/latest/commands/cluster-shards/>,
//! <https://redis.io/docs/latest/commands/cluster-slots/>, <https://redis.io/docs/latest/commands/cluster-info/>
//!
//! What a newcomer would get wrong: only the line of a node about itself (`myself`) is its own claim; all
//! other lines are hearsay, and a suspicion (`fail?`) is the teller's alone.

use super::{Node, SLOTS};
use crate::connect::Reply;
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// Nodes of a Cluster at most: twice of what the manual advises against. More is taken for no answer.
pub const MOST_NODES: usize = 2000;

/// What a node does, as somebody says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// It has slots, or could have.
    Master,
    /// It copies a master.
    Replica,
}

/// How a node is, as somebody says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nothing is said against it.
    #[default]
    Fine,
    /// The teller does not reach it: `fail?`.
    Suspected,
    /// Most masters do not reach it: `fail`.
    Failed,
}

/// One node as another one, or itself, tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its node id.
    pub id: String,
    /// Where it is reached; `None` where the teller does not know.
    pub node: Option<Node>,
    /// Whether the teller speaks of itself.
    pub is_myself: bool,
    /// What it does; `None` where it is not known yet.
    pub role: Option<Role>,
    /// How it is.
    pub state: State,
    /// Whether the teller has only just met it: its id is made up then.
    pub is_handshake: bool,
    /// Whether its address is not known any more.
    pub has_no_address: bool,
    /// Whether it never takes its master's place.
    pub is_no_candidate: bool,
    /// Whether the teller is connected with it.
    pub is_linked: bool,
    /// The id of its master.
    pub master: Option<String>,
    /// Its configuration epoch, of a replica that of its master. 0 where the command does not tell.
    pub epoch: u64,
    /// The slots that it serves.
    pub slots: Vec<RangeInclusive<u16>>,
    /// Slots on their way out, and to whom. Nodes say this of themselves only.
    pub migrating: Vec<(u16, String)>,
    /// Slots on their way in, and from whom.
    pub importing: Vec<(u16, String)>,
    /// The id of its shard, where the server tells.
    pub shard: Option<String>,
}

impl Row {
    /// A row that says nothing yet; `None` for an id that is none.
    fn new(id: &str) -> Option<Self> {
        is_id(id).then(|| Self {
            id: id.to_owned(),
            node: None,
            is_myself: false,
            role: None,
            state: State::Fine,
            is_handshake: false,
            has_no_address: false,
            is_no_candidate: false,
            is_linked: true,
            master: None,
            epoch: 0,
            slots: vec![],
            migrating: vec![],
            importing: vec![],
            shard: None,
        })
    }

    /// Reads one line of `CLUSTER NODES`: `id ip:port@bus[,hostname[,key=value…]] flags master ping pong epoch
    /// link [slots…]`; `None` for what is no such line.
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let mut next = || fields.next();
        let (id, address, flags, master) = (next()?, next()?, next()?, next()?);
        let (_ping, _pong, epoch, link) = (next()?, next()?, next()?, next()?);
        let shard = address.split(',').find_map(|part| part.strip_prefix("shard-id="));
        let mut row = Self {
            node: Node::announced(address),
            master: (master != "-").then(|| master.to_owned()),
            epoch: epoch.parse().ok()?,
            is_linked: link == "connected",
            shard: shard.filter(|id| is_id(id)).map(str::to_owned),
            ..Self::new(id)?
        };
        for flag in flags.split(',') {
            match flag {
                "myself" => row.is_myself = true,
                "master" => row.role = Some(Role::Master),
                "slave" | "replica" => row.role = Some(Role::Replica),
                "fail?" => row.state = row.state.max(State::Suspected),
                "fail" => row.state = State::Failed,
                "handshake" => row.is_handshake = true,
                "noaddr" => row.has_no_address = true,
                "nofailover" => row.is_no_candidate = true,
                _ => {}
            }
        }
        let mut covered = Covered::default();
        for slots in fields {
            row.take_slots(slots, &mut covered)?;
        }
        Some(row)
    }

    /// `5461`, `0-5460`, `[93->-id]` (on its way out) or `[93-<-id]` (on its way in).
    fn take_slots(&mut self, word: &str, covered: &mut Covered) -> Option<()> {
        let slot = |text: &str| text.parse().ok().filter(|slot| *slot < SLOTS);
        if let Some(moving) = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
            let (slot, id, list) = match (moving.split_once("->-"), moving.split_once("-<-")) {
                (Some((at, id)), _) => (slot(at)?, id, &mut self.migrating),
                (None, Some((at, id))) => (slot(at)?, id, &mut self.importing),
                (None, None) => return None,
            };
            return (list.len() < usize::from(SLOTS)).then(|| list.push((slot, id.to_owned())));
        }
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        self.slots.push(covered.add(slot(first)?..=slot(last)?)?);
        Some(())
    }

    /// Whether the teller calls it a node of the cluster that one can go to.
    pub fn is_member(&self) -> bool {
        !self.is_handshake && !self.has_no_address && self.node.is_some()
    }
}

/// How many slots one row has named: nobody serves more than there are, and one reply must not say the same
/// range a million times.
#[derive(Clone, Copy, Debug, Default)]
struct Covered(usize);

impl Covered {
    /// The range, if there is a slot in it and room for all of them.
    fn add(&mut self, range: RangeInclusive<u16>) -> Option<RangeInclusive<u16>> {
        self.0 += range.len();
        (!range.is_empty() && self.0 <= usize::from(SLOTS)).then_some(range)
    }
}

/// What one node says of all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The nodes.
    pub rows: Vec<Row>,
    /// Ids of nodes that make one shard, where the command says so.
    pub shards: Vec<Vec<String>>,
}

impl Table {
    /// Reads the reply to `CLUSTER NODES`; `None` if it has another form.
    pub fn from_nodes(reply: Reply<'_>) -> Option<Self> {
        let rows: Option<Vec<_>> = reply.text()?.lines().take(MOST_NODES + 1).map(Row::parse).collect();
        Self { rows: rows?, shards: vec![] }.within_limits()
    }

    /// Reads the reply to `CLUSTER SHARDS` (7.0 and later), in the flat form of RESP2 or with the maps of RESP3.
    pub fn from_shards(reply: Reply<'_>) -> Option<Self> {
        let mut table = Self::default();
        for shard in reply.items()? {
            let slots = ranges(shard.field("slots")?)?;
            let shard_id = shard.field("id").or_else(|| shard.field("shard-id")).and_then(Reply::text);
            let shard_id = shard_id.filter(|id| is_id(id));
            let mut rows = vec![];
            for node in shard.field("nodes")?.items()?.take(MOST_NODES + 1) {
                rows.push(Row { shard: shard_id.map(str::to_owned), ..shard_node(node)? });
            }
            // A dead master stands beside the one that has its slots now.
            let is_master = |row: &&mut Row| row.role == Some(Role::Master);
            let master = rows.iter_mut().filter(is_master).min_by_key(|row| row.state);
            let master = master.map(|row| {
                row.slots = slots;
                row.id.clone()
            });
            for row in rows.iter_mut().filter(|row| row.role == Some(Role::Replica)) {
                row.master = master.clone();
            }
            table.shards.push(rows.iter().map(|row| row.id.clone()).collect());
            table.rows.append(&mut rows);
            if table.rows.len() > MOST_NODES {
                return None;
            }
        }
        table.within_limits()
    }

    /// Reads the reply to `CLUSTER SLOTS`, which names only masters with slots and their reachable replicas.
    pub fn from_slots(reply: Reply<'_>) -> Option<Self> {
        let mut table = Self::default();
        let mut places: HashMap<String, (usize, Covered)> = HashMap::new();
        for entry in reply.items()? {
            let mut entry = entry.items()?;
            let mut number = || slot(entry.next()?);
            let range = number()?..=number()?;
            if range.is_empty() {
                return None;
            }
            let mut master: Option<String> = None;
            for node in entry {
                let row = slots_node(node)?;
                let role = if master.is_none() { Role::Master } else { Role::Replica };
                let row = Row { role: Some(role), master: master.clone(), ..row };
                master.get_or_insert_with(|| row.id.clone());
                let (at, covered) = places.entry(row.id.clone()).or_insert_with(|| {
                    table.rows.push(row);
                    (table.rows.len() - 1, Covered::default())
                });
                if role == Role::Master {
                    table.rows[*at].slots.push(covered.add(range.clone())?);
                }
                if table.rows.len() > MOST_NODES {
                    return None;
                }
            }
        }
        table.within_limits()
    }

    /// The same with what another one says of who belongs together.
    pub fn with_shards(mut self, other: Self) -> Self {
        let named: HashMap<&str, &str> =
            other.rows.iter().filter_map(|row| Some((&*row.id, row.shard.as_deref()?))).collect();
        for row in self.rows.iter_mut().filter(|row| row.shard.is_none()) {
            row.shard = named.get(&*row.id).map(|shard| (*shard).to_owned());
        }
        self.shards = other.shards;
        self
    }

    /// Takes the row of this node for what the teller says of itself.
    pub fn call_myself(&mut self, id: &str) {
        for row in self.rows.iter_mut().filter(|row| row.id == id) {
            row.is_myself = true;
        }
    }

    fn within_limits(self) -> Option<Self> {
        (!self.rows.is_empty() && self.rows.len() <= MOST_NODES).then_some(self)
    }

    /// What the teller says of itself.
    pub fn myself(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.is_myself)
    }
}

/// Whether this can be the id of a node or a shard: servers make 40 hexadecimal digits, those that stand in
/// for them names of letters, digits, `-`, `_` and `.`. More would be names without end in labels and in our memory.
pub fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn slot(reply: Reply<'_>) -> Option<u16> {
    reply.integer()?.try_into().ok().filter(|slot| *slot < SLOTS)
}

/// `first, last, first, last …`.
fn ranges(reply: Reply<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    let (mut found, mut covered) = (vec![], Covered::default());
    for (first, last) in reply.pairs()? {
        found.push(covered.add(slot(first)?..=slot(last)?)?);
    }
    Some(found)
}

/// A host that is one: `?` stands for a host name that was never announced.
fn known(host: &str) -> Option<&str> {
    (!host.is_empty() && host != "?").then_some(host)
}

fn port(reply: Reply<'_>) -> Option<u16> {
    reply.integer()?.try_into().ok().filter(|port| *port != 0)
}

/// A node of `CLUSTER SHARDS`.
fn shard_node(node: Reply<'_>) -> Option<Row> {
    let text = |key| node.field(key).and_then(Reply::text);
    // Where both ports are open, the plain one is named: we cannot know which of them our profile is for,
    // and `CLUSTER NODES`, which names that of the asking connection, is asked first.
    let port = node.field("port").or_else(|| node.field("tls-port")).and_then(port);
    let ip = text("ip").or_else(|| text("endpoint")).and_then(known).unwrap_or_default().to_owned();
    let hostname = text("hostname").and_then(known).map(str::to_owned);
    Some(Row {
        node: port.map(|port| Node { ip, port, hostname }),
        role: match text("role")? {
            "master" => Some(Role::Master),
            _ => Some(Role::Replica),
        },
        // `loading` is no failure.
        state: if text("health") == Some("fail") { State::Failed } else { State::Fine },
        ..Row::new(text("id")?)?
    })
}

/// A node of `CLUSTER SLOTS`: `endpoint, port, id, metadata`, the last from 7.0 on.
fn slots_node(node: Reply<'_>) -> Option<Row> {
    let mut fields = node.items()?;
    let (endpoint, at, id, more) = (fields.next()?, fields.next()?, fields.next()?, fields.next());
    let told = |key| more.and_then(|more| more.field(key)).and_then(Reply::text).and_then(known);
    let endpoint = endpoint.text().and_then(known).unwrap_or_default();
    let node = |port| Node {
        ip: told("ip").unwrap_or(endpoint).to_owned(),
        port,
        hostname: told("hostname").map(str::to_owned),
    };
    Some(Row { node: port(at).map(node), ..Row::new(id.text()?)? })
}

/// What a node says of the cluster as a whole: `CLUSTER INFO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Whether it would answer queries: `cluster_state:ok`.
    pub is_ok: Option<bool>,
    /// The newest epoch that it has heard of.
    pub epoch: u64,
    /// Slots of masters that it suspects, and of such that have failed.
    pub troubled: (u64, u64),
    /// How many nodes it knows.
    pub nodes: u64,
    /// How many of them serve slots.
    pub masters: u64,
}

impl Info {
    /// Reads the reply to `CLUSTER INFO`; `None` if it has another form.
    pub fn parse(reply: Reply<'_>) -> Option<Self> {
        let text = reply.text()?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = |name| field(name).and_then(|number| number.parse().ok()).unwrap_or(0);
        Some(Self {
            is_ok: Some(field("cluster_state")? == "ok"),
            epoch: number("cluster_current_epoch"),
            troubled: (number("cluster_slots_pfail"), number("cluster_slots_fail")),
            nodes: number("cluster_known_nodes"),
            masters: number("cluster_size"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::replay::Replay;
    use crate::connect::{Batch, Converse, Deadline, Replies};
    use std::path::PathBuf;
    use tokio::time::Instant;

    const A: &str = "67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1";

    fn row(rest: &str) -> Option<Row> {
        Row::parse(&format!("{A} {rest}"))
    }

    #[test]
    fn every_flag_of_a_node_is_understood() {
        let of = |flags: &str| row(&format!("10.0.0.1:1@2 {flags} - 0 0 7 connected")).expect(flags);
        let check = |flags: &str, expected: fn(&mut Row)| {
            let mut row = of("noflags");
            expected(&mut row);
            assert_eq!(of(flags), row, "{flags}");
        };
        check("master", |row| row.role = Some(Role::Master));
        check("slave", |row| row.role = Some(Role::Replica));
        check("myself,master", |row| (row.is_myself, row.role) = (true, Some(Role::Master)));
        check("master,fail?", |row| (row.state, row.role) = (State::Suspected, Some(Role::Master)));
        check("master,fail", |row| (row.state, row.role) = (State::Failed, Some(Role::Master)));
        check("slave,fail,nofailover", |row| {
            (row.state, row.role, row.is_no_candidate) = (State::Failed, Some(Role::Replica), true);
        });
        check("handshake", |row| row.is_handshake = true);
        check("slave,noaddr", |row| (row.has_no_address, row.role) = (true, Some(Role::Replica)));
    }

    #[test]
    fn slots_and_their_moves_are_read() {
        let check = |words: &str, expected: Option<(usize, usize, usize)>| {
            let found = row(&format!("10.0.0.1:1@2 myself,master - 0 0 7 connected {words}"));
            let count = |row: Row| {
                (row.slots.iter().map(|range| range.len()).sum(), row.migrating.len(), row.importing.len())
            };
            assert_eq!(found.map(count), expected, "{words}");
        };
        check("", Some((0, 0, 0)));
        check("0-5460 5462 16383", Some((5463, 0, 0)));
        check(&format!("0-9 [3->-{A}] [77-<-{A}] [78-<-{A}]"), Some((10, 1, 2)));
        check("16384", None);
        check("9-3", None);
        check("[3]", None);
        check("0-16383", Some((16384, 0, 0)));
        check("0-16383 0", None);
        check(&"5 ".repeat(16384), Some((16384, 0, 0)));
        check(&"5 ".repeat(16385), None);
        let many = |way: &str, count| format!("[7{way}{A}] ").repeat(count);
        check(&many("->-", 16384), Some((0, 16384, 0)));
        check(&many("->-", 16385), None);
        check(&many("-<-", 16384), Some((0, 0, 16384)));
        check(&many("-<-", 16385), None);
        check("x", None);
    }

    #[test]
    fn a_line_says_where_a_node_is_and_to_whom_it_belongs() {
        let line = "10.0.0.1:1@2,cache-1,shard-id=ab slave 33 0 0 7 disconnected";
        let found = row(line).expect("a line");
        let node = Node { ip: "10.0.0.1".into(), port: 1, hostname: Some("cache-1".into()) };
        assert_eq!((found.node.as_ref(), found.is_linked, found.epoch), (Some(&node), false, 7));
        assert_eq!((found.master.as_deref(), found.shard.as_deref()), (Some("33"), Some("ab")));
        assert!(found.is_member());
        for absent in
            [":0@0 master,noaddr - 0 0 0 x", "10.0.0.1:1@2 handshake - 0 0 0 x", ":0@0 slave 3 0 0 0 x"]
        {
            assert!(!row(absent).expect(absent).is_member(), "{absent}");
        }
        for strange in ["", "10.0.0.1:1@2 master", "10.0.0.1:1@2 master - 0 0 x connected"] {
            assert_eq!(row(strange), None, "{strange}");
        }
    }

    #[tokio::test]
    async fn ids_are_letters_and_digits_and_not_without_end() {
        for (id, expected) in [
            ("a", true),
            (A, true),
            (&*"x".repeat(64), true),
            (&*"x".repeat(65), false),
            ("a+", false),
            ("node-1.a_b", true),
            ("a/b", false),
            ("ü", false),
        ] {
            let line = format!("{id} 10.0.0.1:1@2 master - 0 0 1 connected");
            assert_eq!(Row::parse(&line).is_some(), expected, "{id}");
            let line = format!("{A} 10.0.0.1:1@2,,shard-id={id} master - 0 0 1 connected");
            let shard = Row::parse(&line).expect("a line").shard;
            assert_eq!(shard, expected.then(|| id.to_owned()), "{id}");
            let word = |id: &str| format!("${}\r\n{id}\r\n", id.len());
            let slots = format!("*1\r\n*3\r\n:0\r\n:9\r\n*3\r\n+h\r\n:1\r\n{}", word(id));
            assert_eq!(read(slots.as_bytes(), Table::from_slots).await.is_some(), expected, "{id}");
            let shards = |node: &str, shard: &str| {
                let node = format!("*1\r\n%2\r\n+id\r\n{}+role\r\n+master\r\n", word(node));
                format!("*1\r\n%3\r\n+slots\r\n*0\r\n+nodes\r\n{node}+id\r\n{}", word(shard))
            };
            let table = read(shards(id, "s").as_bytes(), Table::from_shards).await;
            assert_eq!(table.is_some(), expected, "{id}");
            let table = read(shards("a", id).as_bytes(), Table::from_shards).await.expect("a table");
            assert_eq!(table.rows[0].shard, expected.then(|| id.to_owned()), "{id}");
        }
    }

    async fn read<T>(bytes: &[u8], read: fn(Reply<'_>) -> Option<T>) -> Option<T> {
        let mut server = Replay::default();
        server.record("CLUSTER X", bytes);
        let (mut batch, mut replies) = (Batch::default(), Replies::default());
        batch.push(&["CLUSTER", "X"]);
        server.ask(&batch, &mut replies, Deadline::until(Instant::now())).await.expect("a whole reply");
        read(replies.get(0)?)
    }

    /// Who has how many slots, by port, with the port of its master.
    fn written(table: &Table) -> String {
        let port = |row: &Row| row.node.as_ref().map_or(0, |node| node.port);
        let of = |id: &String| table.rows.iter().find(|row| row.id == *id).map_or(0, port);
        let mut lines: Vec<_> = table
            .rows
            .iter()
            .map(|row| match &row.master {
                Some(master) => format!("{}<{}", port(row), of(master)),
                None => {
                    let slots: usize = row.slots.iter().map(|range| range.len()).sum();
                    let failed = if row.state == State::Failed { "!" } else { "" };
                    format!("{}={slots}{failed}", port(row))
                }
            })
            .collect();
        lines.sort();
        lines.join(" ")
    }

    fn recorded(machine: &str, command: &str) -> Option<Vec<u8>> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/replies").join(machine);
        std::fs::read(path.join(command)).ok()
    }

    /// A recorded text for people as a bulk string.
    fn bulk(text: &[u8]) -> Vec<u8> {
        [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
    }

    #[tokio::test]
    async fn recorded_clusters_say_the_same_in_all_commands_and_both_protocols() {
        // The master on 18031 is dead; the replica that took its place differs from run to run.
        for (machine, new, first, second) in [
            ("redis-7.0.15", 18034, "18033<18030", "18035<18032"),
            ("redis-8.2.3", 18035, "18034<18030", "18033<18032"),
            ("valkey-9.1.2", 18034, "18033<18030", "18035<18032"),
        ] {
            let machine = format!("{machine}-cluster-master-after-failover");
            let masters = format!("18030=5461 18031=0! 18032=5461 {first} {new}=5462 {second}");
            let mut expected: Vec<_> = masters.split(' ').collect();
            expected.sort_unstable();
            let whole = expected.join(" ");
            expected.retain(|line| !line.ends_with('!'));
            let living = expected.join(" ");
            for protocol in ["resp2", "resp3"] {
                let get = |command: &str| {
                    recorded(&machine, &format!("{command}.{protocol}")).expect("a recorded reply")
                };
                let nodes = read(&get("cluster_nodes"), Table::from_nodes).await.expect("nodes");
                assert_eq!(written(&nodes), whole, "{machine} {protocol} NODES");
                assert_eq!(nodes.myself().map(|row| row.epoch), Some(3), "{machine}");
                let shards = read(&get("cluster_shards"), Table::from_shards).await.expect("shards");
                assert_eq!(written(&shards), whole, "{machine} {protocol} SHARDS");
                let slots = read(&get("cluster_slots"), Table::from_slots).await.expect("slots");
                assert_eq!(written(&slots), living, "{machine} {protocol} SLOTS");
                let info = read(&get("cluster_info"), Info::parse).await.expect("info");
                assert_eq!(
                    info,
                    Info { is_ok: Some(true), epoch: 7, troubled: (0, 0), nodes: 6, masters: 3 },
                    "{machine} {protocol} INFO"
                );
            }
        }
    }

    #[tokio::test]
    async fn cluster_nodes_of_every_recorded_version_are_read() {
        for version in [
            "redis-6.0.16",
            "redis-6.2.14",
            "redis-7.0.15",
            "redis-8.0.6",
            "redis-8.2.3",
            "valkey-8.0.1",
            "valkey-8.1.1",
            "valkey-9.0.0",
            "valkey-9.1.2",
        ] {
            for (role, dead) in
                [("cluster-master", 0), ("cluster-replica", 0), ("cluster-master-after-failover", 1)]
            {
                let machine = format!("{version}-{role}");
                let text = recorded(&machine, "cluster_nodes.txt").expect(&machine);
                let table = read(&bulk(&text), Table::from_nodes).await.expect(&machine);
                let count = |state| table.rows.iter().filter(|row| row.state == state).count();
                assert_eq!((table.rows.len(), count(State::Failed)), (6, dead), "{machine}");
                assert!(table.myself().is_some_and(Row::is_member), "{machine}");
            }
        }
    }

    #[tokio::test]
    async fn shards_of_valkey_9_1_have_ids_and_name_dead_masters_beside_the_living() {
        let reply = recorded("valkey-9.1.2-cluster-master-after-failover", "cluster_shards.resp3");
        let table = read(&reply.expect("a recorded reply"), Table::from_shards).await.expect("shards");
        assert!(table.rows.iter().all(|row| row.shard.as_ref().is_some_and(|id| id.len() == 40)));
        assert_eq!(table.shards.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2]);
    }

    #[tokio::test]
    async fn nobody_serves_more_slots_than_there_are_and_no_range_is_empty() {
        let all = "0 16383 ".to_owned();
        for (ranges, expected) in [
            ("5 3".to_owned(), None),
            ("5 16384".to_owned(), None),
            ("3 5".to_owned(), Some(3)),
            (all.clone(), Some(16384)),
            (all + "7 7", None),
            ("7 7 ".repeat(16384), Some(16384)),
            ("7 7 ".repeat(16385), None),
        ] {
            let count = |table: Table| table.rows[0].slots.iter().map(|range| range.len()).sum::<usize>();
            let numbers: Vec<_> = ranges.split_ascii_whitespace().collect();
            let entry =
                |range: &[&str]| format!("*3\r\n:{}\r\n:{}\r\n*3\r\n+h\r\n:1\r\n+a\r\n", range[0], range[1]);
            let entries: String = numbers.chunks(2).map(entry).collect();
            let slots = format!("*{}\r\n{entries}", numbers.len() / 2);
            let found = read(slots.as_bytes(), Table::from_slots).await.map(count);
            assert_eq!(found, expected, "SLOTS {ranges:.20}");
            let flat: String = numbers.iter().map(|number| format!(":{number}\r\n")).collect();
            let node = "+nodes\r\n*1\r\n%2\r\n+id\r\n+a\r\n+role\r\n+master\r\n";
            let shards = format!("*1\r\n%2\r\n+slots\r\n*{}\r\n{flat}{node}", numbers.len());
            let found = read(shards.as_bytes(), Table::from_shards).await.map(count);
            assert_eq!(found, expected, "SHARDS {ranges:.20}");
        }
    }

    #[test]
    fn shards_are_named_by_node_id_and_none_is_taken_away() {
        let named = |id: &str, shard: Option<&str>| Row {
            shard: shard.map(str::to_owned),
            ..Row::new(id).expect("an id")
        };
        let table = |rows| Table { rows, shards: vec![] };
        let nodes = table(vec![named("a", None), named("b", Some("y")), named("c", None)]);
        let shards = table(vec![named("b", Some("z")), named("a", Some("x")), named("d", Some("w"))]);
        let found = nodes.with_shards(shards).rows.into_iter().map(|row| row.shard);
        assert_eq!(found.collect::<Vec<_>>(), [Some("x".into()), Some("y".into()), None]);
    }

    #[tokio::test]
    async fn host_names_that_were_never_announced_are_none() {
        let node = "*4\r\n+?\r\n:1\r\n+a\r\n%2\r\n+ip\r\n+10.0.0.1\r\n+hostname\r\n+?\r\n";
        let slots = format!("*1\r\n*3\r\n:0\r\n:9\r\n{node}");
        let table = read(slots.as_bytes(), Table::from_slots).await.expect("slots");
        let expected = Node { ip: "10.0.0.1".into(), port: 1, hostname: None };
        assert_eq!(table.rows[0].node, Some(expected));
        let named =
            "%5\r\n+id\r\n+a\r\n+tls-port\r\n:7\r\n+ip\r\n+\r\n+hostname\r\n+h\r\n+role\r\n+replica\r\n";
        let shards = format!("*1\r\n%2\r\n+slots\r\n*0\r\n+nodes\r\n*1\r\n{named}");
        let table = read(shards.as_bytes(), Table::from_shards).await.expect("shards");
        let expected = Node { ip: String::new(), port: 7, hostname: Some("h".into()) };
        assert_eq!((table.rows[0].node.clone(), table.rows[0].role), (Some(expected), Some(Role::Replica)));
    }

    #[tokio::test]
    async fn what_has_another_form_is_no_answer() {
        for strange in ["+OK\r\n", "*1\r\n:1\r\n", "*0\r\n", "$-1\r\n", "-ERR no\r\n"] {
            let bytes = strange.as_bytes();
            assert_eq!(read(bytes, Table::from_nodes).await, None, "{strange:?}");
            assert_eq!(read(bytes, Table::from_shards).await, None, "{strange:?}");
            assert_eq!(read(bytes, Table::from_slots).await, None, "{strange:?}");
            assert_eq!(read(bytes, Info::parse).await, None, "{strange:?}");
        }
        let line = format!("{A} 10.0.0.1:1@2 master - 0 0 1 connected\n");
        assert!(read(&bulk(line.repeat(MOST_NODES).as_bytes()), Table::from_nodes).await.is_some());
        assert_eq!(read(&bulk(line.repeat(MOST_NODES + 1).as_bytes()), Table::from_nodes).await, None);
    }
}
