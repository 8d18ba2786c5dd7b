//! Every path, every method, every parameter.

use super::{alone, connect, exporter, say, value};
use std::io::Read as _;
use testbed::http::Request;
use testbed::{Cluster, Exporter, Part, Port, Server};

fn check(exporter: &Exporter, method: &str, path: &str, status: u16, start: &str) {
    let response = exporter.send(Request { method, path, headers: &[], body: b"" });
    assert_eq!(response.status, status, "{method} {path}: {}", response.text());
    assert!(response.text().starts_with(start), "{method} {path}: {}", response.text());
    let kind = response.header("content-type").unwrap_or_default();
    assert!(response.header("content-length").is_some(), "{method} {path}");
    if status >= 400 {
        assert_eq!(kind, "text/plain; charset=utf-8", "{method} {path}");
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{method} {path}");
        assert_eq!(response.text().matches('\n').count(), 1, "{method} {path}: one line");
        assert!(response.text().ends_with('\n'), "{method} {path}");
    }
}

#[test]
fn each_path_answers_and_no_method_is_refused() {
    let exporter = alone(&[]);
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        check(&exporter, method, "/health", 200, "ok");
        check(&exporter, method, "/-/healthy", 200, "ok");
        check(&exporter, method, "/-/ready", 200, "ok");
        check(&exporter, method, "/metrics", 200, "# HELP ");
        check(&exporter, method, "/scrape", 400, "'target' parameter must be specified\n");
        for path in ["/nonexistent", "/foo/bar", "/metrics2", "/scrape2", "/admin", "/metrics/", "//metrics"]
        {
            check(&exporter, method, path, 404, "404 page not found\n");
        }
    }
    let health = exporter.get("/health", &[]);
    assert_eq!((health.text(), health.header("content-type")), ("ok", Some("text/plain; charset=utf-8")));
    let landing = exporter.get("/", &[]);
    assert!(landing.text().contains("<title>Redis Exporter "), "{}", landing.text());
    assert!(landing.text().contains("<h1>Redis Exporter "), "{}", landing.text());
    assert!(landing.text().contains("href=\"/metrics\""), "{}", landing.text());
}

