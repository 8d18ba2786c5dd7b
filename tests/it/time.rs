//! Deadlines: an answer always leaves before the caller gives up, with what is finished.

use crate::{PATIENCE, exporter, metrics, on_demand, page::Page, scrape_within, watching};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use testbed::{Action, Exporter, Part, ScriptedServer, Server, scripted, wait_until};

/// What Prometheus sends with a scrape time-out of so many seconds.
fn header(seconds: &str) -> [(&str, &str); 1] {
    [("X-Prometheus-Scrape-Timeout-Seconds", seconds)]
}

/// The page about the target of `--redis.addr`, and how long it took.
fn timed(exporter: &Exporter, headers: &[(&str, &str)]) -> (Page, Duration) {
    let begin = Instant::now();
    let response = exporter.get("/metrics", headers);
    assert_eq!(response.status, 200);
    (Page::parse(response.text()), begin.elapsed())
}

#[track_caller]
fn assert_between(took: Duration, from: u64, to: u64) {
    let range = Duration::from_millis(from)..Duration::from_millis(to);
    assert!(range.contains(&took), "took {took:?}, not {range:?}");
}

#[test]
fn a_stopped_server_is_down_before_the_caller_gives_up() {
    let mut server = Server::start(Part::Redis7);
    let known = watching(&server.url());
    metrics(&known).assert_healthy();
    let stranger = watching(&server.url());
    server.pause();
    // Over a kept connection, over a new one, and again: it does not pile up.
    for exporter in [&known, &stranger, &known] {
        let (page, took) = timed(exporter, &header("2"));
        page.assert_down("timeout");
        assert_between(took, 1400, 1950);
    }
    server.resume();
    metrics(&known).assert_healthy();
    metrics(&stranger).assert_healthy();
}

#[test]
fn callers_at_the_same_time_share_one_collection() {
    let mut server = Server::start(Part::Redis7);
    let exporter = watching(&server.url());
    metrics(&exporter).assert_healthy();
    server.pause();
    thread::scope(|scope| {
        let callers: Vec<_> = (0..3).map(|_| scope.spawn(|| timed(&exporter, &header("2")))).collect();
        for caller in callers {
            let (page, took) = caller.join().expect("a caller does not panic");
            page.assert_down("timeout");
            assert!(took < Duration::from_secs(2), "{took:?}");
        }
    });
    server.resume();
    let page = metrics(&exporter);
    page.assert_healthy();
    assert_eq!(page.value("redis_exporter_scrapes_total", &[]), Some(3.0), "one, one for all three, one");
}

#[test]
fn the_offset_is_at_most_a_quarter_of_the_time() {
    let server = ScriptedServer::start(|_| Action::Half(vec![]));
    let check = |args: &[&str], seconds: &str, from: u64, to: u64| {
        let addr = format!("--redis.addr={}", server.url());
        let exporter = exporter(&[addr.as_str()]).args(args).start();
        let (page, took) = timed(&exporter, &header(seconds));
        page.assert_down("timeout");
        assert_between(took, from, to);
    };
    check(&[], "0.4", 280, 400);
    check(&[], "2.5", 1950, 2500);
    check(&["--scrape.timeout-offset=100ms"], "1", 850, 1000);
    // What is no time is as if it were not there.
    check(&["--connection-timeout=300ms"], "soon", 250, 900);
    check(&["--connection-timeout=300ms"], "-1", 250, 900);
    check(&["--connection-timeout=300ms"], "inf", 250, 900);
}

/// An address that takes no connection and refuses none: the queue of the listener is full.
struct BlackHole {
    address: SocketAddr,
    _listener: socket2::Socket,
    _queued: Vec<socket2::Socket>,
}

impl BlackHole {
    fn open() -> Self {
        let stream = || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            socket.expect("a socket can be made")
        };
        let listener = stream();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("any port will do");
        listener.listen(0).expect("it is bound");
        let bound = listener.local_addr().expect("it is bound");
        let address = bound.as_socket().expect("an address of the internet");
        let queued = (0..8).map(|_| {
            let socket = stream();
            socket.set_nonblocking(true).expect("our own socket");
            // "In progress" is all that a socket that does not wait can say.
            let _ = socket.connect(&address.into());
            socket
        });
        let hole = Self { address, _queued: queued.collect(), _listener: listener };
        wait_until("the queue to be full", PATIENCE, || {
            TcpStream::connect_timeout(&address, Duration::from_millis(50)).is_err()
        });
        hole
    }
}

