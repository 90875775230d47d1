//! What has been counted: a pure state machine that no input can make count a row twice or fall.
//!
//! For every source the ledger keeps totals per series, `high` (the largest id seen), the [`gaps`] (ids below `high`
//! that no poll has seen) and the open ids (seen, not done). A poll asks the database for exactly what [`Ledger::probe`]
//! names, and [`Ledger::apply`] takes the answer. A row is counted the first time it is seen done; from then on its id
//! is above `high` never again, in no gap and not open, so it is never asked for again: nothing counts twice, nothing
//! can fall, and edits and deletes of counted rows mean nothing. An id that a snapshot could not see yet stays in a
//! gap, whatever the order in which transactions commit.
//!
//! Gaps that are given up after a while stay on a list that the self-check looks through from time to time: what turns
//! up there after all is counted, late, and reported as drift. When the database starts its ids again ([`rewind`]) or is
//! another one, everything is read once more, and no total falls.

pub mod births;
pub mod gaps;
#[cfg(test)]
mod model;
pub mod rewind;
pub mod totals;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use births::Birth;
use gaps::{Gap, Gaps};
use rewind::Known;
pub use totals::{Cell, Labels, Set, Sets};

/// The value of every identifying label of the set into which sets above the limit are folded.
pub const OVERFLOW: &str = "__overflow__";
/// Label values are cut to this many bytes.
pub const MAX_LABEL_BYTES: usize = 200;

/// How many of each thing the rows of a source carry, and the series that exist at 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    /// Whole-number measures per group of rows: rows, and the buckets and counts of histograms.
    pub counts: usize,
    /// Sums per group of rows.
    pub sums: usize,
    /// Value columns, each with a number of rejected values.
    pub values: usize,
    /// The combinations of the other labels that every set has from its birth.
    pub enumerated: Vec<Labels>,
    /// The largest number of sets; later ones are folded into [`OVERFLOW`].
    pub limit: usize,
}

/// What a poll asks for: everything above `above`, the ranges, and the single ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probe {
    /// Rows with larger ids are new; `None` asks for every id there is.
    pub above: Option<i64>,
    /// The gaps to look into, inclusive, in order.
    pub gaps: Vec<(i64, i64)>,
    /// The open ids, in order.
    pub open: Vec<i64>,
    /// Ranges given up before, which the self-check looks into, inclusive, in order.
    pub audit: Vec<(i64, i64)>,
    /// Which rows have been counted before, under ids of the past.
    pub known: Option<Known>,
    /// At most this many rows are read of the tail and of each gap.
    pub limit: usize,
}

impl Probe {
    /// The same as inclusive ranges of ids, disjoint, the tail last.
    pub fn ranges(&self) -> Vec<(i64, i64)> {
        let open = self.open.iter().map(|&id| (id, id));
        let tail = match self.above {
            None => Some((i64::MIN, i64::MAX)),
            Some(high) => high.checked_add(1).map(|lo| (lo, i64::MAX)),
        };
        self.gaps.iter().copied().chain(open).chain(self.audit.iter().copied()).chain(tail).collect()
    }
}

/// Rows of one poll that share their labels and whether they are done, as the aggregate statement returns them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Values of the labels that identify a set.
    pub set: Labels,
    /// Values of the other labels.
    pub by: Labels,
    /// Whether these rows are finished.
    pub done: bool,
    /// True if they are not to be counted: they were before, see [`Probe::known`], or the source leaves them out.
    pub known: bool,
    /// The ids of the rows.
    pub ids: Vec<i64>,
    /// When the newest of them finished, in seconds since the epoch.
    pub newest: Option<f64>,
    /// Whole-number measures, see [`Shape::counts`].
    pub counts: Vec<u64>,
    /// Sums, see [`Shape::sums`].
    pub sums: Vec<f64>,
    /// Rejected values, see [`Shape::values`].
    pub rejected: Vec<u64>,
}

/// What a poll changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows counted now.
    pub counted: u64,
    /// Those of them that the self-check found.
    pub drifted: u64,
    /// The tail or a gap was cut at the limit: poll again at once.
    pub more: bool,
}

/// An answer that cannot be right; the ledger is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The SELECT returned one id more than once.
    #[error(
        "the SELECT returns id {0} more than once: each execution must be one row with an id of its own (a join that multiplies rows?)"
    )]
    Duplicate(i64),
    /// The SELECT returned an id that was not asked for.
    #[error("the SELECT returns id {0}, which was not asked for: the column \"id\" must be that of the table")]
    Foreign(i64),
}

