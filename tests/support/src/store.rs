//! Real servers that take samples and can be asked what they have: Prometheus and VictoriaMetrics.
//!
//! A store keeps its port and its folder when it is stopped or killed, so that it comes back as the same server.
//! What it has is read sample by sample. What a newcomer would get wrong: neither shows stale markers as samples; a
//! marker is seen by a query for *now*, which finds nothing after it.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::http::{self, Request, Response};
use crate::{Part, Port, Process, wait_until};

/// How long a store may take to be ready, or to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long VictoriaMetrics may keep to itself what it took.
const SETTLES: Duration = Duration::from_secs(3);

/// Labels of a series, `__name__` among them.
pub type Labels = BTreeMap<String, String>;

/// A sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// What.
    pub value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Prometheus(Part),
    VictoriaMetrics,
}

/// What a store is started with.
#[derive(Debug)]
pub struct StoreBuilder {
    kind: Kind,
    window: Option<String>,
    args: Vec<String>,
}

impl StoreBuilder {
    /// Takes samples that are this much older than the newest, such as `10m`; Prometheus alone needs that.
    pub fn out_of_order(mut self, window: &str) -> Self {
        self.window = Some(window.to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Starts it on a free port, with an empty folder; returns when it is ready.
    pub fn start(self) -> Store {
        let mut store = self.prepare();
        store.start();
        store
    }

    /// The same, not started: nobody listens on its port yet.
    pub fn prepare(self) -> Store {
        let folder = tempfile::tempdir().expect("a folder");
        let port = Port::take();
        let data = folder.path().join("data").display().to_string();
        let (part, mut args) = match self.kind {
            Kind::Prometheus(part) => {
                let storage = match &self.window {
                    Some(window) => {
                        format!("storage: {{ tsdb: {{ out_of_order_time_window: {window} }} }}\n")
                    }
                    None => String::new(),
                };
                let file = folder.path().join("prometheus.yml");
                fs::write(&file, format!("global: {{ scrape_interval: 1h }}\n{storage}")).expect("written");
                let args = vec![
                    format!("--config.file={}", file.display()),
                    format!("--storage.tsdb.path={data}"),
                    format!("--web.listen-address=127.0.0.1:{}", port.number()),
                    "--web.enable-remote-write-receiver".to_owned(),
                    "--log.level=info".to_owned(),
                ];
                (part, args)
            }
            Kind::VictoriaMetrics => {
                let args = vec![
                    format!("-storageDataPath={data}"),
                    format!("-httpListenAddr=127.0.0.1:{}", port.number()),
                    "-search.latencyOffset=0s".to_owned(),
                    "-retentionPeriod=1y".to_owned(),
                    "-memory.allowedBytes=128MiB".to_owned(),
                ];
                (Part::VictoriaMetrics, args)
            }
        };
        args.extend(self.args);
        Store { kind: self.kind, part, args, port, process: None, _folder: folder }
    }
}

/// A store. It ends when this is dropped.
#[derive(Debug)]
pub struct Store {
    kind: Kind,
    part: Part,
    args: Vec<String>,
    port: Port,
    process: Option<Process>,
    _folder: TempDir,
}

impl Store {
    /// Begins to describe a Prometheus of this version.
    pub fn prometheus(part: Part) -> StoreBuilder {
        StoreBuilder { kind: Kind::Prometheus(part), window: None, args: Vec::new() }
    }

    /// Begins to describe a VictoriaMetrics.
    pub fn victoria_metrics() -> StoreBuilder {
        StoreBuilder { kind: Kind::VictoriaMetrics, window: None, args: Vec::new() }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Where it takes remote write.
    pub fn write_url(&self) -> String {
        format!("http://127.0.0.1:{}/api/v1/write", self.port())
    }

    /// Where it takes OTLP by HTTP: VictoriaMetrics alone.
    pub fn otlp_url(&self) -> String {
        format!("http://127.0.0.1:{}/opentelemetry/v1/metrics", self.port())
    }

    /// Starts it, anew or again, and waits until it is ready.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut process = Process::start(&self.part.path(), &self.args, &[]);
        let path = match self.kind {
            Kind::Prometheus(_) => "/-/ready",
            Kind::VictoriaMetrics => "/health",
        };
        wait_until(&format!("{} to be ready", self.part.name()), PATIENCE, || {
            assert!(process.status().is_none(), "{} ended: {}", self.part.name(), process.stderr());
            self.try_get(path).is_some_and(|response| response.status == 200)
        });
        self.process = Some(process);
    }

    /// Ends it in good order (SIGTERM); nobody listens on its port then.
    pub fn stop(&mut self) {
        self.process.take().expect("it runs").stop();
    }

    /// Ends it as a crash would (SIGKILL).
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// Its process, for signals.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// What it has logged since it was started last.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::stderr).unwrap_or_default()
    }

    fn try_get(&self, path: &str) -> Option<Response> {
        http::send(self.port(), None, Request::get(path, &[]), PATIENCE).ok()
    }

    fn get(&self, path: &str) -> Response {
        let response = self.try_get(path).unwrap_or_else(|| panic!("{} does not answer", self.part.name()));
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response
    }

    /// Writes samples of a series, by remote write 1.0; the status of the answer.
    pub fn write(&self, labels: &Labels, samples: &[Sample]) -> u16 {
        let headers = [
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ];
        let body = request(labels, samples);
        let request = Request { method: "POST", path: "/api/v1/write", headers: &headers, body: &body };
        http::send(self.port(), None, request, PATIENCE).expect("an answer").status
    }

    /// All that it has of the series that this selector finds, such as `{job="redvigil"}`: the samples of the last
    /// two hours, in the order of their time. No stale markers.
    pub fn samples(&self, selector: &str) -> BTreeMap<Labels, Vec<Sample>> {
        match self.kind {
            Kind::Prometheus(_) => {
                let path = format!("/api/v1/query?query={}", encoded(&format!("{selector}[2h]")));
                let answer: Value = serde_json::from_str(self.get(&path).text()).expect("JSON");
                read_matrix(&answer)
            }
            Kind::VictoriaMetrics => self.settled(|| {
                self.get("/internal/force_flush");
                let answer = self.get(&format!("/api/v1/export?match[]={}", encoded(selector)));
                answer.text().lines().map(read_exported).collect()
            }),
        }
    }

    /// What VictoriaMetrics shows once nothing more comes: what it took in the last seconds is not always shown yet,
    /// whatever it is asked to flush.
    fn settled(&self, read: impl Fn() -> BTreeMap<Labels, Vec<Sample>>) -> BTreeMap<Labels, Vec<Sample>> {
        let mut before = read();
        for _ in 0..10 {
            thread::sleep(SETTLES);
            let shown = read();
            let count = |all: &BTreeMap<Labels, Vec<Sample>>| all.values().map(Vec::len).sum::<usize>();
            if count(&shown) == count(&before) {
                return shown;
            }
            before = shown;
        }
        panic!("VictoriaMetrics on port {} shows more and more", self.port());
    }

    /// The samples that an instant query finds now: what has ended is not among them.
    pub fn now(&self, query: &str) -> BTreeMap<Labels, f64> {
        if self.kind == Kind::VictoriaMetrics {
            self.get("/internal/force_flush");
        }
        let answer = self.get(&format!("/api/v1/query?query={}", encoded(query)));
        let answer: Value = serde_json::from_str(answer.text()).expect("JSON");
        let found = answer["data"]["result"].as_array().expect("a vector");
        found.iter().map(|one| (read_labels(&one["metric"]), read_value(&one["value"][1]))).collect()
    }

    /// What it says of a metric family: `(type, help, unit)`, or nothing where it knows none. Prometheus alone.
    pub fn metadata(&self, family: &str) -> Option<(String, String, String)> {
        let answer = self.get(&format!("/api/v1/metadata?metric={family}"));
        let answer: Value = serde_json::from_str(answer.text()).expect("JSON");
        let first = answer["data"].get(family)?.get(0)?.clone();
        let word = |name: &str| first[name].as_str().unwrap_or_default().to_owned();
        Some((word("type"), word("help"), word("unit")))
    }
}

/// A request of remote write 1.0, written by hand: the message, and around it Snappy's block format with nothing but
/// literals.
fn request(labels: &Labels, samples: &[Sample]) -> Vec<u8> {
    fn number(mut number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }
    let field = |tag: u8, body: &[u8]| [&[tag], &number(body.len() as u64)[..], body].concat();
    let mut series = Vec::new();
    for (name, value) in labels {
        let pair = [field(0x0a, name.as_bytes()), field(0x12, value.as_bytes())].concat();
        series.extend(field(0x0a, &pair));
    }
    for sample in samples {
        let at = number(sample.at.cast_unsigned());
        series.extend(field(0x12, &[&[0x09][..], &sample.value.to_le_bytes(), &[0x10], &at].concat()));
    }
    let body = field(0x0a, &series);
    let mut packed = number(body.len() as u64);
    for piece in body.chunks(60) {
        packed.push((piece.len() as u8 - 1) << 2);
        packed.extend_from_slice(piece);
    }
    packed
}

fn encoded(text: &str) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(b).to_string(),
        _ => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn read_labels(labels: &Value) -> Labels {
    let labels = labels.as_object().expect("labels");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    labels.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// A number, as text or as a number; `null` is not a number.
fn read_value(value: &Value) -> f64 {
    match value {
        Value::String(text) => match text.as_str() {
            "+Inf" | "Infinity" => f64::INFINITY,
            "-Inf" | "-Infinity" => f64::NEG_INFINITY,
            text => text.parse().expect("a number"),
        },
        value => value.as_f64().unwrap_or(f64::NAN),
    }
}

/// The answer of Prometheus to a range selector: times in seconds, with three places.
fn read_matrix(answer: &Value) -> BTreeMap<Labels, Vec<Sample>> {
    assert_eq!(answer["status"], "success", "{answer}");
    let sample = |pair: &Value| {
        let seconds = pair[0].as_f64().expect("a time");
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds of this century fit")]
        let at = (seconds * 1000.0).round() as i64;
        Sample { at, value: read_value(&pair[1]) }
    };
    let series = |series: &Value| {
        let values = series["values"].as_array().expect("samples");
        (read_labels(&series["metric"]), values.iter().map(sample).collect())
    };
    answer["data"]["result"].as_array().expect("a matrix").iter().map(series).collect()
}

/// A line of what VictoriaMetrics exports: values beside times in milliseconds.
fn read_exported(line: &str) -> (Labels, Vec<Sample>) {
    let series: Value = serde_json::from_str(line).expect("JSON");
    let values = series["values"].as_array().expect("values");
    let times = series["timestamps"].as_array().expect("times");
    assert_eq!(values.len(), times.len(), "{line}");
    let pairs = times.iter().zip(values);
    let samples =
        pairs.map(|(at, value)| Sample { at: at.as_i64().expect("a time"), value: read_value(value) });
    let mut samples: Vec<Sample> = samples.collect();
    samples.sort_by_key(|sample| sample.at);
    (read_labels(&series["metric"]), samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_read_with_its_milliseconds() {
        let answer = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"__name__":"a","b":"c"},"values":[[1435781430.781,"1"],[1435781445,"+Inf"]]}]}}"#;
        let read = read_matrix(&serde_json::from_str(answer).expect("JSON"));
        let labels: Labels = [("__name__", "a"), ("b", "c")].map(|(n, v)| (n.into(), v.into())).into();
        let expected = [
            Sample { at: 1_435_781_430_781, value: 1.0 },
            Sample { at: 1_435_781_445_000, value: f64::INFINITY },
        ];
        assert_eq!(read[&labels], expected);
    }

    #[test]
    fn exported_lines_are_read_in_the_order_of_time() {
        let line = r#"{"metric":{"__name__":"a"},"values":[2,null,1.5],"timestamps":[20,30,10]}"#;
        let (labels, samples) = read_exported(line);
        assert_eq!(labels["__name__"], "a");
        assert_eq!(samples[..2], [Sample { at: 10, value: 1.5 }, Sample { at: 20, value: 2.0 }]);
        assert!(samples[2].at == 30 && samples[2].value.is_nan());
    }
}
