//! The URL of a receiver: `http://` and `https://`, in the parts that a request needs.
//!
//! What a newcomer would get wrong: a URL may hold secrets. A user with a password in front of the host is refused,
//! since they would be seen wherever the URL is; the query is kept, and neither `Display` nor `Debug` shows it.

use std::fmt;
use std::net::Ipv6Addr;

/// The parts of a URL.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Url {
    /// Whether it is `https`.
    pub secure: bool,
    /// Name or address, in lower case; an IPv6 address without brackets.
    pub host: String,
    /// The port; 80 or 443 where none is said.
    pub port: u16,
    /// Path and query, which begin with `/`. The query may hold a secret: `Display` of the URL leaves it out.
    pub path: String,
}

/// Why a text is no URL. Shows no part of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It begins otherwise than with `http://` or `https://`.
    #[error("it begins with neither http:// nor https://")]
    Scheme,
    /// There is a user, or a password, in front of the host.
    #[error("it holds a user or a password")]
    Credentials,
    /// There is no host, or none that can be.
    #[error("there is no host, or it has a character that no host has")]
    Host,
    /// The port is no number from 1 to 65535.
    #[error("the port is no number from 1 to 65535")]
    Port,
    /// An IPv6 address is not in brackets, or brackets hold none.
    #[error("an IPv6 address must stand in brackets: http://[::1]:9090/")]
    Brackets,
    /// A character that a URL can only have encoded, such as a blank.
    #[error("there is a character that must be encoded in a URL")]
    Character,
    /// `#`.
    #[error("it has a fragment (#)")]
    Fragment,
}

impl Url {
    /// Reads a URL. <https://www.rfc-editor.org/rfc/rfc9110#section-4.2>
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(UrlError::Scheme),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError::Credentials);
        }
        if rest.contains('#') {
            return Err(UrlError::Fragment);
        }
        let plain = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b);
        if !path.bytes().all(plain) {
            return Err(UrlError::Character);
        }
        let (host, port) = host_and_port(authority)?;
        let path = if path.starts_with('/') { path.into() } else { format!("/{path}") };
        Ok(Self { secure, host, port: port.unwrap_or(standard_port(secure)), path })
    }

    /// Host and port as the header `Host` has them: brackets around an IPv6 address, no port that goes without
    /// saying.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == standard_port(self.secure) { host } else { format!("{host}:{}", self.port) }
    }

    /// The path without the query.
    pub fn path_alone(&self) -> &str {
        self.path.split_once('?').map_or(&self.path, |(path, _)| path)
    }

    /// Whether what is sent there stays on this machine.
    pub fn is_local(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        address.map_or(self.host == "localhost", |address| address.is_loopback())
    }
}

/// The URL without its query.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path_alone())
    }
}

/// The same, and whether there is a query.
impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = if self.path.contains('?') { "?***" } else { "" };
        write!(f, "{self}{query}")
    }
}

