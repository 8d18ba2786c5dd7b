//! The text of the document: comments about what stays and what is lost, then the sections.

use super::Writer;
use super::credentials::Password;
use super::yaml::{absolute, distinct, json, keys, list, one_line, quoted};
use crate::config::compat::flags;
use crate::config::compat::pairs::{COLLECT, Form};
use crate::config::compat::prometheus::{Job, Prometheus};
use crate::config::compat::words::By;
use crate::config::units;
use std::path::Path;
use std::time::Duration;

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

impl Writer<'_> {
    /// What is not in the document, as comments at its head.
    pub(super) fn leftovers(&self, text: &mut String, jobs: &Prometheus) {
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
    pub(super) fn global(&self, text: &mut String, jobs: &Prometheus) {
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

    pub(super) fn write(&self, text: &mut String) {
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
