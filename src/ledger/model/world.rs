//! The database of the model, and the exporter that polls it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::decimal::Decimal;
use super::super::evidence::{Evidence, Stamp};
use super::super::frontier::ReadPlan;
use super::super::missing::Moment;
use super::super::native::{Native, Settings};
use super::super::witness::Mark;
use super::super::{Group, Ledger, Seen, Shape};

const DAY: i64 = 86_400_000;

/// What can happen.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A transaction takes an id from the sequence; the row becomes visible at its commit.
    Begin {
        done: bool,
    },
    /// A transaction takes ids and rolls back.
    Burn(u8),
    /// The n-th running transaction commits.
    Commit(u8),
    Rollback(u8),
    /// A committed row with an id far from the sequence.
    Explicit {
        id: i64,
    },
    Finish(u8),
    Unfinish(u8),
    Edit(u8),
    Delete(u8),
    /// A row that was deleted comes back as it was, as from an archive.
    Return(u8),
    /// Rows are not seen for a while: another WHERE, a detached partition, a table that is being rewritten.
    Hide(u8),
    HideAll,
    Show,
    /// VACUUM FULL, ALTER TYPE, a swap of tables: the same rows in other files.
    Rewrite,
    /// The table is emptied and its ids start again.
    Truncate,
    DeleteAll,
    /// The sequence is set to the largest id that there is.
    SetToMax,
    /// The sequence starts again while rows are there: inserts take the ids that are free.
    StartAgain,
    Backup,
    /// The last backup is restored: what came after it is lost.
    Restore,
    /// Another server goes on where this one was; transactions that run are lost.
    Failover,
    /// The database's clock moves by so many hours.
    Clock(i8),
    /// One pass of a poll, of so many rows.
    Poll(u8),
    /// The ledger goes through its saved form.
    Restart,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    /// Which execution it is.
    execution: u64,
    done: bool,
    at: Option<i64>,
    value: u64,
    hidden: bool,
}

/// What a backup holds.
#[derive(Clone, Debug, Default)]
struct Data {
    rows: BTreeMap<i64, Row>,
    sequence: i64,
    next_xid: i64,
}

/// A database with one table, and what the exporter knows of it.
#[derive(Clone, Debug)]
pub struct World {
    data: Data,
    running: Vec<(i64, i64, Row)>,
    deleted: Vec<(i64, Row)>,
    backup: Option<Data>,
    /// Files and servers that there have been.
    relations: u64,
    sequences: i64,
    timeline: i64,
    started: i64,
    knows_sequence: bool,
    /// The database's clock, in milliseconds.
    now: i64,
    /// The applications' clock, in seconds.
    clock: i64,
    executions: u64,
    last_xmax: i64,
    /// The ledger has not seen yet how a reset ended: what is hidden now cannot be told from what was lost.
    unsure: bool,
    counted: BTreeSet<u64>,
    /// Of the values of what was counted, as they were then.
    native: Native,
    ledger: Ledger,
}

fn settings() -> Settings {
    Settings { schema: 3, max_buckets: 4, zero_threshold: 0.5, sum: 0 }
}

fn shape() -> Shape {
    Shape { counts: 1, sums: 1, natives: vec![settings()], limit: 100, ..Shape::default() }
}

impl World {
    /// An empty table; whether the exporter can read its sequence.
    pub fn new(knows_sequence: bool) -> Self {
        Self {
            data: Data { next_xid: 1, ..Data::default() },
            running: Vec::new(),
            deleted: Vec::new(),
            backup: None,
            relations: 1,
            sequences: 1,
            timeline: 1,
            started: 1,
            knows_sequence,
            now: 1_000 * DAY,
            clock: 86_400 * 1_000,
            executions: 0,
            last_xmax: 0,
            unsure: false,
            counted: BTreeSet::new(),
            native: Native::default(),
            ledger: Ledger::new(shape()),
        }
    }

    fn row(&mut self, done: bool) -> Row {
        self.clock += 1;
        self.executions += 1;
        let at = done.then_some(self.clock);
        Row { execution: self.executions, done, at, value: self.executions % 7, hidden: false }
    }

