//! A configuration that somebody else keeps: at the start, while it runs, and when it is away.

use crate::{PATIENCE, exporter};
use serde_json::Value;
use std::time::{Duration, Instant};
use testbed::{Consul, Etcd, Exporter, Nacos, nacos::Api, wait_until};

const KEY: &str = "/redvigil/config";

/// A document with this interval; the secret is to be seen nowhere.
fn document(interval: &str) -> String {
    format!(
        "global: {{ scrape_interval: {interval} }}\n\
         credentials: [ {{ name: all, match: {{ hosts: [127.0.0.1] }}, password: hunter2 }} ]\n\
         services: [ {{ name: orders, instances: [\"127.0.0.1:1\"] }} ]\n"
    )
}

fn page(exporter: &Exporter) -> Value {
    let answer = exporter.get("/api/v1/config", &[]);
    assert!(!answer.text().contains("hunter"), "{}", answer.text());
    serde_json::from_str(answer.text()).expect("JSON")
}

/// What the interval is, and who says so.
fn interval(exporter: &Exporter) -> (String, String) {
    let config = page(exporter);
    let settings = config["settings"].as_array().expect("a list").iter();
    let setting =
        settings.clone().find(|setting| setting["key"] == "global.scrape_interval").expect("a setting");
    let text = |name: &str| setting[name].as_str().expect("a text").to_owned();
    (text("value"), text("origin"))
}

/// Changes the document; how long until that is in effect.
#[expect(clippy::print_stderr, reason = "that is where the number is read")]
fn changes(exporter: &Exporter, source: &str, to: &str, change: impl FnOnce(&str)) {
    let began = Instant::now();
    change(&document(to));
    wait_until("the change to be in effect", PATIENCE, || interval(exporter).0 == to);
    let took = began.elapsed();
    eprintln!("{source}: in effect after {} ms", took.as_millis());
    // A second is promised; a busy machine gets more.
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn what_etcd_keeps_goes_before_the_file_and_is_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("redvigil.yaml");
    std::fs::write(&file, "global: { scrape_interval: 9s, labels: { env: prod } }\n").expect("written");
    let mut etcd = Etcd::start();
    etcd.put(KEY, &document("7s"), 0);
    let source = format!("etcd://127.0.0.1:{}{KEY}", etcd.port());
    let flags = [
        format!("--config.file={}", file.display()),
        format!("--config.source={source}"),
        format!("--storage.path={}", folder.path().join("state").display()),
    ];
    let mut exporter = exporter(&flags).start();
    assert_eq!(interval(&exporter), ("7s".to_owned(), format!("{source}:1")));
    changes(&exporter, "etcd", "3s", |text| _ = etcd.put(KEY, text, 0));
    // A broken one changes nothing, and is told with its line.
    etcd.put(KEY, "global: { scrape_interval: soon }\n", 0);
    wait_until("the broken one to be told", PATIENCE, || page(&exporter)["reload"]["ok"] == false);
    let reason = page(&exporter)["reload"]["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.contains(&format!("{source}:1: global.scrape_interval")), "{reason}");
    assert_eq!(interval(&exporter).0, "3s");
    assert!(exporter.get("/-/metrics", &[]).text().contains("redvigil_config_last_reload_successful 0"));
    changes(&exporter, "etcd", "4s", |text| _ = etcd.put(KEY, text, 0));
    assert!(exporter.get("/-/metrics", &[]).text().contains("redvigil_config_last_reload_successful 1"));

    // It is on the disk a moment after it is in effect.
    let kept = folder.path().join("state/config/last-good.yaml");
    wait_until("the last good one to be kept", PATIENCE, || {
        std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("scrape_interval: 4s"))
    });
    // A start while it is away goes on with the last good one, and follows it when it is back.
    assert_eq!(exporter.stop().code(), Some(0), "{}", exporter.stderr());
    etcd.kill();
    let again = crate::exporter(&flags).start();
    assert_eq!(interval(&again).0, "4s");
    assert!(again.stderr().contains("the remote document of before is used"), "{}", again.stderr());
    assert!(!again.stderr().contains("hunter2"), "{}", again.stderr());
    etcd.restart();
    wait_until("etcd to take it", PATIENCE, || etcd.try_put(KEY, &document("5s"), 0).is_ok());
    wait_until("it to be followed again", PATIENCE, || interval(&again).0 == "5s");
}

#[test]
fn a_start_without_any_document_says_so_in_a_line_and_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = [
        "--config.source=etcd://127.0.0.1:1/redvigil/config".to_owned(),
        format!("--storage.path={}", folder.path().display()),
    ];
    let ended = exporter(&flags).run_to_end(Duration::from_secs(30));
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(
        last.starts_with(
            "redvigil: --config.source: etcd://127.0.0.1:1/redvigil/config: etcd cannot be reached"
        ),
        "{last}"
    );
}

#[test]
fn consul_and_nacos_are_followed_the_same_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = |name: &str| format!("--storage.path={}", folder.path().join(name).display());
    let consul = Consul::start();
    consul.put("redvigil/config", document("7s").as_bytes());
    let source = format!("--config.source=consul://127.0.0.1:{}/redvigil/config", consul.port());
    let of_consul = exporter(&[source, storage("consul")]).start();
    assert_eq!(interval(&of_consul).0, "7s");
    changes(&of_consul, "consul", "3s", |text| consul.put("redvigil/config", text.as_bytes()));
    for api in [Api::V1, Api::V3] {
        let nacos = Nacos::start(api);
        nacos.publish("redvigil.yaml", "DEFAULT_GROUP", "", &document("7s"));
        let source = format!("--config.source=nacos://127.0.0.1:{}/redvigil.yaml", nacos.port());
        let of_nacos = exporter(&[source, storage(&format!("nacos-{api:?}"))]).start();
        assert_eq!(interval(&of_nacos).0, "7s");
        changes(&of_nacos, "nacos", "3s", |text| nacos.publish("redvigil.yaml", "DEFAULT_GROUP", "", text));
    }
}
