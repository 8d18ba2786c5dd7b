//! The pool of permits, driven by hand: futures are polled here, so that the order of all that happens is
//! known, and once by threads, where it is not.

use super::*;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

type Asking<'a> = Pin<Box<dyn Future<Output = Result<Permit, QueueFull>> + 'a>>;

fn ask<'a>(permits: &'a Permits, host: &'a str, class: Class) -> Asking<'a> {
    let mut asking: Asking = Box::pin(permits.acquire(host, class));
    if let Poll::Ready(outcome) = poll(&mut asking) {
        return Box::pin(std::future::ready(outcome));
    }
    asking
}

fn poll(asking: &mut Asking) -> Poll<Result<Permit, QueueFull>> {
    asking.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// The permit that must be there.
fn get(mut asking: Asking) -> Permit {
    match poll(&mut asking) {
        Poll::Ready(outcome) => outcome.expect("a permit"),
        Poll::Pending => panic!("it still waits"),
    }
}

fn waits(asking: &mut Asking) -> bool {
    poll(asking).is_pending()
}

fn check(permits: &Permits, running: usize, slow: usize, waiting: usize) {
    assert_eq!(permits.stats(), Stats { running, slow, waiting });
}

use Class::{Prompt, Slow};

#[test]
fn no_more_run_than_may_and_the_next_runs_when_one_ends() {
    let permits = Permits::new(2, 9, 9);
    let (a, b) = (get(ask(&permits, "a", Prompt)), get(ask(&permits, "b", Prompt)));
    let mut c = ask(&permits, "c", Prompt);
    assert!(waits(&mut c));
    check(&permits, 2, 0, 1);
    drop(a);
    let c = get(c);
    check(&permits, 2, 0, 0);
    drop((b, c));
    check(&permits, 0, 0, 0);
    assert!(permits.pool().hosts.is_empty(), "nothing is kept of hosts for which nothing runs");
}

#[test]
fn who_came_first_runs_first() {
    let permits = Permits::new(1, 9, 9);
    let running = get(ask(&permits, "a", Prompt));
    let first = ask(&permits, "b", Prompt);
    let mut second = ask(&permits, "a", Prompt);
    let mut third = ask(&permits, "b", Prompt);
    drop(running);
    let first = get(first);
    assert!(waits(&mut second) && waits(&mut third));
    drop(first);
    let second = get(second);
    assert!(waits(&mut third));
    drop(second);
    let _third = get(third);
}

#[test]
fn a_host_at_its_limit_holds_up_nobody_else() {
    let permits = Permits::new(4, 2, 9);
    let (a, _b) = (get(ask(&permits, "a", Prompt)), get(ask(&permits, "a", Prompt)));
    let mut third = ask(&permits, "a", Prompt);
    let mut fourth = ask(&permits, "a", Prompt);
    assert!(waits(&mut third) && waits(&mut fourth));
    let _other = get(ask(&permits, "b", Prompt));
    let _other = get(ask(&permits, "c", Prompt));
    let mut late = ask(&permits, "d", Prompt);
    assert!(waits(&mut late), "the pool is full");
    drop(a);
    let _third = get(third);
    assert!(waits(&mut fourth) && waits(&mut late));
}

#[test]
fn slow_ones_share_a_quarter() {
    for (concurrency, slow) in [(1, 1), (3, 1), (4, 1), (7, 1), (8, 2), (64, 16)] {
        let permits = Permits::new(concurrency, 9, 999);
        let hosts: Vec<_> = (0..concurrency + 1).map(|n| n.to_string()).collect();
        let mut asking: Vec<_> = hosts.iter().map(|host| ask(&permits, host, Slow)).collect();
        assert!(asking.split_off(slow).iter_mut().all(waits), "{concurrency}");
        let held: Vec<_> = asking.into_iter().map(get).collect();
        check(&permits, slow, slow, 0);
        let rest: Vec<_> =
            (slow..concurrency).map(|_| get(ask(&permits, &hosts[concurrency], Prompt))).take(9).collect();
        check(&permits, held.len() + rest.len(), slow, 0);
    }
}

#[test]
fn slow_ones_share_half_of_a_host() {
    for (per_host, slow) in [(1, 1), (2, 1), (4, 2), (5, 2)] {
        let permits = Permits::new(100, per_host, 99);
        let mut asking: Vec<_> = (0..=slow).map(|_| ask(&permits, "a", Slow)).collect();
        assert!(waits(&mut asking[slow]), "{per_host}");
        asking.truncate(slow);
        let _held: Vec<_> = asking.into_iter().map(get).collect();
        let _rest: Vec<_> = (slow..per_host).map(|_| get(ask(&permits, "a", Prompt))).collect();
        assert!(waits(&mut ask(&permits, "a", Prompt)));
        check(&permits, per_host, slow, 0);
    }
}

#[test]
fn slow_waiters_hold_up_no_prompt_one_and_do_not_starve() {
    let permits = Permits::new(4, 9, 9);
    let slow = get(ask(&permits, "a", Slow));
    let mut next_slow = ask(&permits, "b", Slow);
    assert!(waits(&mut next_slow));
    let prompt = [(); 3].map(|()| get(ask(&permits, "c", Prompt)));
    let mut late = ask(&permits, "d", Prompt);
    assert!(waits(&mut late));
    drop(prompt);
    let _late = get(late);
    assert!(waits(&mut next_slow));
    let _full = [(); 2].map(|()| get(ask(&permits, "c", Prompt)));
    let mut later = ask(&permits, "d", Prompt);
    drop(slow);
    let _next = get(next_slow);
    assert!(waits(&mut later), "the slow one is older, and in its share");
}

#[test]
fn the_queue_has_an_end_in_each_class() {
    let permits = Permits::new(1, 1, 2);
    let running = get(ask(&permits, "a", Prompt));
    let mut slow = [(); 2].map(|()| ask(&permits, "a", Slow));
    assert!(slow.iter_mut().all(waits));
    assert_eq!(get_error(ask(&permits, "b", Slow)), QueueFull);
    let mut prompt = [(); 2].map(|()| ask(&permits, "b", Prompt));
    assert!(prompt.iter_mut().all(waits), "slow ones leave room for the others");
    assert_eq!(get_error(ask(&permits, "c", Prompt)), QueueFull);
    check(&permits, 1, 0, 4);
    drop((slow, prompt));
    check(&permits, 1, 0, 0);
    drop(running);
    check(&permits, 0, 0, 0);
}

fn get_error(mut asking: Asking) -> QueueFull {
    match poll(&mut asking) {
        Poll::Ready(outcome) => outcome.expect_err("no permit"),
        Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn who_does_not_want_to_wait_gets_one_that_is_free_or_none() {
    let permits = Permits::new(8, 2, 0);
    let _slow = permits.try_acquire("a", Slow).expect("a permit");
    assert!(permits.try_acquire("a", Slow).is_none(), "half of its host");
    let _prompt = permits.try_acquire("a", Prompt).expect("a permit");
    assert!(permits.try_acquire("a", Prompt).is_none(), "its host");
    let _slow = permits.try_acquire("b", Slow).expect("a permit");
    assert!(permits.try_acquire("c", Slow).is_none(), "a quarter of all");
    let _rest = ["c", "d", "e", "f", "g"].map(|host| permits.try_acquire(host, Prompt).expect("a permit"));
    assert!(permits.try_acquire("h", Prompt).is_none(), "all");
    check(&permits, 8, 2, 0);
}

#[test]
fn who_leaves_the_queue_is_not_called() {
    let permits = Permits::new(1, 1, 9);
    let running = get(ask(&permits, "a", Prompt));
    let first = ask(&permits, "a", Prompt);
    let second = ask(&permits, "a", Prompt);
    let third = ask(&permits, "b", Prompt);
    drop(second);
    drop(first);
    check(&permits, 1, 0, 1);
    drop(running);
    let _third = get(third);
    check(&permits, 1, 0, 0);
}

#[test]
fn a_permit_for_somebody_who_left_goes_to_the_next() {
    let permits = Permits::new(1, 1, 9);
    let running = get(ask(&permits, "a", Prompt));
    let first = ask(&permits, "b", Prompt);
    let mut second = ask(&permits, "c", Prompt);
    drop(running);
    check(&permits, 1, 0, 1);
    assert!(waits(&mut second), "it is the first one's");
    drop(first);
    drop(get(second));
    check(&permits, 0, 0, 0);
    assert!(permits.pool().hosts.is_empty());
}

#[test]
fn one_that_takes_long_moves_to_the_slow_ones() {
    let permits = Permits::new(8, 9, 9);
    let a = get(ask(&permits, "a", Prompt));
    a.move_to_slow();
    a.move_to_slow();
    check(&permits, 1, 1, 0);
    let b = get(ask(&permits, "b", Slow));
    b.move_to_slow();
    check(&permits, 2, 2, 0);
    assert!(!a.is_cut() && !b.is_cut(), "there was room");
    let mut c = ask(&permits, "c", Slow);
    assert!(waits(&mut c), "it counts");
    drop(a);
    let _c = get(c);
}

#[test]
fn the_oldest_slow_one_goes_and_rather_one_that_was_not_ok() {
    let permits = Permits::new(12, 9, 9);
    let held = ["a", "b", "c"].map(|host| get(ask(&permits, host, Prompt)));
    let late = ["d", "e", "f", "g"].map(|host| get(ask(&permits, host, Prompt)));
    held[0].move_to_slow();
    // Asked before `d` to `g`, granted after them: it is young.
    let bad = [get(ask(&permits, "x", Slow)), get(ask(&permits, "y", Slow))];
    let cut = || [&held[0], &bad[0], &bad[1], &held[1], &held[2], &late[0]].map(Permit::is_cut);
    held[1].move_to_slow();
    assert_eq!(cut(), [false, true, false, false, false, false]);
    held[2].move_to_slow();
    assert_eq!(cut(), [false, true, true, false, false, false]);
    late[0].move_to_slow();
    assert_eq!(cut(), [true, true, true, false, false, false], "no bad one is left, so the oldest");
    // The bound of 3, and those that were told to go and did not yet.
    check(&permits, 9, 6, 0);
    drop(bad);
    check(&permits, 7, 4, 0);
}

#[test]
fn how_long_a_slow_one_runs_counts_not_how_long_it_waited() {
    let permits = Permits::new(8, 2, 9);
    let first = get(ask(&permits, "a", Slow));
    let asked_early = ask(&permits, "a", Slow);
    let ran_early = get(ask(&permits, "b", Slow));
    drop(first);
    let asked_early = get(asked_early);
    get(ask(&permits, "d", Prompt)).move_to_slow();
    assert!(ran_early.is_cut() && !asked_early.is_cut());
}

#[test]
fn a_host_full_of_slow_ones_cuts_one_of_its_own() {
    let permits = Permits::new(64, 4, 9);
    let other = get(ask(&permits, "b", Slow));
    let held = [(); 4].map(|()| get(ask(&permits, "a", Prompt)));
    held[3].move_to_slow();
    held[2].move_to_slow();
    held[0].move_to_slow();
    assert_eq!([0, 1, 2, 3].map(|n: usize| held[n].is_cut()), [false, false, true, false]);
    assert!(!other.is_cut(), "the quarter is not full");
    held[1].move_to_slow();
    assert_eq!([0, 1, 2, 3].map(|n: usize| held[n].is_cut()), [true, false, true, false]);
    let mut healthy = ask(&permits, "a", Prompt);
    assert!(waits(&mut healthy));
    drop(held);
    let _healthy = get(healthy);
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_go_hears_it_before_and_after() {
    let permits = Permits::new(4, 9, 9);
    let oldest = permits.acquire("a", Slow).await.expect("a permit");
    let short = Duration::from_millis(1);
    assert!(tokio::time::timeout(short, oldest.cut()).await.is_err(), "nobody told it");
    let newer = permits.acquire("b", Prompt).await.expect("a permit");
    let ((), ()) = tokio::join!(oldest.cut(), async { newer.move_to_slow() });
    tokio::time::timeout(short, oldest.cut()).await.expect("it hears it again");
    assert!(tokio::time::timeout(short, newer.cut()).await.is_err(), "the other stays");
}

#[test]
fn a_larger_pool_calls_those_who_wait() {
    let permits = Permits::new(1, 1, 9);
    let _a = get(ask(&permits, "a", Prompt));
    let second = ask(&permits, "a", Prompt);
    let slow = ask(&permits, "b", Slow);
    permits.resize(4, 1, 9);
    let _slow = get(slow);
    check(&permits, 2, 1, 1);
    permits.resize(4, 2, 9);
    let _second = get(second);
    check(&permits, 3, 1, 0);
}

#[test]
fn a_smaller_pool_lets_run_what_runs_and_starts_nothing_while_it_is_too_full() {
    let permits = Permits::new(3, 3, 9);
    let mut held: Vec<_> = (0..3).map(|_| get(ask(&permits, "a", Prompt))).collect();
    let mut next = ask(&permits, "b", Prompt);
    permits.resize(0, 0, 0);
    assert_eq!(get_error(ask(&permits, "c", Prompt)), QueueFull);
    for left in [2, 1] {
        held.pop();
        assert!(waits(&mut next));
        check(&permits, left, 0, 1);
    }
    held.pop();
    let _next = get(next);
    check(&permits, 1, 0, 0);
}

#[test]
fn the_class_of_a_target_is_whether_it_is_expected_to_answer() {
    for state in State::ALL {
        let prompt = matches!(state, State::Ok | State::Unknown);
        assert_eq!(Class::of(state), if prompt { Prompt } else { Slow }, "{state:?}");
    }
}

/// The whole trouble: a thousand servers hang, each on an address of its own, half of them known to.
#[test]
fn a_thousand_hung_targets_do_not_hold_up_a_healthy_one() {
    let permits = Permits::new(64, 4, QUEUE);
    let hosts: Vec<_> = (0..1_000).map(|n| format!("127.1.{}.{}", n / 250, n % 250)).collect();
    let mut asking: Vec<_> = hosts.iter().map(|host| ask(&permits, host, Slow)).collect();
    asking.extend(hosts.iter().map(|host| ask(&permits, host, Prompt)));
    let mut held = vec![];
    // Nobody answers; each that was let in is slow after its 500 ms, and goes when it is told to.
    for round in 0..100 {
        asking.retain_mut(|asking| match poll(asking) {
            Poll::Ready(permit) => {
                held.push(permit.expect("a permit"));
                false
            }
            Poll::Pending => true,
        });
        held.iter().for_each(Permit::move_to_slow);
        held.retain(|permit| !permit.is_cut());
        let stats = permits.stats();
        assert!(stats.running <= 64, "round {round}: {stats:?}");
        assert!(held.len() <= 16, "round {round}: {} hung ones stay", held.len());
    }
    check(&permits, 16, 16, 1_000 - 16);
    assert!(asking.len() < 1_000, "those that hang silently went through");
    let healthy: Vec<_> = (0..48).map(|n| get(ask(&permits, hosts[n].as_str(), Prompt))).collect();
    assert_eq!(healthy.len(), 48);
}

/// Random askers on few hosts. After each step the books are counted again from what the test itself holds.
#[test]
fn no_permit_is_lost_and_no_limit_exceeded() {
    const HOSTS: [&str; 5] = ["a", "b", "c", "d", "e"];
    struct Held {
        permit: Permit,
        host: usize,
        slow: bool,
    }
    let (mut waited, mut cuts) = (0, 0);
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut concurrency, mut per_host, mut queue) =
            (random.usize(1..14), random.usize(1..7), random.usize(0..12));
        let permits = Permits::new(concurrency, per_host, queue);
        let mut held: Vec<Held> = vec![];
        let mut asking: Vec<(Asking, usize, Class)> = vec![];
        for step in 0..300 {
            let at = format!("seed {seed} step {step}");
            let mut grown = true;
            match random.u8(0..20) {
                0..8 => {
                    let (host, class) = (random.usize(0..5), *random.choice(&Class::ALL).unwrap());
                    let full = asking.iter().filter(|(_, _, other)| *other == class).count() >= queue;
                    let mut one = ask(&permits, HOSTS[host], class);
                    match poll(&mut one) {
                        Poll::Ready(Ok(permit)) => held.push(Held { permit, host, slow: class == Slow }),
                        Poll::Ready(Err(QueueFull)) => assert!(full, "{at}: the queue is not full"),
                        Poll::Pending => {
                            assert!(!full, "{at}: the queue is full");
                            asking.push((one, host, class));
                        }
                    }
                }
                8..13 if !held.is_empty() => drop(held.swap_remove(random.usize(0..held.len()))),
                13..15 if !asking.is_empty() => drop(asking.swap_remove(random.usize(0..asking.len()))),
                // A permit is granted to one who leaves in the same moment.
                15 if !asking.is_empty() && !held.is_empty() => {
                    drop(held.swap_remove(random.usize(0..held.len())));
                    drop(asking.swap_remove(random.usize(0..asking.len())));
                }
                16..18 if !held.is_empty() => {
                    let place = random.usize(0..held.len());
                    let before = held.iter().filter(|one| one.permit.is_cut()).count();
                    let stay = held.iter().filter(|one| one.slow && !one.permit.is_cut()).count();
                    held[place].permit.move_to_slow();
                    let after = held.iter().filter(|one| one.permit.is_cut()).count();
                    assert!(after <= before + 1, "{at}: one newcomer costs one");
                    if !held[place].slow && stay >= (concurrency / 4).max(1) {
                        assert_eq!(after, before + 1, "{at}: it makes room");
                    }
                    held[place].slow = true;
                    cuts += after - before;
                }
                18 if random.u8(0..10) == 0 => {
                    (concurrency, per_host, queue) =
                        (random.usize(1..14), random.usize(1..7), random.usize(0..12));
                    permits.resize(concurrency, per_host, queue);
                    grown = false;
                }
                _ => held.retain(|one| !one.permit.is_cut()),
            }
            let count = held.len();
            asking.retain_mut(|(one, host, class)| match poll(one) {
                Poll::Ready(permit) => {
                    let permit = permit.expect("a place in the queue is kept");
                    held.push(Held { permit, host: *host, slow: *class == Slow });
                    false
                }
                Poll::Pending => true,
            });
            waited += held.len() - count;

            let slow = held.iter().filter(|one| one.slow).count();
            check(&permits, held.len(), slow, asking.len());
            let running_on = |host: usize| held.iter().filter(|one| one.host == host).count();
            let slow_on = |host: usize| held.iter().filter(|one| one.host == host && one.slow).count();
            // What ran before a smaller limit came may run on.
            if grown && held.len() > count {
                assert!(held.len() <= concurrency, "{at}: {} of {concurrency}", held.len());
                for one in &held[count..] {
                    assert!(running_on(one.host) <= per_host, "{at}: host {}", one.host);
                    assert!(!one.slow || slow <= (concurrency / 4).max(1), "{at}: slow");
                    assert!(!one.slow || slow_on(one.host) <= (per_host / 2).max(1), "{at}: slow on a host");
                }
            }
            // Nobody waits who could run.
            for (_, host, class) in &asking {
                let room = held.len() < concurrency && running_on(*host) < per_host;
                let slow_room = slow < (concurrency / 4).max(1) && slow_on(*host) < (per_host / 2).max(1);
                assert!(!room || *class == Slow && !slow_room, "{at}: {class:?} waits for nothing");
            }
            let known = (0..5).filter(|host| running_on(*host) > 0 || asking.iter().any(|a| a.1 == *host));
            assert_eq!(permits.pool().hosts.len(), known.count(), "{at}: hosts");
        }
        // All who wait get their turn.
        while let Some(one) = held.pop() {
            drop(one);
            asking.retain_mut(|(one, host, class)| match poll(one) {
                Poll::Ready(permit) => {
                    held.push(Held { permit: permit.unwrap(), host: *host, slow: *class == Slow });
                    false
                }
                Poll::Pending => true,
            });
        }
        assert!(asking.is_empty(), "seed {seed}: {} wait for ever", asking.len());
        check(&permits, 0, 0, 0);
        let pool = permits.pool();
        assert!(pool.hosts.is_empty() && pool.holders.is_empty() && pool.cuttable.is_empty());
        assert!(pool.heads.iter().all(BTreeMap::is_empty));
    }
    assert!(waited > 1_000 && cuts > 100, "the steps reach what they are for: {waited} {cuts}");
}

#[test]
fn threads_that_ask_and_leave_at_once_lose_no_permit() {
    let permits = Permits::new(5, 2, 1_000);
    let asker = |permits: Permits, n: usize, host: &'static str, class: Class, impatient: bool| async move {
        let permit = tokio::select! {
            biased;
            permit = permits.acquire(host, class) => Some(permit.expect("the queue is long")),
            () = tokio::task::yield_now(), if impatient => None,
        };
        if let Some(permit) = &permit {
            assert!(permits.stats().running <= 5);
            if n.is_multiple_of(3) {
                permit.move_to_slow();
            }
        }
        tokio::task::yield_now().await;
        usize::from(permit.is_some())
    };
    let thread = |seed: u64| {
        let mut random = fastrand::Rng::with_seed(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for n in 0..500 {
                let host = ["a", "b", "c"][random.usize(0..3)];
                let class = *random.choice(&Class::ALL).unwrap();
                tasks.spawn(asker(permits.clone(), n, host, class, random.bool()));
            }
            tasks.join_all().await.into_iter().sum::<usize>()
        })
    };
    let ran: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|seed| scope.spawn(move || thread(seed))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no task panics")).sum()
    });
    assert!((500..=2_000).contains(&ran), "the patient ones got one each: {ran}");
    check(&permits, 0, 0, 0);
}
