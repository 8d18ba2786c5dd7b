//! How a file of the log is written: a header, records, and a footer when it is full.
//!
//! What a newcomer would get wrong: within a file numbers have no gaps, as it is written. What is missing when it is
//! read was damaged. Each record says how many samples of its file come before it, so that the lost are counted in
//! samples, to the last one. The checksum of a record's head covers its place, so that a body that looks like a record
//! is none.
//!
//! | part | bytes | little endian |
//! |---|---|---|
//! | header | 64 | magic u32, version u16, lane u16, codec u8, begins anew u8, 0 u16, first number u64, samples of the lane before u64, created i64 (ms), …, CRC32C u32 |
//! | record | 48 + body | magic u32, length u32, CRC32C of the head u32, CRC32C of the body u32, number u64, oldest i64, newest i64 (ms), samples u32, samples of the file before u32 |
//! | footer | 64 | magic u32, records u32, first number u64, samples of the lane before u64, samples u64, oldest i64, newest i64, its place u64, …, CRC32C u32 |

use super::{LARGEST_BODY, Record};
use crc32c::{crc32c, crc32c_append};

/// The size of a header, in bytes.
pub(super) const HEADER: usize = 64;
/// The size of a record without its body, in bytes.
pub(super) const HEAD: usize = 48;
/// The size of a footer, in bytes.
pub(super) const FOOTER: usize = 64;

/// All numbers and sums of a lane are below that. One that is not was never ours, whatever its checksum says.
pub(super) const MOST: u64 = 1 << 56;

const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"rvQS");
const FOOTER_MAGIC: u32 = u32::from_le_bytes(*b"rvQF");
/// What a record begins with.
pub(super) const RECORD_MAGIC: [u8; 4] = [0xd7, b'r', b'v', 0xa1];
const VERSION: u16 = 1;
/// `io.prometheus.write.v2.Request`, compressed with zstd.
const CODEC: u8 = 1;

/// What a file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) lane: u16,
    /// The number of its first record.
    pub(super) first: u64,
    /// Samples of the lane before it.
    pub(super) before: u64,
    /// Whether the numbers just before it were never written.
    pub(super) anew: bool,
    /// When it was made, in milliseconds since 1970.
    pub(super) created: i64,
}

/// What a record begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: u32,
    pub(super) body_crc: u32,
    pub(super) sequence: u64,
    pub(super) min_timestamp: i64,
    pub(super) max_timestamp: i64,
    pub(super) samples: u32,
    /// Samples of this file before it; modulo 2^32.
    pub(super) before: u32,
}

/// What a file ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) records: u32,
    pub(super) first: u64,
    pub(super) before: u64,
    pub(super) samples: u64,
    pub(super) min_timestamp: i64,
    pub(super) max_timestamp: i64,
    /// Where it stands itself.
    pub(super) end: u64,
}

fn put<const N: usize>(into: &mut [u8], at: &mut usize, bytes: [u8; N]) {
    into[*at..*at + N].copy_from_slice(&bytes);
    *at += N;
}

fn get<const N: usize>(from: &[u8], at: &mut usize) -> Option<[u8; N]> {
    let bytes = from.get(*at..*at + N)?.try_into().ok();
    *at += N;
    bytes
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let (mut out, mut at) = ([0; HEADER], 0);
        put(&mut out, &mut at, HEADER_MAGIC.to_le_bytes());
        put(&mut out, &mut at, VERSION.to_le_bytes());
        put(&mut out, &mut at, self.lane.to_le_bytes());
        put(&mut out, &mut at, [CODEC, u8::from(self.anew), 0, 0]);
        put(&mut out, &mut at, self.first.to_le_bytes());
        put(&mut out, &mut at, self.before.to_le_bytes());
        put(&mut out, &mut at, self.created.to_le_bytes());
        seal(&mut out);
        out
    }

    /// `None` where it is damaged, or of a version that is not known.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut at = 0;
        let sound = sealed(bytes.get(..HEADER)?) && get(bytes, &mut at)? == HEADER_MAGIC.to_le_bytes();
        let version = u16::from_le_bytes(get(bytes, &mut at)?);
        let lane = u16::from_le_bytes(get(bytes, &mut at)?);
        let [codec, anew, ..]: [u8; 4] = get(bytes, &mut at)?;
        (sound && version == VERSION && codec == CODEC).then_some(())?;
        let first = u64::from_le_bytes(get(bytes, &mut at)?);
        let before = u64::from_le_bytes(get(bytes, &mut at)?);
        (first.max(before) < MOST).then_some(())?;
        Some(Self { lane, first, before, anew: anew != 0, created: i64::from_le_bytes(get(bytes, &mut at)?) })
    }
}

