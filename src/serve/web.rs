//! What stands between the network and the routes, as files and flags say now: TLS, users, headers, rate.
//!
//! [`Web::current`] is cheap and called for each connection and request. It looks at the files at most once
//! a second; when one changed, all is made anew. What cannot be used changes nothing: the last good state
//! stays, the log says so once, and a metric says so until it is mended.
//!
//! What a newcomer would get wrong: nothing watches the files in the background. A server that nobody asks
//! has no need of new certificates.

use super::auth::{Checker, Users};
use crate::config::Serve;
use crate::config::web::{ClientAuth, RateLimit, TlsServer, WebConfig};
use crate::net::tls::{self, Stamp};
use crate::telemetry::{Metrics, log};
use hyper::header::{HeaderName, HeaderValue};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};
use tracing::{error, info};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The document cannot be read or understood.
    #[error("the web config file {}: {reason}", path.display())]
    Document {
        /// Which.
        path: PathBuf,
        /// Why, with the place in it.
        reason: String,
    },
    /// Certificates or keys cannot be used.
    #[error("TLS of our own server cannot be set up")]
    Tls(#[from] tls::Error),
}

/// The state that is in use, and where it came from.
pub struct Web {
    source: Serve,
    checker: Arc<Checker>,
    metrics: Arc<Metrics>,
    current: RwLock<Arc<Site>>,
    /// Of all files that were read, good or not.
    stamps: Mutex<Vec<Stamp>>,
    born: Instant,
    /// Milliseconds from `born` to the last look.
    looked: AtomicU64,
}

/// One state. Connections and requests that began with it end with it.
pub struct Site {
    /// HTTPS; `None`: plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Who may ask.
    pub users: Users,
    /// What every response gets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How often all together may ask.
    pub rate: Option<Rate>,
    /// Whether callers must have a certificate that is verified.
    wants_certificates: bool,
}

impl Site {
    /// Whether callers have to say who they are: by a password, or by a certificate that is verified.
    pub fn asks_who(&self) -> bool {
        self.wants_certificates || self.users.are_listed()
    }
}

impl Web {
    /// Reads the files for the first time.
    pub fn open(source: &Serve, metrics: Arc<Metrics>) -> Result<Self, Error> {
        let mut stamps = vec![];
        let checker = Arc::<Checker>::default();
        let site = load(source, &checker, &mut stamps)?;
        Ok(Self {
            source: source.clone(),
            checker,
            metrics,
            current: RwLock::new(Arc::new(site)),
            stamps: Mutex::new(stamps),
            born: Instant::now(),
            looked: AtomicU64::new(0),
        })
    }

    /// The state now. Where files changed, reads them: some milliseconds, for one caller.
    pub fn current(&self) -> Arc<Site> {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        let looked = self.looked.load(Ordering::Relaxed);
        let is_due = now.saturating_sub(looked) >= LOOK.as_millis() as u64;
        // Of several who come at the same time one looks; the others go on with what there is.
        if is_due && self.looked.compare_exchange(looked, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let mut stamps = self.stamps();
            if stamps.iter().any(Stamp::is_outdated) {
                let _ = self.read(&mut stamps);
            }
        }
        self.current.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Reads the files now, changed or not. Nothing to read is no failure.
    pub fn reload(&self) -> Result<(), Error> {
        self.read(&mut self.stamps())
    }

    /// Whether there is a document that a reload reads.
    pub fn has_document(&self) -> bool {
        self.source.web_config.is_some()
    }

    fn stamps(&self) -> MutexGuard<'_, Vec<Stamp>> {
        self.stamps.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn read(&self, stamps: &mut Vec<Stamp>) -> Result<(), Error> {
        let mut fresh = vec![];
        let loaded = load(&self.source, &self.checker, &mut fresh);
        if loaded.is_err() {
            // A document that cannot be understood names no files: those of before may hold the cure.
            let known: Vec<_> = stamps.iter().map(|stamp| Stamp::of(stamp.path())).collect();
            fresh.extend(
                known
                    .into_iter()
                    .filter(|stamp| fresh.iter().all(|f| f.path() != stamp.path()))
                    .collect::<Vec<_>>(),
            );
        }
        *stamps = fresh;
        let was_failing = self.metrics.web_reload_failed.swap(loaded.is_err());
        match loaded {
            Ok(site) => {
                *self.current.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(site);
                info!(mended = was_failing, "web config and certificates read again");
                Ok(())
            }
            Err(fault) => {
                if !was_failing {
                    error!(
                        error = log::chain(&fault),
                        "web config or certificates cannot be used: the last good ones stay"
                    );
                }
                Err(fault)
            }
        }
    }
}

/// Reads everything, and notes which files that were and how they looked before they were read.
fn load(source: &Serve, checker: &Arc<Checker>, stamps: &mut Vec<Stamp>) -> Result<Site, Error> {
    let config = match &source.web_config {
        None => WebConfig { tls: source.tls.as_ref().map(TlsServer::from_flags), ..WebConfig::default() },
        Some(path) => {
            stamps.push(Stamp::of(path));
            document(path)?
        }
    };
    let tls = match &config.tls {
        None => None,
        Some(tls) => {
            stamps.extend(tls.files().map(Stamp::of));
            Some(Arc::new(tls::server_config(tls, config.http2)?))
        }
    };
    let header = |(name, value): &(&'static str, String)| {
        Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?))
    };
    Ok(Site {
        tls,
        users: Users::new(source.basic_auth.as_ref(), &config.users, checker.clone()),
        headers: config.headers.iter().filter_map(header).collect(),
        rate: config.rate_limit.map(Rate::new),
        wants_certificates: config
            .tls
            .as_ref()
            .is_some_and(|tls| tls.client_auth == ClientAuth::RequireAndVerify),
    })
}

