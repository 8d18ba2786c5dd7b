//! What is handed on, when, and with which times.

use super::*;
use crate::collect::Snapshot;
use crate::collect::collected::Inlet;
use crate::config::deliver::{Auth, Destination, Endpoint, Output, Queue, Url, Version};
use crate::config::{Address, discover};
use crate::discover::fixed::member;
use crate::discover::service::Service;
use crate::scrape::shape::Totals;
use crate::telemetry::events::Events;
use exposition::Desc;

static KEYS: Desc = Desc::gauge("redis_db_keys", "Keys.");

/// A configuration with a service `s` and an output.
fn config() -> Config {
    let mut config = Config::default();
    config.discover.services.push(Arc::new(discover::Service::new("s", discover::Source::Instances(vec![]))));
    let url = Url { secure: false, host: "h".into(), port: 80, path: "/".into() };
    let endpoint = Endpoint {
        url,
        headers: vec![],
        auth: Auth::None,
        tls: <_>::default(),
        timeout: Duration::from_secs(1),
    };
    config.deliver.outputs.push(Arc::new(Output {
        name: "o".into(),
        to: Destination::RemoteWrite { version: Version::Auto, endpoint },
        queue: Queue::default(),
        max_samples_per_second: None,
        paused: false,
        external_labels: BTreeMap::new(),
    }));
    config
}

fn feed() -> (Feed, Inlet) {
    let (outlet, inlet) = Outlet::new();
    let beside: Beside = Arc::new(|_: &Config| vec![]);
    (Feed { outlet, instance: "us:1".into(), began: SystemTime::UNIX_EPOCH, beside }, inlet)
}

fn slot() -> Arc<Slot> {
    let at = Arc::new(member(Address::tcp("h", 1), [("zone".to_owned(), "z".to_owned())].into()));
    Arc::new(Slot::new("s".into(), at, Arc::default()))
}

/// A collection that found that many keys; `None`: it failed.
fn observe(slot: &Slot, config: &Config, keys: Option<f64>, facts: Facts) {
    let parts = keys.map(|keys| {
        let mut out = Builder::new();
        out.push(&KEYS, keys);
        Arc::new(out.finish())
    });
    let up = keys.is_some();
    let snapshot = Snapshot {
        parts: parts.into_iter().collect(),
        up,
        facts: Some(Arc::new(facts)).filter(|_| up),
        taken: Some(Instant::now()),
        duration: Some(Duration::ZERO),
        ..Snapshot::default()
    };
    let outcome = Outcome { snapshot, totals: Totals::default(), from_breaker: false };
    slot.observe(outcome, &config.resilience, (config.scrape.interval, 0.5), true, &Events::default());
}

/// What came: the number of keys; `-` where the server says nothing, `end` where it is gone.
fn came(inlet: &mut Inlet) -> Vec<String> {
    let mut came = vec![];
    while let Ok(collected) = inlet.try_recv() {
        let keys = collected.theirs.parts.iter().find_map(|part| part.get("redis_db_keys"));
        came.push(match keys.and_then(|family| family.samples().next()) {
            _ if collected.is_gone() => "end".to_owned(),
            Some(sample) => format!("{:?}", sample.value()).replace("Number", ""),
            None => "-".to_owned(),
        });
    }
    came
}

#[test]
fn each_collection_is_handed_on_once_and_what_a_breaker_answers_each_time() {
    let (config, slot, (feed, mut inlet)) = (config(), slot(), feed());
    let tick = |tick| feed.member(&config, &slot, tick);
    observe(&slot, &config, Some(1.0), Facts::default());
    tick(Tick::Collected);
    tick(Tick::Collected);
    assert_eq!(came(&mut inlet), ["(1.0)"]);
    observe(&slot, &config, Some(2.0), Facts::default());
    tick(Tick::Collected);
    observe(&slot, &config, None, Facts::default());
    tick(Tick::Collected);
    tick(Tick::Known);
    tick(Tick::Known);
    assert_eq!(came(&mut inlet), ["(2.0)", "-", "-", "-"]);
}

#[test]
fn what_is_handed_on_is_what_the_page_shows() {
    let (config, slot, (feed, mut inlet)) = (config(), slot(), feed());
    observe(&slot, &config, Some(1.0), Facts::default());
    slot.scanned(vec![Arc::default()]);
    feed.member(&config, &slot, Tick::Collected);
    let collected = inlet.try_recv().expect("it was handed on");
    let page = sets::member_set(&config, &slot, Instant::now());
    assert_eq!(*collected.labels, page.labels);
    let names = |parts: &[Arc<Families>]| {
        parts.iter().map(|part| part.iter().map(|f| f.name().to_owned()).collect()).collect::<Vec<Vec<_>>>()
    };
    assert_eq!(names(&collected.theirs.parts), names(&page.parts));
    assert_eq!(names(&collected.ours.parts), names(&page.ours));
    assert!(collected.ours.parts[0].get("redis_up").is_some());
    assert_eq!(&*collected.target, "member s h:1");
    // The same labels are not made again for whoever comes next.
    observe(&slot, &config, Some(1.0), Facts::default());
    feed.member(&config, &slot, Tick::Collected);
    let next = inlet.try_recv().expect("it was handed on");
    assert!(Arc::ptr_eq(&collected.labels, &next.labels));
}

