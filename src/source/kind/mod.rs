//! The kinds of metrics, one file each: its TOML, what it measures, how it is written, and its SQL.
//!
//! A new kind is a file here, which implements [`Definition`] and [`MetricKind`], and a line in the registry below.

mod column_sum;
mod histogram;
mod last_finished;
mod oldest_open;
mod open_rows;
mod row_count;

use std::fmt;
use std::ops::Deref;

pub use column_sum::ColumnSum;
pub use histogram::Histogram;
pub use last_finished::LastFinished;
pub use oldest_open::OldestOpen;
pub use open_rows::OpenRows;
pub use row_count::RowCount;

use super::metric_table::MetricTable;
use super::{Metric, Slots, Source};
use crate::exposition::{Encoder, Pairs, SeriesTotals};
use crate::ledger::Ledger;

/// Makes [`Kind`] and the registry of the kinds.
macro_rules! kinds {
    ($($kind:ident),*) => {
        /// A kind of metric.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Kind {
            $(#[doc = concat!("See [`", stringify!($kind), "`](struct@", stringify!($kind), ").")] $kind($kind)),*
        }

        $(impl From<$kind> for Kind {
            fn from(kind: $kind) -> Self {
                Self::$kind(kind)
            }
        })*

        impl Deref for Kind {
            type Target = dyn MetricKind;

            fn deref(&self) -> &Self::Target {
                match self {
                    $(Self::$kind(kind) => kind),*
                }
            }
        }

        /// Every kind; of one table, the first that claims a metric has it.
        static REGISTRY: &[Entry] = &[$(Entry::of::<$kind>()),*];
    };
}

kinds! { RowCount, ColumnSum, Histogram, OpenRows, OldestOpen, LastFinished }

/// How a kind is written in TOML.
pub trait Definition: Sized {
    /// Its table: `counter`, `histogram` or `gauge`, which also is its type to Prometheus.
    const TABLE: &'static str;
    /// What tells it from the others of its table, for people.
    const WHEN: &'static str;
    /// The keys that it has beside those of every metric.
    const KEYS: &'static [&'static str];

    /// True if this metric is of this kind, unless it is of one that stands before it in the registry.
    fn claims(table: &MetricTable<'_>) -> bool;

    /// Reads its keys and adds what it measures to the source. What is wrong is a problem of the table.
    fn parse(table: &mut MetricTable<'_>) -> Option<Self>;
}

/// What a metric measures, and how that is shown.
pub trait MetricKind: fmt::Debug {
    /// The type as Prometheus calls it.
    fn type_name(&self) -> &'static str;

    /// What is added up from rows, for counters and histograms.
    fn slots(&self) -> Slots {
        Slots::default()
    }

    /// Upper bounds of classic buckets, inclusive, rising, finite; the infinite one comes after them.
    fn bounds(&self) -> &[f64] {
        &[]
    }

    /// The names of its parts, after the metric's own name.
    fn suffixes(&self) -> &'static [(&'static str, Part)] {
        &[]
    }

    /// Writes one series of a counter or histogram.
    fn encode(&self, _encoder: &mut dyn Encoder, _labels: &Pairs<'_>, _series: &SeriesTotals<'_>) {}

    /// The series of a gauge: the values of its labels, and its own.
    fn gauge<'a>(&self, _source: &Source, _metric: &'a Metric, _ledger: &'a Ledger) -> Vec<(Vec<&'a str>, f64)> {
        Vec::new()
    }

    /// What one number over several series is.
    fn combine(&self) -> Combine {
        Combine::Sum
    }

    /// What history it has for a backfill.
    fn history(&self) -> History {
        if self.slots().is_empty() { History::None } else { History::Totals }
    }

    /// True if it is about rows that are not done.
    fn is_of_open_rows(&self) -> bool {
        false
    }

    /// Which of [`Source::since`] it needs of open rows.
    fn since(&self) -> Option<usize> {
        None
    }

    /// What its number is, where that needs saying.
    fn meaning(&self) -> Option<&'static str> {
        None
    }

    /// Conditions under which it looks at a row of the view, in SQL.
    fn conditions(&self, _names: &Names) -> Vec<String> {
        vec!["done".to_owned()]
    }

    /// Its number, or that of a part, over rows of the view for which the conditions hold, in SQL.
    fn aggregate(&self, part: Part, names: &Names) -> String;

    /// What one row gives, in SQL; none if that is always 1.
    fn row_value(&self, names: &Names) -> Option<String> {
        names.value.clone()
    }
}

