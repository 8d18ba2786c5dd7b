//! The users that `docs/compatibility.md` tells operators to make: they may do what we ask, and no more.
//!
//! The rules are read from the page itself.

use crate::{PATIENCE, exporter, metrics, on_demand, our_clients, page::Page, scrape};
use std::collections::BTreeSet;
use testbed::{Cluster, ExporterBuilder, Part, SentinelSet, Server, wait_until};

const PAGE: &str = include_str!("../../docs/compatibility.md");

/// The rules of the user that the page makes for servers of this title.
fn rules(title: &str) -> Vec<&'static str> {
    let after = PAGE.split_once(&format!("# {title}\n")).unwrap_or_else(|| panic!("no line for {title}")).1;
    let line = after.lines().next().expect("a line after the title");
    let rules = line.strip_prefix("ACL SETUSER redvigil on >secret ").unwrap_or_else(|| panic!("{line}"));
    rules.split(' ').collect()
}

/// The rows of the table of flags: a flag, and what it needs besides.
fn rows() -> Vec<(&'static str, Vec<String>)> {
    let lines = PAGE.lines().skip_while(|line| !line.starts_with("| flag | rules |")).skip(2);
    let row = |line: &'static str| {
        let cells: Vec<_> = line.strip_prefix("| `")?.split(" | ").collect();
        // In a table, a bar in a text is written with a backslash.
        let rules = cells[1].trim_matches('`').split(' ').map(|rule| rule.replace("\\|", "|")).collect();
        Some((cells[0].trim_end_matches('`'), rules))
    };
    lines.map_while(row).collect()
}

/// The rules of one row.
fn row(flag: &str) -> Vec<String> {
    rows().into_iter().find(|(name, _)| *name == flag).unwrap_or_else(|| panic!("no row for {flag}")).1
}

fn set_user(server: &Server, name: &str, rules: &[&str]) {
    server.ok(&[&["ACL", "SETUSER", name, "reset", "on", ">secret"], rules].concat());
}

/// What was denied to this user, as `ACL LOG` tells it.
fn denied(server: &Server, user: &str) -> BTreeSet<String> {
    let log = server.ok(&["ACL", "LOG", "1000"]);
    let field = |entry: &testbed::Value, name: &str| {
        let pairs = entry.array().chunks(2);
        pairs.into_iter().find(|pair| pair[0].text() == name).map(|pair| pair[1].text()).unwrap_or_default()
    };
    let entries = log.array().iter().filter(|entry| field(entry, "username") == user);
    entries.map(|entry| field(entry, "object")).collect()
}

/// An exporter that may log in as any user of this machine's servers.
fn as_users(flags: &[&str]) -> testbed::Exporter {
    let login = ["--redis.password=secret", "--scrape.credentials-for=127.0.0.1"];
    on_demand(&[&login, flags].concat())
}

#[track_caller]
fn assert_all_well(page: &Page, what: &str) {
    assert_eq!((page.up(), page.error()), (1.0, ""), "{what}");
    let failed: Vec<_> = page.collectors().into_iter().filter(|(_, success)| !success).collect();
    assert!(failed.is_empty(), "{what}: {failed:?}");
}

#[test]
fn the_user_of_each_server_may_do_all_that_is_asked_by_default_and_no_more() {
    let redis = "Redis 6.2 to 8, Valkey 7.2 and 8.0";
    let valkey = "Valkey 8.1 and later";
    for (part, title) in [
        (Part::Redis62, redis),
        (Part::Redis7, redis),
        (Part::Redis8, redis),
        (Part::Valkey8, valkey),
        (Part::Valkey9, valkey),
    ] {
        let server = Server::start(part);
        let rules = rules(title);
        let exporter = as_users(&[]);
        let page = |user: &str| {
            let target = format!("redis://{user}@{}", server.address());
            scrape(&exporter, &target);
            scrape(&exporter, &target)
        };
        set_user(&server, "all", &rules);
        assert_all_well(&page("all"), part.name());
        assert_eq!(denied(&server, "all"), BTreeSet::new(), "{}", part.name());
        // Without any one of them something is missed. 6.2 has no LATENCY HISTOGRAM, and only nodes of a
        // cluster are asked for it.
        for (i, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.starts_with('+')) {
            let idle = *rule == "+cluster|info" || part == Part::Redis62 && *rule == "+latency|histogram";
            let others: Vec<_> = rules.iter().copied().filter(|other| other != rule).collect();
            let user = format!("user{i}");
            set_user(&server, &user, &others);
            page(&user);
            let missed = !denied(&server, &user).is_empty();
            assert_eq!(missed, !idle, "{} without {rule}: {:?}", part.name(), denied(&server, &user));
        }
    }
}

/// Something of everything, so that every command is sent.
const FILLED: &str = "
    SET string 1
    PFADD hyperloglog a
    RPUSH list a
    SADD set a
    ZADD zset 1 a
    HSET hash a 1
    XADD stream 1-1 a 1
    XGROUP CREATE stream group 0
    XGROUP CREATECONSUMER stream group alice
    SELECT 1
    SET string 1
    SELECT 0
