//! The owner of the configuration that runs, and the one who replaces it: load, parse, validate, compare, publish.
//!
//! It is asked by SIGHUP, by `/-/reload`, by the file when it changes, by the remote document, by every file whose content
//! is configuration (passwords, scripts), and by what is said for the moment. Whatever is wrong leaves what runs alone, with
//! the reason in the log (once, until it is another one), in metrics and in `/api/v1/config`. Who has read the same twice
//! wakes nobody.
//!
//! What a newcomer would get wrong: files are read and documents understood on a thread beside ours. Thousands of services
//! take a while, and collections go on meanwhile.

mod compare;

use crate::config::document::overrides::Overrides;
use crate::config::document::reader::Files;
use crate::config::document::{Loaded, Origin, Text, Texts, effective, rows};
use crate::config::problem::Problem;
use crate::config::{Config, credentials, validate};
use crate::deliver::outputs::Outputs;
use crate::serve::reload::{Report, Wanted};
use crate::serve::web::Web;
use crate::source;
use crate::source::file::Seen;
use crate::source::last_good::LastGood;
use crate::telemetry::events::{Events, Kind};
use crate::telemetry::log;
use crate::telemetry::metrics::{Cause, Metrics, Reload};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch as channel};
use tracing::{debug, error, info, warn};
use xxhash_rust::xxh3::xxh3_64;

/// What the owner of the configuration stands on.
pub struct World {
    /// Where the configuration is published.
    pub publish: channel::Sender<Arc<Config>>,
    /// Where is told how it went.
    pub report: channel::Sender<Arc<Report>>,
    /// Those who must have what is new of theirs before it is published.
    pub outputs: Outputs,
    /// TLS and users of our own server.
    pub web: Arc<Web>,
    /// Our own counters.
    pub metrics: Arc<Metrics>,
    /// The event log.
    pub events: Arc<Events>,
    /// Who wants a reload.
    pub wanted: mpsc::Receiver<Wanted>,
    /// What is known of the remote document, where there is one.
    pub remote: Option<channel::Receiver<source::State>>,
    /// Where a remote document is kept that was good.
    pub kept: Option<LastGood>,
    /// Where is said which files are followed.
    pub files: channel::Sender<Vec<PathBuf>>,
    /// What they hold.
    pub changed: channel::Receiver<Seen>,
}

/// The loop that answers wishes for a reload.
pub struct Reloader {
    world: World,
    /// The files as they were when a reload began last.
    seen: Seen,
    /// What counts at the next start only, as it was at this one.
    at_start: BTreeMap<String, u64>,
    /// Warnings that were told, and the failure that was.
    told: HashSet<String>,
    told_failure: Option<String>,
}

/// Why nothing is new.
enum Fault {
    /// What documents say, or files that they name.
    Problems(Vec<Problem>),
    /// What else has to take it.
    Other(String),
}

impl Fault {
    fn line(&self) -> String {
        match self {
            Self::Problems(problems) => {
                let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                format!("failed to reload the configuration: {}", problems.join("; "))
            }
            Self::Other(line) => line.clone(),
        }
    }
}

impl Reloader {
    /// Takes over the configuration that was published last.
    pub fn new(world: World) -> Self {
        let config = world.publish.borrow().clone();
        let mut reloader = Self {
            seen: Seen::new(),
            at_start: BTreeMap::new(),
            told: HashSet::new(),
            told_failure: None,
            world,
        };
        if let Some(origin) = &config.origin {
            let settings = effective::settings(origin, &rows());
            reloader.at_start = effective::at_start(&settings);
            reloader.world.metrics.config_hash.set(effective::hash(&settings));
            reloader.seen = hashes(origin);
            reloader.follow(origin, origin.files.keys());
        }
        reloader.world.metrics.config_since.set(milliseconds(SystemTime::now()));
        reloader
    }

