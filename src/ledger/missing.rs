//! Ids that have not been seen although larger ones have: rolled back, not committed yet, drawn ahead, or hidden.
//!
//! An id is *settled* when every transaction that was running when it was first missed has ended: what comes then was
//! drawn ahead (CACHE, hi/lo) or was hidden (another WHERE, a detached partition). Ids that are not settled are looked
//! for at every poll and never given up for their age. Settled ones are looked for in turns of some minutes; when they
//! are older than `poll.gap_watch` they are *retired*, and looked for more rarely.

use serde::{Deserialize, Serialize};

use super::id_set::IdSet;

/// Every settled id is looked for once in so many milliseconds.
const TURN_MS: i64 = 300_000;
/// So many settled ids are looked for at every poll, even if the turn would not need it.
const SHARE: u64 = 5_000;
/// More ids than this (wide ranges count as one) are not kept for a source.
pub const MAX_IDS: u64 = 1_000_000;
/// Nor more wide ranges, each of which takes more room than a single id.
pub const MAX_WIDE: usize = 100_000;
/// More groups of unsettled ids than this are merged.
const MAX_COHORTS: usize = 48;
/// Retired ids are looked for once in so many parts of the time that gaps are watched.
pub const AUDITS: i64 = 24;

/// The moment of a poll, by the database's clock and its transaction ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since the epoch.
    pub now: i64,
    /// `pg_snapshot_xmin`: all transactions below have ended.
    pub xmin: i64,
    /// `pg_snapshot_xmax`: no transaction from here on is visible.
    pub xmax: i64,
}

/// Ids that were first missed at about the same time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Cohort {
    ids: IdSet,
    /// Settled when all transactions below this have ended; `None` when they have.
    until: Option<i64>,
    /// When they were first missed, in milliseconds since the epoch.
    since: i64,
    retired: bool,
}

/// The missing ids of one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Missing {
    /// In the order in which they were first missed.
    cohorts: Vec<Cohort>,
    turn: Turn,
    /// Settled ids that were given up because there were too many.
    dropped_settled: u64,
    /// Likewise ids that a running transaction could still bring.
    dropped_unsettled: u64,
}

/// How far the search for settled ids has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The first settled id that has not been looked for in this turn.
    from: i64,
    /// When it got there, in milliseconds since the epoch.
    at: i64,
    /// When retired ids were last looked for.
    audited: i64,
}

/// What is known of an id that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was not missing.
    Not,
    /// It was looked for.
    Watched,
    /// It had been retired.
    Retired,
}

