//! Servers that hand out numbers, and remember to whom they owe what: the oracle of the tests of delivery.
//!
//! Each INFO gets the next number as `total_commands_processed`, so that the samples of
//! `redis_commands_processed_total` of one server say which collections arrived, in which order, and which did not. What
//! a newcomer would get wrong: a number that was handed out is not yet accepted; a client that is killed while it holds
//! one loses it, and may.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::scripted::INFO;
use crate::{Action, Port, ScriptedServer};

/// A number that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handed {
    /// Which: 1, 2, 3 …
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at: i64,
}

/// How long the server says that it runs already when it is started.
const UPTIME: u64 = 1000;

/// INFO of a server that says little.
const SMALL: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:0\r\nuptime_in_seconds:0\r\n\
                     # Stats\r\ntotal_commands_processed:0\r\n# Replication\r\nrole:master\r\n";

type Ledger = Arc<Mutex<Vec<Handed>>>;

/// A running server that hands out numbers. It ends when this is dropped.
pub struct Numbered {
    server: ScriptedServer,
    ledger: Ledger,
}

impl fmt::Debug for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Numbered({})", self.address())
    }
}

impl Numbered {
    /// Starts one on a free port, which has all to say that a Redis 7.0.15 has.
    pub fn start() -> Self {
        Self::saying(std::str::from_utf8(INFO).expect("INFO was recorded as text"))
    }

    /// Starts one that says little beside its numbers, for tests of many collections.
    pub fn start_small() -> Self {
        Self::saying(SMALL)
    }

    fn saying(text: &str) -> Self {
        let port = Port::take();
        let ledger = Ledger::default();
        let shared = Arc::clone(&ledger);
        let info = Info::new(text, port.number());
        let server = ScriptedServer::builder().port(port).start(move |command| {
            if !command[0].eq_ignore_ascii_case(b"INFO") {
                return Action::Default;
            }
            let mut ledger = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let number = ledger.len() as u64 + 1;
            ledger.push(Handed { number, at: now() });
            Action::bulk(info.text(number))
        });
        Self { server, ledger }
    }

    /// `127.0.0.1:PORT`: also its label `instance`.
    pub fn address(&self) -> String {
        self.server.address()
    }

    /// All numbers that were handed out so far.
    pub fn handed(&self) -> Vec<Handed> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many numbers were handed out so far.
    pub fn count(&self) -> u64 {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}

/// INFO with a run id of its own, a growing uptime and the number.
struct Info {
    pieces: [String; 3],
    started: Instant,
}

impl Info {
    fn new(text: &str, port: u16) -> Self {
        let (head, rest) = cut(text, "run_id:");
        let (middle, rest) = cut(rest, "uptime_in_seconds:");
        let (between, tail) = cut(rest, "total_commands_processed:");
        let head = format!("{head}run_id:{port:040x}{middle}uptime_in_seconds:");
        let between = format!("{between}total_commands_processed:");
        Self { pieces: [head, between, tail.to_owned()], started: Instant::now() }
    }

    fn text(&self, number: u64) -> String {
        let [head, between, tail] = &self.pieces;
        let uptime = UPTIME + self.started.elapsed().as_secs();
        format!("{head}{uptime}{between}{number}{tail}")
    }
}

/// What stands before a field, and what stands behind its value.
fn cut<'a>(text: &'a str, field: &str) -> (&'a str, &'a str) {
    let (head, rest) = text.split_once(field).unwrap_or_else(|| panic!("INFO has {field}"));
    (head, &rest[rest.find('\r').expect("lines end")..])
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_millis()).expect("this century fits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Connection;

    #[test]
    fn each_question_gets_the_next_number_and_is_remembered() {
        let small = Numbered::start_small();
        let mut client = Connection::tcp(small.server.port()).expect("it listens");
        let info = client.command(&["INFO"]).expect("an answer").text();
        assert!(
            info.ends_with("\r\ntotal_commands_processed:1\r\n# Replication\r\nrole:master\r\n"),
            "{info}"
        );
        let server = Numbered::start();
        let mut client = Connection::tcp(server.server.port()).expect("it listens");
        for number in 1..=3 {
            let info = client.command(&["INFO"]).expect("an answer").text();
            assert!(info.contains(&format!("\r\ntotal_commands_processed:{number}\r\n")), "{info}");
            assert!(info.contains("\r\nuptime_in_seconds:100") && info.contains("\r\nrun_id:0000"), "{info}");
            assert_eq!(info.lines().count(), str::from_utf8(INFO).expect("text").lines().count());
        }
        let numbers: Vec<u64> = server.handed().iter().map(|handed| handed.number).collect();
        assert_eq!(numbers, [1, 2, 3]);
        assert!(server.handed().windows(2).all(|two| two[0].at <= two[1].at));
        assert_eq!(server.count(), 3);
    }
}
