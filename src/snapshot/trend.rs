//! Totals of the last day, to say how much of them is new. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Totals are noted at most this often.
const FINE: Duration = Duration::from_secs(60);
/// Those of more than an hour ago are kept at most this often.
const COARSE: Duration = Duration::from_secs(900);
/// An hour, with the time between two notes.
const HOUR: Duration = Duration::from_secs(3_660);
/// A day, likewise.
const DAY: Duration = Duration::from_secs(87_300);

/// Totals of a moment: rows, then one for each metric, by the name of the source.
pub type Totals = BTreeMap<String, Vec<f64>>;

/// Totals over time, oldest first; times are counted from the start of the process.
#[derive(Clone, Debug, Default)]
pub struct Trend(VecDeque<(Duration, Totals)>);

impl Trend {
    /// True if totals are to be noted again.
    pub fn is_due(&self, now: Duration) -> bool {
        self.0.back().is_none_or(|(at, _)| now >= *at + FINE)
    }

    /// Notes the totals of now.
    pub fn note(&mut self, now: Duration, totals: Totals) {
        self.0.push_back((now, totals));
        while self.0.front().is_some_and(|(at, _)| *at + DAY < now) {
            self.0.pop_front();
        }
        // Of two old ones that are close, the newer goes; each note makes at most one old.
        let old = self.0.iter().take_while(|(at, _)| *at + HOUR < now).count();
        if old > 2 && self.0[old - 1].0 < self.0[old - 3].0 + COARSE {
            self.0.remove(old - 2);
        }
    }

    /// The totals of `ago`, and of when they really are: those of the start if that is later.
    pub fn before(&self, now: Duration, ago: Duration) -> Option<(Duration, &Totals)> {
        let not_after = self.0.iter().rev().find(|(at, _)| *at + ago <= now);
        let (at, totals) = not_after.or(self.0.front())?;
        Some((now.saturating_sub(*at), totals))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(total: u32) -> Totals {
        [("x".to_owned(), vec![f64::from(total)])].into()
    }

    #[test]
    fn an_hour_and_a_day_ago_are_known_from_few_notes() {
        let mut trend = Trend::default();
        for minute in 0..4_000_u32 {
            let now = FINE * minute;
            assert!(trend.is_due(now) && (minute == 0 || !trend.is_due(now - Duration::from_secs(1))));
            trend.note(now, totals(minute));
        }
        assert!(trend.0.len() < 200, "{}", trend.0.len());
        let now = FINE * 3_999;
        let at = |minutes: u32| trend.before(now, FINE * minutes).map(|(ago, totals)| (ago, totals["x"][0]));
        assert_eq!(at(60), Some((FINE * 60, 3_939.0)));
        let (ago, total) = at(24 * 60).unwrap();
        assert!(ago >= FINE * 1_440 && ago <= FINE * 1_440 + COARSE, "{ago:?}");
        assert_eq!(total, (now - ago).as_secs_f64() / 60.0);
        let mut young = Trend::default();
        assert_eq!(young.before(FINE, FINE), None);
        young.note(FINE, totals(7));
        assert_eq!(young.before(FINE * 3, FINE * 60), Some((FINE * 2, &totals(7))));
    }
}
