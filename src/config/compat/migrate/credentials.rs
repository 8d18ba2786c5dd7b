//! What flags, variables, the password file and targets say of passwords, as profiles.

use super::Writer;
use crate::config::address::Endpoint;
use crate::config::compat::words::By;
use crate::config::scrape::HostPattern;
use crate::config::{Address, Secret};
use std::collections::{BTreeMap, BTreeSet};

/// A profile of the document.
pub(super) struct Profile {
    pub(super) services: Vec<String>,
    pub(super) hosts: BTreeSet<String>,
    pub(super) user: Option<String>,
    pub(super) password: Password,
}

/// A password, or where it is.
#[derive(PartialEq)]
pub(super) enum Password {
    /// The text, and where it came from.
    Inline(Secret, String),
    /// A variable.
    Variable(String),
}

impl Writer<'_> {
    /// What the exporter takes from a target itself.
    pub(super) fn password_of_target(&mut self, address: &Address, job: &str) {
        let Some(password) = &address.password else { return };
        let password = Password::Inline(password.clone(), format!("a target of job {job}"));
        self.host_password(&address.endpoint, address.user.clone(), password);
    }

    /// Adds a server to the profile with that password.
    pub(super) fn host_password(&mut self, endpoint: &Endpoint, user: Option<String>, password: Password) {
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
    pub(super) fn credentials(&mut self) {
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
}
