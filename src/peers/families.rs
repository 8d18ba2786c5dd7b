//! What is known of peers as metric families: `redvigil_peers_*`, `redvigil_shards`, `redvigil_etcd_*`.
//!
//! What a newcomer would get wrong: peers with another configuration are compared within one version. Another version may come
//! to the same by other words.

use super::board::Status;
use super::shards::SHARDS;
use super::share::{Peer, Standing};
use crate::net::etcd::Kind;
use exposition::{Builder, Desc};
use std::sync::Arc;

/// So many peers are told one by one.
const MOST_TOLD: usize = 200;

static PEERS: Desc =
    Desc::gauge("redvigil_peers", "Copies of this exporter that are registered in etcd, this one included.");
static PEER: Desc =
    Desc::gauge("redvigil_peer_info", "A copy that is registered in etcd; always 1. Of many, the first 200.")
        .labels(&["peer", "url", "zone", "version", "config_hash"]);
static DIFFERS: Desc = Desc::gauge(
    "redvigil_peers_config_differs",
    "Copies of our version whose configuration comes to something else than ours.",
);
static BROKEN: Desc =
    Desc::gauge("redvigil_peers_broken", "Keys of copies in etcd that cannot be read, and are left out.");
static SAME_ID: Desc =
    Desc::gauge("redvigil_peers_same_id", "Whether another copy is registered by our advertise address.");
static REGISTERED: Desc =
    Desc::gauge("redvigil_peers_registered", "Whether our registration stands in etcd.");
static SHARES: Desc = Desc::gauge(
    "redvigil_shards",
    "The 256 parts of the work as we see them: ours; leaving, which are ours and about to be given away; theirs; and free, \
     which nobody has who is known.",
)
.labels(&["state"]);
static MOVES: Desc = Desc::counter(
    "redvigil_shard_moves_total",
    "Shards that came (claimed) and went: released to whoever should have them, or lost with a lease.",
)
.labels(&["reason"]);
static BEATEN: Desc =
    Desc::counter("redvigil_shard_claims_beaten_total", "Shards that another copy was quicker to claim.");
static FROZEN: Desc = Desc::gauge(
    "redvigil_coordination_frozen",
    "Whether etcd is silent, so that what is ours may be another copy's, too.",
);
static FENCED: Desc = Desc::gauge(
    "redvigil_coordination_fenced",
    "Whether nothing of our share is collected until etcd has answered.",
);
static SLEEPS: Desc = Desc::counter(
    "redvigil_coordination_sleeps_total",
    "How often we were asleep or held up for so long that etcd had to be asked what is still ours.",
);
static LEASES: Desc =
    Desc::counter("redvigil_lease_lost_total", "Leases in etcd that ended though they were kept alive.");
static UP: Desc = Desc::gauge("redvigil_etcd_up", "Whether etcd answered last.");
static AGE: Desc = Desc::gauge(
    "redvigil_etcd_last_contact_age_seconds",
    "How long ago etcd answered about our lease, in seconds; absent before the first time.",
);
static REQUESTS: Desc =
    Desc::counter("redvigil_etcd_requests_total", "Requests to the etcd of the registry, and watches.");
static ERRORS: Desc =
    Desc::counter("redvigil_etcd_errors_total", "Of these, those that failed, by kind.").labels(&["kind"]);

/// Every family of this file.
pub fn descs() -> [&'static Desc; 17] {
    [
        &PEERS,
        &PEER,
        &DIFFERS,
        &BROKEN,
        &SAME_ID,
        &REGISTERED,
        &SHARES,
        &MOVES,
        &BEATEN,
        &FROZEN,
        &FENCED,
        &SLEEPS,
        &LEASES,
        &UP,
        &AGE,
        &REQUESTS,
        &ERRORS,
    ]
}

