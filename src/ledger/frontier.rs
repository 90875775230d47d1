//! Which rows next: the high watermark, the open ids, the missing ones, and counted ones that may come again.
//!
//! An id leaves this only by being counted. An answer that does not show it ends nothing: an open id that is not there
//! is missing from then on.

use serde::{Deserialize, Serialize};

use super::id_set::IdSet;
use super::missing::{Found, Missing, Moment, Turn};

/// Between two ids that are looked for, so many others cost less to pass than a new descent into an index.
const SLACK: u64 = 6;
/// A range that is looked into holds at most about so many ids.
const LARGEST: u64 = 50_000;
/// More rows than this are not looked at together with the tail.
const MOST_AT_ONCE: usize = 20_000;

/// What is known of the ids of one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Frontier {
    /// The largest id seen.
    high: Option<i64>,
    /// Seen, not done.
    open: IdSet,
    /// Below [`Frontier::high`], not seen.
    missing: Missing,
    /// Counted ids that the database may hand out again, after a loss or a reset.
    recycled: IdSet,
    /// A row under a recycled id that finished by then (seconds since the epoch, by the clock that the rows are stamped
    /// with) has been counted.
    recycled_until: f64,
    /// While ids can come again: those that were counted since that began. The others are in doubt.
    #[serde(default)]
    since: Option<IdSet>,
    /// Those that were counted since something last spoke for that.
    #[serde(default)]
    latest: IdSet,
}

/// What to look for before rows are read: which ids of these ranges are there, and which of them are done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watch {
    /// Inclusive, disjoint, in order. They hold ids that have been counted, too.
    pub ranges: Vec<(i64, i64)>,
    /// The same without those.
    exact: Vec<(i64, i64)>,
    turn: Turn,
}

/// The ids of a [`Watch`] that are there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sighting {
    /// Open before, and still open, in order.
    pub still_open: Vec<i64>,
    /// Open ids that are not there, in order.
    pub absent: Vec<i64>,
    /// Ids of rows that are to be read, in order.
    pub found: Vec<i64>,
    turn: Turn,
}

/// The first and the last id of a range, and the time (seconds since the epoch) by which a row in it has been counted
/// before, if it may have been.
pub type Range = (i64, i64, Option<f64>);

/// Which rows to read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadPlan {
    /// Disjoint, in order; the last one is the tail.
    pub ranges: Vec<Range>,
    /// Which ids of each range are meant, as the bits of `bytea` from the first id on; all of a range without. Empty if all
    /// of all ranges are.
    pub masks: Vec<Option<Vec<u8>>>,
    /// At most so many rows are read of each range.
    pub limit: usize,
    /// Rows that could not be read, in order: the answer lacks them.
    pub failing: Vec<i64>,
    /// True if the answer ends early.
    pub is_partial: bool,
}

impl ReadPlan {
    /// A plan for all rows above an id, or for all there are.
    pub fn above(high: Option<i64>, limit: usize) -> Self {
        let tail = high.map_or(Some(i64::MIN), |high| high.checked_add(1));
        Self { ranges: tail.map(|lo| (lo, i64::MAX, None)).into_iter().collect(), limit, ..Self::default() }
    }

    /// Whether a range came back full (`rows` are in order of their ids), so that there may be more.
    pub fn is_cut(&self, rows: &[(i64, bool)]) -> bool {
        let within = |lo, hi| rows.partition_point(|row| row.0 <= hi) - rows.partition_point(|row| row.0 < lo);
        self.ranges.iter().filter(|range| range.0 < range.1).any(|&(lo, hi, _)| within(lo, hi) >= self.limit)
    }
}

impl Frontier {
    /// The largest id seen.
    pub fn high(&self) -> Option<i64> {
        self.high
    }

    /// The ids of rows seen and not done.
    pub fn open(&self) -> &IdSet {
        &self.open
    }

    /// The ids below the largest that have not been seen.
    pub fn missing(&self) -> &Missing {
        &self.missing
    }

    /// Whether a row under this id, if there was one, has been counted.
    pub fn is_counted(&self, id: i64) -> bool {
        self.high.is_some_and(|high| id <= high) && !self.open.contains(id) && !self.missing.contains(id)
    }

    /// The inclusive ranges of ids that are not counted, below the largest one, in order.
    pub fn uncounted(&self) -> Vec<(i64, i64)> {
        let mut ranges: Vec<_> = self.missing.ranges().chain(self.open.ranges()).collect();
        ranges.sort_unstable();
        ranges
    }

