//! How samples are recorded, and what is made of them.
//!
//! Collectors record through a [`Builder`] in any order; [`Builder::finish`] sorts, drops what is there twice
//! and packs the rest into [`Families`].
//!
//! What a newcomer would get wrong: the two forms differ. What is recorded grows in flat vectors that are
//! cheap to append to, one collection of 1,500 samples in a handful of allocations; what is finished is as
//! small as it can be read quickly.

use crate::family::{Desc, Distribution, Families, Family, Kind, Label, NO_LABELS, Named};
use crate::points;
use std::cmp::Ordering;
use std::ops::Range;

/// A family that is being recorded in one [`Builder`]; of no use in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyId(u32);

/// Labels that many samples carry, stored once: see [`Builder::label_set`]. Of no use in another builder,
/// nor after a rollback to before it was made.
#[derive(Clone, Debug)]
pub struct LabelSet(Range<u32>);

/// How much a [`Builder`] held at some moment: see [`Builder::rollback`].
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    text: usize,
    families: usize,
    samples: usize,
    labels: usize,
    distributions: usize,
    points: usize,
}

/// A piece of the text.
type Span = Range<u32>;

#[derive(Clone, Debug)]
enum Name {
    /// That of a row.
    Row(&'static Desc),
    Text(Span),
}

#[derive(Clone, Debug)]
struct Opened {
    name: Name,
    kind: Kind,
    help: &'static str,
    label_names: &'static [&'static str],
}

#[derive(Clone, Debug)]
struct Given {
    name: &'static str,
    value: Span,
}

#[derive(Clone, Debug)]
struct Sample {
    family: u32,
    labels: Range<u32>,
    /// For histograms and summaries, which distribution it is.
    value: f64,
}

/// Records samples in any order; see the head of this file.
#[derive(Debug, Default)]
pub struct Builder {
    text: String,
    families: Vec<Opened>,
    samples: Vec<Sample>,
    labels: Vec<Given>,
    distributions: Vec<Distribution>,
    points: Vec<u8>,
    constant: Vec<(&'static str, Box<str>)>,
    /// What stands in place of `redis` in names that start with `redis_`, if anything else does.
    namespace: Option<Box<str>>,
}

impl Builder {
    /// An empty builder that keeps names as they are.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty builder in which `redis_…` becomes `<namespace>_…`, or loses the prefix when
    /// `namespace` is empty. Other names stay.
    pub fn with_namespace(namespace: &str) -> Self {
        let namespace = (namespace != "redis").then(|| namespace.into());
        Self { namespace, ..Self::default() }
    }

    /// Makes room for about as much as `last` holds. What the collection before came to is the best guess at
    /// what this one will, and room that is there need not grow.
    pub fn reserve_like(&mut self, last: &Families) {
        // Nearly every sample that has labels has one, and most of them bring its text once more.
        self.text.reserve(last.text.len() * 4);
        self.families.reserve(last.families.len() * 2);
        self.samples.reserve(last.values.len());
        self.labels.reserve(last.values.len());
        self.distributions.reserve(last.distributions.len());
        self.points.reserve(last.points.len());
    }

    /// A label that every sample of this set carries, whenever it was recorded.
    pub fn constant_label(&mut self, name: &'static str, value: &str) {
        let constant = &mut self.constant;
        match constant.binary_search_by(|(n, _)| (*n).cmp(name)) {
            Ok(at) => constant[at].1 = value.into(),
            Err(at) => constant.insert(at, (name, value.into())),
        }
    }

    /// The family of that row. Asking once and keeping the answer is cheapest; asking twice is no error.
    pub fn family(&mut self, desc: &'static Desc) -> FamilyId {
        let name = self.renamed(desc.name).unwrap_or(Name::Row(desc));
        self.open(name, desc.kind, desc.help, desc.labels)
    }

    /// A family whose name is known only at run time. The name must be a valid metric name:
    /// see [`clean_name`](crate::family::clean_name).
    pub fn named_family(&mut self, name: &str, kind: Kind, help: &'static str) -> FamilyId {
        let name = match self.renamed(name) {
            Some(renamed) => renamed,
            None => Name::Text(self.intern(name)),
        };
        self.open(name, kind, help, &[])
    }

