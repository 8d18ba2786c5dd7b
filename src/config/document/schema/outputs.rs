//! `outputs:`: where samples are pushed to, and the queue of each.
//!
//! What a newcomer would get wrong: `remote_write` and `otlp` are one draft with two tables. What both have is one
//! row, which stands below.

use super::credentials::{TlsDraft, pair_certificate};
use super::{Draft, HOUR, MILLISECOND, field, filled, idle, label, no_more, switch};
use crate::config::Secret;
use crate::config::deliver::{
    Auth, Destination, Durability, Endpoint, Fsync, OnFull, Output, Protocol, Queue, Url, UrlError, Version,
    Word,
};
use crate::config::document::reader::{Field, Part, Scope, Set, Table};
use crate::config::{units, validate};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// An output in the making.
#[derive(Default)]
pub struct OutputDraft {
    pub(super) name: String,
    pub(super) remote_write: DestinationDraft,
    pub(super) otlp: DestinationDraft,
    pub(super) queue: Queue,
    pub(super) rate: Option<u64>,
    pub(super) external_labels: BTreeMap<String, String>,
}

/// A receiver in the making.
pub struct DestinationDraft {
    pub(super) url: Option<Url>,
    version: Version,
    protocol: Protocol,
    pub(super) headers: Vec<(String, Secret)>,
    pub(super) token: Option<Word>,
    user: String,
    password: Option<Word>,
    pub(super) tls: TlsDraft,
    timeout: Duration,
}

impl Default for DestinationDraft {
    fn default() -> Self {
        Self {
            url: None,
            version: Version::Auto,
            protocol: Protocol::Grpc,
            headers: vec![],
            token: None,
            user: String::new(),
            password: None,
            tls: TlsDraft::default(),
            timeout: Duration::from_secs(10),
        }
    }
}

impl DestinationDraft {
    /// What it comes to, where it is right.
    fn done(self) -> Option<(Version, Protocol, Endpoint)> {
        let auth = match (self.token, self.password) {
            (Some(token), _) => Auth::Bearer(token),
            (None, Some(password)) => Auth::Basic { user: self.user, password },
            (None, None) => Auth::None,
        };
        let (headers, tls, timeout) = (self.headers, self.tls.settings, self.timeout);
        Some((self.version, self.protocol, Endpoint { url: self.url?, headers, auth, tls, timeout }))
    }
}

