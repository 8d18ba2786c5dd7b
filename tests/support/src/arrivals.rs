//! A receiver of remote write 1.0 and 2.0 that remembers what came, request by request, and behaves as it is told.
//!
//! Real stores say what they have in the end; this one also says in which order it came and what came twice. What a
//! newcomer would get wrong: a request that is sent again after a lost answer is no fault, as long as it is the same,
//! byte for byte. Everything else that goes back in the time of its series is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::{Port, Sample};

mod message;

/// What it does about a request that has come whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Keeps it and says so.
    Take,
    /// Keeps it, and closes the connection without a word.
    LoseAnswer,
    /// Keeps nothing and answers with this status.
    Refuse(u16),
    /// Keeps nothing and never answers.
    Hang,
}

/// A request that was kept.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// 1 or 2.
    pub version: u8,
    /// Stands for its body.
    pub digest: u64,
    /// How many samples it had, stale markers among them.
    pub samples: usize,
    /// Whether the same body was kept before.
    pub again: bool,
    /// Who sent it: `Authorization`, or nothing.
    pub from: Option<String>,
    /// What it had of the series that are followed: name, label `instance`, sample.
    pub followed: Vec<(String, String, Sample)>,
}

#[derive(Default)]
struct Kept {
    arrivals: Vec<Arrival>,
    digests: HashSet<u64>,
    /// The newest time of each series, by a hash of its labels.
    newest: HashMap<u64, i64>,
    /// Hashes of the labels of each series that is followed, by its name and its label `instance`.
    labels: BTreeMap<(String, String), HashSet<u64>>,
    faults: Vec<String>,
    samples: usize,
    refused: usize,
}

struct Shared {
    mood: Mutex<Mood>,
    token: Mutex<Option<String>>,
    only_1: AtomicBool,
    stopping: AtomicBool,
    kept: Mutex<Kept>,
    open: Mutex<Vec<TcpStream>>,
    /// The names of the series that are followed.
    follow: Vec<String>,
}

/// A running receiver. It ends when this is dropped.
pub struct Arrivals {
    port: Port,
    shared: Arc<Shared>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arrivals(127.0.0.1:{})", self.port.number())
    }
}

impl Arrivals {
    /// Starts one on a free port that follows the series of these names.
    pub fn start(follow: &[&str]) -> Self {
        let shared = Shared {
            mood: Mutex::new(Mood::Take),
            token: Mutex::default(),
            only_1: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            kept: Mutex::default(),
            open: Mutex::default(),
            follow: follow.iter().map(|name| (*name).to_owned()).collect(),
        };
        let mut arrivals = Self { port: Port::take(), shared: Arc::new(shared), acceptor: None };
        arrivals.up();
        arrivals
    }

    /// Where it takes remote write.
    pub fn write_url(&self) -> String {
        format!("http://127.0.0.1:{}/api/v1/write", self.port.number())
    }

    /// Listens, if it does not.
    pub fn up(&mut self) {
        if self.acceptor.is_some() {
            return;
        }
        self.shared.stopping.store(false, Ordering::SeqCst);
        let listener = TcpListener::bind(("127.0.0.1", self.port.number())).expect("the port is ours");
        let shared = Arc::clone(&self.shared);
        self.acceptor = Some(thread::spawn(move || accept(&listener, &shared)));
    }

