//! What a backfill will write, before it writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::family::{Happened, Total, enumerated};
use crate::exposition::{Encoder as _, Format, text};
use crate::ledger::Labels;
use crate::query::timeline::Timeline;
use crate::sql::history::Layout;

/// Bytes a second that one processor of an ordinary server writes at least.
const SPEED: u64 = 40_000_000;
/// Digits of a value beyond the one of the zero that lengths are measured with.
const DIGITS: u64 = 3;

/// Sizes, about.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Series.
    pub series: u64,
    /// Samples.
    pub samples: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What is known of a series: the first point at which it is there, and at how many points it changes.
pub type Lives = BTreeMap<Labels, (i64, u64)>;

impl Estimate {
    /// Adds the metrics of a layout.
    pub fn add(&mut self, layout: &Layout, timeline: &Timeline, extra: &[(String, String)], mut lives: Lives) {
        let own = layout.source.labels.len();
        let mut births: BTreeMap<Labels, i64> = BTreeMap::new();
        for (series, (first, _)) in &lives {
            let birth = births.entry(series[..own].to_vec()).or_insert(*first);
            *birth = (*birth).min(*first);
        }
        for (set, birth) in births {
            for by in enumerated(layout) {
                lives.entry([set.as_slice(), &by].concat()).or_insert((birth, 0));
            }
        }
        let names = layout.labels();
        let begins: BTreeSet<i64> = timeline.pieces().iter().map(|piece| piece.first).collect();
        let zero = Total::new(layout, Happened::default());
        for metric in &layout.metrics {
            let mut encoder = text::Encoder::new(Format::OpenMetrics, false, 0);
            encoder.family(&metric.name, metric.kind.type_name(), metric.unit.as_deref(), &metric.help);
            self.bytes += encoder.take().len() as u64;
            encoder.at(timeline.time(0));
            for (series, (first, changes)) in &lives {
                let extra = extra.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                let own = names.iter().copied().zip(series.iter().map(String::as_str));
                let labels: Vec<_> = own.chain(extra).collect();
                zero.clone().write(&mut encoder, layout, metric, &labels);
                let text = encoder.take();
                let lines = text.lines().count() as u64;
                let all = (timeline.last() - first + 1).unsigned_abs();
                let still = all / timeline.stride().unsigned_abs() + begins.range(*first..).count() as u64;
                let points = (still + changes).min(all + 1);
                self.series += lines;
                self.samples += lines * points;
                self.bytes += (text.len() as u64 + lines * DIGITS) * points;
            }
        }
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = match self.bytes.div_ceil(SPEED * 60) {
            0 | 1 => "a minute at most".to_owned(),
            minutes => format!("about {minutes} minutes"),
        };
        let million = self.samples as f64 / 1e6;
        write!(f, "{} series, about {million:.1} million samples, {}; {minutes}", self.series, size(self.bytes))
    }
}

/// Bytes as people write them.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        1_000_000..1_000_000_000 => format!("{} MB", bytes.div_ceil(1_000_000)),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
