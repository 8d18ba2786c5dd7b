//! Frames, statuses, and calls to a server of hyper's own; calls to a real etcd are in `tests/etcd`.

use super::double::{Double, Says};
use super::*;
use crate::config::deliver::Url;
use hyper::StatusCode;

/// A message of one text.
#[derive(Clone, PartialEq, Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

fn text(text: &str) -> Text {
    Text { text: text.into() }
}

#[test]
fn a_message_is_whole_whatever_the_pieces() {
    let mut body = framed(b"one");
    body.extend(framed(b""));
    body.extend(framed(&[7; 300]));
    for size in 1..=body.len() {
        let mut frames = Frames::default();
        let mut found = vec![];
        for piece in body.chunks(size) {
            frames.push(piece);
            while let Some(message) = frames.next().expect("messages") {
                found.push(message.to_vec());
            }
        }
        assert_eq!(found, [b"one".to_vec(), vec![], vec![7; 300]], "pieces of {size}");
        assert!(frames.is_empty());
    }
}

#[test]
fn what_is_no_message_is_an_error() {
    fn check(body: &[u8], expected: Result<Option<usize>, &str>) {
        let mut frames = Frames::default();
        frames.push(body);
        let found = frames.next().map(|message| message.map(|message| message.len()));
        assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(Into::into));
    }
    check(&[], Ok(None));
    check(&[0, 0, 0, 0], Ok(None));
    check(&[0, 0, 0, 0, 0], Ok(Some(0)));
    check(&[0, 0, 0, 0, 2, 1], Ok(None));
    check(&[0, 0, 0, 0, 2, 1, 1, 0], Ok(Some(2)));
    check(&[1, 0, 0, 0, 0], Err("a message is compressed, which nobody asked for"));
    check(b"HTTP/1.1", Err("a message is compressed, which nobody asked for"));
    // The length alone is enough: nothing is kept for it.
    check(&[0, 0, 0x80, 0, 0], Ok(None));
    check(&[0, 0, 0x80, 0, 1], Err("a message of 8388609 bytes, where 8388608 are the most"));
    check(&[0, 255, 255, 255, 255], Err("a message of 4294967295 bytes, where 8388608 are the most"));
}

#[test]
fn random_bytes_are_messages_or_errors() {
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..20_000 {
        let mut frames = Frames::default();
        let mut body: Vec<u8> = (0..random.usize(..64)).map(|_| random.u8(..)).collect();
        // Most are cut off by their first bytes otherwise.
        for byte in body.iter_mut().take(4) {
            *byte = if random.u8(..4) > 0 { 0 } else { *byte };
        }
        let mut left = body.len();
        for piece in body.chunks(1 + random.usize(..8)) {
            frames.push(piece);
            while let Ok(Some(message)) = frames.next() {
                left -= message.len() + 5;
                let _ = decoded::<Text>(message);
            }
        }
        assert!(left <= body.len());
    }
}

#[test]
fn heads_and_trailers_say_how_it_ended() {
    fn check(status: u16, headers: &[(&'static str, &'static str)], expected: Result<bool, &str>) {
        let map: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let code = StatusCode::from_u16(status).expect("a status");
        let told = status::of_head(code, &map).map(|()| status::of(&map).is_some());
        assert_eq!(told.map_err(|error| error.to_string()), expected.map_err(Into::into));
    }
    const GRPC: (&str, &str) = ("content-type", "application/grpc");
    check(200, &[GRPC], Ok(false));
    check(200, &[("content-type", "application/grpc+proto"), ("grpc-status", "0")], Ok(true));
    check(200, &[], Err("the answer is none of gRPC"));
    check(200, &[("content-type", "text/html")], Err("the answer is none of gRPC"));
    check(503, &[GRPC], Err("gRPC status 14: HTTP 503 Service Unavailable"));
    check(404, &[], Err("gRPC status 12: HTTP 404 Not Found"));
    check(418, &[], Err("gRPC status 2: HTTP 418 I'm a teapot"));
    check(200, &[GRPC, ("grpc-status", "x")], Err("the status is no number"));
    check(200, &[GRPC, ("grpc-status", "-1")], Err("the status is no number"));
    check(200, &[GRPC, ("grpc-status", "7")], Err("gRPC status 7: "));
    let told = ("grpc-message", "a%20b%0Ac%FF");
    check(200, &[GRPC, ("grpc-status", "99"), told], Err("gRPC status 99: a b c\u{fffd}"));
}

#[test]
fn a_text_without_end_is_cut() {
    let mut map = HeaderMap::new();
    map.insert("grpc-message", "x".repeat(5000).parse().expect("a value"));
    assert_eq!(message(&map).expect("a text").len(), 300);
}

#[test]
fn deadlines_are_sent_in_milliseconds() {
    fn check(left: Duration, expected: &str) {
        assert_eq!(timeout(left), expected);
    }
    check(Duration::ZERO, "1m");
    check(Duration::from_micros(2500), "2m");
    check(Duration::from_secs(5), "5000m");
    check(Duration::MAX, "99999999m");
}

