//! How many collections run at once, and which of them has to go.
//!
//! A bounded pool with two classes. Targets that are not ok share a quarter of the permits, and a collection
//! that takes long moves to that class while it runs; when the class is full then, the one that has been in
//! it longest is told to go. So hung servers, however many, hold a quarter of the permits, and of those of
//! one host half.
//!
//! What one would get wrong: a waiter whose host is at its limit must not hold up those behind it, and with
//! thousands of waiters nobody may look through them all each time a permit comes back. So waiters queue per
//! host, and only the first of each host that may take one more stands in the line that is looked at.

use super::health::State;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// How many may wait in each class where nobody says otherwise.
pub const QUEUE: usize = 4096;

/// Who wants a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A target from which a quick answer is expected.
    Prompt,
    /// A target that may take its whole time.
    Slow,
}

impl Class {
    const ALL: [Self; 2] = [Self::Prompt, Self::Slow];

    /// The class of a target in that state. An unknown one is believed in: among the slow, a fleet that was
    /// just discovered would wait for its hung members one time-out after the other.
    pub const fn of(state: State) -> Self {
        match state {
            State::Unknown | State::Ok => Self::Prompt,
            State::Suspect | State::Down | State::Loading | State::MasterDown | State::Failover => Self::Slow,
        }
    }
}

/// As many wait already as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many collections wait for their turn")]
pub struct QueueFull;

/// How full the pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Permits that are held.
    pub running: usize,
    /// Those of them that are held in the slow class.
    pub slow: usize,
    /// How many wait for one.
    pub waiting: usize,
}

/// The pool. Clones share it.
#[derive(Clone)]
pub struct Permits(Arc<Mutex<Pool>>);

impl Permits {
    /// At most `concurrency` permits at once, `per_host` of them for one host, and `queue` waiters in each
    /// class ([`QUEUE`]; the slow ones cannot fill the queue of the others). Zero permits count as one.
    pub fn new(concurrency: usize, per_host: usize, queue: usize) -> Self {
        Self(Arc::new(Mutex::new(Pool::new(Limits::new(concurrency, per_host, queue)))))
    }

    /// Takes other limits. What runs and waits goes on; nothing new runs while more run than may.
    pub fn resize(&self, concurrency: usize, per_host: usize, queue: usize) {
        self.pool().resize(Limits::new(concurrency, per_host, queue));
    }

    /// A permit, as soon as one is free. First come, first served, among those whose host and class have
    /// room. To drop the future is to leave the queue.
    ///
    /// `host` is whatever shares a fate: a host name, an address, the path of a socket.
    pub async fn acquire(&self, host: &str, class: Class) -> Result<Permit, QueueFull> {
        let mut waiter = {
            let mut pool = self.pool();
            if let Some(grant) = pool.take(host, class) {
                return Ok(self.permit(grant));
            }
            let (host, ticket, granted) = pool.join(host, class)?;
            Waiter { permits: self, host, class, ticket, granted }
        };
        let grant =
            (&mut waiter.granted).await.expect("a waiter is taken from the queue by itself or a grant");
        Ok(self.permit(grant))
    }

    /// A permit, if one is free now.
    pub fn try_acquire(&self, host: &str, class: Class) -> Option<Permit> {
        let grant = self.pool().take(host, class)?;
        Some(self.permit(grant))
    }

    /// How full it is.
    pub fn stats(&self) -> Stats {
        let pool = self.pool();
        Stats { running: pool.holders.len(), slow: pool.slow, waiting: pool.waiting.iter().sum() }
    }

    fn permit(&self, Grant { number, signal }: Grant) -> Permit {
        Permit { permits: self.clone(), number, signal }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permits").field(&self.stats()).finish()
    }
}

/// The right to run one collection, until it is dropped.
#[must_use = "it is given back when it is dropped"]
pub struct Permit {
    permits: Permits,
    number: u64,
    signal: Arc<Signal>,
}

impl Permit {
    /// To be called when the collection has taken 500 ms: from now on it counts as slow. If the slow ones
    /// of its host (half its permits) or of all (a quarter) are as many as may be, one of them is
    /// [`cut`](Self::cut): rather one whose target was not ok to begin with, and of those the one that has
    /// run longest. In the slow class nothing happens.
    pub fn move_to_slow(&self) {
        self.permits.pool().move_to_slow(self.number);
    }

    /// Whether others of the slow class wait for a permit.
    pub fn is_awaited(&self) -> bool {
        self.permits.pool().waiting[Class::Slow as usize] > 0
    }

    /// Ends when this collection has to make room for others. The holder selects on it, ends the collection
    /// as one that took too long, and drops the permit, which stays taken until then.
    pub async fn cut(&self) {
        // Registered before the flag is read, so a word between the two is heard.
        let told = self.signal.told.notified();
        if !self.is_cut() {
            told.await;
        }
    }

