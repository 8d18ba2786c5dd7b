//! What the operator may say about our own HTTP side.

use super::Secret;
use std::path::PathBuf;

/// Our own HTTP side.
#[derive(Clone, Debug)]
pub struct Serve {
    /// `--web.listen-address`: `:9121`, `127.0.0.1:9121`, `[::1]:9121`, `unix:/run/redvigil.sock`.
    pub listen: Vec<Listen>,
    /// `--web.systemd-socket`: take the sockets that systemd opened instead.
    pub systemd_socket: bool,
    /// `--web.telemetry-path`.
    pub telemetry_path: String,
    /// `--disable-scrape-endpoint`, negated.
    pub scrape_endpoint: bool,
    /// `--redis-only-metrics`: nothing about ourselves but the peer's `redis_exporter_*` families.
    pub redis_only: bool,
    /// `--web.prefer-openmetrics`.
    pub prefer_openmetrics: bool,
    /// `--web.config.file`: TLS and users in the schema of the Prometheus exporter toolkit.
    pub web_config: Option<PathBuf>,
    /// `--web.enable-runtime-api`: whether settings may be changed by `/api/v1/runtime`.
    pub runtime_api: bool,
    /// TLS from the peer's flags.
    pub tls: Option<ServerTls>,
    /// Basic auth from the peer's flags.
    pub basic_auth: Option<BasicAuth>,
    /// `--web.max-requests`: requests that are worked on at once; more are answered 503 at once. 512: two
    /// Prometheus that scrape 200 targets each through us in the same instant.
    pub max_requests: usize,
    /// `--web.max-connections`: connections open at once, idle ones included. 1024.
    pub max_connections: usize,
    /// `web.service_label`: the label that names the service of a member. `service`.
    pub service_label: String,
    /// `web.instance_label`: the label that names the member. `instance`.
    pub instance_label: String,
    /// `--web.external-address`, `web.external_address`: the `host:port` under which Prometheus reaches us;
    /// `None`: the one that each request names.
    pub external_address: Option<String>,
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            listen: vec![Listen::Tcp { host: String::new(), port: 9121 }],
            systemd_socket: false,
            telemetry_path: "/metrics".into(),
            scrape_endpoint: true,
            redis_only: false,
            prefer_openmetrics: false,
            web_config: None,
            runtime_api: false,
            tls: None,
            basic_auth: None,
            max_requests: 512,
            max_connections: 1024,
            service_label: "service".into(),
            instance_label: "instance".into(),
            external_address: None,
        }
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A port on one host or, where the host is empty, on all addresses of both families.
    Tcp {
        /// Host name or address; empty: all.
        host: String,
        /// The port; 0: any free one.
        port: u16,
    },
    /// A unix socket; the file is made at start and removed at stop.
    Unix(PathBuf),
}

impl Listen {
    /// Reads `:9121`, `127.0.0.1:0`, `[::1]:9121`, `host:9121`, `unix:/path`, `unix:///path`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fail = || "is no address to listen on; expected :9121, 127.0.0.1:9121, [::1]:9121 or unix:/path";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(fail().into()) } else { Ok(Self::Unix(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(fail)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host.parse::<std::net::Ipv6Addr>().map_err(|_| fail())?.to_string(),
            None => host.to_ascii_lowercase(),
        };
        let host_is_bare = !text.starts_with('[');
        if host_is_bare && host.chars().any(|c| !(c.is_ascii_alphanumeric() || "-_.".contains(c))) {
            return Err(fail().into());
        }
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(fail().into());
        }
        Ok(Self::Tcp { host, port: port.parse().map_err(|_| fail())? })
    }
}

/// As one writes it in a flag.
impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// HTTPS from the peer's flags; the files are read again for each handshake after they changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// `--tls-server-cert-file`.
    pub cert_file: PathBuf,
    /// `--tls-server-key-file`.
    pub key_file: PathBuf,
    /// `--tls-server-ca-cert-file`: client certificates become mandatory and must chain to it.
    pub client_ca_file: Option<PathBuf>,
    /// `--tls-server-min-version`.
    pub min_version: TlsVersion,
}

/// A TLS version. 1.0 and 1.1 are accepted as words and mean 1.2: rustls knows nothing older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

impl TlsVersion {
    /// Reads `TLS1.0` to `TLS1.3`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "TLS1.0" | "TLS1.1" | "TLS1.2" => Ok(Self::V12),
            "TLS1.3" => Ok(Self::V13),
            _ => Err("is no TLS version; expected TLS1.2 or TLS1.3".into()),
        }
    }

    /// Whether it is a word for a version that we do not speak.
    pub fn is_old(text: &str) -> bool {
        matches!(text, "TLS1.0" | "TLS1.1")
    }
}

/// One user for basic auth.
#[derive(Clone, Debug)]
pub struct BasicAuth {
    /// `--basic-auth-username`.
    pub user: String,
    /// `--basic-auth-password` or `--basic-auth-hash-password`.
    pub password: PasswordCheck,
}

/// How a password is checked.
#[derive(Clone, Debug)]
pub enum PasswordCheck {
    /// By comparing in constant time.
    Plain(Secret),
    /// By bcrypt.
    Bcrypt(Secret),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on_have_a_port_or_a_path() {
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(Listen::parse(text).ok().map(|l| l.to_string()).as_deref(), expected, "{text}");
        }
        check(":9121", Some(":9121"));
        check("127.0.0.1:0", Some("127.0.0.1:0"));
        check("0.0.0.0:9121", Some("0.0.0.0:9121"));
        check("[::1]:9121", Some("[::1]:9121"));
        check("[0:0::0]:1", Some("[::]:1"));
        check("Localhost:9121", Some("localhost:9121"));
        check("unix:/run/redvigil.sock", Some("unix:/run/redvigil.sock"));
        check("unix:///run/redvigil.sock", Some("unix:/run/redvigil.sock"));
        check("unix:redvigil.sock", Some("unix:redvigil.sock"));
        for text in [
            "",
            "9121",
            "host",
            "host:",
            ":http",
            ":70000",
            ":-1",
            ":+1",
            "::1:9121",
            "[::1]",
            "[x]:1",
            "h h:1",
            "http://h:1",
            "unix:",
            "unix://",
        ] {
            check(text, None);
        }
    }
}
