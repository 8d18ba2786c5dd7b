//! What is known of a receiver, shared by the lanes that send to it: the version that it speaks, the size that it takes, and
//! how often splitting was of use. Decisions only.
//!
//! What a newcomer would get wrong: that a receiver speaks 1.0 only is forgotten after a day, and at a restart. It may have
//! been updated, and 2.0 loses less.

use crate::config::deliver::{Destination, Protocol, Version};
use crate::deliver::verdict::Format;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// How long 1.0 is spoken until 2.0 is tried again.
const MEMORY: Duration = Duration::from_secs(24 * 3600);
/// How often metadata goes to a receiver of 1.0.
const METADATA: Duration = Duration::from_secs(60);
/// Splits in a row that may be of no use.
const SPLITS: u32 = 16;
/// How often one more of them is allowed.
const REFILL: Duration = Duration::from_secs(60);

/// What is known of a receiver.
#[derive(Debug)]
pub struct Receiver {
    speaks: Speaks,
    known: Mutex<Known>,
}

#[derive(Clone, Copy, Debug)]
enum Speaks {
    One(Format),
    Auto,
}

#[derive(Debug)]
struct Known {
    /// Since when only 1.0 is spoken.
    fell_back: Option<Instant>,
    /// Whether it has taken anything in 2.0.
    took_v2: bool,
    /// Bodies of that size are too large.
    too_large: Option<usize>,
    splits: u32,
    refilled: Instant,
    metadata_sent: Option<Instant>,
    /// When a lane probed it last.
    probed: Option<Instant>,
    /// How often it came back.
    returns: u64,
}

impl Receiver {
    /// Nothing is known of it.
    pub fn new(to: &Destination, now: Instant) -> Self {
        let speaks = match to {
            Destination::RemoteWrite { version: Version::Auto, .. } => Speaks::Auto,
            Destination::RemoteWrite { version: Version::V1, .. } => Speaks::One(Format::V1),
            Destination::RemoteWrite { version: Version::V2, .. } => Speaks::One(Format::V2),
            Destination::Otlp { protocol: Protocol::Http, .. } => Speaks::One(Format::OtlpHttp),
            Destination::Otlp { protocol: Protocol::Grpc, .. } => Speaks::One(Format::OtlpGrpc),
        };
        let known = Known {
            fell_back: None,
            took_v2: false,
            too_large: None,
            splits: SPLITS,
            refilled: now,
            metadata_sent: None,
            probed: None,
            returns: 0,
        };
        Self { speaks, known: Mutex::new(known) }
    }

    /// What to speak.
    pub fn format(&self, now: Instant) -> Format {
        if let Speaks::One(format) = self.speaks {
            return format;
        }
        let mut known = self.lock();
        if known.fell_back.is_some_and(|since| now.duration_since(since) >= MEMORY) {
            (known.fell_back, known.took_v2) = (None, false);
        }
        if known.fell_back.is_some() { Format::V1 } else { Format::V2 }
    }

    /// Whether 1.0 may be spoken in the place of 2.0.
    pub fn may_fall_back(&self) -> bool {
        matches!(self.speaks, Speaks::Auto)
    }

    /// Whether it never took anything in 2.0.
    pub fn is_first(&self) -> bool {
        !self.lock().took_v2
    }

    /// It does not know 2.0. `false`: that was known.
    pub fn fall_back(&self, now: Instant) -> bool {
        let mut known = self.lock();
        let is_new = known.fell_back.is_none();
        known.fell_back.get_or_insert(now);
        is_new
    }

    /// It took a body of that size.
    pub fn took(&self, format: Format, size: usize) {
        let mut known = self.lock();
        known.took_v2 |= format == Format::V2;
        // It takes more than it did.
        known.too_large = known.too_large.filter(|limit| size < *limit);
    }

    /// It does not take bodies of that size.
    pub fn limit(&self, size: usize) {
        let mut known = self.lock();
        known.too_large = Some(known.too_large.map_or(size, |limit| limit.min(size)));
    }

    /// Whether it is known not to take bodies of that size.
    pub fn is_too_large(&self, size: usize) -> bool {
        self.lock().too_large.is_some_and(|limit| size >= limit)
    }

