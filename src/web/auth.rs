//! Basic authentication: bcrypt once per password, not once per request.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use openssl::base64;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use tokio::sync::Semaphore;

use super::config::Secret;

/// So many passwords are verified at once; each keeps a processor busy.
const AT_ONCE: usize = 2;
/// A request waits this long for its turn.
const TURN: Duration = Duration::from_secs(5);
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
    /// What is remembered is useless without this key, which lives as long as the process.
    key: PKey<Private>,
    right: Mutex<HashMap<String, Vec<u8>>>,
    turns: Semaphore,
    verified: AtomicU64,
}

impl Verifier {
    /// One that remembers nothing yet. Fails when there is no randomness.
    pub fn new() -> Result<Self, ErrorStack> {
        let mut key = [0; 32];
        openssl::rand::rand_bytes(&mut key)?;
        Ok(Self {
            key: PKey::hmac(&key)?,
            right: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
            verified: AtomicU64::new(0),
        })
    }

    /// Whether the value of a header `Authorization` is that of one of `users`.
    pub async fn verify(&self, users: &BTreeMap<String, Secret>, authorization: Option<&str>) -> Verdict {
        // Nobody learns anything from a request without credentials.
        let Some((user, password)) = authorization.and_then(credentials) else { return Verdict::Unknown };
        let known = users.get(&user);
        let hash = known.map_or_else(|| nobody(users), |hash| hash.0.clone());
        let Ok(tag) = self.tag(&user, &hash, &password) else { return Verdict::Unknown };
        if self.is_right(&user, &tag) {
            return Verdict::Known;
        }
        let Ok(Ok(_turn)) = tokio::time::timeout(TURN, self.turns.acquire()).await else { return Verdict::Busy };
        // While this one waited, the same password may have been found right.
        if self.is_right(&user, &tag) {
            return Verdict::Known;
        }
        self.verified.fetch_add(1, Ordering::Relaxed);
        let verified = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash)).await;
        if known.is_some() && matches!(verified, Ok(Ok(true))) {
            self.right.lock().unwrap_or_else(PoisonError::into_inner).insert(user, tag);
            return Verdict::Known;
        }
        Verdict::Unknown
    }

    /// How often a password was verified the costly way.
    #[cfg(test)]
    fn verified(&self) -> u64 {
        self.verified.load(Ordering::Relaxed)
    }

    fn is_right(&self, user: &str, tag: &[u8]) -> bool {
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.get(user).is_some_and(|right| openssl::memcmp::eq(right, tag))
    }

    /// Stands for a user with a hash and a password. The hash is in it, so that a change of it is noticed.
    fn tag(&self, user: &str, hash: &str, password: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key)?;
        for part in [user.as_bytes(), hash.as_bytes(), password] {
            signer.update(&(part.len() as u64).to_le_bytes())?;
            signer.update(part)?;
        }
        signer.sign_to_vec()
    }
}

/// A hash that costs as much as the dearest of the users'.
fn nobody(users: &BTreeMap<String, Secret>) -> String {
    let cost = |hash: &Secret| hash.0.get(4..6).and_then(|cost| cost.parse::<u32>().ok());
    format!("$2b${:02}${NOBODY}", users.values().filter_map(cost).max().unwrap_or(10))
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

    #[tokio::test]
    async fn a_right_password_costs_once_a_wrong_one_and_an_unknown_user_always() {
        let verifier = Verifier::new().unwrap();
        let users = users(&[("alice", "a:b"), ("bob", "")]);
        let attempts = [
            (basic("alice", "a:b"), Verdict::Known, 1),
            (basic("alice", "a:b"), Verdict::Known, 1),
            (basic("alice", "wrong"), Verdict::Unknown, 2),
            (basic("alice", "wrong"), Verdict::Unknown, 3),
            (basic("nobody", "a:b"), Verdict::Unknown, 4),
            (basic("nobody", "a:b"), Verdict::Unknown, 5),
            (basic("bob", ""), Verdict::Known, 6),
            (basic("alice", "a:b"), Verdict::Known, 6),
        ];
        for (authorization, verdict, verified) in attempts {
            assert_eq!(verifier.verify(&users, Some(&authorization)).await, verdict);
            assert_eq!(verifier.verified(), verified, "{verdict:?}");
        }
    }

    #[tokio::test]
    async fn many_scrapes_at_once_cost_once() {
        let verifier = Verifier::new().unwrap();
        let users = BTreeMap::from([("alice".to_owned(), Secret(bcrypt::hash("x", 10).unwrap()))]);
        let authorization = basic("alice", "x");
        let ask = || verifier.verify(&users, Some(&authorization));
        let verdicts = tokio::join!(ask(), ask(), ask(), ask(), ask(), ask());
        assert_eq!(
            verdicts,
            (Verdict::Known, Verdict::Known, Verdict::Known, Verdict::Known, Verdict::Known, Verdict::Known)
        );
        assert!(verifier.verified() <= AT_ONCE as u64, "{}", verifier.verified());
    }

    #[tokio::test]
    async fn a_changed_hash_forgets_the_old_password() {
        let verifier = Verifier::new().unwrap();
        let (old, new) = (users(&[("alice", "old")]), users(&[("alice", "new")]));
        assert_eq!(verifier.verify(&old, Some(&basic("alice", "old"))).await, Verdict::Known);
        assert_eq!(verifier.verify(&new, Some(&basic("alice", "old"))).await, Verdict::Unknown);
        assert_eq!(verifier.verify(&new, Some(&basic("alice", "new"))).await, Verdict::Known);
    }

    #[tokio::test]
    async fn what_is_no_credential_costs_nothing() {
        let verifier = Verifier::new().unwrap();
        let users = users(&[("alice", "x")]);
        for header in
            [None, Some(""), Some("Basic"), Some("Basic !!!"), Some("Bearer YWxpY2U6eA=="), Some("Basic YWxpY2U=")]
        {
            assert_eq!(verifier.verify(&users, header).await, Verdict::Unknown, "{header:?}");
        }
        assert_eq!(verifier.verified(), 0);
        assert_eq!(verifier.verify(&users, Some("basic  YWxpY2U6eA== ")).await, Verdict::Known);
    }

    #[test]
    fn nobodys_hash_is_one_and_costs_as_much() {
        let users = users(&[("alice", "x")]);
        let hash = nobody(&users);
        assert_eq!(hash.parse::<bcrypt::HashParts>().unwrap().get_cost(), 4);
        assert!(!bcrypt::verify("x", &hash).unwrap());
    }
}
