//! The ledger against a table in memory: arbitrary interleavings of what writers, polls and restarts can do.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Group, Ledger, Probe, Shape};

const REPOS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Event {
    /// Takes an id from the sequence; the row becomes visible at its commit.
    Begin {
        repo: usize,
        done: bool,
        value: u32,
    },
    /// Takes ids from the sequence for a transaction that rolls back.
    Skip(u8),
    /// The n-th pending transaction commits.
    Commit(prop::sample::Index),
    Rollback(prop::sample::Index),
    /// A committed row with an id far from the sequence.
    Explicit {
        id: i64,
        done: bool,
    },
    Finish(prop::sample::Index),
    Unfinish(prop::sample::Index),
    Edit(prop::sample::Index, u32),
    Delete(prop::sample::Index),
    /// One chunk of a poll, of so many rows.
    Poll(usize),
    /// The ledger goes through its serialised form.
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    use prop::sample::Index;
    prop_oneof![
        6 => (0..REPOS.len(), any::<bool>(), 0..1000u32).prop_map(|(repo, done, value)| Event::Begin { repo, done, value }),
        1 => (1..5u8).prop_map(Event::Skip),
        6 => any::<Index>().prop_map(Event::Commit),
        1 => any::<Index>().prop_map(Event::Rollback),
        1 => (prop_oneof![-50..500i64, any::<i64>()], any::<bool>()).prop_map(|(id, done)| Event::Explicit { id, done }),
        3 => any::<Index>().prop_map(Event::Finish),
        1 => any::<Index>().prop_map(Event::Unfinish),
        1 => (any::<Index>(), 0..1000u32).prop_map(|(i, v)| Event::Edit(i, v)),
        1 => any::<Index>().prop_map(Event::Delete),
        5 => (1..20usize).prop_map(Event::Poll),
        1 => Just(Event::Restart),
    ]
}

#[derive(Clone, Debug)]
struct Row {
    repo: usize,
    done: bool,
    value: u32,
}

/// A table, its sequence, and what the answers given so far add up to.
#[derive(Default)]
struct Model {
    sequence: i64,
    pending: Vec<(i64, Row)>,
    rows: BTreeMap<i64, Row>,
    used: BTreeSet<i64>,
    counted: BTreeSet<i64>,
    totals: BTreeMap<String, (u64, f64)>,
    now: i64,
}

impl Model {
    fn next_id(&mut self) -> i64 {
        loop {
            self.sequence += 1;
            // An explicit id in the way is a unique violation: the writer tries the next one.
            if self.used.insert(self.sequence) {
                return self.sequence;
            }
        }
    }

    fn row(&mut self, index: prop::sample::Index) -> Option<&mut Row> {
        let ids: Vec<i64> = self.rows.keys().copied().collect();
        if ids.is_empty() { None } else { self.rows.get_mut(index.get(&ids)) }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Begin { repo, done, value } => {
                let id = self.next_id();
                self.pending.push((id, Row { repo, done, value }));
            }
            Event::Skip(n) => (0..n).for_each(|_| _ = self.next_id()),
            Event::Commit(i) if !self.pending.is_empty() => {
                let (id, row) = self.pending.swap_remove(i.index(self.pending.len()));
                self.rows.insert(id, row);
            }
            Event::Rollback(i) if !self.pending.is_empty() => {
                self.pending.swap_remove(i.index(self.pending.len()));
            }
            Event::Explicit { id, done } if self.used.insert(id) => {
                self.rows.insert(id, Row { repo: 0, done, value: 1 });
            }
            Event::Finish(i) => _ = self.row(i).map(|row| row.done = true),
            Event::Unfinish(i) => _ = self.row(i).map(|row| row.done = false),
            Event::Edit(i, value) => _ = self.row(i).map(|row| row.value = value),
            Event::Delete(i) if !self.rows.is_empty() => {
                let ids: Vec<i64> = self.rows.keys().copied().collect();
                self.rows.remove(i.get(&ids));
            }
            _ => {}
        }
    }

    /// What the aggregate statement returns for a probe.
    fn answer(&mut self, probe: &Probe) -> Vec<Group> {
        let mut groups: BTreeMap<(usize, bool), Group> = BTreeMap::new();
        for (lo, hi) in probe.ranges() {
            for (&id, row) in self.rows.range(lo..=hi).take(probe.limit) {
                let group = groups.entry((row.repo, row.done)).or_insert_with(|| Group {
                    set: vec![REPOS[row.repo].into()],
                    by: vec![if row.done { "completed" } else { "running" }.into()],
                    done: row.done,
                    counts: vec![0],
                    sums: vec![0.0],
                    ..Group::default()
                });
                group.ids.push(id);
                group.counts[0] += 1;
                group.sums[0] += f64::from(row.value);
                if row.done {
                    assert!(self.counted.insert(id), "id {id} is counted twice");
                    let total = self.totals.entry(REPOS[row.repo].into()).or_default();
                    *total = (total.0 + 1, total.1 + f64::from(row.value));
                }
            }
        }
        groups.into_values().collect()
    }

    /// Polls once; says whether there is more to read.
    fn poll(&mut self, ledger: &mut Ledger, limit: usize) -> bool {
        self.now += 15_000;
        let probe = ledger.probe(self.now, limit);
        let groups = self.answer(&probe);
        let more = ledger.apply(&probe, groups, self.now).unwrap().more;
        let open = ledger.open() as u64;
        assert!(more || open == ledger.open_rows().values().sum::<u64>());
        more
    }
}

fn totals(ledger: &Ledger) -> BTreeMap<String, (u64, f64)> {
    let of = |set: &super::Set| set.cells.values().fold((0, 0.0), |sum, c| (sum.0 + c.counts[0], sum.1 + c.sums[0]));
    ledger.sets().iter().map(|(labels, set)| (labels[0].clone(), of(set))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 20_000 }))]

    #[test]
    fn every_row_is_counted_exactly_once(events in prop::collection::vec(event(), 1..200)) {
        let shape = Shape { counts: 1, sums: 1, values: 0, enumerated: vec![], limit: 100 };
        let mut ledger = Ledger::new(shape.clone());
        let mut model = Model::default();
        for event in events {
            let before = totals(&ledger);
            match event {
                Event::Poll(limit) => _ = model.poll(&mut ledger, limit),
                Event::Restart => {
                    let saved = serde_json::to_string(&ledger).unwrap();
                    ledger = serde_json::from_str::<Ledger>(&saved).unwrap().resume(shape.clone());
                }
                other => model.happen(other),
            }
            let after = totals(&ledger);
            prop_assert_eq!(&after, &model.totals);
            prop_assert!(before.iter().all(|(repo, b)| after[repo].0 >= b.0 && after[repo].1 >= b.1));
        }
        // All transactions end, and every gap is due again.
        while !model.pending.is_empty() {
            let (id, row) = model.pending.remove(0);
            model.rows.insert(id, row);
        }
        model.now += 86_400_000;
        while model.poll(&mut ledger, 7) {}
        let done: BTreeSet<i64> = model.rows.iter().filter(|(_, row)| row.done).map(|(&id, _)| id).collect();
        prop_assert!(done.is_subset(&model.counted), "lost {:?}", done.difference(&model.counted));
        prop_assert_eq!(totals(&ledger), model.totals);
        prop_assert_eq!(ledger.rows() as usize, model.counted.len());
    }
}
