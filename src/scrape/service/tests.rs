//! Services that live and fail, round by round.

use super::*;
use crate::collect::facts::{Backlog, MasterAddress};
use crate::config::Address;
use crate::connect::Kind;
use crate::discover::service::{ClusterView, Failover, History, Master, SentinelView};
use exposition::Builder;
use exposition::family::Value;
use std::time::SystemTime;

/// A service whose members are `h:1`, `h:2` …, and what is known of it.
struct Scene {
    service: Service,
    truth: ServiceTruth,
    begin: Instant,
    round: u64,
    /// What the last round said.
    last: Vec<(u16, Instant, Option<Arc<Facts>>)>,
    now: Instant,
    limits: Limits,
}

fn id(letter: char) -> Option<Id> {
    Id::parse(&letter.to_string().repeat(40))
}

fn name(port: u16) -> Arc<str> {
    format!("h:{port}").into()
}

/// A master with history `a` that has written so much.
fn master(offset: u64) -> Facts {
    Facts {
        run_id: id('1'),
        role: Some(Role::Master),
        loading: Some(false),
        offset: Some(offset),
        replid: id('a'),
        backlog: Backlog { active: Some(true), size: Some(1_000_000), length: Some(500_000), first: None },
        ..Facts::default()
    }
}

/// A replica of `h:<port>` with history `a` that has applied so much.
fn replica(port: u16, offset: u64) -> Facts {
    Facts {
        run_id: id('2'),
        role: Some(Role::Replica),
        master: Some(MasterAddress { host: "h".into(), port }),
        link_up: Some(true),
        replica_offset: Some(offset),
        ..master(offset)
    }
}

impl Scene {
    fn new(kind: &'static str, members: u16) -> Self {
        let begin = Instant::now();
        let mut service = Service::unknown("s".into(), kind);
        service.answered = Some(begin);
        let member = |port| {
            let shard = (kind == "sentinel").then(|| "m".into());
            let address = Address::tcp("h", port);
            Arc::new(Member { instance: name(port), address, shard, id: None, labels: Default::default() })
        };
        service.members = (1..=members).map(member).collect();
        if kind == "cluster" {
            service.view = View::Cluster(ClusterView { covered: SLOTS, ..ClusterView::default() });
        }
        Self {
            service,
            truth: ServiceTruth::default(),
            begin,
            round: 0,
            last: vec![],
            now: begin,
            limits: Limits::default(),
        }
    }

    /// Two or more members behind Sentinels that name `h:1` the master.
    fn sentinel(members: u16) -> Self {
        let mut scene = Self::new("sentinel", members);
        scene.service.view = View::Sentinel(SentinelView { epoch: Some(1), ..SentinelView::default() });
        scene.service.master = Some(Master { instance: name(1), epoch: 1, confirmed: scene.begin });
        scene
    }

    fn at(&self, second: f64) -> Instant {
        self.begin + Duration::from_secs_f64(second)
    }

    /// A round in which these members were asked at these seconds, and what they said.
    fn asked(&mut self, said: &[(u16, f64, Option<Facts>)]) {
        self.round += 1;
        let taken = |(port, second, facts): &(u16, f64, Option<Facts>)| {
            (*port, self.at(*second), facts.clone().map(Arc::new))
        };
        self.last = said.iter().map(taken).collect();
        self.now = self.last.iter().map(|(_, taken, _)| *taken).max().unwrap_or(self.begin);
        self.tell();
    }

    /// Tells of the last round.
    fn tell(&mut self) {
        let names: Vec<_> = self.last.iter().map(|(port, ..)| name(*port)).collect();
        let mut readings = vec![];
        for ((_, taken, facts), instance) in self.last.iter().zip(&names) {
            let (up, facts) = (facts.is_some(), facts.as_ref());
            readings.push(MemberReading { instance, round: self.round, up, taken: *taken, facts });
        }
        self.truth.round(&self.service, &readings, &self.limits, self.now);
    }

    /// A round in which all that are named were asked at once.
    fn round(&mut self, second: f64, said: &[(u16, Option<Facts>)]) {
        let said: Vec<_> = said.iter().map(|(port, facts)| (*port, second, facts.clone())).collect();
        self.asked(&said);
    }

    /// The samples of a member (0: of the service) whose names begin so.
    fn lines(&self, port: u16, start: &str) -> Vec<String> {
        let mut out = Builder::new();
        match port {
            0 => self.truth.record_service(&self.service, self.now, &mut out),
            _ => self.truth.record_member(&name(port), &mut out),
        }
        let families = out.finish();
        let mut lines = vec![];
        for family in families.iter().filter(|family| family.name().starts_with(start)) {
            for sample in family.samples() {
                let labels: String = sample.labels().map(|(n, v)| format!("{{{n}={v}}}")).collect();
                let Value::Number(value) = sample.value() else { panic!("{}", family.name()) };
                lines.push(format!("{}{labels} {value}", family.name().trim_start_matches("redis_")));
            }
        }
        lines
    }

