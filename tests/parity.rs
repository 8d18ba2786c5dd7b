//! What redis_exporter exports, row by row, is in some collector's table; and `docs/metrics.md` says what all
//! the tables hold.

#![allow(clippy::unwrap_used)] // a file that is missing ends the test

use exposition::{Desc, Kind};
use redvigil::collect::ALL;
use redvigil::config::validate;
use redvigil::deliver::families;
use redvigil::discover;
use redvigil::peers;
use redvigil::scrape::{book, member, service, shape};
use redvigil::telemetry::{metrics, process};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Rows that speak of the exporter, its scrapes or its process: other rooms make them.
const OF_OTHER_ROOMS: &[&str] = &["process_", "redis_exporter_", "redis_target_scrape_"];

/// Labels that redis_exporter got after the rows were written down; absent where the server says nothing.
const NEWER_LABELS: &[(&str, &str)] = &[("redis_instance_info", "availability_zone")];

#[test]
fn every_row_of_the_peer_has_its_family() {
    let described = described();
    let mut missing = vec![];
    for row in rows() {
        match described.get(row.name.as_str()) {
            None => missing.push(format!("{}: in no table", row.name)),
            Some((_, desc)) if desc.kind != row.kind => {
                missing.push(format!("{}: {:?}, not {:?}", row.name, desc.kind, row.kind));
            }
            Some((_, desc)) => {
                let newer = |label: &str| NEWER_LABELS.contains(&(desc.name, label));
                let labels: BTreeSet<_> = desc.labels.iter().copied().filter(|label| !newer(label)).collect();
                let expected: BTreeSet<_> = row.labels.iter().map(String::as_str).collect();
                if labels != expected {
                    missing.push(format!("{}: labels {labels:?}, not {expected:?}", row.name));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{} rows: {missing:#?}", missing.len());
}

#[test]
fn a_family_is_described_once_and_in_a_sentence() {
    let mut names = BTreeSet::new();
    for (collector, desc) in tables() {
        let Desc { name, help, .. } = desc;
        assert!(names.insert(*name), "{name} is in two tables, one of them that of {collector}");
        assert!(name.starts_with("redis_"), "{name}");
        assert!(help.ends_with('.') && help.starts_with(|c: char| c.is_uppercase()), "{name}: {help}");
    }
}

#[test]
fn labels_that_operators_may_not_give_are_those_of_the_families() {
    let of_services = [
        &service::member_descs()[..],
        &service::service_descs(),
        &discover::families::descs(),
        &member::descs(),
        &book::descs(),
        &shape::descs(),
    ]
    .concat();
    let of_others = [&metrics::descs()[..], &process::descs(), &families::descs()].concat();
    let of_others = tables().map(|(_, desc)| desc).chain(of_others);
    let mut own: BTreeSet<_> = of_services.iter().flat_map(|desc| desc.labels.iter().copied()).collect();
    // What is added where a flag says so.
    own.insert("instance_role");
    let others: BTreeSet<_> = of_others.flat_map(|desc| desc.labels.iter().copied()).collect();
    let others: BTreeSet<_> = others.difference(&own).copied().collect();
    let set = |labels: &[&'static str]| labels.iter().copied().collect::<BTreeSet<_>>();
    assert_eq!(set(validate::SERVICE_LABELS), own);
    assert_eq!(set(validate::SERVER_LABELS), others);
}

#[test]
fn the_list_of_metrics_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = document();
    if env::var_os("UPDATE").is_some() {
        fs::write(path, text).unwrap();
    } else {
        let written = fs::read_to_string(path).unwrap_or_default();
        let differs = written.lines().zip(text.lines()).find(|(old, new)| old != new);
        assert!(written == text, "docs/metrics.md is old, UPDATE=1 rewrites it; first at {differs:?}");
    }
}

fn document() -> String {
    let peer: BTreeSet<_> = rows().into_iter().map(|row| row.name).collect();
    let mut text = String::from(
        "# Metrics\n\n\
         Made from the tables in the code; `UPDATE=1 cargo test --test parity` rewrites this page.\n\n\
         Names start with `redis_`, or with what `--namespace` says. A family is absent where the server does not\n\
         have the value. Families marked **+** are not known to redis_exporter v1.88; all others have its name,\n\
         type and labels. Besides these, any number in INFO or CLUSTER INFO whose field starts with `cluster_` or\n\
         `db` is exported under its own name.\n",
    );
    let collectors = ALL.iter().map(|collector| (collector.name, (collector.descs)()));
    let ourselves = [
        ("each member of a service", service::member_descs().to_vec()),
        ("each service", service::service_descs().to_vec()),
        ("each service, as those know it who know its members", discover::families::descs().to_vec()),
        ("each member, beside what it says", member::descs().to_vec()),
        ("the collections of each service", book::descs().to_vec()),
        ("each collection, of itself", shape::descs().to_vec()),
        ("each output", families::descs().to_vec()),
        ("the copies of the exporter, where there is a registry", peers::families::descs().to_vec()),
        ("the exporter, of itself", metrics::descs().to_vec()),
        ("the process of the exporter", process::descs().to_vec()),
    ];
    for (title, mut descs) in collectors.chain(ourselves) {
        descs.sort_by_key(|desc| desc.name);
        text.push_str(&format!("\n## {title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n"));
        for desc in descs {
            let mark = if peer.contains(desc.name) { "" } else { " **+**" };
            let labels: Vec<_> = desc.labels.iter().map(|label| format!("`{label}`")).collect();
            text.push_str(&format!(
                "| `{}`{mark} | {} | {} | {} |\n",
                desc.name,
                desc.kind.as_str(),
                labels.join(", "),
                desc.help.replace('|', "\\|"),
            ));
        }
    }
    text
}

/// Every family with the collector whose table it is in.
fn tables() -> impl Iterator<Item = (&'static str, &'static Desc)> {
    ALL.iter().flat_map(|collector| (collector.descs)().into_iter().map(|desc| (collector.name, desc)))
}

fn described() -> BTreeMap<&'static str, (&'static str, &'static Desc)> {
    tables().map(|(collector, desc)| (desc.name, (collector, desc))).collect()
}

/// A family of redis_exporter.
struct Row {
    name: String,
    kind: Kind,
    labels: Vec<String>,
}

/// The rows that collectors have to make: name, type, labels (`[,x]` only sometimes), source and more.
/// Those of the Go runtime are Go's, those with `<` are patterns.
fn rows() -> Vec<Row> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/compat/metrics.tsv"].iter().collect();
    let text = fs::read_to_string(path).unwrap();
    let skipped = |name: &str| {
        let others = OF_OTHER_ROOMS.iter().any(|start| name.starts_with(start));
        others || name == "redis_up" || name.starts_with("go_") || name.contains('<')
    };
    let rows: Vec<_> = text.lines().skip(1).map(row).filter(|row| !skipped(&row.name)).collect();
    assert!(rows.len() > 400, "the rows are missing");
    rows
}

fn row(line: &str) -> Row {
    let columns: Vec<_> = line.split('\t').collect();
    let kind = match columns[1] {
        "counter" => Kind::Counter,
        "gauge" => Kind::Gauge,
        "histogram" => Kind::Histogram,
        "summary" => Kind::Summary,
        other => panic!("{}: type {other}", columns[0]),
    };
    let labels = columns[2].split([',', '[', ']']).filter(|label| !label.is_empty());
    Row { name: columns[0].to_owned(), kind, labels: labels.map(str::to_owned).collect() }
}
