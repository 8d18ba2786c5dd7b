//! A Consul: the real 1.8.7 where `scripts/parts.sh` could get it, else a double. [`Consul::kind`] says which, and tests print it.
//!
//! The double has what the tests need of the real one, as that was seen to do it: keys with indexes and blocking queries, tokens, and
//! services with a TTL check. It is asked and changed by the same HTTP.
//!
//! What a newcomer would get wrong: the index of a key that is there is that of its last change, and that of one that is not is
//! the last of all keys. A query with an index above that waits, as one with the same index does.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::double::{Asked, Double, Said};
use crate::http::{self, Request, Response};
use crate::{Part, Port, Process, wait_until};

/// How long it may take to be ready.
const START: Duration = Duration::from_secs(30);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// A Consul agent, which is also its own server.
pub struct Consul {
    token: Option<String>,
    what: What,
}

enum What {
    Real(Box<Real>),
    Double(Double, Arc<State>),
}

struct Real {
    ports: Vec<Port>,
    args: Vec<String>,
    process: Option<Process>,
    _folder: TempDir,
}

impl Consul {
    /// Starts the real one, or a double where that cannot be had.
    pub fn start() -> Self {
        Self::begin(None)
    }

    /// The same, and nobody may do anything without this token.
    pub fn with_token(token: &str) -> Self {
        Self::begin(Some(token.to_owned()))
    }

    /// Starts a double, whatever there is.
    pub fn double(token: Option<&str>) -> Self {
        let state = Arc::new(State::default());
        let own = state.clone();
        let token = token.map(str::to_owned);
        let wanted = token.clone();
        let double = Double::start(move |asked| own.answer(asked, wanted.as_deref()));
        Self { token, what: What::Double(double, state) }
    }

    fn begin(token: Option<String>) -> Self {
        let Some(_) = Part::Consul.find() else { return Self::double(token.as_deref()) };
        let folder = TempDir::with_prefix("redvigil-consul-").expect("a temporary folder can be made");
        let ports: Vec<Port> = (0..6).map(|_| Port::take()).collect();
        let names = ["http", "grpc", "dns", "server", "serf-lan", "serf-wan"];
        let mut args: Vec<String> =
            ["agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1"].map(Into::into).into();
        args.push(format!("-data-dir={}", folder.path().join("data").display()));
        args.extend(names.iter().zip(&ports).map(|(name, port)| format!("-{name}-port={}", port.number())));
        if let Some(token) = &token {
            let path = folder.path().join("acl.json");
            let acl = format!(
                r#"{{"acl":{{"enabled":true,"default_policy":"deny","tokens":{{"master":"{token}"}}}}}}"#
            );
            std::fs::write(&path, acl).expect("a file can be written");
            args.push(format!("-config-file={}", path.display()));
        }
        let real = Real { ports, args, process: None, _folder: folder };
        let mut consul = Self { token, what: What::Real(Box::new(real)) };
        consul.come_back();
        consul
    }

    /// Which one it is, for people.
    pub fn kind(&self) -> String {
        match &self.what {
            What::Real(_) => format!("Consul {}", Part::Consul.version()),
            What::Double(..) => "a double of Consul".into(),
        }
    }

    /// Its port of HTTP.
    pub fn port(&self) -> u16 {
        match &self.what {
            What::Real(real) => real.ports[0].number(),
            What::Double(double, _) => double.port(),
        }
    }

    /// Writes a key.
    pub fn put(&self, key: &str, value: &[u8]) {
        let said = self.ask("PUT", &format!("/v1/kv/{key}"), value);
        assert_eq!((said.status, said.text().trim()), (200, "true"), "{}", self.kind());
    }

    /// Deletes a key.
    pub fn delete(&self, key: &str) {
        assert_eq!(self.ask("DELETE", &format!("/v1/kv/{key}"), b"").status, 200);
    }

    /// Makes an agent forget a service, as the loss of its data does.
    pub fn forget(&self, id: &str) {
        assert_eq!(self.ask("PUT", &format!("/v1/agent/service/deregister/{id}"), b"").status, 200);
    }

