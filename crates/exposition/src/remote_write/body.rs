//! What becomes of a body of remote write 2.0: one of 1.0, its metadata, its parts by target, its size.
//!
//! Bodies come from a disk, so that nothing in them is believed: what is not understood is an error rather than left
//! out (but for fields that nobody knows), and a table of texts that a few bytes refer to again and again does not
//! fill the memory.

use super::symbols::Symbols;
use super::{Batch, Size, field, kind};
use crate::wire;
use crate::wire::read::{Fields, Malformed, Value, fields, packed};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

const REQUEST: &str = "a field of the request is malformed";
const SERIES: &str = "a field of a series is malformed";

/// The most labels that a series may have.
const MOST_LABELS: usize = 1024;

/// The most that a body becomes, in bytes. What a queue holds stays far below it.
const LARGEST: usize = 128 << 20;

/// A request whose texts are known.
pub(crate) struct Body<'a> {
    request: &'a [u8],
    symbols: Vec<&'a str>,
}

/// A series of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series<'a> {
    /// Names and values.
    pub labels: Vec<(&'a str, &'a str)>,
    /// Value, timestamp and start timestamp, or 0.
    pub samples: Vec<(f64, i64, i64)>,
    /// The number of its kind.
    pub kind: u64,
    /// Its help.
    pub help: &'a str,
    /// Its unit.
    pub unit: &'a str,
    /// Where in the request it ends.
    end: usize,
}

impl<'a> Series<'a> {
    /// The value of a label; empty where there is none.
    pub fn label(&self, wanted: &str) -> &'a str {
        self.labels.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| value)
    }

    /// The name of its family: its own without what the series of a distribution have more.
    pub fn family(&self) -> &'a str {
        let name = self.label("__name__");
        let suffixes: &[&str] = match self.kind {
            kind::HISTOGRAM => &["_bucket", "_sum", "_count"],
            kind::SUMMARY if self.label("quantile").is_empty() => &["_sum", "_count"],
            _ => &[],
        };
        suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
    }

    /// An error if what is `made` would become too much with another message of this series, its texts `times` in it.
    pub fn has_room(&self, made: usize, times: usize) -> Result<(), Malformed> {
        // No message has more bytes than these around a text or a sample.
        const AROUND: usize = 64;
        let labels = self.labels.iter().map(|(name, value)| name.len() + value.len() + AROUND);
        let texts = labels.sum::<usize>() + self.help.len() + self.unit.len() + AROUND;
        let more = texts.saturating_mul(times).saturating_add(self.samples.len().saturating_mul(AROUND));
        match made.saturating_add(more) > LARGEST {
            true => Err(Malformed { what: "what becomes of the request is too large", at: self.end }),
            false => Ok(()),
        }
    }

    /// Whose it is.
    fn target(&self) -> [&'a str; 3] {
        ["job", "service", "instance"].map(|name| self.label(name))
    }
}

impl<'a> Body<'a> {
    /// Reads the table of texts.
    pub fn read(request: &'a [u8]) -> Result<Self, Malformed> {
        let mut symbols = vec![];
        let mut all = fields(request, request.len(), REQUEST);
        while let Some(item) = all.next() {
            match item? {
                (field::SYMBOLS, Value::Bytes(text)) => {
                    let text = std::str::from_utf8(text).map_err(|_| all.malformed("a symbol is no text"))?;
                    if symbols.is_empty() && !text.is_empty() {
                        return Err(all.malformed("the first symbol is not the empty one"));
                    }
                    symbols.push(text);
                }
                (field::SYMBOLS | field::TIMESERIES, value) if !matches!(value, Value::Bytes(_)) => {
                    return Err(all.malformed(REQUEST));
                }
                _ => {}
            }
        }
        Ok(Self { request, symbols })
    }

    /// Reads series after series into the same place, and shows each.
    pub fn for_each(
        &self,
        mut visit: impl FnMut(&Series<'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let mut series = Series::default();
        let mut all = fields(self.request, self.request.len(), REQUEST);
        while let Some(item) = all.next() {
            if let (field::TIMESERIES, Value::Bytes(bytes)) = item? {
                self.series(bytes, all.at(), &mut series)?;
                visit(&series)?;
            }
        }
        Ok(())
    }

    fn symbol(&self, number: u64, at: usize) -> Result<&'a str, Malformed> {
        let known = usize::try_from(number).ok().and_then(|number| self.symbols.get(number));
        known.copied().ok_or(Malformed { what: "there is no symbol of that number", at })
    }

