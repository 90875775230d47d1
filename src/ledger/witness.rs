//! Witnesses: some hundred counted rows that are remembered, so that a table can be recognised by its rows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// So many of the rows counted last are remembered.
const RECENT: usize = 256;
/// And so many with the smallest ids.
const SMALLEST: usize = 16;
/// There are never more witnesses than this; those in between are thinned out.
pub const MOST: usize = 400;
/// A row that finishes later than this after now, by the database's clock, has a time that means nothing (microseconds).
/// Local times of any zone are less ahead.
const NONSENSE: i64 = 26 * 3_600_000_000;

/// Zones differ by quarters of an hour (microseconds).
const QUARTER: i64 = 900_000_000;

/// What identifies a counted row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When it finished, in microseconds since the epoch.
    pub at: Option<i64>,
    /// A checksum of its labels.
    pub labels: u32,
}

impl Mark {
    /// Of a row that finished at `at` (seconds since the epoch), by the checksum of its labels.
    pub fn of(at: Option<f64>, labels: u32) -> Self {
        Self { at: at.map(|seconds| (seconds * 1e6).round() as i64), labels }
    }

    /// Of a row with these labels.
    pub fn new(at: Option<f64>, labels: &[String]) -> Self {
        Self::of(at, checksum(labels.iter()))
    }
}

/// The checksum of labels.
pub fn checksum<'a>(labels: impl Iterator<Item = &'a String>) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    for label in labels {
        hash.update(label.as_bytes());
        hash.update(&[0]);
    }
    hash.finalize()
}

/// Why the id of a witness may have been handed out again since its row was last seen in place; the last is the surest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Doubt {
    /// Nothing speaks for it.
    #[default]
    None,
    /// The table, the sequence or the server has changed, as it does for many reasons.
    Changed,
    /// The sequence had not come to this id when the row was counted: it was given explicitly, and is handed out once more if
    /// the row is deleted before.
    Ahead,
    /// The server's history is another one, or the database or the sequence is.
    OtherHistory,
    /// The sequence was set back since the row was counted, or shortly before.
    SetBack,
}

impl Doubt {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            // What another history does not have of rows under such ids, its sequence hands out.
            (Self::Ahead, Self::OtherHistory) => Self::SetBack,
            (doubt, other) => doubt.max(other),
        }
    }
}

/// A counted row that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SavedWitness", into = "SavedWitness")]
pub struct Witness {
    /// What identifies it.
    pub mark: Mark,
    /// Grows with every row counted.
    pub order: u64,
    /// It was not there when it was last looked for.
    pub absent: bool,
    /// Whether a row under its id can be another one.
    pub doubt: Doubt,
}

/// The saved form of a witness: its fields without their names, and for the doubt its number, if there is any.
type SavedWitness = (Option<i64>, u32, u64, bool, Option<i64>);

impl From<SavedWitness> for Witness {
    fn from((at, labels, order, absent, doubt): SavedWitness) -> Self {
        let doubt = match doubt {
            None => Doubt::None,
            Some(1) => Doubt::Changed,
            Some(2) => Doubt::OtherHistory,
            Some(4) => Doubt::Ahead,
            Some(_) => Doubt::SetBack,
        };
        Self { mark: Mark { at, labels }, order, absent, doubt }
    }
}

impl From<Witness> for SavedWitness {
    fn from(Witness { mark: Mark { at, labels }, order, absent, doubt }: Witness) -> Self {
        let doubt = match doubt {
            Doubt::None => None,
            Doubt::Changed => Some(1),
            Doubt::OtherHistory => Some(2),
            Doubt::SetBack => Some(3),
            Doubt::Ahead => Some(4),
        };
        (at, labels, order, absent, doubt)
    }
}

/// How a witness was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// In place.
    Same,
    /// There is no row under its id.
    Absent,
    /// Another row, or the same one edited; when it finished.
    Other(Option<i64>),
}

/// The witnesses of one table: the rows counted last, those with the smallest ids, and some in between.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Witnesses(BTreeMap<i64, Witness>);

impl Witnesses {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The witness with this id.
    pub fn get(&self, id: i64) -> Option<&Witness> {
        self.0.get(&id)
    }

    /// The witness with this id.
    pub fn get_mut(&mut self, id: i64) -> Option<&mut Witness> {
        self.0.get_mut(&id)
    }

