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
    use std::os::unix::fs::MetadataExt as _;

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