#[test]
fn a_tick_without_room_says_nothing_of_the_server() {
    let (mut config, slot, (feed, mut inlet)) = (config(), slot(), feed());
    feed.member(&config, &slot, Tick::Skipped);
    assert_eq!(came(&mut inlet), ["-"], "there is nothing to be mistaken for news");
    observe(&slot, &config, Some(1.0), Facts::default());
    feed.member(&config, &slot, Tick::Skipped);
    assert!(came(&mut inlet).is_empty());
    // What it said is too old for the page.
    config.scrape.interval = Duration::ZERO;
    feed.member(&config, &slot, Tick::Skipped);
    assert_eq!(came(&mut inlet), ["-"]);
}

#[test]
fn who_is_gone_ends_and_says_nothing_more() {
    let (config, slot, (feed, mut inlet)) = (config(), slot(), feed());
    feed.gone(std::slice::from_ref(&slot));
    assert!(came(&mut inlet).is_empty(), "nobody has heard of it");
    let slot = self::slot();
    observe(&slot, &config, Some(1.0), Facts::default());
    feed.member(&config, &slot, Tick::Collected);
    feed.gone(std::slice::from_ref(&slot));
    feed.gone(std::slice::from_ref(&slot));
    observe(&slot, &config, Some(2.0), Facts::default());
    feed.member(&config, &slot, Tick::Collected);
    assert_eq!(came(&mut inlet), ["(1.0)", "end"]);
    feed.back(&slot);
    feed.member(&config, &slot, Tick::Collected);
    assert_eq!(came(&mut inlet), ["(2.0)"]);
}

#[test]
fn without_an_output_nothing_is_handed_on() {
    let (mut config, slot, (feed, mut inlet)) = (config(), slot(), feed());
    config.deliver.outputs.clear();
    observe(&slot, &config, Some(1.0), Facts::default());
    feed.member(&config, &slot, Tick::Collected);
    feed.member(&config, &slot, Tick::Known);
    assert!(came(&mut inlet).is_empty());
}

#[test]
fn we_and_every_service_of_ours_are_targets_of_our_own() {
    let (config, (feed, mut inlet)) = (config(), feed());
    let mut known = HashMap::new();
    let mut check = |services: &[&str], duties: &[(&str, Duty)], expected: &[&str]| {
        let service = |name: &&str| Arc::new(Service::unknown((*name).into(), "instances"));
        let topology = Topology { services: services.iter().map(service).collect::<Vec<_>>().into() };
        let store = Store::default();
        let of_us = (&Metrics::default(), Load::default());
        let duty = |name: &str| duties.iter().find(|(known, _)| *known == name).map_or(Duty::Ours, |d| d.1);
        feed.ourselves(&config, of_us, (&topology, &store), duty, &mut known);
        let mut came = vec![];
        while let Ok(collected) = inlet.try_recv() {
            let labels: Vec<_> = collected.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
            let is_known = collected.ours.since == Some(SystemTime::UNIX_EPOCH);
            assert!(is_known || collected.is_gone());
            let end = match (collected.is_gone(), collected.has_moved) {
                (false, _) => "",
                (true, true) => " moves",
                (true, false) => " ends",
            };
            came.push(format!("{}: {}{end}", collected.target, labels.join(",")));
        }
        assert_eq!(came, expected, "{services:?} {duties:?}");
    };
    let us = "ourselves: instance=us:1";
    check(&["s", "t"], &[], &[us, "service s: service=s", "service t: service=t"]);
    check(&["s"], &[], &[us, "service s: service=s", "service t: service=t ends"]);
    check(&["s"], &[], &[us, "service s: service=s"]);
    // About to leave, gone, still gone, and back; one that was never ours.
    check(&["s", "t"], &[("s", Duty::Leaving), ("t", Duty::Theirs)], &[us]);
    check(&["s", "t"], &[("s", Duty::Theirs)], &[us, "service t: service=t", "service s: service=s moves"]);
    check(&["s", "t"], &[("s", Duty::Theirs)], &[us, "service t: service=t"]);
    check(&["s", "t"], &[("t", Duty::Leaving)], &[us, "service s: service=s"]);
    check(&["s"], &[], &[us, "service s: service=s", "service t: service=t ends"]);
}

#[test]
fn counters_count_since_the_process_began_or_since_they_were_reset() {
    let time = |seconds: f64| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds);
    let mut epoch = Epoch::default();
    let mut check = |at: f64, uptime: Option<u64>, run: char, commands: u64, expected: Option<f64>| {
        let run_id = Id::parse(&run.to_string().repeat(40));
        let facts = Facts { uptime, run_id, commands: Some(commands), ..Facts::default() };
        assert_eq!(epoch.read(&facts, time(at)), expected.map(time), "{at}");
    };
    check(1000.0, None, 'a', 5, None);
    check(1000.5, Some(100), 'a', 5, Some(900.5));
    // Whole seconds, and the time that it takes to answer.
    check(1015.0, Some(114), 'a', 10, Some(900.5));
    check(1030.9, Some(129), 'a', 15, Some(900.5));
    // CONFIG RESETSTAT: some time after it was read last.
    check(1045.0, Some(144), 'a', 3, Some(1030.9));
    check(1060.0, Some(159), 'a', 8, Some(1030.9));
    // Another process.
    check(1075.0, Some(2), 'b', 1, Some(1073.0));
    check(1090.0, Some(17), 'b', 6, Some(1073.0));
    // Quicker than two seconds, and seen by its name.
    check(1091.0, Some(0), 'c', 1, Some(1091.0));
    // The clock was set.
    check(2000.0, Some(15), 'c', 6, Some(1985.0));
}
