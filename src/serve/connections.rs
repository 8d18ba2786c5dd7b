//! Connections: from a socket to requests, and when one must go.
//!
//! Each connection notes what it is doing in an [`Activity`]; one sweep a second looks at all of them and
//! closes those whose client is too slow. When there are as many as there may be, the one that has been idle
//! the longest makes room for the newcomer. So neither ten thousand silent clients nor as many that send a
//! byte a second keep others out, and no connection needs a timer of its own.
//!
//! What a newcomer would get wrong: a connection is never closed here while a handler works for it. A
//! collection has its own deadline. Over HTTP/2 the others of a connection may be served for hours while one answer is
//! left where it is: so that answer alone is broken off.

use super::{Places, State, answer};
use crate::telemetry::Metrics;
use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::SockRef;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// How long a client may take for the TLS handshake and the head of a request, from its first byte on, or
/// from the start of the connection.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// How long an idle connection is kept. Longer than usual scrape intervals: Prometheus keeps connections.
const IDLE_TIME: Duration = Duration::from_secs(300);

/// How long a client may take none of the answer; over HTTP/2 where it has other answers under way, how long it may
/// take for a piece of 64 KiB.
const SEND_TIME: Duration = Duration::from_secs(30);

/// How long a client may take to send a request when we stop.
const STOP_TIME: Duration = Duration::from_millis(500);

/// The largest head of a request, in bytes.
const HEAD: usize = 32 * 1024;

/// What is read ahead of a connection, in bytes.
const AHEAD: u32 = 64 * 1024;

/// Requests at once in one HTTP/2 connection. Prometheus has only one: all targets behind us share it, and some
/// may hang.
const STREAMS: u32 = 256;

/// All connections of all listeners.
pub struct Connections {
    most: usize,
    metrics: Arc<Metrics>,
    born: Instant,
    open: Mutex<Open>,
    stopping: AtomicBool,
}

#[derive(Default)]
struct Open {
    next: u64,
    by_id: HashMap<u64, (Arc<Activity>, AbortHandle)>,
}

impl Connections {
    /// Room for so many, one at least.
    pub fn new(most: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            metrics,
            born: Instant::now(),
            open: Mutex::default(),
            stopping: AtomicBool::new(false),
        })
    }

    /// Closes slow and long idle connections, once a second, until it is dropped.
    pub async fn sweep(self: Arc<Self>) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            second.tick().await;
            self.close_overdue();
        }
    }

    /// From now on who sends a request must be quick.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.open().by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Serves a connection as a task of `tasks`. Where there is no room and none can be made, drops it.
    pub fn serve<S: Socket>(
        self: &Arc<Self>,
        tasks: &mut JoinSet<()>,
        socket: S,
        state: State,
        stop: CancellationToken,
    ) {
        let mut open = self.open();
        if open.by_id.len() >= self.most {
            self.metrics.crowded_out.increment();
            if !open.close_idlest() {
                return;
            }
        }
        let id = open.next;
        open.next += 1;
        let activity = Arc::new(Activity::new(self.born));
        // The task waits for the lock if it ends before it is noted here.
        let place = Place { connections: self.clone(), id };
        let handle = tasks.spawn(serve(socket, place, activity.clone(), state, stop));
        open.by_id.insert(id, (activity, handle));
    }

    /// Makes room where files have run out.
    pub fn make_room(&self) {
        self.metrics.crowded_out.increment();
        self.open().close_idlest();
    }

    fn close_overdue(&self) {
        let stopping = self.stopping.load(Ordering::Relaxed);
        let mut open = self.open();
        open.by_id.retain(|_, (activity, handle)| {
            for _ in 0..activity.break_off_left(SEND_TIME) {
                self.metrics.too_slow.increment();
            }
            let is_overdue = activity.is_overdue(stopping);
            if is_overdue {
                handle.abort();
                if !activity.is_idle() {
                    self.metrics.too_slow.increment();
                }
            }
            !is_overdue
        });
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Open {
    /// Closes the connection that has been without a handler for the longest; false if all have one.
    fn close_idlest(&mut self) -> bool {
        let idle = self.by_id.iter().filter(|(_, (activity, _))| !activity.is_handling());
        let Some(id) = idle.min_by_key(|(id, (activity, _))| (activity.since(), **id)).map(|(id, _)| *id)
        else {
            return false;
        };
        if let Some((_, handle)) = self.by_id.remove(&id) {
            handle.abort();
        }
        true
    }
}

/// The entry of a connection: gone when its task is.
struct Place {
    connections: Arc<Connections>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().by_id.remove(&self.id);
    }
}

