//! Services in the order of the configuration, each found by its name without looking at the others.
//!
//! What is configured and what is known of it are two lists of the same names: [`Services::map`] makes one of the
//! other, and they share where each name stands.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Deref;
use std::slice::Iter;
use std::sync::Arc;

/// What has a name.
pub trait Named {
    /// The name.
    fn name(&self) -> &str;
}

/// A list of services.
#[derive(Clone, Debug)]
pub struct Services<S> {
    /// As configured.
    list: Vec<Arc<S>>,
    /// The place in `list` of each name.
    places: Arc<HashMap<Box<str>, usize>>,
}

impl<S> Default for Services<S> {
    fn default() -> Self {
        Self { list: vec![], places: Arc::default() }
    }
}

impl<S: Named> Services<S> {
    /// The service of that name; of several, which a checked configuration has none of, the first.
    pub fn get(&self, name: &str) -> Option<&Arc<S>> {
        self.places.get(name).map(|place| &self.list[*place])
    }

    /// Adds one behind all others.
    pub fn push(&mut self, service: Arc<S>) {
        note(Arc::make_mut(&mut self.places), service.name(), self.list.len());
        self.list.push(service);
    }

    /// Another list of the same names: what `of` makes of each must have the name that it had.
    pub fn map<'a, T: Named>(&'a self, mut of: impl FnMut(&'a Arc<S>) -> Arc<T>) -> Services<T> {
        let of = |service: &'a Arc<S>| {
            let made = of(service);
            debug_assert_eq!(made.name(), service.name());
            made
        };
        Services { list: self.list.iter().map(of).collect(), places: self.places.clone() }
    }

    /// All of them, in the order of their names. Sorts them.
    pub fn by_name(&self) -> Vec<&Arc<S>> {
        let mut all: Vec<_> = self.list.iter().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }
}

fn note(places: &mut HashMap<Box<str>, usize>, name: &str, place: usize) {
    if let Entry::Vacant(free) = places.entry(name.into()) {
        free.insert(place);
    }
}

impl<S: Named> From<Vec<Arc<S>>> for Services<S> {
    fn from(list: Vec<Arc<S>>) -> Self {
        let mut places = HashMap::with_capacity(list.len());
        for (place, service) in list.iter().enumerate() {
            note(&mut places, service.name(), place);
        }
        Self { list, places: Arc::new(places) }
    }
}

impl<S> Deref for Services<S> {
    type Target = [Arc<S>];

    fn deref(&self) -> &[Arc<S>] {
        &self.list
    }
}

impl<'a, S> IntoIterator for &'a Services<S> {
    type Item = &'a Arc<S>;
    type IntoIter = Iter<'a, Arc<S>>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Thing(String, usize);

    impl Named for Thing {
        fn name(&self) -> &str {
            &self.0
        }
    }

    fn check(names: &str, wanted: &str, expected: Option<usize>) {
        let things = names.split(' ').enumerate().map(|(at, name)| Arc::new(Thing(name.to_owned(), at)));
        let things: Vec<_> = things.collect();
        let mut pushed = Services::default();
        things.iter().cloned().for_each(|thing| pushed.push(thing));
        let mapped = pushed.map(|thing| Arc::new(Thing(thing.0.clone(), thing.1)));
        for services in [Services::from(things.clone()), pushed, mapped] {
            assert_eq!(services.to_vec(), things, "the order stays");
            assert!(services.by_name().is_sorted_by_key(|thing| &thing.0), "{names}");
            assert_eq!(services.get(wanted).map(|thing| thing.1), expected, "{wanted} in {names}");
        }
    }

    #[test]
    fn each_is_found_by_its_name_and_stays_where_it_is() {
        for (at, name) in ["c", "a", "d", "b"].into_iter().enumerate() {
            check("c a d b", name, Some(at));
        }
        for name in ["", "aa", "e", "C"] {
            check("c a d b", name, None);
        }
        check("b a b", "b", Some(0));
        assert_eq!(Services::<Thing>::default().get("a"), None);
    }
}
