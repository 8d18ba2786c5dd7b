//! `registry:`: where we register, who we are to others there, and how the work is shared.
//!
//! What a newcomer would get wrong: what a copy says of itself (advertise, zone, weight) stands in the same document as what all
//! of them share. A document that all copies get leaves it out, and a file of each copy's own says it.

use super::credentials::TlsDraft;
use super::outputs::{TLS_TO_SERVER, url, word_file};
use super::{Draft, field, filled, idle, no_more};
use crate::config::deliver::{Auth, Endpoint, Url, Word};
use crate::config::document::reader::{Items, Part, Scope, Set, Table};
use crate::config::net::Etcd;
use crate::config::peers::{ConsulRegistry, EtcdRegistry, OnLoss, Registry, Sharding, Value};
use crate::config::serve::{Listen, Serve};
use crate::config::{peers, validate};
use std::path::PathBuf;
use std::time::Duration;

/// The registry in the making.
#[derive(Default)]
pub struct RegistryDraft {
    advertise: Option<Url>,
    zone: Option<String>,
    weight: Option<u32>,
    file_sd: Option<PathBuf>,
    etcd: EtcdDraft,
    consul: ConsulDraft,
    sharding: Sharding,
}

/// `registry.etcd` in the making.
pub struct EtcdDraft {
    endpoints: Vec<Url>,
    user: String,
    password: Option<Word>,
    tls: TlsDraft,
    prefix: String,
    ttl: Duration,
    value: Value,
}

/// `registry.consul` in the making.
pub struct ConsulDraft {
    url: Option<Url>,
    token: Option<Word>,
    tls: TlsDraft,
    service: String,
    tags: Vec<String>,
    ttl: Duration,
}

/// The longest of them that make others wait.
const LONGEST: Duration = Duration::from_secs(300);

/// For how long one counts as alive without a word.
const TTL: Duration = Duration::from_secs(10);

impl Default for EtcdDraft {
    fn default() -> Self {
        let (endpoints, user, password, tls, value) = <_>::default();
        Self { endpoints, user, password, tls, prefix: "/services/exporter/".into(), ttl: TTL, value }
    }
}

impl Default for ConsulDraft {
    fn default() -> Self {
        let (url, token, tls, tags) = <_>::default();
        Self { url, token, tls, service: "redvigil".into(), tags, ttl: TTL }
    }
}

pub(super) static REGISTRY: Table<RegistryDraft> = Table {
    fields: &[
        field(
            "advertise",
            "",
            "http://10.0.0.5:9121",
            Set::Parsed("a URL", |d: &mut RegistryDraft, v, _| {
                d.advertise = Some(peers::advertise(v)?);
                Ok(())
            }),
            "Where Prometheus and others reach this exporter. Its host and port are its name in the registry, so each copy \
             has one of its own: better said by --registry.advertise where all have the same file. Without it, \
             external_address, else the name of the machine with the first port that we listen on.",
        )
        .aside(),
        field(
            "zone",
            "",
            "eu-1a",
            Set::Parsed("a text", |d: &mut RegistryDraft, v, _| filled(v, &mut d.zone)),
            "Where this exporter runs: for people, and a label of /sd/exporters.",
        ),
        field(
            "weight",
            "100",
            "100",
            Set::Integer(1, peers::HEAVIEST as u64, |d: &mut RegistryDraft, v| d.weight = u32::try_from(v).ok()),
            "How much of the work this exporter takes, compared with the others: one of 200 gets twice what one of 100 does.",
        ),
        field(
            "file_sd",
            "",
            "/etc/prometheus/targets/redvigil.json",
            Set::Parsed("the path of a file", |d: &mut RegistryDraft, v, around| {
                if v.is_empty() {
                    return Err("is empty; expected the path of a file".into());
                }
                d.file_sd = Some(around.path(v));
                Ok(())
            }),
            "A file that always has what /sd/exporters says, for a Prometheus that reads file_sd_configs. It is replaced \
             whole, so its folder must be one that we may write to.",
        )
        .aside(),
        field(
            "etcd",
            "",
            "",
            Set::Section(&Part { table: &ETCD, at: |d: &mut RegistryDraft| &mut d.etcd }),
            "Register in etcd, under a lease, and share the services with all who are registered there with the same cluster.",
        ),
        field(
            "consul",
            "",
            "{ url: \"http://127.0.0.1:8500\" }",
            Set::Section(&Part { table: &CONSUL, at: |d: &mut RegistryDraft| &mut d.consul }),
            "Register in Consul as a service with a TTL check, so that consul_sd_configs of Prometheus finds us. Work is shared \
             by etcd only.",
        )
        .aside(),
        field(
            "sharding",
            "",
            "",
            Set::Section(&Part { table: &SHARDING, at: |d: &mut RegistryDraft| &mut d.sharding }),
            "How the services are shared among the exporters of a cluster.",
        ),
    ],
    finish: |draft, scope| {
        let (has_etcd, has_consul) = (scope.said("etcd"), scope.said("consul"));
        if !has_etcd && !has_consul {
            scope.problem_here("names no registry; expected etcd or consul in it");
        }
        let (claims, prefix) = (draft.sharding.claims(), &draft.etcd.prefix);
        if has_etcd && (claims.starts_with(&**prefix) || draft.sharding.members().starts_with(&**prefix)) {
            let key = if scope.said("sharding.claims_prefix") { "sharding" } else { "etcd" };
            scope.problem(
                key,
                format!("puts {claims} below {prefix}, where only exporters are to be; expected prefixes apart"),
            );
        }
        idle::of_registry(draft.sharding != Sharding::default(), scope);
    },
};

