//! Tables from before their ids came again: their rows can come back, by a restore, a swap of names or an archive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::frontier::Frontier;
use super::id_set::IdSet;
use super::missing::Moment;
use super::witness::Mark;

/// So many are remembered.
const MOST: usize = 4;

/// Rows of one table that were counted under ids that other rows have now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Former {
    /// Grows with every time that ids come again.
    reset: u64,
    /// What identifies the witnesses among them.
    marks: BTreeMap<i64, Mark>,
    /// The ids of all.
    counted: IdSet,
}

/// Rows that were counted under ids that other rows have now, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FormerRows(Vec<Former>);

impl FormerRows {
    /// The ids of those that are known by their marks.
    pub fn ids(&self) -> impl Iterator<Item = i64> {
        self.0.iter().flat_map(|former| former.marks.keys().copied())
    }

    /// Whether the row that is there has been counted under this id before it came again.
    pub fn has(&self, id: i64, mark: &Mark) -> bool {
        self.0.iter().any(|former| former.marks.get(&id) == Some(mark))
    }

    /// Puts rows aside, of the `reset`th time that ids came again.
    pub fn put(&mut self, reset: u64, marks: BTreeMap<i64, Mark>, counted: IdSet) {
        if marks.is_empty() {
            return;
        }
        for former in &mut self.0 {
            former.marks.retain(|id, mark| marks.get(id) != Some(mark));
        }
        match self.0.last_mut() {
            Some(last) if last.reset == reset && !marks.keys().any(|id| last.marks.contains_key(id)) => {
                last.marks.extend(marks);
                last.counted.extend(counted);
            }
            _ => self.0.push(Former { reset, marks, counted }),
        }
        self.0.retain(|former| !former.marks.is_empty());
        self.0.drain(..self.0.len().saturating_sub(MOST));
    }

    /// Takes rows that are back for counted ones; returns those of them that are known by their marks.
    pub fn recognize(&self, seen: &BTreeMap<i64, Mark>, frontier: &mut Frontier, at: Moment) -> Vec<(i64, Mark)> {
        let mut back = Vec::new();
        for former in &self.0 {
            let is_same = |id: &i64| former.marks.get(id) == seen.get(id);
            let there: Vec<i64> = former.marks.keys().copied().filter(|id| seen.contains_key(id)).collect();
            // What lies between two that are back is back as well.
            for pair in there.windows(2).filter(|pair| pair.iter().all(is_same)) {
                frontier.take_counted(&former.counted.within(pair[0], pair[1]), at);
            }
            // So is what lies beyond, whose times do not identify it, when all that can be told is back.
            if there.len() > 1 && there.iter().all(is_same) {
                frontier.take_counted(&former.counted.within(i64::MIN, there[0]), at);
                let newest = former.marks.last_key_value().map(|(id, _)| *id);
                if let Some(&last) = there.last().filter(|&&last| Some(last) == newest) {
                    frontier.take_counted(&former.counted.within(last, i64::MAX), at);
                }
            }
            for id in there.into_iter().filter(is_same) {
                if !frontier.is_counted(id) {
                    frontier.take_counted(&[(id, id)].into_iter().collect(), at);
                }
                back.push((id, former.marks[&id]));
            }
        }
        back
    }
}
