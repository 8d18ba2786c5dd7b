//! `redvigil migrate`: the flags, variables and password file of a redis_exporter, and the jobs of the Prometheus
//! that asks it, as a configuration file.
//!
//! What cannot be carried over stands in the result as a comment. The result is a document that the reader takes
//! ([`crate::config::document`]); a test reads what comes out.
//!
//! What a newcomer would get wrong: the exporter gives `--redis.password` to every target that it is asked for.
//! Here the profile names the services that the result has, and nobody else gets it.

use super::prometheus::{Job, Prometheus};
use super::words::{By, Said, Words};
use super::{Problem, flags};
use crate::config::address::Endpoint;
use crate::config::collect::KeyPattern;
use crate::config::scrape::HostPattern;
use crate::config::{Address, Config, Secret, units, validate};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A document that may hold passwords.
#[derive(Debug)]
pub struct Migrated {
    document: Secret,
    /// What could not be carried over, one line each. The document says it too, as comments; nobody reads those
    /// where the document goes to a file.
    pub lost: Vec<String>,
}

impl Migrated {
    /// Writes the document to where the operator wants it.
    pub fn write_to(&self, output: &mut impl Write) -> io::Result<()> {
        output.write_all(self.document.expose().as_bytes())
    }
}

/// The document for what was said, and for the jobs of a Prometheus.
pub fn document(words: &Words, config: &Config, prometheus: Option<&Path>) -> Result<Migrated, Vec<Problem>> {
    let mut jobs = Prometheus::default();
    if let Some(path) = prometheus {
        let read = validate::read(path).and_then(|text| Prometheus::parse(&text));
        let place = path.display().to_string();
        jobs = read.map_err(|message| vec![Problem { place, message }])?;
    }
    let folder = prometheus.and_then(Path::parent).unwrap_or(Path::new(""));
    let mut writer = Writer { words, config, services: vec![], profiles: vec![], lost: vec![] };
    writer.flag_target(jobs.scrape_configs.iter().any(Job::asks_for_targets));
    for job in &jobs.scrape_configs {
        writer.job(job, folder);
    }
    writer.credentials();
    let mut text = String::from("# Written by redvigil migrate; docs/config.md has every key.\n");
    writer.leftovers(&mut text, &jobs);
    writer.global(&mut text, &jobs);
    writer.write(&mut text);
    let lost = writer.lost.iter().map(|line| one_line(line)).collect();
    Ok(Migrated { document: Secret::new(text), lost })
}

/// How the value of a flag of redis_exporter is written in `collect:`.
enum Form {
    /// `true` or `false`.
    Switch,
    /// The opposite.
    Opposite,
    /// A number.
    Number,
    /// A text.
    Text,
    /// The name of a command; empty: none.
    Command,
    /// Patterns by comma.
    Keys,
    /// One line of CSV.
    Csv,
    /// Files by comma.
    Files,
}

/// Flags that have a key in `collect:`.
const COLLECT: &[(&str, &str, Form)] = &[
    ("config-command", "config_command", Form::Command),
    ("check-keys", "check_keys", Form::Keys),
    ("check-single-keys", "check_single_keys", Form::Keys),
    ("count-keys", "count_keys", Form::Keys),
    ("check-streams", "check_streams", Form::Keys),
    ("check-single-streams", "check_single_streams", Form::Keys),
    ("streams-exclude-consumer-metrics", "streams_exclude_consumer_metrics", Form::Switch),
    ("check-keys-batch-size", "check_keys_batch_size", Form::Number),
    ("check-key-groups", "check_key_groups", Form::Csv),
    ("max-distinct-key-groups", "max_distinct_key_groups", Form::Number),
    ("skip-checkkeys-for-role-master", "skip_checkkeys_for_role_master", Form::Switch),
    ("disable-exporting-key-values", "disable_exporting_key_values", Form::Switch),
    ("script", "scripts", Form::Files),
    ("lua-script-read-only", "lua_script_read_only", Form::Switch),
    ("export-client-list", "client_list", Form::Switch),
    ("export-client-port", "client_port", Form::Switch),
    ("include-config-metrics", "config_metrics", Form::Switch),
    ("redact-config-metrics", "redact_config_metrics", Form::Switch),
    ("include-modules-metrics", "modules_metrics", Form::Switch),
    ("include-search-indexes-metrics", "search_indexes_metrics", Form::Switch),
    ("check-search-indexes", "check_search_indexes", Form::Text),
    ("include-sentinel-peer-info", "sentinel_peer_info", Form::Switch),
    ("exclude-latency-histogram-metrics", "latency_histograms", Form::Opposite),
    ("include-system-metrics", "system_metrics", Form::Switch),
    ("include-rdb-file-size-metric", "rdb_file_size_metric", Form::Switch),
    ("include-metrics-for-empty-databases", "metrics_for_empty_databases", Form::Switch),
    ("append-instance-role-label", "instance_role_label", Form::Switch),
    ("is-tile38", "is_tile38", Form::Switch),
];

