use super::recount::Fresh;
use super::testing::{done, poll, shape, totals};
use super::*;

#[test]
fn an_id_twice_is_refused_and_changes_nothing() {
    let mut ledger = Ledger::new(shape(10));
    let before = ledger.clone();
    assert_eq!(poll(&mut ledger, vec![done("a", &[1, 2]), done("b", &[2])]), Err(ApplyError::Duplicate(2)));
    assert_eq!(ledger, before);
    poll(&mut ledger, vec![done("a", &[1, 2])]).unwrap();
    assert_eq!(poll(&mut ledger, vec![done("a", &[2])]), Err(ApplyError::Foreign(2)));
}

#[test]
fn sets_above_the_limit_are_folded_for_life() {
    let mut ledger = Ledger::new(shape(2));
    poll(&mut ledger, vec![done("a", &[1]), done("b", &[2]), done("c", &[3])]).unwrap();
    poll(&mut ledger, vec![done("c", &[4]), done("a", &[5])]).unwrap();
    let names: Vec<_> = ledger.sets().keys().map(|l| l[0].as_str()).collect();
    assert_eq!(names, [OVERFLOW, "a", "b"]);
    assert_eq!((ledger.overflowed(), ledger.rows()), (2, 5));
}

#[test]
fn other_labels_above_the_limit_are_folded_too() {
    let mut ledger = Ledger::new(shape(2));
    for id in 1..=50 {
        let by = vec![format!("status {id}")];
        poll(&mut ledger, vec![Group { by, ..done("a", &[id]) }]).unwrap();
    }
    let cells: Vec<_> = ledger.sets().values().flat_map(|set| set.cells.keys()).cloned().collect();
    assert_eq!(cells, [[OVERFLOW], ["completed"], ["failed"], ["status 1"], ["status 2"]]);
    assert_eq!((ledger.overflowed(), totals(&ledger)["a"]), (48, 50));
}

#[test]
fn a_recount_of_another_database_folds_what_was_folded_in_whatever_order_it_comes() {
    let mut ledger = Ledger::new(shape(2));
    poll(&mut ledger, vec![done("a", &[1]), done("b", &[2]), done("c", &[3, 4])]).unwrap();
    let before = totals(&ledger);
    ledger.rebuild();
    poll(&mut ledger, vec![done("c", &[3, 4]), done("b", &[2]), done("a", &[1])]).unwrap();
    assert_eq!(totals(&ledger), before);
    // Without any that was folded, new labels share the limit with the old ones.
    let mut ledger = Ledger::new(shape(2));
    poll(&mut ledger, vec![done("a", &[1])]).unwrap();
    ledger.rebuild();
    poll(&mut ledger, vec![done("c", &[3]), done("b", &[2]), done("a", &[1])]).unwrap();
    assert_eq!(totals(&ledger).into_keys().collect::<Vec<_>>(), [OVERFLOW, "a", "c"]);
}

#[test]
fn in_another_database_totals_become_the_larger_of_both() {
    let mut ledger = Ledger::new(shape(10));
    poll(&mut ledger, vec![done("a", &[1, 2, 3])]).unwrap();
    ledger.rebuild();
    poll(&mut ledger, vec![done("a", &[7])]).unwrap();
    assert_eq!(totals(&ledger)["a"], 3, "one row there, three counted before");
    poll(&mut ledger, vec![done("a", &[8])]).unwrap();
    assert_eq!(totals(&ledger)["a"], 4);
    ledger.rebuild();
    poll(&mut ledger, vec![done("a", &[1, 2, 3, 4, 5])]).unwrap();
    assert_eq!(totals(&ledger)["a"], 5, "more rows there than were counted before");
}

#[test]
fn an_explicit_id_far_away_is_one_range_in_which_the_sequence_goes_on() {
    let mut ledger = Ledger::new(shape(10));
    poll(&mut ledger, vec![done("a", &[1, 1_000_000_000_000])]).unwrap();
    assert_eq!(ledger.frontier().missing().watched(), 1, "that below the first id is none");
    for id in 2..50 {
        ledger.age(Moment { now: i64::MAX, xmin: 9, xmax: 9 }, 1);
        assert_eq!(poll(&mut ledger, vec![done("a", &[id])]).unwrap().counted, 1);
    }
    assert_eq!(ledger.frontier().missing().watched(), 1);
}

#[test]
fn new_measures_are_counted_from_counted_rows_alone() {
    let mut ledger = Ledger::new(shape(10));
    poll(&mut ledger, vec![done("a", &[1, 2, 4])]).unwrap();
    ledger.move_measures(&[Some(0), None], &[None], &[Some(0)], &[None]);
    let natives = vec![native::Settings { schema: 0, max_buckets: 9, zero_threshold: 0.1, sum: 0 }];
    let mut ledger = ledger.resume(Shape { counts: 2, natives, ..shape(10) });
    ledger.recount(Fresh { counts: vec![false, true], sums: vec![true], values: vec![false], natives: vec![true] });
    assert_eq!(ledger.plan_recount(2).unwrap().ranges, [(1, 2, None)]);
    let plan = ledger.plan_recount(3).unwrap();
    assert_eq!(plan.ranges, [(1, 2, None), (4, 4, None)], "3 is missing");
    let values = |ids: &[i64]| vec![ids.iter().map(|id| *id as f64).collect()];
    let group = |ids: &[i64]| Group { counts: vec![ids.len() as u64; 2], values: values(ids), ..done("a", ids) };
    ledger.apply_recount(&plan, vec![group(&[1, 2])]).unwrap();
    assert_eq!(ledger.plan_recount(2), None, "4 is gone");
    let cell = &ledger.sets()[&vec!["a".to_owned()]].cells[&vec!["completed".to_owned()]];
    assert_eq!((&cell.counts[..], cell.sums[0].to_f64()), (&[3, 2][..], 0.5));
    assert_eq!((&cell.natives[0].buckets[..], cell.natives[0].sum.to_f64()), (&[(0, 1), (1, 1)][..], 0.5));
}

#[test]
fn rows_that_the_source_leaves_out_are_not_in_new_measures_either() {
    let mut ledger = Ledger::new(shape(10));
    let left_out = || Group { known: true, ..done("a", &[2]) };
    poll(&mut ledger, vec![done("a", &[1]), left_out()]).unwrap();
    ledger.move_measures(&[None], &[None], &[None], &[]);
    ledger.recount(Fresh { counts: vec![true], sums: vec![true], values: vec![true], natives: vec![] });
    let plan = ledger.plan_recount(10).unwrap();
    ledger.apply_recount(&plan, vec![done("a", &[1]), left_out()]).unwrap();
    assert_eq!(totals(&ledger)["a"], 1);
}
