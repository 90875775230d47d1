//! Exemplars: the newest row behind a number, so that a graph leads to a case.

/// A row that raised a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// What names the row, such as its id.
    pub row: Box<str>,
    /// The value that it added or was counted for; 1 where rows are counted.
    pub value: f64,
    /// When it was done, in seconds since the epoch.
    pub at: f64,
}

/// The exemplars of a cell by the place of their number: counts first, then sums. In the order of places.
pub type Exemplars = Vec<(usize, Exemplar)>;

/// Keeps of each place the newest.
pub(super) fn keep(exemplars: &mut Exemplars, more: Exemplars) {
    for (place, exemplar) in more {
        match exemplars.binary_search_by_key(&place, |(place, _)| *place) {
            Ok(i) if exemplars[i].1.at <= exemplar.at => exemplars[i].1 = exemplar,
            Ok(_) => {}
            Err(i) => exemplars.insert(i, (place, exemplar)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_place_stays() {
        let exemplar = |row: &str, at| Exemplar { row: row.into(), value: 1.0, at };
        let mut exemplars = vec![(1, exemplar("a", 5.0)), (4, exemplar("b", 5.0))];
        keep(&mut exemplars, vec![(4, exemplar("c", 6.0)), (1, exemplar("d", 4.0)), (2, exemplar("e", 1.0))]);
        let kept: Vec<_> = exemplars.iter().map(|(place, exemplar)| (*place, &*exemplar.row)).collect();
        assert_eq!(kept, [(1, "a"), (2, "e"), (4, "c")]);
    }
}
