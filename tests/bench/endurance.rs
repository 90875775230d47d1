//! Memory over very many polls.

use std::time::{Duration, Instant};

use crate::report::{Goal, Report, short};
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::exporter::Exporter;
use crate::support::failure::{Failure, Result};
use crate::tables;

/// How often memory is looked at.
const LOOKS: u64 = 10;
/// Repositories with rows from the start: about 2,000 series.
const REPOSITORIES: u64 = 46;

/// Resident memory in megabytes.
fn resident(exporter: &Exporter) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", exporter.pid()))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok());
    line.map(|kilobytes| kilobytes / 1024.0).ok_or_else(|| Failure::new("no VmRSS of the exporter"))
}

/// Polls as fast as it goes while rows begin and end and ids are skipped.
pub async fn measure(cluster: &Cluster, polls: u64, report: &mut Report) -> Result<()> {
    report.section(format!("Resident memory over {} polls, {REPOSITORIES} repositories", short(polls)));
    let db = Database::on(cluster).await;
    tables::fill(&db, REPOSITORIES * 4, REPOSITORIES).await;
    let scratch = crate::support::scratch::Scratch::new("bench", &std::env::temp_dir(), None)?;
    let state = scratch.path().join("state").display().to_string();
    // Skipped ids are looked for as many polls as at the default settings, about.
    let flags = ["--poll.interval", "1ms", "--state.file", &state, "--poll.gap-watch", "1m"];
    let exporter = Exporter::start(&db.url(), &flags).await;
    let done = |metrics: &crate::support::metrics::Metrics| metrics.sum("rsolv_exporter_polls_total", &[]);
    let mut memory: Vec<f64> = Vec::new();
    let (mut progress, mut seen) = (Instant::now(), 0.0);
    let (mut turn, mut open) = (0, "0".to_owned());
    let mut trickle = tokio::time::interval(Duration::from_millis(50));
    while (memory.len() as u64) < LOOKS {
        trickle.tick().await;
        // One begins, the one before ends, and about once a second an id is skipped.
        turn += 1;
        if turn % 20 == 0 {
            db.value("SELECT nextval('validation_executions_id_seq')").await;
        }
        db.batch(&format!(
            "UPDATE validation_executions SET status = 'completed' WHERE id = {open}; {};
             UPDATE validation_executions SET status = 'running' WHERE id = lastval()",
            tables::insert_validations(1, REPOSITORIES)
        ))
        .await;
        open = db.value("SELECT lastval()").await;
        let metrics = exporter.metrics().await;
        let now = done(&metrics);
        if now > seen {
            (progress, seen) = (Instant::now(), now);
        } else if progress.elapsed() > Duration::from_secs(30) {
            return Err(Failure::new(format!("no poll in half a minute\n{}", exporter.log())));
        }
        while (memory.len() as u64) < LOOKS && now >= (polls * (memory.len() as u64 + 1) / LOOKS) as f64 {
            let (resident, first) = (resident(&exporter)?, memory.first().copied());
            memory.push(resident);
            let what = format!("after {now:.0} polls, the first look");
            let first = first.unwrap_or(resident);
            let goal = if memory.len() as u64 == LOOKS { Goal::AtMost(1.1) } else { Goal::None };
            report.compare(&what, format!("{resident:.1} MB"), format!("{first:.1} MB"), resident / first, goal);
        }
    }
    let failed = exporter.metrics().await.sum("rsolv_exporter_poll_failures_total", &[]);
    report.line("polls that failed", format!("{failed:.0}"), "", None);
    Ok(())
}