    /// The services of that name that live, as JSON.
    pub fn passing(&self, name: &str) -> Vec<serde_json::Value> {
        let said = self.ask("GET", &format!("/v1/health/service/{name}?passing"), b"");
        let all: serde_json::Value = serde_json::from_slice(&said.body).expect("JSON");
        let all = all.as_array().expect("a list");
        all.iter().map(|entry| entry["Service"].clone()).collect()
    }

    /// Answers to all that we ask of a Consul, one a line: what was asked, the status, whether there is an index, and the body where
    /// it is a short text. A real one and a double give the same.
    pub fn answers(&self) -> String {
        let service =
            r#"{"ID":"r-1","Name":"r","Check":{"CheckID":"service:r-1","TTL":"9000ms","Status":"passing"}}"#;
        let asked = [
            ("GET", "/v1/kv/a/b?raw", ""),
            ("PUT", "/v1/kv/a/b", "a: 1"),
            ("GET", "/v1/kv/a/b?raw", ""),
            ("GET", "/v1/kv/a/b?raw&index=1&wait=1s", ""),
            // The index of a Consul that was another one.
            ("GET", "/v1/kv/a/b?raw&index=99999&wait=1s", ""),
            ("DELETE", "/v1/kv/a/b", ""),
            ("GET", "/v1/kv/a/b?raw", ""),
            ("PUT", "/v1/agent/service/register?replace-existing-checks=true", service),
            ("PUT", "/v1/agent/check/pass/service%3Ar-1", ""),
            ("PUT", "/v1/agent/service/deregister/r-1", ""),
            ("PUT", "/v1/agent/service/deregister/r-1", ""),
            ("PUT", "/v1/agent/check/pass/service%3Ar-1", ""),
        ];
        let mut lines = String::new();
        for (method, path, body) in asked {
            let said = self.ask(method, path, body.as_bytes());
            let index = if said.header("x-consul-index").is_some() { "with index" } else { "without index" };
            lines.push_str(&format!("{method} {path}: {} {index}: {}\n", said.status, said.text().trim()));
        }
        lines
    }

    /// It is gone: its process is killed, or nobody listens any more.
    pub fn go_down(&mut self) {
        match &mut self.what {
            What::Real(real) => {
                real.process.take().expect("it runs").kill();
            }
            What::Double(double, _) => double.set_down(true),
        }
    }

    /// It is there again, and has forgotten everything: a real one in development mode keeps all in memory.
    pub fn come_back(&mut self) {
        match &mut self.what {
            What::Real(real) => {
                let process = Process::start(&Part::Consul.path(), &real.args, &[]);
                real.process = Some(process);
                let port = real.ports[0].number();
                // A key can be read where there is a leader, and with ACLs once the token is known.
                let headers = token(self.token.as_deref());
                wait_until("Consul to have a leader", START, || {
                    let request = Request::get("/v1/kv/ready", &headers);
                    http::send(port, None, request, ANSWER).is_ok_and(|said| said.status == 404)
                });
            }
            What::Double(double, state) => {
                state.lock().forget();
                double.set_down(false);
            }
        }
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Response {
        let headers = token(self.token.as_deref());
        let request = Request { method, path, headers: &headers, body };
        http::send(self.port(), None, request, ANSWER).expect("Consul answers")
    }
}

fn token(token: Option<&str>) -> Vec<(&str, &str)> {
    token.map(|token| ("X-Consul-Token", token)).into_iter().collect()
}

/// What the double knows.
#[derive(Default)]
struct State {
    known: Mutex<Known>,
    changed: Condvar,
}

#[derive(Default)]
struct Known {
    index: u64,
    keys: BTreeMap<String, (Vec<u8>, u64)>,
    /// By id: what was registered.
    services: BTreeMap<String, serde_json::Value>,
    /// By id of the check: until when it counts, and for how long each time.
    checks: BTreeMap<String, (Instant, Duration)>,
}

impl Known {
    /// The next index. What a new one does before it takes keys has taken some.
    fn step(&mut self) -> u64 {
        self.index = self.index.max(11) + 1;
        self.index
    }