    fn check(&self, port: u16, start: &str, expected: &[&str]) {
        assert_eq!(self.lines(port, &format!("redis_{start}")), expected, "{port}: {start}");
    }

    fn fail_over(&mut self, to: u16, second: f64) {
        let from = self.service.master.as_ref().expect("a master").instance.clone();
        let confirmed = self.at(second);
        self.service.master = Some(Master { instance: name(to), epoch: 2, confirmed });
        self.service.view = View::Sentinel(SentinelView { epoch: Some(2), ..SentinelView::default() });
        let history = &mut self.service.history;
        history.completed += 1;
        history.last = Some(Completed {
            from,
            to: name(to),
            began: None,
            confirmed,
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
            phases: vec![("select_slave", Duration::from_millis(20))],
        });
    }
}

#[test]
fn a_replica_that_is_behind_says_how_far() {
    let mut scene = Scene::sentinel(2);
    scene.round(0.0, &[(1, Some(master(100_000))), (2, Some(replica(1, 100_000)))]);
    scene.check(2, "replica_lag", &["replica_lag_bytes 0", "replica_lag_seconds 0"]);
    scene.check(2, "replication_", &["replication_id_mismatch 0", "replication_lag_exceeded 0"]);
    // 1,000 bytes a second; a tenth of what was written in 15 s is missing.
    scene.round(15.0, &[(1, Some(master(115_000))), (2, Some(replica(1, 113_500)))]);
    scene.check(2, "replica_lag", &["replica_lag_bytes 1500", "replica_lag_seconds 1.5"]);
    let expected =
        ["replication_headroom_seconds 998.5", "replication_id_mismatch 0", "replication_lag_exceeded 0"];
    scene.check(2, "replication_", &expected);
    scene.check(0, "failover_data_at_risk", &["failover_data_at_risk_bytes 1500"]);
    scene.round(30.0, &[(1, Some(master(130_000))), (2, Some(replica(1, 120_000)))]);
    scene.check(2, "replication_lag_exceeded", &["replication_lag_exceeded 1"]);
    assert_eq!(scene.truth.lag_bytes("h:2"), Some(10_000));
    // The master has none of it.
    scene.check(1, "replica", &[]);
    scene.check(1, "replication", &[]);
}

#[test]
fn the_threshold_is_the_operators() {
    let mut scene = Scene::sentinel(2);
    scene.limits.lag_bytes = 5;
    scene.round(0.0, &[(1, Some(master(1000))), (2, Some(replica(1, 995)))]);
    scene.check(2, "replication_lag", &["replication_lag_exceeded 1"]);
    scene.round(15.0, &[(1, Some(master(1000))), (2, Some(replica(1, 996)))]);
    scene.check(2, "replication_lag", &["replication_lag_exceeded 0"]);
}

#[test]
fn a_master_that_rests_leaves_seconds_unknown_where_something_is_missing() {
    let mut scene = Scene::sentinel(2);
    for second in [0.0, 15.0, 30.0] {
        scene.round(second, &[(1, Some(master(1000))), (2, Some(replica(1, 900)))]);
    }
    scene.check(2, "replica_lag", &["replica_lag_bytes 100"]);
    scene.check(2, "replication_headroom", &[]);
    scene.round(45.0, &[(1, Some(master(1000))), (2, Some(replica(1, 1000)))]);
    scene.check(2, "replica_lag", &["replica_lag_bytes 0", "replica_lag_seconds 0"]);
}

#[test]
fn a_replica_that_was_read_later_is_not_behind_by_less_than_nothing() {
    let mut scene = Scene::sentinel(2);
    scene.asked(&[(1, 0.0, Some(master(1000))), (2, 0.5, Some(replica(1, 1500)))]);
    scene.check(2, "replica_lag", &["replica_lag_bytes 0", "replica_lag_seconds 0"]);
}

#[test]
fn what_was_not_read_together_is_not_compared_and_what_was_known_stays_until_it_is_old() {
    let mut scene = Scene::sentinel(2);
    scene.asked(&[(1, 0.0, Some(master(1000))), (2, 1.5, Some(replica(1, 900)))]);
    scene.check(2, "repl", &["replica_link_flaps_total 0"]);
    scene.round(15.0, &[(1, Some(master(2000))), (2, Some(replica(1, 1990)))]);
    scene.check(2, "replica_lag_bytes", &["replica_lag_bytes 10"]);
    // The replica takes its time; or is asked alone.
    scene.asked(&[(1, 30.0, Some(master(3000))), (2, 34.0, Some(replica(1, 1990)))]);
    scene.check(2, "replica_lag_bytes", &["replica_lag_bytes 10"]);
    scene.round(44.0, &[(2, Some(replica(1, 1990)))]);
    scene.check(2, "replica_lag_bytes", &["replica_lag_bytes 10"]);
    scene.round(46.0, &[(2, Some(replica(1, 1990)))]);
    scene.check(2, "replica_lag_bytes", &[]);
    scene.check(0, "failover_data", &[]);
}

