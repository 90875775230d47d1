//! When the ids start again, or the database is another one.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::gaps::Gaps;
use super::totals::{Cell, Set, Sets, raise};
use super::{Ledger, Shape};

/// The sequence that hands out the ids, as the primary shows it. A standby shows numbers that are ahead of the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// The last id that was handed out.
    pub last: i64,
    /// The object id of the sequence.
    pub oid: i64,
    /// Its file, which changes when it is restarted together with TRUNCATE, or by ALTER SEQUENCE.
    pub file: i64,
    /// The file of the table that owns it, which changes with TRUNCATE and VACUUM FULL; a partitioned table has none.
    pub table_file: Option<i64>,
}

/// How ids started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewind {
    /// TRUNCATE … RESTART IDENTITY: whatever is in the table is new.
    Truncated,
    /// The sequence was set back or made anew, or the database restored: rows of before can be there still.
    SetBack,
}

/// Which rows have been counted before, when ids started again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// Rows that were done by then have been, in seconds since the epoch; so have those of no possible time.
    pub until: f64,
    /// Inclusive ranges of ids that had not been counted, whatever the time of their rows.
    pub uncounted: Vec<(i64, i64)>,
}

/// Each row is compared with so many ranges.
const MAX_UNCOUNTED: usize = 1_000;

impl Sequence {
    /// Whether ids started again since `last` was seen, and how.
    ///
    /// Ids that have passed the old ones by now are recognised by the files: RESTART IDENTITY gives both the sequence and
    /// the table a new one. So can maintenance that rewrites both, hence nothing is taken for new there but by its time.
    pub fn rewound(&self, last: &Self) -> Option<Rewind> {
        let is_table_new = self.table_file != last.table_file || self.table_file.is_none();
        let is_new = self.oid != last.oid || (self.file != last.file && is_table_new);
        if self.last >= last.last {
            return is_new.then_some(Rewind::SetBack);
        }
        let truncated = self.oid == last.oid && self.file != last.file && self.table_file != last.table_file;
        Some(if truncated { Rewind::Truncated } else { Rewind::SetBack })
    }
}

impl Ledger {
    /// Reads the whole table anew, because its ids started again. Totals stay.
    ///
    /// After a truncation every row there is counted. Otherwise rows that were done at the time of the last poll
    /// (`read_at`, in seconds since the epoch) have been counted, but for those under ids that no poll had seen done; all
    /// others are counted as they are seen done.
    pub fn rewind(&mut self, how: Rewind, read_at: f64) {
        self.rewinds += 1;
        self.known = match (how, self.known.take()) {
            (Rewind::Truncated, _) => None,
            (Rewind::SetBack, None) => Some(Known { until: read_at, uncounted: self.uncounted() }),
            // In the middle of reading anew nobody knows which ids have been counted.
            (Rewind::SetBack, Some(known)) => Some(Known { until: known.until, uncounted: Vec::new() }),
        };
        self.forget_ids();
    }

    /// The ids that had not been counted, the largest ones if there are too many.
    fn uncounted(&self) -> Vec<(i64, i64)> {
        let gaps = self.gaps.iter().chain(self.abandoned.iter()).map(|gap| (gap.lo, gap.hi));
        let tail = self.high.and_then(|high| Some((high.checked_add(1)?, i64::MAX)));
        let mut ranges: Vec<_> = gaps.chain(self.open.iter().map(|&id| (id, id))).chain(tail).collect();
        ranges.sort_unstable_by(|a, b| b.cmp(a));
        ranges.truncate(MAX_UNCOUNTED);
        ranges
    }

    /// Counts the whole table anew, because it is in another database: totals become the larger of the old and the new.
    pub fn rebuild(&mut self) {
        let mut floor = std::mem::take(&mut self.sets);
        raise_sets(&mut floor, std::mem::take(&mut self.floor), &self.shape);
        *self = Self {
            newest: self.newest,
            overflowed: self.overflowed,
            gaps_dropped: self.gaps_dropped,
            drift: self.drift,
            rewinds: self.rewinds,
            ..Self::with_floor(std::mem::take(&mut self.shape), floor)
        };
    }

    /// An empty ledger whose totals will not be below these. Their sets are there from the start, at 0: they keep their
    /// labels, and new ones count against the limit beside them. Since when they have counted nobody can say any more.
    pub fn with_floor(shape: Shape, floor: Sets) -> Self {
        let empty = |low: &Arc<Set>| Arc::new(Set::new(&shape, low.birth, None));
        let sets = floor.iter().map(|(labels, low)| (labels.clone(), empty(low))).collect();
        Self { sets, floor, ..Self::new(shape) }
    }

    fn forget_ids(&mut self) {
        self.high = None;
        self.gaps = Gaps::default();
        self.abandoned = Gaps::default();
        self.open = BTreeSet::new();
    }

    /// All has been read: nothing falls short of the floor, and what appears from now on is new.
    pub(super) fn complete_rebuild(&mut self) {
        let floor = std::mem::take(&mut self.floor);
        raise_sets(&mut self.sets, floor, &self.shape);
        self.known = None;
        self.complete = true;
    }
}

