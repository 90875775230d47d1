//! The command `sql`: the statements that the numbers come from.

use std::fmt::Write;

use crate::config::Settings;
use crate::db::Failure;
use crate::ledger::Probe;
use crate::source::Source;
use crate::sql;

/// The statement of each source as a first poll would run it, without a limit.
pub async fn statements(settings: &Settings, sources: &[Source]) -> Result<String, Failure> {
    let session = settings.target.connect().await?;
    session.begin().await?;
    let mut text = String::new();
    for source in sources {
        let columns = session.describe(source).await?;
        let probe = Probe { limit: i64::MAX as usize, ..Probe::default() };
        let _ = writeln!(text, "-- {}\n{};\n", source.name, sql::poll_filled_in(source, &columns, &probe));
    }
    session.end().await?;
    Ok(text)
}
