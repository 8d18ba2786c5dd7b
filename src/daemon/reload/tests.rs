//! The loop, asked by hand.

use super::*;
use crate::config::document::{Flags, Sources};
use crate::config::problem::Problem;
use crate::config::{Address, Secret, Serve};
use std::fs;
use tokio::sync::oneshot;

/// A loop over these sources, and what it publishes.
struct Bench {
    ask: mpsc::Sender<Wanted>,
    config: channel::Receiver<Arc<Config>>,
    report: channel::Receiver<Arc<Report>>,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
    told: channel::Sender<Seen>,
}

fn bench(config: Config) -> (Reloader, Bench) {
    let metrics = Arc::<Metrics>::default();
    let web = Arc::new(Web::open(&Serve::default(), metrics.clone()).expect("nothing to read"));
    let (publish, running) = channel::channel(Arc::new(config));
    let (report, is_reported) = channel::channel(Arc::new(Report::start(SystemTime::now())));
    let (ask, wanted) = mpsc::channel(1);
    let events = Arc::<Events>::default();
    let (told, changed) = channel::channel(Seen::new());
    let reloader = Reloader::new(World {
        publish,
        report,
        outputs: Outputs::none(),
        web,
        metrics: metrics.clone(),
        events: events.clone(),
        wanted,
        remote: None,
        kept: None,
        files: channel::channel(vec![]).0,
        changed,
    });
    (reloader, Bench { ask, config: running, report: is_reported, metrics, events, told })
}

impl Bench {
    async fn reload(&self) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        self.ask.send(Wanted::Reload { cause: Cause::Request, answer }).await.expect("the loop runs");
        answered.await.expect("an answer")
    }

    async fn patch(&self, patch: serde_json::Value) -> Result<String, String> {
        let (answer, answered) = oneshot::channel();
        self.ask.send(Wanted::Patch { patch, answer }).await.expect("the loop runs");
        let outcome = answered.await.expect("an answer");
        let lines =
            |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        outcome.map(|overrides| overrides.json().to_string()).map_err(lines)
    }
}

fn loaded(sources: Sources) -> Config {
    sources.load_file(|_| None).expect("it is all right").config
}

#[tokio::test]
async fn a_good_password_file_is_published_and_a_broken_one_changes_nothing() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), "{}").expect("written");
    let mut config = Config::default();
    config.connect.password_file = Some(file.path().into());
    let (reloader, bench) =
        bench(loaded(Sources { file: None, flags: Arc::new(Flags { config, ..Flags::default() }) }));
    let checks = async move {
        let key = Address::tcp("h", 1).key();
        for (text, expected, password) in [
            (r#"{"redis://h:1": "one"}"#, Ok(()), Some("one")),
            (
                r#"{"redis://h:1": "tw"#,
                Err("failed to reload passwords file: unexpected end of JSON input"),
                Some("one"),
            ),
            (r#"{"h:1": "three"}"#, Ok(()), Some("three")),
            ("{}", Ok(()), None),
        ] {
            fs::write(file.path(), text).expect("written");
            assert_eq!(bench.reload().await, expected.map_err(Into::into), "{text}");
            let running = bench.config.borrow();
            assert_eq!(running.connect.passwords.get(&key).map(Secret::expose), password, "{text}");
            assert_eq!(bench.metrics.reload_failed.get(), expected.is_err(), "{text}");
        }
        assert_eq!(bench.metrics.reload_failures.get(), 1);
    };
    tokio::join!(reloader.run(), checks);
}

#[tokio::test]
async fn the_same_document_twice_publishes_nothing_and_what_stays_is_shared() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("r.yaml");
    let write = |text: &str| fs::write(&path, text).expect("written");
    let two = |lag: u32| {
        format!(
            "services: [{{name: a, instances: [h]}}, {{name: b, instances: [i], replication_lag_bytes: {lag}}}]"
        )
    };
    write(&two(1));
    let (reloader, mut bench) = bench(loaded(Sources { file: Some(path.clone()), ..Sources::default() }));
    let checks = async {
        let before = bench.config.borrow_and_update().clone();
        assert_eq!(bench.reload().await, Ok(()));
        assert!(!bench.config.has_changed().expect("the loop runs"), "nothing is new");
        write(&two(2));
        assert_eq!(bench.reload().await, Ok(()));
        let now = bench.config.borrow_and_update().clone();
        let is_shared = |name: &str| {
            let of = |config: &Config| config.discover.service(name).cloned().expect("a service");
            Arc::ptr_eq(&of(&before), &of(&now))
        };
        assert_eq!((is_shared("a"), is_shared("b")), (true, false));
        let told: Vec<_> = bench.events.all().iter().map(|event| event.message.clone()).collect();
        assert_eq!(told, ["the configuration changed (request): 1 service changed (b)"]);
        write("services: [{name: a}]");
        for _ in 0..2 {
            let reason = bench.reload().await.expect_err("no source");
            assert!(reason.contains("r.yaml:1: services[0]: there is none of sentinel"), "{reason}");
        }
        assert!(!bench.config.has_changed().expect("the loop runs"), "what ran goes on");
        let report = bench.report.borrow().clone();
        assert!(report.reason.is_some() && report.good < report.at);
        write(&two(2));
        assert_eq!(bench.reload().await, Ok(()));
        assert!(bench.report.borrow().reason.is_none() && !bench.metrics.reload_failed.get());
        let (applied, unchanged, failed) = (Reload::Applied, Reload::Unchanged, Reload::Failed);
        let counts = [applied, unchanged, failed]
            .map(|outcome| bench.metrics.reloads[Cause::Request as usize][outcome as usize].get());
        assert_eq!(counts, [1, 2, 2]);
        drop(bench);
    };
    tokio::join!(reloader.run(), checks);
}

