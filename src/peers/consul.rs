//! Registration in Consul: a service with a TTL check, so that `consul_sd_configs` of Prometheus finds us. Work is not shared
//! there. <https://developer.hashicorp.com/consul/api-docs/agent/service>
//!
//! What a newcomer would get wrong: an agent forgets what it was told when its data is lost, and says so only when the check is
//! to pass: 404, or 500 in older ones. So that answer means: register again, and nothing is wrong.

use crate::config::peers::ConsulRegistry;
use crate::config::{Config, build};
use crate::net::consul::Consul;
use crate::net::http::{self, Method, StatusCode, encoded};
use crate::net::tls;
use crate::telemetry::events::{Events, Kind};
use crate::telemetry::log;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// How long taking ourselves off the list may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// The least that Consul lets a dead service stand.
const SHORTEST_STAY: Duration = Duration::from_secs(60);

/// The most that is read of an answer.
const LIMIT: usize = 64 * 1024;

/// Registers us where the configuration wants it, and keeps that alive until `stop`; then we are taken off the list. Ends soon
/// after `stop`, and never before.
pub async fn run(
    mut config: watch::Receiver<Arc<Config>>,
    clients: Arc<tls::Clients>,
    events: Arc<Events>,
    stop: CancellationToken,
) {
    loop {
        let wanted = Wanted::of(&config.borrow_and_update());
        let Some(wanted) = wanted else {
            tokio::select! {
                Ok(()) = config.changed() => continue,
                () = stop.cancelled() => return,
            }
        };
        let mut entry = Entry::new(wanted, clients.clone(), events.clone());
        let next = entry.keep(&mut config, &stop).await;
        if next.as_ref().is_none_or(|next| !next.is_same_entry(&entry.wanted)) {
            entry.leave().await;
        }
        if stop.is_cancelled() {
            return;
        }
    }
}

/// What is to stand there.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    registry: ConsulRegistry,
    service: Service,
}

/// As Consul reads it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    address: String,
    port: u16,
    tags: Vec<String>,
    meta: BTreeMap<&'static str, String>,
    check: Check,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(rename = "CheckID")]
    id: String,
    #[serde(rename = "TTL")]
    ttl: String,
    deregister_critical_service_after: String,
    status: &'static str,
}

impl Wanted {
    fn of(config: &Config) -> Option<Self> {
        let registry = config.peers.registry.as_ref()?;
        let consul = registry.consul.clone()?;
        let advertise = &registry.advertise;
        let id = format!("{}-{}:{}", consul.service, advertise.host, advertise.port);
        let mut meta = BTreeMap::from([
            ("version", build::VERSION.to_owned()),
            ("scheme", if advertise.secure { "https" } else { "http" }.into()),
        ]);
        if let Some(zone) = &registry.zone {
            meta.insert("zone", zone.clone());
        }
        let stay = SHORTEST_STAY.max(consul.ttl * 6);
        let check = Check {
            id: format!("service:{id}"),
            ttl: format!("{}ms", consul.ttl.as_millis()),
            deregister_critical_service_after: format!("{}s", stay.as_secs()),
            status: "passing",
        };
        let service = Service {
            id,
            name: consul.service.clone(),
            address: advertise.host.clone(),
            port: advertise.port,
            tags: consul.tags.clone(),
            meta,
            check,
        };
        Some(Self { registry: consul, service })
    }

    /// Whether the one takes the place of the other by being registered.
    fn is_same_entry(&self, other: &Self) -> bool {
        self.service.id == other.service.id && self.registry.agent == other.registry.agent
    }
}

/// Us in the list of one agent.
struct Entry {
    wanted: Wanted,
    consul: Consul,
    events: Arc<Events>,
    is_registered: bool,
    /// Whether we asked to be, whatever came of it: the answer may have been lost.
    may_be_there: bool,
    /// Why it does not work now, as it was told.
    failure: Option<String>,
}

/// Why the agent did not do as it was asked.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Http(#[from] http::Error),
    /// It does not know us.
    #[error("the agent has forgotten us")]
    Forgotten,
    #[error("it answers {status}: {said}")]
    Status { status: StatusCode, said: String },
}

impl Entry {
    fn new(wanted: Wanted, clients: Arc<tls::Clients>, events: Arc<Events>) -> Self {
        let consul = Consul::new(&wanted.registry.agent, clients);
        Self { wanted, consul, events, is_registered: false, may_be_there: false, failure: None }
    }

