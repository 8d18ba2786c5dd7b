//! Bodies of Prometheus remote write: 2.0 from families, and 1.0 from 2.0.
//!
//! <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>,
//! <https://prometheus.io/docs/specs/prw/remote_write_spec/>
//!
//! - [`Encoder`] gathers scrapes of many targets into one `io.prometheus.write.v2.Request`
//! - [`to_v1`], [`v1_metadata`], [`split_by_target`] and [`count`] make something else of such a body
//!
//! All of it is a function of what it is given: the same scrapes make the same bytes, and the same body makes the same
//! request, today and after a crash.
//!
//! Where the start timestamp stands: up to 2.0-rc.3 it was `TimeSeries.created_timestamp` (6), since 2.0-rc.4 and in the
//! final 2.0 it is `Sample.start_timestamp` (3) and 6 is reserved. Only the latter is sent.
//!
//! | receiver | reads | with what we send |
//! |---|---|---|
//! | Prometheus 3.8 and newer | `Sample` 3 | has it |
//! | Prometheus 3.0 to 3.7 | `TimeSeries` 6, only with `--enable-feature=created-timestamp-zero-ingestion` | has all samples, and no zero at the start of a counter |
//! | older receivers of 2.0 | neither, or 6 | have all samples; a field that they do not know is passed over |
//!
//! Sending both would cost every series some ten bytes, in a field that the specification reserves by now, for what is
//! behind a flag in versions that are ending.
//!
//! What a newcomer would get wrong: histograms and summaries go as classic series (`_bucket`, `_sum`, `_count`), which
//! every receiver knows; a sample here is one of those.

mod body;
mod encoder;
mod symbols;

pub use crate::wire::read::Malformed;
pub(crate) use body::{Body, Series};
pub use body::{count, split_by_target, to_v1, v1_metadata};
pub use encoder::{Encoder, Scrape};

/// The value of a sample that says that its series ends here: a NaN of its own.
/// <https://prometheus.io/docs/specs/prw/remote_write_spec/#stale-markers>
pub const STALE: u64 = 0x7ff0_0000_0000_0002;

/// A request, or a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// `io.prometheus.write.v2.Request`, not compressed.
    pub body: Vec<u8>,
    /// What is in it.
    pub size: Size,
}

/// How much is in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Samples.
    pub samples: u32,
    /// The time of the oldest, in milliseconds since 1970.
    pub min_timestamp: i64,
    /// The time of the newest, in milliseconds since 1970.
    pub max_timestamp: i64,
}

impl Default for Size {
    fn default() -> Self {
        Self { samples: 0, min_timestamp: i64::MAX, max_timestamp: i64::MIN }
    }
}

impl Size {
    /// Counts one more sample.
    pub(crate) fn add(&mut self, timestamp: i64) {
        self.samples = self.samples.saturating_add(1);
        self.min_timestamp = self.min_timestamp.min(timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }
}

/// The numbers of the fields of the messages. 2.0 first.
pub(crate) mod field {
    /// `Request.symbols`.
    pub const SYMBOLS: u32 = 4;
    /// `Request.timeseries`.
    pub const TIMESERIES: u32 = 5;
    /// `TimeSeries.labels_refs`.
    pub const LABELS: u32 = 1;
    /// `TimeSeries.samples`.
    pub const SAMPLES: u32 = 2;
    /// `TimeSeries.metadata`.
    pub const METADATA: u32 = 5;
    /// `Sample.value`; the same in 1.0.
    pub const VALUE: u32 = 1;
    /// `Sample.timestamp`; the same in 1.0.
    pub const TIMESTAMP: u32 = 2;
    /// `Sample.start_timestamp`, as it is since 2.0-rc.4. See the head of this file.
    pub const START: u32 = 3;
    /// `Metadata.type`; the same in 1.0.
    pub const TYPE: u32 = 1;
    /// `Metadata.help_ref`.
    pub const HELP: u32 = 3;
    /// `Metadata.unit_ref`.
    pub const UNIT: u32 = 4;
    /// 1.0: `WriteRequest.timeseries`.
    pub const V1_TIMESERIES: u32 = 1;
    /// 1.0: `WriteRequest.metadata`.
    pub const V1_METADATA: u32 = 3;
    /// 1.0: `MetricMetadata.metric_family_name`.
    pub const V1_FAMILY: u32 = 2;
    /// 1.0: `MetricMetadata.help`.
    pub const V1_HELP: u32 = 4;
    /// 1.0: `MetricMetadata.unit`.
    pub const V1_UNIT: u32 = 5;
}

/// The number of a kind in the enum `MetricType`, which is the same in both versions.
pub(crate) mod kind {
    /// Not known.
    pub const UNKNOWN: u64 = 0;
    /// A counter.
    pub const COUNTER: u64 = 1;
    /// A gauge.
    pub const GAUGE: u64 = 2;
    /// A histogram.
    pub const HISTOGRAM: u64 = 3;
    /// A summary.
    pub const SUMMARY: u64 = 5;
}
