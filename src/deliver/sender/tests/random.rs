//! Receivers that answer anything, in any order: what holds whatever they say.

use super::*;

/// What a receiver says while it is not well; often the same again, since troubles last.
fn trouble(random: &mut fastrand::Rng) -> Reply {
    let later = ["0", "1", "7", "400", "soon"][random.usize(..5)];
    match random.u8(..14) {
        0 => taken(),
        1 => Reply::Status(200, vec![("x-prometheus-remote-write-samples-written", "1")]),
        2 => status(204),
        3 => status(400),
        4 => Reply::Status(400, vec![("x-prometheus-remote-write-samples-written", "1")]),
        5 => status([401, 403, 404, 302][random.usize(..4)]),
        6 => status(413),
        7 => status(415),
        8 => Reply::Status(429, vec![("retry-after", later)]),
        9 => status([500, 502, 503, 599][random.usize(..4)]),
        10 => Reply::Status(503, vec![("retry-after", later)]),
        11 => Reply::Refused,
        12 => Reply::Silence,
        _ => Reply::Late(Duration::from_millis(random.u64(..9_000)), 204),
    }
}

/// A sender, records, and a receiver that is not well for so many requests.
async fn check(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let version = [Version::Auto, Version::V1, Version::V2][random.usize(..3)];
    let world = World::new(version, [None, Some(3)][random.usize(..2)]);
    let records = random.usize(1..20);
    for _ in 0..records {
        let targets: Vec<&str> =
            (0..random.usize(1..5)).map(|_| ["a", "b", "c", "d"][random.usize(..4)]).collect();
        world.push_from(&targets, Duration::from_secs(random.u64(..100)));
        let mut known = world.known();
        known.entries.back_mut().expect("a record").may_be_repeated = random.u8(..10) == 0;
    }
    let bad = random.usize(..80);
    let script = move |number: usize, request: &Request| {
        let is_v1 = request.headers["x-prometheus-remote-write-version"] == "0.1.0";
        if number < bad {
            trouble(&mut random)
        } else if is_v1 {
            status(204)
        } else {
            taken()
        }
    };
    run_for(&mut world.sender(script), Duration::from_secs(12 * 3600)).await;

    let (view, known) = (world.view(), world.known());
    let sequences: Vec<_> = known.settled.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(sequences, (1..=records as u64).collect::<Vec<_>>(), "{seed}: each once, in order");
    assert_eq!((view.state(), view.consecutive_failures()), (State::Live, 0), "{seed}");
    assert_eq!(view.requests.values().sum::<u64>(), known.sent.len() as u64, "{seed}");
    assert_eq!(view.latency.count(), known.sent.len() as u64, "{seed}");
    for state in State::ALL {
        let count = |pick: fn(&(State, State)) -> State| -> u64 {
            view.transitions.iter().filter(|(change, _)| pick(change) == state).map(|(_, count)| count).sum()
        };
        // It begins and ends live.
        assert_eq!(count(|change| change.0), count(|change| change.1), "{seed} {state:?}");
    }
    let to_probing = view.transitions.get(&(State::Degraded, State::Probing)).copied().unwrap_or(0);
    assert_eq!(view.probes_succeeded + view.probes_failed, to_probing, "{seed}");
    let ways = [
        (State::Live, State::Recovering),
        (State::Live, State::Retrying),
        (State::Live, State::Degraded),
        (State::Retrying, State::Live),
        (State::Retrying, State::Degraded),
        (State::Degraded, State::Probing),
        (State::Probing, State::Degraded),
        (State::Probing, State::Recovering),
        (State::Recovering, State::Live),
        (State::Recovering, State::Degraded),
    ];
    assert!(view.transitions.keys().all(|change| ways.contains(change)), "{seed} {:?}", view.transitions);
}

#[tokio::test(start_paused = true)]
async fn every_record_is_settled_once_and_in_order_whatever_is_answered() {
    for seed in 0..150 {
        check(seed).await;
    }
}
