//! Files whose content is configuration, looked at again and again: the file itself, and those that it names.
//!
//! Two looks must agree before a change counts: who writes a file piece by piece is not read in the middle, unless a piece
//! takes longer than a look. Links are followed, so that the `..data` of Kubernetes is seen when it is swapped.
//!
//! What a newcomer would get wrong: what a look costs is some calls of `stat`; texts are read by who is told.

use crate::net::tls::Stamp;
use crate::telemetry::metrics::Cause;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often is looked.
pub const LOOK: Duration = Duration::from_millis(250);

/// After so many looks all is read again, whatever its stamps: there are file systems that do not tell.
const DISTRUST: u32 = 120;

/// What is looked at.
#[derive(Default)]
pub struct Watched {
    files: Vec<(Cause, Stamp)>,
    /// The stamps of those that changed, until the next look.
    unsettled: Option<(Cause, Vec<Stamp>)>,
    looks: u32,
}

impl Watched {
    /// Looks at these from now on. Those that it knows are compared with what they were.
    pub fn follow(&mut self, file: Option<&Path>, named: &BTreeMap<PathBuf, Option<u64>>) {
        let all = file.map(|path| (Cause::File, path)).into_iter();
        let all = all.chain(named.keys().map(|path| (Cause::Named, path.as_path())));
        let known = std::mem::take(&mut self.files);
        self.files = all
            .map(|(cause, path)| {
                let stamp = known.iter().find(|(_, stamp)| stamp.path() == path).map(|(_, stamp)| stamp.clone());
                (cause, stamp.unwrap_or_else(|| Stamp::of(path)))
            })
            .collect();
    }

    /// Looks; says what changed, once it stays as it is.
    pub fn look(&mut self) -> Option<Cause> {
        let now: Vec<_> = self.files.iter().map(|(_, stamp)| Stamp::of(stamp.path())).collect();
        let changed = self.files.iter().zip(&now).find(|((_, before), now)| before != *now).map(|((cause, _), _)| *cause);
        self.looks += 1;
        let Some(cause) = changed else {
            self.unsettled = None;
            let is_due = self.looks >= DISTRUST && !self.files.is_empty();
            self.looks = if is_due { 0 } else { self.looks };
            return is_due.then_some(self.files.first().map(|(cause, _)| *cause)).flatten();
        };
        match self.unsettled.take() {
            Some((_, before)) if before == now => {
                for ((_, stamp), now) in self.files.iter_mut().zip(now) {
                    *stamp = now;
                }
                self.looks = 0;
                Some(cause)
            }
            _ => {
                self.unsettled = Some((cause, now));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_change_counts_once_it_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, named) = (folder.path().join("r.yaml"), folder.path().join("secret"));
        fs::write(&file, "a").expect("written");
        let mut watched = Watched::default();
        watched.follow(Some(&file), &BTreeMap::from([(named.clone(), None)]));
        assert_eq!(watched.look(), None);
        fs::write(&file, "ab").expect("written");
        assert_eq!(watched.look(), None, "it may be in the middle");
        fs::write(&file, "abc").expect("written");
        assert_eq!(watched.look(), None, "it was");
        assert_eq!((watched.look(), watched.look()), (Some(Cause::File), None));
        // One that was not there yet.
        fs::write(&named, "x").expect("written");
        assert_eq!((watched.look(), watched.look(), watched.look()), (None, Some(Cause::Named), None));
        fs::remove_file(&named).expect("gone");
        assert_eq!((watched.look(), watched.look()), (None, Some(Cause::Named)));
    }

    #[test]
    fn a_link_that_points_elsewhere_is_a_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for version in ["1", "2"] {
            fs::create_dir(at(version)).expect("a folder");
            fs::write(at(version).join("r.yaml"), "same").expect("written");
        }
        let link = |to: &str| {
            std::os::unix::fs::symlink(to, at("next")).expect("a link");
            fs::rename(at("next"), at("..data")).expect("swapped");
        };
        link("1");
        std::os::unix::fs::symlink("..data/r.yaml", at("r.yaml")).expect("a link");
        let mut watched = Watched::default();
        watched.follow(Some(&at("r.yaml")), &BTreeMap::new());
        assert_eq!(watched.look(), None);
        link("2");
        assert_eq!((watched.look(), watched.look()), (None, Some(Cause::File)));
    }

    #[test]
    fn all_is_read_again_now_and_then() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut watched = Watched::default();
        watched.follow(Some(&folder.path().join("none")), &BTreeMap::new());
        assert_eq!((0..2 * DISTRUST).filter(|_| watched.look().is_some()).count(), 2);
    }
}