pub(super) const MORE_OUTPUTS: &str = "  - name: otel
    otlp: { endpoint: \"http://collector:4317\", protocol: grpc }
";

pub(super) static OUTPUT: Table<OutputDraft> = Table {
    fields: &[
        field(
            "name",
            "",
            "mimir",
            Set::Parsed("a name", |d: &mut OutputDraft, v, _| {
                d.name = v.into();
                validate::output_name(v)
            }),
            "A name of its own: the label output, and the name of the folder of its queue. The URL may change, and what \
             waits goes to the new one; under another name it is another output, and what waits for the old one stays \
             where it is.",
        )
        .required(),
        field(
            "remote_write",
            "",
            "",
            Set::Section(&Part { table: &REMOTE_WRITE, at: |d: &mut OutputDraft| &mut d.remote_write }),
            "The receiver speaks remote write: Prometheus, Mimir, Thanos, Cortex, VictoriaMetrics and others.",
        ),
        field(
            "otlp",
            "",
            "{ endpoint: \"http://collector:4317\", protocol: grpc }",
            Set::Section(&Part { table: &OTLP, at: |d: &mut OutputDraft| &mut d.otlp }),
            "The receiver speaks the protocol of OpenTelemetry: a collector, or what takes the place of one.",
        )
        .aside(),
        field(
            "queue",
            "",
            "",
            Set::Section(&Part { table: &QUEUE, at: |d: &mut OutputDraft| &mut d.queue }),
            "What waits for it.",
        ),
        field(
            "replay",
            "",
            "",
            Set::Section(&Part { table: &REPLAY, at: |d: &mut OutputDraft| d }),
            "How what waited is sent, once the receiver is back.",
        ),
        field(
            "external_labels",
            "",
            "{ cluster: eu1 }",
            Set::Map("labels to texts", |d: &mut OutputDraft, name, text, around| {
                let text = match name {
                    // The one name with __ that receivers want: <https://grafana.com/docs/mimir/latest/configure/configure-high-availability-deduplication/>
                    "__replica__" => text.into(),
                    "job" => return Err("is a label that we set ourselves; expected another name, or global.job".into()),
                    _ => label(name, text, around)?,
                };
                d.external_labels.insert(name.into(), text);
                Ok(())
            }),
            "Labels of every series that is pushed there. A series that has a label of that name keeps its own. They are \
             fixed when a sample is taken: what waits keeps those that it has. The names that global.labels may have, and \
             __replica__.",
        ),
    ],
    finish: |draft, scope| {
        scope.exactly_one(&["remote_write", "otlp"]);
        idle::of_output(draft, scope);
    },
};

pub(super) fn push_output(draft: &mut Draft, output: OutputDraft, scope: &mut Scope<'_, '_>) {
    let outputs = &mut draft.config.deliver.outputs;
    if !output.name.is_empty() && outputs.iter().any(|other| *other.name == output.name) {
        scope.problem("name", "is the name of another output, too; expected a name of its own");
    }
    let to = match scope.said("otlp") {
        true => output.otlp.done().map(|(_, protocol, endpoint)| Destination::Otlp { protocol, endpoint }),
        false => output
            .remote_write
            .done()
            .map(|(version, _, endpoint)| Destination::RemoteWrite { version, endpoint }),
    };
    // Without a receiver there is a problem already.
    let Some(to) = to else { return };
    outputs.push(Arc::new(Output {
        name: output.name.into(),
        to,
        queue: output.queue,
        max_samples_per_second: output.rate,
        external_labels: output.external_labels,
    }));
}

static REMOTE_WRITE: Table<DestinationDraft> = Table {
    fields: &[
        field(
            "url",
            "",
            "https://mimir.example/api/v1/push",
            Set::Parsed("a URL", |d: &mut DestinationDraft, v, _| {
                d.url = Some(url(v, "https://mimir.example/api/v1/push")?);
                Ok(())
            }),
            "Where to: http:// or https://, with the path. Prometheus (--web.enable-remote-write-receiver) and \
             VictoriaMetrics have /api/v1/write, Mimir and Cortex /api/v1/push, Thanos /api/v1/receive. User and password \
             stand in basic_auth.",
        )
        .private()
        .required(),
        field(
            "version",
            "auto",
            "auto",
            Set::Parsed("auto, 1.0 or 2.0", |d: &mut DestinationDraft, v, _| {
                d.version = match v {
                    "auto" => Version::Auto,
                    "1.0" | "1" | "v1" => Version::V1,
                    "2.0" | "2" | "v2" => Version::V2,
                    _ => return Err("is no version of remote write; expected auto, 1.0 or 2.0".into()),
                };
                Ok(())
            }),
            "Which version of remote write. auto: 2.0, and 1.0 from the moment on in which the receiver shows that it does \
             not know it.",
        ),
        HEADERS,
        BEARER_TOKEN,
        BEARER_TOKEN_FILE,
        BEARER_TOKEN_ENV,
        BASIC_AUTH,
        TLS_OF_OUTPUT,
        TIMEOUT,
    ],
    finish: |draft, scope| {
        finish(draft, "url", scope);
        if draft.url.as_ref().is_some_and(|url| url.path_alone() == "/") {
            let message = "has no path; receivers have one, such as /api/v1/write (Prometheus, VictoriaMetrics), \
                           /api/v1/push (Mimir, Cortex) or /api/v1/receive (Thanos)";
            scope.warn("url", message);
        }
    },
};

static OTLP: Table<DestinationDraft> = Table {
    fields: &[
        field(
            "endpoint",
            "",
            "http://collector:4317",
            Set::Parsed("a URL", |d: &mut DestinationDraft, v, _| {
                d.url = Some(url(v, "http://collector:4317")?);
                Ok(())
            }),
            "Where to: http:// or https://; collectors listen on port 4317 for gRPC and on 4318 for HTTP. With protocol http, \
             /v1/metrics is added where it is not the end of the path. For gRPC a path stands in front of the method.",
        )
        .private()
        .required(),
        field(
            "protocol",
            "grpc",
            "grpc",
            Set::Parsed("grpc or http", |d: &mut DestinationDraft, v, _| {
                d.protocol = match v {
                    "grpc" => Protocol::Grpc,
                    "http" => Protocol::Http,
                    _ => return Err("is no protocol of OTLP; expected grpc or http".into()),
                };
                Ok(())
            }),
            "How it travels: gRPC, or Protobuf over HTTP.",
        ),
        HEADERS,
        BEARER_TOKEN,
        BEARER_TOKEN_FILE,
        BEARER_TOKEN_ENV,
        BASIC_AUTH,
        TLS_OF_OUTPUT,
        TIMEOUT,
    ],
    finish: |draft, scope| {
        finish(draft, "endpoint", scope);
        match (draft.protocol, &mut draft.url) {
            (Protocol::Grpc, Some(url)) if url.path_alone().trim_end_matches('/').ends_with(METRICS) => {
                let message = "has the path of OTLP over HTTP; expected protocol: http, or a URL without the path";
                scope.problem("endpoint", message);
            }
            (Protocol::Http, Some(url)) => add_metrics_path(url),
            _ => {}
        }
    },
};

/// <https://opentelemetry.io/docs/specs/otlp/#otlphttp-request>
const METRICS: &str = "/v1/metrics";

fn add_metrics_path(url: &mut Url) {
    let (path, query) = url.path.split_at(url.path.find('?').unwrap_or(url.path.len()));
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix(METRICS).unwrap_or(path);
    url.path = format!("{path}{METRICS}{query}");
}

const HEADERS: Field<DestinationDraft> = field(
    "headers",
    "",
    "{ X-Scope-OrgID: checkout }",
    Set::Map("names to texts", |d: &mut DestinationDraft, name, text, _| {
        validate::output_header(name, text)?;
        if d.headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            return Err("is given twice, for upper and lower case are the same; expected it once".into());
        }
        d.headers.push((name.into(), Secret::new(text)));
        Ok(())
    }),
    "Headers of every request, beside those that we set ourselves: X-Scope-OrgID names the tenant to Mimir and Cortex, \
     THANOS-TENANT to Thanos. Values are kept secret.",
);

