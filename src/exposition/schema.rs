//! The messages of the protobuf format, as far as they are used.
//!
//! Names and numbers are those of `prompb/io/prometheus/client/metrics.proto` of Prometheus 3 (package
//! `io.prometheus.client`, commit 0e0afa1aed789bea015f36a12d7b7d069b007216 of prometheus/prometheus), which is
//! `io/prometheus/client/metrics.proto` of prometheus/client_model 0.6 in the syntax of proto3. Numbers are written also
//! when they are 0, as the Go client does: to decoders of client_model's proto2 one that is left out is missing.

use prost::{Enumeration, Message};

/// All series of one name.
#[derive(Clone, PartialEq, Message)]
pub struct MetricFamily {
    /// The name; of a counter with `_total`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// One sentence.
    #[prost(string, tag = "2")]
    pub help: String,
    /// The type.
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    pub r#type: Option<i32>,
    /// The series.
    #[prost(message, repeated, tag = "4")]
    pub metric: Vec<Metric>,
    /// The unit.
    #[prost(string, tag = "5")]
    pub unit: String,
}

/// Types of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum MetricType {
    /// A counter.
    Counter = 0,
    /// A gauge.
    Gauge = 1,
    /// A histogram.
    Histogram = 4,
}

/// One series, or the series of one histogram.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// The labels.
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<LabelPair>,
    /// The value of a gauge.
    #[prost(message, optional, tag = "2")]
    pub gauge: Option<Gauge>,
    /// The value of a counter.
    #[prost(message, optional, tag = "3")]
    pub counter: Option<Counter>,
    /// The values of a histogram.
    #[prost(message, optional, tag = "7")]
    pub histogram: Option<Histogram>,
}

/// A label.
#[derive(Clone, PartialEq, Message)]
pub struct LabelPair {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// The value of a gauge.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Gauge {
    /// The value.
    #[prost(double, optional, tag = "1")]
    pub value: Option<f64>,
}

/// The value of a counter.
#[derive(Clone, PartialEq, Message)]
pub struct Counter {
    /// The value.
    #[prost(double, optional, tag = "1")]
    pub value: Option<f64>,
    /// A row that raised it.
    #[prost(message, optional, tag = "2")]
    pub exemplar: Option<Exemplar>,
    /// Since when it has been counting.
    #[prost(message, optional, tag = "3")]
    pub created_timestamp: Option<Timestamp>,
}

/// The values of a histogram.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// How many values there are.
    #[prost(uint64, optional, tag = "1")]
    pub sample_count: Option<u64>,
    /// Their sum.
    #[prost(double, optional, tag = "2")]
    pub sample_sum: Option<f64>,
    /// Buckets in the order of their bounds, without the infinite one, unless its count is not that of all values.
    #[prost(message, repeated, tag = "3")]
    pub bucket: Vec<Bucket>,
    /// Of a native histogram: the schema of its buckets.
    #[prost(sint32, optional, tag = "5")]
    pub schema: Option<i32>,
    /// Of a native histogram: values up to this are in the zero bucket.
    #[prost(double, optional, tag = "6")]
    pub zero_threshold: Option<f64>,
    /// Of a native histogram: how many values are in the zero bucket.
    #[prost(uint64, optional, tag = "7")]
    pub zero_count: Option<u64>,
    /// Of a native histogram: which buckets there are.
    #[prost(message, repeated, tag = "12")]
    pub positive_span: Vec<BucketSpan>,
    /// Of a native histogram: how many values more each bucket has than the one before.
    #[prost(sint64, repeated, tag = "13")]
    pub positive_delta: Vec<i64>,
    /// Since when it has been counting.
    #[prost(message, optional, tag = "15")]
    pub created_timestamp: Option<Timestamp>,
}

/// A bucket of a histogram.
#[derive(Clone, PartialEq, Message)]
pub struct Bucket {
    /// How many values are not above the bound.
    #[prost(uint64, optional, tag = "1")]
    pub cumulative_count: Option<u64>,
    /// The bound.
    #[prost(double, optional, tag = "2")]
    pub upper_bound: Option<f64>,
    /// A row in this bucket and in none before.
    #[prost(message, optional, tag = "3")]
    pub exemplar: Option<Exemplar>,
}

/// What stands behind a number.
#[derive(Clone, PartialEq, Message)]
pub struct Exemplar {
    /// What names it.
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<LabelPair>,
    /// Its value.
    #[prost(double, optional, tag = "2")]
    pub value: Option<f64>,
    /// When it was.
    #[prost(message, optional, tag = "3")]
    pub timestamp: Option<Timestamp>,
}

/// Buckets of a native histogram that follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct BucketSpan {
    /// How many are left out since the last span; of the first span, the index of its first bucket.
    #[prost(sint32, optional, tag = "1")]
    pub offset: Option<i32>,
    /// How many there are.
    #[prost(uint32, optional, tag = "2")]
    pub length: Option<u32>,
}

/// `google.protobuf.Timestamp`: a time since the epoch.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// The rest.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Timestamp {
    /// A time in milliseconds since the epoch.
    pub fn from_millis(ms: i64) -> Self {
        // Less than a thousand million.
        Self { seconds: ms.div_euclid(1000), nanos: ms.rem_euclid(1000) as i32 * 1_000_000 }
    }
}
