//! Totals of the series of one source, which only grow.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Shape;
use super::births::Birth;

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
    pub sums: Vec<f64>,
}

impl Set {
    pub(super) fn new(shape: &Shape, birth: Birth, start: Option<i64>) -> Self {
        let cells = shape.enumerated.iter().map(|by| (by.clone(), Cell::new(shape, birth, start))).collect();
        Self { birth, start, cells }
    }
}

impl Cell {
    pub(super) fn new(shape: &Shape, birth: Birth, start: Option<i64>) -> Self {
        Self { birth, start, counts: vec![0; shape.counts], sums: vec![0.0; shape.sums] }
    }
}

/// Adds number by number.
pub fn add<T: AddAssign + Copy>(to: &mut [T], more: &[T]) {
    debug_assert_eq!(to.len(), more.len());
    to.iter_mut().zip(more).for_each(|(to, more)| *to += *more);
}

/// Raises number by number to what is larger.
pub fn raise<T: PartialOrd + Copy>(to: &mut [T], floor: &[T]) {
    debug_assert_eq!(to.len(), floor.len());
    to.iter_mut().zip(floor).filter(|(to, floor)| **to < **floor).for_each(|(to, floor)| *to = *floor);
}

/// A map whose keys are no strings, as a list of pairs.
pub mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the pairs in order.
    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    /// Reads pairs in any order.
    pub fn deserialize<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<K, V>, D::Error> {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}
