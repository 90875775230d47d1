//! What has been counted: a pure state machine that no input can make count a row twice or fall.
//!
//! Three parts, joined here: which rows next ([`frontier`]), which table is this ([`identity`]), and what has been
//! counted ([`totals`]). One poll, in one snapshot of the database:
//!
//! 1. [`Ledger::witnesses`] names counted rows to look at, and [`Ledger::judge`] takes what is there now: whether the
//!    ids go on, or are handed out again from some id on.
//! 2. [`Ledger::watch`] names the ids to look for: open, missing, handed out again. [`Ledger::sort`] says which of those
//!    that are there are to be read.
//! 3. [`Ledger::apply`] takes their rows and those of the tail. A row is counted the first time it is seen done; from
//!    then on its id is never asked for again, so nothing counts twice, nothing can fall, and edits and deletes of
//!    counted rows mean nothing.
//!
//! [`Ledger::plan_at_once`] asks for all of that in one statement, unless there is too much of it.

pub mod decimal;
pub mod evidence;
pub mod exemplar;
mod former;
pub mod frontier;
mod group;
pub mod id_set;
pub mod identity;
pub mod key_window;
mod keyed;
#[cfg(test)]
mod keyed_model;
mod known;
pub mod missing;
#[cfg(test)]
mod model;
pub mod native;
pub mod recount;
mod run;
mod sequence;
pub mod totals;
pub mod witness;
pub mod zero_hold;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use evidence::Evidence;
use frontier::{Frontier, ReadPlan, Sighting, Watch};
use group::checked_rows;
pub use group::{ApplyError, Group, OpenRows, Seen};
pub use identity::IdReset;
use identity::Identity;
use key_window::KeyWindow;
use missing::Moment;
use recount::Recount;
pub use totals::{Cell, Labels, Set, Sets};
use witness::Mark;
pub use zero_hold::Birth;

/// The value of every label of a series into which rows above the limit are folded.
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
    /// Native histograms per group of rows.
    pub natives: Vec<native::Settings>,
    /// The combinations of the other labels that every set has from its birth.
    pub enumerated: Vec<Labels>,
    /// The largest number of sets, and of combinations of the other labels; later ones are folded into [`OVERFLOW`].
    pub limit: usize,
}

/// What a poll changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows counted now.
    pub counted: u64,
    /// Those of them whose ids had been retired.
    pub late: u64,
    /// Rows under ids that are handed out again which their time alone tells from those counted before.
    pub uncertain: u64,
    /// There is more to read: poll again at once.
    pub more: bool,
}

/// The ledger of one source. A copy of it is cheap: see [`Sets`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    frontier: Frontier,
    /// In place of the frontier, for a source with a key of its own.
    #[serde(default, skip_serializing_if = "KeyWindow::is_unused")]
    keys: KeyWindow,
    identity: Identity,
    #[serde(with = "totals::pairs")]
    sets: Sets,
    newest: Option<f64>,
    rows: u64,
    rejected: Vec<u64>,
    overflowed: u64,
    late: u64,
    resets: u64,
    uncertain: u64,
    /// The history has been read to its end once: what appears from now on is new and is born at zero.
    complete: bool,
    /// Lower bounds of the totals once another database has been read to its end.
    #[serde(with = "totals::pairs")]
    floor: Sets,
    /// Rows seen and not done, by the labels of gauges of open rows.
    #[serde(default, with = "totals::pairs")]
    open_rows: BTreeMap<Labels, OpenRows>,
    /// The combinations of the other labels that some set has.
    #[serde(skip)]
    combinations: BTreeSet<Labels>,
    /// Counted rows that are read once more for new metrics. The state is saved when that is done.
    #[serde(skip)]
    recount: Option<Recount>,
    #[serde(skip)]
    shape: Shape,
}