    /// What to look for now; ids above `handed_out` are new or will be. Each range takes a descent into the indexes of so
    /// many `tables`: the partitions of one.
    pub fn watch(&self, now: i64, gap_watch: i64, handed_out: Option<i64>, tables: u64) -> Watch {
        let (mut due, turn) = self.missing.due(now, gap_watch, handed_out);
        due.extend(self.open.ranges());
        due.extend(self.recycled.ranges());
        due.sort_unstable();
        due.dedup();
        Watch { ranges: coalesce(&due, SLACK * tables.max(1)), exact: due, turn }
    }

    /// Sorts what a watch found, `(id, whether it is done)`.
    ///
    /// # Errors
    /// Fails with an id that is there twice.
    pub fn sort(&self, watch: &Watch, mut seen: Vec<(i64, bool)>) -> Result<Sighting, i64> {
        seen.sort_unstable();
        if let Some(pair) = seen.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(pair[0].0);
        }
        let mut sighting = Sighting { turn: watch.turn, ..Sighting::default() };
        let mut open = self.open.ranges().flat_map(|(lo, hi)| lo..=hi).peekable();
        for (id, done) in seen {
            while let Some(absent) = open.next_if(|&open| open < id) {
                sighting.absent.push(absent);
            }
            match open.next_if_eq(&id) {
                Some(_) if !done => sighting.still_open.push(id),
                Some(_) => sighting.found.push(id),
                None if self.missing.contains(id) || self.recycled.contains(id) => sighting.found.push(id),
                None => {}
            }
        }
        sighting.absent.extend(open);
        Ok(sighting)
    }

    /// Which rows to read: those that were found, and the tail.
    pub fn plan(&self, found: &[i64], limit: usize) -> ReadPlan {
        let mut ranges: Vec<Range> = Vec::new();
        for &id in found.iter().take(limit) {
            let is_new = self.missing.contains(id) || self.open.contains(id);
            let until = (!is_new && self.recycled.contains(id)).then_some(self.recycled_until);
            match ranges.last_mut() {
                Some((_, hi, same)) if hi.checked_add(1) == Some(id) && *same == until => *hi = id,
                _ => ranges.push((id, id, until)),
            }
        }
        ranges.extend(ReadPlan::above(self.high, limit).ranges);
        ReadPlan { ranges, limit, ..ReadPlan::default() }
    }

    /// A plan for all that a poll asks for, in one statement: counted rows, by their ids; what of the `ranges` of a watch is
    /// not counted; the tail. The rows of the first come as known ones.
    ///
    /// `None` if that could be more rows than one statement should read, or if counted ids may come again: then it goes step by step.
    pub fn plan_at_once(
        &self,
        counted: &[i64],
        watch: &Watch,
        ranges: &[(i64, i64)],
        limit: usize,
    ) -> Option<ReadPlan> {
        if !self.recycled.is_empty() {
            return None;
        }
        let mut plan = ReadPlan { limit, ..ReadPlan::default() };
        plan.ranges.extend(counted.iter().map(|&id| (id, id, Some(f64::INFINITY))));
        plan.masks.resize(plan.ranges.len(), None);
        let mut exact = &watch.exact[..];
        let mut rows = 0;
        for &(lo, hi) in ranges {
            exact = &exact[exact.partition_point(|range| range.1 < lo)..];
            let inside = &exact[..exact.partition_point(|range| range.0 <= hi)];
            if inside.is_empty() {
                continue;
            }
            let is_whole = inside.len() == 1 && inside[0].0 <= lo && hi <= inside[0].1;
            if !is_whole && lo.abs_diff(hi) > 2 * LARGEST {
                return None;
            }
            let ids = || inside.iter().map(|range| 1 + range.0.max(lo).abs_diff(range.1.min(hi))).sum::<u64>();
            // Hardly any id of a wide range has a row: the limit is for one in which many have.
            rows += if lo.abs_diff(hi) < LARGEST { ids() } else { 1 };
            if rows > limit.min(MOST_AT_ONCE) as u64 {
                return None;
            }
            plan.ranges.push((lo, hi, None));
            plan.masks.push((!is_whole).then(|| mask(lo, hi, inside)));
        }
        plan.ranges.extend(ReadPlan::above(self.high, limit).ranges);
        plan.masks.resize(plan.ranges.len(), None);
        Some(plan)
    }

    /// A plan for every row that is not counted, in one go.
    pub fn plan_all(&self, limit: usize) -> ReadPlan {
        let uncounted = self.uncounted().into_iter().map(|(lo, hi)| (lo, hi, None));
        let ranges = uncounted.chain(ReadPlan::above(self.high, limit).ranges).collect();
        ReadPlan { ranges, limit, ..ReadPlan::default() }
    }

    /// Takes what a watch showed: open ids that are not there are missing from now on.
    pub fn looked(&mut self, sighting: &Sighting, at: Moment) {
        let mut absent = IdSet::default();
        for &id in &sighting.absent {
            self.open.remove(id);
            absent.insert(id);
        }
        self.missing.add(absent, at);
        self.missing.looked(sighting.turn);
    }

    /// Takes rows that were read: `(id, whether it is done)`, in order. Returns how many of them had been retired.
    pub fn take(&mut self, rows: &[(i64, bool)], at: Moment) -> u64 {
        let (mut retired, mut skipped) = (0, IdSet::default());
        for &(id, done) in rows {
            let next = self.high.map_or(i64::MIN, |high| high.saturating_add(1));
            if self.high.is_none_or(|high| id > high) {
                if next < id {
                    skipped.insert_range(next, id - 1);
                }
                self.high = Some(id);
            } else {
                retired += u64::from(self.missing.take(id, at) == Found::Retired);
                self.recycled.remove(id);
            }
            if done {
                self.open.remove(id);
                self.since_mut().for_each(|since| since.insert(id));
            } else {
                self.open.insert(id);
            }
        }
        self.missing.add(skipped, at);
        retired
    }

    /// Passes rows that are there and cannot be read: they are missing from now on.
    pub fn skip(&mut self, ids: &[i64], at: Moment) {
        let mut missing = IdSet::default();
        for &id in ids.iter().filter(|&&id| self.high.is_none_or(|high| id > high)) {
            missing.insert_range(self.high.map_or(i64::MIN, |high| high.saturating_add(1)), id);
        }
        if let Some(&last) = ids.last().filter(|&&id| self.high.is_none_or(|high| id > high)) {
            self.high = Some(last);
        }
        self.missing.add(missing, at);
    }

    /// Lets time pass.
    pub fn age(&mut self, at: Moment, gap_watch: i64) {
        self.missing.age(at, gap_watch);
    }

    /// The transaction ids are those of another history.
    pub fn restart(&mut self, at: Moment) {
        self.missing.restart(at);
    }

    /// From now on rows under the ids that have been counted can be others.
    pub fn doubt(&mut self) {
        self.since = Some(self.latest.clone());
    }

    /// What has been counted until now will be in doubt if [`Frontier::doubt`] follows.
    pub fn doubt_again(&mut self) {
        self.latest = IdSet::default();
        self.since.get_or_insert_default();
    }

    fn since_mut(&mut self) -> impl Iterator<Item = &mut IdSet> {
        let is_on = self.since.is_some();
        self.since.iter_mut().chain(is_on.then_some(&mut self.latest))
    }

    /// Rows under the ids that have been counted are in place, or never come.
    pub fn trust(&mut self) {
        (self.since, self.latest) = (None, IdSet::default());
        self.keep(i64::MIN, i64::MAX);
    }

    /// The ids of a range that have been counted, and not since ids came again.
    fn doubtful(&self, lo: i64, hi: i64) -> IdSet {
        let hi = self.high.map_or(i64::MIN, |high| hi.min(high));
        let mut ids: IdSet = if lo <= hi { [(lo, hi)].into_iter().collect() } else { IdSet::default() };
        let since = self.since.iter().flat_map(|since| since.ranges_from(lo).take_while(|range| range.0 <= hi));
        since.for_each(|(lo, hi)| ids.remove_range(lo, hi));
        for (lo, hi) in self.missing.ranges_within(lo, hi) {
            ids.remove_range(lo, hi);
        }
        let open = self.open.ranges_from(lo).take_while(|range| range.0 <= hi);
        open.for_each(|(lo, hi)| ids.remove_range(lo, hi));
        ids
    }

    /// Forgets which ids of a range had been counted before ids came again, and returns them: rows under them are new.
    pub fn forget(&mut self, lo: i64, hi: i64, at: Moment) -> IdSet {
        let ids = self.doubtful(lo, hi);
        ids.ranges().for_each(|(lo, hi)| self.recycled.remove_range(lo, hi));
        self.missing.add(ids.clone(), at);
        // What is missing at the end is not there yet.
        let mut end = self.high;
        while let Some((lo, _)) = end.and_then(|end| self.missing.range_at(end)) {
            end = lo.checked_sub(1);
        }
        if end < self.high {
            self.missing.remove_range(end.map_or(i64::MIN, |end| end + 1), i64::MAX);
            self.high = end;
        }
        ids
    }

    /// Rows under these ids have been counted, after all.
    pub fn take_counted(&mut self, ids: &IdSet, at: Moment) {
        for (lo, hi) in ids.ranges() {
            let next = self.high.map_or(i64::MIN, |high| high.saturating_add(1));
            if self.high.is_none_or(|high| lo > high) && next < lo {
                self.missing.add([(next, lo - 1)].into_iter().collect(), at);
            }
            self.missing.remove_range(lo, hi);
            self.open.remove_range(lo, hi);
            self.recycled.remove_range(lo, hi);
            self.since_mut().for_each(|since| since.insert_range(lo, hi));
            self.high = self.high.max(Some(hi));
        }
    }

    /// Ids of a range that are in doubt may be handed out again. Rows that finished by `until` are the old ones.
    pub fn recycle(&mut self, lo: i64, hi: i64, until: f64) {
        let ids = self.doubtful(lo, hi);
        if !ids.is_empty() {
            ids.ranges().for_each(|(lo, hi)| self.recycled.insert_range(lo, hi));
            self.recycled_until = self.recycled_until.max(until);
        }
    }

    /// Whether any counted ids may be handed out again.
    pub fn is_recycling(&self) -> bool {
        !self.recycled.is_empty()
    }

    /// The rows of a range are in place: their ids do not come again.
    pub fn keep(&mut self, lo: i64, hi: i64) {
        self.recycled.remove_range(lo, hi);
        if self.recycled.is_empty() {
            self.recycled_until = 0.0;
        }
    }

    /// A frontier as an earlier version of the state had it.
    pub fn restored(high: Option<i64>, open: IdSet, missing: IdSet, at: Moment) -> Self {
        let mut frontier = Self { high, open, ..Self::default() };
        frontier.missing.add(missing, at);
        frontier
    }
}

