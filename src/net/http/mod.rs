//! A client for one HTTP server: one that takes what we push, or keeps what we want to know.
//!
//! - `connection`: names, sockets, TLS, HTTP/1.1 and HTTP/2
//! - `identity`: who we are: headers, tokens and passwords from files that change
//! - `text`: what stands in a path, and what is shown of an answer
//!
//! What a newcomer would get wrong: to who pushes, an answer counts as soon as its status is known. What a server says after
//! it may never end, so it is read for a while and up to a size, and a connection on which more would come is given up
//! ([`Client::send`]). Who wants to know something needs all of the body, or an error ([`Client::fetch`]).

pub(super) mod connection;
pub(super) mod identity;
mod text;

use crate::config::connect::Tls;
use crate::config::deliver::{Endpoint, Url};
use crate::net::tls;
use bytes::Bytes;
use connection::Connection;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{HOST, HeaderMap, HeaderValue};
pub use hyper::{Method, StatusCode};
use identity::Identity;
pub use identity::read as word;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
pub use text::{encoded, said};
use tokio::time::{Instant, timeout_at};

/// How long a connection may take to be made.
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// How long the body of an answer is waited for, where the status is all that matters.
const BODY: Duration = Duration::from_secs(2);

/// How much of a body is read there.
const BODY_SIZE: usize = 16 * 1024;

/// A client of one server, with one connection that stays open.
#[derive(Debug)]
pub struct Client {
    place: Place,
    tls: Tls,
    clients: Arc<tls::Clients>,
    version: Version,
    identity: Identity,
    /// The query of the URL, which may hold a secret.
    query: Option<Box<str>>,
    open: Option<Connection>,
}

/// The version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    V1,
    /// HTTP/2, also without TLS.
    V2,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// By which method.
    pub method: Method,
    /// Path and query.
    pub path: Arc<str>,
    /// Headers beside those of the endpoint, which do not override them.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// What came behind the body; empty where nothing did, or the body did not end.
    pub trailers: HeaderMap,
    /// The body, or its beginning.
    pub body: Bytes,
    /// Whether the request was sent before, on a connection that had been idle and broke.
    pub is_second: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name has no address.
    #[error("no address of {host} is known")]
    Dns {
        /// The name.
        host: Box<str>,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No connection.
    #[error("cannot connect to {server}")]
    Connect {
        /// Host and port.
        server: Arc<str>,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No TLS.
    #[error("no TLS with {server}")]
    Tls {
        /// Host and port.
        server: Arc<str>,
        /// Why.
        #[source]
        source: tls::Error,
    },
    /// It took too long.
    #[error("{server} took too long: {what}")]
    Timeout {
        /// Host and port.
        server: Arc<str>,
        /// At what.
        what: &'static str,
    },
    /// The other side ended the conversation, or it is none of HTTP.
    #[error("{server} broke off or does not speak HTTP")]
    Http {
        /// Host and port.
        server: Arc<str>,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// The body is larger than we take.
    #[error("{server} answers with more than {limit} bytes")]
    TooLarge {
        /// Host and port.
        server: Arc<str>,
        /// How much we take.
        limit: usize,
    },
    /// A file with a word of ours is of no use.
    #[error("cannot read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A header, user or password that cannot be sent.
    #[error("the {what} has characters that no header may have")]
    Header {
        /// Which.
        what: Box<str>,
    },
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The name has no address.
    Dns,
    /// Nobody listens there.
    Refused,
    /// No connection was made.
    Connect,
    /// There was no time left to make a connection.
    ConnectTimeout,
    /// The handshake of TLS failed.
    Tls,
    /// There was no answer in time.
    Timeout,
    /// The connection ended before the answer.
    Closed,
    /// What was said is not HTTP, or more than we take.
    Protocol,
    /// A file or word of ours is of no use.
    Local,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Dns,
        Self::Refused,
        Self::Connect,
        Self::ConnectTimeout,
        Self::Tls,
        Self::Timeout,
        Self::Closed,
        Self::Protocol,
        Self::Local,
    ];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
            Self::Local => "local",
        }
    }

    /// Whether the server may have taken the request all the same.
    pub const fn may_have_arrived(self) -> bool {
        matches!(self, Self::Timeout | Self::Closed | Self::Protocol)
    }
}

impl Error {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Dns { .. } => Kind::Dns,
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                Kind::Refused
            }
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::TimedOut => Kind::ConnectTimeout,
            Self::Connect { .. } => Kind::Connect,
            Self::Tls { source: tls::Error::Handshake(_), .. } => Kind::Tls,
            Self::Timeout { what: connection::CONNECTING, .. } => Kind::ConnectTimeout,
            Self::Timeout { .. } => Kind::Timeout,
            Self::Http { source, .. } if source.is_parse() => Kind::Protocol,
            Self::TooLarge { .. } => Kind::Protocol,
            Self::Http { .. } => Kind::Closed,
            Self::Tls { .. } | Self::File { .. } | Self::Header { .. } => Kind::Local,
        }
    }
}

