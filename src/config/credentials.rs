//! Which user and password a server gets, and the password file.
//!
//! The order: user info in `--redis.addr`, then the password file, then `--redis.password`. The peer gives
//! the last to whatever host a `/scrape` request names; here a target of a request gets it only where the
//! operator named that server. What a request says of a password is never used.
//!
//! What a newcomer would get wrong: `redis://h` and `rediss://h` are not the same here. Whoever may ask for
//! a scrape must not be able to have a password sent in the clear that the flags send by TLS.

use super::address::Endpoint;
use super::connect::Tls;
use super::scrape::HostPattern;
use super::{Address, Connect, Secret, validate};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

/// What `AUTH` or `HELLO` sends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The ACL user; `None`: the default user.
    pub user: Option<String>,
    /// Never empty.
    pub password: Secret,
}

/// Who named an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The operator: the target of `--redis.addr`.
    Flag,
    /// Whoever sent a `/scrape` request.
    Request,
}

/// A profile of `credentials:`: who we are to the servers that it matches. The first that matches counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Its name, for messages.
    pub name: String,
    /// `match.services`: names of services, all of whose members and Sentinels it is for: whoever these
    /// announce, unless `hosts` bounds it.
    pub services: HashSet<String>,
    /// `match.hosts`: servers that it is for. Where both are given, both must match.
    pub hosts: Vec<HostPattern>,
    /// For data nodes; without a password nothing is sent.
    pub data: Option<Credentials>,
    /// For Sentinels: they have users of their own.
    pub sentinel: Option<Credentials>,
    /// `tls:`: TLS towards these servers; `None`: as the address says, with the settings of the flags.
    pub tls: Option<Tls>,
    /// `sentinel_tls:`: TLS towards Sentinels.
    pub sentinel_tls: SentinelTls,
}

/// How Sentinels are reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum SentinelTls {
    /// As data nodes: a password must not go in the clear because somebody thought of these alone.
    #[default]
    LikeData,
    /// As the address says, with the settings of the flags.
    AsAddressed,
    /// By TLS.
    By(Tls),
}

/// What a server is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It holds data.
    Data,
    /// It is a Sentinel.
    Sentinel,
}

/// How to reach a member: who we are to it, whether by TLS, and by which.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// What to authenticate with; `None`: not at all.
    pub credentials: Option<Credentials>,
    /// Whether by TLS.
    pub by_tls: bool,
    /// The settings of TLS.
    pub tls: Tls,
}

impl Profile {
    /// Whether the profile is for this server of this service.
    pub fn matches(&self, service: &str, address: &Address) -> bool {
        let by_service = self.services.contains(service);
        let by_host = self.hosts.iter().any(|pattern| pattern.matches(&address.endpoint));
        match (self.services.is_empty(), self.hosts.is_empty()) {
            (true, true) => false,
            (false, true) => by_service,
            (true, false) => by_host,
            (false, false) => by_service && by_host,
        }
    }
}

impl Connect {
    /// How to reach a server of a service: what its own address says, else what the first profile that
    /// matches says. A server that matches none gets no password.
    pub fn access(&self, service: &str, address: &Address, side: Side) -> Access {
        let profile = self.profiles.iter().find(|profile| profile.matches(service, address));
        let own = address.password.clone().filter(|password| !password.is_empty());
        let own = own.map(|password| Credentials { user: address.user.clone(), password });
        let of_profile = profile.and_then(|profile| match side {
            Side::Data => profile.data.clone(),
            Side::Sentinel => profile.sentinel.clone(),
        });
        let tls = profile.and_then(|profile| match (side, &profile.sentinel_tls) {
            (Side::Data, _) | (Side::Sentinel, SentinelTls::LikeData) => profile.tls.clone(),
            (Side::Sentinel, SentinelTls::AsAddressed) => None,
            (Side::Sentinel, SentinelTls::By(tls)) => Some(tls.clone()),
        });
        Access {
            credentials: own.or(of_profile),
            by_tls: address.tls || tls.is_some(),
            tls: tls.unwrap_or_else(|| self.tls.clone()),
        }
    }

    /// What to authenticate with; `None`: not at all. The nodes of a cluster get what the address gets by
    /// which they were found.
    pub fn credentials(&self, address: &Address, origin: Origin) -> Option<Credentials> {
        let flag_target = match origin {
            Origin::Flag => Some(address),
            Origin::Request => self
                .flag_target
                .as_ref()
                .filter(|flag| flag.endpoint == address.endpoint && flag.tls == address.tls),
        };
        if let Some(flag) = flag_target
            && (address.user.is_none() || address.user == flag.user)
            && let Some(password) = flag.password.clone().filter(|password| !password.is_empty())
        {
            return Some(Credentials { user: flag.user.clone(), password });
        }
        let own_user = Some(self.user.as_str()).filter(|user| !user.is_empty());
        let user = address.user.as_deref().or(own_user);
        let filed = self.filed_password(address, user);
        let password = filed.filter(|password| !password.is_empty()).or_else(|| {
            let known =
                flag_target.is_some() || filed.is_some() || self.password_for_all || self.trusts(address);
            Some(&self.password).filter(|password| known && !password.is_empty())
        })?;
        Some(Credentials { user: user.map(Into::into), password: password.clone() })
    }

