//! Two copies that share services by a real etcd, as their pages, a receiver and promtool see it. What becomes of the share in
//! trouble is shown elsewhere.

use crate::page::Page;
use crate::{PATIENCE, encoded, exporter};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use testbed::etcd::Etcd;
use testbed::http::Request;
use testbed::receiver::{Receiver, Sample};
use testbed::{Action, Exporter, ScriptedServer, wait_until};

/// So many that both copies have some, whatever they are called.
const SERVICES: usize = 24;

/// Copies that share, with a server for each service and a receiver of all that they push.
struct Two {
    etcd: Etcd,
    servers: Vec<ScriptedServer>,
    receiver: Receiver,
    folder: tempfile::TempDir,
}

impl Two {
    fn start() -> (Self, Exporter, Exporter) {
        let servers = (0..SERVICES).map(|_| ScriptedServer::start(|_| Action::Default)).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let two = Self { etcd: Etcd::start(), servers, receiver: Receiver::start(), folder };
        let [one, other] = ["a", "b"].map(|name| two.copy(name));
        (two, one, other)
    }

    /// Starts a copy.
    fn copy(&self, name: &str) -> Exporter {
        std::fs::create_dir(self.folder.path().join(name)).expect("a folder");
        self.write(name, SERVICES);
        let path = |file: &str| self.folder.path().join(name).join(file).display().to_string();
        let flags =
            [format!("--config.file={}", path("redvigil.yaml")), format!("--storage.path={}", path("state"))];
        exporter(&flags).start()
    }

