//! Which servers hold the keys: the target alone or, in cluster mode, every master of its cluster.
//!
//! In cluster mode the target itself may be a replica; its keys are seen on its master. ACL: `+cluster|slots`,
//! and `+cluster|myid` saves a connection. <https://redis.io/docs/latest/commands/cluster-slots/>
//!
//! Where one node of a Cluster is looked at by itself ([`Work::only_here`]), it is the only server. A replica
//! reads its keys to those alone who said READONLY (SCAN it answers to all): so each batch of key work there
//! begins with it and ends with READWRITE. ACL: `+readonly +readwrite`; without them the keys of a replica can be
//! counted by SCAN and not looked at.
//! <https://redis.io/docs/latest/commands/readonly/>

use super::Pace;
use crate::collect::refusals::Refusals;
use crate::collect::{Failure, Nodes, Work};
use crate::connect::{Batch, Converse, Deadline, Replies, Reply};
use crate::discover::cluster::{Master, slot};
use std::ops::Range;

/// The masters of the target's cluster, and the conversations with them.
pub struct Masters(Vec<Shard>);

struct Shard {
    master: Master,
    talk: Talk,
}

enum Talk {
    /// The target is this master.
    Target,
    Closed,
    Open(Box<dyn Converse>),
}

/// Where key work is done.
pub struct Shards<'a> {
    target: &'a mut (dyn Converse + 'a),
    nodes: &'a dyn Nodes,
    replies: &'a mut Replies,
    batch: Batch,
    deadline: Deadline,
    /// `None`: on the target alone.
    masters: Option<&'a mut Masters>,
    pace: &'a mut Pace,
    may_select: bool,
    only_here: bool,
    /// Whether the target is a replica of a Cluster that is looked at by itself.
    is_replica: bool,
}

impl<'a> Shards<'a> {
    /// Finds out which servers hold the keys. Fails when the cluster does not tell.
    pub async fn open(work: &'a mut Work<'_>) -> Result<(Self, Refusals<'a>), Failure> {
        let Work { server, context, deadline, nodes, replies, refused, masters, pace, only_here } = work;
        let follows = context.config.cluster && !*only_here;
        let is_replica =
            *only_here && context.info.and_then(|info| info.get("role")).is_some_and(|role| role == "slave");
        let may_select = !refused.contains_key("SELECT");
        let mut refusals = Refusals::new(refused);
        let mut batch = Batch::default();
        if follows && masters.is_none() {
            let found = ask_masters(&mut **server, &mut batch, replies, *deadline, &mut refusals).await?;
            *masters = Some(Masters(found));
        }
        let masters = masters.as_mut().filter(|_| follows);
        if masters.is_some() {
            refusals.forget_from_now_on();
        }
        let (nodes, deadline) = (*nodes, *deadline);
        let shards = Self {
            target: &mut **server,
            nodes,
            replies,
            batch,
            deadline,
            masters,
            pace,
            may_select,
            only_here: *only_here,
            is_replica,
        };
        Ok((shards, refusals))
    }

    /// The numbers of the servers that hold keys.
    pub fn all(&self) -> Range<usize> {
        0..self.masters.as_ref().map_or(1, |masters| masters.0.len())
    }

    /// Whether this is cluster mode.
    pub fn is_cluster(&self) -> bool {
        self.masters.is_some() || self.only_here
    }

    /// Whether this is one node of a Cluster, and nobody looks elsewhere.
    pub fn only_here(&self) -> bool {
        self.only_here
    }

    /// The database of a pattern: a Cluster has only one.
    pub fn database(&self, wanted: u32) -> u32 {
        if self.is_cluster() { 0 } else { wanted }
    }

    /// Which server holds the key, by its slot. A slot that nobody serves is asked of the first, which
    /// refuses it.
    pub fn of_key(&self, key: &str) -> usize {
        let Some(masters) = &self.masters else { return 0 };
        let slot = slot(key.as_bytes());
        masters.0.iter().position(|shard| shard.master.serves(slot)).unwrap_or(0)
    }

