//! `services:`: each with the source of its members.

use super::collect::{COLLECT, CollectDraft};
use super::{Draft, FILES, HOST, field, host_pattern, idle, label, name, no_more, switch};
use crate::config::address::{Endpoint, SENTINEL_PORT};
use crate::config::discover::{LAG_BYTES, Rewrite, Service, Source};
use crate::config::document::reader::{Items, Part, Parts, Scope, Set, Surroundings, Table};
use crate::config::scrape::HostPattern;
use crate::config::{Address, Collect};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A service in the making.
pub struct ServiceDraft {
    pub(super) name: String,
    pub(super) master: String,
    pub(super) sentinels: Vec<Address>,
    pub(super) seeds: Vec<Address>,
    pub(super) hostnames: bool,
    pub(super) instances: Vec<Address>,
    pub(super) files: Vec<PathBuf>,
    pub(super) dns: bool,
    pub(super) rewrite: Vec<Rewrite>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) lag_bytes: u64,
    pub(super) collect: CollectDraft,
}

impl ServiceDraft {
    pub(super) fn of(draft: &Draft) -> Self {
        Self {
            name: String::new(),
            master: String::new(),
            sentinels: vec![],
            seeds: vec![],
            hostnames: false,
            instances: vec![],
            files: vec![],
            dns: false,
            rewrite: vec![],
            labels: draft.labels.clone(),
            lag_bytes: LAG_BYTES,
            collect: draft.collect.clone(),
        }
    }
}

