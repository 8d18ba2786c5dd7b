//! Announced addresses into reachable ones.
//!
//! Servers name each other by the addresses by which *they* reach each other: those of a container network,
//! behind NAT. The operator says how we do: `rewrite: [{from: 172.17.0.0/16, to: host.docker.internal}]`.
//!
//! What a newcomer would get wrong: only what is announced is rewritten. An address that the operator wrote
//! is right as it stands.

use crate::config::Address;
use crate::config::address::Endpoint;
use crate::config::discover::Service;
use std::net::IpAddr;

/// A host name has at most so many characters.
const LONGEST_HOST: usize = 255;

/// The address of a server as another one tells it; `None` for what is none, such as the `?` of a Sentinel
/// that does not know.
pub fn announced(host: &str, port: &str) -> Option<Address> {
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = host.parse::<IpAddr>() {
        // One text for each address, else one server would be two.
        return Some(Address::tcp(&ip.to_string(), port));
    }
    let known = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name = !host.is_empty() && host.len() <= LONGEST_HOST && host.chars().all(known);
    is_name.then(|| Address::tcp(host, port))
}

/// By which address we reach the server that is announced under this one: as the first rule says that
/// matches, else the same. Sockets stay.
pub fn rewrite(service: &Service, announced: Address) -> Address {
    let Endpoint::Tcp { port, .. } = announced.endpoint else { return announced };
    match service.rewrite.iter().find(|rule| rule.from.matches(&announced.endpoint)) {
        Some(rule) => {
            let host = rule.host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
            Address { endpoint: Endpoint::Tcp { host, port: rule.port.unwrap_or(port) }, ..announced }
        }
        None => announced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::discover::{Rewrite, Source};
    use crate::config::scrape::HostPattern;

    #[test]
    fn announced_addresses_are_read_as_servers_write_them() {
        fn check(host: &str, port: &str, expected: Option<&str>) {
            let found = announced(host, port).map(|address| address.endpoint.to_string());
            assert_eq!(found.as_deref(), expected, "{host} {port}");
        }
        check("10.0.0.1", "6379", Some("10.0.0.1:6379"));
        check("Cache-1.prod", "6379", Some("cache-1.prod:6379"));
        check("0:0::1", "6379", Some("[::1]:6379"));
        check("[fd00::1]", "6379", Some("[fd00::1]:6379"));
        check("?", "6379", None);
        check("", "6379", None);
        check("10.0.0.1", "0", None);
        check("10.0.0.1", "x", None);
        check("a b", "1", None);
        check("me@h", "1", None);
        check(&"x".repeat(256), "1", None);
    }

    #[test]
    fn the_first_rule_that_matches_says_how_a_server_is_reached() {
        let rule = |from: &str, host: &str, port| Rewrite {
            from: HostPattern::parse(from).expect(from),
            host: host.into(),
            port,
        };
        let service = Service {
            rewrite: vec![
                rule("172.17.0.9:6379", "edge", Some(7009)),
                rule("172.17.0.0/16", "Host.Docker.Internal", None),
                rule("fd00::/8", "[::1]", Some(7000)),
                rule("redis-*", "10.0.0.1", None),
            ],
            ..Service::new("s", Source::Instances(vec![]))
        };
        let check = |from: &str, expected: &str| {
            let address = rewrite(&service, Address::parse(from).expect(from));
            assert_eq!(address.to_string(), expected, "{from}");
        };
        check("172.17.0.9:6379", "redis://edge:7009");
        check("172.17.0.9:6380", "redis://host.docker.internal:6380");
        check("rediss://172.17.0.3", "rediss://host.docker.internal:6379");
        check("[fd00::7]:1", "redis://[::1]:7000");
        check("redis-0:6379", "redis://10.0.0.1:6379");
        check("10.0.0.9", "redis://10.0.0.9:6379");
        check("unix:///run/s", "unix:///run/s");
    }
}
