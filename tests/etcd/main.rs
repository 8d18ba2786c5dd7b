//! The client of etcd (`net/etcd`) against real ones, 3.4 and 3.5, where those who use it do not reach: each call, each limit, and
//! what becomes of calls and watches in trouble. What copies of ours make of the same trouble is in `tests/peers`.
//!
//! - `keys`: transactions, ranges in pages, values at the limit
//! - `leases`: granted, kept alive, ended
//! - `watches`: from a revision on, without a gap and without a double
//! - `members`: one of several that is dead, silent or alone
//! - `users`: tokens that are forgotten, passwords and certificates that change
//!
//! What a newcomer would get wrong: a call to the testbed blocks the runtime of the test, and with it the client. So nothing here
//! measures a moment across one.

mod keys;
mod leases;
mod members;
mod users;
mod watches;

use redvigil::config::connect::Tls;
use redvigil::config::deliver::{Url, Word};
use redvigil::config::net::Etcd as Settings;
use redvigil::net::etcd::{Change, Client};
use std::sync::Arc;
use std::time::Duration;
use testbed::Part;
use testbed::etcd::Etcd;
use tokio::time::Instant;

/// Both that there are.
const VERSIONS: [Part; 2] = [Part::Etcd34, Part::Etcd35];

/// Longer than any answer takes on a busy machine.
fn soon() -> Instant {
    within(Duration::from_secs(20))
}

fn within(time: Duration) -> Instant {
    Instant::now() + time
}

/// A client of these members, in that order.
fn client(urls: &[String]) -> Client {
    with(urls, None, Tls::default())
}

fn with(urls: &[String], user: Option<(&str, Word)>, tls: Tls) -> Client {
    let endpoints = urls.iter().map(|url| Url::parse(url).expect("a URL")).collect();
    let user = user.map(|(name, word)| (name.to_owned(), word));
    Client::new(&Settings { endpoints, user, tls }, Arc::default())
}

fn client_of(etcd: &Etcd) -> Client {
    client(&etcd.urls())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("tests write text")
}

/// `key=value`, or `key gone`.
fn brief(change: &Change) -> String {
    match change {
        Change::Put(kv) => format!("{}={}", text(&kv.key), text(&kv.value)),
        Change::Delete { key, .. } => format!("{} gone", text(key)),
    }
}
