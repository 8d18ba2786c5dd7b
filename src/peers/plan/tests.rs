//! What is done in single situations.

use super::*;
use crate::peers::claims::Claim;
use crate::peers::members::written;
use crate::peers::share::Peer;

const SETTINGS: Settings = Settings {
    settle: Duration::from_secs(5),
    min_peers: 1,
    interval: Duration::from_secs(15),
    patience: Duration::from_secs(20),
};

/// A place to try one plan in, as `a:1` with the lease 1.
struct Place {
    start: Instant,
    now: Instant,
    members: Members,
    claims: Claims,
    seen: Seen,
    hold: bool,
    frozen: bool,
    keeps: bool,
    settings: Settings,
    revision: i64,
    plan: Plan,
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Place {
    fn new(ids: &[&str], before: Shards) -> Self {
        let start = Instant::now();
        let mut place = Self {
            start,
            now: start,
            members: Members::none(start),
            claims: Claims::default(),
            seen: Seen { number: u64::MAX, ..Seen::default() },
            hold: false,
            frozen: false,
            keeps: false,
            settings: SETTINGS,
            revision: 1,
            plan: Plan::new(start, before),
        };
        ids.iter().for_each(|id| place.join(id));
        place
    }

    fn join(&mut self, id: &str) {
        self.revision += 1;
        let peer = Peer {
            id: id.into(),
            url: crate::config::deliver::Url::parse(&format!("http://{id}")).unwrap(),
            zone: None,
            weight: 100,
            version: "1".into(),
            config_hash: "x".into(),
            started: 1,
        };
        self.members.put(id, written(&peer).as_bytes(), self.revision, self.now);
    }

    fn go(&mut self, id: &str) {
        self.revision += 1;
        self.members.delete(id, self.revision, self.now);
    }

    fn have(&mut self, shards: impl Iterator<Item = u8>, owner: &str, lease: i64) {
        for shard in shards {
            self.revision += 1;
            self.claims.put(shard, Claim { owner: owner.into(), mod_revision: self.revision, lease });
        }
    }

    fn free(&mut self, shards: Shards) {
        for shard in shards.iter() {
            self.revision += 1;
            self.claims.delete(shard, self.revision);
        }
    }

    fn at(&mut self, after: u64) -> Step {
        self.now = self.start + seconds(after);
        self.step()
    }

    fn step(&mut self) -> Step {
        let view = View {
            now: self.now,
            members: &self.members,
            claims: &self.claims,
            id: "a:1",
            lease: 1,
            seen: self.seen.clone(),
            hold: self.hold,
            frozen: self.frozen,
            keeps: self.keeps,
            settings: self.settings,
        };
        let step = self.plan.step(&view);
        self.plan.told(7);
        step
    }

    /// What one of them should have.
    fn of(&self, id: &str) -> Shards {
        let place = self.members.place(id);
        (0..=u8::MAX).filter(|shard| self.members.preferred()[usize::from(*shard)] == place).collect()
    }
}

#[test]
fn the_first_one_waits_for_others_and_takes_all() {
    let mut place = Place::new(&["a:1"], Shards::NONE);
    assert_eq!((place.at(0).claim, place.at(4).claim), (Shards::NONE, Shards::NONE));
    assert_eq!(place.at(5).claim, Shards::ALL);
}

#[test]
fn one_that_comes_to_others_takes_what_is_free_at_once() {
    let mut place = Place::new(&["a:1", "b:1"], Shards::NONE);
    place.have([3].into_iter(), "b:1", 2);
    let own = place.of("a:1");
    let expected: Shards = own.iter().filter(|shard| *shard != 3).collect();
    assert_eq!(place.step().claim, expected);
    // A claim of somebody who does not live says nothing of others.
    let mut place = Place::new(&["a:1", "b:1"], Shards::NONE);
    place.have([3].into_iter(), "c:1", 2);
    assert_eq!(place.step().claim, Shards::NONE);
}

#[test]
fn an_old_claim_of_our_own_name_is_not_ours() {
    let mut place = Place::new(&["a:1"], Shards::NONE);
    place.have(0..=u8::MAX, "a:1", 99);
    assert_eq!(place.at(60), Step::default());
    place.free(Shards::ALL);
    assert_eq!(place.at(61).claim, Shards::ALL);
}

#[test]
fn what_was_ours_before_is_taken_again_at_once_whoever_should_have_it() {
    let before: Shards = (0..100).collect();
    let mut place = Place::new(&["a:1", "b:1"], before);
    assert_eq!(place.step().claim, before);
    // Not for ever: by then somebody else may have had it and given it back.
    assert_eq!(place.at(5).claim, place.of("a:1"));
}

#[test]
fn nothing_new_is_taken_below_min_peers_or_frozen() {
    let mut place = Place::new(&["a:1"], Shards::NONE);
    place.settings.min_peers = 2;
    assert_eq!(place.at(60), Step::default());
    place.join("b:1");
    assert_eq!(place.at(60).claim, place.of("a:1"));
    place.frozen = true;
    assert_eq!(place.at(61), Step::default());
    // We are not there ourselves: nobody would know whose it is.
    let mut place = Place::new(&["b:1"], Shards::NONE);
    assert_eq!(place.at(60), Step::default());
}

/// All is ours, and then another one comes.
fn joined() -> Place {
    let mut place = Place::new(&["a:1"], Shards::NONE);
    place.have(0..=u8::MAX, "a:1", 1);
    place.at(100);
    place.join("b:1");
    place
}

#[test]
fn work_moves_when_the_peers_have_settled_and_26_shards_an_interval() {
    let mut place = joined();
    let theirs = place.of("b:1");
    assert!(theirs.len() > 2 * MOST_MOVES, "{}", theirs.len());
    assert_eq!(place.at(104), Step::default());
    let first = place.at(105);
    assert_eq!((first.leaving.len(), first.release), (26, Shards::NONE), "the collector has not heard of it");
    assert!(first.leaving.iter().all(|shard| theirs.has(shard)));
    let released = place.at(106).release;
    assert_eq!(released, first.leaving);
    place.free(released);
    assert_eq!(place.at(119), Step::default());
    assert_eq!(place.at(120).leaving.len(), 26);
}

#[test]
fn what_leaves_is_released_when_nothing_of_it_is_under_way() {
    let mut place = joined();
    let leaving = place.at(105).leaving;
    let busy = leaving.iter().next().unwrap();
    place.seen = Seen { number: 6, ..Seen::default() };
    assert_eq!(place.at(106).release, Shards::NONE, "it goes by an older standing");
    place.seen = Seen { number: 7, busy: [busy].into_iter().collect(), ..Seen::default() };
    let released = place.at(107).release;
    assert_eq!((released.len(), released.has(busy)), (25, false));
    place.seen.busy = Shards::NONE;
    assert_eq!(place.at(108).release, leaving);
}

#[test]
fn what_may_be_released_any_moment_is_not_taken_back() {
    let mut place = joined();
    let leaving = place.at(105).leaving;
    place.seen.number = 0;
    assert_eq!(place.at(106).leaving, leaving);
    place.go("b:1");
    assert_eq!(place.at(107), Step::default(), "nobody was told to release it: it stays");
    let mut place = joined();
    let leaving = place.at(105).leaving;
    assert_eq!(place.at(106).release, leaving);
    place.go("b:1");
    assert_eq!(place.at(107), Step { leaving, release: leaving, ..Step::default() });
    // Frozen neither: the transaction may be on its way.
    place.frozen = true;
    assert_eq!(place.at(108).leaving, leaving);
    place.frozen = false;
    place.free(leaving);
    assert_eq!(place.at(109).claim, leaving, "and then it is free, and ours to claim");
}

#[test]
fn nothing_moves_while_anything_is_wrong() {
    for wrong in [
        (|place| place.hold = true) as fn(&mut Place),
        |place| place.frozen = true,
        |place| place.settings.min_peers = 3,
        |place| place.settings.settle = seconds(1_000),
    ] {
        let mut place = joined();
        wrong(&mut place);
        assert_eq!(place.at(200), Step::default());
        // It begins to be wrong after something was said to leave: that stays.
        let mut place = joined();
        place.seen.number = 0;
        assert_eq!(place.at(105).leaving.len(), 26);
        wrong(&mut place);
        let stays = if place.frozen { 26 } else { 0 };
        assert_eq!(place.at(106).leaving.len(), stays);
        // Who goes on without etcd collects what nobody was asked to release.
        place.keeps = true;
        assert_eq!(place.at(107).leaving.len(), 0);
    }
}

#[test]
fn all_together_move_26_an_interval() {
    // A third comes to two who have all.
    let mut place = Place::new(&["a:1", "b:1", "c:1"], Shards::NONE);
    let (a, b) = (place.of("a:1"), place.of("b:1"));
    let half: Shards =
        (0..=u8::MAX).filter(|shard| a.has(*shard) || (!b.has(*shard) && shard % 2 == 0)).collect();
    place.have(half.iter(), "a:1", 1);
    place.have((0..=u8::MAX).filter(|shard| !half.has(*shard)), "b:1", 2);
    let mine = place.at(5).leaving.len();
    assert!((8..=18).contains(&mine), "{mine}: about a half of 26");
}

#[test]
fn a_shard_that_nobody_takes_is_taken_by_the_next_in_line_and_stays() {
    let mut place = Place::new(&["a:1", "b:1"], Shards::NONE);
    place.have(place.of("a:1").iter(), "a:1", 1);
    let theirs = place.of("b:1");
    assert_eq!(place.at(6), Step::default());
    assert_eq!(place.at(25), Step::default());
    assert_eq!(place.at(26).claim, theirs);
    place.have(theirs.iter(), "a:1", 1);
    assert_eq!(place.at(27), Step::default());
    assert_eq!(place.at(300), Step::default(), "it is not offered again and again");
    // It has started again: a change.
    place.go("b:1");
    place.join("b:1");
    assert_eq!(place.at(310).leaving.len(), 26);
}

#[test]
fn a_shard_that_nobody_takes_is_offered_again_after_a_while() {
    let mut place = Place::new(&["a:1", "b:1"], Shards::NONE);
    place.have(place.of("a:1").iter(), "a:1", 1);
    place.at(6);
    let taken = place.at(26).claim;
    place.have(taken.iter(), "a:1", 1);
    assert_eq!(place.at(625), Step::default());
    assert_eq!(place.at(626).leaving.len(), 26);
}
