//! Every server that we know, every way to reach one, and the connection that is kept.

use crate::{PATIENCE, exporter, metrics, on_demand, our_clients, page::Page, scrape, watching};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Mutex;
use testbed::{
    Action, Certificates, Cluster, Part, ScriptedServer, SentinelSet, Server, scripted, wait_until,
};

/// What every data node shows.
const EVERYWHERE: &[&str] = &[
    "redis_commands_processed_total",
    "redis_connected_clients",
    "redis_memory_used_bytes",
    "redis_slowlog_length",
    "redis_uptime_in_seconds",
];

fn check_server(part: Part) {
    let server = Server::start(part);
    let exporter = watching(&server.url());
    let page = metrics(&exporter);
    page.assert_healthy();
    for family in EVERYWHERE {
        assert!(page.has(family), "{}: no {family}", part.name());
    }
    // The second collection runs over the kept connection and knows the server from the start.
    let again = metrics(&exporter);
    again.assert_healthy();
    assert_eq!(page.collectors(), again.collectors());
    assert_eq!(our_clients(&server).len(), 1, "{}", part.name());
    assert_eq!(
        server.info("stats")["total_error_replies"],
        "0",
        "{}: we were refused something",
        part.name()
    );
}

#[test]
fn redis_6_2_is_read() {
    check_server(Part::Redis62);
}

#[test]
fn redis_7_is_read() {
    check_server(Part::Redis7);
}

#[test]
fn redis_8_is_read() {
    check_server(Part::Redis8);
}

#[test]
fn redis_8_2_is_read() {
    if Part::Redis82.or_skip("servers::redis_8_2_is_read").is_some() {
        check_server(Part::Redis82);
    }
}

#[test]
fn valkey_8_is_read() {
    check_server(Part::Valkey8);
}

#[test]
fn valkey_9_is_read() {
    check_server(Part::Valkey9);
}

#[test]
fn a_replica_is_read_with_and_without_its_master() {
    let mut master = Server::start(Part::Redis7);
    let replica = Server::builder(Part::Redis7).replica_of(&master).start();
    replica.wait_replicated();
    let exporter = watching(&replica.url());
    metrics(&exporter).assert_healthy();
    master.kill();
    replica.wait_for_info("replication", "master_link_status", "down", PATIENCE);
    metrics(&exporter).assert_healthy();
}

#[test]
fn nodes_of_a_cluster_are_read_each_for_itself() {
    let cluster = Cluster::start(Part::Valkey8, 3, 0);
    let exporter = on_demand::<&str>(&[]);
    for node in &cluster.nodes {
        scrape(&exporter, &node.url()).assert_healthy();
    }
}

#[test]
fn a_sentinel_is_read_without_asking_for_what_it_has_not() {
    let set = SentinelSet::start(Part::Redis7);
    let exporter = on_demand::<&str>(&[]);
    for server in set.sentinels.iter().chain(&set.nodes) {
        let page = scrape(&exporter, &server.url());
        page.assert_healthy();
    }
    let sentinel = scrape(&exporter, &set.sentinels[0].url());
    assert!(!sentinel.has("redis_slowlog_length"));
    assert!(!sentinel.collectors().contains_key("slowlog"));
}

fn path(path: &std::path::Path) -> String {
    path.display().to_string()
}

#[test]
fn tls_trusts_whom_it_is_told_to() {
    let certificates = Certificates::generate_for(&["localhost"]);
    let others = Certificates::generate();
    let server = Server::builder(Part::Redis7).tls(&certificates, false).start();
    let by_name = format!("rediss://localhost:{}", server.port());
    let by_ip = format!("rediss://127.0.0.1:{}", server.port());
    let ca = format!("--tls-ca-cert-file={}", path(&certificates.ca));
    let wrong_ca = format!("--tls-ca-cert-file={}", path(&others.ca));
    let check = |args: &[&str], target: &str, expected: &str| {
        let page = scrape(&on_demand(args), target);
        match expected {
            "" => page.assert_healthy(),
            kind => page.assert_down(kind),
        }
    };
    check(&[&ca], &by_name, "");
    check(&[&ca], &by_name.replace("rediss", "valkeys"), "");
    check(&[&ca], &by_ip, "tls");
    check(&[&ca, "--tls-server-name=localhost"], &by_ip, "");
    check(&[&ca, "--tls-server-name=elsewhere"], &by_name, "tls");
    check(&[&wrong_ca], &by_name, "tls");
    check(&[&wrong_ca, "--skip-tls-verification"], &by_ip, "");
    check(&[], &by_name, "tls");
    check(&[&ca], &by_name.replace("rediss", "redis"), "closed");
    // A server without TLS waits for more of what it takes for a command.
    let plain = Server::start(Part::Redis7);
    check(&[&ca, "--connection-timeout=300ms"], &format!("rediss://localhost:{}", plain.port()), "timeout");
}

