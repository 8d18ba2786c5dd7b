//! The command line and the environment of redis_exporter, as the way to a [`Config`].
//!
//! [`flags`] is the table of all flags, [`words`] finds what was said of each and where, [`draft`] turns it
//! into a configuration. Help, completions and `docs/flags.md` are written from the table by `cli`. [`mod@migrate`]
//! turns all that into a document, with the jobs of a [`prometheus`].
//!
//! Why no argument parser from a library: operators bring their start scripts along, so the syntax is that
//! of Go (`-flag`, `--flag`, `=` or a blank before the value, booleans by `=` only), the environment is a
//! layer of its own with rules of its own, and all that is wrong is told at once, by the name that the
//! operator used. Of what such a library gives, the table does the rest.
//!
//! What a newcomer would get wrong: a value may be a secret, also one that was typed in the wrong place. A
//! problem shows a value only where the flag says that it may be seen ([`flags::Flag::is_private`]).

pub mod draft;
pub mod flags;
pub mod migrate;
pub mod pairs;
pub mod prometheus;
pub mod words;

use super::document::reader::Files;
use super::document::{Flags, Origin, Sources, Texts};
pub use super::problem::{Problem, Warning};
use super::problem::{UNSEEN, shown};
use super::source::Remote;
use super::{Config, validate};
use draft::Draft;
use migrate::Migrated;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use words::{By, Words};

/// What the words of the operator come to.
#[derive(Debug)]
pub enum Outcome {
    /// A configuration to run with, and what to tell the operator first.
    Run(Box<Config>, Vec<Warning>),
    /// The flags are to be explained.
    Help,
    /// The version is to be printed.
    Version,
    /// Completions for this shell are to be printed.
    Completions(Shell),
    /// A document was looked at.
    Checked(PathBuf, Result<Checked, Vec<Problem>>),
    /// A document for what was said is to be printed.
    Migrated(Migrated),
    /// Nothing can run; this is all that is wrong.
    Problems(Vec<Problem>),
}

/// The first words that are no flags.
pub const COMMANDS: [&str; 5] = ["help", "version", "completions", "check", "migrate"];

/// What is said of a document that is fine.
#[derive(Debug)]
pub struct Checked {
    /// How many services it names.
    pub services: usize,
    /// How many outputs it names.
    pub outputs: usize,
    /// What works otherwise than one may think.
    pub warnings: Vec<Warning>,
}

/// A shell that we write completions for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
}

/// Reads a command line (without the name of the program) and the variables that flags have.
/// Reads the password file, the Lua scripts and whether the other files are there.
pub fn parse(args: impl Iterator<Item = OsString>, env: impl Fn(&str) -> Option<OsString>) -> Outcome {
    let args: Vec<OsString> = args.collect();
    match args.first().and_then(|first| first.to_str()) {
        Some("help") => return Outcome::Help,
        Some("version") => return Outcome::Version,
        Some("completions") => return completions(&args[1..]),
        Some("check") => return check(args, env),
        Some("migrate") => return migrate(args, env),
        _ => {}
    }
    configure(args, env)
}

/// What flags, variables and the document come to.
fn configure(args: Vec<OsString>, env: impl Fn(&str) -> Option<OsString>) -> Outcome {
    match Read::new(args, &env) {
        Ok(read) => complete(read, env),
        Err(outcome) => outcome,
    }
}

fn complete(mut read: Read, env: impl Fn(&str) -> Option<OsString>) -> Outcome {
    match with_documents(&mut read, env) {
        Ok(whole) => read.config = whole,
        // What is wrong with the password file was told by the name of the flag.
        Err(more) if read.problems.is_empty() => read.problems = more,
        Err(more) => {
            let file = read.config.connect.password_file.as_ref().map(|path| path.display().to_string());
            read.problems.extend(more.into_iter().filter(|problem| Some(&problem.place) != file.as_ref()));
        }
    }
    if read.problems.is_empty() {
        Outcome::Run(Box::new(read.config), read.warnings)
    } else {
        Outcome::Problems(read.problems)
    }
}

