//! What is known of a service as metric families: how it is known, and what those say who know it.
//!
//! The label that names the service is added where the page is written.
//!
//! What a newcomer would get wrong: a number that nobody tells now is absent, though the service still holds the
//! last one. The members alone are those of the last good answer, whose age stands beside.

use super::service::{ClusterView, SentinelState, SentinelView, Service, View};
use exposition::{Builder, Desc};
use std::collections::HashMap;
use std::time::Instant;

static UP: Desc = Desc::gauge(
    "redvigil_discovery_up",
    "Whether those who know the members answer now: Sentinels, nodes of the Cluster, files, the resolver.",
);
static AGE: Desc = Desc::gauge(
    "redvigil_discovery_age_seconds",
    "Time since the members were last learned from a whole answer, in seconds.",
);
static MEMBERS: Desc = Desc::gauge(
    "redvigil_discovery_members",
    "Members of the service, each server once; those of the last good answer where there is none now.",
);
static INFO: Desc =
    Desc::gauge("redis_topology_info", "How members of the service are found; always 1.").labels(&["kind"]);

static SENTINELS: Desc = Desc::gauge(
    "redis_service_sentinels",
    "Sentinels of the service: all that are known, those that answer us, those that may vote as the others see \
     it, and those that name another master or hold an older configuration epoch than most.",
)
.labels(&["state"]);
static QUORUM: Desc = Desc::gauge(
    "redis_service_sentinel_quorum",
    "How many Sentinels must agree that the master is down before one of them starts a failover.",
);
static CKQUORUM: Desc = Desc::gauge(
    "redis_service_ckquorum",
    "Whether enough Sentinels could be reached for a failover, as most Sentinels answer SENTINEL CKQUORUM.",
);
static EPOCH: Desc = Desc::gauge(
    "redis_service_config_epoch",
    "The newest configuration epoch of the master that a majority of the Sentinels holds; each failover raises it.",
);

static CLUSTER_OK: Desc =
    Desc::gauge("redis_service_cluster_ok", "Whether every master that answers says cluster_state:ok.");
static CLUSTER_SLOTS: Desc = Desc::gauge(
    "redis_service_cluster_slots",
    "Slots of the Cluster: served by a healthy master, by one that is suspected, by one that has failed, by \
     nobody, on their way out of a node and into a node, and claimed by more than one master.",
)
.labels(&["state"]);
static CLUSTER_NODES: Desc = Desc::gauge(
    "redis_service_cluster_nodes",
    "Nodes of the Cluster: all that are known, those that answer us, and those that name another owner of some \
     slot than most do.",
)
.labels(&["state"]);
static SHARDS: Desc =
    Desc::gauge("redis_service_shards", "Shards of the Cluster: masters with slots, and their replicas.");
static WITHOUT_REPLICA: Desc = Desc::gauge(
    "redis_service_shards_without_replica",
    "Shards of the Cluster without a healthy replica: when their master goes, so does their data.",
);
static CLUSTER_EPOCH: Desc = Desc::gauge(
    "redis_service_cluster_epoch",
    "The newest cluster_current_epoch of all nodes; each failover and each conflict raises it.",
);

/// Every family of this file.
pub fn descs() -> [&'static Desc; 14] {
    [
        &UP,
        &AGE,
        &MEMBERS,
        &INFO,
        &SENTINELS,
        &QUORUM,
        &CKQUORUM,
        &EPOCH,
        &CLUSTER_OK,
        &CLUSTER_SLOTS,
        &CLUSTER_NODES,
        &SHARDS,
        &WITHOUT_REPLICA,
        &CLUSTER_EPOCH,
    ]
}

/// Records what is known of a service. `own`: the families that are ours, too.
pub fn record(service: &Service, now: Instant, own: bool, out: &mut Builder) {
    let info = out.family(&INFO);
    out.sample(info, &[service.kind], 1.0);
    // Who did not have the time to answer yet is not down.
    if own && (service.answered.is_some() || service.failure.is_some()) {
        out.push(&UP, flag(service.failure.is_none()));
        out.push(&MEMBERS, service.members.len() as f64);
    }
    if let Some(answered) = service.answered.filter(|_| own) {
        out.push(&AGE, now.saturating_duration_since(answered).as_secs_f64());
    }
    let is_told = service.failure.is_none();
    match &service.view {
        View::Plain => {}
        View::Sentinel(view) => record_sentinels(view, is_told, out),
        View::Cluster(view) => record_cluster(view, is_told, out),
    }
}

