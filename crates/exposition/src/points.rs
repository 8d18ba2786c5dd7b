//! Buckets and quantiles, packed.
//!
//! A server with a hundred busy commands has fifteen hundred of them, and nearly all are small whole numbers or
//! have three decimals: so each takes one, two or four bytes, and any other float nine.
//!
//! | lowest two bits of the first byte | what |
//! |---|---|
//! | 0, 1, 2 | one, two, four bytes in little-endian order; above the lowest three bits stands a whole number, of thousandths where the third bit is set |
//! | 3 | a float follows, in eight bytes |

use std::fmt;

/// The third bit: thousandths.
const THOUSANDTHS: u32 = 4;

/// The lowest two bits: a float follows.
const FLOAT: u8 = 3;

/// What four bytes have no room for.
const LARGE: u32 = 1 << 29;

/// The points of a distribution in the order in which they were recorded.
#[derive(Clone, Copy, PartialEq)]
pub struct Points<'a>(&'a [u8]);

impl<'a> Points<'a> {
    /// What [`push`] wrote.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// (upper bound, cumulative count) or (quantile, value).
    pub fn iter(&self) -> impl Iterator<Item = (f64, f64)> + Clone + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || Some((take(&mut rest)?, take(&mut rest)?)))
    }
}

impl fmt::Debug for Points<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Appends a point.
#[inline]
pub(crate) fn push(out: &mut Vec<u8>, (bound, value): (f64, f64)) {
    append(out, bound);
    append(out, value);
}

#[inline]
fn append(out: &mut Vec<u8>, number: f64) {
    // Casts saturate, so that no other float equals what became of it; but minus zero equals zero.
    let whole = number as u32;
    let mut fits = f64::from(whole) == number;
    let mut packed = whole << 3;
    let mut size = whole;
    if !fits {
        let thousandths = (number * 1e3 + 0.5) as u32;
        fits = f64::from(thousandths) / 1e3 == number;
        packed = thousandths << 3 | THOUSANDTHS;
        size = thousandths;
    }
    if fits && size < LARGE && number.is_sign_positive() {
        let code = u32::from(size >= 1 << 5) + u32::from(size >= 1 << 13);
        let end = out.len() + (1 << code);
        // Four bytes that are cut are cheaper than as many as are needed.
        out.extend_from_slice(&(packed | code).to_le_bytes());
        out.truncate(end);
    } else {
        out.push(FLOAT);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// The next number; none at the end.
#[inline]
fn take(rest: &mut &[u8]) -> Option<f64> {
    let (packed, after) = match rest.first()? & 3 {
        0 => (u32::from(rest[0]), &rest[1..]),
        1 => {
            let (bytes, after) = rest.split_first_chunk()?;
            (u32::from(u16::from_le_bytes(*bytes)), after)
        }
        2 => {
            let (bytes, after) = rest.split_first_chunk()?;
            (u32::from_le_bytes(*bytes), after)
        }
        _ => {
            let (bytes, after) = rest[1..].split_first_chunk()?;
            *rest = after;
            return Some(f64::from_le_bytes(*bytes));
        }
    };
    *rest = after;
    let number = f64::from(packed >> 3);
    Some(if packed & THOUSANDTHS == 0 { number } else { number / 1e3 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(number: f64, bytes: Option<usize>) {
        let mut packed = vec![];
        push(&mut packed, (number, 1.0));
        let read: Vec<_> = Points::of(&packed).iter().map(|(a, b)| (a.to_bits(), b.to_bits())).collect();
        assert_eq!(read, [(number.to_bits(), 1f64.to_bits())], "{number}");
        if let Some(bytes) = bytes {
            assert_eq!(packed.len() - 1, bytes, "{number}");
        }
    }

    #[test]
    fn usual_numbers_are_short_and_unusual_ones_exact() {
        for (number, bytes) in [
            (0.0, 1),
            (31.0, 1),
            (32.0, 2),
            (8191.0, 2),
            (8192.0, 4),
            (99.9, 4),
            (1.003, 2),
            (0.5, 2),
            (536_870_911.0, 4),
            (536_870_912.0, 9),
            (536_870.911, 4),
            (536_870.912, 9),
            (f64::from(u32::MAX), 9),
            (5e9, 9),
            (0.1 + 0.2, 9),
            (-0.0, 9),
            (-1.0, 9),
            (f64::NAN, 9),
            (f64::INFINITY, 9),
            (f64::MIN_POSITIVE, 9),
            (f64::MAX, 9),
        ] {
            check(number, Some(bytes));
        }
    }

    #[test]
    fn what_is_cut_off_ends_the_points() {
        let mut packed = vec![];
        push(&mut packed, (1.0, 1e300));
        for end in 0..packed.len() {
            assert_eq!(Points::of(&packed[..end]).iter().count(), 0, "{end}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_number_reads_back(
            number in prop_oneof![
                any::<u64>().prop_map(f64::from_bits),
                any::<u64>().prop_map(|n| n as f64),
                (0..10_000_000u32).prop_map(|n| f64::from(n) / 1e3),
                (0..10_000_000u32).prop_map(|n| f64::from(n) / 1e4),
            ]
        ) {
            check(number, None);
        }
    }
}
