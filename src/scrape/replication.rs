//! How far a replica is behind, from what both ends said of themselves: bytes, seconds, and how long it could
//! be cut off. Pure; time is passed in.
//!
//! - [`Stream`]: where one server's stream of replication was at which time, and how fast it grows
//! - [`shares_history`]: whether the offsets of two servers count the same bytes
//! - [`Lag`]: one replica against the server that it replicates from
//!
//! What a newcomer would get wrong: `lag=` in the master's INFO is the time since the replica last acknowledged.
//! A replica that lacks a gigabyte acknowledges every second.

use crate::collect::Facts;
use crate::collect::facts::{Backlog, Id};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Two readings are of the same time if they were answered within this.
pub const TOGETHER: Duration = Duration::from_secs(1);

/// A stream that grows by less than that, in bytes a second, has no rate: a master that rests sends its replicas
/// a PING now and then, and dividing by that would make hours of nothing.
const SLOWEST: f64 = 1.0;

/// Over how long the rate is smoothed, in seconds.
const SMOOTHED_OVER: f64 = 30.0;

/// How many points are kept. With one in 15 s that is two minutes; older positions are guessed from the rate.
const KEPT: usize = 8;

/// Where a stream was at some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When the server said so.
    pub taken: Instant,
    /// Its offset.
    pub offset: u64,
}

/// One server's stream of replication, as its `master_repl_offset` tells.
#[derive(Debug, Default)]
pub struct Stream {
    /// Oldest first; offsets never fall.
    points: VecDeque<Point>,
    /// Bytes a second, smoothed.
    rate: Option<f64>,
    run_id: Option<Id>,
    replid: Option<Id>,
}

impl Stream {
    /// Takes what the server says now. A new process, an offset that went back and another history begin a
    /// new stream; a promoted replica goes on with the one that it followed.
    pub fn read(&mut self, facts: &Facts, taken: Instant) {
        let Some(offset) = facts.offset else {
            *self = Self::default();
            return;
        };
        let last = self.points.back().copied();
        // Who reads twice in a moment learns nothing of the rate, and what is older is known better.
        let (is_old, is_soon) = last.map_or((false, false), |last| {
            (taken <= last.taken, taken < last.taken + TOGETHER && self.goes_on(facts, offset))
        });
        if is_old || is_soon {
            return;
        }
        if !self.goes_on(facts, offset) {
            self.points.clear();
            self.rate = None;
        } else if let Some(last) = last {
            let seconds = taken.duration_since(last.taken).as_secs_f64();
            let rate = (offset - last.offset) as f64 / seconds;
            let weight = 1.0 - (-seconds / SMOOTHED_OVER).exp();
            self.rate = Some(self.rate.map_or(rate, |old| old + weight * (rate - old)));
        }
        (self.run_id, self.replid) = (facts.run_id, facts.replid);
        self.push(Point { taken, offset });
    }

    /// Whether this is the same stream, further on.
    fn goes_on(&self, facts: &Facts, offset: u64) -> bool {
        let was_promoted = self.replid.is_some() && self.replid == facts.replid2;
        self.points.back().is_none_or(|last| last.offset <= offset)
            && self.run_id == facts.run_id
            && (self.replid == facts.replid || was_promoted)
    }

    /// While nothing is written only the first and the last point say anything.
    fn push(&mut self, point: Point) {
        let rests = self.points.iter().rev().take(2).filter(|p| p.offset == point.offset).count() == 2;
        if rests || self.points.len() == KEPT {
            match rests {
                true => self.points.pop_back(),
                false => self.points.pop_front(),
            };
        }
        self.points.push_back(point);
    }

    /// How fast it grows, in bytes a second; `None` while that is not known, and where it rests.
    pub fn rate(&self) -> Option<f64> {
        self.rate.filter(|rate| *rate >= SLOWEST)
    }

    /// How long before `head` the stream was at `offset`, in seconds: between the points that are known as if
    /// it had grown evenly, before them by its rate.
    fn age(&self, offset: u64, head: Point) -> Option<f64> {
        if offset >= head.offset {
            return Some(0.0);
        }
        let since = |point: Point| head.taken.duration_since(point.taken).as_secs_f64();
        let mut later = head;
        for earlier in self.points.iter().rev().copied() {
            // The head itself may be among the points.
            if earlier.taken >= later.taken || earlier.offset > later.offset {
                continue;
            }
            if earlier.offset <= offset {
                let missing = (later.offset - offset) as f64 / (later.offset - earlier.offset) as f64;
                return Some(since(later) + missing * (since(earlier) - since(later)));
            }
            later = earlier;
        }
        Some(since(later) + (later.offset - offset) as f64 / self.rate()?)
    }
}

