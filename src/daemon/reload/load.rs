//! From documents to a configuration that is not the one that runs, on a thread beside ours.
//!
//! What a newcomer would get wrong: who has read the same twice has nothing new, be it that somebody asked. And which files were
//! read is told in any case: what cannot be used now may be mended in any of them.

use super::compare;
use crate::config::document::reader::Files;
use crate::config::document::{Loaded, Origin, Text, Texts, effective, rows};
use crate::config::problem::{Problem, Warning};
use crate::config::{Config, credentials, validate};
use crate::source::file::Seen;
use std::collections::BTreeMap;
use std::path::PathBuf;
use xxhash_rust::xxh3::xxh3_64;

/// A configuration that is not the one that runs.
pub(super) struct Fresh {
    pub(super) config: Config,
    pub(super) warnings: Vec<Warning>,
    pub(super) hash: u64,
    /// What counts at the next start only.
    pub(super) at_start: BTreeMap<String, u64>,
    /// What is new, in words.
    pub(super) change: String,
}

/// What documents come to, where that is new, and which files were read.
pub(super) type Outcome = (Result<Option<Fresh>, Vec<Problem>>, BTreeMap<PathBuf, Option<u64>>);

/// Reads these documents and compares; `None`: nothing is new. And which files were read, in any case.
pub(super) fn load(running: &Config, origin: &Origin, texts: &Texts) -> Outcome {
    if *texts == origin.texts {
        let files = Files::default();
        for path in origin.files.keys() {
            let _ = files.read(path);
        }
        if files.seen() == origin.files {
            return (Ok(None), origin.files.clone());
        }
    }
    let emptied: Vec<_> = [(&origin.texts.file, &texts.file), (&origin.texts.remote, &texts.remote)]
        .into_iter()
        .filter_map(|(before, now)| emptied(before.as_ref(), now.as_ref()))
        .collect();
    if !emptied.is_empty() {
        return (Err(emptied), origin.files.clone());
    }
    let files = Files::default();
    let loaded = origin.sources.load(texts, &files, &|name| std::env::var_os(name));
    let fresh = loaded.map(|Loaded { mut config, warnings }| {
        let change = compare::share(running, &mut config);
        let at_start = config.origin.as_ref().map(|origin| effective::at_start(origin, &rows()));
        let (hash, at_start) = (config.hash(), at_start.unwrap_or_default());
        Some(Fresh { config, warnings, hash, at_start, change })
    });
    (fresh, files.seen())
}

/// A document that says nothing any more was cut off, or is a mistake: nobody means to end all services by that.
fn emptied(before: Option<&Text>, now: Option<&Text>) -> Option<Problem> {
    let says_nothing = |text: &Text| {
        text.text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#') || line == "---")
    };
    let now = now.filter(|now| says_nothing(now) && before.is_some_and(|before| !says_nothing(before)))?;
    let message = "is empty, and was not; what has no services has another key at least".into();
    Some(Problem { place: now.name.to_string(), message })
}

/// The peer has words of its own for its password file, which is all that it can reload.
pub(super) fn own_words(origin: &Origin, problems: Vec<Problem>) -> Fault {
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
pub(super) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(|fault| Fault::Other(format!("reading failed: {fault}")))
}

/// What the files held when this was read.
pub(super) fn hashes(origin: &Origin) -> Seen {
    let file = origin.sources.file.iter().zip(&origin.texts.file);
    let file = file.map(|(path, text)| (path.clone(), xxh3_64(text.text.as_bytes())));
    let named = origin.files.iter().filter_map(|(path, hash)| Some((path.clone(), (*hash)?)));
    file.chain(named).collect()
}

/// Why nothing is new.
pub(super) enum Fault {
    /// What documents say, or files that they name.
    Problems(Vec<Problem>),
    /// What else has to take it.
    Other(String),
}

impl Fault {
    pub(super) fn line(&self) -> String {
        match self {
            Self::Problems(problems) => {
                let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                format!("failed to reload the configuration: {}", problems.join("; "))
            }
            Self::Other(line) => line.clone(),
        }
    }
}
