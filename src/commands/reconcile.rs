//! Rows that were counted and are no longer in the table: what a ledger has, less what the table gives.

use std::collections::BTreeMap;

use crate::config::Settings;
use crate::ledger::decimal::Decimal;
use crate::ledger::{Labels, Ledger, OVERFLOW};
use crate::postgres::is_other;
use crate::postgres::{Failure, Parameter, Reason, Session, Type};
use crate::query::resolved::ResolvedSelector;
use crate::source::{Part, Source};
use crate::sql::{self, Columns, series};
use crate::state::{self, Resumed};

/// The ledgers that the state file has, to look at.
#[derive(Debug, Default)]
pub struct Ledgers {
    identity: Option<String>,
    by_source: BTreeMap<String, Ledger>,
}

impl Ledgers {
    /// Reads the state file, if one is set. What cannot be used is said in the log.
    pub fn load(settings: &Settings, sources: &[Source]) -> Self {
        let Some(path) = &settings.state_file else { return Self::default() };
        let mut state = match state::load(path) {
            Ok(state) => state,
            Err(e) => {
                tracing::warn!(path = %path.display(), "the state {e}; rows that are gone are not known");
                return Self::default();
            }
        };
        let mut by_source = BTreeMap::new();
        for source in sources {
            let saved = state.sources.remove(&source.name);
            match saved.map(|saved| saved.resume(source, source.shape(settings.series.limit))) {
                Some(Resumed::Whole(ledger)) => _ = by_source.insert(source.name.clone(), ledger),
                Some(_) => tracing::warn!(
                    source = source.name,
                    "the state has it with another definition; rows that are gone are not known"
                ),
                None => {}
            }
        }
        Self { identity: state.identity, by_source }
    }

    /// The ledger of a source, unless it is of another database; inside a transaction.
    ///
    /// # Errors
    /// Fails if the database does not answer.
    pub async fn of(&self, session: &Session, source: &Source) -> Result<Option<&Ledger>, Failure> {
        let Some(ledger) = self.by_source.get(&source.name) else { return Ok(None) };
        if source.key.is_some() {
            tracing::warn!(
                source = source.name,
                "the state has no list of the keys that were counted: rows that are gone are not known"
            );
            return Ok(None);
        }
        let now = session.identity().await?;
        if self.identity.as_ref().is_some_and(|was| is_other(was, &now)) {
            tracing::warn!(
                was = self.identity,
                now,
                "the state is of another database; rows that are gone are not known"
            );
            return Ok(None);
        }
        Ok(Some(ledger))
    }
}

/// The number that a question asks for, twice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// As the ledger has it.
    pub counted: f64,
    /// From the rows that the ledger has counted and that are still there.
    pub there: f64,
    /// True if the question is about rows that the ledger has counted as [`OVERFLOW`], or can be.
    overflow: bool,
}

impl Comparison {
    /// By how much the ledger has more, if it does. Sums of fractions differ by their rounding, which does not count.
    pub fn difference(&self) -> Option<f64> {
        let difference = self.counted - self.there;
        (difference.abs() > 1e-9 * self.counted.abs().max(self.there.abs())).then_some(difference)
    }

    /// Which rows make the difference.
    pub fn cause(&self) -> &'static str {
        match (self.overflow, self.counted < self.there) {
            (false, true) => "rows that were changed after they were counted",
            (false, false) => "rows that were deleted or changed after they were counted",
            (true, false) => {
                "rows that were deleted or changed after they were counted, or whose labels got series of their own \
                 when series.limit was raised"
            }
            (true, true) => {
                "rows that were counted under __overflow__ before series.limit was raised, or changed after they were \
                 counted"
            }
        }
    }
}

/// The sets that a ledger has, when it counts rows of others as [`OVERFLOW`].
pub fn sets(ledger: Option<&Ledger>) -> Option<Vec<&Labels>> {
    let ledger = ledger.filter(|ledger| ledger.overflowed() > 0)?;
    Some(ledger.sets().keys().filter(|set| set.iter().any(|label| label != OVERFLOW)).collect())
}

/// The condition that the ledger has counted the row with an `id` if it is done: not above its largest id, in no gap and
/// not open when it was last seen.
pub fn counted(ledger: &Ledger) -> String {
    let Some(high) = ledger.frontier().high() else { return "false".to_owned() };
    let ranges = ledger.frontier().uncounted();
    // An id is in one of the ranges when an odd number of these bounds is not above it: a binary search.
    let bounds = ranges.iter().flat_map(|(lo, hi)| [Some(*lo), hi.checked_add(1)]).flatten();
    let bounds: Vec<String> = bounds.map(|id| id.to_string()).collect();
    match bounds.as_slice() {
        [] => format!("id <= {high}"),
        _ => format!("id <= {high} AND width_bucket(id, '{{{}}}'::int8[]) % 2 = 0", bounds.join(",")),
    }
}

/// The condition that an open row is in the gauges of open rows: none that was counted before and is open again. Without a
/// ledger, which tells, or for other metrics, there is none.
pub fn never_counted(question: &ResolvedSelector<'_>, ledger: Option<&Ledger>) -> Option<String> {
    let ledger = ledger.filter(|_| question.metric.kind.is_of_open_rows())?;
    Some(format!("NOT ({})", counted(ledger)))
}