/// Records all of it; nothing where there is no registry in etcd. `is_open`: what the fence says.
pub fn record(status: &Status, standing: &Standing, is_open: bool, out: &mut Builder) {
    if !status.is_used {
        return;
    }
    for (desc, number) in [
        (&PEERS, standing.peers.len() as f64),
        (&DIFFERS, differing(&standing.peers, own(standing)).count() as f64),
        (&BROKEN, status.broken as f64),
        (&SAME_ID, flag(status.has_twin)),
        (&REGISTERED, flag(status.is_registered)),
        (&BEATEN, status.beaten as f64),
        (&FROZEN, flag(standing.frozen)),
        (&FENCED, flag(!is_open)),
        (&SLEEPS, status.sleeps as f64),
        (&LEASES, status.leases_lost as f64),
        (&UP, flag(status.is_up)),
        (&REQUESTS, status.calls as f64),
    ] {
        out.push(desc, number);
    }
    if let Some(answered) = status.answered {
        out.push(&AGE, answered.elapsed().as_secs_f64());
    }
    let family = out.family(&PEER);
    for peer in standing.peers.iter().take(MOST_TOLD) {
        let (url, zone) = (super::members::address(&peer.url), peer.zone.as_deref().unwrap_or_default());
        out.sample(family, &[&peer.id, &url, zone, &peer.version, &peer.config_hash], 1.0);
    }
    let family = out.family(&SHARES);
    for (state, count) in shares(standing) {
        out.sample(family, &[state], count as f64);
    }
    let family = out.family(&MOVES);
    for (reason, count) in [("claimed", status.claimed), ("released", status.released), ("lost", status.lost)]
    {
        out.sample(family, &[reason], count as f64);
    }
    let family = out.family(&ERRORS);
    for (kind, count) in Kind::ALL.iter().zip(status.failures) {
        out.sample(family, &[kind.word()], count as f64);
    }
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn own(standing: &Standing) -> Option<&Peer> {
    standing.peers.get(usize::from(standing.own?)).map(|peer| &**peer)
}

/// Those of one's version who are configured otherwise.
pub(super) fn differing<'a>(peers: &'a [Arc<Peer>], own: Option<&'a Peer>) -> impl Iterator<Item = &'a str> {
    let differs = move |peer: &&Arc<Peer>| {
        own.is_some_and(|own| own.version == peer.version && own.config_hash != peer.config_hash)
    };
    peers.iter().filter(differs).map(|peer| &*peer.id)
}

fn shares(standing: &Standing) -> [(&'static str, usize); 4] {
    let leaving = standing.leaving.iter().filter(|shard| standing.ours.has(*shard)).count();
    let others = (0..=u8::MAX).filter(|shard| !standing.ours.has(*shard));
    let theirs = others.filter(|shard| standing.owners[usize::from(*shard)].is_some()).count();
    let ours = standing.ours.len();
    [("ours", ours - leaving), ("leaving", leaving), ("theirs", theirs), ("free", SHARDS - ours - theirs)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::Shards;
    use exposition::merge::Page;

    #[test]
    fn each_shard_is_counted_once() {
        let check = |standing: Standing, expected: [usize; 4]| {
            assert_eq!(shares(&standing).map(|(_, count)| count), expected);
        };
        let mut owners = [None; SHARDS];
        owners[..3].fill(Some(0));
        owners[200] = Some(1);
        let (ours, leaving) = ((0..3).collect(), [1].into_iter().collect());
        check(Standing { ours, leaving, owners: Arc::new(owners), ..Standing::nothing() }, [2, 1, 1, 252]);
        check(Standing::nothing(), [0, 0, 0, 256]);
        check(Standing { ours: Shards::ALL, leaving: Shards::ALL, ..Standing::nothing() }, [0, 256, 0, 0]);
        // Somebody else has it, and we have just lost it.
        check(Standing { leaving, owners: Arc::new(owners), ..Standing::nothing() }, [0, 0, 4, 252]);
    }

    #[test]
    fn another_configuration_is_compared_within_a_version() {
        let peer = |id: &str, version: &str, hash: &str| {
            Arc::new(Peer {
                id: id.into(),
                url: crate::config::deliver::Url::parse("http://a:1").unwrap(),
                zone: None,
                weight: 100,
                version: version.into(),
                config_hash: hash.into(),
                started: 0,
            })
        };
        let peers = [peer("a", "1", "x"), peer("b", "1", "y"), peer("c", "2", "y"), peer("d", "1", "x")];
        assert_eq!(differing(&peers, Some(&peers[0])).collect::<Vec<_>>(), ["b"]);
        assert_eq!(differing(&peers, None).count(), 0);
    }

    #[test]
    fn without_a_registry_there_is_nothing_to_tell() {
        let count = |status: &Status| {
            let mut out = Builder::with_namespace("redis");
            record(status, &Standing::alone(), true, &mut out);
            Page::new([&out.finish()], &[]).families().count()
        };
        assert_eq!(count(&Status::default()), 0);
        assert!(count(&Status { is_used: true, ..Status::default() }) > 10);
    }
}
