//! The address of one server, and its written forms.
//!
//! `redis://`, `rediss://`, `valkey://`, `valkeys://`, `tcp://`, `unix://`, `redis+unix://`,
//! `redis-socket://`, and bare `host:port`; IPv6 in brackets; `/db` or `?db=`; `user:password@`, percent-decoded.
//! Forms: <https://www.iana.org/assignments/uri-schemes/prov/redis>.
//!
//! What a newcomer would get wrong: [`Address::key`], not the text that somebody typed, says whether two
//! addresses are the same server. The password file is looked up by it, so `host`, `redis://host:6379` and
//! `valkey://host/0` are one entry.

use super::Secret;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use std::fmt;
use std::path::PathBuf;

/// Where a server listens, whether by TLS, and what the address itself says of database and user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Host and port, or the path of a socket.
    pub endpoint: Endpoint,
    /// `rediss://` and `valkeys://`.
    pub tls: bool,
    /// The database that the connection selects; 0 is the default of every server.
    pub db: u32,
    /// The user of the address.
    pub user: Option<String>,
    /// The password of the address.
    pub password: Option<Secret>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A host name or an IP address without brackets, and a port.
    Tcp {
        /// Lower case.
        host: String,
        /// The port; 6379 where none is given.
        port: u16,
    },
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// The port of Redis and Valkey.
pub const DEFAULT_PORT: u16 = 6379;

/// The port of Sentinels.
pub const SENTINEL_PORT: u16 = 26379;

/// Why a text is no address. Shows no part of the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing was given.
    #[error("no host is given")]
    NoHost,
    /// The port is no number from 1 to 65535.
    #[error("the port is no number from 1 to 65535")]
    Port,
    /// The scheme is not known.
    #[error("the scheme is none of redis, rediss, valkey, valkeys, tcp, unix, redis+unix and redis-socket")]
    Scheme,
    /// The path is no database number.
    #[error("the path is no database number")]
    Db,
    /// An IPv6 address is not in brackets, or brackets are not closed.
    #[error("an IPv6 address must stand in brackets: [::1]:6379")]
    Brackets,
    /// Percent-encoding that is no UTF-8, or a control character.
    #[error("there is a character that no address can have")]
    Character,
}

impl Default for Address {
    /// `redis://localhost:6379`.
    fn default() -> Self {
        Self::tcp("localhost", DEFAULT_PORT)
    }
}

impl Address {
    /// A plain TCP address without user or database.
    pub fn tcp(host: &str, port: u16) -> Self {
        let endpoint = Endpoint::Tcp { host: host.to_ascii_lowercase(), port };
        Self { endpoint, tls: false, db: 0, user: None, password: None }
    }