    /// Whether it was told to go.
    pub fn is_cut(&self) -> bool {
        self.signal.cut.load(Ordering::Acquire)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut pool = self.permits.pool();
        pool.release(self.number);
        pool.dispatch();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("number", &self.number).field("cut", &self.is_cut()).finish()
    }
}

/// A place in the queue.
struct Waiter<'a> {
    permits: &'a Permits,
    host: Arc<str>,
    class: Class,
    ticket: u64,
    granted: oneshot::Receiver<Grant>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut pool = self.permits.pool();
        let waits = pool.leave(&self.host, self.class, self.ticket).is_some();
        // Granted, and nobody was there to take it: on to the next.
        if !waits && let Ok(grant) = self.granted.try_recv() {
            pool.release(grant.number);
            pool.dispatch();
        }
    }
}

/// What a waiter is told. No permit, whose drop would want the lock under which this is sent.
#[derive(Debug)]
struct Grant {
    number: u64,
    signal: Arc<Signal>,
}

/// How a holder is told to go.
#[derive(Debug, Default)]
struct Signal {
    cut: AtomicBool,
    told: Notify,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Limits {
    concurrency: usize,
    per_host: usize,
    queue: usize,
}

impl Limits {
    fn new(concurrency: usize, per_host: usize, queue: usize) -> Self {
        Self { concurrency: concurrency.max(1), per_host: per_host.max(1), queue }
    }

    fn slow(&self) -> usize {
        (self.concurrency / 4).max(1)
    }

    /// Half, not a quarter: of the usual four, one would make a host that is back wait for each that hangs.
    fn slow_per_host(&self) -> usize {
        (self.per_host / 2).max(1)
    }

    /// Whether the host may run one more of that class.
    fn admit(&self, host: &Host, class: Class) -> bool {
        host.running < self.per_host && (class == Class::Prompt || host.slow < self.slow_per_host())
    }
}

/// The books. Everything that is asked often costs at most the logarithm of how many run and wait.
struct Pool {
    limits: Limits,
    /// The next number of a grant, and of a place in the queue.
    next: u64,
    /// Hosts for which something runs or waits.
    hosts: HashMap<Arc<str>, Host>,
    /// By the number of the grant.
    holders: HashMap<u64, Holder>,
    /// How many of the holders are slow, those that were cut included.
    slow: usize,
    /// The slow ones that may be cut, the first to go in front: false for a target that was not ok to begin
    /// with, then the number of the grant.
    cuttable: BTreeSet<(bool, u64)>,
    /// How many wait, by class.
    waiting: [usize; 2],
    /// By class: the first waiter of each host that may run one more.
    heads: [BTreeMap<u64, Arc<str>>; 2],
}

#[derive(Default)]
struct Host {
    running: usize,
    /// Of those.
    slow: usize,
    /// Of those.
    cut: usize,
    /// By class and place.
    queues: [BTreeMap<u64, oneshot::Sender<Grant>>; 2],
    /// What of it stands in [`Pool::heads`].
    heads: [Option<u64>; 2],
}

struct Holder {
    host: Arc<str>,
    was_ok: bool,
    stage: Stage,
    signal: Arc<Signal>,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Prompt,
    Slow,
    Cut,
}

impl Pool {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            next: 0,
            hosts: HashMap::new(),
            holders: HashMap::new(),
            slow: 0,
            cuttable: BTreeSet::new(),
            waiting: [0; 2],
            heads: [BTreeMap::new(), BTreeMap::new()],
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Whether one more of that class may run, hosts aside.
    fn admits(&self, class: Class) -> bool {
        self.holders.len() < self.limits.concurrency
            && (class == Class::Prompt || self.slow < self.limits.slow())
    }

    /// A grant now. Overtakes nobody: if a waiter could use it, it would have it already.
    fn take(&mut self, host: &str, class: Class) -> Option<Grant> {
        let room = self.hosts.get(host).is_none_or(|host| self.limits.admit(host, class));
        if !room || !self.admits(class) {
            return None;
        }
        let host = self.name(host);
        Some(self.grant(host, class))
    }

    /// A place in the queue.
    fn join(
        &mut self,
        host: &str,
        class: Class,
    ) -> Result<(Arc<str>, u64, oneshot::Receiver<Grant>), QueueFull> {
        if self.waiting[class as usize] >= self.limits.queue {
            return Err(QueueFull);
        }
        let host = self.name(host);
        let ticket = self.number();
        let (sender, granted) = oneshot::channel();
        self.hosts.entry(host.clone()).or_default().queues[class as usize].insert(ticket, sender);
        self.waiting[class as usize] += 1;
        self.index(&host);
        Ok((host, ticket, granted))
    }

    /// Gives a place up; nothing if it was called already.
    fn leave(&mut self, host: &Arc<str>, class: Class, ticket: u64) -> Option<oneshot::Sender<Grant>> {
        let sender = self.hosts.get_mut(host)?.queues[class as usize].remove(&ticket)?;
        self.waiting[class as usize] -= 1;
        self.index(host);
        Some(sender)
    }