    fn next_id(&mut self) -> i64 {
        loop {
            self.data.sequence += 1;
            let id = self.data.sequence;
            // An id in the way is a unique violation: the writer tries the next one.
            if !self.data.rows.contains_key(&id) && !self.running.iter().any(|running| running.1 == id) {
                return id;
            }
        }
    }

    fn xid(&mut self) -> i64 {
        self.data.next_xid += 1;
        self.data.next_xid - 1
    }

    fn pick(&self, n: u8, test: impl Fn(&Row) -> bool) -> Option<i64> {
        let ids: Vec<i64> = self.data.rows.iter().filter(|(_, row)| test(row)).map(|(id, _)| *id).collect();
        if ids.is_empty() { None } else { Some(ids[usize::from(n) % ids.len()]) }
    }

    /// Lets something happen.
    pub fn happen(&mut self, event: Event) {
        let (hides, resets) = match event {
            Event::Hide(_) | Event::HideAll => (true, false),
            Event::Truncate | Event::DeleteAll | Event::StartAgain | Event::SetToMax | Event::Restore => (false, true),
            _ => (false, false),
        };
        if hides && self.unsure {
            return;
        }
        if resets {
            self.unsure = true;
            self.data.rows.values_mut().for_each(|row| row.hidden = false);
        }
        match event {
            Event::Begin { done } => {
                let (xid, id, row) = (self.xid(), self.next_id(), self.row(done));
                self.running.push((xid, id, row));
            }
            Event::Burn(n) => {
                self.xid();
                (0..n).for_each(|_| _ = self.next_id());
            }
            Event::Commit(n) if !self.running.is_empty() => {
                let (_, id, row) = self.running.remove(usize::from(n) % self.running.len());
                self.data.rows.insert(id, row);
            }
            Event::Rollback(n) if !self.running.is_empty() => {
                self.running.remove(usize::from(n) % self.running.len());
            }
            Event::Explicit { id } => {
                // Under an id that nobody has had: one that was counted and deleted is not counted again.
                // Which the sequence will not come to, unless it is known.
                let id = if self.knows_sequence || id < 0 { id } else { id | 1 << 40 };
                let is_new = self.knows_no(id) && !self.running.iter().any(|running| running.1 == id);
                if is_new && !self.data.rows.contains_key(&id) {
                    self.xid();
                    let row = self.row(true);
                    self.data.rows.insert(id, row);
                }
            }
            Event::Finish(n) => {
                self.clock += 1;
                let (xid, clock) = (self.xid(), self.clock);
                if let Some(row) = self.pick(n, |row| !row.done).and_then(|id| self.data.rows.get_mut(&id)) {
                    (row.done, row.at) = (true, row.at.or(Some(clock)));
                }
                let _ = xid;
            }
            Event::Unfinish(n) => self.change(n, |row| row.done = false),
            Event::Edit(n) => self.change(n, |row| row.value += 1),
            Event::Delete(n) => {
                if let Some(id) = self.pick(n, |_| true) {
                    let row = self.data.rows.remove(&id).expect("it was picked");
                    self.deleted.push((id, row));
                }
            }
            // Without a sequence, one that was counted since a reset cannot be told from one that is new then.
            Event::Return(n)
                if !self.deleted.is_empty() && !self.unsure && (self.knows_sequence || self.relations == 1) =>
            {
                let (id, row) = self.deleted.remove(usize::from(n) % self.deleted.len());
                // One that nobody has counted, under an id that somebody had, cannot be told from one that was.
                if (self.counted.contains(&row.execution) || self.knows_no(id))
                    && !self.running.iter().any(|running| running.1 == id)
                {
                    self.data.rows.entry(id).or_insert(row);
                }
            }
            Event::Hide(n) => self.change(n, |row| row.hidden = true),
            Event::HideAll => self.data.rows.values_mut().for_each(|row| row.hidden = true),
            Event::Show => self.data.rows.values_mut().for_each(|row| row.hidden = false),
            Event::Rewrite => self.relations += 1,
            Event::Truncate => {
                (self.backup, self.deleted) = (None, Vec::new());
                self.running.clear();
                self.data.rows.clear();
                self.data.sequence = 0;
                (self.relations, self.sequences) = (self.relations + 1, self.sequences + 1);
            }
            Event::DeleteAll => {
                self.data.rows.clear();
                self.backup = None;
            }
            Event::SetToMax if self.knows_sequence => {
                let top = self.running.iter().map(|running| running.1).chain(self.data.rows.keys().copied()).max();
                // Where the largest rows are gone, numbers can be back where they were before a poll: nothing tells that.
                let top = top.unwrap_or(0).clamp(0, 1_000);
                if self.ledger.frontier().high().is_none_or(|high| high <= top) {
                    self.data.sequence = top;
                }
            }
            Event::StartAgain if self.knows_sequence => {
                (self.backup, self.deleted) = (None, Vec::new());
                self.data.sequence = 0;
                self.sequences += 1;
            }
            Event::Backup if !self.unsure => self.backup = Some(self.data.clone()),
            Event::Restore => {
                if let Some(data) = self.backup.clone() {
                    self.running.clear();
                    self.deleted.clear();
                    self.data = data;
                    // A counted row that is as it was before it finished cannot be told from a new one under its id.
                    let counted = &self.counted;
                    self.data.rows.retain(|_, row| row.done || !counted.contains(&row.execution));
                    (self.timeline, self.started) = (self.timeline + 1, self.started + 1);
                }
            }
            Event::Failover => {
                self.running.clear();
                // The write-ahead log is ahead of the sequence.
                self.data.sequence += 32;
                (self.timeline, self.started) = (self.timeline + 1, self.started + 1);
            }
            Event::Clock(hours) => self.now += i64::from(hours) * 3_600_000,
            Event::Poll(limit) => {
                self.poll(usize::from(limit), true);
            }
            Event::Restart => {
                let saved = serde_json::to_string(&self.ledger).unwrap();
                self.ledger = serde_json::from_str::<Ledger>(&saved).unwrap().resume(shape());
            }
            _ => {}
        }
    }