/// The ledger of one source. A copy of it is cheap: see [`Sets`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    high: Option<i64>,
    gaps: Gaps,
    open: BTreeSet<i64>,
    #[serde(with = "totals::pairs")]
    sets: Sets,
    newest: Option<f64>,
    rows: u64,
    rejected: Vec<u64>,
    overflowed: u64,
    gaps_dropped: u64,
    /// Gaps that were given up, for the self-check.
    abandoned: Gaps,
    /// When the self-check last looked, in milliseconds since the epoch.
    audited: i64,
    drift: u64,
    rewinds: u64,
    /// After a rewind, until all has been read again: see [`Probe::known`].
    known: Option<Known>,
    /// The history has been read to its end once: what appears from now on is new and is born at zero.
    complete: bool,
    /// Totals that may not be fallen short of when a rebuild is complete.
    #[serde(with = "totals::pairs")]
    floor: Sets,
    #[serde(skip)]
    open_rows: BTreeMap<(Labels, Labels), u64>,
    #[serde(skip)]
    shape: Shape,
}

impl Ledger {
    /// An empty ledger: its first polls read the whole history.
    pub fn new(shape: Shape) -> Self {
        Self { rejected: vec![0; shape.values], shape, ..Self::default() }
    }

    /// A ledger read from its saved form, for the same shape as it had.
    pub fn resume(mut self, shape: Shape) -> Self {
        self.rejected.resize(shape.values, 0);
        self.shape = shape;
        self
    }

    /// What to ask the database for at `now` (milliseconds since the epoch, by its clock).
    pub fn probe(&self, now: i64, limit: usize) -> Probe {
        Probe {
            above: self.high,
            gaps: self.gaps.due(now),
            open: self.open.iter().copied().collect(),
            audit: Vec::new(),
            known: self.known.clone(),
            limit,
        }
    }

    /// Adds the self-check to a probe when the last one is `every` milliseconds ago.
    pub fn audit(&self, probe: &mut Probe, now: i64, every: i64) {
        if now.saturating_sub(self.audited) >= every {
            probe.audit = self.abandoned.iter().map(|gap| (gap.lo, gap.hi)).collect();
        }
    }

    /// Takes the answer to `probe`. On an error nothing has changed.
    pub fn apply(&mut self, probe: &Probe, groups: Vec<Group>, now: i64) -> Result<Applied, ApplyError> {
        let seen = Self::checked_ids(probe, &groups)?;
        let mut applied = Applied { more: Self::is_cut(probe, &seen), ..Applied::default() };

        // Asked for and not there: deleted while open, and forgotten.
        probe.open.iter().for_each(|id| _ = self.open.remove(id));
        self.open_rows.clear();
        for group in groups {
            if !group.done {
                self.open.extend(&group.ids);
                if group.known {
                    continue;
                }
                let (set, by) = (self.fold(cut(group.set)), cut(group.by));
                *self.open_rows.entry((set, by)).or_default() += group.ids.len() as u64;
            } else if !group.known {
                applied.counted += group.ids.len() as u64;
                self.count(group, now);
            }
        }
        self.gaps.take(&seen, &probe.gaps, probe.limit, now);
        if !probe.audit.is_empty() {
            applied.drifted = probe.audit.iter().map(|&(lo, hi)| within(&seen, lo, hi) as u64).sum();
            self.drift += applied.drifted;
            self.audited = now;
            self.abandoned.take(&seen, &probe.audit, probe.limit, now);
        }
        self.advance(probe, &seen, now);
        let dropped = self.gaps.shrink();
        if self.complete {
            self.gaps_dropped += dropped.len() as u64;
            self.abandon(dropped);
        }
        if !applied.more {
            self.complete_rebuild();
        }
        Ok(applied)
    }

