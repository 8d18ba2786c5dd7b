//! Messages that a server sends by itself: pub/sub.
//!
//! A [`Connection`] that subscribes becomes a [`Subscription`] and answers no more batches. RESP3 sends
//! messages as pushes, RESP2 as arrays; both are the same here.
//! ACL: `+subscribe` or `+psubscribe`, `+ping`, and the channels.
//! <https://redis.io/docs/latest/develop/pubsub/>
//!
//! What a newcomer would get wrong: silence is the usual thing, and a dead peer is silent, too. So after each
//! silence a `PING` goes out, and who does not answer that is gone.

use super::dial::within;
use super::error::Violation;
use super::resp::{Decoder, Progress};
use super::{Batch, Connection, Deadline, Error, Limits, Replies, Reply};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

/// A message is small: a name of a channel and a line.
const LIMITS: Limits = Limits { total: 256 << 10, nesting: 4, line: 4 << 10, values: 64 };

/// Messages that may come before the last channel is confirmed; more is a protocol error.
const MOST_KEPT: usize = 1024;

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub channel: String,
    /// What; bytes that are no UTF-8 are replaced.
    pub payload: String,
}

/// Which channels.
#[derive(Clone, Copy, Debug)]
pub enum Channels<'a> {
    /// Those of these names.
    Named(&'a [&'a str]),
    /// Those whose names match one of these globs.
    Matching(&'a [&'a str]),
}

/// A connection that only listens.
pub struct Subscription {
    connection: Connection,
    replies: Replies,
    decoder: Decoder,
    /// Came before the last channel was confirmed.
    kept: VecDeque<Message>,
    /// Whether a `PING` is not answered yet.
    awaits_pong: bool,
}

/// One thing that the server said.
enum Heard {
    Message(Message),
    Confirmed,
    Pong,
    /// A push of another kind.
    Aside,
}

impl Connection {
    /// Subscribes to channels, and returns when all are confirmed. A server that refuses is
    /// [`Error::Refused`].
    pub async fn subscribe(self, channels: Channels<'_>, deadline: Deadline) -> Result<Subscription, Error> {
        let (command, names) = match channels {
            Channels::Named(names) => ("SUBSCRIBE", names),
            Channels::Matching(globs) => ("PSUBSCRIBE", globs),
        };
        let mut batch = Batch::default();
        batch.push(&[&[command], names].concat());
        let mut subscription = Subscription {
            connection: self,
            replies: Replies::default(),
            decoder: Decoder::of_pushes(),
            kept: VecDeque::new(),
            awaits_pong: false,
        };
        subscription.send(&batch, deadline).await?;
        let mut confirmed = 0;
        while confirmed < names.len() {
            let end = deadline.next();
            let Ok(heard) = timeout_at(end, subscription.hear("a subscription")).await else {
                return Err(subscription.silent("a subscription"));
            };
            match heard? {
                Heard::Confirmed => confirmed += 1,
                Heard::Message(_) if subscription.kept.len() >= MOST_KEPT => {
                    return Err(subscription.violates(Violation::TooMany(MOST_KEPT)));
                }
                Heard::Message(message) => subscription.kept.push_back(message),
                Heard::Pong => return Err(subscription.violates(Violation::Unasked)),
                Heard::Aside => {}
            }
        }
        Ok(subscription)
    }
}

impl Subscription {
    /// The next message, however long it takes. Asks for a sign of life after each `silence`, and fails when
    /// none comes within another one.
    pub async fn next(&mut self, silence: Duration) -> Result<Message, Error> {
        if let Some(message) = self.kept.pop_front() {
            return Ok(message);
        }
        loop {
            match timeout_at(Instant::now() + silence, self.hear("PING")).await {
                Ok(heard) => match heard? {
                    Heard::Message(message) => return Ok(message),
                    Heard::Pong if self.awaits_pong => self.awaits_pong = false,
                    Heard::Aside => {}
                    Heard::Pong | Heard::Confirmed => return Err(self.violates(Violation::Unasked)),
                },
                Err(_) if self.awaits_pong => return Err(self.silent("PING")),
                Err(_) => {
                    let mut ping = Batch::default();
                    ping.push(&["PING"]);
                    self.awaits_pong = true;
                    self.send(&ping, Deadline::until(Instant::now() + silence)).await?;
                }
            }
        }
    }

