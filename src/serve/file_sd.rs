//! `registry.file_sd`: a file that always has what `/sd/exporters` says, for a Prometheus without http_sd:
//! <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config>.
//!
//! It is written beside its place and renamed into it, so that a reader finds the old list or the new one, and only when the
//! list is another one.
//!
//! What a newcomer would get wrong: while nobody is known, what an earlier run left there stays. It is the last known list.

use super::exporters::{self, Place};
use crate::config::Config;
use crate::peers::{Known, Standing};
use crate::telemetry::{Metrics, log};
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// How long until the next attempt at a file that could not be written.
const REST: Duration = Duration::from_secs(5);

/// How long a disk is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who may read it: everybody. There is nothing in it that `/sd/exporters` does not say.
const MODE: u32 = 0o644;

/// Who follows the peers and writes the file, where there is to be one.
pub struct FileSd {
    /// The configuration that runs.
    pub config: watch::Receiver<Arc<Config>>,
    /// Who is there.
    pub standing: watch::Receiver<Arc<Standing>>,
    /// Who was there last; followed here for all who ask.
    pub known: Known,
    /// Our own counters.
    pub metrics: Arc<Metrics>,
}

impl FileSd {
    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut written: Option<(PathBuf, String)> = None;
        let mut is_failing = false;
        loop {
            self.known.follow(&self.standing.borrow_and_update());
            let wanted = wanted(&self.config.borrow_and_update(), &self.known);
            let mut rest = None;
            if let Some((path, text)) = &wanted
                && wanted != written
            {
                match replace(path.clone(), text.clone()).await {
                    Ok(()) => {
                        if std::mem::take(&mut is_failing) {
                            info!(file = %path.display(), "registry.file_sd is written again");
                        }
                        written.clone_from(&wanted);
                    }
                    Err(error) => {
                        self.metrics.file_sd_failures.increment();
                        if !std::mem::replace(&mut is_failing, true) {
                            let error = log::chain(&error);
                            warn!(file = %path.display(), error, "registry.file_sd cannot be written; it is tried again");
                        }
                        rest = Some(REST);
                    }
                }
            }
            tokio::select! {
                changed = self.config.changed() => if changed.is_err() {
                    // Whoever published is gone: we are stopping.
                    std::future::pending().await
                },
                // Nobody publishes where there are no others.
                Ok(()) = self.standing.changed() => {}
                () = sleep(rest.unwrap_or_default()), if rest.is_some() => {}
            }
        }
    }
}

/// The file, and what is to be in it.
fn wanted(config: &Config, known: &Known) -> Option<(PathBuf, String)> {
    let registry = config.peers.registry.as_ref()?;
    let path = registry.file_sd.clone()?;
    let peers = exporters::peers(config, known)?;
    Some((path, exporters::text(&peers, &Place::advertised(&registry.advertise))))
}

/// Puts the text in place of what is there, off the thread that serves.
async fn replace(path: PathBuf, text: String) -> io::Result<()> {
    let write = tokio::task::spawn_blocking(move || write(&path, &text));
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer");
    timeout(PATIENCE, write).await.map_err(|_| late())?.map_err(io::Error::other)?
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
    // Prometheus reads files by a pattern, which this one does not fit.
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(".new");
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = folder.join(beside);
    let written = (|| {
        let mut file = File::create(&beside)?;
        file.set_permissions(Permissions::from_mode(MODE))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::deliver::Url;
    use crate::config::net::Etcd;
    use crate::config::peers::{EtcdRegistry, Registry};
    use crate::serve::exporters::tests::peer;
    use std::os::unix::fs::MetadataExt as _;

    /// The configuration with that file, shared in etcd.
    fn config(path: &Path) -> Config {
        let url = Url::parse("http://a:9121").expect("a URL");
        let etcd = Etcd { endpoints: vec![url.clone()], user: None, tls: <_>::default() };
        let (prefix, ttl, value) = ("/p/".into(), Duration::from_secs(10), <_>::default());
        let mut config = Config::default();
        config.peers.registry = Some(Registry {
            advertise: url,
            zone: None,
            weight: 100,
            file_sd: Some(path.into()),
            etcd: Some(EtcdRegistry { etcd, prefix, ttl, value }),
            consul: None,
            sharding: <_>::default(),
        });
        config
    }

    #[tokio::test]
    async fn what_was_there_stays_until_somebody_is_known_and_is_tried_again_where_it_cannot_be_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("peers.json");
        fs::write(&path, "of an earlier run").expect("written");
        let (publish, config) = watch::channel(Arc::new(config(&path)));
        let (stand, standing) = watch::channel(Arc::new(Standing::nothing()));
        let (known, metrics) = (Known::default(), Arc::<Metrics>::default());
        let task = FileSd { config, standing, known: known.clone(), metrics: metrics.clone() };
        let mut run = tokio::task::JoinSet::new();
        run.spawn(task.run());
        let number = std::cell::Cell::new(0);
        let be = |peers: &[&str]| {
            number.set(number.get() + 1);
            let peers = peers.iter().map(|url| peer(url, None)).collect();
            stand.send_replace(Arc::new(Standing { number: number.get(), peers, ..Standing::nothing() }));
        };
        let until = async |is: &dyn Fn() -> bool| {
            while !is() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        let has = |count: usize| {
            let text = fs::read_to_string(&path).unwrap_or_default();
            text.matches("__meta_redvigil_id").count() == count
        };
        be(&[]);
        until(&|| known.peers().is_empty()).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(fs::read_to_string(&path).expect("text"), "of an earlier run");
        be(&["http://a:9121", "http://b:9121"]);
        until(&|| has(2)).await;
        // Nobody is left: what was known last is what is there.
        be(&[]);
        be(&["http://a:9121"]);
        until(&|| has(1)).await;
        let mut elsewhere = Config::clone(&publish.borrow());
        let other = folder.path().join("later/peers.json");
        elsewhere.peers.registry.as_mut().expect("it is there").file_sd = Some(other.clone());
        publish.send_replace(Arc::new(elsewhere));
        until(&|| metrics.file_sd_failures.get() == 1).await;
        fs::create_dir(folder.path().join("later")).expect("a folder");
        be(&["http://a:9121", "http://b:9121"]);
        until(&|| other.exists()).await;
        run.shutdown().await;
    }

    #[test]
    fn a_reader_finds_a_whole_list_that_it_may_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("peers.json");
        let mut before = None;
        for (text, is_new) in [("[]\n", true), ("[1]\n", true), ("[1]\n", false)] {
            write(&path, text).expect("written");
            let there = fs::metadata(&path).expect("it is there");
            let found = fs::read_to_string(&path).expect("text");
            assert_eq!((&*found, there.permissions().mode() & 0o777), (text, MODE));
            assert_eq!(before.replace(there.ino()) != Some(there.ino()), is_new, "{text}");
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left beside it");
        assert!(write(&folder.path().join("none/peers.json"), "[]").is_err());
        assert!(write(Path::new("/"), "[]").is_err());
    }
}