/// How much of a body is wanted.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    /// What comes soon, for people.
    Beginning,
    /// All of it, which may be so large.
    Whole(usize),
}

/// Where a server is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    host: Box<str>,
    port: u16,
    /// Whether by TLS.
    pub(super) is_secure: bool,
    /// Host and port, as one says them.
    pub(super) server: Arc<str>,
}

impl Place {
    pub(super) fn new(url: &Url) -> Self {
        let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
        let server = format!("{host}:{}", url.port).into();
        Self { host: url.host.as_str().into(), port: url.port, is_secure: url.secure, server }
    }

    /// The header `Host`: the port only where it is not that of the scheme.
    pub(super) fn authority(&self) -> &str {
        let port = if self.is_secure { ":443" } else { ":80" };
        self.server.strip_suffix(port).unwrap_or(&self.server)
    }
}

impl Client {
    /// A client, not connected yet.
    pub fn new(endpoint: &Endpoint, version: Version, clients: Arc<tls::Clients>) -> Self {
        Self {
            place: Place::new(&endpoint.url),
            tls: endpoint.tls.clone(),
            clients,
            version,
            identity: Identity::new(endpoint),
            query: endpoint.url.path.split_once('?').map(|(_, query)| query.into()),
            open: None,
        }
    }

    /// Asks, and waits for the answer until the deadline. Of the body comes what does so soon, up to 16 KiB.
    ///
    /// A connection that was idle and breaks is no failure yet: the request goes out once more on a new one. Cancel safe:
    /// the connection is given up then.
    pub async fn send(&mut self, request: &Request, deadline: Instant) -> Result<Answer, Error> {
        self.ask(request, Wanted::Beginning, deadline).await
    }

    /// The same, and the answer has all of its body. A body that is cut, or not there at the deadline, or larger than
    /// `limit` is an error, whatever the status.
    pub async fn fetch(
        &mut self,
        request: &Request,
        limit: usize,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        self.ask(request, Wanted::Whole(limit), deadline).await
    }

    async fn ask(&mut self, request: &Request, wanted: Wanted, deadline: Instant) -> Result<Answer, Error> {
        let server = self.place.server.clone();
        let what = connection::WAITING;
        let answer = timeout_at(deadline, self.send_twice(request, wanted, deadline)).await;
        answer.unwrap_or_else(|_| Err(Error::Timeout { server, what }))
    }

    /// Gives the connection up.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Whether a file with who we are changed since it was read.
    pub fn is_outdated(&self) -> bool {
        self.identity.is_outdated()
    }

    /// A text without what is secret about us: receivers repeat what they were sent.
    pub fn redacted(&self, text: &str) -> String {
        let text = self.identity.redacted(text);
        match &self.query {
            Some(query) if !query.is_empty() => text.replace(&**query, "***"),
            _ => text,
        }
    }

    async fn send_twice(
        &mut self,
        request: &Request,
        wanted: Wanted,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let identity = self.identity.headers()?;
        if let Some(mut connection) = self.usable()? {
            match self.exchange(&mut connection, request, wanted, &identity, deadline).await {
                Ok((answer, is_whole)) => return Ok(self.keep(connection, answer, is_whole)),
                Err(Error::Http { server, source }) if is_stale(&source) => {
                    // What was never sent did not arrive.
                    let is_second = !source.is_canceled();
                    let anew = self.send_anew(request, wanted, &identity, deadline).await;
                    let first = || Error::Http { server, source };
                    let anew = anew.map_err(|error| if is_second { first() } else { error });
                    let (answer, connection, is_whole) = anew?;
                    return Ok(self.keep(connection, Answer { is_second, ..answer }, is_whole));
                }
                Err(error) => return Err(error),
            }
        }
        let (answer, connection, is_whole) = self.send_anew(request, wanted, &identity, deadline).await?;
        Ok(self.keep(connection, answer, is_whole))
    }

    async fn send_anew(
        &mut self,
        request: &Request,
        wanted: Wanted,
        identity: &HeaderMap,
        deadline: Instant,
    ) -> Result<(Answer, Connection, bool), Error> {
        let until = deadline.min(Instant::now() + CONNECT);
        let tls = self.place.is_secure.then(|| self.clients.get(&self.tls)).transpose();
        let tls = tls.map_err(|source| Error::Tls { server: self.place.server.clone(), source })?;
        let mut connection = Connection::open(&self.place, &self.tls, tls, self.version, until).await?;
        let (answer, is_whole) = self.exchange(&mut connection, request, wanted, identity, deadline).await?;
        Ok((answer, connection, is_whole))
    }

