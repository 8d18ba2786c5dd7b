//! `/api/v1/…`: services, targets and events as JSON, for people's scripts and for pages.
//!
//! The forms are described in `docs/api.md`. What is there stays; fields may be added. Unknown is `null`.
//!
//! What a newcomer would get wrong: the types here are those of the API and of nothing else. What rooms say among
//! themselves can change without anybody's script breaking.

use super::State;
use super::response::{self, Body};
use crate::connect::Kind;
use crate::discover::service::View as Members;
use crate::discover::{Member, Service};
use crate::peers::Duty;
use crate::resilience::health;
use crate::scrape::Slot;
use crate::scrape::slot::View;
use crate::scrape::store::OWN;
use hyper::Response;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

#[derive(Serialize)]
struct Services {
    services: Vec<ServiceJson>,
}

/// A service.
#[derive(Serialize)]
struct ServiceJson {
    name: String,
    kind: &'static str,
    /// Whether it can be written to, as far as we know.
    up: bool,
    /// `host:port`; null for a Cluster, which has several.
    master: Option<String>,
    labels: BTreeMap<String, String>,
    failover: Option<FailoverJson>,
    failovers: u64,
    failovers_aborted: u64,
    discovery: DiscoveryJson,
    sentinels: Option<Vec<SentinelJson>>,
    cluster: Option<ClusterJson>,
    members: Vec<MemberJson>,
    /// Which peer has it.
    owner: Option<String>,
}

#[derive(Serialize)]
struct FailoverJson {
    phase: &'static str,
    seconds: f64,
    members: Vec<String>,
}

/// How those who know the members are.
#[derive(Serialize)]
struct DiscoveryJson {
    /// Since when the last whole answer is.
    age_seconds: Option<f64>,
    reason: Option<&'static str>,
    error: Option<String>,
}

#[derive(Serialize)]
struct SentinelJson {
    instance: String,
    reason: Option<&'static str>,
    usable: bool,
    names: Option<String>,
    epoch: Option<u64>,
}

#[derive(Serialize)]
struct ClusterJson {
    ok: Option<bool>,
    epoch: u64,
    slots_covered: u32,
    slots_suspected: u32,
    slots_failed: u32,
    slots_uncovered: u32,
    slots_migrating: u32,
    slots_contested: u32,
    shards: u32,
    shards_without_replica: u32,
}

