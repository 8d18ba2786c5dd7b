//! Scrapes of targets become one `io.prometheus.write.v2.Request`.
//!
//! What a newcomer would get wrong: whether two samples are one series cannot be told from the samples. A label that
//! hides one of the target, an empty label, a gauge `a_sum` beside a summary `a`: all that counts is the labels as they
//! are sent. So the numbers of the labels, as they stand in the request, are what a series is known by: of several the
//! first is sent, and one of the scrape before has ended when nothing of this scrape is sent by its labels. The walk
//! through both scrapes in their order only saves looking at what is plainly in both.

use super::symbols::{Hasher, Symbols};
use super::{Batch, STALE, Size, field, kind};
use crate::family::{Families, Kind, SampleRef, Value};
use crate::merge::{Page, PageFamily, compare};
use crate::number;
use crate::wire;
use hashbrown::HashTable;
use std::cmp::Ordering;
use std::hash::BuildHasher as _;
use std::ops::Range;
use std::sync::Arc;

/// What one target said at one time.
#[derive(Clone, Copy, Debug)]
pub struct Scrape<'a> {
    /// Its families; of several samples of one series the first counts.
    pub parts: &'a [Arc<Families>],
    /// Labels of every series, sorted by name, each name once; a sample that has one of that name keeps its own, and
    /// an empty value is none.
    pub labels: &'a [(Box<str>, Box<str>)],
    /// When, in milliseconds since 1970.
    pub timestamp: i64,
    /// Since when counters, histograms and summaries count, in milliseconds since 1970, where that is known. What is
    /// later than the scrape is left out: clocks differ.
    pub since: Option<i64>,
}

/// Gathers scrapes until they are taken.
#[derive(Debug, Default)]
pub struct Encoder {
    symbols: Symbols,
    /// Fields `timeseries` of the request.
    series: Vec<u8>,
    /// The memory of the next request.
    spare: Vec<u8>,
    size: Size,
    /// Where in `series` the labels of what was sent of this scrape stand.
    sent: HashTable<Range<u32>>,
    hasher: Hasher,
}

impl Encoder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds all samples of a scrape, and a stale marker for each series that is in `before`, the parts of the scrape
    /// before it of the same target, and in this one no more. A scrape without parts ends all of them.
    /// Labels of a target that became others are another target: end the one, and begin the other without `before`.
    pub fn push(&mut self, now: &Scrape<'_>, before: &[Arc<Families>]) {
        let (now_page, before_page) = (page(now.parts), page(before));
        self.sent.clear();
        let mut pen = Pen::new(self, now);
        let mut past = before_page.families().peekable();
        let (mut samples, mut old) = (vec![], vec![]);
        // Families that wait, and what may have ended of them.
        let mut later = vec![];
        for family in now_page.families() {
            while let Some(gone) = past.next_if(|past| past.name() < family.name()) {
                later.extend(pen.end_or_wait(&now_page, gone, all(&gone)));
            }
            pen.open(&family);
            match past.next_if(|past| past.name() == family.name()) {
                None => family.for_each(|sample| pen.sample(&sample, None)),
                Some(before) => {
                    samples.clear();
                    family.for_each(|sample| samples.push(sample));
                    old.clear();
                    before.for_each(|sample| old.push(sample));
                    samples.iter().for_each(|sample| pen.sample(sample, None));
                    let is_same = family.kind() == before.kind();
                    let ended = not_in(&old, if is_same { &samples } else { &[] }).collect();
                    later.extend(pen.end_or_wait(&now_page, before, ended));
                }
            }
        }
        for gone in past {
            later.extend(pen.end_or_wait(&now_page, gone, all(&gone)));
        }
        later.iter().for_each(|(family, ended)| pen.end(family, ended));
    }

    /// How many samples wait to be taken.
    pub fn samples(&self) -> u32 {
        self.size.samples
    }

    /// How large the request has become, in bytes.
    pub fn size(&self) -> usize {
        if self.is_empty() { 0 } else { self.series.len() + self.symbols.size() }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.size.samples == 0
    }

    /// The request, whole; without samples it has no bytes. The encoder begins anew.
    pub fn finish(&mut self) -> Batch {
        let mut body = std::mem::take(&mut self.spare);
        body.clear();
        body.reserve(self.size());
        if !self.is_empty() {
            self.symbols.write(&mut body);
            body.extend_from_slice(&self.series);
        }
        self.series.clear();
        Batch { body, size: std::mem::take(&mut self.size) }
    }

    /// Takes back the body of a request that is done with, for the next one. Without that each takes memory anew, which
    /// falls to pieces between what lives longer.
    pub fn recycle(&mut self, body: Vec<u8>) {
        self.spare = body;
    }

    /// Whether a series of these labels was sent of this scrape; `hash` is theirs.
    #[inline]
    fn was_sent(&self, hash: u64, labels: &[u8]) -> bool {
        let of = |place: &Range<u32>| &self.series[place.start as usize..place.end as usize];
        self.sent.find(hash, |place| of(place) == labels).is_some()
    }

    /// Remembers that the series was sent whose labels were just written up to that place.
    #[inline]
    fn remember(&mut self, hash: u64, place: Range<usize>) {
        let Self { series, sent, hasher, .. } = self;
        let of = |place: &Range<u32>| &series[place.start as usize..place.end as usize];
        let place = place.start as u32..place.end as u32;
        sent.insert_unique(hash, place, |place| hasher.hash_one(of(place)));
    }
}

