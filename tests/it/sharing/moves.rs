//! One comes, one goes in good order, one dies, one is cut off: what moves, how long that takes, and what it costs.

use super::{Crew, Flags, INTERVAL, PATIENCE, PREFIX, SLACK, Setup, TTL, labels_changed, now, report, wrong};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};
use testbed::sharing::collections::{Span, Troubles, judge, split};
use testbed::{Fault, wait_until};

const SETUP: Setup = Setup { services: 100, exporters: 3, on_loss: "stop", apart: false };

/// How many services each looked at in the last two intervals.
fn shares(crew: &Crew) -> BTreeMap<String, usize> {
    let all = crew.collected();
    let (shares, several) = split(&all, Span { from: now() - 2 * INTERVAL, until: now() });
    assert!(several.is_empty(), "{several:?}");
    shares.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// Judges a time in which nothing may be late and nothing twice.
fn calm(crew: &Crew, from: i64, what: &str, troubles: &Troubles) {
    let time = Span { from, until: now() };
    crew.drain();
    let verdict = judge(&crew.collected(), time, &crew.setup.promise(), troubles, &BTreeMap::new());
    let (pushed, stale) = crew.pushed();
    let pushed = judge(&pushed, time, &crew.setup.promise(), troubles, &BTreeMap::new());
    let mut faults = wrong("at servers", &verdict);
    faults.extend(wrong("at the receiver", &pushed));
    faults.extend((stale > 0).then(|| format!("{stale} stale markers")));
    let changed = labels_changed(crew);
    faults.extend((!changed.is_empty()).then(|| format!("series with other labels: {changed:?}")));
    report(format_args!(
        "{what}: {} collections, the longest gap {} ms; at the receiver {} and {} ms",
        verdict.collections, verdict.longest, pushed.collections, pushed.longest
    ));
    assert!(faults.is_empty(), "{what}:\n{}\n{}", faults.join("\n"), crew.logs());
    crew.claims();
}

/// Until none of those of `was` is looked at by `but`, and each is by somebody; in milliseconds.
fn taken_over(crew: &Crew, since: i64, was: &str) -> i64 {
    let all = crew.collected();
    let before =
        |server: &&String| all[*server].iter().rfind(|one| one.at < since).is_some_and(|one| one.by == was);
    let servers: Vec<String> = all.keys().filter(before).cloned().collect();
    assert!(!servers.is_empty(), "{was} had nothing");
    let mut last = 0;
    wait_until("others to take over", PATIENCE, || {
        let all = crew.collected();
        let first = |server: &String| {
            all[server].iter().find(|one| one.at >= since && one.by != was).map(|one| one.at)
        };
        let firsts: Option<Vec<i64>> = servers.iter().map(first).collect();
        last = firsts.and_then(|firsts| firsts.into_iter().max()).unwrap_or(0);
        last > 0
    });
    last - since
}

#[test]
fn one_that_joins_gets_its_share_without_a_gap_and_without_a_double() {
    let mut crew = Crew::start(SETUP, 2);
    let from = now();
    let started = Instant::now();
    crew.run(2);
    crew.settle();
    let took = started.elapsed();
    thread::sleep(Duration::from_millis(3 * INTERVAL.unsigned_abs()));
    let shares = shares(&crew);
    assert_eq!(shares.len(), 3, "{shares:?}");
    assert!(shares.values().all(|count| *count >= 10), "{shares:?}");
    let peers = crew.peers(0);
    assert_eq!(peers["peers"].as_array().expect("a list").len(), 3, "{peers}");
    // They have the same file, and what is said by flags is each one's own.
    let hashes: std::collections::BTreeSet<String> = peers["peers"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|peer| peer["config_hash"].to_string())
        .collect();
    assert_eq!(hashes.len(), 1, "{peers}");
    report(format_args!(
        "join: {shares:?}, nothing moves after {} ms, the wait for that included",
        took.as_millis()
    ));
    calm(&crew, from, "join", &Troubles::default());
}

#[test]
fn one_that_ends_in_good_order_is_followed_at_once() {
    let mut crew = Crew::start(SETUP, 3);
    let from = now();
    let since = now();
    crew.end(1);
    let took = taken_over(&crew, since, "exporter-1");
    report(format_args!("SIGTERM: the last of its services is collected by another after {took} ms"));
    assert!(took < 2 * INTERVAL + SLACK, "{took} ms");
    crew.settle();
    calm(&crew, from, "SIGTERM", &Troubles::default());
    let registered: Vec<String> = crew.etcd.all(PREFIX).into_iter().map(|kv| kv.key).collect();
    assert!(!registered.contains(&format!("{PREFIX}{}", crew.posts[1].id())), "{registered:?}");
}

#[test]
fn one_that_dies_is_followed_within_the_ttl_and_an_interval() {
    let mut crew = Crew::start(SETUP, 3);
    let from = now();
    let since = now();
    crew.kill(1);
    let took = taken_over(&crew, since, "exporter-1");
    report(format_args!("kill -9: the last of its services is collected by another after {took} ms"));
    assert!(took < TTL * 1000 + INTERVAL + SLACK, "{took} ms");
    crew.settle();
    let troubles = Troubles { losses: vec![Span { from: since, until: now() }], outages: vec![] };
    calm(&crew, from, "kill -9", &troubles);
}

#[test]
fn an_idle_exporter_asks_etcd_a_handful_of_times_in_a_ttl() {
    let crew = Crew::start(SETUP, 3);
    let (before, ttls) = (crew.etcd.requests(), 5);
    thread::sleep(Duration::from_secs(ttls * TTL.unsigned_abs()));
    let asked = crew.etcd.requests() - before;
    let each = asked as f64 / (3 * ttls) as f64;
    report(format_args!("{asked} requests in {ttls} TTLs by three exporters: {each:.1} each in a TTL"));
    assert!((1.0..=10.0).contains(&each), "{each} requests in a TTL");
}

/// One of three is cut off from etcd for longer than the TTL.
fn partition(on_loss: &'static str) {
    let mut crew = Crew::start(Setup { on_loss, apart: true, ..SETUP }, 3);
    let flags = Flags::watch(&crew);
    let from = now();
    let way = |crew: &mut Crew, fault| crew.posts[1].way.as_ref().expect("it has one").set(fault);
    way(&mut crew, Fault::BlackHole);
    let cut = now();
    // Others take what was its own once its lease has ended.
    thread::sleep(Duration::from_millis((2 * TTL * 1000 + 2000).unsigned_abs()));
    assert_eq!(crew.shares().keys().copied().collect::<Vec<_>>(), [0, 2], "{}", crew.logs());
    way(&mut crew, Fault::Pass);
    crew.settle();
    thread::sleep(Duration::from_millis(3 * INTERVAL.unsigned_abs()));
    let time = Span { from, until: now() };
    crew.drain();
    let said = flags.finish();
    assert!(said.get("exporter-1").is_some_and(|spans| !spans.is_empty()), "it says so either way: {said:?}");
    let flagged = if on_loss == "freeze" { said } else { BTreeMap::new() };
    let troubles = Troubles { losses: vec![Span { from: cut, until: now() }], outages: vec![] };
    let none = Troubles::default();
    let troubles = if on_loss == "freeze" { &none } else { &troubles };
    let (pushed, stale) = crew.pushed();
    let verdict = judge(&pushed, time, &crew.setup.promise(), troubles, &flagged);
    report(format_args!(
        "partition, {on_loss}: the longest gap {} ms; {} doubles while it said so, {} others; flagged {flagged:?}",
        verdict.longest,
        verdict.excused.len(),
        verdict.doubles.len()
    ));
    let faults = wrong("at the receiver", &verdict);
    assert!(faults.is_empty() && stale == 0, "{stale} stale\n{}\n{}", faults.join("\n"), crew.logs());
    assert_eq!(!verdict.excused.is_empty(), on_loss == "freeze", "{flagged:?}");
    crew.claims();
}

#[test]
fn one_that_is_cut_off_stops_where_it_is_told_to() {
    partition("stop");
}

#[test]
fn one_that_is_cut_off_goes_on_where_it_is_told_to_and_says_so() {
    partition("freeze");
}
