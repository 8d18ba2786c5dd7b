//! What one INFO says of a server's place in its service: its role, its link to a master, its position in the
//! stream of replication.
//!
//! The families of [`super::info`] are for those who store them; these few values are for ourselves, to compare
//! one member with another. They are kept for every member, so ids are twenty bytes rather than forty letters.
//!
//! What a newcomer would get wrong: a replica has two offsets. [`Facts::replica_offset`] is how far it applied
//! its master's stream; [`Facts::offset`] is how far its own stream is, which its own replicas read.

use super::Info;
use crate::connect::Mode;
use std::fmt;

/// What INFO says; what it does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The process: another one at the same address has another.
    pub run_id: Option<Id>,
    /// How long the process runs, in seconds.
    pub uptime: Option<u64>,
    /// What it is. KeyDB's active replicas are both, and have none.
    pub role: Option<Role>,
    /// Whether it loads its data, and refuses most commands meanwhile.
    pub loading: Option<bool>,
    /// Replicas that are connected.
    pub replicas: Option<u64>,
    /// Of a replica: where it is told that its master is.
    pub master: Option<MasterAddress>,
    /// Of a replica: whether the link to its master is up. One that is down makes a replica which may not
    /// serve stale data answer MASTERDOWN.
    pub link_up: Option<bool>,
    /// Of a replica: since how many seconds the link is up. Redis 8.2 and later.
    pub link_up_since: Option<u64>,
    /// Of a replica: its rank in a failover; 0 is never promoted.
    pub priority: Option<u64>,
    /// Of a replica: whether it is receiving the whole data set.
    pub syncing: Option<bool>,
    /// `slave_repl_offset`: of a replica, up to where it applied its master's stream.
    pub replica_offset: Option<u64>,
    /// `master_repl_offset`: up to where its own stream goes.
    pub offset: Option<u64>,
    /// `master_replid`: which history its data has.
    pub replid: Option<Id>,
    /// `master_replid2`: which history it had before it became a master.
    pub replid2: Option<Id>,
    /// `second_repl_offset`: up to where that history is shared.
    pub second_offset: Option<u64>,
    /// What is kept of the stream for replicas that come back.
    pub backlog: Backlog,
    /// Commands that it has run. It falls where statistics are reset.
    pub commands: Option<u64>,
    /// Connections that it has accepted. It falls where statistics are reset.
    pub connections: Option<u64>,
    /// Full synchronisations that it gave to replicas.
    pub sync_full: Option<u64>,
    /// Partial synchronisations that it granted.
    pub sync_partial_ok: Option<u64>,
    /// Partial synchronisations that it could not grant.
    pub sync_partial_err: Option<u64>,
}

/// The replication backlog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Whether there is one.
    pub active: Option<bool>,
    /// The most that it keeps, in bytes.
    pub size: Option<u64>,
    /// What it keeps now, in bytes.
    pub length: Option<u64>,
    /// The offset of the first byte that it keeps.
    pub first: Option<u64>,
}

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes writes.
    Master,
    /// It follows another.
    Replica,
    /// It watches masters.
    Sentinel,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Master, Self::Replica, Self::Sentinel];

    /// The value of the label `role`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Replica => "replica",
            Self::Sentinel => "sentinel",
        }
    }
}

/// Where a replica is told that its master is: as announced, which need not be how we reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterAddress {
    /// Host name or IP address, IPv6 without brackets.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
}

/// A run id or replication id: forty hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id([u8; 20]);

impl Id {
    /// Reads one; `None` for another form, and for forty zeros, which mean that there is none.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: &[u8; 40] = text.as_bytes().try_into().ok()?;
        let value = |digit: u8| char::from(digit).to_digit(16);
        let mut id = [0; 20];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (value(pair[0])? << 4 | value(pair[1])?) as u8;
        }
        (id != [0; 20]).then_some(Self(id))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

impl Facts {
    /// Reads them in one pass. Of a field that is there twice, as with KeyDB's several masters, the first counts.
    pub fn read(info: &Info<'_>) -> Self {
        let (mut facts, mut host, mut port) = (Self::default(), None, None);
        for line in info.lines() {
            let text = line.value;
            match line.field {
                "run_id" => first(&mut facts.run_id, Id::parse(text)),
                "uptime_in_seconds" => first(&mut facts.uptime, text.parse().ok()),
                "role" => first(&mut facts.role, role(text)),
                "loading" => first(&mut facts.loading, flag(text)),
                "connected_slaves" => first(&mut facts.replicas, text.parse().ok()),
                "master_host" => first(&mut host, Some(text)),
                "master_port" => first(&mut port, text.parse().ok()),
                "master_link_status" => first(&mut facts.link_up, Some(text == "up")),
                "master_link_up_since_seconds" => first(&mut facts.link_up_since, text.parse().ok()),
                "slave_priority" => first(&mut facts.priority, text.parse().ok()),
                "master_sync_in_progress" => first(&mut facts.syncing, flag(text)),
                "slave_repl_offset" => first(&mut facts.replica_offset, text.parse().ok()),
                "master_repl_offset" => first(&mut facts.offset, text.parse().ok()),
                "master_replid" => first(&mut facts.replid, Id::parse(text)),
                "master_replid2" => first(&mut facts.replid2, Id::parse(text)),
                "second_repl_offset" => first(&mut facts.second_offset, text.parse().ok()),
                "repl_backlog_active" => first(&mut facts.backlog.active, flag(text)),
                "repl_backlog_size" => first(&mut facts.backlog.size, text.parse().ok()),
                "repl_backlog_histlen" => first(&mut facts.backlog.length, text.parse().ok()),
                "repl_backlog_first_byte_offset" => first(&mut facts.backlog.first, text.parse().ok()),
                "total_commands_processed" => first(&mut facts.commands, text.parse().ok()),
                "total_connections_received" => first(&mut facts.connections, text.parse().ok()),
                "sync_full" => first(&mut facts.sync_full, text.parse().ok()),
                "sync_partial_ok" => first(&mut facts.sync_partial_ok, text.parse().ok()),
                "sync_partial_err" => first(&mut facts.sync_partial_err, text.parse().ok()),
                _ => {}
            }
        }
        // A Sentinel says no role.
        if info.server().mode == Mode::Sentinel {
            facts.role = Some(Role::Sentinel);
        }
        let address = host.zip(port).filter(|(host, _)| !host.is_empty());
        facts.master = address.map(|(host, port)| MasterAddress { host: host.into(), port });
        facts
    }
}