/// What a connection is doing, and since when.
pub struct Activity {
    born: Instant,
    phase: AtomicU8,
    /// Milliseconds from `born`.
    since: AtomicU64,
    /// Handlers at work.
    handling: AtomicU32,
    /// Answers of which the client has not taken a byte: over HTTP/2 it may leave them where they are.
    untaken: AtomicU32,
    /// HTTP/2: what is read is not always the beginning of a request.
    multiplexed: AtomicBool,
    /// HTTP/2: answers on their way.
    answers: Mutex<Vec<Weak<Mutex<Left>>>>,
}

/// What a connection is doing while no handler works for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// A handshake or the head of a request is to come, or has begun to.
    Head,
    /// An answer was given; the next request has not begun.
    Idle,
    /// An answer is not taken.
    Stuck,
}

impl Activity {
    fn new(born: Instant) -> Self {
        let activity = Self {
            born,
            phase: AtomicU8::new(Phase::Head as u8),
            since: AtomicU64::new(0),
            handling: AtomicU32::new(0),
            untaken: AtomicU32::new(0),
            multiplexed: AtomicBool::new(false),
            answers: Mutex::default(),
        };
        activity.enter(Phase::Head);
        activity
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Head,
            1 => Phase::Idle,
            _ => Phase::Stuck,
        }
    }

    fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.since.store(self.now(), Ordering::Relaxed);
    }

    fn is_handling(&self) -> bool {
        self.handling.load(Ordering::Relaxed) > 0
    }

    fn is_idle(&self) -> bool {
        self.phase() == Phase::Idle
    }

    /// Whether it must go. When we stop, handlers and answers under way are waited for, and little else.
    fn is_overdue(&self, stopping: bool) -> bool {
        let limit = match self.phase() {
            Phase::Head | Phase::Idle if stopping => STOP_TIME,
            Phase::Head => HEAD_TIME,
            Phase::Idle if self.untaken.load(Ordering::Relaxed) > 0 => SEND_TIME,
            Phase::Idle => IDLE_TIME,
            Phase::Stuck => SEND_TIME,
        };
        !self.is_handling() && Duration::from_millis(self.now().saturating_sub(self.since())) >= limit
    }

    /// Bytes came.
    fn read(&self) {
        if self.phase() != Phase::Head && !self.multiplexed.load(Ordering::Relaxed) {
            self.enter(Phase::Head);
        }
    }

    /// Bytes went, or could not go.
    fn wrote(&self, went: bool) {
        match (self.phase(), went) {
            (Phase::Idle, false) => self.enter(Phase::Stuck),
            // What is still to be sent is idle time again, until the next piece cannot go.
            (Phase::Stuck, true) => self.enter(Phase::Idle),
            _ => {}
        }
    }

    /// The connection took a piece of an answer: as long as there are more, and they go, the client is not slow.
    fn took(&self) {
        if self.phase() == Phase::Idle {
            self.enter(Phase::Idle);
        }
    }

    /// An answer on its way. Only over HTTP/2 it may be left while others go on.
    fn send(self: &Arc<Self>, untaken: Untaken, body: super::response::Body, places: Option<Places>) -> Sent {
        let size = body.size_hint();
        let left = Arc::new(Mutex::new(Left { body: Some((body, places)), since: self.now() }));
        if self.multiplexed.load(Ordering::Relaxed) {
            let mut answers = lock(&self.answers);
            answers.retain(|answer| answer.strong_count() > 0);
            answers.push(Arc::downgrade(&left));
        }
        Sent { left, size, untaken }
    }

    /// Breaks off the answers of which nothing was taken for so long, and says how many. What they hold is free; the
    /// client is told if it ever comes for more.
    fn break_off_left(&self, limit: Duration) -> usize {
        let now = self.now();
        let is_left = |left: &Left| Duration::from_millis(now.saturating_sub(left.since)) >= limit;
        let answers: Vec<_> = lock(&self.answers).iter().filter_map(Weak::upgrade).collect();
        let broken = answers.iter().filter(|answer| {
            let mut left = lock(answer);
            is_left(&left) && left.body.take().is_some()
        });
        broken.count()
    }

    fn begin(self: &Arc<Self>) -> Handled {
        self.handling.fetch_add(1, Ordering::Relaxed);
        Handled(self.clone())
    }
}

