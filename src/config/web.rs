//! The document of `--web.config.file`: TLS, users, headers and a rate limit for our own HTTP side.
//!
//! The schema is that of the Prometheus exporters, so that one file serves them all:
//! <https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>. An unknown key is
//! an error. File names are relative to the folder of the document.
//!
//! What a newcomer would get wrong: an error never shows a value, which may be a hash or a key, but for the
//! words of closed sets.

use super::serve::{ServerTls, TlsVersion};
use super::{Secret, units, validate};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the document says, checked as far as no other file is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebConfig {
    /// HTTPS; `None`: plain HTTP.
    pub tls: Option<TlsServer>,
    /// Whether HTTP/2 is offered over TLS. On.
    pub http2: bool,
    /// Headers that every response gets: names in lower case, values that are sent as they are.
    pub headers: Vec<(&'static str, String)>,
    /// bcrypt hashes of passwords by user; none: everybody may ask.
    pub users: BTreeMap<String, Secret>,
    /// How many requests are answered in a time; `None`: no limit.
    pub rate_limit: Option<RateLimit>,
}

impl Default for WebConfig {
    fn default() -> Self {
        Self { tls: None, http2: true, headers: vec![], users: BTreeMap::new(), rate_limit: None }
    }
}

/// HTTPS as any of the two ways to say it comes to: the flags, or the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsServer {
    /// Our certificate and those between it and the root.
    pub cert: Pem,
    /// Its key.
    pub key: Pem,
    /// What client certificates must chain to.
    pub client_ca: Option<Pem>,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// Names of which a client certificate must have one; empty: any.
    pub allowed_sans: Vec<String>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// The newest version that is spoken.
    pub max_version: TlsVersion,
    /// Names of cipher suites; empty: all that are safe.
    pub cipher_suites: Vec<String>,
    /// Names of key exchange groups; empty: all that are safe.
    pub curves: Vec<String>,
}

/// Certificates or a key in the PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pem {
    /// In a file, which is read again when it changes.
    File(PathBuf),
    /// In the document itself.
    Text(Secret),
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    #[serde(rename = "NoClientCert", alias = "")]
    None,
    /// They are asked; any certificate or none is fine.
    #[serde(rename = "RequestClientCert")]
    Request,
    /// They must have one; any is fine.
    #[serde(rename = "RequireAnyClientCert", alias = "RequireClientCert")]
    RequireAny,
    /// They are asked; one that they show must chain to the CA.
    #[serde(rename = "VerifyClientCertIfGiven")]
    VerifyIfGiven,
    /// They must have one that chains to the CA.
    #[serde(rename = "RequireAndVerifyClientCert")]
    RequireAndVerify,
}

impl ClientAuth {
    /// Whether a certificate must chain to the CA.
    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// One more request is admitted each time this has passed.
    pub interval: Duration,
    /// So many are admitted at once after a pause.
    pub burst: u32,
}

impl TlsServer {
    /// What the flags of redis_exporter say. With a CA, client certificates are mandatory.
    pub fn from_flags(flags: &ServerTls) -> Self {
        let client_ca = flags.client_ca_file.clone().map(Pem::File);
        Self {
            cert: Pem::File(flags.cert_file.clone()),
            key: Pem::File(flags.key_file.clone()),
            client_auth: if client_ca.is_some() { ClientAuth::RequireAndVerify } else { ClientAuth::None },
            client_ca,
            allowed_sans: vec![],
            min_version: flags.min_version,
            max_version: TlsVersion::V13,
            cipher_suites: vec![],
            curves: vec![],
        }
    }

    /// The files that it is made of.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten().filter_map(|pem| {
            match pem {
                Pem::File(path) => Some(path.as_path()),
                Pem::Text(_) => None,
            }
        })
    }
}

impl WebConfig {
    /// Reads the text of a document that lies in `folder`. The error ends a sentence that names the file.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let options = serde_saphyr::options! { with_snippet: false };
        let document: Option<Document> =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| explain(&error))?;
        document.unwrap_or_default().check(folder)
    }
}