    /// Whether `--scrape.credentials-for` names the server. Where our own target is reached by TLS, nobody may
    /// have the password sent in the clear.
    fn trusts(&self, address: &Address) -> bool {
        let in_the_clear = !address.tls && matches!(address.endpoint, Endpoint::Tcp { .. });
        let expects_tls = self.flag_target.as_ref().is_some_and(|flag| flag.tls);
        !(in_the_clear && expects_tls)
            && self.trusted.iter().any(|pattern| pattern.matches(&address.endpoint))
    }

    /// The entry for this server, the closest first: with the user and the database, then without one,
    /// without the other, without both. An empty one gives way to any that is not.
    fn filed_password(&self, address: &Address, user: Option<&str>) -> Option<&Secret> {
        if self.passwords.is_empty() {
            return None;
        }
        let any_db = Address { db: 0, ..address.clone() };
        let keys = [address.key_for(user), any_db.key_for(user), address.key_for(None), any_db.key_for(None)];
        let mut entries = keys.iter().filter_map(|key| self.passwords.get(key));
        let first = entries.next()?;
        Some(if first.is_empty() { entries.find(|entry| !entry.is_empty()).unwrap_or(first) } else { first })
    }
}

/// Reads a password file, at start and at every reload. The error ends a sentence that begins with the path.
pub fn read_password_file(path: &Path) -> Result<HashMap<String, Secret>, String> {
    let text = validate::read(path)?;
    parse_password_file(&text).map_err(|error| format!("is no password file: {error}"))
}

/// Reads the text of a password file: a JSON object from addresses to passwords, in any written form of
/// the address. The error shows no password, so nothing of the JSON reader's own words.
pub fn parse_password_file(text: &str) -> Result<HashMap<String, Secret>, String> {
    let entries: Option<BTreeMap<String, Option<String>>> = serde_json::from_str(text).map_err(|error| {
        let place = format!("at line {} column {}", error.line(), error.column());
        match error.classify() {
            serde_json::error::Category::Eof => "unexpected end of JSON input".into(),
            serde_json::error::Category::Data => {
                format!("expected a JSON object of address to password, both strings, {place}")
            }
            _ => format!("the JSON is malformed {place}"),
        }
    })?;
    let mut passwords: HashMap<String, (String, Secret)> = HashMap::new();
    for (written, password) in entries.unwrap_or_default() {
        let shown = without_userinfo_secret(&written);
        let address = Address::parse(&written).map_err(|error| format!("the entry {shown:?}: {error}"))?;
        let password = Secret::new(password.unwrap_or_default());
        match passwords.get(&address.key()) {
            Some((_, before)) if password.is_empty() || *before == password => continue,
            Some((other, before)) if !before.is_empty() => {
                return Err(format!(
                    "the entries {other:?} and {shown:?} are the same server with two passwords"
                ));
            }
            _ => passwords.insert(address.key(), (shown, password)),
        };
    }
    Ok(passwords.into_iter().map(|(key, (_, password))| (key, password)).collect())
}

