//! What Sentinels and data nodes answer: replies into values, pure.
//!
//! Sentinel 2.8 and later, Valkey: fields are looked up by name, for each version has some more of them.
//! <https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/#sentinel-commands>
//!
//! What a newcomer would get wrong: `SENTINEL MASTER` names the old master until the very end of a failover,
//! while `SENTINEL GET-MASTER-ADDR-BY-NAME` of the leader names the new one from the moment on at which that
//! one is promoted, and the configuration epoch grows at that moment.

use crate::config::Address;
use crate::connect::{Kind, Replies, Reply};
use crate::discover::rewrite::announced;
use std::sync::Arc;

/// Replicas of one Sentinel's answer that are read.
pub const MOST_MEMBERS: usize = 512;

/// Fellows of one Sentinel's answer that are read.
pub const MOST_SENTINELS: usize = 64;

/// What one Sentinel says of one master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its own id, where it tells (from 6.2 on).
    pub id: Option<Arc<str>>,
    /// The master that it names to clients, as announced.
    pub names: Address,
    /// The master that it watches.
    pub master: Master,
    /// The replicas that it knows.
    pub replicas: Vec<Instance>,
    /// The other Sentinels that it knows.
    pub sentinels: Vec<Instance>,
    /// Whether a failover could be authorised now, where it may be asked.
    pub can_authorise: Option<bool>,
    /// Whether it distrusts its own clock, and so neither judges nor votes.
    pub in_tilt: bool,
}

/// A master, a replica or a Sentinel in the eyes of a Sentinel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Where it is, as announced.
    pub address: Address,
    /// Its run id, where it is known.
    pub id: Option<Arc<str>>,
    /// How it is.
    pub flags: Flags,
}

/// What a Sentinel says of the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// The server.
    pub instance: Instance,
    /// The number of the failover that made it the master.
    pub epoch: u64,
    /// How many Sentinels must agree that it is down.
    pub quorum: Option<u32>,
    /// How far this Sentinel's own failover is.
    pub phase: Option<&'static str>,
}

/// The words of `flags` that matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// This Sentinel gets no answer from it.
    pub s_down: bool,
    /// As many Sentinels as the quorum get none.
    pub o_down: bool,
    /// There is no connection.
    pub disconnected: bool,
    /// This Sentinel replaces it.
    pub failover_in_progress: bool,
    /// It is the replica that was chosen.
    pub promoted: bool,
    /// It is being told of the new master, or was.
    pub reconfigured: bool,
}

impl Flags {
    fn parse(text: &str) -> Self {
        let mut flags = Self::default();
        for flag in text.split(',') {
            match flag {
                "s_down" => flags.s_down = true,
                "o_down" => flags.o_down = true,
                "disconnected" => flags.disconnected = true,
                "failover_in_progress" => flags.failover_in_progress = true,
                "promoted" => flags.promoted = true,
                "reconf_sent" | "reconf_inprog" | "reconf_done" => flags.reconfigured = true,
                _ => {}
            }
        }
        flags
    }

    /// Whether it answers this Sentinel.
    pub fn is_well(self) -> bool {
        !self.s_down && !self.o_down && !self.disconnected
    }
}

/// The steps of a failover in their order: the word of `failover-state`, and the channel of the event with
/// which it begins.
pub static PHASES: &[(&str, &str)] = &[
    ("wait_start", "+try-failover"),
    ("select_slave", "+failover-state-select-slave"),
    ("send_slaveof_noone", "+failover-state-send-slaveof-noone"),
    ("wait_promotion", "+failover-state-wait-promotion"),
    ("reconf_slaves", "+failover-state-reconf-slaves"),
    ("update_config", "+failover-end"),
];

/// Why an answer is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Useless {
    /// The kind.
    pub kind: Kind,
    /// In words.
    pub message: String,
}

impl Useless {
    /// What came is not what the command answers.
    pub fn shape(command: &str) -> Self {
        Self { kind: Kind::Protocol, message: format!("the reply to {command} has another form") }
    }

    fn refused(command: &str, refusal: crate::connect::Refusal<'_>) -> Self {
        Self { kind: refusal.kind(), message: format!("{command} was refused: {}", refusal.text()) }
    }
}

/// An id as Redis makes them; whatever else stands there is none.
pub fn id(text: &str) -> Option<Arc<str>> {
    let is_id = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
    is_id.then(|| text.into())
}

impl Instance {
    /// Reads one server of SENTINEL MASTER, REPLICAS or SENTINELS; `None` for one without an address.
    fn read(fields: Reply<'_>) -> Option<Self> {
        let text = |key| fields.field(key).and_then(Reply::text);
        Some(Self {
            address: announced(text("ip")?, text("port")?)?,
            id: text("runid").and_then(id),
            flags: Flags::parse(text("flags").unwrap_or_default()),
        })
    }

