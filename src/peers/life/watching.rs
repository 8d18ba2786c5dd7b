//! What stands in etcd, as lists and watches tell it.
//!
//! A list says all at a revision, a watch goes on from there. What is older than what is known does not count, so that the two
//! and the answers to our own writes may come in any order.
//!
//! What a newcomer would get wrong: a watch that failed goes on by itself behind what it told last; only one whose revision is
//! compacted needs a list. And a watch may go on though our lease cannot be kept alive, as under a password that counts no more:
//! then leases end, ours and perhaps everybody's, and it says so. What it says is gone stays as it was until etcd has answered
//! about our lease; what somebody else has taken since is told, and is the other one's.

use super::Life;
use crate::net::etcd::{Change, Changes, Error, Keys, Kv, Page, Watch};
use crate::peers::claims::{self, Claim};
use crate::peers::families::differing;
use crate::peers::run::Settings;
use crate::peers::share::Peer;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long a watch that failed rests.
pub(super) const REST: Duration = Duration::from_millis(500);

/// How long at least a peer is configured otherwise before that is told.
const LASTING: Duration = Duration::from_secs(10);

/// A watch of one prefix.
pub(super) struct Watched {
    pub(super) prefix: String,
    pub(super) watch: Option<Watch>,
    /// Not to be polled before.
    rest: Option<Instant>,
}

impl Life<'_> {
    /// Whether what there is has not been read yet, or has to be read anew.
    pub(super) fn is_unread(&self) -> bool {
        self.watches.iter().any(|watched| watched.watch.is_none())
    }

    pub(super) fn listed(&mut self, place: usize, page: &Page) {
        let Some(prefix) = self.watches.get(place).map(|watched| watched.prefix.clone()) else { return };
        let (names, before) = (&self.settings, self.members.peers().to_vec());
        if names.members.starts_with(&prefix) {
            let own = names.own.id.clone();
            let ids = page.kvs.iter().filter_map(|kv| {
                let id = std::str::from_utf8(kv.key.strip_prefix(names.members.as_bytes())?).ok()?;
                Some((id, kv))
            });
            let all: Vec<_> = ids.map(|(id, kv)| (id, &*kv.value, kv.mod_revision)).collect();
            self.members.list(all.iter().copied(), Instant::now());
            let stands = page.kvs.iter().find(|kv| kv.key == format!("{}{own}", names.members).as_bytes());
            // What we wrote just now may be behind that list.
            if let Some(kv) = stands {
                self.look_at_own(&own, Some((kv.lease, kv.mod_revision)));
            }
        }
        for kv in &page.kvs {
            if let Some(shard) = self.settings.left_of(&kv.key) {
                self.note_left(shard, &kv.value);
            }
        }
        if self.settings.claims.starts_with(&prefix) {
            let shard = |kv: &Kv| Some((claims::shard(&self.settings.claims, &kv.key)?, standing_claim(kv)));
            self.claims.list(page.kvs.iter().filter_map(shard), page.revision);
        }
        self.tell_of_peers(&before);
        let watch = self.client.watch(Keys::prefix(prefix), page.revision.saturating_add(1));
        let watched = &mut self.watches[place];
        (watched.watch, watched.rest) = (Some(watch), None);
    }

    /// A watch told something.
    pub(super) fn changed(&mut self, place: usize, changes: Result<Changes, Error>) {
        match changes {
            Ok(changes) => {
                self.revision = self.revision.max(changes.revision);
                let before = self.members.peers().to_vec();
                changes.events.iter().for_each(|change| self.take_in(change));
                self.tell_of_peers(&before);
            }
            Err(Error::Compacted { .. }) => self.list_due = Some(Instant::now()),
            // It would come to the same place again.
            Err(error @ Error::TooLarge { .. }) => {
                self.watches[place].watch = None;
                self.unsure(&error);
            }
            Err(error) => {
                self.of.failed(&error);
                self.check_soon();
                self.watches[place].rest = Some(Instant::now() + REST.mul_f64(0.5 + fastrand::f64()));
            }
        }
    }

    /// A key changed.
    fn take_in(&mut self, change: &Change) {
        let key = change.key();
        let id =
            key.strip_prefix(self.settings.members.as_bytes()).and_then(|id| std::str::from_utf8(id).ok());
        let shard = claims::shard(&self.settings.claims, key);
        if let (Change::Put(kv), Some(shard)) = (change, self.settings.left_of(key)) {
            return self.note_left(shard, &kv.value);
        }
        if let (Change::Delete { .. }, true) = (change, self.is_silent) {
            self.has_missed = true;
            return;
        }
        match (change, id, shard) {
            (Change::Put(kv), Some(id), _) => {
                self.members.put(id, &kv.value, kv.mod_revision, Instant::now());
                self.look_at_own(id, Some((kv.lease, kv.mod_revision)));
            }
            (Change::Delete { mod_revision, .. }, Some(id), _) => {
                self.members.delete(id, *mod_revision, Instant::now());
                self.look_at_own(id, None);
            }
            (Change::Put(kv), _, Some(shard)) => {
                if kv.lease != self.lease.id {
                    self.left.remove(&shard);
                }
                self.claims.put(shard, standing_claim(kv));
            }
            (Change::Delete { mod_revision, .. }, _, Some(shard)) => self.claims.delete(shard, *mod_revision),
            _ => {}
        }
    }

    /// Since when whoever has a shard begins nothing of it. What cannot be read says nothing.
    fn note_left(&mut self, shard: u8, value: &[u8]) {
        let since = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        if let Some(since) = since {
            self.left.insert(shard, since);
        }
    }

    /// Who came or went.
    fn tell_of_peers(&self, before: &[Arc<Peer>]) {
        let now = self.members.peers();
        // Both are in the order of their ids.
        let has = |peers: &[Arc<Peer>], id: &str| peers.binary_search_by(|peer| (*peer.id).cmp(id)).is_ok();
        for Peer { id, .. } in before.iter().map(|peer| &**peer).filter(|peer| !has(now, &peer.id)) {
            self.of.say(Some(id), None, format!("{id} is gone"));
        }
        for Peer { id, .. } in now.iter().map(|peer| &**peer).filter(|peer| !has(before, &peer.id)) {
            self.of.say(None, Some(id), format!("{id} is there"));
        }
    }

    /// Who is configured otherwise, once that has lasted: all copies get another configuration within a moment, and not at once.
    pub(super) fn tell_of_differences(&mut self) {
        let (now, own) = (Instant::now(), &self.settings.own);
        let differ: BTreeSet<_> =
            differing(self.members.peers(), Some(own)).filter(|id| **id != *own.id).collect();
        let lasts = LASTING.max(self.lease.ttl * 2);
        for (id, (_, is_told)) in self.differ.extract_if(.., |id, _| !differ.contains(&**id)) {
            if is_told && self.members.place(&id).is_some() {
                self.of.say(Some(&id), None, format!("{id} is configured as we are again"));
            }
        }
        for id in differ {
            let (since, is_told) = self.differ.entry(id.into()).or_insert((now, false));
            if !*is_told && now.duration_since(*since) >= lasts {
                *is_told = true;
                self.of.say(None, Some(id), format!("{id} is configured otherwise than we are"));
            }
        }
    }
}

