//! Runs of witnesses that are not in place, between two that are.

use super::witness::Status;

/// A run of witnesses that are not in place, between two that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The witness in place below it.
    pub below: Option<i64>,
    /// The first witness of the run.
    pub first: i64,
    /// Its last one.
    pub last: i64,
    /// The witness in place above it.
    pub above: Option<i64>,
}

impl Run {
    /// Whether no witness at all is in place.
    pub fn is_whole(&self) -> bool {
        self.below.is_none() && self.above.is_none()
    }

    /// The ids between the witnesses in place, inclusive.
    pub fn bounds(&self) -> (i64, i64) {
        let start = if self.is_whole() { i64::MIN } else { self.below.map_or(self.first, |id| id.saturating_add(1)) };
        (start, self.above.map_or(i64::MAX, |id| id.saturating_sub(1)))
    }
}

/// The runs of witnesses that are not in place; `statuses` is in the order of their ids.
pub fn runs(statuses: &[(i64, Status)]) -> Vec<Run> {
    let (mut runs, mut below): (Vec<Run>, Option<i64>) = (Vec::new(), None);
    for group in statuses.chunk_by(|a, b| (a.1 == Status::Same) == (b.1 == Status::Same)) {
        if group[0].1 == Status::Same {
            if let Some(run) = runs.last_mut().filter(|run| run.above.is_none()) {
                run.above = Some(group[0].0);
            }
            below = Some(group[group.len() - 1].0);
        } else {
            runs.push(Run { below, first: group[0].0, last: group[group.len() - 1].0, above: None });
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_lie_between_witnesses_in_place() {
        let (same, absent, other) = (Status::Same, Status::Absent, Status::Other(None));
        let found = runs(&[(1, absent), (3, same), (5, other), (6, absent), (9, same), (12, absent)]);
        let bounds: Vec<_> = found.iter().map(Run::bounds).collect();
        assert_eq!(bounds, [(1, 2), (4, 8), (10, i64::MAX)]);
        assert_eq!(runs(&[(4, absent)]).iter().map(Run::bounds).collect::<Vec<_>>(), [(i64::MIN, i64::MAX)]);
    }
}
