//! What Sentinels publish: their events, and the greetings by which they find each other. Pure.
//!
//! Events have the name of the event as their channel and come from the Sentinel itself; greetings come on
//! `__sentinel__:hello` of every data node, every two seconds from each Sentinel.
//! <https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/#pubsub-messages>
//!
//! What a newcomer would get wrong: an event is a hint to look, never a fact. A Sentinel that was restarted
//! may tell of a switch that was long ago.

use super::reply::{PHASES, id};
use crate::config::Address;
use crate::discover::rewrite::announced;
use std::sync::Arc;

/// The channel of greetings.
pub const HELLO: &str = "__sentinel__:hello";

/// An event that is about our master, or about all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A step of a failover began.
    Phase(&'static str),
    /// A Sentinel gave a failover up: why.
    Aborted(&'static str),
    /// It has another master now, as announced.
    Switched {
        /// The master before.
        from: Address,
        /// The master now.
        to: Address,
    },
    /// Anything else that may have changed something.
    Other,
}

/// Why Sentinels give failovers up, by channel.
static ABORTS: &[(&str, &str)] = &[
    ("-failover-abort-not-elected", "it was not elected as the leader"),
    ("-failover-abort-no-good-slave", "no replica is good enough"),
    ("-failover-abort-slave-timeout", "the replica was not promoted in time"),
    ("-failover-abort-master-is-back", "the master is back"),
    ("-failover-abort-master-timeout", "the master did not hand over in time"),
];

/// Events that change nothing of what we ask for.
static IDLE: &[&str] = &["+script-error", "+script-timeout", "+redirect-to-master", "-script-error"];

impl Event {
    /// Reads an event; `None` if it is about another master, or none.
    pub fn parse(channel: &str, payload: &str, master: &str) -> Option<Self> {
        if !channel.starts_with(['+', '-']) || IDLE.contains(&channel) {
            return None;
        }
        let words: Vec<_> = payload.split_ascii_whitespace().take(16).collect();
        if channel == "+switch-master" {
            let [name, from_host, from_port, to_host, to_port, ..] = words[..] else { return None };
            let (from, to) = (announced(from_host, from_port)?, announced(to_host, to_port)?);
            return (name == master).then_some(Self::Switched { from, to });
        }
        if about(&words).is_some_and(|name| name != master) {
            return None;
        }
        if let Some((phase, _)) = PHASES.iter().find(|(_, event)| *event == channel) {
            return Some(Self::Phase(phase));
        }
        let abort = ABORTS.iter().find(|(event, _)| *event == channel);
        Some(abort.map_or(Self::Other, |(_, why)| Self::Aborted(why)))
    }
}

/// The master that an event is about: `master <name> <ip> <port> …`, or
/// `<type> <name> <ip> <port> @ <master> <ip> <port> …`. `None` for those about all, such as `+new-epoch 1`.
fn about<'a>(words: &[&'a str]) -> Option<&'a str> {
    match words {
        ["master", name, _, _, ..] | [_, _, _, _, "@", name, ..] => Some(name),
        _ => None,
    }
}

/// A greeting: `ip,port,runid,current_epoch,master_name,master_ip,master_port,master_config_epoch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Which Sentinel says so.
    pub id: Arc<str>,
    /// Where it is, as announced.
    pub address: Address,
    /// Which master it names, as announced.
    pub master: Address,
    /// The configuration epoch that it holds.
    pub epoch: u64,
}

impl Hello {
    /// Reads a greeting; `None` if it is about another master, or none.
    pub fn parse(payload: &str, master: &str) -> Option<Self> {
        let fields: Vec<_> = payload.split(',').take(9).collect();
        let [host, port, own_id, _current, name, master_host, master_port, epoch] = fields[..] else {
            return None;
        };
        if name != master {
            return None;
        }
        Some(Self {
            id: id(own_id)?,
            address: announced(host, port)?,
            master: announced(master_host, master_port)?,
            epoch: epoch.trim_end().parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_say_whether_they_are_about_our_master() {
        fn check(channel: &str, payload: &str, expected: Option<Event>) {
            assert_eq!(Event::parse(channel, payload, "mymaster"), expected, "{channel} {payload}");
        }
        let at = |port| Address::tcp("127.0.0.1", port);
        let switched = Event::Switched { from: at(18010), to: at(18012) };
        check("+switch-master", "mymaster 127.0.0.1 18010 127.0.0.1 18012", Some(switched));
        check("+switch-master", "other 127.0.0.1 18010 127.0.0.1 18012", None);
        check("+switch-master", "mymaster 127.0.0.1 18010", None);
        check("+sdown", "master mymaster 127.0.0.1 18010", Some(Event::Other));
        check("+sdown", "master other 127.0.0.1 18010", None);
        let replica = "slave 127.0.0.1:18011 127.0.0.1 18011 @ mymaster 127.0.0.1 18012";
        check("+slave", replica, Some(Event::Other));
        check("+slave", &replica.replace("mymaster", "other"), None);
        check("+odown", "master mymaster 127.0.0.1 18010 #quorum 2/2", Some(Event::Other));
        check("+try-failover", "master mymaster 127.0.0.1 18010", Some(Event::Phase("wait_start")));
        check("+failover-state-wait-promotion", replica, Some(Event::Phase("wait_promotion")));
        check("+failover-end", "master mymaster 127.0.0.1 18010", Some(Event::Phase("update_config")));
        check(
            "-failover-abort-no-good-slave",
            "master mymaster 127.0.0.1 18010",
            Some(Event::Aborted("no replica is good enough")),
        );
        check("+new-epoch", "1", Some(Event::Other));
        check("+tilt", "#tilt mode entered", Some(Event::Other));
        check("__sentinel__:hello", "x", None);
        check("+script-error", "x", None);
    }

    #[test]
    fn greetings_tell_what_a_sentinel_holds() {
        fn check(payload: &str, expected: Option<(&str, &str, u64)>) {
            let found = Hello::parse(payload, "mymaster");
            let found = found.map(|one| (one.address.endpoint.to_string(), one.master.endpoint, one.epoch));
            let found = found.map(|(address, master, epoch)| (address, master.to_string(), epoch));
            let expected = expected.map(|(a, m, e)| (a.to_owned(), m.to_owned(), e));
            assert_eq!(found, expected, "{payload}");
        }
        check(
            "127.0.0.1,18021,7c4f5ce13a87,1,mymaster,127.0.0.1,18012,1",
            Some(("127.0.0.1:18021", "127.0.0.1:18012", 1)),
        );
        check("::1,18021,7c4f,1,mymaster,fd00::2,18012,7", Some(("[::1]:18021", "[fd00::2]:18012", 7)));
        check("127.0.0.1,18021,7c4f,1,other,127.0.0.1,18012,1", None);
        check("127.0.0.1,18021,7c4f,1,mymaster,127.0.0.1,18012", None);
        check("127.0.0.1,18021,7c4f,1,mymaster,127.0.0.1,18012,1,2", None);
        check("127.0.0.1,18021,,1,mymaster,127.0.0.1,18012,1", None);
        check("", None);
    }
}
