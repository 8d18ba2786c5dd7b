//! What a configuration comes to, as one number: what copies of this exporter that share services must have alike. So whether two
//! do the same can be seen without reading either. It is `config_hash` of peers, `hash` in `/api/v1/config` and the label of
//! `redvigil_config_info`.
//!
//! It is the meaning that is hashed, and not the text: what is said and what holds anyway are the same, wherever it was said,
//! in whatever order, and be it said for the moment only.
//!
//! - *In it*: what is collected, from whom and how, under which labels, where it is pushed to, and how work is shared.
//! - *Not in it*: what each copy has of its own: how it is reached and where it listens, zone and weight, where it keeps state, its
//!   log, TLS and users of its server, its way to the registry. And nothing secret, for that could be guessed; but whether there
//!   is a secret is.
//!
//! What a newcomer would get wrong: two versions of this program may differ in the hash alone, so it is compared within one.

use super::collect::Collect;
use super::connect::Connect;
use super::deliver::Deliver;
use super::discover::{Discover, Service};
use super::peers::{EtcdRegistry, Peers, Registry};
use super::scrape::Scrape;
use super::serve::Serve;
use super::{Config, credentials};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Debug, Write as _};
use std::sync::{Arc, OnceLock};
use xxhash_rust::xxh3::Xxh3;

impl Config {
    /// The hash. The first time costs two microseconds for each service; who makes a configuration to be published asks first.
    pub fn hash(&self) -> u64 {
        *self.known_hash.0.get_or_init(|| self.reckon())
    }

    fn reckon(&self) -> u64 {
        // Each part is named, so that a new one is not forgotten.
        let Config {
            resilience,
            connect,
            discover,
            peers,
            collect,
            scrape,
            deliver,
            serve,
            telemetry: _,
            origin: _,
            remote: _,
            known_hash: _,
        } = self;
        let mut hash = Digits(Xxh3::new());
        hash.put(resilience);
        self::connect(connect, &mut hash);
        self::discover(discover, &mut hash);
        self::peers(peers, &mut hash);
        hash.put(collect);
        let Scrape { target, timeout_offset, allow, interval, timeout, concurrency, per_host, key_scans } =
            scrape;
        hash.put(&(target, timeout_offset, allow, interval, timeout, concurrency, per_host, key_scans));
        let Deliver { storage: _, job, outputs } = deliver;
        let outputs: BTreeMap<_, _> = outputs.iter().map(|output| (&output.name, output)).collect();
        hash.put(&(job, outputs));
        self::serve(serve, &mut hash);
        hash.0.digest()
    }
}

/// What the hash of a configuration is, once it was asked for.
#[derive(Debug, Default)]
pub struct Known(OnceLock<u64>);

impl Clone for Known {
    fn clone(&self) -> Self {
        Self::default()
    }
}

fn connect(connect: &Connect, hash: &mut Digits) {
    // A map has no order of its own.
    let passwords: BTreeSet<_> = connect.passwords.keys().collect();
    let Connect {
        timeout,
        set_client_name,
        ping,
        tls,
        user,
        password,
        password_file,
        passwords: _,
        trusted,
        flag_target,
        password_for_all,
        profiles,
    } = connect;
    hash.put(&(timeout, set_client_name, ping, tls, user, !password.is_empty(), password_file, passwords));
    hash.put(&(trusted, flag_target, password_for_all));
    for credentials::Profile { name: _, services, hosts, data, sentinel, tls, sentinel_tls } in profiles {
        let services: BTreeSet<_> = services.iter().collect();
        hash.put(&(services, hosts, data, sentinel, tls, sentinel_tls));
    }
}

fn discover(Discover { services, interval }: &Discover, hash: &mut Digits) {
    hash.put(interval);
    // Many services share what is collected of them.
    let mut known: HashMap<*const Collect, u64> = HashMap::new();
    for service in services.by_name() {
        let Service { name, source, dns, rewrite, labels, collect, lag_bytes } = &**service;
        let collect = known.entry(Arc::as_ptr(collect)).or_insert_with(|| {
            let mut of_collect = Digits(Xxh3::new());
            of_collect.put(collect);
            of_collect.0.digest()
        });
        hash.put(&(name, source, dns, rewrite, labels, collect, lag_bytes));
    }
}

fn peers(Peers { registry, own: _ }: &Peers, hash: &mut Digits) {
    let Some(registry) = registry else { return };
    let Registry { advertise: _, zone: _, weight: _, file_sd: _, etcd, consul: _, sharding } = registry;
    let etcd = etcd.as_ref().map(|EtcdRegistry { etcd: _, prefix, ttl, value }| (prefix, ttl, value));
    hash.put(&(etcd, sharding));
}

fn serve(serve: &Serve, hash: &mut Digits) {
    let Serve { telemetry_path, scrape_endpoint, redis_only, service_label, instance_label, .. } = serve;
    hash.put(&(telemetry_path, scrape_endpoint, redis_only, service_label, instance_label));
}

