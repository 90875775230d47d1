//! Totals of the series of one source, which only grow.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::AddAssign;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Shape;
use super::decimal::Decimal;
use super::exemplar::Exemplars;
use super::native::Native;
use super::zero_hold::Birth;

/// Values of labels, in the order of the source's declaration.
pub type Labels = Vec<String>;

/// The sets in order of their labels. A copy shares the sets that change in neither.
pub type Sets = BTreeMap<Labels, Arc<Set>>;

/// The series that share the labels which identify a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Set {
    /// Governs the metrics without other labels.
    pub birth: Birth,
    /// When the set was born, in milliseconds since the epoch. Absent where that is not known: its first rows were
    /// counted from history, or recounted.
    #[serde(default)]
    pub start: Option<i64>,
    /// Totals by the values of the other labels.
    #[serde(with = "pairs")]
    pub cells: BTreeMap<Labels, Cell>,
}

/// The totals for one combination of all labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Governs the metrics with other labels.
    pub birth: Birth,
    /// When the combination was born, like that of the set.
    #[serde(default)]
    pub start: Option<i64>,
    /// Whole-number measures.
    pub counts: Vec<u64>,
    /// Sums.
    pub sums: Vec<Decimal>,
    /// Native histograms.
    #[serde(default)]
    pub natives: Vec<Native>,
    /// The newest row behind each number since the start of the process. They are not saved: Prometheus has those of before.
    #[serde(skip)]
    pub exemplars: Exemplars,
}

impl Set {
    pub(super) fn new(shape: &Shape, birth: Birth, start: Option<i64>) -> Self {
        let cells = shape.enumerated.iter().map(|by| (by.clone(), Cell::new(shape, birth, start))).collect();
        Self { birth, start, cells }
    }
}

impl Cell {
    pub(super) fn new(shape: &Shape, birth: Birth, start: Option<i64>) -> Self {
        let natives = vec![Native::default(); shape.natives.len()];
        let (counts, sums) = (vec![0; shape.counts], vec![Decimal::default(); shape.sums]);
        Self { birth, start, counts, sums, natives, exemplars: Exemplars::new() }
    }
}

/// Adds number by number.
pub fn add<T: AddAssign + Copy>(to: &mut [T], more: &[T]) {
    debug_assert_eq!(to.len(), more.len());
    to.iter_mut().zip(more).for_each(|(to, more)| *to += *more);
}

/// Raises number by number to what is larger.
fn raise<T: PartialOrd + Copy>(to: &mut [T], floor: &[T]) {
    debug_assert_eq!(to.len(), floor.len());
    to.iter_mut().zip(floor).filter(|(to, floor)| **to < **floor).for_each(|(to, floor)| *to = *floor);
}

/// The cell of a combination of labels, which is born now if there is none.
pub(super) fn cell<'s>(
    sets: &'s mut Sets,
    shape: &Shape,
    labels: Labels,
    by: Labels,
    birth: Birth,
    start: Option<i64>,
) -> &'s mut Cell {
    let set = sets.entry(labels).or_insert_with(|| Arc::new(Set::new(shape, birth, start)));
    Arc::make_mut(set).cells.entry(by).or_insert_with(|| Cell::new(shape, birth, start))
}

/// Numbers where they stand now; `from` says for each where it stood, if it is not new.
pub(super) fn moved<T: Clone + Default>(was: &[T], from: &[Option<usize>]) -> Vec<T> {
    from.iter().map(|from| from.and_then(|i| was.get(i).cloned()).unwrap_or_default()).collect()
}

/// Raises sets to what is larger; nobody knows when those of `floor` were born that have it.
pub(super) fn raise_sets(sets: &mut Sets, floor: Sets, shape: &Shape) {
    for (labels, low) in floor {
        let set = sets.entry(labels).or_insert_with(|| Arc::new(Set::new(shape, low.birth, None)));
        let (set, low) = (Arc::make_mut(set), Arc::unwrap_or_clone(low));
        set.birth = low.birth;
        set.start = None;
        for (by, low) in low.cells {
            match set.cells.entry(by) {
                Entry::Vacant(entry) => _ = entry.insert(Cell { start: None, ..low }),
                Entry::Occupied(mut entry) => {
                    let cell = entry.get_mut();
                    cell.birth = low.birth;
                    cell.start = None;
                    raise(&mut cell.counts, &low.counts);
                    raise(&mut cell.sums, &low.sums);
                    for ((native, low), settings) in cell.natives.iter_mut().zip(&low.natives).zip(&shape.natives) {
                        native.raise(low, settings);
                    }
                }
            }
        }
    }
}

/// A map whose keys are no strings, as a list of pairs.
pub mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the pairs in order.
    ///
    /// # Errors
    /// Fails if the serializer does.
    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    /// Reads pairs in any order.
    ///
    /// # Errors
    /// Fails if there are no pairs.
    pub fn deserialize<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<K, V>, D::Error> {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}