/// A member, short.
#[derive(Serialize)]
struct MemberJson {
    instance: String,
    shard: Option<String>,
    /// `master`, `replica` or `sentinel`.
    role: Option<&'static str>,
    health: &'static str,
    /// Why it is not ok.
    reason: Option<&'static str>,
    lag_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Targets {
    targets: Vec<TargetJson>,
}

/// A member, long.
#[derive(Serialize)]
struct TargetJson {
    service: String,
    #[serde(flatten)]
    member: MemberJson,
    address: String,
    labels: BTreeMap<String, String>,
    up: Option<bool>,
    /// What the last failure said.
    error: Option<String>,
    consecutive_failures: u32,
    /// Since when the health is what it is, in seconds.
    health_seconds: Option<f64>,
    breaker: &'static str,
    snapshot_age_seconds: Option<f64>,
    collection_seconds: Option<f64>,
    skipped_ticks: u64,
}

#[derive(Serialize)]
struct EventsJson {
    events: Vec<EventJson>,
}

/// Something that happened.
#[derive(Serialize)]
struct EventJson {
    /// Seconds since 1970.
    time: f64,
    service: String,
    kind: &'static str,
    from: Option<String>,
    to: Option<String>,
    message: String,
}

/// Answers `/api/v1/services`.
pub async fn services(state: State) -> Response<Body> {
    let now = Instant::now();
    let topology = state.topology.borrow().clone();
    let mut services = vec![];
    for service in &topology.services {
        services.push(service_json(&state, service, now));
        // Thousands of members take a while, and there is one thread.
        tokio::task::yield_now().await;
    }
    services.extend(own(&state).map(|slot| own_json(&slot)));
    json(&Services { services })
}

/// Answers `/api/v1/targets`.
pub async fn targets(state: State) -> Response<Body> {
    let now = Instant::now();
    let slots = state.store.slots();
    let mut targets = vec![];
    for slots in slots.chunks(100) {
        targets.extend(slots.iter().map(|slot| target_json(slot, now)));
        tokio::task::yield_now().await;
    }
    targets.extend(own(&state).map(|slot| target_json(&slot, now)));
    json(&Targets { targets })
}

/// Answers `/api/v1/events`.
pub async fn events(state: State) -> Response<Body> {
    let events = state.events.all().into_iter().map(|event| EventJson {
        time: event.time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        service: event.service,
        kind: event.kind.as_str(),
        from: event.from,
        to: event.to,
        message: event.message,
    });
    json(&EventsJson { events: events.collect() })
}

/// That as JSON.
pub(super) fn json(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_string(value) {
        Ok(text) => response::json(text + "\n"),
        Err(error) => response::error(hyper::StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

/// The target of `--redis.addr` as a service of one, where there are no others.
fn own(state: &State) -> Option<Arc<Slot>> {
    let config = state.config.borrow();
    let target = config.scrape.target.as_ref().filter(|_| config.discover.services.is_empty())?;
    Some(state.store.own(target))
}

fn own_json(slot: &Slot) -> ServiceJson {
    let view = slot.view();
    let role = slot.facts().and_then(|(facts, _)| facts.role).map(|role| role.as_str());
    let member = member_json(&slot.member, &view, role, None);
    ServiceJson {
        name: OWN.into(),
        kind: "instances",
        up: view.health == health::State::Ok,
        master: role.filter(|role| *role == "master").map(|_| slot.member.instance.to_string()),
        labels: BTreeMap::new(),
        failover: None,
        failovers: 0,
        failovers_aborted: 0,
        discovery: DiscoveryJson { age_seconds: None, reason: None, error: None },
        sentinels: None,
        cluster: None,
        members: vec![member],
        owner: None,
    }
}

fn service_json(state: &State, service: &Service, now: Instant) -> ServiceJson {
    let book = state.store.book(&service.name);
    let config = state.config.borrow().clone();
    let labels = config.discover.service(&service.name).map(|service| service.labels.clone());
    let slots = state.store.of_service(&service.name);
    let standing = state.peers.share.standing.borrow().clone();
    let text = |text: &Arc<str>| text.to_string();
    let verdict = book.map(|book| book.truth().judge(service, now)).unwrap_or_default();
    ServiceJson {
        name: service.name.to_string(),
        kind: service.kind,
        up: verdict.up.unwrap_or(false),
        master: verdict.master.as_ref().map(text),
        labels: labels.unwrap_or_default(),
        failover: service.failover.as_ref().map(|failover| FailoverJson {
            phase: failover.phase,
            seconds: now.saturating_duration_since(failover.began).as_secs_f64(),
            members: failover.members.iter().map(text).collect(),
        }),
        failovers: service.history.completed,
        failovers_aborted: service.history.aborted,
        discovery: DiscoveryJson {
            age_seconds: service.answered.map(|at| now.saturating_duration_since(at).as_secs_f64()),
            reason: service.failure.as_ref().map(|(kind, _)| kind.as_str()),
            error: service.failure.as_ref().map(|(_, message)| message.clone()),
        },
        sentinels: match &service.view {
            Members::Sentinel(view) => Some(
                view.sentinels
                    .iter()
                    .map(|sentinel| SentinelJson {
                        instance: sentinel.instance.to_string(),
                        reason: sentinel.failure.map(Kind::as_str),
                        usable: sentinel.usable,
                        names: sentinel.names.as_ref().map(text),
                        epoch: sentinel.epoch,
                    })
                    .collect(),
            ),
            _ => None,
        },
        cluster: match &service.view {
            Members::Cluster(view) => Some(ClusterJson {
                ok: view.is_ok,
                epoch: view.epoch,
                slots_covered: view.covered,
                slots_suspected: view.suspected,
                slots_failed: view.failed,
                slots_uncovered: view.uncovered,
                slots_migrating: view.migrating,
                slots_contested: view.contested,
                shards: view.shards,
                shards_without_replica: view.without_replica,
            }),
            _ => None,
        },
        members: match standing.duty(&service.name) {
            Duty::Theirs => service.members.iter().map(foreign).collect(),
            _ => slots.iter().map(|slot| member_of(slot, &slot.view())).collect(),
        },
        owner: standing.owner(&service.name).map(|peer| peer.id.clone()),
    }
}

/// A member that another peer collects.
fn foreign(member: &Arc<Member>) -> MemberJson {
    let nothing = Slot::new(OWN.into(), member.clone(), Arc::default()).view();
    member_json(member, &nothing, None, None)
}

/// A member, with what the book of its service says of it.
fn member_of(slot: &Slot, view: &View) -> MemberJson {
    let truth = slot.book.truth();
    let role = truth.role(&slot.member.instance).map(|role| role.as_str());
    member_json(&slot.member, view, role, truth.lag_bytes(&slot.member.instance))
}

fn member_json(
    member: &Member,
    view: &View,
    role: Option<&'static str>,
    lag_bytes: Option<u64>,
) -> MemberJson {
    MemberJson {
        instance: member.instance.to_string(),
        shard: member.shard.as_ref().map(ToString::to_string),
        role,
        health: view.health.as_str(),
        reason: view.reason.filter(|_| view.health != health::State::Ok),
        lag_bytes,
    }
}

fn target_json(slot: &Slot, now: Instant) -> TargetJson {
    let view = slot.view();
    let age = |at| now.saturating_duration_since(at).as_secs_f64();
    let snapshot = view.latest.as_ref().map(|latest| &latest.outcome.snapshot);
    TargetJson {
        service: slot.service.to_string(),
        address: slot.member.address.to_string(),
        labels: slot.member.labels.clone(),
        up: snapshot.map(|snapshot| snapshot.up),
        error: snapshot.and_then(|snapshot| snapshot.error.as_ref()).map(|(_, text)| text.clone()),
        consecutive_failures: view.consecutive,
        health_seconds: view.since.map(age),
        breaker: view.breaker.as_str(),
        snapshot_age_seconds: view.latest.as_ref().map(|latest| age(latest.taken)),
        collection_seconds: snapshot.and_then(|s| s.duration).map(|took| took.as_secs_f64()),
        skipped_ticks: view.skipped,
        member: member_of(slot, &view),
    }
}
