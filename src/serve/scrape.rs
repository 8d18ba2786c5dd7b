//! `/scrape?target=…`: any server that the caller names; `&service=…` says as whose member, where it is in several.
//!
//! A member of a service that another peer has is asked, too.
//!
//! What a newcomer would get wrong: whoever can reach us can name any host. So a target gets a password only
//! where the operator knows it ([`crate::config::credentials`]), a socket must be listed, and
//! `--scrape.allow` narrows the targets altogether.

use super::encode::Wish;
use super::query::Query;
use super::response::{self, Body};
use super::{State, fleet};
use crate::collect::run::Scope;
use crate::config::address::Endpoint;
use crate::config::credentials::Origin;
use crate::config::{Address, Config};
use crate::connect::Kind;
use crate::discover::{Member, Topology};
use crate::resilience::breaker::Asker;
use crate::scrape::shape::Outcome;
use crate::scrape::{Crowded, Job, Membership, Slot, Wanted, sets};
use crate::telemetry::metrics;
use exposition::Builder;
use hyper::{HeaderMap, Request, Response, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// How long a collection may take where the caller sets no time-out: key scans of huge servers may, as long
/// as there is something to hear. It is there so that a server that drips for ever is left some day.
const LONGEST: Duration = Duration::from_secs(3600);

/// Answers `/scrape`.
pub async fn page(state: State, request: Request<()>) -> Response<Body> {
    let config = state.config.borrow().clone();
    if !config.serve.scrape_endpoint {
        return response::error(StatusCode::NOT_FOUND, "404 page not found");
    }
    let query = Query::parse(request.uri().query());
    let has_services = !config.discover.services.is_empty();
    let service = query.get("service");
    let topology = state.topology.borrow().clone();
    let mut is_theirs = false;
    let find = |address: &Address| {
        if !has_services {
            return None;
        }
        state.store.find(service, address).or_else(|| {
            let foreign = foreign(&topology, service, address)?;
            is_theirs = true;
            Some(foreign)
        })
    };
    let (job, slot) = match wanted(&config, &query, find) {
        Ok(asked) => asked,
        Err(Refused::Bad(reason)) => {
            state.metrics.bad_requests.increment();
            return response::error(StatusCode::BAD_REQUEST, reason);
        }
        Err(Refused::Denied(reason)) => {
            state.metrics.denied.increment();
            return response::error(StatusCode::FORBIDDEN, reason);
        }
    };
    let (job, member) = match &slot {
        Some(slot) => match membership(&config, slot, &job) {
            Some((job, member)) => (job, member.filter(|_| !is_theirs)),
            None => return response::error(StatusCode::NOT_FOUND, "this member is no longer one"),
        },
        None => (job, None),
    };
    let is_stranger = job.place.login.credentials.is_none();
    let Ok(outcome) = outcome(&state, request.headers(), job.clone(), member).await else {
        state.metrics.overloaded.increment();
        let reason = "too many collections are under way: there was no room for this one in time";
        return response::busy(StatusCode::SERVICE_UNAVAILABLE, reason);
    };
    if is_stranger && matches!(outcome.snapshot.error, Some((Kind::Auth, _))) {
        hint(&job.place.address);
    }
    let collect = slot.as_ref().map_or(&config.collect, |slot| sets::collect(&config, &slot.service));
    let mut out = Builder::with_namespace(&collect.namespace);
    outcome.record(collect.role_label, !config.serve.redis_only, &mut out);
    metrics::record_bad_requests(0, &mut out);
    if !config.serve.redis_only {
        metrics::record_build(&mut out);
    }
    // Of a member that is not ours nothing else is known here.
    let view = slot.as_ref().filter(|_| !is_theirs).map(|slot| slot.view());
    if let (Some(slot), Some(view)) = (&slot, &view) {
        sets::record_member(slot, view, !config.serve.redis_only, std::time::Instant::now(), &mut out);
    }
    let own = out.finish();
    let wish = Wish::of(request.headers(), &query, config.serve.prefer_openmetrics);
    let scanned = view.iter().filter(|_| job.scope == Scope::WithoutKeys).flat_map(fleet::with_keys);
    wish.page(outcome.snapshot.parts.iter().map(|part| &**part).chain(scanned).chain([&own])).await
}

/// The member that is reached there, of a service of another peer. Who asks us goes by an old list, and is answered all the
/// same: from a collection of its own, with the credentials of the member, which nothing is kept of.
fn foreign(topology: &Topology, service: Option<&str>, address: &Address) -> Option<Arc<Slot>> {
    let services = topology.services.iter();
    let mut services = services.filter(|known| service.is_none_or(|service| *known.name == *service));
    services.find_map(|service| {
        let is_it = |member: &&Arc<Member>| member.address.endpoint == address.endpoint;
        let member = service.members.iter().find(is_it)?;
        Some(Arc::new(Slot::new(service.name.clone(), member.clone(), Arc::default())))
    })
}

/// A request for a member: the same job as a tick's, so that they share a collection. One that names keys of its
/// own is nobody else's business: what it finds and how long that takes says nothing of the member. The database
/// and TLS of the request are those of the member.
fn membership(config: &Config, slot: &Arc<Slot>, asked: &Job) -> Option<(Job, Option<Membership>)> {
    if asked.keys != sets::collect(config, &slot.service).keys {
        let mut job = Job::of_member(config, &slot.service, &slot.member, Scope::Everything)?;
        job.keys = asked.keys.clone();
        return Some((job, None));
    }
    let job = Job::of_member(config, &slot.service, &slot.member, Scope::WithoutKeys)?;
    let member = Membership { slot: slot.clone(), asker: Asker::Pull, guarded: true };
    Some((job, Some(member)))
}

/// Why a request gets no collection.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    /// It cannot be understood: 400.
    Bad(String),
    /// The operator does not want it: 403.
    Denied(String),
}

