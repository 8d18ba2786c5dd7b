//! Real receivers: whatever happens to them, to us and on the way between, afterwards they have every collection, once.
//!
//! What a newcomer would get wrong: what a Prometheus without a window for what is out of order refuses after a lost
//! answer is what it has already. It is counted as dropped and is there all the same; so the stores are asked, not the
//! counters.

use super::oracle::{Found, Verdict};
use super::{NUMBERS, PATIENCE, Push, Scraper, Setup, now, remote_write, report};
use std::time::Duration;
use testbed::{Fault, Part, Proxy, Store, StoreBuilder, wait_until};

/// What is expected of a way to a store.
struct Way {
    /// `remote_write.version`.
    version: &'static str,
    /// The version that is spoken in the end.
    spoken: &'static str,
    /// Whether a record that the store has already is refused.
    refuses_repeats: bool,
    /// Whether it still has what it took after a crash of its own. VictoriaMetrics loses the last seconds.
    survives: bool,
}

/// Five things that happen, one after the other; then the store is asked.
fn check(store: StoreBuilder, way: &Way) -> Verdict {
    let mut store = store.start();
    let proxy = Proxy::start(store.port());
    let url = format!("http://127.0.0.1:{}/api/v1/write", proxy.port());
    let mut push = Setup {
        targets: 3,
        small: false,
        interval: 200,
        output: &remote_write(&url, way.version),
        queue: "min_free: 0, linger: 50ms",
    }
    .start();
    let scraper = Scraper::start(&push);

    // All is well.
    push.collect(5);
    push.drain();

    // Answers get lost behind the store.
    proxy.set(Fault::CloseAfter(4));
    let failures = failures(&push);
    wait_until("an answer to be lost", PATIENCE, || self::failures(&push) > failures);
    push.collect(2);
    proxy.set(Fault::Pass);
    push.drain();

    // The store is away, in good order and by a crash, and comes back with what it had.
    store.stop();
    push.collect(8);
    store.start();
    push.drain();
    if way.survives {
        store.kill();
        push.collect(4);
        store.start();
        push.drain();
    }

    // The store stands still for a moment: requests are on their way.
    store.process().pause();
    push.collect(4);
    store.process().resume();
    push.drain();
    let seen = scraper.finish();

    // We are killed while the store is away.
    store.stop();
    push.collect(5);
    push.kill();
    push.start();
    push.collect(5);
    push.kill();
    store.start();
    push.start();
    let recovered = push.count();
    assert!(recovered.recovered > 0, "{recovered:?}");
    push.collect(3);
    push.drain();

    let fallbacks = sum(&push, "redvigil_output_protocol_fallbacks_total");
    assert_eq!(fallbacks > 0.0, way.version == "auto" && way.spoken == "1.0", "{fallbacks} fallbacks");
    let before_the_end = now();
    push.finish();
    let found = Found::in_store(&store);
    let verdict = push.compare(&found);
    let dropped = seen.last().expect("it was asked").dropped.clone();
    if !way.refuses_repeats {
        assert!(dropped.is_empty(), "{dropped:?}");
    }
    assert!(verdict.unaccepted <= 3 * 3, "{verdict:?}");
    ends(&store, before_the_end);
    report(format_args!("{verdict:?}, counted as dropped: {dropped:?}"));
    verdict
}

/// Requests that came to nothing so far.
fn failures(push: &Push) -> f64 {
    sum(push, "redvigil_output_retries_total")
}

