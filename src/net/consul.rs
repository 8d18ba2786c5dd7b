//! A client of a Consul agent or server: HTTP with a token, and what its answers have in common.
//! <https://developer.hashicorp.com/consul/api-docs>
//!
//! What is asked is for who asks: `source::consul` and `peers::consul`.
//!
//! What a newcomer would get wrong: an index is no number of a version alone. It may go backwards when a Consul is restored,
//! and one that is 0 or missing must not be waited on ([`next_index`]).

use super::http::{self, Client, Method, Request, StatusCode, Version};
use super::tls;
use crate::config::deliver::{Auth, Endpoint};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use std::sync::Arc;
use tokio::time::Instant;

/// The header of a token. `Authorization: Bearer` is known since 1.3 only, and a proxy may want it for itself.
const TOKEN: &str = "x-consul-token";

/// A client of one agent, with one connection.
#[derive(Debug)]
pub struct Consul(Client);

/// What an agent answers.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The index of what was asked for, where there is one.
    pub index: Option<u64>,
    /// The body.
    pub body: Bytes,
}

impl Consul {
    /// A client, not connected yet. A bearer token is sent as Consul has it.
    pub fn new(endpoint: &Endpoint, clients: Arc<tls::Clients>) -> Self {
        let auth = match &endpoint.auth {
            Auth::Bearer(word) => Auth::Header { name: TOKEN, word: word.clone() },
            other => other.clone(),
        };
        Self(Client::new(&Endpoint { auth, ..endpoint.clone() }, Version::V1, clients))
    }

    /// Asks, and waits for all of the answer, of at most `limit` bytes.
    pub async fn ask(
        &mut self,
        method: Method,
        path: String,
        body: impl Into<Bytes>,
        limit: usize,
        deadline: Instant,
    ) -> Result<Reply, http::Error> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let request = Request { method, path: path.into(), headers, body: body.into() };
        let answer = self.0.fetch(&request, limit, deadline).await?;
        let index = answer.headers.get("x-consul-index").and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Reply { status: answer.status, index, body: answer.body })
    }

    /// What a server says, fit to be seen: its beginning, on one line, without our token.
    pub fn said(&self, body: &[u8]) -> String {
        http::said(&self.0.redacted(&String::from_utf8_lossy(body)))
    }
}

/// The index to wait on after an answer: that of the answer, or 0, which waits for nothing, where it went backwards, is 0 or
/// is missing. <https://developer.hashicorp.com/consul/api-docs/features/blocking>
pub fn next_index(before: u64, answered: Option<u64>) -> u64 {
    answered.filter(|index| *index >= before).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_goes_backwards_or_is_none_begins_anew() {
        fn check(before: u64, answered: Option<u64>, expected: u64) {
            assert_eq!(next_index(before, answered), expected);
        }
        check(0, Some(12), 12);
        check(12, Some(12), 12);
        check(12, Some(13), 13);
        check(12, Some(11), 0);
        check(12, Some(0), 0);
        check(12, None, 0);
        check(0, Some(0), 0);
        check(u64::MAX, Some(1), 0);
    }
}