    /// The ids of an answer in order, each once and asked for.
    fn checked_ids(probe: &Probe, groups: &[Group]) -> Result<Vec<i64>, ApplyError> {
        let mut seen: Vec<i64> = groups.iter().flat_map(|g| &g.ids).copied().collect();
        seen.sort_unstable();
        if let Some(pair) = seen.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ApplyError::Duplicate(pair[0]));
        }
        let inside = |ranges: &[(i64, i64)], id: i64| {
            ranges.get(ranges.partition_point(|r| r.1 < id)).is_some_and(|r| r.0 <= id)
        };
        let asked = |id: i64| {
            probe.above.is_none_or(|high| id > high)
                || inside(&probe.gaps, id)
                || probe.open.binary_search(&id).is_ok()
                || inside(&probe.audit, id)
        };
        match seen.iter().find(|&&id| !asked(id)) {
            Some(&id) => Err(ApplyError::Foreign(id)),
            None => Ok(seen),
        }
    }

    /// Whether the tail or a gap came back full, so that there may be more.
    fn is_cut(probe: &Probe, seen: &[i64]) -> bool {
        probe.ranges().into_iter().filter(|r| r.0 < r.1).any(|(lo, hi)| within(seen, lo, hi) >= probe.limit)
    }

    /// Moves `high` to the largest id, and turns the ids skipped on the way into gaps.
    fn advance(&mut self, probe: &Probe, seen: &[i64], now: i64) {
        let mut next = match probe.above {
            None => i64::MIN,
            Some(i64::MAX) => return,
            Some(high) => high + 1,
        };
        for &id in &seen[seen.partition_point(|&id| id < next)..] {
            if next < id {
                self.gaps.push(next, id - 1, now);
            }
            self.high = Some(id);
            next = id.saturating_add(1);
        }
    }

    fn count(&mut self, group: Group, now: i64) {
        self.rows += group.ids.len() as u64;
        self.newest = self.newest.into_iter().chain(group.newest).reduce(f64::max);
        totals::add(&mut self.rejected, &group.rejected);
        let (labels, by) = (self.fold(cut(group.set.clone())), cut(group.by));
        if labels.iter().all(|l| l == OVERFLOW) && group.set != labels {
            self.overflowed += group.ids.len() as u64;
        }
        let birth = if self.complete { Birth::Waiting } else { Birth::Released };
        let shape = &self.shape;
        let set = self.sets.entry(labels).or_insert_with(|| Arc::new(Set::new(shape, birth, now)));
        let cell = Arc::make_mut(set).cells.entry(by).or_insert_with(|| Cell::new(shape, birth, now));
        totals::add(&mut cell.counts, &group.counts);
        totals::add(&mut cell.sums, &group.sums);
    }

    /// The labels themselves, or those of the overflow set when they are new and no more sets are allowed.
    ///
    /// The decision is for life: a set that exists keeps its labels, one that was folded never gets a set of its own.
    /// Which labels were folded is not kept; so when the table is recounted and some were, all without a set are.
    fn fold(&self, labels: Labels) -> Labels {
        if self.sets.contains_key(&labels) {
            return labels;
        }
        let overflow = vec![OVERFLOW.to_owned(); labels.len()];
        if self.own_sets() < self.shape.limit && !self.floor.contains_key(&overflow) { labels } else { overflow }
    }

    fn own_sets(&self) -> usize {
        let overflow = self.sets.keys().next().map(|labels| vec![OVERFLOW.to_owned(); labels.len()]);
        self.sets.len() - usize::from(overflow.is_some_and(|labels| self.sets.contains_key(&labels)))
    }

    /// Gives up narrow gaps first missed before `oldest` (milliseconds since the epoch), but for the self-check.
    pub fn expire_gaps(&mut self, oldest: i64) {
        let expired = self.gaps.expire(oldest);
        self.abandon(expired);
    }

    fn abandon(&mut self, gaps: Vec<Gap>) {
        if !gaps.is_empty() {
            self.abandoned.extend(gaps);
            self.abandoned.shrink();
        }
    }

    /// What the rows of the source carry.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The sets in order of their labels.
    pub fn sets(&self) -> &Sets {
        &self.sets
    }

    /// Rows seen and not done in the last answer, by the labels of the set and the others.
    pub fn open_rows(&self) -> &BTreeMap<(Labels, Labels), u64> {
        &self.open_rows
    }

    /// When the newest counted row finished, in seconds since the epoch.
    pub fn newest(&self) -> Option<f64> {
        self.newest
    }

    /// The largest id seen.
    pub fn high(&self) -> Option<i64> {
        self.high
    }

    /// The ids below [`Ledger::high`] that no poll has seen.
    pub fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// How many rows are open.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Rows counted.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Rejected values by value column.
    pub fn rejected(&self) -> &[u64] {
        &self.rejected
    }

    /// Rows folded into [`OVERFLOW`].
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// Gaps given up because there were too many.
    pub fn gaps_dropped(&self) -> u64 {
        self.gaps_dropped
    }

    /// Rows that turned up in gaps that had been given up.
    pub fn drift(&self) -> u64 {
        self.drift
    }

    /// How often the database's ids started again.
    pub fn rewinds(&self) -> u64 {
        self.rewinds
    }

    /// Whether the history has been read to its end once.
    pub fn is_complete(&self) -> bool {
        self.complete
    }
}

/// How many of the sorted ids are in an inclusive range.
fn within(seen: &[i64], lo: i64, hi: i64) -> usize {
    seen.partition_point(|&id| id <= hi) - seen.partition_point(|&id| id < lo)
}

