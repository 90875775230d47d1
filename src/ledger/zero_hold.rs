//! New series: shown as 0 until a scrape has seen that.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Ledger;

/// Whether the value of a new series may be shown yet.
///
/// A series whose first sample is already above 0 has no increase in Prometheus for what happened before it; so it is
/// shown as 0 first, until a scrape has seen that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub enum Birth {
    /// Its value is shown.
    #[default]
    Released,
    /// Shown as 0 from the next page on.
    Waiting,
    /// Shown as 0 since the page with this number, in no response yet.
    Shown(u64),
    /// Shown as 0 in a response made at this time (milliseconds on a steady clock). After a restart it waits again.
    Seen(u64),
}

impl From<bool> for Birth {
    fn from(held: bool) -> Self {
        if held { Self::Waiting } else { Self::Released }
    }
}

impl From<Birth> for bool {
    fn from(birth: Birth) -> Self {
        birth != Birth::Released
    }
}

impl Ledger {
    /// Every series known so far is on the page with this number.
    pub fn shown(&mut self, page: u64) {
        self.births(|birth| if birth == Birth::Waiting { Birth::Shown(page) } else { birth });
    }

    /// A response with the page of this number was made at `at` (milliseconds on any steady clock).
    pub fn served(&mut self, page: u64, at: u64) {
        self.births(
            |birth| if matches!(birth, Birth::Shown(first) if first <= page) { Birth::Seen(at) } else { birth },
        );
    }

    /// Releases the series that were shown as 0 at least `hold` milliseconds ago; says whether any was.
    pub fn release(&mut self, now: u64, hold: u64) -> bool {
        let is_due = |birth| matches!(birth, Birth::Seen(at) if now >= at.saturating_add(hold));
        self.births(|birth| if is_due(birth) { Birth::Released } else { birth })
    }

    /// Moves every birth on to its `next` stage; says whether any changed. Most never do again, and their sets stay
    /// shared with other copies of the ledger.
    fn births(&mut self, next: impl Fn(Birth) -> Birth) -> bool {
        let mut any = false;
        for set in self.sets.values_mut() {
            let moves = |birth| next(birth) != birth;
            if moves(set.birth) || set.cells.values().any(|cell| moves(cell.birth)) {
                let set = Arc::make_mut(set);
                set.birth = next(set.birth);
                set.cells.values_mut().for_each(|cell| cell.birth = next(cell.birth));
                any = true;
            }
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{done, poll, shape};
    use super::*;

    #[test]
    fn series_after_the_first_read_are_held_until_seen_and_old() {
        let mut ledger = Ledger::new(shape(10));
        poll(&mut ledger, vec![done("a", &[1])]).unwrap();
        poll(&mut ledger, vec![done("b", &[2])]).unwrap();
        let births = |l: &Ledger| l.sets().values().map(|s| s.birth).collect::<Vec<_>>();
        assert_eq!(births(&ledger), [Birth::Released, Birth::Waiting]);
        ledger.shown(7);
        assert!(!ledger.release(1_000_000, 90));
        ledger.served(6, 100);
        assert!(!ledger.release(1_000_000, 90), "the page before did not have it");
        ledger.served(7, 100);
        assert!(!ledger.release(189, 90));
        assert!(ledger.release(190, 90));
        assert_eq!(births(&ledger), [Birth::Released, Birth::Released]);
    }
}
