//! What is tried again within a collection, and what is not.

use crate::{metrics, on_demand, scrape, watching};
use std::time::{Duration, Instant};
use testbed::{Action, Port, ScriptedServer, scripted};

/// A server that throws away the first `lost` connections.
fn losing(lost: usize) -> ScriptedServer {
    let greet = move |number| (number < lost).then_some(Action::Reset);
    ScriptedServer::builder().greeting(greet).start(|_| Action::Default)
}

#[test]
fn a_hiccup_of_the_connection_is_no_failure() {
    for lost in 1..=3 {
        let server = losing(lost);
        let exporter = watching(&server.url());
        metrics(&exporter).assert_healthy();
        assert_eq!((server.accepted(), server.count("INFO")), (lost + 1, 1));
        assert!(!exporter.stderr().contains("collection failed"), "{}", exporter.stderr());
    }
}

#[test]
fn a_target_that_fails_already_is_tried_once() {
    let server = losing(5);
    let exporter = watching(&server.url());
    metrics(&exporter).assert_down("closed");
    assert_eq!(server.accepted(), 4);
    metrics(&exporter).assert_down("closed");
    assert_eq!(server.accepted(), 5);
    metrics(&exporter).assert_healthy();
    assert_eq!(server.accepted(), 6);
    // The same for a target of a request.
    let (server, exporter) = (losing(5), on_demand::<&str>(&[]));
    scrape(&exporter, &server.url()).assert_down("closed");
    scrape(&exporter, &server.url()).assert_down("closed");
    assert_eq!(server.accepted(), 5);
    scrape(&exporter, &server.url()).assert_healthy();
}

#[test]
fn what_lasts_is_tried_once() {
    let check = |action: Action, kind: &str| {
        let server = ScriptedServer::start(move |_| action.clone());
        let exporter = on_demand::<&str>(&[]);
        let header = ("X-Prometheus-Scrape-Timeout-Seconds", "1");
        crate::scrape_within(&exporter, &server.url(), &[header]).assert_down(kind);
        assert_eq!((server.accepted(), server.count("HELLO")), (1, 1), "{kind}");
    };
    check(Action::reply(scripted::WRONGPASS), "auth");
    check(Action::reply(scripted::LOADING), "loading");
    check(Action::reply("HTTP/1.1 400 Bad Request\r\n\r\n"), "protocol");
    // The server has the connection and is busy.
    check(Action::Half(vec![]), "timeout");
    // It has begun to answer.
    check(Action::Then(b"%7\r\n$6\r\nserver".to_vec(), Box::new(Action::Close)), "closed");
}

#[test]
fn who_refuses_is_down_within_a_second() {
    let port = Port::take();
    let exporter = on_demand::<&str>(&[]);
    for _ in 0..3 {
        let begin = Instant::now();
        scrape(&exporter, &format!("redis://127.0.0.1:{}", port.number())).assert_down("refused");
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    }
}