    /// Runs until nobody can ask any more.
    pub async fn run(mut self) {
        let mut remote = self.world.remote.clone();
        let mut files = self.world.changed.clone();
        // What it found before we looked is looked at, too.
        files.mark_changed();
        loop {
            tokio::select! {
                wanted = self.world.wanted.recv() => match wanted {
                    None => return,
                    Some(Wanted::Reload { cause, answer }) => {
                        let outcome = self.reload(cause, self.wanted_texts()).await;
                        let web = self.world.web.reload();
                        let web = web.map_err(|error| format!("failed to reload: {}", log::chain(&error)));
                        let outcome = outcome.map_err(|fault| fault.line()).and(web);
                        if let Err(reason) = &outcome {
                            self.failed(cause, reason.clone());
                        }
                        // Whoever asked may have left.
                        let _ = answer.send(outcome);
                    }
                    Some(Wanted::Patch { patch, answer }) => _ = answer.send(self.patch(&patch).await),
                },
                () = changed(&mut remote) => {
                    let texts = self.wanted_texts();
                    if texts.remote != self.running_texts().remote {
                        self.attempt(Cause::Remote, texts).await;
                    }
                }
                // Who follows files ends when we do.
                Ok(()) = files.changed() => {
                    let seen = files.borrow_and_update().clone();
                    if let Some(cause) = self.files_changed(seen) {
                        self.attempt(cause, self.wanted_texts()).await;
                    }
                }
            }
        }
    }

    /// The documents that run; the file is read anew anyway.
    fn running_texts(&self) -> Texts {
        let running = self.world.publish.borrow();
        running.origin.as_ref().map(|origin| origin.texts.clone()).unwrap_or_default()
    }

    /// The same with the remote document as it is now. Who asks again asks for all of it: a document that is wrong stays so
    /// until somebody mends it.
    fn wanted_texts(&self) -> Texts {
        let latest = self.world.remote.as_ref().and_then(|remote| remote.borrow().latest.clone());
        let remote = latest.map(|latest| Text { name: latest.place, text: latest.text });
        let running = self.running_texts();
        Texts { remote: remote.or(running.remote), ..running }
    }

    /// What asks for a reload among the files, where one holds something else.
    fn files_changed(&mut self, seen: Seen) -> Option<Cause> {
        let file = self.world.publish.borrow().origin.as_ref().and_then(|origin| origin.sources.file.clone());
        // What nobody has looked at yet is no news.
        let news: Vec<_> =
            seen.into_iter().filter(|(path, hash)| self.seen.get(path) != Some(hash)).collect();
        let cause =
            if news.iter().any(|(path, _)| Some(path) == file.as_ref()) { Cause::File } else { Cause::Named };
        let is_news = !news.is_empty();
        self.seen.extend(news);
        is_news.then_some(cause)
    }

