//! A configuration that changes while it runs: nothing is lost, nothing is restarted, and what runs is always the last good one.

use crate::{PATIENCE, exporter, our_clients};
use serde_json::{Value, json};
use std::path::Path;
use testbed::http::Request;
use testbed::receiver::Receiver;
use testbed::{Certificates, Exporter, ExporterBuilder, Part, Server, wait_until};

/// An exporter with this document; state is in the folder.
fn with(folder: &Path, document: &str, more: &[&str]) -> ExporterBuilder {
    std::fs::write(folder.join("redvigil.yaml"), document).expect("written");
    let flags = [
        format!("--config.file={}", folder.join("redvigil.yaml").display()),
        format!("--storage.path={}", folder.join("state").display()),
    ];
    exporter(&flags).args(more)
}

/// `user:hunter2`.
const LOGIN: (&str, &str) = ("Authorization", "Basic dXNlcjpodW50ZXIy");
const USER: [&str; 2] = ["--basic-auth-username=user", "--basic-auth-password=hunter2"];

fn json_of(exporter: &Exporter, path: &str) -> Value {
    let response = exporter.get(path, &[LOGIN]);
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    serde_json::from_str(response.text()).expect("JSON")
}

fn setting(exporter: &Exporter, key: &str) -> (Value, String) {
    let config = json_of(exporter, "/api/v1/config");
    let settings = config["settings"].as_array().expect("a list").iter();
    let found = settings.clone().find(|setting| setting["key"] == key);
    let found = found.unwrap_or_else(|| panic!("no {key}"));
    (found["value"].clone(), found["origin"].as_str().expect("a text").to_owned())
}

/// The one output; the equation holds whenever anybody looks.
fn output(exporter: &Exporter) -> Value {
    let output = json_of(exporter, "/api/v1/outputs")["outputs"][0].clone();
    let sum = |names: &[&str]| {
        names.iter().map(|name| output["samples"][name].as_u64().expect("a number")).sum::<u64>()
    };
    assert_eq!(sum(&["recovered", "accepted"]), sum(&["delivered", "dropped", "pending"]), "{output}");
    output
}

fn outputs_of(receiver: &Receiver) -> String {
    format!(
        "outputs:\n  - name: store\n    remote_write: {{ url: \"{}\" }}\n    queue: {{ min_free: 1MiB, max_age: 55m, linger: 50ms }}\n",
        receiver.url("/api/v1/write")
    )
}

fn patch(exporter: &Exporter, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let request =
        Request { method: "PATCH", path: "/api/v1/runtime", headers: &[LOGIN], body: body.as_bytes() };
    let response = exporter.send(request);
    (response.status, serde_json::from_str(response.text()).unwrap_or_default())
}

