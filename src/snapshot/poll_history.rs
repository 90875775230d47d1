//! How polls went.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::postgres::Failure;

/// The polls of this time are one bar of the timeline.
pub const SLOT: Duration = Duration::from_secs(30);
/// The timeline has this many bars: one hour.
pub const SLOTS: u64 = 120;

/// How polls went.
#[derive(Clone, Debug, Default)]
pub struct PollHistory {
    /// The polls of the last hour, oldest first.
    pub slots: VecDeque<Slot>,
    /// The last poll: when it ended and how long it took.
    pub last: Option<(SystemTime, Duration)>,
    /// When the next poll begins, unless one is going on.
    pub next: Option<Instant>,
    /// Why the database could not be read at all.
    pub failure: Option<Trouble>,
    /// Why sources could not be read, by name, when the database could.
    pub sources: BTreeMap<String, Trouble>,
    /// The server's version, and true if it is a standby.
    pub server: Option<(String, bool)>,
    /// When the state was last saved, and true if the last attempt to save it failed.
    pub saved: (Option<SystemTime>, bool),
}

/// A failure that goes on.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// The last one.
    pub failure: Failure,
    /// When the first of those in a row was.
    pub since: SystemTime,
}

impl Trouble {
    /// A failure at `now` that follows on what was before.
    pub fn after(failure: Failure, before: Option<&Self>, now: SystemTime) -> Self {
        Self { failure, since: before.map_or(now, |before| before.since) }
    }
}

/// The polls of a part of the hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slot {
    /// Which part, counted from the start of the process.
    pub number: u64,
    /// The longest of them.
    pub longest: Duration,
    /// True if any failed.
    pub failed: bool,
}

impl PollHistory {
    /// Adds a poll that ended at `now`, `age` after the process began.
    pub fn add(&mut self, now: SystemTime, age: Duration, took: Duration, failure: Option<&Failure>) {
        let failed = failure.is_some() || !self.sources.is_empty();
        self.last = Some((now, took));
        self.failure = failure.map(|failure| Trouble::after(failure.clone(), self.failure.as_ref(), now));
        let number = age.as_secs() / SLOT.as_secs();
        match self.slots.back_mut().filter(|slot| slot.number == number) {
            Some(slot) => *slot = Slot { number, longest: slot.longest.max(took), failed: slot.failed || failed },
            None => self.slots.push_back(Slot { number, longest: took, failed }),
        }
        while self.slots.front().is_some_and(|slot| slot.number + SLOTS <= number) {
            self.slots.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeline_holds_an_hour_whatever_the_interval() {
        let mut history = PollHistory::default();
        for second in 0..10_000 {
            history.add(SystemTime::UNIX_EPOCH, Duration::from_secs(second), Duration::from_millis(second), None);
        }
        assert_eq!(history.slots.len() as u64, SLOTS);
        assert_eq!(history.slots.back().map(|slot| slot.longest), Some(Duration::from_millis(9_999)));
        let failure = Failure::new(crate::postgres::Reason::Timeout, "slow");
        history.add(SystemTime::UNIX_EPOCH, Duration::from_secs(20_000), Duration::from_secs(1), Some(&failure));
        assert_eq!(history.slots.iter().map(|slot| slot.failed).collect::<Vec<_>>(), [true]);
    }

    #[test]
    fn trouble_goes_on_since_the_first_failure_in_a_row() {
        let mut history = PollHistory::default();
        let mut since = |second: u64, is_failure: bool| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            let failure = is_failure.then(|| Failure::new(crate::postgres::Reason::Timeout, "slow"));
            history.add(now, Duration::ZERO, Duration::ZERO, failure.as_ref());
            history
                .failure
                .as_ref()
                .map(|trouble| trouble.since.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
        };
        assert_eq!(
            [since(1, true), since(2, true), since(3, false), since(4, true)],
            [Some(1), Some(1), None, Some(4)]
        );
    }
}
