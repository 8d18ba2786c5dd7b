//! What a real Prometheus makes of it, that asks two exporters who the targets are.
//!
//! What a newcomer would get wrong: both list all targets, each under its owner. To Prometheus the two lists are one.

use super::{Crew, INTERVAL, SLACK, Setup, TTL, report};
use crate::prometheus::Prometheus;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;
use testbed::{Part, wait_until};

const SERVICES: usize = 20;
const PATIENCE: Duration = Duration::from_secs(40);
/// How often Prometheus asks for targets, in milliseconds.
const REFRESH: i64 = 1000;

/// What promtool says about a file of Prometheus.
fn promtool(args: &[&str], file: &Path) -> String {
    let output = Command::new(Part::Promtool.path()).args(&args[..2]).arg(file).args(&args[2..]).output();
    let output = output.expect("promtool can be run");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}: {text}");
    text
}

/// Targets that promtool finds in a job.
fn discovered(prometheus: &Prometheus, job: &str) -> Vec<Value> {
    let text = promtool(&["check", "service-discovery", job, "--timeout=5s"], &prometheus.file);
    // What it logs stands behind the list.
    let list = &text[text.find('[').expect("a list")..];
    let mut found = serde_json::Deserializer::from_str(list).into_iter::<Value>();
    let found = found.next().expect("a list").expect("JSON");
    found.as_array().expect("a list").clone()
}

/// The longest time, in milliseconds, between two samples of a series of `redis_up`, and how many series there ever were.
fn longest_gap(prometheus: &Prometheus) -> (i64, usize) {
    let path = format!("/api/v1/query?query={}", crate::encoded("redis_up{job=\"redis\"}[5m]"));
    let answer = prometheus.get(&path).expect("it answers");
    let answer: Value = serde_json::from_str(answer.text()).expect("JSON");
    let series = answer["data"]["result"].as_array().expect("a matrix").clone();
    let mut longest = 0.0_f64;
    for one in &series {
        let times: Vec<f64> = one["values"]
            .as_array()
            .expect("samples")
            .iter()
            .filter_map(|sample| sample[0].as_f64())
            .collect();
        longest = times.windows(2).map(|two| two[1] - two[0]).fold(longest, f64::max);
    }
    #[expect(clippy::cast_possible_truncation, reason = "a few seconds")]
    ((longest * 1000.0) as i64, series.len())
}

fn check(part: Part) {
    let setup = Setup { services: SERVICES, exporters: 2, on_loss: "freeze", apart: false };
    let mut crew = Crew::start(setup, 2);
    let url = |at: usize| {
        format!("{{ url: \"http://{}/sd/targets\", refresh_interval: {REFRESH}ms }}", crew.posts[at].id())
    };
    let list = crew.file(0).with_file_name("exporters.json");
    let prometheus = Prometheus::of(
        part,
        &format!(
            "scrape_configs:\n- job_name: redis\n  http_sd_configs: [{}, {}]\n- job_name: exporters\n  \
             file_sd_configs: [{{ files: [\"{}\"] }}]\n",
            url(0),
            url(1),
            list.display()
        ),
    );
    promtool(&["check", "config"], &prometheus.file);
    assert_eq!(discovered(&prometheus, "exporters").len(), 2);
    let up = prometheus.wait_for("redis_up{job=\"redis\"} == 1", SERVICES);
    assert!(up.iter().all(|labels| labels.len() == 3), "{up:?}");
    prometheus.wait_for("up{job=\"exporters\"} == 1", 2);
    let owners = || {
        let answer = prometheus.get("/api/v1/targets?state=active").expect("it answers");
        let answer: Value = serde_json::from_str(answer.text()).expect("JSON");
        let targets = answer["data"]["activeTargets"].as_array().expect("a list").clone();
        let of_redis = targets.iter().filter(|target| target["labels"]["job"] == "redis");
        of_redis
            .map(|target| target["discoveredLabels"]["__address__"].as_str().expect("text").to_owned())
            .collect::<Vec<_>>()
    };
    let of = |at: usize| {
        let id = crew.posts[at].id();
        owners().iter().filter(|owner| **owner == id).count()
    };
    let before = (of(0), of(1));
    // Two lists, and each target once.
    assert!(before.0 + before.1 == SERVICES && before.0 > 0 && before.1 > 0, "{before:?}");
    thread::sleep(Duration::from_secs(3));
    assert_eq!(prometheus.query("up == 0").len(), 0);

    crew.kill(1);
    let id = crew.posts[1].id();
    wait_until("all targets to move", PATIENCE, || {
        let owners = owners();
        owners.len() == SERVICES && owners.iter().all(|owner| *owner != id)
    });
    prometheus.wait_for("redis_up{job=\"redis\"} == 1", SERVICES);
    prometheus.wait_for("up{job=\"exporters\"}", 1);
    thread::sleep(Duration::from_secs(3));
    let (longest, series) = longest_gap(&prometheus);
    report(format_args!(
        "{}: targets {before:?}, then all at the first; the longest gap {longest} ms",
        part.name()
    ));
    assert_eq!(series, SERVICES, "the same series, whoever is asked");
    // Beside what is promised, Prometheus hears of it a moment later, and begins at its own moment of the interval.
    let most = TTL * 1000 + 2 * INTERVAL + REFRESH + SLACK;
    assert!(longest <= most, "{longest} ms; {most} are promised");
    assert_eq!(discovered(&prometheus, "exporters").len(), 1);
    crew.run(1);
    wait_until("targets to move back", PATIENCE, || owners().contains(&id));
    thread::sleep(Duration::from_secs(2));
    crew.settle();
    // One that hands over costs nothing, but that Prometheus begins anew at its own moment.
    wait_until("all targets to be up", PATIENCE, || {
        prometheus.query("redis_up{job=\"redis\"} == 1").len() == SERVICES
    });
    assert_eq!(longest_gap(&prometheus).1, SERVICES);
}

#[test]
fn targets_move_to_the_exporter_that_is_left() {
    check(Part::Prometheus253);
}

#[test]
fn targets_move_to_the_exporter_that_is_left_in_prometheus_3() {
    if Part::Prometheus3.or_skip("targets_move_to_the_exporter_that_is_left_in_prometheus_3").is_some() {
        check(Part::Prometheus3);
    }
}
