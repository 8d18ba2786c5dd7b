//! How a tree gets into values: the kinds of fields, and the walk that collects all that is wrong.
//!
//! A [`Table`] says which keys a mapping may have; one [`Field`] is one key: its kind, its default as one would
//! write it, an example, what it means, and how it gets into the value. [`schema`](super::schema) has the tables.
//!
//! What a newcomer would get wrong: the walk goes by the table, not by the text. Fields that need others to be
//! there first are [`Field::late`], wherever they stand in the text.

mod scope;
mod table;

pub use scope::Scope;
pub use table::{Field, Items, Listed, Nested, Part, Parts, Row, Set, Table};

use super::tree::{Entry, Mark, Node, Value};
use crate::config::problem::{Problem, UNSEEN, Warning, shown};
use crate::config::{Secret, units, validate};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// What a document is read in.
pub struct Surroundings<'a> {
    /// What relative paths begin at.
    pub folder: &'a Path,
    /// The variables of the environment.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// What is read on the way.
    pub files: &'a Files,
    /// The names of all services of the document.
    pub services: HashSet<String>,
    /// Those of them that have Sentinels.
    pub sentinels: HashSet<String>,
    /// The labels that are ours.
    pub taken: Vec<String>,
}

/// The files whose content is configuration, as they were when they were read: a change of one is a change of it.
#[derive(Debug, Default)]
pub struct Files(RefCell<BTreeMap<PathBuf, Option<u64>>>);

impl Files {
    /// Reads a text, and notes what it was.
    pub fn read(&self, path: &Path) -> Result<String, String> {
        let text = validate::read(path);
        self.0.borrow_mut().insert(path.into(), text.as_ref().ok().map(|text| xxh3_64(text.as_bytes())));
        text
    }

    /// Each that was read, with a hash of what was in it; `None`: it could not be read.
    pub fn seen(&self) -> BTreeMap<PathBuf, Option<u64>> {
        self.0.borrow().clone()
    }
}

impl Surroundings<'_> {
    /// A path as the program can use it.
    pub fn path(&self, written: &str) -> PathBuf {
        self.folder.join(written)
    }
}

/// The walk.
pub struct Reader<'a> {
    surroundings: Surroundings<'a>,
    path: String,
    found: Vec<(Mark, Problem)>,
    warned: Vec<(Mark, Warning)>,
    /// How many more problems there are than anybody would read.
    unheard: usize,
}

/// So many problems are told, and so many warnings.
pub const MOST_PROBLEMS: usize = 1000;

impl<'a> Reader<'a> {
    /// A walk that has found nothing yet.
    pub fn new(surroundings: Surroundings<'a>) -> Self {
        Self { surroundings, path: String::new(), found: vec![], warned: vec![], unheard: 0 }
    }

    /// All that is wrong, and else what works otherwise than one may think; both in the order of the text.
    pub fn outcome(mut self) -> Result<Vec<Warning>, Vec<Problem>> {
        if self.found.is_empty() {
            self.warned.sort_by(|(a, _), (b, _)| a.cmp(b));
            return Ok(self.warned.into_iter().map(|(_, warning)| warning).collect());
        }
        self.found.sort_by(|(a, _), (b, _)| a.cmp(b));
        let last = self.found.last().filter(|_| self.unheard > 0).map(|(mark, _)| Problem {
            place: mark.document.to_string(),
            message: format!("there are {} more problems", self.unheard),
        });
        Err(self.found.into_iter().map(|(_, problem)| problem).chain(last).collect())
    }

    fn complain(&mut self, mark: &Mark, message: String) {
        if self.found.len() >= MOST_PROBLEMS {
            self.unheard += 1;
            return;
        }
        self.found.push((mark.clone(), Problem { place: self.place(mark), message }));
    }

    fn place(&self, mark: &Mark) -> String {
        match self.path.as_str() {
            "" => mark.to_string(),
            path => format!("{mark}: {path}"),
        }
    }

    /// Does something one step further down.
    fn inside(&mut self, step: &str, go: impl FnOnce(&mut Self)) {
        let before = self.path.len();
        if before > 0 && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(step);
        go(self);
        self.path.truncate(before);
    }