fn record_sentinels(view: &SentinelView, is_told: bool, out: &mut Builder) {
    let family = out.family(&SENTINELS);
    out.sample(family, &["known"], view.sentinels.len() as f64);
    out.sample(family, &["reachable"], view.reachable() as f64);
    if !is_told {
        return;
    }
    let usable = view.sentinels.iter().filter(|sentinel| sentinel.usable).count();
    out.sample(family, &["usable"], usable as f64);
    out.sample(family, &["disagreeing"], disagreeing(view) as f64);
    for (desc, value) in [
        (&QUORUM, view.quorum.map(f64::from)),
        (&CKQUORUM, view.can_authorise.map(flag)),
        (&EPOCH, view.epoch.map(|epoch| epoch as f64)),
    ] {
        if let Some(value) = value {
            out.push(desc, value);
        }
    }
}

/// How many Sentinels that answered name another master or hold another epoch than most of those do. Of two
/// opinions that are equally common the newer one counts.
fn disagreeing(view: &SentinelView) -> usize {
    let opinion = |sentinel: &SentinelState| Some((sentinel.epoch, sentinel.names.clone()?));
    let answered = view.sentinels.iter().filter(|sentinel| sentinel.failure.is_none());
    let opinions: Vec<_> = answered.filter_map(opinion).collect();
    let mut common = HashMap::new();
    for opinion in &opinions {
        *common.entry(opinion).or_insert(0) += 1;
    }
    let most = common.iter().max_by_key(|(opinion, count)| (**count, **opinion)).map(|(opinion, _)| *opinion);
    opinions.iter().filter(|opinion| Some(*opinion) != most).count()
}

