//! Counting by keys: what a pass over a [`KeyWindow`] brings.

use super::key_window::{KeyWindow, Reach, Sweep};
use super::missing::Moment;
use super::{Applied, ApplyError, Group, Judgement, Ledger, OpenRows, Seen};

impl Ledger {
    /// What is known of keys.
    pub fn keys(&self) -> &KeyWindow {
        &self.keys
    }

    /// The database is another one: it is read from its beginning, and totals become the larger of both.
    pub fn begin_again(&mut self) -> Judgement {
        self.rebuild();
        Judgement::OtherDatabase
    }

    /// Rows seen and not done, as far as they are there.
    pub fn open(&self) -> u64 {
        self.frontier.open().len() + self.keys.open()
    }

    /// What is looked for and not there: skipped ids, or open rows that are gone.
    pub fn gaps(&self) -> u64 {
        self.frontier.missing().watched() + self.keys.absent()
    }

    /// Takes what one transaction found: the rows that were asked for, whose ids in `groups` are their places in
    /// [`Sweep::asked`], from 1 on; those of them that could not be read, as `failing`; and what was seen of open rows in
    /// the same snapshot. On an error nothing has changed.
    ///
    /// # Errors
    /// Fails if a key has two rows, or none although it was seen.
    pub fn apply_keys(
        &mut self,
        sweep: &Sweep,
        seen: &[Seen],
        groups: Vec<Group>,
        failing: &[i64],
        (reach, at, gap_watch): (Reach, Moment, i64),
    ) -> Result<Applied, ApplyError> {
        let asked = sweep.asked().len();
        let mut done: Vec<Option<bool>> = vec![None; asked];
        let place = |id: i64| usize::try_from(id - 1).ok().filter(|&place| place < asked);
        for (id, is_done) in groups.iter().flat_map(|group| group.ids.iter().map(|id| (*id, group.done))) {
            let place = place(id).ok_or(ApplyError::Unfindable)?;
            if done[place].replace(is_done).is_some() {
                return Err(ApplyError::DuplicateKey);
            }
        }
        let failed: std::collections::HashSet<usize> = failing.iter().filter_map(|id| place(*id)).collect();
        if (0..asked).any(|place| done[place].is_none() && !failed.contains(&place)) {
            return Err(ApplyError::Unfindable);
        }
        // What a pass that began earlier has passed, this snapshot can have more of.
        let mut applied = Applied { more: !(sweep.is_ended && sweep.is_begun()), ..Applied::default() };
        applied.late = self.keys.take(sweep, &done, reach, at.now, gap_watch);
        if sweep.is_full() {
            self.open_rows.clear();
            for seen in seen.iter().filter(|seen| !seen.done && !seen.known) {
                let oldest = seen.since.iter().map(|since| since.iter().flatten().copied().reduce(f64::min));
                self.add_open(&seen.open, OpenRows { rows: seen.ids.len() as u64, oldest: oldest.collect() });
            }
        }
        for group in groups.into_iter().filter(|group| !group.known) {
            if group.done {
                applied.counted += group.ids.len() as u64;
                self.count(group, at.now);
            } else {
                self.add_open(&group.open, OpenRows { rows: group.ids.len() as u64, oldest: group.oldest });
            }
        }
        if !applied.more {
            self.complete_rebuild();
        }
        Ok(applied)
    }
}