fn page(parts: &[Arc<Families>]) -> Page<'_> {
    Page::new(parts.iter().map(|part| &**part), &[])
}

fn all<'a>(family: &PageFamily<'_, 'a>) -> Vec<SampleRef<'a>> {
    let mut all = vec![];
    family.for_each(|sample| all.push(sample));
    all
}

/// Whether a family of `page` behind this one may have a series of the same name as this one. The order of families is
/// that of their names, so that only those can which are called like a series of a distribution.
fn may_yet_come(page: &Page<'_>, family: &PageFamily<'_, '_>) -> bool {
    let suffixes = if family.kind().is_distribution() { &["_bucket", "_sum", "_count"][..] } else { &[] };
    suffixes.iter().any(|suffix| page.has(&format!("{}{suffix}", family.name())))
}

/// What of `old` is not as it is in `now`, and therefore may have ended. Both are of one family and in their order.
fn not_in<'s, 'a>(
    old: &'s [SampleRef<'a>],
    now: &'s [SampleRef<'a>],
) -> impl Iterator<Item = SampleRef<'a>> + 's {
    let mut now = now.iter().peekable();
    old.iter().copied().filter(move |old| {
        while now.next_if(|now| compare(now, old) == Ordering::Less).is_some() {}
        let same = now.next_if(|now| compare(now, old) == Ordering::Equal);
        !same.is_some_and(|now| has_same_points(now, old))
    })
}

/// Whether two samples have the same buckets or quantiles; numbers have none.
fn has_same_points(a: &SampleRef<'_>, b: &SampleRef<'_>) -> bool {
    match (a.value(), b.value()) {
        (Value::Distribution { points: a, .. }, Value::Distribution { points: b, .. }) => {
            a.iter().map(|(bound, _)| bound.to_bits()).eq(b.iter().map(|(bound, _)| bound.to_bits()))
        }
        (Value::Number(_), Value::Number(_)) => true,
        _ => false,
    }
}

/// A label: its name, and the numbers of the name and the value.
type Reference<'a> = (&'a str, u32, u32);

/// A label of the target: name and value, and their numbers once they were needed. What no series has is not in the
/// table.
struct Theirs<'a> {
    name: &'a str,
    value: &'a str,
    numbers: Option<(u32, u32)>,
}

impl<'a> Theirs<'a> {
    fn reference(&mut self, symbols: &mut Symbols) -> Reference<'a> {
        let numbers = || (symbols.number(self.name), symbols.number(self.value));
        let (name, value) = *self.numbers.get_or_insert_with(numbers);
        (self.name, name, value)
    }
}

