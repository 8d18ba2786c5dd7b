//! What etcd is asked by its JSON gateway: keys, leases, users, and all that ever happened.
//!
//! <https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/>. Keys and values are base64 there, and numbers are strings.
//! A member that is down or stands still is passed over.
//!
//! What a newcomer would get wrong: a watch never says that it has told everything. So [`Etcd::history`] writes a key of
//! its own, outside of all prefixes, and reads until it sees it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::{Value, json};

use super::{ANSWER, Etcd, ROOT, User};
use crate::http::{self, Request};

/// Where the end of a history is marked.
const MARK: &str = "testbed/mark";

/// A key that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kv {
    /// Its name.
    pub key: String,
    /// What it holds.
    pub value: String,
    /// The revision in which it came into being.
    pub create_revision: i64,
    /// The revision in which it was written last.
    pub mod_revision: i64,
    /// The lease that it lives by; 0: none.
    pub lease: i64,
}

/// Something that happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was written.
    Put(Kv),
    /// It was deleted, by somebody or with its lease.
    Delete {
        /// Its name.
        key: String,
        /// The revision of that.
        revision: i64,
    },
}

impl Event {
    /// The key.
    pub fn key(&self) -> &str {
        match self {
            Self::Put(kv) => &kv.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// The revision in which it happened. Several keys may change in one.
    pub fn revision(&self) -> i64 {
        match self {
            Self::Put(kv) => kv.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

impl Etcd {
    /// Writes a key, under a lease (0: none); the revision of that.
    pub fn put(&self, key: &str, value: &str, lease: i64) -> i64 {
        self.try_put(key, value, lease).unwrap_or_else(|error| panic!("etcd does not take {key}: {error}"))
    }

    /// The same, where etcd may be away or without a leader. It may have been done all the same.
    pub fn try_put(&self, key: &str, value: &str, lease: i64) -> Result<i64, String> {
        let ask = json!({"key": encode(key), "value": encode(value), "lease": lease.to_string()});
        Ok(revision(&self.try_call("kv/put", &ask)?))
    }

    /// Deletes all keys that begin with this; how many they were.
    pub fn delete_all(&self, prefix: &str) -> i64 {
        let answer = self.call("kv/deleterange", &json!({"key": encode(prefix), "range_end": end(prefix)}));
        number(&answer["deleted"])
    }

    /// All keys that begin with this, in order.
    pub fn all(&self, prefix: &str) -> Vec<Kv> {
        self.try_all(prefix).unwrap_or_else(|error| panic!("etcd does not tell {prefix}: {error}"))
    }

    /// The same, where etcd may be away.
    pub fn try_all(&self, prefix: &str) -> Result<Vec<Kv>, String> {
        let answer = self.try_call("kv/range", &json!({"key": encode(prefix), "range_end": end(prefix)}))?;
        let all = answer["kvs"].as_array().cloned().unwrap_or_default();
        Ok(all.iter().map(kv).collect())
    }

    /// The revision of now.
    pub fn revision(&self) -> i64 {
        revision(&self.call("kv/range", &json!({"key": encode(MARK)})))
    }

    /// Forgets what was before this revision: who watches from there is told so.
    pub fn compact(&self, revision: i64) {
        self.call("kv/compaction", &json!({"revision": revision.to_string(), "physical": true}));
    }

    /// A lease of so many seconds, or of what etcd makes of them; its id.
    pub fn grant(&self, seconds: u64) -> i64 {
        number(&self.call("lease/grant", &json!({"TTL": seconds.to_string()}))["ID"])
    }

    /// Ends a lease, and all keys under it.
    pub fn revoke(&self, lease: i64) {
        self.call("lease/revoke", &json!({"ID": lease.to_string()}));
    }

    /// The leases that are there.
    pub fn leases(&self) -> Vec<i64> {
        let answer = self.call("lease/leases", &json!({}));
        let all = answer["leases"].as_array().cloned().unwrap_or_default();
        all.iter().map(|lease| number(&lease["ID"])).collect()
    }

    /// All that happened to keys that begin with this, from a revision on (1: ever), in order. Panics where that revision
    /// is forgotten.
    pub fn history(&self, prefix: &str, from: i64) -> Vec<Event> {
        let until = self.put(MARK, "", 0);
        let mut events = self.watch(from, until);
        events.retain(|event| event.key().starts_with(prefix));
        events
    }

    /// All that happened to any key from one revision to another, both included.
    fn watch(&self, from: i64, until: i64) -> Vec<Event> {
        let body = json!({"create_request": {
            "key": encode("\0"), "range_end": encode("\0"), "start_revision": from.to_string()}})
        .to_string();
        let token = self.token();
        let mut head =
            format!("POST /v3/watch HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", body.len());
        if let Some(token) = &token {
            head.push_str(&format!("Authorization: {token}\r\n"));
        }
        let mut stream = BufReader::new(self.open());
        let sent = stream.get_mut().write_all(format!("{head}\r\n{body}").as_bytes());
        sent.expect("etcd takes a request");
        let mut events = Vec::new();
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < ANSWER, "no revision {until} in {} events", events.len());
            let mut line = Vec::new();
            stream.read_until(b'\n', &mut line).expect("etcd tells its history");
            // Between the answers stand the head and the marks of chunks, none of which begins like this.
            if !line.starts_with(b"{") {
                assert!(!line.is_empty(), "etcd ended the watch");
                continue;
            }
            // An answer that is longer than a chunk is told in several: never seen, as each is flushed whole.
            let answer: Value = serde_json::from_slice(&line).expect("an answer is a line of JSON");
            let result = &answer["result"];
            assert!(result["canceled"].is_null(), "no history from {from}: {answer}");
            for event in result["events"].as_array().into_iter().flatten() {
                let kv = kv(&event["kv"]);
                events.push(match event["type"].as_str() {
                    Some("DELETE") => Event::Delete { key: kv.key, revision: kv.mod_revision },
                    _ => Event::Put(kv),
                });
            }
            if events.last().is_some_and(|event| event.revision() >= until) {
                return events;
            }
        }
    }

    /// A connection to the first member that takes one and answers.
    fn open(&self) -> Box<dyn Stream> {
        let port = self.answering().expect("a member answers");
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_read_timeout(Some(ANSWER)).expect("a time-out can be set");
        match self.client.clone() {
            None => Box::new(stream),
            Some(config) => {
                let name = ServerName::try_from("localhost").expect("localhost is a name");
                let connection = ClientConnection::new(config, name).expect("a session can begin");
                Box::new(StreamOwned::new(connection, stream))
            }
        }
    }

    pub(super) fn add_users(&mut self, user: &User) {
        let all = [("root", ROOT), (&user.name, &user.password)];
        for (name, password) in all {
            self.call("auth/user/add", &json!({"name": name, "password": password}));
            self.call("auth/role/add", &json!({"name": name}));
            self.call("auth/user/grant", &json!({"user": name, "role": name}));
        }
        user.prefixes.iter().for_each(|prefix| self.permit(&user.name, prefix));
        self.call("auth/enable", &json!({}));
        self.with_users = true;
    }

    /// Gives a user another password; etcd forgets its tokens then.
    pub fn change_password(&self, name: &str, password: &str) {
        self.call("auth/user/changepw", &json!({"name": name, "password": password}));
    }

    /// Lets a user read and write what begins with this, too.
    pub fn permit(&self, name: &str, prefix: &str) {
        let permission = json!({"permType": "READWRITE", "key": encode(prefix), "range_end": end(prefix)});
        self.call("auth/role/grant", &json!({"name": name, "perm": permission}));
    }

    /// A token of `root`, where there are users.
    fn token(&self) -> Option<String> {
        if !self.with_users {
            return None;
        }
        let answer = self.ask("auth/authenticate", &json!({"name": "root", "password": ROOT}), None);
        Some(answer.expect("root may enter")["token"].as_str().expect("a token").to_owned())
    }

    fn call(&self, method: &str, body: &Value) -> Value {
        self.try_call(method, body).unwrap_or_else(|error| panic!("{method} {body}: {error}"))
    }

    fn try_call(&self, method: &str, body: &Value) -> Result<Value, String> {
        self.ask(method, body, self.token().as_deref())
    }

    fn ask(&self, method: &str, body: &Value, token: Option<&str>) -> Result<Value, String> {
        let (path, body) = (format!("/v3/{method}"), body.to_string());
        let headers = token.map(|token| ("Authorization", token));
        let port = self.answering().ok_or("no member answers")?;
        let request =
            Request { method: "POST", path: &path, headers: headers.as_slice(), body: body.as_bytes() };
        match http::send(port, self.client.clone(), request, ANSWER) {
            Ok(answer) if answer.status == 200 => {
                serde_json::from_slice(&answer.body).map_err(|error| error.to_string())
            }
            Ok(answer) => Err(format!("{}: {}", answer.status, answer.text())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The port of the first member that answers. One that stands still takes what it is sent all the same, and does it
    /// later: so it is not asked anything that changes something.
    fn answering(&self) -> Option<u16> {
        let limit = if self.len() > 1 { Duration::from_secs(1) } else { ANSWER };
        let answers =
            |port: &u16| http::send(*port, self.client.clone(), Request::get("/version", &[]), limit).is_ok();
        self.members.iter().filter(|member| member.is_running()).map(super::Member::port).find(answers)
    }
}

/// What can be read and written: a connection, with TLS or without.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn kv(value: &Value) -> Kv {
    let text = |value: &Value| decode(value.as_str().unwrap_or_default());
    Kv {
        key: text(&value["key"]),
        value: text(&value["value"]),
        create_revision: number(&value["create_revision"]),
        mod_revision: number(&value["mod_revision"]),
        lease: number(&value["lease"]),
    }
}

fn revision(answer: &Value) -> i64 {
    number(&answer["header"]["revision"])
}

/// A number, which the gateway says as a string, and not at all where it is 0.
fn number(value: &Value) -> i64 {
    value.as_str().map_or(0, |text| text.parse().expect("a number"))
}

/// The first key behind all that begin with this one, encoded.
fn end(prefix: &str) -> String {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix has a letter") += 1;
    encode(end)
}

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 as of RFC 4648, section 4.
fn encode(bytes: impl AsRef<[u8]>) -> String {
    let mut text = String::new();
    for group in bytes.as_ref().chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

fn decode(text: &str) -> String {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let place = LETTERS.iter().position(|known| *known == letter).expect("base64");
        (bits, count) = (bits << 6 | u32::try_from(place).expect("64 letters"), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 255) as u8);
        }
    }
    String::from_utf8(bytes).expect("tests write text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let check = |plain: &str, encoded: &str| {
            assert_eq!((encode(plain).as_str(), decode(encoded).as_str()), (encoded, plain));
        };
        // RFC 4648, section 10.
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
        check("foob", "Zm9vYg==");
        check("fooba", "Zm9vYmE=");
        check("foobar", "Zm9vYmFy");
    }

    #[test]
    fn a_prefix_ends_where_its_last_letter_goes_up() {
        assert_eq!(end("/a/"), encode("/a0"));
    }
}
