//! A double of Nacos: the long poll of 1.x and 2.x, the query of 3.x, and the login of both. No real one can be had here.
//!
//! What a newcomer would get wrong: the long poll compares MD5s, and answers at once where they differ. So it is the client
//! that has to say which version it has.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::double::{Asked, Double, Said, form};

/// What 1.x and 2.x say of a document that is not there.
const NO_DATA: &str = "config data not exist";

/// Which API it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// That of 1.x and 2.x.
    V1,
    /// That of 3.x alone.
    V3,
}

/// A double of Nacos.
pub struct Nacos {
    double: Double,
    state: Arc<State>,
}

struct State {
    api: Api,
    user: Option<(String, String)>,
    ttl: Duration,
    known: Mutex<Known>,
    changed: Condvar,
}

#[derive(Default)]
struct Known {
    /// By dataId, group and namespace.
    documents: BTreeMap<[String; 3], (String, String)>,
    /// Until when each counts.
    tokens: BTreeMap<String, Instant>,
    logins: usize,
    /// What every question about documents is answered with.
    nonsense: Option<(u16, Vec<u8>)>,
}

impl Nacos {
    /// One that knows everybody.
    pub fn start(api: Api) -> Self {
        Self::begin(api, None, Duration::ZERO)
    }

    /// One that knows this user alone, and its tokens count so long.
    pub fn with_user(api: Api, user: &str, password: &str, ttl: Duration) -> Self {
        Self::begin(api, Some((user.into(), password.into())), ttl)
    }

    fn begin(api: Api, user: Option<(String, String)>, ttl: Duration) -> Self {
        let state = Arc::new(State { api, user, ttl, known: Mutex::default(), changed: Condvar::new() });
        let own = state.clone();
        Self { double: Double::start(move |asked| own.answer(asked)), state }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.double.port()
    }

    /// How many requests there were.
    pub fn asked(&self) -> usize {
        self.double.asked()
    }

    /// How often somebody logged in.
    pub fn logins(&self) -> usize {
        self.state.lock().logins
    }

    /// Publishes a document.
    pub fn publish(&self, id: &str, group: &str, namespace: &str, text: &str) {
        let name = [id, group, namespace].map(str::to_owned);
        self.state.lock().documents.insert(name, (text.into(), md5(text)));
        self.state.changed.notify_all();
    }

    /// Takes a document away.
    pub fn remove(&self, id: &str, group: &str, namespace: &str) {
        self.state.lock().documents.remove(&[id, group, namespace].map(str::to_owned));
        self.state.changed.notify_all();
    }

    /// Answers questions about documents with this, or as it should.
    pub fn answer(&self, nonsense: Option<(u16, &[u8])>) {
        self.state.lock().nonsense = nonsense.map(|(status, body)| (status, body.to_vec()));
        self.state.changed.notify_all();
    }

    /// Nobody listens any more, and all connections are cut; or it is as before.
    pub fn set_down(&self, is_down: bool) {
        self.double.set_down(is_down);
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, asked: &Asked) -> Said {
        let path = (self.api, &*asked.path);
        match path {
            (Api::V1, "/nacos/v1/auth/login") | (Api::V3, "/nacos/v3/auth/user/login") => self.log_in(asked),
            (Api::V3, path) if path.starts_with("/nacos/v1/") => {
                Said::new(410, r#"{"code":20009,"message":"api deprecated","data":null}"#)
            }
            _ if !self.is_known(asked) => {
                let body = r#"{"timestamp":"2026-01-01T00:00:00Z","status":403,"error":"Forbidden","message":"unknown user!"}"#;
                Said::new(403, body)
            }
            (Api::V1, "/nacos/v1/cs/configs/listener") => self.listen(asked),
            (Api::V1, "/nacos/v1/cs/configs") => {
                self.get(asked, ["dataId", "group", "tenant"], |found| match found {
                    Some((text, md5)) => {
                        let mut said = Said::new(200, text);
                        said.headers.push(("Content-MD5", md5));
                        said
                    }
                    None => Said::new(404, NO_DATA),
                })
            }
            (Api::V3, "/nacos/v3/client/cs/config") => {
                self.get(asked, ["dataId", "groupName", "namespaceId"], |found| match found {
                    Some((content, md5)) => {
                        let data =
                            serde_json::json!({ "content": content, "md5": md5, "contentType": "yaml" });
                        let body = serde_json::json!({ "code": 0, "message": "success", "data": data });
                        Said::new(200, body.to_string())
                    }
                    None => Said::new(
                        404,
                        r#"{"code":20004,"message":"resource not found","data":"config data not exist"}"#,
                    ),
                })
            }
            _ => Said::new(404, format!(r#"{{"status":404,"error":"Not Found","path":{:?}}}"#, asked.path)),
        }
    }

    fn log_in(&self, asked: &Asked) -> Said {
        let said = form(&asked.text());
        let word = |name: &str| said.get(name).cloned().unwrap_or_default();
        let mut known = self.lock();
        known.logins += 1;
        if self.user != Some((word("username"), word("password"))) {
            return Said::new(403, "unknown user!");
        }
        let token = format!("token-{}", known.logins);
        known.tokens.insert(token.clone(), Instant::now() + self.ttl);
        let body =
            serde_json::json!({ "accessToken": token, "tokenTtl": self.ttl.as_secs(), "globalAdmin": true });
        Said::new(200, body.to_string())
    }

    fn is_known(&self, asked: &Asked) -> bool {
        let bearer = asked.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let is_alive =
            |token: &str| self.lock().tokens.get(token).is_some_and(|until| Instant::now() < *until);
        self.user.is_none() || bearer.is_some_and(is_alive)
    }

    fn get(
        &self,
        asked: &Asked,
        names: [&str; 3],
        say: impl FnOnce(Option<(String, String)>) -> Said,
    ) -> Said {
        let known = self.lock();
        if let Some((status, body)) = &known.nonsense {
            return Said::new(*status, body.clone());
        }
        let name = names.map(|name| asked.query.get(name).cloned().unwrap_or_default());
        say(known.documents.get(&name).cloned())
    }

    fn listen(&self, asked: &Asked) -> Said {
        let wait = asked.headers.get("long-pulling-timeout").and_then(|text| text.parse().ok()).unwrap_or(0);
        let until = Instant::now() + Duration::from_millis(wait).saturating_sub(Duration::from_millis(500));
        let said = form(&asked.text()).remove("Listening-Configs").unwrap_or_default();
        let Some(line) = said.strip_suffix('\u{1}') else { return Said::new(400, "invalid probeModify") };
        let words: Vec<&str> = line.split('\u{2}').collect();
        let (id, group, md5, tenant) = match words[..] {
            [id, group, md5] => (id, group, md5, ""),
            [id, group, md5, tenant] => (id, group, md5, tenant),
            _ => return Said::new(400, "invalid probeModify"),
        };
        let name = [id, group, tenant].map(str::to_owned);
        let mut known = self.lock();
        loop {
            if known.nonsense.is_some() || known.documents.get(&name).map_or("", |(_, md5)| md5) != md5 {
                let tenant = if tenant.is_empty() { String::new() } else { format!("%02{tenant}") };
                return Said::new(200, format!("{id}%02{group}{tenant}%01\n"));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Said::new(200, "");
            }
            known = self.changed.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// By coreutils, so that no code of ours is its own judge.
fn md5(text: &str) -> String {
    let mut child = Command::new("md5sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("md5sum is there (Debian's coreutils have it)");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("md5sum reads");
    let output = child.wait_with_output().expect("md5sum ends");
    String::from_utf8_lossy(&output.stdout).chars().take(32).collect()
}
