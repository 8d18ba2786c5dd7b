//! What a watch makes of answers; real ones are in `tests/etcd`.

use super::super::messages::{Header, KeyValue};
use super::*;

fn place(from: i64) -> Place {
    Place { keys: Keys::prefix("a"), from, pieces: vec![], size: 0 }
}

fn event(kind: i32, revision: i64) -> Event {
    let kv = KeyValue { key: b"a1".into(), mod_revision: revision, ..KeyValue::default() };
    Event { kind, kv: Some(kv) }
}

fn answer(revision: i64, events: Vec<Event>) -> WatchResponse {
    WatchResponse {
        header: Some(Header { revision, ..Header::default() }),
        events,
        ..WatchResponse::default()
    }
}

/// What is told, as the revisions of the changes, and where the watch goes on.
fn check(from: i64, answers: Vec<WatchResponse>, expected: Result<&[&[i64]], &str>, next: i64) {
    let mut place = place(from);
    let told: Result<Vec<_>, _> = answers
        .into_iter()
        .map(|answer| place.read(answer, &"S".into()))
        .filter_map(Result::transpose)
        .map(|changes| {
            changes.map(|changes| {
                let revisions: Vec<_> = changes.events.iter().map(Change::revision).collect();
                assert_eq!(Some(&changes.revision), revisions.iter().max());
                revisions
            })
        })
        .collect();
    let expected = expected.map(|all| all.iter().map(|changes| changes.to_vec()).collect::<Vec<_>>());
    assert_eq!(told.map_err(|error| error.to_string()), expected.map_err(Into::into));
    assert_eq!(place.from, next);
}

#[test]
fn changes_are_told_and_move_the_place() {
    check(5, vec![answer(9, vec![event(0, 5), event(1, 7)])], Ok(&[&[5, 7]]), 8);
    check(5, vec![answer(9, vec![event(0, 5)]), answer(9, vec![event(0, 9)])], Ok(&[&[5], &[9]]), 10);
    // How far it is may be ahead of what has been sent.
    check(5, vec![answer(9, vec![])], Ok(&[]), 5);
    check(5, vec![], Ok(&[]), 5);
}

#[test]
fn a_watch_from_now_on_remembers_when_that_was() {
    let created = |revision| WatchResponse { created: true, ..answer(revision, vec![]) };
    check(0, vec![created(9)], Ok(&[]), 10);
    check(5, vec![created(9)], Ok(&[]), 5);
    check(0, vec![created(9), answer(12, vec![event(0, 12)])], Ok(&[&[12]]), 13);
}

#[test]
fn pieces_are_told_together() {
    let piece = |revision| WatchResponse { fragment: true, ..answer(9, vec![event(0, revision)]) };
    check(5, vec![piece(5), piece(6), answer(9, vec![event(1, 6)])], Ok(&[&[5, 6, 6]]), 7);
    // Cut between two of them nothing has been told, and all of it comes again.
    check(5, vec![piece(5), piece(6)], Ok(&[]), 5);
}

#[test]
fn pieces_without_end_are_an_error() {
    let large = |revision| {
        let mut event = event(0, revision);
        event.kv.as_mut().expect("a key").value = vec![0; 1 << 20].into();
        WatchResponse { fragment: true, ..answer(9, vec![event]) }
    };
    let answers = (0..40).map(large).collect();
    check(5, answers, Err("too much for one message: changes of more than 33554432 bytes at once"), 5);
}

#[test]
fn a_watch_that_is_cancelled_says_why() {
    fn cancelled(compact_revision: i64, reason: &str) -> WatchResponse {
        let cancel_reason = reason.into();
        WatchResponse { canceled: true, compact_revision, cancel_reason, ..answer(9, vec![]) }
    }
    check(5, vec![cancelled(7, "")], Err("the revision is compacted"), 5);
    check(5, vec![cancelled(0, "etcdserver: no leader")], Err("etcd at S has no leader"), 5);
    check(5, vec![cancelled(0, "")], Err("etcd at S cannot do that now: "), 5);
    let denied = "etcdserver: permission denied";
    check(
        5,
        vec![cancelled(0, denied)],
        Err("etcd at S does not permit that: etcdserver: permission denied"),
        5,
    );
    let token = "etcdserver: invalid auth token";
    let told = "etcd at S does not accept who we are: etcdserver: invalid auth token";
    check(5, vec![cancelled(0, token)], Err(told), 5);
    // Created and cancelled in one, as etcd says it of a user who may not.
    check(
        0,
        vec![WatchResponse { created: true, ..cancelled(0, denied) }],
        Err("etcd at S does not permit that: etcdserver: permission denied"),
        0,
    );
}

#[test]
fn what_is_no_change_is_an_error() {
    let none = Event { kind: 0, kv: None };
    check(5, vec![answer(9, vec![none])], Err("S does not speak as an etcd does: a change of no key"), 5);
    let unknown = vec![answer(9, vec![event(2, 5)])];
    check(5, unknown, Err("S does not speak as an etcd does: a change of no known kind"), 5);
}

#[test]
fn random_bytes_are_answers_or_errors() {
    let mut random = fastrand::Rng::with_seed(5);
    let real = answer(9, vec![event(0, 5), event(1, 7)]).encode_to_vec();
    for _ in 0..20_000 {
        let mut bytes = real.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        bytes.truncate(random.usize(..=bytes.len()));
        if let Ok(answer) = WatchResponse::decode(&*bytes) {
            let _ = place(5).read(answer, &"S".into());
        }
    }
}