#[test]
fn an_address_that_swallows_everything_is_down_in_time() {
    // An attempt gets a third of the time that is left, and all of them together no more than there is.
    let hole = BlackHole::open();
    let address = hole.address.to_string();
    let (page, took) = timed(&watching(&address), &header("1"));
    page.assert_down("timeout");
    assert_between(took, 250, 1000);
    let (page, took) = timed(&watching(&format!("rediss://{address}")), &header("1"));
    page.assert_down("timeout");
    assert_between(took, 250, 1000);
    let bounded = exporter(&[format!("--redis.addr={address}"), "--connection-timeout=300ms".into()]).start();
    let (page, took) = timed(&bounded, &[]);
    page.assert_down("timeout");
    assert_between(took, 100, 900);
}

#[test]
fn what_was_answered_before_the_deadline_is_served() {
    // Of what follows INFO, everything from this command on gets no answer.
    for silent in ["SLOWLOG", "CONFIG", "LATENCY"] {
        let server = ScriptedServer::start(move |command| {
            if command[0] == silent.as_bytes() { Action::Half(vec![]) } else { Action::Default }
        });
        let exporter = watching(&server.url());
        for _ in 0..2 {
            let (page, took) = timed(&exporter, &header("1"));
            assert!(took < Duration::from_secs(1), "{silent}: {took:?}");
            assert_eq!((page.up(), page.error()), (1.0, "timeout"), "{silent}");
            assert!(page.has("redis_uptime_in_seconds"), "{silent}");
            let collectors = page.collectors();
            assert_eq!(collectors.get("info"), Some(&true), "{silent}: {collectors:?}");
            assert_eq!(
                collectors.get(&silent.to_ascii_lowercase()),
                Some(&false),
                "{silent}: {collectors:?}"
            );
        }
    }
}

#[test]
fn what_follows_info_in_the_second_round_may_be_late_too() {
    let info = String::from_utf8_lossy(scripted::INFO)
        .replace("redis_version:7.0.15", "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.0");
    let server = ScriptedServer::builder().info(&info).start(|command| match command[0].as_slice() {
        b"COMMANDLOG" => Action::Half(vec![]),
        _ => Action::Default,
    });
    let (page, took) = timed(&watching(&server.url()), &header("1"));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!((page.up(), page.error()), (1.0, "timeout"));
    assert!(page.has("redis_uptime_in_seconds") && page.has("redis_slowlog_length"));
    assert_eq!(page.collectors().get("commandlog"), Some(&false), "{:?}", page.collectors());
}

#[test]
fn a_connection_that_breaks_after_info_keeps_what_there_is() {
    for (action, kind) in [
        (Action::Close, "closed"),
        (Action::Reset, "closed"),
        (Action::reply("HTTP/1.1 403 Forbidden\r\n\r\n"), "protocol"),
    ] {
        let server = ScriptedServer::start(move |command| match command[0].as_slice() {
            b"SLOWLOG" => action.clone(),
            _ => Action::Default,
        });
        let exporter = watching(&server.url());
        for _ in 0..2 {
            let page = metrics(&exporter);
            assert_eq!((page.up(), page.error()), (1.0, kind));
            assert!(page.has("redis_uptime_in_seconds"));
            assert_eq!(page.collectors().get("slowlog"), Some(&false));
        }
    }
}

/// INFO in 12 pieces, one each `pause`.
fn dripping(pause: Duration) -> ScriptedServer {
    let info = [format!("${}\r\n", scripted::INFO.len()).as_bytes(), scripted::INFO, b"\r\n"].concat();
    let drip = info.chunks(info.len() / 12 + 1).rev().fold(Action::Silence, |then, piece| {
        Action::Delay(pause, Box::new(Action::Then(piece.to_vec(), Box::new(then))))
    });
    ScriptedServer::start(move |command| if command[0] == b"INFO" { drip.clone() } else { Action::Default })
}

#[test]
fn without_a_deadline_silence_is_bounded_and_slowness_is_not() {
    let server = dripping(Duration::from_millis(100));
    let addr = format!("--redis.addr={}", server.url());
    let exporter = exporter(&[addr.as_str(), "--connection-timeout=600ms"]).start();
    let (page, took) = timed(&exporter, &[]);
    page.assert_healthy();
    assert!(took > Duration::from_millis(1100), "{took:?}");
    // The same with a deadline is cut.
    let (page, took) = timed(&exporter, &header("0.8"));
    page.assert_down("timeout");
    assert!(took < Duration::from_millis(800), "{took:?}");
}

#[test]
fn a_caller_with_less_time_takes_what_there_is_and_leaves_the_others_alone() {
    let server = dripping(Duration::from_millis(100));
    let exporter = on_demand::<&str>(&[]);
    thread::scope(|scope| {
        let patient = scope.spawn(|| scrape_within(&exporter, &server.url(), &header("10")));
        wait_until("the collection to begin", PATIENCE, || server.count("INFO") == 1);
        let begin = Instant::now();
        scrape_within(&exporter, &server.url(), &header("0.5")).assert_down("timeout");
        assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
        patient.join().expect("a caller does not panic").assert_healthy();
    });
    assert_eq!((server.count("INFO"), server.accepted()), (1, 1));
}