    /// Writes the document of one, with so many services.
    fn write(&self, name: &str, services: usize) {
        let folder = self.folder.path().join(name);
        let services = self.servers.iter().take(services).enumerate();
        let services: Vec<_> = services
            .map(|(n, s)| format!("  - {{ name: s{n}, instances: [\"{}\"] }}\n", s.address()))
            .collect();
        let document = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nservices:\n{}\
             registry:\n  file_sd: {}\n  etcd: {{ endpoints: [\"{}\"], ttl: 3s }}\n  sharding: {{ settle: 1s }}\n\
             outputs:\n  - name: store\n    remote_write: {{ url: \"{}\" }}\n    queue: {{ min_free: 1MiB, max_age: 55m }}\n",
            services.concat(),
            folder.join("peers.json").display(),
            self.etcd.url(),
            self.receiver.url("/api/v1/write"),
        );
        std::fs::write(folder.join("redvigil.yaml"), document).expect("written");
    }

    /// What came of a family, by service.
    fn stored(&self, family: &str) -> BTreeMap<String, Vec<Sample>> {
        let mut by_service: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for sample in self.receiver.stored() {
            if sample.label("__name__") == Some(family)
                && let Some(service) = sample.label("service")
            {
                by_service.entry(service.to_owned()).or_default().push(sample);
            }
        }
        by_service
    }
}

fn is_stale(sample: &Sample) -> bool {
    sample.value.to_bits() == 0x7ff0_0000_0000_0002
}

fn json(exporter: &Exporter, path: &str) -> Value {
    let response = exporter.get(path, &[]);
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    serde_json::from_str(response.text()).expect("JSON")
}

/// How many shards each peer has, as one of them says; `None` while something is to happen yet.
fn shares(exporter: &Exporter) -> Option<Vec<usize>> {
    let said = json(exporter, "/api/v1/peers");
    let count = |list: &Value| list.as_array().map_or(0, Vec::len);
    let is_settled = count(&said["unowned"]) == 0 && count(&said["leaving"]) == 0 && said["frozen"] == false;
    let peers = said["peers"].as_array().expect("a list");
    Some(peers.iter().map(|peer| count(&peer["shards"])).collect()).filter(|_| is_settled)
}

/// The members of a list of targets by the port of who is to be asked for them.
fn by_owner(groups: &Value) -> BTreeMap<u16, BTreeSet<String>> {
    let mut by_owner: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for group in groups.as_array().expect("groups") {
        let target = group["targets"][0].as_str().expect("a target");
        let port = target.rsplit_once(':').expect("a port").1.parse().expect("a port");
        let what = match group["labels"]["service"].as_str() {
            Some(service) => service.to_owned(),
            None => group["labels"]["__metrics_path__"].as_str().unwrap_or("-").to_owned(),
        };
        assert!(by_owner.entry(port).or_default().insert(what), "{groups}");
    }
    by_owner
}

/// What an exporter collects: the services on its page.
fn collected(exporter: &Exporter) -> BTreeSet<String> {
    let page = Page::parse(&exporter.metrics());
    let samples = page.families.get("redis_up").into_iter().flat_map(|family| family.samples.keys());
    samples.map(|(_, labels)| labels["service"].clone()).collect()
}

/// What a Prometheus finds: how many targets.
fn found(folder: &Path, discovery: &str) -> usize {
    let config = folder.join("prometheus.yml");
    std::fs::write(&config, format!("scrape_configs: [{{ job_name: j, {discovery} }}]\n")).expect("written");
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "service-discovery", "--timeout=2s", &config.display().to_string(), "j"]);
    let output = promtool.output().expect("promtool starts (Debian's package prometheus has it)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let found = found.as_array().expect("a list");
    let errors: Vec<_> = found.iter().filter(|target| target["error"].is_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    found.len()
}

#[test]
fn two_copies_share_and_every_page_of_either_says_who_has_what() {
    let (two, one, mut other) = Two::start();
    wait_until("both to have a share", PATIENCE, || {
        let is_shared = |shares: Option<Vec<usize>>| shares.is_some_and(|s| s.len() == 2 && !s.contains(&0));
        is_shared(shares(&one)) && is_shared(shares(&other))
    });
    wait_until("each to collect its own", PATIENCE, || {
        collected(&one).len() + collected(&other).len() == SERVICES
            && two.stored("redis_up").len() == SERVICES
    });

    // Both list all, each member under whoever collects it.
    let groups = json(&one, "/sd/targets");
    assert_eq!(groups, json(&other, "/sd/targets"));
    let listed = by_owner(&groups);
    for exporter in [&one, &other] {
        let mut wanted = collected(exporter);
        wanted.insert("/-/metrics".into());
        assert_eq!(listed[&exporter.port()], wanted);
    }
    let exporters = exporter_list(&one);
    assert_eq!((exporters.len(), &exporters), (2, &exporter_list(&other)));
    let file = two.folder.path().join("a/peers.json");
    let written = std::fs::read_to_string(&file).expect("a file");
    assert_eq!(written, one.get("/sd/exporters", &[]).text());
    let url = |path: &str| format!("http_sd_configs: [{{ url: \"http://{}{path}\" }}]", one.address());
    assert_eq!(found(two.folder.path(), &url("/sd/targets")), SERVICES + 2);
    assert_eq!(found(two.folder.path(), &url("/sd/exporters")), 2);
    assert_eq!(
        found(two.folder.path(), &format!("file_sd_configs: [{{ files: [\"{}\"] }}]", file.display())),
        2
    );

    // A member of the other one is asked when somebody wants it, and its labels are not said twice.
    let service = collected(&other).pop_first().expect("it has some");
    let target =
        groups.as_array().expect("groups").iter().find(|group| group["labels"]["service"] == *service);
    let target = target.expect("it is listed")["labels"]["__param_target"].as_str().expect("text").to_owned();
    let response = one.get(&format!("/scrape?target={}", encoded(&target)), &[]);
    assert_eq!(response.status, 200, "{}", response.text());
    let page = Page::parse(response.text());
    assert_eq!(page.value("redis_up", &[]), Some(1.0));
    assert!(!page.names().contains("redis_target_health"));
    let services = json(&one, "/api/v1/services");
    let services = services["services"].as_array().expect("services");
    let theirs = services.iter().find(|known| known["name"] == *service).expect("it is listed");
    assert!(theirs["owner"].as_str().expect("an id").ends_with(&format!(":{}", other.port())), "{theirs}");
    assert_eq!(theirs["members"][0]["health"], "unknown");

    // One goes: the other one has all of it at once, and no series ended.
    assert!(other.stop().success());
    wait_until("one to have all", PATIENCE, || collected(&one).len() == SERVICES);
    let gone = two.stored("redis_up");
    wait_until("all to go on", PATIENCE, || {
        let now = two.stored("redis_up");
        now.iter().all(|(service, samples)| samples.len() > gone[service].len())
    });
    for (service, samples) in two.stored("redis_up").iter().chain(&two.stored("redis_service_up")) {
        assert!(!samples.iter().any(is_stale), "{service}");
        assert!(samples.is_sorted_by_key(|sample| sample.timestamp), "{service}");
    }
    // Neither where work moved to the one that came nor where one went was a moment left out; a busy machine may be late.
    for (service, samples) in two.stored("redis_up") {
        let gaps = samples.windows(2).map(|pair| pair[1].timestamp - pair[0].timestamp);
        assert!(gaps.max().is_some_and(|gap| gap < 3000), "{service}");
    }
    assert_eq!(by_owner(&json(&one, "/sd/targets")).len(), 1);

    // A service that is there no more ends.
    two.write("a", SERVICES - 1);
    assert_eq!(one.send(Request { method: "POST", path: "/-/reload", headers: &[], body: b"" }).status, 200);
    wait_until("its series to end", PATIENCE, || {
        let ended = two.stored("redis_up");
        let last = format!("s{}", SERVICES - 1);
        ended.iter().all(|(service, samples)| samples.last().is_some_and(is_stale) == (*service == last))
    });
}

#[test]
fn while_etcd_is_away_lists_are_as_they_were_and_who_starts_then_has_none() {
    let (mut two, one, other) = Two::start();
    wait_until("both to have a share", PATIENCE, || {
        [&one, &other].iter().all(|e| shares(e).is_some_and(|s| s.len() == 2 && !s.contains(&0)))
    });
    let lists = || ["/sd/targets", "/sd/exporters"].map(|path| json(&one, path));
    let before = lists();
    two.etcd.kill();
    wait_until("it to be told", PATIENCE, || json(&one, "/api/v1/peers")["frozen"] == true);
    assert_eq!(lists(), before);
    let asked: Vec<_> = two.servers.iter().map(|server| server.count("INFO")).collect();
    wait_until("all to be collected as before", PATIENCE, || {
        two.servers.iter().zip(&asked).all(|(server, asked)| server.count("INFO") > asked + 1)
    });
    // It knows nobody, and has nothing. Who asks it all the same is answered.
    let late = two.copy("c");
    for path in ["/sd/targets", "/sd/exporters"] {
        assert_eq!(late.get(path, &[]).status, 503, "{path}");
    }
    assert!(collected(&late).is_empty() && !two.folder.path().join("c/peers.json").exists());
    let target = encoded(&two.servers[0].address());
    let has_members = || late.get(&format!("/scrape?target={target}"), &[]).status == 200;
    wait_until("its members to be known", PATIENCE, has_members);
    // Once etcd is back it is one of three.
    two.etcd.restart();
    wait_until("three to share", PATIENCE, || shares(&late).is_some_and(|s| s.len() == 3 && !s.contains(&0)));
    assert_eq!(exporter_list(&late).len(), 3);
}

/// The peers that are listed.
fn exporter_list(exporter: &Exporter) -> Vec<Value> {
    json(exporter, "/sd/exporters").as_array().expect("groups").clone()
}