/// A handler at work; dropped when it is done or given up.
struct Handled(Arc<Activity>);

impl Drop for Handled {
    fn drop(&mut self) {
        self.0.enter(Phase::Idle);
        self.0.handling.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer on its way: dropped when it is handed to the connection, or with it.
struct Sent {
    left: Arc<Mutex<Left>>,
    /// What the body said of its length at first.
    size: SizeHint,
    untaken: Untaken,
}

/// What is left of an answer.
struct Left {
    /// Nothing where it was broken off. The page takes memory until the client takes it.
    body: Option<(super::response::Body, Option<Places>)>,
    /// When a piece was taken last, in milliseconds as of [`Activity`].
    since: u64,
}

/// Nothing panics while a lock of an answer is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Untaken(Arc<Activity>);

impl Untaken {
    fn new(activity: Arc<Activity>) -> Self {
        activity.untaken.fetch_add(1, Ordering::Relaxed);
        Self(activity)
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        self.0.untaken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Self { left, untaken: Untaken(activity), .. } = &mut *self;
        let mut left = lock(left);
        let Some((body, _)) = &mut left.body else {
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        };
        let polled = Pin::new(body).poll_frame(context);
        left.since = activity.now();
        if polled.is_ready() {
            activity.took();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.left).body.as_ref().is_some_and(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.left).body.as_ref().map_or_else(|| self.size, |(body, _)| body.size_hint())
    }
}

/// A socket that came in by a listener.
pub trait Socket: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static {
    /// Waits until there is a byte to read, or the end, and leaves it there.
    fn first_byte(&self) -> impl Future<Output = io::Result<()>> + Send;
}

impl Socket for TcpStream {
    async fn first_byte(&self) -> io::Result<()> {
        self.async_io(Interest::READABLE, || peek(self)).await
    }
}

impl Socket for UnixStream {
    async fn first_byte(&self) -> io::Result<()> {
        self.async_io(Interest::READABLE, || peek(self)).await
    }
}

/// Whether there is something to read. What tokio says of it is a guess until somebody has tried.
fn peek(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]).map(drop)
}

/// What became of a connection.
type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// A later stage of a connection. Boxed, so that the stages before it are small: a client that says nothing
/// costs a socket and 1 KB, one over plain HTTP pays for no TLS.
type Stage = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// One connection, to its end.
async fn serve<S: Socket>(
    socket: S,
    _place: Place,
    activity: Arc<Activity>,
    state: State,
    stop: CancellationToken,
) {
    // Buffers are made by whoever reads: not before there is something to read.
    tokio::select! {
        came = socket.first_byte() => if came.is_err() { return },
        () = stop.cancelled() => return,
    }
    let tls = state.web.current().tls.clone();
    let watched = Watched { inner: socket, activity: activity.clone() };
    let stage = match tls {
        None => http1(watched, activity, state, stop),
        Some(tls) => handshake(watched, tls, activity, state, stop),
    };
    if let Err(error) = stage.await {
        debug!(%error, "connection ended");
    }
}

