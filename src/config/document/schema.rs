//! The tables of the configuration file: every key that it may have.
//!
//! One row is one key. What reads the file, `docs/config.md` and `docs/example.yaml` are all made from these rows;
//! a new option is a field in the room's own file and one row here.
//!
//! What a newcomer would get wrong: the defaults stand here *and* in the `impl Default` of the structs. A test
//! reads all of them as a document and compares.

mod idle;

use super::reader::{Field, Items, Part, Parts, Scope, Set, Surroundings, Table};
use crate::config::address::SENTINEL_PORT;
use crate::config::collect::{KeyPattern, Script};
use crate::config::connect::Tls;
use crate::config::credentials::{Profile, SentinelTls};
use crate::config::discover::{Rewrite, Service, Source};
use crate::config::problem::shown;
use crate::config::resilience::{Breaker, Health};
use crate::config::scrape::{HostPattern, KeyScans};
use crate::config::{Address, Collect, Config, Credentials, Discover, Scrape, Secret, Serve, validate};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const fn field<T>(
    key: &'static str,
    default: &'static str,
    example: &'static str,
    set: Set<T>,
    meaning: &'static str,
) -> Field<T> {
    Field { key, default, example, set, meaning, required: false, late: false, aside: false, private: false }
}

const fn switch<T>(
    key: &'static str,
    default: &'static str,
    set: fn(&mut T, bool),
    meaning: &'static str,
) -> Field<T> {
    field(key, default, default, Set::Switch(set), meaning)
}

/// Nothing to look at beyond the single fields.
fn no_more<T>(_: &mut T, _: &mut Scope<'_, '_>) {}

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a whole document comes to.
pub struct Draft {
    /// What needs nothing else.
    pub config: Config,
    /// `collect:`.
    pub collect: CollectDraft,
    /// `global.labels`.
    pub labels: BTreeMap<String, String>,
    /// What services make use of of `collect:`.
    pub used: idle::Used,
}

/// The whole document.
pub static DOCUMENT: Table<Draft> = Table {
    fields: &[
        field(
            "global",
            "",
            "",
            Set::Section(&Part { table: &GLOBAL, at: |d: &mut Draft| d }),
            "What holds for all services.",
        ),
        field(
            "credentials",
            "",
            "",
            Set::Each(&Parts { table: &PROFILE, fresh: |_| ProfileDraft::default(), push: push_profile, more: "" }),
            "Who we are to servers: profiles, of which the first that matches counts. A server that matches none \
             gets no password, unless its own address has one.",
        ),
        field(
            "services",
            "",
            "",
            Set::Each(&Parts { table: &SERVICE, fresh: ServiceDraft::of, push: push_service, more: MORE_SERVICES }),
            "The services to keep watch over. Without them the server of --redis.addr is the only target; with \
             them --redis.addr must not be given, and --redis.user, --redis.password and --redis.password-file \
             have no effect.",
        )
        .late(),
        field(
            "scrape",
            "",
            "",
            Set::Section(&Part { table: &SCRAPE, at: |d: &mut Draft| &mut d.config.scrape }),
            "How members are collected, and what /scrape accepts.",
        ),
        field(
            "health",
            "",
            "",
            Set::Section(&Part { table: &HEALTH, at: |d: &mut Draft| &mut d.config.resilience.health }),
            "How many failures make an outage.",
        ),
        field(
            "breaker",
            "",
            "",
            Set::Section(&Part { table: &BREAKER, at: |d: &mut Draft| &mut d.config.resilience.breaker }),
            "When a member that is down is tried again.",
        ),
        field(
            "discover",
            "",
            "",
            Set::Section(&Part { table: &DISCOVER, at: |d: &mut Draft| &mut d.config.discover }),
            "How members are found.",
        ),
        field(
            "collect",
            "",
            "",
            Set::Section(&Part { table: &COLLECT, at: |d: &mut Draft| &mut d.collect }),
            "What is collected. What is not said here is as the flags say, and services may say otherwise for \
             themselves.",
        ),
        field(
            "web",
            "",
            "",
            Set::Section(&Part { table: &WEB, at: |d: &mut Draft| &mut d.config.serve }),
            "How members are shown.",
        ),
    ],
    finish: |draft, scope| idle::of_document(draft, scope),
};

