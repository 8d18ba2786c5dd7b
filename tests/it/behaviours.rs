//! What the exporter that ours replaces is known to do, where no other test shows it.
//!
//! The appendix of `docs/compatibility.md` numbers these behaviours and names the test of each.

use crate::page::{Labels, Page};
use crate::{PATIENCE, encoded, exporter, metrics, on_demand, scrape, watching};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use testbed::{Action, Certificates, Cluster, Part, ScriptedServer, Server, scripted};

/// One of everything that the flags of [`Wanted`] ask for.
fn fill(server: &Server) {
    for command in [
        "SET number 1234.56",
        "XADD stream 1-1 a 1",
        "XGROUP CREATE stream group 0",
        "XGROUP CREATECONSUMER stream group alice",
        "SELECT 2",
        "SET there 1 EX 1000",
        "SELECT 0",
    ] {
        server.ok(&command.split(' ').collect::<Vec<_>>());
    }
}

/// What is asked about keys: each a flag, and a parameter of `/scrape`.
const KEYS: [(&str, &str); 3] = [
    ("check-single-keys", "number,db2=there"),
    ("count-keys", "number*"),
    ("check-single-streams", "stream"),
];

/// What every one of the pages has.
const SHOWN: &[&str] = &[
    "redis_commands_processed_total",
    "redis_config_maxclients",
    "redis_config_maxmemory",
    "redis_connected_clients",
    "redis_cpu_sys_seconds_total",
    "redis_db_avg_ttl_seconds",
    "redis_db_keys",
    "redis_db_keys_expiring",
    "redis_exporter_build_info",
    "redis_exporter_last_scrape_connect_time_seconds",
    "redis_instance_info",
    "redis_key_size",
    "redis_key_value",
    "redis_keys_count",
    "redis_loading_dump_file",
    "redis_script_result",
    "redis_script_values",
    "redis_slowlog_last_id",
    "redis_slowlog_length",
    "redis_start_time_seconds",
    "redis_stream_group_consumer_messages_pending",
    "redis_stream_group_lag",
    "redis_stream_length",
    "redis_uptime_in_seconds",
];

/// A page about a server that was filled; the families that are about it.
#[track_caller]
fn assert_filled(page: &Page) -> BTreeSet<String> {
    page.assert_healthy();
    for family in SHOWN {
        assert!(page.has(family), "no {family}");
    }
    let key = |name: &str, key: &str| page.value(name, &[("db", "db0"), ("key", key)]);
    assert_eq!(key("redis_key_size", "number"), Some(7.0));
    assert_eq!(key("redis_key_value", "number"), Some(1234.56));
    assert_eq!(key("redis_keys_count", "number*"), Some(1.0));
    assert_eq!(page.value("redis_db_keys", &[("db", "db0")]), Some(2.0));
    assert_eq!(page.value("redis_db_keys_expiring", &[("db", "db2")]), Some(1.0));
    let info = page.families["redis_instance_info"].samples.keys().next().expect("one sample");
    assert_eq!((&*info.1["redis_mode"], &*info.1["maxmemory_policy"]), ("standalone", "noeviction"));
    let commands = page.families["redis_commands_total"].samples.keys();
    assert!(commands.clone().any(|(_, labels)| labels["cmd"].starts_with("config")));
    page.names().into_iter().filter(|name| name.starts_with("redis_")).map(str::to_owned).collect()
}