/// What stands under the key of a claim.
pub(super) fn standing_claim(kv: &Kv) -> Claim {
    Claim { owner: claims::owner(&kv.value), lease: kv.lease, mod_revision: kv.mod_revision }
}

/// What is to be watched: one prefix where both kinds of keys are under it.
pub(super) fn watched(settings: &Settings) -> Vec<Watched> {
    let (root, claims) = (settings.root.clone(), settings.claims.clone());
    let prefixes = if claims.starts_with(&root) { vec![root] } else { vec![root, claims] };
    prefixes.into_iter().map(|prefix| Watched { prefix, watch: None, rest: None }).collect()
}

/// What one of the watches tells next. Cancel safe.
pub(super) async fn next_change(watches: &mut [Watched]) -> (usize, Result<Changes, Error>) {
    async fn of(place: usize, watched: Option<&mut Watched>) -> (usize, Result<Changes, Error>) {
        let Some(Watched { watch: Some(watch), rest, .. }) = watched else {
            return std::future::pending().await;
        };
        if let Some(rest) = rest.take_if(|rest| *rest <= Instant::now()).or(*rest) {
            sleep_until(rest).await;
        }
        (place, watch.next().await)
    }
    let (first, second) = watches.split_at_mut(watches.len().min(1));
    tokio::select! {
        told = of(0, first.first_mut()) => told,
        told = of(1, second.first_mut()) => told,
    }
}
