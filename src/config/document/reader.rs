//! How a tree gets into values: the kinds of fields, and the walk that collects all that is wrong.
//!
//! A [`Table`] says which keys a mapping may have; one [`Field`] is one key: its kind, its default as one would
//! write it, an example, what it means, and how it gets into the value. [`schema`](super::schema) has the tables.
//!
//! What a newcomer would get wrong: the walk goes by the table, not by the text. Fields that need others to be
//! there first are [`Field::late`], wherever they stand in the text.

use super::tree::{Entry, Mark, Node, Value};
use crate::config::problem::{Problem, UNSEEN, Warning, shown};
use crate::config::{Secret, units, validate};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// The keys of one mapping.
pub struct Table<T: 'static> {
    /// In the order of the pages about them.
    pub fields: &'static [Field<T>],
    /// Looks at what the fields say together, after all of them were read.
    pub finish: fn(&mut T, &mut Scope<'_, '_>),
}

/// One key.
pub struct Field<T: 'static> {
    /// The key.
    pub key: &'static str,
    /// What holds where nothing is said, as one would write it; empty: nothing.
    pub default: &'static str,
    /// A value for the example, as one would write it on one line.
    pub example: &'static str,
    /// What it is, and how it gets into the value.
    pub set: Set<T>,
    /// What it means: whole sentences.
    pub meaning: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// Whether it is read after all others.
    pub late: bool,
    /// Whether the example has it as a comment only: it rules out another field, or needs a file.
    pub aside: bool,
    /// Whether no message may show its value.
    pub private: bool,
    /// Whether it may be said for the moment, while we run.
    pub tunable: bool,
    /// Whether a change of it counts at the next start only.
    pub restart: bool,
}

/// What a field is, and how it gets into the value.
pub enum Set<T: 'static> {
    /// `true` or `false`.
    Switch(fn(&mut T, bool)),
    /// A number from the first to the second.
    Integer(u64, u64, fn(&mut T, u64)),
    /// A duration from the first to the second.
    Duration(Duration, Duration, fn(&mut T, Duration)),
    /// A size in bytes from the first to the second.
    Bytes(u64, u64, fn(&mut T, u64)),
    /// A text that nobody may see.
    Secret(fn(&mut T, Secret)),
    /// A file that holds such a text. It is read now.
    SecretFile(fn(&mut T, Secret)),
    /// A variable of the environment that holds such a text. It is read now.
    SecretVariable(fn(&mut T, Secret)),
    /// A file that must be there.
    File(fn(&mut T, PathBuf)),
    /// What the function reads; the text says what that is.
    Parsed(&'static str, fn(&mut T, &str, &Surroundings<'_>) -> Result<(), String>),
    /// A list of texts.
    List(&'static dyn Listed<T>),
    /// Names and texts.
    Map(&'static str, fn(&mut T, &str, &str, &Surroundings<'_>) -> Result<(), String>),
    /// A mapping with a table of its own.
    Section(&'static dyn Nested<T>),
    /// A list of such mappings.
    Each(&'static dyn Nested<T>),
}

impl<T> Field<T> {
    /// It must be there.
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// It is read after all others.
    pub const fn late(mut self) -> Self {
        self.late = true;
        self
    }

    /// The example has it as a comment only.
    pub const fn aside(mut self) -> Self {
        self.aside = true;
        self
    }

    /// No message may show its value.
    pub const fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// It may be said for the moment, while we run.
    pub const fn tunable(mut self) -> Self {
        self.tunable = true;
        self
    }

    /// A change of it counts at the next start only.
    pub const fn restart(mut self) -> Self {
        self.restart = true;
        self
    }

    fn row(&self) -> Row {
        let (nested, more) = match &self.set {
            Set::Section(nested) | Set::Each(nested) => (nested.rows(), nested.more()),
            _ => (vec![], ""),
        };
        Row {
            key: self.key,
            kind: self.set.kind(),
            default: self.default,
            example: self.example,
            meaning: self.meaning,
            required: self.required,
            aside: self.aside,
            each: matches!(self.set, Set::Each(_)),
            secret: match self.set {
                Set::Secret(_) => true,
                // Values of headers; addresses are hidden one by one.
                Set::Map(..) => self.private,
                _ => false,
            },
            tunable: self.tunable,
            restart: self.restart,
            nested,
            more,
        }
    }
}

impl<T> Set<T> {
    /// What stands behind `expected`.
    fn kind(&self) -> String {
        match self {
            Self::Switch(_) => "true or false".into(),
            Self::Integer(least, u64::MAX, _) => format!("a whole number from {least} up"),
            Self::Integer(least, most, _) => format!("a whole number from {least} to {most}"),
            Self::Duration(least, most, _) => {
                format!("a duration from {} to {}", units::written(*least), units::written(*most))
            }
            Self::Bytes(least, most, _) => {
                format!("a size from {} to {}", units::written_bytes(*least), units::written_bytes(*most))
            }
            Self::Secret(_) => "a text".into(),
            Self::SecretFile(_) | Self::File(_) => "the path of a file".into(),
            Self::SecretVariable(_) => "the name of a variable".into(),
            Self::Parsed(kind, _) => (*kind).into(),
            Self::List(list) => format!("a list of {}", list.kind()),
            Self::Map(kind, _) => format!("a mapping of {kind}"),
            Self::Section(nested) => format!("a mapping with {}", keys(&nested.rows())),
            Self::Each(nested) => format!("a list of mappings with {}", keys(&nested.rows())),
        }
    }
}

/// A field without its type, for the pages about it.
pub struct Row {
    /// The key.
    pub key: &'static str,
    /// What it is.
    pub kind: String,
    /// The default as one would write it.
    pub default: &'static str,
    /// A value for the example.
    pub example: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// Whether the example has it as a comment only.
    pub aside: bool,
    /// Whether it is a list of mappings.
    pub each: bool,
    /// Whether nobody may see its value.
    pub secret: bool,
    /// Whether it may be said for the moment, while we run.
    pub tunable: bool,
    /// Whether a change of it counts at the next start only.
    pub restart: bool,
    /// The keys inside.
    pub nested: Vec<Row>,
    /// More items for the example, as they are written.
    pub more: &'static str,
}

impl<T> Table<T> {
    fn keys(&self) -> Vec<&'static str> {
        self.fields.iter().map(|field| field.key).collect()
    }

    /// The rows for the pages.
    pub fn rows(&self) -> Vec<Row> {
        self.fields.iter().map(Field::row).collect()
    }
}

