//! gRPC over one connection of HTTP/2 that many calls share.
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
//!
//! - `frames`: messages in a body
//! - `status`: how a call ended
//!
//! Names, sockets and TLS are those of [`http`]; which server to ask, and whether to ask again, is for who knows what the
//! calls mean.
//!
//! What a newcomer would get wrong: a server that is gone without a word looks like one that has nothing to say, and a
//! server that hangs still takes connections. So each call has a deadline, and the connection asks by `PING` whether the
//! other side lives, while something is open on it.

mod frames;
mod status;

use super::http::connection::{self, HEADER_SIZE, Socket, Tasks};
use super::http::{self, CONNECT, Place, Version};
use crate::config::connect::Tls;
use bytes::Bytes;
use frames::Frames;
pub use frames::{MESSAGE, framed};
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, USER_AGENT};
use hyper::rt::Executor as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use prost::Message;
use rustls::ClientConfig;
pub use status::{Code, message};
use std::convert::Infallible;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// How long nothing may come before a `PING` asks. Servers made with grpc-go cut clients that ask more often than every
/// five seconds (etcd: `--grpc-keepalive-min-time`), or while no call is open.
const PING: Duration = Duration::from_secs(6);

/// How long the answer to a `PING` may take.
const PONG: Duration = Duration::from_secs(3);

