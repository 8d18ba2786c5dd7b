//! When a sender is what: transitions, pauses, probes, pace.

use super::*;
use crate::deliver::board::State::{Degraded, Live, Probing, Recovering, Retrying};
use std::sync::atomic::{AtomicBool, Ordering};

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Whether the pauses are those, a tenth more or less.
#[track_caller]
fn check_pauses(pauses: &[Duration], expected: &[f64]) {
    let fits = |(pause, expected): (&Duration, &f64)| {
        (expected * 0.9 - 0.001..=expected * 1.1 + 0.001).contains(&pause.as_secs_f64())
    };
    let all = pauses.len() == expected.len() && pauses.iter().zip(expected).all(fits);
    assert!(all, "{pauses:?}, expected {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_new_is_sent_as_it_comes() {
    let world = World::new(Version::V2, None);
    let mut sender = world.sender(|_, _| taken());
    let stop = CancellationToken::new();
    let pusher = async {
        for _ in 0..5 {
            world.push(&["a"]);
            sleep(INTERVAL).await;
        }
        stop.cancel();
    };
    tokio::join!(sender.run(&stop), pusher);
    assert_eq!(world.times(), [0, 10, 20, 30, 40].map(Duration::from_secs));
    assert_eq!(world.settled(), vec![Settled::delivered(1); 5]);
    assert!(world.view().transitions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn five_failures_are_a_receiver_that_is_down() {
    let world = World::new(Version::V2, None);
    world.push(&["a"]);
    let mut sender = world.sender(|_, _| Reply::Refused);
    run_for(&mut sender, seconds(140.0)).await;
    check_pauses(
        &world.pauses(),
        &[0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 30.0, 30.0][..world.pauses().len()],
    );
    assert!(world.pauses().len() >= 9);
    let view = world.view();
    assert_eq!(view.transitions[&(Recovering, Live)], 1, "an own record of now is not behind");
    assert_eq!((view.transitions[&(Live, Retrying)], view.transitions[&(Retrying, Degraded)]), (1, 1));
    assert_eq!(view.state(), Degraded);
    assert_eq!(view.worst().expect("a lane").reason.map(Reason::word), Some("refused"));
    assert_eq!(view.probes_failed, world.times().len() as u64 - 5);
    assert_eq!(view.consecutive_failures() as usize, world.times().len());
    assert_eq!(view.last_failure.expect("a failure").text, "cannot connect to h:1: connection refused");
    assert!(world.known().closed >= 1, "the connection is given up");
    assert!(world.settled().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_minute_of_failures_is_one_too() {
    let world = World::new(Version::V2, None);
    world.push(&["a"]);
    let mut sender = world.sender(|_, _| Reply::Status(503, vec![("retry-after", "35")]));
    run_for(&mut sender, seconds(120.0)).await;
    // The third comes after the minute. What the receiver says stands above the first probe, too.
    check_pauses(&world.pauses(), &[35.0, 35.0, 35.0]);
    assert_eq!(world.view().transitions[&(Retrying, Degraded)], 1);
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_a_run_of_failures() {
    let world = World::new(Version::V2, None);
    let mut sender = world.sender(|number, _| if number % 4 == 3 { taken() } else { status(500) });
    for _ in 0..4 {
        world.push(&["a"]);
    }
    run_for(&mut sender, seconds(30.0)).await;
    assert_eq!(world.settled(), vec![Settled::delivered(1); 4]);
    let view = world.view();
    assert_eq!((view.state(), view.consecutive_failures()), (Live, 0));
    assert_eq!(view.transitions[&(Retrying, Live)], 4);
    assert_eq!(view.retries, 12);
    assert!(!view.transitions.contains_key(&(Retrying, Degraded)));
}

#[tokio::test(start_paused = true)]
async fn who_refuses_us_is_asked_once_in_half_a_minute() {
    for code in [401, 403, 404, 405, 407, 301] {
        let world = World::new(Version::V2, None);
        world.push(&["a"]);
        let mut sender = world.sender(move |_, _| status(code));
        run_for(&mut sender, seconds(100.0)).await;
        check_pauses(&world.pauses(), &[30.0, 30.0, 30.0][..world.pauses().len()]);
        assert!(world.pauses().len() >= 2);
        assert_eq!(world.view().transitions[&(Live, Degraded)], 1);
        assert!(world.settled().is_empty(), "nothing is thrown away");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_token_is_tried_at_once() {
    let world = World::new(Version::V2, None);
    world.push(&["a"]);
    let mut sender = world.sender(|number, _| if number == 0 { status(401) } else { taken() });
    let other = world.clone();
    let token = async move {
        sleep(seconds(3.5)).await;
        other.known().is_outdated = true;
    };
    tokio::join!(run_for(&mut sender, seconds(8.0)), token);
    check_pauses(&world.pauses(), &[4.0]);
    assert_eq!(world.view().state(), Live);
}

#[tokio::test(start_paused = true)]
async fn one_lane_probes_for_all_of_them() {
    let one = World::new(Version::V2, None);
    let other = World { known: Arc::default(), arrived: Arc::default(), ..one.clone() };
    let is_well = Arc::new(AtomicBool::new(false));
    let script = |is_well: &Arc<AtomicBool>| {
        let is_well = is_well.clone();
        move |_: usize, _: &Request| if is_well.load(Ordering::Relaxed) { taken() } else { status(401) }
    };
    one.push(&["a"]);
    other.push(&["b"]);
    let (mut first, mut second) = (one.sender(script(&is_well)), other.sender(script(&is_well)));
    let well = async {
        sleep(seconds(310.0)).await;
        is_well.store(true, Ordering::Relaxed);
    };
    tokio::join!(run_for(&mut first, seconds(350.0)), run_for(&mut second, seconds(350.0)), well);
    let mut times = [one.times(), other.times()].concat();
    times.sort();
    // The first two were no probes; the last one is that of the lane that heard of the return.
    let probes = &times[2..times.len() - 1];
    assert!(probes.windows(2).all(|pair| pair[1] - pair[0] >= seconds(27.0)), "{times:?}");
    assert!(probes.len() >= 9, "{times:?}");
    assert!(times[times.len() - 1] - times[times.len() - 2] <= seconds(1.0), "{times:?}");
    assert_eq!((one.settled().len(), other.settled().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_stop_broke_off_may_have_arrived() {
    let world = World::new(Version::V1, None);
    world.push(&["a"]);
    let mut sender = world.sender(|number, _| if number == 0 { Reply::Silence } else { status(400) });
    run_for(&mut sender, seconds(1.0)).await;
    sender.drain(Instant::now() + seconds(1.0)).await;
    let dropped = vec![(crate::deliver::queue::Reason::PossibleDuplicate, 1)];
    assert_eq!(world.settled(), [Settled { delivered: 0, dropped }]);
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_the_oldest_record_and_its_success_the_recovery() {
    let world = World::new(Version::V2, None);
    for target in ["a", "b", "c"] {
        world.push(&[target]);
    }
    let mut sender = world.sender(|number, _| if number < 6 { Reply::Refused } else { taken() });
    run_for(&mut sender, seconds(60.0)).await;
    let sent: Vec<_> = world.known().sent.iter().flat_map(|(_, request)| instances(request)).collect();
    assert_eq!(sent, ["a", "a", "a", "a", "a", "a", "a", "b", "c"]);
    let view = world.view();
    assert_eq!((view.probes_failed, view.probes_succeeded), (1, 1));
    for change in [(Retrying, Degraded), (Probing, Degraded), (Probing, Recovering)] {
        assert_eq!(view.transitions[&change], 1, "{change:?}");
    }
    assert_eq!(view.transitions[&(Degraded, Probing)], 2);
    assert_eq!((view.transitions[&(Recovering, Live)], view.state()), (2, Live));
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_recovery_is_a_receiver_that_is_down() {
    let world = World::new(Version::V2, None);
    for _ in 0..3 {
        world.push_from(&["a"], seconds(100.0));
    }
    let mut sender = world.sender(|number, _| if number == 1 { status(500) } else { taken() });
    run_for(&mut sender, seconds(30.0)).await;
    let view = world.view();
    assert_eq!(view.transitions[&(Recovering, Degraded)], 1);
    assert!(!view.transitions.keys().any(|(_, to)| *to == Retrying));
    assert_eq!((view.state(), world.settled().len()), (Live, 3));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_asks_to_be_slower_is_not_down() {
    let world = World::new(Version::V2, None);
    for _ in 0..3 {
        world.push_from(&["a"], seconds(100.0));
    }
    let slower = || Reply::Status(429, vec![("retry-after", "2")]);
    let mut sender = world.sender(move |number, _| if number % 2 == 0 { slower() } else { taken() });
    run_for(&mut sender, seconds(30.0)).await;
    let view = world.view();
    assert!(!view.transitions.keys().any(|(_, to)| *to == Degraded), "{:?}", view.transitions);
    assert_eq!(world.settled().len(), 3);
    assert!(world.pauses().iter().step_by(2).all(|pause| *pause == seconds(2.0)), "{:?}", world.pauses());
}

#[tokio::test(start_paused = true)]
async fn what_waited_is_never_sent_faster_than_the_cap() {
    let world = World::new(Version::V2, Some(100));
    let targets: Vec<String> = (0..50).map(|i| i.to_string()).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    for _ in 0..40 {
        world.push_from(&targets, seconds(1_000.0));
    }
    let mut sender = world.sender(|_, _| taken());
    run_for(&mut sender, seconds(30.0)).await;
    assert_eq!(world.settled().len(), 40);
    assert!(world.pauses().iter().all(|pause| *pause >= seconds(0.5)), "{:?}", world.pauses());
    assert_eq!(*world.times().last().expect("some"), seconds(19.5));
}

#[tokio::test(start_paused = true)]
async fn the_cap_holds_after_a_short_outage_too() {
    let world = World::new(Version::V2, Some(100));
    let targets = vec!["a"; 50];
    for _ in 0..10 {
        world.push(&targets);
    }
    // Thirty seconds of silence: all of it is behind by then, and the sender was never degraded.
    let mut sender = world.sender(|number, _| if number < 3 { Reply::Silence } else { taken() });
    run_for(&mut sender, seconds(60.0)).await;
    assert_eq!((world.settled().len(), world.view().state()), (10, Live));
    assert!(!world.view().transitions.contains_key(&(Retrying, Degraded)));
    let pauses = world.pauses();
    assert!(pauses[3..].iter().all(|pause| *pause >= seconds(0.5)), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn recovery_ends_when_what_is_sent_is_new() {
    let world = World::new(Version::V2, None);
    world.push_from(&["a"], seconds(21.0));
    world.push_from(&["a"], seconds(20.0));
    world.push_from(&["a"], seconds(19.0));
    let mut sender = world.sender(|_, _| Reply::Late(Duration::from_millis(10), 204));
    run_for(&mut sender, seconds(9.0)).await;
    let view = world.view();
    assert_eq!((view.state(), view.transitions[&(Recovering, Live)]), (Live, 1));
    assert_eq!(world.settled().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_heard_in_every_wait() {
    fn check(name: &str, ended: bool) {
        assert!(ended, "{name}");
    }
    let script = |code: u16| move |_: usize, _: &Request| if code == 0 { taken() } else { status(code) };
    for (name, code, records, at) in
        [("live", 0, 0, 5.0), ("retrying", 500, 1, 2.0), ("degraded", 401, 1, 7.0), ("probed", 500, 1, 40.0)]
    {
        let world = World::new(Version::V2, None);
        for _ in 0..records {
            world.push(&["a"]);
        }
        let mut sender = world.sender(script(code));
        let stop = CancellationToken::new();
        let stopper = async {
            sleep(seconds(at)).await;
            stop.cancel();
        };
        let begun = Instant::now();
        tokio::join!(sender.run(&stop), stopper);
        check(name, begun.elapsed() <= seconds(at + 0.01));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_under_way_is_waited_for_at_a_stop() {
    let world = World::new(Version::V2, None);
    world.push(&["a"]);
    world.push(&["b"]);
    let mut sender = world.sender(|_, _| Reply::Late(seconds(3.0), 204));
    let stop = CancellationToken::new();
    let stopper = async {
        sleep(seconds(1.0)).await;
        stop.cancel();
    };
    tokio::join!(sender.run(&stop), stopper);
    assert_eq!((world.begun.elapsed(), world.settled().len()), (seconds(3.0), 1));
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_one_round_without_a_second_try() {
    async fn check(
        script: impl FnMut(usize, &Request) -> Reply + Send + 'static,
        sent: usize,
        settled: usize,
        took: f64,
    ) {
        let world = World::new(Version::V2, None);
        for _ in 0..3 {
            world.push_from(&["a"], seconds(1_000.0));
        }
        let mut sender = world.sender(script);
        sender.drain(Instant::now() + seconds(5.0)).await;
        assert_eq!((world.times().len(), world.settled().len()), (sent, settled));
        assert_eq!(world.begun.elapsed(), seconds(took));
    }
    check(|_, _| taken(), 3, 3, 0.0).await;
    check(|number, _| if number == 1 { status(503) } else { taken() }, 2, 1, 0.0).await;
    check(|_, _| Reply::Silence, 1, 0, 5.0).await;
    check(|_, _| Reply::Late(seconds(2.0), 204), 3, 2, 5.0).await;
}

#[test]
fn the_future_may_be_sent_to_a_task() {
    fn check(_: impl Send) {}
    fn of(sender: &mut Sender, stop: &CancellationToken) {
        check(sender.run(stop));
    }
    let _ = of;
}
