//! The accounts of a [`Receiver`] of remote write: what came, request by request, and what came twice or out of order.
//!
//! Real stores say what they have in the end; this one also says in which order it came and what came twice. What a
//! newcomer would get wrong: a request that is sent again after a lost answer is no fault, as long as it is the same,
//! byte for byte. Everything else that goes back in the time of its series is.

use crate::receiver::{Kind, Received, Receiver, Reply, Trouble};
use crate::{Sample, receiver};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What it does about a request that has come whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Keeps it and says so.
    Take,
    /// Keeps it, and closes the connection without a word.
    LoseAnswer,
    /// Keeps nothing and answers with this status.
    Refuse(u16),
    /// Keeps nothing and never answers.
    Hang,
}

/// A request that was kept.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// 1 or 2.
    pub version: u8,
    /// Stands for its body.
    pub digest: u64,
    /// How many samples it had, stale markers among them.
    pub samples: usize,
    /// Whether the same body was kept before.
    pub again: bool,
    /// Who sent it: `Authorization`, or nothing.
    pub from: Option<String>,
    /// What it had of the series that are followed: name, label `instance`, sample.
    pub followed: Vec<(String, String, Sample)>,
}

#[derive(Default)]
struct Kept {
    arrivals: Vec<Arrival>,
    digests: HashSet<u64>,
    /// The newest time of each series, by a hash of its labels.
    newest: HashMap<u64, i64>,
    /// Hashes of the labels of each series that is followed, by its name and its label `instance`.
    labels: BTreeMap<(String, String), HashSet<u64>>,
    faults: Vec<String>,
    samples: usize,
    refused: usize,
}

/// What is answered, and to whom.
struct Rules {
    mood: Mood,
    /// `Authorization`, as it must be.
    wanted: Option<String>,
    only_1: bool,
    /// The names of the series that are followed.
    follow: Vec<String>,
}

/// A running receiver. It ends when this is dropped.
pub struct Arrivals {
    receiver: Receiver,
    accounts: Arc<Mutex<Accounts>>,
}

impl std::fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arrivals({:?})", self.receiver)
    }
}

impl Arrivals {
    /// Starts one on a free port that follows the series of these names.
    pub fn start(follow: &[&str]) -> Self {
        let follow = follow.iter().map(|name| (*name).to_owned()).collect();
        let rules = Rules { mood: Mood::Take, wanted: None, only_1: false, follow };
        let accounts = Arc::new(Mutex::new(Accounts { rules, kept: Kept::default() }));
        let receiver = Receiver::start();
        receiver.keep_nothing();
        let theirs = accounts.clone();
        receiver.answer_by(move |request| lock(&theirs).take(request));
        Self { receiver, accounts }
    }

    /// Where it takes remote write.
    pub fn write_url(&self) -> String {
        self.receiver.url("/api/v1/write")
    }

    /// Listens, if it does not.
    pub fn up(&self) {
        self.receiver.come_up();
    }

    /// Listens no more and closes all connections, in the middle of whatever they do.
    pub fn down(&self) {
        self.receiver.go_down();
    }

    /// Whether it listens.
    pub fn is_up(&self) -> bool {
        !self.receiver.is_down()
    }

    /// What it does from now on.
    pub fn set(&self, mood: Mood) {
        self.accounts().rules.mood = mood;
    }

    /// Takes requests with this token alone (`Authorization: Bearer`), and answers others with 401.
    pub fn only_with(&self, token: &str) {
        self.accounts().rules.wanted = Some(format!("Bearer {token}"));
    }

    /// Answers requests of version 2.0 with 415.
    pub fn only_version_1(&self) {
        self.accounts().rules.only_1 = true;
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        lock(&self.accounts)
    }

    /// All that was kept so far.
    pub fn all(&self) -> Vec<Arrival> {
        self.accounts().kept.arrivals.clone()
    }

    /// How many requests were kept so far.
    pub fn requests(&self) -> usize {
        self.accounts().kept.arrivals.len()
    }

    /// How many requests were refused so far.
    pub fn refused(&self) -> usize {
        self.accounts().kept.refused
    }

    /// How many samples were kept so far, without those that came again.
    pub fn samples(&self) -> usize {
        self.accounts().kept.samples
    }

    /// What must not be: samples that go back in the time of their series though their request is new, and requests
    /// that cannot be read.
    pub fn faults(&self) -> Vec<String> {
        self.accounts().kept.faults.clone()
    }

    /// How many series of this name there were for each `instance`, by all their labels: one, unless labels change.
    pub fn series(&self, name: &str) -> BTreeMap<String, usize> {
        let accounts = self.accounts();
        let of_name = accounts.kept.labels.iter().filter(|((of, _), _)| of == name);
        of_name.map(|((_, instance), labels)| (instance.clone(), labels.len())).collect()
    }

    /// The samples of the followed series of this name, by `instance`, in the order of their arrival, without those that
    /// came again.
    pub fn followed(&self, name: &str) -> BTreeMap<String, Vec<Sample>> {
        let mut found: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
        for arrival in self.accounts().kept.arrivals.iter().filter(|arrival| !arrival.again) {
            for (_, instance, sample) in arrival.followed.iter().filter(|(of, _, _)| of == name) {
                found.entry(instance.clone()).or_default().push(*sample);
            }
        }
        found
    }
}

fn lock(accounts: &Mutex<Accounts>) -> MutexGuard<'_, Accounts> {
    accounts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// The rules, and what was kept by them.
struct Accounts {
    rules: Rules,
    kept: Kept,
}

