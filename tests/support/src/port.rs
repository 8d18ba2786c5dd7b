//! Free TCP ports that no other test takes, in this process or in another.
//!
//! Ports come from below 32768: above that the kernel hands them to outgoing connections, and a server that
//! starts a moment later finds its port taken. Asking whether a port can be bound is not enough either, as
//! two tests may ask at once. So a port is ours while we hold the lock of a file that is named after it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// The lowest port we take.
const FIRST: u32 = 11_000;
/// One above the highest. A cluster node also takes its port plus 10000, which has to stay below 32768.
const END: u32 = 22_500;
/// What a cluster node adds to its port for its bus.
const BUS: u16 = 10_000;

/// A port on 127.0.0.1 that is ours until this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Takes a port that nobody listens on; the port 10000 above it is free too.
    pub fn take() -> Self {
        // Each process begins elsewhere, so that two of them seldom try the same numbers.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let begin = process::id().wrapping_mul(97);
        for _ in 0..(END - FIRST) {
            let step = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let number = u16::try_from(FIRST + step % (END - FIRST)).expect("ports below 32768 fit");
            if let Some(lock) = lock(number)
                && is_free(number)
                && is_free(number + BUS)
            {
                return Self { number, _lock: lock };
            }
        }
        panic!("no free port between {FIRST} and {END}: which processes hold them?");
    }

    /// The number of the port.
    pub fn number(&self) -> u16 {
        self.number
    }
}

fn is_free(number: u16) -> bool {
    TcpListener::bind(("127.0.0.1", number)).is_ok()
}

/// Locks the file of this port, or says that another process holds it. The kernel gives the lock back when
/// its holder dies, however it dies.
fn lock(number: u16) -> Option<File> {
    // One folder for each user, who alone may write there: in a shared one somebody else could leave links.
    let user = rustix::process::getuid().as_raw();
    let folder = std::env::temp_dir().join(format!("redvigil-ports-{user}"));
    let _ = DirBuilder::new().mode(0o700).create(&folder);
    let meta = fs::symlink_metadata(&folder).ok()?;
    assert!(meta.is_dir() && meta.uid() == user, "{} is not ours", folder.display());
    let file = OpenOptions::new().create(true).append(true).open(folder.join(number.to_string())).ok()?;
    file.try_lock().ok()?;
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ports_taken_together_differ_and_lie_below_the_ephemeral_range() {
        let ports: Vec<Port> = (0..50).map(|_| Port::take()).collect();
        let numbers: BTreeSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), 50);
        assert!(numbers.iter().all(|number| number + BUS < 32_768));
    }

    #[test]
    fn a_port_that_is_held_is_not_given_out_again() {
        let port = Port::take();
        assert!(lock(port.number()).is_none());
    }
}
