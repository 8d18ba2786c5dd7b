//! From real servers through the whole exporter to a receiver: what is pushed is what the page shows, ends when it should,
//! and waits while nobody takes it.

use crate::page::Page;
use crate::{PATIENCE, exporter};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use testbed::receiver::{Receiver, Sample};
use testbed::{Exporter, ExporterBuilder, Part, Server, wait_until};

/// An exporter with this document; state is in the folder.
fn pushing(folder: &Path, document: &str, more: &[&str]) -> ExporterBuilder {
    let path = folder.join("redvigil.yaml");
    std::fs::write(&path, document).expect("written");
    let flags = [
        format!("--config.file={}", path.display()),
        format!("--storage.path={}", folder.join("state").display()),
    ];
    exporter(&flags).args(more)
}

/// An output to that receiver.
fn output(receiver: &Receiver) -> String {
    format!(
        "outputs:\n  - name: store\n    remote_write: {{ url: \"{}\" }}\n    queue: {{ min_free: 1MiB, max_age: 55m }}\n    \
         external_labels: {{ cluster: eu1 }}\n",
        receiver.url("/api/v1/write")
    )
}

const EVERY_SECOND: &str = "global: { scrape_interval: 1s, scrape_timeout: 1s }\n";

/// A series in words that are the same for a page and for what is pushed: labels that the page does not have are left out,
/// as are empty ones, and numbers in labels are numbers.
fn series<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let is_own = |name: &str| !matches!(name, "job" | "cluster" | "service" | "instance");
    let word = |(name, value): (&str, &str)| match (name, value.parse::<f64>()) {
        ("le" | "quantile", Ok(number)) => format!("{name}={number}"),
        _ => format!("{name}={value}"),
    };
    let labels = labels.filter(|(name, value)| is_own(name) && !value.is_empty());
    labels.map(word).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
}

fn pushed_series(sample: &Sample) -> String {
    series(sample.labels.iter().map(|(name, value)| (&**name, &**value)))
}

fn is_stale(sample: &Sample) -> bool {
    sample.value.to_bits() == 0x7ff0_0000_0000_0002
}

/// The last sample of each series of an instance.
fn latest(receiver: &Receiver, instance: &str) -> BTreeMap<String, Sample> {
    let stored = receiver.stored().into_iter().filter(|sample| sample.label("instance") == Some(instance));
    stored.map(|sample| (pushed_series(&sample), sample)).collect()
}

/// The series of an instance that go on.
fn live(receiver: &Receiver, instance: &str) -> BTreeSet<String> {
    let latest = latest(receiver, instance);
    latest.into_iter().filter(|(_, sample)| !is_stale(sample)).map(|(name, _)| name).collect()
}

/// The series of an instance on a page, in the same words.
fn shown(page: &Page, instance: Option<&str>) -> BTreeSet<String> {
    let samples = page.families.values().flat_map(|family| family.samples.keys());
    let own = samples.filter(|(_, labels)| labels.get("instance").map(String::as_str) == instance);
    own.map(|(name, labels)| {
        let labels = labels.iter().map(|(name, value)| (&**name, &**value));
        series(labels.chain([("__name__", &**name)]))
    })
    .collect()
}

fn outputs(exporter: &Exporter) -> Value {
    let response = exporter.get("/api/v1/outputs", &[]);
    assert_eq!(response.status, 200);
    serde_json::from_str(response.text()).expect("JSON")
}

/// The first output; the equation holds whenever anybody looks.
fn first(exporter: &Exporter) -> Value {
    let output = outputs(exporter)["outputs"][0].clone();
    let samples = |name: &str| output["samples"][name].as_u64().expect("a number");
    let (came, went) = (["recovered", "accepted"], ["delivered", "dropped", "pending"]);
    let sum = |names: &[&str]| names.iter().map(|name| samples(name)).sum::<u64>();
    assert_eq!(sum(&came), sum(&went), "{output}");
    output
}

/// For each instance timestamps only rise.
fn assert_in_order(receiver: &Receiver) {
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    for sample in receiver.stored() {
        let key = format!("{:?}", sample.labels);
        let before = last.insert(key.clone(), sample.timestamp);
        assert!(before.is_none_or(|before| before < sample.timestamp), "{key} {before:?} {sample:?}");
    }
}