/// Writes the series of one scrape.
struct Pen<'e, 'a> {
    out: &'e mut Encoder,
    timestamp: i64,
    since: Option<i64>,
    /// The labels of the target.
    target: Vec<Theirs<'a>>,
    name: &'a str,
    kind: Kind,
    help: &'a str,
    /// When the samples of the family began to count.
    start: Option<i64>,
    /// The field `metadata` of the family, once it was needed.
    metadata: Vec<u8>,
    /// The labels of the sample that is written and of the target, sorted.
    labels: Vec<Reference<'a>>,
    /// The same of the series, as they are written.
    written: Vec<u8>,
    /// The names of the series of a distribution, and the texts of bounds.
    text: String,
}

impl<'e, 'a> Pen<'e, 'a> {
    fn new(out: &'e mut Encoder, scrape: &Scrape<'a>) -> Self {
        let given = scrape.labels.iter().filter(|(_, value)| !value.is_empty());
        Self {
            out,
            timestamp: scrape.timestamp,
            since: scrape.since.filter(|since| (1..=scrape.timestamp).contains(since)),
            target: given.map(|(name, value)| Theirs { name, value, numbers: None }).collect(),
            name: "",
            kind: Kind::Untyped,
            help: "",
            start: None,
            metadata: vec![],
            labels: vec![],
            written: vec![],
            text: String::new(),
        }
    }

    /// Begins a family.
    fn open(&mut self, family: &PageFamily<'_, 'a>) {
        (self.name, self.kind, self.help) = (family.name(), family.kind(), family.help());
        let counts = matches!(self.kind, Kind::Counter | Kind::Histogram | Kind::Summary);
        self.start = self.since.filter(|_| counts);
        self.metadata.clear();
    }

