//! Start, reload, stop, systemd.

use super::{PATIENCE, alone, connect, established, exporter, say, value};
use rustix::process::Signal;
use std::fs;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testbed::http::{self, Request};
use testbed::{Exporter, Part, Port, Process, Server, wait_for, wait_until};

fn post(exporter: &Exporter, method: &str) -> (u16, String) {
    let response = exporter.send(Request { method, path: "/-/reload", headers: &[], body: b"" });
    (response.status, response.text().to_owned())
}

#[test]
fn a_reload_reads_the_password_file_and_keeps_the_old_one_where_it_cannot() {
    let server = Server::builder(Part::Redis7).password("right").start();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let passwords = |password: &str| {
        fs::write(file.path(), format!("{{\"{}\": \"{password}\"}}", server.url())).expect("written");
    };
    passwords("wrong");
    let mut exporter = exporter(&[
        &format!("--redis.addr={}", server.url()),
        &format!("--redis.password-file={}", file.path().display()),
    ])
    .start();
    assert_eq!(value(&exporter.metrics(), "redis_up"), Some(0.0));
    passwords("right");
    for method in ["GET", "POST", "PUT"] {
        assert_eq!(post(&exporter, method), (200, "ok".into()), "{method}");
    }
    assert_eq!(post(&exporter, "DELETE").0, 405);
    assert_eq!(value(&exporter.metrics(), "redis_up"), Some(1.0));

    fs::write(file.path(), "{\"redis://h\": \"p").expect("written");
    let reason = "failed to reload passwords file: unexpected end of JSON input\n";
    assert_eq!(post(&exporter, "GET"), (500, reason.into()));
    let page = exporter.metrics();
    assert_eq!(value(&page, "redis_up"), Some(1.0));
    assert_eq!(value(&page, "redvigil_config_last_reload_successful"), Some(0.0));
    // The file is followed as well: whoever does may have come first, and failed, too.
    let failed = "redvigil_config_reloads_total{outcome=\"failed\",source=\"request\"}";
    assert_eq!(value(&page, failed), Some(1.0), "{page}");
    assert!(value(&page, "redvigil_config_reload_failures_total") >= Some(1.0));

    // By signal as well.
    passwords("wrong again");
    exporter.process().signal(Signal::HUP);
    wait_until("the reload", PATIENCE, || {
        value(&exporter.metrics(), "redvigil_config_last_reload_successful") == Some(1.0)
    });
    for secret in ["right", "wrong"] {
        assert!(!exporter.stderr().contains(secret), "{}", exporter.stderr());
    }
}

#[test]
fn a_reload_without_a_file_says_so() {
    let reason = "There is no pwd file specified\n";
    let exporter = alone(&[]);
    for method in ["GET", "POST", "PUT"] {
        assert_eq!(post(&exporter, method), (400, reason.into()), "{method}");
    }
    let config = tempfile::NamedTempFile::new().expect("a file");
    let with_config = alone(&[&format!("--web.config.file={}", config.path().display())]);
    assert_eq!(post(&with_config, "GET"), (400, reason.into()));
    assert_eq!(post(&with_config, "POST"), (200, "ok".into()));
    fs::write(config.path(), "x: 1\n").expect("written");
    let (status, text) = post(&with_config, "POST");
    assert!(status == 500 && text.contains("line 1 column 1: unknown key \"x\""), "{text}");
}

#[test]
fn a_port_in_use_is_one_line_and_exit_code_one() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let finished = exporter(&[&format!("--web.listen-address={address}")]).run_to_end(PATIENCE);
    assert_eq!(finished.status.code(), Some(1));
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    let start = format!("redvigil: cannot listen on {address}: Address already in use");
    assert!(finished.stderr.starts_with(&start), "{}", finished.stderr);
}