static ETCD: Table<EtcdDraft> = Table {
    fields: &[
        field(
            "endpoints",
            "",
            "[\"https://etcd-1:2379\", \"https://etcd-2:2379\", \"https://etcd-3:2379\"]",
            Set::List(&Items {
                kind: "URLs such as https://etcd-1:2379",
                least: 1,
                at: |d: &mut EtcdDraft| &mut d.endpoints,
                parse: |v, _| url(v, "https://etcd-1:2379"),
            }),
            "The members of the etcd. Any of them will do; one that is silent is left for the next.",
        )
        .private()
        .required(),
        field(
            "prefix",
            "/services/exporter/",
            "/services/exporter/",
            Set::Parsed("a prefix of keys", |d: &mut EtcdDraft, v, _| prefix(v, &mut d.prefix)),
            "What the key of each exporter begins with; its host and port follow. Nothing else is put below it.",
        ),
        field(
            "ttl",
            "10s",
            "10s",
            Set::Duration(Duration::from_secs(3), LONGEST, |d: &mut EtcdDraft, v| d.ttl = v),
            "For how long an exporter counts as alive after its last word: what it had stays uncollected for that long when it \
             dies without one. It speaks three times in that time.",
        ),
        field(
            "value",
            "json",
            "json",
            Set::Parsed("json or url", |d: &mut EtcdDraft, v, _| {
                d.value = match v {
                    "json" => Value::Json,
                    "url" => Value::Url,
                    _ => return Err("is no form of a value; expected json or url".into()),
                };
                Ok(())
            }),
            "What stands under the key. json: an object with url, zone, weight, version and started. url: the plain address, \
             for simple readers.",
        ),
        field(
            "username",
            "",
            "redvigil",
            Set::Parsed("a name", |d: &mut EtcdDraft, v, _| {
                d.user = v.into();
                super::name(v, &mut d.user)
            }),
            "The user, where the etcd asks for one. Needs a password, and the permission to read and write below prefix and \
             /redvigil/.",
        ),
        field(
            "password",
            "",
            "change-me",
            Set::Secret(|d: &mut EtcdDraft, v| d.password = Some(Word::Given(v))),
            "The password. Better kept outside of this file.",
        ),
        field(
            "password_file",
            "",
            "/run/secrets/etcd",
            Set::Parsed("the path of a file", |d: &mut EtcdDraft, v, around| {
                d.password = Some(Word::File(word_file(v, around, "password")?));
                Ok(())
            }),
            "The file that holds it, without the white space at its ends. Read again when it changes, without a reload.",
        )
        .aside(),
        field(
            "password_env",
            "",
            "ETCD_PASSWORD",
            Set::SecretVariable(|d: &mut EtcdDraft, v| d.password = Some(Word::Given(v))),
            "The variable of the environment that holds it.",
        )
        .aside(),
        field(
            "tls",
            "",
            "",
            Set::Section(&Part { table: &TLS_TO_SERVER, at: |d: &mut EtcdDraft| &mut d.tls }),
            "TLS, where the endpoints begin with https://. Files are read again when they change, without a reload.",
        ),
    ],
    finish: |draft, scope| {
        let password = scope.at_most_one(&["password", "password_file", "password_env"]);
        match (password, draft.user.is_empty()) {
            (Some(key), true) => scope.problem(key, "needs username too; expected both or none"),
            (None, false) => scope.problem("username", "needs a password too; expected password_file or password_env"),
            _ => {}
        }
        let secure = draft.endpoints.iter().filter(|url| url.secure).count();
        if secure > 0 && secure < draft.endpoints.len() {
            scope.problem("endpoints", "has both http:// and https://; expected one of them for all");
        }
        if secure == 0 {
            scope.idle("tls", "the endpoints begin with http://");
        }
    },
};

