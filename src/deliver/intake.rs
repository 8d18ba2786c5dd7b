//! What was collected becomes records: one [`Way`] for each output.
//!
//! A way gathers what comes, lane by lane, into a request of at most 5,000 samples or 1 MiB, or of what came within
//! `queue.linger`, compresses it and gives it to the queue. A target is in one lane for ever, so that its samples stay
//! in order.
//!
//! It remembers what it took of each target last: series that are no longer there are ended by a stale marker, and no
//! timestamp is given twice, whatever the clock does. A target that has moved to another peer is forgotten without a word.
//!
//! What a newcomer would get wrong: a target whose labels change is another one to whoever receives it. Its series end
//! under the old labels, and others begin.

use super::queue::{Queue, Record};
use crate::collect::collected::{Collected, Said};
use crate::config::deliver::{Deliver, Output};
use bytes::Bytes;
use exposition::Families;
use exposition::remote_write::{Batch, Encoder, Scrape, Size};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use tracing::error;
use xxhash_rust::xxh3::xxh3_64;

/// Samples of one request, at most; a single target may have more.
const SAMPLES: usize = 5_000;

/// Bytes of one request before compression, about.
const BYTES: usize = 1 << 20;

/// Of the sizes that zstd can make of it, the cheapest: half of what snappy makes.
const LEVEL: i32 = 1;

/// So many targets that are gone are remembered beside those that are there, lest one that comes back begin with a
/// timestamp that it had.
const GONE: usize = 1_024;

/// The way of samples to one output.
pub(super) struct Way {
    job: String,
    external: BTreeMap<String, String>,
    linger: Duration,
    packs: Vec<Pack>,
    targets: HashMap<Arc<str>, Sent>,
    gone: usize,
    pen: Pen,
}

/// What is gathered for a lane.
#[derive(Default)]
struct Pack {
    encoder: Encoder,
    /// When it is to go, where there is something in it.
    due: Option<Instant>,
}

type Labels = Arc<[(Box<str>, Box<str>)]>;

/// What is remembered of a target.
struct Sent {
    lane: usize,
    /// What the labels were made of.
    made_of: Arc<BTreeMap<String, String>>,
    labels: Labels,
    theirs: Vec<Arc<Families>>,
    ours: Vec<Arc<Families>>,
    timestamp: i64,
    /// How many samples it was.
    samples: usize,
}

impl Way {
    /// To that output, whose queue this is.
    pub fn new(output: &Output, deliver: &Deliver, queue: Queue) -> Self {
        let lanes = usize::from(output.queue.lanes.max(1));
        let mut way = Self {
            job: String::new(),
            external: BTreeMap::new(),
            linger: Duration::ZERO,
            packs: (0..lanes).map(|_| Pack::default()).collect(),
            targets: HashMap::new(),
            gone: 0,
            pen: Pen { queue, zstd: None, packed: Vec::new(), samples: 0 },
        };
        way.follow(output, deliver);
        way
    }

    /// What the operator says now. The number of lanes is that of the queue: see [`Self::replace`].
    pub fn follow(&mut self, output: &Output, deliver: &Deliver) {
        self.linger = output.queue.linger;
        if self.job != deliver.job || self.external != output.external_labels {
            (self.job, self.external) = (deliver.job.clone(), output.external_labels.clone());
            // Labels are made anew with the next collection of each.
            self.targets.values_mut().for_each(|sent| sent.made_of = Arc::default());
        }
    }

    /// Gives all that was gathered to the queue, and goes on with another one.
    pub fn replace(&mut self, output: &Output, queue: Queue) {
        self.flush();
        self.pen = Pen { queue, zstd: self.pen.zstd.take(), packed: Vec::new(), samples: 0 };
        let lanes = usize::from(output.queue.lanes.max(1));
        self.packs.resize_with(lanes, Pack::default);
        for (target, sent) in &mut self.targets {
            sent.lane = lane_of(target, lanes);
        }
    }

    /// Takes in what was collected.
    pub fn take(&mut self, collected: &Collected, now: Instant) {
        let lanes = self.packs.len();
        if !self.targets.contains_key(&collected.target) {
            if collected.is_gone() {
                return;
            }
            let sent = Sent::nothing(lane_of(&collected.target, lanes));
            self.targets.insert(collected.target.clone(), sent);
            self.gone += 1;
        }
        let Some(sent) = self.targets.get_mut(&collected.target) else { return };
        if collected.has_moved {
            self.gone += usize::from(!sent.is_gone());
            sent.forget();
            return;
        }
        let lane = sent.lane;
        // Histograms are several samples each: what it came to the last time is the best guess.
        let more = (samples(&collected.theirs) + samples(&collected.ours)).max(sent.samples);
        let waiting = self.packs[lane].encoder.samples() as usize;
        if waiting > 0 && waiting + more > SAMPLES {
            self.packs[lane].flush(lane, &mut self.pen);
        }

        let pack = &mut self.packs[lane];
        let others = pack.encoder.samples() as usize;
        let was_gone = sent.is_gone();
        sent.timestamp = milliseconds(collected.at).max(sent.timestamp.saturating_add(1));
        if !Arc::ptr_eq(&sent.made_of, &collected.labels) && !collected.is_gone() {
            let labels = labels(&self.job, &collected.labels, &self.external);
            if *labels != *sent.labels {
                sent.push(&Said::default(), &Said::default(), &mut pack.encoder);
                sent.labels = labels;
            }
            sent.made_of = collected.labels.clone();
        }
        sent.push(&collected.theirs, &collected.ours, &mut pack.encoder);
        sent.samples = (pack.encoder.samples() as usize).saturating_sub(others);
        match (was_gone, sent.is_gone()) {
            (true, false) => self.gone = self.gone.saturating_sub(1),
            (false, true) => self.gone += 1,
            _ => {}
        }

        if !pack.encoder.is_empty() {
            let due = *pack.due.get_or_insert(now + self.linger);
            let is_full = pack.encoder.samples() as usize >= SAMPLES || pack.encoder.size() >= BYTES;
            if is_full || due <= now {
                pack.flush(lane, &mut self.pen);
            }
        }
        if self.gone > GONE + self.targets.len() / 2 {
            self.targets.retain(|_, sent| !sent.is_gone());
            self.gone = 0;
        }
    }

