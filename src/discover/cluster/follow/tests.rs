//! A Cluster followed through time: scenarios.

use super::super::view::tests::{all_say, picture};
use super::super::view::{Known, Said};
use super::*;
use crate::discover::service::ClusterView;

const MAX: Duration = Duration::from_secs(60);

const SOUND: &str = "a:1 master - 1 0-99
        b:2 slave a 1
        c:3 master - 2 100-16383
        d:4 slave c 2";
const FAILING: &str = "a:1 master,fail? - 1 0-99
        b:2 slave a 1
        c:3 master - 2 100-16383
        d:4 slave c 2";
const REPLACED: &str = "a:1 master,fail - 1
        b:2 master - 5 0-99
        c:3 master - 2 100-16383
        d:4 slave c 2";

/// A follower and a clock.
struct Scene {
    follower: Follower,
    now: Now,
}

impl Scene {
    /// After the first picture of a sound cluster.
    fn new() -> Self {
        let now = Now { instant: Instant::now(), time: SystemTime::UNIX_EPOCH };
        let mut scene = Self { follower: Follower::new("s".into()), now };
        assert_eq!(
            scene.all(&[1, 2, 3, 4], SOUND),
            ["discovery -/ok: found a cluster of 4 nodes with 2 shards that serve slots"]
        );
        scene
    }

    /// What is told after another second in which these said that.
    fn take(&mut self, said: &[Said]) -> Vec<String> {
        self.after(1, said)
    }

    fn after(&mut self, seconds: u64, said: &[Said]) -> Vec<String> {
        self.now.instant += Duration::from_secs(seconds);
        let picture = picture(said, &self.follower.remembered);
        written(self.follower.take(&picture, said.len(), self.now, MAX))
    }

    /// The same of nodes that agree.
    fn all(&mut self, ports: &[u16], lines: &str) -> Vec<String> {
        self.take(&all_say(ports, lines))
    }

    fn fail(&mut self) -> Vec<Happening> {
        self.now.instant += Duration::from_secs(1);
        self.follower.fail(Kind::Refused, "cannot connect", self.now, MAX)
    }

    fn view(&self) -> &ClusterView {
        match &self.follower.service.view {
            View::Cluster(view) => view,
            other => panic!("{other:?}"),
        }
    }

    fn concerned(&self) -> Vec<&str> {
        self.follower.service.failover.iter().flat_map(|failover| &failover.members).map(|m| &**m).collect()
    }

    fn history(&self) -> (u64, u64) {
        (self.follower.service.history.completed, self.follower.service.history.aborted)
    }
}

fn written(told: Vec<Happening>) -> Vec<String> {
    let word = |word: Option<Arc<str>>| word.map_or("-".to_owned(), |word| word.to_string());
    told.into_iter()
        .map(|it| format!("{} {}/{}: {}", it.kind.as_str(), word(it.from), word(it.to), it.message))
        .map(|line| line.replace("10.0.0.1:", ":"))
        .collect()
}

#[test]
fn a_dead_master_is_a_failover_until_a_replica_has_its_place() {
    let mut scene = Scene::new();
    let before = scene.follower.service.members.clone();
    let told = scene.all(&[2, 3, 4], FAILING);
    assert_eq!(told, ["failover :1/failing: the cluster does not reach :1, the master of 100 slots"]);
    let began = scene.now.instant;
    assert_eq!(scene.concerned(), ["10.0.0.1:1", "10.0.0.1:2"]);
    assert!(scene.follower.is_restless(scene.now.instant, MAX));
    assert_eq!(scene.all(&[2, 3, 4], FAILING), [""; 0]);
    // The others know of it before we have heard it from the new master.
    assert_eq!(scene.all(&[3, 4], REPLACED), [""; 0]);
    assert_eq!(&*scene.view().masters["a"], "10.0.0.1:1");
    assert_eq!(scene.concerned(), ["10.0.0.1:1", "10.0.0.1:2"]);
    let told = scene.all(&[2, 3, 4], REPLACED);
    assert_eq!(told, ["failover :1/:2: :2 is the master of 100 slots in the place of :1"]);
    assert_eq!((scene.concerned().len(), scene.history()), (0, (1, 0)));
    assert_eq!(&*scene.view().masters["a"], "10.0.0.1:2");
    let last = scene.follower.service.history.last.clone().expect("a failover");
    assert_eq!((last.began, last.confirmed), (Some(began), scene.now.instant));
    let same = before.iter().zip(&scene.follower.service.members).all(|(a, b)| Arc::ptr_eq(a, b));
    assert!(same && before.len() == 4, "nobody is another member because of a failover");
    assert!(!scene.follower.is_restless(scene.now.instant, MAX));
    // It comes back as a replica.
    let back = "a:1 slave b 5\nb:2 master - 5 0-99\nc:3 master - 2 100-16383\nd:4 slave c 2";
    assert_eq!(scene.all(&[1, 2, 3, 4], back), [""; 0]);
    // And takes its place again.
    let again = "a:1 master - 6 0-99\nb:2 slave a 6\nc:3 master - 2 100-16383\nd:4 slave c 2";
    let told = scene.all(&[1, 2, 3, 4], again);
    assert_eq!(told, ["failover :2/:1: :1 is the master of 100 slots in the place of :2"]);
    let last = scene.follower.service.history.last.clone().expect("a failover");
    assert_eq!((last.began, scene.history()), (None, (2, 0)));
}

