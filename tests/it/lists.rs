//! Services whose members are listed: in the configuration and in files, and a server that is listed twice.

use crate::PATIENCE;
use crate::follow::Fleet;
use std::fs;
use testbed::{Part, Server, Value, wait_until};

fn instances(fleet: &Fleet, service: &str) -> Vec<String> {
    let service = fleet.service(service);
    let members = service["members"].as_array().expect("members").clone();
    members.iter().map(|member| member["instance"].as_str().expect("a text").to_owned()).collect()
}

fn wait_for_instances(fleet: &Fleet, service: &str, expected: &[&str]) {
    wait_until("other members", PATIENCE, || instances(fleet, service) == expected);
}

#[test]
fn members_in_files_come_and_go_with_the_files() {
    let (one, two) = (Server::start(Part::Redis7), Server::start(Part::Redis7));
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).expect("written");
    write("a.json", format!(r#"[{{"targets": ["{}"], "labels": {{"team": "x"}}}}]"#, one.address()));
    // Long enough for what is seen to be seen because somebody told.
    let fleet = Fleet::start(&format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         discover: {{interval: 1h}}\n\
         services:\n  - name: legacy\n    file_sd: {{files: [\"{0}/*.json\", \"{0}/*.yml\"]}}\n",
        folder.path().display()
    ));
    wait_for_instances(&fleet, "legacy", &[&one.address()]);
    let labels =
        [("instance", &*one.address()), ("service", "legacy"), ("team", "x")].map(|(n, v)| (n, v.to_owned()));
    let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(fleet.page("/metrics").value("redis_up", &labels), Some(1.0));

    write("b.yml", format!("- targets: [\"{}\"]\n", two.address()));
    let mut both = [one.address(), two.address()];
    both.sort_unstable();
    wait_for_instances(&fleet, "legacy", &[&both[0], &both[1]]);

    write("a.json", "[{".into());
    let up =
        |fleet: &Fleet| fleet.page("/-/metrics").value("redvigil_discovery_up", &[("service", "legacy")]);
    wait_until("the broken file to be told", PATIENCE, || up(&fleet) == Some(0.0));
    assert_eq!(instances(&fleet, "legacy"), both, "a broken file keeps its members");

    write("a.json", "[]".into());
    wait_for_instances(&fleet, "legacy", &[&two.address()]);
    assert_eq!(up(&fleet), Some(1.0));
    let page = fleet.page("/-/metrics");
    assert_eq!(page.value("redvigil_discovery_members", &[("service", "legacy")]), Some(1.0));
    assert_eq!(page.value("redis_topology_info", &[("kind", "file_sd"), ("service", "legacy")]), Some(1.0));
    let gone = [format!("{} > -", one.address()), format!("- > {}", two.address())];
    for event in gone {
        assert!(fleet.told("topology").contains(&event), "{event}");
    }
}

#[test]
fn a_server_under_two_addresses_is_one_member_also_after_a_restart() {
    let mut server = Server::builder(Part::Redis7)
        .unix_socket()
        .config("slowlog-log-slower-than 0")
        .config("slowlog-max-len 100000")
        .start();
    let socket = server.socket().display().to_string();
    let fleet = Fleet::start_unready(&format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         services:\n  - name: cache\n    instances: [\"{}\", \"unix://{socket}\"]\n",
        server.address()
    ));
    wait_for_instances(&fleet, "cache", &[&server.address()]);
    let merged = [format!("{socket} > {}", server.address())];
    let told = || fleet.told("topology").into_iter().filter(|told| told != "- > -").collect::<Vec<_>>();
    assert_eq!(told(), merged);

    server.restart();
    wait_until("the member to be read and the other address to be asked", PATIENCE, || {
        let log = server.ok(&["SLOWLOG", "GET", "-1"]);
        let asked = |entry: &Value| entry.array()[3].array().iter().map(Value::text).eq(["INFO", "server"]);
        log.array().iter().any(asked)
            && fleet.member("cache", &server.address()).is_some_and(|member| member["health"] == "ok")
    });
    assert_eq!(instances(&fleet, "cache"), [server.address()]);
    assert_eq!(told(), merged);
}
