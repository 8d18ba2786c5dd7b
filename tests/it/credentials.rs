//! Who is sent which password: whoever can reach `/scrape` can name any host, so only hosts that the operator
//! named get one.

use crate::{encoded, exporter, on_demand, scrape, watching};
use std::fs;
use testbed::{Exporter, Part, ScriptedServer, Server};

/// A server that writes down what it is sent. It takes any password, as a thief would.
fn listener() -> ScriptedServer {
    ScriptedServer::start(|_| testbed::Action::Default)
}

/// What the server was sent to prove who we are: user and password, one line for each connection.
fn sent_to(server: &ScriptedServer) -> Vec<String> {
    let login = |command: &Vec<String>| {
        let at = command.iter().position(|word| word == "AUTH")?;
        Some(
            command[at + 1..]
                .iter()
                .take_while(|word| *word != "SETNAME")
                .cloned()
                .collect::<Vec<_>>()
                .join(" "),
        )
    };
    server.commands().iter().filter_map(login).collect()
}

/// Scrapes a server of its own by what `target` makes of its address, and compares what it was sent.
#[track_caller]
fn check(args: &[&str], target: impl Fn(&str) -> String, expected: &[&str]) {
    let server = listener();
    let exporter = on_demand(args);
    scrape(&exporter, &target(&server.address())).assert_healthy();
    assert_eq!(sent_to(&server), expected, "{args:?}");
}

fn plain(address: &str) -> String {
    format!("redis://{address}")
}

#[test]
fn a_stranger_is_sent_nothing() {
    let known = listener();
    let own = format!("--redis.addr={}", known.url());
    let flags = [own.as_str(), "--redis.user=me", "--redis.password=sesame"];
    check(&flags, plain, &[]);
    check(&flags, |address| format!("redis://me:guess@{address}/3"), &[]);
    check(&flags, |address| format!("valkey://me@{address}"), &[]);
    check(&flags, |address| address.replace("127.0.0.1", "localhost"), &[]);
    assert_eq!(known.accepted(), 0);
}

#[test]
fn the_server_of_the_flags_is_sent_their_password_by_any_request() {
    let server = listener();
    let exporter =
        exporter(&[&format!("--redis.addr={}", server.url()), "--redis.user=me", "--redis.password=sesame"])
            .start();
    crate::metrics(&exporter).assert_healthy();
    scrape(&exporter, &server.address()).assert_healthy();
    // The user of the request is kept, its password is not.
    scrape(&exporter, &format!("redis://you:guess@{}", server.address())).assert_healthy();
    assert_eq!(sent_to(&server), ["me sesame", "you sesame"]);
}

#[test]
fn a_server_on_the_list_is_sent_the_password() {
    let own = "--redis.addr=127.0.0.1:1";
    for list in ["127.0.0.1", "127.0.0.0/8", "10.0.0.0/8,127.*", "*"] {
        let list = format!("--scrape.credentials-for={list}");
        check(&[own, "--redis.password=sesame", &list], plain, &["default sesame"]);
        check(&[own, "--redis.user=me", "--redis.password=sesame", &list], plain, &["me sesame"]);
        check(
            &[own, "--redis.user=me", "--redis.password=sesame", &list],
            |address| format!("redis://you:guess@{address}"),
            &["you sesame"],
        );
    }
    check(&[own, "--redis.password=sesame", "--scrape.credentials-for=10.0.0.0/8,*.example.org"], plain, &[]);
    // One port of a host is not the host.
    check(&[own, "--redis.password=sesame", "--scrape.credentials-for=127.0.0.1:2"], plain, &[]);
}