fn handshake<S: Socket>(
    watched: Watched<S>,
    tls: Arc<rustls::ServerConfig>,
    activity: Arc<Activity>,
    state: State,
    stop: CancellationToken,
) -> Stage {
    Box::pin(async move {
        let stream = TlsAcceptor::from(tls).accept(watched).await?;
        let next = if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            activity.multiplexed.store(true, Ordering::Relaxed);
            http2(stream, activity, state, stop)
        } else {
            http1(stream, activity, state, stop)
        };
        next.await
    })
}

fn http1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    activity: Arc<Activity>,
    state: State,
    stop: CancellationToken,
) -> Stage {
    let service = service_fn(move |request| handle(activity.clone(), state.clone(), request));
    let mut http = http1::Builder::new();
    http.header_read_timeout(None).max_header_size(HEAD).max_buf_size(AHEAD as usize);
    let mut connection = Box::pin(http.serve_connection(TokioIo::new(stream), service));
    Box::pin(async move {
        tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    })
}

fn http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    activity: Arc<Activity>,
    state: State,
    stop: CancellationToken,
) -> Stage {
    let service = service_fn(move |request| handle(activity.clone(), state.clone(), request));
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.max_header_list_size(HEAD as u32).max_concurrent_streams(STREAMS).timer(TokioTimer::new());
    http.initial_stream_window_size(AHEAD).initial_connection_window_size(AHEAD);
    let mut connection = Box::pin(http.serve_connection(TokioIo::new(stream), service));
    Box::pin(async move {
        tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    })
}

async fn handle(
    activity: Arc<Activity>,
    state: State,
    request: Request<Incoming>,
) -> Result<hyper::Response<Sent>, Infallible> {
    let _handled = activity.begin();
    let untaken = Untaken::new(activity.clone());
    let mut response = answer(state, request).await;
    let places = response.extensions_mut().remove();
    Ok(response.map(|body| activity.send(untaken, body, places)))
}

