//! Who should have which shard: weighted rendezvous hashing.
//!
//! For each shard every peer draws a number, made of its name and the shard, and the shortest draw wins. Where one comes or
//! goes, only what it wins or had moves. A peer of twice the weight wins twice as often: the draw is `-ln(u) / weight` with
//! `u` from the hash, as in <https://datatracker.ietf.org/doc/html/draft-ietf-bess-weighted-hrw>.
//!
//! What a newcomer would get wrong: all peers must come to the same, on every machine and in every version. So the logarithm
//! is one of whole numbers, and neither it nor the hash ever changes.

use super::shards::SHARDS;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The most that a weight counts.
pub const HEAVIEST: u32 = 10_000;

/// Who should have each shard, as places in a list of ids and weights; nobody where the list is empty.
///
/// The order of the list does not matter, and a weight outside of 1 to [`HEAVIEST`] counts as the nearest of these.
pub fn assign(peers: &[(&str, u32)]) -> [Option<u16>; SHARDS] {
    let mut owners = [None; SHARDS];
    for (shard, owner) in (0..=u8::MAX).zip(&mut owners) {
        let first = (0..peers.len()).min_by(|a, b| order(shard, peers[*a], peers[*b]));
        *owner = first.and_then(|place| u16::try_from(place).ok());
    }
    owners
}

/// The same as [`assign`] says of `now`, from what it said of `before`. Asks about those only who came, and about all where the
/// owner went: of a thousand peers that come one by one each would ask a quarter of a million times else.
pub fn reassign(
    owners: &[Option<u16>; SHARDS],
    before: &[(&str, u32)],
    now: &[(&str, u32)],
) -> [Option<u16>; SHARDS] {
    let places: HashMap<_, _> = now.iter().zip(0_u16..).map(|(peer, place)| (*peer, place)).collect();
    let known: HashSet<_> = before.iter().copied().collect();
    let came: Vec<_> = (0..now.len()).filter(|place| !known.contains(&now[*place])).collect();
    let mut all = [None; SHARDS];
    for (shard, owner) in (0..=u8::MAX).zip(&mut all) {
        let had = owners[usize::from(shard)].and_then(|place| before.get(usize::from(place)));
        let stays = had.and_then(|peer| places.get(peer)).map(|place| usize::from(*place));
        let best =
            |places: &mut dyn Iterator<Item = usize>| places.min_by(|a, b| order(shard, now[*a], now[*b]));
        let first = match stays {
            Some(place) => best(&mut came.iter().copied().chain([place])),
            None => best(&mut (0..now.len())),
        };
        *owner = first.and_then(|place| u16::try_from(place).ok());
    }
    all
}

/// How many stand before `id` for a shard.
pub fn rank(shard: u8, id: &str, peers: &[(&str, u32)]) -> Option<usize> {
    let own = *peers.iter().find(|(other, _)| *other == id)?;
    Some(peers.iter().filter(|other| order(shard, **other, own) == Ordering::Less).count())
}

/// Who of two is to have a shard rather.
fn order(shard: u8, a: (&str, u32), b: (&str, u32)) -> Ordering {
    let scaled = |id: &str, other: u32| draw(shard, id) * u64::from(other.clamp(1, HEAVIEST));
    // a / weight of a < b / weight of b, without a division.
    scaled(a.0, b.1).cmp(&scaled(b.0, a.1)).then_with(|| a.0.cmp(b.0))
}

/// `-log2(u)`, times 2³², where `u` is from 0 to 1 by the hash: less than 2³⁸, so that weights fit in.
fn draw(shard: u8, id: &str) -> u64 {
    // The last bit is set: there is no logarithm of nothing.
    let hash = xxh3_64_with_seed(id.as_bytes(), u64::from(shard)) | 1;
    (64 << 32) - log2(hash)
}