/// However a server is named, by a flag or in a request, with a password or without.
#[test]
fn every_way_to_write_an_address_gives_the_same_families() {
    let script = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    fs::write(script.path(), "return {'a', '1'}").expect("it can be written");
    let script = format!("--script={}", script.path().display());
    for password in [None, Some("sesame")] {
        let mut builder = Server::builder(Part::Redis7);
        if let Some(password) = password {
            builder = builder.password(password);
        }
        let server = builder.start();
        fill(&server);
        let login: Vec<_> = password.iter().map(|p| format!("--redis.password={p}")).collect();
        let mut flags = vec![script.clone()];
        flags.extend(login);
        let requests = on_demand(&flags);
        let query: String = KEYS.iter().map(|(name, list)| format!("&{name}={}", encoded(list))).collect();
        flags.extend(KEYS.iter().map(|(name, list)| format!("--{name}={list}")));
        // Some families exist only once a command of ours was counted.
        let warm = exporter(&flags).args(&[format!("--redis.addr={}", server.url())]).start();
        metrics(&warm);
        let expected = assert_filled(&metrics(&warm));
        let port = server.port();
        for host in ["127.0.0.1", "localhost"] {
            for scheme in ["", "redis://", "tcp://", "valkey://"] {
                let address = format!("{scheme}{host}:{port}");
                let by_flag = exporter(&flags).args(&[format!("--redis.addr={address}")]).start();
                assert_eq!(assert_filled(&metrics(&by_flag)), expected, "{address}");
                let path = format!("/scrape?target={}{query}", encoded(&address));
                let by_request = Page::parse(requests.get(&path, &[]).text());
                assert_eq!(assert_filled(&by_request), expected, "{address}");
            }
        }
    }
}

#[test]
fn redis_only_metrics_leave_out_what_is_about_the_exporter() {
    let server = Server::start(Part::Redis7);
    let addr = format!("--redis.addr={}", server.url());
    let about_us = |page: &Page| -> BTreeSet<String> {
        let ours = |name: &&str| !name.starts_with("redis_") || *name == "redis_exporter_build_info";
        page.names().into_iter().filter(ours).map(str::to_owned).collect()
    };
    let only = about_us(&metrics(&exporter(&[&addr, "--redis-only-metrics"]).start()));
    assert!(only.is_empty(), "{only:?}");
    // The flag for Go's metrics is accepted, but there are none.
    let all = about_us(&metrics(&exporter(&[&addr, "--include-go-runtime-metrics"]).start()));
    let process = all.iter().filter(|name| name.starts_with("process_")).count();
    assert!((1..20).contains(&process), "{all:?}");
    assert!(all.contains("redis_exporter_build_info") && all.contains("redvigil_build_info"), "{all:?}");
    assert!(!all.iter().any(|name| name.starts_with("go_")), "{all:?}");
}

#[test]
fn a_socket_that_is_not_there_is_an_error_and_a_scrape() {
    let page = metrics(&watching("unix:///nowhere/redis.sock"));
    page.assert_down("refused");
    assert_eq!(page.value("redis_exporter_scrapes_total", &[]), Some(1.0));
}