static CONSUL: Table<ConsulDraft> = Table {
    fields: &[
        field(
            "url",
            "",
            "http://127.0.0.1:8500",
            Set::Parsed("a URL", |d: &mut ConsulDraft, v, _| {
                d.url = Some(url(v, "http://127.0.0.1:8500")?);
                Ok(())
            }),
            "The Consul agent of this machine.",
        )
        .private()
        .required(),
        field(
            "service",
            "redvigil",
            "redvigil",
            Set::Parsed("a name", |d: &mut ConsulDraft, v, _| super::name(v, &mut d.service)),
            "The name of the service.",
        ),
        field(
            "tags",
            "",
            "[\"redis\", \"prod\"]",
            Set::List(&Items {
                kind: "texts",
                least: 0,
                at: |d: &mut ConsulDraft| &mut d.tags,
                parse: |v, _| {
                    let mut tag = String::new();
                    super::name(v, &mut tag).map(|()| tag)
                },
            }),
            "Its tags.",
        ),
        field(
            "ttl",
            "10s",
            "10s",
            Set::Duration(Duration::from_secs(3), LONGEST, |d: &mut ConsulDraft, v| d.ttl = v),
            "For how long its check passes after our last word. It is removed when the check has failed for ten of these, a \
             minute at least, which is the least that Consul takes.",
        ),
        field(
            "token",
            "",
            "change-me",
            Set::Secret(|d: &mut ConsulDraft, v| d.token = Some(Word::Given(v))),
            "The token, where Consul asks for one; it must have the right to write the service. Better kept outside of this file.",
        ),
        field(
            "token_file",
            "",
            "/run/secrets/consul",
            Set::Parsed("the path of a file", |d: &mut ConsulDraft, v, around| {
                d.token = Some(Word::File(word_file(v, around, "token")?));
                Ok(())
            }),
            "The file that holds it, without the white space at its ends. Read again when it changes, without a reload.",
        )
        .aside(),
        field(
            "token_env",
            "",
            "CONSUL_TOKEN",
            Set::SecretVariable(|d: &mut ConsulDraft, v| d.token = Some(Word::Given(v))),
            "The variable of the environment that holds it.",
        )
        .aside(),
        field(
            "tls",
            "",
            "",
            Set::Section(&Part { table: &TLS_TO_SERVER, at: |d: &mut ConsulDraft| &mut d.tls }),
            "TLS, where the URL begins with https://. Files are read again when they change, without a reload.",
        ),
    ],
    finish: |draft, scope| {
        scope.at_most_one(&["token", "token_file", "token_env"]);
        if draft.url.as_ref().is_some_and(|url| !url.secure) {
            scope.idle("tls", "the URL begins with http://");
        }
    },
};

