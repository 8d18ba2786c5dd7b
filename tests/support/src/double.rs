//! What doubles of HTTP servers stand on: connections that stay open, each with a thread that may wait for as long as it likes,
//! and a server that can be down, with all connections cut, and up again on the same port.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Port;

/// How long the machine is left alone between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// What is asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Decoded, without the query.
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Said {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![], body: body.into() }
    }
}

/// A server on a port of its own.
pub(crate) struct Double {
    port: Port,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

struct Shared {
    answer: Box<dyn Fn(&Asked) -> Said + Send + Sync>,
    is_over: AtomicBool,
    is_down: AtomicBool,
    asked: AtomicUsize,
    streams: Mutex<Vec<TcpStream>>,
}

impl Double {
    /// Starts it. The closure may block.
    pub(crate) fn start(answer: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Self {
        let port = Port::take();
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            is_over: AtomicBool::new(false),
            is_down: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            streams: Mutex::default(),
        });
        let (number, own) = (port.number(), shared.clone());
        let double = Self { port, shared, listening: Some(thread::spawn(move || own.listen(number))) };
        double.set_down(false);
        double
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// How many requests there were.
    pub(crate) fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Nobody listens any more, and all connections are cut; or it is as before. Returns when that is so.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.shared.is_down.store(is_down, Ordering::SeqCst);
        let number = self.port();
        crate::wait_until("a double to be up or down", Duration::from_secs(10), || {
            TcpStream::connect(("127.0.0.1", number)).is_ok() != is_down
        });
        if is_down {
            self.shared.cut();
        }
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.shared.cut();
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

impl Shared {
    fn cut(&self) {
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn listen(self: Arc<Self>, port: u16) {
        while !self.is_over.load(Ordering::SeqCst) {
            thread::sleep(LOOK);
            if self.is_down.load(Ordering::SeqCst) {
                continue;
            }
            let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) else { continue };
            listener.set_nonblocking(true).expect("a listener need not block");
            while !self.is_over.load(Ordering::SeqCst) && !self.is_down.load(Ordering::SeqCst) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(LOOK);
                    continue;
                };
                stream.set_nonblocking(false).expect("a connection may block");
                let known = stream.try_clone().expect("a connection has a second handle");
                self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(known);
                let own = self.clone();
                thread::spawn(move || {
                    let _ = own.converse(stream);
                });
            }
        }
    }

    fn converse(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut writer = stream.try_clone()?;
        let mut reader = BufReader::new(stream);
        while let Some(asked) = read(&mut reader)? {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let said = (self.answer)(&asked);
            let mut head =
                format!("HTTP/1.1 {} As Said\r\nContent-Length: {}\r\n", said.status, said.body.len());
            for (name, value) in &said.headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            writer.write_all(&[head.as_bytes(), b"\r\n", &said.body].concat())?;
        }
        Ok(())
    }
}

fn read(reader: &mut impl BufRead) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut asked = Asked {
        method: method.into(),
        path: decoded(path),
        query: form(query),
        headers: BTreeMap::new(),
        body: vec![],
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.insert(name.to_ascii_lowercase(), value.trim().into());
    }
    let length = asked.headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    asked.body = body;
    Ok(Some(asked))
}

impl Asked {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Names and values parted by `&` and `=`.
pub(crate) fn form(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(k, v)| (decoded(k), decoded(v)))
        .collect()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = vec![];
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