    /// When something that was gathered is to go.
    pub fn due(&self) -> Option<Instant> {
        self.packs.iter().filter_map(|pack| pack.due).min()
    }

    /// Gives what is due to the queue.
    pub fn flush_due(&mut self, now: Instant) {
        for (lane, pack) in self.packs.iter_mut().enumerate() {
            if pack.due.is_some_and(|due| due <= now) {
                pack.flush(lane, &mut self.pen);
            }
        }
    }

    /// Whether the queue has written what it was given.
    pub fn is_written(&self) -> bool {
        self.pen.queue.status().total.accepted >= self.pen.samples
    }

    /// Gives all that was gathered to the queue.
    pub fn flush(&mut self) {
        for (lane, pack) in self.packs.iter_mut().enumerate() {
            pack.flush(lane, &mut self.pen);
        }
    }
}

impl Pack {
    fn flush(&mut self, lane: usize, pen: &mut Pen) {
        self.due = None;
        if !self.encoder.is_empty() {
            let body = pen.write(lane, self.encoder.finish());
            self.encoder.recycle(body);
        }
    }
}

impl Sent {
    fn nothing(lane: usize) -> Self {
        let (made_of, labels, theirs, ours) = (Arc::default(), [].into(), vec![], vec![]);
        Self { lane, made_of, labels, theirs, ours, timestamp: i64::MIN, samples: 0 }
    }

    fn is_gone(&self) -> bool {
        self.theirs.is_empty() && self.ours.is_empty()
    }

    /// Somebody else goes on with its series: here they neither go on nor end.
    fn forget(&mut self) {
        (self.theirs, self.ours) = (vec![], vec![]);
    }

    /// Encodes what is said now, and ends what was said before and is no more.
    fn push(&mut self, theirs: &Said, ours: &Said, encoder: &mut Encoder) {
        for (said, before) in [(theirs, &mut self.theirs), (ours, &mut self.ours)] {
            let since = said.since.map(milliseconds);
            let parts = &said.parts;
            let scrape = Scrape { parts, labels: &self.labels, timestamp: self.timestamp, since };
            encoder.push(&scrape, before);
            before.clone_from(parts);
        }
    }
}

/// Gives requests to the queue.
struct Pen {
    queue: Queue,
    /// Set up once, which costs more than a small request.
    zstd: Option<zstd::bulk::Compressor<'static>>,
    /// Where it writes. A request of its own size is made of that: it may wait for long, and what zstd asks for is
    /// twenty times as much.
    packed: Vec<u8>,
    /// Samples that the queue was given.
    samples: u64,
}

impl Pen {
    /// Gives the memory of the request back.
    fn write(&mut self, lane: usize, Batch { body: plain, size }: Batch) -> Vec<u8> {
        let Size { samples, min_timestamp, max_timestamp } = size;
        match self.compress(&plain) {
            Ok(body) => {
                self.samples += u64::from(samples);
                self.queue.append(lane, Record { body, samples, min_timestamp, max_timestamp });
            }
            // There is no memory for it, and so none to keep it in.
            Err(error) => error!(%error, samples, "samples are lost: they cannot be compressed"),
        }
        plain
    }

    fn compress(&mut self, body: &[u8]) -> io::Result<Bytes> {
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Compressor::new(LEVEL)?),
        };
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(body.len()));
        zstd.compress_to_buffer(body, &mut self.packed)?;
        Ok(Bytes::copy_from_slice(&self.packed))
    }
}

/// The lane of a target: the same for ever, as long as there are so many.
fn lane_of(target: &str, lanes: usize) -> usize {
    (xxh3_64(target.as_bytes()) % lanes.max(1) as u64) as usize
}

/// What a series has beside its own labels. What a target says of itself counts before the job, and both before what is
/// said of the output, as in Prometheus; a label without a value is none.
fn labels(job: &str, own: &BTreeMap<String, String>, external: &BTreeMap<String, String>) -> Labels {
    let mut labels: BTreeMap<&str, &str> = BTreeMap::new();
    let pairs = own.iter().map(|(name, value)| (&**name, &**value)).chain([("job", job)]);
    for (name, value) in pairs.chain(external.iter().map(|(name, value)| (&**name, &**value))) {
        if !value.is_empty() {
            labels.entry(name).or_insert(value);
        }
    }
    labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn samples(said: &Said) -> usize {
    said.parts.iter().map(|part| part.samples()).sum()
}

/// Milliseconds since 1970.
fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
