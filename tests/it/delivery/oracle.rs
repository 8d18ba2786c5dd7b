//! What must have arrived, and what our own metrics say of it.
//!
//! A collection that fails, because the target or we were too slow, has no number though one was handed out: `redis_up` is 0
//! then.
//!
//! What a newcomer would get wrong: the oracle does not ask us what we accepted. A number may be missing only where it was
//! handed out less than [`UNACCEPTED`] before our process was ended, or while it ended; every other one has to be there.

use super::{NUMBERS, UP};
use std::collections::{BTreeMap, BTreeSet};
use testbed::{Arrivals, Handed, Labels, Numbered, Sample, Store};

/// How long, in milliseconds, a number may take from the target to the queue: the rest of its collection, `linger`, the
/// encoder and the write, on a busy machine and in a debug build.
pub const UNACCEPTED: i64 = 500;
/// The same where our process was asked to end, and what it gathered has to be written and sent before it does: only what
/// is being collected is given up.
pub const CUT_OFF: i64 = 200;
/// From when on and until when, in milliseconds, the time of a failed collection may differ from the moment at which its
/// number was handed out.
const FAILED: std::ops::RangeInclusive<i64> = -500..=1_500;
/// How far, in milliseconds, the timestamp of a collection may be from the moment at which the target answered it.
const SKEW: i64 = 2_000;

/// An end of our process: when it was told to end, and when it had.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Milliseconds since 1970.
    pub before: i64,
    /// Milliseconds since 1970.
    pub after: i64,
    /// How long before it, in milliseconds, a number may have been handed out that does not arrive.
    pub excused: i64,
}

/// What a receiver has of the numbers, by `instance`, in the order of arrival or of time; and all else.
#[derive(Debug, Default)]
pub struct Found {
    numbers: BTreeMap<String, Vec<Sample>>,
    /// When collections failed, by `instance`.
    failures: BTreeMap<String, Vec<i64>>,
    /// Series of targets that a store has, without the numbers.
    others: BTreeMap<Labels, Vec<Sample>>,
}

impl Found {
    /// All that a store has of us.
    pub fn in_store(store: &Store) -> Self {
        Self::split(store.samples("{job=\"redvigil\"}"))
    }

    /// The same from series that came by OTLP, where labels of the resource have other names.
    pub fn by_otlp(mut series: BTreeMap<Labels, Vec<Sample>>) -> Self {
        series.retain(|labels, _| labels.get("service.name").is_some_and(|job| job == "redvigil"));
        let named = |(mut labels, samples): (Labels, _)| {
            if let Some(instance) = labels.remove("service.instance.id") {
                labels.insert("instance".to_owned(), instance);
            }
            (labels, samples)
        };
        Self::split(series.into_iter().map(named).collect())
    }

    fn split(series: BTreeMap<Labels, Vec<Sample>>) -> Self {
        let mut found = Self::default();
        for (labels, samples) in series {
            match (labels.get("__name__").map(String::as_str), labels.get("instance")) {
                (Some(NUMBERS), Some(instance)) => {
                    assert_eq!(labels.get("cluster").map(String::as_str), Some("c1"), "{labels:?}");
                    let twice = found.numbers.insert(instance.clone(), samples);
                    assert!(twice.is_none(), "two series of numbers for {instance}");
                }
                // What is said of ourselves is no target's.
                (name, Some(instance)) if instance.starts_with("127.0.0.1:") => {
                    if name == Some(UP) {
                        found.failures.insert(instance.clone(), downs(&samples));
                    }
                    found.others.insert(labels, samples);
                }
                _ => {}
            }
        }
        found
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.others.is_empty()
    }

    /// What a receiver was sent, in the order of arrival.
    pub fn arrived(arrivals: &Arrivals) -> Self {
        let mut found = Self::default();
        for (instance, mut samples) in arrivals.followed(NUMBERS) {
            samples.retain(|sample| !sample.value.is_nan());
            found.numbers.insert(instance, samples);
        }
        for (instance, samples) in arrivals.followed(UP) {
            found.failures.insert(instance, downs(&samples));
        }
        found
    }
}

/// When a target was down.
fn downs(up: &[Sample]) -> Vec<i64> {
    up.iter().filter(|sample| sample.value == 0.0).map(|sample| sample.at).collect()
}

/// What came of a comparison that went well.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Numbers that were handed out.
    pub handed: usize,
    /// Numbers that arrived.
    pub arrived: usize,
    /// Those that arrived twice, at the same time: only stores that keep both know.
    pub twice: usize,
    /// Numbers whose collection failed.
    pub failed: usize,
    /// Numbers that were not accepted yet when our process was ended.
    pub unaccepted: usize,
    /// The most of those, of all targets together, at one end of our process.
    pub unaccepted_at_once: usize,
    /// The longest time, in milliseconds, that one of those had waited.
    pub waited: i64,
    /// Samples of other series that were compared.
    pub others: usize,
}