    /// Whether no row was ever counted under this id.
    fn knows_no(&self, id: i64) -> bool {
        !self.ledger.frontier().is_counted(id)
    }

    fn change(&mut self, n: u8, change: impl Fn(&mut Row)) {
        if let Some(row) = self.pick(n, |_| true).and_then(|id| self.data.rows.get_mut(&id)) {
            change(row);
        }
    }

    fn seen(&self, id: i64) -> Option<&Row> {
        self.data.rows.get(&id).filter(|row| !row.hidden)
    }

    fn marks(&self, ids: &[i64]) -> BTreeMap<i64, Mark> {
        let mark = |row: &Row| Mark::new(row.at.map(|at| at as f64), &[]);
        ids.iter().filter_map(|id| Some((*id, mark(self.seen(*id)?)))).collect()
    }

    /// What the aggregate statement returns.
    fn answer(&mut self, plan: &ReadPlan) -> Vec<Group> {
        let mut groups: BTreeMap<(bool, bool), Group> = BTreeMap::new();
        for &(lo, hi, until) in &plan.ranges {
            let rows: Vec<(i64, Row)> = self.data.rows.range(lo..=hi).map(|(id, row)| (*id, *row)).collect();
            for (id, row) in rows.into_iter().filter(|(_, row)| !row.hidden).take(plan.limit) {
                let known = row.done && until.is_some_and(|until| row.at.is_none_or(|at| at as f64 <= until));
                let group = groups.entry((row.done, known)).or_insert_with(|| Group {
                    set: vec!["a".into()],
                    done: row.done,
                    known,
                    counts: vec![0],
                    sums: vec![Decimal::default()],
                    values: vec![Vec::new()],
                    ..Group::default()
                });
                group.ids.push(id);
                group.ats.push(row.at.map(|at| at as f64));
                group.counts[0] += 1;
                group.sums[0] += Decimal::parse(&row.value.to_string()).unwrap();
                group.values[0].push(row.value as f64);
                if row.done && !known {
                    assert!(self.counted.insert(row.execution), "execution {} is counted twice", row.execution);
                    let value = Decimal::parse(&row.value.to_string()).unwrap();
                    self.native.count_in(&[row.value as f64], value, &settings());
                }
            }
        }
        groups.into_values().collect()
    }

