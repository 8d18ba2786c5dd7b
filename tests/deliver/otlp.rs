//! OTLP over HTTP and gRPC.

use super::*;
use bytes::Bytes;
use redvigil::config::deliver::Protocol;
use testbed::receiver::{Kind, Trouble};
use testbed::{Receiver, Reply};

const METHOD: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

fn push_otlp(receiver: &Receiver, protocol: Protocol) -> Push {
    let mut endpoint = endpoint(false, receiver.port(), "/");
    endpoint.timeout = Duration::from_secs(2);
    Push::start(output(Destination::Otlp { protocol, endpoint }))
}

fn grpc() -> (Receiver, Push) {
    let receiver = Receiver::start_grpc();
    receiver.answer([Reply::grpc(0, "")]);
    let push = push_otlp(&receiver, Protocol::Grpc);
    (receiver, push)
}

/// `ExportMetricsServiceResponse` with a partial success.
fn partial(rejected: u8) -> Bytes {
    let mut inner = vec![0x08, rejected, 0x12, 7];
    inner.extend_from_slice(b"too old");
    let mut body = vec![0x0a, inner.len() as u8];
    body.extend_from_slice(&inner);
    body.into()
}

#[test]
fn requests_over_http_are_as_the_specification_says() {
    let receiver = Receiver::start();
    receiver.answer([Reply::status(200)]);
    let push = push_otlp(&receiver, Protocol::Http);
    let at = push.push(&["a:1", "b:2"]);
    assert_eq!(push.outcome(), (2, vec![]));
    let request = &receiver.requests()[0];
    assert_eq!(
        (request.path.as_str(), request.header("content-type")),
        ("/v1/metrics", Some("application/x-protobuf"))
    );
    assert_eq!(request.message.as_ref().expect("a message").kind, Kind::Otlp);
    let instances: Vec<_> = request.samples().iter().map(|s| s.label("service.instance.id")).collect();
    assert_eq!(instances, [Some("a:1"), Some("b:2")]);
    for sample in request.samples() {
        assert_eq!((sample.timestamp, sample.value, sample.label("__name__")), (at, 1.0, Some("redis_up")));
        assert_eq!(sample.label("service.name"), Some("redvigil"));
    }
}