#[test]
fn a_hundred_edits_of_which_every_third_is_broken_lose_nothing() {
    let (still, edited, receiver) =
        (Server::start(Part::Redis7), Server::start(Part::Valkey9), Receiver::start());
    let folder = tempfile::tempdir().expect("a folder");
    let document = |number: u64, random: &mut fastrand::Rng| {
        let extra = match random.u8(..4) {
            0 => format!("    replication_lag_bytes: {number}\n"),
            1 => format!("    labels: {{ edit: \"{number}\" }}\n"),
            2 => "    collect: { client_list: true }\n".to_owned(),
            _ => String::new(),
        };
        format!(
            "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms }}\nhealth: {{ failures_to_down: {} }}\nservices:\n  \
             - name: still\n    instances: [\"{}\"]\n  - name: edited\n    instances: [\"{}\"]\n{extra}{}",
            number % 900 + 1,
            still.address(),
            edited.address(),
            outputs_of(&receiver)
        )
    };
    let mut random = fastrand::Rng::with_seed(7);
    let exporter = with(folder.path(), &document(0, &mut random), &USER).start();
    let page = |family: &str| {
        let response = exporter.get("/-/metrics", &[LOGIN]);
        crate::page::Page::parse(response.text()).value(family, &[])
    };
    wait_until("samples", PATIENCE, || receiver.count() > 0);
    let started = page("process_start_time_seconds");
    let connection = || our_clients(&still).iter().map(|client| client["id"].clone()).collect::<Vec<_>>();
    let before = connection();
    assert_eq!(before.len(), 1);
    let mut good = 1;
    for number in 1..=100 {
        let text = document(number, &mut random);
        let is_broken = number % 3 == 0;
        let text = match (is_broken, random.u8(..3)) {
            (false, _) => text,
            (true, 0) => text.replace("services:", "servces:"),
            (true, 1) => text.replace("instances: [", "instances: "),
            (true, _) => text.replace("scrape_timeout: 500ms", "scrape_timeout: 9s"),
        };
        // By rename: nobody who follows the file reads half of it.
        let beside = folder.path().join("redvigil.yaml.new");
        std::fs::write(&beside, text).expect("written");
        std::fs::rename(&beside, folder.path().join("redvigil.yaml")).expect("renamed");
        let request = Request { method: "POST", path: "/-/reload", headers: &[LOGIN], body: b"" };
        let response = exporter.send(request);
        assert_eq!(response.status, if is_broken { 500 } else { 200 }, "{number}: {}", response.text());
        good = if is_broken { good } else { number % 900 + 1 };
        assert_eq!(setting(&exporter, "health.failures_to_down").0, json!(good), "the last good one");
        let succeeded = page("redvigil_config_last_reload_successful");
        assert_eq!(succeeded, Some(f64::from(u8::from(!is_broken))), "{number}");
    }
    assert_eq!((page("process_start_time_seconds"), connection()), (started, before), "nobody was restarted");
    assert_eq!(page("redvigil_panics_total"), Some(0.0));
    wait_until("all of it", PATIENCE, || output(&exporter)["samples"]["pending"] == 0);
    let samples = output(&exporter)["samples"].clone();
    assert_eq!((&samples["dropped"], &samples["recovered"]), (&json!(0), &json!(0)), "{samples}");
    // Of the one that no edit is about each moment came once, and the next one no later than two intervals.
    let stored = receiver.stored();
    let is_up = |sample: &&testbed::receiver::Sample| {
        sample.label("__name__") == Some("redis_up") && sample.label("service") == Some("still")
    };
    let moments: Vec<_> = stored.iter().filter(is_up).map(|sample| sample.timestamp).collect();
    assert!(moments.is_sorted_by(|one, next| one < next), "{moments:?}");
    // That none is left out is shown by `beat`, which knows how late the machine was.
    let config = json_of(&exporter, "/api/v1/config");
    assert_eq!(config["reload"]["ok"], true, "{}", config["reload"]);
    let text = config.to_string();
    assert!(!text.contains("hunter2"), "a secret is shown");
}

#[test]
fn a_change_of_the_file_is_in_effect_within_a_second_and_one_that_is_wrong_is_told() {
    let server = Server::start(Part::Redis7);
    let folder = tempfile::tempdir().expect("a folder");
    let services = format!("services: [{{name: a, instances: [\"{}\"]}}]\n", server.address());
    let exporter = with(folder.path(), &services, &["--export-client-list"]).start();
    let text = format!("{services}health: {{failures_to_down: 8}}\ncollect: {{client_list: false}}\n");
    let began = std::time::Instant::now();
    std::fs::write(folder.path().join("redvigil.yaml"), text).expect("written");
    wait_until("the change", PATIENCE, || setting(&exporter, "health.failures_to_down").0 == json!(8));
    let took = began.elapsed();
    println!("in effect after {} ms", took.as_millis());
    assert!(took.as_millis() < 2000, "{took:?}");
    let origin = setting(&exporter, "health.failures_to_down").1;
    assert!(origin.ends_with("redvigil.yaml:2"), "{origin}");
    // What a flag says goes before it, and that is told.
    assert_eq!(setting(&exporter, "collect.client_list"), (json!(true), "--export-client-list".to_owned()));
    wait_until("the warning", PATIENCE, || exporter.stderr().contains("overridden by --export-client-list"));
    std::fs::write(folder.path().join("redvigil.yaml"), "services: 7\n").expect("written");
    wait_until("the failure", PATIENCE, || json_of(&exporter, "/api/v1/config")["reload"]["ok"] == false);
    let landing = exporter.get("/", &[]);
    assert!(landing.text().contains("The last reload failed"), "{}", landing.text());
    assert_eq!(setting(&exporter, "health.failures_to_down").0, json!(8));
}

