//! A double of a server that samples are pushed to: remote write 1.0 and 2.0 and OTLP, over HTTP/1.1 and gRPC.
//!
//! It stands for no real server. It decodes what arrives with messages of its own, keeps it, and answers what the test says:
//! any status and header, late, half, for ever, or not at all.
//!
//! ```no_run
//! use testbed::{Receiver, Reply};
//!
//! let receiver = Receiver::start();
//! receiver.answer([Reply::status(503), Reply::status(204)]); // the last one again and again
//! println!("push to {}", receiver.url("/api/v1/write"));
//! println!("{} requests", receiver.requests().len());
//! ```

mod grpc;
mod http;
mod messages;

pub use messages::{Kind, Message, Sample};

use crate::{Certificates, Port};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A request that arrived whole.
#[derive(Clone, Debug)]
pub struct Received {
    /// When.
    pub at: Instant,
    /// The number of its connection, from 0.
    pub connection: usize,
    /// `POST` …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Name and value in their order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as it came; of gRPC the message.
    pub body: Vec<u8>,
    /// What it says, or why it cannot be read.
    pub message: Result<Message, String>,
}

impl Received {
    /// The first value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Its samples; panics where it cannot be read.
    pub fn samples(&self) -> &[Sample] {
        &self.message.as_ref().unwrap_or_else(|error| panic!("a request that is no message: {error}")).samples
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status of HTTP.
    pub status: u16,
    /// Headers beside those that must be.
    pub headers: Vec<(String, String)>,
    /// The body; of gRPC the message.
    pub body: Vec<u8>,
    /// Whether a request in 2.0 is told how many samples were written: so many, or all.
    pub written: Written,
    /// Whether the samples are stored.
    pub stores: bool,
    /// What goes wrong on the way.
    pub trouble: Trouble,
    /// The status of gRPC, its message, and whether both stand among the headers.
    pub grpc: (u32, String, bool),
    /// More trailers of gRPC.
    pub trailers: Vec<(String, String)>,
}

/// How many samples were written, as the headers of 2.0 say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// All where the status is 2xx; else there is no header.
    Usual,
    /// There is no header.
    Unsaid,
    /// So many.
    Count(usize),
}

/// What goes wrong with an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    #[default]
    None,
    /// It comes late.
    Late(Duration),
    /// It never comes, and the connection stays open.
    Silence,
    /// The connection ends in good order instead.
    Close,
    /// The connection is reset instead.
    Reset,
    /// It comes, and the connection ends in good order although it need not.
    CloseAfter,
    /// The body is cut off, and the connection is reset.
    CutBody,
    /// The head comes byte by byte, with that pause.
    SlowHead(Duration),
    /// The body comes byte by byte, with that pause.
    SlowBody(Duration),
    /// The headers never end.
    EndlessHeaders,
    /// The body never ends.
    EndlessBody,
    /// Something else comes instead.
    Garbage(Vec<u8>),
}

impl Reply {
    /// That status, nothing wrong. Success stores.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: vec![],
            body: vec![],
            written: Written::Usual,
            stores: (200..300).contains(&status),
            trouble: Trouble::None,
            grpc: (0, String::new(), false),
            trailers: vec![],
        }
    }

    /// What receivers of remote write say.
    pub fn accepted() -> Self {
        Self::status(204)
    }

    /// A status of gRPC.
    pub fn grpc(code: u32, message: &str) -> Self {
        Self { grpc: (code, message.into(), false), stores: code == 0, ..Self::status(200) }
    }

    /// With that trouble. What does not arrive is stored all the same, where the status says so.
    pub fn with(self, trouble: Trouble) -> Self {
        Self { trouble, ..self }
    }

    /// With that header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With that body.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// With that said of what was written.
    pub fn written(self, written: Written) -> Self {
        Self { written, ..self }
    }

    /// Whether the samples are stored, whatever the status.
    pub fn storing(self, stores: bool) -> Self {
        Self { stores, ..self }
    }
}

type Plan = Box<dyn FnMut(&Received) -> Reply + Send>;

/// The double.
pub struct Receiver {
    port: Port,
    scheme: &'static str,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What its threads share.
struct Shared {
    plan: Mutex<Plan>,
    /// What is answered to a request whose body is not read.
    early: Mutex<Option<(usize, Reply)>>,
    received: Mutex<Vec<Received>>,
    stored: Mutex<Vec<Sample>>,
    open: Mutex<Vec<(usize, TcpStream)>>,
    connections: AtomicUsize,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    /// Whether it remembers nothing.
    is_forgetful: AtomicBool,
    is_down: AtomicBool,
    is_over: AtomicBool,
}

impl Receiver {
    /// Over HTTP/1.1, taking everything.
    pub fn start() -> Self {
        Self::launch("http", |shared, port| http::serve(shared, port, None))
    }

    /// Over HTTP/1.1 and TLS.
    pub fn start_tls(certificates: &Certificates) -> Self {
        let config = server_config(certificates, b"http/1.1");
        Self::launch("https", move |shared, port| http::serve(shared, port, Some(config)))
    }

    /// Over gRPC, without TLS.
    pub fn start_grpc() -> Self {
        Self::launch("http", |shared, port| grpc::serve(shared, port, None))
    }

    /// Over gRPC and TLS.
    pub fn start_grpc_tls(certificates: &Certificates) -> Self {
        let config = server_config(certificates, b"h2");
        Self::launch("https", move |shared, port| grpc::serve(shared, port, Some(config)))
    }

