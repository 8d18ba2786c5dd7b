//! Collections of servers that several exporters share: how long nobody looked, and when two looked at once.
//!
//! Whoever collects a server has the same moment of every interval for it. So one collection follows another an interval later,
//! whoever it is by, and two in the time from one moment to the next are two for one.
//!
//! What a newcomer would get wrong: on a busy machine a collection is late, now and then by most of an interval, and the next is
//! not. These two are close to each other and no double.

use std::collections::BTreeMap;
use std::time::Duration;

/// A collection of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// By which exporter.
    pub by: String,
}

/// A time, in milliseconds since 1970, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From when.
    pub from: i64,
    /// Until when.
    pub until: i64,
}

impl Span {
    /// How much of it lies within another.
    fn within(&self, other: &Span) -> i64 {
        (self.until.min(other.until) - self.from.max(other.from)).max(0)
    }

    fn touches(&self, other: &Span) -> bool {
        self.from <= other.until && other.from <= self.until
    }

    fn has(&self, at: i64) -> bool {
        (self.from..=self.until).contains(&at)
    }
}

/// What was promised, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// From one collection to the next.
    pub interval: i64,
    /// For how long a silent exporter counts as alive.
    pub ttl: i64,
    /// How late things may be on a busy machine, etcd's own half second included.
    pub slack: i64,
    /// Whether exporters go on while etcd is silent.
    pub freeze: bool,
}

/// What was done to them.
#[derive(Clone, Debug, Default)]
pub struct Troubles {
    /// An exporter died without a word, stood still or was cut off: from then on, until it was back.
    pub losses: Vec<Span>,
    /// etcd was away, or stood still.
    pub outages: Vec<Span>,
}

impl Promise {
    /// The longest gap that is allowed between two collections at these times.
    ///
    /// Without trouble it is the interval. Each exporter that is lost costs a TTL, and so does etcd when it is away: leases
    /// that ended meanwhile are taken anew. While it is away nobody can take over, which costs as long as that lasts; where
    /// exporters go on all the same it does so only beside a loss.
    pub fn allows(&self, gap: Span, troubles: &Troubles) -> i64 {
        // What happened counts for as long as others need to notice.
        let late = |from: i64, until: i64| Span { from, until: until + self.ttl + self.slack }.touches(&gap);
        let losses = troubles.losses.iter().filter(|loss| late(loss.from, loss.from)).count();
        let losses = i64::try_from(losses).expect("few");
        let mut allowed = self.interval + self.slack + losses * self.ttl;
        for outage in troubles.outages.iter().filter(|outage| late(outage.from, outage.until)) {
            allowed += self.ttl;
            if losses > 0 || !self.freeze {
                allowed += gap.within(outage);
            }
        }
        allowed
    }
}

/// A time in which nobody looked, too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The server.
    pub server: String,
    /// From the last collection before it to the first after it.
    pub span: Span,
    /// How long it may have been.
    pub allowed: i64,
}

/// Two exporters that looked at the same moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Double {
    /// The server.
    pub server: String,
    /// The one and the other.
    pub both: [Collection; 2],
}

/// What came to light.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many collections there were.
    pub collections: usize,
    /// The longest gap of all, allowed or not.
    pub longest: i64,
    /// Gaps that are too long.
    pub gaps: Vec<Gap>,
    /// Doubles of which one side said then that it does not know better.
    pub excused: Vec<Double>,
    /// All other doubles.
    pub doubles: Vec<Double>,
}

/// Everything that was collected, by server.
pub type Collected = BTreeMap<String, Vec<Collection>>;