    fn all(reply: Reply<'_>, most: usize) -> Option<Vec<Self>> {
        Some(reply.items()?.filter_map(Self::read).take(most).collect())
    }
}

/// Reads one round: the replies to SENTINEL MASTER, GET-MASTER-ADDR-BY-NAME, REPLICAS, SENTINELS, CKQUORUM and
/// INFO, of the Sentinel of that id. What follows them is not looked at.
pub fn answer(replies: &Replies, id: Option<Arc<str>>) -> Result<Answer, Useless> {
    let all: Vec<Reply<'_>> = replies.iter().collect();
    let [watched, named, known, fellows, quorum, info, ..] = all[..] else {
        return Err(Useless::shape("SENTINEL MASTER"));
    };
    let master = master(watched)?;
    Ok(Answer {
        id,
        names: named_master(named).unwrap_or_else(|| master.instance.address.clone()),
        replicas: replicas(known)?,
        sentinels: sentinels(fellows)?,
        can_authorise: can_authorise(quorum),
        in_tilt: in_tilt(info),
        master,
    })
}

/// Reads SENTINEL MASTER.
pub fn master(reply: Reply<'_>) -> Result<Master, Useless> {
    if let Some(refusal) = reply.error() {
        return Err(Useless::refused("SENTINEL MASTER", refusal));
    }
    let shape = || Useless::shape("SENTINEL MASTER");
    let number = |key| reply.field(key).and_then(Reply::integer);
    let phase = reply.field("failover-state").and_then(Reply::text);
    Ok(Master {
        instance: Instance::read(reply).ok_or_else(shape)?,
        epoch: number("config-epoch").and_then(|epoch| epoch.try_into().ok()).ok_or_else(shape)?,
        quorum: number("quorum").and_then(|quorum| quorum.try_into().ok()),
        phase: phase.and_then(|word| PHASES.iter().find(|(name, _)| *name == word)).map(|(name, _)| *name),
    })
}

/// Reads SENTINEL REPLICAS (SLAVES before 5.0).
pub fn replicas(reply: Reply<'_>) -> Result<Vec<Instance>, Useless> {
    match reply.error() {
        Some(refusal) => Err(Useless::refused("SENTINEL REPLICAS", refusal)),
        None => Instance::all(reply, MOST_MEMBERS).ok_or_else(|| Useless::shape("SENTINEL REPLICAS")),
    }
}

/// Reads SENTINEL SENTINELS. Those without an id cannot be told from each other and are left out.
pub fn sentinels(reply: Reply<'_>) -> Result<Vec<Instance>, Useless> {
    if let Some(refusal) = reply.error() {
        return Err(Useless::refused("SENTINEL SENTINELS", refusal));
    }
    let mut all = Instance::all(reply, MOST_SENTINELS).ok_or_else(|| Useless::shape("SENTINEL SENTINELS"))?;
    all.retain(|sentinel| sentinel.id.is_some());
    Ok(all)
}

/// Reads SENTINEL GET-MASTER-ADDR-BY-NAME; `None` where it tells nothing, or may not be asked.
pub fn named_master(reply: Reply<'_>) -> Option<Address> {
    let mut items = reply.items()?;
    announced(items.next()?.text()?, items.next()?.text()?)
}

/// Reads SENTINEL CKQUORUM: `-NOQUORUM` is an answer, too.
pub fn can_authorise(reply: Reply<'_>) -> Option<bool> {
    match reply.error() {
        Some(refusal) => refusal.text().starts_with("NOQUORUM").then_some(false),
        None => reply.text().map(|text| text.starts_with("OK")),
    }
}

/// Reads SENTINEL MYID.
pub fn own_id(reply: Reply<'_>) -> Option<Arc<str>> {
    reply.text().and_then(id)
}

/// Whether INFO says that the Sentinel is in TILT mode.
pub fn in_tilt(reply: Reply<'_>) -> bool {
    let text = reply.bytes().unwrap_or_default();
    text.split(|b| *b == b'\n').any(|line| line.trim_ascii_end() == b"sentinel_tilt:1")
}

