//! What a metric family is, and how finished ones are kept.
//!
//! A [`Desc`] is a row of a table: name, kind, labels, help. Collectors record samples through a
//! [`Builder`](crate::Builder), which yields [`Families`]: they never change again and are shared by `Arc`.
//!
//! What a newcomer would get wrong: nothing here is a tree of owned strings, nor a list of samples with their
//! labels. Thousands of targets keep their last collection in memory, so that all text lives in one arena,
//! labels that several samples carry are there once, and a sample is a value and the number of its labels.

use crate::points::Points;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::mem::size_of_val;
use std::ops::Range;

/// The kind of a family, as the `# TYPE` line says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows, but for restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets with `_sum` and `_count`.
    Histogram,
    /// Quantiles (possibly none) with `_sum` and `_count`.
    Summary,
    /// Not known.
    Untyped,
}

impl Kind {
    /// The word of the `# TYPE` line of the text format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
        }
    }

    /// Whether its samples are distributions rather than numbers.
    pub(crate) const fn is_distribution(self) -> bool {
        matches!(self, Self::Histogram | Self::Summary)
    }
}

/// What is known of a family before it has samples: one row of a collector's table.
#[derive(Debug)]
pub struct Desc {
    /// The full name, `redis_up`. See
    /// [`Builder::with_namespace`](crate::Builder::with_namespace) for names that start with `redis_`.
    pub name: &'static str,
    /// The kind.
    pub kind: Kind,
    /// One sentence for humans, units included.
    pub help: &'static str,
    /// Label names in the order in which collectors give the values. The wire order is alphabetical.
    pub labels: &'static [&'static str],
}

impl Desc {
    /// A gauge without labels.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, help, labels: &[] }
    }

    /// A counter without labels.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, help, labels: &[] }
    }

    /// A histogram without labels.
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram, help, labels: &[] }
    }

    /// A summary without labels.
    pub const fn summary(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Summary, help, labels: &[] }
    }

    /// The same with these labels.
    pub const fn labels(self, labels: &'static [&'static str]) -> Self {
        Self { name: self.name, kind: self.kind, help: self.help, labels }
    }
}

/// Which of the families without a row it is; of no meaning for one that has a row.
pub(crate) type NamedIndex = u32;

/// A family: its row, and where its samples begin. They end where those of the next one begin.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    /// Absent where the name is known only at run time.
    pub row: Option<&'static Desc>,
    pub named: NamedIndex,
    pub first: u32,
}

/// What stands in place of a row.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub name: Range<u32>,
    pub kind: Kind,
    pub help: &'static str,
}

/// A label of a set of labels. Its value ends where that of the next label begins.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    /// Into the names of labels.
    pub name: u16,
    /// How many labels of the same set follow.
    pub more: u16,
    /// Where the value begins.
    pub value: u32,
}

/// What a sample of a histogram or a summary has.
#[derive(Clone, Debug)]
pub(crate) struct Distribution {
    pub sum: f64,
    pub count: u64,
    pub points: Range<u32>,
}

/// The set of no labels.
pub(crate) const NO_LABELS: u32 = u32::MAX;

/// The value of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A counter, gauge or untyped value.
    Number(f64),
    /// A histogram: (upper bound, cumulative count) in rising order, without `+Inf`; or a summary:
    /// (quantile, value).
    Distribution {
        /// Buckets or quantiles.
        points: Points<'a>,
        /// Sum of all observations.
        sum: f64,
        /// Number of observations; the `+Inf` bucket.
        count: u64,
    },
}

/// Finished families: sorted by name, their samples by label values, no duplicates.
#[derive(Clone, Debug, Default)]
pub struct Families {
    /// Names of families, then values of labels in the order of `labels`.
    pub(crate) text: Box<str>,
    pub(crate) families: Box<[Family]>,
    pub(crate) named: Box<[Named]>,
    /// A value for each sample; for those of histograms and summaries, which distribution it is.
    pub(crate) values: Box<[f64]>,
    /// For each sample the first label of its set, or [`NO_LABELS`].
    pub(crate) sets: Box<[u32]>,
    /// Set after set, and one more, which says where the last value ends.
    pub(crate) labels: Box<[Label]>,
    pub(crate) label_names: Box<[&'static str]>,
    pub(crate) distributions: Box<[Distribution]>,
    pub(crate) points: Box<[u8]>,
    pub(crate) constant: Box<[(&'static str, Box<str>)]>,
}

impl Families {
    /// How many families there are.
    pub fn len(&self) -> usize {
        self.families.len()
    }

    /// Whether there is no family at all.
    pub fn is_empty(&self) -> bool {
        self.families.is_empty()
    }

    /// How many samples there are; a histogram counts as one.
    pub fn samples(&self) -> usize {
        self.values.len()
    }

    /// All families in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = FamilyRef<'_>> + Clone {
        (0..self.families.len()).map(|index| self.at(index))
    }

    /// The family of that full name.
    pub fn get(&self, name: &str) -> Option<FamilyRef<'_>> {
        self.position(name).map(|index| self.at(index))
    }

    /// What all of it takes on the heap, in bytes, without what the allocator adds.
    pub fn heap_size(&self) -> usize {
        size_of_val(&*self.text)
            + size_of_val(&*self.families)
            + size_of_val(&*self.named)
            + size_of_val(&*self.values)
            + size_of_val(&*self.sets)
            + size_of_val(&*self.labels)
            + size_of_val(&*self.label_names)
            + size_of_val(&*self.distributions)
            + size_of_val(&*self.points)
            + size_of_val(&*self.constant)
            + self.constant.iter().map(|(_, value)| value.len()).sum::<usize>()
    }

    /// The place of the family of that full name.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.families.binary_search_by(|family| self.name(family).cmp(name)).ok()
    }