#[test]
fn what_is_pushed_of_members_is_what_the_page_shows_until_they_go() {
    let (stays, mut goes, receiver) =
        (Server::start(Part::Redis7), Server::start(Part::Valkey9), Receiver::start());
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("members.json");
    let members = |servers: &[&Server]| {
        let names: Vec<_> = servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
        std::fs::write(&list, format!("[{{\"targets\": [{}]}}]", names.join(","))).expect("written");
    };
    members(&[&stays, &goes]);
    let document = format!(
        "{EVERY_SECOND}services:\n  - name: orders\n    labels: {{ team: checkout }}\n    file_sd: {{ files: [\"{}\"] }}\n{}",
        list.display(),
        output(&receiver)
    );
    let mut exporter = pushing(folder.path(), &document, &[]).start();
    // What appears with the second collection has appeared.
    let is_there = || {
        [&stays, &goes].iter().all(|server| {
            let page = Page::parse(&exporter.metrics());
            let wanted = shown(&page, Some(&server.address()));
            let pushed = live(&receiver, &server.address());
            wanted.len() > 150 && pushed == wanted
        })
    };
    wait_until("all that the page shows", PATIENCE, is_there);
    for server in [&stays, &goes] {
        let sample =
            latest(&receiver, &server.address()).remove("__name__=redis_up,team=checkout").expect("it is up");
        let label = |name| sample.label(name).unwrap_or_default().to_owned();
        let labels = ["job", "service", "cluster", "team"].map(label);
        assert_eq!((labels, sample.value), (["redvigil", "orders", "eu1", "checkout"].map(Into::into), 1.0));
    }
    // The services, and we ourselves.
    let of_service = |sample: &Sample| {
        sample.label("__name__") == Some("redis_service_up") && sample.label("service") == Some("orders")
    };
    let of_us = |sample: &Sample| sample.label("__name__") == Some("redvigil_output_samples_accepted_total");
    wait_until("the others", PATIENCE, || {
        let stored = receiver.stored();
        stored.iter().any(of_service) && stored.iter().any(|sample| of_us(sample) && sample.value > 0.0)
    });

    // One that dies keeps what we know of it, and what it said itself ends.
    let address = goes.address();
    goes.stop();
    let up = "__name__=redis_up,team=checkout";
    wait_until("it to be down", PATIENCE, || {
        let latest = latest(&receiver, &address);
        latest[up].value == 0.0 && is_stale(&latest["__name__=redis_connected_clients,team=checkout"])
    });
    // Who is no member any more ends whole.
    members(&[&stays]);
    exporter.process().signal(rustix::process::Signal::HUP);
    wait_until("all of it to end", PATIENCE, || live(&receiver, &address).is_empty());
    assert!(live(&receiver, &stays.address()).len() > 150);
    assert_in_order(&receiver);
    assert_eq!(first(&exporter)["state"], "live");
    assert_eq!(exporter.stop().code(), Some(0), "{}", exporter.stderr());
}

#[test]
fn without_services_the_target_of_the_flag_is_pushed_and_its_page_is_what_it_was() {
    let (server, receiver) = (Server::start(Part::Redis7), Receiver::start());
    let folder = tempfile::tempdir().expect("a folder");
    let document = format!("{EVERY_SECOND}{}", output(&receiver));
    let target = format!("--redis.addr={}", server.address());
    let exporter = pushing(folder.path(), &document, &[&target]).start();
    let alone = crate::watching(&server.address());
    wait_until("some rounds", PATIENCE, || {
        let ups = |sample: &&Sample| sample.label("__name__") == Some("redis_up");
        receiver.stored().iter().filter(ups).count() >= 3
    });
    let sample = latest(&receiver, &server.address()).remove("__name__=redis_up").expect("it is up");
    let names: Vec<_> = sample.labels.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["__name__", "cluster", "instance", "job"]);
    let families = |exporter: &Exporter| {
        let page = Page::parse(&exporter.metrics());
        let names = page.families.into_keys();
        names.filter(|name| !name.starts_with("redvigil_output_")).collect::<BTreeSet<_>>()
    };
    families(&alone);
    assert_eq!(families(&exporter), families(&alone));
    // Each family of the page that is about the server is pushed.
    let is_ours = |name: &String| {
        let ours =
            ["redvigil_", "process_", "redis_target_scrape_request_errors", "redis_exporter_build_info"];
        ours.iter().any(|start| name.starts_with(start)) && !name.starts_with("redvigil_collector_success")
    };
    let names = |series: &str| {
        let name = series.split("__name__=").nth(1).unwrap_or_default();
        name.split(',').next().unwrap_or_default().to_owned()
    };
    wait_until("all that the page shows", PATIENCE, || {
        let page = Page::parse(&exporter.metrics());
        let wanted: BTreeSet<_> = shown(&page, None).iter().map(|series| names(series)).collect();
        let pushed: BTreeSet<_> =
            live(&receiver, &server.address()).iter().map(|series| names(series)).collect();
        wanted.into_iter().filter(|name| !is_ours(name)).collect::<BTreeSet<_>>() == pushed
    });
}

