//! What `state.file` holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fingerprint::{EARLIER, Fingerprint};
use crate::ledger::native::Native;
use crate::ledger::recount::Fresh;
use crate::ledger::{Ledger, Shape};
use crate::postgres::Position;
use crate::source::Source;

/// Everything that survives a restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Which database was counted, see [`crate::postgres::Session::identity`].
    pub identity: Option<String>,
    /// The last snapshot.
    pub position: Position,
    /// The database's clock at the last snapshot, in seconds since the epoch.
    pub read_at: f64,
    /// The sources by name.
    pub sources: BTreeMap<String, Saved>,
}

/// One source as it was saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    /// What the ledger's numbers mean.
    pub fingerprint: Arc<Fingerprint>,
    /// What had been counted.
    pub ledger: Arc<Ledger>,
    /// The database's clock when it was read, in seconds since the epoch; 0 if that was not saved.
    #[serde(default)]
    pub read_at: f64,
}

/// How much of a saved source can be used.
#[derive(Debug, PartialEq)]
pub enum Resumed {
    /// All of it: the definition is the same.
    Whole(Ledger),
    /// The rows are the same ones, some metrics are not: totals of unchanged metrics go on, new ones are counted from
    /// the rows that are there.
    Partly(Ledger),
    /// Nothing: other rows, or other labels.
    Nothing(Ledger),
}

impl Saved {
    /// The ledger to go on with.
    pub fn resume(self, source: &Source, shape: Shape) -> Resumed {
        let fingerprint = Fingerprint::of(source);
        let is_earlier = source.is_shipped() && EARLIER.contains(&(&source.name, self.fingerprint.rows));
        if fingerprint.rows != self.fingerprint.rows && !is_earlier {
            return Resumed::Nothing(Ledger::new(shape));
        }
        if (Fingerprint { rows: self.fingerprint.rows, ..fingerprint.clone() }) == *self.fingerprint {
            return Resumed::Whole(Arc::unwrap_or_clone(self.ledger).resume(shape));
        }
        if source.key.is_some() {
            // Which of the rows below the window were counted, nobody knows.
            return Resumed::Nothing(Ledger::new(shape));
        }
        let was = &*self.fingerprint;
        let mut ledger = Arc::unwrap_or_clone(self.ledger);
        let from = |was: &[String], now: &[String]| -> Vec<Option<usize>> {
            now.iter().map(|meaning| was.iter().position(|w| w == meaning)).collect()
        };
        let counts = from(&was.counts, &fingerprint.counts);
        let sums = from(&was.sums, &fingerprint.sums);
        let values = from(&was.values, &fingerprint.values);
        let natives = from(&was.natives, &fingerprint.natives);
        ledger.move_measures(&counts, &sums, &values, &natives);
        let fresh = |from: &[Option<usize>]| from.iter().map(Option::is_none).collect();
        let fresh =
            Fresh { counts: fresh(&counts), sums: fresh(&sums), values: fresh(&values), natives: fresh(&natives) };
        let mut ledger = ledger.resume(shape);
        ledger.recount(fresh);
        Resumed::Partly(ledger)
    }

    /// The database's clock when the numbers of a definition were read that can be published as they are saved, in
    /// seconds since the epoch; 0 for never.
    pub fn published_at(&self, definition: &Fingerprint) -> f64 {
        // Open rows are read anew at each poll, so that nothing else depends on their labels.
        if self.fingerprint.open == definition.open { self.read_at } else { 0.0 }
    }

    /// Whether every combination of labels has as many numbers as the definition that they were saved with.
    pub(super) fn is_whole(&self) -> bool {
        let Fingerprint { counts, sums, values, natives, .. } = &*self.fingerprint;
        let mut cells = self.ledger.sets().values().flat_map(|set| set.cells.values());
        self.ledger.rejected().len() == values.len()
            && cells.all(|cell| {
                cell.counts.len() == counts.len()
                    && cell.sums.len() == sums.len()
                    && cell.natives.len() == natives.len()
                    && cell.natives.iter().all(Native::is_sound)
            })
    }
}
