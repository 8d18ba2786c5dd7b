//! What a metric family is, and how samples are recorded.
//!
//! A [`Desc`] is a row of a table: name, kind, labels, help. Collectors record samples through a
//! [`Builder`]; [`Builder::finish`] puts them into the order of the wire and yields [`Families`],
//! which never change again and are shared by `Arc`.
//!
//! What a newcomer would get wrong: nothing here is a tree of owned strings. All text lives in one
//! arena, samples and labels in flat vectors, so that one collection of 1,500 samples costs a handful
//! of allocations rather than ten thousand.

use std::borrow::Cow;
use std::cmp::Ordering;
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
}

/// What is known of a family before it has samples: one row of a collector's table.
#[derive(Debug)]
pub struct Desc {
    /// The full name, `redis_up`. See [`Builder::with_namespace`] for names that start with `redis_`.
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
    points: usize,
}

/// A piece of the arena.
type Span = Range<u32>;

#[derive(Clone, Debug)]
enum Name {
    Static(&'static str),
    Arena(Span),
}

#[derive(Clone, Debug)]
struct Family {
    name: Name,
    kind: Kind,
    help: &'static str,
    label_names: &'static [&'static str],
    samples: Range<u32>,
}

#[derive(Clone, Debug)]
struct Label {
    name: &'static str,
    value: Span,
}

#[derive(Clone, Debug)]
struct Sample {
    family: u32,
    labels: Range<u32>,
    value: Stored,
}

#[derive(Clone, Debug)]
enum Stored {
    Number(f64),
    /// Buckets of a histogram or quantiles of a summary, as pieces of `points`.
    Distribution {
        points: Range<u32>,
        sum: f64,
        count: u64,
    },
}

/// The value of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A counter, gauge or untyped value.
    Number(f64),
    /// A histogram: (upper bound, cumulative count) in rising order, without `+Inf`; or a summary:
    /// (quantile, value).
    Distribution {
        /// Buckets or quantiles.
        points: &'a [(f64, f64)],
        /// Sum of all observations.
        sum: f64,
        /// Number of observations; the `+Inf` bucket.
        count: u64,
    },
}

/// Finished families: sorted by name, their samples by label values, no duplicates.
#[derive(Clone, Debug, Default)]
pub struct Families {
    text: String,
    families: Vec<Family>,
    samples: Vec<Sample>,
    labels: Vec<Label>,
    points: Vec<(f64, f64)>,
    constant: Vec<(&'static str, Box<str>)>,
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
        self.samples.len()
    }

    /// All families in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = FamilyRef<'_>> + Clone {
        (0..self.families.len()).map(|index| FamilyRef { set: self, index })
    }

    /// The family of that full name.
    pub fn get(&self, name: &str) -> Option<FamilyRef<'_>> {
        let found = self.families.binary_search_by(|family| self.name(family).cmp(name));
        found.ok().map(|index| FamilyRef { set: self, index })
    }

    fn name<'a>(&'a self, family: &'a Family) -> &'a str {
        match &family.name {
            Name::Static(name) => name,
            Name::Arena(span) => self.span(span),
        }
    }

    fn span(&self, span: &Span) -> &str {
        &self.text[span.start as usize..span.end as usize]
    }

    fn labels_of(&self, sample: &Sample) -> &[Label] {
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
        self.labels_of(sample).first().map_or(0, |label| beginning(self.span(&label.value).as_bytes()))
    }
}

/// How many bytes both begin with.
fn shared_beginning(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// The first sixteen bytes as a number, so that texts whose beginnings differ are ordered as the numbers are.
/// Comparing numbers is many times cheaper than comparing texts, and sorting is mostly comparing.
fn beginning(bytes: &[u8]) -> u128 {
    match bytes.first_chunk() {
        Some(first) => u128::from_be_bytes(*first),
        None => {
            let mut padded = [0; 16];
            padded[..bytes.len()].copy_from_slice(bytes);
            u128::from_be_bytes(padded)
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
        self.family().kind
    }

    /// The help text, unescaped.
    pub fn help(&self) -> &'a str {
        self.family().help
    }

    /// The samples in the order of their label values.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = SampleRef<'a>> + Clone + use<'a> {
        let (set, range) = (self.set, self.family().samples.clone());
        set.samples[range.start as usize..range.end as usize]
            .iter()
            .map(move |sample| SampleRef { set, sample })
    }
}

