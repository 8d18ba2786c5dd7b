//! Many plans over one model of etcd: whatever comes, dies or stalls, no shard has two owners, and in the end each has the one
//! that should have it.
//!
//! The model has revisions, leases and transactions. What a peer knows of it lags behind; its collector lags behind what it
//! publishes. Nothing waits: time is a number.
//!
//! What a newcomer would get wrong: that a shard has one owner in etcd is what transactions do. What has to be shown is that
//! nobody *collects* what it does not own, up to the fence of a peer that stalls.

use super::*;
use crate::config::deliver::Url;
use crate::peers::claims::Claim;
use crate::peers::members::written;
use crate::peers::share::Peer;
use proptest::prelude::*;

const TTL: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(250);
const SETTINGS: Settings = Settings {
    settle: Duration::from_secs(5),
    min_peers: 1,
    interval: Duration::from_secs(15),
    patience: Duration::from_secs(20),
};

/// A change of etcd; one revision each.
#[derive(Clone, Debug)]
enum Event {
    Peer(String, Option<Vec<u8>>),
    Shard(u8, Option<(String, i64)>),
}

/// etcd.
#[derive(Default)]
struct Etcd {
    log: Vec<Event>,
    /// Owner, lease and revision.
    shards: BTreeMap<u8, (String, i64, i64)>,
    /// Lease, by id.
    peers: BTreeMap<String, i64>,
    /// When each lease ends.
    leases: BTreeMap<i64, Instant>,
    grants: i64,
}

impl Etcd {
    fn revision(&self) -> i64 {
        self.log.len() as i64
    }

    fn grant(&mut self, now: Instant) -> i64 {
        self.grants += 1;
        self.leases.insert(self.grants, now + TTL);
        self.grants
    }

    fn register(&mut self, id: &str, lease: i64, weight: u32, started: u64) {
        let peer = Peer {
            id: id.into(),
            url: Url::parse(&format!("http://{id}")).unwrap(),
            zone: None,
            weight,
            version: "1".into(),
            config_hash: "x".into(),
            started,
        };
        self.peers.insert(id.into(), lease);
        self.log.push(Event::Peer(id.into(), Some(written(&peer).into_bytes())));
    }

    fn claim(&mut self, shard: u8, id: &str, lease: i64) -> Option<i64> {
        if self.shards.contains_key(&shard) || !self.leases.contains_key(&lease) {
            return None;
        }
        self.log.push(Event::Shard(shard, Some((id.into(), lease))));
        self.shards.insert(shard, (id.into(), lease, self.revision()));
        Some(self.revision())
    }

    fn release(&mut self, shard: u8, revision: i64) -> Option<i64> {
        self.shards.get(&shard).filter(|(_, _, at)| *at == revision)?;
        self.shards.remove(&shard);
        self.log.push(Event::Shard(shard, None));
        Some(self.revision())
    }

    fn end(&mut self, lease: i64) {
        self.leases.remove(&lease);
        let shards: Vec<_> =
            self.shards.iter().filter(|(_, (_, of, _))| *of == lease).map(|(shard, _)| *shard).collect();
        for shard in shards {
            self.shards.remove(&shard);
            self.log.push(Event::Shard(shard, None));
        }
        let ids: Vec<_> =
            self.peers.iter().filter(|(_, of)| **of == lease).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.peers.remove(&id);
            self.log.push(Event::Peer(id, None));
        }
    }

    fn expire(&mut self, now: Instant) {
        let ended: Vec<_> =
            self.leases.iter().filter(|(_, end)| **end <= now).map(|(lease, _)| *lease).collect();
        ended.into_iter().for_each(|lease| self.end(lease));
    }
}

/// One peer, with what it knows and what it collects.
struct Node {
    id: String,
    lease: i64,
    members: Members,
    claims: Claims,
    plan: Plan,
    /// Up to where of etcd's log it has heard.
    heard: usize,
    /// How much its watch lags behind, in ticks of what happened.
    lag: usize,
    number: u64,
    /// Standings that the collector has not followed yet: when it does, number, what it collects from then on.
    pending: VecDeque<(Instant, u64, Shards)>,
    collects: Shards,
    seen: Seen,
    /// When what was answered last was sent.
    alive: Instant,
    /// It does nothing until then.
    stalls: Instant,
}

impl Node {
    fn new(id: &str, etcd: &mut Etcd, now: Instant, weight: u32, before: Shards) -> Self {
        let lease = etcd.grant(now);
        etcd.register(id, lease, weight, etcd.grants as u64);
        let mut node = Self {
            id: id.into(),
            lease,
            members: Members::none(now),
            claims: Claims::default(),
            plan: Plan::new(now, before),
            heard: 0,
            lag: 0,
            number: 0,
            pending: VecDeque::new(),
            collects: Shards::NONE,
            seen: Seen::default(),
            alive: now,
            stalls: now,
        };
        node.hear(etcd, now, 0);
        node
    }