#[test]
fn settings_are_said_for_the_moment_by_those_who_say_who_they_are() {
    let (server, receiver) = (Server::start(Part::Redis7), Receiver::start());
    let folder = tempfile::tempdir().expect("a folder");
    let document = format!(
        "global: {{ scrape_interval: 100ms, scrape_timeout: 100ms }}\nservices:\n  - {{ name: a, instances: [\"{}\"] }}\n{}",
        server.address(),
        outputs_of(&receiver)
    );
    let paused = |is_paused: bool| json!({"outputs": {"store": {"paused": is_paused}}});
    let off = with(folder.path(), &document, &USER).start();
    assert_eq!(patch(&off, &paused(true)).0, 403);
    drop(off);
    let nobody = with(folder.path(), &document, &["--web.enable-runtime-api"]).start();
    let (status, answer) = patch(&nobody, &paused(true));
    assert_eq!(status, 403, "{answer}");
    assert!(
        answer["error"].as_str().is_some_and(|error| error.contains("needs users or client certificates"))
    );
    drop(nobody);

    let exporter = with(folder.path(), &document, &[USER[0], USER[1], "--web.enable-runtime-api"]).start();
    assert_eq!(exporter.get("/api/v1/runtime", &[]).status, 401);
    wait_until("samples", PATIENCE, || receiver.count() > 0);
    let (status, answer) = patch(&exporter, &json!({"scrape": {"per_host": 0}, "log": {"level": "debug"}}));
    assert_eq!((status, &answer["problems"][0]["key"]), (422, &json!("scrape.per_host")), "{answer}");
    assert_eq!(patch(&exporter, &json!({"web": {"service_label": "x"}})).0, 422);
    assert_eq!(json_of(&exporter, "/api/v1/runtime")["overrides"], json!({}));

    let accepted = || output(&exporter)["samples"]["accepted"].as_u64().expect("a number");
    assert_eq!(patch(&exporter, &paused(true)).0, 200);
    wait_until("the pause", PATIENCE, || output(&exporter)["state"] == "paused");
    // What was under way has ended once more is accepted.
    let before = accepted();
    wait_until("what comes meanwhile", PATIENCE, || accepted() > before);
    let (count, before) = (receiver.count(), accepted());
    wait_until("more that waits", PATIENCE, || accepted() > before + 200);
    assert_eq!(receiver.count(), count, "nothing is sent");
    assert_eq!(setting(&exporter, "outputs.store.paused"), (json!(true), "runtime".to_owned()));
    assert_eq!(patch(&exporter, &json!({"outputs": null})).0, 200);
    wait_until("all that waited", PATIENCE, || {
        receiver.count() > count && output(&exporter)["state"] == "live"
    });
    assert_eq!(output(&exporter)["samples"]["dropped"], 0);
    assert_eq!(patch(&exporter, &json!({"log": {"level": "debug"}})).0, 200);
    let more = document.replace("services:\n", "services:\n  - { name: b, instances: [\"127.0.0.1:1\"] }\n");
    std::fs::write(folder.path().join("redvigil.yaml"), more).expect("written");
    wait_until("lines of debugging", PATIENCE, || exporter.stderr().contains("level=debug"));
    let events = json_of(&exporter, "/api/v1/events").to_string();
    assert!(events.contains("outputs.store.paused is true for the moment"), "{events}");
}

