//! The page of a fleet on its way to a client: made piece by piece, compressed on the way, never whole.
//!
//! A piece is made when the connection asks for one, which it does when the client has taken most of what was
//! made before. Whoever hangs up or only wants the head has nothing made.
//!
//! What a newcomer would get wrong: a client that is quick enough could be served to the end without a pause,
//! and everybody else would wait. After each piece this waits for its next turn.

use super::encode::{GZIP_LEVEL, ZSTD_LEVEL};
use bytes::Bytes;
use exposition::{Encoding, Stream};
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::{Body, Frame};
use std::io::{self, Write as _};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// How much is made at a time, in bytes before compression: 20 µs of work, and 130 µs with gzip.
const PIECE: usize = 64 * 1024;

/// What the last sample of a piece may add to it without another allocation, in bytes.
const SLACK: usize = 4 * 1024;

/// How long a page may be on its way: it holds what all members said when it began. Who takes nothing at all is
/// closed sooner ([`super::connections`]).
const LONGEST: Duration = Duration::from_secs(300);

/// The body of such a page.
pub struct Flow {
    page: Stream,
    encoder: Encoder,
    state: State,
    /// When it is broken off.
    end: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The next piece may be made.
    Ready,
    /// A piece was made, and others come first.
    Resting,
    /// There is no more.
    Ended,
}

/// A compressor, and what was compressed so far and not taken.
enum Encoder {
    Identity,
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Flow {
    /// The page in that encoding. Fails where there is no memory for the compressor.
    pub fn new(page: Stream, encoding: Encoding) -> io::Result<Self> {
        let encoder = match encoding {
            Encoding::Identity => Encoder::Identity,
            Encoding::Gzip => Encoder::Gzip(GzEncoder::new(vec![], Compression::new(GZIP_LEVEL))),
            Encoding::Zstd => Encoder::Zstd(zstd::stream::write::Encoder::new(vec![], ZSTD_LEVEL)?),
        };
        Ok(Self { page, encoder, state: State::Ready, end: Instant::now() + LONGEST })
    }

    /// Makes the next piece, which may be empty.
    fn make(&mut self) -> io::Result<Vec<u8>> {
        let mut plain = Vec::with_capacity(PIECE + SLACK);
        let more = self.page.write_some(&mut plain, PIECE);
        self.state = if more { State::Resting } else { State::Ended };
        if more {
            self.encoder.encode(plain)
        } else {
            mem::replace(&mut self.encoder, Encoder::Identity).end(plain)
        }
    }
}

impl Encoder {
    /// What comes out when this goes in.
    fn encode(&mut self, plain: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::Identity => Ok(plain),
            Self::Gzip(encoder) => {
                encoder.write_all(&plain)?;
                Ok(mem::take(encoder.get_mut()))
            }
            Self::Zstd(encoder) => {
                encoder.write_all(&plain)?;
                Ok(mem::take(encoder.get_mut()))
            }
        }
    }

