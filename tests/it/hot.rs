//! Every key of the configuration file: a change of it counts at once, or the log, `/` and `/api/v1/config` say that it does not.
//!
//! One process takes one document after the other. Each step is a document, and what is to be seen of each key that changed with it:
//! it must not be there before, and be there soon after. A key that nobody could see from outside is listed with the reason.
//!
//! What a newcomer would get wrong: a new key fails here until it has a step, or a reason ([`NOT_SEEN`]).

mod followed;
mod marked;
mod unseen;

use crate::page::Page;
use crate::{PATIENCE, exporter, our_clients};
use redvigil::config::document::reader::Row;
use redvigil::config::document::rows;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use testbed::consul::Consul;
use testbed::etcd::Etcd;
use testbed::http::Request;
use testbed::receiver::Receiver;
use testbed::{Exporter, Part, Server, wait_until};
use unseen::NOT_SEEN;

/// Everything that is looked at.
struct World {
    exporter: Exporter,
    folder: tempfile::TempDir,
    server: Server,
    receiver: Receiver,
    otlp: Receiver,
    etcd: Etcd,
    consul: Consul,
}

type Seen = fn(&World) -> bool;

impl World {
    fn text(&self, path: &str) -> String {
        self.exporter.get(path, &[]).text().to_owned()
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path)).unwrap_or_default()
    }

    /// Whether some sample of the page has all of this in its line.
    fn has(&self, words: &[&str]) -> bool {
        self.text("/metrics").lines().any(|line| words.iter().all(|word| line.contains(word)))
    }

    fn etcd_has(&self, key: &str, value: &str) -> bool {
        self.etcd.all(key).iter().any(|kv| kv.key == key && kv.value.contains(value))
    }

    fn output(&self, name: &str) -> Value {
        let outputs = self.json("/api/v1/outputs");
        let found = outputs["outputs"].as_array().into_iter().flatten().find(|output| output["name"] == name);
        found.cloned().unwrap_or_default()
    }

    /// Whether the receiver was sent a request of that kind.
    fn was_sent(&self, is_it: impl Fn(&testbed::receiver::Received) -> bool) -> bool {
        self.receiver.requests().iter().any(is_it)
    }

    fn was_pushed(&self, label: &str, value: &str) -> bool {
        self.receiver.stored().iter().rev().take(5000).any(|sample| sample.label(label) == Some(value))
    }
}

/// What all documents have; `{…}` is put in.
struct Document {
    global: &'static str,
    service: &'static str,
    more: String,
}

impl Document {
    fn write(&self, folder: &Path, server: &Server) {
        let text = format!(
            "global: {{ scrape_timeout: 100ms, {} }}\nservices:\n  - name: a\n    instances: [\"{}\"]\n{}\
             {}\n",
            self.global,
            server.address(),
            self.service,
            self.more
        );
        std::fs::write(folder.join("redvigil.yaml"), text).expect("written");
    }
}

impl World {
    /// Takes a document, and looks for what is to be seen of it.
    fn step(&self, told: &mut BTreeSet<String>, document: &Document, rows: &[(&str, Seen)]) {
        for (key, seen) in rows {
            assert!(!seen(self), "{key}: it is there before the change");
        }
        document.write(self.folder.path(), &self.server);
        let reload = Request { method: "POST", path: "/-/reload", headers: &[], body: b"" };
        let answer = self.exporter.send(reload);
        assert_eq!(answer.status, 200, "{}", answer.text());
        for (key, seen) in rows {
            wait_until(key, PATIENCE, || seen(self));
            told.insert((*key).to_owned());
        }
        assert_eq!(self.json("/api/v1/config")["pending_restart"], serde_json::json!([]));
    }
}

/// Every key that is no mapping of others, with whether it is marked `restart`.
fn leaves(rows: &[Row], before: &str, all: &mut BTreeMap<String, bool>) {
    for row in rows {
        let key = format!("{before}{}", row.key);
        // What services say of it is what is said at the top.
        if row.nested.is_empty() || key == "services[].collect" {
            all.insert(key, row.restart);
        } else {
            leaves(&row.nested, &format!("{key}{}.", if row.each { "[]" } else { "" }), all);
        }
    }
}

