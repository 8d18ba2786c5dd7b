//! The promises of the queue, each a test of its name, at every moment of some scenarios.
//!
//! What a newcomer would get wrong: a record is accepted when it was written, not when it was appended. What is asked for
//! after a death is what the counters had said before it.

use crate::crashes::{Found, INTERVAL, Point, Run, after, evicting, rolling, run, tears, two_lanes};
use crate::life::samples_of;
use crate::simulated::{Change, Image, Loss};
use redvigil::config::deliver::Fsync;

fn each(
    run: &Run,
    mut look: impl FnMut(&Point, Vec<(String, Image)>),
    images: impl Fn(&Point) -> Vec<(String, Image)>,
) {
    assert!(run.points.len() > 60, "only {} moments", run.points.len());
    for point in &run.points {
        look(point, images(point));
    }
}

/// What a death of the process leaves: before the call, and within it at any byte.
fn process_deaths(point: &Point) -> Vec<(String, Image)> {
    let before = &point.before;
    let mut images = vec![("between two calls".to_owned(), before.image.clone())];
    for length in tears(before.change.as_ref()) {
        let change = before.change.as_ref().expect("a write");
        images.push((
            format!("after {length} bytes"),
            before.image.after_process_death(Some((change, length))),
        ));
    }
    images
}

/// What a death of the machine leaves.
fn power_losses(point: &Point) -> Vec<(String, Image)> {
    let image = &point.before.image;
    let changes = image.unsynced();
    let mut losses = vec![Loss::All, Loss::Zeros, Loss::Contents, Loss::Names];
    for (at, change) in changes.iter().enumerate() {
        losses.extend([Loss::Behind(at), Loss::One(at), Loss::Before(at)]);
        if let Change::Write { bytes, .. } = change {
            let cuts = [1, 16, 47, 48, 49, 64, bytes.len() - 1];
            for cut in cuts.into_iter().filter(|cut| *cut < bytes.len()) {
                losses.extend([Loss::Torn(at, cut), Loss::TornZeros(at, cut)]);
            }
        }
    }
    losses.extend((0..6).map(|seed| Loss::Random(seed + 1000 * point.call as u64)));
    losses.into_iter().map(|loss| (format!("{loss:?}"), image.after_power_loss(loss))).collect()
}

/// Looks at all that can be left at every moment, and says where it was that something did not hold.
fn check(run: &Run, images: impl Fn(&Point) -> Vec<(String, Image)>, hold: impl Fn(&Point, &Found)) {
    let mut deaths = 0;
    each(
        run,
        |point, images| {
            for (name, image) in images {
                deaths += 1;
                let left = describe(&image);
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    hold(point, &after(run, point, image));
                }));
                if outcome.is_err() {
                    panic!("death at call {}, {name}, about to {:?}\n{left}", point.call, shown(point));
                }
            }
        },
        images,
    );
    assert!(deaths > 60, "only {deaths} deaths");
}

fn shown(point: &Point) -> String {
    match &point.before.change {
        Some(Change::Write { file, at, bytes }) => {
            format!("write {} bytes at {at} of file {file}", bytes.len())
        }
        Some(change) => format!("{change:?}"),
        None => "sync".to_owned(),
    }
}

fn describe(image: &Image) -> String {
    let sizes = image
        .files()
        .into_iter()
        .map(|path| format!("{} {}", path.display(), image.read(&path).map_or(0, |b| b.len())));
    sizes.collect::<Vec<_>>().join("\n")
}

#[test]
fn g1_process_death_loses_no_accepted_sample() {
    let nothing_is_missing = |point: &Point, found: &Found| {
        for lane in 0..point.seen.accepted.len() {
            let missing = found.missing(&point.seen, lane);
            assert!(missing.is_empty(), "lane {lane}: {missing:?} of {}", point.seen.accepted[lane]);
        }
        assert_eq!((found.dropped, found.corrected), (0, 0));
    };
    check(&run(|_| (), rolling), process_deaths, nothing_is_missing);
    check(&run(|config| config.lanes = 2, two_lanes), process_deaths, nothing_is_missing);
}

