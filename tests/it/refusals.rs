//! Servers that say no: to us, to everything, or to a single command.
//!
//! A scripted server says what real ones say word for word, and its record tells what we asked; where a real
//! server can be brought to say it, it stands beside.

use crate::{PATIENCE, exporter, metrics, on_demand, page::Page, scrape, watching};
use std::collections::BTreeSet;
use testbed::{Action, Connection, Part, ScriptedServer, Server, Value, scripted, wait_until};

/// What is left when a server is down: all that is about this collection, and nothing about the server.
const LEFT: &[&str] = &[
    "redis_exporter_build_info",
    "redis_exporter_last_scrape_connect_time_seconds",
    "redis_exporter_last_scrape_duration_seconds",
    "redis_exporter_last_scrape_error",
    "redis_exporter_scrape_duration_seconds",
    "redis_exporter_scrapes_total",
    "redis_last_key_groups_scrape_duration_milliseconds",
    "redis_target_scrape_request_errors_total",
    "redis_up",
];

/// What is sent at the beginning of a connection.
const HANDSHAKE: &[&str] = &["HELLO", "AUTH", "CLIENT", "SELECT"];

#[track_caller]
fn assert_nothing_of_the_server(page: &Page) {
    let more: Vec<_> =
        page.names().into_iter().filter(|name| name.starts_with("redis_") && !LEFT.contains(name)).collect();
    assert!(more.is_empty(), "a server that is down shows {more:?}");
}

/// A server that answers with this to the commands that `refused` picks by their upper-case words.
fn refusing(
    reply: &'static str,
    refused: impl Fn(&[String]) -> bool + Send + Sync + 'static,
) -> ScriptedServer {
    ScriptedServer::start(move |command| {
        let words: Vec<String> =
            command.iter().map(|word| String::from_utf8_lossy(word).to_ascii_uppercase()).collect();
        if refused(&words) { Action::reply(reply) } else { Action::Default }
    })
}

#[test]
fn who_refuses_the_handshake_or_info_is_down_for_that_reason() {
    let check = |reply: &'static str, kind: &str| {
        for all in [true, false] {
            let server = refusing(reply, move |words| all || words[0] == "INFO");
            let exporter = watching(&server.url());
            for scrapes in [1.0, 2.0] {
                let page = metrics(&exporter);
                page.assert_down(kind);
                assert_nothing_of_the_server(&page);
                assert_eq!(page.value("redis_exporter_scrapes_total", &[]), Some(scrapes));
            }
        }
    };
    check(scripted::NOAUTH, "auth");
    check(scripted::WRONGPASS, "auth");
    check("-ERR invalid password\r\n", "auth");
    check("-ERR operation not permitted\r\n", "auth");
    check(scripted::NOPERM, "noperm");
    check(scripted::LOADING, "loading");
    check(scripted::MASTERDOWN, "masterdown");
    check(scripted::BUSY, "busy");
    check(scripted::CLUSTERDOWN, "clusterdown");
    check("-TRYAGAIN Multiple keys request during rehashing of slot\r\n", "clusterdown");
    check(scripted::PROTECTED, "protected");
    check(scripted::MAXCLIENTS, "maxclients");
    check("-ERR unknown command 'INFO', with args beginning with: \r\n", "unsupported");
    check("-MISCONF Redis is configured to save RDB snapshots\r\n", "command");
    check("-NOREPLICAS Not enough good replicas to write.\r\n", "command");
    check("-MOVED 3999 127.0.0.1:6381\r\n", "command");
    check("-\r\n", "command");
    check("!21\r\nNOAUTH said at length\r\n", "auth");
}

#[test]
fn info_that_is_no_text_is_a_breach_of_the_protocol() {
    for reply in ["$0\r\n\r\n", "$-1\r\n", "*0\r\n", "_\r\n", "*1\r\n$3\r\nabc\r\n"] {
        let server = refusing(reply, |words| words[0] == "INFO");
        let page = scrape(&on_demand::<&str>(&[]), &server.url());
        page.assert_down("protocol");
    }
}

#[test]
fn who_refuses_the_connection_is_heard_before_it_is_closed() {
    for (greeting, kind) in [(scripted::MAXCLIENTS, "maxclients"), (scripted::PROTECTED, "protected")] {
        let greet = move |_| Some(Action::Then(greeting.into(), Box::new(Action::Close)));
        let server = ScriptedServer::builder().greeting(greet).start(|_| Action::Default);
        let exporter = watching(&server.url());
        for _ in 0..5 {
            metrics(&exporter).assert_down(kind);
        }
    }
}

