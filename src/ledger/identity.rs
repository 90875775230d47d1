//! Which table is this? Asked of its rows: of some hundred counted ones that are remembered as *witnesses*.
//!
//! Files, sequences and servers change for many reasons; they only say when to look closer. As long as witnesses are in
//! place, nothing has happened. That one is absent proves nothing: rows are deleted. Only another row under the id of a
//! witness proves that ids were handed out again, and then how far down.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, Stamp};
use super::former::FormerRows;
use super::frontier::Frontier;
use super::id_set::IdSet;
use super::missing::Moment;
use super::run::{Run, runs};
use super::sequence::Sequence;
use super::witness::{Doubt, Mark, Status, Witness, Witnesses};

/// The witnesses of one source, and the surroundings in which they were last found in place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    witnesses: Witnesses,
    /// Grows with every row counted.
    order: u64,
    stamp: Option<Stamp>,
    sequence: Sequence,
    /// Rows that were counted under ids that other rows have now.
    former: FormerRows,
    /// How often something has spoken for ids that come again.
    alarms: u64,
    /// [`Identity::order`] at one of them, until all that was counted before is known to be in place or gone.
    alarmed: Option<u64>,
    /// [`Identity::order`] at the last of them.
    latest: u64,
    /// What the last poll found of that. What it counted can be of before, as its snapshot is older than what it saw
    /// beside.
    fresh: Doubt,
    /// The server is another one, and no row of it has been seen yet under the id of a witness.
    is_moved_server: bool,
    /// It has been told that ids came again.
    is_told: bool,
}

/// What a look at the witnesses found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdReset {
    /// Ids go on.
    #[default]
    None,
    /// The ids started again, or were set back: told once.
    Reset,
    /// Another database with other rows: it is counted from its beginning, and totals become the larger of both.
    OtherDatabase,
}

/// What the rules about a [`Run`] ask of the poll.
struct Look<'a> {
    evidence: &'a Evidence,
    seen: &'a BTreeMap<i64, Mark>,
    /// Rows that finished by then, in seconds since the epoch, are the old ones.
    until: f64,
    /// When the last poll was made, transactions could still bring ids that the sequence had handed out before.
    was_unsettled: bool,
    /// Some witness is in place, whether counted before ids came again or since.
    is_any_in_place: bool,
    /// The newest time of a witness that is in place and was counted before, in microseconds since the epoch.
    survivor: Option<i64>,
}

/// Another row under the id of a witness: the id, the witness, and when the row finished.
type OtherRow<'w> = (i64, &'w Witness, Option<i64>);

impl Identity {
    /// The ids to look at first: the newest witness, the smallest, and rows that would be counted if they came back.
    pub fn first_ids(&self, frontier: &Frontier) -> Vec<i64> {
        let uncounted = self.former.ids().filter(|&id| !frontier.is_counted(id));
        let ids: BTreeSet<i64> =
            self.witnesses.newest().into_iter().chain(self.witnesses.smallest()).chain(uncounted).collect();
        ids.into_iter().collect()
    }

    /// The ids of all witnesses, and of rows that can come back, in order.
    pub fn all_ids(&self) -> Vec<i64> {
        let ids: BTreeSet<i64> = self.witnesses.iter().map(|(id, _)| id).chain(self.former.ids()).collect();
        ids.into_iter().collect()
    }

    /// Whether a look at [`Identity::first_ids`], and the evidence beside them, call for no look at all.
    pub fn is_undisturbed(&self, evidence: &Evidence, seen: &BTreeMap<i64, Mark>, frontier: &Frontier) -> bool {
        let is_same = self.stamp.as_ref().is_some_and(|stamp| stamp.agrees(&evidence.stamp));
        let is_reached = |id| evidence.last.is_none_or(|last| id <= last);
        let is_doubtful = self.witnesses.iter().any(|(id, w)| w.doubt != Doubt::None && is_reached(id));
        let was_absent = |id: i64| self.witnesses.get(id).is_none_or(|witness| witness.absent);
        let Some((newest, smallest)) = self.witnesses.newest().zip(self.witnesses.smallest()) else { return false };
        is_same
            && self.fresh == Doubt::None
            && !evidence.xids_fell
            && !is_doubtful
            && !frontier.is_recycling()
            && !self.sequence.is_above(evidence)
            && !was_absent(newest)
            && self.witnesses.status(newest, seen) == Status::Same
            && match self.witnesses.status(smallest, seen) {
                Status::Same => !was_absent(smallest),
                Status::Absent => true,
                Status::Other(_) => false,
            }
            && !seen.iter().any(|(id, mark)| self.former.has(*id, mark))
    }

