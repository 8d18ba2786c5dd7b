//! What a configuration comes to, as sixteen digits: whether two copies do the same can be seen without reading either.
//!
//! What a newcomer would get wrong: it is the meaning that is hashed, and not the text. A default that is said and one that is
//! not are the same; two versions of this program may differ in the hash alone, so it is compared within one.

use crate::config::Config;
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use xxhash_rust::xxh3::Xxh3;

/// What is collected, from whom, how, and where it is pushed to. Not what each copy may have of its own: all of `registry`, where
/// it listens, how it logs, and where it keeps state. Secrets are left out, but for whether there is one.
pub fn config_hash(config: &Config) -> String {
    let Config { resilience, connect, discover, collect, scrape, deliver, .. } = config;
    // A map has no order of its own.
    let mut connect = connect.clone();
    let passwords: BTreeSet<_> = std::mem::take(&mut connect.passwords).into_keys().collect();
    let outputs = (&deliver.job, &deliver.outputs);
    let mut hash = Digits(Xxh3::new());
    // Nothing fails to be hashed.
    let _ =
        write!(hash, "{resilience:?}{connect:?}{passwords:?}{discover:?}{collect:?}{scrape:?}{outputs:?}");
    format!("{:016x}", hash.0.digest())
}

struct Digits(Xxh3);

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
    use std::time::Duration;

    #[test]
    fn the_hash_is_of_what_is_done_and_not_of_who_does_it() {
        fn check(change: impl Fn(&mut Config), is_same: bool) {
            let mut other = Config::default();
            change(&mut other);
            assert_eq!(config_hash(&Config::default()) == config_hash(&other), is_same);
            assert_eq!(config_hash(&other), config_hash(&other.clone()));
        }
        check(|_| {}, true);
        check(|config| config.peers.own.advertise = Url::parse("http://a:1").ok(), true);
        check(|config| config.deliver.storage = Some("/elsewhere".into()), true);
        check(|config| config.serve.listen.clear(), true);
        check(|config| config.scrape.interval += Duration::from_secs(1), false);
        check(|config| config.deliver.job = "other".into(), false);
        check(|config| config.collect.client_list = !config.collect.client_list, false);
        check(|config| _ = config.connect.passwords.insert("a:1".into(), Secret::new("x")), false);
    }

    #[test]
    fn neither_the_order_of_a_map_nor_a_secret_is_in_it() {
        let with = |names: &[&str], secret: &str| {
            let mut config = Config::default();
            for name in names {
                config.connect.passwords.insert((*name).into(), Secret::new(secret));
            }
            config_hash(&config)
        };
        let (one, other) = (["a:1", "b:1", "c:1", "d:1"], ["d:1", "c:1", "b:1", "a:1"]);
        assert_eq!(with(&one, "x"), with(&other, "y"));
        assert_eq!(with(&[], "").len(), 16);
    }
}
