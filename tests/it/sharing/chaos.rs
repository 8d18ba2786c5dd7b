//! Three exporters, a fourth that comes and goes, and an etcd, to all of which something happens again and again.
//!
//! `make soak FOR=seconds` runs it for as long as one likes.
//!
//! What a newcomer would get wrong: not everything costs the same. An exporter that is lost may cost a TTL and an interval; one
//! that ends in good order may cost nothing, and neither may one that joins.

use super::{Crew, Flags, PATIENCE, Setup, TTL, labels_changed, now, report, wrong};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};
use testbed::etcd::Event;
use testbed::sharing::collections::{Span, Troubles, judge, split};
use testbed::{Dice, Fault, wait_until};

/// How long it goes on in `make test`, for each of the two answers to the loss of etcd. `REDVIGIL_SOAK` says another number of
/// seconds for both together.
const SECONDS: u64 = 25;
/// How many services they share.
const SERVICES: usize = 300;
/// How many exporters there are at most; one of them comes and goes.
const MOST: usize = 4;

/// What happened, by name.
type Done = BTreeMap<&'static str, usize>;

/// Lets something happen until the time is over; what that was.
struct Weather<'a> {
    crew: &'a mut Crew,
    dice: Dice,
    troubles: Troubles,
    done: Done,
    /// What happened, line by line, for whoever has to find out why something went wrong.
    story: Vec<String>,
}

impl Weather<'_> {
    /// Says what happened, to which of them (or to etcd), since when.
    fn note(&mut self, what: &'static str, at: usize, from: i64) {
        *self.done.entry(what).or_default() += 1;
        self.story.push(format!("{from} to {}: {what}, {at}", now()));
    }

    fn sleep(&mut self, least: u64, most: u64) {
        thread::sleep(Duration::from_millis(least) + self.dice.milliseconds(most - least));
    }

    /// One of those who run.
    fn one(&mut self) -> usize {
        let running = self.crew.running();
        let at = self.dice.below(running.len() as u64);
        running[usize::try_from(at).expect("a few")]
    }

    /// Longer than the TTL, but for one time in three.
    fn long(&mut self) {
        let ttl = TTL.unsigned_abs() * 1000;
        match self.dice.below(3) {
            0 => self.sleep(ttl / 3, ttl),
            _ => self.sleep(ttl + 500, 2 * ttl),
        }
    }

    /// Something that costs a TTL at most.
    fn lost(&mut self, what: &'static str, at: usize, act: impl FnOnce(&mut Self)) {
        let from = now();
        act(self);
        self.troubles.losses.push(Span { from, until: now() });
        self.note(what, at, from);
    }

    fn away(&mut self, what: &'static str, act: impl FnOnce(&mut Self)) {
        let from = now();
        act(self);
        self.troubles.outages.push(Span { from, until: now() });
        self.note(what, 0, from);
    }

    /// The next thing.
    fn step(&mut self, freeze: bool) {
        let (at, from) = (self.one(), now());
        match self.dice.below(12) {
            0..3 => self.lost("kill -9", at, |it| {
                it.crew.kill(at);
                it.sleep(0, 5000);
                it.crew.run(at);
            }),
            3..6 => self.lost("SIGSTOP", at, |it| {
                it.crew.exporter(at).process().pause();
                it.long();
                it.crew.exporter(at).process().resume();
            }),
            6 => {
                self.crew.end(at);
                self.sleep(0, 3000);
                self.crew.run(at);
                self.note("SIGTERM", at, from);
            }
            7 => {
                // The last one comes where it is not there, and goes where it is.
                let last = MOST - 1;
                match self.crew.running().contains(&last) {
                    true => self.crew.end(last),
                    false => self.crew.run(last),
                }
                self.note("join or leave", last, from);
            }
            8 => self.away("etcd SIGSTOP", |it| {
                it.crew.etcd.stop();
                it.long();
                it.crew.etcd.cont();
            }),
            9 => self.away("etcd kill -9", |it| {
                it.crew.etcd.kill();
                it.long();
                it.crew.etcd.restart();
            }),
            _ => {
                let way = |it: &Self, fault| {
                    it.crew.posts[at].way.as_ref().expect("it has a way of its own").set(fault)
                };
                way(self, Fault::BlackHole);
                self.long();
                way(self, Fault::Pass);
                // A claim whose answer is cut off belongs to nobody who knows.
                self.troubles.losses.push(Span { from, until: now() });
                if freeze {
                    // What it went on with it loses when it hears that its lease has ended.
                    self.troubles.losses.push(Span { from: now(), until: now() });
                }
                self.note("partition", at, from);
            }
        }
    }
}