#[test]
fn a_wrong_password_in_the_file_is_up_0() {
    let server = Server::builder(Part::Redis7).password("sesame").start();
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    for (password, up) in [("guess", 0.0), ("sesame", 1.0)] {
        fs::write(file.path(), format!(r#"{{"{}": "{password}"}}"#, server.url()))
            .expect("it can be written");
        let exporter = on_demand(&[format!("--redis.password-file={}", file.path().display())]);
        assert_eq!(scrape(&exporter, &server.address()).up(), up);
    }
}

#[test]
fn a_cluster_with_a_password_is_read_by_that_of_its_start_address() {
    let cluster = Cluster::start(Part::Redis7, 3, 0);
    for i in 0..30 {
        cluster.set(&format!("key:{i}"), "1");
    }
    for node in &cluster.nodes {
        node.ok(&["CONFIG", "SET", "masterauth", "sesame"]);
        node.ok(&["CONFIG", "SET", "requirepass", "sesame"]);
    }
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let check = |entry: &str, mode: &[&str], expected: Option<f64>| {
        fs::write(file.path(), format!(r#"{{"{entry}": "sesame"}}"#)).expect("it can be written");
        let address = format!("--redis.addr={}", cluster.nodes[0].url());
        let file = format!("--redis.password-file={}", file.path().display());
        let exporter = exporter(&[&address, &file]).args(mode).start();
        let page = metrics(&exporter);
        match expected {
            None => page.assert_down("auth"),
            Some(_) => page.assert_healthy(),
        }
        let count = page.value("redis_keys_count", &[("db", "db0"), ("key", "key:*")]);
        assert_eq!(count.filter(|_| !mode.is_empty()), expected.filter(|_| !mode.is_empty()));
        if !mode.is_empty() {
            let found = exporter.get("/discover-cluster-nodes", &[]);
            let nodes = found.text().matches("\"redis://127.0.0.1:").count();
            let wanted = if expected.is_some() { (200, 3) } else { (500, 0) };
            assert_eq!((found.status, nodes), wanted, "{}", found.text());
        }
    };
    let cluster_mode = ["--is-cluster", "--count-keys=key:*"];
    check(&cluster.nodes[0].url(), &[], Some(30.0));
    check(&cluster.nodes[0].url(), &cluster_mode, Some(30.0));
    check("redis://127.0.0.1:1", &[], None);
    check("redis://127.0.0.1:1", &cluster_mode, None);
}

#[test]
fn the_server_name_of_flag_and_request_is_sent_in_the_clear_of_the_handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let (said, heard) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut hello = vec![0; 4096];
            let length = stream.and_then(|mut stream| stream.read(&mut hello)).unwrap_or_default();
            hello.truncate(length);
            if said.send(hello).is_err() {
                return;
            }
        }
    });
    let check = |flags: &[&str], query: &str, expected: Option<&str>| {
        let target = encoded(&format!("rediss://127.0.0.1:{port}"));
        let response = on_demand(flags).get(&format!("/scrape?target={target}{query}"), &[]);
        assert_eq!(Page::parse(response.text()).up(), 0.0);
        let hello = heard.recv_timeout(PATIENCE).expect("a handshake");
        let names: Vec<_> = ["right.example", "wrong.example"]
            .into_iter()
            .filter(|name| hello.windows(name.len()).any(|bytes| bytes == name.as_bytes()))
            .collect();
        assert_eq!(names, expected.into_iter().collect::<Vec<_>>(), "{flags:?} {query}");
    };
    let wrong = "--tls-server-name=wrong.example";
    check(&[], "", None);
    check(&["--tls-server-name=right.example"], "", Some("right.example"));
    check(&[wrong], "", Some("wrong.example"));
    check(&[wrong], "&tls_server_name=right.example", Some("right.example"));
    check(&[wrong], "&tls-server-name=right.example", Some("right.example"));
    check(&[wrong], "&tls-server-name=wrong.example&tls_server_name=right.example", Some("right.example"));
}

#[test]
fn tls_with_a_client_certificate_works_unverified_under_both_schemes() {
    let certificates = Certificates::generate();
    let server = Server::builder(Part::Valkey8).tls(&certificates, true).start();
    let exporter = on_demand(&[
        format!("--tls-client-cert-file={}", certificates.client.certificate.display()),
        format!("--tls-client-key-file={}", certificates.client.key.display()),
        "--skip-tls-verification".to_owned(),
    ]);
    for scheme in ["rediss", "valkeys"] {
        let target = format!("{scheme}://127.0.0.1:{}", server.port());
        scrape(&exporter, &target);
        let page = scrape(&exporter, &target);
        page.assert_healthy();
        for family in ["redis_db_keys", "redis_commands_total", "redis_commands_duration_seconds_total"] {
            assert!(page.has(family), "{scheme}: {family}");
        }
    }
}

