//! Headers and bodies, as both versions of remote write ask for them.

use super::*;
use testbed::Reply;
use testbed::receiver::Kind;

#[test]
fn requests_of_2_0_are_as_the_specification_says() {
    let receiver = Receiver::start();
    let push = push_to(&receiver, Version::Auto);
    let at = push.push(&["a:1", "b:2"]);
    assert_eq!(push.outcome(), (2, vec![]));
    let request = &receiver.requests()[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/api/v1/write"));
    let check = |name: &str, expected: &str| assert_eq!(request.header(name), Some(expected), "{name}");
    check("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request");
    check("content-encoding", "snappy");
    check("x-prometheus-remote-write-version", "2.0.0");
    check("user-agent", concat!("redvigil/", env!("CARGO_PKG_VERSION")));
    check("host", &format!("127.0.0.1:{}", receiver.port()));
    check("content-length", &request.body.len().to_string());
    assert_eq!(request.header("retry-attempt"), None);
    // The framed format begins with a magic word.
    assert!(!request.body.starts_with(b"\xff\x06\x00\x00sNaPpY"));
    let message = request.message.as_ref().expect("a message");
    assert_eq!((message.kind, message.symbols[0].as_str()), (Kind::V2, ""));
    assert!(message.references.iter().all(|refs| refs.len() % 2 == 0));
    let samples = request.samples();
    assert_eq!(samples.len(), 2);
    for (sample, instance) in samples.iter().zip(["a:1", "b:2"]) {
        assert_eq!((sample.timestamp, sample.value), (at, 1.0));
        assert_eq!((sample.label("instance"), sample.label("job")), (Some(instance), Some("redvigil")));
    }
}

#[test]
fn requests_of_1_0_are_as_the_specification_says() {
    let receiver = Receiver::start();
    let push = push_to(&receiver, Version::V1);
    let at = push.push(&["a:1"]);
    assert_eq!(push.outcome(), (1, vec![]));
    let request = &receiver.requests()[0];
    let check = |name: &str, expected: &str| assert_eq!(request.header(name), Some(expected), "{name}");
    check("content-type", "application/x-protobuf");
    check("content-encoding", "snappy");
    check("x-prometheus-remote-write-version", "0.1.0");
    assert_eq!(request.message.as_ref().expect("a message").kind, Kind::V1);
    let samples = request.samples();
    assert_eq!((samples.len(), samples[0].timestamp), (1, at));
    let names: Vec<_> = samples[0].labels.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["__name__", "instance", "job"], "sorted");
}

#[test]
fn metadata_of_1_0_goes_once_a_minute_in_a_request_of_its_own() {
    let receiver = Receiver::start();
    let push = push_to(&receiver, Version::V1);
    for _ in 0..5 {
        push.push(&["a:1"]);
    }
    assert_eq!(push.outcome(), (5, vec![]));
    let requests = receiver.requests();
    let metadata: Vec<_> = requests.iter().filter(|request| request.samples().is_empty()).collect();
    assert_eq!((requests.len(), metadata.len()), (6, 1));
    let told = &metadata[0].message.as_ref().expect("a message").metadata;
    assert_eq!(told[..], [("redis_up".into(), "Whether it answers.".into(), String::new())]);
}

#[test]
fn metadata_that_is_refused_costs_nothing() {
    let receiver = Receiver::start();
    receiver.answer_by(
        |request| {
            if request.samples().is_empty() { Reply::status(400) } else { Reply::accepted() }
        },
    );
    let push = push_to(&receiver, Version::V1);
    for _ in 0..3 {
        push.push(&["a:1"]);
    }
    assert_eq!(push.outcome(), (3, vec![]));
    assert_eq!(receiver.count(), 4);
}

#[test]
fn one_request_is_under_way_on_one_connection_in_order() {
    let receiver = Receiver::start();
    let push = push_to(&receiver, Version::V2);
    let times: Vec<_> = (0..100).map(|_| push.push(&["a:1"])).collect();
    assert_eq!(push.outcome(), (100, vec![]));
    assert_eq!((receiver.most_under_way(), receiver.connections()), (1, 1));
    let arrived: Vec<_> = receiver.stored().iter().map(|sample| sample.timestamp).collect();
    assert_eq!(arrived, times);
}
