//! Puts it together: starts in the order of the data, stops in the opposite order.

use crate::config::Config;
use crate::config::compat::Warning;
use crate::config::serve::Listen;
use crate::scrape::once;
use crate::serve::{State, listen};
use crate::telemetry::{Metrics, log};
use anyhow::{Context as _, Result};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

/// Runs until SIGINT or SIGTERM.
pub fn run(config: Config, warnings: Vec<Warning>) -> Result<()> {
    log::start(&config.telemetry);
    for warning in warnings {
        warn!("{warning}");
    }
    // One thread: see docs/decisions/0004-one-thread.md.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(main(config))
}

async fn main(config: Config) -> Result<()> {
    let metrics = Arc::<Metrics>::default();
    let (_publish, config) = watch::channel(Arc::new(config));
    let (scraper, collections) = once::scraper(config.clone(), metrics.clone());
    let state = State { config: config.clone(), scraper, metrics };
    tokio::spawn(collections.run());
    for place in &config.borrow().serve.listen.clone() {
        let Listen::Tcp { host, port } = place else { continue };
        let address = match host.as_str() {
            "" => SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port)),
            host => SocketAddr::new(host.parse().context("host")?, *port),
        };
        let listener = listen::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        info!(address = %listener.local_addr()?, "listening");
        tokio::spawn(listen::serve(listener, state.clone()));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}
