//! What stands under our own name: our lease, or that of another process that goes by it.
//!
//! What a newcomer would get wrong: claims of our name under another lease are what we left behind when we started again, as long as
//! that lease may live. Only what stays longer is somebody else's.

use super::Life;
use crate::peers::claims::Claim;
use tokio::time::Instant;
use tracing::warn;

impl Life<'_> {
    /// What stands under our own name: our lease, or that of another process that goes by it, and the revision of that. What was
    /// there before us is of no account: we have written over it, or are about to. What is gone though our lease lives is put
    /// again.
    pub(super) fn look_at_own(&mut self, id: &str, stands: Option<(i64, i64)>) {
        if id != self.settings.own.id {
            return;
        }
        let is_behind_ours = |revision: i64| self.registered > 0 && revision > self.registered;
        self.is_overwritten =
            stands.is_some_and(|(lease, revision)| lease != self.lease.id && is_behind_ours(revision));
        self.of.board.note(|status| status.is_registered &= stands.is_some());
        self.look_for_twin();
        if stands.is_none() {
            self.register();
        }
    }

    /// Whether another process goes by our name: it has written over our key, or we over its, and then its claims stay longer
    /// than those that we left behind when we started again.
    pub(super) fn look_for_twin(&mut self) {
        let (id, own) = (&self.settings.own.id, self.lease.id);
        let is_of_twin = |claim: &Claim| claim.owner == *id && claim.lease != own && claim.lease != 0;
        let has_claims = self.claims.iter().any(|(_, claim)| is_of_twin(claim));
        self.twin_since = self.twin_since.or(Some(Instant::now())).filter(|_| has_claims);
        let stays = self.twin_since.is_some_and(|since| since.elapsed() > self.lease.ttl * 2);
        let has_twin = self.is_overwritten || stays;
        if std::mem::replace(&mut self.has_twin, has_twin) == has_twin {
            return;
        }
        self.of.board.note(|status| status.has_twin = has_twin);
        if has_twin {
            warn!(id, "another process is registered by this name: each needs an advertise of its own");
            self.of.say(Some(id), Some(id), format!("another process is registered as {id}"));
        } else {
            self.of.say(Some(id), None, format!("no other process is registered as {id} any more"));
        }
    }
}
