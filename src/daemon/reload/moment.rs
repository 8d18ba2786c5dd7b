//! What is said for the moment, by `/api/v1/runtime`: judged, taken whole or not at all, and told.

use super::Reloader;
use super::load::Fault;
use crate::config::document::overrides::Overrides;
use crate::config::document::{Texts, rows};
use crate::config::problem::Problem;
use crate::telemetry::events::Kind;
use crate::telemetry::metrics::{Cause, Reload};
use std::collections::{BTreeMap, BTreeSet};

impl Reloader {
    /// Something is to be said for the moment.
    pub(super) async fn patch(&mut self, patch: &serde_json::Value) -> Result<Overrides, Vec<Problem>> {
        let before = self.running_texts();
        let overrides = before.overrides.patched(patch, &rows())?;
        if let Some(problem) = self.unknown_name(&overrides) {
            return Err(vec![problem]);
        }
        let texts = Texts { overrides: overrides.clone(), ..before.clone() };
        match self.reload_as_it_is(Cause::Runtime, texts).await {
            Ok(()) => {
                self.tell_overrides(&before.overrides, &overrides);
                Ok(overrides)
            }
            Err(fault) => {
                self.world.metrics.reloaded(Cause::Runtime, Reload::Failed);
                Err(match fault {
                    Fault::Problems(problems) => problems,
                    Fault::Other(message) => vec![Problem { place: String::new(), message }],
                })
            }
        }
    }

    /// A name of which something is said, and which nobody has.
    fn unknown_name(&self, overrides: &Overrides) -> Option<Problem> {
        let config = self.world.publish.borrow();
        let is_output = |name: &str| config.deliver.outputs.iter().any(|output| *output.name == *name);
        let service = overrides.names("services").find(|name| config.discover.service(name).is_none());
        let output = overrides.names("outputs").find(|name| !is_output(name));
        let (key, name) = service.map(|name| ("services", name)).or(output.map(|name| ("outputs", name)))?;
        let message = "there is none of that name".into();
        Some(Problem { place: format!("{key}.{name}"), message })
    }

    /// Each change of what is said for the moment is an event.
    fn tell_overrides(&self, before: &Overrides, now: &Overrides) {
        self.world.metrics.config_overrides.set(now.list().len() as u64);
        let (before, now): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (before.list().into_iter().collect(), now.list().into_iter().collect());
        let keys: BTreeSet<_> = before.keys().chain(now.keys()).collect();
        for key in keys {
            let (old, new) = (before.get(key), now.get(key));
            if old == new {
                continue;
            }
            let message = match new {
                Some(new) => format!("{key} is {new} for the moment, by /api/v1/runtime"),
                None => format!("{key} is again what documents and flags say"),
            };
            let mut steps = key.split('.');
            let name = if matches!(steps.next(), Some("services" | "outputs")) { steps.next() } else { None };
            let (old, new) = (old.map(String::as_str), new.map(String::as_str));
            self.world.events.push(name.unwrap_or_default(), Kind::Config, old, new, message);
        }
    }
}