    /// Reads a mapping by its table.
    pub fn section<T>(&mut self, table: &Table<T>, value: &mut T, node: &Node) {
        let entries = match &node.value {
            Value::Mapping(entries) => entries.as_slice(),
            _ => {
                let keys = table.keys().join(", ");
                let message = format!("is {}; expected a mapping with {keys}", what(node));
                return self.complain(&node.mark, message);
            }
        };
        self.look_at_keys(entries, Some(&table.keys()));
        let (first, last): (Vec<_>, Vec<_>) = table.fields.iter().partition(|field| !field.late);
        for field in first.into_iter().chain(last) {
            let said = entries.iter().find(|entry| entry.key == field.key);
            match said.filter(|entry| !entry.value.is_nothing()) {
                Some(entry) => self.inside(field.key, |reader| reader.field(field, value, &entry.value)),
                None if field.required => self.inside(field.key, |reader| {
                    let mark = said.map_or(&node.mark, |entry| &entry.mark);
                    reader.complain(mark, format!("is missing; expected {}", field.set.kind()));
                }),
                None => {}
            }
        }
        (table.finish)(value, &mut Scope { reader: self, node });
    }

    /// Complains of keys that are given twice, and of those that are none of `known`, where only some are.
    fn look_at_keys(&mut self, entries: &[Entry], known: Option<&[&str]>) {
        let mut lines = HashMap::new();
        for entry in entries {
            let message = match lines.insert(entry.key.as_str(), entry.mark.line) {
                Some(before) => Some(format!("is given twice, before on line {before}; expected it once")),
                // Nobody would hear of it, and looking for the nearest key takes time.
                None if self.found.len() >= MOST_PROBLEMS => {
                    self.unheard +=
                        usize::from(known.is_some_and(|known| !known.contains(&entry.key.as_str())));
                    None
                }
                None => known.and_then(|known| unknown(&entry.key, known)),
            };
            if let Some(message) = message {
                self.inside(&plain_key(&entry.key), |reader| reader.complain(&entry.mark, message));
            }
        }
    }

    fn field<T>(&mut self, field: &Field<T>, value: &mut T, node: &Node) {
        match (&field.set, &node.value) {
            (Set::Section(nested), _) => nested.read(value, self, node),
            (Set::Each(nested), Value::Sequence(items)) => {
                if items.is_empty() {
                    self.complain(&node.mark, format!("is empty; expected {}", field.set.kind()));
                }
                self.items(items, |reader, item| nested.read(value, reader, item));
            }
            (Set::List(list), Value::Sequence(items)) => {
                if items.len() < list.least() {
                    let message =
                        format!("has too few items; expected {} or more: {}", list.least(), field.set.kind());
                    self.complain(&node.mark, message);
                }
                list.read(value, self, items, field.private);
            }
            (Set::Map(_, set), Value::Mapping(entries)) => {
                self.look_at_keys(entries, None);
                for entry in entries {
                    let key = plain_key(&entry.key);
                    self.inside(&key, |reader| match entry.value.text() {
                        Some(text) => {
                            let outcome = set(value, &entry.key, text, &reader.surroundings);
                            if let Err(reason) = outcome {
                                reader.complain(&entry.mark, reason);
                            }
                        }
                        None => {
                            let message = format!("is {}; expected a text", what(&entry.value));
                            reader.complain(&entry.value.mark, message);
                        }
                    });
                }
            }
            (Set::Each(_) | Set::List(_) | Set::Map(..), _) | (_, Value::Sequence(_) | Value::Mapping(_)) => {
                self.complain(&node.mark, format!("is {}; expected {}", what(node), field.set.kind()));
            }
            (_, Value::Scalar { text, plain }) => {
                let outcome = self.scalar(&field.set, value, text, *plain);
                self.judge(outcome, field.private || field.set.is_secret(), text, &node.mark);
            }
        }
    }

    fn items(&mut self, items: &[Node], mut read: impl FnMut(&mut Self, &Node)) {
        for (index, item) in items.iter().enumerate() {
            self.inside(&format!("[{index}]"), |reader| read(reader, item));
        }
    }