fn standard_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), UrlError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or(UrlError::Brackets)?;
        let host = host.parse::<Ipv6Addr>().map_err(|_| UrlError::Brackets)?.to_string();
        let port = match port {
            "" => None,
            port => Some(port.strip_prefix(':').ok_or(UrlError::Port)?),
        };
        (host, port)
    } else {
        let (host, port) = match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(UrlError::Brackets),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        const LONGEST: usize = 253;
        let known = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if host.is_empty() || host.len() > LONGEST || !host.bytes().all(known) {
            return Err(UrlError::Host);
        }
        (host.to_ascii_lowercase(), port)
    };
    let port = port.map(|port| match port.parse::<u16>() {
        Ok(number) if number > 0 && port.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
        _ => Err(UrlError::Port),
    });
    Ok((host, port.transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_comes_apart_into_what_a_request_needs() {
        fn check(text: &str, secure: bool, host: &str, port: u16, path: &str, shown: &str) {
            let url = Url::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let found = (url.secure, url.host.as_str(), url.port, url.path.as_str());
            assert_eq!(found, (secure, host, port, path), "{text}");
            assert_eq!(url.to_string(), shown, "{text}");
            assert!(!format!("{url:?} {url}").contains("hunter"), "{url:?}");
        }
        check("http://h", false, "h", 80, "/", "http://h/");
        check(
            "HTTPS://Mimir.Example/api/v1/push",
            true,
            "mimir.example",
            443,
            "/api/v1/push",
            "https://mimir.example/api/v1/push",
        );
        check("http://h:9090/api/v1/write", false, "h", 9090, "/api/v1/write", "http://h:9090/api/v1/write");
        check("http://h:443/", false, "h", 443, "/", "http://h:443/");
        check("https://h:443/", true, "h", 443, "/", "https://h/");
        check("http://[::1]:1/", false, "::1", 1, "/", "http://[::1]:1/");
        check("https://[0:0::1]", true, "::1", 443, "/", "https://[::1]/");
        check(
            "http://10.0.0.1:65535?key=hunter2",
            false,
            "10.0.0.1",
            65535,
            "/?key=hunter2",
            "http://10.0.0.1:65535/",
        );
        check("http://h/w?key=hunter2&x=/?y", false, "h", 80, "/w?key=hunter2&x=/?y", "http://h/w");
        check("http://h/a@b;c=%20,d", false, "h", 80, "/a@b;c=%20,d", "http://h/a@b;c=%20,d");
        check(
            "http://a_b.svc.cluster.local./",
            false,
            "a_b.svc.cluster.local.",
            80,
            "/",
            "http://a_b.svc.cluster.local./",
        );
    }

    #[test]
    fn what_is_no_url_says_why_and_shows_nothing() {
        fn check(text: &str, expected: UrlError) {
            let error = Url::parse(text).expect_err(text);
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("hunter"), "{error}");
        }
        for text in [
            "",
            "h",
            "h:9090",
            "/path",
            "collector:4317",
            "ftp://h",
            "unix:///s",
            "grpc://h",
            "://h",
            " http://h",
        ] {
            check(text, UrlError::Scheme);
        }
        for text in ["http://u:hunter2@h/", "https://hunter2@h", "http://@h", "http://u:p@[::1]:1/?x"] {
            check(text, UrlError::Credentials);
        }
        for text in [
            "http://",
            "http:///x",
            "http://:80",
            "http://?x",
            "http://a b/",
            "http://ä/",
            "http://h%41",
            "http://h\n",
            "http://a,b",
        ] {
            check(text, UrlError::Host);
        }
        check(&format!("http://{}", "h".repeat(254)), UrlError::Host);
        for text in [
            "http://h:",
            "http://h:0",
            "http://h:65536",
            "http://h:+1",
            "http://u:hunter2/x@h",
            "http://[::1]x",
            "http://[::1]:",
        ] {
            check(text, UrlError::Port);
        }
        for text in ["http://::1/", "http://[::1/", "http://[h]/", "http://[fe80::1%eth0]/", "http://[]"] {
            check(text, UrlError::Brackets);
        }
        for text in [
            "http://h/a b",
            "http://h/\t",
            "http://h/ä",
            "http://h/\0",
            "http://h/?a=\"",
            "http://h/{x}",
            "http://h/\u{7f}",
        ] {
            check(text, UrlError::Character);
        }
        check("http://h/#hunter2", UrlError::Fragment);
        check("http://h#x", UrlError::Fragment);
    }

    #[test]
    fn the_own_machine_is_known_by_its_addresses() {
        fn check(text: &str, expected: bool) {
            assert_eq!(Url::parse(text).map(|url| url.is_local()), Ok(expected), "{text}");
        }
        for text in ["http://localhost", "http://127.3.2.1", "http://[::1]:1"] {
            check(text, true);
        }
        for text in ["http://h", "http://10.0.0.1", "http://localhost.example", "http://[fe80::1]"] {
            check(text, false);
        }
    }
}
