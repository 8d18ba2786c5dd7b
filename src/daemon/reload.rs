//! The owner of the configuration that runs, and the one who replaces it: load, parse, validate, compare, publish.
//!
//! It is asked by SIGHUP, by `/-/reload`, by the file when it changes, by the remote document, by every file whose content
//! is configuration (passwords, scripts), and by what is said for the moment. Whatever is wrong leaves what runs alone, with
//! the reason in the log (once, until it is another one), in metrics and in `/api/v1/config`. Who has read the same twice
//! wakes nobody.
//!
//! `load` reads and compares, `moment` is what is said for the moment, `tell` publishes or says why not.
//!
//! What a newcomer would get wrong: files are read and documents understood on a thread beside ours. Thousands of services
//! take a while, and collections go on meanwhile.

pub mod compare;
mod load;
mod moment;
mod tell;

use crate::config::Config;
use crate::config::document::{Origin, Text, Texts, effective, rows};
use crate::deliver::outputs::Outputs;
use crate::serve::reload::{Report, Wanted};
use crate::serve::web::Web;
use crate::source;
use crate::source::file::Seen;
use crate::source::last_good::LastGood;
use crate::telemetry::events::Events;
use crate::telemetry::log;
use crate::telemetry::metrics::{Cause, Metrics, Reload};
use load::{Fault, beside, hashes, load, own_words};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tell::milliseconds;
use tokio::sync::{mpsc, watch as channel};
use tokio::time::{sleep, sleep_until};
use tracing::info;
use xxhash_rust::xxh3::xxh3_64;

/// How long after one was being written files are looked at again.
const AGAIN: Duration = Duration::from_millis(300);

/// How often is looked whether anybody still looks at what was replaced.
const BURIAL: Duration = Duration::from_millis(500);

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
    /// When files are looked at again, of which one was being written.
    again: Option<tokio::time::Instant>,
    /// What was replaced, while others may still look at it.
    replaced: Vec<Arc<Config>>,
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
            again: None,
            replaced: vec![],
            world,
        };
        if let Some(origin) = &config.origin {
            reloader.at_start = effective::at_start(origin, &rows());
            reloader.world.metrics.config_hash.set(config.hash());
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
                () = sleep(BURIAL), if !self.replaced.is_empty() => self.bury(),
                // Who follows files ends when we do.
                Ok(()) = files.changed() => {
                    let seen = files.borrow_and_update().clone();
                    self.look(seen).await;
                }
                () = sleep_until(self.again.unwrap_or_else(tokio::time::Instant::now)), if self.again.is_some() => {
                    self.again = None;
                    let seen = files.borrow().clone();
                    self.look(seen).await;
                }
            }
        }
    }

    /// Frees what nobody looks at any more, beside us: it is as large as all documents, and whoever lets go of it last would
    /// pay for it in the midst of something else.
    fn bury(&mut self) {
        let dead: Vec<_> = self.replaced.extract_if(.., |old| Arc::strong_count(old) == 1).collect();
        if !dead.is_empty() {
            drop(tokio::task::spawn_blocking(move || drop(dead)));
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

    /// Goes on with files that hold something else.
    async fn look(&mut self, seen: Seen) {
        if let Some(cause) = self.files_changed(seen) {
            self.attempt(cause, self.wanted_texts()).await;
        }
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

    /// Reads the file anew, and goes on with it.
    async fn reload(&mut self, cause: Cause, texts: Texts) -> Result<(), Fault> {
        let running = self.world.publish.borrow().clone();
        let Some(origin) = running.origin.clone() else { return Ok(()) };
        let sources = origin.sources.clone();
        let read = beside(move || sources.read()).await.and_then(|text| text.map_err(Fault::Problems));
        let file = read?;
        if !cause.is_asked() && self.is_being_written(&origin, file.as_ref()) {
            return Ok(());
        }
        self.reload_as_it_is(cause, Texts { file, ..texts }).await
    }

    /// Whether the file is neither what runs nor what was told of it, which was the same for a while. Then it is looked at
    /// again in a moment.
    fn is_being_written(&mut self, origin: &Origin, file: Option<&Text>) -> bool {
        let (Some(path), Some(file)) = (&origin.sources.file, file) else { return false };
        let told = self.world.changed.borrow().get(path).copied();
        let hash = xxh3_64(file.text.as_bytes());
        let is_known = told.is_none_or(|told| told == hash) || origin.texts.file.as_ref() == Some(file);
        if !is_known {
            self.seen.remove(path);
            self.again = Some(tokio::time::Instant::now() + AGAIN);
        }
        !is_known
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

#[cfg(test)]
mod tests;
