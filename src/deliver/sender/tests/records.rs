//! What becomes of a record: versions, splits, refusals, counts.

use super::*;
use crate::deliver::queue::Reason as Dropped;

/// Runs a sender for a while and says what the records of these targets came to.
async fn run(
    version: Version,
    records: &[&[&str]],
    script: impl FnMut(usize, &Request) -> Reply + Send + 'static,
) -> World {
    let world = World::new(version, None);
    for targets in records {
        world.push(targets);
    }
    run_for(&mut world.sender(script), Duration::from_secs(20)).await;
    world
}

fn settled(delivered: u32, dropped: &[(Dropped, u32)]) -> Settled {
    Settled { delivered, dropped: dropped.to_vec() }
}

fn is_v1(request: &Request) -> bool {
    request.headers["x-prometheus-remote-write-version"] == "0.1.0"
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_the_same_byte_for_byte_and_counted() {
    let script = |number, _: &Request| if number < 3 { status(503) } else { taken() };
    let world = run(Version::V2, &[&["a", "b"]], script).await;
    let known = world.known();
    let attempts: Vec<_> = known.sent.iter().map(|(_, r)| r.headers.get("retry-attempt").cloned()).collect();
    let expected = [None, Some(1), Some(2), Some(3)].map(|n: Option<u32>| n.map(HeaderValue::from));
    assert_eq!(attempts, expected);
    assert!(known.sent.windows(2).all(|pair| pair[0].1.body == pair[1].1.body));
    assert_eq!(known.settled[0].1, Settled::delivered(2));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_written_is_counted() {
    let some = |_, _: &Request| Reply::Status(200, vec![("x-prometheus-remote-write-samples-written", "2")]);
    let world = run(Version::V2, &[&["a", "b", "c"]], some).await;
    assert_eq!(world.settled(), [settled(2, &[(Dropped::Rejected, 1)])]);
    let some = |_, _: &Request| Reply::Status(400, vec![("x-prometheus-remote-write-samples-written", "2")]);
    let world = run(Version::Auto, &[&["a", "b", "c"]], some).await;
    assert_eq!(world.settled(), [settled(2, &[(Dropped::Rejected, 1)])]);
    assert_eq!((world.times().len(), world.view().fallbacks.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_without_2_0_gets_1_0_from_then_on() {
    async fn check(answer: fn() -> Reply) {
        let script = move |_, request: &Request| if is_v1(request) { status(204) } else { answer() };
        let world = run(Version::Auto, &[&["a", "b"], &["c"]], script).await;
        assert_eq!(world.settled(), [Settled::delivered(2), Settled::delivered(1)]);
        let versions: Vec<_> = world.known().sent.iter().map(|(_, request)| is_v1(request)).collect();
        assert_eq!(versions, [false, true, true]);
        assert_eq!(world.view().fallbacks, [((Format::V2, Format::V1), 1)].into());
        assert_eq!(world.view().format, Some(Format::V1));
    }
    check(|| status(415)).await;
    check(|| status(204)).await;
    check(|| status(400)).await;
}

#[tokio::test(start_paused = true)]
async fn samples_that_are_refused_in_both_versions_say_nothing_of_the_version() {
    let script = |number, request: &Request| match number {
        0 | 1 => status(400),
        _ if is_v1(request) => status(204),
        _ => taken(),
    };
    let world = run(Version::Auto, &[&["a"], &["b"]], script).await;
    assert_eq!(world.settled(), [settled(0, &[(Dropped::Rejected, 1)]), Settled::delivered(1)]);
    let versions: Vec<_> = world.known().sent.iter().map(|(_, request)| is_v1(request)).collect();
    assert_eq!(versions, [false, true, false]);
    assert!(world.view().fallbacks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_version_that_was_asked_for_is_kept_and_so_is_the_record() {
    let world = run(Version::V2, &[&["a"]], |_, _| status(204)).await;
    assert_eq!((world.settled().len(), world.times().len()), (0, 1));
    assert_eq!(world.view().worst().expect("a lane").reason.map(Reason::word), Some("unsupported"));
}

#[tokio::test(start_paused = true)]
async fn one_bad_target_costs_its_own_samples_in_1_0() {
    let script = |_, request: &Request| {
        if instances(request).iter().any(|instance| instance == "bad") { status(400) } else { status(204) }
    };
    let world = run(Version::V1, &[&["a", "bad", "c", "a"], &["d"]], script).await;
    assert_eq!(world.settled(), [settled(3, &[(Dropped::Rejected, 1)]), Settled::delivered(1)]);
    let sent: Vec<_> = world.known().sent.iter().map(|(_, request)| instances(request)).collect();
    let expected: [&[&str]; 5] = [&["a", "bad", "c", "a"], &["a", "a"], &["bad"], &["c"], &["d"]];
    assert_eq!(sent, expected);
    assert_eq!(world.view().splits, 1);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_refuses_everything_is_not_asked_for_each_target() {
    let records = vec![&["a", "b"][..]; 40];
    let world = run(Version::V1, &records, |_, _| status(400)).await;
    assert_eq!(world.settled(), vec![settled(0, &[(Dropped::Rejected, 2)]); 40]);
    assert_eq!((world.view().splits, world.times().len()), (16, 40 + 2 * 16));
    assert_eq!(world.view().state(), State::Live, "who refuses is alive");
}

#[tokio::test(start_paused = true)]
async fn one_target_is_asked_for_once() {
    for (code, reason) in [(400, Dropped::Rejected), (413, Dropped::TooLarge)] {
        let world = run(Version::V1, &[&["a", "a"]], move |_, _| status(code)).await;
        assert_eq!((world.settled(), world.times().len()), (vec![settled(0, &[(reason, 2)])], 1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_goes_in_parts_and_the_limit_is_remembered() {
    let script = |_, request: &Request| if instances(request).len() > 1 { status(413) } else { taken() };
    let world = run(Version::V2, &[&["a", "b"], &["c", "d"]], script).await;
    assert_eq!(world.settled(), vec![Settled::delivered(2); 2]);
    let sent: Vec<_> = world.known().sent.iter().map(|(_, request)| instances(request)).collect();
    let expected: [&[&str]; 5] = [&["a", "b"], &["a"], &["b"], &["c"], &["d"]];
    assert_eq!(sent, expected);
    assert_eq!(world.view().splits, 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_among_the_parts_is_tried_again_from_there() {
    let script = |number, request: &Request| match (number, instances(request).len()) {
        (_, 2..) => status(413),
        (2..5, _) => status(500),
        _ => taken(),
    };
    let world = run(Version::V2, &[&["a", "b", "c"]], script).await;
    assert_eq!(world.settled(), [Settled::delivered(3)]);
    let sent: Vec<_> = world.known().sent.iter().flat_map(|(_, request)| instances(request)).collect();
    assert_eq!(sent, ["a", "b", "c", "a", "b", "b", "b", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_arrived_before_is_refused_for_another_reason() {
    async fn check(first: fn() -> Reply, may_be_repeated: bool, expected: Dropped) {
        let world = World::new(Version::V1, None);
        world.push(&["a"]);
        world.known().entries[0].may_be_repeated = may_be_repeated;
        let script = move |number, _: &Request| if number == 0 { first() } else { status(400) };
        run_for(&mut world.sender(script), Duration::from_secs(20)).await;
        assert_eq!(world.settled(), [settled(0, &[(expected, 1)])]);
    }
    check(|| Reply::Silence, false, Dropped::PossibleDuplicate).await;
    check(|| status(500), false, Dropped::PossibleDuplicate).await;
    check(|| status(400), true, Dropped::PossibleDuplicate).await;
    check(|| status(400), false, Dropped::Rejected).await;
    check(|| status(429), false, Dropped::Rejected).await;
    check(|| Reply::Refused, false, Dropped::Rejected).await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_costs_itself() {
    let world = World::new(Version::V1, None);
    for body in [Bytes::from_static(b"nothing"), packed(b"\xff\xff\xff"), packed(&vec![0; 65 << 20])] {
        world.push_record(Record { body, samples: 7, min_timestamp: 0, max_timestamp: milliseconds(wall()) });
    }
    world.push(&["a"]);
    run_for(&mut world.sender(|_, _| status(204)), Duration::from_secs(20)).await;
    let corrupt = settled(0, &[(Dropped::Corrupt, 7)]);
    assert_eq!(world.settled(), [corrupt.clone(), corrupt.clone(), corrupt, Settled::delivered(1)]);
}

#[tokio::test(start_paused = true)]
async fn words_of_the_receiver_are_told_without_secrets() {
    let world = run(Version::V2, &[&["a"]], |_, _| status(503)).await;
    let told = world.view().last_failure.expect("a failure");
    assert_eq!(told.text, "the receiver answered 503: as it was");
}
