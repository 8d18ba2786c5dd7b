//! What the operator may say about targets and time.

use super::Address;
use super::address::Endpoint;
use std::fmt;
use std::net::IpAddr;
use std::path::Component;
use std::time::Duration;

/// Which targets, and in what time.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// `--redis.addr`: what `/metrics` is about; `None` (empty flag): about ourselves only.
    pub target: Option<Address>,
    /// `--scrape.timeout-offset`: how much sooner than the caller's time-out we answer; at most a quarter
    /// of that time-out is taken. 500 ms.
    pub timeout_offset: Duration,
    /// `--scrape.allow`: which targets `/scrape` accepts; empty: all TCP targets, and with `services:` their
    /// members only.
    pub allow: Vec<HostPattern>,
    /// `global.scrape_interval`: how often each member is collected. 15 s.
    pub interval: Duration,
    /// `global.scrape_timeout`: how long a collection of a member may take. 5 s; not more than the interval.
    pub timeout: Duration,
    /// `scrape.concurrency`: collections of members at once. 64.
    pub concurrency: usize,
    /// `scrape.per_host`: collections at once on one host. 4.
    pub per_host: usize,
    /// `scrape.key_scans`.
    pub key_scans: KeyScans,
}

/// When keys of members are looked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeyScans {
    /// How often. 5 min.
    pub interval: Duration,
    /// Whether replicas are asked rather than masters, where there is one. On.
    pub replicas_first: bool,
    /// How many keys a second are looked at on one server. 20,000.
    pub keys_per_second: u32,
}

impl Default for KeyScans {
    fn default() -> Self {
        Self { interval: Duration::from_secs(300), replicas_first: true, keys_per_second: 20_000 }
    }
}

impl Default for Scrape {
    fn default() -> Self {
        Self {
            target: Some(Address::default()),
            timeout_offset: Duration::from_millis(500),
            allow: vec![],
            interval: Duration::from_secs(15),
            timeout: Duration::from_secs(5),
            concurrency: 64,
            per_host: 4,
            key_scans: KeyScans::default(),
        }
    }
}

/// A set of hosts or sockets: `10.0.0.0/8`, `*.redis.prod`, `cache-1:6379`, `unix:///run/*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// A network; matches hosts given as an address.
    Net(ipnet::IpNet),
    /// A host name with `*` for any run of characters, and a port if it matters.
    Name {
        /// The glob.
        glob: String,
        /// Only this port.
        port: Option<u16>,
    },
    /// The path of a unix socket, with `*`.
    Socket(String),
}