/// A socket that notes what happens on it.
struct Watched<S> {
    inner: S,
    activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, into))?;
        if into.filled().len() > before {
            self.activity.read();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.activity.wrote(polled.is_ready());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(context, pieces);
        self.activity.wrote(polled.is_ready());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    /// Whether a connection must go after these events and then this silence.
    async fn check(events: &[fn(&Arc<Activity>)], silence_ms: u64, expected: bool) {
        let activity = Arc::new(Activity::new(Instant::now()));
        for event in events {
            event(&activity);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        tokio::time::advance(Duration::from_millis(silence_ms)).await;
        assert_eq!(activity.is_overdue(false), expected, "{:?} after {silence_ms} ms", activity.phase());
    }

    fn reads(activity: &Arc<Activity>) {
        activity.read();
    }

    fn answers(activity: &Arc<Activity>) {
        drop(activity.begin());
    }

    fn writes(activity: &Arc<Activity>) {
        activity.wrote(true);
    }

    fn takes(activity: &Arc<Activity>) {
        activity.took();
    }

    fn is_stuck(activity: &Arc<Activity>) {
        activity.wrote(false);
    }

    fn is_multiplexed(activity: &Arc<Activity>) {
        activity.multiplexed.store(true, Ordering::Relaxed);
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_own_limit() {
        check(&[], 9_999, false).await;
        check(&[], 10_000, true).await;
        // Dripping bytes do not buy time: it counts from the first one.
        check(&[reads as fn(&Arc<Activity>); 9], 0, false).await;
        check(&[reads as fn(&Arc<Activity>); 10], 0, true).await;
        check(&[reads, answers], 298_999, false).await;
        check(&[reads, answers], 299_000, true).await;
        check(&[reads, answers, reads], 8_999, false).await;
        check(&[reads, answers, reads], 9_000, true).await;
        check(&[answers, is_stuck], 28_999, false).await;
        check(&[answers, is_stuck], 29_000, true).await;
        check(&[answers, is_stuck, writes, is_stuck], 28_999, false).await;
        check(&[answers, is_stuck, writes], 29_000, false).await;
        check(&[answers, takes], 298_999, false).await;
        check(&[answers, takes], 299_000, true).await;
        check(&[answers, is_stuck, takes], 28_000, true).await;
        check(&[is_multiplexed, answers, reads], 20_000, false).await;
        check(&[is_multiplexed, answers, reads], 298_000, true).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_a_handler_at_work_stays() {
        let activity = Arc::new(Activity::new(Instant::now()));
        let handled = activity.begin();
        tokio::time::advance(Duration::from_secs(100_000)).await;
        assert!(!activity.is_overdue(false) && !activity.is_overdue(true));
        drop(handled);
        tokio::time::advance(STOP_TIME).await;
        assert!(!activity.is_overdue(false) && activity.is_overdue(true));
    }

    /// A page of 8 MB that holds `machine`.
    fn large(machine: &Arc<exposition::Families>) -> super::super::response::Body {
        let member = |number: usize| exposition::Labelled {
            labels: [("instance".into(), format!("host-{number}:6379").into())].into(),
            parts: vec![machine.clone()],
        };
        let page = exposition::Stream::new(exposition::Format::Text, (0..100_000).map(member).collect(), &[]);
        let flow = super::super::flow::Flow::new(page, exposition::Encoding::Identity);
        super::super::response::Body::Flow(Box::new(flow.expect("a compressor")))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_left_is_broken_off_while_others_of_its_connection_go_on() {
        static UP: exposition::Desc = exposition::Desc::gauge("redis_up", "Whether it is.");
        let mut out = exposition::Builder::new();
        out.push(&UP, 1.0);
        let machine = Arc::new(out.finish());
        let activity = Arc::new(Activity::new(Instant::now()));
        activity.multiplexed.store(true, Ordering::Relaxed);
        let (client, server) = tokio::io::duplex(16 * 1024);
        let (page, serving) = (machine.clone(), activity.clone());
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let is_large = request.uri().path() == "/large";
                let body = if is_large { large(&page) } else { "ok".into() };
                let _handled = serving.begin();
                let sent = serving.send(Untaken::new(serving.clone()), body, None);
                std::future::ready(Ok::<_, Infallible>(hyper::Response::new(sent)))
            });
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(server), service).await
        });
        let mut http = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        http.initial_stream_window_size(AHEAD);
        let (mut client, connection) = http.handshake(TokioIo::new(client)).await.expect("a connection");
        tokio::spawn(connection);
        let mut ask = async |path: &str| {
            let empty = http_body_util::Empty::<Bytes>::new();
            let request = Request::builder().uri(format!("http://h{path}")).body(empty).expect("a request");
            client.send_request(request).await.expect("an answer")
        };
        let left = ask("/large").await.into_body();
        for _ in 0..29 {
            let answer = ask("/small").await.into_body().collect().await.expect("whole").to_bytes();
            assert_eq!(answer, "ok");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(activity.break_off_left(SEND_TIME), 0);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!activity.is_overdue(false) && Arc::strong_count(&machine) > 100_000);
        assert_eq!(activity.break_off_left(SEND_TIME), 1);
        // The service has one.
        assert_eq!(Arc::strong_count(&machine), 2);
        assert_eq!(activity.break_off_left(SEND_TIME), 0, "it is counted once");
        assert!(left.collect().await.is_err());
        assert_eq!(ask("/small").await.status(), 200, "the connection goes on");
    }
}