/// Every flag that makes us ask for more.
const EVERYTHING: &[&str] = &[
    "--include-config-metrics",
    "--include-modules-metrics",
    "--include-system-metrics",
    "--include-rdb-file-size-metric",
    "--export-client-list",
    "--include-search-indexes-metrics",
    "--check-single-keys=k",
    "--count-keys=k*",
    "--check-single-streams=s",
    "--check-key-groups=^(.*)$",
];

/// Commands whose first argument is part of the name: ACLs allow and deny the pair.
const CONTAINERS: &[&str] = &["CLUSTER", "COMMANDLOG", "CONFIG", "LATENCY", "MEMORY", "SLOWLOG", "XINFO"];

/// The name of a command, as an ACL knows it.
fn name(command: &[String]) -> String {
    let words = if CONTAINERS.contains(&command[0].to_ascii_uppercase().as_str()) { 2 } else { 1 };
    command[..words].join(" ").to_ascii_uppercase()
}

#[test]
fn a_command_refused_for_good_costs_its_own_families_and_is_not_sent_twice() {
    let exporter = on_demand(EVERYTHING);
    let healthy = ScriptedServer::start(|_| Action::Default);
    scrape(&exporter, &healthy.url());
    let mut commands: BTreeSet<String> = healthy.commands().iter().map(|command| name(command)).collect();
    commands.retain(|command| command != "INFO" && !HANDSHAKE.contains(&command.as_str()));
    assert!(commands.contains("SLOWLOG GET"), "{commands:?}");
    for command in commands {
        for reply in [scripted::NOPERM, "-ERR unknown command 'X', with args beginning with: \r\n"] {
            let refused = command.clone();
            let server = refusing(reply, move |words| words[0] != "INFO" && name(words) == refused);
            let times = || server.commands().iter().filter(|asked| name(asked) == command).count();
            let page = scrape(&exporter, &server.url());
            assert_eq!((page.up(), page.error()), (1.0, ""), "{command} {reply}");
            assert!(page.has("redis_uptime_in_seconds"), "{command} {reply}");
            let once = times();
            assert!(once >= 1, "{command} was not asked");
            let again = scrape(&exporter, &server.url());
            assert_eq!(times(), once, "{command} was asked again after {reply}");
            assert_eq!(page.collectors(), again.collectors(), "{command} {reply}");
        }
    }
}

#[test]
fn a_command_refused_for_now_is_sent_again() {
    for reply in [scripted::LOADING, scripted::BUSY, scripted::MASTERDOWN, scripted::CLUSTERDOWN] {
        let server = refusing(reply, |words| words[0] == "SLOWLOG");
        let exporter = watching(&server.url());
        for times in 1..=2 {
            let page = metrics(&exporter);
            assert_eq!((page.up(), page.error()), (1.0, ""), "{reply}");
            assert_eq!(page.collectors().get("slowlog"), Some(&false), "{reply}");
            assert!(page.has("redis_uptime_in_seconds") && !page.has("redis_slowlog_length"), "{reply}");
            assert!(server.count("SLOWLOG") >= times, "{reply}");
        }
    }
}

#[test]
fn a_redirection_is_not_followed() {
    let other = ScriptedServer::start(|_| Action::Default);
    let moved: &'static str = format!("-MOVED 1 {}\r\n", other.address()).leak();
    let server = refusing(moved, |words| words[0] != "INFO" && words[0] != "HELLO");
    let page = scrape(&on_demand::<&str>(&[]), &server.url());
    assert_eq!((page.up(), page.error()), (1.0, ""));
    assert_eq!(other.accepted(), 0);
}

#[test]
fn a_server_that_loads_is_up() {
    let mut server = Server::builder(Part::Redis7)
        .config("key-load-delay 1000")
        .config("loading-process-events-interval-bytes 1024")
        .ready_while_loading()
        .start();
    server.ok(&["DEBUG", "POPULATE", "8000", "key", "100"]);
    server.ok(&["SAVE"]);
    let exporter = watching(&server.url());
    server.restart();
    let page = metrics(&exporter);
    // Asked after the page: what still loads now did so then.
    assert_eq!(server.info("persistence")["loading"], "1", "the data set is too small for this test");
    assert_eq!((page.up(), page.error()), (1.0, ""));
    assert!(page.has("redis_slowlog_length"), "SLOWLOG answers while loading");
}

#[test]
fn a_replica_that_may_not_serve_old_data_is_up() {
    let port = testbed::Port::take();
    let server = Server::builder(Part::Redis7)
        .config(&format!("replicaof 127.0.0.1 {}", port.number()))
        .config("replica-serve-stale-data no")
        .ready_while_loading()
        .start();
    assert!(server.command(&["GET", "k"]).text().starts_with("MASTERDOWN"));
    metrics(&watching(&server.url())).assert_healthy();
}

