//! TLS, tokens, passwords, headers; and that nobody hears of them who should not.

use super::*;
use redvigil::config::Secret;
use redvigil::config::deliver::{Protocol, Word};
use testbed::{Certificates, Receiver, Reply};

#[test]
fn headers_and_words_go_to_the_receiver_and_nowhere_else() {
    let receiver = Receiver::start();
    let body = "who are you? not hunter2, not Basic bWU6aHVudGVyMg==, not by ?token=hunter2";
    receiver.answer([Reply::status(401).body(body)]);
    let push = push_with(&receiver, Version::V2, |endpoint| {
        endpoint.url.path = "/push?token=hunter2".into();
        endpoint.headers = vec![
            ("X-Scope-OrgID".into(), Secret::new("hunter2")),
            ("Content-Type".into(), Secret::new("text/plain")),
        ];
        endpoint.auth = Auth::Basic { user: "me".into(), password: Word::Given(Secret::new("hunter2")) };
    });
    push.push(&["a:1"]);
    wait_until("a failure", PATIENCE, || push.view().last_failure.is_some());
    let request = &receiver.requests()[0];
    assert_eq!(request.path, "/push?token=hunter2");
    assert_eq!(request.header("x-scope-orgid"), Some("hunter2"));
    assert_eq!(request.header("authorization"), Some("Basic bWU6aHVudGVyMg=="));
    let types: Vec<_> = request.headers.iter().filter(|(name, _)| name == "content-type").collect();
    assert_eq!((types.len(), types[0].1.starts_with("application/x-protobuf")), (1, true));
    let told = format!("{:?}", push.view());
    assert!(
        !told.contains("hunter2") && !told.contains("aHVudGVyMg") && told.contains("who are you?"),
        "{told}"
    );
}

#[test]
fn a_new_token_ends_a_refusal_within_seconds() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "old\n").expect("written");
    let receiver = Receiver::start();
    receiver.answer_by(|request| match request.header("authorization") {
        Some("Bearer new") => Reply::accepted(),
        _ => Reply::status(401),
    });
    let push = push_with(&receiver, Version::V2, |endpoint| {
        endpoint.auth = Auth::Bearer(Word::File(file.path().into()));
    });
    push.push(&["a:1"]);
    wait_until("the receiver to refuse us", PATIENCE, || push.view().state().word() == "degraded");
    thread::sleep(Duration::from_secs(3));
    assert_eq!(receiver.count(), 1);
    std::fs::write(file.path(), "new\n").expect("written");
    let begun = std::time::Instant::now();
    assert_eq!(push.outcome(), (1, vec![]));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_token_that_cannot_be_read_holds_what_waits() {
    let receiver = Receiver::start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    let push = push_with(&receiver, Version::V2, |endpoint| {
        endpoint.auth = Auth::Bearer(Word::File(path.clone()));
    });
    push.push(&["a:1"]);
    wait_until("us to be of no use", PATIENCE, || push.view().state().word() == "degraded");
    let reason = push.view().worst().and_then(|lane| lane.reason).map(|reason| reason.word());
    assert_eq!((reason, receiver.count()), (Some("local"), 0));
    std::fs::write(&path, "word").expect("written");
    assert_eq!(push.outcome(), (1, vec![]));
    assert_eq!(receiver.requests()[0].header("authorization"), Some("Bearer word"));
}

#[test]
fn tls_is_verified_and_its_files_are_read_again() {
    let certificates = Certificates::generate();
    let other = Certificates::generate();
    let receiver = Receiver::start_tls(&certificates);
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::copy(&other.ca, &ca).expect("copied");
    let push = push_with(&receiver, Version::V2, |endpoint| endpoint.tls.ca_file = Some(ca.clone()));
    push.push(&["a:1"]);
    wait_until("a failure", PATIENCE, || push.view().last_failure.is_some());
    let codes: Vec<_> = push.view().requests.keys().map(|code| code.label()).collect();
    assert_eq!((codes, receiver.count()), (vec!["tls".into()], 0));
    std::fs::copy(&certificates.ca, &ca).expect("copied");
    assert_eq!(push.outcome(), (1, vec![]));
    push.push(&["a:1"]);
    assert_eq!(push.outcome(), (2, vec![]));
    assert_eq!((receiver.stored().len(), receiver.connections()), (2, 1));
    // A connection that was made with what a file said before is not used any more.
    let text = std::fs::read_to_string(&ca).expect("a file");
    std::fs::write(&ca, format!("{text}\n")).expect("written");
    push.push(&["a:1"]);
    assert_eq!((push.outcome(), receiver.connections()), ((3, vec![]), 2));
}

#[test]
fn grpc_goes_over_tls_too() {
    let certificates = Certificates::generate();
    let receiver = Receiver::start_grpc_tls(&certificates);
    receiver.answer([Reply::grpc(0, "")]);
    let mut endpoint = endpoint(true, receiver.port(), "/");
    endpoint.tls.ca_file = Some(certificates.ca.clone());
    let push = Push::start(output(Destination::Otlp { protocol: Protocol::Grpc, endpoint }));
    push.push(&["a:1"]);
    assert_eq!((push.outcome(), receiver.count()), ((1, vec![]), 1));
}