/// One sample of a family.
#[derive(Clone, Copy)]
pub struct SampleRef<'a> {
    set: &'a Families,
    sample: &'a Sample,
}

impl<'a> SampleRef<'a> {
    /// Label names and values in alphabetical order of the names, the set's constant labels among them.
    /// A label of the sample hides a constant label of the same name.
    pub fn labels(&self) -> Labels<'a> {
        Labels { set: self.set, own: self.set.labels_of(self.sample), constant: &self.set.constant }
    }

    /// The value of the label `name`.
    pub fn label(&self, name: &str) -> Option<&'a str> {
        self.labels().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// The value.
    pub fn value(&self) -> Value<'a> {
        match &self.sample.value {
            Stored::Number(n) => Value::Number(*n),
            Stored::Distribution { points, sum, count } => Value::Distribution {
                points: &self.set.points[points.start as usize..points.end as usize],
                sum: *sum,
                count: *count,
            },
        }
    }
}

/// The labels of a sample, in order. See [`SampleRef::labels`].
#[derive(Clone)]
pub struct Labels<'a> {
    set: &'a Families,
    own: &'a [Label],
    constant: &'a [(&'static str, Box<str>)],
}

impl<'a> Iterator for Labels<'a> {
    type Item = (&'static str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.own.first(), self.constant.first()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(own), Some(constant)) => own.name.cmp(constant.0),
        };
        if order != Ordering::Less {
            let (name, value) = &self.constant[0];
            self.constant = &self.constant[1..];
            if order == Ordering::Greater {
                return Some((name, value));
            }
        }
        let label = &self.own[0];
        self.own = &self.own[1..];
        Some((label.name, self.set.span(&label.value)))
    }
}