    /// Reads any of the forms at the head of this file.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        Self::parse_with_port(text, DEFAULT_PORT)
    }

    /// The same, with another port where none is given: Sentinels have [`SENTINEL_PORT`].
    pub fn parse_with_port(text: &str, default: u16) -> Result<Self, AddressError> {
        let text = text.trim();
        if text.chars().any(char::is_control) {
            return Err(AddressError::Character);
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("redis", text));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "redis" | "valkey" | "tcp" => false,
            "rediss" | "valkeys" => true,
            "unix" | "redis+unix" | "valkey+unix" | "redis-socket" | "valkey-socket" => {
                return Self::parse_unix(rest);
            }
            _ => return Err(AddressError::Scheme),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // Passwords may hold an `@` or a `/` that somebody did not encode: the last `@` ends them.
        let (userinfo, rest) = match rest.rsplit_once('@') {
            Some((userinfo, rest)) => (Some(userinfo), rest),
            None => (None, rest),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, password) = parse_userinfo(userinfo)?;
        Ok(Self { endpoint: parse_host(host, default)?, tls, db: parse_db(path, query)?, user, password })
    }

    fn parse_unix(rest: &str) -> Result<Self, AddressError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (userinfo, path) = match rest.split_once('@') {
            Some((userinfo, path)) if !userinfo.contains('/') => (Some(userinfo), path),
            _ => (None, rest),
        };
        if path.is_empty() {
            return Err(AddressError::NoHost);
        }
        let (user, password) = parse_userinfo(userinfo)?;
        let endpoint = Endpoint::Unix(decode(path)?.into());
        Ok(Self { endpoint, tls: false, db: parse_db("", query)?, user, password })
    }

    /// The normalised form that says which server, which database and which user this is:
    /// `redis://user@host:6379/3`. Two addresses with the same key are the same.
    /// No password is in it.
    pub fn key(&self) -> String {
        self.key_for(self.user.as_deref())
    }

    /// [`Self::key`] with another user, or none.
    pub fn key_for(&self, user: Option<&str>) -> String {
        let scheme = match (&self.endpoint, self.tls) {
            (Endpoint::Unix(_), _) => "unix",
            (_, true) => "rediss",
            (_, false) => "redis",
        };
        // In a path, these would begin another part of the address, or be cut off at its end.
        const PART: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'@');
        let at = user.filter(|user| !user.is_empty()).map(|user| format!("{user}@")).unwrap_or_default();
        let db = if self.db == 0 { String::new() } else { format!("/{}", self.db) };
        match &self.endpoint {
            Endpoint::Unix(path) => {
                let path = path.to_string_lossy();
                let path = utf8_percent_encode(&path, PART);
                let db = if self.db == 0 { String::new() } else { format!("?db={}", self.db) };
                format!("{scheme}://{at}{path}{db}")
            }
            Endpoint::Tcp { .. } => format!("{scheme}://{at}{}{db}", self.endpoint),
        }
    }

    /// The same without user and password.
    pub fn without_credentials(mut self) -> Self {
        self.user = None;
        self.password = None;
        self
    }
}

/// What people read: scheme, host, port and database, without user or password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key_for(None))
    }
}

/// `host:port`, IPv6 in brackets, or the path.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

fn decode(text: &str) -> Result<String, AddressError> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| AddressError::Character)?;
    Ok(decoded.into_owned())
}

/// A host whose encoded characters, once they are decoded, do not look like another part of an address.
fn decode_host(text: &str) -> Result<String, AddressError> {
    let host = decode(text)?;
    if host.contains(['/', '@', ':', '%', '?', '[', ']']) { Err(AddressError::Character) } else { Ok(host) }
}

/// `user:password`, `:password`, `user`. The peer sends a lone name as a password; we do not.
fn parse_userinfo(text: Option<&str>) -> Result<(Option<String>, Option<Secret>), AddressError> {
    let Some(text) = text else { return Ok((None, None)) };
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (text, None),
    };
    let user = Some(decode(user)?).filter(|user| !user.is_empty());
    let password = password.map(decode).transpose()?.filter(|password| !password.is_empty());
    Ok((user, password.map(Secret::new)))
}

fn parse_host(text: &str, default: u16) -> Result<Endpoint, AddressError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or(AddressError::Brackets)?;
        // `[0:0::1]` and `[::1]` are one server, so one text.
        let host = host.parse::<std::net::Ipv6Addr>().map_err(|_| AddressError::Brackets)?.to_string();
        let port = match port {
            "" => None,
            port => Some(port.strip_prefix(':').ok_or(AddressError::Port)?),
        };
        (host, port)
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(AddressError::Brackets),
            Some((host, port)) => (decode_host(host)?, Some(port)),
            None => (decode_host(text)?, None),
        }
    };
    if host.is_empty() && port.is_none() {
        return Err(AddressError::NoHost);
    }
    if host.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(AddressError::Character);
    }
    // `:6379` means this machine, as it does for every Go program.
    let host = if host.is_empty() { "localhost".into() } else { host.to_ascii_lowercase() };
    let port = match port {
        None | Some("") => default,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(AddressError::Port)?,
    };
    Ok(Endpoint::Tcp { host, port })
}