    /// Notes the evidence of a poll in which nothing speaks for a change.
    pub fn observe(&mut self, evidence: &Evidence) {
        self.sequence.observe(evidence, false);
    }

    /// Ids above this were handed out to transactions that may still run, or will be handed out.
    pub fn handed_out(&self) -> Option<i64> {
        self.sequence.handed_out()
    }

    /// Remembers rows that were counted, in the order of their ids.
    pub fn remember(&mut self, rows: &[(i64, Mark)]) {
        let beyond = if self.alarmed.is_some() { Doubt::SetBack } else { Doubt::Ahead };
        let ahead = |id| if self.sequence.is_past(id) { Doubt::None } else { beyond };
        self.witnesses.remember(rows, self.order + 1, ahead);
        self.order += rows.len() as u64;
    }

    /// Judges by all witnesses that are there what has been counted. `newest` is the newest time of a counted row, in
    /// seconds since the epoch, for when no witness is left.
    pub fn judge(
        &mut self,
        evidence: &Evidence,
        seen: &BTreeMap<i64, Mark>,
        newest: Option<f64>,
        frontier: &mut Frontier,
        at: Moment,
    ) -> IdReset {
        let old = |witness: &Witness| self.alarmed.is_none_or(|alarmed| witness.order <= alarmed);
        let until = self.witnesses.newest_time(evidence.now, old).or(newest).unwrap_or(f64::MAX);
        let was = self.stamp.clone().unwrap_or_else(|| evidence.stamp.clone());
        if evidence.is_other_history(&was) {
            frontier.restart(at);
        }
        self.is_moved_server |= was.is_other_system(&evidence.stamp);
        let changed = evidence.doubt(&was);
        let was_unsettled = self.sequence.is_unsettled();
        let went_back = self.sequence.observe(evidence, changed > Doubt::Changed);
        let doubt = if went_back { Doubt::SetBack } else { changed };
        if doubt != Doubt::None {
            self.alarms += 1;
            self.is_told = false;
        }
        let before = std::mem::replace(&mut self.fresh, doubt);
        let to_all = if before == Doubt::SetBack { before } else { doubt };
        self.witnesses.iter_mut().for_each(|(_, witness)| witness.doubt = witness.doubt.and(to_all));
        let can_come = |id| was_unsettled || self.sequence.can_have_drawn(id);
        if to_all != Doubt::None {
            self.latest = self.order;
            frontier.doubt_again();
        }
        let is_any_in_place = self.witnesses.iter().any(|(id, _)| self.witnesses.status(id, seen) == Status::Same);
        let is_first = self.alarmed.is_none() || !is_any_in_place;
        let replaced = self.replaced(seen, until, can_come);
        if replaced > Some(self.latest) {
            self.latest = self.order;
            frontier.doubt_again();
        }
        self.alarms += u64::from(replaced.is_some());
        if (doubt != Doubt::None && is_first) || replaced.is_some() {
            self.alarmed = Some(self.latest);
            frontier.doubt();
        }

        // What was counted since then says nothing of what was counted before.
        let old = self.witnesses.iter().filter(|(_, w)| self.alarmed.is_none_or(|alarmed| w.order <= alarmed));
        let statuses: Vec<(i64, Status)> = old.map(|(id, _)| (id, self.witnesses.status(id, seen))).collect();
        let look = Look {
            evidence,
            seen,
            until,
            was_unsettled,
            is_any_in_place,
            survivor: statuses.iter().filter(|s| s.1 == Status::Same).filter_map(|s| seen[&s.0].at).max(),
        };
        let in_place: Vec<i64> = statuses.iter().filter(|s| s.1 == Status::Same).map(|s| s.0).collect();
        in_place.iter().for_each(|&id| frontier.keep(id, id));
        in_place.windows(2).for_each(|pair| frontier.keep(pair[0], pair[1]));
        if statuses.is_empty() && self.alarmed.is_some() {
            frontier.recycle(i64::MIN, i64::MAX, until);
        }
        let is_moved =
            evidence.is_rewrite(&was) && evidence.last.is_some() && !went_back && self.witnesses.are_moved(seen);
        self.stamp = Some(evidence.stamp.over(was));
        let (mut forgotten, mut is_other) = (IdSet::default(), false);
        for run in runs(&statuses) {
            let within: Vec<(i64, Status)> =
                statuses.iter().filter(|(id, _)| (run.first..=run.last).contains(id)).copied().collect();
            if within.iter().all(|(_, status)| *status == Status::Absent) {
                self.miss(run, &look, frontier);
            } else if !is_moved && self.is_new(run, &within, &look) {
                is_other = true;
                if run.is_whole() && self.is_moved_server {
                    return IdReset::OtherDatabase;
                }
                forgotten.extend(forget(run, &within, until, frontier, at));
            }
        }
        let marks = self.witnesses.take_out(|id| forgotten.contains(id));
        self.former.put(self.alarms, marks, forgotten);
        self.learn(seen);
        for (id, mark) in self.former.recognize(seen, frontier, at) {
            if self.witnesses.get(id).is_none() {
                self.order += 1;
                self.witnesses.insert(id, Witness { mark, order: self.order, absent: false, doubt: Doubt::None });
            }
        }
        self.is_moved_server &= in_place.is_empty() && !is_other;
        if !self.witnesses.iter().any(|(_, witness)| witness.doubt != Doubt::None)
            && frontier.high().is_none_or(|high| self.sequence.is_settled(high))
        {
            frontier.trust();
            self.alarmed = None;
        }
        let is_reset = (went_back || is_other) && !self.is_told;
        self.is_told |= is_reset;
        if is_reset { IdReset::Reset } else { IdReset::None }
    }