    /// What comes out when this goes in, and nothing after it.
    fn end(mut self, plain: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut last = self.encode(plain)?;
        match self {
            Self::Identity => {}
            Self::Gzip(encoder) => last.extend(encoder.finish()?),
            Self::Zstd(encoder) => last.extend(encoder.finish()?),
        }
        Ok(last)
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.state != State::Ended && Instant::now() >= self.end {
            self.state = State::Ended;
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        }
        match self.state {
            State::Ended => return Poll::Ready(None),
            State::Resting => self.state = State::Ready,
            State::Ready => match self.make() {
                Ok(piece) if piece.is_empty() && self.state == State::Ended => return Poll::Ready(None),
                Ok(piece) if piece.is_empty() => self.state = State::Ready,
                Ok(piece) => return Poll::Ready(Some(Ok(Frame::data(piece.into())))),
                Err(error) => {
                    self.state = State::Ended;
                    return Poll::Ready(Some(Err(error)));
                }
            },
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exposition::{Builder, Desc, Families, Format, Labelled};
    use http_body_util::BodyExt as _;
    use hyper::Response;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use std::convert::Infallible;
    use std::io::Read as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    static CALLS: Desc = Desc::counter("redis_commands_total", "Calls of each command.").labels(&["cmd"]);

    /// What one server has.
    fn machine() -> Arc<Families> {
        let mut out = Builder::new();
        let calls = out.family(&CALLS);
        for command in 0..40 {
            out.sample(calls, &[&format!("command{command}")], f64::from(command));
        }
        Arc::new(out.finish())
    }

    /// A page of 5,000 members: 16 MB of text.
    fn page(machine: &Arc<Families>) -> Stream {
        let member = |number: usize| Labelled {
            labels: [("instance", format!("host-{number}:6379")), ("service", "orders".into())]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            parts: vec![machine.clone()],
        };
        Stream::new(Format::Text, (0..5_000).map(member).collect(), &[])
    }

    fn whole(mut page: Stream) -> Vec<u8> {
        let mut out = vec![];
        while page.write_some(&mut out, usize::MAX / 2) {}
        out
    }

    /// Takes the body piece by piece, and compares what came with what should.
    async fn check(encoding: Encoding) {
        let machine = machine();
        let expected = whole(page(&machine));
        assert!(expected.len() > 10_000_000, "{} bytes", expected.len());
        let mut flow = Flow::new(page(&machine), encoding).expect("a compressor");
        let (mut sent, mut pieces, mut largest) = (vec![], 0, 0);
        while let Some(frame) = flow.frame().await {
            let piece = frame.expect("a piece").into_data().expect("data");
            pieces += 1;
            largest = largest.max(piece.len());
            sent.extend_from_slice(&piece);
        }
        assert!(
            pieces > 10 && largest <= PIECE + SLACK,
            "{encoding:?}: {pieces} pieces, up to {largest} bytes"
        );
        let mut read = vec![];
        match encoding {
            Encoding::Identity => read = sent,
            Encoding::Gzip => drop(flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut read)),
            Encoding::Zstd => read = zstd::decode_all(&sent[..]).expect("zstd"),
        }
        assert!(read == expected, "{encoding:?}: {} bytes became {}", expected.len(), read.len());
    }

    #[tokio::test]
    async fn a_large_page_goes_out_in_small_pieces() {
        check(Encoding::Identity).await;
        check(Encoding::Gzip).await;
        check(Encoding::Zstd).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_takes_too_long_is_broken_off() {
        let mut flow = Flow::new(page(&machine()), Encoding::Identity).expect("a compressor");
        assert!(flow.frame().await.is_some_and(|frame| frame.is_ok()));
        tokio::time::advance(LONGEST).await;
        assert!(flow.frame().await.is_some_and(|frame| frame.is_err()));
        assert!(flow.frame().await.is_none());
    }

    #[tokio::test]
    async fn others_have_their_turn_after_each_piece() {
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = turns.clone();
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let mut flow = Flow::new(page(&machine()), Encoding::Identity).expect("a compressor");
        let mut pieces = 0;
        while flow.frame().await.is_some() {
            pieces += 1;
        }
        other.abort();
        let turns = turns.load(Ordering::Relaxed);
        assert!(pieces > 100 && turns >= pieces - 1, "{turns} turns between {pieces} pieces");
    }

    /// Counts what is made.
    struct Counted {
        inner: Flow,
        made: Arc<AtomicUsize>,
    }

    impl Body for Counted {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            let polled = Pin::new(&mut self.inner).poll_frame(context);
            if let Poll::Ready(Some(Ok(frame))) = &polled {
                self.made.fetch_add(frame.data_ref().map_or(0, Bytes::len), Ordering::Relaxed);
            }
            polled
        }
    }

    /// A connection over which this request was sent, and a server at its other end; how much was made.
    async fn request(machine: &Arc<Families>, head: &str) -> (DuplexStream, Arc<AtomicUsize>) {
        let (mut client, server) = tokio::io::duplex(16 * 1024);
        let made = Arc::<AtomicUsize>::default();
        let (machine, counter) = (machine.clone(), made.clone());
        tokio::spawn(async move {
            let service = service_fn(|_| {
                let inner = Flow::new(page(&machine), Encoding::Identity).expect("a compressor");
                let body = Counted { inner, made: counter.clone() };
                std::future::ready(Ok::<_, Infallible>(Response::new(body)))
            });
            let mut http = http1::Builder::new();
            http.max_buf_size(64 * 1024).serve_connection(TokioIo::new(server), service).await
        });
        client.write_all(head.as_bytes()).await.expect("sent");
        (client, made)
    }

    #[tokio::test]
    async fn what_the_client_does_not_take_is_not_made() {
        let machine = machine();
        let (mut client, made) = request(&machine, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let (mut taken, mut most) = (0, 0);
        let mut room = vec![0; 7_000];
        while taken < 3_000_000 {
            taken += client.read(&mut room).await.expect("a piece");
            // The server does all that it can before the next piece is read.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            most = most.max(made.load(Ordering::Relaxed).saturating_sub(taken));
        }
        assert!(most > 64 * 1024 && most < 256 * 1024, "{most} bytes wait for the client");
        assert!(Arc::strong_count(&machine) > 5_000);
        drop(client);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(Arc::strong_count(&machine), 1, "the server lets go of a page that nobody reads");
    }

    #[tokio::test]
    async fn a_head_is_answered_without_making_anything() {
        let machine = machine();
        let (mut client, made) =
            request(&machine, "HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
        assert_eq!((made.load(Ordering::Relaxed), Arc::strong_count(&machine)), (0, 1));
    }
}
