//! Claims of shards, replayed from etcd's history of their prefix.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::etcd::{Event, Kv};

/// How many shards there are.
pub const SHARDS: u16 = 256;

/// For how long, in revisions, somebody had a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// Who.
    pub owner: String,
    /// The lease of the claim.
    pub lease: i64,
    /// The revision of the claim.
    pub from: i64,
    /// The revision in which it ended; nothing while it stands.
    pub until: Option<i64>,
}

/// Who had what, from one revision to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Each shard's owners, one after the other.
    pub shards: BTreeMap<u16, Vec<Tenure>>,
    /// What must not be.
    pub faults: Vec<String>,
}

impl Claims {
    /// Replays all that happened to keys that begin with `prefix`.
    pub fn replay(prefix: &str, history: &[Event]) -> Self {
        let mut claims = Self::default();
        let mut owners = BTreeMap::new();
        for event in history {
            let at = event.revision();
            let shard = match shard(prefix, event.key()) {
                Some(shard) => shard,
                None => {
                    claims.faults.push(format!("revision {at}: {} is no claim", event.key()));
                    continue;
                }
            };
            let fault = match event {
                Event::Put(kv) => claims.put(shard, kv, &mut owners),
                Event::Delete { .. } => claims.delete(shard, at),
            };
            claims
                .faults
                .extend(fault.err().map(|fault| format!("revision {at}, shard {shard:03}: {fault}")));
        }
        claims
    }

    fn put(&mut self, shard: u16, kv: &Kv, owners: &mut BTreeMap<i64, String>) -> Result<(), String> {
        let value: Value =
            serde_json::from_str(&kv.value).map_err(|error| format!("{}: {error}", kv.value))?;
        let owner = value["owner"].as_str().ok_or_else(|| format!("{} names no owner", kv.value))?;
        if kv.lease == 0 {
            return Err(format!("{owner} claims it for ever"));
        }
        let of_lease = owners.entry(kv.lease).or_insert_with(|| owner.to_owned());
        if of_lease != owner {
            return Err(format!("{owner} claims it by the lease of {of_lease}"));
        }
        let tenures = self.shards.entry(shard).or_default();
        if let Some(last) = tenures.last_mut().filter(|last| last.until.is_none()) {
            if (last.lease, last.owner.as_str()) == (kv.lease, owner) {
                return Ok(());
            }
            let fault = format!(
                "{owner} (lease {:x}) claims it while {} (lease {:x}) has it since {}",
                kv.lease, last.owner, last.lease, last.from
            );
            // As etcd has it from now on.
            last.until = Some(kv.mod_revision);
            tenures.push(Tenure {
                owner: owner.to_owned(),
                lease: kv.lease,
                from: kv.mod_revision,
                until: None,
            });
            return Err(fault);
        }
        tenures.push(Tenure { owner: owner.to_owned(), lease: kv.lease, from: kv.mod_revision, until: None });
        if kv.create_revision != kv.mod_revision {
            return Err(format!("{owner} writes over what was claimed in {}", kv.create_revision));
        }
        Ok(())
    }

    fn delete(&mut self, shard: u16, at: i64) -> Result<(), String> {
        match self.shards.entry(shard).or_default().last_mut() {
            Some(last) if last.until.is_none() => {
                last.until = Some(at);
                Ok(())
            }
            _ => Err("it is given up, and nobody had it".to_owned()),
        }
    }

    /// Who has each shard in the end.
    pub fn owners(&self) -> BTreeMap<u16, &str> {
        let now = self.shards.iter().filter_map(|(shard, tenures)| {
            let last = tenures.last().filter(|last| last.until.is_none())?;
            Some((*shard, last.owner.as_str()))
        });
        now.collect()
    }

    /// How many shards each one has in the end.
    pub fn shares(&self) -> BTreeMap<&str, usize> {
        let mut shares = BTreeMap::new();
        for owner in self.owners().into_values() {
            *shares.entry(owner).or_default() += 1;
        }
        shares
    }

    /// How many claims there were.
    pub fn claimed(&self) -> usize {
        self.shards.values().map(Vec::len).sum()
    }
}

