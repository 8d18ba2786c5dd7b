//! A member that is known under two addresses is one.
//!
//! Each run of a server has an id (`run_id` of INFO). Who collects tells which id answered at which address.

use crate::config::Address;
use crate::config::address::Endpoint;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Which server answered where.
#[derive(Debug, Default)]
pub struct Identities {
    known: Mutex<HashMap<Endpoint, Option<Arc<str>>>>,
    changed: Notify,
}

impl Identities {
    fn known(&self) -> MutexGuard<'_, HashMap<Endpoint, Option<Arc<str>>>> {
        // Nothing panics while this lock is held.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server with this id answered at this address. Addresses that are in no service are not kept.
    pub fn learn(&self, address: &Address, id: &str) {
        let mut known = self.known();
        if let Some(seen) = known.get_mut(&address.endpoint)
            && seen.as_deref() != Some(id)
        {
            *seen = Some(id.into());
            drop(known);
            self.changed.notify_one();
        }
    }

    /// Waits for the next change.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}