    /// The order of the last of the rows that were counted since ids could come again and are no longer there: ids came
    /// again once more.
    fn replaced(&self, seen: &BTreeMap<i64, Mark>, until: f64, can_come: impl Fn(i64) -> bool) -> Option<u64> {
        let since = self.witnesses.iter().filter(|(_, w)| self.alarmed.is_some() && Some(w.order) > self.alarmed);
        let replaced = since.filter(|(id, witness)| match self.witnesses.status(*id, seen) {
            Status::Other(at) => {
                let is_newer = at.is_none_or(|at| at as f64 / 1e6 > until);
                let is_likely = witness.doubt == Doubt::SetBack || witness.absent || is_newer;
                can_come(*id) && witness.doubt > Doubt::None && is_likely
            }
            _ => false,
        });
        replaced.map(|(_, witness)| witness.order).max()
    }

    /// No witness of a run is there.
    fn miss(&mut self, run: Run, look: &Look<'_>, frontier: &mut Frontier) {
        let is_unaware = self.witnesses.iter().any(|(_, witness)| witness.doubt == Doubt::None);
        if look.evidence.last.is_none() && run.is_whole() && is_unaware && !look.is_any_in_place {
            // Without a sequence nothing else would tell that the ids start again.
            self.witnesses.iter_mut().for_each(|(_, w)| w.doubt = w.doubt.max(Doubt::Changed));
            self.latest = self.order;
            frontier.doubt_again();
            self.alarmed = Some(self.latest);
            frontier.doubt();
        }
        let may_come = |(_, w): (i64, &Witness)| w.doubt != Doubt::None;
        if self.witnesses.iter().filter(|(id, _)| (run.first..=run.last).contains(id)).any(may_come) {
            let (start, end) = run.bounds();
            frontier.recycle(start, end, look.until);
        }
    }

