//! A configuration in the making: the values of flags that mean something only together.
//!
//! A pair of files, a user with a password, a pattern that counts only where its feature is on: they wait
//! here until all is read, and [`Draft::finish`] puts them together or says what is missing.

use super::words::{By, Words};
use super::{Problem, Warning};
use crate::config::problem::shown;
use crate::config::serve::{BasicAuth, PasswordCheck, ServerTls, TlsVersion};
use crate::config::telemetry::Level;
use crate::config::{Config, Secret, validate};
use std::path::PathBuf;
use std::time::Duration;

/// What flags have said so far.
pub struct Draft {
    /// What needs nothing else.
    pub config: Config,
    /// `--tls-client-cert-file`.
    pub client_cert: Option<PathBuf>,
    /// `--tls-client-key-file`.
    pub client_key: Option<PathBuf>,
    /// `--tls-server-cert-file`.
    pub server_cert: Option<PathBuf>,
    /// `--tls-server-key-file`.
    pub server_key: Option<PathBuf>,
    /// `--tls-server-ca-cert-file`.
    pub server_ca: Option<PathBuf>,
    /// `--tls-server-min-version`.
    pub server_min_version: TlsVersion,
    /// `--basic-auth-username`.
    pub auth_user: String,
    /// `--basic-auth-password`.
    pub auth_password: Secret,
    /// `--basic-auth-hash-password`.
    pub auth_hash: Secret,
    /// `--include-search-indexes-metrics`.
    pub search_indexes: bool,
    /// `--check-search-indexes`.
    pub search_pattern: String,
    /// `--include-go-runtime-metrics`.
    pub go_runtime: bool,
    /// `--debug`.
    pub debug: bool,
    /// `--config.file`.
    pub document: Option<PathBuf>,
    /// `--config.source`, as it was written.
    pub source: Option<String>,
}

/// What stands for "no limit", which nothing here may have.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

impl Default for Draft {
    fn default() -> Self {
        let mut config = Config::default();
        // A flag that may be repeated adds to what is there, and its default is in the table.
        config.serve.listen.clear();
        Self {
            config,
            client_cert: None,
            client_key: None,
            server_cert: None,
            server_key: None,
            server_ca: None,
            server_min_version: TlsVersion::V12,
            auth_user: String::new(),
            auth_password: Secret::default(),
            auth_hash: Secret::default(),
            search_indexes: false,
            search_pattern: String::new(),
            go_runtime: false,
            debug: false,
            document: None,
            source: None,
        }
    }
}

impl Draft {
    /// Puts together what belongs together. What does not fit is told in `problems`, by the names that the
    /// operator used; the result counts only where that stays empty.
    pub fn finish(
        mut self,
        words: &Words,
        problems: &mut Vec<Problem>,
        warnings: &mut Vec<Warning>,
    ) -> Config {
        let place = |name: &str| words.said(name).place.clone();
        let mut problem =
            |name: &str, message: String| problems.push(Problem { place: place(name), message });
        let mut warn = |name: &str, message: &str| {
            warnings.push(Warning { place: place(name), message: message.into() });
        };

        let client = pair(
            (self.client_cert.take(), "tls-client-cert-file"),
            (self.client_key.take(), "tls-client-key-file"),
        );
        match client {
            Ok(client) => self.config.connect.tls.client = client,
            Err((given, missing)) => problem(given, format!("needs --{missing} too")),
        }
        self.server_tls(&mut problem, &mut warn, words);
        self.basic_auth(&mut problem);
        self.web_config(&mut problem, words);
        self.listen(&mut problem, &mut warn, words);

        if self.search_indexes {
            match validate::regex(&self.search_pattern) {
                Ok(pattern) => self.config.collect.search_indexes = Some(pattern.into()),
                Err(reason) => {
                    problem("check-search-indexes", format!("{} {reason}", shown(&self.search_pattern)));
                }
            }
        }
        if self.debug {
            self.config.telemetry.level = Level::Debug;
        }
        if self.go_runtime {
            warn("include-go-runtime-metrics", "without effect: there is no Go runtime here");
        }
        let connect = &mut self.config.connect;
        if connect.timeout.is_zero() {
            connect.timeout = LONGEST_TIMEOUT;
            warn("connection-timeout", "0 means no limit, and there always is one: an hour is taken");
        }
        if connect.flag_target.is_none() && !connect.password.is_empty() && connect.trusted.is_empty() {
            connect.password_for_all = true;
            warn(
                "redis.password",
                "without --redis.addr this password is sent to every target that a /scrape request names; \
                 --scrape.credentials-for says which targets may have it",
            );
        }
        self.config
    }