fn chaos(on_loss: &'static str, seconds: u64, seed: u64) {
    let setup = Setup { services: SERVICES, exporters: MOST, on_loss, apart: true };
    let mut crew = Crew::start(setup, 3);
    let flags = Flags::watch(&crew);
    let from = now();
    let mut weather = Weather {
        crew: &mut crew,
        dice: Dice(seed),
        troubles: Troubles::default(),
        done: Done::new(),
        story: vec![],
    };
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(seconds) {
        weather.step(on_loss == "freeze");
        weather.sleep(500, 4000);
    }
    let Weather { troubles, done, story, .. } = weather;
    crew.settle();
    // In calm weather each service is collected by one, and every sample arrives.
    let calm = now();
    thread::sleep(Duration::from_secs(4));
    let time = Span { from, until: now() };
    crew.drain();
    let flagged = flags.finish();

    let claims =
        testbed::sharing::claims::Claims::replay(super::CLAIMS, &crew.etcd.history(super::CLAIMS, 1));
    let promise = setup.promise();
    let collected = judge(&crew.collected(), time, &promise, &troubles, &flagged);
    let (pushed, stale) = crew.pushed();
    // What was collected in the moment before a death is lost: an interval more at receivers.
    let at_receiver =
        testbed::sharing::collections::Promise { slack: promise.slack + promise.interval, ..promise };
    let pushed = judge(&pushed, time, &at_receiver, &troubles, &flagged);
    let all = crew.collected();
    let (shares, several) = split(&all, Span { from: calm, until: time.until });

    let flagged: i64 = flagged.values().flatten().map(|span| span.until - span.from).sum();
    report(format_args!(
        "seed {seed}, on_etcd_loss {on_loss}: {done:?}; {} claims; {} collections, the longest gap {} ms; {} samples, the \
         longest gap {} ms, {} doubles, {} more while an exporter said that it goes on without etcd ({flagged} ms in all); \
         in the end {shares:?}",
        claims.claimed(),
        collected.collections,
        collected.longest,
        pushed.collections,
        pushed.longest,
        pushed.doubles.len(),
        pushed.excused.len(),
    ));
    let doubled: String =
        pushed.doubles.iter().take(3).map(|double| claims_of(&crew, &double.server)).collect();
    let mut faults = claims.faults;
    // What servers see may be asked again; what receivers get may not.
    faults.extend(wrong(
        "at servers",
        &testbed::sharing::collections::Verdict { doubles: vec![], ..collected },
    ));
    faults.extend(wrong("at the receiver", &pushed));
    if on_loss == "stop" {
        faults.extend((!pushed.excused.is_empty()).then(|| format!("{} doubles", pushed.excused.len())));
    }
    faults.extend(several.into_iter().take(5).map(|several| format!("in calm weather: {several}")));
    faults.extend((stale > 0).then(|| format!("{stale} stale markers, and no server ever went away")));
    let changed = labels_changed(&crew);
    faults.extend((!changed.is_empty()).then(|| format!("series with other labels: {changed:?}")));
    let story = story.join("\n") + &doubled;
    assert!(faults.is_empty(), "seed {seed}:\n{}\n{story}\n{}", faults.join("\n"), crew.logs());
    assert_eq!(shares.len(), crew.running().len(), "{shares:?}");
    wait_until("all to be registered", PATIENCE, || {
        crew.etcd.all(super::PREFIX).len() == crew.running().len()
    });
}

/// All that happened to the claim of a server's service, and to what was said when it was handed over.
fn claims_of(crew: &Crew, server: &str) -> String {
    let at =
        crew.farm.addresses().iter().position(|address| address.to_string() == server).expect("one of ours");
    let shard = format!("{:03}", redvigil::peers::shard_of(&format!("service-{at}")));
    let mut text = format!("\n{server}, shard {shard}:");
    for event in crew.etcd.history("/redvigil/", 1).iter().filter(|event| event.key().ends_with(&shard)) {
        text += &match event {
            Event::Put(kv) => format!("\n  {} {} = {} by {:x}", kv.mod_revision, kv.key, kv.value, kv.lease),
            Event::Delete { key, revision } => format!("\n  {revision} {key} gone"),
        };
    }
    text
}

/// For how long, where a soak says so.
fn soak(share: u64) -> u64 {
    let seconds = std::env::var("REDVIGIL_SOAK").ok().and_then(|seconds| seconds.parse::<u64>().ok());
    seconds.map_or(SECONDS, |seconds| seconds / share)
}

fn seed() -> u64 {
    let said = std::env::var("REDVIGIL_SEED").ok().and_then(|seed| seed.parse().ok());
    said.unwrap_or_else(|| now().unsigned_abs())
}

#[test]
fn nothing_is_collected_twice_whatever_happens_with_stop() {
    chaos("stop", soak(2), seed());
}

#[test]
fn nothing_is_left_out_whatever_happens_with_freeze() {
    chaos("freeze", soak(2), seed());
}