/// What flags and variables say.
struct Read {
    words: Words,
    config: Config,
    document: Option<PathBuf>,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

impl Read {
    /// Reads them, unless they ask for something else.
    fn new(args: Vec<OsString>, env: impl Fn(&str) -> Option<OsString>) -> Result<Self, Outcome> {
        let mut problems = vec![];
        let words = Words::read(args, &env, &mut problems);
        if words.is_on("help") {
            return Err(Outcome::Help);
        }
        if words.is_on("version") {
            return Err(Outcome::Version);
        }
        let mut draft = Draft::default();
        for flag in flags::all() {
            let said = words.said(flag.name);
            for text in &said.texts {
                if let Err(reason) = flag.set.apply(&mut draft, text, said.radix()) {
                    let value = if flag.is_private { UNSEEN.into() } else { shown(text) };
                    problems
                        .push(Problem { place: said.place.clone(), message: format!("{value} {reason}") });
                }
            }
        }
        let mut warnings = vec![];
        let (document, source) = (draft.document.take(), draft.source.take());
        let mut config = draft.finish(&words, &mut problems, &mut warnings);
        // It names variables, which flags know nothing of.
        match source.map(|text| Remote::parse(&text, &env)).transpose() {
            Ok(remote) => config.remote = remote.map(Arc::new),
            Err(reason) => {
                let place = words.said("config.source").place.clone();
                problems.push(Problem { place, message: format!("{UNSEEN} {reason}") });
            }
        }
        Ok(Self { words, config, document, problems, warnings })
    }
}

/// `migrate [--prometheus FILE] [flags]`: what these flags and variables say, as a document.
fn migrate(mut args: Vec<OsString>, env: impl Fn(&str) -> Option<OsString>) -> Outcome {
    // Empty words say nothing, and the others keep their number.
    args[0].clear();
    let mut prometheus = None;
    for index in 1..args.len() {
        let Some(word) = args[index].to_str().map(|word| word.trim_start_matches('-').to_owned()) else {
            continue;
        };
        if let Some(path) = word.strip_prefix("prometheus=") {
            prometheus = Some(PathBuf::from(path));
            args[index].clear();
        } else if word == "prometheus" {
            args[index].clear();
            prometheus = args.get_mut(index + 1).map(|path| PathBuf::from(std::mem::take(path)));
            if prometheus.is_none() {
                let message = "needs a value; expected --prometheus=FILE".into();
                return Outcome::Problems(vec![Problem { place: "--prometheus".into(), message }]);
            }
        }
    }
    let mut read = match Read::new(args, env) {
        Ok(read) => read,
        Err(outcome) => return outcome,
    };
    if read.document.is_some() {
        let message = "cannot be combined with migrate; expected flags of redis_exporter".into();
        read.problems.push(Problem { place: read.words.said("config.file").place.clone(), message });
    }
    let document = migrate::document(&read.words, &read.config, prometheus.as_deref());
    read.problems.extend(document.as_ref().err().cloned().unwrap_or_default());
    match document {
        Ok(document) if read.problems.is_empty() => Outcome::Migrated(document),
        _ => Outcome::Problems(read.problems),
    }
}

/// Flags that say who we are to servers; with services, profiles do.
const LOGIN: [&str; 4] = ["redis.user", "redis.password", "redis.password-file", "scrape.credentials-for"];

/// Flags that say what a server is; with services, each of them says so itself.
const CLUSTER: [&str; 2] = ["is-cluster", "cluster-discover-hostnames"];

/// What the file says, with what the flags say.
fn with_documents(read: &mut Read, env: impl Fn(&str) -> Option<OsString>) -> Result<Config, Vec<Problem>> {
    let words = &read.words;
    let target = words.said("redis.addr");
    let names_target = target.by != By::Default && target.texts.iter().any(|text| !text.is_empty());
    let login =
        LOGIN.map(|name| (words.said(name), "the profiles of credentials say who gets which password"));
    let login = login.into_iter().filter(|(said, _)| said.texts.iter().any(|text| !text.is_empty()));
    let cluster = CLUSTER.into_iter().filter(|name| words.is_on(name));
    let cluster = cluster.map(|name| (words.said(name), "the key cluster of a service says that it is one"));
    let pattern = words.said("check-search-indexes");
    let pattern = pattern.texts.last().filter(|_| pattern.by != By::Default);
    let flags = Flags {
        config: read.config.clone(),
        said: pairs::said(words),
        others: pairs::others(words),
        target_said: names_target.then(|| target.place.clone()),
        search_pattern: pattern.and_then(|pattern| validate::regex(pattern).ok().map(Into::into)),
        idle: login.chain(cluster).map(|(said, why)| (said.place.clone(), why)).collect(),
    };
    let sources = Sources { file: read.document.take(), flags: Arc::new(flags) };
    if read.config.remote.is_some() {
        // It is fetched first, by who runs.
        let mut config = read.config.clone();
        config.origin = Some(Arc::new(Origin::of(sources)));
        return Ok(config);
    }
    let texts = Texts { file: sources.read()?, ..Texts::default() };
    let loaded = sources.load(&texts, &Files::default(), &env)?;
    if !loaded.config.discover.services.is_empty() {
        // What the flags alone would do with the password does not happen either.
        let words = &read.words;
        read.warnings.retain(|warning| LOGIN.iter().all(|name| words.said(name).place != warning.place));
    }
    read.warnings.extend(loaded.warnings);
    Ok(loaded.config)
}

/// `check FILE [flags]`: the file as it would be read by a program with these flags and variables.
fn check(mut args: Vec<OsString>, env: impl Fn(&str) -> Option<OsString>) -> Outcome {
    // Empty words say nothing, and the others keep their number.
    args[0].clear();
    let is_path = |word: &&mut OsString| !word.is_empty() && !word.as_encoded_bytes().starts_with(b"-");
    let Some(file) = args.get_mut(1).filter(is_path).map(std::mem::take) else {
        let message = "expected the path of a configuration file, then flags where there are some".into();
        return Outcome::Problems(vec![Problem { place: "check".into(), message }]);
    };
    let path = PathBuf::from(file);
    let mut read = match Read::new(args, &env) {
        Ok(read) => read,
        Err(outcome) => return outcome,
    };
    // One that a variable names is that of the program: here another file is looked at.
    let other = read.words.said("config.file");
    if other.by == By::CommandLine {
        let message = format!("cannot be combined with check {}: one file is looked at", path.display());
        read.problems.push(Problem { place: other.place.clone(), message });
    }
    read.document = Some(path.clone());
    read.config.remote = None;
    match complete(read, env) {
        Outcome::Run(config, warnings) => {
            let (services, outputs) = (config.discover.services.len(), config.deliver.outputs.len());
            Outcome::Checked(path, Ok(Checked { services, outputs, warnings }))
        }
        Outcome::Problems(problems) => Outcome::Checked(path, Err(problems)),
        other => other,
    }
}

fn completions(rest: &[OsString]) -> Outcome {
    let shell = match rest {
        [shell] => match shell.to_str() {
            Some("bash") => Some(Shell::Bash),
            Some("zsh") => Some(Shell::Zsh),
            Some("fish") => Some(Shell::Fish),
            _ => None,
        },
        _ => None,
    };
    shell.map_or_else(
        || {
            let message = "expected one shell: bash, zsh or fish".into();
            Outcome::Problems(vec![Problem { place: "completions".into(), message }])
        },
        Outcome::Completions,
    )
}

#[cfg(test)]
mod tests;