    /// The family at that place, which is below [`Self::len`].
    pub(crate) fn at(&self, index: usize) -> FamilyRef<'_> {
        FamilyRef { set: self, index }
    }

    /// Whether there may be a sample with a label of that name.
    pub(crate) fn may_have_label(&self, name: &str) -> bool {
        self.label_names.contains(&name) || self.constant.iter().any(|(n, _)| *n == name)
    }

    fn name<'a>(&'a self, family: &'a Family) -> &'a str {
        match family.row {
            Some(row) => row.name,
            None => {
                let Range { start, end } = self.named[family.named as usize].name;
                &self.text[start as usize..end as usize]
            }
        }
    }
}

/// One family of [`Families`].
#[derive(Clone, Copy)]
pub struct FamilyRef<'a> {
    set: &'a Families,
    index: usize,
}

impl<'a> FamilyRef<'a> {
    fn family(&self) -> &'a Family {
        &self.set.families[self.index]
    }

    /// The full name.
    pub fn name(&self) -> &'a str {
        self.set.name(self.family())
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        let family = self.family();
        family.row.map_or_else(|| self.set.named[family.named as usize].kind, |row| row.kind)
    }

    /// The help text, unescaped.
    pub fn help(&self) -> &'static str {
        let family = self.family();
        family.row.map_or_else(|| self.set.named[family.named as usize].help, |row| row.help)
    }

    /// The samples in the order of their label values.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = SampleRef<'a>> + Clone + use<'a> {
        self.samples_from(0)
    }

    /// The same without the first ones.
    pub(crate) fn samples_from(
        &self,
        skipped: usize,
    ) -> impl ExactSizeIterator<Item = SampleRef<'a>> + Clone + use<'a> {
        let (set, kind) = (self.set, self.kind());
        let end = set.families.get(self.index + 1).map_or(set.values.len(), |next| next.first as usize);
        let begin = self.family().first as usize + skipped;
        (begin..end).map(move |index| SampleRef { set, index: index as u32, kind })
    }
}

/// One sample of a family.
#[derive(Clone, Copy)]
pub struct SampleRef<'a> {
    set: &'a Families,
    index: u32,
    kind: Kind,
}

impl<'a> SampleRef<'a> {
    /// Label names and values in alphabetical order of the names, the set's constant labels among them.
    /// A label of the sample hides a constant label of the same name.
    pub fn labels(&self) -> Labels<'a> {
        let own = match self.set.sets[self.index as usize] {
            NO_LABELS => 0..0,
            first => first..first + 1 + u32::from(self.set.labels[first as usize].more),
        };
        Labels { set: self.set, own, constant: &self.set.constant }
    }

    /// The value of the label `name`.
    pub fn label(&self, name: &str) -> Option<&'a str> {
        self.labels().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// The value.
    pub fn value(&self) -> Value<'a> {
        let value = self.set.values[self.index as usize];
        if !self.kind.is_distribution() {
            return Value::Number(value);
        }
        let Distribution { sum, count, points: Range { start, end } } =
            self.set.distributions[value as usize];
        Value::Distribution { points: Points::of(&self.set.points[start as usize..end as usize]), sum, count }
    }
}

/// The labels of a sample, in order. See [`SampleRef::labels`].
#[derive(Clone)]
pub struct Labels<'a> {
    set: &'a Families,
    own: Range<u32>,
    constant: &'a [(&'static str, Box<str>)],
}

impl<'a> Labels<'a> {
    /// The label at the front of the sample's own ones.
    fn first(&self) -> Option<(&'static str, &'a str)> {
        if self.own.is_empty() {
            return None;
        }
        let at = self.own.start as usize;
        let [label, next] = &self.set.labels[at..at + 2] else { return None };
        let value = &self.set.text[label.value as usize..next.value as usize];
        Some((self.set.label_names[usize::from(label.name)], value))
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = (&'static str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let own = self.first();
        let order = match (own, self.constant.first()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(own), Some(constant)) => own.0.cmp(constant.0),
        };
        if order != Ordering::Less {
            let (name, value) = &self.constant[0];
            self.constant = &self.constant[1..];
            if order == Ordering::Greater {
                return Some((name, value));
            }
        }
        self.own.start += 1;
        own
    }
}

/// `name` with everything outside `[a-zA-Z0-9_]` turned into `_`, as the peer does with INFO fields.
pub fn clean_name(name: &str) -> Cow<'_, str> {
    if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect())
}
