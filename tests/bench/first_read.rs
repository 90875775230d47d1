//! The first read of the history, beside psql running the composed statements.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::report::{Report, installed, median, short};
use crate::support::database::Database;
use crate::support::exporter;
use crate::support::failure::{Failure, Result};

/// Runs a command to its end, returns how long it took in seconds.
fn timed(mut command: Command) -> Result<f64> {
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let output = command.output().map_err(|e| Failure::new(format!("{command:?}: {e}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))));
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Compares `rsolv-exporter once` with psql, in turn.
pub async fn measure(db: &Database<'_>, rows: u64, pairs: usize, report: &mut Report) -> Result<()> {
    if !installed("psql") {
        return Ok(());
    }
    let url = db.url();
    let sql = exporter::run(&["sql", "--database.url", &url]).await;
    // psql in transactions like the exporter's: parallel workers or compiled expressions are not what is compared.
    let settings = "SET jit = off; SET enable_sort = off; SET max_parallel_workers_per_gather = 0;\n";
    let statements = format!("{settings}{}", String::from_utf8_lossy(&sql.stdout));
    let mut seconds = [vec![], vec![]];
    for _ in 0..=pairs {
        let mut once = Command::new(exporter::program());
        once.args(["once", "--database.url", &url, "--database.statement-timeout", "10m"]);
        let mut psql = Command::new("psql");
        psql.args(["-qX", "-v", "ON_ERROR_STOP=1", "-d", &url, "-c", &statements]);
        seconds[0].push(timed(once)?);
        seconds[1].push(timed(psql)?);
    }
    // The first of each warmed the cache.
    let [ours, psql] = seconds.map(|mut s| median(s.split_off(1)));
    let what = format!("first read of {} + {}", short(rows), short(rows / 2));
    report.line(what, format!("{ours:.2} s"), &format!("psql {psql:.2} s"), Some(ours / psql));
    Ok(())
}