    /// Whether the rows of a run that are there are others than those that were counted, and not these, edited.
    fn is_new(&self, run: Run, within: &[(i64, Status)], look: &Look<'_>) -> bool {
        let others: Vec<OtherRow<'_>> = within
            .iter()
            .filter_map(|(id, status)| match status {
                Status::Other(at) => Some((*id, self.witnesses.get(*id)?, *at)),
                _ => None,
            })
            .collect();
        let majority =
            |test: &dyn Fn(&OtherRow<'_>) -> bool| others.iter().filter(|other| test(other)).count() * 2 > others.len();
        if majority(&|(id, _, _)| look.seen.get(id).is_some_and(|mark| self.former.has(*id, mark))) {
            return true;
        }
        let doubt = |(id, witness, _): &OtherRow<'_>| {
            if look.was_unsettled || self.sequence.can_have_drawn(*id) { witness.doubt } else { Doubt::None }
        };
        let were_absent = others.iter().any(|(_, witness, _)| witness.absent);
        // What has no time has not finished yet.
        let are_newer = majority(&|(_, _, at)| at.is_none_or(|at| at as f64 / 1e6 > look.until));
        let is_last = run.above.is_none();
        match others.iter().map(doubt).max().unwrap_or_default() {
            Doubt::SetBack => true,
            // Else it is the row that was counted, edited.
            Doubt::Ahead => were_absent,
            // What is lost is what was written last.
            Doubt::OtherHistory if is_last => true,
            Doubt::OtherHistory => {
                are_newer && (were_absent || !others.iter().any(|(_, witness, _)| witness.mark.at < look.survivor))
            }
            Doubt::Changed if is_last => were_absent || (are_newer && (run.is_whole() || others.len() > 1)),
            _ => were_absent && are_newer && look.evidence.last.is_none(),
        }
    }

    /// Takes over what was found: edits of rows in place, absences, and what is no longer in doubt.
    fn learn(&mut self, seen: &BTreeMap<i64, Mark>) {
        let statuses: Vec<(i64, Status)> =
            self.witnesses.iter().map(|(id, _)| (id, self.witnesses.status(id, seen))).collect();
        let mut survivor = None;
        for (id, status) in statuses.into_iter().rev() {
            let is_settled = self.sequence.is_settled(id);
            let Some(witness) = self.witnesses.get_mut(id) else { continue };
            witness.absent = status == Status::Absent;
            if let Some(mark) = seen.get(&id) {
                witness.mark = *mark;
            }
            // What is absent below an old row in place was deleted, and not lost.
            let is_clear = status == Status::Same || (status == Status::Absent && witness.mark.at < survivor);
            if status == Status::Same && self.alarmed.is_none_or(|alarmed| witness.order <= alarmed) {
                survivor = survivor.max(witness.mark.at);
            }
            if is_clear && is_settled && self.fresh == Doubt::None {
                witness.doubt = Doubt::None;
            }
        }
    }
}

/// Forgets what had been counted of a run in which there are other rows now; returns the ids.
fn forget(run: Run, within: &[(i64, Status)], until: f64, frontier: &mut Frontier, at: Moment) -> IdSet {
    let others: Vec<(i64, Option<i64>)> = within
        .iter()
        .filter_map(|(id, status)| if let Status::Other(at) = status { Some((*id, *at)) } else { None })
        .collect();
    let (start, end) = run.bounds();
    frontier.recycle(start, end, until);
    if others.iter().all(|(_, at)| at.is_none()) {
        // Not finished: new, or old ones before they finished. That says nothing of the ids around.
        let mut forgotten = IdSet::default();
        others.iter().for_each(|(id, _)| forgotten.extend(frontier.forget(*id, *id, at)));
        return forgotten;
    }
    // Up to the first other row, nobody remembers which rows were there.
    let (first, last) = (others[0].0, others[others.len() - 1].0);
    frontier.forget(first, if run.above.is_none() { i64::MAX } else { last }, at)
}

#[cfg(test)]
mod tests;
