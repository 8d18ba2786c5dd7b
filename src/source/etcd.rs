//! A document that etcd keeps as the value of a key: read, and then watched from the revision behind.
//!
//! What a newcomer would get wrong: a watch says what a key is, too, so it is read again only where the watch cannot go on: the
//! revision is compacted, or something failed.

use super::Kind;
use super::fault::{Fault, text};
use super::follow::Read;
use crate::config::net::Etcd;
use crate::net::etcd::{Change, Changes, Client, Error, Keys, Kind as Of, Kv, Watch};
use crate::net::tls;
use crate::telemetry::log;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long reading the key may take, all members together.
const READ: Duration = Duration::from_secs(10);

/// A key of an etcd.
#[derive(Debug)]
pub(super) struct Source {
    client: Client,
    key: String,
    /// `None`: the key is to be read first.
    watch: Option<Watch>,
}

impl Source {
    pub(super) fn new(etcd: &Etcd, key: &str, clients: Arc<tls::Clients>) -> Self {
        Self { client: Client::new(etcd, clients), key: key.into(), watch: None }
    }

    /// Waits for a change and says what it made of the key.
    pub(super) async fn next(&mut self) -> Result<Option<Read>, Fault> {
        if let Some(watch) = &mut self.watch {
            match watch.next().await {
                Ok(changes) => return latest(changes),
                // What happened since nobody knows: what there is now can be read.
                Err(Error::Compacted { .. }) => self.watch = None,
                Err(error) => {
                    // Whoever answers next may have less than this one had.
                    self.watch = None;
                    return Err(error.into());
                }
            }
        }
        let (found, revision) = self.client.get(self.key.as_str(), Instant::now() + READ).await?;
        self.watch = Some(self.client.watch(Keys::one(self.key.as_str()), revision + 1));
        read(found.ok_or_else(|| Fault::missing("key"))?)
    }
}

/// What changes leave behind.
fn latest(changes: Changes) -> Result<Option<Read>, Fault> {
    match changes.events.into_iter().next_back() {
        None => Ok(None),
        Some(Change::Put(kv)) => read(kv),
        Some(Change::Delete { .. }) => Err(Fault::new(Kind::Missing, "the key was deleted")),
    }
}

fn read(kv: Kv) -> Result<Option<Read>, Fault> {
    Ok(Some(Read { text: text(&kv.value)?.into(), version: kv.mod_revision.to_string() }))
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            Of::Unreachable | Of::Broken => Kind::Unreachable,
            Of::Silent => Kind::Timeout,
            Of::Tls => Kind::Tls,
            Of::Local => Kind::Local,
            Of::Auth | Of::Denied => Kind::Refused,
            Of::TooLarge => return Self::too_large(),
            Of::NoLeader | Of::Unavailable | Of::NoSpace => Kind::Unavailable,
            Of::NoLease | Of::Compacted | Of::Refused | Of::Protocol => Kind::Protocol,
        };
        Self::new(kind, log::chain(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_changes_the_last_counts() {
        fn put(value: &'static [u8], mod_revision: i64) -> Change {
            let value = value.into();
            Change::Put(Kv {
                key: b"/k".into(),
                value,
                create_revision: 1,
                mod_revision,
                version: 1,
                lease: 0,
            })
        }
        fn check(events: Vec<Change>, expected: Result<Option<(&str, &str)>, Kind>) {
            let found = latest(Changes { revision: 9, events }).map_err(|fault| fault.kind);
            let expected = expected
                .map(|read| read.map(|(text, version)| Read { text: text.into(), version: version.into() }));
            assert_eq!(found, expected);
        }
        let gone = || Change::Delete { key: b"/k".into(), mod_revision: 8 };
        check(vec![], Ok(None));
        check(vec![put(b"a: 1", 7)], Ok(Some(("a: 1", "7"))));
        check(vec![put(b"a: 1", 7), put(b"a: 2", 8)], Ok(Some(("a: 2", "8"))));
        check(vec![put(b"a: 1", 7), gone()], Err(Kind::Missing));
        check(vec![gone(), put(b"a: 2", 9)], Ok(Some(("a: 2", "9"))));
        check(vec![put(b"a: 1", 7), put(b"\xff", 8)], Err(Kind::NotText));
    }
}
