//! `remote_write:` and `otlp:` of an output: where the receiver is, and who we are to it.
//!
//! What a newcomer would get wrong: both are one draft with two tables. What both have is one row, which stands below.

use super::super::credentials::{TlsDraft, pair_certificate};
use super::super::{MILLISECOND, field, filled, idle, switch};
use crate::config::deliver::{Auth, Destination, Endpoint, Protocol, Url, UrlError, Version, Word};
use crate::config::document::reader::{Field, Part, Scope, Set, Surroundings, Table};
use crate::config::{Secret, validate};
use std::path::PathBuf;
use std::time::Duration;

/// A receiver in the making.
pub struct ReceiverDraft {
    pub(in super::super) url: Option<Url>,
    version: Version,
    protocol: Protocol,
    pub(in super::super) headers: Vec<(String, Secret)>,
    pub(in super::super) token: Option<Word>,
    user: String,
    password: Option<Word>,
    tls: TlsDraft,
    timeout: Duration,
}

impl Default for ReceiverDraft {
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

impl ReceiverDraft {
    /// What it comes to as remote write; `None`: there is a problem already.
    pub(super) fn remote_write(self) -> Option<Destination> {
        let version = self.version;
        Some(Destination::RemoteWrite { version, endpoint: self.endpoint()? })
    }

    /// What it comes to as OTLP; `None`: there is a problem already.
    pub(super) fn otlp(self) -> Option<Destination> {
        let protocol = self.protocol;
        Some(Destination::Otlp { protocol, endpoint: self.endpoint()? })
    }

