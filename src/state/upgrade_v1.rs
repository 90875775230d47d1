//! The state as version 1 wrote it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::{Fingerprint, Saved};
use crate::ledger::decimal::Decimal;
use crate::ledger::frontier::Frontier;
use crate::ledger::id_set::IdSet;
use crate::ledger::missing::Moment;
use crate::ledger::{self, Birth, Labels, Sets};
use crate::postgres::Position;

#[derive(Deserialize)]
pub struct State {
    identity: Option<String>,
    position: Position,
    read_at: f64,
    sources: BTreeMap<String, Source>,
}

#[derive(Deserialize)]
struct Source {
    fingerprint: Arc<Fingerprint>,
    ledger: Ledger,
}

#[derive(Deserialize)]
struct Ledger {
    high: Option<i64>,
    gaps: Vec<Gap>,
    open: Vec<i64>,
    sets: Vec<(Labels, Set)>,
    newest: Option<f64>,
    rows: u64,
    rejected: Vec<u64>,
    overflowed: u64,
    /// Gaps that were given up, for the self-check.
    abandoned: Vec<Gap>,
    drift: u64,
    rewinds: u64,
    complete: bool,
}

#[derive(Deserialize)]
struct Gap {
    lo: i64,
    hi: i64,
}

#[derive(Deserialize)]
struct Set {
    birth: Birth,
    cells: Vec<(Labels, Cell)>,
}

#[derive(Deserialize)]
struct Cell {
    birth: Birth,
    counts: Vec<u64>,
    sums: Vec<f64>,
}

impl From<State> for super::State {
    fn from(State { identity, position, read_at, sources }: State) -> Self {
        // Nobody knows which transactions ran when an id was first missed: all that did at the last snapshot, at most.
        let at = Moment { now: (read_at * 1000.0) as i64, xmin: position.xmin, xmax: position.xmax };
        let saved = |source: Source| Saved {
            fingerprint: source.fingerprint,
            ledger: Arc::new(source.ledger.taken_up(at)),
            read_at: 0.0,
        };
        let sources = sources.into_iter().map(|(name, source)| (name, saved(source))).collect();
        Self { identity, position, read_at, sources }
    }
}

impl Ledger {
    fn taken_up(self, at: Moment) -> ledger::Ledger {
        let missing: IdSet = self.gaps.iter().chain(&self.abandoned).map(|gap| (gap.lo, gap.hi)).collect();
        let open: IdSet = self.open.into_iter().map(|id| (id, id)).collect();
        let frontier = Frontier::restored(self.high, open, missing, at);
        let sets: Sets = self.sets.into_iter().map(|(labels, set)| (labels, Arc::new(set.into()))).collect();
        ledger::Ledger::restored(frontier, sets, self.newest, self.rows, self.complete).with_counters(
            self.rejected,
            self.overflowed,
            self.drift,
            self.rewinds,
        )
    }
}

impl From<Set> for ledger::Set {
    fn from(set: Set) -> Self {
        // A sum that was published with its rounding must not fall.
        let cell = |cell: Cell| ledger::Cell {
            birth: cell.birth,
            // Version 1 noted a time for history, too.
            start: None,
            counts: cell.counts,
            sums: cell.sums.into_iter().map(Decimal::not_below).collect(),
            natives: Vec::new(),
            exemplars: Vec::new(),
        };
        let cells = set.cells.into_iter().map(|(by, saved)| (by, cell(saved))).collect();
        Self { birth: set.birth, start: None, cells }
    }
}
