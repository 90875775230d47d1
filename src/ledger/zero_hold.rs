//! New series: shown as 0 until a scrape has seen that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

/// When a page first was in a response: milliseconds on a steady clock, plus 1; 0 for not yet.
#[derive(Debug, Default)]
pub struct ScrapeMark(AtomicU64);

impl ScrapeMark {
    /// When the page first was in a response, in milliseconds.
    pub fn at(&self) -> Option<u64> {
        self.0.load(Ordering::Acquire).checked_sub(1)
    }

    /// Notes a response at `now`, in milliseconds.
    pub fn set(&self, now: u64) {
        // Only the first response counts; when another was faster, it has noted its time.
        if self.at().is_none() {
            let _ = self.0.compare_exchange(0, now + 1, Ordering::AcqRel, Ordering::Acquire);
        }
    }
}

/// Holds the new series of one source at 0, from page to page.
#[derive(Debug)]
pub struct ZeroHold {
    /// How long a series stays 0 after the first response that had it, in milliseconds.
    hold: u64,
    /// How many pages there have been.
    pages: u64,
    /// The last pages, oldest first: the one before last too, since a response that began before the swap can have ended
    /// after it.
    marks: [Option<(u64, Arc<ScrapeMark>)>; 2],
}

impl ZeroHold {
    /// Series stay 0 for `hold` after the first response that had them.
    pub fn new(hold: Duration) -> Self {
        Self { hold: u64::try_from(hold.as_millis()).unwrap_or(u64::MAX), pages: 0, marks: [None, None] }
    }

    /// Releases the series that scrapes have seen at 0 for long enough; `now` is on the clock of [`ScrapeMark`].
    pub fn release(&self, ledger: &mut Ledger, now: u64) {
        for (page, mark) in self.marks.iter().flatten() {
            if let Some(at) = mark.at() {
                ledger.mark_scraped(*page, at);
            }
        }
        ledger.release(now, self.hold);
    }

    /// Notes that all series of the ledger are on the next page; returns the mark of that page.
    pub fn publish(&mut self, ledger: &mut Ledger) -> Arc<ScrapeMark> {
        self.pages += 1;
        ledger.mark_published(self.pages);
        let mark: Arc<ScrapeMark> = Arc::default();
        self.marks = [self.marks[1].take(), Some((self.pages, mark.clone()))];
        mark
    }
}

impl Ledger {
    /// Every series known so far is on the page with this number.
    fn mark_published(&mut self, page: u64) {
        self.births(|birth| if birth == Birth::Waiting { Birth::Shown(page) } else { birth });
    }

    /// A response with the page of this number was made at `at` (milliseconds on any steady clock).
    fn mark_scraped(&mut self, page: u64, at: u64) {
        self.births(
            |birth| if matches!(birth, Birth::Shown(first) if first <= page) { Birth::Seen(at) } else { birth },
        );
    }

    /// Releases the series that were shown as 0 at least `hold` milliseconds ago; says whether any was.
    fn release(&mut self, now: u64, hold: u64) -> bool {
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
    use super::super::Group;
    use super::super::testing::{done, poll, shape};
    use super::*;

    #[test]
    fn series_after_the_first_read_are_held_until_seen_and_old() {
        let mut ledger = Ledger::new(shape(10));
        poll(&mut ledger, vec![done("a", &[1])]).unwrap();
        poll(&mut ledger, vec![done("b", &[2])]).unwrap();
        let births = |l: &Ledger| l.sets().values().map(|s| s.birth).collect::<Vec<_>>();
        assert_eq!(births(&ledger), [Birth::Released, Birth::Waiting]);
        ledger.mark_published(7);
        assert!(!ledger.release(1_000_000, 90));
        ledger.mark_scraped(6, 100);
        assert!(!ledger.release(1_000_000, 90), "the page before did not have it");
        ledger.mark_scraped(7, 100);
        assert!(!ledger.release(189, 90));
        assert!(ledger.release(190, 90));
        assert_eq!(births(&ledger), [Birth::Released, Birth::Released]);
    }

    #[test]
    fn what_is_counted_from_history_has_no_start_and_what_is_born_later_has_one() {
        let mut ledger = Ledger::new(shape(10));
        let at = |ledger: &mut Ledger, now, groups| {
            let moment = super::super::missing::Moment { now, ..Default::default() };
            ledger.apply(&ledger.plan(&[], 2), None, groups, moment).unwrap().more
        };
        // The history takes two polls.
        assert!(at(&mut ledger, 100, vec![done("a", &[1, 2])]));
        assert!(!at(&mut ledger, 200, vec![done("b", &[3])]));
        at(&mut ledger, 300, vec![done("a", &[4]), done("c", &[5])]);
        let later = Group { by: vec!["late".into()], ..done("a", &[6]) };
        at(&mut ledger, 400, vec![later]);
        let starts = |ledger: &Ledger| -> Vec<_> {
            let of =
                |set: &Arc<super::super::Set>| (set.start, set.cells.values().map(|c| c.start).collect::<Vec<_>>());
            ledger.sets().values().map(of).collect()
        };
        let (a, b, c) = ((None, vec![None, None, Some(400)]), (None, vec![None; 2]), (Some(300), vec![Some(300); 2]));
        assert_eq!(starts(&ledger), [a, b, c]);

        // As an older version wrote it, every start is the time of its poll, of the history's too.
        let mut saved = serde_json::to_value(&ledger).unwrap().to_string();
        assert_eq!(serde_json::from_str::<Ledger>(&saved).map(|ledger| starts(&ledger)).unwrap(), starts(&ledger));
        for time in ["null", "300", "400"] {
            saved = saved.replace(&format!("\"start\":{time}"), "\"created\":100");
        }
        let older = serde_json::from_str::<Ledger>(&saved).unwrap();
        assert!(
            starts(&older).iter().all(|(set, cells)| set.is_none() && cells.iter().all(Option::is_none)),
            "{saved}"
        );
        assert_eq!(older.rows(), 6);
    }
}
