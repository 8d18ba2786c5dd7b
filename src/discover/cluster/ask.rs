//! Asks one node, over a connection that is kept, for all that it tells: one round trip as a rule.
//!
//! | command | since | ACL | what for |
//! |---|---|---|---|
//! | `CLUSTER NODES` | 3.0 | `+cluster\|nodes` | the table of all nodes |
//! | `CLUSTER SHARDS` | 7.0 | `+cluster\|shards` | the same, where NODES is refused; who belongs together |
//! | `CLUSTER SLOTS` | 3.0 | `+cluster\|slots` | the same, where both are refused |
//! | `CLUSTER INFO` | 3.0 | `+cluster\|info` | what it thinks of the cluster as a whole |
//! | `CLUSTER MYID` | 3.0 | `+cluster\|myid` | who it is, where no table says so |
//! | `CLUSTER MYSHARDID` | 7.2 | `+cluster\|myshardid` | the name of its shard |
//!
//! Before 7.0 all of it is `+cluster`. A command that is refused is not asked again on the same connection, and
//! costs only what it tells.

use super::table::{Info, Table};
use super::view::Said;
use crate::config::Address;
use crate::connect::{Batch, Connection, Converse, Deadline, Error, Kind, Replies, Reply};

/// A command about the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Nodes,
    Shards,
    Slots,
    Info,
    MyId,
    MyShardId,
}

impl Command {
    /// Those that tell of all nodes, the best first.
    const TABLES: [Self; 3] = [Self::Nodes, Self::Shards, Self::Slots];

    const fn word(self) -> &'static str {
        match self {
            Self::Nodes => "NODES",
            Self::Shards => "SHARDS",
            Self::Slots => "SLOTS",
            Self::Info => "INFO",
            Self::MyId => "MYID",
            Self::MyShardId => "MYSHARDID",
        }
    }
}

/// What a node is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// How it is: a short answer.
    State,
    /// What it says of all nodes.
    Table,
    /// The same, and who belongs together.
    TableWithShards,
}

/// A conversation that is kept, and what was refused in it.
pub struct Session<C = Connection> {
    server: C,
    refused: Vec<Command>,
}

/// Why a node told nothing: in one word, and as a sentence.
pub type Failure = (Kind, String);

impl<C: Converse> Session<C> {
    /// Begins a conversation.
    pub fn new(server: C) -> Self {
        Self { server, refused: vec![] }
    }

    /// Asks the node. An error means that the conversation is over; a [`Failure`] that it goes on, but told
    /// nothing of use.
    pub async fn ask(
        &mut self,
        asked: &Address,
        want: Want,
        deadline: Deadline,
    ) -> Result<Result<Said, Failure>, Error> {
        let asked = asked.clone().without_credentials();
        let mut said = Said { asked, id: None, table: None, info: None, shard: None };
        let mut failure: Option<Failure> = None;
        let mut extra = vec![Command::Info];
        match want {
            Want::State => extra.push(Command::MyId),
            Want::Table => extra.push(Command::MyShardId),
            Want::TableWithShards => extra.extend([Command::MyShardId, Command::Shards]),
        }
        let mut tables = Command::TABLES.into_iter().filter(|_| want != Want::State);
        let (mut batch, mut replies) = (Batch::default(), Replies::default());
        loop {
            let mut commands = std::mem::take(&mut extra);
            if said.table.is_none()
                && let Some(table) = tables.find(|table| !self.refused.contains(table))
            {
                commands.retain(|command| *command != table);
                commands.push(table);
                if table != Command::Nodes {
                    commands.push(Command::MyId);
                }
            }
            commands.retain(|command| !self.refused.contains(command));
            if commands.is_empty() {
                break;
            }
            batch.clear();
            for command in &commands {
                batch.push(&["CLUSTER", command.word()]);
            }
            self.server.ask(&batch, &mut replies, deadline).await?;
            for (command, reply) in commands.iter().zip(replies.iter()) {
                match reply.error() {
                    None if said.take(*command, reply) => {}
                    None => failure = Some((Kind::Protocol, strange(*command))),
                    Some(refusal) => {
                        if refusal.kind().is_lasting() {
                            self.refused.push(*command);
                        }
                        // Of what is missing the table is what matters.
                        if failure.is_none() || Command::TABLES.contains(command) {
                            let text = format!("CLUSTER {} was refused: {}", command.word(), refusal.text());
                            failure = Some((refusal.kind(), text));
                        }
                    }
                }
            }
            if want == Want::State || said.table.is_some() {
                break;
            }
        }
        if let (Some(table), Some(id)) = (&mut said.table, &said.id) {
            table.call_myself(id);
        }
        let missing = match want {
            Want::State => said.id.is_none() && said.info.is_none(),
            Want::Table | Want::TableWithShards => said.table.is_none(),
        };
        let nothing = || (Kind::NoPerm, "every command that tells of the cluster was refused".to_owned());
        Ok(if missing { Err(failure.unwrap_or_else(nothing)) } else { Ok(said) })
    }
}