/// Flags that the result has in another form, and that have no effect any more.
const REPLACED: &[&str] = &[
    "redis.addr",
    "redis.user",
    "redis.password",
    "redis.password-file",
    "scrape.credentials-for",
    "scrape.allow",
    "scrape.timeout-offset",
    "is-cluster",
    "cluster-discover-hostnames",
];

/// Parameters of `/scrape` and their keys in `collect:`.
const PARAMS: &[(&str, &str)] = &[
    ("check-keys", "check_keys"),
    ("check-single-keys", "check_single_keys"),
    ("check-streams", "check_streams"),
    ("check-single-streams", "check_single_streams"),
    ("count-keys", "count_keys"),
];

struct Writer<'a> {
    words: &'a Words,
    config: &'a Config,
    services: Vec<Service>,
    profiles: Vec<Profile>,
    /// What could not be carried over.
    lost: Vec<String>,
}

struct Service {
    name: String,
    /// `instances: […]` and the like.
    source: String,
    labels: BTreeMap<String, String>,
    collect: Vec<(&'static str, String)>,
}

struct Profile {
    services: Vec<String>,
    hosts: BTreeSet<String>,
    user: Option<String>,
    password: Password,
}

#[derive(PartialEq)]
enum Password {
    /// The text, and where it came from.
    Inline(Secret, String),
    /// A variable.
    Variable(String),
}

impl Writer<'_> {
    fn said(&self, name: &str) -> Option<&Said> {
        let said = self.words.said(name);
        (said.by != By::Default).then_some(said)
    }

