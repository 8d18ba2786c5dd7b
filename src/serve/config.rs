//! `/api/v1/config`: the configuration that runs, with who said each value, and how the last reload went.
//!
//! The form is described in `docs/api.md`.
//!
//! What a newcomer would get wrong: a list of thousands of services takes tens of milliseconds to write, so that is done on a
//! thread beside ours.

use super::State;
use super::api::json;
use super::reload::Report;
use super::response::{self, Body};
use crate::config::document::{effective, rows};
use crate::config::{Config, hash};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// What runs.
#[derive(Serialize)]
struct ConfigJson {
    /// The same for two exporters that do the same: that of the peers.
    hash: String,
    file: Option<String>,
    remote: Option<String>,
    reload: ReloadJson,
    /// Keys whose change counts at the next start.
    pending_restart: Vec<String>,
    /// What was said for the moment, by key.
    overrides: BTreeMap<String, String>,
    settings: Vec<SettingJson>,
}

/// How the last reload went.
#[derive(Serialize)]
struct ReloadJson {
    ok: bool,
    time: f64,
    source: &'static str,
    outcome: &'static str,
    reason: Option<String>,
    last_success: f64,
}

/// A key, or a flag that no key says.
#[derive(Serialize)]
struct SettingJson {
    key: String,
    /// As it was written; null where it may not be seen, and where nothing is said.
    value: serde_json::Value,
    hidden: bool,
    origin: String,
    restart: bool,
}

/// Answers `/api/v1/config`.
pub async fn page(state: State) -> Response<Body> {
    let (config, report) = (state.config.borrow().clone(), state.report.borrow().clone());
    match tokio::task::spawn_blocking(move || json(&config_json(&config, &report))).await {
        Ok(response) => response,
        Err(_) => response::error(StatusCode::INTERNAL_SERVER_ERROR, "the configuration cannot be shown"),
    }
}

fn config_json(config: &Config, report: &Report) -> ConfigJson {
    let origin = config.origin.as_ref();
    let settings = origin.map(|origin| effective::settings(origin, &rows())).unwrap_or_default();
    ConfigJson {
        hash: hash::shown(config.hash()),
        file: origin.and_then(|origin| origin.sources.file.as_ref()).map(|path| path.display().to_string()),
        remote: config.remote.as_ref().map(ToString::to_string),
        reload: ReloadJson {
            ok: report.reason.is_none(),
            time: seconds(report.at),
            source: report.cause.word(),
            outcome: report.outcome.word(),
            reason: report.reason.clone(),
            last_success: seconds(report.good),
        },
        pending_restart: report.pending.clone(),
        overrides: origin
            .map(|origin| origin.texts.overrides.list().into_iter().collect())
            .unwrap_or_default(),
        settings: settings.into_iter().map(setting_json).collect(),
    }
}

fn setting_json(setting: effective::Setting) -> SettingJson {
    SettingJson {
        key: setting.key,
        hidden: setting.value.is_none(),
        value: setting.value.unwrap_or_default(),
        origin: setting.origin,
        restart: setting.restart,
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
