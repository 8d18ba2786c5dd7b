//! A small synchronous client of the Redis protocol, RESP2 and RESP3.
//!
//! It is not the daemon's: a test that compares the two must not read a reply with the same mistakes. A library
//! would do, but brings sixty crates to the test build for what is a hundred lines here.
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// How long one read or write may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing there.
    Nil,
    /// A number.
    Int(i64),
    /// A fraction (RESP3).
    Double(f64),
    /// Yes or no (RESP3).
    Bool(bool),
    /// A status such as `OK`.
    Status(String),
    /// An error, its code first.
    Error(String),
    /// A string of bytes.
    Bulk(Vec<u8>),
    /// A list; also a set or a push (RESP3).
    Array(Vec<Value>),
    /// Pairs (RESP3).
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// The text of a string, status, error or number; panics for anything else.
    pub fn text(&self) -> String {
        match self {
            Value::Status(text) | Value::Error(text) => text.clone(),
            Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::Int(number) => number.to_string(),
            other => panic!("expected a text, got {other:?}"),
        }
    }

    /// The number; panics for anything else.
    pub fn int(&self) -> i64 {
        match self {
            Value::Int(number) => *number,
            other => panic!("expected a number, got {other:?}"),
        }
    }

    /// The list; panics for anything else.
    pub fn array(&self) -> &[Value] {
        match self {
            Value::Array(items) => items,
            other => panic!("expected a list, got {other:?}"),
        }
    }

    /// Whether the server refused.
    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Status(_) | Value::Error(_) | Value::Bulk(_) | Value::Int(_) => f.write_str(&self.text()),
            other => write!(f, "{other:?}"),
        }
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// An open connection.
pub struct Connection {
    stream: BufReader<Box<dyn Stream>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    /// Connects to a port of 127.0.0.1.
    pub fn tcp(port: u16) -> io::Result<Self> {
        Self::tcp_within(port, PATIENCE)
    }

    /// Connects to a port of 127.0.0.1; each read and write then gives up after this time.
    pub fn tcp_within(port: u16, patience: Duration) -> io::Result<Self> {
        Ok(Self::over(connect(port, patience)?))
    }

    /// Connects to a port of 127.0.0.1 by TLS.
    pub fn tls(port: u16, config: Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from("localhost").expect("localhost is a name");
        let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Self::over(StreamOwned::new(tls, connect(port, PATIENCE)?)))
    }

    /// Connects to a unix socket.
    pub fn unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::over(stream))
    }

    fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: BufReader::new(Box::new(stream)) }
    }

    /// Sends a command and returns the reply. An error reply is a [`Value::Error`], not an `Err`.
    pub fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Value> {
        self.send(args)?;
        self.read()
    }

    /// Sends many commands at once and returns their replies.
    pub fn pipeline<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) -> io::Result<Vec<Value>> {
        let mut bytes = Vec::new();
        for args in commands {
            encode(&mut bytes, args);
        }
        self.stream.get_mut().write_all(&bytes)?;
        self.stream.get_mut().flush()?;
        commands.iter().map(|_| self.read()).collect()
    }

    /// Sends a command without waiting for the reply.
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode(&mut bytes, args);
        self.stream.get_mut().write_all(&bytes)?;
        self.stream.get_mut().flush()
    }

    /// Waits for one reply.
    pub fn read(&mut self) -> io::Result<Value> {
        read_value(&mut self.stream)
    }
}

fn connect(port: u16, patience: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

/// A command as clients send it: an array of bulk strings.
fn encode<A: AsRef<[u8]>>(out: &mut Vec<u8>, args: &[A]) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.as_ref().len()).as_bytes());
        out.extend_from_slice(arg.as_ref());
        out.extend_from_slice(b"\r\n");
    }
}

/// Reads one command array, as a server does; nothing at the end of the connection.
pub(crate) fn read_command(stream: &mut impl BufRead) -> io::Result<Option<Vec<Vec<u8>>>> {
    if stream.fill_buf()?.is_empty() {
        return Ok(None);
    }
    match read_value(stream)? {
        Value::Array(args) if !args.is_empty() => {
            args.into_iter().map(argument).collect::<io::Result<_>>().map(Some)
        }
        other => Err(broken(&format!("a command is a filled array, not {other:?}"))),
    }
}

