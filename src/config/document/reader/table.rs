//! What a key is: its kind, its default, what it means, and how it gets into the value.
//!
//! What a newcomer would get wrong: the same row reads the document and writes the pages about it ([`Row`]).

use super::{Reader, Scope, Surroundings, what};
use crate::config::document::tree::Node;
use crate::config::{Secret, units};
use std::collections::HashSet;
use std::hash::Hash;
use std::path::PathBuf;
use std::time::Duration;

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
    pub(super) fn kind(&self) -> String {
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

impl Row {
    /// Whether a change of it, or of a key inside, counts at the next start only.
    pub fn counts_at_start(&self) -> bool {
        self.restart || self.nested.iter().any(Self::counts_at_start)
    }
}

impl<T> Table<T> {
    pub(super) fn keys(&self) -> Vec<&'static str> {
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

impl<T> Set<T> {
    /// Whether the text itself may be a secret. The name of a file or variable is none, but somebody may have
    /// taken it for the place of the password.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_) | Self::SecretVariable(_))
    }
}

fn keys(rows: &[Row]) -> String {
    rows.iter().map(|row| row.key).collect::<Vec<_>>().join(", ")
}
