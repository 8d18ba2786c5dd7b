//! Lays the families of several sets side by side, in the order of the wire.
//!
//! A page is written from several [`Families`]: what a target's collectors made, what the key scan made,
//! what the exporter says of itself. Nothing is copied: a [`Page`] only points into the sets.

use crate::family::{Families, FamilyRef, Kind, SampleRef};
use std::cmp::Ordering;

/// The families of all sets, sorted by name, each name once.
pub struct Page<'a> {
    /// Sorted by name; several of one name stand side by side.
    entries: Vec<FamilyRef<'a>>,
}

impl<'a> Page<'a> {
    /// A page of these sets. With `names`, of those families only: the `name[]` parameter.
    pub fn new(sets: impl IntoIterator<Item = &'a Families>, names: &[String]) -> Self {
        let all = sets.into_iter().flat_map(Families::iter);
        let wanted = |family: &FamilyRef<'_>| names.is_empty() || names.iter().any(|n| n == family.name());
        let mut entries: Vec<_> = all.filter(wanted).collect();
        entries.sort_by_key(FamilyRef::name);
        Self { entries }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether there is a family of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.binary_search_by(|family| family.name().cmp(name)).is_ok()
    }

    /// The families in order.
    pub fn families(&self) -> impl Iterator<Item = PageFamily<'_, 'a>> {
        self.entries.chunk_by(|a, b| a.name() == b.name()).map(|parts| PageFamily { parts })
    }
}

/// A family of a [`Page`].
#[derive(Clone, Copy)]
pub struct PageFamily<'p, 'a> {
    parts: &'p [FamilyRef<'a>],
}

impl<'a> PageFamily<'_, 'a> {
    /// The full name.
    pub fn name(&self) -> &'a str {
        self.parts[0].name()
    }

    /// The kind; where sets disagree, that of the first.
    pub fn kind(&self) -> Kind {
        self.parts[0].kind()
    }

    /// The help text, unescaped.
    pub fn help(&self) -> &'a str {
        self.parts[0].help()
    }

    /// Calls `visit` for each sample, in order, without duplicates. Parts of another kind than the first
    /// are left out.
    pub fn for_each(&self, visit: impl FnMut(SampleRef<'a>)) {
        if let [only] = self.parts {
            return only.samples().for_each(visit);
        }
        let same_kind = self.parts.iter().filter(|part| part.kind() == self.kind());
        let samples = in_order(same_kind.flat_map(FamilyRef::samples), |sample| *sample);
        samples.into_iter().for_each(visit);
    }
}

/// The samples of several sets in the order of their labels; of several with the same labels, the first.
pub(crate) fn in_order<'a, T>(
    samples: impl Iterator<Item = T>,
    sample: impl Fn(&T) -> SampleRef<'a>,
) -> Vec<T> {
    let mut all: Vec<_> = samples.collect();
    all.sort_by(|a, b| compare(&sample(a), &sample(b)));
    all.dedup_by(|a, b| compare(&sample(a), &sample(b)).is_eq());
    all
}

/// The order of samples of one family.
pub(crate) fn compare(a: &SampleRef<'_>, b: &SampleRef<'_>) -> Ordering {
    let by_value = a.labels().map(|(_, value)| value).cmp(b.labels().map(|(_, value)| value));
    by_value.then_with(|| a.labels().map(|(name, _)| name).cmp(b.labels().map(|(name, _)| name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Builder, Desc};

    static A: Desc = Desc::gauge("a", "A.").labels(&["x"]);
    static B: Desc = Desc::gauge("b", "B.");

    fn names(page: &Page<'_>) -> Vec<String> {
        let mut lines = vec![];
        for family in page.families() {
            family.for_each(|sample| {
                lines.push(format!("{} {:?}", family.name(), sample.labels().collect::<Vec<_>>()))
            });
        }
        lines
    }

    fn set(x: &str) -> Families {
        let mut out = Builder::new();
        out.push(&B, 1.0);
        let a = out.family(&A);
        out.sample(a, &[x], 1.0);
        out.finish()
    }

    #[test]
    fn families_of_several_sets_become_one_without_duplicates() {
        let (one, two) = (set("2"), set("1"));
        let page = Page::new([&one, &two], &[]);
        assert_eq!(names(&page), [r#"a [("x", "1")]"#, r#"a [("x", "2")]"#, "b []"]);
    }

    #[test]
    fn a_filter_keeps_families_named_in_full() {
        let one = set("1");
        assert_eq!(names(&Page::new([&one], &["b".into()])), ["b []"]);
        assert!(Page::new([&one], &["nothing".into()]).is_empty());
    }
}
