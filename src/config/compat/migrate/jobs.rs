//! The jobs of a Prometheus that asks an exporter for many targets, as services.

use super::Writer;
use super::yaml::{absolute, distinct, keys, quoted};
use crate::config::compat::prometheus::Job;
use crate::config::{Address, validate};
use std::collections::BTreeMap;
use std::path::Path;

/// Parameters of `/scrape` and their keys in `collect:`.
const PARAMS: &[(&str, &str)] = &[
    ("check-keys", "check_keys"),
    ("check-single-keys", "check_single_keys"),
    ("check-streams", "check_streams"),
    ("check-single-streams", "check_single_streams"),
    ("count-keys", "count_keys"),
];

/// A service of the document.
pub(super) struct Service {
    pub(super) name: String,
    /// `instances: […]` and the like.
    pub(super) source: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) collect: Vec<(&'static str, String)>,
}

impl Writer<'_> {
    pub(super) fn job(&mut self, job: &Job, folder: &Path) {
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
}