    async fn send(&mut self, batch: &Batch, deadline: Deadline) -> Result<(), Error> {
        let connection = &mut self.connection;
        if connection.broken {
            return Err(connection.closed(io::ErrorKind::NotConnected.into()));
        }
        // As for a batch: half a command must not be followed by another one.
        connection.broken = true;
        let sent = within(deadline, &connection.address, "a subscription", async {
            connection.stream.write_all(batch.bytes()).await?;
            connection.stream.flush().await
        });
        sent.await?.map_err(|source| self.connection.closed(source))?;
        self.connection.broken = false;
        Ok(())
    }

    /// Waits for the next thing that the server says. May be dropped and called again.
    async fn hear(&mut self, what: &'static str) -> Result<Heard, Error> {
        let mut chunk = [0; 4096];
        loop {
            let progress = self.decoder.advance(&mut self.replies, 1, &LIMITS);
            match progress.map_err(|violation| self.violates(violation))? {
                Progress::Complete => return self.understand(what),
                Progress::Missing(_) => {}
            }
            match self.connection.stream.read(&mut chunk).await {
                Ok(0) => return Err(self.connection.closed(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => self.replies.push(&chunk[..read]),
                Err(source) => return Err(self.connection.closed(source)),
            }
        }
    }

    /// Takes the value that is complete out of the buffer.
    fn understand(&mut self, what: &'static str) -> Result<Heard, Error> {
        let heard = match self.replies.get(0) {
            Some(value) => match value.error() {
                Some(refusal) => Err(Error::Refused {
                    address: self.connection.address.clone(),
                    what,
                    reply: refusal.text(),
                    kind: refusal.kind(),
                }),
                None => Heard::of(value).ok_or_else(|| self.violates(Violation::Unasked)),
            },
            None => Err(self.violates(Violation::Unasked)),
        };
        let understood = self.decoder.understood();
        self.replies.forget(understood);
        self.decoder = Decoder::of_pushes();
        heard
    }

    fn silent(&self, what: &'static str) -> Error {
        Error::Timeout { address: self.connection.address.clone(), what }
    }

    fn violates(&self, source: Violation) -> Error {
        Error::Protocol { address: self.connection.address.clone(), source }
    }
}

impl Heard {
    /// `None` for what is neither a message nor an answer to anything that we say.
    fn of(value: Reply<'_>) -> Option<Self> {
        let text = |reply: Reply<'_>| {
            reply.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
        };
        let Some(items) = value.items() else {
            return value.bytes().filter(|word| word.eq_ignore_ascii_case(b"PONG")).map(|_| Self::Pong);
        };
        let words: Vec<_> = items.take(4).collect();
        let kind = words.first()?.text()?;
        match (kind, &words[1..]) {
            ("message", [channel, payload, ..]) | ("pmessage", [_, channel, payload]) => {
                Some(Self::Message(Message { channel: text(*channel), payload: text(*payload) }))
            }
            ("subscribe" | "psubscribe", _) => Some(Self::Confirmed),
            ("pong", _) => Some(Self::Pong),
            ("invalidate" | "monitor" | "smessage", _) => Some(Self::Aside),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::Kind;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    const SILENCE: Duration = Duration::from_secs(3);

    fn pair() -> (Connection, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        (Connection::new(Box::new(ours), "redis://s:26379".into()), theirs)
    }

    fn soon() -> Deadline {
        Deadline::until(Instant::now() + Duration::from_secs(1))
    }

    /// What comes of these bytes: the messages, and the error that ends them.
    async fn check(said: &str, messages: &[(&str, &str)], end: Kind) {
        let (connection, mut server) = pair();
        server.write_all(said.as_bytes()).await.expect("room");
        // Whatever else comes, the end comes after it.
        server.shutdown().await.expect("an open pipe");
        let mut found = vec![];
        let error = match connection.subscribe(Channels::Matching(&["*"]), soon()).await {
            Err(error) => error,
            Ok(mut subscription) => loop {
                match subscription.next(SILENCE).await {
                    Ok(message) => found.push((message.channel, message.payload)),
                    Err(error) => break error,
                }
            },
        };
        let found: Vec<_> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!((found.as_slice(), error.kind()), (messages, end), "{said:?}: {error}");
    }

    #[tokio::test]
    async fn messages_of_both_protocols_are_the_same() {
        let resp2 = "*3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:1\r\n*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$6\r\n+sdown\r\n$2\r\nhi\r\n";
        check(resp2, &[("+sdown", "hi")], Kind::Closed).await;
        let resp3 = resp2.replace("*3\r\n", ">3\r\n").replace("*4\r\n", ">4\r\n");
        check(&resp3, &[("+sdown", "hi")], Kind::Closed).await;
        let named = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\ny\r\n";
        check(named, &[("a", "x"), ("a", "y")], Kind::Closed).await;
    }

    #[tokio::test]
    async fn messages_before_the_confirmation_are_not_lost() {
        let early = ">4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\na\r\n$1\r\nx\r\n>3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:1\r\n";
        check(early, &[("a", "x")], Kind::Closed).await;
    }

    #[tokio::test]
    async fn who_refuses_or_speaks_out_of_turn_is_left() {
        check("-NOPERM this user has no permissions\r\n", &[], Kind::NoPerm).await;
        check("+OK\r\n", &[], Kind::Protocol).await;
        check("+PONG\r\n", &[], Kind::Protocol).await;
        let confirmed = ">3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:1\r\n";
        check(&format!("{confirmed}+PONG\r\n"), &[], Kind::Protocol).await;
        check(&format!("{confirmed}{confirmed}"), &[], Kind::Protocol).await;
        check(&format!("{confirmed}HTTP/1.1"), &[], Kind::Protocol).await;
        check(&format!("{confirmed}$999999\r\n"), &[], Kind::Protocol).await;
        check(&format!("{confirmed}>4\r\n$8\r\npmess"), &[], Kind::Closed).await;
    }

    #[tokio::test]
    async fn random_bytes_end_in_an_error() {
        let mut random = fastrand::Rng::with_seed(7);
        let parts = [
            ">3\r\n",
            "*4\r\n",
            "$10\r\npsubscribe\r\n",
            "$1\r\n*\r\n",
            ":1\r\n",
            "$8\r\npmessage\r\n",
            "+PONG\r\n",
            "*0\r\n",
            "|1\r\n",
            "_\r\n",
            "$-1\r\n",
            "*-1\r\n",
            ">0\r\n",
            "%2\r\n",
            "\0",
            "$7\r\nmessage\r\n",
        ];
        for _ in 0..3000 {
            let count = random.usize(0..16);
            let said: String = (0..count).map(|_| parts[random.usize(0..parts.len())]).collect();
            let (connection, mut server) = pair();
            server.write_all(said.as_bytes()).await.expect("room");
            server.shutdown().await.expect("an open pipe");
            if let Ok(mut subscription) = connection.subscribe(Channels::Matching(&["*"]), soon()).await {
                while subscription.next(SILENCE).await.is_ok() {}
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_asked_for_a_sign_of_life_and_left_without_one() {
        let (connection, mut server) = pair();
        server.write_all(b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").await.expect("room");
        let mut subscription =
            connection.subscribe(Channels::Named(&["a"]), soon()).await.expect("a subscription");
        let mut sent = vec![0; 64];
        let length = server.read(&mut sent).await.expect("a command");
        assert_eq!(&sent[..length], b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n");
        let began = Instant::now();
        // It answers the first PING and no other.
        let life = async {
            let length = server.read(&mut sent).await.expect("a ping");
            assert_eq!(&sent[..length], b"*1\r\n$4\r\nPING\r\n");
            server.write_all(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n").await.expect("room");
            std::future::pending::<()>().await;
        };
        let error = tokio::select! {
            end = subscription.next(SILENCE) => end.expect_err("silence"),
            () = life => unreachable!("it waits for ever"),
        };
        assert_eq!(error.kind(), Kind::Timeout);
        assert_eq!(began.elapsed().as_secs(), 9, "silence, PING and PONG, silence, PING, silence");
    }
}
