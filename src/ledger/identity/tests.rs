//! What follows from rows that are in place, gone, or others.

use super::*;

fn mark(at: i64) -> Mark {
    Mark { at: Some(at * 1_000_000), labels: 0 }
}

fn evidence(last: i64) -> Evidence {
    let stamp = Stamp { sequence: Some((1, 1)), ..Stamp::default() };
    Evidence { stamp, last: Some(last), xmin: 1, xmax: 2, xids_fell: false, now: 1_000_000_000 }
}

/// Without a sequence that can be read.
fn silent() -> Evidence {
    Evidence { last: None, stamp: Stamp::default(), ..evidence(0) }
}

type Rows = BTreeMap<i64, Mark>;

/// Rows 1 to `n`, finished at 1 to `n`.
fn rows(n: i64) -> Rows {
    (1..=n).map(|id| (id, mark(id))).collect()
}

/// The ids of a table that has been read, and what identifies its rows.
#[derive(Clone)]
struct Table {
    identity: Identity,
    frontier: Frontier,
}

impl Table {
    /// One whose rows have been counted.
    fn of(rows: &Rows, first: &Evidence) -> Self {
        let mut table = Self { identity: Identity::default(), frontier: Frontier::default() };
        assert_eq!(table.judge(first, &Rows::new()), IdReset::None);
        table.count(rows);
        assert_eq!(table.judge(first, rows), IdReset::None);
        table
    }

    fn count(&mut self, rows: &Rows) {
        self.frontier.take(&rows.keys().map(|id| (*id, true)).collect::<Vec<_>>(), Moment::default());
        self.identity.remember(&rows.iter().map(|(id, mark)| (*id, *mark)).collect::<Vec<_>>());
    }

    fn judge(&mut self, evidence: &Evidence, seen: &Rows) -> IdReset {
        let ids = self.identity.all_ids();
        let seen = seen.iter().filter(|(id, _)| ids.contains(id)).map(|(id, mark)| (*id, *mark)).collect();
        self.identity.judge(evidence, &seen, None, &mut self.frontier, Moment::default())
    }

    fn is_undisturbed(&self, evidence: &Evidence, seen: &Rows) -> bool {
        self.identity.is_undisturbed(evidence, seen, &self.frontier)
    }

    /// Those of ids 1 to 10 under which rows are known.
    fn counted(&self) -> Vec<i64> {
        (1..=10).filter(|&id| self.frontier.is_counted(id)).collect()
    }
}

fn ids(lo: i64, hi: i64) -> Vec<i64> {
    (lo..=hi).collect()
}

#[test]
fn a_quiet_table_is_asked_for_its_newest_and_its_smallest_row() {
    let (rows, mut table) = (rows(10), Table::of(&rows(10), &evidence(10)));
    assert_eq!(table.identity.first_ids(&table.frontier), [1, 10]);
    assert!(table.is_undisturbed(&evidence(10), &rows));
    assert!(!table.is_undisturbed(&evidence(9), &rows), "the sequence is below");
    let mut restarted = evidence(10);
    restarted.stamp.started = 7;
    assert!(!table.is_undisturbed(&restarted, &rows));
    for xid in 3..7 {
        (restarted.xmin, restarted.xmax) = (xid, xid);
        assert_eq!(table.judge(&restarted, &rows), IdReset::None);
    }
    assert!(table.is_undisturbed(&restarted, &rows), "all in place: nothing has happened");
}

#[test]
fn rows_in_place_say_more_than_files_sequences_and_servers() {
    let mut table = Table::of(&rows(10), &evidence(10));
    let mut all = evidence(12);
    all.stamp = Stamp {
        system: Some("2".into()),
        database: "x".into(),
        timeline: Some(3),
        started: 1,
        relations: "y".into(),
        sequence: Some((7, 7)),
    };
    all.xids_fell = true;
    assert_eq!((table.judge(&all, &rows(10)), table.counted()), (IdReset::None, ids(1, 10)));
}

#[test]
fn absence_forgets_nothing_and_edits_without_other_evidence_neither() {
    let mut table = Table::of(&rows(10), &evidence(10));
    assert_eq!((table.judge(&evidence(10), &Rows::new()), table.counted()), (IdReset::None, ids(1, 10)));
    let edited: Rows = (1..=10).map(|id| (id, mark(100 + id))).collect();
    assert_eq!((table.judge(&evidence(10), &edited), table.counted()), (IdReset::None, ids(1, 10)));
}

#[test]
fn in_place_up_to_some_id_what_is_above_comes_again() {
    let mut table = Table::of(&rows(10), &evidence(10));
    let mut now = rows(6);
    now.extend([(7, mark(20)), (8, mark(21))]);
    assert_eq!((table.judge(&evidence(8), &now), table.counted()), (IdReset::Reset, ids(1, 6)));
    table.count(&[(7, mark(20)), (8, mark(21))].into());
    assert_eq!((table.judge(&evidence(8), &now), table.counted()), (IdReset::None, ids(1, 8)), "told once");
}