    /// One pass of a poll; says whether there is more to read.
    fn poll(&mut self, limit: usize, is_full: bool) -> bool {
        self.now += 15_000;
        let xmax = self.data.next_xid;
        let xmin = self.running.iter().map(|running| running.0).min().unwrap_or(xmax);
        let at = Moment { now: self.now, xmin, xmax };
        let stamp = Stamp {
            system: Some("1".into()),
            database: "1".into(),
            timeline: Some(self.timeline),
            started: self.started,
            relations: self.relations.to_string(),
            sequence: self.knows_sequence.then_some((1, self.sequences)),
        };
        let evidence = Evidence {
            stamp,
            last: self.knows_sequence.then_some(self.data.sequence),
            xmin,
            xmax,
            xids_fell: xmax < self.last_xmax,
            now: self.now * 1_000,
        };
        self.last_xmax = xmax;
        let mut ledger = self.ledger.clone();
        if ledger.is_undisturbed(&evidence, &self.marks(&ledger.witnesses())) {
            ledger.observe(&evidence);
            self.unsure = false;
        } else {
            ledger.judge(&evidence, &self.marks(&ledger.all_witnesses()), at);
        }
        let watched = is_full.then(|| {
            let watch = ledger.watch(at.now, DAY, 1);
            let rows = watch.ranges.iter().flat_map(|&(lo, hi)| self.data.rows.range(lo..=hi));
            let seen = rows.filter(|(_, row)| !row.hidden);
            let seen: Vec<Seen> =
                seen.map(|(id, row)| Seen { done: row.done, ids: vec![*id], ..Seen::default() }).collect();
            (ledger.sort(&watch, &seen).unwrap(), seen)
        });
        let plan = ledger.plan(watched.as_ref().map_or(&[][..], |w| &w.0.found), limit);
        let groups = self.answer(&plan);
        let applied = ledger.apply(&plan, watched.as_ref().map(|(s, seen)| (s, &seen[..])), groups, at).unwrap();
        ledger.age(at, DAY);
        self.ledger = ledger;
        let total = |l: &Ledger| l.sets().values().flat_map(|s| s.cells.values()).map(|c| c.counts[0]).sum::<u64>();
        assert_eq!(total(&self.ledger), self.counted.len() as u64);
        assert_eq!(self.ledger.rows(), self.counted.len() as u64);
        let cell = self.ledger.sets().values().flat_map(|set| set.cells.values()).next();
        assert_eq!(cell.map_or(&Native::default(), |cell| &cell.natives[0]), &self.native);
        if is_full && !applied.more {
            // Settled ids are not looked for at every poll.
            let frontier = self.ledger.frontier();
            let is_seen = |id| !frontier.is_counted(id) && !frontier.missing().contains(id);
            let open = self.data.rows.iter().filter(|(id, row)| !row.done && !row.hidden && is_seen(**id));
            assert_eq!(self.ledger.open_rows().values().map(|open| open.rows).sum::<u64>(), open.count() as u64);
        }
        applied.more
    }

    /// All transactions end, everything is seen, and every missing id is looked for.
    pub fn settle(&mut self) {
        while !self.running.is_empty() {
            self.happen(Event::Commit(0));
        }
        self.happen(Event::Show);
        for _ in 0..3 {
            self.now += DAY;
            let mut passes = 0;
            while self.poll(7, true) {
                passes += 1;
                assert!(passes < 1_000, "a poll does not end");
            }
        }
        let lost: Vec<_> =
            self.data.rows.iter().filter(|(_, row)| row.done && !self.counted.contains(&row.execution)).collect();
        assert!(lost.is_empty(), "not counted: {lost:?}");
    }
}
