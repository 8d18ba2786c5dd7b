//! Settings that have no effect, or less than one may think: what a document says, and what nothing comes of.
//!
//! They are no mistakes that keep anybody from running, so they are warnings; each has the line and the path of the
//! setting.
//!
//! What a newcomer would get wrong: a setting that says what holds anyway is not told. The example says every
//! default, and a document that was made from it is fine.

use super::credentials::{ProfileDraft, TlsDraft};
use super::outputs::{OutputDraft, ReceiverDraft};
use super::services::ServiceDraft;
use super::{CollectDraft, Draft};
use crate::config::address::Endpoint;
use crate::config::credentials::SentinelTls;
use crate::config::deliver::{Durability, Queue};
use crate::config::discover::Source;
use crate::config::document::reader::Scope;
use crate::config::problem::shown;
use crate::config::resilience::{Breaker, Health};
use crate::config::{Address, Collect, Discover, Profile, units, validate};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// A key of `collect:`, when nothing comes of it, and why.
type Rule = (&'static str, fn(&CollectDraft) -> bool, &'static str);

/// Keys of `collect:` that need another one.
const COLLECT: [Rule; 6] = [
    ("client_port", |d| d.collect.client_port && !d.collect.client_list, "client_list is off"),
    (
        "redact_config_metrics",
        |d| !d.collect.redact_config && !d.collect.config_metrics,
        "config_metrics is off",
    ),
    (
        "config_metrics",
        |d| d.collect.config_metrics && d.collect.config_command.is_none(),
        "config_command says that nothing is asked by CONFIG",
    ),
    (
        "check_search_indexes",
        |d| !d.search && d.search_pattern.as_ref().is_some_and(|pattern| pattern.as_str() != ".*"),
        "search_indexes_metrics is off",
    ),
    (
        "lua_script_read_only",
        |d| d.collect.scripts_read_only && d.collect.scripts.is_empty(),
        "there are no scripts",
    ),
    (
        "max_distinct_key_groups",
        |d| d.collect.max_key_groups != Collect::default().max_key_groups && d.collect.key_groups.is_empty(),
        "there are no check_key_groups",
    ),
];

/// Which keys of [`COLLECT`] some service makes use of.
pub type Used = [bool; COLLECT.len()];

/// What is without effect in a whole document.
pub fn of_document(draft: &Draft, scope: &mut Scope<'_, '_>) {
    of_collect(draft, scope);
    let has_outputs = !draft.config.deliver.outputs.is_empty();
    if draft.config.discover.services.is_empty() {
        return of_no_service(draft, has_outputs, scope);
    }
    if !has_outputs {
        scope.idle("global.job", "there are no outputs");
    }
    for (label, _) in draft.labels.iter().filter(|(_, text)| text.is_empty()) {
        scope.idle(&format!("global.labels.{label}"), "an empty label is none");
    }
    let scrape = &draft.config.scrape;
    if scrape.per_host > scrape.concurrency && scope.said("scrape.per_host") {
        scope.idle("scrape.per_host", "it is more than concurrency, which is for all hosts together");
    }
    if !scrape.allow.is_empty() && !draft.config.serve.scrape_endpoint {
        scope.idle("scrape.allow", "--disable-scrape-endpoint is given");
    }
    let services = &draft.config.discover.services;
    let looks_for_keys = services.iter().any(|service| {
        let keys = &service.collect.keys;
        let lists = [&keys.check, &keys.check_single, &keys.count, &keys.streams, &keys.streams_single];
        lists.iter().any(|list| !list.is_empty()) || !service.collect.key_groups.is_empty()
    });
    if !looks_for_keys && scrape.key_scans != Default::default() {
        scope.idle("scrape.key_scans", "no service has keys to look for");
    }
    let follows = |source: &Source| matches!(source, Source::Sentinel { .. } | Source::Cluster { .. });
    let failover_max = draft.config.resilience.health.failover_max;
    let is_default = failover_max == Health::default().failover_max;
    if !is_default && !services.iter().any(|service| follows(&service.source)) {
        scope.idle("health.failover_max", "only services of sentinel and cluster tell of failovers");
    }
    let Breaker { pause, max_pause } = draft.config.resilience.breaker;
    let longest = scrape.interval * 2;
    for (key, value) in [("breaker.pause", pause), ("breaker.max_pause", max_pause)] {
        if value > longest && scope.said(key) {
            let message =
                format!("is longer than two intervals: {} are taken in its place", units::written(longest));
            scope.warn(key, message);
        }
    }
    let is_asked = |source: &Source, dns| dns || !matches!(source, Source::Instances(_));
    if draft.config.discover.interval != Discover::default().interval
        && !services.iter().any(|service| is_asked(&service.source, service.dns))
    {
        scope.idle("discover.interval", "all members are listed, and no dns is true");
    }
}