static GLOBAL: Table<Draft> = Table {
    fields: &[
        field(
            "scrape_interval",
            "15s",
            "15s",
            Set::Duration(Duration::from_millis(10), DAY, |d: &mut Draft, v| d.config.scrape.interval = v),
            "How often each member is collected. Set it to the scrape_interval of the Prometheus that reads \
             /metrics: what is older than two of these intervals is left out of the page.",
        ),
        field(
            "scrape_timeout",
            "5s",
            "5s",
            Set::Duration(MILLISECOND, HOUR, |d: &mut Draft, v| d.config.scrape.timeout = v),
            "How long the collection of a member may take in all: name, connection, TLS, login and commands. \
             Not more than scrape_interval, which it is where that is shorter than the default.",
        ),
        field(
            "labels",
            "",
            "{ env: prod }",
            Set::Map("labels to texts", |d: &mut Draft, name, text, around| {
                d.labels.insert(name.into(), label(name, text, around)?);
                Ok(())
            }),
            "Labels of every series of every member. None begins with __, is one of the labels of web, or one of those by \
             which we say how services and members are: collector, err, instance_role, kind, outcome, phase, reason, role, \
             state. Families of servers that have a label of that name, such as db or user, keep their own.",
        ),
    ],
    finish: |draft, scope| {
        let scrape = &mut draft.config.scrape;
        if scrape.timeout > scrape.interval {
            if scope.said("scrape_timeout") {
                scope.problem("scrape_timeout", "is longer than scrape_interval; expected at most that");
            }
            scrape.timeout = scrape.interval;
        }
        idle::of_labels(&draft.labels, scope);
    },
};

/// A profile in the making.
#[derive(Default)]
pub struct ProfileDraft {
    profile: Profile,
    username: Option<String>,
    password: Option<Secret>,
    sentinel_username: Option<String>,
    sentinel_password: Option<Secret>,
    tls: Option<TlsDraft>,
    sentinel_tls: Option<TlsDraft>,
}