    /// The text of a flag that was given one.
    fn text(&self, name: &str) -> Option<&str> {
        self.said(name)?.texts.last().map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The server of `--redis.addr`; where there are jobs, only one that was really named.
    fn flag_target(&mut self, has_jobs: bool) {
        let Some(target) = &self.config.scrape.target else { return };
        if has_jobs && self.said("redis.addr").is_none() {
            return;
        }
        let place = self.words.said("redis.addr").place.clone();
        let name = "redis".to_owned();
        let source = if self.config.collect.cluster {
            if target.db != 0 {
                self.lost.push(format!("{place}: the database; a Cluster has only 0"));
            }
            let seed = Address { db: 0, ..target.clone() };
            format!(
                "cluster: {{ seeds: [{}], hostnames: {} }}",
                quoted(&seed.to_string()),
                self.config.collect.cluster_hostnames
            )
        } else {
            format!("instances: [{}]", quoted(&target.to_string()))
        };
        if let Some(password) = &target.password {
            self.profiles.push(Profile {
                services: vec![name.clone()],
                hosts: BTreeSet::new(),
                user: target.user.clone(),
                password: Password::Inline(password.clone(), place),
            });
        }
        self.services.push(Service { name, source, labels: BTreeMap::new(), collect: vec![] });
    }

    fn job(&mut self, job: &Job, folder: &Path) {
        let lost = |what: &str| format!("job {}: {what}", job.job_name);
        let finds_nodes = |url: &str| {
            url.split(['?', '#']).next().is_some_and(|url| url.ends_with("/discover-cluster-nodes"))
        };
        if !job.asks_for_targets() {
            let why = "left out: no rule of relabel_configs sets __param_target, so no exporter is asked for its targets";
            return self.lost.push(lost(why));
        }
        let collect = self.params(job);
        for group in &job.static_configs {
            let targets = if group.targets.is_empty() { continue } else { &group.targets };
            let targets = job.params.get("target").unwrap_or(targets);
            let mut instances: Vec<String> = vec![];
            for target in targets {
                match Address::parse(target) {
                    Ok(address) => {
                        let shown = quoted(&address.clone().without_credentials().to_string());
                        if !instances.contains(&shown) {
                            instances.push(shown);
                        }
                        self.password_of_target(&address, &job.job_name);
                    }
                    Err(error) => self.lost.push(lost(&format!("a target that is no address: {error}"))),
                }
            }
            if !instances.is_empty() {
                let source = format!("instances: [{}]", instances.join(", "));
                self.service(job, source, group.labels.clone(), &collect);
            }
        }
        let files = job.file_sd_configs.iter().flat_map(|config| &config.files);
        let files = distinct(files.map(|file| quoted(&absolute(&folder.join(file)))));
        if !files.is_empty() {
            let source = format!("file_sd: {{ files: [{}] }}", files.join(", "));
            self.service(job, source, BTreeMap::new(), &collect);
        }
        for config in &job.http_sd_configs {
            let seed = self.config.scrape.target.clone().filter(|_| finds_nodes(&config.url));
            match seed {
                Some(_) if self.services.iter().any(|service| service.source.starts_with("cluster")) => {}
                Some(seed) => {
                    let seed = quoted(&Address { db: 0, ..seed }.without_credentials().to_string());
                    self.service(job, format!("cluster: {{ seeds: [{seed}] }}"), BTreeMap::new(), &collect);
                }
                None => self.lost.push(lost("http_sd_configs; name the service that they find")),
            }
        }
        for (name, _) in job.others.iter().filter(|(name, _)| name.ends_with("_sd_configs")) {
            self.lost.push(lost(&format!(
                "{name}; name the services that they find, or write their targets into files"
            )));
        }
        for rule in job.relabel_configs.iter().filter(|rule| !rule.is_usual()) {
            let label = if rule.target_label.is_empty() { "no label" } else { &rule.target_label };
            self.lost.push(lost(&format!(
                "a rule of relabel_configs that sets {label}; labels of a service may do the same"
            )));
        }
        if !job.metric_relabel_configs.is_empty() {
            self.lost.push(lost("metric_relabel_configs; they belong to the new job of Prometheus"));
        }
    }

    /// Key patterns that the requests of a job name.
    fn params(&mut self, job: &Job) -> Vec<(&'static str, String)> {
        let mut collect = vec![];
        for (param, values) in &job.params {
            let key = PARAMS.iter().find(|(name, _)| name == param);
            match (key, values.first()) {
                (Some((_, key)), Some(value)) => collect.push((*key, keys(value))),
                (None, _) if param != "target" => {
                    self.lost.push(format!("job {}: the parameter {param}", job.job_name));
                }
                _ => {}
            }
        }
        collect
    }

    fn service(
        &mut self,
        job: &Job,
        source: String,
        labels: BTreeMap<String, String>,
        collect: &[(&'static str, String)],
    ) {
        let base = Some(job.job_name.trim()).filter(|name| !name.is_empty()).unwrap_or("redis");
        let base = base.chars().filter(|c| !c.is_control()).take(100).collect::<String>();
        let mut name = base.clone();
        let mut number = 2;
        while self.services.iter().any(|service| service.name == name) {
            name = format!("{base}-{number}");
            number += 1;
        }
        let (labels, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            labels.into_iter().partition(|(label, _)| {
                validate::member_label(label).is_ok() && label != "service" && label != "instance"
            });
        for label in others.into_keys() {
            self.lost
                .push(format!("job {}: the label {label}, which is not for services to set", job.job_name));
        }
        self.services.push(Service { name, source, labels, collect: collect.to_vec() });
    }

    /// What the exporter takes from a target itself.
    fn password_of_target(&mut self, address: &Address, job: &str) {
        let Some(password) = &address.password else { return };
        let password = Password::Inline(password.clone(), format!("a target of job {job}"));
        self.host_password(&address.endpoint, address.user.clone(), password);
    }

    /// Adds a server to the profile with that password.
    fn host_password(&mut self, endpoint: &Endpoint, user: Option<String>, password: Password) {
        let host = match endpoint {
            Endpoint::Tcp { .. } => endpoint.to_string(),
            Endpoint::Unix(path) => format!("unix://{}", path.display()),
        };
        if HostPattern::parse(&host).is_err() {
            self.lost.push(format!("the password of {host}, which no pattern of hosts can name"));
            return;
        }
        let same = |profile: &&mut Profile| {
            profile.services.is_empty() && profile.user == user && profile.password == password
        };
        match self.profiles.iter_mut().find(same) {
            Some(profile) => drop(profile.hosts.insert(host)),
            None => self.profiles.push(Profile { services: vec![], hosts: [host].into(), user, password }),
        }
    }

    /// What flags, variables and the password file say.
    fn credentials(&mut self) {
        let connect = &self.config.connect;
        let own_user = Some(connect.user.clone()).filter(|user| !user.is_empty());
        let said = self.words.said("redis.password");
        let own = (!connect.password.is_empty()).then(|| match said.by {
            By::Variable => Password::Variable(said.place.clone()),
            _ => Password::Inline(connect.password.clone(), said.place.clone()),
        });
        let file = self.words.said("redis.password-file").texts.last().cloned().unwrap_or_default();
        let filed: BTreeMap<_, _> = connect.passwords.iter().collect();
        for (key, password) in filed {
            // A key is a normalised address of ours.
            let Ok(address) = Address::parse(key) else { continue };
            if address.db != 0 {
                self.lost.push(format!("{file}: that the entry {key} is about one database only"));
            }
            let user = address.user.clone().or(own_user.clone());
            let password = if password.is_empty() { continue } else { password.clone() };
            self.host_password(&address.endpoint, user, Password::Inline(password, file.clone()));
        }
        if let Some(password) = own {
            let services = self.services.iter().map(|service| service.name.clone()).collect::<Vec<_>>();
            let hosts: BTreeSet<_> = connect.trusted.iter().map(ToString::to_string).collect();
            if !hosts.is_empty() {
                let password = match &password {
                    Password::Inline(text, from) => Password::Inline(text.clone(), from.clone()),
                    Password::Variable(name) => Password::Variable(name.clone()),
                };
                self.profiles.push(Profile { services: vec![], hosts, user: own_user.clone(), password });
            }
            if !services.is_empty() {
                self.profiles.push(Profile { services, hosts: BTreeSet::new(), user: own_user, password });
            } else if connect.trusted.is_empty() {
                self.lost.push(format!("{}: there is no service that it could be for", said.place));
            }
        } else if own_user.is_some() && self.profiles.iter().all(|profile| profile.user.is_none()) {
            self.lost.push(format!(
                "{}: a user counts only beside a password",
                self.words.said("redis.user").place
            ));
        }
    }

    /// What is not in the document, as comments at its head.
    fn leftovers(&self, text: &mut String, jobs: &Prometheus) {
        let mut block = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                text.push_str(&format!("#\n# {title}\n"));
                lines.iter().for_each(|line| text.push_str(&format!("#   {}\n", one_line(line))));
            }
        };
        let is_here = |name: &str| REPLACED.contains(&name) || COLLECT.iter().any(|(flag, ..)| *flag == name);
        let mut gone = vec![];
        let mut stay = vec![];
        for flag in flags::all() {
            let Some(said) = self.said(flag.name) else { continue };
            let is_variable_of_ours =
                matches!((flag.name, said.by), ("redis.password", By::Variable)) && !self.profiles.is_empty();
            if is_variable_of_ours {
                stay.push(format!("{} (this file names it)", said.place));
            } else if REPLACED.contains(&flag.name) {
                gone.push(said.place.clone());
            } else if !is_here(flag.name) {
                for value in &said.texts {
                    stay.push(match flag.is_private {
                        true => format!("{} (with its value)", said.place),
                        false => format!("{}={value}", said.place),
                    });
                }
            }
        }
        block("These are said by this file, and must go:", gone);
        block("These are no matter of this file, and stay:", stay);
        block("These could not be carried over:", self.lost.clone());
        if jobs.scrape_configs.iter().any(Job::asks_for_targets) {
            let lines = [
                "- job_name: redis",
                "  honor_labels: true",
                "  static_configs: [{ targets: [\"redvigil:9121\"] }]",
            ];
            block(
                "This job of Prometheus reads all services, in place of those that name single targets:",
                lines.map(str::to_owned).into(),
            );
        }
    }

    /// The interval of the jobs: the shortest.
    fn global(&self, text: &mut String, jobs: &Prometheus) {
        let asking: Vec<&Job> = jobs.scrape_configs.iter().filter(|job| job.asks_for_targets()).collect();
        let shortest = |said: fn(&Job) -> &Option<String>, of_all: &Option<String>| {
            let durations = asking.iter().filter_map(|job| said(job).as_ref().or(of_all.as_ref()));
            durations.filter_map(|text| units::prometheus_duration(text).ok()).min()
        };
        if asking.is_empty() {
            return;
        }
        // The default of Prometheus.
        let minute = Duration::from_secs(60);
        let interval = shortest(|job| &job.scrape_interval, &jobs.global.scrape_interval).unwrap_or(minute);
        let interval = interval.clamp(Duration::from_millis(10), Duration::from_secs(24 * 3600));
        let timeout = shortest(|job| &job.scrape_timeout, &jobs.global.scrape_timeout);
        text.push_str(&format!("\nglobal:\n  scrape_interval: {}\n", units::written(interval)));
        if let Some(timeout) = timeout {
            let timeout = timeout.clamp(Duration::from_millis(1), interval.min(Duration::from_secs(3600)));
            text.push_str(&format!("  scrape_timeout: {}\n", units::written(timeout)));
        }
    }

    fn write(&self, text: &mut String) {
        if !self.profiles.is_empty() {
            text.push_str("\ncredentials:\n");
        }
        for (index, profile) in self.profiles.iter().enumerate() {
            let list =
                |items: Vec<String>| items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", ");
            let matched = match profile.services.is_empty() {
                true => format!("hosts: [{}]", list(profile.hosts.iter().cloned().collect())),
                false => format!("services: [{}]", list(profile.services.clone())),
            };
            text.push_str(&format!("  - name: profile-{}\n    match: {{ {matched} }}\n", index + 1));
            if let Some(user) = &profile.user {
                text.push_str(&format!("    username: {}\n", quoted(user)));
            }
            match &profile.password {
                Password::Variable(name) => text.push_str(&format!("    password_env: {}\n", quoted(name))),
                Password::Inline(password, from) => text.push_str(&format!(
                    "    # From {}. It is safer in a file of its own: password_file.\n    password: {}\n",
                    one_line(from),
                    json(password.expose())
                )),
            }
        }
        if !self.services.is_empty() {
            text.push_str("\nservices:\n");
        }
        for service in &self.services {
            text.push_str(&format!("  - name: {}\n    {}\n", quoted(&service.name), service.source));
            if !service.labels.is_empty() {
                let labels = service.labels.iter().map(|(label, value)| format!("{label}: {}", json(value)));
                text.push_str(&format!("    labels: {{ {} }}\n", labels.collect::<Vec<_>>().join(", ")));
            }
            if !service.collect.is_empty() {
                text.push_str("    collect:\n");
                for (key, value) in &service.collect {
                    text.push_str(&format!("      {key}: {value}\n"));
                }
            }
        }
        self.write_scrape(text);
        self.write_collect(text);
    }

    fn write_scrape(&self, text: &mut String) {
        let scrape = &self.config.scrape;
        let mut lines = vec![];
        if !scrape.allow.is_empty() {
            let allow = distinct(scrape.allow.iter().map(|pattern| quoted(&pattern.to_string())));
            lines.push(format!("allow: [{}]", allow.join(", ")));
        }
        if self.said("scrape.timeout-offset").is_some() {
            let offset = scrape.timeout_offset.min(Duration::from_secs(3600));
            lines.push(format!("timeout_offset: {}", units::written(offset)));
        }
        if !lines.is_empty() {
            text.push_str(&format!("\nscrape:\n  {}\n", lines.join("\n  ")));
        }
    }

    fn write_collect(&self, text: &mut String) {
        let mut lines = vec![];
        for (flag, key, form) in COLLECT {
            if self.said(flag).is_none() {
                continue;
            }
            let value = self.text(flag).unwrap_or_default();
            let written = match form {
                // It was read once already.
                Form::Switch => units::boolean(value).unwrap_or_default().to_string(),
                Form::Opposite => (!units::boolean(value).unwrap_or_default()).to_string(),
                Form::Number => self.number(key).to_string(),
                Form::Command if value.is_empty() => json("-"),
                Form::Command | Form::Text => json(value),
                Form::Keys => keys(value),
                Form::Csv => list(distinct(units::csv(value).unwrap_or_default().into_iter())),
                Form::Files => {
                    let files = value.split(',').filter(|file| !file.is_empty()).map(Path::new);
                    if files.clone().any(Path::is_relative) {
                        lines.push("# The label filename is the path as it stands here.".to_owned());
                    }
                    list(distinct(files.map(absolute)))
                }
            };
            lines.push(format!("{key}: {written}"));
        }
        if !lines.is_empty() {
            text.push_str(&format!("\ncollect:\n  {}\n", lines.join("\n  ")));
        }
    }

    fn number(&self, key: &str) -> usize {
        let collect = &self.config.collect;
        if key == "check_keys_batch_size" {
            collect.batch_size as usize
        } else {
            collect.max_key_groups.min(1_000_000_000)
        }
    }
}

/// Patterns by comma as a list; those that the exporter skips are left out.
fn keys(text: &str) -> String {
    let items = text.split(',').map(str::trim);
    let good = items.filter(|item| KeyPattern::parse_list(item).is_ok_and(|patterns| patterns.len() == 1));
    let mut items: Vec<String> = vec![];
    for item in good {
        if !items.iter().any(|known| KeyPattern::parse_list(known) == KeyPattern::parse_list(item)) {
            items.push(item.into());
        }
    }
    list(items)
}

/// The reader takes nothing twice.
fn distinct(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut known: Vec<String> = vec![];
    for item in items {
        if !known.contains(&item) {
            known.push(item);
        }
    }
    known
}

fn list(items: Vec<String>) -> String {
    format!("[{}]", items.iter().map(|item| json(item)).collect::<Vec<_>>().join(", "))
}

/// A path that means the same wherever the result is put.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path)).display().to_string()
}

