//! Scrapes of targets become one `io.prometheus.write.v2.Request`.

use super::symbols::Symbols;
use super::{Batch, STALE, Size, field, kind};
use crate::family::{Families, Kind, SampleRef, Value};
use crate::merge::{Page, PageFamily, compare, in_order};
use crate::number;
use crate::wire;
use std::cmp::Ordering;
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
    /// Since when counters, histograms and summaries count, in milliseconds since 1970, where that is known.
    pub since: Option<i64>,
}

/// Gathers scrapes until they are taken.
#[derive(Debug)]
pub struct Encoder {
    symbols: Symbols,
    /// Fields `timeseries` of the request.
    series: Vec<u8>,
    size: Size,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { symbols: Symbols::new(), series: vec![], size: Size::default() }
    }
}

impl Encoder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds all samples of a scrape, and a stale marker for each series that is in `before`, the parts of the scrape
    /// before it of the same target, and in this one no more. A scrape without parts ends all of them.
    pub fn push(&mut self, now: &Scrape<'_>, before: &[Arc<Families>]) {
        let (now_page, before_page) = (page(now.parts), page(before));
        let mut past = before_page.families().peekable();
        let mut pen = Pen::new(self, now);
        for family in now_page.families() {
            while let Some(gone) = past.next_if(|gone| gone.name() < family.name()) {
                pen.end_family(&gone);
            }
            match past.next_if(|old| old.name() == family.name()) {
                Some(old) => pen.family_since(&family, &old),
                None => pen.family(&family),
            }
        }
        past.for_each(|gone| pen.end_family(&gone));
    }

    /// How many samples wait to be taken.
    pub fn samples(&self) -> u32 {
        self.size.samples
    }

    /// How large the request has become, in bytes, about.
    pub fn size(&self) -> usize {
        self.series.len() + self.symbols.size()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.size.samples == 0
    }

    /// The request, whole. The encoder begins anew.
    pub fn finish(&mut self) -> Batch {
        let mut body = Vec::with_capacity(self.size() + self.symbols.size() / 4);
        self.symbols.write(&mut body);
        body.extend_from_slice(&self.series);
        self.series.clear();
        Batch { body, size: std::mem::take(&mut self.size) }
    }
}

fn page(parts: &[Arc<Families>]) -> Page<'_> {
    Page::new(parts.iter().map(|part| &**part), &[])
}

/// A label whose name and value have numbers.
type Reference<'a> = (&'a str, u32, u32);

/// Writes the series of one scrape.
struct Pen<'e, 'a> {
    out: &'e mut Encoder,
    scrape: &'a Scrape<'a>,
    /// The labels of the target.
    target: Vec<Reference<'a>>,
    /// Those of the series that is written.
    labels: Vec<Reference<'a>>,
    /// Of the family that is written: the field `metadata`, whole.
    metadata: Vec<u8>,
    /// When its samples began to count.
    start: Option<i64>,
    text: Vec<u8>,
}

impl<'e, 'a> Pen<'e, 'a> {
    fn new(out: &'e mut Encoder, scrape: &'a Scrape<'a>) -> Self {
        let given = scrape.labels.iter().filter(|(_, value)| !value.is_empty());
        let target = given.map(|(name, value)| reference(&mut out.symbols, name, value)).collect();
        Self { out, scrape, target, labels: vec![], metadata: vec![], start: None, text: vec![] }
    }

    /// Begins a family.
    fn open(&mut self, family: &PageFamily<'_, 'a>) {
        let number = match family.kind() {
            Kind::Counter => kind::COUNTER,
            Kind::Gauge => kind::GAUGE,
            Kind::Histogram => kind::HISTOGRAM,
            Kind::Summary => kind::SUMMARY,
            Kind::Untyped => kind::UNKNOWN,
        };
        let counts = matches!(family.kind(), Kind::Counter | Kind::Histogram | Kind::Summary);
        self.start = self.scrape.since.filter(|since| counts && (1..=self.scrape.timestamp).contains(since));
        let help = self.out.symbols.number(family.help());
        self.metadata.clear();
        wire::message(&mut self.metadata, field::METADATA, |out| {
            if number != kind::UNKNOWN {
                wire::uint(out, field::TYPE, number);
            }
            if help != 0 {
                wire::uint(out, field::HELP, u64::from(help));
            }
        });
    }

    /// A family that was not there before.
    fn family(&mut self, family: &PageFamily<'_, 'a>) {
        self.open(family);
        family.for_each(|sample| self.sample(family, &sample));
    }

    /// A family of which the scrape before had series, too.
    fn family_since(&mut self, family: &PageFamily<'_, 'a>, before: &PageFamily<'_, 'a>) {
        self.open(family);
        let (now, old) = (sorted(family), sorted(before));
        let mut old = old.into_iter().peekable();
        let is_same_sort = family.kind().is_distribution() == before.kind().is_distribution();
        for sample in &now {
            while let Some(gone) = old.next_if(|old| !is_same_sort || compare(old, sample) == Ordering::Less)
            {
                self.end(before, &gone);
            }
            self.sample(family, sample);
            if let Some(same) = old.next_if(|old| compare(old, sample) == Ordering::Equal)
                && let Value::Distribution { points, .. } = sample.value()
            {
                // One that became of another kind keeps sum and count alone.
                let same_kind = family.kind() == before.kind();
                let bounds = points.iter().filter(|_| same_kind).map(|(bound, _)| bound.to_bits());
                let has_last = same_kind && family.kind() == Kind::Histogram;
                let last = has_last.then_some(f64::INFINITY.to_bits());
                self.end_points(before, &same, &bounds.chain(last).collect::<Vec<_>>());
            }
        }
        for gone in old {
            self.end(before, &gone);
        }
    }