/// Judges all collections in a time. `flagged` are the times in which each exporter said that it goes on without etcd.
///
/// A server that is listed but never collected is a gap as long as the time.
pub fn judge(
    collected: &Collected,
    time: Span,
    promise: &Promise,
    troubles: &Troubles,
    flagged: &BTreeMap<String, Vec<Span>>,
) -> Verdict {
    let mut verdict = Verdict::default();
    for (server, collections) in collected {
        let mut collections: Vec<&Collection> = collections.iter().filter(|one| time.has(one.at)).collect();
        collections.sort_by_key(|one| one.at);
        verdict.collections += collections.len();
        let ends = [time.from].into_iter().chain(collections.iter().map(|one| one.at)).chain([time.until]);
        let ends: Vec<i64> = ends.collect();
        for two in ends.windows(2) {
            let span = Span { from: two[0], until: two[1] };
            let (long, allowed) = (span.until - span.from, promise.allows(span, troubles));
            verdict.longest = verdict.longest.max(long);
            if long > allowed {
                verdict.gaps.push(Gap { server: server.clone(), span, allowed });
            }
        }
        let moment = moment(&collections, promise.interval);
        let number = |one: &Collection| (one.at - moment).div_euclid(promise.interval);
        for two in collections.windows(2) {
            // Who is on time where most were late seems to be early.
            let second = Collection { at: two[1].at + LATE, by: String::new() };
            if two[0].by == two[1].by || number(two[0]) != number(&second) {
                continue;
            }
            // It is there from the second on: what the first one says by then counts.
            let is_flagged = |one: &Collection| {
                let mut spans = flagged.get(&one.by).into_iter().flatten();
                spans.any(|span| two.iter().any(|at| span.has(at.at)))
            };
            let double = Double { server: server.clone(), both: [two[0].clone(), two[1].clone()] };
            match two.iter().any(|one| is_flagged(one)) {
                true => verdict.excused.push(double),
                false => verdict.doubles.push(double),
            }
        }
    }
    verdict
}

/// How exactly the moment of a server is known, in milliseconds.
const EXACT: i64 = 20;

/// By how much most collections may be late on a busy machine, in milliseconds; one double in ten goes unseen for that.
const LATE: i64 = 100;

/// The moment of the interval at which a server is collected: when most collections are, a little earlier.
fn moment(collections: &[&Collection], interval: i64) -> i64 {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for one in collections {
        *counts.entry(one.at.rem_euclid(interval) / EXACT).or_default() += 1;
    }
    // Most are on time, and those that are not are late by different times.
    let most = counts.into_iter().max_by_key(|(at, count)| (*count, -at));
    most.map_or(0, |(at, _)| (at - 1) * EXACT)
}

/// Makes spans of what was seen now and then: `(when, whether)`. One reaches from the last time that it was not so to the next
/// time that it is not so again, for it began and ended somewhere in between; `margin` more where nobody could be asked.
pub fn spans(seen: &[(i64, bool)], margin: Duration) -> Vec<Span> {
    let margin = i64::try_from(margin.as_millis()).expect("fits");
    let mut spans: Vec<Span> = Vec::new();
    let mut open: Option<Span> = None;
    let mut last = None;
    for &(at, is) in seen {
        match (&mut open, is) {
            (None, true) => open = Some(Span { from: last.unwrap_or(at).max(at - margin), until: at }),
            (Some(span), true) => span.until = at,
            (Some(span), false) => {
                spans.push(Span { from: span.from, until: at.min(span.until + margin) });
                open = None;
            }
            (None, false) => {}
        }
        last = Some(at);
    }
    spans.extend(open.map(|span| Span { from: span.from, until: span.until + margin }));
    spans
}