fn document(path: &Path) -> Result<WebConfig, Error> {
    let fault = |reason| Error::Document { path: path.to_owned(), reason };
    let text = crate::config::validate::read(path).map_err(fault)?;
    WebConfig::parse(&text, path.parent().unwrap_or(Path::new(""))).map_err(fault)
}

/// A token bucket: full at first, one more token each interval.
pub struct Rate {
    limit: RateLimit,
    /// Tokens, and when they were counted.
    level: Mutex<(f64, Instant)>,
}

impl Rate {
    fn new(limit: RateLimit) -> Self {
        Self { limit, level: Mutex::new((f64::from(limit.burst), Instant::now())) }
    }

    /// Takes a token, if there is one.
    pub fn admits(&self, now: Instant) -> bool {
        let mut level = self.level.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let gained = now.saturating_duration_since(level.1).as_secs_f64() / self.limit.interval.as_secs_f64();
        let tokens = (level.0 + gained).min(f64::from(self.limit.burst));
        let admitted = tokens >= 1.0;
        *level = (if admitted { tokens - 1.0 } else { tokens }, now);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_admits_a_burst_and_then_one_an_interval() {
        let rate = Rate::new(RateLimit { interval: Duration::from_secs(1), burst: 2 });
        let begin = Instant::now();
        let check = |after_ms: u64, expected: bool| {
            assert_eq!(rate.admits(begin + Duration::from_millis(after_ms)), expected, "{after_ms} ms");
        };
        check(0, true);
        check(0, true);
        check(500, false);
        check(1100, true);
        check(1200, false);
        check(60_000, true);
        check(60_000, true);
        check(60_000, false);
    }

    #[test]
    fn a_broken_document_leaves_the_last_good_one_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("web.yml");
        let write = |text: &str| std::fs::write(&path, text).expect("written");
        let metrics = Arc::<Metrics>::default();
        let source = Serve { web_config: Some(path.clone()), ..Serve::default() };
        write("nonsense: true\n");
        let error = Web::open(&source, metrics.clone()).err().expect("an unknown key").to_string();
        assert!(error.contains("web.yml: line 1 column 1: unknown key \"nonsense\""), "{error}");
        write("rate_limit: {interval: 1s, burst: 1}\n");
        let web = Web::open(&source, metrics.clone()).expect("a good document");
        let check = |text: &str, has_rate: bool, failed: bool| {
            write(text);
            assert_eq!(web.reload().is_err(), failed, "{text}");
            assert_eq!(web.current().rate.is_some(), has_rate, "{text}");
            assert_eq!(metrics.web_reload_failed.get(), failed, "{text}");
        };
        check("rate_limit: [", true, true);
        check("tls_server_config: {cert_file: none, key_file: none}", true, true);
        check("{}", false, false);
    }
}