static PROFILE: Table<ProfileDraft> = Table {
    fields: &[
        field(
            "name",
            "",
            "prod",
            Set::Parsed("a name", |d: &mut ProfileDraft, v, _| name(v, &mut d.profile.name)),
            "A name of its own, for messages.",
        )
        .required(),
        field(
            "match",
            "",
            "",
            Set::Section(&Part { table: &MATCH, at: |d: &mut ProfileDraft| &mut d.profile }),
            "Which servers it is for.",
        )
        .required(),
        field(
            "username",
            "",
            "monitor",
            Set::Parsed("a text", |d: &mut ProfileDraft, v, _| filled(v, &mut d.username)),
            "The ACL user on data nodes; without it the default user. Needs a password.",
        ),
        field(
            "password",
            "",
            "change-me",
            Set::Secret(|d: &mut ProfileDraft, v| d.password = Some(v)),
            "The password on data nodes. Better kept outside of this file: in password_file or password_env.",
        ),
        field(
            "password_file",
            "",
            "/run/secrets/redis",
            Set::SecretFile(|d: &mut ProfileDraft, v| d.password = Some(v)),
            "The file that holds it; a line end at its end does not count. Read again at each reload.",
        )
        .aside(),
        field(
            "password_env",
            "",
            "REDIS_MONITOR_PASSWORD",
            Set::SecretVariable(|d: &mut ProfileDraft, v| d.password = Some(v)),
            "The variable of the environment that holds it.",
        )
        .aside(),
        field(
            "sentinel_username",
            "",
            "monitor",
            Set::Parsed("a text", |d: &mut ProfileDraft, v, _| filled(v, &mut d.sentinel_username)),
            "The ACL user on Sentinels, which have users of their own. Needs a sentinel password.",
        ),
        field(
            "sentinel_password",
            "",
            "change-me-too",
            Set::Secret(|d: &mut ProfileDraft, v| d.sentinel_password = Some(v)),
            "The password on Sentinels. Without one they get none, whatever data nodes get.",
        ),
        field(
            "sentinel_password_file",
            "",
            "/run/secrets/sentinel",
            Set::SecretFile(|d: &mut ProfileDraft, v| d.sentinel_password = Some(v)),
            "The file that holds it.",
        )
        .aside(),
        field(
            "sentinel_password_env",
            "",
            "SENTINEL_MONITOR_PASSWORD",
            Set::SecretVariable(|d: &mut ProfileDraft, v| d.sentinel_password = Some(v)),
            "The variable of the environment that holds it.",
        )
        .aside(),
        field(
            "tls",
            "",
            "",
            Set::Section(&Part { table: &TLS, at: |d: &mut ProfileDraft| d.tls.get_or_insert_default() }),
            "Reach these servers by TLS, Sentinels included unless sentinel_tls says otherwise; an empty mapping {} \
             will do. Without it servers are reached by TLS where their address begins with rediss://, with the \
             settings of the flags.",
        ),
        field(
            "sentinel_tls",
            "",
            "{ server_name: sentinel.prod }",
            Set::Section(&Part {
                table: &TLS,
                at: |d: &mut ProfileDraft| d.sentinel_tls.get_or_insert_default(),
            }),
            "The same for Sentinels, where they are reached otherwise than data nodes: with its own settings; {} beside \
             no tls, where only Sentinels have TLS; { enabled: false } beside tls, where only data nodes have it. The \
             same keys.",
        ),
    ],
    finish: |draft, scope| {
        for (user, passwords) in [
            ("username", ["password", "password_file", "password_env"]),
            ("sentinel_username", ["sentinel_password", "sentinel_password_file", "sentinel_password_env"]),
        ] {
            if scope.at_most_one(&passwords).is_none() && scope.said(user) {
                scope
                    .problem(user, format!("needs a password too; expected one of {}", passwords.join(", ")));
            }
        }
        let login = |user: &mut Option<String>, password: &mut Option<Secret>| {
            let user = user.take();
            password.take().map(|password| Credentials { user, password })
        };
        draft.profile.data = login(&mut draft.username, &mut draft.password);
        draft.profile.sentinel = login(&mut draft.sentinel_username, &mut draft.sentinel_password);
        draft.profile.sentinel_tls = match draft.sentinel_tls.take() {
            None => SentinelTls::LikeData,
            Some(tls) => tls.done().map_or(SentinelTls::AsAddressed, SentinelTls::By),
        };
        draft.profile.tls = draft.tls.take().and_then(TlsDraft::done);
        idle::of_profile(draft, scope);
    },
};

fn push_profile(draft: &mut Draft, profile: ProfileDraft, scope: &mut Scope<'_, '_>) {
    let profiles = &mut draft.config.connect.profiles;
    if !profile.profile.name.is_empty() && profiles.iter().any(|other| other.name == profile.profile.name) {
        scope.problem("name", "is the name of another profile, too; expected a name of its own");
    }
    idle::of_profiles(profiles, &profile.profile, scope);
    profiles.push(profile.profile);
}

static MATCH: Table<Profile> = Table {
    fields: &[
        field(
            "services",
            "",
            "[orders]",
            Set::List(&Items {
                kind: "names of services",
                least: 0,
                at: |p: &mut Profile| &mut p.services,
                parse: known_service,
            }),
            "Services: all their members and Sentinels. Members are whoever the Sentinels or nodes of the service name: \
             each address that one of them announces gets the password. Add hosts to bound who may get it; then both \
             must match.",
        ),
        field(
            "hosts",
            "",
            "[\"10.0.0.0/8\", \"*.redis.prod\"]",
            Set::List(&Items {
                kind: HOSTS,
                least: 0,
                at: |p: &mut Profile| &mut p.hosts,
                parse: host_pattern,
            }),
            "Servers by the address that they are reached by: host names with * (which stays within one part of a \
             name, but for *.domain), host:port, networks, unix:///path. Where services are given too, both must \
             match.",
        ),
    ],
    finish: |_, scope| {
        if scope.items("services") + scope.items("hosts") == 0 {
            scope.problem_here("matches nothing; expected services, hosts or both");
        }
    },
};

