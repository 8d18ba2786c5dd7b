//! From collections to records, read back as a receiver reads them.

use super::*;
use crate::config::deliver::{Auth, Destination, Durability, Endpoint, Queue as Settings, Url, Version};
use crate::deliver::queue::Lane;
use crate::deliver::queue::disk::Disk;
use exposition::{Builder, Desc};
use prost::Message as _;
use std::path::Path;

static NUMBER: Desc = Desc::gauge("n", "Numbers.").labels(&["of"]);
static OURS: Desc = Desc::gauge("ours", "What we say.");

/// <https://github.com/prometheus/prometheus/blob/main/prompb/io/prometheus/write/v2/types.proto>, as far as it is needed.
#[derive(prost::Message)]
struct Request {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<Series>,
}

#[derive(prost::Message)]
struct Series {
    #[prost(uint32, repeated, tag = "1")]
    labels: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(prost::Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

const STALE: u64 = 0x7ff0_0000_0000_0002;

fn output(change: impl FnOnce(&mut Output)) -> Output {
    let url = Url { secure: false, host: "h".into(), port: 80, path: "/".into() };
    let endpoint = Endpoint {
        url,
        headers: vec![],
        auth: Auth::None,
        tls: <_>::default(),
        timeout: Duration::from_secs(1),
    };
    let mut output = Output {
        name: "o".into(),
        to: Destination::RemoteWrite { version: Version::Auto, endpoint },
        queue: Settings {
            durability: Durability::Memory,
            linger: Duration::ZERO,
            // The clock of these tests begins in 1970.
            max_age: Duration::from_secs(1 << 40),
            ..Settings::default()
        },
        max_samples_per_second: None,
        paused: false,
        external_labels: BTreeMap::new(),
    };
    change(&mut output);
    output
}

/// A way, and who reads its queue.
struct Bench {
    way: Way,
    lanes: Vec<Lane>,
    now: Instant,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Output)) -> Self {
        let output = output(change);
        let queue = Queue::open(Path::new("/nowhere"), &output.queue, Arc::new(Disk)).expect("in memory");
        let lanes = queue.lanes();
        Self { way: Way::new(&output, &Deliver::default(), queue), lanes, now: Instant::now() }
    }

    /// Takes numbers of a target, told by their names; what we say comes with them.
    fn take(&mut self, target: &str, at: u64, names: &[&str]) {
        let labels = Arc::new([("instance".to_owned(), target.to_owned())].into());
        self.take_as(target, &labels, at, names);
    }

    fn take_as(&mut self, target: &str, labels: &Arc<BTreeMap<String, String>>, at: u64, names: &[&str]) {
        let mut out = Builder::new();
        let family = out.family(&NUMBER);
        for (value, name) in names.iter().enumerate() {
            out.sample(family, &[name], value as f64);
        }
        let mut ours = Builder::new();
        ours.push(&OURS, 1.0);
        let said = |out: Builder| Said { parts: vec![Arc::new(out.finish())], since: None };
        self.hand_on(target, labels, at, [said(out), said(ours)]);
    }

    fn end(&mut self, target: &str, at: u64) {
        self.hand_on(target, &Arc::default(), at, <_>::default());
    }

    fn move_away(&mut self, target: &str, at: u64) {
        let at = UNIX_EPOCH + Duration::from_millis(at);
        let (labels, theirs, ours) = <_>::default();
        let collected = Collected { target: target.into(), labels, at, theirs, ours, has_moved: true };
        self.way.take(&collected, self.now);
    }

    fn hand_on(
        &mut self,
        target: &str,
        labels: &Arc<BTreeMap<String, String>>,
        at: u64,
        [theirs, ours]: [Said; 2],
    ) {
        let at = UNIX_EPOCH + Duration::from_millis(at);
        let labels = labels.clone();
        let collected = Collected { target: target.into(), labels, at, theirs, ours, has_moved: false };
        self.way.take(&collected, self.now);
    }

