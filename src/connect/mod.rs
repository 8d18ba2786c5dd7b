//! One live conversation with one Redis or Valkey.
//!
//! - [`dial`]: from an address to a stream
//! - [`handshake`]: who we are, which version of the protocol, which database
//! - [`resp`], [`reply`]: commands into bytes, bytes into replies
//! - [`server`]: what the server said of itself
//! - [`subscribe`]: messages that a server sends by itself
//! - [`error`]: what can go wrong, in a closed set of kinds
//! - [`replay`]: the same conversation from recorded replies, for tests
//!
//! What a newcomer would get wrong: after a time-out or a protocol error a [`Connection`] must not be used
//! again, since the late reply would be read as the next one. [`Connection::ask`] makes sure of it.

pub mod dial;
pub mod error;
pub mod handshake;
pub mod replay;
pub mod reply;
pub mod resp;
pub mod server;
pub mod subscribe;

pub use error::{Error, Kind};
pub use handshake::{Login, connect, connect_at};
pub use reply::{Refusal, Replies, Reply};
pub use resp::{Batch, Limits};
pub use server::{Mode, Server, Version};
pub use subscribe::{Message, Subscription};

use dial::{Stream, within};
use resp::{Decoder, Progress};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

/// A future that can be named in a trait.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// Something that answers batches of commands: a [`Connection`], or recorded replies in tests.
pub trait Converse: Send {
    /// Sends the batch and adds its replies to `into`, which is cleared first. An error reply of the
    /// server is a reply like any other; an [`Error`] means that the conversation is over.
    fn ask<'a>(&'a mut self, batch: &'a Batch, into: &'a mut Replies, deadline: Deadline) -> Asking<'a>;

    /// What the server said of itself at the handshake, where it said anything.
    fn server(&self) -> Option<&Server>;

    /// The database that the handshake selected. Whoever selects another one puts this back in the same
    /// batch, so that everybody finds the conversation in it.
    fn database(&self) -> u32 {
        0
    }

    /// Ends the conversation: it is not in the state in which everybody expects it.
    fn give_up(&mut self) {}
}

/// Until when we wait: for all together, and for each piece of a reply.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    end: Instant,
    silence: Duration,
    /// How long one TCP connect may take: a lost packet must leave time for another attempt.
    connect_limit: Duration,
}

impl Deadline {
    /// Everything must be done by `end`, with no silence of more than that between two pieces of an answer.
    pub fn new(end: Instant, silence: Duration) -> Self {
        Self { end, silence, connect_limit: Duration::MAX }
    }

    /// Everything must be done by then.
    pub fn until(end: Instant) -> Self {
        Self::new(end, end.saturating_duration_since(Instant::now()))
    }

    /// The same, and an end not later than `limit` from now: for dialling, which is one step.
    pub fn at_most(self, limit: Duration) -> Self {
        Self { end: self.end.min(Instant::now() + limit), ..self }
    }

    /// The same, where one TCP connect may take no longer than that.
    pub fn connecting_within(self, connect_limit: Duration) -> Self {
        Self { connect_limit, ..self }
    }

    /// When everything must be done.
    pub fn end(self) -> Instant {
        self.end
    }

    /// When the next wait must end.
    pub fn next(self) -> Instant {
        self.end.min(Instant::now() + self.silence)
    }

    /// How long the next wait may be.
    pub fn left(self) -> Duration {
        self.next().saturating_duration_since(Instant::now())
    }
}

/// A connection to one server, after the handshake.
pub struct Connection {
    stream: Box<dyn Stream>,
    address: String,
    server: Option<Server>,
    database: u32,
    limits: Limits,
    /// Set while a batch is under way; stays set when it failed or was given up.
    broken: bool,
    /// When the last byte of an answer came.
    heard: Option<Instant>,
}

impl Connection {
    fn new(stream: Box<dyn Stream>, address: String) -> Self {
        let limits = Limits::default();
        Self { stream, address, server: None, database: 0, limits, broken: false, heard: None }
    }

    /// When the last byte of an answer came, be it an unfinished one.
    pub fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Whether the next batch may be asked here.
    pub fn is_usable(&self) -> bool {
        !self.broken
    }

    async fn exchange(&mut self, batch: &Batch, into: &mut Replies, deadline: Deadline) -> Result<(), Error> {
        into.clear();
        if self.broken {
            return Err(self.closed(io::ErrorKind::NotConnected.into()));
        }
        // Set before the first byte leaves: if this future is dropped half-way, it stays set.
        self.broken = true;
        let written = within(deadline, &self.address, "a batch of commands", async {
            self.stream.write_all(batch.bytes()).await?;
            self.stream.flush().await
        });
        let written = written.await?;
        let mut decoder = Decoder::default();
        let mut room = 16 * 1024;
        loop {
            let progress = decoder
                .advance(into, batch.len(), &self.limits)
                .map_err(|source| Error::Protocol { address: self.address.clone(), source })?;
            let Progress::Missing(missing) = progress else { break };
            into.reserve(missing.clamp(room, 4 << 20))
                .map_err(|source| Error::Protocol { address: self.address.clone(), source })?;
            room = (room * 2).min(256 * 1024);
            let read = self.stream.read_buf(&mut into.buffer);
            match within(deadline, &self.address, "a batch of commands", read).await? {
                // A server that has too many clients says so and hangs up before we have written: what
                // it said was read above, so this is a plain end.
                Ok(0) => {
                    let end = || match into.buffer.is_empty() {
                        true => io::ErrorKind::UnexpectedEof.into(),
                        false => io::Error::new(io::ErrorKind::UnexpectedEof, "within an answer"),
                    };
                    let source = written.err().unwrap_or_else(end);
                    return Err(self.closed(source));
                }
                Ok(_) => self.heard = Some(Instant::now()),
                Err(source) => return Err(self.closed(source)),
            }
        }
        // Who said more than it was asked is out of step: what comes next might be taken for an answer.
        self.broken = decoder.understood() < into.buffer.len();
        Ok(())
    }

    /// Fails where the server hung up, or spoke without being asked, since its last answer.
    async fn is_quiet(&mut self) -> Result<(), Error> {
        let mut byte = [0];
        let mut heard = ReadBuf::new(&mut byte);
        let read = poll_fn(|context| Poll::Ready(Pin::new(&mut self.stream).poll_read(context, &mut heard)));
        // Without tokio's budget for busy tasks, which would make every socket look quiet once it is used up.
        let source = match tokio::task::coop::unconstrained(read).await {
            Poll::Pending => return Ok(()),
            Poll::Ready(Err(source)) => source,
            Poll::Ready(Ok(())) if heard.filled().is_empty() => io::ErrorKind::UnexpectedEof.into(),
            Poll::Ready(Ok(())) => io::Error::new(io::ErrorKind::InvalidData, "it spoke without being asked"),
        };
        self.broken = true;
        Err(self.closed(source))
    }

    fn closed(&self, source: io::Error) -> Error {
        Error::Closed { address: self.address.clone(), source }
    }
}

impl Converse for Connection {
    fn ask<'a>(&'a mut self, batch: &'a Batch, into: &'a mut Replies, deadline: Deadline) -> Asking<'a> {
        Box::pin(async move {
            if !self.broken {
                into.clear();
                self.is_quiet().await?;
            }
            self.exchange(batch, into, deadline).await
        })
    }

    fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    fn database(&self) -> u32 {
        self.database
    }

    fn give_up(&mut self) {
        self.broken = true;
    }
}
