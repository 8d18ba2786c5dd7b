//! A record on its way: whole, or in the parts that it was split into.
//!
//! What a newcomer would get wrong: the queue hears of a record once, when all of it is delivered or counted. What is known
//! of the parts until then is lost with the process, and the record is sent again as a whole.

use crate::deliver::queue::{Entry, Reason, Settled};
use crate::deliver::verdict::Format;
use crate::deliver::{otlp, remote_write};
use bytes::Bytes;
use exposition::remote_write::{Batch, Malformed, split_by_target, to_v1, v1_metadata};
use std::collections::VecDeque;
use std::io::Read as _;

/// The most that a record may be when it is unpacked: far more than any that we make, and far less than memory.
const LARGEST: u64 = 64 << 20;

/// Why a record cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not what was put into the queue.
    #[error("a record cannot be unpacked")]
    Unpack(#[source] std::io::Error),
    /// It is no message.
    #[error("a record is no message")]
    Message(#[source] Malformed),
    /// No format has room for it.
    #[error("a record is too large to be compressed")]
    Size,
    /// The thread that made its body is gone.
    #[error("the body of a record was not made")]
    Broken,
}

/// A record that is being delivered.
#[derive(Clone, Debug)]
pub struct Work {
    /// Its number in the lane.
    pub sequence: u64,
    /// The time of its newest sample, in milliseconds since 1970.
    pub max_timestamp: i64,
    /// All its samples.
    pub samples: u32,
    /// What is still to be sent, in order.
    pub parts: VecDeque<Part>,
    /// Whether it was split.
    pub is_split: bool,
    /// Whether it was split since it was refused, which may have been of no use.
    pub is_split_by_refusal: bool,
    /// Whether the receiver may have it already.
    pub may_be_known: bool,
    /// Whether a request for it was begun and not ended.
    pub is_under_way: bool,
    /// The format of this record alone.
    pub format: Option<Format>,
    /// How often its first part was sent.
    pub attempts: u32,
    /// Samples that arrived.
    pub delivered: u32,
    /// Samples that did not, and why.
    pub dropped: Vec<(Reason, u32)>,
}

/// Samples that go in one request.
#[derive(Clone, Debug)]
pub struct Part {
    /// The message in 2.0, once it is unpacked.
    pub message: Bytes,
    /// Whether it still has to be.
    pub is_packed: bool,
    /// How many samples it has.
    pub samples: u32,
    /// The body as it travels, kept for the next attempt.
    pub body: Option<(Format, Bytes)>,
}

impl Work {
    /// All of a record.
    pub fn new(entry: Entry) -> Self {
        let samples = entry.record.samples;
        let part = Part { message: entry.record.body, is_packed: true, samples, body: None };
        Self {
            sequence: entry.sequence,
            max_timestamp: entry.record.max_timestamp,
            samples,
            parts: VecDeque::from([part]),
            is_split: false,
            is_split_by_refusal: false,
            may_be_known: entry.may_be_repeated,
            is_under_way: false,
            format: None,
            attempts: 0,
            delivered: 0,
            dropped: vec![],
        }
    }

    /// Counts samples of the first part that were dropped.
    pub fn drop(&mut self, reason: Reason, samples: u32) {
        if samples == 0 {
            return;
        }
        match self.dropped.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count = count.saturating_add(samples),
            None => self.dropped.push((reason, samples)),
        }
    }

    /// Why samples are gone that the receiver refused.
    pub fn refused(&self) -> Reason {
        if self.may_be_known { Reason::PossibleDuplicate } else { Reason::Rejected }
    }

    /// Puts parts in the place of the first one.
    pub fn split(&mut self, parts: Vec<Part>) {
        self.parts.pop_front();
        self.parts.extend(parts);
        (self.is_split, self.attempts) = (true, 0);
    }

    /// The first part is done.
    pub fn next(&mut self) {
        self.parts.pop_front();
        self.attempts = 0;
    }

    /// What to tell the queue. Every sample of the record is in it, whatever a split made of them.
    pub fn settled(mut self) -> Settled {
        let dropped: u64 = self.dropped.iter().map(|(_, count)| u64::from(*count)).sum();
        let counted = u64::from(self.delivered) + dropped;
        match u64::from(self.samples).checked_sub(counted) {
            Some(missing) => self.drop(Reason::Corrupt, u32::try_from(missing).unwrap_or(u32::MAX)),
            // Parts that claim more samples than their record has.
            None => {
                let mut left = self.samples;
                self.delivered = self.delivered.min(left);
                left -= self.delivered;
                for (_, count) in &mut self.dropped {
                    *count = (*count).min(left);
                    left -= *count;
                }
                self.dropped.retain(|(_, count)| *count > 0);
            }
        }
        Settled { delivered: self.delivered, dropped: self.dropped }
    }
}

impl Part {
    /// With its body in that format. For a thread that may compute: some milliseconds.
    pub fn prepared(mut self, format: Format) -> Result<Self, Error> {
        if self.is_packed {
            self.message = unpacked(&self.message).map_err(Error::Unpack)?.into();
            self.is_packed = false;
        }
        let body = match format {
            Format::V2 => remote_write::compressed(&self.message).ok_or(Error::Size)?,
            Format::V1 => {
                let message = to_v1(&self.message).map_err(Error::Message)?;
                remote_write::compressed(&message).ok_or(Error::Size)?
            }
            Format::OtlpHttp => exposition::otlp::from_remote_write(&self.message).map_err(Error::Message)?,
            Format::OtlpGrpc => {
                otlp::framed(&exposition::otlp::from_remote_write(&self.message).map_err(Error::Message)?)
            }
        };
        self.body = Some((format, body.into()));
        Ok(self)
    }

    /// A part for each target, in order.
    pub fn by_target(&self) -> Result<Vec<Self>, Error> {
        let batches = split_by_target(&self.message).map_err(Error::Message)?;
        let part = |batch: Batch| Self {
            message: batch.body.into(),
            is_packed: false,
            samples: batch.size.samples,
            body: None,
        };
        Ok(batches.into_iter().map(part).collect())
    }

    /// The body of a request in 1.0 that tells of metadata only. `None`: there is none.
    pub fn metadata(&self) -> Option<Bytes> {
        let message = v1_metadata(&self.message).ok().filter(|message| !message.is_empty())?;
        remote_write::compressed(&message).map(Into::into)
    }
}

fn unpacked(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut message = Vec::new();
    let read = zstd::Decoder::with_buffer(packed)?.take(LARGEST + 1).read_to_end(&mut message)?;
    if read as u64 > LARGEST {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "it is larger than any of ours"));
    }
    Ok(message)
}