impl Ledger {
    /// An empty ledger: its first polls read the whole history.
    pub fn new(shape: Shape) -> Self {
        Self { rejected: vec![0; shape.values], ..Self::default() }.resume(shape)
    }

    /// A ledger read from its saved form, for the same shape as it had.
    pub fn resume(mut self, shape: Shape) -> Self {
        self.rejected.resize(shape.values, 0);
        let cells = self.sets.values().flat_map(|set| set.cells.keys());
        self.combinations = shape.enumerated.iter().chain(cells).cloned().collect();
        self.shape = shape;
        self
    }

    /// A ledger as an earlier version of the state had it.
    pub(crate) fn restored(frontier: Frontier, sets: Sets, newest: Option<f64>, rows: u64, complete: bool) -> Self {
        Self { frontier, sets, newest, rows, complete, ..Self::default() }
    }

    /// The counters about itself, as an earlier version of the state had them.
    pub(crate) fn with_counters(self, rejected: Vec<u64>, overflowed: u64, late: u64, resets: u64) -> Self {
        Self { rejected, overflowed, late, resets, ..self }
    }

    /// The ids of counted rows to look at first.
    pub fn witnesses(&self) -> Vec<i64> {
        self.identity.first_ids(&self.frontier)
    }

    /// All ids of counted rows that are remembered.
    pub fn all_witnesses(&self) -> Vec<i64> {
        self.identity.all_ids()
    }

    /// Whether those that were looked at first call for no look at the others.
    pub fn is_undisturbed(&self, evidence: &Evidence, seen: &BTreeMap<i64, Mark>) -> bool {
        self.identity.is_undisturbed(evidence, seen, &self.frontier)
    }

    /// Notes the evidence of a poll in which nothing speaks for a change.
    pub fn observe(&mut self, evidence: &Evidence) {
        self.identity.observe(evidence);
    }

    /// Decides by all witnesses that are there whether ids go on.
    pub fn judge(&mut self, evidence: &Evidence, seen: &BTreeMap<i64, Mark>, at: Moment) -> IdReset {
        let found = self.identity.judge(evidence, seen, self.newest, &mut self.frontier, at);
        match found {
            IdReset::None => {}
            IdReset::Reset => self.resets += 1,
            IdReset::OtherDatabase => self.rebuild(),
        }
        found
    }

    /// What to look for at `now` (both in milliseconds), in a source of so many `tables`.
    pub fn watch(&self, now: i64, gap_watch: i64, tables: u64) -> Watch {
        self.frontier.watch(now, gap_watch, self.identity.handed_out(), tables)
    }

    /// Sorts what a watch found.
    ///
    /// # Errors
    /// Fails if the answer cannot be right.
    pub fn sort(&self, watch: &Watch, seen: &[Seen]) -> Result<Sighting, ApplyError> {
        let ids = seen.iter().flat_map(|seen| seen.ids.iter().map(|&id| (id, seen.done)));
        self.frontier.sort(watch, ids.collect()).map_err(ApplyError::Duplicate)
    }

    /// Which rows to read, at most so many of the tail: those that were found, and the tail.
    pub fn plan(&self, found: &[i64], limit: usize) -> ReadPlan {
        self.frontier.plan(found, limit)
    }

    /// A plan for the witnesses of [`Ledger::witnesses`], the `ranges` of a watch and the tail, all in one statement;
    /// see [`Frontier::plan_at_once`].
    pub fn plan_at_once(&self, watch: &Watch, ranges: &[(i64, i64)], limit: usize) -> Option<ReadPlan> {
        self.frontier.plan_at_once(&self.witnesses(), watch, ranges, limit)
    }

