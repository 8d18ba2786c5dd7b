//! The owner of the configuration that runs, and the one who replaces it.
//!
//! A reload reads again what the flags name: the configuration file, the password file, and the web config with
//! its certificates. All or nothing for each of them; what cannot be read leaves what runs alone.

use crate::config::{Config, credentials, validate};
use crate::deliver::outputs::Outputs;
use crate::serve::reload::Wanted;
use crate::serve::web::Web;
use crate::telemetry::{Metrics, log};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

/// The loop that answers wishes for a reload.
pub struct Reloader {
    /// Where the configuration is published.
    pub publish: watch::Sender<Arc<Config>>,
    /// Those who must have what is new of theirs before it is published.
    pub outputs: Outputs,
    /// TLS and users of our own server.
    pub web: Arc<Web>,
    /// Our own counters.
    pub metrics: Arc<Metrics>,
    /// Who wants a reload.
    pub wanted: mpsc::Receiver<Wanted>,
}

impl Reloader {
    /// Runs until nobody can ask any more.
    pub async fn run(mut self) {
        while let Some(Wanted { answer }) = self.wanted.recv().await {
            let outcome = self.reload().await;
            let was_failing = self.metrics.reload_failed.swap(outcome.is_err());
            match &outcome {
                Ok(()) => info!(mended = was_failing, "configuration read again"),
                Err(reason) => {
                    self.metrics.reload_failures.increment();
                    error!(error = reason, "reload failed: what ran before goes on");
                }
            }
            // Whoever asked may have left.
            let _ = answer.send(outcome);
        }
    }

    async fn reload(&self) -> Result<(), String> {
        let config = self.config().await;
        let web = self.web.reload().map_err(|error| format!("failed to reload: {}", log::chain(&error)));
        config.and(web)
    }

    /// Reads the configuration file again, and what it and the flags name.
    async fn config(&self) -> Result<(), String> {
        let running = self.publish.borrow().clone();
        if let Some(origin) = running.origin.as_ref().filter(|origin| origin.sources.file.is_some()) {
            let loaded = origin.sources.load_file(|name| std::env::var_os(name)).map_err(|problems| {
                let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                format!("failed to reload the configuration: {}", problems.join("; "))
            })?;
            for warning in loaded.warnings {
                warn!("{warning}");
            }
            let config = &loaded.config;
            let outputs = self.outputs.apply(&config.deliver, config.scrape.interval).await;
            outputs.map_err(|error| format!("failed to reload the outputs: {}", log::chain(&error)))?;
            self.publish.send_replace(Arc::new(loaded.config));
        } else if let Some(path) = &running.connect.password_file {
            let text = validate::read(path);
            let passwords = text.and_then(|text| credentials::parse_password_file(&text));
            let passwords =
                passwords.map_err(|reason| format!("failed to reload passwords file: {reason}"))?;
            // Where nothing is new, nobody is to be woken.
            if passwords != running.connect.passwords {
                let mut config = Config::clone(&running);
                config.connect.passwords = passwords;
                self.publish.send_replace(Arc::new(config));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Address, Secret, Serve};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_good_file_is_published_and_a_broken_one_changes_nothing() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut config = Config::default();
        config.connect.password_file = Some(file.path().into());
        let (publish, running) = watch::channel(Arc::new(config));
        let (ask, wanted) = mpsc::channel(1);
        let metrics = Arc::<Metrics>::default();
        let web = Arc::new(Web::open(&Serve::default(), metrics.clone()).expect("nothing to read"));
        let loop_ = Reloader { publish, outputs: Outputs::none(), web, metrics: metrics.clone(), wanted };
        let checks = async move {
            let key = Address::tcp("h", 1).key();
            for (text, expected, password) in [
                (r#"{"redis://h:1": "one"}"#, Ok(()), Some("one")),
                (
                    r#"{"redis://h:1": "tw"#,
                    Err("failed to reload passwords file: unexpected end of JSON input"),
                    Some("one"),
                ),
                (r#"{"h:1": "three"}"#, Ok(()), Some("three")),
                ("{}", Ok(()), None),
            ] {
                std::fs::write(file.path(), text).expect("written");
                let (answer, answered) = oneshot::channel();
                ask.send(Wanted { answer }).await.expect("the loop runs");
                assert_eq!(answered.await.expect("an answer"), expected.map_err(Into::into), "{text}");
                assert_eq!(
                    running.borrow().connect.passwords.get(&key).map(Secret::expose),
                    password,
                    "{text}"
                );
                assert_eq!(metrics.reload_failed.get(), expected.is_err(), "{text}");
            }
            assert_eq!(metrics.reload_failures.get(), 1);
        };
        tokio::join!(loop_.run(), checks);
    }
}
