//! A set of ids that stays small: wide ranges as ranges, the rest in a compressed bitmap.

use std::collections::BTreeMap;

use openssl::base64::{decode_block, encode_block};
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};

/// Ranges of at least so many ids are kept by their two ends.
const WIDE: u64 = 64;

/// A set of ids.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Saved", into = "Saved")]
pub struct IdSet {
    /// By [`key`]; none of these is in a wide range.
    narrow: RoaringTreemap,
    /// First and last id of each, disjoint.
    wide: BTreeMap<i64, i64>,
}

/// The form in which a set is saved.
#[derive(Serialize, Deserialize)]
struct Saved {
    /// The bitmap in Roaring's portable format, in base64.
    narrow: String,
    wide: Vec<(i64, i64)>,
}

/// Bitmaps hold unsigned numbers; this keeps the order.
fn key(id: i64) -> u64 {
    id.cast_unsigned() ^ (1 << 63)
}

fn id(key: u64) -> i64 {
    (key ^ (1 << 63)).cast_signed()
}

impl IdSet {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.narrow.is_empty() && self.wide.is_empty()
    }

    /// How many ids there are, at most `u64::MAX`.
    pub fn len(&self) -> u64 {
        let wide = self.wide.iter().map(|(lo, hi)| lo.abs_diff(*hi).saturating_add(1));
        wide.fold(self.narrow.len(), u64::saturating_add)
    }

    /// What the set costs to keep: ids one by one, and wide ranges, each as one.
    pub fn weight(&self) -> u64 {
        self.narrow.len() + self.wide.len() as u64
    }

    /// How many wide ranges there are.
    pub fn wide(&self) -> usize {
        self.wide.len()
    }

    /// Whether `id` is in the set.
    pub fn contains(&self, id: i64) -> bool {
        self.narrow.contains(key(id)) || self.wide_at(id).is_some()
    }

    fn wide_at(&self, id: i64) -> Option<(i64, i64)> {
        self.wide.range(..=id).next_back().map(|(&lo, &hi)| (lo, hi)).filter(|&(_, hi)| id <= hi)
    }

    /// The range that ends with `id` in which it lies, or a part of that.
    pub fn ranges_to(&self, id: i64) -> Option<(i64, i64)> {
        let wide = self.wide_at(id).map(|(lo, _)| (lo, id));
        wide.or_else(|| self.narrow.contains(key(id)).then_some((id, id)))
    }

    /// The ids of an inclusive range.
    pub fn within(&self, lo: i64, hi: i64) -> Self {
        let ranges = self.ranges_from(lo).take_while(|range| range.0 <= hi);
        ranges.map(|(start, end)| (start.max(lo), end.min(hi))).collect()
    }

    /// Adds one id.
    pub fn insert(&mut self, id: i64) {
        if self.wide_at(id).is_none() {
            self.narrow.insert(key(id));
        }
    }

    /// Adds an inclusive range.
    pub fn insert_range(&mut self, lo: i64, hi: i64) {
        self.remove_range(lo, hi);
        if lo.abs_diff(hi) >= WIDE - 1 {
            self.wide.insert(lo, hi);
        } else {
            self.narrow.insert_range(key(lo)..=key(hi));
        }
    }

    /// Takes one id out; says whether it was there.
    pub fn remove(&mut self, id: i64) -> bool {
        if self.narrow.remove(key(id)) {
            return true;
        }
        let is_there = self.wide_at(id).is_some();
        if is_there {
            self.remove_range(id, id);
        }
        is_there
    }

    /// Takes an inclusive range out.
    pub fn remove_range(&mut self, lo: i64, hi: i64) {
        self.narrow.remove_range(key(lo)..=key(hi));
        let first = self.wide_at(lo).map_or(lo, |(first, _)| first);
        let hit: Vec<(i64, i64)> = self.wide.range(first..=hi).map(|(&a, &b)| (a, b)).collect();
        for (a, b) in hit {
            self.wide.remove(&a);
            if let Some(end) = lo.checked_sub(1).filter(|&end| a <= end) {
                self.insert_range(a, end);
            }
            if let Some(start) = hi.checked_add(1).filter(|&start| start <= b) {
                self.insert_range(start, b);
            }
        }
    }

    /// Adds all of another set.
    pub fn extend(&mut self, other: Self) {
        if self.wide.is_empty() && other.wide.is_empty() {
            self.narrow |= other.narrow;
        } else {
            other.ranges().for_each(|(lo, hi)| self.insert_range(lo, hi));
        }
    }

    /// Takes the smallest ids out, about so many by [`IdSet::weight`]; returns how many went by weight.
    pub fn drop_smallest(&mut self, weight: u64) -> u64 {
        let (mut left, mut end) = (weight, None);
        for (lo, hi) in self.ranges() {
            if left == 0 {
                break;
            }
            // Of a run of single ids, as many as are too many; a wide range as a whole.
            let ids = lo.abs_diff(hi).saturating_add(1);
            let (taken, last) =
                if ids < WIDE { (ids.min(left), lo + (ids.min(left) - 1).cast_signed()) } else { (1, hi) };
            (left, end) = (left - taken, Some(last));
        }
        end.iter().for_each(|&end| self.remove_range(i64::MIN, end));
        weight - left
    }

    /// The inclusive ranges in order. Neighbours that are kept in different ways can touch.
    pub fn ranges(&self) -> impl Iterator<Item = (i64, i64)> {
        self.ranges_from(i64::MIN)
    }

    /// The ranges that have an id from `start` on, in order; the first one can begin before.
    pub fn ranges_from(&self, start: i64) -> impl Iterator<Item = (i64, i64)> {
        let mut narrow = self.narrow.iter();
        narrow.advance_to(key(start));
        let mut runs = Runs(narrow.map(id).peekable()).peekable();
        let first = self.wide_at(start).map_or(start, |(lo, _)| lo);
        let mut wide = self.wide.range(first..).map(|(&lo, &hi)| (lo, hi)).peekable();
        std::iter::from_fn(move || match (runs.peek(), wide.peek()) {
            (Some(run), Some(range)) if run.0 < range.0 => runs.next(),
            (Some(_), None) => runs.next(),
            _ => wide.next(),
        })
    }
}