/// Whether a server says that it is a master: by ROLE, or by INFO where ROLE may not be asked.
pub fn says_master(role: Reply<'_>, info: Reply<'_>) -> Result<bool, Useless> {
    let word = role.items().and_then(|mut items| items.next()).and_then(Reply::text);
    let of_info = || info.text()?.lines().find_map(|line| line.strip_prefix("role:"));
    match (word.or_else(of_info), role.error().or(info.error())) {
        (Some(word), _) => Ok(word.trim_end() == "master"),
        (None, Some(refusal)) => Err(Useless::refused("ROLE", refusal)),
        (None, None) => Err(Useless::shape("ROLE")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::connect::replay::Replay;
    use crate::connect::{Batch, Converse, Deadline};
    use tokio::time::Instant;

    /// The replies that these bytes are.
    pub fn replies(bytes: &[u8]) -> Replies {
        let (mut server, mut batch, mut replies) = (Replay::default(), Batch::default(), Replies::default());
        server.record("ASKED", bytes);
        batch.push(&["ASKED"]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let asked = runtime
            .block_on(async { server.ask(&batch, &mut replies, Deadline::until(Instant::now())).await });
        asked.expect("valid RESP");
        replies
    }

    macro_rules! recorded {
        ($server:literal, $name:literal) => {
            [".resp2", ".resp3"].map(|protocol| match protocol {
                ".resp2" => &include_bytes!(concat!(
                    "../../../tests/fixtures/replies/",
                    $server,
                    "-sentinel/sentinel_",
                    $name,
                    ".resp2"
                ))[..],
                _ => &include_bytes!(concat!(
                    "../../../tests/fixtures/replies/",
                    $server,
                    "-sentinel/sentinel_",
                    $name,
                    ".resp3"
                ))[..],
            })
        };
    }

    /// The instances as `address id-or-? flags`, the id cut.
    fn shown(instances: &[Instance]) -> Vec<String> {
        let one = |one: &Instance| {
            let id = one.id.as_deref().map_or("?", |id| &id[..4]);
            format!("{} {id} {}", one.address.endpoint, if one.flags.is_well() { "well" } else { "ill" })
        };
        let mut all: Vec<_> = instances.iter().map(one).collect();
        all.sort();
        all
    }

    #[test]
    fn recorded_sentinels_of_both_protocols_are_read() {
        fn check(
            recorded: [[&[u8]; 2]; 4],
            epoch: u64,
            expected_master: &str,
            expected_replicas: &[&str],
            sentinels_known: usize,
        ) {
            for protocol in 0..2 {
                let masters = replies(recorded[0][protocol]);
                let masters = masters.get(0).expect("a reply").items().expect("a list");
                let all: Vec<_> = masters.filter_map(|one| master(one).ok()).collect();
                let found = all.iter().find(|one| one.instance.flags.is_well()).expect("one that is up");
                assert_eq!(shown(std::slice::from_ref(&found.instance)), [expected_master]);
                assert_eq!((found.epoch, found.quorum, found.phase), (epoch, Some(2), None));
                for list in &recorded[1..3] {
                    let list = replies(list[protocol]);
                    let found = replicas(list.get(0).expect("a reply")).expect("replicas");
                    assert_eq!(shown(&found), expected_replicas);
                }
                let list = replies(recorded[3][protocol]);
                let found = sentinels(list.get(0).expect("a reply")).expect("sentinels");
                assert_eq!(found.len(), sentinels_known);
                assert!(found.iter().all(|one| one.flags.is_well() && one.id.is_some()));
            }
        }
        check(
            [
                recorded!("redis-7.0.15", "masters"),
                recorded!("redis-7.0.15", "replicas"),
                recorded!("redis-7.0.15", "slaves"),
                recorded!("redis-7.0.15", "sentinels"),
            ],
            0,
            "127.0.0.1:18010 8ba1 well",
            &["127.0.0.1:18011 1f36 well", "127.0.0.1:18012 0a39 well"],
            2,
        );
        check(
            [
                recorded!("valkey-9.1.2", "masters_after_failover"),
                recorded!("valkey-9.1.2", "replicas_after_failover"),
                recorded!("valkey-9.1.2", "replicas_after_failover"),
                recorded!("valkey-9.1.2", "sentinels"),
            ],
            1,
            "127.0.0.1:18011 980e well",
            &["127.0.0.1:18010 ? ill", "127.0.0.1:18012 dde0 well"],
            2,
        );
    }

    #[test]
    fn quorums_are_read_as_recorded() {
        let check = |bytes: &[u8], expected| {
            assert_eq!(can_authorise(replies(bytes).get(0).expect("a reply")), expected);
        };
        for bytes in recorded!("redis-7.0.15", "ckquorum_ok") {
            check(bytes, Some(true));
        }
        for bytes in recorded!("valkey-9.1.2", "ckquorum_bad") {
            check(bytes, Some(false));
        }
        check(b"-ERR No such master with that name\r\n", None);
        check(b"-NOPERM no\r\n", None);
    }

    /// Words as RESP2 sends them.
    pub fn flat(words: &str) -> Vec<u8> {
        let mut batch = Batch::default();
        batch.push(&words.split(' ').map(|word| word.replace('~', "")).collect::<Vec<_>>());
        batch.bytes().to_vec()
    }

    #[test]
    fn a_master_under_failover_shows_its_phase() {
        fn check(words: &str, expected: Result<(u64, Option<&str>, bool), Kind>) {
            let bytes = if words.starts_with('-') { format!("{words}\r\n").into() } else { flat(words) };
            let replies = replies(&bytes);
            let found = master(replies.get(0).expect("a reply"));
            let found = found.map(|one| (one.epoch, one.phase, one.instance.flags.failover_in_progress));
            assert_eq!(found.map_err(|useless| useless.kind), expected, "{words}");
        }
        let known = "name m ip 10.0.0.1 port 6379 runid ~ config-epoch 3";
        check(known, Ok((3, None, false)));
        check(
            &format!("{known} flags s_down,o_down,master,failover_in_progress failover-state wait_promotion"),
            Ok((3, Some("wait_promotion"), true)),
        );
        check(&format!("{known} failover-state none"), Ok((3, None, false)));
        check("name m ip 10.0.0.1 port 6379", Err(Kind::Protocol));
        check("name m ip ? port 0 config-epoch 3", Err(Kind::Protocol));
        check("-ERR No such master with that name", Err(Kind::Command));
        check("-NOAUTH Authentication required.", Err(Kind::Auth));
    }

    #[test]
    fn a_hostile_sentinel_fills_no_memory() {
        let one = "name r ip 10.0.0.1 port 6379 flags slave runid ~";
        let many = [&b"*2000\r\n"[..], &flat(one).repeat(2000)].concat();
        let list = replies(&many);
        assert_eq!(replicas(list.get(0).expect("a reply")).map(|all| all.len()), Ok(MOST_MEMBERS));
        assert_eq!(sentinels(list.get(0).expect("a reply")).map(|all| all.len()), Ok(0), "none has an id");
        assert_eq!(id(&"a".repeat(65)), None);
        assert_eq!(id("a b"), None);
        assert_eq!(id(""), None);
    }

    #[test]
    fn small_replies_are_read() {
        let check_name = |bytes: &[u8], expected: Option<&str>| {
            let found = named_master(replies(bytes).get(0).expect("a reply"));
            assert_eq!(found.map(|address| address.endpoint.to_string()).as_deref(), expected);
        };
        check_name(b"*2\r\n$9\r\n127.0.0.1\r\n$5\r\n18010\r\n", Some("127.0.0.1:18010"));
        check_name(b"*2\r\n$3\r\n::1\r\n$5\r\n18010\r\n", Some("[::1]:18010"));
        check_name(b"_\r\n", None);
        check_name(b"*-1\r\n", None);
        check_name(b"-NOPERM no\r\n", None);

        let check_tilt = |info: &str, expected| {
            let bytes = format!("${}\r\n{info}\r\n", info.len());
            assert_eq!(in_tilt(replies(bytes.as_bytes()).get(0).expect("a reply")), expected);
        };
        check_tilt(include_str!("../../../tests/fixtures/info/redis-7.0.15-sentinel.txt"), false);
        check_tilt("# Sentinel\r\nsentinel_masters:1\r\nsentinel_tilt:1\r\nx:1\r\n", true);

        let check_role = |role: &[u8], info: &[u8], expected: Result<bool, Kind>| {
            let (role, info) = (replies(role), replies(info));
            let found = says_master(role.get(0).expect("a reply"), info.get(0).expect("a reply"));
            assert_eq!(found.map_err(|useless| useless.kind), expected);
        };
        let denied = b"-NOPERM no\r\n";
        check_role(b"*3\r\n$6\r\nmaster\r\n:5\r\n*0\r\n", denied, Ok(true));
        check_role(b"*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$7\r\nconnect\r\n:-1\r\n", denied, Ok(false));
        check_role(denied, b"$28\r\n# Replication\r\nrole:master\r\n\r\n", Ok(true));
        check_role(denied, b"$12\r\nrole:slave\r\n\r\n", Ok(false));
        check_role(denied, denied, Err(Kind::NoPerm));
        check_role(b"*2\r\n$8\r\nsentinel\r\n*0\r\n", denied, Ok(false));
        check_role(b"+OK\r\n", b"+OK\r\n", Err(Kind::Protocol));
        let id = replies(b"$40\r\n931511f965f4cff0c3a4bd4a2c8752def6503ff3\r\n");
        assert!(own_id(id.get(0).expect("a reply")).is_some());
    }
}
