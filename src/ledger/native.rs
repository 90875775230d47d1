//! Native histograms: buckets whose bounds follow from a schema, as Prometheus and its client for Go have them.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::decimal::Decimal;

/// The schemas that Prometheus has: each bucket of one is split in two by the next.
const SCHEMAS: std::ops::RangeInclusive<i8> = -4..=8;
/// How many buckets the finest schema has between a power of two and the next.
const FINEST: usize = 1 << *SCHEMAS.end();

/// Upper bounds of the finest schema's buckets from 0.5 to 1, but for 1 itself. Those of a coarser one are every second,
/// fourth, … of them.
///
/// The client for Go has a table that was made by just these multiplications and with the same square root of two, so
/// that its bounds are a few bits off the powers that they stand for. A value on a bound falls in the same bucket only if
/// they are done alike.
static BOUNDS: LazyLock<[f64; FINEST]> = LazyLock::new(|| {
    let mut bounds = [0.5; FINEST];
    let mut factor = 2.0_f64;
    let mut step = FINEST;
    while step > 1 {
        // Square roots are rounded correctly everywhere, which powers are not.
        (factor, step) = (factor.sqrt(), step / 2);
        let factor = if 2 * step == FINEST { factor.next_down() } else { factor };
        (step..FINEST).step_by(2 * step).for_each(|i| bounds[i] = bounds[i - step] * factor);
    }
    bounds
});

/// How values are put into buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The schema to begin with.
    pub schema: i8,
    /// The largest number of buckets that are not empty; the schema is lowered when there are more.
    pub max_buckets: usize,
    /// Values up to this count as 0. At least [`f64::MIN_POSITIVE`].
    pub zero_threshold: f64,
    /// Which of [`super::Shape::sums`] adds up the same values.
    pub sum: usize,
}

/// The coarsest schema whose buckets are at most so many times as wide as the ones before, `factor` being above 1.
pub fn schema(factor: f64) -> i8 {
    // Saturates, and cannot be NaN.
    (-factor.log2().log2().floor()).clamp(f64::from(*SCHEMAS.start()), f64::from(*SCHEMAS.end())) as i8
}

/// The index of the bucket of a finite value that is not subnormal. The bucket `i` of schema `s` goes from
/// 2^((i-1)/2^s), exclusive, to 2^(i/2^s), inclusive.
pub fn index(value: f64, schema: i8) -> i32 {
    const FRACTION: u64 = (1 << 52) - 1;
    // value = fraction · 2^exponent, with a fraction from 0.5 to 1.
    let exponent = ((value.to_bits() >> 52) & 0x7ff) as i32 - 1022;
    let fraction = f64::from_bits(value.to_bits() & FRACTION | 1022 << 52);
    if schema > 0 {
        let index = BOUNDS.partition_point(|bound| *bound < fraction) as i32 + (exponent - 1) * FINEST as i32;
        return lowered(index, *SCHEMAS.end() - schema);
    }
    lowered(if fraction == 0.5 { exponent - 1 } else { exponent }, -schema)
}

/// The index of the bucket into which a bucket merges in a schema that is so much lower.
fn lowered(index: i32, by: i8) -> i32 {
    // As often as that: (index + 1) >> 1.
    -((-index) >> by)
}

/// The values of one series. Those that are added later may be in other schemas: the lowest of all is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Native {
    /// The schema of the buckets.
    pub schema: i8,
    /// How many values are not above the zero threshold.
    pub zero: u64,
    /// Indexes of the buckets that are not empty, rising, and how many values each has.
    pub buckets: Vec<(i32, u64)>,
    /// The sum of the values.
    pub sum: Decimal,
}

impl Default for Native {
    fn default() -> Self {
        Self { schema: *SCHEMAS.end(), zero: 0, buckets: Vec::new(), sum: Decimal::default() }
    }
}

