//! What an answer may look like without making a difference, and where it does.

use super::*;
use testbed::receiver::{Trouble, Written};
use testbed::{Receiver, Reply};

/// What becomes of one record of two samples, and how many requests it took.
fn check(reply: Reply, expected: (u64, Vec<(Reason, u64)>)) {
    let receiver = Receiver::start();
    receiver.answer([reply.clone(), Reply::accepted()]);
    let push = push_to(&receiver, Version::V2);
    push.push(&["a:1", "b:2"]);
    push.push(&["a:1", "b:2"]);
    let expected = (expected.0 + 2, expected.1);
    assert_eq!((push.outcome(), receiver.count()), (expected, 2), "{reply:?}");
}

#[test]
fn bodies_of_a_success_are_ignored() {
    check(Reply::status(200), (2, vec![]));
    check(Reply::status(202).body("accepted"), (2, vec![]));
    check(Reply::status(204), (2, vec![]));
    check(Reply::status(200).body("{\"error\": \"not at all\"}"), (2, vec![]));
    check(Reply::status(200).body(vec![0xff; 5_000]), (2, vec![]));
    check(Reply::status(200).body(vec![b'x'; 5 << 20]), (2, vec![]));
}

#[test]
fn a_body_that_is_broken_or_endless_does_not_undo_the_status() {
    check(Reply::status(200).body("half").with(Trouble::CutBody), (2, vec![]));
    check(Reply::status(200).with(Trouble::EndlessBody), (2, vec![]));
    check(
        Reply::status(200).body("slow as can be").with(Trouble::SlowBody(Duration::from_secs(1))),
        (2, vec![]),
    );
    check(Reply::status(400).with(Trouble::EndlessBody), (0, vec![(Reason::Rejected, 2)]));
}

#[test]
fn what_was_not_written_is_counted() {
    check(Reply::status(204).written(Written::Count(1)), (1, vec![(Reason::Rejected, 1)]));
    check(Reply::status(204).written(Written::Count(0)), (0, vec![(Reason::Rejected, 2)]));
    check(Reply::status(204).written(Written::Count(9)), (2, vec![]));
    check(Reply::status(400).written(Written::Count(1)), (1, vec![(Reason::Rejected, 1)]));
}

#[test]
fn a_large_body_of_an_error_is_told_in_part() {
    let receiver = Receiver::start();
    let body = format!("line one\nline two\u{7}{}", "x".repeat(100_000));
    receiver.answer([Reply::status(500).body(body), Reply::accepted()]);
    let push = push_to(&receiver, Version::V2);
    push.push(&["a:1"]);
    assert_eq!(push.outcome(), (1, vec![]));
    let told = push.view().last_failure.expect("a failure").text;
    assert!(told.starts_with("the receiver answered 500: line one\\nline two\\u{7}xxx"), "{told}");
    assert!(told.len() < 1_200, "{}", told.len());
}

#[test]
fn a_redirect_is_not_followed() {
    let other = Receiver::start();
    let receiver = Receiver::start();
    receiver.answer([Reply::status(307).header("Location", &other.url("/api/v1/write"))]);
    let push = push_to(&receiver, Version::V2);
    push.push(&["a:1"]);
    wait_until("the receiver to refuse us", PATIENCE, || push.view().state().word() == "degraded");
    let reason = push.view().worst().and_then(|lane| lane.reason).map(|reason| reason.word());
    assert_eq!((reason, other.count(), push.status().total.pending), (Some("redirect"), 0, 1));
}
