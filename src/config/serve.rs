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
    /// TLS from the peer's flags.
    pub tls: Option<ServerTls>,
    /// Basic auth from the peer's flags.
    pub basic_auth: Option<BasicAuth>,
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
            tls: None,
            basic_auth: None,
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
