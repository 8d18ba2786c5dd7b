//! Until when what is ours is ours, by a clock that goes on while the machine sleeps.
//!
//! Whoever collects looks here first, each time. The loop that talks to etcd moves the end; where it is held up, or the whole
//! machine is, the fence closes without anybody doing anything.
//!
//! What a newcomer would get wrong: the clock of the async runtime stands still while a machine sleeps, and a timer is late in
//! a process that was stopped. `CLOCK_BOOTTIME` is neither: <https://man7.org/linux/man-pages/man2/clock_gettime.2.html>.

use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A moment of `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boottime(pub Duration);

impl Boottime {
    /// Now.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        // Since the machine started: neither is negative.
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        Self(Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default()))
    }
}

/// A fence that closes by itself. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Fence {
    /// Nanoseconds of `CLOCK_BOOTTIME`.
    end: Arc<AtomicU64>,
}

impl Fence {
    /// One that never closes.
    pub fn open() -> Self {
        Self { end: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    /// One that is closed.
    pub fn closed() -> Self {
        Self { end: Arc::default() }
    }

    /// Whether what is ours may be collected now.
    pub fn is_open(&self) -> bool {
        nanoseconds(Boottime::now()) < self.end.load(Ordering::Acquire)
    }

    /// It closes then, and not before.
    pub fn open_until(&self, end: Boottime) {
        self.end.store(nanoseconds(end), Ordering::Release);
    }

    /// It never closes by itself.
    pub fn open_for_ever(&self) {
        self.end.store(u64::MAX, Ordering::Release);
    }

    /// It is closed.
    pub fn close(&self) {
        self.end.store(0, Ordering::Release);
    }
}

fn nanoseconds(at: Boottime) -> u64 {
    u64::try_from(at.0.as_nanos()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_closes_by_itself() {
        let fence = Fence::closed();
        assert!(!fence.is_open() && Fence::open().is_open());
        let Boottime(now) = Boottime::now();
        fence.open_until(Boottime(now + Duration::from_secs(60)));
        assert!(fence.is_open());
        fence.open_until(Boottime(now));
        assert!(!fence.is_open());
        fence.open_until(Boottime(now + Duration::from_secs(60)));
        fence.close();
        assert!(!fence.is_open());
    }
}