    /// Takes the answer to `plan`, and what was seen of a watch in the same snapshot. On an error nothing has changed.
    ///
    /// # Errors
    /// Fails if the answer cannot be right.
    pub fn apply(
        &mut self,
        plan: &ReadPlan,
        watched: Option<(&Sighting, &[Seen])>,
        groups: Vec<Group>,
        at: Moment,
    ) -> Result<Applied, ApplyError> {
        let rows = checked_rows(plan, &groups)?;
        let more_found = watched.is_some_and(|(sighting, _)| sighting.found.len() > plan.limit);
        let mut applied = Applied { more: plan.is_cut(&rows) || more_found || plan.is_partial, ..Applied::default() };
        if let Some((sighting, seen)) = watched {
            self.frontier.looked(sighting, at);
            self.open_rows.clear();
            for seen in seen.iter().filter(|seen| !seen.done && !seen.known) {
                let still = |(_, id): &(usize, &i64)| sighting.still_open.binary_search(id).is_ok();
                let still: Vec<usize> = seen.ids.iter().enumerate().filter(still).map(|(i, _)| i).collect();
                let times = |since: &Vec<Option<f64>>| still.iter().filter_map(|&i| since[i]).reduce(f64::min);
                let oldest = seen.since.iter().map(times).collect();
                self.add_open(&seen.open, OpenRows { rows: still.len() as u64, oldest });
            }
        }
        let retired = self.frontier.take(&rows, at);
        self.frontier.skip(&plan.failing, at);
        let may_be_known: Vec<_> = plan.ranges.iter().filter(|range| range.2.is_some()).collect();
        let mut counted: Vec<(i64, Mark)> = Vec::new();
        for group in groups {
            let judged = |id: &&i64| may_be_known.iter().any(|(lo, hi, _)| (lo..=hi).contains(id));
            applied.uncertain += group.ids.iter().filter(judged).count() as u64;
            if group.done {
                let labels = witness::checksum(group.set.iter().chain(&group.by));
                let ats = group.ats.iter().copied().chain(std::iter::repeat(None));
                counted.extend(group.ids.iter().copied().zip(ats.map(|at| Mark::of(at, labels))));
            }
            if group.known {
                continue;
            }
            if !group.done {
                self.add_open(&group.open, OpenRows { rows: group.ids.len() as u64, oldest: group.oldest });
            } else {
                applied.counted += group.ids.len() as u64;
                self.count(group, at.now);
            }
        }
        counted.sort_unstable_by_key(|(id, _)| *id);
        self.identity.remember(&counted);
        applied.late = retired;
        self.late += applied.late;
        self.uncertain += applied.uncertain;
        if !applied.more {
            self.complete_rebuild();
        }
        Ok(applied)
    }

    /// Lets time pass: what transactions that have ended can no longer bring is looked for more rarely.
    pub fn age(&mut self, at: Moment, gap_watch: i64) {
        self.frontier.age(at, gap_watch);
    }

    fn add_open(&mut self, labels: &Labels, open: OpenRows) {
        if open.rows == 0 {
            return;
        }
        let labels = labels.clone();
        let is_known = self.open_rows.len() < self.shape.limit || self.open_rows.contains_key(&labels);
        let labels = if is_known { labels } else { overflow(labels.len()) };
        self.open_rows.entry(labels).or_default().add(&open);
    }

    fn count(&mut self, group: Group, now: i64) {
        self.rows += group.ids.len() as u64;
        self.newest = self.newest.into_iter().chain(group.newest).reduce(f64::max);
        totals::add(&mut self.rejected, &group.rejected);
        let (set, by) = (group.set, group.by);
        let (labels, other) = (self.fold(set.clone()), self.fold_by(by.clone()));
        if labels != set || other != by {
            self.overflowed += group.ids.len() as u64;
        }
        let (birth, start) = if self.complete { (Birth::Waiting, Some(now)) } else { (Birth::Released, None) };
        self.combinations.insert(other.clone());
        let cell = totals::cell(&mut self.sets, &self.shape, labels, other, birth, start);
        totals::add(&mut cell.counts, &group.counts);
        totals::add(&mut cell.sums, &group.sums);
        exemplar::keep(&mut cell.exemplars, group.exemplars);
        for ((native, values), settings) in cell.natives.iter_mut().zip(&group.values).zip(&self.shape.natives) {
            native.count_in(values, group.sums[settings.sum], settings);
        }
    }

