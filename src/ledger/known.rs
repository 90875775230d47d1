//! The keys of counted rows, hashed, with their places in the order.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A key in 16 bytes.
pub type Hash = [u8; 16];

/// Bytes of a saved key: its hash and its tick.
const WIDTH: usize = 24;

/// A set of keys, each with the tick up to which it is needed. A copy shares it until one of them changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Known(Arc<HashMap<Hash, i64>>);

impl Known {
    /// The tick of a key, if it is known.
    pub fn get(&self, hash: &Hash) -> Option<i64> {
        self.0.get(hash).copied()
    }

    /// Adds a key, or raises its tick.
    pub fn insert(&mut self, hash: Hash, tick: i64) {
        let known = Arc::make_mut(&mut self.0).entry(hash).or_insert(tick);
        *known = tick.max(*known);
    }

    /// Forgets the oldest of the keys below `floor` if there are many more than `memory`. Returns the tick from which on
    /// all are known, if one was forgotten.
    pub fn cut(&mut self, floor: i64, memory: usize) -> Option<i64> {
        let mut below: Vec<i64> = self.0.values().copied().filter(|&tick| tick < floor).collect();
        if below.len() <= memory + memory / 4 {
            return None;
        }
        let first = below.len() - memory;
        let from = if memory == 0 { floor } else { *below.select_nth_unstable(first).1 };
        Arc::make_mut(&mut self.0).retain(|_, tick| *tick >= from);
        Some(from)
    }
}

impl From<Known> for String {
    fn from(known: Known) -> Self {
        let mut all: Vec<(&Hash, &i64)> = known.0.iter().collect();
        all.sort_unstable();
        let mut bytes = Vec::with_capacity(all.len() * WIDTH);
        for (hash, tick) in all {
            bytes.extend(hash);
            bytes.extend(tick.to_le_bytes());
        }
        openssl::base64::encode_block(&bytes)
    }
}

impl TryFrom<String> for Known {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = "the known keys are damaged";
        let bytes = openssl::base64::decode_block(&text).map_err(|_| wrong)?;
        let key = |bytes: &[u8]| {
            let (hash, tick) = bytes.split_at(16);
            let hash: Hash = hash.try_into().map_err(|_| wrong)?;
            Ok((hash, i64::from_le_bytes(tick.try_into().map_err(|_| wrong)?)))
        };
        let keys = bytes.chunks_exact(WIDTH);
        let keys = if keys.remainder().is_empty() { keys } else { return Err(wrong) };
        keys.map(key).collect::<Result<_, _>>().map(|keys| Self(Arc::new(keys)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_were_saved_and_the_oldest_are_forgotten() {
        let mut known = Known::default();
        (0..100_u8).for_each(|i| known.insert([i; 16], i64::from(i)));
        let saved = serde_json::to_string(&known).unwrap();
        assert_eq!(serde_json::from_str::<Known>(&saved).unwrap(), known);
        assert!(serde_json::from_str::<Known>("\"AAAA\"").is_err());
        assert_eq!(serde_json::from_str::<Known>("\"\"").unwrap(), Known::default());
        assert_eq!((known.cut(50, 40), known.cut(50, 20)), (None, Some(30)));
        assert_eq!((known.get(&[29; 16]), known.get(&[30; 16])), (None, Some(30)));
        assert_eq!((known.cut(50, 0), known.get(&[49; 16]), known.get(&[50; 16])), (Some(50), None, Some(50)));
        known.insert([60; 16], 70);
        known.insert([60; 16], 65);
        assert_eq!(known.get(&[60; 16]), Some(70));
    }
}
