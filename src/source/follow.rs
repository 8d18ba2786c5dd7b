//! The loop that all remote sources share: what was read is published, what failed is told and tried again.
//!
//! What a newcomer would get wrong: a source waits by itself for a change, for minutes. So pauses here are for failures alone,
//! and a document that is not there is none that waits for one: the source sees it come.

use super::{Document, Failure, Fault, Kind, State, consul, etcd, nacos};
use crate::config::source::Remote;
use crate::net::tls;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

/// The first pause after a failure; it doubles from one to the next.
const FIRST: Duration = Duration::from_millis(250);

/// The longest pause: how late the end of an outage may be seen.
const LONGEST: Duration = Duration::from_secs(10);

/// Follows a document and publishes what is known of it. Never returns; asks nobody before it is polled.
pub async fn follow(remote: Arc<Remote>, clients: Arc<tls::Clients>, publish: watch::Sender<State>) {
    let place: Arc<str> = remote.to_string().into();
    let mut source = Source::new(&remote, clients);
    let mut failed = 0;
    loop {
        match source.next().await {
            Ok(read) => {
                failed = 0;
                answered(&publish, &place, read);
            }
            Err(fault) => {
                failed += 1;
                let pause = pause(failed, fault.kind, fastrand::f64());
                failing(&publish, &place, fault);
                sleep(pause).await;
            }
        }
    }
}

/// Reads a document once, for the start. Who is not there yet is tried until the deadline, and who refuses us is not: that does
/// not pass.
pub async fn first(
    remote: &Arc<Remote>,
    clients: Arc<tls::Clients>,
    deadline: Instant,
) -> Result<Document, Failure> {
    let (publish, mut state) = watch::channel(State::default());
    let following = follow(remote.clone(), clients, publish);
    let reading = async {
        let known = |state: &State| {
            state.latest.is_some() || state.failure.as_ref().is_some_and(|failure| !failure.kind.may_pass())
        };
        let _ = state.wait_for(known).await;
    };
    let _ = timeout_at(deadline, async {
        tokio::select! {
            () = following => {}
            () = reading => {}
        }
    })
    .await;
    let State { latest, failure, .. } = state.borrow().clone();
    latest.ok_or_else(|| {
        failure.unwrap_or_else(|| Failure {
            kind: Kind::Timeout,
            text: "no answer in time".into(),
            since: SystemTime::now(),
        })
    })
}

/// A place that a document is read from.
enum Source {
    Etcd(Box<etcd::Source>),
    Consul(Box<consul::Source>),
    Nacos(Box<nacos::Source>),
}

impl Source {
    fn new(remote: &Remote, clients: Arc<tls::Clients>) -> Self {
        match remote {
            Remote::Etcd { etcd, key } => Self::Etcd(Box::new(etcd::Source::new(etcd, key, clients))),
            Remote::Consul { endpoint, key } => {
                Self::Consul(Box::new(consul::Source::new(endpoint, key, clients)))
            }
            Remote::Nacos { endpoint, user, id, group, namespace, api } => {
                let what = nacos::What::new(id, group, namespace);
                Self::Nacos(Box::new(nacos::Source::new(endpoint, user.clone(), what, *api, clients)))
            }
        }
    }

    /// Waits until the document is another one than before, and reads it: its text and its version. `None`: somebody answered
    /// that it is the same.
    async fn next(&mut self) -> Result<Option<Read>, Fault> {
        match self {
            Self::Etcd(source) => source.next().await,
            Self::Consul(source) => source.next().await,
            Self::Nacos(source) => source.next().await,
        }
    }
}

/// What was read of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// What it says.
    pub(super) text: Arc<str>,
    /// Which version that is.
    pub(super) version: String,
}

/// How long is waited after that many failures in a row, from 1; `random` is from 0 to 1.
fn pause(failed: u32, kind: Kind, random: f64) -> Duration {
    if matches!(kind, Kind::Missing | Kind::NotText) {
        // It answers, and the next question waits for a change.
        return Duration::ZERO;
    }
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1)));
    doubled.min(LONGEST).mul_f64(0.75 + 0.25 * random.clamp(0.0, 1.0))
}