/// The bits of the ids of a range that lie in others, in the order of `get_bit`.
fn mask(lo: i64, hi: i64, inside: &[(i64, i64)]) -> Vec<u8> {
    let mut bits = vec![0; (lo.abs_diff(hi) / 8 + 1) as usize];
    for id in inside.iter().flat_map(|range| range.0.max(lo)..=range.1.min(hi)) {
        let bit = lo.abs_diff(id);
        bits[(bit / 8) as usize] |= 1 << (bit % 8);
    }
    bits
}

/// Joins ranges, which are in order, where it costs less to pass the ids between them. The result is in order.
fn coalesce(ranges: &[(i64, i64)], slack: u64) -> Vec<(i64, i64)> {
    let mut joined: Vec<(i64, i64)> = Vec::with_capacity(ranges.len().min(1_024));
    for &(lo, hi) in ranges {
        match joined.last_mut() {
            Some((start, end)) if lo <= *end || (lo.abs_diff(*end) <= slack && start.abs_diff(hi) < LARGEST) => {
                *end = hi.max(*end);
            }
            _ => joined.push((lo, hi)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(now: i64) -> Moment {
        Moment { now, xmin: now, xmax: now + 1 }
    }

    #[test]
    fn ranges_are_joined_where_that_is_cheaper() {
        assert_eq!(coalesce(&[(1, 1), (3, 3), (8, 10), (9, 12), (20, 20)], SLACK), [(1, 12), (20, 20)]);
        let many: Vec<_> = (0..100_000).map(|i| (2 * i, 2 * i)).collect();
        assert_eq!(coalesce(&many, SLACK).len(), 4);
    }

    #[test]
    fn an_open_id_that_is_not_there_is_missing_until_it_comes() {
        let mut frontier = Frontier::default();
        frontier.take(&[(1, false), (2, false), (3, true)], at(0));
        let watch = frontier.watch(0, 1, None, 1);
        let sighting = frontier.sort(&watch, vec![(2, false)]).unwrap();
        assert_eq!((&sighting.absent[..], &sighting.still_open[..]), (&[1][..], &[2][..]));
        frontier.looked(&sighting, at(1));
        assert!(frontier.missing().contains(1) && !frontier.open().contains(1) && !frontier.is_counted(1));
        let watch = frontier.watch(1, 1, None, 1);
        let sighting = frontier.sort(&watch, vec![(1, true), (2, true), (3, true)]).unwrap();
        assert_eq!(sighting.found, [1, 2], "3 has been counted");
        assert_eq!(frontier.plan(&sighting.found, 10).ranges, [(1, 2, None), (4, i64::MAX, None)]);
        assert_eq!(frontier.sort(&watch, vec![(1, true), (1, true)]), Err(1));
    }

    #[test]
    fn a_plan_for_all_at_once_means_what_is_not_counted() {
        let mut frontier = Frontier::default();
        let rows: Vec<_> = (1..=30).filter(|id| ![9, 12].contains(id)).map(|id| (id, id != 3 && id != 10)).collect();
        frontier.take(&rows, at(0));
        let watch = frontier.watch(0, 1, None, 1);
        assert_eq!(watch.ranges, [(i64::MIN, 0), (3, 12)]);
        let plan = frontier.plan_at_once(&[30, 1], &watch, &watch.ranges, 10).unwrap();
        let known = |id| (id, id, Some(f64::INFINITY));
        assert_eq!(plan.ranges, [known(30), known(1), (i64::MIN, 0, None), (3, 12, None), (31, i64::MAX, None)]);
        // 3; 9 and 10, 12: bits 0; 6, 7, 9.
        assert_eq!(plan.masks, [None, None, None, Some(vec![0b1100_0001, 0b10]), None]);
        // A row that cannot be read is cut out.
        let plan = frontier.plan_at_once(&[], &watch, &[(3, 9), (11, 12)], 10).unwrap();
        assert_eq!(plan.masks, [Some(vec![0b100_0001]), Some(vec![0b10]), None]);
        let plan = frontier.plan_at_once(&[], &watch, &[(10, 10)], 10).unwrap();
        assert_eq!(plan.masks, [None, None], "all of it is open");
        assert_eq!(frontier.plan_at_once(&[], &watch, &watch.ranges, 4), None, "4 ids and the range below them all");
        frontier.recycle(5, 5, 1.0);
        assert_eq!(frontier.plan_at_once(&[], &watch, &[], 10), None);
    }

    #[test]
    fn a_row_that_cannot_be_read_is_a_gap_also_at_the_end() {
        let mut frontier = Frontier::default();
        frontier.skip(&[4], at(0));
        assert!(frontier.missing().contains(4) && !frontier.is_counted(4) && frontier.high() == Some(4));
        frontier.take(&[(6, true)], at(0));
        frontier.skip(&[5, 8, 9], at(0));
        assert_eq!(frontier.uncounted(), [(i64::MIN, 4), (5, 5), (7, 9)]);
        assert_eq!(frontier.plan(&[], 10).ranges, [(10, i64::MAX, None)]);
    }

    #[test]
    fn a_recycled_id_has_a_time_and_a_forgotten_one_has_none() {
        let mut frontier = Frontier::default();
        let rows: Vec<_> = (1..=9).map(|id| (id, id != 5)).collect();
        frontier.take(&rows, at(0));
        frontier.doubt();
        frontier.recycle(3, 7, 50.0);
        frontier.forget(3, 3, at(0));
        assert_eq!(
            frontier.plan(&[3, 4, 5], 10).ranges,
            [(3, 3, None), (4, 4, Some(50.0)), (5, 5, None), (10, i64::MAX, None)]
        );
        frontier.take(&[(4, true)], at(0));
        assert_eq!(frontier.plan(&[6], 10).ranges[0], (6, 6, Some(50.0)));
        frontier.keep(0, 9);
        assert_eq!(frontier.plan(&[6], 10).ranges[0], (6, 6, None));
        frontier.forget(4, i64::MAX, at(0));
        assert_eq!((frontier.high(), frontier.open().len()), (Some(5), 1), "an open row was not counted");
        assert_eq!(frontier.uncounted(), [(i64::MIN, 0), (3, 3), (5, 5)]);
    }
}
