//! A client of etcd: keys, transactions, leases, watches. gRPC with messages of our own
//! ([decision 11](../../../docs/decisions/0011-etcd-without-a-client-crate.md)); needs etcd 3.4 or later.
//!
//! - `session`: which member is asked, by which connection and with which token
//! - `watch`: what changes, without a gap
//! - `transaction`: compare and act, as one step
//! - `error`: why it did not do as it was asked
//! - `messages`: what goes over the wire
//!
//! What is kept there, and what is done about an error, is for who keeps it: `peers` and `source`.
//!
//! What a newcomer would get wrong: a write whose answer is missing may have been done
//! ([`Kind::may_have_been_done`]), so writes are never sent twice by themselves; reads and what belongs to leases are, once
//! by each member. And a lease that is kept alive is no lock: who relies on one counts from when the last keep-alive that
//! was answered was *sent*.

mod error;
mod messages;
mod session;
mod transaction;
mod watch;

use crate::config::net::Etcd;
use crate::net::tls;
use bytes::Bytes;
pub use error::{Error, Kind};
use messages::{
    DELETE, DeleteRequest, DeleteResponse, GRANT, GrantRequest, HeaderResponse, KEEP_ALIVE, KeyValue,
    LeaseRequest, LeaseResponse, PUT, PutRequest, RANGE, REVOKE, RangeRequest, RangeResponse, TIME_TO_LIVE,
    TXN, TxnRequest, TxnResponse,
};
pub use session::Counts;
use session::{Session, Twice};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
pub use transaction::{Compare, Done, Is, Op, Outcome, Txn};
pub use watch::{Change, Changes, Watch};

/// Keys that [`Client::all`] asks for at once.
const PAGE: i64 = 500;

/// The most that [`Client::all`] reads, in bytes.
const ALL: usize = 64 << 20;

/// A client of one cluster. Cheap to clone; all clones share a connection and a token. Connects when it is asked first.
#[derive(Clone, Debug)]
pub struct Client(Arc<Session>);

/// Keys from one on, up to and without another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keys {
    /// The first.
    key: Vec<u8>,
    /// Behind the last; empty: the first alone; a zero byte: all that come.
    end: Vec<u8>,
}

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Which keys.
    pub keys: Keys,
    /// As they were at that revision; 0: as they are.
    pub revision: i64,
    /// The most that are wanted; 0: all.
    pub limit: i64,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// By key.
    pub kvs: Vec<Kv>,
    /// The revision of the store when it was read: a watch goes on from the next. Where an older one was asked for, still that
    /// of now.
    pub revision: i64,
    /// Whether there are more behind the last.
    pub more: bool,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kv {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Bytes,
    /// The revision that made it.
    pub create_revision: i64,
    /// The revision that changed it last.
    pub mod_revision: i64,
    /// How often it has been written since it was made.
    pub version: i64,
    /// Its lease; 0: none.
    pub lease: i64,
}

/// A lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id; never 0.
    pub id: i64,
    /// How long it lives unless it is kept alive, which may be longer than what was asked for.
    pub ttl: Duration,
}

impl Client {
    /// A client, not connected yet. The endpoints are asked in their order, the first that answers is kept.
    ///
    /// # Panics
    /// Where there is no endpoint: configuration has one or more.
    pub fn new(etcd: &Etcd, clients: Arc<tls::Clients>) -> Self {
        assert!(!etcd.endpoints.is_empty(), "an etcd has endpoints");
        Self(Arc::new(Session::new(etcd, clients)))
    }

    /// Reads keys. Linearizable: what was written before is seen, whichever member answers.
    pub async fn range(&self, range: Range, deadline: Instant) -> Result<Page, Error> {
        let answer: RangeResponse =
            self.0.call(RANGE, &RangeRequest::from(range), Twice::Yes, deadline).await?;
        Ok(answer.into())
    }

    /// Reads one key.
    pub async fn get(&self, key: impl Into<Vec<u8>>, deadline: Instant) -> Result<(Option<Kv>, i64), Error> {
        let page = self.range(Range::of(Keys::one(key)), deadline).await?;
        Ok((page.kvs.into_iter().next(), page.revision))
    }

    /// Reads all keys that begin with a prefix, as they were at one revision, which comes with them: a watch from the
    /// revision behind it misses nothing. Asks for 500 at a time, and for fewer where they are large.
    pub async fn all(&self, prefix: impl Into<Vec<u8>>, deadline: Instant) -> Result<Page, Error> {
        let keys = Keys::prefix(prefix);
        let mut is_second = false;
        loop {
            match self.pages(keys.clone(), deadline).await {
                // Compacted between two pages: what is there now can be read.
                Err(Error::Compacted { .. }) if !is_second => is_second = true,
                read => return read,
            }
        }
    }

    async fn pages(&self, keys: Keys, deadline: Instant) -> Result<Page, Error> {
        let mut all = Page::default();
        let mut range = Range { keys, revision: 0, limit: PAGE };
        let mut size = 0;
        loop {
            let page = match self.range(range.clone(), deadline).await {
                Err(Error::TooLarge { .. }) if range.limit > 1 => {
                    range.limit = (range.limit / 4).max(1);
                    continue;
                }
                page => page?,
            };
            if range.revision == 0 {
                range.revision = page.revision;
                all.revision = page.revision;
            }
            let last = page.kvs.last().map(|kv| kv.key.clone());
            size += page.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum::<usize>();
            if size > ALL {
                return Err(Error::TooLarge { message: format!("keys of more than {ALL} bytes").into() });
            }
            all.kvs.extend(page.kvs);
            match last.filter(|_| page.more) {
                Some(mut last) => {
                    last.push(0);
                    range.keys.key = last;
                }
                None => return Ok(all),
            }
        }
    }

