//! The end of a life: what is ours is handed over, and the lease given up.
//!
//! What a newcomer would get wrong: handing over is a courtesy. It is done where etcd answers and in a moment, or not at all; who
//! comes next takes what is free either way.

use super::{End, Life};
use crate::net::etcd::Txn;
use crate::peers::run::farewell;
use crate::peers::shards::Shards;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

/// How many keys one call writes: etcd takes 128 unless told otherwise.
const MOST_AT_ONCE: usize = 100;

/// How long handing over may wait for what is under way, and as long again for etcd.
const LONGEST_FAREWELL: Duration = Duration::from_secs(2);

impl Life<'_> {
    /// What is left to do at the end; what was ours.
    pub(super) async fn end(&mut self, end: &End) -> Shards {
        if *end != End::Lost {
            self.hand_over().await;
        }
        let had = self.claims.under(self.lease.id);
        // What is not shared is ours without a lease, too.
        if self.settings.registry.sharding.enabled {
            self.of.take_away();
        }
        self.of.board.note(|status| (status.is_registered, status.has_twin) = (false, false));
        self.calls.abort_all();
        match end {
            End::Lost => {
                self.of.board.note(|status| {
                    (status.leases_lost, status.lost) =
                        (status.leases_lost + 1, status.lost + had.len() as u64)
                });
                warn!(shards = had.len(), "the lease has ended: nothing is ours until there is another");
                self.of.say(Some("ok"), Some("lost"), "the lease has ended; another one is asked for".into());
            }
            _ => farewell(&self.client, self.lease.id).await,
        }
        self.count();
        had
    }

    /// Hands over all that is ours, as far as that can be done in a moment: whoever collects finishes what is under way, and the
    /// others are told since when nothing begins.
    async fn hand_over(&mut self) {
        if !self.settings.registry.sharding.enabled || self.is_silent || self.doubt.is_some() {
            return;
        }
        let ours = self.claims.under(self.lease.id);
        let number = self.publish(ours, ours);
        let until = Instant::now() + LONGEST_FAREWELL.min(self.lease.ttl / 3);
        let mut seen = self.of.seen.clone();
        loop {
            let is_quiet = {
                let seen = seen.borrow_and_update();
                seen.number >= number && seen.busy.is_empty()
            };
            if is_quiet || !matches!(timeout_at(until, seen.changed()).await, Ok(Ok(()))) {
                break;
            }
        }
        let said: Vec<_> = ours.iter().filter_map(|shard| self.said_left(shard)).collect();
        let until = Instant::now() + LONGEST_FAREWELL.min(self.lease.ttl / 3);
        for then in said.chunks(MOST_AT_ONCE) {
            let txn = Txn { then: then.to_vec(), ..Txn::default() };
            if let Err(error) = self.client.txn(txn, until).await {
                return self.of.failed(&error);
            }
        }
    }
}