#[test]
fn tls_shows_a_client_certificate_where_it_has_one() {
    let certificates = Certificates::generate();
    for part in [Part::Redis7, Part::Valkey8] {
        let server = Server::builder(part).tls(&certificates, true).start();
        let ca = format!("--tls-ca-cert-file={}", path(&certificates.ca));
        let certificate = format!("--tls-client-cert-file={}", path(&certificates.client.certificate));
        let key = format!("--tls-client-key-file={}", path(&certificates.client.key));
        let with = on_demand(&[&ca, &certificate, &key]);
        scrape(&with, &server.url()).assert_healthy();
        scrape(&with, &server.url()).assert_healthy();
        scrape(&on_demand(&[&ca]), &server.url()).assert_down("tls");
    }
}

#[test]
fn a_renewed_certificate_needs_no_restart() {
    let certificates = Certificates::generate();
    let renewed = Certificates::generate();
    let server = Server::builder(Part::Redis7).tls(&renewed, false).start();
    let exporter = on_demand(&[format!("--tls-ca-cert-file={}", path(&certificates.ca))]);
    scrape(&exporter, &server.url()).assert_down("tls");
    std::fs::copy(&renewed.ca, &certificates.ca).expect("a temporary file can be written");
    // Files are told apart by time and size: a copy within the same tick of the clock has another size or
    // the next question sees it.
    wait_until("the new authority to be trusted", PATIENCE, || scrape(&exporter, &server.url()).up() == 1.0);
}