/// Compares what arrived with what was handed out; panics with all that is wrong.
pub fn compare(targets: &[Numbered], found: &Found, cuts: &[Cut]) -> Verdict {
    let (mut verdict, mut faults) = (Verdict::default(), Vec::new());
    let mut at_cut = vec![0; cuts.len()];
    let mut times: BTreeMap<String, (BTreeSet<i64>, BTreeSet<i64>)> = BTreeMap::new();
    for target in targets {
        let instance = target.address();
        let handed: BTreeMap<u64, Handed> =
            target.handed().into_iter().map(|handed| (handed.number, handed)).collect();
        let none = Vec::new();
        let samples = found.numbers.get(&instance).unwrap_or(&none);
        let mut arrived: BTreeMap<u64, i64> = BTreeMap::new();
        let mut last = (0, i64::MIN);
        for sample in samples {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole and not large"
            )]
            let number = sample.value as u64;
            let Some(owed) = handed.get(&number).filter(|_| sample.value.fract() == 0.0) else {
                faults.push(format!("{instance}: {sample:?} was never handed out"));
                continue;
            };
            if (sample.at - owed.at).abs() > SKEW {
                faults.push(format!("{instance}: {sample:?} was handed out at {}", owed.at));
            }
            if arrived.get(&number) == Some(&sample.at) {
                verdict.twice += 1;
                continue;
            }
            if number <= last.0 || sample.at <= last.1 {
                faults.push(format!("{instance}: {sample:?} comes after {last:?}"));
            }
            last = (number, sample.at);
            arrived.insert(number, sample.at);
        }
        verdict.handed += handed.len();
        verdict.arrived += arrived.len();
        let all: BTreeSet<i64> = found.failures.get(&instance).into_iter().flatten().copied().collect();
        let mut failures: Vec<i64> = all.iter().copied().collect();
        let missing = handed.values().filter(|owed| !arrived.contains_key(&owed.number));
        for owed in missing {
            // Each failure stands for one number at most.
            if let Some(at) = failures.iter().position(|at| FAILED.contains(&(at - owed.at))) {
                failures.swap_remove(at);
                verdict.failed += 1;
                continue;
            }
            match cuts.iter().position(|cut| owed.at >= cut.before - cut.excused && owed.at <= cut.after) {
                Some(at) => {
                    at_cut[at] += 1;
                    verdict.waited = verdict.waited.max(cuts[at].before - owed.at);
                }
                None => {
                    faults.push(format!("{instance}: {owed:?} is missing; cuts: {}", near(cuts, owed.at)))
                }
            }
        }
        times.insert(instance, (arrived.into_values().collect(), all));
    }
    let mut whole = 0;
    for (labels, samples) in &found.others {
        let instance = &labels["instance"];
        let Some((times, failures)) = times.get(instance) else {
            faults.push(format!("{labels:?}: nobody has this instance"));
            continue;
        };
        let own: BTreeSet<i64> = samples.iter().map(|sample| sample.at).collect();
        if let Some(strange) = own.iter().find(|at| !times.contains(at) && !failures.contains(at)) {
            faults.push(format!("{labels:?}: there was no collection at {strange}"));
        }
        whole += usize::from(own.is_superset(times));
        verdict.others += own.len();
    }
    // Most series are in every collection; a few come and go.
    if whole * 10 < found.others.len() * 9 {
        faults
            .push(format!("only {whole} of {} series have a sample of each collection", found.others.len()));
    }
    verdict.unaccepted = at_cut.iter().sum();
    verdict.unaccepted_at_once = at_cut.iter().copied().max().unwrap_or(0);
    let shown: Vec<&String> = faults.iter().take(20).collect();
    assert!(faults.is_empty(), "{} faults: {shown:#?}\n{verdict:?}", faults.len());
    assert!(verdict.arrived > 0, "nothing arrived: {verdict:?}");
    verdict
}

/// The cuts around a moment, for messages.
fn near(cuts: &[Cut], at: i64) -> String {
    let near: Vec<String> = cuts
        .iter()
        .filter(|cut| (cut.before - at).abs() < 3_000)
        .map(|cut| format!("{} to {} ms later", cut.before - at, cut.after - at))
        .collect();
    near.join(", ")
}

/// What a page says of the samples of the output.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// Found at the start.
    pub recovered: u64,
    /// Taken since.
    pub accepted: u64,
    /// What the receiver took.
    pub delivered: u64,
    /// What left otherwise, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// What waits.
    pub pending: u64,
    /// `redvigil_output_disk_ok`.
    pub disk_ok: bool,
    /// `redvigil_output_state`.
    pub state: u64,
    /// `redvigil_output_highest_accepted_timestamp_seconds`.
    pub highest_accepted: f64,
    /// `redvigil_output_queue_bytes`.
    pub bytes: BTreeMap<String, u64>,
}

impl Count {
    /// Reads it from a page; panics where the equation does not hold.
    pub fn read(page: &str) -> Self {
        let mut count = Self::default();
        let mut seen = 0;
        for line in page.lines() {
            let Some(rest) = line.strip_prefix("redvigil_output_") else { continue };
            let (series, value) = rest.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let label = |name: &str| {
                let from = labels.find(&format!("{name}=\"")).map(|at| at + name.len() + 2);
                let value = from.map(|from| &labels[from..]).unwrap_or_default();
                value.split('"').next().unwrap_or_default().to_owned()
            };
            let number: f64 = value.parse().unwrap_or(f64::NAN);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "counters of samples"
            )]
            let whole = number as u64;
            seen += 1;
            match name {
                "samples_recovered" => count.recovered = whole,
                "samples_accepted_total" => count.accepted = whole,
                "samples_delivered_total" => count.delivered = whole,
                "samples_dropped_total" if whole > 0 => drop(count.dropped.insert(label("reason"), whole)),
                "samples_pending" => count.pending = whole,
                "disk_ok" => count.disk_ok = whole == 1,
                "state" => count.state = whole,
                "highest_accepted_timestamp_seconds" => count.highest_accepted = number,
                "queue_bytes" => drop(count.bytes.insert(label("where"), whole)),
                _ => {}
            }
        }
        assert!(seen > 10, "the page says nothing of outputs:\n{page}");
        assert_eq!(
            count.recovered + count.accepted,
            count.delivered + count.dropped_in_all() + count.pending,
            "the equation: {count:?}"
        );
        count
    }

    /// All that was dropped.
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.values().sum()
    }
}
