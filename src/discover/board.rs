//! What the providers found, put together and published; and what they stand on.

use super::service::{Service, Topology};
use crate::config::Config;
use crate::config::credentials::Side;
use crate::config::services::Services;
use crate::config::{Address, discover};
use crate::connect::{self, Connection, Deadline, Error, Login};
use crate::net::tls;
use crate::telemetry::Metrics;
use crate::telemetry::events::Events;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// What providers stand on.
#[derive(Clone)]
pub struct World {
    /// The configuration that runs.
    pub config: watch::Receiver<Arc<Config>>,
    /// TLS towards Redis.
    pub clients: Arc<tls::Clients>,
    /// Our own counters.
    pub metrics: Arc<Metrics>,
    /// The event log.
    pub events: Arc<Events>,
    /// Where a provider puts what it found.
    pub board: Arc<Board>,
}

impl World {
    /// One of its own: nothing is known, and nothing was counted.
    pub fn new(config: watch::Receiver<Arc<Config>>) -> Self {
        Self {
            config,
            clients: Arc::default(),
            metrics: Arc::default(),
            events: Arc::default(),
            board: Arc::default(),
        }
    }

    /// Opens a conversation with a server of a service, as the profiles say. The address may lack TLS that a
    /// profile asks for.
    pub async fn connect(
        &self,
        service: &str,
        address: &Address,
        side: Side,
        deadline: Deadline,
    ) -> Result<Connection, Error> {
        let config = self.config.borrow().clone();
        let access = config.connect.access(service, address, side);
        let address = Address { tls: access.by_tls, ..address.clone().without_credentials() };
        let login = Login { credentials: access.credentials, set_name: config.connect.set_client_name };
        connect::connect(&address, &login, &access.tls, &self.clients, deadline).await
    }
}

/// What every provider found last.
#[derive(Default)]
pub struct Board {
    found: Mutex<HashMap<Arc<str>, Arc<Service>>>,
    changed: Notify,
}

impl Board {
    fn found(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Service>>> {
        // Nothing panics while this lock is held.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts up what a provider knows of its service now.
    pub fn put(&self, service: Service) {
        self.found().insert(service.name.clone(), Arc::new(service));
        self.changed.notify_one();
    }

    /// What is known of the service.
    pub fn get(&self, name: &str) -> Option<Arc<Service>> {
        self.found().get(name).cloned()
    }

    /// Waits for the next change.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Keeps these services only, and returns them in this order; one of which nothing is known yet has no
    /// members.
    pub fn topology(&self, services: &Services<discover::Service>) -> Topology {
        let mut found = self.found();
        found.retain(|name, _| services.get(name).is_some());
        let of = |service: &Arc<discover::Service>| {
            let known = found.get(&service.name).cloned();
            known.unwrap_or_else(|| Arc::new(Service::unknown(service.name.clone(), service.source.kind())))
        };
        Topology { services: services.map(of) }
    }
}