#[test]
fn nothing_is_contacted_at_start_and_the_start_is_quick() {
    let target = TcpListener::bind("127.0.0.1:0").expect("a port");
    target.set_nonblocking(true).expect("set");
    let address = target.local_addr().expect("an address");
    let exporter = exporter(&[&format!("--redis.addr={address}")]).start();
    assert_eq!(exporter.get("/-/ready", &[]).status, 200);
    assert_eq!(target.accept().expect_err("nobody came").kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn several_sockets_are_listened_on_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("s");
    drop(UnixListener::bind(&socket).expect("left behind by another"));
    let ports = [Port::take(), Port::take()];
    let mut exporter = alone(&[
        &format!("--web.listen-address=:{}", ports[0].number()),
        &format!("--web.listen-address=localhost:{}", ports[1].number()),
        &format!("--web.listen-address=unix:{}", socket.display()),
    ]);
    for port in ports.iter().map(Port::number).chain([exporter.port()]) {
        let response = http::send(port, None, Request::get("/health", &[]), PATIENCE).expect("an answer");
        assert_eq!(response.status, 200, "{port}");
    }
    let stream = UnixStream::connect(&socket).expect("connected");
    assert_eq!(http::exchange(stream, Request::get("/metrics", &[])).expect("an answer").status, 200);
    assert_eq!(exporter.stop().code(), Some(0));
    assert!(!socket.exists(), "the socket is removed");
}

#[test]
fn a_stop_lets_requests_finish_and_nobody_else_in() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start(Part::Redis7);
        let mut exporter = exporter(&[&format!("--redis.addr={}", server.url())]).start();
        exporter.metrics();
        let mut idle = connect(&exporter);
        assert_eq!(say(&mut idle, b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n").status, 200);
        let mut half = connect(&exporter);
        half.write_all(b"GET /metrics HTTP/1.1\r\n").expect("sent");
        server.pause();
        let mut under_way = connect(&exporter);
        under_way.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n").expect("sent");
        let begin = Instant::now();
        // The probe shares the collection: when it is turned away by its own deadline, the other is under way.
        let probe = exporter.get("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "0.4")]);
        assert_eq!(probe.status, 200);
        exporter.process().signal(signal);
        wait_until("nobody is let in", PATIENCE, || {
            TcpStream::connect(("127.0.0.1", exporter.port())).is_err()
        });
        assert_eq!(idle.read(&mut [0]).expect("closed in good order"), 0);
        let _ = half.read(&mut [0]);
        server.resume();
        let response = http::read_response(&mut BufReader::new(under_way), false).expect("an answer");
        assert_eq!((response.status, value(response.text(), "redis_up")), (200, Some(1.0)));
        assert_eq!(exporter.process().wait(PATIENCE).code(), Some(0), "{}", exporter.stderr());
        assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
    }
}

#[test]
fn a_stop_that_takes_too_long_ends_with_exit_code_one() {
    let mut server = Server::start(Part::Redis7);
    let mut exporter = exporter(&[&format!("--redis.addr={}", server.url())]).start();
    exporter.metrics();
    server.pause();
    let mut hanging = connect(&exporter);
    hanging.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n").expect("sent");
    let probe = exporter.get("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "0.4")]);
    assert_eq!(probe.status, 200);
    let begin = Instant::now();
    exporter.process().signal(Signal::TERM);
    assert_eq!(exporter.process().wait(PATIENCE).code(), Some(1), "{}", exporter.stderr());
    assert!(begin.elapsed() > Duration::from_secs(9), "{:?}", begin.elapsed());
    assert!(exporter.stderr().contains("did not finish within 10 s"), "{}", exporter.stderr());
}

#[test]
fn systemd_hears_of_start_reload_and_stop() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).expect("bound");
    systemd.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut exporter = exporter(&["--redis.addr="])
        .env("NOTIFY_SOCKET", path.to_str().expect("UTF-8"))
        .env("WATCHDOG_USEC", "100000")
        .start();
    let hear = |expected: &str| {
        wait_for(expected, PATIENCE, || {
            let mut heard = [0; 100];
            let size = systemd.recv(&mut heard).expect("a datagram");
            heard[..size].starts_with(expected.as_bytes()).then_some(())
        });
    };
    hear("READY=1\n");
    hear("WATCHDOG=1\n");
    hear("WATCHDOG=1\n");
    exporter.process().signal(Signal::HUP);
    hear("RELOADING=1\nMONOTONIC_USEC=");
    hear("READY=1\n");
    exporter.process().signal(Signal::TERM);
    hear("STOPPING=1\n");
    assert_eq!(exporter.process().wait(PATIENCE).code(), Some(0));
}

/// A child that is killed with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the exporter as systemd does, with this socket as its third file.
fn activated(socket: OwnedFd, pid: &str) -> Killed {
    let script =
        format!("exec 3<&0 </dev/null; LISTEN_PID={pid} LISTEN_FDS=1 LISTEN_FDNAMES=web exec \"$0\" \"$@\"");
    let child = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_redvigil"), "--redis.addr=", "--web.systemd-socket"])
        .stdin(Stdio::from(socket))
        .stderr(Stdio::piped())
        .spawn();
    Killed(child.expect("started"))
}

#[test]
fn sockets_of_systemd_are_taken_over() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = tcp.local_addr().expect("an address").port();
    let _by_tcp = activated(tcp.into(), "$$");
    let response = http::send(port, None, Request::get("/metrics", &[]), PATIENCE).expect("an answer");
    assert_eq!(response.status, 200);

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let _by_unix = activated(UnixListener::bind(&path).expect("bound").into(), "$$");
    let stream = UnixStream::connect(&path).expect("connected");
    assert_eq!(http::exchange(stream, Request::get("/health", &[])).expect("an answer").status, 200);
}

#[test]
fn sockets_that_are_meant_for_another_process_are_left_alone() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut child = activated(tcp.into(), "1");
    let mut said = String::new();
    child.0.stderr.take().expect("a pipe").read_to_string(&mut said).expect("read");
    assert_eq!(child.0.wait().expect("ended").code(), Some(1));
    assert!(said.contains("--web.systemd-socket: systemd passed no socket"), "{said}");
}

#[test]
fn the_kernel_is_asked_for_all_files_that_we_may_have() {
    let script = "ulimit -Sn 64; exec \"$0\" \"$@\"";
    let port = Port::take();
    let flags = ["--redis.addr=".to_owned(), format!("--web.listen-address=127.0.0.1:{}", port.number())];
    let args: Vec<String> =
        ["-c", script, env!("CARGO_BIN_EXE_redvigil")].map(str::to_owned).into_iter().chain(flags).collect();
    let _process = Process::start(Path::new("/bin/sh"), &args, &[]);
    let ask = || http::send(port.number(), None, Request::get("/metrics", &[]), PATIENCE).ok();
    let page = wait_for("an answer", PATIENCE, ask);
    assert!(value(page.text(), "process_max_fds").is_some_and(|files| files > 64.0), "{}", page.text());
}

#[test]
fn connections_are_kept_between_scrapes() {
    let exporter = alone(&[]);
    let mut stream = connect(&exporter);
    for _ in 0..50 {
        assert_eq!(say(&mut stream, b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n").status, 200);
    }
    assert_eq!(established(&exporter), 1);
}