/// Records samples in any order; see the head of this file.
#[derive(Debug, Default)]
pub struct Builder {
    set: Families,
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
        Self { set: Families::default(), namespace }
    }

    /// Makes room for as much as `last` holds. What the collection before came to is the best guess at what
    /// this one will, and room that is there need not grow.
    pub fn reserve_like(&mut self, last: &Families) {
        self.set.text.reserve(last.text.len());
        self.set.families.reserve(last.families.len());
        self.set.samples.reserve(last.samples.len());
        self.set.labels.reserve(last.labels.len());
        self.set.points.reserve(last.points.len());
    }

    /// A label that every sample of this set carries, whenever it was recorded.
    pub fn constant_label(&mut self, name: &'static str, value: &str) {
        let constant = &mut self.set.constant;
        match constant.binary_search_by(|(n, _)| (*n).cmp(name)) {
            Ok(at) => constant[at].1 = value.into(),
            Err(at) => constant.insert(at, (name, value.into())),
        }
    }

    /// The family of that row. Asking once and keeping the answer is cheapest; asking twice is no error.
    pub fn family(&mut self, desc: &'static Desc) -> FamilyId {
        let name = self.renamed(desc.name).unwrap_or(Name::Static(desc.name));
        self.open(name, desc.kind, desc.help, desc.labels)
    }

    /// A family whose name is known only at run time. The name must be a valid metric name:
    /// see [`clean_name`].
    pub fn named_family(&mut self, name: &str, kind: Kind, help: &'static str) -> FamilyId {
        let name = match self.renamed(name) {
            Some(renamed) => renamed,
            None => Name::Arena(self.intern(name)),
        };
        self.open(name, kind, help, &[])
    }

    /// The name with the namespace in place of `redis`, where there is one to put there.
    fn renamed(&mut self, name: &str) -> Option<Name> {
        let (space, rest) = (self.namespace.as_deref()?, name.strip_prefix("redis_")?);
        let start = self.set.text.len() as u32;
        if !space.is_empty() {
            self.set.text.push_str(space);
            self.set.text.push('_');
        }
        self.set.text.push_str(rest);
        Some(Name::Arena(start..self.set.text.len() as u32))
    }

    fn open(
        &mut self,
        name: Name,
        kind: Kind,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> FamilyId {
        self.set.families.push(Family { name, kind, help, label_names: labels, samples: 0..0 });
        FamilyId(self.set.families.len() as u32 - 1)
    }

    fn intern(&mut self, text: &str) -> Span {
        let start = self.set.text.len() as u32;
        self.set.text.push_str(text);
        start..self.set.text.len() as u32
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
        self.record(family, labels, Stored::Number(value));
    }

    /// Records a sample with labels of its own, for families whose samples differ in their labels.
    pub fn sample_with(&mut self, family: FamilyId, labels: &[(&'static str, &str)], value: f64) {
        let labels = self.label_set(labels);
        self.sample_labelled(family, &labels, value);
    }

    /// Stores labels that several samples carry, for [`Self::sample_labelled`]: ten families about one
    /// thing then hold its labels once rather than ten times.
    pub fn label_set(&mut self, labels: &[(&'static str, &str)]) -> LabelSet {
        let start = self.set.labels.len() as u32;
        for (name, value) in labels {
            let value = self.intern(value);
            self.set.labels.push(Label { name, value });
        }
        LabelSet(self.sorted(start))
    }

    /// Records a sample with stored labels.
    pub fn sample_labelled(&mut self, family: FamilyId, labels: &LabelSet, value: f64) {
        self.record(family, labels.0.clone(), Stored::Number(value));
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
        let labels = self.declared(family, values);
        let start = self.set.points.len() as u32;
        self.set.points.extend(points);
        let points = start..self.set.points.len() as u32;
        self.record(family, labels, Stored::Distribution { points, sum, count });
    }

    fn declared(&mut self, family: FamilyId, values: &[&str]) -> Range<u32> {
        let names = self.set.families[family.0 as usize].label_names;
        debug_assert!(values.len() <= names.len(), "more label values than labels");
        let start = self.set.labels.len() as u32;
        for (name, value) in names.iter().zip(values) {
            let value = self.intern(value);
            self.set.labels.push(Label { name, value });
        }
        self.sorted(start)
    }

    /// The labels from `start` on, sorted by name. Of labels of one name the first stays: twice the same name
    /// would make the whole page invalid.
    fn sorted(&mut self, start: u32) -> Range<u32> {
        let labels = &mut self.set.labels[start as usize..];
        labels.sort_by_key(|label| label.name);
        if labels.windows(2).any(|pair| pair[0].name == pair[1].name) {
            let mut labels = self.set.labels.split_off(start as usize);
            labels.dedup_by_key(|label| label.name);
            self.set.labels.append(&mut labels);
        }
        start..self.set.labels.len() as u32
    }

    fn record(&mut self, family: FamilyId, labels: Range<u32>, value: Stored) {
        debug_assert_eq!(
            matches!(value, Stored::Distribution { .. }),
            matches!(self.set.families[family.0 as usize].kind, Kind::Histogram | Kind::Summary),
            "histograms and summaries have distributions, other kinds have numbers"
        );
        self.set.samples.push(Sample { family: family.0, labels, value });
    }

    /// Remembers how much has been recorded, for [`Self::rollback`].
    pub fn mark(&self) -> Mark {
        Mark {
            text: self.set.text.len(),
            families: self.set.families.len(),
            samples: self.set.samples.len(),
            labels: self.set.labels.len(),
            points: self.set.points.len(),
        }
    }

    /// Forgets all that was recorded since `mark`: what a collector wrote before it failed.
    pub fn rollback(&mut self, mark: Mark) {
        self.set.text.truncate(mark.text);
        self.set.families.truncate(mark.families);
        self.set.samples.truncate(mark.samples);
        self.set.labels.truncate(mark.labels);
        self.set.points.truncate(mark.points);
    }

    /// Puts everything into the order of the wire. Families of the same name become one; of families
    /// that disagree about the kind the first wins. Of samples with the same labels the first wins.
    pub fn finish(self) -> Families {
        let mut set = self.set;
        let rank = set.rank_families();
        set.group_samples(&rank);
        set
    }
}

/// A family that finds no place: its samples are dropped.
const NOWHERE: u32 = u32::MAX;

impl Families {
    /// Sorts the families by name and drops those without a sample or with a name that is taken.
    /// Says for each old index which new one it became.
    fn rank_families(&mut self) -> Vec<u32> {
        let mut used = vec![false; self.families.len()];
        for sample in &self.samples {
            used[sample.family as usize] = true;
        }
        let name = |index: u32| self.name(&self.families[index as usize]);
        let used = || (0..self.families.len() as u32).filter(|index| used[*index as usize]);
        // Nearly all names begin with `redis_`: what tells them apart comes after.
        let shared = used().map(|index| shared_beginning(name(0), name(index))).min().unwrap_or(0);
        let key = |index: u32| (beginning(&name(index).as_bytes()[shared..]), index);
        let mut order: Vec<(u128, u32)> = used().map(key).collect();
        order.sort_unstable_by(|(a, i), (b, j)| a.cmp(b).then_with(|| name(*i).cmp(name(*j))).then(i.cmp(j)));
        let mut rank = vec![NOWHERE; self.families.len()];
        let mut sorted: Vec<Family> = Vec::with_capacity(order.len());
        for same_name in order.chunk_by(|(a, i), (b, j)| a == b && name(*i) == name(*j)) {
            let first = &self.families[same_name[0].1 as usize];
            for (_, index) in same_name {
                if self.families[*index as usize].kind == first.kind {
                    rank[*index as usize] = sorted.len() as u32;
                }
            }
            sorted.push(first.clone());
        }
        self.families = sorted;
        rank
    }

    /// Puts the samples of each family side by side, in order and without duplicates.
    fn group_samples(&mut self, rank: &[u32]) {
        let mut next = vec![0u32; self.families.len() + 1];
        for sample in &mut self.samples {
            sample.family = rank[sample.family as usize];
            if sample.family != NOWHERE {
                next[sample.family as usize + 1] += 1;
            }
        }
        for i in 1..next.len() {
            next[i] += next[i - 1];
        }
        let mut order = vec![0u32; next[self.families.len()] as usize];
        for (i, sample) in self.samples.iter().enumerate() {
            if sample.family != NOWHERE {
                let place = &mut next[sample.family as usize];
                order[*place as usize] = i as u32;
                *place += 1;
            }
        }
        let mut grouped: Vec<Sample> = Vec::with_capacity(order.len());
        let mut members: Vec<(u128, u32)> = vec![];
        let mut begin = 0;
        for (family, end) in next[..self.families.len()].iter().map(|end| *end as usize).enumerate() {
            let sample = |index: u32| &self.samples[index as usize];
            members.clear();
            members.extend(order[begin..end].iter().map(|index| (self.sort_key(sample(*index)), *index)));
            let by_labels = |(a, i): &(u128, u32), (b, j): &(u128, u32)| {
                a.cmp(b).then_with(|| self.compare(sample(*i), sample(*j)))
            };
            if !members.is_sorted_by(|a, b| by_labels(a, b).is_lt()) {
                members.sort_unstable_by(|a, b| by_labels(a, b).then(a.1.cmp(&b.1)));
                members.dedup_by(|later, first| by_labels(later, first).is_eq());
            }
            let start = grouped.len() as u32;
            grouped.extend(members.iter().map(|(_, index)| sample(*index).clone()));
            self.families[family].samples = start..grouped.len() as u32;
            begin = end;
        }
        self.samples = grouped;
    }
}

/// `name` with everything outside `[a-zA-Z0-9_]` turned into `_`, as the peer does with INFO fields.
pub fn clean_name(name: &str) -> Cow<'_, str> {
    if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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