    fn grant(&mut self, name: Arc<str>, class: Class) -> Grant {
        let number = self.number();
        let host = self.hosts.entry(name.clone()).or_default();
        host.running += 1;
        let mut stage = Stage::Prompt;
        if class == Class::Slow {
            stage = Stage::Slow;
            host.slow += 1;
            self.slow += 1;
            self.cuttable.insert((false, number));
        }
        self.index(&name);
        let signal = Arc::<Signal>::default();
        let was_ok = class == Class::Prompt;
        self.holders.insert(number, Holder { host: name, was_ok, stage, signal: signal.clone() });
        Grant { number, signal }
    }

    /// Takes a grant back. What is free now goes out by [`Self::dispatch`].
    fn release(&mut self, number: u64) {
        let Some(holder) = self.holders.remove(&number) else { return };
        let Some(host) = self.hosts.get_mut(&holder.host) else { return };
        host.running -= 1;
        if holder.stage != Stage::Prompt {
            host.slow -= 1;
            self.slow -= 1;
        }
        if holder.stage == Stage::Cut {
            host.cut -= 1;
        }
        self.cuttable.remove(&(holder.was_ok, number));
        self.index(&holder.host);
    }

    /// Calls those who wait, as long as one of them fits. The older goes first, whatever its class: the slow
    /// ones hold no more than their share, and in it they do not starve.
    fn dispatch(&mut self) {
        loop {
            let first = |class: Class| {
                let (ticket, host) = self.heads[class as usize].first_key_value()?;
                self.admits(class).then(|| (*ticket, class, host.clone()))
            };
            let Some((ticket, class, host)) = Class::ALL.into_iter().filter_map(first).min_by_key(|w| w.0)
            else {
                return;
            };
            let Some(sender) = self.leave(&host, class, ticket) else { return };
            let grant = self.grant(host, class);
            // A waiter leaves the queue before its end of the channel goes, so it is there.
            if let Err(grant) = sender.send(grant) {
                self.release(grant.number);
            }
        }
    }

    fn move_to_slow(&mut self, number: u64) {
        let Some(holder) = self.holders.get_mut(&number) else { return };
        if holder.stage != Stage::Prompt {
            return;
        }
        holder.stage = Stage::Slow;
        let (name, was_ok) = (holder.host.clone(), holder.was_ok);
        if let Some(key) = self.next_to_go(&name) {
            self.cut(key);
        }
        self.slow += 1;
        self.cuttable.insert((was_ok, number));
        if let Some(host) = self.hosts.get_mut(&name) {
            host.slow += 1;
        }
        self.index(&name);
    }

    /// Which slow one makes room for one more of that host, if there is none. Those that were told to go
    /// already are counted as gone: one newcomer costs one.
    fn next_to_go(&self, name: &Arc<str>) -> Option<(bool, u64)> {
        let of_host = |(_, number): &&(bool, u64)| self.holders.get(number).is_some_and(|h| h.host == *name);
        let stay = self.hosts.get(name).map_or(0, |host| host.slow - host.cut);
        if stay >= self.limits.slow_per_host() {
            return self.cuttable.iter().find(of_host).copied();
        }
        let full = self.cuttable.len() >= self.limits.slow();
        self.cuttable.first().copied().filter(|_| full)
    }

    fn cut(&mut self, key: (bool, u64)) {
        self.cuttable.remove(&key);
        let Some(holder) = self.holders.get_mut(&key.1) else { return };
        holder.stage = Stage::Cut;
        if let Some(host) = self.hosts.get_mut(&holder.host) {
            host.cut += 1;
        }
        holder.signal.cut.store(true, Ordering::Release);
        holder.signal.told.notify_waiters();
    }

    fn resize(&mut self, limits: Limits) {
        if self.limits == limits {
            return;
        }
        self.limits = limits;
        let names: Vec<_> = self.hosts.keys().cloned().collect();
        for name in &names {
            self.index(name);
        }
        self.dispatch();
    }

    /// The name under which the host is known, so that it is kept once.
    fn name(&self, host: &str) -> Arc<str> {
        self.hosts.get_key_value(host).map_or_else(|| host.into(), |(name, _)| name.clone())
    }

    /// Brings [`Self::heads`] up to date with one host; forgets a host for which nothing runs or waits.
    fn index(&mut self, name: &Arc<str>) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        for class in Class::ALL {
            let i = class as usize;
            let first = host.queues[i].keys().next().copied();
            let head = first.filter(|_| self.limits.admit(host, class));
            if head == host.heads[i] {
                continue;
            }
            if let Some(old) = std::mem::replace(&mut host.heads[i], head) {
                self.heads[i].remove(&old);
            }
            if let Some(new) = head {
                self.heads[i].insert(new, name.clone());
            }
        }
        if host.running == 0 && host.queues.iter().all(BTreeMap::is_empty) {
            self.hosts.remove(name);
        }
    }
}

#[cfg(test)]
mod tests;
