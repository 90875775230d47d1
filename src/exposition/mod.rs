//! Metrics as a scrape gets them: one encoder for each format.

pub mod accept;
pub mod gzip;
pub mod own;
pub mod protobuf;
pub mod schema;
pub mod text;

use crate::ledger::exemplar::Exemplar;
use crate::ledger::native::Native;

/// The formats that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format, version 0.0.4.
    Text,
    /// OpenMetrics text format, version 1.0.0.
    OpenMetrics,
    /// Prometheus protobuf format: `MetricFamily` messages, each with its length before it.
    Protobuf,
}

/// Labels of a series: names and values.
pub type Pairs<'a> = [(&'a str, &'a str)];

/// The totals of one series of a counter or histogram.
#[derive(Clone, Debug, Default)]
pub struct SeriesTotals<'r> {
    /// The rows, or the cumulative buckets with the count of all values; empty for a sum alone.
    pub counts: &'r [u64],
    /// The sum of the values.
    pub sum: f64,
    /// When it was born, in milliseconds since the epoch, where that is known.
    pub start: Option<i64>,
    /// The native histogram, if it has one that is read, and its zero threshold.
    pub native: Option<(&'r Native, f64)>,
    /// The newest row behind a counter, or in each bucket; empty if there are none to show.
    pub exemplars: &'r [Option<&'r Exemplar>],
    /// The label that names the row of an exemplar.
    pub exemplar_label: &'r str,
}

impl SeriesTotals<'_> {
    /// How many rows or values there are; of a metric that only adds up values, their sum.
    pub fn value(&self) -> f64 {
        self.counts.last().map_or(self.sum, |count| *count as f64)
    }
}

/// Writes metric families one after the other.
pub trait Encoder {
    /// Begins a family. A counter's name ends in `_total`.
    fn family(&mut self, name: &str, kind: &str, unit: Option<&str>, help: &str);

    /// A sample of a counter.
    fn counter(&mut self, labels: &Pairs<'_>, series: &SeriesTotals<'_>);

    /// A sample of a gauge.
    fn gauge(&mut self, labels: &Pairs<'_>, value: f64);

    /// A histogram with these upper bounds. Its native one is not looked at unless the format [has native
    /// ones](Encoder::has_natives).
    fn histogram(&mut self, labels: &Pairs<'_>, bounds: &[f64], series: &SeriesTotals<'_>);

    /// True if the format has exemplars.
    fn has_exemplars(&self) -> bool {
        false
    }

    /// True if the format has native histograms.
    fn has_natives(&self) -> bool {
        false
    }

    /// What was written, without an end mark.
    fn finish(self: Box<Self>) -> Vec<u8>;
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Text, Self::OpenMetrics, Self::Protobuf];

    /// An encoder with room for so many bytes; `created` says whether OpenMetrics carries `_created` samples.
    pub fn encoder(self, created: bool, bytes: usize) -> Box<dyn Encoder> {
        match self {
            Self::Text | Self::OpenMetrics => Box::new(text::Encoder::new(self, created, bytes)),
            Self::Protobuf => Box::new(protobuf::Encoder::new(bytes)),
        }
    }

    /// The value of the header `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// What stands at the end of an exposition.
    pub fn end(self) -> &'static str {
        match self {
            Self::Text | Self::Protobuf => "",
            Self::OpenMetrics => "# EOF\n",
        }
    }
}