#[test]
fn what_nobody_takes_waits_over_a_restart_and_comes_in_order() {
    let (server, receiver) = (Server::start(Part::Redis7), Receiver::start());
    let folder = tempfile::tempdir().expect("a folder");
    let document = format!(
        "{EVERY_SECOND}services:\n  - {{ name: orders, instances: [\"{}\"] }}\n{}",
        server.address(),
        output(&receiver)
    );
    receiver.go_down();
    let mut exporter = pushing(folder.path(), &document, &[]).start();
    wait_until("it to be degraded", PATIENCE, || first(&exporter)["state"] == "degraded");
    let events = exporter.get("/api/v1/events", &[]).text().to_owned();
    assert!(events.contains("\"kind\":\"output\"") && events.contains("\"service\":\"store\""), "{events}");
    let page = Page::parse(&exporter.metrics());
    assert_eq!(page.value("redvigil_output_state", &[("output", "store")]), Some(2.0));
    assert_eq!(exporter.stop().code(), Some(0), "{}", exporter.stderr());
    let mut exporter = pushing(folder.path(), &document, &[]).start();
    let waited = first(&exporter)["samples"]["recovered"].as_u64().expect("a number");
    assert!(waited > 300, "{waited}");
    receiver.come_up();
    wait_until("all of it", PATIENCE * 3, || {
        let output = first(&exporter);
        output["state"] == "live" && output["samples"]["delivered"].as_u64() > Some(waited)
    });
    assert_in_order(&receiver);
    // A stop leaves nothing behind where somebody takes it.
    assert_eq!(exporter.stop().code(), Some(0));
    let exporter = pushing(folder.path(), &document, &[]).start();
    assert_eq!(first(&exporter)["samples"]["recovered"], 0);
}

#[test]
fn a_folder_that_cannot_be_had_ends_the_start_and_leaves_a_reload_alone() {
    let receiver = Receiver::start();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("state"), "a file").expect("written");
    let services = "services:\n  - { name: orders, instances: [\"127.0.0.1:1\"] }\n";
    let with_disk = format!("{EVERY_SECOND}{services}{}", output(&receiver));
    let finished = pushing(folder.path(), &with_disk, &[]).run_to_end(PATIENCE);
    assert_eq!(finished.status.code(), Some(1));
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    let queue = folder.path().join("state/queue/store");
    let start = format!("redvigil: output store: no queue at {}", queue.display());
    assert!(finished.stderr.starts_with(&start), "{}", finished.stderr);

    let without = format!("{EVERY_SECOND}{services}");
    let exporter = pushing(folder.path(), &without, &[]).start();
    assert_eq!(outputs(&exporter)["outputs"], Value::Array(vec![]));
    std::fs::write(folder.path().join("redvigil.yaml"), &with_disk).expect("written");
    let reload = || {
        let request = testbed::http::Request { method: "POST", path: "/-/reload", headers: &[], body: b"" };
        let response = exporter.send(request);
        (response.status, response.text().to_owned())
    };
    let (status, text) = reload();
    assert!(status == 500 && text.contains("output store: no queue at"), "{text}");
    std::fs::remove_file(folder.path().join("state")).expect("removed");
    assert_eq!(reload(), (200, "ok".to_owned()));
    wait_until("samples", PATIENCE, || receiver.count() > 0);
    assert_eq!(outputs(&exporter)["outputs"][0]["name"], "store");
}

#[test]
fn who_answers_is_not_kept_from_the_receiver_by_one_that_hangs() {
    let (server, receiver) = (Server::start(Part::Redis7), Receiver::start());
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let folder = tempfile::tempdir().expect("a folder");
    // One round for both: it takes as long as the one that hangs.
    let document = format!(
        "global: {{ scrape_interval: 6s, scrape_timeout: 6s }}\nservices:\n  \
         - {{ name: orders, instances: [\"{}\", \"{}\"] }}\n{}",
        server.address(),
        silent.local_addr().expect("an address"),
        output(&receiver)
    );
    let _exporter = pushing(folder.path(), &document, &[]).start();
    let up = || latest(&receiver, &server.address()).remove("__name__=redis_up");
    wait_until("what the one says that answers", PATIENCE, || up().is_some());
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let age = i64::try_from(since.as_millis()).expect("a time") - up().expect("it is there").timestamp;
    assert!((0..4000).contains(&age), "{age} ms");
    wait_until("what is known of the other", PATIENCE, || {
        latest(&receiver, &silent.local_addr().expect("an address").to_string())
            .remove("__name__=redis_up")
            .is_some_and(|sample| sample.value == 0.0)
    });
    assert_in_order(&receiver);
}
