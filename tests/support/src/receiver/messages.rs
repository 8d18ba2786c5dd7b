//! What is pushed, read with messages of our own: what checks the encoders must not share their mistakes.

use super::Received;
use prost::Message as _;

/// What a request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Remote write 1.0.
    V1,
    /// Remote write 2.0.
    V2,
    /// OTLP.
    Otlp,
}

/// What a request says.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Its samples, in order. A point of a histogram or summary of OTLP is one of its `_count`.
    pub samples: Vec<Sample>,
    /// Families that it describes: name (of 2.0: of the series), help, unit.
    pub metadata: Vec<(String, String, String)>,
    /// The symbols of 2.0.
    pub symbols: Vec<String>,
    /// The references to them, series by series.
    pub references: Vec<Vec<u32>>,
}

/// A sample of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The labels in their order, `__name__` among them; of OTLP those of the resource first.
    pub labels: Vec<(String, String)>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Message {
    /// Reads a request by its headers.
    pub(super) fn read(request: &Received) -> Result<Self, String> {
        let content = request.header("content-type").unwrap_or_default();
        let version = request.header("x-prometheus-remote-write-version").unwrap_or_default();
        if content.starts_with("application/grpc") || version.is_empty() {
            return otlp(&request.body);
        }
        if request.header("content-encoding") != Some("snappy") {
            return Err("not snappy".into());
        }
        let body =
            snap::raw::Decoder::new().decompress_vec(&request.body).map_err(|error| error.to_string())?;
        match content {
            "application/x-protobuf;proto=io.prometheus.write.v2.Request" => v2(&body),
            "application/x-protobuf" => v1(&body),
            other => Err(format!("the content type {other}")),
        }
    }
}

fn v1(body: &[u8]) -> Result<Message, String> {
    let request = V1Request::decode(body).map_err(|error| error.to_string())?;
    let mut samples = vec![];
    for series in request.timeseries {
        let labels: Vec<_> = series.labels.into_iter().map(|label| (label.name, label.value)).collect();
        samples.extend(series.samples.iter().map(|sample| Sample {
            labels: labels.clone(),
            timestamp: sample.timestamp,
            value: sample.value,
        }));
    }
    let metadata = request.metadata.into_iter().map(|own| (own.family, own.help, own.unit)).collect();
    Ok(Message { kind: Kind::V1, samples, metadata, symbols: vec![], references: vec![] })
}

fn v2(body: &[u8]) -> Result<Message, String> {
    let request = V2Request::decode(body).map_err(|error| error.to_string())?;
    let symbol = |reference: u32| {
        let found = request.symbols.get(reference as usize).cloned();
        found.ok_or_else(|| format!("no symbol {reference}"))
    };
    let (mut samples, mut metadata, mut references) = (vec![], vec![], vec![]);
    for series in &request.timeseries {
        let (pairs, []) = series.labels_refs.as_chunks::<2>() else { return Err("half a label".into()) };
        let pair = |[name, value]: &[u32; 2]| Ok((symbol(*name)?, symbol(*value)?));
        let labels = pairs.iter().map(pair).collect::<Result<Vec<_>, String>>()?;
        if let Some(own) = &series.metadata {
            let name = labels.iter().find(|(name, _)| name == "__name__").map(|(_, value)| value.clone());
            metadata.push((name.unwrap_or_default(), symbol(own.help_ref)?, symbol(own.unit_ref)?));
        }
        samples.extend(series.samples.iter().map(|sample| Sample {
            labels: labels.clone(),
            timestamp: sample.timestamp,
            value: sample.value,
        }));
        references.push(series.labels_refs.clone());
    }
    Ok(Message { kind: Kind::V2, samples, metadata, symbols: request.symbols, references })
}

fn otlp(body: &[u8]) -> Result<Message, String> {
    let request = OtlpRequest::decode(body).map_err(|error| error.to_string())?;
    let (mut samples, mut metadata) = (vec![], vec![]);
    for resource in request.resource_metrics {
        let own = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
            metadata.push((metric.name.clone(), metric.description.clone(), metric.unit.clone()));
            let numbers = metric.gauge.into_iter().chain(metric.sum).flat_map(|numbers| numbers.data_points);
            for point in numbers {
                let value = point.as_double.or(point.as_int.map(|int| int as f64)).unwrap_or(f64::NAN);
                samples.push(sample(&metric.name, &own, &point.attributes, point.time, value));
            }
            for point in metric.histogram.into_iter().flat_map(|points| points.data_points) {
                let name = format!("{}_count", metric.name);
                samples.push(sample(&name, &own, &point.attributes, point.time, point.count as f64));
            }
            for point in metric.summary.into_iter().flat_map(|points| points.data_points) {
                let name = format!("{}_count", metric.name);
                samples.push(sample(&name, &own, &point.attributes, point.time, point.count as f64));
            }
        }
    }
    Ok(Message { kind: Kind::Otlp, samples, metadata, symbols: vec![], references: vec![] })
}

fn sample(name: &str, resource: &[KeyValue], attributes: &[KeyValue], nanos: u64, value: f64) -> Sample {
    let pair = |attribute: &KeyValue| {
        let value = attribute.value.as_ref().and_then(|value| value.string_value.clone());
        (attribute.key.clone(), value.unwrap_or_default())
    };
    let mut labels: Vec<_> = resource.iter().chain(attributes).map(pair).collect();
    labels.push(("__name__".into(), name.into()));
    Sample { labels, timestamp: (nanos / 1_000_000) as i64, value }
}

#[derive(Clone, PartialEq, prost::Message)]
struct V1Request {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<V1Series>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<V1Metadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct V1Series {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<V1Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct V1Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Value {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct V1Metadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    family: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct V2Request {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<V2Series>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct V2Series {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Value>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<V2Metadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct V2Metadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint32, tag = "3")]
    help_ref: u32,
    #[prost(uint32, tag = "4")]
    unit_ref: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OtlpRequest {
    #[prost(message, repeated, tag = "1")]
    resource_metrics: Vec<ResourceMetrics>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_metrics: Vec<ScopeMetrics>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    string_value: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeMetrics {
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metric {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    description: String,
    #[prost(string, tag = "3")]
    unit: String,
    #[prost(message, optional, tag = "5")]
    gauge: Option<Numbers>,
    #[prost(message, optional, tag = "7")]
    sum: Option<Numbers>,
    #[prost(message, optional, tag = "9")]
    histogram: Option<Histogram>,
    #[prost(message, optional, tag = "11")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Numbers {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<Number>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Number {
    #[prost(message, repeated, tag = "7")]
    attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "3")]
    time: u64,
    #[prost(double, optional, tag = "4")]
    as_double: Option<f64>,
    #[prost(sfixed64, optional, tag = "6")]
    as_int: Option<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Histogram {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<HistogramPoint>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HistogramPoint {
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "3")]
    time: u64,
    #[prost(fixed64, tag = "4")]
    count: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<SummaryPoint>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SummaryPoint {
    #[prost(message, repeated, tag = "7")]
    attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "3")]
    time: u64,
    #[prost(fixed64, tag = "4")]
    count: u64,
}