    /// Keeps the entry alive until another one is wanted, which is returned, or none.
    async fn keep(
        &mut self,
        config: &mut watch::Receiver<Arc<Config>>,
        stop: &CancellationToken,
    ) -> Option<Wanted> {
        let beat = self.wanted.registry.ttl / 3;
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = sleep_until(next) => {}
                Ok(()) = config.changed() => {
                    let wanted = Wanted::of(&config.borrow_and_update());
                    if wanted.as_ref() == Some(&self.wanted) {
                        continue;
                    }
                    return wanted;
                }
                () = stop.cancelled() => return None,
            }
            next = Instant::now() + beat;
            let beating = self.beat(next);
            let outcome = tokio::select! {
                outcome = beating => outcome,
                () = stop.cancelled() => return None,
            };
            self.tell(outcome);
        }
    }

    /// Says that we live; registers us where that is not known.
    async fn beat(&mut self, deadline: Instant) -> Result<(), Error> {
        if self.is_registered {
            let path = format!("/v1/agent/check/pass/{}", encoded(&self.wanted.service.check.id));
            match self.ask(path, String::new(), deadline).await {
                Err(Error::Forgotten) => self.is_registered = false,
                outcome => return outcome,
            }
        }
        let body = serde_json::to_string(&self.wanted.service).expect("texts and numbers are JSON");
        self.may_be_there = true;
        let path = "/v1/agent/service/register?replace-existing-checks=true";
        self.ask(path.into(), body, deadline).await?;
        self.is_registered = true;
        Ok(())
    }

    /// Takes us off the list, where the agent answers soon; else it does so itself when the check is over.
    async fn leave(&mut self) {
        if !self.may_be_there {
            return;
        }
        let path = format!("/v1/agent/service/deregister/{}", encoded(&self.wanted.service.id));
        let asked = self.ask(path, String::new(), Instant::now() + FAREWELL);
        let outcome = timeout(FAREWELL, asked).await;
        let message = match outcome {
            Ok(Ok(())) => "taken off the list of Consul",
            _ => "Consul was not told that we leave: it will see when the check is over",
        };
        self.push(message.into());
    }

    async fn ask(&mut self, path: String, body: String, deadline: Instant) -> Result<(), Error> {
        let prefix = self.wanted.registry.agent.url.path_alone().trim_end_matches('/');
        let reply = self.consul.ask(Method::PUT, format!("{prefix}{path}"), body, LIMIT, deadline).await?;
        match reply.status {
            StatusCode::OK => Ok(()),
            StatusCode::NOT_FOUND => Err(Error::Forgotten),
            StatusCode::INTERNAL_SERVER_ERROR if is_forgotten(&reply.body) => Err(Error::Forgotten),
            status => Err(Error::Status { status, said: self.consul.said(&reply.body) }),
        }
    }

    /// Tells when it begins to fail, for another reason too, and when it works again.
    fn tell(&mut self, outcome: Result<(), Error>) {
        let failure = outcome.err().map(|error| log::chain(&error));
        match (&self.failure, &failure) {
            (None, Some(why)) => self.push(format!("Consul does not know that we live: {why}")),
            (Some(before), Some(why)) if before != why => {
                self.push(format!("Consul still does not know that we live: {why}"));
            }
            (Some(_), None) => self.push("registered in Consul again".into()),
            _ => {}
        }
        self.failure = failure;
    }

    fn push(&self, message: String) {
        self.events.push("", Kind::Peers, None, None, message);
    }
}

/// What agents say of a check that they do not know, 1.8 and later ones.
fn is_forgotten(body: &[u8]) -> bool {
    let said = String::from_utf8_lossy(body);
    ["does not have associated TTL", "Unknown check", "unknown check"].iter().any(|text| said.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::connect::Tls;
    use crate::config::deliver::{Auth, Endpoint, Url};
    use crate::config::peers::{Registry, Sharding};

    #[test]
    fn what_is_registered_is_what_the_configuration_says() {
        let url = |text| Url::parse(text).expect("a URL");
        let consul = ConsulRegistry {
            agent: Endpoint {
                url: url("http://127.0.0.1:8500"),
                headers: vec![],
                auth: Auth::None,
                tls: Tls::default(),
                timeout: Duration::from_secs(3),
            },
            service: "redvigil".into(),
            tags: vec!["a".into()],
            ttl: Duration::from_secs(15),
        };
        let registry = Registry {
            advertise: url("https://[fe80::5]:9121"),
            zone: Some("eu-1a".into()),
            weight: 100,
            file_sd: None,
            etcd: None,
            consul: Some(consul),
            sharding: Sharding::default(),
        };
        let mut config = Config::default();
        assert_eq!(Wanted::of(&config), None);
        config.peers.registry = Some(registry);
        let wanted = Wanted::of(&config).expect("it is wanted");
        let found = serde_json::to_value(&wanted.service).expect("JSON");
        let expected = serde_json::json!({
            "ID": "redvigil-fe80::5:9121", "Name": "redvigil", "Address": "fe80::5", "Port": 9121, "Tags": ["a"],
            "Meta": {"scheme": "https", "version": build::VERSION, "zone": "eu-1a"},
            "Check": {
                "CheckID": "service:redvigil-fe80::5:9121", "TTL": "15000ms",
                "DeregisterCriticalServiceAfter": "90s", "Status": "passing",
            },
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn an_agent_that_forgot_says_so_in_several_ways() {
        fn check(body: &str, expected: bool) {
            assert_eq!(is_forgotten(body.as_bytes()), expected, "{body}");
        }
        // Consul 1.8.7, without and with ACL; later ones.
        check(r#"CheckID "service:none" does not have associated TTL"#, true);
        check(r#"Unknown check "service:none""#, true);
        check(r#"Unknown check ID "service:none". Ensure that the check ID is passed"#, true);
        check("No cluster leader", false);
        check("", false);
    }
}
