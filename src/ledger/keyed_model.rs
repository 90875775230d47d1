//! Counting by keys against a table in memory: arbitrary interleavings of what writers, polls and restarts can do.
//!
//! None is counted twice, whatever happens; and once all transactions have ended and a poll has seen the table, every
//! finished row that is there has been counted, unless it came later than it may.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::key_window::{Key, Place, Reach, Start};
use super::missing::Moment;
use super::{Group, Ledger, Seen, Shape};

/// How late rows can come, in ticks.
const LATE: i64 = 20;
/// How many keys below the window are remembered.
const MEMORY: usize = 5;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A row so many ticks back, or ahead; it becomes visible at its commit.
    Begin {
        done: bool,
        back: i64,
    },
    Commit(u8),
    Rollback(u8),
    /// The n-th running transaction commits, however late that is.
    CommitLate(u8),
    Finish(u8),
    Unfinish(u8),
    Delete(u8),
    Return(u8),
    /// A row that a poll has seen is not seen for a while.
    Hide(u8),
    Show,
    Tick(u8),
    Poll {
        limit: u8,
        is_full: bool,
    },
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (any::<bool>(), -3..LATE).prop_map(|(done, back)| Event::Begin { done, back }),
        8 => any::<u8>().prop_map(Event::Commit),
        1 => any::<u8>().prop_map(Event::Rollback),
        1 => any::<u8>().prop_map(Event::CommitLate),
        4 => any::<u8>().prop_map(Event::Finish),
        1 => any::<u8>().prop_map(Event::Unfinish),
        2 => any::<u8>().prop_map(Event::Delete),
        1 => any::<u8>().prop_map(Event::Return),
        1 => any::<u8>().prop_map(Event::Hide),
        2 => Just(Event::Show),
        3 => (1..15u8).prop_map(Event::Tick),
        8 => (1..6u8, any::<bool>()).prop_map(|(limit, is_full)| Event::Poll { limit, is_full }),
        1 => Just(Event::Restart),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    tick: i64,
    xid: u64,
    done: bool,
    hidden: bool,
}

/// How new rows are found.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Along a time.
    Time,
    /// Along a number.
    Number,
    /// By transactions.
    Xid,
}

#[derive(Clone, Debug)]
struct World {
    kind: Kind,
    rows: BTreeMap<u64, Row>,
    running: Vec<(u64, Row)>,
    deleted: Vec<(u64, Row)>,
    now: i64,
    newest: i64,
    next: u64,
    /// Rows that came later than they may.
    late: BTreeSet<u64>,
    seen: BTreeSet<u64>,
    counted: BTreeSet<u64>,
    ledger: Ledger,
}

fn shape() -> Shape {
    Shape { counts: 1, limit: 100, ..Shape::default() }
}

