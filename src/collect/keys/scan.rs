//! One SCAN in a loop that ends.
//!
//! ACL: `+scan`. Cost: O(COUNT) a step, O(all keys of the database) in all, whatever the pattern is.
//! <https://redis.io/docs/latest/commands/scan/>
//!
//! What a newcomer would get wrong: a server may never give back the cursor 0, so the loop has an end of its
//! own; and SCAN may name a key twice, more so while a table grows.

use super::shards::Node;
use crate::collect::Failure;
use crate::connect::reply::Items;

/// Keys looked at in one step at most: the reply of a step is held in memory.
pub const MAX_COUNT: u32 = 10_000;
/// More buckets than any server has: who is not done by then never will be.
const MAX_BUCKETS: u64 = 10_000_000_000;
/// Bytes of a cursor. Redis has 20 digits, some others a name.
const MAX_CURSOR: usize = 1024;

/// Where a walk through the keys of one database stands.
#[derive(Debug)]
pub struct Cursor {
    at: Vec<u8>,
    count: u32,
    steps: u64,
    done: bool,
}

impl Cursor {
    /// At the beginning; each step looks at some `count` keys.
    pub fn new(count: u32) -> Self {
        Self { at: b"0".to_vec(), count: count.clamp(1, MAX_COUNT), steps: 0, done: false }
    }

    /// Whether all was seen.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The cursor to send.
    pub fn at(&self) -> &[u8] {
        &self.at
    }

    /// COUNT.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Goes on to the cursor that the server gave; fails where that leads nowhere.
    pub fn advance(&mut self, next: &[u8]) -> Result<(), Failure> {
        self.steps += 1;
        self.done = next == b"0";
        let endless = next == self.at || self.steps.saturating_mul(self.count.into()) > MAX_BUCKETS;
        if !self.done && (endless || next.is_empty() || next.len() > MAX_CURSOR) {
            return Err(Failure::Own("the cursor of SCAN leads nowhere".into()));
        }
        self.at.clear();
        self.at.extend_from_slice(next);
        Ok(())
    }
}

/// A SCAN of one database of one server.
#[derive(Debug)]
pub struct Scan<'a> {
    db: u32,
    pattern: &'a str,
    kind: Option<&'static str>,
    cursor: Cursor,
}

impl<'a> Scan<'a> {
    /// Names that match `pattern`.
    pub fn new(db: u32, pattern: &'a str, count: u32) -> Self {
        Self { db, pattern, kind: None, cursor: Cursor::new(count) }
    }

    /// Only keys of that type, where the server can choose them: from 6.0 on.
    pub fn of_type(self, kind: Option<&'static str>) -> Self {
        Self { kind, ..self }
    }

    /// The names of the next step, which may be none; `None` at the end. They are gone at the next batch.
    pub async fn next<'n>(&mut self, node: &'n mut Node<'_>) -> Result<Option<Items<'n>>, Failure> {
        if self.cursor.is_done() {
            return Ok(None);
        }
        node.pace(self.cursor.count()).await?;
        let count = self.cursor.count().to_string();
        let mut words: Vec<&[u8]> = vec![b"SCAN", self.cursor.at(), b"MATCH", self.pattern.as_bytes()];
        words.extend([b"COUNT".as_slice(), count.as_bytes()]);
        if let Some(kind) = self.kind {
            words.extend([b"TYPE".as_slice(), kind.as_bytes()]);
        }
        node.batch(self.db).push(&words);
        let reply = node.ask().await?.get(0)?;
        if let Some(refusal) = reply.error() {
            return Err(Failure::refused("SCAN", refusal));
        }
        let mut parts = reply.items().ok_or(Failure::shape("SCAN"))?;
        let next = parts.next().and_then(|cursor| cursor.bytes()).ok_or(Failure::shape("SCAN"))?;
        self.cursor.advance(next)?;
        Ok(Some(parts.next().and_then(|names| names.items()).ok_or(Failure::shape("SCAN"))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the walk ends well, and after how many steps.
    fn check(count: u32, cursors: &[&str], expected: Result<usize, usize>) {
        let mut cursor = Cursor::new(count);
        for (step, next) in cursors.iter().enumerate() {
            if cursor.advance(next.as_bytes()).is_err() {
                return assert_eq!(Err(step), expected, "{cursors:?}");
            }
            if cursor.is_done() {
                return assert_eq!(Ok(step), expected, "{cursors:?}");
            }
        }
        panic!("{cursors:?} did not end");
    }

    #[test]
    fn a_walk_ends_at_cursor_0_or_where_it_stands_still() {
        check(1000, &["0"], Ok(0));
        check(1000, &["17", "3", "0"], Ok(2));
        check(1000, &["17", "3", "17", "0"], Ok(3));
        check(1000, &["18446744073709551615", "0"], Ok(1));
        check(1000, &["17", "17"], Err(1));
        check(1000, &[""], Err(0));
        check(1000, &[&"9".repeat(2000)], Err(0));
    }

    #[test]
    fn a_walk_through_more_than_any_server_has_ends() {
        let mut cursor = Cursor::new(u32::MAX);
        assert_eq!(cursor.count(), MAX_COUNT);
        let steps = (1..).find(|step: &u64| cursor.advance(step.to_string().as_bytes()).is_err());
        assert_eq!(steps, Some(MAX_BUCKETS / u64::from(MAX_COUNT) + 1));
    }
}
