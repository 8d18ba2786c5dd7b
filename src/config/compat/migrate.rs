//! `redvigil migrate`: the flags, variables and password file of a redis_exporter, and the jobs of the Prometheus
//! that asks it, as a configuration file.
//!
//! `jobs` makes services of jobs, `credentials` profiles of passwords, `write` a text of both and of the flags, and `yaml`
//! is how single values are written.
//!
//! What cannot be carried over stands in the result as a comment, and is told. The result is a document that the reader takes
//! ([`crate::config::document`]); a test reads what comes out.
//!
//! What a newcomer would get wrong: the exporter gives `--redis.password` to every target that it is asked for.
//! Here the profile names the services that the result has, and nobody else gets it.

mod credentials;
mod jobs;
mod write;
mod yaml;

use super::Problem;
use super::prometheus::{Job, Prometheus};
use super::words::{By, Said, Words};
use crate::config::{Address, Config, Secret, validate};
use credentials::{Password, Profile};
use jobs::Service;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;
use yaml::{one_line, quoted};

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

struct Writer<'a> {
    words: &'a Words,
    config: &'a Config,
    services: Vec<Service>,
    profiles: Vec<Profile>,
    /// What could not be carried over.
    lost: Vec<String>,
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
}

#[cfg(test)]
mod tests;
