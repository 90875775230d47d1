//! The statement that gives the number of a metric, and the conditions under which a row stands behind it.

use super::view::{self, View, view};
use super::{Columns, ident, literal};
use crate::ledger::Labels;
use crate::query::resolved::ResolvedSelector;
use crate::query::selector::{Matcher, Operator};
use crate::source::Part;
use crate::source::kind::Names;

/// The spelling of a bucket and, to put buckets in order, its bound.
const BUCKET: [&str; 2] = ["bucket.le", "bucket.\"(bound)\""];

/// A condition on text, with regular expressions anchored at both ends as Prometheus does.
pub fn condition(text: &str, matcher: &Matcher) -> String {
    match matcher.operator {
        Operator::Equal => format!("{text} = {}", literal(&matcher.value)),
        Operator::NotEqual => format!("{text} <> {}", literal(&matcher.value)),
        Operator::Matches => format!("{text} ~ {}", anchored(&matcher.value)),
        Operator::MatchesNot => format!("{text} !~ {}", anchored(&matcher.value)),
    }
}

/// PostgreSQL takes options such as `(?i)` only at the very beginning.
fn anchored(expression: &str) -> String {
    let options = expression.strip_prefix("(?i)").map(|rest| ("(?i)", rest));
    let (options, rest) = options.unwrap_or(("", expression));
    literal(&format!("{options}^(?:{rest})$"))
}

/// The view in which a question can be answered.
pub fn view_of<'a>(question: &'a ResolvedSelector, sets: Option<Vec<&'a Labels>>) -> View<'a> {
    let labels = question.labels();
    let short = labels.iter().copied().filter(|l| question.pinned(l).is_some_and(view::is_short)).collect();
    let values = question.value().into_iter().collect();
    View {
        labels,
        short,
        values,
        only: question.only().into_iter().collect(),
        since: question.since(),
        sets,
        ..View::default()
    }
}

/// One statement whose last row has the number in its last column: of the one series, or the sum over all that match
/// (for gauges that are times: the latest, or the earliest, of them). With several series, the rows before are the series.
///
/// `counted` is a further condition on the view, for a ledger's part of the rows.
pub fn number(
    question: &ResolvedSelector,
    columns: &Columns,
    sets: Option<Vec<&Labels>>,
    counted: Option<&str>,
) -> String {
    let with = view(question.source, columns, &view_of(question, sets));
    let mut conditions = row_state(question);
    conditions.extend(question.matchers.iter().map(|m| condition(&ident(&m.label), m)));
    conditions.extend(counted.map(str::to_owned));
    let mut series: Vec<String> = question.labels().iter().map(|l| ident(l)).collect();
    let mut from = view::NAME.to_owned();
    let mut single = question.is_pinned();
    let only = question.only().map(view::only);
    let filter = |conditions: &[String]| match conditions {
        [] => String::new(),
        all => format!(" FILTER (WHERE {})", all.join(" AND ")),
    };
    let restricted: Vec<String> = only.into_iter().collect();
    let with_bound = |bound: &str| [restricted.clone(), vec![bound.to_owned()]].concat();
    let mut order = Vec::new();
    let valid = question.value().map(view::value).unwrap_or_default();
    let names = names(question);
    let mut list = Vec::new();
    let has_buckets = !question.metric.kind.bounds().is_empty();
    let value = match question.part {
        Part::Bucket => {
            let mut bounds = bounds(question);
            if bounds.is_empty() {
                conditions.push("false".to_owned());
                bounds = question.bounds();
            }
            if let ([(_, bound)], None) = (bounds.as_slice(), regular(question).next()) {
                format!("count(*){}", filter(&with_bound(&within(&valid, *bound))))
            } else {
                let rows: Vec<_> = bounds.iter().map(|(le, b)| format!("({}, {})", literal(le), sql(*b))).collect();
                from.push_str(&format!(
                    "\nCROSS JOIN (VALUES\n  {}\n) AS bucket (le, \"(bound)\")",
                    rows.join(",\n  ")
                ));
                conditions.extend(regular(question).map(|m| condition("bucket.le", m)));
                series.extend(BUCKET.map(str::to_owned));
                single = false;
                format!("count(*){}", filter(&with_bound(&format!("{valid} <= bucket.\"(bound)\""))))
            }
        }
        Part::Whole if has_buckets && question.le.is_empty() => {
            for (le, bound) in question.bounds() {
                let count = filter(&with_bound(&within(&valid, bound)));
                list.push(format!("count(*){count} AS {}", ident(&format!("le {le}"))));
            }
            list.push(format!("{} AS sum", question.metric.kind.aggregate(Part::Sum, &names)));
            question.metric.kind.aggregate(Part::Count, &names)
        }
        Part::Whole if has_buckets => {
            from.push_str(&format!(
                "\nCROSS JOIN LATERAL (SELECT {} AS le, {} AS \"(bound)\") AS bucket",
                own(question, |(le, _)| literal(le)),
                own(question, |(_, b)| sql(*b))
            ));
            conditions.push(format!("{valid} IS NOT NULL"));
            conditions.extend(restricted);
            conditions.extend(question.le.iter().map(|m| condition("bucket.le", m)));
            single = single && question.le.iter().any(|m| m.operator == Operator::Equal);
            if !single {
                series.extend(BUCKET.map(str::to_owned));
            }
            "count(*)".to_owned()
        }
        part => question.metric.kind.aggregate(part, &names),
    };
    let mut group = String::new();
    if !single {
        let keys = series.join(", ");
        // A label can be called like something that is shown.
        let seen = |s: &String| if BUCKET.contains(&s.as_str()) { s.clone() } else { format!("{}.{s}", view::NAME) };
        order.push(format!("grouping({})", series[0]));
        // The bound is there to put the buckets in order, and is not shown.
        order.extend(series.iter().filter(|s| *s != BUCKET[0]).map(seen));
        group = format!("\nGROUP BY ROLLUP (({keys}))\nORDER BY {}", order.join(", "));
    }
    let shown = series.iter().filter(|s| *s != BUCKET[1] && !single).cloned();
    let list: Vec<String> = shown.chain(list).chain([format!("{value} AS value")]).collect();
    format!("WITH {with}\nSELECT\n  {}\nFROM {from}\nWHERE {}{group}", list.join(",\n  "), conditions.join("\n  AND "))
}