/// What a request asks for, and of which member. Keys that it does not name are those of the member's service.
fn wanted(
    config: &Config,
    query: &Query,
    find: impl FnOnce(&Address) -> Option<Arc<Slot>>,
) -> Result<(Job, Option<Arc<Slot>>), Refused> {
    if let Some(name) = query.broken() {
        return Err(Refused::Bad(format!("Invalid '{name}' parameter: its encoding is broken")));
    }
    let target = query.get("target");
    let target = target.ok_or_else(|| Refused::Bad("'target' parameter must be specified".into()))?;
    let address = Address::parse(target)
        .map_err(|error| Refused::Bad(format!("Invalid 'target' parameter: {error}")))?;
    let slot = find(&address);
    let collect = match &slot {
        Some(slot) => sets::collect(config, &slot.service),
        None => {
            admit(config, &address).map_err(Refused::Denied)?;
            &config.collect
        }
    };
    let given = query.pairs().filter(|(_, value)| !value.is_empty());
    let keys = collect.keys.with_query(given);
    let keys = keys.map_err(|error| Refused::Bad(format!("Invalid parameter: {error}")))?;
    let mut job = Job::of_address(config, &address, Origin::Request, keys);
    if let Some(name) = query.get("tls_server_name").or_else(|| query.get("tls-server-name")) {
        // Of no use without TLS, where it would only make another target of the same server.
        if job.place.address.tls {
            job.place.tls.server_name = Some(name.to_owned());
        }
    }
    Ok((job, slot))
}

/// Whether a request may have this target; else the reason.
fn admit(config: &Config, address: &Address) -> Result<(), String> {
    let allow = &config.scrape.allow;
    let is_own = config.scrape.target.as_ref().is_some_and(|own| own.endpoint == address.endpoint);
    if allow.iter().any(|pattern| pattern.matches(&address.endpoint)) {
        return Ok(());
    }
    match address.endpoint {
        _ if allow.is_empty() && !config.discover.services.is_empty() => {
            Err("this target is no member of a service, and --scrape.allow lists no others".into())
        }
        _ if !allow.is_empty() => Err("this target is not among those of --scrape.allow".into()),
        Endpoint::Unix(_) if !is_own => Err("a unix socket must be listed in --scrape.allow".into()),
        _ => Ok(()),
    }
}

