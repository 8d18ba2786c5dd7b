//! What becomes of a body of remote write 2.0: one of 1.0, its metadata, its parts by target, its size.
//!
//! Bodies come from a disk, so that nothing in them is believed.

use super::symbols::Symbols;
use super::{Batch, Size, field, kind};
use crate::wire;
use crate::wire::read::{Malformed, Value, fields, packed};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

const REQUEST: &str = "remote write request";
const SERIES: &str = "series of a remote write request";

/// The most labels that a series may have.
const LABELS: usize = 1024;

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
            kind::SUMMARY => &["_sum", "_count"],
            _ => &[],
        };
        suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
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
        for item in fields(request, REQUEST) {
            if let (field::SYMBOLS, Value::Bytes(text)) = item? {
                symbols.push(std::str::from_utf8(text).map_err(|_| Malformed { what: REQUEST })?);
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
        for item in fields(self.request, REQUEST) {
            if let (field::TIMESERIES, Value::Bytes(bytes)) = item? {
                self.series(bytes, &mut series)?;
                visit(&series)?;
            }
        }
        Ok(())
    }

    fn symbol(&self, number: u64) -> Result<&'a str, Malformed> {
        let number = usize::try_from(number).ok();
        number.and_then(|number| self.symbols.get(number)).copied().ok_or(Malformed { what: SERIES })
    }

    fn series(&self, bytes: &'a [u8], into: &mut Series<'a>) -> Result<(), Malformed> {
        into.labels.clear();
        into.samples.clear();
        (into.kind, into.help, into.unit) = (0, "", "");
        for item in fields(bytes, SERIES) {
            match item? {
                (field::LABELS, Value::Bytes(numbers)) => {
                    let mut numbers = packed(numbers, SERIES);
                    while let Some(name) = numbers.next() {
                        let value = numbers.next().ok_or(Malformed { what: SERIES })?;
                        if into.labels.len() == LABELS {
                            return Err(Malformed { what: SERIES });
                        }
                        into.labels.push((self.symbol(name?)?, self.symbol(value?)?));
                    }
                }
                (field::SAMPLES, Value::Bytes(sample)) => into.samples.push(read_sample(sample)?),
                (field::METADATA, Value::Bytes(metadata)) => {
                    for item in fields(metadata, SERIES) {
                        match item? {
                            (field::TYPE, Value::Varint(kind)) => into.kind = kind,
                            (field::HELP, Value::Varint(help)) => into.help = self.symbol(help)?,
                            (field::UNIT, Value::Varint(unit)) => into.unit = self.symbol(unit)?,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn read_sample(bytes: &[u8]) -> Result<(f64, i64, i64), Malformed> {
    let (mut value, mut timestamp, mut start) = (0.0, 0, 0);
    for item in fields(bytes, SERIES) {
        match item? {
            (field::VALUE, Value::Fixed64(bits)) => value = f64::from_bits(bits),
            (field::TIMESTAMP, Value::Varint(number)) => timestamp = number as i64,
            (field::START, Value::Varint(number)) => start = number as i64,
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
    let mut out = Vec::with_capacity(4 * body.len());
    Body::read(body)?.for_each(|series| {
        wire::message(&mut out, field::V1_TIMESERIES, |out| {
            for (name, value) in &series.labels {
                wire::message(out, 1, |out| {
                    wire::string(out, 1, name);
                    wire::string(out, 2, value);
                });
            }
            for (value, timestamp, _) in &series.samples {
                wire::message(out, 2, |out| {
                    wire::double(out, field::VALUE, *value);
                    wire::uint(out, field::TIMESTAMP, *timestamp as u64);
                });
            }
        });
        Ok(())
    })?;
    Ok(out)
}

/// What is known of the families of a request, as a `prometheus.WriteRequest` of 1.0 without series; empty where
/// nothing is known.
pub fn v1_metadata(body: &[u8]) -> Result<Vec<u8>, Malformed> {
    let (mut out, mut said) = (vec![], HashSet::new());
    Body::read(body)?.for_each(|series| {
        let name = series.family();
        if (series.kind, series.help, series.unit) != (kind::UNKNOWN, "", "") && said.insert(name) {
            wire::message(&mut out, field::V1_METADATA, |out| {
                wire::uint(out, field::TYPE, series.kind);
                wire::string(out, field::V1_FAMILY, name);
                wire::string(out, field::V1_HELP, series.help);
                wire::string(out, 5, series.unit);
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
    Body::read(body)?.for_each(|series| {
        let number = match numbers.entry(series.target()) {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(place) => {
                parts.push((Symbols::new(), Batch::default()));
                *place.insert(parts.len() - 1)
            }
        };
        let (symbols, batch) = &mut parts[number];
        write(symbols, &mut batch.body, series);
        series.samples.iter().for_each(|(_, timestamp, _)| batch.size.add(*timestamp));
        Ok(())
    })?;
    let whole = |(mut symbols, Batch { body: series, size }): (Symbols, Batch)| {
        let mut body = vec![];
        symbols.write(&mut body);
        body.extend_from_slice(&series);
        Batch { body, size }
    };
    Ok(parts.into_iter().map(whole).collect())
}

/// Appends a series to a request of other texts.
fn write(symbols: &mut Symbols, out: &mut Vec<u8>, series: &Series<'_>) {
    let (help, unit) = (symbols.number(series.help), symbols.number(series.unit));
    wire::message(out, field::TIMESERIES, |out| {
        wire::message(out, field::LABELS, |out| {
            for (name, value) in &series.labels {
                wire::varint(out, u64::from(symbols.number(name)));
                wire::varint(out, u64::from(symbols.number(value)));
            }
        });
        for (value, timestamp, start) in &series.samples {
            wire::message(out, field::SAMPLES, |out| {
                wire::double(out, field::VALUE, *value);
                wire::uint(out, field::TIMESTAMP, *timestamp as u64);
                if *start != 0 {
                    wire::uint(out, field::START, *start as u64);
                }
            });
        }
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
