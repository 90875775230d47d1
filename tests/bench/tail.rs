//! Polls that find ever more new rows, and rows that come at 10,000 a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::cost;
use crate::program::{self, LIMIT};
use crate::report::{Goal, Report, median, ms, short};
use crate::support::database::Database;
use crate::support::exporter::Exporter;
use crate::support::failure::{Failure, Result};
use crate::support::metrics::Metrics;
use crate::support::process;
use crate::tables;

/// New rows of a poll; the last is 10,000 a second at the default interval.
const TAILS: [u64; 4] = [100, 1_000, 10_000, 150_000];
/// How often each is measured.
const RUNS: usize = 5;
/// Rows a second, and how many writers share them in how many steps.
const PACE: u64 = 10_000;
const WRITERS: u64 = 2;
const STEPS: u64 = 10;

fn counted(metrics: &Metrics) -> f64 {
    metrics.sum("rsolv_validation_executions_total", &[])
}

/// Scrapes until so many have been counted.
async fn wait_counted(exporter: &Exporter, goal: f64) -> Result<Metrics> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let metrics = exporter.metrics().await;
        if counted(&metrics) >= goal {
            return Ok(metrics);
        }
        if Instant::now() > deadline {
            let text = format!("{} instead of {goal} counted\n{}", counted(&metrics), exporter.log());
            return Err(Failure::new(text));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn start(db: &Database<'_>, interval: &str) -> Result<Exporter> {
    let flags = ["--poll.interval", interval, "--series.birth-hold", "0s"];
    let exporter = Exporter::start(&cost::url(db, "ours"), &flags).await;
    program::ready(&exporter).await?;
    Ok(exporter)
}

/// What polls of the real exporter cost the database, by how much they find.
pub async fn measure(db: &Database<'_>, repositories: u64, report: &mut Report) -> Result<()> {
    let watcher = db.client().await;
    let exporter = start(db, "1s").await?;
    let mut runs: [[Vec<f64>; 2]; 4] = Default::default();
    for _ in 0..RUNS {
        for (tail, runs) in TAILS.into_iter().zip(&mut runs) {
            let goal = counted(&exporter.wait_polls(1).await) + tail as f64;
            // Polls while the rows are being written would find them in the index, and not committed.
            process::pause(exporter.pid());
            let before = cost::of(&watcher, "ours").await?;
            tables::validations(db, tail, repositories).await;
            process::signal(exporter.pid(), libc::SIGCONT);
            wait_counted(&exporter, goal).await?;
            let cost = cost::of(&watcher, "ours").await?.since(before);
            runs[0].push(cost.time());
            runs[1].push(cost.buffers);
        }
    }
    let [times, buffers] = [0, 1].map(|i| runs.each_ref().map(|run| median(run[i].clone())));
    // Against as many polls of 1,000 rows as would find the same.
    let reference = 1;
    for (i, tail) in TAILS.into_iter().enumerate() {
        let share = tail as f64 / TAILS[reference] as f64;
        let goal = if i > reference { Goal::AtMost(1.2) } else { Goal::None };
        let what = format!("poll, {} new rows", short(tail));
        let other = times[reference] * share;
        report.compare(&what, ms(times[i]), ms(other), times[i] / other, goal);
        let other = buffers[reference] * share;
        report.compare("… buffers", format!("{:.0}", buffers[i]), format!("{other:.0}"), buffers[i] / other, goal);
    }
    report.note("New rows: “other” is what polls of 1,000 new rows cost for as many rows, read at the same pace.");
    Ok(())
}

/// Writes rows at the pace until told to stop; returns how many.
async fn write(
    db: tokio_postgres::Client,
    repositories: u64,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
) -> Result<()> {
    let rows = PACE / WRITERS / STEPS;
    let statement = tables::insert_validations(rows, repositories);
    let mut step = tokio::time::interval(Duration::from_secs(1) / STEPS as u32);
    while !stop.load(Ordering::Relaxed) {
        step.tick().await;
        db.batch_execute(&statement).await?;
        written.fetch_add(rows, Ordering::Relaxed);
    }
    Ok(())
}

/// Whether polls at the default interval keep up with 10,000 rows a second.
pub async fn flood(db: &Database<'_>, repositories: u64, lasting: Duration, report: &mut Report) -> Result<()> {
    let exporter = start(db, "15s").await?;
    let old = counted(&exporter.metrics().await);
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        writers.spawn(write(db.client().await, repositories, Arc::clone(&stop), Arc::clone(&written)));
    }
    let started = Instant::now();
    // Seconds of each poll, and how many rows that had been written by then it had not counted.
    let mut polls: Vec<(f64, f64)> = Vec::new();
    let mut last = old;
    while started.elapsed() < lasting {
        let metrics = exporter.metrics().await;
        let now = counted(&metrics);
        if now > last {
            last = now;
            let took = metrics.sum("rsolv_exporter_last_poll_duration_seconds", &[]);
            polls.push((took, written.load(Ordering::Relaxed) as f64 - (now - old)));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rate = written.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    while let Some(writer) = writers.join_next().await {
        writer.map_err(|e| Failure::new(e.to_string()))??;
    }
    let goal = old + written.load(Ordering::Relaxed) as f64;
    let all = counted(&wait_counted(&exporter, goal).await?);
    let (Some(first), Some(end)) = (polls.first(), polls.last()) else {
        return Err(Failure::new("no poll while rows were written; write for longer than 15 seconds"));
    };
    let longest = polls.iter().map(|poll| poll.0).fold(0.0, f64::max);
    let what = format!("longest of {} polls, the interval", polls.len());
    report.compare(&what, format!("{longest:.2} s"), "15 s".to_owned(), longest / 15.0, Goal::AtMost(1.0));
    report.compare(
        "last poll, the first",
        format!("{:.2} s", end.0),
        format!("{:.2} s", first.0),
        end.0 / first.0,
        Goal::None,
    );
    report.line("rows it was behind after the last", format!("{:.0}", end.1), &format!("{:.0}", first.1), None);
    let (ours, other) = (all - old, goal - old);
    report.compare("counted, written", format!("{ours:.0}"), format!("{other:.0}"), ours / other, Goal::AtLeast(1.0));
    report.note(format!("Rows were written at {rate:.0} a second for {} s.", lasting.as_secs()));
    Ok(())
}