    /// Whether what it refused may be split: takes one of a few splits, which comes back when it was of use.
    pub fn may_split(&self, now: Instant) -> bool {
        let mut known = self.lock();
        let passed = now.duration_since(known.refilled).as_secs() / REFILL.as_secs();
        let earned = u32::try_from(passed).unwrap_or(u32::MAX);
        if earned > 0 {
            known.splits = known.splits.saturating_add(earned).min(SPLITS);
            known.refilled = now;
        }
        let may = known.splits > 0;
        known.splits = known.splits.saturating_sub(1);
        may
    }

    /// A split was of use: some of it was taken.
    pub fn split_was_of_use(&self) {
        let mut known = self.lock();
        known.splits = (known.splits + 1).min(SPLITS);
    }

    /// Whether metadata is due; then it counts as sent.
    pub fn metadata_is_due(&self, now: Instant) -> bool {
        let mut known = self.lock();
        let is_due = known.metadata_sent.is_none_or(|sent| now.duration_since(sent) >= METADATA);
        if is_due {
            known.metadata_sent = Some(now);
        }
        is_due
    }

    /// Whether a lane that wants to probe it at that pause may: then it counts as probed. Lanes do not probe one by one what
    /// one of them can find out.
    pub fn may_probe(&self, pause: Duration, now: Instant) -> bool {
        let mut known = self.lock();
        let may = known.probed.is_none_or(|probed| now.duration_since(probed) >= pause);
        if may {
            known.probed = Some(now);
        }
        may
    }

    /// A probe succeeded.
    pub fn returned(&self) {
        self.lock().returns += 1;
    }

    /// How often one did.
    pub fn returns(&self) -> u64 {
        self.lock().returns
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::connect::Tls;
    use crate::config::deliver::{Auth, Endpoint, Url};

    fn receiver(version: Version) -> Receiver {
        let url = Url { secure: false, host: "h".into(), port: 1, path: "/".into() };
        let endpoint =
            Endpoint { url, headers: vec![], auth: Auth::None, tls: Tls::default(), timeout: Duration::ZERO };
        Receiver::new(&Destination::RemoteWrite { version, endpoint }, Instant::now())
    }

    #[test]
    fn one_point_oh_is_spoken_for_a_day() {
        let receiver = receiver(Version::Auto);
        let now = Instant::now();
        assert_eq!((receiver.format(now), receiver.is_first()), (Format::V2, true));
        receiver.took(Format::V2, 9);
        assert!(!receiver.is_first());
        assert!(receiver.fall_back(now) && !receiver.fall_back(now + Duration::from_secs(60)));
        assert_eq!(receiver.format(now + MEMORY - Duration::from_secs(1)), Format::V1);
        assert_eq!((receiver.format(now + MEMORY), receiver.is_first()), (Format::V2, true));
    }

    #[test]
    fn a_version_that_was_asked_for_stays() {
        for (version, expected) in [(Version::V1, Format::V1), (Version::V2, Format::V2)] {
            let receiver = receiver(version);
            assert_eq!((receiver.format(Instant::now()), receiver.may_fall_back()), (expected, false));
        }
    }

    #[test]
    fn splits_that_are_of_no_use_come_to_an_end() {
        let receiver = receiver(Version::V1);
        let now = Instant::now();
        for _ in 0..100 {
            assert!(receiver.may_split(now));
            receiver.split_was_of_use();
        }
        for _ in 0..SPLITS {
            assert!(receiver.may_split(now));
        }
        assert!(!receiver.may_split(now + REFILL - Duration::from_secs(1)));
        assert!(receiver.may_split(now + REFILL));
        assert!(!receiver.may_split(now + REFILL));
        let later = now + REFILL * 1_000;
        assert_eq!((0..100).filter(|_| receiver.may_split(later)).count(), SPLITS as usize);
    }

    #[test]
    fn the_smallest_body_that_was_too_large_is_the_limit() {
        let receiver = receiver(Version::V1);
        assert!(!receiver.is_too_large(usize::MAX));
        receiver.limit(500);
        receiver.limit(700);
        assert!(receiver.is_too_large(500) && !receiver.is_too_large(499));
        receiver.took(Format::V1, 499);
        assert!(receiver.is_too_large(500));
        receiver.took(Format::V1, 500);
        assert!(!receiver.is_too_large(500));
    }

    #[test]
    fn metadata_is_due_once_a_minute() {
        let receiver = receiver(Version::V1);
        let now = Instant::now();
        let due: Vec<_> =
            (0..=120).filter(|s| receiver.metadata_is_due(now + Duration::from_secs(*s))).collect();
        assert_eq!(due, [0, 60, 120]);
    }
}
