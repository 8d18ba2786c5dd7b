//! What is sent again, when, and what never.

use super::*;
use testbed::{Receiver, Reply};

/// Pushes one sample to who answers that, for so long; how many requests came.
fn requests_within(reply: Reply, version: Version, time: Duration) -> (usize, Push, Receiver) {
    let receiver = Receiver::start();
    receiver.answer([reply]);
    let push = push_to(&receiver, version);
    push.push(&["a:1"]);
    wait_until("the first request", PATIENCE, || receiver.count() > 0);
    thread::sleep(time);
    (receiver.count(), push, receiver)
}

#[test]
fn what_is_wrong_with_the_request_is_not_sent_again() {
    // The suite of Prometheus allows for two requests.
    let checks = [400, 401, 403, 404, 405, 407, 409, 413, 422].map(|code| {
        thread::spawn(move || {
            for version in [Version::V2, Version::V1, Version::Auto] {
                let (count, push, _receiver) =
                    requests_within(Reply::status(code), version, Duration::from_secs(4));
                let most = if version == Version::Auto && code == 400 { 2 } else { 1 };
                assert_eq!(count, most, "{code} {version:?}");
                let held = matches!(code, 401 | 403 | 404 | 405 | 407);
                assert_eq!(push.status().total.pending, u64::from(held), "{code}");
            }
        })
    });
    checks.into_iter().for_each(|check| check.join().expect("as said"));
}

#[test]
fn server_errors_are_sent_again_the_same_and_counted() {
    let checks = [500, 502, 503, 504, 408, 429].map(|code| {
        thread::spawn(move || {
            let receiver = Receiver::start();
            receiver.answer([Reply::status(code), Reply::status(code), Reply::accepted()]);
            let push = push_to(&receiver, Version::V2);
            push.push(&["a:1"]);
            assert_eq!(push.outcome(), (1, vec![]), "{code}");
            let requests = receiver.requests();
            let attempts: Vec<_> = requests.iter().map(|request| request.header("retry-attempt")).collect();
            assert_eq!(attempts, [None, Some("1"), Some("2")]);
            assert!(requests.windows(2).all(|pair| pair[0].body == pair[1].body), "{code}");
            assert_eq!(push.view().retries, 2);
        })
    });
    checks.into_iter().for_each(|check| check.join().expect("as said"));
}

#[test]
fn pauses_grow_and_are_never_shorter_than_four_fifths_of_the_one_before() {
    let (_, push, receiver) = requests_within(Reply::status(503), Version::V2, Duration::from_secs(10));
    let times: Vec<_> = receiver.requests().iter().map(|request| request.at).collect();
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.len() >= 4, "{pauses:?}");
    assert!(
        pauses[0] >= Duration::from_millis(200) && pauses[0] < Duration::from_millis(1_000),
        "{pauses:?}"
    );
    assert!(pauses.windows(2).all(|pair| pair[1] >= pair[0].mul_f64(0.8)), "{pauses:?}");
    assert_eq!(push.status().total.pending, 1);
}

#[test]
fn retry_after_is_heard_in_both_forms() {
    let date = |ahead: u64| httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(ahead));
    // A date has no fraction of a second.
    let checks = [("2".to_owned(), 2.0), (date(4), 2.9)].map(|(value, least)| {
        thread::spawn(move || {
            let receiver = Receiver::start();
            receiver.answer([Reply::status(429).header("Retry-After", &value), Reply::accepted()]);
            let push = push_to(&receiver, Version::V2);
            push.push(&["a:1"]);
            assert_eq!(push.outcome(), (1, vec![]));
            let requests = receiver.requests();
            let pause = requests[1].at - requests[0].at;
            assert!((least..least + 3.0).contains(&pause.as_secs_f64()), "{value}: {pause:?}");
        })
    });
    checks.into_iter().for_each(|check| check.join().expect("as said"));
}

#[test]
fn nobody_there_costs_nothing_and_the_return_is_seen_in_seconds() {
    let receiver = Receiver::start();
    let push = push_to(&receiver, Version::V2);
    let mut times = vec![push.push(&["a:1"])];
    push.wait_until_empty();
    receiver.go_down();
    times.extend((0..20).map(|_| push.push(&["a:1"])));
    wait_until("the receiver to be taken as down", PATIENCE, || push.view().state().word() == "degraded");
    let view = push.view();
    assert_eq!(view.worst().and_then(|lane| lane.reason).map(|reason| reason.word()), Some("refused"));
    times.extend((0..20).map(|_| push.push(&["a:1"])));
    receiver.come_up();
    let up = std::time::Instant::now();
    assert_eq!(push.outcome(), (41, vec![]));
    assert!(up.elapsed() < Duration::from_secs(20), "{:?}", up.elapsed());
    let arrived: Vec<_> = receiver.stored().iter().map(|sample| sample.timestamp).collect();
    assert_eq!(arrived, times);
    wait_until("it to be live", PATIENCE, || push.view().state().word() == "live");
    assert!(push.view().probes_succeeded == 1);
}

#[test]
fn a_name_without_an_address_is_a_failure_like_others() {
    let mut endpoint = endpoint(false, 9, "/");
    endpoint.url.host = "redvigil.invalid".into();
    let push = Push::start(output(Destination::RemoteWrite { version: Version::V2, endpoint }));
    push.push(&["a:1"]);
    wait_until("a failure", PATIENCE, || push.view().last_failure.is_some());
    let view = push.view();
    assert!(view.requests.keys().all(|code| code.label() == "dns"), "{:?}", view.requests);
    assert_eq!(push.status().total.pending, 1);
}