/// All samples of a family on the page about ourselves.
fn sum(push: &Push, family: &str) -> f64 {
    let page = push.exporter().get("/-/metrics", &[]);
    let lines = page.text().lines().filter(|line| line.starts_with(family));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// After the shutdown nothing is claimed of targets that nobody collects, or only for as long as Prometheus looks back.
fn ends(store: &Store, before: i64) {
    let now = store.now(&format!("timestamp({NUMBERS}) * 1000"));
    for (labels, at) in now {
        assert!(at >= before as f64 - 2_000.0, "{labels:?} at {at}, stopped at {before}");
    }
}

const AUTO_2: Way = Way { version: "auto", spoken: "2.0", refuses_repeats: true, survives: true };
const AUTO_1: Way = Way { version: "auto", spoken: "1.0", refuses_repeats: true, survives: true };
const ONLY_1: Way = Way { version: "1.0", spoken: "1.0", refuses_repeats: true, survives: true };
const ONLY_2: Way = Way { version: "2.0", spoken: "2.0", refuses_repeats: true, survives: true };

fn tolerant(way: Way) -> Way {
    Way { refuses_repeats: false, ..way }
}

fn victoria_metrics(way: Way) -> Way {
    Way { survives: false, ..tolerant(way) }
}

fn prometheus_3(test: &str, build: impl Fn(StoreBuilder) -> StoreBuilder, way: &Way) {
    if Part::Prometheus3.or_skip(test).is_some() {
        check(build(Store::prometheus(Part::Prometheus3)), way);
    }
}

#[test]
fn prometheus_2_has_every_collection_by_1_0() {
    check(Store::prometheus(Part::Prometheus253), &ONLY_1);
}

#[test]
fn prometheus_2_which_says_yes_to_2_0_and_stores_nothing_has_every_collection_by_auto() {
    check(Store::prometheus(Part::Prometheus253), &AUTO_1);
}

#[test]
fn prometheus_2_with_a_window_has_every_collection() {
    check(Store::prometheus(Part::Prometheus253).out_of_order("10m"), &tolerant(AUTO_1));
}

#[test]
fn prometheus_3_has_every_collection_by_1_0() {
    prometheus_3("prometheus_3_has_every_collection_by_1_0", |store| store, &ONLY_1);
}

#[test]
fn prometheus_3_has_every_collection_by_2_0() {
    prometheus_3("prometheus_3_has_every_collection_by_2_0", |store| store, &ONLY_2);
}

#[test]
fn prometheus_3_has_every_collection_by_auto() {
    prometheus_3("prometheus_3_has_every_collection_by_auto", |store| store, &AUTO_2);
}

#[test]
fn prometheus_3_with_a_window_has_every_collection() {
    let test = "prometheus_3_with_a_window_has_every_collection";
    prometheus_3(test, |store| store.out_of_order("10m"), &tolerant(AUTO_2));
}

#[test]
fn prometheus_3_that_takes_1_0_alone_has_every_collection_by_auto() {
    let test = "prometheus_3_that_takes_1_0_alone_has_every_collection_by_auto";
    let only_1 = "--web.remote-write-receiver.accepted-protobuf-messages=prometheus.WriteRequest";
    prometheus_3(test, |store| store.args(&[only_1]), &AUTO_1);
}

#[test]
fn victoria_metrics_has_every_collection_by_1_0() {
    check(Store::victoria_metrics(), &victoria_metrics(ONLY_1));
}

#[test]
fn victoria_metrics_which_says_yes_to_2_0_and_stores_nothing_has_every_collection_by_auto() {
    check(Store::victoria_metrics(), &victoria_metrics(AUTO_1));
}

#[test]
fn who_may_speak_2_0_alone_keeps_everything_from_a_receiver_that_does_not_know_it() {
    let store = Store::victoria_metrics().start();
    let push = Setup {
        targets: 2,
        small: false,
        interval: 200,
        output: &remote_write(&store.write_url(), "2.0"),
        queue: "min_free: 0",
    }
    .start();
    push.collect(10);
    let count = push.count();
    assert_eq!((count.delivered, count.dropped_in_all()), (0, 0), "{count:?}");
    assert!(count.pending > 1000, "{count:?}");
    assert!(Found::in_store(&store).is_empty());
}

#[test]
fn series_of_a_member_that_leaves_end_at_once() {
    if Part::Prometheus3.or_skip("series_of_a_member_that_leaves_end_at_once").is_none() {
        return;
    }
    for part in [Part::Prometheus253, Part::Prometheus3] {
        let store = Store::prometheus(part).start();
        let push = Setup {
            targets: 2,
            small: false,
            interval: 200,
            output: &remote_write(&store.write_url(), "auto"),
            queue: "min_free: 0",
        }
        .start();
        push.collect(3);
        wait_until("both to be there", PATIENCE, || store.now(NUMBERS).len() == 2);
        let gone = push.leave();
        wait_until("its series to end", Duration::from_secs(10), || {
            let left = store.now("{job=\"redvigil\"}");
            left.keys().all(|labels| labels.get("instance") != Some(&gone)) && !left.is_empty()
        });
    }
}
