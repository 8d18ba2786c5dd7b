//! Clients that are slow, silent, huge or many.

use super::{PATIENCE, alone, connect, established, exporter, say, value};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use testbed::http::{self, Request};
use testbed::{Exporter, Part, Server, wait_until};

/// A request is answered, and soon.
fn check_answers(exporter: &Exporter) {
    let begin = Instant::now();
    assert_eq!(exporter.get("/metrics", &[]).status, 200);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

/// Waits for the other side to close, without having said anything more than `expected`.
fn check_closed(stream: &mut TcpStream, expected: &str) {
    let mut said = vec![];
    match stream.read_to_end(&mut said) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    assert!(String::from_utf8_lossy(&said).starts_with(expected), "{}", String::from_utf8_lossy(&said));
}

fn raise_file_limit() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

#[test]
fn ten_thousand_silent_connections_keep_nobody_out() {
    let files = raise_file_limit();
    let exporter = alone(&[]);
    let many = 10_000.min(files.saturating_sub(500));
    let mut silent = vec![];
    for number in 0..many {
        silent.push(connect(&exporter));
        if number % 2500 == 0 {
            check_answers(&exporter);
        }
    }
    for _ in 0..20 {
        check_answers(&exporter);
    }
    // No more are kept than there may be; those that were idle the longest went.
    // The kernel has accepted some of them before we have.
    wait_until("1024 connections to be left", PATIENCE, || established(&exporter) <= 1024);
    let page = exporter.metrics();
    assert!(
        value(&page, "redvigil_connections_crowded_out_total").is_some_and(|n| n >= (many - 1100) as f64)
    );
    assert!(value(&page, "process_resident_memory_bytes").is_some_and(|bytes| bytes < 32e6), "{page}");
}

#[test]
fn a_thousand_connections_that_were_used_stay_and_cost_little() {
    raise_file_limit();
    let exporter = alone(&[]);
    let resident = || value(&exporter.metrics(), "process_resident_memory_bytes").expect("Linux");
    // Without connections it has the program itself, which is large where it was built to be debugged.
    let before = resident();
    let mut used: Vec<_> = (0..1000).map(|_| connect(&exporter)).collect();
    for stream in &mut used {
        assert_eq!(say(stream, b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n").status, 200);
    }
    check_answers(&exporter);
    let memory = resident() - before;
    assert!(memory < 24e6, "{memory} bytes for a thousand idle connections");
    for stream in &mut used {
        assert_eq!(say(stream, b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n").status, 200);
    }
}

#[test]
fn clients_that_drip_are_closed_and_keep_nobody_out() {
    let exporter = alone(&["--web.max-connections=64"]);
    let begin = Instant::now();
    let mut drips: Vec<_> = (0..60).map(|_| connect(&exporter)).collect();
    let mut last = drips.pop().expect("one of sixty");
    let (mut sent, mut is_open) = (0, true);
    // The head of a request that never ends: a byte each to all of them, until they are closed.
    while is_open {
        for stream in drips.iter_mut() {
            let _ = stream.write_all(b"G");
        }
        is_open = last.write_all(b"G").is_ok();
        sent += 1;
        check_answers(&exporter);
        assert!(begin.elapsed() < PATIENCE, "{sent} bytes were sent and nobody closed");
    }
    assert!(begin.elapsed() > Duration::from_secs(9), "closed too early: {:?}", begin.elapsed());
    assert!(value(&exporter.metrics(), "redvigil_connections_too_slow_total").is_some_and(|n| n >= 60.0));
}

#[test]
fn where_all_places_are_taken_by_silent_clients_a_newcomer_gets_one() {
    let exporter = alone(&["--web.max-connections=8"]);
    let mut silent: Vec<_> = (0..8).map(|_| connect(&exporter)).collect();
    wait_until("eight connections", PATIENCE, || established(&exporter) == 8);
    check_answers(&exporter);
    check_closed(&mut silent[0], "");
    // The newest is still there.
    let last = silent.last_mut().expect("eight");
    assert_eq!(say(last, b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n").status, 200);
}

#[test]
fn a_head_without_end_is_refused_before_it_costs_memory() {
    let exporter = alone(&[]);
    let before = value(&exporter.metrics(), "process_resident_memory_bytes").expect("Linux");
    let piece = vec![b'x'; 64 * 1024];
    for start in ["GET /health HTTP/1.1\r\nHost: h\r\nX-Long: ", "GET /", "x"] {
        let mut stream = connect(&exporter);
        let _ = stream.write_all(start.as_bytes());
        // A gigabyte, if anybody would take it.
        let mut taken = 0;
        while taken < 1 << 30 && stream.write_all(&piece).is_ok() {
            taken += piece.len();
        }
        // The buffers of two sockets.
        assert!(taken < 32 << 20, "{taken} bytes were taken");
    }
    let mut stream = connect(&exporter);
    let head = format!("GET /health HTTP/1.1\r\nHost: h\r\nX-Long: {}\r\n\r\n", "x".repeat(40_000));
    stream.write_all(head.as_bytes()).expect("sent");
    let refused = http::read_response(&mut BufReader::new(&mut stream), false).expect("an answer");
    assert_eq!(refused.status, 431);
    let after = value(&exporter.metrics(), "process_resident_memory_bytes").expect("Linux");
    assert!(after - before < 8e6, "{before} bytes became {after}");
    let fits = format!("GET /health HTTP/1.1\r\nHost: h\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(say(&mut connect(&exporter), fits.as_bytes()).status, 200);
}

#[test]
fn bodies_are_read_up_to_a_limit_and_forgotten() {
    let exporter = alone(&[]);
    let post = |size: usize| {
        let body = vec![b'x'; size];
        exporter.send(Request { method: "POST", path: "/health", headers: &[], body: &body }).status
    };
    assert_eq!(post(10), 200);
    assert_eq!(post(64 * 1024), 200);
    let announced = b"POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000000\r\n\r\n";
    let mut stream = connect(&exporter);
    assert_eq!(say(&mut stream, announced).status, 413);
    check_closed(&mut stream, "");
    // The next request on the same connection begins after the body.
    let mut stream = connect(&exporter);
    let chunked =
        b"POST /health HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(say(&mut stream, chunked).status, 200);
    assert_eq!(say(&mut stream, b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n").status, 200);
    let mut endless = connect(&exporter);
    endless
        .write_all(b"POST /health HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        .expect("sent");
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    let mut chunks = 0;
    while chunks < 100_000 && endless.write_all(chunk.as_bytes()).is_ok() {
        chunks += 1;
    }
    assert!(chunks < 5_000, "{chunks} chunks were taken");
}

#[test]
fn what_is_no_http_is_refused_and_costs_nobody_else() {
    let exporter = alone(&[]);
    for (bytes, expected) in [
        (&b"\r\n\r\n\r\n"[..], ""),
        (b"HELLO 3\r\n\r\n", "HTTP/1.1 400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "HTTP/1.1 400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
        (b"GET /health HTTP/9.9\r\n\r\n", "HTTP/1.1 "),
        (b"GET /\x00health HTTP/1.1\r\n\r\n", "HTTP/1.1 400"),
        (
            b"GET /health HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (b"GET /health HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 400"),
        (b"GET /health HTTP/1.1\r\nno colon here\r\n\r\n", "HTTP/1.1 400"),
    ] {
        let mut stream = connect(&exporter);
        stream.write_all(bytes).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("no more to say");
        check_closed(&mut stream, expected);
    }
    check_answers(&exporter);
    assert_eq!(value(&exporter.metrics(), "redvigil_panics_total"), Some(0.0));
}

#[test]
fn requests_in_a_pipeline_are_answered_in_order() {
    let exporter = alone(&[]);
    let mut stream = connect(&exporter);
    let paths = ["/health", "/nowhere", "/-/ready", "/metrics", "/scrape", "/health"];
    let pipeline: String =
        paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
    stream.write_all(pipeline.as_bytes()).expect("sent");
    let mut answers = BufReader::new(stream);
    let statuses = paths.map(|_| http::read_response(&mut answers, false).expect("an answer").status);
    assert_eq!(statuses, [200, 404, 200, 200, 400, 200]);
}

#[test]
fn requests_over_the_limit_are_told_to_come_again_while_probes_are_answered() {
    let mut server = Server::start(Part::Redis7);
    let exporter = exporter(&[&format!("--redis.addr={}", server.url()), "--web.max-requests=2"]).start();
    server.pause();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..2).map(|_| scope.spawn(|| exporter.get("/metrics", &[]).status)).collect();
        wait_until("both requests are under way", PATIENCE, || {
            let over = exporter.get("/discover-cluster-nodes", &[]);
            over.status == 503 && over.header("retry-after") == Some("1")
        });
        let over = exporter.get("/metrics", &[]);
        assert_eq!((over.status, over.text()), (503, "too many requests are under way\n"));
        assert_eq!(exporter.get("/-/healthy", &[]).status, 200);
        assert_eq!(exporter.get("/health", &[]).status, 200);
        server.resume();
        for request in waiting {
            assert_eq!(request.join().expect("an answer"), 200);
        }
    });
    assert!(value(&exporter.metrics(), "redvigil_requests_overloaded_total").is_some_and(|n| n >= 2.0));
}

#[test]
fn targets_of_others_that_hang_do_not_hide_our_own() {
    let mut hung = Server::start(Part::Redis7);
    let server = Server::start(Part::Redis7);
    let exporter = exporter(&[&format!("--redis.addr={}", server.url()), "--web.max-requests=8"]).start();
    hung.pause();
    let path = format!("/scrape?target={}", hung.address());
    std::thread::scope(|scope| {
        for _ in 0..7 {
            // Again, should the question below have taken the last place for a moment.
            scope.spawn(|| {
                wait_until("a place", PATIENCE, || {
                    exporter.get(&path, &[("X-Prometheus-Scrape-Timeout-Seconds", "6")]).status == 200
                });
            });
        }
        wait_until("there is no room for one more", PATIENCE, || {
            exporter.get("/scrape?target=127.0.0.1:1", &[]).status == 503
        });
        for _ in 0..3 {
            assert_eq!(value(&exporter.metrics(), "redis_up"), Some(1.0));
        }
        hung.resume();
    });
}

#[test]
fn clients_that_hang_up_leave_nothing_behind() {
    let mut server = Server::start(Part::Redis7);
    let exporter = exporter(&[&format!("--redis.addr={}", server.url()), "--web.max-requests=4"]).start();
    exporter.metrics();
    server.pause();
    for _ in 0..3 {
        for _ in 0..4 {
            let mut stream = connect(&exporter);
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n").expect("sent");
        }
        wait_until("they are gone", PATIENCE, || established(&exporter) == 0);
    }
    server.resume();
    check_answers(&exporter);
}

#[test]
fn a_client_that_does_not_read_is_closed_before_newcomers_are_kept_out() {
    let server = Server::start(Part::Redis7);
    let exporter = exporter(&[&format!("--redis.addr={}", server.url()), "--web.max-connections=4"]).start();
    // So many answers that no buffer of a socket holds them.
    let request = "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n".repeat(400);
    let mut deaf: Vec<_> = (0..4).map(|_| connect(&exporter)).collect();
    for stream in &mut deaf {
        stream.write_all(request.as_bytes()).expect("sent");
    }
    // Until its buffers are full each of them has a handler at work, and then nobody is closed.
    for _ in 0..3 {
        wait_until("an answer where all places are taken", PATIENCE, || {
            exporter.try_get("/metrics", &[]).is_ok_and(|answer| answer.status == 200)
        });
    }
}
