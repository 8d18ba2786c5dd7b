//! One collection for all who ask at the same time.

use super::{alone, established, exporter, value};
use testbed::{Exporter, Part, Server, wait_until};

/// How many INFO commands the server has run.
fn infos(server: &Server) -> u64 {
    let stats = server.info("commandstats");
    let info = stats.get("cmdstat_info").map_or("", String::as_str);
    let calls = info.strip_prefix("calls=").and_then(|rest| rest.split(',').next());
    calls.map_or(0, |calls| calls.parse().expect("a number"))
}

/// Has the server stand still, asks for `path` sixteen times at once, lets it go on, and counts.
fn check(server: &mut Server, exporter: &Exporter, path: &str) {
    // The first collection makes the connection.
    assert_eq!(value(exporter.get(path, &[]).text(), "redis_up"), Some(1.0));
    let before = infos(server);
    server.pause();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..16).map(|_| scope.spawn(|| exporter.get(path, &[]))).collect();
        wait_until("sixteen connections", super::PATIENCE, || established(exporter) == 16);
        server.resume();
        for caller in callers {
            assert_eq!(value(caller.join().expect("an answer").text(), "redis_up"), Some(1.0));
        }
    });
    // One for all, and the one that asks for the count; a caller that was late may have begun a second.
    let ran = infos(server) - before;
    assert!((2..=3).contains(&ran), "{ran} INFO commands for 16 callers");
}

#[test]
fn callers_of_the_same_target_share_a_collection_on_both_paths() {
    let mut server = Server::start(Part::Redis7);
    let watching = exporter(&[&format!("--redis.addr={}", server.url())]).start();
    check(&mut server, &watching, "/metrics");
    let path = format!("/scrape?target={}", server.address());
    check(&mut server, &alone(&[]), &path);
}