fn first<T>(known: &mut Option<T>, said: Option<T>) {
    if known.is_none() {
        *known = said;
    }
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

fn role(text: &str) -> Option<Role> {
    match text {
        "master" => Some(Role::Master),
        "slave" | "replica" => Some(Role::Replica),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn facts(text: &str) -> Facts {
        Facts::read(&Info::parse(text))
    }

    fn recorded(name: &str) -> Facts {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/info").join(name);
        facts(&std::fs::read_to_string(path).unwrap())
    }

    #[test]
    fn a_master_and_its_replica_share_their_history() {
        for server in ["redis-6.0.16", "redis-7.0.15", "redis-8.2.3", "valkey-8.0.1", "valkey-9.1.2"] {
            let master = recorded(&format!("{server}-master.txt"));
            let replica = recorded(&format!("{server}-replica.txt"));
            assert_eq!((master.role, replica.role), (Some(Role::Master), Some(Role::Replica)), "{server}");
            assert!(master.replid.is_some() && master.replid == replica.replid, "{server}");
            assert!(master.run_id.is_some() && master.run_id != replica.run_id, "{server}");
            assert_eq!((master.link_up, master.master.as_ref()), (None, None), "{server}");
            let address = MasterAddress { host: "127.0.0.1".into(), port: 18010 };
            assert_eq!((replica.link_up, replica.master), (Some(true), Some(address)), "{server}");
            assert_eq!((master.replid2, master.second_offset), (None, None), "{server}");
            assert!(replica.replica_offset.is_some() && master.replica_offset.is_none(), "{server}");
            assert_eq!(master.backlog.active, Some(true), "{server}");
            assert!(master.backlog.length <= master.backlog.size, "{server}");
            assert_eq!((master.priority, replica.priority), (None, Some(100)), "{server}");
            assert_eq!(replica.link_up_since.is_some(), server == "redis-8.2.3", "{server}");
            assert_eq!((master.sync_full, master.replicas), (Some(2), Some(2)), "{server}");
        }
    }

    #[test]
    fn a_sentinel_a_loading_server_and_a_broken_link_are_seen() {
        for server in ["redis-8.2.3", "redis-7.0.15", "valkey-9.1.2"] {
            assert_eq!(recorded(&format!("{server}-sentinel.txt")).role, Some(Role::Sentinel), "{server}");
            assert_eq!(recorded(&format!("{server}-loading.txt")).loading, Some(true), "{server}");
            let alone = recorded(&format!("{server}-replica-linkdown.txt"));
            assert_eq!((alone.link_up, alone.loading), (Some(false), Some(false)), "{server}");
            assert!(alone.replid2.is_some() && alone.second_offset.is_some(), "{server}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let odd = "run_id:x\nrole:active-replica\nloading:2\nmaster_host:\nmaster_port:99999\n\
                   slave_repl_offset:-1\nmaster_repl_offset:18446744073709551616\nsecond_repl_offset:-1\n\
                   master_replid:0000000000000000000000000000000000000000\nsync_full:1.5\nmaster_link_status";
        assert_eq!(facts(odd), Facts::default());
        assert_eq!(facts(""), Facts::default());
        let twice = facts("master_host:a\nmaster_port:1\nslave_repl_offset:5\nslave_repl_offset:6");
        assert_eq!(twice.replica_offset, Some(5));
    }

    #[test]
    fn an_id_is_forty_digits() {
        let check = |text: &str, is_one: bool| {
            let id = Id::parse(text);
            assert_eq!(id.map(|id| id.to_string()), is_one.then(|| text.to_ascii_lowercase()), "{text}");
        };
        check("7f80d6e11ee4996136e02e2c04090e51db80f8f3", true);
        check("7F80D6E11EE4996136E02E2C04090E51DB80F8F3", true);
        check("7f80d6e11ee4996136e02e2c04090e51db80f8f", false);
        check("7f80d6e11ee4996136e02e2c04090e51db80f8f3a", false);
        check("7f80d6e11ee4996136e02e2c04090e51db80f8fé", false);
        check("gf80d6e11ee4996136e02e2c04090e51db80f8f3", false);
    }

    #[test]
    fn they_are_small() {
        assert!(size_of::<Facts>() <= 400, "{}", size_of::<Facts>());
    }
}