impl HostPattern {
    /// Reads one pattern: an address or a network (`10.0.0.7`, `10.0.0.0/8`, `fd00::/8`), a host name with
    /// `*` for any characters but a dot, `*.` at the start for any parts of a name, and a port if it matters
    /// (`*.redis.prod`, `cache-1:6379`,
    /// `[::1]:6379`), or the path of a socket (`unix:///run/*.sock`).
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let expected = "expected a host name with *, host:port, a network such as 10.0.0.0/8 or unix:///path";
        if text.contains('@') {
            // It may be an address with a password in it.
            return Err(format!("has a pattern with a user; {expected}"));
        }
        let fail = |why: &str| Err(format!("has the pattern {text:?}, {why}; {expected}"));
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with(['/', '*']) {
                Ok(Self::Socket(path.into()))
            } else {
                fail("whose path does not start with /")
            };
        }
        if text.contains("://") {
            return fail("which has a scheme");
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Net(ip.to_canonical().into()));
        }
        if text.contains('/') {
            return match text.parse::<ipnet::IpNet>() {
                Ok(net) => Ok(Self::Net(canonical(net))),
                Err(_) => fail("which is no network"),
            };
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((host, port)) if host.parse::<IpAddr>().is_ok() => (host, port),
                _ => return fail("whose brackets hold no address"),
            },
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            port => match port.and_then(|port| port.parse().ok()).filter(|port| *port != 0) {
                Some(port) => Some(port),
                None => return fail("whose port is no number from 1 to 65535"),
            },
        };
        let host = canonical_host(host);
        let known = |c: char| c.is_alphanumeric() || "-_.*:".contains(c);
        match host.parse::<IpAddr>() {
            Ok(ip) if port.is_none() => Ok(Self::Net(ip.into())),
            _ if host.is_empty() => fail("which is empty"),
            _ if !host.chars().all(known) => fail("which has a character that no host name has"),
            _ => Ok(Self::Name { glob: host, port }),
        }
    }

    /// Reads a comma list of patterns; empty items are skipped.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').filter(|item| !item.trim().is_empty()).map(Self::parse).collect()
    }

    /// Whether a server that listens there is in the set. No name is resolved: a host name is in no
    /// network, for who answers for a name can change between the look and the connection.
    pub fn matches(&self, endpoint: &Endpoint) -> bool {
        match (self, endpoint) {
            (Self::Net(net), Endpoint::Tcp { host, .. }) => {
                host.parse::<IpAddr>().is_ok_and(|ip| net.contains(&ip.to_canonical()))
            }
            (Self::Name { glob, port }, Endpoint::Tcp { host, port: given }) => {
                let host = canonical_host(host);
                // `10.0.*` is meant for addresses; `10.0.example.org` belongs to somebody else.
                let of_numbers = glob.contains(|c: char| c.is_ascii_digit())
                    && glob.chars().all(|c| c.is_ascii_digit() || ".*".contains(c));
                port.is_none_or(|port| port == *given)
                    && (if of_numbers { glob_matches(glob, &host) } else { host_matches(glob, &host) })
                    && (!of_numbers || host.parse::<IpAddr>().is_ok())
            }
            (Self::Socket(glob), Endpoint::Unix(path)) => {
                // `/run/../etc` is not below `/run`.
                let climbs = path.components().any(|part| part == Component::ParentDir);
                !climbs && path.to_str().is_some_and(|path| glob_matches(glob, path))
            }
            (Self::Socket(_), Endpoint::Tcp { .. }) | (_, Endpoint::Unix(_)) => false,
        }
    }
}