#[test]
fn g2_machine_death_loses_at_most_the_fsync_interval() {
    for fsync in [Fsync::Every(INTERVAL), Fsync::Always] {
        for lanes in [1, 2] {
            let scenario = if lanes == 1 { rolling } else { two_lanes };
            let run = run(
                |config| {
                    config.fsync = fsync;
                    config.lanes = lanes;
                },
                scenario,
            );
            let interval = if fsync == Fsync::Always { 0 } else { INTERVAL.as_millis() as i64 };
            check(&run, power_losses, |point, found| {
                let is_recent = |then: i64| fsync != Fsync::Always && then + interval >= point.seen.now;
                for lane in 0..usize::from(lanes) {
                    for number in found.missing(&point.seen, lane) {
                        let then = run.ledger.appended[lane][number as usize].1;
                        assert!(is_recent(then), "{number} of {then} is lost at {}", point.seen.now);
                    }
                    // what was settled is repeated for as long at most, and one more
                    let last = point.seen.sent[lane].last();
                    for number in found.repeated(&point.seen, lane) {
                        let settled = point.seen.settled[lane].iter().find(|(one, _)| *one == number);
                        assert!(
                            Some(&number) == last || settled.is_none_or(|(_, then)| is_recent(*then)),
                            "{number} is sent again, settled {settled:?}, at {}",
                            point.seen.now
                        );
                    }
                }
            });
        }
    }
}

#[test]
fn g3_order_holds_per_lane() {
    let in_order = |_: &Point, found: &Found| {
        for delivered in &found.delivered {
            assert!(delivered.windows(2).all(|two| two[0] < two[1]), "{delivered:?}");
        }
    };
    let once = |point: &Point| vec![("between two calls".to_owned(), point.before.image.clone())];
    check(&run(|config| config.lanes = 2, two_lanes), once, in_order);
    check(&run(|_| (), rolling), once, in_order);
    check(&run(|config| config.max_bytes = 32 << 10, evicting), once, in_order);
    check(&run(|config| config.lanes = 2, two_lanes), power_losses, in_order);
}

#[test]
fn g4_at_most_one_record_per_lane_is_sent_twice_and_byte_for_byte_the_same() {
    // that the bytes are the same is looked at whenever a record is sent
    let one_at_most = |point: &Point, found: &Found| {
        for lane in 0..point.seen.sent.len() {
            let repeated = found.repeated(&point.seen, lane);
            assert!(repeated.len() <= 1, "lane {lane}: {repeated:?} were sent twice");
            assert!(repeated.is_empty() || repeated.last() == point.seen.sent[lane].last());
        }
    };
    let between = |point: &Point| process_deaths(point).into_iter().step_by(7).collect();
    check(&run(|_| (), rolling), between, one_at_most);
    check(&run(|config| config.lanes = 2, two_lanes), between, one_at_most);
    check(&run(|config| config.max_bytes = 32 << 10, evicting), between, one_at_most);
    check(&run(|config| config.fsync = Fsync::Always, rolling), power_losses, one_at_most);
}

#[test]
fn g5_nothing_leaves_silently() {
    // that the counters balance is looked at after each step of each life
    let evicted = run(|config| config.max_bytes = 32 << 10, evicting);
    assert!(evicted.points.last().expect("some").seen.dropped > 0, "nothing was dropped");
    let between = |point: &Point| {
        let all = process_deaths(point);
        all.into_iter().step_by(if point.call.is_multiple_of(8) { 1 } else { 29 }).collect()
    };
    check(&evicted, between, |point, found| {
        assert_eq!(found.corrected, 0);
        let missing = found.missing_samples(&point.seen);
        // the one that was under way is counted by the start that finds it, which may die before it is asked
        let under_way = if point.seen.opening { u64::from(samples_of(0)) } else { 0 };
        let counted = point.seen.dropped + found.dropped + under_way;
        assert!(missing <= counted, "{missing} samples are missing, {counted} were counted");
    });
    let some = |point: &Point| if point.call.is_multiple_of(4) { power_losses(point) } else { vec![] };
    check(&evicted, some, |point, found| {
        let accepted: u64 = (0..point.seen.accepted[0]).map(|one| u64::from(samples_of(one as u32))).sum();
        assert!(found.recovered <= accepted + 7, "{} of {accepted} were found", found.recovered);
    });
}