/// What may be said for the moment: one value that it takes, and one that it does not.
fn tunables() -> Vec<(&'static str, Value, Value)> {
    vec![
        ("log.level", json!("debug"), json!("loud")),
        ("global.scrape_interval", json!("3s"), json!("0s")),
        ("global.scrape_timeout", json!("70ms"), json!("soon")),
        ("scrape.concurrency", json!(9), json!(0)),
        ("scrape.per_host", json!(3), json!(-1)),
        ("health.failures_to_down", json!(7), json!(0)),
        ("health.failover_max", json!("9s"), json!(true)),
        ("breaker.pause", json!("2s"), json!("x")),
        ("breaker.max_pause", json!("5s"), json!("x")),
        ("collect.client_list", json!(true), json!("maybe")),
        ("outputs.store.paused", json!(true), json!(7)),
    ]
}

/// A patch that says this of a key.
fn saying(key: &str, value: &Value) -> Value {
    key.rsplit('.').fold(value.clone(), |inner, word| json!({ word: inner }))
}

#[test]
fn whatever_may_be_said_for_the_moment_counts_through_a_reload_and_is_gone_at_the_next_start() {
    let (server, receiver) = (Server::start(Part::Redis7), Receiver::start());
    let folder = tempfile::tempdir().expect("a folder");
    let document = format!(
        "global: {{ scrape_interval: 100ms, scrape_timeout: 100ms }}\nservices:\n  - {{ name: a, instances: [\"{}\"] }}\n{}",
        server.address(),
        outputs_of(&receiver).replace("queue:", "paused: false\n    queue:")
    );
    let flags = [USER[0], USER[1], "--web.enable-runtime-api"];
    let mut exporter = with(folder.path(), &document, &flags).start();
    for (key, good, bad) in tunables() {
        let before = setting(&exporter, key);
        let body = saying(key, &bad).to_string();
        let request =
            |headers| Request { method: "PATCH", path: "/api/v1/runtime", headers, body: body.as_bytes() };
        assert_eq!(exporter.send(request(&[])).status, 401, "{key}");
        let (status, answer) = patch(&exporter, &saying(key, &bad));
        let named = answer["problems"][0]["key"].as_str().unwrap_or_default();
        // A value of an output is judged with the whole document, where it stands in a list.
        let place = key.replace("outputs.store.", "outputs[0].");
        assert_eq!((status, named), (422, &*place), "{answer}");
        assert_eq!(setting(&exporter, key), before, "nothing of it was taken");
        let (status, answer) = patch(&exporter, &saying(key, &good));
        assert_eq!(status, 200, "{key}: {answer}");
        assert_eq!(setting(&exporter, key), (good.clone(), "runtime".to_owned()), "{key}");
        let pointer = format!("/overrides/{}", key.replace('.', "/"));
        assert_eq!(json_of(&exporter, "/api/v1/runtime").pointer(&pointer), Some(&good));
        let events = json_of(&exporter, "/api/v1/events").to_string();
        assert!(events.contains(&format!("{key} is ")), "{key}: {events}");
    }
    // Another document beneath leaves all of that.
    std::fs::write(folder.path().join("redvigil.yaml"), format!("{document}discover: {{ interval: 9s }}\n"))
        .expect("written");
    wait_until("the reload", PATIENCE, || setting(&exporter, "discover.interval").0 == json!("9s"));
    for (key, good, _) in tunables() {
        assert_eq!(setting(&exporter, key), (good, "runtime".to_owned()), "{key} after a reload");
    }
    exporter.stop();
    drop(exporter);
    let again = with(folder.path(), &document, &flags).start();
    assert_eq!(json_of(&again, "/api/v1/runtime")["overrides"], json!({}));
    for (key, good, _) in tunables() {
        let (value, origin) = setting(&again, key);
        assert!(value != good && origin != "runtime", "{key} is {value} by {origin}");
    }
}