/// TLS in the making.
pub struct TlsDraft {
    enabled: bool,
    settings: Tls,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Default for TlsDraft {
    fn default() -> Self {
        Self { enabled: true, settings: Tls::default(), cert: None, key: None }
    }
}

impl TlsDraft {
    fn done(self) -> Option<Tls> {
        self.enabled.then_some(self.settings)
    }
}

static TLS: Table<TlsDraft> = Table {
    fields: &[
        switch(
            "enabled",
            "true",
            |d: &mut TlsDraft, v| d.enabled = v,
            "Whether this section counts. Without it servers are reached by TLS where their address begins with rediss://.",
        ),
        field(
            "ca_file",
            "",
            "/etc/redis/ca.pem",
            Set::File(|d: &mut TlsDraft, v| d.settings.ca_file = Some(v)),
            "Certificates (PEM) that the server's one must chain to, in place of the system's.",
        )
        .aside(),
        field(
            "cert_file",
            "",
            "/etc/redis/client.pem",
            Set::File(|d: &mut TlsDraft, v| d.cert = Some(v)),
            "Our own certificate (PEM), for servers that ask for one. Needs key_file.",
        )
        .aside(),
        field(
            "key_file",
            "",
            "/etc/redis/client.key",
            Set::File(|d: &mut TlsDraft, v| d.key = Some(v)),
            "The key (PEM) of that certificate.",
        )
        .aside(),
        field(
            "server_name",
            "",
            "redis.prod",
            Set::Parsed("a host name", |d: &mut TlsDraft, v, _| filled(v, &mut d.settings.server_name)),
            "The name that the certificate must have, where it is not the host that we dial. Sent as SNI.",
        ),
        switch(
            "insecure_skip_verify",
            "false",
            |d: &mut TlsDraft, v| d.settings.skip_verification = v,
            "Accept any certificate. Whoever stands between us and the server then gets the password.",
        ),
    ],
    finish: |draft, scope| {
        for (given, missing) in [("cert_file", "key_file"), ("key_file", "cert_file")] {
            if scope.said(given) && !scope.said(missing) {
                scope.problem(given, format!("needs {missing} too; expected both"));
            }
        }
        draft.settings.client = draft.cert.take().zip(draft.key.take());
        idle::of_tls(draft, scope);
    },
};

/// A service in the making.
pub struct ServiceDraft {
    name: String,
    master: String,
    sentinels: Vec<Address>,
    seeds: Vec<Address>,
    hostnames: bool,
    instances: Vec<Address>,
    files: Vec<PathBuf>,
    dns: bool,
    rewrite: Vec<Rewrite>,
    labels: BTreeMap<String, String>,
    lag_bytes: u64,
    collect: CollectDraft,
}

impl ServiceDraft {
    fn of(draft: &Draft) -> Self {
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
            lag_bytes: 10_000,
            collect: draft.collect.clone(),
        }
    }
}

