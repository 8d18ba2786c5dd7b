//! A mapping whose fields were read: what they say together.
//!
//! What a newcomer would get wrong: this sees the text, not the values. A key that says nothing is as if it were not there.

use super::{MOST_PROBLEMS, Reader, Surroundings};
use crate::config::document::tree::{Node, Value};
use crate::config::problem::Warning;

/// A mapping whose fields were read.
pub struct Scope<'r, 'a> {
    pub(super) reader: &'r mut Reader<'a>,
    pub(super) node: &'r Node,
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
