//! What must hold between the numbers of one scrape, and between those of two.

use std::collections::BTreeMap;

use super::metrics::{Metrics, Sample};

/// What is wrong with the histograms of a scrape: buckets that are not cumulative, `+Inf` that is not `_count`.
pub fn incoherent(metrics: &Metrics) -> Vec<String> {
    let mut histograms: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    let (mut counts, mut sums) = (BTreeMap::new(), BTreeMap::new());
    for sample in &metrics.samples {
        if let (Some(base), Some(le)) = (sample.name.strip_suffix("_bucket"), sample.labels.get("le")) {
            let mut labels = sample.labels.clone();
            labels.remove("le");
            let key = Sample { name: base.into(), labels, value: 0.0 }.series();
            histograms.entry(key).or_default().push((le.parse().expect(le), sample.value));
        }
        for (suffix, found) in [("_count", &mut counts), ("_sum", &mut sums)] {
            if let Some(base) = sample.name.strip_suffix(suffix) {
                found.insert(Sample { name: base.into(), ..sample.clone() }.series(), sample.value);
            }
        }
    }
    let mut wrong = Vec::new();
    for (key, mut buckets) in histograms {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        if !buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1) {
            wrong.push(format!("{key}: not cumulative: {buckets:?}"));
        }
        let count = counts.get(&key).copied();
        if buckets.last().map(|b| (b.0, Some(b.1))) != Some((f64::INFINITY, count)) {
            wrong.push(format!("{key}: +Inf is not _count: {buckets:?}, {count:?}"));
        }
        match sums.get(&key) {
            Some(0.0) => {}
            Some(sum) if *sum > 0.0 && count != Some(0.0) => {}
            sum => wrong.push(format!("{key}: _sum is {sum:?} of {count:?}")),
        }
    }
    wrong
}

/// Counters and buckets that `after` lacks or shows lower than `before` did.
pub fn fallen(before: &Metrics, after: &Metrics) -> Vec<String> {
    let after = after.series();
    let rising = |name: &str| ["_total", "_bucket", "_count", "_sum"].iter().any(|suffix| name.ends_with(suffix));
    let samples = before.samples.iter().filter(|sample| rising(&sample.name));
    let fallen = samples.filter_map(|sample| match after.get(&sample.series()) {
        Some(value) if *value >= sample.value => None,
        value => Some(format!("{}: {} became {value:?}", sample.series(), sample.value)),
    });
    fallen.collect()
}