    fn launch(scheme: &'static str, serve: impl FnOnce(&Arc<Shared>, u16) + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            plan: Mutex::new(Box::new(|_| Reply::accepted())),
            early: Mutex::default(),
            received: Mutex::default(),
            stored: Mutex::default(),
            open: Mutex::default(),
            connections: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
            is_forgetful: AtomicBool::new(false),
            is_down: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let port = Port::take();
        let (theirs, number) = (shared.clone(), port.number());
        let thread = thread::spawn(move || serve(&theirs, number));
        let receiver = Self { port, scheme, shared, thread: Some(thread) };
        receiver.wait_until_listening();
        receiver
    }

    /// What it listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its URL with that path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port())
    }

    /// Answers these from now on, the last of them again and again.
    pub fn answer(&self, replies: impl IntoIterator<Item = Reply>) {
        let mut left: VecDeque<Reply> = replies.into_iter().collect();
        assert!(!left.is_empty(), "a receiver must answer something");
        self.answer_by(move |_| {
            if left.len() > 1 { left.pop_front() } else { left.front().cloned() }.expect("one")
        });
    }

    /// Answers as that says from now on.
    pub fn answer_by(&self, plan: impl FnMut(&Received) -> Reply + Send + 'static) {
        *lock(&self.shared.plan) = Box::new(plan);
    }

    /// Remembers nothing from now on: whoever answers keeps what counts.
    pub fn keep_nothing(&self) {
        self.shared.is_forgetful.store(true, Ordering::SeqCst);
    }

    /// Answers that to what is larger, before its body was read, which is never read; the connection is reset a moment later.
    pub fn refuse_early(&self, size: usize, reply: Reply) {
        *lock(&self.shared.early) = Some((size, reply));
    }

    /// All requests that arrived whole.
    pub fn requests(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// How many.
    pub fn count(&self) -> usize {
        lock(&self.shared.received).len()
    }

    /// All samples that were stored, in the order of their arrival.
    pub fn stored(&self) -> Vec<Sample> {
        lock(&self.shared.stored).clone()
    }

    /// The most requests that were under way at one time.
    pub fn most_under_way(&self) -> usize {
        self.shared.most_under_way.load(Ordering::SeqCst)
    }

    /// Connections that requests came on.
    pub fn connections(&self) -> usize {
        let numbers: BTreeSet<_> = lock(&self.shared.received).iter().map(|own| own.connection).collect();
        numbers.len()
    }

    /// Refuses connections and resets those that are open.
    pub fn go_down(&self) {
        self.shared.is_down.store(true, Ordering::SeqCst);
        self.shared.hang_up();
        crate::wait_until("the receiver to be down", Duration::from_secs(10), || {
            TcpStream::connect(("127.0.0.1", self.port())).is_err()
        });
    }

    /// Whether it is down.
    pub fn is_down(&self) -> bool {
        self.shared.is_down.load(Ordering::SeqCst)
    }

    /// Listens again.
    pub fn come_up(&self) {
        self.shared.is_down.store(false, Ordering::SeqCst);
        self.wait_until_listening();
    }

    fn wait_until_listening(&self) {
        crate::wait_until("the receiver to listen", Duration::from_secs(10), || {
            TcpStream::connect(("127.0.0.1", self.port())).is_ok()
        });
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("port", &self.port()).field("requests", &self.count()).finish()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.shared.hang_up();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn is_gone(&self) -> bool {
        self.is_over() || self.is_down.load(Ordering::SeqCst)
    }

    fn hang_up(&self) {
        for (_, stream) in lock(&self.open).drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// A request begins; it counts as under way for as long as the answer lives.
    fn begin(&self) -> UnderWay<'_> {
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_under_way.fetch_max(now, Ordering::SeqCst);
        UnderWay(self)
    }

    /// Takes a request, and says what to answer, with the headers that belong to it.
    fn take(&self, received: Received) -> Reply {
        let mut reply = lock(&self.plan)(&received);
        let samples = received.message.as_ref().map_or(&[][..], |message| &message.samples);
        let is_v2 = received.header("x-prometheus-remote-write-version").is_some_and(|v| v.starts_with("2."));
        let written = match reply.written {
            Written::Usual if is_v2 && (200..300).contains(&reply.status) => Some(samples.len()),
            Written::Count(count) => Some(count),
            Written::Usual | Written::Unsaid => None,
        };
        if let Some(count) = written {
            let count = count.to_string();
            reply = reply.header("X-Prometheus-Remote-Write-Samples-Written", &count);
            reply = reply.header("X-Prometheus-Remote-Write-Histograms-Written", "0");
        }
        if self.is_forgetful.load(Ordering::SeqCst) {
            return reply;
        }
        if reply.stores {
            lock(&self.stored).extend_from_slice(samples);
        }
        lock(&self.received).push(received);
        reply
    }
}

struct UnderWay<'a>(&'a Shared);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn server_config(certificates: &Certificates, protocol: &[u8]) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(&certificates.server.certificate)
        .expect("the file was written a moment ago")
        .collect::<Result<Vec<_>, _>>()
        .expect("the file holds certificates");
    let key = PrivateKeyDer::from_pem_file(&certificates.server.key).expect("the file holds a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("the usual versions").with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key).expect("key and certificate belong together");
    config.alpn_protocols = vec![protocol.to_vec()];
    Arc::new(config)
}