/// Label values cut on a character boundary.
fn cut(mut labels: Labels) -> Labels {
    for label in &mut labels {
        label.truncate(label.floor_char_boundary(MAX_LABEL_BYTES));
    }
    labels
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn shape(limit: usize) -> Shape {
        Shape {
            counts: 1,
            sums: 1,
            values: 1,
            enumerated: vec![vec!["completed".into()], vec!["failed".into()]],
            limit,
        }
    }

    pub fn done(repo: &str, ids: &[i64]) -> Group {
        Group {
            set: vec![repo.into()],
            by: vec!["completed".into()],
            done: true,
            ids: ids.to_vec(),
            known: false,
            newest: None,
            counts: vec![ids.len() as u64],
            sums: vec![0.5],
            rejected: vec![0],
        }
    }

    pub fn poll(ledger: &mut Ledger, groups: Vec<Group>) -> Result<Applied, ApplyError> {
        let probe = ledger.probe(0, 100);
        ledger.apply(&probe, groups, 0)
    }

    #[test]
    fn an_id_twice_is_refused_and_changes_nothing() {
        let mut ledger = Ledger::new(shape(10));
        let before = ledger.clone();
        assert_eq!(poll(&mut ledger, vec![done("a", &[1, 2]), done("b", &[2])]), Err(ApplyError::Duplicate(2)));
        assert_eq!(ledger, before);
        poll(&mut ledger, vec![done("a", &[1, 2])]).unwrap();
        assert_eq!(poll(&mut ledger, vec![done("a", &[2])]), Err(ApplyError::Foreign(2)));
    }

    #[test]
    fn sets_above_the_limit_are_folded_for_life() {
        let mut ledger = Ledger::new(shape(2));
        poll(&mut ledger, vec![done("a", &[1]), done("b", &[2]), done("c", &[3])]).unwrap();
        poll(&mut ledger, vec![done("c", &[4]), done("a", &[5])]).unwrap();
        let names: Vec<_> = ledger.sets().keys().map(|l| l[0].as_str()).collect();
        assert_eq!(names, [OVERFLOW, "a", "b"]);
        assert_eq!((ledger.overflowed(), ledger.rows()), (2, 5));
    }

    #[test]
    fn a_recount_folds_what_was_folded_in_whatever_order_it_comes() {
        let mut ledger = Ledger::new(shape(2));
        poll(&mut ledger, vec![done("a", &[1]), done("b", &[2]), done("c", &[3, 4])]).unwrap();
        let totals = |l: &Ledger| -> BTreeMap<String, u64> {
            let total = |set: &Set| set.cells.values().map(|cell| cell.counts[0]).sum();
            l.sets().iter().map(|(labels, set)| (labels[0].clone(), total(set))).collect()
        };
        let before = totals(&ledger);
        for limit in [2, 10] {
            let mut recounted = Ledger::with_floor(shape(limit), ledger.sets().clone());
            poll(&mut recounted, vec![done("c", &[3, 4]), done("b", &[2]), done("a", &[1])]).unwrap();
            assert_eq!(totals(&recounted), before, "with the limit {limit}");
            poll(&mut recounted, vec![done("d", &[5])]).unwrap();
            assert_eq!(totals(&recounted).contains_key("d"), limit == 10, "with the limit {limit}");
        }
        ledger.rebuild();
        poll(&mut ledger, vec![done("c", &[3, 4]), done("b", &[2]), done("a", &[1])]).unwrap();
        assert_eq!(totals(&ledger), before);
        // Without any that was folded, new labels share the limit with the old ones.
        let mut ledger = Ledger::new(shape(2));
        poll(&mut ledger, vec![done("a", &[1])]).unwrap();
        ledger.rebuild();
        poll(&mut ledger, vec![done("c", &[3]), done("b", &[2]), done("a", &[1])]).unwrap();
        assert_eq!(totals(&ledger).into_keys().collect::<Vec<_>>(), [OVERFLOW, "a", "c"]);
    }

    #[test]
    fn long_labels_are_cut_on_a_character_boundary_and_merged() {
        let mut ledger = Ledger::new(shape(10));
        let (a, b) = (format!("{}é1", "x".repeat(199)), format!("{}é2", "x".repeat(199)));
        poll(&mut ledger, vec![done(&a, &[1]), done(&b, &[2])]).unwrap();
        assert_eq!(ledger.sets().keys().map(|l| l[0].len()).collect::<Vec<_>>(), [199]);
    }

    #[test]
    fn an_explicit_id_far_away_is_one_gap_in_which_the_sequence_goes_on() {
        let mut ledger = Ledger::new(shape(10));
        poll(&mut ledger, vec![done("a", &[1, 1_000_000_000_000])]).unwrap();
        assert_eq!(ledger.gaps().len(), 2, "below the first id, and up to the far one");
        for id in 2..50 {
            ledger.expire_gaps(i64::MAX);
            assert_eq!(poll(&mut ledger, vec![done("a", &[id])]).unwrap().counted, 1);
        }
        assert_eq!(ledger.gaps().len(), 2);
    }
}