    fn series(&self, bytes: &'a [u8], end: usize, into: &mut Series<'a>) -> Result<(), Malformed> {
        into.labels.clear();
        into.samples.clear();
        (into.kind, into.help, into.unit, into.end) = (0, "", "", end);
        let mut all = fields(bytes, end, SERIES);
        while let Some(item) = all.next() {
            match item? {
                (field::LABELS, Value::Bytes(numbers)) => self.labels(numbers, &all, &mut into.labels)?,
                (field::SAMPLES, Value::Bytes(sample)) => into.samples.push(sample_of(sample, all.at())?),
                (field::METADATA, Value::Bytes(metadata)) => self.metadata(metadata, all.at(), into)?,
                (field::LABELS | field::SAMPLES | field::METADATA, _) => return Err(all.malformed(SERIES)),
                _ => {}
            }
        }
        Ok(())
    }

    fn labels(
        &self,
        numbers: &[u8],
        all: &Fields<'a>,
        into: &mut Vec<(&'a str, &'a str)>,
    ) -> Result<(), Malformed> {
        let mut numbers = packed(numbers, all.at(), "the number of a label is malformed");
        while let Some(name) = numbers.next() {
            let name = self.symbol(name?, all.at())?;
            let value = numbers.next().ok_or_else(|| all.malformed("a label has no value"))??;
            if into.len() == MOST_LABELS {
                return Err(all.malformed("a series has too many labels"));
            }
            into.push((name, self.symbol(value, all.at())?));
        }
        Ok(())
    }

