//! A distribution of values, its quantiles, and what Prometheus would make of them through buckets.

use std::collections::BTreeMap;

use crate::snapshot::distribution::{Quantile, histogram_quantile};

/// Bounds are chosen among these, times powers of ten.
const NICE: [f64; 10] = [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0];
/// The quantiles that matter.
pub const QUANTILES: [f64; 4] = [0.5, 0.9, 0.95, 0.99];
/// Fewer bounds are not suggested, nor are more.
const FEW: usize = 6;
const MANY: usize = 12;
/// Bounds are also suggested so many times below and above the values there are, for the day on which values move.
const AROUND: f64 = 4.0;

/// How often values occur. Values are at least 0 and are rounded up to five significant digits, so that memory is bounded
/// and every bound with so many digits still has the same values below it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Counts by the bits of the value, whose order is that of the values.
    counts: BTreeMap<u64, u64>,
    total: u64,
}

impl Distribution {
    /// Adds a value that occurs `times`.
    pub fn add(&mut self, value: f64, times: u64) {
        *self.counts.entry(up(value).to_bits()).or_default() += times;
        self.total += times;
    }

    /// How many values there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The smallest value.
    pub fn min(&self) -> Option<f64> {
        self.counts.keys().next().map(|&bits| f64::from_bits(bits))
    }

    /// The largest value.
    pub fn max(&self) -> Option<f64> {
        self.counts.keys().next_back().map(|&bits| f64::from_bits(bits))
    }

    /// The smallest value that at least this part of the values does not exceed.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = (q * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.counts.iter().find(|(_, times)| {
            seen += **times;
            seen >= rank
        });
        found.map(|(&bits, _)| f64::from_bits(bits))
    }

    /// How many values are not above a bound.
    pub fn below(&self, bound: f64) -> u64 {
        if bound < 0.0 {
            return 0;
        }
        self.counts.range(..=bound.to_bits()).map(|(_, times)| times).sum()
    }

    /// What `histogram_quantile` of Prometheus says, which interpolates within a bucket.
    pub fn estimate(&self, q: f64, bounds: &[f64]) -> Option<f64> {
        let counts: Vec<u64> = bounds.iter().map(|&bound| self.below(bound)).collect();
        estimate(q, bounds, &counts, self.total)
    }

    /// Bounds with which the quantiles come out well; about as many as there are `today`, and none above the `largest`
    /// value that is valid.
    pub fn suggest(&self, today: usize, integer: bool, largest: f64) -> Vec<f64> {
        let Some(max) = self.max() else { return Vec::new() };
        let smallest = self.quantile(0.01).unwrap_or(max);
        let mut candidates = nice(smallest / AROUND, max * AROUND, integer);
        // The largest valid value is a bound of its own if need be.
        candidates.retain(|&bound| bound <= largest);
        if candidates.last().is_none_or(|&last| last < max) {
            candidates.push(largest.max(max));
        }
        let counts: Vec<u64> = candidates.iter().map(|&bound| self.below(bound)).collect();
        let nearest = |value: f64| {
            let distance = |i: &usize| (candidates[*i] - value).abs();
            (0..candidates.len()).min_by(|a, b| distance(a).total_cmp(&distance(b)))
        };
        // The whole range, coarsely, and a bound that is above all values.
        let seeds = [0.1, 0.5, 0.9, 0.99].into_iter().filter_map(|q| nearest(self.quantile(q)?));
        let mut chosen: Vec<usize> = seeds.chain(candidates.iter().position(|&bound| bound >= max)).collect();
        chosen.sort_unstable();
        chosen.dedup();
        while chosen.len() < today.clamp(FEW, MANY) {
            let cost = |extra: usize| {
                let mut with = chosen.clone();
                with.push(extra);
                with.sort_unstable();
                let bounds: Vec<f64> = with.iter().map(|&i| candidates[i]).collect();
                let counts: Vec<u64> = with.iter().map(|&i| counts[i]).collect();
                let error = self.error(|q| estimate(q, &bounds, &counts, self.total));
                // Among those that help as much, the one farthest from the others.
                let gap = |i: &usize| i.abs_diff(extra);
                ((error * 1000.0).round() as i64, std::cmp::Reverse(chosen.iter().map(gap).min()))
            };
            let free = (0..candidates.len()).filter(|i| !chosen.contains(i));
            let Some(best) = free.min_by_key(|&i| cost(i)) else { break };
            chosen.push(best);
            chosen.sort_unstable();
        }
        chosen.into_iter().map(|i| candidates[i]).collect()
    }

    /// The sum of the relative errors of estimates of the quantiles that matter.
    pub fn error(&self, estimate: impl Fn(f64) -> Option<f64>) -> f64 {
        let floor = self.max().unwrap_or_default() / 1000.0;
        let error = |q: &f64| {
            let exact = self.quantile(*q).unwrap_or_default();
            let estimated = estimate(*q).unwrap_or_default();
            if estimated == exact { 0.0 } else { (estimated - exact).abs() / exact.max(floor) }
        };
        QUANTILES.iter().map(error).sum()
    }
}