/// Whether a row is in a state in which the metric looks at it.
pub fn row_state(question: &ResolvedSelector) -> Vec<String> {
    question.metric.kind.conditions(&names(question))
}

/// What the SQL of the metric is made of.
fn names(question: &ResolvedSelector) -> Names {
    Names {
        value: question.value().map(view::value),
        since: question.since().map(view::since).unwrap_or_default(),
        filter: question.only().map(|only| format!(" FILTER (WHERE {})", view::only(only))).unwrap_or_default(),
    }
}

/// All that makes a row of the view stand behind the series asked for.
///
/// Of `_bucket`, `le` with `=` or `=~` means rows that the bucket counts, with `!=` or `!~` rows that it does not count.
/// Of a histogram by its own name, `le` is the smallest bound that is not below the value.
pub fn behind(question: &ResolvedSelector) -> Vec<String> {
    let mut conditions = row_state(question);
    conditions.extend(question.matchers.iter().map(|m| condition(&ident(&m.label), m)));
    conditions.extend(question.only().map(view::only));
    let Some(valid) = question.value().map(view::value) else { return conditions };
    conditions.push(format!("{valid} IS NOT NULL"));
    for matcher in &question.le {
        conditions.push(match (question.part, matcher.operator) {
            (Part::Bucket, Operator::Equal | Operator::NotEqual) => {
                let bound = question.bounds().into_iter().find(|(le, _)| *le == matcher.value);
                let inside = within(&valid, bound.map_or(f64::INFINITY, |(_, bound)| bound));
                if matcher.operator == Operator::Equal { inside } else { format!("NOT ({inside})") }
            }
            (Part::Bucket, operator) => {
                let rows: Vec<_> =
                    question.bounds().iter().map(|(le, b)| format!("({}, {})", literal(le), sql(*b))).collect();
                let positive = Matcher { operator: Operator::Matches, ..matcher.clone() };
                let inside = format!(
                    "EXISTS (SELECT FROM (VALUES {}) AS bucket (le, \"(bound)\") WHERE {} AND {valid} <= bucket.\"(bound)\")",
                    rows.join(", "),
                    condition("bucket.le", &positive)
                );
                if operator == Operator::Matches { inside } else { format!("NOT {inside}") }
            }
            _ => condition(&format!("({})", own(question, |(le, _)| literal(le))), matcher),
        });
    }
    conditions
}

/// What a row adds to the number, or is measured with; `None` where each row adds 1.
pub fn row_value(question: &ResolvedSelector) -> Option<String> {
    question.metric.kind.row_value(&names(question))
}

/// The buckets that conditions with `=` and `!=` leave.
fn bounds(question: &ResolvedSelector) -> Vec<(String, f64)> {
    let fits = |le: &str| {
        question.le.iter().all(|m| match m.operator {
            Operator::Equal => m.value == le,
            Operator::NotEqual => m.value != le,
            _ => true,
        })
    };
    question.bounds().into_iter().filter(|(le, _)| fits(le)).collect()
}

fn regular<'a>(question: &'a ResolvedSelector) -> impl Iterator<Item = &'a Matcher> {
    question.le.iter().filter(|m| m.is_regular())
}

/// That a value is counted in the bucket of a bound. Inclusive, as Prometheus defines `le`.
fn within(valid: &str, bound: f64) -> String {
    if bound.is_infinite() { format!("{valid} IS NOT NULL") } else { format!("{valid} <= {bound}") }
}

/// Something about the bucket into which a value falls.
fn own(question: &ResolvedSelector, show: impl Fn(&(String, f64)) -> String) -> String {
    let valid = question.value().map(view::value).unwrap_or_default();
    let bounds = question.bounds();
    let branch = |b: &(String, f64)| match b.1.is_infinite() {
        true => format!("ELSE {} END", show(b)),
        false => format!("WHEN {valid} <= {} THEN {}", b.1, show(b)),
    };
    format!("CASE {}", bounds.iter().map(branch).collect::<Vec<_>>().join(" "))
}

fn sql(bound: f64) -> String {
    if bound.is_infinite() { "'Infinity'::float8".to_owned() } else { format!("{bound}::float8") }
}