#[test]
fn a_password_that_is_missing_or_wrong_is_an_auth_failure() {
    let server = Server::builder(Part::Redis7).password("sesame").start();
    let addr = format!("--redis.addr={}", server.url());
    metrics(&exporter(&[&addr]).start()).assert_down("auth");
    metrics(&exporter(&[&addr, "--redis.password=guess"]).start()).assert_down("auth");
    metrics(&exporter(&[&addr, "--redis.password=sesame", "--redis.user=nobody"]).start())
        .assert_down("auth");
    // The password of the flags is no reason to fail where none is asked for.
    let open = Server::start(Part::Redis7);
    metrics(&exporter(&[&format!("--redis.addr={}", open.url()), "--redis.password=sesame"]).start())
        .assert_healthy();
}

#[test]
fn what_a_user_may_not_do_is_tried_once() {
    let server = Server::builder(Part::Redis7)
        .user("metrics", "on >sesame ~* &* +@all -slowlog -config -latency -client")
        .user("blind", "on >sesame ~* &* +@all -info")
        .start();
    let exporter = watching(&format!("redis://metrics:sesame@{}", server.address()));
    let denied = |server: &Server| {
        let log = server.ok(&["ACL", "LOG", "1000"]);
        // An entry counts how often the same was denied.
        let count = |entry: &Value| entry.array()[1].int();
        log.array().iter().map(count).sum::<i64>()
    };
    let page = metrics(&exporter);
    assert_eq!((page.up(), page.error()), (1.0, ""));
    assert_eq!(page.collectors().get("slowlog"), Some(&false));
    let once = denied(&server);
    assert!(once > 0);
    for _ in 0..5 {
        let page = metrics(&exporter);
        assert_eq!((page.up(), page.error()), (1.0, ""));
    }
    assert_eq!(denied(&server), once, "{}", server.ok(&["ACL", "LOG"]));
    metrics(&watching(&format!("redis://blind:sesame@{}", server.address()))).assert_down("noperm");
}

#[test]
fn commands_that_were_renamed_are_tried_once() {
    for part in [Part::Redis62, Part::Redis7] {
        let server = Server::builder(part)
            .config("rename-command CONFIG \"\"")
            .config("rename-command SLOWLOG \"\"")
            .config("rename-command LATENCY \"\"")
            .start();
        let exporter = watching(&server.url());
        let errors = || server.info("stats")["total_error_replies"].clone();
        let page = metrics(&exporter);
        assert_eq!((page.up(), page.error()), (1.0, ""));
        let once = errors();
        for _ in 0..5 {
            assert_eq!(metrics(&exporter).collectors(), page.collectors());
        }
        assert_eq!(errors(), once);
    }
}

#[test]
fn a_server_with_all_its_clients_says_so_until_there_is_room() {
    // Our own connection is the one client.
    let server = Server::builder(Part::Redis7).config("maxclients 1").start();
    let exporter = watching(&server.url());
    for _ in 0..3 {
        metrics(&exporter).assert_down("maxclients");
    }
    server.ok(&["CONFIG", "SET", "maxclients", "2"]);
    metrics(&exporter).assert_healthy();
    // We are inside now, and stay there.
    server.ok(&["CONFIG", "SET", "maxclients", "1"]);
    metrics(&exporter).assert_healthy();
}

#[test]
fn a_server_that_runs_a_script_is_busy_until_it_ends() {
    let server = Server::builder(Part::Redis7).config("busy-reply-threshold 1").start();
    let before = watching(&server.url());
    metrics(&before).assert_healthy();
    let mut script = Connection::tcp(server.port()).expect("the server listens");
    script.send(&["EVAL", "while true do end", "0"]).expect("the server reads");
    wait_until("the server to be busy", PATIENCE, || server.command(&["PING"]).is_error());
    metrics(&before).assert_down("busy");
    metrics(&watching(&server.url())).assert_down("busy");
    server.ok(&["SCRIPT", "KILL"]);
    wait_until("the script to end", PATIENCE, || !server.command(&["PING"]).is_error());
    metrics(&before).assert_healthy();
}

#[test]
fn a_cluster_node_without_a_cluster_is_up() {
    for part in [Part::Redis7, Part::Valkey9] {
        let node = Server::builder(part).cluster_node().start();
        assert!(node.command(&["GET", "k"]).text().starts_with("CLUSTERDOWN"));
        metrics(&watching(&node.url())).assert_healthy();
    }
}