    /// Does one thing or another, as one step. Never sent twice.
    pub async fn txn(&self, txn: Txn, deadline: Instant) -> Result<Done, Error> {
        let answer: TxnResponse = self.0.call(TXN, &TxnRequest::from(txn), Twice::No, deadline).await?;
        Done::of(answer, &self.0.member().0)
    }

    /// Writes a key, under a lease where that is not 0; the revision of that. Never sent twice.
    pub async fn put(
        &self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Bytes>,
        lease: i64,
        deadline: Instant,
    ) -> Result<i64, Error> {
        let ask = PutRequest { key: key.into(), value: value.into(), lease };
        let answer: HeaderResponse = self.0.call(PUT, &ask, Twice::No, deadline).await?;
        Ok(answer.header.map_or(0, |header| header.revision))
    }

    /// Deletes keys; how many there were. Never sent twice.
    pub async fn delete(&self, keys: Keys, deadline: Instant) -> Result<u64, Error> {
        let ask = DeleteRequest { key: keys.key, range_end: keys.end };
        let answer: DeleteResponse = self.0.call(DELETE, &ask, Twice::No, deadline).await?;
        Ok(answer.deleted.try_into().unwrap_or(0))
    }

    /// A new lease, of full seconds, rounded up. One whose answer is lost ends by itself.
    pub async fn grant(&self, ttl: Duration, deadline: Instant) -> Result<Lease, Error> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let ask = GrantRequest { ttl: i64::try_from(seconds.max(1)).unwrap_or(i64::MAX) };
        let answer: LeaseResponse = self.0.call(GRANT, &ask, Twice::Yes, deadline).await?;
        let ttl = alive(answer.ttl).ok_or(Error::NoLease)?;
        Ok(Lease { id: answer.id, ttl })
    }

    /// Lets a lease begin anew; how long it lives from about now on. [`Error::NoLease`] where it has ended.
    ///
    /// A call of its own each time, so that one that hangs is seen by its deadline and goes to the next member.
    pub async fn keep_alive(&self, id: i64, deadline: Instant) -> Result<Duration, Error> {
        let answer: LeaseResponse =
            self.0.call(KEEP_ALIVE, &LeaseRequest { id }, Twice::Yes, deadline).await?;
        alive(answer.ttl).ok_or(Error::NoLease)
    }

    /// Ends a lease, and all keys with it. One that has ended is fine.
    pub async fn revoke(&self, id: i64, deadline: Instant) -> Result<(), Error> {
        let answer: Result<HeaderResponse, Error> =
            self.0.call(REVOKE, &LeaseRequest { id }, Twice::Yes, deadline).await;
        match answer {
            Ok(_) | Err(Error::NoLease) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// How long a lease still lives, without keeping it alive. [`Error::NoLease`] where it has ended.
    pub async fn time_to_live(&self, id: i64, deadline: Instant) -> Result<Duration, Error> {
        let answer: LeaseResponse =
            self.0.call(TIME_TO_LIVE, &LeaseRequest { id }, Twice::Yes, deadline).await?;
        match u64::try_from(answer.ttl) {
            Ok(seconds) => Ok(Duration::from_secs(seconds)),
            Err(_) => Err(Error::NoLease),
        }
    }

    /// Watches keys from a revision on; 0: from now on, which is when it is polled first. Opens nothing yet.
    pub fn watch(&self, keys: Keys, from: i64) -> Watch {
        Watch::new(self.0.clone(), keys, from)
    }

    /// The member that is asked, by host and port, and whether there is a connection to it.
    pub fn member(&self) -> (Arc<str>, bool) {
        self.0.member()
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.0.counts()
    }
}

/// The longest life of a lease, in seconds, as in etcd itself. A longer one would not fit into a clock.
const LONGEST_LIFE: u64 = 9_000_000_000;

/// A time that is left; 0 is what etcd says of a lease that has ended.
fn alive(seconds: i64) -> Option<Duration> {
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds.min(LONGEST_LIFE)))
}

impl Keys {
    /// One key.
    pub fn one(key: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), end: vec![] }
    }

    /// All keys that begin with a prefix; with an empty one all that there are.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let mut key = prefix.into();
        let mut end = key.clone();
        while end.last() == Some(&0xff) {
            end.pop();
        }
        match end.last_mut() {
            Some(last) => *last += 1,
            None => end.push(0),
        }
        if key.is_empty() {
            // There is no empty key, and none before this.
            key.push(0);
        }
        Self { key, end }
    }
}

impl Range {
    /// All of these keys, as they are.
    pub fn of(keys: Keys) -> Self {
        Self { keys, revision: 0, limit: 0 }
    }
}

impl From<Range> for RangeRequest {
    fn from(range: Range) -> Self {
        let Keys { key, end } = range.keys;
        Self { key, range_end: end, limit: range.limit, revision: range.revision }
    }
}

impl From<RangeResponse> for Page {
    fn from(answer: RangeResponse) -> Self {
        Self {
            kvs: answer.kvs.into_iter().map(Kv::from).collect(),
            revision: answer.header.map_or(0, |header| header.revision),
            more: answer.more,
        }
    }
}

impl From<KeyValue> for Kv {
    fn from(kv: KeyValue) -> Self {
        let KeyValue { key, create_revision, mod_revision, version, value, lease } = kv;
        Self { key, value, create_revision, mod_revision, version, lease }
    }
}

#[cfg(test)]
mod tests;
