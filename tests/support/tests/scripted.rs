//! The scripted server is a Redis where it is left alone, and trouble where the script says so.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use testbed::{Action, Connection, ScriptedServer, Value, scripted, wait_until};

fn troubled_info(action: Action) -> ScriptedServer {
    ScriptedServer::start(move |command| if command[0] == b"INFO" { action.clone() } else { Action::Default })
}

fn ask_info(server: &ScriptedServer) -> std::io::Result<Value> {
    let mut connection = Connection::tcp(server.port())?;
    assert_eq!(connection.command(&["PING"])?.text(), "PONG");
    connection.command(&["INFO"])
}

#[test]
fn what_the_script_leaves_alone_is_answered_as_an_idle_redis_would() {
    let server = ScriptedServer::start(|_| Action::Default);
    let mut connection = Connection::tcp(server.port()).unwrap();
    assert_eq!(connection.command(&["CONFIG", "GET", "*"]).unwrap(), Value::Array(vec![]));
    assert!(matches!(connection.command(&["HELLO", "3"]).unwrap(), Value::Map(_)));
    assert_eq!(connection.command(&["CONFIG", "GET", "*"]).unwrap(), Value::Map(vec![]));
    assert!(connection.command(&["INFO", "ALL"]).unwrap().text().contains("redis_version:7.0.15"));
    assert!(connection.command(&["COMMANDLOG", "LEN", "slow"]).unwrap().is_error());
    assert_eq!(server.commands()[1], ["HELLO", "3"]);
    assert_eq!(server.count("INFO"), 1);
}

#[test]
fn error_replies_reach_the_client_word_for_word() {
    for text in [scripted::LOADING, scripted::NOAUTH, scripted::BUSY, scripted::CLUSTERDOWN] {
        let reply = ask_info(&troubled_info(Action::reply(text))).unwrap();
        assert_eq!(format!("-{}\r\n", reply.text()), text);
        assert!(reply.is_error());
    }
}

#[test]
fn a_greeting_comes_before_any_command() {
    let greet =
        |number| (number == 0).then(|| Action::Then(scripted::MAXCLIENTS.into(), Box::new(Action::Close)));
    let server = ScriptedServer::builder().greeting(greet).start(|_| Action::Default);
    let mut refused = Connection::tcp(server.port()).unwrap();
    assert_eq!(refused.read().unwrap().text(), "ERR max number of clients reached");
    assert_eq!(refused.read().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    let mut admitted = Connection::tcp(server.port()).unwrap();
    assert_eq!(admitted.command(&["PING"]).unwrap().text(), "PONG");
    assert_eq!(server.accepted(), 2);
}

#[test]
fn the_ways_to_end_a_connection_differ_on_the_wire() {
    assert_eq!(ask_info(&troubled_info(Action::Close)).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(ask_info(&troubled_info(Action::Reset)).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let half = Action::Then(b"$100\r\nabc".to_vec(), Box::new(Action::Close));
    assert_eq!(ask_info(&troubled_info(half)).unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_delayed_reply_comes_late_and_a_silent_command_never() {
    let delay = Duration::from_millis(100);
    let started = Instant::now();
    ask_info(&troubled_info(Action::Delay(delay, Box::new(Action::Default)))).unwrap();
    assert!(started.elapsed() >= delay);

    let server = troubled_info(Action::Silence);
    let mut connection = Connection::tcp(server.port()).unwrap();
    connection.send(&["INFO"]).unwrap();
    assert_eq!(connection.command(&["PING"]).unwrap().text(), "PONG");
}

#[test]
fn a_half_reply_keeps_the_connection_open_until_the_server_goes() {
    let server = troubled_info(Action::Half(b"$100\r\nabc".to_vec()));
    let mut connection = Connection::tcp(server.port()).unwrap();
    connection.send(&["INFO"]).unwrap();
    wait_until("the command to arrive", Duration::from_secs(5), || server.count("INFO") == 1);
    assert_eq!(server.open(), 1);
    drop(server);
    assert!(connection.read().is_err());
}

#[test]
fn an_endless_reply_goes_on_until_the_client_hangs_up() {
    let endless = Action::Endless {
        head: b"*1000000000\r\n".to_vec(),
        chunk: b":1\r\n".to_vec(),
        pause: Duration::ZERO,
    };
    let server = troubled_info(endless);
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    std::io::Write::write_all(&mut stream, b"*1\r\n$4\r\nINFO\r\n").unwrap();
    let mut first = vec![0; 10_000];
    std::io::Read::read_exact(&mut stream, &mut first).unwrap();
    assert!(first.starts_with(b"*1000000000\r\n:1\r\n:1\r\n"));
    drop(stream);
    wait_until("the server to notice", Duration::from_secs(5), || server.open() == 0);
}

#[test]
fn a_pipeline_is_one_round_trip_and_single_commands_are_many() {
    let server = ScriptedServer::start(|_| Action::Default);
    let mut connection = Connection::tcp(server.port()).unwrap();
    connection.pipeline(&vec![vec!["PING"]; 500]).unwrap();
    assert_eq!(server.round_trips(), 1);
    connection.command(&["PING"]).unwrap();
    connection.command(&["PING"]).unwrap();
    assert_eq!((server.round_trips(), server.commands().len()), (3, 502));
}
