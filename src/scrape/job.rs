//! Who is asked for what: what requests and ticks come to, and what collections are shared by.
//!
//! What a newcomer would get wrong: who we are to a server is part of where it is asked. Another password is another place.

use crate::collect::run::Scope;
use crate::config::collect::Keys;
use crate::config::connect::Tls;
use crate::config::credentials::{Origin, Side};
use crate::config::{Address, Config};
use crate::connect::Login;
use crate::discover::Member;
use std::sync::Arc;

/// Who is asked: as whom and by which TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The server.
    pub address: Address,
    /// Who we are to it.
    pub login: Login,
    /// TLS towards it.
    pub tls: Tls,
    /// Whether the nodes that the server names must be on the list of `--scrape.allow`, as a target that a
    /// request names must.
    pub lists_nodes: bool,
    /// The service that it is a member of.
    pub service: Option<Arc<str>>,
}

/// Who is asked for what: requests with the same job share a collection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    /// Who is asked.
    pub place: Place,
    /// Key patterns.
    pub keys: Keys,
    /// Which part of it all.
    pub scope: Scope,
}

/// Who we are to a server.
pub fn login(config: &Config, address: &Address, origin: Origin) -> Login {
    let credentials = config.connect.credentials(address, origin);
    Login { credentials, set_name: config.connect.set_client_name }
}

impl Job {
    /// What is asked of a server that is no member of a service.
    pub fn of_address(config: &Config, address: &Address, origin: Origin, keys: Keys) -> Self {
        let login = login(config, address, origin);
        let tls = config.connect.tls.clone();
        let lists_nodes = origin == Origin::Request && !config.scrape.allow.is_empty();
        let address = address.clone().without_credentials();
        Self {
            place: Place { address, login, tls, lists_nodes, service: None },
            keys,
            scope: Scope::Everything,
        }
    }

    /// What is asked of a member of a service; `None` where the service is no longer configured.
    pub fn of_member(config: &Config, service: &Arc<str>, member: &Member, scope: Scope) -> Option<Self> {
        let collect = &config.discover.service(service)?.collect;
        let access = config.connect.access(service, &member.address, Side::Data);
        let address = Address { tls: access.by_tls, ..member.address.clone().without_credentials() };
        let place = Place {
            address,
            login: Login { credentials: access.credentials, set_name: config.connect.set_client_name },
            tls: access.tls,
            lists_nodes: false,
            service: Some(service.clone()),
        };
        let keys = if scope == Scope::WithoutKeys { Keys::default() } else { collect.keys.clone() };
        Some(Self { place, keys, scope })
    }
}