pub(super) const MORE_SERVICES: &str = "  - name: sessions
    cluster: { seeds: [\"c1:6379\", \"c2:6379\"] }
  - name: cache
    instances: [\"redis://cache-1:6379\", \"unix:///run/redis.sock\"]
    collect: { client_list: true }
  - name: legacy
    file_sd: { files: [\"targets/*.json\"] }
";

const SOURCES: &[&str] = &["sentinel", "cluster", "instances", "file_sd"];

pub(super) static SERVICE: Table<ServiceDraft> = Table {
    fields: &[
        field(
            "name",
            "",
            "orders",
            Set::Parsed("a name", |d: &mut ServiceDraft, v, _| name(v, &mut d.name)),
            "A name of its own: the label service. It stays through every failover, so choose it once.",
        )
        .required(),
        field(
            "sentinel",
            "",
            "",
            Set::Section(&Part { table: &SENTINEL, at: |d: &mut ServiceDraft| d }),
            "Members are the master that these Sentinels watch, and its replicas.",
        ),
        field(
            "cluster",
            "",
            "{ seeds: [\"c1:6379\", \"c2:6379\"], hostnames: false }",
            Set::Section(&Part { table: &CLUSTER, at: |d: &mut ServiceDraft| d }),
            "Members are the nodes of a Cluster.",
        )
        .aside(),
        field(
            "instances",
            "",
            "[\"cache-1:6379\", \"rediss://cache-2:6380\"]",
            Set::List(&Items { kind: ADDRESSES, least: 1, at: |d: &mut ServiceDraft| &mut d.instances, parse: |v, _| address(v, 6379) }),
            "Members are these servers. A password in an address goes before what credentials say.",
        )
        .private()
        .aside(),
        field(
            "file_sd",
            "",
            "{ files: [\"targets/*.json\"] }",
            Set::Section(&Part { table: &FILE_SD, at: |d: &mut ServiceDraft| d }),
            "Members are what files say.",
        )
        .aside(),
        switch(
            "dns",
            "false",
            |d: &mut ServiceDraft, v| d.dns = v,
            "Take each given address for all the A and AAAA records of its name, looked up again and again: each is a \
             member of a list, a Sentinel, or a seed. For headless services of Kubernetes. Without it a name is \
             one of them, by whichever of its addresses can be connected. With TLS certificates must then name \
             addresses, or the profile a server_name.",
        ),
        field(
            "rewrite",
            "",
            "",
            Set::Each(&Parts {
                table: &REWRITE,
                fresh: |_: &ServiceDraft| RewriteDraft::default(),
                push: |d, rewrite, _| {
                    if let (Some(from), Some((host, port))) = (rewrite.from, rewrite.to) {
                        d.rewrite.push(Rewrite { from, host, port });
                    }
                },
                more: "",
            }),
            "Addresses that Sentinels and nodes announce, into addresses that we can reach: the first that matches. \
             For servers behind NAT or in containers.",
        ),
        field(
            "labels",
            "",
            "{ team: checkout }",
            Set::Map("labels to texts", |d: &mut ServiceDraft, name, text, around| {
                d.labels.insert(name.into(), label(name, text, around)?);
                Ok(())
            }),
            "Labels of every series of its members, beside those of global.labels and before them. The same names are refused.",
        ),
        field(
            "replication_lag_bytes",
            "10000",
            "10000",
            Set::Integer(0, u64::MAX, |d: &mut ServiceDraft, v| d.lag_bytes = v),
            "From how many bytes behind its master on a replica counts as lagging. More for masters with a high \
             write rate.",
        ),
        field(
            "collect",
            "",
            "{ client_list: true }",
            Set::Section(&Part { table: &COLLECT, at: |d: &mut ServiceDraft| &mut d.collect }),
            "What is collected of its members, where that is not what collect says at the top. The same keys.",
        )
        .aside(),
    ],
    finish: |_, scope| scope.exactly_one(SOURCES),
};

pub(super) fn push_service(draft: &mut Draft, service: ServiceDraft, scope: &mut Scope<'_, '_>) {
    let name: Arc<str> = service.name.as_str().into();
    if !draft.names.insert(name.clone()) && !name.is_empty() {
        scope.problem("name", "is the name of another service, too; expected a name of its own");
    }
    idle::of_service(&service, &mut draft.used, scope);
    let source = if scope.said("sentinel") {
        Source::Sentinel { master: service.master, addresses: service.sentinels }
    } else if scope.said("cluster") {
        Source::Cluster { seeds: service.seeds, hostnames: service.hostnames }
    } else if scope.said("file_sd") {
        Source::FileSd(service.files)
    } else {
        Source::Instances(service.instances)
    };
    // Each node of a Cluster is a member of its own, whose keys are its own.
    let collect = Collect { cluster: false, ..service.collect.done() };
    // Nearly always the one before says the same.
    let before = draft.services.last().map(|before| &before.collect).filter(|before| ***before == collect);
    let collect = before.cloned().unwrap_or_else(|| Arc::new(collect));
    draft.services.push(Arc::new(Service {
        name,
        source,
        dns: service.dns,
        rewrite: service.rewrite,
        labels: service.labels,
        collect,
        lag_bytes: service.lag_bytes,
    }));
}

pub(super) static SENTINEL: Table<ServiceDraft> = Table {
    fields: &[
        field(
            "master",
            "",
            "mymaster",
            Set::Parsed("a name", |d: &mut ServiceDraft, v, _| name(v, &mut d.master)),
            "The name under which the Sentinels watch the master.",
        )
        .required(),
        field(
            "addresses",
            "",
            "[\"s1:26379\", \"s2:26379\", \"s3:26379\"]",
            Set::List(&Items {
                kind: "addresses such as host:26379",
                least: 1,
                at: |d: &mut ServiceDraft| &mut d.sentinels,
                parse: |v, _| address(v, SENTINEL_PORT).and_then(without_database),
            }),
            "Sentinels; the port is 26379 where there is none. Those that they know are asked too, so one that \
             answers is enough. Name all, for the day on which some do not. Where all are listed as rediss://, what \
             they announce is reached by TLS, too: other Sentinels, the master and replicas.",
        )
        .private()
        .required(),
    ],
    finish: no_more,
};

pub(super) static CLUSTER: Table<ServiceDraft> = Table {
    fields: &[
        field(
            "seeds",
            "",
            "[\"c1:6379\", \"c2:6379\"]",
            Set::List(&Items {
                kind: ADDRESSES,
                least: 1,
                at: |d: &mut ServiceDraft| &mut d.seeds,
                parse: |v, _| address(v, 6379).and_then(without_database),
            }),
            "Nodes to begin with; the others are found.",
        )
        .private()
        .required(),
        switch(
            "hostnames",
            "false",
            |d: &mut ServiceDraft, v| d.hostnames = v,
            "Reach nodes by the host name that they announce, where they do: for certificates with names.",
        ),
    ],
    finish: no_more,
};

pub(super) static FILE_SD: Table<ServiceDraft> = Table {
    fields: &[field(
        "files",
        "",
        "[\"targets/*.json\"]",
        Set::List(&Items { kind: FILES, least: 1, at: |d: &mut ServiceDraft| &mut d.files, parse: target_file }),
        "Files of the file_sd format of Prometheus, watched: names that end in .json, .yml or .yaml, with * in the \
         last part of the path. They need not be there yet. Labels that global.labels could not have are left out, \
         and the event log says so.",
    )
    .required()],
    finish: no_more,
};

/// A rewrite in the making.
#[derive(Default)]
pub struct RewriteDraft {
    from: Option<HostPattern>,
    to: Option<(String, Option<u16>)>,
}

pub(super) static REWRITE: Table<RewriteDraft> = Table {
    fields: &[
        field(
            "from",
            "",
            "\"172.17.0.0/16\"",
            Set::Parsed(HOST, |d: &mut RewriteDraft, v, around| {
                d.from = Some(host_pattern(v, around)?);
                Ok(())
            }),
            "Which announced addresses.",
        )
        .required(),
        field(
            "to",
            "",
            "host.docker.internal",
            Set::Parsed("host or host:port", |d: &mut RewriteDraft, v, _| {
                d.to = Some(host_and_port(v)?);
                Ok(())
            }),
            "The host instead. The port stays as announced, unless there is one here.",
        )
        .required(),
    ],
    finish: no_more,
};

const ADDRESSES: &str = "addresses such as host:6379, rediss://host:6380 or unix:///path";

fn address(text: &str, port: u16) -> Result<Address, String> {
    Address::parse_with_port(text, port).map_err(|error| {
        format!("is no address: {error}; expected one such as host:{port} or rediss://host:{port}")
    })
}

fn without_database(address: Address) -> Result<Address, String> {
    if address.db == 0 {
        Ok(address)
    } else {
        Err("names a database; expected an address without one".into())
    }
}

/// `host`, `host:port`, with brackets or without around an IPv6 address alone.
fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok((ip.to_string(), None));
    }
    let fail = || "is no host; expected host or host:port".to_owned();
    if text.contains(['/', '@', '?', '*']) || text.starts_with(':') {
        return Err(fail());
    }
    match Address::parse_with_port(text, 0).map_err(|_| fail())?.endpoint {
        Endpoint::Tcp { host, port } => Ok((host, Some(port).filter(|port| *port != 0))),
        Endpoint::Unix(_) => Err(fail()),
    }
}

fn target_file(text: &str, around: &Surroundings<'_>) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let is_known = matches!(path.extension().and_then(|end| end.to_str()), Some("json" | "yml" | "yaml"));
    let folder = path.parent().and_then(Path::to_str).unwrap_or_default();
    if !is_known || folder.contains('*') {
        return Err(
            "is no file of targets; expected a path that ends in .json, .yml or .yaml, with * in its last \
                    part only"
                .into(),
        );
    }
    Ok(around.path(text))
}
