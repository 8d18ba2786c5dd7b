//! What the exporter says of its services while something happens to them, watched all the time.

use crate::page::{Labels, Page};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use testbed::{Exporter, http, wait_for, wait_until};

/// The name of the configuration file.
const DOCUMENT: &str = "redvigil.yaml";

/// An exporter with a configuration file.
pub struct Fleet {
    /// The process.
    pub exporter: Exporter,
    folder: tempfile::TempDir,
}

impl Fleet {
    /// Starts it with this document, and waits until every service has members and each was read once.
    pub fn start(document: &str) -> Self {
        let fleet = Self::start_unready(document);
        wait_until("every member to be read", crate::PATIENCE, || fleet.is_settled());
        fleet
    }

    /// Starts it with this document.
    pub fn start_unready(document: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(DOCUMENT);
        std::fs::write(&path, document).expect("written");
        let exporter = crate::exporter(&[format!("--config.file={}", path.display())]).start();
        Self { exporter, folder }
    }

    /// Writes another document over the first one. It counts once the exporter reads it again.
    pub fn rewrite(&self, document: &str) {
        std::fs::write(self.folder.path().join(DOCUMENT), document).expect("written");
    }

    fn is_settled(&self) -> bool {
        let services = self.services();
        services.iter().all(|service| {
            let members = service["members"].as_array().expect("members");
            !members.is_empty() && members.iter().all(|member| member["health"] == "ok")
        }) && !services.is_empty()
    }

    /// `/api/v1/services`.
    pub fn services(&self) -> Vec<Value> {
        list(&self.json("/api/v1/services"), "services")
    }

    /// One service of it.
    pub fn service(&self, name: &str) -> Value {
        let services = self.services();
        services.into_iter().find(|service| service["name"] == name).expect("the service is configured")
    }

    /// A member of a service.
    pub fn member(&self, service: &str, instance: &str) -> Option<Value> {
        list(&self.service(service), "members").into_iter().find(|member| member["instance"] == instance)
    }

    /// A member as `/api/v1/targets` has it. Asking collects nothing.
    pub fn target(&self, instance: &str) -> Option<Value> {
        let targets = list(&self.json("/api/v1/targets"), "targets");
        targets.into_iter().find(|target| target["instance"] == instance)
    }

    /// The instances of a service, sorted.
    pub fn instances(&self, service: &str) -> Vec<String> {
        let members = list(&self.service(service), "members");
        let mut names: Vec<_> =
            members.iter().map(|m| m["instance"].as_str().expect("text").to_owned()).collect();
        names.sort();
        names
    }

    /// `/api/v1/events`.
    pub fn events(&self) -> Vec<Value> {
        list(&self.json("/api/v1/events"), "events")
    }

    /// Events of this kind, `from > to`.
    pub fn told(&self, kind: &str) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let events = self.events();
        let wanted = events.iter().filter(|event| event["kind"] == kind);
        wanted.map(|event| format!("{} > {}", text(&event["from"]), text(&event["to"]))).collect()
    }

    /// A page of metrics.
    pub fn page(&self, path: &str) -> Page {
        let response = self.exporter.get(path, &[]);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        Page::parse(response.text())
    }

    /// A document of the API.
    pub fn json(&self, path: &str) -> Value {
        let response = self.exporter.get(path, &[]);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        serde_json::from_str(response.text()).expect("JSON")
    }

    /// Begins to watch a service.
    pub fn watch(&self, service: &str) -> Watch {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let over = Arc::new(AtomicBool::new(false));
        let (log, end, port, name) = (seen.clone(), over.clone(), self.exporter.port(), service.to_owned());
        let thread = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                look(port, &name, &log);
                thread::sleep(Duration::from_millis(5));
            }
        });
        Watch { seen, over, thread: Some(thread) }
    }
}

fn list(value: &Value, key: &str) -> Vec<Value> {
    value[key].as_array().unwrap_or_else(|| panic!("no {key} in {value}")).clone()
}

/// What was seen of a service.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The masters that the API named, and since when.
    pub masters: Vec<(Option<String>, Instant)>,
    /// When a page first had samples by which this instance is the master.
    pub samples: BTreeMap<String, Instant>,
    /// Every health that a member had.
    pub health: BTreeMap<String, BTreeSet<String>>,
    /// Which labels the series of a family had, by instance: they must not change.
    pub labels: BTreeMap<(String, String), BTreeSet<Vec<String>>>,
}

fn look(port: u16, service: &str, log: &Mutex<Seen>) {
    let get = |path: &str| {
        let request = http::Request::get(path, &[]);
        let response = http::send(port, None, request, crate::PATIENCE).expect("the exporter answers");
        assert_eq!(response.status, 200, "{path}");
        response.text().to_owned()
    };
    let services: Value = serde_json::from_str(&get("/api/v1/services")).expect("JSON");
    let now = Instant::now();
    let found = list(&services, "services").into_iter().find(|found| found["name"] == service);
    let found = found.expect("the service is there");
    let mut seen = lock(log);
    let master = found["master"].as_str().map(str::to_owned);
    if seen.masters.last().is_none_or(|(before, _)| *before != master) {
        seen.masters.push((master, now));
    }
    for member in list(&found, "members") {
        let text = |key: &str| member[key].as_str().expect("text").to_owned();
        seen.health.entry(text("instance")).or_default().insert(text("health"));
    }
    drop(seen);
    let page = Page::parse(&get(&format!("/metrics?service={service}")));
    let now = Instant::now();
    let mut seen = lock(log);
    for ((_, labels), value) in page.families.get("redis_instance_info").iter().flat_map(|f| &f.samples) {
        if labels["role"] == "master" && *value == 1.0 {
            seen.samples.entry(labels["instance"].clone()).or_insert(now);
        }
    }
    // Families that say the role are about it; all others must not change with it.
    for name in ["redis_up", "redis_connected_clients", "redis_memory_used_bytes", "redis_uptime_in_seconds"]
    {
        for (_, labels) in page.families.get(name).iter().flat_map(|f| f.samples.keys()) {
            let names = |labels: &Labels| labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let key = (name.to_owned(), labels["instance"].clone());
            seen.labels.entry(key).or_default().insert(names(labels));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A service that is watched until this is dropped.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watch {
    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// When the API first named this master, and when its samples first said so.
    pub fn wait_for_master(&self, instance: &str) -> (Instant, Instant) {
        wait_for("the new master and its samples", crate::PATIENCE, || {
            let seen = self.seen();
            let named = seen.masters.iter().find(|(name, _)| name.as_deref() == Some(instance))?.1;
            Some((named, *seen.samples.get(instance)?))
        })
    }

    /// Ends the watch. Fails where a look failed, or where series changed their labels.
    pub fn end(mut self) -> Seen {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().expect("it is ended once").join().expect("every look succeeded");
        let seen = self.seen();
        let changed: Vec<_> = seen.labels.iter().filter(|(_, labels)| labels.len() > 1).collect();
        assert!(changed.is_empty(), "series changed their labels: {changed:?}");
        assert!(!seen.labels.is_empty(), "there were series to look at");
        seen
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