/// The logarithm to base 2, times 2³², cut off.
fn log2(number: u64) -> u64 {
    let whole = u64::from(number.ilog2());
    // From 1 to 2, times 2³¹; its square shows the next digit.
    let mut rest = (number << (63 - whole)) >> 32;
    let mut log = whole;
    for _ in 0..32 {
        rest = (rest * rest) >> 31;
        let digit = rest >> 32;
        rest >>= digit;
        log = log << 1 | digit;
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::shards::shard_of;

    fn of(ids: &[String], weight: impl Fn(usize) -> u32) -> Vec<(&str, u32)> {
        ids.iter().enumerate().map(|(place, id)| (&**id, weight(place))).collect()
    }

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("10.0.{}.{}:9121", n / 250, n % 250)).collect()
    }

    fn shares(owners: &[Option<u16>; SHARDS], count: usize) -> Vec<usize> {
        (0..count).map(|place| owners.iter().filter(|owner| **owner == Some(place as u16)).count()).collect()
    }

    #[test]
    fn the_logarithm_is_that_of_the_manuals() {
        for number in [1, 2, 3, 10, 1 << 40, (1 << 40) + 12345, u64::MAX / 3, u64::MAX] {
            let (ours, exact) = (log2(number) as f64 / 2_f64.powi(32), (number as f64).log2());
            assert!((ours - exact).abs() < 1e-6, "{number}: {ours} {exact}");
        }
    }

    #[test]
    fn who_should_have_a_shard_is_the_same_for_ever() {
        let peers = [("10.0.0.1:9121", 100), ("10.0.0.2:9121", 100), ("exporter-3.example:9121", 250)];
        let owners = assign(&peers);
        let text: String =
            owners.iter().map(|owner| owner.map_or('-', |place| char::from(b'0' + place as u8))).collect();
        // Every version has to come to this: peers of several versions share the work.
        assert_eq!(text, EXPECTED);
    }

    const EXPECTED: &str = "\
        2222120122020212222001120122022102120201020022022222111022222221\
        0021212022221222222111211221122122112012202020112112222102120221\
        2100122202221222022222200000220221221202222122110222012222220221\
        2210220222222112211002202022222220221222102221220120110111222220";

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let all = ids(7);
        let forward = of(&all, |place| 50 + place as u32);
        let mut backward = forward.clone();
        backward.reverse();
        let (one, other) = (assign(&forward), assign(&backward));
        for shard in 0..SHARDS {
            assert_eq!(
                one[shard].map(|place| forward[place as usize]),
                other[shard].map(|place| backward[place as usize])
            );
        }
    }

    #[test]
    fn step_by_step_it_comes_to_the_same() {
        let mut random = fastrand::Rng::with_seed(3);
        let all = ids(40);
        let (mut before, mut owners) = (vec![], assign(&[]));
        for _ in 0..300 {
            let mut now: Vec<(&str, u32)> = before.clone();
            for _ in 0..random.usize(0..4) {
                let id = &*all[random.usize(..all.len())];
                match now.iter().position(|(other, _)| *other == id) {
                    Some(place) if random.bool() => _ = now.remove(place),
                    Some(place) => now[place].1 = random.u32(1..300),
                    None => now.insert(random.usize(..=now.len()), (id, random.u32(1..300))),
                }
            }
            owners = reassign(&owners, &before, &now);
            assert_eq!(owners, assign(&now), "{now:?}");
            before = now;
        }
    }

    #[test]
    fn nobody_gets_what_there_is_nobody_for() {
        assert_eq!(assign(&[]), [None; SHARDS]);
        assert_eq!(assign(&[("a", 0)]), [Some(0); SHARDS]);
    }

    #[test]
    fn only_what_one_wins_or_had_moves() {
        for count in [2, 3, 5, 10, 30] {
            let all = ids(count + 1);
            let (before, after) = (assign(&of(&all[..count], |_| 100)), assign(&of(&all, |_| 100)));
            let moved = (0..SHARDS).filter(|shard| before[*shard] != after[*shard]);
            let mut number = 0;
            for shard in moved {
                assert_eq!(after[shard], Some(count as u16), "{shard} moves between those who stay");
                number += 1;
            }
            let fair = SHARDS / (count + 1);
            assert!(number <= 2 * fair + 4 && 2 * number + 4 >= fair, "{count}: {number} of {fair}");
        }
    }

    #[test]
    fn a_weight_is_a_share_of_the_work() {
        fn check(weights: &[u32]) {
            // Many names of peers: what one set of names gets is chance, what all get on average is not.
            let rounds = 60;
            let mut sums = vec![0; weights.len()];
            for round in 0..rounds {
                let all: Vec<_> = (0..weights.len()).map(|n| format!("peer-{round}-{n}:9121")).collect();
                let got = shares(&assign(&of(&all, |place| weights[place])), weights.len());
                sums.iter_mut().zip(got).for_each(|(sum, got)| *sum += got);
            }
            let all: u32 = weights.iter().sum();
            for (sum, weight) in sums.iter().zip(weights) {
                let share = *sum as f64 / (rounds * SHARDS) as f64;
                let fair = f64::from(*weight) / f64::from(all);
                assert!((share - fair).abs() < 0.012 + fair * 0.06, "{weights:?}: {share} for {fair}");
            }
        }
        check(&[100, 100]);
        check(&[100, 100, 100, 100, 100]);
        check(&[100, 200, 300]);
        check(&[1, 10_000]);
        check(&[1000, 100, 100, 50]);
    }

    #[test]
    fn rank_says_who_comes_next() {
        let all = ids(9);
        let peers = of(&all, |_| 100);
        let owners = assign(&peers);
        for shard in 0..=u8::MAX {
            let first = peers[usize::from(owners[usize::from(shard)].expect("somebody"))].0;
            assert_eq!(rank(shard, first, &peers), Some(0));
            let mut ranks: Vec<_> = peers.iter().filter_map(|(id, _)| rank(shard, id, &peers)).collect();
            ranks.sort_unstable();
            assert_eq!(ranks, (0..9).collect::<Vec<_>>());
        }
        assert_eq!(rank(0, "nobody", &peers), None);
    }

    #[test]
    fn services_are_spread_over_all() {
        let all = ids(10);
        let owners = assign(&of(&all, |_| 100));
        let mut got = [0; 10];
        for service in 0..10_000 {
            let shard = shard_of(&format!("service-{service}"));
            got[usize::from(owners[usize::from(shard)].expect("somebody"))] += 1;
        }
        assert!(got.iter().all(|count| (500..1_700).contains(count)), "{got:?}");
    }
}
