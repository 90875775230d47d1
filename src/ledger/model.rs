//! The ledger against a database in memory: arbitrary and exhaustive interleavings of what writers, administrators,
//! failovers, polls and restarts can do.
//!
//! Every execution has a number of its own. What must hold whatever happens: none is counted twice, and once all
//! transactions have ended and a poll has seen the table, every finished row that is there has been counted.

mod world;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use world::{Event, World};

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => any::<bool>().prop_map(|done| Event::Begin { done }),
        1 => (1..5u8).prop_map(Event::Burn),
        8 => any::<u8>().prop_map(Event::Commit),
        1 => any::<u8>().prop_map(Event::Rollback),
        1 => prop_oneof![-50..500i64, any::<i64>()].prop_map(|id| Event::Explicit { id }),
        4 => any::<u8>().prop_map(Event::Finish),
        1 => any::<u8>().prop_map(Event::Unfinish),
        1 => any::<u8>().prop_map(Event::Edit),
        2 => any::<u8>().prop_map(Event::Delete),
        1 => any::<u8>().prop_map(Event::Return),
        1 => any::<u8>().prop_map(Event::Hide),
        1 => Just(Event::HideAll),
        2 => Just(Event::Show),
        1 => Just(Event::Rewrite),
        1 => Just(Event::Truncate),
        1 => Just(Event::DeleteAll),
        1 => Just(Event::SetToMax),
        1 => Just(Event::StartAgain),
        1 => Just(Event::Backup),
        1 => Just(Event::Restore),
        1 => Just(Event::Failover),
        1 => (-60..60i8).prop_map(Event::Clock),
        10 => (1..20u8).prop_map(Event::Poll),
        1 => Just(Event::Restart),
    ]
}

fn cases() -> u32 {
    let set = std::env::var("RSOLV_MODEL_CASES").ok().and_then(|cases| cases.parse().ok());
    set.unwrap_or(if cfg!(debug_assertions) { 500 } else { 20_000 })
}

/// The same cases in every run of the suite; others where their number is given.
fn seed() -> RngSeed {
    if std::env::var_os("RSOLV_MODEL_CASES").is_some() { RngSeed::Random } else { RngSeed::Fixed(1) }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        rng_seed: seed(),
        // The shrunk ones are named below.
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_row_is_counted_exactly_once(
        knows_sequence in any::<bool>(),
        events in prop::collection::vec(event(), 1..120),
    ) {
        let mut world = World::new(knows_sequence);
        for event in events {
            world.happen(event);
        }
        world.settle();
    }
}

/// Every order of so many steps of two transactions, an administrator and the exporter, on a handful of ids.
#[test]
fn every_order_of_a_few_steps_counts_every_row_once() {
    let steps = [
        Event::Begin { done: true },
        Event::Begin { done: false },
        Event::Commit(0),
        Event::Commit(1),
        Event::Rollback(0),
        Event::Finish(0),
        Event::Delete(0),
        Event::HideAll,
        Event::Show,
        Event::Truncate,
        Event::SetToMax,
        Event::StartAgain,
        Event::Backup,
        Event::Restore,
        Event::Poll(9),
    ];
    let depth = std::env::var("RSOLV_MODEL_DEPTH").ok().and_then(|depth| depth.parse().ok()).unwrap_or(4);
    // Three rows are there, and have been seen.
    let mut world = World::new(true);
    for _ in 0..3 {
        world.happen(Event::Begin { done: true });
        world.happen(Event::Commit(0));
    }
    world.happen(Event::Poll(9));
    let mut explored = 0_u64;
    explore(&world, &steps, depth, &mut Vec::new(), &mut explored);
    assert_eq!(explored, (steps.len() as u64).pow(depth));
}

fn explore(world: &World, steps: &[Event], depth: u32, path: &mut Vec<Event>, explored: &mut u64) {
    for &step in steps {
        path.push(step);
        let next = std::panic::catch_unwind(|| {
            let mut next = world.clone();
            next.happen(step);
            if depth == 1 {
                next.settle();
            }
            next
        });
        let Ok(next) = next else { panic!("fails after {path:?}") };
        if depth == 1 {
            *explored += 1;
        } else {
            explore(&next, steps, depth - 1, path, explored);
        }
        path.pop();
    }
}

fn play(knows_sequence: bool, events: &[Event]) {
    let mut world = World::new(knows_sequence);
    events.iter().for_each(|&event| world.happen(event));
    world.settle();
}

/// Histories that were counted wrongly once, as short as they could be made.
mod regressions {
    use super::Event::*;
    use super::play;

    const OPEN: super::Event = Begin { done: false };
    const DONE: super::Event = Begin { done: true };

    #[test]
    fn a_late_row_of_a_table_that_was_emptied_after_a_newer_one_was_counted_and_deleted() {
        let late = [DONE, Commit(0), Poll(9), Truncate, OPEN, DONE, Commit(1), Poll(9), Delete(0), Commit(0)];
        play(false, &[&late[..], &[Poll(9), Poll(9), Return(0)]].concat());
    }

    #[test]
    fn a_row_that_was_counted_in_a_table_made_anew_is_deleted_and_put_back() {
        let emptied = [DONE, Commit(0), Poll(1), Truncate, Finish(0), Explicit { id: 2 }, Poll(1), Delete(0), Poll(1)];
        play(true, &[&emptied[..], &[DONE, Commit(0), Poll(1), Poll(1), Return(0)]].concat());
    }

    #[test]
    fn a_sequence_that_starts_again_while_a_transaction_has_drawn_from_it() {
        play(true, &[DONE, Commit(0), Poll(1), Truncate, OPEN, DONE, StartAgain, Poll(1), Poll(1)]);
        let drawn = [DONE, OPEN, DONE, Commit(1), OPEN, StartAgain, Commit(0), Poll(2), Delete(0), DONE, Poll(1)];
        play(true, &drawn);
    }

    #[test]
    fn a_table_without_a_sequence_that_is_emptied_twice_before_the_first_time_was_understood() {
        let once = [OPEN, Commit(0), Poll(1), Truncate, DONE, Commit(0), Poll(1)];
        play(false, &[&once[..], &[Truncate, DONE, Explicit { id: 0 }, Poll(1)]].concat());
    }

    #[test]
    fn a_backup_that_is_restored_twice() {
        let once = [Explicit { id: 0 }, Poll(1), Backup, Restore, DONE, OPEN, OPEN, Commit(0), Poll(1)];
        play(
            false,
            &[&once[..], &[Restore, Explicit { id: 1 }, Poll(1), OPEN, Commit(0), Finish(0), Failover]].concat(),
        );
    }

    #[test]
    fn a_failover_hands_out_an_id_that_was_given_by_hand() {
        let given = [Failover, DONE, OPEN, Commit(1), StartAgain, Poll(1), Commit(0), Failover, Poll(1)];
        play(true, &[&given[..], &[Explicit { id: 35 }, Delete(0), DONE]].concat());
    }
}