const BEARER_TOKEN: Field<DestinationDraft> = field(
    "bearer_token",
    "",
    "change-me",
    Set::Secret(|d: &mut DestinationDraft, v| d.token = Some(Word::Given(v))),
    "The token of Authorization: Bearer. Better kept outside of this file.",
);

const BEARER_TOKEN_FILE: Field<DestinationDraft> = field(
    "bearer_token_file",
    "",
    "/run/secrets/mimir-token",
    Set::File(|d: &mut DestinationDraft, v| d.token = Some(Word::File(v))),
    "The file that holds it, without the white space at its ends. Read again when it changes, without a reload.",
)
.aside();

const BEARER_TOKEN_ENV: Field<DestinationDraft> = field(
    "bearer_token_env",
    "",
    "MIMIR_TOKEN",
    Set::SecretVariable(|d: &mut DestinationDraft, v| d.token = Some(Word::Given(v))),
    "The variable of the environment that holds it.",
)
.aside();

const BASIC_AUTH: Field<DestinationDraft> = field(
    "basic_auth",
    "",
    "{ username: redvigil, password_file: /run/secrets/mimir }",
    Set::Section(&BASIC_PART),
    "User and password, in place of a token.",
)
.aside();

const TLS_OF_OUTPUT: Field<DestinationDraft> = field(
    "tls",
    "",
    "",
    Set::Section(&TLS_PART),
    "TLS, where the URL begins with https://. Files are read again when they change, without a reload.",
);

const TIMEOUT: Field<DestinationDraft> = field(
    "timeout",
    "10s",
    "10s",
    Set::Duration(MILLISECOND, Duration::from_secs(300), |d: &mut DestinationDraft, v| d.timeout = v),
    "How long a request may take in all. After it the receiver may have taken the request or not: it is sent again.",
);

static BASIC_PART: Part<DestinationDraft, DestinationDraft> = Part { table: &BASIC, at: |d| d };