#[test]
fn a_master_that_comes_back_in_time_aborts_the_failover() {
    let mut scene = Scene::new();
    scene.all(&[2, 3, 4], FAILING);
    let told = scene.all(&[1, 2, 3, 4], SOUND);
    assert_eq!(told, ["failover failing/:1: the cluster reaches :1 again, which is still the master"]);
    assert_eq!((scene.concerned().len(), scene.history()), (0, (0, 1)));
}

#[test]
fn a_failover_does_not_last_for_ever_and_nobody_fails_over_without_a_replica() {
    let mut scene = Scene::new();
    scene.all(&[2, 3, 4], FAILING);
    scene.after(59, &all_say(&[2, 3, 4], FAILING));
    assert_eq!(scene.concerned().len(), 2);
    scene.after(1, &all_say(&[2, 3, 4], FAILING));
    assert_eq!(scene.concerned().len(), 0);
    assert!(!scene.follower.is_restless(scene.now.instant, MAX));
    let mut scene = Scene::new();
    let told = scene.all(&[3, 4], &FAILING.replace("slave a", "slave,fail a"));
    assert_eq!(told.len(), 1);
    assert_eq!((scene.concerned().len(), scene.history()), (0, (0, 0)));
    scene.all(&[1, 2, 3, 4], SOUND);
    assert_eq!(scene.history(), (0, 0), "what was no failover was not aborted");
}

#[test]
fn a_master_that_never_confirms_is_believed_in_the_end_and_an_older_claim_never() {
    let mut scene = Scene::new();
    scene.all(&[3, 4], REPLACED);
    assert_eq!(scene.concerned(), ["10.0.0.1:1", "10.0.0.1:2"]);
    let told = scene.after(60, &all_say(&[3, 4], REPLACED));
    assert_eq!(told, ["failover :1/:2: :2 is the master of 100 slots in the place of :1"]);
    // One that was away for long knows nothing of it.
    assert_eq!(scene.all(&[1], SOUND), [""; 0]);
    assert_eq!((&*scene.view().masters["a"], scene.history()), ("10.0.0.1:2", (1, 0)));
}

#[test]
fn nodes_join_and_leave_and_move() {
    let mut scene = Scene::new();
    let more = format!("{SOUND}\ne:5 slave c 2");
    assert_eq!(scene.all(&[1, 2, 3, 4, 5], &more), ["topology -/:5: :5 joined the cluster"]);
    let moved = more.replace("e:5", "e:6");
    assert_eq!(scene.all(&[1, 2, 3, 4, 6], &moved), ["topology :5/:6: :5 is reached at :6 now"]);
    assert_eq!(scene.all(&[1, 2, 3, 4], SOUND), ["topology :6/-: :6 left the cluster"]);
}

