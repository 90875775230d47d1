//! Basic authentication: bcrypt once per password, not once per request.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openssl::base64;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use tokio::time::Instant;

use super::config::Secret;
use super::hashing::Pool;

/// A client that hangs up within this time costs no hash.
const SETTLE: Duration = Duration::from_millis(20);
/// A request waits this long for its turn.
const TURN: Duration = Duration::from_secs(30);
/// Refusals are at least this many hashes apart, so that those who guess come back more slowly than hashes are made.
const PACE: u32 = 2;
/// No refusal is held back longer than this.
const LONGEST_REFUSAL: Duration = Duration::from_secs(60);
/// So many wrong passwords are remembered.
const MAX_WRONG: usize = 10_000;
/// The salt and digest of a hash that stands for users who do not exist.
const NOBODY: &str = "X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG";

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A user with the right password.
    Known,
    /// Anything else, not told apart.
    Unknown,
    /// Too many passwords are being verified.
    Busy,
}

/// Verifies passwords and remembers, for each user, the one that was right.
#[derive(Debug)]
pub struct Verifier {
    memory: Arc<Memory>,
    pool: Pool,
    /// When the next refusal may leave.
    next_refusal: Mutex<Instant>,
}

/// What is known of passwords without hashing them.
#[derive(Debug)]
struct Memory {
    /// What is remembered is useless without this key, which lives as long as the process.
    key: PKey<Private>,
    seen: Mutex<Seen>,
    /// How many attempts were hashed.
    hashed: AtomicU64,
}

#[derive(Debug, Default)]
struct Seen {
    /// By user.
    right: HashMap<String, Vec<u8>>,
    wrong: HashSet<Vec<u8>>,
    /// How long the last attempt took to hash.
    took: Duration,
}

impl Verifier {
    /// A verifier that remembers nothing yet.
    ///
    /// # Errors
    /// Fails if the system has no randomness or no threads to give.
    pub fn new() -> io::Result<Self> {
        let mut key = [0; 32];
        openssl::rand::rand_bytes(&mut key)?;
        let memory = Memory { key: PKey::hmac(&key)?, seen: Mutex::default(), hashed: AtomicU64::new(0) };
        Ok(Self { memory: Arc::new(memory), pool: Pool::start()?, next_refusal: Mutex::new(Instant::now()) })
    }

    /// Checks whether the value of a header `Authorization` is that of one of `users`.
    pub async fn verify(
        &self,
        users: &BTreeMap<String, Secret>,
        authorization: Option<&str>,
        client: IpAddr,
    ) -> Verdict {
        // Nobody learns anything from a request without credentials.
        let Some((user, password)) = authorization.and_then(credentials) else { return Verdict::Unknown };
        let attempt = Attempt::new(users, user, password);
        let Ok(tag) = self.memory.tag(&attempt) else { return Verdict::Unknown };
        if self.memory.verdict(&attempt.user, &tag) == Some(true) {
            return Verdict::Known;
        }
        tokio::time::sleep(SETTLE).await;
        let memory = self.memory.clone();
        let user = attempt.user.clone();
        let answer = self.pool.submit(client, &user, Box::new(move || memory.check(attempt, tag)));
        match tokio::time::timeout(TURN, answer).await {
            Ok(Ok(true)) => Verdict::Known,
            Ok(Ok(false)) => {
                self.hold_refusal().await;
                Verdict::Unknown
            }
            _ => Verdict::Busy,
        }
    }

