//! What is kept of an etcd, and what is lost: a snapshot is taken and restored by `etcdctl`, as an operator does it; or all is gone.
//!
//! What a newcomer would get wrong: a restored etcd has the leases of the snapshot again, each with its whole time, and its revision
//! is that of the snapshot. Whether it is the same cluster by its id depends on the token that it is given.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Etcd;
use crate::Part;

impl Etcd {
    /// Deletes all data of the members, which must not run. Started again they are a new cluster of the same id, at revision 1.
    pub fn wipe(&mut self) {
        assert!(self.members.iter().all(|member| !member.is_running()), "a member runs");
        for at in 0..self.len() {
            let data = self.data(at);
            fs::remove_dir_all(&data).unwrap_or_else(|error| panic!("{}: {error}", data.display()));
        }
    }

    /// Takes a snapshot from the first member.
    pub fn snapshot(&self) -> PathBuf {
        let file = self.folder.path().join("snapshot.db");
        // A file that is there is not written over.
        let _ = fs::remove_file(&file);
        etcdctl(&[&format!("--endpoints={}", self.url()), "snapshot", "save", &shown(&file)]);
        file
    }

    /// Puts a snapshot in the place of the data of its only member, which must not run. Another token makes it a cluster of
    /// another id.
    pub fn restore(&mut self, snapshot: &Path, token: &str) {
        assert_eq!(self.len(), 1, "each member has to be restored for itself");
        self.wipe();
        let said = |flag: &str| {
            let arg = self.members[0].args.iter().find(|arg| arg.starts_with(&format!("{flag}=")));
            arg.expect("it was started with that").clone()
        };
        etcdctl(&[
            "snapshot",
            "restore",
            &shown(snapshot),
            &said("--name"),
            &said("--data-dir"),
            &said("--initial-cluster"),
            &said("--initial-advertise-peer-urls"),
            &format!("--initial-cluster-token={token}"),
        ]);
    }

    fn data(&self, at: usize) -> PathBuf {
        self.folder.path().join(format!("n{at}"))
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn etcdctl(args: &[&str]) {
    let done = Command::new(Part::Etcdctl.path()).env("ETCDCTL_API", "3").args(args).output();
    let done = done.expect("it can be started");
    assert!(done.status.success(), "etcdctl {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}