    /// A family that is there no more.
    fn end_family(&mut self, family: &PageFamily<'_, 'a>) {
        self.open(family);
        family.for_each(|sample| self.end(family, &sample));
    }

    /// Writes a sample, or all series of a distribution.
    fn sample(&mut self, family: &PageFamily<'_, 'a>, sample: &SampleRef<'a>) {
        let name = family.name();
        match sample.value() {
            Value::Number(value) => self.series(name, sample, None, value),
            Value::Distribution { points, sum, count } => {
                let suffixed = Suffixed::of(name, family.kind());
                for (bound, value) in points.iter() {
                    self.series(&suffixed.points, sample, Some((suffixed.label, bound)), value);
                }
                if family.kind() == Kind::Histogram {
                    self.series(
                        &suffixed.points,
                        sample,
                        Some((suffixed.label, f64::INFINITY)),
                        count as f64,
                    );
                }
                self.series(&suffixed.sum, sample, None, sum);
                self.series(&suffixed.count, sample, None, count as f64);
            }
        }
    }

    /// Ends the series of a sample.
    fn end(&mut self, family: &PageFamily<'_, 'a>, sample: &SampleRef<'a>) {
        if !family.kind().is_distribution() {
            return self.end_series(family.name(), sample, None);
        }
        self.end_points(family, sample, &[]);
        let suffixed = Suffixed::of(family.name(), family.kind());
        self.end_series(&suffixed.sum, sample, None);
        self.end_series(&suffixed.count, sample, None);
    }

    /// Ends buckets or quantiles whose bounds are not among those that are kept.
    fn end_points(&mut self, family: &PageFamily<'_, 'a>, sample: &SampleRef<'a>, kept: &[u64]) {
        let Value::Distribution { points, .. } = sample.value() else { return };
        let suffixed = Suffixed::of(family.name(), family.kind());
        let last = (family.kind() == Kind::Histogram).then_some(f64::INFINITY);
        let bounds = points.iter().map(|(bound, _)| bound).chain(last);
        for bound in bounds.filter(|bound| !kept.contains(&bound.to_bits())) {
            self.end_series(&suffixed.points, sample, Some((suffixed.label, bound)));
        }
    }

    fn end_series(&mut self, name: &str, sample: &SampleRef<'a>, bound: Option<(&'static str, f64)>) {
        let start = self.start.take();
        self.series(name, sample, bound, f64::from_bits(STALE));
        self.start = start;
    }

    /// Writes one series with one sample.
    fn series(&mut self, name: &str, sample: &SampleRef<'a>, bound: Option<(&'static str, f64)>, value: f64) {
        let symbols = &mut self.out.symbols;
        self.labels.clear();
        self.labels.push(reference(symbols, "__name__", name));
        if let Some((label, bound)) = bound {
            self.text.clear();
            number::write_as_float(&mut self.text, bound);
            let bound = std::str::from_utf8(&self.text).expect("digits are text");
            self.labels.push(reference(symbols, label, bound));
        }
        let own = self.labels.len();
        for (name, value) in sample.labels() {
            self.labels.push(reference(symbols, name, value));
        }
        for label in &self.target {
            if self.labels[own..].iter().all(|(name, ..)| *name != label.0) {
                self.labels.push(*label);
            }
        }
        // An empty value is no label, and hid that of the target all the same.
        self.labels.retain(|(_, _, value)| *value != 0);
        self.labels.sort_by_key(|(name, ..)| *name);
        let (timestamp, start, labels, metadata) =
            (self.scrape.timestamp, self.start, &self.labels, &self.metadata);
        wire::message(&mut self.out.series, field::TIMESERIES, |out| {
            wire::message(out, field::LABELS, |out| {
                for (_, name, value) in labels {
                    wire::varint(out, u64::from(*name));
                    wire::varint(out, u64::from(*value));
                }
            });
            wire::message(out, field::SAMPLES, |out| {
                wire::double(out, field::VALUE, value);
                wire::uint(out, field::TIMESTAMP, timestamp as u64);
                if let Some(start) = start {
                    wire::uint(out, field::START, start as u64);
                }
            });
            out.extend_from_slice(metadata);
        });
        self.out.size.add(timestamp);
    }
}

fn reference<'a>(symbols: &mut Symbols, name: &'a str, value: &str) -> Reference<'a> {
    (name, symbols.number(name), symbols.number(value))
}

/// The samples of a family in their order, each series once.
fn sorted<'a>(family: &PageFamily<'_, 'a>) -> Vec<SampleRef<'a>> {
    let mut all = vec![];
    family.for_each(|sample| all.push(sample));
    in_order(all.into_iter(), |sample| *sample)
}

/// The names of the series of a distribution.
struct Suffixed {
    points: String,
    sum: String,
    count: String,
    label: &'static str,
}

impl Suffixed {
    fn of(name: &str, kind: Kind) -> Self {
        let (points, label) = match kind {
            Kind::Histogram => ("_bucket", "le"),
            _ => ("", "quantile"),
        };
        let [points, sum, count] = [points, "_sum", "_count"].map(|suffix| format!("{name}{suffix}"));
        Self { points, sum, count, label }
    }
}