/// Three digits behind the prefix.
fn shard(prefix: &str, key: &str) -> Option<u16> {
    let digits = key.strip_prefix(prefix).filter(|digits| digits.len() == 3)?;
    digits.bytes().all(|digit| digit.is_ascii_digit()).then_some(())?;
    digits.parse().ok().filter(|shard| *shard < SHARDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "/redvigil/default/shards/";

    /// `007 a 1`: owner a claims it by lease 1; `007 -`: it is given up; `007 a 1 over 3`: written over revision 3. The first
    /// is revision 1.
    fn replay(story: &[&str]) -> Claims {
        let event = |(at, line): (i64, &&str)| {
            let words: Vec<&str> = line.split(' ').collect();
            let key = format!("{PREFIX}{}", words[0]);
            if words[1] == "-" {
                return Event::Delete { key, revision: at };
            }
            let create_revision = words.get(4).map_or(at, |over| over.parse().expect("a revision"));
            let lease = words[2].parse().expect("a lease");
            let value = format!("{{\"owner\":\"{}\"}}", words[1]);
            Event::Put(Kv { key, value, create_revision, mod_revision: at, lease })
        };
        let history: Vec<Event> = (1..).zip(story).map(event).collect();
        Claims::replay(PREFIX, &history)
    }

    fn check(story: &[&str], expected: &str) {
        let claims = replay(story);
        let owners: Vec<String> =
            claims.owners().into_iter().map(|(shard, owner)| format!("{shard}={owner}")).collect();
        assert_eq!(
            format!("{} {}", owners.join(","), claims.faults.join("; ")).trim(),
            expected,
            "{story:?}"
        );
    }

    #[test]
    fn claims_one_after_the_other_are_in_order() {
        check(&[], "");
        check(&["000 a 1", "255 b 2"], "0=a,255=b");
        check(&["000 a 1", "000 -", "000 b 2", "000 -"], "");
        // The same one with a new lease, after the old one ended.
        check(&["000 a 1", "000 -", "000 a 3"], "0=a");
        // Told twice by the same one: nothing changes hands.
        check(&["000 a 1", "000 a 1 over 1"], "0=a");
    }

    #[test]
    fn a_claim_of_what_another_has_is_found() {
        check(
            &["000 a 1", "000 b 2 over 1"],
            "0=b revision 2, shard 000: b (lease 2) claims it while a (lease 1) has it since 1",
        );
        check(
            &["000 a 1", "000 a 2 over 1"],
            "0=a revision 2, shard 000: a (lease 2) claims it while a (lease 1) has it since 1",
        );
        // What was there before the history began.
        check(
            &["", "000 a 1 over 1"].map(|line| if line.is_empty() { "001 b 2" } else { line }),
            "0=a,1=b revision 2, shard 000: a writes over what was claimed in 1",
        );
    }

    #[test]
    fn a_claim_that_ends_with_no_lease_or_with_anothers_is_found() {
        check(&["000 a 0"], "revision 1, shard 000: a claims it for ever");
        check(&["000 a 1", "001 b 1"], "0=a revision 2, shard 001: b claims it by the lease of a");
    }

    #[test]
    fn what_is_no_claim_is_found() {
        check(&["00 a 1"], "revision 1: /redvigil/default/shards/00 is no claim");
        check(&["256 a 1"], "revision 1: /redvigil/default/shards/256 is no claim");
        check(&["+25 a 1"], "revision 1: /redvigil/default/shards/+25 is no claim");
        check(&["000 -"], "revision 1, shard 000: it is given up, and nobody had it");
        let kv = Kv {
            key: format!("{PREFIX}000"),
            value: "a".into(),
            create_revision: 1,
            mod_revision: 1,
            lease: 1,
        };
        assert_eq!(Claims::replay(PREFIX, &[Event::Put(kv)]).faults.len(), 1);
    }

    #[test]
    fn who_had_what_when_is_told() {
        let claims = replay(&["000 a 1", "001 b 2", "000 -", "000 b 2"]);
        assert_eq!((claims.claimed(), claims.shares()), (3, [("b", 2)].into()));
        let of = |owner: &str, lease, from, until| Tenure { owner: owner.to_owned(), lease, from, until };
        assert_eq!(claims.shards[&0], [of("a", 1, 1, Some(3)), of("b", 2, 4, None)]);
    }
}
