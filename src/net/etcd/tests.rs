//! Keys and errors, and what is asked of a double; a real etcd is asked in `tests/etcd`.

use super::messages::{
    AUTHENTICATE, AuthenticateRequest, AuthenticateResponse, Header, LeaseRequest, LeaseResponse, WATCH,
};
use super::*;
use crate::config::Secret;
use crate::config::connect::Tls;
use crate::config::deliver::{Url, Word};
use crate::net::grpc::Code;
use crate::net::grpc::double::{Double, Says};
use crate::net::grpc::framed;
use prost::Message as _;
use std::sync::atomic::{AtomicU32, Ordering};

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn etcd(ports: &[u16], user: Option<(&str, Word)>) -> Etcd {
    let url = |port: &u16| Url { secure: false, host: "127.0.0.1".into(), port: *port, path: "/".into() };
    let user = user.map(|(name, word)| (name.to_owned(), word));
    Etcd { endpoints: ports.iter().map(url).collect(), user, tls: Tls::default() }
}

fn client(ports: &[u16]) -> Client {
    Client::new(&etcd(ports, None), Arc::default())
}

/// A port where nobody listens.
fn nobody() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    listener.local_addr().expect("an address").port()
}

fn page(keys: &[&str], revision: i64, more: bool) -> RangeResponse {
    let kv = |key: &&str| KeyValue { key: (*key).into(), ..KeyValue::default() };
    RangeResponse {
        header: Some(Header { revision, ..Header::default() }),
        kvs: keys.iter().map(kv).collect(),
        more,
    }
}

#[test]
fn a_prefix_ends_before_the_next_one() {
    fn check(prefix: &[u8], key: &[u8], end: &[u8]) {
        assert_eq!(Keys::prefix(prefix), Keys { key: key.into(), end: end.into() });
    }
    check(b"a", b"a", b"b");
    check(b"/a/", b"/a/", b"/a0");
    check(b"a\xff", b"a\xff", b"b");
    check(b"a\xfe", b"a\xfe", b"a\xff");
    // Behind these there is nothing but what begins with them.
    check(b"\xff\xff", b"\xff\xff", b"\0");
    check(b"", b"\0", b"\0");
    assert_eq!(Keys::one("a"), Keys { key: b"a".into(), end: vec![] });
}