async fn open(port: u16) -> Arc<Channel> {
    let url = Url { secure: false, host: "127.0.0.1".into(), port, path: "/".into() };
    let until = Instant::now() + Duration::from_secs(60);
    Arc::new(Channel::open(&Place::new(&url), &Tls::default(), None, until).await.expect("a connection"))
}

#[tokio::test]
async fn a_call_has_one_answer_or_says_why_not() {
    async fn check(answer: fn() -> Says, expected: Result<&str, &str>) {
        let server = Double::start(move |_| answer()).await;
        let channel = open(server.port).await;
        let deadline = Instant::now() + Duration::from_secs(60);
        let told = channel.unary::<Text>("/a.B/C", &HeaderMap::new(), &text("q"), deadline).await;
        let told = told.map(|answer| answer.text);
        let told = told.map_err(|error| error.to_string().replace(&**channel.server(), "S"));
        assert_eq!(told.as_deref().map_err(String::as_str), expected);
        let call = &server.calls()[0];
        assert_eq!((call.path.as_str(), &*call.message), ("/a.B/C", &*text("q").encode_to_vec()));
        assert_eq!(call.headers["te"], "trailers");
    }
    check(|| Says::message(&text("yes")), Ok("yes")).await;
    check(|| Says::Body(framed(&[]), "0"), Ok("")).await;
    check(|| Says::Body(vec![], "0"), Err("the call went well, but there is no answer")).await;
    check(|| Says::Body(vec![0, 0], "0"), Err("the answer was cut off")).await;
    check(|| Says::Body([framed(&[]), framed(&[])].concat(), "0"), Err("there is more than one answer"))
        .await;
    check(|| Says::Body(framed(&[10, 200]), "0"), Err("a message makes no sense")).await;
    check(|| Says::Body(framed(&[]), "13"), Err("gRPC status 13: ")).await;
    check(|| Says::Status(5, "not here"), Err("gRPC status 5: not here")).await;
    check(|| Says::Status(0, ""), Err("the call went well, but there is no answer")).await;
    check(|| Says::Http(502), Err("gRPC status 14: HTTP 502 Bad Gateway")).await;
    check(|| Says::Break, Err("S broke off or does not speak HTTP")).await;
}

#[tokio::test]
async fn a_deadline_ends_a_call_and_not_the_connection() {
    let server =
        Double::start(
            |call| {
                if call.message.is_empty() { Says::Nothing } else { Says::message(&text("yes")) }
            },
        );
    let server = server.await;
    let channel = open(server.port).await;
    let soon = Instant::now() + Duration::from_millis(50);
    let error = channel.unary::<Text>("/a.B/C", &HeaderMap::new(), &text(""), soon).await.expect_err("late");
    assert!(matches!(error, Error::Transport(http::Error::Timeout { .. })), "{error:?}");
    let deadline = Instant::now() + Duration::from_secs(60);
    let answer = channel.unary::<Text>("/a.B/C", &HeaderMap::new(), &text("q"), deadline).await;
    assert_eq!(answer.expect("an answer"), text("yes"));
    assert!(!channel.is_closed());
}

#[tokio::test]
async fn what_is_too_large_is_not_sent() {
    let server = Double::start(|_| Says::Nothing).await;
    let channel = open(server.port).await;
    let large = text(&"x".repeat(MESSAGE));
    let deadline = Instant::now() + Duration::from_secs(60);
    let error = channel.unary::<Text>("/a.B/C", &HeaderMap::new(), &large, deadline).await;
    assert!(matches!(error, Err(Error::TooLarge { .. })), "{error:?}");
    assert!(server.calls().is_empty());
}

#[tokio::test]
async fn closing_a_connection_ends_its_streams_at_once() {
    let server = Double::start(|_| Says::Nothing).await;
    let channel = open(server.port).await;
    let mut stream = channel.stream::<Text, Text>("/a.B/C", &HeaderMap::new()).expect("a stream");
    stream.send(&text("q"), Instant::now() + Duration::from_secs(60)).await.expect("sent");
    let closer = async {
        tokio::task::yield_now().await;
        channel.close();
    };
    let (told, ()) = tokio::join!(stream.next(), closer);
    assert!(matches!(told, Err(Error::Transport(http::Error::Http { .. }))), "{told:?}");
    assert!(channel.is_closed());
    assert!(matches!(stream.next().await, Ok(None)), "told once");
}

#[tokio::test]
async fn a_stream_to_a_host_that_is_gone_ends_by_ping() {
    // Nobody accepts: the kernel does, and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let channel = open(listener.local_addr().expect("an address").port()).await;
    let mut stream = channel.stream::<Text, Text>("/a.B/C", &HeaderMap::new()).expect("a stream");
    stream.send(&text("q"), Instant::now() + Duration::from_secs(60)).await.expect("sent");
    tokio::time::pause();
    let begun = Instant::now();
    let error = stream.next().await.expect_err("nobody is there");
    assert!(matches!(error, Error::Transport(http::Error::Http { .. })), "{error:?}");
    let took = begun.elapsed();
    assert!(took > PING && took < (PING + PONG) * 2, "{took:?}");
}