/// Whether the data of a replica is of its master's history, so that its offset is one of the master's stream.
/// `None` where the servers have no replication ids: before 4.0.
pub fn shares_history(replica: &Facts, master: &Facts) -> Option<bool> {
    let (own, masters) = (replica.replid?, master.replid?);
    // What a promoted replica shared with its siblings ends where it was promoted; the server asks for the
    // byte after the last that it has.
    let is_older = || {
        let end = master.second_offset.filter(|_| master.replid2 == Some(own));
        end.zip(replica.replica_offset).is_some_and(|(end, offset)| offset < end)
    };
    Some(own == masters || is_older())
}

/// Up to where a replica has applied its master's stream. A server without a link that never had one, or that is
/// receiving everything anew, says 1 or less and means that it does not know.
pub fn position(replica: &Facts) -> Option<u64> {
    replica.replica_offset.filter(|offset| *offset > 1 || replica.link_up != Some(false))
}

/// How far one replica is behind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    /// What the master has written and the replica has not applied; 0 where it was read a little later.
    pub bytes: u64,
    /// How old the replica's data is, in seconds; estimated, `None` while the master's rate is not known.
    pub seconds: Option<f64>,
    /// How long it could be without a link before it needs everything anew, in seconds.
    pub headroom: Option<f64>,
    /// When both ends were read.
    pub taken: Instant,
}

impl Lag {
    /// Compares both ends, which must have been read together and share their history.
    pub fn between(replica: &Facts, master: &Facts, taken: Instant, stream: &Stream) -> Option<Self> {
        let (offset, head) = (position(replica)?, Point { taken, offset: master.offset? });
        let bytes = head.offset.saturating_sub(offset);
        let headroom = headroom(&master.backlog, bytes, stream.rate());
        Some(Self { bytes, seconds: stream.age(offset, head), headroom, taken })
    }
}

