//! A hiccup is told from an outage: what makes a member `down` and what does not, and when nobody asks a
//! server any more that is down.

use crate::follow::Fleet;
use crate::page::Page;
use crate::{PATIENCE, encoded};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testbed::{Fault, Part, Proxy, Server, wait_for, wait_until};

/// A list of one server that is collected each second, within a second.
fn watched(address: &str) -> Fleet {
    Fleet::start(&document(address, ""))
}

fn document(address: &str, more: &str) -> String {
    format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n{more}\
         services: [{{ name: cache, instances: [\"{address}\"] }}]\n"
    )
}

/// Health and failures in a row, as they are in one moment.
fn state(fleet: &Fleet, instance: &str) -> (String, u64) {
    let target = fleet.target(instance).expect("a member");
    let failures = target["consecutive_failures"].as_u64().expect("a number");
    (target["health"].as_str().expect("text").to_owned(), failures)
}

fn wait_for_health(fleet: &Fleet, instance: &str, wanted: &str) {
    wait_until(wanted, PATIENCE, || state(fleet, instance).0 == wanted);
}

/// Watches a member all the time while `story` runs: health with the failures in a row, every pair that was
/// seen.
fn watch_during(fleet: &Fleet, instance: &str, story: impl FnOnce()) -> BTreeSet<(String, u64)> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            loop {
                // The last look comes after the end of the story.
                let is_last = over.load(Ordering::Relaxed);
                seen.insert(state(fleet, instance));
                if is_last {
                    return seen;
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        // The watch ends also where the story fails.
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(story));
        over.store(true, Ordering::Relaxed);
        let seen = watch.join().expect("every look succeeded");
        ended.map_or_else(|panic| std::panic::resume_unwind(panic), |()| seen)
    })
}

/// Does something to the way to a server, and takes it back at once, after a collection failed for it, or when
/// it is over by itself. The member was never down, and is as before.
fn soften(seen_by: &str, hurt: impl FnOnce(&Proxy, &dyn Fn(&str))) {
    let server = Server::start(Part::Redis7);
    let proxy = Proxy::start(server.port());
    let fleet = watched(&proxy.address());
    let wait = |health: &str| wait_for_health(&fleet, &proxy.address(), health);
    let seen = watch_during(&fleet, &proxy.address(), || {
        hurt(&proxy, &wait);
        wait("ok");
        // One more collection on the way as it is again.
        let before = Instant::now();
        wait_until("another collection", PATIENCE, || {
            let target = fleet.target(&proxy.address()).expect("a member");
            target["snapshot_age_seconds"].as_f64().is_some_and(|age| age < before.elapsed().as_secs_f64())
        });
        wait("ok");
    });
    assert!(seen.iter().all(|(health, _)| health == "ok" || health == "suspect"), "{seen:?}");
    assert!(seen.iter().all(|(_, failures)| *failures < 3), "{seen:?}");
    assert!(seen.iter().any(|(health, _)| health == seen_by), "it was to be {seen_by}: {seen:?}");
    assert!(fleet.told("health").iter().all(|change| !change.ends_with("> down")));
}

#[test]
fn a_connection_that_breaks_or_is_refused_is_no_outage() {
    // Between two collections: the next one makes another connection.
    soften("ok", |proxy, _| proxy.drop_connections());
    for fault in [Fault::Refuse, Fault::Reset, Fault::Close] {
        soften("suspect", |proxy, wait| {
            proxy.set(fault);
            wait("suspect");
            proxy.set(Fault::Pass);
        });
    }
}

#[test]
fn an_answer_that_is_slow_or_stalls_is_no_outage() {
    // Slow, but in time: nothing happened at all.
    soften("ok", |proxy, _| {
        proxy.set(Fault::Delay(Duration::from_millis(50)));
        proxy.drop_connections();
    });
    soften("suspect", |proxy, wait| {
        proxy.set(Fault::Delay(Duration::from_millis(1500)));
        wait("suspect");
        proxy.set(Fault::Pass);
    });
    soften("suspect", |proxy, wait| {
        proxy.set(Fault::Stall(Duration::from_secs(2)));
        wait("suspect");
    });
}

#[test]
fn a_server_that_dies_is_down_after_the_third_failure_and_not_before() {
    let mut server = Server::start(Part::Redis7);
    let at = server.address();
    let fleet = watched(&at);
    let seen = watch_during(&fleet, &at, || {
        server.kill();
        wait_for_health(&fleet, &at, "down");
    });
    for (health, failures) in &seen {
        let expected = match failures {
            0 => "ok",
            1 | 2 => "suspect",
            _ => "down",
        };
        assert_eq!(health, expected, "after {failures} failures: {seen:?}");
    }
    assert!(seen.contains(&("down".into(), 3)), "{seen:?}");
    assert_eq!(fleet.told("health"), ["ok > suspect", "suspect > down"]);
    let events = fleet.events();
    let last = events.iter().rfind(|event| event["kind"] == "health").expect("it was told");
    assert_eq!((last["service"].as_str(), last["to"].as_str()), (Some("cache"), Some("down")));
    assert!(last["message"].as_str().is_some_and(|text| text.contains(&at)), "{last}");
    let page = fleet.page("/metrics");
    let labels = [("service", "cache"), ("instance", at.as_str())];
    assert_eq!(page.value("redis_up", &labels), Some(0.0));
    let down = [("service", "cache"), ("instance", at.as_str()), ("state", "down")];
    assert_eq!(page.value("redis_target_health", &down), Some(1.0));
    let refused = [("service", "cache"), ("instance", at.as_str()), ("reason", "refused")];
    assert!(page.value("redis_target_failures_total", &refused).is_some_and(|count| count >= 3.0));
    assert_eq!(page.value("redis_service_up", &[("service", "cache")]), Some(0.0));

    server.restart();
    wait_for_health(&fleet, &at, "ok");
    assert_eq!(state(&fleet, &at), ("ok".into(), 0), "one whole collection will do");
    assert_eq!(fleet.told("health"), ["ok > suspect", "suspect > down", "down > ok"]);
    wait_until("its samples", PATIENCE, || fleet.page("/metrics").value("redis_up", &labels) == Some(1.0));
}

#[test]
fn a_server_that_loads_is_not_down() {
    let mut server = Server::builder(Part::Redis7)
        .config("key-load-delay 500")
        .config("loading-process-events-interval-bytes 1024")
        .ready_while_loading()
        .start();
    server.ok(&["DEBUG", "POPULATE", "12000", "key", "100"]);
    server.ok(&["SAVE"]);
    let at = server.address();
    let fleet = watched(&at);
    let seen = watch_during(&fleet, &at, || {
        server.restart();
        wait_for_health(&fleet, &at, "loading");
        // It goes on for longer than three collections need.
        server.wait_for_info("persistence", "loading", "0", PATIENCE);
        wait_for_health(&fleet, &at, "ok");
    });
    let states: BTreeSet<_> = seen.iter().map(|(health, _)| health.as_str()).collect();
    assert!(states.is_subset(&BTreeSet::from(["ok", "suspect", "loading"])), "{seen:?}");
    assert!(fleet.told("health").contains(&"loading > ok".to_owned()), "{:?}", fleet.told("health"));
}

/// A page about a member, asked for as Prometheus does, and how long that took.
fn pull(fleet: &Fleet, instance: &str) -> (Page, Duration) {
    let begin = Instant::now();
    let page = fleet.page(&format!("/scrape?target={}", encoded(instance)));
    (page, begin.elapsed())
}

fn breaker(page: &Page) -> String {
    let samples = &page.families["redvigil_breaker_state"].samples;
    let on: Vec<_> = samples.iter().filter(|(_, value)| **value == 1.0).collect();
    assert_eq!((samples.len(), on.len()), (3, 1), "{samples:?}");
    on[0].0.1["state"].clone()
}

#[test]
fn a_server_that_is_down_is_left_alone_but_for_probes() {
    const INTERVAL: Duration = Duration::from_secs(2);
    let server = Server::start(Part::Redis7);
    let proxy = Proxy::start(server.port());
    let at = proxy.address();
    // Pauses of two intervals and at least one: between two probes of ticks there is time for a pull to come first.
    let fleet = Fleet::start(&format!(
        "global: {{ scrape_interval: 2s, scrape_timeout: 1s }}\nbreaker: {{ pause: 10s, max_pause: 10s }}\n\
         services: [{{ name: cache, instances: [\"{at}\"] }}]\n"
    ));
    assert_eq!(breaker(&pull(&fleet, &at).0), "closed");
    // A server that takes connections and says nothing: who is sent there waits for the time-out.
    proxy.set(Fault::BlackHole);
    let seen = watch_during(&fleet, &at, || wait_for_health(&fleet, &at, "down"));
    assert!(seen.iter().all(|(health, failures)| (health == "down") == (*failures >= 3)), "{seen:?}");
    let opened = Instant::now();
    let open = |target: &Value| target["breaker"] == "open";
    assert!(open(&fleet.target(&at).expect("a member")), "it opens with the third failure");

    // The last probe was let through at least a time-out ago; the next may go an interval after that.
    let mut answered = 0;
    let fourth = wait_for("a probe", PATIENCE, || {
        let (page, took) = pull(&fleet, &at);
        assert_eq!((page.up(), page.error()), (0.0, "timeout"), "the last reason");
        let failures = page.value("redis_target_consecutive_failures", &[]).expect("always there");
        if failures == 3.0 {
            assert!(took < Duration::from_millis(900), "an open breaker answers at once: {took:?}");
            assert_eq!(breaker(&page), "open");
            answered += 1;
        }
        (failures == 4.0).then(|| opened.elapsed())
    });
    assert!(answered > 0, "some pulls were answered without asking the server");
    // An interval since the last one was let through, and the time-out of the probe itself.
    assert!(fourth <= INTERVAL + Duration::from_secs(2), "a pull probes after an interval: {fourth:?}");
    let accepted = proxy.accepted();
    let target = fleet.target(&at).expect("a member");
    assert_eq!((target["health"].as_str(), open(&target)), (Some("down"), true));
    assert_eq!(proxy.accepted(), accepted, "asking the API asks nobody else");

    proxy.set(Fault::Pass);
    proxy.drop_connections();
    wait_for_health(&fleet, &at, "ok");
    let (page, _) = pull(&fleet, &at);
    assert_eq!((page.up(), breaker(&page).as_str()), (1.0, "closed"));
    assert_eq!(page.value("redis_target_consecutive_failures", &[]), Some(0.0));
    assert_eq!(fleet.told("health"), ["ok > suspect", "suspect > down", "down > ok"]);
}