/// Which numbers of a metric are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A counter, a gauge, or a histogram by its own name.
    Whole,
    /// `_bucket`
    Bucket,
    /// `_count`
    Count,
    /// `_sum`
    Sum,
}

/// How several series make one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// Their sum.
    Sum,
    /// Times: the earliest.
    Earliest,
    /// Times: the latest.
    Latest,
}

/// What is known of the past of a metric from the rows that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Nothing.
    None,
    /// Its totals, from when each row was done.
    Totals,
    /// The time of the newest row at each moment.
    LastFinished,
}

/// What the SQL of a kind is made of: expressions over a row of the view.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// The valid number of the value column; NULL where there is none.
    pub value: Option<String>,
    /// The time since which an open row has been there.
    pub since: String,
    /// ` FILTER (WHERE …)` for the rows to which the metric is restricted, or nothing.
    pub filter: String,
}

impl Names {
    /// The sum of the value column.
    pub fn sum(&self) -> String {
        format!("coalesce(sum({}){}, 0)", self.value.as_deref().unwrap_or("NULL"), self.filter)
    }
}

impl Combine {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Earliest => "earliest",
            Self::Latest => "latest",
        }
    }

    /// In which order of SQL the row comes first that gives the number; none if all rows do.
    pub fn order(self) -> Option<&'static str> {
        match self {
            Self::Sum => None,
            Self::Earliest => Some("ASC"),
            Self::Latest => Some("DESC"),
        }
    }

    /// One number of several; none for a time of no row.
    pub fn of(self, values: impl Iterator<Item = f64>) -> Option<f64> {
        match self {
            Self::Sum => Some(values.sum()),
            Self::Earliest => values.reduce(f64::min),
            Self::Latest => values.reduce(f64::max),
        }
    }
}

impl Kind {
    /// True if it tells how things are now.
    pub fn is_gauge(&self) -> bool {
        self.type_name() == "gauge"
    }
}

/// The keys of a kind in the registry.
struct Entry {
    table: &'static str,
    when: &'static str,
    keys: &'static [&'static str],
    claims: fn(&MetricTable<'_>) -> bool,
    parse: fn(&mut MetricTable<'_>) -> Option<Kind>,
}

impl Entry {
    const fn of<D: Definition + Into<Kind>>() -> Self {
        let parse = |table: &mut MetricTable<'_>| D::parse(table).map(Into::into);
        Self { table: D::TABLE, when: D::WHEN, keys: D::KEYS, claims: D::claims, parse }
    }
}

/// The tables of metrics, in the order in which they are read.
pub const TABLES: [&str; 3] = ["counter", "histogram", "gauge"];

/// Every key that some kind has, once.
pub fn keys() -> Vec<&'static str> {
    let mut keys: Vec<&str> = Vec::new();
    for key in REGISTRY.iter().flat_map(|entry| entry.keys) {
        if !keys.contains(key) {
            keys.push(key);
        }
    }
    keys
}

/// The kind of a metric, with its keys read. What is wrong is a problem of the table.
pub fn parse(table: &mut MetricTable<'_>) -> Option<Kind> {
    let own = || REGISTRY.iter().filter(|entry| entry.table == table.table);
    let strangers = keys().into_iter().filter(|key| !own().any(|entry| entry.keys.contains(key)));
    for key in strangers.collect::<Vec<_>>() {
        if table.remove(key) {
            table.problem(key, format!("is not a key of a {}", table.table));
        }
    }
    let own = || REGISTRY.iter().filter(|entry| entry.table == table.table);
    let Some(entry) = own().find(|entry| (entry.claims)(table)) else {
        let all: Vec<_> = own().map(|entry| entry.when).collect();
        table.problem("of", format!("must be one of: {}", all.join("; ")));
        return None;
    };
    let kind = (entry.parse)(table);
    for other in REGISTRY.iter().filter(|other| other.table == entry.table) {
        for key in other.keys.iter().filter(|key| !entry.keys.contains(key)) {
            if table.remove(key) {
                table.problem(key, format!("is a key of a {} with {}", other.table, other.when));
            }
        }
    }
    kind
}
