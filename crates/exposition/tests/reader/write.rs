//! The messages of remote write, derived from the field numbers of the two specifications.

use prost::Message;
use std::collections::BTreeSet;

/// Names and values of labels.
pub type Labels = Vec<(String, String)>;

/// Name and labels in their order, the bits of the value, timestamp, start timestamp.
pub type Line = (Labels, u64, i64, i64);

/// A request of 2.0 and what it says, after all that holds for every request was looked at: the empty symbol comes
/// first, every symbol is there once and is referred to; labels have names and values, are sorted by name, each once;
/// nothing began after it was said. What has no samples has no bytes.
pub fn checked(body: &[u8]) -> (Request, Vec<Line>) {
    let request = Request::decode(body).expect("a request");
    if body.is_empty() {
        return (request, vec![]);
    }
    assert_eq!(request.symbols.first().map(String::as_str), Some(""));
    assert_ne!(request.timeseries, []);
    let mut used = BTreeSet::from([0]);
    let mut lines = vec![];
    for series in &request.timeseries {
        assert_eq!(series.labels_refs.len() % 2, 0);
        let text = |number: u32| request.symbols[number as usize].clone();
        let pairs = series.labels_refs.chunks(2);
        let labels: Labels = pairs.map(|pair| (text(pair[0]), text(pair[1]))).collect();
        assert!(labels.is_sorted_by(|a, b| a.0 < b.0), "{labels:?}");
        assert!(labels.iter().all(|(name, value)| !name.is_empty() && !value.is_empty()), "{labels:?}");
        assert!(labels.iter().any(|(name, _)| name == "__name__"), "{labels:?}");
        used.extend(&series.labels_refs);
        let metadata = series.metadata.as_ref().expect("metadata");
        assert!((0..8).contains(&metadata.kind));
        used.extend([metadata.help_ref, metadata.unit_ref]);
        assert_ne!(series.samples, []);
        assert_eq!(series.created_timestamp, 0);
        for sample in &series.samples {
            assert!(sample.start_timestamp <= sample.timestamp);
            lines.push((labels.clone(), sample.value.to_bits(), sample.timestamp, sample.start_timestamp));
        }
    }
    let distinct: BTreeSet<_> = request.symbols.iter().collect();
    assert_eq!(distinct.len(), request.symbols.len());
    assert!(used.into_iter().eq(0..request.symbols.len() as u32), "{:?}", request.symbols);
    (request, lines)
}

/// `io.prometheus.write.v2.Request`.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    #[prost(string, repeated, tag = "4")]
    pub symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    #[prost(message, optional, tag = "5")]
    pub metadata: Option<Metadata>,
    /// Of before 2.0-rc.4; reserved by now.
    #[prost(int64, tag = "6")]
    pub created_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
    #[prost(int64, tag = "3")]
    pub start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(uint32, tag = "3")]
    pub help_ref: u32,
    #[prost(uint32, tag = "4")]
    pub unit_ref: u32,
}

/// `prometheus.WriteRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<V1TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    pub metadata: Vec<V1Metadata>,
}

#[derive(Clone, PartialEq, Message)]
pub struct V1TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Label {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct V1Metadata {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(string, tag = "2")]
    pub metric_family_name: String,
    #[prost(string, tag = "4")]
    pub help: String,
    #[prost(string, tag = "5")]
    pub unit: String,
}