#[tokio::test]
async fn what_is_said_for_the_moment_is_all_or_nothing_and_stays_through_reloads() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("r.yaml");
    let write = |text: &str| fs::write(&path, text).expect("written");
    write("services: [{name: a, instances: [h]}]");
    let (reloader, bench) = bench(loaded(Sources { file: Some(path.clone()), ..Sources::default() }));
    let checks = async {
        let failures = || bench.config.borrow().resilience.health.failures_to_down;
        let said = |json: &str| Ok(json.to_owned());
        let five = serde_json::json!({"health": {"failures_to_down": 5}});
        assert_eq!(bench.patch(five).await, said(r#"{"health":{"failures_to_down":5}}"#));
        assert_eq!(failures(), 5);
        // One of two is wrong: neither counts.
        let both = serde_json::json!({"health": {"failures_to_down": 7}, "scrape": {"per_host": 0}});
        let refused = bench.patch(both).await.expect_err("out of range");
        assert!(refused.starts_with("runtime: scrape.per_host: \"0\" is out of range"), "{refused}");
        let unknown = serde_json::json!({"services": {"b": {"collect": {"client_list": true}}}});
        assert_eq!(bench.patch(unknown).await, Err("services.b: there is none of that name".into()));
        assert_eq!(failures(), 5);
        write("health: {failures_to_down: 9}\nservices: [{name: a, instances: [h]}]");
        assert_eq!(bench.reload().await, Ok(()));
        assert_eq!(failures(), 5, "it goes before documents");
        let client_list = serde_json::json!({"services": {"a": {"collect": {"client_list": true}}}});
        assert!(bench.patch(client_list).await.is_ok());
        assert!(
            bench.config.borrow().discover.service("a").is_some_and(|service| service.collect.client_list)
        );
        assert_eq!(bench.metrics.config_overrides.get(), 2);
        assert_eq!(bench.patch(serde_json::json!({"health": null, "services": null})).await, said("{}"));
        assert_eq!(failures(), 9);
        let told: Vec<_> = bench.events.all().iter().map(|event| event.message.clone()).collect();
        assert_eq!(
            told,
            [
                "health.failures_to_down is 5 for the moment, by /api/v1/runtime",
                "the configuration changed (request): all 1 services stay as they are",
                "services.a.collect.client_list is true for the moment, by /api/v1/runtime",
                "health.failures_to_down is again what documents and flags say",
                "services.a.collect.client_list is again what documents and flags say",
            ]
        );
        drop(bench);
    };
    tokio::join!(reloader.run(), checks);
}

#[tokio::test]
async fn a_document_that_becomes_empty_is_refused_and_one_that_is_being_written_is_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("r.yaml");
    let write = |text: &str| fs::write(&path, text).expect("written");
    let whole = "services: [{name: a, instances: [h]}, {name: b, instances: [i]}]\n";
    write("services: [{name: a, instances: [h]}]\n");
    let (reloader, mut bench) = bench(loaded(Sources { file: Some(path.clone()), ..Sources::default() }));
    let checks = async {
        for text in ["", "\n---\n  # later\n"] {
            write(text);
            let reason = bench.reload().await.expect_err("empty");
            assert!(
                reason.contains("r.yaml: is empty, and was not; what has no services has another key"),
                "{reason}"
            );
        }
        assert!(!bench.config.has_changed().expect("the loop runs"), "what ran goes on");
        // Whoever follows the file saw it whole, and somebody is writing again.
        write("health: {failures_to_down: 5}\n");
        bench.told.send_replace([(path.clone(), xxh3_64(whole.as_bytes()))].into());
        let published = tokio::time::timeout(AGAIN * 3, bench.config.changed()).await;
        assert!(published.is_err(), "it was taken half written");
        assert_eq!(bench.metrics.reload_failures.get(), 2, "and that is no failure");
        write(whole);
        let published = tokio::time::timeout(Duration::from_secs(10), bench.config.changed()).await;
        assert!(published.is_ok(), "it is whole");
        assert_eq!(bench.config.borrow().discover.services.len(), 2);
        // Who asks has it as it is.
        write("health: {failures_to_down: 5}\n");
        assert_eq!(bench.reload().await, Ok(()));
        assert!(bench.config.borrow().discover.services.is_empty());
        drop(bench);
    };
    tokio::join!(reloader.run(), checks);
}