static BASIC: Table<DestinationDraft> = Table {
    fields: &[
        field(
            "username",
            "",
            "redvigil",
            Set::Parsed("a name without a colon", |d: &mut DestinationDraft, v, _| {
                d.user = v.into();
                validate::basic_user(v)
            }),
            "The user.",
        )
        .required(),
        field(
            "password",
            "",
            "change-me",
            Set::Secret(|d: &mut DestinationDraft, v| d.password = Some(Word::Given(v))),
            "The password. Better kept outside of this file.",
        ),
        field(
            "password_file",
            "",
            "/run/secrets/mimir",
            Set::File(|d: &mut DestinationDraft, v| d.password = Some(Word::File(v))),
            "The file that holds it, without the white space at its ends. Read again when it changes, without a reload.",
        )
        .aside(),
        field(
            "password_env",
            "",
            "MIMIR_PASSWORD",
            Set::SecretVariable(|d: &mut DestinationDraft, v| d.password = Some(Word::Given(v))),
            "The variable of the environment that holds it.",
        )
        .aside(),
    ],
    finish: |_, scope| scope.exactly_one(&["password", "password_file", "password_env"]),
};

static TLS_PART: Part<DestinationDraft, TlsDraft> = Part { table: &TLS, at: |d| &mut d.tls };

static TLS: Table<TlsDraft> = Table {
    fields: &[
        field(
            "ca_file",
            "",
            "/etc/redvigil/mimir-ca.pem",
            Set::File(|d: &mut TlsDraft, v| d.settings.ca_file = Some(v)),
            "Certificates (PEM) that the receiver's one must chain to, in place of the system's.",
        )
        .aside(),
        field(
            "cert_file",
            "",
            "/etc/redvigil/client.pem",
            Set::File(|d: &mut TlsDraft, v| d.cert = Some(v)),
            "Our own certificate (PEM), for receivers that ask for one. Needs key_file.",
        )
        .aside(),
        field(
            "key_file",
            "",
            "/etc/redvigil/client.key",
            Set::File(|d: &mut TlsDraft, v| d.key = Some(v)),
            "The key (PEM) of that certificate.",
        )
        .aside(),
        field(
            "server_name",
            "",
            "mimir.example",
            Set::Parsed("a host name", |d: &mut TlsDraft, v, _| filled(v, &mut d.settings.server_name)),
            "The name that the certificate must have, where it is not the host of the URL. Sent as SNI.",
        ),
        switch(
            "insecure_skip_verify",
            "false",
            |d: &mut TlsDraft, v| d.settings.skip_verification = v,
            "Accept any certificate. Whoever stands between us and the receiver then gets the token and all samples.",
        ),
    ],
    finish: pair_certificate,
};

/// A size that nobody has.
const PEBIBYTE: u64 = 1 << 50;