/// What only etcd does.
pub fn of_registry(is_said: bool, scope: &mut Scope<'_, '_>) {
    if is_said && !scope.said("etcd") {
        scope.idle("sharding", "work is shared by etcd, and there is none");
    }
}

/// What only members of services have.
fn of_no_service(draft: &Draft, has_outputs: bool, scope: &mut Scope<'_, '_>) {
    if has_outputs && draft.config.scrape.target.is_none() {
        scope.idle("outputs", "there are no services, and --redis.addr is empty");
    }
    for key in [
        // With an output, the one target is collected every interval.
        if has_outputs { "global.labels" } else { "global" },
        "credentials",
        "scrape.concurrency",
        "scrape.per_host",
        "scrape.key_scans",
        "health.failover_max",
        "breaker",
        "discover",
        "web.service_label",
    ] {
        scope.idle(key, "there are no services");
    }
    // What is pushed has it.
    if !has_outputs {
        scope.idle("web.instance_label", "there are no services");
    }
}

/// What is without effect in `collect:` for all members, whatever services say for themselves.
fn of_collect(draft: &Draft, scope: &mut Scope<'_, '_>) {
    for ((key, is_idle, why), is_used) in COLLECT.iter().zip(draft.used) {
        if is_idle(&draft.collect) && !is_used {
            scope.idle(&format!("collect.{key}"), why);
        }
    }
}

/// Labels that some families of servers lack, since they have one of that name.
pub fn of_labels(labels: &BTreeMap<String, String>, scope: &mut Scope<'_, '_>) {
    for name in labels.keys().filter(|name| validate::SERVER_LABELS.contains(&name.as_str())) {
        scope.warn(&format!("labels.{name}"), "is a label of families of servers, too, which keep their own");
    }
}

/// What is without effect in one of `services:`. What it makes use of of `collect:` is noted in `used`.
pub fn of_service(service: &ServiceDraft, used: &mut Used, scope: &mut Scope<'_, '_>) {
    for ((key, is_idle, why), is_used) in COLLECT.iter().zip(used) {
        if is_idle(&service.collect) {
            scope.idle(&format!("collect.{key}"), why);
        } else {
            *is_used = true;
        }
    }
    of_labels(&service.labels, scope);
    let (key, given) = [
        ("sentinel.addresses", &service.sentinels),
        ("cluster.seeds", &service.seeds),
        ("instances", &service.instances),
    ]
    .into_iter()
    .find(|(_, given)| !given.is_empty())
    .unwrap_or(("", &service.instances));
    for (index, address) in given.iter().enumerate() {
        if address.user.is_some() && address.password.is_none() {
            let why = "the user of an address counts only beside a password there";
            scope.idle(&format!("{key}[{index}]"), why);
        }
    }
    let is_listed = scope.said("instances") || scope.said("file_sd");
    if is_listed {
        scope.idle("rewrite", "addresses that are listed are taken as they are");
    }
    for (index, rewrite) in service.rewrite.iter().enumerate() {
        if service.rewrite[..index].iter().any(|before| before.from == rewrite.from) {
            scope.idle(&format!("rewrite[{index}]"), "an earlier one matches the same addresses");
        }
    }
    if service.dns && scope.said("file_sd") {
        scope.idle("dns", "names in files stay names");
    } else if service.dns && !given.is_empty() && !given.iter().any(has_name) {
        scope.idle("dns", "there is no host name among the addresses");
    }
    if service.collect.collect.sentinel_peers && !is_listed {
        scope.idle("collect.sentinel_peer_info", "members are data nodes, and no Sentinels");
    }
}

fn has_name(address: &Address) -> bool {
    matches!(&address.endpoint, Endpoint::Tcp { host, .. } if host.parse::<IpAddr>().is_err())
}

