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
    let request = Request { path: "/".into(), headers: HeaderMap::new(), body: Bytes::new() };
    let begun = Instant::now();
    let error = client.send(&request, begun + Duration::from_secs(10)).await.expect_err("nobody answers");
    assert_eq!((error.kind(), begun.elapsed()), (Kind::ConnectTimeout, CONNECT));
    let begun = Instant::now();
    let error = client.send(&request, begun + Duration::from_secs(2)).await.expect_err("nobody answers");
    assert_eq!((error.kind(), begun.elapsed()), (Kind::ConnectTimeout, Duration::from_secs(2)));
}