#[test]
fn head_gives_the_headers_of_get() {
    let exporter = alone(&[]);
    for path in ["/", "/health", "/metrics", "/nowhere"] {
        let get = exporter.get(path, &[]);
        let head = exporter.send(Request { method: "HEAD", path, headers: &[], body: b"" });
        assert_eq!(
            (head.status, head.header("content-type")),
            (get.status, get.header("content-type")),
            "{path}"
        );
        assert!(head.header("content-length").is_some_and(|length| length != "0"), "{path}");
    }
    // Nothing but the head came: the next answer on the same connection begins where it should.
    let mut stream = connect(&exporter);
    let mut both = String::new();
    std::io::Write::write_all(
        &mut stream,
        b"HEAD /health HTTP/1.1\r\nHost: h\r\n\r\nGET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    )
    .expect("sent");
    stream.read_to_string(&mut both).expect("read to the end");
    assert!(both.contains("\r\n\r\nHTTP/1.1 200 OK\r\n") && both.ends_with("\r\n\r\nok"), "{both}");
}

#[test]
fn http_10_is_answered_and_closed() {
    let exporter = alone(&[]);
    let mut stream = connect(&exporter);
    let response = say(&mut stream, b"GET /health HTTP/1.0\r\n\r\n");
    assert_eq!((response.status, response.text()), (200, "ok"));
    assert_eq!(stream.read(&mut [0]).expect("closed in good order"), 0);
}

#[test]
fn the_telemetry_path_and_the_scrape_path_follow_the_flags() {
    let exporter = alone(&["--web.telemetry-path=/m", "--disable-scrape-endpoint"]);
    check(&exporter, "GET", "/m", 200, "# HELP ");
    check(&exporter, "GET", "/metrics", 404, "404 page not found\n");
    check(&exporter, "GET", "/scrape?target=h", 404, "404 page not found\n");
    assert!(exporter.get("/", &[]).text().contains("href=\"/m\""));
}

#[test]
fn a_scrape_that_cannot_be_understood_is_400_and_counted() {
    let exporter = alone(&[]);
    let bad = [
        ("/scrape", "'target' parameter must be specified\n"),
        ("/scrape?target=", "'target' parameter must be specified\n"),
        ("/scrape?target=://nope", "Invalid 'target' parameter: "),
        ("/scrape?target=127.0.0.1:6379-", "Invalid 'target' parameter: "),
        ("/scrape?target=%zz", "Invalid 'target' parameter: "),
        ("/scrape?target=%ff%fe", "Invalid 'target' parameter: "),
        ("/scrape?target=h%0d%0aX-Evil:%201", "Invalid 'target' parameter: "),
        ("/scrape?target=h&check-streams=1=2=3=4", "Invalid parameter: check-streams "),
        ("/scrape?target=h&check-keys=%2", "Invalid 'check-keys' parameter: "),
        ("/scrape?target=h&count-keys=db-1=k", "Invalid parameter: count-keys "),
    ];
    for (path, start) in bad {
        check(&exporter, "GET", path, 400, start);
    }
    let page = exporter.metrics();
    assert_eq!(value(&page, "redis_target_scrape_request_errors_total"), Some(bad.len() as f64));
}

#[test]
fn targets_outside_the_list_are_403_and_counted() {
    let server = Server::start(Part::Redis7);
    let exporter = alone(&["--scrape.allow=127.0.0.1"]);
    check(&exporter, "GET", "/scrape?target=10.0.0.1:6379", 403, "");
    check(&exporter, "GET", "/scrape?target=unix:///tmp/x.sock", 403, "");
    let page = exporter.get(&format!("/scrape?target={}", server.address()), &[]);
    assert_eq!(value(page.text(), "redis_up"), Some(1.0));
    assert_eq!(value(&exporter.metrics(), "redvigil_scrape_denied_total"), Some(2.0));
}

#[test]
fn a_target_that_wants_a_password_is_told_to_the_operator_once() {
    let server = Server::builder(Part::Redis7).password("hunter2").start();
    let exporter = alone(&[]);
    for _ in 0..3 {
        let page = exporter.get(&format!("/scrape?target={}", server.address()), &[]);
        assert_eq!((page.status, value(page.text(), "redis_up")), (200, Some(0.0)));
    }
    let log = exporter.stderr();
    assert_eq!(log.matches("--scrape.credentials-for").count(), 1, "{log}");
}

#[test]
fn a_filter_by_name_keeps_whole_families_on_both_paths() {
    let server = Server::start(Part::Redis7);
    let exporter = exporter(&[&format!("--redis.addr={}", server.url())]).start();
    let scrape = format!("/scrape?target={}&", server.address());
    for path in ["/metrics?", &scrape] {
        let page =
            exporter.get(&format!("{path}name[]=redis_up&name%5B%5D=redis_connected_clients&name[]=x"), &[]);
        let families: Vec<_> = page.text().lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        assert_eq!(families, ["redis_connected_clients gauge", "redis_up gauge"], "{path}");
        let page = exporter.get(&format!("{path}name[]=redis_u"), &[]);
        assert_eq!((page.status, page.text()), (200, ""), "{path}");
    }
}

#[test]
fn parameters_of_a_request_replace_the_flags() {
    let server = Server::start(Part::Redis7);
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3")] {
        server.ok(&["SET", key, value]);
    }
    let exporter = alone(&["--check-single-keys=a", "--count-keys=a*"]);
    let keys = |query: &str| {
        let page = exporter.get(&format!("/scrape?target={}{query}", server.address()), &[]);
        let mut found: Vec<_> = page
            .text()
            .lines()
            .filter(|line| line.starts_with("redis_key_value{") || line.starts_with("redis_keys_count{"))
            .map(|line| {
                line.split("key=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("?").to_owned()
            })
            .collect();
        found.sort();
        found.join(" ")
    };
    assert_eq!(keys(""), "a a*");
    assert_eq!(keys("&check-single-keys="), "a a*");
    assert_eq!(keys("&check-single-keys=b,db0=c"), "a* b c");
    assert_eq!(keys("&check-single-keys=b&count-keys=%5Babc%5D"), "[abc] b");
    assert_eq!(keys("&check-keys=c*&unknown=x"), "a a* c");
}

#[test]
fn a_format_and_a_compression_are_chosen_by_the_headers() {
    let exporter = alone(&[]);
    let check = |headers: &[(&str, &str)], kind: &str, encoding: Option<&str>| {
        let response = exporter.get("/metrics", headers);
        assert_eq!(response.header("content-type"), Some(kind), "{headers:?}");
        assert_eq!(response.header("content-encoding"), encoding, "{headers:?}");
        let length = response.header("content-length").expect("a length");
        assert_eq!(length.parse(), Ok(response.body.len()), "{headers:?}");
    };
    let text = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    check(&[], text, None);
    check(&[("Accept-Encoding", "gzip")], text, Some("gzip"));
    check(&[("Accept-Encoding", "zstd")], text, Some("zstd"));
    check(&[("Accept-Encoding", "deflate")], text, None);
    check(
        &[("Accept", "text/plain;version=0.0.4;escaping=allow-utf-8")],
        "text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8",
        None,
    );
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores";
    check(&[("Accept", "application/openmetrics-text;version=1.0.0")], openmetrics, None);
    check(&[("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")], text, None);
}

#[test]
fn discovery_lists_all_nodes_of_a_cluster() {
    let cluster = Cluster::start(Part::Redis7, 3, 0);
    let masters = cluster.masters();
    let addr = format!("--redis.addr={}", masters[0].url());
    let in_cluster = exporter(&[&addr, "--is-cluster"]).start();
    let response = in_cluster.get("/discover-cluster-nodes", &[]);
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    assert!(
        response.text().starts_with("[\n  {\n    \"targets\": [\n      \"redis://"),
        "{}",
        response.text()
    );
    assert!(response.text().ends_with("],\n    \"labels\": {}\n  }\n]"), "{}", response.text());
    for master in masters {
        assert!(
            response.text().contains(&format!("\"redis://{}\"", master.address())),
            "{}",
            response.text()
        );
    }
    let plain = exporter(&[&addr]).start();
    let reason = "The discovery endpoint is only available on a redis cluster\n";
    check(&plain, "GET", "/discover-cluster-nodes", 400, reason);
}

#[test]
fn discovery_beside_no_cluster_is_an_error_and_no_empty_list() {
    let server = Server::start(Part::Redis7);
    let free = Port::take();
    let start = "Couldn't connect to redis cluster: cluster refresh failed: ";
    for (address, more) in [
        (server.url(), ""),
        (format!("redis://127.0.0.1:{}", free.number()), "all nodes failed: "),
        ("redis://no-such-host.invalid:6379".into(), "all nodes failed: "),
    ] {
        let exporter = exporter(&[&format!("--redis.addr={address}"), "--is-cluster"]).start();
        check(&exporter, "GET", "/discover-cluster-nodes", 500, &format!("{start}{more}"));
    }
}
