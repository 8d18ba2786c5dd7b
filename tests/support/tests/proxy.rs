//! The fault proxy does to a conversation what its name says.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use testbed::{Action, Connection, Fault, Port, Proxy, ScriptedServer, wait_until};

const SOON: Duration = Duration::from_secs(5);
/// How long nothing has to come before it counts as nothing.
const QUIET: Duration = Duration::from_millis(100);

fn server() -> ScriptedServer {
    ScriptedServer::start(|_| Action::Default)
}

/// A connection whose reads give up soon.
fn raw(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a time-out can be set");
    stream
}

fn ping(stream: &mut TcpStream) {
    stream.write_all(b"*1\r\n$4\r\nPING\r\n").expect("a connection takes a few bytes");
}

/// What comes until the connection ends.
fn rest(stream: &mut TcpStream) -> Result<String, ErrorKind> {
    let mut text = String::new();
    stream.read_to_string(&mut text).map(|_| text).map_err(|error| error.kind())
}

/// The next bytes, or how reading failed within this time.
fn next(stream: &mut TcpStream, limit: Duration) -> Result<String, ErrorKind> {
    stream.set_read_timeout(Some(limit)).expect("a time-out can be set");
    let mut bytes = [0; 64];
    let read = stream.read(&mut bytes).map_err(|error| error.kind())?;
    Ok(String::from_utf8_lossy(&bytes[..read]).into_owned())
}

#[test]
fn everything_passes_until_told_otherwise() {
    let server = server();
    let proxy = Proxy::start(server.port());
    let mut connection = Connection::tcp(proxy.port()).unwrap();
    assert_eq!(connection.command(&["PING"]).unwrap().text(), "PONG");
    let large = "x".repeat(1_000_000);
    assert_eq!(connection.command(&["ECHO", &large]).unwrap().text(), large);
    assert_eq!((proxy.accepted(), proxy.open(), server.accepted()), (1, 1, 1));
    drop(connection);
    wait_until("the connection to end on both sides", SOON, || proxy.open() + server.open() == 0);
}

#[test]
fn a_refusing_proxy_listens_nowhere_and_comes_back_on_its_port() {
    let server = server();
    let proxy = Proxy::start(server.port());
    let mut open = raw(&proxy);
    ping(&mut open);
    assert_eq!(next(&mut open, SOON), Ok("+PONG\r\n".to_owned()));
    proxy.set(Fault::Refuse);
    assert_eq!(rest(&mut open), Ok(String::new()), "an open connection is closed");
    let refused = TcpStream::connect(proxy.address()).map_err(|error| error.kind());
    assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));
    proxy.set(Fault::Pass);
    let mut connection = Connection::tcp(proxy.port()).unwrap();
    assert_eq!(connection.command(&["PING"]).unwrap().text(), "PONG");
}

#[test]
fn closing_and_resetting_end_old_and_new_connections_each_in_its_way() {
    let server = server();
    let proxy = Proxy::start(server.port());
    for (fault, expected) in
        [(Fault::Close, Ok(String::new())), (Fault::Reset, Err(ErrorKind::ConnectionReset))]
    {
        proxy.set(Fault::Pass);
        let mut old = raw(&proxy);
        ping(&mut old);
        assert_eq!(next(&mut old, SOON), Ok("+PONG\r\n".to_owned()));
        proxy.set(fault);
        assert_eq!(rest(&mut old), expected, "{fault:?}");
        assert_eq!(rest(&mut raw(&proxy)), expected, "{fault:?}");
    }
    assert_eq!(server.accepted(), 2, "the server never heard of the new ones");
}

#[test]
fn nothing_leaves_a_black_hole_until_it_is_gone() {
    let server = server();
    let proxy = Proxy::start(server.port());
    let mut old = raw(&proxy);
    ping(&mut old);
    assert_eq!(next(&mut old, SOON), Ok("+PONG\r\n".to_owned()));
    proxy.set(Fault::BlackHole);
    let mut new = raw(&proxy);
    for stream in [&mut old, &mut new] {
        ping(stream);
        assert_eq!(next(stream, QUIET), Err(ErrorKind::WouldBlock));
    }
    assert_eq!((server.accepted(), server.count("PING")), (1, 1));
    proxy.set(Fault::Pass);
    for stream in [&mut old, &mut new] {
        assert_eq!(next(stream, SOON), Ok("+PONG\r\n".to_owned()));
    }
}