#[test]
fn without_an_answer_of_both_ends_nothing_is_known() {
    let both = [(1, Some(master(2000))), (2, Some(replica(1, 1990)))];
    for missing in 0..2 {
        let mut scene = Scene::sentinel(2);
        scene.round(0.0, &both);
        let mut said = both.clone();
        said[missing].1 = None;
        scene.round(15.0, &said);
        scene.check(2, "replica_lag", &[]);
        scene.check(2, "replication", &[]);
        scene.check(0, "failover_data", &[]);
        // A counter stays, a role does not.
        scene.check(2, "replica_link", &["replica_link_flaps_total 0"]);
        scene.check(missing as u16 + 1, "member_role", &[]);
        assert_eq!(scene.truth.role(&name(missing as u16 + 1)), None);
    }
}

#[test]
fn a_role_is_1_for_what_a_member_says_and_0_for_the_others() {
    let check = |facts: Facts, expected: [u8; 3]| {
        let mut scene = Scene::new("instances", 1);
        scene.round(0.0, &[(1, Some(facts))]);
        let line = |(role, value)| format!("member_role{{role={role}}} {value}");
        let lines = ["master", "replica", "sentinel"].into_iter().zip(expected).map(line);
        assert_eq!(scene.lines(1, "redis_member_role"), lines.collect::<Vec<_>>());
    };
    check(master(0), [1, 0, 0]);
    check(replica(9, 0), [0, 1, 0]);
    check(Facts { role: Some(Role::Sentinel), ..Facts::default() }, [0, 0, 1]);
    let mut scene = Scene::new("instances", 1);
    scene.round(0.0, &[(1, Some(Facts::default()))]);
    scene.check(1, "member_role", &[]);
}

#[test]
fn a_replica_of_a_replica_is_compared_with_that_one_and_loses_what_both_lack() {
    let mut scene = Scene::sentinel(3);
    // Only the second of the chain may be promoted.
    let first = Facts { priority: Some(0), ..replica(1, 9_000) };
    scene.round(0.0, &[(1, Some(master(10_000))), (2, Some(first)), (3, Some(replica(2, 8_700)))]);
    scene.check(2, "replica_lag_bytes", &["replica_lag_bytes 1000"]);
    scene.check(3, "replica_lag_bytes", &["replica_lag_bytes 300"]);
    scene.check(0, "failover_data", &["failover_data_at_risk_bytes 1300"]);
    // Nobody may.
    let never = |facts: Facts| Some(Facts { priority: Some(0), ..facts });
    let said = [(1, Some(master(10_000))), (2, never(replica(1, 9_000))), (3, never(replica(2, 8_700)))];
    scene.round(15.0, &said);
    scene.check(0, "failover_data", &[]);
}

#[test]
fn replicas_of_each_other_lose_nothing_that_is_known() {
    let mut scene = Scene::new("instances", 3);
    let said = [(1, Some(master(50))), (2, Some(replica(3, 10))), (3, Some(replica(2, 10)))];
    scene.round(0.0, &said);
    scene.check(2, "replica_lag_bytes", &["replica_lag_bytes 0"]);
    scene.check(0, "failover_data", &[]);
}

#[test]
fn a_master_that_is_announced_elsewhere_is_found_by_its_history_or_its_shard() {
    let elsewhere = || replica(4711, 900);
    // In a list of two masters, by the history.
    let mut scene = Scene::new("instances", 3);
    let other = Facts { replid: id('b'), ..master(77) };
    scene.round(0.0, &[(1, Some(master(1000))), (2, Some(elsewhere())), (3, Some(other))]);
    scene.check(2, "replica_lag_bytes", &["replica_lag_bytes 100"]);
    // Two with that history: nobody can tell.
    scene.round(15.0, &[(1, Some(master(1000))), (2, Some(elsewhere())), (3, Some(master(1000)))]);
    scene.check(2, "replica_lag_bytes", &[]);
    // In a shard, its only master; that it has another history is to be told.
    let mut scene = Scene::sentinel(2);
    let foreign = Facts { replid: id('c'), ..elsewhere() };
    scene.round(0.0, &[(1, Some(master(1000))), (2, Some(foreign.clone()))]);
    scene.check(2, "replication_id", &["replication_id_mismatch 1"]);
    scene.check(2, "replica_lag", &[]);
    // In a list it may follow anybody.
    let mut scene = Scene::new("instances", 2);
    scene.round(0.0, &[(1, Some(master(1000))), (2, Some(foreign))]);
    scene.check(2, "replication", &[]);
    // A name in capitals is the same name; its own address is no other's.
    let mut scene = Scene::sentinel(2);
    let loud = |port| MasterAddress { host: "H".into(), port };
    let said = |port| Facts { master: Some(loud(port)), ..replica(1, 900) };
    scene.round(0.0, &[(1, Some(master(1000))), (2, Some(said(1)))]);
    scene.check(2, "replica_lag_bytes", &["replica_lag_bytes 100"]);
    scene.round(15.0, &[(1, Some(master(1000))), (2, Some(said(2)))]);
    scene.check(2, "replica_lag_bytes", &["replica_lag_bytes 100"]);
}