/// A list of texts inside a `T`.
pub trait Listed<T>: Sync {
    /// What its items are.
    fn kind(&self) -> &'static str;
    /// How many items there must be.
    fn least(&self) -> usize;
    /// Reads the items, in place of those that the flags gave.
    fn read(&self, value: &mut T, reader: &mut Reader<'_>, items: &[Node], private: bool);
}

/// Where a list is inside a `T`, and how an item is read.
pub struct Items<T, V> {
    /// What the items are.
    pub kind: &'static str,
    /// How many items there must be.
    pub least: usize,
    /// The list.
    pub at: fn(&mut T) -> &mut Vec<V>,
    /// Reads an item.
    pub parse: fn(&str, &Surroundings<'_>) -> Result<V, String>,
}

impl<T, V: Clone + Eq + Hash> Listed<T> for Items<T, V> {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn least(&self) -> usize {
        self.least
    }

    fn read(&self, value: &mut T, reader: &mut Reader<'_>, items: &[Node], private: bool) {
        let mut known = HashSet::new();
        let list = (self.at)(value);
        list.clear();
        reader.items(items, |reader, node| {
            let Some(text) = node.text().filter(|_| !node.is_nothing()) else {
                return reader
                    .complain(&node.mark, format!("is {}; expected one of {}", what(node), self.kind));
            };
            let outcome = match (self.parse)(text, &reader.surroundings) {
                Ok(item) if known.insert(item.clone()) => {
                    list.push(item);
                    Ok(())
                }
                Ok(_) => Err("is given twice; expected it once".into()),
                Err(reason) => Err(reason),
            };
            reader.judge(outcome, private, text, &node.mark);
        });
    }
}

/// A mapping, or a list of mappings, inside a `T`.
pub trait Nested<T>: Sync {
    /// The keys of the mapping.
    fn rows(&self) -> Vec<Row>;
    /// More items for the example.
    fn more(&self) -> &'static str;
    /// Reads one mapping.
    fn read(&self, value: &mut T, reader: &mut Reader<'_>, node: &Node);
}

/// A mapping inside a `T`.
pub struct Part<T: 'static, U: 'static> {
    /// Its keys.
    pub table: &'static Table<U>,
    /// Where it is.
    pub at: fn(&mut T) -> &mut U,
}

impl<T, U> Nested<T> for Part<T, U> {
    fn rows(&self) -> Vec<Row> {
        self.table.rows()
    }

    fn more(&self) -> &'static str {
        ""
    }

