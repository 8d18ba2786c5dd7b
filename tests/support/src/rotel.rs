//! A real receiver of OTLP, over gRPC and over HTTP: `rotel`, which writes down every field of all that it gets.
//!
//! What a newcomer would get wrong: what it passes on says less. It says yes first and sends later, and of what it sent to
//! a VictoriaMetrics single samples were missing that it had written down itself.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Labels, Part, Port, Process, Sample, wait_until};

/// A running rotel. It ends when this is dropped.
#[derive(Debug)]
pub struct Rotel {
    grpc: Port,
    http: Port,
    process: Process,
    _folder: tempfile::TempDir,
}

impl Rotel {
    /// Starts one on free ports.
    pub fn start() -> Self {
        let (grpc, http) = (Port::take(), Port::take());
        let folder = tempfile::tempdir().expect("a folder");
        let args = [
            "start".to_owned(),
            format!("--otlp-grpc-endpoint=127.0.0.1:{}", grpc.number()),
            format!("--otlp-http-endpoint=127.0.0.1:{}", http.number()),
            format!("--pid-file={}", folder.path().join("pid").display()),
            format!("--log-file={}", folder.path().join("log").display()),
            "--exporter=blackhole".to_owned(),
            "--debug-log=metrics".to_owned(),
            "--debug-log-verbosity=detailed".to_owned(),
        ];
        let mut process = Process::start(&Part::Rotel.path(), &args, &[]);
        for port in [&grpc, &http] {
            wait_until("rotel to listen", Duration::from_secs(15), || {
                assert!(process.status().is_none(), "rotel ended: {}{}", process.stdout(), process.stderr());
                std::net::TcpStream::connect(("127.0.0.1", port.number())).is_ok()
            });
        }
        Self { grpc, http, process, _folder: folder }
    }

    /// Its port for OTLP by gRPC.
    pub fn grpc_port(&self) -> u16 {
        self.grpc.number()
    }

    /// Its port for OTLP by HTTP.
    pub fn http_port(&self) -> u16 {
        self.http.number()
    }

    /// All that it has written down: every field of every metric, as text.
    pub fn written(&self) -> String {
        self.process.stdout()
    }

    /// The data points of gauges and sums that it has written down, in the order in which they came. Labels are
    /// `__name__`, the attributes of the resource and those of the point.
    pub fn samples(&self) -> BTreeMap<Labels, Vec<Sample>> {
        read(&self.written())
    }
}

/// Whose attributes are being read.
enum Place {
    Resource,
    Metric,
    Point,
}

fn read(written: &str) -> BTreeMap<Labels, Vec<Sample>> {
    let mut found: BTreeMap<Labels, Vec<Sample>> = BTreeMap::new();
    let (mut resource, mut point, mut name, mut at) = (Labels::new(), Labels::new(), "", 0);
    let mut place = Place::Metric;
    for line in written.lines() {
        if line.starts_with("ResourceMetrics #") {
            resource.clear();
            place = Place::Resource;
        } else if line.starts_with("ScopeMetrics #") || line.starts_with("Metric #") {
            place = Place::Metric;
        } else if line.starts_with("NumberDataPoints #") {
            point.clear();
            place = Place::Point;
        } else if line.starts_with("HistogramDataPoints #") || line.starts_with("SummaryDataPoints #") {
            place = Place::Metric;
        } else if let Some((key, value)) =
            line.strip_prefix("     -> ").and_then(|line| line.split_once(": "))
        {
            let word = value.strip_prefix("Str(").and_then(|word| word.strip_suffix(')')).unwrap_or(value);
            match (&place, key) {
                (Place::Resource, key) => drop(resource.insert(key.to_owned(), word.to_owned())),
                (Place::Point, key) => drop(point.insert(key.to_owned(), word.to_owned())),
                (Place::Metric, "Name") => name = value,
                (Place::Metric, _) => {}
            }
        } else if let Some(nanoseconds) = line.strip_prefix("Timestamp: ") {
            at = nanoseconds.parse::<i64>().expect("a time") / 1_000_000;
        } else if let (Some(value), Place::Point) = (line.strip_prefix("Value: "), &place) {
            let mut labels = resource.clone();
            labels.append(&mut point);
            labels.insert("__name__".to_owned(), name.to_owned());
            let value = value.parse().unwrap_or(f64::NAN);
            found.entry(labels).or_default().push(Sample { at, value });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_with_the_attributes_of_their_resource() {
        let written = "ResourceMetrics #0\nResource SchemaURL: \nResource attributes:\n     -> service.name: Str(j)\n\
                       ScopeMetrics #0\nScopeMetrics SchemaURL: \nInstrumentationScope x \nMetric #0\nDescriptor:\n     \
                       -> Name: a\n     -> Description: What: it is.\n     -> Unit: \n     -> DataType: Sum\n\
                       NumberDataPoints #0\nData point attributes:\n     -> db: Str(db0)\nStartTimestamp: 1\n\
                       Timestamp: 1764554400000000000\nValue: 7\nNumberDataPoints #1\nStartTimestamp: 1\n\
                       Timestamp: 1764554400001000000\nValue: 2.5\nMetric #1\nDescriptor:\n     -> Name: b\n\
                       HistogramDataPoints #0\nTimestamp: 1\nSum: 1\n";
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Labels>()
        };
        let expected = [
            (
                labels(&[("__name__", "a"), ("db", "db0"), ("service.name", "j")]),
                vec![Sample { at: 1_764_554_400_000, value: 7.0 }],
            ),
            (
                labels(&[("__name__", "a"), ("service.name", "j")]),
                vec![Sample { at: 1_764_554_400_001, value: 2.5 }],
            ),
        ];
        assert_eq!(read(written), BTreeMap::from(expected));
    }
}
