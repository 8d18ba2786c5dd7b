//! A fleet as it is served: whose samples are on which page under which labels, who may be asked for, who gets
//! which password, and another configuration without a restart.

use crate::follow::Fleet;
use crate::page::{Labels, Page};
use crate::{PATIENCE, encoded, exporter};
use std::collections::BTreeSet;
use std::io::Read as _;
use testbed::http::Request;
use testbed::{Action, Part, Response, ScriptedServer, SentinelSet, Server, wait_until};

/// The page about one target; it has to be there.
fn pull(fleet: &Fleet, target: &str) -> Page {
    fleet.page(&format!("/scrape?target={}", encoded(target)))
}

/// The values that a label has on a page.
fn values(page: &Page, family: &str, label: &str) -> BTreeSet<String> {
    let samples = page.families.get(family).into_iter().flat_map(|family| family.samples.keys());
    samples.filter_map(|(_, labels)| labels.get(label).cloned()).collect()
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Two services, one of them with a label of its own and a member behind a socket.
struct Two {
    orders: Server,
    cache: Server,
    socket: String,
    fleet: Fleet,
}

fn two(more: &str) -> Two {
    let orders = Server::start(Part::Redis7);
    let cache = Server::builder(Part::Valkey9).unix_socket().start();
    let socket = cache.socket().display().to_string();
    let fleet = Fleet::start(&format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s, labels: {{ env: prod }} }}\n{more}\
         services:\n  - {{ name: orders, instances: [\"{}\"], labels: {{ team: checkout }} }}\n  \
         - {{ name: cache, instances: [\"unix://{socket}\"] }}\n",
        orders.address()
    ));
    Two { orders, cache, socket, fleet }
}

#[test]
fn the_page_of_a_fleet_says_whose_samples_these_are() {
    let Two { orders, socket, fleet, .. } = two("");
    let at = orders.address();
    let page = fleet.page("/metrics");
    let of_orders = [("env", "prod"), ("instance", &*at), ("service", "orders"), ("team", "checkout")];
    let of_cache = [("env", "prod"), ("instance", &*socket), ("service", "cache")];
    for labels in [&of_orders[..], &of_cache[..]] {
        assert_eq!(page.value("redis_up", labels), Some(1.0), "{labels:?}");
        assert!(page.value("redis_uptime_in_seconds", labels).is_some(), "{labels:?}");
        let age = page.value("redvigil_snapshot_age_seconds", labels).expect("its age");
        assert!((0.0..2.0).contains(&age), "{age}");
        let ok = [labels, &[("state", "ok")]].concat();
        assert_eq!(page.value("redis_target_health", &ok), Some(1.0));
    }
    // Of ourselves and of the services.
    assert_eq!(page.families["redvigil_build_info"].samples.len(), 1);
    let service = [("env", "prod"), ("service", "orders"), ("team", "checkout")];
    assert_eq!(page.value("redis_service_up", &service), Some(1.0));
    assert_eq!(
        page.value("redis_topology_info", &[&service[..], &[("kind", "instances")]].concat()),
        Some(1.0)
    );

    // Ourselves and the services alone.
    let own = fleet.page("/-/metrics");
    assert!(own.has("redvigil_build_info") && own.has("redis_service_up"), "{:?}", own.names());
    assert!(own.names().iter().all(|name| values(&own, name, "instance").is_empty()), "{:?}", own.names());

    // Narrowed.
    let check = |query: &str, instances: &[&str], services: &[&str]| {
        let page = fleet.page(&format!("/metrics?{query}"));
        assert_eq!(values(&page, "redis_up", "instance"), set(instances), "{query}");
        assert_eq!(values(&page, "redis_service_up", "service"), set(services), "{query}");
        assert!(!page.has("redvigil_build_info"), "{query}: nothing of ourselves");
    };
    check("service=orders", &[&at], &["orders"]);
    check("service=cache", &[&socket], &["cache"]);
    check("service=cache&service=orders", &[&at, &socket], &["cache", "orders"]);
    check(&format!("instance={}", encoded(&socket)), &[&socket], &[]);
    check(&format!("service=orders&instance={}", encoded(&socket)), &[], &[]);
    check("service=nobody", &[], &[]);
    let page = fleet.page("/metrics?name[]=redis_up&name[]=redis_service_up");
    assert_eq!(page.names(), BTreeSet::from(["redis_service_up", "redis_up"]));
    assert_eq!(page.families["redis_up"].samples.len(), 2);
}

#[test]
fn the_page_of_a_fleet_comes_in_the_form_that_is_asked_for() {
    let Two { fleet, .. } = two("");
    let names = |text: &str| -> BTreeSet<String> {
        let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        kinds.map(|rest| rest.split(' ').next().expect("a name").to_owned()).collect()
    };
    let plain = fleet.exporter.get("/metrics", &[]);
    assert!(plain.header("content-encoding").is_none());
    let zipped = fleet.exporter.get("/metrics", &[("Accept-Encoding", "gzip")]);
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    assert!(zipped.body.len() < plain.body.len() / 2, "{} of {}", zipped.body.len(), plain.body.len());
    let mut text = String::new();
    flate2::read::GzDecoder::new(&zipped.body[..]).read_to_string(&mut text).expect("it can be unzipped");
    Page::parse(&text);
    assert_eq!(names(&text), names(plain.text()));

    let accept = [("Accept", "application/openmetrics-text;version=1.0.0")];
    let open = fleet.exporter.get("/metrics", &accept);
    let kind = open.header("content-type").expect("always there");
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(open.text().ends_with("\n# EOF\n"));
    assert_promtool_reads(plain.text());
    assert_promtool_reads(&text);
}

/// promtool reads the page. What it says about the style of names is no matter: they are those of the exporter
/// that ours replaces.
fn assert_promtool_reads(page: &str) {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut child = Command::new(Part::Promtool.path())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(page.as_bytes()).expect("promtool reads");
    drop(input);
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    // 3: it could be read, and there is something about the style.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}: {said}", output.status);
    // Samples that come twice or families in two parts are read all the same, and are no matter of style.
    for line in said.lines() {
        let style = ["should have", "should not have", "should not contain", "abbreviated"];
        assert!(style.iter().any(|words| line.contains(words)) || line.is_empty(), "{line}");
    }
}

#[test]
fn the_labels_that_say_so_can_have_other_names() {
    let Two { orders, fleet, .. } =
        two("web: { service_label: redis_service, instance_label: redis_instance }\n");
    let page = fleet.page("/metrics");
    let at = orders.address();
    let labels =
        [("env", "prod"), ("redis_instance", &*at), ("redis_service", "orders"), ("team", "checkout")];
    assert_eq!(page.value("redis_up", &labels), Some(1.0));
    assert_eq!(values(&page, "redis_service_up", "redis_service"), set(&["cache", "orders"]));
    for name in page.names() {
        assert!(values(&page, name, "service").is_empty(), "{name}");
    }
    let groups = fleet.json("/sd/targets");
    let groups = groups.as_array().expect("groups");
    assert!(groups.iter().any(|group| group["labels"]["redis_instance"] == *at), "{groups:?}");
}

#[test]
fn a_member_can_be_asked_for_and_a_stranger_cannot() {
    let Two { orders, cache, socket, fleet } = two("");
    for (target, server) in [(orders.url(), &orders), (format!("unix://{socket}"), &cache)] {
        let page = pull(&fleet, &target);
        page.assert_healthy();
        assert_eq!(page.value("redis_target_health", &[("state", "ok")]), Some(1.0));
        assert_eq!(page.value("redis_member_role", &[("role", "master")]), Some(1.0));
        assert_eq!(page.value("redvigil_breaker_state", &[("state", "closed")]), Some(1.0));
        assert_eq!(page.value("redis_target_consecutive_failures", &[]), Some(0.0));
        // Prometheus adds them: /sd/targets says which.
        let own: Vec<&Labels> = page
            .families
            .values()
            .flat_map(|family| family.samples.keys().map(|(_, labels)| labels))
            .collect();
        for label in ["service", "instance", "env", "team"] {
            assert!(own.iter().all(|labels| !labels.contains_key(label)), "{label}");
        }
        // Afresh: what was set a moment ago is there.
        server.ok(&["CONFIG", "SET", "maxmemory", "123456789"]);
        assert_eq!(pull(&fleet, &target).value("redis_memory_max_bytes", &[]), Some(123_456_789.0));
    }
    // A TCP address of a member that is known by its socket, and another server.
    let stranger = Server::start(Part::Redis7);
    for target in [cache.address(), stranger.address(), "unix:///run/other.sock".into()] {
        let response = fleet.exporter.get(&format!("/scrape?target={}", encoded(&target)), &[]);
        assert_eq!(response.status, 403, "{target}: {}", response.text());
    }
    assert!(crate::our_clients(&stranger).is_empty());
    assert_eq!(fleet.page("/-/metrics").value("redvigil_scrape_denied_total", &[]), Some(3.0));
}

#[test]
fn a_server_of_two_services_can_be_asked_for_as_either() {
    let server = Server::start(Part::Redis7);
    let at = server.address();
    let fleet = Fleet::start(&format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nservices:\n  \
         - {{ name: one, instances: [\"{at}\"] }}\n  \
         - {{ name: two, instances: [\"{at}\"], collect: {{ instance_role_label: true }} }}\n"
    ));
    let groups = fleet.json("/sd/targets");
    let groups = groups.as_array().expect("groups");
    for (service, role) in [("one", &[][..]), ("two", &[("instance_role", "master")])] {
        let group = groups.iter().find(|group| group["labels"]["__param_service"] == service);
        let labels = &group.expect("a group of the service")["labels"];
        assert_eq!((&labels["service"], &labels["instance"]), (&service.into(), &at.as_str().into()));
        let target = encoded(labels["__param_target"].as_str().expect("text"));
        let page = fleet.page(&format!("/scrape?target={target}&service={service}"));
        assert_eq!(page.value("redis_up", role), Some(1.0), "{service}: {:?}", page.names());
        assert!(page.value("redis_uptime_in_seconds", role).is_some(), "{service}: {:?}", page.names());
    }
    let page = fleet.page("/metrics?service=two");
    assert_eq!(values(&page, "redis_up", "instance_role"), set(&["master"]));
    // Without it, the first one.
    assert_eq!(pull(&fleet, &at).up(), 1.0);
    let nobody = fleet.exporter.get(&format!("/scrape?target={}&service=nobody", encoded(&at)), &[]);
    assert_eq!(nobody.status, 403, "{}", nobody.text());
}

#[test]
fn without_our_own_families_there_are_none_of_a_fleet() {
    let server = Server::start(Part::Redis7);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("redvigil.yaml");
    let document = format!("services: [{{ name: orders, instances: [\"{}\"] }}]\n", server.address());
    std::fs::write(&path, document).expect("written");
    let flag = format!("--config.file={}", path.display());
    let exporter = exporter(&[flag.as_str(), "--redis-only-metrics"]).start();
    let page = |path: &str| Page::parse(exporter.get(path, &[]).text());
    wait_until("the member", PATIENCE, || page("/metrics").has("redis_up"));
    let target = encoded(&server.address());
    for path in ["/metrics", "/-/metrics", &format!("/scrape?target={target}")] {
        let page = page(path);
        let own: Vec<_> = page.names().into_iter().filter(|name| name.starts_with("redvigil_")).collect();
        assert!(own.is_empty() && !page.names().is_empty(), "{path}: {own:?}");
    }
    assert!(page("/metrics").has("redis_target_health"));
}

#[test]
fn a_service_that_nobody_answers_for_does_not_hide_the_others() {
    let server = Server::start(Part::Redis7);
    let silent = "{ name: silent, sentinel: { master: m, addresses: [\"127.0.0.1:1\"] } }";
    let head = "global: { scrape_interval: 1s, scrape_timeout: 1s }\nservices:\n";
    let fleet = Fleet::start_unready(&format!(
        "{head}  - {silent}\n  - {{ name: orders, instances: [\"{}\"] }}\n",
        server.address()
    ));
    let asked = || fleet.exporter.get("/sd/targets", &[]);
    wait_until("the service that is there", PATIENCE, || asked().status == 200);
    assert!(asked().text().contains(&server.address()), "{}", asked().text());
    // While there is no other, Prometheus is to keep what it has.
    let fleet = Fleet::start_unready(&format!("{head}  - {silent}\n"));
    wait_until("the refusal", PATIENCE, || !fleet.service("silent")["discovery"]["reason"].is_null());
    let response = fleet.exporter.get("/sd/targets", &[]);
    assert_eq!(response.status, 503);
    assert!(response.text().contains("silent"), "{}", response.text());
}

#[test]
fn a_stranger_on_the_list_can_be_asked_for() {
    let Two { orders, cache, fleet, .. } = two("scrape: { allow: [\"127.0.0.1\"] }\n");
    let page = pull(&fleet, &cache.address());
    page.assert_healthy();
    assert!(!page.has("redis_target_health"), "nobody keeps watch over it");
    assert!(pull(&fleet, &orders.address()).has("redis_target_health"));
    let elsewhere = fleet.exporter.get("/scrape?target=127.0.0.2:6379", &[]);
    assert_eq!(elsewhere.status, 403);
}

#[test]
fn a_replica_says_how_far_it_is_behind() {
    let master = Server::start(Part::Redis7);
    let replica = Server::builder(Part::Redis7).replica_of(&master).start();
    replica.wait_for_info("replication", "master_link_status", "up", PATIENCE);
    let fleet = Fleet::start(&format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
         services: [{{ name: pair, instances: [\"{}\", \"{}\"] }}]\n",
        master.address(),
        replica.address()
    ));
    let behind = || pull(&fleet, &replica.address()).value("redis_replica_lag_bytes", &[]);
    wait_until("the lag of the replica", PATIENCE, || behind().is_some_and(|lag| lag < 10_000.0));
    let page = pull(&fleet, &replica.address());
    assert_eq!(page.value("redis_member_role", &[("role", "replica")]), Some(1.0));
    assert_eq!(page.value("redis_replication_lag_exceeded", &[]), Some(0.0));
    assert!(!pull(&fleet, &master.address()).has("redis_replica_lag_bytes"));
    let member = fleet.member("pair", &replica.address()).expect("a member");
    assert!(member["lag_bytes"].is_u64() && member["role"] == "replica", "{member}");
    assert_eq!(fleet.service("pair")["master"], master.address());
}

#[test]
fn callers_and_ticks_share_a_collection() {
    // Ticks are a minute apart: what is collected is what callers ask for.
    let server = ScriptedServer::start(|words| match words[0].eq_ignore_ascii_case(b"INFO") {
        true => Action::Delay(std::time::Duration::from_millis(300), Box::new(Action::Default)),
        false => Action::Default,
    });
    let fleet = Fleet::start(&format!(
        "global: {{ scrape_interval: 1m, scrape_timeout: 20s }}\n\
         services: [{{ name: cache, instances: [\"{}\"] }}]\n",
        server.address()
    ));
    let before = server.count("INFO");
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| assert_eq!(pull(&fleet, &server.address()).up(), 1.0));
        }
    });
    let asked = server.count("INFO") - before;
    // On a busy machine one of them can come after the end of the first collection, and a tick too.
    assert!((1..=3).contains(&asked), "five callers made {asked} collections");
}

#[test]
fn a_member_that_hangs_is_on_the_page_without_what_it_said_before() {
    let Two { orders, mut cache, socket, fleet } = two("");
    cache.pause();
    let labels = [("env", "prod"), ("instance", &*socket), ("service", "cache")];
    let up = || fleet.page("/metrics").value("redis_up", &labels);
    wait_until("the failure to be on the page", PATIENCE, || up() == Some(0.0));
    let page = fleet.page("/metrics");
    assert_eq!(values(&page, "redis_up", "instance"), set(&[&orders.address(), &socket]));
    assert_eq!(values(&page, "redis_uptime_in_seconds", "instance"), set(&[&orders.address()]));
    cache.resume();
    wait_until("its return", PATIENCE, || up() == Some(1.0));
}

#[test]
fn a_member_that_nobody_could_read_for_two_intervals_is_left_out() {
    // All on one host, one at a time, half a second each: a round takes four intervals.
    let hung: Vec<_> = (0..8).map(|_| ScriptedServer::start(|_| Action::Half(vec![]))).collect();
    let addresses: Vec<_> = hung.iter().map(|server| format!("\"{}\"", server.address())).collect();
    let fleet = Fleet::start_unready(&format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape: {{ per_host: 1 }}\n\
         health: {{ failures_to_down: 1000 }}\nservices: [{{ name: cache, instances: [{}] }}]\n",
        addresses.join(", ")
    ));
    let ages = || -> Vec<Option<f64>> {
        let targets = fleet.json("/api/v1/targets");
        let targets = targets["targets"].as_array().expect("targets");
        targets.iter().map(|target| target["snapshot_age_seconds"].as_f64()).collect()
    };
    wait_until("each to have been tried", PATIENCE, || {
        ages().len() == 8 && ages().iter().all(Option::is_some)
    });
    wait_until("one to be too old", PATIENCE, || {
        let page = fleet.page("/metrics");
        let old =
            page.families["redvigil_snapshot_age_seconds"].samples.iter().filter(|(_, age)| **age > 2.0);
        let old: BTreeSet<_> = old.map(|((_, labels), _)| labels["instance"].clone()).collect();
        let shown = values(&page, "redis_up", "instance");
        assert!(old.is_disjoint(&shown), "{old:?} are among {shown:?}");
        // What we know ourselves is there of each.
        assert_eq!(values(&page, "redis_target_health", "instance").len(), hung.len());
        assert_eq!(values(&page, "redvigil_ticks_skipped_total", "instance").len(), hung.len());
        !old.is_empty()
    });
    assert_eq!(ages().len(), hung.len(), "they are members all the same");
    let skipped = || {
        let targets = fleet.json("/api/v1/targets");
        targets["targets"].as_array().expect("targets").iter().any(|t| t["skipped_ticks"].as_u64() > Some(0))
    };
    wait_until("ticks to be skipped", PATIENCE, skipped);
}

#[test]
fn a_server_that_is_listed_twice_is_one_member() {
    let server = Server::start(Part::Redis7);
    let fleet = Fleet::start_unready(&format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
         services: [{{ name: cache, instances: [\"{0}\", \"localhost:{1}\"] }}]\n",
        server.address(),
        server.port()
    ));
    wait_until("one member", PATIENCE, || fleet.instances("cache") == [server.address()]);
    assert_eq!(values(&fleet.page("/metrics"), "redis_up", "instance"), set(&[&server.address()]));
}

#[test]
fn a_member_is_sent_the_password_of_its_profile_and_nobody_else_is() {
    let take_all = || ScriptedServer::start(|_| Action::Default);
    let (orders, cache, third, stranger) = (take_all(), take_all(), take_all(), take_all());
    let fleet = Fleet::start(&format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
         credentials:\n  \
           - {{ name: one, match: {{ services: [orders] }}, username: me, password: sesame-one }}\n  \
           - {{ name: two, match: {{ hosts: [\"{}\"] }}, password: sesame-two }}\n\
         scrape: {{ allow: [\"{}\"] }}\n\
         services:\n  \
           - {{ name: orders, instances: [\"{}\"] }}\n  \
           - {{ name: cache, instances: [\"{}\"] }}\n  \
           - {{ name: third, instances: [\"{}\"] }}\n",
        cache.address(),
        stranger.address(),
        orders.address(),
        cache.address(),
        third.address(),
    ));
    assert_eq!(pull(&fleet, &stranger.address()).up(), 1.0);
    assert_eq!(pull(&fleet, &format!("redis://me:guess@{}", third.address())).up(), 1.0);
    // Every word that a server was sent after AUTH, up to the next option.
    let sent = |server: &ScriptedServer| -> BTreeSet<String> {
        let login = |words: &Vec<String>| {
            let at = words.iter().position(|word| word == "AUTH")?;
            let words = words[at + 1..].iter().take_while(|word| *word != "SETNAME");
            Some(words.cloned().collect::<Vec<_>>().join(" "))
        };
        server.commands().iter().filter_map(login).collect()
    };
    assert_eq!(sent(&orders), set(&["me sesame-one"]));
    assert_eq!(sent(&cache), set(&["default sesame-two"]));
    assert_eq!(sent(&third), set(&[]), "no profile matches it");
    assert_eq!(sent(&stranger), set(&[]), "a stranger is no member");
    for path in ["/metrics", "/sd/targets", "/api/v1/services", "/api/v1/targets", "/api/v1/events"] {
        assert!(!fleet.exporter.get(path, &[]).text().contains("sesame"), "{path}");
    }
    assert!(!fleet.exporter.stderr().contains("sesame"));
}

#[test]
fn sentinels_have_passwords_of_their_own() {
    let set =
        SentinelSet::builder(Part::Redis7).password("of-data").sentinel_password("of-sentinels").start();
    let document = |sentinel_password: &str| {
        format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
             credentials:\n  - name: one\n    match: {{ services: [orders] }}\n    password: of-data\n{sentinel_password}\
             services:\n  - name: orders\n    sentinel: {{ master: {}, addresses: [\"127.0.0.1:{}\"] }}\n",
            SentinelSet::NAME,
            set.sentinels[0].port()
        )
    };
    let fleet = Fleet::start(&document("    sentinel_password: of-sentinels\n"));
    assert_eq!(fleet.instances("orders").len(), 3);
    assert_eq!(fleet.service("orders")["master"], format!("127.0.0.1:{}", set.master_port()));
    // Without it they get none, though there is one for the data.
    let fleet = Fleet::start_unready(&document(""));
    wait_until("the refusal", PATIENCE, || fleet.service("orders")["discovery"]["reason"] == "auth");
    assert!(fleet.instances("orders").is_empty());
}

#[test]
fn a_target_by_flag_beside_services_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("redvigil.yaml");
    std::fs::write(&path, "services: [{ name: cache, instances: [\"127.0.0.1:1\"] }]\n").expect("written");
    let flag = format!("--config.file={}", path.display());
    let ended = exporter(&[flag.as_str(), "--redis.addr=redis://127.0.0.1:2"]).run_to_end(PATIENCE);
    assert!(!ended.status.success());
    assert!(ended.stderr.contains("--redis.addr"), "{}", ended.stderr);
    assert!(ended.stderr.contains("services"), "{}", ended.stderr);
}

/// Asks for a reload.
fn reload(fleet: &Fleet) -> Response {
    fleet.exporter.send(Request { method: "POST", path: "/-/reload", headers: &[], body: b"" })
}

#[test]
fn services_come_and_go_with_a_reload() {
    let (one, two) = (Server::start(Part::Redis7), Server::start(Part::Valkey9));
    let head = "global: { scrape_interval: 1s, scrape_timeout: 1s }\nservices:\n";
    let entry = |name: &str, server: &Server| {
        format!("  - {{ name: {name}, instances: [\"{}\"] }}\n", server.address())
    };
    let mut fleet = Fleet::start(&format!("{head}{}", entry("one", &one)));
    let names = |fleet: &Fleet| -> Vec<String> {
        fleet.services().iter().map(|service| service["name"].as_str().expect("text").to_owned()).collect()
    };
    let uptime = |fleet: &Fleet| fleet.page("/-/metrics").value("process_start_time_seconds", &[]);
    let started = uptime(&fleet);

    fleet.rewrite(&format!("{head}{}{}", entry("one", &one), entry("two", &two)));
    let response = reload(&fleet);
    assert_eq!(response.status, 200, "{}", response.text());
    let up = [("instance", &*two.address()), ("service", "two")].map(|(k, v)| (k, v.to_owned()));
    let up: Vec<_> = up.iter().map(|(name, value)| (*name, value.as_str())).collect();
    wait_until("the second service", PATIENCE, || fleet.page("/metrics").value("redis_up", &up) == Some(1.0));
    assert_eq!(names(&fleet), ["one", "two"]);
    pull(&fleet, &two.address()).assert_healthy();

    // What is wrong with a file is said, and what runs goes on.
    fleet.rewrite("services:\n  - { name: one, instances: 7, colour: red }\n");
    let response = reload(&fleet);
    assert_eq!(response.status, 500);
    assert!(
        response.text().contains("services") && response.text().contains("colour"),
        "{}",
        response.text()
    );
    assert_eq!(names(&fleet), ["one", "two"]);
    let page = fleet.page("/-/metrics");
    assert_eq!(page.value("redvigil_config_last_reload_successful", &[]), Some(0.0));
    // Whoever follows the file may have come first, and failed, too.
    let failed = [("source", "request"), ("outcome", "failed")];
    assert_eq!(page.value("redvigil_config_reloads_total", &failed), Some(1.0));
    assert_eq!(fleet.page("/metrics").value("redis_up", &up), Some(1.0));
    wait_until("the log to name the key", PATIENCE, || fleet.exporter.stderr().contains("colour"));

    // By signal, and one service less.
    fleet.rewrite(&format!("{head}{}", entry("two", &two)));
    fleet.exporter.process().signal(rustix::process::Signal::HUP);
    wait_until("the end of the first service", PATIENCE, || names(&fleet) == ["two"]);
    wait_until("the end of its series", PATIENCE, || {
        values(&fleet.page("/metrics"), "redis_up", "instance") == set(&[&two.address()])
    });
    assert!(!values(&fleet.page("/-/metrics"), "redis_service_up", "service").contains("one"));
    wait_until("the end of its connection", PATIENCE, || crate::our_clients(&one).is_empty());
    let page = fleet.page("/-/metrics");
    assert_eq!(page.value("redvigil_config_last_reload_successful", &[]), Some(1.0));
    assert_eq!(uptime(&fleet), started, "it is the same process");
}
