//! A document that Consul keeps as the value of a key: asked for, and then waited for by blocking queries.
//! <https://developer.hashicorp.com/consul/api-docs/features/blocking>
//!
//! What a newcomer would get wrong: an answer is no change. It comes when the time is over, when a key beside ours changed,
//! and after an election; so what counts is whether the text or its index is another one.

use super::fault::{Fault, text};
use super::follow::Read;
use super::{Kind, LARGEST};
use crate::config::deliver::Endpoint;
use crate::net::consul::{Consul, Reply, next_index};
use crate::net::http::{Method, StatusCode, encoded};
use crate::net::tls;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long a query may wait for a change. Not the ten minutes that Consul allows: an agent that is hung is seen when it is over.
const WAIT: Duration = Duration::from_secs(60);

/// What Consul adds to that, so that not all who wait come back at once: up to a sixteenth.
const SPREAD: u32 = 16;

/// Two queries begin no closer together, whatever the answers: what is between them may change often.
const APART: Duration = Duration::from_millis(250);

/// The same where there is no index to wait on.
const APART_WITHOUT_INDEX: Duration = Duration::from_secs(1);

/// A key of a Consul.
#[derive(Debug)]
pub(super) struct Source {
    consul: Consul,
    /// Path without the query.
    path: String,
    timeout: Duration,
    index: u64,
    /// Before then nothing is asked.
    not_before: Instant,
}

impl Source {
    pub(super) fn new(endpoint: &Endpoint, key: &str, clients: Arc<tls::Clients>) -> Self {
        let path = key.split('/').map(encoded).collect::<Vec<_>>().join("/");
        Self {
            consul: Consul::new(endpoint, clients),
            path: format!("{}/v1/kv/{path}", endpoint.url.path_alone().trim_end_matches('/')),
            timeout: endpoint.timeout,
            index: 0,
            not_before: Instant::now(),
        }
    }

    /// Waits for a change and reads the value.
    pub(super) async fn next(&mut self) -> Result<Option<Read>, Fault> {
        sleep_until(self.not_before).await;
        let begun = Instant::now();
        let before = self.index;
        // If this fails: from the beginning, for nobody knows who answers then.
        self.index = 0;
        let wait = if before == 0 { Duration::ZERO } else { WAIT + WAIT / SPREAD };
        let path = query(&self.path, before);
        let asked = self.consul.ask(Method::GET, path, "", LARGEST, begun + wait + self.timeout);
        let reply = asked.await?;
        self.index = next_index(before, reply.index);
        self.not_before = begun + if self.index == 0 { APART_WITHOUT_INDEX } else { APART };
        let is_same = before != 0 && self.index == before;
        understand(&reply, is_same).map_err(|fault| match fault.kind {
            Kind::Missing | Kind::NotText | Kind::TooLarge => fault,
            _ => Fault::status(reply.status, &self.consul.said(&reply.body)),
        })
    }
}

fn query(path: &str, index: u64) -> String {
    match index {
        0 => format!("{path}?raw"),
        index => format!("{path}?raw&index={index}&wait={}s", WAIT.as_secs()),
    }
}

/// What an answer comes to; `is_same`: it has the index of the one before.
fn understand(reply: &Reply, is_same: bool) -> Result<Option<Read>, Fault> {
    match reply.status {
        // What is still not there has been told.
        StatusCode::OK | StatusCode::NOT_FOUND if is_same => Ok(None),
        StatusCode::OK => {
            let version = reply.index.map_or_else(|| "?".into(), |index| index.to_string());
            Ok(Some(Read { text: text(&reply.body)?.into(), version }))
        }
        StatusCode::NOT_FOUND => Err(Fault::missing("key")),
        status => Err(Fault::status(status, "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_change_only_with_another_index() {
        fn check(
            status: u16,
            index: Option<u64>,
            body: &[u8],
            is_same: bool,
            expected: Result<Option<(&str, &str)>, Kind>,
        ) {
            let status = StatusCode::from_u16(status).expect("a status");
            let reply = Reply { status, index, body: body.to_vec().into() };
            let found = understand(&reply, is_same).map_err(|fault| fault.kind);
            let expected = expected
                .map(|read| read.map(|(text, version)| Read { text: text.into(), version: version.into() }));
            assert_eq!(found, expected, "{status} {index:?}");
        }
        check(200, Some(7), b"a: 1", false, Ok(Some(("a: 1", "7"))));
        check(200, Some(7), b"a: 1", true, Ok(None));
        check(200, Some(7), b"", false, Ok(Some(("", "7"))));
        check(200, None, b"a: 1", false, Ok(Some(("a: 1", "?"))));
        check(200, Some(7), b"\xff", false, Err(Kind::NotText));
        check(200, Some(7), &[b' '; LARGEST + 1], false, Err(Kind::TooLarge));
        check(404, Some(9), b"", false, Err(Kind::Missing));
        check(404, Some(9), b"", true, Ok(None));
        check(403, None, b"Permission denied", false, Err(Kind::Refused));
        check(500, None, b"No cluster leader", false, Err(Kind::Unavailable));
        check(429, None, b"", false, Err(Kind::Unavailable));
        check(301, None, b"", false, Err(Kind::Protocol));
    }

    #[test]
    fn a_query_waits_where_there_is_an_index() {
        assert_eq!(query("/v1/kv/a", 0), "/v1/kv/a?raw");
        assert_eq!(query("/v1/kv/a", 12), "/v1/kv/a?raw&index=12&wait=60s");
    }
}