    fn judge(&mut self, outcome: Result<(), String>, private: bool, text: &str, mark: &Mark) {
        if let Err(reason) = outcome {
            let value = if private { UNSEEN.into() } else { shown(text) };
            self.complain(mark, format!("{value} {reason}"));
        }
    }

    fn scalar<T>(&self, set: &Set<T>, value: &mut T, text: &str, plain: bool) -> Result<(), String> {
        let expected = |what: &str| Err(format!("is {what}; expected {}", set.kind()));
        match set {
            Set::Switch(set_to) => match (text, plain) {
                ("true" | "True" | "TRUE", true) => set_to(value, true),
                ("false" | "False" | "FALSE", true) => set_to(value, false),
                (_, true) => return expected("no switch"),
                (_, false) => return expected("in quotes, which makes it a text"),
            },
            Set::Integer(least, most, set_to) => match (text.parse::<u64>(), plain) {
                (_, false) => return expected("in quotes, which makes it a text"),
                (Ok(number), _) if (*least..=*most).contains(&number) => set_to(value, number),
                (Ok(_), _) => return expected("out of range"),
                (Err(_), _) => return expected("no such number"),
            },
            Set::Duration(least, most, set_to) => {
                let duration = units::prometheus_duration(text)?;
                if !(*least..=*most).contains(&duration) {
                    return expected("out of range");
                }
                set_to(value, duration);
            }
            Set::Bytes(least, most, set_to) => {
                let bytes = units::bytes(text)?;
                if !(*least..=*most).contains(&bytes) {
                    return expected("out of range");
                }
                set_to(value, bytes);
            }
            Set::Secret(_) if text.is_empty() => return expected("empty"),
            Set::Secret(set_to) => set_to(value, Secret::new(text)),
            Set::SecretFile(set_to) => {
                let path = self.surroundings.path(text);
                let secret = self.surroundings.files.read(&path)?;
                let secret = secret.strip_suffix('\n').unwrap_or(&secret);
                let secret = secret.strip_suffix('\r').unwrap_or(secret);
                if secret.is_empty() {
                    return Err("is an empty file; expected one that holds a password".into());
                }
                set_to(value, Secret::new(secret));
            }
            Set::SecretVariable(set_to) => {
                let secret = (self.surroundings.env)(text)
                    .ok_or("is a variable that is not set; expected one that holds a password")?;
                match secret.into_string() {
                    Ok(secret) if !secret.is_empty() => set_to(value, Secret::new(secret)),
                    Ok(_) => return Err("is an empty variable; expected one that holds a password".into()),
                    Err(_) => return Err("is a variable that is no UTF-8".into()),
                }
            }
            Set::File(set_to) => {
                let path = self.surroundings.path(text);
                validate::readable(&path)?;
                set_to(value, path);
            }
            Set::Parsed(_, set_to) => set_to(value, text, &self.surroundings)?,
            Set::List(_) | Set::Map(..) | Set::Section(_) | Set::Each(_) => return expected("a text"),
        }
        Ok(())
    }
}

/// What a node is, in words.
fn what(node: &Node) -> &'static str {
    match node.value {
        _ if node.is_nothing() => "empty",
        Value::Mapping(_) => "a mapping",
        Value::Sequence(_) => "a list",
        Value::Scalar { .. } => "a text",
    }
}

/// A key as a step of a path.
fn plain_key(key: &str) -> String {
    let is_plain =
        !key.is_empty() && key.len() <= 64 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_plain { key.into() } else { format!("[{}]", shown(key)) }
}

/// What is wrong with a key that is none of these.
fn unknown(key: &str, known: &[&str]) -> Option<String> {
    if known.contains(&key) {
        return None;
    }
    let close = |other: &&&str| strsim::osa_distance(key, other);
    let nearest = known.iter().min_by_key(close).filter(|other| close(other) <= 2.max(other.len() / 3));
    Some(match nearest {
        Some(other) => format!("there is no such key; did you mean {other}?"),
        None => format!("there is no such key; expected {}", known.join(", ")),
    })
}