impl Accounts {
    /// Says what is answered to a request, and keeps it where it is to be kept.
    fn take(&mut self, request: &Received) -> Reply {
        let from = request.header("authorization").map(str::to_owned);
        let is_2 = request.message.as_ref().is_ok_and(|message| message.kind == Kind::V2);
        let Rules { mood, wanted, only_1, follow } = &self.rules;
        let refused = match mood {
            Mood::Refuse(status) => Some(*status),
            _ if wanted.is_some() && from != *wanted => Some(401),
            _ if is_2 && *only_1 => Some(415),
            _ => None,
        };
        if let Some(status) = refused {
            self.kept.refused += 1;
            return Reply::status(status).body("no\n");
        }
        let trouble = match mood {
            Mood::Hang => return Reply::accepted().with(Trouble::Silence),
            Mood::LoseAnswer => Trouble::Close,
            Mood::Take | Mood::Refuse(_) => Trouble::None,
        };
        self.kept.keep(request, from, follow);
        Reply::accepted().with(trouble)
    }
}

impl Kept {
    fn keep(&mut self, request: &Received, from: Option<String>, follow: &[String]) {
        let message = match &request.message {
            Ok(message) => message,
            Err(error) => {
                let size = request.body.len();
                return self.faults.push(format!("a request of {size} bytes that cannot be read: {error}"));
            }
        };
        let digest = hash(&request.body);
        let again = !self.digests.insert(digest);
        let mut followed = Vec::new();
        // What was wrong before of a series of this request is told once.
        let mut told = HashSet::new();
        for receiver::Sample { labels, timestamp, value } in &message.samples {
            let label =
                |name: &str| labels.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
            let (name, instance) = (label("__name__").to_owned(), label("instance").to_owned());
            let series = hash(labels);
            if !again {
                let newest = self.newest.entry(series).or_insert(i64::MIN);
                if *timestamp > *newest {
                    *newest = *timestamp;
                } else if told.insert(series) {
                    self.faults.push(format!("{name} of {instance}: {timestamp} came after {newest}"));
                }
            }
            if follow.contains(&name) {
                self.labels.entry((name.clone(), instance.clone())).or_default().insert(series);
                followed.push((name, instance, Sample { at: *timestamp, value: *value }));
            }
        }
        let samples = message.samples.len();
        if !again {
            self.samples += samples;
        }
        let version = if message.kind == Kind::V2 { 2 } else { 1 };
        self.arrivals.push(Arrival { version, digest, samples, again, from, followed });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receiver::Message;
    use std::time::Instant;

    fn request(body: &str, times: &[i64]) -> Received {
        let labels =
            [("__name__", "up"), ("instance", "a:1")].map(|(name, value)| (name.into(), value.into()));
        let sample = |at: &i64| receiver::Sample { labels: labels.to_vec(), timestamp: *at, value: 1.0 };
        let samples = times.iter().map(sample).collect();
        let message =
            Message { kind: Kind::V2, samples, metadata: vec![], symbols: vec![], references: vec![] };
        Received {
            at: Instant::now(),
            connection: 0,
            method: "POST".into(),
            path: "/".into(),
            headers: vec![("authorization".into(), "Bearer me".into())],
            body: body.into(),
            message: Ok(message),
        }
    }

    #[test]
    fn what_goes_back_is_a_fault_and_the_same_again_is_none() {
        let mut kept = Kept::default();
        let mut check = |body: &str, times: &[i64], again: bool, faults: &[&str], samples: usize| {
            kept.keep(&request(body, times), Some("Bearer me".into()), &["up".into()]);
            let last = kept.arrivals.last().expect("it was kept");
            assert_eq!((last.again, last.followed.len(), last.version), (again, times.len(), 2), "{body}");
            assert_eq!(
                (&kept.faults[..], kept.samples),
                (&faults.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>()[..], samples)
            );
        };
        check("one", &[1, 2], false, &[], 2);
        check("one", &[1, 2], true, &[], 2);
        check("two", &[3], false, &[], 3);
        let back = "up of a:1: 2 came after 3";
        check("three", &[2, 1], false, &[back], 5);
        check("four", &[4], false, &[back], 6);
    }

    #[test]
    fn the_mood_is_what_is_answered() {
        let mut accounts = Accounts {
            rules: Rules { mood: Mood::Take, wanted: None, only_1: false, follow: vec![] },
            kept: Kept::default(),
        };

        let mut check = |change: fn(&mut Rules), status: u16, trouble: Trouble, kept: usize| {
            change(&mut accounts.rules);
            let reply = accounts.take(&request("one", &[1]));
            assert_eq!((reply.status, reply.trouble, accounts.kept.arrivals.len()), (status, trouble, kept));
        };
        check(|_| {}, 204, Trouble::None, 1);
        check(|rules| rules.mood = Mood::LoseAnswer, 204, Trouble::Close, 2);
        check(|rules| rules.mood = Mood::Hang, 204, Trouble::Silence, 2);
        check(|rules| rules.mood = Mood::Refuse(503), 503, Trouble::None, 2);
        check(|rules| rules.mood = Mood::Take, 204, Trouble::None, 3);
        check(|rules| rules.only_1 = true, 415, Trouble::None, 3);
        check(
            |rules| (rules.only_1, rules.wanted) = (false, Some("Bearer you".into())),
            401,
            Trouble::None,
            3,
        );
        check(|rules| rules.wanted = Some("Bearer me".into()), 204, Trouble::None, 4);
    }
}