/// An error in one line, without the values that it was about.
pub(super) fn explain(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as Yaml;
    let quoted = |words: &[&str]| words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ");
    let text = match error.without_snippet() {
        Yaml::SerdeUnknownField { field, expected, .. } => {
            format!("unknown key {field:?}; expected one of {}", quoted(expected))
        }
        Yaml::SerdeUnknownVariant { variant, expected, .. } => {
            format!("unknown word {variant:?}; expected one of {}", quoted(expected))
        }
        Yaml::SerdeMissingField { field, .. } => format!("the key `{field}` is missing"),
        Yaml::SerdeInvalidType { expected, .. } | Yaml::SerdeInvalidValue { expected, .. } => {
            format!("expected {expected}")
        }
        Yaml::DuplicateMappingKey { key: Some(key), .. } => format!("the key {key:?} is given twice"),
        Yaml::DuplicateMappingKey { key: None, .. } => "a key is given twice".into(),
        Yaml::Message { msg, .. } => msg.clone(),
        Yaml::Eof { .. } => "it ends too early".into(),
        Yaml::MultipleDocuments { .. } => "it holds more than one document".into(),
        Yaml::InvalidScalar { ty, .. } => format!("expected {ty}"),
        Yaml::Unexpected { expected, .. } => format!("expected {expected}"),
        _ => "this is no YAML that we can read".into(),
    };
    let text = text.replace('\n', " ");
    match error.location() {
        Some(place) => format!("line {} column {}: {text}", place.line(), place.column()),
        None => text,
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Document {
    tls_server_config: Option<TlsDocument>,
    http_server_config: Option<HttpDocument>,
    basic_auth_users: Option<BTreeMap<String, Hash>>,
    rate_limit: Option<RateLimitDocument>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TlsDocument {
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: PathBuf,
    cert: String,
    key: String,
    client_ca: String,
    client_auth_type: ClientAuth,
    client_allowed_sans: Vec<String>,
    min_version: Option<Version>,
    max_version: Option<Version>,
    cipher_suites: Vec<String>,
    // Servers choose among the suites that both know in any case; the word is known for the sake of files
    // that have it.
    #[serde(rename = "prefer_server_cipher_suites")]
    _prefer_server_cipher_suites: bool,
    curve_preferences: Vec<String>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HttpDocument {
    http2: bool,
    headers: Option<Headers>,
}

impl Default for HttpDocument {
    fn default() -> Self {
        Self { http2: true, headers: None }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "PascalCase")]
struct Headers {
    #[serde(rename = "Content-Security-Policy")]
    content_security_policy: String,
    #[serde(rename = "Strict-Transport-Security")]
    strict_transport_security: String,
    #[serde(rename = "X-Content-Type-Options")]
    x_content_type_options: NoSniff,
    #[serde(rename = "X-Frame-Options")]
    x_frame_options: FrameOptions,
    #[serde(rename = "X-XSS-Protection")]
    x_xss_protection: String,
}

#[derive(Clone, Copy, Default, Deserialize)]
enum NoSniff {
    #[default]
    #[serde(rename = "")]
    Unset,
    #[serde(rename = "nosniff")]
    NoSniff,
}

#[derive(Clone, Copy, Default, Deserialize)]
enum FrameOptions {
    #[default]
    #[serde(rename = "")]
    Unset,
    #[serde(rename = "deny", alias = "DENY")]
    Deny,
    #[serde(rename = "sameorigin", alias = "SAMEORIGIN")]
    SameOrigin,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RateLimitDocument {
    interval: Interval,
    burst: u32,
}

#[derive(Default, Deserialize)]
#[serde(try_from = "String")]
struct Interval(Duration);

impl TryFrom<String> for Interval {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        units::duration(&text).map(Self).map_err(|error| format!("the interval {error}"))
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Hash(Secret);

impl TryFrom<String> for Hash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let hash = Secret::new(text);
        validate::bcrypt_hash(&hash).map_err(|error| format!("the password {error}"))?;
        Ok(Self(hash))
    }
}

#[derive(Deserialize)]
enum Version {
    #[serde(rename = "TLS12", alias = "TLS10", alias = "TLS11")]
    V12,
    #[serde(rename = "TLS13")]
    V13,
}

impl From<Version> for TlsVersion {
    fn from(version: Version) -> Self {
        match version {
            Version::V12 => Self::V12,
            Version::V13 => Self::V13,
        }
    }
}

impl Document {
    fn check(self, folder: &Path) -> Result<WebConfig, String> {
        let http = self.http_server_config.unwrap_or_default();
        let users = self.basic_auth_users.unwrap_or_default();
        if users.contains_key("") {
            return Err("basic_auth_users: a user has no name".into());
        }
        let rate_limit = self
            .rate_limit
            .map(|limit| RateLimit { interval: limit.interval.0, burst: limit.burst })
            .filter(|limit| !limit.interval.is_zero());
        if rate_limit.is_some_and(|limit| limit.burst == 0) {
            return Err("rate_limit: the burst is 0, which admits nobody; expected 1 or more".into());
        }
        Ok(WebConfig {
            tls: self.tls_server_config.map(|tls| tls.check(folder)).transpose()?,
            http2: http.http2,
            headers: http.headers.unwrap_or_default().check()?,
            users: users.into_iter().map(|(user, hash)| (user, hash.0)).collect(),
            rate_limit,
        })
    }
}

impl TlsDocument {
    fn check(self, folder: &Path) -> Result<TlsServer, String> {
        let pem = |name: &str, file: PathBuf, text: String| match (file.as_os_str().is_empty(), text) {
            (true, text) if text.is_empty() => Ok(None),
            (true, text) => Ok(Some(Pem::Text(Secret::new(text)))),
            (false, text) if text.is_empty() => Ok(Some(Pem::File(folder.join(file)))),
            (false, _) => Err(format!("tls_server_config: {name} and {name}_file are both given")),
        };
        let missing = |name: &str| format!("tls_server_config: neither {name} nor {name}_file is given");
        let cert = pem("cert", self.cert_file, self.cert)?.ok_or_else(|| missing("cert"))?;
        let key = pem("key", self.key_file, self.key)?.ok_or_else(|| missing("key"))?;
        let client_ca = pem("client_ca", self.client_ca_file, self.client_ca)?;
        let client_auth = self.client_auth_type;
        if client_ca.is_some() && client_auth == ClientAuth::None {
            return Err("tls_server_config: a client_ca is given, but no client_auth_type that asks for \
                        certificates"
                .into());
        }
        if client_ca.is_none() && client_auth.verifies() {
            return Err(missing("client_ca"));
        }
        if !self.client_allowed_sans.is_empty() && client_auth == ClientAuth::None {
            return Err(
                "tls_server_config: client_allowed_sans are given, but no client_auth_type that asks \
                        for certificates"
                    .into(),
            );
        }
        let min_version = self.min_version.map_or(TlsVersion::V12, Into::into);
        let max_version = self.max_version.map_or(TlsVersion::V13, Into::into);
        if min_version > max_version {
            return Err("tls_server_config: min_version is above max_version".into());
        }
        Ok(TlsServer {
            cert,
            key,
            client_ca,
            client_auth,
            allowed_sans: self.client_allowed_sans,
            min_version,
            max_version,
            cipher_suites: self.cipher_suites,
            curves: self.curve_preferences,
        })
    }
}

impl Headers {
    fn check(self) -> Result<Vec<(&'static str, String)>, String> {
        let no_sniff = match self.x_content_type_options {
            NoSniff::Unset => "",
            NoSniff::NoSniff => "nosniff",
        };
        let frame = match self.x_frame_options {
            FrameOptions::Unset => "",
            FrameOptions::Deny => "deny",
            FrameOptions::SameOrigin => "sameorigin",
        };
        let headers = [
            ("content-security-policy", self.content_security_policy),
            ("strict-transport-security", self.strict_transport_security),
            ("x-content-type-options", no_sniff.into()),
            ("x-frame-options", frame.into()),
            ("x-xss-protection", self.x_xss_protection),
        ];
        let set: Vec<_> = headers.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let is_sendable = |value: &str| value.bytes().all(|b| (0x20..0x7f).contains(&b) || b == b'\t');
        match set.iter().find(|(_, value)| !is_sendable(value)) {
            Some((name, _)) => Err(format!("http_server_config: headers: {name} has a control character")),
            None => Ok(set),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2b$12$abcdefghijklmnopqrstuv0123456789ABCDEFGHIJKLMNOPQRS./";

    fn parse(text: &str) -> Result<WebConfig, String> {
        WebConfig::parse(&text.replace("HASH", HASH), Path::new("/etc/web"))
    }

    fn check(text: &str, expected: Result<fn(&WebConfig) -> bool, &str>) {
        match (parse(text), expected) {
            (Ok(config), Ok(is_so)) => assert!(is_so(&config), "{text}\n{config:?}"),
            (Err(error), Err(words)) => assert_eq!(error, words, "{text}"),
            (result, _) => panic!("{text}\n{result:?}"),
        }
    }

    #[test]
    fn nothing_said_is_plain_http_for_everybody() {
        check("", Ok(|c| *c == WebConfig::default()));
        check("# nothing\n", Ok(|c| *c == WebConfig::default()));
        check("basic_auth_users:\nhttp_server_config:\n", Ok(|c| *c == WebConfig::default()));
    }

    #[test]
    fn everything_said_is_understood() {
        check(
            "tls_server_config:\n  cert_file: server.crt\n  key_file: /keys/server.key\n  client_ca: PEM\n\
             \x20 client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [a.example]\n\
             \x20 min_version: TLS13\n  max_version: TLS13\n  cipher_suites: [TLS_AES_128_GCM_SHA256]\n\
             \x20 prefer_server_cipher_suites: true\n  curve_preferences: [X25519]\n\
             http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n\
             \x20   Strict-Transport-Security: max-age=1\n\
             basic_auth_users:\n  a: HASH\nrate_limit:\n  interval: 1s\n  burst: 5\n",
            Ok(|c| {
                let Some(tls) = &c.tls else { return false };
                tls.files().map(Path::to_str).collect::<Vec<_>>()
                    == [Some("/etc/web/server.crt"), Some("/keys/server.key")]
                    && tls.client_auth == ClientAuth::RequireAndVerify
                    && tls.min_version == TlsVersion::V13
                    && !c.http2
                    && c.headers.len() == 2
                    && c.users.len() == 1
                    && c.rate_limit == Some(RateLimit { interval: Duration::from_secs(1), burst: 5 })
            }),
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        check(
            "tls_server_config:\n  certfile: x\n",
            Err("line 2 column 3: unknown key \"certfile\"; expected one of `cert_file`, `key_file`, \
                 `client_ca_file`, `cert`, `key`, `client_ca`, `client_auth_type`, `client_allowed_sans`, \
                 `min_version`, `max_version`, `cipher_suites`, `prefer_server_cipher_suites`, \
                 `curve_preferences`"),
        );
        check(
            "tls_server_config: {cert: a, key: b, cert_file: c}",
            Err("tls_server_config: cert and cert_file are both given"),
        );
        check("tls_server_config: {cert: a}", Err("tls_server_config: neither key nor key_file is given"));
        check(
            "tls_server_config: {cert: a, key: b, client_auth_type: RequireAndVerifyClientCert}",
            Err("tls_server_config: neither client_ca nor client_ca_file is given"),
        );
        check(
            "tls_server_config: {cert: a, key: b, min_version: TLS13, max_version: TLS12}",
            Err("tls_server_config: min_version is above max_version"),
        );
        check(
            "rate_limit: {interval: 1s}",
            Err("rate_limit: the burst is 0, which admits nobody; expected 1 or more"),
        );
        check("basic_auth_users: {'': HASH}", Err("basic_auth_users: a user has no name"));
    }

    #[test]
    fn an_error_shows_no_value() {
        for text in [
            "basic_auth_users: hunter2",
            "basic_auth_users: {a: hunter2}",
            "basic_auth_users: [hunter2]",
            "tls_server_config: {key: [hunter2]}",
            "tls_server_config: hunter2",
            "http_server_config: {http2: hunter2}",
            "rate_limit: {interval: hunter2}",
            "rate_limit: {burst: hunter2}",
            "hunter2",
            "hunter2: [",
        ] {
            let error = parse(text).expect_err(text);
            let key = text.starts_with("hunter2:");
            assert!(key || !error.contains("hunter2"), "{text}: {error}");
            assert!(error.starts_with("line 1 "), "{text}: {error}");
        }
    }
}
