//! The whole exporter, as a process of its own, beside real and scripted servers.
//!
//! One binary, so that linking costs once; one file a story:
//!
//! - [`page`]: what an answer says, read without the parsers of the daemon
//! - [`servers`]: every server, every way to reach one, and the connection that is kept
//! - [`refusals`]: servers that say no, in whole or in part
//! - [`key_scans`]: keys of members, apart from ticks
//! - [`hostile`]: servers that break the protocol, never end or say nothing
//! - `time`: deadlines
//! - [`sentinel`]: a service behind Sentinels, through failovers
//! - [`retry`]: what is tried again within a collection, and what is not
//! - [`secrets`]: no password and no ephemeral port in anything that leaves
//! - [`credentials`]: who is sent which password
//! - [`behaviours`]: what the exporter that ours replaces is known to do, where nothing else here shows it
//! - [`acl`]: the users that `docs/compatibility.md` tells operators to make
//! - [`many`]: many targets and many callers at once
//! - [`lists`]: services whose members are listed, in the configuration and in files
//! - [`failover`]: masters behind Sentinels that die, hang, or are replaced on purpose
//! - `health`: a hiccup told from an outage
//! - `resharding`: a Cluster that changes while it is watched
//! - `services`: a fleet as it is served, and another configuration without a restart
//! - `reload`: a configuration that changes while it runs
//! - [`hot`]: every key counts at once, or is told to count later
//! - `isolation`: an edit of the configuration that touches nobody else
//! - `beat`: and the moments of collections, which go on through it
//! - `names`: names that stand for their addresses
//! - `tls`: Sentinels and data nodes of which one side alone has TLS
//! - `prometheus`: what a real one makes of it
//! - `peers`: copies that share services
//! - `push`: from real servers to a receiver
//! - [`follow`]: what is said of services while something happens to them
//! - [`random`]: random bytes for the decoders, on every run
//! - [`delivery`]: what is pushed, through the end of either side
//! - [`sharing`]: several of ours, that share the work through a real etcd
//! - [`differential`]: beside the exporter that ours replaces

mod follow;
mod page;

mod acl;
mod beat;
mod behaviours;
mod credentials;
mod delivery;
mod differential;
mod failover;
mod health;
mod hostile;
mod hot;
mod isolation;
mod lists;
mod key_scans;
mod many;
mod names;
mod peers;
mod prometheus;
mod push;
mod random;
mod refusals;
mod reload;
mod remote;
mod resharding;
mod retry;
mod secrets;
mod sentinel;
mod servers;
mod services;
mod sharing;
mod time;
mod tls;

use page::Page;
use std::time::Duration;
use testbed::{Exporter, ExporterBuilder, Server};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Our exporter, to be started with these arguments.
fn exporter<A: AsRef<str>>(args: &[A]) -> ExporterBuilder {
    Exporter::builder(env!("CARGO_BIN_EXE_redvigil")).args(args)
}

/// Our exporter, watching the server at `address`.
fn watching(address: &str) -> Exporter {
    exporter(&[format!("--redis.addr={address}")]).start()
}

/// Our exporter, watching nobody: targets come by `/scrape`.
fn on_demand<A: AsRef<str>>(args: &[A]) -> Exporter {
    exporter(&["--redis.addr="]).args(args).start()
}

/// The page about the target of `--redis.addr`.
fn metrics(exporter: &Exporter) -> Page {
    Page::parse(&exporter.metrics())
}

/// The page about a target that the request names.
fn scrape(exporter: &Exporter, target: &str) -> Page {
    scrape_within(exporter, target, &[])
}

/// The same with headers.
fn scrape_within(exporter: &Exporter, target: &str, headers: &[(&str, &str)]) -> Page {
    let response = exporter.get(&format!("/scrape?target={}", encoded(target)), headers);
    assert_eq!(response.status, 200, "{target}: {}", response.text());
    Page::parse(response.text())
}

/// A text as the value of a query parameter.
fn encoded(text: &str) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(b).to_string(),
        _ => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// What `CLIENT LIST` says of the connections that call themselves by our name, field by field.
fn our_clients(server: &Server) -> Vec<std::collections::BTreeMap<String, String>> {
    let list = server.ok(&["CLIENT", "LIST"]).text();
    let fields = |line: &str| {
        let pairs = line.split(' ').filter_map(|field| field.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    list.lines().filter(|line| line.contains(" name=redvigil ")).map(fields).collect()
}