    /// All, in the order of their ids.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (i64, &Witness)> {
        self.0.iter().map(|(id, witness)| (*id, witness))
    }

    /// All, in the order of their ids.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (i64, &mut Witness)> {
        self.0.iter_mut().map(|(id, witness)| (*id, witness))
    }

    /// The id of the one counted last.
    pub fn newest(&self) -> Option<i64> {
        self.0.iter().max_by_key(|(_, witness)| witness.order).map(|(id, _)| *id)
    }

    /// The smallest id.
    pub fn smallest(&self) -> Option<i64> {
        self.0.first_key_value().map(|(id, _)| *id)
    }

    /// How a witness is found in what is `seen`.
    pub fn status(&self, id: i64, seen: &BTreeMap<i64, Mark>) -> Status {
        let Some(witness) = self.0.get(&id) else { return Status::Absent };
        match seen.get(&id) {
            None => Status::Absent,
            // A time of its own identifies a row; one that it shares does so together with the labels.
            Some(mark)
                if mark.at == witness.mark.at && (mark.labels == witness.mark.labels || !self.is_shared(mark.at)) =>
            {
                Status::Same
            }
            Some(mark) => Status::Other(mark.at),
        }
    }

    /// Whether several rows finished at this time.
    fn is_shared(&self, at: Option<i64>) -> bool {
        self.0.values().filter(|witness| witness.mark.at == at).nth(1).is_some()
    }

    /// Whether rows that differ are the same ones in another time zone: the times of all have moved alike, by one amount or
    /// by two (summer time), and nothing else has changed.
    pub fn are_moved(&self, seen: &BTreeMap<i64, Mark>) -> bool {
        let (mut times, mut moves) = (BTreeSet::new(), BTreeSet::new());
        let pairs = self.0.iter().filter_map(|(id, witness)| Some((witness.mark, *seen.get(id)?)));
        for (was, is) in pairs.filter(|(was, is)| was != is) {
            let Some((from, to)) = was.at.zip(is.at).filter(|_| was.labels == is.labels) else { return false };
            times.insert(from);
            moves.insert(to.saturating_sub(from));
        }
        let are_zones = moves.iter().all(|by| by % QUARTER == 0);
        are_zones && (1..=2).contains(&moves.len()) && times.len() >= 3 * moves.len()
    }

    /// The newest time of those that a test names which means something, in seconds since the epoch; `now` is in
    /// microseconds.
    pub fn newest_time(&self, now: i64, is_meant: impl Fn(&Witness) -> bool) -> Option<f64> {
        let times = || self.0.values().filter(|witness| is_meant(witness)).filter_map(|witness| witness.mark.at);
        let newest = times().filter(|&at| at <= now.saturating_add(NONSENSE)).max().or_else(|| times().max());
        newest.map(|at| at as f64 / 1e6)
    }

    /// Remembers one.
    pub fn insert(&mut self, id: i64, witness: Witness) {
        self.0.insert(id, witness);
        if self.0.len() > MOST {
            self.thin(witness.order);
        }
    }

    /// Remembers rows that were counted, `(id, mark)` in the order of their ids; `order` is that of the first one, and
    /// `doubt` says whether an id can come again.
    pub fn remember(&mut self, rows: &[(i64, Mark)], order: u64, doubt: impl Fn(i64) -> Doubt) {
        // Of many, most would go again at once.
        let (few, many) = (SMALLEST, rows.len().saturating_sub(RECENT));
        let step = rows.len() / (MOST - RECENT - SMALLEST) + 1;
        for ((i, &(id, mark)), order) in rows.iter().enumerate().zip(order..) {
            if i < few || i >= many || i % step == 0 {
                self.insert(id, Witness { mark, order, absent: false, doubt: doubt(id) });
            }
        }
    }

    /// Takes one out: neither one of the newest nor of the smallest, but the one whose neighbours stand closest, measured
    /// by how far they are from the newest.
    fn thin(&mut self, order: u64) {
        let recent = order.saturating_sub(RECENT as u64);
        let ids: Vec<i64> = self.0.keys().copied().collect();
        let top = ids.last().copied().unwrap_or_default();
        let space = |around: &[i64]| around[0].abs_diff(around[2]) as f64 / (around[1].abs_diff(top) as f64 + 1.0);
        let between = ids.windows(3).skip(SMALLEST - 1);
        let old = between.filter(|around| self.0.get(&around[1]).is_some_and(|w| w.order <= recent));
        let closest = old.min_by(|a, b| space(a).total_cmp(&space(b))).map(|around| around[1]);
        // With none in between all are among the newest or the smallest, which are fewer.
        closest.iter().for_each(|id| _ = self.0.remove(id));
    }

    /// Takes those out that a test names, and returns their marks by id, as far as these identify a row: a time that
    /// several rows share does not.
    pub fn take_out(&mut self, is_out: impl Fn(i64) -> bool) -> BTreeMap<i64, Mark> {
        let out: Vec<(i64, Mark)> = self.iter().filter(|(id, _)| is_out(*id)).map(|(id, w)| (id, w.mark)).collect();
        let marks = out.iter().filter(|(_, mark)| mark.at.is_some() && !self.is_shared(mark.at)).copied().collect();
        out.iter().for_each(|(id, _)| _ = self.0.remove(id));
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn witnesses_are_few_and_the_newest_and_the_smallest_are_among_them() {
        let mut witnesses = Witnesses::default();
        for i in 0..10 {
            let rows: Vec<_> = (1..=100_000).map(|n| (i * 100_000 + n, Mark { at: Some(n), labels: 0 })).collect();
            witnesses.remember(&rows, i.unsigned_abs() * 100_000 + 1, |_| Doubt::None);
        }
        let all: Vec<i64> = witnesses.iter().map(|(id, _)| id).collect();
        assert!(all.len() == MOST, "{}", all.len());
        assert!((1..=SMALLEST as i64).all(|id| all.contains(&id)));
        assert!((1_000_000 - RECENT as i64 + 1..=1_000_000).all(|id| all.contains(&id)));
        // What was lost is known to have begun within half of its length.
        let far = |pair: &[i64]| pair[1] - pair[0] <= 2 * RECENT as i64 + (1_000_000 - pair[0]) / 2;
        assert!(all[SMALLEST + 1..].windows(2).all(far), "{all:?}");
    }

    #[test]
    fn a_time_that_rows_share_identifies_none_of_them() {
        let mut witnesses = Witnesses::default();
        let mark = |at| Mark { at, labels: 0 };
        let rows = [(1, mark(Some(5))), (2, mark(Some(5))), (3, mark(Some(6))), (4, mark(None))];
        witnesses.remember(&rows, 1, |_| Doubt::None);
        assert_eq!(witnesses.take_out(|_| true), [(3, mark(Some(6)))].into());
        assert!(witnesses.is_empty());
    }
}