/// Runs of successive ids.
struct Runs<I: Iterator<Item = i64>>(std::iter::Peekable<I>);

impl<I: Iterator<Item = i64>> Iterator for Runs<I> {
    type Item = (i64, i64);

    fn next(&mut self) -> Option<(i64, i64)> {
        let lo = self.0.next()?;
        let mut hi = lo;
        while let Some(next) = self.0.next_if(|&next| Some(next) == hi.checked_add(1)) {
            hi = next;
        }
        Some((lo, hi))
    }
}

impl FromIterator<(i64, i64)> for IdSet {
    fn from_iter<I: IntoIterator<Item = (i64, i64)>>(ranges: I) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|(lo, hi)| set.insert_range(lo, hi));
        set
    }
}

impl From<IdSet> for Saved {
    fn from(mut set: IdSet) -> Self {
        set.narrow.optimize();
        let mut bytes = Vec::with_capacity(set.narrow.serialized_size());
        // Writing to memory cannot fail.
        let _ = set.narrow.serialize_into(&mut bytes);
        Self { narrow: encode_block(&bytes), wide: set.wide.into_iter().collect() }
    }
}

impl TryFrom<Saved> for IdSet {
    type Error = String;

    fn try_from(saved: Saved) -> Result<Self, String> {
        let bytes = decode_block(&saved.narrow).map_err(|e| format!("ids: {e}"))?;
        let narrow = RoaringTreemap::deserialize_from(&bytes[..]).map_err(|e| format!("ids: {e}"))?;
        let mut set = Self { narrow, wide: BTreeMap::new() };
        saved.wide.into_iter().filter(|(lo, hi)| lo <= hi).for_each(|(lo, hi)| set.insert_range(lo, hi));
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ends_of_the_id_space_do_not_overflow() {
        let mut set: IdSet = [(i64::MIN, i64::MAX)].into_iter().collect();
        assert_eq!(set.len(), u64::MAX);
        assert!([i64::MIN, 7, i64::MAX].into_iter().all(|id| set.remove(id)));
        let ranges: Vec<_> = set.ranges().collect();
        assert_eq!(ranges, [(i64::MIN + 1, 6), (8, i64::MAX - 1)]);
        assert!(!set.remove(7) && !set.contains(i64::MAX));
    }

    #[test]
    fn a_million_scattered_ids_take_little_memory() {
        let mut set = IdSet::default();
        (0..1_000_000).for_each(|i| set.insert(2 * i));
        let saved = serde_json::to_string(&set).unwrap();
        assert!(saved.len() < 1_000_000, "{} bytes", saved.len());
        assert_eq!(serde_json::from_str::<IdSet>(&saved).unwrap(), set);
        assert_eq!(set.drop_smallest(10), 10);
        assert_eq!((set.len(), set.ranges().next()), (999_990, Some((20, 20))));
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((0..3, 0..400_i64, 0..150_i64), 1..40)) {
            let (mut set, mut model) = (IdSet::default(), BTreeSet::new());
            for (what, lo, more) in steps {
                let hi = lo + more;
                match what {
                    0 => { set.insert_range(lo, hi); model.extend(lo..=hi); }
                    1 => { set.remove_range(lo, hi); model.retain(|id| !(lo..=hi).contains(id)); }
                    _ => { prop_assert_eq!(set.remove(lo), model.remove(&lo)); }
                }
                let ids: Vec<i64> = set.ranges().flat_map(|(lo, hi)| lo..=hi).collect();
                prop_assert_eq!(&ids, &model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(set.len(), model.len() as u64);
                let after: BTreeSet<i64> = set.ranges_from(lo).flat_map(|(a, b)| a.max(lo)..=b).collect();
                prop_assert!(after.iter().eq(model.range(lo..)));
            }
            let saved = serde_json::to_string(&set).unwrap();
            prop_assert!(serde_json::from_str::<IdSet>(&saved).unwrap().ranges().eq(set.ranges()));
        }
    }
}
