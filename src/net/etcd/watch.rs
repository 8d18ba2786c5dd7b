//! What changes under a prefix, from a revision on, without a gap.
//! <https://etcd.io/docs/v3.5/learning/api/#watch-api>
//!
//! What a newcomer would get wrong: a watch of etcd is silent when nothing changes, and as silent when its member is gone or
//! stopped. So it is asked how far it is (`WatchProgressRequest`, since etcd 3.4) when nothing came for a while. And the
//! revision in the head of an answer may be ahead of what has been sent so far, so only changes say where to go on.

use super::error::Error;
use super::messages::{
    Event, WATCH, WatchAsk, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use super::session::{Line, Session};
use super::{Keys, Kv};
use crate::net::grpc::{self, Code, Stream};
use prost::Message as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long nothing may come before it is asked how far it is.
const QUIET: Duration = Duration::from_secs(5);

/// How long it may take to answer that; also to begin.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most that the pieces of one answer may have together, in bytes.
const WHOLE: usize = 32 << 20;

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The revision of the last one.
    pub revision: i64,
    /// In the order in which they happened; never empty.
    pub events: Vec<Change>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A key was made, or has another value.
    Put(Kv),
    /// A key is gone: deleted, or its lease ended.
    Delete {
        /// Which.
        key: Vec<u8>,
        /// When.
        mod_revision: i64,
    },
}

/// A watch. It ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    session: Arc<Session>,
    place: Place,
    stage: Stage,
    /// Whether a new token has been got for it, and it has not begun since.
    has_new_token: bool,
}

/// Where it is. The rest is about how it got there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    keys: Keys,
    /// The revision that is wanted next; 0 while that is that of now.
    from: i64,
    /// Pieces of an answer that has not ended.
    pieces: Vec<Change>,
    size: usize,
}

enum Stage {
    Shut,
    Opening(Pin<Box<dyn Future<Output = Result<Open, Error>> + Send>>),
    Open(Box<Open>),
}

#[derive(Debug)]
struct Open {
    line: Line,
    stream: Stream<WatchRequest, WatchResponse>,
    heard: Instant,
    /// Since when an answer is waited for.
    asked: Option<Instant>,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shut => f.write_str("Shut"),
            Self::Opening(_) => f.write_str("Opening"),
            Self::Open(open) => open.fmt(f),
        }
    }
}

impl Watch {
    pub(super) fn new(session: Arc<Session>, keys: Keys, from: i64) -> Self {
        let place = Place { keys, from, pieces: vec![], size: 0 };
        Self { session, place, stage: Stage::Shut, has_new_token: false }
    }