#[test]
fn servers_without_replication_ids_are_compared_and_no_mismatch_is_known() {
    let mut scene = Scene::sentinel(2);
    let old = |facts: Facts| Some(Facts { replid: None, ..facts });
    scene.round(0.0, &[(1, old(master(1000))), (2, old(replica(1, 900)))]);
    scene.check(2, "replica_lag_bytes", &["replica_lag_bytes 100"]);
    scene.check(2, "replication_id", &[]);
}

#[test]
fn a_failover_is_followed_from_the_last_answer_of_the_old_master_to_the_first_of_the_new() {
    let mut scene = Scene::sentinel(3);
    let replicas = |offset| [(2, Some(replica(1, offset))), (3, Some(replica(1, offset)))];
    let mut said = vec![(1, Some(master(10_000)))];
    said.extend(replicas(9_900));
    scene.round(0.0, &said);
    scene.check(0, "service", &["service_masters 1", "service_up 1"]);
    let none = ["failover_data_at_risk_bytes 100", "failover_in_progress 0"];
    scene.check(0, "failover_", &none);
    scene.check(0, "failovers", &["failovers_aborted_total 0", "failovers_total 0"]);

    // The master dies.
    scene.service.failover =
        Some(Failover { began: scene.at(14.0), members: vec![name(1)], phase: "wait_start" });
    said[0].1 = None;
    scene.round(15.0, &said);
    scene.check(0, "service", &["service_masters 0", "service_up 0"]);
    scene.check(0, "failover_", &["failover_in_progress 1"]);

    // Discovery knows before the next collection does, and a round follows at once.
    scene.service.failover = None;
    scene.fail_over(2, 17.5);
    assert_eq!(scene.truth.judge(&scene.service, scene.at(17.6)).master, Some(name(2)));
    assert_eq!(scene.truth.judge(&scene.service, scene.at(17.6)).up, Some(true));
    let promoted = Facts {
        run_id: id('2'),
        replid: id('b'),
        replid2: id('a'),
        second_offset: Some(9_901),
        ..master(9_950)
    };
    said = vec![(1, None), (2, Some(promoted.clone())), (3, Some(replica(1, 9_900)))];
    scene.round(17.7, &said);
    let service = ["service_masters 1", "service_up 1"];
    scene.check(0, "service", &service);
    let failover = [
        "failover_duration_seconds 17.5",
        "failover_in_progress 0",
        "failover_last_timestamp_seconds 1.5",
        "failover_phase_seconds{phase=select_slave} 0.02",
    ];
    scene.check(0, "failover_", &failover);
    scene.check(0, "failovers", &["failovers_aborted_total 0", "failovers_total 1"]);
    // The third still follows the old one, which does not answer.
    scene.check(3, "replica_lag", &[]);

    // It follows the new one, with the history that both had, and then with the new.
    scene.round(20.0, &[(1, None), (2, Some(promoted.clone())), (3, Some(replica(2, 9_900)))]);
    scene.check(3, "replica_lag_bytes", &["replica_lag_bytes 50"]);
    scene.check(3, "replication_id", &["replication_id_mismatch 0"]);
    let follows = Facts { replid: id('b'), replid2: id('a'), ..replica(2, 9_940) };
    scene.round(35.0, &[(1, None), (2, Some(promoted.clone())), (3, Some(follows.clone()))]);
    scene.check(3, "replica_lag_bytes", &["replica_lag_bytes 10"]);

    // The old master comes back as a second one, and says what nobody has; the duration stays.
    said = vec![(1, Some(master(10_000))), (2, Some(promoted.clone())), (3, Some(follows.clone()))];
    scene.round(50.0, &said);
    scene.check(0, "service", &["service_masters 2", "service_up 1"]);
    scene.check(0, "failover_duration", &["failover_duration_seconds 17.5"]);
    scene.check(0, "failover_data", &["failover_data_at_risk_bytes 10"]);

    // As a replica its data goes beyond what was shared.
    said[0].1 = Some(replica(2, 10_000));
    scene.round(65.0, &said);
    scene.check(0, "service", &service);
    scene.check(1, "replication_id", &["replication_id_mismatch 1"]);
    scene.check(1, "replica_lag", &[]);
    // Synchronised anew.
    said[0].1 = Some(Facts { replid: id('b'), ..replica(2, 9_950) });
    scene.round(80.0, &said);
    scene.check(1, "replication_id", &["replication_id_mismatch 0"]);
    scene.check(1, "replica_lag_bytes", &["replica_lag_bytes 0"]);
}

