//! What is new of a configuration: said in a few words, and what is not new is shared with the old one.

use crate::config::Config;
use std::collections::BTreeMap;
use std::sync::Arc;

/// So many names are told.
const TOLD: usize = 5;

/// Takes services and outputs that are as they were from the configuration that runs. What is new, in words.
pub fn share(running: &Config, fresh: &mut Config) -> String {
    let (before, now) = (&running.discover.services, fresh.discover.services.clone());
    let (mut added, mut changed) = (vec![], vec![]);
    let mut same = 0;
    fresh.discover.services = now.map(|service| match before.get(&service.name) {
        Some(old) if **old == **service => {
            same += 1;
            old.clone()
        }
        Some(_) => {
            changed.push(&*service.name);
            service.clone()
        }
        None => {
            added.push(&*service.name);
            service.clone()
        }
    });
    let removed: Vec<_> =
        before.iter().map(|old| &*old.name).filter(|name| now.get(name).is_none()).collect();
    let mut words: Vec<_> = [("added", &added), ("changed", &changed), ("removed", &removed)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(word, names)| told(word, names))
        .collect();
    if words.is_empty() {
        words.push(format!("all {same} services stay as they are"));
    }
    for output in &mut fresh.deliver.outputs {
        if let Some(old) = running.deliver.outputs.iter().find(|old| **old == *output) {
            *output = Arc::clone(old);
        }
    }
    words.join(", ")
}

fn told(word: &str, names: &[&str]) -> String {
    let shown = names.iter().take(TOLD).copied().collect::<Vec<_>>().join(" ");
    let more = if names.len() > TOLD { format!(" and {} more", names.len() - TOLD) } else { String::new() };
    let services = if names.len() == 1 { "service" } else { "services" };
    format!("{} {services} {word} ({shown}{more})", names.len())
}

/// Keys of which one has another value than the other, or none.
pub fn differing(a: &BTreeMap<String, u64>, b: &BTreeMap<String, u64>) -> Vec<String> {
    let mut keys: Vec<_> =
        a.iter().filter(|(key, value)| b.get(*key) != Some(value)).map(|(key, _)| key.clone()).collect();
    keys.extend(b.keys().filter(|key| !a.contains_key(*key)).cloned());
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::discover::{Service, Source};

    #[test]
    fn what_stays_is_shared_and_what_is_new_is_told() {
        fn check(before: &[(&str, u64)], now: &[(&str, u64)], shared: usize, expected: &str) {
            let config = |services: &[(&str, u64)]| {
                let service = |(name, lag_bytes): &(&str, u64)| {
                    Arc::new(Service {
                        lag_bytes: *lag_bytes,
                        ..Service::new(name, Source::Instances(vec![]))
                    })
                };
                let mut config = Config::default();
                config.discover.services = services.iter().map(service).collect::<Vec<_>>().into();
                config
            };
            let (running, mut fresh) = (config(before), config(now));
            assert_eq!(share(&running, &mut fresh), expected);
            let is_shared = |service: &&Arc<Service>| {
                running.discover.services.iter().any(|old| Arc::ptr_eq(old, service))
            };
            assert_eq!(fresh.discover.services.iter().filter(is_shared).count(), shared, "{expected}");
            assert_eq!(fresh.discover.services.len(), now.len());
        }
        check(&[("a", 1), ("b", 1)], &[("a", 1), ("b", 1)], 2, "all 2 services stay as they are");
        check(&[("a", 1), ("b", 1)], &[("a", 1), ("b", 2)], 1, "1 service changed (b)");
        check(&[("a", 1)], &[("b", 1)], 0, "1 service added (b), 1 service removed (a)");
        let many: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"].into_iter().map(|name| (name, 1)).collect();
        check(&[], &many, 0, "7 services added (a b c d e and 2 more)");
    }

    #[test]
    fn keys_with_another_value_differ() {
        let of =
            |pairs: &[(&str, u64)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
        assert_eq!(
            differing(&of(&[("a", 1), ("b", 2), ("c", 3)]), &of(&[("a", 1), ("b", 3), ("d", 1)])),
            ["b", "c", "d"]
        );
        assert!(differing(&of(&[("a", 1)]), &of(&[("a", 1)])).is_empty());
    }
}