    /// Has the file followed, and these.
    fn follow<'a>(&self, origin: &'a Origin, named: impl Iterator<Item = &'a PathBuf>) {
        let files: Vec<_> = origin.sources.file.iter().chain(named).cloned().collect();
        self.world.files.send_if_modified(|followed| {
            let is_new = *followed != files;
            *followed = files;
            is_new
        });
    }

    async fn attempt(&mut self, cause: Cause, texts: Texts) {
        if let Err(fault) = self.reload(cause, texts).await {
            self.failed(cause, fault.line());
        }
    }

    /// Something is to be said for the moment.
    async fn patch(&mut self, patch: &serde_json::Value) -> Result<Overrides, Vec<Problem>> {
        let before = self.running_texts();
        let overrides = before.overrides.patched(patch, &rows())?;
        if let Some(problem) = self.unknown_name(&overrides) {
            return Err(vec![problem]);
        }
        let texts = Texts { overrides: overrides.clone(), ..before.clone() };
        match self.reload_as_it_is(Cause::Runtime, texts).await {
            Ok(()) => {
                self.tell_overrides(&before.overrides, &overrides);
                Ok(overrides)
            }
            Err(fault) => {
                self.world.metrics.reloaded(Cause::Runtime, Reload::Failed);
                Err(match fault {
                    Fault::Problems(problems) => problems,
                    Fault::Other(message) => vec![Problem { place: String::new(), message }],
                })
            }
        }
    }

    /// A name of which something is said, and which nobody has.
    fn unknown_name(&self, overrides: &Overrides) -> Option<Problem> {
        let config = self.world.publish.borrow();
        let is_output = |name: &str| config.deliver.outputs.iter().any(|output| *output.name == *name);
        let service = overrides.names("services").find(|name| config.discover.service(name).is_none());
        let output = overrides.names("outputs").find(|name| !is_output(name));
        let (key, name) = service.map(|name| ("services", name)).or(output.map(|name| ("outputs", name)))?;
        let message = "there is none of that name".into();
        Some(Problem { place: format!("{key}.{name}"), message })
    }

    /// Each change of what is said for the moment is an event.
    fn tell_overrides(&self, before: &Overrides, now: &Overrides) {
        self.world.metrics.config_overrides.set(now.list().len() as u64);
        let (before, now): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (before.list().into_iter().collect(), now.list().into_iter().collect());
        let keys: BTreeSet<_> = before.keys().chain(now.keys()).collect();
        for key in keys {
            let (old, new) = (before.get(key), now.get(key));
            if old == new {
                continue;
            }
            let message = match new {
                Some(new) => format!("{key} is {new} for the moment, by /api/v1/runtime"),
                None => format!("{key} is again what documents and flags say"),
            };
            let mut steps = key.split('.');
            let name = if matches!(steps.next(), Some("services" | "outputs")) { steps.next() } else { None };
            let (old, new) = (old.map(String::as_str), new.map(String::as_str));
            self.world.events.push(name.unwrap_or_default(), Kind::Config, old, new, message);
        }
    }

    /// Reads the file anew, and goes on with it.
    async fn reload(&mut self, cause: Cause, texts: Texts) -> Result<(), Fault> {
        let running = self.world.publish.borrow().clone();
        let Some(origin) = running.origin.clone() else { return Ok(()) };
        let sources = origin.sources.clone();
        let read = beside(move || sources.read()).await.and_then(|text| text.map_err(Fault::Problems));
        match read {
            Ok(file) => self.reload_as_it_is(cause, Texts { file, ..texts }).await,
            Err(fault) => Err(fault),
        }
    }

    /// Goes on with these documents, unless something is wrong with them.
    async fn reload_as_it_is(&mut self, cause: Cause, texts: Texts) -> Result<(), Fault> {
        let began = Instant::now();
        let running = self.world.publish.borrow().clone();
        let Some(origin) = running.origin.clone() else { return Ok(()) };
        let (before, known) = (running.clone(), origin.clone());
        let (outcome, files) = beside(move || load(&before, &known, &texts)).await?;
        let mut named: BTreeSet<_> = files.keys().collect();
        if outcome.is_err() {
            // What it did not come to may be what mends it.
            named.extend(origin.files.keys());
        }
        // What was read now is no news when the one who follows files comes upon it.
        self.seen.extend(files.iter().filter_map(|(path, hash)| Some((path.clone(), (*hash)?))));
        self.follow(&origin, named.into_iter());
        let fresh = outcome.map_err(|problems| own_words(&origin, problems))?;
        let (config, scrape) = match &fresh {
            Some(fresh) => (&fresh.config, &fresh.config.scrape),
            None => (&*running, &running.scrape),
        };
        let outputs = self.world.outputs.apply(&config.deliver, scrape.interval).await;
        outputs
            .map_err(|error| Fault::Other(format!("failed to reload the outputs: {}", log::chain(&error))))?;
        let outcome = if fresh.is_some() { Reload::Applied } else { Reload::Unchanged };
        let mut pending = self.world.report.borrow().pending.clone();
        if let Some(fresh) = fresh {
            pending = self.publish(cause, fresh, began);
        }
        let mended = self.world.metrics.reload_failed.swap(false);
        let now = SystemTime::now();
        self.world.metrics.config_since.set(milliseconds(now));
        self.world.metrics.reloaded(cause, outcome);
        self.told_failure = None;
        if mended || cause == Cause::Signal || cause == Cause::Request {
            info!(cause = cause.word(), outcome = outcome.word(), mended, "configuration read again");
        }
        let report = Report { at: now, cause, outcome, reason: None, good: now, pending };
        self.world.report.send_replace(Arc::new(report));
        Ok(())
    }

    /// Publishes what is new. Which keys wait for the next start.
    fn publish(&mut self, cause: Cause, fresh: Fresh, began: Instant) -> Vec<String> {
        let Fresh { config, warnings, hash, at_start, change } = fresh;
        let told: HashSet<_> = warnings.iter().map(ToString::to_string).collect();
        for warning in told.difference(&self.told) {
            warn!("{warning}");
        }
        self.told = told;
        let pending: Vec<_> = compare::differing(&self.at_start, &at_start);
        for key in pending.iter().filter(|key| !self.world.report.borrow().pending.contains(key)) {
            warn!(key, "changed, and takes effect at restart");
        }
        let remote = self.world.remote.as_ref().and_then(|remote| remote.borrow().latest.clone());
        if config.telemetry.level != self.world.publish.borrow().telemetry.level {
            log::set_level(config.telemetry.level);
        }
        self.world.metrics.config_hash.set(hash);
        self.world.publish.send_replace(Arc::new(config));
        let took_ms = began.elapsed().as_millis() as u64;
        info!(cause = cause.word(), took_ms, "configuration published");
        if cause != Cause::Runtime {
            let message = format!("the configuration changed ({}): {change}", cause.word());
            self.world.events.push("", Kind::Config, None, None, message);
        }
        if let (Some(document), Some(kept)) = (remote, self.world.kept.clone()) {
            drop(tokio::task::spawn_blocking(move || {
                if let Err(error) = kept.keep(&document) {
                    warn!(error = %error, "the remote document cannot be kept for a start without its source");
                }
            }));
        }
        pending
    }

    /// Tells what is wrong, where it is something new.
    fn failed(&mut self, cause: Cause, reason: String) {
        self.world.metrics.reload_failed.swap(true);
        self.world.metrics.reload_failures.increment();
        self.world.metrics.reloaded(cause, Reload::Failed);
        if self.told_failure.as_ref() == Some(&reason) {
            debug!(cause = cause.word(), error = reason, "reload failed as before");
        } else {
            error!(cause = cause.word(), error = reason, "reload failed: what ran before goes on");
            self.told_failure = Some(reason.clone());
        }
        let before = self.world.report.borrow().clone();
        let report = Report {
            at: SystemTime::now(),
            cause,
            outcome: Reload::Failed,
            reason: Some(reason),
            ..Report::clone(&before)
        };
        self.world.report.send_replace(Arc::new(report));
    }
}

