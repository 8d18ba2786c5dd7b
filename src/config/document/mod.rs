//! Documents: what `--config.file` and `--config.source` name. Services, credentials, and how they are looked after.
//!
//! [`tree`] turns text into nodes that know their line, [`layers`] several trees into one, [`reader`] nodes into values and
//! collects all that is wrong, [`schema`] is the tables of every key. What the flags say is what documents begin with, and
//! what no document can change: who starts a process with a flag means that process. [`overrides`] is the last layer.
//!
//! What a newcomer would get wrong: files and variables that hold passwords are read while documents are applied,
//! so a reload gets new ones. Relative paths begin at the folder of the file, also those of other documents.

pub mod effective;
pub mod layers;
pub mod overrides;
pub mod reader;
pub mod schema;
pub mod tree;

use super::collect::Pattern;
use super::problem::{Problem, Warning};
use super::{Config, credentials};
use layers::Said;
use overrides::Overrides;
use reader::{Files, Reader, Row, Surroundings};
use schema::{CollectDraft, DOCUMENT, Draft};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tree::{LONGEST, Node};

/// Where a configuration comes from, and all that is needed to read it again.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config.file`; `None`: there is none.
    pub file: Option<PathBuf>,
    /// What the flags and variables said.
    pub flags: Arc<Flags>,
}

/// What flags and variables said.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// As a configuration, which is what documents begin with.
    pub config: Config,
    /// Those that go before a key of a document.
    pub said: Vec<Said>,
    /// All of those that no key says, for the page about the configuration.
    pub others: Vec<Other>,
    /// The flag or variable that named a target: there must be none where there are services.
    pub target_said: Option<String>,
    /// `--check-search-indexes`, where it was said: it counts when a document switches the indexes on, too.
    pub search_pattern: Option<Pattern>,
    /// Those that have no effect where there are services, and why; not so where a profile names the variable.
    pub idle: Vec<(String, &'static str)>,
}

/// A flag that no key says, as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Its name without dashes.
    pub name: &'static str,
    /// Its values; `None`: not to be shown.
    pub value: Option<String>,
    /// Who said it; `None`: it is the default.
    pub place: Option<String>,
}

/// A document as text.
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    /// Where it is: a path, `etcd://host:2379/key`.
    pub name: Arc<str>,
    /// What it says. May hold secrets.
    pub text: Arc<str>,
}

/// All documents, the later above the earlier.
#[derive(Clone, Default, PartialEq)]
pub struct Texts {
    /// That of `--config.file`.
    pub file: Option<Text>,
    /// That of `--config.source`.
    pub remote: Option<Text>,
    /// What was said for the moment.
    pub overrides: Overrides,
}

impl Sources {
    /// Whether there is any document.
    pub fn has_documents(&self) -> bool {
        self.file.is_some() || self.flags.config.remote.is_some()
    }

    /// The text of the file, where there is one. Costs a file read.
    pub fn read(&self) -> Result<Option<Text>, Vec<Problem>> {
        let Some(path) = &self.file else { return Ok(None) };
        let name = path.display().to_string();
        let text = read(path).map_err(|message| vec![Problem { place: name.clone(), message }])?;
        Ok(Some(Text { name: name.into(), text: text.into() }))
    }

    /// Reads the file and nothing else: what a start with a file alone does.
    pub fn load_file(&self, env: impl Fn(&str) -> Option<OsString>) -> Result<Loaded, Vec<Problem>> {
        self.load(&Texts { file: self.read()?, ..Texts::default() }, &Files::default(), &env)
    }

