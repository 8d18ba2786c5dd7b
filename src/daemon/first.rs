//! The configuration of a start: where there is a `--config.source`, its document is fetched first.
//!
//! Who does not answer in time is taken by what it said last, where that was kept; else we do not start.
//!
//! What a newcomer would get wrong: the flags alone are what came before this. They are no configuration to run with where a
//! document is wanted.

use crate::config::Config;
use crate::config::document::reader::Files;
use crate::config::document::{Loaded, Text, Texts};
use crate::config::problem::Problem;
use crate::net::tls;
use crate::source::last_good::LastGood;
use crate::source::{self, Document};
use crate::telemetry::log;
use anyhow::{Result, anyhow};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// How long the source may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A configuration to run with, and the remote document that is in it. `flags` has one already where there is no source.
pub async fn configuration(
    flags: Config,
    clients: &Arc<tls::Clients>,
    kept: Option<&LastGood>,
) -> Result<(Config, Option<Document>)> {
    let (Some(remote), Some(kept), Some(origin)) = (flags.remote.clone(), kept, flags.origin.clone()) else {
        return Ok((flags, None));
    };
    let sources = origin.sources.clone();
    let file = sources.read().map_err(one_line)?;
    let read = |document: &Document| {
        let remote = Some(Text { name: document.place.clone(), text: document.text.clone() });
        let texts = Texts { file: file.clone(), remote, ..Texts::default() };
        sources.load(&texts, &Files::default(), &|name| std::env::var_os(name))
    };
    let fetched = source::first(&remote, clients.clone(), Instant::now() + PATIENCE).await;
    let (document, loaded) = match fetched {
        Ok(document) => {
            let loaded = read(&document).map_err(one_line)?;
            info!(source = %remote, version = document.version, "the remote document is read");
            if let Err(error) = kept.keep(&document) {
                warn!(error = %error, "the remote document cannot be kept for a start without its source");
            }
            (document, loaded)
        }
        Err(failure) => {
            let last = kept.load();
            let reason = match &last {
                Ok(Some(_)) => String::new(),
                Ok(None) => "there is none from before".to_owned(),
                Err(error) => format!("the one from before is of no use: {}", log::chain(error)),
            };
            let Ok(Some(document)) = last else {
                return Err(anyhow!("--config.source: {remote}: {}; {reason}", failure.text));
            };
            warn!(source = %remote, error = failure.text, version = document.version, "the remote document of before is used");
            let loaded = read(&document).map_err(one_line)?;
            (document, loaded)
        }
    };
    let Loaded { config, warnings } = loaded;
    log::go_on(&config.telemetry);
    for warning in warnings {
        warn!("{warning}");
    }
    Ok((config, Some(document)))
}

/// All that is wrong, as an edge says it.
fn one_line(problems: Vec<Problem>) -> anyhow::Error {
    anyhow!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}