#[test]
fn settings_and_empty_databases_follow_their_flags() {
    let server = Server::start(Part::Redis7);
    let page = |flags: &[&str]| {
        let page = metrics(&exporter(&[format!("--redis.addr={}", server.url())]).args(flags).start());
        page.assert_healthy();
        page
    };
    let appendonly =
        |page: &Page| page.value("redis_config_key_value", &[("key", "appendonly"), ("value", "no")]);
    let tenth = |page: &Page| page.value("redis_db_keys", &[("db", "db10")]);

    let plain = page(&[]);
    assert_eq!((appendonly(&plain), plain.has("redis_config_value")), (None, false));
    assert!(!plain.has("redis_total_system_memory_bytes"));
    for class in ["normal", "pubsub", "slave"] {
        for limit in ["hard", "soft"] {
            let labels = [("class", class), ("limit", limit)];
            assert!(plain.value("redis_config_client_output_buffer_limit_bytes", &labels).is_some());
        }
        let labels = [("class", class), ("limit", "soft")];
        let family = "redis_config_client_output_buffer_limit_overcome_seconds";
        assert!(plain.value(family, &labels).is_some(), "{class}");
    }
    assert_eq!(plain.value("redis_config_repl_backlog_size", &[]), Some(1_048_576.0));
    assert_eq!(tenth(&plain), Some(0.0));

    let all = page(&["--include-config-metrics", "--include-system-metrics"]);
    assert_eq!(appendonly(&all), Some(1.0));
    assert!(all.value("redis_total_system_memory_bytes", &[]) > Some(1e6));
    let never = page(&["--include-config-metrics", "--config-command=-", "--include-rdb-file-size-metric"]);
    assert_eq!((appendonly(&never), never.has("redis_config_maxmemory")), (None, false));
    assert!(!never.has("redis_rdb_current_size_bytes"));
    let file_size = page(&["--include-rdb-file-size-metric"]);
    assert!(file_size.value("redis_rdb_current_size_bytes", &[]).is_some());

    let full = page(&["--include-metrics-for-empty-databases=false"]);
    assert_eq!((tenth(&full), full.has("redis_db_keys")), (None, false));
    assert!(!page(&["--exclude-latency-histogram-metrics"]).has("redis_commands_latencies_usec"));
}

#[test]
fn a_plain_server_says_nothing_of_other_kinds_of_server() {
    let server = Server::start(Part::Redis7);
    let exporter = exporter(&[format!("--redis.addr={}", server.url())])
        .args(&["--is-tile38", "--include-sentinel-peer-info", "--include-config-metrics"])
        .start();
    let page = metrics(&exporter);
    assert_eq!((page.up(), page.error()), (1.0, ""));
    assert!(page.has("redis_config_key_value") && page.has("redis_slowlog_length"));
    for kind in ["tile38", "sentinel", "storage_provider"] {
        assert!(!page.names().iter().any(|name| name.contains(kind)), "{kind}");
    }
}

/// What `--append-instance-role-label` leaves alone, as it is about the exporter.
const WITHOUT_ROLE: &[&str] = &[
    "redis_exporter_build_info",
    "redis_exporter_last_scrape_connect_time_seconds",
    "redis_exporter_last_scrape_ping_time_seconds",
    "redis_exporter_scrape_duration_seconds",
    "redis_exporter_scrapes_total",
    "redis_target_scrape_request_errors_total",
];

#[test]
fn the_role_is_a_label_of_all_that_is_said_of_a_server() {
    let roles = |page: &Page| -> BTreeSet<Option<String>> {
        let of_server = |name: &&String| name.starts_with("redis_") && !WITHOUT_ROLE.contains(&name.as_str());
        let families = page.families.iter().filter(|(name, _)| of_server(name));
        let role = |labels: &Labels| labels.get("instance_role").cloned();
        families.flat_map(|(_, family)| family.samples.keys().map(|(_, labels)| role(labels))).collect()
    };
    let said = |role: &str| BTreeSet::from([Some(role.to_owned())]);
    let mut master = Server::start(Part::Redis7);
    let replica = Server::builder(Part::Redis7).replica_of(&master).start();
    replica.wait_replicated();
    assert_eq!(roles(&metrics(&watching(&master.url()))), BTreeSet::from([None]));
    let flags = ["--append-instance-role-label", "--ping-on-connect", "--check-single-keys=k"];
    let exporter = exporter(&flags).args(&[format!("--redis.addr={}", master.url())]).start();
    let page = metrics(&exporter);
    assert_eq!(page.value("redis_up", &[("instance_role", "master")]), Some(1.0));
    assert!(page.has("redis_commands_latencies_usec") && page.has("redis_key_size"));
    assert_eq!(roles(&page), said("master"));
    for name in WITHOUT_ROLE {
        assert!(page.families[*name].samples.keys().all(|(_, labels)| !labels.contains_key("instance_role")));
    }
    assert_eq!(roles(&scrape(&exporter, &replica.url())), said("slave"));
    // What is down keeps the role that it had, so that its series go on.
    master.kill();
    let page = metrics(&exporter);
    assert_eq!(page.value("redis_up", &[("instance_role", "master")]), Some(0.0));
    assert_eq!(roles(&page), said("master"));
}