#[test]
fn an_epoch_that_never_comes_delays_a_failover_but_does_not_forbid_it() {
    let mut scene = Scene::new();
    let mad = SOUND.replace("a:1 master - 1", "a:1 master - 18446744073709551615");
    scene.all(&[1, 2, 3, 4], &mad);
    // All that is told of it is sane again, and so is the failover that follows.
    scene.all(&[1, 2, 3, 4], SOUND);
    let taken =
        [":2 is the master of 100 slots in the place of :1"].map(|it| format!("failover :1/:2: {it}"));
    assert_eq!(scene.all(&[2, 3, 4], REPLACED), taken);
    let mut scene = Scene::new();
    scene.all(&[1, 2, 3, 4], &mad);
    assert_eq!(scene.all(&[2, 3, 4], REPLACED), [""; 0]);
    assert_eq!(scene.after(60, &all_say(&[2, 3, 4], REPLACED)), taken);
}

#[test]
fn shards_that_are_gone_are_forgotten() {
    let mut scene = Scene::new();
    for round in 0..20 {
        let mut said = all_say(&[1, 2, 3, 4], SOUND);
        for said in &mut said {
            said.shard =
                said.id.as_ref().map(|id| format!("{}{round}", if id.as_str() < "c" { 'x' } else { 'y' }));
        }
        scene.take(&said);
    }
    let mut numbers: Vec<_> = scene.follower.numbers.values().copied().collect();
    numbers.sort_unstable();
    assert!(numbers.len() <= 4 && numbers.iter().all(|number| *number <= 4), "{numbers:?}");
}

#[test]
fn many_nodes_that_join_move_and_leave_are_told_as_a_number() {
    let mut scene = Scene::new();
    let more = |count: u16, from: u16| {
        let line = |number| format!("\nn{number}:{} slave c 2", from + number);
        SOUND.to_owned() + &(0..count).map(line).collect::<String>()
    };
    let sum = |joined, left, elsewhere| {
        format!(
            "topology -/-: nodes that joined the cluster: {joined}, left it: {left}, are reached elsewhere now: {elsewhere}"
        )
    };
    assert_eq!(scene.all(&[1, 2, 3, 4], &more(10, 100)).len(), 10);
    assert_eq!(scene.all(&[1, 2, 3, 4], SOUND).len(), 10);
    assert_eq!(scene.all(&[1, 2, 3, 4], &more(11, 100)), [sum(11, 0, 0)]);
    assert_eq!(scene.all(&[1, 2, 3, 4], &more(11, 200)), [sum(0, 0, 11)]);
    assert_eq!(scene.all(&[1, 2, 3, 4], SOUND), [sum(0, 11, 0)]);
}

#[test]
fn slots_move_and_that_is_over_when_it_has_paused_for_long_enough() {
    let mut scene = Scene::new();
    let open = SOUND.replace("100-16383", "100-16383 [7->-a]");
    let told = scene.all(&[1, 2, 3, 4], &open);
    assert_eq!(told, ["topology -/resharding: slots are being moved between shards"]);
    let moved = SOUND.replace("1 0-99", "7 0-199").replace("100-16383", "200-16383");
    assert_eq!(scene.all(&[1, 2, 3, 4], &moved), [""; 0]);
    assert_eq!(scene.all(&[1, 2, 3, 4], &moved), [""; 0]);
    let told = scene.after(2, &all_say(&[1, 2, 3, 4], &moved));
    assert_eq!(
        told,
        ["topology resharding/-: slots are no longer being moved, 100 have changed their shard"]
    );
    // So fast that nobody saw them on their way.
    let told = scene.all(&[1, 2, 3, 4], &SOUND.replace("- 2 100", "- 8 100"));
    assert_eq!(told, ["topology -/resharding: slots are being moved between shards"]);
    assert!(scene.follower.is_restless(scene.now.instant, MAX));
}

#[test]
fn slots_that_nobody_serves_are_told_once() {
    let mut scene = Scene::new();
    let less = SOUND.replace("100-16383", "101-16383");
    assert_eq!(scene.all(&[1, 2, 3, 4], &less), ["topology -/uncovered: no node serves 1 of the slots"]);
    assert_eq!(scene.all(&[1, 2, 3, 4], &less), [""; 0]);
    assert_eq!(scene.all(&[1, 2, 3, 4], SOUND), ["topology uncovered/-: all slots are served"]);
}