#[test]
fn a_password_that_is_changed_in_its_file_is_the_one_that_is_used_next() {
    let server = Server::start(Part::Redis7);
    server.ok(&["ACL", "SETUSER", "watcher", "on", ">hunter1", "~*", "&*", "+@all"]);
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hunter1\n").expect("written");
    let document = format!(
        "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}\nservices: [{{ name: a, instances: [\"{}\"] }}]\n\
         credentials: [{{ name: p, match: {{ services: [a] }}, username: watcher, password_file: secret }}]\n",
        server.address()
    );
    let exporter = with(folder.path(), &document, &[]).start();
    let target = || json_of(&exporter, "/api/v1/targets")["targets"][0].clone();
    wait_until("the server", PATIENCE, || target()["up"] == true);
    server.ok(&["ACL", "SETUSER", "watcher", "resetpass", ">hunter3"]);
    server.ok(&["CLIENT", "KILL", "USER", "watcher"]);
    wait_until("the refusal", PATIENCE, || target()["up"] == false);
    std::fs::write(&secret, "hunter3\n").expect("written");
    wait_until("the server again", PATIENCE, || target()["up"] == true);
    let text = json_of(&exporter, "/api/v1/config").to_string() + &exporter.stderr();
    assert!(!text.contains("hunter1") && !text.contains("hunter3"), "a secret is shown");
    wait_until("the reload", PATIENCE, || {
        json_of(&exporter, "/api/v1/config")["reload"]["source"] == "named_file"
    });
}

#[test]
fn certificates_that_are_renewed_in_their_files_are_used_by_the_next_connection() {
    let (old, new) = (Certificates::generate(), Certificates::generate());
    let server = |of: &Certificates| Server::builder(Part::Redis7).tls(of, true).start();
    let (before, after) = (server(&old), server(&new));
    let folder = tempfile::tempdir().expect("a folder");
    let renew = |from: &Certificates| {
        for (file, to) in
            [(&from.ca, "ca.pem"), (&from.client.certificate, "cert.pem"), (&from.client.key, "key.pem")]
        {
            std::fs::copy(file, folder.path().join(to)).expect("copied");
        }
    };
    renew(&old);
    let document = format!(
        "global: {{ scrape_interval: 300ms, scrape_timeout: 300ms }}\nservices:\n  - {{ name: before, instances: [\"{}\"] }}\n  \
         - {{ name: after, instances: [\"{}\"] }}\ncredentials:\n  - name: p\n    match: {{ services: [before, after] }}\n    \
         tls: {{ ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem }}\n",
        before.address(),
        after.address()
    );
    let exporter = with(folder.path(), &document, &[]).start();
    let started = || {
        exporter
            .get("/-/metrics", &[])
            .text()
            .lines()
            .find(|line| line.starts_with("process_start"))
            .map(str::to_owned)
    };
    let up = |service: &str| {
        let targets = json_of(&exporter, "/api/v1/targets")["targets"].as_array().expect("a list").clone();
        let target = targets.into_iter().find(|target| target["service"] == service).unwrap_or_default();
        (target["up"].clone(), target["reason"].clone())
    };
    wait_until("one of two", PATIENCE, || {
        up("before").0 == true && up("after") == (json!(false), json!("tls"))
    });
    let began = started();
    let connection = our_clients(&before);
    renew(&new);
    wait_until("the other one", PATIENCE, || up("after").0 == true);
    assert_eq!(up("before").0, true, "who is connected stays so");
    assert_eq!(our_clients(&before).len(), connection.len());
    assert_eq!(our_clients(&before)[0]["id"], connection[0]["id"], "the connection of before is the same");
    assert_eq!(started(), began);
}
