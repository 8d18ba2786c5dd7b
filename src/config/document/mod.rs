//! The document of `--config.file`: services, credentials, and how they are looked after.
//!
//! [`tree`] turns text into nodes that know their line, [`reader`] turns nodes into values and collects all that
//! is wrong, [`schema`] is the tables of every key. What the flags say is what a document begins with: it is
//! applied to their configuration anew at every reload.
//!
//! What a newcomer would get wrong: files and variables that hold passwords are read while a document is applied,
//! so a reload gets new ones. Relative paths begin at the folder of the document.

pub mod reader;
pub mod schema;
pub mod tree;

use super::problem::{Problem, Warning};
use super::{Config, credentials};
use reader::{Reader, Row, Surroundings};
use schema::{CollectDraft, DOCUMENT, Draft};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tree::{LONGEST, Node};

/// A document that a configuration came from, and all that is needed to read it again.
#[derive(Clone, Debug)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// What the flags and variables said.
    pub flags: Arc<Config>,
    /// The flag or variable that named a target: there must be none where there are services.
    pub target_said: Option<String>,
}

impl File {
    /// Reads the document and what it names, over what the flags said. Costs file reads; waits for nothing else.
    /// The error is all that is wrong, in the order of the text.
    pub fn load(&self, env: impl Fn(&str) -> Option<OsString>) -> Result<Loaded, Vec<Problem>> {
        let shown = self.path.display().to_string();
        let fail = |message| vec![Problem { place: shown.clone(), message }];
        let text = read(&self.path).map_err(fail)?;
        let root = tree::parse(&shown, &text)
            .map_err(|fault| vec![Problem { place: fault.mark.to_string(), message: fault.message }])?;
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let mut loaded = self.apply(&root, folder, &env)?;
        loaded.config.file = Some(self.clone());
        Ok(loaded)
    }

    /// The same after the password file of the flags was read again, too.
    pub fn reload(&self, env: impl Fn(&str) -> Option<OsString>) -> Result<Loaded, Vec<Problem>> {
        let mut flags = Config::clone(&self.flags);
        if let Some(path) = &flags.connect.password_file {
            let place = path.display().to_string();
            let passwords = credentials::read_password_file(path);
            flags.connect.passwords = passwords.map_err(|message| vec![Problem { place, message }])?;
        }
        Self { flags: Arc::new(flags), ..self.clone() }.load(env)
    }

    /// What a tree says, over what the flags said.
    pub fn apply(
        &self,
        root: &Node,
        folder: &Path,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Loaded, Vec<Problem>> {
        let mut draft = Draft {
            config: Config::clone(&self.flags),
            collect: CollectDraft::of(&self.flags.collect),
            labels: BTreeMap::new(),
            registry: Default::default(),
            used: Default::default(),
        };
        let mut reader = Reader::new(Surroundings {
            folder,
            env,
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
            (Ok(warnings), None) => Ok(Loaded { config, warnings }),
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
        self.target_said.as_ref().map(|place| Problem { place: place.clone(), message: message.into() })
    }
}

/// What a document comes to.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// All of the configuration.
    pub config: Config,
    /// What works otherwise than one may think, in the order of the text.
    pub warnings: Vec<Warning>,
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
fn service_names(root: &Node, is_wanted: fn(&&Node) -> bool) -> Vec<String> {
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