#[test]
fn the_password_file_is_found_by_any_spelling() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("passwords.json");
    let flag = format!("--redis.password-file={}", file.display());
    for (entry, target) in [
        ("ADDR", "ADDR"),
        ("redis://ADDR", "ADDR"),
        ("ADDR", "redis://ADDR"),
        ("redis://ADDR/", "valkey://ADDR"),
        ("redis://ADDR/0", "tcp://ADDR"),
        ("valkey://ADDR", "redis://ADDR/3"),
        ("tcp://ADDR", "redis://:guess@ADDR"),
    ] {
        let server = listener();
        let of = |pattern: &str| pattern.replace("ADDR", &server.address());
        fs::write(&file, format!(r#"{{"{}": "sesame"}}"#, of(entry)))
            .expect("a temporary file can be written");
        let exporter = on_demand(&[&flag]);
        scrape(&exporter, &of(target)).assert_healthy();
        assert_eq!(sent_to(&server), ["default sesame"], "{entry} {target}");
    }
    // An entry with a user is for that user alone; one by another scheme is for another server.
    for (entry, target) in
        [("redis://you@ADDR", "ADDR"), ("redis://127.0.0.1:1", "ADDR"), ("rediss://ADDR", "ADDR")]
    {
        let server = listener();
        let of = |pattern: &str| pattern.replace("ADDR", &server.address());
        fs::write(&file, format!(r#"{{"{}": "sesame"}}"#, of(entry)))
            .expect("a temporary file can be written");
        scrape(&on_demand(&[&flag]), &of(target)).assert_healthy();
        assert_eq!(sent_to(&server), [""; 0], "{entry} {target}");
    }
}

#[test]
fn a_real_server_takes_the_user_of_the_file() {
    let server =
        Server::builder(Part::Redis7).user("metrics", "on >sesame ~* &* +@all").password("other").start();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("passwords.json");
    let entry = format!(r#"{{"redis://metrics@{}": "sesame"}}"#, server.address());
    fs::write(&file, entry).expect("a temporary file can be written");
    let exporter = on_demand(&[format!("--redis.password-file={}", file.display())]);
    scrape(&exporter, &format!("redis://metrics@{}", server.address())).assert_healthy();
    scrape(&exporter, &server.address()).assert_down("auth");
}

#[test]
fn without_a_server_of_its_own_the_password_is_for_all_and_that_is_said() {
    let server = listener();
    let multi = exporter(&["--redis.addr=", "--redis.user=me", "--redis.password=sesame"]).start();
    scrape(&multi, &server.address()).assert_healthy();
    assert_eq!(sent_to(&server), ["me sesame"]);
    let log = multi.stderr();
    let warning = log.lines().find(|line| line.contains("--scrape.credentials-for")).expect("a warning");
    assert!(warning.contains("level=warn"), "{warning}");
    // A list narrows it, and then there is nothing to warn of.
    let other = listener();
    let narrowed =
        exporter(&["--redis.addr=", "--redis.password=sesame", "--scrape.credentials-for=10.0.0.0/8"])
            .start();
    scrape(&narrowed, &other.address()).assert_healthy();
    assert_eq!(sent_to(&other), [""; 0]);
    assert!(!narrowed.stderr().contains("level=warn"), "{}", narrowed.stderr());
}

#[test]
fn who_wants_a_password_and_gets_none_is_told_of_once() {
    let server = Server::builder(Part::Redis7).password("sesame").start();
    let exporter = exporter(&["--redis.addr=127.0.0.1:1", "--redis.password=sesame"]).start();
    for _ in 0..3 {
        scrape(&exporter, &server.address()).assert_down("auth");
    }
    let log = exporter.stderr();
    let hints = log.lines().filter(|line| line.contains("--scrape.credentials-for")).count();
    assert_eq!(hints, 1, "{log}");
}

fn status(exporter: &Exporter, target: &str) -> u16 {
    exporter.get(&format!("/scrape?target={}", encoded(target)), &[]).status
}

/// What our own counter says.
fn denied(exporter: &Exporter) -> Option<f64> {
    crate::metrics(exporter).value("redvigil_scrape_denied_total", &[])
}

#[test]
fn a_socket_is_no_target_unless_it_is_listed() {
    let server = Server::builder(Part::Redis7).unix_socket().start();
    let socket = format!("unix://{}", server.socket().display());
    let open = on_demand::<&str>(&[]);
    assert_eq!(status(&open, &socket), 403);
    assert_eq!(status(&open, "unix:///etc/passwd"), 403);
    assert_eq!(denied(&open), Some(2.0));
    let listed = on_demand(&[format!("--scrape.allow=unix:{}", server.socket().display())]);
    scrape(&listed, &socket).assert_healthy();
    assert_eq!(status(&listed, "unix:///etc/passwd"), 403);
    // The server of the flags is known anyhow.
    let own = watching(&socket);
    scrape(&own, &socket).assert_healthy();
    assert_eq!(server.info("clients")["connected_clients"], "3");
}

#[test]
fn targets_off_the_list_are_refused_and_counted() {
    let (inside, outside) = (listener(), listener());
    let exporter = on_demand(&[format!("--scrape.allow={},10.0.0.0/8", inside.address())]);
    scrape(&exporter, &inside.address()).assert_healthy();
    for target in [
        outside.address(),
        "localhost:6379".into(),
        format!("redis://{}@{}", inside.address(), outside.address()),
    ] {
        assert_eq!(status(&exporter, &target), 403, "{target}");
    }
    assert_eq!(outside.accepted(), 0);
    assert_eq!(denied(&exporter), Some(3.0));
}