    fn forget(&mut self) {
        *self = Self::default();
    }

    /// The index of what was asked for.
    fn index_of(&self, key: &str) -> u64 {
        self.keys.get(key).map_or(self.index, |(_, index)| *index).max(1)
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, asked: &Asked, token: Option<&str>) -> Said {
        if let Some(wanted) = token {
            match asked.headers.get("x-consul-token") {
                None => return Said::new(403, "Permission denied"),
                Some(said) if said != wanted => return Said::new(403, "ACL not found"),
                Some(_) => {}
            }
        }
        let part = |prefix: &str| asked.path.strip_prefix(prefix).map(str::to_owned);
        if let Some(key) = part("/v1/kv/") {
            return self.kv(asked, key);
        }
        let mut known = self.lock();
        if asked.path == "/v1/agent/service/register" {
            return register(&mut known, &asked.text());
        }
        if let Some(id) = part("/v1/agent/check/pass/") {
            return match known.checks.get_mut(&id) {
                Some((until, ttl)) => {
                    *until = Instant::now() + *ttl;
                    Said::new(200, "")
                }
                None => Said::new(500, format!("CheckID {id:?} does not have associated TTL")),
            };
        }
        if let Some(id) = part("/v1/agent/service/deregister/") {
            known.services.remove(&id);
            known.checks.remove(&format!("service:{id}"));
            return Said::new(200, "");
        }
        if let Some(name) = part("/v1/health/service/") {
            let lives = |id: &str| {
                known.checks.get(&format!("service:{id}")).is_none_or(|(until, _)| Instant::now() < *until)
            };
            let all = known.services.iter().filter(|(id, service)| service["Service"] == *name && lives(id));
            let all: Vec<_> = all.map(|(_, service)| serde_json::json!({ "Service": service })).collect();
            return Said::new(200, serde_json::to_vec(&all).expect("JSON"));
        }
        Said::new(404, "")
    }

    fn kv(&self, asked: &Asked, key: String) -> Said {
        let mut known = self.lock();
        match asked.method.as_str() {
            "PUT" => {
                let index = known.step();
                known.keys.insert(key, (asked.body.clone(), index));
                self.changed.notify_all();
                return Said::new(200, "true");
            }
            "DELETE" => {
                known.step();
                known.keys.remove(&key);
                self.changed.notify_all();
                return Said::new(200, "true");
            }
            _ => {}
        }
        let number = |name: &str| {
            asked.query.get(name).and_then(|text| text.trim_end_matches('s').parse::<u64>().ok())
        };
        let until = Instant::now() + Duration::from_secs(number("wait").unwrap_or(300));
        let index = number("index").unwrap_or(0);
        while index > 0 && known.index_of(&key) <= index {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            known = self.changed.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut said = match known.keys.get(&key) {
            Some((value, _)) => Said::new(200, value.clone()),
            None => Said::new(404, ""),
        };
        said.headers.push(("X-Consul-Index", known.index_of(&key).to_string()));
        said
    }
}

fn register(known: &mut Known, body: &str) -> Said {
    let Ok(said) = serde_json::from_str::<serde_json::Value>(body) else {
        return Said::new(400, "Request decode failed");
    };
    let id = said["ID"].as_str().unwrap_or_default().to_owned();
    let ttl = said["Check"]["TTL"].as_str().and_then(|text| text.strip_suffix("ms")?.parse().ok());
    let ttl = Duration::from_millis(ttl.unwrap_or(0));
    known.checks.insert(format!("service:{id}"), (Instant::now() + ttl, ttl));
    let service = serde_json::json!({
        "ID": id, "Service": said["Name"], "Address": said["Address"], "Port": said["Port"],
        "Tags": said["Tags"], "Meta": said["Meta"],
    });
    known.services.insert(id, service);
    Said::new(200, "")
}
