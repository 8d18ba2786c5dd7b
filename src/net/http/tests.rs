//! Names and kinds; conversations are tested in `tests/deliver`.

use super::*;

#[test]
fn a_host_is_named_with_its_port_where_that_is_not_of_the_scheme() {
    fn check(secure: bool, host: &str, port: u16, server: &str, authority: &str) {
        let place = Place::new(&Url { secure, host: host.into(), port, path: "/?token=hunter2".into() });
        assert_eq!((&*place.server, place.authority()), (server, authority));
    }
    check(false, "h", 80, "h:80", "h");
    check(false, "h", 443, "h:443", "h:443");
    check(true, "h", 443, "h:443", "h");
    check(true, "h", 80, "h:80", "h:80");
    check(false, "h", 8080, "h:8080", "h:8080");
    check(false, "::1", 80, "[::1]:80", "[::1]");
    check(true, "fe80::1", 8443, "[fe80::1]:8443", "[fe80::1]:8443");
    check(true, "10.0.0.1", 443, "10.0.0.1:443", "10.0.0.1");
}

#[test]
fn errors_have_kinds() {
    fn check(error: &Error, kind: Kind) {
        assert_eq!(error.kind(), kind, "{error:?}");
    }
    let server: Arc<str> = "h:1".into();
    let connect = |kind: io::ErrorKind| Error::Connect { server: server.clone(), source: kind.into() };
    check(&connect(io::ErrorKind::ConnectionRefused), Kind::Refused);
    check(&connect(io::ErrorKind::TimedOut), Kind::ConnectTimeout);
    check(&connect(io::ErrorKind::HostUnreachable), Kind::Connect);
    check(&Error::Dns { host: "h".into(), source: io::ErrorKind::NotFound.into() }, Kind::Dns);
    let timeout = |what| Error::Timeout { server: server.clone(), what };
    check(&timeout(connection::CONNECTING), Kind::ConnectTimeout);
    check(&timeout(connection::WAITING), Kind::Timeout);
    let tls = |source| Error::Tls { server: server.clone(), source };
    check(&tls(tls::Error::Handshake(io::ErrorKind::InvalidData.into())), Kind::Tls);
    check(&tls(tls::Error::NoRoots), Kind::Local);
    check(&Error::Header { what: "token".into() }, Kind::Local);
    // Only where the request was on its way.
    let arrived: Vec<_> = Kind::ALL.into_iter().filter(|kind| kind.may_have_arrived()).collect();
    assert_eq!(arrived, [Kind::Timeout, Kind::Closed, Kind::Protocol]);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_answer_has_five_seconds() {
    // Nobody accepts: the kernel does, and TLS waits.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let endpoint = Endpoint {
        url: Url {
            secure: true,
            host: "127.0.0.1".into(),
            port: listener.local_addr().expect("an address").port(),
            path: "/".into(),
        },
        headers: vec![],
        auth: crate::config::deliver::Auth::None,
        tls: Tls { skip_verification: true, ..Tls::default() },
        timeout: Duration::from_secs(10),
    };
    let mut client = Client::new(&endpoint, Version::V1, Arc::default());
    let request =
        Request { method: Method::POST, path: "/".into(), headers: HeaderMap::new(), body: Bytes::new() };
    let begun = Instant::now();
    let error = client.send(&request, begun + Duration::from_secs(10)).await.expect_err("nobody answers");
    assert_eq!((error.kind(), begun.elapsed()), (Kind::ConnectTimeout, CONNECT));
    let begun = Instant::now();
    let error = client.send(&request, begun + Duration::from_secs(2)).await.expect_err("nobody answers");
    assert_eq!((error.kind(), begun.elapsed()), (Kind::ConnectTimeout, Duration::from_secs(2)));
}

/// A server that says this to each request on its one connection, and then closes it.
fn answering(answers: &'static [&'static str]) -> Endpoint {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let url = Url { secure: false, host: "127.0.0.1".into(), port, path: "/".into() };
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        for answer in answers {
            let mut asked = [0; 4096];
            let read = stream.read(&mut asked).expect("a request");
            assert!(
                asked[..read].starts_with(b"GET /k?x=1 HTTP/1.1\r\n"),
                "{}",
                asked[..read].escape_ascii()
            );
            stream.write_all(answer.as_bytes()).expect("written");
        }
    });
    let auth = crate::config::deliver::Auth::None;
    Endpoint { url, headers: vec![], auth, tls: Tls::default(), timeout: Duration::from_secs(10) }
}

#[tokio::test]
async fn who_fetches_gets_all_of_a_body_or_an_error() {
    async fn check(answers: &'static [&'static str], expected: &[Result<&'static str, &'static str>]) {
        let endpoint = answering(answers);
        let server = format!("127.0.0.1:{}", endpoint.url.port);
        let mut client = Client::new(&endpoint, Version::V1, Arc::default());
        let request = Request {
            method: Method::GET,
            path: "/k?x=1".into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        for expected in expected {
            let answer = client.fetch(&request, 10, Instant::now() + Duration::from_secs(1)).await;
            let told = answer.map(|answer| String::from_utf8_lossy(&answer.body).into_owned());
            let told = told.map_err(|error| error.to_string().replace(&server, "S"));
            assert_eq!(told.as_deref().map_err(String::as_str), *expected, "{answers:?}");
        }
    }
    const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";
    const NONE: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    // On one connection.
    check(&[WHOLE, NONE, WHOLE], &[Ok("0123456789"), Ok(""), Ok("0123456789")]).await;
    let broken = Err("S broke off or does not speak HTTP");
    let too_large = Err("S answers with more than 10 bytes");
    check(&["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n012345678"], &[broken]).await;
    check(&["HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n01234567890"], &[too_large]).await;
    const CHUNKS: &str =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n5\r\n67890\r\n0\r\n\r\n";
    check(&[CHUNKS], &[too_large]).await;
    check(&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n"], &[broken]).await;
    check(&["HTTP/1.1 200 OK\r\n\r\nuntil the end"], &[too_large]).await;
    check(&["HTTP/1.1 200 OK\r\n\r\nthe end"], &[Ok("the end")]).await;
}