";

/// A flag as it stands in the table, with values that have everything asked.
fn with_values(flag: &str, script: &str) -> Vec<String> {
    let values = match flag {
        "--check-keys" => vec!["--check-keys=*,db1=*"],
        "--check-single-keys" => {
            vec!["--check-single-keys=string,hyperloglog,list,set,zset,hash,stream,1=string"]
        }
        "--count-keys" => vec!["--count-keys=*,db1=*"],
        "--check-streams" => vec!["--check-streams=*,db1=*"],
        "--check-single-streams" => vec!["--check-single-streams=stream,db1=none"],
        "--check-key-groups" => vec!["--check-key-groups=^(s)"],
        "--script" => vec![script],
        "--script --lua-script-read-only" => vec![script, "--lua-script-read-only"],
        "--redis.addr with a database" => vec![],
        switch => vec![switch],
    };
    values.into_iter().map(str::to_owned).collect()
}

#[test]
fn a_flag_needs_what_its_row_says() {
    let script = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(script.path(), "return {'a', '1'}").expect("it can be written");
    let script = format!("--script={}", script.path().display());
    let servers = [
        (Server::start(Part::Redis62), "Redis 6.2 to 8, Valkey 7.2 and 8.0"),
        (Server::start(Part::Redis7), "Redis 6.2 to 8, Valkey 7.2 and 8.0"),
        (Server::start(Part::Valkey9), "Valkey 8.1 and later"),
    ];
    let rows = rows();
    assert!(rows.len() > 10, "{rows:?}");
    for (server, title) in &servers {
        for line in FILLED.lines().map(str::trim).filter(|line| !line.is_empty()) {
            server.ok(&line.split(' ').collect::<Vec<_>>());
        }
        for (i, (flag, more)) in rows.iter().enumerate() {
            // A cluster has a test of its own, search no server here, and 6.2 no EVAL_RO.
            if ["--is-cluster", "--include-search-indexes-metrics"].contains(flag)
                || server.part() == Part::Redis62 && more.contains(&"+eval_ro".to_owned())
            {
                continue;
            }
            let flags = with_values(flag, &script);
            let exporter = as_users(&flags.iter().map(String::as_str).collect::<Vec<_>>());
            let path = if flag.contains("database") { "/1" } else { "" };
            let page = |user: &str| {
                let target = format!("redis://{user}@{}{path}", server.address());
                scrape(&exporter, &target);
                scrape(&exporter, &target)
            };
            let more: Vec<_> = more.iter().map(String::as_str).collect();
            let all = [&rules(title)[..], &more].concat();
            let user = format!("all{i}");
            set_user(server, &user, &all);
            assert_all_well(&page(&user), flag);
            assert_eq!(denied(server, &user), BTreeSet::new(), "{flag}");
            for (j, rule) in more.iter().enumerate() {
                let user = format!("user{i}_{j}");
                let others: Vec<_> = all.iter().copied().filter(|other| other != rule).collect();
                set_user(server, &user, &others);
                page(&user);
                assert!(!denied(server, &user).is_empty(), "{flag} needs no {rule}");
            }
        }
    }
}

#[test]
fn a_cluster_is_read_by_the_user_of_its_row() {
    let cluster = Cluster::start(Part::Redis7, 3, 0);
    cluster.set("key", "1");
    let more = [row("--is-cluster"), row("--check-keys")].concat();
    let mut rules = rules("Redis 6.2 to 8, Valkey 7.2 and 8.0");
    rules.extend(more.iter().map(String::as_str));
    cluster.nodes.iter().for_each(|node| set_user(node, "redvigil", &rules));
    let address = format!("--redis.addr=redis://redvigil:secret@{}", cluster.nodes[0].address());
    let exporter: ExporterBuilder = exporter(&[&address, "--is-cluster", "--check-keys=*"]);
    let exporter = exporter.start();
    let page = metrics(&exporter);
    assert_all_well(&page, "cluster");
    assert_eq!(page.value("redis_key_size", &[("db", "db0"), ("key", "key")]), Some(1.0));
    let found = exporter.get("/discover-cluster-nodes", &[]);
    assert_eq!(found.status, 200, "{}", found.text());
    for node in &cluster.nodes {
        assert_eq!(denied(node, "redvigil"), BTreeSet::new());
    }
}

#[test]
fn a_sentinel_is_read_by_the_user_of_its_line() {
    let set = SentinelSet::start(Part::Redis7);
    let sentinel = &set.sentinels[0];
    set_user(sentinel, "redvigil", &rules("Sentinel"));
    let exporter = as_users(&["--include-config-metrics"]);
    let page = scrape(&exporter, &format!("redis://redvigil@{}", sentinel.address()));
    assert_all_well(&page, "sentinel");
    assert!(page.has("redis_sentinel_master_ckquorum_status") && page.has("redis_sentinel_config_key_value"));
    assert_eq!(denied(sentinel, "redvigil"), BTreeSet::new());
    wait_until("our connection to be seen", PATIENCE, || {
        our_clients(sentinel).iter().any(|client| client["user"] == "redvigil")
    });
}
