//! Services into shards, by their names; and sets of shards.
//!
//! What a newcomer would get wrong: the hash is part of the agreement among copies of different versions. It never changes.

use std::fmt;
use xxhash_rust::xxh3::xxh3_64;

/// How many shards there are. Part of the agreement, too.
pub const SHARDS: usize = 256;

/// The shard of a service.
pub fn shard_of(service: &str) -> u8 {
    (xxh3_64(service.as_bytes()) % SHARDS as u64) as u8
}

/// A set of shards.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Shards([u64; SHARDS / 64]);

impl Shards {
    /// None.
    pub const NONE: Self = Self([0; SHARDS / 64]);
    /// All.
    pub const ALL: Self = Self([u64::MAX; SHARDS / 64]);

    /// Whether it is in there.
    pub fn has(&self, shard: u8) -> bool {
        self.0[usize::from(shard / 64)] & (1 << (shard % 64)) != 0
    }

    /// Puts it in. Whether it was not.
    pub fn insert(&mut self, shard: u8) -> bool {
        let is_new = !self.has(shard);
        self.0[usize::from(shard / 64)] |= 1 << (shard % 64);
        is_new
    }

    /// Takes it out. Whether it was there.
    pub fn remove(&mut self, shard: u8) -> bool {
        let was_there = self.has(shard);
        self.0[usize::from(shard / 64)] &= !(1 << (shard % 64));
        was_there
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = u8> + use<> {
        let set = *self;
        (0..=u8::MAX).filter(move |shard| set.has(*shard))
    }
}

impl FromIterator<u8> for Shards {
    fn from_iter<T: IntoIterator<Item = u8>>(shards: T) -> Self {
        let mut set = Self::NONE;
        for shard in shards {
            set.insert(shard);
        }
        set
    }
}

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_in_the_same_shard_for_ever() {
        let check = |service: &str, shard: u8| assert_eq!(shard_of(service), shard, "{service}");
        // The hash of nothing is 2d06800538d394c2: <https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>.
        check("", 0xc2);
        check("cache", 238);
    }

    #[test]
    fn a_set_has_what_was_put_in_and_not_taken_out() {
        let mut set: Shards = [0, 63, 64, 255].into_iter().collect();
        assert_eq!((set.len(), set.iter().collect::<Vec<_>>()), (4, vec![0, 63, 64, 255]));
        assert!(!set.insert(63) && set.insert(1) && set.remove(0) && !set.remove(0));
        assert_eq!(format!("{set:?}"), "{1, 63, 64, 255}");
        assert_eq!((Shards::ALL.len(), Shards::NONE.len(), Shards::NONE.is_empty()), (256, 0, true));
    }
}