/// An address as it was written, but for what may be a password.
fn without_userinfo_secret(written: &str) -> String {
    let Some((before, host)) = written.rsplit_once('@') else { return written.into() };
    let (scheme, userinfo) = before.split_once("://").unwrap_or(("", before));
    let slashes = if scheme.is_empty() { "" } else { "://" };
    match userinfo.split_once(':') {
        Some((user, _)) => format!("{scheme}{slashes}{user}:***@{host}"),
        None => written.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scrape::HostPattern;

    fn address(text: &str) -> Address {
        Address::parse(text).expect(text)
    }

    /// Flags in the order: `--redis.addr`, `--redis.user`, `--redis.password`, file, credentials-for.
    fn connect(addr: &str, user: &str, password: &str, file: &str, trusted: &str) -> Connect {
        let trusted = HostPattern::parse_list(trusted).expect("patterns");
        Connect {
            flag_target: (!addr.is_empty()).then(|| address(addr)),
            user: user.into(),
            password: Secret::new(password),
            passwords: parse_password_file(file).expect("a password file"),
            password_for_all: addr.is_empty() && !password.is_empty() && trusted.is_empty(),
            trusted,
            ..Connect::default()
        }
    }

    fn written(credentials: Option<Credentials>) -> String {
        credentials.map_or("-".into(), |c| format!("{}:{}", c.user.unwrap_or_default(), c.password.expose()))
    }

    #[test]
    fn the_flag_target_gets_the_closest_password() {
        fn check(addr: &str, user: &str, password: &str, file: &str, expected: &str) {
            let connect = connect(addr, user, password, file, "");
            let credentials = connect.credentials(&address(addr), Origin::Flag);
            assert_eq!(written(credentials), expected, "{addr} {user} {password} {file}");
        }
        check("h", "", "", "{}", "-");
        check("h", "me", "", "{}", "-");
        check("h", "", "pw", "{}", ":pw");
        check("h", "me", "pw", "{}", "me:pw");
        check("you@h", "me", "pw", "{}", "you:pw");
        check("redis://you:own@h", "me", "pw", r#"{"h": "filed"}"#, "you:own");
        check("redis://:own@h", "me", "pw", r#"{"h": "filed"}"#, ":own");
        // The traps of the exact text: scheme, port, slash, database and user need not be the same.
        for key in ["h", "h:6379", "redis://h:6379/", "valkey://h/0", "tcp://H", "redis://:x@h"] {
            check("redis://h:6379", "", "pw", &format!(r#"{{"{key}": "filed"}}"#), ":filed");
        }
        check("h/3", "", "pw", r#"{"h": "filed"}"#, ":filed");
        check("h/3", "", "pw", r#"{"h": "all", "h/3": "three"}"#, ":three");
        check("h", "", "pw", r#"{"h/3": "three"}"#, ":pw");
        check("h", "me", "", r#"{"me@h": "mine", "h": "all"}"#, "me:mine");
        check("h/3", "me", "", r#"{"me@h": "mine", "h/3": "three"}"#, "me:mine");
        check("h", "me", "", r#"{"h": "all"}"#, "me:all");
        check("h", "me", "pw", r#"{"you@h": "yours"}"#, "me:pw");
        check("h", "", "pw", r#"{"h": ""}"#, ":pw");
        check("h", "", "", r#"{"h": ""}"#, "-");
        check("rediss://h", "", "pw", r#"{"redis://h": "clear"}"#, ":pw");
        check("unix:///run/r.sock", "", "", r#"{"unix:///run/r.sock": "s"}"#, ":s");
    }

    #[test]
    fn a_requested_target_gets_a_password_only_where_the_operator_named_it() {
        fn check(connect: &Connect, target: &str, expected: &str) {
            let credentials = connect.credentials(&address(target), Origin::Request);
            assert_eq!(written(credentials), expected, "{target}");
        }
        let strict = connect("h", "me", "pw", r#"{"filed": "f", "empty": "", "you@acl": "y"}"#, "10.0.0.0/8");
        check(&strict, "evil", "-");
        check(&strict, "evil:6379", "-");
        check(&strict, "redis://me:guess@evil", "-");
        check(&strict, "h", "me:pw");
        check(&strict, "redis://h:6379/3", "me:pw");
        check(&strict, "redis://you:guess@h", "you:pw");
        check(&strict, "rediss://h", "-");
        check(&strict, "h:6380", "-");
        check(&strict, "filed", "me:f");
        check(&strict, "redis://you@filed", "you:f");
        check(&strict, "empty", "me:pw");
        check(&strict, "redis://you@acl", "you:y");
        check(&strict, "acl", "-");
        check(&strict, "10.1.2.3", "me:pw");
        check(&strict, "11.1.2.3", "-");

        let own = connect("rediss://a:b@h:1", "", "pw", "{}", "");
        check(&own, "rediss://h:1", "a:b");
        check(&own, "rediss://a:guess@h:1", "a:b");
        check(&own, "rediss://c@h:1", "c:pw");
        check(&own, "redis://h:1", "-");

        let multi = connect("", "me", "pw", r#"{"filed": "f"}"#, "");
        check(&multi, "anything", "me:pw");
        check(&multi, "redis://you:guess@anything", "you:pw");
        check(&multi, "filed", "me:f");
        let narrowed = connect("", "", "pw", "{}", "*.prod");
        check(&narrowed, "a.prod", ":pw");
        check(&narrowed, "anything", "-");
    }

    #[test]
    fn a_pattern_sends_no_password_in_the_clear_where_our_own_target_has_tls() {
        let check = |own: &str, target: &str, expected: bool| {
            let connect = Connect {
                password: Secret::new("pw"),
                flag_target: Some(Address::parse(own).expect(own)),
                trusted: HostPattern::parse_list("*").expect("a pattern"),
                ..Connect::default()
            };
            let target = Address::parse(target).expect(target);
            assert_eq!(connect.credentials(&target, Origin::Request).is_some(), expected, "{own} {target}");
        };
        check("redis://own", "redis://other", true);
        check("rediss://own", "rediss://other", true);
        check("rediss://own", "redis://other", false);
    }

    #[test]
    fn whoever_a_service_announces_gets_its_password_unless_hosts_bound_it() {
        fn check(services: &[&str], hosts: &str, service: &str, announced: &str, expected: &str) {
            let credentials = |password| Some(Credentials { user: None, password: Secret::new(password) });
            let profile = Profile {
                services: services.iter().map(|name| (*name).into()).collect(),
                hosts: HostPattern::parse_list(hosts).expect(hosts),
                data: credentials("pw"),
                sentinel: credentials("spw"),
                ..Profile::default()
            };
            let connect = Connect { profiles: vec![profile], ..Connect::default() };
            for (side, expected) in
                [(Side::Data, expected.into()), (Side::Sentinel, expected.replace("pw", "spw"))]
            {
                let found = connect.access(service, &address(announced), side).credentials;
                assert_eq!(written(found), expected, "{services:?} {hosts} {announced} {side:?}");
            }
        }
        check(&["orders"], "", "orders", "10.0.0.1", ":pw");
        check(&["orders"], "", "orders", "evil", ":pw");
        check(&["orders"], "", "carts", "10.0.0.1", "-");
        check(&["orders"], "10.0.0.0/8", "orders", "10.0.0.1", ":pw");
        check(&["orders"], "10.0.0.0/8", "orders", "evil", "-");
        check(&["orders"], "10.0.0.0/8", "carts", "10.0.0.1", "-");
        check(&[], "10.0.0.0/8", "carts", "10.0.0.1", ":pw");
        check(&[], "", "orders", "10.0.0.1", "-");
    }

    #[test]
    fn sentinels_are_reached_like_data_nodes_unless_a_profile_says_otherwise() {
        let named = |name: &str| Tls { server_name: Some(name.into()), ..Tls::default() };
        let check = |tls: Option<Tls>, sentinel_tls: SentinelTls, address: &str, expected: [&str; 2]| {
            let profile = Profile { services: ["s".into()].into(), tls, sentinel_tls, ..Profile::default() };
            let connect = Connect { profiles: vec![profile], tls: named("flags"), ..Connect::default() };
            let found = [Side::Data, Side::Sentinel].map(|side| {
                let Access { by_tls, tls, .. } =
                    connect.access("s", &Address::parse(address).expect(address), side);
                if by_tls { tls.server_name.unwrap_or_default() } else { "-".into() }
            });
            assert_eq!(found, expected, "{address}");
        };
        let sentinel = || SentinelTls::By(named("sentinel"));
        for (address, without) in [("h", "-"), ("rediss://h", "flags")] {
            check(None, SentinelTls::LikeData, address, [without, without]);
            check(Some(named("data")), SentinelTls::LikeData, address, ["data", "data"]);
            check(Some(named("data")), SentinelTls::AsAddressed, address, ["data", without]);
            check(Some(named("data")), sentinel(), address, ["data", "sentinel"]);
            check(None, sentinel(), address, [without, "sentinel"]);
            check(None, SentinelTls::AsAddressed, address, [without, without]);
        }
    }

    #[test]
    fn a_password_file_is_an_object_of_strings() {
        fn check(text: &str, expected: Result<usize, &str>) {
            match (parse_password_file(text), expected) {
                (Ok(passwords), Ok(len)) => assert_eq!(passwords.len(), len, "{text}"),
                (Err(error), Err(why)) => {
                    assert!(error.contains(why), "{text}: {error}");
                    assert!(!error.contains("hunter"), "{text}: {error}");
                }
                (result, _) => panic!("{text}: {:?}", result.map(|passwords| passwords.len())),
            }
        }
        check("{}", Ok(0));
        check("null", Ok(0));
        check(r#"{"redis://h": "a", "rediss://h": "b", "redis://u@h": "c", "h/1": null}"#, Ok(4));
        check(r#"{"h": "same", "redis://h:6379": "same", "valkey://h/0": ""}"#, Ok(1));
        check(r#"{"h": "", "redis://h:6379": "hunter2"}"#, Ok(1));
        check(r#"{"h": "hunter2", "redis://h:6379": "hunter3"}"#, Err(r#""h" and "redis://h:6379""#));
        check(r#"{"redis://u:hunter2@h:x": "a"}"#, Err(r#""redis://u:***@h:x": the port"#));
        check(r#"{"h": "hunter"#, Err("unexpected end of JSON input"));
        check("", Err("unexpected end of JSON input"));
        check(r#"{"h": hunter2}"#, Err("malformed at line 1"));
        check(r#"{"h": ["hunter2"]}"#, Err("both strings, at line 1"));
        check(r#""hunter2""#, Err("expected a JSON object"));
        check("[]", Err("expected a JSON object"));
        check(r#"{"http://h": "hunter2"}"#, Err("http://h"));
    }
}
