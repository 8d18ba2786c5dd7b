//! `credentials:`: profiles, whom each is for, and TLS.

use super::{Draft, HOSTS, field, filled, host_pattern, idle, name, switch};
use crate::config::connect::Tls;
use crate::config::credentials::{Profile, SentinelTls};
use crate::config::document::reader::{Items, Part, Scope, Set, Surroundings, Table};
use crate::config::problem::shown;
use crate::config::{Credentials, Secret};
use std::path::PathBuf;

/// A profile in the making.
#[derive(Default)]
pub struct ProfileDraft {
    pub(super) profile: Profile,
    pub(super) services: Vec<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) sentinel_username: Option<String>,
    pub(super) sentinel_password: Option<Secret>,
    pub(super) tls: Option<TlsDraft>,
    pub(super) sentinel_tls: Option<TlsDraft>,
}

pub(super) static PROFILE: Table<ProfileDraft> = Table {
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
            Set::Section(&Part { table: &MATCH, at: |d: &mut ProfileDraft| d }),
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
            "The file that holds it; a line end at its end does not count. Followed.",
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
            "The file that holds it. Followed, too.",
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

pub(super) fn push_profile(draft: &mut Draft, profile: ProfileDraft, scope: &mut Scope<'_, '_>) {
    let profiles = &mut draft.config.connect.profiles;
    if !profile.profile.name.is_empty() && profiles.iter().any(|other| other.name == profile.profile.name) {
        scope.problem("name", "is the name of another profile, too; expected a name of its own");
    }
    idle::of_profiles(profiles, &profile.profile, scope);
    profiles.push(profile.profile);
}

pub(super) static MATCH: Table<ProfileDraft> = Table {
    fields: &[
        field(
            "services",
            "",
            "[orders]",
            Set::List(&Items {
                kind: "names of services",
                least: 0,
                at: |d: &mut ProfileDraft| &mut d.services,
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
                at: |d: &mut ProfileDraft| &mut d.profile.hosts,
                parse: host_pattern,
            }),
            "Servers by the address that they are reached by: host names with * (which stays within one part of a \
             name, but for *.domain), host:port, networks, unix:///path. Where services are given too, both must \
             match.",
        ),
    ],
    finish: |draft, scope| {
        draft.profile.services = draft.services.drain(..).collect();
        if scope.items("services") + scope.items("hosts") == 0 {
            scope.problem_here("matches nothing; expected services, hosts or both");
        }
    },
};

fn known_service(text: &str, around: &Surroundings<'_>) -> Result<String, String> {
    if around.services.contains(text) {
        return Ok(text.into());
    }
    let close = |name: &String| strsim::osa_distance(text, name);
    let nearest = around.services.iter().min_by_key(|name| (close(name), *name));
    let nearest = nearest.filter(|name| close(name) <= 2.max(name.len() / 3));
    Err(match nearest {
        Some(name) => format!("is the name of no service; did you mean {}?", shown(name)),
        None => "is the name of no service; expected one of services".into(),
    })
}

/// TLS in the making.
pub struct TlsDraft {
    pub(super) enabled: bool,
    pub(super) settings: Tls,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
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

pub(super) static TLS: Table<TlsDraft> = Table {
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
    finish: pair_certificate,
};

/// A certificate needs its key, and a key its certificate.
pub(super) fn pair_certificate(draft: &mut TlsDraft, scope: &mut Scope<'_, '_>) {
    for (given, missing) in [("cert_file", "key_file"), ("key_file", "cert_file")] {
        if scope.said(given) && !scope.said(missing) {
            scope.problem(given, format!("needs {missing} too; expected both"));
        }
    }
    draft.settings.client = draft.cert.take().zip(draft.key.take());
    idle::of_tls(draft, scope);
}