impl Native {
    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.zero + self.buckets.iter().map(|bucket| bucket.1).sum::<u64>()
    }

    /// Makes it empty, and keeps its room.
    pub fn clear(&mut self) {
        self.buckets.clear();
        *self = Self { buckets: std::mem::take(&mut self.buckets), ..Self::default() };
    }

    /// True if it can have been made by the functions of this type.
    pub fn is_sound(&self) -> bool {
        let indexes = i32::from(i16::MIN) * FINEST as i32..=i32::from(i16::MAX) * FINEST as i32;
        let total = self.buckets.iter().try_fold(self.zero, |sum, bucket| sum.checked_add(bucket.1));
        SCHEMAS.contains(&self.schema)
            && total.is_some()
            && self.buckets.is_sorted_by(|a, b| a.0 < b.0)
            && self.buckets.iter().all(|(index, count)| *count > 0 && indexes.contains(index))
    }

    /// Adds values, at least 0, and their sum.
    pub fn count_in(&mut self, values: &[f64], sum: Decimal, settings: &Settings) {
        self.lower(settings.schema);
        for &value in values {
            if value <= settings.zero_threshold {
                self.zero += 1;
            } else {
                *self.bucket(index(value, self.schema)) += 1;
                self.limit(settings);
            }
        }
        self.sum += sum;
    }

    /// Adds the values of another one.
    pub fn merge(&mut self, other: &Self, settings: &Settings) {
        self.lower(settings.schema);
        self.each_of(other, |own, more| *own += more);
        self.zero += other.zero;
        self.sum += other.sum;
        self.limit(settings);
    }

    /// Raises each number to what is larger.
    pub fn raise(&mut self, floor: &Self, settings: &Settings) {
        self.lower(floor.schema);
        let mut low = floor.clone();
        low.lower(self.schema);
        self.each_of(&low, |own, low| *own = low.max(*own));
        self.zero = self.zero.max(low.zero);
        self.sum = if self.sum < low.sum { low.sum } else { self.sum };
        self.limit(settings);
    }

    fn each_of(&mut self, other: &Self, change: impl Fn(&mut u64, u64)) {
        self.lower(other.schema);
        let by = other.schema - self.schema;
        other.buckets.iter().for_each(|&(index, count)| change(self.bucket(lowered(index, by)), count));
    }

    /// The number of values in the bucket with this index.
    fn bucket(&mut self, index: i32) -> &mut u64 {
        let at = self.buckets.binary_search_by_key(&index, |bucket| bucket.0).unwrap_or_else(|at| {
            self.buckets.insert(at, (index, 0));
            at
        });
        &mut self.buckets[at].1
    }

    fn limit(&mut self, settings: &Settings) {
        while self.buckets.len() > settings.max_buckets && self.schema > *SCHEMAS.start() {
            self.lower(self.schema - 1);
        }
    }

    /// Merges buckets until the schema is not above this one.
    pub fn lower(&mut self, schema: i8) {
        if self.schema <= schema {
            return;
        }
        let by = self.schema - schema;
        self.schema = schema;
        self.buckets.iter_mut().for_each(|bucket| bucket.0 = lowered(bucket.0, by));
        self.buckets.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            kept.1 += if is_same { next.1 } else { 0 };
            is_same
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(schema: i8, max_buckets: usize) -> Settings {
        Settings { schema, max_buckets, zero_threshold: f64::MIN_POSITIVE, sum: 0 }
    }

    fn of(values: &[f64], settings: &Settings) -> Native {
        let mut native = Native::default();
        native.count_in(values, Decimal::default(), settings);
        native
    }

    #[test]
    fn the_factor_says_how_fine_it_is() {
        let schemas = [1.001, 1.0028, 1.006, 1.1, 1.5, 2.0, 2.1, 4.0, 65_536.0, 1e300].map(schema);
        assert_eq!(schemas, [8, 8, 7, 3, 1, 0, 0, -1, -4, -4]);
    }

    #[test]
    fn a_value_on_a_bound_is_in_the_bucket_below_it() {
        for exponent in [-1000, -1, 0, 1, 40, 1000] {
            for schema in SCHEMAS {
                let power = 2_f64.powi(exponent);
                let (on, above) = (index(power, schema), index(power.next_up(), schema));
                let wanted = f64::from(exponent) * f64::from(schema).exp2();
                assert_eq!((on, above), (wanted.ceil() as i32, wanted.floor() as i32 + 1), "2^{exponent}, {schema}");
            }
        }
        for (i, bound) in BOUNDS.iter().enumerate() {
            let (on, above) = (index(*bound, 8), index(bound.next_up(), 8));
            assert_eq!((on, above), (i as i32 - 256, i as i32 - 255));
            let exact = (i as f64 / 256.0 - 1.0).exp2();
            assert!((bound / exact - 1.0).abs() < 1e-12, "{i}");
        }
    }

    #[test]
    fn zero_and_what_is_nearly_zero_are_apart() {
        let settings = Settings { zero_threshold: 0.5, ..settings(0, 10) };
        let native = of(&[0.0, 0.5, 0.6, 1.0, 1.5, 1e18], &settings);
        assert_eq!((native.zero, native.buckets.clone()), (2, vec![(0, 2), (1, 1), (60, 1)]));
        assert_eq!(native.count(), 6);
    }

    #[test]
    fn the_schema_is_lowered_when_there_are_too_many_buckets_but_not_for_ever() {
        let values: Vec<f64> = (1..=1000).map(f64::from).collect();
        let native = of(&values, &settings(3, 20));
        assert_eq!((native.schema, native.buckets.len(), native.count()), (1, 19, 1000));
        let apart = of(&[1e-300, 1e-100, 1.0, 1e100], &settings(3, 1));
        assert_eq!((apart.schema, apart.count()), (-4, 4));
    }

    #[test]
    fn raised_none_falls() {
        let settings = settings(3, 10);
        let mut native = of(&[1.0, 1.0, 8.0], &settings);
        let low = of(&[1.0, 8.0, 8.0, 0.0], &settings);
        native.raise(&low, &settings);
        assert_eq!((native.zero, native.buckets), (1, vec![(0, 2), (24, 2)]));
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        let value = prop_oneof![Just(0.0), 1e-9..1e12, (-40..40).prop_map(|e| 2_f64.powi(e)), 0.5..1.0];
        prop::collection::vec(value, 0..80)
    }

    proptest! {
        #[test]
        fn nothing_is_lost_in_whatever_parts_the_values_come(
            parts in prop::collection::vec(values(), 1..6),
            schema in SCHEMAS,
            max_buckets in 1_usize..40,
        ) {
            let settings = settings(schema, max_buckets);
            let all = parts.concat();
            let native = of(&all, &settings);
            prop_assert!(native.is_sound());
            prop_assert_eq!(native.count(), all.len() as u64);
            prop_assert!(native.buckets.len() <= max_buckets || native.schema == -4);
            // Each value is where its own index says, and the schema is no lower than it has to be.
            for &(at, count) in &native.buckets {
                let inside = all.iter().filter(|value| **value > 0.0 && index(**value, native.schema) == at);
                prop_assert_eq!(inside.count() as u64, count);
            }
            if native.schema < schema {
                let mut finer: Vec<i32> = all.iter().filter(|v| **v > 0.0).map(|v| index(*v, native.schema + 1)).collect();
                finer.sort_unstable();
                finer.dedup();
                prop_assert!(finer.len() > max_buckets);
            }
            // One after the other, and merged from parts in either order.
            let mut one = Native::default();
            parts.iter().for_each(|part| one.count_in(part, Decimal::default(), &settings));
            prop_assert_eq!(&one, &native);
            let mut merged = Native::default();
            parts.iter().rev().for_each(|part| merged.merge(&of(part, &settings), &settings));
            prop_assert_eq!(&merged, &native);
            let mut raised = of(&parts[0], &settings);
            raised.raise(&native, &settings);
            prop_assert_eq!(&raised, &native);
        }
    }
}
