//! Servers that break the protocol, never end, or say nothing: each gets an answer in time with the right
//! reason, costs little memory, and does not touch the scrapes of others.

use crate::{on_demand, page::Page, scrape, scrape_within, watching};
use std::fs;
use std::time::{Duration, Instant};
use testbed::{Action, Exporter, Part, ScriptedServer, Server, scripted};

/// What the process may need at most with one hostile server: the limit on replies, and room to grow into it.
const MEMORY: u64 = 100 << 20;

/// The header that Prometheus sends, and by when the answer has to be there.
const HEADER: (&str, &str) = ("X-Prometheus-Scrape-Timeout-Seconds", "2");
const LIMIT: Duration = Duration::from_secs(2);

/// The most memory that the process ever had, in bytes.
fn peak(exporter: &mut Exporter) -> u64 {
    let path = format!("/proc/{}/status", exporter.process().pid());
    let status = fs::read_to_string(path).expect("the exporter runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
    let kilobytes: u64 = line.trim_end_matches("kB").trim().parse().expect("a number");
    kilobytes << 10
}

/// A server that does this when INFO is asked.
fn at_info(action: Action) -> ScriptedServer {
    ScriptedServer::start(move |command| if command[0] == b"INFO" { action.clone() } else { Action::Default })
}

/// Scrapes it within the limit, with a healthy server before and after.
fn scrape_hostile(server: &ScriptedServer) -> (Page, u64) {
    let healthy = Server::start(Part::Redis7);
    let mut exporter = on_demand::<&str>(&[]);
    scrape(&exporter, &healthy.url()).assert_healthy();
    let begin = Instant::now();
    let page = scrape_within(&exporter, &server.url(), &[HEADER]);
    assert!(begin.elapsed() < LIMIT, "{:?}", begin.elapsed());
    let memory = peak(&mut exporter);
    assert!(memory < MEMORY, "{} MiB", memory >> 20);
    scrape(&exporter, &healthy.url()).assert_healthy();
    (page, memory)
}

#[track_caller]
fn check(action: Action, kind: &str) {
    let server = at_info(action);
    scrape_hostile(&server).0.assert_down(kind);
}

fn flood(head: &str, chunk: impl Into<Vec<u8>>) -> Action {
    Action::Endless { head: head.into(), chunk: chunk.into(), pause: Duration::ZERO }
}

#[test]
fn a_bulk_string_without_end_goes_over_the_limit() {
    check(flood("$67000000\r\n", vec![b'x'; 1 << 16]), "protocol");
}

#[test]
fn a_bulk_string_that_does_not_stop_where_it_said_is_a_breach() {
    check(flood("$1000000\r\n", vec![b'x'; 1 << 16]), "protocol");
}

#[test]
fn an_array_without_end_goes_over_the_limit() {
    check(flood("*20000000\r\n", b":1\r\n".repeat(1 << 14)), "protocol");
    check(flood("*2000000\r\n", b"*0\r\n".repeat(1 << 14)), "protocol");
}

#[test]
fn nesting_without_end_goes_over_the_limit() {
    check(flood("", b"*1\r\n".repeat(1 << 14)), "protocol");
    check(flood("", b"%1\r\n+k\r\n".repeat(1 << 13)), "protocol");
}

#[test]
fn asides_without_end_go_over_the_limit() {
    check(flood("", b">1\r\n+x\r\n".repeat(1 << 13)), "protocol");
    check(flood("", b"|1\r\n+x\r\n+y\r\n".repeat(1 << 13)), "protocol");
}

#[test]
fn a_line_without_end_goes_over_the_limit() {
    check(flood("+", vec![b'x'; 1 << 16]), "protocol");
    check(flood("-", vec![b'x'; 1 << 16]), "protocol");
    check(flood(":", vec![b'1'; 1 << 16]), "protocol");
    check(Action::Half([b"$".to_vec(), vec![b'1'; 100 << 20]].concat()), "protocol");
}

#[test]
fn a_length_beyond_all_memory_is_refused_when_it_is_read() {
    for prefix in [
        "$99999999999\r\n",
        "$9223372036854775807\r\n",
        "*99999999999\r\n",
        "%99999999999\r\n",
        "*4294967295\r\n",
    ] {
        check(Action::Half(prefix.into()), "protocol");
    }
}

#[test]
fn an_info_of_many_megabytes_is_refused_and_of_one_is_read() {
    let line = "a_field_of_somebody_else:and its value\r\n";
    for (megabytes, is_read) in [(60, false), (1, true)] {
        let text = [line.repeat((megabytes << 20) / line.len()).as_bytes(), scripted::INFO].concat();
        let server = ScriptedServer::builder().info(text).start(|_| Action::Default);
        let (page, memory) = scrape_hostile(&server);
        if is_read {
            page.assert_healthy();
        } else {
            page.assert_down("protocol");
            assert!(memory > 60 << 20, "the reply was not read");
        }
    }
}

#[test]
fn bytes_that_are_no_resp_are_a_breach() {
    check(Action::reply("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), "protocol");
    check(Action::reply("SSH-2.0-OpenSSH_9.2p1\r\n"), "protocol");
    check(Action::reply([0x15, 3, 1, 0, 2, 2, 80]), "protocol");
    check(Action::reply([0; 4096]), "protocol");
    check(Action::reply("$abc\r\n"), "protocol");
    check(Action::reply("$-7\r\n"), "protocol");
    check(Action::reply("$3\r\nabcdefgh\r\n"), "protocol");
    check(Action::reply("\r\n\r\n"), "protocol");
}

#[test]
fn who_speaks_before_being_asked_is_not_listened_to() {
    let http = |_| Some(Action::reply("HTTP/1.1 408 Request Timeout\r\n\r\n"));
    let server = ScriptedServer::builder().greeting(http).start(|_| Action::Default);
    scrape_hostile(&server).0.assert_down("protocol");
    // A push may come at any time and is no answer.
    let push = |_| Some(Action::reply(">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nkey\r\n"));
    let server = ScriptedServer::builder().greeting(push).start(|_| Action::Default);
    scrape_hostile(&server).0.assert_healthy();
    let server = ScriptedServer::start(|command| match command[0].as_slice() {
        b"INFO" => Action::Then(b">1\r\n+news\r\n".to_vec(), Box::new(Action::Default)),
        _ => Action::Default,
    });
    scrape_hostile(&server).0.assert_healthy();
}

#[test]
fn an_answer_too_many_ends_the_connection_and_not_the_next_scrape() {
    let server = ScriptedServer::start(|command| match command[0].as_slice() {
        b"SLOWLOG" if command[1] == b"GET" => Action::reply("*0\r\n:1\r\n$5\r\nhello\r\n"),
        _ => Action::Default,
    });
    let exporter = watching(&server.url());
    for _ in 0..3 {
        let page = crate::metrics(&exporter);
        assert_eq!((page.up(), page.error()), (1.0, ""));
        assert!(page.has("redis_uptime_in_seconds"));
    }
}

#[test]
fn an_answer_that_ends_in_the_middle_says_how() {
    let half = || b"$1000\r\nredis_version:7".to_vec();
    check(Action::Then(half(), Box::new(Action::Close)), "closed");
    check(Action::Then(half(), Box::new(Action::Reset)), "closed");
    check(Action::Close, "closed");
    check(Action::Reset, "closed");
    check(Action::Half(half()), "timeout");
    check(Action::Half(vec![]), "timeout");
}

#[test]
fn whoever_hangs_up_at_once_is_closed() {
    for action in [Action::Close, Action::Reset] {
        let greet = move |_| Some(action.clone());
        let server = ScriptedServer::builder().greeting(greet).start(|_| Action::Default);
        scrape_hostile(&server).0.assert_down("closed");
    }
}

#[test]
fn a_reply_that_comes_in_small_pieces_is_read() {
    // 6 kB of INFO, in pieces that no length or line end respects.
    let info = [format!("${}\r\n", scripted::INFO.len()).as_bytes(), scripted::INFO, b"\r\n"].concat();
    let drip = info.chunks(61).rev().fold(Action::Silence, |then, piece| {
        Action::Then(piece.to_vec(), Box::new(Action::Delay(Duration::from_millis(2), Box::new(then))))
    });
    let server = at_info(drip);
    scrape_hostile(&server).0.assert_healthy();
}

#[test]
fn a_drip_that_never_ends_is_cut_at_the_deadline() {
    let pause = Duration::from_millis(10);
    check(Action::Endless { head: b"$60000\r\n".into(), chunk: b"x".into(), pause }, "timeout");
}

#[test]
fn a_late_answer_is_never_taken_for_the_next_one() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let server = ScriptedServer::start(|command| match command[0].as_slice() {
        b"INFO" if ASKED.fetch_add(1, Ordering::SeqCst) == 0 => {
            Action::Delay(Duration::from_millis(700), Box::new(Action::bulk("uptime_in_seconds:1\r\n")))
        }
        b"INFO" => Action::bulk("uptime_in_seconds:2\r\n"),
        _ => Action::Default,
    });
    let exporter = watching(&server.url());
    let within = |seconds: &str| {
        let response = exporter.get("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", seconds)]);
        Page::parse(response.text())
    };
    within("0.5").assert_down("timeout");
    for _ in 0..3 {
        assert_eq!(within("5").value("redis_uptime_in_seconds", &[]), Some(2.0));
    }
    assert_eq!(server.accepted(), 2);
}
