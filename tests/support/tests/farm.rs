//! A farm answers as recorded, from every address, and does what its switches say.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testbed::{Behaviour, Farm, wait_until};

const SOON: Duration = Duration::from_secs(5);
/// How long nothing has to come before it counts as nothing.
const QUIET: Duration = Duration::from_millis(100);

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a time-out can be set");
    stream
}

/// A command in the form that people type; enough for words without spaces.
fn encode(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let word = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
    format!("*{}\r\n{}", words.len(), words.iter().map(word).collect::<String>())
}

/// Sends commands at once and returns all that comes up to the answer of a PING behind them.
fn ask(stream: &mut TcpStream, lines: &[&str]) -> String {
    let batch: String = lines.iter().chain(&["PING"]).map(|line| encode(line)).collect();
    stream.write_all(batch.as_bytes()).expect("a connection takes a few bytes");
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while !text.ends_with(b"+PONG\r\n") {
        let count = stream.read(&mut chunk).expect("answers come");
        assert!(count > 0, "the connection ended");
        text.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8(text).expect("recorded answers are text")
}

#[test]
fn every_server_gives_recorded_answers_and_a_run_id_of_its_own() {
    let farm = Farm::start(300);
    let mut ids = std::collections::BTreeSet::new();
    for address in farm.addresses() {
        let mut stream = connect(*address);
        let text =
            ask(&mut stream, &["HELLO 3", "INFO ALL", "CONFIG GET maxmemory databases", "SLOWLOG LEN"]);
        let id = text.lines().find_map(|line| line.strip_prefix("run_id:")).expect("INFO has it");
        assert_eq!(id.len(), 40);
        ids.insert(id.to_owned());
        assert!(text.contains("cmdstat_") && text.contains("%2\r\n") && text.contains(":2\r\n"));
    }
    assert_eq!((ids.len(), farm.accepted(), farm.commands()), (300, 300, 1500));
}

#[test]
fn both_protocols_are_spoken_and_what_is_unknown_is_refused() {
    let farm = Farm::start(1);
    let mut stream = connect(farm.addresses()[0]);
    let text = ask(&mut stream, &["CONFIG GET databases", "LATENCY LATEST", "NONSENSE 1"]);
    assert!(text.starts_with("*2\r\n$9\r\ndatabases\r\n$2\r\n16\r\n"), "{text}");
    assert!(text.contains("-ERR unknown command 'NONSENSE'"), "{text}");
    let text = ask(&mut stream, &["HELLO 3 SETNAME x", "CONFIG GET databases"]);
    assert!(text.starts_with("%4\r\n") && text.contains("%1\r\n$9\r\ndatabases"), "{text}");
}

#[test]
fn servers_hang_refuse_and_answer_again_as_they_are_told() {
    let farm = Farm::start(30);
    let at = |index: usize| farm.addresses()[index];
    let mut open = [0, 10, 20].map(|index| connect(at(index)));
    open.iter_mut().for_each(|stream| assert_eq!(ask(stream, &[]), "+PONG\r\n"));
    farm.set(10..20, Behaviour::Hang);
    farm.set(20..30, Behaviour::Refuse);
    assert_eq!(ask(&mut open[0], &[]), "+PONG\r\n");
    for stream in [&mut open[1], &mut connect(at(11))] {
        stream.set_read_timeout(Some(QUIET)).unwrap();
        stream.write_all(encode("PING").as_bytes()).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    }
    assert_eq!(open[2].read(&mut [0; 8]).unwrap(), 0, "an open connection is closed");
    let refused = TcpStream::connect(at(29)).map_err(|error| error.kind());
    assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));
    farm.set(10..30, Behaviour::Answer);
    for index in 10..30 {
        assert_eq!(ask(&mut connect(at(index)), &[]), "+PONG\r\n");
    }
    drop(open);
    wait_until("all connections to end", SOON, || farm.open() == 0);
}

#[test]
fn two_thousand_connections_are_served_with_less_than_a_tenth_of_a_core_at_a_round_every_15_seconds() {
    let mut farm = Process::start(2000);
    let targets: Vec<SocketAddr> = farm.first.split('"').filter_map(|word| word.parse().ok()).collect();
    assert_eq!(targets.len(), 2000);
    let mut streams: Vec<TcpStream> = targets.iter().map(|target| connect(*target)).collect();
    let before = farm.cpu();
    let batch = ["INFO ALL", "CONFIG GET maxmemory", "LATENCY LATEST", "LATENCY HISTOGRAM", "SLOWLOG GET 1"];
    for stream in &mut streams {
        assert!(ask(stream, &batch).len() > 15_000);
    }
    let used = farm.cpu() - before;
    assert!(used < Duration::from_millis(1500), "one round took {used:?}");
    assert_eq!(farm.say("count"), "2000 2000 12000");
    assert_eq!(farm.say("refuse 0..1000"), "ok");
    assert_eq!(farm.say("refuse 1999..2001"), "error: not understood");
    let mut connection = targets.iter().map(|target| TcpStream::connect(target).is_ok());
    assert_eq!((connection.next(), connection.next_back()), (Some(false), Some(true)));
    drop(farm.child.stdin.take());
    let began = Instant::now();
    let status = loop {
        if let Some(status) = farm.child.try_wait().unwrap() {
            break status;
        }
        assert!(began.elapsed() < SOON, "it ends with its stdin");
        std::thread::yield_now();
    };
    assert!(status.success());
}

/// The farm as a process of its own.
struct Process {
    child: std::process::Child,
    out: BufReader<std::process::ChildStdout>,
    first: String,
}

impl Process {
    fn start(count: usize) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farm"));
        command.arg(count.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it was built with this test");
        let mut out = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let mut first = String::new();
        out.read_line(&mut first).expect("it says where it stands");
        Self { child, out, first }
    }

    fn say(&mut self, line: &str) -> String {
        let stdin = self.child.stdin.as_mut().expect("stdin is a pipe");
        writeln!(stdin, "{line}").expect("it listens to us");
        let mut answer = String::new();
        self.out.read_line(&mut answer).expect("it answers");
        answer.trim_end().to_owned()
    }

    /// The CPU time it has used, in steps of 10 ms.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("its state").split(' ').collect();
        let ticks: u64 = [11, 12].map(|at| fields[at].parse::<u64>().expect("a number")).iter().sum();
        Duration::from_millis(10 * ticks)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_farm_that_notes_says_who_asked_when() {
    let farm = Farm::start_noting(2);
    let before = farm.asked();
    let mut first = connect(farm.addresses()[0]);
    let text = ask(&mut first, &["AUTH one", "INFO ALL", "INFO"]);
    assert!(text.contains("run_id:0000000000000000000000000000000000000000\r\n"), "{text}");
    let mut second = connect(farm.addresses()[1]);
    ask(&mut second, &["INFO", "HELLO 3 AUTH default two SETNAME x", "INFO"]);
    let asked = farm.asked();
    let who: Vec<_> = asked.iter().map(|one| (one.server, one.by.as_str())).collect();
    assert_eq!((before.len(), who), (0, vec![(0, "one"), (0, "one"), (1, ""), (1, "two")]));
    assert!(asked.is_sorted_by_key(|one| one.at) && Farm::start(1).asked().is_empty());
}