/// What is said of a reply in another form than the manual's.
fn strange(command: Command) -> String {
    format!("the reply to CLUSTER {} has another form than the manual says", command.word())
}

impl Said {
    /// Takes what one reply tells; false if it has another form.
    fn take(&mut self, command: Command, reply: Reply<'_>) -> bool {
        let id = |reply: Reply<'_>| reply.text().filter(|id| !id.is_empty()).map(str::to_owned);
        match command {
            Command::Info => {
                self.info = Info::parse(reply);
                self.info.is_some()
            }
            Command::MyId => {
                self.id = id(reply);
                self.id.is_some()
            }
            Command::MyShardId => {
                self.shard = id(reply);
                self.shard.is_some()
            }
            Command::Nodes | Command::Shards | Command::Slots => {
                let table = match command {
                    Command::Nodes => Table::from_nodes(reply),
                    Command::Shards => Table::from_shards(reply),
                    _ => Table::from_slots(reply),
                };
                let Some(table) = table else { return false };
                if let Some(myself) = table.myself() {
                    self.id = Some(myself.id.clone());
                }
                // NODES says more than SHARDS, whichever came first.
                self.table = Some(match (self.table.take(), command) {
                    (Some(known), Command::Nodes) => table.with_shards(known),
                    (Some(known), _) => known.with_shards(table),
                    (None, _) => table,
                });
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::replay::Replay;
    use tokio::time::Instant;

    const NODES: &str = "a 10.0.0.1:1@2 myself,master - 0 0 1 connected 0-16383\n";
    const SLOTS: &str = "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n+10.0.0.1\r\n:1\r\n+a\r\n";
    const SHARDS: &str = "*1\r\n%3\r\n+slots\r\n*2\r\n:0\r\n:16383\r\n+nodes\r\n*1\r\n\
        %4\r\n+id\r\n+a\r\n+port\r\n:1\r\n+ip\r\n+10.0.0.1\r\n+role\r\n+master\r\n+id\r\n+s\r\n";
    const NOPERM: &str = "-NOPERM User monitor has no permissions to run this command\r\n";

    fn bulk(text: &str) -> String {
        format!("${}\r\n{text}\r\n", text.len())
    }

    /// What was asked, batch by batch, and what is known then: node id, shard by either way, slots, epoch.
    async fn check(want: Want, replies: &[(&str, &str)], asked: &[&str], expected: Result<&str, Kind>) {
        let mut replay = Replay::default();
        for (command, reply) in replies {
            replay.record(&format!("CLUSTER {command}"), *reply);
        }
        let mut session = Session::new(replay);
        let address = Address::tcp("seed", 7);
        let deadline = Deadline::until(Instant::now());
        let said = session.ask(&address, want, deadline).await.expect("a conversation");
        let found = said.map_err(|failure| failure.0).map(|said| {
            let row = said.table.as_ref().and_then(Table::myself);
            let slots: usize = row.iter().flat_map(|row| &row.slots).map(|range| range.len()).sum();
            let shard = said.shard.as_deref().or(row.and_then(|row| row.shard.as_deref()));
            format!(
                "{} {} {slots} {}",
                said.id.unwrap_or_default(),
                shard.unwrap_or_default(),
                said.info.map_or(0, |info| info.epoch)
            )
        });
        assert_eq!(found.as_ref().map(String::as_str), expected.as_ref().map(|text| *text), "{replies:?}");
        let batches: Vec<String> =
            session.server.asked.iter().map(|batch| batch.join(",").replace("CLUSTER ", "")).collect();
        assert_eq!(batches, asked, "{replies:?}");
    }

    #[tokio::test]
    async fn a_node_tells_in_one_round_trip_what_its_version_and_the_user_allow() {
        let nodes = bulk(NODES);
        let info = bulk("cluster_state:ok\r\ncluster_current_epoch:9\r\n");
        let (nodes, info) = (("NODES", &*nodes), ("INFO", &*info));
        let (all, id) = ("INFO,MYSHARDID,NODES", ("MYID", "+a\r\n"));
        check(Want::Table, &[nodes, info, ("MYSHARDID", "+s\r\n")], &[all], Ok("a s 16384 9")).await;
        check(Want::Table, &[nodes, info], &[all], Ok("a  16384 9")).await;
        check(Want::Table, &[nodes, ("INFO", NOPERM)], &[all], Ok("a  16384 0")).await;
        let with_shards = "INFO,MYSHARDID,SHARDS,NODES";
        check(Want::TableWithShards, &[nodes, ("SHARDS", SHARDS)], &[with_shards], Ok("a s 16384 0")).await;
        check(Want::TableWithShards, &[nodes], &[with_shards], Ok("a  16384 0")).await;
        // NODES is not allowed, or SHARDS neither, which old servers do not know anyway.
        let (no_nodes, no_shards) = (("NODES", NOPERM), ("SHARDS", NOPERM));
        check(Want::Table, &[no_nodes, ("SHARDS", SHARDS), id], &[all, "SHARDS,MYID"], Ok("a s 16384 0"))
            .await;
        let slots = ("SLOTS", SLOTS);
        let batches = [all, "SHARDS,MYID", "SLOTS,MYID"];
        check(Want::Table, &[no_nodes, slots, id], &batches, Ok("a  16384 0")).await;
        check(Want::Table, &[no_nodes, no_shards, slots, id], &batches, Ok("a  16384 0")).await;
        let no_id = [all, "SHARDS,MYID", "SLOTS"];
        check(Want::Table, &[no_nodes, no_shards, ("SLOTS", NOPERM)], &no_id, Err(Kind::NoPerm)).await;
        let disabled = "-ERR This instance has cluster support disabled\r\n";
        check(
            Want::Table,
            &[("NODES", disabled), ("SHARDS", disabled), ("SLOTS", disabled)],
            &no_id,
            Err(Kind::Unsupported),
        )
        .await;
        check(Want::State, &[id, info], &["INFO,MYID"], Ok("a  0 9")).await;
        check(Want::State, &[], &["INFO,MYID"], Err(Kind::Unsupported)).await;
    }

    #[tokio::test]
    async fn what_was_refused_is_not_asked_again() {
        let mut replay = Replay::default();
        replay.record("CLUSTER SLOTS", SLOTS);
        let mut session = Session::new(replay);
        for _ in 0..2 {
            let deadline = Deadline::until(Instant::now());
            let said = session.ask(&Address::tcp("h", 1), Want::TableWithShards, deadline).await;
            assert!(said.expect("a conversation").is_ok());
        }
        assert_eq!(session.server.asked.last(), Some(&vec!["CLUSTER SLOTS".to_owned()]));
    }

    #[tokio::test]
    async fn a_server_that_loads_is_asked_the_same_again() {
        let mut replay = Replay::default();
        let loading = "-LOADING Redis is loading the dataset in memory\r\n";
        for command in ["NODES", "SHARDS", "SLOTS", "INFO", "MYID", "MYSHARDID"] {
            replay.record(&format!("CLUSTER {command}"), loading);
        }
        let mut session = Session::new(replay);
        let deadline = Deadline::until(Instant::now());
        let said = session.ask(&Address::tcp("h", 1), Want::Table, deadline).await.expect("a conversation");
        assert_eq!(said.map(|_| ()).map_err(|failure| failure.0), Err(Kind::Loading));
        assert!(session.refused.is_empty());
    }
}