#[test]
fn every_key_that_is_not_marked_counts_at_once() {
    let server = Server::start(Part::Redis7);
    server.ok(&["CONFIG", "SET", "masterauth", "x"]);
    server.ok(&["ACL", "SETUSER", "watcher", "on", ">hunter1", "~*", "&*", "+@all"]);
    server.ok(&["ACL", "SETUSER", "other", "on", ">hunter2", "~*", "&*", "+@all"]);
    for key in ["k:1", "k:2", "single"] {
        server.ok(&["SET", key, "text"]);
    }
    for key in ["stream", "lone"] {
        server.ok(&["XADD", key, "*", "a", "b"]);
    }
    server.ok(&["XGROUP", "CREATE", "stream", "g", "0"]);
    server.ok(&["XREADGROUP", "GROUP", "g", "me", "COUNT", "1", "STREAMS", "stream", ">"]);
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write("script.lua", "return {'answer', '42'}");
    write("password", "hunter2");
    write("token", "from-a-file");
    write("targets.json", "[{\"targets\": [\"127.0.0.99:2\"]}]");
    let first = Document {
        global: "scrape_interval: 1h",
        service: "",
        more: "  - { name: dead, instances: [\"127.0.0.1:1\"] }\nhealth: { failures_to_down: 1000 }".into(),
    };
    first.write(folder.path(), &server);
    let flags = [
        format!("--config.file={}", folder.path().join("redvigil.yaml").display()),
        format!("--storage.path={}", folder.path().join("state").display()),
    ];
    let world = World {
        exporter: exporter(&flags).start(),
        folder,
        server,
        receiver: Receiver::start(),
        otlp: Receiver::start(),
        etcd: Etcd::start(),
        consul: Consul::double(None),
    };
    wait_until("the first tick", PATIENCE, || world.has(&["redis_up{", "instance=\"127"]));
    let mut told = BTreeSet::new();

    // What is collected, and under which names.
    let collect = "collect: { check_keys: [\"k:*\"], check_single_keys: [single], count_keys: [\"k:*\"], check_streams: [\"str*\"], \
         check_single_streams: [lone], check_key_groups: [\"^(k):\"], scripts: [script.lua], client_list: true, client_port: true, \
         config_metrics: true, redact_config_metrics: false, latency_histograms: false, system_metrics: true, \
         rdb_file_size_metric: true, metrics_for_empty_databases: false, instance_role_label: true }\n\
         scrape: { key_scans: { interval: 1s }, allow: [\"127.0.0.1\"] }\n\
         web: { service_label: svc, instance_label: who, external_address: \"redvigil.example:9\" }\n\
         log: { level: debug }\n";
    let second = Document {
        global: "scrape_interval: 100ms, labels: { env: hot }",
        service: "    labels: { team: x }\n    replication_lag_bytes: 7\n",
        more: format!(
            "  - {{ name: dead, instances: [\"127.0.0.1:1\", \"127.0.0.98:1\"] }}\n  - {{ name: listed, file_sd: {{ files: [targets.json] }} }}\n\
             credentials: [{{ name: p, match: {{ services: [a] }}, username: watcher, password: hunter1 }}]\n\
             health: {{ failures_to_down: 1 }}\n{collect}"
        ),
    };
    world.step(
        &mut told,
        &second,
        &[
            ("global.labels", |w| w.has(&["redis_up{", "env=\"hot\""])),
            ("services[].name", |w| w.has(&["svc=\"listed\""])),
            ("services[].file_sd.files", |w| w.text("/api/v1/services").contains("127.0.0.99:2")),
            ("services[].instances", |w| w.text("/api/v1/services").contains("127.0.0.98:1")),
            ("services[].labels", |w| w.has(&["redis_up{", "team=\"x\""])),
            ("credentials[].name", |w| w.text("/api/v1/config").contains("\"credentials.p.username\"")),
            ("credentials[].match.services", |w| {
                our_clients(&w.server).iter().any(|c| c["user"] == "watcher")
            }),
            ("credentials[].username", |w| our_clients(&w.server).iter().any(|c| c["user"] == "watcher")),
            ("credentials[].password", |w| our_clients(&w.server).iter().any(|c| c["user"] == "watcher")),
            ("health.failures_to_down", |w| w.text("/api/v1/targets").contains("\"health\":\"down\"")),
            ("scrape.allow", |w| w.exporter.get("/scrape?target=127.0.0.1:3", &[]).status == 200),
            ("web.service_label", |w| w.has(&["redis_up{", "svc=\"a\""])),
            ("web.instance_label", |w| w.has(&["redis_up{", "who=\"127"])),
            ("web.external_address", |w| w.text("/sd/targets").contains("redvigil.example:9")),
            ("log.level", |w| w.exporter.stderr().contains("level=debug")),
            ("collect.check_keys", |w| w.has(&["redis_key_size{", "key=\"k:1\""])),
            ("collect.check_single_keys", |w| w.has(&["key=\"single\""])),
            ("collect.count_keys", |w| w.has(&["redis_keys_count{"])),
            ("collect.check_streams", |w| w.has(&["redis_stream_length{", "stream=\"stream\""])),
            ("collect.check_single_streams", |w| w.has(&["redis_stream_length{", "stream=\"lone\""])),
            ("collect.check_key_groups", |w| w.has(&["redis_key_group_count{"])),
            ("collect.scripts", |w| w.has(&["redis_script_values{"])),
            ("collect.client_list", |w| w.has(&["redis_connected_client_info{"])),
            ("collect.client_port", |w| w.has(&["redis_connected_client_info{", "port=\""])),
            ("collect.config_metrics", |w| w.has(&["redis_config_key_value{"])),
            ("collect.redact_config_metrics", |w| w.has(&["redis_config_key_value{", "masterauth"])),
            ("collect.latency_histograms", |w| {
                w.has(&["redis_up{"]) && !w.has(&["redis_commands_latencies_usec"])
            }),
            ("collect.system_metrics", |w| w.has(&["redis_total_system_memory_bytes"])),
            ("collect.rdb_file_size_metric", |w| w.has(&["redis_rdb_current_size_bytes"])),
            ("collect.metrics_for_empty_databases", |w| {
                w.has(&["redis_db_keys{", "db=\"db0\""]) && !w.has(&["redis_db_keys{", "db=\"db1\""])
            }),
            ("collect.instance_role_label", |w| w.has(&["instance_role=\"master\""])),
            ("scrape.key_scans.interval", |w| w.has(&["redvigil_key_scan_age_seconds{"])),
        ],
    );

    // Other values of keys that had one.
    let third = Document {
        global: "scrape_interval: 100ms",
        service: "",
        more: "credentials: [{ name: q, match: { hosts: [\"127.0.0.1\"] }, username: other, password_file: password }]\n\
               collect: { config_command: \"-\", check_streams: [\"str*\"], streams_exclude_consumer_metrics: true, check_keys: [\"k:*\"], \
               disable_exporting_key_values: true }\nscrape: { key_scans: { interval: 1s } }\n"
            .into(),
    };
    world.step(
        &mut told,
        &third,
        &[
            ("credentials[].match.hosts", |w| our_clients(&w.server).iter().any(|c| c["user"] == "other")),
            ("credentials[].password_file", |w| our_clients(&w.server).iter().any(|c| c["user"] == "other")),
            ("collect.config_command", |w| w.has(&["redis_up{"]) && !w.has(&["redis_config_maxmemory"])),
            ("collect.streams_exclude_consumer_metrics", |w| {
                w.has(&["redis_stream_length{"]) && !w.has(&["redis_stream_group_consumer_messages_pending"])
            }),
            ("collect.disable_exporting_key_values", |w| {
                w.has(&["redis_key_size{"])
                    && !w.has(&["redis_key_value{", "k:1"])
                    && !w.has(&["redis_key_value_as_string"])
            }),
        ],
    );

    // Where it is pushed to.
    let output = |more: &str, queue: &str| {
        format!(
            "outputs:\n  - name: store\n    queue: {{ min_free: 1MiB, max_age: 55m, linger: 20ms, {queue} }}\n{more}"
        )
    };
    let store = format!(
        "    remote_write: {{ url: \"{}\", headers: {{ X-Hot: first }}, bearer_token: told }}\n",
        world.receiver.url("/first")
    );
    let fourth = Document { global: "scrape_interval: 100ms", service: "", more: output(&store, "") };
    world.step(
        &mut told,
        &fourth,
        &[
            ("outputs[].name", |w| w.output("store")["name"] == "store"),
            ("outputs[].remote_write.url", |w| w.was_sent(|r| r.path == "/first")),
            ("outputs[].remote_write.headers", |w| w.was_sent(|r| r.header("x-hot") == Some("first"))),
            ("outputs[].remote_write.bearer_token", |w| {
                w.was_sent(|r| r.header("authorization") == Some("Bearer told"))
            }),
        ],
    );
    let store = format!(
        "    remote_write: {{ url: \"{}\", version: \"1.0\", bearer_token_file: token }}\n    external_labels: {{ cluster: eu }}\n",
        world.receiver.url("/second")
    );
    let fifth = Document {
        global: "scrape_interval: 100ms, job: other",
        service: "",
        more: output(&store, "lanes: 2, max_bytes: 64MiB"),
    };
    world.step(
        &mut told,
        &fifth,
        &[
            ("global.job", |w| w.was_pushed("job", "other")),
            ("outputs[].external_labels", |w| w.was_pushed("cluster", "eu")),
            ("outputs[].remote_write.version", |w| {
                w.output("store")["format"].as_str().is_some_and(|f| f.contains('1'))
            }),
            ("outputs[].remote_write.bearer_token_file", |w| {
                w.was_sent(|r| r.header("authorization") == Some("Bearer from-a-file"))
            }),
            ("outputs[].queue.lanes", |w| {
                // Three, where the one of before had something left.
                w.output("store")["lanes"].as_array().is_some_and(|lanes| lanes.len() >= 2)
            }),
            ("outputs[].queue.max_bytes", |w| w.output("store")["queue"]["capacity_bytes"] == 64 << 20),
        ],
    );
    let store = format!(
        "    remote_write: {{ url: \"{}\", basic_auth: {{ username: me, password: x }} }}\n    paused: true\n  - name: otel\n    \
         otlp: {{ endpoint: \"{}\", protocol: http }}\n    queue: {{ durability: memory, memory: 1MiB }}\n",
        world.receiver.url("/third"),
        world.otlp.url("/")
    );
    let sixth = Document { global: "scrape_interval: 100ms", service: "", more: output(&store, "") };
    world.step(
        &mut told,
        &sixth,
        &[
            ("outputs[].paused", |w| w.output("store")["state"] == "paused"),
            ("outputs[].otlp.endpoint", |w| w.otlp.count() > 0),
            ("outputs[].otlp.protocol", |w| w.output("otel")["kind"] == "otlp_http"),
            ("outputs[].queue.durability", |w| {
                w.output("otel")["name"] == "otel" && !w.folder.path().join("state/queue/otel").exists()
            }),
        ],
    );
    let seventh = Document {
        more: output(&store.replace("    paused: true\n", ""), ""),
        global: "scrape_interval: 100ms",
        service: "",
    };
    world.step(
        &mut told,
        &seventh,
        &[
            ("outputs[].remote_write.basic_auth.username", |w| {
                w.was_sent(|r| r.header("authorization") == Some("Basic bWU6eA=="))
            }),
            ("outputs[].remote_write.basic_auth.password", |w| {
                w.was_sent(|r| r.header("authorization") == Some("Basic bWU6eA=="))
            }),
        ],
    );

    // Where we register.
    let registry = |own: &str, etcd: &str, sharding: &str| {
        format!(
            "registry:\n  {own}\n  etcd: {{ endpoints: [\"{}\"], ttl: 3s, {etcd} }}\n  sharding: {{ settle: 0s, {sharding} }}\n",
            world.etcd.url()
        )
    };
    let eighth = Document {
        global: "scrape_interval: 100ms",
        service: "",
        more: registry("advertise: \"http://a:1\"", "prefix: /first/", ""),
    };
    world.step(
        &mut told,
        &eighth,
        &[
            ("registry.etcd.endpoints", |w| w.json("/api/v1/peers")["etcd_up"] == true),
            ("registry.etcd.prefix", |w| w.etcd_has("/first/a:1", "{")),
            ("registry.advertise", |w| w.json("/api/v1/peers")["peers"][0]["url"] == "http://a:1/"),
        ],
    );
    let ninth = Document {
        global: "scrape_interval: 100ms",
        service: "",
        more: registry(
            "advertise: \"http://b:1\"\n  zone: z\n  weight: 7\n  file_sd: peers.json",
            "value: url",
            "cluster: hot",
        ) + &format!(
            "  consul: {{ url: \"http://127.0.0.1:{}\", service: vigil, tags: [hot] }}\n",
            world.consul.port()
        ),
    };
    world.step(
        &mut told,
        &ninth,
        &[
            ("registry.zone", |w| w.json("/api/v1/peers")["peers"][0]["zone"] == "z"),
            ("registry.weight", |w| w.json("/api/v1/peers")["peers"][0]["weight"] == 7),
            ("registry.file_sd", |w| w.folder.path().join("peers.json").exists()),
            ("registry.etcd.value", |w| w.etcd_has("/services/exporter/b:1", "http://b:1")),
            ("registry.sharding.cluster", |w| w.etcd_has("/redvigil/hot/peers/b:1", "")),
            ("registry.consul.url", |w| !w.consul.passing("vigil").is_empty()),
            ("registry.consul.service", |w| !w.consul.passing("vigil").is_empty()),
            ("registry.consul.tags", |w| format!("{:?}", w.consul.passing("vigil")).contains("hot")),
        ],
    );
    let tenth = Document {
        global: "scrape_interval: 100ms",
        service: "",
        more: registry("advertise: \"http://b:1\"", "", "claims_prefix: /redvigil/elsewhere/"),
    };
    world.step(
        &mut told,
        &tenth,
        &[("registry.sharding.claims_prefix", |w| !w.etcd.all("/redvigil/elsewhere/").is_empty())],
    );
    let last = Document {
        global: "scrape_interval: 100ms",
        service: "",
        more: registry("advertise: \"http://b:1\"", "", "enabled: false"),
    };
    let has_claims: Seen =
        |w| w.json("/api/v1/peers")["registered"] == true && w.etcd.all("/redvigil/elsewhere/").is_empty();
    world.step(&mut told, &last, &[("registry.sharding.enabled", has_claims)]);
    // By the first document nobody would have been asked again for an hour.
    told.insert("global.scrape_interval".into());
    every_key_is_accounted_for(told);
    assert_eq!(Page::parse(&world.text("/-/metrics")).value("redvigil_panics_total", &[]), Some(0.0));
}

/// Each key was seen, is marked, or is one that cannot be seen.
fn every_key_is_accounted_for(told: BTreeSet<String>) {
    let mut all = BTreeMap::new();
    leaves(&rows(), "", &mut all);
    let is_not_seen =
        |key: &str| NOT_SEEN.iter().flat_map(|(keys, _)| *keys).any(|known| key.starts_with(known));
    let left: Vec<_> = (all.iter())
        .filter(|(key, is_marked)| !*is_marked && !told.contains(*key) && !is_not_seen(key))
        .map(|(key, _)| key)
        .collect();
    assert!(left.is_empty(), "nobody has looked at {left:?}");
    let unknown: Vec<_> = told.iter().filter(|key| !all.contains_key(*key)).collect();
    assert!(unknown.is_empty(), "there is no {unknown:?}");
    let names = NOT_SEEN.iter().flat_map(|(keys, _)| *keys);
    let stale: Vec<_> = names.filter(|name| !all.keys().any(|key| key.starts_with(**name))).collect();
    assert!(stale.is_empty(), "there is no {stale:?}");
}
