//! The receiver's HTTP/1.1, by hand: a client that is well served by a library says nothing about trouble.

use super::{Message, Received, Reply, Shared, Trouble, lock};
use rustix::net::sockopt::set_socket_linger;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// How long the machine is left alone between two looks.
const LOOK: Duration = Duration::from_millis(2);

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// Listens until it is over.
pub(super) fn serve(shared: &Arc<Shared>, port: u16, tls: Option<Arc<ServerConfig>>) {
    while !shared.is_over() {
        if shared.is_gone() {
            thread::sleep(LOOK);
            continue;
        }
        let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) else {
            thread::sleep(LOOK);
            continue;
        };
        listener.set_nonblocking(true).expect("a listener can be told not to block");
        while !shared.is_gone() {
            let Ok((stream, _)) = listener.accept() else {
                thread::sleep(LOOK);
                continue;
            };
            let _ = stream.set_nonblocking(false);
            let _ = stream.set_nodelay(true);
            let number = shared.connections.fetch_add(1, Ordering::SeqCst);
            if let Ok(copy) = stream.try_clone() {
                lock(&shared.open).push((number, copy));
            }
            let (shared, tls) = (shared.clone(), tls.clone());
            thread::spawn(move || {
                let Ok(socket) = stream.try_clone() else { return };
                let mut stream: Box<dyn Stream> = match tls {
                    None => Box::new(stream),
                    Some(config) => {
                        let Ok(connection) = ServerConnection::new(config) else { return };
                        Box::new(StreamOwned::new(connection, stream))
                    }
                };
                let _ = converse(&shared, &mut *stream, &socket, number);
                // The last copy: where it is to be reset, it is now.
                lock(&shared.open).retain(|(own, _)| *own != number);
            });
        }
    }
}

/// Answers request after request.
fn converse(shared: &Shared, stream: &mut dyn Stream, socket: &TcpStream, number: usize) -> io::Result<()> {
    while let Some((head, length)) = read_head(stream)? {
        if let Some((limit, reply)) = lock(&shared.early).clone()
            && length > limit
        {
            let reply = Reply { trouble: Trouble::None, ..reply };
            answer(shared, stream, socket, &reply)?;
            pause_for(shared, Duration::from_millis(20));
            return reset(socket);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let _under_way = shared.begin();
        let reply = shared.take(received(&head, body, number));
        if !answer(shared, stream, socket, &reply)? {
            return Ok(());
        }
    }
    Ok(())
}

/// The head of a request and the length of its body. `None`: the client hung up.
fn read_head(stream: &mut dyn Stream) -> io::Result<Option<(String, usize)>> {
    let mut head = vec![];
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok(Some((head, length.unwrap_or(0))))
}

fn received(head: &str, body: Vec<u8>, connection: usize) -> Received {
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let mut received = Received {
        at: Instant::now(),
        connection,
        method: first.next().unwrap_or_default().into(),
        path: first.next().unwrap_or_default().into(),
        headers: lines.filter_map(header).collect(),
        body,
        message: Err(String::new()),
    };
    received.message = Message::read(&received);
    received
}

/// Answers; `false`: the connection is over.
fn answer(shared: &Shared, stream: &mut dyn Stream, socket: &TcpStream, reply: &Reply) -> io::Result<bool> {
    let mut head = format!("HTTP/1.1 {} Said\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let has_body = reply.status >= 200 && reply.status != 204 && reply.status != 304;
    if has_body {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    let end = "\r\n";
    let whole = |stream: &mut dyn Stream| -> io::Result<()> {
        stream.write_all(head.as_bytes())?;
        stream.write_all(end.as_bytes())?;
        stream.write_all(if has_body { &reply.body } else { &[] })?;
        stream.flush()
    };
    match &reply.trouble {
        Trouble::None => whole(stream).map(|()| true),
        Trouble::Late(pause) => {
            pause_for(shared, *pause);
            whole(stream).map(|()| true)
        }
        Trouble::CloseAfter => whole(stream).map(|()| false),
        Trouble::Silence => {
            pause_for(shared, Duration::from_secs(3600));
            Ok(false)
        }
        Trouble::Close => Ok(false),
        Trouble::Reset => reset(socket).map(|()| false),
        Trouble::CutBody => {
            let text = format!("{head}{end}").replace("Content-Length: ", "Content-Length: 9");
            stream.write_all(text.as_bytes())?;
            stream.write_all(&reply.body)?;
            stream.flush()?;
            // What was sent has to arrive before the reset, which throws away what did not.
            pause_for(shared, Duration::from_millis(50));
            reset(socket).map(|()| false)
        }
        Trouble::SlowHead(pause) => {
            drip(shared, stream, format!("{head}{end}").as_bytes(), *pause)?;
            stream.write_all(&reply.body)?;
            Ok(true)
        }
        Trouble::SlowBody(pause) => {
            stream.write_all(format!("{head}{end}").as_bytes())?;
            drip(shared, stream, &reply.body, *pause)?;
            Ok(true)
        }
        Trouble::EndlessHeaders => {
            stream.write_all(head.as_bytes())?;
            for number in 0_u64.. {
                stream.write_all(format!("X-More-{number}: {}\r\n", "x".repeat(100)).as_bytes())?;
            }
            Ok(false)
        }
        Trouble::EndlessBody => {
            let head = head.lines().filter(|line| !line.starts_with("Content-Length"));
            let head: String = head.map(|line| format!("{line}\r\n")).collect();
            stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
            loop {
                stream.write_all(format!("400\r\n{}\r\n", "x".repeat(0x400)).as_bytes())?;
            }
        }
        Trouble::Garbage(bytes) => {
            stream.write_all(bytes)?;
            stream.flush()?;
            Ok(false)
        }
    }
}

/// Sends byte by byte.
fn drip(shared: &Shared, stream: &mut dyn Stream, bytes: &[u8], pause: Duration) -> io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte])?;
        stream.flush()?;
        pause_for(shared, pause);
        if shared.is_gone() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
    Ok(())
}

fn reset(socket: &TcpStream) -> io::Result<()> {
    set_socket_linger(socket, Some(Duration::ZERO))?;
    Ok(())
}

/// Waits, but not longer than there is a receiver.
fn pause_for(shared: &Shared, pause: Duration) {
    let until = Instant::now() + pause;
    while Instant::now() < until && !shared.is_gone() {
        thread::sleep(LOOK.min(pause));
    }
}