fn argument(value: Value) -> io::Result<Vec<u8>> {
    match value {
        Value::Bulk(bytes) => Ok(bytes),
        other => Err(broken(&format!("an argument is a bulk string, not {other:?}"))),
    }
}

fn read_value(stream: &mut impl BufRead) -> io::Result<Value> {
    let line = read_line(stream)?;
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| broken("an empty line"))?;
    Ok(match kind {
        "+" => Value::Status(rest.to_owned()),
        "-" => Value::Error(rest.to_owned()),
        ":" => Value::Int(number(rest)?),
        "_" => Value::Nil,
        "#" => Value::Bool(rest == "t"),
        "," => Value::Double(rest.parse().map_err(|_| broken(rest))?),
        "(" => Value::Status(rest.to_owned()),
        "$" | "!" | "=" => match usize::try_from(number(rest)?) {
            Ok(length) => blob(kind, read_blob(stream, length)?),
            Err(_) => Value::Nil,
        },
        "*" | "~" | ">" => match usize::try_from(number(rest)?) {
            Ok(length) => Value::Array((0..length).map(|_| read_value(stream)).collect::<io::Result<_>>()?),
            Err(_) => Value::Nil,
        },
        "%" => {
            let pair = |_| Ok((read_value(stream)?, read_value(stream)?));
            Value::Map((0..number(rest)?).map(pair).collect::<io::Result<_>>()?)
        }
        _ => return Err(broken(&line)),
    })
}

fn blob(kind: &str, bytes: Vec<u8>) -> Value {
    match kind {
        "!" => Value::Error(String::from_utf8_lossy(&bytes).into_owned()),
        // A verbatim string begins with its format, `txt:`.
        "=" => Value::Bulk(bytes.get(4..).unwrap_or_default().to_vec()),
        _ => Value::Bulk(bytes),
    }
}

fn read_blob(stream: &mut impl BufRead, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length + 2];
    stream.read_exact(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
        None if line.ends_with(b"\n") => Err(broken("a line that ends without a carriage return")),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn number(text: &str) -> io::Result<i64> {
    text.parse().map_err(|_| broken(text))
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not the Redis protocol: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &str, expected: Value) {
        assert_eq!(read_value(&mut bytes.as_bytes()).expect("a whole reply"), expected);
    }

    #[test]
    fn replies_of_both_protocols_are_read() {
        check("+OK\r\n", Value::Status("OK".to_owned()));
        check("-ERR no\r\n", Value::Error("ERR no".to_owned()));
        check(":-7\r\n", Value::Int(-7));
        check("$-1\r\n", Value::Nil);
        check("*-1\r\n", Value::Nil);
        check("_\r\n", Value::Nil);
        check("$4\r\na\r\nb\r\n", Value::Bulk(b"a\r\nb".to_vec()));
        check("=7\r\ntxt:abc\r\n", Value::Bulk(b"abc".to_vec()));
        check("!5\r\nERR x\r\n", Value::Error("ERR x".to_owned()));
        check("#t\r\n", Value::Bool(true));
        check(",1.5\r\n", Value::Double(1.5));
        check("*2\r\n:1\r\n*0\r\n", Value::Array(vec![Value::Int(1), Value::Array(vec![])]));
        check("%1\r\n+a\r\n:1\r\n", Value::Map(vec![(Value::Status("a".to_owned()), Value::Int(1))]));
    }

    #[test]
    fn a_reply_that_ends_early_is_an_error() {
        for cut in ["", "+OK", "$5\r\nab", "*2\r\n:1\r\n"] {
            assert!(read_value(&mut cut.as_bytes()).is_err(), "{cut:?}");
        }
    }

    #[test]
    fn a_command_survives_the_way_to_the_server() {
        let mut bytes = Vec::new();
        encode(&mut bytes, &["SET", "key", "a\r\nb"]);
        let command = read_command(&mut bytes.as_slice()).expect("a whole command").expect("not the end");
        assert_eq!(command, [b"SET".to_vec(), b"key".to_vec(), b"a\r\nb".to_vec()]);
    }
}
