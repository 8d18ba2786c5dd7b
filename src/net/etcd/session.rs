//! Which member is asked, by which connection and with which token.
//!
//! A member that answers is kept. One that is silent, cannot be reached or knows no leader is left for the next, round and
//! round; what was open on a silent connection ends with it, so that watches notice too. A call that may be made twice is
//! made once more by the next member within its deadline; one that may not is not, unless it is certain that it never arrived.
//!
//! What a newcomer would get wrong: nobody waits for somebody else's connection or token. Two callers that find none both get
//! one, and the first is kept: a lock would have to be held while waiting, and a caller that is given up would hand on its wait.

use super::error::{Error, Kind};
use super::messages::{AUTHENTICATE, AuthenticateRequest, AuthenticateResponse};
use crate::config::connect::Tls;
use crate::config::deliver::Word;
use crate::config::net::Etcd;
use crate::net::grpc::{self, Channel, Code};
use crate::net::http::{self, Place, identity};
use crate::net::tls::{self, Stamp};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// The least that a member has to answer, where the deadline leaves that much.
const SHARE: Duration = Duration::from_secs(1);

/// Whether a call may be made twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twice {
    Yes,
    No,
}

/// A cluster of etcd as we see it.
#[derive(Debug)]
pub(super) struct Session {
    /// At least one.
    places: Box<[Place]>,
    tls: Tls,
    clients: Arc<tls::Clients>,
    user: Option<(String, Word)>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Which place is asked.
    at: usize,
    open: Option<Arc<Channel>>,
    token: Option<Token>,
    counts: Counts,
}

/// What has happened since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls, each counted once, and watches that were opened.
    pub calls: u64,
    /// Of these, those that failed, by the place of the kind in [`Kind::ALL`].
    pub failures: [u64; Kind::ALL.len()],
    /// Connections that were made.
    pub connections: u64,
    /// How often a member was left for the next.
    pub moves: u64,
    /// Tokens that were got.
    pub tokens: u64,
}

/// What came of asking for a token, and what the password file was like then.
#[derive(Clone, Debug)]
struct Token {
    /// None where there is no authentication.
    value: Option<HeaderValue>,
    file: Option<Stamp>,
}

/// Where and how to ask.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) channel: Arc<Channel>,
    pub(super) metadata: HeaderMap,
    /// Whether the connection was there before.
    is_old: bool,
}

/// Why a try failed, and whether the call may have arrived.
struct Failure {
    error: Error,
    is_old: bool,
    arrived: bool,
}

impl Session {
    pub(super) fn new(etcd: &Etcd, clients: Arc<tls::Clients>) -> Self {
        Self {
            places: etcd.endpoints.iter().map(Place::new).collect(),
            tls: etcd.tls.clone(),
            clients,
            user: etcd.user.clone(),
            state: Mutex::default(),
        }
    }

    pub(super) fn has_user(&self) -> bool {
        self.user.is_some()
    }

    /// The member that is asked, and whether there is a connection to it.
    pub(super) fn member(&self) -> (Arc<str>, bool) {
        let state = self.state();
        let is_open = state.open.as_ref().is_some_and(|open| !open.is_closed());
        (self.places[state.at].server.clone(), is_open)
    }

    pub(super) fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    /// Asks, and waits for the answer until the deadline. Cancel safe.
    pub(super) async fn call<A: Message + Default>(
        &self,
        path: &'static str,
        ask: &impl Message,
        twice: Twice,
        deadline: Instant,
    ) -> Result<A, Error> {
        let answer = self.call_any(path, ask, twice, deadline).await;
        self.count(&answer);
        answer
    }