    /// The server number `index`.
    pub async fn node(&mut self, index: usize) -> Result<Node<'_>, Failure> {
        let server: &mut dyn Converse = match self.masters.as_mut() {
            None => &mut *self.target,
            Some(masters) => {
                let shard = masters.0.get_mut(index).ok_or(Failure::shape("CLUSTER SLOTS"))?;
                if matches!(shard.talk, Talk::Closed) {
                    let Master { host, port, .. } = &shard.master;
                    shard.talk = Talk::Open(self.nodes.connect(host, *port, self.deadline).await?);
                }
                match &mut shard.talk {
                    Talk::Open(talk) => &mut **talk,
                    Talk::Target | Talk::Closed => &mut *self.target,
                }
            }
        };
        Ok(Node {
            server,
            replies: self.replies,
            batch: &mut self.batch,
            deadline: self.deadline,
            pace: self.pace,
            may_select: self.may_select,
            is_replica: self.is_replica,
            detour: None,
        })
    }

    /// Asks again who serves which slots, after a master said that a slot has moved.
    pub async fn refresh(&mut self, refusals: &mut Refusals<'_>) -> Result<(), Failure> {
        let Some(masters) = self.masters.as_mut() else { return Ok(()) };
        let mut found =
            ask_masters(self.target, &mut self.batch, self.replies, self.deadline, refusals).await?;
        for shard in &mut found {
            let same = |old: &&mut Shard| {
                (&old.master.host, old.master.port) == (&shard.master.host, shard.master.port)
            };
            if let (Talk::Closed, Some(old)) = (&shard.talk, masters.0.iter_mut().find(same)) {
                shard.talk = std::mem::replace(&mut old.talk, Talk::Closed);
            }
        }
        masters.0 = found;
        Ok(())
    }
}

async fn ask_masters(
    target: &mut dyn Converse,
    batch: &mut Batch,
    replies: &mut Replies,
    deadline: Deadline,
    refusals: &mut Refusals<'_>,
) -> Result<Vec<Shard>, Failure> {
    const SLOTS: &str = "CLUSTER SLOTS";
    const MYID: &str = "CLUSTER MYID";
    refusals.check(SLOTS)?;
    batch.clear();
    batch.push(&["CLUSTER", "SLOTS"]);
    let ask_id = !refusals.knows(MYID);
    if ask_id {
        batch.push(&["CLUSTER", "MYID"]);
    }
    target.ask(batch, replies, deadline).await?;
    let slots = replies.get(0).ok_or(Failure::shape(SLOTS))?;
    if let Some(refusal) = slots.error() {
        return Err(Failure::refused(SLOTS, refusal));
    }
    let id = replies.get(1).filter(|_| ask_id);
    if let Some(refusal) = id.and_then(Reply::error) {
        refusals.remember(MYID, refusal);
    }
    let id = id.and_then(Reply::text).unwrap_or_default();
    let masters = Master::all(slots).filter(|masters| !masters.is_empty()).ok_or(Failure::shape(SLOTS))?;
    let shard = |master: Master| {
        let talk = if !id.is_empty() && master.id == id { Talk::Target } else { Talk::Closed };
        Shard { master, talk }
    };
    Ok(masters.into_iter().map(shard).collect())
}

/// One server while key work is done on it.
pub struct Node<'a> {
    server: &'a mut (dyn Converse + 'a),
    replies: &'a mut Replies,
    batch: &'a mut Batch,
    deadline: Deadline,
    pace: &'a mut Pace,
    may_select: bool,
    is_replica: bool,
    /// How the batch begins, and ends the other way round.
    detour: Option<Detour>,
}

/// A state of the conversation that one batch needs and nobody else expects.
#[derive(Clone, Copy)]
enum Detour {
    /// Another database.
    Database,
    /// A replica of a Cluster reads its keys.
    ReadOnly,
}