#[test]
fn requests_over_grpc_are_unary_calls() {
    let (receiver, push) = grpc();
    for _ in 0..10 {
        push.push(&["a:1", "b:2"]);
    }
    assert_eq!(push.outcome(), (20, vec![]));
    let request = &receiver.requests()[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", METHOD));
    assert_eq!(request.header("content-type"), Some("application/grpc+proto"));
    assert_eq!(request.header("te"), Some("trailers"));
    assert_eq!(request.header("grpc-timeout"), Some("2000m"));
    assert_eq!(request.samples().len(), 2);
    assert_eq!((receiver.connections(), receiver.most_under_way()), (1, 1));
}

#[test]
fn what_is_not_wanted_is_counted_and_never_sent_again() {
    let receiver = Receiver::start();
    receiver.answer([Reply::status(200).body(partial(1))]);
    let push = push_otlp(&receiver, Protocol::Http);
    push.push(&["a:1", "b:2"]);
    assert_eq!((push.outcome(), receiver.count()), ((1, vec![(Reason::Rejected, 1)]), 1));
    assert_eq!(push.view().last_failure.expect("told").text, "the receiver answered 200: too old");
    let (receiver, push) = grpc();
    receiver.answer([Reply::grpc(0, "").body(partial(2))]);
    push.push(&["a:1", "b:2"]);
    assert_eq!((push.outcome(), receiver.count()), ((0, vec![(Reason::Rejected, 2)]), 1));
}

#[test]
fn statuses_of_grpc_among_trailers_and_headers() {
    // Unavailable, aborted, deadline exceeded, out of range, cancelled, data loss.
    for code in [14, 10, 4, 11, 1, 15] {
        let (receiver, push) = grpc();
        let mut early = Reply::grpc(code, "in a moment");
        early.grpc.2 = true;
        receiver.answer([Reply::grpc(code, "in a moment"), early, Reply::grpc(0, "")]);
        push.push(&["a:1"]);
        assert_eq!((push.outcome(), receiver.count()), ((1, vec![]), 3), "{code}");
        assert_eq!(push.view().retries, 2);
    }
    for code in [3, 13, 2, 9] {
        let (receiver, push) = grpc();
        receiver.answer([Reply::grpc(code, "bad%20data"), Reply::grpc(0, "")]);
        push.push(&["a:1"]);
        assert_eq!((push.outcome(), receiver.count()), ((0, vec![(Reason::Rejected, 1)]), 1), "{code}");
        let told = push.view().last_failure.expect("told").text;
        assert_eq!(told, format!("the receiver answered grpc_{code}: bad data"));
    }
    for code in [16, 7, 12, 8] {
        let (receiver, push) = grpc();
        receiver.answer([Reply::grpc(code, "no")]);
        push.push(&["a:1"]);
        wait_until("the receiver to refuse us", PATIENCE, || push.view().state().word() == "degraded");
        assert_eq!((push.status().total.pending, receiver.count()), (1, 1), "{code}");
    }
}

#[test]
fn what_is_too_large_for_grpc_goes_target_by_target() {
    let (receiver, push) = grpc();
    receiver.answer_by(|request| match request.samples().len() {
        1 => Reply::grpc(0, ""),
        _ => Reply::grpc(8, "grpc: received message larger than max (5000000 vs. 4194304)"),
    });
    push.push(&["a:1", "b:2"]);
    assert_eq!((push.outcome(), receiver.count()), ((2, vec![]), 3));
}

#[test]
fn http_statuses_of_otlp() {
    for code in [429, 502, 503, 504] {
        let receiver = Receiver::start();
        receiver.answer([Reply::status(code), Reply::status(200)]);
        let push = push_otlp(&receiver, Protocol::Http);
        push.push(&["a:1"]);
        assert_eq!((push.outcome(), receiver.count()), ((1, vec![]), 2), "{code}");
    }
    for code in [400, 500] {
        let receiver = Receiver::start();
        receiver.answer([Reply::status(code)]);
        let push = push_otlp(&receiver, Protocol::Http);
        push.push(&["a:1"]);
        assert_eq!((push.outcome(), receiver.count()), ((0, vec![(Reason::Rejected, 1)]), 1), "{code}");
    }
}

#[test]
fn calls_that_get_no_status_are_made_again() {
    for trouble in [Trouble::CutBody, Trouble::Silence, Trouble::Late(Duration::from_secs(4))] {
        let (receiver, push) = grpc();
        receiver.answer([Reply::grpc(0, "").with(trouble.clone()), Reply::grpc(0, "")]);
        push.push(&["a:1"]);
        assert_eq!((push.outcome(), receiver.count()), ((1, vec![]), 2), "{trouble:?}");
    }
}

#[test]
fn a_server_of_http_1_is_none_of_grpc() {
    let receiver = Receiver::start();
    let push = push_otlp(&receiver, Protocol::Grpc);
    push.push(&["a:1"]);
    wait_until("a failure", PATIENCE, || push.view().last_failure.is_some());
    assert_eq!((push.status().total.pending, receiver.stored().len()), (1, 0));
}

#[test]
fn a_receiver_of_grpc_that_was_down_gets_everything() {
    let (receiver, push) = grpc();
    push.push(&["a:1"]);
    push.wait_until_empty();
    receiver.go_down();
    for _ in 0..5 {
        push.push(&["a:1"]);
    }
    wait_until("a failure", PATIENCE, || push.view().consecutive_failures() > 1);
    receiver.come_up();
    assert_eq!(push.outcome(), (6, vec![]));
    assert_eq!(receiver.stored().len(), 6);
}
