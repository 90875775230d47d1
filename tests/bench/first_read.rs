//! The first read of the history, beside psql running the composed statements.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::program;
use crate::report::{Goal, Report, median};
use crate::statement::Composed;
use crate::support::database::Database;
use crate::support::exporter;
use crate::support::failure::Result;

/// No further pair begins that would end after this.
const BUDGET: Duration = Duration::from_secs(150);

/// Compares `rsolv-exporter once` with psql, in turn.
pub async fn measure(db: &Database<'_>, pairs: usize, report: &mut Report) -> Result<()> {
    let url = db.url();
    // In a transaction like the exporter's: parallel workers or compiled expressions are not what is compared.
    let statements = Composed::of(&url).await?.unlimited()?;
    // Neither is the first to touch what has just been written.
    for table in ["validation_executions", "mitigation_executions"] {
        db.value(&format!("SELECT sum(length(commit_sha)) FROM {table}")).await;
    }
    let started = Instant::now();
    let mut seconds = [vec![], vec![]];
    for pair in 0..pairs {
        if pair > 0 && started.elapsed() * (pair as u32 + 1) / pair as u32 > BUDGET {
            break;
        }
        // Who goes first changes.
        for turn in [pair % 2, 1 - pair % 2] {
            let mut command;
            if turn == 0 {
                command = Command::new(exporter::program());
                command.args(["once", "--database.url", &url, "--database.statement-timeout", "10m"]);
            } else {
                command = Command::new("psql");
                command.args(["-qX", "-v", "ON_ERROR_STOP=1", "-d", &url, "-c", &statements]);
            }
            seconds[turn].push(program::time(command).await?);
        }
    }
    let what = format!("first read, psql (×{})", seconds[0].len());
    let [ours, psql] = seconds.map(median);
    report.compare(&what, format!("{ours:.2} s"), format!("{psql:.2} s"), ours / psql, Goal::AtMost(1.2));
    Ok(())
}