#[test]
fn refused_and_failed_commands_are_counted_from_6_2_on() {
    for part in [Part::Redis62, Part::Valkey9] {
        let server = Server::start(part);
        server.ok(&["SET", "text", "x"]);
        assert!(server.command(&["INCR", "text"]).is_error());
        assert!(server.command(&["GET"]).is_error());
        let page = metrics(&watching(&server.url()));
        page.assert_healthy();
        let of = |name: &str, cmd: &str| page.value(name, &[("cmd", cmd)]);
        assert_eq!(of("redis_commands_total", "set"), Some(1.0));
        assert!(of("redis_commands_duration_seconds_total", "set") > Some(0.0));
        assert_eq!(of("redis_commands_failed_calls_total", "incr"), Some(1.0));
        assert_eq!(of("redis_commands_rejected_calls_total", "get"), Some(1.0));
        assert_eq!(page.value("redis_errors_total", &[("err", "ERR")]), Some(2.0));
    }
}

#[test]
fn an_upgraded_server_shows_its_new_labels_at_the_next_scrape() {
    let upgraded = Arc::new(AtomicBool::new(false));
    let now = upgraded.clone();
    let server = ScriptedServer::start(move |command| {
        match command[0].as_slice() {
        b"INFO" if now.load(Ordering::SeqCst) => Action::bulk(
            String::from_utf8_lossy(scripted::INFO).replace(
                "redis_version:7.0.15",
                "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.0\r\nvalkey_release_stage:ga",
            ),
        ),
        _ => Action::Default,
    }
    });
    let exporter = watching(&server.url());
    let labels = || {
        let page = metrics(&exporter);
        let ((_, labels), _) = page.families["redis_instance_info"].samples.first_key_value().expect("one");
        ["redis_version", "valkey_version", "valkey_release_stage"].map(|name| labels.get(name).cloned())
    };
    assert_eq!(labels(), [Some("7.0.15".to_owned()), None, None]);
    upgraded.store(true, Ordering::SeqCst);
    assert_eq!(labels(), [Some("7.2.4".to_owned()), Some("8.0.0".to_owned()), Some("ga".to_owned())]);
}

#[test]
fn slow_commands_are_a_spike_and_an_entry_until_they_are_forgotten() {
    let server = Server::builder(Part::Redis7)
        .config("latency-monitor-threshold 100")
        .config("slowlog-log-slower-than 100000")
        .start();
    let exporter = watching(&server.url());
    let slowlog =
        |page: &Page| ["redis_slowlog_length", "redis_slowlog_last_id"].map(|name| page.value(name, &[]));
    let before = metrics(&exporter);
    assert_eq!(slowlog(&before)[0], Some(0.0));
    assert!(!before.has("redis_latency_spike_duration_seconds"));
    server.ok(&["DEBUG", "SLEEP", "0.2"]);
    server.ok(&["DEBUG", "SLEEP", "0.2"]);
    let after = metrics(&exporter);
    let spike = after.value("redis_latency_spike_duration_seconds", &[("event_name", "command")]);
    assert!(spike.is_some_and(|seconds| (0.2..1.0).contains(&seconds)), "{spike:?}");
    assert_eq!(slowlog(&after), [Some(2.0), Some(1.0)]);
    assert!(after.value("redis_last_slow_execution_duration_seconds", &[]) >= Some(0.2));
    // Since 7.0, every command has its run times.
    for family in ["redis_commands_latencies_usec", "redis_latency_percentiles_usec"] {
        assert!(after.has(family), "{family}");
    }
    server.ok(&["LATENCY", "RESET"]);
    server.ok(&["SLOWLOG", "RESET"]);
    let reset = metrics(&exporter);
    assert!(!reset.has("redis_latency_spike_duration_seconds"));
    assert_eq!(slowlog(&reset)[0], Some(0.0));
}