/// What Prometheus says: the last bound for what is above it.
fn estimate(q: f64, bounds: &[f64], counts: &[u64], total: u64) -> Option<f64> {
    histogram_quantile(q, bounds, counts, total).map(|quantile| match quantile {
        Quantile::At(value) | Quantile::Above(value) => value,
    })
}

/// The smallest number of five significant digits that is not below a value.
fn up(value: f64) -> f64 {
    let round = |value: f64| format!("{value:.4e}").parse::<f64>().unwrap_or(value);
    let near = round(value);
    if near >= value { near } else { round(value + (value - near).max(10f64.powf(value.log10().floor() - 4.0) / 2.0)) }
}

/// Nice numbers from not above `from` to not below `to`.
fn nice(from: f64, to: f64, integer: bool) -> Vec<f64> {
    let smallest = if integer { 1.0 } else { to.max(1e-9) / 1e6 };
    let from = from.clamp(smallest, to.max(smallest));
    let decades = from.log10().floor() as i32..=to.max(smallest).log10().ceil() as i32;
    // Through text, so that 3 times 0.1 is 0.3.
    let number = |decade: i32, digit: f64| format!("{digit}e{decade}").parse::<f64>().unwrap_or(digit);
    let all: Vec<f64> = decades.flat_map(|decade| NICE.map(|digit| number(decade, digit))).collect();
    let first = all.iter().rposition(|&bound| bound <= from).unwrap_or(0);
    let last = all.iter().position(|&bound| bound >= to).unwrap_or(all.len() - 1);
    all[first..=last.max(first)].iter().copied().filter(|bound| !integer || bound.fract() == 0.0).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: impl IntoIterator<Item = f64>) -> Distribution {
        let mut distribution = Distribution::default();
        values.into_iter().for_each(|value| distribution.add(value, 1));
        distribution
    }

    #[test]
    fn estimates_are_those_of_prometheus() {
        let d = of((1..=100).map(f64::from));
        assert_eq!(d.estimate(0.5, &[10.0, 100.0]), Some(50.0));
        assert_eq!(d.estimate(0.05, &[10.0, 100.0]), Some(5.0), "from 0 in the first bucket");
        assert_eq!(d.estimate(0.99, &[10.0, 50.0]), Some(50.0), "the last bound for what is above it");
        assert_eq!(of([0.0; 4]).estimate(0.5, &[0.0, 1.0]), Some(0.0), "a first bound of 0");
        assert_eq!((d.quantile(0.5), d.quantile(0.99), d.quantile(1.0)), (Some(50.0), Some(99.0), Some(100.0)));
    }

    #[test]
    fn suggested_bounds_are_nice_few_and_better_than_bad_ones() {
        // Most between 2 and 4 seconds, few far above.
        let d = of((0..1000).map(|i| 2000.0 + f64::from(i) * 2.0).chain([90_000.5, 200_000.0]));
        let bounds = d.suggest(7, false, 1e18);
        assert_eq!(bounds.len(), 7);
        assert!(bounds.is_sorted() && bounds.last() >= Some(&200_000.0), "{bounds:?}");
        let error = |bounds: &[f64]| d.error(|q| d.estimate(q, bounds));
        assert!(error(&bounds) < error(&[1000.0, 5000.0, 10_000.0, 30_000.0, 60_000.0]) / 4.0, "{bounds:?}");
        assert_eq!(of([]).suggest(7, false, 1e18), [0.0; 0]);
        let scores = of((0..=20).map(|i| f64::from(i) * 5.0));
        assert_eq!(scores.suggest(9, false, 100.0).last(), Some(&100.0));
        assert!(of([0.0]).suggest(7, false, 1e18).iter().all(|bound| bound.is_finite()));
    }

    proptest! {
        #[test]
        fn rounding_up_keeps_values_on_their_side_of_a_bound(value in 0.0..1e12_f64, digits in 1..99_999_u32, decade in -3..8_i32) {
            let bound = format!("{digits}e{decade}").parse::<f64>().unwrap();
            prop_assert_eq!(up(value) <= bound, value <= bound, "{} {}", value, up(value));
            prop_assert_eq!(up(bound), bound);
        }

        #[test]
        fn any_values_get_rising_bounds_that_hold_them(values in prop::collection::vec(0.0..1e9_f64, 1..50), integer: bool) {
            let values: Vec<f64> = values.into_iter().map(|v| if integer { v.round() } else { v }).collect();
            let d = of(values);
            let bounds = d.suggest(8, integer, 1e9);
            prop_assert!(bounds.is_sorted_by(|a, b| a < b) && !bounds.is_empty(), "{:?}", bounds);
            prop_assert_eq!(d.below(*bounds.last().unwrap()), d.total());
        }
    }
}