    /// Waits until a refusal may leave. With nobody else guessing, that is at once.
    async fn hold_refusal(&self) {
        let gap = self.memory.seen().took * PACE;
        let turn = {
            let mut next = self.next_refusal.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = (*next).clamp(now, now + LONGEST_REFUSAL);
            *next = turn + gap;
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

/// A user's name with a password, and the hashes that tell whether it is right.
struct Attempt {
    user: String,
    password: Vec<u8>,
    /// One of each cost that any user's hash has, so that all attempts take the same time. The first is the user's own.
    hashes: Vec<String>,
    is_user: bool,
}

impl Attempt {
    fn new(users: &BTreeMap<String, Secret>, user: String, password: Vec<u8>) -> Self {
        let own = users.get(&user).map(|hash| hash.0.clone());
        let mut costs: BTreeSet<u32> = users.values().filter_map(|hash| cost(&hash.0)).collect();
        if let Some(own) = &own {
            costs.retain(|c| Some(*c) != cost(own));
        }
        let is_user = own.is_some();
        let nobodys = costs.iter().map(|cost| format!("$2b${cost:02}${NOBODY}"));
        Self { user, password, hashes: own.into_iter().chain(nobodys).collect(), is_user }
    }

    /// Hashes the password. Takes the same time for every user and for nobody.
    fn is_right(&self) -> bool {
        let right = self.hashes.iter().map(|hash| bcrypt::verify(&self.password, hash).unwrap_or(false));
        let right: Vec<bool> = right.collect();
        self.is_user && right.first() == Some(&true)
    }
}

impl Memory {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this password is right, if that is known.
    fn verdict(&self, user: &str, tag: &[u8]) -> Option<bool> {
        let seen = self.seen();
        if seen.right.get(user).is_some_and(|right| openssl::memcmp::eq(right, tag)) {
            return Some(true);
        }
        seen.wrong.contains(tag).then_some(false)
    }

    /// Hashes the password, unless the same one was hashed before or meanwhile.
    fn check(&self, attempt: Attempt, tag: Vec<u8>) -> bool {
        if let Some(verdict) = self.verdict(&attempt.user, &tag) {
            return verdict;
        }
        self.hashed.fetch_add(1, Ordering::Relaxed);
        let began = std::time::Instant::now();
        let is_right = attempt.is_right();
        let mut seen = self.seen();
        seen.took = began.elapsed();
        if is_right {
            seen.right.insert(attempt.user, tag);
        } else {
            if seen.wrong.len() >= MAX_WRONG {
                seen.wrong.clear();
            }
            seen.wrong.insert(tag);
        }
        is_right
    }

    /// Stands for a user with a hash and a password. The hash is in it, so that a change of it is noticed.
    fn tag(&self, attempt: &Attempt) -> Result<Vec<u8>, ErrorStack> {
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key)?;
        let hash = attempt.hashes.first().map(String::as_bytes).unwrap_or_default();
        for part in [attempt.user.as_bytes(), hash, &attempt.password] {
            signer.update(&(part.len() as u64).to_le_bytes())?;
            signer.update(part)?;
        }
        signer.sign_to_vec()
    }
}

/// The cost that a bcrypt hash names.
fn cost(hash: &str) -> Option<u32> {
    hash.get(4..6)?.parse().ok()
}

/// User and password (RFC 7617).
fn credentials(authorization: &str) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = authorization.trim().split_once(' ')?;
    let decoded = base64::decode_block(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some((String::from_utf8(decoded[..colon].to_vec()).ok()?, decoded[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cheapest hash there is.
    fn users(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
        pairs.iter().map(|(user, password)| ((*user).into(), Secret(bcrypt::hash(password, 4).unwrap()))).collect()
    }

    fn basic(user: &str, password: &str) -> String {
        format!("Basic {}", base64::encode_block(format!("{user}:{password}").as_bytes()))
    }

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    impl Verifier {
        async fn ask(&self, users: &BTreeMap<String, Secret>, authorization: &str) -> Verdict {
            self.verify(users, Some(authorization), CLIENT).await
        }

        fn hashed(&self) -> u64 {
            self.memory.hashed.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn a_password_costs_once_whether_right_or_wrong_and_whoever_the_user() {
        let verifier = Verifier::new().unwrap();
        let users = users(&[("alice", "a:b"), ("bob", "")]);
        let attempts = [
            (basic("alice", "a:b"), Verdict::Known, 1),
            (basic("alice", "a:b"), Verdict::Known, 1),
            (basic("alice", "wrong"), Verdict::Unknown, 2),
            (basic("alice", "wrong"), Verdict::Unknown, 2),
            (basic("nobody", "a:b"), Verdict::Unknown, 3),
            (basic("nobody", "a:b"), Verdict::Unknown, 3),
            (basic("nobody", "c"), Verdict::Unknown, 4),
            (basic("bob", ""), Verdict::Known, 5),
            (basic("alice", "a:b"), Verdict::Known, 5),
        ];
        for (authorization, verdict, hashed) in attempts {
            assert_eq!(verifier.ask(&users, &authorization).await, verdict);
            assert_eq!(verifier.hashed(), hashed, "{verdict:?}");
        }
    }

    #[tokio::test]
    async fn many_scrapes_at_once_cost_once() {
        let verifier = Verifier::new().unwrap();
        let users = BTreeMap::from([("alice".to_owned(), Secret(bcrypt::hash("x", 10).unwrap()))]);
        let authorization = basic("alice", "x");
        let ask = || verifier.ask(&users, &authorization);
        let (a, b, c, d, e, f) = tokio::join!(ask(), ask(), ask(), ask(), ask(), ask());
        assert_eq!([a, b, c, d, e, f], [Verdict::Known; 6]);
        assert!(verifier.hashed() <= crate::web::hashing::THREADS.len() as u64, "{}", verifier.hashed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_hangs_up_at_once_costs_nothing() {
        let verifier = Verifier::new().unwrap();
        let users = users(&[("alice", "x")]);
        for n in 0..100 {
            let authorization = basic("alice", &n.to_string());
            let attempt = verifier.ask(&users, &authorization);
            assert!(tokio::time::timeout(SETTLE / 2, attempt).await.is_err());
        }
        // Hashing takes real time.
        tokio::time::resume();
        assert_eq!(verifier.ask(&users, &basic("alice", "x")).await, Verdict::Known);
        assert_eq!(verifier.hashed(), 1);
    }

    #[test]
    fn every_user_and_nobody_costs_one_hash_of_each_cost() {
        let users: BTreeMap<String, Secret> = [("a", 4), ("b", 5), ("c", 5)]
            .map(|(user, cost)| (user.into(), Secret(bcrypt::hash("x", cost).unwrap())))
            .into();
        for user in ["a", "b", "c", "nobody"] {
            let attempt = Attempt::new(&users, user.to_owned(), b"x".to_vec());
            let mut costs: Vec<u32> = attempt.hashes.iter().filter_map(|hash| cost(hash)).collect();
            costs.sort_unstable();
            assert_eq!(costs, [4, 5], "{user}");
            assert_eq!(attempt.is_right(), user != "nobody", "{user}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_leave_one_by_one_and_none_is_held_for_ever() {
        let verifier = Verifier::new().unwrap();
        verifier.memory.seen().took = Duration::from_secs(1);
        let began = Instant::now();
        let held = tokio::join!(verifier.hold_refusal(), async {
            verifier.hold_refusal().await;
            began.elapsed().as_secs()
        });
        assert_eq!(held.1, 2);
        verifier.memory.seen().took = Duration::from_secs(1000);
        verifier.hold_refusal().await;
        let again = Instant::now();
        verifier.hold_refusal().await;
        assert_eq!(again.elapsed(), LONGEST_REFUSAL);
    }

    #[tokio::test]
    async fn a_changed_hash_forgets_the_old_password() {
        let verifier = Verifier::new().unwrap();
        let (old, new) = (users(&[("alice", "old")]), users(&[("alice", "new")]));
        assert_eq!(verifier.ask(&old, &basic("alice", "old")).await, Verdict::Known);
        assert_eq!(verifier.ask(&new, &basic("alice", "old")).await, Verdict::Unknown);
        assert_eq!(verifier.ask(&new, &basic("alice", "new")).await, Verdict::Known);
    }

    #[tokio::test]
    async fn what_is_no_credential_costs_nothing() {
        let verifier = Verifier::new().unwrap();
        let users = users(&[("alice", "x")]);
        for header in
            [None, Some(""), Some("Basic"), Some("Basic !!!"), Some("Bearer YWxpY2U6eA=="), Some("Basic YWxpY2U=")]
        {
            assert_eq!(verifier.verify(&users, header, CLIENT).await, Verdict::Unknown, "{header:?}");
        }
        assert_eq!(verifier.hashed(), 0);
        assert_eq!(verifier.ask(&users, "basic  YWxpY2U6eA== ").await, Verdict::Known);
    }
}