/// What the server may send of one answer, and of all of them, before we have read it. Answers that nobody reads (a watch
/// whose owner is busy) must not hold up the others.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Messages that wait to be sent on an open stream. Who sends when it is full waits, until its deadline.
const OUTBOX: usize = 8;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or it ended.
    #[error(transparent)]
    Transport(#[from] http::Error),
    /// The server says no.
    #[error("gRPC status {}: {message}", code.0)]
    Status {
        /// How.
        code: Code,
        /// Why, in its words.
        message: Box<str>,
    },
    /// A message above [`MESSAGE`].
    #[error("a message of {size} bytes, where {MESSAGE} are the most")]
    TooLarge {
        /// How large.
        size: usize,
    },
    /// Not what gRPC allows.
    #[error("{0}")]
    Protocol(&'static str),
}

/// A connection. It ends when it is dropped, or [closed](Self::close).
#[derive(Debug)]
pub struct Channel {
    asks: http2::SendRequest<Outgoing>,
    place: Place,
    /// What TLS was made with.
    config: Option<Arc<ClientConfig>>,
    tasks: Tasks,
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl Channel {
    /// Connects, until then and for at most five seconds.
    ///
    /// That a server lives is not known before it has answered something: the system takes connections for one that hangs.
    pub(super) async fn open(
        place: &Place,
        tls: &Tls,
        config: Option<Arc<ClientConfig>>,
        until: Instant,
    ) -> Result<Self, Error> {
        let until = until.min(Instant::now() + CONNECT);
        let opened = timeout_at(until, async {
            let socket = connection::socket(place, tls, config.as_ref(), Version::V2, until).await?;
            Self::shake_hands(place, socket, config).await
        });
        let slow = || http::Error::Timeout { server: place.server.clone(), what: connection::CONNECTING };
        opened.await.unwrap_or_else(|_| Err(slow().into()))
    }

    async fn shake_hands(
        place: &Place,
        socket: Box<dyn Socket>,
        config: Option<Arc<ClientConfig>>,
    ) -> Result<Self, Error> {
        let tasks = Tasks::default();
        let mut builder = http2::Builder::new(tasks.clone());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .keep_alive_while_idle(false)
            .max_header_list_size(HEADER_SIZE as u32)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let made = builder.handshake(TokioIo::new(socket)).await;
        let (asks, connection) = made.map_err(|source| broken(place, source))?;
        tasks.execute(connection);
        Ok(Self { asks, place: place.clone(), config, tasks })
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.asks.is_closed()
    }

    /// Ends it for all that is under way on it.
    pub fn close(&self) {
        self.tasks.abort();
    }

    /// Host and port of the other side.
    pub fn server(&self) -> &Arc<str> {
        &self.place.server
    }

    /// Whether that is what its TLS was made with.
    pub(super) fn was_made_with(&self, config: Option<&Arc<ClientConfig>>) -> bool {
        match (&self.config, config) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (None, None) => true,
            _ => false,
        }
    }

    /// One message there, one message back. Also for methods that are streams, where one of each is all that is wanted.
    ///
    /// Cancel safe: the call is given up then, the connection is not.
    pub async fn unary<A: Message + Default>(
        &self,
        path: &'static str,
        metadata: &HeaderMap,
        ask: &impl Message,
        deadline: Instant,
    ) -> Result<A, Error> {
        let slow = || http::Error::Timeout { server: self.place.server.clone(), what: connection::WAITING };
        let answered = timeout_at(deadline, async {
            let body = Outgoing::Once(Some(message_of(ask)?));
            let head = self.request(path, metadata, Some(deadline), body)?;
            let mut asks = self.asks.clone();
            asks.ready().await.map_err(|source| self.broken(source))?;
            let answer = asks.send_request(head).await.map_err(|source| self.broken(source))?;
            let mut incoming = Inbox::of(answer)?;
            let message = incoming.next(&self.place).await?;
            let Some(message) = message else {
                return Err(Error::Protocol("the call went well, but there is no answer"));
            };
            match incoming.next(&self.place).await? {
                None => decoded(message),
                Some(_) => Err(Error::Protocol("there is more than one answer")),
            }
        });
        answered.await.unwrap_or_else(|_| Err(slow().into()))
    }

    /// A call whose both sides stay open. Nothing is awaited: the server says no with the first message at the latest.
    pub fn stream<Q: Message, A: Message + Default>(
        self: &Arc<Self>,
        path: &'static str,
        metadata: &HeaderMap,
    ) -> Result<Stream<Q, A>, Error> {
        // What waits in it is written by the connection; who finds it full waits.
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let head = self.request(path, metadata, None, Outgoing::Open(messages))?;
        let answer = self.asks.clone().send_request(head);
        Ok(Stream {
            channel: self.clone(),
            outbox,
            inbox: Incomings::Awaited(Box::pin(answer)),
            messages: PhantomData,
        })
    }

    fn request(
        &self,
        path: &'static str,
        metadata: &HeaderMap,
        deadline: Option<Instant>,
        body: Outgoing,
    ) -> Result<hyper::Request<Outgoing>, Error> {
        let scheme = if self.place.is_secure { "https" } else { "http" };
        let url = format!("{scheme}://{}{path}", self.place.authority());
        let request = hyper::Request::post(url).body(body);
        let mut request =
            request.map_err(|_| http::Error::Header { what: "host or path of the URL".into() })?;
        let headers = request.headers_mut();
        headers.clone_from(metadata);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("redvigil/", env!("CARGO_PKG_VERSION"))));
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            headers.insert(HeaderName::from_static("grpc-timeout"), timeout(left));
        }
        Ok(request)
    }

    fn broken(&self, source: hyper::Error) -> Error {
        broken(&self.place, source)
    }
}

/// A call whose both sides stay open. It is cancelled when it is dropped.
#[derive(Debug)]
pub struct Stream<Q, A> {
    channel: Arc<Channel>,
    outbox: mpsc::Sender<Bytes>,
    inbox: Incomings,
    messages: PhantomData<fn(Q) -> A>,
}

type Awaited = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

enum Incomings {
    /// The head is not there yet: a server may send it with its first message.
    Awaited(Awaited),
    Open(Inbox),
    /// What ended it has been told.
    Over,
}

impl std::fmt::Debug for Incomings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Awaited(_) => "Awaited",
            Self::Open(_) => "Open",
            Self::Over => "Over",
        })
    }
}

