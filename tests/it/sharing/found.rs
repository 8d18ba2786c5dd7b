//! What a real Prometheus makes of it, that asks whoever lives who the targets are.
//!
//! What a newcomer would get wrong: any exporter lists all targets, but a Prometheus that has the URL of each keeps the last list of
//! one that died, and asks it for targets that moved long ago: as the same series, of which `up` is 0 and 1 by turns. So all
//! exporters need one name, behind which one that lives answers.

use super::{Crew, INTERVAL, SLACK, Setup, TTL, report};
use crate::prometheus::Prometheus;
use serde_json::Value;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;
use testbed::{Part, wait_until};

const SERVICES: usize = 20;
const PATIENCE: Duration = Duration::from_secs(40);
/// How often Prometheus asks for targets, in milliseconds.
const REFRESH: i64 = 1000;
/// How often it passes on to those who scrape what it found, in milliseconds: fixed in its discovery manager.
const PASSED_ON: i64 = 5000;

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
    let lists =
        serde_json::Deserializer::from_str(&text[text.find('[').expect("a list")..]).into_iter::<Value>();
    // What it logs stands behind the lists.
    let lists = lists.map_while(Result::ok);
    lists.flat_map(|list| list.as_array().expect("a list").clone()).collect()
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

/// One name for all exporters: a connection goes to the first that takes it. It ends with the test's process.
fn any_of(ports: Vec<u16>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("it listens").port();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut server = ports.iter().find_map(|port| TcpStream::connect(("127.0.0.1", *port)).ok());
            let Some(server) = &mut server else { continue };
            let (Ok(mut from), Ok(mut to)) = (client.try_clone(), server.try_clone()) else { continue };
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
            let mut server = server.try_clone().expect("a socket can be cloned");
            thread::spawn(move || {
                let _ = io::copy(&mut server, &mut client);
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    port
}

/// Who owns each member, as Prometheus has it.
fn owners(prometheus: &Prometheus) -> Vec<String> {
    let answer = prometheus.get("/api/v1/targets?state=active").expect("it answers");
    let answer: Value = serde_json::from_str(answer.text()).expect("JSON");
    let targets = answer["data"]["activeTargets"].as_array().expect("a list").clone();
    // Each exporter lists its own page, too, which belongs to no service.
    let is_member =
        |target: &&Value| !target["labels"]["service"].is_null() && target["labels"]["job"] == "redis";
    let owner = |target: &Value| target["discoveredLabels"]["__address__"].as_str().expect("text").to_owned();
    targets.iter().filter(is_member).map(owner).collect()
}

/// A job that asks these for its targets.
fn job(asked: &[String]) -> String {
    let urls: Vec<String> = asked
        .iter()
        .map(|at| format!("{{ url: \"http://{at}/sd/targets\", refresh_interval: {REFRESH}ms }}"))
        .collect();
    format!("scrape_configs:\n- job_name: redis\n  http_sd_configs: [{}]\n", urls.join(", "))
}

fn check(part: Part) {
    let setup = Setup { services: SERVICES, exporters: 2, on_loss: "freeze", apart: false };
    let mut crew = Crew::start(setup, 2);
    let list = crew.file(0).with_file_name("exporters.json");
    // The one that will die is asked first, as long as it lives.
    let any = any_of(vec![crew.posts[1].port.number(), crew.posts[0].port.number()]);
    let jobs = job(&[format!("127.0.0.1:{any}")])
        + &format!("- job_name: exporters\n  file_sd_configs: [{{ files: [\"{}\"] }}]\n", list.display());
    let prometheus = Prometheus::of(part, &jobs);
    promtool(&["check", "config"], &prometheus.file);
    assert_eq!(discovered(&prometheus, "exporters").len(), 2);
    // All members, and a page of each exporter.
    let members = discovered(&prometheus, "redis");
    assert_eq!(members.len(), SERVICES + 2, "{members:?}");
    let up = prometheus.wait_for("redis_up{job=\"redis\"} == 1", SERVICES);
    assert!(up.iter().all(|labels| labels.len() == 3), "{up:?}");
    prometheus.wait_for("up{job=\"exporters\"} == 1", 2);
    let of = |at: usize| {
        let id = crew.posts[at].id();
        owners(&prometheus).iter().filter(|owner| **owner == id).count()
    };
    let before = (of(0), of(1));
    assert!(before.0 + before.1 == SERVICES && before.0 > 0 && before.1 > 0, "{before:?}");
    thread::sleep(Duration::from_secs(3));
    assert_eq!(prometheus.query("up == 0").len(), 0);

    crew.kill(1);
    let id = crew.posts[1].id();
    wait_until("all targets to move", PATIENCE, || {
        let owners = owners(&prometheus);
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
    let most = TTL * 1000 + 2 * INTERVAL + REFRESH + PASSED_ON + SLACK;
    assert!(longest <= most, "{longest} ms; {most} are promised");
    assert_eq!(discovered(&prometheus, "exporters").len(), 1);
    crew.run(1);
    wait_until("targets to move back", PATIENCE, || owners(&prometheus).contains(&id));
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

#[test]
fn a_prometheus_with_the_url_of_each_keeps_the_list_of_the_dead() {
    let setup = Setup { services: SERVICES, exporters: 2, on_loss: "freeze", apart: false };
    let mut crew = Crew::start(setup, 2);
    let (id, both) = (crew.posts[1].id(), [crew.posts[0].id(), crew.posts[1].id()]);
    let prometheus = Prometheus::of(Part::Prometheus253, &job(&both));
    prometheus.wait_for("redis_up == 1", SERVICES);
    // As long as both live, the two lists are one.
    assert_eq!(owners(&prometheus).len(), SERVICES);
    let had = owners(&prometheus).iter().filter(|owner| **owner == id).count();
    crew.kill(1);
    // Its own, and under the other one all.
    wait_until("targets to be there twice", PATIENCE, || owners(&prometheus).len() == SERVICES + had);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(owners(&prometheus).iter().filter(|owner| **owner == id).count(), had);
}
