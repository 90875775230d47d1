//! How values are distributed over classic buckets, and the quantiles that Prometheus makes of them.

/// A distribution.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Upper bounds, rising, finite.
    pub bounds: Vec<f64>,
    /// How many values are not above each bound, and how many there are in all.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: f64,
}

/// Where a quantile lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantile {
    /// At this value, as Prometheus' `histogram_quantile` has it.
    At(f64),
    /// Above the last bound.
    Above(f64),
}

impl Histogram {
    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.last().copied().unwrap_or_default()
    }

    /// How many values are in each bucket alone.
    pub fn buckets(&self) -> Vec<u64> {
        let before = std::iter::once(&0).chain(&self.counts);
        self.counts.iter().zip(before).map(|(count, before)| count.saturating_sub(*before)).collect()
    }

    /// The value below which this part of the values is, 0 to 1; none without values.
    pub fn quantile(&self, part: f64) -> Option<Quantile> {
        histogram_quantile(part, &self.bounds, &self.counts, self.count())
    }
}

/// What Prometheus' `histogram_quantile` says of values of which `counts` are not above the `bounds`; it interpolates within
/// a bucket. Nothing without values.
pub fn histogram_quantile(part: f64, bounds: &[f64], counts: &[u64], total: u64) -> Option<Quantile> {
    let rank = part * total as f64;
    let bucket = bounds.iter().zip(counts).position(|(_, count)| *count > 0 && *count as f64 >= rank);
    let Some(bucket) = bucket else { return bounds.last().copied().map(Quantile::Above).filter(|_| total > 0) };
    let upper = bounds[bucket];
    let (lower, below) = match bucket.checked_sub(1) {
        Some(before) => (bounds[before], counts[before]),
        // Values are not negative: the first bucket begins at 0.
        None => (0.0_f64.min(upper), 0),
    };
    let within = (counts[bucket] - below) as f64;
    let part = if within > 0.0 { (rank - below as f64) / within } else { 1.0 };
    Some(Quantile::At(lower + (upper - lower) * part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(counts: &[u64]) -> Histogram {
        Histogram { bounds: vec![10.0, 20.0, 40.0], counts: counts.to_vec(), sum: 0.0 }
    }

    /// The expected values are what Prometheus' `histogram_quantile` gives for the same buckets.
    #[test]
    fn quantiles_lie_where_prometheus_puts_them() {
        let h = histogram(&[2, 4, 8, 8]);
        assert_eq!(h.quantile(0.5), Some(Quantile::At(20.0)));
        assert_eq!(h.quantile(0.25), Some(Quantile::At(10.0)));
        assert_eq!(h.quantile(0.75), Some(Quantile::At(30.0)));
        assert_eq!(histogram(&[0, 0, 1, 4]).quantile(0.95), Some(Quantile::Above(40.0)));
        assert_eq!(histogram(&[4, 4, 4, 4]).quantile(0.5), Some(Quantile::At(5.0)));
        assert_eq!(histogram(&[0, 0, 0, 0]).quantile(0.5), None);
        assert_eq!(histogram(&[2, 2, 5, 9]).buckets(), [2, 0, 3, 4]);
    }
}