impl<Q: Message, A: Message + Default> Stream<Q, A> {
    /// The connection that it is on.
    pub fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// Sends a message. Waits only where eight others wait to be written.
    pub async fn send(&mut self, message: &Q, deadline: Instant) -> Result<(), Error> {
        let place = &self.channel.place;
        let message = message_of(message)?;
        match timeout_at(deadline, self.outbox.send(message)).await {
            // Why the other side wants no more is what `next` says.
            Ok(_) => Ok(()),
            Err(_) => {
                Err(http::Error::Timeout { server: place.server.clone(), what: connection::WAITING }.into())
            }
        }
    }

    /// The next message; `None` where the server ended the call and all went well.
    ///
    /// Cancel safe. Waits without end: who calls has a deadline.
    pub async fn next(&mut self) -> Result<Option<A>, Error> {
        let next = self.message().await;
        if !matches!(next, Ok(Some(_))) {
            self.inbox = Incomings::Over;
        }
        next.and_then(|message| message.map(decoded).transpose())
    }

    async fn message(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match &mut self.inbox {
                Incomings::Awaited(answer) => {
                    let answer = answer.await.map_err(|source| self.channel.broken(source))?;
                    self.inbox = Incomings::Open(Inbox::of(answer)?);
                }
                Incomings::Open(inbox) => return inbox.next(&self.channel.place).await,
                Incomings::Over => return Ok(None),
            }
        }
    }
}

/// What comes back of a call.
struct Inbox {
    body: Incoming,
    frames: Frames,
    /// How it ended, where that is known.
    has_ended: bool,
}

impl Inbox {
    fn of(answer: Response<Incoming>) -> Result<Self, Error> {
        let (head, body) = answer.into_parts();
        status::of_head(head.status, &head.headers)?;
        let has_ended = status::of(&head.headers).is_some();
        Ok(Self { body, frames: Frames::default(), has_ended })
    }

    /// The next message; `None` where there is no more, and all went well. Cancel safe.
    async fn next(&mut self, place: &Place) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(message) = self.frames.next()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => self.frames.push(&piece),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        if let Some(ended) = status::of(&trailers) {
                            ended?;
                            self.has_ended = true;
                        }
                    }
                },
                Some(Err(source)) => return Err(broken(place, source)),
                None if self.has_ended && self.frames.is_empty() => return Ok(None),
                None => return Err(Error::Protocol("the answer was cut off")),
            }
        }
    }
}

/// What we send: one message, or as many as come.
#[derive(Debug)]
enum Outgoing {
    Once(Option<Bytes>),
    Open(mpsc::Receiver<Bytes>),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Once(message) => Poll::Ready(message.take().map(|message| Ok(Frame::data(message)))),
            Self::Open(messages) => {
                messages.poll_recv(context).map(|message| message.map(|message| Ok(Frame::data(message))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Once(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Once(message) => SizeHint::with_exact(message.as_ref().map_or(0, Bytes::len) as u64),
            Self::Open(_) => SizeHint::default(),
        }
    }
}

fn message_of(message: &impl Message) -> Result<Bytes, Error> {
    let size = message.encoded_len();
    if size > MESSAGE { Err(Error::TooLarge { size }) } else { Ok(framed(&message.encode_to_vec()).into()) }
}

fn decoded<A: Message + Default>(message: Bytes) -> Result<A, Error> {
    A::decode(message).map_err(|_| Error::Protocol("a message makes no sense"))
}

fn broken(place: &Place, source: hyper::Error) -> Error {
    http::Error::Http { server: place.server.clone(), source }.into()
}

/// `grpc-timeout`: at most eight digits and a unit.
fn timeout(left: Duration) -> HeaderValue {
    let milliseconds = left.as_millis().clamp(1, 99_999_999);
    HeaderValue::from_str(&format!("{milliseconds}m")).expect("digits and a letter")
}

#[cfg(test)]
pub(super) mod double;
#[cfg(test)]
mod tests;