#[test]
fn a_user_is_sent_from_wherever_it_was_given() {
    let server = Server::builder(Part::Redis7)
        .user("metrics", "on >sesame ~* &* +@all")
        .user("default", "on >other ~* &* +@all")
        .command_as("default", "other")
        .start();
    let address = server.address();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("passwords.json");
    std::fs::write(
        &file,
        format!(r#"{{"redis://metrics@{address}": "sesame", "valkey://{address}/0": "other"}}"#),
    )
    .expect("a temporary file can be written");
    let file = format!("--redis.password-file={}", path(&file));
    let check = |args: &[&str], expected: &str| {
        let exporter = exporter(args).start();
        let page = metrics(&exporter);
        if expected.is_empty() {
            page.assert_down("auth");
        } else {
            page.assert_healthy();
            let clients = our_clients(&server);
            assert_eq!(
                clients.iter().map(|c| c["user"].as_str()).collect::<Vec<_>>(),
                [expected],
                "{args:?}"
            );
        }
        drop(exporter);
        wait_until("the connection to be closed", PATIENCE, || our_clients(&server).is_empty());
    };
    let addr = format!("--redis.addr={address}");
    check(&[&format!("--redis.addr=redis://metrics:sesame@{address}")], "metrics");
    check(&[&format!("--redis.addr=redis://:other@{address}")], "default");
    check(&[&addr, "--redis.user=metrics", "--redis.password=sesame"], "metrics");
    check(&[&addr, "--redis.password=other"], "default");
    check(&[&addr, "--redis.user=metrics", &file], "metrics");
    check(&[&format!("--redis.addr=redis://metrics@{address}"), &file], "metrics");
    check(&[&addr, &file], "default");
    check(&[&addr, "--redis.user=metrics", "--redis.password=other"], "");
    check(&[&addr], "");
}

#[test]
fn a_password_alone_is_enough() {
    for part in [Part::Redis62, Part::Valkey9] {
        let server = Server::builder(part).password("sesame").start();
        let addr = format!("--redis.addr={}", server.url());
        metrics(&exporter(&[&addr, "--redis.password=sesame"]).start()).assert_healthy();
        metrics(&exporter(&[addr]).env("REDIS_PASSWORD", "sesame").start()).assert_healthy();
    }
}

#[test]
fn a_password_may_hold_any_character() {
    let server = Server::builder(Part::Redis7).user("me@home", "on >p@ss:w/rd%# ~* &* +@all").start();
    let exporter = watching(&format!("redis://me%40home:p%40ss%3Aw%2Frd%25%23@{}", server.address()));
    metrics(&exporter).assert_healthy();
    assert_eq!(our_clients(&server)[0]["user"], "me@home");
}

#[test]
fn a_unix_socket_is_an_address() {
    let server = Server::builder(Part::Redis7).unix_socket().start();
    let exporter = watching(&format!("unix://{}", path(server.socket())));
    metrics(&exporter).assert_healthy();
    assert!(our_clients(&server)[0]["addr"].starts_with(&path(server.socket())));
    let nobody = watching("unix:///nowhere/redis.sock");
    metrics(&nobody).assert_down("refused");
}

#[test]
fn ipv6_is_an_address() {
    if TcpListener::bind(("::1", 0)).is_err() {
        testbed::skipped("servers::ipv6_is_an_address", "this machine has no ::1");
        return;
    }
    let server = Server::builder(Part::Redis7).config("bind 127.0.0.1 ::1").start();
    let exporter = watching(&format!("redis://[::1]:{}", server.port()));
    metrics(&exporter).assert_healthy();
    assert!(our_clients(&server)[0]["addr"].starts_with("[::1]:"));
}

#[test]
fn a_path_chooses_the_database() {
    let server = Server::start(Part::Redis7);
    let exporter = watching(&format!("{}/3", server.url()));
    metrics(&exporter).assert_healthy();
    assert_eq!(our_clients(&server)[0]["db"], "3");
    metrics(&watching(&format!("{}/999", server.url()))).assert_down("command");
}

#[test]
fn nobody_there_is_said_at_once() {
    let port = testbed::Port::take();
    metrics(&watching(&format!("127.0.0.1:{}", port.number()))).assert_down("refused");
    metrics(&watching("redis://no-such-host.invalid:6379")).assert_down("dns");
}

#[test]
fn a_server_without_hello_is_spoken_to_in_resp2() {
    for (part, password) in [(Part::Redis62, ""), (Part::Redis7, "sesame"), (Part::Valkey8, "sesame")] {
        let mut builder = Server::builder(part).config("rename-command HELLO \"\"");
        if !password.is_empty() {
            builder = builder.password(password);
        }
        let server = builder.start();
        let exporter = exporter(&[format!("--redis.addr=redis://:{password}@{}", server.address())]).start();
        metrics(&exporter).assert_healthy();
        metrics(&exporter).assert_healthy();
        let ours = our_clients(&server);
        assert_eq!(ours.len(), 1);
        // CLIENT LIST says so from 7.0 on.
        assert_eq!(ours[0].get("resp").map_or("2", String::as_str), "2");
    }
}

#[test]
fn a_server_that_denies_hello_is_spoken_to_in_resp2() {
    for refusal in
        [scripted::NOPERM, "-NOPROTO unsupported protocol version\r\n", "-ERR unknown command 'HELLO'\r\n"]
    {
        let server = ScriptedServer::start(move |command| match command[0].as_slice() {
            b"HELLO" => Action::reply(refusal),
            _ => Action::Default,
        });
        let exporter = watching(&format!("redis://me:sesame@{}", server.address()));
        metrics(&exporter).assert_healthy();
        assert!(
            server.commands().contains(&["AUTH", "me", "sesame"].map(String::from).to_vec()),
            "{refusal}"
        );
        assert_eq!((server.count("HELLO"), server.accepted()), (1, 1), "{refusal}");
    }
}

#[test]
fn we_say_who_we_are_unless_told_not_to() {
    let server = Server::start(Part::Redis7);
    let named = watching(&server.url());
    metrics(&named).assert_healthy();
    assert_eq!(our_clients(&server).len(), 1);
    drop(named);
    let nameless =
        exporter(&[format!("--redis.addr={}", server.url()), "--set-client-name=false".into()]).start();
    metrics(&nameless).assert_healthy();
    wait_until("the named connection to be closed", PATIENCE, || our_clients(&server).is_empty());
}

#[test]
fn ping_time_is_exported_where_it_is_wanted() {
    let server = Server::start(Part::Redis7);
    let family = "redis_exporter_last_scrape_ping_time_seconds";
    assert!(!metrics(&watching(&server.url())).has(family));
    let pinging = exporter(&[format!("--redis.addr={}", server.url()), "--ping-on-connect".into()]).start();
    for _ in 0..2 {
        let took = metrics(&pinging).value(family, &[]).expect("it was wanted");
        assert!(took > 0.0 && took < 5.0, "{took}");
    }
}

fn connections_received(server: &Server) -> u64 {
    server.info("stats")["total_connections_received"].parse().expect("a number")
}

#[test]
fn one_connection_serves_twenty_scrapes() {
    for part in [Part::Redis62, Part::Valkey9] {
        let server = Server::start(part);
        let exporter = watching(&server.url());
        metrics(&exporter).assert_healthy();
        let before = connections_received(&server);
        let mut scrapes = vec![];
        for _ in 0..20 {
            let page = metrics(&exporter);
            page.assert_healthy();
            scrapes.push(page.value("redis_exporter_scrapes_total", &[]).expect("a counter"));
        }
        assert_eq!(connections_received(&server), before, "{}", part.name());
        assert_eq!(scrapes, (2..=21).map(f64::from).collect::<Vec<_>>());
    }
}

#[test]
fn a_collection_is_at_most_two_round_trips() {
    let valkey = String::from_utf8_lossy(scripted::INFO)
        .replace("redis_version:7.0.15", "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.0.0");
    let cluster = String::from_utf8_lossy(scripted::INFO).replace("cluster_enabled:0", "cluster_enabled:1");
    for info in [String::from_utf8_lossy(scripted::INFO).into_owned(), valkey, cluster] {
        let server = ScriptedServer::builder().info(&info).start(|_| Action::Default);
        let exporter = watching(&server.url());
        let mut before = 0;
        for scrape in 0..4 {
            assert_eq!(metrics(&exporter).up(), 1.0);
            let all = server.round_trips();
            // The first begins with HELLO.
            let allowed = if scrape == 0 { 3 } else { 2 };
            assert!(
                all - before <= allowed,
                "scrape {scrape} took {}: {:?}",
                all - before,
                server.commands()
            );
            before = all;
        }
        assert_eq!(server.accepted(), 1);
    }
}

#[test]
fn a_restarted_server_is_up_at_the_first_scrape() {
    for part in [Part::Redis7, Part::Valkey8] {
        let mut server = Server::start(part);
        let exporter = watching(&server.url());
        metrics(&exporter).assert_healthy();
        server.restart();
        metrics(&exporter).assert_healthy();
        server.kill();
        metrics(&exporter).assert_down("refused");
        server.restart();
        metrics(&exporter).assert_healthy();
    }
}

#[test]
fn a_connection_that_the_server_gave_up_is_replaced_unseen() {
    let server = Server::builder(Part::Redis7).start();
    let exporter = watching(&server.url());
    for scrape in 1..=3 {
        metrics(&exporter).assert_healthy();
        // As `timeout 1` does, but at once.
        let killed = server.ok(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).int();
        assert!(killed >= 1, "scrape {scrape} left no connection open");
    }
}

/// A server that refuses SLOWLOG, and whose run_id the test can change.
fn refusing(run_id: &'static Mutex<String>) -> ScriptedServer {
    ScriptedServer::start(|command| match command[0].as_slice() {
        b"INFO" => {
            let text = String::from_utf8_lossy(scripted::INFO).into_owned();
            let id = run_id.lock().expect("no test panics while it holds this");
            let line = text.lines().find(|line| line.starts_with("run_id:")).expect("recorded").to_owned();
            Action::bulk(text.replace(&line, &format!("run_id:{id}")))
        }
        b"SLOWLOG" => Action::reply("-ERR unknown command 'SLOWLOG', with args beginning with: \r\n"),
        _ => Action::Default,
    })
}

#[test]
fn what_was_refused_is_asked_again_of_another_process() {
    static RUN_ID: Mutex<String> = Mutex::new(String::new());
    *RUN_ID.lock().expect("nobody else holds it yet") = "a".repeat(40);
    let server = refusing(&RUN_ID);
    let exporter = watching(&server.url());
    let asked = || server.count("SLOWLOG");
    let failed = |page: &Page| page.collectors().get("slowlog") == Some(&false);
    let first = metrics(&exporter);
    assert!(failed(&first) && first.up() == 1.0 && asked() > 0);
    let once = asked();
    for _ in 0..3 {
        assert!(failed(&metrics(&exporter)));
    }
    assert_eq!(asked(), once, "a refused command was asked again");
    *RUN_ID.lock().expect("no test panics while it holds this") = "b".repeat(40);
    assert!(failed(&metrics(&exporter)));
    assert!(asked() > once, "another process was not asked at the first chance");
}

#[test]
fn a_server_of_another_kind_may_take_over_the_address() {
    let old = Server::builder(Part::Redis62).config("rename-command SLOWLOG \"\"").start();
    let exporter = watching(&old.url());
    assert_eq!(metrics(&exporter).collectors().get("slowlog"), Some(&false));
    let new = Server::builder(Part::Valkey9).port(old.into_port()).start();
    let page = metrics(&exporter);
    page.assert_healthy();
    assert!(page.has("redis_slowlog_length"));
    let known: BTreeMap<_, _> = page.collectors();
    assert_eq!(known, metrics(&exporter).collectors(), "the second scrape knows what the first did");
    assert_eq!(our_clients(&new).len(), 1);
}
