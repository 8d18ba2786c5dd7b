//! From 2.0 to 1.0.

use super::*;
use testbed::receiver::{Kind, Written};
use testbed::{Receiver, Reply};

fn kinds(receiver: &Receiver) -> Vec<Kind> {
    let samples = |request: &testbed::receiver::Received| !request.samples().is_empty();
    let requests = receiver.requests().into_iter().filter(samples);
    requests.map(|request| request.message.expect("a message").kind).collect()
}

/// A receiver of 1.0 that answers requests of 2.0 like that.
fn check(reply: Reply) {
    let receiver = Receiver::start();
    receiver.answer_by(move |request| {
        let is_v1 = request.header("x-prometheus-remote-write-version") == Some("0.1.0");
        if is_v1 { Reply::accepted() } else { reply.clone() }
    });
    let push = push_to(&receiver, Version::Auto);
    let times: Vec<_> = (0..4).map(|_| push.push(&["a:1", "b:2"])).collect();
    assert_eq!(push.outcome(), (8, vec![]));
    assert_eq!(kinds(&receiver), [Kind::V2, Kind::V1, Kind::V1, Kind::V1, Kind::V1]);
    let stored: Vec<_> = receiver.stored().iter().map(|sample| sample.timestamp).collect();
    assert_eq!(stored, times.iter().flat_map(|at| [*at, *at]).collect::<Vec<_>>());
    let view = push.view();
    assert_eq!(view.fallbacks.values().sum::<u64>(), 1);
    assert_eq!(view.format.map(|format| format.word()), Some("1.0"));
}

#[test]
fn who_does_not_know_the_content_type_gets_1_0() {
    check(Reply::status(415));
}

#[test]
fn who_stores_nothing_and_says_fine_gets_1_0() {
    // Prometheus 2.42 and VictoriaMetrics answer so.
    check(Reply::accepted().written(Written::Unsaid).storing(false));
}

#[test]
fn who_cannot_read_the_first_request_gets_1_0() {
    check(Reply::status(400));
}

#[test]
fn a_400_that_counts_what_was_written_is_an_answer_of_2_0() {
    let receiver = Receiver::start();
    receiver.answer([Reply::status(400).written(Written::Count(1)), Reply::accepted()]);
    let push = push_to(&receiver, Version::Auto);
    push.push(&["a:1", "b:2"]);
    push.push(&["a:1", "b:2"]);
    assert_eq!(push.outcome(), (3, vec![(Reason::Rejected, 1)]));
    assert_eq!(kinds(&receiver), [Kind::V2, Kind::V2]);
}

#[test]
fn a_400_later_on_says_nothing_of_the_version() {
    let receiver = Receiver::start();
    receiver.answer([Reply::accepted(), Reply::status(400), Reply::accepted()]);
    let push = push_to(&receiver, Version::Auto);
    for _ in 0..3 {
        push.push(&["a:1"]);
    }
    assert_eq!(push.outcome(), (2, vec![(Reason::Rejected, 1)]));
    assert_eq!(kinds(&receiver), [Kind::V2; 3]);
}

#[test]
fn one_bad_target_in_1_0_costs_its_own_samples() {
    let receiver = Receiver::start();
    receiver.answer_by(|request| {
        let bad = |sample: &testbed::receiver::Sample| sample.label("instance") == Some("bad:1");
        if request.samples().iter().any(bad) { Reply::status(400) } else { Reply::accepted() }
    });
    let push = push_to(&receiver, Version::V1);
    let names: Vec<_> = (0..99).map(|i| format!("good:{i}")).collect();
    let mut targets: Vec<_> = names.iter().map(String::as_str).collect();
    targets.insert(50, "bad:1");
    for _ in 0..3 {
        push.push(&targets);
    }
    assert_eq!(push.outcome(), (3 * 99, vec![(Reason::Rejected, 3)]));
    assert_eq!(receiver.stored().len(), 3 * 99);
}

#[test]
fn what_is_too_large_goes_target_by_target() {
    let receiver = Receiver::start();
    receiver.answer_by(
        |request| {
            if request.samples().len() > 1 { Reply::status(413) } else { Reply::accepted() }
        },
    );
    let push = push_to(&receiver, Version::V2);
    push.push(&["a:1", "b:2", "c:3"]);
    assert_eq!(push.outcome(), (3, vec![]));
    assert_eq!(receiver.count(), 4);
}