    /// The same as [`Self::end`], but gives back a family whose series may yet come under the name of another one.
    fn end_or_wait<'p>(
        &mut self,
        now: &Page<'_>,
        family: PageFamily<'p, 'a>,
        ended: Vec<SampleRef<'a>>,
    ) -> Option<(PageFamily<'p, 'a>, Vec<SampleRef<'a>>)> {
        if ended.is_empty() || !may_yet_come(now, &family) {
            self.end(&family, &ended);
            return None;
        }
        Some((family, ended))
    }

    /// Ends those of these samples' series that were not sent of this scrape.
    fn end(&mut self, family: &PageFamily<'_, 'a>, ended: &[SampleRef<'a>]) {
        self.open(family);
        self.start = None;
        ended.iter().for_each(|sample| self.sample(sample, Some(f64::from_bits(STALE))));
    }

    /// Writes a sample, or all series of a distribution; all with the value `instead`, if there is one.
    fn sample(&mut self, sample: &SampleRef<'a>, instead: Option<f64>) {
        self.lay_out(sample);
        match sample.value() {
            Value::Number(value) => {
                let name = self.out.symbols.number(self.name);
                self.series(name, None, instead.unwrap_or(value));
            }
            Value::Distribution { points, sum, count } => {
                let (suffix, label) = match self.kind {
                    Kind::Histogram => ("_bucket", "le"),
                    _ => ("", "quantile"),
                };
                let last = (self.kind == Kind::Histogram).then_some((f64::INFINITY, count as f64));
                let mut bounds = points.iter().chain(last).peekable();
                if bounds.peek().is_some() {
                    let (name, label_number) = (self.suffixed(suffix), self.out.symbols.number(label));
                    for (bound, value) in bounds {
                        let bound = (label, label_number, self.bound(bound));
                        self.series(name, Some(bound), instead.unwrap_or(value));
                    }
                }
                for (suffix, value) in [("_sum", sum), ("_count", count as f64)] {
                    let name = self.suffixed(suffix);
                    self.series(name, None, instead.unwrap_or(value));
                }
            }
        }
    }

    /// The number of the name of the family with more at its end.
    fn suffixed(&mut self, suffix: &str) -> u32 {
        self.text.clear();
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        self.out.symbols.number(&self.text)
    }

    /// The number of the text of a bound.
    fn bound(&mut self, bound: f64) -> u32 {
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        bytes.clear();
        number::write_as_float(&mut bytes, bound);
        self.text = String::from_utf8(bytes).expect("digits are text");
        self.out.symbols.number(&self.text)
    }

    /// Puts the labels of a sample and of the target in order. An empty one of the sample hides that of the target,
    /// and is none.
    fn lay_out(&mut self, sample: &SampleRef<'a>) {
        let Self { out: Encoder { symbols, .. }, target, labels, .. } = self;
        labels.clear();
        let mut target = target.iter_mut().peekable();
        for (name, value) in sample.labels() {
            while let Some(theirs) = target.next_if(|theirs| theirs.name < name) {
                labels.push(theirs.reference(symbols));
            }
            target.next_if(|theirs| theirs.name == name);
            if !value.is_empty() {
                labels.push((name, symbols.number(name), symbols.number(value)));
            }
        }
        target.for_each(|theirs| labels.push(theirs.reference(symbols)));
    }

    /// Writes one series with one sample, unless its labels were there before.
    fn series(&mut self, name: u32, bound: Option<Reference<'static>>, value: f64) {
        let name = ("__name__", self.out.symbols.number("__name__"), name);
        self.written.clear();
        // The one is before the other in the order of names.
        let mut extra = [Some(name), bound].into_iter().flatten().peekable();
        let write = |out: &mut Vec<u8>, (_, name, value): Reference<'_>| {
            wire::varint(out, u64::from(name));
            wire::varint(out, u64::from(value));
        };
        for label in &self.labels {
            let mut is_hidden = false;
            while let Some(extra) = extra.next_if(|extra| extra.0 <= label.0) {
                is_hidden |= extra.0 == label.0;
                write(&mut self.written, extra);
            }
            if !is_hidden {
                write(&mut self.written, *label);
            }
        }
        extra.for_each(|extra| write(&mut self.written, extra));

        // A series that is not sent leaves nothing behind: its labels had their numbers, and no help gets one.
        let hash = self.out.hasher.hash_one(&self.written);
        if self.out.was_sent(hash, &self.written) {
            return;
        }
        if self.metadata.is_empty() {
            self.describe();
        }
        // Lengths come before contents, and all of them are known.
        let (is_zero, timestamp) = (value.to_bits() == 0, self.timestamp as u64);
        let start = self.start.map_or(0, |start| start as u64);
        let sample = if is_zero { 0 } else { 9 } + number_len(timestamp) + number_len(start);
        let labels = self.written.len();
        let out = &mut self.out.series;
        let len = 1 + wire::varint_len(labels as u64) + labels + 2 + sample + self.metadata.len();
        wire::head(out, field::TIMESERIES, len);
        wire::bytes(out, field::LABELS, &self.written);
        let end = out.len();
        wire::head(out, field::SAMPLES, sample);
        if !is_zero {
            wire::double(out, field::VALUE, value);
        }
        for (field, number) in [(field::TIMESTAMP, timestamp), (field::START, start)] {
            if number != 0 {
                wire::uint(out, field, number);
            }
        }
        out.extend_from_slice(&self.metadata);
        self.out.remember(hash, end - labels..end);
        self.out.size.add(self.timestamp);
    }

    /// Writes the metadata of the family.
    fn describe(&mut self) {
        let kind = match self.kind {
            Kind::Counter => kind::COUNTER,
            Kind::Gauge => kind::GAUGE,
            Kind::Histogram => kind::HISTOGRAM,
            Kind::Summary => kind::SUMMARY,
            Kind::Untyped => kind::UNKNOWN,
        };
        let help = self.out.symbols.number(self.help);
        wire::message(&mut self.metadata, field::METADATA, |out| {
            if kind != kind::UNKNOWN {
                wire::uint(out, field::TYPE, kind);
            }
            if help != 0 {
                wire::uint(out, field::HELP, u64::from(help));
            }
        });
    }
}

/// How many bytes a field of a small number takes that holds that one; nothing for zero, which is left out.
fn number_len(number: u64) -> usize {
    if number == 0 { 0 } else { 1 + wire::varint_len(number) }
}
