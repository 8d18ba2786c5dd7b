//! The document for the start, and the last good one.

use crate::follow::remote;
use redvigil::source::last_good::LastGood;
use redvigil::source::{Document, Failure, Kind, first};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testbed::{Consul, Port};

fn read(url: &str, patience: Duration) -> (Result<Document, Failure>, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let begun = Instant::now();
    let read = runtime.block_on(async {
        first(&remote(url), Arc::default(), tokio::time::Instant::now() + patience).await
    });
    (read, begun.elapsed())
}

#[test]
fn who_is_not_there_yet_is_waited_for_and_who_refuses_is_not() {
    let (soon, long) = (Duration::from_millis(700), Duration::from_secs(20));
    let port = Port::take();
    let (outcome, took) = read(&format!("consul://127.0.0.1:{}/k", port.number()), soon);
    assert_eq!(outcome.expect_err("nobody listens").kind, Kind::Unreachable);
    assert!(took >= soon, "{took:?}");
    let consul = Consul::double(Some("hunter2"));
    let url = |query: &str| format!("consul://127.0.0.1:{}/k{query}", consul.port());
    for (query, kind) in [("", Kind::Refused), ("?token_env=RIGHT", Kind::Missing)] {
        let (outcome, took) = read(&url(query), long);
        assert_eq!(outcome.expect_err("there is none").kind, kind);
        assert!(took < long / 2, "{took:?}");
    }
    consul.put("k", b"a: 1");
    let (outcome, _) = read(&url("?token_env=RIGHT"), long);
    assert_eq!(&*outcome.expect("there it is").text, "a: 1");
}

#[test]
fn one_that_comes_late_is_read() {
    let mut consul = Consul::double(None);
    consul.go_down();
    let url = format!("consul://127.0.0.1:{}/k", consul.port());
    let coming = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        consul.come_back();
        consul.put("k", b"a: 1");
        consul
    });
    let (outcome, _) = read(&url, Duration::from_secs(20));
    let consul = coming.join().expect("it comes");
    // Whoever asks before the key is there is told so.
    match outcome {
        Ok(document) => assert_eq!(&*document.text, "a: 1"),
        Err(failure) => assert_eq!(failure.kind, Kind::Missing),
    }
    let (outcome, _) = read(&url, Duration::from_secs(20));
    let document = outcome.expect("there it is");
    // And it is there when Consul is not.
    let storage = tempfile::tempdir().expect("a folder");
    let last = LastGood::new(storage.path(), &remote(&url));
    last.keep(&document).expect("kept");
    drop(consul);
    assert_eq!(last.load().expect("whole"), Some(document));
}