/// A text as YAML, without quotes where it needs none.
fn quoted(text: &str) -> String {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./-".contains(&b));
    let means_something = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if is_word && !means_something.contains(&text.to_ascii_lowercase().as_str()) {
        text.into()
    } else {
        json(text)
    }
}

/// A text in quotes: those of JSON are good YAML.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A text in a comment, which ends with the line.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Outcome, parse};
    use crate::config::Config;
    use crate::config::document::File;
    use std::fs;
    use std::sync::Arc;

    type Vars<'a> = &'a [(&'a str, &'a str)];

    /// The result, and the configuration that it makes.
    fn migrated(args: &[&str], env: Vars) -> (String, Config) {
        let get = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let all = ["migrate"].iter().chain(args).map(Into::into);
        let document = match parse(all, get) {
            Outcome::Migrated(document) => document,
            other => panic!("{args:?} {env:?}: {other:?}"),
        };
        assert!(!format!("{document:?}").contains("hunter"));
        let mut text = vec![];
        document.write_to(&mut text).expect("a vector takes all");
        let text = String::from_utf8(text).expect("UTF-8");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("redvigil.yaml");
        fs::write(&path, &text).expect("a file");
        let file = File { path, flags: Arc::default(), target_said: None };
        let loaded = file.load(get).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
        (text, loaded.config)
    }

    fn check(args: &[&str], env: Vars, expected: &str) {
        let (text, _) = migrated(args, env);
        let body = text.strip_prefix("# Written by redvigil migrate; docs/config.md has every key.\n");
        assert_eq!(body, Some(expected), "{args:?} {env:?}\n{text}");
    }

    #[test]
    fn flags_and_variables_become_a_service_a_profile_and_collectors() {
        check(&[], &[], "\nservices:\n  - name: redis\n    instances: [\"redis://localhost:6379\"]\n");
        check(
            &[
                "--redis.addr=rediss://h:1/3",
                "--check-keys=a*,,1=b,a*",
                "--export-client-list",
                "--debug=false",
            ],
            &[
                ("REDIS_PASSWORD", "hunter2"),
                ("REDIS_USER", "me"),
                ("REDIS_EXPORTER_EXCLUDE_LATENCY_HISTOGRAM_METRICS", "true"),
                ("REDIS_EXPORTER_BASIC_AUTH_USERNAME", "u"),
                ("REDIS_EXPORTER_BASIC_AUTH_PASSWORD", "hunter3"),
            ],
            "#
# These are said by this file, and must go:
#   --redis.addr
#   REDIS_USER
#
# These are no matter of this file, and stay:
#   REDIS_PASSWORD (this file names it)
#   REDIS_EXPORTER_BASIC_AUTH_USERNAME=u
#   REDIS_EXPORTER_BASIC_AUTH_PASSWORD (with its value)
#   --debug=false

credentials:
  - name: profile-1
    match: { services: [redis] }
    username: me
    password_env: REDIS_PASSWORD

services:
  - name: redis
    instances: [\"rediss://h:1/3\"]

collect:
  check_keys: [\"a*\", \"1=b\"]
  client_list: true
  latency_histograms: false
",
        );
        check(
            &[
                "--redis.addr",
                "redis://me:hunter2@h",
                "--is-cluster",
                "-cluster-discover-hostnames",
                "--script=",
            ],
            &[],
            "#
# These are said by this file, and must go:
#   --redis.addr
#   --is-cluster
#   -cluster-discover-hostnames

credentials:
  - name: profile-1
    match: { services: [redis] }
    username: me
    # From --redis.addr. It is safer in a file of its own: password_file.
    password: \"hunter2\"

services:
  - name: redis
    cluster: { seeds: [\"redis://h:6379\"], hostnames: true }

collect:
  scripts: []
",
        );
        check(
            &["--redis.addr=", "--redis.password=hunter2"],
            &[],
            "#
# These are said by this file, and must go:
#   --redis.addr
#   --redis.password
#
# These could not be carried over:
#   --redis.password: there is no service that it could be for
",
        );
    }

    #[test]
    fn every_collector_flag_comes_to_the_same_configuration() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("q.lua");
        fs::write(&script, "return {}").expect("a file");
        let script = script.display().to_string();
        for (flag, key, form) in super::COLLECT {
            let value = match form {
                super::Form::Switch => {
                    if matches!(*key, "redact_config_metrics" | "metrics_for_empty_databases") {
                        "false"
                    } else {
                        "true"
                    }
                }
                super::Form::Opposite => "true",
                super::Form::Number => "0x7",
                super::Form::Command => "CFG",
                super::Form::Text => "^idx:",
                super::Form::Keys => "a*, 3=b%2C,c d",
                super::Form::Csv => "^a$,\"b,c\"",
                super::Form::Files => &script,
            };
            let mut args = vec![format!("--{flag}={value}")];
            if *flag == "check-search-indexes" {
                args.push("--include-search-indexes-metrics".into());
            }
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            let (text, config) = migrated(&args, &[]);
            let Outcome::Run(by_flags, _) = parse(args.iter().map(Into::into), |_| None) else {
                panic!("{args:?}")
            };
            assert_eq!(
                format!("{:?}", config.collect),
                format!("{:?}", by_flags.collect),
                "{args:?}\n{text}"
            );
            assert_ne!(
                format!("{:?}", config.collect),
                format!("{:?}", Config::default().collect),
                "{args:?}"
            );
        }
    }

    #[test]
    fn a_password_file_becomes_a_profile_for_each_password() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let entries = r#"{"redis://a": "hunter2", "b:7000": "hunter2", "redis://me@[::1]:1": "hunter\"3", "c": "",
            "unix:///run/r.sock": "hunter4"}"#;
        fs::write(file.path(), entries).expect("written");
        let path = file.path().display().to_string();
        let (text, config) = migrated(&["--redis.password-file", &path, "--redis.user=you"], &[]);
        let found: Vec<_> = config
            .connect
            .profiles
            .iter()
            .map(|profile| {
                let login = profile.data.as_ref().expect("a password");
                let hosts: Vec<_> = profile.hosts.iter().map(ToString::to_string).collect();
                format!(
                    "{}:{} {}",
                    login.user.as_deref().unwrap_or_default(),
                    login.password.expose(),
                    hosts.join(" ")
                )
            })
            .collect();
        assert_eq!(
            found,
            ["you:hunter2 a:6379 b:7000", "me:hunter\"3 [::1]:1", "you:hunter4 unix:///run/r.sock",],
            "{text}"
        );
        assert!(text.contains(&format!("# From {path}. It is safer")), "{text}");
    }

    #[test]
    fn jobs_of_prometheus_become_services() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("prometheus.yml");
        let text = r#"
global: { scrape_interval: 30s, external_labels: { a: b } }
rule_files: [x.yml]
scrape_configs:
  - job_name: node
    static_configs: [{ targets: ["localhost:9100"] }]
  - job_name: redis
    metrics_path: /scrape
    scrape_timeout: 40s
    basic_auth: { username: u, password: hunter9 }
    params: { check-keys: ["a*,1=b"], other: [x] }
    static_configs:
      - targets: ["redis://a:6379", "b", "redis://u:hunter8@c:1", "nope:x"]
        labels: { team: one, shard: 1, instance: z, role: r, __meta: y }
      - targets: [d]
    relabel_configs: &usual
      - source_labels: [__address__]
        target_label: __param_target
      - source_labels: [__param_target]
        target_label: instance
      - target_label: __address__
        replacement: exporter:9121
  - job_name: files
    scrape_interval: 15s
    file_sd_configs: [{ files: ["targets/*.json", "/abs/t.yml"] }]
    kubernetes_sd_configs: [{ role: pod }]
    relabel_configs: *usual
    metric_relabel_configs: [{ action: drop }]
  - job_name: nodes
    http_sd_configs: [{ url: "http://exporter:9121/discover-cluster-nodes" }]
    relabel_configs:
      - { source_labels: [__address__], target_label: __param_target }
      - { source_labels: [__meta_x], target_label: x }
"#;
        fs::write(&path, text).expect("a file");
        let path = path.display().to_string();
        let folder = folder.path().display();
        check(
            &["--prometheus", &path, "--redis.password=hunter1"],
            &[],
            &format!(
                "#
# These are said by this file, and must go:
#   --redis.password
#
# These could not be carried over:
#   job node: left out: no rule of relabel_configs sets __param_target, so no exporter is asked for its targets
#   job redis: the parameter other
#   job redis: a target that is no address: the port is no number from 1 to 65535
#   job redis: the label __meta, which is not for services to set
#   job redis: the label instance, which is not for services to set
#   job redis: the label role, which is not for services to set
#   job files: kubernetes_sd_configs; name the services that they find, or write their targets into files
#   job files: metric_relabel_configs; they belong to the new job of Prometheus
#   job nodes: a rule of relabel_configs that sets x; labels of a service may do the same
#
# This job of Prometheus reads all services, in place of those that name single targets:
#   - job_name: redis
#     honor_labels: true
#     static_configs: [{{ targets: [\"redvigil:9121\"] }}]

global:
  scrape_interval: 15s
  scrape_timeout: 15s

credentials:
  - name: profile-1
    match: {{ hosts: [\"c:1\"] }}
    username: u
    # From a target of job redis. It is safer in a file of its own: password_file.
    password: \"hunter8\"
  - name: profile-2
    match: {{ services: [redis, redis-2, files, nodes] }}
    # From --redis.password. It is safer in a file of its own: password_file.
    password: \"hunter1\"

services:
  - name: redis
    instances: [\"redis://a:6379\", \"redis://b:6379\", \"redis://c:1\"]
    labels: {{ shard: \"1\", team: \"one\" }}
    collect:
      check_keys: [\"a*\", \"1=b\"]
  - name: redis-2
    instances: [\"redis://d:6379\"]
    collect:
      check_keys: [\"a*\", \"1=b\"]
  - name: files
    file_sd: {{ files: [\"{folder}/targets/*.json\", /abs/t.yml] }}
  - name: nodes
    cluster: {{ seeds: [\"redis://localhost:6379\"] }}
"
            ),
        );
    }

    #[test]
    fn nothing_that_was_written_gets_out_of_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("prometheus.yml");
        let text = "scrape_configs:
  - job_name: \"a\\nservices: x\\u2028y: &z\"
    params: { target: [\"h\", \"h\"], \"p\\n- q\": [r] }
    static_configs: [{ targets: [x], labels: { l: \"v\\n}, dns: {\" } }]
";
        fs::write(&path, text).expect("a file");
        let path = path.display().to_string();
        let (text, config) = migrated(
            &["--prometheus", &path, "--namespace=x", "--check-key-groups=\": \"\"#\",a,a"],
            &[("REDIS_PASSWORD", "\u{7f}hunter\n: #")],
        );
        assert_eq!(config.discover.services.len(), 1, "{text}");
        assert_eq!(config.discover.services[0].labels["l"], "v\n}, dns: {", "{text}");
        assert_eq!(config.collect.key_groups, [": \"#", "a"], "{text}");
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        fn check(args: &[&str], expected: &str) {
            let all = ["migrate"].iter().chain(args).map(Into::into);
            let Outcome::Problems(problems) = parse(all, |_| None) else { panic!("{args:?}") };
            let found: Vec<_> = problems.iter().map(ToString::to_string).collect();
            assert!(found.len() == 1 && found[0].starts_with(expected), "{args:?} {found:?}");
        }
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().display().to_string();
        fs::write(file.path(), "scrape_configs: [{job_name: [hunter]}]").expect("written");
        check(&["--prometheus", &path], &format!("{path}: is no configuration of Prometheus: line 1"));
        check(&["--prometheus=/nope.yml"], "/nope.yml: cannot be read");
        check(&["--prometheus"], "--prometheus: needs a value");
        check(&["--config.file=x"], "--config.file: cannot be combined with migrate");
        check(&["--debug=x"], "--debug: \"x\" is no boolean");
        check(&["more"], "argument 2: is no flag");
    }
}
