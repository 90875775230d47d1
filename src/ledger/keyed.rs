//! Counting by keys: what a pass over a [`KeyWindow`] brings.

use super::key_window::{KeyWindow, Reach, Sweep};
use super::missing::Moment;
use super::{Applied, ApplyError, Group, IdReset, Ledger, OpenRows, Seen};

impl Ledger {
    /// What is known of keys.
    pub fn keys(&self) -> &KeyWindow {
        &self.keys
    }

    /// The database is another one: it is read from its beginning, and totals become the larger of both.
    pub fn begin_again(&mut self) -> IdReset {
        self.rebuild();
        IdReset::OtherDatabase
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

#[cfg(test)]
mod tests {
    use super::super::key_window::{Place, hash};
    use super::super::testing::{done, shape, totals};
    use super::*;

    /// One pass by transactions over rows of these keys, all of which are done.
    fn pass(ledger: &mut Ledger, snapshot: &str, keys: &[&str]) -> Result<Applied, ApplyError> {
        let window = ledger.keys().clone();
        let mut sweep = window.begin(Some(snapshot.to_owned()), true);
        let place = |key: &&str| Place { key: vec![(*key).to_owned()], place: vec![(*key).to_owned()], tick: 0 };
        sweep.scanned(&window, None, keys.iter().map(place).collect()).map_err(|_| ApplyError::DuplicateKey)?;
        sweep.is_ended = true;
        let groups = vec![done("a", &(1..=keys.len() as i64).collect::<Vec<_>>())];
        ledger.apply_keys(&sweep, &[], groups, &[], (Reach::default(), Moment::default(), i64::MAX))
    }

    #[test]
    fn another_server_is_read_from_its_beginning_and_totals_become_the_larger_of_both() {
        let mut ledger = Ledger::new(shape(10));
        pass(&mut ledger, "10:10:", &["x", "y"]).unwrap();
        pass(&mut ledger, "12:12:", &["z"]).unwrap();
        assert_eq!(ledger.keys().snapshots().0, Some("12:12:"));
        ledger.begin_again();
        assert!(ledger.keys().is_unused());
        pass(&mut ledger, "5:5:", &["x", "y"]).unwrap();
        assert_eq!(totals(&ledger)["a"], 3);
        pass(&mut ledger, "6:6:", &["v"]).unwrap();
        assert_eq!(totals(&ledger)["a"], 4);
    }

    #[test]
    fn a_key_twice_and_a_row_that_is_not_found_are_refused_and_change_nothing() {
        let mut ledger = Ledger::new(shape(10));
        let before = ledger.clone();
        assert_eq!(pass(&mut ledger, "1:1:", &["x", "x"]), Err(ApplyError::DuplicateKey));
        let window = ledger.keys().clone();
        let mut sweep = window.begin(None, true);
        let rows = ["x", "y"].map(|key| Place { key: vec![key.into()], place: vec![key.into()], tick: 1 });
        sweep.scanned(&window, None, rows.to_vec()).unwrap();
        let mut apply = |ids: &[i64]| {
            ledger.apply_keys(&sweep, &[], vec![done("a", ids)], &[], (Reach::default(), Moment::default(), 1))
        };
        assert_eq!(apply(&[1]), Err(ApplyError::Unfindable));
        assert_eq!(apply(&[1, 2, 2]), Err(ApplyError::DuplicateKey));
        assert_eq!(apply(&[1, 2, 3]), Err(ApplyError::Unfindable));
        assert_eq!(ledger, before);
    }

    #[test]
    fn no_two_keys_have_one_text() {
        let key = |parts: &[&str]| hash(&parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>());
        assert_ne!(key(&["a", "bc"]), key(&["ab", "c"]));
        assert_ne!(key(&["a"]), key(&["a", ""]));
    }
}