    fn hear(&mut self, etcd: &Etcd, now: Instant, lag: usize) {
        let until = etcd.log.len().saturating_sub(lag).max(self.heard);
        for (place, event) in etcd.log.iter().enumerate().take(until).skip(self.heard) {
            let revision = place as i64 + 1;
            match event {
                Event::Peer(id, Some(value)) => self.members.put(id, value, revision, now),
                Event::Peer(id, None) => self.members.delete(id, revision, now),
                Event::Shard(shard, Some((owner, lease))) => {
                    let claim = Claim { owner: owner.clone(), mod_revision: revision, lease: *lease };
                    self.claims.put(*shard, claim);
                }
                Event::Shard(shard, None) => self.claims.delete(*shard, revision),
            }
        }
        self.heard = until;
    }

    /// One turn of its loop.
    fn turn(&mut self, etcd: &mut Etcd, now: Instant, hold: bool, random: &mut fastrand::Rng) {
        if now < self.stalls {
            return;
        }
        // The keep-alive.
        match etcd.leases.get_mut(&self.lease) {
            Some(end) if now >= self.alive + TTL / 3 => (*end, self.alive) = (now + TTL, now),
            Some(_) => {}
            None => {
                let before = self.claims.under(self.lease);
                let id = self.id.clone();
                *self = Self::new(&id, etcd, now, 100, before);
            }
        }
        self.hear(etcd, now, self.lag);
        // The collector.
        while let Some((_, number, collects)) = self.pending.pop_front_if(|(at, ..)| *at <= now) {
            self.collects = collects;
            self.seen = Seen { number, ..Seen::default() };
        }
        let view = View {
            now,
            members: &self.members,
            claims: &self.claims,
            id: &self.id,
            lease: self.lease,
            seen: self.seen.clone(),
            hold,
            frozen: false,
            keeps: true,
            settings: SETTINGS,
        };
        let step = self.plan.step(&view);
        let ours = self.claims.under(self.lease);
        let collects: Shards = ours.iter().filter(|shard| !step.leaving.has(*shard)).collect();
        self.number += 1;
        let late = TICK * random.u32(0..6);
        let at = self.pending.back().map_or(now + late, |(at, ..)| (now + late).max(*at));
        self.pending.push_back((at, self.number, collects));
        self.plan.told(self.number);
        for shard in step.claim.iter() {
            if let Some(mod_revision) = etcd.claim(shard, &self.id, self.lease) {
                // Now and then the answer is lost, and the watch tells.
                if random.u8(0..10) > 0 {
                    self.claims.put(shard, Claim { owner: self.id.clone(), mod_revision, lease: self.lease });
                }
            }
        }
        for shard in step.release.iter() {
            let Some(claim) = self.claims.get(shard).filter(|claim| claim.lease == self.lease) else {
                continue;
            };
            if let Some(revision) = etcd.release(shard, claim.mod_revision)
                && random.u8(0..10) > 0
            {
                self.claims.delete(shard, revision);
            }
        }
    }

    /// What it collects at this moment: nothing where it stalls or the fence is closed.
    fn collecting(&self, now: Instant) -> Shards {
        match now < self.stalls || now >= self.alive + TTL * 2 / 3 {
            true => Shards::NONE,
            false => self.collects,
        }
    }
}

/// What happens to the peers.
#[derive(Clone, Debug)]
enum Trouble {
    Join(u32),
    Leave(usize),
    Crash(usize),
    Stall(usize, u64),
    Lag(usize, usize),
    Hold(bool),
}

fn trouble() -> impl Strategy<Value = (u64, Trouble)> {
    let what = prop_oneof![
        3 => prop_oneof![Just(100), Just(50), Just(300)].prop_map(Trouble::Join),
        1 => (0_usize..8).prop_map(Trouble::Leave),
        2 => (0_usize..8).prop_map(Trouble::Crash),
        3 => (0_usize..8, 1_u64..40).prop_map(|(who, seconds)| Trouble::Stall(who, seconds)),
        2 => (0_usize..8, 0_usize..300).prop_map(|(who, lag)| Trouble::Lag(who, lag)),
        1 => any::<bool>().prop_map(Trouble::Hold),
    ];
    (0_u64..30, what)
}

struct World {
    etcd: Etcd,
    nodes: Vec<Node>,
    now: Instant,
    hold: bool,
    random: fastrand::Rng,
    started: usize,
}

impl World {
    fn happen(&mut self, trouble: &Trouble) {
        let count = self.nodes.len();
        match trouble {
            Trouble::Join(weight) if count < 6 => {
                self.started += 1;
                let id = format!("n{}:1", self.started);
                self.nodes.push(Node::new(&id, &mut self.etcd, self.now, *weight, Shards::NONE));
            }
            Trouble::Join(_) => {}
            Trouble::Leave(who) if count > 1 => {
                let gone = self.nodes.remove(who % count);
                self.etcd.end(gone.lease);
            }
            Trouble::Crash(who) if count > 1 => _ = self.nodes.remove(who % count),
            Trouble::Leave(_) | Trouble::Crash(_) => {}
            Trouble::Stall(who, seconds) => {
                self.nodes[who % count].stalls = self.now + Duration::from_secs(*seconds);
            }
            Trouble::Lag(who, lag) => self.nodes[who % count].lag = *lag,
            Trouble::Hold(hold) => self.hold = *hold,
        }
    }