fn raise_sets(sets: &mut Sets, floor: Sets, shape: &Shape) {
    for (labels, low) in floor {
        let set = sets.entry(labels).or_insert_with(|| Arc::new(Set::new(shape, low.birth, None)));
        let (set, low) = (Arc::make_mut(set), Arc::unwrap_or_clone(low));
        set.birth = low.birth;
        for (by, low) in low.cells {
            match set.cells.entry(by) {
                std::collections::btree_map::Entry::Vacant(entry) => _ = entry.insert(Cell { start: None, ..low }),
                std::collections::btree_map::Entry::Occupied(mut entry) => {
                    let cell = entry.get_mut();
                    cell.birth = low.birth;
                    raise(&mut cell.counts, &low.counts);
                    raise(&mut cell.sums, &low.sums);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Group, Labels};
    use super::*;

    fn shape() -> Shape {
        Shape { counts: 1, sums: 0, values: 0, enumerated: vec![], limit: 10 }
    }

    fn poll(ledger: &mut Ledger, ids: &[i64], known: &[i64]) -> u64 {
        let probe = ledger.probe(0, 100);
        let labels: Labels = vec!["a".into()];
        let group = |ids: &[i64], known| Group {
            set: labels.clone(),
            done: true,
            known,
            ids: ids.to_vec(),
            counts: vec![ids.len() as u64],
            ..Group::default()
        };
        ledger.apply(&probe, vec![group(ids, false), group(known, true)], 0).unwrap().counted
    }

    fn total(ledger: &Ledger) -> u64 {
        ledger.sets().values().flat_map(|s| s.cells.values()).map(|c| c.counts[0]).sum()
    }

    const SEEN: Sequence = Sequence { last: 100, oid: 1, file: 1, table_file: Some(2) };

    #[test]
    fn a_smaller_number_and_new_files_are_a_rewind() {
        assert_eq!(SEEN.rewound(&SEEN), None);
        // ALTER SEQUENCE and VACUUM FULL, one without the other.
        assert_eq!(Sequence { last: 101, file: 9, ..SEEN }.rewound(&SEEN), None);
        assert_eq!(Sequence { last: 101, table_file: Some(9), ..SEEN }.rewound(&SEEN), None);
        assert_eq!(Sequence { last: 3, file: 9, table_file: Some(9), ..SEEN }.rewound(&SEEN), Some(Rewind::Truncated));
        assert_eq!(Sequence { last: 3, file: 9, ..SEEN }.rewound(&SEEN), Some(Rewind::SetBack));
        assert_eq!(Sequence { last: 3, oid: 9, ..SEEN }.rewound(&SEEN), Some(Rewind::SetBack));
        // Ids that have passed the old ones by now.
        assert_eq!(Sequence { last: 101, file: 9, table_file: Some(9), ..SEEN }.rewound(&SEEN), Some(Rewind::SetBack));
        assert_eq!(Sequence { last: 101, oid: 9, ..SEEN }.rewound(&SEEN), Some(Rewind::SetBack));
        let partitioned = Sequence { table_file: None, ..SEEN };
        assert_eq!(partitioned.rewound(&partitioned), None);
        assert_eq!(Sequence { file: 9, ..partitioned }.rewound(&partitioned), Some(Rewind::SetBack));
    }

    #[test]
    fn after_a_truncation_all_rows_are_new() {
        let mut ledger = Ledger::new(shape());
        poll(&mut ledger, &[1, 2, 3], &[]);
        ledger.rewind(Rewind::Truncated, 50.0);
        assert_eq!(ledger.probe(0, 100).known, None);
        assert_eq!((poll(&mut ledger, &[1], &[]), total(&ledger)), (1, 4));
    }

    #[test]
    fn after_a_restore_rows_of_before_are_known() {
        let mut ledger = Ledger::new(shape());
        poll(&mut ledger, &[1, 2, 3], &[]);
        ledger.rewind(Rewind::SetBack, 50.0);
        let known = Known { until: 50.0, uncounted: vec![(4, i64::MAX), (i64::MIN, 0)] };
        assert_eq!(ledger.probe(0, 100).known, Some(known));
        assert_eq!((poll(&mut ledger, &[2], &[1]), total(&ledger)), (1, 4));
        assert_eq!((ledger.probe(0, 100).known, ledger.high()), (None, Some(2)));
        assert_eq!((poll(&mut ledger, &[3], &[]), total(&ledger), ledger.rewinds()), (1, 5, 1));
    }

    #[test]
    fn a_rebuild_never_lowers() {
        let mut ledger = Ledger::new(shape());
        poll(&mut ledger, &[1, 2, 3], &[]);
        ledger.rebuild();
        poll(&mut ledger, &[7], &[]);
        assert_eq!(total(&ledger), 3, "one row there, three counted before");
        poll(&mut ledger, &[8], &[]);
        assert_eq!(total(&ledger), 4);
        ledger.rebuild();
        poll(&mut ledger, &[1, 2, 3, 4, 5], &[]);
        assert_eq!(total(&ledger), 5, "more rows there than were counted before");
    }

    #[test]
    fn what_is_recounted_has_no_start() {
        let starts = |ledger: &Ledger| -> Vec<Option<i64>> {
            let of = |set: &Arc<Set>| [vec![set.start], set.cells.values().map(|cell| cell.start).collect()].concat();
            ledger.sets().values().flat_map(of).collect()
        };
        let mut ledger = Ledger::new(shape());
        ledger.apply(&ledger.probe(0, 100), Vec::new(), 0).unwrap();
        poll(&mut ledger, &[1, 2, 3], &[]);
        assert_eq!(starts(&ledger), [Some(0), Some(0)], "nothing was there when the first poll looked");
        ledger.rewind(Rewind::SetBack, 50.0);
        poll(&mut ledger, &[4], &[1]);
        assert_eq!(starts(&ledger), [Some(0), Some(0)], "totals go on");
        ledger.rebuild();
        poll(&mut ledger, &[], &[]);
        assert_eq!((total(&ledger), starts(&ledger)), (4, vec![None, None]));
        ledger.rebuild();
        poll(&mut ledger, &[1, 2], &[]);
        assert_eq!((total(&ledger), starts(&ledger)), (4, vec![None, None]));
    }
}