fn answered(publish: &watch::Sender<State>, place: &Arc<str>, read: Option<Read>) {
    publish.send_if_modified(|state| {
        state.answered = Some(SystemTime::now());
        let new = read.map(|Read { text, version }| Document { place: place.clone(), text, version });
        // Who says that nothing is new has told what is wrong with what there is.
        let is_well_again = (new.is_some()
            || state.failure.as_ref().is_some_and(|f| !f.kind.is_of_document()))
            && state.failure.take().is_some();
        if is_well_again {
            info!(source = %place, "the source of the configuration answers again");
        }
        let is_new = new.is_some() && new != state.latest;
        if is_new {
            state.latest = new;
        }
        is_new || is_well_again
    });
}

fn failing(publish: &watch::Sender<State>, place: &Arc<str>, fault: Fault) {
    publish.send_if_modified(|state| {
        let Fault { kind, text } = fault;
        state.failures += 1;
        if kind.is_of_document() {
            state.answered = Some(SystemTime::now());
        }
        let known = state.failure.as_ref();
        let since = known.map_or_else(SystemTime::now, |failure| failure.since);
        if known.is_none_or(|failure| failure.kind != kind) {
            warn!(source = %place, kind = kind.word(), error = text, "the configuration cannot be read: what runs goes on");
        }
        let failure = Some(Failure { kind, text, since });
        let is_new = state.failure != failure;
        state.failure = failure;
        is_new
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_ten_seconds_and_are_for_failures_that_last() {
        fn check(failed: u32, kind: Kind, random: f64, expected_ms: u64) {
            assert_eq!(pause(failed, kind, random), Duration::from_millis(expected_ms), "{failed} {kind:?}");
        }
        check(1, Kind::Unreachable, 1.0, 250);
        check(2, Kind::Unreachable, 1.0, 500);
        check(5, Kind::Timeout, 0.0, 3_000);
        check(6, Kind::Refused, 1.0, 8_000);
        check(7, Kind::TooLarge, 1.0, 10_000);
        check(u32::MAX, Kind::Local, 0.0, 7_500);
        check(9, Kind::Missing, 1.0, 0);
        check(9, Kind::NotText, 1.0, 0);
    }

    #[test]
    fn a_failure_takes_nothing_back_and_is_published_once() {
        let (publish, mut state) = watch::channel(State::default());
        let place: Arc<str> = "consul://h/k".into();
        let mut check = |is_published: bool, latest: Option<&str>, failure: Option<Kind>, failures: u64| {
            assert_eq!(state.has_changed().expect("there"), is_published);
            let now = state.borrow_and_update();
            assert_eq!(now.latest.as_ref().map(|document| &*document.version), latest);
            assert_eq!((now.failure.as_ref().map(|failure| failure.kind), now.failures), (failure, failures));
        };
        let read = |version: &str| Some(Read { text: "a: 1".into(), version: version.into() });
        let fail = |kind| Fault { kind, text: "no".into() };
        check(false, None, None, 0);
        failing(&publish, &place, fail(Kind::Unreachable));
        check(true, None, Some(Kind::Unreachable), 1);
        failing(&publish, &place, fail(Kind::Unreachable));
        check(false, None, Some(Kind::Unreachable), 2);
        answered(&publish, &place, read("1"));
        check(true, Some("1"), None, 2);
        answered(&publish, &place, None);
        answered(&publish, &place, read("1"));
        check(false, Some("1"), None, 2);
        answered(&publish, &place, read("2"));
        check(true, Some("2"), None, 2);
        failing(&publish, &place, fail(Kind::Timeout));
        check(true, Some("2"), Some(Kind::Timeout), 3);
        answered(&publish, &place, None);
        check(true, Some("2"), None, 3);
        // It is gone: that nothing is new since does not bring it back.
        failing(&publish, &place, fail(Kind::Missing));
        check(true, Some("2"), Some(Kind::Missing), 4);
        answered(&publish, &place, None);
        check(false, Some("2"), Some(Kind::Missing), 4);
        answered(&publish, &place, read("2"));
        check(true, Some("2"), None, 4);
    }
}