fn parse_db(path: &str, query: &str) -> Result<u32, AddressError> {
    let from_query = query.split('&').find_map(|part| part.strip_prefix("db="));
    match (path.trim_end_matches('/'), from_query) {
        ("", None) => Ok(0),
        ("", Some(db)) | (db, _) => db.parse().map_err(|_| AddressError::Db),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, AddressError>) {
        let key = Address::parse(text).map(|address| address.key());
        assert_eq!(key, expected.map(str::to_owned), "{text}");
    }

    #[test]
    fn encoded_characters_do_not_become_another_part() {
        check("a%2Fb", Err(AddressError::Character));
        check("a%40b:1", Err(AddressError::Character));
        check("a%3A1", Err(AddressError::Character));
        check("a%25b", Err(AddressError::Character));
        check("unix:///a%3Fdb=3", Ok("unix:///a%3Fdb=3"));
        check("unix:///a?db=3", Ok("unix:///a?db=3"));
        check("unix:///a%2540b", Ok("unix:///a%2540b"));
        check("unix://a@b/c", Ok("unix://a@b/c"));
        check("unix:///a b", Ok("unix:///a%20b"));
    }

    #[test]
    fn every_written_form_has_one_key() {
        for (text, key) in [
            ("redis://localhost:6379", "redis://localhost:6379"),
            ("localhost", "redis://localhost:6379"),
            ("Cache-1:7000", "redis://cache-1:7000"),
            (":7000", "redis://localhost:7000"),
            ("valkey://h/0", "redis://h:6379"),
            ("valkeys://h/", "rediss://h:6379"),
            ("rediss://h:6380/3", "rediss://h:6380/3"),
            ("tcp://h:1", "redis://h:1"),
            ("[::1]:7000", "redis://[::1]:7000"),
            ("redis://[fe80::1]", "redis://[fe80::1]:6379"),
            ("[0:0:0::1]:7000", "redis://[::1]:7000"),
            ("redis://u%40x:p%2Fw@h", "redis://u@x@h:6379"),
            ("redis://:pw@h", "redis://h:6379"),
            ("redis://name@h", "redis://name@h:6379"),
            ("redis://h?db=2", "redis://h:6379/2"),
            ("unix:///run/redis.sock", "unix:///run/redis.sock"),
            ("unix://u:p@/run/redis.sock?db=1", "unix://u@/run/redis.sock?db=1"),
            ("redis-socket:///r%20s", "unix:///r%20s"),
        ] {
            check(text, Ok(key));
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, error) in [
            ("", AddressError::NoHost),
            ("redis://", AddressError::NoHost),
            ("unix://", AddressError::NoHost),
            ("://nope", AddressError::Scheme),
            ("http://h", AddressError::Scheme),
            ("h:6379-", AddressError::Port),
            ("h:0", AddressError::Port),
            ("h:70000", AddressError::Port),
            ("redis://h/x", AddressError::Db),
            ("::1:6379", AddressError::Brackets),
            ("[::1", AddressError::Brackets),
            ("[nope]:1", AddressError::Brackets),
            ("h h", AddressError::Character),
            ("redis://%ff@h", AddressError::Character),
            ("h\n:1", AddressError::Character),
        ] {
            check(text, Err(error));
        }
    }

    #[test]
    fn user_and_password_are_decoded() {
        let address = Address::parse("redis://me%3A:p%40ss:w%2F@h:1").expect("an address");
        assert_eq!(address.user.as_deref(), Some("me:"));
        assert_eq!(address.password.as_ref().map(Secret::expose), Some("p@ss:w/"));
    }

    #[test]
    fn no_password_is_shown() {
        let address = Address::parse("redis://me:hunter2@h:1").expect("an address");
        assert!(!format!("{address} {address:?} {}", address.key()).contains("hunter2"));
    }
}
