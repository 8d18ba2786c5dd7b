//! The real servers of the testbed do what the other tests count on.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use testbed::{Certificates, Cluster, Connection, Exporter, Part, SentinelSet, Server, Value, wait_until};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn every_server_that_the_tests_need_starts_and_answers() {
    for part in Part::SERVERS {
        let server = Server::start(part);
        let info = server.info("server");
        let field = if part.is_valkey() { "valkey_version" } else { "redis_version" };
        assert_eq!(info[field], part.version(), "{}", part.name());
    }
}

#[test]
fn an_optional_server_starts_where_it_is_installed() {
    if Part::Redis82.or_skip("an_optional_server_starts_where_it_is_installed").is_some() {
        let server = Server::start(Part::Redis82);
        assert!(server.info("server")["redis_version"].starts_with("8.2."));
    }
}

#[test]
fn a_dropped_server_leaves_neither_process_nor_listener() {
    let server = Server::start(Part::Redis7);
    let (pid, port) = (server.pid(), server.port());
    drop(server);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(Connection::tcp(port).is_err());
}

#[test]
fn a_panicking_test_leaves_no_process() {
    let pids = std::sync::Mutex::new(0);
    let test = || {
        let server = Server::start(Part::Redis7);
        *pids.lock().unwrap() = server.pid();
        panic!("as a failing test does");
    };
    assert!(std::panic::catch_unwind(test).is_err());
    let pid = pids.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    assert!(pid > 0 && !Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_paused_server_answers_nothing_until_it_is_resumed() {
    let mut server = Server::start(Part::Redis7);
    server.pause();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    let mut reply = [0; 7];
    assert!(matches!(
        stream.read(&mut reply).unwrap_err().kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut
    ));
    server.resume();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
}

#[test]
fn a_killed_server_comes_back_on_the_same_port_as_another_run() {
    let mut server = Server::start(Part::Redis7);
    let (port, run) = (server.port(), server.info("server")["run_id"].clone());
    server.kill();
    assert!(Connection::tcp(port).is_err());
    server.restart();
    assert_eq!(server.port(), port);
    assert_ne!(server.info("server")["run_id"], run);
}

#[test]
fn a_password_and_acl_users_are_asked_for() {
    let server =
        Server::builder(Part::Redis7).password("secret").user("metrics", "on >pw ~* &* +ping +info").start();
    assert_eq!(server.ok(&["PING"]).text(), "PONG");
    let mut stranger = Connection::tcp(server.port()).unwrap();
    assert!(stranger.command(&["PING"]).unwrap().text().starts_with("NOAUTH"));
    assert_eq!(stranger.command(&["AUTH", "metrics", "pw"]).unwrap().text(), "OK");
    assert!(stranger.command(&["CONFIG", "GET", "*"]).unwrap().text().starts_with("NOPERM"));
}

#[test]
fn a_tls_server_takes_our_client_certificate_and_refuses_strangers() {
    let certificates = Certificates::generate();
    for part in Part::SERVERS.into_iter().filter(|part| part.has_tls()) {
        let server = Server::builder(part).tls(&certificates, true).start();
        assert_eq!(server.ok(&["PING"]).text(), "PONG");
        let ping = |config| Connection::tls(server.port(), config).and_then(|mut c| c.command(&["PING"]));
        assert!(ping(certificates.anonymous_config()).is_err());
        assert!(ping(Certificates::generate().client_config()).is_err());
    }
}

#[test]
fn a_unix_socket_leads_to_the_same_server() {
    let server = Server::builder(Part::Redis7).unix_socket().start();
    server.ok(&["SET", "key", "value"]);
    let mut connection = Connection::unix(server.socket()).unwrap();
    assert_eq!(connection.command(&["GET", "key"]).unwrap(), Value::Bulk(b"value".to_vec()));
}

#[test]
fn a_replica_gets_its_masters_keys() {
    let master = Server::builder(Part::Redis7).password("secret").start();
    let replica = Server::builder(Part::Redis7).password("secret").replica_of(&master).start();
    replica.wait_replicated();
    master.ok(&["SET", "key", "value"]);
    wait_until("the key on the replica", SOON, || replica.ok(&["EXISTS", "key"]).int() == 1);
}

#[test]
fn a_server_that_is_loading_counts_as_ready_where_the_test_says_so() {
    let mut server = Server::builder(Part::Redis7)
        .config("key-load-delay 10000")
        .config("loading-process-events-interval-bytes 1024")
        .ready_while_loading()
        .start();
    server.ok(&["DEBUG", "POPULATE", "5000"]);
    server.ok(&["SAVE"]);
    server.restart();
    assert_eq!(server.info("persistence")["loading"], "1");
}

#[test]
fn a_cluster_serves_all_slots_and_has_its_replicas() {
    let cluster = Cluster::start(Part::Redis7, 3, 1);
    assert_eq!((cluster.masters().len(), cluster.replicas().len()), (3, 3));
    for key in ["a", "b", "c", "d", "e"] {
        cluster.set(key, "value");
    }
    let keys: i64 = cluster.masters().iter().map(|node| node.ok(&["DBSIZE"]).int()).sum();
    assert_eq!(keys, 5);
    assert_eq!(cluster.ids().len(), 6);
}

#[test]
fn sentinels_replace_a_master_that_was_killed() {
    let mut set = SentinelSet::start(Part::Redis7);
    let old = set.master_port();
    assert_eq!(old, set.nodes[0].port());
    set.master().kill();
    set.wait_for_failover(old, SOON);
    assert_eq!(set.master().info("replication")["role"], "master");
}

#[test]
fn the_peer_exporter_is_started_asked_and_ended() {
    let server = Server::start(Part::Redis7);
    let mut peer = Exporter::peer().args(&[format!("--redis.addr={}", server.url())]).start();
    assert!(peer.metrics().contains("redis_up 1"));
    assert_eq!(peer.get("/nowhere", &[]).status, 200, "the peer answers unknown paths with its landing page");
    peer.stop();
    assert!(peer.try_get("/health", &[]).is_err());
    let ended = Exporter::peer().args(&["--no-such-flag"]).run_to_end(SOON);
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("no-such-flag"));
}