/// A configuration that is not the one that runs.
struct Fresh {
    config: Config,
    warnings: Vec<crate::config::problem::Warning>,
    hash: u64,
    at_start: BTreeMap<String, u64>,
    change: String,
}

/// What documents come to, where that is new, and which files were read.
type Outcome = (Result<Option<Fresh>, Vec<Problem>>, BTreeMap<PathBuf, Option<u64>>);

/// Reads these documents and compares; `None`: nothing is new. And which files were read, in any case.
fn load(running: &Config, origin: &Origin, texts: &Texts) -> Outcome {
    if *texts == origin.texts {
        let files = Files::default();
        for path in origin.files.keys() {
            let _ = files.read(path);
        }
        if files.seen() == origin.files {
            return (Ok(None), origin.files.clone());
        }
    }
    let files = Files::default();
    let loaded = origin.sources.load(texts, &files, &|name| std::env::var_os(name));
    let fresh = loaded.map(|Loaded { mut config, warnings }| {
        let change = compare::share(running, &mut config);
        let settings =
            config.origin.as_ref().map(|origin| effective::settings(origin, &rows())).unwrap_or_default();
        let (hash, at_start) = (effective::hash(&settings), effective::at_start(&settings));
        Some(Fresh { config, warnings, hash, at_start, change })
    });
    (fresh, files.seen())
}

/// The peer has words of its own for its password file, which is all that it can reload.
fn own_words(origin: &Origin, problems: Vec<Problem>) -> Fault {
    let path = origin.sources.flags.config.connect.password_file.as_ref();
    match path.filter(|_| !origin.sources.has_documents()) {
        Some(path) => {
            let text = validate::read(path);
            match text.and_then(|text| credentials::parse_password_file(&text)) {
                Err(reason) => Fault::Other(format!("failed to reload passwords file: {reason}")),
                Ok(_) => Fault::Problems(problems),
            }
        }
        None => Fault::Problems(problems),
    }
}

/// Does it on a thread beside ours.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(|fault| Fault::Other(format!("reading failed: {fault}")))
}

/// Waits for news of the remote document; never ends where there is none.
async fn changed(remote: &mut Option<channel::Receiver<source::State>>) {
    let is_news = match remote {
        Some(receiver) => receiver.changed().await.is_ok(),
        None => false,
    };
    if !is_news {
        std::future::pending::<()>().await;
    }
}

/// What the files held when this was read.
fn hashes(origin: &Origin) -> Seen {
    let file = origin.sources.file.iter().zip(&origin.texts.file);
    let file = file.map(|(path, text)| (path.clone(), xxh3_64(text.text.as_bytes())));
    let named = origin.files.iter().filter_map(|(path, hash)| Some((path.clone(), (*hash)?)));
    file.chain(named).collect()
}

fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
