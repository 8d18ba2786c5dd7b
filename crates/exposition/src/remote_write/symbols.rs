//! The table of texts of a request: each text once, the empty one first.

use super::field;
use crate::wire;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher as _;
use std::ops::Range;

/// What finds texts. Numbers are given in the order of asking, so that its seed is never seen in a request.
pub(super) type Hasher = DefaultHashBuilder;

/// Texts by number.
#[derive(Debug)]
pub(super) struct Symbols {
    text: String,
    places: Vec<Range<u32>>,
    numbers: HashTable<u32>,
    hasher: Hasher,
    /// See [`Self::size`].
    size: usize,
}

/// How many bytes the empty text takes in a request.
const EMPTY: usize = 2;

impl Default for Symbols {
    /// Only the empty text.
    fn default() -> Self {
        let (places, hasher) = (std::iter::once(0..0).collect(), Hasher::default());
        Self { text: String::new(), places, numbers: HashTable::new(), hasher, size: EMPTY }
    }
}

impl Symbols {
    /// The number of a text, which is given one where it has none.
    #[inline]
    pub fn number(&mut self, wanted: &str) -> u32 {
        if wanted.is_empty() {
            return 0;
        }
        let Self { text, places, numbers, hasher, size } = self;
        let at = |number: u32| {
            let Range { start, end } = places[number as usize];
            &text[start as usize..end as usize]
        };
        let hash = hasher.hash_one(wanted);
        if let Some(found) = numbers.find(hash, |number| at(*number) == wanted) {
            return *found;
        }
        let number = places.len() as u32;
        numbers.insert_unique(hash, number, |number| hasher.hash_one(at(*number)));
        let start = text.len() as u32;
        text.push_str(wanted);
        places.push(start..text.len() as u32);
        *size += 1 + wire::varint_len(wanted.len() as u64) + wanted.len();
        number
    }

    /// How many bytes the texts take in a request.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Appends them as fields of a request, and forgets them.
    pub fn write(&mut self, out: &mut Vec<u8>) {
        for Range { start, end } in &self.places {
            wire::string(out, field::SYMBOLS, &self.text[*start as usize..*end as usize]);
        }
        self.text.clear();
        self.places.truncate(1);
        self.numbers.clear();
        self.size = EMPTY;
    }
}
