//! What there is where no row was found: the values that the labels asked for really have.

use crate::commands::text_table::visible;
use crate::ledger::Labels;
use crate::postgres::{Failure, Session};
use crate::query::resolved::ResolvedSelector;
use crate::query::selector::Operator;
use crate::sql::series::{row_state, view_of};
use crate::sql::view::view;
use crate::sql::{Columns, ident, literal};

/// So many of the newest rows are looked at.
const ROWS: i64 = 10_000;
/// So many values of a label are named.
const MOST: usize = 8;

/// A line for each label that the selector has; nothing if the database does not answer in time.
pub async fn values(
    session: &Session,
    question: &ResolvedSelector<'_>,
    columns: &Columns,
    sets: Option<Vec<&Labels>>,
) -> Vec<String> {
    match read(session, question, columns, sets).await {
        Ok(values) => describe(question, values),
        Err(_) => Vec::new(),
    }
}

/// The values in the newest rows, by label, the most frequent first.
async fn read(
    session: &Session,
    question: &ResolvedSelector<'_>,
    columns: &Columns,
    sets: Option<Vec<&Labels>>,
) -> Result<Vec<(String, String)>, Failure> {
    let mut shown = view_of(question, sets);
    shown.short.clear();
    shown.which = format!("ORDER BY execution.id DESC LIMIT {ROWS}");
    let mut labels: Vec<&str> = question.matchers.iter().map(|m| m.label.as_str()).collect();
    labels.dedup();
    if labels.is_empty() {
        return Ok(Vec::new());
    }
    let pairs: Vec<String> = labels.iter().map(|label| format!("({}, {})", literal(label), ident(label))).collect();
    let statement = format!(
        "WITH {}\nSELECT label.name, label.value FROM seen CROSS JOIN LATERAL (VALUES {}) AS label (name, value)\n\
         WHERE {}\nGROUP BY 1, 2 ORDER BY count(*) DESC, 2",
        view(question.source, columns, &shown),
        pairs.join(", "),
        row_state(question).join(" AND "),
    );
    let rows = session.rows(&statement, &[]).await?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

fn describe(question: &ResolvedSelector, found: Vec<(String, String)>) -> Vec<String> {
    let mut lines = Vec::new();
    for label in question.labels() {
        let matchers: Vec<_> = question.matchers.iter().filter(|m| m.label == label).collect();
        let mut values: Vec<&String> = found.iter().filter(|(name, _)| name == label).map(|(_, value)| value).collect();
        if matchers.is_empty() {
            continue;
        }
        if values.is_empty() {
            return vec!["there are no rows at all yet that this metric is about".to_owned()];
        }
        if let Some(asked) = matchers.iter().find(|m| m.operator == Operator::Equal) {
            // What looks like the value that was asked for, first.
            let distance =
                |value: &str| strsim::damerau_levenshtein(&value.to_lowercase(), &asked.value.to_lowercase());
            values.sort_by_cached_key(|value| (distance(value), (*value).clone()));
        }
        let named: Vec<String> = values.iter().take(MOST).map(|value| format!("\"{}\"", visible(value))).collect();
        let more = if values.len() > MOST { format!(" and {} more", values.len() - MOST) } else { String::new() };
        lines.push(format!("{label} is {}{more} in the newest {ROWS} rows", named.join(", ")));
    }
    lines
}
