//! The Prometheus protobuf format.

use prost::Message;
use prost::encoding::{encode_varint, message};

use super::schema::{
    Bucket, BucketSpan, Counter, Exemplar, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType, Timestamp,
};
use super::{Pairs, SeriesTotals};
use crate::ledger::native::Native;

/// The field of [`MetricFamily::metric`].
const METRIC: u32 = 4;

/// Writes the format.
///
/// A family has its length before it, so it is put together apart. Its metrics are encoded one by one from the same
/// message, whose room is used again and again: a page has many thousands.
#[derive(Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
    family: Vec<u8>,
    metric: Metric,
}

impl Encoder {
    /// An encoder with room for so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), ..Self::default() }
    }

    fn end_family(&mut self) {
        if !self.family.is_empty() {
            encode_varint(self.family.len() as u64, &mut self.out);
            self.out.append(&mut self.family);
        }
        self.metric = Metric::default();
    }

    fn label(&mut self, labels: &Pairs<'_>) {
        let set = |text: &mut String, to: &str| {
            text.clear();
            text.push_str(to);
        };
        self.metric.label.resize_with(labels.len(), LabelPair::default);
        for (pair, (name, value)) in self.metric.label.iter_mut().zip(labels) {
            set(&mut pair.name, name);
            set(&mut pair.value, value);
        }
    }

    fn write(&mut self) {
        message::encode(METRIC, &self.metric, &mut self.family);
    }
}

impl super::Encoder for Encoder {
    fn family(&mut self, name: &str, kind: &str, unit: Option<&str>, help: &str) {
        self.end_family();
        let kind = match kind {
            "counter" => MetricType::Counter,
            "histogram" => MetricType::Histogram,
            _ => MetricType::Gauge,
        };
        let family = MetricFamily {
            name: name.to_owned(),
            help: help.to_owned(),
            r#type: Some(kind.into()),
            metric: Vec::new(),
            unit: unit.unwrap_or_default().to_owned(),
        };
        family.encode_raw(&mut self.family);
    }

    fn counter(&mut self, labels: &Pairs<'_>, series: &SeriesTotals<'_>) {
        self.label(labels);
        let created_timestamp = series.start.map(Timestamp::from_millis);
        self.metric.counter =
            Some(Counter { value: Some(series.value()), exemplar: exemplar(series, 0), created_timestamp });
        self.write();
    }

    fn gauge(&mut self, labels: &Pairs<'_>, value: f64) {
        self.label(labels);
        self.metric.gauge = Some(Gauge { value: Some(value) });
        self.write();
    }

    fn histogram(&mut self, labels: &Pairs<'_>, bounds: &[f64], series: &SeriesTotals<'_>) {
        let &SeriesTotals { counts, sum, start, native, .. } = series;
        self.label(labels);
        let histogram = self.metric.histogram.get_or_insert_with(Histogram::default);
        histogram.sample_count = Some(counts.last().copied().unwrap_or_default());
        histogram.sample_sum = Some(sum);
        histogram.created_timestamp = start.map(Timestamp::from_millis);
        histogram.bucket.clear();
        let bucket = |(i, (&bound, &count))| Bucket {
            cumulative_count: Some(count),
            upper_bound: Some(bound),
            exemplar: exemplar(series, i),
        };
        histogram.bucket.extend(bounds.iter().zip(counts).enumerate().map(bucket));
        if let Some((native, zero_threshold)) = native {
            // Count and sum are one in both kinds of histogram. A native one must add up to them; a classic one that has
            // had other bounds since, or counted rows that are gone, says what is its own as the infinite bucket.
            let count = native.count();
            if histogram.sample_count != Some(count) {
                histogram.bucket.extend(counts.last().map(|all| bucket((bounds.len(), (&f64::INFINITY, all)))));
            }
            histogram.sample_count = Some(count);
            histogram.sample_sum = Some(native.sum.to_f64());
            histogram.zero_threshold = Some(zero_threshold);
            fill(histogram, native);
        }
        self.write();
    }

    fn has_exemplars(&self) -> bool {
        true
    }

    fn has_natives(&self) -> bool {
        true
    }

    fn finish(mut self: Box<Self>) -> Vec<u8> {
        self.end_family();
        self.out
    }
}

fn exemplar(series: &SeriesTotals<'_>, i: usize) -> Option<Exemplar> {
    let exemplar = series.exemplars.get(i).copied().flatten()?;
    Some(Exemplar {
        label: vec![LabelPair { name: series.exemplar_label.to_owned(), value: exemplar.row.to_string() }],
        value: Some(exemplar.value),
        timestamp: Some(Timestamp::from_millis((exemplar.at * 1000.0).round() as i64)),
    })
}

fn fill(histogram: &mut Histogram, native: &Native) {
    let Histogram { positive_span: spans, positive_delta: deltas, .. } = histogram;
    histogram.schema = Some(native.schema.into());
    histogram.zero_count = Some(native.zero);
    spans.clear();
    deltas.clear();
    let (mut next, mut last) = (0, 0);
    for &(index, count) in &native.buckets {
        match spans.last_mut() {
            Some(span) if index == next => span.length = span.length.map(|length| length + 1),
            _ => spans.push(BucketSpan { offset: Some(index - next), length: Some(1) }),
        }
        // No table has so many rows that a count is not an i64.
        deltas.push(count.cast_signed().wrapping_sub(last));
        (next, last) = (index + 1, count.cast_signed());
    }
}