impl Missing {
    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.cohorts.is_empty()
    }

    /// Whether `id` is missing.
    pub fn contains(&self, id: i64) -> bool {
        self.cohorts.iter().any(|cohort| cohort.ids.contains(id))
    }

    /// All missing ids as ranges, in no order.
    pub fn ranges(&self) -> impl Iterator<Item = (i64, i64)> {
        self.cohorts.iter().flat_map(|cohort| cohort.ids.ranges())
    }

    /// The missing ids of an inclusive range, as ranges in no order.
    pub fn ranges_within(&self, lo: i64, hi: i64) -> impl Iterator<Item = (i64, i64)> {
        self.cohorts.iter().flat_map(move |c| c.ids.ranges_from(lo).take_while(move |range| range.0 <= hi))
    }

    /// A range of missing ids in which `id` lies.
    pub fn range_at(&self, id: i64) -> Option<(i64, i64)> {
        self.cohorts.iter().find_map(|c| c.ids.ranges_to(id))
    }

    /// How many ids are looked for that are not retired, wide ranges counted as one. What is below the first id that
    /// there ever was counts as nothing.
    pub fn watched(&self) -> u64 {
        let below = |c: &Cohort| u64::from(c.ids.contains(i64::MIN));
        self.cohorts.iter().filter(|c| !c.retired).map(|c| c.ids.weight() - below(c)).sum()
    }

    /// Ids given up because there were too many: those that nothing known could still bring, and the others.
    pub fn dropped(&self) -> (u64, u64) {
        (self.dropped_settled, self.dropped_unsettled)
    }

    /// What to look for now, in no order, and where the search for settled ids stands after that.
    ///
    /// Ids above `handed_out` were drawn since the last poll, or will be: they are looked for at every poll.
    pub fn due(&self, now: i64, gap_watch: i64, handed_out: Option<i64>) -> (Vec<(i64, i64)>, Turn) {
        let mut turn = self.turn;
        let mut due = Vec::new();
        // A time in the future, by a clock that was wrong, is due now.
        let since = |then: i64| if then > now { i64::MAX } else { now - then };
        if since(turn.audited) >= gap_watch / AUDITS {
            turn.audited = now;
            due.extend(self.cohorts.iter().filter(|c| c.retired).flat_map(|c| c.ids.ranges()));
        }
        due.extend(self.cohorts.iter().filter(|c| c.until.is_some()).flat_map(|c| c.ids.ranges()));
        let ahead = |range: &(i64, i64)| handed_out.is_some_and(|last| range.1 > last);
        if let Some(last) = handed_out {
            due.extend(
                self.cohorts.iter().filter(|c| c.until.is_none()).flat_map(|c| c.ids.ranges_from(last)).filter(ahead),
            );
        }
        let settled: Vec<&Cohort> = self.cohorts.iter().filter(|c| c.until.is_none() && !c.retired).collect();
        let all: u64 = settled.iter().map(|c| c.ids.weight()).sum();
        let share = i128::from(all) * i128::from(since(turn.at).min(TURN_MS)) / i128::from(TURN_MS);
        let share = u64::try_from(share).unwrap_or(all).max(SHARE);
        if share >= all {
            due.extend(settled.iter().flat_map(|c| c.ids.ranges()));
            return (due, Turn { from: i64::MIN, at: now, ..turn });
        }
        // Where the share ends is the same id for all cohorts.
        let mut next: Vec<(i64, i64)> =
            settled.iter().flat_map(|c| c.ids.ranges_from(turn.from).take(share as usize)).collect();
        next.sort_unstable();
        let is_last = next.len() < share as usize;
        next.truncate(share as usize);
        turn.from = if is_last { i64::MIN } else { next.last().map_or(i64::MIN, |range| range.1) };
        turn.at = now;
        due.extend(next.into_iter().filter(|range| !ahead(range)));
        (due, turn)
    }

    /// Notes that what [`Missing::due`] named was looked for.
    pub fn looked(&mut self, turn: Turn) {
        self.turn = turn;
    }

    /// Adds ids first missed now.
    pub fn add(&mut self, ids: IdSet, at: Moment) {
        if ids.is_empty() {
            return;
        }
        match self.cohorts.last_mut() {
            Some(last) if last.until == Some(at.xmax) && !last.retired => last.ids.extend(ids),
            _ => self.cohorts.push(Cohort { ids, until: Some(at.xmax), since: at.now, retired: false }),
        }
    }

    /// Takes out an id that was found. The rest of a settled range in which it lies is alive: it is looked for as if it
    /// had been missed just now.
    pub fn take(&mut self, id: i64, at: Moment) -> Found {
        let Some(cohort) = self.cohorts.iter_mut().find(|cohort| cohort.ids.contains(id)) else { return Found::Not };
        let found = if cohort.retired { Found::Retired } else { Found::Watched };
        let is_settled = cohort.until.is_none();
        let run = cohort.ids.ranges_from(id).next().filter(|(lo, hi)| is_settled && lo.abs_diff(*hi) > 0);
        cohort.ids.remove(id);
        if let Some((_, hi)) = run {
            let rest = id.checked_add(1).filter(|&lo| lo <= hi).map(|lo| (lo, hi));
            rest.iter().for_each(|(lo, hi)| cohort.ids.remove_range(*lo, *hi));
            self.add(rest.into_iter().collect(), at);
        }
        found
    }

    /// Takes out all ids of an inclusive range.
    pub fn remove_range(&mut self, lo: i64, hi: i64) {
        self.cohorts.iter_mut().for_each(|cohort| cohort.ids.remove_range(lo, hi));
        self.cohorts.retain(|cohort| !cohort.ids.is_empty());
    }

    /// The transaction ids are those of another history: what was not settled waits for all that runs now.
    pub fn restart(&mut self, at: Moment) {
        self.cohorts.iter_mut().filter(|c| c.until.is_some()).for_each(|c| c.until = Some(at.xmax));
    }

    /// Settles, retires, merges, and keeps within bounds.
    pub fn age(&mut self, at: Moment, gap_watch: i64) {
        self.cohorts.retain(|cohort| !cohort.ids.is_empty());
        for cohort in &mut self.cohorts {
            cohort.until = cohort.until.filter(|&until| at.xmin < until);
            cohort.retired = cohort.until.is_none() && at.now.saturating_sub(cohort.since) >= gap_watch;
        }
        let alike = |a: &Cohort, b: &Cohort| match (a.until, b.until) {
            (None, None) if a.retired || b.retired => a.retired == b.retired,
            (None, None) => a.since.abs_diff(b.since) < (gap_watch / 8).unsigned_abs().max(1),
            _ => a.until == b.until,
        };
        self.merge(alike);
        if self.cohorts.len() > MAX_COHORTS {
            let mut n = 0;
            // Every second one into the one before; what waits longer is right for both.
            self.merge(|a, b| {
                a.until.is_some() == b.until.is_some() && {
                    n += 1;
                    n % 2 == 1
                }
            });
        }
        self.shrink();
    }

    fn merge(&mut self, mut alike: impl FnMut(&Cohort, &Cohort) -> bool) {
        let mut merged: Vec<Cohort> = Vec::with_capacity(self.cohorts.len());
        for cohort in self.cohorts.drain(..) {
            match merged.iter_mut().rfind(|before| before.until.is_some() == cohort.until.is_some()) {
                Some(before) if alike(before, &cohort) => {
                    before.ids.extend(cohort.ids);
                    before.until = before.until.max(cohort.until);
                    before.since = if cohort.retired { before.since.min(cohort.since) } else { before.since };
                }
                _ => merged.push(cohort),
            }
        }
        self.cohorts = merged;
    }

    /// Gives up what is too much: retired ids first, then settled ones, the oldest first.
    fn shrink(&mut self) {
        let ids: u64 = self.cohorts.iter().map(|c| c.ids.weight()).sum();
        let wide: usize = self.cohorts.iter().map(|c| c.ids.wide()).sum();
        let mut excess = ids.saturating_sub(MAX_IDS).max(wide.saturating_sub(MAX_WIDE) as u64);
        if excess == 0 {
            return;
        }
        let mut order: Vec<usize> = (0..self.cohorts.len()).collect();
        order.sort_by_key(|&i| (self.cohorts[i].until.is_some(), !self.cohorts[i].retired, self.cohorts[i].since));
        for i in order {
            let cohort = &mut self.cohorts[i];
            let dropped = cohort.ids.drop_smallest(excess);
            *if cohort.until.is_some() { &mut self.dropped_unsettled } else { &mut self.dropped_settled } += dropped;
            excess = excess.saturating_sub(dropped);
            if excess == 0 {
                break;
            }
        }
        self.cohorts.retain(|cohort| !cohort.ids.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn at(now: i64, xmin: i64, xmax: i64) -> Moment {
        Moment { now, xmin, xmax }
    }

    fn missing(ranges: &[(i64, i64)], moment: Moment) -> Missing {
        let mut missing = Missing::default();
        missing.add(ranges.iter().copied().collect(), moment);
        missing
    }

    #[test]
    fn what_a_running_transaction_can_bring_is_looked_for_at_every_poll_whatever_its_age() {
        let mut m = missing(&[(5, 5)], at(0, 10, 20));
        for now in [1, DAY, 400 * DAY] {
            m.age(at(now, 19, 1_000), DAY);
            assert_eq!(m.due(now, DAY, None).0, [(5, 5)]);
        }
        assert_eq!((m.take(5, at(DAY, 19, 1_000)), m.take(5, at(DAY, 19, 1_000))), (Found::Watched, Found::Not));
    }

    #[test]
    fn settled_ids_are_each_looked_for_in_five_minutes_and_retired_ones_more_rarely() {
        let many: Vec<(i64, i64)> = (0..50_000).map(|i| (10 * i, 10 * i)).collect();
        let mut m = missing(&many, at(0, 10, 20));
        m.age(at(0, 20, 30), DAY);
        let (mut now, mut looked) = (0, std::collections::BTreeSet::new());
        m.looked(Turn { from: i64::MIN, at: 0, audited: 0 });
        while now < TURN_MS + 15_000 {
            now += 15_000;
            let (due, turn) = m.due(now, DAY, None);
            assert!(due.len() <= 5_001, "{}", due.len());
            looked.extend(due);
            m.looked(turn);
        }
        assert_eq!(looked.len(), many.len());
        m.age(at(DAY, 20, 30), DAY);
        assert_eq!(m.watched(), 0);
        assert_eq!(m.due(DAY, DAY, None).0.len(), many.len());
        m.looked(m.due(DAY, DAY, None).1);
        assert!(m.due(DAY + 60_000, DAY, None).0.is_empty());
        assert_eq!(m.take(10, at(DAY, 20, 30)), Found::Retired);
        // A clock that was ahead for a moment: what it left in the future is due.
        assert_eq!(m.due(DAY - 60_000, DAY, None).0.len(), many.len() - 1);
    }

    #[test]
    fn what_is_left_of_a_range_in_which_an_id_comes_is_alive() {
        let mut m = missing(&[(1, 1_000)], at(0, 10, 20));
        m.age(at(2 * DAY, 20, 30), DAY);
        assert_eq!(m.watched(), 0);
        assert_eq!(m.take(7, at(2 * DAY, 20, 30)), Found::Retired);
        m.age(at(2 * DAY, 20, 30), DAY);
        assert_eq!(m.due(2 * DAY + 1, DAY, None).0.iter().filter(|r| **r == (8, 1_000)).count(), 1);
    }

    #[test]
    fn ids_above_the_sequence_are_always_due() {
        let many: Vec<(i64, i64)> = (0..20_000).map(|i| (10 * i, 10 * i)).collect();
        let mut m = missing(&many, at(0, 10, 20));
        m.age(at(0, 20, 30), DAY);
        m.looked(Turn { from: i64::MIN, at: 0, audited: 0 });
        let due = m.due(1_000, DAY, Some(199_950)).0;
        assert!(due.contains(&(199_960, 199_960)) && due.contains(&(0, 0)) && !due.contains(&(199_900, 199_900)));
    }

    #[test]
    fn too_many_are_given_up_settled_ones_first_and_each_is_counted() {
        let mut m = missing(&[(1, 40)], at(0, 10, 20));
        m.age(at(0, 20, 30), DAY);
        let many: IdSet = (0..MAX_IDS as i64 - 10).map(|i| (1_000 + 2 * i, 1_000 + 2 * i)).collect();
        m.add(many, at(0, 20, 30));
        m.age(at(0, 20, 30), DAY);
        assert_eq!((m.dropped(), m.contains(30), m.contains(31)), ((30, 0), false, true));
        m.add([(-100, -81)].into_iter().collect(), at(0, 20, 40));
        m.age(at(0, 20, 40), DAY);
        assert_eq!((m.dropped(), m.contains(1_000)), ((40, 10), false));
    }
}
