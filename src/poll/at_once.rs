//! All that a poll asks of a source, in one statement.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant};

use super::look::LOOK_RANGES;
use super::{Tracked, failing};
use crate::ledger::frontier::{Sighting, Watch};
use crate::ledger::witness::{Mark, checksum};
use crate::ledger::{ApplyError, Group, Seen};
use crate::postgres::{Failure, Session};

/// All that a poll asks of a source, answered by one statement.
pub(super) struct AtOnce {
    /// Counted rows that were looked at.
    pub(super) witnesses: BTreeMap<i64, Mark>,
    pub(super) watched: Option<(Sighting, Vec<Seen>)>,
    pub(super) groups: Vec<Group>,
    pub(super) took: Duration,
}

impl Tracked {
    /// Witnesses, open and missing ids, and the tail by one statement; nothing if that is too much for one, or if the
    /// SELECT raises on a row.
    ///
    /// With a thousand partitions the server takes longer to plan a statement than to run it.
    pub(super) async fn at_once(
        &mut self,
        session: &Session,
        watch: Option<&Watch>,
    ) -> Result<Option<AtOnce>, Failure> {
        let ranges = self.failing.cut_out(watch.map_or_else(Vec::new, |watch| watch.ranges.clone()));
        let plan = self.ledger.plan_at_once(watch.unwrap_or(&Watch::default()), &ranges, self.chunk.rows());
        let Some(plan) = plan.filter(|plan| plan.ranges.len() <= LOOK_RANGES) else { return Ok(None) };
        let started = Instant::now();
        let groups = match session.read(&self.source, &plan).await {
            Err(failure) if failing::is_of_a_row(&failure) => {
                session.batch("ROLLBACK TO SAVEPOINT source").await?;
                return Ok(None);
            }
            groups => groups?,
        };
        let took = started.elapsed();
        let (witnesses, mut groups) = part_witnesses(groups, &self.ledger.witnesses()).map_err(|e| self.wrong(&e))?;
        let Some(watch) = watch else {
            return Ok(Some(AtOnce { witnesses, watched: None, groups, took }));
        };
        let seen: Vec<Seen> = groups.iter().map(|group| as_seen(group, self.ledger.frontier().high())).collect();
        let sighting = self.ledger.sort(watch, &seen).map_err(|e| self.wrong(&e))?;
        let mut ids: Vec<i64> = seen.iter().flat_map(|seen| seen.ids.iter().copied()).collect();
        ids.sort_unstable();
        let within = |lo, hi| ids.partition_point(|&id| id <= hi) - ids.partition_point(|&id| id < lo);
        if sighting.found.len() > self.chunk.rows()
            || ranges.iter().any(|&(lo, hi)| within(lo, hi) >= self.chunk.rows())
        {
            return Ok(None);
        }
        groups.iter_mut().for_each(|group| keep(group, |id| sighting.still_open.binary_search(&id).is_err()));
        groups.retain(|group| !group.ids.is_empty());
        Ok(Some(AtOnce { witnesses, watched: Some((sighting, seen)), groups, took }))
    }
}

/// Leaves only some of the rows of a group that is not to be counted, or of which only the ids and times are asked.
fn keep(group: &mut Group, is_kept: impl Fn(i64) -> bool) {
    let kept: Vec<bool> = group.ids.iter().map(|&id| is_kept(id)).collect();
    let mut is_kept = kept.iter();
    group.ids.retain(|_| *is_kept.next().unwrap_or(&true));
    let mut is_kept = kept.iter();
    group.ats.retain(|_| *is_kept.next().unwrap_or(&true));
}

/// Takes the rows under some ids, which are in order, out of the known ones.
fn part_witnesses(mut groups: Vec<Group>, ids: &[i64]) -> Result<(BTreeMap<i64, Mark>, Vec<Group>), ApplyError> {
    let mut witnesses = BTreeMap::new();
    for group in groups.iter_mut().filter(|group| group.known) {
        let labels = checksum(group.set.iter().chain(&group.by));
        for (&id, &at) in group.ids.iter().zip(&group.ats).filter(|(id, _)| ids.binary_search(id).is_ok()) {
            if witnesses.insert(id, Mark::of(at, labels)).is_some() {
                return Err(ApplyError::Duplicate(id));
            }
        }
        keep(group, |id| ids.binary_search(&id).is_err());
    }
    groups.retain(|group| !group.ids.is_empty());
    Ok((witnesses, groups))
}

/// The ids of a group up to `high` as a look at them would have found them. All that are open have the time of the oldest:
/// no other is asked of rows with the same labels.
fn as_seen(group: &Group, high: Option<i64>) -> Seen {
    let ids: Vec<i64> = group.ids.iter().copied().filter(|&id| Some(id) <= high).collect();
    let since = group.oldest.iter().map(|&oldest| vec![oldest; ids.len()]).collect();
    Seen { done: group.done, open: group.open.clone(), ids, known: group.known, since }
}