fn headroom(backlog: &Backlog, lag: u64, rate: Option<f64>) -> Option<f64> {
    if backlog.active == Some(false) || backlog.length.is_some_and(|length| lag > length) {
        return Some(0.0);
    }
    Some(backlog.size?.saturating_sub(lag) as f64 / rate?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(letter: char) -> Option<Id> {
        Id::parse(&letter.to_string().repeat(40))
    }

    fn at(offset: u64) -> Facts {
        Facts { run_id: id('a'), replid: id('b'), offset: Some(offset), ..Facts::default() }
    }

    /// A stream that was read at these seconds.
    fn stream(begin: Instant, readings: &[(u64, Facts)]) -> Stream {
        let mut stream = Stream::default();
        readings.iter().for_each(|(second, facts)| stream.read(facts, begin + Duration::from_secs(*second)));
        stream
    }

    #[test]
    fn the_rate_follows_what_is_written() {
        let check = |readings: &[(u64, Facts)], expected: Option<f64>| {
            assert_eq!(stream(Instant::now(), readings).rate(), expected, "{readings:?}");
        };
        check(&[], None);
        check(&[(0, at(5))], None);
        check(&[(0, at(0)), (10, at(1000))], Some(100.0));
        check(&[(0, at(0)), (10, at(1000)), (20, at(2000))], Some(100.0));
        // It rests, or all but rests.
        check(&[(0, at(7)), (10, at(7))], None);
        check(&[(0, at(7)), (100, at(21))], None);
        // It went back, is another process, another history, or says nothing any more.
        check(&[(0, at(0)), (10, at(1000)), (20, at(10))], None);
        check(&[(0, at(0)), (10, at(1000)), (20, Facts { run_id: id('c'), ..at(2000) })], None);
        check(&[(0, at(0)), (10, at(1000)), (20, Facts { replid: id('c'), ..at(2000) })], None);
        check(&[(0, at(0)), (10, at(1000)), (20, Facts::default())], None);
        // A promoted replica goes on.
        let promoted = Facts { replid: id('c'), replid2: id('b'), ..at(2000) };
        check(&[(0, at(0)), (10, at(1000)), (20, promoted)], Some(100.0));
        // The same reading twice, and an older one.
        check(&[(0, at(0)), (10, at(1000)), (10, at(1000)), (10, at(1001)), (5, at(1))], Some(100.0));
    }

    #[test]
    fn the_rate_is_smoothed() {
        let rate = stream(Instant::now(), &[(0, at(0)), (15, at(1500)), (30, at(1_501_500))]).rate().unwrap();
        // 100 and then 100,000 bytes a second, of which 1 − e^(−15/30) counts.
        assert!((rate - (100.0 + 0.393_469_34 * 99_900.0)).abs() < 1.0, "{rate}");
    }

    #[test]
    fn the_age_of_a_position_is_found_between_the_points() {
        let begin = Instant::now();
        let known = stream(begin, &[(0, at(1000)), (10, at(2000)), (20, at(2000)), (30, at(12_000))]);
        let check = |offset, expected: Option<f64>| {
            let head = Point { taken: begin + Duration::from_secs(30), offset: 12_000 };
            let age = known.age(offset, head);
            assert_eq!(age.map(|age| (age * 1000.0).round() / 1000.0), expected, "{offset}");
        };
        check(12_001, Some(0.0));
        check(12_000, Some(0.0));
        check(11_000, Some(1.0));
        check(2_000, Some(10.0));
        check(1_500, Some(25.0));
        check(1_000, Some(30.0));
        // Before all that is known: by the rate.
        let rate = known.rate().unwrap();
        check(0, Some(((30.0 + 1000.0 / rate) * 1000.0).round() / 1000.0));
    }

    #[test]
    fn without_a_rate_only_what_lacks_nothing_has_an_age() {
        let begin = Instant::now();
        let known = stream(begin, &[(0, at(1000))]);
        let head = Point { taken: begin, offset: 1000 };
        assert_eq!((known.age(1000, head), known.age(999, head)), (Some(0.0), None));
        // A master that rests since the replica was cut off: by all that is known it may be any time.
        let rests = stream(begin, &[(0, at(1000)), (15, at(1000)), (30, at(1000))]);
        let head = Point { taken: begin + Duration::from_secs(30), offset: 1000 };
        assert_eq!(rests.age(999, head), None);
    }

    #[test]
    fn while_nothing_is_written_older_points_stay() {
        let begin = Instant::now();
        let mut readings = vec![(0, at(500)), (10, at(1000))];
        readings.extend((2..100).map(|number| (number * 10, at(1000))));
        let known = stream(begin, &readings);
        let head = Point { taken: begin + Duration::from_secs(990), offset: 1000 };
        assert_eq!(known.age(750, head), Some(985.0));
        assert!(known.points.len() <= KEPT);
    }

    #[test]
    fn a_replica_shares_the_history_of_its_master_or_what_that_had_before() {
        let check = |own: char, offset: u64, expected: Option<bool>| {
            let replica = Facts { replid: id(own), replica_offset: Some(offset), ..Facts::default() };
            let master =
                Facts { replid: id('b'), replid2: id('c'), second_offset: Some(101), ..Facts::default() };
            assert_eq!(shares_history(&replica, &master), expected, "{own} {offset}");
        };
        check('b', 5, Some(true));
        check('b', 500, Some(true));
        check('c', 100, Some(true));
        check('c', 101, Some(false));
        check('d', 5, Some(false));
        check('0', 5, None);
        let nobody = Facts::default();
        assert_eq!(shares_history(&Facts { replid: id('b'), ..Facts::default() }, &nobody), None);
        // Neither has an older history: that is none they share.
        let one = Facts { replid: id('b'), ..Facts::default() };
        let other = Facts { replid: id('c'), ..Facts::default() };
        assert_eq!(shares_history(&one, &other), Some(false));
    }

    #[test]
    fn headroom_is_what_the_backlog_leaves_over_the_rate() {
        let backlog = Backlog { active: Some(true), size: Some(1000), length: Some(500), first: None };
        let check = |backlog: Backlog, lag, rate, expected| {
            assert_eq!(headroom(&backlog, lag, rate), expected, "{backlog:?} {lag} {rate:?}");
        };
        check(backlog, 0, Some(10.0), Some(100.0));
        check(backlog, 500, Some(10.0), Some(50.0));
        check(backlog, 501, Some(10.0), Some(0.0));
        check(backlog, 501, None, Some(0.0));
        check(backlog, 0, None, None);
        check(Backlog { active: Some(false), ..backlog }, 0, None, Some(0.0));
        check(Backlog { length: None, ..backlog }, 5000, Some(1.0), Some(0.0));
        check(Backlog::default(), 0, Some(1.0), None);
    }

    #[test]
    fn lag_is_never_negative_and_unknown_without_a_position() {
        let check = |offset, link_up, expected| {
            let replica = Facts { replica_offset: offset, link_up, ..Facts::default() };
            let now = Instant::now();
            let lag = Lag::between(&replica, &at(1000), now, &stream(now, &[(0, at(1000))]));
            assert_eq!(lag.map(|lag| lag.bytes), expected, "{offset:?} {link_up:?}");
        };
        check(Some(400), Some(true), Some(600));
        check(Some(400), Some(false), Some(600));
        check(Some(1001), Some(true), Some(0));
        check(Some(0), Some(true), Some(1000));
        check(Some(1), Some(false), None);
        check(None, Some(true), None);
    }
}