#[test]
fn a_planned_failover_has_hardly_a_gap_and_an_unknown_old_master_none_that_is_known() {
    let mut scene = Scene::sentinel(2);
    scene.round(0.0, &[(1, Some(master(10))), (2, Some(replica(1, 10)))]);
    scene.fail_over(2, 10.0);
    // Both were asked again before we heard: the old one still answered as a master.
    scene.asked(&[(1, 9.5, Some(master(10))), (2, 9.6, Some(replica(1, 10)))]);
    scene.check(0, "failover_duration", &["failover_duration_seconds 0.5"]);
    // That it says so later, too, is not the last answer before the new one.
    let mut late = Scene::sentinel(2);
    late.round(0.0, &[(1, Some(master(10))), (2, Some(replica(1, 10)))]);
    late.fail_over(2, 10.0);
    late.round(25.0, &[(1, Some(master(10))), (2, Some(master(10)))]);
    late.check(0, "failover_duration", &["failover_duration_seconds 10"]);
    // It answered as a master all the time.
    let mut never = Scene::sentinel(2);
    never.round(12.0, &[(1, Some(master(10)))]);
    never.fail_over(2, 10.0);
    never.round(13.0, &[(2, Some(master(10)))]);
    never.check(0, "failover_duration", &["failover_duration_seconds 0"]);
    let mut unknown = Scene::sentinel(2);
    unknown.fail_over(2, 10.0);
    unknown.round(11.0, &[(1, None), (2, Some(master(10)))]);
    unknown.check(0, "failover_duration", &[]);
    unknown.check(0, "failovers_total", &["failovers_total 1"]);
}

#[test]
fn an_old_master_that_is_no_member_any_more_is_remembered_for_a_while() {
    let check = |confirmed: f64, expected: &[&str]| {
        let mut scene = Scene::sentinel(2);
        scene.round(0.0, &[(1, Some(master(10))), (2, Some(replica(1, 10)))]);
        let old = scene.service.clone();
        scene.service.members.remove(0);
        scene.round(confirmed - 1.0, &[(2, Some(replica(1, 10)))]);
        scene.service.master = old.master;
        scene.fail_over(2, confirmed);
        scene.round(confirmed + 1.0, &[(2, Some(master(10)))]);
        scene.check(0, "failover_duration", expected);
        let kept = usize::from(confirmed < 600.0) + 1;
        assert_eq!(scene.truth.members.len(), kept, "{confirmed}");
    };
    check(20.0, &["failover_duration_seconds 20"]);
    check(700.0, &[]);
}

#[test]
fn a_counter_of_failovers_never_falls() {
    let mut scene = Scene::sentinel(1);
    for (completed, aborted, totals) in [(2, 1, (2, 1)), (2, 1, (2, 1)), (3, 1, (3, 1)), (1, 0, (4, 1))] {
        scene.service.history = History { completed, aborted, last: None };
        scene.round(0.0, &[]);
        let lines =
            [format!("failovers_aborted_total {}", totals.1), format!("failovers_total {}", totals.0)];
        assert_eq!(scene.lines(0, "redis_failovers"), lines);
    }
}

#[test]
fn of_a_list_nobody_tells_of_failovers() {
    let mut scene = Scene::new("file_sd", 1);
    scene.round(0.0, &[(1, Some(master(10)))]);
    scene.check(0, "failover", &[]);
}

#[test]
fn a_service_of_sentinels_is_up_with_a_master_that_says_so_and_serves() {
    let check = |change: &dyn Fn(&mut Scene), said: Option<Facts>, expected: Option<bool>| {
        let mut scene = Scene::sentinel(1);
        change(&mut scene);
        scene.round(15.0, &[(1, said.clone())]);
        let verdict = scene.truth.judge(&scene.service, scene.now);
        assert_eq!(verdict.up, expected, "{said:?}");
    };
    let nothing: &dyn Fn(&mut Scene) = &|_| {};
    check(nothing, Some(master(1)), Some(true));
    check(nothing, None, Some(false));
    check(nothing, Some(replica(1, 1)), Some(false));
    check(nothing, Some(Facts { loading: Some(true), ..master(1) }), Some(false));
    // The majority went on to another epoch, which nobody confirmed yet.
    let newer = SentinelView { epoch: Some(2), ..SentinelView::default() };
    check(&|scene| scene.service.view = View::Sentinel(newer.clone()), Some(master(1)), Some(false));
    check(&|scene| scene.service.view = View::Plain, Some(master(1)), Some(true));
    check(&|scene| scene.service.master = None, Some(master(1)), Some(false));
    // A provider that fails now: what it said is still held against what the master says.
    check(&|scene| scene.service.failure = Some((Kind::Timeout, "t".into())), Some(master(1)), Some(true));
    // Nobody ever answered.
    check(&|scene| scene.service.answered = None, Some(master(1)), None);
    let fails = |scene: &mut Scene| {
        scene.service.answered = None;
        scene.service.failure = Some((Kind::Timeout, "t".into()));
    };
    check(&fails, Some(master(1)), Some(false));
}

