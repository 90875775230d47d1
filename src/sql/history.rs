//! The statements that read history: what happened in each step of time, by label set.

use super::measure::{array, count, sum};
use super::view::{NAME, View, view};
use super::{Columns, ident};
use crate::ledger::Labels;
use crate::query::timeline::Timeline;
use crate::source::kind::History;
use crate::source::{Metric, Slots, Source};

/// The column that has the step: no label can be called so.
const STEP: &str = "\"(step)\"";
/// The column that has the piece of the timeline.
const PIECE: &str = "\"(piece)\"";

/// The metrics of a source that have the same labels, and the measures that they need.
#[derive(Clone, Debug)]
pub struct Layout<'a> {
    /// The source.
    pub source: &'a Source,
    /// The labels beside those of the source.
    pub by: &'a [String],
    /// Counters and histograms.
    pub metrics: Vec<&'a Metric>,
    /// Positions in the counts of the source.
    pub counts: Vec<usize>,
    /// Positions in the sums of the source.
    pub sums: Vec<usize>,
}

/// The counters and histograms of a source by their labels.
pub fn layouts(source: &Source) -> Vec<Layout<'_>> {
    let mut layouts: Vec<Layout<'_>> = Vec::new();
    for metric in &source.metrics {
        let Slots { counts, sum, .. } = metric.kind.slots();
        if metric.kind.history() != History::Totals {
            continue;
        }
        let at = layouts.iter().position(|layout| layout.by == metric.labels).unwrap_or_else(|| {
            let (metrics, counts, sums) = (Vec::new(), Vec::new(), Vec::new());
            layouts.push(Layout { source, by: &metric.labels, metrics, counts, sums });
            layouts.len() - 1
        });
        layouts[at].metrics.push(metric);
        layouts[at].counts.extend(counts);
        layouts[at].sums.extend(sum);
    }
    layouts
}

impl Layout<'_> {
    /// All labels, those of the source first.
    pub fn labels(&self) -> Vec<&str> {
        self.source.labels.iter().chain(self.by).map(String::as_str).collect()
    }

    fn view<'a>(&'a self, sets: Option<Vec<&'a Labels>>) -> View<'a> {
        let mut values: Vec<_> = self.metrics.iter().filter_map(|metric| self.source.value_of(metric)).collect();
        values.sort_by(|a, b| a.column.cmp(&b.column));
        values.dedup();
        let only = self.source.only().into_iter().collect();
        View { labels: self.labels(), values, only, sets, ..View::default() }
    }

    fn measures(&self) -> String {
        let counts = self.counts.iter().map(|&i| count(self.source, &self.source.counts[i])).collect();
        let sums = self.sums.iter().map(|&i| sum(self.source, &self.source.sums[i])).collect();
        format!("{},\n  {}", array("int8", "counts", counts), array("float8", "sums", sums))
    }

    /// What happened in each step of each series, in the order of the pieces of the timeline, of the series and then of
    /// time: the labels, the step, the first step of the set, counts, sums, and the piece. Step 0 is all that happened
    /// until the beginning, or has no usable time.
    pub fn steps(&self, columns: &Columns, sets: Option<Vec<&Labels>>, timeline: &Timeline) -> String {
        let labels: Vec<String> = self.labels().iter().map(|l| ident(l)).collect();
        let set: Vec<String> = self.source.labels.iter().map(|l| ident(l)).collect();
        // The order of bytes is quick, and equal only for what is equal.
        let order: Vec<String> = labels.iter().map(|l| format!("{l} COLLATE \"C\"")).collect();
        let partition = if set.is_empty() { String::new() } else { format!("PARTITION BY {}", set.join(", ")) };
        let (labels, comma) = listed(&labels);
        let piece = timeline.piece_sql(STEP);
        let order: Vec<String> = std::iter::once(PIECE.to_owned()).chain(order).chain([STEP.to_owned()]).collect();
        format!(
            "WITH {}\nSELECT {labels}{comma}{STEP}, min(min({STEP})) OVER ({partition}) AS birth,\n  {},\n  {piece} AS {PIECE}\nFROM (\n  \
             SELECT *, {} AS {STEP}\n  FROM {NAME}\n  WHERE done AND {}\n  OFFSET 0\n) AS stepped\n\
             GROUP BY {labels}{comma}{STEP}\nORDER BY {}",
            view(self.source, columns, &self.view(sets)),
            self.measures(),
            step(timeline),
            within(timeline),
            order.join(", "),
        )
    }

    /// The totals of each series over the rows for which `counted` holds.
    pub fn totals(&self, columns: &Columns, sets: Option<Vec<&Labels>>, counted: &str) -> String {
        let labels: Vec<String> = self.labels().iter().map(|l| ident(l)).collect();
        let (list, comma) = listed(&labels);
        let group = if labels.is_empty() { String::new() } else { format!("\nGROUP BY {list}") };
        format!(
            "WITH {}\nSELECT {list}{comma}{}\nFROM {NAME}\nWHERE done AND {counted}{group}",
            view(self.source, columns, &self.view(sets)),
            self.measures(),
        )
    }
}

/// When the newest row of each step finished, in the order of time: the step, the time, and the piece of the timeline.
pub fn newest(source: &Source, columns: &Columns, timeline: &Timeline) -> String {
    format!(
        "WITH {}\nSELECT {STEP}, extract(epoch FROM max(at))::float8, {} AS {PIECE}\nFROM (\n  SELECT at, {} AS {STEP}\n  \
         FROM {NAME}\n  WHERE done AND isfinite(at) AND at <= to_timestamp({:?})\n) AS stepped\n\
         GROUP BY {STEP}\nORDER BY {STEP}",
        view(source, columns, &View::default()),
        timeline.piece_sql(STEP),
        step(timeline),
        timeline.to as f64 / 1000.0,
    )
}

fn listed(labels: &[String]) -> (String, &'static str) {
    (labels.join(", "), if labels.is_empty() { "" } else { ", " })
}

/// A row has no usable time when it has none, or one that has not come yet.
const NO_TIME: &str = "(at IS NULL OR NOT isfinite(at) OR at > transaction_timestamp())";

fn step(timeline: &Timeline) -> String {
    let (Timeline { from, step, .. }, last) = (timeline, timeline.last());
    // Whole milliseconds, or else the last bit of a fraction could move what happened on a point to the next one.
    format!(
        "CASE WHEN {NO_TIME} THEN 0 ELSE \
         least(greatest(ceil((round(extract(epoch FROM at)::float8 * 1000) - {from}) / {step}), 0), {last}) END::int8"
    )
}

fn within(timeline: &Timeline) -> String {
    format!("({NO_TIME} OR at <= to_timestamp({:?}))", timeline.to as f64 / 1000.0)
}