    /// The labels themselves, or those of the overflow set when they are new and no more sets are allowed.
    ///
    /// The decision is for life: a set that exists keeps its labels, one that was folded never gets a set of its own.
    /// Which labels were folded is not kept; so when the table is recounted and some were, all without a set are.
    fn fold(&self, labels: Labels) -> Labels {
        if self.sets.contains_key(&labels) {
            return labels;
        }
        let overflow = overflow(labels.len());
        let own = self.sets.len() - usize::from(self.sets.contains_key(&overflow));
        if own < self.shape.limit && !self.floor.contains_key(&overflow) { labels } else { overflow }
    }

    /// Likewise for the other labels.
    fn fold_by(&self, by: Labels) -> Labels {
        if self.combinations.contains(&by) {
            return by;
        }
        let overflow = overflow(by.len());
        let own = self.combinations.len() - usize::from(self.combinations.contains(&overflow));
        if own < self.shape.limit + self.shape.enumerated.len() { by } else { overflow }
    }

    /// What the rows of the source carry.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The sets in order of their labels.
    pub fn sets(&self) -> &Sets {
        &self.sets
    }

    /// Rows seen and not done, by the labels of gauges of open rows.
    pub fn open_rows(&self) -> &BTreeMap<Labels, OpenRows> {
        &self.open_rows
    }

    /// When the newest counted row finished, in seconds since the epoch.
    pub fn newest(&self) -> Option<f64> {
        self.newest
    }

    /// Which ids are counted, open and missing.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
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

    /// Rows that turned up under ids that had been retired.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// How often the database's ids started again.
    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// Rows that only their time told from those counted before.
    pub fn uncertain(&self) -> u64 {
        self.uncertain
    }

    /// Whether the history has been read to its end once.
    pub fn is_complete(&self) -> bool {
        self.complete && self.recount.is_none()
    }
}

fn overflow(labels: usize) -> Labels {
    vec![OVERFLOW.to_owned(); labels]
}

/// A label value cut on a character boundary.
pub fn cut(mut label: String) -> String {
    label.truncate(label.floor_char_boundary(MAX_LABEL_BYTES));
    label
}

#[cfg(test)]
pub(super) mod testing {
    use super::decimal::Decimal;
    use super::*;

    pub fn shape(limit: usize) -> Shape {
        Shape {
            counts: 1,
            sums: 1,
            values: 1,
            enumerated: vec![vec!["completed".into()], vec!["failed".into()]],
            limit,
            ..Shape::default()
        }
    }

    pub fn done(repo: &str, ids: &[i64]) -> Group {
        Group {
            set: vec![repo.into()],
            by: vec!["completed".into()],
            done: true,
            ids: ids.to_vec(),
            ats: ids.iter().map(|id| Some(*id as f64)).collect(),
            counts: vec![ids.len() as u64],
            sums: vec![Decimal::parse("0.5").unwrap()],
            rejected: vec![0],
            ..Group::default()
        }
    }

    pub fn poll(ledger: &mut Ledger, groups: Vec<Group>) -> Result<Applied, ApplyError> {
        let mut found: Vec<i64> = groups.iter().flat_map(|g| g.ids.clone()).collect();
        found.retain(|id| ledger.frontier().missing().contains(*id));
        found.sort_unstable();
        let plan = ledger.plan(&found, 100);
        ledger.apply(&plan, None, groups, Moment::default())
    }

    pub fn totals(ledger: &Ledger) -> BTreeMap<String, u64> {
        let total = |set: &Set| set.cells.values().map(|cell| cell.counts[0]).sum();
        ledger.sets().iter().map(|(labels, set)| (labels[0].clone(), total(set))).collect()
    }
}

#[cfg(test)]
mod tests;
