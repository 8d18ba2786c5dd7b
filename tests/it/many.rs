//! Many targets and many callers at once: nobody waits for somebody else's trouble.

use crate::{PATIENCE, encoded, on_demand, page::Page, scrape, watching};
use std::io::Write;
use std::net::TcpStream;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};
use testbed::{Action, Exporter, Part, ScriptedServer, Server, wait_until};

#[test]
fn twenty_callers_and_a_dozen_servers_get_every_answer() {
    let servers: Vec<Server> =
        Part::SERVERS.iter().cycle().take(12).map(|part| Server::start(*part)).collect();
    let exporter = on_demand::<&str>(&[]);
    let shown = [
        "redis_connected_clients",
        "redis_commands_processed_total",
        "redis_instance_info",
        "redis_uptime_in_seconds",
    ];
    thread::scope(|scope| {
        for caller in 0..20 {
            let (servers, exporter) = (&servers, &exporter);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(caller);
                for _ in 0..100 {
                    let server = &servers[random.usize(..servers.len())];
                    let page = scrape(exporter, &server.url());
                    assert_eq!((page.up(), page.error()), (1.0, ""));
                    // The answer is about the server that was asked for.
                    for family in shown {
                        assert!(page.has(family), "{family}");
                    }
                    let info = &page.families["redis_instance_info"].samples;
                    let (_, labels) = info.keys().next().expect("one sample");
                    assert_eq!(labels["tcp_port"], server.port().to_string());
                }
            });
        }
    });
    for server in &servers {
        assert_eq!(crate::our_clients(server).len(), 1, "one connection serves them all");
    }
    assert_eq!(own(&exporter, "redvigil_panics_total"), 0.0);
}

/// A number about the exporter itself.
fn own(exporter: &Exporter, family: &str) -> f64 {
    crate::metrics(exporter).value(family, &[]).unwrap_or_else(|| panic!("no {family}"))
}

#[test]
fn hung_servers_do_not_hold_up_healthy_ones() {
    let healthy: Vec<Server> = (0..4).map(|_| Server::start(Part::Redis7)).collect();
    let hung: Vec<ScriptedServer> =
        (0..12).map(|_| ScriptedServer::start(|_| Action::Half(vec![]))).collect();
    let exporter = on_demand::<&str>(&[]);
    healthy.iter().for_each(|server| scrape(&exporter, &server.url()).assert_healthy());
    let slowest = Mutex::new(Duration::ZERO);
    thread::scope(|scope| {
        for server in &hung {
            scope.spawn(|| {
                let header = [("X-Prometheus-Scrape-Timeout-Seconds", "2")];
                crate::scrape_within(&exporter, &server.url(), &header).assert_down("timeout");
            });
        }
        let all_hang = || hung.iter().all(|server| server.accepted() > 0);
        wait_until("all hung servers to be asked", PATIENCE, all_hang);
        for server in &healthy {
            scope.spawn(|| {
                for _ in 0..20 {
                    let begin = Instant::now();
                    scrape(&exporter, &server.url()).assert_healthy();
                    let mut slowest = slowest.lock().expect("nobody panics while it is held");
                    *slowest = begin.elapsed().max(*slowest);
                }
            });
        }
    });
    let slowest = slowest.into_inner().expect("nobody panicked");
    // The hung ones take two seconds; a busy machine gets one.
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

#[test]
fn a_hundred_hostile_servers_share_the_memory_of_a_few() {
    let flood = || {
        ScriptedServer::start(|command| match command[0].as_slice() {
            b"INFO" => Action::Endless {
                head: b"$67000000\r\n".into(),
                chunk: vec![b'x'; 1 << 16],
                pause: Duration::ZERO,
            },
            _ => Action::Default,
        })
    };
    // Endless within the limit of each: what counts is that they are all read at the same time.
    let servers: Vec<ScriptedServer> = (0..24).map(|_| flood()).collect();
    let healthy = Server::start(Part::Redis7);
    let mut exporter = on_demand::<&str>(&[]);
    thread::scope(|scope| {
        for server in &servers {
            scope.spawn(|| {
                let header = [("X-Prometheus-Scrape-Timeout-Seconds", "10")];
                crate::scrape_within(&exporter, &server.url(), &header).assert_down("protocol");
            });
        }
        scope.spawn(|| scrape(&exporter, &healthy.url()).assert_healthy());
    });
    let path = format!("/proc/{}/status", exporter.process().pid());
    let status = std::fs::read_to_string(path).expect("the exporter runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
    let megabytes: u64 = line.trim_end_matches("kB").trim().parse::<u64>().expect("a number") >> 10;
    assert!(megabytes < 400, "{megabytes} MiB");
    scrape(&exporter, &healthy.url()).assert_healthy();
}

#[test]
fn callers_that_hang_up_leave_the_exporter_well() {
    let mut server = Server::start(Part::Redis7);
    let exporter = watching(&server.url());
    crate::metrics(&exporter).assert_healthy();
    server.pause();
    let request = |path: &str, cut: usize| {
        let text =
            format!("GET {path} HTTP/1.1\r\nHost: h\r\nX-Prometheus-Scrape-Timeout-Seconds: 2\r\n\r\n");
        let mut stream = TcpStream::connect(("127.0.0.1", exporter.port())).expect("the exporter listens");
        stream.write_all(&text.as_bytes()[..text.len() - cut]).expect("it reads");
        stream
    };
    let target = format!("/scrape?target={}", encoded(&server.url()));
    for _ in 0..50 {
        // In the middle of the request, and while the answer is being made.
        drop(request("/metrics", 3));
        drop(request("/metrics", 0));
        drop(request(&target, 0));
    }
    server.resume();
    crate::metrics(&exporter).assert_healthy();
    scrape(&exporter, &server.url()).assert_healthy();
    assert_eq!(own(&exporter, "redvigil_panics_total"), 0.0);
    // Two jobs, one connection each; those who hung up left nothing open.
    wait_until("the others' connections to be closed", PATIENCE, || {
        crate::our_clients(&server).len() <= 2 && own(&exporter, "process_open_fds") < 40.0
    });
}

#[test]
fn a_caller_that_reads_slowly_gets_its_page() {
    let server = Server::start(Part::Redis7);
    let exporter = watching(&server.url());
    let mut stream = TcpStream::connect(("127.0.0.1", exporter.port())).expect("the exporter listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").expect("it reads");
    // Others are answered while this one has not taken a byte.
    for _ in 0..5 {
        crate::metrics(&exporter).assert_healthy();
    }
    let response =
        testbed::http::read_response(&mut std::io::BufReader::new(stream), false).expect("an answer");
    Page::parse(response.text()).assert_healthy();
}