static QUEUE: Table<Queue> = Table {
    fields: &[
        field(
            "max_bytes",
            "2GiB",
            "2GiB",
            Set::Bytes(1 << 20, PEBIBYTE, |q: &mut Queue, v| q.max_bytes = v),
            "The most that waits on disk. Above it the oldest file goes, and is counted as dropped for the reason size. A \
             sample takes about 10 bytes: docs/delivery.md has a table.",
        ),
        field(
            "max_age",
            "24h",
            "24h",
            Set::Duration(
                Duration::from_secs(1),
                Duration::from_secs(3650 * 24 * 3600),
                |q: &mut Queue, v| q.max_age = v,
            ),
            "The most that a sample waits; what is older is dropped for the reason age. A Prometheus without \
             out_of_order_time_window takes nothing that is older than an hour: 55m for such a one, and for others what \
             their window is.",
        ),
        field(
            "min_free",
            "512MiB",
            "512MiB",
            Set::Bytes(0, PEBIBYTE, |q: &mut Queue, v| q.min_free = v),
            "What is left free of the file system for others: below it the oldest file goes, for the reason disk_full.",
        ),
        field(
            "memory",
            "32MiB",
            "32MiB",
            Set::Bytes(1 << 20, 64 << 30, |q: &mut Queue, v| q.memory = v),
            "The most that waits in memory, whatever the outage: the newest records, so that a receiver that keeps up \
             costs no reading. All that waits, where durability is memory or the disk is of no use.",
        ),
        field(
            "fsync",
            "1s",
            "1s",
            Set::Parsed("a duration from 1ms to 1h, always or never", |q: &mut Queue, v, _| {
                q.fsync = fsync(v)?;
                Ok(())
            }),
            "How often what was written is made safe against the death of the machine, which is what it may lose. \
             always: after each record, which costs some milliseconds of the disk. never: left to the system. The death \
             of the process loses nothing, whatever stands here.",
        ),
        field(
            "durability",
            "wal",
            "wal",
            Set::Parsed("wal, spill or memory", |q: &mut Queue, v, _| {
                q.durability = match v {
                    "wal" => Durability::Wal,
                    "spill" => Durability::Spill,
                    "memory" => Durability::Memory,
                    _ => return Err("is no durability; expected wal, spill or memory".into()),
                };
                Ok(())
            }),
            "What the death of the process leaves. wal: all, since everything is written before it is sent. spill: what \
             had no room in memory, or waits while the receiver fails; the rest is lost. memory: nothing; there is no disk, \
             and what waits is bounded by memory.",
        ),
        field(
            "lanes",
            "1",
            "1",
            Set::Integer(1, 16, |q: &mut Queue, v| q.lanes = u16::try_from(v).unwrap_or(1)),
            "How many requests are under way at once, each lane for targets of its own, so that the order of a series \
             stays. More for a receiver that is far away and many targets: one lane sends a request of 5000 samples after \
             the other.",
        ),
        field(
            "on_full",
            "drop_oldest",
            "drop_oldest",
            Set::Parsed("drop_oldest or drop_newest", |q: &mut Queue, v, _| {
                q.on_full = match v {
                    "drop_oldest" => OnFull::DropOldest,
                    "drop_newest" => OnFull::DropNewest,
                    _ => return Err("is no such thing; expected drop_oldest or drop_newest".into()),
                };
                Ok(())
            }),
            "What goes when max_bytes or min_free is reached: the oldest file, or what is new.",
        ),
        field(
            "linger",
            "250ms",
            "250ms",
            Set::Duration(Duration::ZERO, Duration::from_secs(60), |q: &mut Queue, v| q.linger = v),
            "How long collections are gathered into one request, unless it is full before: 5000 samples or 1 MiB. So much \
             the death of the process may lose. 0s: each collection is a request of its own.",
        ),
    ],
    finish: idle::of_queue,
};

static REPLAY: Table<OutputDraft> = Table {
    fields: &[field(
        "max_samples_per_second",
        "",
        "100000",
        Set::Integer(1, u64::MAX, |d: &mut OutputDraft, v| d.rate = Some(v)),
        "The most samples a second while there is more waiting than what is new. Without it the pace is found by itself: \
         twice that of what is new, faster while all goes well, slower where the receiver is. It must be more than what is \
         new, or what waits never ends.",
    )],
    finish: no_more,
};

fn url(text: &str, such_as: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|error| match error {
        UrlError::Credentials => {
            "holds a user or a password, which would be seen wherever the URL is; expected a URL without, and basic_auth \
             or bearer_token_file beside it"
                .into()
        }
        error => format!("is no URL: {error}; expected one such as {such_as}"),
    })
}

fn fsync(text: &str) -> Result<Fsync, String> {
    match text {
        "always" => Ok(Fsync::Always),
        "never" => Ok(Fsync::Never),
        text => match units::prometheus_duration(text) {
            Ok(every) if (MILLISECOND..=HOUR).contains(&every) => Ok(Fsync::Every(every)),
            Ok(_) => Err("is out of range; expected a duration from 1ms to 1h, always or never".into()),
            Err(_) => Err("is no duration; expected one such as 1s, always or never".into()),
        },
    }
}

/// What fits together or not, whatever the receiver speaks.
fn finish(draft: &mut DestinationDraft, url: &str, scope: &mut Scope<'_, '_>) {
    let auth = scope.at_most_one(&["bearer_token", "bearer_token_file", "bearer_token_env", "basic_auth"]);
    if let Some(Word::Given(token)) = &draft.token
        && let Err(reason) = validate::header_value(token.expose())
    {
        let key = if scope.said("bearer_token") { "bearer_token" } else { "bearer_token_env" };
        scope.problem(key, format!("{}; expected a token", reason));
    }
    let is_said = draft.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    if let (Some(auth), true) = (auth, is_said) {
        scope.problem("headers", format!("has Authorization, which {auth} says too; expected one of them"));
    }
    idle::of_destination(draft, url, scope);
}

#[cfg(test)]
mod tests;