    fn endpoint(self) -> Option<Endpoint> {
        let auth = match (self.token, self.password) {
            (Some(token), _) => Auth::Bearer(token),
            (None, Some(password)) => Auth::Basic { user: self.user, password },
            (None, None) => Auth::None,
        };
        let (headers, tls, timeout) = (self.headers, self.tls.settings, self.timeout);
        Some(Endpoint { url: self.url?, headers, auth, tls, timeout })
    }
}

pub(super) static REMOTE_WRITE: Table<ReceiverDraft> = Table {
    fields: &[
        field(
            "url",
            "",
            "https://mimir.example/api/v1/push",
            Set::Parsed("a URL", |d: &mut ReceiverDraft, v, _| {
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
            Set::Parsed("auto, 1.0 or 2.0", |d: &mut ReceiverDraft, v, _| {
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

pub(super) static OTLP: Table<ReceiverDraft> = Table {
    fields: &[
        field(
            "endpoint",
            "",
            "http://collector:4317",
            Set::Parsed("a URL", |d: &mut ReceiverDraft, v, _| {
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
            Set::Parsed("grpc or http", |d: &mut ReceiverDraft, v, _| {
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

const HEADERS: Field<ReceiverDraft> = field(
    "headers",
    "",
    "{ X-Scope-OrgID: checkout }",
    Set::Map("names to texts", |d: &mut ReceiverDraft, name, text, _| {
        validate::output_header(name, text)?;
        if d.headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            return Err("is given twice, for upper and lower case are the same; expected it once".into());
        }
        d.headers.push((name.into(), Secret::new(text)));
        Ok(())
    }),
    "Headers of every request, beside those that we set ourselves: X-Scope-OrgID names the tenant to Mimir and Cortex, \
     THANOS-TENANT to Thanos. Values are kept secret.",
)
.private();

const BEARER_TOKEN: Field<ReceiverDraft> = field(
    "bearer_token",
    "",
    "change-me",
    Set::Secret(|d: &mut ReceiverDraft, v| d.token = Some(Word::Given(v))),
    "The token of Authorization: Bearer. Better kept outside of this file.",
);

const BEARER_TOKEN_FILE: Field<ReceiverDraft> = field(
    "bearer_token_file",
    "",
    "/run/secrets/mimir-token",
    Set::Parsed("the path of a file", |d: &mut ReceiverDraft, v, around| {
        d.token = Some(Word::File(word_file(v, around, "token")?));
        Ok(())
    }),
    "The file that holds it, without the white space at its ends. Read again when it changes, without a reload.",
)
.aside();

const BEARER_TOKEN_ENV: Field<ReceiverDraft> = field(
    "bearer_token_env",
    "",
    "MIMIR_TOKEN",
    Set::SecretVariable(|d: &mut ReceiverDraft, v| d.token = Some(Word::Given(v))),
    "The variable of the environment that holds it.",
)
.aside();

const BASIC_AUTH: Field<ReceiverDraft> = field(
    "basic_auth",
    "",
    "{ username: redvigil, password_file: /run/secrets/mimir }",
    Set::Section(&BASIC_PART),
    "User and password, in place of a token.",
)
.aside();

const TLS_OF_OUTPUT: Field<ReceiverDraft> = field(
    "tls",
    "",
    "",
    Set::Section(&TLS_PART),
    "TLS, where the URL begins with https://. Files are read again when they change, without a reload.",
);

const TIMEOUT: Field<ReceiverDraft> = field(
    "timeout",
    "10s",
    "10s",
    Set::Duration(MILLISECOND, Duration::from_secs(300), |d: &mut ReceiverDraft, v| d.timeout = v),
    "How long a request may take in all. After it the receiver may have taken the request or not: it is sent again.",
);

static BASIC_PART: Part<ReceiverDraft, ReceiverDraft> = Part { table: &BASIC, at: |d| d };

static BASIC: Table<ReceiverDraft> = Table {
    fields: &[
        field(
            "username",
            "",
            "redvigil",
            Set::Parsed("a name without a colon", |d: &mut ReceiverDraft, v, _| {
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
            Set::Secret(|d: &mut ReceiverDraft, v| d.password = Some(Word::Given(v))),
            "The password. Better kept outside of this file.",
        ),
        field(
            "password_file",
            "",
            "/run/secrets/mimir",
            Set::Parsed("the path of a file", |d: &mut ReceiverDraft, v, around| {
                d.password = Some(Word::File(word_file(v, around, "password")?));
                Ok(())
            }),
            "The file that holds it, without the white space at its ends. Read again when it changes, without a reload.",
        )
        .aside(),
        field(
            "password_env",
            "",
            "MIMIR_PASSWORD",
            Set::SecretVariable(|d: &mut ReceiverDraft, v| d.password = Some(Word::Given(v))),
            "The variable of the environment that holds it.",
        )
        .aside(),
    ],
    finish: |_, scope| scope.exactly_one(&["password", "password_file", "password_env"]),
};

static TLS_PART: Part<ReceiverDraft, TlsDraft> = Part { table: &TLS, at: |d| &mut d.tls };

pub(in super::super) static TLS: Table<TlsDraft> = Table {
    fields: &[
        field(
            "ca_file",
            "",
            "/etc/redvigil/ca.pem",
            Set::File(|d: &mut TlsDraft, v| d.settings.ca_file = Some(v)),
            "Certificates (PEM) that the server's one must chain to, in place of the system's.",
        )
        .aside(),
        field(
            "cert_file",
            "",
            "/etc/redvigil/client.pem",
            Set::File(|d: &mut TlsDraft, v| d.cert = Some(v)),
            "Our own certificate (PEM), for servers that ask for one. Needs key_file.",
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
            "Accept any certificate. Whoever stands between us and the server then gets all that we send, secrets included.",
        ),
    ],
    finish: pair_certificate,
};

pub(in super::super) fn url(text: &str, such_as: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|error| match error {
        UrlError::Credentials => {
            "holds a user or a password, which would be seen wherever the URL is; expected a URL without, and basic_auth \
             or bearer_token_file beside it"
                .into()
        }
        error => format!("is no URL: {error}; expected one such as {such_as}"),
    })
}

/// A file that holds a word, which is read again later: what is in it now is looked at, and not kept.
pub(in super::super) fn word_file(
    text: &str,
    around: &Surroundings<'_>,
    what: &str,
) -> Result<PathBuf, String> {
    let path = around.path(text);
    let word = validate::read(&path)?;
    if word.trim().is_empty() {
        return Err(format!("is an empty file; expected one that holds a {what}"));
    }
    // A password travels in base 64.
    if what == "token" {
        validate::header_value(word.trim())?;
    }
    Ok(path)
}

/// What fits together or not, whatever the receiver speaks.
fn finish(draft: &mut ReceiverDraft, url: &str, scope: &mut Scope<'_, '_>) {
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
    idle::of_receiver(draft, url, scope);
}