    /// Reads these documents and what they name, and the password file of the flags. Costs file reads; waits for nothing
    /// else. The error is all that is wrong, in the order of the text.
    /// Notes in `files` what it reads, also where it fails.
    pub fn load(
        &self,
        texts: &Texts,
        files: &Files,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Loaded, Vec<Problem>> {
        let mut flags = self.flags.config.clone();
        if let Some(path) = &flags.connect.password_file {
            let place = path.display().to_string();
            let parse = |text: String| {
                let passwords = credentials::parse_password_file(&text);
                passwords.map_err(|error| format!("is no password file: {error}"))
            };
            let passwords = files.read(path).and_then(parse);
            flags.connect.passwords = passwords.map_err(|message| vec![Problem { place, message }])?;
        }
        let parse = |text: &Text| {
            let tree = tree::parse(&text.name, &text.text);
            tree.map_err(|fault| vec![Problem { place: fault.mark.to_string(), message: fault.message }])
        };
        let mut root = Node::nothing();
        for text in [&texts.file, &texts.remote].into_iter().flatten() {
            root = layers::merge(root, parse(text)?);
        }
        let mut warnings = layers::prune(&mut root, &self.flags.said);
        let overrides = texts.overrides.tree(&root, &mut warnings);
        root = layers::merge(root, overrides);
        let folder = self.file.as_ref().and_then(|path| path.parent()).unwrap_or(Path::new(""));
        let asked = RefCell::new(HashSet::new());
        let noting = |name: &str| {
            asked.borrow_mut().insert(name.to_owned());
            env(name)
        };
        let (mut config, more) = self.apply(flags, &root, Around { folder, env: &noting, files })?;
        if !config.discover.services.is_empty() {
            let asked = asked.into_inner();
            let idle = self.flags.idle.iter().filter(|(place, _)| !asked.contains(place));
            warnings.extend(idle.map(|(place, why)| Warning {
                place: place.clone(),
                message: format!("without effect: with services, {why}"),
            }));
        }
        warnings.extend(more);
        let (texts, files) = (texts.clone(), files.seen());
        config.origin = Some(Arc::new(Origin { sources: self.clone(), texts, files, tree: root }));
        Ok(Loaded { config, warnings })
    }

    /// What a tree says, over what the flags said.
    fn apply(
        &self,
        flags: Config,
        root: &Node,
        around: Around<'_>,
    ) -> Result<(Config, Vec<Warning>), Vec<Problem>> {
        let collect = CollectDraft::of(&flags.collect, self.flags.search_pattern.as_ref());
        let mut draft = Draft {
            config: flags,
            collect,
            services: vec![],
            names: HashSet::new(),
            labels: BTreeMap::new(),
            registry: Default::default(),
            used: Default::default(),
        };
        let mut reader = Reader::new(Surroundings {
            folder: around.folder,
            env: around.env,
            files: around.files,
            services: service_names(root, |_| true),
            sentinels: service_names(root, |service| service.get("sentinel").is_some()),
            taken: ["service_label", "instance_label"].map(|key| label(root, key)).into(),
        });
        if !root.is_nothing() {
            reader.section(&DOCUMENT, &mut draft, root);
        }
        let outcome = reader.outcome();
        let mut config = Config { collect: draft.collect.done(), ..draft.config };
        let target = match config.discover.services.is_empty() {
            true => None,
            false => self.leave_the_flag_target(&mut config),
        };
        match (outcome, target) {
            (Ok(warnings), None) => Ok((config, warnings)),
            (outcome, target) => Err(outcome.err().into_iter().flatten().chain(target).collect()),
        }
    }

    /// With services, profiles say who gets a password, and nothing else does.
    fn leave_the_flag_target(&self, config: &mut Config) -> Option<Problem> {
        config.scrape.target = None;
        let connect = &mut config.connect;
        connect.flag_target = None;
        connect.user.clear();
        connect.password = Default::default();
        connect.password_file = None;
        connect.passwords.clear();
        connect.password_for_all = false;
        connect.trusted.clear();
        let message = "cannot be combined with services in the configuration file; expected the server to be one of \
                       the instances of a service";
        self.flags.target_said.as_ref().map(|place| Problem { place: place.clone(), message: message.into() })
    }
}

/// What documents are read in.
struct Around<'a> {
    folder: &'a Path,
    env: &'a dyn Fn(&str) -> Option<OsString>,
    files: &'a Files,
}

/// What documents come to.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// All of the configuration.
    pub config: Config,
    /// What works otherwise than one may think, in the order of the text.
    pub warnings: Vec<Warning>,
}

/// Where a configuration came from.
pub struct Origin {
    /// Where to read it again.
    pub sources: Sources,
    /// The documents as they were read.
    pub texts: Texts,
    /// The files that were read for it: [`Files::seen`].
    pub files: BTreeMap<PathBuf, Option<u64>>,
    /// All documents as one, without what flags say. May hold secrets.
    pub tree: Node,
}

impl Origin {
    /// Before any document was read.
    pub fn of(sources: Sources) -> Self {
        Self { sources, texts: Texts::default(), files: BTreeMap::new(), tree: Node::nothing() }
    }
}

/// Without what documents say.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("file", &self.sources.file).finish_non_exhaustive()
    }
}

/// Every key of a document, for the pages about it.
pub fn rows() -> Vec<Row> {
    DOCUMENT.rows()
}

/// The text of a document, which has an end.
fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let mut bytes = vec![];
    let limit = LONGEST as u64 + 1;
    fs::File::open(path).map_err(cannot)?.take(limit).read_to_end(&mut bytes).map_err(cannot)?;
    String::from_utf8(bytes).map_err(|_| "cannot be read: it is no UTF-8".into())
}

/// The names of these services: what profiles may match.
fn service_names(root: &Node, is_wanted: fn(&&Node) -> bool) -> HashSet<String> {
    let services = root.get("services").map(Node::items).unwrap_or_default();
    services
        .iter()
        .filter(is_wanted)
        .filter_map(|service| service.get("name")?.text())
        .map(str::to_owned)
        .collect()
}

/// The name of a label of ours.
fn label(root: &Node, key: &str) -> String {
    let said = root.get("web").and_then(|web| web.get(key)).filter(|node| !node.is_nothing());
    let default = key.trim_end_matches("_label");
    said.and_then(Node::text).unwrap_or(default).into()
}

#[cfg(test)]
mod tests;
