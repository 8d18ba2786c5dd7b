//! The sender against a double of a receiver, over real sockets: what arrives, when, and what it takes back.
//!
//! Ported from what prometheus/compliance checks of a sender of remote write, in our own words, and more.
//!
//! - [`protocol`]: headers and bodies of 2.0, 1.0
//! - [`retry`]: what is sent again, when, and what never
//! - [`fallback`]: from 2.0 to 1.0
//! - [`response`]: what an answer may look like
//! - [`trouble`]: lost answers, resets, slowness, floods
//! - [`otlp`]: OTLP over HTTP and gRPC
//! - [`identity`]: TLS, tokens, passwords, headers

mod fallback;
mod identity;
mod otlp;
mod protocol;
mod response;
mod retry;
mod trouble;

use prost::Message as _;
use redvigil::config::connect::Tls;
use redvigil::config::deliver::{
    Auth, Destination, Durability, Endpoint, Output, Queue as QueueConfig, Url, Version,
};
use redvigil::deliver::board::{Board, View};
use redvigil::deliver::queue::storage::{File, Storage};
use redvigil::deliver::queue::{Queue, Reason, Record, Status};
use redvigil::deliver::sender::Course;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use testbed::{Receiver, wait_until};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A sender with a queue in memory, in a thread of its own.
struct Push {
    queue: Queue,
    board: Arc<Board>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    last: AtomicI64,
}

/// An endpoint on our own machine.
fn endpoint(secure: bool, port: u16, path: &str) -> Endpoint {
    Endpoint {
        url: Url { secure, host: "127.0.0.1".into(), port, path: path.into() },
        headers: vec![],
        auth: Auth::None,
        tls: Tls::default(),
        timeout: Duration::from_secs(10),
    }
}

fn output(to: Destination) -> Output {
    Output {
        name: "test".into(),
        to,
        queue: QueueConfig { durability: Durability::Memory, ..QueueConfig::default() },
        max_samples_per_second: None,
        paused: false,
        external_labels: Default::default(),
    }
}

/// Pushes to that receiver by remote write.
fn push_to(receiver: &Receiver, version: Version) -> Push {
    push_with(receiver, version, |_| ())
}

fn push_with(receiver: &Receiver, version: Version, change: impl FnOnce(&mut Endpoint)) -> Push {
    let secure = receiver.url("").starts_with("https");
    let mut endpoint = endpoint(secure, receiver.port(), "/api/v1/write");
    change(&mut endpoint);
    Push::start(output(Destination::RemoteWrite { version, endpoint }))
}

impl Push {
    fn start(output: Output) -> Self {
        let queue = Queue::open(Path::new("/nowhere"), &output.queue, Arc::new(NoDisk)).expect("a queue");
        let lane = queue.lane(0).expect("a lane");
        let course = Course::new(Arc::new(output), 1, Duration::from_secs(10), Arc::default());
        let (board, stop) = (course.board(), CancellationToken::new());
        let mut sender = course.sender(0, lane, queue.clone());
        let token = stop.clone();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let run = sender.run(&token);
                tokio::pin!(run);
                tokio::select! {
                    () = &mut run => {}
                    () = async { token.cancelled().await; tokio::time::sleep(Duration::from_millis(200)).await } => {}
                }
            });
        });
        Self { queue, board, stop, thread: Some(thread), last: AtomicI64::new(0) }
    }

    /// A record with a sample for each of these targets, collected now.
    fn push(&self, targets: &[&str]) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
        let at = now.max(self.last.load(Ordering::SeqCst) + 1);
        self.last.store(at, Ordering::SeqCst);
        let body = zstd::encode_all(&*message(targets, at), 1).expect("packed");
        let samples = targets.len() as u32;
        self.queue.append(0, Record { body: body.into(), samples, min_timestamp: at, max_timestamp: at });
        at
    }

    fn view(&self) -> View {
        self.board.view()
    }

    /// What the queue counts; the equation holds at any moment.
    fn status(&self) -> Status {
        let status = self.queue.status();
        assert!(status.total.balance(), "{:?}", status.total);
        status
    }

    fn wait_until_empty(&self) {
        wait_until("all to be delivered or counted", PATIENCE, || self.status().total.pending == 0);
    }

    /// Waits until nothing is pending, and says what was delivered and what was not.
    fn outcome(&self) -> (u64, Vec<(Reason, u64)>) {
        self.wait_until_empty();
        let total = self.status().total;
        let dropped = Reason::ALL.map(|reason| (reason, total.dropped.get(reason)));
        (total.delivered, dropped.into_iter().filter(|(_, samples)| *samples > 0).collect())
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A counter, a gauge and their metadata for each target, as our encoder would have it: here by hand.
fn message(targets: &[&str], timestamp: i64) -> Vec<u8> {
    let fixed = ["", "__name__", "redis_up", "instance", "job", "redvigil", "Whether it answers."];
    let mut symbols: Vec<String> = fixed.map(Into::into).into();
    let mut timeseries = vec![];
    for target in targets {
        symbols.push((*target).into());
        timeseries.push(Series {
            labels_refs: vec![1, 2, 3, symbols.len() as u32 - 1, 4, 5],
            samples: vec![Sample { value: 1.0, timestamp }],
            metadata: Some(Metadata { kind: 2, help_ref: 6, unit_ref: 0 }),
        });
    }
    Request { symbols, timeseries }.encode_to_vec()
}

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<Series>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Series {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint32, tag = "3")]
    help_ref: u32,
    #[prost(uint32, tag = "4")]
    unit_ref: u32,
}

/// The disk of a queue that is in memory: nobody asks it anything.
struct NoDisk;

const NOBODY: &str = "a queue in memory touches no disk";

impl Storage for NoDisk {
    fn create_folder(&self, _: &Path) -> io::Result<()> {
        panic!("{NOBODY}")
    }
    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        panic!("{NOBODY}")
    }
    fn create(&self, _: &Path) -> io::Result<Arc<dyn File>> {
        panic!("{NOBODY}")
    }
    fn open(&self, _: &Path) -> io::Result<Arc<dyn File>> {
        panic!("{NOBODY}")
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        panic!("{NOBODY}")
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        panic!("{NOBODY}")
    }
    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        panic!("{NOBODY}")
    }
    fn free(&self, _: &Path) -> io::Result<u64> {
        panic!("{NOBODY}")
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn Send + Sync>> {
        panic!("{NOBODY}")
    }
}
