//! The rows with values that were rejected: what stands behind `rsolv_exporter_rejected_values_total`.

use super::{Head, Listing, Options};
use crate::commands::CommandError;
use crate::commands::backward_scan::{BackwardScan, ScanState, time};
use crate::commands::selector::compile;
use crate::config::Settings;
use crate::postgres::{Failure, Session};
use crate::query::resolved::{InvalidSelector, REJECTED, check_expression, is_added};
use crate::query::selector::{Operator, Selector};
use crate::source::{Source, Value};
use crate::sql::view::{View, raw, reason, shown_id};
use crate::sql::{ColumnType, literal, series};

/// A selector of rejected values.
#[derive(Debug)]
pub struct Rejected<'a> {
    selector: Selector,
    sources: &'a [Source],
}

impl<'a> Rejected<'a> {
    /// What `text` asks for if it is about rejected values, else nothing.
    ///
    /// # Errors
    /// Fails if a label does not exist, or has a regular expression that PostgreSQL would take for something else.
    pub fn parse(text: &str, sources: &'a [Source]) -> Result<Option<Self>, InvalidSelector> {
        let Some(mut selector) = text.parse::<Selector>().ok().filter(|selector| selector.name == REJECTED) else {
            return Ok(None);
        };
        selector.matchers.retain(|m| !is_added(&m.label));
        for matcher in &selector.matchers {
            check_expression(matcher)?;
            if !["source", "column"].contains(&matcher.label.as_str()) {
                let label = &matcher.label;
                return Err(InvalidSelector(format!(
                    "{REJECTED} has no label \"{label}\"; its labels: source, column"
                )));
            }
        }
        Ok(Some(Self { selector, sources }))
    }

    /// Finds the rows of each source, newest first.
    ///
    /// # Errors
    /// Fails if the database does not answer, or if no source has such a column.
    pub async fn find(&self, settings: &Settings, options: &Options) -> Result<Listing, CommandError> {
        let session = settings.target.connect().await?;
        let clock = session.begin().await?.clock;
        compile(&session, self.selector.matchers.iter().filter(|m| m.is_regular())).await?;
        let since = options.since.map(|since| clock - since.as_secs_f64());
        let mut found = Vec::new();
        for source in self.sources {
            let mut values = Vec::new();
            for value in &source.values {
                if self.selects(&session, source, value).await? {
                    values.push(value);
                }
            }
            if !values.is_empty() {
                found.push((source, values));
            }
        }
        if found.is_empty() {
            return Err(CommandError::invalid_question(format!("no such series; there are\n{}", self.all())));
        }
        let mut listing = Listing { columns: head(&self.selector, &found), ..Listing::default() };
        for (source, values) in &found {
            let columns = session.describe(source).await?;
            let labels: Vec<&str> = source.all_labels().map(String::as_str).collect();
            let view = View {
                values: values.clone(),
                raw: labels.iter().copied().chain(values.iter().map(|value| value.column.as_str())).collect(),
                reasons: true,
                ..View::default()
            };
            let limit = settings.target.timeouts().statement;
            let mut scan = BackwardScan::new(&session, source, &columns, view, since, limit);
            scan.only(options.id.as_deref());
            let line = |v: &&Value| format!("({}, {}, {})", literal(&v.column), raw(&v.column), reason(v));
            let own = |head: &Head| match labels.iter().find(|label| **label == head.name) {
                Some(label) => format!(", {}", raw(label)),
                None => ", NULL".to_owned(),
            };
            let mut part = Listing { columns: listing.columns.clone(), ..Listing::default() };
            while scan.state == ScanState::Going && part.rows.len() < options.limit {
                let statement = format!(
                    "  SELECT {}, {} AS at, {}::text AS source, value.*{}, id AS \"(id)\"\n  FROM seen\n  \
                     CROSS JOIN LATERAL (VALUES {}) AS value (\"column\", value, reason)\n  \
                     WHERE value.reason IS NOT NULL{}\n  ORDER BY id DESC\n  LIMIT {}",
                    shown_id(source),
                    time("at"),
                    literal(&source.name),
                    listing.columns[FIXED.len()..].iter().map(own).collect::<String>(),
                    values.iter().map(line).collect::<Vec<_>>().join(", "),
                    scan.recent().map(|recent| format!(" AND {recent}")).unwrap_or_default(),
                    options.limit - part.rows.len(),
                );
                part.read(&mut scan, &statement, "found.\"(id)\" DESC").await?;
            }
            if options.id.is_none() {
                part.say_how_far(&scan, options.limit, "newest");
            }
            let several = found.len() > 1;
            let name = |note: String| if several { format!("{}: {note}", source.name) } else { note };
            listing.notes.extend(part.notes.into_iter().map(name));
            listing.rows.append(&mut part.rows);
        }
        session.end().await?;
        Ok(listing)
    }

    /// True if the selector picks the series of a column. PostgreSQL matches, as everywhere.
    async fn selects(&self, session: &Session, source: &Source, value: &Value) -> Result<bool, Failure> {
        let conditions = self.selector.matchers.iter().map(|m| {
            let is = if m.label == "source" { &source.name } else { &value.column };
            series::condition(&literal(is), m)
        });
        let all: Vec<String> = std::iter::once("true".to_owned()).chain(conditions).collect();
        let row = session.query_one(&format!("SELECT {}", all.join(" AND "))).await?;
        row.get(0)
    }

    /// Every series that there can be, a line each.
    fn all(&self) -> String {
        let columns = self.sources.iter().flat_map(|source| source.values.iter().map(move |value| (source, value)));
        let lines = columns
            .map(|(source, value)| format!("  {REJECTED}{{source=\"{}\",column=\"{}\"}}", source.name, value.column));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// The columns before the labels.
const FIXED: [&str; 6] = ["id", "at", "source", "column", "value", "reason"];

fn head(selector: &Selector, found: &[(&Source, Vec<&Value>)]) -> Vec<Head> {
    let equal = |name: &str| selector.matchers.iter().any(|m| m.label == name && m.operator == Operator::Equal);
    let mut head: Vec<Head> =
        FIXED.iter().map(|&name| Head { known: equal(name), ..Head::new(name, ColumnType::Text) }).collect();
    if found.iter().all(|(source, _)| source.key.is_none()) {
        head[0].kind = ColumnType::Number;
    }
    for label in found.iter().flat_map(|(source, _)| source.all_labels()) {
        // A label may be called like one of the columns before.
        if !head[FIXED.len()..].iter().any(|head| head.name == *label) {
            head.push(Head::new(label, ColumnType::Text));
        }
    }
    head
}