impl Head {
    pub(super) fn of(record: &Record, sequence: u64, before: u64) -> Self {
        Self {
            length: record.body.len() as u32,
            body_crc: crc32c(&record.body),
            sequence,
            min_timestamp: record.min_timestamp,
            max_timestamp: record.max_timestamp,
            samples: record.samples,
            before: before as u32,
        }
    }

    /// What it and its body take, in bytes.
    pub(super) fn size(&self) -> u64 {
        HEAD as u64 + u64::from(self.length)
    }

    pub(super) fn encode(&self, place: u64) -> [u8; HEAD] {
        let (mut out, mut at) = ([0; HEAD], 0);
        put(&mut out, &mut at, RECORD_MAGIC);
        put(&mut out, &mut at, self.length.to_le_bytes());
        put(&mut out, &mut at, [0; 4]);
        put(&mut out, &mut at, self.body_crc.to_le_bytes());
        put(&mut out, &mut at, self.sequence.to_le_bytes());
        put(&mut out, &mut at, self.min_timestamp.to_le_bytes());
        put(&mut out, &mut at, self.max_timestamp.to_le_bytes());
        put(&mut out, &mut at, self.samples.to_le_bytes());
        put(&mut out, &mut at, self.before.to_le_bytes());
        let crc = Self::crc(&out, place);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` where no sound head stands at that place.
    pub(super) fn decode(bytes: &[u8], place: u64) -> Option<Self> {
        let bytes = bytes.get(..HEAD)?;
        let mut at = 0;
        (get(bytes, &mut at)? == RECORD_MAGIC).then_some(())?;
        let length = u32::from_le_bytes(get(bytes, &mut at)?);
        let crc = u32::from_le_bytes(get(bytes, &mut at)?);
        (length as usize <= LARGEST_BODY && crc == Self::crc(bytes, place)).then_some(())?;
        let head = Self {
            length,
            body_crc: u32::from_le_bytes(get(bytes, &mut at)?),
            sequence: u64::from_le_bytes(get(bytes, &mut at)?),
            min_timestamp: i64::from_le_bytes(get(bytes, &mut at)?),
            max_timestamp: i64::from_le_bytes(get(bytes, &mut at)?),
            samples: u32::from_le_bytes(get(bytes, &mut at)?),
            before: u32::from_le_bytes(get(bytes, &mut at)?),
        };
        (head.sequence < MOST).then_some(head)
    }

    fn crc(bytes: &[u8], place: u64) -> u32 {
        let crc = crc32c(&place.to_le_bytes());
        crc32c_append(crc32c_append(crc, &bytes[..8]), &bytes[12..])
    }
}

impl Footer {
    pub(super) fn encode(&self) -> [u8; FOOTER] {
        let (mut out, mut at) = ([0; FOOTER], 0);
        put(&mut out, &mut at, FOOTER_MAGIC.to_le_bytes());
        put(&mut out, &mut at, self.records.to_le_bytes());
        put(&mut out, &mut at, self.first.to_le_bytes());
        put(&mut out, &mut at, self.before.to_le_bytes());
        put(&mut out, &mut at, self.samples.to_le_bytes());
        put(&mut out, &mut at, self.min_timestamp.to_le_bytes());
        put(&mut out, &mut at, self.max_timestamp.to_le_bytes());
        put(&mut out, &mut at, self.end.to_le_bytes());
        seal(&mut out);
        out
    }

    /// `None` where no sound footer stands at that place.
    pub(super) fn decode(bytes: &[u8], place: u64) -> Option<Self> {
        let mut at = 0;
        let sound = sealed(bytes.get(..FOOTER)?) && get(bytes, &mut at)? == FOOTER_MAGIC.to_le_bytes();
        let footer = Self {
            records: u32::from_le_bytes(get(bytes, &mut at)?),
            first: u64::from_le_bytes(get(bytes, &mut at)?),
            before: u64::from_le_bytes(get(bytes, &mut at)?),
            samples: u64::from_le_bytes(get(bytes, &mut at)?),
            min_timestamp: i64::from_le_bytes(get(bytes, &mut at)?),
            max_timestamp: i64::from_le_bytes(get(bytes, &mut at)?),
            end: u64::from_le_bytes(get(bytes, &mut at)?),
        };
        let is_ours = footer.first.max(footer.before).max(footer.samples) < MOST;
        (sound && is_ours && footer.end == place && footer.records > 0).then_some(footer)
    }
}

/// Puts the checksum of all before it into the last four bytes.
pub(super) fn seal(bytes: &mut [u8]) {
    let end = bytes.len() - 4;
    let crc = crc32c(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
}

/// Whether the last four bytes are the checksum of all before them.
pub(super) fn sealed(bytes: &[u8]) -> bool {
    bytes.len().checked_sub(4).is_some_and(|end| crc32c(&bytes[..end]).to_le_bytes() == bytes[end..])
}

/// The name of the file that begins with that number.
pub(super) fn name(first: u64) -> String {
    format!("{first:020}.seg")
}

/// The number that a file of that name begins with.
pub(super) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(())?;
    digits.parse().ok().filter(|first| *first > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// A sound part is read as it was written; with any bit flipped it is none.
    fn check<T: PartialEq + std::fmt::Debug>(part: &T, bytes: &[u8], decode: impl Fn(&[u8]) -> Option<T>) {
        assert_eq!(decode(bytes).as_ref(), Some(part));
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bytes), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "{length} bytes");
        }
        assert_eq!(decode(&vec![0; bytes.len()]), None);
    }

    #[test]
    fn every_flipped_bit_of_a_part_is_seen() {
        let header = Header { lane: 3, first: 7, before: 99, anew: true, created: -5 };
        check(&header, &header.encode(), Header::decode);
        let body = Bytes::from_static(b"body");
        let record = Record { body, samples: 9, min_timestamp: i64::MIN, max_timestamp: i64::MAX };
        let head = Head::of(&record, MOST - 1, 1 << 33);
        check(&head, &head.encode(4711), |bytes| Head::decode(bytes, 4711));
        assert_eq!(Head::decode(&head.encode(4711), 4712), None);
        let footer = Footer {
            records: 1,
            first: 2,
            before: 3,
            samples: 4,
            min_timestamp: 5,
            max_timestamp: 6,
            end: 4096,
        };
        check(&footer, &footer.encode(), |bytes| Footer::decode(bytes, 4096));
    }

    #[test]
    fn a_number_that_nobody_reaches_is_damage_behind_a_sound_checksum() {
        let header = |first, before| Header { lane: 0, first, before, anew: false, created: 0 };
        let record = Record { body: Bytes::new(), samples: 1, min_timestamp: 0, max_timestamp: 0 };
        let footer = |first, before, samples| Footer {
            records: 1,
            first,
            before,
            samples,
            min_timestamp: 0,
            max_timestamp: 0,
            end: 128,
        };
        for (number, known) in [(MOST - 1, true), (MOST, false), (u64::MAX, false)] {
            for header in [header(number, 0), header(1, number)] {
                assert_eq!(Header::decode(&header.encode()).is_some(), known, "{header:?}");
            }
            let head = Head::of(&record, number, 0).encode(64);
            assert_eq!(Head::decode(&head, 64).is_some(), known, "{number}");
            for footer in [footer(number, 0, 0), footer(1, number, 0), footer(1, 0, number)] {
                assert_eq!(Footer::decode(&footer.encode(), 128).is_some(), known, "{footer:?}");
            }
        }
    }

    #[test]
    fn names_are_of_one_form() {
        assert_eq!(first_of(&name(4711)), Some(4711));
        assert_eq!(first_of(&name(u64::MAX)), Some(u64::MAX));
        for wrong in ["1.seg", "00000000000000000000.seg", "000000000000000000+1.seg", "cursor", "", ".seg"] {
            assert_eq!(first_of(wrong), None, "{wrong}");
        }
    }
}
