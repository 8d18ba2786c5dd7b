//! What a configuration of Prometheus says of a redis_exporter that is asked for many targets: jobs whose
//! relabelling puts the target into `__param_target`.
//! <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#scrape_config>
//!
//! What a newcomer would get wrong: only what is named here is looked at. A configuration holds passwords for
//! other things, and nothing of them may get into the result.

use crate::config::web::explain;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// The parts of a configuration that we look at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Prometheus {
    /// What holds for all jobs.
    pub global: Global,
    /// The jobs.
    pub scrape_configs: Vec<Job>,
}

/// `global:`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Global {
    /// How often jobs are scraped.
    pub scrape_interval: Option<String>,
    /// How long that may take.
    pub scrape_timeout: Option<String>,
}

/// One of `scrape_configs:`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Job {
    /// Its name.
    pub job_name: String,
    /// How often it is scraped.
    pub scrape_interval: Option<String>,
    /// How long that may take.
    pub scrape_timeout: Option<String>,
    /// Parameters of the request.
    pub params: BTreeMap<String, Vec<String>>,
    /// Targets that are written down.
    pub static_configs: Vec<Group>,
    /// Targets in files.
    pub file_sd_configs: Vec<Files>,
    /// Targets from HTTP.
    pub http_sd_configs: Vec<Http>,
    /// What becomes of labels of targets.
    pub relabel_configs: Vec<Rule>,
    /// What becomes of labels of samples.
    pub metric_relabel_configs: Vec<IgnoredAny>,
    /// Everything else, by name.
    #[serde(flatten)]
    pub others: BTreeMap<String, IgnoredAny>,
}

/// One of `static_configs:`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Group {
    /// Addresses.
    pub targets: Vec<String>,
    /// Labels of all of them.
    pub labels: BTreeMap<String, String>,
}

/// One of `file_sd_configs:`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Files {
    /// Paths with `*`.
    pub files: Vec<String>,
}

/// One of `http_sd_configs:`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Http {
    /// Who is asked.
    pub url: String,
}

/// One of `relabel_configs:`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// What it looks at.
    pub source_labels: Vec<String>,
    /// What it sets.
    pub target_label: String,
    /// What must match.
    pub regex: Option<String>,
    /// What is set.
    pub replacement: Option<String>,
    /// What it does.
    pub action: Option<String>,
}

impl Prometheus {
    /// Reads a configuration. The error ends a sentence that names the file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let options = serde_saphyr::options! { with_snippet: false };
        let read: Option<Self> = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| format!("is no configuration of Prometheus: {}", explain(&error)))?;
        Ok(read.unwrap_or_default())
    }
}

impl Job {
    /// Whether its targets are servers that an exporter is asked for.
    pub fn asks_for_targets(&self) -> bool {
        self.relabel_configs.iter().any(|rule| rule.target_label == "__param_target")
            || self.params.contains_key("target")
    }
}

impl Rule {
    /// Whether it is one of the three by which an exporter is asked for a target, as they are written everywhere.
    /// With them, nothing is lost.
    pub fn is_usual(&self) -> bool {
        let plain = self.regex.is_none() && self.action.as_deref().is_none_or(|action| action == "replace");
        let from = self.source_labels.iter().map(String::as_str).collect::<Vec<_>>();
        plain
            && match (self.target_label.as_str(), from.as_slice()) {
                ("__param_target", ["__address__"]) => self.replacement.is_none(),
                ("instance", ["__param_target" | "__address__"]) => self.replacement.is_none(),
                ("__address__", []) => true,
                _ => false,
            }
    }
}