const MORE_SERVICES: &str = "  - name: sessions
    cluster: { seeds: [\"c1:6379\", \"c2:6379\"] }
  - name: cache
    instances: [\"redis://cache-1:6379\", \"unix:///run/redis.sock\"]
    collect: { client_list: true }
  - name: legacy
    file_sd: { files: [\"targets/*.json\"] }
";

const SOURCES: &[&str] = &["sentinel", "cluster", "instances", "file_sd"];

static SERVICE: Table<ServiceDraft> = Table {
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

fn push_service(draft: &mut Draft, service: ServiceDraft, scope: &mut Scope<'_, '_>) {
    let services = &mut draft.config.discover.services;
    if !service.name.is_empty() && services.iter().any(|other| *other.name == *service.name) {
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
    services.push(Arc::new(Service {
        name: service.name.into(),
        source,
        dns: service.dns,
        rewrite: service.rewrite,
        labels: service.labels,
        collect: Arc::new(collect),
        lag_bytes: service.lag_bytes,
    }));
}

static SENTINEL: Table<ServiceDraft> = Table {
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

static CLUSTER: Table<ServiceDraft> = Table {
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

static FILE_SD: Table<ServiceDraft> = Table {
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

static REWRITE: Table<RewriteDraft> = Table {
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

static SCRAPE: Table<Scrape> = Table {
    fields: &[
        field(
            "concurrency",
            "64",
            "64",
            Set::Integer(1, 65_536, |s: &mut Scrape, v| s.concurrency = size(v)),
            "How many collections of members run at once. More needs more memory and connections; raise it where \
             ticks are skipped.",
        ),
        field(
            "per_host",
            "4",
            "4",
            Set::Integer(1, 65_536, |s: &mut Scrape, v| s.per_host = size(v)),
            "How many of them on one host, so that many servers on one machine are not all asked at once.",
        ),
        field(
            "key_scans",
            "",
            "",
            Set::Section(&Part { table: &KEY_SCANS, at: |s: &mut Scrape| &mut s.key_scans }),
            "When keys and streams are looked for, which costs servers more than all else.",
        ),
        field(
            "allow",
            "",
            "[\"*.redis.prod\"]",
            Set::List(&Items {
                kind: HOSTS,
                least: 0,
                at: |s: &mut Scrape| &mut s.allow,
                parse: host_pattern,
            }),
            "Targets that /scrape accepts beside members of services. Without services: the only ones, in place of \
             --scrape.allow.",
        )
        .aside(),
        field(
            "timeout_offset",
            "500ms",
            "500ms",
            Set::Duration(Duration::ZERO, HOUR, |s: &mut Scrape, v| s.timeout_offset = v),
            "How much sooner than the caller gives up an answer leaves; at most a quarter of the caller's time-out is \
             taken.",
        ),
    ],
    finish: no_more,
};

static KEY_SCANS: Table<KeyScans> = Table {
    fields: &[
        field(
            "interval",
            "5m",
            "5m",
            Set::Duration(
                Duration::from_millis(10),
                Duration::from_secs(30 * 24 * 3600),
                |k: &mut KeyScans, v| k.interval = v,
            ),
            "How often.",
        ),
        switch(
            "replicas_first",
            "true",
            |k: &mut KeyScans, v| k.replicas_first = v,
            "Ask a replica rather than the master, where there is one.",
        ),
        field(
            "keys_per_second",
            "20000",
            "20000",
            Set::Integer(1, 1_000_000_000, |k: &mut KeyScans, v| {
                k.keys_per_second = u32::try_from(v).unwrap_or(u32::MAX);
            }),
            "How many keys a second are looked at on one server.",
        ),
    ],
    finish: no_more,
};

static HEALTH: Table<Health> = Table {
    fields: &[
        field(
            "failures_to_down",
            "3",
            "3",
            Set::Integer(1, 1000, |h: &mut Health, v| {
                h.failures_to_down = u32::try_from(v).unwrap_or(u32::MAX)
            }),
            "How many collections in a row must fail before a member is down. Fewer hear of outages sooner, and \
             of hiccups too.",
        ),
        field(
            "failover_max",
            "1m",
            "1m",
            Set::Duration(Duration::ZERO, DAY, |h: &mut Health, v| h.failover_max = v),
            "How long members of a service that fails over are in the state failover and not down. 0s: never.",
        ),
    ],
    finish: no_more,
};

static BREAKER: Table<Breaker> = Table {
    fields: &[
        field(
            "pause",
            "1s",
            "1s",
            Set::Duration(MILLISECOND, HOUR, |b: &mut Breaker, v| b.pause = v),
            "The first pause before a member that is down is tried again; it grows from try to try.",
        ),
        field(
            "max_pause",
            "10s",
            "10s",
            Set::Duration(MILLISECOND, HOUR, |b: &mut Breaker, v| b.max_pause = v),
            "The longest pause, and never longer than two intervals: so long it may take until a server that is \
             back is noticed. At least pause.",
        ),
    ],
    finish: |breaker, scope| {
        if breaker.max_pause < breaker.pause {
            let key = if scope.said("max_pause") { "max_pause" } else { "pause" };
            scope.problem(key, "does not fit: max_pause is shorter than pause; expected at least that");
        }
    },
};

static DISCOVER: Table<Discover> = Table {
    fields: &[field(
        "interval",
        "5s",
        "5s",
        Set::Duration(Duration::from_millis(10), HOUR, |d: &mut Discover, v| d.interval = v),
        "How often Sentinels, nodes, files and names are asked who the members are, where nothing tells of a \
         change.",
    )],
    finish: no_more,
};

static WEB: Table<Serve> = Table {
    fields: &[
        field(
            "service_label",
            "service",
            "service",
            Set::Parsed("the name of a label", |s: &mut Serve, v, _| {
                s.service_label = v.into();
                validate::sample_label(v)
            }),
            "The label that names the service.",
        ),
        field(
            "instance_label",
            "instance",
            "instance",
            Set::Parsed("the name of a label", |s: &mut Serve, v, _| {
                s.instance_label = v.into();
                validate::sample_label(v)
            }),
            "The label that names the member by host:port. Prometheus needs honor_labels: true to keep it.",
        ),
        field(
            "external_address",
            "",
            "redvigil.example:9121",
            Set::Parsed("host:port", |s: &mut Serve, v, _| {
                s.external_address = Some(validate::external_address(v)?);
                Ok(())
            }),
            "The host:port under which Prometheus reaches us, for /sd/targets. Without it, the host that the request \
             names, which is wrong behind a proxy. Goes before --web.external-address.",
        )
        .aside(),
    ],
    finish: |serve, scope| {
        if serve.service_label == serve.instance_label {
            let key = if scope.said("instance_label") { "instance_label" } else { "service_label" };
            scope.problem(key, "is the other label, too; expected two names");
        }
    },
};

/// `collect:` in the making.
#[derive(Clone)]
pub struct CollectDraft {
    collect: Collect,
    search: bool,
    search_pattern: Option<regex::Regex>,
}

impl CollectDraft {
    /// What the flags say.
    pub fn of(collect: &Collect) -> Self {
        Self {
            collect: collect.clone(),
            search: collect.search_indexes.is_some(),
            search_pattern: collect.search_indexes.clone(),
        }
    }

    /// What it comes to.
    pub fn done(self) -> Collect {
        let all = || regex::Regex::new(".*").ok();
        let search_indexes = if self.search { self.search_pattern.or_else(all) } else { None };
        Collect { search_indexes, ..self.collect }
    }
}

const KEYS: &str = "texts such as orders:* or 3=orders:*";

static COLLECT: Table<CollectDraft> = Table {
    fields: &[
        field(
            "config_command",
            "CONFIG",
            "CONFIG",
            Set::Parsed("the name of a command", |d: &mut CollectDraft, v, _| {
                d.collect.config_command = Some(v.to_owned()).filter(|v| !v.is_empty() && v != "-");
                validate::command_name(v)
            }),
            "The name of CONFIG where servers renamed it; - never asks for it.",
        ),
        field(
            "check_keys",
            "[]",
            "[\"orders:*\"]",
            Set::List(&Items { kind: KEYS, least: 0, at: |d: &mut CollectDraft| &mut d.collect.keys.check, parse: key }),
            "Patterns, [db=]pattern, URL-encoded; the keys found by SCAN are exported with size, memory and value.",
        )
        .aside(),
        field(
            "check_single_keys",
            "[]",
            "[\"orders:queue\"]",
            Set::List(&Items { kind: KEYS, least: 0, at: |d: &mut CollectDraft| &mut d.collect.keys.check_single, parse: key }),
            "Keys, [db=]key, URL-encoded; looked up as they are.",
        )
        .aside(),
        field(
            "count_keys",
            "[]",
            "[\"session:*\"]",
            Set::List(&Items { kind: KEYS, least: 0, at: |d: &mut CollectDraft| &mut d.collect.keys.count, parse: key }),
            "Patterns, [db=]pattern, URL-encoded; the keys found by SCAN are counted.",
        )
        .aside(),
        field(
            "check_streams",
            "[]",
            "[\"events:*\"]",
            Set::List(&Items { kind: KEYS, least: 0, at: |d: &mut CollectDraft| &mut d.collect.keys.streams, parse: key }),
            "Patterns, [db=]pattern, URL-encoded; the streams found by SCAN are exported with their groups and \
             consumers.",
        )
        .aside(),
        field(
            "check_single_streams",
            "[]",
            "[\"events:audit\"]",
            Set::List(&Items {
                kind: KEYS,
                least: 0,
                at: |d: &mut CollectDraft| &mut d.collect.keys.streams_single,
                parse: key,
            }),
            "Streams, [db=]stream, URL-encoded; looked up as they are.",
        )
        .aside(),
        switch(
            "streams_exclude_consumer_metrics",
            "false",
            |d: &mut CollectDraft, v| d.collect.exclude_stream_consumers = v,
            "Leave the single consumers of streams out.",
        ),
        field(
            "check_keys_batch_size",
            "1000",
            "1000",
            Set::Integer(1, u32::MAX as u64, |d: &mut CollectDraft, v| {
                d.collect.batch_size = u32::try_from(v).unwrap_or(u32::MAX);
            }),
            "COUNT of every SCAN. More is faster and holds the server up longer at a time.",
        ),
        field(
            "check_key_groups",
            "[]",
            "[\"^(.*):.*\"]",
            Set::List(&Items {
                kind: "Lua patterns",
                least: 0,
                at: |d: &mut CollectDraft| &mut d.collect.key_groups,
                parse: |v, _| Ok(v.to_owned()),
            }),
            "Lua patterns; keys are grouped by what the first one that matches captures.",
        )
        .aside(),
        field(
            "max_distinct_key_groups",
            "100",
            "100",
            Set::Integer(0, 1_000_000_000, |d: &mut CollectDraft, v| d.collect.max_key_groups = size(v)),
            "How many groups of a database are exported, those with the most memory first. The others are added up \
             as overflow.",
        ),
        switch(
            "skip_checkkeys_for_role_master",
            "false",
            |d: &mut CollectDraft, v| d.collect.skip_keys_on_master = v,
            "Look for keys and streams, and count, on replicas only.",
        ),
        switch(
            "disable_exporting_key_values",
            "false",
            |d: &mut CollectDraft, v| d.collect.hide_key_values = v,
            "Never export the value of a key.",
        ),
        field(
            "scripts",
            "[]",
            "[\"queue-length.lua\"]",
            Set::List(&Items { kind: FILES, least: 0, at: |d: &mut CollectDraft| &mut d.collect.scripts, parse: script }),
            "Lua files, run on the server at each collection. Each returns names and numbers in turn, as strings. \
             Read again at each reload.",
        )
        .aside(),
        switch(
            "lua_script_read_only",
            "false",
            |d: &mut CollectDraft, v| d.collect.scripts_read_only = v,
            "Run them by EVAL_RO, so that they cannot write.",
        ),
        switch(
            "client_list",
            "false",
            |d: &mut CollectDraft, v| d.collect.client_list = v,
            "Export several series for each client that is connected.",
        ),
        switch(
            "client_port",
            "false",
            |d: &mut CollectDraft, v| d.collect.client_port = v,
            "Add the client's port to those. Each new connection is then a new series.",
        ),
        switch(
            "config_metrics",
            "false",
            |d: &mut CollectDraft, v| d.collect.config_metrics = v,
            "Export every setting of the server.",
        ),
        switch(
            "redact_config_metrics",
            "true",
            |d: &mut CollectDraft, v| d.collect.redact_config = v,
            "Leave out settings that hold passwords.",
        ),
        switch(
            "modules_metrics",
            "false",
            |d: &mut CollectDraft, v| d.collect.modules = v,
            "Export what INFO MODULES says.",
        ),
        switch(
            "search_indexes_metrics",
            "false",
            |d: &mut CollectDraft, v| d.search = v,
            "Export what FT.INFO says of each search index.",
        ),
        field(
            "check_search_indexes",
            ".*",
            "\".*\"",
            Set::Parsed("a regular expression", |d: &mut CollectDraft, v, _| {
                let pattern = validate::regex(v).map_err(|error| format!("{error}; expected one such as ^idx:"))?;
                d.search_pattern = Some(pattern);
                Ok(())
            }),
            "Only search indexes whose name has a match of this regular expression.",
        ),
        switch(
            "sentinel_peer_info",
            "false",
            |d: &mut CollectDraft, v| d.collect.sentinel_peers = v,
            "Export one series for each other Sentinel that a Sentinel knows.",
        ),
        switch(
            "latency_histograms",
            "true",
            |d: &mut CollectDraft, v| d.collect.latency = v,
            "Ask for LATENCY LATEST and LATENCY HISTOGRAM.",
        ),
        switch(
            "system_metrics",
            "false",
            |d: &mut CollectDraft, v| d.collect.system_metrics = v,
            "Export the memory of the server's machine.",
        ),
        switch(
            "rdb_file_size_metric",
            "false",
            |d: &mut CollectDraft, v| d.collect.rdb_file_size = v,
            "Export the size of the RDB file, which must lie on this machine under the path that the server names.",
        ),
        switch(
            "metrics_for_empty_databases",
            "true",
            |d: &mut CollectDraft, v| d.collect.empty_databases = v,
            "Export db_keys and db_keys_expiring as 0 for databases without keys.",
        ),
        switch(
            "instance_role_label",
            "false",
            |d: &mut CollectDraft, v| d.collect.role_label = v,
            "Add the label instance_role (master, slave) to what is said of a server. A failover then ends its \
             series; redis_member_role says the same without that.",
        ),
        switch(
            "is_tile38",
            "false",
            |d: &mut CollectDraft, v| d.collect.tile38 = v,
            "The servers are Tile38: export what SERVER EXT says.",
        ),
    ],
    finish: no_more,
};

const ADDRESSES: &str = "addresses such as host:6379, rediss://host:6380 or unix:///path";
const HOST: &str = "a host name with *, host:port, a network such as 10.0.0.0/8 or unix:///path";
const HOSTS: &str = "host names with *, host:port, networks such as 10.0.0.0/8 or unix:///path";
const FILES: &str = "paths of files";

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A name: not empty, on one line, not too long.
fn name(text: &str, into: &mut String) -> Result<(), String> {
    const LONGEST: usize = 200;
    if text.trim().is_empty() || text.len() > LONGEST || text.chars().any(char::is_control) {
        return Err(format!("is no name; expected 1 to {LONGEST} characters on one line"));
    }
    *into = text.into();
    Ok(())
}

fn filled(text: &str, into: &mut Option<String>) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty; expected a text".into());
    }
    *into = Some(text.into());
    Ok(())
}

/// The text of a label, where the label may have that name.
fn label(name: &str, text: &str, around: &Surroundings<'_>) -> Result<String, String> {
    validate::member_label(name)?;
    if around.taken.iter().any(|taken| taken == name) {
        return Err("is a label that we set ourselves; expected another name".into());
    }
    Ok(text.into())
}

fn known_service(text: &str, around: &Surroundings<'_>) -> Result<String, String> {
    if around.services.iter().any(|service| service == text) {
        return Ok(text.into());
    }
    let close = |name: &&String| strsim::osa_distance(text, name);
    let nearest =
        around.services.iter().min_by_key(close).filter(|name| close(name) <= 2.max(name.len() / 3));
    Err(match nearest {
        Some(name) => format!("is the name of no service; did you mean {}?", shown(name)),
        None => "is the name of no service; expected one of services".into(),
    })
}

fn host_pattern(text: &str, _: &Surroundings<'_>) -> Result<HostPattern, String> {
    // Its own message repeats the pattern, which is told before this one.
    HostPattern::parse(text).map_err(|_| format!("is no set of hosts; expected {HOST}"))
}

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
        crate::config::address::Endpoint::Tcp { host, port } => {
            Ok((host, Some(port).filter(|port| *port != 0)))
        }
        crate::config::address::Endpoint::Unix(_) => Err(fail()),
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

fn script(text: &str, around: &Surroundings<'_>) -> Result<Script, String> {
    Ok(Script { path: text.into(), source: validate::read(&around.path(text))? })
}

/// One item in the form of the flags, so that either can be copied into the other.
fn key(text: &str, _: &Surroundings<'_>) -> Result<KeyPattern, String> {
    let expected = "expected [db=]pattern, one an item, with %2C for a comma and %3D for an = in it";
    match KeyPattern::parse_list(text).map(<[KeyPattern; 1]>::try_from) {
        Ok(Ok([key])) if !text.contains(',') => Ok(key),
        _ => Err(format!("is no pattern; {expected}")),
    }
}