#[test]
fn the_command_log_of_valkey_has_its_lengths_and_thresholds() {
    let lengths = |page: &Page| {
        ["slow", "large_request", "large_reply"]
            .map(|kind| page.value(&format!("redis_commandlog_{kind}_length"), &[]))
    };
    for part in [Part::Valkey8, Part::Valkey9] {
        let server = Server::start(part);
        let exporter = watching(&server.url());
        assert_eq!(lengths(&metrics(&exporter)), [Some(0.0); 3]);
        for (setting, value) in [
            ("commandlog-execution-slower-than", "10000"),
            ("commandlog-request-larger-than", "200"),
            ("commandlog-reply-larger-than", "200"),
        ] {
            server.ok(&["CONFIG", "SET", setting, value]);
        }
        server.ok(&["DEBUG", "SLEEP", "0.02"]);
        server.ok(&["SET", "large", &"x".repeat(300)]);
        server.ok(&["GET", "large"]);
        let page = metrics(&exporter);
        page.assert_healthy();
        // Replies to ourselves are large too.
        assert!(lengths(&page).iter().all(|length| *length >= Some(1.0)), "{:?}", lengths(&page));
        for (family, value) in [
            ("execution_slower_than", 10_000.0),
            ("request_larger_than", 200.0),
            ("reply_larger_than", 200.0),
        ] {
            assert_eq!(page.value(&format!("redis_commandlog_{family}"), &[]), Some(value), "{family}");
        }
        server.ok(&["CONFIG", "SET", "commandlog-reply-larger-than", "-1"]);
        for kind in ["slow", "large-request", "large-reply"] {
            server.ok(&["COMMANDLOG", "RESET", kind]);
        }
        assert_eq!(lengths(&metrics(&exporter)), [Some(0.0); 3]);
    }
}

#[test]
fn servers_without_a_command_log_are_not_bothered_for_it() {
    for part in [Part::Redis7, Part::Redis8] {
        let server = Server::start(part);
        let exporter = watching(&server.url());
        for _ in 0..3 {
            let page = metrics(&exporter);
            assert!(!page.names().iter().any(|name| name.contains("commandlog")));
            assert_eq!(page.value("redis_total_error_replies", &[]), Some(0.0));
        }
    }
}

#[test]
fn a_deleted_key_stays_with_size_0_and_a_database_that_is_none_has_no_keys() {
    let server = Server::start(Part::Redis7);
    server.ok(&["SET", "text", "abc"]);
    let flags = ["--check-single-keys=text,db999=text", "--redis.addr"];
    let exporter = exporter(&flags).args(&[server.url()]).start();
    let size = |page: &Page, db| page.value("redis_key_size", &[("db", db), ("key", "text")]);
    for expected in [3.0, 0.0] {
        let page = metrics(&exporter);
        assert_eq!((page.up(), page.error()), (1.0, ""));
        assert_eq!((size(&page, "db0"), size(&page, "db999")), (Some(expected), None));
        server.ok(&["DEL", "text"]);
    }
}