#[test]
fn disagreement_is_told_when_it_lasts() {
    let mut scene = Scene::new();
    let odd = [all_say(&[1, 2, 3], SOUND), all_say(&[4], &SOUND.replace("0-99", "0-98"))].concat();
    assert_eq!(scene.take(&odd), [""; 0]);
    assert_eq!(scene.all(&[1, 2, 3, 4], SOUND), [""; 0]);
    assert_eq!(scene.take(&odd), [""; 0]);
    let told = scene.after(3, &odd);
    assert_eq!(told, ["discovery -/disagreeing: nodes name other owners of slots than most do: 1"]);
    assert_eq!(scene.take(&odd), [""; 0]);
    let told = scene.all(&[1, 2, 3, 4], SOUND);
    assert_eq!(told, ["discovery disagreeing/-: all nodes that were asked name the same owners of slots"]);
}

#[test]
fn what_was_known_stays_when_nobody_answers_or_only_those_who_know_nobody() {
    let mut scene = Scene::new();
    let told = written(scene.fail());
    assert_eq!(told, ["discovery -/failed: no node of the cluster tells of the others: cannot connect"]);
    assert_eq!(scene.fail(), []);
    let service = &scene.follower.service;
    assert_eq!((service.members.len(), service.failure.as_ref().map(|why| why.0)), (4, Some(Kind::Refused)));
    assert_eq!(scene.all(&[2], "b:2 master - 0"), [""; 0]);
    assert_eq!(scene.follower.service.members.len(), 4);
    assert_eq!(scene.follower.service.failure.as_ref().map(|why| why.0), Some(Kind::ClusterDown));
    let told = scene.all(&[1, 2, 3, 4], SOUND);
    assert_eq!(told, ["discovery failed/ok: nodes of the cluster tell of the others again"]);
    assert_eq!(scene.follower.service.failure, None);
}

#[test]
fn what_happens_for_long_does_not_hide_what_comes_later() {
    let mut scene = Scene::new();
    let stuck = SOUND.replace("100-16383", "100-16383 [7->-a]");
    let check = |scene: &mut Scene, seconds, expected, what: &str| {
        scene.after(seconds, &all_say(&[1, 2, 3, 4], &stuck));
        assert_eq!(scene.follower.is_restless(scene.now.instant, MAX), expected, "{what}");
    };
    check(&mut scene, 1, true, "a slot is being moved");
    check(&mut scene, 60, false, "it is stuck");
    scene.follower.remembered.silent.insert("a".into());
    check(&mut scene, 1, true, "a master is silent");
    check(&mut scene, 60, false, "to us alone");
    scene.follower.remembered.silent.insert("b".into());
    check(&mut scene, 1, false, "a replica is not waited for");
}

#[test]
fn a_failover_is_over_in_the_end_though_nobody_answers() {
    let mut scene = Scene::new();
    scene.all(&[2, 3, 4], FAILING);
    scene.fail();
    assert_eq!(scene.concerned().len(), 2);
    scene.now.instant += MAX;
    scene.fail();
    assert_eq!(scene.concerned().len(), 0);
}

#[test]
fn the_state_of_the_cluster_is_told_when_it_changes() {
    let mut scene = Scene::new();
    let mut said = all_say(&[1, 2, 3, 4], SOUND);
    let say = |said: &mut Vec<Said>, is_ok| said[2].info.as_mut().expect("info").is_ok = Some(is_ok);
    say(&mut said, false);
    let told = scene.take(&said);
    assert_eq!(told, ["topology ok/fail: masters say that the cluster is down (cluster_state:fail)"]);
    assert_eq!(scene.take(&said), [""; 0]);
    say(&mut said, true);
    let up = "topology fail/ok: all masters that were asked say that the cluster is up (cluster_state:ok)";
    assert_eq!(scene.take(&said), [up]);
}

#[test]
fn a_shard_that_gets_its_proper_name_has_moved_nothing() {
    let mut scene = Scene::new();
    let mut said = all_say(&[1, 2, 3, 4], SOUND);
    for (said, shard) in said.iter_mut().zip(["x", "x", "c", "c"]) {
        said.shard = Some(shard.into());
    }
    assert_eq!(scene.take(&said), [""; 0]);
    assert_eq!(&*scene.view().masters["x"], "10.0.0.1:1");
    let shard = |known: &Known| known.shard.to_string();
    let picture = picture(&said, &scene.follower.remembered);
    assert_eq!(picture.nodes.values().map(shard).collect::<Vec<_>>(), ["x", "x", "c", "c"]);
}