    /// The next changes. Waits for them without end, but fails within `QUIET` and `PATIENCE` where etcd is gone.
    ///
    /// After an error the next call opens the watch anew, at the next member where this one is to blame, and goes on behind
    /// the last change that was told: nothing is missed. Who calls again at once should pause. Only [`Error::Compacted`]
    /// stays: list again, and make a new watch. Cancel safe.
    pub async fn next(&mut self) -> Result<Changes, Error> {
        loop {
            match &mut self.stage {
                Stage::Shut => {
                    self.place.pieces.clear();
                    self.place.size = 0;
                    let opening = open(self.session.clone(), self.place.request());
                    self.stage = Stage::Opening(Box::pin(opening));
                }
                Stage::Opening(opening) => {
                    let opened = opening.await;
                    self.session.count(&opened);
                    self.stage = Stage::Shut;
                    self.stage = Stage::Open(Box::new(opened?));
                }
                Stage::Open(open) => {
                    let told = match open.next().await {
                        Ok(answer) => {
                            let begins = answer.created && !answer.canceled;
                            self.has_new_token &= !begins;
                            self.place.read(answer, open.line.channel.server())
                        }
                        Err(error) => Err(Error::asking(error, open.line.channel.server())),
                    };
                    match told {
                        Ok(None) => {}
                        Ok(Some(changes)) => return Ok(changes),
                        Err(error) => {
                            let begun = open.asked.unwrap_or(open.heard);
                            self.session.act_on(&open.line, &error, begun);
                            // etcd 3.4 says of an old token too that it is not permitted.
                            let may_be_token = error.is_of_token() || matches!(error, Error::Denied { .. });
                            let renews = may_be_token && self.session.has_user() && !self.has_new_token;
                            if renews {
                                self.session.forget(&open.line);
                            }
                            self.has_new_token = renews;
                            self.stage = Stage::Shut;
                            if !renews {
                                self.session.count_failure(&error);
                                return Err(error);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Opens a watch, in [`PATIENCE`].
async fn open(session: Arc<Session>, request: WatchRequest) -> Result<Open, Error> {
    let begun = Instant::now();
    let until = begun + PATIENCE;
    let line = session.line(until).await?;
    let fail = |error| session.blame(&line, error, begun);
    let mut stream = line.channel.stream(WATCH, &line.metadata).map_err(fail)?;
    stream.send(&request, until).await.map_err(fail)?;
    let now = Instant::now();
    Ok(Open { line, stream, heard: now, asked: Some(now) })
}

impl Open {
    /// The next answer, whatever it says. Cancel safe.
    async fn next(&mut self) -> Result<WatchResponse, grpc::Error> {
        loop {
            // What has come while nobody looked counts, however late it is looked at.
            let until = self.asked.map_or(self.heard + QUIET, |asked| asked + PATIENCE);
            match timeout_at(until, self.stream.next()).await {
                Ok(Ok(Some(answer))) => {
                    self.heard = Instant::now();
                    self.asked = None;
                    return Ok(answer);
                }
                Ok(Ok(None)) => {
                    let message = "it ended the watch".into();
                    return Err(grpc::Error::Status { code: Code::UNAVAILABLE, message });
                }
                Ok(Err(error)) => return Err(error),
                Err(_) if self.asked.is_some() => {
                    let message = "no answer to a watch".into();
                    return Err(grpc::Error::Status { code: Code::DEADLINE_EXCEEDED, message });
                }
                Err(_) => {
                    let ask = WatchRequest { ask: Some(WatchAsk::Progress(WatchProgressRequest {})) };
                    let now = Instant::now();
                    self.stream.send(&ask, now + PATIENCE).await?;
                    self.asked = Some(now);
                }
            }
        }
    }
}

impl Place {
    fn request(&self) -> WatchRequest {
        WatchRequest {
            ask: Some(WatchAsk::Create(WatchCreateRequest {
                key: self.keys.key.clone(),
                range_end: self.keys.end.clone(),
                start_revision: self.from,
                fragment: true,
            })),
        }
    }

    /// Takes an answer; the changes, where they are all there.
    fn read(&mut self, answer: WatchResponse, server: &Arc<str>) -> Result<Option<Changes>, Error> {
        if answer.canceled {
            if answer.compact_revision > 0 {
                return Err(Error::Compacted { revision: Some(answer.compact_revision) });
            }
            // An operator's tool, or a member that cannot go on with it.
            let message: Box<str> = answer.cancel_reason.chars().take(300).collect();
            return Err(Error::said(Code::UNAVAILABLE, message, server.clone()));
        }
        if answer.created && self.from == 0 {
            // What comes from now on is behind that: an error before the first change must not skip it.
            self.from = answer.header.map_or(0, |header| header.revision).saturating_add(1);
        }
        for event in answer.events {
            self.size += event.encoded_len();
            if self.size > WHOLE {
                let message = format!("changes of more than {WHOLE} bytes at once");
                return Err(Error::TooLarge { message: message.into() });
            }
            self.pieces.push(change(event, server)?);
        }
        let Some(revision) = self.pieces.iter().map(Change::revision).max().filter(|_| !answer.fragment)
        else {
            return Ok(None);
        };
        self.from = revision.saturating_add(1);
        self.size = 0;
        Ok(Some(Changes { revision, events: std::mem::take(&mut self.pieces) }))
    }
}

impl Change {
    /// When it happened.
    pub fn revision(&self) -> i64 {
        match self {
            Self::Put(kv) => kv.mod_revision,
            Self::Delete { mod_revision, .. } => *mod_revision,
        }
    }

    /// Of which key.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put(kv) => &kv.key,
            Self::Delete { key, .. } => key,
        }
    }
}

fn change(event: Event, server: &Arc<str>) -> Result<Change, Error> {
    let fault = |what| Error::Protocol { server: server.clone(), what };
    let kv = event.kv.ok_or_else(|| fault("a change of no key"))?;
    match event.kind {
        0 => Ok(Change::Put(kv.into())),
        1 => Ok(Change::Delete { key: kv.key, mod_revision: kv.mod_revision }),
        _ => Err(fault("a change of no known kind")),
    }
}

#[cfg(test)]
mod tests;
