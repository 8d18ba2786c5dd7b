//! A real Prometheus beside ours: what it has after it was told as little as the documentation says.

use crate::PATIENCE;
use crate::follow::Fleet;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use testbed::http::{self, Request};
use testbed::{Exporter, Part, Port, Process, Server, wait_for, wait_until};

/// A Prometheus that scrapes each second.
pub struct Prometheus {
    port: Port,
    /// Its configuration.
    pub file: PathBuf,
    _process: Process,
    _folder: tempfile::TempDir,
}

/// Labels and value of a series.
pub type Series = (BTreeMap<String, String>, f64);

impl Prometheus {
    /// Starts it with these jobs.
    fn start(jobs: &str) -> Self {
        Self::of(Part::Prometheus, jobs)
    }

    /// The same of another version.
    pub fn of(part: Part, jobs: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, format!("global: {{ scrape_interval: 1s }}\n{jobs}")).expect("written");
        let port = Port::take();
        let args = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            format!("--web.listen-address=127.0.0.1:{}", port.number()),
            "--log.level=warn".to_owned(),
        ];
        let process = Process::start(&part.path(), &args, &[]);
        let prometheus = Self { port, file, _process: process, _folder: folder };
        wait_until("Prometheus to be ready", PATIENCE, || {
            prometheus.get("/-/ready").is_some_and(|response| response.status == 200)
        });
        prometheus
    }

    /// What it answers to a GET; nothing where it does not.
    pub fn get(&self, path: &str) -> Option<http::Response> {
        http::send(self.port.number(), None, Request::get(path, &[]), PATIENCE).ok()
    }

    /// The series that a query finds now.
    pub fn query(&self, query: &str) -> Vec<Series> {
        let path = format!("/api/v1/query?query={}", crate::encoded(query));
        let response = self.get(&path).expect("Prometheus answers");
        let answer: Value = serde_json::from_str(response.text()).expect("JSON");
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let found = answer["data"]["result"].as_array().expect("a vector");
        let series = |series: &Value| {
            let labels = series["metric"].as_object().expect("labels");
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            let labels = labels.iter().map(|(name, value)| (name.clone(), text(value))).collect();
            (labels, text(&series["value"][1]).parse().expect("a number"))
        };
        found.iter().map(series).collect()
    }

    /// Waits for so many series, and returns their labels without `__name__`, sorted.
    pub fn wait_for(&self, query: &str, count: usize) -> Vec<BTreeMap<String, String>> {
        let series = wait_for(&format!("{count} series of {query}"), PATIENCE, || {
            Some(self.query(query)).filter(|series| series.len() == count)
        });
        let mut labels: Vec<_> = series.into_iter().map(|(labels, _)| labels).collect();
        labels.iter_mut().for_each(|labels| drop(labels.remove("__name__")));
        labels.sort();
        labels
    }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The jobs of the documentation, for an exporter.
fn found(exporter: &Exporter) -> String {
    format!(
        "scrape_configs:\n- job_name: redis\n  http_sd_configs: [{{ url: \"http://{}/sd/targets\" }}]\n",
        exporter.address()
    )
}

fn whole_page(exporter: &Exporter) -> String {
    format!(
        "- job_name: fleet\n  honor_labels: true\n  static_configs: [{{ targets: [\"{}\"] }}]\n",
        exporter.address()
    )
}

#[test]
fn three_lines_and_no_relabelling_get_every_member() {
    let (master, cache) = (Server::start(Part::Redis7), Server::builder(Part::Valkey9).unix_socket().start());
    let replica = Server::builder(Part::Redis7).replica_of(&master).start();
    replica.wait_for_info("replication", "master_link_status", "up", PATIENCE);
    let socket = cache.socket().display().to_string();
    let fleet = Fleet::start(&format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
         services:\n  - {{ name: orders, instances: [\"{}\", \"{}\"], labels: {{ team: checkout }} }}\n  \
         - {{ name: cache, instances: [\"unix://{socket}\"] }}\n",
        master.address(),
        replica.address(),
    ));
    let own = fleet.exporter.address();
    let prometheus = Prometheus::start(&(found(&fleet.exporter) + &whole_page(&fleet.exporter)));
    for job in ["redis", "fleet"] {
        let of_orders = |instance: &str| {
            labels(&[("instance", instance), ("job", job), ("service", "orders"), ("team", "checkout")])
        };
        let mut members = vec![
            of_orders(&master.address()),
            of_orders(&replica.address()),
            labels(&[("instance", &socket), ("job", job), ("service", "cache")]),
        ];
        members.sort();
        assert_eq!(prometheus.wait_for(&format!("redis_up{{job=\"{job}\"}} == 1"), 3), members, "{job}");
        assert_eq!(prometheus.wait_for(&format!("redis_uptime_in_seconds{{job=\"{job}\"}}"), 3), members);
        let lag = format!("redis_replica_lag_bytes{{job=\"{job}\"}}");
        assert_eq!(prometheus.wait_for(&lag, 1), [of_orders(&replica.address())], "{job}");
        let role = format!("redis_member_role{{job=\"{job}\",role=\"master\",service=\"orders\"}} == 1");
        assert_eq!(prometheus.wait_for(&role, 1)[0]["instance"], master.address());
        // The services have no instance of their own, so theirs is the one that Prometheus asked.
        let services = prometheus.wait_for(&format!("redis_service_up{{job=\"{job}\"}}"), 2);
        let expected = [
            labels(&[("instance", &own), ("job", job), ("service", "cache")]),
            labels(&[("instance", &own), ("job", job), ("service", "orders"), ("team", "checkout")]),
        ];
        assert_eq!(services, expected, "{job}");
        assert_eq!(
            prometheus.wait_for(&format!("redvigil_build_info{{job=\"{job}\"}}"), 1)[0]["instance"],
            own
        );
    }
    // Every target could be scraped and nothing was thrown away: three members and ourselves, and the whole page.
    assert_eq!(prometheus.query("up == 1").len(), 5, "{:?}", prometheus.query("up"));
    assert_eq!(prometheus.wait_for("{__name__=~\"exported_.*\"} or {exported_instance=~\".+\"}", 0).len(), 0);
    assert_eq!(prometheus.query("{exported_service=~\".+\"}").len(), 0);
}

#[test]
fn a_server_by_flag_looks_as_it_did_before_there_were_services() {
    let server = Server::start(Part::Redis7);
    let exporter = crate::watching(&server.url());
    let own = exporter.address();
    let prometheus = Prometheus::start(&format!("scrape_configs:\n{}", whole_page(&exporter)));
    let expected = [labels(&[("instance", &own), ("job", "fleet")])];
    assert_eq!(prometheus.wait_for("redis_up == 1", 1), expected);
    assert_eq!(prometheus.wait_for("redis_uptime_in_seconds", 1), expected);
    assert!(prometheus.query("redis_service_up").is_empty());
    assert!(prometheus.query("{service=~\".+\"}").is_empty());
}