impl Node<'_> {
    /// An empty batch of commands that will run in database `db`.
    pub fn batch(&mut self, db: u32) -> &mut Batch {
        self.batch.clear();
        self.detour = match db != self.server.database() {
            true => Some(Detour::Database),
            false => self.is_replica.then_some(Detour::ReadOnly),
        };
        match self.detour {
            Some(Detour::Database) => self.batch.push(&["SELECT", itoa::Buffer::new().format(db)]),
            Some(Detour::ReadOnly) => self.batch.push(&["READONLY"]),
            None => {}
        }
        self.batch
    }

    /// Waits until so many keys may be looked at: before the batch.
    pub async fn pace(&mut self, keys: u32) -> Result<(), Failure> {
        self.pace.wait(keys, self.deadline).await
    }

    /// Asks the batch. Fails when the database cannot be selected: then nothing is known of it.
    pub async fn ask(&mut self) -> Result<Answered<'_>, Failure> {
        match self.detour {
            Some(Detour::Database) if !self.may_select => {
                return Err(Failure::Remembered { what: "SELECT", kind: crate::connect::Kind::NoPerm });
            }
            Some(Detour::Database) => {
                self.batch.push(&["SELECT", itoa::Buffer::new().format(self.server.database())]);
            }
            Some(Detour::ReadOnly) => self.batch.push(&["READWRITE"]),
            None => {}
        }
        self.server.ask(self.batch, self.replies, self.deadline).await?;
        if let Some(detour) = self.detour {
            let refusal = |index| self.replies.get(index).and_then(Reply::error);
            let there = refusal(0);
            let back = refusal(self.replies.len().saturating_sub(1));
            if there.is_none() && back.is_some() {
                // Whoever comes next would take this conversation for another.
                self.server.give_up();
            }
            // Without READONLY there are answers too, if not to all.
            if let (Detour::Database, Some(refusal)) = (detour, there.or(back)) {
                return Err(Failure::refused("SELECT", refusal));
            }
        }
        Ok(Answered { replies: self.replies, skip: usize::from(self.detour.is_some()) })
    }
}

/// The replies to the commands of one [`Node::batch`].
#[derive(Clone, Copy)]
pub struct Answered<'a> {
    replies: &'a Replies,
    skip: usize,
}

impl<'a> Answered<'a> {
    /// The reply to the `index`th command.
    pub fn get(self, index: usize) -> Result<Reply<'a>, Failure> {
        self.replies.get(index + self.skip).ok_or(Failure::shape("a command that was not asked"))
    }
}