#[test]
fn texts_of_etcd_have_kinds() {
    fn check(code: Code, message: &str, expected: Kind) {
        let error = Error::said(code, message.into(), "S".into());
        assert_eq!(error.kind(), expected, "{message}");
    }
    check(Code::NOT_FOUND, "etcdserver: requested lease not found", Kind::NoLease);
    check(Code::NOT_FOUND, "etcdserver: member not found", Kind::Refused);
    check(Code::UNAVAILABLE, "etcdserver: no leader", Kind::NoLeader);
    check(Code::UNAVAILABLE, "etcdserver: leader changed", Kind::Unavailable);
    check(Code::UNAVAILABLE, "etcdserver: request timed out", Kind::Unavailable);
    check(Code::OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted", Kind::Compacted);
    check(Code::OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision", Kind::Refused);
    check(Code::RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", Kind::NoSpace);
    check(Code::RESOURCE_EXHAUSTED, "etcdserver: too many requests", Kind::Refused);
    check(Code::RESOURCE_EXHAUSTED, "grpc: received message larger than max (5 vs. 4)", Kind::TooLarge);
    check(Code::RESOURCE_EXHAUSTED, "trying to send message larger than max (5 vs. 4)", Kind::TooLarge);
    check(Code::INVALID_ARGUMENT, "etcdserver: request is too large", Kind::TooLarge);
    check(Code::PERMISSION_DENIED, "etcdserver: permission denied", Kind::Denied);
    check(Code::PERMISSION_DENIED, "no", Kind::Denied);
    let wrong = "etcdserver: authentication failed, invalid user ID or password";
    check(Code::INVALID_ARGUMENT, wrong, Kind::Auth);
    check(Code::UNAUTHENTICATED, "etcdserver: invalid auth token", Kind::Auth);
    check(Code::INVALID_ARGUMENT, "etcdserver: revision of auth store is old", Kind::Auth);
    check(Code::INVALID_ARGUMENT, "etcdserver: user name is empty", Kind::Auth);
    check(Code::INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request", Kind::Refused);
    check(Code::DEADLINE_EXCEEDED, "context deadline exceeded", Kind::Silent);
}

#[test]
fn a_new_token_helps_where_the_old_one_is_to_blame() {
    fn check(message: &str, expected: bool) {
        let error = Error::said(Code::INVALID_ARGUMENT, message.into(), "S".into());
        assert_eq!(error.is_of_token(), expected, "{message}");
    }
    check("etcdserver: invalid auth token", true);
    check("etcdserver: revision of auth store is old", true);
    check("etcdserver: user name is empty", true);
    check("etcdserver: authentication failed, invalid user ID or password", false);
    check("etcdserver: permission denied", false);
}

#[test]
fn kinds_are_counted_by_their_place() {
    for (i, kind) in Kind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, i, "{}", kind.word());
    }
}

#[tokio::test]
async fn a_member_that_does_not_listen_is_left_for_the_next() {
    let server = Double::start(|_| Says::message(&page(&["a"], 7, false))).await;
    let client = client(&[nobody(), server.port]);
    // Never sent twice, but that it was not sent is certain.
    let written = client.put("a", "1", 0, deadline()).await.expect("written");
    assert_eq!((written, server.calls().len(), client.counts().moves), (7, 1, 1));
    assert_eq!(client.member(), (format!("127.0.0.1:{}", server.port).into(), true));
    client.get("a", deadline()).await.expect("read");
    assert_eq!((client.counts().connections, client.counts().moves), (1, 1));
    let error = self::client(&[nobody(), nobody()]).get("a", deadline()).await.expect_err("nobody");
    assert_eq!(error.kind(), Kind::Unreachable);
}

#[tokio::test]
async fn a_write_that_may_have_arrived_is_not_sent_twice() {
    async fn check(answer: fn() -> Says, kind: Kind, arrived_reads: usize, arrived_writes: usize) {
        let first = Double::start(move |_| answer()).await;
        let second = Double::start(|_| Says::message(&page(&[], 7, false))).await;
        let client = client(&[first.port, second.port]);
        let read = client.get("a", Instant::now() + Duration::from_secs(3)).await;
        let counted = (first.calls().len(), second.calls().len());
        assert!(read.is_ok() == (arrived_reads > 0), "{read:?}");
        assert_eq!(counted, (1, arrived_reads), "{kind:?}");
        let client = self::client(&[first.port, second.port]);
        let told = client.put("a", "1", 0, Instant::now() + Duration::from_millis(700)).await;
        assert_eq!(second.calls().len() - arrived_reads, arrived_writes, "{told:?}");
        if arrived_writes == 0 {
            assert_eq!(told.expect_err("once").kind(), kind);
        }
    }
    check(|| Says::Break, Kind::Broken, 1, 0).await;
    check(|| Says::Nothing, Kind::Silent, 1, 0).await;
    check(|| Says::Status(14, "etcdserver: request timed out"), Kind::Unavailable, 1, 0).await;
    check(|| Says::Body(vec![9], "0"), Kind::Protocol, 1, 0).await;
    // That is looked for before anything is done.
    check(|| Says::Status(14, "etcdserver: no leader"), Kind::NoLeader, 1, 1).await;
    // The next member would say the same.
    check(|| Says::Status(7, "etcdserver: permission denied"), Kind::Denied, 0, 0).await;
    check(|| Says::Status(3, "etcdserver: request is too large"), Kind::TooLarge, 0, 0).await;
}

#[tokio::test]
async fn a_connection_that_is_to_be_left_costs_no_write() {
    // As an etcd that is ended in good order does; whatever that does to the watch.
    let server = Double::start(|call| match &*call.path {
        WATCH => Says::Nothing,
        _ => Says::Farewell(framed(&page(&[], 7, false).encode_to_vec())),
    });
    let server = server.await;
    let client = client(&[server.port]);
    let mut watch = client.watch(Keys::one("a"), 5);
    for _ in 0..5 {
        let _ = tokio::time::timeout(Duration::from_millis(50), watch.next()).await;
        client.put("a", "1", 0, deadline()).await.expect("written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(client.counts().connections > 1);
}

#[test]
fn random_answers_of_etcd_are_read_or_refused() {
    let mut random = fastrand::Rng::with_seed(7);
    let kv = || KeyValue { key: b"k".into(), value: "v".into(), lease: 5, ..KeyValue::default() };
    let header = || Some(Header { revision: 40, ..Header::default() });
    let range = RangeResponse { header: header(), kvs: vec![kv(), kv()], more: true };
    let txn = TxnResponse {
        header: header(),
        succeeded: true,
        responses: vec![messages::ResponseOp { response: Some(messages::Response::Range(range.clone())) }],
    };
    let real = [range.encode_to_vec(), txn.encode_to_vec(), LeaseResponse { id: 5, ttl: 9 }.encode_to_vec()];
    for round in 0..30_000 {
        let mut bytes = real[round % real.len()].clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        bytes.truncate(random.usize(..=bytes.len()));
        // What is said to be longer than it is takes no memory, and nothing panics.
        if let Ok(answer) = RangeResponse::decode(&*bytes) {
            let page = Page::from(answer);
            assert!(page.kvs.len() <= bytes.len());
        }
        if let Ok(answer) = TxnResponse::decode(&*bytes) {
            let _ = Done::of(answer, &"S".into());
        }
        if let Ok(answer) = LeaseResponse::decode(&*bytes) {
            let _ = alive(answer.ttl).map(|ttl| Instant::now() + ttl * 2);
        }
    }
}

#[tokio::test]
async fn pages_are_of_one_revision_and_shrink_where_they_are_too_large() {
    let server = Double::start(|call| {
        let ask = RangeRequest::decode(&*call.message).expect("a request");
        match (ask.revision, &*ask.key) {
            _ if ask.limit > 125 => Says::Status(8, "trying to send message larger than max (9 vs. 8)"),
            (0, b"k") => Says::message(&page(&["k1", "k2"], 40, true)),
            (40, b"k2\0") => Says::message(&page(&["k3"], 44, false)),
            other => panic!("asked for {other:?}"),
        }
    });
    let server = server.await;
    let all = client(&[server.port]).all("k", deadline()).await.expect("all");
    let keys: Vec<_> = all.kvs.iter().map(|kv| &*kv.key).collect();
    assert_eq!((keys, all.revision), (vec![b"k1".as_slice(), b"k2", b"k3"], 40));
    assert_eq!(server.calls().len(), 3);
}

#[tokio::test]
async fn what_is_compacted_while_it_is_read_is_read_once_more() {
    async fn check(times: u32, expected: Result<i64, Kind>) {
        let left = AtomicU32::new(times);
        let server = Double::start(move |call| {
            let ask = RangeRequest::decode(&*call.message).expect("a request");
            let more = left.load(Ordering::Relaxed) > 0;
            if ask.revision == 0 {
                return Says::message(&page(&["k1"], 40, more));
            }
            left.fetch_sub(1, Ordering::Relaxed);
            Says::Status(11, "etcdserver: mvcc: required revision has been compacted")
        });
        let server = server.await;
        let all = client(&[server.port]).all("k", deadline()).await;
        assert_eq!(all.map(|all| all.revision).map_err(|error| error.kind()), expected);
    }
    check(0, Ok(40)).await;
    check(1, Ok(40)).await;
    check(2, Err(Kind::Compacted)).await;
}

#[tokio::test]
async fn a_lease_that_has_ended_is_told_as_such() {
    async fn check(ttl: i64, expected: Result<u64, Kind>) {
        let server = Double::start(move |call| {
            let id = LeaseRequest::decode(&*call.message).expect("a request").id;
            Says::message(&LeaseResponse { id, ttl })
        });
        let server = server.await;
        let told = client(&[server.port]).keep_alive(5, deadline()).await;
        assert_eq!(told.map(|ttl| ttl.as_secs()).map_err(|error| error.kind()), expected);
    }
    check(10, Ok(10)).await;
    // Whoever counts from now on comes to a time.
    check(i64::MAX, Ok(9_000_000_000)).await;
    check(0, Err(Kind::NoLease)).await;
    check(-1, Err(Kind::NoLease)).await;
}

/// Takes the newest of the tokens that it gave, if the password is right.
async fn guarded(right: &'static str) -> Double {
    let given = AtomicU32::new(0);
    Double::start(move |call| {
        if call.path == AUTHENTICATE {
            let ask = AuthenticateRequest::decode(&*call.message).expect("a request");
            if (&*ask.name, &*ask.password) != ("u", right) {
                return Says::Status(3, "etcdserver: authentication failed, invalid user ID or password");
            }
            let token = format!("t{}", given.fetch_add(1, Ordering::Relaxed) + 1);
            return Says::message(&AuthenticateResponse { token });
        }
        let newest = format!("t{}", given.load(Ordering::Relaxed));
        match call.headers.get("token") {
            Some(token) if *token == *newest => Says::message(&page(&[], 7, false)),
            Some(_) => Says::Status(16, "etcdserver: invalid auth token"),
            None => Says::Status(3, "etcdserver: user name is empty"),
        }
    })
    .await
}

#[tokio::test]
async fn a_token_is_got_once_and_again_when_it_is_refused() {
    let server = guarded("right").await;
    let client = |password: &str| {
        let word = Word::Given(Secret::new(password));
        Client::new(&etcd(&[server.port], Some(("u", word))), Arc::default())
    };
    let one = client("right");
    for _ in 0..3 {
        one.put("a", "1", 0, deadline()).await.expect("written");
    }
    assert_eq!(one.counts().tokens, 1);
    // Another one makes the first one's token old.
    client("right").get("a", deadline()).await.expect("read");
    // A write too is sent again: it was refused.
    one.put("a", "1", 0, deadline()).await.expect("written");
    assert_eq!(one.counts().tokens, 2);
    let error = client("wrong").get("a", deadline()).await.expect_err("wrong");
    assert_eq!(error.kind(), Kind::Auth);
    assert!(!format!("{error:?} {error}").contains("wrong"), "{error:?}");
    let error = self::client(&[server.port]).get("a", deadline()).await.expect_err("nobody");
    assert_eq!(error.kind(), Kind::Auth);
}

#[tokio::test]
async fn a_password_file_that_changes_brings_a_new_token() {
    let server = guarded("right").await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let word = Word::File(file.path().into());
    let client = Client::new(&etcd(&[server.port], Some(("u", word))), Arc::default());
    let check = async |text: &str, expected: Result<u64, Kind>| {
        std::fs::write(file.path(), text).expect("written");
        let told = client.get("a", deadline()).await.map(|_| client.counts().tokens);
        assert_eq!(told.map_err(|error| error.kind()), expected, "{text}");
    };
    check("", Err(Kind::Local)).await;
    check("wrong", Err(Kind::Auth)).await;
    check("right\n", Ok(1)).await;
    check("right", Ok(2)).await;
    check("changed", Err(Kind::Auth)).await;
}

#[tokio::test]
async fn where_nobody_asks_who_we_are_no_token_is_needed() {
    let server = Double::start(|call| {
        if call.path == AUTHENTICATE {
            return Says::Status(9, "etcdserver: authentication is not enabled");
        }
        assert!(!call.headers.contains_key("token"));
        Says::message(&page(&[], 7, false))
    });
    let server = server.await;
    let word = Word::Given(Secret::new("hunter2"));
    let client = Client::new(&etcd(&[server.port], Some(("u", word))), Arc::default());
    for _ in 0..2 {
        client.get("a", deadline()).await.expect("read");
    }
    assert_eq!((server.calls().len(), client.counts().tokens), (3, 0));
    assert!(!format!("{client:?}").contains("hunter2"), "{client:?}");
}