fn record_cluster(view: &ClusterView, is_told: bool, out: &mut Builder) {
    let nodes = out.family(&CLUSTER_NODES);
    out.sample(nodes, &["known"], f64::from(view.nodes));
    if !is_told {
        out.sample(nodes, &["reachable"], 0.0);
        return;
    }
    out.sample(nodes, &["reachable"], f64::from(view.reachable));
    out.sample(nodes, &["disagreeing"], f64::from(view.disagreeing));
    if let Some(is_ok) = view.is_ok {
        out.push(&CLUSTER_OK, flag(is_ok));
    }
    let slots = out.family(&CLUSTER_SLOTS);
    for (state, count) in [
        ("covered", view.covered),
        ("suspected", view.suspected),
        ("failed", view.failed),
        ("uncovered", view.uncovered),
        ("migrating", view.migrating),
        ("importing", view.importing),
        ("contested", view.contested),
    ] {
        out.sample(slots, &[state], f64::from(count));
    }
    out.push(&SHARDS, f64::from(view.shards));
    out.push(&WITHOUT_REPLICA, f64::from(view.without_replica));
    out.push(&CLUSTER_EPOCH, view.epoch as f64);
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::Kind;
    use crate::discover::fixed::member;
    use exposition::{Page, text};
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    fn check(service: &Service, now: Instant, expected: &str) {
        let mut out = Builder::new();
        record(service, now, true, &mut out);
        let set = out.finish();
        let mut written = vec![];
        text::write(&mut written, &Page::new([&set], &[]));
        let text = String::from_utf8(written).expect("text");
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let mut expected: Vec<_> = expected.lines().map(str::trim).collect();
        expected.sort_unstable();
        assert_eq!(samples, expected);
    }

    fn service(kind: &'static str, view: View) -> Service {
        let address = crate::config::Address::tcp("a", 1);
        let members = vec![Arc::new(member(address, BTreeMap::new()))];
        Service { members, view, ..Service::unknown("s".into(), kind) }
    }

    #[test]
    fn what_nobody_told_is_absent() {
        let now = Instant::now();
        let unknown = Service::unknown("s".into(), "instances");
        check(&unknown, now, r#"redis_topology_info{kind="instances"} 1"#);
        let failed = Service { failure: Some((Kind::Dns, "no such name".into())), ..unknown };
        check(
            &failed,
            now,
            r#"redis_topology_info{kind="instances"} 1
               redvigil_discovery_members 0
               redvigil_discovery_up 0"#,
        );
    }

    #[test]
    fn members_and_age_are_those_of_the_last_good_answer() {
        let answered = Instant::now();
        let failure = Some((Kind::File, "is gone".into()));
        let service = Service { answered: Some(answered), failure, ..service("file_sd", View::Plain) };
        check(
            &service,
            answered + Duration::from_millis(7500),
            r#"redis_topology_info{kind="file_sd"} 1
               redvigil_discovery_age_seconds 7.5
               redvigil_discovery_members 1
               redvigil_discovery_up 0"#,
        );
    }

    #[test]
    fn sentinels_are_counted_by_what_they_say() {
        let now = Instant::now();
        let sentinel = |failure, usable, names: Option<&str>, epoch| SentinelState {
            instance: "x:26379".into(),
            failure,
            usable,
            names: names.map(Into::into),
            epoch,
        };
        let view = SentinelView {
            epoch: Some(4),
            quorum: Some(2),
            sentinels: vec![
                sentinel(None, true, Some("a:1"), Some(4)),
                sentinel(None, true, Some("a:1"), Some(4)),
                sentinel(None, true, Some("b:1"), Some(3)),
                sentinel(None, false, None, None),
                sentinel(Some(Kind::Timeout), true, Some("b:1"), Some(3)),
                sentinel(Some(Kind::Refused), false, None, None),
            ],
            can_authorise: Some(true),
        };
        let service = Service { answered: Some(now), ..service("sentinel", View::Sentinel(view)) };
        check(
            &service,
            now,
            r#"redis_service_ckquorum 1
               redis_service_config_epoch 4
               redis_service_sentinel_quorum 2
               redis_service_sentinels{state="known"} 6
               redis_service_sentinels{state="reachable"} 4
               redis_service_sentinels{state="usable"} 4
               redis_service_sentinels{state="disagreeing"} 1
               redis_topology_info{kind="sentinel"} 1
               redvigil_discovery_age_seconds 0
               redvigil_discovery_members 1
               redvigil_discovery_up 1"#,
        );
        let failing = Service { failure: Some((Kind::Timeout, "silence".into())), ..service };
        check(
            &failing,
            now,
            r#"redis_service_sentinels{state="known"} 6
               redis_service_sentinels{state="reachable"} 4
               redis_topology_info{kind="sentinel"} 1
               redvigil_discovery_age_seconds 0
               redvigil_discovery_members 1
               redvigil_discovery_up 0"#,
        );
    }

    #[test]
    fn who_holds_the_newer_epoch_of_two_is_right() {
        fn check(opinions: &[(u64, &str)], expected: usize) {
            let sentinel = |(epoch, names): &(u64, &str)| SentinelState {
                instance: "x:26379".into(),
                failure: None,
                usable: true,
                names: Some((*names).into()),
                epoch: Some(*epoch),
            };
            let sentinels = opinions.iter().map(sentinel).collect();
            let view = SentinelView { sentinels, ..SentinelView::default() };
            assert_eq!(disagreeing(&view), expected, "{opinions:?}");
        }
        check(&[], 0);
        check(&[(1, "a")], 0);
        check(&[(1, "a"), (2, "b")], 1);
        check(&[(1, "a"), (1, "a"), (2, "b")], 1);
        check(&[(1, "a"), (2, "b"), (2, "b")], 1);
        check(&[(1, "a"), (2, "a"), (3, "a")], 2);
    }

    #[test]
    fn a_cluster_says_what_becomes_of_its_slots() {
        let now = Instant::now();
        let view = ClusterView {
            is_ok: Some(false),
            epoch: 9,
            covered: 16_000,
            suspected: 84,
            failed: 200,
            uncovered: 100,
            migrating: 1,
            importing: 2,
            contested: 3,
            disagreeing: 1,
            nodes: 6,
            reachable: 5,
            shards: 3,
            without_replica: 1,
            ..ClusterView::default()
        };
        let service = Service { answered: Some(now), ..service("cluster", View::Cluster(view)) };
        check(
            &service,
            now,
            r#"redis_service_cluster_epoch 9
               redis_service_cluster_nodes{state="known"} 6
               redis_service_cluster_nodes{state="reachable"} 5
               redis_service_cluster_nodes{state="disagreeing"} 1
               redis_service_cluster_ok 0
               redis_service_cluster_slots{state="covered"} 16000
               redis_service_cluster_slots{state="suspected"} 84
               redis_service_cluster_slots{state="failed"} 200
               redis_service_cluster_slots{state="uncovered"} 100
               redis_service_cluster_slots{state="migrating"} 1
               redis_service_cluster_slots{state="importing"} 2
               redis_service_cluster_slots{state="contested"} 3
               redis_service_shards 3
               redis_service_shards_without_replica 1
               redis_topology_info{kind="cluster"} 1
               redvigil_discovery_age_seconds 0
               redvigil_discovery_members 1
               redvigil_discovery_up 1"#,
        );
        let failing = Service { failure: Some((Kind::Timeout, "silence".into())), ..service };
        check(
            &failing,
            now,
            r#"redis_service_cluster_nodes{state="known"} 6
               redis_service_cluster_nodes{state="reachable"} 0
               redis_topology_info{kind="cluster"} 1
               redvigil_discovery_age_seconds 0
               redvigil_discovery_members 1
               redvigil_discovery_up 0"#,
        );
    }
}