/// Whether a master says that another one serves the slot of the key.
pub fn has_moved(reply: Reply<'_>) -> bool {
    reply.error().is_some_and(|refusal| refusal.text().starts_with("MOVED "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::{Connecting, Context, How, Info, Memory};
    use crate::config::collect::{Collect, KeyPattern, Keys};
    use crate::connect::replay::Replay;
    use crate::connect::{Asking, Kind, Server};
    use exposition::Builder;
    use std::time::Duration;
    use tokio::time::Instant;

    /// Runs SELECT as a server does, until a slow script of somebody else makes it say BUSY for a while.
    struct Busy {
        selected: String,
        /// Commands until it is busy, commands for which it is.
        until: usize,
        busy: usize,
        given_up: bool,
    }

    impl Converse for Busy {
        fn ask<'a>(&'a mut self, batch: &'a Batch, into: &'a mut Replies, deadline: Deadline) -> Asking<'a> {
            Box::pin(async move {
                let mut echo = Replies::default();
                echo.push(batch.bytes());
                crate::connect::resp::Decoder::default()
                    .advance(&mut echo, batch.len(), &Default::default())
                    .unwrap();
                let mut replay = Replay::default();
                for command in echo.iter() {
                    let words: Vec<_> =
                        command.items().unwrap().map(|w| w.text().unwrap().to_owned()).collect();
                    let reply = if self.until == 0 && self.busy > 0 {
                        self.busy -= 1;
                        "-BUSY Redis is busy running a script.\r\n".to_owned()
                    } else {
                        self.until = self.until.saturating_sub(1);
                        if words[0] == "SELECT" {
                            self.selected = words[1].clone();
                            "+OK\r\n".to_owned()
                        } else {
                            format!("+in db{}\r\n", self.selected)
                        }
                    };
                    replay.record(&words.join(" "), reply);
                }
                replay.ask(batch, into, deadline).await
            })
        }

        fn server(&self) -> Option<&Server> {
            None
        }

        fn give_up(&mut self) {
            self.given_up = true;
        }
    }

    struct Others;
    impl Nodes for Others {
        fn connect<'a>(&'a self, _: &'a str, _: u16, _: Deadline) -> Connecting<'a> {
            let mut node = Replay::default();
            node.record("TYPE b", "-NOPERM this user has no permissions to run the 'type' command\r\n");
            node.record("MEMORY USAGE b", ":50\r\n");
            Box::pin(async move { Ok(Box::new(node) as Box<dyn Converse>) })
        }
    }

    #[tokio::test]
    async fn a_refused_way_back_ends_the_conversation() {
        let mut server = Busy { selected: "0".into(), until: 2, busy: 1, given_up: false };
        let (mut replies, mut batch) = (Replies::default(), Batch::default());
        let mut node = Node {
            server: &mut server,
            replies: &mut replies,
            batch: &mut batch,
            deadline: Deadline::until(Instant::now() + Duration::from_secs(1)),
            pace: &mut Pace::default(),
            may_select: true,
            is_replica: false,
            detour: None,
        };
        node.batch(3).push(&["TYPE", "k"]);
        assert!(node.ask().await.is_err());
        assert!(server.given_up, "it is in database {}", server.selected);
    }

    #[tokio::test]
    async fn what_one_master_refuses_the_others_are_still_asked() {
        let mut target = Replay::default();
        // Slot of "b" is 3300, of "a" 15495.
        target.record("CLUSTER SLOTS", "*2\r\n*3\r\n:0\r\n:8191\r\n*3\r\n+n\r\n:2\r\n+idn\r\n*3\r\n:8192\r\n:16383\r\n*3\r\n+t\r\n:1\r\n+idt\r\n");
        target.record("CLUSTER MYID", "+idt\r\n");
        for (c, r) in [
            ("TYPE a", "+string\r\n"),
            ("MEMORY USAGE a", ":50\r\n"),
            ("STRLEN a", ":3\r\n"),
            ("GET a", "+abc\r\n"),
        ] {
            target.record(c, r);
        }
        let config = Collect { cluster: true, ..Collect::default() };
        let keys = Keys {
            check_single: ["a", "b"].map(|k| KeyPattern { db: 0, pattern: k.into() }).to_vec(),
            ..Keys::default()
        };
        let (memory, info) = (Memory::default(), Info::parse("redis_mode:cluster\r\nrole:master"));
        let server = info.server();
        let context = Context {
            config: &config,
            keys: &keys,
            server: Some(&server),
            info: Some(&info),
            memory: &memory,
            now: 0.0,
        };
        let mut replies = Replies::default();
        let mut work = Work {
            server: &mut target,
            context,
            deadline: Deadline::until(Instant::now() + Duration::from_secs(1)),
            nodes: &Others,
            replies: &mut replies,
            refused: Default::default(),
            masters: None,
            pace: Pace::default(),
            only_here: false,
        };
        let How::Work(run) = super::super::check::COLLECTOR.how else { panic!() };
        let mut out = Builder::new();
        let _ = run(&mut work, &mut out).await;
        assert_eq!(work.refused.get("TYPE"), None::<&Kind>, "one node refused it, the target did not");
        let sizes = out.finish().get("redis_key_size").map_or(0, |f| f.samples().len());
        assert_eq!(sizes, 1, "the size of a");
    }
}