/// How many servers each exporter looked at in a time, and which servers were looked at by several or by nobody.
pub fn split(collected: &Collected, time: Span) -> (BTreeMap<&str, usize>, Vec<String>) {
    let (mut shares, mut wrong) = (BTreeMap::new(), Vec::new());
    for (server, collections) in collected {
        let by = collections.iter().filter(|one| time.has(one.at)).map(|one| one.by.as_str());
        let by: std::collections::BTreeSet<&str> = by.collect();
        match by.len() {
            1 => *shares.entry(by.into_iter().next().expect("one")).or_default() += 1,
            _ => wrong.push(format!("{server} by {by:?}")),
        }
    }
    (shares, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: Promise = Promise { interval: 1000, ttl: 3000, slack: 500, freeze: false };
    const FREEZE: Promise = Promise { freeze: true, ..STOP };
    const TIME: Span = Span { from: 0, until: 60_000 };

    fn span(from: i64, until: i64) -> Span {
        Span { from, until }
    }

    fn every_second(by: &str, from: i64, until: i64) -> Vec<Collection> {
        (from..until).map(|second| Collection { at: second * 1000 + 300, by: by.to_owned() }).collect()
    }

    /// Who collected from when to when, in seconds, and what comes to light.
    fn verdict(story: &[(&str, i64, i64)], promise: &Promise, troubles: &Troubles) -> Verdict {
        let all = story.iter().flat_map(|(by, from, until)| every_second(by, *from, *until));
        let collected = [("s".to_owned(), all.collect())].into();
        let flagged = [("a".to_owned(), vec![span(20_000, 30_000)])].into();
        judge(&collected, TIME, promise, troubles, &flagged)
    }

    /// How many gaps, doubles that are excused, and others.
    fn check(
        story: &[(&str, i64, i64)],
        promise: &Promise,
        troubles: &Troubles,
        expected: (usize, usize, usize),
    ) {
        let verdict = verdict(story, promise, troubles);
        let found = (verdict.gaps.len(), verdict.excused.len(), verdict.doubles.len());
        assert_eq!(found, expected, "{story:?}: {verdict:?}");
    }

    fn loss(at: i64) -> Troubles {
        Troubles { losses: vec![span(at, at + 10_000)], outages: vec![] }
    }

    fn outage(from: i64, until: i64) -> Troubles {
        Troubles { losses: vec![], outages: vec![span(from, until)] }
    }

    #[test]
    fn a_hand_over_without_a_gap_is_fine() {
        check(&[("a", 0, 60)], &STOP, &Troubles::default(), (0, 0, 0));
        check(&[("a", 0, 30), ("b", 30, 60)], &STOP, &Troubles::default(), (0, 0, 0));
    }

    #[test]
    fn a_missing_collection_is_a_gap_unless_an_exporter_was_lost() {
        let story = [("a", 0, 30), ("b", 31, 60)];
        check(&story, &STOP, &Troubles::default(), (1, 0, 0));
        check(&story, &STOP, &loss(30_000), (0, 0, 0));
        // Long before, and long after.
        check(&story, &STOP, &loss(24_000), (1, 0, 0));
        check(&story, &STOP, &loss(40_000), (1, 0, 0));
    }

    #[test]
    fn a_loss_costs_a_ttl_and_no_more() {
        check(&[("a", 0, 30), ("b", 33, 60)], &STOP, &loss(29_500), (0, 0, 0));
        check(&[("a", 0, 30), ("b", 35, 60)], &STOP, &loss(29_500), (1, 0, 0));
        let twice = Troubles { losses: vec![span(29_500, 30_000), span(31_000, 40_000)], outages: vec![] };
        check(&[("a", 0, 30), ("b", 35, 60)], &STOP, &twice, (0, 0, 0));
        check(&[("a", 0, 30), ("b", 37, 60)], &STOP, &twice, (1, 0, 0));
    }

    #[test]
    fn an_outage_of_etcd_costs_a_ttl_where_exporters_go_on() {
        let story = [("a", 0, 30), ("a", 40, 60)];
        check(&story, &STOP, &outage(28_000, 37_000), (0, 0, 0));
        check(&story, &STOP, &outage(28_000, 33_000), (1, 0, 0));
        check(&story, &FREEZE, &outage(28_000, 37_000), (1, 0, 0));
        let both = Troubles { losses: vec![span(29_500, 50_000)], outages: vec![span(28_000, 34_000)] };
        check(&story, &FREEZE, &both, (0, 0, 0));
    }

    #[test]
    fn nobody_at_all_is_a_gap_as_long_as_the_time() {
        let verdict = verdict(&[], &STOP, &Troubles::default());
        assert_eq!((verdict.longest, verdict.gaps.len(), verdict.collections), (60_000, 1, 0));
        check(&[("a", 0, 55)], &STOP, &Troubles::default(), (1, 0, 0));
        check(&[("a", 5, 60)], &STOP, &Troubles::default(), (1, 0, 0));
    }

    #[test]
    fn two_at_the_same_moment_are_a_double_unless_one_said_so() {
        check(&[("a", 0, 60), ("b", 40, 41)], &STOP, &Troubles::default(), (0, 0, 1));
        check(&[("a", 0, 60), ("b", 25, 26)], &STOP, &Troubles::default(), (0, 1, 0));
        // It is the other one that said so.
        check(&[("c", 0, 60), ("b", 25, 26)], &STOP, &Troubles::default(), (0, 0, 1));
        check(&[("a", 0, 60), ("b", 29, 32)], &STOP, &Troubles::default(), (0, 1, 2));
    }

    #[test]
    fn who_says_so_before_the_second_comes_is_excused() {
        let check = |second: i64, expected: (usize, usize)| {
            let mut all = every_second("a", 0, 20);
            all.push(Collection { at: second, by: "b".to_owned() });
            let collected = [("s".to_owned(), all)].into();
            let flagged = [("a".to_owned(), vec![span(20_000, 30_000)])].into();
            let verdict = judge(&collected, TIME, &FREEZE, &Troubles::default(), &flagged);
            assert_eq!((verdict.excused.len(), verdict.doubles.len()), expected, "{second}");
        };
        check(20_100, (1, 0));
        check(19_900, (0, 1));
        check(20_400, (0, 0));
    }

    #[test]
    fn a_late_collection_and_the_next_are_no_double_and_two_far_apart_between_two_moments_are() {
        let check = |story: &[(&str, i64)], expected: usize| {
            let mut all = every_second("a", 0, 60);
            all.retain(|one| one.at < 30_000);
            let more = story.iter().map(|(by, at)| Collection { at: *at, by: (*by).to_owned() });
            all.extend(more);
            let collected = [("s".to_owned(), all)].into();
            let verdict = judge(&collected, TIME, &STOP, &Troubles::default(), &BTreeMap::new());
            assert_eq!(verdict.doubles.len(), expected, "{story:?}");
        };
        check(&[("a", 30_310), ("b", 31_300)], 0);
        check(&[("a", 31_100), ("b", 31_302)], 0);
        check(&[("a", 31_100), ("b", 31_270)], 0);
        check(&[("a", 30_900), ("b", 31_170)], 1);
        check(&[("a", 30_300), ("b", 31_150)], 1);
        check(&[("a", 30_300), ("a", 31_150)], 0);
    }

    #[test]
    fn spans_reach_as_far_as_nobody_knows_better() {
        let check = |seen: &[(i64, bool)], expected: &[(i64, i64)]| {
            let found: Vec<_> =
                spans(seen, Duration::from_millis(50)).iter().map(|s| (s.from, s.until)).collect();
            assert_eq!(found, expected, "{seen:?}");
        };
        check(&[], &[]);
        check(&[(0, false), (10, false)], &[]);
        check(&[(0, false), (10, true), (20, true), (30, false)], &[(0, 30)]);
        check(&[(0, true), (10, false), (20, true)], &[(0, 10), (10, 70)]);
        check(&[(0, false), (100, true), (300, false)], &[(50, 150)]);
    }

    #[test]
    fn who_looks_at_what_is_told() {
        let mut collected: Collected = [("s", "a"), ("t", "b"), ("u", "a")]
            .map(|(server, by)| (server.to_owned(), every_second(by, 0, 10)))
            .into();
        let time = span(0, 9_999);
        assert_eq!(split(&collected, time), ([("a", 2), ("b", 1)].into(), vec![]));
        collected.get_mut("t").expect("it is there").extend(every_second("c", 9, 10));
        collected.insert("v".to_owned(), vec![]);
        assert_eq!(split(&collected, time).1, ["t by {\"b\", \"c\"}", "v by {}"]);
    }
}
