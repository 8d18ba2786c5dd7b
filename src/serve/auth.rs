//! Basic authentication: <https://www.rfc-editor.org/rfc/rfc7617>.
//!
//! Plain passwords are compared in constant time. A bcrypt check costs some 50 ms of CPU, so it runs apart
//! from the threads that serve, a few at a time; what was right is remembered by a keyed hash, so that a
//! scrape does not pay it each time. An unknown user costs as much as a wrong password.
//!
//! What a newcomer would get wrong: failures are not remembered. Whoever guesses could otherwise push the
//! good ones out; and guesses wait in a short line of their own, so those who are known never queue.

use crate::config::Secret;
use crate::config::serve::{BasicAuth, PasswordCheck};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::HeaderValue;
use ring::{hmac, rand};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// bcrypt checks at once. Two cores are usual; one stays for scrapes.
const CHECKS: usize = 1;

/// bcrypt checks that may wait for their turn; more are turned away. 64 take some 3 s.
const WAITING: usize = 64;

/// Proofs that are remembered: more than there are users, unless somebody has thousands.
const REMEMBERED: usize = 4096;

/// What became of a request's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allowed,
    /// Wrong, or none.
    Denied,
    /// Too many are being checked.
    Busy,
}

/// Everybody who may ask; nobody listed means everybody.
pub struct Users {
    known: Vec<(String, PasswordCheck)>,
    checker: Arc<Checker>,
    /// A hash that nothing fits and that costs as much as the real ones; `None` where there are none.
    decoy: Option<Arc<str>>,
}

/// Checks passwords, and remembers which were right. Stays when the users are read again, so that nobody has
/// to stand in line once more.
pub struct Checker {
    /// Keys the hashes of this process; made anew at each start.
    key: hmac::Key,
    /// Hashes of user, password and bcrypt hash that belong together.
    right: Mutex<HashSet<[u8; 32]>>,
    checks: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Default for Checker {
    fn default() -> Self {
        let mut seed = [0; 32];
        // Without randomness from the kernel there is no TLS either; the key still differs by start.
        let _ = rand::SecureRandom::fill(&rand::SystemRandom::new(), &mut seed);
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &seed),
            right: Mutex::default(),
            checks: Arc::new(Semaphore::new(CHECKS)),
            waiting: Semaphore::new(CHECKS + WAITING),
        }
    }
}

impl Users {
    /// The user of the flags and those of a document.
    pub fn new(flag: Option<&BasicAuth>, hashes: &BTreeMap<String, Secret>, checker: Arc<Checker>) -> Self {
        let flag = flag.map(|auth| (auth.user.clone(), auth.password.clone()));
        let hashed = hashes.iter().map(|(user, hash)| (user.clone(), PasswordCheck::Bcrypt(hash.clone())));
        let known: Vec<_> = flag.into_iter().chain(hashed).collect();
        let hashes = known.iter().filter_map(|(_, check)| match check {
            PasswordCheck::Bcrypt(hash) => Some(hash.expose()),
            PasswordCheck::Plain(_) => None,
        });
        // As dear as the dearest: `$2b$12$…` says the cost.
        let dearest = hashes.max_by_key(|hash| hash.split('$').nth(2).map(str::to_owned));
        let decoy = dearest.map(decoy);
        Self { known, checker, decoy }
    }

    /// Whether there is anybody; else everybody may ask.
    pub fn are_listed(&self) -> bool {
        !self.known.is_empty()
    }

    /// Whether a request with this `Authorization` may go on.
    pub async fn check(&self, authorization: Option<&HeaderValue>) -> Verdict {
        if self.known.is_empty() {
            return Verdict::Allowed;
        }
        let Some((user, password)) = authorization.and_then(|value| credentials(value.as_bytes())) else {
            return Verdict::Denied;
        };
        // All are looked at, so that the time does not say who is known.
        let mut found = None;
        for (known, check) in &self.known {
            if self.is_same(known.as_bytes(), &user) {
                found = Some(check);
            }
        }
        match found {
            Some(PasswordCheck::Plain(expected)) => {
                let is_right = self.is_same(expected.expose().as_bytes(), &password);
                if is_right { Verdict::Allowed } else { self.deny(password).await }
            }
            Some(PasswordCheck::Bcrypt(hash)) => self.check_hash(&user, password, hash).await,
            None => {
                // For those who compare times: as long as the comparison of a plain password.
                self.is_same(b"", &password);
                self.deny(password).await
            }
        }
    }

