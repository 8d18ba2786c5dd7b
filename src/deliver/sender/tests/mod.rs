//! The sender on a paused clock, between a list of records and a receiver of a few lines.
//!
//! - [`states`]: when it is what
//! - [`records`]: what becomes of a record
//! - [`random`]: what holds whatever is answered

mod random;
mod records;
mod states;

use super::*;
use crate::config::connect::Tls;
use crate::config::deliver::{Auth, Endpoint, Queue as QueueConfig, Url, Version};
use crate::deliver::board::View;
use crate::deliver::queue::{Entry, Record, Settled};
use crate::net::http::{Answer, Error, Request};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Mutex;
use tokio::sync::Notify;

/// Each this often, a collection.
const INTERVAL: Duration = Duration::from_secs(10);
/// An attempt takes no longer.
const TIMEOUT: Duration = Duration::from_secs(10);

thread_local! {
    static START: Cell<Option<(SystemTime, Instant)>> = const { Cell::new(None) };
}

/// The time of day, which stands still with the clock.
fn wall() -> SystemTime {
    let (then, start) = START.get().expect("a world");
    then + start.elapsed()
}

fn milliseconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// Answers a request; the number counts from 0.
type Script = Box<dyn FnMut(usize, &Request) -> Reply + Send>;

enum Reply {
    Status(u16, Vec<(&'static str, &'static str)>),
    Refused,
    Silence,
    Late(Duration, u16),
}

/// 204, and all was written, though nobody counted.
fn taken() -> Reply {
    Reply::Status(204, vec![("x-prometheus-remote-write-samples-written", "999")])
}

fn status(code: u16) -> Reply {
    Reply::Status(code, vec![])
}

#[derive(Default)]
struct Known {
    entries: VecDeque<Entry>,
    settled: Vec<(u64, Settled)>,
    accepted: u64,
    sequence: u64,
    sent: Vec<(Instant, Request)>,
    closed: usize,
    is_outdated: bool,
}

/// What a test sees.
#[derive(Clone)]
struct World {
    known: Arc<Mutex<Known>>,
    arrived: Arc<Notify>,
    board: Arc<Board>,
    course: Course,
    begun: Instant,
}

struct FakeBacklog(World);
struct FakeTransport(World, Script);

impl Backlog for FakeBacklog {
    async fn oldest(&mut self) -> Entry {
        loop {
            let arrived = self.0.arrived.notified();
            if let Some(entry) = self.0.known().entries.front() {
                return entry.clone();
            }
            arrived.await;
        }
    }

    fn settle(&mut self, sequence: u64, settled: Settled) {
        let mut known = self.0.known();
        let entry = known.entries.pop_front().expect("a record");
        let dropped: u32 = settled.dropped.iter().map(|(_, samples)| samples).sum();
        assert_eq!(entry.sequence, sequence);
        assert_eq!(settled.delivered + dropped, entry.record.samples, "{settled:?}");
        known.settled.push((sequence, settled));
    }

    fn is_empty(&self) -> bool {
        self.0.known().entries.is_empty()
    }

    fn accepted(&self) -> u64 {
        self.0.known().accepted
    }
}

impl Transport for FakeTransport {
    async fn send(&mut self, request: &Request, deadline: Instant) -> Result<Answer, Error> {
        let number = {
            let mut known = self.0.known();
            known.sent.push((Instant::now(), request.clone()));
            known.sent.len() - 1
        };
        let (code, headers) = match (self.1)(number, request) {
            Reply::Status(code, headers) => (code, headers),
            Reply::Late(pause, code) => {
                sleep(pause).await;
                (code, vec![("x-prometheus-remote-write-samples-written", "999")])
            }
            Reply::Refused => {
                let source = std::io::ErrorKind::ConnectionRefused.into();
                return Err(Error::Connect { server: "h:1".into(), source });
            }
            Reply::Silence => {
                tokio::time::sleep_until(deadline).await;
                return Err(Error::Timeout { server: "h:1".into(), what: "to answer" });
            }
        };
        let pair = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        Ok(Answer {
            status: StatusCode::from_u16(code).expect("a status"),
            headers: headers.into_iter().map(pair).collect(),
            trailers: HeaderMap::new(),
            body: Bytes::from_static(b"as it is"),
            is_second: false,
        })
    }

    fn close(&mut self) {
        self.0.known().closed += 1;
    }

    fn is_outdated(&self) -> bool {
        std::mem::take(&mut self.0.known().is_outdated)
    }

    fn redacted(&self, text: &str) -> String {
        text.replace("as it is", "as it was")
    }
}