#[test]
fn before_the_first_round_and_long_after_the_last_nothing_is_known() {
    let mut scene = Scene::sentinel(1);
    scene.service.master.as_mut().expect("a master").confirmed = scene.begin;
    scene.now = scene.at(31.0);
    scene.check(0, "service", &[]);
    scene.round(40.0, &[(1, Some(master(1)))]);
    scene.check(0, "service", &["service_masters 1", "service_up 1"]);
    scene.now = scene.at(71.0);
    scene.check(0, "service", &[]);
}

#[test]
fn a_master_is_one_from_the_moment_at_which_it_was_confirmed() {
    let mut scene = Scene::sentinel(2);
    scene.round(0.0, &[(1, None), (2, Some(replica(1, 10)))]);
    scene.fail_over(2, 5.0);
    // Its own collection just fails.
    scene.asked(&[(2, 4.0, None)]);
    scene.check(
        2,
        "member_role",
        &["member_role{role=master} 1", "member_role{role=replica} 0", "member_role{role=sentinel} 0"],
    );
    scene.check(0, "service", &["service_masters 1", "service_up 1"]);
    // A later answer is worth more.
    scene.round(6.0, &[(2, None)]);
    scene.check(0, "service", &["service_masters 0", "service_up 0"]);
}

#[test]
fn a_cluster_is_up_with_all_its_slots() {
    let check = |covered, fails: bool, answers: bool, expected| {
        let mut scene = Scene::new("cluster", 2);
        let masters = [("x".into(), name(1)), ("y".into(), name(2))].into();
        scene.service.view =
            View::Cluster(ClusterView { covered, masters, rivals: 3, ..ClusterView::default() });
        scene.service.failure = fails.then(|| (Kind::Timeout, "t".into()));
        scene.round(0.0, &[(1, Some(master(1))), (2, answers.then(|| master(1)))]);
        assert_eq!(scene.truth.judge(&scene.service, scene.now).up, Some(expected));
        scene.check(0, "service_masters", &["service_masters 3"]);
        assert_eq!(scene.truth.judge(&scene.service, scene.now).master, None);
    };
    check(SLOTS, false, true, true);
    check(SLOTS, false, false, true);
    check(SLOTS - 1, false, true, false);
    check(SLOTS, true, true, true);
    check(SLOTS, true, false, false);
    let mut scene = Scene::new("cluster", 0);
    scene.service.answered = None;
    scene.check(0, "service", &[]);
    scene.service.failure = Some((Kind::Timeout, "t".into()));
    scene.check(0, "service", &["service_up 0"]);
}

#[test]
fn of_a_cluster_the_worst_shard_is_at_risk() {
    let mut scene = Scene::new("cluster", 5);
    let other = |facts: Facts| Some(Facts { replid: id('b'), ..facts });
    scene.round(0.0, &[(1, Some(master(1000))), (2, Some(replica(1, 990))), (3, Some(replica(1, 995)))]);
    scene.check(0, "failover_data", &["failover_data_at_risk_bytes 5"]);
    // Another shard is read in a round of its own.
    scene.round(5.0, &[(4, other(master(7000))), (5, other(replica(4, 6_900)))]);
    scene.check(0, "failover_data", &["failover_data_at_risk_bytes 100"]);
    scene.check(2, "replica_lag_bytes", &["replica_lag_bytes 10"]);
}

#[test]
fn a_list_is_up_while_a_master_answers_or_anybody_where_there_was_none() {
    let check = |rounds: &[&[(u16, Option<Facts>)]], expected: Option<bool>, master: Option<u16>| {
        let mut scene = Scene::new("instances", 2);
        for (number, said) in rounds.iter().enumerate() {
            scene.round(number as f64 * 15.0, said);
        }
        let verdict = scene.truth.judge(&scene.service, scene.now);
        assert_eq!((verdict.up, verdict.master), (expected, master.map(name)), "{rounds:?}");
    };
    let (m, r) = (|| Some(master(1)), || Some(replica(1, 1)));
    check(&[&[(1, m()), (2, r())]], Some(true), Some(1));
    check(&[&[(1, m()), (2, m())]], Some(true), None);
    check(&[&[(1, m()), (2, None)]], Some(true), Some(1));
    check(&[&[(1, r()), (2, r())]], Some(true), None);
    check(&[&[(1, r()), (2, None)]], Some(true), None);
    check(&[&[(1, None), (2, None)]], Some(false), None);
    check(&[&[(1, m()), (2, r())], &[(1, None), (2, r())]], Some(false), None);
    check(&[&[(1, m()), (2, r())], &[(1, r()), (2, m())]], Some(true), Some(2));
    let loading = Facts { loading: Some(true), ..master(1) };
    check(&[&[(1, Some(loading)), (2, r())]], Some(false), Some(1));
    // Some were not asked yet.
    check(&[], None, None);
    check(&[&[(1, None)]], None, None);
    check(&[&[(1, r())]], Some(true), None);
    let mut empty = Scene::new("file_sd", 0);
    empty.check(0, "service", &["service_up 0"]);
    empty.service.answered = None;
    empty.check(0, "service", &[]);
}