    async fn check_hash(&self, user: &[u8], password: Vec<u8>, hash: &Secret) -> Verdict {
        let proof = self.checker.proof(user, &password, hash);
        if self.checker.right.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).contains(&proof) {
            return Verdict::Allowed;
        }
        match self.bcrypt(password, hash.expose().into()).await {
            None => Verdict::Busy,
            Some(false) => Verdict::Denied,
            Some(true) => {
                let mut right = self.checker.right.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if right.len() >= REMEMBERED {
                    right.clear();
                }
                right.insert(proof);
                Verdict::Allowed
            }
        }
    }

    /// Denies, at the cost of a bcrypt check where those are in use.
    async fn deny(&self, password: Vec<u8>) -> Verdict {
        let Some(decoy) = self.decoy.clone() else { return Verdict::Denied };
        match self.bcrypt(password, decoy).await {
            None => Verdict::Busy,
            Some(_) => Verdict::Denied,
        }
    }

    /// Whether the password fits the hash; `None` when too many wait.
    async fn bcrypt(&self, password: Vec<u8>, hash: Arc<str>) -> Option<bool> {
        let _place = self.checker.waiting.try_acquire().ok()?;
        let turn = self.checker.checks.clone().acquire_owned().await.ok()?;
        let check = tokio::task::spawn_blocking(move || {
            let _turn = turn; // kept until the work is done, though the client may have left
            bcrypt::verify(password, &hash).unwrap_or(false)
        });
        Some(check.await.unwrap_or(false))
    }

    /// Compares hashes, not texts: in constant time, whatever the lengths.
    fn is_same(&self, expected: &[u8], given: &[u8]) -> bool {
        let key = &self.checker.key;
        hmac::verify(key, given, hmac::sign(key, expected).as_ref()).is_ok()
    }
}

impl Checker {
    fn proof(&self, user: &[u8], password: &[u8], hash: &Secret) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user, hash.expose().as_bytes()] {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        context.update(password);
        let mut proof = [0; 32];
        proof.copy_from_slice(context.sign().as_ref());
        proof
    }
}

/// User and password of `Basic dXNlcjpwYXNz`.
fn credentials(header: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, rest) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|b| *b == b':')?;
    Some((decoded[..colon].to_vec(), decoded[colon + 1..].to_vec()))
}

/// A hash of the same version and cost whose salt and digest are our own.
fn decoy(hash: &str) -> Arc<str> {
    let head = hash.rfind('$').map_or("$2b$10$", |last| &hash[..=last]);
    format!("{head}{}", "abcdefghijklmnopqrstuu0123456789ABCDEFGHIJKLMNOPQRSTO").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `secret`, at the lowest cost that there is.
    fn hash() -> Secret {
        Secret::new(bcrypt::hash("secret", 4).expect("a hash"))
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(pair))
    }

    async fn check(users: &Users, header: &str, expected: Verdict) {
        let value = HeaderValue::from_str(header).expect("a header value");
        assert_eq!(users.check(Some(&value)).await, expected, "{header}");
    }

    #[tokio::test]
    async fn without_users_everybody_may_ask() {
        assert_eq!(Users::new(None, &BTreeMap::new(), Arc::default()).check(None).await, Verdict::Allowed);
    }

    #[tokio::test]
    async fn a_plain_and_a_hashed_user_are_known_by_their_own_passwords() {
        let flag = BasicAuth { user: "plain".into(), password: PasswordCheck::Plain(Secret::new("p:w")) };
        let users = Users::new(Some(&flag), &BTreeMap::from([("hashed".into(), hash())]), Arc::default());
        assert_eq!(users.check(None).await, Verdict::Denied);
        for _ in 0..2 {
            check(&users, &basic("plain:p:w"), Verdict::Allowed).await;
            check(&users, &basic("hashed:secret"), Verdict::Allowed).await;
            check(&users, &basic("hashed:secret").replace("Basic", "bAsIC"), Verdict::Allowed).await;
            for pair in ["plain:secret", "hashed:p:w", "hashed:", "plain:", ":", "nobody:secret", "hashed"] {
                check(&users, &basic(pair), Verdict::Denied).await;
            }
            for header in ["", "Basic", "Basic ", "Basic !", "Bearer x", "Basic aGFzaGVkOnNlY3JldA"] {
                check(&users, header, Verdict::Denied).await;
            }
        }
    }

    #[tokio::test]
    async fn what_was_right_once_is_not_computed_again() {
        let users = Users::new(None, &BTreeMap::from([("hashed".into(), hash())]), Arc::default());
        check(&users, &basic("hashed:secret"), Verdict::Allowed).await;
        users.checker.checks.close();
        check(&users, &basic("hashed:secret"), Verdict::Allowed).await;
        check(&users, &basic("hashed:wrong"), Verdict::Busy).await;
        check(&users, &basic("nobody:wrong"), Verdict::Busy).await;
    }

    #[tokio::test]
    async fn guesses_beyond_the_waiting_line_are_turned_away() {
        let users = Users::new(None, &BTreeMap::from([("hashed".into(), hash())]), Arc::default());
        let _all = users.checker.waiting.try_acquire_many((CHECKS + WAITING) as u32).expect("free places");
        check(&users, &basic("hashed:secret"), Verdict::Busy).await;
    }

    #[test]
    fn the_decoy_costs_what_the_real_hash_costs() {
        let decoy = decoy(hash().expose());
        assert!(decoy.starts_with("$2b$04$"), "{decoy}");
        assert!(!bcrypt::verify("secret", &decoy).expect("well formed"));
    }
}
