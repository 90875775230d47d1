//! Where the sequence of a table stands, and up to where the ids that it handed out have come to rest.

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;

/// What polls have seen of a sequence. Where none can be read, every id counts as handed out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sequence {
    /// The last number that it was seen to hand out.
    last: Option<i64>,
    /// One that it had handed out before, to transactions below the other number, which the poll after that one knows: a
    /// sequence is read later than the snapshot is taken, so that a transaction above it can have drawn ids.
    drawn: Option<(i64, Option<i64>)>,
    /// The transactions to which ids up to this were handed out have ended; unknown since ids could last come again.
    settled: Option<i64>,
}

impl Sequence {
    /// Notes where it stands; says whether it went back. `is_reset` if something else speaks for ids that come again.
    pub fn observe(&mut self, evidence: &Evidence, is_reset: bool) -> bool {
        let went_back = evidence.last < self.last && evidence.last.is_some();
        let is_new = self.last.is_none() && evidence.last.is_some();
        self.last = evidence.last.or(self.last);
        if went_back || is_new || is_reset {
            (self.drawn, self.settled) = (None, None);
        }
        match &mut self.drawn {
            Some((_, until @ None)) => *until = Some(evidence.xmax),
            Some((last, Some(until))) if *until <= evidence.xmin => {
                self.settled = Some(*last);
                self.drawn = None;
            }
            Some(_) => {}
            None => {}
        }
        if self.drawn.is_none() {
            self.drawn = Some((self.last.unwrap_or(i64::MAX), None));
        }
        went_back
    }

    /// Whether no transaction that runs, and none to come, has this id or draws it.
    pub fn is_settled(&self, id: i64) -> bool {
        self.settled.is_some_and(|settled| id <= settled) && self.is_past(id)
    }

    /// Whether it has come to this id.
    pub fn is_past(&self, id: i64) -> bool {
        self.last.is_none_or(|last| id <= last)
    }

    /// Whether transactions may run that drew ids before these could last come again.
    pub fn is_unsettled(&self) -> bool {
        self.settled.is_none()
    }

    /// Whether it can have handed out this id since ids could last come again: it stands above, or may have been set back
    /// after that while a transaction runs to which it gave the id.
    pub fn can_have_drawn(&self, id: i64) -> bool {
        self.settled.is_none() || self.is_past(id)
    }

    /// Whether it has gone back in what is seen now.
    pub fn is_above(&self, evidence: &Evidence) -> bool {
        evidence.last.is_some() && evidence.last < self.last
    }

    /// Ids above this were handed out to transactions that may still run, or will be handed out.
    pub fn handed_out(&self) -> Option<i64> {
        let last = self.last?;
        Some(self.settled.map_or(last, |settled| settled.min(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_settled_when_all_have_ended_that_ran_when_the_next_poll_began() {
        let at = |last, xmin, xmax| Evidence { last: Some(last), xmin, xmax, ..Evidence::default() };
        let mut sequence = Sequence::default();
        sequence.observe(&at(10, 5, 5), false);
        sequence.observe(&at(12, 5, 8), false);
        assert!(!sequence.is_settled(10), "transaction 7 may have drawn it");
        sequence.observe(&at(12, 7, 9), false);
        assert!(!sequence.is_settled(10));
        sequence.observe(&at(12, 8, 9), false);
        assert!(sequence.is_settled(10) && !sequence.is_settled(11) && sequence.handed_out() == Some(10));
        assert!(sequence.observe(&at(9, 9, 9), false));
        assert!(!sequence.is_settled(1) && !sequence.is_past(10) && sequence.handed_out() == Some(9));
    }
}