    fn read(&self, value: &mut T, reader: &mut Reader<'_>, node: &Node) {
        reader.section(self.table, (self.at)(value), node);
    }
}

/// A list of mappings inside a `T`.
pub struct Parts<T: 'static, U: 'static> {
    /// The keys of each.
    pub table: &'static Table<U>,
    /// One that says nothing yet.
    pub fresh: fn(&T) -> U,
    /// Takes one that was read.
    pub push: fn(&mut T, U, &mut Scope<'_, '_>),
    /// More items for the example.
    pub more: &'static str,
}

impl<T, U> Nested<T> for Parts<T, U> {
    fn rows(&self) -> Vec<Row> {
        self.table.rows()
    }

    fn more(&self) -> &'static str {
        self.more
    }

    fn read(&self, value: &mut T, reader: &mut Reader<'_>, node: &Node) {
        let mut part = (self.fresh)(value);
        reader.section(self.table, &mut part, node);
        (self.push)(value, part, &mut Scope { reader, node });
    }
}

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

impl<T> Set<T> {
    /// Whether the text itself may be a secret. The name of a file or variable is none, but somebody may have
    /// taken it for the place of the password.
    fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_) | Self::SecretVariable(_))
    }
}

/// A mapping whose fields were read.
pub struct Scope<'r, 'a> {
    reader: &'r mut Reader<'a>,
    node: &'r Node,
}

impl<'r, 'a> Scope<'r, 'a> {
    /// What the document is read in.
    pub fn surroundings(&self) -> &Surroundings<'a> {
        &self.reader.surroundings
    }

    /// Whether a key is there and says something; `a.b[0]` for one further down.
    pub fn said(&self, path: &str) -> bool {
        self.find(path).is_some_and(|node| !node.is_nothing())
    }

    fn find(&self, path: &str) -> Option<&'r Node> {
        let mut node = self.node;
        for step in path.split('.') {
            let (key, index) = match step.strip_suffix(']').and_then(|step| step.split_once('[')) {
                Some((key, index)) => (key, Some(index)),
                None => (step, None),
            };
            node = node.get(key)?;
            if let Some(index) = index {
                node = node.items().get(index.parse::<usize>().ok()?)?;
            }
        }
        Some(node)
    }

    /// The value at a path, if it says something, works otherwise than one may think.
    pub fn warn(&mut self, path: &str, message: impl Into<String>) {
        let Some(node) = self.find(path).filter(|node| !node.is_nothing()) else { return };
        if self.reader.warned.len() >= MOST_PROBLEMS {
            return;
        }
        let message = message.into();
        self.reader.inside(path, |reader| {
            reader.warned.push((node.mark.clone(), Warning { place: reader.place(&node.mark), message }));
        });
    }

    /// The value at a path, if it says something, has no effect.
    pub fn idle(&mut self, path: &str, why: &str) {
        self.warn(path, format!("without effect: {why}"));
    }

    /// How many items the list of a key has, good ones and others.
    pub fn items(&self, key: &str) -> usize {
        self.node.get(key).map_or(0, |node| node.items().len())
    }

    /// Something is wrong with the value of a key.
    pub fn problem(&mut self, key: &str, message: impl Into<String>) {
        let mark = self.node.get(key).map_or(&self.node.mark, |node| &node.mark);
        self.reader.inside(key, |reader| reader.complain(mark, message.into()));
    }

    /// Something is wrong with the whole mapping.
    pub fn problem_here(&mut self, message: impl Into<String>) {
        self.reader.complain(&self.node.mark, message.into());
    }

    /// At most one of these keys may be there. Which it is.
    pub fn at_most_one<'k>(&mut self, keys: &[&'k str]) -> Option<&'k str> {
        let mut said: Vec<_> = keys.iter().copied().filter(|key| self.said(key)).collect();
        said.sort_by_key(|key| self.node.get(key).map(|node| node.mark.clone()));
        let (first, others) = said.split_first()?;
        for other in others {
            let message = format!("cannot be combined with {first}; expected one of {}", keys.join(", "));
            self.problem(other, message);
        }
        Some(first)
    }

    /// One of these keys must be there.
    pub fn exactly_one(&mut self, keys: &[&str]) {
        if self.at_most_one(keys).is_none() && matches!(self.node.value, Value::Mapping(_)) {
            self.problem_here(format!("there is none of {0}; expected one of {0}", keys.join(", ")));
        }
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

fn keys(rows: &[Row]) -> String {
    rows.iter().map(|row| row.key).collect::<Vec<_>>().join(", ")
}