#[test]
fn links_that_break_are_counted_where_they_were_seen() {
    let mut scene = Scene::sentinel(2);
    let link = |up, uptime: u64, since: Option<u64>, run: char| {
        Some(Facts {
            run_id: id(run),
            link_up: up,
            uptime: Some(uptime),
            link_up_since: since,
            ..replica(1, 10)
        })
    };
    let promoted = Some(Facts { link_up: None, ..master(10) });
    let steps = [
        (link(Some(true), 100, None, '2'), 0),
        (link(Some(false), 115, None, '2'), 1),
        (link(Some(false), 130, None, '2'), 1),
        (link(Some(true), 145, Some(10), '2'), 1),
        (link(Some(true), 160, Some(25), '2'), 1),
        // It is up for 3 s, but it was up before.
        (link(Some(true), 175, Some(3), '2'), 2),
        (link(Some(true), 190, Some(17), '2'), 2),
        // Another process, and no answer: not the link.
        (link(Some(false), 1, None, '3'), 2),
        (link(Some(true), 16, None, '3'), 2),
        (None, 2),
        (link(Some(false), 46, None, '3'), 3),
        (link(Some(true), 61, None, '3'), 3),
        // Promoted, and a replica again.
        (promoted, 3),
        (link(Some(false), 91, None, '3'), 3),
    ];
    for (number, (said, flaps)) in steps.into_iter().enumerate() {
        scene.round(number as f64 * 15.0, &[(1, Some(master(10))), (2, said)]);
        assert_eq!(
            scene.lines(2, "redis_replica_link"),
            [format!("replica_link_flaps_total {flaps}")],
            "{number}"
        );
    }
    scene.check(1, "replica_link", &[]);
}

#[test]
fn resynchronisations_are_counted_over_restarts_and_failovers() {
    let mut scene = Scene::sentinel(2);
    let counted = |facts: Facts, run: char, full, partial, refused| {
        let (sync_full, sync_partial_ok, sync_partial_err) = (Some(full), Some(partial), Some(refused));
        Some(Facts { run_id: id(run), sync_full, sync_partial_ok, sync_partial_err, ..facts })
    };
    scene.round(0.0, &[(1, Some(master(1))), (2, None)]);
    scene.check(0, "replication_resyncs", &[]);
    let steps = [
        // What was before we came does not count.
        (counted(master(1), '1', 5, 1, 1), counted(replica(1, 1), '2', 0, 0, 0), [0, 0, 0]),
        (counted(master(1), '1', 6, 3, 1), counted(replica(1, 1), '2', 0, 0, 0), [1, 2, 0]),
        // A failover: the other counts from now on.
        (None, counted(master(1), '2', 0, 1, 0), [1, 3, 0]),
        // The old one is another process, which has counted since it began.
        (counted(replica(2, 1), '3', 2, 0, 1), counted(master(1), '2', 1, 1, 1), [4, 3, 2]),
        // CONFIG RESETSTAT.
        (counted(replica(2, 1), '3', 2, 0, 1), counted(master(1), '2', 1, 0, 0), [4, 3, 2]),
        (counted(replica(2, 1), '3', 2, 0, 1), counted(master(1), '2', 2, 1, 0), [5, 4, 2]),
    ];
    for (number, (one, two, [full, partial, refused])) in steps.into_iter().enumerate() {
        scene.round(15.0 * (number + 1) as f64, &[(1, one), (2, two)]);
        let expected = [
            format!("replication_resyncs_total{{kind=full}} {full}"),
            format!("replication_resyncs_total{{kind=partial}} {partial}"),
            format!("replication_resyncs_total{{kind=refused}} {refused}"),
        ];
        assert_eq!(scene.lines(0, "redis_replication_resyncs"), expected, "{number}");
    }
}

#[test]
fn a_master_that_restarts_begins_a_new_stream() {
    let mut scene = Scene::sentinel(2);
    scene.round(0.0, &[(1, Some(master(1_000_000))), (2, Some(replica(1, 1_000_000)))]);
    scene.round(15.0, &[(1, Some(master(2_500_000))), (2, Some(replica(1, 2_400_000)))]);
    scene.check(2, "replica_lag", &["replica_lag_bytes 100000", "replica_lag_seconds 1"]);
    // Another process with another history, whose offset is small; its replica has not noticed yet.
    let restarted = |offset| Facts { run_id: id('7'), replid: id('b'), ..master(offset) };
    scene.round(30.0, &[(1, Some(restarted(100))), (2, Some(replica(1, 2_500_000)))]);
    scene.check(2, "replica_lag", &[]);
    scene.check(2, "replication", &["replication_id_mismatch 1"]);
    scene.check(0, "failover_data", &[]);
    // It has everything anew; between two looks at the master the position is found without a rate.
    let anew = Facts { replid: id('b'), ..replica(1, 150) };
    scene.round(30.5, &[(1, Some(restarted(200))), (2, Some(anew.clone()))]);
    scene.check(2, "replica_lag", &["replica_lag_bytes 50", "replica_lag_seconds 0.25"]);
    // An offset that went back with the same history is no negative rate.
    scene.round(45.0, &[(1, Some(restarted(90))), (2, Some(anew))]);
    scene.check(2, "replica_lag", &["replica_lag_bytes 0", "replica_lag_seconds 0"]);
    scene.check(2, "replication_headroom", &[]);
}