    /// Listens no more and closes all connections, in the middle of whatever they do.
    pub fn down(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees that it is to end.
        let _ = TcpStream::connect(("127.0.0.1", self.port.number()));
        let _ = acceptor.join();
        for stream in lock(&self.shared.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Whether it listens.
    pub fn is_up(&self) -> bool {
        self.acceptor.is_some()
    }

    /// What it does from now on.
    pub fn set(&self, mood: Mood) {
        *lock(&self.shared.mood) = mood;
    }

    /// Takes requests with this token alone (`Authorization: Bearer`), and answers others with 401.
    pub fn only_with(&self, token: &str) {
        *lock(&self.shared.token) = Some(token.to_owned());
    }

    /// Answers requests of version 2.0 with 415.
    pub fn only_version_1(&self) {
        self.shared.only_1.store(true, Ordering::SeqCst);
    }

    /// All that was kept so far.
    pub fn all(&self) -> Vec<Arrival> {
        lock(&self.shared.kept).arrivals.clone()
    }

    /// How many requests were kept so far.
    pub fn requests(&self) -> usize {
        lock(&self.shared.kept).arrivals.len()
    }

    /// How many requests were refused so far.
    pub fn refused(&self) -> usize {
        lock(&self.shared.kept).refused
    }

    /// How many samples were kept so far, without those that came again.
    pub fn samples(&self) -> usize {
        lock(&self.shared.kept).samples
    }

    /// What must not be: samples that go back in the time of their series though their request is new, and requests
    /// that cannot be read.
    pub fn faults(&self) -> Vec<String> {
        lock(&self.shared.kept).faults.clone()
    }

    /// How many series of this name there were for each `instance`, by all their labels: one, unless labels change.
    pub fn series(&self, name: &str) -> BTreeMap<String, usize> {
        let kept = lock(&self.shared.kept);
        let of_name = kept.labels.iter().filter(|((of, _), _)| of == name);
        of_name.map(|((_, instance), labels)| (instance.clone(), labels.len())).collect()
    }

    /// The samples of the followed series of this name, by `instance`, in the order of their arrival, without those that
    /// came again.
    pub fn followed(&self, name: &str) -> BTreeMap<String, Vec<Sample>> {
        let mut found: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
        for arrival in lock(&self.shared.kept).arrivals.iter().filter(|arrival| !arrival.again) {
            for (_, instance, sample) in arrival.followed.iter().filter(|(of, _, _)| of == name) {
                found.entry(instance.clone()).or_default().push(*sample);
            }
        }
        found
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.down();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().map_while(Result::ok) {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        if let Ok(copy) = stream.try_clone() {
            lock(&shared.open).push(copy);
        }
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // The sender may be killed at any time; then there is nothing left to do.
            let _ = converse(stream, &shared);
        });
    }
}

/// One connection, to its end.
fn converse(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let Some((mut head, body)) = read_request(&mut reader)? else { return Ok(()) };
        if shared.stopping.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mood = *lock(&shared.mood);
        let wanted = lock(&shared.token).as_ref().map(|token| format!("Bearer {token}"));
        let is_2 = head.get("content-type").is_some_and(|kind| kind.contains("io.prometheus.write.v2"));
        let refused = match mood {
            Mood::Refuse(status) => Some(status),
            _ if wanted.is_some() && head.get("authorization") != wanted.as_ref() => Some(401),
            _ if is_2 && shared.only_1.load(Ordering::SeqCst) => Some(415),
            _ => None,
        };
        if let Some(status) = refused {
            lock(&shared.kept).refused += 1;
            write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 3\r\n\r\nno\n")?;
            continue;
        }
        if mood == Mood::Hang {
            let _ = reader.read(&mut [0]);
            return Ok(());
        }
        let samples = keep(&body, is_2, head.remove("authorization"), shared);
        if mood == Mood::LoseAnswer {
            return stream.shutdown(Shutdown::Both);
        }
        let written = if is_2 {
            format!(
                "X-Prometheus-Remote-Write-Samples-Written: {samples}\r\n\
                 X-Prometheus-Remote-Write-Histograms-Written: 0\r\n\
                 X-Prometheus-Remote-Write-Exemplars-Written: 0\r\n"
            )
        } else {
            String::new()
        };
        write!(stream, "HTTP/1.1 204 No Content\r\n{written}\r\n")?;
    }
}

type Head = BTreeMap<String, String>;

/// The next request, or nothing at the end of the connection. Names of headers in lower case.
fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<(Head, Vec<u8>)>> {
    let mut head = Head::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            head.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let length = head.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((head, body)))
}

fn hash(of: impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Keeps a request; returns how many samples it had.
fn keep(body: &[u8], is_2: bool, from: Option<String>, shared: &Shared) -> usize {
    let mut kept = lock(&shared.kept);
    let digest = hash(body);
    let Some(series) = message::read(body, is_2) else {
        kept.faults.push(format!("a request of {} bytes that cannot be read", body.len()));
        return 0;
    };
    let again = !kept.digests.insert(digest);
    let samples = series.iter().map(|(_, samples)| samples.len()).sum();
    let mut followed = Vec::new();
    for (labels, samples) in &series {
        let name = labels.get("__name__").map(String::as_str).unwrap_or_default();
        let instance = labels.get("instance").cloned().unwrap_or_default();
        if shared.follow.iter().any(|followed| followed == name) {
            kept.labels.entry((name.to_owned(), instance.clone())).or_default().insert(hash(labels));
            followed.extend(samples.iter().map(|sample| (name.to_owned(), instance.clone(), *sample)));
        }
        if again {
            continue;
        }
        let newest = kept.newest.entry(hash(labels)).or_insert(i64::MIN);
        let (before, mut last) = (*newest, *newest);
        for sample in samples {
            if sample.at <= last {
                let fault =
                    format!("{name} of {instance}: {} came after {last} (before this: {before})", sample.at);
                kept.faults.push(fault);
                break;
            }
            last = sample.at;
        }
        kept.newest.insert(hash(labels), last.max(before));
    }
    if !again {
        kept.samples += samples;
    }
    kept.arrivals.push(Arrival { version: if is_2 { 2 } else { 1 }, digest, samples, again, from, followed });
    samples
}
