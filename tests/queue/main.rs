//! The queue of an output against everything that a disk does: deaths at each call, faults, damage.
//!
//! - [`simulated`]: the disk; [`life`]: a process that has a queue on it, and what it was seen to do
//! - [`promises`]: the promises G1 to G5, each a test of its name; [`crashes`]: what they are asked about
//! - [`faults`]: calls that fail; [`failing`]: each call of a run, from the first on, with little memory, too
//! - [`damage`]: files that are not what was written; [`model`]: any of it, at random
//! - [`list`]: the same against a list of what waits, which says what may be missing and what may come again
//! - [`kill`]: a real process on a real file system that is killed
//!
//! What a newcomer would get wrong: nothing here looks into the queue. What it promises is to be seen from outside.

mod crashes;
mod damage;
mod failing;
mod faults;
mod kill;
mod life;
mod list;
mod model;
mod promises;
mod simulated;
