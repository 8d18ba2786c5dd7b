//! Receivers that do not want what they are sent: an expired token holds, a poisoned sample costs itself alone.

use super::oracle::Found;
use super::{NUMBERS, PATIENCE, Setup, UP, now, remote_write, report};
use std::time::Duration;
use testbed::{Arrivals, Part, Sample, Store, wait_until};

#[test]
fn an_expired_token_loses_nothing_and_a_new_one_is_read() {
    let arrivals = Arrivals::start(&[NUMBERS, UP]);
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "first\n").expect("written");
    arrivals.only_with("first");
    let output = format!(
        "remote_write: {{ url: \"{}\", bearer_token_file: \"{}\" }}",
        arrivals.write_url(),
        token.display()
    );
    let mut push =
        Setup { targets: 3, small: false, interval: 200, output: &output, queue: "min_free: 0" }.start();
    push.collect(5);
    push.drain();
    arrivals.only_with("second");
    wait_until("the output to notice", PATIENCE, || push.state() == "degraded");
    let refused = arrivals.refused();
    push.collect(40);
    // One probe each half minute, not one for each collection.
    assert!(arrivals.refused() <= refused + 1, "{} requests were refused", arrivals.refused());
    let count = push.count();
    assert!(count.dropped.is_empty() && count.pending > 0, "{count:?}");
    std::fs::write(&token, "second\n").expect("written");
    let is_let_in = || !matches!(push.state().as_str(), "degraded" | "probing");
    wait_until("the next probe", Duration::from_secs(40), is_let_in);
    push.drain();
    assert!(push.count().dropped.is_empty());
    push.stop();
    assert_eq!(arrivals.faults(), Vec::<String>::new());
    push.compare(&Found::arrived(&arrivals));
}

/// Poisons one series of one target for a while; what its store has then, and what was dropped.
fn poison(store: &Store, version: &str) {
    const TARGETS: usize = 20;
    let mut push = Setup {
        targets: TARGETS,
        small: false,
        interval: 500,
        output: &remote_write(&store.write_url(), version),
        queue: "min_free: 0, linger: 250ms",
    }
    .start();
    push.collect(3);
    push.drain();
    let poisoned = push.targets[0].address();
    let labels = store.samples(NUMBERS).into_keys().find(|labels| labels["instance"] == poisoned);
    let mut labels = labels.expect("the series is there");
    labels.insert("__name__".to_owned(), "redis_connected_clients".to_owned());
    // A sample of the near future: everything before it is out of order for this series, and for no other.
    let (from, until) = (now(), now() + 3_000);
    assert_eq!(store.write(&labels, &[Sample { at: until, value: -1.0 }]) / 100, 2);
    wait_until("the poison to be over", PATIENCE, || now() > until);
    push.collect(3);
    push.drain();
    let count = push.count();
    push.stop();

    let found = store.samples("{job=\"redvigil\"}");
    let of = |name: &str, instance: &str| {
        let wanted = found.iter().find(|(labels, _)| {
            labels["__name__"] == name && labels.get("instance").is_some_and(|i| i == instance)
        });
        wanted.map(|(_, samples)| samples.clone()).unwrap_or_default()
    };
    let mut lost = 0;
    for target in &push.targets {
        let instance = target.address();
        let handed = target.handed();
        let numbers: Vec<u64> = of(NUMBERS, &instance).iter().map(|sample| sample.value as u64).collect();
        let clients: Vec<i64> =
            of("redis_connected_clients", &instance).iter().map(|sample| sample.at).collect();
        // The last one may have been cut off by the shutdown.
        let whole: Vec<u64> = handed.iter().map(|handed| handed.number).take(handed.len() - 1).collect();
        let missing: Vec<_> = whole.iter().filter(|number| !numbers.contains(number)).collect();
        if instance == poisoned {
            let (early, late): (Vec<i64>, Vec<i64>) = clients.iter().partition(|at| **at < until);
            assert!(!early.is_empty() && late.len() > 2, "{early:?} {late:?}");
            // By 1.0 the whole collection of that target goes, by 2.0 the one sample.
            assert_eq!(missing.is_empty(), version == "2.0", "{missing:?} of {whole:?}");
            for number in missing {
                let at = handed[*number as usize - 1].at;
                assert!(
                    at > from - 1_000 && at < until + 500,
                    "{number} at {at}, poisoned from {from} to {until}"
                );
            }
            lost = handed.len().saturating_sub(clients.len());
        } else {
            assert!(missing.is_empty(), "{instance}, which is innocent: {missing:?} of {whole:?}");
        }
    }
    assert!((3..=12).contains(&lost), "{lost}");
    let dropped: u64 = count.dropped.values().sum();
    assert_eq!(count.dropped.keys().collect::<Vec<_>>(), ["rejected"], "{count:?}");
    if version == "2.0" {
        assert!((3..=12).contains(&dropped), "{count:?}");
    }
    report(format_args!(
        "{version}: of 20 targets one was poisoned for 3 s: {lost} of its samples lost, counted {:?}",
        count.dropped
    ));
}

#[test]
fn a_poisoned_series_costs_the_collections_of_its_target_by_1_0() {
    poison(&Store::prometheus(Part::Prometheus253).start(), "1.0");
}

#[test]
fn a_poisoned_series_costs_its_own_samples_by_2_0() {
    if Part::Prometheus3.or_skip("a_poisoned_series_costs_its_own_samples_by_2_0").is_some() {
        poison(&Store::prometheus(Part::Prometheus3).start(), "2.0");
    }
}