#[test]
fn a_stall_ends_by_itself() {
    let server = server();
    let proxy = Proxy::start(server.port());
    let mut stream = raw(&proxy);
    let began = Instant::now();
    proxy.set(Fault::Stall(Duration::from_millis(300)));
    ping(&mut stream);
    assert_eq!(next(&mut stream, SOON), Ok("+PONG\r\n".to_owned()));
    assert!(began.elapsed() >= Duration::from_millis(300));
    let began = Instant::now();
    ping(&mut stream);
    assert_eq!(next(&mut stream, SOON), Ok("+PONG\r\n".to_owned()));
    assert!(began.elapsed() < Duration::from_millis(300), "it stalls once");
}

#[test]
fn a_delay_holds_in_each_direction_and_for_every_answer() {
    let server = server();
    let proxy = Proxy::start(server.port());
    proxy.set(Fault::Delay(Duration::from_millis(40)));
    let mut connection = Connection::tcp(proxy.port()).unwrap();
    for _ in 0..2 {
        let began = Instant::now();
        connection.command(&["PING"]).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(80));
    }
}

#[test]
fn a_connection_is_cut_after_so_many_bytes_of_the_servers() {
    let server = server();
    let proxy = Proxy::start(server.port());
    let mut stream = raw(&proxy);
    ping(&mut stream);
    assert_eq!(next(&mut stream, SOON), Ok("+PONG\r\n".to_owned()));
    proxy.set(Fault::CloseAfter(10));
    for expected in ["+PONG\r\n", "+PO"] {
        ping(&mut stream);
        assert_eq!(next(&mut stream, SOON), Ok(expected.to_owned()));
    }
    assert_eq!(rest(&mut stream), Ok(String::new()));
    let mut another = raw(&proxy);
    ping(&mut another);
    assert_eq!(next(&mut another, SOON), Ok("+PONG\r\n".to_owned()), "each connection has its own count");
}

#[test]
fn connections_are_dropped_on_demand_and_new_ones_pass() {
    let server = server();
    let proxy = Proxy::start(server.port());
    let mut connections: Vec<_> = (0..3).map(|_| raw(&proxy)).collect();
    for stream in &mut connections {
        ping(stream);
        assert_eq!(next(stream, SOON), Ok("+PONG\r\n".to_owned()));
    }
    proxy.drop_connections();
    for stream in &mut connections {
        assert_eq!(rest(stream), Ok(String::new()));
    }
    wait_until("the server to see it", SOON, || server.open() == 0);
    let mut connection = Connection::tcp(proxy.port()).unwrap();
    assert_eq!(connection.command(&["PING"]).unwrap().text(), "PONG");
}

#[test]
fn a_proxy_stands_on_another_loopback_address_with_the_servers_own_port() {
    let server = server();
    let on = SocketAddr::from(([127, 0, 0, 2], server.port()));
    let proxy = Proxy::between(on, SocketAddr::from(([127, 0, 0, 1], server.port())));
    assert_eq!(proxy.address(), format!("127.0.0.2:{}", server.port()));
    let mut stream = raw(&proxy);
    ping(&mut stream);
    assert_eq!(next(&mut stream, SOON), Ok("+PONG\r\n".to_owned()));
}

#[test]
fn a_dropped_proxy_takes_its_connections_with_it() {
    let server = server();
    let proxy = Proxy::start(server.port());
    let mut stream = raw(&proxy);
    ping(&mut stream);
    assert_eq!(next(&mut stream, SOON), Ok("+PONG\r\n".to_owned()));
    let port = proxy.port();
    drop(proxy);
    assert!(matches!(rest(&mut stream).as_deref(), Ok("") | Err(ErrorKind::ConnectionReset)));
    assert!(Connection::tcp(port).is_err());
    wait_until("the server to see it", SOON, || server.open() == 0);
}

#[test]
fn a_server_that_is_not_there_closes_the_clients_connection() {
    let nobody = Port::take();
    let proxy = Proxy::start(nobody.number());
    assert_eq!(rest(&mut raw(&proxy)), Ok(String::new()));
}