/// Tells the operator, once, why a target does not let us in.
fn hint(target: &Address) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        warn!(
            target = %target,
            "a target of /scrape wants a password and gets none: name it in --redis.password-file, or list it \
             in --scrape.credentials-for to give it --redis.password; this is said once"
        );
    }
}

/// Collects within the time that Prometheus gives us, if it says so.
pub async fn outcome(
    state: &State,
    headers: &HeaderMap,
    job: Job,
    member: Option<Membership>,
) -> Result<Outcome, Crowded> {
    let end = end(&state.config.borrow(), headers);
    state.scraper.collect(Wanted { job, end, member }).await
}

/// When the answer must leave.
pub fn end(config: &Config, headers: &HeaderMap) -> Instant {
    let header = headers.get("x-prometheus-scrape-timeout-seconds");
    let given = header.and_then(|value| value.to_str().ok()).and_then(|value| value.parse().ok());
    let timeout = given.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    let time = timeout
        .filter(|timeout| !timeout.is_zero())
        .map_or(LONGEST, |timeout| (timeout - config.scrape.timeout_offset.min(timeout / 4)).min(LONGEST));
    Instant::now() + time
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::collect::{KeyPattern, Keys};
    use crate::config::scrape::HostPattern;
    use crate::config::{Collect, discover};
    use crate::discover::fixed::member;
    use hyper::header::HeaderValue;
    use std::collections::BTreeMap;

    fn check(allow: &str, query: &str, expected: Result<&str, Refused>) {
        let mut config = Config::default();
        config.scrape.allow = HostPattern::parse_list(allow).expect("patterns");
        config.scrape.target = Some(Address::parse("unix:///own.sock").expect("an address"));
        let job = wanted(&config, &Query::parse(Some(query)), |_| None)
            .map(|(job, _)| job.place.address.to_string());
        match (job, expected) {
            (Err(Refused::Bad(reason)), Err(Refused::Bad(start))) => {
                assert!(reason.starts_with(&start), "{reason}")
            }
            (Err(Refused::Denied(reason)), Err(Refused::Denied(start))) => {
                assert!(reason.contains(&start), "{reason}")
            }
            (job, expected) => assert_eq!(job, expected.map(Into::into), "{allow} {query}"),
        }
    }

    #[test]
    fn what_cannot_be_understood_is_told_by_parameter() {
        let bad = |start: &str| Err(Refused::Bad(start.into()));
        check("", "target=h", Ok("redis://h:6379"));
        check("", "target=rediss://u:p@h:1/3", Ok("rediss://h:1/3"));
        for query in ["", "target=", "other=h"] {
            check("", query, bad("'target' parameter must be specified"));
        }
        for target in ["://nope", "h:6379-", "http://h", "h%20h", "h:0x1"] {
            check("", &format!("target={target}"), bad("Invalid 'target' parameter: "));
        }
        check("", "target=%zz", bad("Invalid 'target' parameter: its encoding"));
        check("", "target=h&check-streams=1=2=3=4", bad("Invalid parameter: check-streams "));
        check("", "target=h&check-keys=dbx=k", bad("Invalid parameter: check-keys "));
        check("", "target=h&count-keys=db-1=k", bad("Invalid parameter: count-keys "));
    }

    #[test]
    fn sockets_and_targets_outside_the_list_are_denied() {
        let denied = |words: &str| Err(Refused::Denied(words.into()));
        check("", "target=unix:///x.sock", denied("unix socket"));
        check("", "target=unix:///own.sock", Ok("unix:///own.sock"));
        check("unix:///run/*", "target=unix:///run/x.sock", Ok("unix:///run/x.sock"));
        check("unix:///run/*", "target=h", denied("--scrape.allow"));
        check("10.0.0.0/8", "target=10.1.2.3:7000", Ok("redis://10.1.2.3:7000"));
        check("10.0.0.0/8", "target=11.1.2.3", denied("--scrape.allow"));
        check("10.0.0.0/8", "target=unix:///own.sock", denied("--scrape.allow"));
    }

    #[test]
    fn the_server_name_of_a_request_replaces_that_of_the_flags() {
        for (query, expected) in [
            ("target=rediss://h", "flag"),
            ("target=h&tls_server_name=a", "flag"),
            ("target=rediss://h&tls_server_name=", "flag"),
            ("target=rediss://h&tls_server_name=a", "a"),
            ("target=rediss://h&tls-server-name=b", "b"),
            ("target=rediss://h&tls-server-name=b&tls_server_name=a", "a"),
        ] {
            let mut config = Config::default();
            config.connect.tls.server_name = Some("flag".into());
            let (job, _) = wanted(&config, &Query::parse(Some(query)), |_| None).expect(query);
            assert_eq!(job.place.tls.server_name.as_deref(), Some(expected), "{query}");
        }
    }

    #[test]
    fn keys_that_a_request_does_not_name_are_those_of_the_members_service() {
        let pattern = |pattern: &str| vec![KeyPattern { db: 0, pattern: pattern.into() }];
        let keys = |check: &str, count: &str| Keys {
            check: pattern(check),
            count: pattern(count),
            ..Keys::default()
        };
        let mut config = Config::default();
        config.collect.keys = keys("all", "all");
        let collect = Collect { keys: keys("orders", "orders"), ..Collect::default() };
        config.discover.services.push(Arc::new(discover::Service {
            collect: Arc::new(collect),
            ..discover::Service::new("orders", discover::Source::Instances(vec![]))
        }));
        let member = Arc::new(member(Address::tcp("h", 1), BTreeMap::new()));
        let slot = Arc::new(Slot::new("orders".into(), member, Arc::default()));
        // The keys that are looked for, and whether the collection is the member's own.
        let mut check = |query: &str, is_member: bool, expected: Keys, expected_own: bool| {
            let find = |_: &Address| is_member.then(|| slot.clone());
            config.scrape.allow =
                HostPattern::parse_list(if is_member { "" } else { "h" }).expect("patterns");
            let (mut job, found) = wanted(&config, &Query::parse(Some(query)), find).expect(query);
            let mut is_own = false;
            if let Some(slot) = found {
                let (of_member, membership) = membership(&config, &slot, &job).expect("it is a member");
                is_own = membership.is_some();
                job = if is_own { job } else { of_member };
            }
            assert_eq!((job.keys, is_own), (expected, expected_own), "{query} {is_member}");
        };
        check("target=h:1&check-keys=mine", true, keys("mine", "orders"), false);
        check("target=h:1&count-keys=mine", true, keys("orders", "mine"), false);
        check("target=h:1", true, keys("orders", "orders"), true);
        check("target=h:1&check-keys=mine", false, keys("mine", "all"), false);
    }

    #[test]
    fn a_member_of_another_peer_is_found_by_service_and_address() {
        let service = |(name, port): (&str, u16)| {
            let members = vec![Arc::new(member(Address::tcp("h", port), BTreeMap::new()))];
            Arc::new(crate::discover::Service {
                members,
                ..crate::discover::Service::unknown(name.into(), "instances")
            })
        };
        let services: Vec<_> = [("one", 1), ("two", 1), ("three", 3)].into_iter().map(service).collect();
        let topology = Topology { services: services.into() };
        let check = |service: Option<&str>, port: u16, expected: Option<&str>| {
            let found = foreign(&topology, service, &Address::tcp("h", port));
            assert_eq!(found.as_ref().map(|slot| &*slot.service), expected, "{service:?} {port}");
        };
        check(None, 1, Some("one"));
        check(Some("two"), 1, Some("two"));
        check(Some("three"), 1, None);
        check(None, 3, Some("three"));
        check(Some("none"), 3, None);
        check(None, 2, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_leaves_before_the_time_out_of_prometheus() {
        let check = |header: &str, expected_ms: u64| {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_str(header).expect("a value");
            headers.insert("x-prometheus-scrape-timeout-seconds", value);
            let end = end(&Config::default(), &headers);
            assert_eq!(end - Instant::now(), Duration::from_millis(expected_ms), "{header}");
        };
        check("10", 9_500);
        check("10.000000", 9_500);
        check("1", 750);
        check("0.2", 150);
        for header in ["", "x", "-1", "0", "NaN", "inf", "1e300", "7200"] {
            check(header, 3_600_000);
        }
    }
}
