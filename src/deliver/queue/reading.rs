//! Records that readers wait for, from the disk; what is lost or too old on the way is counted.
//!
//! What a newcomer would get wrong: the lock is not held while the disk is read. That is sound because nobody else takes
//! from the disk, and a lane that waits for it has nothing under way.

use super::Reason;
use super::log::Read;
use super::ring::Place;
use super::worker::Worker;

impl Worker {
    /// Gets what readers wait for.
    pub(super) fn read(&mut self) {
        for place in 0..self.logs.len() {
            loop {
                let (base, wanted) = {
                    let state = self.shared.lock();
                    (state.lanes[place].base(), state.lanes[place].wanted)
                };
                if !wanted {
                    break;
                }
                let read = self.logs[place].read(base);
                let too_old = self.shared.too_old();
                let mut state = self.shared.lock();
                for part in self.logs[place].damage.drain(..) {
                    *state.disk.corrupt.entry(part).or_default() += 1;
                }
                let ring = &mut state.lanes[place];
                match read {
                    Read::Record(before, record) => {
                        ring.leave(before, Reason::Corrupt);
                        if record.max_timestamp < too_old {
                            let total = before.total + u64::from(record.samples);
                            ring.leave(Place { sequence: before.sequence + 1, total }, Reason::Age);
                        } else {
                            ring.fly(before.sequence + 1, record);
                        }
                    }
                    Read::Lost(to) => {
                        ring.leave(to, Reason::Corrupt);
                    }
                    Read::Skip(to) => ring.skip(to),
                    Read::Later => break,
                    // the log has less than it says: what is missing is lost
                    Read::Nothing => {
                        let written = ring.written;
                        ring.leave(written, Reason::Corrupt);
                    }
                }
                if !ring.next_is_on_disk() {
                    ring.wanted = false;
                }
                // what was dropped on the way is written down before the next is sent
                state.work |= state.lanes[place].unpersisted();
                state.trim(place, &self.shared.config);
                drop(state);
                self.shared.wake_all();
            }
        }
    }
}