    /// The name with the namespace in place of `redis`, where there is one to put there.
    fn renamed(&mut self, name: &str) -> Option<Name> {
        let (space, rest) = (self.namespace.as_deref()?, name.strip_prefix("redis_")?);
        let start = self.text.len() as u32;
        if !space.is_empty() {
            self.text.push_str(space);
            self.text.push('_');
        }
        self.text.push_str(rest);
        Some(Name::Text(start..self.text.len() as u32))
    }

    fn open(
        &mut self,
        name: Name,
        kind: Kind,
        help: &'static str,
        label_names: &'static [&'static str],
    ) -> FamilyId {
        self.families.push(Opened { name, kind, help, label_names });
        FamilyId(self.families.len() as u32 - 1)
    }

    fn intern(&mut self, text: &str) -> Span {
        let start = self.text.len() as u32;
        self.text.push_str(text);
        start..self.text.len() as u32
    }

    /// Records the one sample of a family without labels.
    pub fn push(&mut self, desc: &'static Desc, value: f64) {
        let family = self.family(desc);
        self.sample(family, &[], value);
    }

    /// Records a sample; `values` belong to the labels of the [`Desc`], in its order. Where there are
    /// fewer values than labels, the last labels are absent.
    pub fn sample(&mut self, family: FamilyId, values: &[&str], value: f64) {
        let labels = self.declared(family, values);
        self.record(family, labels, value);
    }