#[test]
fn a_replica_that_receives_everything_has_no_position() {
    let mut scene = Scene::sentinel(2);
    let fresh = Facts { link_up: Some(false), replica_offset: Some(1), ..replica(1, 1) };
    scene.round(0.0, &[(1, Some(master(1000))), (2, Some(fresh))]);
    scene.check(2, "replica_lag", &[]);
    scene.check(2, "replication", &["replication_id_mismatch 0"]);
}

#[test]
fn the_same_round_twice_changes_nothing() {
    let mut scene = Scene::sentinel(2);
    let counted = |facts: Facts, full| Some(Facts { sync_full: Some(full), ..facts });
    scene.round(0.0, &[(1, counted(master(1000), 1)), (2, Some(replica(1, 900)))]);
    let down = Facts { link_up: Some(false), ..replica(1, 1_500) };
    scene.round(15.0, &[(1, counted(master(2000), 2)), (2, Some(down))]);
    let all = |scene: &Scene| [0, 1, 2].map(|port| scene.lines(port, ""));
    let before = all(&scene);
    for _ in 0..3 {
        scene.tell();
        assert_eq!(all(&scene), before);
    }
}

#[test]
fn a_stranger_is_not_taken_in() {
    let mut scene = Scene::sentinel(1);
    scene.round(0.0, &[(1, Some(master(1))), (9, Some(master(1)))]);
    assert_eq!(scene.truth.members.len(), 1);
    scene.check(0, "service_masters", &["service_masters 1"]);
}

#[test]
fn whatever_servers_say_every_number_is_one_and_none_is_negative() {
    let mut random = fastrand::Rng::with_seed(7);
    let letters = |random: &mut fastrand::Rng| id(random.choice(['a', 'b', 'c', '0']).expect("a letter"));
    let mut samples = 0;
    for kind in ["sentinel", "cluster", "instances"] {
        let mut scene = if kind == "sentinel" { Scene::sentinel(5) } else { Scene::new(kind, 5) };
        let mut second = 0.0;
        for _ in 0..2_000 {
            second += random.choice([0.0, 0.001, 0.5, 15.0, 40.0]).expect("a time");
            let mut said = vec![];
            for port in 1..=6 {
                let some = |random: &mut fastrand::Rng, value: u64| random.u8(..8).ne(&0).then_some(value);
                let number = |random: &mut fastrand::Rng| {
                    let most = random.choice([2, 1_000, 1 << 40, u64::MAX]).expect("a bound");
                    let value = random.u64(0..most);
                    some(random, value)
                };
                let flag =
                    |random: &mut fastrand::Rng| random.choice([None, Some(true), Some(false)]).flatten();
                let facts = Facts {
                    run_id: letters(&mut random),
                    uptime: number(&mut random),
                    role: random
                        .choice([None, Some(Role::Master), Some(Role::Replica), Some(Role::Replica)])
                        .flatten(),
                    loading: flag(&mut random),
                    replicas: number(&mut random),
                    master: Some(MasterAddress { host: "h".into(), port: random.u16(1..=7) }),
                    link_up: flag(&mut random),
                    link_up_since: number(&mut random),
                    priority: number(&mut random),
                    syncing: flag(&mut random),
                    replica_offset: number(&mut random),
                    offset: number(&mut random),
                    replid: letters(&mut random),
                    replid2: letters(&mut random),
                    second_offset: number(&mut random),
                    backlog: Backlog {
                        active: flag(&mut random),
                        size: number(&mut random),
                        length: number(&mut random),
                        first: number(&mut random),
                    },
                    // Many of u64::MAX are more than a counter can hold.
                    sync_full: number(&mut random),
                    sync_partial_ok: number(&mut random),
                    sync_partial_err: number(&mut random),
                    commands: None,
                    connections: None,
                };
                let at = second + random.f64() * 1.2;
                match random.u8(..10) {
                    0 => {}
                    1 => said.push((port, at, None)),
                    _ => said.push((port, at, Some(facts))),
                }
            }
            if kind == "sentinel" && random.u8(..20) == 0 {
                scene.fail_over(random.u16(1..=6), second);
                scene.service.history.completed = random.u64(..);
            }
            scene.asked(&said);
            for port in 0..=5 {
                for line in scene.lines(port, "") {
                    let value: f64 = line.rsplit_once(' ').expect("a value").1.parse().expect("a number");
                    assert!(value.is_finite() && value >= 0.0, "{line}");
                    samples += 1;
                }
            }
        }
    }
    assert!(samples > 100_000, "{samples}");
}