    fn keep(&mut self, connection: Connection, answer: Answer, is_whole: bool) -> Answer {
        self.open = is_whole.then_some(connection);
        answer
    }

    /// The open connection, where it was made with what the files of TLS still say.
    fn usable(&mut self) -> Result<Option<Connection>, Error> {
        let Some(connection) = self.open.take().filter(|open| !open.is_closed()) else { return Ok(None) };
        if self.place.is_secure {
            let now = self.clients.get(&self.tls);
            let now = now.map_err(|source| Error::Tls { server: self.place.server.clone(), source })?;
            if !connection.was_made_with(&now) {
                return Ok(None);
            }
        }
        Ok(Some(connection))
    }

    async fn exchange(
        &self,
        connection: &mut Connection,
        request: &Request,
        wanted: Wanted,
        identity: &HeaderMap,
        deadline: Instant,
    ) -> Result<(Answer, bool), Error> {
        let place = &self.place;
        let mut builder = hyper::Request::builder().method(&request.method).uri(match self.version {
            Version::V1 => request.path.to_string(),
            Version::V2 => {
                let scheme = if place.is_secure { "https" } else { "http" };
                format!("{scheme}://{}{}", place.authority(), request.path)
            }
        });
        if let Some(headers) = builder.headers_mut() {
            headers.clone_from(identity);
            headers.extend(request.headers.clone());
            if self.version == Version::V1 {
                let host = HeaderValue::from_str(place.authority());
                headers.insert(HOST, host.map_err(|_| Error::Header { what: "host".into() })?);
            }
        }
        let asked = builder.body(Full::new(request.body.clone()));
        let asked = asked.map_err(|_| Error::Header { what: "path of the URL".into() })?;
        let answer = connection.ask(asked).await;
        let answer = answer.map_err(|source| Error::Http { server: place.server.clone(), source })?;
        let (head, body) = answer.into_parts();
        let (body, trailers) = match (wanted, self.version) {
            (Wanted::Whole(limit), _) => {
                let whole = read_whole(body, limit).await.map_err(|cut| match cut {
                    Some(source) => Error::Http { server: place.server.clone(), source },
                    None => Error::TooLarge { server: place.server.clone(), limit },
                })?;
                (whole, Some(HeaderMap::new()))
            }
            (Wanted::Beginning, Version::V1) => read(body, deadline.min(Instant::now() + BODY)).await,
            // The verdict of gRPC stands behind the body.
            (Wanted::Beginning, Version::V2) => read(body, deadline).await,
        };
        let answer = Answer {
            status: head.status,
            headers: head.headers,
            is_second: false,
            trailers: trailers.clone().unwrap_or_default(),
            body,
        };
        Ok((answer, trailers.is_some()))
    }
}

/// Whether that is what an idle connection says that the server has closed.
fn is_stale(error: &hyper::Error) -> bool {
    if error.is_canceled() || error.is_incomplete_message() || error.is_closed() {
        return true;
    }
    let io = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|io| matches!(io.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe))
}

/// What there is of a body, and what comes behind it; `None` where it did not end.
async fn read(mut body: Incoming, until: Instant) -> (Bytes, Option<HeaderMap>) {
    let mut read = Vec::new();
    let mut trailers = HeaderMap::new();
    loop {
        if body.is_end_stream() {
            return (read.into(), Some(trailers));
        }
        match timeout_at(until, body.frame()).await {
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    read.extend_from_slice(&data[..data.len().min(BODY_SIZE - read.len())]);
                    if read.len() == BODY_SIZE {
                        return (read.into(), None);
                    }
                }
                Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
            },
            Ok(None) => return (read.into(), Some(trailers)),
            Ok(Some(Err(_))) | Err(_) => return (read.into(), None),
        }
    }
}

/// All of a body. The error is why it was cut; `None`: it is too large.
async fn read_whole(mut body: Incoming, limit: usize) -> Result<Bytes, Option<hyper::Error>> {
    let mut read = vec![];
    if body.size_hint().lower() > limit as u64 {
        return Err(None);
    }
    while let Some(frame) = body.frame().await {
        // What stands behind the body is not for us.
        let Ok(data) = frame.map_err(Some)?.into_data() else { continue };
        if data.len() > limit - read.len() {
            return Err(None);
        }
        read.extend_from_slice(&data);
    }
    Ok(read.into())
}

#[cfg(test)]
mod tests;
