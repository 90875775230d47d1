//! Ranges of ids that no poll has seen: rolled back, not yet committed, or skipped.
//!
//! Kept as ranges, so that one explicit id of 10^12 makes one gap and not 10^12.

use serde::{Deserialize, Serialize};

/// A gap wider than this is a jump of the ids (an explicit id, `setval`), not a few transactions that rolled back.
/// The sequence may go on inside it, so it is watched for ever; an empty range costs one index descent.
pub const WIDE: u64 = 10_000;
/// More gaps than this are not kept for one source.
pub const MAX_GAPS: usize = 10_000;
/// A gap is probed at every poll until it is this old, in milliseconds.
pub const YOUNG_MS: i64 = 600_000;
/// An old gap is probed again when its age has grown by one part in this many.
const BACKOFF: i64 = 16;

/// An inclusive range of ids not yet seen. Times are milliseconds since the epoch, by the database's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// First id of the range.
    pub lo: i64,
    /// Last id of the range.
    pub hi: i64,
    /// When a poll first missed these ids.
    pub since: i64,
    /// When a poll last looked for them.
    pub probed: i64,
}

impl Gap {
    /// Whether the range is too wide to be a few rolled back transactions.
    pub fn is_wide(&self) -> bool {
        self.lo.abs_diff(self.hi) >= WIDE
    }

    /// Whether a poll at `now` should look for these ids.
    fn is_due(&self, now: i64) -> bool {
        let age = now.saturating_sub(self.since);
        self.is_wide() || age < YOUNG_MS || now.saturating_sub(self.probed) >= age / BACKOFF
    }
}

/// The gaps of one source, disjoint and in order of id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gaps(Vec<Gap>);

impl Gaps {
    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges in order of id.
    pub fn iter(&self) -> impl Iterator<Item = &Gap> {
        self.0.iter()
    }

    /// Whether `id` has not been seen although a larger one has.
    pub fn contains(&self, id: i64) -> bool {
        self.position(id).is_some()
    }

    fn position(&self, id: i64) -> Option<usize> {
        let i = self.0.partition_point(|g| g.hi < id);
        (i < self.0.len() && self.0[i].lo <= id).then_some(i)
    }

    /// The ranges that a poll at `now` looks into.
    pub fn due(&self, now: i64) -> Vec<(i64, i64)> {
        self.0.iter().filter(|g| g.is_due(now)).map(|g| (g.lo, g.hi)).collect()
    }

    /// Adds a range above all others.
    pub fn push(&mut self, lo: i64, hi: i64, now: i64) {
        debug_assert!(lo <= hi && self.0.last().is_none_or(|g| g.hi < lo));
        self.0.push(Gap { lo, hi, since: now, probed: now });
    }

    /// Adds ranges that are disjoint from all others.
    pub fn extend(&mut self, gaps: Vec<Gap>) {
        self.0.extend(gaps);
        self.0.sort_unstable_by_key(|gap| gap.lo);
    }

    /// Takes `seen` (sorted) out of the gaps, and notes that the ranges in `probed` (sorted) were looked into at `now`,
    /// each for at most `limit` rows.
    ///
    /// What is left of a wide gap in which ids were found is where the sequence goes on, and what is left of one cut at
    /// the limit has not been looked into: both start their life again.
    pub fn take(&mut self, seen: &[i64], probed: &[(i64, i64)], limit: usize, now: i64) {
        if probed.is_empty() {
            return;
        }
        let mut kept = Vec::with_capacity(self.0.len());
        for gap in self.0.drain(..) {
            if probed.binary_search(&(gap.lo, gap.hi)).is_err() {
                kept.push(gap);
                continue;
            }
            let inside = &seen[seen.partition_point(|&id| id < gap.lo)..seen.partition_point(|&id| id <= gap.hi)];
            let renewed = !inside.is_empty() && (gap.is_wide() || inside.len() >= limit);
            let since = if renewed { now } else { gap.since };
            let mut lo = Some(gap.lo);
            for &id in inside {
                kept.extend(lo.filter(|&lo| lo < id).map(|lo| Gap { lo, hi: id - 1, since, probed: now }));
                lo = id.checked_add(1);
            }
            kept.extend(lo.filter(|&lo| lo <= gap.hi).map(|lo| Gap { lo, hi: gap.hi, since, probed: now }));
        }
        self.0 = kept;
    }

    /// Gives up narrow gaps first missed before `oldest`, and returns them.
    pub fn expire(&mut self, oldest: i64) -> Vec<Gap> {
        let (given_up, kept) = self.0.iter().partition(|g| !g.is_wide() && g.since < oldest);
        self.0 = kept;
        given_up
    }

    /// Gives up the oldest narrow gaps (then the oldest of any width) above [`MAX_GAPS`], and returns them.
    pub fn shrink(&mut self) -> Vec<Gap> {
        let excess = self.0.len().saturating_sub(MAX_GAPS);
        if excess == 0 {
            return Vec::new();
        }
        let mut order: Vec<usize> = (0..self.0.len()).collect();
        order.sort_by_key(|&i| (self.0[i].is_wide(), self.0[i].since, self.0[i].lo));
        let mut drop = vec![false; self.0.len()];
        order[..excess].iter().for_each(|&i| drop[i] = true);
        let mut flags = drop.into_iter();
        let (given_up, kept) = self.0.iter().partition(|_| flags.next().unwrap_or(false));
        self.0 = kept;
        given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(ranges: &[(i64, i64)]) -> Gaps {
        let mut gaps = Gaps::default();
        ranges.iter().for_each(|&(lo, hi)| gaps.push(lo, hi, 0));
        gaps
    }

    fn ranges(gaps: &Gaps) -> Vec<(i64, i64)> {
        gaps.iter().map(|g| (g.lo, g.hi)).collect()
    }

    #[test]
    fn an_id_found_splits_its_gap() {
        let mut g = gaps(&[(1, 9), (20, 20)]);
        g.take(&[3, 9, 20], &[(1, 9), (20, 20)], 100, 5);
        assert_eq!(ranges(&g), [(1, 2), (4, 8)]);
    }

    #[test]
    fn the_ends_of_the_id_space_do_not_overflow() {
        let mut g = gaps(&[(i64::MIN, i64::MAX)]);
        g.take(&[i64::MIN, 7, i64::MAX], &[(i64::MIN, i64::MAX)], 100, 5);
        assert_eq!(ranges(&g), [(i64::MIN + 1, 6), (8, i64::MAX - 1)]);
    }

    #[test]
    fn young_gaps_are_probed_always_and_old_ones_ever_more_rarely() {
        let g = Gap { lo: 1, hi: 2, since: 0, probed: 0 };
        assert!(g.is_due(YOUNG_MS - 1));
        let day = 86_400_000;
        let (mut now, mut probes, mut gap) = (0, 0, g);
        while now < day {
            now += 15_000;
            if gap.is_due(now) {
                gap.probed = now;
                probes += 1;
            }
        }
        assert!((40..=150).contains(&probes), "{probes} probes in a day");
    }

    #[test]
    fn wide_gaps_outlive_narrow_ones() {
        let mut g = gaps(&[(1, 1_000_000), (2_000_000, 2_000_001)]);
        assert_eq!(g.expire(1).len(), 1);
        assert_eq!(ranges(&g), [(1, 1_000_000)]);
        let mut many = Gaps::default();
        many.push(-100_000, 0, 0);
        (1..=MAX_GAPS as i64).for_each(|i| many.push(2 * i, 2 * i, 0));
        let gone = many.shrink();
        assert_eq!((gone.len(), gone[0].lo, many.len()), (1, 2, MAX_GAPS));
    }
}