    fn metadata(&self, bytes: &'a [u8], end: usize, into: &mut Series<'a>) -> Result<(), Malformed> {
        let mut all = fields(bytes, end, SERIES);
        while let Some(item) = all.next() {
            match item? {
                (field::TYPE, Value::Varint(kind)) => into.kind = kind,
                (field::HELP, Value::Varint(help)) => into.help = self.symbol(help, all.at())?,
                (field::UNIT, Value::Varint(unit)) => into.unit = self.symbol(unit, all.at())?,
                (field::TYPE | field::HELP | field::UNIT, _) => return Err(all.malformed(SERIES)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn sample_of(bytes: &[u8], end: usize) -> Result<(f64, i64, i64), Malformed> {
    let (mut value, mut timestamp, mut start) = (0.0, 0, 0);
    let mut all = fields(bytes, end, "a field of a sample is malformed");
    while let Some(item) = all.next() {
        match item? {
            (field::VALUE, Value::Fixed64(bits)) => value = f64::from_bits(bits),
            (field::TIMESTAMP, Value::Varint(number)) => timestamp = number as i64,
            (field::START, Value::Varint(number)) => start = number as i64,
            (field::VALUE | field::TIMESTAMP | field::START, _) => {
                return Err(all.malformed("a number of a sample is of another type"));
            }
            _ => {}
        }
    }
    Ok((value, timestamp, start))
}

/// How much is in a request.
pub fn count(body: &[u8]) -> Result<Size, Malformed> {
    let mut size = Size::default();
    Body::read(body)?.for_each(|series| {
        series.samples.iter().for_each(|(_, timestamp, _)| size.add(*timestamp));
        Ok(())
    })?;
    Ok(size)
}

/// The same as a `prometheus.WriteRequest` of 1.0, without metadata.
pub fn to_v1(body: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::with_capacity(body.len().saturating_mul(4).min(LARGEST));
    Body::read(body)?.for_each(|series| {
        series.has_room(out.len(), 1)?;
        let label_len = |(name, value): &(&str, &str)| {
            [name, value]
                .map(|text| 1 + wire::varint_len(text.len() as u64) + text.len())
                .iter()
                .sum::<usize>()
        };
        let labels = series.labels.iter().map(label_len).map(|len| 1 + wire::varint_len(len as u64) + len);
        let samples = series.samples.iter().map(|sample| 2 + v1_sample_len(sample));
        // Lengths come before contents, and all of them are known.
        wire::head(&mut out, field::V1_TIMESERIES, labels.chain(samples).sum());
        for label in &series.labels {
            wire::head(&mut out, 1, label_len(label));
            wire::string(&mut out, 1, label.0);
            wire::string(&mut out, 2, label.1);
        }
        for sample in &series.samples {
            wire::head(&mut out, 2, v1_sample_len(sample));
            wire::double(&mut out, field::VALUE, sample.0);
            wire::uint(&mut out, field::TIMESTAMP, sample.1 as u64);
        }
        Ok(())
    })?;
    Ok(out)
}

/// How long a sample of 1.0 is: below 128 bytes.
fn v1_sample_len((_, timestamp, _): &(f64, i64, i64)) -> usize {
    9 + 1 + wire::varint_len(*timestamp as u64)
}

/// What is known of the families of a request, as a `prometheus.WriteRequest` of 1.0 without series; empty where
/// nothing is known.
pub fn v1_metadata(body: &[u8]) -> Result<Vec<u8>, Malformed> {
    let (mut out, mut said) = (vec![], HashSet::new());
    Body::read(body)?.for_each(|series| {
        let name = series.family();
        if (series.kind, series.help, series.unit) != (kind::UNKNOWN, "", "") && said.insert(name) {
            series.has_room(out.len(), 1)?;
            wire::message(&mut out, field::V1_METADATA, |out| {
                wire::uint(out, field::TYPE, series.kind);
                wire::string(out, field::V1_FAMILY, name);
                wire::string(out, field::V1_HELP, series.help);
                wire::string(out, field::V1_UNIT, series.unit);
            });
        }
        Ok(())
    })?;
    Ok(out)
}

/// A request for each target, in the order of their first series: by the labels `job`, `service` and `instance`.
pub fn split_by_target(body: &[u8]) -> Result<Vec<Batch>, Malformed> {
    let mut numbers = HashMap::new();
    let mut parts: Vec<(Symbols, Batch)> = vec![];
    let mut made = 0;
    Body::read(body)?.for_each(|series| {
        series.has_room(made, 1)?;
        let number = match numbers.entry(series.target()) {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(place) => {
                parts.push((Symbols::default(), Batch::default()));
                *place.insert(parts.len() - 1)
            }
        };
        let (symbols, batch) = &mut parts[number];
        let before = symbols.size() + batch.body.len();
        write(symbols, &mut batch.body, series);
        made += symbols.size() + batch.body.len() - before;
        series.samples.iter().for_each(|(_, timestamp, _)| batch.size.add(*timestamp));
        Ok(())
    })?;
    let whole = |(mut symbols, Batch { body: series, size }): (Symbols, Batch)| {
        let mut body = Vec::with_capacity(symbols.size() + series.len());
        symbols.write(&mut body);
        body.extend_from_slice(&series);
        Batch { body, size }
    };
    Ok(parts.into_iter().map(whole).collect())
}

/// Appends a series to a request of other texts.
fn write(symbols: &mut Symbols, out: &mut Vec<u8>, series: &Series<'_>) {
    wire::message(out, field::TIMESERIES, |out| {
        wire::message(out, field::LABELS, |out| {
            for (name, value) in &series.labels {
                wire::varint(out, u64::from(symbols.number(name)));
                wire::varint(out, u64::from(symbols.number(value)));
            }
        });
        for (value, timestamp, start) in &series.samples {
            wire::message(out, field::SAMPLES, |out| {
                if value.to_bits() != 0 {
                    wire::double(out, field::VALUE, *value);
                }
                for (number, value) in [(field::TIMESTAMP, *timestamp), (field::START, *start)] {
                    if value != 0 {
                        wire::uint(out, number, value as u64);
                    }
                }
            });
        }
        let (help, unit) = (symbols.number(series.help), symbols.number(series.unit));
        wire::message(out, field::METADATA, |out| {
            for (number, value) in
                [(field::TYPE, series.kind), (field::HELP, u64::from(help)), (field::UNIT, u64::from(unit))]
            {
                if value != 0 {
                    wire::uint(out, number, value);
                }
            }
        });
    });
}