    /// Records a sample with labels of its own, for families whose samples differ in their labels.
    pub fn sample_with(&mut self, family: FamilyId, labels: &[(&'static str, &str)], value: f64) {
        let labels = self.label_set(labels);
        self.sample_labelled(family, &labels, value);
    }

    /// Stores labels that several samples carry, for [`Self::sample_labelled`]: ten families about one
    /// thing then hold its labels once rather than ten times.
    pub fn label_set(&mut self, labels: &[(&'static str, &str)]) -> LabelSet {
        let start = self.labels.len() as u32;
        for (name, value) in labels {
            let value = self.intern(value);
            self.labels.push(Given { name, value });
        }
        LabelSet(self.sorted(start))
    }

    /// Records a sample with stored labels.
    pub fn sample_labelled(&mut self, family: FamilyId, labels: &LabelSet, value: f64) {
        self.record(family, labels.0.clone(), value);
    }

    /// Records a histogram or a summary: `points` are (upper bound, cumulative count) in rising order
    /// without `+Inf`, or (quantile, value).
    pub fn distribution(
        &mut self,
        family: FamilyId,
        values: &[&str],
        points: impl IntoIterator<Item = (f64, f64)>,
        sum: f64,
        count: u64,
    ) {
        let kind = self.families[family.0 as usize].kind;
        debug_assert!(kind.is_distribution(), "histograms and summaries have distributions");
        if !kind.is_distribution() {
            return;
        }
        let labels = self.declared(family, values);
        let start = self.points.len() as u32;
        points.into_iter().for_each(|point| points::push(&mut self.points, point));
        let points = start..self.points.len() as u32;
        let value = self.distributions.len() as f64;
        self.distributions.push(Distribution { sum, count, points });
        self.samples.push(Sample { family: family.0, labels, value });
    }

    fn declared(&mut self, family: FamilyId, values: &[&str]) -> Range<u32> {
        let names = self.families[family.0 as usize].label_names;
        debug_assert!(values.len() <= names.len(), "more label values than labels");
        let start = self.labels.len() as u32;
        for (name, value) in names.iter().zip(values) {
            let value = self.intern(value);
            self.labels.push(Given { name, value });
        }
        self.sorted(start)
    }

    /// The labels from `start` on, sorted by name. Of labels of one name the first stays: twice the same name
    /// would make the whole page invalid.
    fn sorted(&mut self, start: u32) -> Range<u32> {
        let labels = &mut self.labels[start as usize..];
        labels.sort_by_key(|label| label.name);
        if labels.windows(2).any(|pair| pair[0].name == pair[1].name) {
            let mut labels = self.labels.split_off(start as usize);
            labels.dedup_by_key(|label| label.name);
            self.labels.append(&mut labels);
        }
        start..self.labels.len() as u32
    }

    fn record(&mut self, family: FamilyId, labels: Range<u32>, value: f64) {
        let kind = self.families[family.0 as usize].kind;
        debug_assert!(!kind.is_distribution(), "counters, gauges and untyped families have numbers");
        // A number in a histogram would be read as the place of a distribution.
        if !kind.is_distribution() {
            self.samples.push(Sample { family: family.0, labels, value });
        }
    }

    /// Remembers how much has been recorded, for [`Self::rollback`].
    pub fn mark(&self) -> Mark {
        Mark {
            text: self.text.len(),
            families: self.families.len(),
            samples: self.samples.len(),
            labels: self.labels.len(),
            distributions: self.distributions.len(),
            points: self.points.len(),
        }
    }

    /// Forgets all that was recorded since `mark`: what a collector wrote before it failed.
    pub fn rollback(&mut self, mark: Mark) {
        self.text.truncate(mark.text);
        self.families.truncate(mark.families);
        self.samples.truncate(mark.samples);
        self.labels.truncate(mark.labels);
        self.distributions.truncate(mark.distributions);
        self.points.truncate(mark.points);
    }

    /// Puts everything into the order of the wire. Families of the same name become one; of families
    /// that disagree about the kind the first wins. Of samples with the same labels the first wins.
    pub fn finish(mut self) -> Families {
        let (order, rank) = self.rank_families();
        let mut packed = self.pack_families(&order);
        self.pack_samples(&rank, &mut packed);
        packed.finish(self)
    }
}

/// How many bytes both begin with.
fn shared_beginning(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// The first sixteen bytes of a piece of `text` as a number, so that pieces whose beginnings differ are ordered
/// as the numbers are. Comparing numbers is many times cheaper than comparing texts, and sorting is mostly
/// comparing.
fn beginning(text: &str, piece: Range<usize>) -> u128 {
    let bytes = &text.as_bytes()[piece.start..];
    let first = bytes.first_chunk().copied().unwrap_or_else(|| {
        let mut padded = [0; 16];
        padded[..bytes.len()].copy_from_slice(bytes);
        padded
    });
    // What comes after the piece goes: that is cheaper than to copy so many bytes.
    let after = 16usize.saturating_sub(piece.len()) as u32 * 8;
    u128::from_be_bytes(first) & u128::MAX.checked_shl(after).unwrap_or(0)
}

/// Whether two names from tables are the same. Mostly they are so by being one.
fn same_name(a: &'static str, b: &'static str) -> bool {
    std::ptr::eq(a, b) || a == b
}

/// A family that finds no place: its samples are dropped.
const NOWHERE: u32 = u32::MAX;

impl Builder {
    fn span(&self, span: &Span) -> &str {
        &self.text[span.start as usize..span.end as usize]
    }

    fn name(&self, family: u32) -> &str {
        match &self.families[family as usize].name {
            Name::Row(row) => row.name,
            Name::Text(span) => self.span(span),
        }
    }

    fn labels_of(&self, sample: &Sample) -> &[Given] {
        &self.labels[sample.labels.start as usize..sample.labels.end as usize]
    }

    /// By label values, then by label names: the order of samples inside a family.
    fn compare(&self, a: &Sample, b: &Sample) -> Ordering {
        let (a, b) = (self.labels_of(a), self.labels_of(b));
        let by_value = a.iter().map(|l| self.span(&l.value)).cmp(b.iter().map(|l| self.span(&l.value)));
        by_value.then_with(|| a.iter().map(|l| l.name).cmp(b.iter().map(|l| l.name)))
    }

    /// Sorts samples by [`Self::compare`] for the most part: by the beginning of the first label value.
    fn sort_key(&self, sample: &Sample) -> u128 {
        let place = |label: &Given| label.value.start as usize..label.value.end as usize;
        self.labels_of(sample).first().map_or(0, |label| beginning(&self.text, place(label)))
    }

    /// The families in the order of their names, without those that have no sample or a name that is taken;
    /// and for each as it was opened which place it has in that order.
    fn rank_families(&self) -> (Vec<u32>, Vec<u32>) {
        let mut used = vec![false; self.families.len()];
        for sample in &self.samples {
            used[sample.family as usize] = true;
        }
        let name = |index: u32| self.name(index);
        let used = || (0..self.families.len() as u32).filter(|index| used[*index as usize]);
        // Nearly all names begin with `redis_`: what tells them apart comes after.
        let shared = used().map(|index| shared_beginning(name(0), name(index))).min().unwrap_or(0);
        let key = |index: u32| (beginning(name(index), shared..name(index).len()), index);
        let mut order: Vec<(u128, u32)> = used().map(key).collect();
        order.sort_unstable_by(|(a, i), (b, j)| a.cmp(b).then_with(|| name(*i).cmp(name(*j))).then(i.cmp(j)));
        let mut rank = vec![NOWHERE; self.families.len()];
        let mut sorted = Vec::with_capacity(order.len());
        for same_name in order.chunk_by(|(a, i), (b, j)| a == b && name(*i) == name(*j)) {
            let first = same_name[0].1;
            let kind = |index: u32| self.families[index as usize].kind;
            for (_, index) in same_name.iter().filter(|(_, index)| kind(*index) == kind(first)) {
                rank[*index as usize] = sorted.len() as u32;
            }
            sorted.push(first);
        }
        (sorted, rank)
    }

    fn pack_families(&self, order: &[u32]) -> Packed {
        let mut packed = Packed {
            families: Vec::with_capacity(order.len()),
            values: Vec::with_capacity(self.samples.len()),
            sets: Vec::with_capacity(self.samples.len()),
            ..Packed::default()
        };
        for index in order {
            let Opened { name, kind, help, .. } = &self.families[*index as usize];
            let named = packed.named.len() as u32;
            let row = match name {
                Name::Row(row) => Some(*row),
                Name::Text(span) => {
                    let name = packed.intern(self.span(span))..packed.text.len() as u32;
                    packed.named.push(Named { name, kind: *kind, help });
                    None
                }
            };
            packed.families.push(Family { row, named, first: 0 });
        }
        packed
    }

    /// Puts the samples of each family side by side, in order and without duplicates.
    fn pack_samples(&mut self, rank: &[u32], packed: &mut Packed) {
        let families = packed.families.len();
        let mut next = vec![0u32; families + 1];
        for sample in &mut self.samples {
            sample.family = rank[sample.family as usize];
            if sample.family != NOWHERE {
                next[sample.family as usize + 1] += 1;
            }
        }
        for i in 1..next.len() {
            next[i] += next[i - 1];
        }
        let mut order = vec![0u32; next[families] as usize];
        for (i, sample) in self.samples.iter().enumerate() {
            if sample.family != NOWHERE {
                let place = &mut next[sample.family as usize];
                order[*place as usize] = i as u32;
                *place += 1;
            }
        }
        let mut members: Vec<(u128, u32)> = vec![];
        let mut begin = 0;
        for (family, end) in next[..families].iter().map(|end| *end as usize).enumerate() {
            packed.families[family].first = packed.values.len() as u32;
            let sample = |index: u32| &self.samples[index as usize];
            if let [only] = order[begin..end] {
                packed.samples(self, [sample(only)].into_iter());
                begin = end;
                continue;
            }
            members.clear();
            members.extend(order[begin..end].iter().map(|index| (self.sort_key(sample(*index)), *index)));
            let by_labels = |(a, i): &(u128, u32), (b, j): &(u128, u32)| {
                a.cmp(b).then_with(|| self.compare(sample(*i), sample(*j)))
            };
            if !members.is_sorted_by(|a, b| by_labels(a, b).is_lt()) {
                members.sort_unstable_by(|a, b| by_labels(a, b).then(a.1.cmp(&b.1)));
                members.dedup_by(|later, first| by_labels(later, first).is_eq());
            }
            packed.samples(self, members.iter().map(|(_, index)| sample(*index)));
            begin = end;
        }
    }
}

/// Families on the way into their final form.
#[derive(Default)]
struct Packed {
    text: String,
    families: Vec<Family>,
    named: Vec<Named>,
    values: Vec<f64>,
    sets: Vec<u32>,
    labels: Vec<Label>,
    label_names: Vec<&'static str>,
    /// The first label name of a family's samples, and the sets of the last family that begins with it: those
    /// of the next one are likely the same (calls by command, errors by command).
    alike: Vec<(&'static str, Range<usize>)>,
}

impl Packed {
    fn intern(&mut self, text: &str) -> u32 {
        let start = self.text.len() as u32;
        self.text.push_str(text);
        start
    }

    /// Appends the samples of a family, which are in order.
    fn samples<'a>(&mut self, builder: &Builder, samples: impl Iterator<Item = &'a Sample>) {
        let begin = self.sets.len();
        let mut alike = None;
        let mut like = 0..0;
        for sample in samples {
            self.values.push(sample.value);
            let labels = builder.labels_of(sample);
            let Some(first) = labels.first() else {
                self.sets.push(NO_LABELS);
                continue;
            };
            if alike.is_none() {
                let found = self.alike.iter().position(|(name, _)| same_name(name, first.name));
                let at = found.unwrap_or_else(|| {
                    self.alike.push((first.name, 0..0));
                    self.alike.len() - 1
                });
                like = self.alike[at].1.clone();
                alike = Some(at);
            }
            // Both are in the same order: one walk finds all that they share.
            let mut known = None;
            while known.is_none()
                && let Some(set) = self.sets[like.clone()].first().copied()
            {
                if self.is(set, builder, labels) {
                    known = Some(set);
                } else if self.compare(builder, set, labels).is_gt() {
                    break;
                }
                like.start += 1;
            }
            let set = known.unwrap_or_else(|| self.set(builder, labels));
            self.sets.push(set);
        }
        if let Some(at) = alike {
            self.alike[at].1 = begin..self.sets.len();
        }
    }

    /// The labels of a set.
    fn labels_of(&self, set: u32) -> impl Iterator<Item = (&'static str, &str)> + Clone {
        let more = self.labels.get(set as usize).map(|label| usize::from(label.more));
        let set = set as usize..more.map_or(set as usize, |more| set as usize + more + 1);
        set.map(|at| {
            let end = self.labels.get(at + 1).map_or(self.text.len(), |next| next.value as usize);
            let value = &self.text[self.labels[at].value as usize..end];
            (self.label_names[usize::from(self.labels[at].name)], value)
        })
    }

    /// Whether the set has these labels.
    fn is(&self, set: u32, builder: &Builder, labels: &[Given]) -> bool {
        let mut own = self.labels_of(set);
        let are_own = |label: &Given| {
            let next = own.next();
            next.is_some_and(|(name, value)| {
                same_name(name, label.name) && value == builder.span(&label.value)
            })
        };
        labels.iter().all(are_own) && own.next().is_none()
    }

    /// As [`Builder::compare`] does it.
    fn compare(&self, builder: &Builder, set: u32, labels: &[Given]) -> Ordering {
        let by_value = self.labels_of(set).map(|(_, value)| value);
        let by_value = by_value.cmp(labels.iter().map(|label| builder.span(&label.value)));
        let by_name = || self.labels_of(set).map(|(name, _)| name).cmp(labels.iter().map(|label| label.name));
        by_value.then_with(by_name)
    }

    /// Appends a set of labels, which are some.
    fn set(&mut self, builder: &Builder, labels: &[Given]) -> u32 {
        let set = self.labels.len() as u32;
        for (at, label) in labels.iter().enumerate() {
            let name =
                self.label_names.iter().position(|name| same_name(name, label.name)).unwrap_or_else(|| {
                    self.label_names.push(label.name);
                    self.label_names.len() - 1
                });
            let value = self.intern(builder.span(&label.value));
            // Names of labels stand in the code: there are dozens.
            self.labels.push(Label { name: name as u16, more: (labels.len() - 1 - at) as u16, value });
        }
        set
    }

    fn finish(mut self, builder: Builder) -> Families {
        if !self.labels.is_empty() {
            self.labels.push(Label { name: 0, more: 0, value: self.text.len() as u32 });
        }
        Families {
            text: self.text.into(),
            families: self.families.into(),
            named: self.named.into(),
            values: self.values.into(),
            sets: self.sets.into(),
            labels: self.labels.into(),
            label_names: self.label_names.into(),
            distributions: builder.distributions.into(),
            points: builder.points.into(),
            constant: builder.constant.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Value;

    static A: Desc = Desc::gauge("redis_a", "A.");
    static B: Desc = Desc::counter("redis_b_total", "B.").labels(&["db", "cmd"]);
    static OTHER_A: Desc = Desc::counter("redis_a", "Another kind.");

    fn shape(families: &Families) -> Vec<String> {
        let mut lines = vec![];
        for family in families.iter() {
            for sample in family.samples() {
                let labels: Vec<_> = sample.labels().map(|(n, v)| format!("{n}={v}")).collect();
                lines.push(format!("{}{{{}}} {:?}", family.name(), labels.join(","), sample.value()));
            }
        }
        lines
    }

    #[test]
    fn families_samples_and_labels_come_out_sorted() {
        let mut out = Builder::new();
        let b = out.family(&B);
        out.sample(b, &["1", "set"], 2.0);
        out.sample(b, &["0", "get"], 1.0);
        out.push(&A, 7.0);
        assert_eq!(
            shape(&out.finish()),
            [
                "redis_a{} Number(7.0)",
                "redis_b_total{cmd=get,db=0} Number(1.0)",
                "redis_b_total{cmd=set,db=1} Number(2.0)"
            ]
        );
    }

    #[test]
    fn the_first_of_two_equal_samples_stays_also_across_two_openings_of_a_family() {
        let mut out = Builder::new();
        out.push(&A, 1.0);
        out.push(&A, 2.0);
        out.push(&OTHER_A, 3.0);
        assert_eq!(shape(&out.finish()), ["redis_a{} Number(1.0)"]);
    }

    #[test]
    fn the_first_stays_also_among_many() {
        let mut out = Builder::new();
        out.push(&A, 0.0);
        for i in 0..1000u32 {
            out.push(&OTHER_A, 1.0);
            let b = out.family(&B);
            out.sample(b, &[&(i * 7 % 100).to_string(), "get"], f64::from(i));
        }
        let set = out.finish();
        assert_eq!(set.get("redis_a").map(|a| (a.kind(), a.samples().len())), Some((Kind::Gauge, 1)));
        let family = set.get("redis_b_total").expect("it has samples");
        assert_eq!(family.samples().len(), 100);
        for sample in family.samples() {
            let Value::Number(value) = sample.value() else { panic!("a number") };
            let value = value as u32;
            assert!(value < 100 && Some(&*(value * 7 % 100).to_string()) == sample.label("db"), "{value}");
        }
    }

    #[test]
    fn samples_are_ordered_by_all_of_their_label_values() {
        static C: Desc = Desc::gauge("c", "C.").labels(&["x", "y"]);
        let long = "a value that is longer than any sort key";
        let expected = [
            ["", ""],
            ["a", "b"],
            ["a", "c"],
            ["a\0", "a"],
            [long, "1"],
            [&format!("{long} and its like"), "0"],
            ["ä", "a"],
        ];
        let mut out = Builder::new();
        let c = out.family(&C);
        expected.iter().rev().chain(&expected).for_each(|values| out.sample(c, values, 0.0));
        let set = out.finish();
        let family = set.get("c").expect("it has samples");
        let values =
            family.samples().map(|sample| sample.labels().map(|(_, value)| value).collect::<Vec<_>>());
        assert_eq!(values.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn of_two_labels_of_one_name_the_first_stays() {
        let mut out = Builder::new();
        let b = out.family(&B);
        out.sample_with(b, &[("x", "1"), ("a", "2"), ("x", "3")], 1.0);
        out.sample_with(b, &[("x", "1")], 1.0);
        let expected = ["redis_b_total{x=1} Number(1.0)", "redis_b_total{a=2,x=1} Number(1.0)"];
        assert_eq!(shape(&out.finish()), expected);
    }

    #[test]
    fn a_family_without_samples_is_absent() {
        let mut out = Builder::new();
        out.family(&A);
        assert!(out.finish().is_empty());
    }

    #[test]
    fn constant_labels_join_in_order_and_give_way_to_own_ones() {
        let mut out = Builder::new();
        out.constant_label("instance_role", "master");
        out.constant_label("cmd", "hidden");
        out.push(&A, 1.0);
        let b = out.family(&B);
        out.sample(b, &["0", "get"], 1.0);
        assert_eq!(
            shape(&out.finish()),
            [
                "redis_a{cmd=hidden,instance_role=master} Number(1.0)",
                "redis_b_total{cmd=get,db=0,instance_role=master} Number(1.0)"
            ]
        );
    }

    #[test]
    fn stored_labels_serve_several_families() {
        let mut out = Builder::new();
        let (a, b) = (out.family(&A), out.family(&B));
        let labels = out.label_set(&[("id", "7"), ("a", "x")]);
        out.sample_labelled(a, &labels, 1.0);
        out.sample_labelled(b, &labels, 2.0);
        assert_eq!(
            shape(&out.finish()),
            ["redis_a{a=x,id=7} Number(1.0)", "redis_b_total{a=x,id=7} Number(2.0)"]
        );
    }

    #[test]
    fn labels_that_families_share_are_kept_once() {
        static OTHERS: [Desc; 3] = [
            Desc::gauge("redis_c", "C.").labels(&["cmd"]),
            Desc::gauge("redis_d", "D.").labels(&["other"]),
            Desc::gauge("redis_e", "E.").labels(&["cmd"]),
        ];
        let size = |families: &[&'static Desc], step: usize| {
            let mut out = Builder::new();
            for desc in families {
                let family = out.family(desc);
                for cmd in (0..300).step_by(step) {
                    out.sample(family, &[&format!("command {:03}", cmd * 7 % 300)], 1.0);
                }
            }
            let set = out.finish();
            for sample in set.iter().flat_map(|family| family.samples()) {
                let labels: Vec<_> = sample.labels().collect();
                let [(name, value)] = labels[..] else { panic!("{labels:?}") };
                assert!(["cmd", "other"].contains(&name) && value.starts_with("command "), "{name} {value}");
            }
            set.heap_size()
        };
        let [c, d, e] = OTHERS.each_ref();
        let (alone, both) = (size(&[c], 1), size(&[c, e], 1));
        assert!(both - alone < 300 * 12 + 100, "{alone} and then {both}");
        let apart = size(&[c, d, e], 1);
        assert!(apart - alone < 300 * (12 + 12 + 8 + 12) + 100, "{alone} and then {apart}");
        assert!(size(&[c], 3) < alone / 2);
    }

    #[test]
    fn rollback_forgets_a_failed_collector() {
        let mut out = Builder::new();
        out.push(&A, 1.0);
        let mark = out.mark();
        let b = out.family(&B);
        out.sample(b, &["0", "get"], 1.0);
        out.rollback(mark);
        assert_eq!(shape(&out.finish()), ["redis_a{} Number(1.0)"]);
    }

    #[test]
    fn the_namespace_replaces_redis_and_nothing_else() {
        static OWN: Desc = Desc::gauge("redvigil_x", "X.");
        for (namespace, expected) in [("redis", "redis_a"), ("test", "test_a"), ("", "a")] {
            let mut out = Builder::with_namespace(namespace);
            out.push(&A, 1.0);
            out.push(&OWN, 1.0);
            let families = out.finish();
            assert!(families.get(expected).is_some() && families.get("redvigil_x").is_some());
        }
    }
}