impl World {
    fn new(version: Version, cap: Option<u64>) -> Self {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        START.set(Some((now, Instant::now())));
        let url = Url { secure: false, host: "h".into(), port: 1, path: "/push".into() };
        let endpoint =
            Endpoint { url, headers: vec![], auth: Auth::None, tls: Tls::default(), timeout: TIMEOUT };
        let output = Output {
            name: "one".into(),
            to: Destination::RemoteWrite { version, endpoint },
            queue: QueueConfig::default(),
            max_samples_per_second: cap,
            paused: false,
            external_labels: Default::default(),
        };
        let course = Course::new(Arc::new(output), 1, INTERVAL, Arc::default());
        let board = course.board();
        Self { known: Arc::default(), arrived: Arc::default(), board, course, begun: Instant::now() }
    }

    fn sender(
        &self,
        script: impl FnMut(usize, &Request) -> Reply + Send + 'static,
    ) -> Sender<FakeBacklog, FakeTransport> {
        let transport = FakeTransport(self.clone(), Box::new(script));
        let mut sender = Sender::new(&self.course, 0, FakeBacklog(self.clone()), transport);
        sender.clock = wall;
        sender
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panicked")
    }

    fn view(&self) -> View {
        self.board.view()
    }

    /// A record of these targets waits, collected now.
    fn push(&self, targets: &[&str]) {
        self.push_from(targets, Duration::ZERO);
    }

    /// A record of these targets waits, collected that long ago.
    fn push_from(&self, targets: &[&str], ago: Duration) {
        let at = milliseconds(wall() - ago);
        self.push_record(Record {
            body: packed(&message(targets, at)),
            samples: targets.len() as u32,
            min_timestamp: at,
            max_timestamp: at,
        });
    }

    fn push_record(&self, record: Record) {
        let mut known = self.known();
        known.sequence += 1;
        known.accepted += u64::from(record.samples);
        let sequence = known.sequence;
        known.entries.push_back(Entry { sequence, record, may_be_repeated: false });
        drop(known);
        self.arrived.notify_waiters();
    }

    /// When requests were sent, since the beginning.
    fn times(&self) -> Vec<Duration> {
        self.known().sent.iter().map(|(at, _)| *at - self.begun).collect()
    }

    /// The pauses between requests.
    fn pauses(&self) -> Vec<Duration> {
        self.times().windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    fn settled(&self) -> Vec<Settled> {
        self.known().settled.iter().map(|(_, settled)| settled.clone()).collect()
    }
}

/// Lets a sender run for that long, on the paused clock.
async fn run_for(sender: &mut Sender<FakeBacklog, FakeTransport>, time: Duration) {
    let stop = CancellationToken::new();
    let _ = tokio::time::timeout(time, sender.run(&stop)).await;
}

/// A series for each target, as 2.0 has it.
fn message(targets: &[&str], timestamp: i64) -> Vec<u8> {
    let mut symbols: Vec<String> =
        ["", "__name__", "up", "instance", "job", "redvigil"].map(Into::into).into();
    let mut timeseries = vec![];
    for target in targets {
        symbols.push((*target).into());
        let labels_refs = vec![1, 2, 3, symbols.len() as u32 - 1, 4, 5];
        let samples = vec![TestSample { value: 1.0, timestamp }];
        timeseries.push(TestSeries { labels_refs, samples });
    }
    TestRequest { symbols, timeseries }.encode_to_vec()
}

fn packed(message: &[u8]) -> Bytes {
    zstd::encode_all(message, 1).expect("packed").into()
}

/// The instances of a request's series, in 1.0 or 2.0.
fn instances(request: &Request) -> Vec<String> {
    let body = snap::raw::Decoder::new().decompress_vec(&request.body).expect("snappy");
    if request.headers["content-type"] == "application/x-protobuf" {
        let request = TestV1Request::decode(&*body).expect("1.0");
        let instance =
            |series: TestV1Series| series.labels.into_iter().find(|label| label.name == "instance");
        return request.timeseries.into_iter().filter_map(instance).map(|label| label.value).collect();
    }
    let request = TestRequest::decode(&*body).expect("2.0");
    let instance = |series: &TestSeries| {
        let pair = series.labels_refs.chunks(2).find(|pair| request.symbols[pair[0] as usize] == "instance");
        request.symbols[pair.expect("an instance")[1] as usize].clone()
    };
    request.timeseries.iter().map(instance).collect()
}

#[derive(Clone, PartialEq, Message)]
struct TestRequest {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<TestSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TestSeries {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<TestSample>,
}

#[derive(Clone, PartialEq, Message)]
struct TestSample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct TestV1Request {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TestV1Series>,
}

#[derive(Clone, PartialEq, Message)]
struct TestV1Series {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<TestLabel>,
}

#[derive(Clone, PartialEq, Message)]
struct TestLabel {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}