    async fn call_any<A: Message + Default>(
        &self,
        path: &'static str,
        ask: &impl Message,
        twice: Twice,
        deadline: Instant,
    ) -> Result<A, Error> {
        let mut left = self.places.len();
        let mut has_new_token = false;
        let mut was_old = false;
        loop {
            let failure = match self.try_one(path, ask, twice, left, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let kind = failure.error.kind();
            if failure.error.is_of_token() && self.has_user() && !has_new_token {
                has_new_token = true;
                continue;
            }
            // A connection that had been idle says nothing about its member.
            if failure.is_old && !was_old {
                was_old = true;
            } else {
                left -= 1;
            }
            let may = kind.is_of_member() && (twice == Twice::Yes || !failure.arrived);
            if !may || left == 0 || Instant::now() >= deadline {
                return Err(failure.error);
            }
        }
    }

    async fn try_one<A: Message + Default>(
        &self,
        path: &'static str,
        ask: &impl Message,
        twice: Twice,
        left: usize,
        deadline: Instant,
    ) -> Result<A, Failure> {
        let begun = Instant::now();
        // An old connection may be dead where its member is not, and then there is one try more.
        let left = left + usize::from(self.member().1);
        let share = begun + (deadline.saturating_duration_since(begun) / left as u32).max(SHARE);
        let share = share.min(deadline);
        let fail = |error| Failure { error, is_old: false, arrived: false };
        let line = self.line(share).await.map_err(fail)?;
        let until = if twice == Twice::Yes { share } else { deadline };
        line.channel.unary(path, &line.metadata, ask, until).await.map_err(|error| {
            let arrived = match &error {
                grpc::Error::Transport(http::Error::Http { source, .. }) => !source.is_canceled(),
                _ => true,
            };
            let error = self.blame(&line, error, begun);
            // Looked for before anything is done.
            let arrived = arrived && error.kind() != Kind::NoLeader;
            Failure { error, is_old: line.is_old, arrived }
        })
    }

    /// A connection and a token, got where there is none, until then.
    pub(super) async fn line(&self, until: Instant) -> Result<Line, Error> {
        let (channel, is_old) = self.channel(until).await?;
        let mut metadata = HeaderMap::new();
        metadata.insert(HeaderName::from_static("hasleader"), HeaderValue::from_static("true"));
        if let Some(token) = self.token(&channel, until).await? {
            metadata.insert(HeaderName::from_static("token"), token);
        }
        Ok(Line { channel, metadata, is_old })
    }

    /// What an error of a call means; leaves its member or forgets its token where that is what it means.
    pub(super) fn blame(&self, line: &Line, error: grpc::Error, begun: Instant) -> Error {
        let error = Error::asking(error, line.channel.server());
        self.act_on(line, &error, begun);
        error
    }

    /// Leaves the member or forgets the token, where an error says so.
    pub(super) fn act_on(&self, line: &Line, error: &Error, begun: Instant) {
        let kind = error.kind();
        if error.is_of_token() {
            self.forget(line);
        }
        // Nobody has been silent who had no time to speak.
        if kind == Kind::Silent && begun.elapsed() < SHARE / 2 {
            return;
        }
        if kind.is_of_member() {
            self.leave(&line.channel, kind.is_of_connection());
        }
    }

    /// Gets another token the next time, unless somebody has done so.
    pub(super) fn forget(&self, line: &Line) {
        let used = line.metadata.get("token");
        let mut state = self.state();
        if state.token.as_ref().is_some_and(|token| token.value.as_ref() == used) {
            state.token = None;
        }
    }

    pub(super) fn count<T>(&self, outcome: &Result<T, Error>) {
        self.state().counts.calls += 1;
        if let Err(error) = outcome {
            self.count_failure(error);
        }
    }

    pub(super) fn count_failure(&self, error: &Error) {
        self.state().counts.failures[error.kind() as usize] += 1;
    }

    async fn channel(&self, until: Instant) -> Result<(Arc<Channel>, bool), Error> {
        let (at, open) = {
            let state = self.state();
            (state.at, state.open.clone())
        };
        let place = &self.places[at];
        let config = place.is_secure.then(|| self.clients.get(&self.tls)).transpose();
        let config = config.map_err(|source| Error::files(source, &place.server))?;
        if let Some(open) = open.filter(|open| !open.is_closed() && open.was_made_with(config.as_ref())) {
            return Ok((open, true));
        }
        match Channel::open(place, &self.tls, config.clone(), until).await {
            Ok(channel) => {
                let channel = Arc::new(channel);
                let mut state = self.state();
                state.counts.connections += 1;
                // Somebody else may have been faster, or have left this member meanwhile.
                let is_usable = |open: &&Arc<Channel>| {
                    !open.is_closed() && (at != state.at || open.was_made_with(config.as_ref()))
                };
                if let Some(open) = state.open.as_ref().filter(is_usable) {
                    return Ok((open.clone(), false));
                }
                if state.at == at {
                    state.open = Some(channel.clone());
                }
                Ok((channel, false))
            }
            Err(error) => {
                let mut state = self.state();
                if state.at == at && state.open.as_ref().is_none_or(|open| open.is_closed()) {
                    self.go_on(&mut state);
                }
                drop(state);
                Err(Error::connecting(error, &place.server))
            }
        }
    }

    /// The next member is asked from now on, unless this one has been left already.
    fn leave(&self, channel: &Arc<Channel>, for_all: bool) {
        let mut state = self.state();
        if state.open.as_ref().is_some_and(|open| Arc::ptr_eq(open, channel)) {
            // Where there is no other, a connection that works is kept.
            if for_all || self.places.len() > 1 {
                state.open = None;
                self.go_on(&mut state);
            }
        }
        drop(state);
        if for_all {
            channel.close();
        }
    }

    fn go_on(&self, state: &mut State) {
        state.at = (state.at + 1) % self.places.len();
        if self.places.len() > 1 {
            state.counts.moves += 1;
        }
    }

    async fn token(&self, channel: &Arc<Channel>, until: Instant) -> Result<Option<HeaderValue>, Error> {
        let Some((name, word)) = &self.user else { return Ok(None) };
        let known = self.state().token.clone();
        if let Some(known) = known.filter(|known| !known.file.as_ref().is_some_and(Stamp::is_outdated)) {
            return Ok(known.value);
        }
        // Before it is read: what is written meanwhile is seen the next time.
        let file = match word {
            Word::File(path) => Some(Stamp::of(path)),
            Word::Given(_) => None,
        };
        let password = identity::read(word).map_err(Error::Local)?;
        let ask = AuthenticateRequest { name: name.clone(), password };
        let begun = Instant::now();
        let answer =
            channel.unary::<AuthenticateResponse>(AUTHENTICATE, &HeaderMap::new(), &ask, until).await;
        let value = match answer {
            Ok(AuthenticateResponse { token }) => {
                let refuse = || http::Error::Header { what: "token".into() };
                Some(identity::sensitive(&token).ok_or_else(|| Error::Local(refuse()))?)
            }
            // It is enough to know who we would be.
            Err(grpc::Error::Status { code: Code::FAILED_PRECONDITION, message })
                if message.contains("authentication is not enabled") =>
            {
                None
            }
            Err(error) => {
                let line = Line { channel: channel.clone(), metadata: HeaderMap::new(), is_old: false };
                return Err(self.blame(&line, error, begun));
            }
        };
        let mut state = self.state();
        state.counts.tokens += u64::from(value.is_some());
        state.token = Some(Token { value: value.clone(), file });
        Ok(value)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