impl World {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            rows: BTreeMap::new(),
            running: Vec::new(),
            deleted: Vec::new(),
            now: 1_000,
            newest: 0,
            next: 1,
            late: BTreeSet::new(),
            seen: BTreeSet::new(),
            counted: BTreeSet::new(),
            ledger: Ledger::new(shape()),
        }
    }

    fn reach(&self) -> Reach {
        match self.kind {
            Kind::Xid => Reach::default(),
            Kind::Time => Reach { late: LATE, now: Some(self.now), memory: MEMORY },
            Kind::Number => Reach { late: LATE, now: None, memory: MEMORY },
        }
    }

    fn may_come(&self, row: &Row) -> bool {
        let newest = if self.kind == Kind::Time { self.newest.min(self.now) } else { self.newest };
        self.kind == Kind::Xid || row.tick >= newest - LATE
    }

    fn pick(&self, n: u8, test: impl Fn(&u64, &Row) -> bool) -> Option<u64> {
        let keys: Vec<u64> = self.rows.iter().filter(|(key, row)| test(key, row)).map(|(key, _)| *key).collect();
        if keys.is_empty() { None } else { Some(keys[usize::from(n) % keys.len()]) }
    }

    fn commit(&mut self, n: u8, however_late: bool) {
        if self.running.is_empty() {
            return;
        }
        let (key, row) = self.running.remove(usize::from(n) % self.running.len());
        if !self.may_come(&row) {
            if !however_late {
                return;
            }
            self.late.insert(key);
        }
        self.newest = self.newest.max(row.tick);
        self.rows.insert(key, row);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Begin { done, back } => {
                let row = Row { tick: self.now - back, xid: self.next, done, hidden: false };
                self.running.push((self.next, row));
                self.next += 1;
            }
            Event::Commit(n) => self.commit(n, false),
            Event::CommitLate(n) => self.commit(n, true),
            Event::Rollback(n) if !self.running.is_empty() => {
                self.running.remove(usize::from(n) % self.running.len());
            }
            Event::Finish(n) => self.change(n, |row| row.done = true),
            Event::Unfinish(n) => self.change(n, |row| row.done = false),
            Event::Delete(n) => {
                if let Some(key) = self.pick(n, |_, _| true) {
                    let row = self.rows.remove(&key).expect("it was picked");
                    self.deleted.push((key, row));
                }
            }
            // By transactions, a row that comes back unseen has the id of one that was seen.
            Event::Return(n) if !self.deleted.is_empty() => {
                let (key, row) = self.deleted.remove(usize::from(n) % self.deleted.len());
                let is_new = self.kind != Kind::Xid && self.may_come(&row);
                if self.counted.contains(&key) || self.seen.contains(&key) || is_new {
                    self.rows.insert(key, row);
                }
            }
            Event::Hide(n) => {
                let key = self.pick(n, |key, _| self.seen.contains(key));
                key.and_then(|key| self.rows.get_mut(&key)).into_iter().for_each(|row| row.hidden = true);
            }
            Event::Show => self.rows.values_mut().for_each(|row| row.hidden = false),
            Event::Tick(n) => self.now += i64::from(n),
            Event::Poll { limit, is_full } => _ = self.poll(usize::from(limit), is_full),
            Event::Restart => {
                let saved = serde_json::to_string(&self.ledger).unwrap();
                let read = serde_json::from_str::<Ledger>(&saved).unwrap().resume(shape());
                assert_eq!(read.keys(), self.ledger.keys());
                self.ledger = read;
            }
            Event::Rollback(_) | Event::Return(_) => {}
        }
    }

    fn change(&mut self, n: u8, change: impl Fn(&mut Row)) {
        let key = self.pick(n, |_, _| true);
        key.and_then(|key| self.rows.get_mut(&key)).into_iter().for_each(change);
    }

    /// The transactions that have not ended, and the next one.
    fn snapshot(&self) -> String {
        let running: Vec<String> = self.running.iter().map(|(_, row)| row.xid.to_string()).collect();
        format!("{}:{}", self.next, running.join(","))
    }

    fn place(key: u64, row: &Row, kind: Kind) -> Place {
        let order = if kind == Kind::Xid { i64::try_from(row.xid).unwrap() } else { row.tick };
        let tick = if kind == Kind::Xid { 0 } else { row.tick };
        Place { key: vec![key.to_string()], place: vec![format!("{order:06}"), format!("{key:06}")], tick }
    }

    fn scan(&self, start: &Start, snapshots: (Option<&str>, Option<&str>), limit: usize) -> Vec<Place> {
        let sees = |snapshot: &str, xid: u64| {
            let (next, running) = snapshot.split_once(':').unwrap();
            xid < next.parse().unwrap() && !running.split(',').any(|other| other == xid.to_string())
        };
        let is_in = |row: &Row| match snapshots {
            (Some(now), was) => sees(now, row.xid) && !was.is_some_and(|was| sees(was, row.xid)),
            _ => true,
        };
        let rows = self.rows.iter().filter(|(_, row)| !row.hidden && is_in(row));
        let mut places: Vec<Place> = rows.map(|(key, row)| Self::place(*key, row, self.kind)).collect();
        places.sort_by(|a, b| a.place.cmp(&b.place));
        places.retain(|place| match start {
            Start::Beginning => true,
            Start::From(tick) => place.tick >= *tick,
            Start::After(after) => place.place > *after,
        });
        places.truncate(limit);
        places
    }

    fn seen(&self, key: &Key) -> Option<&Row> {
        self.rows.get(&key[0].parse().unwrap()).filter(|row| !row.hidden)
    }

    /// One transaction of a poll; says whether there is more to read.
    fn poll(&mut self, limit: usize, is_full: bool) -> bool {
        let (reach, window) = (self.reach(), self.ledger.keys().clone());
        let is_xid = self.kind == Kind::Xid;
        let mut sweep = window.begin(is_xid.then(|| self.snapshot()), is_full);
        let mut open = Vec::new();
        if is_full {
            let keys = window.watch(self.now);
            let numbers: Vec<(i64, bool)> =
                keys.iter().zip(1..).filter_map(|(key, n)| Some((n, self.seen(key)?.done))).collect();
            let still: Vec<i64> = numbers.iter().filter(|(_, done)| !done).map(|(n, _)| *n).collect();
            open.push(Seen { ids: still, ..Seen::default() });
            sweep.watched(&window, &keys, &numbers).unwrap();
        }
        let floor = window.floor(reach).filter(|_| !is_xid);
        let mut start = window.start(reach);
        loop {
            let snapshots = (sweep.snapshot(), window.snapshots().0);
            let rows = self.scan(&start, snapshots, limit);
            let is_last = rows.len() < limit;
            sweep.scanned(&window, floor, rows).unwrap();
            sweep.is_ended = is_last;
            if is_last || sweep.asked().len() >= limit {
                break;
            }
            start = Start::After(sweep.last().unwrap().clone());
        }
        if !sweep.is_ended && sweep.is_begun() && !is_xid {
            let visible = self.rows.values().filter(|row| !row.hidden);
            sweep.begins_with(visible.map(|row| row.tick).max());
        }
        if let Some(floor) = floor.filter(|_| is_full && sweep.is_ended && self.ledger.is_complete()) {
            let rows = self.scan(&window.check(), (None, None), 3);
            let is_last = rows.len() < 3;
            sweep.checked(&window, floor, rows, is_last).unwrap();
        }
        let mut groups =
            [false, true].map(|done| Group { set: vec!["a".into()], done, counts: vec![0], ..Group::default() });
        for (key, number) in sweep.asked().zip(1..) {
            let (execution, done) = (key[0].parse().unwrap(), self.seen(key).unwrap().done);
            self.seen.insert(execution);
            groups[usize::from(done)].ids.push(number);
            groups[usize::from(done)].counts[0] += 1;
            assert!(!done || self.counted.insert(execution), "{execution} is counted twice");
        }
        let groups = groups.into_iter().filter(|group| !group.ids.is_empty()).collect();
        let at = Moment { now: self.now, xmin: 0, xmax: 0 };
        let applied = self.ledger.apply_keys(&sweep, &open, groups, &[], (reach, at, i64::MAX)).unwrap();
        assert_eq!(self.ledger.rows(), self.counted.len() as u64);
        if is_full && !applied.more {
            let open = self.rows.iter().filter(|(key, row)| {
                !row.done && !row.hidden && !self.counted.contains(key) && !self.late.contains(key)
            });
            let shown: u64 = self.ledger.open_rows().values().map(|open| open.rows).sum();
            assert!(shown >= open.count() as u64);
        }
        applied.more
    }

    fn settle(&mut self) {
        while !self.running.is_empty() {
            self.happen(Event::Commit(0));
        }
        self.happen(Event::Show);
        for _ in 0..3 {
            while self.poll(4, true) {}
        }
        let is_lost = |key: &u64, row: &Row| row.done && !self.counted.contains(key) && !self.late.contains(key);
        let lost: Vec<_> = self.rows.iter().filter(|(key, row)| is_lost(key, row)).collect();
        assert!(lost.is_empty(), "not counted: {lost:?}");
    }
}

fn cases() -> u32 {
    let set = std::env::var("RSOLV_MODEL_CASES").ok().and_then(|cases| cases.parse().ok());
    set.unwrap_or(if cfg!(debug_assertions) { 500 } else { 20_000 })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        rng_seed: if std::env::var_os("RSOLV_MODEL_CASES").is_some() { RngSeed::Random } else { RngSeed::Fixed(1) },
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_key_is_counted_exactly_once(
        kind in prop_oneof![Just(Kind::Time), Just(Kind::Number), Just(Kind::Xid)],
        events in prop::collection::vec(event(), 1..120),
    ) {
        let mut world = World::new(kind);
        for event in events {
            world.happen(event);
        }
        world.settle();
    }
}
