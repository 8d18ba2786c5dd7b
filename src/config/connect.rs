//! What the operator may say about reaching Redis: time-outs, TLS, credentials.

use super::{Address, Secret};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

/// How to reach servers, and who we are to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Connect {
    /// Bounds dialling with authentication, and the silence between two replies, where the caller gave no
    /// deadline of its own. `--connection-timeout`, 15 s; more than zero.
    pub timeout: Duration,
    /// Whether to say who we are by `CLIENT SETNAME`. `--set-client-name`, on.
    pub set_client_name: bool,
    /// Whether to send `PING` after connecting and export the time it took. `--ping-on-connect`, off.
    pub ping: bool,
    /// TLS towards Redis.
    pub tls: Tls,
    /// `--redis.user`: the ACL user. Used only where a password is known too.
    pub user: String,
    /// `--redis.password`: for the target of `--redis.addr`, and for others as [`Self::trusted`] says.
    pub password: Secret,
    /// `--redis.password-file`, to be read again at a reload.
    pub password_file: Option<PathBuf>,
    /// What the password file said: passwords by [normalised address](super::Address::key). An empty one
    /// says that the operator knows the server and gives it [`Self::password`].
    pub passwords: HashMap<String, Secret>,
    /// `--scrape.credentials-for`: which `/scrape` targets get [`Self::password`].
    pub trusted: Vec<super::scrape::HostPattern>,
    /// The address of `--redis.addr`, the same as [`target`](super::Scrape::target): a `/scrape` request
    /// for this server gets the credentials that the flags give it.
    pub flag_target: Option<Address>,
    /// Every target gets [`Self::password`]: the peer's multi-target mode, an empty `--redis.addr` with
    /// `--redis.password`, and no `--scrape.credentials-for` that narrows it.
    pub password_for_all: bool,
    /// `credentials:`: who we are to members of services, and to other servers that a profile names.
    pub profiles: Vec<super::Profile>,
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(15),
            set_client_name: true,
            ping: false,
            tls: Tls::default(),
            user: String::new(),
            password: Secret::default(),
            password_file: None,
            passwords: HashMap::new(),
            trusted: vec![],
            flag_target: Some(Address::default()),
            password_for_all: false,
            profiles: vec![],
        }
    }
}

/// TLS towards Redis. The files are read at each (re)connect, so renewed certificates need no restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// CA bundle (PEM) that replaces the system's roots. `--tls-ca-cert-file`.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and its key (PEM). `--tls-client-cert-file`, `--tls-client-key-file`.
    pub client: Option<(PathBuf, PathBuf)>,
    /// The name sent as SNI and verified, where it is not the dialled host. `--tls-server-name`.
    pub server_name: Option<String>,
    /// Accept any certificate. `--skip-tls-verification`.
    pub skip_verification: bool,
}