#[test]
fn times_that_all_moved_alike_in_a_rewrite_are_edits() {
    let rewritten = Evidence { stamp: Stamp { relations: "x".into(), ..evidence(10).stamp }, ..evidence(10) };
    let moved: Rows = (1..=10).map(|id| (id, mark(3_600 + id))).collect();
    let mut table = Table::of(&rows(10), &evidence(10));
    assert_eq!((table.judge(&rewritten, &moved), table.counted()), (IdReset::None, ids(1, 10)));
    // Others do not keep the distances; and where ids were handed out again, equal distances mean nothing.
    let others: Rows = (1..=10).map(|id| (id, mark(3_600 + id * id))).collect();
    let mut table = Table::of(&rows(10), &evidence(10));
    assert_eq!((table.judge(&rewritten, &others), table.counted()), (IdReset::Reset, vec![]));
    let mut emptied = rewritten;
    emptied.stamp.sequence = Some((1, 2));
    let mut table = Table::of(&rows(10), &evidence(10));
    assert_eq!((table.judge(&emptied, &moved), table.counted()), (IdReset::Reset, vec![]));
}

#[test]
fn a_sequence_is_ahead_of_the_rows_of_a_transaction_that_is_open() {
    let at = |last, xmin, xmax| Evidence { xmin, xmax, ..evidence(last) };
    let others: Rows = (2..=8).map(|id| (id, mark(50 + id))).collect();
    for looks in 1..4 {
        let mut table = Table::of(&rows(10), &evidence(10));
        (0..looks).for_each(|i| _ = table.judge(&at(8, 5, 6 + i), &rows(10)));
        // Transaction 5 has ended.
        table.judge(&at(8, 20, 21), &others);
        assert_eq!(table.counted(), [1], "{looks}");
    }
    // Long after every such transaction has ended, other rows are the same ones, edited.
    let mut table = Table::of(&rows(10), &evidence(10));
    (0..5).for_each(|i| _ = table.judge(&at(8, 5 + i, 6 + i), &rows(10)));
    table.judge(&at(8, 20, 21), &others);
    assert_eq!(table.counted(), ids(1, 10));
}

#[test]
fn a_sequence_is_read_later_than_the_snapshot_is_taken() {
    let at = |last, xid| Evidence { xmin: xid, xmax: xid, ..evidence(last) };
    let mut table = Table::of(&rows(10), &at(10, 5));
    // Transaction 5, which the snapshot does not know, has set it back and draws ids; all that ran before has ended.
    table.judge(&at(7, 5), &rows(10));
    let others: Rows = (1..=7).map(|id| (id, mark(50 + id))).collect();
    assert_eq!((table.judge(&at(7, 6), &others), table.counted()), (IdReset::None, vec![]));
}

#[test]
fn a_table_with_other_rows_only_is_counted_as_a_whole() {
    let mut table = Table::of(&rows(10), &evidence(10));
    assert_eq!((table.judge(&evidence(0), &Rows::new()), table.counted()), (IdReset::Reset, ids(1, 10)));
    assert_eq!((table.judge(&evidence(2), &[(2, mark(50))].into()), table.counted()), (IdReset::None, vec![1]));
}

#[test]
fn a_table_that_was_emptied_by_mistake_and_put_back_is_known() {
    let mut table = Table::of(&rows(10), &evidence(10));
    let others: Rows = [(1, mark(50)), (2, mark(51))].into();
    table.judge(&evidence(2), &others);
    assert!(table.counted().is_empty());
    table.count(&others);
    // Piece by piece.
    for n in [2, 10] {
        table.judge(&evidence(10), &rows(n));
        assert_eq!(table.counted(), ids(1, n));
    }
    assert_eq!((table.judge(&evidence(11), &rows(10)), table.counted()), (IdReset::None, ids(1, 10)));
    // And swapped once more.
    table.judge(&evidence(11), &others);
    assert_eq!(table.counted()[..2], [1, 2]);
}

#[test]
fn a_cycle_comes_again_from_the_smallest() {
    let mut table = Table::of(&rows(10), &evidence(10));
    let mut now: Rows = (7..=10).map(|id| (id, mark(id))).collect();
    table.judge(&evidence(10), &now);
    now.extend([(1, mark(30)), (2, mark(31))]);
    table.judge(&evidence(2), &now);
    assert_eq!(table.counted(), ids(3, 10));
    assert!(table.frontier.is_recycling());
}

#[test]
fn without_a_sequence_rows_that_were_gone_and_are_others_are_new() {
    let mut table = Table::of(&rows(10), &silent());
    table.judge(&silent(), &Rows::new());
    table.judge(&silent(), &rows(5));
    assert_eq!(table.counted(), ids(1, 10), "the same rows came back");
    table.judge(&silent(), &Rows::new());
    table.judge(&silent(), &[(1, mark(40))].into());
    assert!(table.counted().is_empty());
}

#[test]
fn another_server_with_other_rows_is_another_database() {
    let other = Evidence { stamp: Stamp { system: Some("2".into()), ..evidence(0).stamp }, ..evidence(3) };
    let first = Evidence { stamp: Stamp { system: Some("1".into()), ..evidence(0).stamp }, ..evidence(10) };
    let mut table = Table::of(&rows(10), &first);
    assert_eq!(table.judge(&other, &Rows::new()), IdReset::Reset, "undecided, and the sequence is below");
    assert_eq!(table.judge(&other, &[(3, mark(50))].into()), IdReset::OtherDatabase);
    assert_eq!(Table::of(&rows(10), &first).judge(&other, &rows(3)), IdReset::Reset, "ten were, three are there");
}