static SHARDING: Table<Sharding> = Table {
    fields: &[
        super::switch(
            "enabled",
            "true",
            |s: &mut Sharding, v| s.enabled = v,
            "Share. false: every exporter collects all services, and what two of them push is there twice.",
        ),
        field(
            "cluster",
            "default",
            "default",
            Set::Parsed("a word of a-z, A-Z, 0-9, _, - and .", |s: &mut Sharding, v, _| {
                s.cluster = v.into();
                validate::output_name(v).map_err(|_| {
                    "is no name of a cluster; expected a word of a-z, A-Z, 0-9, _, - and .".to_owned()
                })
            }),
            "Those who share have the same. Another one in the same etcd is another group with work of its own.",
        ),
        field(
            "claims_prefix",
            "",
            "/redvigil/default/shards/",
            Set::Parsed("a prefix of keys", |s: &mut Sharding, v, _| {
                prefix(v, s.claims_prefix.get_or_insert_default())
            }),
            "What the key of each claim begins with; 000 to 255 follow. Without it, /redvigil/<cluster>/shards/.",
        )
        .aside(),
        field(
            "min_peers",
            "1",
            "1",
            Set::Integer(1, 1000, |s: &mut Sharding, v| s.min_peers = usize::try_from(v).unwrap_or(1)),
            "While fewer exporters are there, nothing new is taken: so that the first one of many does not take all. What it \
             has, an exporter keeps.",
        ),
        field(
            "settle",
            "5s",
            "5s",
            Set::Duration(Duration::ZERO, LONGEST, |s: &mut Sharding, v| s.settle = v),
            "How long the exporters must be the same before work moves from one that lives to another, and before the first \
             one takes anything. What a dead one had is taken at once.",
        ),
        field(
            "on_etcd_loss",
            "freeze",
            "freeze",
            Set::Parsed("freeze or stop", |s: &mut Sharding, v, _| {
                s.on_etcd_loss = match v {
                    "freeze" => OnLoss::Freeze,
                    "stop" => OnLoss::Stop,
                    _ => return Err("is no such thing; expected freeze or stop".into()),
                };
                Ok(())
            }),
            "What to do while etcd does not answer. freeze: go on with what is ours and take nothing, so that some may be \
             collected twice, and redvigil_coordination_frozen says so. stop: collect nothing from two thirds of ttl on, so \
             that nothing is collected twice and some not at all.",
        ),
    ],
    finish: no_more,
};

/// A prefix of keys: `/` at both ends.
fn prefix(text: &str, into: &mut String) -> Result<(), String> {
    let is_whole = text.len() > 2 && text.len() <= 200 && text.starts_with('/') && text.ends_with('/');
    if !is_whole || text.contains("//") || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(
            "is no prefix of keys; expected one such as /services/exporter/, with / at both ends".into()
        );
    }
    *into = text.into();
    Ok(())
}

pub(super) fn put_registry(draft: &mut Draft, scope: &mut Scope<'_, '_>) {
    if !scope.said("registry") {
        return;
    }
    let said = std::mem::take(&mut draft.registry);
    let own = &draft.config.peers.own;
    let advertise = own.advertise.clone().or(said.advertise).or_else(|| own_address(&draft.config.serve));
    let Some(advertise) = advertise else {
        let message = "needs advertise, for there is no port that others could know; expected one such as http://10.0.0.5:9121";
        return scope.problem("registry", message);
    };
    let (zone, weight) = (own.zone.clone().or(said.zone), own.weight.or(said.weight).unwrap_or(WEIGHT));
    let etcd = scope.said("registry.etcd").then(|| {
        let EtcdDraft { endpoints, user, password, tls, prefix, ttl, value } = said.etcd;
        let etcd = Etcd { endpoints, user: password.map(|password| (user, password)), tls: tls.settings };
        EtcdRegistry { etcd, prefix, ttl, value }
    });
    let ConsulDraft { url, token, tls, service, tags, ttl } = said.consul;
    let consul = url.map(|url| {
        let auth = token.map_or(Auth::None, Auth::Bearer);
        let agent = Endpoint { url, headers: vec![], auth, tls: tls.settings, timeout: ttl / 3 };
        ConsulRegistry { agent, service, tags, ttl }
    });
    draft.config.peers.registry = Some(Registry {
        advertise,
        zone,
        weight,
        file_sd: said.file_sd,
        etcd,
        consul,
        sharding: said.sharding,
    });
}

/// The weight of who says none.
const WEIGHT: u32 = 100;

/// Where others reach us, as far as that can be known: the external address, else the machine and the first port.
fn own_address(serve: &Serve) -> Option<Url> {
    let scheme = if serve.tls.is_some() { "https" } else { "http" };
    let address = serve.external_address.clone().or_else(|| {
        let port = serve.listen.iter().find_map(|listen| match listen {
            Listen::Tcp { port, .. } => Some(*port).filter(|port| *port != 0),
            Listen::Unix(_) => None,
        })?;
        Some(format!("{}:{port}", rustix::system::uname().nodename().to_string_lossy()))
    })?;
    Url::parse(&format!("{scheme}://{address}")).ok()
}

#[cfg(test)]
mod tests;