/// What is without effect in one of `credentials:`.
pub fn of_profile(profile: &ProfileDraft, scope: &mut Scope<'_, '_>) {
    let services = &profile.profile.services;
    let sentinels = &scope.surroundings().sentinels;
    let reaches_sentinels = match services.is_empty() {
        true => !sentinels.is_empty(),
        false => services.iter().any(|service| sentinels.contains(service)),
    };
    if !reaches_sentinels && !scope.surroundings().services.is_empty() {
        for key in [
            "sentinel_username",
            "sentinel_password",
            "sentinel_password_file",
            "sentinel_password_env",
            "sentinel_tls",
        ] {
            scope.idle(key, "it is for no service with Sentinels");
        }
    } else if profile.profile.sentinel_tls == SentinelTls::AsAddressed && profile.profile.tls.is_none() {
        scope.idle("sentinel_tls", "there is no tls that would be for Sentinels too");
    }
}

/// What is without effect in `credentials:` because of the profiles before it.
pub fn of_profiles(before: &[Profile], profile: &Profile, scope: &mut Scope<'_, '_>) {
    let covers = |other: &&Profile| {
        let has_all = profile.services.iter().all(|service| other.services.contains(service));
        other.hosts.is_empty() && has_all && !profile.services.is_empty()
    };
    if let Some(other) = before.iter().find(covers) {
        scope.idle(
            "match",
            &format!("the profile {} matches all of it, and stands before", shown(&other.name)),
        );
    }
}

/// What is without effect, or dangerous, in one of `outputs:`.
pub fn of_output(output: &OutputDraft, scope: &mut Scope<'_, '_>) {
    // So much older than its newest sample the head of a TSDB takes a sample, half of the two hours of a block:
    // <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#tsdb>
    const TAKEN: Duration = Duration::from_secs(3600);
    // Whoever says max_age has thought of it.
    if output.queue.max_age > TAKEN && !scope.said("queue.max_age") {
        let message = format!(
            "keeps samples for {}, and a Prometheus without out_of_order_time_window takes none that are older than 1h; \
             say queue.max_age: 55m for such a one, for others what their window is",
            units::written(output.queue.max_age)
        );
        scope.warn("remote_write", message);
    }
    for (label, text) in &output.external_labels {
        let path = format!("external_labels.{label}");
        if text.is_empty() {
            scope.idle(&path, "an empty label is none");
        } else if label == "__replica__" && output.queue.max_age > Duration::from_secs(60) {
            let message = "tells Mimir and Cortex to take samples of one replica only: what waited at the other one is \
                           dropped there, so its queue is of no use. Without the label both are taken";
            scope.warn(&path, message);
        } else if validate::SERVER_LABELS.contains(&label.as_str()) {
            scope.warn(&path, "is a label of families of servers, too, which keep their own");
        }
    }
}

/// What is without effect, or dangerous, in one `remote_write:` or `otlp:`, whose URL is at the key `url`.
pub fn of_receiver(receiver: &ReceiverDraft, url: &str, scope: &mut Scope<'_, '_>) {
    let Some(to) = receiver.url.as_ref().filter(|to| !to.secure) else { return };
    scope.idle("tls", &format!("the {url} begins with http://"));
    let is_authorization = |name: &str| name.eq_ignore_ascii_case("authorization");
    let has_auth = receiver.token.is_some() || scope.said("basic_auth");
    if !to.is_local() && (has_auth || receiver.headers.iter().any(|(name, _)| is_authorization(name))) {
        scope.warn(url, "begins with http://: whoever is on the way can read the token or password");
    }
}

/// What is without effect in one `queue:`.
pub fn of_queue(queue: &mut Queue, scope: &mut Scope<'_, '_>) {
    if queue.durability == Durability::Memory {
        for key in ["max_bytes", "min_free", "fsync"] {
            scope.idle(key, "durability is memory, and there is no disk");
        }
    } else if queue.memory > queue.max_bytes {
        scope.idle("memory", "it is more than max_bytes, and all that is in memory is on disk, too");
    }
}

/// What is without effect in one `tls:`.
pub fn of_tls(tls: &TlsDraft, scope: &mut Scope<'_, '_>) {
    if !tls.enabled {
        for key in ["ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify"] {
            scope.idle(key, "enabled is false");
        }
    } else if tls.settings.skip_verification {
        scope.idle("ca_file", "insecure_skip_verify accepts any certificate");
    }
}