#[test]
fn an_array_has_the_size_that_the_server_counts() {
    let server = ScriptedServer::start(|command| match command[0].as_slice() {
        b"TYPE" => Action::reply("+array\r\n"),
        b"ARCOUNT" => Action::reply(":3\r\n"),
        _ => Action::Default,
    });
    let exporter = exporter(&["--check-single-keys=sparse", "--redis.addr"]).args(&[server.url()]).start();
    let size = metrics(&exporter).value("redis_key_size", &[("db", "db0"), ("key", "sparse")]);
    assert_eq!(size, Some(3.0));
}

#[test]
fn what_a_server_does_not_know_of_a_stream_is_0() {
    for (part, knows) in [(Part::Redis62, false), (Part::Redis7, true), (Part::Valkey9, true)] {
        let server = Server::start(part);
        for id in ["1-1", "2-1", "3-1"] {
            server.ok(&["XADD", "s", id, "a", "1"]);
        }
        server.ok(&["XGROUP", "CREATE", "s", "g", "0"]);
        server.ok(&["XREADGROUP", "GROUP", "g", "alice", "COUNT", "1", "STREAMS", "s", ">"]);
        let exporter = exporter(&["--check-streams=s*", "--redis.addr"]).args(&[server.url()]).start();
        let group = || {
            let page = metrics(&exporter);
            page.assert_healthy();
            let of_group =
                |name| page.value(name, &[("db", "db0"), ("group", "g"), ("stream", "s")]).expect("a number");
            let deleted = page.value("redis_stream_max_deleted_entry_id", &[("db", "db0"), ("stream", "s")]);
            (
                of_group("redis_stream_group_entries_read"),
                of_group("redis_stream_group_lag"),
                deleted.expect("a number"),
            )
        };
        assert_eq!(group(), if knows { (1.0, 2.0, 0.0) } else { (0.0, 0.0, 0.0) }, "{}", part.name());
        // With a hole in what is still to be read, the lag cannot be known: nil.
        server.ok(&["XDEL", "s", "2-1"]);
        assert_eq!(group(), if knows { (1.0, 0.0, 2.0) } else { (0.0, 0.0, 0.0) }, "{}", part.name());
    }
}

#[test]
fn clients_are_shown_only_with_their_flags() {
    for (part, shard_channels, watched) in
        [(Part::Redis62, false, false), (Part::Redis7, true, false), (Part::Redis8, true, true)]
    {
        let server = Server::start(part);
        let page = |flags: &[&str]| {
            let page = metrics(&exporter(&[format!("--redis.addr={}", server.url())]).args(flags).start());
            page.assert_healthy();
            page
        };
        let families = |page: &Page| {
            page.names().into_iter().filter(|name| name.starts_with("redis_connected_client_")).count()
        };
        let ports = |page: &Page| {
            let clients = page.families["redis_connected_client_info"].samples.keys();
            clients.filter(|(_, labels)| labels.contains_key("port")).count()
        };
        assert_eq!(families(&page(&[])), 0);
        assert_eq!(families(&page(&["--export-client-port"])), 0);
        let clients = page(&["--export-client-list"]);
        assert_eq!(
            (families(&clients), ports(&clients)),
            (11 + shard_channels as usize + watched as usize, 0)
        );
        assert_eq!(clients.has("redis_connected_client_shard_channel_watched_keys"), watched);
        assert!(ports(&page(&["--export-client-list", "--export-client-port"])) > 0);
    }
}

/// Redis 8 has a module of its own, for vector sets, and Debian's build none for search.
#[test]
fn modules_and_indexes_are_shown_only_with_their_flags() {
    let server = Server::start(Part::Redis8);
    let page =
        |flags: &[&str]| metrics(&exporter(&[format!("--redis.addr={}", server.url())]).args(flags).start());
    assert!(!page(&[]).has("redis_module_info"));
    let modules = page(&["--include-modules-metrics"]);
    modules.assert_healthy();
    assert!(modules.has("redis_module_info"));
    let indexes = page(&["--include-search-indexes-metrics"]);
    assert_eq!((indexes.up(), indexes.error()), (1.0, ""));
    assert!(!indexes.names().iter().any(|name| name.starts_with("redis_search_index_")));
}
