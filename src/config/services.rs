//! Services in the order of the configuration, each found by its name without looking at the others.
//!
//! What is configured and what is known of it are two lists of the same names: [`Services::map`] makes one of the
//! other, and they share the order of their names.

use std::ops::Deref;
use std::slice::Iter;
use std::sync::Arc;

/// What has a name.
pub trait Named {
    /// The name.
    fn name(&self) -> &str;
}

/// A list of services. A look-up by name costs the logarithm of how many there are.
#[derive(Clone, Debug)]
pub struct Services<S> {
    /// As configured.
    list: Vec<Arc<S>>,
    /// The places in `list`, sorted by name.
    by_name: Arc<Vec<usize>>,
}

impl<S> Default for Services<S> {
    fn default() -> Self {
        Self { list: vec![], by_name: Arc::default() }
    }
}

impl<S: Named> Services<S> {
    /// The service of that name; of several, which a checked configuration has none of, the first.
    pub fn get(&self, name: &str) -> Option<&Arc<S>> {
        let place = *self.by_name.get(self.rank(|other| other < name))?;
        Some(&self.list[place]).filter(|service| service.name() == name)
    }

    /// Adds one behind all others.
    pub fn push(&mut self, service: Arc<S>) {
        let rank = self.rank(|other| other <= service.name());
        Arc::make_mut(&mut self.by_name).insert(rank, self.list.len());
        self.list.push(service);
    }

    /// Another list of the same names: what `of` makes of each must have the name that it had.
    pub fn map<T: Named>(&self, mut of: impl FnMut(&Arc<S>) -> Arc<T>) -> Services<T> {
        let of = |service| {
            let made = of(service);
            debug_assert_eq!(made.name(), service.name());
            made
        };
        Services { list: self.list.iter().map(of).collect(), by_name: self.by_name.clone() }
    }

    /// How many names fit, which those in front do.
    fn rank(&self, fits: impl Fn(&str) -> bool) -> usize {
        self.by_name.partition_point(|place| fits(self.list[*place].name()))
    }
}

impl<S: Named> From<Vec<Arc<S>>> for Services<S> {
    fn from(list: Vec<Arc<S>>) -> Self {
        let mut by_name: Vec<_> = (0..list.len()).collect();
        by_name.sort_by(|a, b| list[*a].name().cmp(list[*b].name()));
        Self { list, by_name: Arc::new(by_name) }
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
