//! Reading counted rows once more: for metrics whose definition changed, and when the database is another one.

use std::sync::Arc;

use super::frontier::ReadPlan;
use super::id_set::IdSet;
use super::totals::{self, Set, Sets, raise_sets};
use super::{ApplyError, Birth, Group, Ledger, checked_rows};

/// Which of the measures of a source are new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fresh {
    /// By position in [`super::Shape::counts`].
    pub counts: Vec<bool>,
    /// By position in [`super::Shape::sums`].
    pub sums: Vec<bool>,
    /// By position in [`super::Shape::values`].
    pub values: Vec<bool>,
    /// By position in [`super::Shape::natives`].
    pub natives: Vec<bool>,
}

/// Rows that were counted when a definition changed, as far as they have not been read again for what is new in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recount {
    fresh: Fresh,
    /// The ids of the counted rows.
    left: IdSet,
}

impl Ledger {
    /// Counts what is new in a definition once more from the rows that had been counted before and are there.
    pub fn recount(&mut self, fresh: Fresh) {
        let Some(high) = self.frontier.high() else { return };
        let mut left: IdSet = [(i64::MIN, high)].into_iter().collect();
        self.frontier.uncounted().into_iter().for_each(|(lo, hi)| left.remove_range(lo, hi));
        self.recount = Some(Recount { fresh, left });
    }

    /// Moves measures to where they stand in a changed definition; new ones begin at 0.
    pub fn move_measures(
        &mut self,
        counts: &[Option<usize>],
        sums: &[Option<usize>],
        values: &[Option<usize>],
        natives: &[Option<usize>],
    ) {
        for cell in self.sets.values_mut().flat_map(|set| Arc::make_mut(set).cells.values_mut()) {
            cell.counts = totals::moved(&cell.counts, counts);
            cell.sums = totals::moved(&cell.sums, sums);
            cell.natives = totals::moved(&cell.natives, natives);
        }
        self.rejected = totals::moved(&self.rejected, values);
    }

    /// Which counted rows to read again next, less than twice so many: ranges follow until their ids are so many, and
    /// of each no more are read. Nothing when there are none.
    pub fn plan_recount(&self, limit: usize) -> Option<ReadPlan> {
        let left = &self.recount.as_ref()?.left;
        let mut ids = 0_u64;
        let mut is_next = |&(lo, hi): &(i64, i64)| {
            let is_next = ids < limit as u64;
            ids = ids.saturating_add(lo.abs_diff(hi)).saturating_add(1);
            is_next
        };
        let ranges = left.ranges().take_while(|range| is_next(range)).map(|(lo, hi)| (lo, hi, None)).collect();
        Some(ReadPlan { ranges, limit, ..ReadPlan::default() })
    }

    /// Takes their rows. On an error nothing has changed.
    ///
    /// # Errors
    /// Fails if the answer cannot be right.
    pub fn apply_recount(&mut self, plan: &ReadPlan, groups: Vec<Group>) -> Result<(), ApplyError> {
        let rows = checked_rows(plan, &groups)?;
        let Some(Recount { fresh, mut left }) = self.recount.take() else { return Ok(()) };
        for group in groups.into_iter().filter(|group| group.done && !group.known) {
            let (labels, by) = (self.fold(group.set), self.fold_by(group.by));
            let cell = totals::cell(&mut self.sets, &self.shape, labels, by, Birth::Released, None);
            cell.start = None;
            add_fresh(&mut cell.counts, &group.counts, &fresh.counts);
            add_fresh(&mut cell.sums, &group.sums, &fresh.sums);
            super::exemplar::keep(&mut cell.exemplars, group.exemplars);
            let natives = cell.natives.iter_mut().zip(&group.values).zip(&self.shape.natives).zip(&fresh.natives);
            for (((native, values), settings), _) in natives.filter(|(_, fresh)| **fresh) {
                native.count_in(values, group.sums[settings.sum], settings);
            }
            add_fresh(&mut self.rejected, &group.rejected, &fresh.values);
        }
        for &(lo, hi, _) in &plan.ranges {
            let inside = &rows[rows.partition_point(|row| row.0 < lo)..rows.partition_point(|row| row.0 <= hi)];
            // A range that came back full goes on behind its last row.
            let read = if inside.len() < plan.limit { Some(hi) } else { inside.last().map(|row| row.0) };
            read.iter().for_each(|&read| left.remove_range(lo, read));
        }
        self.recount = (!left.is_empty()).then_some(Recount { fresh, left });
        Ok(())
    }

    /// Counts the whole table anew, because it is in another database: totals become the larger of the old and the new.
    pub(super) fn rebuild(&mut self) {
        let mut floor = std::mem::take(&mut self.sets);
        raise_sets(&mut floor, std::mem::take(&mut self.floor), &self.shape);
        let shape = std::mem::take(&mut self.shape);
        // The sets are there from the start, at 0: they keep their labels, and new ones count against the limit.
        let empty = |low: &Arc<Set>| Arc::new(Set::new(&shape, low.birth, None));
        let sets: Sets = floor.iter().map(|(labels, low)| (labels.clone(), empty(low))).collect();
        let fresh = Self {
            sets,
            floor,
            newest: self.newest,
            overflowed: self.overflowed,
            late: self.late,
            resets: self.resets,
            uncertain: self.uncertain,
            ..Self::new(shape.clone())
        };
        let combinations = std::mem::take(&mut self.combinations);
        *self = Self { combinations, ..fresh };
        self.identity = Default::default();
    }

    /// All has been read: nothing falls short of the floor, and what appears from now on is new.
    pub(super) fn complete_rebuild(&mut self) {
        let floor = std::mem::take(&mut self.floor);
        raise_sets(&mut self.sets, floor, &self.shape);
        self.complete = true;
    }
}

fn add_fresh<T: std::ops::AddAssign + Copy>(to: &mut [T], more: &[T], fresh: &[bool]) {
    to.iter_mut().zip(more).zip(fresh).filter(|(_, fresh)| **fresh).for_each(|((to, more), _)| *to += *more);
}
