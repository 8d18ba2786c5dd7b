//! Basic authentication: by the peer's flags, and by the web config file.

use super::{alone, value};
use testbed::Exporter;
use testbed::http::Request;

/// `user:pass` as a header value.
const RIGHT: &str = "Basic dXNlcjpwYXNz";
/// `user:wrong`.
const WRONG_PASSWORD: &str = "Basic dXNlcjp3cm9uZw==";
/// `other:pass`.
const WRONG_USER: &str = "Basic b3RoZXI6cGFzcw==";

fn hash() -> String {
    bcrypt::hash("pass", 4).expect("a hash")
}

fn check(exporter: &Exporter, path: &str, authorization: Option<&str>, status: u16) {
    let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", *value)).collect();
    let response = exporter.get(path, &headers);
    assert_eq!(response.status, status, "{path} {authorization:?}");
    if status == 401 {
        let challenge = "Basic realm=\"redis-exporter, charset=UTF-8\"";
        assert_eq!(response.header("www-authenticate"), Some(challenge), "{path}");
        assert_eq!(response.text(), "Unauthorized\n", "{path}");
    }
}

fn check_guarded(exporter: &Exporter) {
    for path in ["/metrics", "/", "/health", "/scrape", "/-/reload", "/discover-cluster-nodes", "/nowhere"] {
        for wrong in [None, Some(WRONG_PASSWORD), Some(WRONG_USER), Some("Basic x"), Some("Bearer x")] {
            check(exporter, path, wrong, 401);
        }
    }
    for _ in 0..3 {
        check(exporter, "/metrics", Some(RIGHT), 200);
        check(exporter, "/health", Some(RIGHT), 200);
        check(exporter, "/nowhere", Some(RIGHT), 404);
    }
    // Probes of an orchestrator know no password.
    check(exporter, "/-/healthy", None, 200);
    check(exporter, "/-/ready", None, 200);
    let page = exporter.get("/metrics", &[("Authorization", RIGHT)]);
    assert_eq!(value(page.text(), "redvigil_requests_unauthorized_total"), Some(36.0));
}

#[test]
fn a_plain_password_guards_every_path_but_the_probes() {
    let exporter = alone(&["--basic-auth-username=user", "--basic-auth-password=pass"]);
    check_guarded(&exporter);
    assert!(!exporter.stderr().contains("pass"), "{}", exporter.stderr());
}

#[test]
fn a_hash_guards_like_a_password() {
    check_guarded(&alone(&["--basic-auth-username=user", &format!("--basic-auth-hash-password={}", hash())]));
}

#[test]
fn users_of_the_web_config_file_guard_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("web.yml");
    std::fs::write(&path, format!("basic_auth_users:\n  user: {}\n  more: {}\n", hash(), hash()))
        .expect("written");
    check_guarded(&alone(&[&format!("--web.config.file={}", path.display())]));
}

#[test]
fn without_users_everybody_may_ask() {
    let exporter = alone(&[]);
    check(&exporter, "/metrics", None, 200);
    check(&exporter, "/metrics", Some(WRONG_USER), 200);
}

#[test]
fn a_hundred_guesses_at_once_do_not_keep_out_who_is_known() {
    let hash = bcrypt::hash("pass", 8).expect("a hash");
    let exporter = alone(&["--basic-auth-username=user", &format!("--basic-auth-hash-password={hash}")]);
    check(&exporter, "/metrics", Some(RIGHT), 200);
    std::thread::scope(|scope| {
        let guesses: Vec<_> = (0..100)
            .map(|_| scope.spawn(|| exporter.get("/metrics", &[("Authorization", WRONG_PASSWORD)]).status))
            .collect();
        for _ in 0..10 {
            check(&exporter, "/metrics", Some(RIGHT), 200);
        }
        for guess in guesses {
            let status = guess.join().expect("an answer");
            assert!(status == 401 || status == 503, "{status}");
        }
    });
}

#[test]
fn a_rate_limit_turns_away_who_asks_too_often_but_no_probe() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("web.yml");
    std::fs::write(&path, "rate_limit: {interval: 1h, burst: 3}\n").expect("written");
    let exporter = alone(&[&format!("--web.config.file={}", path.display())]);
    // The start of the test asked for /health, which counts.
    let statuses: Vec<_> = (0..4).map(|_| exporter.get("/", &[]).status).collect();
    assert_eq!(statuses, [200, 200, 429, 429]);
    let limited = exporter.send(Request::get("/metrics", &[]));
    assert_eq!((limited.status, limited.text()), (429, "Too Many Requests\n"));
    check(&exporter, "/-/healthy", None, 200);
}