    /// What the queue has, request by request: series as `name{labels} value@time`, where `x` stands for the end.
    fn requests(&mut self) -> Vec<Vec<String>> {
        let mut requests = vec![];
        for lane in &mut self.lanes {
            while let Some(entry) = lane.oldest_now() {
                let body = zstd::decode_all(&*entry.record.body).expect("zstd");
                let request = Request::decode(&*body).expect("a request");
                let shown: Vec<_> = request.timeseries.iter().map(|series| shown(&request, series)).collect();
                assert_eq!(entry.record.samples as usize, shown.len(), "each series has one sample");
                requests.push(shown);
                lane.settle(entry.sequence, crate::deliver::queue::Settled::delivered(entry.record.samples));
            }
        }
        requests
    }

    /// The same without what we say, and without labels that are the same in all.
    fn short(&mut self) -> Vec<Vec<String>> {
        let short = |series: &String| series.replace(",of=", " ").replace("job=redvigil,", "");
        let is_theirs = |series: &String| !series.starts_with("ours");
        let requests = self.requests();
        let theirs =
            |series: &Vec<String>| series.iter().map(short).filter(is_theirs).collect::<Vec<_>>().sorted();
        requests.iter().map(theirs).collect()
    }
}

fn shown(request: &Request, series: &Series) -> String {
    let word = |at: u32| request.symbols[at as usize].as_str();
    let (mut name, mut labels) = ("", vec![]);
    for pair in series.labels.chunks(2) {
        match word(pair[0]) {
            "__name__" => name = word(pair[1]),
            label => labels.push(format!("{label}={}", word(pair[1]))),
        }
    }
    let Sample { value, timestamp } = series.samples[0];
    let value = if value.to_bits() == STALE { "x".to_owned() } else { value.to_string() };
    let at = format!("{}.{:03}", timestamp / 1000, timestamp % 1000);
    format!("{name}{{{}}} {value}@{at}", labels.join(","))
}

