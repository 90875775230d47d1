//! What the newest rows of a source with a key of its own hold.

use super::{Line, Report, SAMPLE, plan, sample, warn};
use crate::config::Settings;
use crate::ledger::ApplyError;
use crate::ledger::frontier::{Range, ReadPlan};
use crate::ledger::key_window::Key as Values;
use crate::poll::failing;
use crate::postgres::keyed::{latest, read_keys};
use crate::postgres::{Failure, Reason, Session};
use crate::source::Source;
use crate::source::key::Key;
use crate::sql::{Columns, keyed};

/// Reads the newest rows as a poll does; inside a transaction.
pub async fn check(
    report: &mut Report,
    settings: &Settings,
    session: &Session,
    (source, key, columns): (&Source, &Key, &Columns),
    line: &mut Line,
) -> Result<Vec<String>, Failure> {
    let newest = keyed::latest(source, key, columns, SAMPLE);
    let found = latest(session, source, key, columns, &newest).await?;
    if found.is_empty() {
        line.rows_estimated = Some(0);
        report.warnings.push(format!("{}.sql: there are no rows yet", source.name));
    }
    let keys: Vec<&Values> = found.iter().map(|place| &place.key).collect();
    let keys = &keys;
    session.batch("SAVEPOINT source").await?;
    let some = |numbers: Vec<Range>| async move {
        let some: Vec<&Values> = numbers.iter().map(|number| keys[number.0 as usize - 1]).collect();
        let mut groups = read_keys(session, source, key, columns, &some).await?;
        for id in groups.iter_mut().flat_map(|group| &mut group.ids) {
            *id = numbers.get(*id as usize - 1).map_or(0, |number| number.0);
        }
        Ok(groups)
    };
    let numbers: Vec<Range> = (1..=keys.len() as i64).map(|number| (number, number, None)).collect();
    let part = failing::read_numbers(session, &numbers, some).await?;
    if let Some(failure) = part.failure {
        return Ok(vec![format!(
            "{failure}: rows on which the SELECT raises are left out, of the newest {}\n\
             -> correct the SELECT, so that it gives NULL for them, or correct the rows",
            part.failing.len()
        )]);
    }
    let mut ids: Vec<i64> = part.rows.iter().flat_map(|group| group.ids.iter().copied()).collect();
    ids.sort_unstable();
    let wrong = |error: ApplyError| Failure::new(Reason::Duplicate, format!("{}.sql: {error}", source.name));
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(wrong(ApplyError::DuplicateKey));
    }
    if ids.len() != keys.len() {
        return Err(wrong(ApplyError::Unfindable));
    }
    let read = ReadPlan::above(Some(0), SAMPLE as usize);
    let mut sample = sample::of_groups(source, &read, part.rows, settings.series.limit)?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let place: Vec<String> =
        key.place().map(|column| format!("execution.{} DESC", crate::sql::ident(column))).collect();
    let which = format!("ORDER BY {} LIMIT {SAMPLE}", place.join(", "));
    sample.rejected = sample::rejected(session, source, columns, which).await?;
    let plan = plan::plan(session, &keyed::poll_of(source, key, columns, &newest)).await?;
    warn(report, source, &plan, &sample);
    line.plan = Some(plan);
    line.sample = Some(sample);
    Ok(Vec::new())
}
