//! What one collection has made so far.
//!
//! A collection publishes its snapshot through a `watch` channel and replaces it as it goes on: whoever
//! cannot wait any longer takes what is there.

use super::Facts;
use crate::connect::Kind;
use exposition::Families;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The state of one collection of one target.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Whether anybody was asked: a collection may wait for room first. One whose room was taken away while it was
    /// being answered counts as one that found none.
    pub began: bool,
    /// Finished families, part by part.
    pub parts: Vec<Arc<Families>>,
    /// Whether INFO was read: `redis_up`.
    pub up: bool,
    /// Why the collection failed, or the first reason for which a part of it did.
    pub error: Option<(Kind, String)>,
    /// Every collector that takes part, and how it went.
    pub collectors: Vec<(&'static str, Progress)>,
    /// The role that INFO says, `master` or `slave`; empty on a Sentinel.
    pub role: String,
    /// What INFO says of the server's place in its service.
    pub facts: Option<Arc<Facts>>,
    /// When INFO was answered.
    pub taken: Option<Instant>,
    /// How long it took to have a connection, and whether it is a new one.
    pub connect: Option<Duration>,
    /// How long PING took.
    pub ping: Option<Duration>,
    /// From begin to end, once there is an end.
    pub duration: Option<Duration>,
}

/// How a collector went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not finished.
    Pending,
    /// Its families are there.
    Done,
    /// It made none.
    Failed(Kind),
}

impl Snapshot {
    /// Whether nothing more will come.
    pub fn is_complete(&self) -> bool {
        self.duration.is_some()
    }

    /// Says how a collector went.
    pub fn set(&mut self, collector: &'static str, progress: Progress) {
        match self.collectors.iter_mut().find(|(name, _)| *name == collector) {
            Some((_, old)) => *old = progress,
            None => self.collectors.push((collector, progress)),
        }
    }
}