/// As everybody shows it: sixteen digits.
pub fn shown(hash: u64) -> String {
    format!("{hash:016x}")
}

struct Digits(Xxh3);

impl Digits {
    fn put(&mut self, value: &impl Debug) {
        // Nothing fails to be hashed. The end of one is no beginning of the next.
        let _ = writeln!(self, "{value:?}");
    }
}

impl fmt::Write for Digits {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::config::deliver::Url;
    use crate::config::document::reader::Files;
    use crate::config::document::{Sources, Text, Texts};
    use std::time::Duration;

    #[test]
    fn the_hash_is_of_what_is_done_and_not_of_who_does_it() {
        fn check(change: impl Fn(&mut Config), is_same: bool) {
            let mut other = Config::default();
            change(&mut other);
            assert_eq!(Config::default().hash() == other.hash(), is_same);
            assert_eq!(other.hash(), other.clone().hash());
            assert_eq!(Config { known_hash: Known::default(), ..other.clone() }.hash(), other.hash());
        }
        check(|_| {}, true);
        check(|config| config.peers.own.advertise = Url::parse("http://a:1").ok(), true);
        check(|config| config.deliver.storage = Some("/elsewhere".into()), true);
        check(|config| config.serve.listen.clear(), true);
        check(|config| config.serve.external_address = Some("h:1".into()), true);
        check(|config| config.telemetry.level = crate::config::telemetry::Level::Debug, true);
        check(|config| config.scrape.interval += Duration::from_secs(1), false);
        check(|config| config.deliver.job = "other".into(), false);
        check(|config| config.collect.client_list = !config.collect.client_list, false);
        check(|config| config.serve.service_label = "other".into(), false);
        check(|config| _ = config.connect.passwords.insert("a:1".into(), Secret::new("x")), false);
    }

    #[test]
    fn neither_the_order_of_a_map_nor_a_secret_is_in_it() {
        let with = |names: &[&str], secret: &str| {
            let mut config = Config::default();
            for name in names {
                config.connect.passwords.insert((*name).into(), Secret::new(secret));
            }
            config.hash()
        };
        let (one, other) = (["a:1", "b:1", "c:1", "d:1"], ["d:1", "c:1", "b:1", "a:1"]);
        assert_eq!(with(&one, "x"), with(&other, "y"));
        assert_eq!(shown(with(&[], "")).len(), 16);
    }

    #[test]
    fn documents_that_come_to_the_same_have_the_same() {
        let of = |text: &str| {
            let file = Some(Text { name: "r.yaml".into(), text: text.into() });
            let texts = Texts { file, ..Texts::default() };
            let loaded = Sources::default().load(&texts, &Files::default(), &|_| None);
            loaded.unwrap_or_else(|problems| panic!("{text}: {problems:?}")).config.hash()
        };
        let check = |one: &str, other: &str, is_same: bool| {
            assert_eq!(of(one) == of(other), is_same, "{one} | {other}");
        };
        let services = "services: [{name: a, instances: [h]}, {name: b, instances: [i]}]";
        check(services, "services:\n- {instances: [i], name: b}\n- {name: a, instances: [h]}", true);
        check(services, "services: [{name: a, instances: [h]}]", false);
        check(services, &format!("{services}\nscrape: {{concurrency: 64}}"), true);
        check(services, &format!("{services}\nscrape: {{concurrency: 65}}"), false);
        check(
            services,
            "services: [{name: a, instances: [h], collect: {client_list: false}}, {name: b, instances: [i]}]",
            true,
        );
        check(
            services,
            "services: [{name: a, instances: [h], collect: {client_list: true}}, {name: b, instances: [i]}]",
            false,
        );
        let with = |password: &str| {
            format!("credentials: [{{name: p, match: {{hosts: [h]}}, password: {password}}}]")
        };
        check(&with("one"), &with("two"), true);
        check(&with("one"), "credentials: [{name: p, match: {hosts: [h]}}]", false);
        let copy = |own: &str, more: &str| {
            format!(
                "{services}\nregistry: {{{own}, etcd: {{endpoints: [\"http://e{}:1\"]}}{more}}}",
                own.len()
            )
        };
        let (a, b) = ("advertise: \"http://a:1\"", "advertise: \"http://bbb:1\", zone: z, weight: 7");
        check(&copy(a, ""), &copy(b, ""), true);
        check(&copy(a, ""), &copy(a, ", sharding: {on_etcd_loss: stop}"), false);
        let output = |name: &str| format!("{{name: {name}, remote_write: {{url: \"http://{name}/w\"}}}}");
        let both = |a, b| format!("{services}\noutputs: [{}, {}]", output(a), output(b));
        check(&both("a", "b"), &both("b", "a"), true);
        check(&both("a", "b"), &both("a", "c"), false);
    }
}