/// Asks a ledger and the table the same; `None` for gauges of what is open, which counts nothing. Inside a transaction.
///
/// # Errors
/// Fails if the database does not answer.
pub async fn compare(
    session: &Session,
    question: &ResolvedSelector<'_>,
    columns: &Columns,
    ledger: &Ledger,
) -> Result<Option<Comparison>, Failure> {
    if question.metric.kind.is_of_open_rows() {
        return Ok(None);
    }
    let statement = sql::series::number(question, columns, sets(Some(ledger)), Some(&counted(ledger)));
    let rows = session.text(&statement).await?;
    let last = rows.last().and_then(|row| row.get(row.len() - 1)).unwrap_or("0");
    let broken = |_| Failure::new(Reason::Decode, "the sum over the rows of the table is no number");
    let there = last.parse().map_err(broken)?;
    let counted = of_ledger(session, question, ledger).await?;
    // Labels with a set of their own lack what was folded before; what has more than its rows is the overflow set.
    let about = || counted < there || question.matchers.iter().any(|m| m.value.contains(OVERFLOW));
    Ok(Some(Comparison { counted, there, overflow: ledger.overflowed() > 0 && about() }))
}

/// PostgreSQL applies the conditions, so that regular expressions mean the same as for rows.
async fn of_ledger(session: &Session, question: &ResolvedSelector<'_>, ledger: &Ledger) -> Result<f64, Failure> {
    let kind = &question.metric.kind;
    if kind.is_gauge() {
        let values = kind.gauge(question.source, question.metric, ledger).into_iter().map(|(_, value)| value);
        return Ok(kind.combine().of(values).unwrap_or_default());
    }
    let names = question.labels();
    let mut labels: Vec<Vec<&str>> = vec![Vec::new(); names.len() + 1];
    let mut values: Vec<f64> = Vec::new();
    let bounds = question.bounds();
    for (set, totals) in ledger.sets() {
        for (by, cell) in &totals.cells {
            for (le, value) in samples(question, &bounds, &cell.counts, &cell.sums) {
                for (name, column) in names.iter().zip(&mut labels) {
                    column.push(label(question, name, set, by));
                }
                labels[names.len()].push(le);
                values.push(value);
            }
        }
    }
    let columns: Vec<String> = names.iter().map(|name| sql::ident(name)).collect();
    let places: Vec<String> = (1..=labels.len()).map(|i| format!("${i}::text[]")).collect();
    let mut conditions = vec!["true".to_owned()];
    conditions.extend(question.matchers.iter().map(|m| series::condition(&sql::ident(&m.label), m)));
    conditions.extend(question.le.iter().map(|m| series::condition("le", m)));
    let statement = format!(
        "SELECT coalesce(sum(\"(value)\"), 0)::float8 FROM unnest({}, ${}::float8[]) AS series ({}) WHERE {}",
        places.join(", "),
        labels.len() + 1,
        columns.iter().map(String::as_str).chain(["le", "\"(value)\""]).collect::<Vec<_>>().join(", "),
        conditions.join(" AND "),
    );
    let mut parameters: Vec<Parameter<'_>> = Vec::new();
    labels.iter().for_each(|column| parameters.push((column, Type::TEXT_ARRAY)));
    parameters.push((&values, Type::FLOAT8_ARRAY));
    let rows = session.rows(&statement, &parameters).await?;
    rows.first().map_or(Ok(0.0), |row| row.get(0))
}

fn label<'a>(question: &ResolvedSelector, name: &str, set: &'a Labels, by: &'a Labels) -> &'a str {
    let own = question.source.labels.iter().position(|l| l == name).map(|i| set[i].as_str());
    own.or_else(|| question.source.by.iter().position(|l| l == name).map(|i| by[i].as_str())).unwrap_or_default()
}

/// What the measures of a cell say about the part of the metric that is asked for, by bucket.
fn samples<'a>(
    question: &ResolvedSelector,
    bounds: &'a [(String, f64)],
    counts: &[u64],
    sums: &[Decimal],
) -> Vec<(&'a str, f64)> {
    let slots = question.metric.kind.slots();
    let counts = &counts[slots.counts];
    let below = |i: usize| if i == 0 { 0 } else { counts[i - 1] };
    match (question.part, slots.sum) {
        (Part::Sum, Some(sum)) => vec![("", sums[sum].to_f64())],
        (_, Some(sum)) if counts.is_empty() => vec![("", sums[sum].to_f64())],
        (Part::Bucket, _) => bounds.iter().zip(counts).map(|((le, _), n)| (le.as_str(), *n as f64)).collect(),
        (Part::Whole, _) if !question.le.is_empty() => {
            let own = |i: usize| (bounds[i].0.as_str(), counts[i].saturating_sub(below(i)) as f64);
            (0..bounds.len()).map(own).collect()
        }
        _ => vec![("", counts.last().copied().unwrap_or_default() as f64)],
    }
}
