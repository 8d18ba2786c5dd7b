//! Who has each shard, as etcd says: a key for each, under the lease of whoever has it.
//!
//! What a newcomer would get wrong: a claim is ours by its lease, not by the name in it. Two who were given one name, or one
//! that started again, have different leases.

use super::shards::{SHARDS, Shards};
use serde::{Deserialize, Serialize};

/// The most that a claim may say, in bytes.
const LONGEST: usize = 4 << 10;

/// A shard that somebody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The id of whoever has it; empty where that cannot be read.
    pub owner: String,
    /// Who gives it back says that.
    pub mod_revision: i64,
    /// Under whose lease.
    pub lease: i64,
}

/// Who has each shard.
#[derive(Clone, Debug)]
pub struct Claims {
    rows: Box<[Row; SHARDS]>,
}

#[derive(Clone, Debug, Default)]
struct Row {
    claim: Option<Claim>,
    /// Up to which revision that is known.
    revision: i64,
}

impl Default for Claims {
    fn default() -> Self {
        Self { rows: Box::new(std::array::from_fn(|_| Row::default())) }
    }
}

impl Claims {
    /// Who has a shard.
    pub fn get(&self, shard: u8) -> Option<&Claim> {
        self.rows[usize::from(shard)].claim.as_ref()
    }

    /// All shards that somebody has.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &Claim)> {
        (0..=u8::MAX).zip(self.rows.iter()).filter_map(|(shard, row)| Some((shard, row.claim.as_ref()?)))
    }

    /// What is held under a lease.
    pub fn under(&self, lease: i64) -> Shards {
        self.iter().filter(|(_, claim)| claim.lease == lease).map(|(shard, _)| shard).collect()
    }

    /// Somebody has it. What is older than what is known does not count.
    pub fn put(&mut self, shard: u8, claim: Claim) {
        let row = &mut self.rows[usize::from(shard)];
        if row.revision < claim.mod_revision {
            *row = Row { revision: claim.mod_revision, claim: Some(claim) };
        }
    }

    /// Nobody has it since that revision.
    pub fn delete(&mut self, shard: u8, revision: i64) {
        let row = &mut self.rows[usize::from(shard)];
        if row.revision < revision {
            *row = Row { revision, claim: None };
        }
    }

    /// These are all at a revision.
    pub fn list(&mut self, all: impl Iterator<Item = (u8, Claim)>, revision: i64) {
        let mut free = Shards::ALL;
        for (shard, claim) in all {
            free.remove(shard);
            self.put(shard, claim);
        }
        for shard in free.iter() {
            self.delete(shard, revision);
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Json {
    owner: String,
}

/// What stands under a claim.
pub fn written(owner: &str) -> String {
    serde_json::to_string(&Json { owner: owner.into() }).unwrap_or_default()
}

/// Who says so; empty where that cannot be read: somebody has it all the same.
pub fn owner(value: &[u8]) -> String {
    let read = || serde_json::from_slice::<Json>(Some(value).filter(|value| value.len() <= LONGEST)?).ok();
    read().map(|json| json.owner).unwrap_or_default()
}

/// The key of a claim.
pub fn key(prefix: &str, shard: u8) -> String {
    format!("{prefix}{shard:03}")
}

/// The shard of a key; `None`: it is no claim.
pub fn shard(prefix: &str, key: &[u8]) -> Option<u8> {
    let digits = key.strip_prefix(prefix.as_bytes())?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 3)?;
    digits.bytes().all(|digit| digit.is_ascii_digit()).then_some(())?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(owner: &str, mod_revision: i64, lease: i64) -> Claim {
        Claim { owner: owner.into(), mod_revision, lease }
    }

    #[test]
    fn a_key_is_three_digits() {
        fn check(text: &str, expected: Option<u8>) {
            assert_eq!(shard("/s/", text.as_bytes()), expected, "{text}");
        }
        check("/s/000", Some(0));
        check("/s/255", Some(255));
        for wrong in
            ["/s/256", "/s/1", "/s/0001", "/s/+01", "/s/ 01", "/s/", "/t/001", "/s/001/x", "/s/\u{661}1"]
        {
            check(wrong, None);
        }
        assert_eq!((0..=u8::MAX).find(|n| shard("/s/", key("/s/", *n).as_bytes()) != Some(*n)), None);
    }

    #[test]
    fn who_has_it_is_read_or_nobody_we_know() {
        fn check(value: &[u8], expected: &str) {
            assert_eq!(owner(value), expected);
        }
        check(written("a:1").as_bytes(), "a:1");
        check(br#"{"owner":"b","last":1}"#, "b");
        for broken in [&b""[..], b"{}", b"b", b"{\"owner\":1}", b"\xff"] {
            check(broken, "");
        }
        check(format!(r#"{{"owner":"{}"}}"#, "x".repeat(LONGEST)).as_bytes(), "");
    }

    #[test]
    fn what_is_older_than_what_is_known_does_not_count() {
        let mut claims = Claims::default();
        claims.put(7, claim("a", 10, 1));
        claims.delete(7, 9);
        claims.put(7, claim("b", 8, 2));
        assert_eq!(claims.get(7), Some(&claim("a", 10, 1)));
        claims.delete(7, 11);
        claims.put(7, claim("a", 10, 1));
        assert_eq!(claims.get(7), None);
        // A list of before our own claim leaves that alone.
        claims.put(8, claim("a", 20, 1));
        claims.list([(9, claim("b", 12, 2))].into_iter(), 15);
        assert_eq!((claims.get(8).is_some(), claims.get(9).is_some()), (true, true));
        assert_eq!(
            (claims.under(1), claims.under(2)),
            ([8].into_iter().collect(), [9].into_iter().collect())
        );
        claims.list([].into_iter(), 30);
        assert_eq!(claims.iter().count(), 0);
    }
}
