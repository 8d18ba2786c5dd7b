//! One that was stopped (SIGSTOP) and goes on: how soon it delivers again.
//!
//! What a newcomer would get wrong: a request that was under way is answered long since, and its deadline may be over, too. That is
//! one failure of a receiver that is well, and no reason to wait.

use super::{Crew, Setup, TTL, now, report};
use std::thread;
use std::time::{Duration, Instant};

/// How soon all must be delivered again: an interval, the time to take work over, and a busy machine.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn what_was_stopped_delivers_again_at_once() {
    let setup = Setup { services: 300, exporters: 2, on_loss: "freeze", apart: false };
    let mut crew = Crew::start(setup, 2);
    crew.exporter(0).process().pause();
    thread::sleep(Duration::from_secs(2 * TTL.unsigned_abs()));
    crew.exporter(0).process().resume();
    let (from, begun) = (now(), Instant::now());
    crew.drain();
    let took = begun.elapsed();
    report(format_args!("went on at {from}, all delivered anew after {took:?}"));
    assert!(took < SOON, "{took:?}\n{}", crew.logs());
}