#[tokio::test(start_paused = true)]
async fn series_that_are_no_longer_there_are_ended() {
    let mut bench = Bench::new(|_| {});
    bench.take("a", 1000, &["x", "y"]);
    let whole = ["n{instance=a,job=redvigil,of=x} 0@1.000", "n{instance=a,job=redvigil,of=y} 1@1.000"];
    let ours = "ours{instance=a,job=redvigil} 1@1.000";
    assert_eq!(bench.requests(), [[whole[0], whole[1], ours]]);
    bench.take("a", 2000, &["y"]);
    assert_eq!(
        bench.short(),
        [["n{instance=a,job=redvigil x} x@2.000", "n{instance=a,job=redvigil y} 0@2.000"]]
    );
    bench.take("a", 3000, &["y"]);
    assert_eq!(bench.short(), [["n{instance=a,job=redvigil y} 0@3.000"]]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_goes_is_ended_whole_and_once() {
    let mut bench = Bench::new(|_| {});
    bench.end("a", 1000);
    bench.take("a", 1000, &["x"]);
    bench.take("b", 1000, &["x"]);
    assert_eq!(bench.requests().len(), 2, "nobody has heard of it");
    bench.end("a", 2000);
    bench.end("a", 2001);
    let ended = ["n{instance=a,job=redvigil,of=x} x@2.000", "ours{instance=a,job=redvigil} x@2.000"];
    assert_eq!(bench.requests(), [ended]);
    // It comes back while the clock goes back.
    bench.take("a", 500, &["x"]);
    let [request] = &bench.short()[..] else { panic!("one request") };
    assert!(request[0].starts_with("n{instance=a") && request[0].ends_with("0@2.002"), "{request:?}");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_moves_neither_goes_on_nor_ends() {
    let mut bench = Bench::new(|_| {});
    bench.move_away("a", 1000);
    bench.take("a", 1000, &["x"]);
    assert_eq!(bench.requests().len(), 1, "nobody has heard of it");
    bench.move_away("a", 2000);
    bench.move_away("a", 2001);
    bench.end("a", 2002);
    assert!(bench.requests().is_empty());
    // It comes back without what it had: nothing of that ends, and no timestamp is given twice.
    bench.take("a", 500, &["y"]);
    let now = ["n{instance=a,job=redvigil,of=y} 0@2.003", "ours{instance=a,job=redvigil} 1@2.003"];
    assert_eq!(bench.requests(), [now]);
    for number in 0..5 * GONE {
        bench.take(&number.to_string(), 1000, &["x"]);
        bench.move_away(&number.to_string(), 1000);
    }
    assert!(bench.way.targets.len() <= 2 * GONE + 2, "{}", bench.way.targets.len());
}

#[tokio::test(start_paused = true)]
async fn no_timestamp_is_given_twice_whatever_the_clock_does() {
    let mut bench = Bench::new(|_| {});
    for (at, expected) in [(1000, "1.000"), (1000, "1.001"), (1, "1.002"), (999, "1.003"), (5000, "5.000")] {
        bench.take("a", at, &["x"]);
        assert_eq!(bench.short(), [[format!("n{{instance=a,job=redvigil x}} 0@{expected}")]], "{at}");
    }
    bench.take("b", 1000, &["x"]);
    assert_eq!(
        bench.short(),
        [["n{instance=b,job=redvigil x} 0@1.000"]],
        "another target has a time of its own"
    );
}

#[tokio::test(start_paused = true)]
async fn other_labels_end_the_series_under_the_old_ones() {
    let mut bench = Bench::new(|_| {});
    let labels = |zone: &str| Arc::new([("zone".to_owned(), zone.to_owned())].into());
    bench.take_as("a", &labels("1"), 1000, &["x"]);
    bench.take_as("a", &labels("1"), 2000, &["x"]);
    assert_eq!(bench.requests().concat().len(), 4);
    bench.take_as("a", &labels("2"), 3000, &["x"]);
    let ended = ["n{job=redvigil,of=x,zone=1} x@3.000", "ours{job=redvigil,zone=1} x@3.000"];
    let began = ["n{job=redvigil,of=x,zone=2} 0@3.000", "ours{job=redvigil,zone=2} 1@3.000"];
    assert_eq!(bench.requests().concat().sorted(), [ended[0], began[0], ended[1], began[1]]);
    // So does what is said of the output.
    let two = labels("2");
    bench.take_as("a", &two, 4000, &["x"]);
    bench.requests();
    let changed = output(|output| drop(output.external_labels.insert("e".into(), "1".into())));
    bench.way.follow(&changed, &Deliver { job: "j".into(), ..Deliver::default() });
    bench.take_as("a", &two, 5000, &["x"]);
    let mut found = bench.requests().concat();
    found.retain(|series| series.starts_with("ours"));
    assert_eq!(found.sorted(), ["ours{e=1,job=j,zone=2} 1@5.000", "ours{job=redvigil,zone=2} x@5.000"]);
    bench.end("a", 6000);
    let last = bench.requests().concat();
    assert!(last.contains(&"ours{e=1,job=j,zone=2} x@6.000".to_owned()), "{last:?}");
}

trait Sorted {
    fn sorted(self) -> Self;
}

impl Sorted for Vec<String> {
    fn sorted(mut self) -> Self {
        self.sort();
        self
    }
}

#[test]
fn what_a_target_says_counts_before_the_job_and_both_before_what_is_said_of_the_output() {
    let map = |text: &str| {
        let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let check = |own: &str, external: &str, expected: &str| {
        let labels = labels("j", &map(own), &map(external));
        let shown: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown.join(" "), expected, "{own} {external}");
    };
    check("", "", "job=j");
    check("service=s instance=i", "cluster=c", "cluster=c instance=i job=j service=s");
    check("service=s", "service=t job=k", "job=j service=s");
    check("job=mine", "job=k", "job=mine");
    check("a= b=1", "a=2 c=", "a=2 b=1 job=j");
}

#[tokio::test(start_paused = true)]
async fn a_request_is_full_at_5000_samples_or_when_nobody_waits_any_longer() {
    let mut bench = Bench::new(|output| output.queue.linger = Duration::from_millis(250));
    let names: Vec<_> = (0..1999).map(|number| number.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let began = bench.now;
    bench.take("a", 1000, &names);
    bench.take("b", 1000, &names);
    assert_eq!((bench.requests().len(), bench.way.due()), (0, Some(began + Duration::from_millis(250))));
    bench.now += Duration::from_millis(10);
    bench.take("c", 1000, &names);
    let sizes = |bench: &mut Bench| bench.requests().iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(&mut bench), [4000], "the third had no room");
    assert_eq!(bench.way.due(), Some(bench.now + Duration::from_millis(250)));
    bench.way.flush_due(bench.now + Duration::from_millis(249));
    assert!(bench.requests().is_empty());
    bench.way.flush_due(bench.now + Duration::from_millis(250));
    assert_eq!((sizes(&mut bench), bench.way.due()), (vec![2000], None));
    // One that is too large goes alone, and whole.
    let names: Vec<_> = (0..6000).map(|number| number.to_string()).collect();
    bench.take("a", 2000, &["1"]);
    bench.take("d", 2000, &names.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((sizes(&mut bench), bench.way.due()), (vec![2000, 6001], None));
    bench.take("b", 2000, &["1"]);
    bench.way.flush();
    assert_eq!(sizes(&mut bench), [2000]);
    bench.way.flush();
    assert!(bench.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_histogram_is_as_many_samples_as_it_has_buckets() {
    static TIMES: Desc = Desc::histogram("h", "Times.");
    let mut bench = Bench::new(|output| output.queue.linger = Duration::from_secs(1));
    let bounds = (0..1500).map(|bound| (f64::from(bound), 1.0));
    let mut out = Builder::new();
    let family = out.family(&TIMES);
    out.distribution(family, &[], bounds, 1.0, 1);
    let said = Said { parts: vec![Arc::new(out.finish())], since: None };
    for at in [1000, 2000] {
        for target in ["a", "b", "c", "d"] {
            bench.hand_on(target, &Arc::default(), at, [said.clone(), Said::default()]);
        }
    }
    bench.way.flush();
    // The first time nobody knows.
    let sizes: Vec<_> = bench.lanes.iter_mut().flat_map(sizes_of).collect();
    assert_eq!(sizes, [4 * 1503, 3 * 1503, 1503]);
}

/// How many samples each request of a lane has.
fn sizes_of(lane: &mut Lane) -> Vec<u32> {
    std::iter::from_fn(|| {
        let entry = lane.oldest_now()?;
        lane.settle(entry.sequence, crate::deliver::queue::Settled::delivered(entry.record.samples));
        Some(entry.record.samples)
    })
    .collect()
}

#[tokio::test(start_paused = true)]
async fn a_target_is_in_one_lane_for_ever() {
    for (target, lanes, expected) in [("a", 1, 0), ("a", 4, 3), ("b", 4, 3), ("member s h:1", 16, 8)] {
        assert_eq!(lane_of(target, lanes), expected, "{target} of {lanes}");
    }
    let mut bench = Bench::new(|output| output.queue.lanes = 4);
    let mut of_lane = [0; 4];
    for number in 0..1000 {
        let target = format!("target {number}");
        bench.take(&target, 1000, &["x"]);
        of_lane[lane_of(&target, 4)] += 1;
    }
    assert!(of_lane.iter().all(|count| (200..300).contains(count)), "{of_lane:?}");
    for (lane, count) in bench.lanes.iter().zip(of_lane) {
        assert_eq!(lane.backlog().records, count);
    }
}

#[tokio::test(start_paused = true)]
async fn targets_that_are_gone_are_forgotten_some_day() {
    let mut bench = Bench::new(|output| output.queue.linger = Duration::from_secs(1));
    for number in 0..5 * GONE {
        bench.take(&number.to_string(), 1000, &["x"]);
        bench.end(&number.to_string(), 1000);
    }
    assert!(bench.way.targets.len() <= 2 * GONE + 2, "{}", bench.way.targets.len());
}