/// As one writes it in a flag.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) => write!(f, "{net}"),
            Self::Name { glob, port: Some(port) } if glob.contains(':') => write!(f, "[{glob}]:{port}"),
            Self::Name { glob, port: Some(port) } => write!(f, "{glob}:{port}"),
            Self::Name { glob, port: None } => f.write_str(glob),
            Self::Socket(glob) => write!(f, "unix://{glob}"),
        }
    }
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`: addresses are compared in their IPv4 form where they have one.
fn canonical(net: ipnet::IpNet) -> ipnet::IpNet {
    match (net, net.addr().to_canonical()) {
        (ipnet::IpNet::V6(v6), ip @ IpAddr::V4(_)) if v6.prefix_len() >= 96 => {
            ipnet::IpNet::new(ip, v6.prefix_len() - 96).unwrap_or(net)
        }
        _ => net,
    }
}

/// Lower case, no dot at the end, addresses in their one short form.
fn canonical_host(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().to_string(),
        Err(_) => host.strip_suffix('.').unwrap_or(host).to_lowercase(),
    }
}

/// Whether a host is as the glob says. A `*` stays within one part of the name, for `redis-*` is not to mean
/// `redis-x.attacker.example`; only `*` alone and the one in `*.redis.prod` stand for several.
fn host_matches(glob: &str, host: &str) -> bool {
    if glob == "*" {
        return true;
    }
    if let Some(domain) = glob.strip_prefix("*.") {
        let parts = host.match_indices('.').map(|(at, _)| &host[at + 1..]);
        return parts.into_iter().any(|rest| host_matches(domain, rest));
    }
    let (globs, parts) = (glob.split('.'), host.split('.'));
    globs.clone().count() == parts.clone().count()
        && globs.zip(parts).all(|(glob, part)| glob_matches(glob, part))
}

/// Whether the whole text is as the glob says, where `*` stands for any run of characters.
pub fn glob_matches(glob: &str, text: &str) -> bool {
    let Some((head, rest)) = glob.split_once('*') else { return glob == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    // The first place is the best one: it leaves the most for what follows.
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_the_hosts_that_they_mean() {
        fn check(pattern: &str, yes: &[&str], no: &[&str]) {
            let parsed = HostPattern::parse(pattern).expect(pattern);
            assert_eq!(HostPattern::parse(&parsed.to_string()), Ok(parsed.clone()), "{pattern}");
            for (addresses, expected) in [(yes, true), (no, false)] {
                for address in addresses {
                    let endpoint = Address::parse(address).expect(address).endpoint;
                    assert_eq!(parsed.matches(&endpoint), expected, "{pattern} and {address}");
                }
            }
        }
        check(
            "10.0.0.0/8",
            &["10.1.2.3", "rediss://10.0.0.1:1/3", "[::ffff:10.1.2.3]"],
            &["11.0.0.1", "10.evil.example", "h", "0x0a.1.2.3", "[::10.1.2.3]", "unix:///10.0.0.1"],
        );
        check("::ffff:10.0.0.0/104", &["10.1.2.3", "[::ffff:10.1.2.3]"], &["11.0.0.1", "[fd00::1]"]);
        check("fd00::/8", &["[fd00::1]", "[FD12::]"], &["[fe00::1]", "10.0.0.1"]);
        check("0.0.0.0/0", &["1.2.3.4"], &["[::1]", "h"]);
        check("10.0.0.7", &["10.0.0.7:1", "[::ffff:10.0.0.7]"], &["10.0.0.8", "10.0.0.70"]);
        check("10.0.0.7:6379", &["10.0.0.7", "[::ffff:10.0.0.7]:6379"], &["10.0.0.7:6380", "10.0.0.70"]);
        check("[::1]:7000", &["[0:0::1]:7000"], &["[::1]:7001", "[::2]:7000"]);
        check("[::1]", &["[::1]:7000"], &["[::2]:7000"]);
        check("Cache-1", &["cache-1", "CACHE-1:7000", "cache-1."], &["cache-11", "xcache-1"]);
        check("cache-1:6379", &["cache-1", "valkey://cache-1/2"], &["cache-1:6380"]);
        check("*.redis.prod", &["a.redis.prod", "a.b.redis.prod:1"], &["redis.prod", "a.redis.prod.evil"]);
        check("*", &["a", "10.0.0.1", "[::1]:1"], &["unix:///run/a"]);
        check("redis-*", &["redis-1", "redis-1:7"], &["redis-1.evil.example", "redis"]);
        check("r-*.prod", &["r-1.prod"], &["r-1.x.prod", "r-1.prod.evil"]);
        check("a*b*c*", &["abc", "a1b2c3", "abbc"], &["acb", "ab", "xabc"]);
        check("aa*aa", &["aaaa", "aabaa"], &["aaa"]);
        check("10.0.*", &["10.0.3.4"], &["10.0.evil.example", "10.1.0.0"]);
        check("unix:///run/*", &["unix:///run/a.sock", "unix:///run/x/y"], &["unix:///run/../a", "h"]);
        check("unix:/run/*.sock", &["unix:///run/a.sock"], &["unix:///run/a.sock.x", "unix:///etc/a.sock"]);
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        fn check(text: &str, why: &str) {
            let error = HostPattern::parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
        check("", "empty");
        check("redis://h:1", "scheme");
        check("me@h", "user");
        check("10.0.0.0/33", "no network");
        check("10.0.0.0/8:6379", "no network");
        check("h:", "port");
        check("h:x", "port");
        check("h:0", "port");
        check("[x]:1", "brackets");
        check("[::1", "brackets");
        check("[::1]1", "port");
        check("fe80::x", "port");
        check("h?", "character");
        check("h h", "character");
        check("unix:run/a", "does not start with /");
        assert_eq!(HostPattern::parse_list(" a, ,b:1,").map(|list| list.len()), Ok(2));
        assert!(HostPattern::parse_list("a,b:x").is_err());
    }
}