    fn tick(&mut self) {
        self.now += TICK;
        self.etcd.expire(self.now);
        let first = self.random.usize(0..self.nodes.len());
        for turn in 0..self.nodes.len() {
            let place = (first + turn) % self.nodes.len();
            self.nodes[place].turn(&mut self.etcd, self.now, self.hold, &mut self.random);
            self.check();
        }
    }

    /// Nobody collects what somebody else collects, too.
    fn check(&self) {
        let mut taken = Shards::NONE;
        for node in &self.nodes {
            for shard in node.collecting(self.now).iter() {
                assert!(taken.insert(shard), "{shard} is collected twice");
            }
        }
    }

    fn moves(&self) -> usize {
        self.etcd.log.iter().filter(|event| matches!(event, Event::Shard(_, Some(_)))).count()
    }

    /// Nothing happens any more: each shard comes to whoever should have it, and stays.
    fn settle(&mut self) {
        self.hold = false;
        for node in &mut self.nodes {
            (node.lag, node.stalls) = (0, self.now);
        }
        let run = |world: &mut Self, seconds: u64| (0..seconds * 4).for_each(|_| world.tick());
        // Leases end and peers settle; then 26 shards an interval, and what somebody did not take is offered again.
        run(self, 30);
        let (misplaced, before) = (self.misplaced(), self.moves());
        let end = self.now + AGAIN + 12 * SETTINGS.interval;
        while self.misplaced() > 0 && self.now < end {
            run(self, 5);
        }
        assert_eq!(self.misplaced(), 0, "each has what it should have");
        run(self, 40);
        let moved = self.moves() - before;
        assert!(moved <= misplaced, "{moved} moves for {misplaced}, and then none");
    }

    fn misplaced(&self) -> usize {
        let members = &self.nodes[0].members;
        let owner = |shard: u8| self.etcd.shards.get(&shard).map(|(owner, ..)| owner.as_str());
        let preferred = |shard: u8| {
            let place = members.preferred()[usize::from(shard)]?;
            members.peers().get(usize::from(place)).map(|peer| peer.id.as_str())
        };
        (0..=u8::MAX).filter(|shard| owner(*shard) != preferred(*shard)).count()
    }
}

/// No revision of etcd has two owners of a shard: each claim comes when it is free.
fn check_history(log: &[Event]) {
    let mut owned = Shards::NONE;
    for event in log {
        match event {
            Event::Shard(shard, Some(_)) => assert!(owned.insert(*shard), "{shard} is claimed twice"),
            Event::Shard(shard, None) => assert!(owned.remove(*shard), "{shard} was nobody's"),
            Event::Peer(..) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_is_collected_twice_and_all_comes_right(
        troubles in prop::collection::vec(trouble(), 1..25),
        seed in any::<u64>(),
    ) {
        let now = Instant::now();
        let mut world = World {
            etcd: Etcd::default(),
            nodes: vec![],
            now,
            hold: false,
            random: fastrand::Rng::with_seed(seed),
            started: 0,
        };
        world.happen(&Trouble::Join(100));
        for (seconds, trouble) in &troubles {
            (0..seconds * 4).for_each(|_| world.tick());
            world.happen(trouble);
        }
        world.settle();
        check_history(&world.etcd.log);
    }
}

#[test]
fn three_that_start_at_once_share_without_a_move() {
    let now = Instant::now();
    let mut world = World {
        etcd: Etcd::default(),
        nodes: vec![],
        now,
        hold: false,
        random: fastrand::Rng::with_seed(1),
        started: 0,
    };
    for _ in 0..3 {
        world.happen(&Trouble::Join(100));
        (0..4).for_each(|_| world.tick());
    }
    (0..4 * 10).for_each(|_| world.tick());
    assert_eq!((world.misplaced(), world.moves()), (0, SHARDS));
}

#[test]
fn one_that_dies_is_replaced_within_its_ttl() {
    let now = Instant::now();
    let mut world = World {
        etcd: Etcd::default(),
        nodes: vec![],
        now,
        hold: false,
        random: fastrand::Rng::with_seed(1),
        started: 0,
    };
    (0..3).for_each(|_| world.happen(&Trouble::Join(100)));
    (0..4 * 10).for_each(|_| world.tick());
    world.happen(&Trouble::Crash(1));
    (0..4 * 10 + 2).for_each(|_| world.tick());
    assert_eq!((world.misplaced(), world.etcd.shards.len()), (0, SHARDS));
}