    fn server_tls(
        &mut self,
        problem: &mut impl FnMut(&str, String),
        warn: &mut impl FnMut(&str, &str),
        words: &Words,
    ) {
        let server = pair(
            (self.server_cert.take(), "tls-server-cert-file"),
            (self.server_key.take(), "tls-server-key-file"),
        );
        match server {
            Err((given, missing)) => problem(given, format!("needs --{missing} too")),
            Ok(Some((cert_file, key_file))) => {
                self.config.serve.tls = Some(ServerTls {
                    cert_file,
                    key_file,
                    client_ca_file: self.server_ca.take(),
                    min_version: self.server_min_version,
                });
                let version = words.said("tls-server-min-version").texts.last();
                if version.is_some_and(|version| TlsVersion::is_old(version)) {
                    warn("tls-server-min-version", "TLS 1.0 and 1.1 are no longer spoken: 1.2 is the oldest");
                }
            }
            Ok(None) if self.server_ca.is_some() => problem(
                "tls-server-ca-cert-file",
                "needs --tls-server-cert-file and --tls-server-key-file too: there are no client certificates \
                 without HTTPS"
                    .into(),
            ),
            Ok(None) => {}
        }
    }

    fn basic_auth(&mut self, problem: &mut impl FnMut(&str, String)) {
        let user = std::mem::take(&mut self.auth_user);
        let plain = Some(std::mem::take(&mut self.auth_password)).filter(|password| !password.is_empty());
        let hash = Some(std::mem::take(&mut self.auth_hash)).filter(|hash| !hash.is_empty());
        if let Some(hash) = &hash
            && let Err(reason) = validate::bcrypt_hash(hash)
        {
            problem("basic-auth-hash-password", format!("the value {reason}"));
        }
        if plain.is_some() && hash.is_some() {
            let message = "cannot be combined with --basic-auth-password; expected one of the two";
            problem("basic-auth-hash-password", message.into());
            return;
        }
        let given = if hash.is_some() { "basic-auth-hash-password" } else { "basic-auth-password" };
        let check = hash.map(PasswordCheck::Bcrypt).or(plain.map(PasswordCheck::Plain));
        match (user.is_empty(), check) {
            (true, None) => {}
            (false, Some(password)) => self.config.serve.basic_auth = Some(BasicAuth { user, password }),
            (true, Some(_)) => problem(
                given,
                "needs --basic-auth-username too: without it every path would be open to all".into(),
            ),
            (false, None) => problem(
                "basic-auth-username",
                "needs --basic-auth-password or --basic-auth-hash-password too: without it every path would be \
                 open to all"
                    .into(),
            ),
        }
    }

    /// The file and the flags speak of the same things: one of them says it.
    fn web_config(&mut self, problem: &mut impl FnMut(&str, String), words: &Words) {
        if self.config.serve.web_config.is_none() {
            return;
        }
        let rivals = [
            "tls-server-cert-file",
            "tls-server-key-file",
            "tls-server-ca-cert-file",
            "basic-auth-username",
            "basic-auth-password",
            "basic-auth-hash-password",
        ];
        let said = |name: &&str| words.said(name).texts.iter().any(|text| !text.is_empty());
        for rival in rivals.into_iter().filter(said) {
            let message =
                "cannot be combined with --web.config.file, which says this too; expected one of them";
            problem(rival, message.into());
        }
    }

    fn listen(
        &mut self,
        problem: &mut impl FnMut(&str, String),
        warn: &mut impl FnMut(&str, &str),
        words: &Words,
    ) {
        let listen = &self.config.serve.listen;
        let twice = listen.iter().enumerate().find(|(index, address)| listen[..*index].contains(address));
        if let Some((_, address)) = twice {
            problem("web.listen-address", format!("\"{address}\" is given twice"));
        }
        if self.config.serve.systemd_socket && words.said("web.listen-address").by != By::Default {
            warn("web.listen-address", "without effect beside --web.systemd-socket");
        }
    }
}

/// Both or none; else the name of the one that is given and of the one that is missing.
fn pair<'a, T>(
    (first, first_name): (Option<T>, &'a str),
    (second, second_name): (Option<T>, &'a str),
) -> Result<Option<(T, T)>, (&'a str, &'a str)> {
    match (first, second) {
        (Some(first), Some(second)) => Ok(Some((first, second))),
        (None, None) => Ok(None),
        (Some(_), None) => Err((first_name, second_name)),
        (None, Some(_)) => Err((second_name, first_name)),
    }
}
