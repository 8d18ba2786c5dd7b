//! Answers that are lost, late, half, endless, or none: nothing is lost for it, and nothing is held up for long.

use super::*;
use std::time::Instant;
use testbed::receiver::Trouble;
use testbed::{Receiver, Reply};

/// The first answer is that; the record arrives all the same, and so does the next.
fn check(reply: Reply, code: &str) {
    let receiver = Receiver::start();
    receiver.answer([reply.clone(), Reply::accepted()]);
    let push = push_with(&receiver, Version::V2, |endpoint| endpoint.timeout = Duration::from_secs(2));
    let times = [push.push(&["a:1"]), push.push(&["a:1"])];
    assert_eq!(push.outcome(), (2, vec![]), "{reply:?}");
    let mut stored: Vec<_> = receiver.stored().iter().map(|sample| sample.timestamp).collect();
    assert!(stored.is_sorted(), "{stored:?}");
    stored.dedup();
    assert_eq!(stored, times, "{reply:?}");
    let codes: Vec<_> = push.view().requests.keys().map(|code| code.label().into_owned()).collect();
    assert_eq!(codes, ["204", code], "{reply:?}");
    // Where we gave up, the receiver does not know it yet.
    assert!(code == "timeout" || receiver.most_under_way() == 1);
}

#[test]
fn an_answer_that_is_lost_after_storing_costs_one_repetition() {
    let receiver = Receiver::start();
    receiver.answer([Reply::accepted().with(Trouble::Reset), Reply::accepted()]);
    let push = push_to(&receiver, Version::V2);
    let at = push.push(&["a:1"]);
    assert_eq!(push.outcome(), (1, vec![]));
    let stored: Vec<_> = receiver.stored().iter().map(|sample| sample.timestamp).collect();
    assert_eq!(stored, [at, at]);
    let requests = receiver.requests();
    assert_eq!(requests[0].body, requests[1].body);
}

#[test]
fn a_repetition_that_is_refused_is_no_alarm() {
    let receiver = Receiver::start();
    receiver.answer([Reply::accepted().with(Trouble::Reset), Reply::status(400)]);
    let push = push_to(&receiver, Version::V1);
    push.push(&["a:1"]);
    assert_eq!(push.outcome(), (0, vec![(Reason::PossibleDuplicate, 1)]));
}

#[test]
fn connections_that_end_instead_of_an_answer() {
    check(Reply::accepted().with(Trouble::Reset), "closed");
    check(Reply::accepted().with(Trouble::Close), "closed");
    check(Reply::accepted().with(Trouble::Reset).storing(false), "closed");
}

#[test]
fn an_answer_that_comes_before_the_body_was_read_counts() {
    let receiver = Receiver::start();
    receiver.refuse_early(60_000, Reply::status(413).body("too much"));
    let push = push_to(&receiver, Version::V2);
    // Random names, so that snappy does not make them small.
    let mut random = fastrand::Rng::with_seed(3);
    let names: Vec<String> = (0..50).map(|_| (0..100_000).map(|_| random.alphanumeric()).collect()).collect();
    let mut names: Vec<_> = names.iter().map(String::as_str).collect();
    push.push(&names);
    assert_eq!(push.outcome(), (0, vec![(Reason::TooLarge, 50)]));
    // Beside one that is small enough.
    names.push("a:1");
    push.push(&names);
    assert_eq!(push.outcome(), (1, vec![(Reason::TooLarge, 100)]));
}

#[test]
fn answers_that_take_too_long() {
    check(Reply::accepted().with(Trouble::Silence), "timeout");
    check(Reply::status(204).with(Trouble::SlowHead(Duration::from_millis(300))), "timeout");
    check(Reply::accepted().with(Trouble::Late(Duration::from_secs(4))), "timeout");
}

#[test]
fn answers_that_are_no_http() {
    check(Reply::accepted().with(Trouble::Garbage(b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec())), "protocol");
    check(Reply::accepted().with(Trouble::Garbage(b"HTTP/1.1 abc\r\n\r\n".to_vec())), "protocol");
    check(
        Reply::accepted().with(Trouble::Garbage(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n".to_vec())),
        "protocol",
    );
    check(Reply::accepted().with(Trouble::EndlessHeaders), "protocol");
}

#[test]
fn an_idle_connection_that_was_closed_costs_no_failure() {
    let receiver = Receiver::start();
    receiver.answer([Reply::accepted().with(Trouble::CloseAfter)]);
    let push = push_to(&receiver, Version::V2);
    for number in 1..=20 {
        push.push(&["a:1"]);
        wait_until("the request", PATIENCE, || receiver.count() == number);
    }
    assert_eq!(push.outcome(), (20, vec![]));
    let view = push.view();
    assert_eq!((view.retries, view.last_failure), (0, None));
}

#[test]
fn a_receiver_that_comes_and_goes_gets_everything_in_order() {
    let receiver = Receiver::start();
    let push = push_with(&receiver, Version::V2, |endpoint| endpoint.timeout = Duration::from_secs(1));
    let mut times = vec![];
    let begun = Instant::now();
    let mut random = fastrand::Rng::with_seed(7);
    while begun.elapsed() < Duration::from_secs(8) {
        times.push(push.push(&["a:1"]));
        thread::sleep(Duration::from_millis(random.u64(1..30)));
        match random.u8(..) {
            0..3 => receiver.go_down(),
            3..20 => receiver.come_up(),
            20..24 => receiver.answer([Reply::status(503), Reply::accepted()]),
            24..27 => receiver.answer([Reply::accepted().with(Trouble::Reset), Reply::accepted()]),
            _ => {}
        }
    }
    receiver.come_up();
    receiver.answer([Reply::accepted()]);
    assert_eq!(push.outcome(), (times.len() as u64, vec![]));
    let mut stored: Vec<_> = receiver.stored().iter().map(|sample| sample.timestamp).collect();
    assert!(stored.is_sorted(), "in order, with repetitions beside what they repeat");
    stored.dedup();
    assert_eq!(stored, times);
}
