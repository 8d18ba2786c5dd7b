//! Prometheus' own parsers read a page with everything that is unusual on it. `promtool` comes with Debian's
//! package `prometheus`; without it these tests fail.

use exposition::{Builder, Desc, Families, Format, Page, write};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

static COUNTERS: [Desc; 4] = [
    Desc::counter("redis_commands_total", "Commands.").labels(&["cmd"]),
    Desc::counter("redis_unexpected_error_replies", "A counter without the suffix.").labels(&["cmd"]),
    Desc::counter("redis_search_failure_requests_count", "Another suffix.").labels(&["cmd"]),
    Desc::counter("redis_commands", "Clashes with the first.").labels(&["cmd"]),
];
static GAUGES: [Desc; 3] = [
    Desc::gauge("redis_server_threads_total", "Quotes \", backslash \\ and\nline end.").labels(&["cmd"]),
    Desc::gauge("redis_instance_info", "").labels(&["cmd"]),
    Desc::gauge("redis_keys_count", "A suffix of histograms.").labels(&["cmd"]),
];
static HISTOGRAM: Desc = Desc::histogram("redis_latency_usec", "In microseconds.").labels(&["cmd"]);
static SUMMARY: Desc = Desc::summary("redis_percentiles_usec", "In microseconds.").labels(&["cmd"]);

const VALUES: [f64; 9] = [0.0, -0.0, 1.0, 0.1, 1e6, 1.7e9, f64::MAX, f64::INFINITY, f64::NAN];
const LABELS: [&str; 9] =
    ["", "get", "a\"b", "a\\b", "a\nb", "a\rb", "a\0b", "{le=\"1\"} 1 # x", "𝄞 \u{feff}\u{2028}"];

fn page() -> Families {
    let mut out = Builder::new();
    for desc in COUNTERS.iter().chain(&GAUGES) {
        let family = out.family(desc);
        for (label, value) in LABELS.iter().zip(VALUES) {
            out.sample(family, &[label], value);
        }
    }
    let (histogram, summary) = (out.family(&HISTOGRAM), out.family(&SUMMARY));
    for label in LABELS {
        out.distribution(histogram, &[label], [(1.0, 1.0), (2.5, 2.0), (1e6, 2.0)], 7.25, 3);
        out.distribution(summary, &[label], [(50.0, 1.003), (99.0, f64::NAN), (99.9, 3.0)], 7.25, 3);
    }
    out.finish()
}

fn written(format: Format) -> Vec<u8> {
    let mut out = vec![];
    write(format, &mut out, &Page::new([&page()], &[]));
    out
}

fn promtool(arguments: &[&str], input: &[u8]) -> Output {
    let child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("promtool starts (Debian's package prometheus has it)");
    child.stdin.take().expect("it is piped").write_all(input).expect("promtool reads its input");
    child.wait_with_output().expect("promtool ends")
}

/// Reads text 0.0.4. Exit code 3 means that a name is not to promtool's taste, 1 that it could not read on.
#[track_caller]
fn check_text(page: &[u8], readable: bool) {
    let output = promtool(&["check", "metrics"], page);
    let (code, errors) = (output.status.code(), String::from_utf8_lossy(&output.stderr));
    assert_eq!(matches!(code, Some(0 | 3)), readable, "{code:?}: {errors}");
}

/// Reads OpenMetrics as Prometheus does before it stores the samples, which need a time for that.
#[track_caller]
fn check_openmetrics(test: &str, page: &[u8], readable: bool) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&folder).expect("a folder");
    let (input, blocks) = (folder.join("page"), folder.join("blocks"));
    let timed = page.split_inclusive(|byte| *byte == b'\n').map(|line| match line {
        [b'#', ..] => line.to_vec(),
        [sample @ .., _] => [sample, b" 1785926400\n"].concat(),
        [] => vec![],
    });
    fs::write(&input, timed.collect::<Vec<_>>().concat()).expect("the page is written");
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let output = promtool(&["tsdb", "create-blocks-from", "openmetrics", &path(&input), &path(&blocks)], b"");
    fs::remove_dir_all(&folder).expect("the folder goes");
    let (code, errors) = (output.status.code(), String::from_utf8_lossy(&output.stderr));
    assert_eq!(code == Some(0), readable, "{code:?}: {errors}");
}

#[test]
fn text_is_read() {
    check_text(&written(Format::Text), true);
}

#[test]
fn text_that_is_not_valid_is_noticed() {
    let mut page = written(Format::Text);
    page.extend_from_slice(b"redis_up{a=\"b\" 1\n");
    check_text(&page, false);
}

#[test]
fn openmetrics_is_read() {
    check_openmetrics("openmetrics_is_read", &written(Format::OpenMetrics), true);
}

#[test]
fn openmetrics_that_is_not_valid_is_noticed() {
    let page = written(Format::OpenMetrics);
    let without_end = page.strip_suffix(b"# EOF\n").expect("the end");
    check_openmetrics("openmetrics_that_is_not_valid_is_noticed", without_end, false);
}
